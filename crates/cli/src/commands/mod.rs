//! The commands: one file per noun.

mod archive;
mod binfmt;
mod build;
mod buildx;
mod cache;
mod check;
mod doctor;
mod elf;
mod git;
mod images;
mod imagetools;
mod listing;
mod manifest;
mod registry;
mod run;
mod source;
mod system;

use anyhow::Result;

pub use run::NOT_STARTED;

use crate::args::Command;
use crate::session::Session;

/// An error that ends the program with a code of its own; nothing is printed if the text is empty.
#[derive(Debug)]
pub struct ExitWith(pub u8, pub String);

impl std::fmt::Display for ExitWith {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for ExitWith {}

/// Runs a command; returns the exit code.
pub fn run(session: &Session, command: Command) -> Result<u8> {
    match command {
        Command::Build(args) => build::build(session, *args),
        Command::Run(args) => run::run(session, *args),
        Command::Emulate(args) => run::emulate(args),
        Command::Unshare(args) => run::unshare(args),
        Command::Pull(args) => images::pull(session, args),
        Command::Push(args) => images::push(session, args),
        Command::Copy(args) => images::copy(session, args),
        Command::Images(args) => listing::images(session, args),
        Command::Tag(args) => images::tag(session, args),
        Command::Rmi(args) => images::rmi(session, args),
        Command::Inspect(args) => images::inspect(session, args),
        Command::History(args) => images::history(session, args),
        Command::Save(args) => archive::save(session, args),
        Command::Load(args) => archive::load(session, args),
        Command::Manifest(command) => manifest::manifest(session, command),
        Command::Login(args) => registry::login(session, args),
        Command::Logout(args) => registry::logout(session, args),
        Command::Registry(command) => registry::registry(session, command),
        Command::System(command) => system::system(session, command),
        Command::Buildx(command) => buildx::buildx(session, command),
        Command::File(args) => elf::file(session, args),
        Command::Ldd(args) => elf::ldd(session, args),
        Command::Binfmt(command) => binfmt::binfmt(command),
        Command::Doctor(args) => doctor::doctor(session, args),
        Command::Version => {
            println!("crossdock {}", env!("CARGO_PKG_VERSION"));
            Ok(0)
        }
    }
}

/// Prints a line to standard output; a closed pipe ends the program quietly, as it does for other tools.
pub fn print(line: &str) {
    use std::io::Write;
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        let code = if error.kind() == std::io::ErrorKind::BrokenPipe { 0 } else { 1 };
        std::process::exit(code);
    }
}

/// Columns aligned by spaces, three between them, as docker prints tables.
pub fn table(rows: &[Vec<String>]) {
    /// One long value must not pad all other rows to its length.
    const WIDTH_MAX: usize = 200;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count().min(WIDTH_MAX)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        print(cells.collect::<Vec<_>>().join("   ").trim_end());
    }
}
