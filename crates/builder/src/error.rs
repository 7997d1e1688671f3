//! What can go wrong in a build.

use std::io;

use crossdock_dockerfile::Lines;
use crossdock_dockerfile::shell::ShellError;
use crossdock_oci::error::StoreError;
use crossdock_platform::Platform;

use crate::files::copy::CopyError;
use crate::files::tree::SelectError;

/// A failed build, with the lines of the instruction that failed.
#[derive(Debug)]
pub struct BuildError {
    /// What happened.
    pub kind: ErrorKind,
    /// Lines of the Dockerfile, if the error is about a place in it.
    pub lines: Option<Lines>,
    /// Platform of the step, if the build was for several.
    pub platform: Option<Platform>,
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.platform {
            Some(platform) => write!(f, "{platform}: {}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

/// What happened.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The Dockerfile is wrong.
    #[error("{0}")]
    Dockerfile(String),
    /// A device that a command asks for is not there, or not allowed.
    #[error("{0}")]
    Device(String),
    /// No such stage.
    #[error("target stage \"{name}\" could not be found{meant}; the stages are: {known}")]
    UnknownTarget {
        /// The name given.
        name: String,
        /// ` (did you mean X?)`, or nothing.
        meant: String,
        /// Names or numbers of the stages.
        known: String,
    },
    /// A command ended with an exit code other than 0.
    #[error("process {command:?} did not complete successfully: {status}{hint}")]
    Command {
        /// The command line.
        command: String,
        /// `exit code: N` or the signal.
        status: String,
        /// A hint, or nothing.
        hint: String,
    },
    /// The sandbox could not be made.
    #[error("cannot run {command:?}: {source}")]
    Sandbox {
        /// The command line.
        command: String,
        /// Why.
        source: crossdock_sandbox::SandboxError,
    },
    /// An overlay could not be mounted.
    #[error(transparent)]
    Overlay(#[from] crossdock_sandbox::SandboxError),
    /// A step is for a platform that nothing here can run.
    #[error("cannot run programs for {platform}: {reason}")]
    Emulator {
        /// The platform.
        platform: Platform,
        /// The reason, and what to do.
        reason: String,
    },
    /// A source of COPY or ADD is not there.
    #[error("failed to copy from {origin}: {source}")]
    Source {
        /// `the build context`, `stage NAME`, ...
        origin: String,
        /// Why.
        source: SelectError,
    },
    /// Files could not be copied.
    #[error("failed to copy: {0}")]
    Copy(#[from] CopyError),
    /// A download of ADD failed.
    #[error("failed to download {url}: {reason}")]
    Download {
        /// The address, without user and password.
        url: String,
        /// Why.
        reason: String,
    },
    /// A base image could not be obtained.
    #[error("failed to resolve {name}: {reason}")]
    BaseImage {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A required secret was not given.
    #[error(
        "secret \"{0}\" is required by a mount and was not given: pass --secret id={0},src=FILE or --secret id={0},env=NAME"
    )]
    MissingSecret(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Any error of the system.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another part of the build failed first.
    #[error("cancelled, since another step failed")]
    Cancelled,
    /// The build was interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl ErrorKind {
    /// An error of the system.
    pub fn io(doing: impl Into<String>, source: io::Error) -> ErrorKind {
        ErrorKind::Io { doing: doing.into(), source }
    }

    /// The error at lines of the Dockerfile.
    pub fn at(self, lines: Lines) -> BuildError {
        BuildError { kind: self, lines: Some(lines), platform: None }
    }
}

impl From<ErrorKind> for BuildError {
    fn from(kind: ErrorKind) -> BuildError {
        BuildError { kind, lines: None, platform: None }
    }
}

impl From<StoreError> for BuildError {
    fn from(error: StoreError) -> BuildError {
        ErrorKind::Store(error).into()
    }
}

impl From<crossdock_dockerfile::Error> for BuildError {
    fn from(error: crossdock_dockerfile::Error) -> BuildError {
        let lines = Some(error.lines).filter(|lines| lines.start > 0);
        let message = match lines {
            Some(lines) => format!("dockerfile parse error on line {}: {}", lines.start, error.message),
            None => error.message,
        };
        BuildError { kind: ErrorKind::Dockerfile(message), lines, platform: None }
    }
}

/// The error of a word that cannot be expanded.
pub(crate) fn shell_error(error: ShellError, lines: Lines) -> BuildError {
    ErrorKind::Dockerfile(format!("failed to process a word: {error}")).at(lines)
}
