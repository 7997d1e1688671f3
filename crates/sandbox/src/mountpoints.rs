//! The places of mounts inside a root: found without leaving the root, and made where they are missing without a trace.
//!
//! See "Mount points leave no trace" in `docs/dev/sandbox.md`.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    fstat, openat, openat2, readlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::{Doing, Failure};

/// Symbolic links followed at most, as in the kernel (`MAXSYMLINKS`).
const SYMLINKS_MAX: u32 = 40;

/// Where a path of the root leads when every symbolic link is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Real path from the root, without a leading slash.
    pub path: PathBuf,
    /// How many components at the end do not exist.
    pub missing: usize,
    /// Whether the existing part is a directory.
    pub directory: bool,
}

impl Place {
    fn exists(&self) -> bool {
        self.missing == 0
    }
}

/// Opens an existing path of the root, as the container would see it; never outside of it.
pub fn open_in(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        // EAGAIN: something was renamed during the walk, see openat2(2).
        match openat2(
            root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        ) {
            Err(Errno::AGAIN) => continue,
            other => return other,
        }
    }
}

/// Finds where `target` leads in `root`.
pub fn locate(root: BorrowedFd<'_>, target: &Path) -> Result<Place, Failure> {
    let refuse = |reason: String| Failure::Target { target: target.display().to_string(), reason };
    let mut pending: VecDeque<OsString> = components(target);
    // Directories entered so far, by name; the root itself is not in the list.
    let mut entered: Vec<(OsString, OwnedFd)> = Vec::new();
    let mut missing: Vec<OsString> = Vec::new();
    let mut file: Option<OsString> = None;
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            if missing.pop().is_none() {
                entered.pop();
            }
            continue;
        }
        if !missing.is_empty() {
            missing.push(name);
            continue;
        }
        let current = entered.last().map_or(root, |(_, fd)| fd.as_fd());
        let found =
            match openat(current, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    missing.push(name);
                    continue;
                }
                Err(error) => return Err(refuse(format!("{}: {error}", name.display()))),
            };
        let stat = fstat(&found).failing(|| format!("look at {}", target.display()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => entered.push((name, found)),
            FileType::Symlink => {
                links += 1;
                if links > SYMLINKS_MAX {
                    return Err(refuse("too many symbolic links".into()));
                }
                let to = readlinkat(&found, "", Vec::new())
                    .failing(|| format!("read the link {}", name.display()))?;
                let to = Path::new(OsStr::from_bytes(to.as_bytes()));
                if to.is_absolute() {
                    entered.clear();
                }
                for component in components(to).into_iter().rev() {
                    pending.push_front(component);
                }
            }
            _ if pending.is_empty() => file = Some(name),
            _ => return Err(refuse(format!("{} is not a directory", name.display()))),
        }
    }
    let mut path: PathBuf = entered.iter().map(|(name, _)| name).collect();
    let directory = file.is_none();
    path.extend(file);
    path.extend(&missing);
    Ok(Place { path, missing: missing.len(), directory })
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_os_string()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

/// A place that must exist before something can be mounted there.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Path inside.
    pub target: PathBuf,
    /// A directory, else a file.
    pub directory: bool,
}

/// A wanted place that the root lacks.
#[derive(Debug, Clone)]
pub struct Absent {
    /// Where.
    pub place: Place,
    /// A directory, else a file.
    pub directory: bool,
}

/// What [`plan`] finds.
#[derive(Debug)]
pub struct Plan {
    /// Real paths of all wanted places, in order.
    pub paths: Vec<PathBuf>,
    /// Those that the root itself must get.
    pub absent: Vec<Absent>,
}

/// Finds all wanted places, in the order in which they will be mounted.
///
/// A place below one that comes earlier will be on that mount, so its absence from the root does not matter.
pub fn plan(root: BorrowedFd<'_>, wanted: &[Wanted]) -> Result<Plan, Failure> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut absent: Vec<Absent> = Vec::new();
    for Wanted { target, directory } in wanted {
        let place = locate(root, target)?;
        if place.path.as_os_str().is_empty() {
            return Err(Failure::Target {
                target: target.display().to_string(),
                reason: "it is the root directory".into(),
            });
        }
        let below = paths.iter().any(|earlier| place.path.starts_with(earlier) && place.path != *earlier);
        if !below {
            if place.exists() && place.directory != *directory {
                let (is, wants) =
                    if *directory { ("a file", "a directory") } else { ("a directory", "a file") };
                return Err(Failure::Target {
                    target: target.display().to_string(),
                    reason: format!("it is {is} in the image, but {wants} is mounted there"),
                });
            }
            if !place.exists() && !paths.contains(&place.path) {
                absent.push(Absent { place: place.clone(), directory: *directory });
            }
        }
        paths.push(place.path);
    }
    Ok(Plan { paths, absent })
}

/// Makes a directory tree with the absent places, whose existing parents have the metadata that they have in `root`.
pub fn make_skeleton(skeleton: &Path, root: BorrowedFd<'_>, absent: &[Absent]) -> Result<(), Failure> {
    let doing = || format!("make mount points in {}", skeleton.display());
    match rustix::fs::mkdir(skeleton, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).failing(doing),
    }
    let mut times: Vec<(PathBuf, Timestamps)> =
        vec![(skeleton.into(), copy_metadata(root, Path::new(""), skeleton)?)];
    for Absent { place, directory } in absent {
        let names: Vec<_> = place.path.iter().collect();
        let mut inner = PathBuf::new();
        for (n, name) in names.iter().enumerate() {
            inner.push(name);
            let outer = skeleton.join(&inner);
            if n + 1 == names.len() && !directory {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(CWD, &outer, flags, Mode::from_raw_mode(0o644)).failing(doing)?;
                continue;
            }
            match rustix::fs::mkdir(&outer, Mode::from_raw_mode(0o755)) {
                Ok(()) if n < names.len() - place.missing => {
                    times.push((outer.clone(), copy_metadata(root, &inner, &outer)?));
                }
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).failing(doing),
            }
        }
    }
    for (path, times) in times {
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).failing(doing)?;
    }
    Ok(())
}

/// Gives the directory `to` mode, owner and attributes of a directory of the root, and returns the times it should get.
fn copy_metadata(root: BorrowedFd<'_>, inner: &Path, to: &Path) -> Result<Timestamps, Failure> {
    let doing = || format!("copy the metadata of /{} of the image", inner.display());
    let from = open_in(root, inner, OFlags::RDONLY | OFlags::DIRECTORY).failing(doing)?;
    let stat = fstat(&from).failing(doing)?;
    let _ = rustix::fs::chown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chmod(to, Mode::from_raw_mode(stat.st_mode)).failing(doing)?;
    let mut names = vec![0u8; 64 << 10];
    let length = rustix::fs::flistxattr(&from, names.as_mut_slice()).unwrap_or(0);
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        // The overlay's own marks speak of the layer they are in; others than these and ACLs a directory hardly has.
        if name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.") {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        if let Ok(length) = rustix::fs::fgetxattr(&from, name, value.as_mut_slice()) {
            let _ = rustix::fs::setxattr(to, name, &value[..length], XattrFlags::empty());
        }
    }
    Ok(times_of(&stat))
}

fn times_of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// Mount points made in the root itself, to be taken away after the run.
#[derive(Debug, Default)]
pub struct Created {
    /// Directory whose children they are: the root directory, or upper.
    base: PathBuf,
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    path: PathBuf,
    directory: bool,
    /// Something was deleted here by the layer in upper before.
    whiteout: bool,
    /// Times of the parent before and after.
    parent: Option<(Timestamps, Timestamps)>,
}

impl Created {
    /// Makes the absent places in `root`, whose changes go to the directory `base`.
    pub fn make(root: BorrowedFd<'_>, base: &Path, absent: &[Absent]) -> Result<Created, Failure> {
        let mut created = Created { base: base.into(), items: Vec::new() };
        let result = absent.iter().try_for_each(|absent| created.make_one(root, absent));
        if result.is_err() {
            created.remove();
        }
        result.map(|()| created)
    }

    fn make_one(&mut self, root: BorrowedFd<'_>, absent: &Absent) -> Result<(), Failure> {
        let Absent { place, directory } = absent;
        let doing = || format!("make the mount point /{}", place.path.display());
        let names: Vec<_> = place.path.iter().collect();
        let mut path: PathBuf = names[..names.len() - place.missing].iter().collect();
        for (n, name) in names.iter().enumerate().skip(names.len() - place.missing) {
            let parent = open_in(root, &path, OFlags::PATH | OFlags::DIRECTORY).failing(doing)?;
            let above = self.base.join(&path);
            path.push(name);
            let times = || rustix::fs::lstat(&above).ok().map(|stat| times_of(&stat));
            let whiteout = rustix::fs::lstat(above.join(name)).is_ok_and(|stat| is_whiteout(&stat));
            let before = times();
            let is_directory = *directory || n + 1 < names.len();
            let made = if is_directory {
                rustix::fs::mkdirat(&parent, *name, Mode::from_raw_mode(0o755))
            } else {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(&parent, *name, flags, Mode::from_raw_mode(0o644)).map(drop)
            };
            let after = times();
            match made {
                Ok(()) => self.items.push(Item {
                    path: path.clone(),
                    directory: is_directory,
                    whiteout,
                    parent: before.zip(after),
                }),
                // Made for an earlier place.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error).failing(doing),
            }
        }
        Ok(())
    }

    /// Takes them away again, as far as the command did not put something there.
    pub fn remove(&self) {
        for item in self.items.iter().rev() {
            let path = self.base.join(&item.path);
            let Some(parent) = path.parent() else { continue };
            let unchanged = item.parent.as_ref().is_some_and(|(_, after)| {
                rustix::fs::lstat(parent).is_ok_and(|stat| {
                    let now = times_of(&stat).last_modification;
                    (now.tv_sec, now.tv_nsec)
                        == (after.last_modification.tv_sec, after.last_modification.tv_nsec)
                })
            });
            let empty = item.directory || rustix::fs::lstat(&path).is_ok_and(|stat| stat.st_size == 0);
            let flags = if item.directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            if !empty || rustix::fs::unlinkat(CWD, &path, flags).is_err() {
                continue;
            }
            if item.whiteout {
                let _ = rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0);
            }
            if let Some((before, _)) = item.parent.as_ref().filter(|_| unchanged) {
                let _ = utimensat(CWD, parent, before, AtFlags::SYMLINK_NOFOLLOW);
            }
        }
    }
}

/// Whether it is a whiteout of an overlay: a character device 0/0.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn place(root: &Path, target: &str) -> (String, usize) {
        let fd = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("the root opens");
        let place = locate(fd.as_fd(), Path::new(target)).expect("the target is found");
        (place.path.display().to_string(), place.missing)
    }

    #[test]
    fn targets_are_found_inside_the_root() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path();
        std::fs::create_dir_all(root.join("etc/x")).expect("a directory");
        std::fs::create_dir_all(root.join("run")).expect("a directory");
        symlink("/run", root.join("varrun")).expect("a link");
        symlink("../../../../run/dangling/file", root.join("etc/resolv.conf")).expect("a link");
        symlink("../../../../../../tmp", root.join("etc/escape")).expect("a link");
        assert_eq!(place(root, "/etc/x"), ("etc/x".into(), 0));
        assert_eq!(place(root, "/varrun/a/b"), ("run/a/b".into(), 2));
        assert_eq!(place(root, "/etc/resolv.conf"), ("run/dangling/file".into(), 2));
        assert_eq!(place(root, "/../../etc/../etc/escape/q"), ("tmp/q".into(), 2));
        assert_eq!(place(root, "/nope/../etc"), ("etc".into(), 0));
    }

    #[test]
    fn a_loop_of_links_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        symlink("b", dir.path().join("a")).expect("a link");
        symlink("a", dir.path().join("b")).expect("a link");
        let fd = openat(CWD, dir.path(), OFlags::PATH, Mode::empty()).expect("the root opens");
        let error = locate(fd.as_fd(), Path::new("/a")).expect_err("a loop").to_string();
        assert!(error.contains("too many symbolic links"), "{error}");
    }

    #[test]
    fn places_made_in_a_directory_are_taken_away_with_the_times_put_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path();
        std::fs::create_dir(root.join("etc")).expect("a directory");
        let before = rustix::fs::stat(root.join("etc")).expect("metadata");
        let fd = openat(CWD, root, OFlags::PATH, Mode::empty()).expect("the root opens");
        let wanted = ["/etc/hosts", "/a/b/c"]
            .map(|target| Wanted { target: target.into(), directory: target.starts_with("/a") });
        let Plan { absent, .. } = plan(fd.as_fd(), &wanted).expect("a plan");
        assert_eq!(absent.len(), 2);
        let created = Created::make(fd.as_fd(), root, &absent).expect("mount points");
        assert!(root.join("etc/hosts").is_file() && root.join("a/b/c").is_dir());
        std::fs::write(root.join("a/kept"), "x").expect("a file");
        created.remove();
        assert!(!root.join("etc/hosts").exists());
        assert!(root.join("a/kept").exists() && !root.join("a/b").exists(), "what the command made stays");
        let after = rustix::fs::stat(root.join("etc")).expect("metadata");
        assert_eq!((before.st_mtime, before.st_mtime_nsec), (after.st_mtime, after.st_mtime_nsec));
    }
}
