//! A build in the trace event format of Chrome, which Perfetto reads ("Trace Event Format", section "JSON
//! Object Format"): a process for each platform, a thread for each row of its lane, a slice for each phase.

use serde_json::{Value, json};

use super::lanes::lanes;
use super::record::{Record, StepRecord};
use crate::progress::state::{End, Phase, Span};

/// The trace as a JSON document.
pub fn trace(record: &Record) -> Value {
    let mut events = Vec::new();
    for (process, lane) in lanes(record).iter().enumerate() {
        let process = process + 1;
        events.push(json!({"ph": "M", "name": "process_name", "pid": process, "args": {"name": lane.name}}));
        let mut thread = 0;
        let mut name = |events: &mut Vec<Value>, name: String| {
            thread += 1;
            let args = json!({"name": name});
            events
                .push(json!({"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": args}));
            thread
        };
        for (stage, steps) in &lane.rows {
            let row = name(&mut events, format!("stage {stage}"));
            for step in steps {
                events.extend(step.spans.iter().map(|span| slice(step, span, (process, row), record)));
            }
            // Packing overlaps with later steps, and slices of one thread must be nested.
            for step in steps.iter().filter(|step| step.packing.is_some()) {
                let row = name(&mut events, format!("packing for stage {stage}"));
                events.extend(step.packing.iter().map(|span| slice(step, span, (process, row), record)));
            }
        }
        for transfers in &lane.transfers {
            let row = name(&mut events, "transfers".to_string());
            events.extend(transfers.iter().map(|transfer| {
                let args =
                    json!({"digest": transfer.digest, "bytes": transfer.size, "outcome": transfer.outcome});
                let to = transfer.to.unwrap_or(record.milliseconds);
                let (from, duration) = times(transfer.from, to);
                json!({
                    "ph": "X", "name": transfer.label, "cat": "transfer", "ts": from, "dur": duration,
                    "pid": process, "tid": row, "args": args,
                })
            }));
        }
    }
    json!({
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"title": record.title, "began": record.began, "outcome": record.outcome()},
    })
}

fn slice(step: &StepRecord, span: &Span, (process, thread): (usize, usize), record: &Record) -> Value {
    let (from, duration) = times(span.from, span.to.unwrap_or(record.milliseconds));
    let args = json!({
        "step": step.step, "name": step.name, "platform": step.platform, "digest": step.digest,
        "inputs": step.inputs, "why executed": step.miss, "worker": step.worker, "line": step.line,
    });
    let name = match &span.phase {
        Phase::Waiting(what) => what.clone(),
        Phase::Packing => format!("pack {}", step.command),
        _ => step.command.clone(),
    };
    json!({
        "ph": "X", "name": name, "cat": kind(step, &span.phase), "ts": from, "dur": duration, "pid": process,
        "tid": thread, "args": args,
    })
}

/// Begin and duration in microseconds.
fn times(from: f64, to: f64) -> (f64, f64) {
    (from * 1e3, (to - from).max(0.0) * 1e3)
}

/// The kind of a phase: also the class of its bar on the page.
pub fn kind(step: &StepRecord, phase: &Phase) -> &'static str {
    match phase {
        Phase::Waiting(_) => "waiting",
        Phase::Packing => "packing",
        Phase::Unpacking => "unpacking",
        Phase::Running if step.emulated => "emulated",
        Phase::Running => "native",
        Phase::Looking if step.end == Some(End::Cached) => "cached",
        Phase::Looking => "looking",
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn slices_are_complete_and_nested() {
        let trace = trace(&record());
        let events = trace["traceEvents"].as_array().expect("events");
        let slices: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
        // Five phases of steps, one packing, one transfer.
        assert_eq!(slices.len(), 7);
        let mut ends = std::collections::HashMap::new();
        for slice in slices {
            let thread = (slice["pid"].as_u64(), slice["tid"].as_u64());
            let (from, duration) = (slice["ts"].as_f64().expect("µs"), slice["dur"].as_f64().expect("µs"));
            let before = ends.insert(thread, from + duration).unwrap_or(0.0);
            assert!(from >= before, "{slice} begins before {before}");
        }
        assert_eq!(events[0]["args"]["name"], "linux/arm64");
        let kinds: Vec<&str> = events.iter().filter_map(|event| event["cat"].as_str()).collect();
        assert_eq!(kinds, ["emulated", "emulated", "waiting", "native", "emulated", "packing", "transfer"]);
    }
}
