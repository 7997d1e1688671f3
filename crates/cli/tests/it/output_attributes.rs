//! The attributes of `build --output`.

use serde_json::{Value, json};

use crate::support::{Registry, World};

const TWO: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];

fn json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("there")).expect("JSON")
}

/// A document of an OCI layout.
fn blob(layout: &std::path::Path, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().expect("a digest").replace(':', "/");
    json(&layout.join("blobs").join(digest))
}

#[test]
fn platforms_share_a_directory_or_have_their_own() {
    let world = World::new();
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /only/$TARGETARCH\n";
    let build = |args: &[&str], output: &str| world.build(dockerfile, &[args, &["-o", output]].concat());
    let there = |path: &str| world.path(path).exists();
    build(&["--platform", "linux/arm64"], "type=local,dest=one,platform-split=true").ok();
    assert!(there("one/linux_arm64/only/arm64"));
    build(&TWO, "type=local,dest=two,platform-split=false").ok();
    assert!(there("two/only/amd64") && there("two/only/arm64"));
    build(&TWO, "type=tar,dest=two.tar,platform-split=false").ok();
    let mut tar = tar::Archive::new(std::fs::File::open(world.path("two.tar")).expect("an archive"));
    let names: Vec<String> = tar
        .entries()
        .expect("entries")
        .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    assert_eq!(names, ["only/", "only/amd64", "only/arm64"]);
    // Neither of two files of one name is right.
    for output in ["type=local,dest=three,platform-split=false", "type=tar,dest=three,platform-split=false"] {
        let same = world.build("FROM scratch\nCOPY Dockerfile /f\n", &[&TWO[..], &["-o", output]].concat());
        same.fails_with(&["/f is in the results of two platforms"]);
    }
}

#[test]
fn annotations_have_levels_and_platforms() {
    let world = World::new();
    let output = "type=oci,tar=false,dest=layout,annotation.a=1,annotation[linux/arm64].b=2,\
        annotation-manifest-descriptor[linux/amd64].c=3,annotation-index.d=4,annotation-index-descriptor.e=5";
    let args = [&TWO[..], &["-o", output, "--annotation", "index,manifest-descriptor:f=6"]].concat();
    world.build("FROM scratch\nCOPY Dockerfile /\n", &args).ok();
    let layout = world.path("layout");
    let top = json(&layout.join("index.json"))["manifests"][0].clone();
    assert_eq!(top["annotations"], json!({"e": "5"}));
    let index = blob(&layout, &top);
    assert_eq!(index["annotations"], json!({"d": "4", "f": "6"}));
    let [amd64, arm64] = [0, 1].map(|i| index["manifests"][i].clone());
    assert_eq!(amd64["annotations"], json!({"c": "3", "f": "6"}));
    assert_eq!(arm64["annotations"], json!({"f": "6"}));
    assert_eq!(blob(&layout, &amd64)["annotations"], json!({"a": "1"}));
    assert_eq!(blob(&layout, &arm64)["annotations"], json!({"a": "1", "b": "2"}));

    // The annotations of an output are its own.
    let both = ["-t", "t", "--load", "-o", "type=oci,tar=false,dest=other,annotation.own=1"];
    world.build("FROM scratch\nCOPY Dockerfile /\n", &both).ok();
    assert_eq!(world.inspect("t")["Manifest"]["annotations"], Value::Null);
    let other = world.path("other");
    let manifest = blob(&other, &json(&other.join("index.json"))["manifests"][0]);
    assert_eq!(manifest["annotations"], json!({"own": "1"}));
    let one = world.build("FROM scratch\nCOPY Dockerfile /\n", &["-o", "type=image,annotation-index.k=v"]);
    one.fails_with(&["annotations of an index need a build for several platforms"]);
}

/// How CI jobs build one platform each and join them.
#[test]
fn images_are_pushed_by_digest_and_joined() {
    let world = World::new();
    let registry = Registry::start(&world);
    let output = format!(
        "type=image,name={},push-by-digest=true,name-canonical=true,push=true",
        registry.image("app")
    );
    let mut digests = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        let args = ["--platform", platform, "-o", &output, "--metadata-file", "metadata"];
        world.build("FROM scratch\nCOPY Dockerfile /\n", &args).ok();
        let metadata = json(&world.path("metadata"));
        digests.push(metadata["containerimage.digest"].as_str().expect("a digest").to_string());
        assert!(metadata["image.name"].as_str().is_some_and(|name| name.contains("app")), "{metadata}");
    }
    let sources: Vec<String> =
        digests.iter().map(|digest| format!("{}@{digest}", registry.image("app"))).collect();
    let latest = registry.image("app:latest");
    world.run(&["manifest", "inspect", &latest]).fails_with(&["not found"]);
    let create = ["buildx", "imagetools", "create", "-t", &latest, &sources[0], &sources[1]];
    world.run(&create).ok();
    let index: Value =
        serde_json::from_str(&world.run(&["manifest", "inspect", &latest]).ok()).expect("JSON");
    let found = [0, 1].map(|i| index["manifests"][i]["digest"].as_str().expect("a digest").to_string());
    assert_eq!(found[..], digests[..]);
    for (output, message) in [
        ("type=registry,name=localhost:1/a:1,push-by-digest=true", "leave the tag out"),
        ("type=registry,push-by-digest=true", "needs the repository"),
    ] {
        world.build("FROM scratch\nCOPY Dockerfile /\n", &["-t", "t", "-o", output]).fails_with(&[message]);
    }
}

#[test]
fn layers_of_the_base_are_packed_again_if_asked() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN echo new > /new\n";
    let types = |name: &str| -> Vec<String> {
        let image = world.inspect(name);
        let layers = image["Manifest"]["layers"].as_array().expect("a list").clone();
        layers.iter().map(|layer| layer["mediaType"].as_str().expect("text").to_string()).collect()
    };
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    world.build(dockerfile, &["-t", "some", "-o", "type=image,compression=zstd"]).ok();
    assert!(types("some")[0] != zstd && types("some").last().is_some_and(|last| last == zstd));
    let output = "type=image,compression=zstd,force-compression=true";
    world.build(dockerfile, &["-t", "all", "-o", output]).ok();
    assert!(types("all").iter().all(|kind| kind == zstd), "{:?}", types("all"));
    assert_eq!(world.sh("all", "cat /new && ls /etc/passwd"), "new\n/etc/passwd\n");
    assert_eq!(world.inspect("some")["RootFS"], world.inspect("all")["RootFS"]);
    assert!(world.validate() > 0);
}

#[test]
fn dockers_media_types() {
    let world = World::new();
    let output = "type=oci,tar=false,dest=layout,oci-mediatypes=false";
    world.build("FROM scratch\nCOPY Dockerfile /\n", &[&TWO[..], &["-o", output]].concat()).ok();
    let layout = world.path("layout");
    let index = blob(&layout, &json(&layout.join("index.json"))["manifests"][0]);
    assert_eq!(index["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    let manifest = blob(&layout, &index["manifests"][1]);
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    for (output, message) in [
        ("type=image,oci-mediatypes=false,compression=zstd", "no media type for zstd"),
        ("type=image,oci-mediatypes=false,annotation.k=v", "have no annotations"),
        ("type=image,oci-mediatypes=perhaps", "oci-mediatypes=perhaps"),
        ("type=image,nonsense=1", "nonsense=1"),
        ("type=image,annotation[a/b/c/d].k=v", "platform a/b/c/d"),
        ("type=image,compression=estargz", "gzip, zstd and uncompressed"),
    ] {
        let dockerfile = format!("FROM scratch\n# {output}\nCOPY Dockerfile /\n");
        world.build(&dockerfile, &["-t", "t", "-o", output]).fails_with(&[message]);
    }
    let two = ["-o", "type=oci,dest=a,compression=zstd", "-o", "type=oci,dest=b,compression=gzip"];
    world.build("FROM scratch\nCOPY Dockerfile /\n", &two).fails_with(&["packs its layers once"]);
}

/// What BuildKit documents besides, and what to do where it has no meaning here.
#[test]
fn attributes_without_an_effect_are_accepted_or_answered() {
    let world = World::new();
    let build = |output: &str| world.build("FROM scratch\nCOPY Dockerfile /\n", &["-o", output]);
    for attributes in [
        "context=default",
        "oci-artifact=true",
        "attestation-prefix=a",
        "rewrite-timestamp=true",
        "unpack=true",
        "store=false",
        "dangling-name-prefix=x",
        "name-canonical=true",
        "prefer-nondist-layers=true",
        "registry.insecure=true",
    ] {
        build(&format!("type=image,name=a,{attributes}")).ok();
    }
    build("type=docker,context=other").fails_with(&["context=other", "docker-daemon:"]);
    build("type=image,frobnicate=true").fails_with(&["frobnicate=true", "does not know"]);
}
