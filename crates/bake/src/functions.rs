//! Functions of the language: those of go-cty's stdlib and of buildx that definitions use.
//!
//! Sources: buildx's "Standard library functions" (docs/bake-stdlib.md), go-cty's cty/function/stdlib.

use base64::Engine as _;
use crossdock_dockerfile::values::csv;
use md5::Md5;
use serde_json::{Map, Value};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::evaluate::index;
use crate::value::{equal, from_number, kind, list, number, text, truth};
use crate::{cidr, secrets, time};

type Answer = Result<Value, String>;

/// A function: its arguments, and the value.
type Function = fn(&[Value]) -> Answer;

/// Longest text or list that a function makes, in bytes or items.
const LENGTH_MAX: usize = 1 << 24;

/// The function of this name.
pub fn find(name: &str) -> Option<Function> {
    TABLE.binary_search_by_key(&name, |(known, _)| known).ok().map(|at| TABLE[at].1)
}

/// Names, in order, and functions.
const TABLE: &[(&str, Function)] = &[
    ("absolute", |a| one_number(a, f64::abs)),
    ("add", |a| two_numbers(a, |a, b| a + b)),
    ("and", |a| two_truths(a, |a, b| a && b)),
    ("base64decode", base64decode),
    ("base64encode", |a| one_text(a, |t| base64::engine::general_purpose::STANDARD.encode(t))),
    ("basename", |a| one_text(a, |t| basename(t).to_string())),
    ("bcrypt", secrets::bcrypt),
    ("byteslen", |a| take::<1>(a).and_then(|[t]| Ok(Value::from(text(t)?.len())))),
    ("ceil", |a| one_number(a, f64::ceil)),
    ("chomp", |a| one_text(a, |t| t.trim_end_matches(['\r', '\n']).to_string())),
    ("chunklist", chunklist),
    ("cidrhost", cidr::host),
    ("cidrnetmask", cidr::netmask),
    ("cidrsubnet", cidr::subnet),
    ("cidrsubnets", cidr::subnets),
    ("coalesce", coalesce),
    ("coalescelist", |a| {
        let found = a.iter().find(|value| list(value).is_ok_and(|items| !items.is_empty()));
        found.cloned().ok_or_else(|| "no list has items".to_string())
    }),
    ("compact", |a| {
        let [items] = take(a)?;
        let is_empty = |item: &&Value| !matches!(item, Value::Null) && item.as_str() != Some("");
        Ok(Value::Array(list(items)?.iter().filter(is_empty).cloned().collect()))
    }),
    ("concat", |a| {
        let lists = a.iter().map(list).collect::<Result<Vec<_>, _>>()?;
        bounded(Value::Array(lists.into_iter().flatten().cloned().collect()))
    }),
    ("contains", |a| {
        let [items, wanted] = take(a)?;
        Ok(Value::Bool(list(items)?.iter().any(|item| equal(item, wanted))))
    }),
    ("csvdecode", csvdecode),
    ("dirname", |a| one_text(a, |t| dirname(t).to_string())),
    ("distinct", |a| take::<1>(a).and_then(|[items]| Ok(Value::Array(distinct(list(items)?))))),
    ("divide", |a| {
        if a.get(1).is_some_and(|divisor| number(divisor) == Ok(0.0)) {
            return Err("a division by zero".to_string());
        }
        two_numbers(a, |a, b| a / b)
    }),
    ("element", |a| {
        let [items, at] = take(a)?;
        let items = list(items)?;
        if items.is_empty() {
            return Err("the list is empty".to_string());
        }
        Ok(items[(number(at)? as i64).rem_euclid(items.len() as i64) as usize].clone())
    }),
    ("equal", |a| take::<2>(a).map(|[a, b]| Value::Bool(equal(a, b)))),
    ("flatten", |a| {
        let [items] = take(a)?;
        let mut flat = Vec::new();
        flatten(list(items)?, &mut flat, 0)?;
        Ok(Value::Array(flat))
    }),
    ("floor", |a| one_number(a, f64::floor)),
    ("format", |a| {
        let (form, rest) = a.split_first().ok_or("a format is needed")?;
        format(&text(form)?, rest).map(Value::from)
    }),
    ("formatdate", time::format),
    ("formatlist", formatlist),
    ("greaterthan", |a| two_compared(a, |a, b| a > b)),
    ("greaterthanorequalto", |a| two_compared(a, |a, b| a >= b)),
    ("hasindex", |a| take::<2>(a).map(|[collection, key]| Value::Bool(index(collection, key).is_ok()))),
    ("indent", |a| {
        let [spaces, t] = take(a)?;
        let spaces = " ".repeat((number(spaces)?.max(0.0) as usize).min(1000));
        bounded(Value::from(text(t)?.replace('\n', &format!("\n{spaces}"))))
    }),
    ("index", |a| take::<2>(a).and_then(|[collection, key]| index(collection, key))),
    ("indexof", |a| {
        let [items, wanted] = take(a)?;
        let at = list(items)?.iter().position(|item| equal(item, wanted));
        at.map(Value::from).ok_or_else(|| "the list does not have it".to_string())
    }),
    ("int", |a| one_number(a, f64::trunc)),
    ("join", |a| {
        let (separator, lists) = a.split_first().ok_or("a separator is needed")?;
        let mut items = Vec::new();
        for given in lists {
            items.extend(list(given)?.iter().map(text).collect::<Result<Vec<_>, _>>()?);
        }
        bounded(Value::from(items.join(&text(separator)?)))
    }),
    ("jsondecode", |a| {
        let [t] = take(a)?;
        serde_json::from_str(&text(t)?).map_err(|error| error.to_string())
    }),
    ("jsonencode", |a| take::<1>(a).map(|[value]| Value::from(value.to_string()))),
    ("keys", |a| {
        take::<1>(a).and_then(|[map]| Ok(sorted(map)?.into_iter().map(|(key, _)| Value::from(key)).collect()))
    }),
    ("length", |a| {
        let [value] = take(a)?;
        match value {
            Value::Array(items) => Ok(Value::from(items.len())),
            Value::Object(map) => Ok(Value::from(map.len())),
            other => Err(format!("a list or an object is needed, this is {}", kind(other))),
        }
    }),
    ("lessthan", |a| two_compared(a, |a, b| a < b)),
    ("lessthanorequalto", |a| two_compared(a, |a, b| a <= b)),
    ("log", |a| two_numbers(a, f64::log)),
    ("lookup", |a| {
        let [map, key, other] = take(a)?;
        Ok(index(map, key).unwrap_or_else(|_| other.clone()))
    }),
    ("lower", |a| one_text(a, str::to_lowercase)),
    ("max", |a| of_numbers(a, f64::max)),
    ("md5", |a| one_text(a, |t| hex(&Md5::digest(t)))),
    ("merge", |a| {
        let mut all = Map::new();
        for given in a {
            match given {
                Value::Null => {}
                Value::Object(map) => all.extend(map.clone()),
                other => return Err(format!("an object is needed, this is {}", kind(other))),
            }
        }
        Ok(Value::Object(all))
    }),
    ("min", |a| of_numbers(a, f64::min)),
    ("modulo", |a| {
        if a.get(1).is_some_and(|divisor| number(divisor) == Ok(0.0)) {
            return Err("a division by zero".to_string());
        }
        two_numbers(a, |a, b| a % b)
    }),
    ("multiply", |a| two_numbers(a, |a, b| a * b)),
    ("negate", |a| one_number(a, |n| -n)),
    ("not", |a| take::<1>(a).and_then(|[value]| Ok(Value::Bool(!truth(value)?)))),
    ("notequal", |a| take::<2>(a).map(|[a, b]| Value::Bool(!equal(a, b)))),
    ("or", |a| two_truths(a, |a, b| a || b)),
    ("parseint", |a| {
        let [t, base] = take(a)?;
        let (t, base) = (text(t)?, number(base)?);
        if !(2.0..=36.0).contains(&base) {
            return Err(format!("{base} is no base from 2 to 36"));
        }
        let value = i64::from_str_radix(&t, base as u32);
        value.map(Value::from).map_err(|_| format!("\"{t}\" is not a number with base {base}"))
    }),
    ("pow", |a| two_numbers(a, f64::powf)),
    ("range", range),
    ("regex", regex),
    ("regex_replace", |a| {
        let [t, pattern, replacement] = take(a)?;
        let replaced = pattern_of(pattern)?.replace_all(&text(t)?, text(replacement)?).into_owned();
        bounded(Value::from(replaced))
    }),
    ("regexall", |a| {
        let [pattern, t] = take(a)?;
        let (pattern, t) = (pattern_of(pattern)?, text(t)?);
        Ok(Value::Array(pattern.captures_iter(&t).map(|found| captured(&pattern, &found)).collect()))
    }),
    ("replace", |a| {
        let [t, from, to] = take(a)?;
        bounded(Value::from(text(t)?.replace(&text(from)?, &text(to)?)))
    }),
    ("reverse", |a| one_text(a, |t| t.chars().rev().collect())),
    ("reverselist", |a| {
        let [items] = take(a)?;
        Ok(Value::Array(list(items)?.iter().rev().cloned().collect()))
    }),
    ("rsadecrypt", secrets::decrypt),
    ("sanitize", |a| {
        one_text(a, |t| {
            let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
            t.chars().map(plain).collect()
        })
    }),
    ("sethaselement", |a| {
        let [items, wanted] = take(a)?;
        Ok(Value::Bool(list(items)?.iter().any(|item| equal(item, wanted))))
    }),
    ("setintersection", |a| {
        let lists = a.iter().map(list).collect::<Result<Vec<_>, _>>()?;
        let (first, rest) = lists.split_first().ok_or("a list is needed")?;
        let has = |items: &&Vec<Value>, wanted: &Value| items.iter().any(|item| equal(item, wanted));
        let all = first.iter().filter(|item| rest.iter().all(|items| has(items, item)));
        Ok(Value::Array(ordered(distinct(&all.cloned().collect::<Vec<_>>()))))
    }),
    ("setproduct", setproduct),
    ("setsubtract", |a| {
        let [from, what] = take(a)?;
        let (from, what) = (list(from)?, list(what)?);
        let left = from.iter().filter(|item| !what.iter().any(|other| equal(item, other)));
        Ok(Value::Array(ordered(distinct(&left.cloned().collect::<Vec<_>>()))))
    }),
    ("setsymmetricdifference", symmetric_difference),
    ("setunion", |a| {
        let lists = a.iter().map(list).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<Value> = lists.into_iter().flatten().cloned().collect();
        Ok(Value::Array(ordered(distinct(&all))))
    }),
    ("sha1", |a| one_text(a, |t| hex(&Sha1::digest(t)))),
    ("sha256", |a| one_text(a, |t| hex(&Sha256::digest(t)))),
    ("sha512", |a| one_text(a, |t| hex(&Sha512::digest(t)))),
    ("signum", |a| one_number(a, |n| if n == 0.0 { 0.0 } else { n.signum() })),
    ("slice", |a| {
        let [items, from, to] = take(a)?;
        let (items, from, to) = (list(items)?, number(from)?, number(to)?);
        let found = (from >= 0.0 && to >= from).then(|| items.get(from as usize..to as usize)).flatten();
        let found = found.ok_or_else(|| format!("the list has {} items", items.len()))?;
        Ok(Value::Array(found.to_vec()))
    }),
    ("sort", |a| {
        let [items] = take(a)?;
        let mut texts = list(items)?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        texts.sort();
        Ok(texts.into_iter().map(Value::from).collect())
    }),
    ("split", |a| {
        let [separator, t] = take(a)?;
        let (separator, t) = (text(separator)?, text(t)?);
        Ok(match separator.as_str() {
            "" => t.chars().map(|c| Value::from(c.to_string())).collect(),
            separator => t.split(separator).map(Value::from).collect(),
        })
    }),
    ("strlen", |a| take::<1>(a).and_then(|[t]| Ok(Value::from(text(t)?.chars().count())))),
    ("substr", |a| {
        let [t, from, length] = take(a)?;
        let all: Vec<char> = text(t)?.chars().collect();
        let (from, length) = (number(from)?, number(length)?);
        let from = if from < 0.0 { all.len().saturating_sub(-from as usize) } else { from as usize };
        let length = if length < 0.0 { all.len() } else { length as usize };
        Ok(Value::from(all.into_iter().skip(from).take(length).collect::<String>()))
    }),
    ("subtract", |a| two_numbers(a, |a, b| a - b)),
    ("timeadd", time::add),
    ("timestamp", |a| {
        take::<0>(a)?;
        Ok(Value::from(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
    }),
    ("title", |a| {
        one_text(a, |t| {
            let mut is_start = true;
            let change = |c: char| {
                let up = is_start && c.is_alphabetic();
                is_start = !c.is_alphanumeric();
                if up { c.to_uppercase().collect::<String>() } else { c.to_string() }
            };
            t.chars().map(change).collect()
        })
    }),
    ("trim", |a| {
        let [t, cut] = take(a)?;
        let cut: Vec<char> = text(cut)?.chars().collect();
        Ok(Value::from(text(t)?.trim_matches(&cut[..])))
    }),
    ("trimprefix", |a| {
        let [t, prefix] = take(a)?;
        let (t, prefix) = (text(t)?, text(prefix)?);
        Ok(Value::from(t.strip_prefix(&prefix).unwrap_or(&t)))
    }),
    ("trimspace", |a| one_text(a, |t| t.trim().to_string())),
    ("trimsuffix", |a| {
        let [t, suffix] = take(a)?;
        let (t, suffix) = (text(t)?, text(suffix)?);
        Ok(Value::from(t.strip_suffix(&suffix).unwrap_or(&t)))
    }),
    ("upper", |a| one_text(a, str::to_uppercase)),
    ("urlencode", |a| one_text(a, urlencode)),
    ("uuidv4", secrets::uuidv4),
    ("uuidv5", secrets::uuidv5),
    ("values", |a| {
        let [map] = take(a)?;
        Ok(sorted(map)?.into_iter().map(|(_, value)| value).collect())
    }),
    ("zipmap", |a| {
        let [keys, values] = take(a)?;
        let (keys, values) = (list(keys)?, list(values)?);
        if keys.len() != values.len() {
            return Err(format!("there are {} keys and {} values", keys.len(), values.len()));
        }
        let pairs = keys.iter().zip(values).map(|(key, value)| Ok((text(key)?, value.clone())));
        Ok(Value::Object(pairs.collect::<Result<_, String>>()?))
    }),
];

fn take<const N: usize>(arguments: &[Value]) -> Result<[&Value; N], String> {
    let taken: Vec<&Value> = arguments.iter().collect();
    taken.try_into().map_err(|_| format!("it needs {N} arguments, these are {}", arguments.len()))
}

fn bounded(value: Value) -> Answer {
    let length = match &value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    if length > LENGTH_MAX { Err(format!("the result is longer than {LENGTH_MAX}")) } else { Ok(value) }
}

fn one_text(arguments: &[Value], of: impl FnOnce(&str) -> String) -> Answer {
    let [argument] = take(arguments)?;
    bounded(Value::from(of(&text(argument)?)))
}

fn one_number(arguments: &[Value], of: fn(f64) -> f64) -> Answer {
    let [argument] = take(arguments)?;
    from_number(of(number(argument)?))
}

fn two_numbers(arguments: &[Value], of: fn(f64, f64) -> f64) -> Answer {
    let [a, b] = take(arguments)?;
    from_number(of(number(a)?, number(b)?))
}

fn two_compared(arguments: &[Value], of: fn(f64, f64) -> bool) -> Answer {
    let [a, b] = take(arguments)?;
    Ok(Value::Bool(of(number(a)?, number(b)?)))
}

fn two_truths(arguments: &[Value], of: fn(bool, bool) -> bool) -> Answer {
    let [a, b] = take(arguments)?;
    Ok(Value::Bool(of(truth(a)?, truth(b)?)))
}

fn of_numbers(arguments: &[Value], of: fn(f64, f64) -> f64) -> Answer {
    let numbers = arguments.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    from_number(numbers.into_iter().reduce(of).ok_or("a number is needed")?)
}

fn base64decode(arguments: &[Value]) -> Answer {
    let [argument] = take(arguments)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text(argument)?);
    let bytes = bytes.map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map(Value::from).map_err(|_| "the result is not UTF-8".to_string())
}

fn basename(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

fn dirname(path: &str) -> &str {
    match path.rsplit_once('/') {
        None => ".",
        Some(("", _)) => "/",
        Some((directory, _)) => directory,
    }
}

fn chunklist(arguments: &[Value]) -> Answer {
    let [items, size] = take(arguments)?;
    let (items, size) = (list(items)?, number(size)?);
    if size < 0.0 {
        return Err("the size is negative".to_string());
    }
    let size = if size == 0.0 { items.len().max(1) } else { size as usize };
    Ok(items.chunks(size).map(|chunk| Value::Array(chunk.to_vec())).collect())
}

fn coalesce(arguments: &[Value]) -> Answer {
    let found = arguments.iter().find(|value| !value.is_null());
    found.cloned().ok_or_else(|| "all arguments are null".to_string())
}

fn csvdecode(arguments: &[Value]) -> Answer {
    let [argument] = take(arguments)?;
    let given = text(argument)?;
    let mut rows = given.lines().filter(|line| !line.is_empty()).map(csv);
    let heads = rows.next().transpose()?.unwrap_or_default();
    let row = |fields: Result<Vec<String>, String>| {
        let fields = fields?;
        if fields.len() != heads.len() {
            return Err(format!("a row has {} fields, and the first line {}", fields.len(), heads.len()));
        }
        let pairs = heads.iter().cloned().zip(fields.into_iter().map(Value::from));
        Ok(Value::Object(pairs.collect()))
    };
    rows.map(row).collect()
}

fn distinct(items: &[Value]) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for item in items {
        if !all.iter().any(|known| equal(known, item)) {
            all.push(item.clone());
        }
    }
    all
}

/// Sets are in the order of their texts.
fn ordered(mut items: Vec<Value>) -> Vec<Value> {
    items.sort_by_key(|item| text(item).unwrap_or_else(|_| item.to_string()));
    items
}

/// The items that are in an odd number of the sets.
fn symmetric_difference(arguments: &[Value]) -> Answer {
    let mut odd: Vec<Value> = Vec::new();
    for set in arguments {
        for item in distinct(list(set)?) {
            match odd.iter().position(|known| equal(known, &item)) {
                Some(at) => drop(odd.remove(at)),
                None => odd.push(item),
            }
        }
    }
    Ok(Value::Array(ordered(odd)))
}

fn flatten(items: &[Value], flat: &mut Vec<Value>, depth: usize) -> Result<(), String> {
    if depth > 100 {
        return Err("the lists are nested too deeply".to_string());
    }
    for item in items {
        match item {
            Value::Array(inner) => flatten(inner, flat, depth + 1)?,
            other => flat.push(other.clone()),
        }
    }
    Ok(())
}

fn sorted(map: &Value) -> Result<Vec<(String, Value)>, String> {
    let Value::Object(map) = map else { return Err(format!("an object is needed, this is {}", kind(map))) };
    let mut pairs: Vec<_> = map.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(pairs)
}

/// `%s`, `%d`, `%v`, `%q`, `%t`, `%x`, `%f` and their kin, with width and precision, as Go formats them.
fn format(form: &str, arguments: &[Value]) -> Result<String, String> {
    let mut all = String::new();
    let mut arguments = arguments.iter();
    let mut rest = form;
    while let Some(at) = rest.find('%') {
        all.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end =
            rest.find(|c: char| c.is_ascii_alphabetic() || c == '%').ok_or("a verb follows no \"%\"")?;
        let (flags, verb) = (&rest[..end], &rest[end..end + 1]);
        rest = &rest[end + 1..];
        if verb == "%" {
            all.push('%');
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("%{verb} has no argument"))?;
        all.push_str(&formatted(flags, verb, value)?);
        if all.len() > LENGTH_MAX {
            return Err(format!("the result is longer than {LENGTH_MAX}"));
        }
    }
    if arguments.next().is_some() {
        return Err("there are more arguments than verbs".to_string());
    }
    all.push_str(rest);
    Ok(all)
}

fn formatted(flags: &str, verb: &str, value: &Value) -> Result<String, String> {
    let is_left = flags.contains('-');
    let is_zero = flags.trim_start_matches(['-', '+', ' ', '#']).starts_with('0');
    let figures = flags.trim_start_matches(['-', '+', ' ', '#', '0']);
    let (width, precision) = figures.split_once('.').map_or((figures, None), |(w, p)| (w, Some(p)));
    let width = width.parse::<usize>().unwrap_or(0).min(10_000);
    let precision = precision.map(|text| text.parse::<usize>().unwrap_or(0).min(100));
    let integer = || number(value).map(|number| number.trunc() as i64);
    let body = match verb {
        "s" => {
            let whole = text(value)?;
            precision.map_or(whole.clone(), |precision| whole.chars().take(precision).collect())
        }
        "v" => match value {
            Value::Array(_) | Value::Object(_) => value.to_string(),
            Value::Null => "null".to_string(),
            other => text(other)?,
        },
        "q" => Value::from(text(value)?).to_string(),
        "t" => truth(value)?.to_string(),
        "d" => integer()?.to_string(),
        "x" => match value {
            Value::String(text) => hex(text.as_bytes()),
            _ => format!("{:x}", integer()?),
        },
        "X" => format!("{:X}", integer()?),
        "o" => format!("{:o}", integer()?),
        "b" => format!("{:b}", integer()?),
        "f" | "F" => format!("{:.*}", precision.unwrap_or(6), number(value)?),
        "e" | "g" => text(&from_number(number(value)?)?)?,
        other => return Err(format!("%{other} is not known")),
    };
    let missing = width.saturating_sub(body.chars().count());
    Ok(match (is_left, is_zero) {
        (true, _) => body + &" ".repeat(missing),
        (false, true) => "0".repeat(missing) + &body,
        (false, false) => " ".repeat(missing) + &body,
    })
}

fn formatlist(arguments: &[Value]) -> Answer {
    let (form, rest) = arguments.split_first().ok_or("a format is needed")?;
    let form = text(form)?;
    let length = rest.iter().filter_map(|value| value.as_array().map(Vec::len)).max().unwrap_or(1);
    let mut all = Vec::new();
    for at in 0..length {
        let mut row = Vec::new();
        for value in rest {
            row.push(match value {
                Value::Array(items) if items.len() == length => items[at].clone(),
                Value::Array(items) => {
                    return Err(format!("one list has {} items, another {length}", items.len()));
                }
                single => single.clone(),
            });
        }
        all.push(Value::from(format(&form, &row)?));
    }
    Ok(Value::Array(all))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn range(arguments: &[Value]) -> Answer {
    let numbers = arguments.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let (start, end, step) = match numbers[..] {
        [end] => (0.0, end, if end < 0.0 { -1.0 } else { 1.0 }),
        [start, end] => (start, end, if end < start { -1.0 } else { 1.0 }),
        [start, end, step] => (start, end, step),
        _ => return Err("it needs one to three numbers".to_string()),
    };
    if step == 0.0 || (end - start) * step < 0.0 {
        return Err("the step does not lead to the end".to_string());
    }
    // As go-cty's.
    const ITEMS_MAX: usize = 1024;
    let mut all = Vec::new();
    let mut at = start;
    while (step > 0.0 && at < end) || (step < 0.0 && at > end) {
        if all.len() == ITEMS_MAX {
            return Err(format!("there would be more than {ITEMS_MAX} numbers"));
        }
        all.push(from_number(at)?);
        at += step;
    }
    Ok(Value::Array(all))
}

fn pattern_of(pattern: &Value) -> Result<regex_lite::Regex, String> {
    regex_lite::Regex::new(&text(pattern)?).map_err(|error| error.to_string())
}

fn regex(arguments: &[Value]) -> Answer {
    let [pattern, given] = take(arguments)?;
    let (pattern, given) = (pattern_of(pattern)?, text(given)?);
    match pattern.captures(&given) {
        Some(found) => Ok(captured(&pattern, &found)),
        None => Err("the pattern does not match".to_string()),
    }
}

/// The match; or its groups, as a list or, if they have names, as an object.
fn captured(pattern: &regex_lite::Regex, found: &regex_lite::Captures<'_>) -> Value {
    let of = |group: Option<regex_lite::Match<'_>>| group.map_or(Value::Null, |group| group.as_str().into());
    let names: Vec<Option<&str>> = pattern.capture_names().skip(1).collect();
    if names.is_empty() {
        return of(found.get(0));
    }
    if names.iter().any(Option::is_some) {
        let named = names.into_iter().flatten();
        return Value::Object(named.map(|name| (name.to_string(), of(found.name(name)))).collect());
    }
    (1..=names.len()).map(|number| of(found.get(number))).collect()
}

fn setproduct(arguments: &[Value]) -> Answer {
    let lists = arguments.iter().map(list).collect::<Result<Vec<_>, _>>()?;
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    for items in lists {
        if rows.len().saturating_mul(items.len()) > 100_000 {
            return Err("there would be more than 100000 combinations".to_string());
        }
        let longer = |row: &Vec<Value>| {
            items.iter().map(|item| [row.clone(), vec![item.clone()]].concat()).collect::<Vec<_>>()
        };
        rows = rows.iter().flat_map(longer).collect();
    }
    Ok(rows.into_iter().map(Value::Array).collect())
}

/// As Go's `url.QueryEscape`.
fn urlencode(text: &str) -> String {
    let mut all = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => all.push('+'),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => all.push(char::from(b)),
            b => all.push_str(&format!("%{b:02X}")),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
