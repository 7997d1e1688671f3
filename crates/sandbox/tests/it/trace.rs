//! What a run leaves: its changes, in the form of overlayfs, and nothing else.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use crossdock_sandbox::{Content, Mount, MountKind, Root};

use crate::support::{Sandbox, Who};

const BESIDE: [&str; 7] = ["base", "etc", "probe", "spec.json", "upper", "work", ""];

#[test]
fn mount_points_leave_nothing() {
    for who in Who::all() {
        let mut sandbox =
            Sandbox::new(who, "ls -d /proc/self /root/.cache/pip /run/secrets/token /etc/hosts");
        sandbox.spec.mounts = vec![tmpfs("/root/.cache/pip"), file("/run/secrets/token", 0o400, 0)];
        sandbox.run().ok();
        assert_eq!(sandbox.changes(), [] as [&str; 0], "as {who:?}");
        assert_eq!(sandbox.beside(), BESIDE[..6]);
    }
}

#[test]
fn changes_beside_mount_points_are_kept() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "touch /root/.cache/other /etc/new; stat -c '%a %u' /etc /root");
        fs::set_permissions(sandbox.path("etc/etc"), fs::Permissions::from_mode(0o750)).expect("mode");
        sandbox.spec.mounts = vec![tmpfs("/root/.cache/pip")];
        assert_eq!(sandbox.run().ok(), "750 0\n755 0\n", "as {who:?}");
        // The parents were created for the mount, but now hold files of the command; the mount point itself
        // is gone.
        assert_eq!(sandbox.changes(), ["etc", "etc/new", "root", "root/.cache", "root/.cache/other"]);
    }
}

#[test]
fn a_second_run_in_the_same_upper_sees_the_first() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "rm -f /etc/passwd; echo 1 > /etc/one");
        sandbox.run().ok();
        sandbox.spec.args = ["sh", "-c", "ls /etc; rm /etc/one"].map(Into::into).into();
        assert_eq!(sandbox.run().ok(), "group\nhosts\none\nresolv.conf\n");
        assert_eq!(sandbox.changes(), ["etc", "etc/passwd"], "the whiteout only");
    }
}

#[test]
fn deletions_become_whiteouts_and_replaced_directories_opaque() {
    for who in Who::all() {
        let sandbox = Sandbox::new(who, "rm /bin/true; rm -r /tmp; mkdir /tmp; echo $?");
        fs::write(sandbox.path("base/tmp/old"), "").expect("a file");
        sandbox.run().ok();
        assert_eq!(sandbox.changes(), ["bin", "bin/true", "tmp"], "as {who:?}");
        let whiteout = fs::symlink_metadata(sandbox.path("upper/bin/true")).expect("a whiteout");
        assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
        let mut value = [0; 8];
        let length =
            rustix::fs::getxattr(sandbox.path("upper/tmp"), "user.overlay.opaque", value.as_mut_slice());
        assert_eq!(&value[..length.expect("the mark")], b"y");
    }
}

#[test]
fn a_dangling_link_is_followed_inside_and_left_alone() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "cat /etc/resolv.conf; readlink /etc/resolv.conf");
        symlink("../../run/systemd/resolve/stub.conf", sandbox.path("etc/etc/resolv.conf")).expect("a link");
        sandbox.spec.resolv_conf = Some("nameserver 1.2.3.4\n".into());
        assert_eq!(sandbox.run().ok(), "nameserver 1.2.3.4\n../../run/systemd/resolve/stub.conf\n");
        assert_eq!(sandbox.changes(), [] as [&str; 0]);
    }
}

#[test]
fn a_mount_point_that_upper_deleted_is_deleted_again() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "rm /etc/group; rm -r /tmp");
        sandbox.run().ok();
        let etc = |sandbox: &Sandbox| {
            let metadata = fs::metadata(sandbox.path("upper/etc")).expect("metadata");
            (metadata.mtime(), metadata.mtime_nsec())
        };
        let before = etc(&sandbox);
        sandbox.spec.args = ["sh", "-c", "cat /etc/group; ls -d /tmp/x/y"].map(Into::into).into();
        sandbox.spec.mounts = vec![file("/etc/group", 0o644, 0), tmpfs("/tmp/x/y")];
        assert_eq!(sandbox.run().ok(), "secret/tmp/x/y\n");
        assert_eq!(sandbox.changes(), ["etc", "etc/group", "tmp"], "as {who:?}");
        let whiteout = fs::symlink_metadata(sandbox.path("upper/tmp")).expect("a whiteout");
        assert!(whiteout.file_type().is_char_device());
        assert_eq!(before, etc(&sandbox), "the time of the directory is put back");
    }
}

#[test]
fn a_volatile_upper_can_be_used_again() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "touch /x$(ls / | wc -l)");
        let Root::Overlay { volatile, .. } = &mut sandbox.spec.root else { panic!("an overlay") };
        *volatile = true;
        sandbox.run().ok();
        sandbox.run().ok();
        assert_eq!(sandbox.changes().len(), 2, "as {who:?}");
    }
}

#[test]
fn a_failed_start_leaves_nothing_either() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "true");
        sandbox.spec.user = "nobody-here".into();
        let ran = sandbox.run();
        assert_eq!(ran.code, Some(125));
        assert!(ran.err.contains("unable to find user nobody-here"), "{ran:?}");
        assert_eq!(sandbox.changes(), [] as [&str; 0]);
        assert_eq!(sandbox.beside(), BESIDE[..6]);
    }
}

fn tmpfs(target: &str) -> Mount {
    Mount {
        kind: MountKind::Tmpfs { size: None, mode: 0o755, owner: (0, 0), executable: true },
        target: target.into(),
        read_only: false,
    }
}

fn file(target: &str, mode: u32, uid: u32) -> Mount {
    let content = Content(b"secret".to_vec());
    Mount { kind: MountKind::File { content, mode, uid, gid: uid }, target: target.into(), read_only: true }
}
