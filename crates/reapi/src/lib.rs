//! A client of engines that speak the Remote Execution API v2 (REAPI; bazelbuild/remote-apis,
//! `build/bazel/remote/execution/v2/remote_execution.proto`): capabilities, blobs, the action cache, and
//! executions.
//!
//! Knows neither images nor steps. Functions block; what is asynchronous stays inside. The design is in
//! `docs/dev/farm.md`.

#![forbid(unsafe_code)]

mod action;
mod address;
mod blobs;
mod byte_stream;
mod cache;
mod capabilities;
mod channel;
mod client;
mod digest;
mod error;
mod execution;
mod live;
mod settings;

/// The messages and services of the API.
pub use bazel_remote_apis as api;

pub use action::{Action, Command, InputRoot};
pub use address::Address;
pub use blobs::{Blob, Content};
pub use cache::{ActionResult, OutputFile, Told};
pub use capabilities::Capabilities;
pub use channel::check;
pub use client::Client;
pub use digest::Digest;
pub use error::FarmError;
pub use execution::{Execution, Policy, Stage};
pub use settings::{Dial, Identity, Settings};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, FarmError>;
