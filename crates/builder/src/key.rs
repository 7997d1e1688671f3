//! Digests of steps: a canonical, injective encoding of what a step depends on, hashed.

use crossdock_oci::digest::{Digest, Hasher};

/// Raised when the meaning of a key changes, so that old cache records are never taken for new ones.
const VERSION: &str = "crossdock step 2";

/// Collects the fields of a key. Each field is preceded by its length, so that no two lists of fields have
/// the same bytes.
pub struct Key(Hasher);

impl Key {
    /// A key of the given kind of step, on top of the state that `parent` names.
    pub fn new(kind: &str, parent: &Digest) -> Key {
        let mut key = Key(Hasher::sha256());
        key.field(VERSION).field(kind).field(parent.as_str());
        key
    }

    /// Adds a field.
    pub fn field(&mut self, bytes: impl AsRef<[u8]>) -> &mut Key {
        let bytes = bytes.as_ref();
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
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
        self.0.finish()
    }
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
        let option = |value| {
            let mut key = Key::new("x", &parent);
            key.option(value);
            key.finish()
        };
        assert_ne!(option(None), option(Some("")));
    }
}
