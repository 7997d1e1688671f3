//! Variables in force at an instruction: ARGs, ENVs, the platform ARGs.
//!
//! Dockerfile reference, "ARG": ENV beats ARG; an ARG takes the value of `--build-arg`, else its own default, else the
//! value of the ARG before the first FROM; ARGs are per stage and inherited by stages built FROM the stage.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_dockerfile::instruction::ArgDefinition;
use crossdock_dockerfile::shell::{Expanded, Lexer, ShellError};
use crossdock_platform::Platform;

/// Build arguments that may be given without ARG, and that enter neither history nor cache keys.
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

/// ARGs and ENVs of one stage run.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// `--build-arg`.
    given: BTreeMap<String, String>,
    /// Values of the ARGs before the first FROM, and the platform ARGs.
    global: BTreeMap<String, String>,
    /// ARGs declared in the stage, in order, with their value if they have one.
    args: Vec<(String, Option<String>)>,
    escape: char,
}

impl Scope {
    /// The scope of the lines before the first FROM: values of `--build-arg` and of the global ARGs.
    pub fn global(
        given: &BTreeMap<String, String>,
        definitions: &[ArgDefinition],
        build: &Platform,
        target: &Platform,
        target_stage: &str,
        escape: char,
    ) -> Result<Scope, ShellError> {
        let mut scope = Scope { given: given.clone(), global: BTreeMap::new(), args: Vec::new(), escape };
        for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
            scope.set_global(&format!("{prefix}PLATFORM"), &platform.to_string());
            scope.set_global(&format!("{prefix}OS"), &platform.os);
            scope.set_global(&format!("{prefix}OSVERSION"), platform.os_version.as_deref().unwrap_or(""));
            scope.set_global(&format!("{prefix}ARCH"), &platform.architecture);
            scope.set_global(&format!("{prefix}VARIANT"), platform.variant.as_deref().unwrap_or(""));
        }
        scope.set_global("TARGETSTAGE", target_stage);
        for definition in definitions {
            let value = match (scope.given.get(&definition.name), &definition.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => Some(scope.expand_global(default)?.text),
                // `ARG TARGETARCH` before FROM keeps the platform's value.
                (None, None) => scope.global.get(&definition.name).cloned(),
            };
            if let Some(value) = value {
                scope.global.insert(definition.name.clone(), value);
            }
        }
        Ok(scope)
    }

    fn set_global(&mut self, name: &str, value: &str) {
        let value = self.given.get(name).map_or(value, String::as_str).to_string();
        self.global.insert(name.to_string(), value);
    }

    /// Expands a word of FROM.
    pub fn expand_global(&self, word: &str) -> Result<Expanded, ShellError> {
        Lexer::new(self.escape).expand(word, &|name: &str| self.global.get(name).cloned())
    }

    /// The scope at the start of a stage: the global one, and the ARGs inherited from the stage it is built FROM.
    pub fn stage(&self, inherited: Option<&Scope>) -> Scope {
        Scope { args: inherited.map(|scope| scope.args.clone()).unwrap_or_default(), ..self.clone() }
    }

    /// Executes ARG.
    pub fn declare(&mut self, definition: &ArgDefinition, env: &[String]) -> Result<(), ShellError> {
        let value = match (self.given.get(&definition.name), &definition.default) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(default)) => Some(self.expand(default, env)?.text),
            (None, None) => self.global.get(&definition.name).cloned(),
        };
        self.args.retain(|(name, _)| *name != definition.name);
        self.args.push((definition.name.clone(), value));
        Ok(())
    }

    /// Expands a word of an instruction; `env` is the image's environment.
    pub fn expand(&self, word: &str, env: &[String]) -> Result<Expanded, ShellError> {
        Lexer::new(self.escape).expand(word, &|name: &str| self.lookup(name, env))
    }

    /// Expands the content of a heredoc: quotes are content.
    pub fn expand_heredoc(&self, text: &str, env: &[String]) -> Result<String, ShellError> {
        // Quotes have no meaning in a heredoc, so they must not open anything: they pass as escaped characters.
        let mut quoted = String::with_capacity(text.len());
        for c in text.chars() {
            if matches!(c, '"' | '\'') {
                quoted.push(self.escape);
            }
            quoted.push(c);
        }
        Ok(self.expand(&quoted, env)?.text)
    }

    /// The value that a name has before the first FROM.
    pub fn value(&self, name: &str) -> Option<String> {
        self.global.get(name).cloned()
    }

    /// The value of an ARG of the stage.
    pub fn argument(&self, name: &str) -> Option<String> {
        self.args.iter().find(|(arg, _)| arg == name).and_then(|(_, value)| value.clone())
    }

    /// All names that have a meaning in the stage.
    pub fn names(&self, env: &[String]) -> Vec<String> {
        let of_env = env.iter().map(|entry| entry.split('=').next().unwrap_or_default().to_string());
        self.args.iter().map(|(name, _)| name.clone()).chain(of_env).collect()
    }

    fn lookup(&self, name: &str, env: &[String]) -> Option<String> {
        env_value(env, name)
            .map(str::to_string)
            .or_else(|| self.args.iter().find(|(arg, _)| arg == name).and_then(|(_, value)| value.clone()))
    }

    /// The ARGs that a RUN sees in its environment beside the image's ENV, as `NAME=value`.
    pub fn run_args(&self, env: &[String]) -> Vec<String> {
        self.args
            .iter()
            .filter(|(name, _)| env_value(env, name).is_none())
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={value}")))
            .collect()
    }

    /// The predefined proxy arguments that were given and not declared, as `NAME=value`; they must stay out of keys.
    pub fn proxy_args(&self) -> Vec<String> {
        PREDEFINED
            .iter()
            .filter(|name| !self.args.iter().any(|(arg, _)| arg == *name))
            .filter_map(|name| self.given.get(*name).map(|value| format!("{name}={value}")))
            .collect()
    }

    /// Names of `--build-arg` that no ARG declares, anywhere in `declared`.
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

/// The value of `name` in a list of `NAME=value`; the last one counts.
pub fn env_value<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter()
        .rev()
        .find_map(|entry| entry.split_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
}

/// Sets `name` in a list of `NAME=value`, in its place if it is there.
pub fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|e| e.split_once('=').is_some_and(|(n, _)| n == name)) {
        Some(existing) => *existing = entry,
        None => env.push(entry),
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
        let definitions: Vec<ArgDefinition> = definitions.iter().map(|d| arg(d)).collect();
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
        let mut stage = global.stage(None);
        assert_eq!(stage.expand("[$V$GIVEN$TARGETARCH]", &[]).expect("valid").text, "[]");
        for definition in ["V", "GIVEN=x", "TARGETARCH", "W=d$V"] {
            stage.declare(&arg(definition), &[]).expect("valid");
        }
        assert_eq!(stage.expand("$V $GIVEN $TARGETARCH $W", &[]).expect("valid").text, "1 g arm d1");
        assert_eq!(stage.run_args(&["V=env".into()]), ["GIVEN=g", "TARGETARCH=arm", "W=d1"]);
        assert_eq!(stage.expand("$V", &["V=env".into()]).expect("valid").text, "env");
        assert_eq!(global.stage(Some(&stage)).expand("$W", &[]).expect("valid").text, "d1");
    }

    #[test]
    fn proxies_are_known_and_unused_arguments_are_found() {
        let scope = global(&[("http_proxy", "p"), ("TYPO", "x"), ("USED", "y")], &[]);
        assert_eq!(scope.proxy_args(), ["http_proxy=p"]);
        assert_eq!(scope.unused(&BTreeSet::from(["USED".to_string()])), ["TYPO"]);
    }

    #[test]
    fn heredocs_keep_their_quotes() {
        let scope = global(&[], &[]);
        let text = scope.expand_heredoc("it's \"$A\" \\$A\n", &["A=1".into()]).expect("valid");
        assert_eq!(text, "it's \"1\" $A\n");
    }
}
