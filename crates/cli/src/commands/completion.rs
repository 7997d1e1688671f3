//! completion, and the man pages for packages: both made from the definition of the command line.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::output::to_file;

#[derive(clap::Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(clap::Args)]
pub struct ManPagesArgs {
    /// The directory for the pages, one for each command
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Prints the completions of `command` for a shell.
pub fn completion(mut command: clap::Command, args: CompletionArgs) -> Result<u8> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "crossdock", &mut text);
    to_file(None, |out| Ok(out.write_all(&text)?))?;
    Ok(0)
}

/// Writes man pages of `command` and its subcommands that are not hidden: `crossdock.1`, `crossdock-build.1`.
pub fn man_pages(command: clap::Command, args: ManPagesArgs) -> Result<u8> {
    let doing = || format!("write man pages to {}", args.directory.display());
    std::fs::create_dir_all(&args.directory).with_context(doing)?;
    clap_mangen::generate_to(command, &args.directory).with_context(doing)?;
    Ok(0)
}
