//! A Dockerfile under way: the engine, the stage runs that are needed, and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossdock_dockerfile::Dockerfile;
use crossdock_dockerfile::instruction::{Instruction, Kind};

use super::names::{Names, TRIGGERS_MAX};
use super::request::BuildRequest;
use super::state::State;
use crate::error::ErrorKind;
use crate::files::stat_cache::StatCache;
use crate::solver::engine::Engine;
use crate::solver::flights::Promise;

/// The end of a stage run; `None` if it or another one failed.
pub(crate) type StagePromise = Promise<Option<Arc<State>>>;

/// A stage and a platform, both by index.
pub(crate) type RunKey = (usize, usize);

/// The build of a Dockerfile.
pub(crate) struct Plan<'a> {
    pub engine: Engine<'a>,
    pub request: &'a BuildRequest,
    pub file: Dockerfile,
    /// Index of the stage that becomes the images. No other stage needs it.
    pub target: usize,
    pub stat_cache: Option<StatCache>,
    /// Memory that the configurations of all stages take, in bytes.
    pub weight: Arc<AtomicUsize>,
    /// The stage runs whose layers are in the images.
    in_image: BTreeSet<RunKey>,
    /// ONBUILD triggers run so far.
    triggers: AtomicUsize,
    /// Arguments that these triggers declared.
    triggered: Mutex<BTreeSet<String>>,
    stages: BTreeMap<RunKey, Arc<StagePromise>>,
    /// Stages that only an ONBUILD trigger of a base image needs, found during the build.
    late: Mutex<BTreeMap<RunKey, Arc<StagePromise>>>,
}

impl<'a> Plan<'a> {
    /// A plan of the stage runs that are known to be needed.
    pub fn new(
        engine: Engine<'a>,
        request: &'a BuildRequest,
        (file, target): (Dockerfile, usize),
        stat_cache: Option<StatCache>,
        runs: impl IntoIterator<Item = RunKey>,
        in_image: BTreeSet<RunKey>,
    ) -> Plan<'a> {
        Plan {
            engine,
            request,
            file,
            target,
            stat_cache,
            weight: Arc::default(),
            in_image,
            triggers: AtomicUsize::new(0),
            triggered: Mutex::default(),
            stages: runs.into_iter().map(|run| (run, Arc::default())).collect(),
            late: Mutex::default(),
        }
    }

    /// The meaning of names in the Dockerfile.
    pub fn names(&self) -> Names<'_> {
        Names { file: &self.file, contexts: &self.request.contexts }
    }

    /// Whether the layers of a stage run are in the images.
    pub fn is_in_image(&self, run: RunKey) -> bool {
        self.in_image.contains(&run)
    }

    /// The promise of a stage run, and whether it is new: then the caller must keep it.
    pub fn promise(&self, run: RunKey) -> (Arc<StagePromise>, bool) {
        if let Some(promise) = self.stages.get(&run) {
            return (promise.clone(), false);
        }
        let mut is_new = false;
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let promise = late.entry(run).or_insert_with(|| {
            is_new = true;
            Arc::default()
        });
        (promise.clone(), is_new)
    }

    /// Waits for the end of a stage run; `None` if it or another one failed.
    pub fn state(&self, run: RunKey) -> Option<Arc<State>> {
        self.promise(run).0.wait()
    }

    /// The stages besides the target that were needed for a platform, in the order of the Dockerfile.
    pub fn others(&self, platform: usize) -> BTreeSet<usize> {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = self.stages.keys().chain(late.keys());
        let others = runs.filter(|(index, of)| *of == platform && *index != self.target);
        others.map(|(index, _)| *index).collect()
    }

    /// Notes what a trigger declares.
    pub fn note_trigger(&self, instruction: &Instruction) {
        if let Kind::Arg(definitions) = &instruction.kind {
            let mut all = self.triggered.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(definitions.iter().map(|definition| definition.name.clone()));
        }
    }

    /// The names of the arguments that triggers have declared so far.
    pub fn arguments_of_triggers(&self) -> BTreeSet<String> {
        self.triggered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts triggers that are about to run.
    ///
    /// # Errors
    ///
    /// More than [`TRIGGERS_MAX`] in the whole build.
    pub fn count_triggers(&self, count: usize) -> Result<(), ErrorKind> {
        let all = self.triggers.fetch_add(count, Ordering::Relaxed) + count;
        if all > TRIGGERS_MAX {
            let message = format!("more than {TRIGGERS_MAX} ONBUILD triggers run in this build, the limit");
            return Err(ErrorKind::Dockerfile(message));
        }
        Ok(())
    }
}
