//! Attestations of builds: `--provenance`, `--sbom` and `--attest`.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Registry, Who, World, require};

const TWO: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];

/// A Dockerfile with a package of Node, a stage, and a secret.
const DOCKERFILE: &str = "FROM base AS tool\nARG V=1\nRUN --mount=type=secret,id=token \
    cat /run/secrets/token >/dev/null; touch /t\nFROM base\nCOPY package.json /a/node_modules/left/\n\
    COPY --from=tool /t /t\n";

fn world() -> World {
    let world = World::with_base();
    world.file("package.json", r#"{"name":"left","version":"3.0","license":"MIT"}"#);
    std::fs::write(world.path("token"), "s3cr3t-value").expect("a file");
    world
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn file(path: &Path) -> Value {
    json(&std::fs::read_to_string(path).expect("a file"))
}

/// A document of an OCI layout.
fn blob(layout: &Path, descriptor: &Value) -> Value {
    file(&layout.join("blobs").join(descriptor["digest"].as_str().expect("a digest").replace(':', "/")))
}

/// Builds into a layout; returns the layout and the top of the result.
fn layout(world: &World, name: &str, dockerfile: &str, args: &[&str]) -> (std::path::PathBuf, Value) {
    let output = format!("type=oci,tar=false,dest={name}");
    world.build(dockerfile, &[args, &["-o", &output]].concat()).ok();
    let layout = world.path(name);
    let top = file(&layout.join("index.json"))["manifests"][0].clone();
    (layout, top)
}

/// The provenance of a build for one platform.
fn provenance(world: &World, name: &str, args: &[&str]) -> Value {
    let secret = ["--secret", "id=token,src=token", "--build-arg", "V=2", "--label", "l=1"];
    let (layout, top) = layout(world, name, DOCKERFILE, &[&secret[..], args].concat());
    let index = blob(&layout, &top);
    let attestations = blob(&layout, &index["manifests"][1]);
    let layers = attestations["layers"].as_array().expect("a list");
    let is_it = |layer: &&Value| {
        let kind = layer["annotations"]["in-toto.io/predicate-type"].as_str();
        kind.is_some_and(|kind| kind.starts_with("https://slsa.dev/provenance/"))
    };
    blob(&layout, layers.iter().find(is_it).expect("a provenance"))
}

#[test]
fn each_image_has_an_entry_beside_it() {
    let world = World::new();
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n";
    let epoch = ["--timestamp", "1000"];
    let args = [&TWO[..], &epoch, &["-t", "a/b:1", "--provenance=true", "--sbom=true"]].concat();
    let (path, top) = layout(&world, "with", dockerfile, &args);
    let index = blob(&path, &top);
    let entries = index["manifests"].as_array().expect("entries");
    let platforms: Vec<String> = entries
        .iter()
        .map(|entry| {
            format!("{}/{}", entry["platform"]["os"], entry["platform"]["architecture"]).replace('"', "")
        })
        .collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64", "unknown/unknown", "unknown/unknown"]);
    for (image, attestation) in [(0, 2), (1, 3)] {
        let (image, attestation) = (&entries[image], &entries[attestation]);
        let digest = image["digest"].as_str().expect("a digest");
        assert_eq!(
            attestation["annotations"],
            json!({"vnd.docker.reference.digest": digest, "vnd.docker.reference.type": "attestation-manifest"})
        );
        let manifest = blob(&path, attestation);
        let diff_ids: Vec<&Value> =
            manifest["layers"].as_array().expect("a list").iter().map(|layer| &layer["digest"]).collect();
        let config = json!({
            "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        assert_eq!(blob(&path, &manifest["config"]), config);
        let kinds = ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"];
        for (layer, kind) in manifest["layers"].as_array().expect("a list").iter().zip(kinds) {
            assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
            assert_eq!(layer["annotations"], json!({"in-toto.io/predicate-type": kind}));
            let statement = blob(&path, layer);
            assert_eq!(statement["_type"], "https://in-toto.io/Statement/v0.1");
            assert_eq!(statement["predicateType"], kind);
            let architecture = image["platform"]["architecture"].as_str().expect("text");
            let name = format!("pkg:docker/a/b@1?platform=linux%2F{architecture}");
            let hex = digest.trim_start_matches("sha256:");
            assert_eq!(statement["subject"], json!([{"name": name, "digest": {"sha256": hex}}]));
        }
    }
    // The images are those of a build without attestations.
    let (path, top) = layout(&world, "without", dockerfile, &[&TWO[..], &epoch].concat());
    let plain = blob(&path, &top);
    assert_eq!(plain["manifests"].as_array().expect("entries")[..], entries[..2]);
}

#[test]
fn manifests_may_be_artifacts() {
    let world = World::new();
    let registry = Registry::start(&world);
    let name = registry.image("a:1");
    let output = format!("type=image,name={name},push=true,oci-artifact=true");
    world.build("FROM scratch\nCOPY Dockerfile /\n", &["-o", &output, "--provenance=true"]).ok();
    let inspect = |name: &str| json(&world.run(&["manifest", "inspect", name]).ok());
    let index = inspect(&name);
    let (image, entry) = (&index["manifests"][0], &index["manifests"][1]);
    let by_digest =
        |entry: &Value| registry.image(&format!("a@{}", entry["digest"].as_str().expect("a digest")));
    let manifest = inspect(&by_digest(entry));
    assert_eq!(manifest["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
    let subject: Value =
        ["mediaType", "digest", "size"].iter().map(|name| (*name, image[*name].clone())).collect();
    assert_eq!(manifest["subject"], subject);
    let args = [
        "buildx",
        "imagetools",
        "inspect",
        "--format",
        "{{json .Provenance.SLSA.runDetails.builder}}",
        &name,
    ];
    assert_eq!(json(&world.crossdock_at(&world.path("other"), &args).run().ok()), json!({"id": ""}));
    world.crossdock_at(&world.path("other"), &["pull", "--all-platforms", &name]).run().ok();
    world.crossdock_at(&world.path("other"), &["push", &name]).run().ok();
}

#[test]
fn a_provenance_says_as_much_as_was_asked_for() {
    let world = world();
    let max =
        provenance(&world, "max", &["--provenance", "mode=max,builder-id=https://b/1,reproducible=true"]);
    let (definition, run) = (&max["predicate"]["buildDefinition"], &max["predicate"]["runDetails"]);
    let request = &definition["externalParameters"]["request"];
    assert_eq!(request["args"], json!({"build-arg:V": "2", "label:l": "1"}));
    assert_eq!(request["secrets"], json!([{"id": "token", "optional": true}]));
    assert_eq!(request["locals"], json!([{"name": "context"}, {"name": "dockerfile"}]));
    assert_eq!(definition["externalParameters"]["configSource"], json!({"path": "Dockerfile"}));
    let dependency = &definition["resolvedDependencies"][0];
    assert!(
        dependency["uri"]
            .as_str()
            .is_some_and(|uri| uri.starts_with("pkg:docker/base@latest?platform=linux%2F"))
    );
    assert_eq!(dependency["digest"]["sha256"].as_str().map(str::len), Some(64));
    let steps = definition["internalParameters"]["buildConfig"]["llbDefinition"].as_array().expect("steps");
    assert_eq!(steps.len(), 5);
    assert_eq!(steps[1]["inputs"], json!(["step0:0"]));
    assert_eq!(steps[4]["inputs"], json!(["step1:0", "step3:0"]));
    assert_eq!(run["builder"], json!({"id": "https://b/1"}));
    let metadata = &run["metadata"];
    assert_eq!(metadata["buildkit_completeness"], json!({"request": true, "resolvedDependencies": false}));
    assert_eq!(metadata["buildkit_reproducible"], true);
    assert!(metadata["startedOn"].as_str() <= metadata["finishedOn"].as_str());
    let source = &metadata["buildkit_metadata"]["source"];
    assert_eq!(source["infos"][0]["filename"], "Dockerfile");
    assert_eq!(source["locations"]["step1"]["locations"][0]["ranges"][0]["start"], json!({"line": 3}));
    assert!(metadata["buildkit_metadata"]["layers"]["step1:0"][0][0]["digest"].is_string());
    assert!(!max.to_string().contains("s3cr3t"), "{max}");

    let min = provenance(&world, "min", &["--attest", "type=provenance,mode=min"]);
    let definition = &min["predicate"]["buildDefinition"];
    let locals = json!([{"name": "context"}, {"name": "dockerfile"}]);
    assert_eq!(
        definition["externalParameters"]["request"],
        json!({"frontend": "dockerfile.v0", "args": {}, "locals": locals})
    );
    assert_eq!(definition["internalParameters"].as_object().map(|all| all.len()), Some(1));
    let metadata = &min["predicate"]["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_metadata"], json!({}));
    assert_eq!(metadata["buildkit_completeness"]["request"], false);

    let old = provenance(&world, "old", &["--provenance", "version=v0.2"]);
    assert_eq!(old["predicateType"], "https://slsa.dev/provenance/v0.2");
    let old = &old["predicate"];
    assert_eq!(old["buildType"], "https://mobyproject.org/buildkit@v1");
    assert_eq!(old["invocation"]["configSource"], json!({"entryPoint": "Dockerfile"}));
    assert_eq!(old["invocation"]["parameters"]["args"]["build-arg:V"], "2");
    assert_eq!(old["materials"][0]["uri"], *dependency.get("uri").expect("an address"));
    assert_eq!(
        old["metadata"]["completeness"],
        json!({"parameters": true, "environment": true, "materials": false})
    );
}

#[test]
fn two_builds_at_one_time_give_the_same_index() {
    let build = |name: &str| {
        let world = world();
        let args = ["--timestamp", "1700000000", "--provenance=true", "--sbom=true"];
        let dockerfile = "FROM scratch AS a\nCOPY package.json /a/\nFROM scratch\nCOPY Dockerfile /\nCOPY --from=a /a /a\n";
        let (path, top) = layout(&world, name, dockerfile, &[&TWO[..], &args].concat());
        let attestations = blob(&path, &blob(&path, &top)["manifests"][2]);
        let [spdx, slsa] =
            [0, 1].map(|place| blob(&path, &attestations["layers"][place])["predicate"].clone());
        assert_eq!(spdx["creationInfo"]["created"], "2023-11-14T22:13:20Z");
        let metadata = &slsa["runDetails"]["metadata"];
        assert_eq!(metadata["startedOn"], "2023-11-14T22:13:20Z");
        assert_eq!(metadata["startedOn"], metadata["finishedOn"]);
        top
    };
    assert_eq!(build("one"), build("two"));
}

#[test]
fn packages_of_the_image_are_listed() {
    let world = world();
    world
        .file("status", "Package: libc6\nStatus: install ok installed\nVersion: 2.36\nArchitecture: amd64\n");
    let dockerfile = "FROM scratch\nCOPY status /var/lib/dpkg/status\nCOPY package.json /a/node_modules/left/\n\
        COPY Dockerfile /var/lib/rpm/Packages\n";
    let built = world.build(dockerfile, &["-t", "t", "--sbom=true"]);
    assert!(built.err.contains("/var/lib/rpm/Packages was not read"), "{}", built.err);
    built.ok();
    let inspect = |template: &str| {
        world.run(&["buildx", "imagetools", "inspect", "--format", template, "t"]).ok().trim().to_string()
    };
    let document = json(&inspect("{{json .SBOM.SPDX}}"));
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    assert!(document["comment"].as_str().is_some_and(|text| text.contains("Berkeley DB")), "{document}");
    let shown = inspect("{{range .SBOM.SPDX.packages}}{{.name}}@{{.versionInfo}} {{end}}");
    assert!(shown.contains("libc6@2.36") && shown.contains("left@3.0"), "{shown}");
    assert_eq!(inspect("{{json .Provenance}}"), "{}");
}

#[test]
fn outputs_of_files_have_files() {
    let world = world();
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY package.json /$TARGETARCH/node_modules/left/\n";
    let build = |args: &[&str], output: &str| {
        let asked = ["--provenance", "mode=min", "--sbom", "true"];
        world.build(dockerfile, &[args, &asked, &["-o", output]].concat())
    };
    build(&["--platform", "linux/arm64"], "type=local,dest=one,attestation-prefix=x-").ok();
    let statement = file(&world.path("one/x-provenance.json"));
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(statement["subject"][0]["name"], "arm64/node_modules/left/package.json");
    assert_eq!(file(&world.path("one/x-sbom.spdx.json"))["predicate"]["packages"][1]["name"], "left");
    build(&TWO, "type=local,dest=two").ok();
    build(&TWO, "type=local,dest=three,platform-split=false").ok();
    for there in [
        "two/linux_amd64/provenance.json",
        "two/linux_arm64/sbom.spdx.json",
        "three/provenance.linux_amd64.json",
        "three/sbom.spdx.linux_arm64.json",
    ] {
        assert!(world.path(there).exists(), "{there}");
    }
    build(&[], "type=tar,dest=four.tar").ok();
    let mut tar = tar::Archive::new(std::fs::File::open(world.path("four.tar")).expect("an archive"));
    let names: Vec<String> = tar
        .entries()
        .expect("entries")
        .map(|e| e.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    assert!(
        ["provenance.json", "sbom.spdx.json"].iter().all(|name| names.iter().any(|n| n == name)),
        "{names:?}"
    );
    // What is for images only is left out, and the store has no trace of it.
    let inline = ["--provenance", "inline-only=true", "-o", "type=local,dest=five"];
    world.build(dockerfile, &inline).ok();
    assert!(!world.path("five/provenance.json").exists());
    build(&[], "type=local,dest=six,attestation-prefix=a/b")
        .fails_with(&["attestation-prefix", "without a directory"]);
}

#[test]
fn outputs_without_a_place_are_refused() {
    let world = world();
    let dockerfile = "FROM scratch\nCOPY package.json /\n";
    let build = |args: &[&str]| world.build(dockerfile, args);
    for output in ["type=docker,dest=d.tar", "type=image,name=a,oci-mediatypes=false"] {
        let refused = build(&["-o", output, "--sbom=true"]);
        refused.fails_with(&[
            "--provenance=false",
            if output.contains("docker") { "type=oci" } else { "oci-mediatypes" },
        ]);
        build(&["-o", output, "--provenance", "mode=min,inline-only=true"]).ok();
        build(&["-o", output, "--provenance", "false", "--sbom=false"]).ok();
    }
    build(&["--format", "docker", "--provenance=true", "-t", "x"]).fails_with(&["--format docker"]);
    for wrong in ["mode=some", "version=v3", "frobnicate=1"] {
        let error = build(&["--provenance", wrong]).fails(2);
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn registries_and_the_store_keep_them() {
    let world = world();
    let registry = Registry::start(&world);
    let name = registry.image("app:1");
    let dockerfile = "FROM base\nCOPY package.json /a/node_modules/left/\n";
    world.build(dockerfile, &["-t", &name, "--push", "--load", "--provenance=true", "--sbom=true"]).ok();
    let inspect = |store: &str, name: &str, template: &str| {
        let args = ["buildx", "imagetools", "inspect", "--format", template, name];
        json(&world.crossdock_at(&world.path(store), &args).run().ok())
    };
    let slsa = inspect("store", &name, "{{json .Provenance.SLSA}}");
    assert!(slsa["buildDefinition"]["buildType"].is_string(), "{slsa}");
    // From the registry alone; and the configuration of the only image.
    assert_eq!(inspect("other", &name, "{{json .Provenance}}"), json!({"SLSA": slsa}));
    assert!(inspect("other", &name, "{{json .Image}}")["rootfs"].is_object());
    assert!(inspect("other", &name, "{{json .SBOM}}")["SPDX"]["packages"].is_array());
    // Nothing takes an attestation for an image.
    assert_eq!(world.sh(&name, "cat /a/node_modules/left/package.json | head -c 7"), "{\"name\"");
    let listed = world.run(&["images", "--format", "{{.Repository}} {{.Platform}}"]).ok();
    assert!(!listed.contains("unknown"), "{listed}");
    assert!(world.validate() > 0);
    // Copies have them, too.
    let copied = registry.image("copy:1");
    world.run(&["copy", &format!("docker://{name}"), &format!("docker://{copied}")]).ok();
    assert_eq!(inspect("other", &copied, "{{json .Provenance.SLSA}}"), slsa);
    let pushed = registry.image("pushed:1");
    world.run(&["tag", &name, &pushed]).ok();
    world.run(&["push", &pushed]).ok();
    assert_eq!(inspect("other", &pushed, "{{json .Provenance.SLSA}}"), slsa);
    // A pull of one platform brings the image only, which can be pushed again.
    let third = registry.image("third:1");
    let other = |args: &[&str]| world.crossdock_at(&world.path("third"), args).run();
    other(&["pull", &name]).ok();
    other(&["tag", &name, &third]).ok();
    let alone = other(&["push", &third]);
    assert!(alone.err.contains("only the image is pushed"), "{}", alone.err);
    alone.ok();
    assert_eq!(inspect("other", &third, "{{json .Provenance}}"), json!({}));
    other(&["pull", "--all-platforms", &name]).ok();
    other(&["tag", &name, &third]).ok();
    other(&["push", &third]).ok();
    assert_eq!(inspect("other", &third, "{{json .Provenance.SLSA}}"), slsa);
    // An attestation does not fit an image that was packed again.
    other(&["push", "--compression-format", "zstd", &third, &registry.image("fourth:1")]).ok();
    assert_eq!(inspect("other", &registry.image("fourth:1"), "{{json .Provenance}}"), json!({}));
    // By platform, if there are several.
    let many = registry.image("many:1");
    world
        .build(
            "FROM scratch\nCOPY package.json /\n",
            &[&TWO[..], &["-t", &many, "--push", "--provenance=true"]].concat(),
        )
        .ok();
    let all = inspect("other", &many, "{{json .Provenance}}");
    assert_eq!(all.as_object().expect("a map").keys().collect::<Vec<_>>(), ["linux/amd64", "linux/arm64"]);
    let one = inspect("other", &many, "{{json (index .Provenance \"linux/arm64\").SLSA.runDetails.builder}}");
    assert_eq!(one, json!({"id": ""}));
    assert_eq!(inspect("other", &many, "{{json .SBOM}}"), json!({}));
}

#[test]
fn what_a_build_takes_from_elsewhere_has_digests() {
    let world = world();
    let registry = Registry::start(&world);
    let base = registry.image("base:1");
    world.run(&["push", "base", &base]).ok();
    let repository = world.path("repository");
    std::fs::create_dir(&repository).expect("a directory");
    let dockerfile = format!("FROM {base}\nCOPY f /\nRUN --network=none true\n");
    std::fs::write(repository.join("Dockerfile"), dockerfile).expect("a file");
    std::fs::write(repository.join("f"), "x").expect("a file");
    let git = |args: &[&str]| {
        let config = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
        let mut command = Command::new(require("git", "git"));
        command.current_dir(&repository).args(config).args(args).env_clear().env("HOME", world.path("home"));
        let out = command.output().expect("git runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("UTF-8").trim().to_string()
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "x"]);
    let commit = git(&["rev-parse", "HEAD"]);
    let address = format!("file://{}#main", repository.display());
    let output = "type=oci,tar=false,dest=layout";
    world.run(&["build", "--provenance", "mode=max", "-o", output, &address]).ok();
    let layout = world.path("layout");
    let index = blob(&layout, &file(&layout.join("index.json"))["manifests"][0]);
    let statement = blob(&layout, &blob(&layout, &index["manifests"][1])["layers"][0]);
    assert_eq!(statement["subject"][0]["name"], "_");
    let predicate = &statement["predicate"];
    let definition = &predicate["buildDefinition"];
    assert_eq!(
        definition["externalParameters"]["configSource"],
        json!({"uri": address, "digest": {"sha1": commit}, "path": "Dockerfile"})
    );
    assert!(definition["externalParameters"]["request"].get("locals").is_none());
    let dependencies = definition["resolvedDependencies"].as_array().expect("a list");
    let uris: Vec<&str> = dependencies.iter().map(|one| one["uri"].as_str().expect("an address")).collect();
    assert!(uris[0].starts_with(&format!("pkg:docker/{}/base@1?platform=", registry.host)), "{uris:?}");
    assert_eq!(uris[1..], [address]);
    let metadata = &predicate["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_completeness"], json!({"request": true, "resolvedDependencies": true}));
    assert_eq!(metadata["buildkit_hermetic"], true);
}

#[test]
fn a_generator_lists_packages() {
    let world = world();
    let script = "ls \"$BUILDKIT_SCAN_SOURCE\" && echo '{\"predicateType\":\"https://spdx.dev/Document\",\
        \"predicate\":{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"'$BUILDKIT_SCAN_WORD'\"}}' \
        > \"$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json\"";
    world.file("scan", script);
    world.build("FROM base\nCOPY scan /scan\nENTRYPOINT [\"sh\", \"/scan\"]\n", &["-t", "generator"]).ok();
    world.build("FROM base\nCMD [\"sh\", \"-c\", \"echo no luck; exit 7\"]\n", &["-t", "broken"]).ok();
    let dockerfile = "FROM scratch\nCOPY package.json /\n";
    let build = |spec: &str| world.build(dockerfile, &[&TWO[..], &["-t", "t", "--sbom", spec]].concat());
    build("generator=generator,WORD=own").ok();
    let args = ["buildx", "imagetools", "inspect", "--format", "{{json .SBOM}}", "t"];
    let document = json!({"SPDX": {"spdxVersion": "SPDX-2.3", "name": "own"}});
    assert_eq!(json(&world.run(&args).ok()), json!({"linux/amd64": document, "linux/arm64": document}));
    build("generator=broken").fails_with(&["generator broken:latest", "exit code: 7", "no luck"]);
    build("generator=t").fails_with(&["generator t:latest", "neither ENTRYPOINT nor CMD"]);
    let error = build("WORD=own").fails(2);
    assert!(error.contains("generator=IMAGE"), "{error}");
}

/// A Dockerfile whose stages and context are listed by these ARGs; the image has what its commands see.
fn scanned(global: &str, of_tool: &str) -> String {
    format!(
        "{global}FROM base AS tool\n{of_tool}COPY package.json /a/node_modules/left/\nRUN env > /env\n\
         FROM base AS other\nCOPY other.json /a/node_modules/other/package.json\n\
         FROM scratch\nCOPY --from=tool /env /env\nCOPY --from=other /a /a\n"
    )
}

/// A world with a context for [`scanned`] that has a package of its own, and one that is ignored.
fn world_with_packages() -> World {
    let world = world();
    let package = |name: &str| format!("{{\"name\":\"{name}\",\"version\":\"1\"}}");
    world.file("other.json", package("other")).file("node_modules/mine/package.json", package("mine"));
    world.file("node_modules/hidden/package.json", package("hidden"));
    world.file(".dockerignore", "node_modules/hidden\n");
    world
}

/// Names of the further documents of an image in `.SBOM`, with the package URLs of Node in each.
fn further(sbom: &Value) -> Vec<(String, Vec<String>)> {
    let documents = sbom["AdditionalSPDXs"].as_array().cloned().unwrap_or_default();
    let read = |document: &Value| {
        let text = |value: &Value| value.as_str().map(str::to_string);
        let packages = document["packages"].as_array().expect("packages");
        let urls = packages.iter().filter_map(|p| text(&p["externalRefs"][0]["referenceLocator"]));
        (text(&document["name"]).expect("a name"), urls.filter(|url| url.starts_with("pkg:npm/")).collect())
    };
    documents.iter().map(read).collect()
}

#[test]
fn stages_and_the_context_are_listed_as_the_dockerfile_says() {
    let world = world_with_packages();
    let tool = ("sbom-tool".to_string(), vec!["pkg:npm/left@3.0".to_string()]);
    let other = ("sbom-other".to_string(), vec!["pkg:npm/other@1".to_string()]);
    let context = ("sbom-context".to_string(), vec!["pkg:npm/mine@1".to_string()]);
    let (stage, of_context) = ("ARG BUILDKIT_SBOM_SCAN_STAGE", "ARG BUILDKIT_SBOM_SCAN_CONTEXT");
    let inspect = ["buildx", "imagetools", "inspect", "--format", "{{json .SBOM}}", "t"];
    for (global, of_tool, args, expected) in [
        (String::new(), String::new(), &[][..], vec![]),
        (String::new(), format!("{stage}=true\n"), &[], vec![tool.clone()]),
        (
            format!("{stage}=1\n{of_context}=true\n"),
            String::new(),
            &[],
            vec![tool.clone(), other.clone(), context.clone()],
        ),
        // A stage's own value counts; a list has names of stages.
        (format!("{stage}=true\n"), format!("{stage}=false\n"), &[], vec![other.clone()]),
        (format!("{stage}=tool,nothing\n"), String::new(), &[], vec![tool.clone()]),
        (
            format!("{stage}\n"),
            String::new(),
            &["--build-arg", "BUILDKIT_SBOM_SCAN_STAGE=other"],
            vec![other],
        ),
        // The context belongs to the target.
        (String::new(), format!("{of_context}=true\n"), &[], vec![]),
    ] {
        let dockerfile = scanned(&global, &of_tool);
        world.build(&dockerfile, &[args, &["-t", "t", "--sbom=true"]].concat()).ok();
        let sbom = json(&world.run(&inspect).ok());
        assert_eq!(further(&sbom), expected, "{dockerfile}");
        assert!(sbom["SPDX"]["packages"].to_string().contains("pkg:npm/other@1"), "the image's is the first");
    }
    // Without a list nothing is looked at, and no command sees the arguments.
    let dockerfile = scanned(&format!("{stage}=true\n"), &format!("{stage}=true\n"));
    world.build(&dockerfile, &["-o", "out"]).ok();
    let seen = std::fs::read_to_string(world.path("out/env")).expect("written");
    assert!(!seen.contains("SBOM_SCAN"), "{seen}");
    assert!(!world.path("out/sbom.spdx.json").exists());
    // Files have the stage's name.
    let both = scanned(&format!("{stage}=tool\n{of_context}=true\n"), "");
    world.build(&both, &["-o", "out", "--sbom=true"]).ok();
    for name in ["sbom", "sbom-tool", "sbom-context"] {
        let statement = file(&world.path("out").join(format!("{name}.spdx.json")));
        assert!(
            statement["subject"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "env"))
        );
    }
    // A Dockerfile on standard input has no context.
    let mut alone = world.crossdock(&["build", "-t", "t", "--sbom=true", "-"]);
    alone.command.env("BUILDKIT_PROGRESS", "plain");
    alone.input(format!("{of_context}=true\nFROM scratch\n").as_bytes()).ok();
    assert_eq!(further(&json(&world.run(&inspect).ok())), []);
}

#[test]
fn a_generator_gets_stages_and_the_context() {
    let world = world_with_packages();
    let script = "cd \"$BUILDKIT_SCAN_SOURCE_EXTRAS\" && for name in *; do \
        echo '{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"'$name $(find $name -name '*.json' | wc -l)'\",\"packages\":[]}' \
        > \"$BUILDKIT_SCAN_DESTINATION/$name.spdx.json\"; done; \
        echo '{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"core\"}' > \"$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json\"";
    world.file("scan", script);
    world.build("FROM base\nCOPY scan /scan\nENTRYPOINT [\"sh\", \"/scan\"]\n", &["-t", "generator"]).ok();
    let dockerfile = scanned("ARG BUILDKIT_SBOM_SCAN_STAGE=tool\nARG BUILDKIT_SBOM_SCAN_CONTEXT=1\n", "");
    world.build(&dockerfile, &["-t", "t", "--sbom", "generator=generator"]).ok();
    let args = ["buildx", "imagetools", "inspect", "--format", "{{json .SBOM}}", "t"];
    let sbom = json(&world.run(&args).ok());
    assert_eq!(sbom["SPDX"]["name"], "core");
    // The context has the package, two more files, and no file that is ignored.
    let expected = [("sbom-context 3".to_string(), vec![]), ("sbom-tool 1".to_string(), vec![])];
    assert_eq!(further(&sbom), expected);
}

#[test]
fn ordinary_users_make_them_too() {
    for who in [Who::User, Who::SingleId] {
        let world = World::of(who).load_base();
        world.file("package.json", r#"{"name":"left","version":"3.0"}"#);
        let dockerfile = "FROM base\nCOPY package.json /a/node_modules/left/\nRUN chmod 0 /a\n";
        let asked = ["--provenance=true", "--sbom=true"];
        world
            .build(
                dockerfile,
                &[&asked[..], &["-t", "t", "--load", "-o", "type=tar,dest=run/t.tar"]].concat(),
            )
            .ok();
        let args = ["buildx", "imagetools", "inspect", "--format", "{{json .SBOM.SPDX.packages}}", "t"];
        let packages = world.run(&args).ok();
        assert!(packages.contains("pkg:npm/left@3.0"), "{who:?}: {packages}");
    }
}

#[test]
fn the_metadata_file_has_the_provenance() {
    let world = World::new();
    let build = |args: &[&str]| {
        let metadata = ["--metadata-file", "metadata", "--provenance", "mode=max"];
        world.build("FROM scratch\nCOPY Dockerfile /\n", &[&metadata[..], args].concat()).ok();
        file(&world.path("metadata"))
    };
    let one = build(&[]);
    let provenance = &one["buildx.build.provenance"];
    assert_eq!(provenance["invocation"]["configSource"], json!({"entryPoint": "Dockerfile"}));
    assert!(provenance.get("buildConfig").is_none() && provenance.get("metadata").is_none(), "{provenance}");
    assert_eq!(one["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    let two = build(&TWO);
    assert!(
        ["amd64", "arm64"].iter().all(|cpu| two[format!("buildx.build.provenance/linux/{cpu}")].is_object())
    );
    world.build("FROM scratch\nCOPY Dockerfile /\n", &["--metadata-file", "metadata"]).ok();
    assert!(file(&world.path("metadata")).get("buildx.build.provenance").is_none());
}
