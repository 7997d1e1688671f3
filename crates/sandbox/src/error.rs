//! What can go wrong, in the words of the user.

use std::io;

use serde::{Deserialize, Serialize};

/// Why a sandbox could not be created, or its command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// User namespaces are switched off, or refused to this user.
    #[error("cannot create a user namespace: {reason}; {fix}")]
    UserNamespaces {
        /// What forbids it.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// [`crate::userns::enter`] was called with other threads alive.
    #[error("a user namespace can only be entered while the process has one thread, this one has {0}")]
    SeveralThreads(usize),
    /// A step outside of the container failed.
    #[error("cannot {doing}: {source}")]
    Step {
        /// What was being done; follows "cannot" in the message.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step of the monitor or inside the container failed.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The monitor ended without a report.
    #[error("the sandbox ended before its command did ({0}); was it killed?")]
    Lost(String),
    /// The kernel cannot give a user namespace its own binfmt_misc, and the host has no entry for the
    /// architecture.
    #[error(
        "linux {kernel} cannot register an emulator for {architecture} in a private binfmt_misc (Linux 6.7 can), and the host {host}; register it once as root: {fix}"
    )]
    NoBinfmt {
        /// Release of the running kernel.
        kernel: String,
        /// Guest architecture.
        architecture: String,
        /// What is wrong with the host's registration.
        host: String,
        /// The command that registers the emulator.
        fix: String,
    },
    /// No emulator was found for an architecture.
    #[error("no emulator for {architecture}: {looked}; {fix}")]
    NoEmulator {
        /// Guest architecture.
        architecture: String,
        /// Where an emulator was looked for.
        looked: String,
        /// What to do.
        fix: String,
    },
    /// The ELF header of the architecture is not known.
    #[error("unknown guest architecture \"{0}\" (known: {known})", known = crate::architecture::known_architectures())]
    UnknownArchitecture(String),
    /// A user or group that the image does not have.
    #[error(transparent)]
    User(#[from] crate::user::UserError),
}

impl SandboxError {
    /// The exit code that `docker run` has for this error: 127 for a command that does not exist, 126 for one
    /// that cannot be executed, 125 for everything else.
    pub fn exit_code(&self) -> i32 {
        match self {
            SandboxError::Failure(Failure::CommandNotFound { .. }) => 127,
            SandboxError::Failure(Failure::CommandNotExecutable { .. }) => 126,
            _ => 125,
        }
    }
}

/// A failure of the monitor or inside the container, as it travels over the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// A step failed with an error of the kernel.
    #[error("cannot {doing}: {}", io::Error::from_raw_os_error(*errno))]
    Step {
        /// What was being done; follows "cannot" in the message.
        doing: String,
        /// `errno`.
        errno: i32,
    },
    /// The place of a mount cannot be used.
    #[error("cannot mount at {target}: {reason}")]
    Target {
        /// Path inside.
        target: String,
        /// Why not.
        reason: String,
    },
    /// The command does not exist.
    #[error("{command}: {reason}")]
    CommandNotFound {
        /// The command as given.
        command: String,
        /// What was tried.
        reason: String,
    },
    /// The command exists but the kernel refuses to execute it.
    #[error("{command}: {reason}")]
    CommandNotExecutable {
        /// The command as given.
        command: String,
        /// Why.
        reason: String,
    },
    /// The user or group of the command is not in the image.
    #[error("{0}")]
    User(String),
    /// Changes cannot go to a directory, since overlayfs cannot write to its file system.
    #[error(
        "cannot write changes to {upper}: it is on {kind}, which overlayfs cannot write to; put the store on another file system with --root DIR or CROSSDOCK_ROOT=DIR, {place}"
    )]
    Upper {
        /// The directory.
        upper: String,
        /// Name of its file system.
        kind: String,
        /// Where the store would work.
        place: String,
    },
    /// A network namespace could not be connected.
    #[error("cannot connect a private network: {reason}; {fix}")]
    Network {
        /// What is missing, or what each program said.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// The specification cannot be run.
    #[error("{0}")]
    Specification(String),
}

/// Most characters of a text in a failure; an image or a caller can make its texts as long as it likes.
const TEXT_MAX: usize = 2000;

impl Failure {
    /// Shortens the texts so that the failure fits in a message.
    pub(crate) fn shortened(mut self) -> Failure {
        let texts = match &mut self {
            Failure::Step { doing, .. } => vec![doing],
            Failure::Target { target, reason } => vec![target, reason],
            Failure::CommandNotFound { command, reason }
            | Failure::CommandNotExecutable { command, reason } => vec![command, reason],
            Failure::Network { reason, fix } => vec![reason, fix],
            Failure::Upper { upper, kind, place } => vec![upper, kind, place],
            Failure::User(text) | Failure::Specification(text) => vec![text],
        };
        for text in texts {
            if let Some((end, _)) = text.char_indices().nth(TEXT_MAX) {
                text.truncate(end);
                text.push_str("...");
            }
        }
        self
    }
}

/// Adds what was being done to an error of the kernel.
pub(crate) trait Doing<T> {
    /// As [`SandboxError::Step`].
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, SandboxError>;
    /// As [`Failure::Step`], for the monitor and the container.
    fn failing(self, doing: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, SandboxError> {
        self.map_err(|error| SandboxError::Step { doing: doing(), source: error.into() })
    }

    fn failing(self, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            Failure::Step { doing: doing(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_fits_in_a_message() {
        let long = "\u{1}".repeat(1 << 20);
        let failure = Failure::CommandNotFound { command: long.clone(), reason: long }.shortened();
        let json = serde_json::to_vec(&failure).expect("serialisable");
        assert!(json.len() < 64 << 10, "{}", json.len());
        let short = Failure::User("no such user".into());
        assert_eq!(short.clone().shortened(), short);
    }
}
