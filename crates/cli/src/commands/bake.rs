//! bake: many builds from files of definitions (`docker buildx bake`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use crossdock_bake::{Plan, Request, Target};
use crossdock_platform::Platform;
use serde_json::{Map, Value, json};

use super::bake_files::{self, Definitions, HERE, check_grants};
use super::build::{self, BuildArgs};
use super::farm_options::FarmArgs;
use crate::output::{print, say, table, write_whole};
use crate::session::Session;

#[derive(clap::Args)]
pub struct BakeArgs {
    /// Targets and groups [default: default]; first, the address of a Git repository, archive or file with
    /// the definitions may stand
    #[arg(value_name = "[ADDRESS] TARGET")]
    pub targets: Vec<String>,
    /// Files of definitions, in HCL, JSON or Compose's YAML; later ones are laid over earlier ones. With an
    /// address they lie there, except those that begin with cwd:// [default: compose.yaml,
    /// docker-compose.yml, docker-bake.json, docker-bake.hcl, and docker-bake.override.json and .hcl]
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Set an attribute of targets: TARGET.KEY=VALUE; TARGET may be a pattern such as '*'
    #[arg(long = "set", value_name = "TARGET.KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Value of a variable, instead of the environment's
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub variables: Vec<String>,
    /// Push the images
    #[arg(long)]
    pub push: bool,
    /// Accepted for buildx: images are in the store anyhow
    #[arg(long, hide = true)]
    pub load: bool,
    /// Attestation of how the images were made: see build
    #[arg(long, value_name = "BOOL|mode=MODE", hide = true)]
    pub provenance: Option<String>,
    /// List of what the images hold: see build
    #[arg(long, value_name = "BOOL", hide = true)]
    pub sbom: Option<String>,
    /// Print what would be built, as JSON, and build nothing
    #[arg(long)]
    pub print: bool,
    /// List targets or variables; also type=targets,format=json
    #[arg(long, value_name = "WHAT")]
    pub list: Option<String>,
    /// Use no cache
    #[arg(long)]
    pub no_cache: bool,
    /// Ask the registries for newer base images
    #[arg(long)]
    pub pull: bool,
    /// Privileges that targets may ask for: network.host, security.insecure; of targets from an address also
    /// fs.read=PATH, fs.write=PATH, fs=PATH and ssh
    #[arg(long = "allow", value_name = "PRIVILEGE")]
    pub allow: Vec<String>,
    /// What to do instead of building: check, outline or targets
    #[arg(long, value_name = "METHOD")]
    pub call: Option<String>,
    /// The same as --call=check
    #[arg(long)]
    pub check: bool,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// auto, tty, plain, rawjson, json or quiet
    #[arg(long, value_name = "FORM")]
    pub progress: Option<String>,
    /// What runs programs of other CPUs: auto, builtin, qemu or a path
    #[arg(long, value_name = "EMULATOR")]
    pub emulator: Option<String>,
    #[command(flatten)]
    pub farm: FarmArgs,
}

/// The options of build without its name.
#[derive(Parser)]
#[command(name = "crossdock build", args_override_self = true)]
struct BuildLine {
    #[command(flatten)]
    build: BuildArgs,
}

pub fn bake(session: &Session, args: BakeArgs) -> Result<u8> {
    let store = session.store()?;
    let (address, names) = match args.targets.split_first() {
        Some((first, rest)) if bake_files::is_address(first) => (Some(first.as_str()), rest),
        _ => (None, &args.targets[..]),
    };
    let definitions = Definitions::read(session, &store, address, &args.files)?;
    let mut given = BTreeMap::new();
    for text in &args.variables {
        let (name, value) = text.split_once('=').with_context(|| format!("--var {text}: not NAME=VALUE"))?;
        given.insert(name.to_string(), value.to_string());
    }
    let environment = |name: &str| given.get(name).cloned().or_else(|| std::env::var(name).ok());
    let builtin = BTreeMap::from([
        ("BAKE_CMD_CONTEXT".to_string(), "cwd://".to_string()),
        ("BAKE_LOCAL_PLATFORM".to_string(), Platform::host().to_string()),
    ]);
    let request = Request {
        files: &definitions.files,
        dotenv: definitions.dotenv.as_ref(),
        read: &|path| definitions.other(path),
        names,
        overrides: &args.overrides,
        environment: &environment,
        builtin: &builtin,
    };
    if let Some(what) = &args.list {
        return list(&request, what);
    }
    let mut plan = crossdock_bake::bake(&request)?;
    plan.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    for (name, target) in &mut plan.targets {
        for (_, attribute) in
            [(args.no_cache, "no-cache"), (args.pull, "pull")].iter().filter(|(is_so, _)| *is_so)
        {
            crossdock_bake::switch_on(target, attribute);
        }
        for (kind, value) in [("provenance", &args.provenance), ("sbom", &args.sbom)] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                crossdock_bake::attest(target, kind, value)?;
            }
        }
        if let Some(method) = args.call.as_deref().or(args.check.then_some("check")) {
            crossdock_bake::call(target, method);
        }
        let is_linked = plan.linked.contains(name);
        if args.push && !is_linked {
            crossdock_bake::push(target);
        }
        if args.load && !is_linked {
            crossdock_bake::load(target);
        }
    }
    if args.print {
        print(&serde_json::to_string_pretty(&plan.printed())?);
        return Ok(0);
    }
    check_privileges(&plan, &args.allow)?;
    if definitions.is_remote() {
        plan.targets.iter().try_for_each(|(name, target)| check_grants(name, target, &args.allow))?;
    }
    build_all(session, &plan, &args, &definitions)
}

/// `--list`: `targets`, `variables`, or `type=...,format=table|json`.
fn list(request: &Request<'_>, what: &str) -> Result<u8> {
    let (mut of, mut format) = (what, "table");
    if what.contains('=') {
        for field in what.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => of = value,
                Some(("format", value)) => format = value,
                _ => bail!("--list {what}: the form is type=targets|variables,format=table|json"),
            }
        }
    }
    let listing = crossdock_bake::list(request)?;
    let (heads, rows): (&[&str], Vec<Vec<String>>) = match of {
        "targets" => (
            &["TARGET", "DESCRIPTION"],
            listing.targets.into_iter().map(|(name, description)| vec![name, description]).collect(),
        ),
        "variables" => (
            &["VARIABLE", "VALUE", "DESCRIPTION"],
            listing
                .variables
                .into_iter()
                .map(|of| vec![of.name, of.value.unwrap_or_default(), of.description.unwrap_or_default()])
                .collect(),
        ),
        other => bail!("--list {other}: it is targets or variables"),
    };
    match format {
        "table" => {
            let heads = heads.iter().map(ToString::to_string).collect();
            table(&[vec![heads], rows].concat());
        }
        "json" => {
            let keys = ["name", if of == "targets" { "description" } else { "value" }, "description"];
            let object = |row: &Vec<String>| -> Value {
                let pairs = keys.iter().zip(row).filter(|(_, value)| !value.is_empty());
                Value::Object(pairs.map(|(key, value)| (key.to_string(), json!(value))).collect())
            };
            print(&serde_json::to_string_pretty(&rows.iter().map(object).collect::<Vec<_>>())?);
        }
        other => bail!("--list: format {other} is not known: table or json"),
    }
    Ok(0)
}

/// What a file asks for is granted on the command line only.
fn check_privileges(plan: &Plan, allowed: &[String]) -> Result<()> {
    for (name, target) in &plan.targets {
        if let Some(wanted) =
            target.texts("entitlements").into_iter().find(|e| !allowed.iter().any(|a| a == e))
        {
            bail!("the target {name} asks for the privilege {wanted}: grant it with --allow {wanted}");
        }
    }
    Ok(())
}

/// Builds the targets, those first that others need.
fn build_all(session: &Session, plan: &Plan, args: &BakeArgs, definitions: &Definitions) -> Result<u8> {
    let store = session.store()?;
    let directory = store.temporary_directory()?;
    let mut metadata = Map::new();
    // Others find what they need by its digest.
    let mut digests = BTreeMap::new();
    let mut result = Ok(0);
    for (name, target) in &plan.targets {
        let metadata_file = directory.path().join(format!("{name}.json"));
        let (mut words, context) = words(name, target, args, directory.path(), &digests, definitions)?;
        words.extend(["--metadata-file".to_string(), metadata_file.display().to_string()]);
        words.extend(["--".to_string(), context]);
        let line = BuildLine::try_parse_from(std::iter::once("build".to_string()).chain(words));
        let line = line.map_err(|error| anyhow::anyhow!("the target {name}: {}", error.render()))?;
        say(&format!("target {name}"));
        result = build::build(session, line.build).with_context(|| format!("the target {name}"));
        if !matches!(result, Ok(0)) {
            break;
        }
        if let Ok(text) = std::fs::read_to_string(&metadata_file) {
            let built: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            if let Some(digest) = built["containerimage.digest"].as_str() {
                digests.insert(name.clone(), digest.to_string());
            }
            metadata.insert(name.clone(), built);
        }
    }
    // What only others needed stays in the build cache.
    for digest in plan.linked.iter().filter_map(|name| digests.get(name)) {
        store.remove_untagged(&digest.parse()?)?;
    }
    let code = result?;
    if let Some(path) = &args.metadata_file {
        let mut text = serde_json::to_vec_pretty(&metadata)?;
        text.push(b'\n');
        write_whole(path, &text)?;
    }
    Ok(code)
}

/// The words of `build` for a target, and its context.
fn words(
    name: &str,
    target: &Target,
    args: &BakeArgs,
    directory: &Path,
    digests: &BTreeMap<String, String>,
    definitions: &Definitions,
) -> Result<(Vec<String>, String)> {
    let mut words = Vec::new();
    let mut add = |option: &str, value: String| words.push(format!("{option}={value}"));
    let context = target.text("context").unwrap_or(".");
    let is_here = context.starts_with(HERE);
    let is_local = is_here || is_path(context);
    let context = match context.strip_prefix(HERE) {
        Some("") => ".".to_string(),
        Some(rest) => rest.to_string(),
        None if is_local => definitions.directory(context)?.display().to_string(),
        None => context.to_string(),
    };
    match (target.text("dockerfile-inline"), target.text("dockerfile")) {
        (Some(text), _) => {
            let path = directory.join(format!("{name}.Dockerfile"));
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            add("--file", path.display().to_string());
        }
        // In the context, not here as with build.
        (None, Some(file)) if is_local && !is_here && !file.contains("://") => {
            add("--file", definitions.dockerfile(Path::new(&context), file)?.display().to_string());
        }
        (None, Some(file)) if is_here && !file.contains("://") => {
            add("--file", Path::new(&context).join(file).display().to_string());
        }
        (None, Some(file)) => add("--file", file.strip_prefix(HERE).unwrap_or(file).to_string()),
        (None, None) if definitions.is_remote() && is_local && !is_here => {
            add("--file", definitions.dockerfile(Path::new(&context), "Dockerfile")?.display().to_string());
        }
        (None, None) => {}
    }
    for (name, value) in target.map("args") {
        add("--build-arg", format!("{name}={value}"));
    }
    for (name, value) in target.map("labels") {
        add("--label", format!("{name}={value}"));
    }
    for (name, hosts) in target.map("extra-hosts") {
        hosts.split(',').for_each(|host| add("--add-host", format!("{name}={host}")));
    }
    for (name, to) in target.map("contexts") {
        let to = match to.strip_prefix("target:") {
            // Without a build, as with --call, nobody asks for the image.
            Some(linked) => match digests.get(linked) {
                Some(digest) => format!("docker-image://{digest}"),
                None => format!("docker-image://localhost/{linked}"),
            },
            None if to.starts_with(HERE) => to[HERE.len()..].to_string(),
            None if is_path(to) => definitions.directory(to)?.display().to_string(),
            None => to.to_string(),
        };
        add("--build-context", format!("{name}={to}"));
    }
    for (attribute, option) in [
        ("annotations", "--annotation"),
        ("tags", "--tag"),
        ("platforms", "--platform"),
        ("no-cache-filter", "--no-cache-filter"),
        ("ulimits", "--ulimit"),
        ("entitlements", "--allow"),
    ] {
        for value in target.texts(attribute) {
            add(option, value.to_string());
        }
    }
    for (attribute, option) in [
        ("attest", "--attest"),
        ("cache-from", "--cache-from"),
        ("cache-to", "--cache-to"),
        ("secret", "--secret"),
        ("output", "--output"),
    ] {
        for value in target.fields(attribute) {
            // The result of every build is in the store.
            if !(option == "--output" && value == "type=cacheonly") {
                add(option, value);
            }
        }
    }
    for entry in target.get("ssh").and_then(Value::as_array).into_iter().flatten() {
        let paths = entry["paths"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let paths = paths.collect::<Vec<_>>().join(",");
        let id = entry["id"].as_str().unwrap_or("default");
        add("--ssh", if paths.is_empty() { id.to_string() } else { format!("{id}={paths}") });
    }
    for (attribute, option) in [("target", "--target"), ("network", "--network"), ("shm-size", "--shm-size")]
    {
        if let Some(value) = target.text(attribute) {
            add(option, value.to_string());
        }
    }
    args.farm.words().into_iter().for_each(|(option, value)| add(option, value));
    let call = args.call.as_deref().or(args.check.then_some("check")).or(target.text("call"));
    for (option, value) in
        [("--call", call), ("--progress", args.progress.as_deref()), ("--emulator", args.emulator.as_deref())]
    {
        if let Some(value) = value {
            add(option, value.to_string());
        }
    }
    for (is_so, option) in [(target.is("no-cache"), "--no-cache"), (target.is("pull"), "--pull")] {
        if is_so {
            words.push(option.to_string());
        }
    }
    Ok((words, context))
}

/// Whether a context is a path, and no address or image.
fn is_path(context: &str) -> bool {
    !context.contains("://") && !context.starts_with("git@") && context != "-"
}
