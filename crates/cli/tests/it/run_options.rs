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

#[test]
fn programs_with_arguments_instead_of_the_entrypoint() {
    let world = World::with_base();
    let run =
        |program: &str, rest: &[&str]| world.run(&[&["run", "--entrypoint", program, "base"], rest].concat());
    assert_eq!(run("[\"echo\", \"a  b\"]", &["c"]).ok(), "a  b c\n");
    assert_eq!(run("[]", &["echo", "d"]).ok(), "d\n");
    assert_eq!(run("echo", &["e"]).ok(), "e\n");
    // This is no list of words, so it is the name of a program.
    let ran = run("[\"echo\", 1]", &[]);
    assert_eq!(ran.code, Some(127), "{}", ran.err);
}

#[test]
fn the_host_name_is_in_the_environment() {
    let world = World::with_base();
    assert_eq!(out(&world, &["-h", "box"], "echo $HOSTNAME; hostname"), "box\nbox\n");
    let own = out(&world, &[], "test \"$HOSTNAME\" = \"$(hostname)\" && echo same");
    assert_eq!(own, "same\n");
    assert_eq!(out(&world, &["-e", "HOSTNAME=mine", "-h", "box"], "echo $HOSTNAME"), "mine\n");
}

#[test]
fn sizes_in_memory_are_bytes_or_percent() {
    let world = World::with_base();
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("readable");
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("a line");
    let total: u64 = total.trim().trim_end_matches(" kB").parse().expect("a number");
    let script = "df -k /x | tail -1 | tr -s ' ' | cut -d' ' -f2";
    for options in [&["--tmpfs", "/x:size=10%"][..], &["--mount", "type=tmpfs,dst=/x,tmpfs-size=10%"]] {
        let size: u64 = out(&world, options, script).trim().parse().expect("a number");
        assert!(size.abs_diff(total / 10) < 64, "{options:?}: {size} of {total}");
    }
    assert!(refused(&world, &["--tmpfs", "/x:size=a%"]).contains("not a size"));
    assert!(refused(&world, &["--tmpfs", "/x:size=%"]).contains("not a size"));
}

#[test]
fn volumes_refuse_and_keep_what_their_options_say() {
    let world = World::with_base();
    world.file("v/f", "host\n");
    let volume = |options: &str| format!("{}:/v:{options}", world.text("context/v"));
    let program = "cp /bin/busybox /v/busybox; /v/busybox echo ran 2>/dev/null || echo refused";
    assert_eq!(out(&world, &["-v", &volume("noexec")], program), "refused\n");
    assert_eq!(out(&world, &["-v", &volume("noexec,exec")], program), "ran\n");
    let flags = "grep ' /v ' /proc/self/mountinfo | cut -d' ' -f6";
    let shown = out(&world, &["-v", &volume("ro,nosuid,nodev,noexec,z")], flags);
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(shown.trim().split(',').any(|word| word == flag), "no {flag} in {shown}");
    }
    let mount = format!("type=bind,src={},dst=/v,noexec,relabel=shared,U=false", world.text("context/v"));
    assert_eq!(out(&world, &["--mount", &mount], program), "refused\n");
    assert_eq!(out(&world, &["-v", "named:/v:nosuid,noexec"], program), "refused\n");

    // What is written over the directory goes with the container.
    let script = "cat /v/f; echo new > /v/f; rm -f /v/busybox; touch /v/more; cat /v/f";
    assert_eq!(out(&world, &["-v", &volume("O")], script), "host\nnew\n");
    assert_eq!(std::fs::read_to_string(world.path("context/v/f")).expect("kept"), "host\n");
    assert!(!world.path("context/v/more").exists() && world.path("context/v/busybox").exists());

    for word in ["rprivate", "private", "rslave", "slave", "rshared", "shared"] {
        let ran = world.run(&["run", "-v", &volume(word), "base", "cat", "/v/f"]);
        assert_eq!(ran.err.contains("does nothing"), !word.ends_with("private"), "{}", ran.err);
        assert_eq!(ran.ok(), "host\n");
    }
    assert!(refused(&world, &["-v", &volume("U")]).contains("chown -R USER TARGET"));
    assert!(refused(&world, &["-v", &volume("nosuch")]).contains("unknown option nosuch"));

    let image = |more: &str| format!("type=image,src=base,dst=/i{more}");
    let script = "(echo x > /i/x) 2>/dev/null && cat /i/x || echo refused";
    assert_eq!(out(&world, &["--mount", &image("")], script), "refused\n");
    assert_eq!(out(&world, &["--mount", &image(",rw=false")], script), "refused\n");
    assert_eq!(out(&world, &["--mount", &image(",rw")], script), "x\n");
    assert_eq!(world.sh("base", "ls /x 2>/dev/null"), "");
}
