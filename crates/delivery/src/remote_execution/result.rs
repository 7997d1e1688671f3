//! Results of actions: read without trust, and written under keys.

use std::io::{BufWriter, Write};

use crossdock_builder::away::order::{Answer, Task};
use crossdock_builder::{Environment, ErrorKind, Event, Packed, Record, StepId, Wait};
use crossdock_oci::Descriptor;
use crossdock_oci::media_type::Compression;
use crossdock_reapi::{ActionResult, Client, Digest, FarmError, OutputFile};

/// The file with the layer.
pub const LAYER: &str = "layer";
/// The file that says how the command ended.
pub const ANSWER: &str = "result.json";

/// What a result says.
pub enum Outcome {
    /// The command succeeded, and its layer is here.
    Done(Box<Record>),
    /// The command failed.
    Failed(ErrorKind),
    /// Nothing that can be used, for a reason that ends a sentence.
    Unusable(String),
}

/// The reader of one task's results.
pub struct Reading<'a> {
    pub env: &'a Environment<'a>,
    pub client: &'a Client,
    pub task: &'a Task<'a>,
}

impl Reading<'_> {
    /// What a result says. The layer is then in the store, verified and unpacked.
    pub fn outcome(&self, result: &ActionResult) -> Result<Outcome, FarmError> {
        let Some(file) = result.file(ANSWER) else {
            let said = self.text(&result.stderr, result.stderr_digest.as_ref())?;
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
                if let Some(layer) = &layer {
                    fetch(self.env, self.client, self.task.step, result, layer)?;
                }
                let (created, renewal) = (self.task.created.clone(), self.task.renewal.clone());
                Outcome::Done(Box::new(Record { layer, created, renewal }))
            }
        })
    }

    /// Passes on what the command wrote. A server keeps both streams apart, so their order is lost.
    pub fn tell_output(&self, result: &ActionResult) {
        let streams =
            [(false, &result.stdout, &result.stdout_digest), (true, &result.stderr, &result.stderr_digest)];
        for (stderr, bytes, digest) in streams {
            let text = match self.text(bytes, digest.as_ref()) {
                Ok(text) => text,
                Err(error) => format!("(the output cannot be had: {error})"),
            };
            for line in text.lines() {
                let (step, line) = (self.task.step, line.to_string());
                self.env.events.event(Event::Output { step, stderr, is_transient: false, line });
            }
        }
    }

    /// A stream of the command.
    fn text(&self, bytes: &[u8], digest: Option<&Digest>) -> Result<String, FarmError> {
        let bytes = match digest.filter(|digest| bytes.is_empty() && digest.size() > 0) {
            None => bytes.to_vec(),
            Some(digest) => {
                let mut all = Vec::new();
                self.client.read(digest, true, &mut all)?;
                all
            }
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Brings the layer of a result into the store, verified and unpacked.
fn fetch(
    env: &Environment<'_>,
    client: &Client,
    step: StepId,
    result: &ActionResult,
    layer: &Packed,
) -> Result<(), FarmError> {
    let (store, descriptor) = (env.store, &layer.descriptor);
    let wrong = |what: &str| FarmError::Answer(format!("the layer of a step {what}"));
    let digest = Digest::new(descriptor.digest.clone(), descriptor.size);
    let digest = digest.ok_or_else(|| wrong("has no SHA-256"))?;
    if result.file(LAYER).map(|file| &file.digest) != Some(&digest) {
        return Err(wrong("is not the one that its description names"));
    }
    let compression = Compression::of_media_type(&descriptor.media_type);
    // Nothing of the description goes into an image but what is verified.
    if *descriptor != Descriptor::new(compression.oci_layer(), descriptor.digest.clone(), descriptor.size) {
        return Err(wrong("is described as something else than a layer"));
    }
    let failed = |doing: &str, e: crossdock_oci::error::StoreError| FarmError::Io {
        doing: format!("{doing} of the farm"),
        source: std::io::Error::other(e),
    };
    if !store.contains(&descriptor.digest).map_err(|e| failed("look for a layer", e))? {
        env.events.event(Event::Waiting { step, wait: Wait::Download });
        let writer = store.blob_writer().map_err(|e| failed("store a layer", e))?;
        let mut writer = BufWriter::new(writer);
        client.read(&digest, compression == Compression::None, &mut writer)?;
        let io = |source| FarmError::Io { doing: "store a layer of the farm".to_string(), source };
        writer.flush().map_err(io)?;
        let writer = writer.into_inner().map_err(|e| io(e.into_error()))?;
        writer.commit(Some(&descriptor.digest)).map_err(|e| failed("store a layer", e))?;
    }
    // Compares the `diff_id`, and lets no entry lead outside. Layers of steps never need lower ones.
    store.unpack(descriptor, &layer.diff_id, &[]).map_err(|e| failed("unpack a layer", e))?;
    Ok(())
}

/// The record under a key; its layer is then here. `None` for a form that this version does not know.
pub fn of_key(
    env: &Environment<'_>,
    client: &Client,
    step: StepId,
    result: &ActionResult,
) -> Result<Option<Record>, FarmError> {
    let bytes = match &result.stdout_digest {
        Some(digest) if result.stdout.is_empty() => client.read_small(digest)?,
        _ => result.stdout.clone(),
    };
    let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { return Ok(None) };
    if record.created.parse::<jiff::Timestamp>().is_err() {
        return Ok(None);
    }
    if let Some(layer) = &record.layer {
        fetch(env, client, step, result, layer)?;
    }
    Ok(Some(record))
}

/// What is written under a key.
pub fn for_key(record: &Record) -> ActionResult {
    let layer = record.layer.as_ref().and_then(|layer| {
        let digest = Digest::new(layer.descriptor.digest.clone(), layer.descriptor.size)?;
        Some(OutputFile { path: LAYER.to_string(), digest, content: Vec::new() })
    });
    ActionResult {
        files: layer.into_iter().collect(),
        stdout: serde_json::to_vec(record).expect("a record has string keys only"),
        ..ActionResult::default()
    }
}
