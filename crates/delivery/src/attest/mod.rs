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
mod scans;
pub mod settings;
pub mod statement;
pub mod steps;
pub mod vcs;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use crossdock_builder::solver::cache::StepCache;
use crossdock_builder::{BuildRequest, Built, BuiltImage, Environment, Made};
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
use scans::{ContextFiles, Extra};
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

/// Makes the attestations of the result of a request.
///
/// # Errors
///
/// The store or the files of an image, a stage or the context cannot be read.
pub fn make(making: &Making<'_>, request: &BuildRequest, built: &Built) -> Result<Attestations> {
    if making.settings.is_empty() {
        return Ok(Attestations::default());
    }
    let seed: Vec<&str> = built.images.iter().map(|image| image.manifest.digest.as_str()).collect();
    let invocation = Invocation::ending_now(making.steps.started(), making.epoch, &seed.join(" "));
    let (mut context, mut all) = (ContextFiles::new(request), Vec::new());
    for (number, (image, platform)) in built.images.iter().zip(making.platforms).enumerate() {
        let mut of_image = Vec::new();
        if let Some(settings) = &making.settings.sbom {
            let scans = built.scans.get(number).cloned().unwrap_or_default();
            let extras = scans::extras(making.environment, &mut context, &scans)?;
            of_image = lists(making, settings, (image, &extras), &invocation)?;
        }
        of_image.extend(provenance_of(making, platform, &built.steps, &invocation)?);
        all.push(of_image);
    }
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

/// The lists of packages of an image and of what is listed besides it: the image's first.
fn lists(
    making: &Making<'_>,
    settings: &SbomSettings,
    (image, extras): (&BuiltImage, &[Extra]),
    invocation: &Invocation,
) -> Result<Vec<Attestation>> {
    let (environment, id) = (making.environment, image.id.as_str());
    if let Some(generator) = generator_of(settings)? {
        let name = generator.familiar();
        (making.say)(&format!("listing packages for {} with {name}", image.platform));
        return generator::attestations(environment, &generator, settings, image, extras);
    }
    let of_image = Listed {
        trees: image.trees(environment.store)?,
        name: making.name.unwrap_or(id),
        id,
        shown: &image.platform.to_string(),
        file_name: "sbom",
    };
    let mut all = vec![packages(making, of_image, invocation)?];
    for extra in extras {
        let name = extra.shown();
        let listed = Listed {
            trees: extra.files.trees(environment.store)?,
            name: &name,
            id,
            shown: &format!("{} of {}", extra.name, image.platform),
            file_name: &name,
        };
        all.push(packages(making, listed, invocation)?);
    }
    Ok(all)
}

/// What one list of packages is about.
struct Listed<'a> {
    /// Trees of its layers, the lowest first.
    trees: Vec<PathBuf>,
    /// Its name in the document.
    name: &'a str,
    /// The id of the image.
    id: &'a str,
    /// How messages call it.
    shown: &'a str,
    /// Name of the document's file, without its ending.
    file_name: &'a str,
}

/// A list of packages.
fn packages(making: &Making<'_>, listed: Listed<'_>, invocation: &Invocation) -> Result<Attestation> {
    let opened = open_root(making.environment.store, listed.trees)?;
    let found = sbom::find(&opened.root);
    for note in &found.notes {
        (making.say)(&format!("warning: list of packages for {}: {note}", listed.shown));
    }
    let content = sbom::spdx::Content {
        name: listed.name,
        id: listed.id,
        created: invocation.finished,
        os: found.os.as_ref(),
        packages: &found.packages,
        notes: &found.notes,
    };
    Ok(Attestation {
        predicate_type: SPDX.to_string(),
        predicate: sbom::spdx::document(&content),
        file_name: format!("{}{SBOM_ENDING}", listed.file_name),
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
            let opened = open_root(store, image.trees(store)?)?;
            directories.extend(files::lay_over(store, image, &opened.root, attestations, names, self.epoch)?);
        }
        Ok(directories)
    }
}
