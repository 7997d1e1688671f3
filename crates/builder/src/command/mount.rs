//! Mounts of commands and containers, as BuildKit's clients describe them (moby/buildkit, "Mount" in
//! solver/pb/ops.proto).

use crossdock_dockerfile::mount::Sharing;

/// A mount; `T` is a tree of files.
#[derive(Clone, Debug)]
pub struct Mount<T> {
    /// An absolute path, or one below the working directory.
    pub target: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// What is mounted.
    pub kind: MountKind<T>,
}

/// What a mount shows.
#[derive(Clone, Debug)]
pub enum MountKind<T> {
    /// A tree.
    Bind {
        /// The tree.
        input: T,
        /// The path in it that is mounted.
        selector: String,
        /// The output that is the tree with the command's changes; `None` drops them.
        output: Option<usize>,
    },
    /// A directory that stays for later commands of the same platform.
    Cache {
        /// Its name; the target if empty.
        id: String,
        /// Use by several commands at once.
        sharing: Sharing,
        /// What a new one holds.
        initial: T,
        /// The path in `initial`.
        selector: String,
    },
    /// Memory.
    Tmpfs {
        /// Its size in bytes; `None` for the usual one.
        size: Option<u64>,
    },
    /// A file with a secret.
    Secret {
        /// The secret.
        id: String,
        /// Whether the command runs without it, too.
        is_optional: bool,
        /// Mode of the file.
        mode: u32,
        /// User and group id.
        owner: (u32, u32),
    },
    /// A socket that leads to an SSH agent.
    Agent {
        /// The agent.
        id: String,
        /// Whether the command runs without it, too.
        is_optional: bool,
        /// Mode of the socket.
        mode: u32,
        /// User and group id.
        owner: (u32, u32),
    },
}

impl<T> Mount<T> {
    /// Whether writes are refused: secrets are never written, and a socket that nobody writes to is none.
    pub(crate) fn is_read_only(&self) -> bool {
        match &self.kind {
            MountKind::Secret { .. } => true,
            MountKind::Agent { .. } => false,
            _ => self.read_only,
        }
    }
}
