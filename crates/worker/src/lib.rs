//! A small engine of the Remote Execution API: it keeps blobs in a directory, and executes actions as
//! processes of this machine. [`serve`] has one client, at the other end of a pair of streams; [`routes`] are
//! for whoever has a server of his own, as tests do, which let it fail by [`Hooks`].
//!
//! `crossdock build --worker ssh://HOST` starts it at the other end of ssh. It trusts its client, who may
//! start programs there anyhow; the client verifies what it gets. The design is in `docs/dev/farm.md`.

#![forbid(unsafe_code)]

mod cas;
mod execution;
mod greeting;
mod hooks;
mod options;
mod pipe;
mod service;
mod storage;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

pub use execution::Engine;
pub use greeting::Greeting;
pub use hooks::{Forget, Hooks, Streamed};
pub use options::Options;
pub use service::routes;
pub use storage::Storage;

/// How long what nobody has used is kept.
const UNUSED: Duration = Duration::from_secs(3 * 24 * 3600);

/// Greets on standard output, and then serves over standard input and output until the client hangs up.
///
/// # Errors
///
/// The directory cannot be used; threads cannot be started.
pub fn serve(options: &Options) -> io::Result<()> {
    let storage = Storage::open(&options.directory)?;
    storage.prune(UNUSED);
    // What it executes for clients of another CPU is itself.
    let executable = storage.keep_known_file(Path::new("/proc/self/exe"))?;
    let greeting = Greeting {
        version: options.version.clone(),
        platform: options.platform.clone(),
        executable: executable.hash.clone(),
        size: u64::try_from(executable.size_bytes).unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
    };
    let mut out = io::stdout();
    out.write_all(greeting.line().as_bytes())?;
    out.flush()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let engine = Arc::new(Engine::new(storage, options, Box::new(hooks::NoHooks)));
    let end = Arc::new(Notify::new());
    let result = runtime.block_on(async {
        let pipe = pipe::Pipe::new(end.clone());
        tokio::select! {
            served = service::serve(engine.clone(), pipe) => served,
            () = end.notified() => Ok(()),
        }
    });
    engine.stop();
    // A thread may still wait for standard input.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}
