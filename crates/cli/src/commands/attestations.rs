//! The options of build that ask for attestations: `--provenance`, `--sbom` and `--attest` (buildx's
//! reference, "buildx build").

use std::path::Path;

use crossdock_builder::BuildRequest;
use crossdock_delivery::attest::provenance::Inputs;
use crossdock_delivery::attest::settings::Settings;
use crossdock_delivery::attest::vcs;
use crossdock_delivery::contexts::Input;
use crossdock_dockerfile::values::{boolean, csv};

use crate::values::switch;

/// The value of one `--attest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    kind: String,
    parameters: String,
}

/// The value of `--provenance`: a truth value of Go, or settings; `false` if no attestation is asked for.
pub fn provenance(text: &str) -> Result<String, String> {
    checked("provenance", text)
}

/// The value of `--sbom`, as for [`provenance`].
pub fn sbom(text: &str) -> Result<String, String> {
    checked("sbom", text)
}

/// The value of `--attest`: `type=KIND` and settings; the type may also be a word of its own.
pub fn attest(text: &str) -> Result<Attest, String> {
    let fields = csv(text)?;
    let first = fields.first().filter(|first| !first.contains('='));
    let kind =
        first.map(String::as_str).or_else(|| fields.iter().find_map(|field| field.strip_prefix("type=")));
    let kind = kind.ok_or("the form is type=provenance,... or type=sbom,...")?.to_string();
    let parameters = match first {
        Some(first) => text.get(first.len()..).unwrap_or_default().trim_start_matches(',').to_string(),
        None => text.to_string(),
    };
    checked(&kind, &parameters)?;
    Ok(Attest { kind, parameters })
}

/// The settings that the options ask for together; of one kind the last option counts.
pub fn settings(
    attests: &[Attest],
    provenance: Option<&str>,
    sbom: Option<&str>,
) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    let given = attests.iter().map(|one| (one.kind.as_str(), one.parameters.as_str()));
    let short = [("provenance", provenance), ("sbom", sbom)];
    let short = short.into_iter().filter_map(|(kind, text)| Some((kind, text?)));
    for (kind, text) in given.chain(short) {
        settings.set_text(kind, text)?;
    }
    Ok(settings)
}

/// What the build is asked for, for its provenance. As in buildx, `BUILDX_GIT_INFO=false` leaves out what Git
/// says of the context.
pub fn inputs(
    settings: &Settings,
    request: &BuildRequest,
    input: &Input,
    dockerfile: Option<&Path>,
) -> anyhow::Result<Inputs> {
    if settings.is_empty() {
        return Ok(Inputs::default());
    }
    let mut inputs = Inputs::of(request, input)?;
    let wants_git = std::env::var("BUILDX_GIT_INFO").ok().and_then(|text| boolean(&text)).unwrap_or(true);
    if let Some(context) = request.context.as_deref().filter(|_| wants_git && input.address.is_none()) {
        inputs.attributes.extend(vcs::attributes(context, dockerfile));
    }
    Ok(inputs)
}

fn checked(kind: &str, text: &str) -> Result<String, String> {
    let mut settings = Settings::default();
    settings.set_text(kind, text).map_err(|error| error.to_string())?;
    Ok(match (settings.is_empty(), switch(text)) {
        (true, _) => "false".to_string(),
        (false, Ok(_)) => "true".to_string(),
        (false, Err(_)) => text.to_string(),
    })
}
