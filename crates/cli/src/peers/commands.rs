//! Commands of docker, buildx, podman, buildah and skopeo that do not exist here, and what to do instead.

const ENDS: &str =
    "a container ends with its \"crossdock run\": there are none to list, stop or enter afterwards";
const LOGS: &str =
    "output of a container goes to where \"crossdock run\" writes it: let the shell keep it, with > FILE";
const COMMIT: &str =
    "a container leaves nothing behind: write the change as RUN in a Dockerfile, and build it";
const SWARM: &str =
    "crossdock starts no services: push the image, and let docker, podman or Kubernetes run it";
const NETWORKS: &str =
    "there are no named networks: \"crossdock run\" and \"build\" have --network host, private and none";
const CONTEXTS: &str =
    "there is no daemon to choose: crossdock works on this machine, in the store of --root";
const COMPOSE: &str = "crossdock starts no services: build and push their images here, and let docker compose or podman-compose run them";
const SIGN: &str = "crossdock makes no signatures: sign and verify images with cosign";
const WORKING: &str = "there are no working containers: write the steps as a Dockerfile, and build it";

/// Commands, with all words that name them, and the sentences.
pub const COMMANDS: &[(&str, &str)] = &[
    ("ps", ENDS),
    ("exec", "start the program with \"crossdock run\": nobody can enter a container that runs already"),
    ("stop", ENDS),
    ("start", ENDS),
    ("restart", ENDS),
    ("rm", "a container is removed when its command ends: remove images with \"crossdock rmi\""),
    ("kill", "send the signal to the process of \"crossdock run\", which passes it on"),
    ("attach", ENDS),
    ("wait", ENDS),
    ("pause", ENDS),
    ("unpause", ENDS),
    ("create", "run it at once with \"crossdock run\": a container that waits is not kept"),
    ("init", ENDS),
    ("rename", ENDS),
    ("update", ENDS),
    ("port", ENDS),
    ("top", "processes of a container are processes of this machine: ps shows them below \"crossdock run\""),
    (
        "stats",
        "processes of a container are processes of this machine: top shows them below \"crossdock run\"",
    ),
    ("logs", LOGS),
    ("events", LOGS),
    ("commit", COMMIT),
    ("cp", "copy files of an image with a build: COPY --from=IMAGE in a Dockerfile, and --output DIR"),
    (
        "export",
        "write the files of an image with a build: FROM IMAGE in a Dockerfile, and --output type=tar,dest=FILE",
    ),
    ("search", "no registry is searched: \"crossdock list-tags NAME\" shows the tags of a name"),
    ("mount", "write the files to a directory with a build: FROM IMAGE in a Dockerfile, and --output DIR"),
    ("unmount", "write the files to a directory with a build: FROM IMAGE in a Dockerfile, and --output DIR"),
    ("umount", "write the files to a directory with a build: FROM IMAGE in a Dockerfile, and --output DIR"),
    ("network", NETWORKS),
    ("volume update", "labels of a volume do not change: make another volume, and copy the files"),
    ("volume reload", "volumes are directories of the store, without drivers"),
    ("volume mount", "the files are at \"crossdock volume inspect -f '{{.Mountpoint}}' NAME\""),
    (
        "volume export",
        "pack the directory with tar: \"crossdock volume inspect -f '{{.Mountpoint}}' NAME\" names it",
    ),
    (
        "volume import",
        "unpack the archive in a container: crossdock run -i -v NAME:/v IMAGE tar -xC /v < FILE",
    ),
    ("context", CONTEXTS),
    ("machine", CONTEXTS),
    ("farm", CONTEXTS),
    ("plugin", "there are no plugins: credential helpers of docker are used as they are"),
    ("checkpoint", ENDS),
    ("trust", SIGN),
    ("sbom", "crossdock lists packages while it builds: build with --sbom=true"),
    (
        "scout",
        "crossdock does not look for vulnerabilities: give a scanner the list of packages of build --sbom=true",
    ),
    ("compose", COMPOSE),
    ("swarm", SWARM),
    ("service", SWARM),
    ("stack", SWARM),
    ("node", SWARM),
    ("pod", SWARM),
    ("kube", SWARM),
    ("play", SWARM),
    ("quadlet", SWARM),
    ("generate", SWARM),
    ("auto-update", SWARM),
    ("healthcheck", SWARM),
    ("secret", "secrets are given to a build, from a file or a variable: --secret id=ID,src=FILE"),
    ("config", "credentials are in docker's config.json and podman's auth.json: see \"crossdock login\""),
    ("artifact", "only images are moved: push and pull other artifacts with oras"),
    ("from", WORKING),
    ("add", WORKING),
    ("copy-from", WORKING),
    ("containers", ENDS),
    ("generate-sigstore-key", SIGN),
    ("standalone-sign", SIGN),
    ("standalone-verify", SIGN),
    ("experimental-image-proxy", "images are read with \"crossdock copy\" and \"crossdock inspect\""),
    ("image search", "no registry is searched: \"crossdock list-tags NAME\" shows the tags of a name"),
    (
        "image mount",
        "write the files to a directory with a build: FROM IMAGE in a Dockerfile, and --output DIR",
    ),
    (
        "image unmount",
        "write the files to a directory with a build: FROM IMAGE in a Dockerfile, and --output DIR",
    ),
    (
        "image scp",
        "bring images to another machine with \"crossdock save\" and \"load\", or through a registry",
    ),
    ("image sign", SIGN),
    ("image trust", SIGN),
    ("image diff", "\"crossdock diff A B\" compares two images"),
    ("image tree", "\"crossdock inspect --tree NAME\" shows index, platforms and layers"),
    ("container", ENDS),
    ("builder", "its commands are build, prune and du"),
    (
        "image",
        "its commands are build, exists, history, import, inspect, load, ls, prune, pull, push, rm, save, tag and untag",
    ),
    ("buildx history", "\"crossdock report ls\" lists recent builds, and \"crossdock report ID\" shows one"),
    (
        "buildx debug",
        "there is no debugger: run the state before a failed step with --target STAGE and \"crossdock run\"",
    ),
    (
        "buildx dap",
        "there is no debugger: run the state before a failed step with --target STAGE and \"crossdock run\"",
    ),
    (
        "buildx dial-stdio",
        "there is no BuildKit to connect to: \"crossdock build\" builds in its own process",
    ),
    ("buildx install", "nothing needs to be installed: \"crossdock build\" has the options of buildx"),
    ("buildx uninstall", "nothing needs to be removed: \"crossdock build\" has the options of buildx"),
    ("system connection", CONTEXTS),
    ("system service", CONTEXTS),
    ("system events", LOGS),
    ("system dial-stdio", CONTEXTS),
    ("system migrate", "the store needs no migration"),
    ("system renumber", "containers leave no locks"),
    (
        "system reset",
        "remove everything with \"crossdock system prune --all\" and \"crossdock rmi\", or the directory of --root",
    ),
    (
        "system check",
        "everything is verified when it is read: a damaged image is named, and what to do about it",
    ),
];

/// The sentence for a command that does not exist here, by the words that were typed; the longest name
/// counts.
pub fn answer_to(words: &[&str]) -> Option<(&'static str, &'static str)> {
    let named = |length: usize| {
        let name = words.get(..length)?.join(" ");
        COMMANDS.iter().find(|(command, _)| *command == name).copied()
    };
    named(2).or_else(|| named(1))
}
