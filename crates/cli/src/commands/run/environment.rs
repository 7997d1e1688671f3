//! The environment of a container's command.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use crossdock_oci::store::LoadedImage;

use crossdock_delivery::input::{Kinds, read_whole};

#[derive(clap::Args)]
pub struct EnvironmentArgs {
    /// Environment: NAME=VALUE, or NAME to take it from here
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// File of environment lines
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
}

/// An `--env-file` larger than this, in bytes, is refused; the kernel gives no program an environment of more
/// than 6 MiB (execve(2)).
const ENV_FILE_SIZE_MAX: u64 = 8 * 1024 * 1024;

/// What the environment says of the container.
pub struct Surroundings<'a> {
    pub hostname: &'a str,
    pub has_terminal: bool,
    /// Variables for proxies, and their values.
    pub proxies: Vec<(String, String)>,
}

/// The environment: a search path, the host name, the image's, the proxies, and what the options say.
pub fn environment(
    image: &LoadedImage,
    args: &EnvironmentArgs,
    of: Surroundings<'_>,
) -> Result<Vec<OsString>> {
    // A name that is set again moves to the end.
    let mut env: BTreeMap<usize, OsString> = BTreeMap::new();
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut set = |entry: OsString| {
        let name = entry.as_bytes().split(|b| *b == b'=').next().unwrap_or_default().to_vec();
        let place = env.last_key_value().map_or(0, |(last, _)| last + 1);
        if let Some(before) = places.insert(name, place) {
            env.remove(&before);
        }
        env.insert(place, entry);
    };
    set(OsString::from("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    set(OsString::from(format!("HOSTNAME={}", of.hostname)));
    if of.has_terminal {
        set(OsString::from("TERM=xterm"));
    }
    image.config.config.env.iter().for_each(|entry| set(OsString::from(entry)));
    of.proxies.into_iter().for_each(|(name, value)| set(OsString::from(format!("{name}={value}"))));
    let mut given = |entry: &std::ffi::OsStr| {
        if entry.as_bytes().contains(&b'=') {
            set(entry.to_owned());
        } else if let Some(value) = std::env::var_os(entry) {
            let mut whole = entry.to_owned();
            whole.push("=");
            whole.push(value);
            set(whole);
        }
    };
    for file in &args.env_files {
        let text = read_whole(file, ENV_FILE_SIZE_MAX, Kinds::Any).context("--env-file")?;
        let text = String::from_utf8(text);
        let text = text.with_context(|| format!("--env-file {}: not UTF-8 text", file.display()))?;
        // Some editors of other systems put a byte order mark before the first line.
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = line.split('=').next().unwrap_or_default();
            // The value may be a secret, so it is not shown.
            let wrong =
                |what: &str| anyhow::anyhow!("--env-file {}, line {}: {what}", file.display(), number + 1);
            if name.is_empty() {
                return Err(wrong("no name stands before \"=\""));
            }
            if name.contains(char::is_whitespace) {
                return Err(wrong(&format!("the name \"{name}\" has a space: write NAME=VALUE")));
            }
            if line.contains('\0') {
                return Err(wrong("it holds a byte 0, which no variable can"));
            }
            given(std::ffi::OsStr::new(line));
        }
    }
    for entry in &args.env {
        if entry.is_empty() || entry.as_bytes().starts_with(b"=") {
            bail!("--env {}: no name stands before \"=\"", entry.to_string_lossy());
        }
        given(entry);
    }
    Ok(env.into_values().collect())
}
