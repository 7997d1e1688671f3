//! Options that scripts for docker, buildx and podman use, and the warnings for those that do less here.

use rustix::process::Signal;

use crate::support::{World, is_root};

#[test]
fn what_follows_the_image_is_the_commands() {
    let world = World::with_base();
    world.build("FROM base\nENTRYPOINT [\"echo\", \"got\"]\n", &["-t", "ep"]).ok();
    for words in ["--version", "--help", "-h", "-it", "-e A=1", "--platform linux/arm64", "-- -x", "-v /a:/b"]
    {
        let line = [&["run", "--rm", "ep"], &words.split(' ').collect::<Vec<_>>()[..]].concat();
        assert_eq!(world.run(&line).ok(), format!("got {words}\n"));
    }
    assert_eq!(world.run(&["emulate", "/bin/echo", "-L", "x", "--emulator"]).ok(), "-L x --emulator\n");
    assert_eq!(world.run(&["run", "-h", "pi", "base", "hostname"]).ok(), "pi\n");
}

#[test]
fn exit_codes_of_what_never_ran() {
    let world = World::new();
    for (line, code) in [
        (&["run", "--no-such-flag", "x"][..], 125),
        (&["run"], 125),
        (&["run", "--rm=perhaps", "x"], 125),
        (&["container", "run", "--memory", "x"], 125),
        (&["emulate", "no-such-program-here"], 127),
        (&["emulate", "./no/such/program"], 127),
        (&["emulate", "/etc/passwd"], 126),
        (&["emulate", "/etc"], 126),
        (&["pull", "--no-such-flag", "x"], 2),
    ] {
        let ran = world.run(line);
        assert_eq!(ran.code, Some(code), "{line:?}: {}", ran.err);
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
    }
    // A store that cannot be created must not look like an exit code of the command either.
    let file = world.path("context/file");
    std::fs::write(&file, "").expect("written");
    assert_eq!(world.crossdock_at(&file, &["run", "x"]).run().code, Some(125));
}

#[test]
fn switches_take_true_and_false() {
    let world = World::with_base();
    let out =
        world.building("FROM base\nRUN echo said\n", &["--no-cache=false", "--pull=false", "--push=false"]);
    out.run().ok();
    let quiet =
        world.building("FROM base\nRUN echo said\n", &["--quiet=true", "--rm=true", "--force-rm=0"]).run();
    assert!(quiet.ok().starts_with("sha256:"));
    let again = world.building("FROM base\nRUN echo said\n", &["--quiet=true", "--quiet=false"]).run();
    assert!(again.err.contains("CACHED"), "{}", again.err);
    let script = "touch /x 2>/dev/null && echo written";
    assert_eq!(
        world.run(&["run", "--read-only=false", "-it=false", "base", "sh", "-c", script]).ok(),
        "written\n"
    );
    world.run(&["run", "--read-only=true", "base", "sh", "-c", script]).fails(1);
    for words in
        [&["--provenance", "false"][..], &["--sbom", "true"], &["--provenance", "mode=max"], &["--sbom=0"]]
    {
        world.build("FROM base\n", words).ok();
    }
    world.build("FROM base\n", &["--provenance", "perhaps"]).fails(2);
}

#[test]
fn tmpfs_has_the_options_that_were_given() {
    let world = World::with_base();
    let run = |option: &str, script: &str| world.run(&["run", "--tmpfs", option, "base", "sh", "-c", script]);
    if is_root() {
        let out = run("/x:size=1m,mode=0710,uid=5,gid=6", "stat -c '%a %u:%g' /x; df -k /x | tail -1").ok();
        let words: Vec<&str> = out.split_whitespace().collect();
        assert_eq!((words[0], words[1], words[3]), ("710", "5:6", "1024"), "{out}");
    }
    assert_eq!(run("/x", "stat -c %a /x").ok(), "1777\n");
    let copied = "cp /bin/busybox /x/busybox && /x/busybox echo ran";
    assert_eq!(run("/x:exec", copied).ok(), "ran\n");
    run("/x:noexec", copied).fails(126);
    run("/x:ro", "touch /x/f").fails(1);
    for option in ["size=much", "mode=9", "uid=root", "gid=-1", "nosuch", "size"] {
        let err = run(&format!("/x:{option}"), "true").fails(125);
        assert!(err.contains(&format!("--tmpfs /x:{option}")), "{err}");
    }
}

#[test]
fn files_of_variables() {
    let world = World::with_base();
    let run = |text: &str| {
        std::fs::write(world.path("env"), text).expect("written");
        world.run(&["run", "--env-file", "env", "base", "sh", "-c", "echo \"[$A][$B]\""])
    };
    assert_eq!(run("\u{feff}A=1\r\n  B=x y=z \r\n").ok(), "[1][x y=z ]\n");
    assert_eq!(run("\u{feff}# comment\n\nB=2\n").ok(), "[][2]\n");
    for (text, line, reason) in [
        ("A=1\nB C=secret\n", "line 2", "\"B C\" has a space"),
        ("=secret\n", "line 1", "no name"),
        ("A=1\n\nA=secret\0\n", "line 3", "a byte 0"),
    ] {
        let err = run(text).fails(125);
        assert!(err.contains("env, ") && err.contains(line) && err.contains(reason), "{err}");
        assert!(!err.contains("secret"), "{err}");
    }
    world.run(&["run", "-e", "=x", "base", "true"]).fails(125);
}

#[test]
fn what_is_not_done_is_told() {
    let world = World::with_base();
    let ran = world.run(&["run", "-p", "8080:80", "--name", "web", "base", "echo", "ran"]);
    assert!(ran.err.contains("--publish 8080:80") && ran.err.contains("--name web"), "{}", ran.err);
    assert_eq!(ran.ok(), "ran\n");
    let single = |args: &[&str]| world.crossdock(args).env("CROSSDOCK_SINGLE_ID", "1").run();
    let ran = single(&["run", "-u", "1000", "base", "id", "-u"]);
    assert!(ran.err.contains("stays root") && ran.err.contains("user 1000"), "{}", ran.err);
    assert_eq!(single(&["run", "-u", "root", "base", "true"]).err, "");
}

#[test]
fn json_progress_is_json_to_the_last_line() {
    let world = World::with_base();
    let lines = |dockerfile: &str| {
        let ran = world.building(dockerfile, &["--progress", "json"]).run();
        let parse = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{line}: {e}"))
        };
        let events = ran.err.lines().map(|line| parse(line)["event"].as_str().expect("an event").to_string());
        (ran.code, events.collect::<Vec<_>>())
    };
    let (code, events) = lines("FROM base\nRUN echo hi\nMAINTAINER x\n");
    assert_eq!((code, events.last().map(String::as_str)), (Some(0), Some("message")));
    let (code, events) = lines("FROM base\nRUN false\n");
    assert_eq!((code, events.last().map(String::as_str)), (Some(1), Some("error")));
    let (code, events) = lines("FROM base\nRNU false\n");
    assert_eq!((code, events.last().map(String::as_str)), (Some(1), Some("error")));
}

#[test]
fn the_proxies_of_dockers_configuration_reach_commands() {
    let world = World::with_base();
    let config = world.path("home/.docker");
    std::fs::create_dir_all(&config).expect("a directory");
    let text = r#"{"proxies":{"default":{"httpProxy":"http://me:hunter2@p:1","noProxy":"here"}}}"#;
    std::fs::write(config.join("config.json"), text).expect("written");
    let dockerfile = "FROM base\nRUN echo $http_proxy $HTTP_PROXY $no_proxy $https_proxy > /seen && env\n";
    let built = world.build(dockerfile, &["-t", "t"]);
    assert!(!built.err.contains("hunter2"), "{}", built.err);
    built.ok();
    assert_eq!(world.sh("t", "cat /seen"), "http://me:hunter2@p:1 http://me:hunter2@p:1 here\n");
    // The image has no trace of the proxies, and another proxy does not make another image.
    let inspected = world.run(&["inspect", "t"]).ok();
    assert!(!inspected.contains("http://"), "{inspected}");
    std::fs::write(config.join("config.json"), "{}").expect("written");
    assert!(world.build(dockerfile, &["-t", "t"]).err.contains("CACHED"));
    std::fs::write(config.join("config.json"), text).expect("written");
    let seen = world.run(&[
        "run",
        "-e",
        "NO_PROXY=mine",
        "base",
        "sh",
        "-c",
        "echo $http_proxy $NO_PROXY $no_proxy",
    ]);
    assert_eq!(seen.ok(), "http://me:hunter2@p:1 mine here\n");
    let given =
        world.build("FROM base\nRUN echo $http_proxy > /seen\n", &["--build-arg", "http_proxy=x", "-t", "u"]);
    given.ok();
    assert_eq!(world.sh("u", "cat /seen"), "x\n");
    std::fs::write(config.join("config.json"), "{").expect("written");
    let ran = world.run(&["run", "base", "true"]);
    assert!(ran.err.contains("config.json"), "{}", ran.err);
    ran.ok();
}

#[test]
fn a_dead_proxy_is_named() {
    let world = World::new();
    let dead = "http://me:hunter2@127.0.0.1:9";
    let ran = world.crossdock(&["pull", "registry.example/x"]).env("HTTPS_PROXY", dead).run();
    let err = ran.fails(1);
    assert!(err.contains("proxy 127.0.0.1:9") && err.contains("HTTPS_PROXY"), "{err}");
    assert!(!err.contains("hunter2"), "{err}");
}

#[test]
fn a_step_that_another_one_ended_is_cancelled() {
    let world = World::with_base();
    let dockerfile = "FROM base AS long\nRUN echo begun; sleep 30\nFROM base AS wrong\n\
        RUN sleep 1; exit 3\nFROM base\nCOPY --from=long /a /a\nCOPY --from=wrong /b /b\n";
    let err = world.build(dockerfile, &["--no-cache"]).fails(1);
    let number = |title: &str| {
        let line = err.lines().find(|line| line.contains(title)).unwrap_or_else(|| panic!("{title}: {err}"));
        line.split(' ').next().expect("a number").to_string()
    };
    let (long, wrong) = (number("[long 2/2]"), number("[wrong 2/2]"));
    assert!(err.lines().any(|line| line == format!("{long} CANCELED")), "{err}");
    assert!(err.lines().any(|line| line == format!("{wrong} ERROR")), "{err}");
    assert!(!err.lines().any(|line| line == format!("{long} ERROR")), "{err}");
}

#[test]
fn builders_of_buildx_are_accepted() {
    let world = World::with_base();
    assert!(world.run(&["buildx", "ls"]).ok().contains("linux/amd64"));
    assert!(world.run(&["buildx", "inspect", "--bootstrap"]).ok().contains("linux/amd64"));
    world.run(&["buildx", "create", "--name", "b", "--driver", "docker-container", "--use"]).ok();
    world.build("FROM base\n", &["--builder", "b", "--attest", "type=provenance,disabled=true"]).ok();
}

#[test]
fn a_build_that_a_signal_ends_is_cancelled() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN echo running; sleep 30\n";
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        for mode in ["plain", "json"] {
            let mut running = world.building(dockerfile, &["--no-cache", "--progress", mode]).start();
            // Wait for the output, not for the step's name, which also has the word.
            running.until_err(if mode == "json" { "\"output\"" } else { " running\n" });
            running.signal(signal);
            let ended = running.finish();
            assert_eq!(ended.code, None, "it ends by the signal: {}", ended.err);
            assert!(ended.err.contains(&format!("the build was cancelled by {name}")), "{}", ended.err);
            let step = if mode == "json" { "\"event\":\"cancelled\"" } else { "CANCELED" };
            assert!(ended.err.contains(step), "{}", ended.err);
        }
    }
}
