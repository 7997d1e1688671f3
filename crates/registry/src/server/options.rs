//! Settings of a server.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::auth::AuthOptions;
use super::proxy::ProxyOptions;
use super::tls::TlsFiles;
use super::watched::Notice;
use super::{access_log, faults};
use crate::error::{Error, Result};

/// Settings of a server.
#[derive(Clone)]
pub struct ServerOptions {
    /// Who may do what.
    pub auth: AuthOptions,
    /// Clients cannot change anything.
    pub read_only: bool,
    /// Nothing is told about the registry as a whole: no catalog, health or metrics. Who knows no name of a
    /// repository finds none.
    pub unlisted: bool,
    /// An existing tag is neither moved nor removed.
    pub immutable_tags: bool,
    /// Manifests and indexes are accepted even if some of what they name is not in the repository.
    pub sparse: bool,
    /// Content is synced to the disk before it is acknowledged. Without this, a power failure may lose
    /// content; a killed process loses none.
    pub sync: bool,
    /// A client that takes or sends less than a kilobyte per second for this long is dropped.
    pub stall: Duration,
    /// Most connections from one address (from one /64 of IPv6). `None` means 1000, and no limit for this
    /// machine, where a reverse proxy may run.
    pub connections_per_address: Option<usize>,
    /// Uploads that nobody touched for this long are dropped.
    pub upload_expiry: Duration,
    /// The registry that this one caches; a cache takes no changes.
    pub proxy: Option<ProxyOptions>,
    /// TLS; `None` means plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Receives a line per request.
    pub access_log: Option<LogOutput>,
    /// Receives what the operator should know while the server runs.
    pub notice: Notice,
    /// Spoils requests, for tests.
    pub faults: Option<faults::Hook>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            auth: AuthOptions::None,
            read_only: false,
            unlisted: false,
            immutable_tags: false,
            sparse: false,
            sync: true,
            stall: Duration::from_secs(60),
            connections_per_address: None,
            upload_expiry: Duration::from_secs(24 * 3600),
            proxy: None,
            tls: None,
            access_log: None,
            notice: Arc::new(|_| {}),
            faults: None,
        }
    }
}

/// Where the lines of a log go. Clones share the output; the first server takes it.
#[derive(Clone)]
pub struct LogOutput(Arc<Mutex<Option<Box<dyn Write + Send>>>>);

impl LogOutput {
    /// Writes the lines to `output`.
    pub fn new(output: impl Write + Send + 'static) -> LogOutput {
        LogOutput(Arc::new(Mutex::new(Some(Box::new(output)))))
    }

    /// A file that lines are appended to. If it was renamed or removed, a new file is begun under its name.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the file cannot be opened.
    pub fn file(path: &Path) -> Result<LogOutput> {
        Ok(LogOutput::new(access_log::LogFile::open(path).map_err(Error::io(path))?))
    }

    pub(super) fn open(self) -> Box<dyn Write + Send> {
        let output = self.0.lock().unwrap_or_else(|e| e.into_inner()).take();
        output.unwrap_or_else(|| Box::new(std::io::sink()))
    }
}
