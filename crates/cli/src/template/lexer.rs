//! The words of a template (Go's package text/template, section "Actions" and following).

use anyhow::{Result, bail};

use super::value::Value;

/// Text, or what is between `{{` and `}}`.
pub enum Part<'t> {
    Text(&'t str),
    Action(Vec<Word>, &'t str),
}

impl Part<'_> {
    pub fn shown(&self) -> String {
        match self {
            Part::Text(text) => format!("{text:?}"),
            Part::Action(_, source) => format!("{{{{{source}}}}}"),
        }
    }
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// Between words; `.A .B` are two, `.A.B` is one path.
    Space,
    Dot,
    /// `.A`
    Field(String),
    /// `$name`; the name is empty for `$`.
    Variable(String),
    Constant(Value),
    /// A function or keyword.
    Name(String),
    Pipe,
    Open,
    Close,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

impl Word {
    pub fn shown(&self) -> String {
        match self {
            Word::Space => " ".to_string(),
            Word::Dot => ".".to_string(),
            Word::Field(name) => format!(".{name}"),
            Word::Variable(name) => format!("${name}"),
            Word::Constant(value) => value.printed(),
            Word::Name(name) => name.clone(),
            Word::Pipe => "|".to_string(),
            Word::Open => "(".to_string(),
            Word::Close => ")".to_string(),
            Word::Comma => ",".to_string(),
            Word::Declare => ":=".to_string(),
            Word::Assign => "=".to_string(),
        }
    }
}

/// What Go takes for space.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

pub fn parts(template: &str) -> Result<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = template;
    let mut trim = false;
    while let Some(start) = rest.find("{{") {
        let inside = &rest[start + 2..];
        let Some(end) = end_of_action(inside) else { bail!("no }}}} after {{{{{inside}") };
        let (text, mut action) = (&rest[..start], &inside[..end]);
        let text = if trim { text.trim_start_matches(SPACE) } else { text };
        let before = action.strip_prefix('-').filter(|rest| rest.starts_with(SPACE));
        parts.push(Part::Text(if before.is_some() { text.trim_end_matches(SPACE) } else { text }));
        action = before.unwrap_or(action);
        let after = action.strip_suffix('-').filter(|rest| rest.ends_with(SPACE));
        trim = after.is_some();
        action = after.unwrap_or(action);
        let source = action.trim_matches(SPACE);
        match source.starts_with("/*") {
            true if source.len() < 4 || !source.ends_with("*/") => {
                bail!("{{{{{source}}}}}: a comment stands alone")
            }
            true => {}
            false => parts.push(Part::Action(words(source)?, source)),
        }
        rest = &inside[end + 2..];
    }
    parts.push(Part::Text(if trim { rest.trim_start_matches(SPACE) } else { rest }));
    Ok(parts)
}

/// Where `}}` is, outside of quoted text and comments.
fn end_of_action(text: &str) -> Option<usize> {
    let start = text.strip_prefix('-').unwrap_or(text).trim_start_matches(SPACE);
    if start.starts_with("/*") {
        let comment = text.len() - start.len() + start.find("*/")?;
        return Some(comment + text[comment..].find("}}")?);
    }
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
            None if text[i..].starts_with("}}") => return Some(i),
            None => {}
        }
    }
    None
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(action: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = action;
    while let Some(c) = rest.chars().next() {
        let name_end = |text: &str| text.find(|c: char| !is_of_name(c)).unwrap_or(text.len());
        let mut is_closed = false;
        let length;
        match c {
            c if SPACE.contains(&c) => {
                length = rest.len() - rest.trim_start_matches(SPACE).len();
                words.push(Word::Space);
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                length = 1 + name_end(&rest[1..]);
                words.push(match &rest[1..length] {
                    "" => Word::Dot,
                    name => Word::Field(name.to_string()),
                });
                is_closed = true;
            }
            '$' => {
                length = 1 + name_end(&rest[1..]);
                words.push(Word::Variable(rest[1..length].to_string()));
                is_closed = true;
            }
            '"' | '\'' => {
                let (text, end) = quoted(rest)?;
                length = end;
                words.push(Word::Constant(match c {
                    '"' => Value::Text(text),
                    _ => {
                        let mut chars = text.chars();
                        let (Some(one), None) = (chars.next(), chars.next()) else {
                            bail!("{} is not one character", &rest[..length])
                        };
                        Value::Int(i64::from(u32::from(one)))
                    }
                }));
            }
            '`' => {
                let Some(end) = rest[1..].find('`') else { bail!("no end of {rest}") };
                words.push(Word::Constant(Value::text(&rest[1..=end])));
                length = end + 2;
            }
            '0'..='9' | '-' | '+' | '.' => {
                let end = |text: &str| {
                    let mut before = ' ';
                    let is_end = |c: char| {
                        let is_sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E' | 'p' | 'P');
                        before = c;
                        !(is_of_name(c) || c == '.' || is_sign)
                    };
                    text.find(is_end).unwrap_or(text.len())
                };
                length = 1 + end(&rest[1..]);
                let Some(number) = number(&rest[..length]) else { bail!("bad number {}", &rest[..length]) };
                words.push(Word::Constant(number));
                is_closed = true;
            }
            '|' | '(' | ')' | ',' | '=' => {
                length = 1;
                words.push(match c {
                    '|' => Word::Pipe,
                    '(' => Word::Open,
                    ')' => Word::Close,
                    '=' => Word::Assign,
                    _ => Word::Comma,
                });
            }
            ':' if rest.starts_with(":=") => {
                length = 2;
                words.push(Word::Declare);
            }
            c if is_of_name(c) => {
                length = name_end(rest);
                words.push(match &rest[..length] {
                    "true" => Word::Constant(Value::Bool(true)),
                    "false" => Word::Constant(Value::Bool(false)),
                    name => Word::Name(name.to_string()),
                });
                is_closed = true;
            }
            c => bail!("unexpected {c:?} in {{{{{action}}}}}"),
        }
        rest = &rest[length..];
        let next = rest.chars().next();
        if let (true, Some(next)) = (is_closed, next)
            && !SPACE.contains(&next)
            && !matches!(next, '.' | ',' | '|' | ':' | '=' | '(' | ')')
        {
            bail!("unexpected {next:?} in {{{{{action}}}}}");
        }
    }
    Ok(words)
}

/// A quoted text at the start of `text`, and where it ends.
fn quoted(text: &str) -> Result<(String, usize)> {
    let mut bytes = Vec::new();
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, c)| c);
    let wrong = || anyhow::anyhow!("bad text {text}");
    while let Some((i, c)) = chars.next() {
        if Some(c) == quote {
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), i + 1));
        }
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let (at, escaped) = chars.next().ok_or_else(wrong)?;
        // Digits follow: how many, of which base, and from where on.
        let (base, digits, from) = match escaped {
            'a' => (0, 7, 0),
            'b' => (0, 8, 0),
            'f' => (0, 12, 0),
            'n' => (0, 10, 0),
            'r' => (0, 13, 0),
            't' => (0, 9, 0),
            'v' => (0, 11, 0),
            '\\' | '"' | '\'' => (0, escaped as usize, 0),
            'x' => (16, 2, at + 1),
            'u' => (16, 4, at + 1),
            'U' => (16, 8, at + 1),
            '0'..='7' => (8, 3, at),
            _ => return Err(wrong()),
        };
        if base == 0 {
            bytes.push(digits as u8);
            continue;
        }
        let digits = text.get(from..from + digits).ok_or_else(wrong)?;
        let is_number = digits.chars().all(|c| c.is_digit(base));
        let code = u32::from_str_radix(digits, base).ok().filter(|_| is_number).ok_or_else(wrong)?;
        match escaped {
            'u' | 'U' => {
                let c = char::from_u32(code).ok_or_else(wrong)?;
                bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => bytes.push(u8::try_from(code).map_err(|_| wrong())?),
        }
        let skipped = digits.len() - usize::from(base == 8);
        (0..skipped).for_each(|_| {
            chars.next();
        });
    }
    bail!("bad text {text}")
}

/// A number as Go writes it.
fn number(text: &str) -> Option<Value> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (if text.starts_with('-') { -1 } else { 1 }, digits),
        None => (1, text),
    };
    let (base, digits) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) => {
            (8, &digits[1..])
        }
        _ => (10, digits),
    };
    let plain = digits.replace('_', "");
    if plain.is_empty() || plain.starts_with(['+', '-']) {
        return None;
    }
    if let Ok(number) = i128::from_str_radix(&plain, base) {
        return i64::try_from(sign * number).ok().map(Value::Int);
    }
    let is_fraction = base == 10 && plain.contains(['.', 'e', 'E']) && plain.bytes().all(|b| b != b'i');
    let number = plain.parse::<f64>().ok().filter(|number| is_fraction && number.is_finite())?;
    Some(Value::Float(f64::from(sign as i32) * number))
}
