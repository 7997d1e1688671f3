//! Builds a Dockerfile: stage runs on threads, over the solver's steps.

mod base;
pub mod check;
mod metadata;
pub mod names;
mod origin;
pub mod paths;
mod plan;
pub mod request;
mod run;
pub mod scope;
mod stage;
mod stages;
mod state;
mod transfer;
mod values;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crossdock_dockerfile::parser;
use crossdock_oci::error::StoreError;
use crossdock_platform::Platform;

use crate::error::{BuildError, ErrorKind};
use crate::event::Event;
use crate::result::{Built, Made, MadeImage, Scans, clamp};
use crate::solver::engine::{Attempt, rfc3339};
use crate::solver::environment::Environment;
use request::BuildRequest;
use state::State;

pub use stages::source_date_epoch;
pub use values::signal_number;

/// Refuses a Dockerfile that is written for another frontend, by `# syntax=` or the build argument
/// `BUILDKIT_SYNTAX`: its text means something else.
///
/// # Errors
///
/// The name of that frontend, at the line of the directive.
pub fn check_frontend(request: &BuildRequest) -> Result<(), BuildError> {
    let given = request.build_args.get("BUILDKIT_SYNTAX").map(String::as_str);
    match parser::other_frontend(&request.dockerfile, given) {
        None => Ok(()),
        Some((name, lines)) => {
            let error = BuildError::from(ErrorKind::Dockerfile(unknown_frontend(&name)));
            Err(BuildError { lines, ..error })
        }
    }
}

/// Why another frontend is not run.
pub fn unknown_frontend(name: &str) -> String {
    format!(
        "the frontend {name} is not run: this builder has its own for Dockerfiles, dockerfile.v0, which needs no image"
    )
}

/// Builds the images and leaves them in the store, without names.
pub fn build(env: &Environment<'_>, request: &BuildRequest) -> Result<Built, BuildError> {
    attempts(env, request, &|env, Made { images, steps, scans }| {
        let images = images.iter().map(|image| image.write(env.store)).collect::<Result<_, _>>()?;
        let mut built = Built { images, index: None, steps, scans };
        if built.images.len() != 1 {
            built.make_index(env.store).map_err(ErrorKind::from)?;
        }
        Ok(built)
    })
}

/// Builds what images are made of, and writes none.
pub fn make(env: &Environment<'_>, request: &BuildRequest) -> Result<Made, BuildError> {
    attempts(env, request, &|_, made| Ok(made))
}

/// What is done with a result. An attempt is over when this is done.
type Finish<'a, T> = &'a dyn Fn(&Environment<'_>, Made) -> Result<T, BuildError>;

fn attempts<T>(
    env: &Environment<'_>,
    request: &BuildRequest,
    finish: Finish<'_, T>,
) -> Result<T, BuildError> {
    let attempt = Arc::new(Attempt::default());
    let error = match attempt_to_build(env, request, attempt.clone(), finish) {
        Err(error) => error,
        built => return built,
    };
    let lost = std::mem::take(&mut *attempt.lost.lock().unwrap_or_else(PoisonError::into_inner));
    let reason = match &error.kind {
        // It ran over layers that were verified.
        ErrorKind::Command { .. } => None,
        // A layer is unpacked only when somebody needs its files.
        ErrorKind::Store(
            StoreError::Layer { .. } | StoreError::CorruptBlob { .. } | StoreError::MissingBlob(_),
        ) => Some(error.to_string()),
        _ => lost.into_iter().next(),
    };
    let Some(reason) = reason.filter(|_| !env.stop.is_set()) else { return Err(error) };
    let message = format!("the build begins again, since a layer cannot be had: {reason}");
    env.events.event(Event::Warning { message, lines: None });
    let steps = attempt.steps.load(Ordering::SeqCst).into();
    let attempt = Arc::new(Attempt { is_wary: true, steps, ..Attempt::default() });
    attempt_to_build(env, request, attempt, finish)
}

/// Builds as [`build`] does. An attempt that fails does not end the whole.
fn attempt_to_build<T>(
    env: &Environment<'_>,
    request: &BuildRequest,
    attempt: Arc<Attempt>,
    finish: Finish<'_, T>,
) -> Result<T, BuildError> {
    let env = &Environment { stop: env.stop.part(), ..*env };
    let (results, steps) = stages::run(env, request, attempt)?;
    let (mut images, mut scans) = (Vec::new(), Vec::new());
    for (result, platform) in results.iter().zip(&request.settings.platforms) {
        images.push(assemble(request, &result.target, platform));
        let scanned = result.scanned.iter();
        let stages = scanned.map(|(name, state)| (name.clone(), assemble(request, state, platform)));
        scans.push(Scans { stages: stages.collect(), has_context: result.is_context_scanned });
    }
    finish(env, Made { images, steps, scans })
}

fn assemble(request: &BuildRequest, state: &State, platform: &Platform) -> MadeImage {
    let mut config = state.config.clone();
    config.config.env = state.env.entries().to_vec();
    metadata::add_labels(&mut config, &request.labels);
    if let Some(seconds) = request.settings.source_date_epoch {
        clamp(&mut config, &rfc3339(seconds));
    }
    MadeImage::new(&request.settings, config, (state.layers.clone(), state.base), platform)
}
