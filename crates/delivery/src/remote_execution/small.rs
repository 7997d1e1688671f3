//! Small layers are fetched together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    waiting: Mutex<Vec<Digest>>,
    /// Held by who fetches, so that the others find theirs afterwards.
    turn: Mutex<()>,
}

impl Small {
    fn waiting(&self) -> MutexGuard<'_, Vec<Digest>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a layer that will most likely be fetched.
    pub fn note(&self, layer: &Digest) {
        let mut waiting = self.waiting();
        if layer.size() <= SMALL_MAX && !waiting.contains(layer) {
            if waiting.len() == WAITING_MAX {
                waiting.remove(0);
            }
            waiting.push(layer.clone());
        }
    }

    /// Brings a layer into the store, if it is small, and others that wait with it. Whether that went well is
    /// seen in the store.
    pub fn bring(&self, store: &Store, client: &Client, layer: &Digest) -> Result<(), FarmError> {
        if layer.size() > SMALL_MAX {
            return Ok(());
        }
        let _turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |e| FarmError::Io {
            doing: "store layers of the farm".to_string(),
            source: std::io::Error::other(e),
        };
        if store.contains(layer.sha256()).map_err(failed)? {
            return Ok(());
        }
        let mut batch = vec![layer.clone()];
        batch.extend(self.waiting().iter().filter(|other| *other != layer).cloned());
        batch.truncate(client.fits_batch(&batch));
        let blobs = client.read_some(&batch)?;
        self.waiting().retain(|digest| !batch.contains(digest));
        store.write_blobs(blobs.iter().map(Vec::as_slice)).map_err(failed)
    }
}
