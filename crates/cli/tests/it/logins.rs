//! login, logout, and a registry with users.

use crate::support::{Registry, World, eventually};

#[test]
fn only_known_users_are_served() {
    let world = World::with_base();
    let line = |user: &str, password: &str| {
        let made = world.crossdock(&["registry", "htpasswd", user]).input(password.as_bytes());
        assert!(made.out.starts_with(&format!("{user}:$2y$")), "{made:?}");
        made.out
    };
    let users = format!("# people\n{}{}", line("ann", "correct horse\n"), line("bob", "b0b-secret"));
    std::fs::write(world.path("users"), users).expect("written");
    let registry = Registry::with(&world, &["--users", &world.text("users")]);
    let name = registry.image("app:1");
    let refused = world.run(&["push", "base", &name]).fails(1);
    assert!(refused.contains("crossdock login"), "{refused}");
    let login = |user: &str, password: &str| {
        world.crossdock(&["login", "-u", user, "--password-stdin", &registry.host]).input(password.as_bytes())
    };
    let wrong = login("ann", "wrong-guess").fails(1);
    assert!(wrong.contains("wrong user name or password"), "{wrong}");
    assert!(!wrong.contains("wrong-guess"), "{wrong}");
    let good = login("ann", "correct horse\n");
    assert!(good.out.contains("Login Succeeded") && !good.err.contains("correct horse"), "{good:?}");
    world.run(&["push", "base", &name]).ok();
    world.run(&["rmi", "base"]).ok();
    world.run(&["pull", &name]).ok();
    world.run(&["logout", &registry.host]).ok();
    world.run(&["pull", &registry.image("app:other")]).fails(1);
    let args = ["login", "-u", "bob", "-p", "b0b-secret", &registry.host];
    let warned = world.run(&args);
    assert!(warned.err.contains("--password-stdin"), "{warned:?}");
    warned.ok();
    world.run(&["login", &registry.host]).fails_with(&["--username"]);
    world.run(&["login", "-u", "x", "127.0.0.1:1"]).fails_with(&["--password-stdin"]);
}

#[test]
fn the_address_goes_to_a_file_and_a_taken_port_is_named() {
    let world = World::new();
    let file = world.path("address");
    let _registry = Registry::with(&world, &["--addr-file", &world.text("address")]);
    eventually("the address", || file.exists());
    let address = std::fs::read_to_string(&file).expect("there");
    let other = world.text("other");
    world.run(&["registry", "serve", "--addr", &address, "--dir", &other]).fails_with(&[&address]);
    world.run(&["registry", "serve", "--addr", "nonsense", "--dir", &other]).fails_with(&["nonsense"]);
    world.run(&["registry", "serve", "--users", "absent"]).fails_with(&["absent"]);
    std::fs::write(world.path("plain"), "ann:in-clear\n").expect("written");
    let plain = world.run(&["registry", "serve", "--users", &world.text("plain"), "--dir", &other]);
    assert!(!plain.err.contains("in-clear"), "{plain:?}");
    plain.fails_with(&["plain: line 1", "ann is not hashed", "htpasswd -B"]);
    for (option, needed) in [(&["--anonymous-pull"][..], "--users"), (&["--tls-cert", "x"], "--tls-key")] {
        let usage = world.run(&[&["registry", "serve"], option].concat()).fails(2);
        assert!(usage.contains(needed), "{usage}");
    }
    world.run(&["registry", "serve", "--addr", "5000", "--dir", &other]).fails_with(&["HOST:PORT", ":5000"]);
}

#[test]
fn a_registry_can_be_read_only_and_collected() {
    let world = World::with_base();
    let name = {
        let registry = Registry::start(&world);
        let name = registry.image("app:1");
        world.run(&["push", "base", &name]).ok();
        name
    };
    let directory = world.text("registry");
    let gc = |options: &[&str]| {
        let collected = world.run(&[&["registry", "gc", "--dir", &directory], options].concat());
        assert_eq!(collected.code, Some(0), "{collected:?}");
        collected.out
    };
    assert_eq!(gc(&[]), "removed 0 blobs, 0B\n");
    // Without its tag the image stays, since it can be pulled by digest; with --untagged the grace time still
    // protects it.
    std::fs::rename(world.path("registry/repositories/app/_tags"), world.path("tags")).expect("renamed");
    assert_eq!(gc(&["--grace", "0"]), "removed 0 blobs, 0B\n");
    let spared = gc(&["--untagged"]);
    assert!(spared.contains("kept 1 file that nothing needs") && spared.contains("--grace 0"), "{spared}");
    let dry = gc(&["--untagged", "--grace", "0", "--dry-run"]);
    assert!(dry.starts_with("would remove ") && dry.contains("1 manifest without a tag"), "{dry}");
    std::fs::rename(world.path("tags"), world.path("registry/repositories/app/_tags")).expect("renamed");
    assert_eq!(gc(&["--untagged", "--grace", "0"]), "removed 0 blobs, 0B\n");
    world.run(&["registry", "gc", "--dir", &world.text("nothing")]).fails_with(&["nothing"]);
    world.run(&["registry", "gc", "--dir", &directory, "--grace", "soon"]).fails_with(&["--grace soon"]);
    let registry = Registry::with(&world, &["--read-only"]);
    let (old, new) = (name, registry.image("app:1"));
    assert_ne!(old, new);
    world.run(&["pull", &new]).ok();
    let refused = world.run(&["push", "base", &registry.image("app:2")]).fails(1);
    assert!(refused.contains("app:2"), "{refused}");
}

#[test]
fn everybody_pulls_through_a_cache_and_users_push_to_its_source() {
    let world = World::with_base();
    let made = world.crossdock(&["registry", "htpasswd", "ann"]).input(b"correct horse");
    std::fs::write(world.path("users"), made.out).expect("written");
    std::fs::write(world.path("rights"), "ann pull,push team/*\n").expect("written");
    let (users, rights, log) = (world.text("users"), world.text("rights"), world.text("log"));
    let source = Registry::with(
        &world,
        &["--users", &users, "--rights", &rights, "--anonymous-pull", "--access-log", &log],
    );
    world.crossdock(&["login", "-u", "ann", "--password-stdin", &source.host]).input(b"correct horse").ok();
    world.run(&["push", "base", &source.image("team/app:1")]).ok();
    let denied = world.run(&["push", "base", &source.image("other/app:1")]).fails(1);
    assert!(denied.contains("ann has no right to push in other/app"), "{denied}");
    world.run(&["logout", &source.host]).ok();
    world.run(&["rmi", "base"]).ok();

    let directory = world.text("cache");
    let url = format!("http://{}", source.host);
    let cache = Registry::with(&world, &["--dir", &directory, "--proxy", &url, "--proxy-cache-max", "1g"]);
    world.run(&["pull", &cache.image("team/app:1")]).ok();
    drop(source);
    world.run(&["rmi", &cache.image("team/app:1")]).ok();
    world.run(&["pull", &cache.image("team/app:1")]).ok();
    let log = std::fs::read_to_string(world.path("log")).expect("written");
    assert!(
        log.contains(" - ann [") && log.contains("\"PUT /v2/team/app/manifests/1 HTTP/1.1\" 201 "),
        "{log}"
    );
    assert!(!log.contains("correct"), "{log}");
    let wrong = world.run(&["registry", "serve", "--proxy", "https://user:word@host/path"]);
    assert!(!wrong.err.contains("word"), "{wrong:?}");
    wrong.fails_with(&["--proxy"]);
    for size in ["much", "0", "-1"] {
        let max = format!("--proxy-cache-max={size}");
        world.run(&["registry", "serve", "--proxy", &url, &max]).fails_with(&["--proxy-cache-max", size]);
    }
    world.run(&["registry", "serve", "--proxy-cache-max", "1g"]).fails(2);
}
