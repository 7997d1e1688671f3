//! From a Dockerfile to the stage runs that its target needs, on threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossdock_dockerfile::Dockerfile;
use crossdock_platform::Platform;

use super::names::{Names, Origin};
use super::plan::Plan;
use super::request::BuildRequest;
use super::scope::Scope;
use super::stage::{base_name, keep_promise, makes_layer};
use super::state::State;
use crate::error::{BuildError, ErrorKind};
use crate::event::Event;
use crate::files::stat_cache::StatCache;
use crate::solver::cache::StepCache;
use crate::solver::engine::{Attempt, Engine};
use crate::solver::environment::Environment;

/// Threads that stage runs share. A waiting thread costs little, but not nothing.
const STAGE_THREADS_MAX: usize = 64;

/// The ARG that asks for lists of packages of stages.
const SCAN_STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";
/// The ARG of the target stage that asks for a list of packages of the build context.
const SCAN_CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";

/// What came of the stages for one platform.
pub(crate) struct OfPlatform {
    /// The final state of the target stage.
    pub target: Arc<State>,
    /// The final states of other stages that lists of packages are about, by their names.
    pub scanned: Vec<(String, Arc<State>)>,
    /// Whether a list of packages is about the build context.
    pub is_context_scanned: bool,
}

/// The results of the stages, one per requested platform, in order; and all steps that lead to them.
pub(crate) fn run(
    env: &Environment<'_>,
    request: &BuildRequest,
    attempt: Arc<Attempt>,
) -> Result<(Vec<OfPlatform>, StepCache), BuildError> {
    let file = Dockerfile::parse(&request.dockerfile)?;
    let names = Names { file: &file, contexts: &request.contexts };
    let target = names.target(request.target.as_deref())?;
    let build_platform = Platform::host();
    let scopes = global_scopes(request, &file, &build_platform)?;
    let (mut base_names, mut in_image) = (BTreeMap::new(), BTreeSet::new());
    for (platform, scope) in scopes.iter().enumerate() {
        let base_of = |index: usize| base_name(&file, scope, index);
        for index in names.needed(target, &base_of)? {
            base_names.insert((index, platform), base_of(index)?);
        }
        in_image.extend(names.built_on(target, &base_of)?.into_iter().map(|index| (index, platform)));
    }
    // The path of a context fetched into the store is never used again.
    let fetched = std::fs::canonicalize(env.store.root().join("tmp")).ok();
    let is_kept =
        |context: &&std::path::PathBuf| fetched.as_ref().is_none_or(|tmp| !context.starts_with(tmp));
    let context = request.context.as_ref().filter(is_kept);
    let stat_cache = context.map(|context| StatCache::open(&env.store.root().join("statcache"), context));
    let engine = Engine::of_attempt(env, &request.settings, attempt);
    let plan = Plan::new(engine, request, (file, target), stat_cache, base_names.keys().copied(), in_image);
    env.events.event(Event::Planned { steps: planned(&plan, &base_names)? });
    let runs: Vec<_> = base_names.iter().collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        let (plan, runs, next, scopes) = (&plan, &runs, &next, &scopes);
        // Runs begin in order. A stage needs only earlier ones, so the earliest run under way never waits for
        // one that has not begun, however few threads there are. This thread works, too, and is enough if no
        // other can start.
        let work = move || {
            while let Some((key, base)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                keep_promise(plan, threads, **key, base, &scopes[key.1]);
            }
        };
        for _ in 1..runs.len().min(STAGE_THREADS_MAX) {
            if std::thread::Builder::new().spawn_scoped(threads, work).is_err() {
                break;
            }
        }
        work();
    });
    // Only now is known which arguments the triggers of base images declare.
    warn_of_unused_arguments(env, &plan, &scopes[0]);
    if let Some(cache) = &plan.stat_cache {
        // If this fails, the next build just reads the files again.
        let _ = cache.save();
    }
    let noted = plan.engine.write_notes();
    if let Some(farm) = env.farm {
        if !env.stop.is_set() {
            plan.engine.share_chains(farm);
        }
        farm.settle(env);
    }
    if let Some(error) = plan.engine.failure() {
        return Err(error);
    }
    noted?;
    let results: Result<_, _> =
        (0..request.settings.platforms.len()).map(|platform| of_platform(&plan, platform)).collect();
    Ok((results?, plan.engine.steps_made()))
}

fn of_platform(plan: &Plan<'_>, platform: usize) -> Result<OfPlatform, BuildError> {
    let state = |index| plan.state((index, platform)).ok_or(ErrorKind::Cancelled);
    let name =
        |index: usize| plan.file.stages[index].name.clone().unwrap_or_else(|| format!("stage-{index}"));
    let target = state(plan.target)?;
    let mut scanned = Vec::new();
    for index in plan.others(platform) {
        let (name, state) = (name(index), state(index)?);
        if state.scope.is_on_for(SCAN_STAGE, &name) {
            scanned.push((name, state));
        }
    }
    let is_context_scanned = target.scope.is_on_for(SCAN_CONTEXT, &name(plan.target));
    Ok(OfPlatform { target, scanned, is_context_scanned })
}

/// How many steps the stage runs announce, as far as is known before they begin.
fn planned(plan: &Plan<'_>, bases: &BTreeMap<(usize, usize), String>) -> Result<usize, BuildError> {
    let names = plan.names();
    let mut steps = 0;
    for ((index, _), base) in bases {
        let stage = &plan.file.stages[*index];
        steps += stage.instructions.iter().filter(|i| makes_layer(&i.kind)).count();
        // A base image is a step of its own; a stage or nothing as the base is none.
        let origin = names.resolve(base, *index, stage.lines)?;
        steps += usize::from(!matches!(origin, Origin::Scratch | Origin::Stage(_)));
    }
    Ok(steps)
}

/// SOURCE_DATE_EPOCH of a build: the given value, else the value of an ARG before the first FROM. `None` if
/// the Dockerfile cannot be parsed; the build then reports the error.
pub fn source_date_epoch(dockerfile: &[u8], given: &BTreeMap<String, String>) -> Option<String> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    if let Some(value) = given.get(NAME) {
        return Some(value.clone());
    }
    let file = Dockerfile::parse(dockerfile).ok()?;
    file.global_args.iter().find(|(definition, _)| definition.name == NAME)?;
    let host = Platform::host();
    let escape = file.directives.escape;
    Scope::global(given, &file.global_args, &host, &host, "default", escape).ok()?.value(NAME)
}

fn global_scopes(
    request: &BuildRequest,
    file: &Dockerfile,
    build: &Platform,
) -> Result<Vec<Scope>, BuildError> {
    let scope = |platform: &Platform| Scope::of_request(request, file, build, platform);
    request.settings.platforms.iter().map(scope).collect()
}

fn warn_of_unused_arguments(env: &Environment<'_>, plan: &Plan<'_>, scope: &Scope) {
    let file = &plan.file;
    let in_stages = file.stages.iter().flat_map(|s| &s.instructions).filter_map(|i| match &i.kind {
        crossdock_dockerfile::instruction::Kind::Arg(all) => Some(all.iter()),
        _ => None,
    });
    let declared: BTreeSet<String> = in_stages
        .flatten()
        .chain(file.global_args.iter().map(|(definition, _)| definition))
        .map(|definition| definition.name.clone())
        .chain(plan.arguments_of_triggers())
        .collect();
    for name in scope.unused(&declared) {
        let message =
            format!("build argument {name} was given, but no ARG of that name is in the Dockerfile");
        env.events.event(Event::Warning { message, lines: None });
    }
}
