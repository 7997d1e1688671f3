//! Checks the direction of dependencies that ARCHITECTURE.md gives.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Which crates each crate may use, apart from tests.
const ALLOWED: [(&str, &[&str]); 20] = [
    ("crossdock-platform", &[]),
    ("crossdock-elf", &["platform"]),
    ("crossdock-oci", &["platform"]),
    ("crossdock-registry", &["oci", "platform"]),
    ("crossdock-dockerfile", &[]),
    ("crossdock-sandbox", &["platform"]),
    ("crossdock-builder", &["dockerfile", "sandbox", "oci", "platform"]),
    ("crossdock-bake", &["dockerfile"]),
    ("crossdock-reapi", &["registry", "oci"]),
    ("crossdock-worker", &["oci"]),
    (
        "crossdock-delivery",
        &["reapi", "worker", "builder", "dockerfile", "registry", "sandbox", "oci", "elf", "platform"],
    ),
    ("crossdock-buildkit", &["delivery", "builder", "dockerfile", "registry", "sandbox", "oci", "platform"]),
    (
        "crossdock",
        &[
            "bake",
            "buildkit",
            "delivery",
            "reapi",
            "worker",
            "builder",
            "dockerfile",
            "sandbox",
            "registry",
            "oci",
            "elf",
            "platform",
        ],
    ),
    ("crossdock-register", &["sandbox", "platform"]),
    ("crossdock-testkit", &["worker", "oci", "platform"]),
    // The builder uses the emulator only as a process.
    ("crossdock-emu-guest", &[]),
    ("crossdock-emu-x64", &[]),
    ("crossdock-emu-jit", &["emu-guest", "emu-x64"]),
    ("crossdock-emu-linux", &["emu-guest", "emu-jit"]),
    ("crossdock-emu", &["emu-linux", "emu-guest"]),
];

#[test]
fn nothing_points_back() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut seen = 0;
    for package in metadata["packages"].as_array().expect("a list") {
        let name = package["name"].as_str().expect("a name");
        let dependencies = package["dependencies"].as_array().expect("a list").iter();
        let used: Vec<&str> = dependencies
            .filter(|d| d["kind"].is_null() && !d["path"].is_null())
            .map(|d| d["name"].as_str().expect("a name").trim_start_matches("crossdock-"))
            .collect();
        if name == "xtask" {
            assert_eq!(used, [""; 0], "xtask starts the executable and uses none of its rooms");
            continue;
        }
        let Some(allowed) = allowed.get(name) else {
            panic!("{name} is new: give it a place in ARCHITECTURE.md and in this test");
        };
        let wrong: Vec<&&str> = used.iter().filter(|used| !allowed.contains(*used)).collect();
        assert!(wrong.is_empty(), "{name} must not use {wrong:?}");
        seen += 1;
    }
    assert_eq!(seen, ALLOWED.len());
}

/// Steps by key know nothing of what makes them: no file of the builder's solver uses what is above it.
#[test]
fn the_solver_knows_no_dockerfile() {
    let solver = concat!(env!("CARGO_MANIFEST_DIR"), "/../builder/src/solver");
    let mut seen = 0;
    for entry in std::fs::read_dir(solver).expect("the solver's folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a source file");
        for above in ["crate::dockerfile", "crate::llb", "crate::command", "crossdock_dockerfile"] {
            assert!(!text.contains(above), "{} uses {above}", path.display());
        }
        seen += 1;
    }
    assert!(seen > 5, "the solver has {seen} files only: has it moved?");
}
