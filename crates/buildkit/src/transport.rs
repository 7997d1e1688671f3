//! How clients reach the server: sockets, TLS, standard input and output, sockets that systemd opened.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context, Result, bail};
use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::v1::control_server::ControlServer;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridgeServer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::server::{Connected, Router};
use tonic::transport::{Certificate, Identity, Server as Transport, ServerTlsConfig};

use crate::content::Content;
use crate::health::Healthy;
use crate::server::Server;
use crate::session::MESSAGE_SIZE_MAX;

/// Where a server listens.
pub enum Listen {
    /// A socket in the file system.
    Unix(PathBuf),
    /// An address; without TLS only one of this machine.
    Tcp(SocketAddr, Option<TlsFiles>),
    /// A socket that systemd opened (sd_listen_fds(3)).
    InheritedUnix(std::os::unix::net::UnixListener),
    /// The same for TCP.
    InheritedTcp(std::net::TcpListener, Option<TlsFiles>),
}

/// Files in PEM form for TLS: clients must have certificates.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority that signs clients' certificates.
    pub ca: PathBuf,
}

impl TlsFiles {
    fn config(&self) -> Result<ServerTlsConfig> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
        let identity = Identity::from_pem(read(&self.certificate)?, read(&self.key)?);
        let ca = Certificate::from_pem(read(&self.ca)?);
        Ok(ServerTlsConfig::new().identity(identity).client_ca_root(ca))
    }
}

/// The services, with TLS if there are files for it.
fn router(server: &Server, tls: Option<&TlsFiles>) -> Result<Router> {
    let mut transport = Transport::builder()
        .initial_connection_window_size(4 * 1024 * 1024)
        .initial_stream_window_size(2 * 1024 * 1024)
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(30)));
    if let Some(files) = tls {
        let wrong = || format!("TLS with {} and {}", files.certificate.display(), files.key.display());
        transport = transport.tls_config(files.config()?).with_context(wrong)?;
    }
    let control = ControlServer::new(server.clone()).max_decoding_message_size(MESSAGE_SIZE_MAX);
    let bridge = LlbBridgeServer::new(server.clone()).max_decoding_message_size(MESSAGE_SIZE_MAX);
    let router = transport
        .add_service(control.max_encoding_message_size(MESSAGE_SIZE_MAX))
        .add_service(bridge.max_encoding_message_size(MESSAGE_SIZE_MAX))
        .add_service(Content(server.0.house.clone()))
        .add_service(HealthServer::new(Healthy));
    Ok(router)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("buildkit")
        .enable_all()
        .build()
        .context("start the server's threads")
}

/// Serves until the process ends. `ready` is called with the address once clients can connect.
///
/// # Errors
///
/// The address cannot be listened at.
pub fn serve(server: &Server, listen: Listen, ready: impl FnOnce(&str)) -> Result<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        match listen {
            Listen::Unix(path) => {
                let (listener, _lock) = listen_unix(&path).await?;
                ready(&format!("unix://{}", path.display()));
                let incoming = UnixListenerStream::new(listener);
                Ok(router(server, None)?.serve_with_incoming(incoming).await?)
            }
            Listen::InheritedUnix(listener) => {
                listener.set_nonblocking(true)?;
                ready("the socket of systemd");
                let incoming = UnixListenerStream::new(UnixListener::from_std(listener)?);
                Ok(router(server, None)?.serve_with_incoming(incoming).await?)
            }
            Listen::Tcp(address, tls) => {
                check_address(&address, tls.as_ref())?;
                let listener =
                    TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
                ready(&format!("tcp://{}", listener.local_addr()?));
                serve_tcp(server, listener, tls.as_ref()).await
            }
            Listen::InheritedTcp(listener, tls) => {
                check_address(&listener.local_addr()?, tls.as_ref())?;
                listener.set_nonblocking(true)?;
                ready("the socket of systemd");
                serve_tcp(server, TcpListener::from_std(listener)?, tls.as_ref()).await
            }
        }
    })
}

async fn serve_tcp(server: &Server, listener: TcpListener, tls: Option<&TlsFiles>) -> Result<()> {
    let incoming = TcpListenerStream::new(listener).map(|connection| {
        // Answers are small and wanted at once.
        connection.inspect(|connection| drop(connection.set_nodelay(true)))
    });
    Ok(router(server, tls)?.serve_with_incoming(incoming).await?)
}

/// Whoever reaches the server can run commands as its user, so an address that others reach needs TLS.
fn check_address(address: &SocketAddr, tls: Option<&TlsFiles>) -> Result<()> {
    if tls.is_none() && !address.ip().is_loopback() {
        bail!(
            "tcp://{address}: others can reach it, and whoever does can run commands here: give --tls-cert, --tls-key and --tls-client-ca, or an address of 127.0.0.1"
        );
    }
    Ok(())
}

/// Listens at a path, which only this user can reach. The lock keeps other servers away; a socket that a
/// killed server left is replaced.
async fn listen_unix(path: &Path) -> Result<(UnixListener, std::fs::File)> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock = std::fs::File::create(&lock_path).with_context(|| format!("lock {}", path.display()))?;
    if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("{}: another server listens there", path.display());
    }
    if let Ok(found) = path.symlink_metadata() {
        use std::os::unix::fs::FileTypeExt;
        if !found.file_type().is_socket() {
            bail!("{}: there is a file that is no socket", path.display());
        }
        if UnixStream::connect(path).await.is_ok() {
            bail!("{}: another program listens there", path.display());
        }
        std::fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
    }
    let before = rustix::process::umask(rustix::fs::Mode::from(0o177));
    let listener = UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()));
    rustix::process::umask(before);
    let listener = listener?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))
        .with_context(|| format!("set the mode of {}", path.display()))?;
    Ok((listener, lock))
}

/// Serves one client on standard input and output: through the server that listens at `socket`, if there is
/// one, or else here. Ends with the client.
///
/// # Errors
///
/// Standard input is a terminal, or no server can be started.
pub fn dial_stdio(server: impl FnOnce() -> Result<Server>, socket: Option<&Path>) -> Result<()> {
    if io::stdin().is_terminal() {
        bail!("standard input is a terminal: a client such as buildx starts this through ssh");
    }
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut stdio = Stdio { input: tokio::io::stdin(), output: tokio::io::stdout(), ended: None };
        if let Some(path) = socket
            && let Ok(mut there) = UnixStream::connect(path).await
        {
            tokio::io::copy_bidirectional(&mut stdio, &mut there).await.context("pass bytes on")?;
            return Ok::<(), anyhow::Error>(());
        }
        let router = router(&server()?, None)?;
        let (ended, end) = tokio::sync::oneshot::channel();
        stdio.ended = Some(ended);
        // A stream that ends would end the server while it answers.
        let incoming = tokio_stream::once(Ok::<_, io::Error>(stdio)).chain(tokio_stream::pending());
        let over = async {
            // A connection that is dropped is over, too.
            let _ = end.await;
        };
        Ok(router.serve_with_incoming_shutdown(incoming, over).await?)
    })?;
    // A thread that reads standard input cannot be ended.
    runtime.shutdown_background();
    Ok(())
}

/// Standard input and output as one connection, which tells when it is dropped.
struct Stdio {
    input: tokio::io::Stdin,
    output: tokio::io::Stdout,
    ended: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Drop for Stdio {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            // Nobody waits any more if the server ends by itself.
            let _ = ended.send(());
        }
    }
}

impl Connected for Stdio {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Stdio {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_shutdown(context)
    }
}
