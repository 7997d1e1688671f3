//! Reads whole files that a user names or a context holds, up to a limit, without waiting for a writer that
//! never comes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Which kinds of file are accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Only a regular file: for files of a context, which somebody else may have made.
    Regular,
    /// Also what a user may name: a pipe, such as the shell's `<(command)`, or `/dev/stdin`.
    Any,
}

/// All bytes of a file of at most `limit` bytes. `Ok(None)` if there is no such file.
///
/// # Errors
///
/// The file cannot be read, is larger than `limit`, is not of these kinds, or is a named pipe without a
/// writer. The error names the file.
pub fn read_if_there(path: &Path, limit: u64, kinds: Kinds) -> Result<Option<Vec<u8>>> {
    match open(path) {
        Ok(file) => read(file, path, limit, kinds).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}

/// All bytes of a file that must exist.
pub fn read_whole(path: &Path, limit: u64, kinds: Kinds) -> Result<Vec<u8>> {
    let file = open(path).with_context(|| format!("read {}", path.display()))?;
    read(file, path, limit, kinds)
}

/// Opens without waiting for a writer.
fn open(path: &Path) -> io::Result<File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    File::options().read(true).custom_flags(nonblocking).open(path)
}

fn read(file: File, path: &Path, limit: u64, kinds: Kinds) -> Result<Vec<u8>> {
    let shown = path.display();
    let failed = || format!("read {shown}");
    let kind = file.metadata().with_context(failed)?.file_type();
    if kind.is_dir() {
        bail!("read {shown}: it is a directory");
    }
    if !kind.is_file() && (kinds == Kinds::Regular || kind.is_block_device()) {
        bail!("read {shown}: it is not a regular file");
    }
    // From here on a read waits for an existing writer.
    let flags = rustix::fs::fcntl_getfl(&file).with_context(failed)?;
    rustix::fs::fcntl_setfl(&file, flags - rustix::fs::OFlags::NONBLOCK).with_context(failed)?;
    let mut bytes = Vec::new();
    (&file).take(limit + 1).read_to_end(&mut bytes).with_context(failed)?;
    if bytes.len() as u64 > limit {
        bail!("read {shown}: larger than {limit} bytes, the limit");
    }
    if bytes.is_empty() && kind.is_fifo() && has_name(&file) {
        bail!("read {shown}: it is a named pipe, and nobody writes to it");
    }
    Ok(bytes)
}

/// Whether a pipe has a name in a directory; the pipe of a shell's `<(command)` has none.
fn has_name(pipe: &File) -> bool {
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(pipe));
    std::fs::read_link(link).is_ok_and(|target| target.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_ends_with_its_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "12345").expect("writable");
        let read = |path: &Path, kinds| read_whole(path, 5, kinds);
        assert_eq!(read(&file, Kinds::Regular).expect("fits"), b"12345");
        assert_eq!(read(Path::new("/dev/null"), Kinds::Any).expect("nothing"), b"");
        let pipe = directory.path().join("pipe");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        );
        made.expect("made");
        std::fs::write(directory.path().join("large"), "123456").expect("writable");
        for (path, kinds, reason) in [
            (pipe.clone(), Kinds::Any, "nobody writes"),
            (pipe, Kinds::Regular, "not a regular file"),
            ("/dev/zero".into(), Kinds::Any, "larger than 5 bytes"),
            ("/dev/zero".into(), Kinds::Regular, "not a regular file"),
            (directory.path().join("large"), Kinds::Any, "larger than 5 bytes"),
            (directory.path().to_path_buf(), Kinds::Any, "a directory"),
            (directory.path().join("absent"), Kinds::Any, "No such file"),
        ] {
            let error = format!("{:#}", read(&path, kinds).expect_err(reason));
            assert!(error.contains(reason) && error.contains(&path.display().to_string()), "{error}");
        }
        let absent = read_if_there(&directory.path().join("absent"), 5, Kinds::Any);
        assert_eq!(absent.expect("that is no error"), None);
    }

    #[test]
    fn pipes_are_read_to_their_end() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        io::Write::write_all(&mut writer, b"1234").expect("room");
        drop(writer);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert_eq!(read_whole(Path::new(&path), 5, Kinds::Any).expect("fits"), b"1234");
        assert_eq!(read_whole(Path::new(&path), 5, Kinds::Any).expect("its writer ended"), b"");
    }
}
