//! Solves definitions of clients: brings their sources here and has the builder run the operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bollard_buildkit_proto::pb;
use crossdock_builder::git::GitSource;
use crossdock_builder::llb;
use crossdock_builder::solver::cache::StepCache;
use crossdock_builder::{Base, BuiltImage, Environment, Settings};
use crossdock_delivery::source::Source;
use crossdock_oci::{Digest, Reference};
use crossdock_platform::Platform;

use crate::definition::{self, Sources};
use crate::failure::Failure;
use crate::imports::{self, CacheEntry};
use crate::job::{Answer, Job};
use crate::results::{self, Solved};
use crate::session::{Session, Wanted};
use crate::sources::{self, BuildHost, ClientImages, ClientSecrets, Later};
use crate::status::Reporter;

/// Solves a definition for a client. Waits for the end.
///
/// # Errors
///
/// As [`solve`].
pub fn answer(job: &Job, definition: &pb::Definition, caches: &[CacheEntry]) -> Result<Answer, Failure> {
    let solved = solve(job, definition, caches)?;
    Ok(Answer { images: vec![(String::new(), Arc::new(solved))], ..Answer::default() })
}

/// Solves a definition, with caches beside those of the build. Waits for the end.
///
/// # Errors
///
/// The definition is wrong or wants what this builder does not do; an operation fails.
pub fn solve(job: &Job, definition: &pb::Definition, asked: &[CacheEntry]) -> Result<Solved, Failure> {
    if let Some((digest, platform)) = results::of_definition(definition) {
        return load(job, &digest, &platform).map_err(|error| Failure::of(&error));
    }
    let reporter = Arc::new(Reporter::new(job.log.clone(), &job.next_solve(), job.hidden.clone()));
    let session = job.own_session().map_err(|error| Failure::of(&error))?;
    let host = Platform::host();
    let from = FromClient { job, reporter: &reporter, session: session.as_deref() };
    let graph = definition::graph(definition, &host, &from).map_err(|error| Failure::of(&error))?;
    let platform = graph.result.map_or(host, |edge| graph.ops[edge.op].platform.clone());
    let settings = Settings {
        jobs: job.house.desk.jobs(),
        allow_insecure: job.entitlements.iter().any(|given| given == "security.insecure"),
        allow_network_host: true,
        ..Settings::for_platform(platform.clone())
    };
    let desk = job.house.desk.clone();
    let build_host = BuildHost { desk: desk.clone(), session: session.clone(), reporter: reporter.clone() };
    let source = Source::new(Box::new(build_host), &job.store);
    let (layer_options, mut caches) = job.layers();
    caches.extend(asked.iter().cloned());
    let say = |text: &str| reporter.warn(text.trim_start_matches("warning: "), "", "", None);
    let (imported, layers) = imports::import(&source, session.as_ref(), &caches, &settings.platforms, &say)
        .map_err(|error| Failure::of(&error))?;
    let later = Later::default();
    let images = ClientImages { source: &source, store: &job.store, layers, later: &later };
    let secrets = ClientSecrets::new(session, job.store.clone(), job.hidden.clone());
    let emulator = move |platform: &Platform| desk.emulator(platform);
    let environment = Environment {
        store: &job.store,
        images: &images,
        events: &*reporter,
        imported: &imported,
        layers: layer_options,
        sink: None,
        secrets: &secrets,
        // A build that fails ends nothing else of its client.
        stop: job.stop.part(),
        shared: &job.house.shared,
        emulator: &emulator,
    };
    let solved = llb::solve(&environment, &settings, &graph, &platform);
    job.count(reporter.counts());
    let (image, steps) = solved.map_err(|error| {
        let text = definition.source.as_ref().and_then(|source| source.infos.first()).cloned();
        let failure = Failure::of_build(&error, &text.unwrap_or_default());
        reporter.failed(&failure.message);
        failure
    })?;
    Ok(Solved { image, steps, attestations: Vec::new(), recorded: None, epoch: None })
}

/// An image in the store as a result.
fn load(job: &Job, digest: &Digest, platform: &Platform) -> Result<Solved> {
    let manifest = results::descriptor(&job.store, digest, platform)?;
    let image = job.store.load_image(&manifest)?;
    let trees = job.store.unpack_image(&image, 0)?.into_iter().map(|layer| layer.path).collect();
    let id = image.manifest.config.digest.clone();
    let image_made = BuiltImage { platform: platform.clone(), manifest, id, trees, base: Base::default() };
    Ok(Solved {
        image: image_made,
        steps: StepCache::default(),
        attestations: Vec::new(),
        recorded: None,
        epoch: None,
    })
}

/// Sources that a client names or has.
struct FromClient<'a> {
    job: &'a Job,
    reporter: &'a Reporter,
    session: Option<&'a Session>,
}

type Attributes = BTreeMap<String, String>;

impl Sources for FromClient<'_> {
    fn source(&self, source: &pb::SourceOp, platform: &Platform) -> Result<llb::Source> {
        let pb::SourceOp { identifier, attrs } = source;
        if let Some((digest, platform)) = results::of_source(source, platform) {
            let manifest = results::descriptor(&self.job.store, &digest, &platform)?;
            return Ok(llb::Source::Images(vec![(platform, manifest)]));
        }
        let (scheme, rest) = identifier.split_once("://").context("a source needs a scheme")?;
        match scheme {
            "docker-image" => image(rest, attrs),
            "local" => self.local(rest, attrs),
            "oci-layout" => self.layout(rest, attrs),
            "git" => git(rest, attrs),
            "http" if sources::upload_of(identifier).is_some() => self.upload(identifier, attrs),
            "http" | "https" => http(identifier, attrs),
            _ => bail!(
                "sources {scheme}:// are not known: use docker-image, local, git, http, https or oci-layout"
            ),
        }
    }
}

impl FromClient<'_> {
    /// The session that an attribute names, if it is there, or the client's.
    fn session(&self, id: Option<&str>) -> Result<Arc<Session>> {
        let named = id.filter(|id| !id.is_empty()).map(|id| self.job.session(Some(id)));
        match (named, self.session) {
            (Some(Ok(session)), _) => Ok(session),
            (Some(Err(error)), None) => Err(error),
            _ => self.job.session(None),
        }
    }

    /// A directory of the client; it stays until the build is over.
    fn local(&self, name: &str, attrs: &Attributes) -> Result<llb::Source> {
        let list = |name: &str| -> Result<Vec<String>> {
            match attrs.get(name) {
                Some(json) => serde_json::from_str(json).with_context(|| name.to_string()),
                None => Ok(Vec::new()),
            }
        };
        let metadata_only = attrs.get("local.metadatatransfer").is_some_and(|value| value == "true");
        ensure!(!metadata_only, "local://{name}: files without content (metadatatransfer) are not fetched");
        let wanted = Wanted {
            name: name.to_string(),
            includes: list("local.includepattern")?,
            excludes: list("local.excludepatterns")?,
            follow: list("local.followpaths")?,
        };
        let session = self.session(attrs.get("local.session").map(String::as_str))?;
        let vertex = format!("[internal] load local://{name}");
        let files = sources::receive(&session, &self.job.store, self.reporter, &vertex, &wanted)?;
        let path = files.path().to_path_buf();
        self.job.keep(files);
        Ok(llb::Source::Directory(path))
    }

    /// What the client uploads: a directory with the one file.
    fn upload(&self, address: &str, attrs: &Attributes) -> Result<llb::Source> {
        let llb::Source::Http { filename, .. } = http(address, attrs)? else { bail!("{address}: no upload") };
        let (host, path) = sources::upload_of(address).context("no upload")?;
        let mut uploads = self.job.uploads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(place) = uploads.get(address) {
            return Ok(llb::Source::Directory(place.clone()));
        }
        ensure!(
            !matches!(filename.as_str(), "." | "..") && !filename.contains('/'),
            "{filename}: no file name"
        );
        let directory = self.job.store.temporary_directory()?;
        let place = directory.path().join("upload");
        std::fs::create_dir(&place).context("receive an upload")?;
        let mut file = std::fs::File::create_new(place.join(filename)).context("receive an upload")?;
        let session = self.job.session(None)?;
        self.reporter
            .vertex("[internal] load an upload of the client", |_| session.upload(host, path, &mut file))?;
        self.job.keep(directory);
        uploads.insert(address.to_string(), place.clone());
        Ok(llb::Source::Directory(place))
    }

    /// An image in a store of the client: `NAME@DIGEST`.
    fn layout(&self, text: &str, attrs: &Attributes) -> Result<llb::Source> {
        let (name, digest) =
            text.split_once('@').with_context(|| format!("oci-layout://{text}: no digest"))?;
        let (name, _) = name.rsplit_once(':').unwrap_or((name, ""));
        let id = attrs.get("oci.store").map_or(name, String::as_str);
        let session = self.session(attrs.get("oci.session").map(String::as_str))?;
        let images = sources::layout(session, &self.job.store, self.reporter, id, &digest.parse()?)?;
        Ok(llb::Source::Images(images))
    }
}

fn image(name: &str, attrs: &Attributes) -> Result<llb::Source> {
    let mut reference: Reference = name.parse()?;
    if let Some(checksum) = attrs.get("image.checksum").filter(|checksum| !checksum.is_empty()) {
        reference = reference.with_digest(checksum.parse()?);
    }
    let pull = attrs.get("image.resolvemode").is_some_and(|mode| mode == "pull");
    Ok(llb::Source::Image { reference, pull })
}

/// `HOST/PATH[#[REVISION][:DIRECTORY]]`; the address for git is in an attribute.
fn git(rest: &str, attrs: &Attributes) -> Result<llb::Source> {
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
    let keep_git = attrs.get("git.keepgitdir").is_some_and(|value| value == "true");
    Ok(llb::Source::Git { source, keep_git })
}

fn http(address: &str, attrs: &Attributes) -> Result<llb::Source> {
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
