//! The stages that a target needs, and the meaning of names in a Dockerfile.

use std::collections::{BTreeSet, HashMap};

use crossdock_dockerfile::instruction::{Kind, instruction};
use crossdock_dockerfile::mount::{self, MountKind};
use crossdock_dockerfile::parser::parse_trigger;
use crossdock_dockerfile::{Dockerfile, Lines, Stage};
use crossdock_oci::Reference;
use crossdock_platform::{ParseError, Platform};

use crate::dockerfile::request::NamedContext;
use crate::dockerfile::scope::Scope;
use crate::error::{BuildError, ErrorKind, shell_error};

/// ONBUILD triggers that one build may run. Every stage built on a stage runs that stage's triggers again.
pub(crate) const TRIGGERS_MAX: usize = 100_000;

/// The source that `FROM`, `COPY --from` or a mount's `from` names.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The empty image.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// A `--build-context`.
    Context(NamedContext),
    /// An image.
    Image(Reference),
}

/// Resolves names: named contexts first, since they override images and stages; then earlier stages; then
/// images.
pub struct Names<'a> {
    /// The Dockerfile.
    pub file: &'a Dockerfile,
    /// `--build-context`.
    pub contexts: &'a std::collections::BTreeMap<String, NamedContext>,
}

impl Names<'_> {
    /// What `name` means in the stage of index `stage`.
    pub fn resolve(&self, name: &str, stage: usize, lines: Lines) -> Result<Origin, BuildError> {
        if let Some(context) = self.context(name) {
            return match context {
                NamedContext::Stage(target) => {
                    let count = self.file.stages.len();
                    let index = self.file.stage_index(target, count).ok_or_else(|| self.unknown(target))?;
                    // A stage can only build on earlier ones, or the graph might have a cycle.
                    match index < stage {
                        true => Ok(Origin::Stage(index)),
                        false => Err(ErrorKind::Dockerfile(format!(
                            "build context \"{name}\" is stage \"{target}\", which does not come before this stage"
                        ))
                        .at(lines)),
                    }
                }
                NamedContext::Image(image) if is_scratch(image) => Ok(Origin::Scratch),
                other => Ok(Origin::Context(other.clone())),
            };
        }
        if let Some(index) = self.file.stage_index(name, stage) {
            return Ok(Origin::Stage(index));
        }
        if name == "scratch" {
            return Ok(Origin::Scratch);
        }
        let reference = name.parse::<Reference>();
        reference.map(Origin::Image).map_err(|e| ErrorKind::Dockerfile(e.to_string()).at(lines))
    }

    /// The named context that overrides `name`, by the name as written or as a full image reference.
    fn context(&self, name: &str) -> Option<&NamedContext> {
        if self.contexts.is_empty() {
            return None;
        }
        self.contexts.get(name).or_else(|| {
            let wanted = name.parse::<Reference>().ok()?;
            let same = |key: &String| key.parse::<Reference>().is_ok_and(|reference| reference == wanted);
            self.contexts.iter().find(|(key, _)| same(key)).map(|(_, context)| context)
        })
    }

    /// Index of the stage that `--target` names; without a target, of the last stage.
    pub fn target(&self, target: Option<&str>) -> Result<usize, BuildError> {
        let count = self.file.stages.len();
        match target {
            None => Ok(count - 1),
            Some(name) => self.file.stage_index(name, count).ok_or_else(|| self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> BuildError {
        /// More names than this nobody reads.
        const SHOWN_MAX: usize = 50;
        let stages = self.file.stages.iter().enumerate();
        let known = stages.map(|(i, s)| s.name.clone().unwrap_or_else(|| i.to_string()));
        let mut known: Vec<String> = known.take(SHOWN_MAX).collect();
        let names: Vec<&str> = self.file.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
        let meant = crossdock_dockerfile::error::nearest(name, &names);
        let meant = meant.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default();
        if self.file.stages.len() > SHOWN_MAX {
            known.push("...".to_string());
        }
        ErrorKind::UnknownTarget { name: name.to_string(), meant, known: known.join(", ") }.into()
    }

    /// The stages whose layers are in an image of `target`: the target and the stages that it is built on.
    pub fn built_on(
        &self,
        target: usize,
        base_of: &dyn Fn(usize) -> Result<String, BuildError>,
    ) -> Result<Vec<usize>, BuildError> {
        let (mut all, mut index) = (vec![target], target);
        // A stage is built on an earlier one, so this ends.
        while let Origin::Stage(earlier) =
            self.resolve(&base_of(index)?, index, self.file.stages[index].lines)?
        {
            all.push(earlier);
            index = earlier;
        }
        Ok(all)
    }

    /// Checks the names that an instruction of the stage of index `stage` takes files from.
    ///
    /// # Errors
    ///
    /// A name has a variable, or is that of this stage or of a later one.
    pub fn check_origins(&self, stage: usize, kind: &Kind, lines: Lines) -> Result<(), BuildError> {
        for name in origins(kind) {
            let error = |message: String| Err(ErrorKind::Dockerfile(message).at(lines));
            if name.contains('$') {
                return error(match kind {
                    Kind::Run(_) => {
                        "'from' doesn't support variable expansion, define alias stage instead".to_string()
                    }
                    _ => "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround".to_string(),
                });
            }
            // A number is a stage, as in BuildKit, and no image; twelve digits and more can be the id of one.
            let is_number = name.len() < 12 && name.bytes().all(|byte| byte.is_ascii_digit());
            if is_number
                && matches!(kind, Kind::Copy(_))
                && self.context(&name).is_none()
                && self.file.stage_index(&name, stage).is_none()
            {
                let before = match stage {
                    0 => "no stage comes before this one".to_string(),
                    1 => "only stage 0 comes before this one".to_string(),
                    _ => format!("only stages 0 to {} come before this one", stage - 1),
                };
                return error(format!("invalid stage index {name}: {before}"));
            }
            let here = self.file.stages[stage].name.clone().unwrap_or_else(|| format!("stage-{stage}"));
            let is_it = |stage: &Stage| stage.name.as_deref() == Some(&name.to_lowercase());
            let is_later = self.file.stages[stage..].iter().any(is_it);
            if is_later && self.context(&name).is_none() && self.file.stage_index(&name, stage).is_none() {
                return error(format!(
                    "cannot copy from stage \"{name}\", it needs to be defined before current stage \"{here}\""
                ));
            }
        }
        Ok(())
    }

    /// The stages that `target` needs, including itself. `base_of` gives the expanded base of a stage.
    pub fn needed(
        &self,
        target: usize,
        base_of: &dyn Fn(usize) -> Result<String, BuildError>,
    ) -> Result<BTreeSet<usize>, BuildError> {
        let mut needed = BTreeSet::new();
        let mut open = vec![target];
        let mut triggers: HashMap<usize, Vec<String>> = HashMap::new();
        let mut triggered = 0;
        while let Some(index) = open.pop() {
            if !needed.insert(index) {
                continue;
            }
            let stage = &self.file.stages[index];
            let base = base_of(index)?;
            let mut names = vec![(base.clone(), stage.lines)];
            for instruction in &stage.instructions {
                self.check_origins(index, &instruction.kind, instruction.lines)?;
                names.extend(origins(&instruction.kind).into_iter().map(|name| (name, instruction.lines)));
            }
            for (name, lines) in names {
                if let Origin::Stage(earlier) = self.resolve(&name, index, lines)? {
                    open.push(earlier);
                }
            }
            // The triggers of this stage's base stage run here.
            if let Origin::Stage(base) = self.resolve(&base, index, stage.lines)? {
                let names = triggers.entry(base).or_insert_with(|| trigger_origins(&self.file.stages[base]));
                triggered += names.len();
                if triggered > TRIGGERS_MAX {
                    let message =
                        format!("more than {TRIGGERS_MAX} ONBUILD triggers run in this build, the limit");
                    return Err(ErrorKind::Dockerfile(message).at(stage.lines));
                }
                for name in names {
                    if let Origin::Stage(earlier) = self.resolve(name, index, stage.lines)? {
                        open.push(earlier);
                    }
                }
            }
        }
        Ok(needed)
    }
}

/// The platform that `FROM --platform` gives a stage.
///
/// # Errors
///
/// A text that cannot be expanded or is no platform.
pub fn platform_of(stage: &Stage, scope: &Scope) -> Result<Option<Platform>, BuildError> {
    let Some(text) = &stage.platform else { return Ok(None) };
    let expanded = scope.expand_global(text).map_err(|error| shell_error(error, stage.lines))?;
    let known = scope.global_names();
    let meant = expanded.unknown.iter().find_map(|name| crossdock_dockerfile::error::nearest(name, &known));
    let meant = meant.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default();
    let parsed = match expanded.text.is_empty() {
        true => Err(format!("empty platform value from expression {text}{meant}")),
        false => {
            let parsed = expanded.text.parse::<Platform>();
            parsed.map_err(|error| {
                let error = match error {
                    // The words of docker's users.
                    ParseError::EmptyPart(whole) => format!(
                        "\"\" is an invalid component of \"{whole}\": platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
                    ),
                    other => other.to_string(),
                };
                format!("failed to parse platform {text}: {error}{meant}")
            })
        }
    };
    parsed.map(Some).map_err(|message| ErrorKind::Dockerfile(message).at(stage.lines))
}

/// Whether a reference names the empty image.
fn is_scratch(image: &Reference) -> bool {
    image.familiar() == "scratch:latest" || image.familiar() == "scratch"
}

/// Names that an instruction takes files from.
pub(crate) fn origins(kind: &Kind) -> Vec<String> {
    match kind {
        Kind::Copy(transfer) => transfer.from.iter().cloned().collect(),
        Kind::Run(run) => {
            run.mounts.iter().filter_map(|text| mount::parse(text).ok()).filter_map(mount_from).collect()
        }
        _ => Vec::new(),
    }
}

/// Names that the ONBUILD triggers of a stage take files from.
fn trigger_origins(stage: &Stage) -> Vec<String> {
    let triggers = stage.instructions.iter().filter_map(|i| match &i.kind {
        Kind::Onbuild(trigger) => Some(trigger),
        _ => None,
    });
    let kinds = triggers.filter_map(|text| Some(instruction(&parse_trigger(text).ok()?, '\\').ok()?.kind));
    kinds.flat_map(|kind| origins(&kind)).collect()
}

fn mount_from(mount: mount::Mount) -> Option<String> {
    match mount.kind {
        MountKind::Bind { from, .. } | MountKind::Cache { from, .. } => from,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const TEXT: &str = "FROM a AS one\nFROM b AS two\nFROM one AS three\nRUN --mount=type=bind,from=two,target=/t x\n\
                        FROM c AS unused\nFROM scratch\nCOPY --from=three / /\nCOPY --from=image:1 / /\n";

    fn needed(
        text: &str,
        contexts: &BTreeMap<String, NamedContext>,
        target: Option<&str>,
    ) -> Result<Vec<usize>, String> {
        let file = Dockerfile::parse(text.as_bytes()).expect("valid");
        let names = Names { file: &file, contexts };
        let base = |i: usize| Ok(file.stages[i].base.clone());
        let target = names.target(target).map_err(|e| e.to_string())?;
        names.needed(target, &base).map(|n| n.into_iter().collect()).map_err(|e| e.to_string())
    }

    fn directory() -> NamedContext {
        NamedContext::Directory { path: "/x".into(), ignore: Default::default() }
    }

    #[test]
    fn only_needed_stages() {
        let none = BTreeMap::new();
        assert_eq!(needed(TEXT, &none, None).expect("valid"), [0, 1, 2, 4]);
        assert_eq!(needed(TEXT, &none, Some("one")).expect("valid"), [0]);
        assert_eq!(needed(TEXT, &none, Some("3")).expect("valid"), [3]);
        let error = needed(TEXT, &none, Some("nope")).expect_err("unknown");
        assert!(error.contains("one, two, three, unused, 4"), "{error}");
    }

    #[test]
    fn named_contexts_override() {
        let contexts = BTreeMap::from([("three".to_string(), directory())]);
        assert_eq!(needed(TEXT, &contexts, None).expect("valid"), [4]);
        let contexts =
            BTreeMap::from([("docker.io/library/image:1".to_string(), NamedContext::Stage("unused".into()))]);
        assert_eq!(needed(TEXT, &contexts, None).expect("valid"), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn names_that_cannot_be_meant() {
        let origins = |text: &str| {
            let file = Dockerfile::parse(text.as_bytes()).expect("valid");
            let names = Names { file: &file, contexts: &BTreeMap::new() };
            let instruction = &file.stages[0].instructions[0];
            names.check_origins(0, &instruction.kind, instruction.lines).map_err(|error| error.to_string())
        };
        let later = origins("FROM a AS one\nCOPY --from=two / /\nFROM a AS two\n").expect_err("later");
        assert!(
            later.contains("stage \"two\", it needs to be defined before current stage \"one\""),
            "{later}"
        );
        assert!(origins("FROM a\nCOPY --from=$x / /\n").expect_err("a variable").contains("--from"));
        assert!(origins("FROM a\nRUN --mount=from=$x,target=/x x\n").expect_err("x").contains("alias stage"));
        assert_eq!(origins("FROM a\nCOPY --from=image / /\nFROM a AS two\n"), Ok(()));
        let file = Dockerfile::parse(b"FROM a AS build\n").expect("valid");
        let names = Names { file: &file, contexts: &BTreeMap::new() };
        let error = names.target(Some("bulid")).expect_err("mistyped").to_string();
        assert!(error.contains("\"bulid\" could not be found (did you mean build?)"), "{error}");
    }
}
