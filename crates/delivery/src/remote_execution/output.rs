//! Output of a step as lines.

use crossdock_builder::{Event, Events, StepId};

/// Longest line passed on in one piece, in bytes.
const LINE_SIZE_MAX: usize = 64 << 10;

/// What a step has written and was not passed on, since its line has no end yet.
pub struct Output {
    step: StepId,
    /// Of standard output and standard error.
    rest: [Vec<u8>; 2],
}

impl Output {
    /// Nothing is written yet.
    pub fn new(step: StepId) -> Output {
        Output { step, rest: Default::default() }
    }

    /// Passes on the lines that end in these bytes. A line that ends with a carriage return is one that the
    /// command writes over, unless a line feed follows.
    pub fn take(&mut self, events: &dyn Events, stderr: bool, bytes: &[u8]) {
        let rest = &mut self.rest[usize::from(stderr)];
        for byte in bytes {
            match (rest.last(), byte) {
                (_, b'\n') => tell(events, self.step, stderr, rest, false),
                (Some(b'\r'), b'\r') => {}
                (Some(b'\r'), byte) => {
                    tell(events, self.step, stderr, rest, true);
                    rest.push(*byte);
                }
                (_, byte) => rest.push(*byte),
            }
            if rest.len() == LINE_SIZE_MAX {
                tell(events, self.step, stderr, rest, false);
            }
        }
    }

    /// Passes on last lines without an end.
    pub fn finish(mut self, events: &dyn Events) {
        for (rest, stderr) in self.rest.iter_mut().zip([false, true]) {
            if !rest.is_empty() {
                tell(events, self.step, stderr, rest, false);
            }
        }
    }
}

fn tell(events: &dyn Events, step: StepId, stderr: bool, line: &mut Vec<u8>, is_transient: bool) {
    line.pop_if(|byte| *byte == b'\r');
    let line = String::from_utf8_lossy(&std::mem::take(line)).into_owned();
    events.event(Event::Output { step, stderr, is_transient, line });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(bool, bool, String)>>);

    impl Events for Heard {
        fn event(&self, event: Event) {
            if let Event::Output { stderr, is_transient, line, .. } = event {
                self.0.lock().expect("no panic").push((stderr, is_transient, line));
            }
        }
    }

    #[test]
    fn pieces_become_lines() {
        let heard = Heard::default();
        let mut output = Output::new(1);
        for (stderr, piece) in
            [(false, "one\ntw"), (true, "10%\r"), (false, "o\r\n\n"), (true, "20%\r\ndone"), (false, "end")]
        {
            output.take(&heard, stderr, piece.as_bytes());
        }
        output.finish(&heard);
        let heard = heard.0.into_inner().expect("no panic");
        let heard: Vec<_> = heard.iter().map(|(e, t, line)| (*e, *t, line.as_str())).collect();
        let expected = [
            (false, false, "one"),
            (false, false, "two"),
            (false, false, ""),
            (true, true, "10%"),
            (true, false, "20%"),
            (false, false, "end"),
            (true, false, "done"),
        ];
        assert_eq!(heard, expected);
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let heard = Heard::default();
        let mut output = Output::new(1);
        output.take(&heard, false, &vec![b'x'; 3 * LINE_SIZE_MAX + 1]);
        output.finish(&heard);
        assert_eq!(heard.0.into_inner().expect("no panic").len(), 4);
    }
}
