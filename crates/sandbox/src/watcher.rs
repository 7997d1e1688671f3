//! A process that kills the containers of a crossdock process that is gone.
//!
//! Pid 1 of a container dies with its monitor (`PR_SET_PDEATHSIG`), and the monitor kills it when crossdock
//! is gone. The kernel forgets the death signal when pid 1 changes its user, as `gosu` and `sudo` do, and the
//! monitor must live to kill. In case crossdock and the monitor end at once, one watcher for each crossdock
//! has the pidfds of its containers. See `docs/dev/sandbox.md`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::sys;
use crate::wire;

/// First argument that makes the executable the watcher.
pub const ARGUMENT: &str = "crossdock-sandbox-watch";

/// Name of the process (`comm`, at most 15 bytes): not crossdock's, so that `killall crossdock` spares the
/// watcher.
const NAME: &std::ffi::CStr = c"container-watch";

/// Hands a container's pid 1 to the watcher of this process; the first call starts the watcher.
///
/// Does nothing if that fails: the container is then as safe as its monitor.
pub fn watch(container: BorrowedFd<'_>, executable: &Path) {
    static SOCKET: OnceLock<Option<OwnedFd>> = OnceLock::new();
    if let Some(socket) = SOCKET.get_or_init(|| start(executable).ok()) {
        let _ = wire::send(socket.as_fd(), &(), &[container]);
    }
}

/// Starts the watcher; it ends when the returned socket is closed.
fn start(executable: &Path) -> io::Result<OwnedFd> {
    let (socket, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Command::new(executable)
        .arg0("container-watch")
        .arg(ARGUMENT)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()?;
    Ok(socket)
}

/// Runs the watcher on the socket at descriptor 0 and ends the process.
pub fn main() -> ! {
    // Signals to the parent's group are not for this process.
    let _ = rustix::process::setsid();
    let _ = sys::set_process_name(NAME);
    // Only the end of the parent ends the watcher.
    sys::block_all_signals();
    let containers = serve(rustix::stdio::stdin());
    for container in &containers {
        let _ = sys::signal_process(container.as_fd(), libc::SIGKILL);
    }
    sys::exit_now(0)
}

/// Collects containers until the parent is gone; returns those that still run.
fn serve(parent: BorrowedFd<'_>) -> Vec<OwnedFd> {
    let mut containers: Vec<OwnedFd> = Vec::new();
    loop {
        let mut watched = vec![PollFd::from_borrowed_fd(parent, PollFlags::IN)];
        watched.extend(containers.iter().map(|c| PollFd::new(c, PollFlags::IN)));
        match poll(&mut watched, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return containers,
            Ok(_) => {}
        }
        let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(watched);
        // A pidfd is readable when its process has ended.
        let mut ended = ready[1..].iter();
        containers.retain(|_| ended.next() == Some(&false));
        if ready[0] {
            match wire::receive::<()>(parent) {
                Ok(Some(((), descriptors))) => containers.extend(descriptors),
                Ok(None) | Err(_) => return containers,
            }
        }
    }
}
