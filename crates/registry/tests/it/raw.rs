//! Requests as bytes, for what ordinary clients never do: stop in the middle, read nothing, ask twice.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// An answer: status, headers with lower-case names in their order, body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// All values of a header, separated by commas; empty without the header.
    pub fn header(&self, name: &str) -> String {
        let values: Vec<&str> =
            self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        values.join(",")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// A connection to a server.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    pub fn connect(host: &str) -> Wire {
        let stream = TcpStream::connect(host).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
        Wire { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("sent");
    }

    /// Sends the bytes if the server still accepts them.
    pub fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// The status of the next answer; reads no further.
    pub fn peek_status(&mut self) -> u16 {
        let mut line = [0; 12];
        self.stream.get_mut().read_exact(&mut line).expect("an answer");
        std::str::from_utf8(&line[9..]).ok().and_then(|s| s.parse().ok()).expect("a status")
    }

    /// Number of bytes that arrive until the server closes.
    pub fn read_to_end(&mut self) -> usize {
        self.rest().len()
    }

    /// The bytes that arrive until the server closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Sends a request's head without a body.
    pub fn head(&mut self, line: &str, headers: &[(&str, &str)]) {
        let mut text = format!("{line} HTTP/1.1\r\nhost: x\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        self.send(format!("{text}\r\n").as_bytes());
    }

    /// Reads an answer to its end.
    pub fn answer(&mut self, is_head: bool) -> Answer {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).expect("readable") > 0, "closed after {lines:?}");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_string()),
            }
        }
        let status = lines[0].split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let headers: Vec<(String, String)> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_string()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !is_head && status != 304 {
            let length = answer.header("content-length").parse().unwrap_or(0);
            answer.body = vec![0; length];
            self.stream.read_exact(&mut answer.body).expect("a whole body");
        }
        answer
    }

    /// Closes the sending side.
    pub fn finish(&mut self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("half-closed");
    }

    /// Whether the server has closed its side; waits for it.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}

/// Sends a request on its own connection.
pub fn ask(host: &str, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut wire = Wire::connect(host);
    let length = body.len().to_string();
    let mut all = headers.to_vec();
    if !body.is_empty() || line.starts_with('P') {
        all.push(("content-length", &length));
    }
    wire.head(line, &all);
    wire.send(body);
    wire.answer(line.starts_with("HEAD"))
}

/// Pushes a blob in one request; returns its digest.
pub fn push_blob(host: &str, name: &str, bytes: &[u8]) -> crossdock_oci::Digest {
    let digest = crossdock_oci::Digest::of(bytes);
    let answer = ask(host, &format!("POST /v2/{name}/blobs/uploads/?digest={digest}"), &[], bytes);
    assert_eq!(answer.status, 201, "{}", answer.text());
    digest
}
