//! Stress that must not break the program: kills at any moment, many processes at once, full disks, hostile
//! inputs.
//!
//! Each case is its own process, so that it can reap what its commands leave behind, have its own mounts, and
//! be ended when it hangs. Its name contains the seed: `soak hostile/kills-0007` repeats the same case.

mod commands;
mod crowd;
mod disk;
mod kills;
mod parsers;
mod random;
mod world;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Case, Verdict, ending, kept, limited, run_job};
use crate::tools::{checkout, release, require};
use world::World;

/// How many cases and inputs a run has.
#[derive(Clone, Copy)]
pub struct Size {
    /// Cases of killed commands, and moments in each.
    kills: (u64, u64),
    crowds: u64,
    disks: u64,
    /// Hostile inputs per parser.
    inputs: u64,
}

const FULL: Size = Size { kills: (40, 25), crowds: 20, disks: 48, inputs: 10_000 };
const QUICK: Size = Size { kills: (2, 10), crowds: 1, disks: 6, inputs: 500 };

pub const USAGE: &str =
    "      hostile   1,000 kills, 8 processes on one store, full disks, 10,000 hostile inputs per parser\n";

/// A case that takes more than this many seconds counts as hanging.
const LIMIT: u64 = 1800;

/// Runs the cases whose names have one of `wanted`, or all. Returns the failures.
pub fn soak(wanted: &[&str], seed: u64, is_quick: bool, again: bool) -> Result<Vec<String>> {
    require(&[("busybox", "busybox-static"), ("unshare", "util-linux"), ("prlimit", "util-linux")])?;
    let size = if is_quick { QUICK } else { FULL };
    let directory = checkout().join("target/soak/hostile");
    std::fs::create_dir_all(&directory)?;
    let crossdock = kept(&release("crossdock")?, &directory)?;
    let place = Place { crossdock, directory, myself: std::env::current_exe()? };
    let mut cases = Vec::new();
    for (job, count) in [("kills", size.kills.0), ("crowd", size.crowds), ("disk", size.disks)] {
        for number in 0..count {
            let place = &place;
            let name = format!("{job}-{:04}", seed + number);
            let run = move || place.run(job, seed + number, size.kills.1);
            cases.push(Case { name, run: Box::new(run) });
        }
    }
    cases.extend(parsers::cases(seed, size.inputs, &place.directory));
    cases.retain(|case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(part)));
    let results = place.crossdock.parent().context("the copy is in a directory")?;
    run_job(results, "hostile", &cases, again)
}

/// What the cases share.
struct Place {
    crossdock: PathBuf,
    directory: PathBuf,
    myself: PathBuf,
}

impl Place {
    fn run(&self, job: &str, seed: u64, moments: u64) -> Result<Verdict> {
        let directory = self.directory.join("work").join(format!("{job}-{seed:04}"));
        let text = |path: &Path| path.to_str().context("the path is not UTF-8").map(str::to_string);
        let words = [
            text(&self.myself)?,
            "hostile".to_string(),
            job.to_string(),
            seed.to_string(),
            moments.to_string(),
            text(&self.crossdock)?,
            text(&directory)?,
        ];
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        if job == "disk" {
            words.splice(0..0, ["unshare", "--map-root-user", "--mount"]);
            if crate::tools::is_root() {
                words.remove(1);
            }
        }
        let output = limited(LIMIT, Path::new(words[0]), &words[1..])?;
        if !output.status.success() {
            let log = directory.with_extension("log");
            std::fs::write(&log, [output.stdout.as_slice(), &output.stderr].concat())?;
            return Ok(Verdict::Fail(format!("{}; all of it in {}", ending(&output), log.display())));
        }
        Ok(Verdict::Pass)
    }
}

/// `hostile JOB SEED MOMENTS CROSSDOCK DIRECTORY`: one case, in its own process.
pub fn case(args: &[&str]) -> Result<()> {
    let &[job, seed, moments, crossdock, directory] = args else {
        bail!("hostile: wrong number of arguments")
    };
    let seed: u64 = seed.parse().context("the seed is no number")?;
    let moments: u64 = moments.parse().context("the number of moments is no number")?;
    let directory = Path::new(directory);
    remove(Path::new(crossdock), directory)?;
    match job {
        "kills" => kills::kills(&World::new(crossdock, directory)?, seed, moments),
        "crowd" => crowd::crowd(&World::new(crossdock, directory)?, seed),
        "disk" => disk::disk(&World::new(crossdock, directory)?, seed),
        _ => bail!("hostile: no job is called {job}"),
    }?;
    // The directory of a failed case stays for inspection.
    remove(Path::new(crossdock), directory)
}

/// Removes a case's directory. Trees in it may belong to other ids of an ordinary user.
fn remove(crossdock: &Path, directory: &Path) -> Result<()> {
    if directory.exists() {
        let mut command = Command::new(crossdock);
        command.args(["unshare", "--", "rm", "-rf"]).arg(directory);
        crate::tools::run(command.env("CROSSDOCK_ROOT", directory.join("none")))?;
    }
    Ok(())
}
