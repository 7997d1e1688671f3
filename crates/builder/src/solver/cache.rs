//! Results of steps on their way from one store to another: what `--cache-to` writes and `--cache-from`
//! reads.
//!
//! The format is our own: a step's digest names the step's dependencies as this builder sees them, and other
//! builders have other keys. A list of steps is small; its layers are blobs, each fetched when a step needs
//! it.

use std::collections::{BTreeSet, HashMap};

use crossdock_oci::{Descriptor, Digest};
use serde::{Deserialize, Serialize};

use crate::solver::layer::{Record, StepResult};

/// Steps and their results, as exported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepCache {
    /// The steps in the order of their digests.
    pub steps: Vec<CachedStep>,
    /// Pairs of a digest that finds a `COPY --from` before its files are read, and the digest of the step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quick: Vec<(Digest, Digest)>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedStep {
    /// Digest of the step's dependencies.
    pub key: Digest,
    /// Result of the step.
    #[serde(flatten)]
    pub record: Record,
}

impl CachedStep {
    /// A step with its result, once its layer is packed. `None` if it cannot be had.
    pub(crate) fn of(key: &Digest, result: &StepResult) -> Option<CachedStep> {
        let layer = result.layer.as_ref().map(|layer| layer.packed.wait()).transpose().ok()?;
        let (created, renewal) = (result.created.clone(), result.renewal.clone());
        Some(CachedStep { key: key.clone(), record: Record { layer, created, renewal } })
    }

    /// The same without waiting: `None` if the layer is not packed, or not fetched.
    pub(crate) fn of_here(key: &Digest, result: &StepResult) -> Option<CachedStep> {
        let is_here = result.layer.as_ref().is_none_or(|layer| layer.packed.is_kept());
        if is_here { CachedStep::of(key, result) } else { None }
    }
}

impl StepCache {
    /// Only the steps whose layers are among `diff_ids` (digests of uncompressed archives), and the steps
    /// without a layer.
    pub fn only(&self, diff_ids: &BTreeSet<Digest>) -> StepCache {
        let is_wanted =
            |step: &&CachedStep| step.record.layer.as_ref().is_none_or(|l| diff_ids.contains(&l.diff_id));
        let steps: Vec<CachedStep> = self.steps.iter().filter(is_wanted).cloned().collect();
        let quick = self.quick.iter().filter(|(_, key)| steps.iter().any(|step| step.key == *key));
        StepCache { quick: quick.cloned().collect(), steps }
    }

    /// The layers, each once, in the order of their digests.
    pub fn layers(&self) -> Vec<Descriptor> {
        let layers = self.steps.iter().filter_map(|step| step.record.layer.as_ref());
        let mut layers: Vec<Descriptor> = layers.map(|packed| packed.descriptor.clone()).collect();
        layers.sort_by(|a, b| a.digest.cmp(&b.digest));
        layers.dedup_by(|a, b| a.digest == b.digest);
        layers
    }
}

/// Results of other builds, by their digests.
#[derive(Debug, Default)]
pub struct Imported {
    pub(crate) steps: HashMap<Digest, Record>,
    pub(crate) quick: HashMap<Digest, Digest>,
}

impl Imported {
    /// Adds a cache that was read. If there are several results for a step, the first counts.
    pub fn add(&mut self, cache: StepCache) {
        for step in cache.steps {
            self.steps.entry(step.key).or_insert(step.record);
        }
        for (quick, key) in cache.quick {
            self.quick.entry(quick).or_insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::layer::Packed;

    #[test]
    fn a_selection_keeps_what_leads_to_it() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let step = |name: &str, layer: Option<&str>| CachedStep {
            key: digest(name),
            record: Record {
                layer: layer.map(|layer| Packed {
                    diff_id: digest(layer),
                    descriptor: Descriptor::of(
                        "application/vnd.oci.image.layer.v1.tar+gzip",
                        layer.as_bytes(),
                    ),
                }),
                created: "2026-01-01T00:00:00Z".into(),
                renewal: None,
            },
        };
        let cache = StepCache {
            steps: vec![step("a", Some("1")), step("b", Some("2")), step("c", None), step("d", Some("1"))],
            quick: vec![(digest("qa"), digest("a")), (digest("qb"), digest("b"))],
        };
        assert_eq!(cache.layers().len(), 2);
        let only = cache.only(&BTreeSet::from([digest("1")]));
        let keys: Vec<&Digest> = only.steps.iter().map(|step| &step.key).collect();
        assert_eq!(keys, [&digest("a"), &digest("c"), &digest("d")]);
        assert_eq!(only.quick, [(digest("qa"), digest("a"))]);
        let json = serde_json::to_string(&cache).expect("serialises");
        assert_eq!(serde_json::from_str::<StepCache>(&json).expect("reads"), cache);
        let mut imported = Imported::default();
        imported.add(only);
        imported.add(cache);
        assert_eq!((imported.steps.len(), imported.quick.len()), (4, 2));
    }
}
