//! Options that only podman's run has (podman-run(1)).

use super::option::Answer::{Fine, Only, Refusal};
use super::option::{PeerOption, switch, value};

const USERS: &str = "users are those of the image's /etc/passwd and /etc/group: add one with RUN in a build, or give numbers with --user";
const FILES: &str =
    "a container has files of its own for these names in /etc, which are not part of the image";
const PROCESS: &str =
    "there is no conmon: the process is that of crossdock run itself, and $! of the shell has its number";
const HEALTH: &str = "nobody asks for the container's health: the command's exit code tells";
const DESCRIPTORS: &str =
    "a container gets standard input, output and error: give it a file with --volume FILE:TARGET";
const PODS: &str = "there are no pods and no other containers: \"crossdock run\" runs one command";
const VARIABLES: &str = "let env(1) remove it in the container, before the command: env -u NAME COMMAND";

pub const RUN: &[PeerOption] = &[
    value(
        "cgroup-conf",
        Refusal(
            "limits of the cgroup are --memory, --cpus, --pids-limit and their like: set others with systemd-run --scope -p",
        ),
    ),
    value("chrootdirs", Refusal(FILES)),
    value("hosts-file", Refusal("lines of /etc/hosts are given with --add-host NAME:IP")),
    switch("no-hosts", Refusal(FILES)),
    switch("no-hostname", Refusal(FILES)),
    value("conmon-pidfile", Refusal(PROCESS)),
    value("pidfile", Refusal(PROCESS)),
    value(
        "decryption-key",
        Refusal("encrypted layers cannot be read: decrypt the image with skopeo copy first"),
    ),
    switch(
        "env-host",
        Refusal(
            "name the variables: --env NAME takes the value from here, and --env-file <(env) all of them",
        ),
    ),
    value("env-merge", Refusal("write the whole value: --env NAME=VALUE")),
    value("unsetenv", Refusal(VARIABLES)),
    switch(
        "unsetenv-all",
        Refusal("let env(1) remove them in the container, before the command: env -i COMMAND"),
    ),
    value("tz", Refusal("give the zone as a variable, if the image has the data: --env TZ=Europe/Berlin")),
    value("umask", Refusal("set it in the container, before the command: sh -c 'umask 027; exec COMMAND'")),
    value("personality", Refusal("set it in the container, before the command: setarch i686 COMMAND")),
    value("timeout", Refusal("let timeout(1) end the command: timeout 60 crossdock run ...")),
    value("group-entry", Refusal(USERS)),
    value("passwd-entry", Refusal(USERS)),
    value("hostuser", Refusal(USERS)),
    switch("passwd", Only(&["false"], USERS)),
    value("health-log-destination", Fine(HEALTH)),
    value("health-max-log-count", Fine(HEALTH)),
    value("health-max-log-size", Fine(HEALTH)),
    value("health-on-failure", Fine(HEALTH)),
    value("health-startup-cmd", Fine(HEALTH)),
    value("health-startup-interval", Fine(HEALTH)),
    value("health-startup-retries", Fine(HEALTH)),
    value("health-startup-success", Fine(HEALTH)),
    value("health-startup-timeout", Fine(HEALTH)),
    value(
        "image-volume",
        Only(
            &["", "anonymous", "bind"],
            "a VOLUME of the image is a directory of its own: mount something else there with --volume or --tmpfs",
        ),
    ),
    value("init-path", Fine("the init is crossdock's own")),
    value("pod-id-file", Refusal(PODS)),
    value("requires", Refusal(PODS)),
    value("preserve-fd", Refusal(DESCRIPTORS)),
    value("preserve-fds", Only(&["0"], DESCRIPTORS)),
    value(
        "rdt-class",
        Refusal("no class of the cache is set: write the process into one below /sys/fs/resctrl"),
    ),
    switch(
        "read-only-tmpfs",
        Only(&["false"], "say which directories can be written: --tmpfs /run --tmpfs /tmp"),
    ),
    value("retry-delay", Fine("the delay grows from try to try, and is longer if the registry asks for it")),
    switch("rmi", Refusal("remove the image afterwards: crossdock rmi IMAGE")),
    switch(
        "rootfs",
        Refusal(
            "make an image of the directory: crossdock build with FROM scratch and COPY DIR / in a Dockerfile",
        ),
    ),
    value(
        "seccomp-policy",
        Only(
            &["", "default"],
            "the profile is crossdock's own, or none with --security-opt seccomp=unconfined",
        ),
    ),
    value("shm-size-systemd", Refusal("give the directory a size: --tmpfs /run:size=64m")),
];
