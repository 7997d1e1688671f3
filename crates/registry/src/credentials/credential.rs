//! One credential, and the registry that it is for.

use crate::secret::Secret;

/// The user name that marks an identity token.
pub(super) const TOKEN_USERNAME: &str = "<token>";

/// Proof of identity for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// User name and password (or an access token used as the password).
    Password {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// An OAuth2 refresh token that the registry's token server gave (`identitytoken`).
    IdentityToken(Secret),
}

impl Credential {
    /// A user name and password.
    pub fn password(username: &str, password: &str) -> Credential {
        Credential::Password { username: username.to_string(), password: Secret::new(password) }
    }

    /// A refresh token.
    pub fn identity_token(token: &str) -> Credential {
        Credential::IdentityToken(Secret::new(token))
    }

    /// The user name, or `<token>` as credential helpers write it.
    pub fn username(&self) -> &str {
        match self {
            Credential::Password { username, .. } => username,
            Credential::IdentityToken(_) => TOKEN_USERNAME,
        }
    }
}

/// The registry that a key of a file means: `docker.io` for the many names of Docker Hub, else host and port
/// (and a path, if the key is for a part of a registry).
pub(super) fn normalise(key: &str) -> String {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest);
    match rest {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_string(),
        other => other.to_string(),
    }
}
