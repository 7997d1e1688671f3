//! Accepts, serves and watches connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::gate::{Client, HEAD_SIZE_MAX, Refused};
use super::handler::Handler;
use super::metrics::add;
use super::socket::{Socket, Wire};

/// Time for the request line and headers, including the wait for the next request.
const HEAD_TIME: Duration = Duration::from_secs(120);

/// Time for a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(20);

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 45\r\nConnection: close\r\n\r\nthis registry speaks https; plain http came.\n";

/// Accepts clients forever.
pub(super) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, handler: Arc<Handler>) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                // Usually no descriptor is free: other connections must end first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        match handler.gate.enter(address.ip()) {
            Ok(pass) => {
                let (handler, tls) = (handler.clone(), tls.clone());
                tokio::spawn(async move {
                    serve(stream, address, tls, handler).await;
                    drop(pass);
                });
            }
            Err(refused) => {
                add(&handler.metrics.connections_refused, 1);
                refuse(&stream, &refused);
                if let Refused::TooMany(_) = refused {
                    let socket = Socket::new(stream);
                    socket.linger();
                    tokio::spawn(async move { socket.finish().await });
                }
            }
        }
    }
}

/// Sends a refusal without reading anything, as much of it as the kernel accepts at once.
fn refuse(stream: &TcpStream, refused: &Refused) {
    let (status, message) = match refused {
        Refused::Full => ("503 Service Unavailable", "the registry has too many connections".to_string()),
        Refused::TooMany(limit) => {
            ("429 Too Many Requests", format!("more than {limit} connections from one address"))
        }
    };
    let body = serde_json::json!({"errors": [{"code": "TOOMANYREQUESTS", "message": message}]}).to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nRetry-After: 5\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = rustix::net::send(
        stream,
        answer.as_bytes(),
        rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT,
    );
}

async fn serve(stream: TcpStream, address: SocketAddr, tls: Option<TlsAcceptor>, handler: Arc<Handler>) {
    let client = Client { address, secure: tls.is_some(), socket: Arc::new(Socket::new(stream)) };
    let socket = client.socket.clone();
    let (stall, metrics) = (handler.options().stall, handler.metrics.clone());
    let wire = Wire(socket.clone());
    let talk = async {
        match tls {
            None => converse(wire, client, handler).await,
            Some(tls) => secured(wire, &tls, client, handler).await,
        }
    };
    tokio::select! {
        () = talk => {}
        () = socket.too_slow(stall) => {
            add(&metrics.clients_given_up, 1);
            return;
        }
    }
    socket.finish().await;
}

/// Like [`converse`], over TLS. A client that speaks plain HTTP gets an explanation.
async fn secured(wire: Wire, tls: &TlsAcceptor, client: Client, handler: Arc<Handler>) {
    let socket = client.socket.clone();
    let begin = async {
        if !socket.begins_tls().await? {
            socket.answer(PLAIN_HTTP);
            socket.linger();
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        tls.accept(wire).await
    };
    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, begin).await {
        converse(stream, client, handler).await;
    }
}

/// Serves requests until one side ends the connection.
async fn converse(wire: impl AsyncRead + AsyncWrite + Unpin, client: Client, handler: Arc<Handler>) {
    let service = service_fn(move |request| {
        let (handler, client) = (handler.clone(), client.clone());
        // The box is freed once only the answer's body is left, which a slow client may take long to read.
        Box::pin(async move { handler.handle(request, client).await })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_SIZE_MAX)
        // A client may close its sending side after its last request and still wants the answers.
        .half_close(true)
        .serve_connection(TokioIo::new(wire), service);
    // A client that goes away is no error.
    let _ = connection.await;
}
