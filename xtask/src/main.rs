//! Development tasks: `cargo xtask demo`, `test`, `bench`.

mod bench;
mod clients;
mod demo;
mod dist;
mod dockerd;
mod emulator_bench;
mod guests;
mod machine;
mod registry_bench;
mod roots;
mod soak;
mod tests;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask TASK

tasks:
  demo [--as-user NAME] [--emulator EMULATOR]
      build examples/zerotier-like for three platforms, publish it to an embedded registry, pull it back and run it;
      with --as-user (needs root) that ordinary user, created if missing, does everything
  test [FILTER]
      everything that must hold: formatting, lints, all tests, the demo as root and as an ordinary user
  buildctl
      builds BuildKit's client from Debian's source (100 MB, two minutes) and runs the tests that need it
  bench build [--quick] [--only TEXT] [--rounds N] [--beside CROSSDOCK]
      the builder beside buildah and dockerd: times, ratios and peak memory; only rows whose name contains TEXT;
      with --beside another crossdock, such as one of an earlier commit, takes turns with this one instead
  bench emulator [--guest GUEST] [--quick] [--warm] [--with EMULATOR] [WORKLOAD...]
      our emulator, the emulators of --with and QEMU beside the host: CPU time as a table; with --warm also ours with
      the translations of earlier runs, as in builds and containers of crossdock
  bench registry [--quick]
      the embedded registry beside docker-registry: stalled clients, aborted uploads, parallel pushes, peak memory
  dist [--output DIR]
      packages of the release executables, the same bytes each time: a tar archive and a .deb with completions, man pages
      and licences, in target/dist or DIR; their time is SOURCE_DATE_EPOCH, else that of the last commit
  soak [--again] [--guest GUEST] [--suite SUITE] [--emulator PATH] [--warm] [--seed N] [--quick] [JOB[/CASE]...]
      long runs, resumed where they stopped; for the guest arm64, arm (armhf) or armel in Debian bookworm, riscv64 in trixie, or in SUITE:
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if words.iter().any(|&word| matches!(word, "--help" | "-h")) {
        println!("{USAGE}{}", soak::usage());
        return Ok(());
    }
    match words[..] {
        ["demo", ref rest @ ..] => demo::demo(&demo::Options::parse(rest)?),
        ["dist", ref rest @ ..] => dist::dist(rest),
        ["test", ref rest @ ..] => tests::test(rest),
        ["buildctl"] => tests::buildctl(),
        ["bench", "build", ref rest @ ..] => bench::build(rest),
        ["bench", "emulator", ref rest @ ..] => emulator_bench::emulator(rest),
        ["bench", "registry", ref rest @ ..] => registry_bench::registry(rest),
        ["soak", ref rest @ ..] => soak::soak(rest),
        // Called by `soak hostile`, one process per case.
        ["hostile", ref rest @ ..] => soak::hostile::case(rest),
        // Called by `bench emulator`, inside a root.
        ["measure", ref rest @ ..] => roots::measure(rest),
        _ => bail!("{USAGE}{}", soak::usage()),
    }
}
