//! What every command needs: the store, registries and the user namespace.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, bail};
use crossdock_oci::Store;
use crossdock_oci::layer::UnpackLimit;
use crossdock_oci::store::{Owners, Warnings};
use crossdock_platform::Platform;
use crossdock_registry::credentials::container_proxies;
use crossdock_registry::{Client, ClientOptions, Environment, Progress};
use crossdock_sandbox::userns::{self, EnterOptions};

use crate::access::Access;
use crate::output::say;
use crate::values;

#[derive(clap::Args)]
pub struct Global {
    /// Directory of the store [default: $XDG_DATA_HOME/crossdock or ~/.local/share/crossdock]
    #[arg(long, global = true, value_name = "DIR", env = "CROSSDOCK_ROOT", hide_env_values = true)]
    pub root: Option<PathBuf>,
    /// Registries that may be reached by plain http or without a verified certificate (HOST[:PORT]; alone:
    /// all)
    #[arg(long, global = true, value_name = "HOST", num_args = 0..=1, default_missing_value = "*", require_equals = true)]
    pub insecure: Vec<String>,
    /// What layers and archives may unpack to in all [default: 1 GiB and 100 times their size, at most 1 TiB]
    #[arg(long, global = true, value_name = "SIZE", env = "CROSSDOCK_UNPACK_MAX", hide_env_values = true)]
    pub unpack_max: Option<String>,
    /// Directory of docker's configuration, with the credentials [default: $DOCKER_CONFIG or ~/.docker]
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Operating system to choose images for, instead of this machine's
    #[arg(long, value_name = "OS", hide = true)]
    pub override_os: Option<String>,
    /// Architecture to choose images for, instead of this machine's
    #[arg(long, value_name = "ARCH", hide = true)]
    pub override_arch: Option<String>,
    /// Variant to choose images for, instead of this machine's
    #[arg(long, value_name = "VARIANT", hide = true)]
    pub override_variant: Option<String>,
}

/// What must be set up before a command runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: the command only reads blobs and talks to registries.
    Nothing,
    /// A user and mount namespace of its own: the command starts other commands, or stacks layers.
    Namespace,
    /// The same, or a mount namespace alone where that is all there is and this is root.
    NamespaceOrMounts,
    /// A namespace if the machine allows one: the command touches unpacked layers, and can mostly do without.
    NamespaceIfAllowed,
}

/// The surroundings of one command.
pub struct Session {
    root: PathBuf,
    insecure: Vec<String>,
    /// Only one user id exists in the namespace.
    single_id: bool,
    /// Why there is only one id.
    note: Option<String>,
    unpack_limit: UnpackLimit,
    /// Warnings of the stores that were opened.
    warnings: Mutex<Vec<Warnings>>,
    /// `--config`.
    config: Option<PathBuf>,
    /// `--override-os`, `--override-arch` and `--override-variant`.
    platform: Option<Platform>,
    /// How registries are reached, and how often requests are repeated.
    access: OnceLock<(Vec<Access>, Option<u32>)>,
}

impl Session {
    /// Enters the namespaces. Call it while there is only one thread.
    pub fn start(global: &Global, needs: Needs) -> Result<Session> {
        // The umask must not change what ends up in images.
        rustix::process::umask(rustix::fs::Mode::from(0o022));
        let mut session = Session {
            root: match &global.root {
                Some(root) => {
                    std::path::absolute(root).with_context(|| format!("--root {}", root.display()))?
                }
                None => default_root()?,
            },
            insecure: global.insecure.clone(),
            single_id: false,
            note: None,
            unpack_limit: unpack_limit(global.unpack_max.as_deref())?,
            warnings: Mutex::default(),
            config: global.config.clone(),
            platform: values::composed(
                global.override_os.as_deref(),
                global.override_arch.as_deref(),
                global.override_variant.as_deref(),
            )?,
            access: OnceLock::new(),
        };
        if needs != Needs::Nothing {
            let single_id = std::env::var_os("CROSSDOCK_SINGLE_ID").is_some_and(|v| v == "1");
            match userns::enter(&EnterOptions { single_id }) {
                Ok(entered) => {
                    session.single_id = entered.mapping.is_single();
                    session.note = entered.note;
                }
                Err(error) if needs == Needs::NamespaceIfAllowed && userns::go_without(&error) => {
                    // A process that may change owners needs no namespace for that.
                    session.single_id = !may_change_owners();
                    session.note = Some(error.to_string());
                }
                Err(error) if needs == Needs::NamespaceOrMounts => {
                    session.note = userns::enter_mounts(error)?.note;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(session)
    }

    /// The directory of the store.
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    /// Opens the store.
    pub fn store(&self) -> Result<Store> {
        let store = Store::open(&self.root)?;
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(store.warnings());
        let store = store.with_unpack_limit(self.unpack_limit.clone());
        Ok(store.with_owners(if self.single_id { Owners::Ignore } else { Owners::Keep }))
    }

    /// Reports what the command has repaired in the store.
    pub fn tell_warnings(&self) {
        let stores = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().flat_map(Warnings::take).for_each(|warning| say(&format!("warning: {warning}")));
    }

    /// Whether only one user id exists in the namespace.
    pub fn single_id(&self) -> bool {
        self.single_id
    }

    /// Why there is only one user id, and what to do about it.
    pub fn single_id_note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Warns if files cannot have other owners, and says why.
    pub fn warn_of_single_id(&self) {
        if let Some(note) = self.note.as_ref().filter(|_| self.single_id) {
            say(&format!(
                "warning: only one user id is available, so all files in images belong to root: {note}"
            ));
        }
    }

    /// Variables with the proxies of docker's `config.json`, for commands in builds and containers. If the
    /// file cannot be read, this warns and returns none.
    pub fn container_proxies(&self) -> Vec<(String, String)> {
        let environment = self.environment();
        container_proxies(&environment).unwrap_or_else(|error| {
            say(&format!("warning: no proxies for containers are known: {error}"));
            Vec::new()
        })
    }

    /// A client of registries that reports to `progress`.
    pub fn client(&self, progress: Arc<dyn Progress>) -> Result<Client> {
        self.client_at_once(progress, None)
    }

    /// The same; `parallel` is the number of blobs that are moved at the same time, if it is not the usual
    /// one.
    pub fn client_at_once(&self, progress: Arc<dyn Progress>, parallel: Option<usize>) -> Result<Client> {
        Ok(Client::new(self.client_options(progress, parallel)?))
    }

    /// What a client needs to know of this session.
    pub fn client_options(
        &self,
        progress: Arc<dyn Progress>,
        parallel: Option<usize>,
    ) -> Result<ClientOptions> {
        let mut options = ClientOptions::from_environment(&self.environment())?;
        options.insecure_all = self.insecure.iter().any(|host| host == "*");
        options.insecure = self.insecure.clone();
        options.progress = progress;
        if let Some((accesses, retries)) = self.access.get() {
            accesses.iter().for_each(|access| access.apply(&mut options));
            options.retries = retries.unwrap_or(options.retries);
        }
        options.max_parallel = parallel.unwrap_or(options.max_parallel).max(1);
        Ok(options)
    }

    /// Sets how registries are reached in this command, and how often a failed request is tried again. Only
    /// the first call counts.
    pub fn reach(&self, accesses: Vec<Access>, retries: Option<u32>) {
        let _ = self.access.set((accesses, retries));
    }

    /// The platform that skopeo's options before the command ask for.
    pub fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    fn environment(&self) -> Environment {
        let mut environment = Environment::from_vars(|name| std::env::var_os(name));
        if let Some(directory) = &self.config {
            environment.docker_config = Some(directory.clone());
            // Where docker was told to look comes before podman's files.
            environment.registry_auth_file = None;
        }
        environment
    }
}

/// Whether this process may give files to other owners (CAP_CHOWN).
fn may_change_owners() -> bool {
    let sets = rustix::thread::capabilities(None);
    sets.is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::CHOWN))
}

/// `--unpack-max`: a size, or `unlimited`.
fn unpack_limit(given: Option<&str>) -> Result<UnpackLimit> {
    match given {
        None | Some("") => Ok(UnpackLimit::default()),
        Some("unlimited") => Ok(UnpackLimit::bytes(u64::MAX)),
        Some(text) => {
            let size = crossdock_dockerfile::values::bytes(text);
            Ok(UnpackLimit::bytes(size.with_context(|| format!("--unpack-max {text}: not a size"))?))
        }
    }
}

fn default_root() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(data) = set("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Ok(data.join("crossdock"));
    }
    match set("HOME") {
        Some(home) => Ok(home.join(".local/share/crossdock")),
        None => bail!("neither HOME nor XDG_DATA_HOME is set: say where the store is with --root DIR"),
    }
}
