//! Commands that are killed at random moments. Afterwards no process and no mount is left, every image is
//! whole, and the same command succeeds.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions};

use super::commands::{KINDS, Line, line};
use super::random::Random;
use super::world::{HANG, Server, World, wait};

/// All that a killed command started is gone after this time.
const LINGER: Duration = Duration::from_secs(2);
/// A command that is asked to end does so within this time.
const POLITE: Duration = Duration::from_secs(10);
/// Moments between two checks of the pruned store.
const PRUNE_EVERY: u64 = 10;

/// Which process is killed, and how.
#[derive(Clone, Copy, Debug)]
enum Kill {
    Command(Signal),
    /// One of the processes that the command has started: the monitor, pid 1 of a container, a program in it.
    Descendant,
    /// The registry that the command talks to.
    Registry,
}

pub fn kills(world: &World, seed: u64, moments: u64) -> Result<()> {
    // Processes that killed commands leave behind become children of this process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("become the reaper")?;
    let mut usual = BTreeMap::new();
    for (number, kind) in KINDS.iter().enumerate() {
        let line = line(world, kind, &mut Random::new(seed, 1_000_000 + number as u64))?;
        prepare(world, &line)?;
        usual.insert(*kind, complete(world, &line)?);
    }
    for number in 0..moments {
        let mut random = Random::new(seed, number);
        let kind = random.of(KINDS);
        let line = line(world, kind, &mut random)?;
        let kill = match random.below(20) {
            0..10 => Kill::Command(Signal::KILL),
            10..13 => Kill::Command(Signal::TERM),
            13..15 => Kill::Command(Signal::INT),
            15..19 => Kill::Descendant,
            _ => Kill::Registry,
        };
        let latest = usual[kind].as_micros() as u64 * 11 / 10;
        let moment = Duration::from_micros(random.below(latest));
        let again = moment_of(world, &line, kill, moment, &mut random)
            .and_then(
                |time| if number % PRUNE_EVERY == 0 { world.check_pruned().map(|()| time) } else { Ok(time) },
            )
            .with_context(|| {
                format!("moment {number} of seed {seed}: {kill:?} after {moment:?} of {:?}", line.args)
            })?;
        usual.insert(*kind, (usual[kind] + again) / 2);
    }
    world.check_pruned().with_context(|| format!("after all moments of seed {seed}"))
}

fn moment_of(
    world: &World,
    line: &Line,
    kill: Kill,
    moment: Duration,
    random: &mut Random,
) -> Result<Duration> {
    prepare(world, line)?;
    let mut second = match kill {
        Kill::Registry => Some(Server::start(&world.crossdock, &world.directory, "victim")?),
        _ => None,
    };
    let mut args = line.args.clone();
    if let Some(second) = &second {
        args = vec!["push".to_string(), "-q".into(), "keep".into(), format!("{}/keep:1", second.address)];
    }
    let mut child =
        world.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start")?;
    std::thread::sleep(moment);
    let limit = match kill {
        Kill::Command(signal) => {
            // The command may have ended.
            let _ = rustix::process::kill_process(pid_of(child.id())?, signal);
            POLITE
        }
        Kill::Descendant => {
            let descendants = descendants(child.id())?;
            if !descendants.is_empty() {
                let _ = rustix::process::kill_process(pid_of(*random.of(&descendants))?, Signal::KILL);
            }
            HANG
        }
        Kill::Registry => {
            if let Some(second) = &mut second {
                second.child.kill()?;
                second.child.wait()?;
            }
            HANG
        }
    };
    let Some(status) = wait(&mut child, limit)? else {
        let left = descendants(child.id())?.into_iter().map(shown).collect::<Vec<_>>();
        child.kill()?;
        child.wait()?;
        bail!("the command does not end; its processes: {left:?}");
    };
    if status.code() == Some(101) {
        bail!("the command panics");
    }
    drop(second);
    nothing_is_left(world)?;
    if matches!(kill, Kill::Registry) {
        // The directory of the killed registry is whole.
        let server = Server::start(&world.crossdock, &world.directory, "victim")?;
        let name = format!("{}/keep:1", server.address);
        world.ok(&["push", "-q", "keep", &name])?;
        world.ok(&["pull", "-q", &name])?;
        world.ok(&["rmi", &name])?;
    }
    world.check()?;
    complete(world, line)
}

fn prepare(world: &World, line: &Line) -> Result<()> {
    line.before.iter().try_for_each(|words| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        world.ok(&words).map(drop)
    })
}

/// Runs the command to its end, and returns how long it took.
fn complete(world: &World, line: &Line) -> Result<Duration> {
    let started = Instant::now();
    let output = world.run(&line.args)?;
    let error = String::from_utf8_lossy(&output.stderr).trim().to_string();
    if !output.status.success() && !line.may_fail.iter().any(|part| error.contains(part)) {
        bail!("the same once more, undisturbed: {}: {error}", output.status);
    }
    Ok(started.elapsed())
}

/// Checks that no process of the case is left except the registry and this one, and no mount.
fn nothing_is_left(world: &World) -> Result<()> {
    let deadline = Instant::now() + LINGER;
    loop {
        let mut left = descendants(std::process::id())?;
        left.retain(|&id| id != world.registry.child.id() && !reaped(id));
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            let left: Vec<String> = left.into_iter().map(shown).collect();
            bail!("{} s after its end there are {left:?}", LINGER.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let directory = world.directory.display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    if let Some(mount) = mounts.lines().find(|line| line.contains(&directory)) {
        bail!("a mount is left: {mount}");
    }
    Ok(())
}

/// Reaps a process if it is an ended child of this one; returns whether it was.
fn reaped(id: u32) -> bool {
    let is_zombie = stat(id).is_some_and(|(_, state)| state == 'Z');
    is_zombie
        && pid_of(id)
            .is_ok_and(|pid| matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_))))
}

fn pid_of(id: u32) -> Result<Pid> {
    Pid::from_raw(i32::try_from(id)?).context("no process has the number 0")
}

/// All descendants of a process.
fn descendants(id: u32) -> Result<Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(id) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // The process may have ended meanwhile.
        if let Some((parent, _)) = stat(id) {
            children.entry(parent).or_default().push(id);
        }
    }
    let (mut found, mut open) = (Vec::new(), vec![id]);
    while let Some(id) = open.pop() {
        let below = children.get(&id).map_or(&[][..], Vec::as_slice);
        found.extend(below);
        open.extend(below);
    }
    Ok(found)
}

/// Parent and state of a process, proc_pid_stat(5).
fn stat(id: u32) -> Option<(u32, char)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name may have spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

fn shown(id: u32) -> String {
    let line = std::fs::read(Path::new("/proc").join(id.to_string()).join("cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let state = stat(id).map_or('?', |(_, state)| state);
    format!("{id} {state} {}", line.trim())
}
