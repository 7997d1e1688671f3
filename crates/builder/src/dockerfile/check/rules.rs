//! Build checks: things that a Dockerfile may contain but that are probably mistakes. Rules have BuildKit's
//! names.
//!
//! Nothing is executed or fetched: the settings of a base image are known only if the caller has the image.

use std::collections::BTreeSet;

use crossdock_dockerfile::instruction::{CommandLine, Kind, Transfer};
use crossdock_dockerfile::parser::{Heredoc, Node};
use crossdock_dockerfile::shell::ShellError;
use crossdock_dockerfile::{Dockerfile, Instruction, Lines, Stage};
use crossdock_oci::{ImageConfig, Reference};
use crossdock_platform::Platform;

use crate::dockerfile::names::{Names, Origin, platform_of};
use crate::dockerfile::request::BuildRequest;
use crate::dockerfile::scope::{Env, Scope};
use crate::dockerfile::state::STAGES_SIZE_MAX;
use crate::dockerfile::values::{check_signal, expose};
use crate::error::{BuildError, ErrorKind, shell_error};

/// Which rules `# check=experimental=` must enable before they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Experimental {
    /// Those of BuildKit (frontend/dockerfile/linter/ruleset.go), as clients of its API expect.
    BuildKits,
    /// Fewer: a COPY of what `.dockerignore` excludes is told without asking, since a build can fail there.
    Ours,
}

impl Experimental {
    fn has(self, rule: &str) -> bool {
        match rule {
            "InvalidDefinitionDescription" => true,
            "CopyIgnoredFile" => self == Experimental::BuildKits,
            _ => false,
        }
    }
}

/// Name and description of each rule.
const RULES: [(&str, &str); 22] = [
    ("StageNameCasing", "Stage names should be lowercase"),
    ("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword"),
    ("NoEmptyContinuation", "Empty continuation lines will become errors in a future release"),
    (
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    ("DuplicateStageName", "Stage names should be unique"),
    ("ReservedStageName", "Reserved words should not be used as stage names"),
    (
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    (
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    ("UndefinedArgInFrom", "FROM command must use declared ARGs"),
    (
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    ),
    ("UndefinedVar", "Variables should be defined before their use"),
    (
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    ("LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used"),
    ("InvalidBaseImagePlatform", "Base image platform does not match expected target platform"),
    (
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    ("SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands"),
    (
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    ("FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value"),
    ("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore"),
    (
        "InvalidDefinitionDescription",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    ),
    ("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase"),
    (
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    ),
];

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Name of the rule.
    pub rule: &'static str,
    /// What was found.
    pub detail: String,
    /// Where.
    pub lines: Lines,
}

impl Warning {
    /// Description of the rule.
    pub fn description(&self) -> &'static str {
        RULES.iter().find(|(name, _)| *name == self.rule).map_or("", |(_, text)| text)
    }

    /// Address of docker's explanation of the rule; empty if there is none.
    pub fn url(&self) -> String {
        if self.rule == "InvalidBaseImagePlatform" {
            return String::new();
        }
        let mut name = String::new();
        let mut was_lower = false;
        for c in self.rule.replace("JSON", "Json").chars() {
            if c.is_ascii_uppercase() && was_lower {
                name.push('-');
            }
            was_lower = !c.is_ascii_uppercase();
            name.push(c.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{name}/")
    }
}

/// What the checks found, in the order of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The warnings.
    pub warnings: Vec<Warning>,
    /// `# check=error=true`: warnings make a build fail.
    pub are_errors: bool,
    /// The error that a build would end with, if it shows without building: a sentence and its lines.
    pub error: Option<(String, Option<Lines>)>,
}

impl Findings {
    /// Why the warnings end a build, with the lines of the first one, if the Dockerfile wants that.
    pub fn violation(&self) -> Option<(String, Lines)> {
        let first = self.warnings.first().filter(|_| self.are_errors)?;
        let mut rules: Vec<&str> = Vec::new();
        for warning in &self.warnings {
            if !rules.contains(&warning.rule) {
                rules.push(warning.rule);
            }
        }
        Some((format!("lint violation found for rules: {}", rules.join(", ")), first.lines))
    }
}

/// The directive `# check=skip=A,B;error=true;experimental=all`, or the build argument that overrides it.
#[derive(Default)]
struct Settings {
    skip: BTreeSet<String>,
    experimental: BTreeSet<String>,
    error: bool,
}

impl Settings {
    fn of(file: &Dockerfile, request: &BuildRequest) -> Result<Settings, BuildError> {
        let given = request.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
        let Some(text) = given.or(file.directives.check.as_ref()) else { return Ok(Settings::default()) };
        let mut settings = Settings::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let names = || value.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
            match (name.trim(), value.trim()) {
                ("skip", _) => settings.skip = names(),
                ("experimental", _) => settings.experimental = names(),
                ("error", "true" | "1") => settings.error = true,
                ("error", "false" | "0") => settings.error = false,
                _ => {
                    let message =
                        format!("invalid check option \"{part}\": it is skip=, error= or experimental=");
                    return Err(ErrorKind::Dockerfile(message).into());
                }
            }
        }
        Ok(settings)
    }

    /// Whether a comment `check=skip=A,B` above an instruction disables the rule there.
    fn is_skipped_by(comments: &[String], rule: &str) -> bool {
        let lists = comments.iter().filter_map(|comment| comment.trim().strip_prefix("check=skip="));
        let mut names = lists.flat_map(|list| list.split([',', ';'])).map(str::trim);
        names.any(|name| name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case(rule))
    }

    fn wants(&self, rule: &str, experimental: Experimental) -> bool {
        let has = |list: &BTreeSet<String>| list.contains("all") || list.contains(&rule.to_ascii_lowercase());
        match experimental.has(rule) {
            true => has(&self.experimental),
            false => !has(&self.skip),
        }
    }
}

/// The configuration of an image that is at hand.
pub type Known<'a> = &'a dyn Fn(&Reference, &Platform) -> Option<ImageConfig>;

/// Rules that a text breaks by its instructions' words alone: what stands before an error of the text can be
/// checked for them.
const OF_WORDS: [&str; 4] =
    ["StageNameCasing", "FromAsCasing", "MaintainerDeprecated", "InvalidDefinitionDescription"];

/// Rules about what a stage does, which a build checks only in the stages that it needs.
const OF_STAGES: [&str; 10] = [
    "JSONArgsRecommended",
    "WorkdirRelativePath",
    "UndefinedVar",
    "MultipleInstructionsDisallowed",
    "LegacyKeyValueFormat",
    "InvalidBaseImagePlatform",
    "SecretsUsedInArgOrEnv",
    "CopyIgnoredFile",
    "ExposeProtoCasing",
    "ExposeInvalidFormat",
];

/// Checks a Dockerfile. Of a text that cannot be parsed, what stands before the error is checked.
pub fn check(
    request: &BuildRequest,
    experimental: Experimental,
    known: Known<'_>,
) -> Result<Findings, BuildError> {
    let file = match Dockerfile::parse(&request.dockerfile) {
        Ok(file) => file,
        Err(error) => return Ok(before(request, experimental, BuildError::from(error))),
    };
    check_file(&file, request, experimental, known)
}

/// Checks what a build of the request's target uses of a Dockerfile: BuildKit warns of other stages only if
/// it is asked for all warnings.
pub fn check_for_build(
    request: &BuildRequest,
    experimental: Experimental,
    known: Known<'_>,
) -> Result<Findings, BuildError> {
    let Ok(file) = Dockerfile::parse(&request.dockerfile) else { return check(request, experimental, known) };
    let mut findings = check_file(&file, request, experimental, known)?;
    let Ok(needed) = needed(&file, request) else { return Ok(findings) };
    let stage_of = |line| file.stages.partition_point(|stage| stage.lines.start <= line).checked_sub(1);
    findings.warnings.retain(|warning| {
        let stage = stage_of(warning.lines.start);
        !OF_STAGES.contains(&warning.rule) || stage.is_none_or(|stage| needed.contains(&stage))
    });
    Ok(findings)
}

/// The stages that the request's target needs.
fn needed(file: &Dockerfile, request: &BuildRequest) -> Result<BTreeSet<usize>, BuildError> {
    let names = Names { file, contexts: &request.contexts };
    let scope = Scope::of_first_platform(request, file)?;
    names.needed(names.target(request.target.as_deref())?, &|index| scope.base_of(&file.stages[index]))
}

/// What is found before an error of the text.
fn before(request: &BuildRequest, experimental: Experimental, error: BuildError) -> Findings {
    let mut findings = Findings { error: Some((error.to_string(), error.lines)), ..Findings::default() };
    let end = error.lines.map_or(0, |lines| lines.start.saturating_sub(1));
    let text: Vec<u8> =
        request.dockerfile.split_inclusive(|byte| *byte == b'\n').take(end).flatten().copied().collect();
    let Ok(file) = Dockerfile::parse(&text) else { return findings };
    let Ok(before) = check_file(&file, request, experimental, &|_, _| None) else { return findings };
    findings.warnings = before.warnings;
    findings.warnings.retain(|warning| OF_WORDS.contains(&warning.rule));
    findings
}

fn check_file(
    file: &Dockerfile,
    request: &BuildRequest,
    experimental: Experimental,
    known: Known<'_>,
) -> Result<Findings, BuildError> {
    let settings = Settings::of(file, request)?;
    let mut check = Check { file, request, known, found: Vec::new(), told: None, error: None };
    check.text();
    check.stages()?;
    let mut warnings = check.found;
    let nodes = &file.parsed.nodes;
    let is_skipped = |warning: &Warning| {
        let line = warning.lines.start;
        let node = nodes.get(nodes.partition_point(|node| node.lines.end < line));
        node.filter(|node| node.lines.start <= line)
            .is_some_and(|node| Settings::is_skipped_by(&node.comments, warning.rule))
    };
    warnings.retain(|warning| settings.wants(warning.rule, experimental) && !is_skipped(warning));
    warnings.sort_by_key(|warning| warning.lines);
    warnings.dedup();
    let mut findings = Findings { warnings, are_errors: settings.error, error: check.told };
    if findings.error.is_none() {
        findings.error = findings.violation().map(|(text, lines)| (text, Some(lines)));
    }
    Ok(findings)
}

struct Check<'a> {
    file: &'a Dockerfile,
    request: &'a BuildRequest,
    known: Known<'a>,
    found: Vec<Warning>,
    /// The error that a build would end with.
    told: Option<(String, Option<Lines>)>,
    /// The error that ends the checks.
    error: Option<BuildError>,
}

/// What is known at the end of a stage, for stages built on it.
#[derive(Clone)]
struct Ground {
    scope: Scope,
    env: Env,
    /// Whether `env` is complete.
    env_is_known: bool,
    has_workdir: bool,
    has_shell: bool,
}

impl Check<'_> {
    fn warn(&mut self, rule: &'static str, lines: Lines, detail: String) {
        self.found.push(Warning { rule, detail, lines });
    }

    /// Notes an error that a build would end with; only the first counts.
    fn tell(&mut self, error: BuildError) {
        self.told.get_or_insert_with(|| (error.to_string(), error.lines));
    }

    /// Notes a word that cannot be expanded. A word that exceeds a limit ends the checks.
    fn failed(&mut self, error: ShellError, lines: Lines) {
        use ShellError::{PatternSteps, TooLarge, TooMuch};
        if matches!(error, TooLarge { .. } | TooMuch { .. } | PatternSteps { .. }) {
            self.error.get_or_insert(shell_error(error, lines));
        } else {
            self.tell(shell_error(error, lines));
        }
    }

    /// Checks that need no values of variables.
    fn text(&mut self) {
        let file = self.file;
        for lines in &file.parsed.empty_continuations {
            // BuildKit names the last line.
            let lines = Lines { start: lines.end, end: lines.end };
            self.warn("NoEmptyContinuation", lines, "Empty continuation line".to_string());
        }
        let is_lower = |node: &&Node| node.name == node.name.to_lowercase();
        let lower = file.parsed.nodes.iter().filter(is_lower).count();
        let upper = file.parsed.nodes.iter().filter(|node| node.name == node.name.to_uppercase()).count();
        let mut names = BTreeSet::new();
        let mut is_global = true;
        for node in &file.parsed.nodes {
            is_global &= node.keyword() != "from";
            let (wanted, majority) = match lower > upper {
                true => (node.name.to_lowercase(), "lowercase"),
                false => (node.name.to_uppercase(), "uppercase"),
            };
            if node.name != wanted {
                let detail = format!(
                    "Command '{}' should match the case of the command majority ({majority})",
                    node.name
                );
                self.warn("ConsistentInstructionCasing", node.lines, detail);
            }
            match node.keyword().as_str() {
                "from" => self.from(node, &mut names),
                "maintainer" => {
                    let detail = "Maintainer instruction is deprecated in favor of using label";
                    self.warn("MaintainerDeprecated", node.lines, detail.to_string());
                }
                keyword @ ("env" | "label") if node.args.chunks(3).any(|triple| triple[2].is_empty()) => {
                    let name = keyword.to_uppercase();
                    let detail = format!(
                        "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
                    );
                    self.warn("LegacyKeyValueFormat", node.lines, detail);
                }
                "arg" => {
                    let names = node.args.iter().map(|arg| arg.split_once('=').map_or(&arg[..], |(n, _)| n));
                    self.description(node, "ARG", names.collect());
                }
                _ => {}
            }
            // Instructions before the first FROM reach no image.
            if !is_global {
                self.secrets(node);
            }
        }
    }

    fn from(&mut self, node: &Node, names: &mut BTreeSet<String>) {
        let [_, keyword, name] = &node.args[..] else { return };
        let from = &node.name;
        let is_lower = |word: &str| word == word.to_lowercase();
        let is_upper = |word: &str| word == word.to_uppercase();
        // A FROM in mixed case has a warning of its own.
        let match_from = match from {
            from if is_lower(from) => is_lower(keyword),
            from if is_upper(from) => is_upper(keyword),
            _ => true,
        };
        if !match_from {
            let detail = format!("'{keyword}' and '{from}' keywords' casing do not match");
            self.warn("FromAsCasing", node.lines, detail);
        }
        if !is_lower(name) {
            self.warn("StageNameCasing", node.lines, format!("Stage name '{name}' should be lowercase"));
        }
        let lower = name.to_lowercase();
        if matches!(lower.as_str(), "scratch" | "context") {
            let detail = format!("Stage name should not use the same name as reserved stage \"{name}\"");
            self.warn("ReservedStageName", node.lines, detail);
        }
        if !names.insert(lower.clone()) {
            let detail = format!("Duplicate stage name \"{lower}\", stage names should be unique");
            self.warn("DuplicateStageName", node.lines, detail);
        }
        self.description(node, "FROM", vec![name]);
    }

    fn description(&mut self, node: &Node, what: &str, names: Vec<&str>) {
        let is_text = |comment: &&String| !comment.trim().starts_with("check=");
        let comments: Vec<&String> = node.comments.iter().filter(is_text).collect();
        // The last line of the comment is the description.
        let Some(comment) = comments.last().copied() else { return };
        let first = comment.split(' ').next().unwrap_or_default();
        if names.is_empty() || names.contains(&first) {
            return;
        }
        let name = if names.len() > 1 { "<arg_key>" } else { names[0] };
        let detail = format!("Comment for {what} should follow the format: `# {name} <description>`");
        self.warn("InvalidDefinitionDescription", node.lines, detail);
    }

    fn secrets(&mut self, node: &Node) {
        let keyword = node.name.to_uppercase();
        let names: Vec<&str> = match keyword.as_str() {
            "ARG" => node.args.iter().map(|arg| arg.split('=').next().unwrap_or_default()).collect(),
            "ENV" => node.args.chunks(3).map(|triple| triple[0].as_str()).collect(),
            _ => return,
        };
        for name in names.into_iter().filter(|name| is_secret(name)) {
            let detail =
                format!("Do not use ARG or ENV instructions for sensitive data ({keyword} \"{name}\")");
            self.warn("SecretsUsedInArgOrEnv", node.lines, detail);
        }
    }

    /// Checks that need the values of variables, stage by stage.
    fn stages(&mut self) -> Result<(), BuildError> {
        let host = Platform::host();
        let target = self.request.settings.platforms.first().unwrap_or(&host);
        let global = |given| {
            let escape = self.file.directives.escape;
            Scope::global(given, &self.file.global_args, &host, target, "default", escape)
                .map_err(|(error, lines)| shell_error(error, lines))
        };
        let (scope, defaults) = (global(&self.request.build_args)?, global(&Default::default())?);
        let mut grounds = Vec::new();
        let mut size = 0;
        for (index, stage) in self.file.stages.iter().enumerate() {
            let mut ground = self.ground(stage, index, &scope, &defaults, &grounds, target)?;
            let mut seen = Vec::new();
            for instruction in &stage.instructions {
                self.repeated(instruction, &mut seen);
                self.sources(index, instruction);
                self.instruction(instruction, &mut ground);
                if let Some(error) = self.error.take() {
                    return Err(error);
                }
            }
            size += ground.env.size() + ground.scope.size();
            if size > STAGES_SIZE_MAX {
                let message = format!(
                    "ENV and ARG of all stages take more than {STAGES_SIZE_MAX} bytes together, the limit"
                );
                return Err(ErrorKind::Dockerfile(message).at(stage.lines));
            }
            grounds.push(ground);
        }
        Ok(())
    }

    /// Checks FROM and returns what it sets.
    fn ground(
        &mut self,
        stage: &Stage,
        index: usize,
        scope: &Scope,
        defaults: &Scope,
        grounds: &[Ground],
        target: &Platform,
    ) -> Result<Ground, BuildError> {
        let lines = stage.lines;
        let base = scope.expand_global(&stage.base).unwrap_or_else(|error| {
            self.failed(error, lines);
            Default::default()
        });
        let platform = stage.platform.as_deref().map(|text| scope.expand_global(text)).transpose();
        let platform = platform.unwrap_or_else(|error| {
            self.failed(error, lines);
            None
        });
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let unset = base.unknown.iter().chain(platform.iter().flat_map(|expanded| &expanded.unknown));
        for name in unset {
            let mut known: Vec<&str> =
                self.file.global_args.iter().map(|(arg, _)| arg.name.as_str()).collect();
            if known.contains(&name.as_str()) {
                continue;
            }
            known.extend(scope.global_names());
            let detail = format!("FROM argument '{name}' is not declared{}", meant(name, &known, ""));
            self.warn("UndefinedArgInFrom", lines, detail);
        }
        let by_default =
            defaults.expand_global(&stage.base).map(|expanded| expanded.text).unwrap_or_default();
        let is_valid = |text: &str| !text.trim().is_empty() && text.parse::<Reference>().is_ok();
        if stage.base.contains('$') && !is_valid(&by_default) {
            let detail =
                format!("Default value for ARG {} results in empty or invalid base image name", stage.base);
            self.warn("InvalidDefaultArgInFrom", lines, detail);
        }
        let expected = platform.as_ref().and_then(|p| p.text.parse().ok()).unwrap_or_else(|| target.clone());
        if let Err(error) = platform_of(stage, scope) {
            self.tell(error);
        }
        if let Some(text) = &stage.platform {
            self.platform(text, &expected, stage);
        }
        let mut ground = Ground {
            scope: scope.stage(None),
            env: Env::default(),
            env_is_known: false,
            has_workdir: false,
            has_shell: false,
        };
        let names = Names { file: self.file, contexts: &self.request.contexts };
        if base.text.trim().is_empty() {
            let message = format!("base name ({}) should not be blank", stage.base);
            self.tell(ErrorKind::Dockerfile(message).at(lines));
            return Ok(ground);
        }
        match names.resolve(&base.text, index, lines) {
            Ok(Origin::Scratch) => ground.env_is_known = true,
            Ok(Origin::Stage(earlier)) => {
                ground = grounds[earlier].clone();
                ground.scope = scope.stage(Some(&grounds[earlier].scope));
            }
            Ok(Origin::Image(reference)) => {
                if let Some(config) = (self.known)(&reference, &expected) {
                    let found = config.platform();
                    if expected.rank(&found).is_none() {
                        let detail = format!(
                            "Base image {} was pulled with platform \"{found}\", expected \"{expected}\" for current build",
                            base.text
                        );
                        self.warn("InvalidBaseImagePlatform", lines, detail);
                    }
                    ground.has_shell = config.config.shell.is_some();
                    ground.env = Env::new(config.config.env);
                    ground.env_is_known = true;
                }
            }
            Ok(_) => {}
            Err(error) => self.tell(error),
        }
        if ground.env.get("PATH").is_none() {
            ground.env.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        }
        Ok(ground)
    }

    fn platform(&mut self, text: &str, expected: &Platform, stage: &Stage) {
        let with_default =
            ["${TARGETPLATFORM:-", "${TARGETPLATFORM-"].iter().any(|start| text.starts_with(start));
        if matches!(text, "$TARGETPLATFORM" | "${TARGETPLATFORM}") || with_default {
            let detail = format!(
                "Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
            );
            self.warn("RedundantTargetPlatform", stage.lines, detail);
        }
        // A stage made for one platform has the platform in its name.
        let names_it = |name: &String| name.contains(&expected.architecture) || name.contains(&expected.os);
        if !text.contains('$') && !stage.name.as_ref().is_some_and(names_it) {
            let detail = format!("FROM --platform flag should not use constant value \"{text}\"");
            self.warn("FromPlatformFlagConstDisallowed", stage.lines, detail);
        }
    }

    /// Checks `--from` and the `from` of mounts.
    fn sources(&mut self, index: usize, instruction: &Instruction) {
        let lines = instruction.lines;
        let names = Names { file: self.file, contexts: &self.request.contexts };
        if let Err(error) = names.check_origins(index, &instruction.kind, lines) {
            return self.tell(error);
        }
        for name in crate::dockerfile::names::origins(&instruction.kind) {
            if let Err(error) = names.resolve(&name, index, lines) {
                self.tell(error);
            }
        }
    }

    /// If a stage has several CMD, ENTRYPOINT or HEALTHCHECK, only the last counts.
    fn repeated(&mut self, instruction: &Instruction, seen: &mut Vec<(&'static str, Lines)>) {
        let name = match instruction.kind {
            Kind::Cmd(_) => "CMD",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            _ => return,
        };
        if let Some(at) = seen.iter().position(|(earlier, _)| *earlier == name) {
            let (_, lines) = seen.remove(at);
            let detail = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            self.warn("MultipleInstructionsDisallowed", lines, detail);
        }
        seen.push((name, instruction.lines));
    }

    fn instruction(&mut self, instruction: &Instruction, ground: &mut Ground) {
        let lines = instruction.lines;
        self.undefined(instruction, ground);
        match &instruction.kind {
            Kind::Arg(definitions) => {
                let Ground { scope, env, .. } = ground;
                for definition in definitions {
                    if let Err(error) = scope.declare(definition, env) {
                        self.failed(error, lines);
                    }
                }
            }
            Kind::Env(pairs) => {
                let expand = |value: &String| ground.scope.expand(value, &ground.env);
                let values: Vec<_> = pairs.iter().map(|(_, value)| expand(value)).collect();
                for ((name, _), value) in pairs.iter().zip(values) {
                    let value = value.map_err(|error| self.failed(error, lines));
                    ground.env.set(name, &value.map(|expanded| expanded.text).unwrap_or_default());
                }
            }
            Kind::Cmd(CommandLine::Shell(_)) if !ground.has_shell => self.shell_form("CMD", lines),
            Kind::Entrypoint(CommandLine::Shell(_)) if !ground.has_shell => {
                self.shell_form("ENTRYPOINT", lines)
            }
            Kind::Shell(_) => ground.has_shell = true,
            Kind::Workdir(path) => {
                let path =
                    ground.scope.expand(path, &ground.env).map_or(path.clone(), |expanded| expanded.text);
                if !ground.has_workdir && !path.starts_with('/') {
                    let detail = format!(
                        "Relative workdir \"{path}\" can have unexpected results if the base image changes"
                    );
                    self.warn("WorkdirRelativePath", lines, detail);
                }
                ground.has_workdir = true;
            }
            Kind::Expose(ports) => ports.iter().for_each(|port| self.port(port, ground, lines)),
            Kind::StopSignal(signal) => {
                let signal = ground.scope.expand(signal, &ground.env).map(|expanded| expanded.text);
                if let Some(Err(message)) = signal.ok().map(|signal| check_signal(&signal)) {
                    self.tell(ErrorKind::Dockerfile(message).at(lines));
                }
            }
            Kind::Volume(paths) => {
                let is_empty = |path: &String| {
                    ground.env_is_known
                        && ground.scope.expand(path, &ground.env).is_ok_and(|path| path.text.is_empty())
                };
                if paths.iter().any(is_empty) {
                    self.tell(ErrorKind::Dockerfile("VOLUME has an empty path".to_string()).at(lines));
                }
            }
            Kind::Copy(transfer) if transfer.from.is_none() => self.ignored("Copy", transfer, ground, lines),
            Kind::Add(transfer) => self.ignored("Add", transfer, ground, lines),
            _ => {}
        }
    }

    fn shell_form(&mut self, name: &str, lines: Lines) {
        let detail = format!(
            "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
        );
        self.warn("JSONArgsRecommended", lines, detail);
    }

    fn port(&mut self, text: &str, ground: &Ground, lines: Lines) {
        let words = ground.scope.expand(text, &ground.env).map(|expanded| expanded.words).unwrap_or_default();
        for word in words {
            if let Err(message) = expose(&word) {
                self.tell(ErrorKind::Dockerfile(message).at(lines));
            }
            let (port, protocol) = word.split_once('/').unwrap_or((&word, ""));
            if protocol != protocol.to_lowercase() {
                let detail = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
                self.warn("ExposeProtoCasing", lines, detail);
            }
            if port.contains(':') {
                let detail = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
                );
                self.warn("ExposeInvalidFormat", lines, detail);
            }
        }
    }

    fn ignored(&mut self, verb: &str, transfer: &Transfer, ground: &Ground, lines: Lines) {
        for source in &transfer.sources {
            let Ok(expanded) = ground.scope.expand(source, &ground.env) else { continue };
            let path = expanded.text;
            let is_local = !path.contains("://") && !crate::git::is_git(&path);
            // The rules may include files again, so the whole context does not count as ignored.
            let is_part = crate::files::tree::clean_relative(path.as_bytes()).is_empty()
                && self.request.ignore.may_include_again();
            if is_local
                && !is_part
                && self.request.ignore.excludes(crate::files::tree::clean_relative(path.as_bytes()))
            {
                let detail =
                    format!("Attempting to {verb} file \"{path}\" that is excluded by .dockerignore");
                self.warn("CopyIgnoredFile", lines, detail);
            }
        }
    }

    fn undefined(&mut self, instruction: &Instruction, ground: &Ground) {
        if !ground.env_is_known {
            return;
        }
        let mut unset = BTreeSet::new();
        for word in words(&instruction.kind) {
            match ground.scope.expand(word, &ground.env) {
                Ok(expanded) => unset.extend(expanded.unknown),
                Err(error) => self.failed(error, instruction.lines),
            }
        }
        for heredoc in heredocs(&instruction.kind).iter().filter(|heredoc| heredoc.expand) {
            match ground.scope.expanded_heredoc(&heredoc.content, &ground.env) {
                Ok(expanded) => unset.extend(expanded.unknown),
                Err(error) => self.failed(error, instruction.lines),
            }
        }
        // An ARG counts as declared, with a value or without.
        unset.retain(|name| !ground.scope.declares(name));
        if unset.is_empty() {
            return;
        }
        let known = ground.scope.names(&ground.env);
        for name in unset {
            let detail = format!("Usage of undefined variable '${name}'{}", meant(&name, &known, "$"));
            self.warn("UndefinedVar", instruction.lines, detail);
        }
    }
}

/// The heredocs of an instruction in which variables are expanded.
fn heredocs(kind: &Kind) -> &[Heredoc] {
    match kind {
        Kind::Add(transfer) | Kind::Copy(transfer) => &transfer.heredocs,
        _ => &[],
    }
}

/// The words of an instruction in which variables are expanded.
fn words(kind: &Kind) -> Vec<&str> {
    match kind {
        Kind::Add(transfer) | Kind::Copy(transfer) => {
            let mut all: Vec<&str> = transfer.sources.iter().map(String::as_str).collect();
            all.push(&transfer.destination);
            all.extend(transfer.chown.as_deref());
            all.extend(transfer.chmod.as_deref());
            all
        }
        Kind::Arg(definitions) => definitions.iter().filter_map(|d| d.default.as_deref()).collect(),
        Kind::Env(pairs) => pairs.iter().map(|(_, value)| value.as_str()).collect(),
        Kind::Label(pairs) => pairs.iter().flat_map(|(name, value)| [name.as_str(), value]).collect(),
        Kind::Expose(list) | Kind::Volume(list) => list.iter().map(String::as_str).collect(),
        Kind::StopSignal(one) | Kind::User(one) | Kind::Workdir(one) => vec![one],
        _ => Vec::new(),
    }
}

/// ` (did you mean X?)`, or nothing.
fn meant(name: &str, known: &[&str], sigil: &str) -> String {
    if known.len() > 1000 {
        // No suggestion if there are this many names.
        return String::new();
    }
    let lower: Vec<String> = known.iter().map(|known| known.to_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let near = crossdock_dockerfile::error::suggestion(name, &lower);
    let near = near.and_then(|near| lower.iter().position(|known| *known == near));
    near.map(|at| format!(" (did you mean {sigil}{}?)", known[at])).unwrap_or_default()
}

/// Whether a variable's name suggests a secret, as `DB_PASSWORD` does, and not a public key (`PUBLIC_KEY`) or
/// the place of a secret (`DB_PASSWORD_FILE`).
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    let lower = name.to_lowercase();
    let mut parts = lower.split('_');
    let is_public = lower.split('_').any(|part| matches!(part, "public" | "file" | "version"));
    !is_public && parts.any(|part| WORDS.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(dockerfile: &str) -> BuildRequest {
        BuildRequest { dockerfile: dockerfile.into(), ..BuildRequest::for_platform(Platform::host()) }
    }

    /// `line Rule: detail` of each finding.
    fn found(request: &BuildRequest) -> Vec<String> {
        let env = vec!["FROM_BASE=1".to_string()];
        let known = |reference: &Reference, platform: &Platform| {
            let mut config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
            config.architecture = platform.architecture.clone();
            config.config.env = env.clone();
            match reference.familiar().as_str() {
                "foreign:latest" => config.architecture = "s390x".into(),
                "unknown:latest" => return None,
                _ => {}
            }
            Some(config)
        };
        let findings = check(request, Experimental::Ours, &known).expect("a Dockerfile");
        findings.warnings.iter().map(|w| format!("{} {}: {}", w.lines.start, w.rule, w.detail)).collect()
    }

    #[test]
    fn what_is_meant_is_not_told() {
        for dockerfile in [
            "FROM scratch\nARG V\nARG N\nLABEL v=$V\nCOPY ${N}file /x\n",
            "FROM scratch\nENV DB_PASSWORD_FILE=/x AUTH_VERSION=3 X_PUBLIC_KEY=k\n",
            "ARG TOKEN=x\nFROM scratch\n",
            "FROM scratch\n# check=skip=LegacyKeyValueFormat\nENV a b\n",
            "# check=skip=stagenamecasing\nFROM scratch AS Build\n",
        ] {
            assert_eq!(found(&request(dockerfile)), Vec::<String>::new(), "{dockerfile}");
        }
        let mut ignored = request("FROM scratch\nCOPY . /\n");
        ignored.ignore = crossdock_dockerfile::ignore::Ignore::parse("*\n!a\n").expect("valid");
        assert_eq!(found(&ignored), Vec::<String>::new());
        ignored.ignore = crossdock_dockerfile::ignore::Ignore::parse("*\n").expect("valid");
        assert!(found(&ignored)[0].contains("CopyIgnoredFile"));
        // Clients of BuildKit's API ask for the rule.
        let theirs = |request: &BuildRequest| {
            let findings = check(request, Experimental::BuildKits, &|_, _| None).expect("a Dockerfile");
            findings.warnings.iter().map(|warning| warning.rule).collect::<Vec<_>>()
        };
        assert!(theirs(&ignored).is_empty());
        ignored.dockerfile.splice(0..0, *b"# check=experimental=CopyIgnoredFile\n");
        assert_eq!(theirs(&ignored), ["CopyIgnoredFile"]);
    }

    #[test]
    fn a_build_hears_of_the_stages_that_it_needs() {
        let text = "FROM scratch AS One\nENV a b\nFROM scratch AS two\nCOPY $no /\n";
        let of_build = |target: &str| {
            let request = BuildRequest { target: Some(target.to_string()), ..request(text) };
            let findings = check_for_build(&request, Experimental::Ours, &|_, _| None).expect("a Dockerfile");
            findings.warnings.iter().map(|warning| warning.rule).collect::<Vec<_>>()
        };
        assert_eq!(of_build("two"), ["StageNameCasing", "UndefinedVar"]);
        assert_eq!(of_build("one"), ["StageNameCasing", "LegacyKeyValueFormat"]);
        assert_eq!(found(&request(text)).len(), 3);
    }

    #[test]
    fn what_stands_before_an_error_is_checked() {
        let text = "FROM scratch AS One\nMAINTAINER me\nENV a b\nNONSENSE\n";
        let findings = check(&request(text), Experimental::Ours, &|_, _| None).expect("checked");
        let rules: Vec<&str> = findings.warnings.iter().map(|warning| warning.rule).collect();
        assert_eq!(rules, ["StageNameCasing", "MaintainerDeprecated"]);
        let (message, lines) = findings.error.expect("an error");
        assert_eq!(message, "dockerfile parse error on line 4: unknown instruction: NONSENSE");
        assert_eq!(lines.map(|lines| lines.start), Some(4));
    }

    #[test]
    fn warnings_that_are_errors_are_told_as_one() {
        let text = "# check=skip=StageNameCasing;error=true\nFROM scratch as One\nCopy a /\n";
        let findings = check(&request(text), Experimental::Ours, &|_, _| None).expect("checked");
        let (message, lines) = findings.error.expect("an error");
        let expected = "lint violation found for rules: FromAsCasing, ConsistentInstructionCasing";
        assert_eq!((message.as_str(), lines.map(|lines| lines.start)), (expected, Some(2)));
        // Rules that are not checked unless they are wanted are not left out by skip=all.
        let text = "# check=skip=all;experimental=InvalidDefinitionDescription\n# x y\nFROM scratch as a\n";
        assert!(found(&request(text))[0].contains("InvalidDefinitionDescription"));
        // An empty comment ends the description.
        let text = "# check=experimental=all\n# x y\n#\nFROM scratch AS a\n";
        assert_eq!(found(&request(text)), [""; 0]);
    }

    #[test]
    fn unset_variables_are_told_wherever_they_stand() {
        for dockerfile in [
            "FROM scratch\nLABEL a=${nosuch:-1}\n",
            "FROM scratch\nLABEL a=${nosuch:+1}\n",
            "FROM scratch\nCOPY <<E /x\n$nosuch\nE\n",
        ] {
            assert!(found(&request(dockerfile))[0].contains("UndefinedVar"), "{dockerfile}");
        }
        assert_eq!(found(&request("FROM scratch\nCOPY <<'E' /x\n$nosuch\nE\n")), Vec::<String>::new());
        assert!(found(&request("FROM ${nosuch:-scratch}\n"))[0].contains("UndefinedArgInFrom"));
        assert!(
            found(&request("FROM --platform=${TARGETPLATFORM:-linux/amd64} a\n"))[0]
                .contains("RedundantTargetPlatform")
        );
    }

    #[test]
    fn what_a_build_would_end_with_is_told() {
        for (dockerfile, text, line) in [
            ("ARG B\nFROM $B\n", "should not be blank", 2),
            (
                "FROM --platform=$BULIDPLATFORM scratch\n",
                "empty platform value from expression $BULIDPLATFORM (did you mean BUILDPLATFORM?)",
                1,
            ),
            ("ARG MY_A=x\nFROM --platform=linux/$MYA a\n", "linux/$MYA: \"\" is an invalid component", 2),
            ("FROM scratch\nARG V\nRUN --mount=from=$V,target=/x x\n", "'from' doesn't support", 3),
            ("FROM UPPER:\n", "UPPER", 1),
            ("FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\n", "needs to be defined before", 2),
            ("FROM scratch\nARG V\nCOPY --from=$V / /\n", "variable expansion is not supported", 3),
            ("FROM scratch\nLABEL a=${x:i}\n", "failed to process", 2),
            ("FROM scratch\nEXPOSE 80/http\n", "invalid port", 2),
            ("FROM scratch\nSTOPSIGNAL SIGFOO\n", "invalid signal", 2),
            ("FROM scratch\nVOLUME $nothing\n", "empty path", 2),
        ] {
            let findings =
                check(&request(dockerfile), Experimental::Ours, &|_, _| None).expect("a Dockerfile");
            let (message, lines) = findings.error.unwrap_or_else(|| panic!("nothing told of {dockerfile}"));
            assert!(message.contains(text), "{dockerfile}: {message}");
            assert_eq!(lines.map(|lines| lines.start), Some(line), "{dockerfile}");
        }
    }

    #[test]
    fn every_rule_finds_its_case() {
        let host = Platform::host();
        for (dockerfile, expect) in [
            ("FROM a AS Build\n", "1 StageNameCasing: Stage name 'Build' should be lowercase"),
            ("FROM a as b\n", "1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"),
            ("FROM a\nRUN x \\\n\n  y\n", "4 NoEmptyContinuation: Empty continuation line"),
            (
                "FROM a\nRun x\nRUN y\n",
                "2 ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (uppercase)",
            ),
            (
                "FROM a AS x\nFROM a AS x\n",
                "2 DuplicateStageName: Duplicate stage name \"x\", stage names should be unique",
            ),
            (
                "FROM a AS context\n",
                "1 ReservedStageName: Stage name should not use the same name as reserved stage \"context\"",
            ),
            (
                "FROM a\nCMD x\n",
                "2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            ),
            (
                "FROM a\nMAINTAINER x\n",
                "2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
            ),
            (
                "ARG VERSION=1\nFROM a:1$VERSOIN\n",
                "2 UndefinedArgInFrom: FROM argument 'VERSOIN' is not declared (did you mean VERSION?)",
            ),
            (
                "FROM a\nWORKDIR x\n",
                "2 WorkdirRelativePath: Relative workdir \"x\" can have unexpected results if the base image changes",
            ),
            (
                "FROM a\nARG FOO\nCOPY $FOOO /\n",
                "3 UndefinedVar: Usage of undefined variable '$FOOO' (did you mean $FOO?)",
            ),
            (
                "FROM a\nCMD [\"a\"]\nCMD [\"b\"]\n",
                "2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            ),
            (
                "FROM a\nENV a b\n",
                "2 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            ),
            (
                "FROM foreign\n",
                &format!(
                    "1 InvalidBaseImagePlatform: Base image foreign was pulled with platform \"linux/s390x\", expected \"{host}\" for current build"
                ),
            ),
            (
                "FROM --platform=$TARGETPLATFORM a\n",
                "1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            ),
            (
                "FROM a\nARG DB_PASSWORD\n",
                "2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"DB_PASSWORD\")",
            ),
            (
                "ARG TAG\nFROM a:${TAG}\n",
                "2 InvalidDefaultArgInFrom: Default value for ARG a:${TAG} results in empty or invalid base image name",
            ),
            (
                "FROM --platform=linux/s390x a\n",
                "1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/s390x\"",
            ),
            (
                "# check=experimental=all\nFROM a\nCOPY ./skip/x /\n",
                "3 CopyIgnoredFile: Attempting to Copy file \"./skip/x\" that is excluded by .dockerignore",
            ),
            (
                "# check=experimental=all\n# something\nFROM a AS b\n",
                "3 InvalidDefinitionDescription: Comment for FROM should follow the format: `# b <description>`",
            ),
            (
                "FROM a\nEXPOSE 80/TCP\n",
                "2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
            ),
            (
                "FROM a\nEXPOSE 127.0.0.1:80:80\n",
                "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
            ),
        ] {
            let mut request = request(dockerfile);
            request.ignore = crossdock_dockerfile::ignore::Ignore::parse("skip\n").expect("valid");
            assert_eq!(found(&request), [expect], "{dockerfile}");
            let rule = expect.split([' ', ':']).nth(1).expect("a rule");
            assert!(RULES.iter().any(|(name, _)| *name == rule));
            request.dockerfile =
                format!("# check=skip={rule}\n{}", dockerfile.replace("# check=experimental=all\n", ""))
                    .into();
            assert_eq!(found(&request), [""; 0], "{dockerfile} without {rule}");
        }
    }

    #[test]
    fn what_is_in_order_is_let_be() {
        let dockerfile = "ARG TAG=1\n# build makes it\nFROM --platform=$BUILDPLATFORM a:$TAG AS build\nARG TARGETARCH PUBLIC_KEY\n\
            ENV PATH=$PATH:/x A=$FROM_BASE$TARGETARCH\nWORKDIR /x\nWORKDIR y\nCOPY --from=build skip/x /$A\nRUN echo $anything\n\
            SHELL [\"sh\", \"-c\"]\nCMD shell form\nEXPOSE 80/udp\nFROM build AS last\nCOPY $A /\nHEALTHCHECK NONE\n\
            FROM unknown\nCOPY $SET_THERE /\nFROM --platform=linux/s390x a AS for_s390x\n";
        assert_eq!(found(&request(dockerfile)), [""; 0]);
        assert_eq!(found(&request("from a as b\nrun x\n")), [""; 0], "all in lower case");
    }

    #[test]
    fn settings_of_the_directive() {
        let findings = |text: &str| check(&request(text), Experimental::Ours, &|_, _| None);
        assert!(findings("# check=error=true\nFROM a\nCMD x\n").expect("valid").are_errors);
        assert!(!findings("# check=skip=all;error=false\nFROM a\nCMD x\n").expect("valid").are_errors);
        assert!(findings("# check=skip=all\nFROM a\nCMD x\n").expect("valid").warnings.is_empty());
        assert!(
            findings("# check=nonsense\nFROM a\n").expect_err("unknown").to_string().contains("nonsense")
        );
        let mut overridden = request("# check=error=true\nFROM a\nCMD x\n");
        overridden.build_args.insert("BUILDKIT_DOCKERFILE_CHECK".into(), "skip=JSONArgsRecommended".into());
        assert_eq!(check(&overridden, Experimental::Ours, &|_, _| None).expect("valid"), Findings::default());
        let url =
            Warning { rule: "JSONArgsRecommended", detail: String::new(), lines: Lines::default() }.url();
        assert_eq!(url, "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/");
    }
}
