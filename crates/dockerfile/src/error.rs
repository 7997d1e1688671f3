//! Errors that point at lines of the Dockerfile.

use std::fmt::Write as _;

use strsim::osa_distance;

/// A range of lines, both ends included, counted from 1. Line 0 stands for the whole file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lines {
    /// First line.
    pub start: usize,
    /// Last line.
    pub end: usize,
}

/// What is wrong with a Dockerfile, and on which lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What happened and what to do, without the place.
    pub message: String,
    /// The lines that are wrong.
    pub lines: Lines,
}

impl Error {
    /// An error at `lines`.
    pub fn new(message: impl Into<String>, lines: Lines) -> Error {
        Error { message: message.into(), lines }
    }
}

/// The lines of `source` around `lines`, numbered, with `lines` marked by `>>>`, as BuildKit prints them.
///
/// `context` is the number of lines before and after. Empty if the range lies outside the text.
pub fn excerpt(file: &str, source: &str, lines: Lines, context: usize) -> String {
    excerpt_of(file, &source.lines().collect::<Vec<_>>(), lines, context)
}

/// The most lines of one excerpt, context included: an instruction may have a million.
const EXCERPT_LINES_MAX: usize = 50;

/// Like [`excerpt`], for a text that is already split into lines: for callers that show many excerpts.
pub fn excerpt_of(file: &str, all: &[&str], lines: Lines, context: usize) -> String {
    if lines.start == 0 || lines.start > all.len() {
        return String::new();
    }
    let first = lines.start.saturating_sub(context).max(1);
    let last = (lines.end + context).min(all.len());
    let shown = last.min(first + EXCERPT_LINES_MAX - 1);
    let mut text = format!("{file}:{}\n--------------------\n", lines.start);
    for number in first..=shown {
        let mark = if (lines.start..=lines.end).contains(&number) { ">>>" } else { "   " };
        let line: String =
            all[number - 1].chars().filter(|c| !c.is_control() || *c == '\t').take(400).collect();
        writeln!(text, "{number:4} | {mark} {line}").expect("a String takes all");
    }
    if shown < last {
        writeln!(text, "     |     ({} more lines)", last - shown).expect("a String takes all");
    }
    text.push_str("--------------------");
    text
}

/// The candidate nearest to `word`, if it is near enough to be what was meant (Levenshtein distance at most
/// 2).
///
/// Suggests nothing for a word longer than 64 bytes or more than 1,000 candidates: those are no typing
/// errors.
pub fn suggestion<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    const LENGTH_MAX: usize = 64;
    const CANDIDATES_MAX: usize = 1000;
    if word.len() > LENGTH_MAX || candidates.len() > CANDIDATES_MAX {
        return None;
    }
    candidates
        .iter()
        .filter(|candidate| candidate.len() <= LENGTH_MAX)
        .map(|candidate| (osa_distance(&word.to_ascii_lowercase(), candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// The name nearest to `word` whatever its case, if it is near enough to be what was meant.
pub fn nearest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let lower: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let found = suggestion(word, &lower)?;
    lower.iter().position(|name| *name == found).map(|at| names[at])
}

/// ` (did you mean X?)`, or nothing.
pub(crate) fn did_you_mean(word: &str, candidates: &[&str]) -> String {
    suggestion(word, candidates).map(|c| format!(" (did you mean {c}?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_marks_the_lines() {
        let text = excerpt("Dockerfile", "FROM a\nRUN x \\\n y\nCMD z\n", Lines { start: 2, end: 3 }, 1);
        assert_eq!(
            text,
            "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUN x \\\n   3 | >>>  y\n   4 |     CMD z\n--------------------"
        );
        assert_eq!(excerpt("f", "a\n", Lines { start: 9, end: 9 }, 2), "");
        let long = excerpt("f", &"a\n".repeat(1000), Lines { start: 2, end: 900 }, 1);
        assert!(long.lines().count() < 60 && long.contains("(851 more lines)"), "{long}");
    }

    #[test]
    fn near_words_are_suggested() {
        assert_eq!(suggestion("FORM", &["from", "run"]), Some("from"));
        // Two swapped letters are one mistake; "env" is two mistakes away.
        assert_eq!(suggestion("RNU", &["env", "run"]), Some("run"));
        assert_eq!(suggestion("targt", &["target", "type"]), Some("target"));
        assert_eq!(suggestion("xyz", &["from", "run"]), None);
        let long = "x".repeat(1_000_000);
        assert_eq!(suggestion(&long, &[&long]), None);
    }
}
