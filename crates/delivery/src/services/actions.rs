//! `type=gha`: caches in the cache service of GitHub Actions, Gitea or Forgejo.
//!
//! A cache is a list of steps under a key that begins with its scope, and an entry for each layer. Entries
//! never change, so each export writes another list, and an import takes the newest:
//!
//! ```text
//! crossdock-index-1-SCOPE#MILLISECONDS      the list of steps, JSON
//! crossdock-blob-1-sha256:HEX               a layer, shared by all scopes
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use crossdock_oci::{Descriptor, Digest};
use crossdock_registry::client::{ActionsCache, ActionsProtocol, FileSource};
use crossdock_registry::{Client, Secret};

use super::service::{Service, Variables};

/// The scope if none is given. Two builds of one workflow need two scopes, as with BuildKit.
const SCOPE: &str = "crossdock";

/// Longest scope in bytes: keys have at most 512 characters.
const SCOPE_MAX: usize = 400;

/// A cache of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionsPlace {
    cache: ActionsCache,
    scope: String,
}

impl ActionsPlace {
    /// Reads the fields of `type=gha` (BuildKit's attributes `token`, `url`, `url_v2` and `scope`), else the
    /// variables that a job has. `None` outside of a job.
    ///
    /// # Errors
    ///
    /// A scope that cannot be part of a key.
    pub fn of_fields(fields: &HashMap<&str, &str>, variables: Variables<'_>) -> Result<Option<ActionsPlace>> {
        let given = |field: &str, variable: &str| {
            let field = fields.get(field).map(ToString::to_string);
            field.or_else(|| variables(variable)).filter(|value| !value.is_empty())
        };
        let scope = fields.get("scope").copied().filter(|scope| !scope.is_empty()).unwrap_or(SCOPE);
        if scope.len() > SCOPE_MAX || scope.contains(|c: char| c == ',' || c == '#' || c.is_control()) {
            bail!("scope={scope}: a scope has at most {SCOPE_MAX} characters, without \",\" and \"#\"");
        }
        let Some(token) = given("token", "ACTIONS_RUNTIME_TOKEN") else { return Ok(None) };
        let first = given("url", "ACTIONS_CACHE_URL");
        let second = given("url_v2", "ACTIONS_RESULTS_URL");
        let wants_second = fields.contains_key("url_v2")
            || fields.get("version") == Some(&"2")
            || variables("ACTIONS_CACHE_SERVICE_V2")
                .is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
        let (url, protocol) = match (first, second) {
            (_, Some(url)) if wants_second => (url, ActionsProtocol::V2),
            (Some(url), _) => (url, ActionsProtocol::V1),
            (None, Some(url)) => (url, ActionsProtocol::V2),
            (None, None) => return Ok(None),
        };
        let version = Digest::of(b"crossdock cache 1").hex().to_string();
        let cache = ActionsCache { url, token: Secret::new(token), protocol, version };
        Ok(Some(ActionsPlace { cache, scope: scope.to_string() }))
    }

    fn list_prefix(&self) -> String {
        format!("crossdock-index-1-{}#", self.scope)
    }
}

impl Service for ActionsPlace {
    fn shown(&self) -> String {
        format!("the job's cache, scope {}", self.scope)
    }

    fn take_list(&self, client: &Client, to: &Path, limit: u64) -> Result<()> {
        let Some(entry) = client.actions_entry(&self.cache, &self.list_prefix(), true)? else {
            bail!("nothing was cached in scope {} yet", self.scope);
        };
        client.download_at_most(entry.url.expose(), to, limit)?;
        Ok(())
    }

    fn put_list(&self, client: &Client, list: Vec<u8>) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        // Another job may have written one in the same millisecond.
        for time in now..now + 8 {
            let key = format!("{}{time:015}", self.list_prefix());
            if client.save_actions_entry(&self.cache, &key, list.len() as u64, &list)? {
                return Ok(());
            }
        }
        bail!("the service has a list of steps for each time that was tried, and takes no other");
    }

    fn has_layer(&self, client: &Client, layer: &Digest, _: u64) -> Result<bool> {
        Ok(client.actions_entry(&self.cache, &blob_key(layer), false)?.is_some())
    }

    fn put_layer(&self, client: &Client, layer: &Digest, size: u64, content: &FileSource) -> Result<()> {
        client.save_actions_entry(&self.cache, &blob_key(layer), size, content)?;
        Ok(())
    }

    fn take_layer(&self, client: &Client, layer: &Descriptor, to: &Path) -> Result<()> {
        let Some(entry) = client.actions_entry(&self.cache, &blob_key(&layer.digest), false)? else {
            bail!("the cache service has layer {} no longer", layer.digest);
        };
        client.download_at_most(entry.url.expose(), to, layer.size)?;
        Ok(())
    }
}

fn blob_key(digest: &Digest) -> String {
    format!("crossdock-blob-1-{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(fields: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Option<ActionsPlace>> {
        let value = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        ActionsPlace::of_fields(&fields.iter().copied().collect(), &value)
    }

    #[test]
    fn fields_come_before_variables() {
        let job = [
            ("ACTIONS_RUNTIME_TOKEN", "secret"),
            ("ACTIONS_CACHE_URL", "http://first/"),
            ("ACTIONS_RESULTS_URL", "http://second/"),
        ];
        let read = |fields: &[(&str, &str)], variables: &[(&str, &str)]| {
            let place = place(fields, variables).expect("valid").expect("in a job");
            assert!(!format!("{place:?}").contains("secret"));
            (place.cache.url, place.cache.protocol, place.scope)
        };
        let own = |url: &str, protocol| (url.to_string(), protocol, SCOPE.to_string());
        assert_eq!(read(&[], &job), own("http://first/", ActionsProtocol::V1));
        let second = [&job[..], &[("ACTIONS_CACHE_SERVICE_V2", "True")]].concat();
        assert_eq!(read(&[], &second), own("http://second/", ActionsProtocol::V2));
        let only_second = [job[0], job[2]];
        assert_eq!(read(&[], &only_second), own("http://second/", ActionsProtocol::V2));
        let fields = [("token", "t"), ("url_v2", "http://given/"), ("scope", "a b")];
        assert_eq!(read(&fields, &[]), ("http://given/".to_string(), ActionsProtocol::V2, "a b".to_string()));
        // Outside of a job there is no cache.
        assert_eq!(place(&[("scope", "x")], &job[1..]).expect("valid"), None);
        assert_eq!(place(&[], &job[..1]).expect("valid"), None);
        for scope in ["a,b", "a#1", "a\nb", &"x".repeat(401)] {
            assert!(place(&[("scope", scope)], &job).is_err(), "{scope}");
        }
    }
}
