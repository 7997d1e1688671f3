//! The command line. Names and short forms are those of docker, buildx and podman, where these have the
//! command.

use clap::{Parser, Subcommand};

use crate::commands::archive::{LoadArgs, SaveArgs};
use crate::commands::bake::BakeArgs;
use crate::commands::binfmt::BinfmtCommand;
use crate::commands::build::BuildArgs;
use crate::commands::buildx::BuildxCommand;
use crate::commands::completion::{CompletionArgs, ManPagesArgs};
use crate::commands::copy::CopyArgs;
use crate::commands::diff::DiffArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::elf::{FileArgs, LddArgs};
use crate::commands::emulate::{EmulateArgs, UnshareArgs};
use crate::commands::images::{
    ExistsArgs, HistoryArgs, InspectArgs, PullArgs, PushArgs, RmiArgs, TagArgs, UntagArgs,
};
use crate::commands::import::ImportArgs;
use crate::commands::info::{InfoArgs, VersionArgs};
use crate::commands::listing::ImagesArgs;
use crate::commands::manifest::ManifestCommand;
use crate::commands::perform::PerformArgs;
use crate::commands::registry::{LoginArgs, LogoutArgs, RegistryCommand};
use crate::commands::remote::{DeleteArgs, ListTagsArgs, ManifestDigestArgs};
use crate::commands::report::ReportArgs;
use crate::commands::run::RunArgs;
use crate::commands::serve::{BuildctlCommand, ServeArgs};
use crate::commands::sync::SyncArgs;
use crate::commands::system::SystemCommand;
use crate::commands::volume::VolumeCommand;
use crate::session::{Global, Needs};

/// Builds, runs and publishes container images for every CPU from any machine.
#[derive(Parser)]
#[command(
    name = "crossdock",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    args_override_self = true
)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Build an image from a Dockerfile, for one or several platforms
    Build(Box<BuildArgs>),
    /// Build the targets of docker-bake.hcl or another file of definitions
    Bake(Box<BakeArgs>),
    /// Run a command in an image, also one for another CPU
    Run(Box<RunArgs>),
    /// Run a single program for another CPU on this machine
    Emulate(EmulateArgs),
    /// Run a command as root of its own user namespace, with emulators registered there
    Unshare(UnshareArgs),
    /// Fetch an image for one, several or all platforms
    Pull(PullArgs),
    /// Send an image or a multi-platform index to a registry
    Push(PushArgs),
    /// Copy an image or index between registries, directories, archives, docker and podman
    Copy(Box<CopyArgs>),
    /// Copy all tags of names between registries and directories, as skopeo does
    Sync(Box<SyncArgs>),
    /// List the tags of a name in a registry
    ListTags(ListTagsArgs),
    /// Remove an image from a registry
    Delete(DeleteArgs),
    /// Show the digest of a manifest in a file
    ManifestDigest(ManifestDigestArgs),
    /// List images
    Images(ImagesArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Take names from an image, which stays
    #[command(hide = true)]
    Untag(UntagArgs),
    /// End with 0 if there is an image of that name or id, else with 1
    #[command(hide = true)]
    Exists(ExistsArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Show everything known about images
    Inspect(InspectArgs),
    /// Show which files and settings differ between two images or platforms
    Diff(DiffArgs),
    /// Show how an image came about
    History(HistoryArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Read images from an archive
    Load(LoadArgs),
    /// Make an image of an archive of files
    Import(ImportArgs),
    /// Make and edit multi-platform indexes
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Log in to a registry
    Login(LoginArgs),
    /// Log out from a registry
    Logout(LogoutArgs),
    /// The embedded registry
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Show the space used, and free some
    #[command(subcommand)]
    System(SystemCommand),
    /// Directories that outlive the containers that use them
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Show what recent builds did, why, and how long it took
    Report(ReportArgs),
    /// Serve builds to docker buildx and other programs that know BuildKit
    Serve(ServeArgs),
    /// What programs for BuildKit call on another machine
    #[command(subcommand, hide = true)]
    Buildctl(BuildctlCommand),
    /// Execute a step that another machine has sent; workers of a farm start this
    #[command(hide = true)]
    Perform(PerformArgs),
    /// What buildx says about its builders; here there is only one
    #[command(subcommand, hide = true)]
    Buildx(BuildxCommand),
    /// Say what ELF files are, for every CPU
    File(FileArgs),
    /// Show which libraries an ELF file needs and where they are found
    Ldd(LddArgs),
    /// Handlers for programs of other CPUs on this machine
    #[command(subcommand)]
    Binfmt(BinfmtCommand),
    /// Say what this machine can do, and how to get what it lacks
    Doctor(DoctorArgs),
    /// Print completions for a shell: bash, zsh or fish
    Completion(CompletionArgs),
    /// Write the man pages, for packages
    #[command(hide = true)]
    ManPages(ManPagesArgs),
    /// Show the version
    Version(VersionArgs),
    /// Show what docker shows of its surroundings: the store, this machine, the platforms
    Info(InfoArgs),
}

impl Command {
    /// What must be set up before the command runs.
    pub fn needs(&self) -> Needs {
        match self {
            // What it starts makes its own.
            Command::Perform(PerformArgs { serve: true, .. }) => Needs::Nothing,
            Command::Perform(_) => Needs::NamespaceOrMounts,
            Command::Run(_) | Command::Unshare(_) => Needs::Namespace,
            Command::Build(_)
            | Command::Bake(_)
            | Command::Serve(_)
            | Command::Buildctl(_)
            | Command::Pull(_)
            | Command::Load(_)
            | Command::Import(_)
            | Command::Rmi(_)
            | Command::Diff(_)
            | Command::System(_)
            | Command::Volume(_)
            | Command::File(FileArgs { image: Some(_), .. })
            | Command::Ldd(LddArgs { image: Some(_), .. })
            | Command::Manifest(ManifestCommand::Push { purge: true, .. } | ManifestCommand::Rm { .. }) => {
                Needs::NamespaceIfAllowed
            }
            _ => Needs::Nothing,
        }
    }
}
