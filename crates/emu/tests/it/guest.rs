//! Compiles and runs programs of the guest.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The emulator under test.
pub const EMULATOR: &str = env!("CARGO_BIN_EXE_crossdock-emu");

/// Directory of the C programs.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-tests")
}

/// Compiles a C program, for the guest or the host.
pub fn compile(compiler: &str, source: &Path, program: &Path) {
    let result = Command::new(compiler)
        .args(["-O1", "-w", "-static", "-pthread", "-o"])
        .args([program, source])
        .arg("-lm")
        .stdin(Stdio::null())
        .output();
    match result {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{}: {}", source.display(), String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!(
            "{compiler}: {error}; install gcc, libc6-dev, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, \
             gcc-arm-linux-gnueabihf, libc6-dev-armhf-cross, gcc-riscv64-linux-gnu and \
             libc6-dev-riscv64-cross (Debian)"
        ),
    }
}

/// The compiler for arm64.
pub const CROSS: &str = "aarch64-linux-gnu-gcc";

/// The compiler for 32-bit Arm.
pub const ARM_CROSS: &str = "arm-linux-gnueabihf-gcc";

/// The compiler for riscv64.
pub const RISCV_CROSS: &str = "riscv64-linux-gnu-gcc";

/// Runs a command to its end. If it does not exist, fails and says what to install.
pub fn run(command: &mut Command) -> Output {
    let what = format!("{command:?}");
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{what}: {error}; install qemu-user-static (Debian)"))
}

/// Standard output and how the command ended, as text.
pub fn verdict(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => text.into_owned(),
        (Some(code), _) => format!("{text}exit status {code}\n"),
        (_, Some(signal)) => format!("{text}killed by signal {signal}\n"),
        _ => format!("{text}no status\n"),
    }
}
