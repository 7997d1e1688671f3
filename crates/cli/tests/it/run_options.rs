//! Options of run for rights, limits, devices and settings, as docker has them.

use crate::support::World;

fn out(world: &World, options: &[&str], script: &str) -> String {
    world.run(&[&["run"], options, &["base", "sh", "-c", script]].concat()).ok()
}

fn refused(world: &World, options: &[&str]) -> String {
    let ran = world.run(&[&["run"], options, &["base", "true"]].concat());
    assert_eq!(ran.code, Some(125), "{options:?}: {}", ran.err);
    ran.err
}

#[test]
fn capabilities_and_privileges() {
    let world = World::with_base();
    let bounding = "grep CapBnd /proc/self/status | cut -f 2";
    assert_eq!(out(&world, &["--cap-add", "NET_ADMIN", "--cap-drop=CHOWN"], bounding), "00000000a80435fa\n");
    assert_eq!(out(&world, &["--cap-drop", "ALL"], bounding), "0000000000000000\n");
    assert_eq!(out(&world, &["--cap-drop", "all", "--cap-add", "cap_kill"], bounding), "0000000000000020\n");
    let mounts = "mkdir /m; mount -t tmpfs none /m 2>/dev/null && echo mounted || echo refused";
    assert_eq!(out(&world, &[], mounts), "refused\n");
    assert_eq!(out(&world, &["--cap-add", "SYS_ADMIN"], mounts), "mounted\n");
    let status = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f 2";
    assert_eq!(out(&world, &["--security-opt", "no-new-privileges"], status), "1\n2\n");
    let unconfined = out(&world, &["--security-opt", "seccomp=unconfined"], status);
    assert!(unconfined.starts_with("0\n"), "{unconfined}");
    let keys = "test -c /proc/keys && echo hidden || echo shown";
    assert_eq!(out(&world, &[], keys), "hidden\n");
    assert_eq!(out(&world, &["--security-opt", "systempaths=unconfined"], keys), "shown\n");
    assert!(refused(&world, &["--cap-add", "NOPE"]).contains("there is no such capability"));
    assert!(refused(&world, &["--security-opt", "seccomp=p.json"]).contains("only docker's default profile"));
}

#[test]
fn groups_names_servers_and_settings() {
    let world = World::with_base();
    let ran = world.run(&["run", "--group-add", "staff", "--group-add", "77", "base", "id", "-G"]);
    match ran.err.contains("only one group id") {
        true => assert_eq!(ran.ok(), "0\n"),
        false => assert_eq!(ran.ok(), "0 50 77\n"),
    }
    let options =
        ["--dns", "192.0.2.1", "--dns-search", "a.test", "--dns-search", "b.test", "--dns-opt", "ndots:2"];
    let expect = "nameserver 192.0.2.1\nsearch a.test b.test\noptions ndots:2\n";
    assert_eq!(out(&world, &options, "cat /etc/resolv.conf"), expect);
    assert!(refused(&world, &["--dns", "name"]).contains("--dns name: not an IP address"));

    let options =
        ["--network", "none", "--sysctl", "net.ipv4.ip_default_ttl=33", "--sysctl", "kernel.shmmni=77"];
    let script = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni; \
        (echo 1 > /proc/sys/net/ipv4/ip_default_ttl) 2>/dev/null || echo refused";
    assert_eq!(out(&world, &options, script), "33\n77\nrefused\n");
    let error = refused(&world, &["--sysctl", "net.ipv4.ip_default_ttl=33"]);
    assert!(error.contains("--network host is the network of this machine"), "{error}");
    let error = refused(&world, &["--sysctl", "vm.swappiness=1"]);
    assert!(error.contains("a setting of the whole machine"), "{error}");
}

#[test]
fn devices_are_those_of_this_machine() {
    let world = World::with_base();
    // Every machine has this device, whatever else it has.
    let script = "test -c /dev/mine && head -c 3 /dev/mine | wc -c; ls /dev | grep -c mine";
    assert_eq!(out(&world, &["--device", "/dev/zero:/dev/mine:rwm"], script), "3\n1\n");
    assert!(refused(&world, &["--device", "/etc/passwd"]).contains("/etc/passwd is no device"));
    assert!(refused(&world, &["--device", "vendor.com/gpu=all"]).contains("Container Device Interface"));
    assert!(refused(&world, &["--device", "/dev/nope"]).contains("/dev/nope"));
}

#[test]
fn limits_hold_or_say_that_they_do_not() {
    let world = World::with_base();
    // Each process waits for the end of its input, so that all are there at once.
    let script = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo all";
    let ran = world.run(&["run", "--pids-limit", "8", "base", "sh", "-c", script]);
    if ran.err.contains("warning: --pids-limit limits nothing") {
        assert!(ran.err.contains("systemd-run --user --scope -p TasksMax=8"), "{}", ran.err);
        assert_eq!(ran.ok(), "all\n");
    } else {
        assert!(ran.err.contains("fork") && ran.code != Some(0), "{ran:?}");
    }
    let script = "head -c 60m /dev/zero | tail -c 50m | wc -c";
    let ran = world.run(&["run", "-m", "20m", "--memory-swap", "20m", "base", "sh", "-c", script]);
    let swap = ran.err.contains("memsw") || ran.err.contains("memory.swap.max");
    if ran.err.contains("limit nothing") || swap {
        assert!(ran.err.contains("--memory"), "{}", ran.err);
    } else {
        assert_eq!(ran.out, "0\n", "tail is killed: {ran:?}");
    }
    for wrong in
        [&["--memory", "1m"][..], &["--memory-swap", "1g"], &["--cpus", "many"], &["--cpuset-cpus", "b"]]
    {
        assert!(refused(&world, wrong).contains(wrong[0]), "{wrong:?}");
    }
}

#[test]
fn the_file_of_the_id() {
    let world = World::with_base();
    let file = world.text("id");
    world.run(&["run", "--cidfile", &file, "base", "true"]).ok();
    let id = std::fs::read_to_string(&file).expect("written");
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert!(refused(&world, &["--cidfile", &file]).contains("the file exists"));
    assert_eq!(std::fs::read_to_string(&file).expect("kept"), id);
}
