//! build --check and --call.

use serde_json::Value;

use crate::support::World;

const DOCKERFILE: &str = "# TAG which base\nARG TAG=latest\n# tools what compiles\nFROM base:$TAG AS tools\n\
    RUN --mount=type=secret,id=token,required=true true\nFROM base\nCOPY $FROM_ENV$NOWHERE skipped /\nWORKDIR app\n";

#[test]
fn findings_are_named_at_their_lines_and_nothing_is_built() {
    let world = World::with_base();
    world.build("FROM base\nENV FROM_ENV=x\n", &["-t", "base"]).ok();
    world.file(".dockerignore", "skipped\n").file("x", "");
    let list = ["images", "--format", "{{.Repository}} {{.Tag}} {{.Platform}} {{.ID}}"];
    let images = world.run(&list).ok();
    let checked = world.build(DOCKERFILE, &["--check", "-t", "never"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    for text in [
        "Check complete, 3 warnings have been found!\n\nWARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/\nUsage of undefined variable '$NOWHERE'\nDockerfile:7\n",
        "   7 | >>> COPY $FROM_ENV$NOWHERE skipped /",
        "WARNING: CopyIgnoredFile - ",
        "WARNING: WorkdirRelativePath - https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/",
        "   8 | >>> WORKDIR app",
    ] {
        assert!(checked.out.contains(text), "no {text:?} in {}", checked.out);
    }
    assert!(!checked.out.contains("FROM_ENV'"), "the image sets it: {}", checked.out);
    assert_eq!(world.run(&list).ok(), images);
    let fine = world.build("FROM base\nCMD [\"sh\"]\n", &["--check"]);
    assert_eq!(fine.ok(), "Check complete, no warnings found.\n");
    let json = world.build(DOCKERFILE, &["--call", "check,format=json"]);
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    let rules: Vec<&str> = json["warnings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|w| w["ruleName"].as_str().expect("text"))
        .collect();
    assert_eq!(rules, ["UndefinedVar", "CopyIgnoredFile", "WorkdirRelativePath"]);
    assert_eq!(json["warnings"][2]["location"]["ranges"][0]["start"]["line"], 8);
    assert_eq!(json["sources"][0]["filename"], "Dockerfile");
    // What stands before an error is checked, too.
    let broken = world.build("FROM base AS Upper\nFOO\n", &["--check"]);
    assert_eq!(broken.code, Some(1), "{broken:?}");
    for text in
        ["StageNameCasing", "ERROR: dockerfile parse error on line 2: unknown instruction: FOO", ">>> FOO"]
    {
        assert!(broken.out.contains(text), "no {text:?} in {}", broken.out);
    }
    world.build("FROM base\n", &["--call", "print"]).fails_with(&["--call print", "outline"]);
    world.build("FROM base\n", &["--call", "outline", "--check"]).fails_with(&["--check"]);
}

#[test]
fn builds_tell_what_was_found_and_fail_where_asked() {
    let world = World::with_base();
    let built = world.build("FROM scratch\nCOPY Dockerfile /\nCMD sh\n", &["-t", "t"]);
    assert_eq!(built.code, Some(0), "{built:?}");
    let expected = "warning: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 3)";
    assert!(built.err.contains(expected), "{}", built.err);
    world
        .build(
            "# check=error=true\nFROM base\nRUN touch /never\nFROM scratch\nCOPY Dockerfile /\nCMD sh\n",
            &["-t", "u"],
        )
        .fails_with(&["lint violation found for rules: JSONArgsRecommended", ">>> CMD sh", "Dockerfile:6"]);
    world.run(&["inspect", "u"]).fails_with(&["no image u:latest"]);
    let skipped =
        world.build("# check=skip=all;error=true\nFROM scratch\nCOPY Dockerfile /\nCMD sh\n", &["-t", "u"]);
    assert_eq!(skipped.code, Some(0), "{skipped:?}");
    assert!(!skipped.err.contains("JSONArgs"), "{}", skipped.err);
    let quiet = world.build("FROM scratch\nCOPY Dockerfile /\nCMD sh\n", &["-q"]);
    assert!(quiet.err.is_empty(), "{}", quiet.err);
}

#[test]
fn outlines_and_targets() {
    let world = World::with_base();
    let outline =
        world.build(DOCKERFILE, &["--call=outline", "--target", "tools", "--build-arg", "TAG=2"]).ok();
    let lines: Vec<String> =
        outline.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "TARGET: tools",
            "DESCRIPTION: what compiles",
            "",
            "BUILD ARG VALUE DESCRIPTION",
            "TAG 2 which base",
            "",
            "SECRET REQUIRED",
            "token true"
        ]
    );
    let json = world.build(DOCKERFILE, &["--call=outline,format=json", "--target", "tools"]).ok();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["args"][0]["value"], &json["secrets"][0]["name"]), (&"latest".into(), &"token".into()));
    let targets = world.build(DOCKERFILE, &["--call=targets"]).ok();
    assert_eq!(targets, "TARGET    DESCRIPTION\ntools     what compiles\ndefault\n");
    let json = world.build(DOCKERFILE, &["--call=targets,format=json"]).ok();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["targets"][0]["base"], &json["targets"][1]["default"]),
        (&"base:$TAG".into(), &true.into())
    );
    world.build(DOCKERFILE, &["--call=outline", "--target", "absent"]).fails_with(&["absent", "tools, 1"]);
}
