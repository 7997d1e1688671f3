//! The promise "what you type works here", kept by a test: every option that docker, buildx, podman, buildah
//! and skopeo list in their help is given to crossdock's own parser. It is accepted, or answered by a
//! sentence. The guide's page `options.md` is made from the same lists and definitions.
//!
//! The lists are in `tests/peers`, a file per command; the first line of each names the program and its
//! version. `CROSSDOCK_WRITE_GUIDE=1 cargo test -p crossdock promised` writes the page anew.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::args::Args;
use crate::command_line::{Parsed, parse};
use crate::peers;

/// A command of another program, the words of ours, and the words after its options.
struct Peer {
    list: &'static str,
    command: &'static [&'static str],
    operands: &'static [&'static str],
}

const fn peer(
    list: &'static str,
    command: &'static [&'static str],
    operands: &'static [&'static str],
) -> Peer {
    Peer { list, command, operands }
}

/// The commands whose options the guide lists.
const SHOWN: [Peer; 7] = [
    peer("docker-build", &["build"], &["."]),
    peer("buildx-build", &["build"], &["."]),
    peer("docker-run", &["run"], &["image"]),
    peer("podman-run", &["run"], &["image"]),
    peer("podman-build", &["build"], &["."]),
    peer("buildah-build", &["build"], &["."]),
    peer("skopeo-copy", &["copy"], &["docker://a", "docker://b"]),
];

/// The other commands that are checked.
const OTHERS: [Peer; 55] = [
    peer("buildx-bake", &["bake"], &["a"]),
    peer("docker", &[], &["version"]),
    peer("podman", &[], &["version"]),
    peer("skopeo", &[], &["version"]),
    peer("skopeo-inspect", &["inspect"], &["docker://a"]),
    peer("skopeo-list-tags", &["list-tags"], &["docker://a"]),
    peer("skopeo-delete", &["delete"], &["docker://a"]),
    peer("skopeo-sync", &["sync", "--src", "docker", "--dest", "dir"], &["a", "b"]),
    peer("skopeo-login", &["login"], &["h"]),
    peer("skopeo-logout", &["logout"], &[]),
    peer("docker-pull", &["pull"], &["a"]),
    peer("docker-push", &["push"], &["a"]),
    peer("docker-save", &["save"], &["a"]),
    peer("docker-load", &["load"], &[]),
    peer("docker-import", &["import"], &["a"]),
    peer("docker-images", &["images"], &[]),
    peer("docker-rmi", &["rmi"], &["a"]),
    peer("docker-inspect", &["inspect"], &["a"]),
    peer("docker-history", &["history"], &["a"]),
    peer("docker-login", &["login"], &["h"]),
    peer("docker-manifest-create", &["manifest", "create"], &["a", "b"]),
    peer("docker-manifest-push", &["manifest", "push"], &["a"]),
    peer("docker-manifest-annotate", &["manifest", "annotate"], &["a", "b"]),
    peer("docker-manifest-inspect", &["manifest", "inspect"], &["a"]),
    peer("docker-system-prune", &["system", "prune"], &[]),
    peer("docker-system-df", &["system", "df"], &[]),
    peer("docker-image-prune", &["image", "prune"], &[]),
    peer("docker-builder-prune", &["builder", "prune"], &[]),
    peer("docker-version", &["version"], &[]),
    peer("docker-info", &["info"], &[]),
    peer("podman-rmi", &["rmi"], &["a"]),
    peer("podman-images", &["images"], &[]),
    peer("podman-inspect", &["inspect"], &["a"]),
    peer("podman-login", &["login"], &["h"]),
    peer("podman-system-prune", &["system", "prune"], &[]),
    peer("podman-system-df", &["system", "df"], &[]),
    peer("podman-image-prune", &["image", "prune"], &[]),
    peer("podman-pull", &["pull"], &["a"]),
    peer("podman-push", &["push"], &["a"]),
    peer("podman-save", &["save"], &["a"]),
    peer("podman-load", &["load"], &[]),
    peer("podman-import", &["import"], &["a"]),
    peer("podman-manifest-push", &["manifest", "push"], &["a"]),
    peer("podman-manifest-create", &["manifest", "create"], &["a", "b"]),
    peer("podman-manifest-add", &["manifest", "add"], &["a", "b"]),
    peer("podman-manifest-inspect", &["manifest", "inspect"], &["a"]),
    peer("buildx-create", &["buildx", "create"], &[]),
    peer("buildx-use", &["buildx", "use"], &["a"]),
    peer("buildx-inspect", &["buildx", "inspect"], &[]),
    peer("buildx-rm", &["buildx", "rm"], &["a"]),
    peer("buildx-stop", &["buildx", "stop"], &[]),
    peer("buildx-ls", &["buildx", "ls"], &[]),
    peer("buildx-du", &["buildx", "du"], &[]),
    peer("buildx-prune", &["buildx", "prune"], &[]),
    peer("buildx-imagetools-create", &["buildx", "imagetools", "create"], &["-t", "a", "b"]),
];

/// One option in a list.
struct Listed {
    short: Option<String>,
    long: String,
    /// `VALUE`, `[VALUE]`, or nothing.
    value: String,
}

impl Listed {
    fn shown(&self) -> String {
        let short = self.short.as_ref().map(|short| format!("`{short}`, ")).unwrap_or_default();
        format!("{short}`{}`", self.long)
    }
}

fn lists() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}

/// The title of a list, such as `docker run: docker-cli 28.5.2 (Debian)`, and its options.
fn read(list: &str) -> (String, Vec<Listed>) {
    let text = std::fs::read_to_string(lists().join(format!("{list}.txt"))).expect("a list");
    let (title, options) = text.split_once('\n').expect("a title");
    let option = |line: &str| {
        let mut words = line.split(' ').peekable();
        let short = words.next_if(|word| !word.starts_with("--")).map(str::to_string);
        let long = words.next().expect("a long form").to_string();
        Listed { short, long, value: words.next().unwrap_or_default().to_string() }
    };
    (title.trim_start_matches("# ").to_string(), options.lines().map(option).collect())
}

/// A value that the option accepts.
fn sample(long: &str) -> &'static str {
    match long {
        "--progress" => "plain",
        "--provenance" | "--sbom" => "true",
        "--attest" => "type=sbom",
        "--jobs" | "--retry" | "--retry-times" | "--image-parallel-copies" | "--dest-compress-level" => "3",
        "--compression-level" => "3",
        "--format" => "oci",
        "--dest-compress-format" | "--compression-format" => "zstd",
        "--multi-arch" => "all",
        "--type" => "image",
        "--creds" | "--src-creds" | "--dest-creds" => "me:secret",
        "--timestamp" | "--source-date-epoch" => "0",
        _ => "1",
    }
}

/// What became of an option.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Accepted,
    Answered(String),
    Unknown(String),
}

/// Gives one option to the parser.
fn fate(peer: &Peer, option: &Listed, name: &str) -> Fate {
    let mut words: Vec<String> = vec!["crossdock".to_string()];
    words.extend(peer.command.iter().map(ToString::to_string));
    match (option.value.as_str(), name == option.long) {
        ("VALUE", _) => words.extend([name.to_string(), sample(&option.long).to_string()]),
        _ => words.push(name.to_string()),
    }
    // User and password belong together.
    for (one, other) in [("username", "password"), ("password", "username")] {
        let is_reader =
            peer.command.first().is_some_and(|word| ["inspect", "list-tags", "delete"].contains(word));
        let prefix = option.long.strip_suffix(one).filter(|prefix| match *prefix {
            "--src-" | "--dest-" => true,
            "--" => is_reader,
            _ => false,
        });
        if let Some(prefix) = prefix {
            words.extend([format!("{prefix}{other}"), "x".to_string()]);
        }
    }
    words.extend(peer.operands.iter().map(ToString::to_string));
    match parse(words.iter().map(OsString::from).collect()) {
        Ok(Parsed { warnings, .. }) => match warnings.into_iter().next() {
            Some(warning) => Fate::Answered(warning),
            None => Fate::Accepted,
        },
        Err((error, 0)) => {
            assert_eq!(error.kind(), ErrorKind::DisplayVersion, "{words:?}: {error}");
            Fate::Accepted
        }
        Err((error, _)) => match error.kind() {
            ErrorKind::UnknownArgument => Fate::Unknown(error.to_string()),
            // Of the sentences and of values that a command refuses.
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                let text = error.to_string();
                // A letter may be that of another program's option, with the same answer.
                assert!(text.contains(&option.long) || text.starts_with("error: --"), "{words:?}: {text}");
                Fate::Answered(text)
            }
            other => panic!("{words:?}: {other:?}: {error}"),
        },
    }
}

#[test]
fn every_option_is_accepted_or_answered() {
    let mut wrong = Vec::new();
    for peer in SHOWN.iter().chain(&OTHERS) {
        let (title, options) = read(peer.list);
        assert!(!options.is_empty(), "{title}");
        let (mut accepted, mut answered, mut unknown) = (0, 0, Vec::new());
        for option in &options {
            for name in option.short.iter().chain([&option.long]) {
                let fate = fate(peer, option, name);
                if let Fate::Unknown(message) = &fate {
                    wrong.push(format!("{title}: {name}: {message}"));
                }
                if *name == option.long {
                    match fate {
                        Fate::Accepted => accepted += 1,
                        Fate::Answered(_) => answered += 1,
                        Fate::Unknown(_) => unknown.push(name.clone()),
                    }
                }
            }
        }
        let count = options.len();
        println!(
            "{title}: {count} options, {accepted} accepted, {answered} answered, {} unknown",
            unknown.len()
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A sentence is one sentence: it begins small, ends without a full stop, and fits a few lines.
#[test]
fn answers_are_single_sentences() {
    let mut seen = 0;
    for (option, sentence) in peers::sentences() {
        seen += 1;
        let is_one =
            !sentence.replace("...", "").ends_with('.') && !sentence.replace("...", "").contains(". ");
        assert!(is_one, "--{option}: {sentence}");
        assert!(sentence.len() <= 220, "--{option}: {} characters", sentence.len());
        assert!(!sentence.is_empty() && !sentence.contains('\n'), "--{option}");
    }
    assert!(seen > 100, "only {seen} sentences");
}

#[test]
fn the_guide_has_every_option() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/options.md");
    let text = guide();
    if std::env::var_os("CROSSDOCK_WRITE_GUIDE").is_some() {
        std::fs::write(&page, &text).expect("written");
    }
    let is = std::fs::read_to_string(&page).expect("the page");
    let differs = is.lines().zip(text.lines()).find(|(is, should)| is != should);
    assert!(
        is == text,
        "docs/guide/options.md is not what the definitions say (CROSSDOCK_WRITE_GUIDE=1 writes it): {differs:?}"
    );
}

const HEAD: &str = "\
# Options that you know

What you type for docker, buildx, podman, buildah and skopeo works here: every option in the help of these
programs is accepted, or answered by a sentence that says what to do instead. The tables below are made from
the definitions of crossdock's own commands, and a test compares them.

- **yes**: the option has the meaning that it has there.
- **no effect**: accepted, since it asks for what happens anyhow or changes no result.
- **only**: the named values are what happens anyhow; others end the command with the sentence.
- **warning**: the command goes on after the sentence.
- **no**: the command ends with the sentence.

Switches take `=true` and `=false`. A switch that is refused may be given as `=false`.
";

fn guide() -> String {
    let mut text = HEAD.to_string();
    for peer in &SHOWN {
        let (title, options) = read(peer.list);
        let (command, version) = title.split_once(": ").expect("a command and a version");
        write!(text, "\n## {command}\n\n{version}; `crossdock {}`\n\n", peer.command.join(" "))
            .expect("memory");
        text.push_str("| option | | meaning, or what to do instead |\n| --- | --- | --- |\n");
        for option in options {
            let (kind, sentence) = meaning(peer, &option);
            let sentence = escaped(&sentence);
            writeln!(text, "| {} | {kind} | {sentence} |", option.shown()).expect("memory");
        }
    }
    text.push_str(
        "\n## Commands that do not exist here\n\n| command | what to do instead |\n| --- | --- |\n",
    );
    let commands = Args::command();
    for (command, sentence) in peers::COMMANDS {
        assert!(commands.find_subcommand(command).is_none(), "{command} exists: take it out of the table");
        writeln!(text, "| `{command}` | {} |", escaped(sentence)).expect("memory");
    }
    text
}

/// A sentence as Markdown has it in a table.
fn escaped(sentence: &str) -> String {
    sentence.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}

/// How the guide calls what happens, and the sentence.
fn meaning(peer: &Peer, option: &Listed) -> (&'static str, String) {
    let name = option.long.trim_start_matches("--");
    if let Some((kind, sentence)) = peers::meaning(peer.command, name) {
        return (kind, sentence);
    }
    let mut command = Args::command();
    for word in peer.command {
        command = command.find_subcommand(word).expect("a command").clone();
    }
    let is_meant = |arg: &&clap::Arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
    };
    match command.get_arguments().find(is_meant) {
        Some(arg) => {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            match help.split([' ', ':']).next() {
                Some("Accepted") => ("no effect", help),
                Some("Refused") => ("no", help),
                _ => ("yes", help),
            }
        }
        None => ("not yet", String::new()),
    }
}
