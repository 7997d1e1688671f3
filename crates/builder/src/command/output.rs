//! The output of a command, line by line, and what it says of the command's end.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Mutex;

use crossdock_sandbox as sandbox;

use crate::event::{Event, Events, StepId};

/// Longest line passed on in one piece, in bytes.
const LINE_SIZE_MAX: usize = 64 * 1024;

/// Passes a stream on until it ends.
pub(crate) fn pass_on(
    events: &dyn Events,
    step: StepId,
    stderr: bool,
    stream: impl Read,
    heard: &Mutex<Heard>,
) {
    let mut reader = BufReader::new(stream);
    while let Some((line, is_transient)) = next_line(&mut reader) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if let (Ok(mut heard), false) = (heard.lock(), is_transient) {
            heard.line(&line);
        }
        events.event(Event::Output { step, stderr, is_transient, line });
    }
}

/// The next line without its end, and whether the command will write over it: it ended with a carriage
/// return that no line feed follows. `None` at the end of the stream.
fn next_line(reader: &mut impl BufRead) -> Option<(Vec<u8>, bool)> {
    let mut line = Vec::new();
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => &[],
        };
        let Some(&first) = available.first() else {
            let is_transient = line.last() == Some(&b'\r');
            trim_returns(&mut line);
            return (!line.is_empty() || is_transient).then_some((line, false));
        };
        // A carriage return is judged by the byte that follows it, which may come much later.
        if line.last() == Some(&b'\r') && !matches!(first, b'\n' | b'\r') {
            trim_returns(&mut line);
            return Some((line, true));
        }
        let room = LINE_SIZE_MAX - line.len();
        let piece = &available[..available.len().min(room)];
        let length = piece.iter().position(|b| matches!(b, b'\n' | b'\r')).map_or(piece.len(), |at| at + 1);
        line.extend_from_slice(&piece[..length]);
        reader.consume(length);
        if line.last() == Some(&b'\n') || line.len() == LINE_SIZE_MAX {
            line.pop_if(|b| *b == b'\n');
            trim_returns(&mut line);
            return Some((line, false));
        }
    }
}

fn trim_returns(line: &mut Vec<u8>) {
    while line.pop_if(|b| *b == b'\r').is_some() {}
}

/// Output of a command that may explain its end.
#[derive(Default)]
pub(crate) struct Heard {
    /// The last lines of both streams.
    last: VecDeque<String>,
    /// The last message of an emulator. It may be older than `last`: programs that still run may print more
    /// lines after it than `last` holds.
    emulator: Option<String>,
}

impl Heard {
    fn line(&mut self, line: &str) {
        if EMULATORS_SAY.iter().any(|start| line.starts_with(start)) {
            self.emulator = Some(line.to_string());
        }
        if self.last.len() == 20 {
            self.last.pop_front();
        }
        self.last.push_back(line.to_string());
    }
}

/// How messages of emulators begin: ours, and QEMU's.
const EMULATORS_SAY: [&str; 2] = ["crossdock-emu: ", "qemu: "];

/// A hint for a failure with a well-known cause.
pub(crate) fn hint(status: &sandbox::ExitStatus, heard: &Heard) -> String {
    const ILLEGAL_INSTRUCTION: i32 = 4;
    let says = |text: &str| heard.last.iter().any(|line| line.contains(text));
    if let Some(line) = &heard.emulator {
        return format!(" ({line})");
    }
    if says("Exec format error") || says("exec format error") {
        return " (a program is for another CPU than the step's platform and has no emulator: see \"crossdock doctor\")"
            .to_string();
    }
    if status.code() == 128 + ILLEGAL_INSTRUCTION {
        return " (a program died of an instruction that the CPU does not have)".to_string();
    }
    if says("Temporary failure resolving") || says("Could not resolve host") {
        return " (the network or its name server cannot be reached from the build)".to_string();
    }
    match status {
        sandbox::ExitStatus::Signal(9) => " (killed: out of memory, or by somebody)".to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a stream that arrives in pieces of so many bytes.
    fn lines(stream: &[u8], piece: usize) -> Vec<(String, bool)> {
        let mut reader = BufReader::with_capacity(piece, stream);
        let text = |(line, is_transient)| (String::from_utf8(line).expect("UTF-8"), is_transient);
        std::iter::from_fn(|| next_line(&mut reader)).map(text).collect()
    }

    #[test]
    fn a_carriage_return_ends_a_line_that_is_written_over() {
        for piece in [1, 2, 3, 100] {
            for (stream, expected) in [
                ("a\nb", vec![("a", false), ("b", false)]),
                ("a\r\nb\r\n", vec![("a", false), ("b", false)]),
                ("1%\r2%\r100%\n", vec![("1%", true), ("2%", true), ("100%", false)]),
                ("1%\r\r\n", vec![("1%", false)]),
                ("1%\r", vec![("1%", false)]),
                ("\n\n", vec![("", false), ("", false)]),
                ("\ra", vec![("", true), ("a", false)]),
                ("", vec![]),
            ] {
                let expected: Vec<(String, bool)> =
                    expected.into_iter().map(|(line, is)| (line.to_string(), is)).collect();
                assert_eq!(lines(stream.as_bytes(), piece), expected, "{stream:?} by {piece}");
            }
        }
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let stream = "x".repeat(2 * LINE_SIZE_MAX + 1);
        let lengths: Vec<usize> = lines(stream.as_bytes(), 1000).iter().map(|(line, _)| line.len()).collect();
        assert_eq!(lengths, [LINE_SIZE_MAX, LINE_SIZE_MAX, 1]);
    }
}
