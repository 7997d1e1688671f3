//! How a farm is reached.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossdock_registry::Secret;

use crate::address::Address;

/// How a farm is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// Headers of every request, such as `authorization`; their values are secret.
    pub headers: Vec<(String, Secret)>,
    /// A file with certificates (PEM) of authorities that are trusted instead of the machine's.
    pub authority: Option<PathBuf>,
    /// What this client proves its identity with.
    pub identity: Option<Identity>,
    /// How often a request is repeated.
    pub retries: u32,
    /// How long an answer may take, and how long a stream of bytes may pause.
    pub patience: Duration,
    /// Version of the program, which servers write into their logs.
    pub version: String,
    /// Reaches the farm instead of the network; the address is then of no use.
    pub dial: Option<Dial>,
}

/// A way to a farm: another program's pipes, for example.
#[derive(Clone)]
pub struct Dial {
    /// The farm, for messages.
    pub name: String,
    /// Opens a connection: a pipe to read from, and one to write to. The error is for people.
    pub open: Arc<dyn Fn() -> io::Result<(OwnedFd, OwnedFd)> + Send + Sync>,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A client's certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// File with the certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// File with the private key, PEM.
    pub key: PathBuf,
}

impl Settings {
    /// A farm that is reached without more than its address.
    pub fn new(address: Address) -> Settings {
        Settings {
            address,
            headers: Vec::new(),
            authority: None,
            identity: None,
            retries: 6,
            patience: Duration::from_secs(60),
            version: env!("CARGO_PKG_VERSION").to_string(),
            dial: None,
        }
    }
}
