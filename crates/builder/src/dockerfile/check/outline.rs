//! What a Dockerfile offers to its users: stages, arguments, secrets. Nothing is executed.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use crossdock_dockerfile::instruction::{ArgDefinition, Kind};
use crossdock_dockerfile::mount::{self, MountKind};
use crossdock_dockerfile::shell::{Budget, Lexer};
use crossdock_dockerfile::{Dockerfile, Lines};

use crate::dockerfile::names::{Names, Origin};
use crate::dockerfile::request::BuildRequest;
use crate::dockerfile::scope::{Env, Scope};
use crate::error::BuildError;

/// One stage with a name, or the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name; `None` for a last stage without a name.
    pub name: Option<String>,
    /// Whether the stage is built if no target is given.
    pub is_default: bool,
    /// From the comment `# name text` above it.
    pub description: String,
    /// Its base, as written.
    pub base: String,
    /// Its `--platform`, as written.
    pub platform: Option<String>,
    /// Its FROM.
    pub lines: Lines,
}

/// The inputs of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The target.
    pub target: Target,
    /// Build arguments that the target's stages use, in the order of their ARGs.
    pub arguments: Vec<Argument>,
    /// Secrets, in the order of their mounts.
    pub secrets: Vec<Taken>,
    /// SSH agents, in the order of their mounts.
    pub ssh: Vec<Taken>,
}

/// A secret or an SSH agent that mounts take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its id.
    pub id: String,
    /// Whether a mount requires it.
    pub is_required: bool,
    /// The first RUN that takes it.
    pub lines: Lines,
}

/// One build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// The given value, or the default.
    pub value: Option<String>,
    /// From the comment `# name text` above it.
    pub description: String,
    /// Its ARG.
    pub lines: Lines,
}

/// The stages that can be built.
pub fn targets(request: &BuildRequest) -> Result<Vec<Target>, BuildError> {
    let file = Dockerfile::parse(&request.dockerfile)?;
    Ok((0..file.stages.len()).map(|index| target(&file, index)).collect())
}

fn target(file: &Dockerfile, index: usize) -> Target {
    let stage = &file.stages[index];
    let name = stage.name.clone();
    Target {
        description: describe(&stage.comments, name.as_deref().unwrap_or_default()),
        is_default: index + 1 == file.stages.len(),
        base: stage.base.clone(),
        platform: stage.platform.clone(),
        lines: stage.lines,
        name,
    }
}

/// The text of the last comment line that begins with the name.
fn describe(comments: &[String], name: &str) -> String {
    let texts = comments.iter().rev().filter_map(|comment| comment.strip_prefix(name));
    let mut texts = texts.filter(|text| !name.is_empty() && text.starts_with(char::is_whitespace));
    texts.next().map(|text| text.trim().to_string()).unwrap_or_default()
}

/// Names of variables in a text, in the order of look-up.
fn used_in(text: &str, escape: char) -> Vec<String> {
    let used = RefCell::new(Vec::new());
    let note = |name: &str| {
        used.borrow_mut().push(name.to_string());
        None
    };
    // A text that cannot be expanded uses the names before the error.
    let _ = Lexer::new(escape).expand(text, &note, &Budget::default());
    used.into_inner()
}

/// The inputs of the request's target and of all stages that it needs.
pub fn outline(request: &BuildRequest) -> Result<Outline, BuildError> {
    let file = Dockerfile::parse(&request.dockerfile)?;
    let names = Names { file: &file, contexts: &request.contexts };
    let index = names.target(request.target.as_deref())?;
    let escape = file.directives.escape;
    let scope = Scope::of_first_platform(request, &file)?;
    let base_of = |index: usize| scope.base_of(&file.stages[index]);
    let needed = names.needed(index, &base_of)?;
    let mut outline =
        Outline { target: target(&file, index), arguments: Vec::new(), secrets: Vec::new(), ssh: Vec::new() };
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    let none = Env::default();
    // Scopes of the stages, for stages built on them.
    let mut scopes: HashMap<usize, Scope> = HashMap::new();
    for index in &needed {
        let stage = &file.stages[*index];
        let texts = [Some(&stage.base), stage.platform.as_ref()].into_iter().flatten();
        used.extend(texts.flat_map(|text| used_in(text, escape)));
        let base = match names.resolve(&base_of(*index)?, *index, stage.lines) {
            Ok(Origin::Stage(base)) => scopes.get(&base),
            _ => None,
        };
        let mut inside = scope.stage(base);
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(definitions) => {
                    for definition in definitions {
                        // A default that cannot be expanded has no value to show.
                        let _ = inside.declare(definition, &none);
                        used.insert(definition.name.clone());
                        let value = inside.argument(&definition.name);
                        found.push((definition, instruction.lines, value));
                    }
                }
                Kind::Run(run) => {
                    // An id that cannot be expanded is shown as it is written.
                    let id = |id: &str| inside.expand(id, &none).map_or(id.to_string(), |id| id.text);
                    run.mounts.iter().for_each(|text| outline.mount(text, instruction.lines, &id));
                }
                _ => {}
            }
        }
        scopes.insert(*index, inside);
    }
    // Variables in the default of a used global ARG are used, too.
    for (definition, _) in file.global_args.iter().rev().filter(|(d, _)| d.default.is_some()) {
        if used.contains(&definition.name) {
            used.extend(used_in(definition.default.as_deref().unwrap_or_default(), escape));
        }
    }
    let global = file.global_args.iter().filter(|(definition, _)| used.contains(&definition.name));
    let global = global.map(|(definition, lines)| (definition, *lines, scope.value(&definition.name)));
    // The last ARG with a default counts; else the one before the first FROM; else the first.
    let all: Vec<_> = global.chain(found).collect();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (definition, lines, value) in all {
        let description = description(&file, definition, lines);
        match places.get(definition.name.as_str()) {
            None => {
                places.insert(&definition.name, outline.arguments.len());
                let name = definition.name.clone();
                outline.arguments.push(Argument { name, value, description, lines });
            }
            Some(place) => {
                let known = &mut outline.arguments[*place];
                if definition.default.is_some() || known.value.is_none() && value.is_some() {
                    (known.value, known.lines) = (value, lines);
                }
                if known.description.is_empty() {
                    known.description = description;
                }
            }
        }
    }
    outline.arguments.sort_by_key(|argument| argument.lines.start);
    Ok(outline)
}

/// The description in the comment above an ARG.
fn description(file: &Dockerfile, definition: &ArgDefinition, lines: Lines) -> String {
    // Nodes are in the order of lines.
    let nodes = &file.parsed.nodes;
    let node = nodes.get(nodes.partition_point(|node| node.lines.start < lines.start));
    node.map(|node| describe(&node.comments, &definition.name)).unwrap_or_default()
}

impl Outline {
    fn mount(&mut self, text: &str, lines: Lines, expanded: &dyn Fn(&str) -> String) {
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
        let id = expanded(&id);
        match list.iter_mut().find(|taken| taken.id == id) {
            Some(taken) => taken.is_required |= required,
            None => list.push(Taken { id, is_required: required, lines }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_platform::Platform;

    const DOCKERFILE: &str = "# TAG which release\nARG TAG=1\n# tools what compiles\nFROM a:$TAG AS tools\n\
        ARG CFLAGS=-O2\nRUN --mount=type=secret,id=token,required=true --mount=type=secret,target=/x/other$CFLAGS x\n\
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
        let taken = |list: &[Taken]| -> Vec<_> {
            list.iter().map(|t| (t.id.clone(), t.is_required, t.lines.start)).collect()
        };
        assert_eq!(
            taken(&outline.secrets),
            [("token".to_string(), true, 6), ("other-O2".to_string(), false, 6)]
        );
        assert_eq!(taken(&outline.ssh), [("default".to_string(), false, 15)]);
        request.target = Some("unrelated".into());
        let names: Vec<_> =
            super::outline(&request).expect("valid").arguments.into_iter().map(|a| a.name).collect();
        assert_eq!(names, ["NOT_SHOWN"]);
    }
}
