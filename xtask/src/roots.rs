//! Debian roots for the host's CPU and for a guest's, and how to run a command in one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::demo;
use crate::guests::{Guest, SUITE};
use crate::tools::{build_release, checkout, require};

/// A Debian root for a guest, or for the host's CPU, created once and kept below `target/roots`.
pub fn debian(name: &str, suite: &str, guest: Option<&Guest>, packages: &[&str]) -> Result<PathBuf> {
    let architecture = guest.map_or("amd64", |guest| guest.debian);
    let of_suite = if suite == SUITE { String::new() } else { format!("-{suite}") };
    let root = checkout().join("target/roots").join(format!("{name}-{architecture}{of_suite}"));
    if root.exists() {
        return Ok(root);
    }
    require(&[("mmdebstrap", "mmdebstrap"), ("newuidmap", "uidmap")])?;
    if let Some(guest) = guest {
        guest.require_tools()?;
    }
    let crossdock = build_release()?;
    println!("making {}; this takes some minutes", root.display());
    std::fs::create_dir_all(checkout().join("target/roots"))?;
    let partial = root.with_extension("partial");
    let log = root.with_extension("log");
    let file = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
    crate::tools::run(Command::new("rm").arg("-rf").arg(&partial))?;
    // mmdebstrap sees root and handlers for foreign programs, both only in its own namespace. The emulator is
    // QEMU, so that the emulator under test does not create the root that it is tested in.
    let status = Command::new(crossdock)
        .env("CROSSDOCK_ROOT", checkout().join("target/roots/store"))
        .args(["unshare", "--emulator", "qemu", "--platform"])
        .args([guest.map_or("linux/arm64", |guest| guest.platform), "--"])
        .args(["mmdebstrap", "--mode=root", "--skip=check/qemu", "--variant=apt"])
        .arg(format!("--architectures={architecture}"))
        .arg(format!("--include={}", packages.join(",")))
        .arg(suite)
        .arg(&partial)
        .arg(format!("deb {} {suite} main", demo::mirror()?))
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .context("run mmdebstrap")?;
    if !status.success() {
        bail!("mmdebstrap failed, {status}; see {}", log.display());
    }
    std::fs::rename(&partial, &root)?;
    Ok(root)
}

/// The emulator that runs the guest's programs in a root.
#[derive(Clone, Debug)]
pub struct Handler {
    /// The executable and whose programs it runs; `None` if the root is for the host's CPU.
    pub runs: Option<(PathBuf, &'static Guest)>,
}

/// Mounts what programs expect, writes the handler's line to the namespace's own binfmt_misc (Linux 6.7), and
/// executes the rest.
const ENTER: &str = r#"
set -e
root=$1 line=$2
shift 2
mount -t proc proc "${root%/}/proc"
if [ "$root" != / ]; then
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
fi
if [ -n "$line" ]; then
    misc=${root%/}/proc/sys/fs/binfmt_misc
    mount -t binfmt_misc binfmt "$misc"
    printf '%s' "$line" > "$misc/register"
fi
exec "$@"
"#;

/// A command in its own namespaces: root in a user namespace, its own binfmt_misc, and the end of all its
/// processes after `seconds`. It runs `program`, with `root` mounted but not entered.
pub fn enter(root: &Path, handler: &Handler, seconds: u64, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &seconds.to_string()]);
    command.args(["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(["sh", "-c", ENTER, "sh"]).arg(root);
    let line = handler.runs.as_ref().map(|(path, guest)| guest.registration(&path.display().to_string()));
    command.arg(line.unwrap_or_default()).arg(program);
    command.stdin(Stdio::null());
    command
}

/// The variable that names a folder with the emulator's translations (docs/dev/code-cache.md).
pub const TRANSLATIONS: &str = "CROSSDOCK_EMU_CACHE";

/// The variable that tells QEMU which CPU to be.
pub const CPU: &str = "QEMU_CPU";

/// The hidden task `measure ROOT TIMES PROGRAM ARGUMENTS...`: enters the root, runs the command, and prints
/// the seconds of CPU time of its whole process tree, then the command's output. The variables of
/// [`TRANSLATIONS`] and [`CPU`] are handed on.
pub fn measure(args: &[&str]) -> Result<()> {
    let [root, times, program, arguments @ ..] = args else {
        bail!("measure ROOT TIMES PROGRAM ARGUMENTS...")
    };
    let times: u32 = times.parse().context("a number of times")?;
    std::os::unix::fs::chroot(root).with_context(|| format!("enter {root}"))?;
    std::env::set_current_dir("/")?;
    let before = children_seconds();
    let mut output = Vec::new();
    for _ in 0..times {
        let Output { status, stdout, stderr } = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root"), ("LC_ALL", "C")])
            .envs([TRANSLATIONS, CPU].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {program}"))?;
        if !status.success() {
            let text = String::from_utf8_lossy(&stderr);
            bail!("{program}: {status}: {}", text.lines().last().unwrap_or_default());
        }
        output = stdout;
    }
    println!("{:.6}", (children_seconds() - before) / f64::from(times));
    print!("{}", String::from_utf8_lossy(&output));
    Ok(())
}

/// CPU time of all ended children that were waited for, including their own children.
fn children_seconds() -> f64 {
    // SAFETY: getrusage fills the structure, for which zeroes are valid.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
