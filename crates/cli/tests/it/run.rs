//! run.

use std::io::Write;
use std::process::Stdio;

use crossdock_testkit::foreign;
use rustix::process::Signal;

use crate::support::{Ran, Running, World, eventually, our_emulator, require};

#[test]
fn environment_directory_user_and_host_name() {
    let world = World::with_base();
    world.build("FROM base\nENV A=image B=image\nWORKDIR /w\nUSER ann\nENTRYPOINT [\"/bin/echo\", \"entry\"]\nCMD [\"cmd\"]\n", &["-t", "t"]).ok();
    std::fs::write(world.path("env"), "# comment\nC=from file\nHERE\n").expect("written");
    let args = [
        "run",
        "--rm",
        "-e",
        "A=given",
        "-e",
        "HERE",
        "--env-file",
        "env",
        "--hostname",
        "box",
        "--entrypoint",
        "sh",
    ];
    let script = "echo $A $B $C $HERE; pwd; id -un; hostname; cat /etc/hostname; echo $HOME";
    let ran = world.crossdock(&[&args[..], &["t", "-c", script]].concat()).env("HERE", "here").run();
    assert_eq!(ran.ok(), "given image from file here\n/w\nann\nbox\nbox\n/home/ann\n");
    assert_eq!(world.run(&["run", "t"]).ok(), "entry cmd\n");
    assert_eq!(world.run(&["run", "t", "-n", "x"]).ok(), "entry -n x\n");
    assert_eq!(world.run(&["run", "--entrypoint", "", "t", "pwd"]).ok(), "/w\n");
    let args = ["run", "-u", "7:8", "-w", "/new/dir", "--entrypoint", "sh", "t", "-c", "id -u; id -g; pwd"];
    assert_eq!(world.run(&args).ok(), "7\n8\n/new/dir\n");
}

#[test]
fn exit_codes_are_dockers() {
    let world = World::with_base();
    let code = |args: &[&str]| world.run(&[&["run"], args].concat()).code;
    assert_eq!(code(&["base", "sh", "-c", "exit 42"]), Some(42));
    // The first process of a container cannot kill itself, pid_namespaces(7).
    assert_eq!(code(&["--init", "base", "sh", "-c", "kill -TERM $$"]), Some(143));
    assert_eq!(code(&["--init", "base", "sh", "-c", "kill -9 $$"]), Some(137));
    let missing = world.run(&["run", "base", "no-such-program"]).fails(127);
    assert!(missing.contains("no-such-program"), "{missing}");
    let directory = world.run(&["run", "base", "/etc"]).fails(126);
    assert!(directory.contains("/etc"), "{directory}");
    for args in [
        &["--network", "mine", "base", "true"][..],
        &["--network", "private", "-p", "8080:80", "base", "true"],
        &["--network", "private", "--add-host", "me:host-gateway", "base", "true"],
        &["--user", "nobody-here", "base", "true"],
        &["--pull", "never", "absent", "true"],
        &["--platform", "linux/arm64", "--pull", "never", "base", "true"],
        &["--ulimit", "nope=1", "base", "true"],
        &["-d", "base", "true"],
    ] {
        let ran = world.run(&[&["run"], args].concat());
        assert_eq!(ran.code, Some(125), "{args:?}: {}", ran.err);
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
    }
}

#[test]
fn volumes_and_other_mounts() {
    let world = World::with_base();
    world.file("v/f", "host\n");
    let volume = |options: &str| format!("{}:/v{options}", world.text("context/v"));
    let ran =
        world.run(&["run", "-v", &volume(":ro"), "base", "sh", "-c", "cat /v/f; touch /v/x || echo refused"]);
    assert_eq!(ran.ok(), "host\nrefused\n");
    let ran = world.run(&["run", "-v", &volume(""), "base", "sh", "-c", "echo new > /v/x"]);
    ran.ok();
    assert_eq!(std::fs::read_to_string(world.path("context/v/x")).expect("written"), "new\n");
    let ran = world.run(&["run", "-v", "./context/v/f:/one", "base", "cat", "/one"]);
    assert_eq!(ran.ok(), "host\n");
    let mount = format!("type=bind,src={},dst=/m,readonly", world.text("context/v"));
    let ran = world.run(&[
        "run",
        "--mount",
        &mount,
        "--mount",
        "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700",
        "--tmpfs",
        "/u:size=2m",
        "base",
        "sh",
        "-c",
        "ls /m; stat -c %a /t; df -k /t /u | tail -2 | tr -s ' ' | cut -d' ' -f2; touch /m/y || echo refused",
    ]);
    assert_eq!(ran.ok(), "f\nx\n700\n1024\n2048\nrefused\n");
    let missing = world.text("made/by/docker");
    world.run(&["run", "-v", &format!("{missing}:/v"), "base", "touch", "/v/f"]).ok();
    assert!(world.path("made/by/docker/f").exists());
}

#[test]
fn what_a_container_writes_goes_with_it() {
    let world = World::with_base();
    assert_eq!(world.sh("base", "echo x > /x; cat /x"), "x\n");
    assert_eq!(world.sh("base", "ls /x 2>/dev/null"), "");
    let ran = world.run(&["run", "--read-only", "base", "sh", "-c", "touch /x || echo refused"]);
    assert_eq!(ran.ok(), "refused\n");
    let left = std::fs::read_dir(world.store().join("tmp")).expect("a directory").count();
    assert_eq!(left, 0);
}

#[test]
fn networks() {
    let world = World::with_base();
    let ran = world.run(&["run", "--network", "none", "base", "sh", "-c", "ls /sys/class/net"]);
    assert_eq!(ran.ok(), "lo\n");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        listener.accept().and_then(|(mut stream, _)| stream.write_all(b"from the host\n"))
    });
    let script = format!("nc -w 5 there {port} < /dev/null");
    let ran = world.run(&["run", "--add-host", "there:127.0.0.1", "base", "sh", "-c", &script]);
    assert_eq!(ran.ok(), "from the host\n");
}

/// Whether tests can have a private network on this machine; if not, the error must say why.
fn has_private_network(ran: &Ran) -> bool {
    if ran.code == Some(125) {
        for part in ["cannot connect a private network: ", "sudo "] {
            assert!(ran.err.contains(part), "{}", ran.err);
        }
    }
    ran.code != Some(125)
}

#[test]
fn a_private_network_does_not_lead_to_the_hosts_loopback() {
    let world = World::with_base();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    for network in ["private", "bridge", "pasta", "slirp4netns"] {
        let script = format!(
            "ls /sys/class/net; cat /etc/hosts | wc -l; nc -w 1 127.0.0.1 {port} < /dev/null || echo refused"
        );
        let ran = world.run(&["run", "--network", network, "--hostname", "box", "base", "sh", "-c", &script]);
        if has_private_network(&ran) {
            assert_eq!(ran.ok(), "eth0\nlo\n3\nrefused\n", "{network}");
        }
    }
    listener.set_nonblocking(true).expect("it is ours");
    assert!(listener.accept().is_err(), "somebody came");
}

#[test]
fn standard_input_only_with_interactive() {
    let world = World::with_base();
    let bytes: Vec<u8> = (0..200_000u32).flat_map(|i| i.to_le_bytes()).collect();
    let ran = world.crossdock(&["run", "-i", "base", "sha256sum"]).input(&bytes);
    let digest = crossdock_oci::Digest::of(&bytes);
    assert_eq!(ran.ok(), format!("{}  -\n", digest.hex()));
    assert_eq!(world.crossdock(&["run", "base", "cat"]).input(b"not read").ok(), "");
    let refused = world.crossdock(&["run", "-it", "base", "true"]).input(b"").fails(125);
    assert!(refused.contains("terminal"), "{refused}");
}

#[test]
fn signals_are_passed_on() {
    let world = World::with_base();
    for (signal, name) in
        [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::USR1, "USR1"), (Signal::HUP, "HUP")]
    {
        let script =
            format!("trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.01; done");
        // Under nohup(1), SIGHUP is ignored, and crossdock leaves it so.
        let mut running = world.crossdock(&["run", "base", "sh", "-c", &script]).with_default_hup().start();
        running.until_out("ready\n");
        running.signal(signal);
        running.until_out(&format!("got {name}\n"));
        assert_eq!(running.wait().code(), Some(5), "{name}");
    }
}

#[test]
fn all_signals_but_a_few_are_passed_on() {
    let world = World::with_base();
    let script = "for n in WINCH CONT TSTP TTIN TTOU ALRM USR2 QUIT VTALRM PROF IO PWR XCPU 34 64; do \
        trap \"echo got $n\" $n; done; trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut running = world.crossdock(&["run", "base", "sh", "-c", script]).start();
    running.until_out("ready\n");
    let pid = running.0.id().to_string();
    for name in [
        "WINCH", "CONT", "TSTP", "TTIN", "TTOU", "ALRM", "USR2", "QUIT", "VTALRM", "PROF", "IO", "PWR",
        "XCPU",
    ] {
        kill(name, &pid);
        running.until_out(&format!("got {name}\n"));
    }
    for number in ["34", "64"] {
        kill(number, &pid);
        running.until_out(&format!("got {number}\n"));
    }
    // docker keeps these, too.
    kill("URG", &pid);
    kill("PIPE", &pid);
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(5));
}

fn kill(signal: &str, pid: &str) {
    let line = format!("kill -{signal} {pid}");
    let sent = std::process::Command::new("sh").args(["-c", &line]).status().expect("sh runs");
    assert!(sent.success(), "{signal}");
}

/// Counts the processes whose command line contains `text`.
fn processes_with(text: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("a directory").filter_map(Result::ok);
    all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(text))
        .count()
}

#[test]
fn nothing_survives_a_killed_crossdock() {
    let world = World::with_base();
    let mark = format!("mark-{}", std::process::id());
    let script = format!("trap '' TERM INT HUP; : {mark}; echo ready; while :; do sleep 0.01; done");
    let mut running: Running = world.crossdock(&["run", "base", "sh", "-c", &script]).start();
    running.until_out("ready\n");
    assert!(processes_with(&mark) > 0);
    running.kill();
    eventually("the end of the container", || processes_with(&mark) == 0);
    // The same holds for a step of a build.
    let mark = format!("step-{}", std::process::id());
    let dockerfile = format!("FROM base\nRUN : {mark}; echo running; while :; do sleep 0.01; done\n");
    let mut running = world.building(&dockerfile, &[]).start();
    running.until_err(" running\n");
    running.kill();
    eventually("the end of the step", || processes_with(&mark) == 0);
    world.run(&["system", "prune", "-f"]).ok();
    let left = std::fs::read_dir(world.store().join("tmp")).expect("a directory").count();
    assert_eq!(left, 0);
}

#[test]
fn an_interrupted_build_stops() {
    let world = World::with_base();
    let mark = format!("interrupted-{}", std::process::id());
    let dockerfile = format!("FROM base\nRUN : {mark}; echo running; while :; do sleep 0.01; done\n");
    for signal in [Signal::INT, Signal::TERM] {
        let mut running = world.building(&dockerfile, &[]).start();
        running.until_err(" running\n");
        running.signal(signal);
        assert!(!running.wait().success());
        eventually("the end of the step", || processes_with(&mark) == 0);
    }
}

/// A signal to the build also ends an emulated program that makes no system calls, and a program that ignores
/// signals.
#[test]
fn a_step_without_progress_is_interrupted_at_once() {
    our_emulator();
    require("qemu-aarch64-static", "qemu-user-static");
    let world = World::with_base();
    let name = format!("spin-{}", std::process::id());
    world.file_mode(&name, foreign::spin_arm64(), 0o755);
    let spin = format!("FROM scratch\nCOPY {name} /\nRUN [\"/{name}\"]\n");
    let deaf = format!(
        "FROM base\nRUN trap '' INT TERM HUP; : {name}; echo running; while :; do sleep 0.01; done\n"
    );
    for (dockerfile, args) in [
        (&spin, &["--platform", "linux/arm64", "--emulator", "builtin"][..]),
        (&spin, &["--platform", "linux/arm64", "--emulator", "qemu"]),
        (&deaf, &[]),
    ] {
        for signal in [Signal::INT, Signal::TERM] {
            let mut running = world.building(dockerfile, args).start();
            running.until_err(" running\n");
            let asked = std::time::Instant::now();
            running.signal(signal);
            assert!(!running.wait().success());
            assert!(asked.elapsed().as_secs_f64() < 2.0, "{args:?}, {signal:?}: {:?}", asked.elapsed());
            eventually("the end of the step", || processes_with(&name) == 0);
        }
    }
}

#[test]
fn a_terminal_is_given() {
    let world = World::with_base();
    let store = world.text("store");
    let inner = format!(
        "{} --root {store} run -it base sh -c 'tty; test -t 0 && test -t 1 && echo yes; exit 6'",
        env!("CARGO_BIN_EXE_crossdock")
    );
    let out = std::process::Command::new("script")
        .args(["-qec", &inner, "/dev/null"])
        .stdin(Stdio::null())
        .env("TERM", "xterm")
        .output()
        .expect("script runs: apt-get install --no-install-recommends bsdutils");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("/dev/pts/0") && text.contains("yes"), "{text}");
    assert_eq!(out.status.code(), Some(6), "{text}");
}

#[test]
fn processes_are_alone_and_have_few_rights() {
    let world = World::with_base();
    let script = "ps | wc -l; grep Seccomp: /proc/self/status | tr -s '\\t' ' '; grep NoNewPrivs /proc/self/status | wc -l; ls /proc/1/exe > /dev/null && echo see-own; mount -t tmpfs x /tmp 2>/dev/null || echo no-mount";
    let ran = world.sh("base", script);
    assert!(ran.contains("Seccomp: 2") && ran.contains("no-mount"), "{ran}");
    let ran =
        world.run(&["run", "--privileged", "base", "sh", "-c", "mount -t tmpfs x /tmp && echo mounted"]);
    assert_eq!(ran.ok(), "mounted\n");
    let ran = world.run(&["run", "--init", "base", "sh", "-c", "test $$ != 1 && echo not-first"]);
    assert_eq!(ran.ok(), "not-first\n");
    let ran = world.run(&[
        "run",
        "--ulimit",
        "nofile=77:88",
        "--shm-size",
        "3m",
        "base",
        "sh",
        "-c",
        "ulimit -n; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
    ]);
    assert_eq!(ran.ok(), "77\n3072\n");
}

#[test]
fn etc_hosts_and_others_are_the_containers_own() {
    let world = World::with_base();
    let files = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"];
    let before = files.map(|path| std::fs::read(path).ok());
    let script = "for f in hosts resolv.conf hostname; do echo '# mine' >> /etc/$f && tail -n 1 /etc/$f; done; \
        echo 1.2.3.4 mine >> /etc/hosts; grep -c mine /etc/hosts";
    assert_eq!(world.run(&["run", "base", "sh", "-c", script]).ok(), "# mine\n# mine\n# mine\n2\n");
    assert_eq!(files.map(|path| std::fs::read(path).ok()), before);
    let again = world.run(&["run", "base", "grep", "-c", "mine", "/etc/hosts"]);
    assert_eq!((again.code, again.out.as_str()), (Some(1), "0\n"));
    // Others than root, and containers with a read-only root, cannot write them, as with docker.
    let write = ["base", "sh", "-c", "echo x >> /etc/hosts || echo no"];
    for options in [&["--user", "7"][..], &["--read-only"]] {
        assert_eq!(world.run(&[&["run"], options, &write].concat()).ok(), "no\n", "{options:?}");
    }
    // They are small.
    let fill =
        "head -c 100000000 /dev/zero >> /etc/hosts; test $(stat -c %s /etc/hosts) -lt 70000000 && echo small";
    assert_eq!(world.run(&["run", "base", "sh", "-c", fill]).ok(), "small\n");
}
