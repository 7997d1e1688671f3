//! Small layers are fetched together, and checked while they are in memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossdock_builder::Packed;
use crossdock_oci::{Store, StoreError};
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
    /// Layers that came along with other answers, and are not fetched: their digests are not compared yet.
    along: Mutex<HashMap<Digest, Vec<u8>>>,
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

    /// Takes layers that came along with another answer.
    pub fn bring_along(&self, layers: Vec<(Digest, Vec<u8>)>) {
        let mut along = self.along();
        if along.len() > WAITING_MAX {
            along.clear();
        }
        along.extend(layers);
    }

    /// Those of some layers that came along, and are what their digests say.
    fn take_along(&self, batch: &[(Digest, Packed)]) -> Vec<(Digest, Vec<u8>)> {
        let mut along = self.along();
        let came = batch.iter().filter_map(|(digest, _)| Some((digest.clone(), along.remove(digest)?)));
        came.filter(|(digest, bytes)| Digest::of(bytes) == *digest).collect()
    }

    fn along(&self) -> MutexGuard<'_, HashMap<Digest, Vec<u8>>> {
        self.0.along.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut blobs = self.take_along(&batch);
        let is_to_come = |digest: &Digest| !blobs.iter().any(|(known, _)| known == digest);
        let absent = batch.iter().map(|(digest, _)| digest).filter(|digest| is_to_come(digest));
        let mut absent: Vec<Digest> = absent.cloned().collect();
        let left = absent.split_off(client.fits_batch(&absent));
        if !absent.is_empty() {
            blobs.extend(client.read_some(&absent)?);
        }
        batch.retain(|(digest, _)| !left.contains(digest));
        let taken: HashSet<Digest> = batch.iter().map(|(digest, _)| digest.clone()).collect();
        self.waiting().retain(|(digest, _)| !taken.contains(digest));
        keep(store, &mut brought, &batch, &blobs).map_err(failed)?;
        Ok(brought.get(layer) == Some(packed))
    }

    /// Brings those layers into the store that came along and were noted. What goes wrong shows when they are
    /// needed.
    pub fn keep_along(&self, store: &Store) {
        let mut brought = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = self.waiting().clone();
        let blobs = self.take_along(&batch);
        if !blobs.is_empty() && keep(store, &mut brought, &batch, &blobs).is_ok() {
            self.waiting().retain(|(digest, _)| !blobs.iter().any(|(known, _)| known == digest));
        }
    }

    /// Whether a layer was brought, and its archive checked. The store may have lost it since.
    pub fn has_brought(&self, packed: &Packed) -> bool {
        // Who fetches just now takes longer than another thread is worth waiting for.
        let (Ok(brought), Some(digest)) =
            (self.0.turn.try_lock(), Digest::new(packed.descriptor.digest.clone(), packed.descriptor.size))
        else {
            return false;
        };
        brought.get(&digest) == Some(packed)
    }
}

/// Checks the archives of some of these layers, and writes them.
fn keep(
    store: &Store,
    brought: &mut HashMap<Digest, Packed>,
    batch: &[(Digest, Packed)],
    blobs: &[(Digest, Vec<u8>)],
) -> Result<(), StoreError> {
    let of_digest: HashMap<&Digest, &Packed> =
        batch.iter().map(|(digest, packed)| (digest, packed)).collect();
    if brought.len() > WAITING_MAX {
        brought.clear();
    }
    // The farm has them still, so nobody waits for the disk.
    store.write_blobs_unsynced(blobs.iter().map(|(digest, bytes)| (digest.sha256(), bytes.as_slice())))?;
    for (digest, bytes) in blobs {
        // What is wrong with an archive is told when it is checked again, for who needs it.
        if let Some(packed) = of_digest
            .get(digest)
            .filter(|packed| store.check_layer_bytes(bytes, &packed.descriptor, &packed.diff_id).is_ok())
        {
            brought.insert(digest.clone(), (*packed).clone());
        }
    }
    Ok(())
}
