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
use std::io::Read;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use crossdock_builder::solver::cache::StepCache;
use crossdock_oci::manifest::MANIFEST_SIZE_MAX;
use crossdock_oci::{Descriptor, Digest, Store};
use crossdock_registry::client::{ActionsCache, ActionsProtocol, FileSource};
use crossdock_registry::{Client, Secret};

/// The scope if none is given. Two builds of one workflow need two scopes, as with BuildKit.
const SCOPE: &str = "crossdock";

/// Longest scope in bytes: keys have at most 512 characters.
const SCOPE_MAX: usize = 400;

/// Layers that are sent at the same time.
const AT_ONCE: usize = 4;

/// The largest list of steps that is read, in bytes.
const LIST_SIZE_MAX: u64 = 4 * MANIFEST_SIZE_MAX;

/// A cache of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionsPlace {
    cache: ActionsCache,
    scope: String,
}

/// The value of a variable of the environment that a cache may be named by.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

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

    /// How messages call the cache.
    pub fn shown(&self) -> String {
        format!("the job's cache, scope {}", self.scope)
    }

    fn list_prefix(&self) -> String {
        format!("crossdock-index-1-{}#", self.scope)
    }

    /// Reads the newest list of steps.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read.
    pub fn read(&self, client: &Client, store: &Store) -> Result<StepCache> {
        let Some(entry) = client.actions_entry(&self.cache, &self.list_prefix(), true)? else {
            bail!("nothing was cached in scope {} yet", self.scope);
        };
        let directory = store.temporary_directory()?;
        let path = directory.path().join("list");
        client.download(entry.url.expose(), &path)?;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).with_context(|| format!("read {}", path.display()))?;
        file.take(LIST_SIZE_MAX + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("read {}", path.display()))?;
        if bytes.len() as u64 > LIST_SIZE_MAX {
            bail!("the list of steps {} has more than {LIST_SIZE_MAX} bytes", entry.key);
        }
        serde_json::from_slice(&bytes).with_context(|| format!("the list of steps {}", entry.key))
    }

    /// Writes a list of steps, after their layers.
    ///
    /// # Errors
    ///
    /// A layer that is not in the store, or the service's refusal.
    pub fn write(&self, client: &Client, store: &Store, steps: &StepCache) -> Result<()> {
        let layers = Mutex::new(steps.layers().into_iter());
        let next = || layers.lock().unwrap_or_else(PoisonError::into_inner).next();
        let send_all = || -> Result<()> {
            while let Some(layer) = next() {
                let sent = self.send(client, store, &layer);
                sent.with_context(|| format!("layer {}", layer.digest))?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE)
                .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, send_all).ok())
                .collect();
            let ended = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            ended.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
        })?;
        // What no thread could be started for.
        send_all()?;
        let list = serde_json::to_vec(steps)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let key = format!("{}{now:015}", self.list_prefix());
        client.save_actions_entry(&self.cache, &key, list.len() as u64, &list)?;
        Ok(())
    }

    fn send(&self, client: &Client, store: &Store, layer: &Descriptor) -> Result<()> {
        let key = blob_key(&layer.digest);
        if client.actions_entry(&self.cache, &key, false)?.is_some() {
            return Ok(());
        }
        // The blob is held, and cannot be collected while it is sent.
        let size = store.blob_size(&layer.digest)?;
        let size = size.with_context(|| "it is not in the store".to_string())?;
        client.save_actions_entry(&self.cache, &key, size, &FileSource(store.blob_path(&layer.digest)))?;
        Ok(())
    }

    /// Downloads a layer to a new file. Nothing is verified.
    ///
    /// # Errors
    ///
    /// The service has it no longer, or errors of the connection.
    pub fn download(&self, client: &Client, layer: &Digest, to: &std::path::Path) -> Result<()> {
        let Some(entry) = client.actions_entry(&self.cache, &blob_key(layer), false)? else {
            bail!("the cache service has layer {layer} no longer");
        };
        client.download(entry.url.expose(), to)?;
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
