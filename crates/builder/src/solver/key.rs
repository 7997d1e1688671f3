//! Digests of steps: a canonical, injective encoding of what a step depends on, hashed.

use crossdock_oci::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// Raised when the meaning of a key changes, so that old cache records are never taken for new ones.
const VERSION: &str = "crossdock step 2";

/// The name of the part that a key begins with: the kind of the step, and the state that it changes.
const BASE: &str = "what the step builds on";

/// More parts are put together with the last one.
const PARTS_MAX: usize = 200;

/// Collects the fields of a key. Each field is preceded by its length, so that no two lists of fields have
/// the same bytes.
pub struct Key {
    all: Hasher,
    /// The part that fields go to now.
    part: (String, Hasher),
    parts: Vec<Part>,
}

/// Some fields of a key under a name for people, to tell which of them differ from an earlier key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// For a message: `the command`, `$NAME`. Fields of a part without a name are never told.
    pub name: String,
    /// The first 16 digits of the digest of the part's fields.
    pub digest: String,
}

impl Key {
    /// A key of the given kind of step, on top of the state that `parent` names.
    pub fn new(kind: &str, parent: &Digest) -> Key {
        let part = (BASE.to_string(), Hasher::sha256());
        let mut key = Key { all: Hasher::sha256(), part, parts: Vec::new() };
        key.field(VERSION).field(kind).field(parent.as_str());
        key
    }

    /// Adds a field.
    pub fn field(&mut self, bytes: impl AsRef<[u8]>) -> &mut Key {
        let bytes = bytes.as_ref();
        let length = (bytes.len() as u64).to_le_bytes();
        for hasher in [&mut self.all, &mut self.part.1] {
            hasher.update(&length);
            hasher.update(bytes);
        }
        self
    }

    /// Gives the fields that follow a name. It is no field itself.
    pub fn part(&mut self, name: impl Into<String>) -> &mut Key {
        if self.parts.len() < PARTS_MAX {
            let (name, hasher) = std::mem::replace(&mut self.part, (name.into(), Hasher::sha256()));
            self.parts.push(Part::new(name, hasher));
        }
        self
    }

    /// Adds an optional field; `None` differs from an empty one.
    pub fn option(&mut self, value: Option<impl AsRef<[u8]>>) -> &mut Key {
        match value {
            None => self.field("-"),
            Some(value) => self.field("+").field(value),
        }
    }

    /// Adds a list with its length.
    pub fn list<T: AsRef<[u8]>>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Key {
        let values: Vec<T> = values.into_iter().collect();
        self.field(values.len().to_string());
        for value in values {
            self.field(value);
        }
        self
    }

    /// The digest of all fields.
    pub fn finish(self) -> Digest {
        self.all.finish()
    }

    /// The digest of all fields, and the named parts.
    pub fn finish_parts(mut self) -> (Digest, Vec<Part>) {
        self.parts.push(Part::new(self.part.0, self.part.1));
        (self.all.finish(), self.parts)
    }
}

impl Part {
    fn new(name: String, hasher: Hasher) -> Part {
        Part { name, digest: hasher.finish().hex()[..16].to_string() }
    }
}

/// The names of the parts that differ: changed, added or removed ones, each once. If what the step builds on
/// is among them, it comes first.
pub fn differences(before: &[Part], now: &[Part]) -> Vec<String> {
    let mut names = Vec::new();
    for (one, other) in [(now, before), (before, now)] {
        let differing = one.iter().filter(|part| !part.name.is_empty() && !other.contains(part));
        for part in differing {
            if !names.contains(&part.name) {
                names.push(part.name.clone());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_fields_give_different_keys() {
        let parent = Digest::of(b"");
        let key = |fields: &[&str]| {
            let mut key = Key::new("x", &parent);
            key.list(fields);
            key.finish()
        };
        let all =
            [key(&[]), key(&[""]), key(&["a", "b"]), key(&["ab"]), key(&["a", "", "b"]), key(&["b", "a"])];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "{i}");
        }
        let (digest, parts) = {
            let mut key = Key::new("x", &parent);
            key.part("the command").field("a").part("$B").field("b");
            key.finish_parts()
        };
        let plain = {
            let mut key = Key::new("x", &parent);
            key.field("a").field("b");
            key.finish()
        };
        assert_eq!(digest, plain, "names are no part of the key");
        assert_eq!(
            parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(),
            [BASE, "the command", "$B"]
        );
        let option = |value| {
            let mut key = Key::new("x", &parent);
            key.option(value);
            key.finish()
        };
        assert_ne!(option(None), option(Some("")));
    }

    #[test]
    fn differing_parts_are_named() {
        let parts = |base: &str, fields: &[(&str, &str)]| {
            let mut key = Key::new("x", &Digest::of(base.as_bytes()));
            for (name, value) in fields {
                key.part(*name).field(value);
            }
            key.finish_parts().1
        };
        let before = parts("", &[("the command", "make"), ("", "2"), ("$A", "1"), ("$B", "1")]);
        assert_eq!(differences(&before, &before), Vec::<String>::new());
        let now = parts("", &[("the command", "make"), ("", "3"), ("$A", "2"), ("$C", "1")]);
        assert_eq!(differences(&before, &now), ["$A", "$C", "$B"]);
        let now = parts("other", &[("the command", "make x"), ("", "2"), ("$A", "1"), ("$B", "1")]);
        assert_eq!(differences(&before, &now), [BASE, "the command"]);
        let many = (0..1000).map(|i| ("$X", if i % 2 == 0 { "a" } else { "b" })).collect::<Vec<_>>();
        assert_eq!(parts("", &many).len(), PARTS_MAX + 1);
    }
}
