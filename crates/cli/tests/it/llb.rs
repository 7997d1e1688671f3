//! Definitions in LLB through `serve --buildkit`, as buildctl and other frontends send them (moby/buildkit,
//! solver/pb/ops.proto).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1 as control;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    ExecMessage, FdMessage, InitMessage, NewContainerRequest, ReleaseContainerRequest, ResizeMessage,
    ReturnRequest, SignalMessage, SolveRequest, exec_message, result,
};
use bollard_buildkit_proto::pb::{self, file_action, op};
use crossdock_oci::Digest;
use prost::Message;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::support::{Running, World};

/// A server, and a client that has no session.
struct Served {
    world: World,
    _running: Running,
    runtime: tokio::runtime::Runtime,
    builds: std::cell::Cell<usize>,
}

/// An output of an operation: the operation's digest, and the output's number.
type Edge = (String, i64);

/// A graph that grows.
#[derive(Default)]
struct Graph(Vec<Vec<u8>>);

impl Graph {
    /// Adds an operation; returns its digest.
    fn add(&mut self, inputs: &[Edge], op: op::Op) -> String {
        self.add_as(inputs, Some(op))
    }

    fn add_as(&mut self, inputs: &[Edge], op: Option<op::Op>) -> String {
        let inputs = inputs.iter().map(|(digest, index)| pb::Input { digest: digest.clone(), index: *index });
        let bytes = pb::Op { inputs: inputs.collect(), op, ..pb::Op::default() }.encode_to_vec();
        let digest = Digest::of(&bytes).to_string();
        self.0.push(bytes);
        digest
    }

    fn base(&mut self) -> Edge {
        let identifier = "docker-image://docker.io/library/base:latest".to_string();
        (self.add(&[], op::Op::Source(pb::SourceOp { identifier, attrs: Default::default() })), 0)
    }

    /// A file below a tree, or below nothing.
    fn file(&mut self, below: Option<&Edge>, path: &str, data: impl AsRef<[u8]>) -> Edge {
        let make = pb::FileActionMkFile {
            path: path.to_string(),
            mode: 0o644,
            data: data.as_ref().to_vec(),
            timestamp: -1,
            ..pb::FileActionMkFile::default()
        };
        let action = pb::FileAction {
            input: if below.is_some() { 0 } else { -1 },
            secondary_input: -1,
            output: 0,
            action: Some(file_action::Action::Mkfile(make)),
        };
        let op = op::Op::File(pb::FileOp { actions: vec![action] });
        (self.add(below.map(std::slice::from_ref).unwrap_or_default(), op), 0)
    }

    /// A shell command; its root is the first input, and mounts are `(input, directory, output, read only)`.
    fn exec(&mut self, inputs: &[Edge], script: &str, mounts: &[(i64, &str, i64, bool)]) -> String {
        let meta = pb::Meta {
            args: ["/bin/sh", "-c", script].map(str::to_string).to_vec(),
            env: vec!["PATH=/bin:/usr/bin".to_string()],
            cwd: "/".to_string(),
            ..pb::Meta::default()
        };
        let mount = |(input, dest, output, readonly): &(i64, &str, i64, bool)| pb::Mount {
            input: *input,
            dest: dest.to_string(),
            output: *output,
            readonly: *readonly,
            ..pb::Mount::default()
        };
        let mounts = mounts.iter().map(mount).collect();
        self.add(inputs, op::Op::Exec(pb::ExecOp { meta: Some(meta), mounts, ..pb::ExecOp::default() }))
    }

    /// The definition of an output.
    fn of(&self, edge: &Edge) -> pb::Definition {
        let mut all = Graph(self.0.clone());
        all.add_as(std::slice::from_ref(edge), None);
        pb::Definition { def: all.0, ..pb::Definition::default() }
    }
}

impl Served {
    fn new() -> Served {
        let world = World::with_base();
        let mut running = world.crossdock(&["serve", "--buildkit"]).start();
        running.until_err("use it with");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Served {
            world,
            _running: running,
            runtime: runtime.expect("a runtime"),
            builds: std::cell::Cell::new(0),
        }
    }

    /// Solves a definition; names the image if there is a name.
    fn solve(
        &self,
        definition: pb::Definition,
        name: Option<&str>,
    ) -> Result<control::SolveResponse, Status> {
        let number = self.builds.get() + 1;
        self.builds.set(number);
        let exporters = name.into_iter().map(|name| control::Exporter {
            r#type: "image".to_string(),
            attrs: HashMap::from([("name".to_string(), name.to_string())]),
        });
        let request = control::SolveRequest {
            r#ref: format!("build-{number}"),
            definition: Some(definition),
            exporters: exporters.collect(),
            ..Default::default()
        };
        self.runtime.block_on(async {
            let client = ControlClient::new(self.channel().await);
            let mut client = client.max_encoding_message_size(usize::MAX);
            client.solve(request).await.map(tonic::Response::into_inner)
        })
    }

    async fn channel(&self) -> Channel {
        let socket = format!("unix://{}", self.world.text("run/crossdock.sock"));
        let endpoint = Endpoint::from_shared(socket).expect("an address");
        endpoint.connect_timeout(Duration::from_secs(10)).connect().await.expect("it listens")
    }
}

#[test]
fn commands_have_several_outputs() {
    let served = Served::new();
    let mut graph = Graph::default();
    let base = graph.base();
    let input = graph.file(None, "/f", "data");
    let script = "! echo x 2>/dev/null > /in/f && cat /in/f > /out/f && echo x > /x && echo told";
    let mounts = [(0, "/", 0, false), (1, "/in", -1, true), (-1, "/out", 1, false)];
    let exec = graph.exec(&[base.clone(), input], script, &mounts);
    let (root, out) = ((exec.clone(), 0), (exec, 1));
    // Another command sees both results, and that neither has what went to the other.
    let script =
        "test \"$(cat /got/f)\" = data && test \"$(cat /x)\" = x && test ! -e /got/x && test ! -e /out/f";
    let all = graph.exec(&[root, out.clone()], script, &[(0, "/", 0, false), (1, "/got", -1, true)]);
    served.solve(graph.of(&(all, 0)), None).expect("solved");

    served.solve(graph.of(&out), Some("llb/out:1")).expect("solved");
    let archive = served.world.text("out.tar");
    served.world.run(&["save", "-o", &archive, "llb/out:1"]).ok();
    let history = served.world.run(&["history", "--no-trunc", "llb/out:1"]).ok();
    assert!(history.contains("cat /in/f"), "{history}");
    let again = served.solve(graph.of(&out), Some("llb/out:2")).expect("solved");
    let digest = &again.exporter_response["containerimage.digest"];
    let first = served.world.run(&["inspect", "-f", "{{.Descriptor.digest}}", "llb/out:1"]).ok();
    assert_eq!(first.trim(), digest, "a known step gives the same image");
}

/// A definition whose result is that of another one, which is in a file.
fn around(inner: &pb::Definition) -> pb::Definition {
    let mut graph = Graph::default();
    let file = graph.file(None, "/dir-less", inner.encode_to_vec());
    let build = pb::BuildOp {
        builder: -1,
        inputs: BTreeMap::from([("buildkit.llb.definition".to_string(), pb::BuildInput { input: 0 })]),
        attrs: BTreeMap::from([("llbfilename".to_string(), "dir-less".to_string())]),
        ..pb::BuildOp::default()
    };
    let build = graph.add(&[file], op::Op::Build(build));
    let base = graph.base();
    let script = "cp /in/f /f && echo around >> /f";
    let mounts = [(0, "/", 0, false), (1, "/in", -1, true)];
    let exec = graph.exec(&[base, (build, 0)], script, &mounts);
    graph.of(&(exec, 0))
}

#[test]
fn builds_lie_inside_of_builds() {
    let served = Served::new();
    let mut graph = Graph::default();
    let file = graph.file(None, "/f", "inner\n");
    let inner = graph.of(&file);
    served.solve(around(&around(&inner)), Some("llb/around:1")).expect("solved");
    assert_eq!(served.world.sh("llb/around:1", "cat /f"), "inner\naround\naround\n");

    let deep = (0..9).fold(inner, |inner, _| around(&inner));
    let error = served.solve(deep, None).expect_err("too deep");
    assert!(error.message().contains("more than 8 builds"), "{error}");
    let mut graph = Graph::default();
    let file = graph.file(None, "/f", [0xff; 9]);
    let damaged = around(&pb::Definition::default());
    let error = served.solve(damaged, None).expect_err("nothing inside");
    assert!(error.message().contains("without operations"), "{error}");
    let build = pb::BuildOp {
        builder: -1,
        inputs: BTreeMap::from([("buildkit.llb.definition".to_string(), pb::BuildInput { input: 0 })]),
        attrs: BTreeMap::from([("llbfilename".to_string(), "f".to_string())]),
        ..pb::BuildOp::default()
    };
    let build = graph.add(&[file], op::Op::Build(build));
    let error = served.solve(graph.of(&(build, 0)), None).expect_err("no definition");
    assert!(error.message().contains("f is no definition"), "{error}");
}

#[test]
fn a_command_that_fails_says_so() {
    let served = Served::new();
    let mut graph = Graph::default();
    let base = graph.base();
    let exec = graph.exec(&[base], "echo why >&2; exit 7", &[(0, "/", 0, false)]);
    let error = served.solve(graph.of(&(exec, 0)), None).expect_err("it fails");
    assert!(error.message().contains("exit code: 7"), "{error}");
}

#[test]
fn definitions_that_nobody_would_write_do_no_harm() {
    let served = Served::new();
    let mut graph = Graph::default();
    let base = graph.base();
    let good = graph.exec(&[base], "true", &[(0, "/", 0, false)]);
    // An output that no mount has, an input that is not there, bytes that are no operation, nothing at all.
    served.solve(graph.of(&(good.clone(), 5)), None).expect_err("no such output");
    served.solve(graph.of(&("sha256:00".to_string(), 0)), None).expect_err("no such operation");
    let noise = pb::Definition { def: vec![b"\xff\xff\xff".to_vec()], ..pb::Definition::default() };
    served.solve(noise, None).expect_err("no operation");
    let mut wrong = Graph::default();
    let base = wrong.base();
    let exec = wrong.exec(&[base], "true", &[(0, "/", 0, false), (7, "/x", -1, true)]);
    served.solve(wrong.of(&(exec, 0)), None).expect_err("no such input");

    // 10,000 operations, one upon another: more layers than any image may have.
    let mut chain = Graph::default();
    let mut last = chain.file(None, "/0", "0");
    for number in 1..10_000 {
        last = chain.file(Some(&last), &format!("/{number}"), "x");
    }
    let error = served.solve(chain.of(&last), Some("llb/chain:1")).expect_err("too many layers");
    assert!(error.message().contains("layers are more than"), "{error}");
    served.solve(graph.of(&(good, 0)), None).expect("the next build works");
}

/// What a process has said when it is done.
struct Said {
    out: String,
    err: String,
    code: u32,
}

/// A build that the client steers.
struct Steered {
    bridge: LlbBridgeClient<Channel>,
    build: &'static str,
}

impl Steered {
    /// A call of this build.
    fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let build = self.build.parse().expect("letters");
        request.metadata_mut().insert("buildkit-controlapi-buildid", build);
        request
    }

    /// Runs a process in a container; `input` is what the client sends after the start.
    async fn execute(&mut self, init: InitMessage, input: Vec<exec_message::Input>) -> Result<Said, Status> {
        let message = |input| ExecMessage { process_id: "p".to_string(), input: Some(input) };
        let (send, receive) = tokio::sync::mpsc::channel(16);
        send.send(message(exec_message::Input::Init(init))).await.expect("room");
        let request = self.call(ReceiverStream::new(receive));
        let mut answers = self.bridge.exec_process(request).await?.into_inner();
        let mut said = Said { out: String::new(), err: String::new(), code: u32::MAX };
        let mut input = Some(input);
        while let Some(answer) = answers.message().await? {
            match answer.input.expect("a message says something") {
                exec_message::Input::Started(_) => {
                    for input in input.take().expect("it starts once") {
                        send.send(message(input)).await.expect("room");
                    }
                }
                exec_message::Input::File(file) => {
                    let text = String::from_utf8_lossy(&file.data);
                    if file.fd == 1 { said.out.push_str(&text) } else { said.err.push_str(&text) }
                }
                exec_message::Input::Exit(exit) => said.code = exit.code,
                exec_message::Input::Done(_) => return Ok(said),
                other => panic!("a server does not say {other:?}"),
            }
        }
        panic!("the stream ended before the process");
    }
}

/// A shell command in the container `c`.
fn shell(script: &str, tty: bool) -> InitMessage {
    let meta = pb::Meta {
        args: ["/bin/sh", "-c", script].map(str::to_string).to_vec(),
        cwd: "/".to_string(),
        ..pb::Meta::default()
    };
    InitMessage {
        container_id: "c".to_string(),
        meta: Some(meta),
        fds: vec![0, 1, 2],
        tty,
        ..InitMessage::default()
    }
}

fn data(text: &str) -> exec_message::Input {
    exec_message::Input::File(FdMessage { fd: 0, eof: text.is_empty(), data: text.as_bytes().to_vec() })
}

#[test]
fn a_client_looks_into_a_result() {
    let served = Served::new();
    let mut graph = Graph::default();
    let base = graph.base();
    let exec = graph.exec(&[base], "echo made > /made", &[(0, "/", 0, false)]);
    let definition = graph.of(&(exec, 0));
    served.runtime.block_on(async {
        let channel = served.channel().await;
        let solve = control::SolveRequest { r#ref: "steered".to_string(), ..Default::default() };
        let mut client = ControlClient::new(channel.clone());
        let build = tokio::spawn(async move { client.solve(solve).await });
        let mut steered = Steered { bridge: LlbBridgeClient::new(channel), build: "steered" };
        let solve =
            SolveRequest { definition: Some(definition), allow_result_return: true, ..Default::default() };
        let solved = steered.bridge.solve(steered.call(solve)).await.expect("solved").into_inner();
        let Some(result::Result::Ref(reference)) = solved.result.expect("a result").result else {
            panic!("the result is one tree");
        };

        let root = pb::Mount { dest: "/".to_string(), result_id: reference.id, ..pb::Mount::default() };
        let tmpfs = pb::Mount {
            dest: "/t".to_string(),
            mount_type: pb::MountType::Tmpfs.into(),
            ..pb::Mount::default()
        };
        let container = NewContainerRequest {
            container_id: "c".to_string(),
            mounts: vec![root, tmpfs],
            hostname: "inside".to_string(),
            ..Default::default()
        };
        steered.bridge.new_container(steered.call(container.clone())).await.expect("made");
        steered.bridge.new_container(steered.call(container)).await.expect_err("the name is taken");

        // Input, both outputs, the exit code; what one process writes, the next one finds.
        let script = "cat; cat /made; hostname; echo of c > /new; echo x > /t/x; echo err >&2; exit 3";
        let said =
            steered.execute(shell(script, false), vec![data("in\n"), data("")]).await.expect("it runs");
        assert_eq!((said.out.as_str(), said.err.as_str(), said.code), ("in\nmade\ninside\n", "err\n", 3));
        let said = steered.execute(shell("cat /new; cat /made", false), Vec::new()).await.expect("it runs");
        assert_eq!((said.out.as_str(), said.code), ("of c\nmade\n", 0));

        // A terminal of the client's size.
        let size = exec_message::Input::Resize(ResizeMessage { rows: 11, cols: 77 });
        let script = "read go; stty size; tty > /dev/null && echo terminal";
        let said = steered.execute(shell(script, true), vec![size, data("go\n")]).await.expect("it runs");
        assert!(said.out.contains("11 77") && said.out.contains("terminal"), "{:?}", said.out);

        let term = exec_message::Input::Signal(SignalMessage { name: "SIGTERM".to_string() });
        let said = steered.execute(shell("exec sleep 1000", false), vec![term]).await.expect("it runs");
        assert_eq!(said.code, 128 + 15, "the signal ends it");
        let missing = InitMessage {
            meta: Some(pb::Meta { args: vec!["/no/such".to_string()], ..pb::Meta::default() }),
            ..shell("", false)
        };
        assert_eq!(steered.execute(missing, Vec::new()).await.expect("an answer").code, 127);

        let release = ReleaseContainerRequest { container_id: "c".to_string() };
        steered.bridge.release_container(steered.call(release)).await.expect("released");
        let gone = steered.execute(shell("true", false), Vec::new()).await.err().expect("it is gone");
        assert_eq!(gone.code(), tonic::Code::NotFound);
        steered.bridge.r#return(steered.call(ReturnRequest::default())).await.expect("returned");
        build.await.expect("no panic").expect("the build ends well");
    });
}
