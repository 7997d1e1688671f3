//! What every command needs: the store, registries, the user namespace, and how errors are told.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use crossdock_builder::BuildError;
use crossdock_oci::layer::UnpackLimit;
use crossdock_oci::store::{Owners, Warnings};
use crossdock_oci::{Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::credentials::container_proxies;
use crossdock_registry::{Client, ClientOptions, Environment, Progress};
use crossdock_sandbox::emulator::{self, Choice};
use crossdock_sandbox::userns::{self, EnterOptions};

use crate::args::Global;
use crate::progress::say;

/// What must be set up before a command runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: the command reads blobs and talks to registries.
    Nothing,
    /// An own user and mount namespace: the command starts commands, or stacks layers.
    Namespace,
    /// The same where it is allowed: the command touches unpacked layers, and can do most of it without.
    NamespaceIfAllowed,
}

/// The surroundings of one command.
pub struct Session {
    root: PathBuf,
    insecure: Vec<String>,
    /// Only one user id exists in the namespace.
    single_id: bool,
    /// Why there is only one id.
    note: Option<String>,
    unpack_limit: UnpackLimit,
    /// Of the stores that were opened.
    warnings: Mutex<Vec<Warnings>>,
}

impl Session {
    /// Enters the namespaces, while there is only one thread.
    pub fn start(global: &Global, needs: Needs) -> Result<Session> {
        // The umask must not change what ends up in images.
        rustix::process::umask(rustix::fs::Mode::from(0o022));
        let mut session = Session {
            root: match &global.root {
                Some(root) => {
                    std::path::absolute(root).with_context(|| format!("--root {}", root.display()))?
                }
                None => default_root()?,
            },
            insecure: global.insecure.clone(),
            single_id: false,
            note: None,
            unpack_limit: unpack_limit(global.unpack_max.as_deref())?,
            warnings: Mutex::default(),
        };
        if needs != Needs::Nothing {
            let single_id = std::env::var_os("CROSSDOCK_SINGLE_ID").is_some_and(|v| v == "1");
            match userns::enter(&EnterOptions { single_id }) {
                Ok(entered) => {
                    session.single_id = entered.mapping.is_single();
                    session.note = entered.note;
                }
                Err(error) if needs == Needs::NamespaceIfAllowed && userns::go_without(&error) => {
                    // Who may give files away needs no namespace for that.
                    session.single_id = !may_change_owners();
                    session.note = Some(error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(session)
    }

    /// The directory of the store.
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    /// Opens the store.
    pub fn store(&self) -> Result<Store> {
        let store = Store::open(&self.root)?;
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(store.warnings());
        let store = store.with_unpack_limit(self.unpack_limit.clone());
        Ok(store.with_owners(if self.single_id { Owners::Ignore } else { Owners::Keep }))
    }

    /// Tells what the command has put right in the store.
    pub fn tell_warnings(&self) {
        let stores = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().flat_map(Warnings::take).for_each(|warning| say(&format!("warning: {warning}")));
    }

    /// Whether only one user id exists in the namespace.
    pub fn single_id(&self) -> bool {
        self.single_id
    }

    /// Why there is only one, and what to do.
    pub fn single_id_note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Tells once why files cannot have other owners, where that is so.
    pub fn warn_of_single_id(&self) {
        if let Some(note) = self.note.as_ref().filter(|_| self.single_id) {
            say(&format!(
                "warning: only one user id is available, so all files in images belong to root: {note}"
            ));
        }
    }

    /// Variables with the proxies of docker's `config.json`, for commands in builds and containers. A file
    /// that cannot be read is told and has none.
    pub fn container_proxies(&self) -> Vec<(String, String)> {
        let environment = Environment::from_vars(|name| std::env::var_os(name));
        container_proxies(&environment).unwrap_or_else(|error| {
            say(&format!("warning: no proxies for containers are known: {error}"));
            Vec::new()
        })
    }

    /// A client of registries that reports to `progress`.
    pub fn client(&self, progress: Arc<dyn Progress>) -> Result<Client> {
        let environment = Environment::from_vars(|name| std::env::var_os(name));
        let mut options = ClientOptions::from_environment(&environment)?;
        options.insecure_all = self.insecure.iter().any(|host| host == "*");
        options.insecure = self.insecure.clone();
        options.progress = progress;
        Ok(Client::new(options))
    }
}

/// Whether this process may give files to other owners (CAP_CHOWN).
fn may_change_owners() -> bool {
    let sets = rustix::thread::capabilities(None);
    sets.is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::CHOWN))
}

/// `--unpack-max`: a size, or `unlimited`.
fn unpack_limit(given: Option<&str>) -> Result<UnpackLimit> {
    match given {
        None | Some("") => Ok(UnpackLimit::default()),
        Some("unlimited") => Ok(UnpackLimit::bytes(u64::MAX)),
        Some(text) => {
            let size = crossdock_dockerfile::mount::bytes(text);
            Ok(UnpackLimit::bytes(size.with_context(|| format!("--unpack-max {text}: not a size"))?))
        }
    }
}

fn default_root() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(data) = set("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Ok(data.join("crossdock"));
    }
    match set("HOME") {
        Some(home) => Ok(home.join(".local/share/crossdock")),
        None => bail!("neither HOME nor XDG_DATA_HOME is set: say where the store is with --root DIR"),
    }
}

/// Reads an image name.
pub fn reference(text: &str) -> Result<Reference> {
    Ok(text.parse::<Reference>()?)
}

/// Reads `--platform` that may be given several times and with commas; this machine's if there is none.
pub fn platforms(given: &[String]) -> Result<Vec<Platform>> {
    if given.is_empty() {
        return Ok(vec![Platform::host()]);
    }
    Ok(crossdock_platform::parse_list(&given.join(","))?)
}

/// Reads one `--platform`.
pub fn platform(given: Option<&String>) -> Result<Option<Platform>> {
    given.map(|text| text.parse::<Platform>().map_err(Into::into)).transpose()
}

/// Reads `--emulator`.
pub fn emulator_choice(text: &str) -> Result<Choice> {
    text.parse::<Choice>().map_err(anyhow::Error::msg)
}

/// The emulator for a platform, `None` if this machine runs its programs itself.
pub fn emulator_for(platform: &Platform, choice: &Choice) -> Result<Option<crossdock_sandbox::Emulator>> {
    if emulator::is_native(platform) {
        return Ok(None);
    }
    Ok(Some(emulator::find(&platform.architecture, choice)?))
}

/// Whether standard error is a terminal that shows colours and moving lines.
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Prints an error with its causes; those that repeat their cause are not said twice.
pub fn print_error(error: &anyhow::Error) {
    if let Some(exit) = error.downcast_ref::<crate::commands::ExitWith>()
        && exit.1.is_empty()
    {
        return;
    }
    if let Some(build) = error.downcast_ref::<BuildError>() {
        say(&format!("error: failed to build: {build}"));
        return;
    }
    say(&format!("error: {}", chain(error)));
}

/// An error with its causes in one line; what a message already says of its cause is not said twice.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// A size for people: `12.3MB`, decimal units as docker prints them.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes}B"),
        _ if value < 10.0 => format!("{value:.2}{unit}"),
        _ if value < 100.0 => format!("{value:.1}{unit}"),
        _ => format!("{value:.0}{unit}"),
    }
}

/// How long ago a time in seconds since 1970 was, in docker's words.
pub fn ago(seconds: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    let age = (now - seconds).max(0);
    let text = |n: i64, unit: &str| format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" });
    match age {
        0..60 => text(age, "second"),
        60..3600 => text(age / 60, "minute"),
        3600..172_800 => text(age / 3600, "hour"),
        172_800..1_209_600 => text(age / 86_400, "day"),
        1_209_600..5_184_000 => text(age / 604_800, "week"),
        5_184_000..63_072_000 => text(age / 2_592_000, "month"),
        _ => text(age / 31_536_000, "year"),
    }
}

/// Seconds since 1970 of an RFC 3339 time.
pub fn seconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(|t| t.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in
            [(0, "0B"), (999, "999B"), (1000, "1.00kB"), (12_345_678, "12.3MB"), (123_456_789_012, "123GB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
