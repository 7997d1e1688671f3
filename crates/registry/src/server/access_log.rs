//! The access log: one line per request in the "combined" format of Apache and nginx, followed by the time in
//! milliseconds. Queries and headers other than the client's name are left out, since they may hold secrets.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use jiff::Timestamp;

/// Most lines that wait to be written; further lines are dropped and counted, so an unread pipe blocks
/// nobody.
const LINES: usize = 4096;

/// Accepts lines for the log.
#[derive(Clone)]
pub(super) struct AccessLog(SyncSender<String>);

/// A file that lines are appended to. If it was renamed or removed, a new file is begun under its name.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<LogFile> {
        Ok(LogFile { path: path.to_path_buf(), file: append_to(path)? })
    }

    /// Checks whether the name still leads to the file. If the new file cannot be opened, the next lines go
    /// to the old file, and each tries again.
    fn follow(&mut self) {
        let Ok(ours) = self.file.metadata() else { return };
        let moved = match fs::metadata(&self.path) {
            Ok(there) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        };
        if moved
            && ours.is_file()
            && let Ok(file) = append_to(&self.path)
        {
            self.file = file;
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    // Each write goes to the current end of the file, also after it was truncated.
    File::options().create(true).append(true).open(path)
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.follow();
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The logged facts of a request.
pub(super) struct Entry {
    pub(super) address: IpAddr,
    pub(super) user: Option<String>,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) agent: String,
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) duration: Duration,
}

impl AccessLog {
    /// Writes on a separate thread, until the last clone is dropped.
    pub(super) fn new(mut output: Box<dyn Write + Send>) -> AccessLog {
        let (sender, receiver) = sync_channel::<String>(LINES);
        let write = move || {
            while let Ok(line) = receiver.recv() {
                let mut text = line;
                // Waiting lines are written together with this one.
                text.extend(receiver.try_iter().take(100));
                let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
            }
        };
        // Without a thread nothing is received, and all lines count as lost.
        let _ = std::thread::Builder::new().name("access-log".to_string()).spawn(write);
        AccessLog(sender)
    }

    /// Whether the line was taken.
    pub(super) fn write(&self, entry: &Entry) -> bool {
        self.0.try_send(line(entry, Timestamp::now())).is_ok()
    }
}

fn line(entry: &Entry, now: Timestamp) -> String {
    let time = now.strftime("%d/%b/%Y:%H:%M:%S +0000");
    let user = entry.user.as_deref().map_or("-".to_string(), harmless);
    format!(
        "{} - {user} [{time}] \"{} {} HTTP/1.1\" {} {} \"-\" \"{}\" {}\n",
        entry.address,
        harmless(&entry.method),
        harmless(&entry.path),
        entry.status,
        entry.bytes,
        harmless(&entry.agent),
        entry.duration.as_millis(),
    )
}

/// Escapes a text so that it cannot end a field or a line, nor steer a terminal.
fn harmless(text: &str) -> String {
    let mut harmless = String::new();
    for c in text.chars().take(500) {
        match c {
            '"' | '\\' => harmless.extend(['\\', c]),
            c if c.is_control() => harmless.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => harmless.push(c),
        }
    }
    if harmless.is_empty() { "-".to_string() } else { harmless }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_cannot_be_forged() {
        let entry = Entry {
            address: [192, 0, 2, 1].into(),
            user: Some("al\"ice\n".to_string()),
            method: "GET".to_string(),
            path: "/v2/\u{1b}[31m".to_string(),
            agent: String::new(),
            status: 200,
            bytes: 5,
            duration: Duration::from_millis(12),
        };
        let now = "2026-11-29T02:03:04.5Z".parse().expect("a time");
        assert_eq!(
            line(&entry, now),
            "192.0.2.1 - al\\\"ice\\x0a [29/Nov/2026:02:03:04 +0000] \"GET /v2/\\x1b[31m HTTP/1.1\" 200 5 \"-\" \"-\" 12\n"
        );
    }
}
