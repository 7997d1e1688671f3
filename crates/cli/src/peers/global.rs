//! Options before the command: of docker (docker(1)), podman (podman(1)) and skopeo (skopeo(1)).

use super::option::Answer::{Fine, Only, Refusal};
use super::option::{PeerOption, switch, value};

const NO_DAEMON: &str = "crossdock has no daemon and runs everything itself: leave it out, and bring a finished image to another machine with \"crossdock push\" or \"crossdock save\"";
const NO_SERVICE: &str =
    "podman's service is not used: everything that it did happens in the crossdock process";

pub const GLOBAL: &[PeerOption] = &[
    value("host", Refusal(NO_DAEMON)).short('H'),
    value("context", Only(&["", "default"], NO_DAEMON)).short('c'),
    value("connection", Refusal(NO_DAEMON)),
    value("url", Refusal(NO_DAEMON)),
    value("identity", Refusal(NO_DAEMON)),
    value("ssh", Refusal(NO_DAEMON)),
    switch("remote", Refusal(NO_DAEMON)).short('r'),
    switch("tls", Refusal(NO_DAEMON)),
    switch("tlsverify", Refusal(NO_DAEMON)),
    value("tlscacert", Refusal(NO_DAEMON)),
    value("tlscert", Refusal(NO_DAEMON)),
    value("tlskey", Refusal(NO_DAEMON)),
    value("tls-ca", Refusal(NO_DAEMON)),
    value("tls-cert", Refusal(NO_DAEMON)),
    value("tls-key", Refusal(NO_DAEMON)),
    switch("debug", Fine("messages always say all that is known")).short('D'),
    value("log-level", Fine("messages always say all that is known")).short('l'),
    switch("syslog", Fine("there is no log besides what the command prints")),
    value("cgroup-manager", Fine(NO_SERVICE)),
    value("conmon", Fine(NO_SERVICE)),
    value("events-backend", Fine(NO_SERVICE)),
    value("network-cmd-path", Fine(NO_SERVICE)),
    value("runroot", Fine("nothing is kept outside the store of --root")),
    value("tmpdir", Fine("temporary files are in the store of --root, so that they can be renamed")),
    value("storage-driver", Fine("layers are always stacked by overlayfs")),
    value("storage-opt", Fine("layers are always stacked by overlayfs")),
    switch("transient-store", Fine("containers leave nothing in the store")),
    value("imagestore", Refusal("images and unpacked layers are in one store: say where with --root DIR")),
    value(
        "cdi-spec-dir",
        Refusal("set the variable CROSSDOCK_CDI_DIRS to the directories with descriptions"),
    ),
    value(
        "hooks-dir",
        Refusal("no OCI runtime is used, so there are no hooks: start the program before or after crossdock"),
    ),
    value("module", Refusal("containers.conf is not read: give the options themselves")),
    value("network-config-dir", Refusal("there are no named networks: see --network host, private and none")),
    value("out", Refusal("let the shell write it to a file: crossdock ... > FILE")),
    value("runtime", Fine("no OCI runtime is used: crossdock sets up the sandbox itself")),
    value("runtime-flag", Fine("no OCI runtime is used: crossdock sets up the sandbox itself")),
    value("volumepath", Refusal("volumes are kept in the store: say where with --root DIR")),
    value("command-timeout", Refusal("let timeout(1) end the command: timeout 60 crossdock ...")),
    switch("insecure-policy", Fine("signatures are copied but never demanded, so there is no policy")),
    value("policy", Refusal("signatures are not verified: verify them with cosign before the copy")),
    value(
        "registries.d",
        Refusal("signatures outside of registries are not used: those that a registry lists are copied"),
    ),
    value("user-agent", Fine("the user agent is always crossdock/VERSION")),
    value("user-agent-prefix", Fine("the user agent is always crossdock/VERSION")),
];
