//! `login` and `logout`.

use super::{Client, ClientOptions};
use crate::credentials::Credential;
use crate::error::Result;

impl Client {
    /// Verifies credentials at a registry, then keeps them where Docker and Podman find them. Returns the file, or the
    /// helper's name, that has them now.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Unauthorized`] if the registry does not take them; nothing is stored then.
    pub fn login(&self, registry: &str, credential: &Credential) -> Result<String> {
        // A client of its own: cached tokens of other credentials would prove nothing.
        let options = ClientOptions {
            credentials: self.credentials().clone().with(registry, credential.clone()),
            ..self.options().clone()
        };
        Client::new(options).ping(registry)?;
        self.credentials().store(registry, credential)
    }

    /// Forgets the credentials of a registry.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NotLoggedIn`] if there are none.
    pub fn logout(&self, registry: &str) -> Result<()> {
        self.credentials().erase(registry)
    }
}
