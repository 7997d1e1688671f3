//! The transport `docker-daemon:`: images of a running docker, over the HTTP API of its Unix socket (Docker
//! Engine API, "Export an image" and "Import images"). HTTP/1.0 is enough: one request for each connection, a
//! body that ends with the connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Docker's own socket.
const SOCKET: &str = "/var/run/docker.sock";

/// A daemon that sends nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Bytes of a head or of an error that are read.
const TEXT_MAX: u64 = 64 * 1024;

/// The socket of a daemon.
pub struct Daemon(PathBuf);

impl Daemon {
    /// The daemon at `unix://PATH`; by default that of `DOCKER_HOST`, or docker's own socket.
    ///
    /// # Errors
    ///
    /// An address that is no Unix socket.
    pub fn at(host: Option<&str>) -> Result<Daemon> {
        let variable = std::env::var("DOCKER_HOST").ok().filter(|text| !text.is_empty());
        match host.map(str::to_string).or(variable) {
            None => Ok(Daemon(SOCKET.into())),
            Some(address) => match address.strip_prefix("unix://") {
                Some(path) => Ok(Daemon(path.into())),
                None => bail!(
                    "{address}: only a docker on this machine is reached, at unix://PATH: use \"docker save\" and \"docker load\" there"
                ),
            },
        }
    }

    /// The archive of an image, as `docker save` writes it.
    ///
    /// # Errors
    ///
    /// No daemon; what the daemon says, such as that there is no such image.
    pub fn export(&self, name: &str) -> Result<impl Read + Send + use<>> {
        if name.contains(|c: char| c.is_whitespace() || c.is_control() || "?#%".contains(c)) {
            bail!("docker-daemon:{name}: not the name of an image");
        }
        let head = format!("GET /images/{name}/get HTTP/1.0\r\nHost: docker\r\n\r\n");
        self.ask(&head, None).with_context(|| format!("docker-daemon:{name}"))
    }

    /// Loads an archive, as `docker load` does.
    ///
    /// # Errors
    ///
    /// No daemon; what the daemon says.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let failed = || format!("read {}", archive.display());
        let mut file = std::fs::File::open(archive).with_context(failed)?;
        let length = file.metadata().with_context(failed)?.len();
        let head = format!(
            "POST /images/load?quiet=1 HTTP/1.0\r\nHost: docker\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
        );
        let answer = self.ask(&head, Some(&mut file)).context("docker-daemon:")?;
        // Failures come as a line of the body, after a head that says 200.
        let mut text = String::new();
        answer.take(TEXT_MAX).read_to_string(&mut text).context("read docker's answer")?;
        let said = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        match said.filter_map(|line| line["error"].as_str().map(str::to_string)).next() {
            Some(error) => bail!("docker does not load the image: {error}"),
            None => Ok(()),
        }
    }

    /// Sends a request; returns the body of the answer.
    fn ask(&self, head: &str, body: Option<&mut dyn Read>) -> Result<BufReader<UnixStream>> {
        let shown = self.0.display();
        let mut stream = UnixStream::connect(&self.0).with_context(|| {
            format!("no docker answers at {shown}: start it, or name its socket with --src-daemon-host or --dest-daemon-host unix://PATH")
        })?;
        let failed = || format!("talk to docker at {shown}");
        stream.set_read_timeout(Some(PATIENCE)).with_context(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).with_context(failed)?;
        stream.write_all(head.as_bytes()).with_context(failed)?;
        if let Some(body) = body {
            io::copy(body, &mut stream).with_context(failed)?;
        }
        let mut answer = BufReader::new(stream);
        let status = status(&mut answer).with_context(failed)?;
        if status != 200 {
            let mut text = String::new();
            let _ = answer.take(TEXT_MAX).read_to_string(&mut text);
            let message = serde_json::from_str::<serde_json::Value>(&text).ok();
            let message = message.and_then(|value| value["message"].as_str().map(str::to_string));
            bail!("docker says {status}: {}", message.unwrap_or(text).trim());
        }
        Ok(answer)
    }
}

/// Reads the head of an answer; returns its status.
fn status(answer: &mut impl BufRead) -> io::Result<u16> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
    let mut head = answer.by_ref().take(TEXT_MAX);
    let mut first = String::new();
    head.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let version = words.next().ok_or_else(bad)?;
    let status = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
    if !version.starts_with("HTTP/1.") {
        return Err(bad());
    }
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Err(bad());
        }
        if line.trim_end().is_empty() {
            return Ok(status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_to_their_end() {
        let mut answer = io::Cursor::new("HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nrest");
        assert_eq!(status(&mut answer).expect("a status"), 404);
        let mut rest = String::new();
        answer.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "rest");
        for bad in ["", "HTTP/1.0", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b", "HTTP/1.1 x y\r\n\r\n"] {
            assert!(status(&mut io::Cursor::new(bad)).is_err(), "{bad}");
        }
        let seeds = ["HTTP/1.0 200 OK\r\nA: b\r\n\r\nx", "HTTP/1.1 500 \nA:\n\n"]
            .map(|seed| seed.as_bytes().to_vec());
        crossdock_testkit::hostile::try_inputs("heads of docker's answers", &seeds, |bytes| {
            let _ = status(&mut io::Cursor::new(bytes));
        });
        let endless = io::repeat(b'a');
        assert!(status(&mut BufReader::new(endless)).is_err());
    }
}
