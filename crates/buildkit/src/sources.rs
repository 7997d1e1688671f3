//! Where a build of a client gets images, files and secrets: the registries with the client's credentials,
//! and the client itself through its session.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use crossdock_builder::git::GitSource;
use crossdock_builder::{Images, Secret, Secrets};
use crossdock_delivery::Host;
use crossdock_delivery::files::chain;
use crossdock_delivery::source::Source;
use crossdock_oci::store::TemporaryDirectory;
use crossdock_oci::{Descriptor, Digest, Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::Client;

use crate::house::{Desk, Login};
use crate::session::{Agent, ClientStore, Session, Synced, Wanted};
use crate::status::{Reporter, Transfers};

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
        let (mut told, mut last) = (0, 0);
        let label = format!("transferring {}:", wanted.name);
        let filled = session.fill(wanted, directory, &mut |bytes| {
            last = bytes;
            if bytes >= told + STEP {
                told = bytes;
                work.status(&label, bytes, 0, false);
            }
        });
        work.status(&label, last, 0, true);
        filled
    })
}

/// Directories whose files are fetched when they are read for the first time.
#[derive(Default)]
pub struct Later<'a> {
    directories: Mutex<HashMap<PathBuf, Arc<Mutex<Fetch<'a>>>>>,
}

/// The work that brings the files of a directory.
type Work<'a> = Box<dyn FnOnce() -> Result<()> + Send + 'a>;

/// The state of a directory.
enum Fetch<'a> {
    /// Nobody has read it.
    Open(Work<'a>),
    /// What the work ended with.
    Done(Result<(), String>),
}

impl<'a> Later<'a> {
    /// Registers what brings the files of a directory.
    pub fn add(&self, directory: PathBuf, work: impl FnOnce() -> Result<()> + Send + 'a) {
        let fetch = Arc::new(Mutex::new(Fetch::Open(Box::new(work))));
        self.directories.lock().unwrap_or_else(PoisonError::into_inner).insert(directory, fetch);
    }

    /// Brings the files, once; others wait for that. Other directories are ready.
    ///
    /// # Errors
    ///
    /// What the work ended with.
    pub fn ready(&self, directory: &Path) -> Result<(), String> {
        let found = self.directories.lock().unwrap_or_else(PoisonError::into_inner).get(directory).cloned();
        let Some(fetch) = found else { return Ok(()) };
        let mut fetch = fetch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Fetch::Open(_) = *fetch {
            let begun = Fetch::Done(Err("the files could not be fetched".to_string()));
            if let Fetch::Open(work) = std::mem::replace(&mut *fetch, begun) {
                *fetch = Fetch::Done(work().map_err(|error| chain(&error)));
            }
        }
        match &*fetch {
            Fetch::Done(result) => result.clone(),
            Fetch::Open(_) => Ok(()),
        }
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
}

impl Images for ClientImages<'_, '_> {
    fn resolve(&self, reference: &Reference, platform: &Platform, pull: bool) -> Result<Descriptor, String> {
        Images::resolve(self.source, reference, platform, pull)
    }

    fn download(&self, url: &str, to: &Path) -> Result<Option<i64>, String> {
        Images::download(self.source, url, to)
    }

    fn ready(&self, directory: &Path) -> Result<(), String> {
        self.later.ready(directory)
    }

    fn layer(&self, layer: &Descriptor) -> Result<(), String> {
        match self.layers.get(&layer.digest) {
            Some(store) => store.fetch(self.store, layer).map_err(|error| chain(&error)),
            None => Images::layer(self.source, layer),
        }
    }

    fn checkout(&self, source: &GitSource, keep_git: bool, to: &Path) -> Result<String, String> {
        Images::checkout(self.source, source, keep_git, to)
    }
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
