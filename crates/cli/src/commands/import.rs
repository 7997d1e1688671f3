//! import: an image of an archive of files.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{Args as _, FromArgMatches};
use crossdock_oci::Store;
use crossdock_oci::layer::is_archive;

use super::build::{self, BuildArgs};
use crate::progress::{Display, ProgressMode};
use crate::session::Session;
use crate::single_platform::SinglePlatformArgs;
use crate::values;

#[derive(clap::Args)]
pub struct ImportArgs {
    /// The archive, also packed with gzip, bzip2, xz or zstd: a file, an address, or "-" for standard input
    #[arg(value_name = "FILE|URL|-")]
    pub source: String,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Option<String>,
    /// An instruction of a Dockerfile that changes the settings of the image, such as 'CMD ["sh"]', may be
    /// given several times
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub changes: Vec<String>,
    /// What the files are made for [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    #[command(flatten)]
    pub single: SinglePlatformArgs,
}

/// Instructions that may change an imported image (docker-image-import(1)).
const CHANGES: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Builds the image: the archive is all that its only layer has, as after `ADD`.
pub fn import(session: &Session, args: ImportArgs) -> Result<u8> {
    if let Some(name) = &args.name {
        values::new_name(name)?;
    }
    let changes = args.changes.iter().map(|text| instruction(text)).collect::<Result<Vec<_>>>()?;
    let store = session.store()?;
    let directory = store.temporary_directory()?;
    let context = directory.path().join("context");
    fs::create_dir(&context).with_context(|| format!("create {}", context.display()))?;
    let archive = archive_name(&args.source);
    let has_files = bring(session, &store, &args.source, &context.join(&archive))?;

    let dockerfile = directory.path().join("Dockerfile");
    let lines: String = changes.iter().map(|change| format!("{change}\n")).collect();
    let add = if has_files { format!("ADD {archive} /\n") } else { String::new() };
    fs::write(&dockerfile, format!("FROM scratch\n{add}{lines}"))
        .with_context(|| format!("write {}", dockerfile.display()))?;
    let mut words = vec!["build".into(), "--quiet".into(), "--file".into(), dockerfile.into_os_string()];
    let options = [
        ("--tag", &args.name),
        ("--platform", &args.platform),
        ("--os", &args.single.os),
        ("--arch", &args.single.arch),
        ("--variant", &args.single.variant),
    ];
    for (option, value) in options {
        words.extend(value.iter().flat_map(|value| [option.into(), value.into()]));
    }
    words.push(context.into_os_string());
    let matches = BuildArgs::augment_args(clap::Command::new("build")).try_get_matches_from(words)?;
    build::build(session, BuildArgs::from_arg_matches(&matches)?)
}

/// The line of a Dockerfile that `--change` asks for: an instruction, or `INSTRUCTION=ARGUMENTS` as podman
/// takes it.
fn instruction(text: &str) -> Result<String> {
    let text = text.trim();
    let end = text.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if !CHANGES.iter().any(|known| known.eq_ignore_ascii_case(word)) {
        bail!("--change {text}: the instruction must be one of {}", CHANGES.join(", "));
    }
    if text.contains(['\n', '\r']) || text.ends_with('\\') {
        bail!("--change {text}: give one instruction of one line; more of them take more --change");
    }
    Ok(format!("{word} {}", rest.strip_prefix('=').unwrap_or(rest).trim()))
}

/// What the archive is called in the history of the image: its own name, if `ADD` takes it for one file.
fn archive_name(source: &str) -> String {
    let name = Path::new(source).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_plain);
    if fits { name.to_string() } else { "archive".to_string() }
}

/// Brings the archive to `to`. False if it is an archive of nothing, which docker accepts for an empty image.
fn bring(session: &Session, store: &Store, source: &str, to: &Path) -> Result<bool> {
    let is_address = source.starts_with("http://") || source.starts_with("https://");
    if source == "-" {
        let mut file = File::create_new(to).with_context(|| format!("create {}", to.display()))?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file).context("read standard input")?;
    } else if is_address {
        let display = Display::new(ProgressMode::Quiet);
        crate::desk::source_of(session, store, display).client()?.download(source, to)?;
    } else {
        let opening = || format!("the archive {source}");
        let kind = fs::metadata(source).with_context(opening)?;
        if kind.is_dir() {
            bail!("the archive {source} is a directory: pack it with tar, and give \"-\"");
        }
        // A link needs no room; it is not possible between file systems, nor to a pipe.
        let is_linked =
            kind.is_file() && fs::canonicalize(source).is_ok_and(|path| fs::hard_link(path, to).is_ok());
        if !is_linked {
            let mut from = File::open(source).with_context(opening)?;
            let mut file = File::create_new(to).with_context(|| format!("create {}", to.display()))?;
            std::io::copy(&mut from, &mut file).with_context(|| format!("read {source}"))?;
        }
    }
    let shown = if source == "-" { "standard input" } else { source };
    let reading = || format!("read {shown}");
    let mut head = Vec::new();
    let file = File::open(to).with_context(reading)?;
    file.take(512).read_to_end(&mut head).with_context(reading)?;
    if head.len() == 512 && is_all_zeros(File::open(to).with_context(reading)?).with_context(reading)? {
        // The blocks of zeros at the end of an archive (tar(5)).
        return Ok(false);
    }
    if !is_archive(&head, File::open(to).with_context(reading)?).with_context(reading)? {
        bail!(
            "{shown} is not a tar archive, packed or not; images in archives are read by \"crossdock load\""
        );
    }
    Ok(true)
}

/// Whether all bytes are zero.
fn is_all_zeros(mut file: File) -> std::io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(true),
            length if buffer[..length].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_instructions_of_one_line() {
        for (text, line) in [
            ("CMD [\"sh\"]", "CMD [\"sh\"]"),
            ("cmd=/bin/sh -c 'a=b'", "cmd /bin/sh -c 'a=b'"),
            (" ENV A=1 B=2 ", "ENV A=1 B=2"),
            ("ENV=A=1", "ENV A=1"),
            ("WORKDIR\t/x", "WORKDIR /x"),
        ] {
            assert_eq!(instruction(text).expect(text), line);
        }
        for text in ["RUN true", "CMDx a", "", "CMD a\nRUN b", "CMD a \\", "# CMD"] {
            let error = instruction(text).expect_err(text).to_string();
            assert!(error.starts_with(&format!("--change {}", text.trim())), "{error}");
        }
    }

    #[test]
    fn names_that_could_be_patterns_are_not_used() {
        for (source, name) in [
            ("a/b/root.tar.xz", "root.tar.xz"),
            ("https://h/root+1.tgz", "root+1.tgz"),
            ("-", "archive"),
            ("a[1].tar", "archive"),
            ("--chown=1", "archive"),
            ("a b.tar", "archive"),
            ("$x.tar", "archive"),
            ("/", "archive"),
        ] {
            assert_eq!(archive_name(source), name, "{source}");
        }
    }
}
