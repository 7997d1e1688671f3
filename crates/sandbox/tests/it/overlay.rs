//! Detached overlay mounts in the caller's own process.

use std::fs;
use std::process::Command;

use crate::support::{Ran, Sandbox, Who};

fn args(sandbox: &Sandbox, how: &str, lower: &[&str]) -> Command {
    let mut command = sandbox.probe();
    command.args(["overlay", how]).args(["upper", "work"].map(|part| sandbox.path(part)));
    command.args(lower.iter().map(|part| sandbox.path(part)));
    command
}

#[test]
fn an_overlay_is_used_by_its_descriptor_only() {
    for who in Who::all().into_iter().filter(|who| *who != Who::SingleId) {
        for how in ["new", "legacy"] {
            let sandbox = Sandbox::new(who, "");
            let out = Ran::from(args(&sandbox, how, &["base", "etc"]).output().expect("the probe runs")).ok();
            assert!(out.starts_with("root:x:0:0"), "{out}");
            assert_eq!(fs::read_to_string(sandbox.path("upper/etc/new")).expect("the file"), "new", "{how}");
        }
    }
}

#[test]
fn many_layers_with_awkward_names_work() {
    let sandbox = Sandbox::new(Who::all()[0], "");
    let long = "x".repeat(200);
    let mut names = vec!["base".to_string(), "etc".into()];
    names.extend((0..100).map(|n| format!("{long}/{n}:with,odd\\signs")));
    names.iter().for_each(|name| fs::create_dir_all(sandbox.path(name)).expect("a directory"));
    let lower: Vec<&str> = names.iter().map(String::as_str).collect();
    let out = Ran::from(args(&sandbox, "new", &lower).output().expect("the probe runs")).ok();
    assert!(out.starts_with("root:x:0:0"), "{out}");
    let few = &lower[..10];
    let out = Ran::from(args(&sandbox, "legacy", few).output().expect("the probe runs")).ok();
    assert!(out.starts_with("root:x:0:0"), "{out}");
    let ran = Ran::from(args(&sandbox, "legacy", &lower[..60]).output().expect("the probe runs"));
    assert!(ran.err.contains("too long for mount(2)"), "{ran:?}");
}

#[test]
fn more_layers_than_the_kernel_stacks_are_refused() {
    let sandbox = Sandbox::new(Who::all()[0], "");
    let names: Vec<String> = (0..501).map(|n| format!("base/{n}")).collect();
    names.iter().for_each(|name| fs::create_dir(sandbox.path(name)).expect("a directory"));
    let lower: Vec<&str> = names.iter().map(String::as_str).collect();
    let ran = Ran::from(args(&sandbox, "new", &lower).output().expect("the probe runs"));
    assert!(ran.err.contains("501 layers are more than the 500"), "{ran:?}");
    // The same directory many times is one layer.
    let many = [&["base"; 600][..], &["etc"; 2]].concat();
    let out = Ran::from(args(&sandbox, "new", &many).output().expect("the probe runs")).ok();
    assert!(out.starts_with("root:x:0:0"), "{out}");
}
