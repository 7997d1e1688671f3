//! What to run: the root, the mounts, the command and its limits. Plain values that travel to the monitor as
//! JSON.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crossdock_platform::Platform;
use serde::{Deserialize, Serialize};

use crate::capabilities::Capabilities;
use crate::control_group::ControlGroup;
use crate::emulator::Emulator;
use crate::host;
use crate::sys;

/// Search path where the environment has none; the same as Docker's.
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One command in a root made of layers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The root directory.
    pub root: Root,
    /// Refuse writes to the root; other mounts are not affected.
    pub read_only_root: bool,
    /// Mounts besides `/proc`, `/sys`, `/dev` and the generated files of `/etc`. Mounted by depth of target,
    /// so that parents come before children.
    pub mounts: Vec<Mount>,
    /// What some of the mounts refuse besides writes.
    pub mount_attributes: Vec<MountAttributes>,
    /// The command and its arguments. A command without `/` is looked up in `PATH` of `env`.
    #[serde(with = "bytes::list")]
    pub args: Vec<OsString>,
    /// `NAME=value`. `HOME` is added from `/etc/passwd` of the root if it is missing.
    #[serde(with = "bytes::list")]
    pub env: Vec<OsString>,
    /// Working directory, created if it is missing.
    #[serde(with = "bytes::path")]
    pub cwd: PathBuf,
    /// `user[:group]` by name or number, as Docker's `USER`; empty is root. See [`crate::user`].
    pub user: String,
    /// More groups of the command, by name or number.
    pub groups: Vec<String>,
    /// Host name inside.
    pub hostname: String,
    /// Network namespace.
    pub network: Network,
    /// Limits of the command.
    pub security: Security,
    /// What the programs are for, as far as it matters here.
    pub programs: Programs,
    /// Lines for `/etc/hosts`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Text of `/etc/resolv.conf`; `None` takes the host's.
    pub resolv_conf: Option<String>,
    /// Whether `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` are the command's own to change, as in
    /// docker's and podman's containers. They are copies in memory, and go with the command; with a
    /// read-only root they are read-only, too. Otherwise the first two are read-only, and `/etc/hostname`
    /// is a file of the root like any other, as in BuildKit's steps (executor/oci/spec.go).
    pub own_files: bool,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// Resource limits to set.
    pub limits: Vec<Limit>,
    /// Settings of the kernel for the command's own namespaces: names as sysctl(8) has them, and values.
    /// [`crate::sysctl::check`] tells which can be set.
    pub sysctls: Vec<(String, String)>,
    /// Limits of the command and everything that it starts, taken together.
    #[serde(skip)]
    pub control_group: Option<Arc<ControlGroup>>,
    /// Emulators that the kernel is to use inside, each for its architecture. They are registered for the
    /// whole user namespace, see [`crate::binfmt`].
    #[serde(skip)]
    pub emulators: Vec<Emulator>,
    /// Translations of emulated programs that were made before.
    pub images: Option<Images>,
    /// Run a small init as pid 1, which starts the command, reaps orphans and forwards signals.
    pub init: bool,
}

impl Spec {
    /// A command in a root, with everything else as in a `RUN` step: user root, directory `/`, the host's
    /// network, limits on, empty environment.
    pub fn new(root: Root, args: impl IntoIterator<Item = impl Into<OsString>>) -> Spec {
        Spec {
            root,
            read_only_root: false,
            mounts: Vec::new(),
            mount_attributes: Vec::new(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: String::new(),
            groups: Vec::new(),
            hostname: "localhost".into(),
            network: Network::Host,
            security: Security::SANDBOX,
            programs: Programs::default(),
            extra_hosts: Vec::new(),
            resolv_conf: None,
            own_files: false,
            shm_size: 64 << 20,
            limits: Vec::new(),
            sysctls: Vec::new(),
            control_group: None,
            emulators: Vec::new(),
            images: None,
            init: false,
        }
    }
}

/// Where our emulator finds translations that were made before: see `docs/dev/code-cache.md`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Images {
    /// The folder, which the command sees read-only.
    #[serde(with = "bytes::path")]
    pub folder: PathBuf,
    /// The emulator that makes more of what was run, outside of the sandbox; `None` for nobody.
    pub emulator: Option<PathBuf>,
}

impl Images {
    /// The images in a store at `store`, for a command that these emulators run; `None` if none of them is
    /// ours, if `CROSSDOCK_TRANSLATIONS=0` forbids images, or if the store cannot be written.
    pub fn of(store: &std::path::Path, emulators: &[Emulator]) -> Option<Images> {
        let emulator = emulators.iter().find(|emulator| emulator.is_builtin())?;
        let folder = Images::folder(store);
        if !Images::are_wanted() {
            return None;
        }
        if !host::is_folder(&folder) {
            host::make_folder(&folder).ok()?;
        }
        Some(Images { folder, emulator: Some(emulator.path.clone()) })
    }

    /// Whether the user has not forbidden images.
    pub(crate) fn are_wanted() -> bool {
        std::env::var_os("CROSSDOCK_TRANSLATIONS").is_none_or(|value| value != "0")
    }

    /// The folder with images of a store at `store`.
    pub fn folder(store: &std::path::Path) -> PathBuf {
        store.join("emulator")
    }
}

/// What programs are for, where the sandbox does something about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Programs {
    /// Nothing is done.
    #[default]
    Any,
    /// 32-bit x86: they create sockets in a way that the filter cannot inspect.
    X86,
    /// Armv6: our emulator shows them such a CPU.
    ArmV6,
    /// Armv5, too.
    ArmV5,
}

impl Programs {
    /// Those of a platform's images.
    pub fn of(platform: &Platform) -> Programs {
        let platform = platform.normalised();
        match (platform.architecture.as_str(), platform.variant.as_deref()) {
            ("386", _) => Programs::X86,
            ("arm", Some("v6")) => Programs::ArmV6,
            ("arm", Some("v5")) => Programs::ArmV5,
            _ => Programs::Any,
        }
    }

    /// Tells our emulator, in this process and those that come from it, which CPU to show: by two bits of the
    /// personality (personality(2)) that Linux does not use (see `crossdock_emu_linux::personality`).
    pub fn choose_cpu(self) -> std::io::Result<()> {
        let bits = match self {
            Programs::ArmV6 => 0x1000_0000,
            Programs::ArmV5 => 0x2000_0000,
            Programs::Any | Programs::X86 => return Ok(()),
        };
        sys::add_personality(bits)
    }
}

/// The root directory of the command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Root {
    /// Layers, and a directory that takes the changes.
    Overlay {
        /// Unpacked layers, the lowest first.
        #[serde(with = "bytes::paths")]
        lower: Vec<PathBuf>,
        /// Takes the changes: whiteouts are character devices 0/0, opaque directories have
        /// `user.overlay.opaque=y`.
        #[serde(with = "bytes::path")]
        upper: PathBuf,
        /// Empty directory on the same file system. Beside it `<work>.mounts` is created and removed again.
        #[serde(with = "bytes::path")]
        work: PathBuf,
        /// Skip all syncing to disk, for trees that are worth nothing after a crash of the machine. Without
        /// this the end of a run waits until the whole file system is synced.
        volatile: bool,
    },
    /// Layers only, the lowest first; the root is read-only.
    OverlayReadOnly {
        /// Unpacked layers, the lowest first.
        #[serde(with = "bytes::paths")]
        lower: Vec<PathBuf>,
    },
    /// An ordinary directory, changed in place.
    Directory(#[serde(with = "bytes::path")] PathBuf),
}

/// A mount inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute path inside; created if it is missing, without a trace in the changed tree.
    #[serde(with = "bytes::path")]
    pub target: PathBuf,
    /// Refuse writes.
    pub read_only: bool,
}

/// What a mount refuses besides writes, mount(8).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountAttributes {
    /// The mount's target.
    #[serde(with = "bytes::path")]
    pub target: PathBuf,
    /// Bits and capabilities of files that change rights have no effect.
    pub no_suid: bool,
    /// Devices cannot be opened.
    pub no_dev: bool,
    /// Programs cannot be executed.
    pub no_exec: bool,
}

impl MountAttributes {
    /// Whether there is anything that the mount refuses.
    pub fn refuse_something(&self) -> bool {
        self.bits() != 0
    }

    /// As mount_setattr(2) takes them.
    pub(crate) fn bits(&self) -> u64 {
        let bit = |is_set: bool, bit: u64| if is_set { bit } else { 0 };
        bit(self.no_suid, libc::MOUNT_ATTR_NOSUID)
            | bit(self.no_dev, libc::MOUNT_ATTR_NODEV)
            | bit(self.no_exec, libc::MOUNT_ATTR_NOEXEC)
    }
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// The file or directory.
        source: Source,
        /// Include the mounts below it.
        recursive: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Size limit in bytes; `None` is half of the memory.
        size: Option<u64>,
        /// Permissions of its root.
        mode: u32,
        /// User and group id of its root, inside.
        owner: (u32, u32),
        /// Whether programs on it can be executed.
        executable: bool,
    },
    /// Directories seen through an overlay: writes go to `upper`.
    Overlay {
        /// The directories, the lowest first.
        #[serde(with = "bytes::paths")]
        lower: Vec<PathBuf>,
        /// Takes the changes.
        #[serde(with = "bytes::path")]
        upper: PathBuf,
        /// Empty directory on the same file system.
        #[serde(with = "bytes::path")]
        work: PathBuf,
    },
    /// A file in memory, for secrets and generated files.
    File {
        /// Bytes of the file.
        content: Content,
        /// Permissions.
        mode: u32,
        /// Owner inside.
        uid: u32,
        /// Group inside.
        gid: u32,
    },
}

/// Bytes that `Debug` does not show: they may be a secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Content(pub Vec<u8>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

/// Source of a bind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Source {
    /// A path of the host.
    Path(#[serde(with = "bytes::path")] PathBuf),
    /// An open file or directory, or a detached mount such as [`crate::overlay_fd`] returns.
    Descriptor(Descriptor),
}

/// A descriptor in a [`Spec`]. It travels beside the JSON; on either side one place counts the descriptors.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Descriptor {
    #[serde(skip)]
    pub(crate) open: Option<Arc<OwnedFd>>,
}

impl From<OwnedFd> for Source {
    fn from(descriptor: OwnedFd) -> Source {
        Source::Descriptor(Descriptor { open: Some(Arc::new(descriptor)) })
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        Source::Path(path)
    }
}

/// Network namespace of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The caller's network namespace.
    Host,
    /// A new namespace with nothing but `lo`.
    None,
    /// A new namespace that a program connects to the outside; the host's loopback cannot be reached from it.
    Private(Uplink),
}

/// The program that connects [`Network::Private`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Uplink {
    /// The first program that is installed and works.
    Any,
    /// pasta, of the package passt.
    Pasta,
    /// slirp4netns.
    Slirp4netns,
}

/// Limits of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// What the command may have, and regain by setuid programs.
    pub capabilities: Capabilities,
    /// Apply the seccomp profile, Docker's default one.
    pub seccomp: bool,
    /// Hide and protect the paths of `/proc` and `/sys` that Docker hides and protects, and keep to the
    /// sandbox's own sockets and signals (Landlock).
    pub masks: bool,
    /// No program gains rights when it is executed, such as a setuid one (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
}

impl Security {
    /// Docker's default capabilities, seccomp profile, masked and read-only paths.
    pub const SANDBOX: Security = Security {
        capabilities: Capabilities::DEFAULT,
        seccomp: true,
        masks: true,
        no_new_privileges: false,
    };
    /// All capabilities of the user namespace, no seccomp profile, nothing masked. For real root this gives
    /// the command every power over the kernel's settings that user 0 has.
    pub const INSECURE: Security =
        Security { capabilities: Capabilities::ALL, seccomp: false, masks: false, no_new_privileges: false };
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// `RLIMIT_*` of getrlimit(2).
    pub resource: u32,
    /// Soft limit in the unit of the resource; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit, the ceiling of `soft`.
    pub hard: u64,
}

/// Paths and arguments as JSON strings if they are UTF-8, otherwise as arrays of bytes.
mod bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Bytes(Vec<u8>),
    }

    impl From<Either> for OsString {
        fn from(either: Either) -> OsString {
            match either {
                Either::Text(text) => text.into(),
                Either::Bytes(bytes) => OsString::from_vec(bytes),
            }
        }
    }

    struct Out<'a>(&'a std::ffi::OsStr);

    impl Serialize for Out<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0.to_str() {
                Some(text) => serializer.serialize_str(text),
                None => self.0.as_bytes().serialize(serializer),
            }
        }
    }

    pub mod path {
        use super::*;
        use std::path::{Path, PathBuf};

        pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
            Out(path.as_os_str()).serialize(serializer)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
            Ok(OsString::from(Either::deserialize(deserializer)?).into())
        }
    }

    pub mod paths {
        use super::*;
        use std::path::PathBuf;

        pub fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(paths.iter().map(|p| Out(p.as_os_str())))
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
            Ok(Vec::<Either>::deserialize(deserializer)?
                .into_iter()
                .map(|e| OsString::from(e).into())
                .collect())
        }
    }

    pub mod list {
        use super::*;

        pub fn serialize<S: Serializer>(list: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(list.iter().map(|s| Out(s)))
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OsString>, D::Error> {
            Ok(Vec::<Either>::deserialize(deserializer)?.into_iter().map(Into::into).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn a_specification_survives_json() {
        let mut spec =
            Spec::new(Root::Directory(OsString::from_vec(b"/a\xff".to_vec()).into()), ["/bin/true", "ü"]);
        spec.mounts.push(Mount {
            kind: MountKind::File { content: Content(b"hunter2".to_vec()), mode: 0o400, uid: 0, gid: 0 },
            target: "/run/secrets/x".into(),
            read_only: true,
        });
        let json = serde_json::to_string(&spec).expect("serialisable");
        let back: Spec = serde_json::from_str(&json).expect("readable");
        assert_eq!(format!("{back:?}"), format!("{spec:?}"));
        assert!(!format!("{spec:?}").contains("hunter2"), "content must not be shown");
    }
}
