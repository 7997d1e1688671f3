//! Which files of its contexts a build reads, as far as the Dockerfile says it: clients send no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crossdock_dockerfile::Dockerfile;
use crossdock_dockerfile::ignore::clean;
use crossdock_dockerfile::instruction::{Kind, Transfer, instruction};
use crossdock_dockerfile::mount::{self, MountKind};
use crossdock_dockerfile::parser::parse_trigger;

use crate::dockerfile::names::{Names, Origin};
use crate::dockerfile::request::{BuildRequest, NamedContext};
use crate::dockerfile::scope::Scope;
use crate::error::BuildError;
use crate::git::is_git;

/// Files that are read of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Any.
    All,
    /// These paths, which may have wildcards, with everything below them and where links in them lead.
    Only(BTreeSet<String>),
}

/// The paths that the target of a request reads, by the directories of its context and named contexts. A
/// directory that is missing here is not read. Triggers (ONBUILD) of base images are not known here: they
/// may read more.
///
/// # Errors
///
/// The Dockerfile or a name in it is wrong.
pub fn context_paths(request: &BuildRequest) -> Result<BTreeMap<PathBuf, Paths>, BuildError> {
    let file = Dockerfile::parse(&request.dockerfile)?;
    let names = Names { file: &file, contexts: &request.contexts };
    let scope = Scope::of_first_platform(request, &file)?;
    let base_of = |index: usize| scope.base_of(&file.stages[index]);
    let mut all = BTreeMap::new();
    for index in names.needed(names.target(request.target.as_deref())?, &base_of)? {
        let stage = &file.stages[index];
        let resolve = |name: &str| names.resolve(name, index, stage.lines);
        if let Origin::Context(NamedContext::Directory { path, .. }) = resolve(&base_of(index)?)? {
            all.insert(path, Paths::All);
        }
        for instruction in &stage.instructions {
            for (from, path) in read_by(&instruction.kind) {
                let directory = match from {
                    None => request.context.clone(),
                    Some(name) => match resolve(&name) {
                        Ok(Origin::Context(NamedContext::Directory { path, .. })) => Some(path),
                        _ => None,
                    },
                };
                let Some(directory) = directory else { continue };
                let paths = all.entry(directory).or_insert_with(|| Paths::Only(BTreeSet::new()));
                match (paths, path) {
                    (Paths::All, _) => {}
                    (Paths::Only(known), Some(path)) => drop(known.insert(path)),
                    (paths, None) => *paths = Paths::All,
                }
            }
        }
    }
    Ok(all)
}

/// The path of a source below its context; `None` if that is the whole context, or if only the run of the
/// build tells.
fn known(source: &str) -> Option<String> {
    if source.contains('$') {
        return None;
    }
    below(source)
}

/// The path of a source below its context, without wildcards that clients do not know; `None` for the whole
/// context.
pub(super) fn below(source: &str) -> Option<String> {
    let path = clean(&format!("/{source}")).split_off(1);
    let parts = path.split('/').take_while(|part| *part != "**");
    Some(parts.collect::<Vec<_>>().join("/")).filter(|path| !path.is_empty())
}

pub(super) fn is_remote(source: &str) -> bool {
    // A file:// address also counts as a repository, so that it is refused as one.
    source.starts_with("http://") || source.starts_with("https://") || is_git(source)
}

/// What an instruction reads: stage, image or context (`None` for the build context), and the path there.
fn read_by(kind: &Kind) -> Vec<(Option<String>, Option<String>)> {
    let transfer = |transfer: &Transfer, is_add: bool| {
        let sources = transfer.sources.iter().filter(|source| !(is_add && is_remote(source)));
        sources.map(|source| (transfer.from.clone(), known(source))).collect()
    };
    match kind {
        Kind::Copy(copy) => transfer(copy, false),
        Kind::Add(add) => transfer(add, true),
        Kind::Run(run) => run
            .mounts
            .iter()
            .filter_map(|text| match mount::parse(text).ok()?.kind {
                MountKind::Bind { from, source } => Some((from, known(&source.unwrap_or_default()))),
                MountKind::Cache { from: Some(from), source, .. } => {
                    Some((Some(from), known(&source.unwrap_or_default())))
                }
                _ => None,
            })
            .collect(),
        // A stage that is built on this one runs it.
        Kind::Onbuild(text) => {
            let kind = parse_trigger(text).ok().and_then(|node| Some(instruction(&node, '\\').ok()?.kind));
            kind.map(|kind| read_by(&kind)).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_platform::Platform;

    fn paths(text: &str, target: Option<&str>) -> BTreeMap<String, Option<Vec<String>>> {
        let mut request = BuildRequest::for_platform(Platform::host());
        request.dockerfile = text.as_bytes().to_vec();
        request.context = Some("main".into());
        request.target = target.map(str::to_string);
        let other = NamedContext::Directory { path: "other".into(), ignore: Default::default() };
        request.contexts.insert("n".to_string(), other);
        let found = context_paths(&request).expect("valid").into_iter();
        let list = |paths| match paths {
            Paths::All => None,
            Paths::Only(paths) => Some(paths.into_iter().collect()),
        };
        found.map(|(directory, paths)| (directory.display().to_string(), list(paths))).collect()
    }

    fn main(text: &str) -> Option<Vec<String>> {
        paths(text, None).remove("main").expect("it is read")
    }

    fn some(paths: &[&str]) -> Option<Vec<String>> {
        Some(paths.iter().map(|path| path.to_string()).collect())
    }

    #[test]
    fn sources_of_needed_stages() {
        let text = "FROM a AS x\nCOPY /one ./two/../three *.txt /d/\nADD https://h/f git@h:a/b.git four /d/\n\
                    RUN --mount=target=/m,source=five true\nFROM b AS y\nCOPY --from=x / /\nFROM c\nCOPY z /\n";
        let found = paths(text, Some("y"));
        assert_eq!(found["main"], some(&["*.txt", "five", "four", "one", "three"]));
        assert_eq!(found.len(), 1);
        assert!(paths("FROM a\nRUN true\n", None).is_empty(), "nothing is read");
    }

    #[test]
    fn what_only_the_run_tells_is_everything() {
        for all in
            ["COPY . /", "COPY $X /", "COPY a / /d", "RUN --mount=target=/m true", "COPY --parents ** /"]
        {
            assert_eq!(main(&format!("FROM a\n{all}\nCOPY b /\n")), None, "{all}");
        }
        assert_eq!(main("FROM a\nCOPY --parents a/./b/**/c /\n"), some(&["a/b"]));
        assert_eq!(main("FROM a AS x\nONBUILD COPY late /\nFROM x\n"), some(&["late"]));
    }

    #[test]
    fn named_contexts_have_their_own() {
        let found =
            paths("FROM a\nCOPY --from=n f /\nRUN --mount=from=n,source=g,target=/g true\nCOPY h /\n", None);
        assert_eq!((&found["other"], &found["main"]), (&some(&["f", "g"]), &some(&["h"])));
        assert_eq!(paths("FROM n\nCOPY --from=n f /\n", None)["other"], None);
        assert_eq!(paths("FROM a\nRUN --mount=type=cache,from=n,target=/c true\n", None)["other"], None);
    }
}
