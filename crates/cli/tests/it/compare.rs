//! `diff` of two images, and `inspect --tree`.

use serde_json::{Value, json};

use crate::support::{Registry, World};

const OLD: &str = "FROM base\nENV A=1 GONE=x\nRUN mkdir /d && echo old > /d/content && echo same > /d/same \
    && echo x > /d/mode && echo x > /d/owner && echo x > /d/gone && ln -s a /d/link && echo x > /d/type\n";
const NEW: &str = "FROM base\nENV A=2 MORE=y\nRUN mkdir /d && echo new > /d/content && echo same > /d/same \
    && echo x > /d/mode && chmod 700 /d/mode && echo x > /d/owner && chown 7:8 /d/owner \
    && ln -s b /d/link && mkdir /d/type && echo 12345 > /d/added\nCMD [\"new\"]\n";

fn two_images() -> World {
    let world = World::with_base();
    world.build(OLD, &["-t", "old"]).ok();
    world.build(NEW, &["-t", "new"]).ok();
    world
}

#[test]
fn differences_have_dockers_letters() {
    let world = two_images();
    let lines = world.run(&["diff", "old", "new"]).ok();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            "A /d/added  (6B, 0644, 0:0)",
            "C /d/content  (content 4B -> 4B)",
            "D /d/gone  (2B, 0644, 0:0)",
            "C /d/link  (a -> b)",
            "C /d/mode  (mode 0644 -> 0700)",
            "C /d/owner  (owner 0:0 -> 7:8)",
            "C /d/type  (file -> directory, mode 0644 -> 0755)",
            "C config Cmd: [\"sh\"] -> [\"new\"]",
            "C config Env.A: \"1\" -> \"2\"",
            "D config Env.GONE: \"x\"",
            "A config Env.MORE: \"y\"",
        ]
    );
    assert_eq!(world.run(&["diff", "old", "old"]).ok(), "");
    // Files of the same size that were made anew are read, and times do not count.
    world.build("FROM base\nENV A=2 MORE=y\nRUN sleep 0; mkdir /d\n", &["-t", "one"]).ok();
    world.build("FROM base\nENV A=2 MORE=y\nRUN sleep 0.0; mkdir /d\n", &["-t", "two"]).ok();
    assert_eq!(world.run(&["diff", "one", "two"]).ok(), "");
}

#[test]
fn differences_as_json() {
    let world = two_images();
    let all: Value =
        serde_json::from_str(&world.run(&["diff", "old", "new", "--format", "json"]).ok()).expect("JSON");
    assert_eq!((&all["before"]["name"], &all["after"]["platform"]), (&json!("old"), &json!("linux/amd64")));
    let files = all["files"].as_array().expect("a list");
    let of = |path: &str| files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(
        of("/d/owner"),
        &json!({
            "path": "/d/owner", "kind": "changed", "changed": ["owner"],
            "before": {"type": "file", "mode": "0644", "uid": 0, "gid": 0, "size": 2},
            "after": {"type": "file", "mode": "0644", "uid": 7, "gid": 8, "size": 2},
        })
    );
    assert_eq!((&of("/d/gone")["kind"], &of("/d/gone")["after"]), (&json!("deleted"), &Value::Null));
    let config = all["config"].as_array().expect("a list");
    assert!(config.contains(&json!({"field": "Env.A", "before": "1", "after": "2"})), "{config:?}");
}

#[test]
fn two_platforms_of_one_image() {
    let world = World::with_base();
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY only-$TARGETARCH /file\nCOPY shared /shared\n";
    world.file("only-amd64", "1").file("only-arm64", "22").file("shared", "x");
    world.build(dockerfile, &["--platform", "linux/amd64,linux/arm64", "-t", "both"]).ok();
    let platforms = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    let lines = world.run(&[&["diff", "both"][..], &platforms].concat()).ok();
    let expected = "C /file  (content 1B -> 2B)\nC config architecture: \"amd64\" -> \"arm64\"\n";
    assert_eq!(lines, expected);
    assert_eq!(world.run(&["diff", "both", "both", "--platform", "linux/arm64"]).ok(), "");
    world.run(&["diff", "both"]).fails_with(&["--platform twice"]);
    let thrice = [&["diff", "both", "both"][..], &platforms, &platforms[..2]].concat();
    world.run(&thrice).fails_with(&["at most twice"]);
    world.run(&["diff", "both", "both", "--platform", "linux/s390x"]).fails_with(&["linux/s390x"]);
    world.run(&["diff", "missing", "both"]).fails_with(&["missing"]);
}

#[test]
fn hostile_names_are_escaped() {
    let world = World::with_base();
    world.build("FROM base\nRUN touch \"$(printf '/a\\033[2J\\nb')\"\n", &["-t", "t"]).ok();
    let lines = world.run(&["diff", "base", "t"]).ok();
    assert!(lines.lines().count() == 1 && !lines.contains('\u{1b}'), "{lines:?}");
    assert!(lines.starts_with("A /a\\"), "{lines:?}");
}

#[test]
fn a_tree_of_a_local_and_of_a_remote_image() {
    let world = World::with_base();
    let registry = Registry::start(&world);
    let name = registry.image("app:1");
    world.file("a", "1").file("b", "2");
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY a /a\nCOPY b /$TARGETARCH\n";
    world.build(dockerfile, &["--platform", "linux/amd64,linux/arm64", "-t", &name, "--push", "--load"]).ok();
    let local = world.run(&["inspect", "--tree", &name]).ok();
    let lines: Vec<&str> = local.lines().collect();
    assert_eq!(lines[0], name);
    assert!(lines[1].starts_with("└─ index sha256:") && lines[1].ends_with(" (2 entries)"), "{local}");
    assert!(lines[2].starts_with("   ├─ linux/amd64 sha256:") && lines[2].contains(", 2 layers)"), "{local}");
    assert!(lines[3].starts_with("   │  ├─ config sha256:"), "{local}");
    assert!(lines[5].starts_with("   │  └─ ") && lines[5].ends_with("  COPY b /amd64"), "{local}");
    assert!(lines[6].starts_with("   └─ linux/arm64 "), "{local}");
    assert!(
        lines[8].starts_with("      ├─ ") && lines[8].contains("(also in linux/amd64)  COPY a /a"),
        "{local}"
    );
    assert_eq!(lines.len(), 10, "{local}");
    // A store that has never seen the image shows the same.
    let elsewhere = world.crossdock_at(&world.path("other"), &["inspect", "--tree", &name]).run().ok();
    assert_eq!(elsewhere, local);
    let one = world.run(&["inspect", "--tree", "--platform", "linux/arm64", &name]).ok();
    assert!(one.contains("linux/arm64") && !one.contains("─ linux/amd64"), "{one}");
    world.run(&["inspect", "--tree", &registry.image("none:1")]).fails_with(&["none"]);
    world.run(&["inspect", "--tree", "--format", "json", &name]).fails(2);
}

#[test]
fn completions_know_the_commands() {
    let world = World::new();
    for (shell, text) in
        [("bash", "complete -F _crossdock"), ("zsh", "#compdef crossdock"), ("fish", "complete -c crossdock")]
    {
        let script = world.run(&["completion", shell]).ok();
        assert!(script.contains(text) && script.contains("no-cache-filter"), "{shell}");
    }
    world.run(&["completion", "tcsh"]).fails(2);
    world.run(&["man-pages", &world.text("man")]).ok();
    let page = std::fs::read_to_string(world.path("man/crossdock-build.1")).expect("a page");
    assert!(page.contains("\\-\\-no\\-cache\\-filter") && page.starts_with(".ie"), "{}", &page[..80]);
    let pages = std::fs::read_dir(world.path("man")).expect("a directory").count();
    assert!(pages > 30, "{pages}");
    // bash itself: completing "crossdock repo" gives "report".
    world.file("complete.sh", format!("{}\nCOMP_WORDS=(crossdock repo) COMP_CWORD=1\n_crossdock crossdock repo crossdock\necho \"${{COMPREPLY[@]}}\"\n", world.run(&["completion", "bash"]).ok()));
    let bash = std::process::Command::new(crate::support::require("bash", "bash"))
        .arg("--norc")
        .arg(world.path("context/complete.sh"))
        .output()
        .expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "report");
}
