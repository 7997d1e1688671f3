//! Names of blobs: REAPI, message `Digest`, with the digest function SHA256.

use std::fmt;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use crossdock_oci::Digest as Sha256;
use prost::Message;

/// SHA-256 and length of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    sha256: Sha256,
    size: u64,
}

impl Digest {
    /// A digest of known parts. `None` unless the digest is a SHA-256.
    pub fn new(sha256: Sha256, size: u64) -> Option<Digest> {
        sha256.as_str().starts_with("sha256:").then_some(Digest { sha256, size })
    }

    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest { sha256: Sha256::of(bytes), size: bytes.len() as u64 }
    }

    /// The digest of a message's canonical form.
    pub(crate) fn of_message(message: &impl Message) -> (Digest, Vec<u8>) {
        let bytes = message.encode_to_vec();
        (Digest::of(&bytes), bytes)
    }

    /// The digest in a message of a server. `None` if it is none.
    pub fn from_message(digest: &reapi::Digest) -> Option<Digest> {
        let size = u64::try_from(digest.size_bytes).ok()?;
        let sha256 = format!("sha256:{}", digest.hash).parse().ok()?;
        Some(Digest { sha256, size })
    }

    /// As messages have it.
    pub fn to_message(&self) -> reapi::Digest {
        // No blob is longer than i64::MAX: files are not.
        reapi::Digest {
            hash: self.hex().to_string(),
            size_bytes: i64::try_from(self.size).unwrap_or(i64::MAX),
        }
    }

    /// The SHA-256.
    pub fn sha256(&self) -> &Sha256 {
        &self.sha256
    }

    /// The SHA-256 as 64 digits.
    pub fn hex(&self) -> &str {
        self.sha256.hex()
    }

    /// Length of the blob in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hex(), self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_digest_is_taken_from_a_message() {
        let good = Digest::of(b"hello");
        assert_eq!(Digest::from_message(&good.to_message()), Some(good.clone()));
        for (hash, size_bytes) in [("", 5), ("../../etc", 5), (&good.hex()[1..], 5), (good.hex(), -1)] {
            assert_eq!(Digest::from_message(&reapi::Digest { hash: hash.to_string(), size_bytes }), None);
        }
    }
}
