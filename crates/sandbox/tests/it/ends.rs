//! How commands end, and that nothing of them stays.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
        // Not SIGINT, which stays ignored where somebody started the tests in the background.
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
                // One by one: equal signals that wait are one.
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
    for who in Who::all() {
        for (options, init) in [(&["--attach"][..], false), (&["--lines"], false), (&["--attach"], true)] {
            let mut sandbox = Sandbox::new(who, "trap '' TERM HUP INT; sleep 1000 & echo ready; wait");
            sandbox.spec.init = init;
            let mut running = Started::new(&sandbox, options);
            assert!(running.line().ends_with("ready"));
            running.signal(Signal::KILL);
            // Every process of the container has the pipe open, or the other end of one that has.
            running.end_of_output();
            running.child.wait().expect("the end");
        }
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

    /// Waits until the driver has taken a signal: it is no more pending.
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

    /// Waits until nobody has the output open; fails after a long while.
    fn end_of_output(&mut self) {
        loop {
            let mut watched = [PollFd::from_borrowed_fd(self.out.get_ref().as_fd(), PollFlags::IN)];
            let ready = poll(&mut watched, Some(&Timespec { tv_sec: 30, tv_nsec: 0 })).expect("poll");
            assert_eq!(ready, 1, "something still has the output open");
            let mut buffer = [0; 256];
            if self.out.get_mut().read(&mut buffer).expect("readable") == 0 {
                return;
            }
        }
    }
}
