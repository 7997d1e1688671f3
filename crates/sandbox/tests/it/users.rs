//! `USER` in all its forms, working directory and environment.

use crossdock_sandbox::Limit;

use crate::support::{Sandbox, Who};

#[test]
fn users_are_those_of_the_image() {
    for who in Who::all().into_iter().filter(|who| *who != Who::SingleId) {
        for (user, expect) in [
            ("", "uid=0(root) gid=0(root) groups=0(root) /root"),
            ("ann", "uid=1000(ann) gid=1001(ann) groups=50(staff),1001(ann) /home/ann"),
            ("1000", "uid=1000(ann) gid=1001(ann) groups=50(staff),1001(ann) /home/ann"),
            ("ann:staff", "uid=1000(ann) gid=50(staff) groups=50(staff) /home/ann"),
            ("4242:4343", "uid=4242 gid=4343 groups=4343 /"),
        ] {
            let mut sandbox = Sandbox::new(who, "echo $(id) $HOME");
            sandbox.spec.user = user.into();
            assert_eq!(sandbox.run().ok().trim(), expect, "{user} as {who:?}");
        }
    }
}

#[test]
fn an_id_outside_of_the_ranges_is_refused_with_advice() {
    let mut sandbox = Sandbox::new(Who::User, "true");
    sandbox.spec.user = "2000000000".into();
    let ran = sandbox.run();
    assert_eq!(ran.code, Some(125));
    assert!(ran.err.contains("cannot become user 2000000000") && ran.err.contains("/etc/subuid"), "{ran:?}");
}

/// apt's downloaders check that they have become another user, which is only pretended: apt is told not to
/// change it.
#[test]
fn apt_stays_root_where_there_is_no_other_user() {
    for who in Who::all() {
        let show = "cd /etc/apt/apt.conf.d 2>/dev/null && cat * || echo none";
        let sandbox = Sandbox::new(who, show);
        assert_eq!(sandbox.run().ok(), "none\n", "as {who:?}");
        let apt = "etc/etc/apt/apt.conf.d";
        std::fs::create_dir_all(sandbox.path(apt)).expect("a directory");
        std::fs::write(sandbox.path(apt).join("01own"), "own\n").expect("a file");
        let expect = if who == Who::SingleId { "own\nAPT::Sandbox::User \"root\";\n" } else { "own\n" };
        assert_eq!(sandbox.run().ok(), expect, "as {who:?}");
        assert_eq!(sandbox.changes(), [""; 0], "as {who:?}");
    }
}

#[test]
fn the_working_directory_is_made() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "pwd; umask");
        sandbox.spec.cwd = "/made/for/me".into();
        assert_eq!(sandbox.run().ok(), "/made/for/me\n0022\n");
        assert_eq!(sandbox.changes(), ["made", "made/for", "made/for/me"]);
    }
}

#[test]
fn the_environment_is_exactly_what_was_given() {
    let mut sandbox = Sandbox::new(Who::all()[0], "");
    sandbox.spec.args = ["env".into()].into();
    sandbox.spec.env = vec!["PATH=/nowhere:/bin".into(), "A=b=c".into(), "HOME=/h".into()];
    assert_eq!(sandbox.run().ok(), "PATH=/nowhere:/bin\nA=b=c\nHOME=/h\n");
}

#[test]
fn limits_are_set() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(who, "ulimit -n; ulimit -c");
        let limit = |resource, value| Limit { resource, soft: value, hard: value };
        sandbox.spec.limits = vec![limit(libc::RLIMIT_NOFILE, 64), limit(libc::RLIMIT_CORE, 0)];
        assert_eq!(sandbox.run().ok(), "64\n0\n", "as {who:?}");
    }
}
