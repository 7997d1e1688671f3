//! Bake files give the plans that `docker buildx bake --print` gives.
//!
//! `tests/cases/NAME.out.json` is what docker-buildx 0.29.1 (Debian 0.29.1+ds1-4) prints for the arguments in
//! the table below.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crossdock_bake::{Plan, Request, SourceFile, Target, bake, list, load, push};
use serde_json::Value;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.to_string(), text: text.to_string() }
}

fn read(names: &[&str]) -> Vec<SourceFile> {
    names.iter().map(|name| file(name, &fs::read_to_string(cases().join(name)).expect("a case"))).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_string).collect()
}

/// The plan, or the error's text.
fn plan(
    files: &[SourceFile],
    names: &str,
    overrides: &str,
    environment: &[(&str, &str)],
) -> Result<Plan, String> {
    plan_with(files, None, names, overrides, environment)
}

/// The same with a file `.env`; other files are those beside the cases of Compose.
fn plan_with(
    files: &[SourceFile],
    dotenv: Option<&SourceFile>,
    names: &str,
    overrides: &str,
    environment: &[(&str, &str)],
) -> Result<Plan, String> {
    let environment = |name: &str| {
        environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string())
    };
    let builtin = BTreeMap::from([("BAKE_LOCAL_PLATFORM".to_string(), "linux/amd64".to_string())]);
    let request = Request {
        files,
        dotenv,
        read: &|path| {
            fs::read_to_string(cases().join("compose").join(path)).map_err(|e| format!("{path}: {e}"))
        },
        names: &words(names),
        overrides: &words(overrides),
        environment: &environment,
        builtin: &builtin,
    };
    bake(&request).map_err(|error| error.to_string())
}

/// Groups of matrices are in no order there.
fn with_sorted_groups(mut value: Value) -> Value {
    for group in value["group"].as_object_mut().expect("groups").values_mut() {
        group["targets"].as_array_mut().expect("names").sort_by_key(|name| name.to_string());
    }
    value
}

#[test]
fn plans_are_those_of_buildx() {
    let set = "app.args.A=9 *.platform=linux/arm/v7 base.tags=zz app.cache-from=type=gha m-*.no-cache=true \
        m-one-?-0.labels.x.y=z";
    let layers = &["layers.hcl", "layers.override.hcl"][..];
    for (case, files, names, overrides) in [
        ("attributes", &["attributes.hcl"][..], "", ""),
        ("attributes-set", &["attributes.hcl"], "app m", set),
        ("functions", &["functions.hcl"], "", ""),
        ("library", &["library.hcl"], "", ""),
        ("functions-x", &["functions.hcl"], "x", ""),
        ("json", &["json.bake.json"], "", ""),
        ("layers", layers, "", ""),
        ("layers-more", layers, "more", ""),
        (
            "layers-two",
            &["layers.hcl"],
            "two",
            "two.tags=a two.tags=b two.cache-to+=type=inline two.output=./o",
        ),
    ] {
        let text = fs::read_to_string(cases().join(format!("{case}.out.json"))).expect("a case");
        let expected = with_sorted_groups(serde_json::from_str(&text).expect("JSON"));
        let plan = plan(&read(files), names, overrides, &[]).expect(case);
        assert_eq!(with_sorted_groups(plan.printed()), expected, "{case}");
    }
}

#[test]
fn plans_of_compose_files_are_those_of_buildx() {
    let read = |name: &&str| {
        file(name, &fs::read_to_string(cases().join("compose").join(name)).expect("a case of Compose"))
    };
    let dotenv = read(&".env");
    for (case, files, names, overrides) in [
        ("app", &["app.yaml"][..], "", ""),
        ("app-over", &["app.yaml", "app.over.yaml"], "", ""),
        // Compose comes first, wherever it stands.
        ("app-hcl", &["over.hcl", "app.yaml"], "app url", ""),
        ("app-set", &["app.yaml"], "ext", "app.args.A=set *.tags=all"),
        ("compose", &["compose.yaml"], "", ""),
        ("include", &["include.yaml"], "", ""),
        ("scalars", &["scalars.yaml"], "", ""),
    ] {
        let text = fs::read_to_string(cases().join(format!("compose/{case}.out.json"))).expect("a case");
        let expected: Value = serde_json::from_str(&text).expect("JSON");
        let files: Vec<SourceFile> = files.iter().map(read).collect();
        let environment = [("SECRET2", "x"), ("FROMENV", "outer")];
        let plan = plan_with(&files, Some(&dotenv), names, overrides, &environment).expect(case);
        assert_eq!(with_sorted_groups(plan.printed()), with_sorted_groups(expected), "{case}");
        let warned = plan.warnings.iter().any(|warning| warning.contains("the variable UNSET"));
        assert_eq!(warned, case.starts_with("app"), "{case}: {:?}", plan.warnings);
    }
}

#[test]
fn errors_of_compose_files_name_the_service() {
    let of = |text: &str| plan(&[file("compose.yaml", text)], "", "", &[]).expect_err(text);
    for (text, error) in [
        ("services: {a: {build: {foo: 1}}}", "services.a: build: there is no attribute \"foo\""),
        ("services: {a: {build: 3}}", "services.a: build: a path or a map is needed"),
        ("services: {\"a b\": {build: .}}", "services.a b: names of services have letters, digits"),
        ("foo: 1", "compose.yaml: it has no services"),
        ("services: {a: {image: \"x${\"}}", "services.a.image: \"${\" has no end"),
        ("services: {a: {build: {args: {A: [1]}}}}", "services.a: build.args.A: a boolean, number"),
        ("services: {a: {build: {secrets: [s]}}}", "services.a: build.secrets: the secret s is not defined"),
        ("services: {a: {}}", "services.a: it has neither an image nor a build"),
        ("services: {a: {build: {dockerfile: x, dockerfile_inline: y}}}", "exclude each other"),
        ("services: {a: {build: {platforms: x}}}", "services.a: build.platforms: platforms: a list"),
        ("services: {a: {build: {x-bake: {pull: [x]}}}}", "services.a: build.x-bake.pull: pull: a boolean"),
        ("services: {a: {extends: b}, b: {extends: a}}", "services extend each other: a, b"),
        ("services: {a: {extends: {file: sub/p.yaml, service: x}}}", "sub/p.yaml has no service x"),
        ("services: {a: {extends: {file: nope.yaml}}}", "nope.yaml: No such file"),
        ("services: {a: {build: {ulimits: {nproc: x}}}}", "build.ulimits.nproc: a number"),
        ("services: {a: {build: {shm_size: x}}}", "build.shm_size: \"x\" is no size"),
        ("services: {a: {build: .}, a: {build: .}}", "compose.yaml:1:1: the key \"a\" is set twice"),
        ("services:\n  a: [1\n", "compose.yaml:"),
    ] {
        assert!(of(text).contains(error), "{text}: {}", of(text));
    }
    let other = plan(&[file("definitions", "services: {a: {build: ./x}}\n")], "", "", &[]).expect("a plan");
    assert_eq!(other.targets[0].1.text("context"), Some("./x"), "the name does not tell the kind");
}

/// Hostile files end with an error, and soon.
#[test]
fn hostile_compose_files_are_refused() {
    let seeds: Vec<Vec<u8>> = ["app.yaml", "compose.yaml", "app.over.yaml", ".env"]
        .map(|name| fs::read(cases().join("compose").join(name)).expect("a case"))
        .to_vec();
    crossdock_testkit::hostile::try_inputs("files of Compose", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let _ = plan_with(&[file("compose.yaml", &text)], Some(&file(".env", &text)), "", "", &[]);
    });
}

#[test]
fn the_environment_replaces_variables_of_its_kind() {
    let files = [file(
        "docker-bake.hcl",
        "variable \"N\" {\n  default = 1\n}\nvariable \"ON\" {\n  default = false\n}\n\
         variable \"L\" {\n  type = list(string)\n  default = []\n}\nglobal = \"g\"\n\
         target \"default\" {\n  args = { N = N + 1, ON = ON ? \"yes\" : \"no\", L = join(\"+\", L), G = global }\n}\n",
    )];
    let args = |environment: &[(&str, &str)]| {
        let plan = plan(&files, "", "", environment)?;
        Ok::<_, String>(
            plan.targets[0].1.map("args").iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>(),
        )
    };
    assert_eq!(args(&[]).expect("a plan"), ["N=2", "ON=no", "L=", "G=g"]);
    let environment = [("N", "41"), ("ON", "true"), ("L", "a,b"), ("global", "not a variable")];
    assert_eq!(args(&environment).expect("a plan"), ["N=42", "ON=yes", "L=a+b", "G=g"]);
    assert_eq!(args(&[("N", "x")]), Err("the variable N: \"x\" is not a number".to_string()));
}

#[test]
fn linked_targets_come_first() {
    let plan = plan(&read(&["layers.hcl"]), "two", "", &[]).expect("a plan");
    let names: Vec<&str> = plan.targets.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(plan.linked.iter().collect::<Vec<_>>(), ["one"]);
    assert_eq!(plan.targets[0].1.fields("output"), ["type=cacheonly"]);
}

#[test]
fn errors_name_the_place() {
    let of = |text: &str| plan(&[file("docker-bake.hcl", text)], "", "", &[]).expect_err(text);
    for (text, error) in [
        ("target \"default\" {\n  tags = [nope]\n}\n", "docker-bake.hcl:2:11: there is no variable \"nope\""),
        (
            "target \"default\" {\n  args = { a = nope() }\n}\n",
            "docker-bake.hcl:2:16: there is no function \"nope\"",
        ),
        (
            "target \"default\" {\n  tagz = []\n}\n",
            "docker-bake.hcl:2:10: target default: targets have no attribute \"tagz\"",
        ),
        (
            "target \"default\" {\n  tags = \"a\"\n}\n",
            "docker-bake.hcl:2:10: target default: tags: a list is needed, this is a string",
        ),
        (
            "target \"a b\" {}\n",
            "docker-bake.hcl:1:1: \"a b\" is no name of a target: letters, digits, \"_\" and \"-\"",
        ),
        (
            "stage \"a\" {}\n",
            "docker-bake.hcl:1:1: there are no blocks \"stage\": target, group, variable and function",
        ),
        ("a = 1\n", "no target or group \"default\" is defined; there are none"),
        ("target \"default\" {\n  args = { a = 1 / 0 }\n}\n", "docker-bake.hcl:2:16: a division by zero"),
        (
            "target \"default\" {\n  inherits = [\"x\"]\n}\n",
            "the target default inherits from x, which is not defined",
        ),
        (
            "target \"default\" {\n  contexts = { a = \"target:x\" }\n}\n",
            "the target default needs target:x, which is not defined",
        ),
        (
            "target \"default\" {\n  contexts = { a = \"target:default\" }\n}\n",
            "the target default needs itself: default",
        ),
        (
            "variable \"A\" {\n  default = B\n}\nvariable \"B\" {\n  default = A\n}\ntarget \"default\" {}\n",
            "the variable A is defined by itself",
        ),
        (
            "target \"default\" {\n  name = \"x\"\n}\n",
            "docker-bake.hcl:2:10: target default: a name without a matrix; the block has its own",
        ),
    ] {
        assert_eq!(of(text), error);
    }
    assert!(of("target \"default\" {\n  tags = [\n}\n").starts_with("docker-bake.hcl:3:1: "));
    let layers = read(&["layers.hcl"]);
    let of = |names: &str, set: &str| plan(&layers, names, set, &[]).expect_err(set);
    assert!(of("nope", "").starts_with("no target or group \"nope\" is defined; there are default, more"));
    assert_eq!(of("", "nope.tags=x"), "--set nope.tags: no target is called so");
    assert_eq!(of("", "one.nope=x"), "--set one.nope: targets have no attribute \"nope\"");
    assert_eq!(of("", "one"), "--set one: the form is TARGET.KEY=VALUE");
    assert_eq!(of("", "one.args.X"), "--set one.args.X: it has no value, and there is no variable X");
}

/// As docker-buildx 0.29.1 does with --push and --load.
#[test]
fn outputs_are_pushed_and_loaded_where_that_has_a_meaning() {
    for (output, pushed, loaded) in [
        ("", "type=image,push=true", "type=docker"),
        ("type=image", "type=image,push=true", "type=image type=docker"),
        ("type=local,dest=o", "type=local,dest=o", "type=local,dest=o"),
        ("type=oci,dest=x", "type=oci,dest=x", "type=oci,dest=x type=docker"),
        ("type=cacheonly", "type=cacheonly", "type=cacheonly"),
    ] {
        let mut target = Target::default();
        target.set("output", &serde_json::json!([output])).expect("an output");
        let mut other = target.clone();
        push(&mut target);
        load(&mut other);
        let shown = |target: &Target| target.fields("output").join(" ");
        assert_eq!((shown(&target).as_str(), shown(&other).as_str()), (pushed, loaded), "{output}");
    }
}

/// Hostile files end with an error, soon and without using the stack up.
#[test]
fn nothing_is_too_much() {
    let of = |text: &str| plan(&[file("docker-bake.hcl", text)], "", "", &[]).expect_err("refused");
    let deep = format!("a = {}1{}\n", "(".repeat(5000), ")".repeat(5000));
    assert!(of(&deep).contains("brackets are within each other"), "{}", of(&deep));
    let recursive = "function \"f\" {\n  params = [x]\n  result = f(x)\n}\ntarget \"default\" {\n  tags = [f(\"a\")]\n}\n";
    assert!(of(recursive).contains("calls are within each other"), "{}", of(recursive));
    let wide = "target \"default\" {\n  name = \"t-${a}-${b}\"\n  matrix = { a = range(0, 1000), b = range(0, 1000) }\n}\n";
    assert!(of(wide).contains("more than 10000 targets"), "{}", of(wide));
    let long = format!("x = {}\ntarget \"default\" {{\n  tags = [x]\n}}\n", "1 + ".repeat(3000) + "1");
    assert!(of(&long).contains("at most 128 chained binary operators"), "{}", of(&long));
}

#[test]
fn what_there_is_is_listed() {
    let (files, none) = (read(&["attributes.hcl"]), |_: &str| None);
    let builtin = BTreeMap::new();
    let request = Request {
        files: &files,
        dotenv: None,
        read: &|_| Err(String::new()),
        names: &[],
        overrides: &[],
        environment: &none,
        builtin: &builtin,
    };
    let listing = list(&request).expect("a listing");
    let names: Vec<&str> = listing.targets.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["app", "base", "default", "g2", "m", "m-one-1-0", "m-one-2-0", "m-two-1-0", "m-two-2-0"]
    );
    assert_eq!(listing.targets[1].1, "the base");
    let variables: Vec<_> = listing.variables.iter().map(|v| (v.name.as_str(), v.value.as_deref())).collect();
    assert_eq!(variables, [("N", Some("3")), ("ON", Some("true")), ("TAG", Some("latest"))]);
}
