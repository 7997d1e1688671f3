//! Containers of Azure Blob Storage, in memory: blobs at addresses that the account's key has signed (REST
//! API, "Create an account SAS").

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::block_blob::BlockBlob;
use crate::http::{Answer, Request, serve};

/// The account.
pub const ACCOUNT: &str = "testaccount";
/// The account's key.
pub const ACCOUNT_KEY: &str = "dGVzdHMgc2lnbiB3aXRoIHRoaXM=";

/// Containers by name, each with its blobs by key.
type Containers = BTreeMap<String, BTreeMap<String, BlockBlob>>;

/// The service; it runs as long as the test.
pub struct TestContainers {
    address: String,
    containers: Arc<Mutex<Containers>>,
}

impl TestContainers {
    /// Starts the service, without containers, on a free port of this machine.
    pub fn start() -> TestContainers {
        let containers: Arc<Mutex<Containers>> = Arc::default();
        let kept = containers.clone();
        let address = serve(move |request| {
            let (status, body) = answer(&mut kept.lock().expect("no thread panics"), request);
            Answer { status, body, cut: None }
        });
        TestContainers { address, containers }
    }

    /// The account's address.
    pub fn url(&self) -> String {
        format!("http://{}/{ACCOUNT}", self.address)
    }

    /// `CONTAINER/KEY` of all blobs.
    pub fn keys(&self) -> Vec<String> {
        let containers = self.containers.lock().expect("no thread panics");
        let keys = |(name, blobs): (&String, &BTreeMap<String, BlockBlob>)| {
            blobs.keys().map(|key| format!("{name}/{key}")).collect::<Vec<_>>()
        };
        containers.iter().flat_map(keys).collect()
    }

    /// Cuts all blobs off whose keys begin so.
    pub fn cut(&self, prefix: &str) {
        let mut containers = self.containers.lock().expect("no thread panics");
        let blobs = containers.values_mut().flatten();
        blobs.filter(|(key, _)| key.starts_with(prefix)).for_each(|(_, blob)| blob.content.truncate(9));
    }
}

fn answer(containers: &mut Containers, request: &Request) -> (u16, Vec<u8>) {
    let refused = |status, code: &str| (status, format!("<Error><Code>{code}</Code></Error>").into_bytes());
    let Some((name, key)) = request.path.strip_prefix(&format!("/{ACCOUNT}/")).map(|path| {
        let (name, key) = path.split_once('/').unwrap_or((path, ""));
        (name.to_string(), key.to_string())
    }) else {
        return refused(400, "InvalidUri");
    };
    let is_container = request.parameter("restype").as_deref() == Some("container");
    let needed = if matches!(request.method.as_str(), "GET" | "HEAD") { "r" } else { "w" };
    if !is_signed(request, if is_container { "c" } else { "o" }, needed) {
        return refused(403, "AuthenticationFailed");
    }
    match (request.method.as_str(), is_container, containers.get_mut(&name)) {
        ("PUT", true, Some(_)) => refused(409, "ContainerAlreadyExists"),
        ("PUT", true, None) => {
            containers.insert(name, BTreeMap::new());
            (201, Vec::new())
        }
        (_, _, None) => refused(404, "ContainerNotFound"),
        (_, true, Some(_)) => (200, Vec::new()),
        ("PUT", false, Some(blobs)) => blobs.entry(key).or_default().answer(request),
        (_, false, Some(blobs)) => match blobs.get_mut(&key) {
            Some(blob) => blob.answer(request),
            None => refused(404, "BlobNotFound"),
        },
    }
}

/// Whether the account's key has signed the address for this kind of resource and this right.
fn is_signed(request: &Request, kind: &str, right: &str) -> bool {
    let value = |name: &str| request.parameter(name).unwrap_or_default();
    let names = ["sp", "ss", "srt", "st", "se", "sip", "spr", "sv"];
    let text: String = std::iter::once(ACCOUNT.to_string())
        .chain(names.map(value))
        .map(|line| format!("{line}\n"))
        .collect();
    let key = STANDARD.decode(ACCOUNT_KEY).expect("base64");
    let mut code = Hmac::<Sha256>::new_from_slice(&key).expect("keys of any length are keys");
    code.update(text.as_bytes());
    let is_ours = STANDARD.decode(value("sig")).is_ok_and(|signature| code.verify_slice(&signature).is_ok());
    is_ours && value("ss") == "b" && value("srt") == kind && value("sp").contains(right)
}
