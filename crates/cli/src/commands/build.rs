//! build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;
use crossdock_builder::devices::Devices;
use crossdock_builder::{BuildError, BuildRequest, Built, Given, NamedContext, Secret, Settings};
use crossdock_delivery::ahead::Ahead;
use crossdock_delivery::annotations::Annotations;
use crossdock_delivery::attest;
use crossdock_delivery::build::{Order, layer_options};
use crossdock_delivery::caches;
use crossdock_delivery::contexts::{self, Input, Remote, Where, keeps_git};
use crossdock_delivery::outputs::{self, Output};
use crossdock_dockerfile::parser;
use crossdock_dockerfile::values::{bytes, csv};
use crossdock_oci::{Reference, Store};
use crossdock_platform::Platform;
use crossdock_sandbox::emulator;
use serde_json::{Map, Value};

use super::amend::{self, AmendArgs};
use super::attestations::{self, Attest};
use super::check::{self, Method};
use super::described_devices;
use super::farm_options::FarmArgs;
use super::manifest;
use super::pull_policy::PullPolicy;
use super::report::Recorder;
use super::step_options::StepArgs;
use crate::access::ConnectionArgs;
use crate::log_file::LogFile;
use crate::output::{chain, print, say, write_report};
use crate::progress::{Display, ProgressMode};
use crate::report::record::images;
use crate::session::Session;
use crate::single_platform::SinglePlatformArgs;
use crate::values::{self, hosts, limits, network, switch};
use crossdock_delivery::input::{Kinds, read_if_there, read_whole};

#[derive(clap::Args)]
pub struct BuildArgs {
    /// Directory of the build context, or "-" for a Dockerfile or a tar archive on standard input
    #[arg(value_name = "PATH", default_value = ".")]
    pub context: PathBuf,
    /// The Dockerfile [default: PATH/Dockerfile], or "-" for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name of the result, may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub tags: Vec<String>,
    /// Platforms to build for, separated by commas [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT],...")]
    pub platform: Vec<String>,
    /// Send the result to the registry of its names
    #[arg(long)]
    pub push: bool,
    /// Keep the result in the local store (the default)
    #[arg(long)]
    pub load: bool,
    /// Where the result goes: type=image|registry|oci|docker|local|tar,dest=PATH; may be given several times
    #[arg(short, long = "output", value_name = "SPEC")]
    pub outputs: Vec<String>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Value of an ARG; NAME alone takes it from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// More contexts: NAME=PATH, NAME=docker-image://IMAGE, NAME=oci-layout://PATH, NAME=target:STAGE
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub build_contexts: Vec<String>,
    /// Label of the image
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Annotation of the manifests, or of the index with the prefix "index:"
    #[arg(long = "annotation", value_name = "[index:|manifest:]NAME=VALUE")]
    pub annotations: Vec<String>,
    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME]
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,
    /// An SSH agent for RUN --mount=type=ssh: default or ID=SOCKET
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub ssh: Vec<String>,
    /// Only check the Dockerfile for probable mistakes; the same as --call=check
    #[arg(long)]
    pub check: bool,
    /// Instead of building: check, outline or targets, with ",format=json" for JSON
    #[arg(long, alias = "print", value_name = "METHOD")]
    pub call: Option<String>,
    /// Execute every step
    #[arg(long)]
    pub no_cache: bool,
    /// Execute every step of these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// When the registry is asked for base images: always, newer, missing or never [default: missing;
    /// always if the value is left out]
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub pull: Option<PullPolicy>,
    /// Network of RUN: host (the default), private or none
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub network: String,
    /// More lines for /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:IP")]
    pub add_hosts: Vec<String>,
    /// Permission: security.insecure, network.host, device or device=VENDOR/CLASS[=NAME]
    #[arg(long = "allow", value_name = "WHAT")]
    pub allow: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Resource limits: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT")]
    pub ulimits: Vec<String>,
    /// What runs programs of other CPUs: auto, builtin, qemu or a path
    #[arg(long, value_name = "EMULATOR", default_value = "auto")]
    pub emulator: String,
    /// Steps to execute at once [default: number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// How progress is shown [default: $BUILDKIT_PROGRESS or auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub progress: Option<ProgressMode>,
    /// Print only the digest of the result
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the image's digest to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write the result's metadata as JSON to a file
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Write a page about the build to a file: what each step did, why, and how long
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Write Chrome's trace events, for Perfetto, to a file
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// Results of other builds: type=registry,ref=NAME, type=local,src=DIR, or an image with an inline cache
    #[arg(long = "cache-from", value_name = "SPEC")]
    pub cache_from: Vec<String>,
    /// Where results of steps go, for other machines: type=registry,ref=NAME, type=local,dest=DIR (both with
    /// mode=max), type=inline
    #[arg(long = "cache-to", value_name = "SPEC")]
    pub cache_to: Vec<String>,
    /// Attest how the image was built: true, false, or settings such as mode=min, version=v0.2
    #[arg(long, value_name = "SPEC", num_args = 0..=1, default_missing_value = "true", value_parser = attestations::provenance)]
    pub provenance: Option<String>,
    /// Attest which packages are in the image: true, false, or generator=IMAGE
    #[arg(long, value_name = "SPEC", num_args = 0..=1, default_missing_value = "true", value_parser = attestations::sbom)]
    pub sbom: Option<String>,
    /// An attestation: type=provenance,... or type=sbom,...; as --provenance and --sbom
    #[arg(long = "attest", value_name = "SPEC", value_parser = attestations::attest)]
    pub attests: Vec<Attest>,
    /// Accepted for buildx; there is one builder
    #[arg(long, value_name = "NAME", hide = true)]
    pub builder: Option<String>,
    /// Add the result to an index in the local store, which is made if there is none
    #[arg(long, value_name = "NAME")]
    pub manifest: Option<String>,
    /// Media types of an image in the store or a registry: oci or docker
    #[arg(long, value_name = "FORMAT", value_parser = ["oci", "docker"])]
    pub format: Option<String>,
    /// Latest time in the image, in seconds since 1970; the same as the variable SOURCE_DATE_EPOCH
    #[arg(long, visible_alias = "source-date-epoch", value_name = "SECONDS")]
    pub timestamp: Option<i64>,
    /// Image instead of that of the first FROM, wherever the Dockerfile names that one
    #[arg(long, value_name = "IMAGE")]
    pub from: Option<String>,
    /// File of lines NAME=VALUE, values of ARGs; --build-arg overrides them
    #[arg(long = "build-arg-file", value_name = "FILE")]
    pub build_arg_files: Vec<PathBuf>,
    /// File with the patterns of .dockerignore
    #[arg(long, value_name = "FILE")]
    pub ignorefile: Option<PathBuf>,
    /// File for what goes to standard error
    #[arg(long, value_name = "FILE")]
    pub logfile: Option<PathBuf>,
    /// Give steps the proxies of docker's configuration; with "=false" do not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub http_proxy: Option<bool>,
    #[command(flatten)]
    pub steps: StepArgs,
    #[command(flatten)]
    pub single: SinglePlatformArgs,
    #[command(flatten)]
    pub amend: AmendArgs,
    #[command(flatten)]
    pub farm: FarmArgs,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

impl BuildArgs {
    /// How progress is shown.
    ///
    /// # Errors
    ///
    /// The variable names no such mode.
    pub fn progress(&self) -> Result<ProgressMode> {
        let variable = std::env::var("BUILDKIT_PROGRESS").unwrap_or_default();
        match (self.quiet, self.progress, variable.as_str()) {
            (true, ..) => Ok(ProgressMode::Quiet),
            (false, Some(mode), _) => Ok(mode),
            (false, None, "") => Ok(ProgressMode::Auto),
            (false, None, text) => ProgressMode::from_str(text, false).map_err(|_| {
                anyhow::anyhow!(
                    "BUILDKIT_PROGRESS={text}: it is auto, tty, plain, json, rawjson, quiet or none"
                )
            }),
        }
    }
}

pub fn build(session: &Session, args: BuildArgs) -> Result<u8> {
    let _log = args.logfile.as_deref().map(LogFile::start).transpose()?;
    session.warn_of_single_id();
    session.reach(vec![args.connection.access()], args.connection.retry);
    let store = session.store()?;
    let (method, is_json) = check::method(args.call.as_deref(), args.check)?;
    let display = Display::new(args.progress()?);
    let tags = args.tags.iter().map(|t| values::new_name(t)).collect::<Result<Vec<_>>>()?;
    let mut outputs = outputs::outputs(&args.outputs, args.push, args.load)?;
    if args.format.as_deref() == Some("docker") {
        outputs::use_docker_types(&mut outputs)?;
    }
    let annotations = Annotations::of_options(&args.annotations)?;
    if outputs::needs_tag(&outputs) && tags.is_empty() {
        bail!("--push needs a name for the image: give --tag REGISTRY/NAME:TAG");
    }
    let asked = attestations::settings(&args.attests, args.provenance.as_deref(), args.sbom.as_deref())?;
    attest::check(&asked, &outputs)?;

    let policy = args.pull.unwrap_or_default();
    let tell_user = |text: &str| display.say(text);
    let source = crate::desk::source_of(session, &store, display.clone())
        .only_here(policy == PullPolicy::Never)
        .noting_materials(!asked.is_empty());
    // Layers that are squashed are not pushed.
    let pushed = outputs::pushed_names(&outputs, &tags).filter(|_| !args.amend.squashes());
    let ahead = Ahead::new(|| source.client(), pushed)?;
    let recorder = recorder(session, &args, &display)?;
    let farm = args.farm.farm()?;
    let (teller, of_signal, streams) = (display.clone(), recorder.clone(), ahead.streams());
    let farm_of_signal = farm.clone();
    // Without it a signal ends the build all the same.
    let _ = crossdock_sandbox::before_end_by_signal(move |signal| {
        teller.cancelled(signal);
        if let Some(farm) = &farm_of_signal {
            farm.cancel_all();
        }
        // The build ends all the same if it cannot be recorded.
        let _ = of_signal.finish(Err(format!("the build was cancelled by {signal}")));
        if let Some(streams) = &streams {
            streams.end();
        }
    });
    let secrets = Given { secrets: secrets(&args.secrets)?, agents: agents(&args.ssh)? };
    for secret in secrets.secrets.values() {
        // Output comes line by line, so a secret of several lines (a key) is hidden by line.
        String::from_utf8_lossy(&secret.0).lines().for_each(|line| display.hide(line.trim()));
    }
    let keep_git = keeps_git(args.build_args.iter().map(String::as_str));
    let remote = Remote { store: &store, source: &source, keep_git, secrets: &secrets };
    let place =
        Where { context: &args.context, file: args.file.as_deref(), ignore_file: args.ignorefile.as_deref() };
    let input = contexts::input(&remote, &place)?;
    let (contexts, _directories) = contexts::contexts(&remote, &args.build_contexts)?;
    let mut request = request(session, &args, &input, contexts, &display)?;
    request.settings.needs_trees = outputs::need_trees(&outputs);
    if let Some(image) = &args.from {
        replace_first(&mut request, image)?;
    }
    let known = crossdock_builder::dockerfile::check_frontend(&request);
    known.map_err(anyhow::Error::from).inspect_err(|error| tell(error, &display, &input, &args))?;
    let one_as_index = wants_index(&request)?;
    let told = match method {
        Method::Build => check::before_build(&store, &request, &input.name, &display).map(|()| None),
        other => check::call(&store, &request, &input.name, other, is_json).map(Some),
    };
    if let Some(code) = told.inspect_err(|error| tell(error, &display, &input, &args))? {
        return Ok(code);
    }
    let choice = values::emulator_choice(&args.emulator)?;
    let find =
        |platform: &Platform| emulator::find(&platform.architecture, &choice).map_err(|e| e.to_string());
    let layers = layer_options(&outputs, request.settings.source_date_epoch)?;
    let variable = |name: &str| std::env::var(name).ok();
    let inline = request.build_args.get("BUILDKIT_INLINE_CACHE").is_some_and(|value| value == "1");
    let exports = caches::exports(&args.cache_to, inline, &variable, &tell_user)?;
    request.settings.needs_steps = exports.iter().any(caches::Export::has_all_steps) || asked.lists_layers();
    request.settings.needs_images =
        !(outputs.is_empty() && exports.is_empty() && asked.is_empty()) || names_images(&args);
    if args.amend.squashes() && exports.iter().any(caches::Export::is_inline) {
        bail!(
            "an inline cache needs the layers of the steps: leave out --squash, or give --cache-to type=registry"
        );
    }
    let imported =
        caches::import(&source, &args.cache_from, &request.settings.platforms, &variable, &tell_user)?;
    let order = Order {
        request: &request,
        source: &source,
        store: &store,
        imported: &imported,
        tags: &tags,
        outputs: &outputs,
        annotations: &annotations,
        exports: &exports,
        attestations: &asked,
        inputs: &attestations::inputs(&asked, &request, &input, args.file.as_deref())?,
        ahead: &ahead,
        layers,
        secrets: &secrets,
        emulator: &find,
        farm: farm.as_deref(),
        events: &display,
        amend: &|built| {
            amend::amend(&store, built, &args.amend, &layers)?;
            if one_as_index && built.index.is_none() {
                built.make_index(&store)?;
            }
            Ok(())
        },
        say: &tell_user,
    };
    let delivered = order.run().and_then(|delivered| {
        if let Some(result) = delivered.shown() {
            add_to_list(&store, &args, result, &tags)?;
        }
        Ok(delivered)
    });
    let delivered = match delivered {
        Ok(delivered) => delivered,
        Err(error) => {
            if let Err(more) = recorder.finish(Err(chain(&error))) {
                display.say(&format!("warning: {}", chain(&more)));
            }
            tell(&error, &display, &input, &args);
            return Err(error);
        }
    };
    let shown = delivered.shown();
    let images = shown.map(|result| images(&store, result, &|text| display.redact(text)));
    recorder.finish(Ok(images.unwrap_or_default()))?;
    display.close(true);
    let Some(result) = shown else { return Ok(0) };
    let names: Vec<Reference> = tags.iter().chain(outputs.iter().flat_map(Output::names)).cloned().collect();
    report(&args, result, &names, &tags, delivered.metadata.clone())?;
    Ok(0)
}

/// Whether an option says where the names of the images go.
fn names_images(args: &BuildArgs) -> bool {
    args.quiet || args.iidfile.is_some() || args.metadata_file.is_some() || args.manifest.is_some()
}

/// Whether the result is an index even for one platform: the build argument `BUILDKIT_MULTI_PLATFORM`.
fn wants_index(request: &BuildRequest) -> Result<bool> {
    let Some(text) = request.build_args.get("BUILDKIT_MULTI_PLATFORM") else { return Ok(false) };
    let wanted = crossdock_dockerfile::values::boolean(text)
        .with_context(|| format!("--build-arg BUILDKIT_MULTI_PLATFORM={text}: it must be true or false"))?;
    let count = request.settings.platforms.len();
    if !wanted && count > 1 {
        bail!("--build-arg BUILDKIT_MULTI_PLATFORM={text}: the images of {count} platforms need an index");
    }
    Ok(wanted)
}

/// Adds the result to the index of `--manifest`.
fn add_to_list(store: &Store, args: &BuildArgs, result: &Built, tags: &[Reference]) -> Result<()> {
    let Some(name) = &args.manifest else { return Ok(()) };
    let images = result.images.iter().map(|image| (image.platform.clone(), image.manifest.clone()));
    manifest::add_images(store, &values::reference(name)?, images.collect())?;
    if tags.is_empty() {
        // The index names it now.
        store.remove_untagged(&result.target().digest)?;
    }
    Ok(())
}

/// Records this build.
fn recorder(session: &Session, args: &BuildArgs, display: &Display) -> Result<Recorder> {
    let title = match &args.tags[..] {
        [] => crossdock_builder::without_password(&args.context.display().to_string()),
        tags => tags.join(", "),
    };
    let platforms = match args.single.platform(session, &args.platform)? {
        Some(platform) => vec![platform.to_string()],
        None => values::platforms(&args.platform)?.iter().map(ToString::to_string).collect(),
    };
    let (page, trace) = (args.report.clone(), args.trace.clone());
    Ok(Recorder {
        display: display.clone(),
        root: session.root().to_path_buf(),
        title,
        platforms,
        page,
        trace,
    })
}

/// Shows the lines of the Dockerfile where an error is.
fn tell(error: &anyhow::Error, display: &Display, input: &Input, args: &BuildArgs) {
    display.close(false);
    let Some(lines) = error.downcast_ref::<BuildError>().and_then(|error| error.lines) else { return };
    if args.quiet {
        if lines.start > 0 {
            say(&format!("{}:{}", input.name, lines.start));
        }
    } else {
        let text = String::from_utf8_lossy(&input.dockerfile);
        let excerpt = crossdock_dockerfile::error::excerpt(&input.name, &text, lines, 3);
        if !excerpt.is_empty() {
            say(&display.redact(&excerpt));
        }
    }
}

fn report(
    args: &BuildArgs,
    built: &Built,
    names: &[Reference],
    tags: &[Reference],
    more: Map<String, Value>,
) -> Result<()> {
    let target = built.target();
    let id = match built.images.len() {
        1 => &built.images[0].id,
        _ => &target.digest,
    };
    if let Some(path) = &args.iidfile {
        write_report(path, id.as_str().as_bytes())?;
    }
    if let Some(path) = &args.metadata_file {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut metadata = serde_json::json!({
            "containerimage.config.digest": built.images[0].id,
            "containerimage.digest": target.digest,
            "containerimage.descriptor": target,
        });
        if !names.is_empty() {
            metadata["image.name"] = names.join(",").into();
        }
        metadata.as_object_mut().expect("made above").extend(more);
        write_report(path, serde_json::to_string_pretty(&metadata)?.as_bytes())?;
    }
    if args.quiet {
        print(id.as_str());
        return Ok(());
    }
    for image in &built.images {
        say(&format!("built {} {}", image.platform, image.manifest.digest));
    }
    match tags {
        [] => print(target.digest.as_str()),
        tags => tags.iter().for_each(|tag| print(&format!("{} {}", tag.familiar(), target.digest))),
    }
    Ok(())
}

fn request(
    session: &Session,
    args: &BuildArgs,
    input: &Input,
    contexts: BTreeMap<String, NamedContext>,
    display: &Display,
) -> Result<BuildRequest> {
    let platforms = match args.single.platform(session, &args.platform)? {
        Some(platform) => vec![platform],
        None => values::platforms(&args.platform)?,
    };
    // Options override docker's configuration.
    let with_proxies = args.http_proxy != Some(false);
    let mut build_args = match with_proxies {
        true => BTreeMap::from_iter(session.container_proxies()),
        false => BTreeMap::new(),
    };
    for file in &args.build_arg_files {
        build_args.extend(argument_file(file)?);
    }
    for text in &args.build_args {
        match text.split_once('=') {
            // The value may be a secret, so it is not shown.
            Some(("", _)) => bail!("--build-arg =...: the name is missing: write NAME=VALUE"),
            None if text.is_empty() => bail!("--build-arg \"\": the name is missing: write NAME=VALUE"),
            Some((name, value)) => drop(build_args.insert(name.to_string(), value.to_string())),
            // A variable that is not set here counts as not given.
            None => drop(std::env::var(text).map(|value| build_args.insert(text.clone(), value))),
        }
    }
    if let Some(seconds) = args.timestamp {
        build_args.insert("SOURCE_DATE_EPOCH".to_string(), seconds.to_string());
    }
    // As in buildx, the variable is a build argument.
    if let Some(seconds) = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|seconds| !seconds.is_empty()) {
        build_args.entry("SOURCE_DATE_EPOCH".to_string()).or_insert(seconds);
    }
    // A command may print its environment, so passwords of proxies are hidden.
    let proxies = build_args.iter().filter(|(name, _)| name.to_ascii_lowercase().ends_with("_proxy"));
    proxies.filter_map(|(_, address)| password_of(address)).for_each(|password| display.hide(password));
    let network = network(&args.network)?;
    let is_right = |a: &&String| {
        ["security.insecure", "network.host"].contains(&a.as_str()) || described_devices::allowed(a).is_some()
    };
    if let Some(other) = args.allow.iter().find(|a| !is_right(a)) {
        bail!("--allow {other}: it must be security.insecure, network.host, device or device=NAME");
    }
    let devices = Devices {
        allowed: args.allow.iter().filter_map(|text| described_devices::allowed(text)).collect(),
        ..described_devices::devices()
    };
    let epoch = crossdock_builder::source_date_epoch(&input.dockerfile, &build_args);
    let epoch = epoch.filter(|text| !text.is_empty()).map(|text| {
        text.parse::<i64>().with_context(|| format!("SOURCE_DATE_EPOCH={text}: not a number of seconds"))
    });
    let shm_size =
        args.shm_size.as_ref().map(|t| bytes(t).with_context(|| format!("--shm-size {t}: not a size")));
    let allows = |what: &str| args.allow.iter().any(|given| given == what);
    let settings = Settings {
        platforms,
        no_cache: args.no_cache,
        network,
        add_hosts: hosts(&args.add_hosts, network)?,
        shm_size: shm_size.transpose()?,
        limits: limits(&args.ulimits)?,
        steps: args.steps.options(session.single_id())?,
        hostname: build_args.get("BUILDKIT_SANDBOX_HOSTNAME").filter(|name| !name.is_empty()).cloned(),
        allow_insecure: allows("security.insecure"),
        devices: Arc::new(devices),
        allow_network_host: allows("network.host"),
        jobs: args.jobs.unwrap_or_else(crossdock_oci::cpus),
        source_date_epoch: epoch.transpose()?,
        needs_trees: true,
        needs_images: true,
        needs_steps: true,
    };
    Ok(BuildRequest {
        dockerfile: input.dockerfile.clone(),
        context: input.context.clone(),
        ignore: input.ignore.clone(),
        contexts,
        target: args.target.clone(),
        build_args,
        labels: pairs(&args.labels, "--label")?,
        no_cache_filter: args.no_cache_filter.clone(),
        pull: args.pull == Some(PullPolicy::Always),
        settings,
    })
}

/// Replaces the image of the first FROM.
fn replace_first(request: &mut BuildRequest, image: &str) -> Result<()> {
    let stages = crossdock_builder::dockerfile::check::outline::targets(request)?;
    let base = stages.first().map(|stage| stage.base.clone()).unwrap_or_default();
    if base.is_empty() || base.contains('$') {
        bail!("--from {image}: the first FROM has a variable: give its value with --build-arg");
    }
    let image = values::reference(image.strip_prefix("docker://").unwrap_or(image))?;
    request.contexts.insert(base, NamedContext::Image(image));
    Ok(())
}

/// Reads a file of `--build-arg-file`: lines `NAME=VALUE`; `#` begins a comment.
fn argument_file(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = read_whole(path, parser::SIZE_MAX as u64, Kinds::Any).context("--build-arg-file")?;
    let text = String::from_utf8(text)
        .with_context(|| format!("--build-arg-file {}: not UTF-8 text", path.display()))?;
    let mut all = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) if !name.is_empty() => drop(all.insert(name.to_string(), value.to_string())),
            // The value may be a secret, so the line is not shown.
            _ => bail!("--build-arg-file {}, line {}: not NAME=VALUE", path.display(), number + 1),
        }
    }
    Ok(all)
}

/// The password in `SCHEME://USER:PASSWORD@HOST`.
fn password_of(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

/// Reads options of the form `NAME=VALUE`.
fn pairs(given: &[String], flag: &str) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        None if !text.is_empty() => Ok((text.clone(), String::new())),
        _ => bail!("{flag} {text}: not NAME=VALUE"),
    };
    given.iter().map(pair).collect()
}

/// Reads `--secret`: `id=ID,src=FILE`, `id=ID,env=NAME`, or `id=ID` (the variable, else the file of that
/// name).
fn secrets(given: &[String]) -> Result<BTreeMap<String, Secret>> {
    /// BuildKit's limit, in bytes.
    const SECRET_SIZE_MAX: u64 = 500 * 1024;
    let mut all = BTreeMap::new();
    for text in given {
        // The option's text names files and variables but never holds the secret itself, so errors may show
        // it.
        let wrong = |what: &str| anyhow::anyhow!("--secret {text}: {what}");
        let (mut id, mut file, mut variable) = (None, None, None);
        for field in csv(text).map_err(|e| wrong(&e))? {
            match field.split_once('=') {
                Some(("id", value)) => id = Some(value.to_string()),
                Some(("src" | "source", value)) => file = Some(value.to_string()),
                Some(("env", value)) => variable = Some(value.to_string()),
                Some(("type", "file" | "env")) => {}
                _ => {
                    return Err(wrong(&format!(
                        "unexpected \"{field}\"; the form is id=ID[,src=FILE|,env=NAME]"
                    )));
                }
            }
        }
        let file_name = file.as_ref().and_then(|f| f.rsplit('/').next()).map(str::to_string);
        let id = id.or(file_name).or_else(|| variable.clone()).ok_or_else(|| wrong("no id"))?;
        let from_env = |name: &str| std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec);
        let value = match (file, variable) {
            (Some(path), _) => read_whole(Path::new(&path), SECRET_SIZE_MAX, Kinds::Any)
                .with_context(|| format!("--secret id={id}"))?,
            (None, Some(name)) => {
                from_env(&name).ok_or_else(|| wrong(&format!("the variable {name} is not set")))?
            }
            (None, None) => match from_env(&id) {
                Some(value) => value,
                None => read_if_there(Path::new(&id), SECRET_SIZE_MAX, Kinds::Any)
                    .with_context(|| format!("--secret {text}"))?
                    .ok_or_else(|| wrong("neither a variable nor a file of that name is there"))?,
            },
        };
        all.insert(id, Secret(value));
    }
    Ok(all)
}

fn agents(given: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    let mut all = BTreeMap::new();
    for text in given {
        let (id, path) = match text.split_once('=') {
            Some((id, path)) => (id, PathBuf::from(path)),
            None => match std::env::var_os("SSH_AUTH_SOCK") {
                Some(path) => (text.as_str(), PathBuf::from(path)),
                None => bail!(
                    "--ssh {text}: SSH_AUTH_SOCK is not set; start an agent or give --ssh {text}=SOCKET"
                ),
            },
        };
        all.insert(id.to_string(), path);
    }
    Ok(all)
}
