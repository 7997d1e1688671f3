//! The connection: names are resolved without the C library, TLS with the settings' certificates, headers on
//! every request.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use crossdock_oci::name::random_name;
use crossdock_registry::client::ResolverFiles;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tonic::metadata::{Ascii, BinaryMetadataValue, MetadataKey, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use tonic::{Request, Status};

use crate::Result;
use crate::address::Address;
use crate::error::FarmError;
use crate::settings::{Dial, Settings};

/// How long a name is looked up and a connection is tried.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long it may take to dial.
const DIAL_TIME: Duration = Duration::from_secs(600);
/// A connection without a sign of life for this long is asked for one, since executions may be silent for
/// hours: by TCP, as HTTP/2's pings make many servers hang up (gRPC's core allows one in five minutes).
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Time between such questions, and how many may go unanswered.
const KEEP_ALIVE_AGAIN: (Duration, u32) = (Duration::from_secs(5), 4);
/// The header in which servers look for the program that asks (REAPI, message `RequestMetadata`).
const METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";

/// A connection with headers.
pub(crate) type Connection = InterceptedService<Channel, Headers>;

/// Adds headers to requests.
#[derive(Clone)]
pub(crate) struct Headers(Arc<Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)>>, BinaryMetadataValue);

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        for (name, value) in self.0.iter() {
            request.metadata_mut().append(name.clone(), value.clone());
        }
        request.metadata_mut().insert_bin(METADATA, self.1.clone());
        Ok(request)
    }
}

impl Headers {
    fn new(settings: &Settings) -> Result<Headers> {
        let mut headers = Vec::new();
        for (name, value) in &settings.headers {
            let wrong = |what: &str| FarmError::Settings(format!("the header {name:?} {what}"));
            let key = name.to_ascii_lowercase();
            if key.ends_with("-bin") || key.starts_with("grpc-") {
                return Err(wrong("belongs to gRPC itself"));
            }
            let key: MetadataKey<Ascii> = key.parse().map_err(|_| wrong("has no valid name"))?;
            let mut value: MetadataValue<Ascii> =
                value.expose().parse().map_err(|_| wrong("has a value that no header can have"))?;
            value.set_sensitive(true);
            headers.push((key, value));
        }
        let tool =
            reapi::ToolDetails { tool_name: "crossdock".into(), tool_version: settings.version.clone() };
        let metadata = reapi::RequestMetadata {
            tool_details: Some(tool),
            tool_invocation_id: random_name(),
            ..reapi::RequestMetadata::default()
        };
        Ok(Headers(Arc::new(headers), BinaryMetadataValue::from_bytes(&metadata.encode_to_vec())))
    }
}

/// Finds what is wrong with settings before the first request.
///
/// # Errors
///
/// The settings contradict each other, or name files that cannot be read.
pub fn check(settings: &Settings) -> Result<()> {
    let address = &settings.address;
    let has_files = settings.identity.is_some() || settings.authority.is_some();
    if !address.is_tls && has_files {
        let message = format!("{address} is not encrypted, so certificates have no use: write grpcs://");
        return Err(FarmError::Settings(message));
    }
    let is_secret = |(name, _): &(String, _)| name.eq_ignore_ascii_case("authorization");
    if !address.is_tls && !address.is_loopback() && settings.headers.iter().any(is_secret) {
        let message =
            format!("{address} is not encrypted, so a token would be seen on its way: write grpcs://");
        return Err(FarmError::Settings(message));
    }
    Headers::new(settings)?;
    if address.is_tls { tls(settings).map(drop) } else { Ok(()) }
}

/// A connection, which is made when the first request needs it, and made again when it breaks.
pub(crate) fn connection(settings: &Settings) -> Result<Connection> {
    check(settings)?;
    let address = &settings.address;
    let scheme = if address.is_tls { "https" } else { "http" };
    let uri = format!("{scheme}://{}", address.authority());
    let wrong =
        |e: tonic::transport::Error| FarmError::Settings(format!("connect to {address}: {}", chain(&e)));
    let mut endpoint = Endpoint::from_shared(uri)
        .map_err(wrong)?
        .user_agent(format!("crossdock/{}", settings.version))
        .map_err(wrong)?
        .connect_timeout(CONNECT_TIME);
    if address.is_tls {
        endpoint = endpoint.tls_config(tls(settings)?).map_err(wrong)?;
    }
    let channel = match settings.dial.clone() {
        Some(dial) => {
            // What is dialled may have to be installed first.
            let endpoint = endpoint.connect_timeout(DIAL_TIME);
            endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| dialled(dial.clone())))
        }
        None => {
            let address = address.clone();
            endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| connect(address.clone())))
        }
    };
    Ok(InterceptedService::new(channel, Headers::new(settings)?))
}

fn tls(settings: &Settings) -> Result<ClientTlsConfig> {
    let mut tls = ClientTlsConfig::new().domain_name(settings.address.host.clone());
    tls = match &settings.authority {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
        None => tls.with_native_roots(),
    };
    if let Some(identity) = &settings.identity {
        tls = tls.identity(Identity::from_pem(read(&identity.certificate)?, read(&identity.key)?));
    }
    Ok(tls)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| FarmError::File { path: path.to_path_buf(), source })
}

/// Two pipes as a connection.
type Pipes = tokio::io::Join<pipe::Receiver, pipe::Sender>;

/// Opens a connection without the network.
async fn dialled(dial: Dial) -> io::Result<TokioIo<Pipes>> {
    let opened = tokio::task::spawn_blocking(move || (dial.open)()).await.map_err(io::Error::other)?;
    let (read, write) = opened?;
    let read = pipe::Receiver::from_owned_fd(read)?;
    Ok(TokioIo::new(tokio::io::join(read, pipe::Sender::from_owned_fd(write)?)))
}

/// Connects to the first address that answers.
async fn connect(address: Address) -> io::Result<TokioIo<TcpStream>> {
    let (host, port) = (address.host.clone(), address.port);
    let addresses = match host.trim_matches(['[', ']']).parse() {
        Ok(address) => vec![address],
        Err(_) => {
            let look_up = move || ResolverFiles::default().addresses(&host, Instant::now() + CONNECT_TIME);
            tokio::task::spawn_blocking(look_up).await.map_err(io::Error::other)??
        }
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", address.host));
    for ip in addresses {
        match TcpStream::connect((ip, port)).await {
            Ok(stream) => {
                // Requests are small and answers are waited for.
                let _ = stream.set_nodelay(true);
                keep_alive(&stream)?;
                return Ok(TokioIo::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Finds out when the other end is gone (tcp(7)).
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    let (interval, count) = KEEP_ALIVE_AGAIN;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    Ok(sockopt::set_tcp_keepcnt(stream, count)?)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
