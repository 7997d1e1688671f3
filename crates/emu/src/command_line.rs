//! Reads the arguments and the environment: our own options, and those that people pass to
//! `qemu-aarch64-static`, `qemu-arm-static` and `qemu-riscv64-static`.

use crossdock_emu_guest::a64::features;
use crossdock_emu_guest::rv64;
use crossdock_emu_linux::arch::arm::cpu;
use crossdock_emu_linux::personality::Cpu;
use crossdock_emu_linux::sysroot;
use crossdock_emu_linux::{Log, Options};

/// The text that `--help` prints.
pub const USAGE: &str = "\
crossdock-emu runs a Linux program of another CPU (now: arm64, 32-bit Arm, riscv64)

usage: crossdock-emu [options] program [arguments]

  -0 NAME                  argv[0] of the program
  -L DIR                   prefer files in DIR to those of the same path (ld.so, libraries)
  -E NAME=VALUE            set a variable of the program's environment
  -U NAME                  remove one
  -r RELEASE               the kernel's release, as uname shows it
  -s BYTES                 size of the stack (with k, M or G)
  --trace syscalls|blocks  print system calls, or the address of each block of code, to standard error
  --check                  run each block of code interpreted and translated, and compare (slow); where
                           there are translations of earlier runs, compare these
  --interpret              translate nothing, to see whether a fault is the translator's
  --perf-map               write /tmp/perf-PID.map, for perf
  -cpu NAME                a 32-bit Arm program sees this CPU: an Armv7 one (as cortex-a7, the default),
                           arm1176 (Armv6) or arm926 (Armv5); others of QEMU's names that we can be, too
  --cpu-features           print what the emulated CPUs can do
  --version                print the version

QEMU's option -strace (--trace syscalls) works, too.

environment:
  CROSSDOCK_EMU_LOG        0: unknown system calls are not reported
                           1: system calls that are refused on purpose are reported, too
  CROSSDOCK_EMU_PERF_MAP   if set, like --perf-map
  CROSSDOCK_EMU_CACHE      folder with translations of programs that have run before: yours, and writable for
                           nobody else; empty for none
  QEMU_LD_PREFIX, QEMU_SET_ENV, QEMU_UNSET_ENV, QEMU_UNAME, QEMU_STACK_SIZE, QEMU_STRACE, QEMU_CPU
                           like -L, -E, -U (several with commas), -r, -s, -strace, -cpu
";

/// What the user wants to run, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Options of the emulator.
    pub options: Options,
    /// Size of the stack in bytes: `-s`.
    pub stack: Option<u64>,
    /// The CPU that 32-bit Arm programs see, if it is chosen: `-cpu`.
    pub cpu: Option<Cpu>,
    /// argv[0] of the program: `-0`.
    pub name: Option<Vec<u8>>,
    /// `-E` and `-U` in their order: each variable is removed, then added if it has a value.
    pub variables: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The program and its arguments.
    pub program: Vec<Vec<u8>>,
}

/// The reason why no program is run.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// Print this text and end with success.
    Print(String),
    /// Report this text and end with an error.
    Refuse(String),
}

fn version() -> String {
    format!("crossdock-emu {} (arm64, arm, riscv64)\n", env!("CARGO_PKG_VERSION"))
}

fn cpu_features() -> String {
    let mut text = format!("arm64: {}\n", features::CPUINFO_FEATURES);
    for (name, cpu) in [("arm/v7", Cpu::V7), ("arm/v6", Cpu::V6), ("arm/v5", Cpu::V5)] {
        text += &format!("{name}: {}\n", cpu::features(cpu).trim_end());
    }
    text += &format!("riscv64: {}\n", rv64::features::ISA);
    text
}

fn refuse<T>(text: impl AsRef<str>) -> Result<T, Ending> {
    Err(Ending::Refuse(format!("crossdock-emu: {}\n", text.as_ref())))
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

impl Wanted {
    /// Reads the variables of the environment.
    pub fn from_environment(environment: &[Vec<u8>]) -> Result<Wanted, Ending> {
        let mut wanted = Wanted::default();
        for text in environment {
            let Some(at) = text.iter().position(|&byte| byte == b'=') else { continue };
            let (name, value) = (&text[..at], &text[at + 1..]);
            match name {
                b"CROSSDOCK_EMU_LOG" => wanted.options.log = Log::from_setting(value),
                b"CROSSDOCK_EMU_PERF_MAP" => wanted.options.perf_map = true,
                b"CROSSDOCK_EMU_CACHE" => {
                    wanted.options.cache = match value {
                        [b'/', ..] => value.to_vec(),
                        _ => sysroot::absolute(value).unwrap_or_default(),
                    };
                }
                b"QEMU_STRACE" => wanted.options.trace_calls = true,
                // A missing directory is no error, since other programs may use the variable, too.
                b"QEMU_LD_PREFIX" => {
                    wanted.options.sysroot = sysroot::absolute(value).unwrap_or_default();
                }
                b"QEMU_SET_ENV" => wanted.set_variables(value)?,
                b"QEMU_UNSET_ENV" => wanted.unset_variables(value),
                b"QEMU_UNAME" => wanted.options.release = value.to_vec(),
                b"QEMU_STACK_SIZE" => wanted.stack = Some(size("QEMU_STACK_SIZE", value)?),
                b"QEMU_CPU" => wanted.cpu = cpu(value)?,
                _ => {}
            }
        }
        Ok(wanted)
    }

    /// Adds options and the program from the arguments after our own name.
    pub fn by_hand(&mut self, arguments: Vec<Vec<u8>>) -> Result<(), Ending> {
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            // QEMU accepts one dash or two.
            let option = match argument.as_slice() {
                b"--" => break,
                [b'-', b'-', option @ ..] | [b'-', option @ ..] if !option.is_empty() => option,
                _ => {
                    self.program.push(argument);
                    break;
                }
            };
            let what = shown(&argument);
            let mut value = || match rest.next() {
                Some(value) => Ok(value),
                None => refuse(format!("{what} needs a value; see --help")),
            };
            match option {
                b"version" | b"v" => return Err(Ending::Print(version())),
                b"cpu-features" => return Err(Ending::Print(cpu_features())),
                b"help" | b"h" => return Err(Ending::Print(USAGE.into())),
                b"0" => self.name = Some(value()?),
                b"L" => {
                    let directory = value()?;
                    match sysroot::absolute(&directory) {
                        Some(path) => self.options.sysroot = path,
                        None => return refuse(format!("-L {}: no such directory", shown(&directory))),
                    }
                }
                b"E" => self.set_variables(&value()?)?,
                b"U" => self.unset_variables(&value()?),
                b"r" => self.options.release = value()?,
                b"s" => self.stack = Some(size("-s", &value()?)?),
                b"cpu" => self.cpu = cpu(&value()?)?,
                b"strace" => self.options.trace_calls = true,
                b"check" => self.options.check = true,
                b"interpret" => self.options.interpret = true,
                b"perf-map" => self.options.perf_map = true,
                b"trace" => match value()?.as_slice() {
                    b"syscalls" => self.options.trace_calls = true,
                    b"blocks" => self.options.trace_blocks = true,
                    other => {
                        return refuse(format!("--trace {}: expected syscalls or blocks", shown(other)));
                    }
                },
                // These options change nothing that the program sees.
                b"singlestep" | b"one-insn-per-tb" => {}
                b"p" if value()? == b"4096" => {}
                b"p" => return refuse("-p: pages have 4096 bytes"),
                b"g" => return refuse("-g: there is no port for debuggers"),
                b"d" | b"D" | b"dfilter" | b"plugin" => {
                    return refuse(format!("{what} is QEMU's alone; use --trace syscalls or --trace blocks"));
                }
                b"B" | b"R" => return refuse(format!("{what}: the program's addresses are the host's")),
                _ => return refuse(format!("unknown option {what}; see --help")),
            }
        }
        self.program.extend(rest);
        if self.program.is_empty() { Err(Ending::Refuse(USAGE.into())) } else { Ok(()) }
    }

    /// Reads `NAME=VALUE`, several separated by commas.
    fn set_variables(&mut self, list: &[u8]) -> Result<(), Ending> {
        for text in list.split(|&byte| byte == b',') {
            match text.iter().position(|&byte| byte == b'=') {
                Some(at) if at > 0 => self.variables.push((text[..at].to_vec(), Some(text.to_vec()))),
                _ => return refuse(format!("-E {}: not NAME=VALUE", shown(text))),
            }
        }
        Ok(())
    }

    fn unset_variables(&mut self, list: &[u8]) {
        self.variables.extend(list.split(|&byte| byte == b',').map(|name| (name.to_vec(), None)));
    }

    /// Applies `-E` and `-U` to the environment.
    pub fn change(&self, environment: &mut Vec<Vec<u8>>) {
        for (name, text) in &self.variables {
            environment.retain(|old| {
                old.strip_prefix(name.as_slice()).is_none_or(|rest| rest.first() != Some(&b'='))
            });
            environment.extend(text.clone());
        }
    }
}

/// Reads a number of bytes, with k, M or G.
fn size(what: &str, text: &[u8]) -> Result<u64, Ending> {
    let (digits, shift) = match text.split_last() {
        Some((b'k' | b'K', digits)) => (digits, 10),
        Some((b'm' | b'M', digits)) => (digits, 20),
        Some((b'g' | b'G', digits)) => (digits, 30),
        _ => (text, 0),
    };
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
    match number.and_then(|number| number.checked_mul(1 << shift)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => refuse(format!("{what} {}: not a number of bytes", shown(text))),
    }
}

/// The CPU of 32-bit Arm that a name of QEMU's means, for `-cpu`; `None` where the name leaves it open.
/// Accepts names of CPUs that have nothing that ours lacks, and `max`. Features after a comma are ignored.
fn cpu(text: &[u8]) -> Result<Option<Cpu>, Ending> {
    match text.split(|&byte| byte == b',').next().unwrap_or(text) {
        b"max" | b"any" => Ok(None),
        b"cortex-a35" | b"cortex-a53" | b"cortex-a57" | b"cortex-a72" | b"cortex-a76" => Ok(None),
        b"cortex-a7" | b"cortex-a8" | b"cortex-a9" | b"cortex-a15" => Ok(Some(Cpu::V7)),
        b"arm1136" | b"arm1136-r2" | b"arm1176" | b"arm11mpcore" => Ok(Some(Cpu::V6)),
        b"arm926" | b"arm946" | b"arm1026" => Ok(Some(Cpu::V5)),
        b"rv64" | b"rva22u64" | b"sifive-u54" => Ok(None),
        _ => refuse(format!(
            "-cpu {}: we can be max, a cortex-a53 or cortex-a76, for 32-bit Arm also a cortex-a7, arm1176 or \
             arm926, for riscv64 an rv64 or rva22u64; see --cpu-features",
            shown(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<Vec<u8>> {
        text.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn by_hand(text: &str) -> Result<Wanted, Ending> {
        let mut wanted = Wanted::default();
        wanted.by_hand(list(text)).map(|()| wanted)
    }

    #[test]
    fn options_of_both_kinds_are_taken() {
        let wanted =
            by_hand("--interpret -0 x -E A=1,B=2 -U C --strace -s 2M -r 6.1 -cpu max,sve=off -- -p -q")
                .expect("they are known");
        assert!(wanted.options.interpret && wanted.options.trace_calls && !wanted.options.trace_blocks);
        assert_eq!((wanted.name, wanted.stack), (Some(b"x".to_vec()), Some(2 << 20)));
        assert_eq!((wanted.options.release.as_slice(), wanted.cpu), (&b"6.1"[..], None));
        assert_eq!(by_hand("-cpu arm1176 a").expect("known").cpu, Some(Cpu::V6));
        assert_eq!(by_hand("-cpu rv64,v=true,vlen=128 a").expect("known").cpu, None);
        assert_eq!(wanted.program, list("-p -q"));
        assert_eq!(by_hand("a -0 b").expect("none").program, list("a -0 b"));
        assert_eq!(by_hand("-L /usr/../usr a").expect("a directory").options.sysroot, b"/usr");
    }

    #[test]
    fn what_cannot_be_honoured_is_said() {
        for (text, part) in [
            ("-g 1234 a", "debugger"),
            ("-d in_asm a", "QEMU's alone"),
            ("-cpu neoverse-v1 a", "arm1176"),
            ("-L /does/not/exist a", "no such directory"),
            ("-E A a", "NAME=VALUE"),
            ("-s 1T a", "number of bytes"),
            ("-s", "needs a value"),
            ("--nonsense a", "unknown option --nonsense"),
            ("-p 65536 a", "4096"),
            ("", "usage"),
        ] {
            match by_hand(text) {
                Err(Ending::Refuse(said)) => assert!(said.contains(part), "{text}: {said}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn variables_are_set_and_removed() {
        let mut wanted =
            Wanted::from_environment(&list("QEMU_SET_ENV=A=2,D=4 QEMU_UNAME=5 QEMU_LD_PREFIX=/none X"))
                .expect("all are known");
        assert_eq!((wanted.options.release.as_slice(), wanted.options.sysroot.len()), (&b"5"[..], 0));
        wanted.by_hand(list("-U B program")).expect("it is known");
        let mut environment = list("A=1 B=2 AB=3");
        wanted.change(&mut environment);
        assert_eq!(environment, list("AB=3 A=2 D=4"));
    }
}
