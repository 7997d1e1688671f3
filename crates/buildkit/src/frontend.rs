//! The frontend `dockerfile.v0`: a client's attributes as a build of ours (BuildKit, frontend/dockerui and
//! docs/reference/buildctl.md).

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bollard_buildkit_proto::pb;
use crossdock_builder::dockerfile::check::rules;
use crossdock_builder::dockerfile::paths::{Paths, context_paths};
use crossdock_builder::dockerfile::unknown_frontend;
use crossdock_builder::failed::FirstFailed;
use crossdock_builder::git::{GitSource, is_git};
use crossdock_builder::{BuildRequest, Built, Environment, Made, NamedContext, Settings, StepOptions};
use crossdock_delivery::attest::provenance::Inputs;
use crossdock_delivery::attest::settings as attestations;
use crossdock_delivery::attest::steps::Steps;
use crossdock_delivery::attest::{self, Making};
use crossdock_delivery::calls;
use crossdock_delivery::contexts::{Fetched, Remote, read_ignore};
use crossdock_delivery::source::Source;
use crossdock_dockerfile::ignore::{self, Ignore};
use crossdock_dockerfile::parser;
use crossdock_dockerfile::values::{boolean, bytes, csv};
use crossdock_oci::layer::{Timestamps, extract_tar};
use crossdock_oci::store::{LayerOptions, Owners};
use crossdock_oci::{Digest, Reference};
use crossdock_platform::Platform;
use crossdock_sandbox::{Limit, Network};
use tonic::Code;

use crate::debug;
use crate::failure::Failure;
use crate::image::Image;
use crate::imports::{self, CacheEntry};
use crate::job::{Answer, Job, Needs};
use crate::session::{Synced, Wanted};
use crate::solve;
use crate::sources::{self, ClientSecrets, Later};
use crate::status::Reporter;
use crate::surroundings::{self, Surroundings};

/// What clients may want of the frontend (`frontend.caps`; BuildKit, frontend/dockerui).
const CAPABILITIES: [&str; 4] = [
    "moby.buildkit.frontend.inputs",
    "moby.buildkit.frontend.subrequests",
    "moby.buildkit.frontend.contexts",
    "moby.buildkit.frontend.gitquerystring",
];

/// What a client asks a frontend for.
pub struct Call {
    /// `FrontendOpt`.
    pub attributes: HashMap<String, String>,
    /// `FrontendInputs`.
    pub inputs: HashMap<String, pb::Definition>,
    /// Caches beside those that the attributes name.
    pub imports: Vec<CacheEntry>,
    /// How layers are packed.
    pub layers: LayerOptions,
}

/// One run of the frontend.
struct Frontend<'a, 'w> {
    job: &'w Job,
    call: &'a Call,
    reporter: &'a Arc<Reporter>,
    source: &'w Source<'w>,
    /// Directories that are fetched when the build reads them: a build that reads none of them needs none.
    later: &'a Later<'w>,
}

/// What came of a build.
#[expect(clippy::large_enum_variant, reason = "there is one for a build")]
enum Outcome {
    /// Images in the store.
    Built(Built),
    /// Images that nobody is known to want.
    Made(Made),
}

/// The Dockerfile with its name and its ignore file.
struct Definition {
    dockerfile: Vec<u8>,
    name: String,
    ignore: Option<Ignore>,
}

/// Builds, or answers a question about the Dockerfile. Waits for the end.
///
/// # Errors
///
/// What is wrong with the request, the Dockerfile, or a step.
pub fn run(job: &Job, call: &Call) -> Result<Answer, Failure> {
    let prefix = job.next_solve();
    let reporter = Arc::new(Reporter::new(job.log.clone(), &prefix, job.hidden.clone()));
    let session = job.own_session().map_err(|error| Failure::of(&error))?;
    let wanted = call.attributes.get("frontend.caps").into_iter().flat_map(|list| list.split(','));
    // What follows a "+" is asked for of the client.
    let wanted = wanted.filter_map(|name| name.trim().split('+').next());
    let unknown = wanted.into_iter().find(|name| !name.is_empty() && !CAPABILITIES.contains(name));
    if let Some(name) = unknown {
        return Err(Failure::unknown_capability(name));
    }
    let pull_never = call.attributes.get("image-resolve-mode").is_some_and(|mode| mode == "never");
    let attributes: BTreeMap<String, String> = call.attributes.clone().into_iter().collect();
    let settings = attestations::Settings::of_attributes(&attributes).map_err(|error| Failure::of(&error))?;
    let source = surroundings::source(job, session.clone(), &reporter);
    let source = source.only_here(pull_never).noting_materials(true);
    let later = Later::default();
    let frontend = Frontend { job, call, reporter: &reporter, source: &source, later: &later };
    let (request, info) = frontend.request().map_err(|error| Failure::of(&error))?;
    reporter.set_source(info.clone());
    check_syntax(&request, &info)?;
    if let Some(method) = call.attributes.get("requestid") {
        return frontend.answer(method, &request, &info);
    }
    let mut told = Vec::new();
    frontend.check(&request, &info, &mut told)?;
    let say = |text: &str| reporter.warn(text.trim_start_matches("warning: "), "", "", None);
    let mut entries = call.imports.clone();
    entries.extend(frontend.caches().map_err(|error| Failure::of(&error))?);
    let (imported, client_layers) =
        imports::import(&source, session.as_ref(), &entries, &request.settings.platforms, &say)
            .map_err(|error| Failure::of(&error))?;
    let timestamps = match request.settings.source_date_epoch {
        Some(seconds) => Timestamps::Clamp(seconds),
        None => Timestamps::Keep,
    };
    let (steps, failed) = (Steps::new(&*reporter), FirstFailed::default());
    let surroundings = Surroundings {
        job,
        session,
        source: &source,
        later: &later,
        events: &steps,
        imported: &imported,
        client_layers,
        layers: LayerOptions { timestamps, ..call.layers },
        // A build that fails ends nothing else of its client.
        stop: job.stop.part(),
        failed: Some(&failed),
    };
    surroundings.with(|environment| frontend.build(environment, &request, &info, (&steps, &settings), told))
}

impl<'w> Frontend<'_, 'w> {
    /// Builds, and attests what was built.
    fn build(
        &self,
        environment: &Environment<'_>,
        request: &BuildRequest,
        info: &pb::SourceInfo,
        (steps, settings): (&Steps<'_>, &attestations::Settings),
        mut told: Vec<rules::Warning>,
    ) -> Result<Answer, Failure> {
        let Frontend { job, reporter, .. } = self;
        let built = match request.settings.needs_images {
            true => crossdock_builder::build(environment, request).map(Outcome::Built),
            false => crossdock_builder::make(environment, request).map(Outcome::Made),
        };
        // Base images are known by now.
        let checked = self.check(request, info, &mut told);
        job.count(reporter.counts());
        let built = built.map_err(|error| {
            let mut failure = Failure::of_build(&error, info);
            failure.vertex = reporter.failed_vertex();
            reporter.failed(&failure.message);
            if let Some(failed) = environment.failed.and_then(FirstFailed::take) {
                failure.details.extend(debug::detail(job, failed));
            }
            failure
        })?;
        checked?;
        let attributes: BTreeMap<String, String> = self.call.attributes.clone().into_iter().collect();
        let inputs = self.inputs(attributes, request);
        let materials = self.source.materials();
        let say = |text: &str| reporter.warn(text.trim_start_matches("warning: "), "", "", None);
        let epoch = request.settings.source_date_epoch;
        let make = |settings: &attestations::Settings| {
            let making = Making {
                environment,
                settings,
                inputs: &inputs,
                platforms: &request.settings.platforms,
                steps,
                materials: &materials,
                epoch,
                name: None,
                say: &say,
            };
            match &built {
                Outcome::Built(built) => attest::make(&making, request, built),
                Outcome::Made(made) => attest::make_unwritten(&making, made),
            }
        };
        let attested = make(settings).map_err(|error| Failure::of(&error))?;
        // The build is as good if its record says less.
        let recorded = make(&attestations::Settings::for_records()).unwrap_or_default();
        let is_index = self.wants_index().map_err(|error| Failure::of(&error))?;
        let result = match built {
            Outcome::Built(Built { images, steps, .. }) => {
                (images.into_iter().map(Image::Written).collect(), steps)
            }
            Outcome::Made(Made { images, steps, .. }) => {
                (images.into_iter().map(Image::unwritten).collect(), steps)
            }
        };
        Answer::of_build(&job.store, (result.0, &result.1), (&attested, &recorded), epoch, is_index)
            .map_err(|error| Failure::of(&error))
    }

    /// What provenance says that the client asked for.
    fn inputs(&self, attributes: BTreeMap<String, String>, request: &BuildRequest) -> Inputs {
        let outline = crossdock_builder::dockerfile::check::outline::outline(request).ok();
        let (secrets, ssh) = outline.map(|outline| (outline.secrets, outline.ssh)).unwrap_or_default();
        Inputs {
            attributes,
            locals: ["context", "dockerfile"].map(str::to_string).to_vec(),
            secrets,
            ssh,
            dockerfile: request.dockerfile.clone(),
            is_offline: request.settings.network == Network::None,
            is_steered: false,
        }
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.call.attributes.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The values of attributes `PREFIX:NAME`.
    fn all(&self, prefix: &str) -> BTreeMap<String, String> {
        let with = |(name, value): (&String, &String)| {
            Some((name.strip_prefix(prefix)?.strip_prefix(':')?.to_string(), value.clone()))
        };
        self.call.attributes.iter().filter_map(with).collect()
    }

    /// Whether the client wants an index, even of one platform.
    fn wants_index(&self) -> Result<bool> {
        let asked =
            self.attribute("build-arg:BUILDKIT_MULTI_PLATFORM").or_else(|| self.attribute("multi-platform"));
        match asked.map(|text| boolean(text).with_context(|| format!("multi-platform={text}: not a boolean")))
        {
            Some(wanted) => wanted,
            None => Ok(self.attribute("platform").is_some_and(|list| list.contains(','))),
        }
    }

    /// Caches that the attributes name.
    fn caches(&self) -> Result<Vec<CacheEntry>> {
        let mut all: Vec<CacheEntry> = match self.attribute("cache-imports") {
            Some(json) => serde_json::from_str(json).context("cache-imports")?,
            None => Vec::new(),
        };
        for name in self.attribute("cache-from").into_iter().flat_map(|list| list.split(',')) {
            let attributes = HashMap::from([("ref".to_string(), name.to_string())]);
            all.push(CacheEntry { kind: "registry".to_string(), attributes });
        }
        Ok(all)
    }

    fn request(&self) -> Result<(BuildRequest, pb::SourceInfo)> {
        let platforms = match self.attribute("platform") {
            Some(list) => crossdock_platform::parse_list(list)?,
            None => vec![Platform::host()],
        };
        let build_args = self.all("build-arg");
        let (definition, context, ignore) = self.context(&build_args)?;
        let network = match self.attribute("force-network-mode") {
            None | Some("default" | "sandbox" | "unset") => Network::Host,
            Some("host") => Network::Host,
            Some("none") => Network::None,
            Some(other) => bail!("invalid network mode {other}: it is default, host or none"),
        };
        let may = |what: &str| self.job.may(what);
        let no_cache = self.call.attributes.get("no-cache");
        let epoch = crossdock_builder::source_date_epoch(&definition.dockerfile, &build_args);
        let epoch = epoch.filter(|text| !text.is_empty()).map(|text| {
            text.parse::<i64>().with_context(|| format!("SOURCE_DATE_EPOCH={text}: not a number of seconds"))
        });
        let shm_size = self.attribute("shm-size");
        let needs = self.needs()?;
        let info = pb::SourceInfo {
            filename: definition.name.clone(),
            data: definition.dockerfile.clone(),
            definition: None,
            language: "Dockerfile".to_string(),
        };
        let hostname = build_args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned();
        let hostname = hostname.or_else(|| self.attribute("hostname").map(str::to_string));
        let settings = Settings {
            platforms,
            no_cache: no_cache.is_some_and(String::is_empty),
            network,
            add_hosts: self.hosts()?,
            shm_size: shm_size
                .map(|text| bytes(text).with_context(|| format!("shm-size={text}: not a size")))
                .transpose()?,
            limits: self.limits()?,
            allow_insecure: may("security.insecure"),
            allow_network_host: true,
            devices: self.job.devices(),
            jobs: self.job.house.desk.jobs(),
            steps: StepOptions::default(),
            hostname: hostname.filter(|name| !name.is_empty()),
            source_date_epoch: epoch.transpose()?,
            needs_trees: self.job.needs().trees,
            needs_images: needs.images,
            needs_steps: needs.steps,
        };
        let stages = no_cache.into_iter().flat_map(|list| list.split(','));
        let request = BuildRequest {
            contexts: self.contexts(&definition.dockerfile)?,
            dockerfile: definition.dockerfile,
            context,
            ignore,
            target: self.attribute("target").map(str::to_string),
            build_args,
            labels: self.all("label"),
            no_cache_filter: stages.filter(|name| !name.is_empty()).map(str::to_string).collect(),
            pull: self.attribute("image-resolve-mode") == Some("pull"),
            settings,
        };
        Ok((request, info))
    }

    /// What outputs, caches and attestations read of the result.
    fn needs(&self) -> Result<Needs> {
        let attributes: BTreeMap<String, String> = self.call.attributes.clone().into_iter().collect();
        let asked = attestations::Settings::of_attributes(&attributes)?;
        let mut needs = self.job.needs();
        needs.images |= asked.sbom.is_some();
        needs.steps |= needs.images && asked.lists_layers();
        Ok(needs)
    }

    /// `add-hosts`: `NAME=ADDRESS,...`.
    fn hosts(&self) -> Result<Vec<(String, std::net::IpAddr)>> {
        let Some(text) = self.attribute("add-hosts") else { return Ok(Vec::new()) };
        let fields = csv(text).map_err(anyhow::Error::msg)?;
        let host = |field: &String| {
            let (name, address) = field.split_once('=').with_context(|| format!("add-hosts: {field}"))?;
            let address = if address == "host-gateway" { "127.0.0.1" } else { address };
            let address = address.trim_start_matches('[').trim_end_matches(']');
            Ok((name.to_string(), address.parse().with_context(|| format!("add-hosts: {field}"))?))
        };
        fields.iter().map(host).collect()
    }

    /// `ulimit`: `NAME=SOFT[:HARD],...`.
    fn limits(&self) -> Result<Vec<Limit>> {
        let Some(text) = self.attribute("ulimit") else { return Ok(Vec::new()) };
        csv(text)
            .map_err(anyhow::Error::msg)?
            .iter()
            .map(|field| crossdock_delivery::limits::limit(field))
            .collect()
    }

    /// Whether the policies of the build let it use a source as it is.
    fn allows(&self, identifier: &str) -> Result<()> {
        let allowed = self.job.policies().apply_to(identifier)?.identifier;
        ensure!(
            allowed == identifier,
            "the source policy replaces {identifier} by {allowed}, which is not done"
        );
        Ok(())
    }

    /// Receives files of the client, as a vertex of its own.
    fn files(&self, vertex: &str, wanted: &Wanted) -> Result<Synced> {
        self.allows(&format!("local://{}", wanted.name))?;
        let session = self.attribute(&format!("local-sessionid:{}", wanted.name));
        let session = self.job.session(session)?;
        let vertex = format!("[internal] {vertex}");
        sources::receive(&session, &self.job.store, self.reporter, &vertex, wanted)
    }

    /// A directory of the client that is received when it is read.
    fn files_later(&self, vertex: &str, wanted: Wanted) -> Result<PathBuf> {
        self.allows(&format!("local://{}", wanted.name))?;
        let session = self.attribute(&format!("local-sessionid:{}", wanted.name));
        let session = self.job.session(session)?;
        let synced = session.place(&self.job.store, &wanted)?;
        let path = synced.path().to_path_buf();
        self.job.keep(synced);
        let (reporter, vertex, directory) =
            (self.reporter.clone(), format!("[internal] {vertex}"), path.clone());
        self.later.add(path.clone(), wanted.follow.clone(), move |follow| {
            let wanted = Wanted { follow: follow.to_vec(), ..wanted.clone() };
            sources::fill(&session, &reporter, &vertex, &wanted, &directory)
        });
        Ok(path)
    }

    /// The `.dockerignore` of a directory of the client. If the client has no such directory, that is an
    /// error only for a build that reads it.
    fn ignore(&self, vertex: &str, name: &str) -> Result<Ignore> {
        let follow = vec![".dockerignore".to_string()];
        let wanted = Wanted { name: name.to_string(), follow, ..Wanted::default() };
        match self.files(vertex, &wanted) {
            Ok(files) => read_ignore(&[inside(files.path(), ".dockerignore").unwrap_or_default()]),
            Err(_) => Ok(Ignore::default()),
        }
    }

    /// Dockerfile, directory of the context, and rules of what the context leaves out.
    fn context(
        &self,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(Definition, Option<PathBuf>, Ignore)> {
        let key = self.attribute("contextkey").unwrap_or("context").to_string();
        let address = self.attribute(&key).or_else(|| self.attribute("context"));
        let address = address.filter(|text| is_remote(text)).map(str::to_string);
        let filename = self.attribute("filename").unwrap_or("Dockerfile").to_string();
        let local_dockerfile = self.attribute("dockerfilekey").map(str::to_string);
        let input = |name: &str| self.call.inputs.get(name);
        let subdirectory = self.attribute("contextsubdir").map(str::to_string);
        if let Some(address) = address {
            let (directory, only) = self.remote(&address, build_args)?;
            if let Some(dockerfile) = only {
                let definition = Definition { dockerfile, name: "Dockerfile".to_string(), ignore: None };
                return Ok((definition, None, Ignore::default()));
            }
            let directory = directory.context("the context is empty")?;
            let directory = match subdirectory {
                Some(sub) => inside(&directory, &sub)?,
                None => directory,
            };
            let definition = match &local_dockerfile {
                Some(name) => self.definition(name, &filename)?,
                None => read_definition(&directory, &filename)?,
            };
            let ignore = match definition.ignore.clone() {
                Some(ignore) => ignore,
                None => read_ignore(&[directory.join(".dockerignore")])?,
            };
            return Ok((definition, Some(directory), ignore));
        }
        let load_definition = || match (input("dockerfile"), &local_dockerfile) {
            (Some(input), None) => {
                ensure!(!input.def.is_empty(), "invalid nil input definition to definition op");
                read_definition(&self.unpacked(input)?, &filename)
            }
            (_, name) => self.definition(name.as_deref().unwrap_or("dockerfile"), &filename),
        };
        if let Some(input) = input("context") {
            let definition = load_definition()?;
            let directory = self.unpacked(input)?;
            let ignore = definition.ignore.clone().unwrap_or_default();
            return Ok((definition, Some(directory), ignore));
        }
        // Both are asked for at once: each is a question to the client and its answer.
        let runtime = tokio::runtime::Handle::current();
        let (definition, ignore) = std::thread::scope(|scope| {
            let ignore = scope.spawn(|| {
                let _inside = runtime.enter();
                self.ignore("load .dockerignore", &key)
            });
            let definition = load_definition();
            (definition, ignore.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let definition = definition?;
        let ignore = match definition.ignore.clone() {
            Some(ignore) => ignore,
            None => ignore?,
        };
        let follow = self.read_paths(&definition.dockerfile, None);
        let wanted = Wanted { name: key, excludes: ignore.patterns(), follow, ..Wanted::default() };
        let directory = self.files_later("load build context", wanted)?;
        Ok((definition, Some(directory), ignore))
    }

    /// The paths that the build reads of its context or of a named context, as far as the Dockerfile tells;
    /// none if it may read all.
    fn read_paths(&self, dockerfile: &[u8], name: Option<&str>) -> Vec<String> {
        let mut request = BuildRequest::for_platform(Platform::host());
        request.dockerfile = dockerfile.to_vec();
        request.target = self.attribute("target").map(str::to_string);
        request.build_args = self.all("build-arg");
        // The names of named contexts stand for them.
        let place = |name: &str| PathBuf::from(format!("named/{name}"));
        request.context = Some(PathBuf::from("main"));
        for name in self.all("context").keys() {
            let name = name.split_once("::").map_or(name.as_str(), |(name, _)| name);
            let context = NamedContext::Directory { path: place(name), ignore: Ignore::default() };
            request.contexts.insert(name.to_string(), context);
        }
        let wanted = name.map_or(PathBuf::from("main"), place);
        // What is wrong with the Dockerfile the build says.
        match context_paths(&request).ok().and_then(|mut all| all.remove(&wanted)) {
            Some(Paths::Only(paths)) => paths.into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The Dockerfile in a directory of the client.
    fn definition(&self, directory: &str, filename: &str) -> Result<Definition> {
        let mut follow = vec![filename.to_string(), format!("{filename}.dockerignore")];
        if filename.rsplit('/').next() == Some("Dockerfile") {
            let parent = filename.strip_suffix("Dockerfile").unwrap_or_default();
            follow.push(format!("{parent}dockerfile"));
        }
        let wanted = Wanted { name: directory.to_string(), follow, ..Wanted::default() };
        let files = self.files(&format!("load build definition from {filename}"), &wanted)?;
        read_definition(files.path(), filename)
    }

    /// A context at an address: a directory, or a Dockerfile alone.
    fn remote(
        &self,
        address: &str,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(Option<PathBuf>, Option<Vec<u8>>)> {
        if let Some((host, path)) = sources::upload_of(address) {
            return self.uploaded(host, path);
        }
        fetch(self.job, self.source, self.reporter, address, build_args)
    }

    /// What the client uploads: an archive or a Dockerfile.
    fn uploaded(&self, host: &str, path: &str) -> Result<(Option<PathBuf>, Option<Vec<u8>>)> {
        let session = self.job.session(None)?;
        let directory = self.job.store.temporary_directory()?;
        let (file, unpacked) = (directory.path().join("upload"), directory.path().join("context"));
        self.reporter.vertex("[internal] load the context from standard input", |_| {
            let mut writer = std::fs::File::create_new(&file).context("receive the context")?;
            session.upload(host, path, &mut writer)
        })?;
        let mut reader = std::fs::File::open(&file).context("receive the context")?;
        let mut head = Vec::new();
        (&mut reader).take(512).read_to_end(&mut head)?;
        let mut stream = std::io::Cursor::new(head.clone()).chain(reader);
        if !crossdock_oci::layer::may_be_archive(&head) {
            let mut dockerfile = Vec::new();
            stream.by_ref().take(parser::SIZE_MAX as u64 + 1).read_to_end(&mut dockerfile)?;
            ensure!(dockerfile.len() <= parser::SIZE_MAX, "the Dockerfile is too large");
            return Ok((None, Some(dockerfile)));
        }
        std::fs::create_dir(&unpacked)?;
        extract_tar(stream, &unpacked, Owners::Ignore, "context", self.job.store.unpack_limit())?;
        self.job.keep(directory);
        Ok((Some(unpacked), None))
    }

    /// The files of a result in a directory of their own.
    fn unpacked(&self, input: &pb::Definition) -> Result<PathBuf> {
        let trees = solve::solve(self.job, input, &[])?.image.trees(&self.job.store)?;
        let directory = self.job.store.temporary_directory()?;
        let path = directory.path().join("files");
        std::fs::create_dir(&path)?;
        let roots = [(String::new(), trees.as_slice())];
        crossdock_oci::layer::copy_trees(&roots, Timestamps::Keep, &path, Owners::Ignore)?;
        self.job.keep(directory);
        Ok(path)
    }

    /// Named contexts: attributes `context:NAME[::PLATFORM]`.
    fn contexts(&self, dockerfile: &[u8]) -> Result<BTreeMap<String, NamedContext>> {
        let mut all: BTreeMap<String, NamedContext> = BTreeMap::new();
        for (name, text) in self.all("context") {
            let (name, _) = name.split_once("::").unwrap_or((&name, ""));
            let context = self
                .named(dockerfile, name, &text)
                .with_context(|| format!("the build context \"{name}\""))?;
            match (all.get_mut(name), context) {
                // One for each platform.
                (Some(NamedContext::Images(images)), NamedContext::Images(more)) => images.extend(more),
                (_, context) => drop(all.insert(name.to_string(), context)),
            }
        }
        Ok(all)
    }

    fn named(&self, dockerfile: &[u8], name: &str, text: &str) -> Result<NamedContext> {
        // BuildKit needs no slashes either.
        let after =
            |scheme: &str| text.strip_prefix(scheme).map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        if let Some(image) = after("docker-image:") {
            let reference = image.parse::<Reference>()?;
            let source = self.job.policies().apply_to(&format!("docker-image://{reference}"))?;
            return match source.identifier.strip_prefix("local://") {
                Some(local) => self.local(dockerfile, name, local),
                // Whoever resolves the name asks the policies again.
                None => Ok(NamedContext::Image(reference)),
            };
        }
        if let Some(layout) = after("oci-layout:") {
            self.allows(&format!("oci-layout://{layout}"))?;
            return self.layout(name, layout);
        }
        if let Some(local) = text.strip_prefix("local:") {
            return self.local(dockerfile, name, local);
        }
        if let Some(input) = text.strip_prefix("input:") {
            let definition = self.call.inputs.get(input).context("the client gave no such input")?;
            let image = solve::solve(self.job, definition, &[])?.image.written(&self.job.store)?;
            return Ok(NamedContext::Images(vec![(image.platform, image.manifest)]));
        }
        if is_remote(text) {
            return self.remote_later(text);
        }
        bail!("{text}: it must be docker-image://, oci-layout://, an address, or a directory of the client")
    }

    /// A directory of the client as a named context.
    fn local(&self, dockerfile: &[u8], name: &str, local: &str) -> Result<NamedContext> {
        let ignore = self.ignore(&format!("[context {name}] load .dockerignore"), local)?;
        let follow = self.read_paths(dockerfile, Some(name));
        let wanted =
            Wanted { name: local.to_string(), excludes: ignore.patterns(), follow, ..Wanted::default() };
        let path = self.files_later(&format!("[context {name}] load from client"), wanted)?;
        Ok(NamedContext::Directory { path, ignore })
    }

    /// A named context at an address, which is fetched when it is read.
    fn remote_later(&self, text: &str) -> Result<NamedContext> {
        let directory = self.job.store.temporary_directory()?;
        let path = directory.path().join("context");
        self.job.keep(directory);
        let (job, source, reporter): (&'w Job, &'w Source<'w>, _) =
            (self.job, self.source, self.reporter.clone());
        let (text, to, build_args) = (text.to_string(), path.clone(), self.all("build-arg"));
        self.later.add(path.clone(), Vec::new(), move |_| {
            let (directory, file) = fetch(job, source, &reporter, &text, &build_args)?;
            if let Some(from) = directory {
                return std::fs::rename(&from, &to).with_context(|| format!("take over {}", from.display()));
            }
            std::fs::create_dir(&to).with_context(|| format!("create {}", to.display()))?;
            let name = text.split(['?', '#']).next().and_then(|text| text.rsplit('/').next());
            let name = name.filter(|name| !matches!(*name, "" | "." | "..")).unwrap_or("download");
            std::fs::write(to.join(name), file.unwrap_or_default()).context("keep the download")
        });
        Ok(NamedContext::Directory { path, ignore: Ignore::default() })
    }

    /// An image in a store of the client: `STORE[:TAG]@DIGEST`.
    fn layout(&self, context: &str, text: &str) -> Result<NamedContext> {
        let (name, digest) = text.split_once('@').context("the client gave no digest")?;
        let digest: Digest = digest.parse()?;
        let (id, _) = name.rsplit_once(':').unwrap_or((name, ""));
        let platforms = self.attribute("platform").map(crossdock_platform::parse_list).transpose()?;
        let platform = platforms.and_then(|list| list.first().cloned()).unwrap_or_else(Platform::host);
        self.source.note_layout(context, &platform, &digest);
        let session = self.job.session(None)?;
        sources::layout(session, &self.job.store, self.reporter, id, &digest).map(NamedContext::Images)
    }

    /// Answers a question about the Dockerfile (BuildKit, frontend/subrequests).
    fn answer(&self, method: &str, request: &BuildRequest, info: &pb::SourceInfo) -> Result<Answer, Failure> {
        let wrong = |error: crossdock_builder::BuildError| Failure::of_build(&error, info);
        let mut code = b"0".to_vec();
        let (json, text) = match method {
            "frontend.outline" => {
                let outline =
                    crossdock_builder::dockerfile::check::outline::outline(request).map_err(wrong)?;
                (calls::outline_json(&outline, &info.data), calls::outline_text(&outline))
            }
            "frontend.targets" => {
                let targets =
                    crossdock_builder::dockerfile::check::outline::targets(request).map_err(wrong)?;
                (calls::targets_json(&targets, &info.data), calls::targets_text(&targets))
            }
            "frontend.lint" => {
                let found = calls::findings(&self.job.store, request, rules::Experimental::BuildKits)
                    .map_err(wrong)?;
                if !found.warnings.is_empty() || found.error.is_some() {
                    code = b"1".to_vec();
                }
                (
                    calls::check_json(&found, &info.filename, &info.data),
                    calls::check_text(&found, &info.filename, &info.data),
                )
            }
            "frontend.subrequests.describe" => (calls::describe_json(), calls::describe_text()),
            other => {
                return Err(Failure::unknown_question(other));
            }
        };
        let json = serde_json::to_string_pretty(&json).expect("JSON always serialises");
        let mut answer = Answer::default();
        answer.metadata.insert("result.json".to_string(), json.into_bytes());
        answer.metadata.insert("result.txt".to_string(), text.into_bytes());
        answer.metadata.insert("version".to_string(), b"1.0.0".to_vec());
        if method == "frontend.lint" {
            answer.metadata.insert("result.statuscode".to_string(), code);
        }
        Ok(answer)
    }

    /// Tells what the checks of the Dockerfile find, without what is in `told`; it is an error only if the
    /// Dockerfile says so.
    fn check(
        &self,
        request: &BuildRequest,
        info: &pb::SourceInfo,
        told: &mut Vec<rules::Warning>,
    ) -> Result<(), Failure> {
        // The build will report the error, with the lines around it.
        let Ok(found) = calls::findings_of_build(&self.job.store, request, rules::Experimental::BuildKits)
        else {
            return Ok(());
        };
        for warning in &found.warnings {
            if told.contains(warning) {
                continue;
            }
            let short = format!("{}: {} (line {})", warning.rule, warning.detail, warning.lines.start);
            self.reporter.warn(&short, warning.description(), &warning.url(), Some(warning.lines));
            told.push(warning.clone());
        }
        match found.violation() {
            Some((message, lines)) => {
                let source = Some((info.clone(), lines));
                Err(Failure { source, ..Failure::new(Code::Unknown, message) })
            }
            None => Ok(()),
        }
    }
}

/// Fetches a context at an address: a directory, or a Dockerfile alone.
fn fetch(
    job: &Job,
    source: &Source<'_>,
    reporter: &Reporter,
    address: &str,
    build_args: &BTreeMap<String, String>,
) -> Result<(Option<PathBuf>, Option<Vec<u8>>)> {
    let address = &allowed_address(job, address)?;
    let keeps = build_args.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    let keep_git = crossdock_delivery::contexts::keeps_git(keeps.iter().map(String::as_str));
    let secrets = ClientSecrets::new(job.own_session()?, job.store.clone(), job.hidden.clone());
    let remote = Remote { store: &job.store, source, keep_git, secrets: &secrets };
    let shown = crossdock_builder::without_password(address);
    reporter.vertex(&format!("[internal] load {shown}"), |_| match remote.fetch(address)? {
        Fetched::Directory(directory, path) => {
            job.keep(directory);
            Ok::<_, anyhow::Error>((Some(path), None))
        }
        Fetched::File(dockerfile) => Ok((None, Some(dockerfile))),
    })
}

/// The address that policies let a build fetch instead of this one.
fn allowed_address(job: &Job, address: &str) -> Result<String> {
    let policies = job.policies();
    // `github.com/...` is a repository, too.
    if !is_git(address) && address.starts_with("http") {
        let (allowed, checksum) = sources::allowed_download(&policies, address)?;
        ensure!(checksum.is_none(), "{allowed}: the source policy wants a checksum, which contexts have not");
        return Ok(allowed);
    }
    let asked = GitSource::parse(address).map_err(anyhow::Error::msg)?;
    let allowed = sources::allowed_repository(&policies, &asked)?;
    if allowed == asked {
        return Ok(address.to_string());
    }
    let reference = allowed.commit.or(allowed.reference).unwrap_or_default();
    Ok(format!("{}#{reference}:{}", allowed.remote, allowed.directory))
}

/// Refuses a Dockerfile that is written for a frontend that is none for Dockerfiles: its text means something
/// else.
fn check_syntax(request: &BuildRequest, info: &pb::SourceInfo) -> Result<(), Failure> {
    let given = request.build_args.get("BUILDKIT_SYNTAX").map(String::as_str);
    let Some((image, lines)) = parser::other_frontend(&request.dockerfile, given) else { return Ok(()) };
    let failure = Failure::new(Code::Unimplemented, unknown_frontend(&image));
    Err(Failure { source: lines.map(|lines| (info.clone(), lines)), ..failure })
}

/// Whether a text is an address rather than the name of something else.
fn is_remote(text: &str) -> bool {
    let has_scheme = ["http://", "https://", "git://", "ssh://"].iter().any(|s| text.starts_with(s));
    has_scheme || text.starts_with("git@") || text.starts_with("github.com/")
}

/// A path inside a directory, with the directory as the root of all links.
fn inside(directory: &Path, path: &str) -> Result<PathBuf> {
    let found =
        crossdock_delivery::contexts::within(directory, &directory.join(path.trim_start_matches('/')));
    found.with_context(|| format!("the context has no {path}"))
}

/// Reads the Dockerfile of a directory, and the ignore file that belongs to it.
fn read_definition(directory: &Path, filename: &str) -> Result<Definition> {
    let lower = filename.strip_suffix("Dockerfile").map(|parent| format!("{parent}dockerfile"));
    let found = inside(directory, filename).or_else(|error| match &lower {
        Some(lower) => inside(directory, lower).map_err(|_| error),
        None => Err(error),
    });
    let path = found.with_context(|| format!("failed to read dockerfile: open {filename}"))?;
    let file = std::fs::File::open(&path).with_context(|| format!("read {filename}"))?;
    let mut dockerfile = Vec::new();
    file.take(parser::SIZE_MAX as u64 + 1).read_to_end(&mut dockerfile)?;
    ensure!(dockerfile.len() <= parser::SIZE_MAX, "{filename} is too large");
    let ignore = inside(directory, &format!("{filename}.dockerignore")).ok();
    let ignore = match ignore {
        Some(path) => {
            let text = std::fs::read(&path).with_context(|| format!("read {filename}.dockerignore"))?;
            ensure!(text.len() <= ignore::SIZE_MAX, "{filename}.dockerignore is too large");
            Some(Ignore::parse(&text).map_err(|e| anyhow::anyhow!("{filename}.dockerignore: {e}"))?)
        }
        None => None,
    };
    let name = filename.rsplit('/').next().unwrap_or(filename).to_string();
    Ok(Definition { dockerfile, name, ignore })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_uploads() {
        for yes in ["https://host/a.git", "git@host:a/b", "git://host/a", "http://h/x.tar", "github.com/a/b"]
        {
            assert!(is_remote(yes), "{yes}");
        }
        for no in ["", ".", "context", "input:x", "docker-image://x"] {
            assert!(!is_remote(no), "{no}");
        }
        assert_eq!(sources::upload_of("http://buildkit-session/abc"), Some(("buildkit-session", "/abc")));
        assert_eq!(sources::upload_of("http://host/abc"), None);
    }
}
