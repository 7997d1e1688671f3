//! Damaged values of options: the command succeeds, or fails with a message; it neither panics nor hangs.

use std::process::{Command, Stdio};

use crossdock_testkit::hostile::{Random, mutate, texts, try_numbered};

use crate::support::World;

/// Options, each with a valid value.
const OPTIONS: [(&str, &str); 14] = [
    ("--mount", "type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=1777"),
    ("--mount", "type=bind,source=/etc/hostname,target=/t,readonly"),
    ("--volume", "/etc/hostname:/t:ro"),
    ("--tmpfs", "/t:size=1m,mode=755"),
    ("--ulimit", "nofile=100:200"),
    ("--shm-size", "1m"),
    ("--add-host", "h:127.0.0.1"),
    ("--user", "root:0"),
    ("--workdir", "/a/../b"),
    ("--env", "A=b c"),
    ("--hostname", "h.example"),
    ("--platform", "linux/amd64/v2"),
    ("--entrypoint", "/bin/true"),
    ("--emulator", "auto"),
];

#[test]
fn options_of_run() {
    let world = World::with_base();
    let make = |random: &mut Random| {
        let (option, value) = OPTIONS[random.below(OPTIONS.len())];
        let mut value = mutate(random, &texts(&[value]));
        // The kernel accepts neither NUL nor more than 128 KiB in an argument.
        value.retain(|byte| *byte != 0);
        value.truncate(100_000);
        [option.as_bytes(), b"=", &value].concat()
    };
    try_numbered("options", make, |input| {
        use std::os::unix::ffi::OsStrExt;
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "4"]).arg(env!("CARGO_BIN_EXE_crossdock"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", world.path("home"));
        command.arg("--root").arg(world.store()).args(["run", "--network=none", "--pull=never"]);
        command.arg(std::ffi::OsStr::from_bytes(input)).args(["base", "true"]).stdin(Stdio::null());
        let output = command.output().expect("timeout runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.contains("panicked"), "{error}");
        let code = output.status.code().unwrap_or_else(|| panic!("{}: {error}", output.status));
        assert!(matches!(code, 0..=2 | 125..=127), "{code}: {error}");
        assert!(code == 0 || !error.is_empty(), "{code} without a word");
    });
}
