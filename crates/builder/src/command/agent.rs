//! The socket of an SSH agent for a step. The user that the mount names owns it, since only the building user
//! can use the agent's own socket. Bytes are passed between the two sockets.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossdock_oci::store::TemporaryDirectory;

/// Connections at once: a command that opens more must wait.
const CONNECTIONS_MAX: usize = 64;

/// A socket that leads to an agent until it is dropped.
pub struct AgentSocket {
    directory: TemporaryDirectory,
    /// The directory, open: a socket's address has room for 107 bytes (unix(7)), and a path of the store may
    /// be longer.
    open: File,
    is_over: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl AgentSocket {
    /// Makes the socket in a directory of its own.
    ///
    /// # Errors
    ///
    /// Those of socket(2), bind(2), chmod(2), and of a thread that cannot start.
    pub fn new(
        directory: TemporaryDirectory,
        agent: &Path,
        (uid, gid): (u32, u32),
        mode: u32,
    ) -> io::Result<AgentSocket> {
        let open = File::open(directory.path())?;
        let path = address(&open);
        let listener = UnixListener::bind(&path)?;
        // A single id cannot give files away.
        let _ = chown(&path, Some(uid), Some(gid));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, agent) = (is_over.clone(), agent.to_path_buf());
        let listening = std::thread::Builder::new().spawn(move || accept(&listener, &agent, &over))?;
        Ok(AgentSocket { directory, open, is_over, listening: Some(listening) })
    }

    /// Path of the socket.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("agent")
    }
}

/// A short address of the socket in an open directory.
fn address(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/agent", directory.as_raw_fd()))
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread. Open connections are served until one side hangs up.
        if UnixStream::connect(address(&self.open)).is_ok()
            && let Some(listening) = self.listening.take()
        {
            let _ = listening.join();
        }
    }
}

fn accept(listener: &UnixListener, agent: &Path, is_over: &AtomicBool) {
    let connections = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        // If the agent is gone, the client is hung up on, as by an agent that refuses to answer.
        let Ok(server) = UnixStream::connect(agent) else { continue };
        if connections.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            connections.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let connections = connections.clone();
        let serve = move || {
            let _ = serve(&client, &server);
            connections.fetch_sub(1, Ordering::SeqCst);
        };
        if std::thread::Builder::new().spawn(serve).is_err() {
            return;
        }
    }
}

/// Copies both ways until both sides have hung up.
fn serve(client: &UnixStream, server: &UnixStream) -> io::Result<()> {
    std::thread::scope(|threads| {
        std::thread::Builder::new().spawn_scoped(threads, || copy(client, server))?;
        copy(server, client);
        Ok(())
    })
}

fn copy(mut from: &UnixStream, mut to: &UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn words_go_both_ways_until_it_is_dropped() {
        let store_directory = tempfile::tempdir().expect("a directory");
        let store = crossdock_oci::Store::open(store_directory.path()).expect("a store");
        let agent = store_directory.path().join("real");
        let real = UnixListener::bind(&agent).expect("a socket");
        let answers = std::thread::spawn(move || {
            for client in real.incoming().take(2) {
                let mut client = client.expect("a client");
                let mut question = [0; 2];
                client.read_exact(&mut question).expect("a question");
                client.write_all(&question).expect("an answer");
            }
        });
        let directory = store.temporary_directory().expect("a directory");
        let socket = AgentSocket::new(directory, &agent, (0, 0), 0o600).expect("a socket");
        for _ in 0..2 {
            let mut client = UnixStream::connect(address(&socket.open)).expect("there");
            client.write_all(b"hi").expect("written");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("an answer");
            assert_eq!(answer, "hi");
        }
        answers.join().expect("the agent answers");
        let path = socket.path();
        drop(socket);
        assert!(!path.exists());
    }
}
