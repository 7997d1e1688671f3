//! Solves definitions of clients: brings their sources here and has the builder run the operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bollard_buildkit_proto::pb;
use crossdock_builder::dockerfile::check::outline::Taken;
use crossdock_builder::failed::FirstFailed;
use crossdock_builder::llb;
use crossdock_builder::solver::cache::StepCache;
use crossdock_builder::{Base, BuildError, BuiltImage, Environment, Layer, Made};
use crossdock_delivery::attest::material::Material;
use crossdock_delivery::attest::provenance::Inputs;
use crossdock_delivery::attest::settings as attestations;
use crossdock_delivery::attest::steps::Steps;
use crossdock_delivery::attest::{self, Making};
use crossdock_delivery::source::Source;
use crossdock_dockerfile::Lines;
use crossdock_oci::{Descriptor, Digest};
use crossdock_platform::Platform;
use prost::Message;

use crate::debug;
use crate::definition::{self, Sources};
use crate::failure::Failure;
use crate::identifiers::{Attributes, git, http, image};
use crate::image::Image;
use crate::imports::{self, CacheEntry};
use crate::job::{Answer, Job};
use crate::results::{self, Files, Solved};
use crate::session::{Session, Wanted};
use crate::sources::{self, Later};
use crate::status::Reporter;
use crate::surroundings::{self, Surroundings};

/// Solves a definition for a client. Waits for the end.
///
/// # Errors
///
/// As [`solve`].
pub fn answer(job: &Job, definition: &pb::Definition, caches: &[CacheEntry]) -> Result<Answer, Failure> {
    let solved = solve(job, definition, caches)?;
    Ok(Answer { images: vec![(String::new(), Arc::new(solved))], ..Answer::default() })
}

/// Solves a definition, with caches beside those of the build. Waits for the end.
///
/// # Errors
///
/// The definition is wrong or wants what this builder does not do; an operation fails.
pub fn solve(job: &Job, definition: &pb::Definition, asked: &[CacheEntry]) -> Result<Solved, Failure> {
    solve_inside(job, definition, asked, 0)
}

/// Builds inside of builds inside of builds: a command could write itself as the next one for ever.
const DEPTH_MAX: usize = 8;

/// The same, inside of so many other definitions.
fn solve_inside(
    job: &Job,
    definition: &pb::Definition,
    asked: &[CacheEntry],
    depth: usize,
) -> Result<Solved, Failure> {
    if let Some((name, platform)) = results::of_definition(definition) {
        return load(job, &name, &platform).map_err(|error| Failure::of(&error));
    }
    let reporter = Arc::new(Reporter::new(job.log.clone(), &job.next_solve(), job.hidden.clone()));
    let session = job.own_session().map_err(|error| Failure::of(&error))?;
    let host = Platform::host();
    let source = surroundings::source(job, session.clone(), &reporter).noting_materials(true);
    let from = FromClient { job, reporter: &reporter, session: session.as_deref(), source: &source, depth };
    let graph = definition::graph(definition, &host, &from).map_err(|error| Failure::of(&error))?;
    let platform = graph.result.map_or(host, |edge| graph.ops[edge.op].platform.clone());
    let settings = surroundings::settings(job, platform.clone());
    let (layer_options, mut caches) = job.layers();
    caches.extend(asked.iter().cloned());
    let say = |text: &str| reporter.warn(text.trim_start_matches("warning: "), "", "", None);
    let (imported, client_layers) =
        imports::import(&source, session.as_ref(), &caches, &settings.platforms, &say)
            .map_err(|error| Failure::of(&error))?;
    let later = Later::default();
    let (steps_done, failed) = (Steps::new(&*reporter), FirstFailed::default());
    let surroundings = Surroundings {
        job,
        session,
        source: &source,
        later: &later,
        events: &steps_done,
        imported: &imported,
        client_layers,
        layers: layer_options,
        // A build that fails ends nothing else of its client.
        stop: job.stop.part(),
        failed: Some(&failed),
    };
    surroundings.with(|environment| {
        let solved = llb::solve(environment, &settings, &graph, &platform);
        job.count(reporter.counts());
        let fail = |error: BuildError| {
            let text = definition.source.as_ref().and_then(|source| source.infos.first()).cloned();
            let mut failure = Failure::of_build(&error, &text.unwrap_or_default());
            failure.vertex = reporter.failed_vertex();
            reporter.failed(&failure.message);
            if let Some(failed) = failed.take() {
                failure.details.extend(debug::detail(job, failed));
            }
            failure
        };
        let (made, steps) = solved.map_err(fail)?;
        let image = match settings.needs_images {
            true => Image::Written(made.write(&job.store).map_err(fail)?),
            false => Image::unwritten(made.clone()),
        };
        let made = Made { images: vec![made], steps: steps.clone(), scans: Vec::new() };
        let mut solved = Solved { image, steps, attestations: Vec::new(), recorded: None, epoch: None };
        let materials = source.materials();
        let attesting = Attesting { job, environment, definition, platform, steps: &steps_done, materials };
        attesting.attest(&mut solved, &made).map_err(|error| Failure::of(&error))?;
        Ok(solved)
    })
}

/// What is known of the making of a result.
struct Attesting<'a> {
    job: &'a Job,
    environment: &'a Environment<'a>,
    definition: &'a pb::Definition,
    platform: Platform,
    steps: &'a Steps<'a>,
    materials: Vec<Material>,
}

impl Attesting<'_> {
    /// Makes the provenance that the client asked for, and the one for the record of the build. Lists of
    /// packages are the business of whoever made the definition.
    fn attest(&self, solved: &mut Solved, made: &Made) -> Result<()> {
        let attributes: BTreeMap<String, String> = self.job.attributes.clone().into_iter().collect();
        let asked = attestations::Settings::of_attributes(&attributes)?;
        let asked = attestations::Settings { sbom: None, ..asked };
        let infos = self.definition.source.as_ref().map(|source| source.infos.as_slice()).unwrap_or_default();
        let dockerfile = infos.iter().find(|info| info.language == "Dockerfile");
        let inputs = Inputs {
            dockerfile: dockerfile.map(|info| info.data.clone()).unwrap_or_default(),
            ..inputs(self.definition)
        };
        let make = |settings: &attestations::Settings| {
            let making = Making {
                environment: self.environment,
                settings,
                inputs: &inputs,
                platforms: std::slice::from_ref(&self.platform),
                steps: self.steps,
                materials: &self.materials,
                epoch: None,
                name: None,
                say: &|_| {},
            };
            attest::make_unwritten(&making, made)
        };
        solved.attestations = make(&asked)?.of_images().next().unwrap_or_default().to_vec();
        // The build is as good if its record says less.
        let recorded = make(&attestations::Settings::for_records()).unwrap_or_default();
        solved.recorded = recorded.of_images().next().and_then(|all| all.first().cloned());
        Ok(())
    }
}

/// What a definition takes from its client: directories, secrets and agents.
fn inputs(definition: &pb::Definition) -> Inputs {
    let mut all = Inputs { is_offline: true, is_steered: true, ..Inputs::default() };
    let taken = |id: &str, is_optional: bool| Taken {
        id: id.to_string(),
        is_required: !is_optional,
        lines: Lines { start: 1, end: 1 },
    };
    for op in definition.def.iter().filter_map(|bytes| pb::Op::decode(&bytes[..]).ok()) {
        match op.op {
            Some(pb::op::Op::Source(source)) => {
                all.locals.extend(source.identifier.strip_prefix("local://").map(str::to_string));
            }
            Some(pb::op::Op::Exec(exec)) => {
                all.is_offline &= exec.network == i32::from(pb::NetMode::None);
                for mount in &exec.mounts {
                    all.secrets.extend(mount.secret_opt.as_ref().map(|one| taken(&one.id, one.optional)));
                    all.ssh.extend(
                        mount.ssh_opt.as_ref().map(|one| {
                            taken(if one.id.is_empty() { "default" } else { &one.id }, one.optional)
                        }),
                    );
                }
                all.secrets.extend(exec.secretenv.iter().map(|one| taken(&one.id, one.optional)));
            }
            _ => {}
        }
    }
    all.locals.sort();
    all.locals.dedup();
    for list in [&mut all.secrets, &mut all.ssh] {
        list.sort_by(|a, b| (&a.id, b.is_required).cmp(&(&b.id, a.is_required)));
        list.dedup_by(|a, b| a.id == b.id);
    }
    all
}

/// An image in the store as a result.
fn load(job: &Job, name: &str, platform: &Platform) -> Result<Solved> {
    let result = |image| Solved {
        image,
        steps: StepCache::default(),
        attestations: Vec::new(),
        recorded: None,
        epoch: None,
    };
    if let Some(image) = job.house.unwritten.find(name) {
        // A client that solves a definition may do so again when this build is over.
        return Ok(result(Image::Written(image.written(&job.store)?)));
    }
    let manifest = manifest_of(job, name, platform)?;
    let image = job.store.load_image(&manifest)?;
    let unpacked = job.store.unpack_image(&image, 0)?;
    let layers = unpacked.into_iter().map(|layer| Layer::of_directory(layer.path)).collect();
    let id = image.manifest.config.digest.clone();
    let image_made = BuiltImage { platform: platform.clone(), manifest, id, layers, base: Base::default() };
    Ok(result(Image::Written(image_made)))
}

/// The manifest of the result of this name; an image that is not written is written for it.
fn manifest_of(job: &Job, name: &str, platform: &Platform) -> Result<Descriptor> {
    if let Some(image) = job.house.unwritten.find(name) {
        return Ok(image.written(&job.store)?.manifest.with_platform(platform.clone()));
    }
    let digest: Digest = name.parse().map_err(|_| anyhow::anyhow!("the result {name} is gone"))?;
    results::descriptor(&job.store, &digest, platform)
}

/// Sources that a client names or has.
struct FromClient<'a> {
    job: &'a Job,
    reporter: &'a Reporter,
    session: Option<&'a Session>,
    source: &'a Source<'a>,
    /// Definitions around this one.
    depth: usize,
}

impl Sources for FromClient<'_> {
    fn build(&self, outer: &pb::Definition, file: &str) -> Result<llb::Source> {
        ensure!(self.depth < DEPTH_MAX, "more than {DEPTH_MAX} builds lie inside of each other, the limit");
        let solve = |definition: &pb::Definition| {
            let solved = solve_inside(self.job, definition, &[], self.depth + 1);
            solved.map_err(|failure| anyhow::anyhow!("{}", failure.message))
        };
        let outer = solve(outer).context("the definition of a build inside of this one")?;
        let bytes = Files::of(&self.job.store, &outer.image)?.read(file, 0, 0)?;
        let inner = pb::Definition::decode(&bytes[..]).with_context(|| format!("{file} is no definition"))?;
        ensure!(!inner.def.is_empty(), "{file} is a definition without operations");
        let BuiltImage { platform, manifest, .. } = solve(&inner)?.image.written(&self.job.store)?;
        Ok(llb::Source::Images(vec![(platform, manifest)]))
    }

    fn source(&self, source: &pb::SourceOp, platform: &Platform) -> Result<llb::Source> {
        if let Some((name, platform)) = results::of_source(source, platform) {
            let manifest = manifest_of(self.job, &name, &platform)?;
            return Ok(llb::Source::Images(vec![(platform, manifest)]));
        }
        let pb::SourceOp { identifier, attrs } = &self.job.policies().apply(source.clone())?;
        let (scheme, rest) = identifier.split_once("://").context("a source needs a scheme")?;
        match scheme {
            "docker-image" => image(rest, attrs),
            "local" => self.local(rest, attrs),
            "oci-layout" => self.layout(rest, attrs, platform),
            "git" => git(rest, attrs),
            "http" if sources::upload_of(identifier).is_some() => self.upload(identifier, attrs),
            "http" | "https" => http(identifier, attrs),
            _ => bail!(
                "sources {scheme}:// are not known: use docker-image, local, git, http, https or oci-layout"
            ),
        }
    }
}

impl FromClient<'_> {
    /// The session that an attribute names, if it is there, or the client's.
    fn session(&self, id: Option<&str>) -> Result<Arc<Session>> {
        let named = id.filter(|id| !id.is_empty()).map(|id| self.job.session(Some(id)));
        match (named, self.session) {
            (Some(Ok(session)), _) => Ok(session),
            (Some(Err(error)), None) => Err(error),
            _ => self.job.session(None),
        }
    }

    /// A directory of the client; it stays until the build is over.
    fn local(&self, name: &str, attrs: &Attributes) -> Result<llb::Source> {
        let list = |name: &str| -> Result<Vec<String>> {
            match attrs.get(name) {
                Some(json) => serde_json::from_str(json).with_context(|| name.to_string()),
                None => Ok(Vec::new()),
            }
        };
        let metadata_only = attrs.get("local.metadatatransfer").is_some_and(|value| value == "true");
        ensure!(!metadata_only, "local://{name}: files without content (metadatatransfer) are not fetched");
        let wanted = Wanted {
            name: name.to_string(),
            includes: list("local.includepattern")?,
            excludes: list("local.excludepatterns")?,
            follow: list("local.followpaths")?,
        };
        let session = self.session(attrs.get("local.session").map(String::as_str))?;
        let vertex = format!("[internal] load local://{name}");
        let files = sources::receive(&session, &self.job.store, self.reporter, &vertex, &wanted)?;
        let path = files.path().to_path_buf();
        self.job.keep(files);
        Ok(llb::Source::Directory(path))
    }

    /// What the client uploads: a directory with the one file.
    fn upload(&self, address: &str, attrs: &Attributes) -> Result<llb::Source> {
        let llb::Source::Http { filename, .. } = http(address, attrs)? else { bail!("{address}: no upload") };
        let (host, path) = sources::upload_of(address).context("no upload")?;
        let mut uploads = self.job.uploads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(place) = uploads.get(address) {
            return Ok(llb::Source::Directory(place.clone()));
        }
        ensure!(
            !matches!(filename.as_str(), "." | "..") && !filename.contains('/'),
            "{filename}: no file name"
        );
        let directory = self.job.store.temporary_directory()?;
        let place = directory.path().join("upload");
        std::fs::create_dir(&place).context("receive an upload")?;
        let mut file = std::fs::File::create_new(place.join(filename)).context("receive an upload")?;
        let session = self.job.session(None)?;
        self.reporter
            .vertex("[internal] load an upload of the client", |_| session.upload(host, path, &mut file))?;
        self.job.keep(directory);
        uploads.insert(address.to_string(), place.clone());
        Ok(llb::Source::Directory(place))
    }

    /// An image in a store of the client: `NAME@DIGEST`.
    fn layout(&self, text: &str, attrs: &Attributes, platform: &Platform) -> Result<llb::Source> {
        let (name, digest) =
            text.split_once('@').with_context(|| format!("oci-layout://{text}: no digest"))?;
        let (name, _) = name.rsplit_once(':').unwrap_or((name, ""));
        let id = attrs.get("oci.store").map_or(name, String::as_str);
        let session = self.session(attrs.get("oci.session").map(String::as_str))?;
        let digest: Digest = digest.parse()?;
        self.source.note_layout(name, platform, &digest);
        let images = sources::layout(session, &self.job.store, self.reporter, id, &digest)?;
        Ok(llb::Source::Images(images))
    }
}
