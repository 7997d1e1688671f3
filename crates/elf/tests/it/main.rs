//! Agreement with file(1) and ldd(1) on this machine's own programs.

mod hostile;

use std::fs::File;
use std::io::Read;
use std::process::Command;

use crossdock_elf::ldd::{Root, resolve};
use crossdock_elf::{Elf, ReadAt, describe::describe};

const PROGRAMS: [&str; 6] =
    ["/bin/sh", "/usr/bin/env", "/usr/bin/git", "/usr/bin/python3", "/bin/busybox", "/usr/bin/gcc"];

fn programs() -> impl Iterator<Item = &'static str> {
    PROGRAMS.into_iter().filter(|path| std::path::Path::new(path).exists())
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program} ({e}): apt-get install file libc-bin"));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn file_says_the_same() {
    let mut count = 0;
    for path in programs() {
        let real = std::fs::canonicalize(path).expect("there");
        let elf = Elf::read(&File::open(&real).expect("readable")).expect(path);
        let expect = output("file", &["-b", real.to_str().expect("UTF-8")]);
        assert_eq!(describe(&elf), expect.trim(), "{path}");
        count += 1;
    }
    assert!(count >= 2, "almost none of {PROGRAMS:?} is there");
}

struct Host;

impl Root for Host {
    fn open(&self, path: &str) -> Option<Box<dyn ReadAt>> {
        Some(Box::new(File::open(path).ok().filter(|f| f.metadata().is_ok_and(|m| m.is_file()))?))
    }
    fn text(&self, path: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(1 << 20).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
    fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    }
}

#[test]
fn ldd_says_the_same() {
    let mut count = 0;
    for path in programs() {
        let elf = Elf::read(&File::open(path).expect("readable")).expect(path);
        if elf.interpreter.is_none() {
            continue;
        }
        // `name => path (address)`, or only `path (address)` for the loader; the vDSO has no path.
        let mut expect: Vec<String> = output("ldd", &[path])
            .lines()
            .map(|line| line.split_once(" => ").map_or(line, |(_, rest)| rest))
            .map(|rest| rest.split(" (").next().unwrap_or(rest).trim().to_string())
            .filter(|path| path.starts_with('/'))
            .collect();
        let resolution = resolve(&Host, path, &elf, &[]);
        let (interpreter, there) = resolution.interpreter.expect("it has one");
        assert!(there, "{interpreter}");
        let mut got: Vec<String> = resolution.libraries.into_iter().filter_map(|l| l.path).collect();
        got.push(interpreter);
        expect.sort();
        got.sort();
        got.dedup();
        assert_eq!(got, expect, "{path}");
        count += 1;
    }
    assert!(count >= 2, "almost none of {PROGRAMS:?} is there");
}
