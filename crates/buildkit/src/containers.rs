//! The containers that a build has open: each is a thread that takes processes to start, see `container.rs`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use bollard_buildkit_proto::moby::buildkit::v1::frontend::{ExecMessage, InitMessage};
use crossdock_sandbox::Window;
use tonic::Status;

/// Where the messages of a process go.
pub type Outgoing = tokio::sync::mpsc::Sender<Result<ExecMessage, Status>>;

/// A process that a container is to start.
pub struct Start {
    /// Its name.
    pub id: String,
    /// What it is.
    pub init: InitMessage,
    /// What the client sends it.
    pub input: mpsc::Receiver<Input>,
    /// Takes what it says.
    pub outgoing: Outgoing,
}

/// What a client sends to a process.
pub enum Input {
    /// Bytes for its standard input.
    Data(Vec<u8>),
    /// The standard input has ended.
    End,
    /// The terminal has another size.
    Resize(Window),
    /// A signal by its number.
    Signal(i32),
}

/// The containers of a build, by the names that the client gave them. A container whose sender is dropped
/// ends its processes.
#[derive(Default)]
pub struct Containers(Mutex<HashMap<String, mpsc::Sender<Start>>>);

impl Containers {
    fn all(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Start>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a container known.
    pub fn add(&self, id: String, sender: mpsc::Sender<Start>) {
        self.all().insert(id, sender);
    }

    /// Ends the processes of a container and drops it; nothing if there is none.
    pub fn release(&self, id: &str) {
        self.all().remove(id);
    }

    /// Ends all containers.
    pub fn close(&self) {
        self.all().clear();
    }

    /// Starts processes in a container; `None` if there is none.
    pub fn sender(&self, id: &str) -> Option<mpsc::Sender<Start>> {
        self.all().get(id).cloned()
    }
}
