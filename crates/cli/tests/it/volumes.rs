//! volume, and volumes of run.

use crate::support::World;

/// An image with a directory that belongs to another user, declared as a volume.
fn world() -> World {
    let world = World::with_base();
    world
        .build(
            "FROM base\nRUN mkdir -p /data/sub && echo image > /data/f && chmod 750 /data\nVOLUME /data\n",
            &["-t", "t"],
        )
        .ok();
    world
}

#[test]
fn a_named_volume_begins_with_what_the_image_has_and_stays() {
    let world = world();
    let script = "stat -c %a /data; cat /data/f; echo more > /data/g";
    assert_eq!(world.run(&["run", "-v", "db:/data", "t", "sh", "-c", script]).ok(), "750\nimage\n");
    // It has content now, so another image's files do not come into it.
    assert_eq!(
        world
            .run(&["run", "-v", "db:/etc:ro", "t", "sh", "-c", "ls /etc; touch /etc/x || echo refused"])
            .ok(),
        "f\ng\nsub\nrefused\n"
    );
    let mount = |options: &str| format!("type=volume,source=db,target=/m{options}");
    assert_eq!(world.run(&["run", "--mount", &mount(""), "t", "cat", "/m/g"]).ok(), "more\n");
    let below = mount(",volume-subpath=sub");
    world.run(&["run", "--mount", &below, "t", "touch", "/m/inside"]).ok();
    assert_eq!(world.run(&["run", "-v", "db:/m", "t", "ls", "/m/sub"]).ok(), "inside\n");
    let missing = mount(",volume-subpath=nope");
    let error = world.run(&["run", "--mount", &missing, "t", "true"]).fails(125);
    assert!(error.contains("nope in the volume db"), "{error}");
    assert_eq!(world.run(&["run", "-v", "empty:/data:nocopy", "t", "ls", "/data"]).ok(), "");
    assert_eq!(world.run(&["volume", "ls", "-q"]).ok(), "db\nempty\n");
    // Users other than root read a volume of a directory that the image does not have.
    let script = "stat -c %a /v && ls /v && ! touch /v/x 2>/dev/null";
    assert_eq!(world.run(&["run", "-u", "1000", "-v", "fresh:/v", "t", "sh", "-c", script]).ok(), "755\n");
}

#[test]
fn a_volume_without_a_name_ends_with_the_container() {
    let world = world();
    let script = "cat /data/f && echo x > /data/x && touch /none/x";
    assert_eq!(world.run(&["run", "-v", "/data", "-v", "/none", "t", "sh", "-c", script]).ok(), "image\n");
    assert_eq!(world.run(&["run", "--mount", "dst=/data", "t", "ls", "/data"]).ok(), "f\nsub\n");
    // What the image declares can be written to although the root cannot.
    let script = "touch /x || touch /data/x && echo written";
    assert_eq!(world.run(&["run", "--read-only", "t", "sh", "-c", script]).ok(), "written\n");
    assert_eq!(world.run(&["volume", "ls", "-q"]).ok(), "");
    assert_eq!(std::fs::read_dir(world.store().join("tmp")).expect("a directory").count(), 0);
}

#[test]
fn an_image_can_be_mounted() {
    let world = world();
    let mount = |options: &str| format!("type=image,source=t,target=/m{options}");
    let script = "cat /m/data/f; touch /m/x || echo refused";
    assert_eq!(
        world.run(&["run", "--mount", &mount(""), "base", "sh", "-c", script]).ok(),
        "image\nrefused\n"
    );
    let below = mount(",image-subpath=data");
    assert_eq!(world.run(&["run", "--mount", &below, "base", "cat", "/m/f"]).ok(), "image\n");
    let absent = "type=image,source=localhost/absent,target=/m";
    let error = world.run(&["run", "--pull", "never", "--mount", absent, "base", "true"]).fails(125);
    assert!(error.contains("localhost/absent"), "{error}");
}

#[test]
fn volumes_are_listed_and_removed() {
    let world = World::with_base();
    assert_eq!(world.run(&["volume", "create", "--label", "a=b", "one"]).ok(), "one\n");
    assert_eq!(world.run(&["volume", "create", "two"]).ok(), "two\n");
    let unnamed = world.run(&["volume", "create"]).ok().trim().to_string();
    assert!(unnamed.len() == 64 && unnamed.bytes().all(|b| b.is_ascii_hexdigit()), "{unnamed}");
    let list = |args: &[&str]| world.run(&[&["volume", "ls"], args].concat()).ok();
    assert_eq!(list(&["-q", "--filter", "name=o"]), "one\ntwo\n");
    assert_eq!(list(&["--filter", "label=a=b"]), "DRIVER   VOLUME NAME\nlocal    one\n");
    assert_eq!(list(&["-q", "--filter", "label=a=c"]), "");
    let shown = world.run(&["volume", "inspect", "-f", "{{.Name}} {{.Labels.a}} {{.Driver}}", "one"]).ok();
    assert_eq!(shown, "one b local\n");
    world.run(&["volume", "inspect", "nope"]).fails_with(&["no volume nope"]);
    world.run(&["volume", "create", "../x"]).fails_with(&["\"../x\" is not a name of a volume"]);
    world.run(&["volume", "create", "-d", "nfs", "x"]).fails_with(&["without drivers"]);

    let mut running =
        world.crossdock(&["run", "-v", "one:/v", "base", "sh", "-c", "echo up; sleep 60"]).start();
    running.until_out("up");
    world.run(&["volume", "rm", "one"]).fails_with(&["a container uses the volume one"]);
    assert_eq!(list(&["-q", "--filter", "dangling=false"]), "one\n");
    let pruned = world.run(&["volume", "prune", "--all", "--force"]).ok();
    assert!(pruned.starts_with("deleted: ") && pruned.contains("deleted: two\n"), "{pruned}");
    assert_eq!(list(&["-q"]), "one\n");
    running.kill();

    let unnamed = world.run(&["volume", "create"]).ok();
    world.run(&["system", "prune", "--force", "--volumes"]).ok();
    assert_eq!(list(&["-q"]), "one\n", "only {unnamed} goes");
    crate::support::eventually("the volume is no longer used", || {
        world.run(&["volume", "rm", "one"]).code == Some(0)
    });
    world.run(&["volume", "rm", "one"]).fails_with(&["no volume one"]);
    world.run(&["volume", "rm", "--force", "one"]).ok();
}
