//! What to build.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crossdock_dockerfile::ignore::Ignore;
use crossdock_oci::{Descriptor, Reference};
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
    /// What else RUN steps get.
    pub steps: StepOptions,
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
            no_cache: false,
            no_cache_filter: Vec::new(),
            pull: false,
            network: crossdock_sandbox::Network::Host,
            add_hosts: Vec::new(),
            shm_size: None,
            limits: Vec::new(),
            steps: StepOptions::default(),
            allow_insecure: false,
            allow_network_host: false,
            jobs: 1,
            source_date_epoch: None,
        }
    }
}

/// What RUN steps get beyond the usual, from the command line.
#[derive(Clone, Debug)]
pub struct StepOptions {
    /// Text of `/etc/resolv.conf`; `None` takes the host's.
    pub resolv_conf: Option<String>,
    /// Limits of steps that are not insecure.
    pub security: crossdock_sandbox::Security,
    /// More groups of the step's user, by name or number.
    pub groups: Vec<String>,
    /// Directories and devices of the host.
    pub mounts: Vec<crossdock_sandbox::Mount>,
    /// What of this enters the digests of steps; empty if nothing is given.
    pub key: Vec<String>,
}

impl Default for StepOptions {
    fn default() -> StepOptions {
        StepOptions {
            resolv_conf: None,
            security: crossdock_sandbox::Security::SANDBOX,
            groups: Vec::new(),
            mounts: Vec::new(),
            key: Vec::new(),
        }
    }
}

/// What a `--build-context` name stands for.
#[derive(Clone, Debug, PartialEq)]
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
    /// Images in the store, one for each platform: the result of another build.
    Images(Vec<(Platform, Descriptor)>),
    /// A stage of this Dockerfile: `target:NAME`.
    Stage(String),
}
