//! The embedded registry beside Debian's docker-registry, alternating in one run: clients that stall, uploads
//! that are aborted, pushes at the same time, and the memory that each case takes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha2::{Digest, Sha256};

use crate::tools::{address_of, checkout, release, require};

/// Clients that ask for a blob and read nothing.
const STALLED: usize = 2000;
/// Uploads that send only half, all open at the same time.
const ABORTED: usize = 1000;
const ABORTED_SIZE: usize = 200_000;
/// Clients that push at the same time, and how many blobs of which size each pushes.
const PUSHERS: usize = 64;
const BLOBS_EACH: usize = 4;
const BLOB_SIZE: usize = 4 << 20;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Crossdock,
    DockerRegistry,
}

/// A registry in its own process.
struct Server {
    child: Child,
    address: String,
    directory: PathBuf,
}

/// The figures of one registry.
#[derive(Clone, Copy)]
struct Figures {
    /// Longest and median time of a GET of a manifest while clients stall, in seconds; `None` if a GET was
    /// not answered.
    manifest: Option<(f64, f64)>,
    aborted_seconds: f64,
    pushed_bytes_per_second: f64,
    /// Peak memory in bytes: stalled clients, aborted uploads, pushes.
    memory: [u64; 3],
}

pub fn registry(args: &[&str]) -> Result<()> {
    require(&[("docker-registry", "docker-registry")])?;
    let crossdock = release("crossdock")?;
    let directory = checkout().join("target/bench-registry");
    let wanted = (STALLED + 500) as u64;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted),
        "{wanted} open files are needed: raise the hard limit (ulimit -Hn)"
    );
    let rounds = if args.contains(&"--quick") { 1 } else { 3 };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        ours.push(measure(Kind::Crossdock, &crossdock, &directory)?);
        theirs.push(measure(Kind::DockerRegistry, &crossdock, &directory)?);
    }
    report(&ours, &theirs);
    Ok(())
}

fn report(ours: &[Figures], theirs: &[Figures]) {
    println!("| case | crossdock | docker-registry | ratio |\n| --- | --- | --- | --- |");
    let median = |all: &[Figures], figure: &dyn Fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let milliseconds = |all: &[Figures]| match all.iter().map(|f| f.manifest).collect::<Option<Vec<_>>>() {
        Some(times) => {
            let longest = times.iter().map(|(longest, _)| *longest).fold(0.0, f64::max);
            let middle = times.iter().map(|(_, middle)| *middle).fold(f64::MAX, f64::min);
            format!("{:.1} ms at most, median {:.1} ms", longest * 1e3, middle * 1e3)
        }
        None => "not answered".to_string(),
    };
    println!(
        "| manifest while {STALLED} clients stall | {} | {} | |",
        milliseconds(ours),
        milliseconds(theirs)
    );
    let row = |name: &str, unit: &str, scale: f64, figure: &dyn Fn(&Figures) -> f64| {
        let (our, their) = (median(ours, figure) * scale, median(theirs, figure) * scale);
        println!("| {name} | {our:.2} {unit} | {their:.2} {unit} | {:.2} |", our / their);
    };
    row(&format!("{ABORTED} aborted uploads"), "s", 1.0, &|f| f.aborted_seconds);
    row(&format!("{PUSHERS} pushes at once"), "MB/s", 1e-6, &|f| f.pushed_bytes_per_second);
    for (index, name) in ["stalled clients", "aborted uploads", "pushes"].into_iter().enumerate() {
        row(&format!("peak memory, {name}"), "MB", 1e-6, &|f| f.memory[index] as f64);
    }
}

/// Measures all cases, each with a fresh server.
fn measure(kind: Kind, crossdock: &Path, directory: &Path) -> Result<Figures> {
    let start = || Server::start(kind, crossdock, directory);
    let server = start()?;
    let manifest = stalled(&server)?;
    let first = server.peak_memory()?;
    drop(server);
    let server = start()?;
    let aborted_seconds = aborted(&server)?;
    let second = server.peak_memory()?;
    drop(server);
    let server = start()?;
    let pushed_bytes_per_second = pushes(&server)?;
    let third = server.peak_memory()?;
    Ok(Figures { manifest, aborted_seconds, pushed_bytes_per_second, memory: [first, second, third] })
}

impl Server {
    fn start(kind: Kind, crossdock: &Path, directory: &Path) -> Result<Server> {
        let _ = std::fs::remove_dir_all(directory);
        std::fs::create_dir_all(directory)?;
        match kind {
            Kind::Crossdock => {
                let file = directory.join("address");
                let mut child = Command::new(crossdock)
                    .args(["registry", "serve", "--addr", "127.0.0.1:0", "--addr-file"])
                    .arg(&file)
                    .arg("--dir")
                    .arg(directory.join("data"))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .context("start the registry")?;
                let address = address_of(&mut child, &file)?;
                Ok(Server { child, address, directory: directory.to_path_buf() })
            }
            Kind::DockerRegistry => {
                // docker-registry cannot report which port it took.
                let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
                let address = format!("127.0.0.1:{port}");
                let config = directory.join("config.yml");
                let data = directory.join("data");
                std::fs::write(
                    &config,
                    format!(
                        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
                        data.display()
                    ),
                )?;
                let child = Command::new("docker-registry")
                    .arg("serve")
                    .arg(&config)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .context("start docker-registry")?;
                let server = Server { child, address, directory: directory.to_path_buf() };
                let deadline = Instant::now() + Duration::from_secs(20);
                while TcpStream::connect(&server.address).is_err() {
                    ensure!(Instant::now() < deadline, "docker-registry does not listen");
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(server)
            }
        }
    }

    /// Peak resident memory in bytes.
    fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024)
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(stream)
    }

    /// Sends a request on a connection; returns status and `Location`.
    fn ask(
        &self,
        stream: &mut TcpStream,
        line: &str,
        media_type: &str,
        body: &[&[u8]],
    ) -> Result<(u16, String)> {
        let length: usize = body.iter().map(|part| part.len()).sum();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes())?;
        for part in body {
            stream.write_all(part)?;
        }
        read_answer(stream)
    }

    fn begin_upload(&self, stream: &mut TcpStream) -> Result<String> {
        let (status, location) = self.ask(stream, "POST /v2/bench/blobs/uploads/", "text/plain", &[])?;
        ensure!(status == 202, "an upload is answered with {status}");
        Ok(location)
    }

    fn push(&self, stream: &mut TcpStream, digest: &str, body: &[&[u8]]) -> Result<()> {
        let location = self.begin_upload(stream)?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let line = format!("PUT {location}{separator}digest={digest}");
        let (status, _) = self.ask(stream, &line, "application/octet-stream", body)?;
        ensure!(status == 201, "a blob is answered with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Reads an answer with a length: its status, and the path of its `Location`.
fn read_answer(stream: &mut TcpStream) -> Result<(u16, String)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut piece)? {
            0 => bail!("the connection was closed"),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_string())
        })
    };
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no status")?;
    let mut left = header("content-length").and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
    left = left.saturating_sub(bytes.len() - end);
    while left > 0 {
        let n = stream.read(&mut piece)?;
        ensure!(n > 0, "the body ends early");
        left = left.saturating_sub(n);
    }
    let location = header("location").unwrap_or_default();
    let path = match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or(String::new(), |at| rest[at..].to_string()),
        None => location,
    };
    Ok((status, path))
}

fn sha256(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Bytes that do not repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Longest and median time of a manifest while clients read nothing.
fn stalled(server: &Server) -> Result<Option<(f64, f64)>> {
    let blob = noise(16 << 20);
    let digest = sha256(&[&blob]);
    let mut stream = server.connect()?;
    server.push(&mut stream, &digest, &[&blob])?;
    let config = sha256(&[b"{}"]);
    server.push(&mut stream, &config, &[b"{}"])?;
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST_TYPE}\",\"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{config}\",\"size\":2}},\"layers\":[]}}"
    );
    let (status, _) =
        server.ask(&mut stream, "PUT /v2/bench/manifests/v", MANIFEST_TYPE, &[manifest.as_bytes()])?;
    ensure!(status == 201, "a manifest is answered with {status}");
    let mut clients = Vec::with_capacity(STALLED);
    for _ in 0..STALLED {
        let mut client = server.connect()?;
        rustix::net::sockopt::set_socket_recv_buffer_size(&client, 4096)?;
        write!(client, "GET /v2/bench/blobs/{digest} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address)?;
        clients.push(client);
    }
    // All clients are stuck by then.
    std::thread::sleep(Duration::from_secs(3));
    let mut times = Vec::new();
    for _ in 0..30 {
        let began = Instant::now();
        let mut stream = server.connect()?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET /v2/bench/manifests/v HTTP/1.1\r\nHost: {}\r\nAccept: {MANIFEST_TYPE}\r\n\r\n",
            server.address
        )?;
        match read_answer(&mut stream) {
            Ok((200, _)) => times.push(began.elapsed().as_secs_f64()),
            _ => return Ok(None),
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Some((times[times.len() - 1], times[times.len() / 2])))
}

/// Time from the first of many uploads that stop halfway until the server answers again.
fn aborted(server: &Server) -> Result<f64> {
    let half = noise(ABORTED_SIZE / 2);
    let began = Instant::now();
    let mut clients = Vec::with_capacity(ABORTED);
    for _ in 0..ABORTED {
        let mut stream = server.connect()?;
        let location = server.begin_upload(&mut stream)?;
        write!(
            stream,
            "PATCH {location} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: {ABORTED_SIZE}\r\n\r\n",
            server.address
        )?;
        stream.write_all(&half)?;
        clients.push(stream);
    }
    drop(clients);
    let mut stream = server.connect()?;
    let (status, _) = server.ask(&mut stream, "GET /v2/", "text/plain", &[])?;
    ensure!(status == 200, "/v2/ is answered with {status}");
    Ok(began.elapsed().as_secs_f64())
}

/// Bytes per second of many pushes at the same time.
fn pushes(server: &Server) -> Result<f64> {
    let rest = noise(BLOB_SIZE - 8);
    let digests: Vec<String> =
        (0..(PUSHERS * BLOBS_EACH) as u64).map(|number| sha256(&[&number.to_le_bytes(), &rest])).collect();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PUSHERS)
            .map(|pusher| {
                let (digests, rest) = (&digests, &rest);
                scope.spawn(move || -> Result<()> {
                    let mut stream = server.connect()?;
                    for blob in 0..BLOBS_EACH {
                        let number = pusher * BLOBS_EACH + blob;
                        let first = (number as u64).to_le_bytes();
                        server.push(&mut stream, &digests[number], &[&first, rest])?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a pusher does not panic"))
    })?;
    Ok((PUSHERS * BLOBS_EACH * BLOB_SIZE) as f64 / began.elapsed().as_secs_f64())
}
