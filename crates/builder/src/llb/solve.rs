//! Runs the operations of a graph on threads, and makes an image of the result.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossdock_dockerfile::Lines;
use crossdock_oci::ImageConfig;
use crossdock_oci::config::History;
use crossdock_platform::Platform;

use super::graph::{Edge, Graph, Kind, Op};
use super::solving::{Current, Outputs, Solving, Value};
use crate::error::{BuildError, ErrorKind};
use crate::event::{Event, StepInfo};
use crate::result::{self, MadeImage};
use crate::solver::cache::StepCache;
use crate::solver::engine::{Engine, rfc3339};
use crate::solver::environment::Environment;
use crate::solver::flights::Promise;
use crate::solver::layer::{Base, Layer};
use crate::solver::settings::Settings;

/// Threads that operations share. Most of them wait.
const THREADS_MAX: usize = 64;

/// Solves a graph; the result is an image for `platform`, not yet written, whose configuration says nothing
/// but the platform.
///
/// # Errors
///
/// An operation uses a later one; an operation fails.
pub fn solve(
    env: &Environment<'_>,
    settings: &Settings,
    graph: &Graph,
    platform: &Platform,
) -> Result<(MadeImage, StepCache), BuildError> {
    let used = used_outputs(graph)?;
    let engine = Engine::new(env, settings);
    let needed: Vec<usize> = (0..graph.ops.len()).filter(|op| !used[*op].is_empty()).collect();
    env.events.event(Event::Planned { steps: needed.len() });
    let promises: Vec<Promise<Outputs>> = graph.ops.iter().map(|_| Promise::new()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        let (engine, promises, needed, used, next) = (&engine, &promises[..], &needed, &used, &next);
        // Operations begin in order and need only earlier ones, so the earliest under way never waits for one
        // that has not begun, however few threads there are.
        let work = move || {
            let solving = Solving { engine, threads, graph, promises };
            while let Some(op) = needed.get(next.fetch_add(1, Ordering::Relaxed)) {
                keep_promise(&solving, *op, &used[*op]);
            }
        };
        for _ in 1..needed.len().min(THREADS_MAX) {
            if std::thread::Builder::new().spawn_scoped(threads, work).is_err() {
                break;
            }
        }
        work();
        // The result must be in layers before the packing threads end.
        let solving = Solving { engine, threads, graph, promises };
        finish(&solving)
    })
    .map(|value| assemble(settings, &value, platform))
    .map_err(|error| engine.failure().unwrap_or(error))
    .map(|image| (image, engine.steps_made()))
}

/// The outputs of each operation that lead to the result.
fn used_outputs(graph: &Graph) -> Result<Vec<BTreeSet<usize>>, ErrorKind> {
    let mut used = vec![BTreeSet::new(); graph.ops.len()];
    let mut note = |edge: &Edge, before: usize| match edge.op < before {
        true => {
            used[edge.op].insert(edge.output);
            Ok(!used[edge.op].is_empty())
        }
        false => Err(ErrorKind::Dockerfile("an operation uses one that does not come before it".to_string())),
    };
    if let Some(edge) = &graph.result {
        note(edge, graph.ops.len())?;
    }
    let mut needed: BTreeSet<usize> = graph.result.iter().map(|edge| edge.op).collect();
    while let Some(op) = needed.pop_last() {
        for edge in graph.ops[op].inputs() {
            note(&edge, op)?;
            needed.insert(edge.op);
        }
    }
    Ok(used)
}

/// Runs an operation and keeps the promise of its outputs.
fn keep_promise(solving: &Solving<'_, '_, '_>, op: usize, used: &BTreeSet<usize>) {
    /// Keeps the promise even if the operation panics, so that nobody waits forever.
    struct Keep<'a>(&'a Promise<Outputs>, Outputs);
    impl Drop for Keep<'_> {
        fn drop(&mut self) {
            self.0.keep(self.1.take());
        }
    }
    let mut keep = Keep(&solving.promises[op], None);
    let engine = solving.engine;
    if engine.check_cancelled().is_err() {
        return;
    }
    let op = &solving.graph.ops[op];
    // An operation is announced once its inputs are there: it has nothing to show before.
    if op.inputs().into_iter().any(|input| solving.promises[input.op].wait().is_none()) {
        return;
    }
    let (step, started) = engine.announce(info(op));
    let is_command = !matches!(op.kind, Kind::Source(_));
    let current = Current { op, step, is_cached: std::cell::Cell::new(is_command) };
    match run(solving, &current, used) {
        Ok(outputs) => {
            engine.finish(step, started, current.is_cached.get());
            keep.1 = Some(Arc::new(outputs));
        }
        Err(error) => {
            engine.give_up(step, &error);
            if !matches!(error, ErrorKind::Cancelled) {
                engine.fail(BuildError { kind: error, lines: op.lines, platform: None });
            }
        }
    }
}

fn info(op: &Op) -> StepInfo {
    StepInfo {
        name: op.name.clone(),
        command: op.name.clone(),
        stage: String::new(),
        platform: op.platform.clone(),
        target: op.platform.clone(),
        is_emulated: matches!(op.kind, Kind::Exec(_)) && !op.platform.is_native(),
        lines: Lines::default(),
    }
}

fn run(
    solving: &Solving<'_, '_, '_>,
    current: &Current<'_>,
    used: &BTreeSet<usize>,
) -> Result<BTreeMap<usize, Value>, ErrorKind> {
    let only = |value: Value| BTreeMap::from([(0, value)]);
    Ok(match &current.op.kind {
        Kind::Source(source) => {
            let value = solving.source(current, source)?;
            solving.keyed(current, &value.digest, &[]);
            only(Value { made_by: Some(current.step), ..value })
        }
        Kind::Exec(exec) => solving.exec(current, exec, used)?,
        Kind::File(file) => only(solving.file(current, file)?),
        Kind::Merge(inputs) => {
            let inputs = inputs.iter().map(|input| solving.value(*input)).collect::<Result<_, _>>()?;
            only(solving.merge(current, inputs)?)
        }
        Kind::Diff { lower, upper } => {
            only(solving.diff(current, solving.value(*lower)?, solving.value(*upper)?)?)
        }
    })
}

/// The wanted tree, in layers.
fn finish(solving: &Solving<'_, '_, '_>) -> Result<Value, BuildError> {
    let value = solving.value(solving.graph.result)?;
    if value.directory.is_none() {
        return Ok(value);
    }
    let edge = solving.graph.result.expect("an empty tree is no directory");
    let op = &solving.graph.ops[edge.op];
    let (step, started) = solving.engine.announce(info(op));
    let current = Current { op, step, is_cached: std::cell::Cell::new(true) };
    match solving.layered(&current, &value) {
        Ok(value) => {
            solving.engine.finish(step, started, current.is_cached.get());
            Ok(value)
        }
        Err(error) => {
            solving.engine.give_up(step, &error);
            Err(error.into())
        }
    }
}

/// Makes an image of the result.
fn assemble(settings: &Settings, value: &Value, platform: &Platform) -> MadeImage {
    let mut config = ImageConfig {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        ..ImageConfig::default()
    };
    config.history = value
        .layers
        .iter()
        .map(|made| History {
            created: made.created.clone(),
            created_by: Some(made.created_by.clone()),
            author: None,
            comment: Some("crossdock".to_string()),
            empty_layer: None,
        })
        .collect();
    config.created = value.layers.iter().filter_map(|made| made.created.clone()).max();
    if let Some(seconds) = settings.source_date_epoch {
        result::clamp(&mut config, &rfc3339(seconds));
    }
    let layers: Vec<Layer> = value.layers.iter().map(|made| made.layer.clone()).collect();
    MadeImage::new(settings, config, (layers, Base::default()), platform)
}
