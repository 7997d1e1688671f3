//! A whole build: from a request to results in the places that were asked for.

use std::sync::Arc;

use anyhow::Result;
use crossdock_builder::solver::cache::Imported;
use crossdock_builder::{BuildRequest, Built, Environment, Events, Secrets, Shared};
use crossdock_oci::layer::Timestamps;
use crossdock_oci::store::LayerOptions;
use crossdock_oci::{Reference, Store};
use crossdock_platform::Platform;
use crossdock_sandbox::Emulator;
use serde_json::{Map, Value};

use crate::ahead::Ahead;
use crate::annotations::Annotations;
use crate::attest::provenance::Inputs;
use crate::attest::settings::Settings;
use crate::attest::steps::Steps;
use crate::attest::{self, Making};
use crate::caches::{self, Export};
use crate::outputs::{self, Output, Surroundings};
use crate::source::Source;

/// A build with everything around it.
pub struct Order<'a> {
    /// What to build.
    pub request: &'a BuildRequest,
    /// Where images, downloads and repositories come from.
    pub source: &'a Source<'a>,
    /// Holds what is built.
    pub store: &'a Store,
    /// Results of steps of other builds.
    pub imported: &'a Imported,
    /// Names of the result.
    pub tags: &'a [Reference],
    /// Where the result goes.
    pub outputs: &'a [Output],
    /// Annotations that every output gets.
    pub annotations: &'a Annotations,
    /// Where results of steps go.
    pub exports: &'a [Export],
    /// The attestations that are asked for.
    pub attestations: &'a Settings,
    /// What a provenance says of the request.
    pub inputs: &'a Inputs,
    /// The pushes, which begin during the build.
    pub ahead: &'a Ahead,
    /// How layers are written, see [`layer_options`].
    pub layers: LayerOptions,
    /// Secrets and SSH agents.
    pub secrets: &'a dyn Secrets,
    /// The emulator for a platform; the error is a sentence for the user.
    pub emulator: &'a (dyn Fn(&Platform) -> Result<Emulator, String> + Sync),
    /// Other machines that execute commands.
    pub farm: Option<&'a dyn crossdock_builder::Farm>,
    /// Hears of the steps.
    pub events: &'a dyn Events,
    /// Changes the images before they get attestations and go out.
    pub amend: &'a dyn Fn(&mut Built) -> Result<()>,
    /// Tells a person something.
    pub say: &'a dyn Fn(&str),
}

/// What came of an [`Order`].
pub struct Delivered {
    /// The result as it was built; `None` if nobody needs images.
    pub built: Option<Built>,
    /// The result in the form of each output.
    pub formed: Vec<Built>,
    /// The attestations that a metadata file shows: members such as `buildx.build.provenance`.
    pub metadata: Map<String, Value>,
}

impl Delivered {
    /// The result in the form of the first output, which is what the user is told of; `None` if nobody needs
    /// images.
    pub fn shown(&self) -> Option<&Built> {
        self.formed.first().or(self.built.as_ref())
    }
}

/// How layers are written for these outputs.
///
/// # Errors
///
/// Two outputs want different compressions.
pub fn layer_options(outputs: &[Output], source_date_epoch: Option<i64>) -> Result<LayerOptions> {
    let (compression, level) = outputs::compression(outputs)?;
    let timestamps = match source_date_epoch {
        Some(seconds) => Timestamps::Clamp(seconds),
        None => Timestamps::Keep,
    };
    Ok(LayerOptions { compression, level, timestamps, ..LayerOptions::default() })
}

impl Order<'_> {
    /// Builds, attests, and brings the result and the caches where they go. If the settings say that nobody
    /// needs images, it only builds.
    ///
    /// # Errors
    ///
    /// Those of the build, of registries, and of writing. A registry that refuses the push ends the build,
    /// and its answer is the error.
    pub fn run(&self) -> Result<Delivered> {
        let Order { store, layers, .. } = *self;
        let steps = Steps::new(self.events);
        let environment = Environment {
            store,
            images: self.source,
            events: &steps,
            imported: self.imported,
            layers,
            sink: self.ahead.sink(),
            secrets: self.secrets,
            stop: Arc::default(),
            shared: &Shared::default(),
            emulator: self.emulator,
            farm: self.farm,
            failed: None,
        };
        if !self.request.settings.needs_images {
            crossdock_builder::make(&environment, self.request)?;
            return Ok(Delivered { built: None, formed: Vec::new(), metadata: Map::new() });
        }
        let built = crossdock_builder::build(&environment, self.request);
        let built = built.map_err(|error| self.ahead.refusal().unwrap_or_else(|| error.into()))?;
        let mut built = caches::inline(store, built, self.exports)?;
        (self.amend)(&mut built)?;
        let name = self.tags.first().map(Reference::familiar);
        let making = Making {
            environment: &environment,
            settings: self.attestations,
            inputs: self.inputs,
            platforms: &self.request.settings.platforms,
            steps: &steps,
            materials: &self.source.materials(),
            epoch: self.request.settings.source_date_epoch,
            name: name.as_deref(),
            say: self.say,
        };
        let attested = attest::make(&making, self.request, &built)?;
        let tags = self.tags;
        let with = Surroundings { ahead: self.ahead, store, tags, layers, stream: None, say: self.say };
        let mut formed = Vec::new();
        for output in self.outputs {
            let result = attested.form(output, store, &built, self.annotations, &layers, tags)?;
            output.write(&with, &result.built)?;
            formed.push(result.built);
        }
        caches::export(self.source, store, &built, self.exports, self.say)?;
        let metadata = attested.for_metadata(&built);
        Ok(Delivered { built: Some(built), formed, metadata })
    }
}
