//! Hostile inputs: the tests of the rooms, which try inputs for a second, with thousands of them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::super::{Case, Verdict};
use crate::tools::checkout;

/// Address space of a test in bytes. The tests themselves watch what is used of it.
const MEMORY_MAX: &str = "--as=4294967296";

/// Package, program of its tests, and path of the test.
const PARSERS: &[(&str, &str, &str)] = &[
];

pub fn cases<'a>(seed: u64, inputs: u64, directory: &'a Path) -> Vec<Case<'a>> {
    let case = |&(package, program, test): &(&'static str, &'static str, &'static str)| Case {
        name: format!("parsers-{}-{seed:04}", test.replace("::", "-")),
        run: Box::new(move || tried(package, program, test, seed, inputs, directory)),
    };
    PARSERS.iter().map(case).collect()
}

fn tried(package: &str, program: &str, test: &str, seed: u64, inputs: u64, directory: &Path) -> Result<Verdict> {
    let kept = directory.join(format!("{}.input", test.replace("::", "-")));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new("timeout");
    command.args(["--kill-after=3", "3600", "prlimit", "--core=0"]).arg(cargo);
    command.args(["test", "--quiet", "--package", package]);
    match program {
        "lib" => command.arg("--lib"),
        "bin" => command.args(["--bin", package]),
        program => command.args(["--test", program]),
    };
    command.args(["--", "--exact", test]).current_dir(checkout());
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", format!("prlimit {MEMORY_MAX}"));
    command.env("CROSSDOCK_HOSTILE_INPUTS", inputs.to_string()).env("CROSSDOCK_HOSTILE_SEED", seed.to_string());
    command.env("CROSSDOCK_HOSTILE_KEPT", &kept).env("TMPDIR", std::env::temp_dir());
    let output = command.stdin(Stdio::null()).output().context("run cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let log = kept.with_extension("log");
        std::fs::write(&log, &text)?;
        let line = text.lines().find(|line| line.contains("of seed")).unwrap_or("no input is named");
        let where_ = format!("the input in {}, all of it in {}", kept.display(), log.display());
        return Ok(Verdict::Fail(format!("{line}; {where_}")));
    }
    if !text.contains("1 passed") {
        return Ok(Verdict::Fail(format!("there is no test {test} in {package}")));
    }
    let _ = std::fs::remove_file(&kept);
    Ok(Verdict::Pass)
}
