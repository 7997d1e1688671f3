//! The command line. Names and short forms are those of docker, buildx and podman where they have the
//! command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::session::Needs;

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

#[derive(clap::Args)]
pub struct Global {
    /// Directory of the store [default: $XDG_DATA_HOME/crossdock or ~/.local/share/crossdock]
    #[arg(long, global = true, value_name = "DIR", env = "CROSSDOCK_ROOT", hide_env_values = true)]
    pub root: Option<PathBuf>,
    /// Registries that may be reached by plain http or without a verified certificate (HOST[:PORT]; alone:
    /// all)
    #[arg(long, global = true, value_name = "HOST", num_args = 0..=1, default_missing_value = "*", require_equals = true)]
    pub insecure: Vec<String>,
    /// What layers and archives may unpack to in all [default: 1 GiB and 100 times their size, at most 1 TiB]
    #[arg(long, global = true, value_name = "SIZE", env = "CROSSDOCK_UNPACK_MAX", hide_env_values = true)]
    pub unpack_max: Option<String>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Build an image from a Dockerfile, for one or several platforms
    Build(Box<BuildArgs>),
    /// Run a command in an image, also one for another CPU
    Run(Box<RunArgs>),
    /// Run a single program for another CPU on this machine
    Emulate(EmulateArgs),
    /// Run a command as root of an own user namespace, with emulators registered there
    Unshare(UnshareArgs),
    /// Fetch an image for one, several or all platforms
    Pull(PullArgs),
    /// Send an image or a multi-platform index to a registry
    Push(PushArgs),
    /// Copy an image or index from registry to registry, without storing it here
    Copy(CopyArgs),
    /// List images
    Images(ImagesArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Show everything known about images
    Inspect(InspectArgs),
    /// Show how an image came about
    History(HistoryArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Read images from an archive
    Load(LoadArgs),
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
    /// Space used and space to be had back
    #[command(subcommand)]
    System(SystemCommand),
    /// What buildx says of its builders; here there is one
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
    /// Show the version
    Version,
}

#[derive(clap::Args)]
pub struct BuildArgs {
    /// Directory of the build context, or "-" for a Dockerfile or a tar archive on standard input
    #[arg(value_name = "PATH", default_value = ".")]
    pub context: PathBuf,
    /// The Dockerfile [default: PATH/Dockerfile], or "-" for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name of the result, may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub tags: Vec<String>,
    /// Platforms to build for, separated by commas [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT],...")]
    pub platform: Vec<String>,
    /// Send the result to the registry of its names
    #[arg(long)]
    pub push: bool,
    /// Keep the result in the local store (the default)
    #[arg(long)]
    pub load: bool,
    /// Where the result goes: type=image|registry|oci|docker|local|tar,dest=PATH; may be given several times
    #[arg(short, long = "output", value_name = "SPEC")]
    pub outputs: Vec<String>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Value of an ARG; NAME alone takes it from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// More contexts: NAME=PATH, NAME=docker-image://IMAGE, NAME=oci-layout://PATH, NAME=target:STAGE
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub build_contexts: Vec<String>,
    /// Label of the image
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Annotation of the manifests, or of the index with the prefix "index:"
    #[arg(long = "annotation", value_name = "[index:|manifest:]NAME=VALUE")]
    pub annotations: Vec<String>,
    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME]
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,
    /// An SSH agent for RUN --mount=type=ssh: default or ID=SOCKET
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub ssh: Vec<String>,
    /// Only check the Dockerfile for what was probably not meant; the same as --call=check
    #[arg(long)]
    pub check: bool,
    /// Instead of building: check, outline or targets, with ",format=json" for JSON
    #[arg(long, value_name = "METHOD")]
    pub call: Option<String>,
    /// Execute every step
    #[arg(long)]
    pub no_cache: bool,
    /// Execute every step of these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Ask the registry for newer base images
    #[arg(long)]
    pub pull: bool,
    /// Network of RUN: host (the default), private or none
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub network: String,
    /// More lines for /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:IP")]
    pub add_hosts: Vec<String>,
    /// Permission: security.insecure or network.host
    #[arg(long = "allow", value_name = "WHAT")]
    pub allow: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Resource limits: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT")]
    pub ulimits: Vec<String>,
    /// What runs programs of other CPUs: auto, builtin, qemu or a path
    #[arg(long, value_name = "EMULATOR", default_value = "auto")]
    pub emulator: String,
    /// Steps to execute at once [default: number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto)]
    pub progress: ProgressMode,
    /// Print only the digest of the result
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the image's digest to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write the result's metadata as JSON to a file
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Results of other builds: type=registry,ref=NAME, type=local,src=DIR, or an image with an inline cache
    #[arg(long = "cache-from", value_name = "SPEC")]
    pub cache_from: Vec<String>,
    /// Where results of steps go, for other machines: type=registry,ref=NAME, type=local,dest=DIR (both with
    /// mode=max), type=inline
    #[arg(long = "cache-to", value_name = "SPEC")]
    pub cache_to: Vec<String>,
    /// Accepted for buildx; no attestation is made: true, false, or settings such as mode=max
    #[arg(long, value_name = "SPEC", num_args = 0..=1, default_missing_value = "true", value_parser = attestation)]
    pub provenance: Option<String>,
    /// Accepted for buildx; no attestation is made: true, false, or settings such as generator=IMAGE
    #[arg(long, value_name = "SPEC", num_args = 0..=1, default_missing_value = "true", value_parser = attestation)]
    pub sbom: Option<String>,
    /// Accepted for buildx; no attestation is made
    #[arg(long = "attest", value_name = "SPEC", hide = true)]
    pub attests: Vec<String>,
    /// Accepted for buildx; there is one builder
    #[arg(long, value_name = "NAME", hide = true)]
    pub builder: Option<String>,
    /// Accepted for buildx
    #[arg(long, hide = true)]
    pub rm: bool,
    /// Accepted for docker
    #[arg(long, hide = true)]
    pub force_rm: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// tty on a terminal, plain elsewhere
    Auto,
    /// Live lines
    Tty,
    /// Every line of output, numbered by step
    Plain,
    /// One JSON object a line
    #[value(alias = "rawjson")]
    Json,
    /// Nothing
    Quiet,
}

// "-h" is docker's short form of --hostname.
#[derive(clap::Args)]
#[command(disable_help_flag = true, override_usage = "crossdock run [OPTIONS] IMAGE [COMMAND]...")]
pub struct RunArgs {
    /// The image, then the command and its arguments instead of the image's; no option of crossdock follows
    /// the image
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND]")]
    pub words: Vec<OsString>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// Platform of the image [default: this machine's if the image has it, else the only one in the store]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Accepted for docker; containers are always removed
    #[arg(long)]
    pub rm: bool,
    /// Environment: NAME=VALUE, or NAME to take it from here
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// File of environment lines
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Bind a directory or file: SOURCE:TARGET[:ro]
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:ro]")]
    pub volumes: Vec<String>,
    /// Mounts: type=bind|tmpfs,source=...,target=...[,readonly]
    #[arg(long = "mount", value_name = "SPEC")]
    pub mounts: Vec<String>,
    /// An empty file system in memory
    #[arg(long = "tmpfs", value_name = "TARGET")]
    pub tmpfs: Vec<String>,
    /// Program instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Network: host, private or none
    #[arg(long, visible_alias = "net", value_name = "MODE", default_value = "host")]
    pub network: String,
    /// Host name inside
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// More lines for /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:IP")]
    pub add_hosts: Vec<String>,
    /// Refuse writes to the root
    #[arg(long)]
    pub read_only: bool,
    /// Put a small init before the command
    #[arg(long)]
    pub init: bool,
    /// All capabilities of the user namespace, no seccomp profile
    #[arg(long)]
    pub privileged: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Resource limits: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT")]
    pub ulimits: Vec<String>,
    /// When to ask the registry: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub pull: String,
    /// What runs programs of other CPUs: auto, builtin, qemu or a path
    #[arg(long, value_name = "EMULATOR", default_value = "auto")]
    pub emulator: String,
    /// Refused: containers end with this command
    #[arg(short, long, hide = true)]
    pub detach: bool,
    /// Accepted for docker; containers have no names
    #[arg(long, hide = true)]
    pub name: Option<String>,
    /// Accepted for docker with the host's network, in which every port is reachable as it is
    #[arg(short, long = "publish", hide = true)]
    pub publish: Vec<String>,
}

#[derive(clap::Args)]
#[command(override_usage = "crossdock emulate [OPTIONS] PROGRAM [ARGUMENT]...")]
pub struct EmulateArgs {
    /// The program, an ELF file for another CPU, then its arguments; no option of crossdock follows the
    /// program
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM [ARGUMENT]")]
    pub words: Vec<OsString>,
    /// What runs it: auto, builtin, qemu or a path
    #[arg(long, value_name = "EMULATOR", default_value = "auto")]
    pub emulator: String,
    /// Root with the loader and libraries of a dynamic program
    #[arg(short = 'L', long, value_name = "DIR")]
    pub sysroot: Option<PathBuf>,
    /// Print to standard error what the program does
    #[arg(long, value_name = "WHAT")]
    pub trace: Option<Trace>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Trace {
    /// System calls, with their arguments and results
    Syscalls,
    /// The address of each block of code (builtin only)
    Blocks,
}

#[derive(clap::Args)]
pub struct UnshareArgs {
    /// Command and arguments [default: $SHELL]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
    /// Platforms whose programs can be run inside [default: all with an emulator]
    #[arg(long, value_name = "OS/ARCH[/VARIANT],...")]
    pub platform: Vec<String>,
    /// What runs programs of other CPUs: auto, builtin, qemu or a path
    #[arg(long, value_name = "EMULATOR", default_value = "auto")]
    pub emulator: String,
}

#[derive(clap::Args)]
pub struct PullArgs {
    /// The image
    pub image: String,
    /// Platforms to fetch [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT],...")]
    pub platform: Vec<String>,
    /// Fetch the images of all platforms
    #[arg(short, long, visible_alias = "all")]
    pub all_platforms: bool,
    /// Print only the digest
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not unpack the layers yet
    #[arg(long)]
    pub no_unpack: bool,
}

#[derive(clap::Args)]
pub struct PushArgs {
    /// The image
    pub image: String,
    /// Where to, if not to the registry of its name
    pub destination: Option<String>,
    /// Send only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Print only the digest
    #[arg(short, long)]
    pub quiet: bool,
    /// Accepted for docker and podman
    #[arg(short, long, hide = true, visible_alias = "all")]
    pub all_tags: bool,
}

#[derive(clap::Args)]
pub struct CopyArgs {
    /// What to copy, and its name there; skopeo's docker:// may stand before them. With --tag, all are
    /// sources: of several an index is made, in which the last image for a platform counts
    #[arg(required = true, value_names = ["SOURCE", "DESTINATION"])]
    pub names: Vec<String>,
    /// Its name there, as "docker buildx imagetools create" has it; may be given several times
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Add the sources to what has the name of --tag already
    #[arg(long, requires = "tags")]
    pub append: bool,
    /// Only the images of these platforms; several get an index of their own
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Vec<String>,
    /// Copy what refers to the images: signatures, SBOMs. By default what the registry lists; alone also
    /// cosign's tags, and it is an error if there is no list; with "=false" nothing
    #[arg(short, long, visible_alias = "recursive", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub referrers: Option<bool>,
    /// Print only the digest
    #[arg(short, long)]
    pub quiet: bool,
    /// Accepted for skopeo: everything is copied unless platforms are given
    #[arg(short, long, hide = true)]
    pub all: bool,
}

#[derive(clap::Args)]
pub struct ImagesArgs {
    /// Only images of this name
    pub name: Option<String>,
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Accepted for docker; all images are always shown
    #[arg(short, long, hide = true)]
    pub all: bool,
    /// Only images of which this is true: reference=PATTERN, dangling=true|false, label=NAME[=VALUE],
    /// before=IMAGE, since=IMAGE, until=AGE
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub filters: Vec<String>,
    /// Show whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// table, json, or a template such as '{{.ID}}' or 'table {{.Repository}}\t{{.ID}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: String,
}

#[derive(clap::Args)]
pub struct TagArgs {
    /// The image
    pub source: String,
    /// The new name
    pub target: String,
}

#[derive(clap::Args)]
pub struct RmiArgs {
    /// Names or ids
    #[arg(required = true)]
    pub images: Vec<String>,
    /// Only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// No error for an image that is not there; all names of an id
    #[arg(short, long)]
    pub force: bool,
    /// Accepted for docker
    #[arg(long, hide = true)]
    pub no_prune: bool,
}

#[derive(clap::Args)]
pub struct InspectArgs {
    /// Names or ids
    #[arg(required = true)]
    pub images: Vec<String>,
    /// Only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// With --format, the images of all platforms, one line each [default: the one that "run" takes]
    #[arg(short, long, conflicts_with = "platform")]
    pub all_platforms: bool,
    /// Accepted for docker: there are only images
    #[arg(long = "type", value_name = "TYPE", value_parser = ["image"], hide = true)]
    pub kind: Option<String>,
    /// json, or a template such as '{{.Config.Cmd}}' or '{{json .}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
}

#[derive(clap::Args)]
pub struct HistoryArgs {
    /// The image
    pub image: String,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Show whole lines
    #[arg(long)]
    pub no_trunc: bool,
    /// table, json, or a template such as '{{.ID}}' or 'table {{.Repository}}\t{{.ID}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: String,
}

#[derive(clap::Args)]
pub struct SaveArgs {
    /// The images
    #[arg(required = true)]
    pub images: Vec<String>,
    /// The archive [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// docker (one platform) or oci (all)
    #[arg(long, value_name = "FORMAT", value_parser = ["docker", "oci", "docker-archive", "oci-archive"])]
    pub format: Option<String>,
    /// Only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
}

#[derive(clap::Args)]
pub struct LoadArgs {
    /// The archive [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Name for images that have none in the archive
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub tag: Option<String>,
    /// Print only names
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum ManifestCommand {
    /// Show an index or manifest, of the store or of a registry
    Inspect {
        /// The name
        image: String,
        /// Show each manifest with its name and descriptor, as docker does
        #[arg(short, long)]
        verbose: bool,
    },
    /// Make an index from images, which may be in the store or in registries
    Create {
        /// Name of the index
        index: String,
        /// The images; without any the index is empty until "manifest add"
        images: Vec<String>,
        /// Add to an index of that name instead of replacing it
        #[arg(short, long)]
        amend: bool,
    },
    /// Add images to an index
    Add(AnnotateArgs),
    /// Change the platform or annotations of an entry
    Annotate(AnnotateArgs),
    /// Take an entry out of an index
    Remove {
        /// Name of the index
        index: String,
        /// The entry: a digest, an image name or a platform
        image: String,
    },
    /// Send an index and its images to its registry
    Push {
        /// Name of the index
        index: String,
        /// Where to, if not to the registry of its name
        destination: Option<String>,
        /// Remove the index from the store afterwards
        #[arg(short, long)]
        purge: bool,
        /// Accepted for buildah; all images are always sent
        #[arg(long, hide = true)]
        all: bool,
    },
    /// Remove indexes from the store
    Rm {
        /// Names
        #[arg(required = true)]
        indexes: Vec<String>,
    },
}

#[derive(clap::Args)]
pub struct AnnotateArgs {
    /// Name of the index
    pub index: String,
    /// The entry: an image name, a digest, an id, or a platform
    pub image: String,
    /// Operating system
    #[arg(long)]
    pub os: Option<String>,
    /// Architecture
    #[arg(long)]
    pub arch: Option<String>,
    /// Variant
    #[arg(long)]
    pub variant: Option<String>,
    /// Operating system version
    #[arg(long)]
    pub os_version: Option<String>,
    /// Operating system features
    #[arg(long, value_delimiter = ',')]
    pub os_features: Vec<String>,
    /// Annotation of the entry
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub annotations: Vec<String>,
    /// Accepted for podman: all images of an index are always added
    #[arg(long, hide = true)]
    pub all: bool,
}

impl AnnotateArgs {
    /// Whether anything is said of the entry.
    pub fn changes_something(&self) -> bool {
        let texts = [&self.os, &self.arch, &self.variant, &self.os_version];
        texts.iter().any(|text| text.is_some())
            || !self.os_features.is_empty()
            || !self.annotations.is_empty()
    }
}

#[derive(clap::Args)]
pub struct LoginArgs {
    /// The registry [default: docker.io]
    pub server: Option<String>,
    /// User name
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password; better use --password-stdin
    #[arg(short, long)]
    pub password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
}

#[derive(clap::Args)]
pub struct LogoutArgs {
    /// The registry [default: docker.io]
    pub server: Option<String>,
}

#[derive(Subcommand)]
pub enum RegistryCommand {
    /// Serve a registry until interrupted
    Serve(Box<ServeArgs>),
    /// Remove what no manifest of a served directory needs; it may be served meanwhile
    Gc(GcArgs),
    /// Print a line for the file of --users, with the password from standard input
    Htpasswd {
        /// The user's name
        user: String,
    },
}

#[derive(clap::Args)]
pub struct GcArgs {
    /// Directory of the registry [default: that of "registry serve"]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keep what was touched within this time, since a push may be under way: 0, 30m, 24h, 7d
    #[arg(long, value_name = "AGE", default_value = "24h")]
    pub grace: String,
    /// Remove nothing, only say what would be removed
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Also manifests that no tag leads to
    #[arg(long)]
    pub untagged: bool,
}

#[derive(clap::Args)]
pub struct ServeArgs {
    /// Address to listen on, or :PORT for all addresses of the machine; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    pub addr: String,
    /// Directory of the registry [default: the store's directory with -registry at its end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Refuse changes
    #[arg(long)]
    pub read_only: bool,
    /// File of users as "htpasswd -B" writes it; without it everybody may do everything
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,
    /// File of rights, lines of WHO ACTIONS REPOSITORY...; without it each user may do everything
    #[arg(long, value_name = "FILE", requires = "users")]
    pub rights: Option<PathBuf>,
    /// Everybody may pull everything; users of --users may do the rest
    #[arg(long, requires = "users")]
    pub anonymous_pull: bool,
    /// Speak https with this certificate, a PEM file with those between it and the root
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Refuse to move or remove tags
    #[arg(long)]
    pub immutable_tags: bool,
    /// Be a cache of another registry: what is not here is fetched from it; changes are refused
    #[arg(long, value_name = "URL", conflicts_with = "immutable_tags")]
    pub proxy: Option<String>,
    /// Keep at most this much of the other registry (500m, 20g); what was used least recently goes first
    #[arg(long, value_name = "SIZE", requires = "proxy")]
    pub proxy_cache_max: Option<String>,
    /// Append a line per request to this file; "-" is standard error
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// Connections that one address may have [default: 1000, and no limit for this machine]
    #[arg(long, value_name = "N")]
    pub connections_per_address: Option<usize>,
    /// Drop uploads that nobody touched for this time: 30m, 24h, 7d
    #[arg(long, value_name = "AGE", default_value = "24h")]
    pub upload_expiry: String,
    /// Write the address to a file once the registry serves
    #[arg(long, value_name = "FILE")]
    pub addr_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum SystemCommand {
    /// Show the space that the store uses
    Df,
    /// Remove images: those without a name, or all
    #[command(name = "prune-images", hide = true)]
    PruneImages {
        /// All images, not only those without a name
        #[arg(short, long)]
        all: bool,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Only images of which this is true: until=AGE, label=NAME[=VALUE], label!=NAME[=VALUE]
        #[arg(long = "filter", value_name = "NAME=VALUE")]
        filters: Vec<String>,
    },
    /// Remove the build cache and cache mounts
    #[command(name = "prune-cache", hide = true)]
    PruneCache {
        /// Accepted for docker: the whole cache is removed anyhow
        #[arg(short, long)]
        all: bool,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Only what was not used for this time: until=24h
        #[arg(long = "filter", value_name = "NAME=VALUE")]
        filters: Vec<String>,
        /// Build cache to keep, in bytes; the least recently used goes first
        #[arg(long, visible_aliases = ["max-used-space", "reserved-space"], value_name = "BYTES")]
        keep_storage: Option<String>,
    },
    /// Remove what nothing needs, and images without a name
    Prune {
        /// Also the build cache and images without a use
        #[arg(short, long)]
        all: bool,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Only build cache older than this: 30m, 24h, 7d
        #[arg(long, value_name = "AGE")]
        older_than: Option<String>,
        /// Build cache to keep, in bytes; the least recently used goes first
        #[arg(long, value_name = "BYTES")]
        keep_storage: Option<String>,
    },
}

/// Commands of `docker buildx` that scripts call before they build. Nothing is created, since builds need no
/// builder.
#[derive(Subcommand)]
pub enum BuildxCommand {
    /// List builders
    Ls,
    /// Show the builder
    Inspect {
        /// Accepted for buildx
        name: Option<String>,
        /// Accepted for buildx; there is nothing to start
        #[arg(long)]
        bootstrap: bool,
    },
    /// Accepted for buildx
    Create {
        /// Accepted for buildx
        endpoint: Option<String>,
        /// Accepted for buildx
        #[arg(long)]
        name: Option<String>,
        /// Accepted for buildx
        #[arg(long)]
        driver: Option<String>,
        /// Accepted for buildx
        #[arg(long)]
        driver_opt: Vec<String>,
        /// Accepted for buildx
        #[arg(long)]
        platform: Vec<String>,
        /// Accepted for buildx
        #[arg(long)]
        bootstrap: bool,
        /// Accepted for buildx
        #[arg(long = "use")]
        used: bool,
    },
    /// Accepted for buildx
    Use {
        /// Accepted for buildx
        name: String,
        /// Accepted for buildx
        #[arg(long)]
        default: bool,
        /// Accepted for buildx
        #[arg(long)]
        global: bool,
    },
    /// Accepted for buildx
    Rm {
        /// Accepted for buildx
        names: Vec<String>,
        /// Accepted for buildx
        #[arg(short, long)]
        force: bool,
    },
    /// Images of registries
    #[command(subcommand)]
    Imagetools(ImagetoolsCommand),
    /// Accepted for buildx
    Stop {
        /// Accepted for buildx
        name: Option<String>,
    },
}

#[derive(Subcommand)]
pub enum ImagetoolsCommand {
    /// Show an image or index of a registry, else of the store
    Inspect {
        /// The name
        image: String,
        /// Show the manifest or index byte for byte
        #[arg(long)]
        raw: bool,
        /// A template such as '{{json .Manifest}}' or '{{.Name}}'; .Image is the configuration, by platform
        /// for an index
        #[arg(long, value_name = "FORMAT", conflicts_with = "raw")]
        format: Option<String>,
    },
}

#[derive(clap::Args)]
pub struct FileArgs {
    /// Files; paths in the image with --image
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Look in this image
    #[arg(long)]
    pub image: Option<String>,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Do not print the names
    #[arg(short, long)]
    pub brief: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct LddArgs {
    /// The program; a path in the image with --image
    pub path: String,
    /// Look in this image
    #[arg(long)]
    pub image: Option<String>,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Look in this directory as the root
    #[arg(long, value_name = "DIR", conflicts_with = "image")]
    pub sysroot: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum BinfmtCommand {
    /// Show the handlers of this machine
    Status,
    /// Register emulators for everybody on this machine; needs root
    Install {
        /// Architectures or platforms [default: all with an emulator]
        platforms: Vec<String>,
        /// auto, builtin, qemu or a path
        #[arg(long, value_name = "EMULATOR", default_value = "auto")]
        emulator: String,
        /// Also after the next boot: write a file for systemd's binfmt.d
        #[arg(long)]
        persist: bool,
        /// In a user namespace: change the machine around it
        #[arg(long)]
        host: bool,
    },
    /// Remove handlers that were registered by "install"; needs root
    Uninstall {
        /// Architectures or platforms
        #[arg(required = true)]
        platforms: Vec<String>,
        /// Also the file for systemd's binfmt.d
        #[arg(long)]
        persist: bool,
        /// In a user namespace: change the machine around it
        #[arg(long)]
        host: bool,
    },
    /// Print the registration of each architecture, and what its flags mean
    Print {
        /// Architectures or platforms [default: all]
        platforms: Vec<String>,
        /// auto, builtin, qemu or a path
        #[arg(long, value_name = "EMULATOR", default_value = "auto")]
        emulator: String,
    },
}

#[derive(clap::Args)]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    /// The image as it was given; an image's name is text.
    pub fn image(&self) -> std::borrow::Cow<'_, str> {
        self.words.first().map(|word| word.to_string_lossy()).unwrap_or_default()
    }

    /// The words after the image.
    pub fn command(&self) -> &[OsString] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// The value of `--provenance` and `--sbom`: a truth value of Go, or settings. What makes no attestation is
/// `false`.
fn attestation(text: &str) -> Result<String, String> {
    if let Ok(wanted) = switch(text) {
        return Ok(wanted.to_string());
    }
    let settings: Vec<&str> = text.split(',').collect();
    if !settings.iter().all(|setting| setting.split_once('=').is_some_and(|(name, _)| !name.is_empty())) {
        return Err("it is true, false, or settings such as mode=max".to_string());
    }
    let disabled = |setting: &&str| setting.strip_prefix("disabled=").is_some_and(|v| switch(v) == Ok(true));
    Ok(if settings.iter().any(disabled) { "false".to_string() } else { text.to_string() })
}

/// A truth value as docker reads it, `strconv.ParseBool` of Go.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it is true or false".to_string()),
    }
}

impl Command {
    /// What must be set up before the command runs.
    pub fn needs(&self) -> Needs {
        match self {
            Command::Run(_) | Command::Unshare(_) => Needs::Namespace,
            Command::Build(_)
            | Command::Pull(_)
            | Command::Load(_)
            | Command::Rmi(_)
            | Command::System(_)
            | Command::Manifest(ManifestCommand::Push { purge: true, .. } | ManifestCommand::Rm { .. }) => {
                Needs::NamespaceIfAllowed
            }
            Command::File(FileArgs { image: Some(_), .. }) | Command::Ldd(LddArgs { image: Some(_), .. }) => {
                Needs::Namespace
            }
            _ => Needs::Nothing,
        }
    }
}
