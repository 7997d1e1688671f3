//! Capabilities, seccomp, masked and read-only paths.

use crossdock_sandbox::{Capabilities, Security};

use crate::support::{Sandbox, Who, everybody};

#[test]
fn capabilities_are_dockers_default_set() {
    everybody("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status", |_, ran| {
        let bits = format!("{:016x}", Capabilities::DEFAULT.bits());
        assert_eq!(bits, "00000000a80425fb");
        assert_eq!(
            ran.ok(),
            format!(
                "CapInh:\t0000000000000000\nCapPrm:\t{bits}\nCapEff:\t{bits}\nCapBnd:\t{bits}\n\
                 CapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n"
            )
        );
    });
}

#[test]
fn another_user_has_no_capabilities_but_setuid_programs_work() {
    for who in Who::all().into_iter().filter(|who| *who != Who::SingleId) {
        let mut sandbox = Sandbox::new(who, "grep CapEff /proc/self/status; grep CapBnd /proc/self/status");
        sandbox.spec.user = "ann".into();
        assert_eq!(sandbox.run().ok(), "CapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n");
        let mut sandbox =
            Sandbox::new(who, "cp /bin/probe /tmp/p && chmod 4755 /tmp/p && su ann -c '/tmp/p euid; id -u'");
        sandbox.spec.env = vec!["PATH=/bin".into()];
        assert_eq!(sandbox.run().ok(), "0\n1000\n", "as {who:?}");
    }
}

#[test]
fn the_profile_answers_calls() {
    let of = |who: Who, security: Security| {
        let mut sandbox = Sandbox::new(who, "");
        sandbox.spec.args = ["/bin/probe", "calls"].map(Into::into).into();
        sandbox.spec.security = security;
        sandbox.run().ok()
    };
    for who in Who::all() {
        let out = of(who, Security::SANDBOX);
        for (name, errno) in [
            ("unshare", libc::EPERM),
            ("clone3", libc::ENOSYS),
            ("keyctl", libc::EPERM),
            ("mount", libc::EPERM),
            ("io_uring_setup", libc::EPERM),
            ("vsock", libc::EPERM),
            ("alg", libc::EPERM),
            ("unknown", libc::ENOSYS),
            ("chown", 0),
            ("setgroups", 0),
            ("setresuid", 0),
        ] {
            assert!(out.lines().any(|line| line == format!("{name}={errno}")), "{name} as {who:?}: {out}");
        }
        let out = of(who, Security::INSECURE);
        for line in ["unshare=0", "clone3=22", "keyctl=0", "mount=14"] {
            assert!(out.lines().any(|l| l == line), "{line} as {who:?}: {out}");
        }
    }
}

#[test]
fn paths_that_tell_of_the_host_are_hidden() {
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do test -e $f && cat $f | wc -c; done | sort -u; \
        ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v : | wc -w";
    everybody(script, |_, ran| assert_eq!(ran.ok(), "0\n0\n"));
}

#[test]
fn the_hosts_settings_cannot_be_changed() {
    let script = "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/mm/ksm/run; do \
        test -e $f && (echo x > $f) 2>&1; done | grep -v 'Read-only file system'; touch /sys/x 2>&1 | grep -c Read-only";
    everybody(script, |_, ran| assert_eq!(ran.out, "1\n", "{ran:?}"));
}

#[test]
fn insecure_has_all_capabilities_of_its_namespace() {
    for who in Who::all() {
        let mut sandbox = Sandbox::new(
            who,
            "mkdir /m && mount -t tmpfs none /m && echo mounted; grep Seccomp: /proc/self/status",
        );
        sandbox.spec.security = Security::INSECURE;
        let expect = if who == Who::SingleId { "mounted\nSeccomp:\t2\n" } else { "mounted\nSeccomp:\t0\n" };
        assert_eq!(sandbox.run().ok(), expect, "as {who:?}");
    }
}

#[test]
fn with_a_single_id_changes_of_owner_are_pretended() {
    let sandbox = Sandbox::new(Who::SingleId, "touch /x && chown 33:33 /x && stat -c %u /x");
    assert_eq!(sandbox.run().ok(), "0\n");
    for who in Who::all().into_iter().filter(|who| *who != Who::SingleId) {
        let sandbox = Sandbox::new(who, "touch /x && chown 33:34 /x && stat -c %u:%g /x");
        assert_eq!(sandbox.run().ok(), "33:34\n", "as {who:?}");
    }
}
