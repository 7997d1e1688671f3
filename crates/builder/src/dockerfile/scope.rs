//! Variables in force at an instruction: ARGs, ENVs, the platform ARGs.
//!
//! Dockerfile reference, "ARG": ENV overrides ARG; an ARG takes the value of `--build-arg`, else its own
//! default, else the value of the ARG before the first FROM; ARGs are per stage and inherited by stages built
//! FROM the stage.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crossdock_dockerfile::instruction::ArgDefinition;
use crossdock_dockerfile::shell::{Budget, Expanded, Lexer, ShellError, WORD_SIZE_MAX};
use crossdock_dockerfile::values::boolean;
use crossdock_dockerfile::{Dockerfile, Lines, Stage};
use crossdock_platform::Platform;

use crate::dockerfile::request::BuildRequest;
use crate::error::{BuildError, shell_error};

/// Build arguments that need no ARG and enter neither history nor cache keys.
const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Arguments that are for the builder and reach no command (Dockerfile reference, "BuildKit built-in build
/// args").
const OF_BUILDER: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Approximate memory of a variable beside its text, in bytes: two strings and places in two lists.
const VARIABLE_SIZE: usize = 200;

/// The environment of an image: `NAME=value` in order, with an index by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    entries: Vec<String>,
    /// Place of each name; if there are several entries, the last counts.
    places: HashMap<String, usize>,
    size: usize,
}

impl Env {
    /// The environment of an image's configuration.
    pub fn new(entries: Vec<String>) -> Env {
        let name = |(i, entry): (usize, &String)| Some((entry.split_once('=')?.0.to_string(), i));
        let places = entries.iter().enumerate().filter_map(name).collect();
        let size = entries.iter().map(String::len).sum();
        Env { entries, places, size }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let entry = &self.entries[*self.places.get(name)?];
        entry.split_once('=').map(|(_, value)| value)
    }

    /// Sets `name`; an existing entry keeps its place.
    pub fn set(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        self.size += entry.len();
        match self.places.get(name) {
            Some(place) => {
                self.size -= self.entries[*place].len();
                self.entries[*place] = entry;
            }
            None => {
                self.places.insert(name.to_string(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// `NAME=value`, in order.
    pub fn entries(&self) -> &[String] {
        &self.entries
    }

    /// Approximate memory, in bytes.
    pub fn size(&self) -> usize {
        self.size + self.entries.len() * VARIABLE_SIZE
    }
}

/// ARGs of a stage in the order of their first declaration.
#[derive(Clone, Debug, Default)]
struct Args {
    /// Names by ascending number.
    names: BTreeMap<usize, String>,
    values: HashMap<String, (usize, Option<String>)>,
    last: usize,
    size: usize,
}

impl Args {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.1.as_deref()
    }

    fn declare(&mut self, name: &str, value: Option<String>) {
        let length = |value: &Option<String>| name.len() + value.as_ref().map_or(0, String::len);
        self.size += length(&value);
        if let Some((_, before)) = self.values.get_mut(name) {
            self.size -= length(before);
            *before = value;
            return;
        }
        self.last += 1;
        self.values.insert(name.to_string(), (self.last, value));
        self.names.insert(self.last, name.to_string());
    }
}

/// ARGs of one stage run and their given values. Everything but the stage's own ARGs is cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// `--build-arg`.
    given: Arc<BTreeMap<String, String>>,
    /// Values of the ARGs before the first FROM, and the platform ARGs.
    global: Arc<BTreeMap<String, String>>,
    /// ARGs declared in the stage.
    args: Args,
    escape: char,
    /// Cost left for the expansions of the whole build.
    budget: Arc<Budget>,
}

impl Scope {
    /// The scope of the lines before the first FROM: values of `--build-arg` and of the global ARGs.
    ///
    /// # Errors
    ///
    /// An ARG that cannot be expanded, with its lines.
    pub fn global(
        given: &BTreeMap<String, String>,
        definitions: &[(ArgDefinition, Lines)],
        build: &Platform,
        target: &Platform,
        target_stage: &str,
        escape: char,
    ) -> Result<Scope, (ShellError, Lines)> {
        let mut global = BTreeMap::new();
        let mut set = |name: &str, value: &str| {
            let value = given.get(name).map_or(value, String::as_str).to_string();
            global.insert(name.to_string(), value);
        };
        for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
            set(&format!("{prefix}PLATFORM"), &platform.to_string());
            set(&format!("{prefix}OS"), &platform.os);
            set(&format!("{prefix}OSVERSION"), platform.os_version.as_deref().unwrap_or(""));
            set(&format!("{prefix}ARCH"), &platform.architecture);
            set(&format!("{prefix}VARIANT"), platform.variant.as_deref().unwrap_or(""));
        }
        set("TARGETSTAGE", target_stage);
        let budget = Arc::new(Budget::default());
        for (definition, lines) in definitions {
            let value = match (given.get(&definition.name), &definition.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => {
                    let known = |name: &str| global.get(name).cloned();
                    let expanded = Lexer::new(escape).expand(default, &known, &budget);
                    Some(expanded.map_err(|error| (error, *lines))?.text)
                }
                // `ARG TARGETARCH` before FROM keeps the platform's value.
                (None, None) => global.get(&definition.name).cloned(),
            };
            if let Some(value) = value {
                global.insert(definition.name.clone(), value);
            }
        }
        let given = Arc::new(given.clone());
        Ok(Scope { given, global: Arc::new(global), args: Args::default(), escape, budget })
    }

    /// The scope of a request's lines before the first FROM, for one of its platforms.
    ///
    /// # Errors
    ///
    /// An ARG that cannot be expanded.
    pub fn of_request(
        request: &BuildRequest,
        file: &Dockerfile,
        build: &Platform,
        target: &Platform,
    ) -> Result<Scope, BuildError> {
        let last = file.stages.last().and_then(|stage| stage.name.clone());
        let target_stage = request.target.clone().or(last).unwrap_or_else(|| "default".to_string());
        let escape = file.directives.escape;
        Scope::global(&request.build_args, &file.global_args, build, target, &target_stage, escape)
            .map_err(|(error, lines)| shell_error(error, lines))
    }

    /// The scope of a request's first platform, for who reads its Dockerfile without building it.
    ///
    /// # Errors
    ///
    /// As for [`Scope::of_request`].
    pub fn of_first_platform(request: &BuildRequest, file: &Dockerfile) -> Result<Scope, BuildError> {
        let host = Platform::host();
        Scope::of_request(request, file, &host, request.settings.platforms.first().unwrap_or(&host))
    }

    /// The base that a stage names.
    ///
    /// # Errors
    ///
    /// It cannot be expanded.
    pub fn base_of(&self, stage: &Stage) -> Result<String, BuildError> {
        let base = self.expand_global(&stage.base).map_err(|error| shell_error(error, stage.lines))?;
        Ok(base.text)
    }

    /// Expands a word of FROM.
    pub fn expand_global(&self, word: &str) -> Result<Expanded, ShellError> {
        Lexer::new(self.escape).expand(word, &|name: &str| self.global.get(name).cloned(), &self.budget)
    }

    /// Names that can be expanded in FROM.
    pub fn global_names(&self) -> Vec<&str> {
        self.global.keys().map(String::as_str).collect()
    }

    /// The scope at the start of a stage: the global one, and the ARGs inherited from the stage it is built
    /// FROM.
    pub fn stage(&self, inherited: Option<&Scope>) -> Scope {
        Scope { args: inherited.map(|scope| scope.args.clone()).unwrap_or_default(), ..self.clone() }
    }

    /// Executes ARG.
    pub fn declare(&mut self, definition: &ArgDefinition, env: &Env) -> Result<(), ShellError> {
        let value = match (self.given.get(&definition.name), &definition.default) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(default)) => Some(self.expand(default, env)?.text),
            // A repeated ARG without a value keeps its earlier value, from here or from the base stage.
            (None, None) => {
                let global = self.global.get(&definition.name).cloned();
                global.or_else(|| self.args.get(&definition.name).map(str::to_string))
            }
        };
        self.args.declare(&definition.name, value);
        Ok(())
    }

    /// Expands a word of an instruction; `env` is the image's environment.
    pub fn expand(&self, word: &str, env: &Env) -> Result<Expanded, ShellError> {
        self.expand_within(word, env, WORD_SIZE_MAX)
    }

    fn expand_within(&self, word: &str, env: &Env, size_max: usize) -> Result<Expanded, ShellError> {
        let lexer = Lexer { size_max, ..Lexer::new(self.escape) };
        let known = |name: &str| env.get(name).or_else(|| self.args.get(name)).map(str::to_string);
        lexer.expand(word, &known, &self.budget)
    }

    /// Expands the content of a heredoc, in which quotes are text. The result may be as long as a Dockerfile.
    pub fn expand_heredoc(&self, text: &str, env: &Env) -> Result<String, ShellError> {
        Ok(self.expanded_heredoc(text, env)?.text)
    }

    /// As [`Scope::expand_heredoc`], with the names that were not set.
    pub fn expanded_heredoc(&self, text: &str, env: &Env) -> Result<Expanded, ShellError> {
        // Quotes have no meaning in a heredoc, so they are passed as escaped characters.
        let mut quoted = String::with_capacity(text.len());
        for c in text.chars() {
            if matches!(c, '"' | '\'') {
                quoted.push(self.escape);
            }
            quoted.push(c);
        }
        self.expand_within(&quoted, env, crossdock_dockerfile::parser::SIZE_MAX)
    }

    /// The value that a name has before the first FROM.
    pub fn value(&self, name: &str) -> Option<String> {
        self.global.get(name).cloned()
    }

    /// The value of an ARG of the stage.
    pub fn argument(&self, name: &str) -> Option<String> {
        self.args.get(name).map(str::to_string)
    }

    /// Whether an ARG of the stage, else the one before the first FROM, is true or lists the stage's name.
    pub fn is_on_for(&self, name: &str, stage: &str) -> bool {
        let Some(value) = self.args.get(name).or_else(|| self.global.get(name).map(String::as_str)) else {
            return false;
        };
        boolean(value).unwrap_or_else(|| value.split(',').any(|listed| listed.eq_ignore_ascii_case(stage)))
    }

    /// Whether the stage has an ARG of that name, with a value or without.
    pub fn declares(&self, name: &str) -> bool {
        self.args.values.contains_key(name)
    }

    /// Approximate memory of the stage's ARGs, in bytes.
    pub fn size(&self) -> usize {
        self.args.size + self.args.names.len() * VARIABLE_SIZE
    }

    /// All names that have a meaning in the stage.
    pub fn names<'a>(&'a self, env: &'a Env) -> Vec<&'a str> {
        let of_env = env.entries.iter().map(|entry| entry.split('=').next().unwrap_or_default());
        self.args.names.values().map(String::as_str).chain(of_env).collect()
    }

    /// The ARGs that a RUN sees in its environment beside the image's ENV, as `NAME=value`.
    pub fn run_args(&self, env: &Env) -> Vec<String> {
        let names = self.args.names.values();
        let seen = names.filter(|name| env.get(name).is_none() && !OF_BUILDER.contains(&name.as_str()));
        seen.filter_map(|name| Some(format!("{name}={}", self.args.get(name)?))).collect()
    }

    /// The given but undeclared predefined proxy arguments, as `NAME=value`; they must stay out of keys.
    pub fn proxy_args(&self) -> Vec<String> {
        // Programs read either the upper-case or the lower-case name: a value given for one is set for both.
        let of = |name: &str| {
            let other = |given: &&String| given.eq_ignore_ascii_case(name);
            self.given.get(name).or_else(|| self.given.get(self.given.keys().find(other)?))
        };
        PREDEFINED
            .iter()
            .filter(|name| !self.args.values.contains_key(**name))
            .filter_map(|name| Some(format!("{name}={}", of(name)?)))
            .collect()
    }

    /// Names of `--build-arg` that are not in `declared`.
    pub fn unused<'a>(&'a self, declared: &BTreeSet<String>) -> Vec<&'a str> {
        self.given
            .keys()
            .map(String::as_str)
            .filter(|name| !declared.contains(*name) && !PREDEFINED.contains(name))
            .filter(|name| !name.starts_with("BUILDKIT_") && *name != "SOURCE_DATE_EPOCH")
            .filter(|name| !self.global.contains_key(*name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(text: &str) -> ArgDefinition {
        let (name, default) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (text, None),
        };
        ArgDefinition { name: name.to_string(), default }
    }

    fn global(given: &[(&str, &str)], definitions: &[&str]) -> Scope {
        let given = given.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let definitions: Vec<_> = definitions.iter().map(|d| (arg(d), Lines::default())).collect();
        let (build, target) = ("linux/amd64".parse().expect("valid"), "linux/arm/v7".parse().expect("valid"));
        Scope::global(&given, &definitions, &build, &target, "default", '\\').expect("valid")
    }

    #[test]
    fn from_sees_global_args_and_platforms() {
        let scope = global(&[("V", "2")], &["V=1", "IMAGE=a:$V-$TARGETARCH"]);
        assert_eq!(scope.expand_global("$IMAGE$TARGETVARIANT").expect("valid").text, "a:2-armv7");
    }

    #[test]
    fn stages_see_only_what_they_declare() {
        let global = global(&[("GIVEN", "g")], &["V=1"]);
        let (none, v) = (Env::default(), Env::new(vec!["V=env".into()]));
        let mut stage = global.stage(None);
        assert_eq!(stage.expand("[$V$GIVEN$TARGETARCH]", &none).expect("valid").text, "[]");
        for definition in ["V", "GIVEN=x", "TARGETARCH", "W=d$V"] {
            stage.declare(&arg(definition), &none).expect("valid");
        }
        assert_eq!(stage.expand("$V $GIVEN $TARGETARCH $W", &none).expect("valid").text, "1 g arm d1");
        assert_eq!(stage.run_args(&v), ["GIVEN=g", "TARGETARCH=arm", "W=d1"]);
        assert_eq!(stage.expand("$V", &v).expect("valid").text, "env");
        assert_eq!(global.stage(Some(&stage)).expand("$W", &none).expect("valid").text, "d1");
    }

    #[test]
    fn proxies_are_known_and_unused_arguments_are_found() {
        let scope = global(&[("http_proxy", "p"), ("TYPO", "x"), ("USED", "y")], &[]);
        assert_eq!(scope.proxy_args(), ["HTTP_PROXY=p", "http_proxy=p"]);
        let both = global(&[("NO_PROXY", "a"), ("no_proxy", "b")], &[]);
        assert_eq!(both.proxy_args(), ["NO_PROXY=a", "no_proxy=b"]);
        assert_eq!(scope.unused(&BTreeSet::from(["USED".to_string()])), ["TYPO"]);
    }

    #[test]
    fn arguments_of_the_builder_name_stages_and_reach_no_command() {
        let name = "BUILDKIT_SBOM_SCAN_STAGE";
        let is_on = |global_value: &str, own: &[&str]| {
            let mut scope = global(&[], &[&format!("{name}={global_value}")]).stage(None);
            for value in own {
                scope.declare(&arg(&format!("{name}{value}")), &Env::default()).expect("valid");
            }
            assert_eq!(scope.run_args(&Env::default()), [""; 0]);
            scope.is_on_for(name, "tool")
        };
        assert!(
            is_on("true", &[]) && is_on("1", &[""]) && is_on("a,Tool", &[]) && is_on("false", &["=tool"])
        );
        assert!(!is_on("false", &[]) && !is_on("a,b", &[]) && !is_on("true", &["=0"]) && !is_on("", &[]));
        assert!(!global(&[(name, "true")], &[]).is_on_for(name, "tool"), "nothing declares it");
    }

    #[test]
    fn heredocs_keep_their_quotes() {
        let scope = global(&[], &[]);
        let text = scope.expand_heredoc("it's \"$A\" \\$A\n", &Env::new(vec!["A=1".into()])).expect("valid");
        assert_eq!(text, "it's \"1\" $A\n");
    }

    #[test]
    fn environments_keep_their_order() {
        let mut env = Env::new(["A=1", "B", "C=3", "A=4"].map(String::from).to_vec());
        assert_eq!((env.get("A"), env.get("B"), env.get("C")), (Some("4"), None, Some("3")));
        env.set("C", "");
        env.set("D", "x=y");
        env.set("A", "5");
        assert_eq!(env.entries(), ["A=1", "B", "C=", "A=5", "D=x=y"]);
        assert_eq!((env.get("D"), env.size), (Some("x=y"), env.entries().concat().len()));
    }

    #[test]
    fn a_declaration_again_keeps_its_place() {
        let mut scope = global(&[], &[]).stage(None);
        for definition in ["A=1", "B=2", "A=3", "C"] {
            scope.declare(&arg(definition), &Env::default()).expect("valid");
        }
        assert_eq!(scope.run_args(&Env::default()), ["A=3", "B=2"]);
        assert_eq!((scope.argument("C"), scope.args.size), (None, "B2A3C".len()));
    }

    #[test]
    fn a_hundred_thousand_variables() {
        let mut scope = global(&[], &[]).stage(None);
        let mut env = Env::default();
        for i in 0..100_000 {
            env.set(&format!("E{i}"), "x");
            scope.declare(&arg(&format!("A{i}=$E{i}")), &env).expect("valid");
        }
        assert_eq!(scope.expand("$A99999$E0", &env).expect("valid").text, "xx");
    }

    #[test]
    fn growing_values_end_at_their_line() {
        let lines = |n| Lines { start: n, end: n };
        let definitions: Vec<_> = std::iter::once((arg("A0=0123456789"), lines(1)))
            .chain(
                (1..20)
                    .map(|n| (arg(&format!("A{n}=${{A{m}}}${{A{m}}}$A{m}$A{m}", m = n - 1)), lines(n + 1))),
            )
            .collect();
        let host = Platform::host();
        let result = Scope::global(&BTreeMap::new(), &definitions, &host, &host, "default", '\\');
        let (error, at) = result.expect_err("4^20 times as long");
        assert!(at == lines(10) && error.to_string().contains("${A8}"), "{error} {at:?}");
    }
}
