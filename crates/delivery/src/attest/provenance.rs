//! How images were built: the predicate of SLSA's provenance, with BuildKit's members (SLSA, Provenance v1
//! and v0.2; BuildKit, docs/attestations/slsa-definitions.md).

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crossdock_builder::dockerfile::check::outline::{Taken, outline};
use crossdock_builder::solver::cache::StepCache;
use crossdock_builder::{BuildRequest, NamedContext, without_password};
use crossdock_dockerfile::Dockerfile;
use crossdock_platform::Platform;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::material::Material;
use super::purl;
use super::settings::{Mode, ProvenanceSettings, Version};
use super::statement::{Attestation, SLSA};
use super::steps::StepList;
use crate::contexts::Input;

/// What a build was asked for, in the words of BuildKit's clients.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Attributes of the Dockerfile frontend, by name: `filename`, `context` (an address), `target`,
    /// `build-arg:NAME`, `label:NAME`, `vcs:source` and others.
    pub attributes: BTreeMap<String, String>,
    /// Directories of this machine that the build may read, by their names in the build, such as `context`.
    pub locals: Vec<String>,
    /// Secrets that the steps take.
    pub secrets: Vec<Taken>,
    /// SSH agents that the steps take.
    pub ssh: Vec<Taken>,
    /// Bytes of the Dockerfile; empty if it is not known.
    pub dockerfile: Vec<u8>,
    /// Whether RUN has no network unless the Dockerfile says otherwise.
    pub is_offline: bool,
    /// Whether a program of the client made the steps itself: what it was asked for nobody knows.
    pub is_steered: bool,
}

/// When a build ran, and its name.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// A text that no other build has.
    pub id: String,
    /// Its begin.
    pub started: Timestamp,
    /// Its end.
    pub finished: Timestamp,
}

/// What is known of the image of one platform.
pub struct Facts<'a> {
    /// The image's platform.
    pub platform: &'a Platform,
    /// The platforms of all images of the build.
    pub platforms: &'a [Platform],
    /// What the build took from elsewhere, for all platforms.
    pub materials: &'a [Material],
    /// The steps for the image.
    pub steps: &'a StepList,
    /// The steps' results.
    pub results: &'a StepCache,
}

/// Attributes that depend on the machine, or on where the result goes.
const LEFT_OUT: [&str; 4] = ["cgroup-parent", "image-resolve-mode", "platform", "cache-imports"];

impl Inputs {
    /// What a request asks for.
    ///
    /// # Errors
    ///
    /// The Dockerfile cannot be read.
    pub fn of(request: &BuildRequest, input: &Input) -> Result<Inputs> {
        let outline = outline(request)?;
        let mut all = Inputs {
            attributes: attributes(request),
            secrets: outline.secrets,
            ssh: outline.ssh,
            dockerfile: request.dockerfile.clone(),
            is_offline: request.settings.is_offline(),
            is_steered: false,
            locals: Vec::new(),
        };
        let name = if input.name == "-" { "Dockerfile" } else { &input.name };
        all.attributes.insert("filename".to_string(), name.to_string());
        match &input.address {
            Some(address) => drop(all.attributes.insert("context".to_string(), address.clone())),
            None => {
                let context = request.context.as_ref().map(|_| "context".to_string());
                all.locals.extend(context.into_iter().chain(["dockerfile".to_string()]));
            }
        }
        let directories = request.contexts.iter();
        let directories = directories.filter(|(_, what)| matches!(what, NamedContext::Directory { .. }));
        all.locals.extend(directories.map(|(name, _)| name.clone()));
        all.locals.sort();
        all.locals.dedup();
        Ok(all)
    }
}

/// The attributes by which a client of BuildKit would ask for the same.
fn attributes(request: &BuildRequest) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut add = |name: String, value: String| drop(all.insert(name, value));
    for (name, value) in &request.build_args {
        // Proxies have passwords.
        let is_proxy = name.to_ascii_lowercase().ends_with("_proxy");
        add(format!("build-arg:{name}"), if is_proxy { without_password(value) } else { value.clone() });
    }
    for (name, value) in &request.labels {
        add(format!("label:{name}"), value.clone());
    }
    for (name, context) in &request.contexts {
        let value = match context {
            NamedContext::Directory { .. } => format!("local:{name}"),
            NamedContext::Image(reference) => format!("docker-image://{reference}"),
            NamedContext::OciLayout { name, .. } => {
                format!("oci-layout://{}", name.as_deref().unwrap_or("latest"))
            }
            NamedContext::Stage(stage) => format!("target:{stage}"),
            NamedContext::Images(_) => format!("input:{name}"),
        };
        add(format!("context:{name}"), value);
    }
    if let Some(target) = &request.target {
        add("target".into(), target.clone());
    }
    if request.settings.no_cache || !request.no_cache_filter.is_empty() {
        let stages =
            if request.settings.no_cache { String::new() } else { request.no_cache_filter.join(",") };
        add("no-cache".into(), stages);
    }
    if !request.settings.add_hosts.is_empty() {
        let hosts = request.settings.add_hosts.iter().map(|(name, address)| format!("{name}={address}"));
        add("add-hosts".into(), hosts.collect::<Vec<_>>().join(","));
    }
    if let Some(size) = request.settings.shm_size {
        add("shm-size".into(), size.to_string());
    }
    if request.settings.is_offline() {
        add("force-network-mode".into(), "none".into());
    }
    all
}

impl Invocation {
    /// An invocation that ends now. With `epoch`, in seconds since 1970, it took place then, and `seed` gives
    /// its id, so that two builds of the same give the same provenance.
    pub fn ending_now(started: SystemTime, epoch: Option<i64>, seed: &str) -> Invocation {
        let now = Timestamp::now();
        let id = |text: &str| crossdock_oci::Digest::of(text.as_bytes()).hex()[..ID_LENGTH].to_string();
        match epoch.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
            Some(time) => Invocation { id: id(seed), started: time, finished: time },
            None => {
                let unique = format!("{seed} {now} {}", crossdock_oci::name::random_name());
                let started = Timestamp::try_from(started).unwrap_or(now);
                Invocation { id: id(&unique), started, finished: now }
            }
        }
    }
}

/// Characters of an invocation's id, as many as BuildKit's have.
const ID_LENGTH: usize = 25;

/// The provenance of an image.
///
/// # Errors
///
/// The Dockerfile cannot be read.
pub fn attestation(
    settings: &ProvenanceSettings,
    inputs: &Inputs,
    facts: &Facts<'_>,
    invocation: &Invocation,
) -> Result<Attestation> {
    let predicate = predicate(settings, inputs, facts, invocation)?;
    let (version, predicate) = match settings.version {
        Version::V1 => ("v1", predicate),
        Version::V02 => ("v0.2", older(&predicate)),
    };
    Ok(Attestation {
        predicate_type: format!("{SLSA}{version}"),
        predicate,
        file_name: settings.filename.clone(),
        inline_only: settings.inline_only,
    })
}

/// What buildx writes of a provenance into its metadata file: version 0.2, without steps and metadata.
/// Nothing for other attestations.
pub fn for_metadata(attestation: &Attestation) -> Option<Value> {
    let version = attestation.predicate_type.strip_prefix(SLSA)?;
    let mut old = match version {
        "v0.2" => attestation.predicate.clone(),
        _ => older(&attestation.predicate),
    };
    for member in ["buildConfig", "metadata"] {
        old.as_object_mut()?.remove(member);
    }
    Some(old)
}

/// The predicate in version 1.
fn predicate(
    settings: &ProvenanceSettings,
    inputs: &Inputs,
    facts: &Facts<'_>,
    invocation: &Invocation,
) -> Result<Value> {
    let is_max = settings.mode == Mode::Max;
    let reaches_network = match inputs.is_steered {
        true => !inputs.is_offline,
        false => facts.steps.reach_network(&Dockerfile::parse(&inputs.dockerfile)?, inputs.is_offline),
    };
    let (request, is_whole) = request(inputs, is_max);
    let dependencies: Vec<Value> = dependencies(facts).iter().map(dependency).collect();
    let is_known = inputs.locals.is_empty();
    let mut internal = json!({"builderPlatform": Platform::host().normalised().to_string()});
    let mut metadata = Map::new();
    if let Some(vcs) = vcs(inputs) {
        metadata.insert("vcs".into(), vcs);
    }
    if is_max {
        internal["buildConfig"] = build_config(facts.steps);
        if !inputs.dockerfile.is_empty() {
            metadata.insert("source".into(), source(inputs, facts.steps));
        }
        if let Some(layers) = layers(facts) {
            metadata.insert("layers".into(), layers);
        }
    }
    let mut run = json!({
        "invocationId": invocation.id,
        "startedOn": time(invocation.started),
        "finishedOn": time(invocation.finished),
        "buildkit_metadata": metadata,
        "buildkit_completeness": {"request": is_whole, "resolvedDependencies": is_known},
    });
    if is_known && !reaches_network {
        run["buildkit_hermetic"] = true.into();
    }
    if settings.reproducible {
        run["buildkit_reproducible"] = true.into();
    }
    let mut definition = json!({
        "buildType": "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
        "externalParameters": {"configSource": config_source(inputs, facts.materials), "request": request},
        "internalParameters": internal,
    });
    if !dependencies.is_empty() {
        definition["resolvedDependencies"] = dependencies.into();
    }
    Ok(json!({
        "buildDefinition": definition,
        "runDetails": {"builder": {"id": settings.builder_id}, "metadata": run},
    }))
}

/// The same predicate in version 0.2, where members have other places and names.
fn older(new: &Value) -> Value {
    let (definition, run) = (&new["buildDefinition"], &new["runDetails"]["metadata"]);
    let (external, internal) = (&definition["externalParameters"], &definition["internalParameters"]);
    let completeness = &run["buildkit_completeness"];
    let mut config_source = external["configSource"].clone();
    if let Some(path) = config_source.as_object_mut().and_then(|source| source.remove("path")) {
        config_source["entryPoint"] = path;
    }
    let mut metadata = json!({
        "buildInvocationID": run["invocationId"],
        "buildStartedOn": run["startedOn"],
        "buildFinishedOn": run["finishedOn"],
        "completeness": {
            "parameters": completeness["request"],
            "environment": true,
            "materials": completeness["resolvedDependencies"],
        },
        "reproducible": run["buildkit_reproducible"] == true,
        "https://mobyproject.org/buildkit@v1#metadata": run["buildkit_metadata"],
    });
    if run["buildkit_hermetic"] == true {
        metadata["https://mobyproject.org/buildkit@v1#hermetic"] = true.into();
    }
    let mut old = json!({
        "builder": new["runDetails"]["builder"],
        "buildType": "https://mobyproject.org/buildkit@v1",
    });
    if let Some(materials) = definition.get("resolvedDependencies") {
        old["materials"] = materials.clone();
    }
    old["invocation"] = json!({
        "configSource": config_source,
        "parameters": external["request"],
        "environment": {"platform": internal["builderPlatform"]},
    });
    if let Some(steps) = internal.get("buildConfig") {
        old["buildConfig"] = steps.clone();
    }
    old["metadata"] = metadata;
    old
}

/// RFC 3339.
fn time(time: Timestamp) -> String {
    time.to_string()
}

/// `request`: the attributes and what the steps take; and whether that is all of them.
fn request(inputs: &Inputs, is_max: bool) -> (Value, bool) {
    let mut is_whole = !inputs.is_steered;
    let mut arguments = Map::new();
    for (name, value) in inputs.attributes.iter().filter(|_| !inputs.is_steered) {
        let is_elsewhere = matches!(name.as_str(), "context" | "filename" | "contextkey")
            || LEFT_OUT.contains(&name.as_str())
            || name.starts_with("attest:")
            || name.starts_with("vcs:");
        if is_elsewhere {
            continue;
        }
        if !is_max && (name.starts_with("build-arg:") || name.starts_with("label:")) {
            is_whole = false;
            continue;
        }
        let value = if name.starts_with("context:") { without_password(value) } else { value.clone() };
        arguments.insert(name.clone(), value.into());
    }
    let taken = |list: &[Taken]| -> Value {
        let one = |taken: &Taken| match taken.is_required {
            true => json!({"id": taken.id}),
            false => json!({"id": taken.id, "optional": true}),
        };
        list.iter().map(one).collect()
    };
    let mut request = match inputs.is_steered {
        true => json!({}),
        false => json!({"frontend": "dockerfile.v0", "args": arguments}),
    };
    for (name, list) in [("secrets", &inputs.secrets), ("ssh", &inputs.ssh)] {
        if is_max && !list.is_empty() {
            request[name] = taken(list);
        }
    }
    if !inputs.locals.is_empty() {
        request["locals"] = inputs.locals.iter().map(|name| json!({"name": name})).collect();
    }
    (request, is_whole)
}

/// `configSource`: where the Dockerfile came from.
fn config_source(inputs: &Inputs, materials: &[Material]) -> Value {
    let mut source = json!({});
    let key = inputs.attributes.get("contextkey").map_or("context", String::as_str);
    if let Some(address) = inputs.attributes.get(key) {
        let address = without_password(address);
        let is_it = |material: &&Material| match material {
            Material::Repository { address: other, .. } | Material::Download { address: other, .. } => {
                *other == address
            }
            Material::Image { .. } | Material::Layout { .. } => false,
        };
        let found = materials.iter().find(is_it).map(dependency);
        source["uri"] = address.into();
        if let Some(found) = found {
            source["digest"] = found["digest"].clone();
        }
    }
    if let Some(path) = inputs.attributes.get("filename") {
        source["path"] = path.clone().into();
    }
    source
}

/// What the client says about the version control of a local context.
fn vcs(inputs: &Inputs) -> Option<Value> {
    let named =
        inputs.attributes.iter().filter_map(|(name, value)| Some((name.strip_prefix("vcs:")?, value)));
    let all: Map<String, Value> = named
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_string(), without_password(value).into()))
        .collect();
    (!all.is_empty()).then_some(Value::Object(all))
}

/// The materials of an image: all, but of an image that was taken for each platform of the build only the one
/// for this platform. Images come first, then repositories, then downloads, each in the order of names.
fn dependencies(facts: &Facts<'_>) -> Vec<Material> {
    let same = |a: &Platform, b: &Platform| a.normalised() == b.normalised();
    let is_taken = |name: &crossdock_oci::Reference, for_platform: &Platform| {
        facts.materials.iter().any(|material| match material {
            Material::Image { reference, platform, .. } => reference == name && same(platform, for_platform),
            _ => false,
        })
    };
    let is_own = |material: &&Material| match material {
        Material::Image { reference, platform, .. } => {
            same(platform, facts.platform)
                || !facts.platforms.iter().all(|for_platform| is_taken(reference, for_platform))
        }
        _ => true,
    };
    let mut all: Vec<Material> = facts.materials.iter().filter(is_own).cloned().collect();
    all.sort_by_cached_key(|material| {
        let kind = match material {
            Material::Image { .. } | Material::Layout { .. } => 0,
            Material::Repository { .. } => 1,
            Material::Download { .. } => 2,
        };
        (kind, dependency(material)["uri"].to_string())
    });
    all
}

/// One of `resolvedDependencies`.
fn dependency(material: &Material) -> Value {
    match material {
        Material::Image { reference, platform, digest } => {
            let uri = purl::image("docker", reference, Some(platform));
            json!({"uri": uri, "digest": {digest.algorithm(): digest.hex()}})
        }
        Material::Layout { name, platform, digest } => {
            let (platform, text) = (platform.normalised().to_string(), digest.to_string());
            let uri = purl::purl("oci", name, "", &[("digest", &text), ("platform", &platform)]);
            json!({"uri": uri, "digest": {digest.algorithm(): digest.hex()}})
        }
        Material::Repository { address, commit } => {
            let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
            json!({"uri": address, "digest": {algorithm: commit}})
        }
        Material::Download { address, digest } => {
            json!({"uri": address, "digest": {digest.algorithm(): digest.hex()}})
        }
    }
}

/// `buildConfig`: the steps with their inputs. crossdock has no LLB, so an `op` has nothing but the platform:
/// `source` says which lines of the Dockerfile the step is.
fn build_config(steps: &StepList) -> Value {
    let mut mapping = Map::new();
    let mut list = Vec::new();
    for (number, (step, inputs)) in steps.with_inputs().enumerate() {
        let Platform { os, architecture, variant, .. } = step.info.platform.normalised();
        let mut platform = json!({"Architecture": architecture, "OS": os});
        if let Some(variant) = variant {
            platform["Variant"] = variant.into();
        }
        let mut one = json!({"id": format!("step{number}"), "op": {"Op": Value::Null, "platform": platform}});
        if !inputs.is_empty() {
            one["inputs"] = inputs.iter().map(|input| format!("step{input}:0")).collect();
        }
        if let Some(key) = &step.key {
            mapping.insert(key.to_string(), format!("step{number}").into());
        }
        list.push(one);
    }
    json!({"llbDefinition": list, "digestMapping": mapping})
}

/// `source`: the Dockerfile, and the lines of each step.
fn source(inputs: &Inputs, steps: &StepList) -> Value {
    let mut locations = Map::new();
    for (number, (step, _)) in steps.with_inputs().enumerate() {
        let range = json!({"start": {"line": step.info.lines.start}, "end": {"line": step.info.lines.end}});
        locations.insert(format!("step{number}"), json!({"locations": [{"ranges": [range]}]}));
    }
    let name = inputs.attributes.get("filename").map_or("Dockerfile", String::as_str);
    let info = json!({"filename": name, "language": "Dockerfile", "data": BASE64.encode(&inputs.dockerfile)});
    json!({"locations": locations, "infos": [info]})
}

/// `layers`: the layer that each step has made.
fn layers(facts: &Facts<'_>) -> Option<Value> {
    let mut all = Map::new();
    for (number, (step, _)) in facts.steps.with_inputs().enumerate() {
        let result = facts.results.steps.iter().find(|result| Some(&result.key) == step.key.as_ref());
        if let Some(layer) = result.and_then(|result| result.record.layer.as_ref()) {
            all.insert(format!("step{number}:0"), json!([[layer.descriptor]]));
        }
    }
    (!all.is_empty()).then_some(Value::Object(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_builder::Silent;
    use crossdock_oci::{Digest, Reference};

    use crate::attest::steps::Steps;

    fn platform(text: &str) -> Platform {
        text.parse().expect("a platform")
    }

    fn image(name: &str, for_platform: &str) -> Material {
        let reference: Reference = name.parse().expect("a name");
        Material::Image { reference, platform: platform(for_platform), digest: Digest::of(name.as_bytes()) }
    }

    fn inputs(attributes: &[(&str, &str)]) -> Inputs {
        let attributes = attributes.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Inputs { attributes: attributes.collect(), dockerfile: b"FROM a\n".to_vec(), ..Inputs::default() }
    }

    /// The predicate of a build for two platforms, for the second one.
    fn made(settings: &ProvenanceSettings, inputs: &Inputs, materials: &[Material]) -> Value {
        let platforms = ["linux/amd64", "linux/arm64"].map(platform);
        let steps = Steps::new(&Silent);
        let facts = Facts {
            platform: &platforms[1],
            platforms: &platforms,
            materials,
            steps: &steps.of(&platforms[1]),
            results: &StepCache::default(),
        };
        let invocation = Invocation::ending_now(SystemTime::now(), Some(0), "seed");
        attestation(settings, inputs, &facts, &invocation).expect("a Dockerfile").predicate
    }

    #[test]
    fn each_image_has_its_own_platforms_materials() {
        let materials = [
            Material::Repository { address: "https://h/r.git#v1".into(), commit: "0123abcd".into() },
            image("base:1", "linux/amd64"),
            image("base:1", "linux/arm64"),
            // Only of the machine that built, for all images.
            image("tools:1", "linux/amd64"),
            Material::Layout {
                name: "zoo".into(),
                platform: platform("linux/arm64"),
                digest: Digest::of(b"layout"),
            },
        ];
        let predicate = made(&ProvenanceSettings::default(), &inputs(&[]), &materials);
        let list = predicate["buildDefinition"]["resolvedDependencies"].as_array().expect("a list");
        let uris: Vec<&str> = list.iter().map(|one| one["uri"].as_str().expect("an address")).collect();
        let layout = Digest::of(b"layout");
        assert_eq!(
            uris,
            [
                "pkg:docker/base@1?platform=linux%2Farm64",
                "pkg:docker/tools@1?platform=linux%2Famd64",
                &format!("pkg:oci/zoo?digest={layout}&platform=linux%2Farm64"),
                "https://h/r.git#v1"
            ]
        );
        assert_eq!(list[3]["digest"], json!({"sha1": "0123abcd"}));
    }

    #[test]
    fn attributes_of_clients_have_their_places() {
        let inputs = inputs(&[
            ("context", "https://user:secret@h/r.git"),
            ("filename", "sub/Dockerfile"),
            ("vcs:source", "https://user:secret@h/r.git"),
            ("vcs:revision", "abc"),
            ("context:other", "https://user:secret@h/o.git"),
            ("platform", "linux/arm64"),
            ("cache-imports", "[]"),
            ("attest:sbom", ""),
            ("build-arg:A", "1"),
            ("target", "t"),
        ]);
        let materials = [Material::Repository { address: "https://h/r.git".into(), commit: "ab".into() }];
        let predicate = made(&ProvenanceSettings::default(), &inputs, &materials);
        assert!(!predicate.to_string().contains("secret"), "{predicate}");
        let external = &predicate["buildDefinition"]["externalParameters"];
        let source = json!({"uri": "https://h/r.git", "digest": {"sha1": "ab"}, "path": "sub/Dockerfile"});
        assert_eq!(external["configSource"], source);
        let arguments = json!({"build-arg:A": "1", "context:other": "https://h/o.git", "target": "t"});
        assert_eq!(external["request"], json!({"frontend": "dockerfile.v0", "args": arguments}));
        let metadata = &predicate["runDetails"]["metadata"];
        let vcs = json!({"source": "https://h/r.git", "revision": "abc"});
        let found = metadata["buildkit_metadata"]["vcs"].as_object().expect("a map").clone();
        assert_eq!(Value::Object(found), vcs);
        assert_eq!(metadata["startedOn"], "1970-01-01T00:00:00Z");
        assert_eq!(metadata["buildkit_hermetic"], true);
        // The old version has the same, and nothing besides.
        let old = ProvenanceSettings { version: Version::V02, mode: Mode::Min, ..Default::default() };
        let old = made(&old, &inputs, &materials);
        assert_eq!(
            old["invocation"]["parameters"]["args"],
            json!({"context:other": "https://h/o.git", "target": "t"})
        );
        assert_eq!(old["metadata"]["completeness"]["parameters"], false);
        assert_eq!(old["metadata"]["https://mobyproject.org/buildkit@v1#hermetic"], true);
        assert!(old.get("buildConfig").is_none(), "{old}");
    }

    #[test]
    fn ids_are_unique_unless_the_time_is_given() {
        let id = |epoch| Invocation::ending_now(SystemTime::now(), epoch, "seed").id;
        assert_eq!((id(Some(5)), id(None).len()), (id(Some(5)), ID_LENGTH));
        assert_ne!(id(None), id(None));
    }
}
