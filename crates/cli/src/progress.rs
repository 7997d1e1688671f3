//! Shows the progress of builds and transfers: as live lines, plain text, JSON, or not at all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use crossdock_builder::{Event, Events, StepId};
use crossdock_oci::size::size;
use crossdock_registry::{Outcome, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{is_terminal, say};
use crate::rawjson::RawSteps;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// tty on a terminal, plain elsewhere
    Auto,
    /// Live lines
    Tty,
    /// Every line of output, numbered by step
    Plain,
    /// One JSON object a line
    Json,
    /// One JSON object a line, as BuildKit has them
    Rawjson,
    /// Nothing
    #[value(alias = "none")]
    Quiet,
}

/// How many lines of a failed step's output are shown again, on a terminal.
const LINES_KEPT: usize = 40;

/// Longer waits for a registry are reported each time.
const LONG_WAIT: Duration = Duration::from_secs(15);

/// Shows progress on standard error. Cheap to clone.
#[derive(Clone)]
pub struct Display(Arc<Mutex<Inner>>);

struct Inner {
    mode: Mode,
    started: Instant,
    steps: BTreeMap<StepId, Step>,
    /// Steps that have begun and not ended.
    running: BTreeSet<StepId>,
    transfers: BTreeMap<String, Transfer>,
    /// Texts that are replaced by `***`.
    secrets: Vec<String>,
}

enum Mode {
    Tty(MultiProgress),
    Plain,
    Json,
    Raw(RawSteps),
    Quiet,
}

struct Step {
    name: String,
    started: Instant,
    bar: Option<ProgressBar>,
    last: VecDeque<String>,
    executing: bool,
}

struct Transfer {
    label: String,
    total: u64,
    position: u64,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Display {
    /// A display of the given kind; `Auto` depends on whether standard error is a terminal.
    pub fn new(mode: ProgressMode) -> Display {
        let mode = match mode {
            ProgressMode::Auto if is_terminal() => ProgressMode::Tty,
            ProgressMode::Auto => ProgressMode::Plain,
            other => other,
        };
        let mode = match mode {
            ProgressMode::Tty => {
                Mode::Tty(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12)))
            }
            ProgressMode::Json => Mode::Json,
            ProgressMode::Rawjson => Mode::Raw(RawSteps::default()),
            ProgressMode::Quiet => Mode::Quiet,
            _ => Mode::Plain,
        };
        Display(Arc::new(Mutex::new(Inner {
            mode,
            started: Instant::now(),
            steps: BTreeMap::new(),
            running: BTreeSet::new(),
            transfers: BTreeMap::new(),
            secrets: Vec::new(),
        })))
    }

    /// Replaces a text that must never be shown, such as the value of a build secret, by `***` in output.
    pub fn hide(&self, secret: &str) {
        // Very short values would hide half of every line and protect nothing.
        if secret.len() >= 4 {
            self.lock().secrets.push(secret.to_string());
        }
    }

    /// Prints a message above the live lines.
    pub fn say(&self, line: &str) {
        self.lock().print(line);
    }

    /// Removes the live lines.
    pub fn clear(&self) {
        if let Mode::Tty(bars) = &self.lock().mode {
            let _ = bars.clear();
        }
    }

    /// Reports that a signal ends the build: the running steps are cancelled.
    pub fn cancelled(&self, signal: &str) {
        let mut inner = self.lock();
        std::mem::take(&mut inner.running)
            .into_iter()
            .for_each(|step| inner.event(Event::Cancelled { step }));
        if let Mode::Tty(bars) = &inner.mode {
            let _ = bars.clear();
        }
        say(&format!("error: the build was cancelled by {signal}"));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn print(&self, line: &str) {
        match &self.mode {
            Mode::Tty(bars) => {
                let _ = bars.println(line);
            }
            // A closed standard error is no reason to stop.
            Mode::Plain => drop(writeln!(std::io::stderr(), "{line}")),
            Mode::Json | Mode::Raw(_) => say(line),
            Mode::Quiet => {}
        }
    }

    fn json(&self, value: serde_json::Value) {
        let _ = writeln!(std::io::stderr(), "{value}");
    }

    fn redact(&self, mut line: String) -> String {
        for secret in &self.secrets {
            if line.contains(secret.as_str()) {
                line = line.replace(secret.as_str(), "***");
            }
        }
        line
    }

    fn bar(&self, template: &str, length: Option<u64>) -> Option<ProgressBar> {
        let Mode::Tty(bars) = &self.mode else { return None };
        let bar = match length {
            Some(length) => ProgressBar::new(length),
            None => ProgressBar::new_spinner(),
        };
        let style = ProgressStyle::with_template(template).expect("a constant template");
        bar.set_style(style);
        let bar = bars.add(bar);
        bar.enable_steady_tick(Duration::from_millis(120));
        Some(bar)
    }

    fn event(&mut self, event: Event) {
        match &event {
            Event::Started { step, .. } => drop(self.running.insert(*step)),
            Event::Done { step, .. } | Event::Failed { step } | Event::Cancelled { step } => {
                self.running.remove(step);
            }
            _ => {}
        }
        if let Mode::Json = self.mode {
            return self.json_event(event);
        }
        if let Mode::Raw(_) = self.mode {
            return self.raw_event(event);
        }
        match event {
            Event::Started { step, name, .. } => {
                let name = self.redact(name);
                if matches!(self.mode, Mode::Plain) {
                    self.print(&format!("#{step} {name}"));
                }
                let bar = self.bar("{spinner} {elapsed} {wide_msg}", None);
                if let Some(bar) = &bar {
                    bar.set_message(name.clone());
                }
                let step_state =
                    Step { name, started: Instant::now(), bar, last: VecDeque::new(), executing: false };
                self.steps.insert(step, step_state);
            }
            Event::Executing { step } => {
                if let Some(step) = self.steps.get_mut(&step) {
                    step.executing = true;
                }
            }
            Event::Output { step, line, .. } => {
                let line = self.redact(line);
                if let Mode::Plain = self.mode {
                    let elapsed = self.steps.get(&step).map_or(Duration::ZERO, |s| s.started.elapsed());
                    self.print(&format!("#{step} {:.3} {line}", elapsed.as_secs_f64()));
                } else if let Some(step) = self.steps.get_mut(&step) {
                    if let Some(bar) = &step.bar {
                        bar.set_message(format!("{} │ {}", step.name, line.trim_end()));
                    }
                    if step.last.len() == LINES_KEPT {
                        step.last.pop_front();
                    }
                    step.last.push_back(line);
                }
            }
            Event::Done { step, cached, duration } => {
                let Some(state) = self.steps.remove(&step) else { return };
                if let Some(bar) = &state.bar {
                    bar.finish_and_clear();
                }
                let how = if cached {
                    "CACHED".to_string()
                } else {
                    format!("DONE {:.1}s", duration.as_secs_f64())
                };
                match &self.mode {
                    Mode::Plain => self.print(&format!("#{step} {how}")),
                    Mode::Tty(_) if cached => self.print(&format!(" => CACHED {}", state.name)),
                    Mode::Tty(_) => self.print(&format!(" => {} {:.1}s", state.name, duration.as_secs_f64())),
                    _ => {}
                }
            }
            Event::Cancelled { step } => {
                let Some(state) = self.steps.remove(&step) else { return };
                if let Some(bar) = &state.bar {
                    bar.finish_and_clear();
                }
                match &self.mode {
                    Mode::Plain => self.print(&format!("#{step} CANCELED")),
                    // A step that never ran is not shown.
                    Mode::Tty(_) if state.executing => self.print(&format!(" => CANCELED {}", state.name)),
                    _ => {}
                }
            }
            Event::Failed { step } => {
                let Some(state) = self.steps.remove(&step) else { return };
                if let Some(bar) = &state.bar {
                    bar.finish_and_clear();
                }
                match &self.mode {
                    Mode::Plain => self.print(&format!("#{step} ERROR")),
                    Mode::Tty(_) if state.executing => {
                        self.print(&format!(" => ERROR {}", state.name));
                        for line in &state.last {
                            self.print(&format!("    {line}"));
                        }
                    }
                    _ => {}
                }
            }
            Event::Warning { message, lines } => {
                let place = lines.map(|l| format!(" (line {})", l.start)).unwrap_or_default();
                let message = self.redact(message);
                self.print(&format!("warning: {message}{place}"));
            }
        }
    }

    fn raw_event(&mut self, event: Event) {
        let event = match event {
            Event::Started { step, name, platform } => {
                Event::Started { step, name: self.redact(name), platform }
            }
            Event::Output { step, stderr, line } => Event::Output { step, stderr, line: self.redact(line) },
            Event::Warning { message, lines } => Event::Warning { message: self.redact(message), lines },
            other => other,
        };
        let Mode::Raw(steps) = &mut self.mode else { return };
        if let Some(line) = steps.line(event) {
            self.json(line);
        }
    }

    /// Tells of a transfer in BuildKit's form.
    fn raw_transfer(&mut self, id: &str, is_done: bool) {
        let (Mode::Raw(steps), Some(transfer)) = (&mut self.mode, self.transfers.get(id)) else { return };
        let line = steps.transfer(id, &transfer.label, transfer.position, transfer.total, is_done);
        self.json(line);
    }

    fn json_event(&mut self, event: Event) {
        let time = self.started.elapsed().as_secs_f64();
        let value = match event {
            Event::Started { step, name, platform } => {
                serde_json::json!({"time": time, "event": "started", "step": step, "name": self.redact(name), "platform": platform.to_string()})
            }
            Event::Executing { step } => {
                serde_json::json!({"time": time, "event": "executing", "step": step})
            }
            Event::Output { step, stderr, line } => {
                let stream = if stderr { "stderr" } else { "stdout" };
                serde_json::json!({"time": time, "event": "output", "step": step, "stream": stream, "line": self.redact(line)})
            }
            Event::Done { step, cached, duration } => {
                serde_json::json!({"time": time, "event": "done", "step": step, "cached": cached, "seconds": duration.as_secs_f64()})
            }
            Event::Cancelled { step } => {
                serde_json::json!({"time": time, "event": "cancelled", "step": step})
            }
            Event::Failed { step } => serde_json::json!({"time": time, "event": "failed", "step": step}),
            Event::Warning { message, lines } => {
                let line = lines.map(|l| l.start);
                serde_json::json!({"time": time, "event": "warning", "message": self.redact(message), "line": line})
            }
        };
        self.json(value);
    }
}

impl Events for Display {
    fn event(&self, event: Event) {
        self.lock().event(event);
    }
}

impl Progress for Display {
    fn start(&self, id: &str, label: &str, total: u64) {
        let mut inner = self.lock();
        let bar = inner.bar("{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}", Some(total));
        if let Some(bar) = &bar {
            bar.set_message(label.to_string());
        }
        let transfer =
            Transfer { label: label.to_string(), total, position: 0, started: Instant::now(), bar };
        inner.transfers.insert(id.to_string(), transfer);
        inner.raw_transfer(id, false);
    }

    fn advance(&self, id: &str, position: u64) {
        if let Some(transfer) = self.lock().transfers.get_mut(id) {
            transfer.position = position;
            if let Some(bar) = &transfer.bar {
                bar.set_position(position);
            }
        }
    }

    fn done(&self, id: &str, outcome: Outcome) {
        let mut inner = self.lock();
        inner.raw_transfer(id, true);
        let Some(transfer) = inner.transfers.remove(id) else { return };
        if let Some(bar) = &transfer.bar {
            bar.finish_and_clear();
        }
        let seconds = transfer.started.elapsed().as_secs_f64();
        let how = match outcome {
            Outcome::Moved => format!("{} in {seconds:.1}s", size(transfer.total)),
            Outcome::Existed => "already there".to_string(),
            Outcome::Mounted => "mounted from another repository".to_string(),
            Outcome::Failed => {
                format!("failed after {} of {}", size(transfer.position), size(transfer.total))
            }
        };
        if let Mode::Raw(_) = inner.mode {
            return;
        }
        if let Mode::Json = inner.mode {
            let outcome = format!("{outcome:?}").to_lowercase();
            let time = inner.started.elapsed().as_secs_f64();
            let value = serde_json::json!({"time": time, "event": "transfer", "id": id, "label": transfer.label, "bytes": transfer.total, "seconds": seconds, "outcome": outcome});
            inner.json(value);
        } else {
            inner.print(&format!(" => {} {} {how}", transfer.label, short(id)));
        }
    }

    fn waiting(&self, reason: &str, delay: Duration, tried: u32) {
        // Reported once per piece of work, and again only if the registry asks for a long wait.
        if tried == 0 || delay > LONG_WAIT {
            let seconds = delay.as_secs_f64();
            self.lock().print(&format!("{reason}; trying again, first in {seconds:.1} s"));
        }
    }
}

/// The first digits of a digest.
fn short(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    &hex[..hex.len().min(12)]
}
