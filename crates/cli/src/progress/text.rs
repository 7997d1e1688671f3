//! Text on a terminal: without what moves the cursor, cut by the width that it takes there.

use unicode_width::UnicodeWidthStr;

/// A line that stays on one row and changes nothing else: escape sequences and control characters are removed
/// (ECMA-48), a tab is a space, and so are characters that change the direction of what follows.
pub fn clean(line: &str) -> String {
    let stripped = anstream::adapter::strip_str(line).to_string();
    // A command that writes over its own line: only the last text stays.
    let last = stripped.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or_default();
    let shown = |c: char| match c {
        '\t' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        c if c.is_control() => None,
        c => Some(c),
    };
    last.chars().filter_map(shown).collect()
}

/// Columns that a clean text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text, or as much of it as fits into so many columns with a mark for the missing rest.
pub fn cut<'t>(text: &'t str, columns: usize, mark: &str) -> std::borrow::Cow<'t, str> {
    if width(text) <= columns {
        return text.into();
    }
    let room = columns.saturating_sub(width(mark));
    let mut end = 0;
    // A bound for texts of characters without width, since each beginning is measured.
    for (at, c) in text.char_indices().take(4 * columns) {
        let next = at + c.len_utf8();
        // The whole beginning is measured: some characters change the width of the one before.
        if width(&text[..next]) > room {
            break;
        }
        end = next;
    }
    let mark = if width(mark) <= columns { mark } else { "" };
    format!("{}{mark}", &text[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        for (line, shown) in [
            ("plain", "plain"),
            ("\u{1b}[31mred\u{1b}[0m \u{1b}[2J\u{1b}[10;10Hthere", "red there"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("10%\r20%\r", "20%"),
            ("100%\r   ", "100%"),
            ("a\tb\u{8}c\u{7}", "a bc"),
            ("\u{202e}evil", "evil"),
            ("\u{9b}2Jx\u{85}y", "2Jx y"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
        ] {
            assert_eq!(clean(line), shown, "{line:?}");
        }
    }

    #[test]
    fn texts_are_cut_by_columns() {
        for (text, columns, shown) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
            ("abc", 0, ""),
            ("ab", 1, "…"),
            ("👩‍👩‍👧x", 2, "…"),
        ] {
            let short = cut(text, columns, "…");
            assert_eq!(short, shown, "{text} in {columns}");
            assert!(width(&short) <= columns);
        }
    }
}
