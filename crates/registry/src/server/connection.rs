//! Connections: how many there may be, of all clients and of one address, and how each is served and watched.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::handler::Handler;
use super::metrics::add;
use super::socket::{Socket, Wire};

/// A request's line and headers may take so many bytes; so large is the read buffer of a connection, too.
/// podman asks for 1024 ranges in one header, of at most 22 bytes each.
pub(super) const HEAD_SIZE_MAX: usize = 32 * 1024;

/// Time for the line and headers of a request, which includes the wait for the next request.
const HEAD_TIME: Duration = Duration::from_secs(120);

/// Time for a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(20);

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 45\r\nConnection: close\r\n\r\nthis registry speaks https; plain http came.\n";

/// Connections of one address, unless the options say otherwise. Behind a router there may be many machines.
const PER_ADDRESS: usize = 1000;

/// The other side of a request.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    /// It speaks TLS with us.
    pub(super) secure: bool,
    pub(super) socket: Arc<Socket>,
}

/// Counts connections.
pub(super) struct Gate {
    total_max: usize,
    /// As the options say; loopback has no limit by itself, since a reverse proxy may be there.
    per_address: Option<usize>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that was let in; counted until dropped.
struct Pass {
    gate: Arc<Gate>,
    key: IpAddr,
}

/// Why a connection is not served.
enum Refused {
    Full,
    TooMany(usize),
}

impl Gate {
    pub(super) fn new(total_max: usize, per_address: Option<usize>) -> Gate {
        Gate { total_max, per_address, open: Mutex::default() }
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.count().total
    }

    fn count(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn enter(self: &Arc<Gate>, address: IpAddr) -> Result<Pass, Refused> {
        let key = household(address);
        let mut open = self.count();
        if open.total >= self.total_max {
            return Err(Refused::Full);
        }
        let limit = match self.per_address {
            Some(limit) => limit,
            None if key.is_loopback() => usize::MAX,
            None => PER_ADDRESS,
        };
        let count = open.by_address.entry(key).or_insert(0);
        if *count >= limit {
            return Err(Refused::TooMany(limit));
        }
        *count += 1;
        open.total += 1;
        Ok(Pass { gate: self.clone(), key })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.gate.count();
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.key);
            }
        }
    }
}

/// The address that is counted: an IPv6 client has a /64 of its own.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let s = v6.segments();
            Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0).into()
        }
        other => other,
    }
}

/// Accepts clients for ever.
pub(super) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, handler: Arc<Handler>) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                // Out of descriptors, mostly: others must end first.
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

/// Answers without having read anything, as far as the kernel takes it.
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

/// The same with TLS. Who speaks plain HTTP is told so.
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

/// Requests and answers, until one side has enough.
async fn converse(wire: impl AsyncRead + AsyncWrite + Unpin, client: Client, handler: Arc<Handler>) {
    let service = service_fn(move |request| {
        let (handler, client) = (handler.clone(), client.clone());
        // In a box, which is gone when the body of the answer is all that is left: clients may take their
        // time for that.
        Box::pin(async move { handler.handle(request, client).await })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_SIZE_MAX)
        // Who has sent all requests may say so, and still wants the answers.
        .half_close(true)
        .serve_connection(TokioIo::new(wire), service);
    // A client that goes away is its own business.
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_address() {
        let gate = Arc::new(Gate::new(5, Some(2)));
        let enter = |text: &str| gate.enter(text.parse().expect("an address"));
        let first = enter("192.0.2.1").ok().expect("let in");
        let _second = enter("::ffff:192.0.2.1").ok().expect("let in");
        assert!(matches!(enter("192.0.2.1"), Err(Refused::TooMany(2))));
        drop(first);
        let _first = enter("192.0.2.1").ok().expect("let in again");
        // Addresses of one /64 are one client.
        let _v6 = [enter("2001:db8::1").ok(), enter("2001:db8::2").ok()];
        assert!(matches!(enter("2001:db8::3"), Err(Refused::TooMany(2))));
        let _last = enter("2001:db8:0:1::3").ok().expect("another network");
        assert!(matches!(enter("192.0.2.9"), Err(Refused::Full)));
        assert_eq!(gate.open(), 5);
    }

    #[test]
    fn a_reverse_proxy_on_this_machine_has_no_limit() {
        let gate = Arc::new(Gate::new(usize::MAX, None));
        let passes: Vec<_> = (0..3000).map(|_| gate.enter(IpAddr::from([127, 0, 0, 1])).ok()).collect();
        assert!(passes.iter().all(Option::is_some));
        let passes: Vec<_> = (0..3000).map(|_| gate.enter(IpAddr::from([192, 0, 2, 1])).ok()).collect();
        assert_eq!(passes.iter().flatten().count(), PER_ADDRESS);
    }
}
