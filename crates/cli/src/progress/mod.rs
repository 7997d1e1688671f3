//! Shows the progress of builds and transfers: as live lines, plain text, JSON, or not at all. All forms are
//! made from one [`State`].

mod json;
mod plain;
pub mod state;
mod terminal;
mod text;

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use crossdock_builder::{Event, Events, StepId};
use crossdock_oci::size::size;
use crossdock_registry::{Outcome, Progress};

use self::state::State;
use self::terminal::Terminal;
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

/// Time between two frames on a terminal.
const FRAME_TIME: Duration = Duration::from_millis(80);

/// Longer waits for a registry are reported each time.
const LONG_WAIT: Duration = Duration::from_secs(15);

/// Shows progress on standard error. Cheap to clone.
#[derive(Clone)]
pub struct Display(Arc<Mutex<Inner>>);

struct Inner {
    mode: Mode,
    started: Instant,
    state: State,
    /// Texts that are replaced by `***`.
    secrets: Vec<String>,
    /// Whether a thread draws frames.
    is_drawn: bool,
    /// Itself, for that thread.
    own: Weak<Mutex<Inner>>,
}

enum Mode {
    Tty(Terminal),
    Plain,
    Json,
    Raw(RawSteps),
    Quiet,
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
            // Live lines in a file would be rubbish.
            ProgressMode::Tty if is_terminal() => Mode::Tty(Terminal::new()),
            ProgressMode::Json => Mode::Json,
            ProgressMode::Rawjson => Mode::Raw(RawSteps::default()),
            ProgressMode::Quiet => Mode::Quiet,
            _ => Mode::Plain,
        };
        let inner = |own: &Weak<Mutex<Inner>>| {
            Mutex::new(Inner {
                mode,
                started: Instant::now(),
                state: State::default(),
                secrets: Vec::new(),
                is_drawn: false,
                own: own.clone(),
            })
        };
        Display(Arc::new_cyclic(inner))
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
        if let Mode::Tty(terminal) = &mut self.lock().mode {
            terminal.clear();
        }
    }

    /// Removes the live lines and sums up how a build ended.
    pub fn close(&self, is_success: bool) {
        let mut inner = self.lock();
        // A build that found an error in the Dockerfile has done nothing.
        let text = match inner.state.steps.is_empty() {
            true => None,
            false => Some(inner.summary(is_success)),
        };
        match &mut inner.mode {
            Mode::Tty(terminal) => {
                if let Some(text) = text {
                    terminal.close(&text, is_success);
                }
                terminal.clear();
            }
            Mode::Plain => text.into_iter().for_each(|text| inner.print(&text)),
            Mode::Json | Mode::Raw(_) | Mode::Quiet => {}
        }
    }

    /// Reports that a signal ends the build: the running steps are cancelled.
    pub fn cancelled(&self, signal: &str) {
        let mut inner = self.lock();
        let open: Vec<StepId> = inner.state.open_steps().map(|(step, _)| *step).collect();
        open.into_iter().for_each(|step| inner.event(Event::Cancelled { step }));
        if let Mode::Tty(terminal) = &mut inner.mode {
            terminal.clear();
        }
        say(&format!("error: the build was cancelled by {signal}"));
    }

    /// Gives what was reported so far, and the time since the start.
    pub fn with_state<T>(&self, read: impl FnOnce(&State, Duration) -> T) -> T {
        let inner = self.lock();
        read(&inner.state, inner.started.elapsed())
    }

    /// A text without the secrets of this command.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_string();
        self.lock().redact(&mut text);
        text
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn print(&mut self, line: &str) {
        let at = self.started.elapsed();
        match &mut self.mode {
            Mode::Tty(terminal) => {
                terminal.print(line);
                terminal.draw(&self.state, at);
            }
            // A closed standard error is no reason to stop.
            Mode::Plain => drop(writeln!(std::io::stderr(), "{line}")),
            Mode::Json | Mode::Raw(_) => say(line),
            Mode::Quiet => {}
        }
    }

    fn redact(&self, text: &mut String) {
        for secret in self.secrets.iter().filter(|secret| !secret.is_empty()) {
            if text.contains(secret.as_str()) {
                *text = text.replace(secret.as_str(), "***");
            }
        }
    }

    /// Removes secrets from all texts of an event that users or commands wrote.
    fn redact_event(&self, event: &mut Event) {
        match event {
            Event::Started { info, .. } => {
                self.redact(&mut info.name);
                self.redact(&mut info.command);
            }
            Event::Output { line, .. } => self.redact(line),
            Event::Warning { message, .. } => self.redact(message),
            Event::Missed { miss: crossdock_builder::Miss::Changed(names), .. } => {
                names.iter_mut().for_each(|name| self.redact(name));
            }
            _ => {}
        }
    }

    fn event(&mut self, mut event: Event) {
        self.redact_event(&mut event);
        let at = self.started.elapsed();
        self.state.event(&event, at);
        match &mut self.mode {
            Mode::Json => {
                if let Some(object) = json::object(&event, at) {
                    let _ = writeln!(std::io::stderr(), "{object}");
                }
            }
            Mode::Raw(steps) => {
                if let Some(line) = steps.line(&event) {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
            Mode::Plain => {
                if let Some(line) = plain::line(&self.state, &event, at) {
                    self.print(&line);
                }
            }
            Mode::Tty(terminal) => {
                match &event {
                    Event::Done { step, .. } | Event::Cancelled { step } | Event::Failed { step } => {
                        self.state.steps.get(step).into_iter().for_each(|step| terminal.end_of_step(step));
                    }
                    Event::Warning { .. } => {
                        let warning = self.state.warnings.last().map(|text| text::clean(text));
                        terminal.print(&format!("warning: {}", warning.unwrap_or_default()));
                    }
                    _ => {}
                }
                self.keep_drawing();
            }
            Mode::Quiet => {}
        }
    }

    /// Has frames drawn as long as something is under way.
    fn keep_drawing(&mut self) {
        if self.is_drawn {
            return;
        }
        let own = self.own.clone();
        // Without the thread, lines appear as soon as something else is printed.
        self.is_drawn = std::thread::Builder::new().spawn(move || draw_frames(&own)).is_ok();
    }

    /// One line on how a build ended.
    fn summary(&self, is_success: bool) -> String {
        let counts = self.state.counts();
        let seconds = self.started.elapsed().as_secs_f64();
        let mut parts = vec![format!("{} executed", counts.executed), format!("{} cached", counts.cached)];
        let packed: Vec<u64> = self
            .state
            .steps
            .values()
            .filter_map(|s| s.packed.as_ref())
            .map(|(layer, _)| layer.size)
            .collect();
        if !packed.is_empty() {
            let layers = if packed.len() == 1 { "layer" } else { "layers" };
            parts.push(format!("{} {layers} of {} packed", packed.len(), size(packed.iter().sum())));
        }
        let moved = |direction: crossdock_registry::Direction| {
            let moved = self.state.transfers.values().filter(move |transfer| {
                transfer.outcome == Some(Outcome::Moved) && transfer.label.starts_with(direction.name())
            });
            moved.map(|transfer| transfer.total).sum::<u64>()
        };
        for (direction, what) in
            [(crossdock_registry::Direction::Pull, "pulled"), (crossdock_registry::Direction::Push, "pushed")]
        {
            if moved(direction) > 0 {
                parts.push(format!("{} {what}", size(moved(direction))));
            }
        }
        let how = if is_success { "done in" } else { "failed after" };
        format!("{how} {seconds:.1}s: {} steps, {}", counts.ended, parts.join(", "))
    }
}

/// Draws frames until nothing is under way or the display is gone.
fn draw_frames(inner: &Weak<Mutex<Inner>>) {
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        let at = inner.started.elapsed();
        let Inner { mode: Mode::Tty(terminal), state, is_drawn, .. } = &mut *inner else { return };
        terminal.draw(state, at);
        let is_busy = state.open_steps().next().is_some()
            || state.open_transfers().next().is_some()
            || state.packing().next().is_some();
        if !is_busy {
            *is_drawn = false;
            return;
        }
        drop(inner);
        std::thread::sleep(FRAME_TIME);
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
        let at = inner.started.elapsed();
        inner.state.begin_transfer(id, label, total, at);
        if let Mode::Raw(steps) = &mut inner.mode {
            let line = steps.transfer(id, label, 0, total, false);
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        if let Mode::Tty(_) = inner.mode {
            inner.keep_drawing();
        }
    }

    fn advance(&self, id: &str, position: u64) {
        if let Some(transfer) = self.lock().state.transfer(id) {
            transfer.position = position;
        }
    }

    fn done(&self, id: &str, outcome: Outcome) {
        let mut inner = self.lock();
        let at = inner.started.elapsed();
        let Inner { mode, state, .. } = &mut *inner;
        let Some(transfer) = state.transfer(id) else { return };
        transfer.to = Some(at);
        transfer.outcome = Some(outcome);
        let seconds = at.saturating_sub(transfer.from).as_secs_f64();
        let how = match outcome {
            Outcome::Moved => format!("{} in {seconds:.1}s", size(transfer.total)),
            Outcome::Existed => "already there".to_string(),
            Outcome::Mounted => "mounted from another repository".to_string(),
            Outcome::Failed => {
                format!("failed after {} of {}", size(transfer.position), size(transfer.total))
            }
        };
        let text = format!("{} {} {how}", transfer.label, short(id));
        match mode {
            Mode::Json => {
                let object = json::transfer(transfer, outcome, at);
                let _ = writeln!(std::io::stderr(), "{object}");
            }
            Mode::Raw(steps) => {
                let line = steps.transfer(id, &transfer.label, transfer.position, transfer.total, true);
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            Mode::Tty(terminal) => terminal.end_of_transfer(&text),
            Mode::Plain => inner.print(&format!(" => {text}")),
            Mode::Quiet => {}
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
