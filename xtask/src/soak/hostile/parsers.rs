//! Hostile inputs: the tests of the crates, which usually try inputs for a second, with thousands of inputs.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::super::{Case, Verdict};
use crate::tools::cargo_command;

/// Seconds for all inputs of a test.
const TIME_MAX: u32 = 3600;
/// Address space of a test in bytes. The tests themselves watch how much they use.
const MEMORY_MAX: &str = "--as=4294967296";

/// Package, program of its tests, and path of the test.
const PARSERS: &[(&str, &str, &str)] = &[
    ("crossdock-dockerfile", "it", "hostile::dockerfiles"),
    ("crossdock-dockerfile", "it", "hostile::ignore_files"),
    ("crossdock-dockerfile", "it", "hostile::patterns"),
    ("crossdock-dockerfile", "it", "hostile::words"),
    ("crossdock-dockerfile", "it", "hostile::mounts_and_values"),
    ("crossdock-oci", "it", "hostile::references"),
    ("crossdock-oci", "it", "hostile::platforms"),
    ("crossdock-oci", "it", "hostile::manifests_and_configurations"),
    ("crossdock-oci", "it", "hostile::tar_archives"),
    ("crossdock-oci", "it", "hostile::compressed_archives"),
    ("crossdock-oci", "it", "hostile::layers_of_images"),
    ("crossdock-oci", "it", "hostile::archives_of_images"),
    ("crossdock-oci", "it", "hostile::layouts"),
    ("crossdock-oci", "it", "hostile::files_of_the_store"),
    ("crossdock-elf", "it", "hostile::elf_files"),
    ("crossdock-elf", "it", "hostile::elf_heads"),
    ("crossdock-registry", "it", "hostile::requests_to_the_server"),
    ("crossdock-registry", "it", "hostile::answers_to_the_client"),
    ("crossdock-registry", "it", "hostile::credential_files"),
    ("crossdock-registry", "it", "hostile::host_files"),
    ("crossdock-builder", "it", "hostile::checks_and_outlines"),
    ("crossdock-builder", "it", "hostile::addresses_and_modes"),
    ("crossdock-builder", "it", "hostile::users_and_groups"),
    ("crossdock-builder", "it", "hostile::caches_of_files"),
    ("crossdock", "it", "hostile::options_of_run"),
    ("crossdock-builder", "lib", "archive::tests::hostile"),
    ("crossdock-delivery", "lib", "attest::sbom::tests::hostile_lists_of_packages"),
    ("crossdock-delivery", "lib", "attest::sbom::rpm::tests::hostile_databases_of_rpm"),
    ("crossdock-registry", "lib", "client::resolve::tests::hostile_answers_and_files"),
    ("crossdock", "bin", "template::tests::hostile"),
];

pub fn cases<'a>(seed: u64, inputs: u64, directory: &'a Path) -> Vec<Case<'a>> {
    let case = |&(package, program, test): &(&'static str, &'static str, &'static str)| Case {
        name: format!("parsers-{}-{seed:04}", test.replace("::", "-")),
        run: Box::new(move || tried(package, program, test, seed, inputs, directory)),
    };
    PARSERS.iter().map(case).collect()
}

fn tried(
    package: &str,
    program: &str,
    test: &str,
    seed: u64,
    inputs: u64,
    directory: &Path,
) -> Result<Verdict> {
    let kept = directory.join(format!("{}.input", test.replace("::", "-")));
    let mut command = cargo_command();
    command.args(["test", "--quiet", "--package", package]);
    match program {
        "lib" => command.arg("--lib"),
        "bin" => command.args(["--bin", package]),
        program => command.args(["--test", program]),
    };
    command.args(["--", "--exact", test]);
    let limits = format!("timeout --kill-after=3 {TIME_MAX} prlimit --core=0 {MEMORY_MAX}");
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", limits);
    command.env("CROSSDOCK_HOSTILE_INPUTS", inputs.to_string());
    command.env("CROSSDOCK_HOSTILE_SEED", seed.to_string()).env("CROSSDOCK_HOSTILE_KEPT", &kept);
    let output = command.stdin(Stdio::null()).output().context("run cargo test")?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let log = kept.with_extension("log");
        std::fs::write(&log, &text)?;
        let line = text.lines().find(|line| line.contains("of seed")).unwrap_or("no input is named");
        let place = format!("the input in {}, all of it in {}", kept.display(), log.display());
        return Ok(Verdict::Fail(format!("{line}; {place}")));
    }
    if !text.contains("1 passed") {
        return Ok(Verdict::Fail(format!("there is no test {test} in {package}")));
    }
    let _ = std::fs::remove_file(&kept);
    Ok(Verdict::Pass)
}
