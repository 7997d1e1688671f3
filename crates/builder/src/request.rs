//! What to build.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crossdock_dockerfile::ignore::Ignore;
use crossdock_oci::Reference;
use crossdock_platform::Platform;

/// Everything that a build depends on, besides the store and the registries.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// Bytes of the Dockerfile.
    pub dockerfile: Vec<u8>,
    /// The build context; `None` if there is none, as with a Dockerfile on standard input alone.
    pub context: Option<PathBuf>,
    /// Rules of `.dockerignore`.
    pub ignore: Ignore,
    /// `--build-context`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--target`: a stage by name or number; the last one if absent.
    pub target: Option<String>,
    /// `--platform`; at least one.
    pub platforms: Vec<Platform>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// `--ssh`: sockets of agents, by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// Execute every step, even known ones.
    pub no_cache: bool,
    /// `--no-cache-filter`: stages whose steps are always executed.
    pub no_cache_filter: Vec<String>,
    /// Ask the registry for base images even if they are in the store.
    pub pull: bool,
    /// Default network of RUN steps. If it is not the host's, a step may have the host's only with
    /// `allow_network_host`.
    pub network: crossdock_sandbox::Network,
    /// `--add-host`.
    pub add_hosts: Vec<(String, IpAddr)>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`.
    pub limits: Vec<crossdock_sandbox::Limit>,
    /// `--allow security.insecure`.
    pub allow_insecure: bool,
    /// `--allow network.host`.
    pub allow_network_host: bool,
    /// Steps that may execute at once.
    pub jobs: usize,
    /// `SOURCE_DATE_EPOCH`: seconds since 1970 for all times in the image.
    pub source_date_epoch: Option<i64>,
}

impl BuildRequest {
    /// Whether RUN has no network unless the Dockerfile says otherwise.
    pub fn is_offline(&self) -> bool {
        self.network == crossdock_sandbox::Network::None
    }

    /// An empty request for one platform, with the defaults of the command line.
    pub fn for_platform(platform: Platform) -> BuildRequest {
        BuildRequest {
            dockerfile: Vec::new(),
            context: None,
            ignore: Ignore::default(),
            contexts: BTreeMap::new(),
            target: None,
            platforms: vec![platform],
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            pull: false,
            network: crossdock_sandbox::Network::Host,
            add_hosts: Vec::new(),
            shm_size: None,
            limits: Vec::new(),
            allow_insecure: false,
            allow_network_host: false,
            jobs: 1,
            source_date_epoch: None,
        }
    }
}

/// What a `--build-context` name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of the host.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Rules of the `.dockerignore` in it.
        ignore: Ignore,
    },
    /// An image: `docker-image://`.
    Image(Reference),
    /// An image in an OCI layout directory: `oci-layout://PATH[:TAG][@DIGEST]`.
    OciLayout {
        /// The directory.
        path: PathBuf,
        /// Tag or digest.
        name: Option<String>,
    },
    /// A stage of this Dockerfile: `target:NAME`.
    Stage(String),
}

/// A build secret; never shown.
#[derive(Clone)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
