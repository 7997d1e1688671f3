//! Translations of emulated programs: steps of builds make and use them, and no step changes another one's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::{World, our_emulator, require};

/// Prints what a program of its own computes.
const VICTIM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int main(void) {
    int table[300];
    long sum = 0;
    for (int i = 0; i < 300; i++) table[i] = i * 7919 % 1009;
    qsort(table, 300, sizeof table[0], compare);
    for (int i = 0; i < 300; i++) sum = sum * 31 + table[i];
    printf("the victim computes %lx\n", sum);
    return 0;
}
"#;

/// Tries to change translations, and to confuse whoever makes them.
const ATTACK: &str = r#"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
static int changed;
static void try_folder(const char *folder, int depth) {
    char path[4096];
    DIR *open_folder = opendir(folder);
    struct dirent *entry;
    snprintf(path, sizeof path, "%s/new", folder);
    if (open(path, O_CREAT | O_WRONLY, 0644) >= 0 || mkdir(path, 0755) == 0) changed++;
    while (open_folder && (entry = readdir(open_folder))) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_type == DT_DIR && depth < 3) { try_folder(path, depth + 1); continue; }
        int file = open(path, O_RDWR);
        if (file >= 0 && write(file, "attack", 6) > 0) changed++;
        if (chmod(path, 0666) == 0 || unlink(path) == 0 || truncate(path, 0) == 0) changed++;
    }
    if (open_folder) closedir(open_folder);
}
int main(void) {
    try_folder("/dev/.crossdock/images", 0);
    mount("", "/dev/.crossdock/images", "", MS_REMOUNT | MS_BIND, "");
    try_folder("/dev/.crossdock/images", 0);
    mkdir("/dev/.crossdock/reports/folder", 0755);
    symlink("/etc/passwd", "/dev/.crossdock/reports/link");
    mkfifo("/dev/.crossdock/reports/fifo", 0666);
    for (int i = 0; i < 300; i++) {
        char path[100], text[5000];
        snprintf(path, sizeof path, "/dev/.crossdock/reports/%d", i);
        memset(text, i, sizeof text);
        memcpy(text, "CDEMURPT", 8);
        int file = open(path, O_CREAT | O_WRONLY, 0644);
        if (file >= 0) { write(file, text, i * 16 % sizeof text); close(file); }
    }
    printf("the attack changed %d\n", changed);
    return 0;
}
"#;

/// Counts the translations that it sees.
const COUNT: &str = r#"
#include <dirent.h>
#include <stdio.h>
#include <string.h>
static int count(const char *folder) {
    char path[4096];
    int found = 0;
    struct dirent *entry;
    DIR *open_folder = opendir(folder);
    while (open_folder && (entry = readdir(open_folder))) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        found += entry->d_type == DT_DIR ? count(path) : strstr(entry->d_name, ".image") != 0;
    }
    if (open_folder) closedir(open_folder);
    return found;
}
int main(void) { printf("sees %d translations\n", count("/dev/.crossdock/images")); return 0; }
"#;

fn program(world: &World, name: &str, source: &str) {
    let file = world.path("context").join(format!("{name}.c"));
    fs::write(&file, source).expect("a file");
    let mut compile = Command::new(require("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"));
    compile.args(["-static", "-O1", "-w", "-o"]).arg(world.path("context").join(name)).arg(&file);
    assert!(compile.status().expect("the compiler runs").success());
}

/// The images of a store, and their content.
fn images(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "image")
                && let Ok(content) = fs::read(&path)
            {
                found.insert(path, content);
            }
        }
    }
    found
}

/// Waits until no process makes translations in a folder.
fn settle(folder: &Path) {
    let is_running = || {
        let processes = fs::read_dir("/proc").expect("processes").flatten();
        let mut words = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        let folder = folder.as_os_str().as_encoded_bytes();
        words.any(|words| words.split(|byte| *byte == 0).any(|word| word == folder))
    };
    for _ in 0..600 {
        if !is_running() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("a process still makes translations in {} after a minute", folder.display());
}

#[test]
fn steps_use_translations_and_none_changes_them() {
    our_emulator();
    let mut world = World::new();
    world.translates = true;
    let world = world;
    program(&world, "victim", VICTIM);
    program(&world, "attack", ATTACK);
    let victim = "FROM scratch\nCOPY victim attack /\nRUN [\"/victim\"]\nRUN [\"/victim\"]\n";
    let args = ["--platform", "linux/arm64", "--no-cache", "--emulator", "builtin"];
    let folder = world.path("store").join("emulator");
    let sum = "the victim computes ";
    let mut expected = String::new();
    for _ in 0..50 {
        let built = world.build(victim, &args);
        assert_eq!(built.code, Some(0), "{}", built.err);
        let said: Vec<&str> = built.err.lines().filter_map(|line| Some(line.split_once(sum)?.1)).collect();
        assert_eq!(said.len(), 2, "{}", built.err);
        assert_eq!(said[0], said[1]);
        if expected.is_empty() {
            expected = said[0].to_string();
        }
        assert_eq!(said[0], expected);
        settle(&folder);
        if !images(&folder).is_empty() {
            break;
        }
    }
    let before = images(&folder);
    assert!(!before.is_empty(), "no step has left translations in {}", folder.display());
    let both = format!("{victim}RUN [\"/attack\"]\nRUN [\"/victim\"]\n");
    let built = world.build(&both, &args);
    settle(&folder);
    assert_eq!(built.code, Some(0), "{}", built.err);
    assert!(built.err.contains("the attack changed 0"), "{}", built.err);
    let said: Vec<&str> = built.err.lines().filter_map(|line| Some(line.split_once(sum)?.1)).collect();
    assert_eq!(said, [expected.as_str(); 3], "{}", built.err);
    // More blocks may have been added to an image, which then has another name.
    let after = images(&folder);
    for (path, content) in &before {
        assert!(after.get(path).is_none_or(|now| now == content), "{} has changed", path.display());
    }
    // A container sees what was made of its own layers, and nothing of others.
    program(&world, "count", COUNT);
    let args = ["--platform", "linux/arm64", "--emulator", "builtin"];
    let alone = world.build("FROM scratch\nCOPY count /\nRUN [\"/count\"]\n", &args);
    assert!(alone.err.contains("sees 0 translations"), "{}", alone.err);
    let sees_own = (0..50).any(|number| {
        // A variable that changes makes the steps run again, in the same layer.
        let steps = format!("ENV N={number}\nRUN [\"/victim\"]\nRUN [\"/count\"]\n");
        let built = world.build(&format!("FROM scratch\nCOPY victim count /\n{steps}"), &args);
        settle(&folder);
        assert!(built.err.contains("sees "), "{}", built.err);
        !built.err.contains("sees 0 translations")
    });
    assert!(sees_own, "a container does not see the translations of its own layers");
    assert_eq!(fs::read_dir(folder.join("pending")).expect("a folder").count(), 0, "reports are left");
    // Nothing is reported or used where the user wants that.
    let forbidden = world
        .crossdock(&["build", "--no-cache", "--progress", "plain", "--platform", "linux/arm64", "context"])
        .env("CROSSDOCK_TRANSLATIONS", "0")
        .run();
    assert!(forbidden.err.contains("sees 0 translations"), "{}", forbidden.err);
    assert_eq!(fs::read_dir(folder.join("pending")).expect("a folder").count(), 0, "something was reported");
    let df = world.run(&["system", "df"]).ok();
    assert!(df.lines().any(|line| line.starts_with("Translations") && !line.contains(" 0 B")), "{df}");
}
