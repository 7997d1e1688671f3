//! Files of user names and passwords as Apache's `htpasswd -B` writes them: `USER:HASH`, where the hash is
//! bcrypt's. htpasswd(1) has other hashes; each is refused by name, since none of them keeps a password
//! secret for long.

use std::collections::BTreeMap;
use std::path::Path;

use crossdock_oci::Digest;

use crate::error::{Error, Result};

/// The work doubles with each step: cost 10 is about 50 ms of CPU, 16 is about 3 s.
const COST_MAX: u32 = 16;

/// Cost of new hashes; the default of `htpasswd -B`, 5, is too cheap today.
const COST_NEW: u32 = 10;

/// Users and the hashes of their passwords.
pub(super) struct Htpasswd {
    users: BTreeMap<String, String>,
}

/// A line of a htpasswd file, without line end.
///
/// # Errors
///
/// A user name with a colon or a control character, an empty password, or a password of more than 72 bytes,
/// since bcrypt reads no more than 72.
pub fn htpasswd_line(user: &str, password: &str) -> std::result::Result<String, String> {
    if user.is_empty() || user.contains(|c: char| c == ':' || c.is_control()) || user.starts_with('#') {
        return Err("a user name is not empty, has no colon and does not begin with #".to_string());
    }
    if password.is_empty() || password.len() > 72 || password.contains('\0') {
        return Err("a password has 1 to 72 bytes and no zero byte".to_string());
    }
    let hash = bcrypt::hash_with_result(password, COST_NEW).map_err(|e| e.to_string())?;
    Ok(format!("{user}:{}", hash.format_for_version(bcrypt::Version::TwoY)))
}

impl Htpasswd {
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Htpasswd> {
        let wrong = |line: usize, reason: String| Error::File {
            path: path.to_path_buf(),
            reason: format!("line {line}: {reason}"),
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Error::File { path: path.to_path_buf(), reason: "not text".to_string() })?;
        let mut users = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = line
                .split_once(':')
                .filter(|(user, _)| !user.is_empty())
                .ok_or_else(|| wrong(index + 1, "not USER:HASH".to_string()))?;
            if let Err(reason) = check(hash) {
                let reason = format!(
                    "the password of {user} is {reason}; write it with \"htpasswd -B\" or \"crossdock registry htpasswd {user}\""
                );
                return Err(wrong(index + 1, reason));
            }
            if users.insert(user.to_string(), hash.to_string()).is_some() {
                return Err(wrong(index + 1, format!("{user} is there twice")));
            }
        }
        Ok(Htpasswd { users })
    }

    /// The hash to compare a password of `user` with, and whether the user exists. An unknown name gets the
    /// hash of another user, always the same one, so that the comparison takes as long.
    pub(super) fn hash(&self, user: &str, key: &[u8]) -> Option<(&str, bool)> {
        if let Some(hash) = self.users.get(user) {
            return Some((hash, true));
        }
        let digest = Digest::of(&[key, user.as_bytes()].concat());
        let number = usize::from_str_radix(&digest.hex()[..8], 16).unwrap_or(0);
        let any = self.users.values().nth(number % self.users.len().max(1))?;
        Some((any, false))
    }
}

/// Accepts a bcrypt hash, else says what the hash is.
fn check(hash: &str) -> std::result::Result<(), String> {
    let known = [
        ("$apr1$", "hashed with Apache's MD5 ($apr1$, the default of htpasswd)"),
        ("{SHA}", "hashed with SHA-1 ({SHA}, htpasswd -s)"),
        ("{SSHA}", "hashed with SHA-1 ({SSHA})"),
        ("$1$", "hashed with MD5 ($1$)"),
        ("$5$", "hashed with SHA-256 ($5$, htpasswd -2)"),
        ("$6$", "hashed with SHA-512 ($6$, htpasswd -5)"),
        ("$y$", "hashed with yescrypt ($y$)"),
        ("$7$", "hashed with scrypt ($7$)"),
        ("$argon2", "hashed with Argon2"),
        ("$2x$", "hashed with a broken bcrypt ($2x$)"),
        ("$2$", "hashed with the bcrypt of 1999 ($2$)"),
    ];
    if let Some((_, name)) = known.iter().find(|(prefix, _)| hash.starts_with(prefix)) {
        return Err(format!("{name}, which is not accepted"));
    }
    let Some(rest) = ["$2y$", "$2b$", "$2a$"].iter().find_map(|prefix| hash.strip_prefix(prefix)) else {
        let is_des =
            hash.len() == 13 && hash.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/'));
        return Err(match is_des {
            true => "hashed with crypt(3) of DES (htpasswd -d), or not hashed".to_string(),
            false => "not hashed, or in a form that is not known".to_string(),
        });
    };
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/');
    match rest.split_once('$') {
        Some((cost, text)) if cost.len() == 2 && text.len() == 53 && text.bytes().all(alphabet) => {
            match cost.parse::<u32>() {
                Ok(cost) if (4..=COST_MAX).contains(&cost) => Ok(()),
                _ => Err(format!("a bcrypt hash of cost {cost} (4 to {COST_MAX} are accepted)")),
            }
        }
        _ => Err("a damaged bcrypt hash".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<Htpasswd, String> {
        Htpasswd::parse(Path::new("/etc/htpasswd"), text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn other_forms_are_refused_by_name() {
        for (hash, name) in [
            ("$apr1$x1.yB3sS$kkx/abcdefghijklmnop1", "Apache's MD5"),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
            ("$1$abc$def", "MD5 ($1$)"),
            ("$5$abc$def", "SHA-256"),
            ("$6$abc$def", "SHA-512"),
            ("$y$j9T$abc", "yescrypt"),
            ("$2x$10$abc", "broken bcrypt"),
            ("rl.3StKT.4T8M", "DES"),
            ("hunter2", "not hashed"),
            ("", "not hashed"),
            ("$2y$10$short", "damaged"),
            (&format!("$2y$31${}", "a".repeat(53)), "cost 31"),
            (&format!("$2y$xx${}", "a".repeat(53)), "cost xx"),
        ] {
            let error = parse(&format!("# users\n\nbob:{hash}\n")).err().expect(hash);
            assert!(error.starts_with("/etc/htpasswd: line 3: the password of bob is "), "{error}");
            assert!(error.contains(name) && error.contains("htpasswd -B"), "{hash}: {error}");
            assert!(hash.len() < 7 || !error.contains(hash), "{error}");
        }
        assert!(parse("alice").err().expect("refused").contains("line 1: not USER:HASH"));
    }

    #[test]
    fn names_that_are_not_there_look_like_others() {
        let (one, two) = (format!("$2y$05${}", "a".repeat(53)), format!("$2b$06${}", "b".repeat(53)));
        let file = parse(&format!("alice:{one}\nbob:{two}\n")).expect("accepted");
        assert_eq!(file.hash("bob", b"key"), Some((two.as_str(), true)));
        let hashes: Vec<_> = ["x", "y", "z", "u", "v", "w", "carol", "dave"]
            .map(|user| file.hash(user, b"key").expect("some hash"))
            .into();
        assert!(hashes.iter().all(|(_, known)| !known));
        assert!(hashes.iter().any(|(hash, _)| *hash == one) && hashes.iter().any(|(hash, _)| *hash == two));
        assert_eq!(file.hash("x", b"key"), file.hash("x", b"key"));
        assert_eq!(parse("").expect("nobody").hash("x", b"key"), None);
        assert!(parse(&format!("a:{one}\na:{two}")).err().expect("refused").contains("a is there twice"));
    }

    #[test]
    fn new_lines_are_accepted() {
        let line = htpasswd_line("alice", "s3cret").expect("a line");
        let file = parse(&line).expect("accepted");
        let (hash, known) = file.hash("alice", b"").expect("there");
        assert!(known && hash.starts_with("$2y$10$"));
        assert!(
            bcrypt::verify("s3cret", hash).expect("a hash")
                && !bcrypt::verify("other", hash).expect("a hash")
        );
        for (user, password) in [("a:b", "x"), ("", "x"), ("#a", "x"), ("a", ""), ("a", &"x".repeat(73))] {
            assert!(htpasswd_line(user, password).is_err(), "{user}");
        }
    }
}
