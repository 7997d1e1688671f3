//! `--progress rawjson`: the lines that `docker buildx build --progress rawjson` writes, each a `SolveStatus`
//! of BuildKit's client as JSON (BuildKit, client/graph.go): `vertexes` are the steps, `statuses` transfers,
//! `logs` output, `warnings` warnings. A line tells only what is new.

use std::collections::BTreeMap;

use base64::Engine as _;
use crossdock_builder::{Event, StepId};
use crossdock_oci::Digest;
use serde_json::{Value, json};

/// What is known about steps that are not complete.
#[derive(Default)]
pub struct RawSteps {
    steps: BTreeMap<StepId, Step>,
    transfers: BTreeMap<String, String>,
}

struct Step {
    digest: Digest,
    name: String,
    started: String,
}

/// The vertex for what belongs to no step: transfers, messages, and the error that ends the build.
const WHOLE: &str = "[internal] build";

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn whole() -> Digest {
    Digest::of(WHOLE.as_bytes())
}

impl RawSteps {
    /// The line for an event, whose texts hold no secrets any more; `None` if there is nothing to tell.
    pub fn line(&mut self, event: Event) -> Option<Value> {
        let time = now();
        Some(match event {
            Event::Started { step, name, .. } => {
                let digest = Digest::of(format!("{step} {name}").as_bytes());
                let vertex = json!({"digest": digest, "name": name, "started": time});
                self.steps.insert(step, Step { digest, name, started: time });
                json!({ "vertexes": [vertex] })
            }
            Event::Executing { .. } => return None,
            Event::Output { step, stderr, line } => {
                let vertex = &self.steps.get(&step)?.digest;
                let stream = if stderr { 2 } else { 1 };
                let data = base64(&format!("{line}\n"));
                json!({"logs": [{"vertex": vertex, "stream": stream, "data": data, "timestamp": time}]})
            }
            Event::Done { step, cached, .. } => {
                let Step { digest, name, started } = self.steps.remove(&step)?;
                let mut vertex =
                    json!({"digest": digest, "name": name, "started": started, "completed": time});
                if cached {
                    vertex["cached"] = json!(true);
                }
                json!({ "vertexes": [vertex] })
            }
            Event::Cancelled { step } => self.failed(step, "context canceled", &time)?,
            Event::Failed { step } => self.failed(step, "the step failed", &time)?,
            Event::Warning { message, lines } => {
                let mut warning = json!({"vertex": whole(), "level": 1, "short": base64(&message)});
                if let Some(lines) = lines {
                    warning["range"] = json!([{"start": {"line": lines.start}, "end": {"line": lines.end}}]);
                }
                json!({ "warnings": [warning] })
            }
        })
    }

    fn failed(&mut self, step: StepId, error: &str, time: &str) -> Option<Value> {
        let Step { digest, name, started } = self.steps.remove(&step)?;
        let vertex =
            json!({"digest": digest, "name": name, "started": started, "completed": time, "error": error});
        Some(json!({ "vertexes": [vertex] }))
    }

    /// The line for a transfer that begins, goes on or ends, with its bytes.
    pub fn transfer(&mut self, id: &str, name: &str, current: u64, total: u64, is_done: bool) -> Value {
        let time = now();
        let started = self.transfers.entry(id.to_string()).or_insert_with(|| time.clone()).clone();
        let mut status = json!({
            "id": id, "vertex": whole(), "name": name, "total": total, "current": current,
            "timestamp": time, "started": started,
        });
        if is_done {
            self.transfers.remove(id);
            status["completed"] = json!(time);
        }
        json!({ "statuses": [status] })
    }
}

/// The line for a message: `error: TEXT`, `warning: TEXT`, or anything else.
pub fn message(text: &str) -> Value {
    let time = now();
    match text.split_once(": ") {
        Some(("error", error)) => json!({"vertexes": [{
            "digest": whole(), "name": WHOLE, "started": time, "completed": time, "error": error,
        }]}),
        Some(("warning", warning)) => {
            json!({"warnings": [{"vertex": whole(), "level": 1, "short": base64(warning)}]})
        }
        _ => json!({"logs": [{
            "vertex": whole(), "stream": 2, "data": base64(&format!("{text}\n")), "timestamp": time,
        }]}),
    }
}
