//! What people type for docker, buildx, podman, buildah and skopeo, and what crossdock does about the part
//! that its own commands do not define: each option and each command gets one sentence.
//!
//! The tables say what happens; the parser takes their options as it takes all others. The guide's page
//! `options.md` is made from the tables and from the definitions of the commands, and a test compares it.

mod build;
mod commands;
mod global;
mod images;
mod option;
mod podman_run;
mod registries;
mod run;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

#[cfg(test)]
pub use commands::COMMANDS;
pub use commands::answer_to;
use option::{Answer, PeerOption, Takes};

/// What the given options of other programs lead to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub warnings: Vec<String>,
    /// The command must not run; the sentence says why, and what to do instead.
    pub refusal: Option<String>,
}

/// The tables for a command, by the words that name it.
fn tables(path: &[String]) -> Vec<&'static [PeerOption]> {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    match words[..] {
        [] => vec![global::GLOBAL],
        ["bake"] => vec![build::BUILDER],
        ["run"] => vec![run::RUN, podman_run::RUN],
        ["rmi"] => vec![images::REMOVE],
        ["system", "prune-images"] => vec![images::PRUNE],
        ["build"] => vec![build::BUILD, build::LIMITS, build::NAMESPACES],
        ["pull"] => vec![images::PULL, registries::PULLED],
        ["push"] => vec![images::PUSH, registries::SIGNED],
        ["copy"] => vec![registries::COPIED, registries::SIGNED, build::IMAGETOOLS, build::BUILDER],
        ["sync"] => vec![registries::SYNCED, registries::SIGNED],
        ["list-tags"] => vec![registries::RETRIED],
        ["delete"] => vec![registries::RETRIED, registries::DELETED],
        ["inspect"] => vec![images::INSPECT, registries::RETRIED],
        ["login"] => vec![images::LOGIN],
        ["logout"] => vec![images::LOGOUT],
        ["save"] => vec![images::SAVE],
        ["load"] => vec![images::LOAD],
        ["import"] => vec![images::IMPORT],
        ["images"] => vec![images::IMAGES],
        ["history"] => vec![images::HISTORY],
        ["manifest", "create"] => vec![images::MANIFEST],
        ["manifest", "add"] => vec![images::MANIFEST_ADD],
        ["manifest", "push"] => vec![images::MANIFEST_PUSH, registries::SIGNED],
        ["manifest", "inspect"] => vec![images::MANIFEST],
        ["buildx", "create"] => vec![build::BUILDER_CREATE, build::BUILDER],
        ["buildx", "rm"] => vec![build::BUILDER_REMOVE, build::BUILDER],
        ["buildx", "ls"] => vec![build::BUILDER_LIST, build::BUILDER],
        ["buildx", _] | ["buildx", _, _] => vec![build::BUILDER],
        ["system", "prune-cache"] => vec![build::PRUNE, build::BUILDER],
        ["system", "prune"] => vec![build::SYSTEM_PRUNE],
        ["system", "df"] => vec![build::USAGE, build::BUILDER],
        _ => Vec::new(),
    }
}

fn options(path: &[String]) -> impl Iterator<Item = &'static PeerOption> {
    tables(path).into_iter().flatten()
}

/// The same commands, which also take the options of other programs. Help does not show them.
pub fn with_options(command: clap::Command) -> clap::Command {
    extended(command, &mut Vec::new())
}

/// The same commands, where the top and one of its commands also take the options of other programs: the
/// others need not be made ready if that one was typed.
pub fn with_options_of(command: clap::Command, name: &str) -> clap::Command {
    let inner = |inner: clap::Command| extended(inner, &mut vec![name.to_string()]);
    with_top_options(command).mut_subcommand(name, inner)
}

/// The same command with the options of other programs that stand before their commands.
pub fn with_top_options(command: clap::Command) -> clap::Command {
    command.args(options(&[]).map(argument))
}

fn extended(command: clap::Command, path: &mut Vec<String>) -> clap::Command {
    let mut command = command;
    for option in options(path) {
        command = command.arg(argument(option));
    }
    command.mut_subcommands(|inner| {
        path.push(inner.get_name().to_string());
        let inner = extended(inner, path);
        path.pop();
        inner
    })
}

fn argument(option: &PeerOption) -> Arg {
    let mut argument = Arg::new(option.long).long(option.long).hide(true);
    if let Some(short) = option.short {
        argument = argument.short(short);
    }
    match option.takes {
        Takes::Nothing => argument.action(ArgAction::SetTrue),
        Takes::Value => argument.action(ArgAction::Append).allow_hyphen_values(true),
    }
}

/// What the options of other programs on this command line lead to.
pub fn answers(matches: &ArgMatches) -> Answers {
    let mut answers = Answers::default();
    let (mut matches, mut path) = (matches, Vec::new());
    loop {
        for option in options(&path) {
            answer(option, matches, &mut answers);
        }
        match matches.subcommand() {
            Some((name, inner)) => {
                path.push(name.to_string());
                matches = inner;
            }
            None => return answers,
        }
    }
}

fn answer(option: &PeerOption, matches: &ArgMatches, answers: &mut Answers) {
    let id = option.long;
    if matches.value_source(id) != Some(ValueSource::CommandLine) {
        return;
    }
    let values: Vec<String> = match option.takes {
        Takes::Nothing => vec![matches.get_flag(id).to_string()],
        _ => matches.get_many::<String>(id).into_iter().flatten().cloned().collect(),
    };
    let is_off = option.takes == Takes::Nothing && values == ["false"];
    let said = format!("--{}: {}", option.long, option.answer.sentence());
    match option.answer {
        Answer::Fine(_) => {}
        Answer::Only(known, _) if values.iter().all(|value| known.contains(&value.as_str())) => {}
        Answer::Warning(_) | Answer::Refusal(_) if is_off => {}
        Answer::Warning(_) => answers.warnings.push(said),
        Answer::Refusal(_) | Answer::Only(..) => {
            answers.refusal.get_or_insert(said);
        }
    }
}

/// How the guide calls what happens if an option is given to a command, and the sentence.
#[cfg(test)]
pub fn meaning(command: &[&str], long: &str) -> Option<(&'static str, String)> {
    let path: Vec<String> = command.iter().map(ToString::to_string).collect();
    let option = options(&path).find(|option| option.long == long)?;
    let kind = match option.answer {
        Answer::Fine(_) => "no effect",
        Answer::Warning(_) => "warning",
        Answer::Refusal(_) => "no",
        Answer::Only(..) => "only",
    };
    let values = match option.answer {
        Answer::Only(values, _) => {
            let shown: Vec<&str> = values.iter().copied().filter(|value| !value.is_empty()).collect();
            format!("{}; else: ", shown.join(", "))
        }
        _ => String::new(),
    };
    Some((kind, values + option.answer.sentence()))
}

/// All sentences, with the options that they are about.
#[cfg(test)]
pub fn sentences() -> Vec<(&'static str, &'static str)> {
    let all = [
        global::GLOBAL,
        build::BUILD,
        build::LIMITS,
        build::NAMESPACES,
        run::RUN,
        registries::SIGNED,
        registries::COPIED,
        registries::RETRIED,
        run::RUN,
        podman_run::RUN,
        images::PULL,
        images::PUSH,
        images::MANIFEST_ADD,
        images::MANIFEST_PUSH,
        images::IMAGES,
    ];
    let options = all.into_iter().flatten().map(|option| (option.long, option.answer.sentence()));
    options.chain(commands::COMMANDS.iter().copied()).collect()
}
