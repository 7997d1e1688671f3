//! Layers that are unpacked while others are still being fetched, shown as steps.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crossdock_builder::{Event, Events, StepInfo};
use crossdock_oci::Store;
use crossdock_registry::transfer::LayerReady;

/// Unpacks layers of one pull.
pub struct Unpacking<'a> {
    store: &'a Store,
    events: Option<&'a dyn Events>,
    shown: AtomicUsize,
}

impl<'a> Unpacking<'a> {
    /// Unpacks into `store` and tells `events`, if there is somebody to tell.
    pub fn new(store: &'a Store, events: Option<&'a dyn Events>) -> Unpacking<'a> {
        Unpacking { store, events, shown: AtomicUsize::new(0) }
    }

    fn tell(&self, event: Event) {
        if let Some(events) = self.events {
            events.event(event);
        }
    }

    /// Unpacks a layer that arrived. A failure occurs again, and is reported, when the whole image is
    /// unpacked; some layers need those below them first.
    pub fn layer(&self, layer: &LayerReady<'_>) {
        let Some(diff_id) = layer.diff_id else { return };
        if matches!(self.store.snapshot(diff_id, &[]), Ok(Some(_))) {
            return;
        }
        let (step, began) = (self.shown.fetch_add(1, Ordering::Relaxed) + 1, Instant::now());
        let command = format!("unpack layer {}", layer.index + 1);
        let info = StepInfo {
            name: format!("[{}] {command}", layer.platform),
            command,
            stage: String::new(),
            platform: layer.platform.clone(),
            target: layer.platform.clone(),
            is_emulated: false,
            lines: Default::default(),
        };
        self.tell(Event::Started { step, info: Box::new(info) });
        self.tell(Event::Executing { step });
        let unpacked = self.store.unpack(layer.layer, diff_id, &[]);
        self.tell(match unpacked {
            Ok(_) => Event::Done { step, cached: false, duration: began.elapsed() },
            Err(_) => Event::Cancelled { step },
        });
    }
}
