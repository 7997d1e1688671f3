//! Credentials as Docker and Podman keep them: `config.json(5)`, `containers-auth.json(5)`.

mod file;
mod helper;
mod proxies;

use std::path::PathBuf;
use std::time::Duration;

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::secret::Secret;
use file::AuthFile;
use helper::Helper;
pub use proxies::container_proxies;

/// The key under which credentials of Docker Hub are kept.
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Something that proves who one is to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// User name and password (or access token used as such).
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

    /// The user name, or `<token>` as credential helpers write it.
    pub fn username(&self) -> &str {
        match self {
            Credential::Password { username, .. } => username,
            Credential::IdentityToken(_) => helper::TOKEN_USERNAME,
        }
    }
}

/// Docker's `config.json`.
fn docker_config(environment: &Environment) -> Option<PathBuf> {
    let directory = environment.docker_config.clone();
    let directory = directory.or_else(|| Some(environment.home.as_ref()?.join(".docker")))?;
    Some(directory.join("config.json"))
}

/// A way to find credentials: files in order, or fixed values.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    fixed: Vec<(String, Credential)>,
    files: Vec<PathBuf>,
    search_path: Option<std::ffi::OsString>,
    helper_timeout: Option<Duration>,
}

impl Credentials {
    /// No credentials at all: everything is anonymous.
    pub fn none() -> Credentials {
        Credentials::default()
    }

    /// The files that Docker and Podman use. The order is that of the search; `login` writes to the first.
    pub fn from_environment(environment: &Environment) -> Credentials {
        let docker = docker_config(environment);
        let runtime = environment.xdg_runtime_dir.as_ref().map(|d| d.join("containers/auth.json"));
        let config = environment.config_home().map(|d| d.join("containers/auth.json"));
        let files =
            [environment.registry_auth_file.clone(), docker, runtime, config].into_iter().flatten().collect();
        Credentials { files, search_path: environment.path.clone(), ..Credentials::default() }
    }

    /// The same with credentials of one registry that come before every file.
    pub fn with(mut self, registry: &str, credential: Credential) -> Credentials {
        self.fixed.push((normalise(registry), credential));
        self
    }

    /// The same with a limit of time for helpers; 30 s if never called.
    pub fn with_helper_timeout(mut self, timeout: Duration) -> Credentials {
        self.helper_timeout = Some(timeout);
        self
    }

    /// Credentials for a repository, the most specific entry first (`HOST/a/b`, `HOST/a`, `HOST`). `None`
    /// where there are none; an error where a file or helper cannot be used.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>> {
        let registry = normalise(registry);
        if let Some((_, credential)) = self.fixed.iter().find(|(r, _)| *r == registry) {
            return Ok(Some(credential.clone()));
        }
        for path in &self.files {
            let file = AuthFile::read(path)?;
            if let Some(helper) = file.helper(&registry)
                && let Some(found) = self.helper(&helper, path).get(&server_name(&registry))?
            {
                return Ok(Some(found));
            }
            if let Some(found) = file.find(&registry, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps credentials without asking the registry; see [`crate::Client::login`] for the verified way.
    /// Returns the file, or the helper's name, that has them now.
    pub fn store(&self, registry: &str, credential: &Credential) -> Result<String> {
        let registry = normalise(registry);
        let path = self.files.first().ok_or(Error::NoCredentialsFile)?;
        let file = AuthFile::read(path)?;
        if let Some(name) = file.helper(&registry) {
            let helper = self.helper(&name, path);
            helper.store(&server_name(&registry), credential)?;
            return Ok(helper.program().to_string());
        }
        AuthFile::update(path, |file| file.set(&server_name(&registry), credential))?;
        Ok(path.display().to_string())
    }

    /// Forgets the credentials of a registry wherever they are kept; an error if there were none.
    pub fn erase(&self, registry: &str) -> Result<()> {
        let registry = normalise(registry);
        let mut erased = false;
        for path in &self.files {
            let file = AuthFile::read(path)?;
            if let Some(name) = file.helper(&registry) {
                let helper = self.helper(&name, path);
                if helper.get(&server_name(&registry))?.is_some() {
                    helper.erase(&server_name(&registry))?;
                    erased = true;
                }
            }
            if file.has(&registry) {
                AuthFile::update(path, |file| file.remove(&registry))?;
                erased = true;
            }
        }
        if erased { Ok(()) } else { Err(Error::NotLoggedIn(registry)) }
    }

    /// Registries that credentials are kept for, with their user names, as files and helpers list them.
    pub fn list(&self) -> Result<Vec<(String, String)>> {
        let mut all: Vec<(String, String)> = Vec::new();
        for path in &self.files {
            let file = AuthFile::read(path)?;
            let mut found = file.list()?;
            for name in file.helpers() {
                found.extend(self.helper(&name, path).list()?);
            }
            for (key, username) in found {
                let registry = normalise(&key);
                if !all.iter().any(|(r, _)| *r == registry) {
                    all.push((registry, username));
                }
            }
        }
        Ok(all)
    }

    fn helper(&self, name: &str, path: &std::path::Path) -> Helper {
        Helper::new(
            name,
            path,
            self.search_path.clone(),
            self.helper_timeout.unwrap_or(Duration::from_secs(30)),
        )
    }
}

/// The registry that a key of a file means: `docker.io` for the many names of Docker Hub, else host and port
/// (and a path, if the key is for a part of a registry).
fn normalise(key: &str) -> String {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest);
    match rest {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_string(),
        other => other.to_string(),
    }
}

/// The key that Docker writes for a registry.
fn server_name(registry: &str) -> String {
    if registry == "docker.io" { DOCKER_HUB_KEY.to_string() } else { registry.to_string() }
}
