//! `inspect --tree`: an index, its images and their layers with sizes, for people. Of an image that is not in
//! the store only the manifests and configurations are fetched.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result};
use crossdock_oci::manifest::{Document, MANIFEST_SIZE_MAX};
use crossdock_oci::size::size;
use crossdock_oci::{Descriptor, Digest, ImageConfig, Manifest, Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::Client;

use crate::output::print;
use crate::progress::{Display, ProgressMode};
use crate::session::Session;
use crate::values;
use crossdock_delivery::source;

/// Where documents are read.
enum Place<'a> {
    Store(&'a Store),
    Registry(&'a Client, Reference),
}

/// A line of the tree and what hangs on it.
struct Node {
    text: String,
    children: Vec<Node>,
}

/// Prints the trees of images; with a platform, only its images.
pub fn tree(session: &Session, images: &[String], platform: Option<&Platform>) -> Result<()> {
    let store = session.store()?;
    for name in images {
        let node = match source::find(&store, name, platform) {
            Ok(found) => {
                let place = Place::Store(&store);
                let top = found.index.filter(|_| platform.is_none());
                let tops: Vec<Descriptor> = match top {
                    Some(index) => vec![index],
                    None => found
                        .images
                        .into_iter()
                        .map(|image| image.manifest.with_platform(image.platform))
                        .collect(),
                };
                whole(&place, name, &tops, platform)?
            }
            Err(error) if !source::is_absence(&error) || source::is_id(name) => return Err(error),
            Err(_) => {
                let reference = values::reference(name.strip_prefix("docker://").unwrap_or(name))?;
                let client = session.client(Arc::new(Display::new(ProgressMode::Quiet)))?;
                let top = client.manifest(&reference)?.descriptor();
                whole(&Place::Registry(&client, reference.clone()), name, &[top], platform)?
            }
        };
        show(&node, "", "");
    }
    Ok(())
}

fn show(node: &Node, first: &str, rest: &str) {
    print(&format!("{first}{}", node.text));
    for (at, child) in node.children.iter().enumerate() {
        let (branch, below) =
            if at + 1 == node.children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        show(child, &format!("{rest}{branch}"), &format!("{rest}{below}"));
    }
}

fn whole(place: &Place<'_>, name: &str, tops: &[Descriptor], platform: Option<&Platform>) -> Result<Node> {
    let mut known = HashMap::new();
    let mut children = Vec::new();
    for top in tops {
        match place.document(top)? {
            Some(Document::Index(index)) => {
                let wanted = |entry: &&Descriptor| {
                    platform.is_none_or(|wanted| {
                        entry.platform.as_ref().is_some_and(|p| wanted.rank(p).is_some())
                    })
                };
                let entries = index.manifests.iter().filter(wanted);
                let below =
                    entries.map(|entry| image(place, entry, &mut known)).collect::<Result<Vec<_>>>()?;
                let count =
                    if below.len() == 1 { "1 entry".to_string() } else { format!("{} entries", below.len()) };
                children.push(Node { text: format!("index {} ({count})", top.digest), children: below });
            }
            _ => children.push(image(place, top, &mut known)?),
        }
    }
    Ok(Node { text: name.escape_debug().to_string(), children })
}

/// One entry of an index, or a single image. `known` has the platform that first showed a layer.
fn image(place: &Place<'_>, entry: &Descriptor, known: &mut HashMap<Digest, String>) -> Result<Node> {
    let named = entry.platform.as_ref().map(ToString::to_string);
    let unread = |what: &str| {
        let platform = named.clone().unwrap_or_else(|| entry.media_type.clone());
        let text = format!("{} {} ({what})", platform.escape_debug(), entry.digest);
        Ok(Node { text, children: Vec::new() })
    };
    if entry.is_attestation() {
        return unread("attestation");
    }
    let manifest = match place.document(entry)? {
        Some(Document::Manifest(manifest)) => manifest,
        Some(Document::Index(_)) => return unread("index"),
        None => return unread("not in the store"),
    };
    let config = place.config(&manifest)?;
    let platform = config.as_ref().map(|config| config.platform().to_string()).or(named);
    let platform = platform.unwrap_or_else(|| "artifact".to_string());
    let mut children = vec![Node {
        text: format!("config {} {}", manifest.config.digest, size(manifest.config.size)),
        children: Vec::new(),
    }];
    let history = config.map(|config| config.history).unwrap_or_default();
    let mut made = history.iter().filter(|entry| entry.empty_layer != Some(true));
    for layer in &manifest.layers {
        let by = made.next().and_then(|entry| entry.created_by.clone()).unwrap_or_default();
        let shared = match known.get(&layer.digest) {
            Some(first) if *first != platform => format!("  (also in {first})"),
            _ => String::new(),
        };
        known.entry(layer.digest.clone()).or_insert_with(|| platform.clone());
        let text = format!("{:>7} {}{shared}  {}", size(layer.size), short(&layer.digest), one_line(&by));
        children.push(Node { text, children: Vec::new() });
    }
    let count = manifest.layers.len();
    let layers = if count == 1 { "layer" } else { "layers" };
    let text = format!("{platform} {} ({}, {count} {layers})", entry.digest, size(manifest.layers_size()));
    Ok(Node { text, children })
}

fn short(digest: &Digest) -> &str {
    &digest.hex()[..12]
}

/// The beginning of a text on one line.
fn one_line(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ").escape_debug().to_string();
    match words.chars().count() > SHOWN_MAX {
        true => words.chars().take(SHOWN_MAX - 1).chain(['…']).collect(),
        false => words,
    }
}

impl Place<'_> {
    /// The document of a descriptor; `None` if the store lacks it.
    fn document(&self, descriptor: &Descriptor) -> Result<Option<Document>> {
        match self {
            Place::Store(store) if !store.contains(&descriptor.digest)? => Ok(None),
            Place::Store(store) => Ok(Some(store.read_document(descriptor)?.0)),
            Place::Registry(client, reference) => {
                let reference = reference.with_digest(descriptor.digest.clone());
                Ok(Some(client.manifest(&reference)?.document(&reference)?))
            }
        }
    }

    /// The configuration; `None` if it is not an image's.
    fn config(&self, manifest: &Manifest) -> Result<Option<ImageConfig>> {
        let bytes = match self {
            Place::Store(store) if !store.contains(&manifest.config.digest)? => return Ok(None),
            Place::Store(store) => store.read_descriptor(&manifest.config)?,
            Place::Registry(client, reference) => {
                let mut bytes = Vec::new();
                let reader = client.blob(reference, &manifest.config, 0)?;
                reader.take(MANIFEST_SIZE_MAX).read_to_end(&mut bytes).context("read the configuration")?;
                bytes
            }
        };
        Ok(ImageConfig::parse(&bytes).ok())
    }
}
