//! build --check and --call: shows what a Dockerfile offers and its probable mistakes. Nothing is built.

use anyhow::{Result, bail};
use base64::Engine as _;
use crossdock_builder::lint::{self, Findings, Warning};
use crossdock_builder::outline::{self, Outline, Target};
use crossdock_builder::{BuildError, BuildRequest};
use crossdock_dockerfile::Lines;
use crossdock_dockerfile::error::{excerpt, excerpt_of};
use crossdock_oci::{ImageConfig, Reference, Store};
use crossdock_platform::Platform;
use serde_json::{Value, json};

use crate::output::{print, table};
use crate::progress::Display;

/// What `build` is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Build,
    Check,
    Outline,
    Targets,
}

/// Reads `--call METHOD[,format=json|text]` and `--check`: the method, and whether the answer is JSON.
pub fn method(call: Option<&str>, check: bool) -> Result<(Method, bool)> {
    let mut fields = call.unwrap_or(if check { "check" } else { "build" }).split(',');
    let method = match fields.next().unwrap_or_default() {
        "" | "build" => Method::Build,
        "check" | "lint" => Method::Check,
        "outline" => Method::Outline,
        "targets" => Method::Targets,
        other => bail!("--call {other}: it is build, check, outline or targets"),
    };
    if check && method != Method::Check {
        bail!("--check is the same as --call check and cannot be given with another --call");
    }
    let mut is_json = false;
    for field in fields {
        match field {
            "format=json" => is_json = true,
            "format=text" => is_json = false,
            other => bail!("--call: unknown option {other}, known is format=json"),
        }
    }
    Ok((method, is_json))
}

/// Answers instead of building; the exit code is 1 if something was found.
pub fn call(store: &Store, request: &BuildRequest, file: &str, method: Method, is_json: bool) -> Result<u8> {
    match method {
        Method::Build => bail!("--call build builds"),
        Method::Check => {
            let findings = findings(store, request)?;
            let code = u8::from(!findings.warnings.is_empty() || findings.error.is_some());
            match is_json {
                true => print_json(&check_json(&findings, file, &request.dockerfile)),
                false => print_findings(&findings, file, &request.dockerfile),
            }
            Ok(code)
        }
        Method::Outline => {
            let outline = outline::outline(request)?;
            match is_json {
                true => print_json(&outline_json(&outline)),
                false => print_outline(&outline),
            }
            Ok(0)
        }
        Method::Targets => {
            let targets = outline::targets(request)?;
            match is_json {
                true => {
                    print_json(&json!({ "targets": targets.iter().map(target_json).collect::<Vec<_>>() }))
                }
                false => print_targets(&targets),
            }
            Ok(0)
        }
    }
}

/// Runs the checks before a build: findings are short warnings, or end the build if the Dockerfile says so.
pub fn before_build(store: &Store, request: &BuildRequest, file: &str, display: &Display) -> Result<()> {
    let Ok(findings) = findings(store, request) else {
        // The build will report the error, with the lines around it.
        return Ok(());
    };
    if findings.are_errors && !findings.warnings.is_empty() {
        let mut rules: Vec<&str> = findings.warnings.iter().map(|warning| warning.rule).collect();
        rules.dedup();
        let first = &findings.warnings[0];
        let text = String::from_utf8_lossy(&request.dockerfile);
        display.say(&excerpt(file, &text, first.lines, 3));
        bail!("lint violation found for rules: {}: {}", rules.join(", "), first.detail);
    }
    for Warning { rule, detail, lines } in &findings.warnings {
        // The build itself warns of this when it gets to the image.
        if *rule != "InvalidBaseImagePlatform" {
            display.say(&format!("warning: {rule}: {detail} (line {})", lines.start));
        }
    }
    Ok(())
}

fn findings(store: &Store, request: &BuildRequest) -> Result<Findings, BuildError> {
    let known = |reference: &Reference, platform: &Platform| -> Option<ImageConfig> {
        let manifest = store.find(reference, platform).ok()??;
        Some(store.load_image(&manifest).ok()?.config)
    };
    lint::check(request, &known)
}

fn print_findings(findings: &Findings, file: &str, dockerfile: &[u8]) {
    match findings.warnings.len() {
        0 if findings.error.is_some() => {}
        0 => return print("Check complete, no warnings found."),
        1 => print("Check complete, 1 warning has been found!"),
        count => print(&format!("Check complete, {count} warnings have been found!")),
    }
    let text = String::from_utf8_lossy(dockerfile);
    let lines: Vec<&str> = text.lines().collect();
    for warning in &findings.warnings {
        print(&format!("\nWARNING: {} - {}\n{}", warning.rule, warning.url(), warning.detail));
        print(&excerpt_of(file, &lines, warning.lines, 3));
    }
    if let Some((message, at)) = &findings.error {
        print(&format!("\nERROR: {message}"));
        if let Some(at) = at {
            print(&excerpt_of(file, &lines, *at, 3));
        }
    }
}

fn location(lines: Lines) -> Value {
    json!({ "ranges": [{ "start": { "line": lines.start }, "end": { "line": lines.end } }] })
}

fn check_json(findings: &Findings, file: &str, dockerfile: &[u8]) -> Value {
    let warning = |warning: &Warning| {
        json!({
            "ruleName": warning.rule,
            "description": warning.description(),
            "url": warning.url(),
            "detail": warning.detail,
            "location": location(warning.lines),
        })
    };
    let data = base64::engine::general_purpose::STANDARD.encode(dockerfile);
    let mut found = json!({
        "warnings": findings.warnings.iter().map(warning).collect::<Vec<_>>(),
        "sources": [{ "filename": file, "language": "Dockerfile", "data": data }],
    });
    if let Some((message, at)) = &findings.error {
        found["buildError"] = json!({ "message": message, "location": at.map(location) });
    }
    found
}

fn name(target: &Target) -> &str {
    target.name.as_deref().unwrap_or("default")
}

fn target_json(target: &Target) -> Value {
    let mut json = json!({
        "default": target.is_default,
        "description": target.description,
        "base": target.base,
        "location": location(target.lines),
    });
    for (key, value) in [("name", &target.name), ("platform", &target.platform)] {
        if let Some(value) = value {
            json[key] = json!(value);
        }
    }
    json
}

fn outline_json(outline: &Outline) -> Value {
    let argument = |argument: &outline::Argument| {
        json!({
            "name": argument.name,
            "description": argument.description,
            "value": argument.value,
            "location": location(argument.lines),
        })
    };
    let required = |taken: &outline::Taken| json!({ "name": taken.id, "required": taken.is_required, "location": location(taken.lines) });
    json!({
        "name": outline.target.name,
        "description": outline.target.description,
        "args": outline.arguments.iter().map(argument).collect::<Vec<_>>(),
        "secrets": outline.secrets.iter().map(required).collect::<Vec<_>>(),
        "ssh": outline.ssh.iter().map(required).collect::<Vec<_>>(),
    })
}

fn print_json(value: &Value) {
    print(&serde_json::to_string_pretty(value).expect("JSON always serialises"));
}

fn rows(head: &[&str]) -> Vec<Vec<String>> {
    vec![head.iter().map(ToString::to_string).collect()]
}

fn print_outline(outline: &Outline) {
    print(&format!("TARGET: {}", name(&outline.target)));
    if !outline.target.description.is_empty() {
        print(&format!("DESCRIPTION: {}", outline.target.description));
    }
    if !outline.arguments.is_empty() {
        let mut all = rows(&["BUILD ARG", "VALUE", "DESCRIPTION"]);
        for argument in &outline.arguments {
            let value = argument.value.clone().unwrap_or_default();
            all.push(vec![argument.name.clone(), value, argument.description.clone()]);
        }
        print("");
        table(&all);
    }
    for (head, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !list.is_empty() {
            let mut all = rows(&[head, "REQUIRED"]);
            let row = |taken: &outline::Taken| {
                vec![taken.id.clone(), if taken.is_required { "true".into() } else { String::new() }]
            };
            all.extend(list.iter().map(row));
            print("");
            table(&all);
        }
    }
}

fn print_targets(targets: &[Target]) {
    let mut all = rows(&["TARGET", "DESCRIPTION"]);
    for target in targets {
        let mark = if target.is_default && target.name.is_some() { " (default)" } else { "" };
        all.push(vec![format!("{}{mark}", name(target)), target.description.clone()]);
    }
    table(&all);
}
