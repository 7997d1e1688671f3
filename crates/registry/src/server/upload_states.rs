//! The state of uploads between their requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crossdock_oci::digest::Hasher;

/// Uploads that were touched since the start; one request at a time works on each.
#[derive(Default)]
pub(super) struct Uploads(Mutex<HashMap<String, Arc<tokio::sync::Mutex<UploadState>>>>);

/// The hash of an upload's first `length` bytes, so that these need not be read again at the upload's end.
pub(super) struct UploadState {
    pub(super) hasher: Hasher,
    pub(super) length: u64,
}

impl Default for UploadState {
    fn default() -> UploadState {
        UploadState { hasher: Hasher::sha256(), length: 0 }
    }
}

impl Uploads {
    pub(super) fn all(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<UploadState>>>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The state of an upload; empty after a restart of the server.
    pub(super) fn state(&self, id: &str) -> Arc<tokio::sync::Mutex<UploadState>> {
        self.all().entry(id.to_string()).or_default().clone()
    }

    pub(super) fn forget(&self, id: &str) {
        self.all().remove(id);
    }

    /// Whether a request works on an upload right now.
    pub(super) fn is_busy(&self, id: &str) -> bool {
        self.all().get(id).is_some_and(|state| state.try_lock().is_err())
    }
}
