//! Checks out Git repositories with the user's `git`, so that its credentials, proxies and keys work.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use crossdock_builder::git::GitSource;
use crossdock_builder::{Secret, Secrets, without_password};
use tempfile::NamedTempFile;

/// A checkout of a repository into a new directory.
pub struct Checkout<'a> {
    /// What is checked out.
    pub source: &'a GitSource,
    /// Whether `.git` is kept.
    pub keep_git: bool,
    /// Whether the repository may be on this machine: the user may name such a one, a Dockerfile may not.
    pub allow_file: bool,
    /// Secrets and agents that may open it.
    pub secrets: &'a dyn Secrets,
}

/// What git is given to open a repository.
#[derive(Default)]
struct Login {
    /// The addresses that get a secret, and the secret.
    secret: Option<(String, Sent)>,
    /// The socket of an SSH agent.
    agent: Option<PathBuf>,
    /// Keys of hosts.
    known_hosts: Option<NamedTempFile>,
}

/// How a secret is sent.
enum Sent {
    /// As the password of `x-access-token`, to a server that asks for one.
    Password(Secret),
    /// As a header, with every request.
    Header(Secret),
}

/// The variable by which git's helper gets the password.
const PASSWORD: &str = "CROSSDOCK_GIT_PASSWORD";

/// A helper of git for one host (gitcredentials(7)); git hands it on to no other host.
const HELPER: &str = "!f() { test \"$1\" = get && echo username=x-access-token && echo \"password=$CROSSDOCK_GIT_PASSWORD\"; }; f";

impl Login {
    /// Asks for the secrets of a repository: those for its host before those for all (BuildKit, "Build
    /// secrets", "Git authentication for remote contexts").
    ///
    /// # Errors
    ///
    /// A secret is not there although it should be, or would be sent without encryption.
    fn of(source: &GitSource, secrets: &dyn Secrets) -> Result<Login> {
        let mut login = Login::default();
        let names = &source.login;
        let ask = |id: &str| secrets.secret(id).map_err(anyhow::Error::msg);
        let (scheme, rest) = match source.remote.split_once("://") {
            Some(("ssh" | "git+ssh" | "ssh+git", _)) | None => {
                // `USER@HOST:PATH` has no scheme.
                login.agent = secrets.agent(&names.agent).map_err(anyhow::Error::msg)?;
                if let Some(keys) = &names.known_hosts {
                    let mut file = NamedTempFile::new().context("make a file for the keys of hosts")?;
                    file.write_all(keys.as_bytes()).context("write the keys of hosts")?;
                    login.known_hosts = Some(file);
                }
                return Ok(login);
            }
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some(_) => return Ok(login),
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.contains('@') {
            // The address has a name and a password itself.
            return Ok(login);
        }
        let ids = [
            (format!("{}.{host}", names.header), false),
            (format!("{}.{host}", names.token), true),
            (names.header.clone(), false),
            (names.token.clone(), true),
        ];
        for (id, is_token) in ids {
            let Some(secret) = ask(&id)? else { continue };
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            if scheme == "http" && !matches!(name, "localhost" | "127.0.0.1" | "[::1]") {
                bail!("the secret {id} is not sent to http://{host} without encryption: use https");
            }
            let text = std::str::from_utf8(&secret.0).ok().map(str::trim_end);
            let text = text.filter(|text| !text.is_empty() && !text.contains(['\r', '\n', '\0']));
            let text = text.with_context(|| format!("the secret {id} is not one line of text"))?;
            let sent = match is_token {
                true => Sent::Password(Secret(text.as_bytes().to_vec())),
                false => Sent::Header(Secret(format!("Authorization: {text}").into_bytes())),
            };
            login.secret = Some((format!("{scheme}://{host}/"), sent));
            break;
        }
        Ok(login)
    }

    /// Hands it to a command by its environment, which other users cannot read.
    fn hand_to(&self, command: &mut Command) {
        if let Some((place, sent)) = &self.secret {
            let given = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse().ok());
            let count: usize = given.unwrap_or(0);
            let options = match sent {
                Sent::Password(password) => {
                    command.env(PASSWORD, OsStr::from_bytes(&password.0));
                    // The empty one keeps the user's helpers away, which would store the password.
                    let option = format!("credential.{place}.helper");
                    [(option.clone(), OsStr::new("")), (option, OsStr::new(HELPER))]
                }
                // Git sends the header wherever it is redirected to, so it must not follow.
                Sent::Header(header) => [
                    (format!("http.{place}.extraHeader"), OsStr::from_bytes(&header.0)),
                    (format!("http.{place}.followRedirects"), OsStr::new("false")),
                ],
            };
            command.env("GIT_CONFIG_COUNT", (count + options.len()).to_string());
            for (number, (option, value)) in options.into_iter().enumerate() {
                command.env(format!("GIT_CONFIG_KEY_{}", count + number), option);
                command.env(format!("GIT_CONFIG_VALUE_{}", count + number), value);
            }
        }
        let mut ssh = "ssh -o BatchMode=yes".to_string();
        if let Some(agent) = &self.agent {
            // A path of this process is another one in git.
            let path = match agent.strip_prefix("/proc/self") {
                Ok(rest) => Path::new("/proc").join(std::process::id().to_string()).join(rest),
                Err(_) => agent.clone(),
            };
            command.env("SSH_AUTH_SOCK", path);
        }
        if let Some(file) = &self.known_hosts {
            let path = file.path().display().to_string().replace('\'', "'\\''");
            ssh.push_str(&format!(" -o GlobalKnownHostsFile=/dev/null -o 'UserKnownHostsFile=\"{path}\"'"));
        }
        let is_own = std::env::var_os("GIT_SSH_COMMAND").is_some() || std::env::var_os("GIT_SSH").is_some();
        if !is_own {
            command.env("GIT_SSH_COMMAND", ssh);
        }
    }
}

impl Checkout<'_> {
    /// Checks out into the empty directory `to`; returns the commit.
    pub fn run(&self, to: &Path) -> Result<String> {
        let source = self.source;
        if source.remote.starts_with("file://") && !self.allow_file {
            bail!("a repository of this machine can be the build context, but not a source of ADD");
        }
        let login = Login::of(source, self.secrets)?;
        Opened { checkout: self, login }.run(to)
    }
}

/// A checkout with what opens its repository.
struct Opened<'a> {
    checkout: &'a Checkout<'a>,
    login: Login,
}

impl Opened<'_> {
    fn run(&self, to: &Path) -> Result<String> {
        let source = self.checkout.source;
        self.git(to, &["init", "--quiet", "--template="])?;
        let fetched = match self.fetch(to) {
            Err(error) if self.has_long_names(to) => {
                std::fs::remove_dir_all(to.join(".git")).context(error)?;
                self.git(to, &["init", "--quiet", "--template=", "--object-format=sha256"])?;
                self.fetch(to)?
            }
            other => other?,
        };
        self.git(to, &["-c", "advice.detachedHead=false", "checkout", "--quiet", "--force", &fetched])?;
        let commit = self.git(to, &["rev-parse", "HEAD"])?.trim().to_string();
        if let Some(expected) = &source.commit
            && !commit.starts_with(&expected.to_ascii_lowercase())
        {
            bail!("expected checksum to match {expected}, got {commit}");
        }
        if source.submodules != Some(false) && to.join(".gitmodules").exists() {
            // Addresses of submodules may be relative to the repository's, and git then keeps them.
            let keeps = source.keep_git.unwrap_or(self.checkout.keep_git);
            let remote = if keeps { without_password(&source.remote) } else { source.remote.clone() };
            self.git(to, &["config", "remote.origin.url", &remote])?;
            let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
            match self.git(to, &[&update[..], &["--depth=1"]].concat()) {
                Err(error) if error.to_string().contains("shallow") => self.git(to, &update)?,
                other => other?,
            };
        }
        if source.keep_git.unwrap_or(self.checkout.keep_git) {
            self.git(to, &["config", "remote.origin.url", &without_password(&source.remote)])?;
        } else {
            remove_git(to)?;
        }
        Ok(commit)
    }

    /// Whether the repository names its objects by SHA-256.
    fn has_long_names(&self, to: &Path) -> bool {
        let listed = self.git(to, &["ls-remote", "--quiet", "--", &self.checkout.source.remote]);
        let first = listed.ok().and_then(|text| text.split_whitespace().next().map(str::len));
        first == Some(64)
    }

    /// Fetches only the one commit if the server allows that; else everything, since no ref may point to the
    /// commit. Returns what to check out.
    fn fetch(&self, to: &Path) -> Result<String> {
        const FETCHED: &str = "FETCH_HEAD";
        let source = self.checkout.source;
        let wanted = source.reference.as_deref().or(source.commit.as_deref()).unwrap_or("HEAD");
        let fetch = ["fetch", "--quiet", "--no-tags", "--update-head-ok"];
        let shallow = [&fetch[..], &["--depth=1", "--", &source.remote, wanted]].concat();
        let Err(mut first) = self.git(to, &shallow) else { return Ok(FETCHED.to_string()) };
        // A plain web server without Git's protocol serves only whole histories.
        if first.to_string().contains("shallow") {
            match self.git(to, &[&fetch[..], &["--", &source.remote, wanted]].concat()) {
                Ok(_) => return Ok(FETCHED.to_string()),
                Err(e) => first = e,
            }
        }
        if first.to_string().contains("couldn't find remote ref") {
            first = first.context(format!("repository does not contain ref {wanted}"));
        }
        if !(wanted.len() >= 7 && wanted.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(first);
        }
        let everything =
            ["--", &source.remote, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        self.git(to, &[&fetch[..], &everything].concat())?;
        let commit = self.git(to, &["rev-parse", "--verify", "--quiet", &format!("{wanted}^{{commit}}")]);
        let commit = commit.with_context(|| format!("the repository has no commit {wanted}"))?;
        Ok(commit.trim().to_string())
    }

    /// Runs git in `directory`; returns its output.
    fn git(&self, directory: &Path, args: &[&str]) -> Result<String> {
        // Submodules may name any address, so the protocols are limited.
        let is_here = self.checkout.source.remote.starts_with("file://");
        let protocols = if is_here { "https:http:ssh:git:file" } else { "https:http:ssh:git" };
        let mut command = Command::new("git");
        command.arg("-C").arg(directory).args(args).stdin(Stdio::null());
        // Nobody can answer a prompt in the middle of a build; hooks of others do not run.
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", protocols);
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
            command.env_remove(variable);
        }
        self.login.hand_to(&mut command);
        let output = match command.output() {
            Ok(output) => output,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                bail!("git is not installed: install it (on Debian: apt-get install git)")
            }
            Err(e) => return Err(e).context("run git"),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            // Git's messages quote addresses, also those of submodules and redirects.
            let said = crossdock_builder::without_passwords(&said);
            let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let last = lines[lines.len().saturating_sub(3)..].join("; ");
            let asks = ["could not read Username", "Authentication failed", "terminal prompts disabled"];
            let advice = match asks.iter().any(|text| said.contains(text)) {
                true if self.login.secret.is_none() => {
                    "; a private repository is opened by --secret id=GIT_AUTH_TOKEN,env=NAME, or by git's own credentials"
                }
                true => "; the secret that was given for it does not open the repository",
                // "The requested URL returned error: 301"
                false if self.login.secret.is_some() && said.contains("returned error: 30") => {
                    "; the server redirects to another address, which does not get the secret: give that address"
                }
                false => "",
            };
            bail!(
                "git {} failed: {}{advice}",
                args.iter().find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or(&"?"),
                if last.is_empty() { output.status.to_string() } else { last }
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Removes `.git`, and the `.git` files of submodules.
fn remove_git(directory: &Path) -> Result<()> {
    let doing = || format!("remove .git from {}", directory.display());
    std::fs::remove_dir_all(directory.join(".git")).with_context(doing)?;
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).with_context(doing)? {
            let entry = entry.with_context(doing)?;
            let kind = entry.file_type().with_context(doing)?;
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() && entry.file_name() == ".git" {
                std::fs::remove_file(entry.path()).with_context(doing)?;
            }
        }
    }
    Ok(())
}
