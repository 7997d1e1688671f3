//! Checks out Git repositories with the user's `git`, so that its credentials, proxies and keys work.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use crossdock_builder::git::GitSource;

/// A checkout of a repository into a new directory.
pub struct Checkout<'a> {
    /// What is checked out.
    pub source: &'a GitSource,
    /// Whether `.git` is kept.
    pub keep_git: bool,
    /// Whether the repository may be on this machine: the user may name such a one, a Dockerfile may not.
    pub allow_file: bool,
}

impl Checkout<'_> {
    /// Checks out into the empty directory `to`; returns the commit.
    pub fn run(&self, to: &Path) -> Result<String> {
        let source = self.source;
        if source.remote.starts_with("file://") && !self.allow_file {
            bail!("a repository of this machine can be the build context, but not a source of ADD");
        }
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
            let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
            match self.git(to, &[&update[..], &["--depth=1"]].concat()) {
                Err(error) if error.to_string().contains("shallow") => self.git(to, &update)?,
                other => other?,
            };
        }
        if !source.keep_git.unwrap_or(self.keep_git) {
            remove_git(to)?;
        }
        Ok(commit)
    }

    /// Whether the repository names its objects by SHA-256.
    fn has_long_names(&self, to: &Path) -> bool {
        let listed = self.git(to, &["ls-remote", "--quiet", "--", &self.source.remote]);
        let first = listed.ok().and_then(|text| text.split_whitespace().next().map(str::len));
        first == Some(64)
    }

    /// Fetches only the one commit if the server allows that; else everything, since no ref may point to the
    /// commit. Returns what to check out.
    fn fetch(&self, to: &Path) -> Result<String> {
        const FETCHED: &str = "FETCH_HEAD";
        let source = self.source;
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
        let is_here = self.source.remote.starts_with("file://");
        let protocols = if is_here { "https:http:ssh:git:file" } else { "https:http:ssh:git" };
        let mut command = Command::new("git");
        command.arg("-C").arg(directory).args(args).stdin(Stdio::null());
        // Nobody can answer a prompt in the middle of a build; hooks of others do not run.
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", protocols);
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
            command.env_remove(variable);
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_none() && std::env::var_os("GIT_SSH").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
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
            bail!(
                "git {} failed: {}",
                args[0].trim_start_matches('-'),
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
