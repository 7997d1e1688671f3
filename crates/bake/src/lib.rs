//! Bake files: definitions of many builds in HCL, JSON or Compose's YAML, as `docker buildx bake` reads them.
//!
//! Texts of files in, a [`Plan`] of targets out; no file is read and nothing is built here. Sources: buildx's
//! "Bake file reference", "Bake standard library functions" and the guides beside them; the HCL
//! specification.

#![forbid(unsafe_code)]

mod cidr;
mod compose;
mod definitions;
mod error;
mod evaluate;
mod functions;
mod plan;
mod secrets;
mod syntax;
mod target;
mod time;
mod value;

use std::collections::BTreeMap;

pub use definitions::Variable;
pub use error::{BakeError, Result, SourceFile};
pub use plan::{Override, Plan, attest, call, load, push, switch_on};
pub use syntax::FILE_SIZE_MAX;
pub use target::Target;

/// Names of files that are read where none is given, in the order in which they are laid over each other.
pub const DEFAULT_FILES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];

/// What is asked of definitions.
pub struct Request<'a> {
    /// The files, in the order in which they are laid over each other.
    pub files: &'a [SourceFile],
    /// The file `.env` beside them, which has variables for files of Compose.
    pub dotenv: Option<&'a SourceFile>,
    /// Reads a file that a file of Compose includes or extends, by its path.
    pub read: &'a dyn Fn(&str) -> std::result::Result<String, String>,
    /// Names of targets and groups; none means `default`.
    pub names: &'a [String],
    /// `--set`.
    pub overrides: &'a [String],
    /// Variables of the environment, which replace those of the files.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Variables that are built in, such as `BAKE_LOCAL_PLATFORM`.
    pub builtin: &'a BTreeMap<String, String>,
}

/// What definitions hold, for `--list`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Targets and groups by name, with the description or the names of the group.
    pub targets: Vec<(String, String)>,
    /// Variables by name.
    pub variables: Vec<Variable>,
}

/// The targets to build.
///
/// # Errors
///
/// See [`BakeError`]: with the place where a file is wrong.
pub fn bake(request: &Request<'_>) -> Result<Plan> {
    let overrides: Vec<Override> = request
        .overrides
        .iter()
        .map(|text| Override::parse(text, request.environment))
        .collect::<Result<_>>()?;
    let Defined { targets, groups, warnings, .. } = defined(request, |_| Ok(()))?;
    let wanted = match request.names {
        [] => vec!["default".to_string()],
        names => names.to_vec(),
    };
    Ok(Plan { warnings, ..plan::plan(&targets, &groups, &wanted, &overrides)? })
}

/// What there is to build, and what can be set.
///
/// # Errors
///
/// As [`bake`].
pub fn list(request: &Request<'_>) -> Result<Listing> {
    let Defined { targets, groups, more: variables, .. } =
        defined(request, |definitions| definitions.listed_variables())?;
    let mut listed: Vec<(String, String)> =
        groups.iter().map(|(name, targets)| (name.clone(), targets.join(", "))).collect();
    listed.extend(targets.iter().map(|(name, defined)| {
        (name.clone(), defined.target.text("description").unwrap_or_default().to_string())
    }));
    listed.sort();
    Ok(Listing { targets: listed, variables })
}

/// What files define.
struct Defined<T> {
    targets: BTreeMap<String, definitions::Defined>,
    groups: BTreeMap<String, Vec<String>>,
    warnings: Vec<String>,
    more: T,
}

fn defined<T>(
    request: &Request<'_>,
    also: impl FnOnce(&definitions::Definitions<'_>) -> Result<T>,
) -> Result<Defined<T>> {
    let (of_compose, others): (Vec<&SourceFile>, Vec<&SourceFile>) =
        request.files.iter().partition(|file| compose::is_compose(file));
    let (dotenv, environment, read) = (request.dotenv, request.environment, request.read);
    let around = compose::Surroundings { dotenv, environment, read };
    let composed = match of_compose.is_empty() {
        true => None,
        false => Some(compose::compose(&of_compose, &around)?),
    };
    let files: Vec<SourceFile> = others.into_iter().cloned().collect();
    let numbered = files.iter().enumerate();
    let parsed = numbered.map(|(number, file)| syntax::parse(file, number)).collect::<Result<Vec<_>>>()?;
    let definitions = definitions::Definitions::new(&files, &parsed, request.environment, request.builtin)?;
    definitions.check_variables()?;
    let (mut targets, matrices) = definitions.targets()?;
    let mut groups = definitions.groups()?;
    for (name, made) in matrices {
        groups.entry(name).or_insert(made);
    }
    let mut warnings = Vec::new();
    if let Some(composed) = composed {
        // Files of Compose come first, wherever they stand; the others are laid over them.
        groups.entry("default".to_string()).or_insert_with(|| composed.targets.keys().cloned().collect());
        for (name, mut target) in composed.targets {
            if let Some(over) = targets.get(&name) {
                target.merge(over);
            }
            targets.insert(name, target);
        }
        warnings = composed.warnings;
    }
    let more = also(&definitions)?;
    Ok(Defined { targets, groups, warnings, more })
}
