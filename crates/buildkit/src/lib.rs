//! BuildKit's API in front of crossdock's builder, so that `docker buildx`, `buildctl`,
//! `docker compose build` and every tool that speaks to a BuildKit daemon can use it.
//!
//! The design is in `docs/dev/buildkit.md`. Async code ends at the border of [`job`]: builds are threads.

#![forbid(unsafe_code)]

mod blobs;
mod bridge;
mod caps;
mod container;
mod containers;
mod content;
mod control;
mod debug;
mod definition;
mod export;
mod failure;
mod filters;
mod frontend;
mod health;
mod history;
mod house;
mod identifiers;
mod image;
mod imports;
mod job;
mod mounts;
mod policy;
mod results;
mod server;
mod session;
mod solve;
mod sources;
mod status;
mod surroundings;
mod threads;
mod transport;
mod usage;

pub use house::{Desk, Login};
pub use server::Server;
pub use transport::{Listen, TlsFiles, dial_stdio, serve};
