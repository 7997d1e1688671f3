//! `login` and `logout`.

use super::{Client, ClientOptions};
use crate::credentials::Credential;
use crate::error::{Error, Result};

impl Client {
    /// Verifies credentials at a registry, then keeps them where Docker and Podman find them. Returns the
    /// file, or the helper's name, that has them now.
    ///
    /// # Errors
    ///
    /// [`Error::WrongCredentials`] if the registry does not take them; nothing is stored then.
    pub fn login(&self, registry: &str, credential: &Credential) -> Result<String> {
        // A client of its own: cached tokens of other credentials would prove nothing.
        let options = ClientOptions {
            credentials: self.credentials().clone().with(registry, credential.clone()),
            ..self.options().clone()
        };
        Client::new(options).ping(registry).map_err(|error| match error {
            // Token servers answer either.
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
