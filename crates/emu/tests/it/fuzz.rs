//! No program makes the emulator crash or hang.
//!
//! `CROSSDOCK_FUZZ_SECONDS` sets the length of the runs, `CROSSDOCK_FUZZ_SEED` their first seed.

use crate::guest::{ARM_CROSS, CROSS, EMULATOR, RISCV_CROSS, compile, run, sources};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Runs `one` with increasing seeds for the time in the settings.
pub fn for_a_while(mut one: impl FnMut(u64)) {
    let end = Instant::now() + Duration::from_secs(setting("CROSSDOCK_FUZZ_SECONDS", 1));
    let mut seed = setting("CROSSDOCK_FUZZ_SEED", 1);
    while Instant::now() < end {
        one(seed);
        seed += 1;
    }
    println!("seeds up to {seed}");
}

/// Checks that there is no message about a fault of the emulator itself or a panic.
pub fn assert_sound(seed: u64, output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    let sound = !errors.contains("internal fault") && !errors.contains("panicked");
    assert!(sound, "seed {seed}: {:?}: {errors}", output.status);
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Runs a program in its own namespaces, in a directory with nothing else, as the user nobody, with small
/// limits.
const CAGE: &str = r#"
ulimit -c 0 -t 20 -n 64
exec setpriv $1 unshare --user --map-root-user --mount --pid --fork --kill-child --net --ipc --uts \
    timeout --signal=KILL "$5" chroot "$2" /crossdock-emu /program "$3" "$4"
"#;

#[test]
fn random_system_calls_do_no_harm() {
    random_system_calls(CROSS);
}

#[test]
fn random_system_calls_of_arm_do_no_harm() {
    random_system_calls(ARM_CROSS);
}

#[test]
fn random_system_calls_of_riscv_do_no_harm() {
    random_system_calls(RISCV_CROSS);
}

/// Seconds within which each random call has returned: those that wait are interrupted after 5 milliseconds.
const PATIENCE: u64 = 60;

fn random_system_calls(compiler: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("others may enter");
    let copied = Command::new("cp").arg(EMULATOR).arg(root.join("crossdock-emu")).status();
    assert!(copied.expect("cp runs").success(), "the emulator is not copied");
    compile(compiler, &sources().join("fuzz/random_calls.c"), &root.join("program"));
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0);
    let user = if is_root { "--reuid=65534 --regid=65534 --clear-groups" } else { "" };
    for_a_while(|seed| {
        let start = Instant::now();
        let output = run(Command::new("bash")
            .args([
                "-c",
                &CAGE.replace("setpriv $1", if is_root { "setpriv $1" } else { "env" }),
                "bash",
                user,
            ])
            .arg(root)
            .args([&seed.to_string(), "2000", &PATIENCE.to_string()]));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.contains("unshare:") && !errors.contains("chroot:"), "the cage is broken: {errors}");
        assert_sound(seed, &output);
        // A program that forbids itself the CPU is killed much earlier.
        assert!(start.elapsed().as_secs() < PATIENCE, "seed {seed}: a call does not end: {errors}");
    });
}

/// Changes some bytes of a program, mostly in its headers.
fn mutate(original: &[u8], random: &mut Random) -> Vec<u8> {
    const EDGES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, 0x10];
    let mut bytes = original.to_vec();
    for _ in 0..1 + random.below(6) {
        // Changes the ELF header, the program headers, the first page, or any byte.
        let end = [64, 64 + 8 * 56, 4096, bytes.len()][random.below(4)].min(bytes.len());
        let at = random.below(end);
        bytes[at] = if random.below(2) == 0 { random.next() as u8 } else { EDGES[random.below(8)] };
    }
    if random.below(8) == 0 {
        bytes.truncate(random.below(original.len()));
    }
    bytes
}

#[test]
fn random_programs_do_no_harm() {
    random_programs(CROSS);
}

#[test]
fn random_programs_of_arm_do_no_harm() {
    random_programs(ARM_CROSS);
}

#[test]
fn random_programs_of_riscv_do_no_harm() {
    random_programs(RISCV_CROSS);
}

fn random_programs(compiler: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("source.c");
    fs::write(&source, "int main(void) { return 42; }\n").expect("the source is written");
    let program = directory.path().join("program");
    compile(compiler, &source, &program);
    let statically = fs::read(&program).expect("the program is read");
    let dynamic = dynamic_program(compiler, directory.path(), &source);
    let mutant = directory.path().join("mutant");
    for_a_while(|seed| {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let bytes = mutate(if random.below(3) == 0 { &dynamic } else { &statically }, &mut random);
        let _ = fs::remove_file(&mutant);
        fs::write(&mutant, bytes).expect("the mutant is written");
        fs::set_permissions(&mutant, fs::Permissions::from_mode(0o755)).expect("it is executable");
        // The mutant has no files to harm: it does what main does, or runs random code for at most 5 seconds.
        let output = run(Command::new("timeout").args(["--signal=KILL", "5", EMULATOR]).arg(&mutant));
        let ended = output.status.code().is_some() || output.status.signal().is_some();
        assert!(ended, "seed {seed}");
        assert_sound(seed, &output);
    });
}

/// A program whose header names an interpreter.
fn dynamic_program(compiler: &str, directory: &Path, source: &Path) -> Vec<u8> {
    let program = directory.join("dynamic");
    let output = run(Command::new(compiler).args(["-O1", "-o"]).args([&program, &source.to_path_buf()]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(program).expect("the program is read")
}
