//! Typed instructions and stages.
//!
//! Words keep their variables: what they expand to depends on the ARGs and ENVs before them, which the
//! builder knows.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Lines, did_you_mean};
use crate::parser::{Directives, Form, Heredoc, Node, Parsed, heredoc_of_word, joined_heredocs, parse};
use crate::values::boolean;

/// A whole Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// Directives at the head.
    pub directives: Directives,
    /// ARGs before the first FROM.
    pub global_args: Vec<(ArgDefinition, Lines)>,
    /// Stages in order.
    pub stages: Vec<Stage>,
    /// The parsed text, for the lint rules.
    pub parsed: Parsed,
    /// Stages by name, in order, so that in a chain of a million stages, finding one does not search them
    /// all.
    names: HashMap<String, Vec<usize>>,
}

/// FROM and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Image, `scratch`, or another stage's name; variables not expanded.
    pub base: String,
    /// `--platform`, variables not expanded.
    pub platform: Option<String>,
    /// `AS name`, in lower case.
    pub name: Option<String>,
    /// Instructions after FROM.
    pub instructions: Vec<Instruction>,
    /// Lines of FROM.
    pub lines: Lines,
    /// FROM as written.
    pub original: String,
    /// Comment above FROM; `# name text` describes the stage.
    pub comments: Vec<String>,
}

/// One instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub kind: Kind,
    /// Its lines in the file.
    pub lines: Lines,
    /// As written, on one line; heredocs are in the kind.
    pub original: String,
}

/// What an instruction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ADD.
    Add(Transfer),
    /// ARG.
    Arg(Vec<ArgDefinition>),
    /// CMD.
    Cmd(CommandLine),
    /// COPY.
    Copy(Transfer),
    /// ENTRYPOINT.
    Entrypoint(CommandLine),
    /// ENV: names and values.
    Env(Vec<(String, String)>),
    /// EXPOSE: ports as written.
    Expose(Vec<String>),
    /// HEALTHCHECK.
    Healthcheck(Health),
    /// LABEL: names and values.
    Label(Vec<(String, String)>),
    /// MAINTAINER.
    Maintainer(String),
    /// ONBUILD: the text of the trigger.
    Onbuild(String),
    /// RUN.
    Run(Run),
    /// SHELL.
    Shell(Vec<String>),
    /// STOPSIGNAL.
    StopSignal(String),
    /// USER.
    User(String),
    /// VOLUME.
    Volume(Vec<String>),
    /// WORKDIR.
    Workdir(String),
}

/// A command in shell or exec form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// To be passed to the stage's SHELL.
    Shell(String),
    /// Program and arguments.
    Exec(Vec<String>),
}

/// One name of an ARG instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name.
    pub name: String,
    /// The default, variables and quotes as written.
    pub default: Option<String>,
}

/// COPY or ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Paths, patterns or, for ADD, URLs.
    pub sources: Vec<String>,
    /// Files written in the Dockerfile itself.
    pub heredocs: Vec<Heredoc>,
    /// Path in the image.
    pub destination: String,
    /// `--from`: stage, image or named context.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`, octal or symbolic.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// ADD `--checksum`.
    pub checksum: Option<String>,
    /// ADD `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// ADD `--unpack`; by default local archives are unpacked and downloaded ones are not.
    pub unpack: Option<bool>,
}

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command.
    pub command: CommandLine,
    /// Heredocs of a command in shell form.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, as written: variables must be expanded before [`crate::mount::parse`].
    pub mounts: Vec<String>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<String>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<String>,
    /// `--device`.
    pub devices: Vec<String>,
}

/// HEALTHCHECK; times in nanoseconds, 0 where none was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", command]`.
    pub test: Vec<String>,
    /// `--interval`, ns.
    pub interval: i64,
    /// `--timeout`, ns.
    pub timeout: i64,
    /// `--start-period`, ns.
    pub start_period: i64,
    /// `--start-interval`, ns.
    pub start_interval: i64,
    /// `--retries`.
    pub retries: i64,
}

impl Dockerfile {
    /// Reads a Dockerfile.
    pub fn parse(bytes: &[u8]) -> Result<Dockerfile, Error> {
        let parsed = parse(bytes)?;
        let escape = parsed.directives.escape;
        let mut global_args = Vec::new();
        let mut stages: Vec<Stage> = Vec::new();
        for node in &parsed.nodes {
            if node.keyword() == "from" {
                stages.push(stage(node)?);
                continue;
            }
            let instruction = instruction(node, escape)?;
            match (stages.last_mut(), instruction.kind) {
                (Some(stage), kind) => {
                    stage.instructions.push(Instruction { kind, ..instruction_rest(node) })
                }
                (None, Kind::Arg(args)) => global_args.extend(args.into_iter().map(|a| (a, node.lines))),
                (None, _) => {
                    let message = format!(
                        "no build stage in current context: {} before FROM",
                        node.name.to_uppercase()
                    );
                    return Err(Error::new(message, node.lines));
                }
            }
        }
        if stages.is_empty() {
            return Err(Error::new("dockerfile contains no stages to build", Lines::default()));
        }
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, name) in stages.iter().enumerate().filter_map(|(i, stage)| Some((i, stage.name.clone()?)))
        {
            names.entry(name).or_default().push(index);
        }
        Ok(Dockerfile { directives: parsed.directives.clone(), global_args, stages, parsed, names })
    }

    /// Index of the stage with this name or number among the first `before` stages; the last of that name
    /// wins.
    pub fn stage_index(&self, name: &str, before: usize) -> Option<usize> {
        let before = before.min(self.stages.len());
        let named = self.names.get(&name.to_ascii_lowercase()).and_then(|all| {
            let earlier = all.partition_point(|index| *index < before);
            all[..earlier].last().copied()
        });
        named.or_else(|| name.parse().ok().filter(|i| *i < before))
    }
}

fn instruction_rest(node: &Node) -> Instruction {
    Instruction { kind: Kind::Volume(Vec::new()), lines: node.lines, original: node.original.clone() }
}

fn stage(node: &Node) -> Result<Stage, Error> {
    let mut flags = Flags::new(node);
    let platform = flags.value("platform")?;
    flags.finish()?;
    let name = match &node.args[..] {
        [_] => None,
        [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => Some(name.to_ascii_lowercase()),
        _ => {
            let message = "FROM requires either one argument, or three: FROM <source> [as <name>]";
            return Err(Error::new(message, node.lines));
        }
    };
    if let Some(name) = &name {
        let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts_well
            || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
        {
            let message = format!(
                "invalid name for build stage: \"{name}\", name can't start with a number or contain symbols"
            );
            return Err(Error::new(message, node.lines));
        }
    }
    Ok(Stage {
        base: node.args[0].clone(),
        platform,
        name,
        instructions: Vec::new(),
        lines: node.lines,
        original: node.original.clone(),
        comments: node.comments.clone(),
    })
}

/// Reads one instruction of a stage; FROM is not one. `escape` is the file's escape character.
pub fn instruction(node: &Node, escape: char) -> Result<Instruction, Error> {
    let name = node.name.to_uppercase();
    let error = |message: String| Error::new(message, node.lines);
    let at_least_one = || match node.args.is_empty() {
        true => Err(error(format!("{name} requires at least one argument"))),
        false => Ok(()),
    };
    let exactly_one = || match &node.args[..] {
        [one] => Ok(one.clone()),
        _ => Err(error(format!("{name} requires exactly one argument"))),
    };
    let no_flags = || Flags::new(node).finish();
    let kind = match node.keyword().as_str() {
        "add" => Kind::Add(transfer(node, true, escape)?),
        "copy" => Kind::Copy(transfer(node, false, escape)?),
        "arg" => {
            no_flags()?;
            at_least_one()?;
            Kind::Arg(
                node.args.iter().map(|arg| arg_definition(arg)).collect::<Result<_, _>>().map_err(error)?,
            )
        }
        "cmd" => {
            no_flags()?;
            Kind::Cmd(command_line(node))
        }
        "entrypoint" => {
            no_flags()?;
            Kind::Entrypoint(command_line(node))
        }
        "env" | "label" => {
            no_flags()?;
            at_least_one()?;
            let pairs: Vec<(String, String)> =
                node.args.chunks(3).map(|triple| (triple[0].clone(), triple[1].clone())).collect();
            if pairs.iter().any(|(key, _)| key.is_empty()) {
                return Err(error(format!("{name} names can not be blank")));
            }
            if name == "ENV" { Kind::Env(pairs) } else { Kind::Label(pairs) }
        }
        "expose" => {
            no_flags()?;
            at_least_one()?;
            Kind::Expose(node.args.clone())
        }
        "healthcheck" => Kind::Healthcheck(health(node)?),
        "maintainer" => {
            no_flags()?;
            Kind::Maintainer(exactly_one()?)
        }
        "onbuild" => {
            no_flags()?;
            let Some(child) = &node.child else {
                return Err(error("ONBUILD requires at least one argument".into()));
            };
            if matches!(child.keyword().as_str(), "from" | "maintainer" | "onbuild") {
                return Err(error(format!(
                    "{} isn't allowed as an ONBUILD trigger",
                    child.name.to_uppercase()
                )));
            }
            instruction(child, escape)?;
            let trigger = node.original.trim();
            let trigger = trigger.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
            let mut text = trigger.to_string();
            for heredoc in &child.heredocs {
                text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
            }
            Kind::Onbuild(text)
        }
        "run" => Kind::Run(run(node)?),
        "shell" => {
            no_flags()?;
            if node.form != Form::Json {
                return Err(error("SHELL requires the arguments to be in JSON form".into()));
            }
            at_least_one()?;
            Kind::Shell(node.args.clone())
        }
        "stopsignal" => {
            no_flags()?;
            Kind::StopSignal(exactly_one()?)
        }
        "user" => {
            no_flags()?;
            Kind::User(exactly_one()?)
        }
        "volume" => {
            no_flags()?;
            at_least_one()?;
            if node.args.iter().any(|v| v.trim().is_empty()) {
                return Err(error("VOLUME specified can not be an empty string".into()));
            }
            Kind::Volume(node.args.clone())
        }
        "workdir" => {
            no_flags()?;
            Kind::Workdir(exactly_one()?)
        }
        other => return Err(error(format!("{} is not allowed here", other.to_uppercase()))),
    };
    Ok(Instruction { kind, ..instruction_rest(node) })
}

fn arg_definition(text: &str) -> Result<ArgDefinition, String> {
    let (name, default) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_string())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("ARG names can not be blank".to_string());
    }
    Ok(ArgDefinition { name: name.to_string(), default })
}

fn command_line(node: &Node) -> CommandLine {
    match node.form {
        Form::Json => CommandLine::Exec(node.args.clone()),
        Form::Plain => CommandLine::Shell(node.args.first().cloned().unwrap_or_default()),
    }
}

fn transfer(node: &Node, is_add: bool, escape: char) -> Result<Transfer, Error> {
    let name = node.name.to_uppercase();
    let mut flags = Flags::new(node);
    let mut transfer = Transfer {
        chown: flags.value("chown")?,
        chmod: flags.value("chmod")?,
        link: flags.boolean("link")?.unwrap_or(false),
        exclude: flags.values("exclude")?,
        ..Transfer::default()
    };
    if is_add {
        transfer.checksum = flags.value("checksum")?;
        transfer.keep_git_dir = flags.boolean("keep-git-dir")?.unwrap_or(false);
        transfer.unpack = flags.boolean("unpack")?;
    } else {
        transfer.from = flags.value("from")?;
        transfer.parents = flags.boolean("parents")?.unwrap_or(false);
    }
    flags.finish()?;
    let own: HashSet<&str> = node.heredocs.iter().map(|heredoc| heredoc.name.as_str()).collect();
    let is_heredoc = |word: &str| {
        node.form == Form::Plain
            && heredoc_of_word(word, escape).is_some_and(|heredoc| own.contains(heredoc.name.as_str()))
    };
    let args: Vec<String> = match own.is_empty() {
        true => node.args.clone(),
        false => joined_heredocs(&node.args).into_iter().map(|(word, _)| word).collect(),
    };
    let Some((destination, sources)) = args.split_last().filter(|(_, sources)| !sources.is_empty()) else {
        let message = format!(
            "{name} requires at least two arguments, but only {} provided. Destination could not be determined",
            args.len()
        );
        return Err(Error::new(message, node.lines));
    };
    transfer.destination = destination.clone();
    transfer.heredocs = node.heredocs.clone();
    transfer.sources = sources.iter().filter(|word| !is_heredoc(word)).cloned().collect();
    if is_heredoc(destination) {
        return Err(Error::new(format!("{name} cannot accept a heredoc as a destination"), node.lines));
    }
    Ok(transfer)
}

fn run(node: &Node) -> Result<Run, Error> {
    let mut flags = Flags::new(node);
    let run = Run {
        command: command_line(node),
        heredocs: node.heredocs.clone(),
        mounts: flags.values("mount")?,
        network: flags.value("network")?,
        security: flags.value("security")?,
        devices: flags.values("device")?,
    };
    flags.finish()?;
    let error = |message: String| Err(Error::new(message, node.lines));
    if let Some(network) = run.network.as_deref().filter(|n| !matches!(*n, "default" | "none" | "host")) {
        return error(format!("invalid network mode \"{network}\": it must be default, none or host"));
    }
    if let Some(security) = run.security.as_deref().filter(|s| !matches!(*s, "sandbox" | "insecure")) {
        return error(format!("security \"{security}\" is not valid: it must be sandbox or insecure"));
    }
    for mount in run.mounts.iter().filter(|m| !m.contains('$')) {
        if let Err(message) = crate::mount::parse(mount) {
            return error(message);
        }
    }
    Ok(run)
}

fn health(node: &Node) -> Result<Health, Error> {
    let error = |message: String| Error::new(message, node.lines);
    let mut flags = Flags::new(node);
    let mut duration = |name: &str| -> Result<i64, Error> {
        let Some(value) = flags.value(name)? else { return Ok(0) };
        let ns =
            duration_ns(&value).ok_or_else(|| error(format!("invalid duration \"{value}\" of --{name}")))?;
        if ns < 0 || (ns > 0 && ns < 1_000_000) {
            return Err(error(format!("interval \"{name}\" cannot be less than 1ms")));
        }
        Ok(ns)
    };
    let mut health = Health {
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        ..Health::default()
    };
    if let Some(retries) = flags.value("retries")? {
        health.retries = retries
            .parse()
            .ok()
            .filter(|n| *n >= 0)
            .ok_or_else(|| error(format!("--retries must be at least 0 (not \"{retries}\")")))?;
    }
    flags.finish()?;
    let Some((kind, command)) = node.args.split_first() else {
        return Err(error("HEALTHCHECK requires at least one argument".into()));
    };
    health.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if !command.is_empty() => return Err(error("HEALTHCHECK NONE takes no arguments".into())),
        "NONE" if !node.flags.is_empty() => return Err(error("HEALTHCHECK NONE takes no flags".into())),
        "NONE" => vec!["NONE".to_string()],
        "CMD" if command.is_empty() => return Err(error("missing command after HEALTHCHECK CMD".into())),
        "CMD" => {
            let word = if node.form == Form::Json { "CMD" } else { "CMD-SHELL" };
            std::iter::once(word.to_string()).chain(command.iter().cloned()).collect()
        }
        other => return Err(error(format!("unknown type \"{other}\" in HEALTHCHECK (try CMD)"))),
    };
    Ok(health)
}

/// A duration of Go's `time.ParseDuration`, in nanoseconds.
pub fn duration_ns(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, length) =
            [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)]
                .iter()
                .find(|(unit, _)| rest.starts_with(unit) && (*unit != "m" || !rest.starts_with("ms")))
                .map(|(unit, ns)| (*ns, unit.len()))?;
        total += number * unit;
        rest = &rest[length..];
    }
    (total < i64::MAX as f64).then_some(if negative { -(total as i64) } else { total as i64 })
}

/// The flags of one instruction, taken out one by one; those left at the end are unknown.
struct Flags<'a> {
    node: &'a Node,
    left: Vec<(String, Option<String>)>,
    known: Vec<&'static str>,
}

impl<'a> Flags<'a> {
    fn new(node: &'a Node) -> Flags<'a> {
        let left = node
            .flags
            .iter()
            .map(|flag| {
                let flag = &flag[2..];
                match flag.split_once('=') {
                    Some((name, value)) => (name.to_string(), Some(value.to_string())),
                    None => (flag.to_string(), None),
                }
            })
            .collect();
        Flags { node, left, known: Vec::new() }
    }

    fn error(&self, message: String) -> Error {
        Error::new(message, self.node.lines)
    }

    fn take(&mut self, name: &str) -> Vec<Option<String>> {
        self.known.push(FLAG_NAMES.iter().find(|known| **known == name).expect("every flag is listed"));
        let (own, left) = std::mem::take(&mut self.left).into_iter().partition(|(flag, _)| flag == name);
        self.left = left;
        own.into_iter().map(|(_, value): (String, _)| value).collect()
    }

    fn values(&mut self, name: &str) -> Result<Vec<String>, Error> {
        self.take(name)
            .into_iter()
            .map(|value| value.ok_or_else(|| self.error(format!("missing a value on flag: --{name}"))))
            .collect()
    }

    fn value(&mut self, name: &str) -> Result<Option<String>, Error> {
        let mut values = self.values(name)?;
        if values.len() > 1 {
            return Err(self.error(format!("duplicate flag specified: --{name}")));
        }
        Ok(values.pop().filter(|v| !v.is_empty()))
    }

    fn boolean(&mut self, name: &str) -> Result<Option<bool>, Error> {
        let mut values = self.take(name);
        if values.len() > 1 {
            return Err(self.error(format!("duplicate flag specified: --{name}")));
        }
        match values.pop() {
            None => Ok(None),
            Some(None) => Ok(Some(true)),
            Some(Some(text)) => match boolean(&text) {
                Some(value) => Ok(Some(value)),
                None => Err(self.error(format!("expecting boolean value for flag --{name}, not: {text}"))),
            },
        }
    }

    fn finish(self) -> Result<(), Error> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => {
                let hint = did_you_mean(name, &self.known);
                Err(self.error(format!("unknown flag: --{name}{hint}")))
            }
        }
    }
}

const FLAG_NAMES: [&str; 19] = [
    "platform",
    "chown",
    "chmod",
    "link",
    "exclude",
    "checksum",
    "keep-git-dir",
    "unpack",
    "from",
    "parents",
    "mount",
    "network",
    "security",
    "device",
    "interval",
    "timeout",
    "start-period",
    "start-interval",
    "retries",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check_error(text: &str, expect: &str, line: usize) {
        let error = Dockerfile::parse(text.as_bytes()).expect_err(text);
        assert!(error.message.contains(expect), "{text:?}: {}", error.message);
        assert_eq!(error.lines.start, line, "{text:?}");
    }

    #[test]
    fn stages_and_instructions() {
        let text = "ARG V=1\nFROM --platform=$BUILDPLATFORM golang:$V AS Build\nRUN --mount=type=cache,target=/c --network=none go build\n\
                    FROM scratch\nCOPY --from=build --chown=1:2 --chmod=755 --link /a /b /c/\nENTRYPOINT [\"/a\"]\nHEALTHCHECK --interval=1m30s CMD x y\n";
        let file = Dockerfile::parse(text.as_bytes()).expect("valid");
        assert_eq!(file.global_args[0].0, ArgDefinition { name: "V".into(), default: Some("1".into()) });
        assert_eq!(file.stages[0].name.as_deref(), Some("build"));
        assert_eq!(file.stages[0].platform.as_deref(), Some("$BUILDPLATFORM"));
        assert_eq!(
            (file.stage_index("BUILD", 1), file.stage_index("0", 1), file.stage_index("1", 1)),
            (Some(0), Some(0), None)
        );
        let Kind::Copy(copy) = &file.stages[1].instructions[0].kind else { panic!("COPY was written") };
        assert_eq!(
            (copy.sources.as_slice(), copy.destination.as_str()),
            (&["/a".to_string(), "/b".to_string()][..], "/c/")
        );
        assert!(copy.link && copy.chmod.as_deref() == Some("755"));
        let Kind::Healthcheck(health) = &file.stages[1].instructions[2].kind else {
            panic!("HEALTHCHECK was written")
        };
        assert_eq!(
            (health.interval, health.test.as_slice()),
            (90_000_000_000, &["CMD-SHELL".to_string(), "x y".to_string()][..])
        );
    }

    #[test]
    fn heredocs_are_sources_and_commands() {
        let text = "FROM a\nCOPY <<one two <<'three' /d/\n1\none\n3\nthree\nRUN <<EOF\nx\nEOF\nONBUILD RUN <<E\ny\nE\n";
        let file = Dockerfile::parse(text.as_bytes()).expect("valid");
        let Kind::Copy(copy) = &file.stages[0].instructions[0].kind else { panic!("COPY was written") };
        assert_eq!(copy.sources, ["two"]);
        assert_eq!(copy.heredocs.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(), ["one", "three"]);
        let Kind::Run(run) = &file.stages[0].instructions[1].kind else { panic!("RUN was written") };
        assert_eq!(
            (&run.command, run.heredocs[0].content.as_str()),
            (&CommandLine::Shell("<<EOF".into()), "x\n")
        );
        let Kind::Onbuild(trigger) = &file.stages[0].instructions[2].kind else {
            panic!("ONBUILD was written")
        };
        let node = crate::parser::parse_trigger(trigger).expect("valid");
        assert_eq!((node.args[0].as_str(), node.heredocs[0].content.as_str()), ("<<E", "y\n"));
    }

    #[test]
    fn mistakes_point_at_their_line() {
        check_error("RUN x\n", "before FROM", 1);
        check_error("FROM a b\n", "FROM <source> [as <name>]", 1);
        check_error("FROM a\nCOPY --form=b x /y\n", "did you mean from?", 2);
        check_error("FROM a\nCOPY --from=b --from=c x /y\n", "duplicate flag", 2);
        check_error("FROM a\nCOPY x\n", "at least two arguments", 2);
        check_error("FROM a\nSHELL /bin/sh\n", "JSON form", 2);
        check_error("FROM a\nONBUILD FROM b\n", "isn't allowed as an ONBUILD trigger", 2);
        check_error("FROM a\nRUN --network=foo x\n", "invalid network mode", 2);
        check_error("FROM a\nHEALTHCHECK --interval=1 CMD x\n", "invalid duration", 2);
        check_error("FROM a\nWORKDIR\n", "exactly one argument", 2);
        check_error("FROM a AS 1b\n", "invalid name for build stage", 1);
        check_error("# only\n", "file with no instructions", 0);
        check_error("ARG A\n", "no stages", 0);
    }

    #[test]
    fn durations() {
        for (text, ns) in [
            ("5s", 5_000_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("10ms", 10_000_000),
            ("0", 0),
            ("-1s", -1_000_000_000),
        ] {
            assert_eq!(duration_ns(text), Some(ns), "{text}");
        }
        for bad in ["", "5", "s", "1x", "1.2.3s"] {
            assert_eq!(duration_ns(bad), None, "{bad}");
        }
    }
}
