//! Attestations as files beside the files of an image, for outputs that are no images (BuildKit, exporters
//! `local` and `tar`).

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use crossdock_builder::{BuiltImage, Layer};
use crossdock_oci::Store;
use crossdock_oci::digest::Hashing;
use crossdock_oci::store::TemporaryDirectory;

use super::sbom::root::Root;
use super::statement::{Attestation, Subject};

/// The ending of files with lists of packages.
pub const SBOM_ENDING: &str = ".spdx.json";
/// The mode of the files, as in BuildKit.
const MODE: u32 = 0o600;

/// Lays a directory with the attestations of an image over its files. The directory is removed when the
/// returned value is dropped.
///
/// `prefix` begins the names of the files. With `platform`, the names have it before their ending. `epoch` is
/// their time in seconds since 1970; without it they have the present time.
///
/// # Errors
///
/// Two attestations with one name; the store cannot be written, or a file of the image cannot be read.
pub fn lay_over(
    store: &Store,
    image: &mut BuiltImage,
    root: &Root,
    attestations: &[Attestation],
    (prefix, platform): (&str, Option<&str>),
    epoch: Option<i64>,
) -> Result<Option<TemporaryDirectory>> {
    let written: Vec<&Attestation> = attestations.iter().filter(|one| !one.inline_only).collect();
    if written.is_empty() {
        return Ok(None);
    }
    let subjects = subjects(root)?;
    let directory = store.temporary_directory()?;
    let doing = || format!("write {}", directory.path().display());
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).with_context(doing)?;
    let mut names = BTreeSet::new();
    for attestation in written {
        let name = format!("{prefix}{}", with_platform(&attestation.file_name, platform));
        if !names.insert(name.clone()) {
            bail!("two attestations have the file name {name}: give the provenance another filename");
        }
        let statement = attestation.statement(&subjects);
        let text = serde_json::to_string_pretty(&statement).expect("string keys always serialise");
        let path = directory.path().join(&name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(MODE)).with_context(doing)?;
        File::open(&path).and_then(|file| set_time(&file, epoch)).with_context(doing)?;
    }
    image.layers.push(Layer::of_directory(directory.path().to_path_buf()));
    Ok(Some(directory))
}

fn set_time(file: &File, epoch: Option<i64>) -> io::Result<()> {
    let seconds = epoch.and_then(|seconds| u64::try_from(seconds).ok());
    let time = seconds.map_or_else(SystemTime::now, |seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    file.set_times(FileTimes::new().set_modified(time).set_accessed(time))
}

/// `NAME.PLATFORM.ENDING`.
fn with_platform(name: &str, platform: Option<&str>) -> String {
    let Some(platform) = platform.map(|platform| platform.replace('/', "_")) else { return name.to_string() };
    match name.rsplit_once('.') {
        Some((stem, ending)) => format!("{stem}.{platform}.{ending}"),
        None => format!("{name}.{platform}"),
    }
}

/// The regular files of an image, by their paths in it.
fn subjects(root: &Root) -> Result<Vec<Subject>> {
    let mut all = Vec::new();
    let mut failure = None;
    root.walk(&mut |file| {
        let read = || -> Result<Subject> {
            let mut open = file.open().with_context(|| format!("open /{} of the image", file.path))?;
            let mut hashing = Hashing::new(io::sink());
            io::copy(&mut open, &mut hashing).with_context(|| format!("read /{} of the image", file.path))?;
            Ok(Subject { name: file.path.clone(), digest: hashing.finish().1 })
        };
        if failure.is_none() {
            match read() {
                Ok(subject) => all.push(subject),
                Err(error) => failure = Some(error),
            }
        }
    });
    failure.map_or(Ok(all), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_stand_before_the_ending() {
        let name = |name, platform| with_platform(name, platform);
        assert_eq!(name("provenance.json", Some("linux/arm/v7")), "provenance.linux_arm_v7.json");
        assert_eq!(name("sbom.spdx.json", Some("linux/arm64")), "sbom.spdx.linux_arm64.json");
        assert_eq!(name("plain", Some("linux/arm64")), "plain.linux_arm64");
        assert_eq!(name("plain", None), "plain");
    }
}
