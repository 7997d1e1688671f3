//! Finds the servers for a registry's name: `containers-registries.conf(5)` version 2 and
//! `containers-certs.d(5)`.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::environment::Environment;
use crate::error::{Error, Result};

/// Configuration files and directories.
#[derive(Clone, Debug, Default)]
pub struct HostPaths {
    /// Directories with one directory per `HOST[:PORT]`; the first that has the host is used.
    pub certs_d: Vec<PathBuf>,
    /// `registries.conf`; the first that exists is used.
    pub registries_conf: Vec<PathBuf>,
    /// Directories of `*.conf` files, read afterwards in order of their names; later entries replace earlier
    /// ones.
    pub registries_conf_d: Vec<PathBuf>,
}

impl HostPaths {
    /// The places that Podman and Docker use, the user's before the system's.
    pub fn from_environment(environment: &Environment) -> HostPaths {
        let user = environment.config_home().map(|d| d.join("containers"));
        let in_user = |name: &str| user.as_ref().map(|d| d.join(name));
        HostPaths {
            certs_d: in_user("certs.d")
                .into_iter()
                .chain(["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()])
                .collect(),
            registries_conf: environment
                .registries_conf
                .clone()
                .into_iter()
                .chain(in_user("registries.conf"))
                .chain(["/etc/containers/registries.conf".into()])
                .collect(),
            registries_conf_d: ["/etc/containers/registries.conf.d".into()]
                .into_iter()
                .chain(in_user("registries.conf.d"))
                .collect(),
        }
    }
}

/// A place to ask for a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host and port, `docker.io` for Docker Hub.
    pub registry: String,
    /// The repository's name there.
    pub repository: String,
    /// Certificates are not verified and http is allowed.
    pub insecure: bool,
    /// A mirror: read only, and its failure is not final.
    pub mirror: bool,
}

/// Certificates for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCertificates {
    /// Additional roots, PEM.
    pub roots: Vec<PathBuf>,
    /// Certificate and key of the client, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The configuration of hosts.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    entries: Vec<Entry>,
    certs_d: Vec<PathBuf>,
    /// Directories with certificates of one host, or of all hosts; they come before `certs_d`.
    certificates: Vec<(Option<String>, PathBuf)>,
}

#[derive(Clone, Debug)]
struct Entry {
    prefix: String,
    registry: RegistryToml,
    path: PathBuf,
}

#[derive(Default, Deserialize)]
struct FileToml {
    #[serde(default)]
    registry: Vec<RegistryToml>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RegistryToml {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<MirrorToml>,
    #[serde(default)]
    mirror_by_digest_only: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorToml {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<String>,
}

impl Hosts {
    /// Reads the configuration; absent files are no error.
    pub fn read(paths: &HostPaths) -> Result<Hosts> {
        let mut files: Vec<PathBuf> =
            paths.registries_conf.iter().find(|path| path.exists()).cloned().into_iter().collect();
        for directory in &paths.registries_conf_d {
            files.extend(conf_files(directory)?);
        }
        let mut entries: Vec<Entry> = Vec::new();
        for path in files {
            for entry in read_file(&path)? {
                entries.retain(|old| old.prefix != entry.prefix);
                entries.push(entry);
            }
        }
        Ok(Hosts { entries, certs_d: paths.certs_d.clone(), certificates: Vec::new() })
    }

    /// Uses the certificates in `directory` for a host (`HOST[:PORT]`), or for all hosts, instead of those
    /// that are configured.
    pub fn add_certificates(&mut self, host: Option<&str>, directory: PathBuf) {
        self.certificates.push((host.map(str::to_string), directory));
    }

    /// The places to ask for a repository, in order; the last is the registry itself. `by_digest` says
    /// whether the reference has a digest, since some mirrors serve only digests or only tags.
    pub fn endpoints(&self, registry: &str, repository: &str, by_digest: bool) -> Result<Vec<Endpoint>> {
        let name = format!("{registry}/{repository}");
        let best = self
            .entries
            .iter()
            .filter_map(|entry| Some((matched_length(&entry.prefix, &name)?, entry)))
            .max_by_key(|(length, _)| *length);
        let Some((length, entry)) = best else {
            return Ok(vec![endpoint(&name, false, false)?]);
        };
        if entry.registry.blocked {
            return Err(Error::Blocked { registry: entry.prefix.clone(), path: entry.path.clone() });
        }
        let rest = &name[length..];
        let relocated = |location: &str| format!("{}{rest}", location.trim_end_matches('/'));
        let bad = |error: Error| Error::File { path: entry.path.clone(), reason: error.to_string() };
        let mut endpoints = Vec::new();
        for mirror in &entry.registry.mirror {
            let serves = match mirror.pull_from_mirror.as_deref() {
                Some("digest-only") => by_digest,
                Some("tag-only") => !by_digest,
                _ => by_digest || !entry.registry.mirror_by_digest_only,
            };
            if serves {
                endpoints.push(endpoint(&relocated(&mirror.location), mirror.insecure, true).map_err(bad)?);
            }
        }
        let location = match &entry.registry.location {
            Some(location) => relocated(location),
            None => name.clone(),
        };
        endpoints.push(endpoint(&location, entry.registry.insecure, false).map_err(bad)?);
        Ok(endpoints)
    }

    /// Certificates for a host (`HOST[:PORT]`).
    pub fn certificates(&self, host: &str) -> Result<HostCertificates> {
        let is_meant = |own: &&(Option<String>, PathBuf)| own.0.as_deref().is_none_or(|only| only == host);
        let directory = match self.certificates.iter().find(is_meant) {
            Some((_, directory)) if !directory.is_dir() => {
                let reason = "it is no directory with certificates".to_string();
                return Err(Error::File { path: directory.clone(), reason });
            }
            Some((_, directory)) => Some(directory.clone()),
            None => self.certs_d.iter().map(|d| d.join(host)).find(|d| d.is_dir()),
        };
        let Some(directory) = directory else { return Ok(HostCertificates::default()) };
        let mut found = HostCertificates::default();
        for path in sorted_files(&directory)? {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => found.roots.push(path),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !key.exists() {
                        return Err(Error::File {
                            path,
                            reason: format!("its key {} is missing", key.display()),
                        });
                    }
                    found.client.get_or_insert((path, key));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// How many bytes of `name` a prefix covers; `None` if it does not match. A prefix is whole path components,
/// or `*.example.com` for any subdomain.
fn matched_length(prefix: &str, name: &str) -> Option<usize> {
    let at_boundary = |length: usize| matches!(name.as_bytes().get(length), None | Some(b'/' | b':' | b'@'));
    if let Some(domain) = prefix.strip_prefix("*.") {
        let host = &name[..name.find('/').unwrap_or(name.len())];
        let bare = host.split(':').next().unwrap_or(host);
        return bare.strip_suffix(domain)?.ends_with('.').then_some(bare.len());
    }
    (name.starts_with(prefix) && at_boundary(prefix.len())).then_some(prefix.len())
}

/// Splits `HOST[:PORT]/REPOSITORY`.
fn endpoint(name: &str, insecure: bool, mirror: bool) -> Result<Endpoint> {
    // The parser adds `library/` to one-component names of Docker Hub and refuses invalid names.
    let reference: crossdock_oci::Reference = name.parse()?;
    Ok(Endpoint {
        registry: reference.registry().to_string(),
        repository: reference.repository().to_string(),
        insecure,
        mirror,
    })
}

fn read_file(path: &Path) -> Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let file: FileToml =
        toml::from_str(&text).map_err(|e| Error::File { path: path.to_path_buf(), reason: e.to_string() })?;
    file.registry
        .into_iter()
        .map(|registry| match registry.prefix.clone().or_else(|| registry.location.clone()) {
            Some(prefix) => Ok(Entry {
                prefix: prefix.trim_end_matches('/').to_string(),
                registry,
                path: path.to_path_buf(),
            }),
            None => Err(Error::File {
                path: path.to_path_buf(),
                reason: "a [[registry]] has neither prefix nor location".to_string(),
            }),
        })
        .collect()
}

fn conf_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = sorted_files(directory)?;
    files.retain(|path| path.extension().is_some_and(|e| e == "conf"));
    Ok(files)
}

fn sorted_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Io { path: directory.to_path_buf(), source }),
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(Error::io(directory))?.path());
    }
    files.sort();
    Ok(files)
}

/// Whether a registry's host is this machine: `localhost`, `127.0.0.0/8` or `::1`.
pub fn is_loopback(registry: &str) -> bool {
    let host = bare_host(registry);
    host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host of `HOST[:PORT]`, without brackets.
pub(crate) fn bare_host(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Hosts {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("registries.conf");
        std::fs::write(&path, text).expect("written");
        Hosts::read(&HostPaths { registries_conf: vec![path], ..HostPaths::default() }).expect("readable")
    }

    fn names(hosts: &Hosts, registry: &str, repository: &str, by_digest: bool) -> Vec<String> {
        let endpoints = hosts.endpoints(registry, repository, by_digest).expect("not blocked");
        endpoints
            .into_iter()
            .map(|e| format!("{}/{}{}", e.registry, e.repository, if e.insecure { " insecure" } else { "" }))
            .collect()
    }

    #[test]
    fn prefixes_locations_and_mirrors() {
        let hosts = hosts(
            r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.local:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "digests.local"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "docker.io/internal"
            location = "inner.local/x"
            [[registry]]
            prefix = "*.bad.example"
            blocked = true
            "#,
        );
        assert_eq!(
            names(&hosts, "docker.io", "library/alpine", false),
            ["mirror.local:5000/hub/library/alpine insecure", "docker.io/library/alpine"]
        );
        assert_eq!(names(&hosts, "docker.io", "library/alpine", true).len(), 3);
        assert_eq!(names(&hosts, "docker.io", "internal/app", false), ["inner.local/x/app"]);
        assert_eq!(names(&hosts, "docker.io", "internals/app", false).len(), 2);
        assert_eq!(names(&hosts, "ghcr.io", "a/b", false), ["ghcr.io/a/b"]);
        assert!(matches!(hosts.endpoints("x.bad.example", "a", false), Err(Error::Blocked { .. })));
        assert!(hosts.endpoints("bad.example", "a", false).is_ok());
        assert!(hosts.endpoints("notbad.example", "a", false).is_ok());
    }

    #[test]
    fn a_bad_file_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("r.conf");
        std::fs::write(&path, "[[registry]]\ninsecure = 3\n").expect("written");
        let paths = HostPaths { registries_conf_d: vec![directory.path().into()], ..HostPaths::default() };
        let text = Hosts::read(&paths).expect_err("not a boolean").to_string();
        assert!(text.contains("r.conf") && text.contains("line 2"), "{text}");
    }

    #[test]
    fn certificates_of_one_host_or_of_all() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let make = |name: &str| {
            std::fs::create_dir_all(directory.path().join(name)).expect("a directory");
            std::fs::write(directory.path().join(name).join("ca.crt"), "").expect("written");
            directory.path().join(name)
        };
        let configured = make("certs.d/h:1").parent().expect("above").to_path_buf();
        let mut hosts = Hosts::read(&HostPaths { certs_d: vec![configured.clone()], ..HostPaths::default() })
            .expect("read");
        let roots = |hosts: &Hosts, host: &str| hosts.certificates(host).expect("readable").roots;
        assert_eq!(roots(&hosts, "h:1"), [configured.join("h:1/ca.crt")]);
        assert!(roots(&hosts, "other").is_empty());
        hosts.add_certificates(Some("other"), make("own"));
        assert_eq!(roots(&hosts, "other"), [directory.path().join("own/ca.crt")]);
        assert_eq!(roots(&hosts, "h:1"), [configured.join("h:1/ca.crt")]);
        hosts.add_certificates(None, directory.path().join("absent"));
        let text = hosts.certificates("h:1").expect_err("absent").to_string();
        assert!(text.contains("absent"), "{text}");
    }

    #[test]
    fn loopback_hosts() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000", "x.localhost:1"]
        {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in
            ["docker.io", "127.0.0.1.example.com", "[::2]:5000", "localhost.example.com", "10.0.0.1:5000"]
        {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
