//! `run -it` on a pseudo-terminal of the test.
//!
//! Scripts wait for signals in `wait`, which a signal always ends; `read` of busybox misses one that comes
//! just before it blocks.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::support::{Sandbox, Who};

fn pair() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let outer = openpt(flags).expect("a terminal");
    grantpt(&outer).expect("granted");
    unlockpt(&outer).expect("unlocked");
    let inner = ioctl_tiocgptpeer(&outer, flags).expect("the inner end");
    (outer.into(), inner)
}

/// Reads until the text was seen.
fn expect(outer: &mut File, seen: &mut String, text: &str) {
    let mut buffer = [0; 1024];
    while !seen.contains(text) {
        let count = outer.read(&mut buffer).expect("output");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[test]
fn a_terminal_is_passed_through_and_put_back() {
    for who in Who::all() {
        let (mut outer, inner) = pair();
        let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&outer, size).expect("a size");
        let before = format!("{:?}", tcgetattr(&inner).expect("settings"));
        let script = "tty; stty size; test -c /dev/console && echo console; echo ask; read x; echo got $x; \
            trap 'stty size; exit 7' WINCH; sleep 1000 & echo again; while :; do wait; done";
        let mut sandbox = Sandbox::new(who, script);
        sandbox.spec.hostname = "box".into();
        let end = || inner.try_clone().expect("a copy");
        let mut child = sandbox
            .command(&["--terminal"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the probe runs");
        let mut seen = String::new();
        expect(&mut outer, &mut seen, "ask\r\n");
        assert!(seen.starts_with("/dev/pts/0\r\n33 99\r\nconsole\r\n"), "as {who:?}: {seen:?}");
        outer.write_all(b"me\r").expect("typed");
        expect(&mut outer, &mut seen, "got me\r\n");
        expect(&mut outer, &mut seen, "again\r\n");
        tcsetwinsize(&outer, Winsize { ws_row: 11, ..size }).expect("a size");
        // The test's terminal is no process's controlling terminal, so the kernel does not send the signal
        // itself.
        let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::WINCH).expect("sent");
        expect(&mut outer, &mut seen, "11 99\r\n");
        assert_eq!(child.wait().expect("the end").code(), Some(7));
        assert_eq!(before, format!("{:?}", tcgetattr(&inner).expect("settings")));
    }
}

#[test]
fn keys_make_signals_inside() {
    let script =
        "trap 'echo int; exit 3' INT; echo x > /dev/tty; sleep 1000 & echo ready; while :; do wait; done";
    for (who, init) in Who::all().into_iter().flat_map(|who| [(who, false), (who, true)]) {
        let (mut outer, inner) = pair();
        let mut sandbox = Sandbox::new(who, script);
        sandbox.spec.init = init;
        let end = || inner.try_clone().expect("a copy");
        let mut child = sandbox
            .command(&["--terminal"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the probe runs");
        let mut seen = String::new();
        expect(&mut outer, &mut seen, "ready\r\n");
        outer.write_all(&[3]).expect("Ctrl-C");
        expect(&mut outer, &mut seen, "int\r\n");
        assert!(seen.starts_with("x\r\n"), "{seen:?}");
        assert_eq!(child.wait().expect("the end").code(), Some(3), "as {who:?}");
    }
}
