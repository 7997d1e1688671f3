//! What a container sees besides its image: directories, volumes, images, devices, file systems in memory.

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_builder::devices::Device;
use crossdock_builder::files::copy::{self, CopyOptions, Placement};
use crossdock_builder::files::tree::{Tree, open_in_root};
use crossdock_builder::solver::view::View;
use crossdock_dockerfile::values::{bytes, csv};
use crossdock_oci::Store;
use crossdock_oci::store::{Scratch, TemporaryDirectory, VolumeUse, is_volume_name};
use crossdock_sandbox::{Mount, MountAttributes, MountKind, Source};
use rustix::fs::{Mode, OFlags};

use crate::commands::described_devices;
use crate::output::say;
use crate::values::switch;

#[derive(clap::Args)]
pub struct MountArgs {
    /// Bind a directory or file, or a volume by its name: SOURCE:TARGET[:ro]; TARGET alone is an empty volume
    /// that ends with the container
    #[arg(short, long = "volume", value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub volumes: Vec<String>,
    /// Mounts: type=bind|volume|image|tmpfs,source=...,target=...[,readonly]
    #[arg(long = "mount", value_name = "SPEC")]
    pub mounts: Vec<String>,
    /// An empty file system in memory
    #[arg(long = "tmpfs", value_name = "TARGET")]
    pub tmpfs: Vec<String>,
    /// Device of this machine, or a directory of devices, or a device by its name (CDI)
    #[arg(long = "device", value_name = "PATH[:TARGET]|VENDOR/CLASS=NAME")]
    pub devices: Vec<String>,
}

/// The mounts of a container, and what must not go while it runs.
#[derive(Default)]
pub struct Mounts {
    pub list: Vec<Mount>,
    pub attributes: Vec<MountAttributes>,
    scratches: Vec<Scratch>,
    /// Variables that come with devices, `NAME=VALUE`.
    pub env: Vec<String>,
    volumes: Vec<VolumeUse>,
    directories: Vec<TemporaryDirectory>,
    images: Vec<View>,
}

/// What mounts are made from.
pub struct Surroundings<'a> {
    pub store: &'a Store,
    /// The layers of the image, unpacked, the lowest first.
    pub layers: &'a [PathBuf],
    /// Only one user id exists.
    pub single_id: bool,
    /// Gives the layers of another image, unpacked.
    pub image: &'a dyn Fn(&str) -> Result<Vec<PathBuf>>,
}

/// Makes the mounts that the options ask for. `declared` are the volumes of the image's configuration that
/// need a directory of their own.
pub fn mounts(args: &MountArgs, declared: &[String], of: &Surroundings<'_>) -> Result<Mounts> {
    let mut mounts = Mounts::default();
    for text in &args.volumes {
        mounts.volume_option(text, of)?;
    }
    for text in &args.mounts {
        mounts.mount_option(text, of)?;
    }
    for text in &args.tmpfs {
        mounts.list.push(tmpfs(text, of.single_id)?);
    }
    for text in &args.devices {
        if !described_devices::is_name(text) {
            mounts.list.push(device(text)?);
            continue;
        }
        for device in described_devices::named(text)? {
            tell_what_is_left_out(&device);
            mounts
                .list
                .extend(device.mounts().map_err(|reason| anyhow::anyhow!("--device {text}: {reason}"))?);
            mounts.env.extend(device.env);
        }
    }
    for target in declared {
        if !mounts.list.iter().any(|mount| mount.target == Path::new(target)) {
            mounts.anonymous(target, false, true, of)?;
        }
    }
    if let Some(bad) = mounts.list.iter().find(|m| !m.target.is_absolute()) {
        bail!("the target {} of a mount must be absolute", bad.target.display());
    }
    Ok(mounts)
}

/// A volume by its name.
struct Named<'a> {
    name: &'a str,
    target: &'a str,
    read_only: bool,
    /// Fill an empty volume with what the image has at the target.
    filled: bool,
    /// The directory in the volume that is mounted.
    below: &'a str,
}

impl Mounts {
    /// `--volume`, docker-run(1).
    fn volume_option(&mut self, text: &str, of: &Surroundings<'_>) -> Result<()> {
        let fields: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match fields[..] {
            [target] => ("", target, ""),
            [source, target] => (source, target, ""),
            [source, target, options] => (source, target, options),
            _ => bail!("--volume {text}: the form is [SOURCE:]TARGET[:ro]"),
        };
        let (mut read_only, mut filled, mut recursive, mut is_overlay) = (false, true, true, false);
        let mut attributes = attributes_of(target);
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "ro" | "readonly" => read_only = true,
                "nocopy" => filled = false,
                "bind" => recursive = false,
                "O" => is_overlay = true,
                "U" => bail!("--volume {text}: {OWNERS_STAY}"),
                "rw" | "copy" | "z" | "Z" | "cached" | "delegated" | "consistent" | "rbind" => {}
                other if set_attribute(&mut attributes, other) => {}
                other if propagation(other, &format!("--volume {text}")) => {}
                other => bail!("--volume {text}: unknown option {other}"),
            }
        }
        self.attributes.extend(Some(attributes).filter(MountAttributes::refuse_something));
        if source.is_empty() {
            return self.anonymous(target, read_only, filled, of);
        }
        if !source.starts_with(['/', '.', '~']) {
            if !is_volume_name(source) {
                bail!(
                    "--volume {text}: \"{source}\" is neither a path, such as ./{source}, nor a name of a volume"
                );
            }
            self.named(&Named { name: source, target, read_only, filled, below: "" }, of)?;
        } else {
            // Like docker, create a missing source directory.
            if !Path::new(source).exists() {
                std::fs::create_dir_all(source)
                    .with_context(|| format!("--volume {text}: create {source}"))?;
            }
            self.list.push(bind(source, target, read_only, recursive, &format!("--volume {text}"))?);
        }
        if is_overlay && let Some(mount) = self.list.pop() {
            let MountKind::Bind { source: Source::Path(path), .. } = mount.kind else {
                bail!("--volume {text}: O needs a directory")
            };
            if !path.is_dir() {
                bail!("--volume {text}: O needs a directory, and {} is none", path.display());
            }
            self.overlay(vec![path], target, read_only, of)?;
        }
        Ok(())
    }

    /// `--mount`, docker-run(1).
    fn mount_option(&mut self, text: &str, of: &Surroundings<'_>) -> Result<()> {
        let flag = format!("--mount {text}");
        let (mut kind, mut source, mut target, mut below) = ("volume".to_string(), None, None, String::new());
        let (mut read_only, mut filled, mut recursive, mut make) = (None, true, true, false);
        let (mut size, mut mode) = (None, 0o1777);
        let mut attributes = attributes_of("");
        for field in csv(text).map_err(|e| anyhow::anyhow!("{flag}: {e}"))? {
            let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
            let truth = || switch(value).map_err(|e| anyhow::anyhow!("{flag}: {key}: {e}"));
            match key {
                "type" => kind = value.to_string(),
                "source" | "src" => source = Some(value.to_string()),
                "target" | "dst" | "destination" => target = Some(value.to_string()),
                "readonly" | "ro" => read_only = Some(truth()?),
                "rw" | "readwrite" => read_only = Some(!truth()?),
                "tmpfs-size" => {
                    size = Some(memory(value).with_context(|| format!("{flag}: not a size: {value}"))?)
                }
                "tmpfs-mode" => {
                    mode = u32::from_str_radix(value, 8)
                        .with_context(|| format!("{flag}: not a mode: {value}"))?
                }
                "volume-nocopy" => filled = !truth()?,
                "volume-subpath" | "image-subpath" | "subpath" => below = value.to_string(),
                "volume-driver" if value == "local" => {}
                "volume-driver" | "volume-opt" => bail!(
                    "{flag}: {key}: volumes are directories of the store: mount other file systems yourself, and bind them with type=bind"
                ),
                "bind-nonrecursive" => recursive = !truth()?,
                "bind-recursive" => recursive = value != "disabled",
                "bind-create-src" => make = truth()?,
                "U" | "chown" if truth()? => bail!("{flag}: {OWNERS_STAY}"),
                "bind-propagation" if propagation(value, &flag) => {}
                "bind-propagation" => bail!("{flag}: unknown propagation {value}"),
                "volume-label" | "consistency" | "relabel" | "U" | "chown" | "tmpcopyup" | "notmpcopyup" => {}
                other if value == "true" && set_attribute(&mut attributes, other) => {}
                other => bail!("{flag}: unknown option {other}"),
            }
        }
        let target = target.with_context(|| format!("{flag}: no target"))?;
        // As in docker and podman, images are read-only unless told otherwise.
        let read_only = read_only.unwrap_or(kind == "image");
        attributes.target = PathBuf::from(&target);
        self.attributes.extend(Some(attributes).filter(MountAttributes::refuse_something));
        match (kind.as_str(), source) {
            ("bind", Some(source)) => {
                if make && !Path::new(&source).exists() {
                    std::fs::create_dir_all(&source).with_context(|| format!("{flag}: create {source}"))?;
                }
                self.list.push(bind(&source, &target, read_only, recursive, &flag)?);
                Ok(())
            }
            ("bind", None) => bail!("{flag}: no source"),
            ("volume", Some(name)) if !name.is_empty() => {
                let named = Named { name: &name, target: &target, read_only, filled, below: &below };
                self.named(&named, of).with_context(|| flag)
            }
            ("volume", _) => self.anonymous(&target, read_only, filled, of),
            ("image", Some(name)) if !read_only => match below.as_str() {
                "" => self.overlay((of.image)(&name).with_context(|| flag)?, &target, false, of),
                _ => bail!(
                    "{flag}: a directory of an image is read-only: mount the whole image to write to it"
                ),
            },
            ("image", Some(name)) => self.image(&name, &target, &below, of).with_context(|| flag),
            ("image", None) => bail!("{flag}: no source: name the image"),
            ("tmpfs", _) => {
                let kind = MountKind::Tmpfs { size, mode, owner: (0, 0), executable: true };
                self.list.push(Mount { kind, target: target.into(), read_only });
                Ok(())
            }
            (other, _) => bail!("{flag}: type {other} is not supported, only bind, volume, image and tmpfs"),
        }
    }

    /// A volume that stays.
    fn named(&mut self, named: &Named<'_>, of: &Surroundings<'_>) -> Result<()> {
        let fill = |path: &Path| match named.filled {
            true => copy_of_image(named.target, path, of),
            false => Ok(()),
        };
        let volume = of.store.volume(named.name, fill)?;
        let source = match named.below {
            "" => Source::Path(volume.path().to_path_buf()),
            below => {
                let directory = opened(volume.path())?;
                let found = open_in_root(&directory, below, OFlags::PATH | OFlags::CLOEXEC);
                found.with_context(|| format!("{below} in the volume {}", named.name))?.into()
            }
        };
        self.volumes.push(volume);
        self.push(source, named.target, named.read_only);
        Ok(())
    }

    /// A directory that ends with the container.
    fn anonymous(
        &mut self,
        target: &str,
        read_only: bool,
        filled: bool,
        of: &Surroundings<'_>,
    ) -> Result<()> {
        let directory = of.store.temporary_directory()?;
        let path = directory.path().join("data");
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        if filled {
            copy_of_image(target, &path, of)?;
        }
        self.directories.push(directory);
        self.push(Source::Path(path), target, read_only);
        Ok(())
    }

    /// Another image, read-only.
    fn image(&mut self, name: &str, target: &str, below: &str, of: &Surroundings<'_>) -> Result<()> {
        let view = View::new(of.store, &(of.image)(name)?)?;
        let root = match below {
            "" => view.root().try_clone()?,
            below => {
                let found = open_in_root(view.root(), below, OFlags::PATH | OFlags::CLOEXEC);
                found.with_context(|| format!("{below} in the image {name}"))?
            }
        };
        self.images.push(view);
        self.push(root.into(), target, true);
        Ok(())
    }

    /// Directories, the lowest first, with what the command writes; that goes when the container ends.
    fn overlay(
        &mut self,
        lower: Vec<PathBuf>,
        target: &str,
        read_only: bool,
        of: &Surroundings<'_>,
    ) -> Result<()> {
        let scratch = of.store.new_scratch()?;
        let kind = MountKind::Overlay { lower, upper: scratch.upper(), work: scratch.work() };
        self.scratches.push(scratch);
        self.list.push(Mount { kind, target: target.into(), read_only });
        Ok(())
    }

    fn push(&mut self, source: Source, target: &str, read_only: bool) {
        let kind = MountKind::Bind { source, recursive: false };
        self.list.push(Mount { kind, target: target.into(), read_only });
    }
}

/// What to do instead of podman's option that gives a volume's files to the container's user.
const OWNERS_STAY: &str = "files of a volume keep their owners: change them once, with \"crossdock run --user 0 -v SOURCE:TARGET IMAGE chown -R USER TARGET\"";

fn attributes_of(target: &str) -> MountAttributes {
    MountAttributes { target: target.into(), no_suid: false, no_dev: false, no_exec: false }
}

/// Takes an option of mount(8); `false` if it is none of them.
fn set_attribute(attributes: &mut MountAttributes, option: &str) -> bool {
    match option {
        "nosuid" => attributes.no_suid = true,
        "suid" => attributes.no_suid = false,
        "nodev" => attributes.no_dev = true,
        "dev" => attributes.no_dev = false,
        "noexec" => attributes.no_exec = true,
        "exec" => attributes.no_exec = false,
        _ => return false,
    }
    true
}

/// Whether a word says how later mounts are shared (mount_namespaces(7)); warns that they never are.
fn propagation(word: &str, flag: &str) -> bool {
    match word {
        "private" | "rprivate" | "unbindable" | "runbindable" => true,
        "slave" | "rslave" | "shared" | "rshared" => {
            say(&format!(
                "warning: {flag}: \"{word}\" does nothing: what is mounted later, here or inside, stays where it is mounted"
            ));
            true
        }
        _ => false,
    }
}

/// A size in bytes, or as in tmpfs(5) `10%` of this machine's memory.
fn memory(text: &str) -> Option<u64> {
    let Some(percent) = text.strip_suffix('%') else { return bytes(text) };
    let info = rustix::system::sysinfo();
    let whole = u128::from(info.totalram) * u128::from(info.mem_unit.max(1));
    // More than all memory is allowed, as by the kernel.
    u64::try_from(whole * u128::from(percent.parse::<u32>().ok()?) / 100).ok()
}

fn opened(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

/// Copies what the image has at `target` to the new directory `path`, with owner and mode. What is no
/// directory is not copied: the mount covers it.
fn copy_of_image(target: &str, path: &Path, of: &Surroundings<'_>) -> Result<()> {
    let view = View::new(of.store, of.layers)?;
    let Ok(start) = open_in_root(view.root(), target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
    else {
        return Ok(());
    };
    let doing = || format!("copy {target} of the image to {}", path.display());
    let stat = rustix::fs::fstat(&start).with_context(doing)?;
    let (tree, into) = (Tree::new(start), opened(path)?);
    let options = CopyOptions { xattrs: true, ..CopyOptions::default() };
    let start = tree.entry("").with_context(doing)?;
    copy::copy(&tree, &start, &into, b"", Placement::Exact, &options).with_context(doing)?;
    // A single id cannot give files away; the directory then belongs to the only user there is.
    let _ = std::os::unix::fs::chown(path, Some(stat.st_uid), Some(stat.st_gid));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(stat.st_mode & 0o7777);
    std::fs::set_permissions(path, mode).with_context(doing)
}

/// Warns of what a device asks for and does not get.
pub fn tell_what_is_left_out(device: &Device) {
    for left_out in &device.left_out {
        say(&format!("warning: the device {} comes without {left_out}", device.full_name()));
    }
}

/// `--device PATH[:TARGET][:PERMISSIONS]`, docker-run(1).
pub fn device(text: &str) -> Result<Mount> {
    let is_rights = |text: &str| !text.is_empty() && text.bytes().all(|b| b"rwm".contains(&b));
    let (source, target, rights) = match text.split(':').collect::<Vec<_>>()[..] {
        [source] => (source, source, "rwm"),
        [source, rights] if is_rights(rights) => (source, source, rights),
        [source, target] => (source, target, "rwm"),
        [source, target, rights] if is_rights(rights) => (source, target, rights),
        _ => bail!("--device {text}: the form is PATH[:TARGET][:rwm]"),
    };
    if !source.starts_with('/') {
        bail!(
            "--device {text}: it is neither an absolute path, such as /dev/dri, nor a name VENDOR/CLASS=NAME"
        );
    }
    let meta = std::fs::metadata(source).with_context(|| format!("--device {text}: {source}"))?;
    let kind = meta.file_type();
    if !(kind.is_dir() || kind.is_char_device() || kind.is_block_device()) {
        bail!("--device {text}: {source} is no device: bind it with --volume");
    }
    if !(rights.contains('r') && rights.contains('w')) {
        say(&format!(
            "warning: --device {text}: \"{rights}\" limits nothing: the command has the rights that you have"
        ));
    }
    bind(source, target, false, true, &format!("--device {text}"))
}

/// Reads `--tmpfs TARGET[:OPTION,...]` with the options of tmpfs(5) and mount(8). With a single id everything
/// belongs to root.
fn tmpfs(text: &str, single_id: bool) -> Result<Mount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size, mut mode, mut owner, mut read_only, mut executable) = (None, 0o1777, (0, 0), false, true);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let wrong = |what: &str| anyhow::anyhow!("--tmpfs {text}: {option}: {what}");
        let id = |value: &str| match crossdock_sandbox::user::id(value) {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Err(wrong("not a number")),
            Err(error) => Err(wrong(&error.to_string())),
        };
        match option.split_once('=').unwrap_or((option, "")) {
            ("size", value) => size = Some(memory(value).ok_or_else(|| wrong("not a size"))?),
            ("mode", value) => {
                let bits = u32::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o7777);
                mode = bits.ok_or_else(|| wrong("not an octal mode"))?;
            }
            ("uid", value) => owner.0 = id(value)?,
            ("gid", value) => owner.1 = id(value)?,
            ("ro", "") => read_only = true,
            ("rw", "") => read_only = false,
            ("noexec", "") => executable = false,
            ("exec", "") => executable = true,
            // nosuid and nodev always hold; options for times and propagation make no difference in a
            // container.
            ("nosuid" | "nodev" | "noatime" | "relatime" | "nodiratime" | "private" | "rprivate", "") => {}
            _ => {
                return Err(wrong(
                    "not one of size=, mode=, uid=, gid=, ro, rw, exec, noexec, nosuid, nodev",
                ));
            }
        }
    }
    if single_id {
        owner = (0, 0);
    }
    Ok(Mount { kind: MountKind::Tmpfs { size, mode, owner, executable }, target: target.into(), read_only })
}

/// A file or directory of this machine; `flag` is what asked for it.
pub fn bind(source: &str, target: &str, read_only: bool, recursive: bool, flag: &str) -> Result<Mount> {
    let source = match (source.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(source),
    };
    let source = std::fs::canonicalize(&source).with_context(|| format!("{flag}: {}", source.display()))?;
    Ok(Mount { kind: MountKind::Bind { source: source.into(), recursive }, target: target.into(), read_only })
}
