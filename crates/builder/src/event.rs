//! What a build reports while it runs.

use std::time::Duration;

use crossdock_dockerfile::Lines;
use crossdock_platform::Platform;

/// Number of a step within one build, counted from 1 in the order in which steps are met.
pub type StepId = usize;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A step is about to be looked up or executed.
    Started {
        /// Number of the step.
        step: StepId,
        /// As BuildKit shows it: `[linux/arm64 build 2/5] RUN make`.
        name: String,
        /// Platform that the step is for.
        platform: Platform,
    },
    /// The step executes now: its result was not known.
    Executing {
        /// Number of the step.
        step: StepId,
    },
    /// A line that the step's command wrote, without line end.
    Output {
        /// Number of the step.
        step: StepId,
        /// Whether the line went to standard error.
        stderr: bool,
        /// The line; bytes that are not UTF-8 are replaced.
        line: String,
    },
    /// The step is complete.
    Done {
        /// Number of the step.
        step: StepId,
        /// Whether its result was known.
        cached: bool,
        /// Time since it started.
        duration: Duration,
    },
    /// The step was ended or not begun, because another one failed.
    Cancelled {
        /// Number of the step.
        step: StepId,
    },
    /// The step failed; the build's error says why.
    Failed {
        /// Number of the step.
        step: StepId,
    },
    /// Something that the user should know.
    Warning {
        /// Text of the warning.
        message: String,
        /// Where in the Dockerfile.
        lines: Option<Lines>,
    },
}

/// Takes events, from several threads at once.
pub trait Events: Sync {
    /// Takes one event. Must not block for long.
    fn event(&self, event: Event);
}

/// Takes events and forgets them.
pub struct Silent;

impl Events for Silent {
    fn event(&self, _: Event) {}
}
