//! Long runs: each job has many cases, run two at a time and resumed where they stopped.

pub mod hostile;
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

use crate::guests::{self, Guest, SUITE};
use crate::tools::{checkout, release};

/// Cases that run at the same time.
const WORKERS: usize = 2;

/// The result of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// The program is wrong, or not known to be right.
    Fail(String),
    /// QEMU or the host fails too, or the case cannot be compiled: no result about us.
    Skip(String),
}

/// One case: a name that is the same in every run, and the function that runs it.
pub struct Case<'a> {
    pub name: String,
    pub run: Box<dyn Fn() -> Result<Verdict> + Send + Sync + 'a>,
}

/// What all jobs share.
pub struct Soak {
    pub guest: &'static Guest,
    /// Debian's suite in the roots.
    pub suite: String,
    pub emulator: PathBuf,
    pub qemu: PathBuf,
    /// `target/soak`, for what all guests share.
    pub shared: PathBuf,
    /// What belongs to this guest and suite: the same for arm64 in bookworm, else a directory below it.
    pub directory: PathBuf,
    /// Whether the emulator keeps translations and uses those of earlier processes.
    pub is_warm: bool,
}

/// Name of a job, what it does, and its cases.
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
    let jobs: String = JOBS.iter().map(|(name, what, _)| format!("      {name:10}{what}\n")).collect();
    jobs + hostile::USAGE
}

/// `soak [--again] [--guest GUEST] [--suite SUITE] [--emulator PATH] [--warm] [--seed N] [--quick]
/// [NAME[/CASE]...]`
pub fn soak(args: &[&str]) -> Result<()> {
    let (mut again, mut emulator, mut names) = (false, None, Vec::new());
    let (mut guest, mut suite) = (guests::find("arm64")?, None);
    let (mut seed, mut is_quick, mut is_warm) = (1, false, false);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match *arg {
            "--again" => again = true,
            "--help" | "-h" => {
                print!(
                    "cargo xtask soak [--again] [--guest GUEST] [--suite SUITE] [--emulator PATH] [--warm] \
                     [--seed N] [--quick] [JOB[/CASE]...]\n{}",
                    usage()
                );
                return Ok(());
            }
            "--guest" => guest = guests::find(rest.next().context("--guest needs a name")?)?,
            "--suite" => suite = Some(*rest.next().context("--suite needs a name of Debian's")?),
            "--quick" => is_quick = true,
            "--warm" => is_warm = true,
            "--seed" => {
                let value = rest.next().context("--seed needs a number")?;
                seed = value.parse().with_context(|| format!("--seed {value}: no number"))?;
            }
            "--emulator" => emulator = Some(PathBuf::from(rest.next().context("--emulator needs a path")?)),
            option if option.starts_with('-') => bail!("soak: unknown option {option}"),
            name => names.push(name),
        }
    }
    let is_job = |name: &str| name == "hostile" || JOBS.iter().any(|job| job.0 == name);
    if let Some(wrong) = names.iter().find(|name| !is_job(part(name).0)) {
        bail!("soak: no job is called {wrong}; there are\n{}", usage());
    }
    let (of_hostile, of_emulator): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| part(name).0 == "hostile");
    let mut failures = Vec::new();
    if names.is_empty() || !of_emulator.is_empty() {
        let suite = suite.unwrap_or(guest.suite);
        failures.extend(emulator_jobs(guest, suite, (emulator, is_warm), &of_emulator, again)?);
    }
    if names.is_empty() || !of_hostile.is_empty() {
        let cases: Vec<&str> = of_hostile.iter().map(|name| part(name).1).collect();
        failures.extend(hostile::soak(&cases, seed, is_quick, again)?);
    }
    if !failures.is_empty() {
        bail!("{} cases failed:\n{}", failures.len(), failures.join("\n"));
    }
    Ok(())
}

/// Runs the jobs of these names, or all jobs, with our emulator, which may keep translations. Returns the
/// failures.
fn emulator_jobs(
    guest: &'static Guest,
    suite: &str,
    (emulator, is_warm): (Option<PathBuf>, bool),
    names: &[&str],
    again: bool,
) -> Result<Vec<String>> {
    guest.require_tools()?;
    let emulator = match emulator {
        Some(path) => path.canonicalize().with_context(|| format!("find {}", path.display()))?,
        None => release("crossdock-emu")?,
    };
    let shared = checkout().join("target/soak");
    let directory = match (guest.name, suite) {
        ("arm64", SUITE) => shared.clone(),
        (name, SUITE) => shared.join(name),
        (name, suite) => shared.join(format!("{name}-{suite}")),
    };
    std::fs::create_dir_all(&directory)?;
    let emulators = directory.join(if is_warm { "emulators-warm" } else { "emulators" });
    let soak = Soak {
        guest,
        suite: suite.into(),
        emulator: kept(&emulator, &emulators)?,
        qemu: Path::new("/usr/bin").join(guest.qemu),
        shared,
        directory,
        is_warm,
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
        let results = soak.emulator.parent().context("the copy is in a directory")?;
        failures.extend(run_job(results, job, &cases, again)?);
    }
    Ok(failures)
}

/// `python/test_signal` means the job python and its cases with test_signal in their names.
fn part(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or((name, ""))
}

/// A copy of an executable, named by its content, so that a later build does not replace it during the run.
fn kept(executable: &Path, directory: &Path) -> Result<PathBuf> {
    let text = crate::tools::output(Command::new("sha256sum").arg(executable))?;
    let place = directory.join(&text[..16]);
    std::fs::create_dir_all(&place)?;
    let copy = place.join(executable.file_name().context("an executable has a name")?);
    if !copy.exists() {
        std::fs::copy(executable, &copy).with_context(|| format!("copy {}", executable.display()))?;
    }
    Ok(copy)
}

/// Runs the cases that have not passed yet according to the results in `directory`, which belongs to one
/// executable, and prints the outcome. Returns all failures.
fn run_job(directory: &Path, job: &str, cases: &[Case], again: bool) -> Result<Vec<String>> {
    let started = Instant::now();
    let file = directory.join(format!("{job}.results"));
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
        "{job}: {} passed, {} failed, {} skipped; {:.0} s",
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

/// Writes one line per result: `pass`, `fail` or `skip`, the case, and the reason. The last line of a case
/// counts.
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

/// Runs a command for at most `seconds`, and returns its output. After that time the command and its group
/// are killed, and the status is that of timeout(1), 124.
pub fn limited(seconds: u64, program: &Path, arguments: &[&str]) -> Result<Output> {
    Command::new("timeout")
        .args(["--kill-after=3", &seconds.to_string()])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", program.display()))
}

/// How a command ended, in short: status, and the last line of its errors or output.
pub fn ending(output: &Output) -> String {
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let text = String::from_utf8_lossy(text);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    match output.status.code() {
        Some(124) => format!("no end in time: {last}"),
        _ => format!("{}: {last}", output.status),
    }
}
