//! Copies manifests that refer to an image, such as signatures and SBOMs: OCI distribution specification,
//! "Listing Referrers" and "Pushing Manifests with Subject", and the tags that cosign sets.

use std::collections::{BTreeMap, HashSet};

use crossdock_oci::manifest::{Descriptor, Index};
use crossdock_oci::{Digest, Reference, media_type};

use super::pull::DEPTH_MAX;
use crate::client::{Client, FetchedManifest};
use crate::error::Result;

/// Tags `sha256-HEX` with these endings also belong to the manifest.
const COSIGN: [&str; 3] = [".sig", ".att", ".sbom"];

/// Which referrers of an image are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithReferrers {
    /// None.
    No,
    /// Those that the source lists. It is not an error if the registry refuses to list them.
    Listed,
    /// Those that the source lists, and those that cosign's tags name. A list that cannot be read is an
    /// error.
    All,
}

/// Manifests that refer to others.
#[derive(Default)]
pub(super) struct Referrers {
    /// Each with its subject's digest and its descriptor; subjects come before their referrers.
    attached: Vec<(Digest, Descriptor, FetchedManifest)>,
    /// Manifests that cosign's tags name, with the tags.
    tagged: Vec<(String, FetchedManifest)>,
}

impl Referrers {
    /// Finds the referrers of `subjects` in the sources, and their own referrers in turn. Passes each to
    /// `gather` with the name of its repository, to collect its parts.
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

    /// Pushes the manifests to the repository of `to`, which has their parts already. If the registry does
    /// not list referrers, writes the tag of the specification's "Referrers Tag Schema".
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

/// `sha256-HEX`; longer digests are cut to 64 digits, as the specification asks.
fn tag_of(digest: &Digest) -> String {
    let hex = &digest.hex()[..digest.hex().len().min(64)];
    format!("{}-{hex}", digest.algorithm())
}
