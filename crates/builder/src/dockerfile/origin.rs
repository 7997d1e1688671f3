//! What COPY, mounts and FROM take files from.

use crossdock_dockerfile::{Lines, Stage};
use crossdock_oci::{Descriptor, Digest, Reference};

use super::names::Origin;
use super::request::NamedContext;
use super::stage::StageRun;
use crate::error::{BuildError, ErrorKind};
use crate::solver::key::Key;
use crate::solver::layer::{Layer, image_layers};

impl StageRun<'_, '_, '_> {
    /// The origin that the `from` of COPY or a mount names.
    pub fn origin(&self, name: &str, lines: Lines) -> Result<Origin, BuildError> {
        let names = self.plan.names();
        names.resolve(name, self.index, lines)
    }

    /// The layers of an origin that is an image or a stage, and a digest that names their content.
    pub fn origin_layers(&self, origin: &Origin, lines: Lines) -> Result<(Vec<Layer>, Digest), BuildError> {
        let from_manifest = |manifest: &Descriptor| {
            // A farm may know what is copied from it, as with a base image.
            let may_wait = self.engine.env.farm.is_some() && self.use_cache;
            let (config, layers) =
                image_layers(self.engine.env.store, manifest, may_wait).map_err(|e| e.at(lines))?;
            let mut key = Key::new("base", &Digest::of(b""));
            key.list(config.rootfs.diff_ids.iter().map(Digest::as_str));
            Ok((layers, key.finish()))
        };
        match origin {
            Origin::Scratch => Ok((Vec::new(), Digest::of(b""))),
            Origin::Stage(index) => {
                let state = self.stage(*index);
                let state = state.map_err(|e| e.at(lines))?;
                Ok((state.layers.clone(), state.digest.clone()))
            }
            Origin::Image(reference) | Origin::Context(NamedContext::Image(reference)) => {
                let platform = &self.state.platform;
                let images = self.engine.env.images;
                let manifest =
                    images.resolve(reference, platform, self.plan.request.pull).map_err(|reason| {
                        let reason = self.explain_later_stage(reference, reason);
                        ErrorKind::BaseImage { name: reference.familiar(), reason }.at(lines)
                    })?;
                from_manifest(&manifest)
            }
            Origin::Context(NamedContext::OciLayout { path, name }) => {
                from_manifest(&self.layout_image(path, name.as_deref(), lines)?)
            }
            Origin::Context(NamedContext::Images(images)) => {
                from_manifest(&self.choose(images, "the result of another build", lines)?)
            }
            Origin::Context(_) => {
                Err(ErrorKind::Dockerfile("a directory is not an image".to_string()).at(lines))
            }
        }
    }

    /// Explains the error if the name is that of a later stage, which was taken for an image.
    fn explain_later_stage(&self, reference: &Reference, reason: String) -> String {
        let is_it = |stage: &Stage| {
            let named = stage.name.as_ref().and_then(|name| name.parse::<Reference>().ok());
            named.is_some_and(|named| named == *reference)
        };
        match self.plan.file.stages[self.index..].iter().any(is_it) {
            true => format!("{reason} (a stage of that name comes later; only earlier stages can be used)"),
            false => reason,
        }
    }
}
