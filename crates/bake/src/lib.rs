//! Bake files: definitions of many builds in HCL or JSON, as `docker buildx bake` reads them.
//!
//! Texts of files in, a [`Plan`] of targets out; no file is read and nothing is built here. Sources: buildx's
//! "Bake file reference", "Bake standard library functions" and the guides beside them; the HCL
//! specification.

#![forbid(unsafe_code)]

mod definitions;
mod error;
mod evaluate;
mod functions;
mod plan;
mod syntax;
mod target;
mod value;

use std::collections::BTreeMap;

pub use definitions::Variable;
pub use error::{BakeError, Result, SourceFile};
pub use plan::{Override, Plan, load, push};
pub use syntax::FILE_SIZE_MAX;
pub use target::Target;

/// Names of files that are read where none is given, in the order in which they are laid over each other.
pub const DEFAULT_FILES: [&str; 4] =
    ["docker-bake.json", "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl"];

/// What is asked of definitions.
pub struct Request<'a> {
    /// The files, in the order in which they are laid over each other.
    pub files: &'a [SourceFile],
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
    let (targets, groups) = defined(request, |_| Ok(()))?.0;
    let wanted = match request.names {
        [] => vec!["default".to_string()],
        names => names.to_vec(),
    };
    plan::plan(&targets, &groups, &wanted, &overrides)
}

/// What there is to build, and what can be set.
///
/// # Errors
///
/// As [`bake`].
pub fn list(request: &Request<'_>) -> Result<Listing> {
    let ((targets, groups), variables) = defined(request, |definitions| definitions.listed_variables())?;
    let mut listed: Vec<(String, String)> =
        groups.iter().map(|(name, targets)| (name.clone(), targets.join(", "))).collect();
    listed.extend(targets.iter().map(|(name, defined)| {
        (name.clone(), defined.target.text("description").unwrap_or_default().to_string())
    }));
    listed.sort();
    Ok(Listing { targets: listed, variables })
}

type Named = (BTreeMap<String, definitions::Defined>, BTreeMap<String, Vec<String>>);

fn defined<T>(
    request: &Request<'_>,
    also: impl FnOnce(&definitions::Definitions<'_>) -> Result<T>,
) -> Result<(Named, T)> {
    let numbered = request.files.iter().enumerate();
    let parsed = numbered.map(|(number, file)| syntax::parse(file, number)).collect::<Result<Vec<_>>>()?;
    let definitions =
        definitions::Definitions::new(request.files, &parsed, request.environment, request.builtin)?;
    definitions.check_variables()?;
    let (targets, matrices) = definitions.targets()?;
    let mut groups = definitions.groups()?;
    for (name, made) in matrices {
        groups.entry(name).or_insert(made);
    }
    let more = also(&definitions)?;
    Ok(((targets, groups), more))
}
