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
mod gate;
mod handler;
mod listen;
mod manifests;
mod metrics;
mod offer;
mod options;
mod proxy;
mod range;
mod receive;
mod reply;
mod reply_body;
mod request;
mod route;
mod socket;
mod storage;
mod tls;
mod upload_states;
mod uploads;
mod watched;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gate::Gate;
use handler::Handler;
use storage::Storage;
use tokio::runtime::Runtime;

use crate::error::{Error, Result};

pub use auth::{AuthFiles, AuthOptions, BearerOptions, htpasswd_line};
pub use garbage::{Collected, GarbageOptions, collect_garbage};
pub use offer::offer;
pub use options::{LogOutput, ServerOptions};
pub use proxy::ProxyOptions;
pub use tls::TlsFiles;
pub use watched::Notice;

/// Threads that touch the disk at once. A transfer holds none of them while it waits for its client.
const DISK_THREADS: usize = 32;

/// A running server; it stops when dropped.
pub struct RegistryServer {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl RegistryServer {
    /// Serves `directory`, which is created if it is missing, at `address`: `HOST:PORT`, or `:PORT` for all
    /// addresses of the machine; port 0 takes a free one. Raises the number of files that this process may
    /// open to what the system allows.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] if the address is taken or invalid; [`Error::File`] if the directory holds something
    /// else.
    pub fn bind(address: &str, directory: &Path, options: ServerOptions) -> Result<RegistryServer> {
        let storage =
            Storage::open(directory, options.sync)?.with_rules(options.immutable_tags, options.sparse);
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
                (handler.options().notice)(&format!("unfinished fetches could not be removed: {e}"));
            }
            runtime.spawn(handler.clone().bound_cache());
        }
        runtime.spawn(connection::accept(listener, tls, handler));
        Ok(RegistryServer { address: address_bound, runtime: Some(runtime) })
    }

    /// The address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server: closes connections and finishes writes to the disk.
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
