//! The commands: one file per noun.

mod amend;
pub mod archive;
mod attestations;
mod attested;
pub mod bake;
pub mod bake_files;
pub mod binfmt;
pub mod build;
pub mod buildx;
mod check;
pub mod completion;
mod convert;
pub mod copy;
pub mod described_devices;
pub mod diff;
mod directory;
mod docker_daemon;
pub mod doctor;
pub mod elf;
pub mod emulate;
mod farm_file;
mod farm_options;
pub mod images;
mod imagetools;
pub mod import;
pub mod info;
pub mod listing;
pub mod manifest;
pub mod perform;
mod places;
mod podman_storage;
mod pull_policy;
pub mod registry;
pub mod remote;
pub mod report;
mod root;
pub mod run;
pub mod serve;
pub mod step_options;
pub mod sync;
mod sync_list;
pub mod system;
mod transports;
mod tree;
pub mod volume;

use std::sync::Arc;

use anyhow::Result;
use clap::CommandFactory;

pub use run::NOT_STARTED;

use crate::args::{Args, Command};
use crate::session::Session;

/// Runs a command; returns the exit code.
pub fn run(session: &Arc<Session>, command: Command) -> Result<u8> {
    match command {
        Command::Bake(args) => bake::bake(session, *args),
        Command::Build(args) => build::build(session, *args),
        Command::Run(args) => run::run(session, *args),
        Command::Emulate(args) => emulate::emulate(session, args),
        Command::Unshare(args) => emulate::unshare(args),
        Command::Pull(args) => images::pull(session, args),
        Command::Push(args) => images::push(session, args),
        Command::Copy(args) => copy::copy(session, *args),
        Command::Images(args) => listing::images(session, args),
        Command::Tag(args) => images::tag(session, args),
        Command::Untag(args) => images::untag(session, &args),
        Command::Exists(args) => images::exists(session, &args),
        Command::Import(args) => import::import(session, args),
        Command::Rmi(args) => images::rmi(session, args),
        Command::Inspect(args) => images::inspect(session, args),
        Command::Diff(args) => diff::diff(session, args),
        Command::History(args) => images::history(session, args),
        Command::Save(args) => archive::save(session, args),
        Command::Load(args) => archive::load(session, args),
        Command::Manifest(command) => manifest::manifest(session, command),
        Command::Login(args) => registry::login(session, args),
        Command::Logout(args) => registry::logout(session, args),
        Command::Registry(command) => registry::registry(session, command),
        Command::System(command) => system::system(session, command),
        Command::Volume(command) => volume::volume(session, command),
        Command::Buildx(command) => buildx::buildx(session, command),
        Command::Serve(args) => serve::serve(session, args),
        Command::Buildctl(command) => serve::buildctl(session, command),
        Command::Perform(args) => perform::perform(session, &args),
        Command::Report(args) => report::report(session, args),
        Command::File(args) => elf::file(session, args),
        Command::Ldd(args) => elf::ldd(session, args),
        Command::Binfmt(command) => binfmt::binfmt(command),
        Command::Doctor(args) => doctor::doctor(session, args),
        Command::Sync(args) => sync::sync(session, *args),
        Command::ListTags(args) => remote::list_tags(session, &args),
        Command::Delete(args) => remote::delete(session, &args),
        Command::ManifestDigest(args) => remote::manifest_digest(&args),
        Command::Version(args) => info::version(&args),
        Command::Info(args) => info::info(session, &args),
        Command::Completion(args) => completion::completion(Args::command(), args),
        Command::ManPages(args) => completion::man_pages(Args::command(), args),
    }
}
