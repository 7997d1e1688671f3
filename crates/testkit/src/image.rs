//! Tiny images, written by the `tar` crate so that they do not share code with what they test.

use crossdock_oci::config::{History, ImageConfig, RootFs};
use crossdock_oci::manifest::{Annotations, Descriptor, Index, Manifest};
use crossdock_oci::{Digest, Reference, Store, media_type};
use crossdock_platform::Platform;

/// A layer's archive, entry by entry, including archives that no honest program writes.
#[derive(Default)]
pub struct LayerTar {
    bytes: Vec<u8>,
}

impl LayerTar {
    /// An empty archive.
    pub fn new() -> LayerTar {
        LayerTar::default()
    }

    /// A header for an entry of any type with all numbers zero but `mode`.
    pub fn header(kind: tar::EntryType, path: &str, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        let name = &mut header.as_mut_bytes()[..100];
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(1_700_000_000);
        header
    }

    /// Appends a header as it is, its checksum set, with content.
    pub fn raw(mut self, mut header: tar::Header, content: &[u8]) -> LayerTar {
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// A regular file of mode 0644.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> LayerTar {
        self.file_mode(path, content, 0o644)
    }

    /// A regular file.
    pub fn file_mode(self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> LayerTar {
        let mut header = LayerTar::header(tar::EntryType::Regular, path, mode);
        header.set_size(content.as_ref().len() as u64);
        self.raw(header, content.as_ref())
    }

    /// A directory of mode 0755.
    pub fn dir(self, path: &str) -> LayerTar {
        self.raw(LayerTar::header(tar::EntryType::Directory, path, 0o755), b"")
    }

    /// A symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> LayerTar {
        self.link(tar::EntryType::Symlink, path, target)
    }

    /// A hard link.
    pub fn hard_link(self, path: &str, target: &str) -> LayerTar {
        self.link(tar::EntryType::Link, path, target)
    }

    fn link(self, kind: tar::EntryType, path: &str, target: &str) -> LayerTar {
        let mut header = LayerTar::header(kind, path, 0o777);
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        self.raw(header, b"")
    }

    /// PAX records for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> LayerTar {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n);
            content.extend_from_slice(format!("{} {key}=", length.expect("some length fits")).as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        let mut header = LayerTar::header(tar::EntryType::XHeader, "PaxHeaders/x", 0o644);
        header.set_size(content.len() as u64);
        self.raw(header, &content)
    }

    /// The archive with its end.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

/// An image in a store.
#[derive(Clone, Debug)]
pub struct TinyImage {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its platform.
    pub platform: Platform,
    /// Its layers' descriptors, uncompressed tar.
    pub layers: Vec<Descriptor>,
    /// The `diff_id` of each layer.
    pub diff_ids: Vec<Digest>,
}

impl TinyImage {
    /// Writes an image with the given layers to the store; it gets no name.
    pub fn write(store: &Store, platform: &str, layers: Vec<LayerTar>) -> TinyImage {
        let platform: Platform = platform.parse().expect("a valid platform");
        let put = |kind: &str, bytes: &[u8]| {
            store.write_blob(bytes).expect("a writable store");
            Descriptor::of(kind, bytes)
        };
        let layers: Vec<Descriptor> =
            layers.into_iter().map(|l| put(media_type::OCI_LAYER_TAR, &l.finish())).collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|l| l.digest.clone()).collect();
        let config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            rootfs: RootFs { diff_ids: diff_ids.clone(), ..RootFs::default() },
            history: layers.iter().map(|_| History::default()).collect(),
            ..ImageConfig::default()
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_string()),
            artifact_type: None,
            config: put(media_type::OCI_CONFIG, &config.to_bytes()),
            layers: layers.clone(),
            subject: None,
            annotations: Annotations::new(),
        };
        let manifest = put(media_type::OCI_MANIFEST, &manifest.to_bytes());
        TinyImage { manifest, platform, layers, diff_ids }
    }

    /// Like [`TinyImage::write`], under a name.
    pub fn named(store: &Store, name: &str, platform: &str, layers: Vec<LayerTar>) -> TinyImage {
        let image = TinyImage::write(store, platform, layers);
        let reference: Reference = name.parse().expect("a valid reference");
        store.put_image(&reference, &image.platform, &image.manifest).expect("a writable store");
        image
    }

    /// An index of images, written to the store under a name.
    pub fn index(store: &Store, name: &str, images: &[&TinyImage]) -> Descriptor {
        let entries = images.iter().map(|i| i.manifest.clone().with_platform(i.platform.clone()));
        let bytes = Index::new(entries.collect()).to_bytes();
        store.write_blob(&bytes).expect("a writable store");
        let index = Descriptor::of(media_type::OCI_INDEX, &bytes);
        let present: Vec<_> = images.iter().map(|i| (i.platform.clone(), i.manifest.clone())).collect();
        let reference: Reference = name.parse().expect("a valid reference");
        store.put_index(&reference, &index, &present).expect("a writable store");
        index
    }
}
