//! The embedded registry: distribution specification 1.1 over a directory. Its layout on disk is explained in
//! `docs/dev/registry.md`.

mod auth;
mod body;
pub mod faults;
mod garbage;
mod handler;
mod reply;
mod route;
mod storage;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Runtime;

use crate::error::{Error, Result};
use handler::Handler;
use storage::Storage;

pub use auth::{AuthOptions, BearerOptions};
pub use garbage::{Collected, GarbageOptions, collect_garbage};

/// Settings of a server.
#[derive(Clone)]
pub struct ServerOptions {
    /// Who may do what.
    pub auth: AuthOptions,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Content is synced to the disk before it is acknowledged. Without, a power failure may lose it; a killed process does
    /// not.
    pub sync: bool,
    /// A request that sends nothing for that long is given up.
    pub stall: Duration,
    /// For tests: spoils requests.
    pub faults: Option<faults::Hook>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            auth: AuthOptions::None,
            read_only: false,
            sync: true,
            stall: Duration::from_secs(60),
            faults: None,
        }
    }
}

/// A running server. Dropped, it stops.
pub struct RegistryServer {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl RegistryServer {
    /// Serves `directory`, which is made if it is not there, at `address` (port 0 takes a free one).
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] if the address is taken; [`Error::File`] if the directory holds something else.
    pub fn bind(address: &str, directory: &Path, options: ServerOptions) -> Result<RegistryServer> {
        let storage = Storage::open(directory, options.sync)?;
        let failed = |source| Error::Listen { address: address.to_string(), source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address_bound = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let handler = Arc::new(Handler::new(storage, options));
        runtime.spawn(accept(listener, handler));
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

async fn accept(listener: tokio::net::TcpListener, handler: Arc<Handler>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of descriptors, mostly: others must end first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let handler = handler.clone();
                async move { handler.handle(request).await }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(120))
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away is its own business.
            let _ = connection.await;
        });
    }
}
