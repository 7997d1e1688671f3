//! login, logout, and the embedded registry.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use crossdock_registry::server::{
    AuthOptions, GarbageOptions, RegistryServer, ServerOptions, collect_garbage,
};
use crossdock_registry::{Credential, NoProgress, Secret};

use super::print;
use crate::args::{LoginArgs, LogoutArgs, RegistryCommand, ServeArgs};
use crate::session::{Session, size};

const DEFAULT_REGISTRY: &str = "docker.io";

/// The registry of a server argument, which may be a URL as docker takes it.
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
        None if args.password_stdin => {
            let mut text = String::new();
            std::io::stdin()
                .take(1 << 16)
                .read_to_string(&mut text)
                .context("read the password from standard input")?;
            text.trim_end_matches(['\r', '\n']).to_string()
        }
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
    let server = server(args.server.as_deref());
    session.client(Arc::new(NoProgress))?.logout(&server)?;
    print(&format!("Removed login credentials for {server}"));
    Ok(0)
}

pub fn registry(session: &Session, command: RegistryCommand) -> Result<u8> {
    match command {
        RegistryCommand::Serve(args) => serve(session, args),
        RegistryCommand::Gc { dir } => {
            let directory = dir.unwrap_or_else(|| default_directory(session));
            let collected = collect_garbage(&directory, &GarbageOptions::default())?;
            print(&format!("removed {} blobs, {}", collected.blobs, size(collected.bytes)));
            Ok(0)
        }
    }
}

fn default_directory(session: &Session) -> PathBuf {
    let mut name = session.root().as_os_str().to_owned();
    name.push("-registry");
    PathBuf::from(name)
}

fn serve(session: &Session, args: ServeArgs) -> Result<u8> {
    let directory = args.dir.clone().unwrap_or_else(|| default_directory(session));
    let auth = match &args.users {
        None => AuthOptions::None,
        Some(path) => AuthOptions::Basic(users(path)?),
    };
    let is_open = matches!(auth, AuthOptions::None);
    let options = ServerOptions { auth, read_only: args.read_only, ..ServerOptions::default() };
    let server = RegistryServer::bind(&args.addr, &directory, options)?;
    let address = server.addr();
    if is_open && !args.read_only && !address.ip().is_loopback() {
        eprintln!(
            "warning: everybody who reaches {address} can change this registry: see --users and --read-only"
        );
    }
    eprintln!("serving {} on http://{address}; stop with Ctrl-C", directory.display());
    if let Some(path) = &args.addr_file {
        write_whole(path, address.to_string().as_bytes())?;
    }
    print(&address.to_string());
    // The default action of SIGINT and SIGTERM ends the process; what was acknowledged is on disk.
    loop {
        std::thread::park();
    }
}

/// Opens a device or pipe, such as `/dev/null` or `/dev/stdout`: it is written to, never replaced by a new file. `None`
/// for a regular file or none.
pub fn open_special(path: &Path) -> std::io::Result<Option<std::fs::File>> {
    match std::fs::metadata(path) {
        Ok(there) if !there.is_file() && !there.is_dir() => {
            std::fs::File::options().write(true).open(path).map(Some)
        }
        _ => Ok(None),
    }
}

/// Writes a file so that readers see nothing or all of it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(mut device) = open_special(path).with_context(|| format!("write {}", path.display()))? {
        return device.write_all(bytes).with_context(|| format!("write {}", path.display()));
    }
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let doing = || format!("write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(doing)?;
    file.write_all(bytes).with_context(doing)?;
    file.as_file().sync_all().with_context(doing)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable).with_context(doing)?;
    file.persist(path).map_err(|e| e.error).with_context(doing)?;
    Ok(())
}

/// Reads `USER:PASSWORD` lines.
fn users(path: &Path) -> Result<BTreeMap<String, Secret>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut all = BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                all.insert(user.to_string(), Secret::new(password));
            }
            _ => bail!("{}:{}: not USER:PASSWORD", path.display(), i + 1),
        }
    }
    Ok(all)
}
