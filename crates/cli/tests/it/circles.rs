//! Circles of files: inside a crate, no two files may use each other, directly or through other files.
//!
//! The graph is made from the sources. An edge goes from a file to each file whose items it names, in a `use`
//! or in a path of code. A `pub use` that only passes a name on is no edge: a file that uses the name has an
//! edge to the file that defines it. Tests inside the sources are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// The path of a module from the crate's root.
type ModulePath = Vec<String>;

/// The files that each file uses, and the names by which it does so.
type Edges = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// The sources of one crate.
#[derive(Default)]
struct Sources {
    modules: BTreeMap<ModulePath, Module>,
}

/// The names that one module defines, imports and uses.
struct Module {
    file: PathBuf,
    /// Names that `pub use` passes on, and what they stand for.
    passed_on: BTreeMap<String, Vec<String>>,
    /// Modules whose every public name is passed on.
    passed_on_whole: Vec<Vec<String>>,
    /// Names that `use` brings into this module.
    imported: BTreeMap<String, Vec<String>>,
    /// Paths that the module's code names.
    named: Vec<Vec<String>>,
}

#[test]
fn files_of_a_crate_make_no_circles() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of crates");
    let mut found = Vec::new();
    let mut edges_seen = 0;
    for folder in fs::read_dir(crates).expect("crates") {
        let folder = folder.expect("an entry").path();
        let name = folder.file_name().expect("a name").display().to_string();
        let edges = Sources::of(&folder.join("src")).edges();
        edges_seen += edges.values().map(BTreeMap::len).sum::<usize>();
        for circle in circles(&edges) {
            found.push(format!("{name}: {}", told(&circle, &edges)));
        }
    }
    assert!(edges_seen > 500, "the picture of all crates has only {edges_seen} edges");
    assert!(found.is_empty(), "files use each other in a circle:\n{}", found.join("\n"));
}

/// The graph of a small crate is right: a file that only passes a name on has no edge for it, and tests do
/// not count.
#[test]
fn edges_of_a_small_crate() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, text).expect("a file");
    };
    write("lib.rs", "mod store;\nmod layer;\npub use store::Store;\nconst LIMIT: u64 = 1;");
    write("store/mod.rs", "mod gc;\nmod blob;\npub use blob::Blob;\npub struct Store(Blob);");
    write("store/gc.rs", "use super::Blob;\nfn gc() { crate::layer::pack(crate::LIMIT) }");
    write("store/blob.rs", "#[cfg(test)]\nmod tests { use crate::layer::pack; }\npub struct Blob;");
    write("layer.rs", "use crate::store::{self, Store};\nfn pack() { vec![store::Blob, store::gc::gc()]; }");
    let edges = Sources::of(folder.path()).edges();
    let told: Vec<String> = edges
        .iter()
        .flat_map(|(from, to)| to.keys().map(move |to| format!("{} -> {}", from.display(), to.display())))
        .collect();
    assert_eq!(
        told,
        [
            "layer.rs -> store/blob.rs",
            "layer.rs -> store/gc.rs",
            "layer.rs -> store/mod.rs",
            "store/gc.rs -> layer.rs",
            "store/gc.rs -> lib.rs",
            "store/gc.rs -> store/blob.rs",
            "store/mod.rs -> store/blob.rs",
        ]
    );
    let circle = circles(&edges);
    assert_eq!(circle, [BTreeSet::from([PathBuf::from("layer.rs"), "store/gc.rs".into()])]);
}

impl Sources {
    /// Reads the crate whose sources are below `src`.
    fn of(src: &Path) -> Sources {
        let mut sources = Sources::default();
        for root in ["lib.rs", "main.rs"] {
            if src.join(root).exists() {
                sources.read(src, Path::new(root), Path::new(""), Vec::new());
            }
        }
        sources
    }

    /// Reads a file, which is the module at `path`, and those of its modules that are files of `folder`.
    fn read(&mut self, src: &Path, file: &Path, folder: &Path, path: ModulePath) {
        let text = fs::read_to_string(src.join(file)).expect("a source file");
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.add(src, file, folder, path, parsed.items);
    }

    fn add(&mut self, src: &Path, file: &Path, folder: &Path, path: ModulePath, items: Vec<Item>) {
        let mut module = Module {
            file: file.to_path_buf(),
            passed_on: BTreeMap::new(),
            passed_on_whole: Vec::new(),
            imported: BTreeMap::new(),
            named: Vec::new(),
        };
        for item in items {
            match item {
                Item::Mod(child) if is_test(&child.attrs) => {}
                Item::Mod(child) => {
                    let name = child.ident.to_string();
                    let below = [path.clone(), vec![name.clone()]].concat();
                    match child.content {
                        Some((_, items)) => self.add(src, file, &folder.join(&name), below, items),
                        None => {
                            let flat = folder.join(format!("{name}.rs"));
                            let deep = folder.join(&name).join("mod.rs");
                            let file = if src.join(&flat).exists() { flat } else { deep };
                            self.read(src, &file, &folder.join(&name), below);
                        }
                    }
                }
                Item::Use(item) if !is_test(&item.attrs) => {
                    let public = !matches!(item.vis, Visibility::Inherited);
                    module.add_use(&item.tree, &mut Vec::new(), public);
                }
                item => {
                    let mut paths = Paths::default();
                    paths.visit_item(&item);
                    module.named.extend(paths.found);
                }
            }
        }
        self.modules.insert(path, module);
    }

    /// The files whose items each file names.
    fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (path, module) in &self.modules {
            for named in module.named.iter().chain(module.imported.values()) {
                let Some(absolute) = self.absolute(path, named) else { continue };
                // An imported module makes an edge only where the code names one of its items.
                let Some(file) = self.defined_in(&absolute, 0) else { continue };
                if file != module.file {
                    let name = named.last().expect("a name").clone();
                    edges.entry(module.file.clone()).or_default().entry(file).or_default().insert(name);
                }
            }
        }
        edges
    }

    /// Turns a path in the module `at` into one from the crate's root; none if it leads to another crate.
    fn absolute(&self, at: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let joined = |start: &[String]| Some([start, rest].concat());
        match first.as_str() {
            // A single name is a variable, an item of this module, or an import, which is counted by itself.
            name if rest.is_empty() => {
                let target = self.modules.get(at)?.passed_on.get(name)?;
                // A macro is passed on by its own name: `pub(crate) use name;`.
                if target == path { None } else { self.absolute(at, target) }
            }
            "crate" => joined(&[]),
            "self" => joined(at),
            "super" => self.absolute_above(at, rest),
            name => {
                let child = [at, &[name.to_string()]].concat();
                if self.modules.contains_key(&child) {
                    return joined(&child);
                }
                let module = self.modules.get(at)?;
                let imported = module.imported.get(name).or_else(|| module.passed_on.get(name))?;
                // A name imported by itself, as in `use name;`, is another crate.
                let start = if imported.first() == Some(first) { None } else { self.absolute(at, imported) };
                joined(&start?)
            }
        }
    }

    fn absolute_above(&self, at: &[String], path: &[String]) -> Option<Vec<String>> {
        let (_, above) = at.split_last()?;
        match path.split_first() {
            Some((first, rest)) if first == "super" => self.absolute_above(above, rest),
            _ => Some([above, path].concat()),
        }
    }

    /// The file that defines what a path from the crate's root names; none for a module.
    fn defined_in(&self, path: &[String], depth: usize) -> Option<PathBuf> {
        assert!(depth < 20, "{path:?} is passed on in a circle");
        let mut at = 0;
        while at < path.len() && self.modules.contains_key(&path[..=at]) {
            at += 1;
        }
        let module = &self.modules[&path[..at]];
        let name = path.get(at)?;
        if let Some(target) = module.passed_on.get(name)
            && target != std::slice::from_ref(name)
        {
            let target = self.absolute(&path[..at], target)?;
            return self.defined_in(&[&target, &path[at + 1..]].concat(), depth + 1);
        }
        for whole in &module.passed_on_whole {
            let target = self.absolute(&path[..at], whole)?;
            let inside = self.defined_in(&[&target, &path[at..]].concat(), depth + 1);
            if inside.is_some() {
                return inside;
            }
        }
        Some(module.file.clone())
    }
}

impl Module {
    fn add_use(&mut self, tree: &UseTree, path: &mut Vec<String>, public: bool) {
        let names = if public { &mut self.passed_on } else { &mut self.imported };
        match tree {
            UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.add_use(&step.tree, path, public);
                path.pop();
            }
            UseTree::Name(name) if name.ident == "self" => {
                names.insert(path.last().expect("something before self").clone(), path.clone());
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                names.insert(name.clone(), [path.as_slice(), &[name]].concat());
            }
            UseTree::Rename(rename) => {
                let target = match rename.ident.to_string().as_str() {
                    "self" => path.clone(),
                    name => [path.as_slice(), &[name.to_string()]].concat(),
                };
                names.insert(rename.rename.to_string(), target);
            }
            UseTree::Glob(_) if public => self.passed_on_whole.push(path.clone()),
            // The items of a glob are in the file of the module that it names.
            UseTree::Glob(_) => self.named.push([path.as_slice(), &["*".to_string()]].concat()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_use(tree, path, public)),
        }
    }
}

/// The paths that occur in code, also inside macros.
#[derive(Default)]
struct Paths {
    found: Vec<Vec<String>>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.found.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Ok(list) = attribute.meta.require_list() {
            self.visit_tokens(list.tokens.clone());
        }
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.visit_path(&called.path);
        self.visit_tokens(called.tokens.clone());
    }
}

impl Paths {
    fn visit_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                other => {
                    self.end(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.visit_tokens(group.stream());
                    }
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if !path.is_empty() {
            self.found.push(path);
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let cfg = attribute.path().is_ident("cfg");
        cfg && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// The circles: sets of files in which each file leads to every other.
fn circles(edges: &Edges) -> Vec<BTreeSet<PathBuf>> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        edges.keys().map(|from| (from, reach(from, edges))).collect();
    let mut circles: Vec<BTreeSet<PathBuf>> = Vec::new();
    for (from, to) in &reached {
        let leads_back = |file: &&&PathBuf| reached.get(**file).is_some_and(|back| back.contains(from));
        let circle: BTreeSet<PathBuf> = to.iter().filter(leads_back).map(|file| (*file).clone()).collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

fn reach<'e>(from: &PathBuf, edges: &'e Edges) -> BTreeSet<&'e PathBuf> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for next in edges.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

fn told(circle: &BTreeSet<PathBuf>, edges: &Edges) -> String {
    let lines: Vec<String> = circle
        .iter()
        .map(|file| {
            let inside = edges[file].iter().filter(|(to, _)| circle.contains(*to));
            let inside: Vec<String> = inside
                .map(|(to, names)| {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    format!("{} ({})", to.display(), names.join(", "))
                })
                .collect();
            format!("    {} -> {}", file.display(), inside.join(", "))
        })
        .collect();
    format!("{} files\n{}", circle.len(), lines.join("\n"))
}
