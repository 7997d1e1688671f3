//! Each program of `guest-tests` does the same in the emulator as with its judge.

use crate::guest::{CROSS, EMULATOR, compile, run, sources, verdict};
use std::fs;
use std::process::Command;

fn check(name: &str) {
    let source = sources().join(format!("{name}.c"));
    let text = fs::read_to_string(&source).expect("the source is there");
    let directory = tempfile::tempdir().expect("a directory for programs");
    let program = directory.path().join(name);
    compile(CROSS, &source, &program);
    let expected = if text.contains("// oracle: file") {
        fs::read_to_string(source.with_extension("out")).expect("the expected output is there")
    } else if text.contains("// oracle: native") {
        let native = directory.path().join("native");
        fs::create_dir(&native).expect("a directory");
        compile("cc", &source, &native.join(name));
        verdict(&run(&mut Command::new(native.join(name))))
    } else {
        verdict(&run(Command::new("qemu-aarch64-static").arg(&program)))
    };
    let output = run(Command::new(EMULATOR).arg(&program));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(verdict(&output), expected, "{name} differs; standard error: {errors}");
}

macro_rules! programs {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

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
    code_changes exec_self exit_signal fault_blocks files fork_wait ipc memory no_way_up return_loop return_to_odd seen_by_others sigaction_info sigaltstack sigill_context signal_stack_full sigrestart sigsegv
    sigstorm sigsuspend thread_signals threads unmap_below vfork_spawn
}
