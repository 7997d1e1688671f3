//! Progress as one JSON object a line.

use std::time::Duration;

use crossdock_builder::Event;
use crossdock_registry::Outcome;
use serde_json::{Value, json};

use super::state::Transfer;

/// The object for an event, if it has one.
pub fn object(event: &Event, at: Duration) -> Option<Value> {
    let time = at.as_secs_f64();
    Some(match event {
        Event::Planned { steps } => json!({"time": time, "event": "planned", "steps": steps}),
        Event::Started { step, info } => json!({
            "time": time, "event": "started", "step": step, "name": info.name, "command": info.command,
            "stage": info.stage, "platform": info.platform.to_string(), "target": info.target.to_string(),
            "emulated": info.is_emulated, "line": info.lines.start,
        }),
        Event::Waiting { step, wait } => {
            json!({"time": time, "event": "waiting", "step": step, "reason": wait.to_string()})
        }
        Event::Keyed { step, digest, inputs } => {
            json!({"time": time, "event": "keyed", "step": step, "digest": digest, "inputs": inputs})
        }
        Event::Missed { step, miss } => {
            json!({"time": time, "event": "missed", "step": step, "reason": miss.to_string()})
        }
        Event::Executing { step } => json!({"time": time, "event": "executing", "step": step}),
        Event::Placed { step, worker } => {
            json!({"time": time, "event": "placed", "step": step, "worker": worker})
        }
        Event::Unpacking { step } => json!({"time": time, "event": "unpacking", "step": step}),
        Event::Output { is_transient: true, .. } => return None,
        Event::Output { step, stderr, line, .. } => {
            let stream = if *stderr { "stderr" } else { "stdout" };
            json!({"time": time, "event": "output", "step": step, "stream": stream, "line": line})
        }
        Event::Done { step, cached, duration } => json!({
            "time": time, "event": "done", "step": step, "cached": cached, "seconds": duration.as_secs_f64(),
        }),
        Event::Packing { step } => json!({"time": time, "event": "packing", "step": step}),
        Event::Packed { step, layer, diff_id, size } => json!({
            "time": time, "event": "packed", "step": step, "digest": layer.digest, "size": layer.size,
            "diff_id": diff_id, "unpacked_size": size,
        }),
        Event::Cancelled { step } => json!({"time": time, "event": "cancelled", "step": step}),
        Event::Failed { step } => json!({"time": time, "event": "failed", "step": step}),
        Event::Warning { message, lines } => {
            json!({"time": time, "event": "warning", "message": message, "line": lines.map(|l| l.start)})
        }
    })
}

/// The object for the end of a transfer.
pub fn transfer(transfer: &Transfer, outcome: Outcome, at: Duration) -> Value {
    let seconds = at.saturating_sub(transfer.from).as_secs_f64();
    json!({
        "time": at.as_secs_f64(), "event": "transfer", "id": transfer.id, "label": transfer.label,
        "bytes": transfer.total, "seconds": seconds, "outcome": format!("{outcome:?}").to_lowercase(),
    })
}
