//! login, logout, and the embedded registry.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Subcommand;
use crossdock_dockerfile::values::bytes;
use crossdock_oci::size::size;
use crossdock_registry::server::{
    AuthFiles, AuthOptions, GarbageOptions, LogOutput, ProxyOptions, RegistryServer, ServerOptions, TlsFiles,
    collect_garbage, htpasswd_line,
};
use crossdock_registry::{Credential, NoProgress};

use crate::access::ConnectionArgs;
use crate::output::{print, write_whole};
use crate::session::Session;
use crate::values::age_seconds;

#[derive(clap::Args)]
pub struct LoginArgs {
    /// The registry [default: docker.io]
    pub server: Option<String>,
    /// User name
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password; better use --password-stdin
    #[arg(short, long)]
    pub password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Print the user who is logged in, and do not log in
    #[arg(long)]
    pub get_login: bool,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(clap::Args)]
pub struct LogoutArgs {
    /// The registry [default: docker.io]
    pub server: Option<String>,
    /// All registries
    #[arg(short, long, conflicts_with = "server")]
    pub all: bool,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Subcommand)]
pub enum RegistryCommand {
    /// Serve a registry until interrupted
    Serve(Box<ServeArgs>),
    /// Remove what no manifest of a served directory needs; it may be served meanwhile
    Gc(GcArgs),
    /// Print a line for the file of --users, with the password from standard input
    Htpasswd {
        /// The user's name
        user: String,
    },
}

#[derive(clap::Args)]
pub struct GcArgs {
    /// Directory of the registry [default: that of "registry serve"]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keep what was touched within this time, since a push may be under way: 0, 30m, 24h, 7d
    #[arg(long, value_name = "AGE", default_value = "24h")]
    pub grace: String,
    /// Remove nothing, only say what would be removed
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Also manifests that no tag leads to
    #[arg(long)]
    pub untagged: bool,
}

#[derive(clap::Args)]
pub struct ServeArgs {
    /// Address to listen on, or :PORT for all addresses of the machine; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    pub addr: String,
    /// Directory of the registry [default: the store's directory with -registry at its end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Refuse changes
    #[arg(long)]
    pub read_only: bool,
    /// File of users as "htpasswd -B" writes it; without it everybody may do everything
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,
    /// File of rights, lines of WHO ACTIONS REPOSITORY...; without it each user may do everything
    #[arg(long, value_name = "FILE", requires = "users")]
    pub rights: Option<PathBuf>,
    /// Everybody may pull everything; users of --users may do the rest
    #[arg(long, requires = "users")]
    pub anonymous_pull: bool,
    /// Speak https with this certificate, a PEM file that also has the intermediate ones
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Refuse to move or remove tags
    #[arg(long)]
    pub immutable_tags: bool,
    /// Accept indexes without all of their images, and images without all of their layers
    #[arg(long, conflicts_with = "proxy")]
    pub sparse: bool,
    /// Be a cache of another registry: what is not here is fetched from it; changes are refused
    #[arg(long, value_name = "URL", conflicts_with = "immutable_tags")]
    pub proxy: Option<String>,
    /// Keep at most this much of the other registry (500m, 20g); what was used least recently goes first
    #[arg(long, value_name = "SIZE", requires = "proxy")]
    pub proxy_cache_max: Option<String>,
    /// Append a line per request to this file; "-" is standard error
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// Connections that one address may have [default: 1000, and no limit for this machine]
    #[arg(long, value_name = "N")]
    pub connections_per_address: Option<usize>,
    /// Drop uploads that nobody touched for this time: 30m, 24h, 7d
    #[arg(long, value_name = "AGE", default_value = "24h")]
    pub upload_expiry: String,
    /// Write the address to a file once the registry serves
    #[arg(long, value_name = "FILE")]
    pub addr_file: Option<PathBuf>,
}

const DEFAULT_REGISTRY: &str = "docker.io";

/// The registry that a server argument names; like docker, this accepts a URL, too.
fn server(given: Option<&str>) -> String {
    let text = given.unwrap_or(DEFAULT_REGISTRY);
    let text = text.trim_start_matches("https://").trim_start_matches("http://");
    match text.split('/').next().unwrap_or(text) {
        "index.docker.io" | "registry-1.docker.io" | "" => DEFAULT_REGISTRY.to_string(),
        host => host.to_string(),
    }
}

pub fn login(session: &Session, args: LoginArgs) -> Result<u8> {
    let server = server(args.server.as_deref());
    session.reach(vec![args.connection.access()], args.connection.retry);
    if args.get_login {
        let client = session.client(Arc::new(NoProgress))?;
        let Some(found) = client.options().credentials.find(&server, "")? else {
            bail!("nobody is logged in to {server}");
        };
        print(found.username());
        return Ok(0);
    }
    let ask = std::io::stdin().is_terminal() && !args.password_stdin;
    let username = match args.username {
        Some(name) => name,
        None if ask => prompt("Username: ", true)?,
        None => bail!("no user name: give --username"),
    };
    let password = match args.password {
        Some(password) => {
            eprintln!("warning: a password on the command line can be seen by others; use --password-stdin");
            password
        }
        None if args.password_stdin => password_of_stdin()?,
        None if ask => prompt("Password: ", false)?,
        None => bail!("no password: give --password-stdin and write it to standard input"),
    };
    if username.is_empty() || password.is_empty() {
        bail!("user name and password must not be empty");
    }
    let client = session.client(Arc::new(NoProgress))?;
    let stored = client.login(&server, &Credential::password(&username, &password))?;
    eprintln!("logged in to {server}; the credentials are kept in {stored}");
    print("Login Succeeded");
    Ok(0)
}

fn password_of_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(1 << 16)
        .read_to_string(&mut text)
        .context("read the password from standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}

/// Asks on the terminal; without `echo` the answer is not shown.
fn prompt(question: &str, echo: bool) -> Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    eprint!("{question}");
    std::io::stderr().flush().context("ask on the terminal")?;
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).context("read the terminal's settings")?;
    if !echo {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent).context("stop the terminal's echo")?;
    }
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if !echo {
        tcsetattr(&stdin, OptionalActions::Flush, &before).context("restore the terminal")?;
        eprintln!();
    }
    read.context("read from the terminal")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}

pub fn logout(session: &Session, args: LogoutArgs) -> Result<u8> {
    session.reach(vec![args.connection.access()], args.connection.retry);
    let client = session.client(Arc::new(NoProgress))?;
    if args.all {
        for (registry, _) in client.options().credentials.list()? {
            client.logout(&registry)?;
            print(&format!("Removed login credentials for {registry}"));
        }
        return Ok(0);
    }
    let server = server(args.server.as_deref());
    client.logout(&server)?;
    print(&format!("Removed login credentials for {server}"));
    Ok(0)
}

pub fn registry(session: &Session, command: RegistryCommand) -> Result<u8> {
    match command {
        RegistryCommand::Serve(args) => serve(session, &args),
        RegistryCommand::Gc(args) => gc(session, args),
        RegistryCommand::Htpasswd { user } => htpasswd(&user),
    }
}

fn gc(session: &Session, args: GcArgs) -> Result<u8> {
    let directory = args.dir.unwrap_or_else(|| default_directory(session));
    let grace =
        Duration::from_secs(age_seconds(&args.grace).with_context(|| format!("--grace {}", args.grace))?);
    let options = GarbageOptions { grace, dry_run: args.dry_run, untagged: args.untagged };
    let collected = collect_garbage(&directory, &options)?;
    let done = if args.dry_run { "would remove" } else { "removed" };
    let mut text = format!("{done} {}, {}", number(collected.blobs, "blob"), size(collected.bytes));
    for (count, what) in [
        (collected.manifests, "manifest without a tag"),
        (collected.uploads, "abandoned upload"),
        (collected.leftovers, "leftover of an interrupted write"),
    ] {
        if count > 0 {
            text.push_str(&format!("; {}", number(count, what)));
        }
    }
    print(&text);
    if collected.spared > 0 {
        print(&format!(
            "kept {} that nothing needs, {}: touched within {}, so a push may be under way; --grace 0 takes them, too",
            number(collected.spared, "file"),
            size(collected.bytes_spared),
            args.grace,
        ));
    }
    Ok(0)
}

/// A count and its noun, such as `1 blob` or `2 blobs`.
fn number(count: u64, what: &str) -> String {
    match what.split_once(' ') {
        _ if count == 1 => format!("1 {what}"),
        Some(("abandoned", noun)) => format!("{count} abandoned {noun}s"),
        Some((noun, rest)) => format!("{count} {noun}s {rest}"),
        None => format!("{count} {what}s"),
    }
}

fn htpasswd(user: &str) -> Result<u8> {
    let password = match std::io::stdin().is_terminal() {
        true => prompt("Password: ", false)?,
        false => password_of_stdin()?,
    };
    match htpasswd_line(user, &password) {
        Ok(line) => print(&line),
        Err(reason) => bail!("{reason}"),
    }
    Ok(0)
}

fn default_directory(session: &Session) -> PathBuf {
    let mut name = session.root().as_os_str().to_owned();
    name.push("-registry");
    PathBuf::from(name)
}

fn serve(session: &Session, args: &ServeArgs) -> Result<u8> {
    let directory = args.dir.clone().unwrap_or_else(|| default_directory(session));
    let auth = match &args.users {
        None => AuthOptions::None,
        Some(htpasswd) => AuthOptions::Files(AuthFiles {
            htpasswd: htpasswd.clone(),
            rights: args.rights.clone(),
            anonymous_pull: args.anonymous_pull,
        }),
    };
    let is_open = matches!(auth, AuthOptions::None);
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    let scheme = if tls.is_some() { "https" } else { "http" };
    let options = ServerOptions {
        auth,
        read_only: args.read_only,
        immutable_tags: args.immutable_tags,
        sparse: args.sparse,
        connections_per_address: args.connections_per_address,
        upload_expiry: Duration::from_secs(
            age_seconds(&args.upload_expiry).context("--upload-expiry")?.max(1),
        ),
        proxy: args.proxy.as_deref().map(|url| proxy(session, url, args)).transpose()?,
        tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
        access_log: args.access_log.as_deref().map(log).transpose()?,
        notice: Arc::new(|text| eprintln!("warning: {text}")),
        ..ServerOptions::default()
    };
    let server = RegistryServer::bind(&args.addr, &directory, options)?;
    let address = server.addr();
    if is_open && !args.read_only && args.proxy.is_none() && !address.ip().is_loopback() {
        eprintln!(
            "warning: everybody who reaches {address} can change this registry: see --users and --read-only"
        );
    }
    if !is_open && scheme == "http" && !address.ip().is_loopback() {
        eprintln!("warning: passwords can be read on the way to {address}: see --tls-cert and --tls-key");
    }
    eprintln!("serving {} on {scheme}://{address}; stop with Ctrl-C", directory.display());
    if let Some(path) = &args.addr_file {
        write_whole(path, address.to_string().as_bytes())?;
    }
    print(&address.to_string());
    // SIGINT and SIGTERM end the process by their default action; everything acknowledged is on disk.
    loop {
        std::thread::park();
    }
}

/// The options of a cache of the registry at `url`, with the credentials that are stored for it.
fn proxy(session: &Session, url: &str, args: &ServeArgs) -> Result<ProxyOptions> {
    let host = url.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '@', '?']) {
        bail!("--proxy: not the URL of a registry, such as https://registry.example.com");
    }
    let max = args.proxy_cache_max.as_deref().map(|text| match bytes(text) {
        Some(max) if max > 0 => Ok(max),
        _ => Err(anyhow!("--proxy-cache-max {text}: not a size, such as 20g")),
    });
    let client = session.client(Arc::new(NoProgress))?;
    Ok(ProxyOptions { client, registry: server(Some(host)), max: max.transpose()? })
}

/// Opens the access log; `-` is standard error.
fn log(path: &Path) -> Result<LogOutput> {
    if path == Path::new("-") {
        return Ok(LogOutput::new(std::io::stderr()));
    }
    LogOutput::file(path).context("open the access log")
}
