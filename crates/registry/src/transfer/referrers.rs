//! What refers to an image, such as signatures and SBOMs, is copied with it: OCI distribution specification, "Listing
//! Referrers" and "Pushing Manifests with Subject", and the tags that cosign gives.

use std::collections::{BTreeMap, HashSet};

use crossdock_oci::manifest::{Descriptor, Index};
use crossdock_oci::{Digest, Reference, media_type};

use super::pull::DEPTH_MAX;
use crate::client::{Client, FetchedManifest};
use crate::error::Result;

/// Tags `sha256-HEX` with these endings belong to a manifest, too.
const COSIGN: [&str; 3] = [".sig", ".att", ".sbom"];

/// What is copied of that which refers to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithReferrers {
    /// Nothing.
    No,
    /// What the source lists; a registry that refuses to list anything is no failure.
    Listed,
    /// The same, and what cosign's tags name; a list that cannot be had is a failure.
    All,
}

/// Manifests that refer to others.
#[derive(Default)]
pub(super) struct Referrers {
    /// With what each refers to; what is referred to comes first.
    attached: Vec<(Digest, Descriptor, FetchedManifest)>,
    /// With their tags.
    tagged: Vec<(String, FetchedManifest)>,
}

impl Referrers {
    /// Finds what refers to `subjects` in the sources, and what refers to that. Each that is found is given to `gather` with
    /// the name of its repository, for its parts.
    pub(super) fn find(
        client: &Client,
        sources: &[&Reference],
        subjects: Vec<Digest>,
        with: WithReferrers,
        mut gather: impl FnMut(&Reference, &FetchedManifest) -> Result<()>,
    ) -> Result<Referrers> {
        let mut found = Referrers::default();
        let mut seen: HashSet<Digest> = subjects.iter().cloned().collect();
        let mut level = subjects;
        for _ in 0..=DEPTH_MAX {
            let mut next = Vec::new();
            for subject in &level {
                for from in sources {
                    let listed = match client.referrers(from, subject, None) {
                        Err(e) if with == WithReferrers::Listed && e.answer().is_some() => Vec::new(),
                        other => other?,
                    };
                    for descriptor in listed {
                        if !seen.insert(descriptor.digest.clone()) {
                            continue;
                        }
                        let manifest = client.manifest(&from.with_digest(descriptor.digest.clone()))?;
                        gather(from, &manifest)?;
                        next.push(descriptor.digest.clone());
                        found.attached.push((subject.clone(), descriptor, manifest));
                    }
                    for ending in COSIGN {
                        if with == WithReferrers::Listed {
                            break;
                        }
                        let tag = format!("{}{ending}", tag_of(subject));
                        let name = from.with_tag(&tag)?;
                        if client.head_manifest(&name)?.is_none()
                            || found.tagged.iter().any(|(t, _)| *t == tag)
                        {
                            continue;
                        }
                        let manifest = client.manifest(&name)?;
                        gather(from, &manifest)?;
                        found.tagged.push((tag, manifest));
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            level = next;
        }
        Ok(found)
    }

    /// Number of manifests.
    pub(super) fn count(&self) -> u64 {
        (self.attached.len() + self.tagged.len()) as u64
    }

    /// Pushes them to the repository of `to`, whose registry has their parts. Where it has no list of referrers, the tag of
    /// the specification's "Referrers Tag Schema" is written.
    pub(super) fn push(self, client: &Client, to: &Reference) -> Result<()> {
        let mut listed: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
        for (subject, descriptor, manifest) in self.attached {
            let name = to.with_digest(manifest.digest.clone());
            client.put_manifest(&name, &manifest.media_type, &manifest.bytes)?;
            listed.entry(subject).or_default().push(descriptor);
        }
        for (subject, descriptors) in listed {
            let mut all = client.referrers(to, &subject, None)?;
            let missing: Vec<Descriptor> = descriptors
                .into_iter()
                .filter(|d| all.iter().all(|known| known.digest != d.digest))
                .collect();
            if missing.is_empty() {
                continue;
            }
            all.extend(missing);
            let tag = to.with_tag(&tag_of(&subject))?;
            client.put_manifest(&tag, media_type::OCI_INDEX, &Index::new(all).to_bytes())?;
        }
        for (tag, manifest) in self.tagged {
            client.put_manifest(&to.with_tag(&tag)?, &manifest.media_type, &manifest.bytes)?;
        }
        Ok(())
    }
}

/// `sha256-HEX`; of longer digests only as much as a tag can hold, as the specification wants it.
fn tag_of(digest: &Digest) -> String {
    let hex = &digest.hex()[..digest.hex().len().min(64)];
    format!("{}-{hex}", digest.algorithm())
}
