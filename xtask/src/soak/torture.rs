//! gcc's torture tests, and the guest tests under a storm of signals.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use super::{Case, Soak, Verdict, ending, limited};
use crate::tools::{checkout, require, run};

const SOURCES: &str = "/usr/src/gcc-12";
const EXECUTE: &str = "gcc/testsuite/gcc.c-torture/execute";

/// Seconds for one program.
const LIMIT: u64 = 60;

/// Runs of a test in the storm, here and on the host.
const ROUNDS: u32 = 10;

/// A case per program, level of optimisation, and form of the guest.
pub fn cases(soak: &Soak) -> Result<Vec<Case<'_>>> {
    let directory = sources(soak)?;
    let work = soak.directory.join("torture-programs");
    std::fs::create_dir_all(&work)?;
    let mut files = Vec::new();
    for place in [directory.clone(), directory.join("ieee")] {
        for entry in std::fs::read_dir(&place).with_context(|| format!("read {}", place.display()))? {
            files.push(entry?.path());
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "c"));
    files.sort();
    let mut cases = Vec::new();
    for (ending, flags) in soak.guest.forms {
        for level in ["-O0", "-O2", "-O3"] {
            for file in &files {
                let name = format!("{}{level}{ending}", file.strip_prefix(&directory)?.display());
                let (file, program) = (file.clone(), work.join(name.replace('/', "-")));
                let run = move || one(soak, &file, level, flags, &program);
                cases.push(Case { name, run: Box::new(run) });
            }
        }
    }
    Ok(cases)
}

/// The tests of Debian's gcc source package, unpacked once.
fn sources(soak: &Soak) -> Result<PathBuf> {
    let place = soak.shared.join("torture");
    let tests = place.join(EXECUTE);
    if tests.exists() {
        return Ok(tests);
    }
    require(&[("/usr/src/gcc-12/patches", "gcc-12-source")])?;
    let archive = std::fs::read_dir(SOURCES)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gcc-12.")));
    let archive = archive.with_context(|| format!("no archive of gcc in {SOURCES}"))?;
    let partial = soak.shared.join("torture.partial");
    std::fs::create_dir_all(&partial)?;
    println!("unpacking {}", archive.display());
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&partial).args([
        "--strip-components=1",
        "--wildcards",
        "*/gcc.c-torture/execute/*",
    ]))?;
    std::fs::rename(&partial, &place)?;
    Ok(tests)
}

/// Compiles one test and runs it. A test that fails is tried under QEMU, which is right or fails too.
fn one(soak: &Soak, file: &Path, level: &str, flags: &[&str], program: &Path) -> Result<Verdict> {
    let text = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
    let compiler = soak.guest.compiler;
    let compiled = Command::new(compiler)
        .args(["-w", "-static", level])
        .args(flags)
        .args(options(&text))
        .arg("-o")
        .args([program, file])
        .args(["-lm", "-pthread"])
        .output()
        .with_context(|| format!("run {compiler}"))?;
    if !compiled.status.success() {
        return Ok(Verdict::Skip("does not compile".into()));
    }
    let verdict = beside_qemu(soak, program);
    let _ = std::fs::remove_file(program);
    verdict
}

fn beside_qemu(soak: &Soak, program: &Path) -> Result<Verdict> {
    let path = program.to_str().context("a path in UTF-8")?;
    let ours = limited(LIMIT, &soak.emulator, &[path])?;
    if ours.status.success() {
        return Ok(Verdict::Pass);
    }
    let theirs = limited(LIMIT, &soak.qemu, &[path])?;
    if theirs.status.success() {
        return Ok(Verdict::Fail(ending(&ours)));
    }
    Ok(Verdict::Skip(format!("QEMU: {}; we: {}", ending(&theirs), ending(&ours))))
}

/// Options that the test asks for: `{ dg-options "..." }`, `{ dg-additional-options "..." }`, if they are for
/// all targets.
fn options(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| {
        (line.contains("dg-options") || line.contains("dg-additional-options")) && !line.contains("target")
    });
    lines
        .filter_map(|line| line.split('"').nth(1))
        .flat_map(|options| options.split_whitespace().map(str::to_string))
        .collect()
}

/// Handlers for the signals, and timers that raise them. Timers do not survive execve and fork, so the
/// signals hit only the test itself.
const STORM: &str = r#"
#include <signal.h>
#include <time.h>
static volatile long count;
static void count_it(int signal) { count++; }
__attribute__((constructor)) static void storm(void)
{
    int numbers[] = { SIGURG, SIGUSR1 };
    for (int n = 0; n < SIGNALS; n++) {
        struct sigaction action = { .sa_handler = count_it, .sa_flags = SA_RESTART };
        sigaction(numbers[n], &action, 0);
        struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = numbers[n] };
        struct itimerspec often = { { 0, 150000 + 70000 * n }, { 0, 150000 } };
        timer_t timer;
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
            timer_settime(timer, 0, &often, 0);
    }
}
"#;

/// A case per guest test: [`ROUNDS`] runs in the storm must end as a run without it; tests that fail on the host in
/// the same storm are skipped.
pub fn storm(soak: &Soak) -> Result<Vec<Case<'_>>> {
    let work = soak.directory.join("storm");
    std::fs::create_dir_all(&work)?;
    let source = work.join("storm.c");
    std::fs::write(&source, STORM)?;
    let mut tests: Vec<PathBuf> = Vec::new();
    for place in ["guest-tests"].iter().chain(soak.guest.tests) {
        let entries = std::fs::read_dir(checkout().join(place)).with_context(|| format!("read {place}"))?;
        tests.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    tests.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    tests.sort();
    let case = |test: PathBuf| {
        let (source, work) = (source.clone(), work.clone());
        let name = test.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        Case { name: name.clone(), run: Box::new(move || in_storm(soak, &test, &source, &work.join(&name))) }
    };
    Ok(tests.into_iter().map(case).collect())
}

fn in_storm(soak: &Soak, test: &Path, storm: &Path, place: &Path) -> Result<Verdict> {
    std::fs::create_dir_all(place)?;
    // A test that uses SIGUSR1 itself gets the other signal only.
    let signals = if std::fs::read_to_string(test)?.contains("SIGUSR1") { 1 } else { 2 };
    let build = |compiler: &str, name: &str, storm: Option<&Path>| -> Result<PathBuf> {
        // The same file name everywhere, since tests print it.
        let program = place.join(name).join("program");
        std::fs::create_dir_all(place.join(name))?;
        let mut command = Command::new(compiler);
        command
            .args(["-O1", "-w", "-static", "-pthread", "-o"])
            .args([&program, &test.to_path_buf()])
            .arg("-lm");
        let output = command.args(storm).arg(format!("-DSIGNALS={signals}")).output();
        let output = output.with_context(|| format!("run {compiler}"))?;
        if !output.status.success() {
            bail!("{compiler}: {}", ending(&output));
        }
        Ok(program)
    };
    let cross = soak.guest.compiler;
    let Ok(calm) = build(cross, "calm", None) else {
        return Ok(Verdict::Skip("does not compile: another guest's".into()));
    };
    let guest = build(cross, "guest", Some(storm))?;
    let by_us =
        |program: &Path| limited(LIMIT, &soak.emulator, &[program.to_str().expect("our own ASCII path")]);
    let expected = by_us(&calm)?;
    if expected.status.code().is_none() {
        return Ok(Verdict::Skip("dies without a storm, too: another guest's".into()));
    }
    let same = |one: &Output, other: &Output| one.stdout == other.stdout && one.status == other.status;
    // A test that the storm also breaks on the host is skipped; tests for one guest alone have no such check.
    if let Ok(calm) = build("gcc", "native-calm", None) {
        let calm = limited(LIMIT, &calm, &[])?;
        let program = build("gcc", "native", Some(storm))?;
        for _ in 0..ROUNDS {
            if !same(&limited(LIMIT, &program, &[])?, &calm) {
                return Ok(Verdict::Skip("the host does not pass it in a storm either".into()));
            }
        }
    }
    for round in 0..ROUNDS {
        let output = by_us(&guest)?;
        if !same(&output, &expected) {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            return Ok(Verdict::Fail(format!("run {round}: {}; printed {text:?}", ending(&output))));
        }
    }
    Ok(Verdict::Pass)
}
