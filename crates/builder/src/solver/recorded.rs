//! What the store notes of a step: when it was executed, and where its layer is.

use std::sync::{Arc, Mutex, PoisonError};

use crossdock_oci::store::{LayerOptions, NewRecord, Store};
use crossdock_oci::{Digest, error::StoreError};
use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::solver::layer::{Packed, Record};

/// The note of a step. Versions that do not know where a layer may be cannot read the note, and execute the
/// step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    /// Where the layer is; `None` if the step changed nothing.
    pub layer: Option<Place>,
    /// When the step was executed, RFC 3339.
    pub created: String,
    /// See [`Record::renewal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<String>,
}

/// Where a layer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant)] // few exist at a time, and matching without a box reads better
pub(crate) enum Place {
    /// In an archive.
    Packed {
        #[serde(flatten)]
        packed: Box<Packed>,
        /// The key under which its tree was kept before it was packed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Digest>,
    },
    /// Nowhere but unpacked, under this key of the store.
    Kept { kept: Digest },
    /// Nowhere: the step is executed when somebody needs its layer. What it depends on is the key of the
    /// step, so that its result is the same whenever it is executed.
    PutOff { put_off: bool },
}

impl From<Record> for Recorded {
    fn from(Record { layer, created, renewal }: Record) -> Recorded {
        let layer = layer.map(|packed| Place::Packed { packed: Box::new(packed), from: None });
        Recorded { layer, created, renewal }
    }
}

/// The note of a step; `None` if there is none, or if the archive that it names is gone.
pub(crate) fn recorded(store: &Store, key: &Digest) -> Result<Option<Recorded>, ErrorKind> {
    let bytes = store.cache_get(key)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Notes a step.
pub(crate) fn note(store: &Store, key: &Digest, recorded: &Recorded) -> Result<(), ErrorKind> {
    Ok(store.cache_put_all(&[record_of(key, recorded)])?)
}

fn record_of(key: &Digest, recorded: &Recorded) -> NewRecord {
    let bytes = serde_json::to_vec(recorded).expect("string keys always serialise");
    let (refs, snapshots) = match &recorded.layer {
        Some(Place::Packed { packed, .. }) => {
            (vec![packed.descriptor.digest.clone()], vec![packed.diff_id.clone()])
        }
        Some(Place::Kept { kept }) => (Vec::new(), vec![kept.clone()]),
        Some(Place::PutOff { .. }) | None => (Vec::new(), Vec::new()),
    };
    NewRecord { key: key.clone(), bytes, refs, snapshots }
}

/// Notes of steps of other machines, which are written together. A build that is killed before loses them,
/// and the next one asks again.
#[derive(Clone)]
pub(crate) struct Together(Arc<Mutex<Option<Vec<NewRecord>>>>);

impl Together {
    /// Waits for notes.
    pub fn new() -> Together {
        Together(Arc::new(Mutex::new(Some(Vec::new()))))
    }

    /// Notes a step, whose layer is verified and in the store: with the others, or at once after them.
    pub fn note(&self, store: &Store, key: &Digest, recorded: &Recorded) -> Result<(), ErrorKind> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(waiting) => waiting.push(record_of(key, recorded)),
            None => note(store, key, recorded)?,
        }
        Ok(())
    }

    /// Writes what waits. From now on nothing does.
    pub fn write(&self, store: &Store) -> Result<(), ErrorKind> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match waiting.filter(|waiting| !waiting.is_empty()) {
            Some(waiting) => Ok(store.cache_put_all(&waiting)?),
            None => Ok(()),
        }
    }
}

/// Packs the layer of a step whose tree was kept, unless that was done meanwhile, and notes it.
///
/// # Errors
///
/// The tree is gone or cannot be read; the store cannot be written.
pub(crate) fn pack_kept(
    store: &Store,
    key: &Digest,
    kept: &Digest,
    options: &LayerOptions,
) -> Result<Packed, StoreError> {
    let _lock = store.lock_kept(kept)?;
    // A note that cannot be read is no reason not to pack.
    let before = recorded(store, key).ok().flatten();
    if let Some(Place::Packed { packed, from: Some(from) }) = before.as_ref().and_then(|r| r.layer.as_ref())
        && from == kept
    {
        return Ok(Packed::clone(packed));
    }
    let layer = store.commit_kept(kept, options)?;
    let packed = Packed { diff_id: layer.diff_id, descriptor: layer.descriptor };
    // The step may have been executed again meanwhile.
    if let Some(before) = before.filter(|r| r.layer == Some(Place::Kept { kept: kept.clone() })) {
        let place = Place::Packed { packed: Box::new(packed.clone()), from: Some(kept.clone()) };
        // Without the note the layer is packed again next time.
        let _ = note(store, key, &Recorded { layer: Some(place), ..before });
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_oci::Descriptor;

    #[test]
    fn notes_are_read_as_they_were_written_and_only_archives_by_older_versions() {
        let digest = Digest::of(b"layer");
        let packed = Packed { diff_id: digest.clone(), descriptor: Descriptor::of("type", b"layer") };
        let boxed = Box::new(packed.clone());
        let recorded =
            |layer| Recorded { layer, created: "2026-01-01T00:00:00Z".into(), renewal: Some("a".into()) };
        for (place, is_known_before) in [
            (Some(Place::Packed { packed: boxed.clone(), from: None }), true),
            (Some(Place::Packed { packed: boxed, from: Some(digest.clone()) }), true),
            (Some(Place::Kept { kept: digest.clone() }), false),
            (Some(Place::PutOff { put_off: true }), false),
            (None, true),
        ] {
            let recorded = recorded(place);
            let json = serde_json::to_string(&recorded).expect("serialises");
            assert_eq!(serde_json::from_str::<Recorded>(&json).expect(&json), recorded);
            // `Record` is what the store had before layers could be elsewhere.
            assert_eq!(serde_json::from_str::<Record>(&json).is_ok(), is_known_before, "{json}");
        }
        let before = Record { layer: Some(packed), created: "x".into(), renewal: None };
        let json = serde_json::to_string(&before).expect("serialises");
        assert_eq!(serde_json::from_str::<Recorded>(&json).expect(&json), Recorded::from(before));
    }
}
