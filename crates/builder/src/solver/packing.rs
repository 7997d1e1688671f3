//! Layers are packed in the background, by as many threads as there are CPUs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope as Threads;

use crossdock_oci::Digest;
use crossdock_oci::store::{Follow, Frozen, Store};

use crate::error::ErrorKind;
use crate::event::{Event, StepId};
use crate::solver::environment::Environment;
use crate::solver::flights::{Promise, SharedFlight};
use crate::solver::layer::{Packed, Record};
use crate::solver::recorded::note;

/// What is known of a step whose directory becomes a layer.
pub(crate) struct Packing {
    pub step: StepId,
    pub key: Digest,
    /// When the step was executed, RFC 3339.
    pub created: String,
    /// See [`Record::renewal`].
    pub renewal: Option<String>,
    /// Whether the layer goes to the sink.
    pub is_followed: bool,
    pub promise: Arc<Promise<Result<Packed, String>>>,
    /// Lets other builds look up the step's result; dropped once it is recorded.
    pub _flight: SharedFlight,
}

/// Directories that wait to be packed, and the number of threads that pack.
#[derive(Default)]
struct Backlog {
    waiting: VecDeque<(Packing, Frozen)>,
    threads: usize,
}

/// Packs directories.
pub(crate) struct Packers<'a> {
    env: &'a Environment<'a>,
    /// Threads that may pack at once.
    threads_max: usize,
    backlog: Mutex<Backlog>,
}

impl<'a> Packers<'a> {
    /// No thread packs yet.
    pub fn new(env: &'a Environment<'a>) -> Packers<'a> {
        let threads_max = crossdock_oci::cpus();
        Packers { env, threads_max, backlog: Mutex::default() }
    }

    fn backlog(&self) -> std::sync::MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the directory to a packing thread; this thread packs it if there is none.
    pub fn pack_later<'scope, 'env>(
        &'scope self,
        threads: &'scope Threads<'scope, 'env>,
        packing: Packing,
        frozen: Frozen,
    ) {
        let is_needed = {
            let mut backlog = self.backlog();
            backlog.waiting.push_back((packing, frozen));
            let is_needed = backlog.threads < self.threads_max;
            backlog.threads += usize::from(is_needed);
            is_needed
        };
        if is_needed && std::thread::Builder::new().spawn_scoped(threads, || self.pack_all()).is_err() {
            self.pack_all();
        }
    }

    /// Packs until nothing waits.
    fn pack_all(&self) {
        loop {
            let (packing, frozen) = {
                let mut backlog = self.backlog();
                match backlog.waiting.pop_front() {
                    Some(waiting) => waiting,
                    None => {
                        backlog.threads -= 1;
                        return;
                    }
                }
            };
            self.pack(packing, &frozen);
        }
    }

    fn pack(&self, packing: Packing, frozen: &Frozen) {
        let Packing { step, key, created, renewal, is_followed, promise, _flight } = packing;
        self.env.events.event(Event::Packing { step });
        let sink = self.env.sink.filter(|_| is_followed);
        let follow = sink.map(|sink| move |layer| sink.follow(layer, &self.env.stop));
        let follow = follow.as_ref().map(|follow| follow as Follow<'_>);
        let packed = self.env.store.commit_followed(frozen, &self.env.layers, follow);
        let packed = packed.map_err(ErrorKind::from);
        let packed = packed.and_then(|layer| {
            let packed = Packed { diff_id: layer.diff_id, descriptor: layer.descriptor };
            let (descriptor, diff_id) = (Box::new(packed.descriptor.clone()), packed.diff_id.clone());
            let told = Event::Packed { step, layer: descriptor, diff_id, size: layer.size };
            self.env.events.event(told);
            if let Some(name) = layer.changed.first() {
                // The key names the content that was there before.
                let message =
                    format!("/{name} was changed while it was archived: this step is made again next time");
                self.env.events.event(Event::Warning { message, lines: None });
                return Ok(packed);
            }
            remember(self.env.store, &key, &Record { layer: Some(packed.clone()), created, renewal })?;
            Ok(packed)
        });
        promise.keep(packed.map_err(|e| e.to_string()));
    }
}

/// Notes the result of a step in the store.
pub(crate) fn remember(store: &Store, key: &Digest, record: &Record) -> Result<(), ErrorKind> {
    note(store, key, &record.clone().into())
}
