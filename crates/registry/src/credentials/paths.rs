//! The location of Docker's configuration.

use std::path::PathBuf;

use crate::environment::Environment;

/// Docker's `config.json`.
pub(super) fn docker_config(environment: &Environment) -> Option<PathBuf> {
    let directory = environment.docker_config.clone();
    let directory = directory.or_else(|| Some(environment.home.as_ref()?.join(".docker")))?;
    Some(directory.join("config.json"))
}
