//! How registries are reached: --creds, --authfile, --tls-verify, --cert-dir, and those for each side of a
//! copy.

use std::fs;

use crate::support::{Registry, World, require};

/// A registry for the user ann, whose password is `correct-horse`.
fn guarded(world: &World) -> Registry {
    let line = world.crossdock(&["registry", "htpasswd", "ann"]).input(b"correct-horse\n").ok();
    fs::write(world.path("users"), line).expect("written");
    Registry::with(world, &["--users", &world.text("users")])
}

#[test]
fn credentials_are_given_with_the_command() {
    let world = World::with_base();
    let registry = guarded(&world);
    let name = registry.image("a:1");
    world.run(&["push", "base", &name]).fails(1);
    world.run(&["push", "--creds", "ann:correct-horse", "base", &name]).ok();
    let there = format!("docker://{name}");
    for words in [
        &["pull", "--creds", "ann:correct-horse", &name][..],
        &["inspect", "--creds=ann:correct-horse", &there],
        &["inspect", "--username", "ann", "--password", "correct-horse", &there],
        &["list-tags", "--creds=ann:correct-horse", &name],
        &["copy", "--src-creds", "ann:correct-horse", &there, "oci:out"],
        &["copy", "--dest-creds", "ann:correct-horse", "oci:out", &registry.image("b:1")],
        &["copy", "--src-username=ann", "--src-password=correct-horse", &there, "dir:out2"],
        &["sync", "-s=docker", "-d=dir", "--src-creds=ann:correct-horse", &name, "out3"],
        &["run", "--pull=always", "--creds", "ann:correct-horse", &name, "true"],
        &["run", "--pull=always", "--arch=amd64", "--os=linux", "--creds=ann:correct-horse", &name, "true"],
        &["delete", "--creds=ann:correct-horse", &name],
    ] {
        world.run(words).ok();
    }
    // Nothing was stored, and nothing is shown.
    assert!(!world.path("home/.docker/config.json").exists());
    for words in [
        &["pull", "--creds", "ann:wrong-guess", &name][..],
        &["pull", "--creds", "ann-wrong-guess", &name],
        &["pull", "--creds", ":wrong-guess", &name],
        &["copy", "--src-creds", "ann:wrong-guess", &there, "dir:x"],
        &["copy", "--dest-creds", "wrong-guess", "oci:out", &registry.image("c:1")],
    ] {
        let err = world.run(words).fails(1);
        assert!(!err.contains("wrong-guess"), "{err}");
    }
}

#[test]
fn files_of_credentials_are_chosen() {
    let world = World::with_base();
    let registry = guarded(&world);
    let name = registry.image("a:1");
    let login = ["login", "-u", "ann", "--password-stdin", "--authfile", "mine.json", &registry.host];
    world.crossdock(&login).input(b"correct-horse").ok();
    assert!(fs::read_to_string(world.path("mine.json")).expect("there").contains(&registry.host));
    world.run(&["push", "base", &name]).fails(1);
    world.run(&["push", "--authfile", "mine.json", "base", &name]).ok();
    world.run(&["rmi", "base"]).ok();
    world.build(&format!("FROM {name}\n"), &["--authfile", "mine.json", "-t", "t"]).ok();
    world.run(&["copy", "--src-authfile", "mine.json", &format!("docker://{name}"), "oci:x"]).ok();
    world.run(&["copy", "--authfile", "mine.json", "oci:x", &registry.image("b:1")]).ok();
    let who = ["login", "--get-login", "--authfile", "mine.json", &registry.host];
    assert_eq!(world.run(&who).ok(), "ann\n");
    // A file is the only one: what docker knows does not count then.
    world.crossdock(&["login", "-u", "ann", "--password-stdin", &registry.host]).input(b"correct-horse").ok();
    world.run(&["pull", &name]).ok();
    world.run(&["pull", "--authfile", "empty.json", &registry.image("b:1")]).fails(1);
    world.run(&["pull", "--no-creds", &registry.image("b:1")]).fails(1);
    world.run(&["copy", "--src-no-creds", &format!("docker://{name}"), "oci:y"]).fails(1);
    let out = world.run(&["logout", "--all", "--authfile", "mine.json"]).ok();
    assert!(out.contains(&registry.host), "{out}");
    world.run(&["push", "--authfile", "mine.json", "t", &name]).fails(1);
}

#[test]
fn certificates_are_verified_or_not() {
    let world = World::with_base();
    let made = std::process::Command::new(require("openssl", "openssl"))
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .args(["-keyout", &world.text("key.pem"), "-out", &world.text("cert.pem")])
        .output();
    assert!(made.expect("openssl runs").status.success());
    let registry =
        Registry::with(&world, &["--tls-cert", &world.text("cert.pem"), "--tls-key", &world.text("key.pem")]);
    let name = registry.image("a:1");
    world.run(&["push", "--retry=0", "base", &name]).fails(1);
    world.run(&["push", "--tls-verify=false", "base", &name]).ok();
    world.run(&["pull", "--retry=0", "--tls-verify", &name]).fails(1);
    world.run(&["pull", "--tls-verify=false", &name]).ok();
    fs::create_dir(world.path("certs")).expect("a directory");
    fs::copy(world.path("cert.pem"), world.path("certs/ca.crt")).expect("copied");
    world.run(&["pull", "--cert-dir", "certs", &name]).ok();
    world.run(&["copy", "--src-cert-dir=certs", &format!("docker://{name}"), "oci:x"]).ok();
    world.run(&["copy", "--dest-tls-verify=false", "oci:x", &registry.image("b:1")]).ok();
    let dockerfile = format!("FROM {name}\n");
    world.build(&dockerfile, &["--pull", "--tls-verify=false"]).ok();
    world.build(&dockerfile, &["--pull", "--retry=0"]).fails(1);
    world.run(&["pull", "--cert-dir", "absent", &name]).fails_with(&["absent"]);
    // What registries.conf allows, the option forbids.
    let conf = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.host);
    fs::write(world.path("home/.config/containers/registries.conf"), conf).expect("written");
    world.run(&["pull", &name]).ok();
    world.run(&["pull", "--retry=0", "--tls-verify=true", &name]).fails(1);
}

#[test]
fn all_tags_of_a_name_are_pushed() {
    let world = World::with_base();
    let registry = Registry::start(&world);
    for tag in ["a:1", "a:2", "b:1"] {
        world.run(&["tag", "base", &registry.image(tag)]).ok();
    }
    assert_eq!(world.run(&["push", "--all-tags", &registry.image("a")]).ok().lines().count(), 2);
    let tags = world.run(&["list-tags", &registry.image("a")]).ok();
    assert!(tags.contains("\"1\"") && tags.contains("\"2\""), "{tags}");
    world.run(&["list-tags", &registry.image("b")]).fails(1);
    world.run(&["push", "-a", &registry.image("none")]).fails_with(&["none"]);
}
