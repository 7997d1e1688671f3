//! Functions of times: `formatdate` and `timeadd` (go-cty's cty/function/stdlib; RFC 3339).

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::Offset;
use serde_json::Value;

use crate::value::text;

/// A time at a place with an offset from UTC.
struct Time {
    there: DateTime,
    offset: Offset,
}

/// Reads a time of RFC 3339, in its own offset.
fn time(value: &Value) -> Result<Time, String> {
    let given = text(value)?;
    let wrong = || format!("\"{given}\" is no time such as 2006-01-02T15:04:05Z");
    let spelled = given.strip_suffix('Z').map_or(given.clone(), |rest| format!("{rest}+00:00"));
    let parsed = BrokenDownTime::parse("%Y-%m-%dT%H:%M:%S%.f%:z", &spelled).map_err(|_| wrong())?;
    let offset = parsed.offset().ok_or_else(wrong)?;
    let there = parsed.to_datetime().map_err(|_| wrong())?;
    Ok(Time { there, offset })
}

/// `timeadd(time, duration)`.
pub fn add(arguments: &[Value]) -> Result<Value, String> {
    let [at, duration] = arguments else { return Err("it needs a time and a duration".to_string()) };
    let (at, duration): (Time, String) = (time(at)?, text(duration)?);
    let nanoseconds = crossdock_dockerfile::instruction::duration_ns(&duration)
        .ok_or_else(|| format!("\"{duration}\" is no duration such as 1h30m"))?;
    let after = at.there.checked_add(SignedDuration::from_nanos(nanoseconds));
    let after = after.map_err(|_| "the result is no time of the years that are known".to_string())?;
    Ok(Value::from(format!("{}{}", after.strftime("%Y-%m-%dT%H:%M:%S"), zone(at.offset, true))))
}

/// `+01:00`, or `Z` where there is no difference and `short` is asked for.
fn zone(offset: Offset, short: bool) -> String {
    let seconds = offset.seconds();
    if short && seconds == 0 {
        return "Z".to_string();
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// `formatdate(format, time)`.
pub fn format(arguments: &[Value]) -> Result<Value, String> {
    let [format, at] = arguments else { return Err("it needs a format and a time".to_string()) };
    let (format, at) = (text(format)?, time(at)?);
    let mut result = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next() {
                    // Two quotes are one.
                    Some('\'') if chars.peek() == Some(&'\'') => {
                        result.push('\'');
                        chars.next();
                    }
                    Some('\'') => break,
                    Some(other) => result.push(other),
                    None => return Err("a quote has no end".to_string()),
                }
            },
            c if c.is_ascii_alphabetic() => {
                let mut verb = c.to_string();
                while chars.next_if_eq(&c).is_some() {
                    verb.push(c);
                }
                result.push_str(&part(&verb, &at)?);
            }
            c => result.push(c),
        }
    }
    Ok(Value::from(result))
}

/// What a run of a letter stands for.
fn part(verb: &str, at: &Time) -> Result<String, String> {
    let directive = match verb {
        "YY" => "%y",
        "YYYY" => "%Y",
        "M" => "%-m",
        "MM" => "%m",
        "MMM" => "%b",
        "MMMM" => "%B",
        "D" => "%-d",
        "DD" => "%d",
        "EEE" => "%a",
        "EEEE" => "%A",
        "h" => "%-H",
        "hh" => "%H",
        "H" => "%-I",
        "HH" => "%I",
        "AA" => "%p",
        "aa" => "%P",
        "m" => "%-M",
        "mm" => "%M",
        "s" => "%-S",
        "ss" => "%S",
        "Z" => return Ok(zone(at.offset, true)),
        "ZZZ" if at.offset.seconds() == 0 => return Ok("UTC".to_string()),
        "ZZZ" | "ZZZZ" => return Ok(zone(at.offset, false).replace(':', "")),
        "ZZZZZ" => return Ok(zone(at.offset, false)),
        other => return Err(format!("\"{other}\" stands for nothing: put words in single quotes")),
    };
    Ok(at.there.strftime(directive).to_string())
}
