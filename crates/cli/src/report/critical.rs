//! The critical path of a build: the chain of steps, each of which began when the one before it ended, up to
//! the end of the build. Only a shorter step of this chain makes the build shorter.

use std::collections::BTreeSet;

use super::record::{Record, StepRecord};
use crate::progress::state::{Phase, Span};

/// One piece of the path.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The step; `None` for work after the last step, such as a push.
    pub step: Option<usize>,
    pub what: String,
    /// Milliseconds that the piece adds to the build's duration.
    pub milliseconds: f64,
}

/// The pieces, the first one first. Their times add up to the duration of the build, less what was between
/// them.
pub fn path(record: &Record) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let pushed = record.transfers.iter().filter(|t| t.is_push() && t.outcome == "moved").filter_map(|t| t.to);
    let end_of_push = pushed.fold(0.0, f64::max);
    let end_of = |step: &StepRecord| step.to().max(step.packing.as_ref().and_then(|p| p.to).unwrap_or(0.0));
    let Some(last) = record.steps.iter().max_by(|a, b| end_of(a).total_cmp(&end_of(b))) else {
        return pieces;
    };
    let mut begin = end_of(last);
    if end_of_push > begin {
        let what = "push to the registry".to_string();
        pieces.push(Piece { step: None, what, milliseconds: end_of_push - begin });
    }
    if begin > last.to() {
        let what = format!("pack the layer of {}", last.name);
        begin = last.to().max(last.packing.as_ref().map_or(0.0, |packing| packing.from));
        pieces.push(Piece { step: Some(last.step), what, milliseconds: end_of(last) - begin });
    }
    let mut next = Some(last);
    let mut seen = BTreeSet::from([last.step]);
    while let Some(step) = next {
        let before = predecessor(record, step);
        let from = before.map_or(step.from(), |before| before.to().max(step.from()));
        let milliseconds = (step.to().min(begin) - from).max(0.0);
        pieces.push(Piece { step: Some(step.step), what: step.name.clone(), milliseconds });
        begin = from;
        // A record from a damaged file may have inputs in a circle.
        next = before.filter(|before| seen.insert(before.step));
    }
    pieces.reverse();
    pieces
}

/// The step whose end let this one go on: the input that ended last, or, if this step then waited for a free
/// place, the step that made the place free.
fn predecessor<'r>(record: &'r Record, step: &StepRecord) -> Option<&'r StepRecord> {
    let latest = |a: &&StepRecord, b: &&StepRecord| a.to().total_cmp(&b.to());
    let wait = step.spans.iter().rev().find(|span| is_wait_for_place(span));
    if let Some(until) = wait.and_then(|span| span.to) {
        let has_run = |other: &&StepRecord| other.running() > 0.0 && other.step != step.step;
        let freed = record.steps.iter().filter(has_run).filter(|other| other.to() <= until + 1.0);
        if let Some(freed) = freed.max_by(latest).filter(|freed| freed.to() > step.from()) {
            return Some(freed);
        }
    }
    step.inputs.iter().filter_map(|input| record.step(*input)).max_by(latest)
}

fn is_wait_for_place(span: &Span) -> bool {
    matches!(&span.phase, Phase::Waiting(what) if *what == crossdock_builder::Wait::Place.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, step};
    use super::*;

    fn told(record: &Record) -> Vec<(Option<usize>, f64)> {
        path(record).into_iter().map(|piece| (piece.step, piece.milliseconds)).collect()
    }

    #[test]
    fn the_path_follows_the_input_that_ended_last() {
        // RUN 1, COPY 3, its packing, the push; neither RUN 2 nor RUN 4 made the build longer.
        assert_eq!(told(&record()), [(Some(1), 70.0), (Some(3), 10.0), (Some(3), 20.0), (None, 8.0)]);
        let nothing = Record { steps: Vec::new(), ..record() };
        assert_eq!(told(&nothing), []);
    }

    #[test]
    fn a_wait_for_a_place_leads_to_the_step_that_had_it() {
        let mut waiting = step(2, "RUN b", &[], [50.0, 90.0]);
        let phase = Phase::Waiting(crossdock_builder::Wait::Place.to_string());
        waiting.spans.insert(0, Span { phase, from: 0.0, to: Some(50.0) });
        let steps = vec![step(1, "RUN a", &[], [0.0, 50.0]), waiting];
        let record = Record { steps, transfers: Vec::new(), ..record() };
        assert_eq!(told(&record), [(Some(1), 50.0), (Some(2), 40.0)]);
    }

    #[test]
    fn inputs_in_a_circle_end() {
        let steps = vec![step(1, "a", &[2], [0.0, 10.0]), step(2, "b", &[1], [0.0, 10.0])];
        let record = Record { steps, transfers: Vec::new(), ..record() };
        assert_eq!(told(&record).len(), 2);
    }
}
