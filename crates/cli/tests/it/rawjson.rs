//! `build --progress rawjson`, and the variable BUILDKIT_PROGRESS.

use base64::Engine as _;
use serde_json::Value;

use crate::support::{Ran, Registry, World};

fn lines(ran: &Ran) -> Vec<Value> {
    ran.err.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// The entries of one kind in all lines.
fn all(lines: &[Value], kind: &str) -> Vec<Value> {
    lines.iter().filter_map(|line| line[kind].as_array()).flatten().cloned().collect()
}

fn text(value: &Value) -> String {
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().expect("text"));
    String::from_utf8(bytes.expect("base64")).expect("UTF-8")
}

#[test]
fn lines_are_those_of_buildkit() {
    let world = World::with_base();
    let dockerfile = "FROM base\nMAINTAINER x\nRUN echo out; echo err >&2\n";
    let build = || world.building(dockerfile, &["--progress", "rawjson", "-t", "t"]).run();
    let first = build();
    let seen = lines(&first);
    let vertexes = all(&seen, "vertexes");
    let of_run: Vec<&Value> = vertexes
        .iter()
        .filter(|v| v["name"].as_str().is_some_and(|name| name.contains("RUN echo")))
        .collect();
    let [begun, keyed, done] = of_run[..] else { panic!("{of_run:?}") };
    // The step starts from the files of FROM.
    let input = keyed["inputs"][0].as_str().expect("a digest");
    let from = vertexes.iter().find(|v| v["digest"] == input).expect("its vertex");
    assert!(from["name"].as_str().is_some_and(|name| name.contains("FROM")), "{from}");
    assert_eq!(done["inputs"], keyed["inputs"]);
    assert_eq!(begun["digest"], done["digest"]);
    assert!(begun["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{begun}");
    assert!(begun["started"].is_string() && begun["completed"].is_null(), "{begun}");
    assert!(
        done["started"].is_string() && done["completed"].is_string() && done["cached"].is_null(),
        "{done}"
    );
    let logs: Vec<(i64, String)> = all(&seen, "logs")
        .iter()
        .filter(|log| log["vertex"] == begun["digest"])
        .map(|log| (log["stream"].as_i64().expect("a number"), text(&log["data"])))
        .collect();
    assert!(logs.contains(&(1, "out\n".into())) && logs.contains(&(2, "err\n".into())), "{logs:?}");
    let warnings = all(&seen, "warnings");
    assert!(warnings.iter().any(|w| text(&w["short"]).contains("Maintainer")), "{warnings:?}");
    assert!(first.ok().contains("t:latest"));
    // Whatever is told belongs to a vertex that was told before or with it.
    let mut known = std::collections::BTreeSet::new();
    for line in &seen {
        known.extend(all(std::slice::from_ref(line), "vertexes").iter().map(|v| v["digest"].to_string()));
        for kind in ["logs", "statuses", "warnings"] {
            for entry in all(std::slice::from_ref(line), kind) {
                assert!(known.contains(&entry["vertex"].to_string()), "{line}");
            }
        }
    }
    // The second time everything is cached.
    let again = lines(&build());
    assert!(all(&again, "vertexes").iter().any(|v| v["cached"] == true), "{again:?}");
}

#[test]
fn errors_and_transfers_are_lines_too() {
    let world = World::with_base();
    let failed = world.building("FROM base\nRUN exit 3\n", &["--progress=rawjson"]).run();
    let vertexes = all(&lines(&failed), "vertexes");
    let last = vertexes.last().expect("a line");
    assert!(last["error"].as_str().is_some_and(|error| error.contains("exit code: 3")), "{last}");
    assert!(vertexes.iter().any(|v| v["error"] == "the step failed"), "{vertexes:?}");
    failed.fails(1);
    let wrong = world.building("FROM base\nRNU x\n", &["--progress=rawjson"]).run();
    assert!(!lines(&wrong).is_empty());
    wrong.fails(1);
    let registry = Registry::start(&world);
    let pushed = world.build("FROM base\n", &["--progress=rawjson", "--push", "-t", &registry.image("a:1")]);
    let statuses = all(&lines(&pushed), "statuses");
    let done: Vec<&Value> = statuses.iter().filter(|status| status["completed"].is_string()).collect();
    assert!(!done.is_empty(), "{statuses:?}");
    assert!(done.iter().all(|s| s["id"].is_string() && s["current"].is_number() && s["total"].is_number()));
    pushed.ok();
}

#[test]
fn secrets_are_in_no_line() {
    let world = World::with_base();
    std::fs::write(world.path("secret"), "hunter2-secret").expect("written");
    let dockerfile = "FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s; cat /run/secrets/s >&2\n";
    let built = world.building(dockerfile, &["--progress=rawjson", "--secret", "id=s,src=secret"]).run();
    let logs: Vec<String> = all(&lines(&built), "logs").iter().map(|log| text(&log["data"])).collect();
    assert!(logs.iter().any(|log| log.contains("***")), "{logs:?}");
    assert!(!logs.iter().any(|log| log.contains("hunter2")), "{logs:?}");
}

#[test]
fn the_variable_chooses_the_mode() {
    let world = World::with_base();
    let build = |mode: &str, args: &[&str]| {
        world.file("Dockerfile", "FROM base\n");
        let words = [&["build"], args, &["context"]].concat();
        world.crossdock(&words).env("BUILDKIT_PROGRESS", mode).run()
    };
    assert!(build("plain", &[]).err.starts_with("#1 "));
    assert!(build("", &[]).err.starts_with("#1 "));
    assert!(!lines(&build("rawjson", &[])).is_empty());
    assert!(build("rawjson", &["--progress", "plain"]).err.starts_with("#1 "));
    for args in [&["--progress", "none"][..], &["--progress=quiet"]] {
        assert!(!build("plain", args).err.contains("#1"));
    }
    build("loud", &[]).fails_with(&["BUILDKIT_PROGRESS=loud", "rawjson"]);
}
