//! Orders as actions: which files are sent, and under which names.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crossdock_builder::away::order::Package;
use crossdock_oci::digest::Hasher;
use crossdock_oci::media_type::Compression;
use crossdock_oci::{Descriptor, Digest as Sha256, Store};
use crossdock_reapi::{Action, Blob, Command, Content, Digest, FarmError, InputRoot};

use super::result::{ANSWER, LAYER};

/// The program of actions under keys. It is never started: such an action only names a result.
const KEY_PROGRAM: &str = "crossdock-step";
/// The same of actions under keys of chains.
const CHAIN_PROGRAM: &str = "crossdock-chain";
/// Raised when the form of results under keys changes.
const KEY_VERSION: &str = "1";

/// The action that stands for the key of a step.
pub fn of_key(key: &Sha256) -> Action {
    naming(KEY_PROGRAM, key)
}

/// The action that stands for the chain of steps that ends with the step of this key.
pub fn of_chain(last: &Sha256) -> Action {
    naming(CHAIN_PROGRAM, last)
}

fn naming(program: &str, key: &Sha256) -> Action {
    let arguments = [program, KEY_VERSION, key.as_str()].map(str::to_string).to_vec();
    let command = Command { arguments, outputs: vec![LAYER.to_string()], properties: Vec::new() };
    Action::new(&command, InputRoot::default())
}

/// The action of a package.
///
/// # Errors
///
/// A file cannot be read, or a layer has no SHA-256.
pub fn action(
    store: &Store,
    package: &Package,
    executable: Blob,
    emulator: Option<Blob>,
    properties: &[(String, String)],
) -> Result<Action, FarmError> {
    let mut root = InputRoot::default();
    root.file("crossdock", executable, true);
    if let Some(emulator) = emulator {
        root.file("crossdock-emu", emulator, true);
    }
    let order = serde_json::to_vec(&package.order).expect("an order has string keys only");
    root.file("order.json", Blob::of(order), false);
    for layer in package.order.layers() {
        let blob = blob_of_layer(store, &layer.descriptor)?;
        root.file(format!("layers/{}", blob.digest.hex()), blob, false);
    }
    for (number, path) in package.files.iter().enumerate() {
        root.file(format!("files/{number}"), blob_of_file(path)?, false);
    }
    // A worker's process may have no HOME, so the store that nobody keeps lies in the action's directory.
    let arguments = ["./crossdock", "--root", ".crossdock", "perform", "order.json"];
    let arguments = arguments.map(str::to_string).to_vec();
    let outputs = [LAYER, ANSWER].map(str::to_string).to_vec();
    let command = Command { arguments, outputs, properties: properties.to_vec() };
    Ok(Action::new(&command, root))
}

/// A layer as a blob.
///
/// # Errors
///
/// It has no SHA-256.
pub fn blob_of_layer(store: &Store, layer: &Descriptor) -> Result<Blob, FarmError> {
    let digest = Digest::new(layer.digest.clone(), layer.size);
    let digest =
        digest.ok_or_else(|| FarmError::Settings(format!("the layer {} has no SHA-256", layer.digest)))?;
    let path = store.blob_path(&layer.digest);
    // Layers are compressed already, as a rule.
    let is_plain = Compression::of_media_type(&layer.media_type) == Compression::None;
    let content = match path.is_file() {
        true => Content::File(path, is_plain),
        // It was made there, and is on its way.
        false => Content::Elsewhere,
    };
    Ok(Blob { digest, content })
}

/// A file as a blob.
pub fn blob_of_file(path: &Path) -> Result<Blob, FarmError> {
    let failed = |source| FarmError::File { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Hasher::sha256();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let length = file.read(&mut buffer).map_err(failed)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        size += length as u64;
    }
    let digest = Digest::new(hasher.finish(), size).expect("the hasher makes SHA-256");
    Ok(Blob { digest, content: Content::File(path.to_path_buf(), true) })
}
