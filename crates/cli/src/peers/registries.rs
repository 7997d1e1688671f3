//! Options of skopeo and podman for copies between places (skopeo-copy(1), skopeo-sync(1), podman-push(1)).

use super::option::Answer::{Fine, Refusal};
use super::option::{PeerOption, switch, value};

const SIGN: &str = "crossdock makes no signatures: sign the copy with cosign";
const ENCRYPT: &str = "layers are neither encrypted nor decrypted: do that with skopeo copy";
const TOKEN: &str = "tokens of a registry are fetched for each repository: give a user and a password or access token as creds";
const DELAY: &str = "the delay grows from try to try, and is longer if the registry asks for it";
const SHARED: &str = "each layout has its own blobs: give a directory with its own blobs/";

/// Of every command that sends images.
pub const SIGNED: &[PeerOption] = &[
    value("sign-by", Refusal(SIGN)),
    value("sign-by-sigstore", Refusal(SIGN)),
    value("sign-by-sigstore-private-key", Refusal(SIGN)),
    value("sign-by-sq-fingerprint", Refusal(SIGN)),
    value("sign-identity", Refusal(SIGN)),
    value("sign-passphrase-file", Refusal(SIGN)),
    value("encrypt-layer", Refusal(ENCRYPT)),
    value("encryption-key", Refusal(ENCRYPT)),
    value("retry-delay", Fine(DELAY)),
];

pub const PULLED: &[PeerOption] =
    &[value("decryption-key", Refusal(ENCRYPT)), value("retry-delay", Fine(DELAY))];

pub const COPIED: &[PeerOption] = &[
    value("decryption-key", Refusal(ENCRYPT)),
    value("src-registry-token", Refusal(TOKEN)),
    value("dest-registry-token", Refusal(TOKEN)),
    value("src-shared-blob-dir", Refusal(SHARED)),
    value("dest-shared-blob-dir", Refusal(SHARED)),
    switch("dest-precompute-digests", Fine("the registry is always asked first which layers it has")),
    switch("dest-oci-accept-uncompressed-layers", Fine("layers are copied as they are")),
    switch("prefer-index", Fine("an index stays an index, and an image an image")),
];

pub const SYNCED: &[PeerOption] =
    &[value("src-registry-token", Refusal(TOKEN)), value("dest-registry-token", Refusal(TOKEN))];

/// Of every command that only reads a registry.
pub const RETRIED: &[PeerOption] = &[
    value("retry-delay", Fine(DELAY)),
    value("registry-token", Refusal(TOKEN)),
    value("shared-blob-dir", Refusal(SHARED)),
];

pub const DELETED: &[PeerOption] = &[value(
    "daemon-host",
    Refusal("only images of registries are deleted: remove one of docker with \"docker rmi\""),
)];
