//! Crossdock in a container: a sandbox in a sandbox.

use crossdock_sandbox::{Mount, MountKind, Root, Security, Spec};

use crate::support::{Sandbox, Who};

fn tmpfs(target: &str) -> Mount {
    Mount {
        kind: MountKind::Tmpfs { size: None, mode: 0o755, owner: (0, 0), executable: true },
        target: target.into(),
        read_only: false,
    }
}

/// A root whose command is the driver again, with its own specification.
fn nested(who: Who, mounts: &[Mount]) -> Sandbox {
    let script = "mkdir /scratch/upper /scratch/work && exec /bin/probe drive /etc/inner.json";
    let mut sandbox = Sandbox::new(who, script);
    let root = Root::Overlay {
        lower: vec!["/layers".into(), "/users".into()],
        upper: "/scratch/upper".into(),
        work: "/scratch/work".into(),
        volatile: false,
    };
    let inner = Spec::new(
        root,
        [
            "sh",
            "-c",
            "echo $$; id -u; ls /proc/fs | grep -c ext4; touch /x && rm /etc/passwd && ls /etc; exit 4",
        ],
    );
    std::fs::write(sandbox.path("etc/etc/inner.json"), serde_json::to_vec(&inner).expect("serialisable"))
        .expect("the specification");
    let bind = |part: &str, target: &str| Mount {
        kind: MountKind::Bind { source: sandbox.path(part).into(), recursive: false },
        target: target.into(),
        read_only: true,
    };
    let binds = [bind("base", "/layers"), bind("etc", "/users"), tmpfs("/scratch")];
    sandbox.spec.mounts = binds.into_iter().chain(mounts.iter().cloned()).collect();
    sandbox.spec.security = Security::INSECURE;
    sandbox
}

/// `/proc/fs/ext4` is there in a new `/proc` of this machine, unless a mount covers it.
fn expect() -> String {
    let ext4 = u32::from(std::path::Path::new("/proc/fs/ext4").exists());
    expect_with(ext4)
}

fn expect_with(ext4: u32) -> String {
    format!("1\n0\n{ext4}\ngroup\nhosts\ninner.json\nresolv.conf\n")
}

#[test]
fn a_sandbox_works_in_a_sandbox() {
    for who in Who::all() {
        let ran = nested(who, &[]).run();
        assert_eq!((ran.code, ran.out), (Some(4), expect()), "as {who:?}: {}", ran.err);
    }
}

#[test]
fn where_proc_is_covered_the_one_there_is_used() {
    for who in Who::all() {
        // The kernel gives no new /proc to a process whose /proc is covered in part.
        let ran = nested(who, &[tmpfs("/proc/fs")]).run();
        assert_eq!((ran.code, ran.out), (Some(4), expect_with(0)), "as {who:?}: {}", ran.err);
    }
}
