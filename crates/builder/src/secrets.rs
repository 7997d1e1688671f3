//! Secrets and SSH agents, asked for when a step that needs them is executed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A build secret; never shown.
#[derive(Clone)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Where secrets and agents come from. A step whose result is known asks for none.
pub trait Secrets: Sync {
    /// The secret of an id; `None` if there is none. The error is a sentence for the user.
    fn secret(&self, id: &str) -> Result<Option<Secret>, String>;

    /// The socket of the SSH agent of an id; `None` if there is none. The error is a sentence for the user.
    fn agent(&self, id: &str) -> Result<Option<PathBuf>, String>;
}

/// Secrets and agents that are known when the build begins.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Secrets by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of agents by id.
    pub agents: BTreeMap<String, PathBuf>,
}

impl Secrets for Given {
    fn secret(&self, id: &str) -> Result<Option<Secret>, String> {
        Ok(self.secrets.get(id).cloned())
    }

    fn agent(&self, id: &str) -> Result<Option<PathBuf>, String> {
        Ok(self.agents.get(id).cloned())
    }
}
