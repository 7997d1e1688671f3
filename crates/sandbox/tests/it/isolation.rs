//! Namespaces: what is separate cannot be seen.

use std::fs;

use crossdock_sandbox::{Network, Root};

use crate::support::{Sandbox, Who, everybody};

#[test]
fn the_command_is_pid_1_among_its_own() {
    everybody("echo $$; ps -o pid | wc -l", |_, ran| {
        let out = ran.ok();
        let numbers: Vec<u32> = out.lines().map(|l| l.trim().parse().expect("a number")).collect();
        assert_eq!(numbers[0], 1);
        assert!(numbers[1] <= 5, "only this shell, its pipe and a heading: {out}");
    });
}

#[test]
fn no_mount_is_seen_outside_and_none_of_outside_inside() {
    for who in Who::all() {
        let before = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let mut sandbox = Sandbox::new(who, "cut -d' ' -f5 /proc/self/mountinfo");
        sandbox.spec.network = Network::None;
        let out = sandbox.run().ok();
        assert_eq!(before, std::fs::read_to_string("/proc/self/mountinfo").expect("mounts"));
        let points: Vec<&str> = out.lines().collect();
        assert_eq!(points.iter().filter(|p| **p == "/").count(), 1, "{out}");
        for point in &points {
            let allowed = ["/proc", "/dev", "/sys", "/etc/"].iter().any(|p| point.starts_with(p));
            assert!(*point == "/" || allowed, "{point} in {out}");
        }
    }
}

#[test]
fn the_root_cannot_be_left() {
    everybody(
        "cd /..; ls -d tmp; ls /proc/1/root/bin/busybox; ls -d /../../../../bin/busybox; pwd",
        |_, ran| {
            assert_eq!(ran.ok(), "tmp\n/proc/1/root/bin/busybox\n/../../../../bin/busybox\n/\n");
        },
    );
}

#[test]
fn without_network_there_is_only_lo() {
    for who in Who::all() {
        let mut sandbox =
            Sandbox::new(who, "ls /sys/class/net; cat /proc/net/dev | wc -l; cat /proc/net/if_inet6 | wc -l");
        sandbox.spec.network = Network::None;
        assert_eq!(sandbox.run().ok(), "lo\n3\n1\n", "lo, up with ::1; as {who:?}");
    }
}

#[test]
fn with_the_hosts_network_the_hosts_interfaces_are_there() {
    let mine = std::fs::read_to_string("/proc/net/dev").expect("interfaces").lines().count();
    everybody("cat /proc/net/dev | wc -l", |_, ran| {
        assert_eq!(ran.ok().trim(), mine.to_string());
    });
}

#[test]
fn generated_files_have_the_names_that_were_given() {
    for who in Who::all() {
        let mut sandbox =
            Sandbox::new(who, "hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf; echo x > /etc/hosts");
        sandbox.spec.own_files = true;
        sandbox.spec.read_only_root = true;
        sandbox.spec.hostname = "box".into();
        sandbox.spec.network = Network::None;
        sandbox.spec.extra_hosts = vec![("registry".into(), "10.1.2.3".parse().expect("an address"))];
        sandbox.spec.resolv_conf = Some("nameserver 10.9.9.9\n".into());
        let ran = sandbox.run();
        assert_eq!(
            ran.out,
            "box\nbox\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tbox\n\
             10.1.2.3\tregistry\nnameserver 10.9.9.9\n"
        );
        assert!(ran.err.contains("Read-only file system"), "{ran:?}");
    }
}

#[test]
fn generated_files_are_the_commands_own_or_read_only() {
    let script = "for f in hosts resolv.conf hostname; do cp /etc/$f /tmp/$f; echo mine >> /etc/$f && tail -n 1 /etc/$f; done";
    for who in Who::all() {
        let outside = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"].map(|path| fs::read(path).ok());
        let mut sandbox = Sandbox::new(who, script);
        sandbox.spec.own_files = true;
        assert_eq!(sandbox.run().ok(), "mine\nmine\nmine\n", "as {who:?}");
        assert_eq!(sandbox.changes(), ["tmp", "tmp/hostname", "tmp/hosts", "tmp/resolv.conf"], "as {who:?}");
        // A step has the two files that its network needs, and no hostname: that one is the layer's.
        let script = "for f in hosts resolv.conf; do echo x >> /etc/$f || echo ro; done; echo foo > /etc/hostname; cat /etc/hostname";
        let sandbox = Sandbox::new(who, script);
        assert_eq!(sandbox.run().ok(), "ro\nro\nfoo\n", "as {who:?}");
        assert_eq!(sandbox.changes(), ["etc", "etc/hostname"], "as {who:?}");
        let now = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"].map(|path| fs::read(path).ok());
        assert_eq!(now, outside, "the machine's own files are untouched");
    }
}

#[test]
fn devices_work() {
    let script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; \
        readlink /dev/fd; readlink /dev/ptmx; touch /dev/shm/x && stat -c %a /dev/shm; test -c /dev/pts/ptmx";
    everybody(script, |_, ran| {
        assert_eq!(ran.ok(), "3\n4\n/proc/self/fd\npts/ptmx\n1777\n");
    });
}

#[test]
fn streams_can_be_opened_by_name_by_every_user() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "echo y > /dev/stdout; echo z > /dev/stderr");
        sandbox.spec.user = if who == Who::SingleId { "" } else { "ann" }.into();
        assert_eq!(sandbox.run_with(&["--lines"]).ok(), "line: y\nerrors: 1\n", "as {who:?}");
    }
}

#[test]
fn nothing_but_the_standard_streams_is_open() {
    everybody("ls /proc/self/fd | wc -l; readlink /proc/self/fd/0", |_, ran| {
        assert_eq!(ran.ok(), "4\n/dev/null\n", "the three, and that of ls");
    });
}

#[test]
fn an_empty_image_and_a_directory_serve_as_root() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "ls /; touch /made");
        sandbox.spec.root = Root::Directory(sandbox.path("base"));
        assert_eq!(sandbox.run().ok(), "bin\ndev\netc\nproc\nsys\ntmp\n", "as {who:?}");
        let mut left: Vec<_> = std::fs::read_dir(sandbox.path("base"))
            .expect("the root")
            .map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        left.sort();
        assert_eq!(left, ["bin", "made", "tmp"]);
    }
}

#[test]
fn layers_without_upper_are_read_only() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "cat /etc/group | head -1; touch /x");
        sandbox.spec.root = Root::OverlayReadOnly { lower: vec![sandbox.path("base"), sandbox.path("etc")] };
        let ran = sandbox.run();
        assert_eq!(ran.out, "root:x:0:\n", "{ran:?}");
        assert!(ran.err.contains("Read-only file system"), "{ran:?}");
        let mut one = Sandbox::new(who, "ls /dev/null");
        one.spec.root = Root::OverlayReadOnly { lower: vec![one.path("base")] };
        assert_eq!(one.run().ok(), "/dev/null\n");
    }
}
