//! A list names everything of the host and the kernel that a command can reach, and why. Anything else fails
//! the test.

use std::path::Path;
use std::process::Command;

use crate::support::{Who, World, is_root, our_emulator, require};

/// Lines that `reach.c` may print, and why. `*` stands for anything, `N` for a number; a line with `+` in
/// front must occur.
const LIST: &[(&str, &str)] = &[
    // Mounts: type, place, whether the command may write.
    ("+mount overlay / rw", "the image, with the changes of this run"),
    ("+mount proc /proc rw", "its own instance: the processes of this container"),
    ("+mount tmpfs /dev rw", "its own tmpfs, where nothing but links and places of mounts is"),
    (
        "+mount * /dev/null ro",
        "the host's device: can be used; mode, owner and times are the host's and read-only",
    ),
    ("+mount * /dev/zero ro", "as null"),
    ("+mount * /dev/full ro", "as null"),
    ("+mount * /dev/random ro", "as null"),
    ("+mount * /dev/urandom ro", "as null"),
    ("mount * /dev/tty ro", "as null; opens the terminal of the session, which is the container's"),
    ("+mount devpts /dev/pts rw", "its own instance: terminals of this container"),
    ("mount devpts /dev/console rw", "the terminal of the container, with -t"),
    ("+mount tmpfs /dev/shm rw", "its own tmpfs"),
    ("+mount mqueue /dev/mqueue rw", "of the container's own ipc namespace"),
    ("mount tmpfs /dev/.crossdock/images ro", "its own tmpfs, with nothing but places of mounts"),
    (
        "mount * /dev/.crossdock/images/* ro",
        "translations of emulated programs in the container's layers, in the store; read-only",
    ),
    ("mount tmpfs /dev/.crossdock/reports rw", "its own tmpfs: what emulated programs ran"),
    ("dev /dev/.crossdock/reports/* file 0:0", "such a report"),
    ("/dev/.crossdock/reports/* can get another mode", "as above"),
    ("/dev/.crossdock/reports/* can be written", "as above; nobody believes it"),
    ("+mount sysfs /sys ro", "the kernel's devices, read-only"),
    ("mount cgroup2 /sys/fs/cgroup ro", "of the container's own cgroup namespace, read-only"),
    ("mount * /sys/* ro", "mounts of the host, each covered by an empty directory"),
    ("+mount tmpfs /etc/resolv.conf r*", "generated: the container's own copy, of a step read-only"),
    ("+mount tmpfs /etc/hosts r*", "as resolv.conf"),
    ("mount tmpfs /etc/hostname rw", "generated: the container's own copy; a step has the file of its image"),
    ("mount tmpfs /etc/apt/apt.conf.d/* ro", "generated, with one user id"),
    ("+mount proc /proc/sys ro", "settings of the kernel, which user 0 could change"),
    ("mount proc /proc/bus ro", "as sys"),
    ("mount proc /proc/fs ro", "as sys"),
    ("mount proc /proc/irq ro", "as sys"),
    ("mount proc /proc/sysrq-trigger ro", "as sys"),
    ("mount tmpfs /proc/acpi ro", "hidden"),
    ("mount tmpfs /proc/asound ro", "hidden"),
    ("mount tmpfs /proc/scsi ro", "hidden"),
    ("mount * /proc/interrupts ro", "hidden"),
    ("mount * /proc/kcore ro", "hidden"),
    ("mount * /proc/keys ro", "hidden"),
    ("mount * /proc/latency_stats ro", "hidden"),
    ("mount * /proc/sched_debug ro", "hidden"),
    ("mount * /proc/timer_list ro", "hidden"),
    ("mount * /proc/timer_stats ro", "hidden"),
    // Descriptors.
    ("+own descriptor 0 character 1:3", "no input: the null device, on its read-only mount"),
    ("+own descriptor 1 pipe", "output, copied by crossdock"),
    ("+own descriptor 2 pipe", "output, copied by crossdock"),
    ("own descriptor N character 136:N", "with -t: the terminal of the container"),
    ("own descriptor N character 136:N can get another mode", "of the container's own devpts"),
    ("+own executable", "a file of the image"),
    ("own executable can get another mode", "a file of the image"),
    ("own executable can be written", "a file of the image; without an emulator it is busy"),
    ("emulator's descriptor 0 character 1:3", "the command's own"),
    ("emulator's descriptor N pipe", "the command's own"),
    (
        "emulator's descriptor N file",
        "the program that runs or the emulator's own file, which is on a read-only mount",
    ),
    ("emulator's executable", "on a read-only mount of its own"),
    // /dev.
    ("+dev /dev/null character 1:3", "every container has it"),
    ("+dev /dev/zero character 1:5", "every container has it"),
    ("+dev /dev/full character 1:7", "every container has it"),
    ("+dev /dev/random character 1:8", "every container has it"),
    ("+dev /dev/urandom character 1:9", "every container has it"),
    ("dev /dev/tty character 5:0", "every container has it"),
    ("dev /dev/console character 136:0", "the terminal of the container, with -t"),
    ("/dev/console can get another mode", "of the container's own devpts"),
    ("dev /dev/pts/N character 136:N", "terminals of this container"),
    ("/dev/pts/N can get another mode", "of the container's own devpts"),
    ("dev /dev/pts/ptmx character 5:2", "makes terminals of this container"),
    ("/dev/pts/ptmx can get another mode", "of the container's own devpts"),
    ("dev /dev/ptmx other 0:0", "link"),
    ("dev /dev/core other 0:0", "link"),
    ("dev /dev/fd other 0:0", "link"),
    ("dev /dev/stdin other 0:0", "link"),
    ("dev /dev/stdout other 0:0", "link"),
    ("dev /dev/stderr other 0:0", "link"),
    // The content of /proc beside processes, and which of its files the command may open for writing.
    ("writable /proc/pressure/*", "notifications of one's own pressure limits; changes nothing"),
    ("writable /proc/self/*", "the command's own process"),
    (
        "writable /proc/slabinfo",
        "has had nothing to write to since the SLAB allocator went (Linux 6.8); masked by nobody",
    ),
    ("proc /proc/self", "the command's own process"),
    ("proc /proc/thread-self", "the command's own thread"),
    ("proc /proc/mounts", "link to self"),
    ("proc /proc/net", "link to self: the network namespace of the command"),
    ("proc /proc/acpi", "hidden"),
    ("proc /proc/asound", "hidden"),
    ("proc /proc/scsi", "hidden"),
    ("proc /proc/interrupts", "hidden"),
    ("proc /proc/kcore", "hidden"),
    ("proc /proc/keys", "hidden"),
    ("proc /proc/latency_stats", "hidden"),
    ("proc /proc/sched_debug", "hidden"),
    ("proc /proc/timer_list", "hidden"),
    ("proc /proc/timer_stats", "hidden"),
    ("proc /proc/bus", "read-only"),
    ("proc /proc/fs", "read-only"),
    ("proc /proc/irq", "read-only"),
    ("proc /proc/sys", "read-only"),
    ("proc /proc/sysrq-trigger", "read-only"),
    ("proc /proc/bootconfig", "facts about the machine, as docker shows them"),
    ("proc /proc/buddyinfo", "facts"),
    ("proc /proc/cgroups", "facts"),
    ("proc /proc/cmdline", "facts"),
    ("proc /proc/config.gz", "facts"),
    ("proc /proc/consoles", "facts"),
    ("proc /proc/cpuinfo", "facts"),
    ("proc /proc/crypto", "facts"),
    ("proc /proc/devices", "facts"),
    ("proc /proc/diskstats", "facts"),
    ("proc /proc/dma", "facts"),
    ("proc /proc/driver", "facts"),
    (
        "proc /proc/dynamic_debug",
        "its control file wants CAP_SYS_ADMIN of the first namespace where lockdown or the mount is not in the way; see the writable ones",
    ),
    ("proc /proc/execdomains", "facts"),
    ("proc /proc/fb", "facts"),
    ("proc /proc/filesystems", "facts"),
    ("proc /proc/iomem", "facts; addresses for CAP_SYS_ADMIN of the first namespace only"),
    ("proc /proc/ioports", "as iomem"),
    ("proc /proc/kallsyms", "facts; addresses for CAP_SYSLOG of the first namespace only"),
    ("proc /proc/key-users", "numbers of keys by user id"),
    ("proc /proc/kmsg", "wants CAP_SYSLOG of the first namespace"),
    ("proc /proc/kpagecgroup", "for user 0 of the host: numbers of pages, no content"),
    ("proc /proc/kpagecount", "as kpagecgroup"),
    ("proc /proc/kpageflags", "as kpagecgroup"),
    ("proc /proc/loadavg", "facts"),
    ("proc /proc/locks", "facts"),
    ("proc /proc/mdstat", "facts"),
    ("proc /proc/meminfo", "facts"),
    ("proc /proc/misc", "facts"),
    ("proc /proc/modules", "facts"),
    ("proc /proc/mtrr", "writing wants CAP_SYS_ADMIN of the first namespace"),
    ("proc /proc/pagetypeinfo", "facts"),
    ("proc /proc/partitions", "facts"),
    ("proc /proc/pressure", "facts"),
    ("proc /proc/schedstat", "facts"),
    ("proc /proc/slabinfo", "facts"),
    ("proc /proc/softirqs", "facts"),
    ("proc /proc/stat", "facts"),
    ("proc /proc/swaps", "facts"),
    ("proc /proc/sysvipc", "of the container's own ipc namespace"),
    ("proc /proc/tty", "facts"),
    ("proc /proc/uptime", "facts"),
    ("proc /proc/version", "facts"),
    ("proc /proc/version_signature", "facts (Ubuntu)"),
    ("proc /proc/vmallocinfo", "facts"),
    ("proc /proc/vmstat", "facts"),
    ("proc /proc/xen", "facts"),
    ("proc /proc/zoneinfo", "facts"),
    // The parts of /sys; nothing in it is writable.
    ("sys /sys/block", "facts about devices"),
    ("sys /sys/bus", "facts about devices"),
    ("sys /sys/class", "facts about devices"),
    ("sys /sys/dev", "facts about devices"),
    ("sys /sys/devices", "facts about devices"),
    ("sys /sys/firmware", "hidden"),
    ("sys /sys/fs", "facts; what is mounted there is hidden"),
    ("sys /sys/hypervisor", "facts"),
    ("sys /sys/kernel", "facts; what is mounted there is hidden"),
    ("sys /sys/module", "facts"),
    ("sys /sys/power", "facts"),
    ("+end", "all was looked at"),
];

/// Whether a line matches a pattern.
fn matches(pattern: &str, line: &str) -> bool {
    match pattern.chars().next() {
        None => line.is_empty(),
        Some('*') => (0..=line.len()).any(|n| line.is_char_boundary(n) && matches(&pattern[1..], &line[n..])),
        Some('N') => {
            let digits = line.bytes().take_while(u8::is_ascii_digit).count();
            digits > 0 && matches(&pattern[1..], &line[digits..])
        }
        Some(c) => line.strip_prefix(c).is_some_and(|rest| matches(&pattern[c.len_utf8()..], rest)),
    }
}

#[track_caller]
fn check(what: &str, said: &str) {
    let said = said.replace('\r', "");
    let unknown: Vec<&str> = said
        .lines()
        .filter(|line| !LIST.iter().any(|(pattern, _)| matches(pattern.trim_start_matches('+'), line)))
        .collect();
    assert!(unknown.is_empty(), "{what}: not in the list:\n{}", unknown.join("\n"));
    for (pattern, _) in LIST {
        if let Some(wanted) = pattern.strip_prefix('+') {
            // With a terminal the streams are not pipes.
            let terminal = what.contains("terminal") && wanted.starts_with("own descriptor");
            let there = terminal || said.lines().any(|line| matches(wanted, line));
            assert!(there, "{what}: \"{wanted}\" is missing in\n{said}");
        }
    }
}

#[test]
fn what_a_command_can_reach_is_in_the_list() {
    our_emulator();
    let everybody =
        if is_root() { vec![Who::Tester, Who::User, Who::SingleId] } else { vec![Who::User, Who::SingleId] };
    for who in everybody {
        let world = World::of(who);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/reach.c");
        for (compiler, package, program) in
            [("gcc", "gcc", "native"), ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu", "foreign")]
        {
            let mut compile = Command::new(require(compiler, package));
            compile.args(["-static", "-O1", "-w", "-o"]).arg(world.path("context").join(program));
            assert!(compile.arg(&source).status().expect("the compiler runs").success());
        }
        for (platform, program, emulators) in
            [("linux/amd64", "native", &[""][..]), ("linux/arm64", "foreign", &["builtin", "qemu"])]
        {
            let dockerfile =
                format!("FROM scratch\nCOPY native /native\nCOPY {program} /reach\nCMD [\"/reach\"]\n");
            world.build(&dockerfile, &["--platform", platform, "-t", "reach"]).ok();
            for emulator in emulators {
                let mut args = vec!["run", "--platform", platform];
                if !emulator.is_empty() {
                    args.extend(["--emulator", *emulator]);
                }
                let what = format!("{who:?}, {platform} {emulator}");
                if !emulator.is_empty() {
                    check(&what, &world.run(&[&args[..], &["reach", "/reach", "/native"]].concat()).ok());
                } else {
                    check(&what, &world.run(&[&args[..], &["reach"]].concat()).ok());
                    let said = world.run(&[&args[..], &["-t", "reach"]].concat());
                    check(&format!("{what}, terminal"), &said.ok());
                    let said = world.run(&[&args[..], &["--init", "reach"]].concat());
                    check(&format!("{what}, init"), &said.ok());
                    check(
                        &format!("{what}, no network"),
                        &world.run(&["run", "--network", "none", "reach"]).ok(),
                    );
                }
            }
        }
        // A step of a build.
        let dockerfile = "FROM scratch\nCOPY native /reach\nRUN [\"/reach\"]\n";
        let built = world.build(dockerfile, &[]);
        assert_eq!(built.code, Some(0), "{}", built.err);
        let said = built.err.lines().filter_map(|line| line.split_once(' ')?.1.split_once(' '));
        let said: Vec<&str> =
            said.filter(|(time, _)| time.parse::<f64>().is_ok()).map(|(_, rest)| rest).collect();
        check(&format!("{who:?}, a step"), &said.join("\n"));
        let etc: Vec<&&str> = said.iter().filter(|line| line.starts_with("mount tmpfs /etc/")).collect();
        assert!(etc.iter().all(|line| line.ends_with(" ro")), "{who:?}: a step may write {etc:?}");
    }
}
