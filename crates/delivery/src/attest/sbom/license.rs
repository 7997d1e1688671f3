//! Licences as SPDX writes them (SPDX 2.3, annex D, "SPDX license expressions").
//!
//! Databases have expressions of SPDX, older names such as `GPLv2+`, and free text. Names that SPDX does not
//! know become references to a text that stands in the document, so that the result is always valid.

use std::collections::BTreeMap;

use ::spdx::{exception_id, license_id};

/// The longest text that is taken for an expression, in bytes.
const EXPRESSION_SIZE_MAX: usize = 1000;
/// What SPDX writes where nothing is said.
pub const NO_ASSERTION: &str = "NOASSERTION";

/// Texts that SPDX does not know, by their identifiers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extracted(pub BTreeMap<String, String>);

/// The word of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word<'a> {
    Open,
    Close,
    And,
    Or,
    With,
    Name(&'a str),
}

impl Extracted {
    /// The expression for what a database says.
    pub fn expression(&mut self, text: &str) -> String {
        let text = text.trim();
        if text.is_empty() {
            return NO_ASSERTION.to_string();
        }
        let words = words(text);
        match text.len() <= EXPRESSION_SIZE_MAX && is_expression(&words) {
            true => self.translated(&words),
            false => self.reference(text),
        }
    }

    /// The expression with known names as SPDX spells them, and references for others.
    fn translated(&mut self, words: &[Word<'_>]) -> String {
        let mut out = String::new();
        for (place, word) in words.iter().enumerate() {
            let text = match word {
                Word::Open => "(".to_string(),
                Word::Close => ")".to_string(),
                Word::And => "AND".to_string(),
                Word::Or => "OR".to_string(),
                Word::With => "WITH".to_string(),
                // The name of an exception comes after WITH; `is_expression` has checked it.
                Word::Name(name) if place > 0 && words[place - 1] == Word::With => name.to_string(),
                Word::Name(name) => self.name(name),
            };
            let is_tight = out.is_empty() || out.ends_with('(') || *word == Word::Close;
            out.push_str(if is_tight { "" } else { " " });
            out.push_str(&text);
        }
        out
    }

    fn name(&mut self, name: &str) -> String {
        let (base, plus) = name.strip_suffix('+').map_or((name, ""), |base| (base, "+"));
        match license_id(base) {
            Some(_) => format!("{base}{plus}"),
            None => self.reference(name),
        }
    }

    /// A reference to a text: `LicenseRef-` and letters, digits, `-` and `.`.
    fn reference(&mut self, text: &str) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let mut id: String = text.chars().map(|c| if is_plain(c) { c } else { '-' }).take(60).collect();
        // Two texts may look the same.
        if !text.chars().all(is_plain) || text.len() > 60 {
            id = format!("{id}-{}", &crossdock_oci::Digest::of(text.as_bytes()).hex()[..8]);
        }
        let id = format!("LicenseRef-{id}");
        self.0.insert(id.clone(), text.to_string());
        id
    }
}

fn words(text: &str) -> Vec<Word<'_>> {
    let mut all = Vec::new();
    for part in text.split_whitespace() {
        let mut rest = part;
        while let Some(more) = rest.strip_prefix('(') {
            all.push(Word::Open);
            rest = more;
        }
        let name = rest.trim_end_matches(')');
        all.extend(match name {
            "" => None,
            "AND" | "and" => Some(Word::And),
            "OR" | "or" => Some(Word::Or),
            "WITH" | "with" => Some(Word::With),
            name => Some(Word::Name(name)),
        });
        all.extend(rest[name.len()..].chars().map(|_| Word::Close));
    }
    all
}

/// Whether the words make an expression: names with `AND` or `OR` between them, parentheses in pairs, and
/// known exceptions.
fn is_expression(words: &[Word<'_>]) -> bool {
    let mut open = 0;
    let mut wants_name = true;
    for (place, word) in words.iter().enumerate() {
        match word {
            Word::Open if wants_name => open += 1,
            Word::Close if !wants_name && open > 0 => open -= 1,
            Word::And | Word::Or if !wants_name => wants_name = true,
            Word::With if !wants_name => {
                let is_of_license = matches!(words[place - 1], Word::Name(name) if is_name(name));
                let exception =
                    matches!(words.get(place + 1), Some(Word::Name(name)) if exception_id(name).is_some());
                if !is_of_license || !exception {
                    return false;
                }
                wants_name = true;
            }
            Word::Name(name) if wants_name && is_name(name) => wants_name = false,
            _ => return false,
        }
    }
    !wants_name && open == 0
}

/// Whether a word may be the name of a licence at all.
fn is_name(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.+".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_kept_and_the_rest_is_referred_to() {
        for (text, expected) in [
            ("MIT", "MIT"),
            (" GPL-2.0-only  AND (MIT or BSD-3-Clause) ", "GPL-2.0-only AND (MIT OR BSD-3-Clause)"),
            (
                "GPL-2.0-or-later WITH Classpath-exception-2.0",
                "GPL-2.0-or-later WITH Classpath-exception-2.0",
            ),
            ("Apache-2.0+", "Apache-2.0+"),
            ("custom AND MIT", "LicenseRef-custom AND MIT"),
            ("", NO_ASSERTION),
        ] {
            assert_eq!(Extracted::default().expression(text), expected, "{text}");
        }
        let mut extracted = Extracted::default();
        let found = extracted.expression("GPLv2+ and MIT");
        assert!(found.starts_with("LicenseRef-GPLv2--") && found.ends_with(" AND MIT"), "{found}");
        assert_eq!(extracted.0.values().collect::<Vec<_>>(), ["GPLv2+"]);
        for text in
            ["MIT AND", "(MIT", "MIT)", "MIT BSD", "see COPYING, or else", "MIT WITH MIT", "WITH", "()"]
        {
            let mut extracted = Extracted::default();
            let id = extracted.expression(text);
            assert!(id.starts_with("LicenseRef-") && !id.contains(' '), "{id}");
            assert_eq!(extracted.0[&id], text);
        }
        let mut extracted = Extracted::default();
        let long = "x".repeat(5000);
        assert!(extracted.expression(&long).len() < 100);
        assert_ne!(extracted.expression("a b"), extracted.expression("a  b"));
    }
}
