//! Content digests: `algorithm:hex`, OCI image specification `descriptor.md`, section Digests.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A digest of some content, checked for form: `sha256:` with 64 or `sha512:` with 128 lower-case hexadecimal
/// digits.
///
/// Safe to use as a file name once split by [`Digest::algorithm`] and [`Digest::hex`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A string that is not a digest this program can verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a digest (expected sha256: and 64, or sha512: and 128, lower-case hexadecimal digits)"
)]
pub struct ParseDigestError(pub String);

impl Digest {
    /// The digest of what a reader gives, by the algorithm of this one.
    ///
    /// # Errors
    ///
    /// The reader's.
    pub fn again(&self, mut reader: impl Read) -> io::Result<Digest> {
        let mut hashing = Hashing::with(io::sink(), self.hasher());
        io::copy(&mut reader, &mut hashing)?;
        Ok(hashing.finish().1)
    }

    /// The SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::sha256();
        hasher.update(bytes);
        hasher.finish()
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').expect("checked by the parser").0
    }

    /// The hexadecimal digits.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').expect("checked by the parser").1
    }

    /// The first twelve hexadecimal digits, as lists show them.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The whole digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A hasher of this digest's algorithm.
    pub fn hasher(&self) -> Hasher {
        match self.algorithm() {
            "sha512" => Hasher::Sha512(sha2::Sha512::new()),
            _ => Hasher::sha256(),
        }
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Digest, ParseDigestError> {
        let length = match text.split_once(':') {
            Some(("sha256", _)) => 64,
            Some(("sha512", _)) => 128,
            _ => return Err(ParseDigestError(text.to_string())),
        };
        let hex = &text.as_bytes()[7..];
        if hex.len() == length && hex.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Digest(text.to_string()))
        } else {
            Err(ParseDigestError(text.to_string()))
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Digest, ParseDigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An incremental hash.
#[derive(Clone)]
pub enum Hasher {
    /// SHA-256, what every builder writes.
    Sha256(sha2::Sha256),
    /// SHA-512, allowed by the specification.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A SHA-256 hasher.
    pub fn sha256() -> Hasher {
        Hasher::Sha256(sha2::Sha256::new())
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(h) => h.update(bytes),
            Hasher::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        let (name, bytes) = match self {
            Hasher::Sha256(h) => ("sha256", h.finalize().to_vec()),
            Hasher::Sha512(h) => ("sha512", h.finalize().to_vec()),
        };
        let mut text = String::with_capacity(name.len() + 1 + 2 * bytes.len());
        text.push_str(name);
        text.push(':');
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(nibble.into(), 16).expect("a nibble is below 16"));
            }
        }
        Digest(text)
    }
}

/// A writer or reader that hashes and counts, in bytes, what passes through it.
pub struct Hashing<T> {
    inner: T,
    hasher: Hasher,
    length: u64,
}

impl<T> Hashing<T> {
    /// Hashes with SHA-256.
    pub fn new(inner: T) -> Hashing<T> {
        Hashing::with(inner, Hasher::sha256())
    }

    /// Hashes with the given hasher.
    pub fn with(inner: T, hasher: Hasher) -> Hashing<T> {
        Hashing { inner, hasher, length: 0 }
    }

    /// The inner value, the digest and the number of bytes that passed.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, self.hasher.finish(), self.length)
    }

    /// Bytes that have passed so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The inner value, for example to flush it.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.length += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.length += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn hashes_and_parses() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        let digest: Digest = EMPTY.parse().expect("valid");
        assert_eq!((digest.algorithm(), digest.short()), ("sha256", "e3b0c44298fc"));
        let mut copy = Hashing::new(Vec::new());
        copy.write_all(b"abc").expect("a Vec takes all");
        let (bytes, digest, length) = copy.finish();
        assert_eq!((bytes.as_slice(), length), (&b"abc"[..], 3));
        assert_eq!(digest, Digest::of(b"abc"));
        let longer: Digest = format!("sha512:{}", "0".repeat(128)).parse().expect("valid");
        for known in [&digest, &longer] {
            let again = known.again(&b"abc"[..]).expect("a slice can be read");
            assert_eq!((again.algorithm(), again == *known), (known.algorithm(), *known == digest));
        }
    }

    #[test]
    fn refuses_what_cannot_be_a_file_name() {
        for bad in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            &EMPTY.to_uppercase(),
            &EMPTY[..70],
            "md5:d41d8cd98f00b204e9800998ecf8427e",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Digest>("\"sha256:xyz\"").is_err());
    }
}
