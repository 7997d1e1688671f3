//! Which attestations a build makes, and how: the parameters of BuildKit's `attest:provenance` and
//! `attest:sbom` (BuildKit, docs/attestations/slsa-provenance.md and sbom.md).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use crossdock_dockerfile::values::{boolean, csv};

/// The attestations that a build makes; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How the image was built.
    pub provenance: Option<ProvenanceSettings>,
    /// Which packages are in it.
    pub sbom: Option<SbomSettings>,
}

/// How much a provenance says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No build arguments, labels, secrets, steps or Dockerfile.
    Min,
    /// Everything.
    #[default]
    Max,
}

/// The version of SLSA's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// `https://slsa.dev/provenance/v0.2`
    V02,
    /// `https://slsa.dev/provenance/v1`
    #[default]
    V1,
}

/// Parameters of the provenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenanceSettings {
    /// `mode`
    pub mode: Mode,
    /// `version`
    pub version: Version,
    /// `builder-id`: who built it, as an address.
    pub builder_id: String,
    /// `reproducible`: whether the user says that another build gives the same bytes.
    pub reproducible: bool,
    /// `inline-only`: not for outputs that would need a file of their own, and left out where an output has
    /// no place for it.
    pub inline_only: bool,
    /// `filename`: the file's name in outputs of files.
    pub filename: String,
}

impl Default for ProvenanceSettings {
    fn default() -> ProvenanceSettings {
        ProvenanceSettings {
            mode: Mode::default(),
            version: Version::default(),
            builder_id: String::new(),
            reproducible: false,
            inline_only: false,
            filename: "provenance.json".to_string(),
        }
    }
}

/// Parameters of the list of packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SbomSettings {
    /// `generator`: an image that makes the list; without one crossdock makes it.
    pub generator: Option<String>,
    /// Other parameters, for the generator: it sees `NAME` as the variable `BUILDKIT_SCAN_NAME`.
    pub parameters: BTreeMap<String, String>,
}

impl Settings {
    /// A provenance that says everything.
    pub fn for_records() -> Settings {
        let provenance = ProvenanceSettings { mode: Mode::Max, ..ProvenanceSettings::default() };
        Settings { provenance: Some(provenance), ..Settings::default() }
    }

    /// Whether no attestation is made.
    pub fn is_empty(&self) -> bool {
        self.provenance.is_none() && self.sbom.is_none()
    }

    /// Whether some attestation lists the layers of all steps.
    pub fn lists_layers(&self) -> bool {
        self.provenance.as_ref().is_some_and(|settings| settings.mode == Mode::Max)
    }

    /// Whether some attestation must not be left out: it is not `inline-only`.
    pub fn is_required(&self) -> bool {
        self.sbom.is_some() || self.provenance.as_ref().is_some_and(|settings| !settings.inline_only)
    }

    /// Sets the attestation `kind` (`provenance` or `sbom`) by its parameters, or removes it if they have
    /// `disabled=true`. A parameter `type` is ignored, since BuildKit's clients repeat the kind there.
    ///
    /// # Errors
    ///
    /// Says which kind, parameter or value is unknown, and what is right.
    pub fn set(&mut self, kind: &str, parameters: &BTreeMap<String, String>) -> Result<()> {
        let disabled = parameters.get("disabled").map_or(Ok(false), |value| truth("disabled", value))?;
        let mut rest = parameters.clone();
        rest.retain(|name, _| name != "type" && name != "disabled");
        match kind {
            "provenance" => self.provenance = Some(provenance(&rest)?).filter(|_| !disabled),
            "sbom" => self.sbom = Some(sbom(rest)?).filter(|_| !disabled),
            other => bail!("unknown type {other}: it is type=provenance or type=sbom"),
        }
        Ok(())
    }

    /// Sets the attestation `kind` by a text: nothing, a truth value of Go, or parameters as comma-separated
    /// `NAME=VALUE`.
    ///
    /// # Errors
    ///
    /// As for [`Settings::set`].
    pub fn set_text(&mut self, kind: &str, text: &str) -> Result<()> {
        let parameters = match boolean(text) {
            Some(wanted) => BTreeMap::from([("disabled".to_string(), (!wanted).to_string())]),
            None if text.is_empty() => BTreeMap::new(),
            None => fields(kind, text)?,
        };
        self.set(kind, &parameters)
    }

    /// The settings in the attributes that BuildKit's clients send: `attest:provenance`, `attest:sbom`, and
    /// the build arguments `BUILDKIT_ATTEST_PROVENANCE` and `BUILDKIT_ATTEST_SBOM`. Other attributes are
    /// ignored.
    ///
    /// # Errors
    ///
    /// As for [`Settings::set`]; the error names the attribute.
    pub fn of_attributes(attributes: &BTreeMap<String, String>) -> Result<Settings> {
        let mut settings = Settings::default();
        for (name, value) in attributes {
            let kind =
                name.strip_prefix("attest:").or_else(|| name.strip_prefix("build-arg:BUILDKIT_ATTEST_"));
            if let Some(kind) = kind {
                settings
                    .set_text(&kind.to_ascii_lowercase(), value)
                    .with_context(|| format!("{name}={value}"))?;
            }
        }
        Ok(settings)
    }
}

/// Reads comma-separated `NAME=VALUE`.
fn fields(kind: &str, text: &str) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for field in csv(text).map_err(anyhow::Error::msg)? {
        match field.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                all.insert(name.trim().to_string(), value.to_string());
            }
            _ if kind == "sbom" => bail!("it is true, false, or generator=IMAGE"),
            _ => bail!("it is true, false, or settings such as mode=max"),
        }
    }
    Ok(all)
}

fn truth(name: &str, value: &str) -> Result<bool> {
    boolean(value).with_context(|| format!("{name}={value}: it is true or false"))
}

fn provenance(parameters: &BTreeMap<String, String>) -> Result<ProvenanceSettings> {
    let mut all = ProvenanceSettings::default();
    for (name, value) in parameters {
        match name.as_str() {
            "mode" => {
                all.mode = match value.as_str() {
                    "min" => Mode::Min,
                    // The old name.
                    "max" | "full" => Mode::Max,
                    _ => bail!("mode={value}: it is min or max"),
                }
            }
            "version" => {
                all.version = match value.as_str() {
                    "v1" => Version::V1,
                    "v0.2" => Version::V02,
                    _ => bail!("version={value}: it is v1 or v0.2"),
                }
            }
            "builder-id" => all.builder_id.clone_from(value),
            "reproducible" => all.reproducible = truth(name, value)?,
            "inline-only" => all.inline_only = truth(name, value)?,
            "filename" if value.is_empty() || value.contains('/') || matches!(value.as_str(), "." | "..") => {
                bail!("filename={value}: it is a name without a directory")
            }
            "filename" => all.filename.clone_from(value),
            // Steps are not measured.
            "capture-usage" => drop(truth(name, value)?),
            _ => bail!(
                "{name}={value}: a provenance has mode, version, builder-id, reproducible, inline-only and filename"
            ),
        }
    }
    Ok(all)
}

fn sbom(mut parameters: BTreeMap<String, String>) -> Result<SbomSettings> {
    let generator = parameters.remove("generator").filter(|image| !image.is_empty());
    match parameters.iter().next() {
        Some((name, value)) if generator.is_none() => {
            bail!("{name}={value}: it is a parameter of a generator, give generator=IMAGE, too")
        }
        _ => Ok(SbomSettings { generator, parameters }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(kind: &str, text: &str) -> Result<Settings> {
        let mut settings = Settings::default();
        settings.set_text(kind, text).map(|()| settings)
    }

    #[test]
    fn texts_are_truth_values_or_parameters() {
        let provenance = |text| set("provenance", text).expect(text).provenance;
        assert_eq!(provenance("false"), None);
        assert_eq!(provenance("mode=min,disabled=true"), None);
        for text in ["", "true", "1", "type=provenance", "mode=max", "mode=full,disabled=0"] {
            assert_eq!(provenance(text), Some(ProvenanceSettings::default()), "{text}");
        }
        let all = provenance(
            "mode=min,version=v0.2,\"builder-id=https://b/1,2\",reproducible=true,inline-only=1,filename=p.json",
        );
        let expected = ProvenanceSettings {
            mode: Mode::Min,
            version: Version::V02,
            builder_id: "https://b/1,2".into(),
            reproducible: true,
            inline_only: true,
            filename: "p.json".into(),
        };
        assert_eq!(all, Some(expected));
        let sbom = set("sbom", "generator=a/b:1,SELECT=x").expect("valid").sbom.expect("asked for");
        assert_eq!((sbom.generator.as_deref(), &sbom.parameters["SELECT"][..]), (Some("a/b:1"), "x"));
    }

    #[test]
    fn wrong_parameters_are_named() {
        for (kind, text, reason) in [
            ("other", "", "type=provenance or type=sbom"),
            ("provenance", "perhaps", "true, false, or settings"),
            ("sbom", "syft", "true, false, or generator=IMAGE"),
            ("provenance", "mode=mid", "mode=mid: it is min or max"),
            ("provenance", "version=v2", "v1 or v0.2"),
            ("provenance", "reproducible=so", "true or false"),
            ("provenance", "filename=../x", "without a directory"),
            ("provenance", "frobnicate=1", "frobnicate=1"),
            ("sbom", "SELECT=x", "generator=IMAGE"),
        ] {
            let error = set(kind, text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn attributes_of_clients() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let read = Settings::of_attributes(&map(&[
            ("attest:provenance", "mode=min,inline-only=true"),
            ("build-arg:BUILDKIT_ATTEST_SBOM", "true"),
            ("target", "x"),
        ]));
        let read = read.expect("valid");
        assert!(read.provenance.as_ref().is_some_and(|p| p.inline_only && p.mode == Mode::Min));
        assert!(read.sbom.is_some() && read.is_required() && !read.is_empty());
        let error = Settings::of_attributes(&map(&[("attest:vex", "")])).expect_err("unknown");
        assert!(error.to_string().contains("attest:vex"), "{error}");
    }
}
