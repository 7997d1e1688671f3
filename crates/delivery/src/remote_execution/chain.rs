//! Results of consecutive steps in one entry of the action cache, under the key of the last one: a machine
//! that knows none of them asks once, and gets small layers with the answer.
//!
//! The entry's standard output is a list of [`CachedStep`] in JSON, a line feed, and the bytes of small
//! layers one after the other. Nothing of it is believed more than an entry of a single step.

use std::collections::BTreeSet;

use crossdock_builder::solver::cache::CachedStep;
use crossdock_builder::{Packed, Record};
use crossdock_oci::Store;
use crossdock_reapi::{ActionResult, Digest, OutputFile};

use super::result::digest_of;

/// Fewer steps are asked for one by one.
pub const STEPS_MIN: usize = 3;
/// Longest layer that goes along with an entry, in bytes.
const LAYER_MAX: u64 = 16 << 10;
/// Bytes of all layers that go along with an entry.
const LAYERS_MAX: u64 = 64 << 10;

/// What an entry says.
#[derive(Default)]
pub struct Chain {
    /// The steps.
    pub steps: Vec<CachedStep>,
    /// Layers that came along, whose digests are not compared yet.
    pub layers: Vec<(Digest, Vec<u8>)>,
}

/// The layers that go along with these steps, each once: the first ones that are small.
fn along<'s>(steps: impl Iterator<Item = &'s Record>) -> Vec<(Digest, &'s Packed)> {
    let (mut seen, mut size) = (BTreeSet::new(), 0);
    let mut along = Vec::new();
    for packed in steps.filter_map(|record| record.layer.as_ref()) {
        let Some(digest) = digest_of(packed).filter(|digest| digest.size() <= LAYER_MAX) else { continue };
        if size + digest.size() <= LAYERS_MAX && seen.insert(digest.clone()) {
            size += digest.size();
            along.push((digest, packed));
        }
    }
    along
}

/// The entry for these steps, whose layers are in the store.
pub fn result_of(store: &Store, steps: &[CachedStep]) -> ActionResult {
    let layers: BTreeSet<Digest> =
        steps.iter().filter_map(|step| digest_of(step.record.layer.as_ref()?)).collect();
    // The names make servers keep the layers as long as the entry, or forget it with them.
    let file =
        |digest: Digest| OutputFile { path: format!("layers/{}", digest.hex()), digest, content: Vec::new() };
    let mut stdout = serde_json::to_vec(steps).expect("a record has string keys only");
    stdout.push(b'\n');
    for (_, packed) in along(steps.iter().map(|step| &step.record)) {
        // Without it, those behind it have no place.
        let Ok(bytes) = store.read_blob(&packed.descriptor.digest) else { break };
        stdout.extend(bytes);
    }
    ActionResult { files: layers.into_iter().map(file).collect(), stdout, ..ActionResult::default() }
}

/// What the text of an entry says. Rubbish says nothing.
pub fn read(text: &[u8]) -> Chain {
    let Some(end) = text.iter().position(|byte| *byte == b'\n') else { return Chain::default() };
    let (list, mut rest) = (&text[..end], &text[end + 1..]);
    let mut steps: Vec<CachedStep> = serde_json::from_slice(list).unwrap_or_default();
    let mut layers = Vec::new();
    for (digest, _) in along(steps.iter().map(|step| &step.record)) {
        let length = usize::try_from(digest.size()).unwrap_or(usize::MAX);
        let Some((bytes, behind)) = rest.split_at_checked(length) else { break };
        layers.push((digest, bytes.to_vec()));
        rest = behind;
    }
    // Keys of later steps depend on a renewal, so there is none in a chain.
    steps.retain(|step| step.record.renewal.is_none());
    Chain { steps, layers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_oci::{Descriptor, Digest as Sha256};

    fn step(name: &str, layer: Option<&[u8]>) -> CachedStep {
        let packed = |layer: &[u8]| Packed {
            diff_id: Sha256::of(b"archive"),
            descriptor: Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", layer),
        };
        let record = Record { layer: layer.map(packed), created: "x".into(), renewal: None };
        CachedStep { key: Sha256::of(name.as_bytes()), record }
    }

    #[test]
    fn an_entry_has_its_steps_and_small_layers() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let large = vec![7; 20 << 10];
        let small: Vec<Vec<u8>> = (0..6).map(|n| vec![n; 15 << 10]).collect();
        let mut steps = vec![step("none", None), step("large", Some(&large))];
        for (n, layer) in small.iter().enumerate() {
            store.write_blob(layer).expect("written");
            steps.push(step(&format!("small {n}"), Some(layer)));
        }
        steps.push(step("again", Some(&small[0])));
        let result = result_of(&store, &steps);
        assert_eq!(result.files.len(), 7, "each layer once");
        let chain = read(&result.stdout);
        assert_eq!(chain.steps, steps);
        let expected: Vec<_> = small[..4].iter().map(|l| (Digest::of(l), l.clone())).collect();
        assert_eq!(chain.layers, expected, "as many as fit");
        // Half of an entry has what is whole; rubbish has nothing.
        let half = read(&result.stdout[..result.stdout.len() - 1]);
        assert_eq!((half.steps.len(), half.layers.len()), (9, 3));
        for rubbish in [&b""[..], b"[]", b"{}\n", b"[{}]\nx"] {
            assert_eq!((read(rubbish).steps.len(), read(rubbish).layers.len()), (0, 0));
        }
        let mut renewed = step("renewed", None);
        renewed.record.renewal = Some("r".into());
        assert_eq!(read(&result_of(&store, &[renewed]).stdout).steps.len(), 0);
    }
}
