//! The client: a connection, what the server can do, and requests that are repeated.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::build::bazel::remote::execution::v2::capabilities_client::CapabilitiesClient;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status};

use crate::Result;
use crate::capabilities::Capabilities;
use crate::channel::{Connection, connection};
use crate::digest::Digest;
use crate::error::FarmError;
use crate::settings::Settings;

/// The first pause before a request is repeated; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often the first request is repeated.
const CONNECT_RETRIES: u32 = 3;
/// Longest message that is taken: what servers send at most is 4 MiB, unless they are set up otherwise.
pub(crate) const MESSAGE_MAX: usize = 16 << 20;

/// A farm. Its functions may be called from several threads at once.
pub struct Client {
    pub(crate) settings: Settings,
    pub(crate) capabilities: Capabilities,
    pub(crate) connection: Connection,
    /// Blobs that are being sent: others wait.
    pub(crate) sending: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Names of the executions under way.
    pub(crate) operations: Mutex<BTreeSet<String>>,
    /// Ends the thread that drives the connection, if there is one.
    driver: OnceLock<Option<oneshot::Sender<()>>>,
    /// Drives the connection. Dropped last.
    runtime: Arc<Runtime>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Connects, and asks what the server can do.
    ///
    /// # Errors
    ///
    /// The server does not answer, refuses this client, or lacks what is needed: executions, SHA-256.
    pub fn connect(settings: Settings) -> Result<Client> {
        Client::connect_and(settings, async |_| {})
    }

    /// The same, and does something else on the connection meanwhile.
    pub(crate) fn connect_and(settings: Settings, other: impl AsyncFnOnce(&Client)) -> Result<Client> {
        // Answers are taken by the thread that waits for them, see [`Client::drive`].
        let started = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = started.map_err(|e| FarmError::io("start threads for the farm", e))?;
        let connection = {
            let _inside = runtime.enter();
            connection(&settings)?
        };
        let mut client = Client {
            settings,
            capabilities: Capabilities::default(),
            connection,
            sending: Mutex::default(),
            operations: Mutex::default(),
            driver: OnceLock::new(),
            runtime: Arc::new(runtime),
        };
        // Nothing is lost yet by going on without the farm.
        let retries = client.settings.retries;
        client.settings.retries = retries.min(CONNECT_RETRIES);
        let asked = client.repeat("GetCapabilities", || async {
            let mut service = CapabilitiesClient::new(client.connection.clone());
            let instance_name = client.settings.address.instance.clone();
            service.get_capabilities(client.request(reapi::GetCapabilitiesRequest { instance_name })).await
        });
        let asked = client.wait(async { tokio::join!(asked, other(&client)).0 })?;
        client.settings.retries = retries;
        let unfit = |reason| FarmError::Unfit { farm: client.name(), reason };
        client.capabilities = Capabilities::read(&asked).map_err(unfit)?;
        Ok(client)
    }

    /// What the server can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The farm's address, for messages.
    pub fn name(&self) -> String {
        match &self.settings.dial {
            Some(dial) => dial.name.clone(),
            None => self.settings.address.to_string(),
        }
    }

    /// The instance that requests are for.
    pub(crate) fn instance(&self) -> String {
        self.settings.address.instance.clone()
    }

    /// A request with a deadline.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.settings.patience);
        request
    }

    /// Lets a thread of its own drive the connection from now on. A few answers come sooner without: each
    /// would wake that thread, and that one the thread which waits. What is long comes sooner with it: bytes
    /// are received while those before are hashed and written.
    pub(crate) fn drive(&self) {
        self.driver.get_or_init(|| {
            let (end, ended) = oneshot::channel::<()>();
            let runtime = self.runtime.clone();
            let drive = move || drop(runtime.block_on(ended));
            // Without it, threads that wait do all the work.
            std::thread::Builder::new().name("farm".to_string()).spawn(drive).ok().map(|_| end)
        });
    }

    /// Waits for the end of something asynchronous.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Makes a request until it succeeds, or fails for a reason that another attempt does not remove.
    pub(crate) async fn repeat<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let mut attempt = 0;
        loop {
            match ask().await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => self.pause(what, &status, &mut attempt).await?,
            }
        }
    }

    /// Pauses before another attempt, or gives up with the error of the last one.
    pub(crate) async fn pause(&self, what: &str, status: &Status, attempt: &mut u32) -> Result<()> {
        if !is_passing(status) || *attempt >= self.settings.retries {
            let name = self.name();
            return Err(match FarmError::of_status(&name, status) {
                FarmError::Unreachable { farm, reason } => {
                    FarmError::Unreachable { farm, reason: format!("{reason} ({what})") }
                }
                other => other,
            });
        }
        let pause = PAUSE.saturating_mul(1 << (*attempt).min(16)).min(PAUSE_MAX);
        *attempt += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Whether another attempt may succeed. What a broken connection gives is `UNKNOWN` or `INTERNAL`, too.
pub(crate) fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::DeadlineExceeded => true,
        Code::Unknown | Code::Internal | Code::Cancelled => is_broken(status),
        _ => false,
    }
}

/// Whether the connection broke, rather than the server answered.
fn is_broken(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}
