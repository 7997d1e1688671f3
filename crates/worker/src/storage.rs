//! Blobs and results as files, named by digests. Files appear by rename, so several engines may share a
//! directory.

use std::fs::{self, DirBuilder, File, FileTimes};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use crossdock_oci::Digest as Sha256;
use crossdock_oci::digest::{Hasher, Hashing};
use crossdock_oci::name::random_name;
use prost::Message;

/// Modes of blobs: files, and programs.
const MODES: [u32; 2] = [0o444, 0o555];

/// A directory of blobs.
#[derive(Clone, Debug)]
pub struct Storage {
    root: PathBuf,
}

/// A blob that is being written; removed unless it is kept.
pub struct Writing {
    storage: Storage,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: i64,
    is_kept: bool,
}

impl Storage {
    /// Opens a directory, or makes one that only this user reads.
    pub fn open(root: &Path) -> io::Result<Storage> {
        for name in ["blobs", "programs", "results", "tmp"] {
            DirBuilder::new().recursive(true).mode(0o700).create(root.join(name))?;
        }
        Ok(Storage { root: root.to_path_buf() })
    }

    /// The file of a blob. `None` if the digest is none.
    pub fn path(&self, digest: &reapi::Digest) -> Option<PathBuf> {
        Some(self.root.join("blobs").join(hex(digest)?))
    }

    /// Whether a blob is here; it is then kept for a while.
    pub fn has(&self, digest: &reapi::Digest) -> bool {
        self.open_blob(digest).is_some()
    }

    /// A blob, if it is here; it is then kept for a while.
    pub fn open_blob(&self, digest: &reapi::Digest) -> Option<File> {
        let file = File::open(self.path(digest)?).ok()?;
        let is_whole = file.metadata().is_ok_and(|meta| i64::try_from(meta.len()) == Ok(digest.size_bytes));
        is_whole.then_some(())?;
        let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        Some(file)
    }

    /// The bytes of a small blob. The empty one is always here.
    pub fn read(&self, digest: &reapi::Digest) -> Option<Vec<u8>> {
        if digest.size_bytes == 0 {
            return Some(Vec::new());
        }
        let mut bytes = Vec::new();
        self.open_blob(digest)?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// A blob as a message.
    pub fn message<T: Message + Default>(&self, digest: &reapi::Digest) -> Option<T> {
        T::decode(self.read(digest)?.as_slice()).ok()
    }

    /// Begins to write a blob.
    pub fn writing(&self) -> io::Result<Writing> {
        let path = self.temporary();
        let file = File::create_new(&path)?;
        Ok(Writing { storage: self.clone(), path, file, hasher: Hasher::sha256(), size: 0, is_kept: false })
    }

    /// Keeps bytes as a blob.
    pub fn keep(&self, bytes: &[u8]) -> io::Result<reapi::Digest> {
        let mut writing = self.writing()?;
        writing.write_all(bytes)?;
        writing.keep()
    }

    /// Keeps the content of a file as a blob.
    pub fn keep_file(&self, path: &Path) -> io::Result<reapi::Digest> {
        let mut writing = self.writing()?;
        io::copy(&mut File::open(path)?, &mut writing)?;
        writing.keep()
    }

    /// The same for a large file that most likely is a blob already: it is read, and copied only if need be.
    pub fn keep_known_file(&self, path: &Path) -> io::Result<reapi::Digest> {
        let mut hashing = Hashing::new(io::sink());
        let size = io::copy(&mut File::open(path)?, &mut hashing)?;
        let hash = hashing.finish().1.hex().to_string();
        let digest = reapi::Digest { hash, size_bytes: i64::try_from(size).unwrap_or(i64::MAX) };
        if self.has(&digest) { Ok(digest) } else { self.keep_file(path) }
    }

    /// Puts a blob into a directory under a name.
    pub fn place(&self, digest: &reapi::Digest, is_executable: bool, to: &Path) -> io::Result<()> {
        if digest.size_bytes == 0 && !is_executable {
            return File::create_new(to).map(drop);
        }
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let blob = self.path(digest).ok_or_else(gone)?;
        // A blob that was a program once is one file with that, so whoever wants it otherwise gets a copy.
        let program = self.root.join("programs").join(hex(digest).ok_or_else(gone)?);
        if !is_executable && !program.exists() {
            return fs::hard_link(blob, to);
        }
        if !is_executable {
            fs::copy(blob, to)?;
            return fs::set_permissions(to, PermissionsExt::from_mode(MODES[0]));
        }
        fs::set_permissions(&blob, PermissionsExt::from_mode(MODES[1]))?;
        match fs::hard_link(&blob, &program) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::hard_link(blob, to),
        }
    }

    /// The result of an action, whether or not its files are here.
    pub fn result(&self, action: &reapi::Digest) -> Option<reapi::ActionResult> {
        let bytes = fs::read(self.root.join("results").join(hex(action)?)).ok()?;
        reapi::ActionResult::decode(bytes.as_slice()).ok()
    }

    /// Whether the files of a result are here.
    pub fn is_complete(&self, result: &reapi::ActionResult) -> bool {
        let digests = result.output_files.iter().filter_map(|file| file.digest.as_ref());
        let digests = digests.chain(&result.stdout_digest).chain(&result.stderr_digest);
        digests.into_iter().all(|digest| digest.size_bytes == 0 || self.has(digest))
    }

    /// Notes the result of an action.
    pub fn note_result(&self, action: &reapi::Digest, result: &reapi::ActionResult) -> io::Result<()> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "it is no digest");
        let path = self.root.join("results").join(hex(action).ok_or_else(wrong)?);
        let temporary = self.temporary();
        fs::write(&temporary, result.encode_to_vec())?;
        fs::rename(temporary, path)
    }

    /// A name for a file or directory that does not stay.
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp").join(random_name())
    }

    /// Removes what was not used for so long. What cannot be removed stays.
    pub fn prune(&self, unused: Duration) {
        for name in ["blobs", "programs", "results", "tmp"] {
            for entry in fs::read_dir(self.root.join(name)).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let is_old = meta.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > unused));
                if is_old {
                    let _ = match meta.is_dir() {
                        true => fs::remove_dir_all(entry.path()),
                        false => fs::remove_file(entry.path()),
                    };
                }
            }
        }
    }
}

impl Writing {
    /// Gives the blob its name.
    pub fn keep(mut self) -> io::Result<reapi::Digest> {
        let digest = reapi::Digest {
            hash: std::mem::replace(&mut self.hasher, Hasher::sha256()).finish().hex().to_string(),
            size_bytes: self.size,
        };
        let path = self.storage.path(&digest).expect("the hasher makes digests");
        self.file.set_permissions(PermissionsExt::from_mode(MODES[0]))?;
        fs::rename(&self.path, path)?;
        self.is_kept = true;
        Ok(digest)
    }
}

impl Write for Writing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.file.write(buffer)?;
        self.hasher.update(&buffer[..length]);
        self.size += length as i64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The digits of a digest; `None` for anything else, which could be a path.
fn hex(digest: &reapi::Digest) -> Option<String> {
    format!("sha256:{}", digest.hash).parse::<Sha256>().ok().map(|digest| digest.hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_kept_under_their_digests() {
        let directory = tempfile::tempdir().expect("a directory");
        let storage = Storage::open(directory.path()).expect("opened");
        let digest = storage.keep(b"hello").expect("kept");
        assert!(storage.has(&digest));
        assert_eq!(storage.read(&digest).as_deref(), Some(&b"hello"[..]));
        let file = directory.path().join("file");
        for content in ["hello", "other"] {
            fs::write(&file, content).expect("written");
            let kept = storage.keep_known_file(&file).expect("kept");
            assert_eq!((kept == digest, storage.has(&kept)), (content == "hello", true));
        }
        assert!(!storage.has(&reapi::Digest { size_bytes: 4, ..digest.clone() }));
        assert!(!storage.has(&reapi::Digest { hash: "../blobs/x".into(), size_bytes: 5 }));
        drop(storage.writing().expect("begun"));
        let left = fs::read_dir(directory.path().join("tmp")).expect("a directory").count();
        assert_eq!(left, 0, "what is not kept is removed");
        let program = directory.path().join("program");
        storage.place(&digest, true, &program).expect("placed");
        let data = directory.path().join("data");
        storage.place(&digest, false, &data).expect("placed");
        let modes = [&program, &data].map(|path| path.metadata().expect("it is there").permissions().mode());
        assert_eq!(modes.map(|mode| mode & 0o777), [0o555, 0o444]);
        assert_eq!(fs::read(&data).expect("read"), b"hello");
        storage.prune(Duration::from_secs(3600));
        assert!(storage.has(&digest));
    }

    #[test]
    fn a_result_without_its_files_is_incomplete() {
        let directory = tempfile::tempdir().expect("a directory");
        let storage = Storage::open(directory.path()).expect("opened");
        let (action, file) = (storage.keep(b"action").expect("kept"), storage.keep(b"file").expect("kept"));
        assert_eq!(storage.result(&action), None);
        let output = reapi::OutputFile { digest: Some(file.clone()), ..Default::default() };
        let result = reapi::ActionResult { output_files: vec![output], ..Default::default() };
        storage.note_result(&action, &result).expect("noted");
        assert_eq!(storage.result(&action).as_ref(), Some(&result));
        assert!(storage.is_complete(&result));
        fs::remove_file(storage.path(&file).expect("a digest")).expect("removed");
        assert!(!storage.is_complete(&result));
    }
}
