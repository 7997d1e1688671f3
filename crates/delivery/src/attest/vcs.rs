//! What Git says of a local context, as a hint in its provenance (BuildKit,
//! docs/attestations/slsa-definitions.md, "vcs").

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The attributes `vcs:source`, `vcs:revision`, `vcs:localdir:context` and `vcs:localdir:dockerfile` for a
/// context that lies in a checkout; nothing without one, or without git. Files are not compared with the
/// commit, so changed ones do not show.
pub fn attributes(context: &Path, dockerfile: Option<&Path>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let Some(root) = git(context, &["rev-parse", "--show-toplevel"]) else { return all };
    if let Some(commit) = git(context, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]) {
        all.insert("vcs:revision".to_string(), commit);
    }
    let remote = |name| git(context, &["remote", "get-url", name]);
    if let Some(address) = remote("origin").or_else(|| remote("upstream")) {
        all.insert("vcs:source".to_string(), crossdock_builder::without_password(&address));
    }
    let directory = dockerfile.map_or(Some(context), Path::parent);
    for (name, path) in [("context", Some(context)), ("dockerfile", directory)] {
        let path = path.map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
        let whole = path.and_then(|path| std::fs::canonicalize(path).ok());
        if let Some(inside) = whole.as_deref().and_then(|path| path.strip_prefix(&root).ok()) {
            let shown = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
            all.insert(format!("vcs:localdir:{name}"), shown.display().to_string());
        }
    }
    all
}

/// The first line that git writes in a directory; nothing if it fails or is not there.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // Nothing that the checkout configures runs a program.
    command.arg("-C").arg(directory).args(["-c", "core.fsmonitor=false"]).args(arguments);
    let out = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (out.status.success() && !line.is_empty()).then(|| line.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_is_known_by_its_commit() {
        let directory = tempfile::tempdir().expect("a directory");
        let context = std::fs::canonicalize(directory.path()).expect("there").join("sub/app");
        std::fs::create_dir_all(&context).expect("a directory");
        assert!(attributes(&context, None).is_empty(), "{context:?} is in no checkout");
        let run = |arguments: &[&str]| {
            let config = ["-c", "user.name=a", "-c", "user.email=a@b"];
            let mut command = Command::new("git");
            let out = command.current_dir(directory.path()).args(config).args(arguments).output();
            let out = out.expect("git, a Debian package of that name, is needed");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).expect("text").trim().to_string()
        };
        run(&["init", "--quiet"]);
        run(&["remote", "add", "origin", "https://user:secret@h/r.git"]);
        run(&["commit", "--quiet", "--allow-empty", "--message", "x"]);
        let found = attributes(&context, Some(&directory.path().join("sub/Dockerfile")));
        let expected = [
            ("vcs:localdir:context", "sub/app".to_string()),
            ("vcs:localdir:dockerfile", "sub".to_string()),
            ("vcs:revision", run(&["rev-parse", "HEAD"])),
            ("vcs:source", "https://h/r.git".to_string()),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_string(), value)).into());
    }
}
