//! The places of mounts inside a root: found without leaving the root, and created without a trace if
//! missing.
//!
//! See "Mount points leave no trace" in `docs/dev/sandbox.md`.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fstat,
    futimens, readlinkat,
};
use rustix::io::Errno;

use crate::dir::{Dir, FileId};
use crate::error::{Doing, Failure};

/// Most symbolic links that are followed, as in the kernel (`MAXSYMLINKS`).
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

/// Finds where `target` leads in `root`.
pub fn locate(root: &Dir, target: &Path) -> Result<Place, Failure> {
    let refuse = |reason: String| Failure::Target { target: target.display().to_string(), reason };
    let mut pending: VecDeque<OsString> = components(target);
    // Directories entered so far, by name; the root itself is not in the list.
    let mut entered: Vec<(OsString, Dir)> = Vec::new();
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
        let current = entered.last().map_or(root, |(_, directory)| directory);
        let found = match current.open_real(&name, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => {
                missing.push(name);
                continue;
            }
            Err(error) => return Err(refuse(format!("{}: {error}", name.display()))),
        };
        let stat = fstat(&found).failing(|| format!("look at {}", target.display()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => entered.push((name, found.into())),
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
    /// Whether a directory is wanted; otherwise a file.
    pub directory: bool,
}

/// A wanted place that the root lacks.
#[derive(Debug, Clone)]
pub struct Absent {
    /// Where it is missing.
    pub place: Place,
    /// Whether a directory is wanted; otherwise a file.
    pub directory: bool,
}

/// What [`plan`] finds.
#[derive(Debug)]
pub struct Plan {
    /// Real paths of all wanted places, in order.
    pub paths: Vec<PathBuf>,
    /// Places that must be created in the root itself.
    pub absent: Vec<Absent>,
}

/// Finds all wanted places, in the order in which they will be mounted.
///
/// A place below an earlier one will be on that one's mount, so its absence from the root does not matter.
pub fn plan(root: &Dir, wanted: &[Wanted]) -> Result<Plan, Failure> {
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

/// Fills an empty directory with the absent places; its directories get the metadata of the directories of
/// `root` that they cover.
pub fn make_skeleton(skeleton: &Dir, root: &Dir, absent: &[Absent]) -> Result<(), Failure> {
    let doing = || "make mount points beside the layers".to_string();
    let mut times: Vec<(PathBuf, Timestamps)> = vec![(PathBuf::new(), copy_metadata(root, "", skeleton)?)];
    // The directories of the skeleton so far; `numbers` has their indices by path.
    let mut known: Vec<Dir> = vec![skeleton.dir("").failing(doing)?];
    let mut numbers: HashMap<OsString, usize> = HashMap::new();
    for Absent { place, directory } in absent {
        let names: Vec<_> = place.path.iter().collect();
        let (mut path, mut parent) = (PathBuf::new(), 0);
        for (n, name) in names.iter().enumerate() {
            path.push(name);
            if let Some(found) = numbers.get(path.as_os_str()) {
                parent = *found;
                continue;
            }
            let is_directory = *directory || n + 1 < names.len();
            match known[parent].make_place(name, is_directory) {
                Ok(()) | Err(Errno::EXIST) if !is_directory => continue,
                Ok(()) => {}
                Err(error) => return Err(error).failing(doing),
            }
            let made = known[parent].dir(name).failing(doing)?;
            if n < names.len() - place.missing {
                times.push((path.clone(), copy_metadata(root, &path, &made)?));
            }
            parent = known.len();
            known.push(made);
            numbers.insert(path.clone().into_os_string(), parent);
        }
    }
    for (path, times) in times {
        let made = skeleton.open_real(&path, OFlags::RDONLY | OFlags::DIRECTORY).failing(doing)?;
        futimens(&made, &times).failing(doing)?;
    }
    Ok(())
}

/// Gives a directory the mode, owner and attributes of a directory of the root, and returns the times it
/// should get.
fn copy_metadata(root: &Dir, path: impl AsRef<Path>, to: &Dir) -> Result<Timestamps, Failure> {
    let path = path.as_ref();
    let doing = || format!("copy the metadata of /{} of the image", path.display());
    let readable = OFlags::RDONLY | OFlags::DIRECTORY;
    let from = root.open_real(path, readable).failing(doing)?;
    let to = to.open_real(".", readable).failing(doing)?;
    let stat = fstat(&from).failing(doing)?;
    let _ = fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    fchmod(&to, Mode::from_raw_mode(stat.st_mode)).failing(doing)?;
    let mut names = vec![0u8; 64 << 10];
    let length = rustix::fs::flistxattr(&from, names.as_mut_slice()).unwrap_or(0);
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        // The overlay's own marks are about the layer they are in. Directories hardly have others besides
        // these and ACLs.
        if name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.") {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        if let Ok(length) = rustix::fs::fgetxattr(&from, name, value.as_mut_slice()) {
            let _ = rustix::fs::fsetxattr(&to, name, &value[..length], XattrFlags::empty());
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

/// Mount points created in the root itself, to be removed after the run.
///
/// A command can rename their parents and put something else in the place. So each mount point is identified
/// by its parent directory, which stays open, and by its inode; no path is looked up again.
#[derive(Debug, Default)]
pub struct Created(Vec<Item>);

#[derive(Debug)]
struct Item {
    /// Open for reading, so that its times can be set.
    parent: Dir,
    name: OsString,
    /// The mount point. Open, so that no other file gets its inode number.
    made: OwnedFd,
    directory: bool,
    /// Whether upper had a whiteout here before.
    whiteout: bool,
    /// Times of the parent before and after.
    times: (Timestamps, Timestamps),
}

impl Created {
    /// Creates the absent places in `root`, whose changes go to the directory `base`: the root itself, or
    /// upper.
    pub fn make(root: &Dir, base: &Dir, absent: &[Absent]) -> Result<Created, Failure> {
        let mut created = Created::default();
        let result = absent.iter().try_for_each(|absent| created.make_one(root, base, absent));
        if result.is_err() {
            created.remove();
        }
        result.map(|()| created)
    }

    fn make_one(&mut self, root: &Dir, base: &Dir, absent: &Absent) -> Result<(), Failure> {
        let Absent { place, directory } = absent;
        let doing = || format!("make the mount point /{}", place.path.display());
        let names: Vec<_> = place.path.iter().collect();
        let mut path: PathBuf = names[..names.len() - place.missing].iter().collect();
        for (n, name) in names.iter().enumerate().skip(names.len() - place.missing) {
            let parent = root.dir(&path).failing(doing)?;
            let is_directory = *directory || n + 1 < names.len();
            let before = fstat(parent.as_fd()).failing(doing)?;
            // Upper has the directory already only if something in it was changed before.
            let above = |path: &Path| base.open_real(path, OFlags::RDONLY | OFlags::DIRECTORY).map(Dir::from);
            let earlier = above(&path).ok().and_then(|directory| directory.stat(name).ok());
            let whiteout = earlier.is_some_and(|stat| is_whiteout(&stat));
            match parent.make_place(name, is_directory) {
                Ok(()) => {}
                // Created for an earlier place.
                Err(Errno::EXIST) => {
                    path.push(name);
                    continue;
                }
                Err(error) => return Err(error).failing(doing),
            }
            let parent = above(&path).failing(doing)?;
            let after = fstat(parent.as_fd()).failing(doing)?;
            self.0.push(Item {
                made: parent.open_real(name, OFlags::PATH | OFlags::NOFOLLOW).failing(doing)?,
                parent,
                name: name.to_os_string(),
                directory: is_directory,
                whiteout,
                times: (times_of(&before), times_of(&after)),
            });
            path.push(name);
        }
        Ok(())
    }

    /// Removes the mount points, except those that the command filled or replaced.
    pub fn remove(&self) {
        for item in self.0.iter().rev() {
            let Ok(now) = item.parent.stat(&item.name) else { continue };
            let same = fstat(&item.made).is_ok_and(|made| FileId::of(&made) == FileId::of(&now));
            if !same || (!item.directory && now.st_size != 0) {
                continue;
            }
            let unchanged = fstat(item.parent.as_fd()).is_ok_and(|stat| {
                let (now, then) = (times_of(&stat).last_modification, item.times.1.last_modification);
                (now.tv_sec, now.tv_nsec) == (then.tv_sec, then.tv_nsec)
            });
            if item.parent.remove(&item.name, item.directory).is_err() {
                continue;
            }
            if item.whiteout {
                let _ = item.parent.make_whiteout(&item.name);
            }
            if unchanged {
                let _ = futimens(item.parent.as_fd(), &item.times.0);
            }
        }
    }
}

/// Whether a file is a whiteout of an overlay: a character device 0/0.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of the test")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn opened(path: &Path) -> Dir {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).expect("the root opens").into()
    }

    fn place(root: &Path, target: &str) -> (String, usize) {
        let place = locate(&opened(root), Path::new(target)).expect("the target is found");
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
        let error = locate(&opened(dir.path()), Path::new("/a")).expect_err("a loop").to_string();
        assert!(error.contains("too many symbolic links"), "{error}");
    }

    #[test]
    fn places_made_in_a_directory_are_taken_away_with_the_times_put_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path();
        std::fs::create_dir(root.join("etc")).expect("a directory");
        let before = rustix::fs::stat(root.join("etc")).expect("metadata");
        let fd = opened(root);
        let wanted = ["/etc/hosts", "/a/b/c"]
            .map(|target| Wanted { target: target.into(), directory: target.starts_with("/a") });
        let Plan { absent, .. } = plan(&fd, &wanted).expect("a plan");
        assert_eq!(absent.len(), 2);
        let created = Created::make(&fd, &fd, &absent).expect("mount points");
        assert!(root.join("etc/hosts").is_file() && root.join("a/b/c").is_dir());
        std::fs::write(root.join("a/kept"), "x").expect("a file");
        created.remove();
        assert!(!root.join("etc/hosts").exists());
        assert!(root.join("a/kept").exists() && !root.join("a/b").exists(), "what the command made stays");
        let after = rustix::fs::stat(root.join("etc")).expect("metadata");
        assert_eq!((before.st_mtime, before.st_mtime_nsec), (after.st_mtime, after.st_mtime_nsec));
    }

    #[test]
    fn what_a_command_put_in_their_place_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (root, host) = (dir.path().join("root"), dir.path().join("host"));
        std::fs::create_dir_all(host.join("empty")).expect("a directory");
        std::fs::write(host.join("hosts"), "").expect("a file");
        std::fs::create_dir(&root).expect("a directory");
        let fd = opened(&root);
        let wanted = ["/etc/hosts", "/etc/empty", "/y/empty", "/own/x"]
            .map(|target| Wanted { target: target.into(), directory: !target.ends_with("hosts") });
        let Plan { absent, .. } = plan(&fd, &wanted).expect("a plan");
        let created = Created::make(&fd, &fd, &absent).expect("mount points");
        for name in ["etc", "y"] {
            std::fs::rename(root.join(name), root.join(format!("{name}2"))).expect("renamed");
            symlink(&host, root.join(name)).expect("a link");
        }
        // Another file of the same name is not the one that was made.
        std::fs::remove_dir(root.join("own/x")).expect("removed");
        std::fs::create_dir(root.join("own/x")).expect("a directory");
        created.remove();
        assert!(host.join("empty").exists() && host.join("hosts").exists(), "the host's files stay");
        assert!(!root.join("etc2/hosts").exists() && !root.join("y2/empty").exists(), "ours go");
        assert!(root.join("etc").is_symlink() && root.join("y").is_symlink());
        assert!(root.join("own/x").exists(), "the command's own directory stays");
    }
}
