//! What a Dockerfile offers to those who build it: stages, arguments, secrets. Nothing is executed.

use std::collections::{BTreeMap, HashMap};

use crossdock_dockerfile::instruction::{ArgDefinition, Kind};
use crossdock_dockerfile::mount::{self, MountKind};
use crossdock_dockerfile::{Dockerfile, Lines};
use crossdock_platform::Platform;

use crate::error::BuildError;
use crate::graph::Names;
use crate::request::BuildRequest;
use crate::scope::{Env, Scope};
use crate::stage::shell_error;

/// One stage with a name, or the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name; none for a last stage without.
    pub name: Option<String>,
    /// Whether it is built if no target is given.
    pub is_default: bool,
    /// From the comment `# name text` above it.
    pub description: String,
    /// What it is built on, as written.
    pub base: String,
    /// Its FROM.
    pub lines: Lines,
}

/// What a target takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The target.
    pub target: Target,
    /// Build arguments in the order of their first ARG: name, value, description.
    pub arguments: Vec<Argument>,
    /// Secrets by id, and whether a mount requires them.
    pub secrets: BTreeMap<String, bool>,
    /// SSH agents by id, and whether a mount requires them.
    pub ssh: BTreeMap<String, bool>,
}

/// One build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What was given, or the default.
    pub value: Option<String>,
    /// From the comment `# name text` above it.
    pub description: String,
    /// Its ARG.
    pub lines: Lines,
}

/// The stages that can be asked for.
pub fn targets(request: &BuildRequest) -> Result<Vec<Target>, BuildError> {
    let file = Dockerfile::parse(&request.dockerfile)?;
    let named = (0..file.stages.len()).map(|index| target(&file, index));
    Ok(named.filter(|target| target.name.is_some() || target.is_default).collect())
}

fn target(file: &Dockerfile, index: usize) -> Target {
    let stage = &file.stages[index];
    let name = stage.name.clone();
    Target {
        description: describe(&stage.comments, name.as_deref().unwrap_or_default()),
        is_default: index + 1 == file.stages.len(),
        base: stage.base.clone(),
        lines: stage.lines,
        name,
    }
}

/// The text of the last comment line if it begins with the name.
fn describe(comments: &[String], name: &str) -> String {
    let text = comments.last().and_then(|comment| comment.strip_prefix(name));
    let text = text.filter(|text| !name.is_empty() && text.starts_with(char::is_whitespace));
    text.map(|text| text.trim().to_string()).unwrap_or_default()
}

/// What the target of the request takes, with all stages that it needs.
pub fn outline(request: &BuildRequest) -> Result<Outline, BuildError> {
    let file = Dockerfile::parse(&request.dockerfile)?;
    let names = Names { file: &file, contexts: &request.contexts };
    let index = names.target(request.target.as_deref())?;
    let host = Platform::host();
    let platform = request.platforms.first().unwrap_or(&host);
    let escape = file.directives.escape;
    let scope = Scope::global(&request.build_args, &file.global_args, &host, platform, "default", escape)
        .map_err(|(e, lines)| shell_error(e, lines))?;
    let base_of = |index: usize| -> Result<String, BuildError> {
        let stage = &file.stages[index];
        let base = scope.expand_global(&stage.base).map_err(|e| shell_error(e, stage.lines))?;
        Ok(base.text)
    };
    let needed = names.needed(index, &base_of)?;
    let mut outline = Outline {
        target: target(&file, index),
        arguments: Vec::new(),
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
    };
    let mut known = HashMap::new();
    let none = Env::default();
    for (definition, lines) in &file.global_args {
        outline.argument(&file, &mut known, definition, *lines, scope.value(&definition.name));
    }
    for stage in needed.iter().map(|index| &file.stages[*index]) {
        let mut inside = scope.stage(None);
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(definitions) => {
                    for definition in definitions {
                        // What cannot be expanded has no value to show.
                        let _ = inside.declare(definition, &none);
                        outline.argument(
                            &file,
                            &mut known,
                            definition,
                            instruction.lines,
                            inside.argument(&definition.name),
                        );
                    }
                }
                Kind::Run(run) => run.mounts.iter().for_each(|text| outline.mount(text)),
                _ => {}
            }
        }
    }
    Ok(outline)
}

impl Outline {
    /// The first ARG of a name is shown; later ones may know a default or a description. `known` says where a
    /// name is in the list.
    fn argument(
        &mut self,
        file: &Dockerfile,
        known: &mut HashMap<String, usize>,
        definition: &ArgDefinition,
        lines: Lines,
        value: Option<String>,
    ) {
        // Nodes stand in the order of lines.
        let nodes = &file.parsed.nodes;
        let node = nodes.get(nodes.partition_point(|node| node.lines.start < lines.start));
        let description = node.map(|node| describe(&node.comments, &definition.name)).unwrap_or_default();
        match known.get(&definition.name).map(|place| &mut self.arguments[*place]) {
            Some(known) => {
                known.value = known.value.take().or(value);
                if known.description.is_empty() {
                    known.description = description;
                }
            }
            None => {
                known.insert(definition.name.clone(), self.arguments.len());
                self.arguments.push(Argument { name: definition.name.clone(), value, description, lines })
            }
        }
    }

    fn mount(&mut self, text: &str) {
        let Ok(mount) = mount::parse(text) else { return };
        let (list, id, required) = match &mount.kind {
            MountKind::Secret { id, env, required, .. } => {
                let path = mount.target.as_deref().or(env.as_deref()).unwrap_or_default();
                let id = id.clone().unwrap_or_else(|| path.rsplit('/').next().unwrap_or(path).to_string());
                (&mut self.secrets, id, *required)
            }
            MountKind::Ssh { id, required, .. } => {
                (&mut self.ssh, id.clone().unwrap_or_else(|| "default".to_string()), *required)
            }
            _ => return,
        };
        *list.entry(id).or_default() |= required;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKERFILE: &str = "# TAG which release\nARG TAG=1\n# tools what compiles\nFROM a:$TAG AS tools\n\
        ARG CFLAGS=-O2\nRUN --mount=type=secret,id=token,required=true --mount=type=secret,target=/x/other x\n\
        FROM scratch AS unrelated\nARG NOT_SHOWN\n# just a comment\nFROM scratch\n# NAME whom it greets\nARG NAME\nARG CFLAGS TAG\n\
        COPY --from=tools /x /\nRUN --mount=type=ssh x\n";

    fn request() -> BuildRequest {
        BuildRequest { dockerfile: DOCKERFILE.into(), ..BuildRequest::for_platform(Platform::host()) }
    }

    #[test]
    fn stages_are_targets() {
        let targets = targets(&request()).expect("a Dockerfile");
        let shown: Vec<_> = targets
            .iter()
            .map(|t| (t.name.as_deref(), &t.description[..], t.is_default, &t.base[..]))
            .collect();
        assert_eq!(
            shown,
            [
                (Some("tools"), "what compiles", false, "a:$TAG"),
                (Some("unrelated"), "", false, "scratch"),
                (None, "", true, "scratch")
            ]
        );
    }

    #[test]
    fn a_target_takes_what_its_stages_take() {
        let mut request = request();
        request.build_args.insert("NAME".into(), "ann".into());
        let outline = outline(&request).expect("a Dockerfile");
        let shown: Vec<_> = outline
            .arguments
            .iter()
            .map(|a| (&a.name[..], a.value.as_deref(), &a.description[..], a.lines.start))
            .collect();
        assert_eq!(
            shown,
            [
                ("TAG", Some("1"), "which release", 2),
                ("CFLAGS", Some("-O2"), "", 5),
                ("NAME", Some("ann"), "whom it greets", 12)
            ]
        );
        assert_eq!(outline.secrets, BTreeMap::from([("token".into(), true), ("other".into(), false)]));
        assert_eq!(outline.ssh, BTreeMap::from([("default".into(), false)]));
        request.target = Some("unrelated".into());
        let names: Vec<_> =
            super::outline(&request).expect("valid").arguments.into_iter().map(|a| a.name).collect();
        assert_eq!(names, ["TAG", "NOT_SHOWN"]);
    }
}
