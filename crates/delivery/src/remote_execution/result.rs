//! Results of actions: read without trust, and written under keys.

use std::io::{BufWriter, Write};
use std::sync::Arc;

use crossdock_builder::away::order::{Answer, Task};
use crossdock_builder::{Elsewhere, Environment, ErrorKind, Packed, Record};
use crossdock_oci::media_type::Compression;
use crossdock_oci::{Descriptor, Digest as Sha256, Store};
use crossdock_reapi::{ActionResult, Client, Digest, FarmError, OutputFile};

use super::output::Output;
use super::small::Small;

/// The file with the layer.
pub const LAYER: &str = "layer";
/// The file that says how the command ended.
pub const ANSWER: &str = "result.json";

/// What a result says.
pub enum Outcome {
    /// The command succeeded.
    Done(Box<Elsewhere>),
    /// The command failed.
    Failed(ErrorKind),
    /// Nothing that can be used, for a reason that ends a sentence.
    Unusable(String),
}

/// The reader of one task's results.
pub struct Reading<'a> {
    pub env: &'a Environment<'a>,
    pub client: &'a Arc<Client>,
    pub small: &'a Small,
    pub task: &'a Task<'a>,
}

impl Reading<'_> {
    /// What a result says. `noted` is called with the record when its layer was fetched and verified.
    pub fn outcome(
        &self,
        result: &ActionResult,
        noted: impl Fn(&Record) + Send + Sync + 'static,
    ) -> Result<Outcome, FarmError> {
        let Some(file) = result.file(ANSWER) else {
            let said = self.bytes(&result.stderr, result.stderr_digest.as_ref(), 0)?;
            let said = String::from_utf8_lossy(&said);
            let said = said.lines().last().unwrap_or_default();
            let text = format!("the worker ended without an answer (exit code {}) {said}", result.exit_code);
            return Ok(Outcome::Unusable(text.trim_end().to_string()));
        };
        let bytes = match file.content.is_empty() {
            true => self.client.read_small(&file.digest)?,
            false => file.content.clone(),
        };
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|e| FarmError::Answer(format!("{ANSWER} of a step cannot be read: {e}")))?;
        Ok(match answer {
            Answer::Failed { status, hint } => {
                Outcome::Failed(ErrorKind::Command { command: self.task.command.to_string(), status, hint })
            }
            Answer::Refused(reason) => Outcome::Unusable(reason),
            Answer::Done { layer, .. } => {
                let layer = layer.map(|layer| *layer);
                let (created, renewal) = (self.task.created.clone(), self.task.renewal.clone());
                let record = Record { layer, created, renewal };
                note(self.small, result, &record)?;
                let fetch = fetch((self.env.store, self.client, self.small), result, &record)?;
                let own = record.clone();
                let fetch = Box::new(move || fetch().inspect(|()| noted(&own)));
                Outcome::Done(Box::new(Elsewhere { record, fetch, is_here: false }))
            }
        })
    }

    /// Passes on what the command wrote, except for the first `told` bytes of its streams. A server keeps
    /// both apart, so the order of what was not heard while the command ran is lost.
    pub fn tell_rest(&self, result: &ActionResult, mut output: Output, told: [u64; 2]) {
        let streams =
            [(false, &result.stdout, &result.stdout_digest), (true, &result.stderr, &result.stderr_digest)];
        for (stderr, bytes, digest) in streams {
            match self.bytes(bytes, digest.as_ref(), told[usize::from(stderr)]) {
                Ok(bytes) => output.take(self.env.events, stderr, &bytes),
                Err(error) => {
                    let text = format!("(the output cannot be had: {error})\n");
                    output.take(self.env.events, stderr, text.as_bytes());
                }
            }
        }
        output.finish(self.env.events);
    }

    /// A stream of the command without its first bytes.
    fn bytes(&self, bytes: &[u8], digest: Option<&Digest>, skip: u64) -> Result<Vec<u8>, FarmError> {
        let mut all = match digest.filter(|digest| bytes.is_empty() && digest.size() > skip) {
            None => bytes.to_vec(),
            Some(digest) => {
                let mut all = Vec::new();
                self.client.read(digest, true, &mut all)?;
                all
            }
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(all.len());
        all.drain(..skip);
        Ok(all)
    }
}

/// Notes that the layer of a record will be fetched.
fn note(small: &Small, result: &ActionResult, record: &Record) -> Result<(), FarmError> {
    if let Some(layer) = &record.layer {
        small.note(&named(result, layer)?, layer);
    }
    Ok(())
}

/// Notes that the layer of a result under a key will be fetched, if it is one. What is wrong with it is told
/// when it is used.
pub fn note_of_key(small: &Small, result: &ActionResult) {
    if let Ok(record) = serde_json::from_slice::<Record>(&result.stdout) {
        let _ = note(small, result, &record);
    }
}

/// Brings the layer of a record into the store when it is called, and verifies it: its digest while it is
/// read, then its archive's `diff_id` and names. Unpacking it is left to whoever needs its files.
fn fetch(
    (store, client, small): (&Store, &Arc<Client>, &Small),
    result: &ActionResult,
    record: &Record,
) -> Result<impl Fn() -> Result<(), String> + Send + Sync + use<>, FarmError> {
    let layer = match &record.layer {
        Some(layer) => Some((named(result, layer)?, layer.clone())),
        None => None,
    };
    let (store, client, small) = (store.clone(), client.clone(), small.clone());
    Ok(move || match &layer {
        Some((digest, layer)) => {
            bring((&store, &client, &small), digest, layer).map_err(|error| error.to_string())
        }
        None => Ok(()),
    })
}

/// The digest of a layer, as the farm knows it. `None` if it is no SHA-256.
pub fn digest_of(layer: &Packed) -> Option<Digest> {
    Digest::new(layer.descriptor.digest.clone(), layer.descriptor.size)
}

/// The blob of a layer, if the result has it and it is described as what it is.
fn named(result: &ActionResult, layer: &Packed) -> Result<Digest, FarmError> {
    let descriptor = &layer.descriptor;
    let wrong = |what: &str| FarmError::Answer(format!("the layer of a step {what}"));
    let digest = digest_of(layer).ok_or_else(|| wrong("has no SHA-256"))?;
    if result.file(LAYER).map(|file| &file.digest) != Some(&digest) {
        return Err(wrong("is not the one that its description names"));
    }
    let compression = Compression::of_media_type(&descriptor.media_type);
    // Nothing of the description goes into an image but what is verified.
    if *descriptor != Descriptor::new(compression.oci_layer(), descriptor.digest.clone(), descriptor.size) {
        return Err(wrong("is described as something else than a layer"));
    }
    Ok(digest)
}

fn bring(
    (store, client, small): (&Store, &Client, &Small),
    digest: &Digest,
    layer: &Packed,
) -> Result<(), FarmError> {
    let descriptor = &layer.descriptor;
    let failed = |doing: &str, e: crossdock_oci::error::StoreError| FarmError::Io {
        doing: format!("{doing} of the farm"),
        source: std::io::Error::other(e),
    };
    if small.bring(store, client, digest, layer)? {
        return Ok(());
    }
    if !store.contains(&descriptor.digest).map_err(|e| failed("look for a layer", e))? {
        let is_plain = Compression::of_media_type(&descriptor.media_type) == Compression::None;
        let writer = store.layer_writer(descriptor, &layer.diff_id);
        let mut writer = BufWriter::new(writer.map_err(|e| failed("store a layer", e))?);
        client.read(digest, is_plain, &mut writer)?;
        let io = |source| FarmError::Io { doing: "store a layer of the farm".to_string(), source };
        writer.flush().map_err(io)?;
        let writer = writer.into_inner().map_err(|e| io(e.into_error()))?;
        return writer.finish().map_err(|e| failed("store and check a layer", e));
    }
    // Layers of steps never need lower ones.
    if store.snapshot(&layer.diff_id, &[]).map_err(|e| failed("look for a layer", e))?.is_some() {
        return Ok(());
    }
    store.check_layer(descriptor, &layer.diff_id).map_err(|e| failed("check a layer", e))
}

/// The result under a key. `None` for a form that this version does not know.
pub fn of_key(
    (store, client, small): (&Store, &Arc<Client>, &Small),
    result: &ActionResult,
) -> Result<Option<Elsewhere>, FarmError> {
    let bytes = text_of(client, result)?;
    let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { return Ok(None) };
    if record.created.parse::<jiff::Timestamp>().is_err() {
        return Ok(None);
    }
    let fetch = Box::new(fetch((store, client, small), result, &record)?);
    let is_here = record.layer.as_ref().is_some_and(|layer| small.has_brought(layer));
    Ok(Some(Elsewhere { record, fetch, is_here }))
}

/// The key that a result names, and the result as it would be under that key. `None` for a form that this
/// version does not know.
pub fn with_key(client: &Client, result: &ActionResult) -> Result<Option<(Sha256, ActionResult)>, FarmError> {
    let named = serde_json::from_slice::<(Sha256, Record)>(&text_of(client, result)?).ok();
    Ok(named.map(|(key, record)| (key, for_key(&record))))
}

/// What is written under another digest than the key.
pub fn for_other(key: &Sha256, record: &Record) -> ActionResult {
    let stdout = serde_json::to_vec(&(key, record)).expect("a record has string keys only");
    ActionResult { stdout, ..for_key(record) }
}

/// What a result that nobody executed says.
///
/// # Errors
///
/// It is a blob that cannot be had.
pub fn text_of(client: &Client, result: &ActionResult) -> Result<Vec<u8>, FarmError> {
    match &result.stdout_digest {
        Some(digest) if result.stdout.is_empty() => client.read_small(digest),
        _ => Ok(result.stdout.clone()),
    }
}

/// What is written under a key.
pub fn for_key(record: &Record) -> ActionResult {
    let layer = record.layer.as_ref().and_then(|layer| {
        Some(OutputFile { path: LAYER.to_string(), digest: digest_of(layer)?, content: Vec::new() })
    });
    ActionResult {
        files: layer.into_iter().collect(),
        stdout: serde_json::to_vec(record).expect("a record has string keys only"),
        ..ActionResult::default()
    }
}
