//! Credentials as Docker and Podman keep them: `config.json(5)`, `containers-auth.json(5)`.

mod credential;
mod file;
mod helper;
mod paths;
mod proxies;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::environment::Environment;
use crate::error::{Error, Result};
pub use credential::Credential;
use credential::normalise;
use file::AuthFile;
use helper::Helper;
use paths::docker_config;
pub use proxies::container_proxies;

/// The key under which credentials of Docker Hub are kept.
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A way to find credentials: files in order, or fixed values.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Credentials of registries that come before every file; `None` for a registry that gets none.
    fixed: Vec<(String, Option<Credential>)>,
    /// Files of single registries, which are then the only ones.
    own_files: Vec<(String, PathBuf)>,
    files: Vec<PathBuf>,
    search_path: Option<std::ffi::OsString>,
    helper_timeout: Option<Duration>,
    asked: Option<Asked>,
}

/// Somebody who is asked for the credentials of a registry (`HOST[:PORT]`); the error is a sentence.
type Ask = dyn Fn(&str) -> std::result::Result<Option<Credential>, String> + Send + Sync;

#[derive(Clone)]
struct Asked(Arc<Ask>);

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl Credentials {
    /// No credentials at all: everything is anonymous.
    pub fn none() -> Credentials {
        Credentials::default()
    }

    /// The files that Docker and Podman use, in search order; `login` writes to the first.
    pub fn from_environment(environment: &Environment) -> Credentials {
        let docker = docker_config(environment);
        let runtime = environment.xdg_runtime_dir.as_ref().map(|d| d.join("containers/auth.json"));
        let config = environment.config_home().map(|d| d.join("containers/auth.json"));
        let files =
            [environment.registry_auth_file.clone(), docker, runtime, config].into_iter().flatten().collect();
        Credentials { files, search_path: environment.path.clone(), ..Credentials::default() }
    }

    /// Asks somebody before the files are looked into, but after fixed credentials.
    pub fn asking(
        mut self,
        ask: impl Fn(&str) -> std::result::Result<Option<Credential>, String> + Send + Sync + 'static,
    ) -> Credentials {
        self.asked = Some(Asked(Arc::new(ask)));
        self
    }

    /// Adds credentials of one registry, which come before every file.
    pub fn with(mut self, registry: &str, credential: Credential) -> Credentials {
        self.fixed.push((normalise(registry), Some(credential)));
        self
    }

    /// Gives one registry no credentials.
    pub fn without(mut self, registry: &str) -> Credentials {
        self.fixed.push((normalise(registry), None));
        self
    }

    /// Looks for the credentials of one registry only in this file.
    pub fn with_file(mut self, registry: &str, file: &Path) -> Credentials {
        self.own_files.push((normalise(registry), file.to_path_buf()));
        self
    }

    /// Uses only this file.
    pub fn only_from(mut self, file: &Path) -> Credentials {
        self.files = vec![file.to_path_buf()];
        self
    }

    /// Sets a time limit for helpers; 30 s if never called.
    pub fn with_helper_timeout(mut self, timeout: Duration) -> Credentials {
        self.helper_timeout = Some(timeout);
        self
    }

    /// Credentials for a repository, the most specific entry first (`HOST/a/b`, `HOST/a`, `HOST`). `None` if
    /// there are none; an error if a file or helper cannot be used.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>> {
        let registry = normalise(registry);
        if let Some((_, credential)) = self.fixed.iter().find(|(r, _)| *r == registry) {
            return Ok(credential.clone());
        }
        if let Some(Asked(ask)) = &self.asked
            && let Some(credential) = ask(&registry).map_err(Error::Credentials)?
        {
            return Ok(Some(credential));
        }
        let own: Vec<&PathBuf> =
            self.own_files.iter().filter(|(r, _)| *r == registry).map(|(_, file)| file).collect();
        let files = if own.is_empty() { self.files.iter().collect() } else { own };
        for path in files {
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

    /// Stores credentials without asking the registry; see [`crate::Client::login`] for the verified way.
    /// Returns the file, or the name of the helper, that now holds them.
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

    /// Removes the credentials of a registry wherever they are kept; an error if there were none.
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

    /// Registries with stored credentials, and their user names, as files and helpers list them.
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

/// The key that Docker writes for a registry.
fn server_name(registry: &str) -> String {
    if registry == "docker.io" { DOCKER_HUB_KEY.to_string() } else { registry.to_string() }
}
