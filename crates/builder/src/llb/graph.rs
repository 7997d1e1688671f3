//! The operations as plain values. Names and meanings are those of ops.proto (moby/buildkit, solver/pb).

use std::net::IpAddr;
use std::path::PathBuf;

use crossdock_dockerfile::Lines;
use crossdock_oci::{Descriptor, Digest, Reference};
use crossdock_platform::Platform;
use crossdock_sandbox::{Limit, Network};

use crate::command::mount;
use crate::devices::DeviceRequest;
use crate::git::GitSource;

/// Operations and the output that is wanted.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The operations; each uses only earlier ones.
    pub ops: Vec<Op>,
    /// What is wanted; `None` is an empty tree.
    pub result: Option<Edge>,
}

/// An output of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The operation: its place in [`Graph::ops`].
    pub op: usize,
    /// Which of its outputs.
    pub output: usize,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op {
    /// For people.
    pub name: String,
    /// Of its image, or of its programs.
    pub platform: Platform,
    /// Whether it runs although its result is known.
    pub ignore_cache: bool,
    /// Where the client's text says it.
    pub lines: Option<Lines>,
    /// What it does.
    pub kind: Kind,
}

/// What an operation does. An input of `None` is an empty tree.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Fetches files; output 0.
    Source(Source),
    /// Runs a command; its mounts name the outputs.
    Exec(Box<Exec>),
    /// Changes files; output 0.
    File(File),
    /// Lays trees over each other, the lowest first; output 0.
    Merge(Vec<Option<Edge>>),
    /// What turns `lower` into `upper`; output 0.
    Diff {
        /// The tree to start from.
        lower: Option<Edge>,
        /// The tree to get.
        upper: Option<Edge>,
    },
}

/// Where files come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An image by its name.
    Image {
        /// Its name.
        reference: Reference,
        /// Whether the registry is asked even if the store knows the name.
        pull: bool,
    },
    /// Images in the store, one for each platform.
    Images(Vec<(Platform, Descriptor)>),
    /// A directory of this machine. Its files belong to root.
    Directory(PathBuf),
    /// A file at an address.
    Http {
        /// The address.
        url: String,
        /// What the file must have.
        checksum: Option<Digest>,
        /// Its name in the tree.
        filename: String,
        /// Its mode.
        mode: u32,
        /// User and group id.
        owner: (u32, u32),
    },
    /// A repository, or a directory in it.
    Git {
        /// Address, revision and directory.
        source: GitSource,
        /// Whether `.git` is kept.
        keep_git: bool,
    },
}

/// A command.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The command line.
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// More variables, which do not count for the cache.
    pub proxies: Vec<String>,
    /// Variables that hold secrets.
    pub secrets: Vec<SecretVariable>,
    /// The working directory.
    pub cwd: String,
    /// `USER[:GROUP]`; empty for root.
    pub user: String,
    /// The name of the machine that the command sees; empty for the usual one.
    pub hostname: String,
    /// Its network.
    pub network: Network,
    /// Whether the command has all rights that the builder has.
    pub insecure: bool,
    /// Lines for `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// Exit codes that are no failure.
    pub exit_codes: Vec<i32>,
    /// Devices of this machine.
    pub devices: Vec<DeviceRequest>,
    /// Mounts; the one at `/` is the root.
    pub mounts: Vec<Mount>,
}

/// A variable that holds a secret.
#[derive(Clone, Debug)]
pub struct SecretVariable {
    /// The secret.
    pub id: String,
    /// The variable.
    pub name: String,
    /// Whether the command runs without it, too.
    pub is_optional: bool,
}

/// A mount of a command. Trees are outputs of operations; `None` is an empty one.
pub type Mount = mount::Mount<Option<Edge>>;

/// What a mount of a command shows.
pub type MountKind = mount::MountKind<Option<Edge>>;

/// Changes of files, one after the other.
#[derive(Clone, Debug)]
pub struct File {
    /// The tree that is changed.
    pub base: Option<Edge>,
    /// The changes.
    pub actions: Vec<Action>,
}

/// One change. Times are nanoseconds since 1970; `None` is now, or the time of the source.
#[derive(Clone, Debug)]
pub enum Action {
    /// Copies files.
    Copy(Box<Copy>),
    /// Makes a directory.
    MakeDirectory {
        /// Where.
        path: String,
        /// Its mode.
        mode: u32,
        /// Whether missing parents are made, too.
        parents: bool,
        /// Its owner.
        owner: Owner,
        /// Its time.
        mtime: Option<i64>,
    },
    /// Writes a file.
    MakeFile {
        /// Where.
        path: String,
        /// Its mode if it is new.
        mode: u32,
        /// Its content.
        content: Vec<u8>,
        /// Its owner.
        owner: Owner,
        /// Its time.
        mtime: Option<i64>,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where the link leads.
        to: String,
        /// Where it is.
        path: String,
        /// Its owner.
        owner: Owner,
        /// Its time.
        mtime: Option<i64>,
    },
    /// Removes a file, or a directory with everything in it.
    Remove {
        /// Where.
        path: String,
        /// Whether it may be missing.
        may_be_missing: bool,
        /// Whether the path is a pattern.
        is_pattern: bool,
    },
}

/// `FileActionCopy`.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The tree that files come from.
    pub from: Option<Edge>,
    /// The path in it.
    pub source: String,
    /// The path to copy to.
    pub destination: String,
    /// The owner; the default keeps that of the source.
    pub owner: Owner,
    /// A mode, by number or as chmod(1) takes it; empty keeps that of the source.
    pub mode: String,
    /// Whether a link that is named as the source is followed.
    pub follow: bool,
    /// Whether only the content of a directory is copied.
    pub is_content_only: bool,
    /// Whether an archive is unpacked.
    pub unpack: bool,
    /// Whether the parents of the destination are made.
    pub make_destination: bool,
    /// Whether the source is a pattern.
    pub is_pattern: bool,
    /// Whether the pattern may match nothing.
    pub may_match_nothing: bool,
    /// Only files that match one of these; all if there are none.
    pub include: Vec<String>,
    /// Files that are left out.
    pub exclude: Vec<String>,
    /// Whether something of another kind at the destination is replaced.
    pub replace: bool,
    /// Time of everything that is copied.
    pub mtime: Option<i64>,
}

/// Who owns something. A user brings a group, which `group` overrides.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// The user.
    pub user: Option<Id>,
    /// The group.
    pub group: Option<Id>,
}

/// A user or a group.
#[derive(Clone, Debug)]
pub enum Id {
    /// By number.
    Number(u32),
    /// By its name in a tree.
    Name(String, Option<Edge>),
}

impl Owner {
    fn inputs(&self) -> impl Iterator<Item = Edge> {
        [&self.user, &self.group].into_iter().filter_map(|id| match id {
            Some(Id::Name(_, tree)) => *tree,
            _ => None,
        })
    }
}

impl Action {
    /// The trees that this action takes files or names of users from.
    pub fn inputs(&self) -> Vec<Edge> {
        match self {
            Action::Copy(copy) => copy.owner.inputs().chain(copy.from).collect(),
            Action::MakeDirectory { owner, .. }
            | Action::MakeFile { owner, .. }
            | Action::Symlink { owner, .. } => owner.inputs().collect(),
            Action::Remove { .. } => Vec::new(),
        }
    }
}

impl Op {
    /// The outputs that this operation uses.
    pub fn inputs(&self) -> Vec<Edge> {
        match &self.kind {
            Kind::Source(_) => Vec::new(),
            Kind::Exec(exec) => {
                let used = |mount: &Mount| match &mount.kind {
                    MountKind::Bind { input, .. } => *input,
                    MountKind::Cache { initial, .. } => *initial,
                    _ => None,
                };
                exec.mounts.iter().filter_map(used).collect()
            }
            Kind::File(file) => {
                file.base.into_iter().chain(file.actions.iter().flat_map(Action::inputs)).collect()
            }
            Kind::Merge(inputs) => inputs.iter().flatten().copied().collect(),
            Kind::Diff { lower, upper } => [lower, upper].into_iter().flatten().copied().collect(),
        }
    }
}
