//! Agreement with BuildKit's syntax trees and word lists. The data is not part of the project:
//! `CROSSDOCK_CORPUS` names its directory, else it is `shared/corpus` beside the checkout. Without the data,
//! each test says so, and only the unit tests check the code.

use std::path::{Path, PathBuf};

use crossdock_dockerfile::parser::{Node, parse};
use crossdock_dockerfile::shell::{Budget, Lexer};

fn corpus(part: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let root = std::env::var_os("CROSSDOCK_CORPUS").map(PathBuf::from).unwrap_or(beside);
    let directory = root.join(part);
    if directory.is_dir() {
        return Some(directory);
    }
    eprintln!(
        "no corpus at {}: set CROSSDOCK_CORPUS to compare with BuildKit's test data",
        directory.display()
    );
    None
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(directory).expect("readable").map(|e| e.expect("readable").path()).collect();
    all.sort();
    all
}

#[test]
fn syntax_trees_agree() {
    let Some(directory) = corpus("dockerfile-ast") else { return };
    let mut count = 0;
    for case in subdirectories(&directory.join("testfiles")) {
        let text = std::fs::read(case.join("Dockerfile")).expect("readable");
        let expect = std::fs::read_to_string(case.join("result")).expect("readable");
        let parsed = parse(&text).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
        let dumps: Vec<String> =
            parsed.nodes.iter().map(|node: &Node| format!("({})", node.dump())).collect();
        assert_eq!(dumps.join("\n").trim(), expect.trim(), "{}", case.display());
        count += 1;
    }
    for case in subdirectories(&directory.join("testfiles-negative")) {
        let text = std::fs::read(case.join("Dockerfile")).expect("readable");
        assert!(parse(&text).is_err(), "{}", case.display());
        count += 1;
    }
    assert!(count > 30, "only {count} cases in {}", directory.display());
}

#[test]
fn lines_agree() {
    let Some(directory) = corpus("dockerfile-ast") else { return };
    let text = std::fs::read(directory.join("testfile-line/Dockerfile")).expect("readable");
    let lines: Vec<(usize, usize)> =
        parse(&text).expect("valid").nodes.iter().map(|n| (n.lines.start, n.lines.end)).collect();
    assert_eq!(lines, [(5, 5), (11, 12), (17, 31)]);
}

#[test]
fn expansion_agrees() {
    let Some(directory) = corpus("shell-words") else { return };
    let text = std::fs::read_to_string(directory.join("envVarTest")).expect("readable");
    let variables = |name: &str| match name {
        "PWD" => Some("/home".to_string()),
        "SHELL" => Some("bash".to_string()),
        "KOREAN" => Some("한국어".to_string()),
        "NULL" => Some(String::new()),
        _ => None,
    };
    let mut count = 0;
    for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
        let (platform, case) = line.split_once('|').expect("a case");
        if platform == "W" {
            continue;
        }
        let (input, expect) = case.split_once('|').expect("a case");
        let got = Lexer::new('\\').expand(input.trim(), &variables, &Budget::default());
        match expect.trim() {
            "error" => assert!(got.is_err(), "{input}: {got:?}"),
            expect => assert_eq!(got.expect(input).text, expect, "{input}"),
        }
        count += 1;
    }
    assert!(count > 100, "only {count} cases");
}

#[test]
fn word_splitting_agrees() {
    let Some(directory) = corpus("shell-words") else { return };
    let text = std::fs::read_to_string(directory.join("wordsTest")).expect("readable");
    let mut env: Vec<(String, String)> = Vec::new();
    let mut count = 0;
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(assignment) = line.strip_prefix("ENV ") {
            let (name, value) = assignment.trim_start().split_once('=').expect("an assignment");
            env.retain(|(n, _)| n != name);
            env.push((name.to_string(), value.to_string()));
            continue;
        }
        let (input, expect) = line.split_once('|').expect("a case");
        let lookup = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let got = Lexer::new('\\').expand(input.trim(), &lookup, &Budget::default());
        match expect.trim() {
            "error" => assert!(got.is_err(), "{line}: {got:?}"),
            _ => {
                let expect: Vec<&str> = expect.trim_start_matches(' ').split(',').collect();
                assert_eq!(got.expect(line).words, expect, "{line}");
            }
        }
        count += 1;
    }
    assert!(count > 20, "only {count} cases");
}
