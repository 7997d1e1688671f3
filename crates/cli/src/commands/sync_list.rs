//! The lists of `sync --src yaml`: names by registry, with the tags that are wanted, and how the registry is
//! reached (skopeo-sync(1), "YAML file content").

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_oci::Reference;
use crossdock_registry::{Client, Credential};
use regex_lite::Regex;
use saphyr_parser::{Event, Parser};

use crate::access::{Access, Identity};
use crate::values::{self, switch};
use crossdock_delivery::input::{Kinds, read_whole};

/// A list may have this many bytes.
const SIZE_MAX: u64 = 4 << 20;
/// Lists and maps may be nested this deep; a right list has four levels.
const DEPTH_MAX: usize = 8;

/// What is wanted of one registry.
pub struct Wanted {
    registry: String,
    /// Names, and their tags and digests; none for all tags.
    images: Vec<(String, Vec<String>)>,
    /// Names, and what their tags must match.
    by_tag: Vec<(String, Regex)>,
    username: Option<String>,
    password: Option<String>,
    tls_verify: Option<bool>,
    cert_dir: Option<PathBuf>,
}

/// A value, and the line where it is.
struct Node {
    line: usize,
    value: Value,
}

enum Value {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn map(&self, what: &str) -> Result<&[(String, Node)]> {
        match &self.value {
            Value::Map(map) => Ok(map),
            // A name without a value is an empty map.
            Value::Text(text) if text.is_empty() || text == "~" || text == "null" => Ok(&[]),
            _ => bail!("line {}: {what} has names and their values", self.line),
        }
    }

    fn text(&self, what: &str) -> Result<&str> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => bail!("line {}: {what} is one text", self.line),
        }
    }
}

/// Reads a list.
///
/// # Errors
///
/// A file that cannot be read or is no such list, with the line. Passwords are not shown.
pub fn read(path: &Path) -> Result<Vec<Wanted>> {
    let shown = || format!("the list {}", path.display());
    let bytes = read_whole(path, SIZE_MAX, Kinds::Any).with_context(shown)?;
    let text = String::from_utf8(bytes).ok().with_context(|| format!("{}: it is no UTF-8 text", shown()))?;
    match document(&text).with_context(shown)? {
        Some(top) => {
            let registries = top.map("the list").with_context(shown)?;
            registries.iter().map(|(name, node)| wanted(name, node).with_context(shown)).collect()
        }
        None => Ok(Vec::new()),
    }
}

/// The first document of a text.
fn document(text: &str) -> Result<Option<Node>> {
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next() {
        match event.map_err(wrong)? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (Event::StreamEnd | Event::DocumentEnd, _) => return Ok(None),
            (first, span) => return node(&mut parser, first, span.start.line(), 0).map(Some),
        }
    }
    Ok(None)
}

fn wrong(error: saphyr_parser::ScanError) -> anyhow::Error {
    anyhow::anyhow!("line {}: {}", error.marker().line(), error.info())
}

type Events<'t> = Parser<'t, saphyr_parser::StrInput<'t>>;

fn next<'t>(parser: &mut Events<'t>) -> Result<(Event<'t>, usize)> {
    let (event, span) = parser.next().context("it ends too early")?.map_err(wrong)?;
    Ok((event, span.start.line()))
}

/// The value that begins with an event.
fn node(parser: &mut Events<'_>, first: Event<'_>, line: usize, depth: usize) -> Result<Node> {
    if depth > DEPTH_MAX {
        bail!("line {line}: nested too deep");
    }
    let value = match first {
        Event::Scalar(text, ..) => Value::Text(text.into_owned()),
        // An alias may stand for more than any memory holds.
        Event::Alias(_) => bail!("line {line}: an alias: write the value itself"),
        Event::SequenceStart(..) => {
            let mut list = Vec::new();
            loop {
                match next(parser)? {
                    (Event::SequenceEnd, _) => break Value::List(list),
                    (event, line) => list.push(node(parser, event, line, depth + 1)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut map = Vec::new();
            loop {
                let name = match next(parser)? {
                    (Event::MappingEnd, _) => break Value::Map(map),
                    (Event::Scalar(name, ..), _) => name.into_owned(),
                    (_, line) => bail!("line {line}: a name is one text, and no alias"),
                };
                let (event, line) = next(parser)?;
                map.push((name, node(parser, event, line, depth + 1)?));
            }
        }
        _ => bail!("line {line}: unexpected end"),
    };
    Ok(Node { line, value })
}

fn wanted(registry: &str, node: &Node) -> Result<Wanted> {
    let mut wanted = Wanted {
        registry: registry.to_string(),
        images: Vec::new(),
        by_tag: Vec::new(),
        username: None,
        password: None,
        tls_verify: None,
        cert_dir: None,
    };
    for (name, node) in node.map(registry)? {
        let line = node.line;
        match name.as_str() {
            "images" => {
                for (image, tags) in node.map("images")? {
                    wanted.images.push((image.clone(), list_of(image, tags)?));
                }
            }
            "images-by-tag-regex" => {
                for (image, pattern) in node.map("images-by-tag-regex")? {
                    let pattern = pattern.text(image)?;
                    let regex = Regex::new(pattern).map_err(|error| {
                        anyhow::anyhow!("line {line}: images-by-tag-regex of {image}: {error}")
                    })?;
                    wanted.by_tag.push((image.clone(), regex));
                }
            }
            "credentials" => {
                for (which, node) in node.map("credentials")? {
                    match which.as_str() {
                        "username" => wanted.username = Some(node.text("username")?.to_string()),
                        "password" => wanted.password = Some(node.text("password")?.to_string()),
                        other => bail!("line {}: credentials have no {other}", node.line),
                    }
                }
            }
            "tls-verify" => {
                let text = node.text("tls-verify")?;
                wanted.tls_verify =
                    Some(switch(text).map_err(|e| anyhow::anyhow!("line {line}: tls-verify: {e}"))?);
            }
            "cert-dir" => wanted.cert_dir = Some(PathBuf::from(node.text("cert-dir")?)),
            "images-by-semver" => bail!(
                "line {line}: images-by-semver is not read: choose tags by images-by-tag-regex, such as ^1[.]2[.]"
            ),
            other => bail!(
                "line {line}: {other}: known are images, images-by-tag-regex, credentials, tls-verify and cert-dir"
            ),
        }
    }
    if wanted.username.is_some() != wanted.password.is_some() {
        bail!("line {}: {registry}: credentials have a username and a password", node.line);
    }
    Ok(wanted)
}

/// Tags and digests of an image.
fn list_of(image: &str, node: &Node) -> Result<Vec<String>> {
    match &node.value {
        Value::List(list) => list.iter().map(|one| one.text(image).map(str::to_string)).collect(),
        Value::Text(text) if text.is_empty() || text == "~" || text == "null" => Ok(Vec::new()),
        _ => bail!("line {}: {image} has a list of tags, [] for all", node.line),
    }
}

impl Wanted {
    /// How the registry is reached.
    pub fn access(&self) -> Access {
        let identity = match (&self.username, &self.password) {
            (Some(username), Some(password)) => Identity::Given(Credential::password(username, password)),
            _ => Identity::Stored,
        };
        Access {
            registry: Some(self.registry.clone()),
            tls_verify: self.tls_verify,
            authfile: None,
            cert_dir: self.cert_dir.clone(),
            identity,
        }
    }

    /// The images, in the order of the list.
    ///
    /// # Errors
    ///
    /// Names that are none; tags that the registry does not list.
    pub fn references(&self, client: &Client) -> Result<Vec<Reference>> {
        let mut all = Vec::new();
        let repository = |image: &str| values::reference(&format!("{}/{image}", self.registry));
        for (image, tags) in &self.images {
            let name = repository(image)?;
            for tag in if tags.is_empty() { client.tags(&name)? } else { tags.clone() } {
                all.push(match tag.contains(':') {
                    true => name.with_digest(tag.parse()?),
                    false => name.with_tag(&tag)?,
                });
            }
        }
        for (image, pattern) in &self.by_tag {
            let name = repository(image)?;
            for tag in client.tags(&name)?.iter().filter(|tag| pattern.is_match(tag)) {
                all.push(name.with_tag(tag)?);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_testkit::hostile::{texts, try_inputs};

    const LIST: &str = "r.example:5000:\n  images:\n    a/b: [\"1\", latest]\n    c: []\n    d:\n  images-by-tag-regex:\n    e: ^v\n  \
        tls-verify: false\n  cert-dir: /certs\n  credentials: {username: u, password: p}\nother: ~\n";

    fn all(text: &str) -> Result<Vec<Wanted>> {
        let Some(top) = document(text)? else { return Ok(Vec::new()) };
        top.map("the list")?.iter().map(|(name, node)| wanted(name, node)).collect()
    }

    #[test]
    fn a_list_is_read() {
        let list = all(LIST).expect("a list");
        let [one, other] = &list[..] else { panic!("{} registries", list.len()) };
        assert_eq!((one.registry.as_str(), other.registry.as_str()), ("r.example:5000", "other"));
        let tags = |image: &str| {
            let (_, tags) = one.images.iter().find(|(name, _)| name == image).expect(image);
            tags.join(" ")
        };
        assert_eq!((tags("a/b"), tags("c"), tags("d")), ("1 latest".into(), "".into(), "".into()));
        assert!(one.by_tag[0].1.is_match("v1") && !one.by_tag[0].1.is_match("1v"));
        assert_eq!((one.tls_verify, one.cert_dir.as_deref()), (Some(false), Some(Path::new("/certs"))));
        assert!(matches!(one.access().identity, Identity::Given(_)));
        assert!(matches!(other.access().identity, Identity::Stored));
        assert!(all("").expect("nothing").is_empty() && all("# only\n").expect("nothing").is_empty());
    }

    #[test]
    fn hostile() {
        let seeds = texts(&[
            LIST,
            "a: {b: &x [1], c: *x}",
            "? [a]\n: b",
            "!!map {a: \"\\u0041\"}",
            "a: |\n  b\n",
            "--- a\n...\n",
        ]);
        try_inputs("lists of sync", &seeds, |bytes| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                let _ = all(text);
            }
        });
    }
}
