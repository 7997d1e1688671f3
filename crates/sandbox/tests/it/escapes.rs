//! Images and commands that lead paths astray: all their links end inside, and nothing on the host changes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crossdock_sandbox::{Mount, MountKind, Root, Security};

use crate::support::{Sandbox, Who, everybody};

/// A sandbox whose image has a link, made before its tree is given away.
fn with_link(who: Who, name: &str, to: &str, script: &str) -> Sandbox {
    let sandbox = Sandbox::new(who, script);
    fs::create_dir_all(sandbox.path("base/x")).expect("a directory");
    symlink(to, sandbox.path("base").join(name)).expect("a link");
    sandbox
}

#[test]
fn masks_hold_wherever_the_image_puts_proc() {
    let script = "test -e /x/sys/kernel/printk_ratelimit || exit 9; \
        (echo 5 > /x/sys/kernel/printk_ratelimit) 2>&1 | grep -o 'Read-only file system'; \
        cat /x/kcore /x/keys /x/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l";
    for who in Who::all() {
        for to in ["/x", "x", "../../x", "/../x", "/y"] {
            let sandbox = with_link(who, "proc", to, script);
            symlink("x", sandbox.path("base/y")).expect("a link");
            let ran = sandbox.run();
            assert_eq!(ran.out, "Read-only file system\n0\n0\n", "as {who:?}, {to}: {ran:?}");
        }
    }
}

#[test]
fn kernel_file_systems_on_top_of_each_other_are_refused() {
    for who in Who::all() {
        for (name, to) in [("sys", "/proc"), ("proc", "/sys"), ("dev", "/proc"), ("etc2", "x")] {
            let ran = with_link(who, name, to, "echo started").run();
            let expect = if name == "etc2" { Some(0) } else { Some(125) };
            assert_eq!(ran.code, expect, "as {who:?}, {name} to {to}: {ran:?}");
        }
    }
}

#[test]
fn a_dev_that_leads_to_the_host_gets_nothing() {
    for who in Who::all() {
        let outside = tempfile::tempdir().expect("a directory");
        fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777)).expect("mode");
        let to = outside.path().to_str().expect("UTF-8").to_string();
        let sandbox = with_link(who, "dev", &to, "test -c /dev/console && echo console");
        let mut command = sandbox.command(&["--terminal"]);
        let ran = crate::support::Ran::from(command.output().expect("the probe runs"));
        assert_eq!(ran.out.trim(), "console", "as {who:?}: {ran:?}");
        assert_eq!(fs::read_dir(outside.path()).expect("readable").count(), 0, "as {who:?}");
    }
}

#[test]
fn nothing_is_mounted_in_proc_by_a_name_or_a_link() {
    let tmpfs = |target: &str| Mount {
        kind: MountKind::Tmpfs { size: None, mode: 0o755, owner: (0, 0), executable: true },
        target: target.into(),
        read_only: false,
    };
    for who in Who::all() {
        for target in
            ["/proc", "/proc/sys", "/proc/self", "/proc/1/fd", "/link", "/link/kernel", "/../proc/tty"]
        {
            let mut sandbox = with_link(who, "link", "/proc/sys", "echo started");
            sandbox.spec.mounts.push(tmpfs(target));
            let ran = sandbox.run();
            assert_eq!((ran.code, ran.out.as_str()), (Some(125), ""), "as {who:?}, {target}: {}", ran.err);
        }
        let mut sandbox = Sandbox::new(who, "cat /proc/uptime");
        fs::write(sandbox.path("uptime"), "77 0\n").expect("a file");
        let source = sandbox.path("uptime").into();
        let kind = MountKind::Bind { source, recursive: false };
        sandbox.spec.mounts.push(Mount { kind, target: "/proc/uptime".into(), read_only: true });
        assert_eq!(sandbox.run().ok(), "77 0\n", "as lxcfs does it, as {who:?}");
    }
}

#[test]
fn devices_of_the_host_keep_mode_and_owner() {
    let before = ["null", "urandom", "tty"].map(|name| {
        let of = fs::metadata(format!("/dev/{name}")).expect("there");
        (of.mode(), of.uid(), of.mtime())
    });
    everybody(
        "for d in null urandom tty; do chmod 600 /dev/$d; chown 1 /dev/$d; touch -d '2001-01-01 00:00' /dev/$d; done; \
            chmod 600 /proc/self/fd/0; echo x > /dev/null && echo written; head -c 1 /dev/urandom | wc -c",
        |_, ran| assert_eq!(ran.out, "written\n1\n", "{ran:?}"),
    );
    let after = ["null", "urandom", "tty"].map(|name| {
        let of = fs::metadata(format!("/dev/{name}")).expect("there");
        (of.mode(), of.uid(), of.mtime())
    });
    assert_eq!(before, after);
}

#[test]
fn a_working_directory_is_inside_or_an_error() {
    for who in Who::all() {
        let at = |cwd: &str, to: &str| {
            let mut sandbox = with_link(who, "link", to, "pwd -P");
            sandbox.spec.cwd = cwd.into();
            sandbox.run()
        };
        for cwd in [
            "/proc/self/fd/3",
            "/proc/self/fd/5",
            "/proc/1/fd/4",
            "/proc/self/cwd",
            "/proc/thread-self/root",
            "/link",
        ] {
            let ran = at(cwd, "/proc/self/fd/6");
            // The descriptor may be one that the look-up itself has open on a directory inside.
            let inside = ran.code == Some(0) && ran.out.trim_end().split('/').nth(1) == Some("proc");
            let refused = ran.code == Some(125) && ran.err.contains(cwd);
            assert!(inside || refused, "as {who:?}, {cwd}: {ran:?}");
        }
        assert_eq!(at("/link/a/b", "/x").ok(), "/x/a/b\n");
        assert_eq!(at("/link/../../../y", "/x").ok(), "/y\n");
        assert_eq!(at("/link", "/missing/there").ok(), "/missing/there\n");
    }
}

#[test]
fn mount_points_are_removed_where_they_were_made_only() {
    for who in Who::all() {
        let outside = tempfile::tempdir().expect("a directory");
        for name in ["hosts", "hostname", "resolv.conf"] {
            fs::write(outside.path().join(name), "").expect("a file");
        }
        fs::create_dir(outside.path().join("c")).expect("a directory");
        fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777)).expect("mode");
        let place = outside.path().display();
        let mut sandbox =
            Sandbox::new(who, &format!("mv /etc /e2; ln -s {place} /etc; mv /b /b2; ln -s {place} /b"));
        fs::remove_dir_all(sandbox.path("base/etc"))
            .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
            .expect("no /etc");
        sandbox.spec.root = Root::Directory(sandbox.path("base"));
        let kind = MountKind::Tmpfs { size: None, mode: 0o755, owner: (0, 0), executable: true };
        sandbox.spec.mounts.push(Mount { kind, target: "/b/c".into(), read_only: false });
        let ran = sandbox.run();
        assert_eq!(ran.code, Some(0), "as {who:?}: {ran:?}");
        assert_eq!(fs::read_dir(outside.path()).expect("readable").count(), 4, "as {who:?}");
        assert!(!sandbox.path("base/e2/hosts").exists() && !sandbox.path("base/b2/c").exists(), "as {who:?}");
    }
}

#[test]
fn a_user_file_that_is_none_is_an_error_at_once() {
    for who in Who::all() {
        for make in ["mkfifo", "directory", "zero"] {
            let mut sandbox = Sandbox::new(who, "echo started");
            let passwd = sandbox.path("etc/etc/passwd");
            fs::remove_file(&passwd).expect("removed");
            match make {
                "mkfifo" => {
                    let mode = rustix::fs::Mode::from_raw_mode(0o644);
                    rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, mode, 0)
                        .expect("a FIFO");
                }
                "directory" => fs::create_dir(&passwd).expect("a directory"),
                _ => symlink("/dev/zero", &passwd).expect("a link"),
            }
            sandbox.spec.user = "5:5".into();
            let ran = sandbox.run();
            assert_eq!((ran.code, ran.out.as_str()), (Some(125), ""), "as {who:?}, {make}: {ran:?}");
            assert!(ran.err.contains("cannot read /etc/passwd of the image"), "{ran:?}");
        }
    }
}

#[test]
fn files_as_streams_keep_what_they_have() {
    for who in Who::all() {
        let sandbox = Sandbox::new(
            who,
            "cat; : > /proc/self/fd/0; : > /proc/self/fd/1; chmod 777 /proc/self/fd/0 /proc/self/fd/1 2>/dev/null; echo end",
        );
        fs::write(sandbox.path("in"), "input\n").expect("a file");
        fs::write(sandbox.path("out"), "before\n").expect("a file");
        let mode = |name: &str| fs::metadata(sandbox.path(name)).expect("there").mode();
        let (input, output) = (mode("in"), mode("out"));
        let open = |name: &str| {
            fs::OpenOptions::new().read(true).append(name == "out").open(sandbox.path(name)).expect("opened")
        };
        let mut command = sandbox.command(&["--attach"]);
        command.stdin(open("in")).stdout(open("out")).stderr(open("out"));
        assert!(command.status().expect("the probe runs").success(), "as {who:?}");
        assert_eq!(fs::read_to_string(sandbox.path("in")).expect("text"), "input\n", "as {who:?}");
        let said = fs::read_to_string(sandbox.path("out")).expect("text");
        assert_eq!(said, "before\ninput\nend\n", "as {who:?}");
        assert_eq!((mode("in"), mode("out")), (input, output), "as {who:?}");
    }
}

#[test]
fn an_init_has_no_rights_and_shows_nothing() {
    let script = "grep -E '^(CapEff|CapPrm|CapBnd|Seccomp):' /proc/1/status; for f in /proc/1/fd/*; do readlink $f; done | wc -l; \
        readlink /proc/1/exe || echo closed";
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, script);
        sandbox.spec.init = true;
        let bounding = "00000000a80425fb";
        assert_eq!(
            sandbox.run().out,
            format!("CapPrm:\t{0:016x}\nCapEff:\t{0:016x}\nCapBnd:\t{bounding}\nSeccomp:\t2\n0\nclosed\n", 0),
            "as {who:?}"
        );
    }
}

#[test]
fn a_mount_of_a_covered_place_of_the_hosts_sys_is_empty() {
    everybody(
        "ls -A /sys/kernel/debug /sys/kernel/tracing /sys/fs/bpf 2>/dev/null | grep -v : | wc -w",
        |_, ran| {
            assert_eq!(ran.ok().trim(), "0");
        },
    );
}

#[test]
fn abstract_sockets_of_the_host_are_out_of_reach() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let name = format!("crossdock-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let listener = UnixListener::bind_addr(&address).expect("it listens");
    for who in Who::all() {
        let of = |security: Security| {
            let mut sandbox = Sandbox::new(who, "");
            sandbox.spec.args = ["/bin/probe", "abstract", &name].map(Into::into).into();
            sandbox.spec.security = security;
            sandbox.run().ok()
        };
        let reached = of(Security::INSECURE);
        assert_eq!(reached, "0\n", "all power reaches it, so the listener is there; as {who:?}");
        listener.accept().expect("its connection");
        let errno = of(Security::SANDBOX);
        let expect = if crossdock_sandbox::doctor::scope_available() { libc::EPERM } else { 0 };
        assert_eq!(errno, format!("{expect}\n"), "as {who:?}");
        if expect == 0 {
            listener.accept().expect("its connection");
        }
    }
}
