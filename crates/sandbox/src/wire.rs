//! Messages between parent, monitor and container over one `SOCK_SEQPACKET` socket: short JSON, with
//! descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::Failure;

/// Most descriptors in one message (`SCM_MAX_FD`).
pub const DESCRIPTORS_MAX: usize = 253;

/// Longest message in bytes. The specification is not in a message but in a memfd.
const MESSAGE_MAX: usize = 64 << 10;

/// A message from the parent.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// The first message. Its descriptors: memfd of the specification, standard input if `stdin`, then those
    /// of the specification's binds in order.
    Run {
        /// Whether there is a descriptor for standard input; otherwise it is `/dev/null`.
        stdin: bool,
        /// Create a terminal inside and send its other end back.
        terminal: Option<Window>,
    },
    /// Send this signal to pid 1.
    Signal(i32),
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// A message to the parent.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The command was not started. `Exited` follows.
    Failed(Failure),
    /// The descriptor is the pidfd of pid 1, which the parent kills if the monitor ends without a report.
    Container,
    /// The descriptor is the terminal's outer end.
    Terminal,
    /// The last message: the container is gone, and so is everything that it must not leave behind.
    Exited {
        /// Exit code, if it ended by itself.
        code: Option<i32>,
        /// Signal, if one killed it.
        signal: Option<i32>,
    },
}

/// Sends one message.
///
/// Errors: also for a message of more than [`MESSAGE_MAX`] bytes, which the other side could not read.
pub fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    if json.len() > MESSAGE_MAX {
        return Err(io::Error::other(format!("a message of {} bytes for a sandbox", json.len())));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("more than {DESCRIPTORS_MAX} descriptors for a sandbox")));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(&json)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => continue,
            other => return other.map(drop).map_err(io::Error::from),
        }
    }
}

/// Receives one message; `None` when the other side is gone.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        match recvmsg(&socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            descriptors.extend(list);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..received.bytes])?, descriptors)))
}
