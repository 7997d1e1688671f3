//! Programs of a Debian root: starts by the thousand, compilers, servers, test suites.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result};

use super::{Case, Soak, Verdict, ending, packages};
use crate::demo;
use crate::roots::{self, Handler, TRANSLATIONS};
use crate::tools::{checkout, run};

/// A copy of the root with everything installed, with `guest-tests/userland` and sources of Debian in its
/// `/soak`. Programs write to the copy.
fn prepared(soak: &Soak) -> Result<PathBuf> {
    let root = soak.directory.join("userland");
    if !root.exists() {
        let partial = root.with_extension("partial");
        run(Command::new("rm").arg("-rf").arg(&partial))?;
        run(Command::new("cp").arg("-a").args([&packages::root_by_qemu(soak)?, &partial]))?;
        // Names of the machine itself, which no package contains.
        std::fs::write(partial.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
        std::fs::rename(&partial, &root)?;
    }
    let place = root.join("soak");
    std::fs::create_dir_all(root.join(&FOLDER[1..]))?;
    for entry in std::fs::read_dir(checkout().join("guest-tests/userland"))? {
        let path = entry?.path();
        std::fs::copy(&path, place.join(path.file_name().expect("an entry has a name")))?;
    }
    Ok(root)
}

/// Sources that the root compiles: `(Debian package, directory)`.
fn debian_sources(soak: &Soak, root: &Path) -> Result<()> {
    let apt = soak.directory.join("apt-source");
    for (package, name) in [("zlib", "zlib"), ("lua5.4", "lua")] {
        let place = root.join("soak").join(name);
        if place.exists() {
            continue;
        }
        for part in ["lists/partial", "cache/archives/partial", package] {
            std::fs::create_dir_all(apt.join(part))?;
        }
        let line = format!("deb-src {} {} main\n", demo::mirror()?, soak.suite);
        std::fs::write(apt.join("sources.list"), line)?;
        let apt_get = |arguments: &[&str]| {
            let mut command = Command::new("apt-get");
            command.current_dir(apt.join(package)).arg("-q");
            for (option, path) in [
                ("Dir::Etc::sourcelist", "sources.list"),
                ("Dir::Etc::sourceparts", "none"),
                ("Dir::State::lists", "lists"),
                ("Dir::Cache", "cache"),
            ] {
                command.arg("-o").arg(format!("{option}={}", apt.join(path).display()));
            }
            run(command.args(["-o", "APT::Sandbox::User=root"]).args(arguments))
        };
        // The archive alone, which stays at its place on a mirror when Debian's part of the package changes.
        let source = || apt_get(&["source", "--download-only", "--tar-only", package]);
        apt_get(&["update"])?;
        if source().is_err() {
            // The lists were older than the mirror's files: caches on the way had kept them.
            apt_get(&["-o", "Acquire::http::No-Cache=true", "update"])?;
            source()?;
        }
        let archive = std::fs::read_dir(apt.join(package))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().contains(".orig.tar"))
            .with_context(|| format!("apt-get source {package} has brought no archive"))?;
        let partial = place.with_extension("partial");
        std::fs::create_dir_all(&partial)?;
        run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&partial).arg("--strip-components=1"))?;
        std::fs::rename(&partial, &place)?;
    }
    Ok(())
}

/// Where a root has the translations of a run with `--warm`.
const FOLDER: &str = "/soak/translations";

/// Runs a script in the root.
fn script(soak: &Soak, emulator: &Path, root: &Path, seconds: u64, text: &str) -> Result<Output> {
    let guest = soak.guest;
    let handler = Handler { runs: Some((emulator.to_path_buf(), guest)) };
    roots::enter(root, &handler, seconds, "chroot")
        .arg(root)
        .args(["/bin/sh", "-ec", text])
        .env_clear()
        .envs([
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            ("GUEST_FILE", guest.file),
        ])
        .envs(soak.is_warm.then_some((TRANSLATIONS, FOLDER)))
        .output()
        .context("run timeout and unshare")
}

/// Passes if a script succeeds under our emulator; a script that fails is tried under QEMU.
fn compared(soak: &Soak, root: &Path, seconds: u64, text: &str) -> Result<Verdict> {
    let ours = script(soak, &soak.emulator, root, seconds, text)?;
    if ours.status.success() {
        return Ok(Verdict::Pass);
    }
    let theirs = script(soak, &soak.qemu, root, seconds, text)?;
    if theirs.status.success() {
        return Ok(Verdict::Fail(ending(&ours)));
    }
    Ok(Verdict::Skip(format!("QEMU: {}; we: {}", ending(&theirs), ending(&ours))))
}

fn case<'a>(soak: &'a Soak, root: &Path, name: String, seconds: u64, text: String) -> Case<'a> {
    let root = root.to_path_buf();
    Case { name, run: Box::new(move || compared(soak, &root, seconds, &text)) }
}

/// `ldconfig` 1,000 times and `sh -c true` 10,000 times, in ten cases each.
pub fn starts(soak: &Soak) -> Result<Vec<Case<'_>>> {
    let root = prepared(soak)?;
    let times = |count: u32, command: &str| {
        format!("n=0; while [ $n -lt {count} ]; do {command}; n=$((n + 1)); done")
    };
    let own = "mount -t tmpfs cache /var/cache/ldconfig; ";
    let mut cases = Vec::new();
    for n in 0..10 {
        let text = format!("{own}{}", times(100, "/sbin/ldconfig -C /tmp/ld.so.cache"));
        cases.push(case(soak, &root, format!("ldconfig {n}"), 1200, text));
        cases.push(case(soak, &root, format!("sh {n}"), 1200, times(1000, "sh -c true")));
    }
    Ok(cases)
}

/// A case per script in `guest-tests/userland`.
pub fn programs(soak: &Soak) -> Result<Vec<Case<'_>>> {
    let root = prepared(soak)?;
    debian_sources(soak, &root)?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(checkout().join("guest-tests/userland"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".sh").map(str::to_string));
    }
    names.sort();
    let one = |name: String| {
        let text = format!("cd /tmp; sh -e /soak/{name}.sh");
        case(soak, &root, name, 1800, text)
    };
    Ok(names.into_iter().map(one).collect())
}

/// node, java and threads, ten times each.
pub fn repeat(soak: &Soak) -> Result<Vec<Case<'_>>> {
    let root = prepared(soak)?;
    let mut cases = Vec::new();
    for name in ["node", "java", "threads"] {
        for n in 0..10 {
            let text = format!("cd /tmp; sh -e /soak/{name}.sh");
            cases.push(case(soak, &root, format!("{name} {n}"), 1800, text));
        }
    }
    Ok(cases)
}

/// Packages of Go's standard library whose tests need little time and no network.
const GO: [&str; 24] = [
    "bufio",
    "bytes",
    "compress/flate",
    "container/heap",
    "context",
    "crypto/aes",
    "crypto/sha256",
    "encoding/json",
    "errors",
    "hash/crc32",
    "io",
    "math",
    "math/big",
    "math/bits",
    "os/exec",
    "os/signal",
    "regexp",
    "sort",
    "strconv",
    "strings",
    "sync",
    "sync/atomic",
    "text/template",
    "time",
];

pub fn go(soak: &Soak) -> Result<Vec<Case<'_>>> {
    let root = prepared(soak)?;
    let one = |package: &&str| {
        let text = format!(
            "export GOCACHE=/soak/go-cache GOPATH=/tmp/go GOFLAGS=-mod=mod; cd /usr/lib/go-*/src; \
             go test -short -vet=off -count=10 -timeout 50m {package}"
        );
        case(soak, &root, package.to_string(), 3600, text)
    };
    Ok(GO.iter().map(one).collect())
}

/// A case per module of the test suite that Debian has.
pub fn python(soak: &Soak) -> Result<Vec<Case<'_>>> {
    let root = prepared(soak)?;
    let mut modules = Vec::new();
    for entry in std::fs::read_dir(python_tests(&root)?)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Modules and packages of tests, but not the data beside them.
        let name = name.strip_suffix(".py").unwrap_or(&name);
        if name.starts_with("test_") && !name.contains('.') {
            modules.push(name.to_string());
        }
    }
    modules.sort();
    modules.dedup();
    let one = |module: String| {
        let text = format!("cd /tmp; python3 -m test -w {module}");
        case(soak, &root, module, 900, text)
    };
    Ok(modules.into_iter().map(one).collect())
}

/// The directory of python's test suite.
fn python_tests(root: &Path) -> Result<PathBuf> {
    let libraries = std::fs::read_dir(root.join("usr/lib"))?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut tests = libraries.map(|path| path.join("test/test_signal.py")).filter(|path| path.exists());
    let file = tests.next().context("the root has no test suite of python")?;
    Ok(file.parent().expect("a file is in a directory").to_path_buf())
}
