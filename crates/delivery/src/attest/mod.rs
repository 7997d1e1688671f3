//! Attestations of a build: how its images were made, and which packages are in them, stored as BuildKit does
//! it.
//!
//! [`settings`] says what is asked for; [`steps`] and [`material`] note what a build does and takes;
//! [`make`] makes the attestations of a result, and [`Attestations::form`] puts them where an output has a
//! place for them. The digests of images do not depend on any of this.

mod files;
mod generator;
pub mod material;
mod opened;
pub mod provenance;
pub mod purl;
pub mod sbom;
pub mod settings;
pub mod statement;
pub mod steps;
pub mod vcs;

use anyhow::{Context, Result, bail};
use crossdock_builder::solver::cache::StepCache;
use crossdock_builder::{Built, BuiltImage, Environment, Made};
use crossdock_oci::store::{LayerOptions, TemporaryDirectory};
use crossdock_oci::{Reference, Store};
use crossdock_platform::Platform;
use serde_json::{Map, Value};

use crate::annotations::Annotations;
use crate::outputs::{AttestationPlace, Output};
use files::SBOM_ENDING;
use material::Material;
use opened::open_root;
use provenance::{Facts, Inputs, Invocation};
use settings::{SbomSettings, Settings};
use statement::{Attestation, SPDX};
use steps::Steps;

/// What attestations are made from.
pub struct Making<'a> {
    /// What the build ran with; a generator of lists of packages is run with it, too.
    pub environment: &'a Environment<'a>,
    /// What is asked for.
    pub settings: &'a Settings,
    /// What the build was asked for.
    pub inputs: &'a Inputs,
    /// The platforms that it was asked for, in the order of the images.
    pub platforms: &'a [Platform],
    /// What the build did.
    pub steps: &'a Steps<'a>,
    /// What the build took from elsewhere.
    pub materials: &'a [Material],
    /// `SOURCE_DATE_EPOCH` in seconds since 1970: the only time in the attestations.
    pub epoch: Option<i64>,
    /// The image's name, for the list of packages.
    pub name: Option<&'a str>,
    /// Tells a person something.
    pub say: &'a dyn Fn(&str),
}

/// The attestations of a result.
#[derive(Default)]
pub struct Attestations {
    /// Those of each image, in the order of the images.
    all: Vec<Vec<Attestation>>,
    epoch: Option<i64>,
}

/// A result in the form of an output.
pub struct Formed {
    /// The result.
    pub built: Built,
    /// Directories of the result that only this output has; removed on drop.
    _directories: Vec<TemporaryDirectory>,
}

/// Says whether each output has a place for the attestations, before a build begins.
///
/// # Errors
///
/// An output without a place, unless the attestations may be left out; the error says what to do.
pub fn check<'a>(settings: &Settings, outputs: impl IntoIterator<Item = &'a Output>) -> Result<()> {
    for output in outputs {
        if let AttestationPlace::Nowhere(reason) = output.attestation_place()
            && settings.is_required()
        {
            bail!("{reason}, or --provenance=false and --sbom=false");
        }
    }
    settings.sbom.as_ref().map_or(Ok(None), generator_of).map(|_| ())
}

/// The name of the generator.
fn generator_of(settings: &SbomSettings) -> Result<Option<Reference>> {
    let name = settings.generator.as_ref().map(|name| name.parse::<Reference>());
    name.transpose()
        .with_context(|| format!("generator={}", settings.generator.as_deref().unwrap_or_default()))
}

/// Makes the attestations of a result.
///
/// # Errors
///
/// The store or the files of an image cannot be read.
pub fn make(making: &Making<'_>, built: &Built) -> Result<Attestations> {
    if making.settings.is_empty() {
        return Ok(Attestations::default());
    }
    let seed: Vec<&str> = built.images.iter().map(|image| image.manifest.digest.as_str()).collect();
    let invocation = Invocation::ending_now(making.steps.started(), making.epoch, &seed.join(" "));
    let one = |(image, platform): (&BuiltImage, &Platform)| -> Result<Vec<Attestation>> {
        let mut all = Vec::new();
        if let Some(settings) = &making.settings.sbom {
            match generator_of(settings)? {
                None => all.push(packages(making, image, &invocation)?),
                Some(generator) => {
                    let (environment, name) = (making.environment, generator.familiar());
                    (making.say)(&format!("listing packages for {} with {name}", image.platform));
                    all.extend(generator::attestations(environment, &generator, settings, image)?);
                }
            }
        }
        all.extend(provenance_of(making, platform, &built.steps, &invocation)?);
        Ok(all)
    };
    let all = built.images.iter().zip(making.platforms).map(one).collect::<Result<_>>()?;
    Ok(Attestations { all, epoch: making.epoch })
}

/// Makes the provenance of a result that is not written as images; there are no lists of packages.
///
/// # Errors
///
/// As for [`make`].
pub fn make_unwritten(making: &Making<'_>, made: &Made) -> Result<Attestations> {
    let seed: Vec<String> =
        made.images.iter().map(|image| serde_json::to_string(&image.config)).collect::<Result<_, _>>()?;
    let invocation = Invocation::ending_now(making.steps.started(), making.epoch, &seed.join(" "));
    let one = |platform| {
        Ok(provenance_of(making, platform, &made.steps, &invocation)?.into_iter().collect::<Vec<_>>())
    };
    let all = making.platforms.iter().map(one).collect::<Result<_>>()?;
    Ok(Attestations { all, epoch: making.epoch })
}

/// How the image of a platform was made, if that is asked for.
fn provenance_of(
    making: &Making<'_>,
    platform: &Platform,
    results: &StepCache,
    invocation: &Invocation,
) -> Result<Option<Attestation>> {
    let Some(settings) = &making.settings.provenance else { return Ok(None) };
    let facts = Facts {
        platform,
        platforms: making.platforms,
        materials: making.materials,
        steps: &making.steps.of(platform),
        results,
    };
    provenance::attestation(settings, making.inputs, &facts, invocation).map(Some)
}

/// The list of an image's packages.
fn packages(making: &Making<'_>, image: &BuiltImage, invocation: &Invocation) -> Result<Attestation> {
    let opened = open_root(making.environment.store, image)?;
    let found = sbom::find(&opened.root);
    for note in &found.notes {
        (making.say)(&format!("warning: list of packages for {}: {note}", image.platform));
    }
    let content = sbom::spdx::Content {
        name: making.name.unwrap_or(image.id.as_str()),
        id: image.id.as_str(),
        created: invocation.finished,
        os: found.os.as_ref(),
        packages: &found.packages,
        notes: &found.notes,
    };
    Ok(Attestation {
        predicate_type: SPDX.to_string(),
        predicate: sbom::spdx::document(&content),
        file_name: format!("sbom{SBOM_ENDING}"),
        inline_only: false,
    })
}

impl Attestations {
    /// Attestations that were made before: those of each image, in the order of the images.
    pub fn made(all: Vec<Vec<Attestation>>, epoch: Option<i64>) -> Attestations {
        Attestations { all, epoch }
    }

    /// The attestations of each image, in the order of the images; nothing if none was asked for.
    pub fn of_images(&self) -> impl Iterator<Item = &[Attestation]> {
        self.all.iter().map(Vec::as_slice)
    }

    /// Members of buildx's metadata file: the provenance of each image of `built`.
    pub fn for_metadata(&self, built: &Built) -> Map<String, Value> {
        let mut all = Map::new();
        for (image, attestations) in built.images.iter().zip(&self.all) {
            let name = match built.images.len() {
                1 => "buildx.build.provenance".to_string(),
                _ => format!("buildx.build.provenance/{}", image.platform),
            };
            let found = attestations.iter().find_map(provenance::for_metadata);
            all.extend(found.map(|provenance| (name, provenance)));
        }
        all
    }

    /// The result in the form of an output, with these attestations, and with annotations for all outputs.
    /// `tags` are names of the result besides those of the output.
    ///
    /// # Errors
    ///
    /// As for [`Output::form`]; files of the image cannot be read.
    pub fn form(
        &self,
        output: &Output,
        store: &Store,
        built: &Built,
        annotations: &Annotations,
        layers: &LayerOptions,
        tags: &[Reference],
    ) -> Result<Formed> {
        let place = output.attestation_place();
        let is_empty = self.all.iter().all(Vec::is_empty);
        let mut built = built.clone();
        if !is_empty && matches!(place, AttestationPlace::Index { .. }) {
            statement::give_index(store, &mut built)?;
        }
        let mut built = output.form(store, &built, annotations, layers)?;
        let mut directories = Vec::new();
        match place {
            AttestationPlace::Index { as_artifact } if !is_empty => {
                statement::attach(store, &mut built, &self.all, &output.all_names(tags), as_artifact)?;
            }
            AttestationPlace::Files { prefix, split } => {
                directories = self.lay_over(store, &mut built, prefix, split)?;
            }
            _ => {}
        }
        Ok(Formed { built, _directories: directories })
    }

    fn lay_over(
        &self,
        store: &Store,
        built: &mut Built,
        prefix: &str,
        split: Option<bool>,
    ) -> Result<Vec<TemporaryDirectory>> {
        // Platforms that share a directory have their names in the names of the files.
        let shares = built.images.len() > 1 && split == Some(false);
        let mut directories = Vec::new();
        for (image, attestations) in built.images.iter_mut().zip(&self.all) {
            let platform = image.platform.to_string();
            let names = (prefix, shares.then_some(platform.as_str()));
            let opened = open_root(store, image)?;
            directories.extend(files::lay_over(store, image, &opened.root, attestations, names, self.epoch)?);
        }
        Ok(directories)
    }
}
