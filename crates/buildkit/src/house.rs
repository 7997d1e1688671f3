//! What all builds of a server share.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use crossdock_builder::devices::Devices;
use crossdock_builder::{Farm, Shared};
use crossdock_oci::{Digest, Store};
use crossdock_platform::Platform;
use crossdock_registry::{Client, Progress};
use crossdock_sandbox::Emulator;

use crate::history::History;
use crate::image::Unwrittens;
use crate::session::Sessions;

/// Asks for user name and password for a registry (`HOST[:PORT]`).
pub type Login = Arc<dyn Fn(&str) -> Result<Option<(String, String)>> + Send + Sync>;

/// What a server needs of the program that it is part of.
pub trait Desk: Send + Sync {
    /// A handle of the store with leases of its own.
    ///
    /// # Errors
    ///
    /// The store cannot be opened.
    fn store(&self) -> Result<Store>;

    /// A client of registries that reports to `progress`. What `login` says comes before the credentials of
    /// this machine.
    ///
    /// # Errors
    ///
    /// The configuration cannot be read.
    fn client(&self, login: Option<Login>, progress: Arc<dyn Progress>) -> Result<Client>;

    /// The emulator for a platform that this machine does not run itself. The error is a sentence.
    fn emulator(&self, platform: &Platform) -> Result<Emulator, String>;

    /// The platforms that this machine runs, its own first.
    fn platforms(&self) -> Vec<Platform>;

    /// Steps of a build that may execute at once.
    fn jobs(&self) -> usize;

    /// The devices that this machine describes.
    fn devices(&self) -> Devices {
        Devices::default()
    }

    /// Other machines that execute commands of Dockerfiles.
    fn farm(&self) -> Option<&dyn Farm> {
        None
    }

    /// Whether clients may not grant their builds a right, such as `security.insecure`.
    fn denies(&self, entitlement: &str) -> bool;
}

/// What all builds share.
pub(crate) struct House {
    pub desk: Arc<dyn Desk>,
    pub sessions: Arc<Sessions>,
    pub history: History,
    /// Steps that several builds need are executed once.
    pub shared: Shared,
    /// Results that clients may give to other builds.
    pub unwritten: Unwrittens,
    /// Names the only worker.
    pub worker: String,
    /// The store's directory.
    pub root: PathBuf,
}

impl House {
    /// A house on the store of this desk.
    pub fn new(desk: Arc<dyn Desk>) -> Result<House> {
        let store = desk.store()?;
        let worker = Digest::of(store.root().as_os_str().as_encoded_bytes()).hex()[..25].to_string();
        let history = History::open(&store)?;
        let root = store.root().to_path_buf();
        Ok(House {
            desk,
            sessions: Arc::default(),
            history,
            shared: Shared::default(),
            unwritten: Unwrittens::default(),
            worker,
            root,
        })
    }
}
