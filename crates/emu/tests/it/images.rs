//! Translations in files: they are made, used, and never believed if they are not what was written.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::guest::{ARM_CROSS, CROSS, EMULATOR, RISCV_CROSS, compile, run, sources, verdict};

/// A program that prints a sum over a table that it fills, computes with doubles, and handles a signal.
const SOURCE: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static volatile sig_atomic_t seen;
static void handler(int n) { seen += n; }
static volatile sig_atomic_t rung;
static void ring(int n) { rung = n; }
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int main(int argc, char **argv) {
    int table[500];
    double sum = 0;
    for (int i = 0; i < 500; i++) table[i] = (i * 7919) % 1009 + NUMBER;
    qsort(table, 500, sizeof table[0], compare);
    for (int i = 0; i < 500; i++) sum += table[i] / (i + 1.5);
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    // A loop that only a signal ends.
    signal(SIGALRM, ring);
    ualarm(2000, 0);
    while (!rung) ;
    char text[100];
    snprintf(text, sizeof text, "%.6f %d %s", sum, (int)seen, argc > 1 ? argv[1] : "-");
    puts(text);
    fflush(stdout);
    if (argc > 2) pause();
    return (int)strlen(text) % 7;
}
"#;

/// A folder for images with a program.
struct Place {
    folder: tempfile::TempDir,
    compiler: &'static str,
}

impl Place {
    fn new(compiler: &'static str) -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a folder"), compiler };
        fs::create_dir(place.images()).expect("a folder");
        fs::set_permissions(place.images(), Permissions::from_mode(0o755)).expect("its mode");
        place
    }

    fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    /// Compiles the program with a number of its own.
    fn program(&self, number: u32) -> PathBuf {
        let source = self.folder.path().join(format!("program{number}.c"));
        fs::write(&source, SOURCE.replace("NUMBER", &number.to_string())).expect("a file");
        let program = self.folder.path().join(format!("program{number}"));
        compile(self.compiler, &source, &program);
        program
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(EMULATOR);
        command.env("CROSSDOCK_EMU_CACHE", self.images()).env("CROSSDOCK_EMU_LOG", "1").arg(program.as_ref());
        command
    }

    /// Runs the program; its verdict is what it is without images.
    fn check(&self, program: &Path, what: &str) -> Output {
        let with = run(self.command(program).arg("x"));
        let without = run(Command::new(EMULATOR).arg(program).arg("x"));
        assert_eq!(verdict(&with), verdict(&without), "{what}");
        with
    }

    /// All files of the folder whose names end so.
    fn files(&self, end: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.images()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.to_string_lossy().ends_with(end) => found.push(path),
                    false => {}
                }
            }
        }
        found.sort();
        found
    }

    /// The entries, which say which image a file has.
    fn entries(&self) -> Vec<PathBuf> {
        let files = self.files("").into_iter().filter(|path| !path.ends_with("lock"));
        files
            .filter(|path| path.extension().is_none() && !path.to_string_lossy().contains("reports"))
            .collect()
    }

    /// Runs the program until it has an image. A file that was made less than two seconds ago gets none.
    fn warm(&self, program: &Path) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            self.check(program, "while there is no image");
            run(Command::new(EMULATOR).arg("--compile-images").arg(self.images()));
            if is_served(self, program) {
                return;
            }
        }
        panic!("{} has no image after a minute; the folder has {:?}", program.display(), self.files(""));
    }
}

/// A program that waits, and is killed at the end.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a process of the program has an image mapped.
fn is_served(place: &Place, program: &Path) -> bool {
    let mut command = place.command(program);
    let child = command.args(["x", "wait"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = Waiting(child.expect("it starts"));
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert!(line.ends_with(" x\n"), "{line}");
    let maps = fs::read_to_string(format!("/proc/{}/maps", child.0.id())).expect("its mappings");
    maps.lines().any(|line| line.ends_with(".image"))
}

#[test]
fn programs_of_both_guests_get_images_that_are_used() {
    for compiler in [CROSS, ARM_CROSS] {
        let place = Place::new(compiler);
        let program = place.program(1);
        place.warm(&program);
        place.check(&program, compiler);
        // The blocks that have no image, and the image's code.
        let checked = run(place.command("--check").arg(&program).arg("x"));
        assert_eq!(verdict(&checked), verdict(&place.check(&program, "--check")));
        // Another file of the same code has the same image, and the program is not its old self when it
        // changes.
        let changed = place.program(2);
        fs::copy(&changed, &program).expect("copied");
        place.check(&program, "a changed file");
    }
}

#[test]
fn functions_of_the_c_library_are_right_in_images() {
    let expected = fs::read_to_string(sources().join("library.out")).expect("the expected output");
    for compiler in [CROSS, ARM_CROSS, RISCV_CROSS] {
        let place = Place::new(compiler);
        let program = place.folder.path().join("library");
        compile(compiler, &sources().join("library.c"), &program);
        for round in 0.. {
            assert!(round < 200, "no image after 200 runs; the folder has {:?}", place.files(""));
            let few = run(place.command(&program).arg("300"));
            assert_eq!(verdict(&few), expected, "{compiler}");
            run(Command::new(EMULATOR).arg("--compile-images").arg(place.images()));
            if !place.files(".image").is_empty() {
                break;
            }
        }
        for seed in ["1", "2"] {
            let with = run(place.command(&program).args(["1500", seed]));
            assert_eq!(verdict(&with), expected, "{compiler}, seed {seed}");
        }
    }
}

#[test]
fn what_is_not_as_it_was_written_is_not_used() {
    let place = Place::new(CROSS);
    let (program, other) = (place.program(1), place.program(2));
    place.warm(&program);
    place.warm(&other);
    // Whoever makes images would put good files into the places of bad ones.
    let lock = File::options().write(true).open(place.images().join("lock")).expect("the lock");
    lock.lock().expect("held until the end");
    let (images, entries) = (place.files(".image"), place.entries());
    assert_eq!((images.len(), entries.len()), (2, 2), "{images:?} {entries:?}");
    for path in images.iter().chain(&entries) {
        let whole = fs::read(path).expect("a file");
        let is_image = images.contains(path);
        let steps = if is_image { 14 } else { 20 };
        for n in 0..steps {
            let length = whole.len() * n / steps;
            fs::write(path, &whole[..length]).expect("a file");
            place.check(&program, "cut off");
            place.check(&other, "cut off");
            let mut damaged = whole.clone();
            damaged[length] ^= 1 << (n % 8);
            fs::write(path, &damaged).expect("a file");
            place.check(&program, "a bit is another one");
            place.check(&other, "a bit is another one");
        }
        fs::write(path, &whole).expect("a file");
        assert!(is_served(&place, &program) && is_served(&place, &other), "written again as it was");
        fs::set_permissions(path, Permissions::from_mode(0o666)).expect("its mode");
        let said = [place.check(&program, "writable"), place.check(&other, "writable")];
        let said: String = said.iter().map(|output| String::from_utf8_lossy(&output.stderr)).collect();
        assert!(said.contains("others may write"), "{said}");
        fs::set_permissions(path, Permissions::from_mode(0o644)).expect("its mode");
    }
    for pair in [&images, &entries] {
        let [first, second] = [0, 1].map(|n| fs::read(&pair[n]).expect("a file"));
        fs::write(&pair[0], &second).expect("a file");
        fs::write(&pair[1], &first).expect("a file");
        let said = [place.check(&program, "swapped"), place.check(&other, "swapped")];
        let said: String = said.iter().map(|output| String::from_utf8_lossy(&output.stderr)).collect();
        assert!(said.contains("is another file's"), "{said}");
        fs::write(&pair[0], &first).expect("a file");
        fs::write(&pair[1], &second).expect("a file");
    }
    // A folder that others may write to is not used at all.
    fs::set_permissions(place.images(), Permissions::from_mode(0o777)).expect("its mode");
    assert!(!is_served(&place, &program));
    fs::set_permissions(place.images(), Permissions::from_mode(0o755)).expect("its mode");
    assert!(is_served(&place, &program));
}

#[test]
fn reports_that_lie_change_nothing() {
    let place = Place::new(CROSS);
    let program = place.program(1);
    place.warm(&program);
    let reports = place.images().join("reports");
    for (name, content) in [("a", &b""[..]), ("b", &[0xff; 4096]), ("c", b"CDEMURPT")] {
        fs::write(reports.join(name), content).expect("a file");
    }
    fs::create_dir(reports.join("d")).expect("a folder");
    std::os::unix::fs::symlink("/dev/zero", reports.join("e")).expect("a link");
    let fifo = Command::new("mkfifo").arg(reports.join("f")).status();
    assert!(fifo.is_ok_and(|status| status.success()));
    let made = run(Command::new(EMULATOR).arg("--compile-images").arg(place.images()));
    assert!(made.status.success(), "{made:?}");
    place.check(&program, "after strange reports");
}

#[test]
fn folders_that_no_sandbox_leaves_are_removed_or_left_alone() {
    let place = Place::new(CROSS);
    let pending = place.images().join("pending");
    for name in ["lost", "odd", "stays", ".unfinished"] {
        fs::create_dir_all(pending.join(name)).expect("a folder");
        fs::write(pending.join(name).join("report"), "CDEMURPT").expect("a file");
    }
    // Without an end, without a folder for images, and with a folder that is no file to remove.
    fs::write(pending.join("odd/sources"), "emulator\0/layer\0/folder\0/other").expect("a file");
    fs::create_dir(pending.join("stays/folder")).expect("a folder");
    fs::write(pending.join("file"), "").expect("a file");
    let made = run(Command::new(EMULATOR).arg("--compile-images").arg(place.images()).arg("pending"));
    assert!(made.status.success(), "{made:?}");
    let entries = fs::read_dir(&pending).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut left: Vec<_> = entries.collect();
    left.sort();
    assert_eq!(left, [".unfinished", "file", "stays"]);
}

#[test]
fn many_at_once_and_killed_ones_leave_right_results() {
    let place = Place::new(CROSS);
    let programs = [place.program(1), place.program(2), place.program(3)];
    let expected =
        programs.clone().map(|program| verdict(&run(Command::new(EMULATOR).arg(program).arg("x"))));
    for round in 0..6 {
        let mut running: Vec<(usize, Child)> = (0..16)
            .map(|n| {
                let mut command = place.command(&programs[n % 3]);
                let child = command.arg("x").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
                (n, child.expect("it starts"))
            })
            .collect();
        let mut makers: Vec<Child> = (0..3)
            .map(|_| {
                Command::new(EMULATOR).arg("--compile-images").arg(place.images()).spawn().expect("it starts")
            })
            .collect();
        // Some are killed at any moment.
        for n in [3, 7] {
            let _ = running[n].1.kill();
        }
        if round % 2 == 0 {
            makers.iter_mut().for_each(|maker| drop(maker.kill()));
        }
        for (n, child) in running {
            let output = child.wait_with_output().expect("it ends");
            if ![3, 7].contains(&n) {
                assert_eq!(verdict(&output), expected[n % 3], "round {round}");
            }
        }
        makers.into_iter().for_each(|mut maker| drop(maker.wait()));
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_a_miss() {
    let place = Place::new(CROSS);
    let program = place.program(1);
    // A file where the folder for reports would be.
    File::create(place.images().join("reports")).expect("a file");
    place.check(&program, "no reports");
    let missing = run(place.command(&program).env("CROSSDOCK_EMU_CACHE", "/nonexistent").arg("x"));
    assert_eq!(verdict(&missing), verdict(&place.check(&program, "none")));
    assert!(place.files(".image").is_empty());
}

/// Runs the program and makes images in a folder that is full, then in one that cannot be written, then in
/// one with room; prints what there is after each.
const ON_SMALL_DISK: &str = r#"
set -e
emulator=$1 folder=$2 program=$3
mount -t tmpfs -o size=40k,mode=755 tmpfs "$folder"
use() {
    CROSSDOCK_EMU_CACHE=$folder "$emulator" "$program" x || echo "status $?"
    # The process that the program has started may be making images, and keeps the lock while it does.
    "$emulator" --compile-images "$folder" || true
    flock "$folder/lock" true
    CROSSDOCK_EMU_CACHE=$folder "$emulator" "$program" x || echo "status $?"
    echo "$1: $(find "$folder" -name '*.image' | wc -l) images, $(find "$folder" -name '.*' -type f | wc -l) begun"
}
use full
tries=0
until mount -o remount,ro "$folder" 2> /dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 200 ]
    sleep 0.05
done
use read-only
mount -o remount,rw,size=4m "$folder"
use large
"#;

#[test]
fn a_full_and_a_read_only_folder_are_misses() {
    let place = Place::new(CROSS);
    let program = place.program(1);
    // From here on the program is old enough for an image.
    place.warm(&program);
    let folder = place.folder.path().join("small");
    fs::create_dir(&folder).expect("a folder");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", ON_SMALL_DISK, "sh", EMULATOR]);
    let output = run(command.arg(&folder).arg(&program));
    assert!(output.status.success(), "{output:?}");
    let once = run(Command::new(EMULATOR).arg(&program).arg("x"));
    let status = once.status.code().filter(|&status| status != 0);
    let line = String::from_utf8_lossy(&once.stdout).into_owned()
        + &status.map_or(String::new(), |status| format!("status {status}\n"));
    let twice = format!("{line}{line}");
    let expected = format!(
        "{twice}full: 0 images, 0 begun\n{twice}read-only: 0 images, 0 begun\n{twice}large: 1 images, 0 begun\n"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
}
