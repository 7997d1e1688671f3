//! What is recorded of a build: its steps with their times, its transfers and images. No environment, no
//! build argument and no output of commands is part of it, and secrets were removed from all texts before.

use crossdock_builder::Built;
use crossdock_oci::name::random_name;
use crossdock_oci::{Digest, Store};
use crossdock_registry::Outcome;
use serde::{Deserialize, Serialize};

use crate::progress::state::{End, Phase, Span, State, Step, milliseconds};

/// Steps beyond this number are counted and not recorded: ONBUILD triggers can make 100,000.
pub const STEPS_MAX: usize = 2_000;

/// One build. Times of parts are milliseconds since its begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Sixteen hexadecimal digits.
    pub id: String,
    /// RFC 3339.
    pub began: String,
    pub milliseconds: f64,
    /// The tags, or the name of the Dockerfile if there are none.
    pub title: String,
    /// The error of a build that failed.
    pub error: Option<String>,
    pub platforms: Vec<String>,
    pub steps: Vec<StepRecord>,
    /// How many more steps there were.
    pub steps_left_out: usize,
    pub transfers: Vec<TransferRecord>,
    pub images: Vec<ImageRecord>,
    pub warnings: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    pub step: usize,
    pub name: String,
    pub command: String,
    pub stage: String,
    pub platform: String,
    /// The platform of the image that the step is for.
    pub target: String,
    pub emulated: bool,
    /// Line in the Dockerfile; 0 if unknown.
    pub line: usize,
    pub digest: Option<Digest>,
    pub inputs: Vec<usize>,
    /// Why the step was executed.
    pub miss: Option<String>,
    /// The machine of a farm that executed it; empty if its name is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    pub spans: Vec<Span>,
    pub packing: Option<Span>,
    /// `None` for a step that had not ended.
    pub end: Option<End>,
    /// The layer: its digest, compressed size and unpacked size in bytes.
    pub layer: Option<(Digest, u64, u64)>,
}

/// Content that moved from or to a registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferRecord {
    pub digest: String,
    /// `push linux/arm64 layer 2/3`.
    pub label: String,
    /// Bytes.
    pub size: u64,
    pub from: f64,
    pub to: Option<f64>,
    /// `moved`, `existed`, `mounted` or `failed`.
    pub outcome: String,
}

/// An image that was built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageRecord {
    pub platform: String,
    pub digest: Digest,
    pub layers: Vec<LayerRecord>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    pub digest: Digest,
    /// Compressed, in bytes.
    pub size: u64,
    /// The instruction that made it.
    pub made_by: String,
}

impl Record {
    /// The record of a build that took `elapsed` until now. `redact` removes secrets.
    pub fn new(
        (state, elapsed): (&State, std::time::Duration),
        title: String,
        platforms: Vec<String>,
        result: Result<Vec<ImageRecord>, String>,
    ) -> Record {
        let began = jiff::Timestamp::now() - jiff::SignedDuration::try_from(elapsed).unwrap_or_default();
        let steps = state.steps.iter().take(STEPS_MAX).map(|(number, step)| StepRecord::new(*number, step));
        let (images, error) = match result {
            Ok(images) => (images, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Record {
            id: random_name(),
            began: format!("{began:.3}"),
            milliseconds: milliseconds(elapsed),
            title,
            error,
            platforms,
            steps: steps.collect(),
            steps_left_out: state.steps.len().saturating_sub(STEPS_MAX),
            transfers: state.transfers.values().take(STEPS_MAX).map(TransferRecord::new).collect(),
            images,
            warnings: state.warnings.iter().take(STEPS_MAX).cloned().collect(),
        }
    }

    /// How the build ended, in a word.
    pub fn outcome(&self) -> &'static str {
        match self.error {
            None => "done",
            Some(_) if self.steps.iter().any(|step| step.end == Some(End::Failed)) => "failed",
            Some(_) if self.steps.iter().any(|step| step.end == Some(End::Cancelled)) => "cancelled",
            Some(_) => "failed",
        }
    }

    /// How many steps ended so.
    pub fn count(&self, end: End) -> usize {
        self.steps.iter().filter(|step| step.end == Some(end)).count()
    }

    /// Milliseconds in which emulated steps ran, summed over the steps.
    pub fn emulated(&self) -> f64 {
        self.steps.iter().filter(|step| step.emulated).map(StepRecord::running).sum()
    }

    pub fn step(&self, number: usize) -> Option<&StepRecord> {
        let at = self.steps.binary_search_by_key(&number, |step| step.step).ok()?;
        self.steps.get(at)
    }
}

impl StepRecord {
    fn new(number: usize, step: &Step) -> StepRecord {
        let layer = step.packed.as_ref().map(|(layer, size)| (layer.digest.clone(), layer.size, *size));
        StepRecord {
            step: number,
            name: step.info.name.clone(),
            command: step.info.command.clone(),
            stage: step.info.stage.clone(),
            platform: step.info.platform.to_string(),
            target: step.info.target.to_string(),
            emulated: step.info.is_emulated,
            line: step.info.lines.start,
            digest: step.digest.clone(),
            inputs: step.inputs.clone(),
            miss: step.miss.clone(),
            worker: step.worker.clone(),
            spans: step.spans.clone(),
            packing: step.packing.clone(),
            end: step.end,
            layer,
        }
    }

    pub fn from(&self) -> f64 {
        self.spans.first().map_or(0.0, |span| span.from)
    }

    /// When the step ended; its begin if that is not known.
    pub fn to(&self) -> f64 {
        self.spans.last().and_then(|span| span.to).unwrap_or(self.from())
    }

    /// Milliseconds in which the step's command ran or its files were copied.
    pub fn running(&self) -> f64 {
        self.sum(|phase| *phase == Phase::Running)
    }

    /// Milliseconds in which the step waited.
    pub fn waiting(&self) -> f64 {
        self.sum(|phase| matches!(phase, Phase::Waiting(_)))
    }

    fn sum(&self, wanted: impl Fn(&Phase) -> bool) -> f64 {
        self.spans.iter().filter(|span| wanted(&span.phase)).map(Span::milliseconds).sum()
    }
}

impl TransferRecord {
    fn new(transfer: &crate::progress::state::Transfer) -> TransferRecord {
        let outcome = match transfer.outcome {
            Some(Outcome::Moved) => "moved",
            Some(Outcome::Existed) => "existed",
            Some(Outcome::Mounted) => "mounted",
            Some(Outcome::Failed) | None => "failed",
        };
        TransferRecord {
            digest: transfer.id.clone(),
            label: transfer.label.clone(),
            size: transfer.total,
            from: milliseconds(transfer.from),
            to: transfer.to.map(milliseconds),
            outcome: outcome.to_string(),
        }
    }

    /// The platform in the label, if there is one.
    pub fn platform(&self) -> Option<&str> {
        self.label.split(' ').nth(1).filter(|word| word.contains('/'))
    }

    pub fn is_push(&self) -> bool {
        self.label.starts_with(crossdock_registry::Direction::Push.name())
    }
}

/// The images of a build with their layers. An image that cannot be read is left out.
pub fn images(store: &Store, built: &Built, redact: &dyn Fn(&str) -> String) -> Vec<ImageRecord> {
    let image = |image: &crossdock_builder::BuiltImage| {
        let loaded = store.load_image(&image.manifest).ok()?;
        let made = loaded.config.history.iter().filter(|entry| entry.empty_layer != Some(true));
        let mut made =
            made.map(|entry| redact(&without_arguments(entry.created_by.as_deref().unwrap_or_default())));
        let layer = |layer: &crossdock_oci::Descriptor| LayerRecord {
            digest: layer.digest.clone(),
            size: layer.size,
            made_by: made.next().unwrap_or_default(),
        };
        Some(ImageRecord {
            platform: image.platform.to_string(),
            digest: image.manifest.digest.clone(),
            layers: loaded.manifest.layers.iter().map(layer).collect(),
        })
    };
    built.images.iter().filter_map(image).collect()
}

/// A line of history without the values of build arguments, which docker's form
/// `RUN |2 A=1 B=2 /bin/sh -c ...` lists and which may be confidential.
fn without_arguments(made_by: &str) -> String {
    if !made_by.starts_with("RUN |") {
        return made_by.to_string();
    }
    match made_by.split_once(" /bin/sh -c ") {
        Some((_, command)) => format!("RUN {command}"),
        None => "RUN (a command with build arguments)".to_string(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn span(phase: Phase, from: f64, to: f64) -> Span {
        Span { phase, from, to: Some(to) }
    }

    /// A step of the stage `0` for linux/arm64 that ran from one time to another.
    pub fn step(number: usize, command: &str, inputs: &[usize], times: [f64; 2]) -> StepRecord {
        StepRecord {
            step: number,
            name: format!("[{number}/9] {command}"),
            command: command.to_string(),
            stage: "0".to_string(),
            platform: "linux/arm64".to_string(),
            target: "linux/arm64".to_string(),
            emulated: command.starts_with("RUN"),
            line: number,
            digest: Some(Digest::of(command.as_bytes())),
            inputs: inputs.to_vec(),
            miss: Some("changed: the command".to_string()),
            worker: None,
            spans: vec![span(Phase::Running, times[0], times[1])],
            packing: None,
            end: Some(End::Executed),
            layer: None,
        }
    }

    /// A build of two stages for linux/arm64: COPY (3) needs both RUN 1 (0 to 70) and RUN 2 (0 to 40), and
    /// its layer is packed until 100, while RUN 4 ends at 90.
    pub fn record() -> Record {
        let mut copy = step(3, "COPY --from=a / /", &[2, 1], [70.0, 80.0]);
        copy.spans.insert(0, span(Phase::Waiting("waits for stage a".into()), 40.0, 70.0));
        copy.packing = Some(span(Phase::Packing, 80.0, 100.0));
        copy.layer = Some((Digest::of(b"layer"), 1_000, 3_000));
        let mut first = step(1, "RUN make <all> && \"x\"", &[], [0.0, 70.0]);
        first.stage = "a".to_string();
        Record {
            id: "0123456789abcdef".to_string(),
            began: "2026-01-02T03:04:05.678Z".to_string(),
            milliseconds: 110.0,
            title: "app:1".to_string(),
            error: None,
            platforms: vec!["linux/arm64".to_string()],
            steps: vec![
                first,
                step(2, "RUN b", &[], [0.0, 40.0]),
                copy,
                step(4, "RUN c", &[3], [80.0, 90.0]),
            ],
            steps_left_out: 0,
            transfers: vec![TransferRecord {
                digest: Digest::of(b"layer").to_string(),
                label: "push linux/arm64 layer 1/1".to_string(),
                size: 1_000,
                from: 100.0,
                to: Some(108.0),
                outcome: "moved".to_string(),
            }],
            images: vec![ImageRecord {
                platform: "linux/arm64".to_string(),
                digest: Digest::of(b"manifest"),
                layers: vec![LayerRecord {
                    digest: Digest::of(b"layer"),
                    size: 1_000,
                    made_by: "COPY --from=a / /".into(),
                }],
            }],
            warnings: vec!["</script><b>bold</b>".to_string()],
        }
    }

    #[test]
    fn values_of_arguments_are_left_out() {
        for (made_by, shown) in [
            ("RUN /bin/sh -c make", "RUN /bin/sh -c make"),
            ("RUN |2 A=1 2 B=x /bin/sh -c make /bin/sh -c x", "RUN make /bin/sh -c x"),
            ("RUN |1 TOKEN=abc bash -c make", "RUN (a command with build arguments)"),
            ("COPY a b", "COPY a b"),
        ] {
            assert_eq!(without_arguments(made_by), shown);
        }
    }

    #[test]
    fn a_record_survives_json() {
        let record = record();
        let json = serde_json::to_string(&record).expect("serialises");
        assert_eq!(serde_json::from_str::<Record>(&json).expect("reads"), record);
        assert_eq!((record.outcome(), record.count(End::Executed), record.emulated()), ("done", 4, 120.0));
        assert_eq!(record.step(3).expect("it is there").waiting(), 30.0);
        assert_eq!(record.transfers[0].platform(), Some("linux/arm64"));
    }
}
