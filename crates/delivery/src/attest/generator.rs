//! Lists of packages that another program makes: an image that reads the files of a result and writes SPDX
//! documents (BuildKit, docs/attestations/sbom-protocol.md).
//!
//! The image runs as a step of a small build: the result is mounted below [`SOURCE`], and what the program
//! leaves in [`DESTINATION`] is read.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use crossdock_builder::git::GitSource;
use crossdock_builder::{
    BuildRequest, Built, BuiltImage, Environment, Event, Events, Images, NamedContext, Secrets, build,
};
use crossdock_oci::config::ProcessConfig;
use crossdock_oci::{Descriptor, Reference, Store};
use crossdock_platform::Platform;
use serde_json::Value;

use super::opened::open_root;
use super::scans::{Extra, beside};
use super::settings::SbomSettings;
use super::statement::{Attestation, SPDX};

/// Where the program finds the files.
const SOURCE: &str = "/run/src/core/sbom";
/// Where the program finds directories with files of stages and of the context.
const EXTRAS: &str = "/run/src/extras/";
/// Where the program leaves its documents.
const DESTINATION: &str = "/run/out";
/// The end of a document's name.
const ENDING: &str = ".json";
/// The name of the result in the small build.
const RESULT: &str = "crossdock.invalid/result:latest";
/// The largest document that is read, in bytes.
const DOCUMENT_SIZE_MAX: u64 = 80 << 20;
/// Lines of the program's output that an error shows.
const LINES_MAX: usize = 20;

/// Gives the result under a name, and everything else as before.
struct WithResult<'a> {
    images: &'a dyn Images,
    name: Reference,
    result: &'a Descriptor,
}

impl Images for WithResult<'_> {
    fn resolve(&self, reference: &Reference, platform: &Platform, pull: bool) -> Result<Descriptor, String> {
        match *reference == self.name {
            true => Ok(self.result.clone()),
            false => self.images.resolve(reference, platform, pull),
        }
    }

    fn download(&self, url: &str, to: &Path) -> Result<Option<i64>, String> {
        self.images.download(url, to)
    }

    fn layer(&self, layer: &Descriptor) -> Result<(), String> {
        self.images.layer(layer)
    }

    fn checkout(
        &self,
        source: &GitSource,
        keep_git: bool,
        to: &Path,
        secrets: &dyn Secrets,
    ) -> Result<String, String> {
        self.images.checkout(source, keep_git, to, secrets)
    }
}

/// Keeps the last lines that the program wrote.
#[derive(Default)]
struct LastLines(Mutex<VecDeque<String>>);

impl Events for LastLines {
    fn event(&self, event: Event) {
        if let Event::Output { line, is_transient: false, .. } = event {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push_back(line);
            if lines.len() > LINES_MAX {
                lines.pop_front();
            }
        }
    }
}

/// Runs the generator on an image and what is listed besides it, and returns what it has written.
///
/// # Errors
///
/// The generator cannot be had, has no program, fails, or writes no document of SPDX; the error names it.
pub fn attestations(
    env: &Environment<'_>,
    generator: &Reference,
    settings: &SbomSettings,
    image: &BuiltImage,
    extras: &[Extra],
) -> Result<Vec<Attestation>> {
    let doing = || format!("list packages with the generator {}", generator.familiar());
    let built = run(env, generator, settings, (image, extras)).with_context(doing)?;
    documents(env.store, &built.images[0]).with_context(doing)
}

fn run(
    env: &Environment<'_>,
    generator: &Reference,
    settings: &SbomSettings,
    (image, extras): (&BuiltImage, &[Extra]),
) -> Result<Built> {
    let host = Platform::host();
    let manifest = env.images.resolve(generator, &host, false).map_err(anyhow::Error::msg)?;
    let config = env.store.load_image(&manifest)?.config.config;
    let name: Reference = RESULT.parse().expect("a valid name");
    let mut request = BuildRequest::for_platform(host.clone());
    let names: Vec<String> = extras.iter().map(Extra::shown).collect();
    request.dockerfile = dockerfile(&config, settings, &names)?.into_bytes();
    for (name, extra) in names.into_iter().zip(extras) {
        let written = extra.files.write(env.store)?;
        request.contexts.insert(name, NamedContext::Images(vec![(host.clone(), written.manifest)]));
    }
    request.contexts.insert("generator".into(), NamedContext::Image(generator.clone()));
    request.contexts.insert("result".into(), NamedContext::Image(name.clone()));
    let lines = LastLines::default();
    let images = WithResult { images: env.images, name, result: &image.manifest };
    build(&beside(env, &images, &lines), &request).map_err(|error| {
        let lines = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<&str> = lines.iter().map(String::as_str).collect();
        match said.is_empty() {
            true => anyhow::Error::from(error),
            false => anyhow::anyhow!("{error}; it said:\n{}", said.join("\n")),
        }
    })
}

/// The small build: the generator's own command, with the variables of the protocol. `extras` are names of
/// what is listed besides the image.
fn dockerfile(config: &ProcessConfig, settings: &SbomSettings, extras: &[String]) -> Result<String> {
    let entrypoint = config.entrypoint.clone().unwrap_or_default();
    let command: Vec<String> = entrypoint.into_iter().chain(config.cmd.clone().unwrap_or_default()).collect();
    if command.is_empty() {
        bail!("the image has neither ENTRYPOINT nor CMD");
    }
    let mut variables = vec![
        ("BUILDKIT_SCAN_DESTINATION".to_string(), DESTINATION.to_string()),
        ("BUILDKIT_SCAN_SOURCE".to_string(), SOURCE.to_string()),
    ];
    if !extras.is_empty() {
        variables.push(("BUILDKIT_SCAN_SOURCE_EXTRAS".to_string(), EXTRAS.to_string()));
    }
    for (name, value) in &settings.parameters {
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            || value.contains(['\n', '\r'])
        {
            bail!("{name}={value}: names have letters, digits and \"_\", and values are one line");
        }
        variables.push((format!("BUILDKIT_SCAN_{name}"), value.clone()));
    }
    let mut text = "FROM generator AS scan\n".to_string();
    for (name, value) in variables {
        text.push_str(&format!("ENV {name}={}\n", quoted(&value)));
    }
    text.push_str(&format!("COPY <<.keep {DESTINATION}/.keep\n.keep\n"));
    // Exec form: the image may have no shell.
    let command = serde_json::to_string(&command).expect("strings always serialise");
    let mut mounts = format!("--mount=type=bind,from=result,target={SOURCE}");
    for name in extras {
        mounts.push_str(&format!(" --mount=type=bind,from={name},target={EXTRAS}{name}"));
    }
    text.push_str(&format!("RUN {mounts} {command}\n"));
    text.push_str(&format!("FROM scratch\nCOPY --from=scan {DESTINATION}/ /\n"));
    Ok(text)
}

/// A value of ENV in double quotes (Dockerfile reference, "Environment replacement").
fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// The documents in the result of the small build: that of the image first.
fn documents(store: &Store, result: &BuiltImage) -> Result<Vec<Attestation>> {
    let opened = open_root(store, result.trees(store)?)?;
    let mut names = opened.root.list("");
    names.retain(|name| name.ends_with(ENDING));
    names.sort_by_key(|name| *name != format!("sbom.spdx{ENDING}"));
    let mut all = Vec::new();
    for name in names {
        let bytes = opened.root.read(&name, DOCUMENT_SIZE_MAX);
        let bytes = bytes.with_context(|| format!("{name}: no file of at most {DOCUMENT_SIZE_MAX} bytes"))?;
        let predicate = predicate(&bytes).with_context(|| name.clone())?;
        let predicate_type = SPDX.to_string();
        all.push(Attestation { predicate_type, predicate, file_name: name, inline_only: false });
    }
    if all.is_empty() {
        bail!("it left no file {DESTINATION}/NAME{ENDING}");
    }
    Ok(all)
}

/// The document that a file has: as the predicate of an in-toto statement, or alone.
fn predicate(bytes: &[u8]) -> Result<Value> {
    let mut value: Value = serde_json::from_slice(bytes).context("it is not JSON")?;
    match value["predicateType"].as_str() {
        Some(SPDX) => Ok(value["predicate"].take()),
        Some(other) => bail!("its predicate is of the type {other}: only {SPDX} is known"),
        None if value["spdxVersion"].is_string() => Ok(value),
        None => bail!("it is neither an in-toto statement nor a document of SPDX"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_a_step() {
        let words = |words: &[&str]| Some(words.iter().map(|word| word.to_string()).collect());
        let config = ProcessConfig {
            entrypoint: words(&["/scan"]),
            cmd: words(&["-v", "a\"b"]),
            ..Default::default()
        };
        let mut settings = SbomSettings::default();
        settings.parameters.insert("SELECT".into(), "a $b".into());
        let text = dockerfile(&config, &settings, &["sbom-tool".into()]).expect("valid");
        assert!(text.contains("ENV BUILDKIT_SCAN_SELECT=\"a \\$b\"\n"), "{text}");
        let mounts =
            "target=/run/src/core/sbom --mount=type=bind,from=sbom-tool,target=/run/src/extras/sbom-tool";
        assert!(text.contains(&format!("{mounts} [\"/scan\",\"-v\",\"a\\\"b\"]\n")), "{text}");
        assert!(text.contains("ENV BUILDKIT_SCAN_SOURCE_EXTRAS=\"/run/src/extras/\"\n"), "{text}");
        assert!(crossdock_dockerfile::Dockerfile::parse(text.as_bytes()).is_ok());
        settings.parameters.insert("A B".into(), "x".into());
        assert!(dockerfile(&config, &settings, &[]).is_err());
        let error =
            dockerfile(&ProcessConfig::default(), &SbomSettings::default(), &[]).expect_err("no command");
        assert!(error.to_string().contains("neither ENTRYPOINT nor CMD"));
    }

    #[test]
    fn documents_stand_alone_or_in_statements() {
        let document = r#"{"spdxVersion":"SPDX-2.3"}"#;
        let statement = format!(r#"{{"predicateType":"{SPDX}","predicate":{document}}}"#);
        for text in [document, &statement] {
            assert_eq!(predicate(text.as_bytes()).expect(text)["spdxVersion"], "SPDX-2.3");
        }
        for text in ["", "{}", r#"{"predicateType":"https://cyclonedx.org/bom","predicate":{}}"#] {
            assert!(predicate(text.as_bytes()).is_err(), "{text}");
        }
    }
}
