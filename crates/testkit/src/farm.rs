//! A whole farm in this process: the engine of `crossdock-worker` on loopback, whose hooks let it misbehave
//! in every way that a client has to survive.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream as bytes;
use bazel_remote_apis::google::longrunning as operations;
use bazel_remote_apis::google::rpc;
use crossdock_worker::{Engine, Forget, Hooks, Options, Storage, Streamed, routes};
use prost::Message;
use reapi::execution_stage::Value as Stage;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Status};
use tower::{Layer, Service};

pub use reapi::ActionResult;

/// The property that a fresh farm's workers have.
pub const PROPERTY: (&str, &str) = ("ISA", "x86-64");

/// How a farm behaves. Counts are how often it is to misbehave from now on.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Clients may write the action cache.
    pub may_update: bool,
    /// Streams may be compressed.
    pub has_zstd: bool,
    /// The digest function that it claims to have.
    pub digest_function: i32,
    /// What a command writes can be read while it runs.
    pub has_streams: bool,
    /// Longest batch, in bytes.
    pub batch_size_max: i64,
    /// Added to each answer.
    pub latency: Duration,
    /// The only token that it accepts.
    pub token: Option<String>,
    /// Properties of its workers; none for no worker at all.
    pub properties: Vec<(String, String)>,
    /// An action that no worker can take waits, instead of failing.
    pub queues_forever: bool,
    /// Before an execution a blob of its inputs is lost.
    pub forgets: usize,
    /// A stream of bytes, either way, breaks in the middle.
    pub breaks_streams: usize,
    /// A blob that is read has another byte.
    pub lies: usize,
    /// A blob that is read has a MiB more.
    pub lengthens: usize,
    /// The stream of an execution breaks.
    pub breaks_executions: usize,
    /// The worker is lost while it executes.
    pub loses_workers: usize,
    /// The command is killed in the middle.
    pub kills: usize,
    /// Operations are forgotten when their stream breaks, as after a restart.
    pub forgets_operations: bool,
    /// Answers `UNAVAILABLE`.
    pub unavailable: usize,
    /// Starts the commands of actions: a program and its first arguments.
    pub wrapper: Vec<String>,
    /// Replaces the layer of each result by this one, with a fitting description.
    pub layer: Option<Vec<u8>>,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            may_update: true,
            has_zstd: true,
            has_streams: true,
            digest_function: reapi::digest_function::Value::Sha256 as i32,
            batch_size_max: 4 << 20,
            latency: Duration::ZERO,
            token: None,
            properties: vec![(PROPERTY.0.to_string(), PROPERTY.1.to_string())],
            queues_forever: false,
            forgets: 0,
            breaks_streams: 0,
            lies: 0,
            lengthens: 0,
            breaks_executions: 0,
            loses_workers: 0,
            kills: 0,
            forgets_operations: false,
            unavailable: 0,
            wrapper: Vec::new(),
            layer: None,
        }
    }
}

/// What a farm holds beside its storage.
#[derive(Default)]
struct Held {
    behaviour: Behaviour,
    /// Bytes of uploads that broke, by resource.
    partial: HashMap<String, Vec<u8>>,
    cancelled: Vec<String>,
    requests: BTreeMap<String, usize>,
    /// Requests under way, and the most at once, by method.
    at_once: BTreeMap<String, (usize, usize)>,
}

/// What the hooks and the server share.
struct State {
    held: Mutex<Held>,
    /// Variables of the workers' processes.
    env: Vec<(String, String)>,
}

/// A farm, until it is dropped.
pub struct TestFarm {
    /// `grpc://127.0.0.1:PORT`.
    pub address: String,
    state: Arc<State>,
    storage: Storage,
    directory: tempfile::TempDir,
    runtime: Option<Runtime>,
}

/// Certificates of a server in PEM: its own, its key, and the authority of its clients.
pub struct Tls {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authority that signs clients' certificates; `None` lets all in.
    pub client_authority: Option<String>,
}

impl TestFarm {
    /// A farm with so many workers, whose processes get these variables.
    pub fn start(workers: usize, env: &[(&str, &str)]) -> TestFarm {
        TestFarm::listen("127.0.0.1:0", workers, env, None)
    }

    /// A farm that listens at an address.
    pub fn listen(address: &str, workers: usize, env: &[(&str, &str)], tls: Option<Tls>) -> TestFarm {
        let runtime = Runtime::new().expect("threads start");
        let listening = runtime.block_on(tokio::net::TcpListener::bind(address)).expect("a free port");
        let port = listening.local_addr().expect("it is bound");
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let state = Arc::new(State { held: Mutex::default(), env });
        let directory = tempfile::tempdir().expect("a directory");
        let storage = Storage::open(directory.path()).expect("a storage");
        let options = Options {
            directory: directory.path().to_path_buf(),
            jobs: workers,
            name: "worker-1".to_string(),
            version: String::new(),
            platform: String::new(),
        };
        let engine = Arc::new(Engine::new(storage.clone(), &options, Box::new(Faults(state.clone()))));
        let scheme = if tls.is_some() { "grpcs" } else { "grpc" };
        let address = address_of(scheme, port);
        runtime.spawn(serve(engine, state.clone(), listening, tls));
        TestFarm { address, state, storage, directory, runtime: Some(runtime) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.state.held()
    }

    /// Changes how it behaves from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.held().behaviour);
    }

    /// How it behaves now.
    pub fn behaviour(&self) -> Behaviour {
        self.held().behaviour.clone()
    }

    /// How often each method was called since the last time.
    pub fn take_requests(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.held().requests)
    }

    /// The most requests of a method that waited for its latency at once.
    pub fn most_at_once(&self, method: &str) -> usize {
        self.held().at_once.get(method).map_or(0, |(_, most)| *most)
    }

    /// Names of cancelled operations.
    pub fn cancelled(&self) -> Vec<String> {
        self.held().cancelled.clone()
    }

    /// Actions of the results in the action cache.
    fn actions(&self) -> Vec<reapi::Digest> {
        let names = names(&self.directory.path().join("results"));
        names.into_iter().map(|hash| reapi::Digest { hash, size_bytes: 0 }).collect()
    }

    /// Number of results in the action cache.
    pub fn results(&self) -> usize {
        self.actions().len()
    }

    /// Changes every result in the action cache.
    pub fn change_results(&self, change: impl Fn(&mut reapi::ActionResult)) {
        for action in self.actions() {
            let mut result = self.storage.result(&action).expect("a result");
            change(&mut result);
            self.storage.note_result(&action, &result).expect("noted");
        }
    }

    /// Loses all blobs.
    pub fn forget_blobs(&self) {
        let blobs = self.directory.path().join("blobs");
        names(&blobs).iter().for_each(|name| std::fs::remove_file(blobs.join(name)).expect("removed"));
    }

    /// Whether it has a blob.
    pub fn has(&self, hex: &str) -> bool {
        self.directory.path().join("blobs").join(hex).exists()
    }

    /// Puts a blob into the storage.
    pub fn put(&self, bytes: Vec<u8>) -> reapi::Digest {
        self.storage.keep(&bytes).expect("kept")
    }
}

/// Names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
}

impl Drop for TestFarm {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn address_of(scheme: &str, address: SocketAddr) -> String {
    let host = if scheme == "grpcs" { "localhost".to_string() } else { address.ip().to_string() };
    format!("{scheme}://{host}:{}", address.port())
}

async fn serve(engine: Arc<Engine>, state: Arc<State>, listening: tokio::net::TcpListener, tls: Option<Tls>) {
    let mut server = Server::builder();
    if let Some(tls) = tls {
        let mut config = ServerTlsConfig::new().identity(Identity::from_pem(tls.certificate, tls.key));
        if let Some(authority) = tls.client_authority {
            config = config.client_ca_root(tonic::transport::Certificate::from_pem(authority));
        }
        server = server.tls_config(config).expect("certificates");
    }
    server
        .layer(Doors(state))
        .add_routes(routes(engine))
        .serve_with_incoming(TcpIncoming::from(listening).with_nodelay(Some(true)))
        .await
        .expect("the server runs");
}

/// What each request goes through: tokens, latency, failures; and it is counted.
#[derive(Clone)]
struct Doors(Arc<State>);

impl<S> Layer<S> for Doors {
    type Service = Door<S>;

    fn layer(&self, inner: S) -> Door<S> {
        Door { state: self.0.clone(), inner }
    }
}

#[derive(Clone)]
struct Door<S> {
    state: Arc<State>,
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for Door<S>
where
    S: Service<Request<In>, Response = Response<Out>> + Clone + Send + 'static,
    S::Future: Send,
    In: Send + 'static,
    Out: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = tonic::codegen::BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let next = self.inner.clone();
        // The one that is ready is used.
        let mut inner = std::mem::replace(&mut self.inner, next);
        let state = self.state.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_string();
            let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
            match state.enter(&method, token).await {
                Ok(()) => inner.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

impl State {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request, and answers late or not at all, if the farm is to behave so.
    async fn enter(&self, method: &str, token: Option<&str>) -> Result<(), Status> {
        let latency = {
            let mut held = self.held();
            let wanted = held.behaviour.token.as_ref().map(|token| format!("Bearer {token}"));
            if wanted.is_some_and(|wanted| token != Some(&wanted)) {
                return Err(Status::unauthenticated("the token has expired"));
            }
            *held.requests.entry(method.to_string()).or_default() += 1;
            if take(&mut held.behaviour.unavailable) {
                return Err(Status::unavailable("not now"));
            }
            held.behaviour.latency
        };
        if !latency.is_zero() {
            {
                let mut held = self.held();
                let (now, most) = held.at_once.entry(method.to_string()).or_default();
                *now += 1;
                *most = (*most).max(*now);
            }
            tokio::time::sleep(latency).await;
            self.held().at_once.entry(method.to_string()).or_default().0 -= 1;
        }
        Ok(())
    }
}

/// Whether something is to happen once more.
fn take(count: &mut usize) -> bool {
    let is_wanted = *count > 0;
    *count = count.saturating_sub(1);
    is_wanted
}

fn failure(code: Code, message: &str) -> rpc::Status {
    rpc::Status { code: code as i32, message: message.to_string(), details: Vec::new() }
}

/// The faults.
struct Faults(Arc<State>);

impl Faults {
    /// Whether a fault is to happen once more.
    fn take(&self, fault: impl FnOnce(&mut Behaviour) -> &mut usize) -> bool {
        take(fault(&mut self.0.held().behaviour))
    }
}

#[tonic::async_trait]
impl Hooks for Faults {
    fn capabilities(&self, mut own: reapi::ServerCapabilities) -> reapi::ServerCapabilities {
        let behaviour = self.0.held().behaviour.clone();
        let update_enabled = behaviour.may_update;
        if let Some(cache) = &mut own.cache_capabilities {
            cache.digest_functions = vec![behaviour.digest_function];
            cache.action_cache_update_capabilities =
                Some(reapi::ActionCacheUpdateCapabilities { update_enabled });
            cache.max_batch_total_size_bytes = behaviour.batch_size_max;
            if !behaviour.has_zstd {
                cache.supported_compressors.clear();
            }
        }
        if let Some(execution) = &mut own.execution_capabilities {
            execution.digest_function = behaviour.digest_function;
        }
        own
    }

    fn is_usable(&self, _: &Storage, _: &reapi::ActionResult) -> bool {
        true
    }

    async fn admit(&self, action: &reapi::Action) -> Result<(), rpc::Status> {
        let wanted = action.platform.clone().unwrap_or_default().properties;
        let fits = |have: &[(String, String)]| {
            let has = |p: &reapi::platform::Property| have.iter().any(|(n, v)| *n == p.name && *v == p.value);
            !have.is_empty() && wanted.iter().all(has)
        };
        loop {
            let behaviour = self.0.held().behaviour.clone();
            if fits(&behaviour.properties) {
                return Ok(());
            }
            if !behaviour.queues_forever {
                return Err(failure(Code::FailedPrecondition, "no worker has these properties"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn begin(&self, storage: &Storage, action: &reapi::Action) {
        if self.take(|behaviour| &mut behaviour.forgets) {
            let root = action.input_root_digest.clone().unwrap_or_default();
            let root: reapi::Directory = storage.message(&root).expect("a directory");
            let lost = root.files[0].digest.as_ref().and_then(|digest| storage.path(digest));
            let lost = lost.expect("a digest");
            std::fs::remove_file(lost).expect("removed");
        }
    }

    fn starting(&self, process: &mut tokio::process::Command) -> Result<(), rpc::Status> {
        let wrapper = self.0.held().behaviour.wrapper.clone();
        if let Some((program, first)) = wrapper.split_first() {
            let inner = process.as_std();
            let mut outer = tokio::process::Command::new(program);
            outer.args(first).arg(inner.get_program()).args(inner.get_args());
            outer.current_dir(inner.get_current_dir().expect("the action's directory"));
            outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
            *process = outer;
        }
        process.envs(self.0.env.iter().cloned());
        match self.take(|behaviour| &mut behaviour.loses_workers) {
            true => Err(failure(Code::Unavailable, "the worker was lost")),
            false => Ok(()),
        }
    }

    fn started(&self, process: &mut tokio::process::Child) {
        if self.take(|behaviour| &mut behaviour.kills) {
            process.start_kill().expect("it is killed");
        }
    }

    fn ended(&self, storage: &Storage, result: &mut reapi::ActionResult) {
        let layer = self.0.held().behaviour.layer.clone();
        if let Some(layer) = layer {
            replace_layer(storage, result, &layer);
        }
    }

    fn cancelled(&self, name: &str) {
        self.0.held().cancelled.push(name.to_string());
    }

    fn reader(&self, mut blob: File) -> Box<dyn Read + Send> {
        if self.take(|behaviour| &mut behaviour.lies) {
            let mut first = [0];
            blob.read_exact(&mut first).expect("a byte");
            let first = std::io::Cursor::new([first[0] ^ 1]);
            return Box::new(first.chain(blob));
        }
        match self.take(|behaviour| &mut behaviour.lengthens) {
            true => Box::new(blob.chain(std::io::repeat(0).take(1 << 20))),
            false => Box::new(blob),
        }
    }

    fn download(&self, mut messages: Streamed<bytes::ReadResponse>) -> Streamed<bytes::ReadResponse> {
        if !self.take(|behaviour| &mut behaviour.breaks_streams) {
            return messages;
        }
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            if let Some(Ok(mut first)) = messages.next().await {
                first.data.truncate(first.data.len() / 2);
                let _ = sender.send(Ok(first)).await;
            }
            let _ = sender.send(Err(Status::unavailable("the connection broke"))).await;
        });
        Box::pin(ReceiverStream::new(receiver))
    }

    fn upload(&self, mut messages: Streamed<bytes::WriteRequest>) -> Streamed<bytes::WriteRequest> {
        let breaks = self.take(|behaviour| &mut behaviour.breaks_streams);
        let state = self.0.clone();
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            let Some(Ok(mut first)) = messages.next().await else { return };
            let before = state.held().partial.remove(&first.resource_name).unwrap_or_default();
            if usize::try_from(first.write_offset) == Ok(before.len()) {
                first.data.splice(0..0, before);
                first.write_offset = 0;
            }
            if breaks {
                state.held().partial.insert(first.resource_name, first.data);
                let _ = sender.send(Err(Status::unavailable("the connection broke"))).await;
                return;
            }
            if sender.send(Ok(first)).await.is_err() {
                return;
            }
            while let Some(message) = messages.next().await {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }

    fn uploaded(&self, name: &str) -> Option<i64> {
        self.0.held().partial.get(name).map(|bytes| bytes.len() as i64)
    }

    fn states(
        &self,
        forget: Forget,
        mut states: Streamed<operations::Operation>,
    ) -> Streamed<operations::Operation> {
        let (sender, receiver) = mpsc::channel(4);
        let state = self.0.clone();
        tokio::spawn(async move {
            while let Some(Ok(mut operation)) = states.next().await {
                let behaviour = state.held().behaviour.clone();
                let mut metadata = metadata(&operation);
                let is_executing = metadata.stage == Stage::Executing as i32;
                if !behaviour.has_streams {
                    metadata.stdout_stream_name.clear();
                    metadata.stderr_stream_name.clear();
                    if let Some(any) = &mut operation.metadata {
                        any.value = metadata.encode_to_vec();
                    }
                }
                let name = operation.name.clone();
                if sender.send(Ok(operation)).await.is_err() {
                    return;
                }
                if is_executing && take(&mut state.held().behaviour.breaks_executions) {
                    if behaviour.forgets_operations {
                        forget(&name);
                    }
                    let _ = sender.send(Err(Status::unavailable("the connection broke"))).await;
                    return;
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

/// What an operation says of its state.
fn metadata(operation: &operations::Operation) -> reapi::ExecuteOperationMetadata {
    let value = operation.metadata.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
    reapi::ExecuteOperationMetadata::decode(value).expect("metadata")
}

/// Makes a result say that another archive is its layer.
fn replace_layer(storage: &Storage, result: &mut reapi::ActionResult, layer: &[u8]) {
    let digest = storage.keep(layer).expect("kept");
    let name = format!("sha256:{}", digest.hash);
    let descriptor = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{name}","size":{}}}"#,
        digest.size_bytes
    );
    let answer =
        format!(r#"{{"Done":{{"layer":{{"diff_id":"{name}","descriptor":{descriptor}}},"size":1}}}}"#);
    let answer = storage.keep(answer.as_bytes()).expect("kept");
    let file = |path: &str, digest| reapi::OutputFile {
        path: path.into(),
        digest: Some(digest),
        ..Default::default()
    };
    result.output_files = vec![file("layer", digest), file("result.json", answer)];
}
