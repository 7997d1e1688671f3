//! Options of `docker run` and `podman run` (docker-run(1), podman-run(1)).

use super::option::Answer::{Fine, Only, Refusal, Warning};
use super::option::{PeerOption, switch, value};

const GONE: &str = "a container ends with its \"crossdock run\", and nothing shows it afterwards";
const HEALTH: &str = "nobody asks for the container's health: the command's exit code tells";
const STOP: &str = "a signal to \"crossdock run\" goes to the command as it is";
const LOG: &str = "output goes to where \"crossdock run\" writes it: let the shell keep it, with > FILE";
const RATES: &str = "input and output of devices is not limited: start the command with systemd-run --scope -p IOReadBandwidthMax=, IOWriteBandwidthMax= or IOWeight=";
const REAL_TIME: &str =
    "real-time scheduling is not limited: start the command with chrt, and --ulimit rtprio=N";
const ADDRESS: &str = "the address in a private network is that of pasta or slirp4netns: with --network host it is this machine's";
const LINKS: &str =
    "containers do not know each other: let them meet on ports of this machine with --network host";
const WINDOWS: &str = "only containers for Linux are run";
const USERS: &str = "the user namespace is always crossdock's own: root inside is you, and files that root makes belong to you";

pub const RUN: &[PeerOption] = &[
    // What docker would keep beside a container.
    value("label", Fine(GONE)).short('l'),
    value("label-file", Fine(GONE)),
    value("annotation", Fine(GONE)),
    value(
        "restart",
        Only(
            &["no", ""],
            "a container ends with its command: let systemd start it again, or a loop of the shell",
        ),
    ),
    value("runtime", Fine("no OCI runtime is used: crossdock sets up the sandbox itself")),
    value("stop-signal", Fine(STOP)),
    value("stop-timeout", Fine(STOP)),
    switch(
        "sig-proxy",
        Only(&["true"], "signals are always passed on: start it with setsid to keep a terminal's away"),
    ),
    value("detach-keys", Fine("nobody can detach from a container: it ends with its command")),
    value(
        "attach",
        Only(
            &["stdin", "stdout", "stderr", "STDIN", "STDOUT", "STDERR"],
            "it is stdin, stdout or stderr; standard input needs --interactive",
        ),
    )
    .short('a'),
    value("log-driver", Only(&["none", "local", "json-file", "passthrough", "k8s-file"], LOG)),
    value("log-opt", Fine(LOG)),
    value("health-cmd", Fine(HEALTH)),
    value("health-interval", Fine(HEALTH)),
    value("health-retries", Fine(HEALTH)),
    value("health-start-interval", Fine(HEALTH)),
    value("health-start-period", Fine(HEALTH)),
    value("health-timeout", Fine(HEALTH)),
    switch("no-healthcheck", Fine(HEALTH)),
    switch("disable-content-trust", Fine("names are never resolved by Notary")),
    value(
        "storage-opt",
        Warning(
            "a container's files may grow as far as the disk: put the store on a file system of its own with --root DIR",
        ),
    ),
    // Limits.
    value(
        "cgroup-parent",
        Warning(
            "the container's group is below that of this command: start it in the right one, for example with systemd-run --slice",
        ),
    ),
    value("cgroupns", Only(&["private", "host", ""], "it is private or host")),
    value("blkio-weight", Warning(RATES)),
    value("blkio-weight-device", Warning(RATES)),
    value("device-read-bps", Warning(RATES)),
    value("device-read-iops", Warning(RATES)),
    value("device-write-bps", Warning(RATES)),
    value("device-write-iops", Warning(RATES)),
    value("cpu-rt-period", Warning(REAL_TIME)),
    value("cpu-rt-runtime", Warning(REAL_TIME)),
    value("kernel-memory", Warning("Linux limits no kernel memory any more: --memory counts it, too")),
    value(
        "memory-swappiness",
        Warning("Linux has one swappiness for all groups: see vm.swappiness of this machine"),
    ),
    switch(
        "oom-kill-disable",
        Warning("Linux always ends a group that needs more than its memory: give it more with --memory"),
    ),
    value("oom-score-adj", Warning("start the command with choom -n N: what it starts has the same score")),
    // Devices.
    value(
        "gpus",
        Refusal(
            "name the devices: --device nvidia.com/gpu=all, if CDI describes them here, or --device /dev/dri",
        ),
    ),
    value(
        "device-cgroup-rule",
        Warning(
            "devices that appear later are not in the container: name those that are there with --device",
        ),
    ),
    // Namespaces.
    value(
        "ipc",
        Only(&["private", "none", "shareable", ""], "the IPC namespace is always the container's own"),
    ),
    value(
        "pid",
        Only(
            &["private", ""],
            "the PID namespace is always the container's own: start a debugger with \"crossdock unshare\"",
        ),
    ),
    value(
        "uts",
        Only(
            &["private", ""],
            "the UTS namespace is always the container's own: give it a name with --hostname",
        ),
    ),
    value("userns", Only(&["", "auto", "host", "private"], USERS)),
    value("isolation", Only(&["", "default"], WINDOWS)),
    // Networks.
    value(
        "domainname",
        Warning("only a host name is set: give the whole name with --hostname, or --dns-search"),
    ),
    value("expose", Fine("with --network host every port is reachable, in a private network none")),
    switch(
        "publish-all",
        Warning(
            "with --network host every port is reachable under its own number, in a private network none",
        ),
    )
    .short('P'),
    value("ip", Warning(ADDRESS)),
    value("ip6", Warning(ADDRESS)),
    value("link-local-ip", Warning(ADDRESS)),
    value("mac-address", Warning(ADDRESS)),
    value("link", Refusal(LINKS)),
    value("network-alias", Warning(LINKS)),
    // Volumes.
    value(
        "volume-driver",
        Only(
            &["local", ""],
            "volumes are directories of the store: mount other file systems yourself, and bind them with --volume DIR:TARGET",
        ),
    ),
    value(
        "volumes-from",
        Refusal(
            "containers do not outlive their command: give both the same volume by its name, --volume NAME:TARGET",
        ),
    ),
    switch(
        "use-api-socket",
        Refusal(
            "there is no daemon whose socket could be mounted: bind docker's with --volume /var/run/docker.sock:/var/run/docker.sock",
        ),
    ),
    // Windows.
    value("cpu-count", Refusal(WINDOWS)),
    value("cpu-percent", Refusal(WINDOWS)),
    value("io-maxbandwidth", Refusal(WINDOWS)),
    value("io-maxiops", Refusal(WINDOWS)),
    // Podman.
    switch("replace", Fine("containers have no names that could be taken")),
    value("pod", Refusal("there are no pods: crossdock starts one container at a time")),
    value(
        "systemd",
        Only(
            &["false", "true"],
            "an init system needs a container engine that runs as a service: take podman",
        ),
    ),
    value(
        "sdnotify",
        Only(
            &["ignore", "container"],
            "readiness is what the command itself tells: pass NOTIFY_SOCKET with --env and its directory with --volume",
        ),
    ),
    switch(
        "http-proxy",
        Only(
            &["true"],
            "the proxies of docker's config.json are set: give an empty one with --env http_proxy=",
        ),
    ),
    value(
        "cgroups",
        Only(&["enabled", "no-conmon", "disabled"], "a container has a group of its own only with limits"),
    ),
    value(
        "secret",
        Refusal("there is no store of secrets: bind the file with --volume FILE:/run/secrets/NAME:ro"),
    ),
    value("uidmap", Refusal(USERS)),
    value("gidmap", Refusal(USERS)),
    value("subuidname", Refusal(USERS)),
    value("subgidname", Refusal(USERS)),
];
