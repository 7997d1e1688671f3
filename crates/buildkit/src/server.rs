//! The builds of a server.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Notify;

use crate::house::{Desk, House};
use crate::job::Job;
use crate::status::StatusLog;

/// A server of BuildKit's API.
#[derive(Clone)]
pub struct Server(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub house: Arc<House>,
    jobs: Mutex<HashMap<String, Arc<Job>>>,
    /// Logs of builds that ended of late: a client may ask for the status only then.
    ended: Mutex<VecDeque<(String, Arc<StatusLog>)>>,
    /// A build has begun.
    begun: Notify,
    /// How many builds have begun.
    count: AtomicU64,
}

/// How long there must be no build before memory is given back: builds that follow each other need it again.
const IDLE: Duration = Duration::from_secs(3);

/// How long a call waits for the build that it names. Clients begin the build at the same time.
const PATIENCE: Duration = Duration::from_secs(3);

impl Server {
    /// A server on a store.
    ///
    /// # Errors
    ///
    /// The store cannot be opened.
    pub fn new(desk: Arc<dyn Desk>) -> Result<Server> {
        let house = Arc::new(House::new(desk)?);
        let (jobs, ended, begun, count) = Default::default();
        Ok(Server(Arc::new(Inner { house, jobs, ended, begun, count })))
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
        self.count.fetch_add(1, Ordering::Relaxed);
        self.begun.notify_waiters();
        true
    }

    /// A build is over.
    pub fn end(self: &Arc<Inner>, reference: &str) {
        /// Logs of older builds are in the history.
        const KEPT: usize = 16;
        let mut jobs = self.jobs();
        let Some(job) = jobs.remove(reference) else { return };
        let is_idle = jobs.is_empty();
        drop(jobs);
        job.containers.close();
        if is_idle {
            crossdock_sandbox::compile_images(&self.house.root);
            self.give_back_memory_later();
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push_back((job.reference.clone(), job.log.clone()));
        if ended.len() > KEPT {
            ended.pop_front();
        }
    }

    /// Gives memory back if no build begins soon.
    fn give_back_memory_later(self: &Arc<Inner>) {
        // A server that ends has no runtime any more, and needs none.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (inner, count) = (self.clone(), self.count.load(Ordering::Relaxed));
        runtime.spawn(async move {
            tokio::time::sleep(IDLE).await;
            if inner.count.load(Ordering::Relaxed) == count {
                crossdock_sandbox::give_back_memory();
            }
        });
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
