//! Small layers are fetched together, and checked while they are in memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossdock_builder::Packed;
use crossdock_oci::Store;
use crossdock_reapi::{Client, Digest, FarmError};

/// Longer layers are fetched alone.
const SMALL_MAX: u64 = 64 << 10;
/// Layers that may wait; what nobody has fetched for so long is not needed.
const WAITING_MAX: usize = 1000;

/// Small layers that were found and not fetched yet.
#[derive(Clone, Default)]
pub struct Small(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Vec<(Digest, Packed)>>,
    /// Held by who fetches, so that the others find theirs afterwards: layers that were brought, and whose
    /// archives are what these descriptions say.
    turn: Mutex<HashMap<Digest, Packed>>,
}

impl Small {
    fn waiting(&self) -> MutexGuard<'_, Vec<(Digest, Packed)>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a layer that will most likely be fetched.
    pub fn note(&self, layer: &Digest, packed: &Packed) {
        let mut waiting = self.waiting();
        if layer.size() <= SMALL_MAX && !waiting.iter().any(|(known, _)| known == layer) {
            if waiting.len() == WAITING_MAX {
                waiting.remove(0);
            }
            waiting.push((layer.clone(), packed.clone()));
        }
    }

    /// Brings a layer into the store, if it is small, and others that wait with it. Whether that went well is
    /// seen in the store; gives whether its archive was checked.
    pub fn bring(
        &self,
        store: &Store,
        client: &Client,
        layer: &Digest,
        packed: &Packed,
    ) -> Result<bool, FarmError> {
        if layer.size() > SMALL_MAX {
            return Ok(false);
        }
        let mut brought = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |e| FarmError::Io {
            doing: "store layers of the farm".to_string(),
            source: std::io::Error::other(e),
        };
        if store.contains(layer.sha256()).map_err(failed)? {
            return Ok(brought.get(layer) == Some(packed));
        }
        let mut batch = vec![(layer.clone(), packed.clone())];
        batch.extend(self.waiting().iter().filter(|(other, _)| other != layer).cloned());
        let digests: Vec<Digest> = batch.iter().map(|(digest, _)| digest.clone()).collect();
        batch.truncate(client.fits_batch(&digests));
        let blobs = client.read_some(&digests[..batch.len()])?;
        let taken: HashSet<&Digest> = digests[..batch.len()].iter().collect();
        self.waiting().retain(|(digest, _)| !taken.contains(digest));
        let of_digest: HashMap<&Digest, &Packed> =
            batch.iter().map(|(digest, packed)| (digest, packed)).collect();
        if brought.len() > WAITING_MAX {
            brought.clear();
        }
        for (digest, bytes) in &blobs {
            // What is wrong with an archive is told when it is checked again, for who needs it.
            if let Some(packed) = of_digest
                .get(digest)
                .filter(|packed| store.check_layer_bytes(bytes, &packed.descriptor, &packed.diff_id).is_ok())
            {
                brought.insert(digest.clone(), (*packed).clone());
            }
        }
        let blobs = blobs.iter().map(|(digest, bytes)| (digest.sha256(), bytes.as_slice()));
        store.write_blobs(blobs).map_err(failed)?;
        Ok(brought.get(layer) == Some(packed))
    }
}
