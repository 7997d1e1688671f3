//! `--progress rawjson`: the lines that `docker buildx build --progress rawjson` writes, each a `SolveStatus`
//! of BuildKit's client as JSON (BuildKit, client/graph.go): `vertexes` are the steps, `statuses` transfers,
//! `logs` output, `warnings` warnings. A line tells only what is new.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use crossdock_builder::{Event, StepId};
use crossdock_oci::Digest;
use serde_json::{Value, json};

/// What is known about steps that are not complete.
#[derive(Default)]
pub struct RawSteps {
    steps: BTreeMap<StepId, Step>,
    /// The digests of all steps that began.
    digests: BTreeMap<StepId, Digest>,
    transfers: BTreeMap<String, String>,
}

struct Step {
    digest: Digest,
    name: String,
    started: String,
    /// The steps whose files it starts from or copies.
    inputs: Vec<Digest>,
}

impl Step {
    fn vertex(&self) -> Value {
        let mut vertex = json!({"digest": self.digest, "name": self.name, "started": self.started});
        if !self.inputs.is_empty() {
            vertex["inputs"] = json!(self.inputs);
        }
        vertex
    }
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

/// A line about the whole build. Its vertex comes along, since readers know only vertexes that were told.
fn of_whole(kind: &str, entry: Value) -> Value {
    json!({"vertexes": [vertex_of_whole()], kind: [entry]})
}

fn vertex_of_whole() -> Value {
    static STARTED: OnceLock<String> = OnceLock::new();
    let started = STARTED.get_or_init(now);
    json!({"digest": whole(), "name": WHOLE, "started": started, "completed": now()})
}

impl RawSteps {
    /// The line for an event, whose texts hold no secrets any more; `None` if there is nothing to tell.
    pub fn line(&mut self, event: &Event) -> Option<Value> {
        let time = now();
        Some(match event {
            Event::Started { step, info } => {
                let digest = Digest::of(format!("{step} {}", info.name).as_bytes());
                self.digests.insert(*step, digest.clone());
                let began = Step { digest, name: info.name.clone(), started: time, inputs: Vec::new() };
                let vertex = began.vertex();
                self.steps.insert(*step, began);
                json!({ "vertexes": [vertex] })
            }
            Event::Keyed { step, inputs, .. } => {
                let inputs = inputs.iter().filter_map(|step| self.digests.get(step)).cloned().collect();
                let known = self.steps.get_mut(step)?;
                known.inputs = inputs;
                json!({ "vertexes": [known.vertex()] })
            }
            Event::Output { is_transient: true, .. } => return None,
            Event::Output { step, stderr, line, .. } => {
                let vertex = &self.steps.get(step)?.digest;
                let stream = if *stderr { 2 } else { 1 };
                let data = base64(&format!("{line}\n"));
                json!({"logs": [{"vertex": vertex, "stream": stream, "data": data, "timestamp": time}]})
            }
            Event::Done { step, cached, .. } => {
                let mut vertex = self.steps.remove(step)?.vertex();
                vertex["completed"] = json!(time);
                if *cached {
                    vertex["cached"] = json!(true);
                }
                json!({ "vertexes": [vertex] })
            }
            Event::Cancelled { step } => self.failed(*step, "context canceled", &time)?,
            Event::Failed { step } => self.failed(*step, "the step failed", &time)?,
            Event::Warning { message, lines } => {
                let mut warning = json!({"vertex": whole(), "level": 1, "short": base64(message)});
                if let Some(lines) = lines {
                    warning["range"] = json!([{"start": {"line": lines.start}, "end": {"line": lines.end}}]);
                }
                of_whole("warnings", warning)
            }
            Event::Planned { .. }
            | Event::Waiting { .. }
            | Event::Missed { .. }
            | Event::Executing { .. }
            | Event::Placed { .. }
            | Event::Unpacking { .. }
            | Event::Packing { .. }
            | Event::Packed { .. } => return None,
        })
    }

    fn failed(&mut self, step: StepId, error: &str, time: &str) -> Option<Value> {
        let mut vertex = self.steps.remove(&step)?.vertex();
        vertex["completed"] = json!(time);
        vertex["error"] = json!(error);
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
        of_whole("statuses", status)
    }
}

/// The line for a message: `error: TEXT`, `warning: TEXT`, or anything else.
pub fn message(text: &str) -> Value {
    let time = now();
    match text.split_once(": ") {
        Some(("error", error)) => {
            let mut vertex = vertex_of_whole();
            vertex["error"] = json!(error);
            json!({ "vertexes": [vertex] })
        }
        Some(("warning", warning)) => {
            of_whole("warnings", json!({"vertex": whole(), "level": 1, "short": base64(warning)}))
        }
        _ => {
            let data = base64(&format!("{text}\n"));
            of_whole("logs", json!({"vertex": whole(), "stream": 2, "data": data, "timestamp": time}))
        }
    }
}
