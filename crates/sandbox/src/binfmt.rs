//! How the kernel learns to run programs of other architectures: binfmt_misc, for the host and private to a
//! user namespace.
//!
//! Source: Documentation/admin-guide/binfmt-misc.rst. Since Linux 6.7 every user namespace may have its own
//! instance. The instance lives as long as a mount of it, and hides the instances of outer namespaces.

#![expect(clippy::disallowed_methods, reason = "files of the host")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsmount, fsopen, move_mount,
};

use crate::architecture::Architecture;
use crate::emulator::Emulator;
use crate::error::{Doing, Failure, SandboxError};
use crate::mounts::{clone_tree, set_read_only};
use crate::registration::{Entry, Flags, entry_name, registration, registration_of};

/// The binfmt_misc of the host, for `crossdock binfmt`. Changing it needs root, outside of
/// [`crate::userns::enter`].
#[derive(Debug, Clone)]
pub struct Host {
    directory: PathBuf,
    persistent: PathBuf,
}

/// State of the host's binfmt_misc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether it is mounted.
    pub mounted: bool,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Registered formats by name.
    pub entries: Vec<Entry>,
}

impl Default for Host {
    fn default() -> Host {
        Host::at("/proc/sys/fs/binfmt_misc", "/etc/binfmt.d")
    }
}

impl Host {
    /// Uses other directories: one for the file system, one for systemd's configuration (binfmt.d(5)).
    pub fn at(directory: impl Into<PathBuf>, persistent: impl Into<PathBuf>) -> Host {
        Host { directory: directory.into(), persistent: persistent.into() }
    }

    /// What is registered. Every user can read this.
    pub fn status(&self) -> Result<Status, SandboxError> {
        let mut status = Status { mounted: false, enabled: false, entries: Vec::new() };
        if !self.directory.join("register").exists() {
            return Ok(status);
        }
        status.mounted = true;
        let doing = || format!("read {}", self.directory.display());
        status.enabled = fs::read_to_string(self.directory.join("status")).doing(doing)?.trim() == "enabled";
        for file in fs::read_dir(&self.directory).doing(doing)? {
            let name = file.doing(doing)?.file_name().to_string_lossy().into_owned();
            if name != "register" && name != "status" {
                // An entry may be removed while we read.
                if let Ok(text) = fs::read_to_string(self.directory.join(&name)) {
                    status.entries.push(Entry::parse(&name, &text));
                }
            }
        }
        status.entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(status)
    }

    /// Whether the caller is in a user namespace and the mounted instance is not that namespace's own:
    /// changes would affect the machine around it.
    ///
    /// A process with power over a file system's namespace may ask for its reconfiguration, which changes
    /// nothing.
    pub fn is_of_outside(&self) -> bool {
        use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fspick};
        // One range with all ids, user_namespaces(7).
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        if map.split_whitespace().eq(["0", "0", "4294967295"]) {
            return false;
        }
        let picked = fspick(rustix::fs::CWD, &self.directory, FsPickFlags::FSPICK_CLOEXEC);
        picked.and_then(fsconfig_reconfigure).is_err()
    }

    /// Registers an emulator for an architecture, in place of our earlier registration.
    pub fn install(&self, architecture: &str, emulator: &Path, flags: Flags) -> Result<(), SandboxError> {
        let line = self.line(architecture, emulator, flags)?;
        self.uninstall(architecture)?;
        write_file(&self.directory.join("register"), &line)
            .doing(|| format!("register {} in {}", emulator.display(), self.directory.display()))
    }

    /// Removes our registration of an architecture; returns whether there was one.
    pub fn uninstall(&self, architecture: &str) -> Result<bool, SandboxError> {
        self.remove(&entry_name(architecture))
    }

    /// Removes the handler of this name, whoever registered it; returns whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool, SandboxError> {
        let path = self.directory.join(name);
        match write_file(&path, b"-1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true).doing(|| format!("remove {}", path.display())),
        }
    }

    /// The line that [`Host::install`] writes.
    pub fn line(&self, architecture: &str, emulator: &Path, flags: Flags) -> Result<Vec<u8>, SandboxError> {
        let architecture = Architecture::named(architecture)
            .ok_or_else(|| SandboxError::UnknownArchitecture(architecture.into()))?;
        Ok(registration_of(architecture, emulator, flags))
    }

    /// Path and content of the file with which systemd registers the emulator at every start (binfmt.d(5)).
    pub fn persistent_file(
        &self,
        architecture: &str,
        emulator: &Path,
        flags: Flags,
    ) -> Result<(PathBuf, Vec<u8>), SandboxError> {
        let mut line = self.line(architecture, emulator, flags)?;
        line.push(b'\n');
        Ok((self.persistent.join(format!("{}.conf", entry_name(architecture))), line))
    }

    /// Checks that an emulator's file may be named in [`Host::persistent_file`]: at the next start root
    /// registers what is there then, so only root may be able to change or remove it. The error says what is
    /// wrong.
    pub fn stays(emulator: &Path) -> Result<(), String> {
        let path = fs::canonicalize(emulator).map_err(|error| format!("{}: {error}", emulator.display()))?;
        for part in path.ancestors() {
            let metadata = fs::metadata(part).map_err(|error| format!("{}: {error}", part.display()))?;
            if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
                return Err(format!("{} can be changed by others than root", part.display()));
            }
        }
        Ok(())
    }

    /// Writes [`Host::persistent_file`] and returns its path.
    pub fn persist(
        &self,
        architecture: &str,
        emulator: &Path,
        flags: Flags,
    ) -> Result<PathBuf, SandboxError> {
        let (path, content) = self.persistent_file(architecture, emulator, flags)?;
        let doing = || format!("write {}", path.display());
        fs::create_dir_all(&self.persistent).doing(doing)?;
        let temporary = path.with_extension(format!("conf.{}", std::process::id()));
        let written = fs::File::create(&temporary)
            .and_then(|mut file| file.write_all(&content).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.doing(doing).map(|()| path)
    }

    /// Removes the file of [`Host::persist`]; returns whether there was one.
    pub fn forget(&self, architecture: &str) -> Result<bool, SandboxError> {
        let path = self.persistent.join(format!("{}.conf", entry_name(architecture)));
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true).doing(|| format!("remove {}", path.display())),
        }
    }
}

/// Writes with one `write`, as binfmt_misc requires; never creates a file.
fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write(content).map(drop)
}

/// The instance of our user namespace, and the emulators registered in it, by architecture.
struct Private {
    mount: OwnedFd,
    registered: BTreeMap<String, PathBuf>,
    /// Mounts of the registered emulators. The kernel has the files open itself, but ending such a mount is
    /// slow.
    emulators: Vec<OwnedFd>,
}

static PRIVATE: Mutex<Option<Private>> = Mutex::new(None);

/// Makes the kernel run programs of these architectures with these emulators, in this process's user
/// namespace only.
///
/// The first call copies the host's entries, since the private instance hides them. Where the kernel has no
/// private instances, the host's entries must serve; the error says what is missing. Nothing on the host
/// changes.
pub fn register_private(emulators: &[Emulator]) -> Result<(), SandboxError> {
    if emulators.is_empty() {
        return Ok(());
    }
    let mut guard = PRIVATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let private = match &mut *guard {
        Some(private) => private,
        // Only in the caller's own namespace: in the first one, the instance would be the host's.
        empty if has_own_users() => match open_private()? {
            Some(private) => empty.insert(private),
            None => return emulators.iter().try_for_each(|e| check_host(e, &Host::default())),
        },
        _ => return emulators.iter().try_for_each(|e| check_host(e, &Host::default())),
    };
    emulators.iter().try_for_each(|emulator| private.register(emulator))
}

/// [`register_private`] for a program that this process becomes or starts outside of a sandbox: the instance
/// is attached at `/proc/sys/fs/binfmt_misc` of this mount namespace and lives as long as the namespace.
pub fn register_for_children(emulators: &[Emulator]) -> Result<(), SandboxError> {
    register_private(emulators)?;
    let guard = PRIVATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match &*guard {
        None => Ok(()),
        Some(private) => {
            let place = "/proc/sys/fs/binfmt_misc";
            move_mount(&private.mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .doing(|| format!("mount the private binfmt_misc at {place}"))
        }
    }
}

/// Whether this process has a user namespace of its own.
fn has_own_users() -> bool {
    crate::userns::entered().is_some_and(|entered| !entered.is_bare)
}

/// Mounts the instance, detached. `None` where the kernel refuses that in a user namespace.
fn open_private() -> Result<Option<Private>, SandboxError> {
    let host = Host::default().status()?;
    let mounted = fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC).and_then(|context| {
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    });
    let mount = match mounted {
        Ok(mount) => mount,
        Err(Errno::PERM | Errno::INVAL | Errno::NODEV | Errno::NOSYS) => return Ok(None),
        Err(error) => return Err(error).doing(|| "mount a private binfmt_misc".into()),
    };
    let mut private = Private { mount, registered: BTreeMap::new(), emulators: Vec::new() };
    for entry in host.entries.iter().filter(|e| e.enabled && e.offset == 0 && !e.magic.is_empty()) {
        // An emulator that was removed since cannot be opened; its programs did not run before either.
        let _ = private.copy(entry);
    }
    Ok(Some(private))
}

/// Whether the kernel gives this process's user namespace its own instance. Only after
/// [`crate::userns::enter`].
pub(crate) fn private_works() -> Result<bool, SandboxError> {
    Ok(has_own_users() && open_private()?.is_some())
}

impl Private {
    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let file = openat(&self.mount, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        fs::File::from(file).write(content).map(drop)
    }

    fn register(&mut self, emulator: &Emulator) -> Result<(), SandboxError> {
        if self.registered.get(&emulator.architecture) == Some(&emulator.path) {
            return Ok(());
        }
        let architecture = Architecture::named(&emulator.architecture)
            .ok_or_else(|| SandboxError::UnknownArchitecture(emulator.architecture.clone()))?;
        let file = unchangeable(&emulator.path)?;
        // By descriptor, since a path may have characters or a length that the format does not allow.
        let interpreter = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let line = registration_of(architecture, &interpreter, emulator.flags());
        if self.registered.contains_key(&emulator.architecture) {
            let _ = self.write(&entry_name(architecture.name), b"-1");
        }
        self.write("register", &line)
            .doing(|| format!("register {} for {}", emulator.path.display(), architecture.name))?;
        self.registered.insert(emulator.architecture.clone(), emulator.path.clone());
        self.emulators.push(file);
        Ok(())
    }

    /// Registers an entry of the host here.
    fn copy(&mut self, entry: &Entry) -> Result<(), SandboxError> {
        let line = |interpreter: &Path| {
            registration(&entry.name, &entry.magic, &entry.mask, interpreter, entry.flags)
        };
        let doing = || format!("register {} of the host", entry.name);
        if !entry.flags.fix_binary {
            // The file is looked up where the program runs.
            return self.write("register", &line(&entry.interpreter)).doing(doing);
        }
        let file = unchangeable(&entry.interpreter)?;
        let interpreter = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        self.write("register", &line(&interpreter)).doing(doing)?;
        self.emulators.push(file);
        Ok(())
    }
}

/// A file of the host on its own read-only mount. A process that reaches the file, as every guest does by
/// `/proc/PID/exe`, can neither write to it nor change its mode, owner, times and attributes.
fn unchangeable(path: &Path) -> Result<OwnedFd, Failure> {
    let file = clone_tree(path, false)?;
    set_read_only(file.as_fd(), false)?;
    Ok(file)
}

/// Whether the host runs the emulator's architecture inside images.
fn check_host(emulator: &Emulator, host: &Host) -> Result<(), SandboxError> {
    let architecture = Architecture::named(&emulator.architecture)
        .ok_or_else(|| SandboxError::UnknownArchitecture(emulator.architecture.clone()))?;
    let status = host.status()?;
    let serving: Vec<_> = status.entries.iter().filter(|e| e.serves(architecture)).collect();
    if status.enabled && serving.iter().any(|e| e.flags.fix_binary) {
        return Ok(());
    }
    let lack = match serving.first() {
        Some(entry) if status.enabled => {
            format!(
                "has {} without flag F, which only works where {} exists",
                entry.name,
                entry.interpreter.display()
            )
        }
        _ => "has no entry for it".to_string(),
    };
    Err(SandboxError::NoBinfmt {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        architecture: architecture.name.into(),
        host: lack,
        fix: format!("sudo crossdock binfmt install {}", architecture.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_changed_by_single_writes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (misc, persistent) = (dir.path().join("misc"), dir.path().join("binfmt.d"));
        let host = Host::at(&misc, &persistent);
        assert!(!host.status().expect("status").mounted);
        fs::create_dir(&misc).expect("a directory");
        fs::write(misc.join("register"), "").expect("a file");
        fs::write(misc.join("status"), "enabled\n").expect("a file");
        host.install("arm64", Path::new("/usr/bin/qemu-aarch64-static"), Flags::ALL).expect("installed");
        let line = fs::read_to_string(misc.join("register")).expect("the line");
        assert!(line.starts_with(":crossdock-arm64:M::\\x7f\\x45\\x4c\\x46\\x02"), "{line}");
        assert!(line.ends_with(":/usr/bin/qemu-aarch64-static:POCF"), "{line}");
        fs::write(
            misc.join("crossdock-arm64"),
            "enabled\ninterpreter /q\nflags: F\noffset 0\nmagic 7f454c46\n",
        )
        .expect("an entry");
        assert_eq!(host.status().expect("status").entries.len(), 1);
        assert!(host.uninstall("arm64").expect("removed"));
        assert!(fs::read_to_string(misc.join("crossdock-arm64")).expect("the entry").starts_with("-1"));
        assert!(!host.uninstall("arm").expect("nothing to remove"));
        let path = host.persist("arm", Path::new("/q"), Flags::ALL).expect("written");
        assert_eq!(path, persistent.join("crossdock-arm.conf"));
        assert!(fs::read(&path).expect("the file").ends_with(b":/q:POCF\n"));
        assert!(host.forget("arm").expect("removed") && !path.exists());
        assert!(host.install("pdp11", Path::new("/q"), Flags::ALL).is_err());
    }

    #[test]
    fn an_old_kernel_is_served_by_the_host_or_told_how() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let host = Host::at(dir.path(), dir.path());
        let emulator = Emulator::at("arm64", "/q");
        let error = check_host(&emulator, &host).expect_err("nothing registered").to_string();
        assert!(error.contains("sudo crossdock binfmt install arm64"), "{error}");
        fs::write(dir.path().join("register"), "").expect("a file");
        fs::write(dir.path().join("status"), "enabled\n").expect("a file");
        let entry = |flags: &str| {
            let text = format!(
                "enabled\ninterpreter /q\nflags: {flags}\noffset 0\nmagic 7f454c460201010000000000000000000200b700\n"
            );
            fs::write(dir.path().join("qemu-aarch64"), text).expect("a file");
        };
        entry("P");
        let error = check_host(&emulator, &host).expect_err("no F").to_string();
        assert!(error.contains("without flag F"), "{error}");
        entry("PF");
        check_host(&emulator, &host).expect("served by the host");
    }
}
