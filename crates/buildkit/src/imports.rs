//! Caches that a client names: of registries, and of its own directories.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use crossdock_builder::solver::cache::Imported;
use crossdock_delivery::caches;
use crossdock_delivery::source::Source;
use crossdock_oci::{Digest, Document, Manifest};
use crossdock_platform::Platform;
use serde::Deserialize;

use crate::session::{ClientStore, Session};

/// The largest list of steps that is read, in bytes.
const LIST_SIZE_MAX: usize = 64 * 1024 * 1024;

/// A cache to read or write, as clients say it.
#[derive(Clone, Debug, Deserialize)]
pub struct CacheEntry {
    /// `registry`, `local`, `inline`, ...
    #[serde(rename = "Type")]
    pub kind: String,
    /// Its attributes.
    #[serde(rename = "Attrs", default)]
    pub attributes: HashMap<String, String>,
}

impl CacheEntry {
    /// The entry as `--cache-from` and `--cache-to` have it.
    pub fn text(&self) -> String {
        let mut fields = vec![format!("type={}", self.kind)];
        fields.extend(self.attributes.iter().map(|(name, value)| format!("{name}={value}")));
        let quoted = fields.iter().map(|field| match field.contains([',', '"']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field.clone(),
        });
        quoted.collect::<Vec<_>>().join(",")
    }
}

/// Reads caches. Those that cannot be read are told and skipped. Also returns where layers of the client's
/// own caches are.
pub fn import(
    source: &Source<'_>,
    session: Option<&Arc<Session>>,
    entries: &[CacheEntry],
    platforms: &[Platform],
    say: &dyn Fn(&str),
) -> Result<(Imported, HashMap<Digest, Arc<ClientStore>>)> {
    let (own, others): (Vec<&CacheEntry>, Vec<&CacheEntry>) =
        entries.iter().partition(|entry| entry.kind == "local");
    let others: Vec<String> = others.into_iter().map(CacheEntry::text).collect();
    let mut imported = caches::import(source, &others, platforms, &|_| None, say)?;
    let mut layers = HashMap::new();
    for entry in own {
        let read = session.context("the client has no session").and_then(|session| of_client(session, entry));
        match read {
            Ok((store, found)) => {
                for cache in found {
                    for layer in cache.layers() {
                        layers.entry(layer.digest).or_insert_with(|| store.clone());
                    }
                    imported.add(cache);
                }
            }
            Err(error) => {
                let reason = crossdock_delivery::files::chain(&error);
                say(&format!("warning: the cache {} has no effect: {reason}", entry.text()));
            }
        }
    }
    Ok((imported, layers))
}

type Found = (Arc<ClientStore>, Vec<crossdock_builder::solver::cache::StepCache>);

fn of_client(session: &Arc<Session>, entry: &CacheEntry) -> Result<Found> {
    let attribute = |name: &str| {
        entry.attributes.get(name).with_context(|| format!("a cache of type local needs {name}="))
    };
    let digest: Digest = attribute("digest")?.parse().context("digest=")?;
    let store = Arc::new(ClientStore::new(session.clone(), &format!("local:{}", attribute("src")?)));
    let bytes = store.small(&digest, LIST_SIZE_MAX)?;
    let manifests = match Document::parse(&bytes, None)? {
        Document::Manifest(manifest) => vec![manifest],
        Document::Index(index) => {
            let read = |entry: &crossdock_oci::Descriptor| -> Result<Manifest> {
                Ok(serde_json::from_slice(&store.small(&entry.digest, LIST_SIZE_MAX)?)?)
            };
            index.manifests.iter().map(read).collect::<Result<_>>()?
        }
    };
    let mut found = Vec::new();
    for manifest in manifests {
        let config = store.small(&manifest.config.digest, LIST_SIZE_MAX)?;
        found.extend(caches::list(&manifest, &config)?);
    }
    anyhow::ensure!(!found.is_empty(), "it holds no cache of this builder");
    Ok((store, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_text_as_on_the_command_line() {
        let json = r#"[{"Type":"registry","Attrs":{"ref":"host/a:1"}},{"Type":"inline"}]"#;
        let entries: Vec<CacheEntry> = serde_json::from_str(json).expect("valid");
        let text: Vec<String> = entries.iter().map(CacheEntry::text).collect();
        assert_eq!(text, ["type=registry,ref=host/a:1", "type=inline"]);
    }
}
