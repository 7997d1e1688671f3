//! Sessions: the connection back to a client, on which this program is the one that asks (BuildKit,
//! session/session.go and session/grpchijack).
//!
//! A client opens `Control.Session`, a stream of bytes both ways. The bytes are those of an HTTP/2 connection
//! in which the client is the server: of its files, secrets, agents, and of what it takes as a result.

mod content;
mod files;
mod receive;
mod send;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bollard_buildkit_proto::moby;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::GetSecretRequest;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::CredentialsRequest;
use bollard_buildkit_proto::moby::filesync::v1::auth_client::AuthClient;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_client::SshClient;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage as AgentBytes, CheckAgentRequest};
use bollard_buildkit_proto::moby::upload::v1::upload_client::UploadClient;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

pub use content::ClientStore;
pub use files::{Synced, Wanted, kept_directory};
pub(crate) use receive::mode_for_go;

/// How long a build waits for the session that it names. Clients open it at the same time as the build.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the end of a build waits for a session that nobody needed.
const MOMENT: Duration = Duration::from_secs(1);

/// How long a client that was asked for something may say nothing before it is asked whether it is there,
/// and how long it may take to answer that. A client that hangs would hold its build for ever.
const QUIET: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);

/// Bytes that wait in one direction of a session.
const PIPE_SIZE: usize = 256 * 1024;

/// The largest message that is taken from a client, in bytes: BuildKit's limit.
pub(crate) const MESSAGE_SIZE_MAX: usize = 16 * 1024 * 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sessions that are open, by their ids.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    opened: Notify,
}

/// The connection back to one client.
pub struct Session {
    /// Names what the client's directories are, so that a later build finds files that were sent before.
    shared_key: String,
    /// What the client offers: `/package.Service/Method` in lower case.
    methods: HashSet<String>,
    channel: Channel,
    runtime: Handle,
}

impl Sessions {
    /// Opens the session that a client asks for. The stream has the bytes for the client; the session is
    /// closed when the client's stream ends.
    ///
    /// # Errors
    ///
    /// The request has no id, or the client does not answer as an HTTP/2 server.
    pub async fn open(
        self: &Arc<Sessions>,
        metadata: &MetadataMap,
        incoming: Streaming<BytesMessage>,
    ) -> Result<ReceiverStream<Result<BytesMessage, Status>>, Status> {
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let id = text("x-docker-expose-session-uuid").to_string();
        if id.is_empty() {
            return Err(Status::invalid_argument("the session has no id"));
        }
        let methods = metadata.get_all("x-docker-expose-session-grpc-method").iter();
        let methods = methods.filter_map(|value| value.to_str().ok()).map(str::to_ascii_lowercase).collect();
        let shared_key = text("x-docker-expose-session-sharedkey").to_string();
        let (ours, theirs) = tokio::io::duplex(PIPE_SIZE);
        let (send, receive) = mpsc::channel(16);
        let (mut from_us, to_us) = tokio::io::split(theirs);
        let passing = tokio::spawn(async move {
            let mut buffer = vec![0; 32 * 1024];
            while let Ok(length @ 1..) = from_us.read(&mut buffer).await {
                let message = BytesMessage { data: buffer[..length].to_vec() };
                if send.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        let sessions = self.clone();
        tokio::spawn(async move {
            let ended = id.clone();
            let (heard, is_heard) = oneshot::channel();
            // A client that says nothing is no HTTP/2 server, but a connection to it would seem to be open.
            let opening = async {
                let channel = connect(ours).await?;
                is_heard.await.context("the client has gone")?;
                Ok::<_, anyhow::Error>(channel)
            };
            let pumping = tokio::spawn(pump(incoming, to_us, heard, passing));
            if let Ok(Ok(channel)) = tokio::time::timeout(PATIENCE, opening).await {
                let session = Session { shared_key, methods, channel, runtime: Handle::current() };
                lock(&sessions.open).insert(id, Arc::new(session));
                sessions.opened.notify_waiters();
            }
            // A panic of the pump ends the session, too.
            let _ = pumping.await;
            lock(&sessions.open).remove(&ended);
        });
        Ok(ReceiverStream::new(receive))
    }

    /// Waits a moment for a session that is being opened, before a build that did not need it is over: its
    /// client would close it while the first frames are on their way.
    pub async fn settle(&self, id: &str) {
        if !id.is_empty() {
            // One that is not opened is no matter here.
            let _ = tokio::time::timeout(MOMENT, self.wait(id)).await;
        }
    }

    /// The session of an id. Waits for one that is being opened.
    ///
    /// # Errors
    ///
    /// There is none after ten seconds.
    pub async fn wait(&self, id: &str) -> Result<Arc<Session>> {
        // `PREFIX:ID` tells apart contexts of one session.
        let id = id.split_once(':').map_or(id, |(_, id)| id);
        let waiting = async {
            loop {
                let opened = self.opened.notified();
                tokio::pin!(opened);
                opened.as_mut().enable();
                if let Some(session) = lock(&self.open).get(id) {
                    return session.clone();
                }
                opened.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.with_context(|| format!("no active session for {id}"))
    }
}

/// Passes the client's bytes on until the client ends its stream; then it ends the task that passes ours.
async fn pump(
    mut incoming: Streaming<BytesMessage>,
    mut to_us: tokio::io::WriteHalf<DuplexStream>,
    heard: oneshot::Sender<()>,
    passing: JoinHandle<()>,
) {
    let mut heard = Some(heard);
    while let Ok(Some(message)) = incoming.message().await {
        if !message.data.is_empty()
            && let Some(heard) = heard.take()
        {
            // The session may have been given up.
            let _ = heard.send(());
        }
        if to_us.write_all(&message.data).await.is_err() {
            return;
        }
    }
    // BuildKit's clients take what comes after they have closed a session for frames of HTTP/2, with rubbish
    // behind them, and print an error. So our end of the connection is not told.
    passing.abort();
    let _ = passing.await;
    // HTTP/2 sees the end of the connection; that it fails to close is no matter then.
    let _ = to_us.shutdown().await;
}

/// An HTTP/2 connection over a pipe that is there already.
async fn connect(pipe: DuplexStream) -> Result<Channel> {
    let pipe = Arc::new(Mutex::new(Some(pipe)));
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let pipe = lock(&pipe).take();
        async move { pipe.map(TokioIo::new).ok_or_else(|| std::io::Error::other("the session has ended")) }
    });
    let endpoint = Endpoint::from_static("http://session")
        .initial_connection_window_size(4 * 1024 * 1024)
        .http2_keep_alive_interval(QUIET)
        .keep_alive_timeout(ANSWER)
        .initial_stream_window_size(2 * 1024 * 1024);
    Ok(endpoint.connect_with_connector(connector).await?)
}

impl Session {
    /// Waits, on a thread that may wait, for an answer of the client.
    pub fn block<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    /// The name under which files that this client sends are kept for its next build; empty if they are not.
    pub fn shared_key(&self) -> &str {
        &self.shared_key
    }

    fn offers(&self, method: &str) -> bool {
        self.methods.contains(&method.to_ascii_lowercase())
    }

    /// User name and password for a registry (`HOST[:PORT]`), if the client has some.
    ///
    /// # Errors
    ///
    /// The client's words.
    pub fn credentials(&self, host: &str) -> Result<Option<(String, String)>> {
        if !self.offers("/moby.filesync.v1.Auth/Credentials") {
            return Ok(None);
        }
        let mut client = AuthClient::new(self.channel.clone());
        let request = CredentialsRequest { host: host.to_string() };
        match self.block(client.credentials(request)) {
            Ok(answer) => {
                let answer = answer.into_inner();
                Ok(Some((answer.username, answer.secret)).filter(|(_, secret)| !secret.is_empty()))
            }
            Err(status) if matches!(status.code(), Code::Unimplemented | Code::NotFound) => Ok(None),
            Err(status) => bail!("the client's credentials for {host}: {}", status.message()),
        }
    }

    /// A secret of the client; `None` if it has no such secret.
    ///
    /// # Errors
    ///
    /// The client's words.
    pub fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        if !self.offers("/moby.buildkit.secrets.v1.Secrets/GetSecret") {
            return Ok(None);
        }
        let mut client = SecretsClient::new(self.channel.clone());
        let request = GetSecretRequest { id: id.to_string(), annotations: HashMap::new() };
        match self.block(client.get_secret(request)) {
            Ok(answer) => Ok(Some(answer.into_inner().data)),
            Err(status) if matches!(status.code(), Code::Unimplemented | Code::NotFound) => Ok(None),
            Err(status) => bail!("the client's secret {id}: {}", status.message()),
        }
    }

    /// Writes what the client uploads at an address (`http://HOST/PATH`), such as an archive that it reads
    /// from its standard input.
    ///
    /// # Errors
    ///
    /// The client's words, or those of the writer.
    pub fn upload(&self, host: &str, path: &str, to: &mut dyn Write) -> Result<()> {
        let mut request = Request::new(tokio_stream::pending());
        request.metadata_mut().insert("urlpath", path.parse()?);
        request.metadata_mut().insert("urlhost", host.parse()?);
        let client = UploadClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MESSAGE_SIZE_MAX);
        let answer = self.block(client.pull(request)).map_err(|status| said(&status))?;
        let mut pieces = answer.into_inner();
        while let Some(piece) = self.block(pieces.message()).map_err(|status| said(&status))? {
            to.write_all(&piece.data)?;
        }
        Ok(())
    }

    /// A socket at `path` that leads to the client's SSH agent of an id until the value is dropped; `None` if
    /// the client has no such agent. The open `directory` of the socket is kept, as the path may lead through
    /// its descriptor.
    ///
    /// # Errors
    ///
    /// The socket cannot be made.
    pub fn agent(self: &Arc<Session>, id: &str, path: PathBuf, directory: File) -> Result<Option<Agent>> {
        if !self.offers("/moby.sshforward.v1.SSH/CheckAgent") {
            return Ok(None);
        }
        let mut client = SshClient::new(self.channel.clone());
        let asked = self.block(client.check_agent(CheckAgentRequest { id: id.to_string() }));
        if asked.is_err() {
            return Ok(None);
        }
        let _inside = self.runtime.enter();
        let listener = UnixListener::bind(&path).with_context(|| format!("listen at {}", path.display()))?;
        let (session, id) = (self.clone(), id.to_string());
        let task = self.runtime.spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (channel, id) = (session.channel.clone(), id.clone());
                // A connection that fails ends; the command that uses it says so.
                tokio::spawn(async move {
                    let _ = forward(channel, &id, connection).await;
                });
            }
        });
        Ok(Some(Agent { path, task, _directory: directory }))
    }
}

/// A socket that leads to an agent; nobody listens any more once it is dropped.
pub struct Agent {
    path: PathBuf,
    task: JoinHandle<()>,
    _directory: File,
}

impl Agent {
    /// The socket.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
        // The directory goes with the build.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Passes bytes between a connection to an agent's socket and the client.
async fn forward(channel: Channel, id: &str, connection: UnixStream) -> Result<()> {
    let (mut read, mut write) = connection.into_split();
    let (send, receive) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            if send.send(AgentBytes { data: buffer[..length].to_vec() }).await.is_err() {
                return;
            }
        }
    });
    let mut request = Request::new(ReceiverStream::new(receive));
    request.metadata_mut().insert("buildkit.ssh.id", id.parse()?);
    let mut answers = SshClient::new(channel).forward_agent(request).await?.into_inner();
    while let Some(message) = answers.message().await? {
        write.write_all(&message.data).await?;
    }
    Ok(())
}

/// Puts values into the metadata of a request as BuildKit does: text that is not ASCII is escaped, and a
/// second name says so (session/filesync, `encodeOpts`).
fn add_values(metadata: &mut MetadataMap, name: &'static str, values: &[String]) -> Result<()> {
    let is_escaped = values.iter().any(|value| !value.is_ascii());
    for value in values {
        let value = if is_escaped { escaped(value) } else { value.clone() };
        metadata.append(name, value.parse().with_context(|| format!("{name} \"{value}\""))?);
    }
    if is_escaped {
        let name = tonic::metadata::MetadataKey::from_bytes(format!("{name}-encoded").as_bytes())?;
        metadata.insert(name, "1".parse()?);
    }
    Ok(())
}

/// Escapes a text as a query of an address.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The client's words in an answer that says that something failed, or that there will be none.
fn said(status: &Status) -> anyhow::Error {
    // What the transport found has a source; what the client answered has none.
    match std::error::Error::source(status) {
        Some(_) => anyhow::anyhow!("the client's session has ended: {}", status.message()),
        None => anyhow::anyhow!("the client says: {}", status.message()),
    }
}

// The crate of the messages has a second copy of this service for streams of bytes.
use moby::filesync::{packet, v1 as filesync};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_ascii_are_escaped() {
        let mut metadata = MetadataMap::new();
        add_values(&mut metadata, "a", &["x y".to_string()]).expect("ASCII");
        add_values(&mut metadata, "b", &["ä b".to_string(), "c".to_string()]).expect("escaped");
        assert_eq!(metadata.get("a").expect("there").to_str().expect("ASCII"), "x y");
        assert!(metadata.get("a-encoded").is_none());
        let all: Vec<_> = metadata.get_all("b").iter().map(|v| v.to_str().expect("ASCII")).collect();
        assert_eq!(all, ["%C3%A4%20b", "c"]);
        assert_eq!(metadata.get("b-encoded").expect("there").to_str().expect("ASCII"), "1");
    }
}
