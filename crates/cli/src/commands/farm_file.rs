//! `farm.toml`: options of a farm that a user or a team keeps.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The file below the user's configuration.
const PLACE: &str = "crossdock/farm.toml";
/// Longer files are none, in bytes.
const SIZE_MAX: u64 = 1 << 20;

/// What such a file says.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FarmFile {
    /// As `--farm`.
    pub farm: Option<String>,
    /// As `--worker`.
    pub worker: Option<Workers>,
    /// As `--farm-wait`.
    pub wait: Option<f64>,
    /// As `--farm-ca`.
    pub ca: Option<PathBuf>,
    /// As `--farm-cert`.
    pub cert: Option<PathBuf>,
    /// As `--farm-key`.
    pub key: Option<PathBuf>,
    /// As `--farm-header`.
    pub headers: BTreeMap<String, String>,
    /// By platform.
    pub platforms: BTreeMap<String, OfPlatform>,
}

/// One machine, or several.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Workers {
    One(String),
    Several(Vec<String>),
}

impl Workers {
    /// Their addresses.
    pub fn into_list(self) -> Vec<String> {
        match self {
            Workers::One(worker) => vec![worker],
            Workers::Several(workers) => workers,
        }
    }
}

/// Where steps of a platform run.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfPlatform {
    /// As `--farm-property`.
    pub properties: BTreeMap<String, String>,
    /// As `--farm-executable`.
    pub executable: Option<PathBuf>,
}

impl FarmFile {
    /// The file that is given, or the user's, if there is one.
    ///
    /// # Errors
    ///
    /// It cannot be read, says something unknown, or shows headers to others.
    pub fn read(given: Option<&Path>) -> Result<Option<FarmFile>> {
        let path = match given.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => path.to_path_buf(),
            None => match place() {
                Some(place) if place.exists() => place,
                _ => return Ok(None),
            },
        };
        FarmFile::at(&path).with_context(|| path.display().to_string()).map(Some)
    }

    fn at(path: &Path) -> Result<FarmFile> {
        let file = File::open(path).context("read the options of the farm")?;
        let mode = file.metadata()?.mode();
        let mut text = String::new();
        file.take(SIZE_MAX + 1).read_to_string(&mut text).context("read the options of the farm")?;
        if text.len() as u64 > SIZE_MAX {
            bail!("it has more than {SIZE_MAX} bytes");
        }
        let mut read: FarmFile = toml::from_str(&text).map_err(|error| {
            // The line itself is not told: it may hold a token.
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count() + 1;
            anyhow::anyhow!("line {line}: {}", shown(error.message()))
        })?;
        if !read.headers.is_empty() && mode & 0o077 != 0 {
            bail!("it has headers, which others must not read: chmod 600 {}", path.display());
        }
        let directory = fs::canonicalize(path)?.parent().map(Path::to_path_buf).unwrap_or_default();
        let executables = read.platforms.values_mut().map(|platform| &mut platform.executable);
        for path in [&mut read.ca, &mut read.cert, &mut read.key].into_iter().chain(executables) {
            *path = path.take().map(|path| directory.join(path));
        }
        Ok(read)
    }
}

/// What a parser says, without the values that it may quote.
fn shown(message: &str) -> &str {
    message.split(['"', '`', ':']).next().unwrap_or_default().trim_end()
}

/// The user's file.
fn place() -> Option<PathBuf> {
    let directory = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let configuration = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")));
    Some(configuration?.join(PLACE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn read(text: &str, mode: u32) -> Result<FarmFile, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("farm.toml");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        let read = FarmFile::read(Some(&path)).map_err(|e| format!("{e:#}"))?;
        let mut read = read.expect("it is given");
        // The directory has a random name.
        read.ca = read.ca.map(|ca| ca.file_name().expect("a name").into());
        Ok(read)
    }

    #[test]
    fn everything_that_options_say() {
        let text = "farm = \"grpcs://farm:1\"\nwait = 5\nca = \"ca.pem\"\n[headers]\nauthorization = \"Bearer x\"\n\
                    [platforms.\"linux/arm64\"]\nproperties = { ISA = \"aarch64\" }\nexecutable = \"/arm64\"\n";
        let arm64 = OfPlatform {
            properties: BTreeMap::from([("ISA".to_string(), "aarch64".to_string())]),
            executable: Some("/arm64".into()),
        };
        let expected = FarmFile {
            farm: Some("grpcs://farm:1".into()),
            wait: Some(5.0),
            ca: Some("ca.pem".into()),
            headers: BTreeMap::from([("authorization".into(), "Bearer x".into())]),
            platforms: BTreeMap::from([("linux/arm64".to_string(), arm64)]),
            ..FarmFile::default()
        };
        assert_eq!(read(text, 0o600), Ok(expected));
        assert_eq!(read("", 0o644), Ok(FarmFile::default()));
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        for (text, mode, told) in [
            ("[headers]\nauthorization = \"hunter2\"\n", 0o644, "chmod 600"),
            ("[headers]\nauthorization = hunter2\n", 0o600, "line 2"),
            ("[headers]\nauthorization = [\"hunter2\"]\n", 0o600, "line 2"),
            ("[headers]\nauthorization = \"hunter2\n", 0o600, "line 2"),
            ("\nhost = 1\n", 0o600, "unknown field"),
            ("wait = \"hunter2\"\n", 0o600, "invalid type"),
        ] {
            let error = read(text, mode).expect_err(text);
            assert!(error.contains(told) && !error.contains("hunter2"), "{error}");
            assert!(error.contains("farm.toml"), "{error}");
        }
        assert!(FarmFile::read(Some(Path::new("/nope.toml"))).is_err());
    }
}
