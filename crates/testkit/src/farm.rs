//! A whole farm in this process: a server of the Remote Execution API on loopback, with workers that execute
//! actions as processes of this machine. It can misbehave in every way that a client has to survive.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream as bytes;
use bazel_remote_apis::google::longrunning as operations;
use bazel_remote_apis::google::{protobuf, rpc};
use crossdock_oci::Digest as Sha256;
use prost::Message;
use reapi::compressor::Value as Compressor;
use reapi::execution_stage::Value as Stage;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

pub use reapi::ActionResult;

/// The property that a fresh farm's workers have.
pub const PROPERTY: (&str, &str) = ("ISA", "x86-64");

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

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
            breaks_executions: 0,
            loses_workers: 0,
            kills: 0,
            forgets_operations: false,
            unavailable: 0,
            layer: None,
        }
    }
}

/// Everything that a farm holds.
#[derive(Default)]
struct Held {
    behaviour: Behaviour,
    blobs: HashMap<String, Vec<u8>>,
    /// Bytes of uploads that broke, by resource.
    partial: HashMap<String, Vec<u8>>,
    actions: HashMap<String, reapi::ActionResult>,
    operations: HashMap<String, operations::Operation>,
    /// What running commands have written, by the names of the streams, and whether that is all.
    streams: HashMap<String, (Vec<u8>, bool)>,
    cancelled: Vec<String>,
    /// Those of them that have not begun again.
    ending: BTreeSet<String>,
    requests: BTreeMap<&'static str, usize>,
    /// Requests under way, and the most at once, by method.
    at_once: BTreeMap<&'static str, (usize, usize)>,
}

/// What the services share.
struct State {
    held: Mutex<Held>,
    /// Wakes whoever waits for an operation.
    changed: Notify,
    workers: Semaphore,
    /// Variables of the workers' processes.
    env: Vec<(String, String)>,
    /// Files of inputs, which workers link.
    files: tempfile::TempDir,
}

/// A farm, until it is dropped.
pub struct TestFarm {
    /// `grpc://127.0.0.1:PORT`.
    pub address: String,
    state: Arc<State>,
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
        let state = Arc::new(State {
            held: Mutex::default(),
            changed: Notify::new(),
            workers: Semaphore::new(workers),
            env: env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            files: tempfile::tempdir().expect("a directory"),
        });
        let scheme = if tls.is_some() { "grpcs" } else { "grpc" };
        let address = address_of(scheme, port);
        runtime.spawn(serve(state.clone(), listening, tls));
        TestFarm { address, state, runtime: Some(runtime) }
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
    pub fn take_requests(&self) -> BTreeMap<&'static str, usize> {
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

    /// Number of results in the action cache.
    pub fn results(&self) -> usize {
        self.held().actions.len()
    }

    /// Changes every result in the action cache.
    pub fn change_results(&self, change: impl Fn(&mut reapi::ActionResult)) {
        self.held().actions.values_mut().for_each(change);
    }

    /// Loses all blobs.
    pub fn forget_blobs(&self) {
        self.held().blobs.clear();
    }

    /// Whether it has a blob.
    pub fn has(&self, hex: &str) -> bool {
        self.held().blobs.contains_key(hex)
    }

    /// Puts a blob into the storage.
    pub fn put(&self, bytes: Vec<u8>) {
        let hex = Sha256::of(&bytes).hex().to_string();
        self.held().blobs.insert(hex, bytes);
    }
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

async fn serve(state: Arc<State>, listening: tokio::net::TcpListener, tls: Option<Tls>) {
    let mut server = Server::builder();
    if let Some(tls) = tls {
        let mut config = ServerTlsConfig::new().identity(Identity::from_pem(tls.certificate, tls.key));
        if let Some(authority) = tls.client_authority {
            config = config.client_ca_root(tonic::transport::Certificate::from_pem(authority));
        }
        server = server.tls_config(config).expect("certificates");
    }
    let service = Service(state.clone());
    let check = move |request: Request<()>| -> Result<Request<()>, Status> {
        let token = state.held().behaviour.token.clone();
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        match token {
            Some(token) if given != Some(&format!("Bearer {token}")) => {
                Err(Status::unauthenticated("the token has expired"))
            }
            _ => Ok(request),
        }
    };
    const MAX: usize = 64 << 20;
    let storage =
        reapi::content_addressable_storage_server::ContentAddressableStorageServer::new(service.clone());
    server
        .add_service(InterceptedService::new(
            reapi::capabilities_server::CapabilitiesServer::new(service.clone()),
            check.clone(),
        ))
        .add_service(InterceptedService::new(storage.max_decoding_message_size(MAX), check.clone()))
        .add_service(InterceptedService::new(
            bytes::byte_stream_server::ByteStreamServer::new(service.clone()),
            check.clone(),
        ))
        .add_service(InterceptedService::new(
            reapi::action_cache_server::ActionCacheServer::new(service.clone()),
            check.clone(),
        ))
        .add_service(InterceptedService::new(
            reapi::execution_server::ExecutionServer::new(service.clone()),
            check.clone(),
        ))
        .add_service(InterceptedService::new(
            operations::operations_server::OperationsServer::new(service),
            check,
        ))
        .serve_with_incoming(TcpIncoming::from(listening).with_nodelay(Some(true)))
        .await
        .expect("the server runs");
}

impl State {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request, and answers late or not at all, if the farm is to behave so.
    async fn begin(&self, method: &'static str) -> Result<(), Status> {
        let latency = {
            let mut held = self.held();
            *held.requests.entry(method).or_default() += 1;
            if take(&mut held.behaviour.unavailable) {
                return Err(Status::unavailable("not now"));
            }
            held.behaviour.latency
        };
        if !latency.is_zero() {
            {
                let mut held = self.held();
                let (now, most) = held.at_once.entry(method).or_default();
                *now += 1;
                *most = (*most).max(*now);
            }
            tokio::time::sleep(latency).await;
            self.held().at_once.entry(method).or_default().0 -= 1;
        }
        Ok(())
    }

    fn blob(&self, digest: &reapi::Digest) -> Option<Vec<u8>> {
        match digest.size_bytes {
            0 => Some(Vec::new()),
            _ => self.held().blobs.get(&digest.hash).cloned(),
        }
    }

    fn has(&self, digest: &reapi::Digest) -> bool {
        digest.size_bytes == 0 || self.held().blobs.contains_key(&digest.hash)
    }

    fn put(&self, bytes: Vec<u8>) -> reapi::Digest {
        let digest = digest_of(&bytes);
        self.held().blobs.insert(digest.hash.clone(), bytes);
        digest
    }

    /// A blob as a file.
    fn kept(&self, digest: &reapi::Digest, is_executable: bool) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.files.path().join(format!("{}-{is_executable}", digest.hash));
        let held = self.held();
        if !path.exists() {
            let content = if digest.size_bytes == 0 { &[][..] } else { held.blobs[&digest.hash].as_slice() };
            std::fs::write(&path, content).expect("written");
            let mode = if is_executable { 0o555 } else { 0o444 };
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("a mode");
        }
        path
    }

    fn message<T: Message + Default>(&self, digest: Option<&reapi::Digest>) -> Result<T, String> {
        let digest = digest.cloned().unwrap_or_default();
        let bytes = self.blob(&digest).ok_or_else(|| digest.hash.clone())?;
        Ok(T::decode(bytes.as_slice()).expect("a message"))
    }
}

/// Whether something is to happen once more.
fn take(count: &mut usize) -> bool {
    let is_wanted = *count > 0;
    *count = count.saturating_sub(1);
    is_wanted
}

fn digest_of(bytes: &[u8]) -> reapi::Digest {
    reapi::Digest { hash: Sha256::of(bytes).hex().to_string(), size_bytes: bytes.len() as i64 }
}

#[derive(Clone)]
struct Service(Arc<State>);

#[tonic::async_trait]
impl reapi::capabilities_server::Capabilities for Service {
    async fn get_capabilities(
        &self,
        _: Request<reapi::GetCapabilitiesRequest>,
    ) -> Result<Response<reapi::ServerCapabilities>, Status> {
        self.0.begin("GetCapabilities").await?;
        let behaviour = self.0.held().behaviour.clone();
        let update_enabled = behaviour.may_update;
        Ok(Response::new(reapi::ServerCapabilities {
            cache_capabilities: Some(reapi::CacheCapabilities {
                digest_functions: vec![behaviour.digest_function],
                action_cache_update_capabilities: Some(reapi::ActionCacheUpdateCapabilities {
                    update_enabled,
                }),
                max_batch_total_size_bytes: behaviour.batch_size_max,
                supported_compressors: behaviour
                    .has_zstd
                    .then_some(Compressor::Zstd as i32)
                    .into_iter()
                    .collect(),
                ..reapi::CacheCapabilities::default()
            }),
            execution_capabilities: Some(reapi::ExecutionCapabilities {
                digest_function: behaviour.digest_function,
                exec_enabled: true,
                ..reapi::ExecutionCapabilities::default()
            }),
            ..reapi::ServerCapabilities::default()
        }))
    }
}

#[tonic::async_trait]
impl reapi::content_addressable_storage_server::ContentAddressableStorage for Service {
    type GetTreeStream = Streamed<reapi::GetTreeResponse>;
    type GetChunkMappingStream = Streamed<reapi::GetChunkMappingResponse>;

    async fn find_missing_blobs(
        &self,
        request: Request<reapi::FindMissingBlobsRequest>,
    ) -> Result<Response<reapi::FindMissingBlobsResponse>, Status> {
        self.0.begin("FindMissingBlobs").await?;
        let mut missing_blob_digests = request.into_inner().blob_digests;
        missing_blob_digests.retain(|digest| !self.0.has(digest));
        Ok(Response::new(reapi::FindMissingBlobsResponse { missing_blob_digests }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<reapi::BatchUpdateBlobsRequest>,
    ) -> Result<Response<reapi::BatchUpdateBlobsResponse>, Status> {
        self.0.begin("BatchUpdateBlobs").await?;
        let requests = request.into_inner().requests;
        let size: usize = requests.iter().map(|request| request.data.len()).sum();
        if size as i64 > self.0.held().behaviour.batch_size_max {
            return Err(Status::invalid_argument("the batch is too long"));
        }
        let responses = requests.into_iter().map(|request| {
            let digest = digest_of(&request.data);
            let code =
                if request.digest.as_ref() == Some(&digest) { 0 } else { Code::InvalidArgument as i32 };
            if code == 0 {
                self.0.put(request.data);
            }
            let status = Some(rpc::Status { code, ..rpc::Status::default() });
            reapi::batch_update_blobs_response::Response { digest: request.digest, status }
        });
        Ok(Response::new(reapi::BatchUpdateBlobsResponse { responses: responses.collect() }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<reapi::BatchReadBlobsRequest>,
    ) -> Result<Response<reapi::BatchReadBlobsResponse>, Status> {
        self.0.begin("BatchReadBlobs").await?;
        let responses = request.into_inner().digests.into_iter().map(|digest| {
            let blob = self.0.blob(&digest);
            let code = if blob.is_some() { 0 } else { Code::NotFound as i32 };
            let mut data = blob.unwrap_or_default();
            if take(&mut self.0.held().behaviour.lies)
                && let Some(byte) = data.first_mut()
            {
                *byte ^= 1;
            }
            let status = Some(rpc::Status { code, ..rpc::Status::default() });
            reapi::batch_read_blobs_response::Response { digest: Some(digest), data, compressor: 0, status }
        });
        Ok(Response::new(reapi::BatchReadBlobsResponse { responses: responses.collect() }))
    }

    async fn get_tree(
        &self,
        _: Request<reapi::GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        Err(Status::unimplemented("GetTree"))
    }

    async fn split_blob(
        &self,
        _: Request<reapi::SplitBlobRequest>,
    ) -> Result<Response<reapi::SplitBlobResponse>, Status> {
        Err(Status::unimplemented("SplitBlob"))
    }

    async fn get_chunk_mapping(
        &self,
        _: Request<reapi::GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        Err(Status::unimplemented("GetChunkMapping"))
    }

    async fn splice_blob(
        &self,
        _: Request<reapi::SpliceBlobRequest>,
    ) -> Result<Response<reapi::SpliceBlobResponse>, Status> {
        Err(Status::unimplemented("SpliceBlob"))
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<reapi::RegisterChunkMappingRequest>>,
    ) -> Result<Response<reapi::RegisterChunkMappingResponse>, Status> {
        Err(Status::unimplemented("RegisterChunkMapping"))
    }
}

/// A resource name: whether it is compressed, and the digest.
fn resource(name: &str) -> Result<(bool, reapi::Digest), Status> {
    let wrong = || Status::invalid_argument(format!("{name} is no resource"));
    let parts: Vec<&str> = name.split('/').collect();
    let [.., kind, hash, size] = parts[..] else { return Err(wrong()) };
    let size_bytes = size.parse().map_err(|_| wrong())?;
    let is_compressed = kind == "zstd" && name.contains("compressed-blobs/");
    match is_compressed || kind == "blobs" {
        true => Ok((is_compressed, reapi::Digest { hash: hash.to_string(), size_bytes })),
        false => Err(wrong()),
    }
}

#[tonic::async_trait]
impl bytes::byte_stream_server::ByteStream for Service {
    type ReadStream = Streamed<bytes::ReadResponse>;

    async fn read(&self, request: Request<bytes::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        self.0.begin("Read").await?;
        let request = request.into_inner();
        if self.0.held().streams.contains_key(&request.resource_name) {
            return Ok(Response::new(self.listen(request.resource_name)));
        }
        let (is_compressed, digest) = resource(&request.resource_name)?;
        let mut blob = self.0.blob(&digest).ok_or_else(|| Status::not_found("no such blob"))?;
        if take(&mut self.0.held().behaviour.lies) {
            blob[0] ^= 1;
        }
        let rest = blob.split_off(usize::try_from(request.read_offset).expect("an offset"));
        let rest =
            if is_compressed { zstd::encode_all(rest.as_slice(), 1).expect("compressed") } else { rest };
        let breaks = take(&mut self.0.held().behaviour.breaks_streams);
        let end = if breaks { rest.len() / 2 } else { rest.len() };
        let chunks = rest[..end].chunks(64 << 10).map(|data| Ok(bytes::ReadResponse { data: data.to_vec() }));
        let mut chunks: Vec<Result<bytes::ReadResponse, Status>> = chunks.collect();
        if breaks {
            chunks.push(Err(Status::unavailable("the connection broke")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn write(
        &self,
        request: Request<Streaming<bytes::WriteRequest>>,
    ) -> Result<Response<bytes::WriteResponse>, Status> {
        self.0.begin("Write").await?;
        let mut stream = request.into_inner();
        let breaks = take(&mut self.0.held().behaviour.breaks_streams);
        let mut name = String::new();
        let mut all = Vec::new();
        let mut first_offset = 0;
        while let Some(message) = stream.next().await {
            let message = message?;
            if name.is_empty() {
                name = message.resource_name.clone();
                first_offset = message.write_offset;
                all = self.0.held().partial.remove(&name).unwrap_or_default();
                if all.len() as i64 != first_offset {
                    return Err(Status::invalid_argument("that is not where the upload ended"));
                }
            }
            let expected = all.len() as i64;
            if message.write_offset != expected && first_offset == 0 {
                return Err(Status::invalid_argument(format!("{} is not {expected}", message.write_offset)));
            }
            all.extend(message.data);
            if breaks {
                self.0.held().partial.insert(name, all);
                return Err(Status::unavailable("the connection broke"));
            }
            if message.finish_write {
                break;
            }
        }
        let (is_compressed, digest) = resource(&name)?;
        let blob = if is_compressed {
            zstd::decode_all(all.as_slice()).map_err(|e| Status::invalid_argument(e.to_string()))?
        } else {
            all
        };
        if digest_of(&blob) != digest {
            return Err(Status::invalid_argument("the blob has another digest"));
        }
        self.0.put(blob);
        Ok(Response::new(bytes::WriteResponse { committed_size: digest.size_bytes }))
    }

    async fn query_write_status(
        &self,
        request: Request<bytes::QueryWriteStatusRequest>,
    ) -> Result<Response<bytes::QueryWriteStatusResponse>, Status> {
        self.0.begin("QueryWriteStatus").await?;
        let held = self.0.held();
        let partial = held.partial.get(&request.get_ref().resource_name);
        let partial = partial.ok_or_else(|| Status::not_found("no such upload"))?;
        let committed_size = partial.len() as i64;
        Ok(Response::new(bytes::QueryWriteStatusResponse { committed_size, complete: false }))
    }
}

#[tonic::async_trait]
impl reapi::action_cache_server::ActionCache for Service {
    async fn get_action_result(
        &self,
        request: Request<reapi::GetActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        self.0.begin("GetActionResult").await?;
        let digest = request.into_inner().action_digest.unwrap_or_default();
        let found = self.0.held().actions.get(&digest.hash).cloned();
        found.map(Response::new).ok_or_else(|| Status::not_found("no result"))
    }

    async fn update_action_result(
        &self,
        request: Request<reapi::UpdateActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        self.0.begin("UpdateActionResult").await?;
        let request = request.into_inner();
        if !self.0.held().behaviour.may_update {
            return Err(Status::permission_denied("only workers write"));
        }
        let (digest, result) =
            (request.action_digest.unwrap_or_default(), request.action_result.unwrap_or_default());
        self.0.held().actions.insert(digest.hash, result.clone());
        Ok(Response::new(result))
    }
}

#[tonic::async_trait]
impl reapi::execution_server::Execution for Service {
    type ExecuteStream = Streamed<operations::Operation>;
    type WaitExecutionStream = Streamed<operations::Operation>;

    async fn execute(
        &self,
        request: Request<reapi::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        self.0.begin("Execute").await?;
        let request = request.into_inner();
        let digest = request.action_digest.clone().unwrap_or_default();
        // Equal actions under way are one operation.
        let name = format!("operations/{}", digest.hash);
        let is_known = {
            let mut held = self.0.held();
            let is_known = held.operations.get(&name).is_some_and(|operation| !operation.done);
            if !is_known {
                held.operations.insert(name.clone(), under_way(&name, Stage::Queued, ""));
                held.ending.remove(&name);
            }
            is_known
        };
        if !is_known {
            tokio::spawn(run(self.0.clone(), name.clone(), digest, request.skip_cache_lookup));
        }
        Ok(Response::new(self.watch(name)))
    }

    async fn wait_execution(
        &self,
        request: Request<reapi::WaitExecutionRequest>,
    ) -> Result<Response<Self::WaitExecutionStream>, Status> {
        self.0.begin("WaitExecution").await?;
        let name = request.into_inner().name;
        match self.0.held().operations.contains_key(&name) {
            true => Ok(Response::new(self.watch(name))),
            false => Err(Status::not_found("no such operation")),
        }
    }
}

impl Service {
    /// What a running command writes.
    fn listen(&self, name: String) -> Streamed<bytes::ReadResponse> {
        let state = self.0.clone();
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut sent = 0;
            loop {
                let changed = state.changed.notified();
                let Some((all, is_whole)) = state.held().streams.get(&name).cloned() else { return };
                if all.len() > sent {
                    let data = all[sent..].to_vec();
                    sent = all.len();
                    if sender.send(Ok(bytes::ReadResponse { data })).await.is_err() {
                        return;
                    }
                }
                if is_whole {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }

    /// The states of an operation until it is done.
    fn watch(&self, name: String) -> Streamed<operations::Operation> {
        let state = self.0.clone();
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let changed = state.changed.notified();
                let operation = state.held().operations.get(&name).cloned();
                let Some(operation) = operation else { return };
                let is_executing = operation.metadata != under_way(&name, Stage::Queued, "").metadata;
                if last.as_ref() != Some(&operation) {
                    last = Some(operation.clone());
                    let done = operation.done;
                    if sender.send(Ok(operation)).await.is_err() || done {
                        return;
                    }
                }
                if is_executing && take(&mut state.held().behaviour.breaks_executions) {
                    if state.held().behaviour.forgets_operations {
                        state.held().operations.remove(&name);
                    }
                    let _ = sender.send(Err(Status::unavailable("the connection broke"))).await;
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

#[tonic::async_trait]
impl operations::operations_server::Operations for Service {
    async fn list_operations(
        &self,
        _: Request<operations::ListOperationsRequest>,
    ) -> Result<Response<operations::ListOperationsResponse>, Status> {
        Err(Status::unimplemented("ListOperations"))
    }

    async fn get_operation(
        &self,
        _: Request<operations::GetOperationRequest>,
    ) -> Result<Response<operations::Operation>, Status> {
        Err(Status::unimplemented("GetOperation"))
    }

    async fn delete_operation(
        &self,
        _: Request<operations::DeleteOperationRequest>,
    ) -> Result<Response<protobuf::Empty>, Status> {
        Err(Status::unimplemented("DeleteOperation"))
    }

    async fn cancel_operation(
        &self,
        request: Request<operations::CancelOperationRequest>,
    ) -> Result<Response<protobuf::Empty>, Status> {
        self.0.begin("CancelOperation").await?;
        let name = request.into_inner().name;
        self.0.held().cancelled.push(name.clone());
        self.0.held().ending.insert(name);
        self.0.changed.notify_waiters();
        Ok(Response::new(protobuf::Empty {}))
    }

    async fn wait_operation(
        &self,
        _: Request<operations::WaitOperationRequest>,
    ) -> Result<Response<operations::Operation>, Status> {
        Err(Status::unimplemented("WaitOperation"))
    }
}

/// Names of the streams of an operation's command.
fn stream_names(name: &str) -> [String; 2] {
    ["stdout", "stderr"].map(|stream| format!("streams/{name}/{stream}"))
}

/// An operation that is not done.
fn under_way(name: &str, stage: Stage, worker: &str) -> operations::Operation {
    operation(name, stage, worker, Default::default())
}

/// An operation whose command's streams can be read.
fn with_streams(name: &str, worker: &str) -> operations::Operation {
    operation(name, Stage::Executing, worker, stream_names(name))
}

fn operation(
    name: &str,
    stage: Stage,
    worker: &str,
    [stdout_stream_name, stderr_stream_name]: [String; 2],
) -> operations::Operation {
    let metadata = reapi::ExecuteOperationMetadata {
        stage: stage as i32,
        stdout_stream_name,
        stderr_stream_name,
        partial_execution_metadata: Some(reapi::ExecutedActionMetadata {
            worker: worker.into(),
            ..Default::default()
        }),
        ..reapi::ExecuteOperationMetadata::default()
    };
    let type_url = "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteOperationMetadata".to_string();
    let metadata = Some(protobuf::Any { type_url, value: metadata.encode_to_vec() });
    operations::Operation { name: name.to_string(), metadata, done: false, result: None }
}

/// Executes an action, and ends its operation.
async fn run(state: Arc<State>, name: String, digest: reapi::Digest, skip_cache: bool) {
    let response = match attempt(&state, &name, &digest, skip_cache).await {
        Ok(response) => response,
        Err(status) => reapi::ExecuteResponse { status: Some(status), ..Default::default() },
    };
    let type_url = "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse".to_string();
    let any = protobuf::Any { type_url, value: response.encode_to_vec() };
    let done = operations::Operation {
        done: true,
        result: Some(operations::operation::Result::Response(any)),
        ..under_way(&name, Stage::Completed, "")
    };
    state.held().operations.insert(name, done);
    state.changed.notify_waiters();
}

fn status(code: Code, message: &str) -> rpc::Status {
    rpc::Status { code: code as i32, message: message.to_string(), details: Vec::new() }
}

/// Says that a blob is missing (google/rpc/error_details.proto, `PreconditionFailure`).
fn missing(hash: &str, size: i64) -> rpc::Status {
    #[derive(Clone, PartialEq, Message)]
    struct Failure {
        #[prost(message, repeated, tag = "1")]
        violations: Vec<Violation>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Violation {
        #[prost(string, tag = "1")]
        kind: String,
        #[prost(string, tag = "2")]
        subject: String,
    }
    let violation = Violation { kind: "MISSING".to_string(), subject: format!("blobs/{hash}/{size}") };
    let value = Failure { violations: vec![violation] }.encode_to_vec();
    let type_url = "type.googleapis.com/google.rpc.PreconditionFailure".to_string();
    let details = vec![protobuf::Any { type_url, value }];
    rpc::Status { details, ..status(Code::FailedPrecondition, "a blob is missing") }
}

async fn attempt(
    state: &State,
    name: &str,
    digest: &reapi::Digest,
    skip_cache: bool,
) -> Result<reapi::ExecuteResponse, rpc::Status> {
    let cached = state.held().actions.get(&digest.hash).cloned();
    if let Some(result) = cached.filter(|_| !skip_cache) {
        return Ok(reapi::ExecuteResponse {
            result: Some(result),
            cached_result: true,
            ..Default::default()
        });
    }
    let lost = |hash: String| missing(&hash, 1);
    let action: reapi::Action = state.message(Some(digest)).map_err(lost)?;
    let command: reapi::Command = state.message(action.command_digest.as_ref()).map_err(lost)?;
    let wanted = action.platform.unwrap_or_default().properties;
    let fits = |have: &[(String, String)]| {
        !have.is_empty()
            && wanted.iter().all(|p| have.iter().any(|(name, value)| *name == p.name && *value == p.value))
    };
    loop {
        let behaviour = state.held().behaviour.clone();
        if fits(&behaviour.properties) {
            break;
        }
        if !behaviour.queues_forever {
            return Err(status(Code::FailedPrecondition, "no worker has these properties"));
        }
        if state.held().ending.contains(name) {
            return Err(status(Code::Cancelled, "cancelled"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _worker = state.workers.acquire().await.expect("workers stay");
    let has_streams = state.held().behaviour.has_streams;
    let executing = match has_streams {
        true => with_streams(name, "worker-1"),
        false => under_way(name, Stage::Executing, "worker-1"),
    };
    for stream in stream_names(name).into_iter().filter(|_| has_streams) {
        state.held().streams.insert(stream, Default::default());
    }
    state.held().operations.insert(name.to_string(), executing);
    state.changed.notify_waiters();
    let directory = tempfile::tempdir().expect("a directory");
    if take(&mut state.held().behaviour.forgets) {
        let root: reapi::Directory = state.message(action.input_root_digest.as_ref()).map_err(lost)?;
        let file = root.files[0].digest.clone().unwrap_or_default();
        state.held().blobs.remove(&file.hash);
    }
    fetch(state, action.input_root_digest.as_ref(), directory.path())?;
    if take(&mut state.held().behaviour.loses_workers) {
        return Err(status(Code::Unavailable, "the worker was lost"));
    }
    let program = directory.path().join(&command.arguments[0]);
    let mut process = tokio::process::Command::new(program);
    process.args(&command.arguments[1..]).current_dir(directory.path()).stdin(Stdio::null());
    process.envs(state.env.iter().cloned()).kill_on_drop(true);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    // Another thread may start a process just while the program is written (ETXTBSY, execve(2)).
    let mut process = loop {
        match process.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                tokio::task::yield_now().await
            }
            other => break other.expect("it starts"),
        }
    };
    if take(&mut state.held().behaviour.kills) {
        process.start_kill().expect("it is killed");
    }
    let names = stream_names(name);
    let (stdout, stderr) =
        (process.stdout.take().expect("it is piped"), process.stderr.take().expect("it is piped"));
    let ended = async {
        let (stdout, stderr) =
            tokio::join!(collect(state, &names[0], stdout), collect(state, &names[1], stderr));
        let status = process.wait().await?;
        Ok::<_, std::io::Error>(std::process::Output { status, stdout, stderr })
    };
    tokio::pin!(ended);
    let output = loop {
        tokio::select! {
            output = &mut ended => break output.expect("it ends"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                if state.held().ending.contains(name) {
                    return Err(status(Code::Cancelled, "cancelled"));
                }
            }
        }
    };
    let mut result = reapi::ActionResult {
        exit_code: output.status.code().unwrap_or(137),
        stdout_raw: output.stdout,
        stderr_raw: output.stderr,
        execution_metadata: Some(reapi::ExecutedActionMetadata {
            worker: "worker-1".into(),
            ..Default::default()
        }),
        ..reapi::ActionResult::default()
    };
    for path in &command.output_paths {
        if let Ok(content) = std::fs::read(directory.path().join(path)) {
            let digest = Some(state.put(content));
            result.output_files.push(reapi::OutputFile { path: path.clone(), digest, ..Default::default() });
        }
    }
    let layer = state.held().behaviour.layer.clone();
    if let Some(layer) = layer {
        replace_layer(state, &mut result, layer);
    }
    if result.exit_code == 0 {
        state.held().actions.insert(digest.hash.clone(), result.clone());
    }
    Ok(reapi::ExecuteResponse { result: Some(result), ..Default::default() })
}

/// Reads a stream of a command to its end; others may hear it meanwhile.
async fn collect(state: &State, name: &str, mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let length = stream.read_buf(&mut all).await.expect("a pipe can be read");
        if let Some(heard) = state.held().streams.get_mut(name) {
            *heard = (all.clone(), length == 0);
        }
        state.changed.notify_waiters();
        if length == 0 {
            return all;
        }
    }
}

/// Makes a result say that another archive is its layer.
fn replace_layer(state: &State, result: &mut reapi::ActionResult, layer: Vec<u8>) {
    let digest = state.put(layer);
    let name = format!("sha256:{}", digest.hash);
    let descriptor = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{name}","size":{}}}"#,
        digest.size_bytes
    );
    let answer =
        format!(r#"{{"Done":{{"layer":{{"diff_id":"{name}","descriptor":{descriptor}}},"size":1}}}}"#);
    let answer = state.put(answer.into_bytes());
    let file = |path: &str, digest| reapi::OutputFile {
        path: path.into(),
        digest: Some(digest),
        ..Default::default()
    };
    result.output_files = vec![file("layer", digest), file("result.json", answer)];
}

/// Writes a tree of inputs.
fn fetch(state: &State, root: Option<&reapi::Digest>, to: &Path) -> Result<(), rpc::Status> {
    let size = root.map_or(0, |digest| digest.size_bytes);
    let directory: reapi::Directory = state.message(root).map_err(|hash| missing(&hash, size))?;
    for file in &directory.files {
        let digest = file.digest.clone().unwrap_or_default();
        if !state.has(&digest) {
            return Err(missing(&digest.hash, digest.size_bytes));
        }
        let kept = state.kept(&digest, file.is_executable);
        std::fs::hard_link(kept, to.join(&file.name)).expect("linked");
    }
    for child in &directory.directories {
        let path = to.join(&child.name);
        std::fs::create_dir(&path).expect("a directory");
        fetch(state, child.digest.as_ref(), &path)?;
    }
    Ok(())
}
