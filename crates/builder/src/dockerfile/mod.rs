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

use std::sync::Arc;

use crossdock_platform::Platform;

use crate::error::{BuildError, ErrorKind};
use crate::result::{Built, BuiltImage, clamp, write};
use crate::solver::engine::rfc3339;
use crate::solver::environment::Environment;
use request::BuildRequest;
use state::State;

pub use stages::source_date_epoch;
pub use values::signal_number;

/// Builds the images and leaves them in the store, without names.
pub fn build(env: &Environment<'_>, request: &BuildRequest) -> Result<Built, BuildError> {
    let (states, steps) = stages::run(env, request)?;
    let mut images = Vec::new();
    for (state, platform) in states.iter().zip(&request.settings.platforms) {
        images.push(assemble(env, request, state, platform)?);
    }
    let mut built = Built { images, index: None, steps };
    if built.images.len() != 1 {
        built.make_index(env.store).map_err(ErrorKind::from)?;
    }
    Ok(built)
}

fn assemble(
    env: &Environment<'_>,
    request: &BuildRequest,
    state: &Arc<State>,
    platform: &Platform,
) -> Result<BuiltImage, BuildError> {
    let mut config = state.config.clone();
    config.config.env = state.env.entries().to_vec();
    metadata::add_labels(&mut config, &request.labels);
    if let Some(seconds) = request.settings.source_date_epoch {
        clamp(&mut config, &rfc3339(seconds));
    }
    write(env, &request.settings, config, (&state.layers, state.base), platform)
}
