//! login, logout, and a registry that asks who is there.

use crate::support::{Registry, World, eventually};

#[test]
fn only_known_users_are_served() {
    let world = World::with_base();
    std::fs::write(world.path("users"), "# people\nann:correct horse\nbob:b0b-secret\n").expect("written");
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
    world.run(&["registry", "gc", "--dir", &directory]).ok();
    let registry = Registry::with(&world, &["--read-only"]);
    let (old, new) = (name, registry.image("app:1"));
    assert_ne!(old, new);
    world.run(&["pull", &new]).ok();
    let refused = world.run(&["push", "base", &registry.image("app:2")]).fails(1);
    assert!(refused.contains("app:2"), "{refused}");
}
