//! Definitions in LLB through `serve --buildkit`, as buildctl and other frontends send them (moby/buildkit,
//! solver/pb/ops.proto).

use std::collections::HashMap;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest, SolveResponse};
use bollard_buildkit_proto::pb::{self, file_action, op};
use crossdock_oci::Digest;
use prost::Message;
use tonic::Status;
use tonic::transport::Endpoint;

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
    fn file(&mut self, below: Option<&Edge>, path: &str, data: &str) -> Edge {
        let make = pb::FileActionMkFile {
            path: path.to_string(),
            mode: 0o644,
            data: data.as_bytes().to_vec(),
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
    fn solve(&self, definition: pb::Definition, name: Option<&str>) -> Result<SolveResponse, Status> {
        let number = self.builds.get() + 1;
        self.builds.set(number);
        let exporters = name.into_iter().map(|name| Exporter {
            r#type: "image".to_string(),
            attrs: HashMap::from([("name".to_string(), name.to_string())]),
        });
        let request = SolveRequest {
            r#ref: format!("build-{number}"),
            definition: Some(definition),
            exporters: exporters.collect(),
            ..SolveRequest::default()
        };
        let socket = format!("unix://{}", self.world.text("run/crossdock.sock"));
        self.runtime.block_on(async {
            let endpoint =
                Endpoint::from_shared(socket).expect("an address").connect_timeout(Duration::from_secs(10));
            let channel = endpoint.connect().await.expect("it listens");
            let mut client = ControlClient::new(channel).max_encoding_message_size(usize::MAX);
            client.solve(request).await.map(tonic::Response::into_inner)
        })
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
