//! Commands and options of docker, buildx, podman and skopeo: accepted, or answered by a sentence; nothing
//! unrelated is ever suggested.

use crate::support::World;

#[test]
fn commands_that_do_not_exist_are_answered() {
    let world = World::new();
    for (line, texts) in [
        ("ps -a", &["no command \"ps\"", "crossdock run"][..]),
        ("container ls", &["no command \"container\""]),
        ("exec -it web sh", &["no command \"exec\"", "crossdock run"]),
        ("compose up -d", &["no command \"compose\"", "docker compose"]),
        ("commit web app", &["no command \"commit\"", "Dockerfile"]),
        ("buildx history inspect", &["no command \"buildx history\"", "crossdock report"]),
        ("image scp x", &["no command \"image scp\"", "crossdock save"]),
        ("image frobnicate", &["no command \"image\"", "prune"]),
        ("trust sign a", &["no command \"trust\"", "cosign"]),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let err = world.run(&words).fails(2);
        assert!(texts.iter().all(|text| err.contains(text)), "{line}: {err}");
        assert_eq!((err.lines().count(), err.contains("tip:")), (1, false), "{line}: {err}");
    }
    // What nobody has is refused without advice, unless it is a typing error.
    let err = world.run(&["frobnicate"]).fails(2);
    assert!(err.contains("frobnicate") && !err.contains("similar"), "{err}");
    let err = world.run(&["inspct", "a"]).fails(2);
    assert!(err.contains("'inspect'"), "{err}");
}

#[test]
fn options_that_do_nothing_here_are_answered() {
    let world = World::with_base();
    for (words, texts) in [
        (&["build", "--sign-by", "KEY"][..], &["--sign-by", "cosign"][..]),
        (&["build", "--isolation", "hyperv"], &["--isolation", "crossdock's own"]),
        (&["build", "--creds", "me:hunter2"], &["--creds", "crossdock login"]),
        (&["-H", "tcp://h:1", "images"], &["--host", "no daemon"]),
        (&["--context", "other", "images"], &["--context", "no daemon"]),
        (&["copy", "--sign-by-sigstore", "f", "a", "b"], &["--sign-by-sigstore", "cosign"]),
        (&["pull", "--all-tags", "a"], &["--all-tags", "list-tags"]),
        (&["pull", "-a", "a"], &["--all-tags", "list-tags"]),
    ] {
        let err = world.run(words).fails(2);
        assert!(texts.iter().all(|text| err.contains(text)), "{words:?}: {err}");
        assert_eq!((err.lines().count(), err.contains("hunter2")), (1, false), "{words:?}: {err}");
    }
    let dockerfile = "FROM base\nRUN true\n";
    let built = world.build(
        dockerfile,
        &["-m", "1g", "--cpu-shares=2", "--isolation=chroot", "--rm=false", "--layers", "--squash=false"],
    );
    for option in ["--memory", "--cpu-shares"] {
        assert!(built.err.contains(&format!("warning: {option}: ")), "{}", built.err);
    }
    assert_eq!(built.err.matches("warning:").count(), 2, "{}", built.err);
    built.ok();
    world.run(&["--context", "default", "-D", "--log-level=debug", "images"]).ok();
    world.run(&["run", "--no-such-thing", "base"]).fails(125);
}

#[test]
fn unknown_options_get_no_unrelated_advice() {
    let world = World::new();
    for words in [
        &["build", "--frobnicate", "."][..],
        &["build", "--tagg-everything", "."],
        &["pull", "--memory", "1", "a"],
        &["copy", "--zzz", "a", "b"],
        &["system", "prune", "--everything"],
        &["images", "--unusual"],
    ] {
        let err = world.run(words).fails(2);
        assert!(err.contains("unexpected argument"), "{words:?}: {err}");
        assert!(!err.contains("tip:") && !err.contains("similar"), "{words:?}: {err}");
    }
    // A typing error is recognised.
    let err = world.run(&["build", "--platfrom", "linux/arm64", "."]).fails(2);
    assert!(err.contains("'--platform'"), "{err}");
    let err = world.run(&["run", "--intercative", "a"]).fails(125);
    assert!(err.contains("'--interactive'"), "{err}");
}

#[test]
fn groups_and_global_options_of_docker() {
    let world = World::with_base();
    assert!(world.run(&["-v"]).ok().starts_with("crossdock "));
    assert!(world.run(&["buildx", "version"]).ok().starts_with("crossdock "));
    let version = world.run(&["version", "--format", "{{.Server.Version}} {{.Client.Os}}"]).ok();
    assert_eq!(version, format!("{} linux\n", env!("CARGO_PKG_VERSION")));
    let info = world.run(&["system", "info", "--format", "{{.Images}} {{.OSType}}"]).ok();
    assert_eq!(info, "1 linux\n");
    assert!(world.run(&["info"]).ok().contains("Images: 1"));
    let json: serde_json::Value =
        serde_json::from_str(&world.run(&["info", "-f", "json"]).ok()).expect("JSON");
    assert_eq!(json["Containers"], 0);
    world.run(&["buildx", "--builder", "b", "build", "--help"]).ok();
    world.run(&["bud", "--help"]).ok();
    let listed = world.run(&["buildx", "ls", "--format", "{{.Name}}"]).ok();
    assert_eq!(listed, "default\n");
    world.run(&["buildx", "create", "--append", "--node", "n", "--buildkitd-flags", "--debug", "--use"]).ok();
    world.run(&["buildx", "rm", "--keep-state", "--all-inactive"]).ok();
    assert!(world.run(&["buildx", "history", "ls"]).ok().starts_with("ID "));
    let ids = world.run(&["history", "-q", "base"]).ok();
    assert!(ids.lines().next().is_some_and(|id| id.len() == 12), "{ids}");
    assert!(ids.lines().skip(1).all(|id| id == "<missing>"), "{ids}");
    let sizes = world.run(&["buildx", "du", "--format", "{{.Type}}: {{.TotalCount}}"]).ok();
    assert!(sizes.contains("Images: 1\n"), "{sizes}");
}

/// Credentials in a directory that docker's --config names.
#[test]
fn the_directory_of_dockers_configuration() {
    let world = World::new();
    std::fs::create_dir(world.path("config")).expect("a directory");
    let text = r#"{"auths":{"127.0.0.1:1":{"auth":"YW5uOnNlY3JldA=="}}}"#;
    std::fs::write(world.path("config/config.json"), text).expect("written");
    let who = world.run(&["--config", "config", "login", "--get-login", "127.0.0.1:1"]).ok();
    assert_eq!(who, "ann\n");
    world.run(&["login", "--get-login", "127.0.0.1:1"]).fails_with(&["nobody is logged in"]);
}
