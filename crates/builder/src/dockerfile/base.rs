//! FROM.

use crossdock_dockerfile::{Lines, Stage};
use crossdock_oci::store::Scratch;
use crossdock_oci::{Descriptor, Digest, ImageConfig, Reference};
use crossdock_platform::Platform;

use super::names::{Origin, platform_of};
use super::request::NamedContext;
use super::scope::Env;
use super::stage::{StageRun, Step};
use crate::error::{BuildError, ErrorKind};
use crate::event::Event;
use crate::files::copy::{self, CopyOptions, Placement};
use crate::solver::engine::Reach;
use crate::solver::key::Key;
use crate::solver::layer::{Base, image_layers, open_root};

impl StageRun<'_, '_, '_> {
    pub fn from(&mut self, stage: &Stage) -> Result<(), BuildError> {
        if let Some(platform) = platform_of(stage, &self.scope)? {
            self.state.platform = platform;
        }
        let origin = self.plan.names().resolve(&self.base, self.index, stage.lines)?;
        let base = self.base.clone();
        match origin {
            Origin::Scratch => {
                self.total -= 1;
                self.scratch();
            }
            Origin::Stage(index) => {
                self.total -= 1;
                let inherited = self.stage(index);
                let inherited = inherited.map_err(|e| e.at(stage.lines))?;
                self.state = (*inherited).clone();
                self.state.weight.add(0).map_err(|e| e.at(stage.lines))?;
                self.state.scope = self.scope.stage(Some(&inherited.scope));
            }
            Origin::Image(reference) => self.image_base(&reference, &base, stage.lines)?,
            Origin::Context(NamedContext::Image(reference)) => {
                self.image_base(&reference, &base, stage.lines)?
            }
            Origin::Context(NamedContext::OciLayout { path, name }) => {
                let manifest = self.layout_image(&path, name.as_deref(), stage.lines)?;
                self.load_base(&manifest, &base, stage.lines)?;
            }
            Origin::Context(NamedContext::Images(images)) => {
                let manifest = self.choose(&images, &base, stage.lines)?;
                self.load_base(&manifest, &base, stage.lines)?;
            }
            Origin::Context(NamedContext::Directory { path, ignore }) => {
                self.scratch();
                self.directory_base(&NamedContext::Directory { path, ignore }, &base, stage.lines)?;
            }
            Origin::Context(NamedContext::Stage(_)) => {
                unreachable!("a name of a stage is resolved to the stage")
            }
        }
        Ok(())
    }

    /// Sets the configuration of an empty image.
    fn scratch(&mut self) {
        let platform = self.state.platform.clone();
        self.state.config.os = platform.os;
        self.state.config.architecture = platform.architecture;
        self.state.config.variant = platform.variant;
        self.state.config.config.working_dir = "/".to_string();
        if self.plan.request.settings.source_date_epoch.is_some() {
            self.state.config.created = Some(self.engine.now());
        }
    }

    /// Makes a directory the root file system of a stage: its files are one layer and belong to root, as with
    /// COPY.
    fn directory_base(&mut self, context: &NamedContext, name: &str, lines: Lines) -> Result<(), BuildError> {
        let origin = Origin::Context(context.clone());
        let tree = self.tree(Some(&origin), None, &[], lines)?;
        let start =
            tree.entry("").map_err(|e| ErrorKind::io(format!("read build context {name}"), e).at(lines))?;
        let options = CopyOptions {
            owner: Some((0, 0)),
            mtime_max: self.plan.request.settings.source_date_epoch,
            ..CopyOptions::default()
        };
        let title = format!("FROM {name}");
        self.begin(&title, lines);
        let mut key = Key::new("context", &Digest::of(b""));
        key.part("the files");
        copy::add_to_key(&mut key, &tree, &start, &options, None)
            .map_err(|e| ErrorKind::Copy(e).at(lines))?;
        let key = self.engine.timed(key);
        let mut execute = |scratch: &Scratch, _| {
            let stack = open_root(scratch, &[])?;
            copy::copy(&tree, &start, stack.root(), b"", Placement::Exact, &options)?;
            Ok(stack.finish()?)
        };
        let step = Step {
            title: &title,
            key,
            created_by: title.clone(),
            varies: false,
            reach: Reach::Here,
            later: None,
        };
        self.layer_step(step, lines, &mut execute)
    }

    fn image_base(&mut self, reference: &Reference, name: &str, lines: Lines) -> Result<(), BuildError> {
        let engine = self.engine;
        let platform = self.state.platform.clone();
        self.begin(&format!("FROM {name}"), lines);
        let (step, started) = self.open.take().expect("a step was announced");
        let resolved = engine.env.images.resolve(reference, &platform, self.plan.request.pull);
        let result = resolved
            .map_err(|reason| ErrorKind::BaseImage { name: reference.familiar(), reason }.at(lines))
            .and_then(|manifest| {
                engine.env.events.event(Event::Unpacking { step });
                self.load_base(&manifest, name, lines)
            });
        match &result {
            Ok(()) => {
                let digest = self.state.digest.clone();
                engine.env.events.event(Event::Keyed { step, digest, inputs: Vec::new() });
                self.state.made_by = Some(step);
                engine.finish(step, started, false);
            }
            Err(error) => engine.give_up(step, &error.kind),
        }
        result
    }

    /// Loads an image of an OCI layout directory into the store.
    pub(super) fn layout_image(
        &self,
        path: &std::path::Path,
        name: Option<&str>,
        lines: Lines,
    ) -> Result<Descriptor, BuildError> {
        let wanted = |entry: &Descriptor| match name {
            None => true,
            Some(name) => {
                entry.digest.as_str() == name
                    || entry
                        .annotations
                        .get("org.opencontainers.image.ref.name")
                        .is_some_and(|tag| tag == name)
            }
        };
        let shown = || format!("oci-layout://{}", path.display());
        let loaded =
            self.engine.env.store.read_layout(path, wanted).map_err(|e| ErrorKind::Store(e).at(lines))?;
        let images: Vec<_> = loaded.into_iter().flat_map(|image| image.images).collect();
        self.choose(&images, &shown(), lines)
    }

    /// The image for the stage's platform.
    pub(super) fn choose(
        &self,
        images: &[(Platform, Descriptor)],
        name: &str,
        lines: Lines,
    ) -> Result<Descriptor, BuildError> {
        match self.state.platform.best(images.iter().map(|(platform, _)| platform)) {
            Some(best) => Ok(images[best].1.clone()),
            None => {
                let offered: Vec<String> = images.iter().map(|(platform, _)| platform.to_string()).collect();
                let reason =
                    format!("no image for {}; it offers: {}", self.state.platform, offered.join(", "));
                Err(ErrorKind::BaseImage { name: name.to_string(), reason }.at(lines))
            }
        }
    }

    /// Takes over the base image's configuration and layers.
    fn load_base(&mut self, manifest: &Descriptor, name: &str, lines: Lines) -> Result<(), BuildError> {
        // A farm may know all steps, so that nobody reads the files. Otherwise somebody will, and other
        // stages are at work meanwhile.
        let may_wait = self.engine.env.farm.is_some() && self.use_cache;
        let (mut config, layers) =
            image_layers(self.engine.env.store, manifest, may_wait).map_err(|e| e.at(lines))?;
        self.state.weight.add(config.to_bytes().len()).map_err(|e| e.at(lines))?;
        self.state.env = Env::new(std::mem::take(&mut config.config.env));
        let found = config.platform();
        if self.state.platform.rank(&found).is_none() {
            let message = format!("{name} is an image for {found}, not for {}", self.state.platform);
            self.engine.env.events.event(Event::Warning { message, lines: Some(lines) });
        }
        let mut key = Key::new("base", &Digest::of(b""));
        key.list(config.rootfs.diff_ids.iter().map(Digest::as_str));
        self.state.digest = key.finish();
        self.state.base = Base { layers: layers.len(), history: config.history.len() };
        self.state.layers = layers;
        self.state.config = ImageConfig { rootfs: Default::default(), ..config };
        Ok(())
    }
}
