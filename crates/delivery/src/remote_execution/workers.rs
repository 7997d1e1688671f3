//! Machines behind ssh instead of a farm: each step goes to one that runs programs of its CPU, else to one
//! that may run them emulated, and those that would do as well share the steps.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crossdock_builder::away::order::{Package, Task};
use crossdock_builder::solver::cache::CachedStep;
use crossdock_builder::{Chain, Elsewhere, Environment, ErrorKind, MadeHere, StepId};
use crossdock_oci::Digest;
use crossdock_reapi::Client;

use super::machine::{Machine, Order};
use super::places::Place;
use super::{Farm, Options, lock, warn};

/// Brings a layer into the store, as [`Elsewhere::fetch`].
type Fetch = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The machines.
pub struct Workers {
    workers: Vec<Worker>,
    /// Layers that a machine has made or known, by digest: the machine's number, and how they come here.
    layers: Mutex<HashMap<Digest, (usize, Fetch)>>,
}

/// One machine.
struct Worker {
    farm: Farm,
    machine: Arc<Machine>,
    /// Steps that it executes now.
    busy: AtomicUsize,
}

/// A machine that may execute a step.
struct Candidate {
    number: usize,
    client: Arc<Client>,
    place: Place,
    order: Order,
}

/// Counts a step as long as a machine executes it.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(count: &'a AtomicUsize) -> Busy<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Busy(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Machines that nobody has called yet.
    ///
    /// # Errors
    ///
    /// As [`Farm::new`].
    pub fn new(machines: Vec<Machine>, wait: std::time::Duration) -> anyhow::Result<Workers> {
        let worker = |machine: Machine| -> anyhow::Result<Worker> {
            let machine = Arc::new(machine);
            let farm = Farm::new(Options::of_machine(machine.clone(), wait))?;
            Ok(Worker { farm, machine, busy: AtomicUsize::new(0) })
        };
        let workers = machines.into_iter().map(worker).collect::<anyhow::Result<_>>()?;
        Ok(Workers { workers, layers: Mutex::default() })
    }

    /// Calls all machines at once; those that were called before answer at once.
    fn all<T: Send>(&self, call: impl Fn(&Worker) -> T + Sync) -> Vec<T> {
        if let [only] = &self.workers[..] {
            return vec![call(only)];
        }
        std::thread::scope(|scope| {
            let calls: Vec<_> = self.workers.iter().map(|worker| scope.spawn(|| call(worker))).collect();
            let joined = calls.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }

    /// Remembers where the layer of a result is.
    fn found(&self, number: usize, made: Elsewhere) -> Elsewhere {
        let Some(layer) = &made.record.layer else { return made };
        let fetch: Fetch = made.fetch.into();
        lock(&self.layers).insert(layer.descriptor.digest.clone(), (number, fetch.clone()));
        Elsewhere { record: made.record, fetch: Box::new(move || fetch()), is_here: made.is_here }
    }

    /// The best machine for a step but those that were tried, and counts the step as its. Of the layers
    /// `below` the step those that are `absent` are not here yet.
    fn choose(
        &self,
        (env, task): (&Environment<'_>, &Task<'_>),
        has_emulator: bool,
        (below, absent): (&[Digest], &[Digest]),
        tried: &[usize],
    ) -> Option<(Candidate, Busy<'_>)> {
        let clients = self.all(|worker| worker.farm.client(env));
        // Nobody else chooses meanwhile: two steps would both take the machine that has least to do.
        let layers = lock(&self.layers);
        let mut best: Option<Candidate> = None;
        for (number, (worker, client)) in self.workers.iter().zip(clients).enumerate() {
            let place = worker.machine.place(task.platform, has_emulator);
            let (Some(client), Some((place, is_native))) = (client, place) else { continue };
            let is_elsewhere =
                |digest: &&Digest| layers.get(*digest).is_some_and(|(owner, _)| *owner != number);
            let order = Order {
                is_emulated: !is_native,
                fetches: absent.iter().filter(is_elsewhere).count(),
                load: worker.machine.load(worker.busy.load(Ordering::Relaxed)),
                sends: below.iter().filter(is_elsewhere).count(),
            };
            if !tried.contains(&number) && best.as_ref().is_none_or(|best| order < best.order) {
                best = Some(Candidate { number, client, place, order });
            }
        }
        best.map(|best| {
            let busy = Busy::new(&self.workers[best.number].busy);
            (best, busy)
        })
    }

    /// Brings the layers here that a machine lacks and only others have.
    fn bring(&self, number: usize, absent: &[Digest]) -> Result<(), String> {
        for digest in absent {
            let known = lock(&self.layers).get(digest).cloned();
            if let Some((owner, fetch)) = known
                && owner != number
            {
                fetch()?;
            }
        }
        Ok(())
    }

    /// Executes a package on the first of the machines that takes it.
    fn execute(
        &self,
        env: &Environment<'_>,
        task: &Task<'_>,
        package: &Package,
        reasons: &mut Vec<String>,
    ) -> Result<Option<(Elsewhere, bool)>, ErrorKind> {
        let below = package.order.layers();
        let below: Vec<Digest> = below.iter().map(|layer| layer.descriptor.digest.clone()).collect();
        let is_absent = |digest: &&Digest| !env.store.blob_path(digest).is_file();
        let absent: Vec<Digest> = below.iter().filter(is_absent).cloned().collect();
        let has_emulator = matches!(package.emulator, Ok(Some(_)));
        let mut tried = Vec::new();
        loop {
            // Chosen anew each time: others may have more to do by now.
            let Some((chosen, _busy)) = self.choose((env, task), has_emulator, (&below, &absent), &tried)
            else {
                return Ok(None);
            };
            let Candidate { number, client, place, .. } = chosen;
            tried.push(number);
            let worker = &self.workers[number];
            if let Err(error) = self.bring(number, &absent) {
                reasons.push(format!("{}: a layer below it cannot be had: {error}", place.name));
                continue;
            }
            if let Some((made, is_known)) =
                worker.farm.take((env, &client), task, package, &place, reasons)?
            {
                return Ok(Some((self.found(number, made), is_known)));
            }
        }
    }
}

impl crossdock_builder::Farm for Workers {
    fn ask(&self, env: &Environment<'_>, Chain { keys, last, are_wanted }: Chain<'_>) {
        self.all(|worker| worker.farm.ask(env, Chain { keys, last, are_wanted }));
    }

    fn is_asked(&self, key: &Digest) -> bool {
        self.workers.iter().all(|worker| worker.farm.is_down() || worker.farm.is_asked(key))
    }

    fn known(&self, env: &Environment<'_>, key: &Digest, step: StepId) -> Option<Elsewhere> {
        let mut workers = self.workers.iter().enumerate();
        let (number, known) =
            workers.find_map(|(number, worker)| Some((number, worker.farm.known(env, key, step)?)))?;
        Some(self.found(number, known))
    }

    fn carry_out(
        &self,
        env: &Environment<'_>,
        task: &Task<'_>,
    ) -> Result<Option<(Elsewhere, bool)>, ErrorKind> {
        // What none of them can run is not packed for them.
        let is_reached = self.all(|worker| worker.farm.client(env).is_some());
        let host = crossdock_platform::Platform::host();
        let may_run = |worker: &Worker| worker.machine.runs(task.platform) || worker.machine.runs(&host);
        if !self.workers.iter().zip(is_reached).any(|(worker, is_reached)| is_reached && may_run(worker)) {
            return Ok(None);
        }
        let package = (task.package)()?;
        let mut reasons = Vec::new();
        let done = self.execute(env, task, &package, &mut reasons)?;
        if done.is_none() && !reasons.is_empty() {
            warn(env, format!("{} runs here: {}", task.name, reasons.join("; ")));
        }
        Ok(done)
    }

    fn key_of(&self, env: &Environment<'_>, under: &Digest, step: StepId) -> Option<Digest> {
        self.workers.iter().find_map(|worker| worker.farm.key_of(env, under, step))
    }

    fn share(&self, env: &Environment<'_>, made: MadeHere<'_>) {
        let MadeHere { under, key, is_sent, .. } = made;
        for worker in self.workers.iter().filter(|worker| worker.farm.is_connected()) {
            worker.farm.share(env, MadeHere { under, key, record: made.record.clone(), is_sent });
            // All are asked, so one is told; but a layer that is not sent may get to any of them.
            if is_sent {
                return;
            }
        }
    }

    fn share_chain(&self, env: &Environment<'_>, last: &Digest, steps: Vec<CachedStep>) {
        for worker in self.workers.iter().filter(|worker| worker.farm.is_connected()) {
            worker.farm.share_chain(env, last, steps.clone());
        }
    }

    fn settle(&self, env: &Environment<'_>) {
        self.workers.iter().for_each(|worker| worker.farm.settle(env));
    }

    fn cancel_all(&self) {
        self.workers.iter().for_each(|worker| worker.farm.cancel_all());
    }
}
