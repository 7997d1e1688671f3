//! From words to [`Args`]: docker's other forms of commands, `--switch=true|false`, and the errors for a
//! wrong command line.

use std::cell::LazyCell;
use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args as _, CommandFactory, FromArgMatches};

use crossdock_dockerfile::error::suggestion;

use crate::args::Args;
use crate::commands::build::BuildArgs;
use crate::commands::run::RunArgs;
use crate::peers;
use crate::session::Global;
use crate::values::switch;

/// Exit code of `run` for a wrong command line; other codes are the container's command's (docker-run(1)).
const RUN_REFUSED: u8 = 125;
/// Exit code of all other commands for a wrong command line.
const REFUSED: u8 = 2;

/// A command line that was understood.
pub struct Parsed {
    pub args: Args,
    /// What options of other programs do not do here.
    pub warnings: Vec<String>,
}

/// Reads a command line.
///
/// # Errors
///
/// The message and the exit code. The message is a page of help if help was asked for.
pub fn parse(words: Vec<OsString>) -> Result<Parsed, (clap::Error, u8)> {
    let words = with_aliases(words);
    let is_run = words.get(command_at(&words)).is_some_and(|word| word == "run");
    let refused = if is_run { RUN_REFUSED } else { REFUSED };
    let quick = alone(&words).and_then(|command| command.try_get_matches_from(&words).ok());
    let (matches, warnings) = match quick {
        Some(matches) => (matches, Vec::new()),
        None => {
            let parsed = definition(&words).try_get_matches_from(&words);
            let matches = parsed.map_err(|error| explained(error, &words, refused))?;
            let answers = peers::answers(&matches);
            if let Some(sentence) = answers.refusal {
                return Err((refusal(&sentence), refused));
            }
            (matches, answers.warnings)
        }
    };
    let args = Args::from_arg_matches(&matches).map_err(|error| explained(error, &words, refused))?;
    Ok(Parsed { args, warnings })
}

/// An error of one sentence.
fn refusal(sentence: &str) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{sentence}\n"))
}

/// The error as people see it, and its exit code.
fn explained(mut error: clap::Error, words: &[OsString], refused: u8) -> (clap::Error, u8) {
    // The parser's own tips are about anything that looks alike, and about "--".
    error.remove(ContextKind::Suggested);
    error.remove(ContextKind::SuggestedArg);
    match error.kind() {
        ErrorKind::DisplayHelp => (plain_help(words).unwrap_or(error), 0),
        ErrorKind::DisplayVersion => (error, 0),
        ErrorKind::InvalidSubcommand => {
            let typed: Vec<&str> =
                words.iter().skip(command_at(words)).map_while(|word| word.to_str()).collect();
            if let Some((command, sentence)) = peers::answer_to(&typed) {
                return (refusal(&format!("there is no command \"{command}\": {sentence}")), refused);
            }
            suggest(&mut error, words);
            (error, refused)
        }
        ErrorKind::UnknownArgument => {
            suggest_option(&mut error, words);
            (error, refused)
        }
        _ => (error, refused),
    }
}

/// Help from the plain definition, which shows "--push" and not "--push[=true|false]".
fn plain_help(words: &[OsString]) -> Option<clap::Error> {
    let without_value = |word: &OsString| match word.to_str().and_then(|text| text.split_once('=')) {
        Some((name, value)) if name.starts_with('-') && switch(value).is_ok() => name.into(),
        _ => word.clone(),
    };
    let parsed = peers::with_options(Args::command()).try_get_matches_from(words.iter().map(without_value));
    parsed.err().filter(|error| error.kind() == ErrorKind::DisplayHelp)
}

/// The definition that these words are read by. Only the command that they name is made ready: all of them
/// would cost every start two milliseconds.
fn definition(words: &[OsString]) -> clap::Command {
    let command = Args::command();
    let word = words.get(command_at(words)).and_then(|word| word.to_str());
    let typed = word.and_then(|word| command.find_subcommand(word)).map(|inner| inner.get_name().to_string());
    match typed {
        Some(name) => with_values_of(peers::with_options_of(command, &name), &name),
        None => with_values(peers::with_options(command)),
    }
}

/// The definition of the command that these words name, if it is one that scripts start often, without all
/// others and without the options of other programs: to make those costs each start a millisecond. What it
/// does not accept is read again by the whole definition, which knows them.
fn alone(words: &[OsString]) -> Option<clap::Command> {
    let name = words.get(command_at(words))?.to_str()?;
    let inner = match name {
        "build" => BuildArgs::augment_args(clap::Command::new("build")),
        "run" => RunArgs::augment_args(clap::Command::new("run")),
        _ => return None,
    };
    let top = Global::augment_args(clap::Command::new("crossdock")).args_override_self(true);
    Some(with_values_of(top.subcommand(inner), name))
}

/// The same commands, with values of switches for the top and for `name`.
fn with_values_of(command: clap::Command, name: &str) -> clap::Command {
    command.mut_args(with_value).mut_subcommand(name, with_values)
}

/// The same commands, where each option without a value also takes `=true` and `=false`, as docker's do.
fn with_values(command: clap::Command) -> clap::Command {
    command.mut_args(with_value).mut_subcommands(with_values)
}

fn with_value(arg: clap::Arg) -> clap::Arg {
    match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .value_name("true|false")
            .value_parser(ValueParser::from(switch as fn(&str) -> Result<bool, String>)),
        _ => arg,
    }
}

/// The command that the words name, as far as they name one.
fn named(words: &[OsString]) -> clap::Command {
    let mut command = Args::command();
    for word in words.iter().skip(command_at(words)).map_while(|word| word.to_str()) {
        match command.find_subcommand(word) {
            Some(inner) => command = inner.clone(),
            None => break,
        }
    }
    command
}

/// Suggests the command that was probably meant. The parser's own measure does not recognise swapped letters.
fn suggest(error: &mut clap::Error, words: &[OsString]) {
    error.remove(ContextKind::SuggestedSubcommand);
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let command = named(words);
    let names: Vec<&str> =
        command.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name()).collect();
    if let Some(meant) = suggestion(wrong, &names) {
        let meant = vec![meant.to_string()];
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(meant));
    }
}

/// Suggests the option that was probably meant: one of the command that differs by a typing error.
fn suggest_option(error: &mut clap::Error, words: &[OsString]) {
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg) else { return };
    let Some(wrong) = wrong.strip_prefix("--").map(|wrong| wrong.split('=').next().unwrap_or(wrong)) else {
        return;
    };
    let command = named(words);
    let names: Vec<&str> =
        command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(clap::Arg::get_long).collect();
    if let Some(meant) = suggestion(wrong, &names) {
        let meant = ContextValue::String(format!("--{meant}"));
        error.insert(ContextKind::SuggestedArg, meant);
    }
}

/// The index of the word that names the command; global options may stand before it.
fn command_at(words: &[OsString]) -> usize {
    // Needed only where an option comes first.
    let root = LazyCell::new(|| {
        peers::with_top_options(<Global as clap::Args>::augment_args(clap::Command::new("crossdock")))
    });
    let takes_word = |word: &str| {
        root.get_arguments().any(|arg| {
            let is_meant = match word.strip_prefix("--") {
                Some(long) => arg.get_long() == Some(long),
                // The last letter of a group such as -Dl is the one with the value.
                None => arg.get_short().is_some_and(|short| word.ends_with(short)),
            };
            is_meant && arg.get_action().takes_values() && !arg.is_require_equals_set()
        })
    };
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()).filter(|word| word.starts_with('-')) {
        at += if takes_word(word) { 2 } else { 1 };
    }
    at
}

/// Commands of docker, buildx, podman and buildah that have another name here, by all words that name them.
const ALIASES: &[(&[&str], &[&str])] = &[
    (&["bud"], &["build"]),
    (&["build-using-dockerfile"], &["build"]),
    (&["buildx", "build"], &["build"]),
    (&["buildx", "b"], &["build"]),
    (&["buildx", "bake"], &["bake"]),
    (&["buildx", "f"], &["bake"]),
    (&["image", "build"], &["build"]),
    (&["builder", "build"], &["build"]),
    (&["image", "ls"], &["images"]),
    (&["image", "list"], &["images"]),
    (&["image", "rm"], &["rmi"]),
    (&["image", "remove"], &["rmi"]),
    (&["image", "inspect"], &["inspect"]),
    (&["image", "history"], &["history"]),
    (&["image", "diff"], &["diff"]),
    (&["image", "tree"], &["inspect", "--tree"]),
    (&["image", "tag"], &["tag"]),
    (&["image", "untag"], &["untag"]),
    (&["image", "exists"], &["exists"]),
    (&["manifest", "exists"], &["exists", "--index"]),
    (&["image", "import"], &["import"]),
    (&["image", "save"], &["save"]),
    (&["image", "load"], &["load"]),
    (&["image", "pull"], &["pull"]),
    (&["image", "push"], &["push"]),
    (&["image", "prune"], &["system", "prune-images"]),
    (&["builder", "prune"], &["system", "prune-cache"]),
    (&["buildx", "prune"], &["system", "prune-cache"]),
    (&["buildx", "du"], &["system", "df"]),
    (&["builder", "du"], &["system", "df"]),
    (&["buildx", "version"], &["version"]),
    (&["buildx", "history", "ls"], &["report", "ls"]),
    (&["buildx", "imagetools", "create"], &["copy", "--only-sources"]),
    (&["container", "run"], &["run"]),
    (&["system", "info"], &["info"]),
];

/// Translates docker's grouped forms (`buildx build`, `image ls`, ...) to the commands used here, and
/// docker's `-v` to `--version`.
fn with_aliases(mut args: Vec<OsString>) -> Vec<OsString> {
    let at = command_at(&args);
    let global = args.len().min(at);
    args[..global]
        .iter_mut()
        .skip(1)
        .filter(|word| *word == "-v")
        .for_each(|word| *word = "--version".into());
    without_builder(&mut args, at);
    let starts = |words: &[&str]| {
        let typed = args.get(at..at + words.len());
        typed.is_some_and(|typed| typed.iter().zip(words).all(|(typed, word)| typed == word))
    };
    if let Some((words, replacement)) = ALIASES.iter().find(|(words, _)| starts(words)) {
        args.splice(at..at + words.len(), replacement.iter().map(OsString::from));
        if words.contains(&"imagetools") {
            // skopeo copy has another -f.
            args.iter_mut().skip(at).filter(|word| *word == "-f").for_each(|word| *word = "--file".into());
        }
    }
    args
}

/// Removes `--builder NAME` and `--debug` between `buildx` and its command: there is one builder.
fn without_builder(args: &mut Vec<OsString>, at: usize) {
    if args.get(at).is_none_or(|word| word != "buildx") {
        return;
    }
    loop {
        let words = match args.get(at + 1).and_then(|word| word.to_str()) {
            Some("--builder") => 2,
            Some("-D" | "--debug") => 1,
            Some(word) if word.starts_with("--builder=") => 1,
            _ => return,
        };
        args.drain(at + 1..args.len().min(at + 1 + words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Command;

    fn parse(line: &str) -> Result<Args, (clap::Error, u8)> {
        super::parse(line.split(' ').map(OsString::from).collect()).map(|parsed| parsed.args)
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
        with_values(peers::with_options(Args::command())).debug_assert();
    }

    #[test]
    fn a_command_alone_is_defined_as_among_all() {
        fn shown(command: &clap::Command) -> Vec<String> {
            let is_own = |arg: &&clap::Arg| !["help", "version"].contains(&arg.get_id().as_str());
            // Only pages of help have an order.
            let shown = |arg: &clap::Arg| format!("{:?}", arg.clone().display_order(0));
            let mut all: Vec<String> = command.get_arguments().filter(is_own).map(shown).collect();
            all.sort();
            all
        }
        for name in ["build", "run"] {
            let words = ["crossdock", name].map(OsString::from);
            let (alone, mut whole) = (alone(&words).expect("often started"), definition(&words));
            let mut alone = with_values_of(peers::with_options_of(alone, name), name);
            alone.build();
            whole.build();
            let inner = |command: &clap::Command| shown(command.find_subcommand(name).expect("defined"));
            assert!(inner(&alone).len() > 50, "{name}");
            assert_eq!(inner(&alone), inner(&whole), "{name}");
            assert_eq!(shown(&alone), shown(&whole));
        }
        assert!(alone(&["crossdock", "images"].map(OsString::from)).is_none());
    }

    #[test]
    fn dockers_groups_are_understood() {
        for line in [
            "crossdock buildx build --platform linux/amd64,linux/arm64 -t a --push .",
            "crossdock image ls",
            "crossdock --root /r --insecure=h image ls",
            "crossdock builder prune -f",
            "crossdock image diff a b",
            "crossdock image tree a",
            "crossdock buildx history ls",
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
