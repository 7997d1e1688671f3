//! Detached overlay mounts of layer directories: they have no place in the file system and end with their
//! descriptor.
//!
//! Always with `userxattr`, since `trusted.*` attributes cannot be set in a user namespace: whiteouts are
//! character devices 0/0 and opaque directories carry `user.overlay.opaque=y`. Sources:
//! Documentation/filesystems/overlayfs.rst, fsopen(2).

#![expect(
    clippy::disallowed_methods,
    reason = "layers are directories of the store, whose paths nobody inside can change"
)]

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount, unmount,
};

use crate::error::{Doing, Failure, SandboxError};
use crate::mounts::{clone_tree, set_read_only};
use crate::sys;

/// Most lower layers that the kernel stacks (`OVL_MAX_STACK`).
pub const LOWER_MAX: usize = 500;

/// Where writes to an overlay go.
#[derive(Debug, Clone)]
pub struct Upper {
    /// Directory that takes the changes.
    pub upper: PathBuf,
    /// Empty directory on the same file system, for the kernel's use.
    pub work: PathBuf,
    /// Skip all syncing to disk. The kernel then refuses the same directory as `work` again until the mark
    /// that it leaves there, `incompat`, is removed.
    pub volatile: bool,
}

/// Mounts layers in the newest way that the kernel supports. A single directory is bound as it is.
pub(crate) fn mount_layers(lower: &[PathBuf], upper: Option<&Upper>) -> Result<OwnedFd, Failure> {
    match (lower, upper) {
        ([], None) => Err(Failure::Specification("an overlay needs at least one directory".into())),
        ([], Some(upper)) => clone_tree(&upper.upper, false),
        ([only], None) => {
            let tree = clone_tree(only, false)?;
            set_read_only(tree.as_fd(), false)?;
            Ok(tree)
        }
        _ if lower.len() > LOWER_MAX => Err(Failure::Specification(format!(
            "{} layers are more than the {LOWER_MAX} that overlayfs stacks",
            lower.len()
        ))),
        _ => match modern(lower, upper) {
            Err(Failure::Step { errno: libc::EINVAL | libc::ENOSYS, .. }) => legacy(lower, upper),
            other => other,
        },
    }
}

/// Tries an overlay whose changes go to a directory, which must exist.
///
/// Everything that the trial creates is gone afterwards.
pub(crate) fn try_upper(directory: &Path) -> Result<(), SandboxError> {
    let own = directory.join(format!(".crossdock-trial-{}", std::process::id()));
    let parts = ["lower", "second", "upper", "work"].map(|part| own.join(part));
    let made = parts.iter().try_for_each(fs::create_dir_all).doing(|| format!("create {}", own.display()));
    let [lower, second, upper, work] = parts;
    let upper = Upper { upper, work, volatile: false };
    let result = made.and_then(|()| Ok(mount_layers(&[lower, second], Some(&upper)).map(drop)?));
    let _ = fs::remove_dir_all(&own);
    result
}

/// Uses the mount API with one call per layer, so that the number and length of paths have no limit. Linux
/// 6.5.
fn modern(lower: &[PathBuf], upper: Option<&Upper>) -> Result<OwnedFd, Failure> {
    let doing = || "mount an overlay".to_string();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).failing(doing)?;
    fsconfig_set_string(&context, "source", "overlay").failing(doing)?;
    // The first `lowerdir+` is the topmost layer.
    for path in lower.iter().rev() {
        set_directory(context.as_fd(), "lowerdir+", path)?;
    }
    if let Some(upper) = upper {
        for (key, path) in [("upperdir", &upper.upper), ("workdir", &upper.work)] {
            set_directory(context.as_fd(), key, path)?;
        }
        if upper.volatile {
            fsconfig_set_flag(&context, "volatile").failing(doing)?;
        }
    }
    fsconfig_set_flag(&context, "userxattr").failing(doing)?;
    fsconfig_create(&context).failing(|| describe(lower, upper))?;
    // Device files of layers are of no use in a user namespace, and must be of none without one.
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV).failing(doing)
}

/// Sets an option to a directory. The kernel copies at most 255 bytes and treats `\\`, `,` and `:` in its own
/// ways, which differ by version; such paths are given through an open descriptor instead.
fn set_directory(context: BorrowedFd<'_>, key: &str, path: &Path) -> Result<(), Failure> {
    let doing = || format!("use {} as {key} of an overlay", path.display());
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() < 256 && !bytes.iter().any(|b| b":\\,".contains(b)) {
        return fsconfig_set_string(context, key, path).failing(doing);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).failing(doing)?;
    fsconfig_set_string(context, key, format!("/proc/self/fd/{}", directory.as_raw_fd())).failing(doing)
}

/// Uses mount(2), whose options must fit in a page: paths are given relative to their common parent.
///
/// Runs in a thread with its own working directory, since other threads of the process must not see it
/// change.
pub(crate) fn legacy(lower: &[PathBuf], upper: Option<&Upper>) -> Result<OwnedFd, Failure> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                sys::unshare(libc::CLONE_FS).failing(|| "give a thread its own working directory".into())?;
                legacy_here(lower, upper)
            })
            .join()
            .expect("the thread returns its errors and does not panic")
    })
}

fn legacy_here(lower: &[PathBuf], upper: Option<&Upper>) -> Result<OwnedFd, Failure> {
    let absolute = |path: &Path| std::path::absolute(path).failing(|| format!("find {}", path.display()));
    let lower = lower.iter().map(|p| absolute(p)).collect::<Result<Vec<_>, _>>()?;
    let base = common_parent(&lower);
    let mut options = OsString::from("userxattr,lowerdir=");
    for (n, path) in lower.iter().rev().enumerate() {
        if n > 0 {
            options.push(":");
        }
        options.push(escape(path.strip_prefix(&base).unwrap_or(path), b":\\,"));
    }
    let mut place = lower[0].clone();
    if let Some(upper) = upper {
        let (directory, work) = (absolute(&upper.upper)?, absolute(&upper.work)?);
        options.push(",upperdir=");
        options.push(escape(&directory, b"\\,"));
        options.push(",workdir=");
        options.push(escape(&work, b"\\,"));
        if upper.volatile {
            options.push(",volatile");
        }
        place = work;
    }
    if options.len() >= 4096 {
        return Err(Failure::Specification(format!(
            "{} layers have paths too long for mount(2) of a kernel before Linux 6.5",
            lower.len()
        )));
    }
    rustix::process::chdir(&base).failing(|| format!("enter {}", base.display()))?;
    let options = std::ffi::CString::new(options.into_vec())
        .map_err(|_| Failure::Specification("a layer's path contains a zero byte".into()))?;
    mount("overlay", &place, "overlay", MountFlags::NODEV, Some(options.as_c_str()))
        .failing(|| describe(&lower, upper))?;
    let tree = clone_tree(&place, false);
    unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .failing(|| format!("unmount {}", place.display()))?;
    tree
}

fn describe(lower: &[PathBuf], upper: Option<&Upper>) -> String {
    let top = upper.map_or_else(|| lower[lower.len() - 1].display(), |u| u.upper.display());
    format!("mount an overlay of {} layers below {top}", lower.len())
}

fn common_parent(paths: &[PathBuf]) -> PathBuf {
    let mut base = paths[0].parent().unwrap_or(Path::new("/")).to_path_buf();
    for path in paths {
        while !path.starts_with(&base) || *path == base {
            if !base.pop() {
                return PathBuf::from("/");
            }
        }
    }
    base
}

fn escape(path: &Path, special: &[u8]) -> OsString {
    let mut escaped = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if special.contains(&byte) {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    OsString::from_vec(escaped)
}

/// Removes the mark that makes the kernel refuse a `work` directory that was used `volatile`.
pub(crate) fn forget_volatile(work: &Path) {
    // A missing mark is no error: the mount failed before.
    let _ = std::fs::remove_dir_all(work.join("work/incompat"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn the_common_parent_is_above_every_path() {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(common_parent(&paths(&["/s/a/fs", "/s/b/fs"])), Path::new("/s"));
        assert_eq!(common_parent(&paths(&["/s/a/fs"])), Path::new("/s/a"));
        assert_eq!(common_parent(&paths(&["/s/a", "/t/b"])), Path::new("/"));
        assert_eq!(common_parent(&paths(&["/s/a/b", "/s/a"])), Path::new("/s"));
    }

    #[test]
    fn option_separators_are_escaped() {
        assert_eq!(escape(Path::new("/a:b,c\\d"), b":\\,"), OsStr::new("/a\\:b\\,c\\\\d"));
    }
}
