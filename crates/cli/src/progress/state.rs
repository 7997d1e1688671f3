//! What a display knows: the steps and transfers of a build, and when each of their phases began and ended.
//! Every form of display, and the report of a build, is made from this.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crossdock_builder::{Event, StepId, StepInfo};
use crossdock_oci::{Descriptor, Digest};
use crossdock_registry::Outcome;
use serde::{Deserialize, Serialize};

/// How many lines of a step's output are kept while it runs: a failed step shows them again.
const LINES_KEPT: usize = 40;

/// Everything that was reported. Times count from the start of the command.
#[derive(Default)]
pub struct State {
    /// Steps that the build announces in all, as far as is known.
    pub planned: usize,
    pub steps: BTreeMap<StepId, Step>,
    /// Transfers by their numbers, in the order in which they began.
    pub transfers: BTreeMap<usize, Transfer>,
    /// Warnings in the order in which they came.
    pub warnings: Vec<String>,
}

/// A step of a build.
pub struct Step {
    pub info: StepInfo,
    pub digest: Option<Digest>,
    pub inputs: Vec<StepId>,
    /// Why the step had to be executed.
    pub miss: Option<String>,
    /// The machine of a farm that executes it; empty if its name is not known.
    pub worker: Option<String>,
    /// Ended phases, and the one under way, which has no end.
    pub spans: Vec<Span>,
    pub packing: Option<Span>,
    /// The compressed layer and the length of its archive in bytes.
    pub packed: Option<(Descriptor, u64)>,
    pub end: Option<End>,
    /// The last lines of output, and whether the command writes over the newest.
    pub last: VecDeque<String>,
    is_transient: bool,
}

/// What a step does for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub phase: Phase,
    /// Time of the begin in milliseconds.
    pub from: f64,
    /// Time of the end in milliseconds; `None` while it lasts.
    pub to: Option<f64>,
}

impl Span {
    /// How long it lasted; 0 while it lasts.
    pub fn milliseconds(&self) -> f64 {
        self.to.map_or(0.0, |to| to - self.from)
    }
}

/// The kinds of phases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Dependencies are read and results are looked up; for FROM, the image is found or fetched.
    Looking,
    /// The step waits, for what the text says.
    Waiting(String),
    /// Layers of a base image are unpacked.
    Unpacking,
    /// The step's command runs, or its files are copied.
    Running,
    /// The layer is packed.
    Packing,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    Executed,
    Cached,
    Failed,
    Cancelled,
}

/// Content on its way from or to a registry.
pub struct Transfer {
    /// The digest of the content.
    pub id: String,
    /// Direction, platform and part: `push linux/arm64 layer 2/3`.
    pub label: String,
    /// Size in bytes.
    pub total: u64,
    pub position: u64,
    pub from: Duration,
    pub to: Option<Duration>,
    pub outcome: Option<Outcome>,
}

/// Numbers for a head line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub planned: usize,
    pub ended: usize,
    pub running: usize,
    pub waiting: usize,
    pub cached: usize,
    pub executed: usize,
}

/// Milliseconds, with microseconds behind the point.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

impl State {
    /// Takes over an event that came `at` this time.
    pub fn event(&mut self, event: &Event, at: Duration) {
        let at = milliseconds(at);
        match event {
            Event::Planned { steps } => self.planned += steps,
            Event::Started { step, info } => drop(self.steps.insert(*step, Step::new(info, at))),
            Event::Warning { message, lines } => {
                let place = lines.map(|l| format!(" (line {})", l.start)).unwrap_or_default();
                self.warnings.push(format!("{message}{place}"));
            }
            Event::Waiting { step, wait } => {
                self.step(*step, |s| s.begin(Phase::Waiting(wait.to_string()), at))
            }
            Event::Keyed { step, digest, inputs } => self.step(*step, |s| {
                s.digest = Some(digest.clone());
                s.inputs = inputs.clone();
                if matches!(s.phase(), Some(Phase::Waiting(_))) {
                    s.begin(Phase::Looking, at);
                }
            }),
            Event::Missed { step, miss } => self.step(*step, |s| s.miss = Some(miss.to_string())),
            Event::Executing { step } => self.step(*step, |s| s.begin(Phase::Running, at)),
            Event::Placed { step, worker } => self.step(*step, |s| s.worker = Some(worker.clone())),
            Event::Unpacking { step } => self.step(*step, |s| s.begin(Phase::Unpacking, at)),
            Event::Output { step, line, is_transient, .. } => {
                self.step(*step, |s| s.output(line, *is_transient))
            }
            Event::Packing { step } => self.step(*step, |s| {
                s.packing = Some(Span { phase: Phase::Packing, from: at, to: None });
            }),
            Event::Packed { step, layer, size, .. } => self.step(*step, |s| {
                if let Some(span) = &mut s.packing {
                    span.to = Some(at);
                }
                s.packed = Some(((**layer).clone(), *size));
            }),
            Event::Done { step, cached, .. } => {
                self.step(*step, |s| s.end(if *cached { End::Cached } else { End::Executed }, at));
            }
            Event::Cancelled { step } => self.step(*step, |s| s.end(End::Cancelled, at)),
            Event::Failed { step } => self.step(*step, |s| s.end(End::Failed, at)),
        }
    }

    fn step(&mut self, step: StepId, change: impl FnOnce(&mut Step)) {
        if let Some(step) = self.steps.get_mut(&step) {
            change(step);
        }
    }

    /// Notes that a transfer begins.
    pub fn begin_transfer(&mut self, id: &str, label: &str, total: u64, at: Duration) {
        let (id, label) = (id.to_string(), label.to_string());
        let transfer = Transfer { id, label, total, position: 0, from: at, to: None, outcome: None };
        self.transfers.insert(self.transfers.len(), transfer);
    }

    /// The transfer of this content that is under way.
    pub fn transfer(&mut self, id: &str) -> Option<&mut Transfer> {
        self.transfers.values_mut().rev().find(|transfer| transfer.id == id && transfer.to.is_none())
    }

    /// The steps that have begun and not ended.
    pub fn open_steps(&self) -> impl Iterator<Item = (&StepId, &Step)> {
        self.steps.iter().filter(|(_, step)| step.end.is_none())
    }

    /// The transfers under way.
    pub fn open_transfers(&self) -> impl Iterator<Item = &Transfer> {
        self.transfers.values().filter(|transfer| transfer.to.is_none())
    }

    /// Ended steps whose layers are still being packed.
    pub fn packing(&self) -> impl Iterator<Item = &Step> {
        let is_packing = |span: &Span| span.to.is_none();
        self.steps.values().filter(move |s| s.end.is_some() && s.packing.as_ref().is_some_and(is_packing))
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts { planned: self.planned.max(self.steps.len()), ..Counts::default() };
        for step in self.steps.values() {
            match step.end {
                None if matches!(step.phase(), Some(Phase::Waiting(_))) => counts.waiting += 1,
                None => counts.running += 1,
                Some(end) => {
                    counts.ended += 1;
                    counts.cached += usize::from(end == End::Cached);
                    counts.executed += usize::from(end == End::Executed);
                }
            }
        }
        counts
    }
}

impl Step {
    fn new(info: &StepInfo, at: f64) -> Step {
        Step {
            info: info.clone(),
            digest: None,
            inputs: Vec::new(),
            miss: None,
            worker: None,
            spans: vec![Span { phase: Phase::Looking, from: at, to: None }],
            packing: None,
            packed: None,
            end: None,
            last: VecDeque::new(),
            is_transient: false,
        }
    }

    /// What the step does now; `None` if it has ended.
    pub fn phase(&self) -> Option<&Phase> {
        self.spans.last().filter(|span| span.to.is_none()).map(|span| &span.phase)
    }

    /// When the step began, in milliseconds.
    pub fn from(&self) -> f64 {
        self.spans.first().map_or(0.0, |span| span.from)
    }

    /// When the current phase began, in milliseconds.
    pub fn phase_from(&self) -> f64 {
        self.spans.last().map_or(0.0, |span| span.from)
    }

    /// Whether the step's command has run.
    pub fn has_run(&self) -> bool {
        self.spans.iter().any(|span| span.phase == Phase::Running)
    }

    fn begin(&mut self, phase: Phase, at: f64) {
        self.close(at);
        self.spans.push(Span { phase, from: at, to: None });
    }

    fn close(&mut self, at: f64) {
        if let Some(span) = self.spans.last_mut() {
            span.to.get_or_insert(at);
        }
    }

    fn end(&mut self, end: End, at: f64) {
        self.close(at);
        self.end = Some(end);
        if end != End::Failed {
            self.last = VecDeque::new();
        }
    }

    fn output(&mut self, line: &str, is_transient: bool) {
        // A command may erase its last percentage with an empty line.
        if self.is_transient {
            self.last.pop_back();
        }
        self.is_transient = is_transient;
        if self.last.len() == LINES_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line.to_string());
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crossdock_builder::{Miss, Wait};
    use crossdock_platform::Platform;

    /// The event that begins a step for linux/arm64.
    pub fn started(step: StepId, name: &str) -> Event {
        let platform: Platform = "linux/arm64".parse().expect("a platform");
        let info = StepInfo {
            name: format!("[linux/arm64 {step}/9] {name}"),
            command: name.to_string(),
            stage: "0".into(),
            target: platform.clone(),
            is_emulated: name.starts_with("RUN"),
            platform,
            lines: Default::default(),
        };
        Event::Started { step, info: Box::new(info) }
    }

    /// A line of output.
    pub fn output(step: StepId, line: &str, is_transient: bool) -> Event {
        Event::Output { step, stderr: false, is_transient, line: line.into() }
    }

    #[test]
    fn phases_follow_each_other_without_gaps() {
        let mut state = State::default();
        let at = Duration::from_millis;
        state.event(&Event::Planned { steps: 3 }, at(0));
        state.event(&started(1, "RUN make"), at(10));
        state.event(&Event::Waiting { step: 1, wait: Wait::Stage("base".into()) }, at(20));
        assert_eq!((state.counts().waiting, state.counts().running), (1, 0));
        state.event(&Event::Keyed { step: 1, digest: Digest::of(b""), inputs: vec![7] }, at(30));
        state.event(&Event::Missed { step: 1, miss: Miss::New }, at(30));
        state.event(&Event::Executing { step: 1 }, at(40));
        state.event(&Event::Done { step: 1, cached: false, duration: at(60) }, at(70));
        let step = &state.steps[&1];
        let spans: Vec<(f64, Option<f64>)> = step.spans.iter().map(|s| (s.from, s.to)).collect();
        let joined = [(10.0, Some(20.0)), (20.0, Some(30.0)), (30.0, Some(40.0)), (40.0, Some(70.0))];
        assert_eq!(spans, joined);
        assert_eq!((step.inputs.as_slice(), step.end, step.phase()), (&[7][..], Some(End::Executed), None));
        let counts = state.counts();
        assert_eq!((counts.planned, counts.ended, counts.executed, counts.cached), (3, 1, 1, 0));
    }

    #[test]
    fn a_percentage_is_one_line() {
        let mut state = State::default();
        state.event(&started(1, "RUN x"), Duration::ZERO);
        for (line, is_transient) in [("a", false), ("1%", true), ("2%", true), ("100%", false), ("b", false)]
        {
            state.event(&output(1, line, is_transient), Duration::ZERO);
        }
        assert_eq!(state.steps[&1].last, ["a", "100%", "b"]);
        for n in 0..100 {
            state.event(&output(1, &n.to_string(), false), Duration::ZERO);
        }
        assert_eq!((state.steps[&1].last.len(), state.steps[&1].last[0].as_str()), (LINES_KEPT, "60"));
    }

    #[test]
    fn the_same_content_may_move_twice() {
        let mut state = State::default();
        for label in ["pull layer 1/1", "push layer 1/1"] {
            state.begin_transfer("sha256:a", label, 7, Duration::ZERO);
            let transfer = state.transfer("sha256:a").expect("it is under way");
            assert_eq!(transfer.label, label);
            transfer.to = Some(Duration::ZERO);
            assert!(state.transfer("sha256:a").is_none());
        }
        assert_eq!(state.transfers.len(), 2);
    }
}
