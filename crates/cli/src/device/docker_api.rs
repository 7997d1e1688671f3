//! Docker's HTTP API over the streams of `docker system dial-stdio` on the device, the same way that docker's
//! own `ssh://` goes (Docker Engine API, chapters "System" and "Images"). One program start there instead of
//! one for each command: a Raspberry Pi needs a quarter of a second to start docker's client.

use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context, Result, bail};
use crossdock_oci::Reference;
use serde_json::Value;

use super::ssh::Remote;

/// Bytes of a head, of a line of progress or of an answer in JSON that are read.
const TEXT_MAX: u64 = 1 << 20;

/// What every answer begins with; the digit of the minor version follows.
const PROTOCOL: &str = "HTTP/1.";

/// The version of a daemon and what it runs on.
pub struct Version {
    pub version: String,
    /// `linux/arm`.
    pub platform: String,
    /// The newest version of the API that it has, such as `1.41`.
    api: String,
}

impl Version {
    fn of(value: &Value) -> Option<Version> {
        let text = |name: &str| {
            let text = value[name].as_str()?;
            let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+~".contains(&b));
            (!text.is_empty() && is_plain).then(|| text.to_string())
        };
        Some(Version {
            version: text("Version")?,
            platform: format!("{}/{}", text("Os")?, text("Arch")?),
            api: text("ApiVersion")?,
        })
    }
}

/// Asks for the version. `None` if what answers does not speak HTTP.
///
/// # Errors
///
/// The connection ended; a server that is no docker.
pub fn version(remote: &mut Remote) -> Result<Option<Version>> {
    remote.write(head("GET", "/version").as_bytes())?;
    let first = remote.line()?;
    if !first.starts_with(PROTOCOL) {
        return Ok(None);
    }
    let (status, body) = answer_after(&first, remote.stream()).context("read what docker answers")?;
    let version = json(body)?.as_ref().and_then(Version::of);
    match version.filter(|_| status == 200) {
        Some(version) => Ok(Some(version)),
        None => bail!("docker does not tell its version there, but answers with status {status}"),
    }
}

/// Lets the daemon pull `source` and name it `name`; returns the image's id.
///
/// # Errors
///
/// The daemon's own, in its words.
pub fn pull(remote: &mut Remote, version: &Version, source: &Reference, name: &Reference) -> Result<String> {
    let base = format!("/v{}/images", version.api);
    // References hold no character that means something in a query, except the colon of a port, which may
    // stand there (RFC 3986, section 3.4).
    let (from, tag) = (source.name(), source.identifier());
    ask(remote, "POST", &format!("{base}/create?fromImage={from}&tag={tag}"))?;
    let (repo, tag) = (name.name(), name.identifier());
    ask(remote, "POST", &format!("{base}/{source}/tag?repo={repo}&tag={tag}"))?;
    ask(remote, "DELETE", &format!("{base}/{source}"))?;
    let image = ask(remote, "GET", &format!("{base}/{name}/json"))?;
    let id = image.as_ref().and_then(|image| image["Id"].as_str());
    Ok(id.context("docker does not tell the image's id")?.to_string())
}

/// A request and its answer's last value of JSON.
fn ask(remote: &mut Remote, method: &str, path: &str) -> Result<Option<Value>> {
    remote.write(head(method, path).as_bytes())?;
    let (status, body) = answer(remote.stream()).context("read what docker answers")?;
    let value = json(body)?;
    let text = |name: &str| value.as_ref().and_then(|value| value[name].as_str());
    // A failure in the middle of a pull comes as a line of the body, after a head that says 200.
    match (status, text("error")) {
        (200..300, None) => Ok(value),
        (_, Some(error)) => bail!("{}", shown(error)),
        (_, None) => bail!("{status}: {}", shown(text("message").unwrap_or("no reason is given"))),
    }
}

/// Text of the device, which could steer the terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn head(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n")
}

/// Reads the head of an answer (RFC 9112, section 4): its status, and its body, which must be read to its
/// end.
///
/// # Errors
///
/// `InvalidData` if it is not HTTP.
fn answer<R: BufRead>(mut stream: R) -> io::Result<(u16, Body<R>)> {
    let first = line(&mut stream.by_ref().take(TEXT_MAX))?;
    answer_after(&first, stream)
}

/// [`answer`] whose first line was read.
fn answer_after<R: BufRead>(first: &str, mut stream: R) -> io::Result<(u16, Body<R>)> {
    let mut lines = stream.by_ref().take(TEXT_MAX);
    let status = first.strip_prefix(PROTOCOL).and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| bad("the answer is not HTTP"))?;
    let mut length = Length::Known(0);
    loop {
        let line = line(&mut lines)?;
        if line.is_empty() {
            return Ok((status, Body { stream, length }));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header without a colon"))?;
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) if !matches!(length, Length::Chunk { .. }) => {
                length = Length::Known(value.parse().map_err(|_| bad("a length that is no number"))?);
            }
            ("transfer-encoding", "chunked") => length = Length::Chunk { left: 0, is_first: true },
            _ => {}
        }
    }
}

/// A line without its end.
fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if stream.read_line(&mut text)? == 0 || !text.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// How much of a body follows, in bytes.
enum Length {
    Known(u64),
    /// RFC 9112, section 7.1.
    Chunk {
        left: u64,
        is_first: bool,
    },
}

struct Body<R> {
    stream: R,
    length: Length,
}

impl<R: BufRead> Body<R> {
    /// The head of the next chunk; its length.
    fn next_chunk(&mut self, is_first: bool) -> io::Result<u64> {
        let mut lines = self.stream.by_ref().take(TEXT_MAX);
        if !is_first {
            line(&mut lines)?;
        }
        let head = line(&mut lines)?;
        let digits = head.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).map_err(|_| bad("a chunk without a length"))?;
        // After the last chunk, trailers up to an empty line.
        while length == 0 && !line(&mut lines)?.is_empty() {}
        Ok(length)
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = match self.length {
            Length::Known(left) => left,
            Length::Chunk { left: 0, is_first } => {
                let left = self.next_chunk(is_first)?;
                self.length = match left {
                    0 => Length::Known(0),
                    left => Length::Chunk { left, is_first: false },
                };
                left
            }
            Length::Chunk { left, .. } => left,
        };
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let read = self.stream.by_ref().take(left).read(buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &mut self.length {
            Length::Known(left) | Length::Chunk { left, .. } => *left -= read as u64,
        }
        Ok(read)
    }
}

/// Reads a body to its end. Returns its last line that is JSON, or the first with an error; `None` if it has
/// none.
fn json(body: impl Read) -> Result<Option<Value>> {
    let mut body = BufReader::new(body);
    let mut last: Option<Value> = None;
    loop {
        let mut line = Vec::new();
        let read = body.by_ref().take(TEXT_MAX).read_until(b'\n', &mut line);
        if read.context("read what docker answers")? == 0 {
            return Ok(last);
        }
        let has_failed = last.as_ref().is_some_and(|value| value["error"].is_string());
        if let (false, Ok(value)) = (has_failed, serde_json::from_slice(&line)) {
            last = Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<(u16, Option<Value>)> {
        let (status, body) = answer(io::Cursor::new(text))?;
        Ok((status, json(body)?))
    }

    #[test]
    fn answers_are_read_to_their_end() {
        let known = "HTTP/1.1 404 Not Found\r\ncontent-length: 17\r\n\r\n{\"message\":\"no\"}\nHTTP/1.1 200";
        assert_eq!(read(known.as_bytes()).expect("HTTP"), (404, Some(serde_json::json!({"message": "no"}))));
        let mut stream = io::Cursor::new(known);
        json(answer(&mut stream).expect("HTTP").1).expect("read");
        assert_eq!(&known[stream.position() as usize..], "HTTP/1.1 200", "the next answer is left");

        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                       7;x=y\r\n{\"a\":1}\r\nb\r\n\n{\"error\":\"\r\n6\r\nx\"}\n{}\r\n0\r\nT: 1\r\n\r\nrest";
        let mut stream = io::Cursor::new(chunked);
        let (_, body) = answer(&mut stream).expect("HTTP");
        assert_eq!(json(body).expect("read"), Some(serde_json::json!({"error": "x"})), "the error is kept");
        assert_eq!(&chunked[stream.position() as usize..], "rest");
        assert_eq!(read(b"HTTP/1.1 204 No Content\r\n\r\n").expect("HTTP"), (204, None));
    }

    #[test]
    fn damaged_answers_are_errors() {
        for bad in [
            "",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 x y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        let seeds = [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ]
        .map(|seed| seed.as_bytes().to_vec());
        crossdock_testkit::hostile::try_inputs("answers of docker's API", &seeds, |bytes| {
            let _ = read(bytes);
        });
    }

    #[test]
    fn versions_hold_no_characters_of_a_path() {
        let value = |api: &str| serde_json::json!({"Version": "20.10.24+dfsg1", "Os": "linux", "Arch": "arm", "ApiVersion": api});
        let version = Version::of(&value("1.41")).expect("a version");
        assert_eq!((version.platform.as_str(), version.api.as_str()), ("linux/arm", "1.41"));
        for bad in ["", "1/../..", "1 HTTP/1.1\r\n"] {
            assert!(Version::of(&value(bad)).is_none(), "{bad}");
        }
    }
}
