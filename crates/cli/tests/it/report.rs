//! Reports of builds: the page in a browser, the trace, and the list of recent builds.

use std::collections::HashMap;
use std::fs;

use serde_json::Value;

use crate::support::{World, grep};
use crate::webdriver::Browser;

const DOCKERFILE: &str = "FROM base AS tools\nRUN echo '<b>not bold</b>' > /tool\nFROM base\n\
    COPY --from=tools /tool /tool\nRUN dd if=/dev/zero of=/large bs=1000 count=300 2>/dev/null\n";

#[test]
fn a_browser_shows_the_page_and_a_click_opens_a_step() {
    let world = World::with_base();
    let page = world.path("report.html");
    world.build(DOCKERFILE, &["-t", "app:1", "--report", page.to_str().expect("UTF-8")]).ok();
    let browser = Browser::start(1000, 1400);
    browser.open(&page);
    assert_eq!(browser.evaluate("return document.title"), "Build of app:1 – done");
    assert_eq!(browser.evaluate("return document.getElementById('selected').hidden"), true);
    let bar = browser.evaluate(
        "return [...document.querySelectorAll('.bar')].find(bar => bar.title.includes('RUN dd')).getAttribute('href')",
    );
    let bar = bar.as_str().expect("an address").to_string();
    browser.click(&format!(".bar[href='{bar}']"));
    let shown = browser.evaluate("return document.getElementById('selected').innerText");
    let shown = shown.as_str().expect("a text");
    for text in [
        "RUN dd if=/dev/zero",
        "Why executed",
        "the instruction is new",
        "Ran natively",
        "Builds on",
        "sha256:",
    ] {
        assert!(shown.contains(text), "no {text} in {shown}");
    }
    assert!(shown.contains("kB added, packed to"), "{shown}");
    let current =
        browser.evaluate("return document.querySelector('[aria-current=true]').getAttribute('href')");
    assert_eq!(current, bar.as_str());
    // The step that it builds on is a link.
    browser.click("#selected a[href^='#step-']");
    let shown = browser.evaluate("return document.getElementById('selected').innerText");
    assert!(shown.as_str().expect("a text").contains("COPY --from=tools"), "{shown}");
    assert_eq!(browser.evaluate("return document.querySelectorAll('main b b, summary b').length"), 0);
    let wide = browser.evaluate("return document.documentElement.scrollWidth - innerWidth");
    assert!(wide.as_i64().expect("a number") <= 0, "the page is {wide} pixels too wide");
    // Neither errors of the script nor anything that the page's policy forbade.
    assert_eq!(browser.console(), Vec::<String>::new());
    let loaded = browser.evaluate("return performance.getEntriesByType('resource').length");
    assert_eq!(loaded, 0, "the page loads nothing");
}

/// The record of the last build.
#[track_caller]
fn last(world: &World) -> Value {
    serde_json::from_str(&world.run(&["report", "--format", "json"]).ok()).expect("JSON")
}

#[test]
fn recent_builds_are_listed_and_found() {
    let world = World::with_base();
    let none = world.run(&["--root", &world.text("empty"), "report"]).fails(1);
    assert!(none.contains("no build is recorded yet"), "{none}");
    world.build(DOCKERFILE, &["-t", "app:1"]).ok();
    world.build(DOCKERFILE, &["-t", "app:2"]).ok();
    world.build("FROM base\nRUN echo the reason; exit 7\n", &["-t", "app:3"]).fails(1);
    world.build("FROM base\nRNU x\n", &["-t", "app:4"]).fails(1);
    let list = world.run(&["report", "ls", "--json"]).ok();
    let all: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<(&str, &str, u64)> = all
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().expect("a text");
            (text("title"), text("outcome"), one["cached"].as_u64().expect("a number"))
        })
        .collect();
    // The builds of app:1 and app:2 have three steps that can be cached. A wrong Dockerfile is no build.
    let base = ("base", "done", 0);
    let expected = [("app:3", "failed", 0), ("app:2", "done", 3), ("app:1", "done", 0)];
    assert_eq!(told.iter().filter(|one| **one != base).copied().collect::<Vec<_>>(), expected);
    let record = last(&world);
    assert!(record["error"].as_str().is_some_and(|error| error.contains("exit code: 7")), "{record}");
    assert_eq!(record["steps"][1]["end"], "failed");
    let table = world.run(&["report", "ls"]).ok();
    assert!(table.starts_with("ID ") && table.contains("app:2") && table.contains("linux/amd64"), "{table}");
    let id = all[1]["id"].as_str().expect("an id");
    let page = world.run(&["report", &id[..10]]).ok();
    assert!(page.contains("<title>Build of app:2 – done</title>"));
    world.run(&["report", "-o", &world.text("page.html")]).ok();
    let page = fs::read_to_string(world.path("page.html")).expect("written");
    assert!(page.contains("Why it failed") && page.contains("exit code: 7"));
    world.run(&["report", "nothing"]).fails_with(&["no recorded build nothing", "report ls"]);
}

#[test]
fn only_builds_of_the_same_store_count_and_damage_is_named() {
    let world = World::with_base();
    world.build("FROM base\nRUN true\n", &["-t", "app:1"]).ok();
    let builds = world.store().join("builds");
    let names: Vec<_> =
        fs::read_dir(&builds).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    fs::write(&names[0], b"{\"id\":\"").expect("written");
    world.run(&["report"]).fails_with(&["is damaged", names[0].to_str().expect("UTF-8")]);
    assert_eq!(world.run(&["report", "ls", "--json"]).ok(), "");
}

#[test]
fn a_trace_has_a_process_for_each_platform() {
    let world = World::with_base();
    let trace = world.path("trace.json");
    let dockerfile = "FROM scratch AS one\nCOPY Dockerfile /one\nFROM scratch\nCOPY --from=one /one /two\n";
    let args = ["--platform", "linux/amd64,linux/arm64", "--trace", trace.to_str().expect("UTF-8")];
    world.build(dockerfile, &args).ok();
    let trace: Value = serde_json::from_slice(&fs::read(trace).expect("written")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let processes: Vec<&str> = events
        .iter()
        .filter(|event| event["name"] == "process_name")
        .map(|event| event["args"]["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(processes, ["linux/amd64", "linux/arm64"]);
    let mut slices: HashMap<&str, usize> = HashMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        assert!(event["dur"].as_f64().is_some_and(|time| time >= 0.0), "{event}");
        *slices.entry(event["name"].as_str().expect("a name")).or_default() += 1;
    }
    assert!(slices["COPY Dockerfile /one"] >= 2 && slices["COPY --from=one /one /two"] >= 2, "{slices:?}");
}

#[test]
fn a_report_holds_no_secret() {
    let world = World::with_base();
    let secret = "hunter2-hunter2";
    world.file("token", secret);
    // The command must not contain the secret, but a careless error message might.
    let dockerfile = format!(
        "FROM base\nARG PASSWORD\nRUN --mount=type=secret,id=t cat /run/secrets/t; echo {secret}\nRUN exit 1\n"
    );
    let page = world.text("report.html");
    let from = format!("id=t,src={}", world.text("context/token"));
    let password = ["--build-arg", "PASSWORD=not-for-reports"];
    let args = [&["--secret", &from, "--report", &page, "-t", "app"][..], &password].concat();
    let built = world.build(&dockerfile, &args);
    assert!(!built.err.contains(secret), "{}", built.err);
    built.fails(1);
    let text = fs::read_to_string(&page).expect("a failed build has a report, too");
    assert!(text.contains("***") && !text.contains(secret) && !text.contains("not-for-reports"));
    world.build("FROM base\nARG PASSWORD\nRUN echo > /file\n", &args).ok();
    let text = fs::read_to_string(&page).expect("written");
    assert!(text.contains("RUN echo &gt; /file") && !text.contains("not-for-reports"));
    assert_eq!(grep(&world.store().join("builds"), secret.as_bytes()), Vec::<std::path::PathBuf>::new());
    assert_eq!(grep(&world.store().join("builds"), b"not-for-reports"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_build_that_a_signal_ends_is_recorded() {
    let world = World::with_base();
    let mut running = world.building("FROM base\nRUN echo running; sleep 30\n", &["--no-cache"]).start();
    running.until_err(" running\n");
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.finish().code, None);
    let record = last(&world);
    assert_eq!(
        (&record["error"], &record["steps"][1]["end"]),
        (&"the build was cancelled by SIGTERM".into(), &"cancelled".into())
    );
}

#[test]
fn phases_and_layers_are_in_the_record() {
    let world = World::with_base();
    world.build(DOCKERFILE, &["-t", "app"]).ok();
    let record = last(&world);
    let step = |name: &str| {
        let steps = record["steps"].as_array().expect("steps");
        steps
            .iter()
            .find(|step| step["command"].as_str().is_some_and(|c| c.starts_with(name)))
            .expect("a step")
    };
    let phases: Vec<&Value> =
        step("RUN dd")["spans"].as_array().expect("spans").iter().map(|span| &span["phase"]).collect();
    assert_eq!(phases, ["looking", "running"]);
    assert!(step("RUN dd")["layer"][2].as_u64().is_some_and(|size| size > 300_000));
    let base = record["images"][0]["layers"][0]["made_by"].as_str().expect("a text");
    assert!(base.contains("COPY busybox"), "{base}");
    let made: Vec<&str> = record["images"][0]["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .map(|layer| layer["made_by"].as_str().expect("a text"))
        .collect();
    assert!(made.last().is_some_and(|last| last.contains("dd if=/dev/zero")), "{made:?}");
}
