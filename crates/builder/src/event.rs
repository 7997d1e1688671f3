//! What a build reports while it runs.
//!
//! The reports of one step come in this order: `Started`, `Waiting` (any number of times), `Keyed`, then for
//! a step whose result is not known `Missed`, `Waiting`, `Executing` and `Output`; at its end one of `Done`,
//! `Cancelled` and `Failed`. A farm's step may be `Waiting` and `Executing` several times, and is `Placed`
//! when it is known where it runs. `Packing` and `Packed` follow a step that has executed here and changed
//! files, at any time after `Executing`, since layers are packed in the background.

use std::fmt;
use std::time::Duration;

use crossdock_dockerfile::Lines;
use crossdock_oci::{Descriptor, Digest};
use crossdock_platform::Platform;

/// Number of a step within one build, counted from 1 in the order in which steps are met.
pub type StepId = usize;

/// What is known of a step when it begins.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// As BuildKit shows it: `[linux/arm64 build 2/5] RUN make`.
    pub name: String,
    /// The instruction alone: `RUN make`.
    pub command: String,
    /// The stage, by its name, or by its number counted from 0.
    pub stage: String,
    /// Platform of the step's files and programs.
    pub platform: Platform,
    /// Platform of the image that the step is for. It differs from `platform` in a stage
    /// `FROM --platform=$BUILDPLATFORM` for another CPU.
    pub target: Platform,
    /// Whether the step's programs need an emulator.
    pub is_emulated: bool,
    /// The instruction's lines in the Dockerfile.
    pub lines: Lines,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The build has so many more steps than were known before. The total is an upper bound, since a build
    /// that fails ends early.
    Planned {
        /// How many steps are added.
        steps: usize,
    },
    /// A step is about to be looked up or executed.
    Started {
        /// Number of the step.
        step: StepId,
        /// What it is.
        info: Box<StepInfo>,
    },
    /// The step waits for something other than its own command.
    Waiting {
        /// Number of the step.
        step: StepId,
        /// What it waits for.
        wait: Wait,
    },
    /// The step's dependencies are known.
    Keyed {
        /// Number of the step.
        step: StepId,
        /// Digest of everything that the step's result depends on. Steps with the same digest have the same
        /// result.
        digest: Digest,
        /// The steps whose files this step starts from or copies, each once.
        inputs: Vec<StepId>,
    },
    /// The step's result is not known, so it will be executed.
    Missed {
        /// Number of the step.
        step: StepId,
        /// Why not.
        miss: Miss,
    },
    /// The step executes now.
    Executing {
        /// Number of the step.
        step: StepId,
    },
    /// Another machine executes the step.
    Placed {
        /// Number of the step.
        step: StepId,
        /// The machine's name; empty if it is not known.
        worker: String,
    },
    /// The base image's manifest is there, and its layers are unpacked now.
    Unpacking {
        /// Number of the step.
        step: StepId,
    },
    /// A line that the step's command wrote, without line end.
    Output {
        /// Number of the step.
        step: StepId,
        /// Whether the line went to standard error.
        stderr: bool,
        /// Whether the command is about to write over the line, as it does to show a percentage: the line
        /// ended with a carriage return. It is of interest on a terminal only.
        is_transient: bool,
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
    /// The step's files are being packed into a layer.
    Packing {
        /// Number of the step.
        step: StepId,
    },
    /// The step's layer is packed.
    Packed {
        /// Number of the step.
        step: StepId,
        /// The compressed archive.
        layer: Box<Descriptor>,
        /// Digest of the uncompressed archive.
        diff_id: Digest,
        /// Length of the uncompressed archive in bytes.
        size: u64,
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

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The end of a stage that files are copied from, by its name or number.
    Stage(String),
    /// Another step that is the same, whose result it takes.
    SameStep,
    /// A free place: `--jobs` limits the steps that execute at once.
    Place,
    /// Its files, on their way to a farm.
    Upload,
    /// A worker of the farm.
    Worker,
    /// Its layer, on its way from the farm.
    Download,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Stage(name) => write!(f, "waits for stage {name}"),
            Wait::SameStep => f.write_str("waits for the same step of another stage or platform"),
            Wait::Upload => f.write_str("sends its files to the farm"),
            Wait::Worker => f.write_str("waits for a worker of the farm"),
            Wait::Download => f.write_str("fetches its layer from the farm"),
            Wait::Place => f.write_str("waits for a free place (--jobs)"),
        }
    }
}

/// Why the result of a step is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The user wants the step executed: `--no-cache` or `--no-cache-filter`.
    Asked,
    /// No earlier build of this context had the instruction in this stage.
    New,
    /// These dependencies differ from those of the last execution.
    Changed(Vec<String>),
    /// It was executed before with the same dependencies, but its layer is gone or damaged.
    Gone,
    /// An earlier build had no use for its layer, so it was not executed then.
    PutOff,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More names than this nobody reads.
        const SHOWN_MAX: usize = 6;
        match self {
            Miss::Asked => f.write_str("the cache was not asked (--no-cache)"),
            Miss::New => f.write_str("the instruction is new here, or its record was pruned"),
            Miss::Changed(names) if names.len() > SHOWN_MAX => {
                write!(f, "changed: {} and {} more", names[..SHOWN_MAX].join(", "), names.len() - SHOWN_MAX)
            }
            Miss::Changed(names) => write!(f, "changed: {}", names.join(", ")),
            Miss::Gone => f.write_str("its layer is no longer in the store"),
            Miss::PutOff => f.write_str("an earlier build had no use for its layer"),
        }
    }
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
