//! A server that is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crossdock_oci::{Digest, Reference};
use crossdock_registry::server::{RegistryServer, ServerOptions};

use crate::support::*;

const DIRECTORY: &str = "REGISTRY_TEST_DIRECTORY";

/// The server of the tests below, in a process of its own; run by itself it only listens for a moment.
#[test]
fn server_process() {
    let own = tempfile::tempdir().expect("a temporary directory");
    let directory = std::env::var_os(DIRECTORY);
    let path = directory.as_deref().map_or(own.path(), Path::new);
    let server = RegistryServer::bind("127.0.0.1:0", path, ServerOptions::default()).expect("a free port");
    assert_ne!(server.addr().port(), 0);
    if directory.is_some() {
        println!("\nlistening {}", server.addr());
        // Until it is killed, or the test that started it ends and closes the pipe.
        let _ = std::io::stdin().read(&mut [0]);
    }
}

struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(directory: &Path) -> Process {
        let mut child = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", "crash::server_process", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening ").map(str::to_string))
            .expect("the server says where it listens");
        Process { child, address }
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

#[test]
fn what_was_acknowledged_survives_and_uploads_go_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bytes = noise(1, 600_000);
    let digest = Digest::of(&bytes);

    let first = Process::start(directory.path());
    let reference: Reference = format!("{}/app:1", first.address).parse().expect("good");
    push_small(&client(), &reference);
    let agent = ureq::Agent::new_with_defaults();
    let begun =
        agent.post(format!("http://{}/v2/app/blobs/uploads/", first.address)).send_empty().expect("begun");
    let location = begun.headers()["location"].to_str().expect("text").to_string();
    agent.patch(format!("http://{}{location}", first.address)).send(&bytes[..250_000]).expect("sent");
    // Killed in the middle of a body.
    let mut stream = TcpStream::connect(&first.address).expect("it listens");
    write!(stream, "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 350000\r\n\r\n").expect("sent");
    stream.write_all(&bytes[250_000..300_000]).expect("sent");
    first.kill();

    let second = Process::start(directory.path());
    let reference: Reference = format!("{}/app:1", second.address).parse().expect("good");
    client().manifest(&reference).expect("what was acknowledged is there");
    let url = format!("http://{}{location}", second.address);
    let status = agent.get(&url).call().expect("the upload is known");
    let range = status.headers()["range"].to_str().expect("text").to_string();
    let has: usize = range.trim_start_matches("0-").parse::<usize>().expect("a number") + 1;
    assert!((250_000..=300_000).contains(&has), "{range}");
    let finished = agent.put(format!("{url}?digest={digest}")).send(&bytes[has..]).expect("accepted");
    assert_eq!(finished.status(), 201);
    assert_eq!(client().head_blob(&reference, &digest).expect("answers"), Some(600_000));
    second.kill();
}
