//! Options of `docker build`, `docker buildx`, `podman build` and `buildah build` (docker-build(1),
//! docker-buildx-build(1), podman-build(1), buildah-build(1)).

use super::option::Answer::{Fine, Only, Refusal, Warning};
use super::option::{PeerOption, switch, value};

const NO_RUNTIME: &str = "no OCI runtime is used: crossdock sets up the sandbox of steps itself";
const SBOM: &str =
    "crossdock stores a list of packages as an attestation: build with --sbom=true or --sbom generator=IMAGE";

pub const BUILD: &[PeerOption] = &[
    switch("rm", Fine("steps leave no containers")),
    switch("force-rm", Fine("steps leave no containers")),
    switch("compress", Fine("the context is read where it is, so nothing is sent")),
    switch("disable-content-trust", Fine("names are never resolved by Notary")),
    switch("debug", Fine("messages always say all that is known")),
    switch(
        "disable-compression",
        Fine("a layer is always packed, in the background; see compression= of --output"),
    )
    .short('D'),
    value("layer-label", Fine("steps make no intermediate images that could have labels")),
    switch(
        "layers",
        Fine("each step that changes files makes a layer, and is in the cache: see --squash and --no-cache"),
    ),
    switch(
        "skip-unused-stages",
        Only(&["true"], "a stage that the result does not need is never built: build it with --target STAGE"),
    ),
    switch("compat-volumes", Only(&["true"], "what RUN writes to a VOLUME is kept, as BuildKit does")),
    switch("identity-label", Fine("images get no label of the program that built them")),
    switch(
        "created-annotation",
        Only(
            &["false"],
            "the time is in the configuration: add it with --annotation org.opencontainers.image.created=TIME",
        ),
    ),
    switch(
        "inherit-labels",
        Only(&["true"], "labels of base images are kept: remove them with --unsetlabel NAME"),
    ),
    switch(
        "inherit-annotations",
        Only(
            &["false"],
            "annotations of base images are not taken over: give them with --annotation NAME=VALUE",
        ),
    ),
    value("unsetannotation", Fine("annotations of base images are not taken over")),
    switch("rewrite-timestamp", Fine("files in new layers are never later than --source-date-epoch")),
    value("retry-delay", Fine("the delay grows from try to try, and is longer if the registry asks for it")),
    switch(
        "all-platforms",
        Refusal(
            "name the platforms: --platform linux/amd64,linux/arm64; \"crossdock buildx imagetools inspect IMAGE\" shows those of a base image",
        ),
    ),
    value(
        "cache-ttl",
        Refusal(
            "the cache has no age limit in a build: remove old parts with \"crossdock builder prune --filter until=24h\", or give --no-cache",
        ),
    ),
    value(
        "cpp-flag",
        Refusal(
            "Dockerfiles do not go through the C preprocessor: run cpp yourself, and give the result with --file -",
        ),
    ),
    value(
        "creds",
        Refusal(
            "it does not say for which registry: log in with \"crossdock login\", or name a file with --authfile",
        ),
    ),
    value("cw", Refusal("images for confidential workloads are not made: build with buildah for that")),
    value(
        "decryption-key",
        Refusal("encrypted layers cannot be read: decrypt the image with skopeo copy first"),
    ),
    value(
        "os-feature",
        Refusal(
            "set it on the entry of an index: crossdock manifest annotate --os-features FEATURE INDEX IMAGE",
        ),
    ),
    value(
        "os-version",
        Refusal(
            "set it on the entry of an index: crossdock manifest annotate --os-version VERSION INDEX IMAGE",
        ),
    ),
    value("sign-by", Refusal("crossdock makes no signatures: sign the pushed image with cosign")),
    switch("stdin", Refusal("steps have no standard input: give them a file with RUN --mount=type=bind")),
    switch(
        "logsplit",
        Refusal("write a log per platform with a build per platform: --platform linux/arm64 --logfile FILE"),
    ),
    value("sbom-image-output", Refusal(SBOM)),
    value("sbom-image-purl-output", Refusal(SBOM)),
    value("sbom-merge-strategy", Refusal(SBOM)),
    value("sbom-output", Refusal(SBOM)),
    value("sbom-purl-output", Refusal(SBOM)),
    value("sbom-scanner-command", Refusal(SBOM)),
    value("sbom-scanner-image", Refusal(SBOM)),
    value(
        "invoke",
        Refusal(
            "there is no debugger: run the state before a failed step with --target STAGE and \"crossdock run\"",
        ),
    ),
    switch("detach", Refusal("a build ends with its command: put \"&\" behind it")),
    value("server-config", Refusal("there is no server: registries are configured in registries.conf")),
];

pub const LIMITS: &[PeerOption] = &[
    value(
        "cgroup-parent",
        Warning(
            "steps stay in the cgroup of this command: start it in the right one, for example with systemd-run --slice",
        ),
    ),
    value("cpu-period", Warning(CPU)),
    value("cpu-quota", Warning(CPU)),
    value("cpu-shares", Warning(CPU)).short('c'),
    value("cpuset-cpus", Warning("steps may use the CPUs of this command: start it with taskset --cpu-list")),
    value(
        "cpuset-mems",
        Warning("steps may use the memory nodes of this command: start it with numactl --membind"),
    ),
    value("memory", Warning(MEMORY)).short('m'),
    value("memory-swap", Warning(MEMORY)),
];

const CPU: &str = "steps share the CPU time of this command: limit it with systemd-run --scope -p CPUQuota=";
const MEMORY: &str = "steps share the memory of this command: limit it with systemd-run --scope -p MemoryMax=, or each process with --ulimit as=BYTES";

pub const NAMESPACES: &[PeerOption] = &[
    value(
        "isolation",
        Only(
            &["", "default", "oci", "rootless", "chroot"],
            "the sandbox is always crossdock's own: user, mount, PID, IPC and UTS namespaces",
        ),
    ),
    value("runtime", Fine(NO_RUNTIME)),
    value("runtime-flag", Fine(NO_RUNTIME)),
    value("hooks-dir", Refusal("no OCI runtime is used, so there are no hooks: call the program with RUN")),
    value("cgroupns", Only(&["private", "host", ""], "it is private or host")),
    value("ipc", Only(&["private", "container", ""], "steps always have an IPC namespace of their own")),
    value("pid", Only(&["private", "container", ""], "steps always have a PID namespace of their own")),
    value("uts", Only(&["private", "container", ""], "steps always have a UTS namespace of their own")),
    value(
        "userns",
        Only(&["", "container", "private", "auto", "host"], "the user namespace is always crossdock's own"),
    ),
    value("userns-uid-map", Refusal(IDS)),
    value("userns-gid-map", Refusal(IDS)),
    value("userns-uid-map-user", Refusal(IDS)),
    value("userns-gid-map-group", Refusal(IDS)),
    switch(
        "no-hosts",
        Refusal("steps always have an /etc/hosts of their own, which is not part of the image"),
    ),
    switch("no-hostname", Fine("steps have no /etc/hostname but that of the image")),
];

const IDS: &str = "ids in images are those of the Dockerfile, whatever they are on this machine: which ids it lends is set in /etc/subuid and /etc/subgid";

/// Of every command of `docker buildx`.
pub const BUILDER: &[PeerOption] = &[
    value("builder", Fine("there is one builder")),
    switch("debug", Fine("messages always say all that is known")).short('D'),
];

pub const BUILDER_CREATE: &[PeerOption] = &[
    switch("append", Fine("there is one builder, which builds for every platform")),
    switch("leave", Fine("there is one builder, which builds for every platform")),
    value("node", Fine("there is one builder, which builds for every platform")),
    value("buildkitd-config", Warning("there is no BuildKit: registries are configured in registries.conf")),
    value("config", Warning("there is no BuildKit: registries are configured in registries.conf")),
    value(
        "buildkitd-flags",
        Warning("there is no BuildKit: privileges of steps are given with --allow of build"),
    ),
];

pub const BUILDER_REMOVE: &[PeerOption] = &[
    switch("all-inactive", Fine("builds need no builder, so nothing is removed")),
    switch("keep-daemon", Fine("builds need no builder, so nothing is removed")),
    switch("keep-state", Fine("builds need no builder, so nothing is removed")),
];

pub const BUILDER_LIST: &[PeerOption] = &[switch("no-trunc", Fine("nothing is shortened"))];

pub const PRUNE: &[PeerOption] = &[switch("verbose", Fine("what is removed is counted by kind"))];

/// Of `docker buildx imagetools create`, which is `copy` here.
pub const IMAGETOOLS: &[PeerOption] =
    &[value("progress", Fine("transfers are shown on standard error; see --quiet"))];

pub const SYSTEM_PRUNE: &[PeerOption] = &[
    switch("build", Fine("steps leave no containers")),
    switch("external", Fine("containers of other programs are not in the store")),
];

pub const USAGE: &[PeerOption] =
    &[value("filter", Refusal("the space is shown by kind: see \"crossdock system df -v\""))];
