//! What all builds of a server share.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use crossdock_builder::Shared;
use crossdock_oci::Store;
use crossdock_platform::Platform;
use crossdock_registry::{Client, Progress};
use crossdock_sandbox::Emulator;
use tokio::sync::Notify;

use crate::history::History;
use crate::job::Job;
use crate::session::Sessions;
use crate::status::StatusLog;

/// Asks for user name and password for a registry (`HOST[:PORT]`).
pub type Login = Arc<dyn Fn(&str) -> Result<Option<(String, String)>> + Send + Sync>;

/// What a server needs of the program that it is part of.
pub trait Desk: Send + Sync {
    /// A handle of the store with leases of its own.
    ///
    /// # Errors
    ///
    /// The store cannot be opened.
    fn store(&self) -> Result<Store>;

    /// A client of registries that reports to `progress`. What `login` says comes before the credentials of
    /// this machine.
    ///
    /// # Errors
    ///
    /// The configuration cannot be read.
    fn client(&self, login: Option<Login>, progress: Arc<dyn Progress>) -> Result<Client>;

    /// The emulator for a platform that this machine does not run itself. The error is a sentence.
    fn emulator(&self, platform: &Platform) -> Result<Emulator, String>;

    /// The platforms that this machine runs, its own first.
    fn platforms(&self) -> Vec<Platform>;

    /// Steps of a build that may execute at once.
    fn jobs(&self) -> usize;
}

/// A server of BuildKit's API.
#[derive(Clone)]
pub struct Server(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub desk: Arc<dyn Desk>,
    pub sessions: Arc<Sessions>,
    pub history: History,
    /// Steps that several builds need are executed once.
    pub shared: Shared,
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    /// Logs of builds that ended of late: a client may ask for the status only then.
    ended: Mutex<VecDeque<(String, Arc<StatusLog>)>>,
    /// A build has begun.
    begun: Notify,
    /// Names the only worker.
    pub worker: String,
}

/// How long a call waits for the build that it names. Clients begin the build at the same time.
const PATIENCE: Duration = Duration::from_secs(3);

impl Server {
    /// A server on a store.
    ///
    /// # Errors
    ///
    /// The store cannot be opened.
    pub fn new(desk: Arc<dyn Desk>) -> Result<Server> {
        let store = desk.store()?;
        let worker =
            crossdock_oci::Digest::of(store.root().as_os_str().as_encoded_bytes()).hex()[..25].into();
        let history = History::open(&store)?;
        let (jobs, ended, begun) = Default::default();
        let (sessions, shared) = (Arc::default(), Shared::default());
        Ok(Server(Arc::new(Inner { desk, sessions, history, shared, jobs, ended, begun, worker })))
    }
}

impl Inner {
    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a build known; false if there is one of that name.
    pub fn begin(&self, job: &Arc<Job>) -> bool {
        let mut jobs = self.jobs();
        if jobs.contains_key(&job.reference) {
            return false;
        }
        jobs.insert(job.reference.clone(), job.clone());
        drop(jobs);
        self.begun.notify_waiters();
        true
    }

    /// A build is over.
    pub fn end(&self, reference: &str) {
        /// Logs of older builds are in the history.
        const KEPT: usize = 16;
        let Some(job) = self.jobs().remove(reference) else { return };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push_back((job.reference.clone(), job.log.clone()));
        if ended.len() > KEPT {
            ended.pop_front();
        }
    }

    /// The log of a build that ended of late.
    pub fn ended(&self, reference: &str) -> Option<Arc<StatusLog>> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().find(|(name, _)| name == reference).map(|(_, log)| log.clone())
    }

    /// A build that is under way.
    pub fn running(&self, reference: &str) -> Option<Arc<Job>> {
        self.jobs().get(reference).cloned()
    }

    /// All builds that are under way.
    pub fn all_running(&self) -> Vec<Arc<Job>> {
        self.jobs().values().cloned().collect()
    }

    /// A build that is under way, or begins soon.
    pub async fn job(&self, reference: &str) -> Option<Arc<Job>> {
        self.wait_for(|| self.running(reference)).await
    }

    /// The log of a build that is under way, ended of late, or begins soon.
    pub async fn log(&self, reference: &str) -> Option<Arc<StatusLog>> {
        let found = || self.running(reference).map(|job| job.log.clone()).or_else(|| self.ended(reference));
        self.wait_for(found).await
    }

    /// Waits for what a build that begins makes true.
    async fn wait_for<T>(&self, found: impl Fn() -> Option<T>) -> Option<T> {
        let waiting = async {
            loop {
                let begun = self.begun.notified();
                tokio::pin!(begun);
                begun.as_mut().enable();
                if let Some(found) = found() {
                    return found;
                }
                begun.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.ok()
    }
}
