//! The embedded registry: distribution specification 1.1 over a directory. Its layout on disk is explained in
//! `docs/dev/registry.md`.

mod access_log;
mod auth;
mod blobs;
mod bound;
mod cache;
mod connection;
pub mod faults;
mod garbage;
mod handler;
mod listen;
mod manifests;
mod metrics;
mod range;
mod receive;
mod reply;
mod reply_body;
mod route;
mod socket;
mod storage;
mod tls;
mod uploads;
mod watched;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::error::{Error, Result};
use connection::Gate;
use handler::Handler;
use storage::Storage;

pub use auth::{AuthFiles, AuthOptions, BearerOptions, htpasswd_line};
pub use cache::ProxyOptions;
pub use garbage::{Collected, GarbageOptions, collect_garbage};
pub use tls::TlsFiles;
pub use watched::Notice;

/// Settings of a server.
#[derive(Clone)]
pub struct ServerOptions {
    /// Who may do what.
    pub auth: AuthOptions,
    /// Nothing can be changed.
    pub read_only: bool,
    /// A tag that is there is neither moved nor removed.
    pub immutable_tags: bool,
    /// Content is synced to the disk before it is acknowledged. Without, a power failure may lose it; a
    /// killed process does not.
    pub sync: bool,
    /// A client that takes or sends less than a kilobyte per second for that long is given up.
    pub stall: Duration,
    /// Connections of one address (of one /64 of IPv6); `None` is 1000, and no limit for this machine, where
    /// a reverse proxy may be.
    pub connections_per_address: Option<usize>,
    /// Uploads that nobody touched for that long are dropped.
    pub upload_expiry: Duration,
    /// Another registry, of which this one is a cache that takes no changes.
    pub proxy: Option<ProxyOptions>,
    /// TLS; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// Takes a line per request.
    pub access_log: Option<LogOutput>,
    /// Is told what the operator should know while the server runs.
    pub notice: Notice,
    /// For tests: spoils requests.
    pub faults: Option<faults::Hook>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            auth: AuthOptions::None,
            read_only: false,
            immutable_tags: false,
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

/// Where lines of a log go. Clones share it; the first server takes it.
#[derive(Clone)]
pub struct LogOutput(Arc<Mutex<Option<Box<dyn Write + Send>>>>);

impl LogOutput {
    /// An output that is written to line by line.
    pub fn new(output: impl Write + Send + 'static) -> LogOutput {
        LogOutput(Arc::new(Mutex::new(Some(Box::new(output)))))
    }

    /// A file that is appended to, and begun anew when it was renamed or removed.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if it cannot be opened.
    pub fn file(path: &Path) -> Result<LogOutput> {
        Ok(LogOutput::new(access_log::LogFile::open(path).map_err(Error::io(path))?))
    }

    fn open(self) -> Box<dyn Write + Send> {
        let output = self.0.lock().unwrap_or_else(|e| e.into_inner()).take();
        output.unwrap_or_else(|| Box::new(std::io::sink()))
    }
}

/// Threads that touch the disk at once. A transfer holds none of them while it waits for its client.
const DISK_THREADS: usize = 32;

/// A running server. Dropped, it stops.
pub struct RegistryServer {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl RegistryServer {
    /// Serves `directory`, which is made if it is not there, at `address`: `HOST:PORT`, or `:PORT` for all
    /// addresses of the machine; port 0 takes a free one. This process may have as many open files as the
    /// system allows from then on.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] if the address is taken or no address; [`Error::File`] if the directory holds
    /// something else.
    pub fn bind(address: &str, directory: &Path, options: ServerOptions) -> Result<RegistryServer> {
        let storage = Storage::open(directory, options.sync)?.with_immutable_tags(options.immutable_tags);
        let tls = options.tls.as_ref().map(|files| tls::acceptor(files, &options.notice)).transpose()?;
        let failed = |source| Error::Listen { address: address.to_string(), source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(DISK_THREADS)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = {
            let _inside = runtime.enter();
            listen::listen(address).map_err(failed)?
        };
        let address_bound = listener.local_addr().map_err(failed)?;
        let gate = Arc::new(Gate::new(listen::connections_max(), options.connections_per_address));
        let handler = Arc::new(Handler::new(storage, options, gate)?);
        if !handler.options().read_only || handler.cache.is_some() {
            runtime.spawn(handler.clone().sweep_uploads());
        }
        if handler.cache.is_some() {
            if let Err(e) = handler.storage.remove_abandoned_fetches() {
                (handler.options().notice)(&format!("what was fetched by halves could not be removed: {e}"));
            }
            runtime.spawn(handler.clone().bound_cache());
        }
        runtime.spawn(connection::accept(listener, tls, handler));
        Ok(RegistryServer { address: address_bound, runtime: Some(runtime) })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops: connections are closed, bytes on their way to the disk are finished.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        self.stop();
    }
}
