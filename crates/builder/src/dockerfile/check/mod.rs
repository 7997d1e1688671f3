//! What can be said of a Dockerfile without building it.

pub mod outline;
pub mod rules;
