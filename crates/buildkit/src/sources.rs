//! Where a build of a client gets images, files and secrets: the registries with the client's credentials,
//! and the client itself through its session.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use bollard_buildkit_proto::pb;
use crossdock_builder::git::GitSource;
use crossdock_builder::{Images, Secret, Secrets, llb, without_password};
use crossdock_delivery::Host;
use crossdock_delivery::files::chain;
use crossdock_delivery::source::Source;
use crossdock_oci::store::TemporaryDirectory;
use crossdock_oci::{Descriptor, Digest, Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::Client;

use crate::house::{Desk, Login};
use crate::identifiers;
use crate::policy::Policies;
use crate::session::{Agent, ClientStore, Session, Synced, Wanted};
use crate::status::{Reporter, Transfers, now};

/// The name that a client gives its upload of a context from standard input.
const UPLOADS: &str = "buildkit-session";

/// Host and path of an upload of the client.
pub fn upload_of(address: &str) -> Option<(&str, &str)> {
    let rest = address.strip_prefix("http://")?;
    let (host, _) = rest.split_once('/')?;
    (host == UPLOADS).then(|| (host, &rest[host.len()..]))
}

/// The host of a build's deliveries.
pub struct BuildHost {
    pub desk: Arc<dyn Desk>,
    /// The client's session, if it has one.
    pub session: Option<Arc<Session>>,
    pub reporter: Arc<Reporter>,
}

impl Host for BuildHost {
    fn client(&self) -> Result<Client> {
        let session = self.session.clone();
        let login = session.map(|session| -> Login { Arc::new(move |host| session.credentials(host)) });
        self.desk.client(login, Arc::new(Transfers::new(self.reporter.clone())))
    }

    fn say(&self, text: &str) {
        self.reporter.warn(text.trim_start_matches("warning: "), "", "", None);
    }
}

/// Receives files of a client, as a vertex of its own.
///
/// # Errors
///
/// The client's words; a file that cannot be written.
pub fn receive(
    session: &Session,
    store: &Store,
    reporter: &Reporter,
    vertex: &str,
    wanted: &Wanted,
) -> Result<Synced> {
    let synced = session.place(store, wanted)?;
    fill(session, reporter, vertex, wanted, synced.path())?;
    Ok(synced)
}

/// Receives files of a client into a directory, as a vertex of its own.
///
/// # Errors
///
/// As [`receive`].
pub fn fill(
    session: &Session,
    reporter: &Reporter,
    vertex: &str,
    wanted: &Wanted,
    directory: &Path,
) -> Result<()> {
    reporter.vertex(vertex, |work| {
        /// Bytes after which the client hears of them again.
        const STEP: u64 = 4 * 1024 * 1024;
        let (begun, mut told, mut last) = (now(), 0, 0);
        let label = format!("transferring {}:", wanted.name);
        let filled = session.fill(wanted, directory, &mut |bytes| {
            last = bytes;
            if bytes >= told + STEP {
                told = bytes;
                work.status(begun, &label, bytes, false);
            }
        });
        work.status(begun, &label, last, true);
        filled
    })
}

/// Directories whose files are fetched when they are read for the first time.
#[derive(Default)]
pub struct Later<'a> {
    directories: Mutex<HashMap<PathBuf, Arc<Mutex<Fetch<'a>>>>>,
}

/// The work that brings the files of a directory: these paths, or all if there are none.
type Work<'a> = Box<dyn FnMut(&[String]) -> Result<()> + Send + 'a>;

/// A directory that is fetched when it is read.
struct Fetch<'a> {
    work: Work<'a>,
    /// The paths that are fetched at first; all if there are none.
    planned: Vec<String>,
    /// What the work ended with, once somebody has read the directory.
    done: Option<Result<(), String>>,
}

impl<'a> Later<'a> {
    /// Registers what brings the files of a directory. It will be called with the planned paths; only if the
    /// build reads others it is called again, for all.
    pub fn add(
        &self,
        directory: PathBuf,
        planned: Vec<String>,
        work: impl FnMut(&[String]) -> Result<()> + Send + 'a,
    ) {
        let fetch = Fetch { work: Box::new(work), planned, done: None };
        let fetch = Arc::new(Mutex::new(fetch));
        self.directories.lock().unwrap_or_else(PoisonError::into_inner).insert(directory, fetch);
    }

    /// Brings the files, once; others wait for that. Other directories are ready. `paths` are those that are
    /// read now, all if there are none.
    ///
    /// # Errors
    ///
    /// What the work ended with.
    pub fn ready(&self, directory: &Path, paths: &[String]) -> Result<(), String> {
        let found = self.directories.lock().unwrap_or_else(PoisonError::into_inner).get(directory).cloned();
        let Some(fetch) = found else { return Ok(()) };
        let mut fetch = fetch.lock().unwrap_or_else(PoisonError::into_inner);
        let Fetch { work, planned, done } = &mut *fetch;
        let is_planned = |path: &String| {
            planned.iter().any(|known| {
                path.strip_prefix(known.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let suffices = planned.is_empty() || (!paths.is_empty() && paths.iter().all(is_planned));
        if !suffices && done.as_ref().is_none_or(Result::is_ok) {
            planned.clear();
            *done = None;
        }
        done.get_or_insert_with(|| work(planned).map_err(|error| chain(&error))).clone()
    }
}

/// Loads the images of a digest from a store of the client, as a vertex of its own.
///
/// # Errors
///
/// The client does not have it, or it holds no image.
pub fn layout(
    session: Arc<Session>,
    store: &Store,
    reporter: &Reporter,
    id: &str,
    digest: &Digest,
) -> Result<Vec<(Platform, Descriptor)>> {
    let client = ClientStore::new(session, &format!("oci:{id}"));
    reporter.vertex(&format!("[internal] load {digest} from the client"), |_| {
        let images = client.images(store, digest)?;
        ensure!(!images.is_empty(), "the layout has no image");
        Ok(images)
    })
}

/// Images of a build: as from the command line, but layers of a cache may be the client's.
pub struct ClientImages<'a, 'w> {
    pub source: &'a Source<'a>,
    pub store: &'a Store,
    /// Which of the client's stores has a layer.
    pub layers: HashMap<Digest, Arc<ClientStore>>,
    /// Directories that are fetched when they are read.
    pub later: &'a Later<'w>,
    /// What the client allows.
    pub policies: Policies,
}

impl Images for ClientImages<'_, '_> {
    fn resolve(&self, reference: &Reference, platform: &Platform, pull: bool) -> Result<Descriptor, String> {
        let allowed = allowed_image(&self.policies, reference, pull).map_err(|error| chain(&error))?;
        Images::resolve(self.source, &allowed.0, platform, allowed.1)
    }

    fn download(&self, url: &str, to: &Path) -> Result<Option<i64>, String> {
        let allowed = allowed_download(&self.policies, url).map_err(|error| chain(&error))?;
        let time = Images::download(self.source, &allowed.0, to)?;
        if let Some(expected) = allowed.1 {
            let digest = std::fs::File::open(to).and_then(|file| expected.again(file));
            let digest =
                digest.map_err(|error| format!("read the download of {}: {error}", without_password(url)))?;
            if digest != expected {
                return Err(format!("digest mismatch {digest}: {expected}"));
            }
        }
        Ok(time)
    }

    fn ready(&self, directory: &Path, paths: &[String]) -> Result<(), String> {
        self.later.ready(directory, paths)
    }

    fn layer(&self, layer: &Descriptor) -> Result<(), String> {
        match self.layers.get(&layer.digest) {
            Some(store) => store.fetch(self.store, layer).map_err(|error| chain(&error)),
            None => Images::layer(self.source, layer),
        }
    }

    fn checkout(
        &self,
        source: &GitSource,
        keep_git: bool,
        to: &Path,
        secrets: &dyn Secrets,
    ) -> Result<String, String> {
        let allowed = allowed_repository(&self.policies, source).map_err(|error| chain(&error))?;
        Images::checkout(self.source, &allowed, keep_git, to, secrets)
    }
}

/// The image that policies let a build use instead of this one, and whether its registry is asked.
///
/// # Errors
///
/// They deny it, or want something that is no image.
pub fn allowed_image(policies: &Policies, reference: &Reference, pull: bool) -> Result<(Reference, bool)> {
    let source = policies.apply_to(&format!("docker-image://{reference}"))?;
    let name = source.identifier.strip_prefix("docker-image://");
    let name = name.with_context(|| replaced("the image", &reference.to_string(), &source.identifier))?;
    let llb::Source::Image { reference, pull: asks } = identifiers::image(name, &source.attrs)? else {
        bail!("{name}: no image")
    };
    Ok((reference, pull || asks))
}

/// The address that policies let a build download instead of this one, and what the file must have.
///
/// # Errors
///
/// They deny it, or want something that is no download.
pub fn allowed_download(policies: &Policies, url: &str) -> Result<(String, Option<Digest>)> {
    let source = policies.apply_to(url)?;
    let is_url = ["http://", "https://"].iter().any(|scheme| source.identifier.starts_with(scheme));
    ensure!(is_url, replaced("the download", &without_password(url), &source.identifier));
    let llb::Source::Http { url, checksum, .. } = identifiers::http(&source.identifier, &source.attrs)?
    else {
        bail!("{}: no download", source.identifier)
    };
    Ok((url, checksum))
}

/// The repository that policies let a build use instead of this one.
///
/// # Errors
///
/// They deny it, or want something that is no repository.
pub fn allowed_repository(policies: &Policies, source: &GitSource) -> Result<GitSource> {
    let GitSource { remote, reference, directory, .. } = source;
    let place = match remote.split_once("://") {
        Some((_, place)) => place.to_string(),
        // `USER@HOST:PATH`
        None => remote.replacen(':', "/", 1),
    };
    let place = place.rsplit_once('@').map_or(place.as_str(), |(_, place)| place);
    let mut identifier = format!("git://{place}");
    if reference.is_some() || !directory.is_empty() {
        identifier.push_str(&format!("#{}", reference.as_deref().unwrap_or_default()));
    }
    if !directory.is_empty() {
        identifier.push_str(&format!(":{directory}"));
    }
    let attrs = [("git.fullurl".to_string(), without_password(remote))].into();
    let asked = pb::SourceOp { identifier: identifier.clone(), attrs };
    let mut allowed = policies.apply(asked.clone())?;
    if allowed == asked {
        return Ok(source.clone());
    }
    let rest = allowed.identifier.strip_prefix("git://");
    let rest =
        rest.with_context(|| replaced("the repository", &identifier, &allowed.identifier))?.to_string();
    if allowed.identifier != asked.identifier
        && allowed.attrs.get("git.fullurl") == asked.attrs.get("git.fullurl")
    {
        // The address is the other one's.
        allowed.attrs.remove("git.fullurl");
    }
    let llb::Source::Git { source: other, .. } = identifiers::git(&rest, &allowed.attrs)? else {
        bail!("{rest}: no repository")
    };
    let login = source.login.clone();
    Ok(GitSource { keep_git: source.keep_git, submodules: source.submodules, login, ..other })
}

fn replaced(what: &str, old: &str, new: &str) -> String {
    format!("the source policy replaces {what} {old} by {new}, which is something else")
}

/// Secrets and agents of a client, asked for one by one.
pub struct ClientSecrets {
    session: Option<Arc<Session>>,
    store: Store,
    /// Lines that must not be shown.
    hidden: Arc<Mutex<Vec<String>>>,
    /// Sockets of agents, until the build ends.
    agents: Mutex<BTreeMap<String, (Agent, TemporaryDirectory)>>,
}

impl ClientSecrets {
    /// Secrets of a session; what is learnt is added to `hidden`.
    pub fn new(
        session: Option<Arc<Session>>,
        store: Store,
        hidden: Arc<Mutex<Vec<String>>>,
    ) -> ClientSecrets {
        ClientSecrets { session, store, hidden, agents: Mutex::default() }
    }
}

impl Secrets for ClientSecrets {
    fn secret(&self, id: &str) -> Result<Option<Secret>, String> {
        let Some(session) = &self.session else { return Ok(None) };
        let secret = session.secret(id).map_err(|error| chain(&error))?;
        if let Some(secret) = &secret {
            let text = String::from_utf8_lossy(secret);
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string);
            self.hidden.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
        }
        Ok(secret.map(Secret))
    }

    fn agent(&self, id: &str) -> Result<Option<PathBuf>, String> {
        let Some(session) = &self.session else { return Ok(None) };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((agent, _)) = agents.get(id) {
            return Ok(Some(agent.path().to_path_buf()));
        }
        // A socket's address has room for 107 bytes (unix(7)), and the store's path may be longer.
        let place = || -> Result<Option<(Agent, TemporaryDirectory)>> {
            let directory = self.store.temporary_directory()?;
            let open = std::fs::File::open(directory.path())?;
            let path = directory.path().join("agent");
            let short = format!("/proc/self/fd/{}/agent", std::os::fd::AsRawFd::as_raw_fd(&open));
            let path = if path.as_os_str().len() > 100 { PathBuf::from(short) } else { path };
            let agent = session.agent(id, path, open)?;
            Ok(agent.map(|agent| (agent, directory)))
        };
        let found = place().map_err(|error| chain(&error))?;
        let path = found.as_ref().map(|(agent, _)| agent.path().to_path_buf());
        if let Some(found) = found {
            agents.insert(id.to_string(), found);
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::{
        Policy, PolicyAction, Rule, Selector, Update,
    };

    #[test]
    fn directories_are_fetched_once_and_wholly_if_need_be() {
        let calls: Mutex<Vec<Vec<String>>> = Mutex::default();
        let later = Later::default();
        let note = |paths: &[String]| {
            calls.lock().expect("no panic").push(paths.to_vec());
            Ok(())
        };
        let paths = |list: &[&str]| list.iter().map(|path| path.to_string()).collect::<Vec<_>>();
        later.add("part".into(), paths(&["a", "b/c"]), note);
        later.add("whole".into(), Vec::new(), note);
        let ready = |directory: &str, list: &[&str]| later.ready(Path::new(directory), &paths(list));
        ready("part", &["a"]).expect("fetched");
        ready("part", &["a/x", "b/c"]).expect("there");
        ready("whole", &["z"]).expect("fetched");
        ready("whole", &[]).expect("there");
        assert_eq!(*calls.lock().expect("no panic"), [paths(&["a", "b/c"]), Vec::new()]);
        ready("part", &["ab"]).expect("fetched again");
        ready("part", &[]).expect("there");
        assert_eq!(calls.lock().expect("no panic").len(), 3, "the whole directory, once");
        assert_eq!(calls.lock().expect("no panic")[2], Vec::<String>::new());
        later.add("broken".into(), paths(&["a"]), |_| bail!("gone"));
        for list in [&["a"][..], &["b"], &[]] {
            assert_eq!(ready("broken", list), Err("gone".to_string()));
        }
        ready("unknown", &[]).expect("nothing to do");
    }

    #[test]
    fn policies_of_repositories_see_llbs_identifiers() {
        let repository = |address: &str, from: &str, to: Option<&str>| {
            let mut policies = Policies::default();
            let selector = Selector { identifier: from.to_string(), ..Selector::default() };
            let updates = to.map(|to| Update { identifier: to.to_string(), ..Update::default() });
            let action = if to.is_some() { PolicyAction::Convert } else { PolicyAction::Deny };
            let rule = Rule { action: action.into(), selector: Some(selector), updates };
            policies.extend([Policy { version: 1, rules: vec![rule] }]);
            allowed_repository(&policies, &GitSource::parse(address).expect("an address"))
        };
        for (address, identifier) in [
            ("https://u:p@h/a.git#main:sub", "git://h/a.git#main:sub"),
            ("git@h:a/b.git", "git://h/a/b.git"),
            ("ssh://git@h/a", "git://h/a"),
        ] {
            assert!(repository(address, identifier, None).is_err(), "{address}");
            let same = repository(address, "git://other", None).expect("allowed");
            assert_eq!(same, GitSource::parse(address).expect("an address"));
        }
        let other =
            repository("https://h/a.git", "git://h/a.git", Some("git://i/b.git#v1")).expect("allowed");
        assert_eq!((other.remote.as_str(), other.reference.as_deref()), ("https://i/b.git", Some("v1")));
        assert!(repository("https://h/a.git", "git://h/a.git", Some("local://x")).is_err());
    }
}
