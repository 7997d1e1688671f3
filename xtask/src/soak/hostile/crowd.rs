//! Eight processes at once on one store, which share a few names.

use std::sync::Mutex;

use anyhow::{Result, bail};

use super::commands::{KINDS, line};
use super::random::Random;
use super::world::World;

const PROCESSES: u64 = 8;
/// Commands that each process runs.
const ROUNDS: u64 = 15;

pub fn crowd(world: &World, seed: u64) -> Result<()> {
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for process in 0..PROCESSES {
            let faults = &faults;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let random = &mut Random::new(seed, process << 32 | round);
                    if let Err(error) = command(world, random) {
                        let fault = format!("process {process}, round {round} of seed {seed}: {error:#}");
                        faults.lock().expect("no thread has panicked").push(fault);
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().expect("no thread has panicked");
    if !faults.is_empty() {
        bail!("{} commands failed:\n{}", faults.len(), faults.join("\n"));
    }
    world.check_pruned()
}

/// Runs one command with the commands before it. It is no fault if another process removed the name
/// meanwhile.
fn command(world: &World, random: &mut Random) -> Result<()> {
    let kind = random.of(KINDS);
    let line = line(world, kind, random)?;
    for args in line.before.iter().chain([&line.args]) {
        let output = world.run(args)?;
        let error = String::from_utf8_lossy(&output.stderr).trim().to_string();
        let is_known = line.may_fail.iter().any(|part| error.contains(part));
        if error.contains("panicked") || (!output.status.success() && !is_known) {
            bail!("crossdock {}: {}: {error}", args.join(" "), output.status);
        }
    }
    Ok(())
}
