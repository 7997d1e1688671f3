//! A shell on another machine, and a port there that leads to our registry: one process of the system's ssh,
//! with the user's own configuration, keys and agent.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::address::Address;
use crate::values::random_id;

/// A shell on the device.
pub struct Remote {
    child: Child,
    /// Closed to end the shell.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// The last lines of ssh and of the programs there.
    said: Arc<Mutex<VecDeque<String>>>,
    /// Tells the port; ends with ssh's standard error.
    found: Receiver<u16>,
    port: Option<u16>,
    /// Ends each answer; nobody there can know it.
    marker: String,
}

/// How many lines of a program there an error shows.
pub const LINES_SHOWN: usize = 8;
/// Longest line that is read, in bytes; the rest is dropped.
const LINE_LENGTH_MAX: u64 = 16 * 1024;
/// Most lines of one answer.
const LINES_MAX: usize = 1000;

impl Remote {
    /// Begins to connect, and to forward a free port of the device's loopback to `registry`; the first answer
    /// tells whether that succeeds. With `may_ask`, ssh may ask for passwords on the terminal.
    ///
    /// # Errors
    ///
    /// ssh is missing.
    pub fn connect(device: &Address, registry: SocketAddr, may_ask: bool) -> Result<Remote> {
        let mut command = Command::new("ssh");
        command.args(["-T", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=30"]);
        command.args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]);
        // The port is reported at this level. A shared connection would keep the port open afterwards.
        command.args(["-o", "LogLevel=INFO", "-o", "ControlMaster=no", "-o", "ControlPath=none"]);
        if !may_ask {
            command.args(["-o", "BatchMode=yes"]);
        }
        if let Some(port) = device.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args([
            "-R",
            &format!("127.0.0.1:0:127.0.0.1:{}", registry.port()),
            "--",
            &device.target(),
            "sh",
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                anyhow::anyhow!(
                    "ssh is not installed: install it, for example with apt-get install openssh-client"
                )
            }
            _ => anyhow::Error::from(error).context("start ssh"),
        })?;
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stderr = child.stderr.take().expect("piped");
        let said: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let (found, port) = channel();
        let kept = Arc::clone(&said);
        std::thread::Builder::new()
            .name("ssh".to_string())
            .spawn(move || listen(stderr, &kept, &found))
            .context("start a thread for ssh")?;
        Ok(Remote {
            child,
            stdin: Some(stdin),
            stdout,
            said,
            found: port,
            port: None,
            marker: format!("end-{}", random_id()?),
        })
    }

    /// The port on the device's loopback, once ssh has it.
    ///
    /// # Errors
    ///
    /// ssh cannot log in, or the device's sshd forwards no ports.
    pub fn port(&mut self) -> Result<u16> {
        self.port = self.port.or_else(|| self.found.recv().ok());
        match self.port {
            Some(port) => Ok(port),
            // Its standard error ended.
            None => bail!("{}", self.failure()),
        }
    }

    /// What [`Remote::line`] gives at the end of an answer.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// Writes to the shell or to the program that it runs.
    ///
    /// # Errors
    ///
    /// The connection ended.
    pub fn write(&mut self, text: &[u8]) -> Result<()> {
        let written = self.stdin.as_mut().map(|stdin| stdin.write_all(text).and_then(|()| stdin.flush()));
        match written {
            Some(Ok(())) => Ok(()),
            _ => bail!("{}", self.failure()),
        }
    }

    /// Reads a line.
    ///
    /// # Errors
    ///
    /// The connection ended.
    pub fn line(&mut self) -> Result<String> {
        match read_line(&mut self.stdout).context("read what the device answers")? {
            Some(line) => Ok(line),
            None => bail!("{}", self.failure()),
        }
    }

    /// What the shell or the program that it runs writes.
    pub fn stream(&mut self) -> &mut impl BufRead {
        &mut self.stdout
    }

    /// Runs a script of sh(1) and returns what it writes to standard output, by lines, and its exit code.
    ///
    /// # Errors
    ///
    /// The connection ended, or the answer has no end.
    pub fn run(&mut self, script: &str) -> Result<(Vec<String>, i32)> {
        // In a subshell, so that the script can end itself; programs must not read what comes next.
        let text = format!("(\n{script}\n) </dev/null\necho \"{} $?\"\n", self.marker);
        self.write(text.as_bytes())?;
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if let Some(code) = line.strip_prefix(&self.marker) {
                return Ok((lines, code.trim().parse().unwrap_or(-1)));
            }
            if lines.len() == LINES_MAX {
                bail!("the device answers with more than {LINES_MAX} lines");
            }
            lines.push(line);
        }
    }

    /// The last lines of standard error, for an error.
    fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Ends the connection; says why it failed.
    fn failure(&mut self) -> String {
        self.stdin = None;
        // ssh that ended its output has more to say: why.
        self.port = self.port.or_else(|| self.found.recv().ok());
        let what = if self.port.is_some() { "the connection ended" } else { "ssh cannot connect" };
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.said();
        let hint = if said.contains("forwarding failed") {
            ": the device's sshd must allow it (AllowTcpForwarding yes in sshd_config, also for remote ports)"
        } else {
            ""
        };
        if said.is_empty() { what.to_string() } else { format!("{what}: {said}{hint}") }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Without input the shell ends; ssh is not waited for where the network hangs.
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a line without its end, of at most [`LINE_LENGTH_MAX`] bytes; `None` at the end.
fn read_line(stream: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    if stream.by_ref().take(LINE_LENGTH_MAX).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        let mut rest = Vec::new();
        while stream.by_ref().take(LINE_LENGTH_MAX).read_until(b'\n', &mut rest)? != 0 {
            if rest.last() == Some(&b'\n') {
                break;
            }
            rest.clear();
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_string()))
}

/// Keeps the last lines of standard error, and reports the port of the device.
fn listen(stderr: ChildStderr, kept: &Mutex<VecDeque<String>>, found: &Sender<u16>) {
    let mut stderr = BufReader::new(stderr);
    while let Ok(Some(line)) = read_line(&mut stderr) {
        if let Some(port) = allocated_port(&line) {
            let _ = found.send(port);
            continue;
        }
        // A device could steer the terminal.
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        if line.trim().is_empty() {
            continue;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LINES_SHOWN {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

/// The port in OpenSSH's line "Allocated port 43211 for remote forward to 127.0.0.1:5000" (ssh(1), -R).
fn allocated_port(line: &str) -> Option<u16> {
    line.strip_prefix("Allocated port ")?.split_once(" for remote forward to ")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_length() {
        let long = "x".repeat(40_000);
        let mut stream = BufReader::new(std::io::Cursor::new(format!("a\r\n{long}\nb\n\nlast")));
        let mut lines = std::iter::from_fn(|| read_line(&mut stream).expect("read"));
        assert_eq!(lines.next().as_deref(), Some("a"));
        assert_eq!(lines.next().map(|line| line.len()), Some(LINE_LENGTH_MAX as usize));
        assert_eq!(lines.collect::<Vec<_>>(), ["b", "", "last"]);
    }

    #[test]
    fn the_port_is_found() {
        let line = "Allocated port 43211 for remote forward to 127.0.0.1:5000";
        assert_eq!(allocated_port(line), Some(43211));
        assert_eq!(allocated_port("Allocated port x for remote forward to y"), None);
        assert_eq!(allocated_port("Welcome"), None);
    }
}
