//! Programs of other suites of Debian, for tests: unpacked below `target`, never installed.

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
    let sources = work.join("sources.list");
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    std::fs::write(&sources, format!("deb [signed-by={key}] {} {SUITE} main\n", mirror()?))?;
    let apt = || {
        let mut command = Command::new("apt-get");
        let show = |path: &Path| path.display().to_string();
        for (name, value) in [
            ("Dir::State::Lists", show(&work.join("lists"))),
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
    run(apt().args(["download", package]))?;
    let found = std::fs::read_dir(&work)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut debs = found.filter(|path| path.extension().is_some_and(|kind| kind == "deb"));
    let Some(deb) = debs.next() else { bail!("apt-get has downloaded no {package}") };
    let partial = directory.join(format!("{package}.partial"));
    output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&partial))?;
    std::fs::rename(&partial, directory.join(package))?;
    std::fs::remove_dir_all(&work)?;
    Ok(path)
}
