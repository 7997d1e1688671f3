//! Compares passwords. bcrypt takes some 50 ms of CPU on purpose, so it runs on a few separate threads, and a
//! correct pair is remembered for a while.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossdock_oci::Digest;
use hyper::header::{AUTHORIZATION, HeaderMap};
use tokio::sync::Semaphore;

use super::htpasswd::Htpasswd;
use crate::secret::Secret;
use crate::server::reply::Problem;
use crate::server::storage::random_hex;
use crate::server::watched::Watched;

/// Passwords that are compared at the same time.
const AT_ONCE: usize = 2;
/// Most passwords waiting for comparison; more are refused. At 50 ms each, the last one waits for three
/// seconds.
const WAITING_MAX: usize = 128;
/// How long a correct pair need not be compared again.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Most pairs remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Where users come from.
pub(super) enum Users {
    /// In clear text, for tests and programs.
    Plain(BTreeMap<String, Secret>),
    File(Watched<Htpasswd>),
}

/// The check of user names and passwords.
pub(super) struct Passwords {
    users: Users,
    /// Random; without the key, the remembered digests reveal nothing.
    key: Vec<u8>,
    known: Mutex<HashMap<Digest, Instant>>,
    work: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Counts a waiting password until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Passwords {
    pub(super) fn new(users: Users) -> std::io::Result<Passwords> {
        let key = (random_hex()? + &random_hex()?).into_bytes();
        let work = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Passwords { users, key, known: Mutex::default(), work, waiting: AtomicUsize::new(0) })
    }

    /// The user of a Basic header with the right password. `None` without such a header or with a wrong one.
    ///
    /// # Errors
    ///
    /// 503 if too many passwords are waiting to be compared.
    pub(super) async fn user(&self, headers: &HeaderMap) -> Result<Option<String>, Problem> {
        let Some((user, password)) = basic(headers) else { return Ok(None) };
        let right = match &self.users {
            Users::Plain(users) => {
                users.get(&user).is_some_and(|expected| same(expected.expose(), password.expose()))
            }
            Users::File(file) => self.compare(&file.get(), &user, password).await?,
        };
        Ok(right.then_some(user))
    }

    async fn compare(&self, file: &Htpasswd, user: &str, password: Secret) -> Result<bool, Problem> {
        let Some((hash, known)) = file.hash(user, &self.key) else { return Ok(false) };
        // The hash is part of the digest, so that a changed password is forgotten at once.
        let pair = [user.as_bytes(), b"\0", hash.as_bytes(), b"\0", password.expose().as_bytes()].concat();
        let pair = Secret::new(String::from_utf8(pair).expect("made of texts"));
        let inner = Digest::of(&[&self.key, pair.expose().as_bytes()].concat());
        let pair = Digest::of(&[&self.key, inner.as_str().as_bytes()].concat());
        if known && self.remembered().get(&pair).is_some_and(|until| *until > Instant::now()) {
            return Ok(true);
        }
        let permit = {
            let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
            let _waiting = Waiting(&self.waiting);
            if waiting >= WAITING_MAX {
                return Err(busy());
            }
            self.work.clone().acquire_owned().await.map_err(|_| busy())?
        };
        let hash = hash.to_string();
        let right = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            bcrypt::verify(password.expose(), &hash).unwrap_or(false)
        });
        let right = right.await.unwrap_or(false) && known;
        if right {
            let mut remembered = self.remembered();
            let now = Instant::now();
            if remembered.len() >= REMEMBERED_MAX {
                remembered.retain(|_, until| *until > now);
            }
            if remembered.len() < REMEMBERED_MAX {
                remembered.insert(pair, now + REMEMBERED);
            }
        }
        Ok(right)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Instant>> {
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn busy() -> Problem {
    Problem::new(503, "TOOMANYREQUESTS", "too many passwords are being checked").header("retry-after", "1")
}

/// User and password of a Basic header, RFC 7617.
fn basic(headers: &HeaderMap) -> Option<(String, Secret)> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = Secret::new(String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?);
    let (user, password) = text.expose().split_once(':')?;
    Some((user.to_string(), Secret::new(password)))
}

/// Compares digests, so that the time taken reveals nothing about the secret.
pub(super) fn same(expected: &str, given: &str) -> bool {
    Digest::of(expected.as_bytes()) == Digest::of(given.as_bytes())
}
