//! What rustfmt leaves alone: comments of the sources are at most as wide as the code.

use std::fs;
use std::path::{Path, PathBuf};

/// The width of rustfmt.toml, in characters.
const WIDTH: usize = 110;

#[test]
fn comments_are_as_narrow_as_the_code() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the checkout");
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        sources(&checkout.join(folder), &mut files);
    }
    assert!(files.len() > 300, "only {} sources were found", files.len());
    let mut wide = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("a source file");
        let comments = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
        for (number, line) in comments.filter(|(_, line)| line.chars().count() > WIDTH) {
            let file = file.strip_prefix(checkout).expect("below the checkout").display();
            wide.push(format!("{file}:{}: {} characters", number + 1, line.chars().count()));
        }
    }
    assert!(wide.is_empty(), "wrap these comments at {WIDTH} characters:\n{}", wide.join("\n"));
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
