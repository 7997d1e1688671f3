//! RUN --mount.

use crate::support::{World, grep};

#[test]
fn binds_from_everywhere() {
    let world = World::with_base();
    world.file("d/f", "context\n");
    std::fs::create_dir(world.path("named")).expect("a directory");
    std::fs::write(world.path("named/n"), "named\n").expect("a file");
    world.build("FROM base\nRUN echo image > /i\n", &["-t", "img"]).ok();
    let dockerfile = r#"FROM base AS files
RUN echo stage > /s
FROM base
ARG WHERE=/m
RUN --mount=type=bind,target=$WHERE cat /m/d/f >> /all; touch /m/x 2>/dev/null || echo ro >> /all
RUN --mount=source=d/f,target=/file cat /file >> /all
RUN --mount=from=files,source=/s,target=/s cat /s >> /all
RUN --mount=from=files,target=/whole cat /whole/s >> /all
RUN --mount=from=img,target=/i cat /i/i >> /all
RUN --mount=from=named,target=/n cat /n/n >> /all
RUN --mount=target=/m,rw echo w > /m/written && cat /m/written >> /all
RUN --mount=target=/m,readwrite ls /m >> /all
"#;
    world.build(dockerfile, &["-t", "t", "--build-context", "named=named"]).ok();
    assert_eq!(
        world.sh("t", "cat /all; ls -d /m /s /file 2>/dev/null | wc -l"),
        "context\nro\ncontext\nstage\nstage\nimage\nnamed\nw\nDockerfile\nd\n0\n"
    );
    assert!(!world.path("context/written").exists() && !world.path("context/x").exists());
    // The content of a bind is part of the key.
    world.file("d/f", "changed\n");
    let again = world.build(dockerfile, &["-t", "t", "--build-context", "named=named"]);
    assert!(again.executed()[0].contains("type=bind") || again.executed().len() >= 2, "{again:?}");
}

#[test]
fn caches_last_and_stay_out_of_the_image() {
    let world = World::with_base();
    let step = |id: &str, n: u32| {
        format!("FROM base\nRUN --mount=type=cache,{id}target=/c echo {n} >> /c/list; cp /c/list /seen\n")
    };
    for (id, n, seen) in [("", 1, "1\n"), ("", 2, "1\n2\n"), ("id=x,", 3, "3\n"), ("id=/c,", 4, "1\n2\n4\n")]
    {
        assert_eq!(world.build_and_sh(&step(id, n), "cat /seen; ls -A /c 2>/dev/null"), seen);
    }
    let dockerfile = "FROM base AS files\nRUN mkdir /d && echo first > /d/f\nFROM base\nUSER ann\n\
        RUN --mount=type=cache,target=/c,id=own,uid=1000,gid=50,mode=700 stat -c '%u:%g %a' /c > /tmp/s; touch /c/w\n\
        RUN --mount=type=cache,target=/r,id=own,uid=1000,gid=50,mode=700,ro ls /r >> /tmp/s; touch /r/x 2>/dev/null || echo ro >> /tmp/s\n\
        RUN --mount=type=cache,target=/c,id=filled,from=files,source=/d cat /c/f >> /tmp/s\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /tmp/s"), "1000:50 700\nw\nro\nfirst\n");
}

#[test]
fn a_bind_without_target_is_at_the_working_directory() {
    let world = World::with_base();
    world.file("data", "x");
    let dockerfile = "FROM base AS tool\nRUN echo tool > /t\nFROM base\nWORKDIR /src\n\
        RUN --mount=type=bind cat data > /seen\nRUN --mount=from=tool cat t >> /seen\nRUN --mount=target=. cat data >> /seen\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /seen; ls /src"), "xtool\nx");
}

#[test]
fn devices_that_are_not_there_are_refused_if_they_are_required() {
    let world = World::with_base();
    world
        .build("FROM base\nRUN --device=vendor.example/device=one,required true\n", &[])
        .fails_with(&["has the device vendor.example/device=one", "Dockerfile:2"]);
    let optional = "FROM base\nRUN --device=vendor.example/device=one,required=false true\n";
    world.build(optional, &["--allow", "device"]).ok();
}

#[test]
fn locked_caches_are_used_one_at_a_time_and_private_ones_alone() {
    let world = World::with_base();
    let stage = |name: &str, sharing: &str| {
        format!(
            "FROM base AS {name}\nRUN --mount=type=cache,id=k,target=/k,sharing={sharing} mkdir /k/busy && sleep 0.1 && rmdir /k/busy && echo {name} > /{name}\n"
        )
    };
    for sharing in ["locked", "private"] {
        let dockerfile = ["a", "b", "c"].map(|name| stage(name, sharing)).concat();
        let end = "FROM base\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c /\n";
        world.build(&(dockerfile + end), &["--no-cache", "--jobs", "3"]).ok();
    }
}

#[test]
fn temporary_file_systems_leave_nothing() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN --mount=type=tmpfs,target=/t,size=1m echo x > /t/x; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2 > /size\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /size; ls -A /t 2>/dev/null"), "1024\n");
}

#[test]
fn options_of_buildah_work() {
    let world = World::with_base();
    world.file("data", "x");
    let dockerfile = "FROM base\nUSER ann\n\
        RUN --mount=type=cache,target=/c,U,z stat -c '%u:%g' /c > /tmp/s; touch /c/x\n\
        RUN --mount=type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0711 stat -c %a /t >> /tmp/s\n\
        RUN --mount=type=bind,source=data,target=/d,Z,bind-propagation=rprivate cat /d >> /tmp/s\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /tmp/s"), "1000:1001\n711\nx");
    let dockerfile = "FROM base\nUSER ann\nRUN --mount=source=data,target=/d,U cat /d\n";
    world.build(dockerfile, &[]).fails_with(&["Dockerfile:3", "COPY --chown"]);
}

const SECRET: &str = "Tr0ub4dor-and-3";

#[test]
fn secrets_come_as_files_and_variables_and_are_nowhere_afterwards() {
    let world = World::with_base();
    std::fs::write(world.path("pw"), SECRET).expect("a file");
    let dockerfile = r#"FROM base
RUN --mount=type=secret,id=pw wc -c < /run/secrets/pw > /out; stat -c '%a %u' /run/secrets/pw >> /out; cat /run/secrets/pw
RUN --mount=type=secret,id=pw,target=/etc/pw,mode=0440,uid=1000,gid=50 stat -c '%a %u:%g' /etc/pw >> /out
RUN --mount=type=secret,id=pw,env=PW echo ${#PW} >> /out; echo "it is $PW"; test ! -e /run/secrets/pw
RUN --mount=type=secret,id=fromenv,env=OTHER echo ${#OTHER} >> /out
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent
USER ann
RUN --mount=type=secret,id=pw,uid=1000 cat /run/secrets/pw > /dev/null
"#;
    let args = ["-t", "t", "--secret", "id=pw,src=pw", "--secret", "id=fromenv,env=FROM_ENV"];
    for mode in ["plain", "json"] {
        let built = world
            .building(dockerfile, &[&args[..], &["--no-cache", "--progress", mode]].concat()[..])
            .env("FROM_ENV", SECRET)
            .run();
        let all = format!("{}{}", built.out, built.err);
        assert!(!all.contains(SECRET) && all.contains("it is ***"), "{all}");
        built.ok();
    }
    assert_eq!(
        world.sh("t", "cat /out; ls -A /run 2>/dev/null"),
        format!("{}\n400 0\n440 1000:50\n15\n15\n", SECRET.len())
    );
    assert_eq!(grep(&world.store(), SECRET.as_bytes()), [""; 0].map(std::path::PathBuf::from));
    // With another value of the secret it is still the same step.
    std::fs::write(world.path("pw"), "another value").expect("a file");
    let again = world.building(dockerfile, &args).env("FROM_ENV", "x").run();
    assert_eq!(again.executed(), [""; 0]);
}

#[test]
fn secrets_of_several_lines_are_hidden_line_by_line() {
    let world = World::with_base();
    std::fs::write(
        world.path("key"),
        "-----BEGIN KEY-----\nQUJDREVGRw12345\nSElKS0xNTg67890\n-----END KEY-----\n",
    )
    .expect("a file");
    let dockerfile = "FROM base\nRUN --mount=type=secret,id=key cat /run/secrets/key; exit 3\n";
    let error = world.build(dockerfile, &["--secret", "id=key,src=key"]).fails(1);
    assert!(!error.contains("QUJDREVGRw12345") && !error.contains("SElKS0xNTg67890"), "{error}");
}

#[test]
fn missing_secrets_and_wrong_mounts() {
    let world = World::with_base();
    let required = "FROM base\nRUN --mount=type=secret,id=pw,required cat /run/secrets/pw\n";
    world.build(required, &[]).fails_with(&["secret \"pw\" is required", "--secret id=pw", "Dockerfile:2"]);
    world.build(required, &["--secret", "id=pw,src=nowhere"]).fails_with(&["nowhere"]);
    for (mount, message) in [
        ("type=bnd,target=/x", "bind"),
        ("type=cache,target=/x,sharng=locked", "sharing"),
        ("type=cache", "target"),
        ("from=nothing-here/x:1,target=/x", "nothing-here"),
        ("source=absent,target=/x", "absent"),
    ] {
        world
            .build(&format!("FROM base\nRUN --mount={mount} true\n"), &[])
            .fails_with(&[message, "Dockerfile:2"]);
    }
}

#[test]
fn agents_are_passed_in() {
    let world = World::with_base();
    let socket = world.path("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let dockerfile = "FROM base\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo yes > /yes\n";
    let agent = format!("default={}", socket.display());
    world.build(dockerfile, &["-t", "t", "--ssh", &agent]).ok();
    assert_eq!(world.sh("t", "cat /yes; ls -A /run 2>/dev/null"), "yes\n");
    let dockerfile = "FROM base\nUSER ann\nRUN --mount=type=ssh,uid=1000,gid=50,mode=640 stat -c '%u:%g %a' $SSH_AUTH_SOCK > /tmp/seen\n";
    world.build(dockerfile, &["-t", "t", "--ssh", &agent]).ok();
    assert_eq!(world.sh("t", "cat /tmp/seen"), "1000:50 640\n");
    world
        .build("FROM base\nRUN --mount=type=ssh,required true\n", &[])
        .fails_with(&["SSH agent \"default\"", "Dockerfile:2"]);
}
