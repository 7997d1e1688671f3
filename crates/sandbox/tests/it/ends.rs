//! How commands end, and that they leave nothing behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Ran, Sandbox, Who, everybody};

#[test]
fn exit_codes_come_through() {
    everybody("exit 37", |_, ran| assert_eq!(ran.code, Some(37)));
    everybody("sleep 100 & kill -9 $!; wait $!", |_, ran| assert_eq!(ran.code, Some(137)));
}

#[test]
fn what_cannot_be_executed_has_dockers_codes() {
    let of = |args: &[&str]| -> Ran {
        let mut sandbox = Sandbox::new(Who::all()[0], "");
        sandbox.spec.args = args.iter().map(Into::into).collect();
        std::fs::write(sandbox.path("etc/etc/plain"), "no program").expect("a file");
        std::fs::write(sandbox.path("etc/etc/script"), "#!/no/such/interpreter\n").expect("a file");
        for (file, mode) in [("plain", 0o755), ("script", 0o755), ("group", 0o644)] {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(sandbox.path("etc/etc").join(file), permissions).expect("mode");
        }
        sandbox.run()
    };
    for (command, code, message) in [
        ("nosuchcommand", 127, "nosuchcommand: executable file not found in $PATH"),
        ("/no/such/file", 127, "/no/such/file: no such file or directory"),
        ("/etc/script", 127, "the interpreter that it names does not"),
        ("/etc/group", 126, "/etc/group: Permission denied"),
        ("/etc", 126, "/etc: Permission denied"),
        ("/etc/plain", 126, "exec format error: /etc/plain is neither an ELF file nor a script"),
    ] {
        let ran = of(&[command]);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains(message), "{ran:?}");
    }
}

#[test]
fn output_comes_line_by_line_and_both_streams_end() {
    for who in Who::all() {
        let sandbox = Sandbox::new(who, "seq 1 20000; seq 1 7 >&2; sleep 100 & exit 3");
        let ran = sandbox.run_with(&["--lines"]);
        assert_eq!(ran.code, Some(3), "{}", ran.err);
        assert_eq!(ran.out.lines().filter(|l| l.starts_with("line: ")).count(), 20000);
        assert!(ran.out.ends_with("errors: 7\n"), "the orphan does not keep the pipe open");
    }
}

#[test]
fn signals_reach_the_command() {
    for who in Who::all() {
        let script = "trap 'echo got term; exit 9' TERM; trap 'echo got usr1' USR1; echo ready; sleep 1000 & \
            while :; do wait; done";
        let sandbox = Sandbox::new(who, script);
        let mut running = Started::new(&sandbox, &["--attach"]);
        assert_eq!(running.line(), "ready");
        running.signal(Signal::USR1);
        assert_eq!(running.line(), "got usr1");
        running.signal(Signal::TERM);
        assert_eq!(running.line(), "got term");
        assert_eq!(running.child.wait().expect("the end").code(), Some(9));
    }
}

#[test]
fn a_signal_without_a_handler_ends_the_command() {
    for who in Who::all() {
        // Not SIGINT, which stays ignored if the tests were started in the background.
        for (signal, code) in [(Signal::USR1, 138), (Signal::TERM, 143), (Signal::HUP, 129)] {
            let sandbox = Sandbox::new(who, "echo ready; while :; do sleep 1000; done");
            let mut running = Started::new(&sandbox, &["--attach"]);
            assert_eq!(running.line(), "ready");
            running.signal(signal);
            assert_eq!(running.child.wait().expect("the end").code(), Some(code), "as {who:?}");
        }
    }
}

#[test]
fn the_third_request_ends_a_command_that_ignores_two() {
    for who in Who::all() {
        for init in [false, true] {
            let script = "trap '' INT TERM; echo ready; while :; do sleep 1000; done";
            let mut sandbox = Sandbox::new(who, script);
            sandbox.spec.init = init;
            let mut running = Started::new(&sandbox, &["--attach"]);
            assert_eq!(running.line(), "ready");
            for _ in 0..2 {
                // One by one: equal pending signals become one.
                running.signal(Signal::TERM);
                running.until_taken(Signal::TERM);
            }
            running.signal(Signal::TERM);
            assert_eq!(running.child.wait().expect("the end").code(), Some(137), "as {who:?}, init {init}");
        }
    }
}

#[test]
fn output_that_nobody_reads_does_not_keep_a_command_that_was_asked_to_end() {
    for who in Who::all() {
        let sandbox = Sandbox::new(who, "echo ready; seq 1 10000000");
        let mut running = Started::new(&sandbox, &["--attach"]);
        assert_eq!(running.line(), "ready");
        running.signal(Signal::TERM);
        assert_eq!(running.child.wait().expect("the end").code(), Some(143), "as {who:?}");
    }
}

#[test]
fn a_long_name_is_told_in_part() {
    let mut sandbox = Sandbox::new(Who::all()[0], "");
    sandbox.spec.user = "7".repeat(100_000);
    let ran = sandbox.run();
    assert_eq!(ran.code, Some(125));
    assert!(ran.err.contains("user or group id 777") && ran.err.len() < 10_000, "{}", ran.err.len());
}

#[test]
fn a_signal_at_any_moment_of_the_start_ends_everything() {
    for who in Who::all() {
        let sandbox = Sandbox::new(who, "sleep 1000");
        let mut running = Started::new(&sandbox, &["--attach"]);
        running.signal(Signal::TERM);
        let code = running.child.wait().expect("the end").code();
        // By the default action of the driver itself, or in the command's name.
        assert!(code.is_none() || code == Some(143), "as {who:?}: {code:?}");
    }
}

#[test]
fn an_init_passes_signals_and_reaps() {
    for who in Who::all() {
        let script = "echo $$; trap 'exit 5' TERM; (sleep 0 & sleep 0 &); sleep 1000 & echo ready; while :; do wait; done";
        let mut sandbox = Sandbox::new(who, script);
        sandbox.spec.init = true;
        let mut running = Started::new(&sandbox, &["--attach"]);
        assert_ne!(running.line(), "1");
        assert_eq!(running.line(), "ready");
        running.signal(Signal::TERM);
        assert_eq!(running.child.wait().expect("the end").code(), Some(5), "as {who:?}");
        sandbox.spec.args = ["sh", "-c", "kill -9 $$"].map(Into::into).into();
        assert_eq!(sandbox.run().code, Some(137));
    }
}

#[test]
fn kill_9_of_crossdock_kills_everything() {
    for (case, who) in Who::all().into_iter().enumerate() {
        for (options, init) in [(&["--attach"][..], false), (&["--lines"], false), (&["--attach"], true)] {
            let time = unusual_time(case as u32);
            let script = format!("trap '' TERM HUP INT; sleep {time} & sleep {time} & echo ready; wait");
            let mut sandbox = Sandbox::new(who, &script);
            sandbox.spec.init = init;
            let mut running = Started::new(&sandbox, options);
            assert!(running.line().ends_with("ready"));
            assert_ne!(processes_with(&time), 0, "the command runs");
            running.signal(Signal::KILL);
            running.child.wait().expect("the end");
            until_none_has(&time);
        }
    }
}

#[test]
fn kill_9_of_crossdock_and_its_monitor_at_once_kills_a_command_that_changed_its_user() {
    for who in Who::all().into_iter().filter(|who| *who != Who::SingleId) {
        // With the change of user, the kernel forgets that pid 1 must die with its parent.
        let time = unusual_time(7);
        let script = format!("exec su ann -s /bin/sh -c 'echo ready; trap : TERM HUP INT; sleep {time}; :'");
        let sandbox = Sandbox::new(who, &script);
        let mut running = Started::new(&sandbox, &["--attach"]);
        assert_eq!(running.line(), "ready", "as {who:?}");
        let children = running.children();
        let monitor = children.iter().find(|(name, _)| name != "container-watch").expect("a monitor").1;
        assert!(children.iter().any(|(name, _)| name == "container-watch"), "{children:?}");
        // Stopped, so that neither notices the end of the other.
        let monitor = Pid::from_raw(monitor).expect("a process id");
        kill_process(monitor, Signal::STOP).expect("the monitor is there");
        running.signal(Signal::KILL);
        kill_process(monitor, Signal::KILL).expect("the monitor is there");
        running.child.wait().expect("the end");
        until_none_has(&time);
    }
}

/// A time in seconds for `sleep` that no other test on this machine sleeps.
fn unusual_time(case: u32) -> String {
    format!("{}.{case}", 1_000_000 + std::process::id())
}

/// Number of processes of the machine that have this text among their arguments.
fn processes_with(text: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("processes");
    let commands = all.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    commands.filter(|command| String::from_utf8_lossy(command).contains(text)).count()
}

/// Waits until no process has this text among its arguments; fails after a long while.
fn until_none_has(text: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while processes_with(text) > 0 {
        assert!(std::time::Instant::now() < deadline, "something of the container still runs");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The driver, running, with its output.
struct Started {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Started {
    fn new(sandbox: &Sandbox, options: &[&str]) -> Started {
        let mut child = sandbox.command(options).stdout(Stdio::piped()).spawn().expect("the probe runs");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Started { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        line.trim_end().to_string()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("the driver is there");
    }

    /// Name and number of the driver's children, when there are two.
    fn children(&self) -> Vec<(String, i32)> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let mut found = Vec::new();
            for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs") {
                let path = task.expect("a thread").path().join("children");
                let text = std::fs::read_to_string(path).unwrap_or_default();
                for pid in text.split_whitespace() {
                    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                    found.push((name.trim().to_string(), pid.parse().expect("a number")));
                }
            }
            if found.len() >= 2 && found.iter().any(|(name, _)| name == "container-watch") {
                return found;
            }
            assert!(std::time::Instant::now() < deadline, "there is no watcher: {found:?}");
            std::thread::yield_now();
        }
    }

    /// Waits until the driver has taken a signal: the signal is no longer pending.
    fn until_taken(&self, signal: Signal) {
        let status = format!("/proc/{}/status", self.child.id());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let text = std::fs::read_to_string(&status).expect("it runs");
            let pending = text.lines().find_map(|line| line.strip_prefix("ShdPnd:")).expect("a mask");
            let mask = u64::from_str_radix(pending.trim(), 16).expect("hexadecimal");
            if mask & (1 << (signal.as_raw() - 1)) == 0 {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "the signal stays pending");
            std::thread::yield_now();
        }
    }
}
