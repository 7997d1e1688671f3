//! Text to nodes: parser directives, comments, continued lines, heredocs, flags, and the argument form of
//! each instruction. The result agrees with BuildKit's parser, node by node.

use std::fmt::Write as _;

use crate::error::{Error, Lines, did_you_mean};
use crate::shell::{Budget, Lexer};

/// Dockerfiles larger than this, in bytes, are refused.
pub const SIZE_MAX: usize = 16 * 1024 * 1024;

/// Names of the 18 instructions in lower case.
pub const INSTRUCTIONS: [&str; 18] = [
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// `# name=value` comments at the head of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// `syntax`: the frontend asked for; only recorded, since this builder has just one.
    pub syntax: Option<String>,
    /// `escape`: `\` or a backtick.
    pub escape: char,
    /// `check`: options of the build checks.
    pub check: Option<String>,
}

/// A heredoc: `<<EOF` and the lines up to `EOF`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, unquoted.
    pub name: String,
    /// Content, line ends included, tabs not yet removed.
    pub content: String,
    /// Whether variables are expanded: the delimiter was not quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are removed.
    pub chomp: bool,
}

impl Heredoc {
    /// The content with leading tabs removed where `<<-` asks for it.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// How the arguments of an instruction were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON array of strings.
    Json,
    /// Anything else.
    Plain,
}

/// One instruction as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name as written.
    pub name: String,
    /// Words that begin with `--`, before the arguments.
    pub flags: Vec<String>,
    /// Arguments. ENV and LABEL have triples: name, value, and `=` or an empty string.
    pub args: Vec<String>,
    /// JSON or not.
    pub form: Form,
    /// The instruction inside ONBUILD.
    pub child: Option<Box<Node>>,
    /// Heredocs in order.
    pub heredocs: Vec<Heredoc>,
    /// The whole instruction on one line, continuation removed.
    pub original: String,
    /// Its lines in the file.
    pub lines: Lines,
    /// Comment lines directly above.
    pub comments: Vec<String>,
}

impl Node {
    /// The name in lower case.
    pub fn keyword(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// The node as BuildKit's parser tests print it.
    pub fn dump(&self) -> String {
        let mut text = self.keyword();
        if !self.flags.is_empty() {
            let flags: Vec<String> = self.flags.iter().map(|f| quote(f)).collect();
            write!(text, " [{}]", flags.join(" ")).expect("a String takes all");
        }
        for arg in &self.args {
            write!(text, " {}", quote(arg)).expect("a String takes all");
        }
        if let Some(child) = &self.child {
            write!(text, " ({})", child.dump()).expect("a String takes all");
        }
        text
    }
}

/// The parsed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Directives at the head.
    pub directives: Directives,
    /// Instructions in order.
    pub nodes: Vec<Node>,
    /// Lines of continued instructions that contain an empty line, which BuildKit warns about.
    pub empty_continuations: Vec<Lines>,
}

/// Parses a Dockerfile.
///
/// A byte that is not UTF-8 becomes U+FFFD, as it does in the JSON in which BuildKit and buildah hand
/// commands and configurations on. Where they would keep it, in COPY, ADD and scripts with `#!`, it is an
/// error.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Error> {
    if bytes.len() > SIZE_MAX {
        let message = format!("the Dockerfile is {} bytes long, the limit is {SIZE_MAX}", bytes.len());
        return Err(Error::new(message, Lines::default()));
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (directives, head) = directives(&lines)?;
    // Directives are no comments about the first instruction.
    let mut parser = Parser { lines, at: head, escape: directives.escape, empty_continuations: Vec::new() };
    let mut nodes = Vec::new();
    while let Some(node) = parser.instruction()? {
        nodes.push(node);
    }
    if std::str::from_utf8(bytes).is_err() {
        refuse_replaced_bytes(bytes, &nodes)?;
    }
    if nodes.is_empty() {
        return Err(Error::new("file with no instructions", Lines::default()));
    }
    Ok(Parsed { directives, nodes, empty_continuations: parser.empty_continuations })
}

/// Refuses a Dockerfile with bytes that are not UTF-8 in names or content of files, which would be others.
fn refuse_replaced_bytes(bytes: &[u8], nodes: &[Node]) -> Result<(), Error> {
    let is_replaced = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    for node in nodes {
        let instruction = node.child.as_deref().unwrap_or(node);
        let makes_files = matches!(instruction.keyword().as_str(), "add" | "copy");
        let mut heredocs = instruction.heredocs.iter();
        let is_changed = (makes_files && is_replaced(&node.original))
            || heredocs
                .any(|one| (makes_files || one.content.starts_with("#!")) && is_replaced(&one.content));
        let all = node.lines.start..=node.lines.end;
        let mut all = all.filter(|line| lines.get(line - 1).is_some_and(|l| std::str::from_utf8(l).is_err()));
        if let Some(line) = all.next().filter(|_| is_changed) {
            let message = format!(
                "a byte that is not UTF-8 cannot be kept in {}: save the Dockerfile as UTF-8",
                instruction.keyword().to_ascii_uppercase()
            );
            return Err(Error::new(message, Lines { start: line, end: line }));
        }
    }
    Ok(())
}

/// The image that `# syntax=` names, and its line; nothing if the text cannot be read.
pub fn syntax(bytes: &[u8]) -> Option<(String, Lines)> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let image = directives(&lines).ok()?.0.syntax?;
    let is_it = |line: &str| {
        let comment = line.trim().strip_prefix('#').map(str::trim_start);
        comment.is_some_and(|comment| comment.to_ascii_lowercase().starts_with("syntax"))
    };
    let line = lines.iter().position(|line| is_it(line))? + 1;
    Some((image, Lines { start: line, end: line }))
}

/// The frontend that a Dockerfile is written for, if it is none for Dockerfiles, and the line that names it:
/// `given` (the build argument `BUILDKIT_SYNTAX`) or `# syntax=`.
pub fn other_frontend(bytes: &[u8], given: Option<&str>) -> Option<(String, Option<Lines>)> {
    let (image, lines) = match given.filter(|given| !given.is_empty()) {
        Some(given) => (given.to_string(), None),
        None => syntax(bytes).map(|(image, lines)| (image, Some(lines)))?,
    };
    // The rest may be options of the frontend.
    let name = image.split(['@', ' ']).next().unwrap_or_default();
    let is_of_dockerfiles = name.rsplit('/').next().is_some_and(|name| name.contains("dockerfile"));
    (!is_of_dockerfiles).then_some((image, lines))
}

/// Parses the text of one instruction, as ONBUILD triggers in an image configuration have it.
pub fn parse_trigger(text: &str) -> Result<Node, Error> {
    let lines = Lines { start: 0, end: 0 };
    let (mut node, heredocs) = match text.split_once('\n') {
        Some((first, rest)) => (node_from_line(first, '\\', lines)?, rest),
        None => (node_from_line(text, '\\', lines)?, ""),
    };
    node.original = text.to_string();
    if !heredocs.is_empty() {
        let all: Vec<&str> = heredocs.split_inclusive('\n').collect();
        let mut parser = Parser { lines: all, at: 0, escape: '\\', empty_continuations: Vec::new() };
        parser.heredocs_of(&mut node, 0)?;
    }
    Ok(node)
}

/// The directives, and the number of lines down to the last of them.
fn directives(lines: &[&str]) -> Result<(Directives, usize), Error> {
    let mut found = Directives { syntax: None, escape: '\\', check: None };
    let mut head = 0;
    let mut seen = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(comment) = line.trim().strip_prefix('#') else { break };
        let Some((name, value)) = comment.split_once('=') else { break };
        let name = name.trim().to_ascii_lowercase();
        let is_name = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric());
        if !is_name {
            break;
        }
        let value = value.trim().to_string();
        let at = Lines { start: i + 1, end: i + 1 };
        if matches!(name.as_str(), "syntax" | "escape" | "check") {
            if seen.contains(&name) {
                return Err(Error::new(format!("only one {name} parser directive can be used"), at));
            }
            match (name.as_str(), value.as_str()) {
                ("escape", "\\") => found.escape = '\\',
                ("escape", "`") => found.escape = '`',
                ("escape", _) => {
                    return Err(Error::new(
                        format!("invalid escape token '{value}', it must be ` or \\"),
                        at,
                    ));
                }
                ("syntax", _) => found.syntax = Some(value),
                _ => found.check = Some(value),
            }
            seen.push(name);
            head = i + 1;
        }
    }
    Ok((found, head))
}

struct Parser<'a> {
    /// Lines with their line ends.
    lines: Vec<&'a str>,
    /// Index of the next line.
    at: usize,
    escape: char,
    empty_continuations: Vec<Lines>,
}

impl Parser<'_> {
    fn instruction(&mut self) -> Result<Option<Node>, Error> {
        let mut comments = Vec::new();
        while self.at < self.lines.len() {
            let raw = self.lines[self.at];
            self.at += 1;
            if is_comment(raw) {
                // An empty comment parts what stands before it from the instruction.
                match raw.trim()[1..].trim() {
                    "" => comments.clear(),
                    comment => comments.push(comment.to_string()),
                }
                continue;
            }
            let start = self.at;
            let (mut line, mut continued) = self.continuation(trim_newline(raw).trim_start());
            if line.is_empty() && !continued {
                comments.clear();
                continue;
            }
            let mut has_empty_line = false;
            while continued && self.at < self.lines.len() {
                let raw = self.lines[self.at];
                self.at += 1;
                if is_comment(raw) {
                    continue;
                }
                if raw.trim().is_empty() {
                    has_empty_line = true;
                    continue;
                }
                let (part, more) = self.continuation(trim_newline(raw));
                line.push_str(&part);
                continued = more;
            }
            if line.trim().is_empty() {
                continue;
            }
            let lines = Lines { start, end: self.at };
            if has_empty_line {
                self.empty_continuations.push(lines);
            }
            let mut node = node_from_line(&line, self.escape, lines)?;
            node.comments = comments;
            self.heredocs_of(&mut node, start)?;
            node.lines.end = self.at;
            return Ok(Some(node));
        }
        Ok(None)
    }

    /// The line without its trailing escape character, and whether it had one: an escape character that is
    /// not itself escaped, followed only by blanks.
    fn continuation(&self, line: &str) -> (String, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (rest.to_string(), true),
            _ => (line.to_string(), false),
        }
    }

    fn heredocs_of(&mut self, node: &mut Node, start: usize) -> Result<(), Error> {
        let target = match &node.child {
            Some(child) => child,
            None => &*node,
        };
        let may_have =
            matches!(target.keyword().as_str(), "add" | "copy" | "run") && target.form == Form::Plain;
        if !may_have || !node.original.contains("<<") {
            return Ok(());
        }
        let mut heredocs = Vec::new();
        for (mut heredoc, is_apart) in heredocs_in(&node.original, self.escape) {
            // `$((1 << bits))` is no heredoc: with a blank after `<<`, there must be an end line.
            if is_apart && !self.lines[self.at..].iter().any(|line| is_end(&heredoc, line)) {
                continue;
            }
            let mut terminated = false;
            while self.at < self.lines.len() {
                let raw = self.lines[self.at];
                self.at += 1;
                if is_end(&heredoc, raw) {
                    terminated = true;
                    break;
                }
                heredoc.content.push_str(raw);
            }
            if !terminated {
                let message = format!("unterminated heredoc: no line with only \"{}\" follows", heredoc.name);
                return Err(Error::new(message, Lines { start, end: self.at.max(start) }));
            }
            heredocs.push(heredoc);
        }
        match &mut node.child {
            Some(child) => child.heredocs = heredocs,
            None => node.heredocs = heredocs,
        }
        Ok(())
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn trim_newline(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// The white space that separates a Dockerfile's words.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\x0b' | '\x0c')
}

/// Whether a line ends the heredoc.
fn is_end(heredoc: &Heredoc, line: &str) -> bool {
    let line = trim_newline(line);
    let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
    line == heredoc.name
}

/// The words, with `<<` joined to the name after it where a blank separates them, as in sh; and for each word
/// whether it was joined.
pub(crate) fn joined_heredocs(words: &[String]) -> Vec<(String, bool)> {
    let is_operator = |word: &str| {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
        matches!(rest, "<<" | "<<-")
    };
    let mut joined = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match words.next_if(|_| is_operator(word)) {
            Some(name) => joined.push((format!("{word}{name}"), true)),
            None => joined.push((word.clone(), false)),
        }
    }
    joined
}

/// The heredocs that a logical line announces, without content, each with whether a blank precedes its name.
fn heredocs_in(line: &str, escape: char) -> Vec<(Heredoc, bool)> {
    let lexer = Lexer { escape, raw_quotes: true, raw_escapes: true, skip_unset: true, size_max: SIZE_MAX };
    let Ok(expanded) = lexer.expand(line, &|_: &str| None, &Budget::default()) else { return Vec::new() };
    let words = joined_heredocs(&expanded.words).into_iter();
    words.filter_map(|(word, is_apart)| Some((heredoc_of_word(&word, escape)?, is_apart))).collect()
}

/// Reads `<<NAME`, `<<-NAME`, `3<<"NAME"`.
pub fn heredoc_of_word(word: &str, escape: char) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, chomp) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let lexer = Lexer { escape, raw_quotes: false, raw_escapes: false, skip_unset: true, size_max: SIZE_MAX };
    let words = lexer.expand(rest, &|_: &str| None, &Budget::default()).ok()?.words;
    let [name] = &words[..] else { return None };
    if name.is_empty() {
        return None;
    }
    let quoted = rest.contains(['"', '\'', escape]);
    Some(Heredoc { name: name.clone(), content: String::new(), expand: !quoted, chomp })
}

fn node_from_line(line: &str, escape: char, lines: Lines) -> Result<Node, Error> {
    let trimmed = line.trim();
    let (name, rest) = trimmed.split_once(is_blank).unwrap_or((trimmed, ""));
    let (flags, args) = split_flags(rest.trim_start_matches(is_blank), escape);
    let args = args.trim();
    let mut node = Node {
        name: name.to_string(),
        flags,
        args: Vec::new(),
        form: Form::Plain,
        child: None,
        heredocs: Vec::new(),
        original: line.to_string(),
        lines,
        comments: Vec::new(),
    };
    match node.keyword().as_str() {
        "run" | "cmd" | "entrypoint" | "shell" => maybe_json(&mut node, args, false)?,
        "add" | "copy" | "volume" => maybe_json(&mut node, args, true)?,
        "env" | "label" => node.args = pairs(name, args, escape, lines)?,
        "arg" => node.args = words(args, escape),
        "expose" | "from" => node.args = blank_separated(args),
        "maintainer" | "stopsignal" | "user" | "workdir" => {
            if !args.is_empty() {
                node.args = vec![args.to_string()];
            }
        }
        "healthcheck" => {
            if !args.is_empty() {
                let (kind, command) = args.split_once(is_blank).unwrap_or((args, ""));
                maybe_json(&mut node, command.trim(), false)?;
                node.args.insert(0, kind.to_string());
            }
        }
        "onbuild" => {
            if !args.is_empty() {
                let nested = args.split(is_blank).next().unwrap_or_default();
                if nested.eq_ignore_ascii_case("onbuild") {
                    return Err(Error::new("ONBUILD ONBUILD is not allowed", lines));
                }
                node.child = Some(Box::new(node_from_line(args, escape, lines)?));
            }
        }
        unknown => {
            let hint =
                did_you_mean(unknown, &INSTRUCTIONS).to_uppercase().replace("(DID YOU MEAN", "(did you mean");
            let shown: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
            return Err(Error::new(format!("unknown instruction: {shown}{hint}"), lines));
        }
    }
    Ok(node)
}

/// Splits off the leading words that begin with `--`; a lone `--` ends them. Quotes are removed from flags.
fn split_flags(line: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line.trim_start();
    while rest.starts_with("--") {
        let mut word = String::new();
        let mut end = rest.len();
        let mut quote: Option<char> = None;
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match quote {
                None if c.is_whitespace() => {
                    end = at;
                    break;
                }
                None if c == '\'' || c == '"' => quote = Some(c),
                Some(q) if c == q => quote = None,
                _ if c == escape => {
                    if let Some((_, escaped)) = chars.next() {
                        word.push(escaped);
                    }
                }
                _ => word.push(c),
            }
        }
        rest = rest[end..].trim_start();
        if word == "--" {
            break;
        }
        flags.push(word);
    }
    (flags, rest)
}

/// Takes the arguments from a JSON array of strings, or from the text: as one argument, or split at blanks if
/// `split`.
fn maybe_json(node: &mut Node, args: &str, split: bool) -> Result<(), Error> {
    if args.is_empty() {
        return Ok(());
    }
    if args.starts_with('[')
        && let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(args)
    {
        node.form = Form::Json;
        for value in values {
            let serde_json::Value::String(text) = value else {
                let message = "when using JSON array syntax, arrays must be comprised of strings only";
                return Err(Error::new(message, node.lines));
            };
            node.args.push(text);
        }
        return Ok(());
    }
    node.args = if split { blank_separated(args) } else { vec![args.to_string()] };
    Ok(())
}

fn blank_separated(args: &str) -> Vec<String> {
    args.split(is_blank).filter(|word| !word.is_empty()).map(str::to_string).collect()
}

/// `name=value ...`, or the old `name value` where the first word has no `=`.
fn pairs(instruction: &str, args: &str, escape: char, lines: Lines) -> Result<Vec<String>, Error> {
    let words = words(args, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let Some((name, value)) = args.split_once(is_blank) else {
            let message = format!("{} must have two arguments", instruction.to_uppercase());
            return Err(Error::new(message, lines));
        };
        return Ok(vec![name.to_string(), value.trim_start_matches(is_blank).to_string(), String::new()]);
    }
    let mut out = Vec::new();
    for word in &words {
        let Some((name, value)) = word.split_once('=') else {
            let message =
                format!("syntax error - can't find = in \"{word}\". Must be of the form: name=value");
            return Err(Error::new(message, lines));
        };
        out.extend([name.to_string(), value.to_string(), "=".to_string()]);
    }
    Ok(out)
}

/// Splits at unquoted white space and keeps quotes and escapes.
fn words(line: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut in_word = false;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if in_word {
                    words.push(std::mem::take(&mut word));
                    in_word = false;
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ => {}
        }
        in_word = true;
        // Nothing can be escaped between single quotes. An escape character at the very end is dropped.
        if c == escape && quote != Some('\'') {
            if let Some(escaped) = chars.next() {
                word.push(c);
                word.push(escaped);
            }
            continue;
        }
        word.push(c);
    }
    if in_word {
        words.push(word);
    }
    words
}

/// A string in Go's double-quoted form, for [`Node::dump`].
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                write!(out, "\\x{:02x}", c as u32).expect("a String takes all");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(text: &str) -> Vec<String> {
        parse(text.as_bytes()).expect("valid").nodes.iter().map(Node::dump).collect()
    }

    #[test]
    fn continued_lines_skip_comments_and_empty_lines() {
        let text = "FROM a\nRUN x \\\n# no\n\n  y \\\\\nRUN z";
        assert_eq!(dump(text), [r#"from "a""#, r#"run "x   y \\\\""#, r#"run "z""#]);
        let parsed = parse(text.as_bytes()).expect("valid");
        assert_eq!(parsed.nodes[1].lines, Lines { start: 2, end: 5 });
        assert_eq!(parsed.empty_continuations.len(), 1);
    }

    #[test]
    fn heredocs_take_their_lines() {
        let text = "FROM a\nRUN <<EOF\n echo $x\nEOF\nCOPY <<-'A' <<B /d/\n\tone\n\tA\ntwo\nB\nCMD x\n";
        let parsed = parse(text.as_bytes()).expect("valid");
        assert_eq!(parsed.nodes.len(), 4);
        assert_eq!(parsed.nodes[1].heredocs[0].content, " echo $x\n");
        let [a, b] = &parsed.nodes[2].heredocs[..] else { panic!("two heredocs were written") };
        assert_eq!((a.text().as_str(), a.expand, a.chomp), ("one\n", false, true));
        assert_eq!((b.text().as_str(), b.expand, b.chomp), ("two\n", true, false));
        assert_eq!(parsed.nodes[2].lines, Lines { start: 5, end: 9 });
        let error = parse(b"FROM a\nRUN <<EOF\nx\n").expect_err("no end");
        assert!(error.message.contains("EOF") && error.lines.start == 2, "{error:?}");
    }

    #[test]
    fn directives_come_first_and_once() {
        let parsed = parse(b"# syntax=docker/dockerfile:1\n# ESCAPE=`\n# check=skip=all\nFROM `\n a\n")
            .expect("valid");
        assert_eq!(parsed.directives.escape, '`');
        assert_eq!(parsed.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(parsed.nodes[0].comments, [""; 0], "directives are no comments");
        let found = syntax(b"# check=skip=all\n#syntax = a/b\nFROM a\n").expect("named");
        assert_eq!(found, ("a/b".to_string(), Lines { start: 2, end: 2 }));
        assert_eq!(syntax(b"FROM a\n# syntax=b\n"), None);
        let other =
            |text: &[u8], given| other_frontend(text, given).map(|(name, lines)| (name, lines.is_some()));
        assert_eq!(other(b"# syntax=foo/bar:1\n", None), Some(("foo/bar:1".to_string(), true)));
        assert_eq!(other(b"# syntax=foo/bar:1\n", Some("docker/dockerfile:1.7@sha256:0")), None);
        assert_eq!(
            other(b"# syntax=docker/dockerfile:1\n", Some("foo/bar")),
            Some(("foo/bar".to_string(), false))
        );
        assert_eq!(other(b"# syntax=docker.io/docker/dockerfile-upstream:master\n", Some("")), None);
        assert_eq!(parsed.nodes[0].args, ["a"]);
        assert!(parse(b"# escape=`\n# escape=`\nFROM a").is_err());
        assert!(parse(b"# escape=x\nFROM a").is_err());
        assert_eq!(parse(b"\n# escape=`\nFROM a").expect("valid").directives.escape, '\\');
    }

    #[test]
    fn mistakes_are_named() {
        let error = parse(b"FROM a\n\nCPOY a b\n").expect_err("unknown");
        assert_eq!(error.message, "unknown instruction: CPOY (did you mean COPY?)");
        assert_eq!(error.lines, Lines { start: 3, end: 3 });
        assert!(parse(b"FROM a\nENV A=b c\n").expect_err("no =").message.contains("can't find ="));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_unless_files_would_be_others() {
        let text = b"# M\xfcller\nFROM a\nLABEL by=M\xfcller\nRUN echo \\\n# \xfc\n M\xfc\nRUN <<E\n\xfc\nE\nCOPY a \\\n# \xfc\n b\n";
        let parsed = parse(text).expect("read");
        assert_eq!(parsed.nodes[1].args[1], "M\u{fffd}ller");
        assert_eq!(parsed.nodes[2].args, ["echo  M\u{fffd}"]);
        assert_eq!(syntax(b"#syntax=x\n# \xfc\n").expect("named").0, "x");
        for (text, line) in [
            (&b"FROM a\nCOPY \\\n# \xfc\n\xfc /\n"[..], 3),
            (b"FROM a\n# \xfc\nCOPY <<E /x\na\n\xfc\nE\n", 5),
            (b"FROM a\nRUN <<E\n#!/bin/sh\necho \xfc\nE\n", 4),
            (b"FROM a\nONBUILD ADD \xfc /\n", 2),
        ] {
            let error = parse(text).expect_err("a file would be another");
            assert_eq!((error.lines.start, error.message.contains("not UTF-8")), (line, true), "{error}");
        }
    }
}
