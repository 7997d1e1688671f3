//! The licences of what is in the executables besides our own code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::tools::{cargo_command, output};

/// What is in the executables and in no crate.
const LIBRARIES: &str = "\
The Rust standard library (https://www.rust-lang.org): MIT OR Apache-2.0
The GNU C library, linked statically (https://www.gnu.org/software/libc): LGPL-2.1-or-later; whoever wants to link the
    executables with another version of it can do so from crossdock's own sources
";

/// A list of the crates with their licences, then each text of a licence once, with the crates that it is
/// for.
pub fn text(checkout: &Path, version: &str) -> Result<String> {
    let metadata = output(cargo_command().current_dir(checkout).args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let used = used(&metadata)?;
    let mut crates = BTreeMap::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        let id = package["id"].as_str().unwrap_or_default();
        // Our own crates have no source.
        if !used.contains(id) || package["source"].is_null() {
            continue;
        }
        let name = format!("{} {}", string(package, "name"), string(package, "version"));
        let licence = package["license"].as_str().unwrap_or("see the text below").to_string();
        crates.insert(name.clone(), format!("{licence} ({})", string(package, "repository")));
        let manifest = string(package, "manifest_path");
        let directory = Path::new(&manifest).parent().context("a manifest is in a directory")?;
        for text in licence_files(directory)? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    let mut all = format!(
        "crossdock {version} is under the Apache License 2.0. Its executables contain these libraries:\n\n{LIBRARIES}"
    );
    for (name, licence) in &crates {
        all.push_str(&format!("{name}: {licence}\n"));
    }
    for (text, names) in &texts {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        all.push_str(&format!("\n{}\n{}\n\n{}\n", "-".repeat(80), names.join(", "), text.trim_end()));
    }
    Ok(all)
}

fn string(package: &Value, field: &str) -> String {
    package[field].as_str().unwrap_or_default().to_string()
}

/// The packages that the executables are made of: what crossdock and crossdock-emu use, without what only
/// builds or tests use.
fn used(metadata: &Value) -> Result<BTreeSet<String>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("no graph of dependencies")?;
    let id = |node: &Value| node["id"].as_str().unwrap_or_default().to_string();
    let graph: BTreeMap<String, &Value> = nodes.iter().map(|node| (id(node), node)).collect();
    let packages = metadata["packages"].as_array().context("no packages")?;
    let is_ours = |package: &&Value| {
        package["source"].is_null() && matches!(package["name"].as_str(), Some("crossdock" | "crossdock-emu"))
    };
    let mut open: Vec<String> = packages.iter().filter(is_ours).map(id).collect();
    let mut used = BTreeSet::new();
    while let Some(next) = open.pop() {
        if !used.insert(next.clone()) {
            continue;
        }
        let dependencies = graph.get(&next).and_then(|node| node["deps"].as_array()).into_iter().flatten();
        let is_normal = |dependency: &&Value| {
            dependency["dep_kinds"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
        };
        let ids = dependencies.filter(is_normal).filter_map(|dependency| dependency["pkg"].as_str());
        open.extend(ids.map(str::to_string));
    }
    Ok(used)
}

/// The texts of the licence files in a crate's directory.
fn licence_files(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        let is_licence = ["license", "licence", "copying", "notice", "unlicense", "copyright"]
            .iter()
            .any(|start| name.starts_with(start));
        if is_licence && entry.file_type()?.is_file() {
            names.push(entry.path());
        }
    }
    names.sort();
    let read = |path: &std::path::PathBuf| Ok(String::from_utf8_lossy(&fs::read(path)?).replace('\r', ""));
    names.iter().map(read).collect()
}
