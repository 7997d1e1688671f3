//! Images for devices: over SSH into the docker, podman, containerd or crossdock of another machine.
//!
//! The device's engine pulls the image from a registry that this process serves on its loopback, through a
//! port that ssh forwards from the device's loopback. So the engine fetches what it lacks and nothing else,
//! whichever engine it is, and the device needs no program of ours. The registry lives as long as the push;
//! its repository has a name that others on the device cannot guess.

mod address;
mod docker_api;
mod engine;
mod ssh;

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use crossdock_oci::size::size;
use crossdock_oci::{Descriptor, Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::server::{LogOutput, RegistryServer, ServerOptions, offer};

pub use self::address::{Address, SCHEME};
use self::engine::Engine;
use self::ssh::Remote;
use crate::output::{chain, print, say};
use crate::values::random_id;

/// What is sent.
pub struct Shipment<'a> {
    pub store: &'a Store,
    /// The name that the image gets on the devices.
    pub name: &'a Reference,
    /// The images to choose from, by platform.
    pub images: &'a [(Platform, Descriptor)],
    /// The platform to send, whatever a device is.
    pub platform: Option<&'a Platform>,
    /// Print only digests.
    pub quiet: bool,
}

/// What a device got.
struct Arrived {
    platform: Platform,
    manifest: Descriptor,
    engine: String,
    duration: Duration,
}

/// Sends an image to devices, to all at once; returns the exit code. One device's failure does not stop the
/// others.
///
/// # Errors
///
/// The registry cannot be served.
pub fn push(shipment: &Shipment<'_>, devices: &[Address]) -> Result<u8> {
    let directory = shipment.store.temporary_directory()?;
    let root = directory.path().join("registry");
    let (sent, log) = Sent::new();
    // Other users of a device reach the registry, too; unlisted, it shows them no repository.
    let options = ServerOptions {
        read_only: true,
        unlisted: true,
        sync: false,
        access_log: Some(log),
        ..Default::default()
    };
    let repositories: Vec<String> =
        devices.iter().map(|_| Ok(random_id()?[..32].to_string())).collect::<Result<_>>()?;
    let server = RegistryServer::bind("127.0.0.1:0", &root, options)?;
    // Several devices cannot ask for passwords at once.
    let may_ask = devices.len() == 1 && std::io::stdin().is_terminal();
    let started = Instant::now();
    // ssh takes the longest; it logs in while the image is laid out.
    let remotes: Vec<Result<Remote>> =
        devices.iter().map(|device| Remote::connect(device, server.addr(), may_ask)).collect();
    for (platform, manifest) in shipment.images {
        for repository in &repositories {
            offer(&root, shipment.store, repository, &tag(platform), manifest)?;
        }
    }
    let results: Vec<Result<Arrived>> = std::thread::scope(|threads| {
        let started: Vec<_> = devices
            .iter()
            .zip(&repositories)
            .zip(remotes)
            .map(|((device, repository), remote)| {
                threads.spawn(move || deliver(shipment, device, remote?, repository, started))
            })
            .collect();
        let ended = started.into_iter().map(|thread| thread.join());
        ended
            .map(|result| result.unwrap_or_else(|_| Err(anyhow!("the thread for this device died"))))
            .collect()
    });
    server.shutdown();
    let sent = sent.all();
    let mut failed = false;
    for ((device, repository), result) in devices.iter().zip(&repositories).zip(results) {
        match result {
            Ok(arrived) => {
                if !shipment.quiet {
                    say(&format!(
                        "{device}: {} is there for {} in {}; {} sent in {:.1} s",
                        shipment.name.familiar(),
                        arrived.platform,
                        arrived.engine,
                        size(sent.get(repository).copied().unwrap_or(0)),
                        arrived.duration.as_secs_f64(),
                    ));
                }
                print(arrived.manifest.digest.as_str());
            }
            Err(error) => {
                say(&format!("error: {device}: {}", chain(&error)));
                failed = true;
            }
        }
    }
    Ok(u8::from(failed))
}

/// The tag of a platform's image in the registry.
fn tag(platform: &Platform) -> String {
    platform.to_string().replace(['/', '(', ')', ' '], "-")
}

/// Lets the device's engine pull its image and give it its name.
fn deliver(
    shipment: &Shipment<'_>,
    device: &Address,
    mut remote: Remote,
    repository: &str,
    started: Instant,
) -> Result<Arrived> {
    let engine = Engine::find(&mut remote, device.engine.as_deref())?;
    let offered = shipment.images.iter().map(|(platform, _)| platform);
    let chosen = match shipment.platform {
        Some(platform) => platform.best(offered),
        None => engine.platform.best_to_run(offered),
    };
    let Some((platform, manifest)) = chosen.map(|at| &shipment.images[at]) else {
        let wanted = shipment.platform.unwrap_or(&engine.platform);
        let offered: Vec<String> = shipment.images.iter().map(|(platform, _)| platform.to_string()).collect();
        bail!(
            "the device is {}, and {} is in the store for {}: build or pull it with --platform {wanted}",
            engine.platform,
            shipment.name.familiar(),
            offered.join(", ")
        );
    };
    if !shipment.quiet {
        say(&format!("{device}: {} on {}, which gets {platform}", engine.title(), engine.platform));
    }
    let source: Reference = format!("127.0.0.1:{}/{repository}:{}", remote.port()?, tag(platform)).parse()?;
    let namespace =
        device.engine.as_deref().and_then(|engine| engine.split_once('/')).map_or("default", |(_, n)| n);
    let id = engine.pull(&mut remote, &source, shipment.name, platform, namespace)?;
    let (document, _) = shipment.store.read_document(manifest)?;
    let config = document.children().first().map(|config| config.digest.clone());
    // An engine's id is the digest of the configuration, or, where images are kept as they are, of the
    // manifest; some engines have no ids.
    if let Some(id) = id.filter(|id| *id != manifest.digest.hex() && config.is_none_or(|c| c.hex() != *id)) {
        bail!("the device now has another image of that name, {id}: push it again");
    }
    Ok(Arrived {
        platform: platform.clone(),
        manifest: manifest.clone(),
        engine: engine.title(),
        duration: started.elapsed(),
    })
}

/// Bytes that were sent, by repository, as the registry logs them.
struct Sent {
    bytes: Arc<Mutex<HashMap<String, u64>>>,
    ended: Receiver<()>,
}

struct SentLog {
    bytes: Arc<Mutex<HashMap<String, u64>>>,
    /// Dropped with this log, after the last line.
    _ended: Sender<()>,
}

impl Sent {
    fn new() -> (Sent, LogOutput) {
        let (sender, ended) = channel();
        let bytes = Arc::default();
        let log = SentLog { bytes: Arc::clone(&bytes), _ended: sender };
        (Sent { bytes, ended }, LogOutput::new(log))
    }

    /// Waits a moment for the last line of a registry that was shut down.
    fn all(self) -> HashMap<String, u64> {
        let _ = self.ended.recv_timeout(Duration::from_secs(1));
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The repository and the length of the body of a line of the access log.
fn of_line(line: &str) -> Option<(&str, u64)> {
    let mut parts = line.split('"');
    let (request, figures) = (parts.nth(1)?, parts.next()?);
    let repository = request.split(' ').nth(1)?.strip_prefix("/v2/")?.split('/').next()?;
    let bytes = figures.split_whitespace().nth(1)?.parse().ok()?;
    (request.starts_with("GET ") && !repository.is_empty()).then_some((repository, bytes))
}

impl Write for SentLog {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let mut all = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        for (repository, bytes) in String::from_utf8_lossy(text).lines().filter_map(of_line) {
            *all.entry(repository.to_string()).or_default() += bytes;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_by_repository() {
        let (sent, _log) = Sent::new();
        let mut log = SentLog { bytes: Arc::clone(&sent.bytes), _ended: channel().0 };
        let line = |request: &str, bytes: u64| {
            format!(
                "127.0.0.1 - - [29/Nov/2026:02:03:04 +0000] \"{request} HTTP/1.1\" 200 {bytes} \"-\" \"docker\" 1\n"
            )
        };
        let text = [
            line("GET /v2/", 2),
            line("GET /v2/abc/manifests/linux-arm64", 500),
            line("HEAD /v2/abc/blobs/sha256:0", 77),
            line("GET /v2/abc/blobs/sha256:0", 1000),
            line("GET /v2/def/blobs/sha256:0", 9),
        ]
        .concat();
        log.write_all(text.as_bytes()).expect("written");
        let all = sent.bytes.lock().expect("not poisoned").clone();
        assert_eq!(all, HashMap::from([("abc".to_string(), 1500), ("def".to_string(), 9)]));
    }
}
