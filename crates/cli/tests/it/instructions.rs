//! The effect of each instruction on the image, and what steps see.

use serde_json::json;

use crate::support::World;

#[test]
fn metadata_instructions_reach_the_image() {
    let world = World::with_base();
    let dockerfile = r#"FROM base
MAINTAINER somebody <a@b>
ENV A=1 B="two words" C=$A
ENV legacy all of it
LABEL one=1 "two words"="with space" three=$A
EXPOSE 80 53/udp 8000-8001
VOLUME /data /more
VOLUME ["/json"]
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --timeout=1m --start-period=2s --start-interval=500ms --retries=3 CMD test -e /ok
USER ann:staff
WORKDIR /srv
WORKDIR sub
ENTRYPOINT ["/bin/echo", "$A"]
CMD ["x y", "z"]
ONBUILD RUN echo later
"#;
    world.build(dockerfile, &["-t", "t", "--label", "four=4"]).ok();
    let image = world.inspect("t");
    assert_eq!(image["Author"], "somebody <a@b>");
    let config = &image["Config"];
    assert_eq!(config["Env"], json!(["PATH=/bin", "A=1", "B=two words", "C=", "legacy=all of it"]));
    assert_eq!(config["Labels"], json!({"one": "1", "two words": "with space", "three": "1", "four": "4"}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/data": {}, "/more": {}, "/json": {}}));
    assert_eq!(config["StopSignal"], "SIGUSR1");
    let second = 1_000_000_000u64;
    assert_eq!(
        config["Healthcheck"],
        json!({"Test": ["CMD-SHELL", "test -e /ok"], "Interval": 5 * second, "Timeout": 60 * second,
            "StartPeriod": 2 * second, "StartInterval": second / 2, "Retries": 3})
    );
    assert_eq!((&config["User"], &config["WorkingDir"]), (&json!("ann:staff"), &json!("/srv/sub")));
    assert_eq!(config["Entrypoint"], json!(["/bin/echo", "$A"]));
    assert_eq!(config["Cmd"], json!(["x y", "z"]));
    assert_eq!(config["OnBuild"], json!(["RUN echo later"]));
    assert_eq!(world.run(&["run", "t"]).ok(), "$A x y z\n");
    assert_eq!(world.run(&["run", "t", "w"]).ok(), "$A w\n");
}

#[test]
fn the_last_healthcheck_counts_and_none_removes() {
    let world = World::with_base();
    world
        .build(
            "FROM base\nHEALTHCHECK CMD [\"a\"]\nHEALTHCHECK --retries=2 CMD [\"b\", \"c\"]\n",
            &["-t", "t"],
        )
        .ok();
    assert_eq!(world.inspect("t")["Config"]["Healthcheck"], json!({"Test": ["CMD", "b", "c"], "Retries": 2}));
    world.build("FROM t\nHEALTHCHECK NONE\n", &["-t", "u"]).ok();
    assert_eq!(world.inspect("u")["Config"]["Healthcheck"], json!({"Test": ["NONE"]}));
}

#[test]
fn an_entrypoint_resets_the_inherited_command_only() {
    let world = World::with_base();
    let dockerfile = "FROM base AS parent\nCMD [\"inherited\"]\nFROM parent AS reset\nENTRYPOINT [\"echo\"]\n\
                      FROM parent AS own\nCMD [\"own\"]\nENTRYPOINT [\"echo\"]\nFROM own AS child\nENV A=1\n";
    for (stage, command) in [("reset", json!(null)), ("own", json!(["own"])), ("child", json!(["own"]))] {
        world.build(dockerfile, &["-t", stage, "--target", stage]).ok();
        assert_eq!(world.inspect(stage)["Config"]["Cmd"], command, "{stage}");
    }
}

#[test]
fn triggers_run_in_the_child_but_not_in_its_child() {
    let world = World::with_base();
    world.file("from-context", "content");
    world
        .build(
            "FROM base\nONBUILD COPY from-context /copied\nONBUILD ENV B=2\nONBUILD RUN echo $B >> /ran\n",
            &["-t", "parent"],
        )
        .ok();
    assert_eq!(world.sh("parent", "ls /copied /ran 2>/dev/null | wc -l").trim(), "0");
    world.build("FROM parent\nRUN echo own >> /ran\n", &["-t", "child"]).ok();
    assert_eq!(world.sh("child", "cat /copied /ran"), "content2\nown\n");
    assert_eq!(world.inspect("child")["Config"]["OnBuild"], json!(null));
    world.build("FROM child\n", &["-t", "grandchild"]).ok();
    assert_eq!(world.sh("grandchild", "cat /ran"), "2\nown\n");
    // Triggers also run between stages of one file, and may have --from.
    let dockerfile = "FROM base AS files\nRUN echo f > /f\nFROM base AS parent\nONBUILD COPY --from=files /f /g\nFROM parent\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /g"), "f\n");
}

#[test]
fn a_shell_serves_all_shell_forms() {
    let world = World::with_base();
    let dockerfile =
        "FROM base\nSHELL [\"/bin/sh\", \"-xc\"]\nRUN echo hi\nCMD echo cmd\nENTRYPOINT echo entry\n";
    let built = world.build(dockerfile, &["-t", "t"]);
    assert!(built.err.contains("+ echo hi"), "{}", built.err);
    let config = &world.inspect("t")["Config"];
    assert_eq!(config["Shell"], json!(["/bin/sh", "-xc"]));
    assert_eq!(config["Cmd"], json!(["/bin/sh", "-xc", "echo cmd"]));
    assert_eq!(config["Entrypoint"], json!(["/bin/sh", "-xc", "echo entry"]));
}

#[test]
fn arguments_have_scopes() {
    let world = World::with_base();
    let dockerfile = "ARG IMAGE=nothing\nARG GLOBAL=g\nFROM ${IMAGE:-base} AS one\nARG GLOBAL\nARG OWN=o\nARG GIVEN=default\nARG UNSET\n\
        ENV E=env\nARG E=arg\nRUN echo \"$GLOBAL $OWN $GIVEN [$UNSET] $E ${OWN:+plus}\" > /one\n\
        FROM one AS two\nRUN echo \"$OWN\" > /two\nFROM ${IMAGE}\nCOPY --from=two /one /two /\nRUN echo \"[$GLOBAL$OWN]\" > /three\n";
    world
        .build(
            dockerfile,
            &["-t", "t", "--build-arg", "IMAGE=base", "--build-arg", "GIVEN=given", "--build-arg", "E=x"],
        )
        .ok();
    assert_eq!(world.sh("t", "cat /one /two /three"), "g o given [] env plus\no\n[]\n");
    // If only a name is given, the value comes from the environment.
    let dockerfile = "FROM base\nARG HERE=no\nRUN echo $HERE > /here\n";
    world.building(dockerfile, &["-t", "t", "--build-arg", "HERE"]).env("HERE", "yes").run().ok();
    assert_eq!(world.sh("t", "cat /here"), "yes\n");
    let ran = world.build(dockerfile, &["--build-arg", "TYPO=1"]);
    assert!(ran.err.contains("build argument TYPO was given, but no ARG of that name"), "{}", ran.err);
    ran.ok();
    // A base image may declare it.
    world.build("FROM base\nONBUILD ARG OWN=1\nONBUILD RUN echo $OWN > /own\n", &["-t", "parent"]).ok();
    let ran = world.build("FROM parent\n", &["-t", "t", "--build-arg", "OWN=2", "--build-arg", "TYPO=1"]);
    assert!(ran.err.contains("build argument TYPO was given") && !ran.err.contains("OWN was"), "{}", ran.err);
    assert_eq!(world.sh("t", "cat /own"), "2\n");
}

#[test]
fn proxies_reach_commands_but_neither_history_nor_cache() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN echo \"$HTTP_PROXY\" > /proxy\n";
    world.build(dockerfile, &["-t", "t", "--build-arg", "HTTP_PROXY=http://user:pw@one:1"]).ok();
    assert_eq!(world.sh("t", "cat /proxy; env | grep -ci proxy || true"), "http://user:pw@one:1\n0\n");
    let history = world.run(&["history", "--no-trunc", "t"]).ok();
    assert!(!history.contains("user:pw"), "{history}");
    let again = world.build(dockerfile, &["-t", "t", "--build-arg", "HTTP_PROXY=http://two:2"]);
    assert_eq!(again.executed(), [""; 0]);
}

#[test]
fn values_are_fixed_for_a_whole_instruction() {
    let world = World::with_base();
    let dockerfile = "FROM base\nENV a=old\nENV a=new b=$a\nENV c=$a d='$a' e=\\$a f=\"${nothing:-dflt}\"\nRUN echo \"$a $b $c $d $e $f\" > /all\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /all"), "new old new $a $a dflt\n");
}

#[test]
fn scratch_has_dockers_defaults() {
    let world = World::new();
    world.file("f", "x");
    world.build("FROM scratch\nENV PATH=$PATH:/more\nCOPY f /\n", &["-t", "t"]).ok();
    let config = &world.inspect("t")["Config"];
    assert_eq!(
        config["Env"],
        json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/more"])
    );
    assert_eq!(config["WorkingDir"], "/");
}

#[test]
fn directories_of_workdir_belong_to_the_user() {
    let world = World::with_base();
    let dockerfile = "FROM base\nENV D=/made\nUSER ann\nWORKDIR $D/x\nUSER root\nWORKDIR y\nRUN pwd > /pwd\n";
    let script = "cat /pwd; stat -c '%u:%g %a' /made /made/x /made/x/y; pwd";
    assert_eq!(
        world.build_and_sh(dockerfile, script),
        "/made/x/y\n1000:1001 755\n1000:1001 755\n0:0 755\n/made/x/y\n"
    );
    // A number alone is also the group, whatever the image knows of that user.
    let dockerfile =
        "FROM base\nUSER 12\nWORKDIR /a\nUSER 1000\nWORKDIR /b\nUSER 12:34\nWORKDIR /c\nUSER 0\nWORKDIR /\n";
    assert_eq!(world.build_and_sh(dockerfile, "stat -c '%u:%g' /a /b /c"), "12:12\n1000:1000\n12:34\n");
    // An existing directory stays as it is.
    assert_eq!(world.build_and_sh("FROM base\nWORKDIR /tmp\n", "stat -c %a /tmp"), "1777\n");
}

#[test]
fn steps_run_as_the_user_with_groups_and_home() {
    let world = World::with_base();
    let dockerfile = "FROM base\nUSER ann\nRUN id -u > /tmp/id; id -G >> /tmp/id; echo $HOME >> /tmp/id\nUSER 7:8\nRUN id -u >> /tmp/n; id -g >> /tmp/n\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /tmp/id /tmp/n"), "1000\n1001 50\n/home/ann\n7\n8\n");
}

#[test]
fn heredocs_in_all_forms() {
    let world = World::with_base();
    let dockerfile = r#"FROM base
ARG V=value
RUN <<EOF
set -e
echo "plain $V" > /one
EOF
RUN <<-EOF
	echo tabs > /two
	EOF
RUN <<EOF cat > /three
kept $V
EOF
RUN <<'EOF' cat > /four
not $V
EOF
RUN <<EOF
#!/bin/cat
script text
EOF
COPY <<EOF /five
it's "$V" and \$V
EOF
COPY <<"EOF" /six
raw $V
EOF
COPY <<a <<b /dir/
A
a
B
b
COPY --chmod=750 --chown=ann:staff <<tool /bin/tool
#!/bin/sh
echo tool
tool
"#;
    let built = world.build(dockerfile, &["-t", "t"]);
    assert!(built.err.contains("script text"), "{}", built.err);
    built.ok();
    let script =
        "cat /one /two /three /four /five /six /dir/a /dir/b; tool; stat -c '%a %u:%g' /bin/tool /five";
    assert_eq!(
        world.sh("t", script),
        "plain value\ntabs\nkept value\nnot $V\nit's \"value\" and $V\nraw $V\nA\nB\ntool\n750 1000:50\n644 0:0\n"
    );
}

#[test]
fn the_escape_character_can_be_changed() {
    let world = World::with_base();
    let dockerfile = "# escape=`\nFROM base\nENV a=one `\n  d=two\nENV b=`$a c=c:\\d\\\nRUN echo \"$b $c\" > /a && `\n    echo more >> /a\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /a"), "$a c:\\d\\\nmore\n");
}

#[test]
fn history_has_one_entry_per_instruction_and_one_layer_per_full_one() {
    let world = World::with_base();
    let before = world.inspect("base")["History"].as_array().expect("a list").len();
    world.build("FROM base\nENV A=1\nRUN echo x > /x\nRUN true\nCMD [\"x\"]\n", &["-t", "t"]).ok();
    let image = world.inspect("t");
    let history = image["History"].as_array().expect("a list");
    let by: Vec<&str> = history[before..].iter().map(|h| h["created_by"].as_str().expect("text")).collect();
    assert_eq!(by, ["ENV A=1", "RUN /bin/sh -c echo x > /x", "RUN /bin/sh -c true", "CMD [\"x\"]"]);
    let full = history.iter().filter(|h| h["empty_layer"] != true).count();
    assert_eq!(full, image["Manifest"]["layers"].as_array().expect("a list").len());
    assert_eq!(full, image["RootFS"]["Layers"].as_array().expect("a list").len());
    let shown = world.run(&["history", "t"]).ok();
    assert!(shown.lines().nth(1).expect("a line").contains("CMD [\"x\"]"), "{shown}");
}

#[test]
fn history_names_heredocs() {
    let world = World::with_base();
    world.file("f", "f");
    let dockerfile = "FROM base\nCOPY <<EOF /c1\nx\nEOF\nADD f <<-\"A\" <<B /d/\na\nA\nb\nB\n";
    let built = world.build(dockerfile, &["-t", "t"]);
    assert_eq!(built.executed(), ["[2/3] COPY <<EOF /c1", "[3/3] ADD f <<A <<B /d/"]);
    let history = world.inspect("t")["History"].clone();
    let by = history.as_array().expect("a list").iter().filter_map(|entry| entry["created_by"].as_str());
    let by: Vec<&str> = by.filter(|by| by.contains("<<")).collect();
    // The base image has others.
    assert!(by.ends_with(&["COPY <<EOF /c1", "ADD f <<A <<B /d/"]), "{by:?}");
}

#[test]
fn etc_hostname_is_a_file_of_the_image() {
    let world = World::with_base();
    let before = std::fs::read("/etc/hostname").ok();
    let dockerfile = "FROM base\nRUN test ! -e /etc/hostname; echo foo > /etc/hostname\nRUN cat /etc/hostname > /seen\n\
        RUN echo x >> /etc/hosts || echo ro > /hosts\n";
    let tar = world.text("out.tar");
    world.build(dockerfile, &["-o", &format!("type=tar,dest={tar}"), "--load", "-t", "t"]).ok();
    assert_eq!(world.sh("t", "cat /seen /hosts"), "foo\nro\n");
    let bytes = std::fs::read(tar).expect("an archive");
    let mut archive = tar::Archive::new(&bytes[..]);
    let names = archive
        .entries()
        .expect("entries")
        .map(|entry| entry.expect("an entry").path().expect("a path").to_string_lossy().into_owned());
    let etc: Vec<String> = names.filter(|name| name.contains("etc/hos") || name.contains("resolv")).collect();
    assert_eq!(etc, ["etc/hostname"], "what is only there for a step is not in the layer");
    assert_eq!(std::fs::read("/etc/hostname").ok(), before);
}

#[test]
fn network_and_hosts_of_steps() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN --network=none ls /sys/class/net > /none\nRUN cat /etc/hosts > /hosts\n";
    world.build(dockerfile, &["-t", "t", "--add-host", "elsewhere:10.1.2.3"]).ok();
    let text = world.sh("t", "cat /none /hosts");
    assert!(text.starts_with("lo\n") && text.contains("10.1.2.3\telsewhere"), "{text}");
    let dockerfile = "FROM base\nRUN --security=insecure true\n";
    world.build(dockerfile, &[]).fails_with(&["--allow security.insecure", "Dockerfile:2"]);
    world.build(dockerfile, &["--allow", "security.insecure"]).ok();
    world.build(dockerfile, &["--allow", "everything"]).fails_with(&["--allow everything", "network.host"]);
}

#[test]
fn a_step_has_the_hosts_network_only_with_the_builds_or_a_permission() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN --network=host ls /sys/class/net > /n\n";
    world.build(dockerfile, &["-t", "host"]).ok();
    for network in ["none", "private", "slirp4netns"] {
        let ran = world.build(dockerfile, &["--network", network]);
        ran.fails_with(&["--allow network.host", "Dockerfile:2"]);
        let ran =
            world.build(dockerfile, &["-t", "allowed", "--network", network, "--allow", "network.host"]);
        assert_eq!(ran.executed(), [] as [&str; 0], "it is the step of before");
    }
    world.build(dockerfile, &["--network", "mine"]).fails_with(&["--network mine", "private"]);

    let dockerfile = "FROM base\nRUN ls /sys/class/net > /n\n";
    world.build(dockerfile, &["-t", "t"]).ok();
    let ran = world.build(dockerfile, &["-t", "t", "--network", "private"]);
    if ran.err.contains("cannot connect a private network: ") {
        return assert!(ran.err.contains("sudo "), "{}", ran.err);
    }
    assert_eq!(ran.executed().len(), 1, "another network is another step: {}", ran.err);
    assert_eq!(world.sh("t", "cat /n"), "eth0\nlo\n");
    let ran = world.build(dockerfile, &["-t", "t", "--network", "slirp4netns"]);
    assert_eq!(ran.executed(), [] as [&str; 0], "which program it is makes no difference");
    world.build("FROM base\nRUN --network=none true\n", &["--network", "private"]).ok();
}

#[test]
fn limits_and_shared_memory_of_steps() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN ulimit -n > /n; df -k /dev/shm | tail -1 > /shm\n";
    world.build(dockerfile, &["-t", "t", "--ulimit", "nofile=99:100", "--shm-size", "2m"]).ok();
    let text = world.sh("t", "cat /n /shm");
    assert!(text.starts_with("99\n") && text.contains(" 2048 "), "{text}");
    // Another environment is another step; of hosts only the names count, as in BuildKit.
    let steps = |args: &[&str]| world.build(dockerfile, args).executed().len();
    for (args, executed) in [
        (&["--ulimit", "nofile=99:100", "--shm-size", "2m"][..], 0),
        (&["--ulimit", "nofile=99:100"], 1),
        (&["--shm-size", "2m"], 1),
        (&[], 1),
        (&["--add-host", "a:1.2.3.4"], 1),
        (&["--add-host", "a:1.2.3.5"], 0),
        (&["--add-host", "b:1.2.3.5"], 1),
        (&[], 0),
    ] {
        assert_eq!(steps(args), executed, "{args:?}");
    }
}
