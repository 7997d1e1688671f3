//! Builds images: Dockerfile, context and platforms in, images and an index out.
//!
//! The design is in `docs/dev/build.md`: stage runs as threads, steps with digests, layers packed in the
//! background.

#![forbid(unsafe_code)]

mod agent;
mod archive;
mod beside;
pub mod cache;
pub mod chmod;
pub mod copy;
mod engine;
pub mod error;
pub mod event;
pub mod git;
mod graph;
mod image;
pub mod key;
pub mod lint;
pub mod llb;
pub mod outline;
pub mod request;
mod run_step;
pub mod scope;
pub mod secrets;
mod sink;
mod stage;
mod stages;
pub mod stat_cache;
mod state;
mod sync;
mod transfer;
pub mod tree;
pub mod view;

pub use engine::{Environment, Images};
pub use error::{BuildError, ErrorKind};
pub use event::{Event, Events, Miss, Silent, StepId, StepInfo, Wait};
pub use image::{Built, BuiltImage, build};
pub use request::{BuildRequest, NamedContext, StepOptions};
pub use secrets::{Given, Secret, Secrets};
pub use sink::{LayerSink, Stop};
pub use stages::source_date_epoch;
pub use state::{Base, Packed, Record};
pub use sync::Shared;
pub use transfer::{without_password, without_passwords};
