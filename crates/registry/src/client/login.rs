//! `login` and `logout`.

use super::{Client, ClientOptions};
use crate::credentials::Credential;
use crate::error::{Error, Result};

impl Client {
    /// Verifies credentials at a registry, then stores them where Docker and Podman find them. Returns the
    /// file, or the name of the helper, that now holds them.
    ///
    /// # Errors
    ///
    /// [`Error::WrongCredentials`] if the registry rejects them; then nothing is stored.
    pub fn login(&self, registry: &str, credential: &Credential) -> Result<String> {
        // A new client, since cached tokens of other credentials would prove nothing.
        let options = ClientOptions {
            credentials: self.credentials().clone().with(registry, credential.clone()),
            ..self.options().clone()
        };
        Client::new(options).ping(registry).map_err(|error| match error {
            // Token servers answer with either.
            Error::Unauthorized(answer) | Error::Denied(answer) => Error::WrongCredentials(answer),
            other => other,
        })?;
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
