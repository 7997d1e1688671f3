//! One `config.json` or `auth.json`.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::credential::{Credential, normalise};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// The file's members, including those that mean nothing here.
pub(super) struct AuthFile {
    path: PathBuf,
    members: Map<String, Value>,
}

impl AuthFile {
    /// Reads a file; an absent or empty file has no members.
    pub(super) fn read(path: &Path) -> Result<AuthFile> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Vec::new()
            }
            Err(source) => return Err(Error::Io { path: path.to_path_buf(), source }),
        };
        let members = if bytes.iter().all(u8::is_ascii_whitespace) {
            Map::new()
        } else {
            // For maps, serde_json's errors quote no values, only positions.
            serde_json::from_slice(&bytes).map_err(|e| Error::File {
                path: path.to_path_buf(),
                reason: format!("not a JSON object (line {}, column {})", e.line(), e.column()),
            })?
        };
        Ok(AuthFile { path: path.to_path_buf(), members })
    }

    /// Reads, changes and replaces a file under a lock on its directory; other members stay.
    pub(super) fn update(path: &Path, change: impl FnOnce(&mut AuthFile) -> Result<()>) -> Result<()> {
        // A symbolic link stays; its target is replaced.
        let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let lock = File::open(directory).map_err(Error::io(directory))?;
        lock.lock().map_err(Error::io(directory))?;
        let mut file = AuthFile::read(path)?;
        change(&mut file)?;
        let mut text = serde_json::to_vec_pretty(&file.members).expect("JSON values always serialise");
        text.push(b'\n');
        write_private(path, directory, &text).map_err(Error::io(path))
    }

    /// Name of the helper for a registry: `credHelpers` before `credsStore`.
    pub(super) fn helper(&self, registry: &str) -> Option<String> {
        let own = self.members.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            helpers.iter().find(|(key, _)| normalise(key) == registry).and_then(|(_, name)| name.as_str())
        });
        own.or_else(|| self.members.get("credsStore")?.as_str())
            .filter(|name| !name.is_empty())
            .map(str::to_string)
    }

    /// Names of all helpers in the file.
    pub(super) fn helpers(&self) -> Vec<String> {
        let own =
            self.members.get("credHelpers").and_then(Value::as_object).into_iter().flat_map(Map::values);
        let mut names: Vec<String> = own
            .chain(self.members.get("credsStore"))
            .filter_map(Value::as_str)
            .filter(|name| !name.is_empty())
            .map(str::to_string)
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// The entry of `auths` that fits a repository best.
    pub(super) fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>> {
        let wanted = format!("{registry}/{repository}");
        let best = self
            .auths()
            .filter(|(key, _)| {
                wanted.strip_prefix(key.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
            .max_by_key(|(key, _)| key.len());
        match best {
            Some((key, entry)) => self.credential(&key, entry),
            None => Ok(None),
        }
    }

    /// A member that holds no credentials.
    pub(super) fn member(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    /// Whether `auths` has an entry for exactly this registry.
    pub(super) fn has(&self, registry: &str) -> bool {
        self.auths().any(|(key, _)| key == registry)
    }

    /// Keys and user names of `auths`.
    pub(super) fn list(&self) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for (key, entry) in self.auths() {
            if let Some(credential) = self.credential(&key, entry)? {
                all.push((key, credential.username().to_string()));
            }
        }
        Ok(all)
    }

    /// Sets an entry of `auths`.
    pub(super) fn set(&mut self, server: &str, credential: &Credential) -> Result<()> {
        self.remove(&normalise(server))?;
        let entry = match credential {
            Credential::Password { username, password } => {
                json!({"auth": STANDARD.encode(format!("{username}:{}", password.expose()))})
            }
            Credential::IdentityToken(token) => {
                json!({"auth": STANDARD.encode("<token>:"), "identitytoken": token.expose()})
            }
        };
        let auths = self.members.entry("auths").or_insert_with(|| json!({}));
        let auths = auths.as_object_mut().ok_or_else(|| Error::File {
            path: self.path.clone(),
            reason: "\"auths\" is not an object".to_string(),
        })?;
        auths.insert(server.to_string(), entry);
        Ok(())
    }

    /// Removes every entry of `auths` that means this registry.
    pub(super) fn remove(&mut self, registry: &str) -> Result<()> {
        if let Some(auths) = self.members.get_mut("auths").and_then(Value::as_object_mut) {
            auths.retain(|key, _| normalise(key) != registry);
        }
        Ok(())
    }

    fn auths(&self) -> impl Iterator<Item = (String, &Value)> {
        let auths = self.members.get("auths").and_then(Value::as_object);
        auths.into_iter().flatten().map(|(key, entry)| (normalise(key), entry))
    }

    /// The credential of an entry; `None` for the empty entries that Docker leaves where a helper has the
    /// secret.
    fn credential(&self, key: &str, entry: &Value) -> Result<Option<Credential>> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credential::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = text("auth") {
            let damaged = || Error::File {
                path: self.path.clone(),
                reason: format!("the entry of {key} is damaged; run \"crossdock login {key}\" again"),
            };
            let bytes = STANDARD.decode(auth.trim()).map_err(|_| damaged())?;
            let pair = Secret::new(String::from_utf8(bytes).map_err(|_| damaged())?);
            let (username, password) = pair.expose().split_once(':').ok_or_else(damaged)?;
            // Old versions of Docker pad the password with NUL bytes.
            return Ok(Some(Credential::password(username, password.trim_end_matches('\0'))));
        }
        Ok(match (text("username"), text("password")) {
            (Some(username), Some(password)) => Some(Credential::password(username, password)),
            _ => None,
        })
    }
}

/// Replaces a file, readable by its owner alone.
fn write_private(path: &Path, directory: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> AuthFile {
        AuthFile { path: "test.json".into(), members: serde_json::from_str(text).expect("JSON") }
    }

    #[test]
    fn the_most_specific_entry_wins() {
        let file = file(
            r#"{"auths":{"quay.io":{"auth":"YTph"},"quay.io/org":{"auth":"Yjpi"},"quay.io/or":{"auth":"eDp4"},
                "https://index.docker.io/v1/":{"auth":"aDpo"},"http://plain:5000/v2/":{"username":"u","password":"p"},
                "empty":{},"tok":{"auth":"PHRva2VuPjo=","identitytoken":"t"}}}"#,
        );
        let user = |registry: &str, repository: &str| {
            let found = file.find(registry, repository).expect("readable");
            found.map(|c| c.username().to_string())
        };
        assert_eq!(user("quay.io", "org/app").as_deref(), Some("b"));
        assert_eq!(user("quay.io", "organic/app").as_deref(), Some("a"));
        assert_eq!(user("docker.io", "library/alpine").as_deref(), Some("h"));
        assert_eq!(user("plain:5000", "x").as_deref(), Some("u"));
        assert_eq!(user("empty", "x"), None);
        assert_eq!(user("other", "x"), None);
        assert_eq!(
            file.find("tok", "x").expect("readable"),
            Some(Credential::IdentityToken("t".to_string().into()))
        );
    }

    #[test]
    fn damaged_entries_say_where_and_not_what() {
        let file = file(r#"{"auths":{"a.b":{"auth":"c2VjcmV0"},"c.d":{"auth":"!!!secret"}}}"#);
        for registry in ["a.b", "c.d"] {
            let error = file.find(registry, "x").expect_err("no colon, no base64");
            let text = format!("{error} {error:?}");
            assert!(text.contains("test.json") && text.contains(registry), "{text}");
            assert!(!text.contains("secret") && !text.contains("c2Vjc"), "{text}");
        }
    }

    #[test]
    fn helpers_of_a_host_come_first() {
        let file = file(r#"{"credsStore":"all","credHelpers":{"https://gcr.io":"gcr"}}"#);
        assert_eq!(file.helper("gcr.io").as_deref(), Some("gcr"));
        assert_eq!(file.helper("ghcr.io").as_deref(), Some("all"));
        assert_eq!(file.helpers(), ["all", "gcr"]);
    }
}
