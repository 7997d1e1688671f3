//! Names of images with a transport, as skopeo and podman write them: `docker://NAME`, `oci:PATH:TAG`, ...
//! (containers-transports(5)).

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use crossdock_oci::Reference;

use crate::values;

/// Where an image is, or where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `docker://NAME`, or a name alone.
    Registry(Reference),
    /// `oci:PATH[:NAME]`: a directory. The name is any text.
    Layout { path: PathBuf, name: Option<String> },
    /// `oci-archive:PATH[:NAME]`: the same as a tar archive.
    LayoutArchive { path: PathBuf, name: Option<String> },
    /// `docker-archive:PATH[:NAME|:@NUMBER]`: the archive of `docker save`; its images are counted from 0.
    DockerArchive { path: PathBuf, name: Option<Reference>, number: Option<usize> },
    /// `dir:PATH`: a directory with the manifest and the blobs of one image or index.
    Directory(PathBuf),
    /// `docker-daemon:NAME`: images of a running docker. A source may be an id.
    Daemon(String),
    /// `containers-storage:NAME`: images of podman and buildah.
    Podman(String),
}

/// Names of the transports, for messages.
const KNOWN: &str =
    "docker://, oci:, oci-archive:, docker-archive:, dir:, docker-daemon: and containers-storage:";

impl Place {
    /// Reads a name. A name without a transport is one in a registry.
    ///
    /// # Errors
    ///
    /// An unknown transport; an invalid name or an empty path.
    pub fn parse(text: &str) -> Result<Place> {
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Place::Registry(values::reference(name)?));
        }
        let Some((transport, rest)) = text.split_once(':') else {
            return Ok(Place::Registry(values::reference(text)?));
        };
        let path = |path: &str| match path {
            "" => bail!("{text}: no path stands behind the transport"),
            path => Ok(PathBuf::from(path)),
        };
        // The path ends at the first colon, the name may have more.
        let with_name = || match rest.split_once(':') {
            Some((before, name)) => {
                Ok::<_, anyhow::Error>((path(before)?, Some(name).filter(|n| !n.is_empty())))
            }
            None => Ok((path(rest)?, None)),
        };
        Ok(match transport {
            "oci" => {
                with_name().map(|(path, name)| Place::Layout { path, name: name.map(str::to_string) })?
            }
            "oci-archive" => with_name()
                .map(|(path, name)| Place::LayoutArchive { path, name: name.map(str::to_string) })?,
            "docker-archive" => {
                let (path, name) = with_name()?;
                match name.and_then(|name| name.strip_prefix('@')) {
                    Some(number) => {
                        let number = number.parse().with_context(|| {
                            format!("{text}: behind @ stands the number of an image in the archive, from 0")
                        })?;
                        Place::DockerArchive { path, name: None, number: Some(number) }
                    }
                    None => {
                        let name = name.map(values::reference).transpose()?;
                        Place::DockerArchive { path, name, number: None }
                    }
                }
            }
            "dir" => Place::Directory(path(rest)?),
            "docker-daemon" | "containers-storage" if rest.is_empty() => {
                bail!("{text}: no name stands behind the transport")
            }
            "docker-daemon" => Place::Daemon(rest.to_string()),
            "containers-storage" => Place::Podman(rest.to_string()),
            "sif" | "tarball" | "ostree" => bail!("{text}: there is no {transport}: here; known are {KNOWN}"),
            _ if rest.starts_with("//") => bail!("{text}: unknown transport; known are {KNOWN}"),
            _ => Place::Registry(values::reference(text)?),
        })
    }

    /// The registry's name, if it is in one.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Place::Registry(reference) => Some(reference),
            _ => None,
        }
    }

    /// Whether it can hold the images of several platforms.
    pub fn holds_index(&self) -> bool {
        !matches!(self, Place::DockerArchive { .. } | Place::Daemon(_) | Place::Podman(_))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file =
            |f: &mut std::fmt::Formatter<'_>, transport: &str, path: &PathBuf, name: Option<String>| {
                write!(f, "{transport}:{}", path.display())?;
                name.map_or(Ok(()), |name| write!(f, ":{name}"))
            };
        match self {
            Place::Registry(reference) => f.write_str(&reference.familiar()),
            Place::Layout { path, name } => file(f, "oci", path, name.clone()),
            Place::LayoutArchive { path, name } => file(f, "oci-archive", path, name.clone()),
            Place::DockerArchive { path, name, number } => {
                let number = number.map(|number| format!("@{number}"));
                file(f, "docker-archive", path, name.as_ref().map(Reference::familiar).or(number))
            }
            Place::Directory(path) => file(f, "dir", path, None),
            Place::Daemon(name) => write!(f, "docker-daemon:{name}"),
            Place::Podman(name) => write!(f, "containers-storage:{name}"),
        }
    }
}

/// Whether a name has a transport, where one without would be an image of the store. `oci:1` and `dir:1` may
/// be images named so: they are places if there is such a path.
pub fn has_transport(text: &str) -> bool {
    let Some((transport, rest)) = text.split_once(':') else { return false };
    match transport {
        "docker" => rest.starts_with("//"),
        "oci-archive" | "docker-archive" | "docker-daemon" | "containers-storage" => true,
        "oci" | "dir" => {
            let path = rest.split(':').next().unwrap_or(rest);
            rest.contains('/') || std::path::Path::new(path).exists()
        }
        _ => false,
    }
}

/// Reads the name of a repository in a registry: `docker://NAME`, or `NAME`, without a tag.
pub fn repository(text: &str) -> Result<Reference> {
    let name = text.strip_prefix("docker://").unwrap_or(text);
    let of_files = ["oci", "oci-archive", "docker-archive", "dir", "docker-daemon", "containers-storage"];
    // A name of a repository has no tag, so that a colon only stands behind a host, before its port.
    let has_transport = text.split_once(':').is_some_and(|(transport, _)| of_files.contains(&transport));
    if name.contains("://") || has_transport {
        bail!("{text}: only registries have tags: the form is docker://NAME");
    }
    values::reference(name).with_context(|| format!("the repository {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_transports() {
        for (text, shown) in [
            ("docker://a", "a:latest"),
            ("a:1", "a:1"),
            ("h:5000/a:1", "h:5000/a:1"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("oci:d", "oci:d"),
            ("oci:/d:any:thing", "oci:/d:any:thing"),
            ("oci-archive:f.tar:1", "oci-archive:f.tar:1"),
            ("docker-archive:f.tar:a", "docker-archive:f.tar:a:latest"),
            ("docker-archive:f.tar:@1", "docker-archive:f.tar:@1"),
            ("dir:/x:y", "dir:/x:y"),
            ("docker-daemon:a:1", "docker-daemon:a:1"),
            ("containers-storage:a", "containers-storage:a"),
        ] {
            assert_eq!(Place::parse(text).expect(text).to_string(), shown, "{text}");
        }
        let names = ["docker://h:5000/a/b:1@sha256:0", "oci-archive:/x:y:z", "dir:", "a:b"];
        let seeds = crossdock_testkit::hostile::texts(&names);
        crossdock_testkit::hostile::try_inputs("names with transports", &seeds, |bytes| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                let _ = (Place::parse(text), has_transport(text), repository(text));
            }
        });
        for text in
            ["oci:", "dir:", "docker-daemon:", "sif:x", "http://x/y", "docker-archive:f:@x", "docker://"]
        {
            assert!(Place::parse(text).is_err(), "{text}");
        }
        for text in ["oci:d", "dir:/d", "docker-daemon:a", "http://x/y"] {
            let error = repository(text).expect_err(text).to_string();
            assert!(error.contains("only registries have tags"), "{error}");
        }
        assert!(repository("docker://h:5000/a").is_ok() && repository("ocix/a").is_ok());
    }
}
