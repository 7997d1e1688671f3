//! The transport `dir:`: the manifest and the blobs of one image or index as files of a directory
//! (containers-transports(5)). The names of blobs are the hexadecimal digits of their digests.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_oci::manifest::MANIFEST_SIZE_MAX;
use crossdock_oci::{Descriptor, Digest, Document, Store};

use crate::output::write_whole;
use crossdock_delivery::input::{Kinds, read_whole};

/// The file with the manifest or index.
const MANIFEST: &str = "manifest.json";
const VERSION: &str = "version";
const VERSION_TEXT: &[u8] = b"Directory Transport Version: 1.1\n";

/// Whether a directory has this form.
pub fn is_one(directory: &Path) -> bool {
    directory.join(MANIFEST).is_file() && !directory.join("index.json").exists()
}

/// The name of a blob's file.
fn blob(directory: &Path, digest: &Digest) -> PathBuf {
    match digest.algorithm() {
        "sha256" => directory.join(digest.hex()),
        other => directory.join(format!("{other}-{}", digest.hex())),
    }
}

/// The name of the file with a manifest of an index.
fn child(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join(format!("{}.{MANIFEST}", digest.hex()))
}

/// Brings everything into a store; returns the manifest or index. Images of an index may be missing.
///
/// # Errors
///
/// Files that are missing, or that are not what their name says.
pub fn read(directory: &Path, store: &Store) -> Result<Descriptor> {
    let path = directory.join(MANIFEST);
    let bytes = read_whole(&path, MANIFEST_SIZE_MAX, Kinds::Regular)?;
    let document =
        Document::parse(&bytes, None).with_context(|| format!("{} is no manifest", path.display()))?;
    let mut pending = vec![document.clone()];
    while let Some(document) = pending.pop() {
        match document {
            Document::Manifest(manifest) => {
                for part in manifest.layers.iter().chain([&manifest.config]) {
                    import(&blob(directory, &part.digest), part, store)?;
                }
            }
            Document::Index(index) => {
                for entry in &index.manifests {
                    let path = child(directory, &entry.digest);
                    if path.exists() {
                        import(&path, entry, store)?;
                        pending.push(store.read_document(entry)?.0);
                    }
                }
            }
        }
    }
    store.write_blob(&bytes)?;
    Ok(Descriptor::of(document.media_type(), &bytes))
}

fn import(path: &Path, part: &Descriptor, store: &Store) -> Result<()> {
    if store.contains(&part.digest)? {
        return Ok(());
    }
    let reading = || format!("read {}", path.display());
    // A named pipe must not stop the command.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file = match fs::File::options().read(true).custom_flags(nonblocking).open(path) {
        // Foreign layers need not be here.
        Err(e) if e.kind() == io::ErrorKind::NotFound && !part.urls.is_empty() => return Ok(()),
        other => other.with_context(reading)?,
    };
    if !file.metadata().with_context(reading)?.is_file() {
        bail!("read {}: it is not a regular file", path.display());
    }
    let mut writer = store.blob_writer_with(part.digest.hasher())?;
    io::copy(&mut file, &mut writer).with_context(reading)?;
    writer.commit(Some(&part.digest)).with_context(reading)?;
    Ok(())
}

/// Writes an image or index to a directory, which is made if it is missing. What was there of another image
/// goes; other files are an error.
///
/// # Errors
///
/// A directory with files that are not of this form; errors of the store and of writing.
pub fn write(store: &Store, target: &Descriptor, directory: &Path) -> Result<()> {
    prepare(directory)?;
    let (document, bytes) = store.read_document(target)?;
    let mut pending = vec![document];
    while let Some(document) = pending.pop() {
        match document {
            Document::Manifest(manifest) => {
                for part in manifest.layers.iter().chain([&manifest.config]) {
                    if !part.urls.is_empty() && !store.contains(&part.digest)? {
                        continue;
                    }
                    export(store, part, &blob(directory, &part.digest))?;
                }
            }
            Document::Index(index) => {
                for entry in &index.manifests {
                    if store.contains(&entry.digest)? {
                        export(store, entry, &child(directory, &entry.digest))?;
                        pending.push(store.read_document(entry)?.0);
                    }
                }
            }
        }
    }
    write_whole(&directory.join(VERSION), VERSION_TEXT)?;
    // The manifest comes last, so that it never names what is not here yet.
    write_whole(&directory.join(MANIFEST), &bytes)
}

/// Makes the directory, or removes what is left of another image.
fn prepare(directory: &Path) -> Result<()> {
    let failed = || format!("write to {}", directory.display());
    fs::create_dir_all(directory).with_context(failed)?;
    let entries: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .with_context(failed)?;
    let is_ours =
        fs::read(directory.join(VERSION)).is_ok_and(|text| text.starts_with(b"Directory Transport"));
    if let Some(other) = entries.first().filter(|_| !is_ours) {
        bail!("{} is not empty ({}): give another directory", directory.display(), other.display());
    }
    for path in entries.iter().filter(|path| path.is_file()) {
        fs::remove_file(path).with_context(failed)?;
    }
    Ok(())
}

fn export(store: &Store, part: &Descriptor, path: &Path) -> Result<()> {
    let writing = || format!("write {}", path.display());
    let mut blob = store.open_blob(&part.digest)?;
    let mut file = fs::File::create(path).with_context(writing)?;
    io::copy(&mut blob, &mut file).with_context(writing)?;
    file.flush().and_then(|()| file.sync_data()).with_context(writing)
}
