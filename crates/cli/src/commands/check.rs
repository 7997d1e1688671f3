//! build --check and --call: shows what a Dockerfile offers and its probable mistakes. Nothing is built.

use anyhow::{Result, bail};
use crossdock_builder::BuildRequest;
use crossdock_builder::dockerfile::check::outline;
use crossdock_builder::dockerfile::check::rules::{Experimental, Warning};
use crossdock_delivery::calls;
use crossdock_dockerfile::error::excerpt;
use crossdock_oci::Store;
use serde_json::Value;

use crate::output::print;
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
            let findings = calls::findings(store, request, Experimental::Ours)?;
            let code = u8::from(!findings.warnings.is_empty() || findings.error.is_some());
            match is_json {
                true => print_json(&calls::check_json(&findings, file, &request.dockerfile)),
                false => print_text(&calls::check_text(&findings, file, &request.dockerfile)),
            }
            Ok(code)
        }
        Method::Outline => {
            let outline = outline::outline(request)?;
            match is_json {
                true => print_json(&calls::outline_json(&outline, &request.dockerfile)),
                false => print_text(&calls::outline_text(&outline)),
            }
            Ok(0)
        }
        Method::Targets => {
            let targets = outline::targets(request)?;
            match is_json {
                true => print_json(&calls::targets_json(&targets, &request.dockerfile)),
                false => print_text(&calls::targets_text(&targets)),
            }
            Ok(0)
        }
    }
}

/// Runs the checks before a build: findings are short warnings, or end the build if the Dockerfile says so.
pub fn before_build(store: &Store, request: &BuildRequest, file: &str, display: &Display) -> Result<()> {
    let Ok(findings) = calls::findings_of_build(store, request, Experimental::Ours) else {
        // The build will report the error, with the lines around it.
        return Ok(());
    };
    if let Some((violation, lines)) = findings.violation() {
        let text = String::from_utf8_lossy(&request.dockerfile);
        display.say(&excerpt(file, &text, lines, 3));
        bail!("{violation}: {}", findings.warnings[0].detail);
    }
    for Warning { rule, detail, lines } in &findings.warnings {
        // The build itself warns of this when it gets to the image.
        if *rule != "InvalidBaseImagePlatform" {
            display.say(&format!("warning: {rule}: {detail} (line {})", lines.start));
        }
    }
    Ok(())
}

/// Prints lines that end with a line feed.
fn print_text(text: &str) {
    print(text.trim_end_matches('\n'));
}

fn print_json(value: &Value) {
    print(&serde_json::to_string_pretty(value).expect("JSON always serialises"));
}
