//! Layers of a build on their way to the registry before the build is done.

use std::sync::Arc;

use anyhow::{Context, Result};
use crossdock_builder::{LayerSink, Stop};
use crossdock_oci::store::Growing;
use crossdock_oci::{Descriptor, Reference, Store};
use crossdock_registry::Client;
use crossdock_registry::transfer::{PushOptions, Streams, push};

/// The pushes of a build. Uploads of large layers begin while the layers are packed; the rest is pushed when
/// the build is done. Dropping this cancels uploads that nothing needs.
pub struct Ahead(Option<Target>);

struct Target {
    client: Client,
    streams: Streams,
}

impl Ahead {
    /// Layers are uploaded ahead to the first of the names.
    pub fn new<'a>(
        client: impl FnOnce() -> Result<&'a Client>,
        mut names: impl Iterator<Item = &'a Reference>,
    ) -> Result<Ahead> {
        let Some(first) = names.next() else { return Ok(Ahead(None)) };
        let client = client()?.clone();
        let streams = Streams::new(&client, first);
        Ok(Ahead(Some(Target { client, streams })))
    }

    /// Where the builder sends layers.
    pub fn sink(&self) -> Option<&dyn LayerSink> {
        self.0.as_ref().map(|_| self as &dyn LayerSink)
    }

    /// The uploads, for a handler of signals.
    pub fn streams(&self) -> Option<Streams> {
        self.0.as_ref().map(|target| target.streams.clone())
    }

    /// The registry's answer, if the build was ended because this user may not write there.
    pub fn refusal(&self) -> Option<anyhow::Error> {
        self.0.as_ref().and_then(|target| target.streams.refusal()).map(anyhow::Error::from)
    }

    /// Pushes what the build has made to one of the names.
    pub fn push(&self, store: &Store, reference: &Reference, built: &Descriptor) -> Result<()> {
        let target = self.0.as_ref().context("nothing is pushed")?;
        let options = PushOptions { streams: Some(target.streams.clone()), ..PushOptions::default() };
        push(&target.client, store, reference, built, &options)?;
        Ok(())
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(target) = &self.0 {
            target.streams.end();
        }
    }
}

impl LayerSink for Ahead {
    fn follow(&self, layer: Arc<Growing>, stop: &Arc<Stop>) {
        let stop = stop.clone();
        if let Some(target) = &self.0 {
            target.streams.follow(layer, move || stop.stop());
        }
    }
}
