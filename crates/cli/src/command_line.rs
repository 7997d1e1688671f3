//! From words to [`Args`]: docker's other forms of commands, `--switch=true|false`, and the errors for a
//! wrong command line.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches};

use crate::args::Args;
use crate::values::switch;

/// Exit code of `run` for a wrong command line; other codes are the container's command's (docker-run(1)).
const RUN_REFUSED: u8 = 125;
/// Exit code of all other commands for a wrong command line.
const REFUSED: u8 = 2;

/// Reads a command line.
///
/// # Errors
///
/// The message and the exit code. The message is a page of help if help was asked for.
pub fn parse(words: Vec<OsString>) -> Result<Args, (clap::Error, u8)> {
    let words = with_aliases(words);
    let command = with_values(Args::command());
    let mut error = match command.try_get_matches_from(&words).and_then(|m| Args::from_arg_matches(&m)) {
        Ok(args) => return Ok(args),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp => Err((plain_help(&words).unwrap_or(error), 0)),
        ErrorKind::DisplayVersion => Err((error, 0)),
        ErrorKind::InvalidSubcommand => {
            suggest(&mut error, &words);
            Err((error, REFUSED))
        }
        _ if words.get(command_at(&words)).is_some_and(|word| word == "run") => Err((error, RUN_REFUSED)),
        _ => Err((error, REFUSED)),
    }
}

/// Help from the plain definition, which shows "--push" and not "--push[=true|false]".
fn plain_help(words: &[OsString]) -> Option<clap::Error> {
    let without_value = |word: &OsString| match word.to_str().and_then(|text| text.split_once('=')) {
        Some((name, value)) if name.starts_with('-') && switch(value).is_ok() => name.into(),
        _ => word.clone(),
    };
    let parsed = Args::command().try_get_matches_from(words.iter().map(without_value));
    parsed.err().filter(|error| error.kind() == ErrorKind::DisplayHelp)
}

/// The same commands, where each option without a value also takes `=true` and `=false`, as docker's do.
fn with_values(command: clap::Command) -> clap::Command {
    let with_value = |arg: clap::Arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .value_name("true|false")
            .value_parser(ValueParser::from(switch as fn(&str) -> Result<bool, String>)),
        _ => arg,
    };
    command.mut_args(with_value).mut_subcommands(with_values)
}

/// Suggests the command that was probably meant. The parser's own measure does not recognise swapped letters.
fn suggest(error: &mut clap::Error, words: &[OsString]) {
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let mut command = Args::command();
    for word in words.iter().skip(command_at(words)).map_while(|word| word.to_str()) {
        match command.find_subcommand(word) {
            Some(inner) => command = inner.clone(),
            None => break,
        }
    }
    let names: Vec<&str> =
        command.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name()).collect();
    if let Some(meant) = crossdock_dockerfile::error::suggestion(wrong, &names) {
        let meant = vec![meant.to_string()];
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(meant));
    }
}

/// The index of the word that names the command; global options may stand before it.
fn command_at(words: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()).filter(|word| word.starts_with('-')) {
        at += if matches!(word, "--root" | "--unpack-max") { 2 } else { 1 };
    }
    at
}

/// Translates docker's grouped forms (`buildx build`, `image ls`, ...) to the commands used here.
fn with_aliases(mut args: Vec<OsString>) -> Vec<OsString> {
    let at = command_at(&args);
    let word = |i: usize| args.get(i).and_then(|a| a.to_str()).unwrap_or_default().to_string();
    let replacement: &[&str] = match (word(at).as_str(), word(at + 1).as_str()) {
        ("buildx" | "image" | "builder", "build") => &["build"],
        ("image", "ls" | "list") => &["images"],
        ("image", "rm" | "remove") => &["rmi"],
        ("image", "inspect") => &["inspect"],
        ("image", "history") => &["history"],
        ("image", "tag") => &["tag"],
        ("image", "save") => &["save"],
        ("image", "load") => &["load"],
        ("image", "pull") => &["pull"],
        ("image", "push") => &["push"],
        ("image", "prune") => &["system", "prune-images"],
        ("builder" | "buildx", "prune") => &["system", "prune-cache"],
        ("buildx" | "builder", "du") => &["system", "df"],
        ("buildx", "version") => &["version"],
        ("container", "run") => &["run"],
        ("buildx", "imagetools") => match word(at + 2).as_str() {
            "create" => &["copy"],
            _ => return args,
        },
        _ => return args,
    };
    let words = if word(at + 1) == "imagetools" { 3 } else { 2 };
    args.splice(at..at + words, replacement.iter().map(OsString::from));
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Command;

    fn parse(line: &str) -> Result<Args, (clap::Error, u8)> {
        super::parse(line.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
        with_values(Args::command()).debug_assert();
    }

    #[test]
    fn dockers_groups_are_understood() {
        for line in [
            "crossdock buildx build --platform linux/amd64,linux/arm64 -t a --push .",
            "crossdock image ls",
            "crossdock --root /r --insecure=h image ls",
            "crossdock builder prune -f",
            "crossdock run --rm -it --platform linux/arm/v7 a:b sh -c true",
            "crossdock build -t x --build-arg A=b --secret id=a,src=b -f Dockerfile -",
        ] {
            let parsed = parse(line);
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.0.to_string()).unwrap_or_default());
        }
    }

    #[test]
    fn switches_take_values() {
        let run = |line: &str| match parse(line).map(|args| args.command) {
            Ok(Command::Run(args)) => (args.interactive, args.tty, args.read_only, args.words.len()),
            Ok(_) => panic!("{line}: another command"),
            Err((error, _)) => panic!("{line}: {error}"),
        };
        assert_eq!(run("crossdock run -it=false --read-only=true a"), (true, false, true, 1));
        assert_eq!(run("crossdock run -ti --read-only=0 --read-only=T a -i"), (true, true, true, 2));
        assert_eq!(run("crossdock run -i=false -t --tty=F a"), (false, false, false, 1));
        let Err((error, code)) = parse("crossdock build --push=perhaps .") else { panic!("accepted") };
        assert!(error.to_string().contains("perhaps") && code == REFUSED, "{error}");
        let Err((help, 0)) = parse("crossdock build --push=false --help") else { panic!("no help") };
        assert!(help.to_string().contains("--load") && !help.to_string().contains("--load["), "{help}");
    }

    #[test]
    fn what_follows_the_image_is_the_commands() {
        for words in ["--version", "--help", "-h", "-v /etc:/x", "-- x", "--platform=linux/arm64 -i"] {
            let Ok(args) = parse(&format!("crossdock run --rm a {words}")) else { panic!("{words}") };
            let Command::Run(args) = args.command else { panic!("{words}: another command") };
            assert_eq!((args.image().as_ref(), args.command().join(" ".as_ref())), ("a", words.into()));
            let Ok(args) = parse(&format!("crossdock emulate -L /r prog {words}")) else { panic!("{words}") };
            let Command::Emulate(args) = args.command else { panic!("{words}: another command") };
            assert_eq!(args.words.join(" ".as_ref()), format!("prog {words}").as_str());
        }
    }

    #[test]
    fn values_of_attestations_may_be_words_of_their_own() {
        let given = |line: &str| match parse(line).map(|args| args.command) {
            Ok(Command::Build(args)) => (args.provenance, args.context.display().to_string()),
            _ => panic!("{line}"),
        };
        for (words, value) in [
            ("--provenance false", Some("false")),
            ("--provenance=0", Some("false")),
            ("--provenance mode=max", Some("mode=max")),
            ("--provenance mode=min,disabled=true", Some("false")),
            ("--provenance --sbom true", Some("true")),
            ("--sbom=false", None),
        ] {
            let line = format!("crossdock build {words} c");
            assert_eq!(given(&line), (value.map(str::to_string), "c".to_string()), "{line}");
        }
        assert!(parse("crossdock build --provenance .").is_err());
    }

    #[test]
    fn letters_in_each_others_place_are_recognised() {
        for (line, meant) in [
            ("crossdock rnu a", "'run'"),
            ("crossdock biuld .", "'build'"),
            ("crossdock manifest craete", "'create'"),
        ] {
            let Err((error, REFUSED)) = parse(line) else { panic!("{line}") };
            assert!(error.to_string().contains(meant), "{line}: {error}");
        }
    }

    #[test]
    fn run_is_refused_as_docker_does() {
        for (line, code) in [
            ("crossdock run --no-such-flag a", 125),
            ("crossdock --root /r container run --no-such-flag a", 125),
            ("crossdock run", 125),
            ("crossdock run -h", 125),
            ("crossdock images --no-such-flag", 2),
            ("crossdock run --help", 0),
        ] {
            assert_eq!(parse(line).err().map(|(_, code)| code), Some(code), "{line}");
        }
    }
}
