//! Programs with sanitizers, which divide the address space by their own tables, run and find their faults.

use crate::guest::{CROSS, EMULATOR, run};
use std::fs;
use std::process::Command;

/// Debian's cross libraries.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

/// Runs a program under a sanitizer of gcc, and returns the sanitizer's messages.
fn report(sanitizer: &str, text: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let (source, program) = (directory.path().join("program.c"), directory.path().join("program"));
    fs::write(&source, text).expect("the source is written");
    let option = format!("-fsanitize={sanitizer}");
    let compiled = run(Command::new(CROSS).args(["-g", "-pthread", &option, "-o"]).args([&program, &source]));
    assert!(compiled.status.success(), "{compiled:?}");
    let output = run(Command::new(EMULATOR).args(["-L", SYSROOT]).arg(&program));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n", "{said}");
    assert!(!output.status.success(), "{said}");
    said
}

#[test]
fn thread_sanitizer_finds_a_race() {
    let said = report(
        "thread",
        r#"
#include <pthread.h>
#include <stdio.h>
static int shared;
static void *add(void *p) { for (int n = 0; n < 1000; n++) shared++; return p; }
int main(void) {
    pthread_t a, b;
    pthread_create(&a, 0, add, 0);
    pthread_create(&b, 0, add, 0);
    pthread_join(a, 0);
    pthread_join(b, 0);
    puts("hello");
    return 0;
}
"#,
    );
    assert!(said.contains("ThreadSanitizer: data race") && said.contains("'shared'"), "{said}");
}

#[test]
fn hardware_address_sanitizer_finds_a_use_after_free() {
    let said = report(
        "hwaddress",
        r#"
#include <stdio.h>
#include <stdlib.h>
int main(int c, char **v) {
    char *p = malloc(16);
    p[0] = 1;
    puts("hello");
    fflush(stdout);
    free(p);
    return p[c - 1];
}
"#,
    );
    assert!(said.contains("HWAddressSanitizer: tag-mismatch") && said.contains("use-after-free"), "{said}");
}

#[test]
fn address_sanitizer_finds_an_overflow() {
    let said = report(
        "address",
        r#"
#include <stdio.h>
#include <stdlib.h>
int main(int c, char **v) {
    char *p = malloc(16);
    puts("hello");
    fflush(stdout);
    return p[16 + c];
}
"#,
    );
    assert!(said.contains("AddressSanitizer: heap-buffer-overflow"), "{said}");
}

/// Go's race detector wants the first thread's stack where Linux has it with 48 bits of addresses.
#[test]
fn the_race_detector_of_go_finds_a_race() {
    let directory = tempfile::tempdir().expect("a directory");
    let (source, program) = (directory.path().join("main.go"), directory.path().join("program"));
    let text = r#"
package main

import "os"

func main() {
	n := 0
	done := make(chan bool)
	go func() { n++; done <- true }()
	n++
	<-done
	maps, _ := os.ReadFile("/proc/self/maps")
	os.Stdout.Write(maps)
}
"#;
    fs::write(&source, text).expect("the source is written");
    let mut go = Command::new("go");
    go.args(["build", "-race", "-o"]).args([&program, &source]).current_dir(directory.path());
    go.envs([("GOOS", "linux"), ("GOARCH", "arm64"), ("CGO_ENABLED", "1"), ("CC", CROSS)]);
    go.envs([("GO111MODULE", "off"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "")]);
    let built = run(go.env("GOCACHE", directory.path().join("cache")));
    assert!(built.status.success(), "{built:?}; install golang-go (Debian)");

    let output = run(Command::new(EMULATOR).args(["-L", SYSROOT]).arg(&program));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(66), "{said}");
    assert!(said.contains("WARNING: DATA RACE") && said.contains("main.main.func1()"), "{said}");
    let maps = String::from_utf8_lossy(&output.stdout);
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).expect("a stack");
    let (start, _) = stack.split_once('-').expect("a range");
    let start = u64::from_str_radix(start, 16).expect("an address");
    assert_eq!(start >> 47, 1, "{stack}");
}
