//! `apt-get install` of packages with maintainer scripts of every kind, under our emulator and under QEMU:
//! the trees must agree.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Case, Soak, Verdict};
use crate::roots;
use crate::tools::{build_release, run};

const PACKAGES: [&str; 31] = [
    "ca-certificates",
    "cargo",
    "cron",
    "curl",
    "dbus",
    "default-jdk-headless",
    "file",
    "gcc",
    "git",
    "gnupg",
    "golang-go",
    "jq",
    "less",
    "libc6-dev",
    "locales",
    "make",
    "nodejs",
    "openssl",
    "perl",
    "procps",
    "python3",
    "rsync",
    "rustc",
    "sqlite3",
    "sudo",
    "systemd",
    "tcl",
    "tzdata",
    "vim-tiny",
    "xz-utils",
    "zstd",
];

/// Python's test suite in a suite of Debian; its name has python's version.
fn python_tests(suite: &str) -> &'static str {
    match suite {
        "bookworm" => "libpython3.11-testsuite",
        _ => "libpython3.13-testsuite",
    }
}

/// Files that differ between two installations on the same machine, and why.
const DIFFERENT: [(&str, &str); 10] = [
    ("/var/log/", "logs with times"),
    ("/var/cache/ldconfig/aux-cache", "times and inodes of libraries"),
    ("/var/lib/apt/", "lists and states of apt with times"),
    ("/etc/machine-id", "random"),
    ("/etc/ssl/certs/java/cacerts", "a key store with times"),
    ("/var/lib/systemd/catalog/database", "a hash table with a random seed"),
    ("/var/cache/apt/", "caches of apt with addresses and times"),
    ("/etc/ssh/ssh_host_", "random keys"),
    ("/var/lib/dbus/machine-id", "random"),
    ("/run/mount", "made by mount where it runs"),
];

/// Where the installation has the translations of a run with `--warm`: in memory that goes with its
/// namespaces, so in neither tree.
const TRANSLATIONS: &str = "/dev/shm";

/// The script that runs as root in its own namespaces, with the emulator registered there.
const INSTALL: &str = r#"
set -e
root=$1 archives=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
[ -z "$CROSSDOCK_EMU_CACHE" ] || mount -t tmpfs -o mode=755 translations "$root$CROSSDOCK_EMU_CACHE"
mount --bind "$archives" "$root/var/cache/apt/archives"
cat /etc/resolv.conf > "$root/etc/resolv.conf"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$root" apt-get -q update
chroot "$root" apt-get -q -y --no-install-recommends -o APT::Keep-Downloaded-Packages=true install "$@"
[ -z "$CROSSDOCK_EMU_CACHE" ] || find "$root$CROSSDOCK_EMU_CACHE" -name '*.image' | wc -l
"#;

/// The root with all packages, installed by QEMU, for this job and for others.
pub fn root_by_qemu(soak: &Soak) -> Result<PathBuf> {
    let root = soak.directory.join("installed-by-qemu");
    if !root.exists() {
        install(soak, &root, "qemu")?;
    }
    Ok(root)
}

/// Installs the packages in a fresh root.
fn install(soak: &Soak, root: &Path, emulator: &str) -> Result<()> {
    let guest = soak.guest;
    let bare = roots::debian("bare", &soak.suite, Some(guest), &["apt"])?;
    let crossdock = build_release()?;
    let partial = root.with_extension("partial");
    let log = root.with_extension("log");
    run(Command::new("rm").arg("-rf").args([&partial, &root.to_path_buf()]))?;
    run(Command::new("cp").arg("-a").args([&bare, &partial]))?;
    // Packages are downloaded once for both installations.
    let archives = soak.directory.join("archives");
    std::fs::create_dir_all(archives.join("partial"))?;
    let all = PACKAGES.into_iter().chain([python_tests(&soak.suite)]);
    let packages: Vec<&str> = all.filter(|name| !guest.without.contains(name)).collect();
    println!("installing {} packages by {emulator}; see {}", packages.len(), log.display());
    let file = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let folder = (soak.is_warm && emulator != "qemu").then_some(TRANSLATIONS);
    let status = Command::new(crossdock)
        .env("CROSSDOCK_ROOT", soak.directory.join("store"))
        .envs(folder.map(|folder| (roots::TRANSLATIONS, folder)))
        .args(["unshare", "--emulator", emulator, "--platform", guest.platform, "--"])
        .args(["timeout", "--kill-after=5", "7200"])
        // /proc can be mounted for process ids of the same user namespace only.
        .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", INSTALL, "sh"])
        .args([&partial, &archives])
        .args(packages)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .context("run crossdock unshare")?;
    if !status.success() {
        bail!("the installation by {emulator} failed, {status}; see {}", log.display());
    }
    std::fs::rename(&partial, root)?;
    Ok(())
}

/// One case, which compares both trees.
pub fn cases(soak: &Soak) -> Result<Vec<Case<'_>>> {
    Ok(vec![Case { name: "install".into(), run: Box::new(move || compare(soak)) }])
}

fn compare(soak: &Soak) -> Result<Verdict> {
    let theirs = root_by_qemu(soak)?;
    let ours = soak.emulator.with_file_name("installed");
    if !ours.exists() {
        install(soak, &ours, &soak.emulator.display().to_string())?;
    }
    let (ours, theirs) = (tree(&ours)?, tree(&theirs)?);
    let mut paths: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    paths.sort();
    paths.dedup();
    let mut differences = Vec::new();
    for path in paths {
        if ours.get(path) == theirs.get(path) || DIFFERENT.iter().any(|(known, _)| path.starts_with(known)) {
            continue;
        }
        differences.push(format!(
            "{path}: {} under us, {} under QEMU",
            shown(ours.get(path)),
            shown(theirs.get(path))
        ));
    }
    if differences.is_empty() {
        println!("{} paths agree", ours.len());
        return Ok(Verdict::Pass);
    }
    let list = soak.emulator.with_file_name("installed.differences");
    std::fs::write(&list, differences.join("\n"))?;
    Ok(Verdict::Fail(format!(
        "{} paths differ, see {}: {}",
        differences.len(),
        list.display(),
        differences[0]
    )))
}

fn shown(entry: Option<&String>) -> &str {
    entry.map_or("nothing", |entry| entry)
}

/// Every path with its type, mode, owner and content, but not its times.
fn tree(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut entries = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))? {
            let path = entry?.path();
            let data = path.symlink_metadata()?;
            let content = if data.is_symlink() {
                path.read_link()?.display().to_string()
            } else if data.is_file() {
                let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                format!("{} bytes, {:016x}", bytes.len(), fnv(&bytes))
            } else {
                String::new()
            };
            let place = format!("/{}", path.strip_prefix(root)?.display());
            let about = format!("{:o} {}:{} {content}", data.mode(), data.uid(), data.gid());
            entries.insert(place, about);
            if data.is_dir() {
                left.push(path);
            }
        }
    }
    Ok(entries)
}

/// FNV-1a: enough to tell whether two files are the same.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
