//! What `crossdock doctor` finds here.

use crossdock_sandbox::doctor::{Check, Health};

use crate::support::{Ran, Sandbox, Who};

#[test]
fn this_machine_is_looked_at_without_being_changed() {
    for who in Who::all().into_iter().filter(|who| *who != Who::SingleId) {
        let before = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let sandbox = Sandbox::new(who, "");
        let out = Ran::from(sandbox.probe().arg("doctor").output().expect("the probe runs")).ok();
        let checks: Vec<Check> = serde_json::from_str(&out).expect("checks");
        for name in [
            "kernel",
            "user ids",
            "user namespaces",
            "overlay",
            "private binfmt_misc",
            "seccomp",
            "emulator for arm64",
        ] {
            let check = checks.iter().find(|check| check.name == name).expect(name);
            assert_eq!(check.status, Health::Ok, "as {who:?}: {check:?}");
        }
        assert_eq!(before, std::fs::read_to_string("/proc/self/mountinfo").expect("mounts"));
    }
}
