//! Clients of `serve --buildkit` whose sessions are half, noise, or lies: each build fails with a reason,
//! soon, and the next one works.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::{FileSync, FileSyncServer};
use bollard_buildkit_proto::pb::{self, op};
use crossdock_oci::Digest;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::support::{Running, World};

/// How long a build may take to notice a bad client: it waits ten seconds for a session.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client does when it is asked for its files.
type Script = Arc<dyn Fn(&Packets) -> Vec<Packet> + Send + Sync>;

/// What the server has asked for so far: the numbers of files.
type Packets = Vec<u32>;

/// A client's files, by a script: what it sends at first, then what it sends after each request.
struct Files {
    first: Vec<Packet>,
    then: Script,
}

#[tonic::async_trait]
impl FileSync for Files {
    type DiffCopyStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;
    type TarStreamStream = Self::DiffCopyStream;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let (send, receive) = tokio::sync::mpsc::channel(16);
        let (first, then) = (self.first.clone(), self.then.clone());
        let describe = send.clone();
        tokio::spawn(async move {
            for packet in first {
                if describe.send(Ok(packet)).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let (mut asked, mut incoming) = (Vec::new(), request.into_inner());
            while let Some(Ok(packet)) = incoming.next().await {
                if packet.r#type() == PacketType::PacketFin {
                    // The end of a client that behaves.
                    return;
                }
                if packet.r#type() == PacketType::PacketReq {
                    asked.push(packet.id);
                    for packet in then(&asked) {
                        if send.send(Ok(packet)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("no archives"))
    }
}

fn stat(path: &str, size: i64) -> Packet {
    let stat = Stat { path: path.to_string(), mode: 0o644, size, mod_time: 1, ..Stat::default() };
    Packet { r#type: PacketType::PacketStat.into(), stat: Some(stat), ..Packet::default() }
}

fn last() -> Packet {
    Packet { r#type: PacketType::PacketStat.into(), ..Packet::default() }
}

fn data(id: u32, data: &[u8]) -> Packet {
    Packet { r#type: PacketType::PacketData.into(), id, data: data.to_vec(), ..Packet::default() }
}

/// A definition of the directory `x` of the client.
fn local() -> pb::Definition {
    let source = pb::SourceOp { identifier: "local://x".to_string(), attrs: Default::default() };
    let first = pb::Op { op: Some(op::Op::Source(source)), ..pb::Op::default() }.encode_to_vec();
    let input = pb::Input { digest: Digest::of(&first).to_string(), index: 0 };
    let last = pb::Op { inputs: vec![input], ..pb::Op::default() }.encode_to_vec();
    pb::Definition { def: vec![first, last], ..pb::Definition::default() }
}

/// What the client's end of a session does.
enum End {
    /// Serves files.
    Files(Files),
    /// Sends these bytes, and then nothing or the end of the stream.
    Bytes(Vec<u8>, bool),
}

struct Served {
    world: World,
    _running: Running,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    fn new() -> Served {
        let world = World::new();
        let mut running = world.crossdock(&["serve", "--buildkit"]).start();
        running.until_err("use it with");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Served { world, _running: running, runtime: runtime.expect("a runtime") }
    }

    /// Builds the client's directory with such a session; what the build ends with.
    fn build(&self, name: &str, end: End) -> Result<(), Status> {
        let socket = format!("unix://{}", self.world.text("run/crossdock.sock"));
        self.runtime.block_on(async {
            let endpoint = Endpoint::from_shared(socket).expect("an address");
            let channel = endpoint.connect().await.expect("it listens");
            open(channel.clone(), name, end).await;
            let request = control::SolveRequest {
                r#ref: format!("build-{name}"),
                session: name.to_string(),
                definition: Some(local()),
                ..Default::default()
            };
            let mut client = ControlClient::new(channel);
            let ended = tokio::time::timeout(PATIENCE, client.solve(request)).await;
            ended.unwrap_or_else(|_| panic!("{name}: the build goes on and on")).map(drop)
        })
    }
}

/// Opens a session in the background.
async fn open(channel: Channel, name: &str, end: End) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (send, receive) = tokio::sync::mpsc::channel(16);
    let mut request = Request::new(ReceiverStream::new(receive));
    let metadata = request.metadata_mut();
    metadata.insert("x-docker-expose-session-uuid", name.parse().expect("ASCII"));
    let method = "/moby.filesync.v1.FileSync/DiffCopy".parse().expect("ASCII");
    metadata.insert("x-docker-expose-session-grpc-method", method);
    let mut client = ControlClient::new(channel);
    match end {
        End::Files(files) => {
            let server = tonic::transport::Server::builder().add_service(FileSyncServer::new(files));
            let incoming = tokio_stream::iter([Ok::<DuplexStream, std::io::Error>(theirs)]);
            // The end of the test ends it.
            tokio::spawn(server.serve_with_incoming(incoming.chain(tokio_stream::pending())));
        }
        End::Bytes(bytes, goes_on) => {
            tokio::spawn(async move {
                let mut theirs = theirs;
                theirs.write_all(&bytes).await.expect("room");
                if goes_on {
                    std::future::pending::<()>().await;
                }
            });
        }
    }
    let (mut read, mut write) = tokio::io::split(ours);
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            let message = control::BytesMessage { data: buffer[..length].to_vec() };
            if send.send(message).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        let Ok(answer) = client.session(request).await else { return };
        let mut messages = answer.into_inner();
        while let Some(Ok(message)) = messages.next().await {
            if write.write_all(&message.data).await.is_err() {
                return;
            }
        }
    });
}

/// Files that a client describes at once, and what it sends after each request.
fn files(first: Vec<Packet>, then: impl Fn(&Packets) -> Vec<Packet> + Send + Sync + 'static) -> End {
    End::Files(Files { first, then: Arc::new(then) })
}

#[test]
fn every_bad_session_ends_its_build_and_nothing_else() {
    let served = Served::new();
    let good =
        || files(vec![stat("f", 4), last()], |asked| vec![data(asked[0], b"data"), data(asked[0], b"")]);
    served.build("good", good()).expect("built");
    let nothing = |_: &Packets| Vec::new();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let link = |target: &str| {
        let mut link = stat("link", 0);
        link.stat.as_mut().expect("there").linkname = target.to_string();
        vec![link, last()]
    };
    let many: Vec<Packet> = (0..50_000).map(|number| stat(&format!("{number:0200}"), 1)).collect();
    let cases: Vec<(&str, End, &str)> = vec![
        ("silent", End::Bytes(Vec::new(), true), "session"),
        ("gone", End::Bytes(Vec::new(), false), "session"),
        ("half", End::Bytes(preface[..10].to_vec(), false), "session"),
        ("noise", End::Bytes(noise, true), "session"),
        ("outside", files(vec![stat("../x", 1), last()], nothing), "does not stay inside"),
        ("absolute", files(vec![stat("/a/../../x", 1), last()], nothing), "does not stay inside"),
        ("order", files(vec![stat("b", 1), stat("a", 1), last()], nothing), "out of order"),
        ("twice", files(vec![stat("a", 1), stat("a", 1), last()], nothing), "out of order"),
        ("orphan", files(vec![stat("d/a", 1), last()], nothing), "before its directory"),
        ("unasked", files(vec![data(7, b"x"), last()], nothing), "nobody asked for"),
        ("link", files(link("../../../etc/hostname"), nothing), "link link"),
        ("link-absolute", files(link("/etc/hostname"), nothing), "link link"),
        ("long", files(vec![stat(&"x/".repeat(3000), 1), last()], nothing), "too long"),
        (
            "after",
            files(vec![stat("a", 1), last()], |asked| vec![stat("b", 1), data(asked[0], b"")]),
            "after its last one",
        ),
        (
            "own-error",
            files(
                vec![Packet {
                    r#type: PacketType::PacketErr.into(),
                    data: b"no disk".to_vec(),
                    ..Packet::default()
                }],
                nothing,
            ),
            "no disk",
        ),
    ];
    // At the same time: a build waits ten seconds for a session.
    std::thread::scope(|threads| {
        for (name, end, expected) in cases {
            let served = &served;
            threads.spawn(move || {
                let error = served.build(name, end).expect_err(name);
                assert!(error.message().contains(expected), "{name}: {}", error.message());
            });
        }
    });
    // Files that are not as they were described are taken as they come, as by BuildKit.
    let size =
        files(vec![stat("f", 1 << 50), last()], |asked| vec![data(asked[0], b"x"), data(asked[0], b"")]);
    served.build("size", size).expect("built");
    // Many files, of which the client sends one, and then breaks the rules.
    let last_of_many = 50_000;
    let many = files(many, move |asked| match asked.len() {
        length if length == last_of_many => vec![data(0, b"x"), data(0, b""), data(0, b"x")],
        _ => Vec::new(),
    });
    let error = served.build("many", many).expect_err("refused");
    assert!(error.message().contains("nobody asked for"), "{}", error.message());
    served.build("good-again", good()).expect("built");
}
