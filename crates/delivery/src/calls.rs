//! Answers about a Dockerfile without a build: its stages, its arguments, its probable mistakes, as text and
//! as JSON in BuildKit's form (BuildKit, frontend/subrequests).

use std::fmt::Write;

use base64::Engine as _;
use crossdock_builder::dockerfile::check::outline::{Argument, Outline, Taken, Target};
use crossdock_builder::dockerfile::check::rules::{self, Experimental, Findings, Warning};
use crossdock_builder::{BuildError, BuildRequest};
use crossdock_dockerfile::Lines;
use crossdock_dockerfile::error::excerpt_of;
use crossdock_oci::{ImageConfig, Reference, Store};
use crossdock_platform::Platform;
use serde_json::{Value, json};

/// What the checks find. Settings of base images are known if the store has the images.
///
/// # Errors
///
/// The Dockerfile cannot be parsed.
pub fn findings(
    store: &Store,
    request: &BuildRequest,
    experimental: Experimental,
) -> Result<Findings, BuildError> {
    rules::check(request, experimental, &|reference, platform| config_of(store, reference, platform))
}

/// What the checks find in the stages that a build needs.
///
/// # Errors
///
/// As [`findings`].
pub fn findings_of_build(
    store: &Store,
    request: &BuildRequest,
    experimental: Experimental,
) -> Result<Findings, BuildError> {
    rules::check_for_build(request, experimental, &|reference, platform| {
        config_of(store, reference, platform)
    })
}

/// The configuration of an image in the store; of one for another platform if there is no better one.
fn config_of(store: &Store, reference: &Reference, platform: &Platform) -> Option<ImageConfig> {
    let manifest = match store.find(reference, platform).ok()? {
        Some(manifest) => manifest,
        None => {
            let record = store.image(reference).ok()??;
            record.images.first().filter(|_| record.index.is_none())?.manifest.clone()
        }
    };
    Some(store.load_image(&manifest).ok()?.config)
}

/// The findings as people read them.
pub fn check_text(findings: &Findings, file: &str, dockerfile: &[u8]) -> String {
    let mut out = String::new();
    match findings.warnings.len() {
        0 if findings.error.is_some() => {}
        0 => return "Check complete, no warnings found.\n".to_string(),
        1 => out.push_str("Check complete, 1 warning has been found!\n"),
        count => line(&mut out, &format!("Check complete, {count} warnings have been found!")),
    }
    let text = String::from_utf8_lossy(dockerfile);
    let lines: Vec<&str> = text.lines().collect();
    for warning in &findings.warnings {
        line(&mut out, &format!("\nWARNING: {} - {}\n{}", warning.rule, warning.url(), warning.detail));
        line(&mut out, &excerpt_of(file, &lines, warning.lines, 3));
    }
    if let Some((message, at)) = &findings.error {
        line(&mut out, &format!("\nERROR: {message}"));
        if let Some(at) = at {
            line(&mut out, &excerpt_of(file, &lines, *at, 3));
        }
    }
    out
}

/// Adds a line.
fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a String takes all");
}

fn location(lines: Lines) -> Value {
    json!({ "ranges": [{ "start": { "line": lines.start }, "end": { "line": lines.end } }] })
}

/// The findings as JSON.
pub fn check_json(findings: &Findings, file: &str, dockerfile: &[u8]) -> Value {
    let warning = |warning: &Warning| {
        json!({
            "ruleName": warning.rule,
            "description": warning.description(),
            "url": warning.url(),
            "detail": warning.detail,
            "location": location(warning.lines),
        })
    };
    let data = encoded(dockerfile);
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

/// A stage as JSON.
fn target_json(target: &Target) -> Value {
    with_content(json!({
        "name": target.name,
        "default": target.is_default,
        "description": target.description,
        "base": target.base,
        "platform": target.platform,
        "location": location(target.lines),
    }))
}

/// An object without the members that say nothing, which BuildKit leaves out.
fn with_content(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        let nothing = [Value::Null, json!(false), json!(""), json!([])];
        members.retain(|_, value| !nothing.contains(value));
    }
    object
}

/// The outline as JSON.
pub fn outline_json(outline: &Outline, dockerfile: &[u8]) -> Value {
    let argument = |argument: &Argument| {
        let mut json = with_content(json!({
            "name": argument.name,
            "description": argument.description,
            "location": location(argument.lines),
        }));
        // A value without text is one.
        if let Some(value) = &argument.value {
            json["value"] = json!(value);
        }
        json
    };
    let required = |taken: &Taken| {
        let location = location(taken.lines);
        with_content(json!({ "name": taken.id, "required": taken.is_required, "location": location }))
    };
    with_content(json!({
        "name": outline.target.name,
        "description": outline.target.description,
        "args": outline.arguments.iter().map(argument).collect::<Vec<_>>(),
        "secrets": outline.secrets.iter().map(required).collect::<Vec<_>>(),
        "ssh": outline.ssh.iter().map(required).collect::<Vec<_>>(),
        "sources": [encoded(dockerfile)],
    }))
}

/// The stages as JSON.
pub fn targets_json(targets: &[Target], dockerfile: &[u8]) -> Value {
    json!({
        "targets": targets.iter().map(target_json).collect::<Vec<_>>(),
        "sources": [encoded(dockerfile)],
    })
}

/// Bytes as Go writes them in JSON.
fn encoded(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn rows(head: &[&str]) -> Vec<Vec<String>> {
    vec![head.iter().map(ToString::to_string).collect()]
}

/// The outline as people read it.
pub fn outline_text(outline: &Outline) -> String {
    let mut out = String::new();
    line(&mut out, &format!("TARGET: {}", name(&outline.target)));
    if !outline.target.description.is_empty() {
        line(&mut out, &format!("DESCRIPTION: {}", outline.target.description));
    }
    if !outline.arguments.is_empty() {
        let mut all = rows(&["BUILD ARG", "VALUE", "DESCRIPTION"]);
        for argument in &outline.arguments {
            let value = argument.value.clone().unwrap_or_default();
            all.push(vec![argument.name.clone(), value, argument.description.clone()]);
        }
        out.push('\n');
        out.push_str(&table(&all));
    }
    for (head, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !list.is_empty() {
            let mut all = rows(&[head, "REQUIRED"]);
            let row = |taken: &Taken| {
                vec![taken.id.clone(), if taken.is_required { "true".into() } else { String::new() }]
            };
            all.extend(list.iter().map(row));
            out.push('\n');
            out.push_str(&table(&all));
        }
    }
    out
}

/// The stages as people read them.
pub fn targets_text(targets: &[Target]) -> String {
    let mut all = rows(&["TARGET", "DESCRIPTION"]);
    for target in targets {
        let mark = if target.is_default && target.name.is_some() { " (default)" } else { "" };
        all.push(vec![format!("{}{mark}", name(target)), target.description.clone()]);
    }
    table(&all)
}

/// Columns aligned by spaces, three between them.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        line(&mut out, cells.collect::<Vec<_>>().join("   ").trim_end());
    }
    out
}

/// The questions that can be asked, for BuildKit's clients.
pub fn describe_json() -> Value {
    let results = json!([{ "name": "result.json" }, { "name": "result.txt" }]);
    let request = |(name, description): (&str, &str)| json!({ "name": name, "version": "1.0.0", "type": "rpc", "description": description, "metadata": results });
    QUESTIONS.into_iter().map(request).collect::<Vec<_>>().into()
}

/// The same as people read it.
pub fn describe_text() -> String {
    let mut rows = rows(&["NAME", "VERSION", "DESCRIPTION"]);
    rows.extend(QUESTIONS.map(|(name, description)| {
        let name = name.trim_start_matches("frontend.");
        vec![name.to_string(), "1.0.0".to_string(), description.to_string()]
    }));
    table(&rows)
}

const QUESTIONS: [(&str, &str); 4] = [
    ("frontend.outline", "List all parameters that the current build target supports"),
    ("frontend.targets", "List all targets that the current build supports"),
    ("frontend.lint", "Show probable mistakes in the Dockerfile"),
    ("frontend.subrequests.describe", "List the questions that can be asked"),
];
