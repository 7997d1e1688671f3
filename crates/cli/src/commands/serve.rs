//! serve: BuildKit's API for docker buildx and others; and its form on standard input and output.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use crossdock_builder::devices::Devices;
use crossdock_buildkit::{Desk, Listen, Login, Server, TlsFiles, dial_stdio, serve as serve_api};
use crossdock_oci::Store;
use crossdock_platform::Platform;
use crossdock_registry::credentials::Credential;
use crossdock_registry::{Client, Progress};
use crossdock_sandbox::Emulator;
use crossdock_sandbox::emulator::{self, Choice};

use super::described_devices;
use super::farm_options::FarmArgs;
use crate::builder;
use crate::output::{chain, say};
use crate::session::Session;
use crate::values;

#[derive(clap::Args)]
pub struct ServeArgs {
    /// Serve BuildKit's API, for docker buildx and others, at unix://PATH or tcp://HOST:PORT [default:
    /// $XDG_RUNTIME_DIR/crossdock.sock]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "", required = true)]
    pub buildkit: Option<String>,
    /// Certificate of the server, in PEM form; needed for an address that others reach
    #[arg(long, value_name = "FILE", requires = "tls_key", requires = "tls_client_ca")]
    pub tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Certificate of the authority that signs the certificates of clients
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    #[command(flatten)]
    pub builds: BuildsArgs,
}

/// How a server builds.
#[derive(clap::Args)]
pub struct BuildsArgs {
    /// What runs programs of other CPUs: auto, builtin, qemu or a path
    #[arg(long, value_name = "EMULATOR", default_value = "auto")]
    pub emulator: String,
    /// Steps of a build to execute at once [default: number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// A right that clients may not grant their builds: security.insecure, network.host or device; repeatable
    #[arg(long, value_name = "RIGHT", value_parser = ["security.insecure", "network.host", "device"])]
    pub deny_entitlement: Vec<String>,
    #[command(flatten)]
    pub farm: FarmArgs,
}

/// What programs for BuildKit call on another machine.
#[derive(Subcommand)]
pub enum BuildctlCommand {
    /// Serve BuildKit's API on standard input and output, for builders at ssh://HOST
    DialStdio {
        /// Where a server may listen already
        #[arg(long, value_name = "ADDRESS", env = "BUILDKIT_HOST")]
        addr: Option<String>,
        #[command(flatten)]
        builds: BuildsArgs,
    },
}

/// The server as the command line sets it up.
struct Counter {
    session: Arc<Session>,
    choice: Choice,
    jobs: usize,
    denied: Vec<String>,
    farm: Option<Arc<dyn crossdock_builder::Farm>>,
    platforms: Mutex<Option<(Instant, Vec<Platform>)>>,
}

/// How long the platforms that run here are believed to be the same. Clients ask several times in a build,
/// and each time a dozen executables would be opened.
const PLATFORMS_AGE: Duration = Duration::from_secs(10);

impl Desk for Counter {
    fn store(&self) -> Result<Store> {
        self.session.store()
    }

    fn client(&self, login: Option<Login>, progress: Arc<dyn Progress>) -> Result<Client> {
        let mut options = self.session.client_options(progress, None)?;
        if let Some(login) = login {
            options.credentials = options.credentials.asking(move |registry| {
                // The name under which Docker Hub is asked for.
                let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
                let found = login(host).map_err(|error| chain(&error))?;
                Ok(found.map(|(name, secret)| match name.as_str() {
                    "" => Credential::identity_token(&secret),
                    name => Credential::password(name, &secret),
                }))
            });
        }
        Ok(Client::new(options))
    }

    fn emulator(&self, platform: &Platform) -> Result<Emulator, String> {
        emulator::find(&platform.architecture, &self.choice).map_err(|error| error.to_string())
    }

    fn platforms(&self) -> Vec<Platform> {
        let mut known = self.platforms.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((found, platforms)) if found.elapsed() < PLATFORMS_AGE => platforms.clone(),
            _ => {
                let named = builder::platforms();
                let platforms: Vec<Platform> = named.iter().filter_map(|name| name.parse().ok()).collect();
                *known = Some((Instant::now(), platforms.clone()));
                platforms
            }
        }
    }

    fn devices(&self) -> Devices {
        described_devices::devices()
    }

    fn jobs(&self) -> usize {
        self.jobs
    }

    fn farm(&self) -> Option<&dyn crossdock_builder::Farm> {
        self.farm.as_deref()
    }

    fn denies(&self, entitlement: &str) -> bool {
        self.denied.iter().any(|denied| denied == entitlement)
    }
}

fn server(session: &Arc<Session>, args: &BuildsArgs) -> Result<Server> {
    let choice = values::emulator_choice(&args.emulator)?;
    let cpus = crossdock_oci::cpus;
    let counter = Counter {
        session: session.clone(),
        choice,
        jobs: args.jobs.unwrap_or_else(cpus),
        denied: args.deny_entitlement.clone(),
        farm: args.farm.farm()?,
        platforms: Mutex::default(),
    };
    Server::new(Arc::new(counter))
}

pub fn serve(session: &Arc<Session>, args: ServeArgs) -> Result<u8> {
    session.warn_of_single_id();
    let tls = match (args.tls_cert, args.tls_key, args.tls_client_ca) {
        (Some(certificate), Some(key), Some(ca)) => Some(TlsFiles { certificate, key, ca }),
        _ => None,
    };
    let address = args.buildkit.unwrap_or_default();
    let listen = match inherited(&tls)? {
        Some(listen) => listen,
        None => match Address::parse(&address)? {
            Address::Unix(_) if tls.is_some() => bail!("--tls-cert is for tcp://, {address} is a file"),
            Address::Unix(path) => Listen::Unix(path),
            Address::Tcp(address) => Listen::Tcp(address, tls),
        },
    };
    if let Listen::Unix(path) = &listen {
        let socket = path.clone();
        // A socket that stays is replaced by the next server.
        let _ = crossdock_sandbox::before_end_by_signal(move |_| drop(std::fs::remove_file(socket)));
    }
    let server = server(session, &args.builds)?;
    serve_api(&server, listen, |place| {
        say(&format!("serving BuildKit's API at {place}"));
        if place.starts_with("unix://") || place.starts_with("tcp://") {
            say(&format!("use it with: docker buildx create --use --driver remote {place}"));
        }
    })?;
    Ok(0)
}

pub fn buildctl(session: &Arc<Session>, command: BuildctlCommand) -> Result<u8> {
    let BuildctlCommand::DialStdio { addr, builds } = command;
    let socket = match addr.as_deref().map(Address::parse) {
        Some(Ok(Address::Unix(path))) => Some(path),
        Some(Ok(Address::Tcp(address))) => bail!("tcp://{address}: a client can reach it by itself"),
        Some(Err(error)) => return Err(error),
        None => default_socket().ok(),
    };
    dial_stdio(|| server(session, &builds), socket.as_deref())?;
    Ok(0)
}

enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Address {
    fn parse(text: &str) -> Result<Address> {
        if text.is_empty() {
            return Ok(Address::Unix(default_socket()?));
        }
        if let Some(path) = text.strip_prefix("unix://") {
            let path = std::path::absolute(Path::new(path)).with_context(|| text.to_string())?;
            return Ok(Address::Unix(path));
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            let found =
                address.to_socket_addrs().with_context(|| format!("{text}: the form is tcp://HOST:PORT"))?;
            let mut found = found.collect::<Vec<_>>().into_iter();
            return Ok(Address::Tcp(found.next().with_context(|| format!("{text}: no such host"))?));
        }
        bail!("--buildkit {text}: it is unix://PATH or tcp://HOST:PORT")
    }
}

/// The socket in the directory that only this user's programs reach.
fn default_socket() -> Result<PathBuf> {
    let directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match directory.filter(|directory| directory.is_absolute()) {
        Some(directory) => Ok(directory.join("crossdock.sock")),
        None => {
            bail!("XDG_RUNTIME_DIR is not set: say where to listen, for example unix:///tmp/crossdock.sock")
        }
    }
}

/// The socket that systemd opened for this process.
fn inherited(tls: &Option<TlsFiles>) -> Result<Option<Listen>> {
    let mut sockets = listenfd::ListenFd::from_env();
    if sockets.len() == 0 {
        return Ok(None);
    }
    if let Ok(Some(listener)) = sockets.take_unix_listener(0) {
        return Ok(Some(Listen::InheritedUnix(listener)));
    }
    match sockets.take_tcp_listener(0) {
        Ok(Some(listener)) => Ok(Some(Listen::InheritedTcp(listener, tls.clone()))),
        _ => bail!("the socket of systemd is neither a stream of TCP nor of a file (ListenStream=)"),
    }
}
