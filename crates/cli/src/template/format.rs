//! `printf` of templates: Go's package fmt, section "Printing".

use anyhow::{Result, bail};

use super::value::{Nil, Value, float};

/// The largest width and precision; Go's is a million.
const WIDTH_MAX: usize = 100_000;

/// One verb with its flags, such as `%-10.3s`.
#[derive(Clone, Copy, Default)]
struct Verb {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
    letter: char,
}

/// The operands, and which one is next.
struct Operands<'v> {
    values: &'v [Value],
    next: usize,
    /// `%[2]s` was used, so that it does not matter which operands are left.
    is_reordered: bool,
    /// The `[n]` of this verb names an operand.
    is_good: bool,
}

/// Go's `fmt.Sprintf`. As there, what does not fit together is told in the text.
pub fn sprintf(format: &str, values: &[Value]) -> Result<String> {
    let mut out = String::new();
    let mut operands = Operands { values, next: 0, is_reordered: false, is_good: true };
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        operands.is_good = true;
        rest = one(rest, &mut operands, &mut out)?;
    }
    out.push_str(rest);
    if !operands.is_reordered && operands.next < values.len() {
        let extra = values[operands.next..].iter().map(|value| match value {
            Value::Nil(Nil::Nothing | Nil::Pointer) => "<nil>".to_string(),
            value => format!("{}={}", value.type_name(), value.printed()),
        });
        out.push_str(&format!("%!(EXTRA {})", extra.collect::<Vec<_>>().join(", ")));
    }
    Ok(out)
}

/// Writes what a verb asks for, and returns what follows it.
fn one<'f>(rest: &'f str, operands: &mut Operands<'_>, out: &mut String) -> Result<&'f str> {
    let mut verb = Verb::default();
    let mut rest = rest;
    while let Some(flag) = rest.chars().next().filter(|c| "#0+- ".contains(*c)) {
        match flag {
            '#' => verb.sharp = true,
            '0' => verb.zero = true,
            '+' => verb.plus = true,
            '-' => verb.minus = true,
            _ => verb.space = true,
        }
        rest = &rest[1..];
    }
    let mut has_index;
    (rest, has_index) = operands.index(rest);
    if let Some(after) = rest.strip_prefix('*') {
        rest = after;
        match operands.take().and_then(Value::int) {
            Some(width) if width.unsigned_abs() <= WIDTH_MAX as u64 => {
                verb.minus |= width < 0;
                verb.width = Some(width.unsigned_abs() as usize);
            }
            _ => out.push_str("%!(BADWIDTH)"),
        }
        has_index = false;
    } else {
        (rest, verb.width) = number(rest)?;
        operands.is_good &= !(has_index && verb.width.is_some());
    }
    if let Some(after) = rest.strip_prefix('.') {
        operands.is_good &= !has_index;
        (rest, has_index) = operands.index(after);
        if let Some(after) = rest.strip_prefix('*') {
            rest = after;
            match operands.take().and_then(Value::int) {
                Some(precision @ 0..) if precision as u64 <= WIDTH_MAX as u64 => {
                    verb.precision = Some(precision as usize);
                }
                Some(i64::MIN..0) => {}
                _ => out.push_str("%!(BADPREC)"),
            }
            has_index = false;
        } else {
            let precision;
            (rest, precision) = number(rest)?;
            verb.precision = Some(precision.unwrap_or(0));
        }
    }
    if !has_index {
        (rest, _) = operands.index(rest);
    }
    // A verb that is padded on the right has no zeros on the left.
    verb.zero &= !verb.minus;
    let mut chars = rest.chars();
    let Some(letter) = chars.next() else {
        out.push_str("%!(NOVERB)");
        return Ok("");
    };
    verb.letter = letter;
    if letter == '%' {
        out.push('%');
    } else if !operands.is_good {
        out.push_str(&format!("%!{letter}(BADINDEX)"));
    } else {
        match operands.take() {
            None => out.push_str(&format!("%!{letter}(MISSING)")),
            Some(value) => verb.write(value, out)?,
        }
    }
    Ok(chars.as_str())
}

/// The decimal digits at the start.
fn number(text: &str) -> Result<(&str, Option<usize>)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Ok((rest, None));
    }
    match digits.parse() {
        Ok(number) if number <= WIDTH_MAX => Ok((rest, Some(number))),
        _ => bail!("printf: {digits} is more than {WIDTH_MAX}"),
    }
}

impl<'v> Operands<'v> {
    /// Reads `[n]`, and whether there is one.
    fn index<'f>(&mut self, text: &'f str) -> (&'f str, bool) {
        let Some(inside) = text.strip_prefix('[') else { return (text, false) };
        self.is_reordered = true;
        let Some((digits, rest)) = inside.split_once(']') else {
            self.is_good = false;
            return (inside, false);
        };
        match digits.parse::<usize>() {
            Ok(number) if (1..=self.values.len()).contains(&number) => self.next = number - 1,
            _ => self.is_good = false,
        }
        (rest, true)
    }

    fn take(&mut self) -> Option<&'v Value> {
        let value = self.values.get(self.next);
        self.next += usize::from(value.is_some());
        value
    }
}

impl Verb {
    fn write(&self, value: &Value, out: &mut String) -> Result<()> {
        if self.letter == 'T' {
            self.padded(&value.type_name(), out);
            return Ok(());
        }
        let is_v = self.letter == 'v';
        match value {
            Value::Nil(Nil::Nothing | Nil::Pointer) if is_v => self.padded("<nil>", out),
            Value::Nil(Nil::Nothing | Nil::Pointer) => out.push_str(&format!("%!{}(<nil>)", self.letter)),
            Value::Nil(Nil::List) if is_v && self.sharp => out.push_str("[]string(nil)"),
            Value::Nil(Nil::Map) if is_v && self.sharp => out.push_str("map[string]string(nil)"),
            Value::Nil(Nil::List) => out.push_str("[]"),
            Value::Nil(Nil::Map) => out.push_str("map[]"),
            Value::Bool(truth) => match self.letter {
                't' | 'v' => self.padded(&truth.to_string(), out),
                _ => self.bad(value, out),
            },
            Value::Int(number) | Value::Int64(number) => self.integer(*number, value, out),
            Value::Duration(number) => match self.letter {
                'v' if self.sharp => self.integer(*number, value, out),
                'v' | 's' | 'q' | 'x' | 'X' => self.text(&value.printed(), value, out),
                _ => self.integer(*number, value, out),
            },
            Value::Float(number) => self.fraction(*number, value, out)?,
            Value::Text(text) => self.text(text, value, out),
            Value::List(items) => {
                let (open, between, close) = self.marks(value, ("[", " ", "]"));
                out.push_str(&open);
                for (n, item) in items.iter().enumerate() {
                    out.push_str(if n > 0 { between } else { "" });
                    self.write(item, out)?;
                }
                out.push_str(close);
            }
            Value::Map(map) => {
                let (open, between, close) = self.marks(value, ("map[", " ", "]"));
                out.push_str(&open);
                for (n, (key, item)) in map.iter().enumerate() {
                    out.push_str(if n > 0 { between } else { "" });
                    self.write(&Value::text(key), out)?;
                    out.push(':');
                    self.write(item, out)?;
                }
                out.push_str(close);
            }
            Value::Structure(members) => {
                let (open, between, close) = self.marks(value, ("{", " ", "}"));
                out.push_str(&open);
                for (n, member) in members.iter().filter(|member| !member.is_implied).enumerate() {
                    out.push_str(if n > 0 { between } else { "" });
                    if is_v && (self.plus || self.sharp) {
                        out.push_str(&format!("{}:", member.name));
                    }
                    self.write(&member.value, out)?;
                }
                out.push_str(close);
            }
        }
        Ok(())
    }

    /// What stands around and between values: with `%#v` as in Go's source.
    fn marks(
        &self,
        value: &Value,
        plain: (&str, &'static str, &'static str),
    ) -> (String, &'static str, &'static str) {
        match self.letter == 'v' && self.sharp {
            true => (format!("{}{{", value.type_name()), ", ", "}"),
            false => (plain.0.to_string(), plain.1, plain.2),
        }
    }

    /// The verb is not for such a value.
    fn bad(&self, value: &Value, out: &mut String) {
        out.push_str(&format!("%!{}({}={})", self.letter, value.type_name(), value.printed()));
    }

    fn padded(&self, text: &str, out: &mut String) {
        let fill = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        let with = if self.zero { "0" } else { " " };
        match self.minus {
            true => out.push_str(&(text.to_string() + &" ".repeat(fill))),
            false => out.push_str(&(with.repeat(fill) + text)),
        }
    }

    /// Zeros stand after the sign.
    fn padded_number(&self, sign: &str, digits: &str, out: &mut String) {
        if !self.zero {
            return self.padded(&format!("{sign}{digits}"), out);
        }
        let fill = self.width.unwrap_or(0).saturating_sub(sign.len() + digits.chars().count());
        out.push_str(&format!("{sign}{}{digits}", "0".repeat(fill)));
    }

    fn sign(&self, is_negative: bool) -> &'static str {
        match (is_negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    fn integer(&self, number: i64, value: &Value, out: &mut String) {
        let size = number.unsigned_abs();
        let as_char = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
        let (digits, prefix) = match self.letter {
            'd' | 'v' => (size.to_string(), ""),
            'b' => (format!("{size:b}"), if self.sharp { "0b" } else { "" }),
            'o' => (format!("{size:o}"), if self.sharp { "0" } else { "" }),
            'O' => (format!("{size:o}"), "0o"),
            'x' => (format!("{size:x}"), if self.sharp { "0x" } else { "" }),
            'X' => (format!("{size:X}"), if self.sharp { "0X" } else { "" }),
            'c' => return self.padded(&as_char.to_string(), out),
            'q' => return self.padded(&quoted(&as_char.to_string(), '\'', self.plus), out),
            'U' => {
                let code = format!("U+{size:04X}");
                let shown = if self.sharp { format!("{code} '{as_char}'") } else { code };
                return self.padded(&shown, out);
            }
            _ => return self.bad(value, out),
        };
        let sign = self.sign(number < 0);
        let digits = match self.precision {
            Some(0) if number == 0 => return Verb { zero: false, ..*self }.padded("", out),
            Some(least) => format!("{digits:0>least$}"),
            None => digits,
        };
        // A precision says how many digits there are, so that no zeros are added.
        let verb = Verb { zero: self.zero && self.precision.is_none(), ..*self };
        verb.padded_number(&format!("{sign}{prefix}"), &digits, out);
    }

    fn fraction(&self, number: f64, value: &Value, out: &mut String) -> Result<()> {
        let six = self.precision.or(Some(6));
        let size = number.abs();
        let digits = match self.letter {
            'v' => float(size, 'g', self.precision),
            'e' | 'E' => float(size, 'e', six),
            'f' | 'F' => float(size, 'f', six),
            'g' | 'G' => float(size, 'g', self.precision),
            'b' | 'x' | 'X' => bail!("printf: %{} of a fraction is not supported", self.letter),
            _ => {
                self.bad(value, out);
                return Ok(());
            }
        };
        let digits = if self.letter.is_uppercase() { digits.to_uppercase() } else { digits };
        self.padded_number(self.sign(number < 0.0), &digits, out);
        Ok(())
    }

    fn text(&self, text: &str, value: &Value, out: &mut String) {
        let cut: String = match self.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text.to_string(),
        };
        match self.letter {
            'v' if self.sharp => self.padded(&quoted(&cut, '"', false), out),
            'v' | 's' => self.padded(&cut, out),
            'q' if self.sharp
                && !cut.contains(|c: char| c == '`' || c == '\u{7f}' || (c < ' ' && c != '\t')) =>
            {
                self.padded(&format!("`{cut}`"), out);
            }
            'q' => self.padded(&quoted(&cut, '"', self.plus), out),
            'x' | 'X' => {
                let bytes = &text.as_bytes()[..self.precision.unwrap_or(usize::MAX).min(text.len())];
                let one = |byte: &u8| match self.letter {
                    'x' => format!("{byte:02x}"),
                    _ => format!("{byte:02X}"),
                };
                let prefix = if self.sharp { format!("0{}", self.letter) } else { String::new() };
                let bytes: Vec<String> = bytes.iter().map(one).collect();
                let shown = match (bytes.is_empty(), self.space) {
                    (true, _) => String::new(),
                    (_, true) => {
                        bytes.iter().map(|byte| format!("{prefix}{byte}")).collect::<Vec<_>>().join(" ")
                    }
                    (_, false) => prefix + &bytes.concat(),
                };
                self.padded(&shown, out);
            }
            _ => self.bad(value, out),
        }
    }
}

/// A text as Go's source has it (strconv.Quote); with `ascii` other letters are escaped, too.
fn quoted(text: &str, quote: char, ascii: bool) -> String {
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if c.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if !ascii && is_printable(c) => out.push(c),
            c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push(quote);
    out
}

/// Go's `unicode.IsPrint`, without unassigned characters.
fn is_printable(c: char) -> bool {
    let is_format = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}');
    !(c.is_control() || c.is_whitespace() || is_format)
}
