//! The ordinary user that tests become when root runs them.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

/// The id of the ordinary user of the tests, with ranges in `/etc/subuid`; created if missing, which needs
/// root.
///
/// # Panics
///
/// If the user cannot be created or has no ranges; the message says what to do.
pub fn test_user() -> u32 {
    static USER: OnceLock<u32> = OnceLock::new();
    *USER.get_or_init(|| {
        const NAME: &str = "crossdock-test";
        let find = || {
            let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
            passwd.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                (fields[0] == NAME).then(|| fields[2].parse().expect("an id"))
            })
        };
        if find().is_none() {
            let made = Command::new("useradd").args(["--create-home", NAME]).output().expect("useradd runs");
            // Another test binary may have been quicker.
            assert!(made.status.success() || find().is_some(), "useradd {NAME}: {made:?}");
        }
        let subuid = fs::read_to_string("/etc/subuid").unwrap_or_default();
        assert!(
            subuid.contains(NAME),
            "/etc/subuid has no range for {NAME}: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {NAME}"
        );
        find().expect("the user exists now")
    })
}
