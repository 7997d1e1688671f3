//! Identifiers of sources in LLB, such as `docker-image://NAME`, with their attributes (moby/buildkit,
//! solver/pb/attr.go).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use crossdock_builder::git::GitSource;
use crossdock_builder::llb;
use crossdock_oci::Reference;

/// Attributes of a source.
pub type Attributes = BTreeMap<String, String>;

/// An image: a name, with a digest in an attribute.
///
/// # Errors
///
/// The name or the digest is none.
pub fn image(name: &str, attrs: &Attributes) -> Result<llb::Source> {
    let mut reference: Reference = name.parse()?;
    if let Some(checksum) = attrs.get("image.checksum").filter(|checksum| !checksum.is_empty()) {
        reference = reference.with_digest(checksum.parse()?);
    }
    let pull = attrs.get("image.resolvemode").is_some_and(|mode| mode == "pull");
    Ok(llb::Source::Image { reference, pull })
}

/// A repository: `HOST/PATH[#[REVISION][:DIRECTORY]]`; the address for git is in an attribute.
///
/// # Errors
///
/// The address or the commit is none.
pub fn git(rest: &str, attrs: &Attributes) -> Result<llb::Source> {
    let (path, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let address = match attrs.get("git.fullurl").filter(|address| !address.is_empty()) {
        Some(address) if address.contains("://") || address.starts_with("git@") => address.clone(),
        Some(address) => format!("https://{address}"),
        None => format!("https://{path}"),
    };
    let mut source = GitSource::parse(&format!("#{fragment}")).map_err(anyhow::Error::msg)?;
    if let Some(commit) = attrs.get("git.checksum").filter(|commit| !commit.is_empty()) {
        source.commit = GitSource::parse(&format!("?commit={commit}")).map_err(anyhow::Error::msg)?.commit;
    }
    // Git would take a leading "-" for an option.
    ensure!(!address.starts_with('-'), "{address}: it must not begin with \"-\"");
    source.remote = address;
    let given = |name: &str| attrs.get(name).filter(|value| !value.is_empty()).cloned();
    let login = &mut source.login;
    login.token = given("git.authtokensecret").unwrap_or_else(|| login.token.clone());
    login.header = given("git.authheadersecret").unwrap_or_else(|| login.header.clone());
    login.agent = given("git.mountsshsock").unwrap_or_else(|| login.agent.clone());
    login.known_hosts = given("git.knownsshhosts");
    let keep_git = attrs.get("git.keepgitdir").is_some_and(|value| value == "true");
    Ok(llb::Source::Git { source, keep_git })
}

/// A file at an address.
///
/// # Errors
///
/// An attribute is not what it should be.
pub fn http(address: &str, attrs: &Attributes) -> Result<llb::Source> {
    let number = |name: &str, default: u32| match attrs.get(name) {
        None => Ok(default),
        Some(text) => {
            let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|s| !s.is_empty()));
            let parsed = octal.map_or_else(|| text.parse(), |digits| u32::from_str_radix(digits, 8));
            parsed.with_context(|| format!("{name}={text}: not a number"))
        }
    };
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let given = attrs.get("http.filename").filter(|name| !name.is_empty());
    let filename = given.map_or(name, String::as_str);
    Ok(llb::Source::Http {
        url: address.to_string(),
        checksum: attrs.get("http.checksum").map(|text| text.parse()).transpose()?,
        filename: if filename.is_empty() { "download".to_string() } else { filename.to_string() },
        mode: number("http.perm", 0o600)? & 0o7777,
        owner: (number("http.uid", 0)?, number("http.gid", 0)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn repository(found: llb::Source) -> Option<(GitSource, bool)> {
        match found {
            llb::Source::Git { source, keep_git } => Some((source, keep_git)),
            _ => None,
        }
    }

    #[test]
    fn repositories() {
        let attrs = attributes(&[("git.fullurl", "ssh://git@h/a.git"), ("git.keepgitdir", "true")]);
        let found = git("h/a.git#v1:sub", &attrs).expect("valid");
        let (source, keep_git) = repository(found).expect("a repository");
        let (remote, reference) = (source.remote.as_str(), source.reference.as_deref());
        assert_eq!((remote, reference), ("ssh://git@h/a.git", Some("v1")));
        assert_eq!((source.directory.as_str(), keep_git), ("sub", true));
        let found = git("h/a.git", &Attributes::new()).expect("valid");
        let (source, _) = repository(found).expect("a repository");
        assert_eq!((source.remote.as_str(), source.reference), ("https://h/a.git", None));
        assert!(git("h/a.git#--upload-pack=x", &Attributes::new()).is_err());
        assert!(git("h/a.git", &attributes(&[("git.checksum", "zz")])).is_err());
    }

    #[test]
    fn downloads() {
        let name = |address: &str, attrs: &[(&str, &str)]| {
            let found = http(address, &attributes(attrs)).expect("valid");
            let llb::Source::Http { filename, mode, owner, .. } = found else { panic!("no download") };
            (filename, mode, owner)
        };
        assert_eq!(name("https://h/a/b.tgz?x=/y", &[]), ("b.tgz".to_string(), 0o600, (0, 0)));
        assert_eq!(name("https://h", &[]).0, "download");
        let attrs = [("http.filename", "x"), ("http.perm", "0755"), ("http.uid", "7")];
        assert_eq!(name("https://h/b", &attrs), ("x".to_string(), 0o755, (7, 0)));
        assert!(http("https://h/b", &attributes(&[("http.perm", "rw")])).is_err());
        assert!(http("https://h/b", &attributes(&[("http.checksum", "1")])).is_err());
    }
}
