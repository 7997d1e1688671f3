//! COPY: sources, destinations, owners, modes, ignore files.

use std::os::unix::fs::symlink;

use crate::support::World;

#[test]
fn files_and_directories_go_where_docker_puts_them() {
    let world = World::with_base();
    world.file("a", "A").file("b", "B").file("d/x", "X").file("d/sub/y", "Y").file("with space", "S");
    symlink("x", world.path("context/d/link")).expect("a link");
    let dockerfile = r#"FROM base
COPY a /renamed
COPY a b /both/
COPY d /d1
COPY d/ /d2/
COPY d b /mixed/
COPY ["with space", "/spaced name"]
COPY ? /globbed/
COPY d/* /star/
WORKDIR /work
COPY a .
COPY a sub/
COPY a ../up
COPY d /etc
"#;
    let script = "cat /renamed /both/a /both/b /d1/x /d1/sub/y /d2/link '/spaced name' /work/a /work/sub/a /up /etc/x; echo; \
        for d in globbed star mixed; do ls /$d | tr '\\n' ' '; done; echo; cat /star/link; readlink /d1/link; stat -c %u:%g:%a /renamed /d1";
    // As in docker, a directory that a pattern matches is copied as its content.
    assert_eq!(
        world.build_and_sh(dockerfile, script),
        "AABXYXSAAAX\na b link sub x link x y b link sub x \nXx\n0:0:644\n0:0:755\n"
    );
}

#[test]
fn several_sources_need_a_directory() {
    let world = World::with_base();
    world.file("a", "A").file("b", "B");
    let message = "the destination must be a directory and end with a /";
    world.build("FROM base\nCOPY a b /x\n", &[]).fails_with(&[message, "Dockerfile:2"]);
    // A pattern with several matches creates the directory.
    assert_eq!(world.build_and_sh("FROM base\nCOPY [ab] /x/\n", "ls /x"), "a\nb\n");
}

#[test]
fn owners_by_name_and_number() {
    let world = World::with_base();
    world.file("d/f", "x");
    let dockerfile = "FROM base\nARG WHO=ann\nCOPY --chown=ann d /a\nCOPY --chown=ann:staff d /b\nCOPY --chown=5 d /c\n\
        COPY --chown=5:6 d /d\nCOPY --chown=$WHO:7 d /e\n";
    assert_eq!(
        world.build_and_sh(dockerfile, "stat -c %u:%g /a /a/f /b/f /c/f /d/f /e/f"),
        "1000:1001\n1000:1001\n1000:50\n5:5\n5:6\n1000:7\n"
    );
    world
        .build("FROM base\nCOPY --chown=nobody-here d /a\n", &[])
        .fails_with(&["nobody-here", "Dockerfile:2"]);
}

#[test]
fn modes_octal_and_symbolic() {
    let world = World::with_base();
    world.file_mode("d/tool", "x", 0o755).file("d/text", "x");
    let dockerfile = "FROM base\nARG M=4711\nCOPY d /plain\nCOPY --chmod=600 d/tool /octal\nCOPY --chmod=$M d/tool /setuid\n\
        COPY --chmod=u=rwX,go= d /symbolic\n";
    assert_eq!(
        world.build_and_sh(
            dockerfile,
            "stat -c %a /plain/tool /plain/text /octal /setuid /symbolic/tool /symbolic/text"
        ),
        "755\n644\n600\n4711\n700\n600\n"
    );
    let bad = world.build("FROM base\nCOPY --chmod=9 d /x\n", &[]);
    bad.fails_with(&["invalid chmod parameter", "Dockerfile:2"]);
}

#[test]
fn parents_and_exclusions() {
    let world = World::with_base();
    for file in ["a/b/c.txt", "a/b/d.md", "a/e/f.txt", "g.txt"] {
        world.file(file, file);
    }
    for (instruction, files) in [
        ("COPY --parents a/b/c.txt g.txt /x/", "./a/b/c.txt ./g.txt "),
        ("COPY --parents a/./b/c.txt /x/", "./b/c.txt "),
        ("COPY --parents a/*/*.txt /x/", "./a/b/c.txt ./a/e/f.txt "),
        ("COPY --parents **/*.md /x/", "./a/b/d.md "),
        ("COPY --exclude=b/*.md --exclude=e a /x/", "./b/c.txt "),
        ("COPY --exclude=**/*.txt --exclude=Dockerfile . /x/", "./a/b/d.md "),
        ("ARG X=e\nCOPY --exclude=$X a /x/", "./b/c.txt ./b/d.md "),
    ] {
        let found = world.build_and_sh(
            &format!("FROM base\n{instruction}\n"),
            "cd /x; find . -type f | sort | tr '\\n' ' '",
        );
        assert_eq!(found, files, "{instruction}");
    }
}

#[test]
fn exclusions_of_a_stage_enter_the_key_with_their_values() {
    let world = World::with_base();
    let dockerfile = "FROM base AS files\nRUN mkdir /d && touch /d/a /d/b\nFROM base\nARG X\nCOPY --from=files --exclude=$X /d /d\n";
    for (excluded, left) in [("a", "b\n"), ("b", "a\n")] {
        world.build(dockerfile, &["-t", "t", "--build-arg", &format!("X={excluded}")]).ok();
        assert_eq!(world.sh("t", "ls /d"), left);
    }
}

#[test]
fn links_make_layers_that_need_nothing_below() {
    let world = World::with_base();
    world.file("f", "x");
    world.build("FROM base\nRUN mkdir -p /d && chmod 700 /d\nCOPY --link f /d/f\n", &["-t", "one"]).ok();
    world.build("FROM base\nRUN echo other > /other\nCOPY --link f /d/f\n", &["-t", "two"]).ok();
    let last = |image: &str| {
        let image = world.inspect(image);
        image["RootFS"]["Layers"].as_array().expect("a list").last().expect("a layer").clone()
    };
    assert_eq!(last("one"), last("two"));
    assert_eq!(world.sh("two", "cat /d/f /other"), "xother\n");
}

#[test]
fn destinations_follow_the_images_links() {
    let world = World::with_base();
    world.file("lib/f", "x").file("one", "1");
    let dockerfile = "FROM base\nRUN mkdir -p /usr/lib && ln -s usr/lib /lib && ln -s ../../../../../usr /up && \
        echo old > /usr/target && ln -s target /usr/final\n\
        COPY lib /lib/\nCOPY one /lib/sub/one\nCOPY one /up/two\nWORKDIR /lib/work\nCOPY one .\n";
    let script = "readlink /lib; readlink /up; cat /usr/lib/f /usr/lib/sub/one /usr/two /usr/lib/work/one; echo; ls -d /lib/work";
    assert_eq!(world.build_and_sh(dockerfile, script), "usr/lib\n../../../../../usr\nx111\n/lib/work\n");
    // The layers have the files at their real paths, and no directories in place of the links.
    for number in 4..9 {
        let names = world.layer("t", number);
        assert!(names.iter().all(|n| n.starts_with("usr")), "{names:?}");
    }
}

#[test]
fn files_and_directories_are_not_mixed_up() {
    let world = World::with_base();
    world.file("d/f", "x").file("file", "x");
    world
        .build("FROM base\nRUN mkdir -p /t/f\nCOPY d /t\n", &[])
        .fails_with(&["cannot copy a file over the directory \"/t/f\"", "Dockerfile:3"]);
    world
        .build("FROM base\nRUN echo > /t\nCOPY d /t\n", &[])
        .fails_with(&["not a directory", "Dockerfile:3"]);
    world.build("FROM base\nRUN echo > /t\nCOPY file /t/\n", &[]).fails_with(&["Dockerfile:3"]);
}

#[test]
fn missing_sources_point_at_their_line() {
    let world = World::with_base();
    let error = world.build("FROM base\n\n# a comment\nCOPY nothing /x\nRUN true\n", &[]).fails(1);
    for text in ["Dockerfile:4", "COPY nothing /x", ">>>", "\"nothing\": not found", "the build context"] {
        assert!(error.contains(text), "no {text:?} in {error}");
    }
    world
        .build("FROM base AS a\nFROM base\nCOPY --from=a /nothing /x\n", &[])
        .fails_with(&["stage a", "\"/nothing\": not found"]);
}

#[test]
fn patterns_that_match_nothing_are_no_error() {
    let world = World::with_base();
    world.file("package.json", "{}").file("d/f", "x");
    let dockerfile = "FROM base\nCOPY package.json yarn.lock* ./app/\nCOPY no* /nothing/\nCOPY --parents x*/y* /nothing/\n";
    let built = world.build(dockerfile, &["-t", "t"]);
    assert!(built.err.contains("no file matches no*, so nothing is copied"), "{}", built.err);
    built.ok();
    assert_eq!(world.sh("t", "ls /app; ls -d /nothing 2>/dev/null"), "package.json\n");
}

#[test]
fn directories_get_owner_and_mode_of_what_is_copied() {
    let world = World::with_base();
    let dockerfile = "FROM base AS made\nRUN mkdir -p /tree/data /tree/new && chown 77:78 /tree/data && chmod 2711 /tree/data\n\
        FROM base\nRUN mkdir -m 700 /data /kept\nCOPY --from=made /tree/ /\nCOPY --from=made /tree/data/ /kept/\n\
        COPY --chmod=750 d/ /a/b/\nCOPY --chmod=700 d/f /p/q/f\n";
    world.file("d/f", "x");
    let script = "stat -c '%n %u:%g %a' /data /new /kept /a/b /p/q";
    let expect = "/data 77:78 2711\n/new 0:0 755\n/kept 0:0 700\n/a/b 0:0 750\n/p/q 0:0 700\n";
    assert_eq!(world.build_and_sh(dockerfile, script), expect);
}

#[test]
fn directories_above_what_is_taken_keep_their_mode() {
    let world = World::with_base();
    world.file("tree/in/f", "x").file("tree/in/g", "x").file("gone/x", "x");
    world.file(".dockerignore", "*\n!tree/in/f\n");
    for (path, mode) in [("tree", 0o700), ("tree/in", 0o2777)] {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(world.path("context").join(path), permissions).expect("mode");
    }
    let dockerfile = "FROM base\nCOPY . /all/\nCOPY --parents tree/in/f /parents/\n";
    let script = "stat -c '%n %a' /all/tree /all/tree/in /parents/tree /parents/tree/in; ls /all/tree/in";
    let expect = "/all/tree 700\n/all/tree/in 2777\n/parents/tree 700\n/parents/tree/in 2777\nf\n";
    assert_eq!(world.build_and_sh(dockerfile, script), expect);
    // A change of such a mode changes the key of the COPY.
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.path("context/tree"), permissions).expect("mode");
    assert_eq!(world.build_and_sh(dockerfile, "stat -c %a /all/tree /parents/tree"), "755\n755\n");
    world.build("FROM base\nCOPY gone /x\n", &[]).fails_with(&["excluded by .dockerignore"]);
    world.file(".dockerignore", "*\n");
    assert_eq!(world.build_and_sh("FROM base\nCOPY . /all\n", "ls -A /all"), "");
}

#[test]
fn links_are_followed_at_the_destination_and_replaced_below_it() {
    let world = World::with_base();
    world.file("f", "new").file("d/l", "new");
    let dockerfile = "FROM base\nRUN echo old > /real && ln -s real /l && ln -s /later/dir /dangling && mkdir /in && ln -s ../real /in/l\n\
        COPY f /l\nCOPY f /dangling/\nCOPY d/ /in/\nWORKDIR /dangling/work\nWORKDIR /plain\nENV none=\nCOPY --link f $none\n";
    let script =
        "cat /real /later/dir/f /in/l; ls -l /l /in/l | cut -c1; ls -d /later/dir/work; cat /plain/f";
    assert_eq!(world.build_and_sh(dockerfile, script), "newnewnew-\nl\n/later/dir/work\nnew");
}

#[test]
fn capabilities_of_files_come_along() {
    // struct vfs_cap_data, version 2: effective, permitted CAP_NET_BIND_SERVICE.
    const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let world = World::with_base();
    let archive = crossdock_testkit::LayerTar::new()
        .pax(&[("SCHILY.xattr.security.capability", &CAPABILITY)])
        .file("program", "x");
    world.file("caps.tar", archive.finish());
    let dockerfile = "FROM scratch AS made\nADD caps.tar /\nFROM scratch\nCOPY --from=made --chown=7:8 --chmod=755 /program /copied\n";
    let output = world.text("out.tar");
    world.build(dockerfile, &["-o", &format!("type=tar,dest={output}")]).ok();
    let bytes = std::fs::read(output).expect("an archive");
    let name = b"SCHILY.xattr.security.capability=";
    assert!(bytes.windows(name.len()).any(|window| window == name), "the capability is lost");
}

#[test]
fn paths_cannot_leave_the_context() {
    let world = World::with_base();
    std::fs::write(world.path("secret"), "outside").expect("a file");
    symlink("../secret", world.path("context/up")).expect("a link");
    symlink("/etc", world.path("context/abs")).expect("a link");
    for source in ["../secret", "up", "abs/hostname"] {
        world.build(&format!("FROM base\nCOPY {source} /x\n"), &[]).fails_with(&["not found"]);
    }
    world.build("FROM base\nRUN --mount=source=abs,target=/m ls /m\n", &[]).fails_with(&["Dockerfile:2"]);
}

#[test]
fn ignored_files_do_not_exist() {
    let world = World::with_base();
    for file in ["keep", "skip.log", "deep/a.log", "deep/keep.txt", "node_modules/x", "out/1", "out/2"] {
        world.file(file, file);
    }
    world.file(".dockerignore", "# comment\n**/*.log\n/node_modules\nout\n!out/2\nDockerfile\n");
    let dockerfile =
        "FROM base\nCOPY . /c/\nRUN --mount=target=/m cd /m && find . -type f | sort > /mounted\n";
    let list = "./.dockerignore\n./deep/keep.txt\n./keep\n./out/2\n";
    let script = "cd /c; find . -type f | sort; cat /mounted";
    assert_eq!(world.build_and_sh(dockerfile, script), format!("{list}{list}"));
    world.build("FROM base\nCOPY skip.log /x\n", &[]).fails_with(&["excluded by .dockerignore"]);
    // The Dockerfile's own ignore file comes first.
    world.file("Dockerfile.dockerignore", "*\n!keep\n");
    assert_eq!(world.build_and_sh("FROM base\nCOPY . /c/\n", "ls -A /c"), "keep\n");
    world.file("sub/Other", "FROM base\nCOPY . /c/\n").file("sub/Other.dockerignore", "*\n!out\n");
    let other = world.text("context/sub/Other");
    world.run(&["build", "-t", "o", "-f", &other, "context"]).ok();
    assert_eq!(world.sh("o", "ls -A /c"), "out\n");
    world.file("Dockerfile.dockerignore", "a\n!\n");
    let error = world.build("FROM base\n", &[]).fails(1);
    assert!(error.contains("Dockerfile.dockerignore:2"), "{error}");
}

#[test]
fn a_link_that_leads_nowhere_is_not_left_out() {
    let world = World::with_base();
    world.file("d/a", "a");
    symlink("/nope", world.path("context/d/broken")).expect("a link");
    for dockerfile in ["FROM base\nCOPY d/* /x/\n", "FROM base\nCOPY --parents d/b* /x/\n"] {
        world.build(dockerfile, &[]).fails_with(&["\"d/broken\" leads nowhere", "Dockerfile:2"]);
    }
    world.file(".dockerignore", "d/broken\n");
    assert_eq!(world.build_and_sh("FROM base\nCOPY d/* /x/\n", "ls /x"), "a\n");
    world.file(".dockerignore", "");
    // As a part of a directory it is a link like any other.
    assert_eq!(world.build_and_sh("FROM base\nCOPY d /x\n", "readlink /x/broken"), "/nope\n");
}

#[test]
fn containerignore_comes_before_dockerignore() {
    let world = World::with_base();
    world.file("a", "a").file("b", "b").file("c", "c").file(".containerignore", ".*\nC*\nb\n");
    world.file("Containerfile", "FROM base\nCOPY . /c/\n");
    let built = |options: &[&str]| {
        world.run(&[&["build", "-t", "o", "context"], options].concat()).ok();
        world.sh("o", "ls -A /c")
    };
    assert_eq!(built(&[]), "a\nc\n");
    world.file(".dockerignore", "a\n");
    assert_eq!(built(&[]), "a\nc\n");
    assert_eq!(world.build_and_sh("FROM base\nCOPY . /c/\n", "ls -A /c"), "Dockerfile\na\nc\n");
    // The file of the Dockerfile comes first.
    world.file("Containerfile.containerignore", "*\n!b\n");
    assert_eq!(built(&["-f", &world.text("context/Containerfile")]), "b\n");
    // A named context has one of its own.
    std::fs::create_dir(world.path("named")).expect("a directory");
    for (name, text) in [("x", ""), ("y", ""), (".containerignore", ".*\ny\n")] {
        std::fs::write(world.path("named").join(name), text).expect("a file");
    }
    world.build("FROM base\nCOPY --from=n . /c/\n", &["-t", "n", "--build-context", "n=named"]).ok();
    assert_eq!(world.sh("n", "ls -A /c"), "x\n");
}

#[test]
fn everything_a_stage_or_image_has_can_be_copied() {
    let world = World::with_base();
    world.build("FROM base\nRUN echo image > /from-image\n", &["-t", "other:1"]).ok();
    std::fs::create_dir(world.path("named")).expect("a directory");
    std::fs::write(world.path("named/from-named"), "named\n").expect("a file");
    let dockerfile = "FROM base AS files\nRUN mkdir /d && echo 1 > /d/1 && ln -s 1 /d/link && chown 5:6 /d/1 && chmod 604 /d/1 && mkfifo /d/pipe\n\
        FROM base\nWORKDIR /w\nCOPY --from=files /d /d\nCOPY --from=0 d/1 /by-index\nCOPY --from=other:1 /from-image /\n\
        COPY --from=named from-named /\nCOPY --from=files --chown=ann /d/1 /owned\n";
    world.build(dockerfile, &["-t", "t", "--build-context", "named=named"]).ok();
    let script = "cat /d/link /by-index /from-image /from-named; stat -c '%u:%g %a' /d/1 /owned; test -p /d/pipe && echo pipe";
    assert_eq!(world.sh("t", script), "1\n1\nimage\nnamed\n5:6 604\n1000:1001 604\npipe\n");
}

#[test]
fn named_contexts_have_ignore_files_too() {
    let world = World::with_base();
    std::fs::create_dir(world.path("named")).expect("a directory");
    for (name, text) in [(".dockerignore", "skip\n"), ("skip", "s"), ("keep", "k")] {
        std::fs::write(world.path("named").join(name), text).expect("a file");
    }
    world.build("FROM base\nCOPY --from=named . /n\n", &["-t", "t", "--build-context", "named=named"]).ok();
    assert_eq!(world.sh("t", "ls /n"), "keep\n");
}

#[test]
fn unusual_names_survive() {
    let world = World::with_base();
    let long = "l".repeat(200);
    for name in ["ünï", "tab\there", "new\nline", "quo\"te", "back\\slash", "[x]", &long] {
        world.file(&format!("d/{name}"), name);
    }
    let names = world.build_and_sh("FROM base\nCOPY d /d\n", "cd /d; printf '%s|' *");
    assert_eq!(names, format!("[x]|back\\slash|{long}|new\nline|quo\"te|tab\there|ünï|"));
    // A bracket is a pattern; escaped it is a name.
    assert_eq!(world.build_and_sh("FROM base\nCOPY d/[[]x] /x\n", "cat /x"), "[x]");
}

#[test]
fn deletions_and_renames_hold_across_layers() {
    let world = World::with_base();
    let dockerfile = "FROM base\nRUN mkdir -p /d/sub && echo 1 > /d/sub/f && echo 2 > /gone && mkdir /tree && touch /tree/a /tree/b\n\
        RUN rm /gone && rm -r /tree && mkdir /tree && touch /tree/c\nRUN mv /d /moved\n\
        RUN rm -r /moved/sub && echo now-a-file > /moved/sub\nRUN rm /moved/sub && ln -s /tree /moved/sub\nRUN echo back > /gone\n";
    let script = "ls /d 2>/dev/null; ls /tree /moved/sub/; readlink /moved/sub; cat /gone";
    assert_eq!(world.build_and_sh(dockerfile, script), "/moved/sub/:\nc\n\n/tree:\nc\n/tree\nback\n");
    let names = world.layer("t", 4);
    assert!(names.iter().any(|n| n == ".wh.gone"), "{names:?}");
    // The same holds after a save and a load into another store.
    let archive = world.text("archive");
    world.run(&["save", "-o", &archive, "t"]).ok();
    let other = World::new();
    other.run(&["load", "-i", &archive]).ok();
    assert_eq!(other.sh("t", script), "/moved/sub/:\nc\n\n/tree:\nc\n/tree\nback\n");
}

#[test]
fn hard_links_of_the_context_stay_hard_links() {
    let world = World::with_base();
    world.file("d/a", "A");
    std::fs::hard_link(world.path("context/d/a"), world.path("context/d/b")).expect("a link");
    let script = "stat -c %h:%i /x/a /x/b | sort -u | wc -l; stat -c %h /x/a";
    assert_eq!(world.build_and_sh("FROM base\nCOPY d /x\n", script), "1\n2\n");
    // The same holds after a save and a load.
    let archive = world.text("archive");
    world.run(&["save", "-o", &archive, "t"]).ok();
    let fresh = World::new();
    fresh.run(&["load", "-i", &archive]).ok();
    assert_eq!(fresh.sh("t", script), "1\n2\n");
}

/// Names are bytes: in a context, a named context, another stage, and the rules of an ignore file.
#[test]
fn names_that_are_not_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let world = World::with_base();
    world.file("d/plain", "x").file("other/x", "x");
    let write = |directory: &str, name: &[u8], content: &[u8]| {
        let path = world.path("context").join(directory).join(OsStr::from_bytes(name));
        std::fs::write(path, content).expect("a file");
    };
    write("d", b"caf\xe9", b"latin");
    write("d", b"skip\xff", b"skipped");
    write("d", b"also.\xfe", b"kept");
    write("other", b"\xe2\x98", b"half");
    write("", b".dockerignore", b"d/skip\xff\n**/*.\xfe\n!d/also.\xfe\n");
    let dockerfile = "FROM base AS one\nCOPY d /d\nCOPY d/caf? /single/\nCOPY --from=named . /other\n\
        RUN --mount=type=bind,source=d,target=/m cp /m/caf* /from-mount; ls /m | wc -l > /count\n\
        FROM base\nCOPY --from=one /d /d\nCOPY --from=one --parents /other/* /single/* /p/\nCOPY --from=one /from-mount /count /\n";
    let args = ["-t", "t", "--build-context", "named=context/other"];
    let script = "cd /; for f in d/* p/other/* p/single/*; do printf '%s ' \"$f\"; cat \"$f\"; echo; done | od -An -c | tr -d ' \\n'; cat /from-mount /count";
    world.build(dockerfile, &args).ok();
    let expected = "d/also.376kept\\nd/caf351latin\\nd/plainx\\np/other/xx\\np/other/342230half\\np/single/caf351latin\\nlatin3\n";
    assert_eq!(world.sh("t", script), expected);
    // In the cache until one of the copied files changes.
    assert_eq!(world.build(dockerfile, &args).executed(), [""; 0]);
    write("d", b"skip\xff", b"other");
    assert_eq!(world.build(dockerfile, &args).executed(), [""; 0]);
    write("d", b"caf\xe9", b"LATIN");
    assert!(!world.build(dockerfile, &args).executed().is_empty());
    // The context as a tar archive on standard input, and the result as files.
    world.file("Dockerfile", "FROM scratch\nCOPY d /d\n");
    let mut tar = std::process::Command::new("tar");
    let packed = tar.args(["-c", "."]).current_dir(world.path("context")).output().expect("tar runs");
    let built = world.crossdock(&["build", "-o", "type=local,dest=out", "--progress", "plain", "-"]);
    built.input(&packed.stdout).ok();
    let read = |name: &[u8]| std::fs::read(world.path("out/d").join(OsStr::from_bytes(name)));
    assert_eq!(read(b"caf\xe9").expect("there"), b"LATIN");
    assert!(read(b"skip\xff").is_err());
    // An error shows the bytes of a name that is not text.
    world
        .build("FROM base\nRUN mkdir -p /d/$(printf 'caf\\351')\nCOPY d /d\n", &[])
        .fails_with(&["caf\\xe9", "Dockerfile:3"]);
}
