//! Filters of records that clients give to `du` and `prune` (containerd, pkg/filters): selectors with commas
//! between them, such as `type==source.local,inuse`. All selectors of one filter must hold, and one filter of
//! several.

use anyhow::{Result, bail};
use bollard_buildkit_proto::moby::buildkit::v1::UsageRecord;
use regex_lite::Regex;

/// What must hold of a record's field.
enum Must {
    /// It is there; of a truth value, that it is true.
    Be,
    Equal(String),
    Differ(String),
    Match(Regex),
}

/// The filters of a request.
pub struct Filters(Vec<Vec<(String, Must)>>);

impl Filters {
    /// Reads the filters of a request. Without one, and with one of no text, everything is taken.
    ///
    /// # Errors
    ///
    /// The filter that cannot be read.
    pub fn parse(texts: &[String]) -> Result<Filters> {
        Ok(Filters(texts.iter().map(|text| selectors(text)).collect::<Result<_>>()?))
    }

    /// Whether they say nothing.
    pub fn take_all(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(Vec::is_empty)
    }

    /// Whether a record is one of those that they are about.
    pub fn take(&self, record: &UsageRecord) -> bool {
        let holds = |(field, must): &(String, Must)| {
            let value = value(record, field);
            match must {
                Must::Be => value.is_some(),
                Must::Equal(wanted) => value.is_some_and(|value| value == *wanted),
                Must::Differ(unwanted) => value.is_none_or(|value| value != *unwanted),
                Must::Match(pattern) => value.is_some_and(|value| pattern.is_match(&value)),
            }
        };
        self.take_all() || self.0.iter().any(|all| all.iter().all(holds))
    }
}

/// The fields that BuildKit's records have for filters (BuildKit, cache/manager.go, `adaptUsageInfo`).
fn value(record: &UsageRecord, field: &str) -> Option<String> {
    let truth = |is_so: bool| is_so.then(|| "true".to_string());
    match field {
        "id" => Some(record.id.clone()),
        "parents" => Some(record.parents.join(",")).filter(|all| !all.is_empty()),
        "description" => Some(record.description.clone()).filter(|text| !text.is_empty()),
        "type" => Some(record.record_type.clone()).filter(|kind| !kind.is_empty()),
        "inuse" => truth(record.in_use),
        "mutable" => truth(record.mutable),
        "immutable" => truth(!record.mutable),
        "shared" => truth(record.shared),
        "private" => truth(!record.shared),
        _ => None,
    }
}

fn selectors(text: &str) -> Result<Vec<(String, Must)>> {
    let (mut all, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        if field.is_empty() {
            bail!("filters: parse error: [{text}]: a field is missing before \"{rest}\"");
        }
        let end = after.find(|c: char| !"=!~<>".contains(c)).unwrap_or(after.len());
        let (operator, after) = after.split_at(end);
        let (must, after) = if operator.is_empty() {
            (Must::Be, after)
        } else {
            let Some((wanted, after)) = word(after) else {
                bail!("filters: parse error: [{text}]: a quote is open, or text stands behind one");
            };
            let must = match operator {
                "==" => Must::Equal(wanted),
                "!=" => Must::Differ(wanted),
                "~=" => match Regex::new(&wanted) {
                    Ok(pattern) => Must::Match(pattern),
                    Err(error) => bail!("filters: parse error: [{text}]: \"{wanted}\": {error}"),
                },
                other => bail!(
                    "filters: parse error: [{text}]: unsupported operator \"{other}\": it is ==, != or ~="
                ),
            };
            (must, after)
        };
        all.push((field.to_string(), must));
        rest = match after.strip_prefix(',') {
            Some(more) => more,
            None if after.is_empty() => after,
            None => bail!("filters: parse error: [{text}]: a comma is missing before \"{after}\""),
        };
    }
    Ok(all)
}

/// A value, and what follows it: up to the next comma, or in double quotes with backslashes.
fn word(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return Some((text[..end].to_string(), &text[end..]));
    };
    let (mut value, mut characters) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, kind: &str) -> UsageRecord {
        UsageRecord {
            id: id.to_string(),
            record_type: kind.to_string(),
            mutable: kind != "regular",
            description: "of, a client".to_string(),
            ..UsageRecord::default()
        }
    }

    #[test]
    fn selectors_and_filters() {
        let (step, local) = (record("sha256-1", "regular"), record("abc", "source.local"));
        for (filters, of_step, of_local) in [
            (&[][..], true, true),
            (&[""], true, true),
            (&["type==source.local"], false, true),
            (&["type!=source.local"], true, false),
            (&["type==regular,mutable"], false, false),
            (&["type==regular", "id==abc"], true, true),
            (&["id~=^sha256-[0-9]$"], true, false),
            (&["immutable"], true, false),
            (&["private,mutable==true"], false, true),
            (&["shared"], false, false),
            (&["description==\"of, a client\",id~=b"], false, true),
            (&["unknown"], false, false),
            (&["unknown!=x"], true, true),
        ] {
            let texts: Vec<String> = filters.iter().map(|text| text.to_string()).collect();
            let read = Filters::parse(&texts).expect("valid");
            assert_eq!((read.take(&step), read.take(&local)), (of_step, of_local), "{filters:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for (text, reason) in [
            ("type===x", "unsupported operator \"===\""),
            ("type=x", "unsupported operator \"=\""),
            ("==x", "a field is missing"),
            ("id~=(", "\"(\""),
            ("id==\"x", "a quote is open"),
            ("a b", "a comma is missing"),
        ] {
            let error = Filters::parse(&[text.to_string()]).err().expect(text).to_string();
            assert!(error.contains("filters: parse error") && error.contains(reason), "{text}: {error}");
        }
    }
}
