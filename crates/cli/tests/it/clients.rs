//! A day with the clients of BuildKit: docker buildx, docker compose, bake and dial-stdio through
//! `serve --buildkit`, command by command. Each command must succeed, and say and leave what the table says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crossdock_testkit::foreign::{self, Cpu};
use serde_json::Value;

use crate::buildkit::buildx;
use crate::support::{Ran, Registry, Running, World, our_emulator, require};

/// What a command must do.
enum Must {
    /// Say this on standard output or standard error.
    Say(&'static str),
    /// Not say this.
    Hide(&'static str),
    /// Leave a file of the world with this content.
    Leave(&'static str, &'static str),
    /// Leave a file of the world that is an archive with this name in it.
    Pack(&'static str, &'static str),
    /// Fail, and say this.
    Fail(&'static str),
    /// Print JSON that has this value at this place (RFC 6901).
    Json(&'static str, &'static str),
    /// Print JSON that has something at this place.
    Has(&'static str),
}

use Must::{Fail, Has, Hide, Json, Leave, Pack, Say};

/// The commands, by name, in their order. `$B` is `docker buildx build` with plain progress and without
/// provenance, `$REG` the registry, `$W` the directory in which they run.
const COMMANDS: &[(&str, &str, &[Must])] = &[
    ("create", "docker buildx create --name day --driver remote unix://$W/run/crossdock.sock", &[Say("day")]),
    ("use", "docker buildx use day && docker buildx inspect", &[Say("remote"), Say("running")]),
    ("inspect", "docker buildx inspect --bootstrap day", &[Say("linux/amd64"), Say("linux/arm64")]),
    ("ls", "docker buildx ls", &[Say("day"), Say("running")]),
    ("version", "docker buildx version", &[Say("buildx")]),
    // Outputs.
    ("build to the store", "$B -t day/one:1 -o type=image ctx && crossdock images", &[Say("day/one")]),
    (
        "output local",
        "$B -o out/local ctx",
        &[Leave("out/local/made", "made by hand\n"), Leave("out/local/f", "data")],
    ),
    ("output type=local", "$B -o type=local,dest=out/local2 ctx", &[Leave("out/local2/f", "data")]),
    ("output tar", "$B -o type=tar,dest=out/a.tar ctx", &[Pack("out/a.tar", "made")]),
    ("output tar on standard output", "$B -o type=tar,dest=- ctx > out/b.tar", &[Pack("out/b.tar", "f")]),
    ("output oci", "$B -o type=oci,dest=out/c.tar ctx", &[Pack("out/c.tar", "index.json")]),
    (
        "output oci layout",
        "$B -t a:1 -o type=oci,tar=false,dest=out/layout ctx && cat out/layout/index.json",
        &[Has("/manifests/0/digest")],
    ),
    (
        "output docker",
        "$B -t day/loaded:1 -o type=docker,dest=out/d.tar ctx && crossdock load -i out/d.tar",
        &[Pack("out/d.tar", "manifest.json"), Say("Loaded image: day/loaded:1")],
    ),
    ("output image and push", "$B -t $REG/day:1 -o type=image,push=true ctx", &[Say("pushing")]),
    (
        "push by digest",
        "$B -o type=image,name=$REG/bare,push-by-digest=true,push=true --metadata-file out/bare.json ctx && docker buildx imagetools inspect --raw $REG/bare@$(jq_ out/bare.json containerimage.digest)",
        &[Has("/config/digest")],
    ),
    ("push", "$B -t $REG/day:2 --push ctx", &[]),
    ("output cacheonly", "$B -o type=cacheonly ctx", &[Hide("exporting")]),
    (
        "several outputs",
        "$B -o type=local,dest=out/many -o type=tar,dest=out/many.tar ctx",
        &[Leave("out/many/f", "data"), Pack("out/many.tar", "f")],
    ),
    (
        "compression",
        "$B -t $REG/zstd:1 -o type=image,push=true,compression=zstd,force-compression=true,oci-mediatypes=true ctx && docker buildx imagetools inspect --raw $REG/zstd:1",
        &[Say("tar+zstd")],
    ),
    (
        "annotations",
        "$B -t $REG/noted:1 --push --annotation who=me ctx && docker buildx imagetools inspect --raw $REG/noted:1",
        &[Json("/annotations/who", "me")],
    ),
    (
        "rewrite-timestamp",
        "SOURCE_DATE_EPOCH=7 $B -t $REG/old:1 -o type=image,push=true,rewrite-timestamp=true ctx && docker buildx imagetools inspect --format '{{json .Image}}' $REG/old:1",
        &[Json("/created", "1970-01-01T00:00:07Z")],
    ),
    (
        "quiet and iidfile",
        "docker buildx build -q --iidfile out/iid -o type=image ctx && cat out/iid",
        &[Say("sha256:")],
    ),
    (
        "metadata file",
        "$B -t $REG/day:3 --push --metadata-file out/meta.json ctx && cat out/meta.json",
        &[Has("/containerimage.digest"), Has("/containerimage.config.digest"), Has("/buildx.build.ref")],
    ),
    // What a build is given.
    (
        "target and build argument",
        "$B --target args --build-arg WHO=you -o out/args ctx",
        &[Leave("out/args/who", "you\n")],
    ),
    (
        "labels",
        "$B -t day/label:1 --label l=v -o type=image ctx && crossdock inspect day/label:1",
        &[Say("\"l\": \"v\"")],
    ),
    (
        "secret of a file",
        "$B --target secret --secret id=s,src=secret -o out/s ctx",
        &[Leave("out/s/n", "10\n"), Hide("top secret")],
    ),
    (
        "secret of the environment",
        "S='four' $B --no-cache --target secret --secret id=s,env=S -o out/s2 ctx",
        &[Leave("out/s2/n", "4\n")],
    ),
    ("missing secret", "$B --no-cache --target secret ctx", &[Fail("secret s: not found")]),
    ("ssh key", "$B --target ssh --ssh default=$W/key -o out/ssh ctx", &[Leave("out/ssh/agent", "here\n")]),
    (
        "context local",
        "$B --target named --build-context other=other -o out/n1 ctx",
        &[Leave("out/n1/n", "named")],
    ),
    (
        "context oci-layout",
        "$B --target from --build-context b=oci-layout://$W/out/layout -o out/n2 ctx",
        &[Leave("out/n2/again", "made by hand\n")],
    ),
    (
        "context docker-image",
        "$B --target from --build-context b=docker-image://$REG/day:1 -o out/n3 ctx",
        &[Leave("out/n3/again", "made by hand\n")],
    ),
    (
        "Dockerfile on standard input",
        "printf 'FROM base\\nCOPY f /g\\n' | $B -f - -o out/in ctx",
        &[Leave("out/in/g", "data")],
    ),
    ("archive on standard input", "tar -C ctx -c . | $B -o out/in2 -", &[Leave("out/in2/f", "data")]),
    ("Dockerfile elsewhere", "$B -f $W/else/Dockerfile.x -o out/else ctx", &[Leave("out/else/x", "data")]),
    (
        "ignore file",
        "$B --target all -o out/all ctx",
        &[Leave("out/all/list", "Dockerfile\napp-arm\napp-arm64\nf\nnew\n")],
    ),
    ("network none", "$B --network none --target args -o out/net ctx", &[Leave("out/net/who", "nobody\n")]),
    (
        "hosts, limits, memory",
        "$B --target host --add-host far:10.1.2.3 --ulimit nofile=77:77 --shm-size 8m -o out/host ctx",
        &[Leave("out/host/h", "10.1.2.3\n77\n8192\n")],
    ),
    ("insecure without a right", "$B --target insecure ctx", &[Fail("security.insecure")]),
    ("insecure with a right", "$B --target insecure --allow security.insecure ctx", &[]),
    ("source policy", "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=$W/deny.json $B ctx", &[Fail("denied by policy")]),
    (
        "source policy that replaces",
        "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=$W/convert.json $B --target from -o out/policy ctx",
        &[Leave("out/policy/again", "made by hand\n")],
    ),
    // Caches.
    ("cached", "$B -o type=cacheonly ctx", &[Say("CACHED")]),
    ("no cache", "$B --no-cache --target made -o type=cacheonly ctx", &[Hide("CACHED")]),
    ("no cache of a stage", "$B --no-cache-filter made -o type=cacheonly ctx", &[Hide("CACHED")]),
    (
        "cache to and from a registry",
        "$B --cache-to type=registry,ref=$REG/cache:1,mode=max -o type=cacheonly ctx && $B --cache-from type=registry,ref=$REG/cache:1 -o type=cacheonly ctx",
        &[Say("exporting cache"), Say("CACHED")],
    ),
    (
        "cache to and from a directory",
        "$B --cache-to type=local,dest=out/cache -o type=cacheonly ctx && $B --cache-from type=local,src=out/cache -o type=cacheonly ctx",
        &[Say("exporting cache"), Say("CACHED")],
    ),
    (
        "inline cache",
        "$B --cache-to type=inline -t $REG/inline:1 --push ctx && $B --cache-from $REG/inline:1 -o type=cacheonly ctx",
        &[Say("CACHED")],
    ),
    // Questions.
    ("check", "$B --check ctx", &[Say("Check complete, no warnings found")]),
    ("check with a finding", "$B --check -f $W/else/Dockerfile.bad ctx", &[Fail("StageNameCasing")]),
    (
        "call outline",
        "docker buildx build --call outline,format=json --target secret ctx",
        &[Json("/secrets/0/name", "s")],
    ),
    (
        "call targets",
        "docker buildx build --call targets,format=json ctx",
        &[Json("/targets/0/name", "made")],
    ),
    (
        "progress rawjson",
        "docker buildx build --progress rawjson --provenance=false -o type=cacheonly ctx",
        &[Say("\"vertexes\"")],
    ),
    // Several platforms.
    (
        "multi-platform push",
        "$B --platform linux/amd64,linux/arm64,linux/arm/v7 --target cross -t $REG/multi:1 --push ctx && docker buildx imagetools inspect $REG/multi:1",
        &[Say("linux/amd64"), Say("linux/arm64"), Say("linux/arm/v7")],
    ),
    (
        "foreign step",
        "$B --platform linux/arm64,linux/arm/v7 --target foreign -o type=cacheonly ctx",
        &[Say("linux/arm64 foreign"), Say("linux/arm/v7 foreign"), Say(" /app")],
    ),
    (
        "multi-platform files",
        "$B --platform linux/amd64,linux/arm64 --target cross -o out/both ctx",
        &[Leave("out/both/linux_arm64/arch", "arm64\n"), Leave("out/both/linux_amd64/arch", "amd64\n")],
    ),
    // Images.
    (
        "imagetools inspect",
        "docker buildx imagetools inspect $REG/day:1",
        &[Say("MediaType"), Say("sha256:")],
    ),
    (
        "imagetools inspect --format",
        "docker buildx imagetools inspect $REG/multi:1 --format '{{json .Manifest}}'",
        &[Has("/manifests/2/digest")],
    ),
    (
        "imagetools create",
        "docker buildx imagetools create -t $REG/again:1 $REG/multi:1 && docker buildx imagetools inspect --raw $REG/again:1",
        &[Has("/manifests/2/digest")],
    ),
    (
        "imagetools create of two",
        "docker buildx imagetools create -t $REG/both:1 $REG/day:1 $REG/multi:1 && docker buildx imagetools inspect --raw $REG/both:1",
        &[Has("/manifests/3/digest")],
    ),
    // Attestations.
    (
        "provenance",
        "docker buildx build -q --provenance=mode=max -t $REG/prov:1 --push ctx && docker buildx imagetools inspect $REG/prov:1 --format '{{json .Provenance.SLSA}}' > out/prov.json && cat out/prov.json",
        &[Has("/buildDefinition/externalParameters")],
    ),
    (
        "list of packages",
        "docker buildx build -q --sbom=true -t $REG/sbom:1 --push ctx && docker buildx imagetools inspect $REG/sbom:1 --format '{{json .SBOM.SPDX}}'",
        &[Say("SPDX-2.3")],
    ),
    // Bake.
    (
        "bake --print",
        "docker buildx bake --print",
        &[Json("/target/app/context", "ctx"), Json("/target/app/contexts/lib", "target:lib")],
    ),
    (
        "crossdock bake --print",
        "crossdock bake --print",
        &[Json("/target/app/context", "ctx"), Json("/target/app/contexts/lib", "target:lib")],
    ),
    (
        "bake linked targets",
        "docker buildx bake --progress plain --allow fs=$W",
        &[Leave("out/bake/again", "made by hand\n")],
    ),
    ("bake --list", "docker buildx bake --list targets", &[Say("app"), Say("lib")]),
    (
        "bake --set and a variable",
        "WHO=them docker buildx bake --progress plain --allow fs=$W --set args.output=out/set args",
        &[Leave("out/set/who", "them\n")],
    ),
    (
        "bake of Compose's file",
        "docker buildx bake --progress plain --allow fs=$W -f compose.yaml --set web.output=out/web",
        &[Leave("out/web/who", "compose\n")],
    ),
    // Compose.
    (
        "compose build",
        "docker compose build --push && docker buildx imagetools inspect $REG/web:1",
        &[Say("sha256:")],
    ),
    ("compose config", "docker compose config", &[Say("WHO: compose")]),
    // Records.
    (
        "history ls",
        "docker buildx history ls --format '{{.Ref}} {{.Name}} {{.Status}}' | tee out/ls",
        &[Say("Completed"), Say("Error")],
    ),
    ("history logs", "docker buildx history logs --progress plain $(last)", &[Say("RUN echo $WHO > /who")]),
    (
        "history inspect",
        "docker buildx history inspect $(last) --format json",
        &[Has("/Config"), Json("/Status", "completed")],
    ),
    (
        "history inspect attachment",
        "docker buildx history inspect attachment --type provenance $(last)",
        &[Has("/buildDefinition")],
    ),
    (
        "history of a failure",
        "docker buildx history inspect $(docker buildx history ls --format '{{.Ref}} {{.Status}}' | grep Error | head -1 | cut -d' ' -f1)",
        &[Say("error")],
    ),
    (
        "history export",
        "docker buildx history export -o out/rec.dockerbuild $(last) && tar -tzf out/rec.dockerbuild",
        &[Say("index.json"), Say("blobs/sha256/")],
    ),
    (
        "history rm",
        "docker buildx history rm $(last) && docker buildx history ls --format '{{.Ref}}' > out/ls2 && ! grep -q $(last) out/ls2",
        &[],
    ),
    // Space.
    ("du", "docker buildx du", &[Say("Total:")]),
    ("du --verbose", "docker buildx du --verbose", &[Say("ID:"), Say("Size:")]),
    (
        "prune to make room",
        "docker buildx prune -f --min-free-space 1 --max-used-space 100gb",
        &[Say("Total")],
    ),
    ("prune", "docker buildx prune -f", &[Say("Total")]),
    ("prune all", "docker buildx prune -af && $B -o out/pruned ctx", &[Leave("out/pruned/f", "data")]),
    // Caches are manifests like others, and registries show them.
    (
        "imagetools inspect of a cache",
        "$B --cache-to type=registry,ref=$REG/shown:1,mode=max -o type=cacheonly ctx && docker buildx imagetools inspect --raw $REG/shown:1",
        &[Say("vnd.crossdock.cache.config.v1+json"), Say("vnd.oci.image.layer.v1.tar+gzip")],
    ),
    // Devices.
    ("devices of the builder", "docker buildx inspect day", &[Say("test.example/null=one")]),
    (
        "a device without permission",
        "$B --target device ctx",
        &[Fail("the device test.example/null=one needs a permission")],
    ),
    (
        "a device",
        "$B --allow device=test.example/null=one --target device -o out/device ctx",
        &[Leave("out/device/device", "one\n")],
    ),
    // Streams.
    (
        "buildctl dial-stdio",
        "docker buildx create --name far --driver remote ssh://somebody@somewhere && docker buildx build --builder far --progress plain -f else/Dockerfile.x -o out/far ctx",
        &[Leave("out/far/x", "data")],
    ),
    ("rm", "docker buildx rm far && docker buildx ls", &[Hide("ssh://")]),
];

const DOCKERFILE: &str = "FROM base AS made\nRUN echo made by hand > /made\nCOPY f /f\n\
FROM base AS args\nARG WHO=nobody\nRUN echo $WHO > /who\n\
FROM base AS secret\nRUN --mount=type=secret,id=s,required=true wc -c < /run/secrets/s > /n\n\
FROM base AS ssh\nRUN --mount=type=ssh,required=true test -S $SSH_AUTH_SOCK && echo here > /agent\n\
FROM base AS other\nFROM scratch AS named\nCOPY --from=other /n /n\n\
FROM base AS b\nFROM b AS from\nRUN cat /made > /again\n\
FROM base AS all\nRUN --mount=target=/ctx ls /ctx > /list\n\
FROM base AS host\nRUN awk '$2 == \"far\" { print $1 }' /etc/hosts > /h; ulimit -n >> /h; df -k /dev/shm | awk 'NR == 2 { print $2 }' >> /h\n\
FROM base AS insecure\nRUN --security=insecure true\n\
FROM base AS device\nRUN --device=test.example/null=one,required test -c /dev/mine && echo $DEVICE > /device\n\
FROM --platform=$BUILDPLATFORM base AS cross\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\n\
FROM scratch AS foreign\nARG TARGETARCH\nCOPY app-$TARGETARCH /app\nRUN [\"/app\"]\n\
FROM made\n";

/// A device of the server's machine.
const DEVICE: &str = r#"{ "cdiVersion": "0.6.0", "kind": "test.example/null", "devices": [ { "name": "one",
    "containerEdits": { "env": ["DEVICE=one"], "deviceNodes": [ { "path": "/dev/mine", "hostPath": "/dev/null" } ] } } ] }"#;

const BAKE: &str = "variable \"WHO\" { default = \"bake\" }\n\
group \"default\" { targets = [\"app\"] }\n\
target \"lib\" {\n  context = \"ctx\"\n  target = \"made\"\n}\n\
target \"app\" {\n  context = \"ctx\"\n  contexts = { lib = \"target:lib\" }\n  dockerfile-inline = \"FROM lib\\nRUN cat /made > /again\\n\"\n  output = [\"out/bake\"]\n}\n\
target \"args\" {\n  context = \"ctx\"\n  target = \"args\"\n  args = { WHO = WHO }\n}\n";

/// A rule of a policy for the image `base`.
fn policy(action: &str, identifier: &str, to: &str) -> String {
    format!(
        "{{\"rules\":[{{\"action\":\"{action}\",\"selector\":{{\"identifier\":\"{identifier}\"}},\"updates\":{{\"identifier\":\"{to}\"}}}}]}}"
    )
}

/// docker-compose, which `cargo xtask test` fetches.
fn compose() -> PathBuf {
    let plugin = "usr/libexec/docker/cli-plugins/docker-compose";
    let fetched =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients/docker-compose").join(plugin);
    let path = if fetched.exists() { fetched } else { Path::new("/").join(plugin) };
    assert!(path.exists(), "docker-compose is missing: run cargo xtask test");
    path
}

/// The machine of the day: a server, a registry, a context, and clients in a directory of programs.
struct Day {
    world: World,
    registry: Registry,
    _server: Running,
}

impl Day {
    fn new() -> Day {
        our_emulator();
        let world = World::with_base();
        let registry = Registry::start(&world);
        world.file("../cdi/test.json", DEVICE);
        let described = world.path("cdi").display().to_string();
        let server = world.crossdock(&["serve", "--buildkit"]).env("CROSSDOCK_CDI_DIRS", &described);
        let mut server = server.start();
        server.until_err("use it with");
        let top = |name: &str, content: &str| {
            world.file(&format!("../{name}"), content);
        };
        for directory in ["out", "ctx", "other", "else", "bin", "home/.docker/cli-plugins"] {
            fs::create_dir_all(world.path(directory)).expect("a directory");
        }
        for (name, content) in [
            ("ctx/Dockerfile", DOCKERFILE),
            ("ctx/f", "data"),
            ("ctx/new", "new"),
            ("ctx/left-out", "x"),
            ("ctx/.dockerignore", "left-out\n.dockerignore\n"),
            ("secret", "top secret"),
            ("other/n", "named"),
            ("else/Dockerfile.x", "FROM scratch\nCOPY f /x\n"),
            ("else/Dockerfile.bad", "FROM base AS Upper\nRUN true\n"),
            ("docker-bake.hcl", BAKE),
            ("deny.json", &policy("DENY", "docker-image://docker.io/library/base:latest", "")),
        ] {
            top(name, content);
        }
        for (architecture, cpu) in [("arm64", Cpu::Arm64), ("arm", Cpu::Arm)] {
            world.file_mode(&format!("../ctx/app-{architecture}"), foreign::hello_and_exit(cpu, 0), 0o755);
        }
        let image = |name: &str| format!("docker-image://{}", registry.image(name));
        top(
            "convert.json",
            &policy("CONVERT", "docker-image://docker.io/library/base:latest", &image("day:1")),
        );
        top(
            "compose.yaml",
            &format!(
                "services:\n  web:\n    image: {}\n    build:\n      context: ctx\n      target: args\n      args:\n        WHO: compose\n",
                registry.image("web:1")
            ),
        );
        let day = Day { world, registry, _server: server };
        day.programs();
        day
    }

    /// Programs as a user has them. `ssh` runs the command of the other machine here.
    fn programs(&self) {
        let world = &self.world;
        let crossdock = env!("CARGO_BIN_EXE_crossdock");
        let program = |name: &str, script: String| {
            let path = world.path("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        };
        let plugins = world.path("home/.docker/cli-plugins");
        std::os::unix::fs::symlink(buildx(), plugins.join("docker-buildx")).expect("a link");
        program(
            "docker",
            format!(
                "case $1 in buildx) shift; exec {} \"$@\";; compose) shift; exec {} \"$@\";; esac\nexit 99",
                buildx().display(),
                compose().display()
            ),
        );
        program("crossdock", format!("exec {crossdock} \"$@\""));
        let far = "while [ \"$1\" != buildctl ]; do shift; done; shift";
        program(
            "ssh",
            format!("{far}\nexec env -u XDG_RUNTIME_DIR {crossdock} --root $W/far buildctl \"$@\""),
        );
        // The value of a member of a file of JSON.
        program(
            "jq_",
            "tr -d ' ' < $1 | grep -o \"\\\"$2\\\":\\\"[^\\\"]*\" | head -1 | cut -d'\"' -f4".into(),
        );
        // The first build that the list names as completed.
        program("last", "grep Completed out/ls | head -1 | cut -d' ' -f1".into());
        let key = Command::new(require("ssh-keygen", "openssh-client"))
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(world.path("key"))
            .status();
        assert!(key.expect("ssh-keygen runs").success());
    }

    fn run(&self, script: &str) -> Ran {
        let world = &self.world;
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", world.text("bin"));
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env_clear()
            .env("PATH", path)
            .env("HOME", world.path("home"))
            .env("W", world.directory.path())
            .env("REG", &self.registry.host)
            .env("B", "docker buildx build --progress plain --provenance=false")
            .env("CROSSDOCK_ROOT", world.store())
            .env("XDG_RUNTIME_DIR", world.path("run"))
            .current_dir(world.directory.path())
            .stdin(Stdio::null());
        Ran::from(command.output().expect("sh runs"))
    }

    /// What is wrong with the end of a command.
    fn wrong(&self, ran: &Ran, must: &Must) -> Option<String> {
        let said = |text: &str| ran.out.contains(text) || ran.err.contains(text);
        let json = |place: &str| -> Result<Option<Value>, String> {
            let start = ran.out.find('{').unwrap_or(0);
            let mut stream = serde_json::Deserializer::from_str(&ran.out[start..]).into_iter::<Value>();
            let value = stream.next().ok_or("no JSON")?.map_err(|error| format!("no JSON: {error}"))?;
            Ok(value.pointer(place).cloned())
        };
        match must {
            Say(text) => (!said(text)).then(|| format!("it does not say {text:?}")),
            Fail(text) => (!said(text)).then(|| format!("it fails without {text:?}")),
            Hide(text) => said(text).then(|| format!("it says {text:?}")),
            Leave(file, content) => match fs::read_to_string(self.world.path(file)) {
                Ok(found) if found == *content => None,
                Ok(found) => Some(format!("{file} has {found:?} instead of {content:?}")),
                Err(error) => Some(format!("{file}: {error}")),
            },
            Pack(file, name) => {
                let archive = fs::File::open(self.world.path(file)).map(tar::Archive::new);
                let names = archive.and_then(|mut archive| {
                    let entries = archive.entries()?.flatten();
                    Ok(entries.map(|entry| entry.path_bytes().into_owned()).collect::<Vec<_>>())
                });
                match names {
                    Ok(names) if names.iter().any(|found| found == name.as_bytes()) => None,
                    Ok(_) => Some(format!("{file} has no {name}")),
                    Err(error) => Some(format!("{file}: {error}")),
                }
            }
            Json(place, value) => match json(place) {
                Ok(Some(found)) if found == *value => None,
                Ok(found) => Some(format!("{place} is {found:?} instead of {value:?}")),
                Err(error) => Some(error),
            },
            Has(place) => match json(place) {
                Ok(Some(found)) if !found.is_null() => None,
                Ok(_) => Some(format!("nothing is at {place}")),
                Err(error) => Some(error),
            },
        }
    }
}

#[test]
fn a_day_with_the_clients() {
    let day = Day::new();
    assert!(COMMANDS.len() >= 60, "{}", COMMANDS.len());
    let mut wrong = Vec::new();
    let mut times: Vec<(Duration, &str)> = Vec::new();
    for (name, command, musts) in COMMANDS {
        let begun = Instant::now();
        let ran = day.run(command);
        times.push((begun.elapsed(), name));
        let may_fail = musts.iter().any(|must| matches!(must, Fail(_)));
        let mut found: Vec<String> = musts.iter().filter_map(|must| day.wrong(&ran, must)).collect();
        if (ran.code == Some(0)) == may_fail {
            found.push(format!("it ends with {:?}", ran.code));
        }
        if ran.err.contains("panicked") {
            found.push("something panicked".to_string());
        }
        if !found.is_empty() {
            wrong.push(format!("{name}: {command}\n  {}\n{}{}", found.join("\n  "), ran.out, ran.err));
        }
    }
    times.sort_unstable_by(|a, b| b.cmp(a));
    assert!(wrong.is_empty(), "{} commands:\n{}\nslowest: {:?}", wrong.len(), wrong.join("\n"), &times[..5]);
}
