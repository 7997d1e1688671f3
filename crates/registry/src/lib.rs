//! Moves images between a registry and a store, and serves a registry from a directory.
//!
//! - [`client`]: the endpoints of the OCI distribution specification 1.1, with authentication, retries and
//!   resumption; and the services that keep caches of builds: that of GitHub Actions, and buckets of S3;
//! - [`credentials`]: user names and passwords as Docker and Podman keep them, `login` and `logout`;
//! - [`hosts`]: `registries.conf` and `certs.d`;
//! - [`transfer`]: whole images between a registry and a store;
//! - [`server`]: the embedded registry.
//!
//! `docs/dev/registry.md` explains the design. This room knows neither builds nor the command line, and reads
//! no environment variable by itself (see [`Environment`]).

#![forbid(unsafe_code)]

pub mod client;
pub mod credentials;
mod environment;
mod error;
pub mod hosts;
mod percent;
mod progress;
mod secret;
pub mod server;
pub mod transfer;

pub use client::{Client, ClientOptions};
pub use credentials::{Credential, Credentials};
pub use environment::Environment;
pub use error::{Answer, Error, Result};
pub use progress::{Direction, NoProgress, Outcome, Progress};
pub use secret::Secret;
