//! A private network: the outside can be reached, but not the loopback of the user who runs it, and its
//! program ends with it.
//!
//! "Outside" is the test's own network namespace, with one neighbour, so that no test uses the machine's
//! network.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crossdock_sandbox::{Network, Uplink};
use crossdock_testkit::test_user;

use crate::support::{Ran, Sandbox, Who, copy_program, require};

/// What the test's machine is like.
struct Outside {
    /// Permissions of `/dev/net/tun`.
    tun: &'static str,
    /// Whether there is a way out of it.
    route: bool,
    /// Programs in place of the installed ones, with their text.
    programs: &'static [(&'static str, &'static str)],
}

const USUAL: Outside = Outside { tun: "666", route: true, programs: &[] };

/// Whether "outside" can be created; root also runs the tests of an ordinary user's capabilities.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Outside {
    /// Runs a shell script there as root; in it, `$drive` runs the sandbox as its user.
    ///
    /// A neighbour, 10.99.0.1, serves the file "word" at 8000, and the loopback at 8001; name servers answer
    /// with the address at which they were asked.
    fn run(&self, sandbox: &Sandbox, script: &str) -> Ran {
        for (program, package) in [("ip", "iproute2"), ("pasta", "passt"), ("slirp4netns", "slirp4netns")] {
            require(program, package);
        }
        let dir = sandbox.dir.path();
        let programs = sandbox.path("programs");
        for part in ["programs", "outer", "loopback"] {
            fs::create_dir_all(dir.join(part)).expect("a directory");
        }
        fs::write(dir.join("outer/word"), "outer\n").expect("a file");
        fs::write(dir.join("loopback/word"), "loopback\n").expect("a file");
        fs::write(dir.join("resolv.conf"), "nameserver 127.0.0.53\nsearch lan\n").expect("a file");
        for (name, text) in self.programs {
            let draft = dir.join("draft");
            fs::write(&draft, text).expect("a program");
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("mode");
            copy_program(&draft, &programs.join(name));
        }
        let drive = sandbox.command(&[]);
        let mut words: Vec<String> = match sandbox.who {
            Who::Root => Vec::new(),
            Who::User | Who::SingleId => {
                let id = test_user();
                vec![
                    "setpriv".into(),
                    format!("--reuid={id}"),
                    format!("--regid={id}"),
                    "--clear-groups".into(),
                ]
            }
        };
        words.push(drive.get_program().display().to_string());
        words.extend(drive.get_args().map(|word| word.display().to_string()));
        let (dir, drive, tun) = (dir.display(), words.join(" "), self.tun);
        let route = if self.route { "ip route add default via 10.99.0.1" } else { ":" };
        let setup = format!(
            "set -e\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin drive='{drive}'\n\
             mkfifo {dir}/made\nunshare --net sh -c ': > {dir}/made; exec sleep 1000' > /dev/null 2>&1 &\n\
             peer=$!\nread made < {dir}/made || :\nwithin=\"nsenter --net=/proc/$peer/ns/net\"\n\
             ip link set lo up\nip link add up0 type veth peer name up1 netns $peer\n\
             $within ip address add 10.99.0.1/24 dev up1\n$within ip link set up1 up\n\
             ip address add 10.99.0.2/24 dev up0\nip link set up0 up\n{route}\n\
             mount -t tmpfs none /dev/net\nmknod /dev/net/tun c 10 200\nchmod {tun} /dev/net/tun\n\
             mount --bind {dir}/resolv.conf /etc/resolv.conf\n\
             $within busybox httpd -p 10.99.0.1:8000 -h {dir}/outer\nbusybox httpd -p 127.0.0.1:8001 -h {dir}/loopback\n\
             {dir}/probe answer 127.0.0.53 > /dev/null 2>&1 &\n\
             PATH={dir}/programs:$PATH\nset +e\n{script}\n"
        );
        // The end of the pid namespace ends everything that is started in it.
        let output = Command::new("timeout")
            .args(["60", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", &setup])
            .stdin(Stdio::null())
            .output()
            .expect("unshare runs");
        Ran::from(output)
    }
}

fn private(who: Who, uplink: Uplink, script: &str) -> Sandbox {
    let mut sandbox = Sandbox::new(who, script);
    sandbox.spec.network = Network::Private(uplink);
    sandbox
}

/// Running network programs, by the names of their processes: pasta executes a variant of itself, passt.avx2.
const LEFT: &str = "cat /proc/[0-9]*/comm | grep -E '^(pasta|passt|slirp)'";

#[test]
fn the_outside_can_be_reached_and_the_loopback_of_the_host_cannot() {
    if !is_root() {
        return;
    }
    let script = "ls /sys/class/net; grep -c '^eth0.00000000' /proc/net/route; cat /etc/resolv.conf; \
        probe get 10.99.0.1:8000 20000; for host in 127.0.0.1 10.0.2.2 10.99.0.1 10.99.0.2; do probe get $host:8001 300; done; \
        probe ask 10.0.2.3 20000; probe ask 127.0.0.53 300";
    for who in Who::all() {
        for uplink in [Uplink::Pasta, Uplink::Slirp4netns] {
            let sandbox = private(who, uplink, script);
            let probe = sandbox.path("probe").display().to_string();
            let script = format!("{probe} get 127.0.0.1:8001 20000; $drive; {LEFT}; :");
            assert_eq!(
                USUAL.run(&sandbox, &script).ok(),
                "loopback\neth0\nlo\n1\nnameserver 10.0.2.3\nsearch lan\nouter\nrefused\nrefused\nrefused\nrefused\n\
                 127.0.0.53\nno answer\n",
                "as {who:?} with {uplink:?}"
            );
        }
    }
}

#[test]
fn low_ports_and_raw_sockets_are_allowed() {
    if !is_root() {
        return;
    }
    let script = "echo within > /tmp/word; busybox httpd -p 127.0.0.1:80 -h /tmp && probe get 127.0.0.1:80 20000; \
        busybox ping -c 1 -W 5 127.0.0.1 | grep -c ttl=";
    for who in Who::all() {
        let sandbox = private(who, Uplink::Any, script);
        assert_eq!(USUAL.run(&sandbox, "$drive").ok(), "within\n1\n", "as {who:?}");
    }
}

#[test]
fn no_program_stays_after_kill_9() {
    if !is_root() {
        return;
    }
    for who in Who::all() {
        for uplink in [Uplink::Pasta, Uplink::Slirp4netns] {
            let sandbox = private(who, uplink, "echo ready; exec sleep 1000");
            let script = format!(
                "mkfifo /dev/net/out; $drive > /dev/net/out & driver=$!; read line < /dev/net/out; echo $line\n\
                 {LEFT} > /dev/null && echo runs; kill -9 $driver; n=0\n\
                 while {LEFT} > /dev/null && test $n -lt 500; do n=$((n + 1)); sleep 0.02; done; {LEFT}; :"
            );
            let out = USUAL.run(&sandbox, &script).out;
            assert_eq!(out, "ready\nruns\n", "as {who:?} with {uplink:?}");
        }
    }
}

#[test]
fn a_device_that_cannot_be_opened_is_told_at_once() {
    if !is_root() {
        return;
    }
    let outside = Outside { tun: "600", ..USUAL };
    for who in Who::all().into_iter().filter(|who| *who != Who::Root) {
        let started = Instant::now();
        let ran = outside.run(&private(who, Uplink::Any, "echo here"), "$drive");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        assert_eq!((ran.code, ran.out.as_str()), (Some(125), ""), "{ran:?}");
        assert!(ran.err.contains("/dev/net/tun cannot be opened: Permission denied"), "{ran:?}");
        assert!(ran.err.contains("; sudo chmod 666 /dev/net/tun"), "{ran:?}");
    }
}

#[test]
fn the_next_program_is_tried_where_one_fails() {
    if !is_root() {
        return;
    }
    // pasta needs an interface with a route outwards, slirp4netns does not.
    let outside = Outside { route: false, ..USUAL };
    let script = "cut -f1 /proc/net/route; exit 7";
    let ran = outside.run(&private(Who::Root, Uplink::Any, script), "$drive");
    assert_eq!((ran.code, ran.out.as_str()), (Some(7), "Iface\neth0\neth0\n"), "{ran:?}");
    let ran = outside.run(&private(Who::Root, Uplink::Pasta, script), "$drive");
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.err.contains("cannot connect a private network: pasta: "), "{ran:?}");

    const BROKEN: (&str, &str) = ("slirp4netns", "#!/bin/sh\necho first; echo the last words >&2; exit 3\n");
    let outside = Outside { programs: &[BROKEN], ..outside };
    let ran = outside.run(&private(Who::Root, Uplink::Any, script), "$drive");
    assert!(ran.err.contains("; slirp4netns: the last words; "), "{ran:?}");
}

#[test]
fn a_program_that_hangs_is_given_up() {
    if !is_root() {
        return;
    }
    let outside = Outside { programs: &[("pasta", "#!/bin/sh\necho waiting; sleep 1000\n")], ..USUAL };
    let ran = outside.run(&private(Who::Root, Uplink::Any, "echo connected"), "$drive");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "connected\n"), "{ran:?}");
    let ran = outside.run(&private(Who::Root, Uplink::Pasta, "echo connected"), "$drive");
    assert!(ran.err.contains("pasta was not ready after 5 s, its last words: waiting"), "{ran:?}");
    // A signal does not wait for the timeout.
    let started = Instant::now();
    let script = "$drive & sleep 0.5; kill -TERM $!; wait $!";
    let ran = outside.run(&private(Who::Root, Uplink::Pasta, "echo connected"), script);
    assert_eq!(ran.code, Some(143), "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn an_ordinary_user_has_a_private_network_or_a_reason() {
    for who in Who::all() {
        let ran = private(who, Uplink::Any, "cut -f1 /proc/net/route").run();
        match ran.code {
            Some(0) => assert!(ran.out.contains("eth0"), "as {who:?}: {ran:?}"),
            _ => assert!(
                ran.err.contains("cannot connect a private network: ") && ran.err.contains("; sudo "),
                "{ran:?}"
            ),
        }
    }
}
