//! The main job from end to end: bases, registry, build for three platforms, push, pull by platform, run.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::tools::{address_of, build_release, checkout, is_root, output, require, run};

/// Platform, Debian architecture, and what `uname -m` says there.
const PLATFORMS: [(&str, &str, &str); 3] = [
    ("linux/amd64", "amd64", "x86_64"),
    ("linux/arm64", "arm64", "aarch64"),
    ("linux/arm/v7", "armhf", "armv7l"),
];

const SUITE: &str = "bookworm";

pub struct Options {
    as_user: Option<String>,
    emulator: String,
}

impl Options {
    pub fn parse(args: &[&str]) -> Result<Options> {
        let mut options = Options { as_user: None, emulator: "auto".to_string() };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let mut value =
                || rest.next().map(|v| v.to_string()).with_context(|| format!("{arg} needs a value"));
            match *arg {
                "--as-user" => options.as_user = Some(value()?),
                "--emulator" => options.emulator = value()?,
                other => bail!("demo: unknown option {other}"),
            }
        }
        Ok(options)
    }

    /// The demo as root or as an ordinary user.
    pub fn of(as_user: Option<&str>) -> Options {
        Options { as_user: as_user.map(str::to_string), emulator: "auto".to_string() }
    }
}

/// Where a run keeps its files, and who runs it.
struct Demo {
    crossdock: PathBuf,
    directory: PathBuf,
    user: Option<String>,
}

impl Demo {
    /// A command that runs as the user of the demo.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.user {
            None => Command::new(program),
            Some(user) => {
                // setpriv replaces itself by the program, so that ending this process ends the program.
                let mut command = Command::new("setpriv");
                let ids = [format!("--reuid={user}"), format!("--regid={user}"), "--init-groups".to_string()];
                command.args(ids).arg("--").arg(program);
                // The user's own directories, not root's.
                command.env_remove("XDG_DATA_HOME").env("HOME", &self.directory).current_dir("/");
                command
            }
        }
    }

    fn crossdock(&self, store: &str) -> Command {
        let mut command = self.command(&self.crossdock);
        command.env("CROSSDOCK_ROOT", self.directory.join(store));
        command
    }
}

pub fn demo(options: &Options) -> Result<()> {
    let started = Instant::now();
    let mut programs = vec![("mmdebstrap", "mmdebstrap"), ("newuidmap", "uidmap")];
    if options.emulator == "qemu" {
        programs.push(("qemu-arm-static", "qemu-user-static"));
        programs.push(("qemu-aarch64-static", "qemu-user-static"));
    }
    require(&programs)?;
    let built = build_release()?;
    let handlers = host_handlers();
    let demo = place(options, &built)?;
    let archives = bases(&demo)?;

    let registry = Registry::start(&demo)?;
    println!("registry on {}", registry.address);
    let base = format!("{}/debian:{SUITE}", registry.address);
    let platforms = PLATFORMS.map(|(platform, _, _)| platform).join(",");
    println!("publishing the bases as {base}");
    run(demo
        .crossdock("store")
        .args(["build", "--platform", &platforms, "--tag", &base, "--push", "--progress", "plain"])
        .arg(&archives))?;

    let image = format!("{}/zerotier-like:1", registry.address);
    println!("building {image} for {platforms}");
    let context = demo.directory.join("example");
    copy_example(&checkout().join("examples/zerotier-like"), &context)?;
    let build_started = Instant::now();
    run(demo
        .crossdock("store")
        .args(["build", "--platform", &platforms, "--tag", &image, "--push", "--progress", "plain"])
        .args(["--emulator", &options.emulator, "--build-arg", &format!("BUILD_FROM={base}")])
        .arg(&context))?;
    let build_seconds = build_started.elapsed().as_secs_f64();

    // A store that has never seen the image.
    let fresh = format!("fresh-{}", std::process::id());
    for (platform, _, machine) in PLATFORMS {
        run(demo.crossdock(&fresh).args(["pull", "--platform", platform, &image]))?;
        let mut command = demo.crossdock(&fresh);
        command.args(["run", "--rm", "--platform", platform, "--emulator", &options.emulator, &image]);
        command.args(["sh", "-c", "uname -m && curl --version"]);
        let text = output(&mut command)?;
        let mut lines = text.lines();
        let (found, curl) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if found != machine || !curl.starts_with("curl ") {
            bail!(
                "{image} for {platform} says {found:?} and {curl:?}, expected {machine} and the version of curl"
            );
        }
        println!("{platform}: {found}: {curl}");
        run(demo.crossdock(&fresh).args([
            "run",
            "--rm",
            "--platform",
            platform,
            "--emulator",
            &options.emulator,
            &image,
        ]))?;
    }
    run(demo.crossdock(&fresh).args(["system", "prune", "--all", "--force"]).stdout(Stdio::null()))?;
    let _ = std::fs::remove_dir_all(demo.directory.join(&fresh));
    drop(registry);
    if host_handlers() != handlers {
        bail!("the machine's binfmt_misc has changed: nothing here may touch it");
    }
    println!(
        "demo passed{}: example built and pushed in {build_seconds:.1} s, everything in {:.1} s",
        options.as_user.as_ref().map(|user| format!(" as user {user}")).unwrap_or_default(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The machine's own handlers for foreign programs.
fn host_handlers() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The directory of the demo and, for another user, copies of the executables that this user can read.
fn place(options: &Options, built: &Path) -> Result<Demo> {
    let Some(user) = &options.as_user else {
        let directory = checkout().join("target/demo");
        std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        return Ok(Demo { crossdock: built.to_path_buf(), directory, user: None });
    };
    if !is_root() {
        bail!("--as-user needs root");
    }
    let directory = PathBuf::from(format!("/var/tmp/crossdock-demo-{user}"));
    std::fs::create_dir_all(&directory)?;
    if !std::fs::read_to_string("/etc/passwd")?.lines().any(|line| line.split(':').next() == Some(user)) {
        run(Command::new("useradd").args(["--create-home", "--shell", "/bin/sh", user]))?;
        // An earlier user of this name may have had another id. The Debian roots are worth keeping.
        run(Command::new("find")
            .arg(&directory)
            .args(["-mindepth", "1", "-maxdepth", "1"])
            .args(["!", "-name", "bases", "-exec", "rm", "-rf", "{}", "+"]))?;
        run(Command::new("chown").arg("-R").arg(format!("{user}:")).arg(&directory))?;
    }
    run(Command::new("chown").arg(format!("{user}:")).arg(&directory))?;
    for name in ["crossdock", "crossdock-emu"] {
        let (from, to) = (built.with_file_name(name), directory.join(name));
        // Not over the old executable, which may be running.
        let _ = std::fs::remove_file(&to);
        std::fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        std::fs::set_permissions(&to, PermissionsExt::from_mode(0o755))?;
    }
    Ok(Demo { crossdock: directory.join("crossdock"), directory, user: Some(user.clone()) })
}

fn copy_example(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o755))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let path = entry?.path();
        std::fs::copy(&path, to.join(path.file_name().expect("an entry has a name")))?;
    }
    Ok(())
}

/// Prepares a context with one Debian root per platform and a Dockerfile that makes images of them. Existing
/// roots are kept.
fn bases(demo: &Demo) -> Result<PathBuf> {
    let context = demo.directory.join("bases");
    let mut making = Vec::new();
    run(demo.command("mkdir").arg("-p").arg(&context))?;
    let mirror = mirror()?;
    for (_, architecture, _) in PLATFORMS {
        let archive = context.join(format!("{architecture}.tar"));
        if archive.exists() {
            continue;
        }
        println!("making a Debian root for {architecture}; this takes a minute or two");
        let partial = context.join(format!("{architecture}.partial.tar"));
        let log = demo.directory.join(format!("{architecture}.log"));
        let file = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        // mmdebstrap sees root and handlers for foreign programs, both only in its own namespace.
        let child = demo
            .crossdock("store")
            .args(["unshare", "--", "mmdebstrap", "--mode=root", "--skip=check/qemu", "--variant=apt"])
            .arg(format!("--architectures={architecture}"))
            .arg(SUITE)
            .arg(&partial)
            .arg(format!("deb {mirror} {SUITE} main"))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("run mmdebstrap")?;
        making.push((child, partial, archive, log));
    }
    for (mut child, partial, archive, log) in making {
        let status = child.wait().context("wait for mmdebstrap")?;
        if !status.success() {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!("mmdebstrap failed, {status}; the end of {}:\n{}", log.display(), tail.join("\n"));
        }
        std::fs::rename(&partial, &archive)?;
    }
    // Debian calls arm/v7 armhf; the other names are the same as Docker's.
    let dockerfile = "FROM scratch\nARG TARGETARCH TARGETVARIANT\nADD ${TARGETARCH}${TARGETVARIANT:+hf}.tar /\nCMD [\"bash\"]\n";
    let path = context.join("Dockerfile");
    std::fs::write(&path, dockerfile).with_context(|| format!("write {}", path.display()))?;
    Ok(context)
}

/// The Debian mirror that this machine's apt uses.
pub fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(SITE)", "Identifier: Packages"]);
    let sites = output(&mut command)?;
    let plain = sites.lines().find(|site| site.trim_end_matches('/').ends_with("/debian"));
    let site = plain.or_else(|| sites.lines().next());
    Ok(site.context("apt has no mirror: run apt-get update")?.to_string())
}

/// The embedded registry on a free port; ended when dropped.
pub struct Registry {
    child: Child,
    pub address: String,
}

/// Whether the Debian roots are there.
pub fn bases_are_made() -> bool {
    let bases = checkout().join("target/demo/bases");
    PLATFORMS.iter().all(|(_, architecture, _)| bases.join(format!("{architecture}.tar")).exists())
}

impl Registry {
    /// A registry in `directory`, served by `crossdock`.
    pub fn start_with(crossdock: &Path, directory: &Path) -> Result<Registry> {
        Registry::start(&Demo {
            crossdock: crossdock.to_path_buf(),
            directory: directory.to_path_buf(),
            user: None,
        })
    }

    fn start(demo: &Demo) -> Result<Registry> {
        let file = demo.directory.join("registry.addr");
        let _ = std::fs::remove_file(&file);
        let mut child = demo
            .crossdock("store")
            .args(["registry", "serve", "--addr", "127.0.0.1:0", "--addr-file"])
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .context("start the registry")?;
        let address = address_of(&mut child, &file)?;
        Ok(Registry { child, address })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
