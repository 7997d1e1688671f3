//! Builds images: Dockerfile, context and platforms in, images and an index out; or a graph of LLB.
//!
//! The design is in `docs/dev/build.md`: stage runs as threads, steps with digests, layers packed in the
//! background.

#![forbid(unsafe_code)]

pub mod away;
mod command;
pub mod devices;
pub mod dockerfile;
pub mod error;
pub mod event;
pub mod failed;
pub mod files;
pub mod git;
pub mod llb;
mod result;
pub mod secrets;
pub mod solver;

pub use command::{container, mount};
pub use dockerfile::request::{BuildRequest, NamedContext};
pub use dockerfile::{build, make, source_date_epoch};
pub use error::{BuildError, ErrorKind};
pub use event::{Event, Events, Miss, Silent, StepId, StepInfo, Wait};
pub use git::{without_password, without_passwords};
pub use result::{Built, BuiltImage, Made, MadeImage, Scans};
pub use secrets::{Given, Secret, Secrets};
pub use solver::environment::{Chain, Elsewhere, Environment, Farm, Images, MadeHere};
pub use solver::flights::Shared;
pub use solver::layer::{Base, Layer, Packed, Record};
pub use solver::stop::{LayerSink, Stop};
pub use solver::{Settings, StepOptions};
