//! Live lines on a terminal: a head line, the open steps with the last lines of their output, transfers, and
//! layers that are packed. What has ended stays above them, one line each.
//!
//! A frame is drawn over the one before it. Each line is shorter than the terminal is wide, so it takes one
//! row. If the terminal has become narrower since, most terminals have wrapped the lines of the old frame;
//! the widths of these lines tell how many rows to go back.

use std::io::Write;
use std::time::Duration;

use crossdock_oci::size::size;
use rustix::termios::tcgetwinsize;

use super::state::{Counts, End, Phase, State, Step, Transfer, milliseconds};
use super::text::{clean, cut, width};

/// The most lines of output below a step.
const OUTPUT_LINES_MAX: usize = 6;

/// Columns and rows of a terminal.
pub type Size = (usize, usize);

/// The live lines of a terminal.
pub struct Terminal {
    look: Look,
    /// Widths of the lines that are on the screen now, below which the cursor stands.
    drawn: Vec<usize>,
    /// Lines that are printed above the live ones with the next frame.
    ended: String,
    /// Whether lines are wrapped anew when the width changes.
    reflows: bool,
    /// The figure that turns with each frame.
    turn: usize,
}

/// What the terminal can show.
#[derive(Clone, Copy)]
struct Look {
    colours: bool,
    unicode: bool,
}

/// How a piece of a line looks (ECMA-48, section 8.3.117).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
    Warn,
    Busy,
}

/// One row under construction.
struct Line {
    text: String,
    width: usize,
    columns: usize,
    look: Look,
}

impl Look {
    /// From the environment: NO_COLOR (no-color.org), TERM and the locale.
    fn of_environment() -> Look {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        // DEC's terminals, and those that terminfo calls monochrome.
        let has_none = term == "dumb"
            || ["vt1", "vt2", "vt3", "vt4", "vt5"].iter().any(|start| term.starts_with(start))
            || ["-m", "-mono"].iter().any(|end| term.ends_with(end));
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        Look {
            colours: set("NO_COLOR").is_none() && !has_none,
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    fn pick(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }

    /// A line of so many columns.
    fn line(self, columns: usize) -> Line {
        Line { text: String::new(), width: 0, columns, look: self }
    }

    fn turning(self, turn: usize) -> &'static str {
        const UNICODE: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
        const ASCII: [&str; 4] = ["|", "/", "-", "\\"];
        if self.unicode { UNICODE[turn % UNICODE.len()] } else { ASCII[turn % ASCII.len()] }
    }
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Bold => "\x1b[1m",
            Style::Dim => "\x1b[2m",
            Style::Good => "\x1b[32m",
            Style::Bad => "\x1b[1;31m",
            Style::Warn => "\x1b[33m",
            Style::Busy => "\x1b[36m",
        }
    }
}

impl Line {
    /// Adds a text, or what fits.
    fn push(mut self, style: Style, text: &str) -> Line {
        let text = cut(text, self.columns - self.width, self.look.pick("…", ">"));
        self.width += width(&text);
        if self.look.colours && style != Style::Plain && !text.is_empty() {
            self.text.push_str(style.code());
            self.text.push_str(&text);
            self.text.push_str("\x1b[0m");
        } else {
            self.text.push_str(&text);
        }
        self
    }

    /// Adds a text and leaves so many columns free behind it.
    fn push_before(mut self, style: Style, text: &str, free: usize) -> Line {
        let columns = self.columns;
        self.columns = columns.saturating_sub(free).max(self.width);
        let mut line = self.push(style, text);
        line.columns = columns;
        line
    }

    /// Adds a text at the right end, if there is room.
    fn right(mut self, style: Style, text: &str) -> Line {
        let free = self.columns - self.width;
        if width(text) <= free {
            let blank = free - width(text);
            self.text.extend(std::iter::repeat_n(' ', blank));
            self.width += blank;
            return self.push(style, text);
        }
        self
    }
}

impl Terminal {
    /// The terminal at standard error.
    pub fn new() -> Terminal {
        // xterm and the kernel's console keep what they show; most others wrap it anew.
        let reflows = std::env::var_os("XTERM_VERSION").is_none()
            && std::env::var_os("TERM").is_none_or(|term| term != "linux");
        Terminal { look: Look::of_environment(), drawn: Vec::new(), ended: String::new(), reflows, turn: 0 }
    }

    /// Prints a line above the live ones.
    pub fn print(&mut self, line: &str) {
        self.ended.push_str(line);
        self.ended.push('\n');
    }

    /// Prints how a step ended. A cancelled step that never ran is not shown.
    pub fn end_of_step(&mut self, step: &Step) {
        let columns = columns();
        let duration = step.spans.last().and_then(|span| span.to).unwrap_or_default() - step.from();
        let name = clean(&step.info.name);
        let line = self.look.line(columns).push(Style::Dim, " => ");
        let line = match step.end {
            Some(End::Cached) => line.push(Style::Busy, "CACHED ").push(Style::Dim, &name),
            Some(End::Executed) => {
                let time = format!(" {:.1}s", duration / 1e3);
                line.push_before(Style::Plain, &name, width(&time)).right(Style::Dim, &time)
            }
            Some(End::Cancelled) if step.has_run() => {
                line.push(Style::Warn, "CANCELED ").push(Style::Plain, &name)
            }
            Some(End::Failed) => line.push(Style::Bad, "ERROR ").push(Style::Bad, &name),
            _ => return,
        };
        self.print(&line.text);
        if step.end == Some(End::Failed) {
            for text in &step.last {
                self.print(&format!("    {}", clean(text)));
            }
        }
    }

    /// Prints how a transfer ended.
    pub fn end_of_transfer(&mut self, text: &str) {
        let columns = columns();
        let line = self.look.line(columns).push(Style::Dim, " => ").push(Style::Plain, &clean(text));
        self.print(&line.text);
    }

    /// Prints a closing line.
    pub fn close(&mut self, text: &str, is_success: bool) {
        let style = if is_success { Style::Good } else { Style::Bad };
        // It stays, so it may take several rows.
        let line = self.look.line(usize::MAX).push(style, "[+] ").push(Style::Bold, text);
        self.print(&line.text);
    }

    /// Draws the next frame.
    pub fn draw(&mut self, state: &State, at: Duration) {
        self.turn += 1;
        let size = size_of_terminal();
        let frame = frame(state, at, size, self.look, self.turn);
        self.put(&frame, size.0);
    }

    /// Removes the live lines.
    pub fn clear(&mut self) {
        if !self.drawn.is_empty() || !self.ended.is_empty() {
            self.put(&[], columns());
        }
    }

    fn put(&mut self, frame: &[Line], columns: usize) {
        let text = self.replacement(frame, columns);
        // A closed standard error is no reason to stop.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// What replaces the frame on the screen by another one.
    fn replacement(&mut self, frame: &[Line], columns: usize) -> String {
        let rows_of = |width: &usize| if self.reflows { width.div_ceil(columns).max(1) } else { 1 };
        let rows: usize = self.drawn.iter().map(rows_of).sum();
        // Shown at once where the terminal knows synchronized output (DEC private mode 2026).
        let mut text = String::from("\x1b[?2026h");
        if rows > 0 {
            // Rows are cleared as a whole before they are written: tmux takes cells that are cleared behind a
            // text for part of it, and wraps them, too.
            text.push_str(&format!("\x1b[{rows}A\r\x1b[J"));
        }
        text.push_str(&std::mem::take(&mut self.ended));
        // Some terminals (tmux) tell of a new width only after a while. A frame of the old width must not be
        // wrapped meanwhile (DECAWM off): then the frame and what is left above it of an earlier one, wrapped
        // when the width changed, take as many rows as if this frame had been wrapped.
        text.push_str("\x1b[?7l");
        for line in frame {
            text.push_str(&line.text);
            text.push('\n');
        }
        text.push_str("\x1b[?7h\x1b[?2026l");
        self.drawn = frame.iter().map(|line| line.width).collect();
        text
    }
}

/// Columns for a line: the last one stays free, since some terminals go to the next row after it.
fn columns() -> usize {
    size_of_terminal().0.saturating_sub(1).max(1)
}

fn size_of_terminal() -> Size {
    match tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// The live lines; none if nothing is under way.
fn frame(state: &State, at: Duration, (columns, rows): Size, look: Look, turn: usize) -> Vec<Line> {
    let columns = columns.saturating_sub(1).max(1);
    let steps: Vec<&Step> = state.open_steps().map(|(_, step)| step).collect();
    let transfers: Vec<&Transfer> = state.open_transfers().collect();
    let packing: Vec<&Step> = state.packing().collect();
    if steps.is_empty() && transfers.is_empty() && packing.is_empty() {
        return Vec::new();
    }
    let room = (rows.saturating_sub(2)).max(2);
    let mut lines = vec![head(state.counts(), at, look.line(columns))];
    let now = milliseconds(at);
    // What is left after one line each goes to the output of the steps that run.
    let running = steps.iter().filter(|step| step.phase() == Some(&Phase::Running)).count();
    let singles = 1 + steps.len() + transfers.len() + packing.len();
    let each = (room.saturating_sub(singles) / running.max(1)).min(OUTPUT_LINES_MAX);
    for step in &steps {
        lines.push(open_step(step, now, look.line(columns), turn));
        if step.phase() == Some(&Phase::Running) {
            let shown = step.last.iter().rev().map(|line| clean(line)).filter(|line| !line.trim().is_empty());
            let shown: Vec<String> = shown.take(each).collect();
            let below = |line: &String| {
                look.line(columns).push(Style::Dim, look.pick("   │ ", "   | ")).push(Style::Dim, line)
            };
            lines.extend(shown.iter().rev().map(below));
        }
    }
    lines.extend(transfers.iter().map(|transfer| open_transfer(transfer, at, look.line(columns))));
    lines.extend(packing.iter().map(|step| {
        let from = step.packing.as_ref().map_or(now, |span| span.from);
        let time = format!(" {:.1}s", (now - from) / 1e3);
        let line = look.line(columns).push(Style::Dim, look.pick(" ▤ packing ", " * packing "));
        line.push_before(Style::Dim, &clean(&step.info.name), width(&time)).right(Style::Dim, &time)
    }));
    if lines.len() > room {
        let hidden = lines.len() - room + 1;
        lines.truncate(room - 1);
        lines.push(look.line(columns).push(Style::Dim, &format!("   and {hidden} more")));
    }
    lines
}

fn head(counts: Counts, at: Duration, line: Line) -> Line {
    let mut line = line.push(Style::Busy, "[+] ").push(Style::Bold, &format!("{:.1}s", at.as_secs_f64()));
    if counts.planned > 0 {
        line = line.push(Style::Bold, &format!("  {} of {} steps", counts.ended, counts.planned));
    }
    for (count, what) in [(counts.running, "running"), (counts.waiting, "waiting"), (counts.cached, "cached")]
    {
        if count > 0 {
            line = line.push(Style::Dim, &format!("  {count} {what}"));
        }
    }
    line
}

fn open_step(step: &Step, now: f64, line: Line, turn: usize) -> Line {
    let look = line.look;
    let time = format!(" {:.1}s", (now - step.phase_from()) / 1e3);
    let (mark, style, note) = match step.phase() {
        Some(Phase::Waiting(what)) => (look.pick("·", "."), Style::Dim, format!("  {what}")),
        Some(Phase::Unpacking) => (look.turning(turn), Style::Busy, "  unpacks layers".to_string()),
        Some(Phase::Looking) => (look.turning(turn), Style::Dim, String::new()),
        Some(Phase::Running) if step.worker.is_some() => {
            (look.turning(turn), Style::Busy, format!("  on {}", worker_label(step.worker.as_deref())))
        }
        _ => (look.turning(turn), Style::Busy, String::new()),
    };
    let name_style = if matches!(step.phase(), Some(Phase::Waiting(_))) { Style::Dim } else { Style::Plain };
    let line = line.push(Style::Plain, " ").push(style, mark).push(Style::Plain, " ");
    // The note is short and says more than the end of a long command.
    let note = if width(&note) < line.columns / 2 { note } else { String::new() };
    let name = clean(&step.info.name);
    line.push_before(name_style, &name, width(&note) + width(&time))
        .push(Style::Warn, &note)
        .right(Style::Dim, &time)
}

/// The machine that executes a step, in words.
fn worker_label(worker: Option<&str>) -> String {
    worker.filter(|name| !name.is_empty()).map_or("the farm".to_string(), clean)
}

fn open_transfer(transfer: &Transfer, at: Duration, line: Line) -> Line {
    /// Cells of the bar.
    const CELLS: usize = 20;
    let look = line.look;
    let (position, total) = (transfer.position.min(transfer.total), transfer.total.max(1));
    let filled = usize::try_from(position * CELLS as u64 / total).unwrap_or(CELLS);
    let seconds = at.saturating_sub(transfer.from).as_secs_f64().max(0.1);
    let rate = size((position as f64 / seconds) as u64);
    let figures = format!(" {}/{}  {rate}/s", size(position), size(transfer.total));
    let (full, empty) = (look.pick("━", "="), look.pick("─", "-"));
    let bar = if line.columns > 60 { CELLS + 1 } else { 0 };
    let arrow = if transfer.label.starts_with("push") {
        look.pick(" ↑ ", " ^ ")
    } else {
        look.pick(" ↓ ", " v ")
    };
    let line = line.push(Style::Busy, arrow);
    let line = line.push_before(Style::Plain, &clean(&transfer.label), bar + width(&figures));
    let line = match bar {
        0 => line,
        _ => line
            .push(Style::Plain, " ")
            .push(Style::Busy, &full.repeat(filled))
            .push(Style::Dim, &empty.repeat(CELLS - filled)),
    };
    line.push(Style::Dim, &figures)
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;
    use crate::progress::state::tests::{output, started};
    use crossdock_builder::{Event, Wait};

    const LOOK: Look = Look { colours: false, unicode: true };

    fn terminal(look: Look) -> Terminal {
        Terminal { look, drawn: Vec::new(), ended: String::new(), reflows: true, turn: 0 }
    }

    fn build() -> State {
        let mut state = State::default();
        let at = Duration::from_secs;
        state.event(&Event::Planned { steps: 12 }, at(0));
        state.event(&started(1, "FROM 日本語"), at(0));
        state.event(&Event::Unpacking { step: 1 }, at(1));
        state.event(&started(2, "RUN apt-get install"), at(0));
        state.event(&Event::Executing { step: 2 }, at(1));
        for line in ["Get:1 http://deb", "\u{1b}[2J\u{1b}[Hprogress 10%\rprogress 20%", ""] {
            state.event(&output(2, line, false), at(2));
        }
        state.event(&started(3, "COPY --from=build /a /a"), at(0));
        state.event(&Event::Waiting { step: 3, wait: Wait::Stage("build".into()) }, at(1));
        state.begin_transfer("sha256:1", "push linux/arm64 layer 1/3", 2_000_000, at(3));
        state.transfer("sha256:1").expect("begun").position = 1_000_000;
        state
    }

    fn texts(state: &State, size: Size, look: Look) -> Vec<String> {
        frame(state, Duration::from_secs(4), size, look, 0).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_frame_shows_each_step_with_what_it_does() {
        assert_eq!(
            texts(&build(), (80, 24), LOOK),
            [
                "[+] 4.0s  0 of 12 steps  2 running  1 waiting",
                " ⠋ [linux/arm64 1/9] FROM 日本語  unpacks layers                           3.0s",
                " ⠋ [linux/arm64 2/9] RUN apt-get install                                   3.0s",
                "   │ Get:1 http://deb",
                "   │ progress 20%",
                " · [linux/arm64 3/9] COPY --from=build /a /a  waits for stage build        3.0s",
                " ↑ push linux/arm64 layer 1/3 ━━━━━━━━━━────────── 1.00MB/2.00MB  1.00MB/s",
            ]
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let state = build();
        for columns in 1..120 {
            for look in [LOOK, Look { colours: true, unicode: false }] {
                for line in frame(&state, Duration::from_secs(4), (columns, 24), look, 3) {
                    assert!(line.width < columns.max(2), "{} in {columns}", line.text);
                    let bare = anstream::adapter::strip_str(&line.text).to_string();
                    assert_eq!(line.width, width(&bare), "{bare}");
                }
            }
        }
    }

    #[test]
    fn a_low_terminal_shows_less() {
        for rows in 1..24 {
            let lines = texts(&build(), (80, rows), LOOK);
            assert!(lines.len() <= rows.max(4) - 2 || lines.len() == 2, "{rows}: {lines:?}");
        }
        assert_eq!(texts(&build(), (80, 6), LOOK).last().expect("a line"), "   and 2 more");
        assert!(texts(&State::default(), (80, 24), LOOK).is_empty());
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let coloured = Look { colours: true, unicode: true };
        assert!(texts(&build(), (80, 24), coloured).iter().all(|line| line.contains("\u{1b}[")));
        assert!(texts(&build(), (80, 24), LOOK).iter().all(|line| !line.contains('\u{1b}')));
        let ascii = Look { colours: false, unicode: false };
        let lines = texts(&build(), (60, 24), ascii);
        assert!(lines.iter().filter(|line| !line.contains("FROM")).all(|line| line.is_ascii()), "{lines:?}");
    }

    /// What a screen shows after frames were drawn on it.
    fn screen(frames: &[(usize, Vec<&str>)]) -> String {
        let mut terminal = terminal(LOOK);
        let mut parser =
            vt100::Parser::new(NonZero::new(10).expect("rows"), NonZero::new(30).expect("columns"), 0);
        parser.process(b"before\r\n");
        for (columns, texts) in frames {
            let lines: Vec<Line> =
                texts.iter().map(|text| LOOK.line(*columns).push(Style::Plain, text)).collect();
            let text = terminal.replacement(&lines, *columns).replace('\n', "\r\n");
            parser.process(text.as_bytes());
        }
        parser.screen().contents()
    }

    #[test]
    fn a_frame_replaces_the_one_before() {
        let first = (30, vec!["one", "two", "three is the longest"]);
        assert_eq!(screen(std::slice::from_ref(&first)), "before\none\ntwo\nthree is the longest");
        assert_eq!(screen(&[first.clone(), (30, vec!["1", "2"])]), "before\n1\n2");
        assert_eq!(screen(&[first.clone(), (30, vec!["1", "2", "3", "4"])]), "before\n1\n2\n3\n4");
        assert_eq!(screen(&[first, (30, vec![])]), "before");
    }

    #[test]
    fn wrapped_lines_are_counted() {
        let mut terminal = terminal(LOOK);
        let lines = |columns: usize| vec![LOOK.line(columns).push(Style::Plain, &"x".repeat(columns))];
        terminal.replacement(&lines(100), 101);
        assert!(terminal.replacement(&lines(30), 31).contains("\u{1b}[4A\r\u{1b}[J"));
        assert!(terminal.replacement(&lines(60), 61).contains("\u{1b}[1A\r\u{1b}[J"));
        terminal.reflows = false;
        assert!(terminal.replacement(&lines(10), 11).contains("\u{1b}[1A\r\u{1b}[J"));
    }
}
