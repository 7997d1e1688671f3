//! Options of docker's and podman's commands about images, other than build and run.

use super::option::Answer::{Fine, Only, Refusal};
use super::option::{PeerOption, switch, value};

const TRUST: &str = "names are never resolved by Notary";
const TAGS: &str = "name each tag: \"crossdock list-tags NAME\" shows them, and \"crossdock copy\" copies them to another registry";
const ARTIFACT: &str = "only images are added: push the artifact with oras, and add it by its digest with \"crossdock copy --append\"";

pub const PULL: &[PeerOption] = &[
    switch("all-tags", Refusal(TAGS)).short('a'),
    switch("disable-content-trust", Fine(TRUST)),
    value(
        "policy",
        Only(
            &["always", "newer"],
            "pull always asks the registry: \"crossdock run --pull missing\" and builds fetch only what is not here",
        ),
    ),
];

pub const PUSH: &[PeerOption] = &[
    switch("disable-content-trust", Fine(TRUST)),
    switch("remove-signatures", Fine("push sends no signatures")),
    switch("compress", Fine("this is for directories: see \"crossdock save --format docker-dir\"")),
];

pub const INSPECT: &[PeerOption] = &[
    switch("size", Fine("the size is always shown")).short('s'),
    switch("latest", Refusal("containers leave nothing that could be inspected: name an image")).short('l'),
];

pub const LOGIN: &[PeerOption] = &[
    switch("verbose", Fine("the file that keeps the credentials is always named")).short('v'),
    value("secret", Refusal("read the password from standard input: --password-stdin < FILE")),
];

pub const LOGOUT: &[PeerOption] = &[];

pub const SAVE: &[PeerOption] = &[
    switch("quiet", Fine("save prints nothing")).short('q'),
    switch("multi-image-archive", Fine("further arguments are always images")).short('m'),
    switch("uncompressed", Fine("layers of an OCI layout are kept as they are")),
];

pub const REMOVE: &[PeerOption] =
    &[switch("ignore", Refusal("give --force: then an image that is not there is no error")).short('i')];

pub const PRUNE: &[PeerOption] = &[
    switch("build-cache", Refusal("the build cache has a command of its own: crossdock builder prune")),
    switch("external", Fine("containers of other programs are not in the store")),
];

pub const LOAD: &[PeerOption] = &[];

pub const IMPORT: &[PeerOption] = &[
    value("message", Fine("the history of the image names the archive")).short('m'),
    switch("quiet", Fine("import prints only the id of the image")).short('q'),
];

pub const IMAGES: &[PeerOption] = &[
    switch(
        "tree",
        Refusal("images are listed by platform; \"crossdock manifest inspect NAME\" shows an index"),
    ),
    value("sort", Refusal("the list is by name: sort it with sort(1), for example by a column of --format")),
    switch("history", Refusal("earlier names of an image are not kept")),
    switch("noheading", Refusal("a template has no heading: --format '{{.Repository}}:{{.Tag}}'")).short('n'),
];

pub const HISTORY: &[PeerOption] = &[switch(
    "human",
    Only(&["true"], "sizes and ages are for people: choose other members with --format json"),
)
.short('H')];

pub const MANIFEST: &[PeerOption] = &[switch("insecure-skip-verify", Fine("see --tls-verify=false"))];

pub const MANIFEST_ADD: &[PeerOption] = &[
    switch("artifact", Refusal(ARTIFACT)),
    value("artifact-config", Refusal(ARTIFACT)),
    value("artifact-config-type", Refusal(ARTIFACT)),
    switch("artifact-exclude-titles", Refusal(ARTIFACT)),
    value("artifact-layer-type", Refusal(ARTIFACT)),
    value("artifact-subject", Refusal(ARTIFACT)),
    value("artifact-type", Refusal(ARTIFACT)),
    value("features", Refusal("this member of Docker's lists is not written: see --os-features")),
];

pub const MANIFEST_PUSH: &[PeerOption] = &[
    value("format", Only(&["oci"], "media types are chosen when images are built: see --format of build, and of \"crossdock push\" for one image")).short('f'),
    value("add-compression", Refusal("an index has one image per platform: make the others with \"crossdock copy --dest-compress-format\" and push them under tags of their own")),
    value("compression-format", Refusal("images of an index are sent as they are: build or copy them with the wanted compression")),
    value("compression-level", Refusal("images of an index are sent as they are: build or copy them with the wanted compression")),
    switch("force-compression", Refusal("images of an index are sent as they are: build or copy them with the wanted compression")),
    switch("quiet", Fine("only transfers are shown, on standard error")).short('q'),
    switch("remove-signatures", Fine("push sends no signatures")),
];
