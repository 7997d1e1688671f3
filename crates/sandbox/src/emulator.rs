//! Emulators, the executables for a guest architecture: how they are found, and what they are asked.

#![expect(clippy::disallowed_methods, reason = "files of the host")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;

use crossdock_platform::Platform;

use crate::architecture::{Architecture, known_architectures};
use crate::error::SandboxError;
use crate::programs::{find_program, is_static};
use crate::registration::Flags;

/// Name of our own emulator's executable.
const BUILTIN: &str = "crossdock-emu";

/// Guest architectures of our own emulator.
pub const BUILTIN_ARCHITECTURES: &[&str] = &["arm64", "arm", "riscv64"];

/// Where our emulator was looked for, and what to do.
const NO_BUILTIN: &str = "crossdock-emu is neither beside crossdock nor in PATH";
const BUILTIN_FIX: &str = "copy crossdock-emu beside crossdock";

/// An executable that runs programs of another architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulator {
    /// `GOARCH` name of the programs it runs.
    pub architecture: String,
    /// The executable. Statically linked: its libraries would not exist in an image.
    pub path: PathBuf,
}

/// Which emulator to use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// Our own if it is installed and knows the architecture, otherwise QEMU. On a CPU where ours cannot
    /// translate, QEMU comes first.
    #[default]
    Auto,
    /// QEMU's user mode.
    Qemu,
    /// Our own.
    Builtin,
    /// This executable.
    Path(PathBuf),
}

impl FromStr for Choice {
    type Err = String;

    /// `auto`, `qemu`, `builtin`, or a path with a slash in it.
    fn from_str(text: &str) -> Result<Choice, String> {
        match text {
            "auto" => Ok(Choice::Auto),
            "qemu" => Ok(Choice::Qemu),
            "builtin" => Ok(Choice::Builtin),
            path if path.contains('/') => Ok(Choice::Path(path.into())),
            other => Err(format!(
                "\"{other}\" is no emulator: give auto, qemu, builtin or a path such as ./{other}"
            )),
        }
    }
}

impl Emulator {
    /// An executable for an architecture, not checked.
    pub fn at(architecture: &str, path: impl Into<PathBuf>) -> Emulator {
        Emulator { architecture: architecture.into(), path: path.into() }
    }

    /// File name, for messages.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Whether it is our own.
    pub fn is_builtin(&self) -> bool {
        self.name() == BUILTIN
    }

    /// Whether it is QEMU's user mode.
    pub fn is_qemu(&self) -> bool {
        self.name().starts_with("qemu-")
    }

    /// Flags for its registration: F and C always, P for emulators that know `AT_FLAGS` (QEMU 6.0, ours).
    /// Another emulator would take the preserved `argv[0]` for the first argument.
    pub fn flags(&self) -> Flags {
        let name = self.name();
        // The names of Debian's wrappers say so: aarch64-binfmt-P.
        let knows = self.is_qemu() || self.is_builtin() || name.ends_with("-binfmt-P");
        Flags { preserve_argv0: knows, ..Flags::ALL }
    }

    /// The first line of `--version`, if it prints one.
    pub fn version(&self) -> Option<String> {
        let output =
            Command::new(&self.path).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
        let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
        text.lines().next().map(str::to_string).filter(|line| !line.is_empty())
    }
}

/// Finds an emulator for an architecture (`GOARCH` name). Does not check whether one is needed, see
/// [`is_native`].
pub fn find(architecture: &str, choice: &Choice) -> Result<Emulator, SandboxError> {
    let known = Architecture::named(architecture)
        .ok_or_else(|| SandboxError::UnknownArchitecture(architecture.into()))?;
    let missing = |looked: String, fix: &str| SandboxError::NoEmulator {
        architecture: architecture.into(),
        looked,
        fix: fix.into(),
    };
    match choice {
        Choice::Path(path) => match is_static(path) {
            Ok(true) => Ok(Emulator::at(architecture, path)),
            Ok(false) => Err(missing(
                format!(
                    "{} is not statically linked, its libraries would be missing in images",
                    path.display()
                ),
                "give a static executable",
            )),
            Err(error) => Err(missing(format!("{}: {error}", path.display()), "give an executable")),
        },
        Choice::Builtin if !BUILTIN_ARCHITECTURES.contains(&known.name) => Err(missing(
            format!("{BUILTIN} runs programs for {} only", BUILTIN_ARCHITECTURES.join(", ")),
            "choose --emulator qemu",
        )),
        Choice::Builtin => builtin(known).ok_or_else(|| missing(NO_BUILTIN.into(), BUILTIN_FIX)),
        Choice::Qemu => qemu(known),
        Choice::Auto => automatic(known, builtin(known), qemu(known), translates()),
    }
    .map(|mut emulator| {
        emulator.path = fs::canonicalize(&emulator.path).unwrap_or(emulator.path);
        emulator
    })
}

/// What [`Choice::Auto`] takes. Where ours only interprets, QEMU is faster.
fn automatic(
    architecture: &Architecture,
    builtin: Option<Emulator>,
    qemu: Result<Emulator, SandboxError>,
    translates: bool,
) -> Result<Emulator, SandboxError> {
    match (builtin, qemu) {
        (Some(builtin), qemu) if translates || qemu.is_err() => Ok(builtin),
        (None, Err(SandboxError::NoEmulator { looked, fix, .. }))
            if BUILTIN_ARCHITECTURES.contains(&architecture.name) =>
        {
            Err(SandboxError::NoEmulator {
                architecture: architecture.name.into(),
                looked: format!("{NO_BUILTIN}, and {looked}"),
                fix: format!("{BUILTIN_FIX}, or {fix}"),
            })
        }
        (_, qemu) => qemu,
    }
}

/// Whether our own emulator translates here: its code needs x86-64-v3. On other CPUs it interprets.
pub fn translates() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("fma")
        && has!("f16c")
        && has!("lzcnt")
        && has!("popcnt")
        && has!("sse4.2")
}

/// Our own emulator: beside this program, otherwise where programs usually are.
fn builtin(architecture: &Architecture) -> Option<Emulator> {
    if !BUILTIN_ARCHITECTURES.contains(&architecture.name) {
        return None;
    }
    let beside = std::env::current_exe().ok().map(|path| path.with_file_name(BUILTIN));
    let path = beside
        .filter(|path| is_static(path).unwrap_or(false))
        .or_else(|| find_program(BUILTIN).filter(|path| is_static(path).unwrap_or(false)))?;
    Some(Emulator::at(architecture.name, path))
}

fn qemu(architecture: &Architecture) -> Result<Emulator, SandboxError> {
    let names = [format!("qemu-{}-static", architecture.qemu), format!("qemu-{}", architecture.qemu)];
    let mut dynamic = None;
    for path in names.iter().filter_map(|name| find_program(name)) {
        if is_static(&path).unwrap_or(false) {
            return Ok(Emulator::at(architecture.name, path));
        }
        dynamic.get_or_insert(path);
    }
    let looked = match dynamic {
        Some(path) => format!("{} is not statically linked", path.display()),
        None => format!("neither {} nor {} is in PATH or the usual directories", names[0], names[1]),
    };
    Err(SandboxError::NoEmulator {
        architecture: architecture.name.into(),
        looked,
        fix: "sudo apt-get install --no-install-recommends qemu-user-static".into(),
    })
}

/// Whether the kernel and CPU of this machine run programs of the platform themselves. 386 on amd64 is tried
/// out, since some kernels are built without it.
pub fn is_native(platform: &Platform) -> bool {
    let host = Platform::host();
    match (host.architecture.as_str(), platform.normalised().architecture.as_str()) {
        ("amd64", "386") => runs_386(),
        // 64-bit Arm servers often lack the 32-bit mode; the rest of what an architecture includes is in its
        // rank.
        ("arm64", "arm") => false,
        _ => platform.is_native(),
    }
}

fn runs_386() -> bool {
    static RUNS: OnceLock<bool> = OnceLock::new();
    *RUNS.get_or_init(|| try_386().unwrap_or(false))
}

/// Runs a program of 9 bytes from memory: `mov eax, 1; xor ebx, ebx; int 0x80`, that is `exit(0)`.
fn try_386() -> std::io::Result<bool> {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    const BASE: u32 = 0x10000;
    const CODE: &[u8] = b"\xb8\x01\0\0\0\x31\xdb\xcd\x80";
    let size = 52 + 32 + CODE.len() as u32;
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    let words =
        |elf: &mut Vec<u8>, list: &[u32]| list.iter().for_each(|w| elf.extend_from_slice(&w.to_le_bytes()));
    words(&mut elf, &[BASE + 84, 52, 0, 0]);
    [52u16, 32, 1, 0, 0, 0].iter().for_each(|h| elf.extend_from_slice(&h.to_le_bytes()));
    words(&mut elf, &[1, 0, BASE, BASE, size, size, 5, 0x1000]);
    elf.extend_from_slice(CODE);
    let memory = rustix::fs::memfd_create("crossdock-386", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = fs::File::from(memory);
    file.write_all(&elf)?;
    // A file that is open for writing cannot be executed.
    let read_only = fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    drop(file);
    let status = Command::new(format!("/proc/self/fd/{}", read_only.as_raw_fd()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

/// The known architectures, for messages.
pub fn architectures() -> String {
    known_architectures()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read() {
        assert_eq!("qemu".parse(), Ok(Choice::Qemu));
        assert_eq!("./emu".parse(), Ok(Choice::Path("./emu".into())));
        assert!("wine".parse::<Choice>().is_err());
    }

    #[test]
    fn a_missing_emulator_says_what_to_install() {
        let error = find("pdp11", &Choice::Auto).expect_err("unknown").to_string();
        assert!(error.contains("arm64"), "{error}");
        let error = find("arm64", &Choice::Path("/nonexistent/x".into())).expect_err("missing").to_string();
        assert!(error.contains("/nonexistent/x"), "{error}");
        let error = find("s390x", &Choice::Builtin).expect_err("not ours").to_string();
        assert!(error.contains(BUILTIN) && error.contains("--emulator qemu"), "{error}");
    }

    #[test]
    fn ours_comes_first_where_it_translates() {
        let arm64 = Architecture::named("arm64").expect("known");
        let [ours, theirs] = ["/x/crossdock-emu", "/x/qemu-aarch64-static"].map(|p| Emulator::at("arm64", p));
        let no_qemu = || {
            let (looked, fix) = ("no QEMU".to_string(), "get QEMU".to_string());
            Err(SandboxError::NoEmulator { architecture: "arm64".into(), looked, fix })
        };
        let chosen = |builtin: Option<&Emulator>, qemu, translates| {
            automatic(arm64, builtin.cloned(), qemu, translates).expect("one")
        };
        assert_eq!(chosen(Some(&ours), Ok(theirs.clone()), true), ours);
        assert_eq!(chosen(Some(&ours), no_qemu(), true), ours);
        assert_eq!(chosen(Some(&ours), Ok(theirs.clone()), false), theirs);
        assert_eq!(chosen(Some(&ours), no_qemu(), false), ours);
        assert_eq!(chosen(None, Ok(theirs.clone()), true), theirs);
        let error = automatic(arm64, None, no_qemu(), true).expect_err("none").to_string();
        for part in [NO_BUILTIN, BUILTIN_FIX, "no QEMU", "get QEMU"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn this_machine_is_native() {
        assert!(is_native(&Platform::host()));
        assert!(
            !is_native(&Platform::new("linux", "s390x", None)) || Platform::host().architecture == "s390x"
        );
    }

    #[test]
    fn only_emulators_that_know_it_get_argv0_preserved() {
        assert!(Emulator::at("arm64", "/usr/bin/qemu-aarch64-static").flags().preserve_argv0);
        assert!(!Emulator::at("arm64", "/opt/other").flags().preserve_argv0);
    }
}
