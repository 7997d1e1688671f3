//! Credential helpers: the protocol of `docker-credential-helpers`. The action is the argument, the request
//! goes to standard input, the answer comes from standard output.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::credential::{Credential, TOKEN_USERNAME};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// An answer longer than this, in bytes, is not from a helper.
const ANSWER_SIZE_MAX: u64 = 1024 * 1024;

/// A helper program.
pub(super) struct Helper {
    program: String,
    named_in: PathBuf,
    search_path: Option<OsString>,
    timeout: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Helper {
    pub(super) fn new(
        name: &str,
        named_in: &Path,
        search_path: Option<OsString>,
        timeout: Duration,
    ) -> Helper {
        Helper {
            program: format!("docker-credential-{name}"),
            named_in: named_in.to_path_buf(),
            search_path,
            timeout,
        }
    }

    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// Asks for the credentials of a server.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credential>> {
        let (status, output) = self.run("get", server.as_bytes())?;
        if !status.success() {
            let said = String::from_utf8_lossy(&output).to_lowercase();
            let nothing = ["credentials not found", "no credentials", "not found in native keychain"];
            return match nothing.iter().any(|text| said.contains(text)) {
                true => Ok(None),
                false => Err(self.ended("get", status)),
            };
        }
        // The output holds a secret, so errors do not quote it.
        let answer: Answer = serde_json::from_slice(&output)
            .map_err(|_| self.failed("get", "its answer is not the JSON of a credential helper"))?;
        Ok(Some(if answer.username == TOKEN_USERNAME {
            Credential::IdentityToken(Secret::new(answer.secret))
        } else {
            Credential::Password { username: answer.username, password: Secret::new(answer.secret) }
        }))
    }

    /// Hands over credentials.
    pub(super) fn store(&self, server: &str, credential: &Credential) -> Result<()> {
        let secret = match credential {
            Credential::Password { password, .. } => password,
            Credential::IdentityToken(token) => token,
        };
        let request =
            json!({"ServerURL": server, "Username": credential.username(), "Secret": secret.expose()});
        self.run_or_fail("store", request.to_string().as_bytes())
    }

    /// Forgets credentials.
    pub(super) fn erase(&self, server: &str) -> Result<()> {
        self.run_or_fail("erase", server.as_bytes())
    }

    /// Servers and user names.
    pub(super) fn list(&self) -> Result<Vec<(String, String)>> {
        let (status, output) = self.run("list", b"")?;
        if !status.success() {
            return Err(self.ended("list", status));
        }
        let all: std::collections::BTreeMap<String, String> = serde_json::from_slice(&output)
            .map_err(|_| self.failed("list", "its answer is not the JSON of a credential helper"))?;
        Ok(all.into_iter().collect())
    }

    fn run_or_fail(&self, action: &'static str, input: &[u8]) -> Result<()> {
        match self.run(action, input)? {
            (status, _) if status.success() => Ok(()),
            (status, _) => Err(self.ended(action, status)),
        }
    }

    /// The error of a helper that did not succeed: its exit status, and never its output, which may hold the
    /// secret.
    fn ended(&self, action: &'static str, status: ExitStatus) -> Error {
        let program = &self.program;
        self.failed(action, format!("{status}; run \"{program} {action}\" by hand to see what it says"))
    }

    fn failed(&self, action: &'static str, reason: impl Into<String>) -> Error {
        Error::HelperFailed { helper: self.program.clone(), action, reason: reason.into() }
    }

    /// Runs the helper; returns its exit status and output.
    fn run(&self, action: &'static str, input: &[u8]) -> Result<(ExitStatus, Vec<u8>)> {
        let program = self.find_program().ok_or_else(|| Error::HelperMissing {
            helper: self.program.clone(),
            path: self.named_in.clone(),
        })?;
        let mut child = Command::new(program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| self.failed(action, e.to_string()))?;
        let result = self.converse(&mut child, action, input);
        if result.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|e| self.failed(action, e.to_string()))?;
        result.map(|output| (status, output))
    }

    fn converse(&self, child: &mut Child, action: &'static str, input: &[u8]) -> Result<Vec<u8>> {
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let stdout = child.stdout.take().expect("standard output is piped");
        // Requests are far smaller than a pipe's buffer, so writing cannot block; a helper that reads nothing
        // (EPIPE) may still answer.
        let _ = stdin.write_all(input);
        drop(stdin);
        let (sender, receiver) = mpsc::channel();
        let read = move || {
            let mut output = Vec::new();
            let result = stdout.take(ANSWER_SIZE_MAX).read_to_end(&mut output).map(|_| output);
            let _ = sender.send(result);
        };
        let reader = std::thread::Builder::new().spawn(read);
        reader.map_err(|e| self.failed(action, format!("no thread for its answer: {e}")))?;
        match receiver.recv_timeout(self.timeout) {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(e)) => Err(self.failed(action, e.to_string())),
            Err(_) => Err(self.failed(action, format!("no answer within {} s", self.timeout.as_secs_f32()))),
        }
    }

    fn find_program(&self) -> Option<PathBuf> {
        if self.program.contains('/') {
            return None;
        }
        std::env::split_paths(self.search_path.as_ref()?).map(|directory| directory.join(&self.program)).find(
            |path| std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0),
        )
    }
}
