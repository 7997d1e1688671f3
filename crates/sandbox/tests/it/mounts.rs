//! Binds, tmpfs, secrets and overlays of the caller.

use std::fs;
use std::os::unix::fs::symlink;

use crossdock_sandbox::{Content, Mount, MountKind, Source};

use crate::support::{Sandbox, Who};

fn bind(source: std::path::PathBuf, target: &str, read_only: bool) -> Mount {
    Mount {
        kind: MountKind::Bind { source: Source::Path(source), recursive: true },
        target: target.into(),
        read_only,
    }
}

#[test]
fn a_bind_shows_the_hosts_files_and_takes_writes() {
    for who in Who::all() {
        let mut sandbox =
            Sandbox::new(who, "cat /v/hello; echo back > /v/out; echo no > /ro/hello; cat /one");
        fs::create_dir(sandbox.path("volume")).expect("a directory");
        fs::write(sandbox.path("volume/hello"), "hi\n").expect("a file");
        let volume = sandbox.path("volume");
        sandbox.spec.mounts = vec![
            bind(volume.clone(), "/v", false),
            bind(volume.clone(), "/ro", true),
            bind(volume.join("hello"), "/one", true),
        ];
        let ran = sandbox.run();
        assert_eq!(ran.out, "hi\nhi\n", "{ran:?}");
        assert!(ran.err.contains("Read-only file system"), "{ran:?}");
        assert_eq!(fs::read_to_string(volume.join("out")).expect("the file"), "back\n");
        assert_eq!(sandbox.changes(), [] as [&str; 0]);
    }
}

#[test]
fn targets_stay_inside_whatever_they_are_called() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "cat /etc/inside/hello /escaped/hello");
        fs::create_dir(sandbox.path("volume")).expect("a directory");
        fs::write(sandbox.path("volume/hello"), "hi\n").expect("a file");
        symlink("../../../../../../escaped", sandbox.path("etc/etc/link")).expect("a link");
        let volume = sandbox.path("volume");
        sandbox.spec.mounts =
            vec![bind(volume.clone(), "/../../etc/inside", false), bind(volume, "/etc/link", false)];
        assert_eq!(sandbox.run().ok(), "hi\nhi\n", "as {who:?}");
        assert!(!std::path::Path::new("/escaped").exists());
    }
}

#[test]
fn a_directory_can_be_given_as_a_descriptor() {
    for who in Who::all() {
        let sandbox = Sandbox::new(who, "cat /v/hello");
        fs::create_dir(sandbox.path("volume")).expect("a directory");
        fs::write(sandbox.path("volume/hello"), "hi\n").expect("a file");
        let option = format!("{}=/v", sandbox.path("volume").display());
        assert_eq!(sandbox.run_with(&["--directory", &option]).ok(), "hi\n", "as {who:?}");
    }
}

#[test]
fn a_secret_has_owner_and_mode_and_is_gone_afterwards() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "cat /run/secrets/token; stat -c ' %a %u' /run/secrets/token");
        let uid = if who == Who::SingleId { 0 } else { 1000 };
        sandbox.spec.mounts = vec![Mount {
            kind: MountKind::File { content: Content(b"hunter2".to_vec()), mode: 0o400, uid, gid: 0 },
            target: "/run/secrets/token".into(),
            read_only: true,
        }];
        assert_eq!(sandbox.run().ok(), format!("hunter2 400 {uid}\n"), "as {who:?}");
        assert_eq!(sandbox.changes(), [] as [&str; 0]);
    }
}

#[test]
fn a_tmpfs_has_mode_and_size() {
    for who in Who::all() {
        let mut sandbox =
            Sandbox::new(who, "stat -c %a /scratch; df -k /scratch | sed -n 2p | tr -s ' ' | cut -d' ' -f2");
        sandbox.spec.mounts = vec![Mount {
            kind: MountKind::Tmpfs { size: Some(1 << 20), mode: 0o1777, owner: (0, 0), executable: true },
            target: "/scratch".into(),
            read_only: false,
        }];
        assert_eq!(sandbox.run().ok(), "1777\n1024\n", "as {who:?}");
    }
}

#[test]
fn writes_to_an_overlay_mount_do_not_reach_its_source() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "echo changed > /src/file; cat /src/file");
        for part in ["source", "dropped", "dropped-work"] {
            fs::create_dir(sandbox.path(part)).expect("a directory");
        }
        fs::write(sandbox.path("source/file"), "kept\n").expect("a file");
        sandbox.spec.mounts = vec![Mount {
            kind: MountKind::Overlay {
                lower: vec![sandbox.path("source")],
                upper: sandbox.path("dropped"),
                work: sandbox.path("dropped-work"),
            },
            target: "/src".into(),
            read_only: false,
        }];
        assert_eq!(sandbox.run().ok(), "changed\n", "as {who:?}");
        assert_eq!(fs::read_to_string(sandbox.path("source/file")).expect("the file"), "kept\n");
    }
}

#[test]
fn parents_are_mounted_before_children_in_any_order() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "cat /a/b/hello; ls /a");
        fs::create_dir(sandbox.path("volume")).expect("a directory");
        fs::write(sandbox.path("volume/hello"), "hi\n").expect("a file");
        sandbox.spec.mounts = vec![
            bind(sandbox.path("volume"), "/a/b", true),
            Mount {
                kind: MountKind::Tmpfs { size: None, mode: 0o755, owner: (0, 0), executable: true },
                target: "/a".into(),
                read_only: false,
            },
        ];
        assert_eq!(sandbox.run().ok(), "hi\nb\n", "as {who:?}");
    }
}

#[test]
fn impossible_targets_say_why() {
    let mut sandbox = Sandbox::new(Who::all()[0], "true");
    sandbox.spec.mounts = vec![bind("/tmp".into(), "/etc/passwd", false)];
    let ran = sandbox.run();
    assert!(ran.err.contains("/etc/passwd") && ran.err.contains("it is a file in the image"), "{ran:?}");
    sandbox.spec.mounts = vec![bind("/nonexistent".into(), "/x", false)];
    let ran = sandbox.run();
    assert!(ran.err.contains("cannot bind /nonexistent: No such file"), "{ran:?}");
    sandbox.spec.mounts = vec![bind("/tmp".into(), "/", false)];
    assert!(sandbox.run().err.contains("it is the root directory"));
}

#[test]
fn a_read_only_root_leaves_mounts_writable() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "touch /scratch/x && touch /dev/shm/x && touch /x");
        sandbox.spec.read_only_root = true;
        sandbox.spec.mounts = vec![Mount {
            kind: MountKind::Tmpfs { size: None, mode: 0o755, owner: (0, 0), executable: true },
            target: "/scratch".into(),
            read_only: false,
        }];
        let ran = sandbox.run();
        assert!(ran.err.starts_with("touch: /x: Read-only file system"), "{ran:?}");
    }
}
