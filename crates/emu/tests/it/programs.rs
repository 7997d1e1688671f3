//! Each program of `guest-tests` does the same in the emulator as under its oracle.

use crate::guest::{ARM_CROSS, CROSS, EMULATOR, RISCV_CROSS, compile, run, sources, verdict};
use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a program runs: its compiler, and the emulator that it is compared with.
struct Guest {
    compiler: &'static str,
    qemu: &'static str,
    /// Marks sources whose oracle is the host for this guest alone.
    native: &'static str,
    /// Whether programs also run on a host without calls of 32-bit programs.
    uses_calls32: bool,
}

const ARM64: Guest = Guest {
    compiler: CROSS,
    qemu: "qemu-aarch64-static",
    native: "// oracle on arm64: native",
    uses_calls32: false,
};
const ARM: Guest = Guest {
    compiler: ARM_CROSS,
    qemu: "qemu-arm-static",
    native: "// oracle on arm: native",
    uses_calls32: true,
};

const RISCV: Guest = Guest {
    compiler: RISCV_CROSS,
    qemu: "qemu-riscv64-static",
    native: "// oracle on riscv64: native",
    uses_calls32: false,
};

fn check(guest: &Guest, name: &str) {
    let source = sources().join(format!("{name}.c"));
    let text = fs::read_to_string(&source).expect("the source is there");
    let directory = tempfile::tempdir().expect("a directory for programs");
    let name = source.file_stem().expect("a name");
    let program = directory.path().join(name);
    compile(guest.compiler, &source, &program);
    let expected = if text.contains("// oracle: file") {
        fs::read_to_string(source.with_extension("out")).expect("the expected output is there")
    } else if text.contains("// oracle: native") || text.contains(guest.native) {
        let native = directory.path().join("native");
        fs::create_dir(&native).expect("a directory");
        compile("cc", &source, &native.join(name));
        verdict(&run(&mut Command::new(native.join(name))))
    } else {
        verdict(&run(Command::new(guest.qemu).arg(&program)))
    };
    let output = run(Command::new(EMULATOR).arg(&program));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(verdict(&output), expected, "{} differs; standard error: {errors}", source.display());
    if guest.uses_calls32 {
        let host = directory.path().join("without_calls32");
        compile("cc", &sources().join("host/without_calls32.c"), &host);
        let output = run(Command::new(host).arg(EMULATOR).arg(&program));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            verdict(&output),
            expected,
            "{} differs without calls of 32-bit programs; standard error: {errors}",
            source.display()
        );
    }
}

macro_rules! programs {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(&ARM64, stringify!($name)); })*

        #[test]
        fn every_program_is_run() {
            let listed = [$(stringify!($name)),*];
            for entry in fs::read_dir(sources()).expect("the directory is there") {
                let path = entry.expect("an entry").path();
                if path.extension().is_some_and(|extension| extension == "c") {
                    let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                    assert!(listed.contains(&name.as_str()), "{name}.c is not in the list of this file");
                }
            }
        }
    };
}

programs! {
    address_limit barriers child_after_fault clone3 clone_words code_changes division error_numbers exec_rights exec_self exe_replaced exit_signal fault_blocks files fork_wait high_stack ipc library limits masked_bytes memory memory_locks no_way_up
    openat2_links procmap_query return_loop seccomp return_to_odd seen_by_others sigaction_info sigaltstack sigfpe sigill_context signal_stack_full sigrestart sigsegv
    signal_order sp_alignment sigstorm sigsuspend tagged_addresses thread_signals threads unmap_below unreadable_list unshare_user vfork_fpcr vfork_spawn
}

/// The programs that 32-bit Arm can run, too.
mod arm {
    use super::{ARM, check};

    macro_rules! programs {
        ($($name:ident)*) => { $(#[test] fn $name() { check(&ARM, stringify!($name)); })* };
    }

    programs! {
        barriers child_after_fault clone3 division exec_self exe_replaced exit_signal files fork_wait ipc library limits memory memory_locks
        openat2_links procmap_query seccomp seen_by_others sigaction_info sigaltstack sigfpe signal_order sigrestart
        sigsegv sigstorm sigsuspend thread_signals threads unmap_below unreadable_list unshare_user vfork_spawn
    }

    macro_rules! own_programs {
        ($($name:ident)*) => { $(#[test] fn $name() { check(&ARM, concat!("arm/", stringify!($name))); })* };
    }

    // What only 32-bit Arm has.
    own_programs! { calls cpuinfo directories interrupted_calls objects robust structures }
}

/// The programs that riscv64 can run, too, and its own.
mod riscv {
    use super::{RISCV, check};

    macro_rules! programs {
        ($($name:ident)*) => { $(#[test] fn $name() { check(&RISCV, stringify!($name)); })* };
    }

    programs! {
        address_limit barriers child_after_fault clone3 code_changes division error_numbers exec_rights exec_self exe_replaced exit_signal
        fault_blocks files fork_wait ipc library limits memory memory_locks no_way_up openat2_links procmap_query
        seccomp seen_by_others sigaction_info sigaltstack sigfpe signal_order signal_stack_full sigrestart
        sigsegv sigstorm
        sigsuspend thread_signals threads unmap_below unreadable_list unshare_user vfork_spawn
    }

    macro_rules! own_programs {
        ($($name:ident)*) => { $(#[test] fn $name() { check(&RISCV, concat!("riscv/", stringify!($name))); })* };
    }

    own_programs! { contexts probe vectors }
}

/// `--check` gives the same output, more slowly.
#[test]
fn blocks_are_the_same_interpreted_and_translated() {
    let directory = tempfile::tempdir().expect("a directory for programs");
    let names = ["code_changes", "exec_self", "fork_wait", "memory", "sigaction_info", "sigsegv"];
    let riscv = names.map(|name| (RISCV_CROSS, name));
    for (compiler, name) in
        names.map(|name| (CROSS, name)).into_iter().chain(riscv).chain([(CROSS, "sp_alignment")])
    {
        let program = directory.path().join(name);
        compile(compiler, &sources().join(format!("{name}.c")), &program);
        let plain = verdict(&run(Command::new(EMULATOR).arg(&program)));
        let checked = run(Command::new(EMULATOR).arg("--check").arg(&program));
        let errors = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(verdict(&checked), plain, "{name} differs; standard error: {errors}");
    }
}

/// Reads memory that another process changes between the two runs of a block.
const READS: &str = r#"
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
int main(int c, char **v) {
    volatile long *p = mmap(0, 4096, PROT_READ, MAP_SHARED, open(v[1], O_RDONLY), 0);
    long sum = 0;
    for (time_t end = time(0) + 60; time(0) < end;) for (int n = 0; n < 1000; n++) sum += *p;
    return sum == 1;
}
"#;

#[test]
fn a_block_that_differs_is_told() {
    let directory = tempfile::tempdir().expect("a directory for programs");
    let source = directory.path().join("reads.c");
    fs::write(&source, READS).expect("the source is written");
    let program = directory.path().join("reads");
    compile(CROSS, &source, &program);
    let path = directory.path().join("changing");
    fs::write(&path, [0; 4096]).expect("the file is written");
    let stop = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(&path).expect("the file is there");
            let mut number = 0u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                file.write_all_at(&number.to_le_bytes(), 0).expect("the file is written");
            }
        });
        let output = run(Command::new(EMULATOR).arg("--check").arg(&program).arg(&path));
        stop.store(true, Ordering::Relaxed);
        output
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{errors}");
    for text in ["crossdock-emu: --check: near ", "/reads+0x", "differs (instructions [", "translated 0x"] {
        assert!(errors.contains(text), "no {text:?} in {errors}");
    }
}
