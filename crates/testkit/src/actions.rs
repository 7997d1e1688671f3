//! A cache service of GitHub Actions, in memory: both protocols, and the storage behind the second one. It
//! refuses what the real ones refuse, such as the job's token at the storage.

use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::block_blob::BlockBlob;
use crate::http::{Answer, Request, serve};

/// The token that the service accepts.
pub const TOKEN: &str = "jobs.secret.token";

/// Part of each signed address; whoever has it can read and write the blob.
pub const SIGNATURE: &str = "sig=c2VjcmV0c2lnbmF0dXJl";

#[derive(Default)]
struct Entry {
    key: String,
    version: String,
    blob: BlockBlob,
    finished: bool,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    requests: Vec<String>,
    /// Answers for the next requests instead of their own: status and body.
    faults: Vec<(u16, &'static str)>,
    /// Bytes after which the next downloads break off.
    cuts: Vec<usize>,
}

/// The service; it runs as long as the test.
#[derive(Clone)]
pub struct ActionsService {
    address: Arc<Mutex<String>>,
    state: Arc<Mutex<State>>,
}

impl Default for ActionsService {
    fn default() -> ActionsService {
        ActionsService::start()
    }
}

impl ActionsService {
    /// Starts the service on a free port of this machine.
    pub fn start() -> ActionsService {
        let state: Arc<Mutex<State>> = Arc::default();
        let address = Arc::new(Mutex::new(String::new()));
        let service = ActionsService { address: address.clone(), state };
        let serving = service.clone();
        *address.lock().expect("no thread panics") = serve(move |request| serving.answer(request));
        service
    }

    /// The address of the service, for `ACTIONS_CACHE_URL` and `ACTIONS_RESULTS_URL`.
    pub fn url(&self) -> String {
        format!("http://{}/", self.host())
    }

    fn host(&self) -> String {
        self.address.lock().expect("no thread panics").clone()
    }

    /// The keys of all entries that are whole.
    pub fn keys(&self) -> Vec<String> {
        let state = self.state();
        state.entries.iter().filter(|entry| entry.finished).map(|entry| entry.key.clone()).collect()
    }

    /// The content of an entry.
    pub fn content(&self, key: &str) -> Vec<u8> {
        let state = self.state();
        state.entries.iter().find(|entry| entry.key == key).expect("an entry").blob.content.clone()
    }

    /// Method and path of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// The next requests are answered with these statuses and bodies.
    pub fn fail_next(&self, faults: &[(u16, &'static str)]) {
        self.state().faults.extend_from_slice(faults);
    }

    /// The next downloads end after so many bytes.
    pub fn cut_next(&self, cuts: &[usize]) {
        self.state().cuts.extend_from_slice(cuts);
    }

    /// Changes the content of all entries whose keys begin so.
    pub fn damage(&self, prefix: &str) {
        for entry in self.state().entries.iter_mut().filter(|entry| entry.key.starts_with(prefix)) {
            entry.blob.content.iter_mut().for_each(|byte| *byte ^= 1);
        }
    }

    /// Removes all entries whose keys begin so.
    pub fn evict(&self, prefix: &str) {
        self.state().entries.retain(|entry| !entry.key.starts_with(prefix));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics")
    }

    fn answer(&self, request: &Request) -> Answer {
        let (status, body) = self.whole_answer(request);
        let cut = match (request.method.as_str(), request.path.starts_with("/blob/"), status) {
            ("GET", true, 200) => {
                let mut state = self.state();
                (!state.cuts.is_empty()).then(|| state.cuts.remove(0))
            }
            _ => None,
        };
        Answer { status, body, cut }
    }

    fn whole_answer(&self, request: &Request) -> (u16, Vec<u8>) {
        let mut state = self.state();
        state.requests.push(format!("{} {}", request.method, request.path));
        if !state.faults.is_empty() {
            let (status, body) = state.faults.remove(0);
            return (status, body.into());
        }
        let authorization = request.headers.get("authorization");
        if let Some(number) = request.path.strip_prefix("/blob/") {
            let number: usize = number.parse().expect("a number");
            if authorization.is_some() || !request.query.contains(SIGNATURE) {
                return (403, b"<Error><Code>AuthenticationFailed</Code></Error>".to_vec());
            }
            return state.entries[number].blob.answer(request);
        }
        if authorization.is_none_or(|value| *value != format!("Bearer {TOKEN}")) {
            return (401, json!({"code": "unauthenticated", "msg": "bad token"}).to_string().into_bytes());
        }
        let (status, answer) = match request.path.strip_prefix("/_apis/artifactcache/") {
            Some(path) => self.first(&mut state, request, path),
            None => self.second(&mut state, request),
        };
        (status, if answer.is_null() { Vec::new() } else { answer.to_string().into_bytes() })
    }

    fn signed(&self, number: usize) -> String {
        format!("http://{}/blob/{number}?{SIGNATURE}", self.host())
    }

    /// The REST API.
    fn first(&self, state: &mut State, request: &Request, path: &str) -> (u16, Value) {
        let number = path.strip_prefix("caches/").map(|id| id.parse::<usize>().expect("a number") - 1);
        match (request.method.as_str(), path, number) {
            ("GET", "cache", _) => {
                let parameter = |name: &str| request.parameter(name).expect("a parameter").to_lowercase();
                match find(state, &parameter("keys"), &parameter("version"), true) {
                    Some(n) => (
                        200,
                        json!({"archiveLocation": self.signed(n), "cacheKey": state.entries[n].key, "scope": "refs/heads/main"}),
                    ),
                    None => (204, Value::Null),
                }
            }
            ("POST", "caches", _) => {
                // As act's server does, which Gitea's runner has, too.
                let mut asked = request.json();
                asked["key"] = asked["key"].as_str().expect("a key").to_lowercase().into();
                match create(state, &asked) {
                    Some(number) => (201, json!({"cacheId": number + 1})),
                    None => (409, json!({"typeKey": "ArtifactCacheItemAlreadyExistsException"})),
                }
            }
            ("PATCH", _, Some(number)) => {
                let range = request.headers.get("content-range").expect("a range");
                let range = range.strip_prefix("bytes ").and_then(|r| r.strip_suffix("/*")).expect("a range");
                let (first, last) = range.split_once('-').expect("two numbers");
                let first: usize = first.parse().expect("a number");
                let last: usize = last.parse().expect("a number");
                let content = &mut state.entries[number].blob.content;
                if last + 1 - first != request.body.len() || first != content.len() {
                    return (400, json!({"message": "not the next range"}));
                }
                content.extend_from_slice(&request.body);
                (204, Value::Null)
            }
            ("POST", _, Some(number)) => {
                let entry = &mut state.entries[number];
                if request.json()["size"] != entry.blob.content.len() {
                    return (400, json!({"message": "another size"}));
                }
                entry.finished = true;
                (204, Value::Null)
            }
            _ => (404, json!({"message": "no such resource"})),
        }
    }

    /// Twirp.
    fn second(&self, state: &mut State, request: &Request) -> (u16, Value) {
        let method = request.path.strip_prefix("/twirp/github.actions.results.api.v1.CacheService/");
        let asked = request.json();
        let text = |name: &str| asked[name].as_str().expect("a member").to_string();
        match method {
            Some("CreateCacheEntry") => match create(state, &asked) {
                Some(number) => (200, json!({"ok": true, "signed_upload_url": self.signed(number)})),
                None => (409, json!({"code": "already_exists", "msg": "cache entry exists"})),
            },
            Some("FinalizeCacheEntryUpload") => {
                let (key, version) = (text("key"), text("version"));
                let mut all = state.entries.iter_mut();
                let entry = all.find(|entry| entry.key == key && entry.version == version).expect("created");
                entry.finished = text("size_bytes") == entry.blob.content.len().to_string();
                (200, json!({"ok": entry.finished, "entry_id": "7"}))
            }
            Some("GetCacheEntryDownloadURL") => {
                let restore = asked["restore_keys"].as_array().expect("a list").first().cloned();
                let restore = restore.and_then(|key| key.as_str().map(str::to_string));
                let found = find(state, &text("key"), &text("version"), false)
                    .or_else(|| restore.and_then(|key| find(state, &key, &text("version"), true)));
                match found {
                    Some(n) => (
                        200,
                        json!({"ok": true, "signed_download_url": self.signed(n), "matched_key": state.entries[n].key}),
                    ),
                    None => (200, json!({"ok": false, "signed_download_url": "", "matched_key": ""})),
                }
            }
            _ => (404, json!({"code": "bad_route", "msg": "no such method"})),
        }
    }
}

/// The newest whole entry whose key is, or with `prefix` begins with, `key`.
fn find(state: &State, key: &str, version: &str, prefix: bool) -> Option<usize> {
    let is_meant = |entry: &Entry| {
        let fits = if prefix { entry.key.starts_with(key) } else { entry.key == key };
        fits && entry.finished && entry.version == version
    };
    state.entries.iter().rposition(is_meant)
}

fn create(state: &mut State, asked: &Value) -> Option<usize> {
    let text = |name: &str| asked[name].as_str().expect("a member").to_string();
    let (key, version) = (text("key"), text("version"));
    if state.entries.iter().any(|entry| entry.key == key && entry.version == version) {
        return None;
    }
    state.entries.push(Entry { key, version, ..Entry::default() });
    Some(state.entries.len() - 1)
}
