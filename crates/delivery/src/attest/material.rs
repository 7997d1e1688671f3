//! What a build took from elsewhere: images, repositories, downloads, each with its digest. They are the
//! `resolvedDependencies` of a provenance (SLSA, Provenance v1, "resolvedDependencies").

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crossdock_oci::digest::Hashing;
use crossdock_oci::{Digest, Reference};
use crossdock_platform::Platform;

/// One thing that a build took from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// An image.
    Image {
        /// Its name.
        reference: Reference,
        /// The platform that it was taken for.
        platform: Platform,
        /// What the name stands for: the index, or the manifest where there is none.
        digest: Digest,
    },
    /// An image in a layout of the client.
    Layout {
        /// The name of the build context.
        name: String,
        /// The platform that the build is for.
        platform: Platform,
        /// What was asked for: an index or a manifest.
        digest: Digest,
    },
    /// A Git repository.
    Repository {
        /// Its address without a password, with the branch or directory after `#`.
        address: String,
        /// The commit, in hexadecimal digits.
        commit: String,
    },
    /// A file.
    Download {
        /// Its address without a password.
        address: String,
        /// Digest of its content.
        digest: Digest,
    },
}

/// The materials of one build, in the order in which they were met; several threads add to it.
#[derive(Debug, Default)]
pub struct Materials(Mutex<Vec<Material>>);

impl Materials {
    /// Adds a material, if it is not there yet.
    pub fn note(&self, material: Material) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains(&material) {
            all.push(material);
        }
    }

    /// Everything that was added.
    pub fn all(&self) -> Vec<Material> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// SHA-256 of a file's content.
///
/// # Errors
///
/// The file cannot be read.
pub fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut hashing = Hashing::new(io::sink());
    io::copy(&mut File::open(path)?, &mut hashing)?;
    Ok(hashing.finish().1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn materials_are_kept_once() {
        let materials = Materials::default();
        let download =
            |content: &[u8]| Material::Download { address: "http://a/b".into(), digest: Digest::of(content) };
        for content in [b"1", b"2", b"1"] {
            materials.note(download(content));
        }
        assert_eq!(materials.all(), [download(b"1"), download(b"2")]);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "1").expect("writable");
        assert_eq!(digest_of(file.path()).expect("readable"), Digest::of(b"1"));
    }
}
