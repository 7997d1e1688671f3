//! What all steps of a build have in common, whatever they come from.

use std::net::IpAddr;
use std::sync::Arc;

use crossdock_platform::Platform;

use crate::devices::{Device, Devices};

/// Options of a build that do not depend on where its steps come from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The platforms that the result is wanted for; at least one.
    pub platforms: Vec<Platform>,
    /// Execute every step, even known ones.
    pub no_cache: bool,
    /// Default network of commands. If it is not the host's, a step may have the host's only with
    /// `allow_network_host`.
    pub network: crossdock_sandbox::Network,
    /// `--add-host`.
    pub add_hosts: Vec<(String, IpAddr)>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`.
    pub limits: Vec<crossdock_sandbox::Limit>,
    /// What else commands get.
    pub steps: StepOptions,
    /// The host name that commands see; `None` for the usual one.
    pub hostname: Option<String>,
    /// `--allow security.insecure`.
    pub allow_insecure: bool,
    /// Devices that commands may ask for, and `--allow device`.
    pub devices: Arc<Devices>,
    /// `--allow network.host`.
    pub allow_network_host: bool,
    /// Steps that may execute at once.
    pub jobs: usize,
    /// `SOURCE_DATE_EPOCH`: seconds since 1970 for all times in the image.
    pub source_date_epoch: Option<i64>,
    /// Whether somebody will read the files of the result: a directory as output, a scanner, a container.
    /// Otherwise the last layers need not be unpacked; they are when somebody reads them all the same.
    pub needs_trees: bool,
    /// Whether somebody will read the images of the result: their archives are then packed while the build
    /// goes on. Otherwise a layer is packed when somebody needs it.
    pub needs_images: bool,
    /// Whether somebody will read the list of all steps with their layers: a cache that is exported with
    /// those of all stages, a provenance. Otherwise layers that only other machines have and layers without
    /// an archive are left out, if no image has them.
    pub needs_steps: bool,
}

impl Settings {
    /// The defaults of the command line, for one platform.
    pub fn for_platform(platform: Platform) -> Settings {
        Settings {
            platforms: vec![platform],
            no_cache: false,
            network: crossdock_sandbox::Network::Host,
            add_hosts: Vec::new(),
            shm_size: None,
            limits: Vec::new(),
            steps: StepOptions::default(),
            hostname: None,
            allow_insecure: false,
            devices: Arc::default(),
            allow_network_host: false,
            jobs: 1,
            source_date_epoch: None,
            needs_trees: true,
            needs_images: true,
            needs_steps: true,
        }
    }

    /// Whether commands have no network unless they say otherwise.
    pub fn is_offline(&self) -> bool {
        self.network == crossdock_sandbox::Network::None
    }
}

/// What commands get beyond the usual, from the command line.
#[derive(Clone, Debug)]
pub struct StepOptions {
    /// Text of `/etc/resolv.conf`; `None` takes the host's.
    pub resolv_conf: Option<String>,
    /// Limits of steps that are not insecure.
    pub security: crossdock_sandbox::Security,
    /// More groups of the step's user, by name or number.
    pub groups: Vec<String>,
    /// Devices of the host by name.
    pub devices: Vec<Device>,
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
            devices: Vec::new(),
            mounts: Vec::new(),
            key: Vec::new(),
        }
    }
}
