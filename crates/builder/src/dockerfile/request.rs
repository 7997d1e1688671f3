//! What to build from a Dockerfile.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crossdock_dockerfile::ignore::Ignore;
use crossdock_oci::{Descriptor, Reference};
use crossdock_platform::Platform;

use crate::solver::Settings;

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
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--no-cache-filter`: stages whose steps are always executed.
    pub no_cache_filter: Vec<String>,
    /// Ask the registry for base images even if they are in the store.
    pub pull: bool,
    /// What does not depend on the Dockerfile.
    pub settings: Settings,
}

impl BuildRequest {
    /// An empty request for one platform, with the defaults of the command line.
    pub fn for_platform(platform: Platform) -> BuildRequest {
        BuildRequest {
            dockerfile: Vec::new(),
            context: None,
            ignore: Ignore::default(),
            contexts: BTreeMap::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            no_cache_filter: Vec::new(),
            pull: false,
            settings: Settings::for_platform(platform),
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
