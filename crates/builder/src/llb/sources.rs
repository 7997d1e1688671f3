//! Images, directories, downloads and repositories as trees.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use crossdock_dockerfile::ignore::Ignore;
use crossdock_oci::store::TemporaryDirectory;
use crossdock_oci::{Descriptor, Digest};
use crossdock_platform::Platform;

use super::graph::Source;
use super::solving::{Current, Directory, Made, Solving, Value, entry};
use crate::error::ErrorKind;
use crate::event::Event;
use crate::files::copy;
use crate::files::tree::Tree;
use crate::git::{GitSource, without_password};
use crate::solver::key::Key;
use crate::solver::layer::image_layers;

impl Solving<'_, '_, '_> {
    /// The tree of a source.
    pub fn source(&self, current: &Current<'_>, source: &Source) -> Result<Value, ErrorKind> {
        let platform = &current.op.platform;
        match source {
            Source::Image { reference, pull } => {
                let manifest = self.engine.env.images.resolve(reference, platform, *pull);
                let manifest =
                    manifest.map_err(|reason| ErrorKind::BaseImage { name: reference.familiar(), reason })?;
                self.image(current, &manifest)
            }
            Source::Images(images) => self.image(current, choose(images, platform, &current.op.name)?),
            Source::Directory(path) => self.directory(path.clone(), (0, 0), None),
            Source::Http { url, checksum, filename, mode, owner } => {
                let directory = self.engine.temporary()?;
                self.download(&directory, (url, checksum.as_ref()), filename, *mode)?;
                self.directory(directory.path().to_path_buf(), *owner, Some(directory))
            }
            Source::Git { source, keep_git } => self.repository(source, *keep_git),
        }
    }

    fn image(&self, current: &Current<'_>, manifest: &Descriptor) -> Result<Value, ErrorKind> {
        self.engine.env.events.event(Event::Unpacking { step: current.step });
        let (config, layers) = image_layers(self.engine.env.store, manifest, false)?;
        // The same key as a base image of a Dockerfile.
        let mut key = Key::new("base", &Digest::of(b""));
        key.list(config.rootfs.diff_ids.iter().map(Digest::as_str));
        let mut history = config.history.iter().filter(|line| line.empty_layer != Some(true));
        let made = layers.into_iter().map(|layer| {
            let line = history.next();
            let created_by = line.and_then(|line| line.created_by.clone());
            Made {
                layer,
                created: line.and_then(|line| line.created.clone()),
                created_by: created_by.unwrap_or_else(|| current.op.name.clone()),
            }
        });
        let layers = made.collect();
        Ok(Value { digest: key.finish(), layers, directory: None, made_by: Some(current.step) })
    }

    /// A directory as a tree, named by its content.
    fn directory(
        &self,
        path: PathBuf,
        owner: (u32, u32),
        temporary: Option<TemporaryDirectory>,
    ) -> Result<Value, ErrorKind> {
        let failed = |e| ErrorKind::io(format!("open {}", path.display()), e);
        let tree = Tree::open(&path, Ignore::default()).map_err(failed)?;
        let directory = Directory { path: path.clone(), owner, _temporary: temporary };
        let mut value = Value { directory: Some(Arc::new(directory)), ..Value::empty() };
        let mut key = Key::new("context", &Digest::of(b""));
        copy::add_to_key(&mut key, &tree, &entry(&tree, "")?, &self.options_of(&value), None)?;
        value.digest = self.engine.timed(key).0;
        Ok(value)
    }

    fn download(
        &self,
        directory: &TemporaryDirectory,
        (url, checksum): (&str, Option<&Digest>),
        filename: &str,
        mode: u32,
    ) -> Result<(), ErrorKind> {
        let shown = without_password(url);
        let failed = |reason: String| ErrorKind::Download { url: shown.clone(), reason };
        if filename.contains('/') || matches!(filename, "" | "." | "..") {
            return Err(failed(format!("{filename:?} is no name for a file")));
        }
        let path = directory.path().join(filename);
        let modified = self.engine.env.images.download(url, &path).map_err(failed)?;
        let io = |e: std::io::Error| ErrorKind::io(format!("use the download of {shown}"), e);
        let mut file = File::options().read(true).write(true).open(&path).map_err(io)?;
        if let Some(expected) = checksum {
            let digest = expected.again(&mut file).map_err(io)?;
            if digest != *expected {
                return Err(failed(format!("digest mismatch {digest}: {expected}")));
            }
        }
        let time = modified.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time);
        file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(io)?;
        file.set_modified(time).map_err(io)
    }

    fn repository(&self, source: &GitSource, keep_git: bool) -> Result<Value, ErrorKind> {
        let shown = without_password(&source.remote);
        let failed = |reason: String| ErrorKind::Download { url: shown.clone(), reason };
        let directory = self.engine.temporary()?;
        let env = self.engine.env;
        let commit = env.images.checkout(source, keep_git, directory.path(), env.secrets).map_err(failed)?;
        let path = match source.directory.as_str() {
            "" => directory.path().to_path_buf(),
            inside => {
                let tree = Tree::open(directory.path(), Ignore::default());
                let found = tree.and_then(|tree| crate::files::tree::resolve(tree.root(), inside.as_bytes()));
                let found = found.map_err(|e| ErrorKind::io(format!("open {inside} of {shown}"), e))?;
                directory.path().join(OsStr::from_bytes(&found))
            }
        };
        let mut value = self.directory(path, (0, 0), Some(directory))?;
        if keep_git {
            // Git's own files differ each time.
            let mut key = Key::new("git", &Digest::of(b""));
            key.field(commit).field(&source.directory);
            value.digest = self.engine.timed(key).0;
        }
        Ok(value)
    }
}

/// The image for a platform.
fn choose<'a>(
    images: &'a [(Platform, Descriptor)],
    platform: &Platform,
    name: &str,
) -> Result<&'a Descriptor, ErrorKind> {
    if let Some(best) = platform.best(images.iter().map(|(platform, _)| platform)) {
        return Ok(&images[best].1);
    }
    let offered: Vec<String> = images.iter().map(|(platform, _)| platform.to_string()).collect();
    let reason = format!("no image for {platform}; it offers: {}", offered.join(", "));
    Err(ErrorKind::BaseImage { name: name.to_string(), reason })
}
