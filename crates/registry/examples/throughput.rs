//! Pushes and pulls one large layer on loopback, with client and server in separate processes; prints time,
//! processor time and peak memory. `cargo run --release -p crossdock-registry --example throughput [MIB]`.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crossdock_oci::manifest::{Descriptor, Manifest};
use crossdock_oci::{ImageConfig, Store, media_type};
use crossdock_registry::Client;
use crossdock_registry::server::{RegistryServer, ServerOptions};
use crossdock_registry::transfer::{PullOptions, PushOptions, pull, push};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some("serve") {
        let sync = arguments.get(3).is_none();
        let options = ServerOptions { sync, ..ServerOptions::default() };
        let server = RegistryServer::bind("127.0.0.1:0", Path::new(&arguments[2]), options)?;
        println!("{}", server.addr());
        let _ = std::io::stdin().read(&mut [0]);
        return Ok(());
    }
    let mebibytes: usize = arguments.get(1).map_or(Ok(1024), |text| text.parse())?;
    for sync in [true, false] {
        run(mebibytes, sync)?;
    }
    Ok(())
}

fn run(mebibytes: usize, sync: bool) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve").arg(directory.path().join("registry"));
    if !sync {
        command.arg("nosync");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut address)?;
    let server = format!("/proc/{}", child.id());

    let store = Store::open(&directory.path().join("one"))?;
    let image = large_image(&store, mebibytes)?;
    let reference = format!("{}/big:1", address.trim()).parse()?;
    let client = Client::new(Default::default());
    println!("{mebibytes} MiB, server {}", if sync { "syncs" } else { "does not sync" });
    measure("push", &server, || {
        Ok(push(&client, &store, &reference, &image, &PushOptions::default()).map(|_| ())?)
    })?;
    let store = Store::open(&directory.path().join("two"))?;
    measure("pull", &server, || Ok(pull(&client, &store, &reference, &PullOptions::all()).map(|_| ())?))?;
    println!("  peak memory: client {} KiB, server {} KiB", peak("/proc/self")?, peak(&server)?);
    drop(child.stdin.take());
    child.wait()?;
    Ok(())
}

fn measure(name: &str, server: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = (processor_time("/proc/self")?, processor_time(server)?);
    let start = Instant::now();
    work()?;
    println!(
        "  {name}: {:.2} s; processor: client {:.2} s, server {:.2} s",
        start.elapsed().as_secs_f64(),
        processor_time("/proc/self")? - before.0,
        processor_time(server)? - before.1
    );
    Ok(())
}

/// An image with one layer of random bytes, which do not compress.
fn large_image(store: &Store, mebibytes: usize) -> Result<Descriptor> {
    let mut writer = store.blob_writer()?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut piece = Vec::with_capacity(1 << 20);
    for _ in 0..mebibytes {
        piece.clear();
        while piece.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend(state.to_le_bytes());
        }
        writer.write_all(&piece)?;
    }
    let (digest, size) = writer.commit(None)?;
    let mut config =
        ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.rootfs.diff_ids.push(digest.clone());
    let config = config.to_bytes();
    store.write_blob(&config)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_string()),
        artifact_type: None,
        config: Descriptor::of(media_type::OCI_CONFIG, &config),
        layers: vec![Descriptor::new(media_type::OCI_LAYER_TAR, digest, size)],
        subject: None,
        annotations: Default::default(),
    };
    let bytes = serde_json::to_vec(&manifest)?;
    store.write_blob(&bytes)?;
    Ok(Descriptor::of(media_type::OCI_MANIFEST, &bytes))
}

/// User and system time of a process in seconds, proc_pid_stat(5); a tick is 10 ms.
fn processor_time(process: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("{process}/stat"))?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// Largest resident size in KiB.
fn peak(process: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
