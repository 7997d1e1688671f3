//! Long runs of the emulator: each job is many cases, done two at a time, resumed where they were left.

mod packages;
mod torture;
mod userland;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::tools::{checkout, release, require};

/// Cases that run at the same time.
const WORKERS: usize = 2;

/// What a case has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// The emulator is wrong, or cannot be told to be right.
    Fail(String),
    /// QEMU or the host fails there too, or it cannot be compiled: says nothing about us.
    Skip(String),
}

/// One case: a name that stays the same from run to run, and how it is done.
pub struct Case<'a> {
    pub name: String,
    pub run: Box<dyn Fn() -> Result<Verdict> + Send + Sync + 'a>,
}

/// What all jobs share.
pub struct Soak {
    pub emulator: PathBuf,
    pub qemu: PathBuf,
    /// `target/soak`.
    pub directory: PathBuf,
}

/// Name, what it does, and its cases.
type Job = (&'static str, &'static str, for<'a> fn(&'a Soak) -> Result<Vec<Case<'a>>>);

const JOBS: [Job; 8] = [
    ("torture", "gcc's torture tests at -O0, -O2 and -O3, beside QEMU", torture::cases),
    ("storm", "the guest tests under a storm of SIGUSR1 and SIGURG", torture::storm),
    ("starts", "ldconfig 1,000 times, sh -c true 10,000 times", userland::starts),
    ("packages", "apt-get install of 30 packages: the tree that QEMU makes", packages::cases),
    ("programs", "compilers, databases, servers and self-tests in a Debian root", userland::programs),
    ("go", "go test of packages of the standard library, ten times each", userland::go),
    ("repeat", "a node server, a java collector and threads, ten times each", userland::repeat),
    ("python", "python's test suite, module by module, beside QEMU", userland::python),
];

pub fn usage() -> String {
    JOBS.iter().map(|(name, what, _)| format!("      {name:10}{what}\n")).collect()
}

/// `soak [--again] [--emulator PATH] [NAME[/CASE]...]`
pub fn soak(args: &[&str]) -> Result<()> {
    let (mut again, mut emulator, mut names) = (false, None, Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match *arg {
            "--again" => again = true,
            "--help" | "-h" => {
                print!("cargo xtask soak [--again] [--emulator PATH] [JOB[/CASE]...]\n{}", usage());
                return Ok(());
            }
            "--emulator" => emulator = Some(PathBuf::from(rest.next().context("--emulator needs a path")?)),
            option if option.starts_with('-') => bail!("soak: unknown option {option}"),
            name => names.push(name),
        }
    }
    if let Some(wrong) = names.iter().find(|name| !JOBS.iter().any(|job| job.0 == part(name).0)) {
        bail!("soak: no job is called {wrong}; there are\n{}", usage());
    }
    require(&[
        ("qemu-aarch64-static", "qemu-user-static"),
        ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
        ("gcc", "gcc"),
    ])?;
    let emulator = match emulator {
        Some(path) => path.canonicalize().with_context(|| format!("find {}", path.display()))?,
        None => release("crossdock-emu")?,
    };
    let directory = checkout().join("target/soak");
    std::fs::create_dir_all(&directory)?;
    let soak = Soak {
        emulator: kept(&emulator, &directory)?,
        qemu: "/usr/bin/qemu-aarch64-static".into(),
        directory,
    };
    let mut failures = Vec::new();
    for (job, _, cases) in JOBS {
        let wanted: Vec<&str> =
            names.iter().filter(|name| part(name).0 == job).map(|name| part(name).1).collect();
        if !names.is_empty() && wanted.is_empty() {
            continue;
        }
        let mut cases = cases(&soak).with_context(|| format!("prepare {job}"))?;
        cases.retain(|case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(part)));
        failures.extend(run_job(&soak, job, &cases, again)?);
    }
    if !failures.is_empty() {
        bail!("{} cases failed:\n{}", failures.len(), failures.join("\n"));
    }
    Ok(())
}

/// `python/test_signal` is the job python and cases with test_signal in their names.
fn part(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or((name, ""))
}

/// A copy of the emulator of this very content, which a later build does not replace during the run.
fn kept(emulator: &Path, directory: &Path) -> Result<PathBuf> {
    let text = crate::tools::output(Command::new("sha256sum").arg(emulator))?;
    let place = directory.join("emulators").join(&text[..16]);
    std::fs::create_dir_all(&place)?;
    let copy = place.join("crossdock-emu");
    if !copy.exists() {
        std::fs::copy(emulator, &copy).with_context(|| format!("copy {}", emulator.display()))?;
    }
    Ok(copy)
}

/// Runs the cases that this emulator has not passed yet, and prints what came out. Returns the failures of all.
fn run_job(soak: &Soak, job: &str, cases: &[Case], again: bool) -> Result<Vec<String>> {
    let started = Instant::now();
    let file = soak.emulator.with_file_name(format!("{job}.results"));
    if again {
        let _ = std::fs::remove_file(&file);
    }
    let known = read_results(&file)?;
    let open = |case: &&Case| !matches!(known.get(&case.name), Some(Verdict::Pass | Verdict::Skip(_)));
    let queue: Mutex<VecDeque<&Case>> = Mutex::new(cases.iter().filter(open).collect());
    let todo = queue.lock().expect("no thread has panicked").len();
    println!("{job}: {} cases, {} done before", cases.len(), cases.len() - todo);
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&file)?;
    let log = Mutex::new(log);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().expect("no thread has panicked").pop_front() else { break };
                    let verdict = (case.run)().unwrap_or_else(|error| Verdict::Fail(format!("{error:#}")));
                    record(&log, &case.name, &verdict);
                }
            });
        }
    });
    let results = read_results(&file)?;
    let of_cases = || cases.iter().filter_map(|case| Some((&case.name, results.get(&case.name)?)));
    let count = |kind: fn(&Verdict) -> bool| of_cases().filter(|(_, verdict)| kind(verdict)).count();
    println!(
        "{job}: {} passed, {} failed, {} say nothing; {:.0} s",
        count(|verdict| *verdict == Verdict::Pass),
        count(|verdict| matches!(verdict, Verdict::Fail(_))),
        count(|verdict| matches!(verdict, Verdict::Skip(_))),
        started.elapsed().as_secs_f64()
    );
    let failed = of_cases().filter_map(|(name, verdict)| match verdict {
        Verdict::Fail(reason) => Some(format!("{job}/{name}: {reason}")),
        _ => None,
    });
    Ok(failed.collect())
}

/// One line per result, the last one counts: `pass`, `fail` or `skip`, the case, and the reason.
fn record(log: &Mutex<std::fs::File>, name: &str, verdict: &Verdict) {
    let (word, reason) = match verdict {
        Verdict::Pass => ("pass", ""),
        Verdict::Fail(reason) => ("fail", reason.as_str()),
        Verdict::Skip(reason) => ("skip", reason.as_str()),
    };
    let reason: String = reason.replace(['\n', '\t'], " ").chars().take(300).collect();
    if word == "fail" {
        println!("failed: {name}: {reason}");
    }
    let mut log = log.lock().expect("no thread has panicked");
    let written = writeln!(log, "{word}\t{name}\t{reason}");
    written.expect("the disk has room for results");
}

fn read_results(file: &Path) -> Result<BTreeMap<String, Verdict>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
    };
    let line = |line: &str| {
        let mut fields = line.split('\t');
        let (word, name) = (fields.next()?, fields.next()?.to_string());
        let reason = fields.next().unwrap_or_default().to_string();
        Some((
            name,
            match word {
                "pass" => Verdict::Pass,
                "skip" => Verdict::Skip(reason),
                _ => Verdict::Fail(reason),
            },
        ))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Runs a command for so many seconds at most, and returns its output. After the time, it and its group are killed and
/// the status is that of timeout(1), 124.
pub fn limited(seconds: u64, program: &Path, arguments: &[&str]) -> Result<Output> {
    Command::new("timeout")
        .args(["--kill-after=3", &seconds.to_string()])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", program.display()))
}

/// The end of a command in a few words: status, and the last line of its errors or output.
pub fn ending(output: &Output) -> String {
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let text = String::from_utf8_lossy(text);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    match output.status.code() {
        Some(124) => format!("no end in time: {last}"),
        _ => format!("{}: {last}", output.status),
    }
}
