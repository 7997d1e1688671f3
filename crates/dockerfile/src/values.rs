//! Values of options as docker reads them, in Dockerfiles and on command lines.

/// Splits one line of CSV (RFC 4180): fields may be quoted, `""` inside is a quote. Unlike most libraries, it
/// refuses an unclosed quote and text after a closing quote, as Go's `encoding/csv` does.
pub fn csv(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line.trim();
    loop {
        let field;
        if let Some(mut quoted) = rest.strip_prefix('"') {
            let mut text = String::new();
            loop {
                let (part, after) =
                    quoted.split_once('"').ok_or_else(|| format!("no closing quote in {line}"))?;
                text.push_str(part);
                match after.strip_prefix('"') {
                    Some(after) => {
                        text.push('"');
                        quoted = after;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
            field = text;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field = rest[..end].to_string();
            rest = &rest[end..];
        }
        if !field.is_empty() {
            fields.push(field);
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(format!("text behind a quoted field in {line}")),
        }
    }
}

/// `true`, `1`, `t`, ... as Go's `strconv.ParseBool` reads them.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A size such as `64m`, in bytes; binary units as Docker reads them.
pub fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_fields_may_be_quoted() {
        assert_eq!(csv(r#"a=b,"c=d,e","f""g""#).expect("valid"), ["a=b", "c=d,e", "f\"g"]);
        assert!(csv(r#""a"#).is_err() && csv(r#""a"b"#).is_err());
    }
}
