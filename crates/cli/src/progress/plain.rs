//! Progress as lines of text, each with the number of its step, as BuildKit's plain progress.

use std::time::Duration;

use crossdock_builder::Event;

use super::state::{State, milliseconds};
use super::text::clean;

/// The line for an event, if it has one. `state` has taken the event over.
pub fn line(state: &State, event: &Event, at: Duration) -> Option<String> {
    match event {
        Event::Started { step, info } => Some(format!("#{step} {}", info.name)),
        Event::Output { is_transient: true, .. } => None,
        Event::Output { step, line, .. } => {
            let from = state.steps.get(step).map_or(0.0, |step| step.from());
            Some(format!("#{step} {:.3} {line}", (milliseconds(at) - from) / 1e3))
        }
        Event::Placed { step, worker } => {
            let worker = if worker.is_empty() { "the farm".to_string() } else { clean(worker) };
            Some(format!("#{step} on {worker}"))
        }
        Event::Done { step, cached: true, .. } => Some(format!("#{step} CACHED")),
        Event::Done { step, duration, .. } => Some(format!("#{step} DONE {:.1}s", duration.as_secs_f64())),
        Event::Cancelled { step } => Some(format!("#{step} CANCELED")),
        Event::Failed { step } => Some(format!("#{step} ERROR")),
        Event::Warning { .. } => state.warnings.last().map(|warning| format!("warning: {}", clean(warning))),
        _ => None,
    }
}
