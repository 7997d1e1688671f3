//! Servers and clients that are killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use std::sync::Arc;

use crossdock_oci::{Digest, Reference, Store};
use crossdock_registry::server::faults::Fault;
use crossdock_registry::server::{RegistryServer, ServerOptions};
use crossdock_registry::transfer::{PullOptions, PushOptions, pull, push};
use crossdock_registry::{Client, Outcome, Progress};

use crate::support::*;

const DIRECTORY: &str = "REGISTRY_TEST_DIRECTORY";
const TRANSFER: &str = "REGISTRY_TEST_TRANSFER";

/// The server of the tests below, in its own process. Run alone, the test only listens for a moment.
#[test]
fn server_process() {
    let own = tempfile::tempdir().expect("a temporary directory");
    let directory = std::env::var_os(DIRECTORY);
    let path = directory.as_deref().map_or(own.path(), Path::new);
    let server = RegistryServer::bind("127.0.0.1:0", path, ServerOptions::default()).expect("a free port");
    assert_ne!(server.addr().port(), 0);
    if directory.is_some() {
        println!("\nlistening {}", server.addr());
        // Waits until it is killed, or until the test that started it ends and closes the pipe.
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

/// Prints the position whenever bytes have moved.
struct Told;

impl Progress for Told {
    fn start(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, _: &str, position: u64) {
        println!("\nmoved {position}");
    }
    fn done(&self, _: &str, _: Outcome) {}
}

/// A pull or push in its own process: `pull STORE REFERENCE` or `push STORE REFERENCE`. Run alone, the test
/// checks that a push from an empty store fails.
#[test]
fn transfer_process() {
    let client = Client::new(crossdock_registry::ClientOptions { progress: Arc::new(Told), ..options().0 });
    let Ok(order) = std::env::var(TRANSFER) else {
        let (_directory, store) = store();
        let nothing = blob(b"nothing");
        let reference = "localhost/a".parse().expect("good");
        assert!(push(&client, &store, &reference, &nothing, &PushOptions::default()).is_err());
        return;
    };
    let words: Vec<&str> = order.split(' ').collect();
    let store = Store::open(Path::new(words[1])).expect("a store");
    let reference: Reference = words[2].parse().expect("good");
    if words[0] == "pull" {
        pull(&client, &store, &reference, &PullOptions::all()).expect("killed before it ends");
    } else {
        let image = image(&store, &platform("linux/amd64"), &[1]);
        push(&client, &store, &reference, &image, &PushOptions::default()).expect("killed before it ends");
    }
}

/// Starts a transfer, waits until it has moved `least` bytes of one blob, and kills it.
fn kill_in_the_middle(order: &str, least: u64) {
    let mut child = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "crash::transfer_process", "--nocapture", "--test-threads=1"])
        .env(TRANSFER, order)
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let moved = lines.find(|line| {
        line.strip_prefix("moved ").and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n >= least)
    });
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    assert!(moved.is_some(), "the transfer ended before it was killed");
}

#[test]
fn a_killed_pull_goes_on() {
    let site = Site::faulty(|seen, spoiled| {
        // The layer is the second blob.
        let is_blob = seen.method == "GET" && seen.path.contains("/blobs/");
        (is_blob && spoiled < 1 && seen.range.is_none()).then_some(Fault::StallResponse(10_000))
    });
    let (_one, here) = store();
    let descriptor = image(&here, &platform("linux/amd64"), &[1]);
    let reference = site.reference("app:1");
    push(&client(), &here, &reference, &descriptor, &PushOptions::default()).expect("pushed");
    // The configuration is here already, so the layer stalls.
    let (directory, there) = store();
    let config = here.load_image(&descriptor).expect("complete").config_bytes;
    there.write_blob(&config).expect("stored");
    kill_in_the_middle(&format!("pull {} {reference}", directory.path().join("store").display()), 10_000);
    assert!(there.image(&reference).expect("readable").is_none());
    pull(&client(), &there, &reference, &PullOptions::all()).expect("pulled");
    validate(&there, &descriptor);
    let seen = site.seen.lock().expect("not poisoned");
    assert!(seen.iter().any(|s| s.range.as_deref() == Some("bytes=10000-")), "it went on where it was");
}

#[test]
fn a_killed_push_leaves_no_name_and_goes_on() {
    let site = Site::faulty(|seen, spoiled| {
        // The answer to the first upload never comes.
        (seen.method == "PUT" && spoiled == 0).then_some(Fault::Silence)
    });
    let (directory, store) = store();
    let reference = site.reference("app:1");
    kill_in_the_middle(&format!("push {} {reference}", directory.path().join("store").display()), 1);
    assert!(client().head_manifest(&reference).expect("answers").is_none());
    let descriptor = image(&store, &platform("linux/amd64"), &[1]);
    push(&client(), &store, &reference, &descriptor, &PushOptions::default()).expect("pushed");
    pull(&client(), &store, &reference, &PullOptions::all()).expect("pulled");
    validate(&store, &descriptor);
}
