//! Inputs that would use up memory, time, threads or disk; damage in the store; secrets in messages.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use crate::support::{Ran, Registry, World, is_root, require};

/// Limit of a command's address space, in KiB: a command that needs more fails on any machine.
const MEMORY_MAX: &str = "3000000";

/// Runs crossdock with bounded memory.
fn bounded(world: &World, args: &[&str]) -> Ran {
    let mut shell = Command::new(require("sh", "dash"));
    shell.args(["-c", "ulimit -v $0 && exec \"$@\"", MEMORY_MAX, env!("CARGO_BIN_EXE_crossdock")]);
    shell.arg("--root").arg(world.store()).args(args).env("HOME", world.path("home"));
    Ran::from(shell.current_dir(world.directory.path()).stdin(Stdio::null()).output().expect("sh runs"))
}

#[test]
fn values_that_grow_end_at_their_line() {
    let world = World::new();
    let grow = |keyword: &str, at: usize| -> String {
        let lines = (1..=12).map(|i| {
            let value = format!("$A{}", i - 1).repeat(8);
            format!("{keyword} A{i}={value}\n")
        });
        let lines: String = std::iter::once(format!("{keyword} A0=0123456789\n")).chain(lines).collect();
        if at == 0 {
            format!("{lines}FROM scratch\nCOPY Dockerfile /\n")
        } else {
            format!("FROM scratch\n{lines}")
        }
    };
    for (dockerfile, line) in [(grow("ENV", 1), 8), (grow("ARG", 1), 8), (grow("ARG", 0), 7)] {
        world.file("Dockerfile", &dockerfile);
        for args in [&["build", "context"][..], &["build", "--check", "context"]] {
            bounded(&world, args).fails_with(&[
                &format!("Dockerfile:{line}"),
                "${A5} makes this word 1310720 bytes long",
                "the limit is 1048576",
            ]);
        }
        bounded(&world, &["build", "-q", "context"]).fails_with(&[&format!("Dockerfile:{line}")]);
        bounded(&world, &["build", "--call", "outline", "context"]);
    }
    // Each value is small enough, but not all of them together.
    let mut dockerfile = format!("FROM scratch\nENV A={}\n", "x".repeat(100_000));
    (0..100).for_each(|i| writeln!(dockerfile, "LABEL l{i}=$A").expect("a String takes all"));
    world.file("Dockerfile", dockerfile);
    bounded(&world, &["build", "context"]).fails_with(&["the configuration of the image", "8388608 bytes"]);
}

#[test]
fn patterns_take_no_cubic_time() {
    let world = World::new();
    let value = "a".repeat(50_000);
    let dockerfile =
        format!("FROM scratch\nENV A={value}\nENV B=${{A/*a*ab/x}} C=${{A##*a*b}}\nCOPY Dockerfile /\n");
    world.build(&dockerfile, &["-t", "t"]).ok();
    let env = world.inspect("t")["Config"]["Env"].to_string();
    assert!(env.contains(&format!("B={value}")), "the pattern does not match");
    let pattern = "*a".repeat(20_000);
    world
        .build(&format!("FROM scratch\nCOPY {pattern} /\n"), &[])
        .fails_with(&["Dockerfile:2", "a pattern of 40000 bytes"]);
    world.file(".dockerignore", format!("x\n{pattern}\n"));
    world.build("FROM scratch\nCOPY Dockerfile /\n", &[]).fails_with(&[".dockerignore:2", "40000 bytes"]);
}

#[test]
fn stages_share_few_threads() {
    let world = World::new();
    let mut dockerfile = "FROM scratch AS s0\n".to_string();
    for i in 1..5000 {
        writeln!(dockerfile, "FROM s{} AS s{i}", i - 1).expect("a String takes all");
    }
    dockerfile += "COPY Dockerfile /\n";
    world.file("Dockerfile", dockerfile);
    bounded(&world, &["build", "-q", "context"]).ok();
    bounded(&world, &["build", "--check", "context"]).ok();
    // More stages than threads, each with a step, and one that waits for all of them.
    let mut wide = String::new();
    (0..200).for_each(|i| writeln!(wide, "FROM scratch AS w{i}\nCOPY Dockerfile /{i}").expect("a String"));
    wide += "FROM scratch\n";
    (0..200).for_each(|i| writeln!(wide, "COPY --from=w{i} /{i} /").expect("a String takes all"));
    world.build(&wide, &["--jobs", "2"]).ok();
}

#[test]
fn a_hundred_thousand_variables() {
    let world = World::new();
    let all: String = (0..100_000).map(|i| format!(" A{i}=x")).collect();
    world.file("Dockerfile", format!("FROM scratch\nARG{all}\nENV{all}\nCOPY Dockerfile /$A99999\n"));
    bounded(&world, &["build", "-q", "context"]).ok();
    bounded(&world, &["build", "--check", "context"]).ok();
}

#[test]
fn inputs_that_never_end_are_named() {
    let world = World::with_base();
    let error = bounded(&world, &["run", "--env-file", "/dev/zero", "base", "true"]).fails(125);
    assert!(error.contains("--env-file: read /dev/zero: larger than 8388608 bytes"), "{error}");
    world.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let pipe = world.text("context/pipe");
    assert!(Command::new(require("mkfifo", "coreutils")).arg(&pipe).status().expect("it runs").success());
    for (args, text) in [
        (&["build", "-f", "/dev/zero", "context"][..], "/dev/zero: larger than 16777216 bytes"),
        (&["build", "-f", &pipe, "context"], "pipe: it is a named pipe"),
        (&["load", "-i", "/dev/zero"], "/dev/zero: it has neither index.json nor manifest.json"),
        (&["build", "--secret", "id=x,src=/dev/zero", "context"], "/dev/zero: larger than 512000 bytes"),
    ] {
        bounded(&world, args).fails_with(&[text]);
    }
    std::os::unix::fs::symlink("/dev/zero", world.path("context/.dockerignore")).expect("linked");
    bounded(&world, &["build", "context"]).fails_with(&[".dockerignore: it is not a regular file"]);
    fs::remove_file(world.path("context/.dockerignore")).expect("there");
    let endless = vec![b'#'; 17 << 20];
    for args in [&["build", "-"][..], &["build", "-f", "-", "context"]] {
        world.crossdock(args).input(&endless).fails_with(&["standard input", "16777216 bytes"]);
    }
}

/// A layer, archive or context of a few kilobytes that unpacks to more than the limit. The limit here is
/// lower than the default, which has a test of its own beside the code.
#[test]
fn what_unpacks_to_too_much_is_stopped() {
    let world = World::new();
    world.file("zero", vec![0; 20 << 20]);
    world.build("FROM scratch\nCOPY zero /\n", &["-t", "bomb"]).ok();
    let (layer, archive) = (world.text("context/bomb.tar.gz"), world.text("bomb.tar"));
    let digest =
        world.inspect("bomb")["Manifest"]["layers"][0]["digest"].as_str().expect("a digest").to_string();
    fs::copy(world.store().join("blobs").join(digest.replace(':', "/")), &layer).expect("copied");
    world.run(&["save", "-o", &archive, "bomb"]).ok();
    let size = fs::metadata(&layer).expect("there").len();
    assert!(size < 100_000, "{size}");
    fs::remove_file(world.path("context/zero")).expect("there");

    let too_much = ["unpack to more than 10485760", "--unpack-max"];
    world.file("Dockerfile", "FROM scratch\nADD bomb.tar.gz /\n");
    let add = |limit: &str| world.run(&["--unpack-max", limit, "build", "-q", "--no-cache", "context"]);
    add("10m").fails_with(&too_much);
    add("30m").ok();
    add("unlimited").ok();
    let context = fs::read(&layer).expect("there");
    world.crossdock(&["build", "-"]).env("CROSSDOCK_UNPACK_MAX", "10m").input(&context).fails_with(&too_much);

    // A loaded layer is unpacked when it is used.
    let fresh = World::new();
    fresh.run(&["load", "-i", &archive]).ok();
    let used = |limit: &str| fresh.crossdock(&["run", "bomb", "/x"]).env("CROSSDOCK_UNPACK_MAX", limit).run();
    assert!(used("10m").fails(125).contains(too_much[0]));
    assert!(used("30m").fails(127).contains("/x"));
    world.run(&["--unpack-max", "much", "images"]).fails_with(&["--unpack-max much: not a size"]);

    // A hole counts with its whole length, since copying writes it out.
    let sparse = fs::File::create(world.path("sparse")).expect("created");
    sparse.set_len(1 << 40).expect("a hole");
    let mut tar = Command::new(require("tar", "tar"));
    tar.arg("-C").arg(world.directory.path()).args(["-cSf", "context/bomb.tar.gz", "sparse"]);
    assert!(tar.current_dir(world.directory.path()).status().expect("tar runs").success());
    world.run(&["build", "-q", "context"]).fails_with(&["unpack to more than"]);
}

#[test]
fn a_damaged_record_is_replaced_by_who_gives_the_name() {
    let world = World::with_base();
    let record = || {
        let records = fs::read_dir(world.store().join("images")).expect("a store");
        let mut paths = records.map(|entry| entry.expect("an entry").path());
        paths.find(|path| path.to_string_lossy().contains("library%2fbase")).expect("a record")
    };
    let archive = world.text("base.tar");
    world.run(&["save", "-o", &archive, "base"]).ok();
    world.build("FROM scratch\nCOPY Dockerfile /\n", &["-t", "other"]).ok();
    let registry = Registry::start(&world);
    let elsewhere = format!("{}/base", registry.host);
    for args in [["tag", "base", &elsewhere], ["push", "--quiet", &elsewhere], ["rmi", "--force", &elsewhere]]
    {
        world.run(&args).ok();
    }
    let damage = |name: &str| {
        world.run(&["tag", "other", name]).ok();
        let records = fs::read_dir(world.store().join("images")).expect("a store");
        let hex = name.replace(['/', ':'], "%");
        let is_it = |path: &std::path::PathBuf| {
            path.to_string_lossy().replace("%2f", "%").replace("%3a", "%").contains(&hex)
        };
        let path = records.map(|entry| entry.expect("an entry").path()).find(is_it).expect("a record");
        fs::write(path, "{").expect("written");
    };
    for args in [&["pull", &elsewhere][..], &["manifest", "create", &elsewhere, "other"]] {
        damage(&elsewhere);
        let ran = world.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        assert!(ran.err.contains("was replaced"), "{}", ran.err);
    }
    for args in [
        &["build", "-q", "-t", "base", "context"][..],
        &["tag", "other", "base"],
        &["load", "-i", &archive],
        &["rmi", "base"],
    ] {
        let path = record();
        fs::write(&path, "").expect("written");
        world.run(&["inspect", "base"]).fails_with(&["is damaged", "crossdock rmi"]);
        assert!(world.run(&["run", "base", "true"]).fails(125).contains("is damaged"));
        let ran = world.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        assert!(
            args[0] == "rmi" || ran.err.contains("the damaged record of base:latest was replaced"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_store_that_cannot_be_written_is_read() {
    let world = World::with_base();
    let script = "mount --bind \"$STORE\" \"$STORE\" && mount -o remount,ro,bind \"$STORE\" || exit 99\n\
        for command in images 'inspect base' 'history base' 'save -o saved.tar base' 'system df'; do\n\
            crossdock $command >/dev/null || echo \"FAILED $command\"\n\
        done\n\
        for command in 'run base true' 'rmi base' 'tag base x' 'load -i saved.tar' 'system prune --force'; do\n\
            crossdock $command 2>said </dev/null && echo \"SUCCEEDED $command\"\n\
            grep -q \"the store $STORE is read-only\" said || { echo \"$command:\"; cat said; }\n\
        done; true";
    let mut command = Command::new(require("unshare", "util-linux"));
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args([
        "--mount",
        "sh",
        "-c",
        &format!("crossdock() {{ \"$EXE\" --root \"$STORE\" \"$@\"; }}\n{script}"),
    ]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", world.path("home"));
    command.env("STORE", world.store()).env("EXE", env!("CARGO_BIN_EXE_crossdock"));
    command.current_dir(world.directory.path()).stdin(Stdio::null());
    let ran = Ran::from(command.output().expect("unshare runs"));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{}", ran.err);
}

#[test]
fn passwords_in_addresses_are_not_repeated() {
    let world = World::new();
    for (args, dockerfile) in [
        (&["build", "context"][..], "FROM scratch\nADD http://u:s3cret@127.0.0.1:1/x /\n"),
        (&["build", "context"], "FROM scratch\nARG U=s3cret\nADD http://u:$U@127.0.0.1:1/x.git /\n"),
        (&["build", "http://u:s3cret@127.0.0.1:1/x.git"], ""),
        (&["build", "http://u:s3cret@127.0.0.1:1/x.tar"], ""),
        (&["pull", "http://u:s3cret@127.0.0.1:1/x"], ""),
    ] {
        world.file("Dockerfile", dockerfile);
        let error = world.run(args).fails(1);
        // The quoted lines of the Dockerfile may have it: they are the user's own.
        let own = |line: &&str| !line.contains(" | ");
        let told: String = error.lines().filter(own).collect();
        assert!(!told.contains("s3cret"), "{args:?}: {error}");
    }
    let world = World::with_base();
    let proxy = "http_proxy=http://u:s3cret@127.0.0.1:1/";
    let shown =
        world.build("FROM base\nRUN env && echo \"$http_proxy\"\n", &["--build-arg", proxy, "-t", "t"]);
    assert!(shown.err.contains("u:***@127.0.0.1") && !shown.err.contains("s3cret"), "{}", shown.err);
    assert!(!world.run(&["history", "--no-trunc", "t"]).ok().contains("s3cret"));
}
