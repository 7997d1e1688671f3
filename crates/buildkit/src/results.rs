//! Results of solves: what a client holds by an id, reads files of, gives to another solve, and returns for
//! the export.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::image::Image;
use anyhow::{Context, Result, bail, ensure};
use bollard_buildkit_proto::fsutil::types::Stat;
use bollard_buildkit_proto::pb;
use crossdock_builder::solver::cache::StepCache;
use crossdock_builder::solver::view::View;
use crossdock_delivery::attest::statement::{Attestation, SLSA};
use crossdock_dockerfile::pattern::Pattern;
use crossdock_oci::{Descriptor, Digest, Store};
use crossdock_platform::Platform;
use prost::Message;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde_json::{Map, Value};

/// How a definition names a result of ours: `crossdock-result://` and the digest of its manifest, or the name
/// of an image that is not written. Clients hand definitions back as they are.
const SCHEME: &str = "crossdock-result://";

/// The largest piece of a file that one call reads, in bytes; a message may have 16 MiB.
const PIECE_MAX: i64 = 15 * 1024 * 1024;

/// The largest statement that a client's frontend may make, in bytes.
const STATEMENT_SIZE_MAX: usize = 80 << 20;

/// The image of one platform, made by a solve.
#[derive(Clone)]
pub struct Solved {
    /// The image.
    pub image: Image,
    /// All steps of its build.
    pub steps: StepCache,
    /// What is attested of it.
    pub attestations: Vec<Attestation>,
    /// Its provenance for the record of the build, which nobody needs to ask for.
    pub recorded: Option<Attestation>,
    /// `SOURCE_DATE_EPOCH` of the build.
    pub epoch: Option<i64>,
}

impl Solved {
    /// What clients hold as this result's definition.
    pub fn definition(&self) -> pb::Definition {
        let identifier = format!("{SCHEME}{}", self.image.name());
        let source = pb::SourceOp { identifier, attrs: Default::default() };
        let platform = self.image.platform();
        let platform = pb::Platform {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            ..pb::Platform::default()
        };
        let op = pb::Op {
            platform: Some(platform),
            constraints: Some(pb::WorkerConstraints::default()),
            op: Some(pb::op::Op::Source(source)),
            ..pb::Op::default()
        };
        let first = op.encode_to_vec();
        let digest = Digest::of(&first).to_string();
        let input = pb::Input { digest: digest.clone(), index: 0 };
        let last = pb::Op { inputs: vec![input], ..pb::Op::default() }.encode_to_vec();
        let metadata =
            [digest, Digest::of(&last).to_string()].map(|digest| (digest, pb::OpMetadata::default()));
        pb::Definition { def: vec![first, last], metadata: metadata.into_iter().collect(), source: None }
    }
}

/// The name and platform of the result that a definition names; `None` if it names something else.
pub fn of_definition(definition: &pb::Definition) -> Option<(String, Platform)> {
    let ops: BTreeMap<String, pb::Op> = definition
        .def
        .iter()
        .filter_map(|bytes| Some((Digest::of(bytes).to_string(), pb::Op::decode(&bytes[..]).ok()?)))
        .collect();
    let last = pb::Op::decode(&definition.def.last()?[..]).ok()?;
    let op = ops.get(&last.inputs.first()?.digest)?;
    let Some(pb::op::Op::Source(source)) = &op.op else { return None };
    of_source(source, &platform_of(op.platform.as_ref()?)?)
}

/// [`of_definition`] for one source in a definition.
pub fn of_source(source: &pb::SourceOp, platform: &Platform) -> Option<(String, Platform)> {
    let name = source.identifier.strip_prefix(SCHEME)?;
    Some((name.to_string(), platform.clone()))
}

/// A platform of a client; `None` if it names no architecture or is no platform.
pub fn platform_of(platform: &pb::Platform) -> Option<Platform> {
    let pb::Platform { os, architecture, variant, .. } = platform;
    let text = match variant.as_str() {
        "" => format!("{os}/{architecture}"),
        variant => format!("{os}/{architecture}/{variant}"),
    };
    text.parse().ok().filter(|_| !architecture.is_empty())
}

/// The descriptor of a result's manifest, which is in the store.
pub fn descriptor(store: &Store, digest: &Digest, platform: &Platform) -> Result<Descriptor> {
    let bytes = store.read_blob(digest).with_context(|| format!("the result {digest} is gone"))?;
    Ok(Descriptor::of(crossdock_oci::media_type::OCI_MANIFEST, &bytes).with_platform(platform.clone()))
}

/// The result with another configuration, which a client gave (BuildKit, exporter/containerimage/exptypes:
/// `containerimage.config`). Its layers stay; a history that does not fit them is replaced; times that are
/// missing are those of the result, and with an `epoch` all of them are that.
///
/// # Errors
///
/// The configuration is no JSON object; the store's.
pub fn configured(store: &Store, solved: Solved, given: &[u8], epoch: Option<i64>) -> Result<Solved> {
    if solved.image.config(store)? == given {
        return Ok(solved);
    }
    let written = solved.image.written(store)?;
    let loaded = store.load_image(&written.manifest)?;
    let mut config: serde_json::Value =
        serde_json::from_slice(given).context("the image configuration that the client gave")?;
    let own: serde_json::Value = serde_json::from_slice(&loaded.config_bytes)?;
    let is_layer = |line: &&serde_json::Value| line["empty_layer"] != true;
    let lines = config["history"].as_array().map_or(0, |lines| lines.iter().filter(is_layer).count());
    let layers = loaded.manifest.layers.len();
    let Some(fields) = config.as_object_mut() else {
        bail!("the image configuration that the client gave is no object");
    };
    fields.insert("rootfs".to_string(), own["rootfs"].clone());
    if lines != layers {
        fields.insert("history".to_string(), own["history"].clone());
    }
    for name in ["architecture", "os"] {
        fields.entry(name).or_insert_with(|| own[name].clone());
    }
    set_times(fields, &own["created"], epoch)?;
    let mut changed = crossdock_oci::Image::from(loaded);
    changed
        .set_config(serde_json::to_vec(&config)?)
        .context("the image configuration that the client gave")?;
    let mut image = written;
    image.put(store, &changed)?;
    let image = Image::Written(image);
    // A list of packages is about the image as it was; how it was made is the same.
    let mut attestations = solved.attestations;
    attestations.retain(|made| made.predicate_type.starts_with(SLSA));
    Ok(Solved { image, attestations, epoch: epoch.or(solved.epoch), ..solved })
}

/// Sets the times of a configuration.
fn set_times(fields: &mut Map<String, Value>, own: &Value, epoch: Option<i64>) -> Result<()> {
    let epoch = epoch.map(jiff::Timestamp::from_second).transpose().context("the epoch of the build")?;
    let epoch = epoch.map(|time| Value::from(time.to_string()));
    let set = |fields: &mut Map<String, Value>| match &epoch {
        Some(epoch) => drop(fields.insert("created".to_string(), epoch.clone())),
        None if fields.get("created").is_none_or(Value::is_null) && !own.is_null() => {
            fields.insert("created".to_string(), own.clone());
        }
        None => {}
    };
    set(fields);
    for line in fields.get_mut("history").and_then(Value::as_array_mut).into_iter().flatten() {
        line.as_object_mut().into_iter().for_each(set);
    }
    Ok(())
}

/// The files of a result.
pub struct Files(View);

impl Files {
    /// Opens the files of an image.
    ///
    /// # Errors
    ///
    /// Its layers cannot be unpacked or stacked.
    pub fn of(store: &Store, image: &Image) -> Result<Files> {
        let view = View::new(store, &image.trees(store)?)?;
        Ok(Files(view))
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(self.0.root(), relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        opened.with_context(|| format!("open {path}"))
    }

    /// Reads a part of a file: from `offset`, at most `length` bytes if that is not 0.
    ///
    /// # Errors
    ///
    /// It is not there, is no file, or is too large for one answer.
    pub fn read(&self, path: &str, offset: i64, length: i64) -> Result<Vec<u8>> {
        let file = std::fs::File::from(self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        let found = file.metadata()?;
        if !found.is_file() {
            bail!("read {path}: not a file");
        }
        let offset = u64::try_from(offset).unwrap_or(0);
        let rest = i64::try_from(found.len().saturating_sub(offset)).unwrap_or(i64::MAX);
        let length = if length > 0 { length.min(rest) } else { rest };
        if length > PIECE_MAX {
            bail!("read {path}: {length} bytes are too many for one answer, read them in parts");
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset).with_context(|| format!("read {path}"))?;
        Ok(bytes)
    }

    /// A whole file of JSON.
    fn json(&self, path: &str) -> Result<Value> {
        let mut bytes = Vec::new();
        loop {
            let piece = self.read(path, i64::try_from(bytes.len())?, PIECE_MAX)?;
            let is_last = (piece.len() as i64) < PIECE_MAX;
            bytes.extend(piece);
            ensure!(bytes.len() <= STATEMENT_SIZE_MAX, "{path}: more than {STATEMENT_SIZE_MAX} bytes");
            if is_last {
                return serde_json::from_slice(&bytes).with_context(|| format!("{path}: not JSON"));
            }
        }
    }

    /// The attestation in a file: a predicate of this type, or an in-toto statement.
    ///
    /// # Errors
    ///
    /// It cannot be read, is no statement, or is a provenance, which only the builder knows.
    pub fn attestation(
        &self,
        path: &str,
        predicate_type: Option<&str>,
        inline_only: bool,
    ) -> Result<Attestation> {
        let mut value = self.json(path)?;
        let (predicate_type, predicate) = match predicate_type {
            Some(predicate_type) => (predicate_type.to_string(), value),
            None => {
                let predicate_type = value["predicateType"].as_str().map(str::to_string);
                let missing = || format!("{path}: no statement of in-toto");
                (predicate_type.with_context(missing)?, value["predicate"].take())
            }
        };
        ensure!(!predicate_type.starts_with(SLSA), "{path}: a frontend may not set provenance attestations");
        let file_name = path.rsplit('/').next().unwrap_or_default().to_string();
        Ok(Attestation { predicate_type, predicate, file_name, inline_only })
    }

    /// The attestations in the files of a directory, each an in-toto statement.
    ///
    /// # Errors
    ///
    /// As for [`Files::attestation`].
    pub fn bundle(&self, directory: &str, inline_only: bool) -> Result<Vec<Attestation>> {
        let directory = directory.trim_end_matches('/');
        let files = self.list(&format!("{directory}/"), "")?;
        let one = |file: &Stat| self.attestation(&format!("{directory}/{}", file.path), None, inline_only);
        files.iter().map(one).collect()
    }

    /// The files of a directory whose names fit a pattern (`*` and `?`); all if it is empty.
    ///
    /// # Errors
    ///
    /// It is not there, or is no directory.
    pub fn list(&self, path: &str, pattern: &str) -> Result<Vec<Stat>> {
        let directory = self.open(path, OFlags::DIRECTORY | OFlags::RDONLY)?;
        let wanted = Pattern::new(if pattern.is_empty() { "*" } else { pattern });
        let wanted = wanted.map_err(|error| anyhow::anyhow!("{pattern}: {error}"))?;
        let mut all = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory).with_context(|| format!("read {path}"))? {
            let entry = entry.with_context(|| format!("read {path}"))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !matches!(name.as_str(), "." | "..") && wanted.matches(&name) {
                all.push(self.stat(&format!("{}/{name}", path.trim_end_matches('/')), &name)?);
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// What is at a path; a link itself, not where it leads.
    ///
    /// # Errors
    ///
    /// Nothing is there.
    pub fn stat(&self, path: &str, name: &str) -> Result<Stat> {
        let open = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let found =
            std::fs::File::from(open.try_clone()?).metadata().with_context(|| format!("stat {path}"))?;
        let linkname = match found.is_symlink() {
            true => {
                let target = rustix::fs::readlinkat(&open, "", Vec::new())
                    .with_context(|| format!("read link {path}"))?;
                target.to_string_lossy().into_owned()
            }
            false => String::new(),
        };
        Ok(Stat {
            path: name.to_string(),
            mode: crate::session::mode_for_go(found.mode()),
            uid: found.uid(),
            gid: found.gid(),
            size: if found.is_file() { i64::try_from(found.len()).unwrap_or(i64::MAX) } else { 0 },
            mod_time: found.mtime() * 1_000_000_000 + found.mtime_nsec(),
            linkname,
            ..Stat::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_builder::{Base, BuiltImage};

    #[test]
    fn times_that_are_missing_are_the_results() {
        let config = |epoch: Option<i64>| {
            let mut config = serde_json::json!({
                "history": [{ "created_by": "a" }, { "created": "2001-01-01T00:00:00Z" }, null, 7],
            });
            let own = Value::from("2002-02-02T00:00:00Z");
            set_times(config.as_object_mut().expect("an object"), &own, epoch).expect("set");
            let times =
                [&config["created"], &config["history"][0]["created"], &config["history"][1]["created"]];
            times.map(|time| time.as_str().expect("a time").to_string())
        };
        assert_eq!(config(None), ["2002-02-02T00:00:00Z", "2002-02-02T00:00:00Z", "2001-01-01T00:00:00Z"]);
        assert_eq!(config(Some(7)), ["1970-01-01T00:00:07Z"; 3]);
        assert!(set_times(&mut Map::new(), &Value::Null, Some(i64::MAX)).is_err());
    }

    #[test]
    fn a_definition_leads_back_to_its_result() {
        let platform: Platform = "linux/arm/v7".parse().expect("a platform");
        let manifest = Descriptor::of("x", b"manifest").with_platform(platform.clone());
        let image = BuiltImage {
            platform: platform.clone(),
            id: Digest::of(b"config"),
            layers: Vec::new(),
            base: Base::default(),
            manifest: manifest.clone(),
        };
        let solved = Solved {
            image: Image::Written(image),
            steps: StepCache::default(),
            attestations: Vec::new(),
            recorded: None,
            epoch: None,
        };
        assert_eq!(of_definition(&solved.definition()), Some((manifest.digest.to_string(), platform)));
        assert_eq!(of_definition(&pb::Definition::default()), None);
    }
}
