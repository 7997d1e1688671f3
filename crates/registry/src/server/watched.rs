//! Configuration files that are read again when they change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Shortest time between two checks of the files.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Reports something to the operator, such as a file that cannot be read any more.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

type Read<T> = dyn Fn(&[Vec<u8>]) -> Result<T> + Send + Sync;

/// The value that some files hold. An invalid new version is reported, and the old one stays in force.
pub(super) struct Watched<T> {
    paths: Vec<PathBuf>,
    /// Reads a value from the files' contents; the error names the file.
    read: Box<Read<T>>,
    notice: Notice,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    stamps: Vec<Stamp>,
    looked: Instant,
}

/// Attributes that change when a file is written or replaced.
#[derive(PartialEq, Eq, Clone, Copy, Default)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T> Watched<T> {
    /// Reads the files for the first time.
    pub(super) fn open(
        paths: &[&Path],
        notice: Notice,
        read: impl Fn(&[Vec<u8>]) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Watched<T>> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        let stamps = paths.iter().map(|path| stamp(path)).collect();
        let value = Arc::new(read(&contents(&paths)?)?);
        let state = Mutex::new(State { value, stamps, looked: Instant::now() });
        Ok(Watched { paths, read: Box::new(read), notice, state })
    }

    /// The current value.
    pub(super) fn get(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            // Taken before the files are read, so the next check sees changes made in between.
            let stamps: Vec<Stamp> = self.paths.iter().map(|path| stamp(path)).collect();
            if stamps != state.stamps {
                state.stamps = stamps;
                match contents(&self.paths).and_then(|all| (self.read)(&all)) {
                    Ok(value) => state.value = Arc::new(value),
                    Err(e) => (self.notice)(&format!("{e}; what was read before stays in force")),
                }
            }
        }
        state.value.clone()
    }
}

fn contents(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    paths.iter().map(|path| fs::read(path).map_err(Error::io(path))).collect()
}

/// Zeros for a file that is not there.
fn stamp(path: &Path) -> Stamp {
    let Ok(metadata) = fs::metadata(path) else { return Stamp::default() };
    Stamp {
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}
