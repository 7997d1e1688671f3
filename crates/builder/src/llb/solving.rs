//! One solve under way: trees that operations make, and steps of the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Scope as Threads;

use crossdock_dockerfile::ignore::Ignore;
use crossdock_oci::Digest;
use crossdock_oci::store::{Scratch, Store, TemporaryDirectory};

use super::graph::{Edge, Graph, Op};
use crate::error::ErrorKind;
use crate::event::{Event, StepId};
use crate::files::copy::{self, CopyOptions, Placement};
use crate::files::tree::Tree;
use crate::solver::engine::{Engine, How, Reach};
use crate::solver::flights::Promise;
use crate::solver::key::{Key, Part};
use crate::solver::layer::{Layer, open_root, trees_of};

/// The trees that an operation made, by the numbers of its outputs; `None` if it or another one failed.
pub(super) type Outputs = Option<Arc<BTreeMap<usize, Value>>>;

/// A tree of files.
#[derive(Clone)]
pub(super) struct Value {
    /// Names everything that the tree depends on.
    pub digest: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Made>,
    /// A directory that is not a layer yet; there are no layers then.
    pub directory: Option<Arc<Directory>>,
    /// The step that made the last change.
    pub made_by: Option<StepId>,
}

/// A layer with its line of history.
#[derive(Clone)]
pub(super) struct Made {
    pub layer: Layer,
    pub created: Option<String>,
    pub created_by: String,
}

/// Files of this machine.
pub(super) struct Directory {
    pub path: PathBuf,
    /// User and group of all files.
    pub owner: (u32, u32),
    /// Removed with the value.
    pub _temporary: Option<TemporaryDirectory>,
}

impl Value {
    /// The tree without files.
    pub fn empty() -> Value {
        Value { digest: Digest::of(b""), layers: Vec::new(), directory: None, made_by: None }
    }

    /// Directories for overlay, the lowest first.
    ///
    /// # Errors
    ///
    /// As [`Layer::tree`].
    pub fn lower(&self, store: &Store) -> Result<Vec<PathBuf>, ErrorKind> {
        trees_of(store, self.layers.iter().map(|made| &made.layer))
    }
}

/// The step that an operation is, as it was announced.
pub(super) struct Current<'a> {
    pub op: &'a Op,
    pub step: StepId,
    /// Whether all results were known so far.
    pub is_cached: std::cell::Cell<bool>,
}

/// How a tree is made from another.
pub(super) struct Change<'a> {
    pub base: &'a Value,
    /// Digest of everything that the result depends on, and its parts.
    pub key: (Digest, Vec<Part>),
    /// Whether the result may differ each time.
    pub varies: bool,
}

/// One solve.
pub(super) struct Solving<'scope, 'env, 'a> {
    pub engine: &'scope Engine<'a>,
    pub threads: &'scope Threads<'scope, 'env>,
    pub graph: &'scope Graph,
    /// Of each operation.
    pub promises: &'scope [Promise<Outputs>],
}

impl Solving<'_, '_, '_> {
    /// The tree of an input.
    ///
    /// # Errors
    ///
    /// Its operation has failed, or has no such output.
    pub fn value(&self, edge: Option<Edge>) -> Result<Value, ErrorKind> {
        let Some(Edge { op, output }) = edge else { return Ok(Value::empty()) };
        let outputs = self.promises[op].wait().ok_or(ErrorKind::Cancelled)?;
        let message = || format!("the operation \"{}\" has no output {output}", self.graph.ops[op].name);
        outputs.get(&output).cloned().ok_or_else(|| ErrorKind::Dockerfile(message()))
    }

    /// Executes or looks up a change, which makes a layer.
    pub fn change(
        &self,
        current: &Current<'_>,
        Change { base, key: (key, parts), varies }: Change<'_>,
        execute: &mut dyn FnMut(&Scratch) -> Result<(), ErrorKind>,
    ) -> Result<Value, ErrorKind> {
        let engine = self.engine;
        let mut place = Key::new("place of an operation", &Digest::of(b""));
        place.field(&current.op.name).field(current.op.platform.to_string());
        let place = place.finish();
        let use_cache = !current.op.ignore_cache && !engine.settings.no_cache;
        let how = How {
            use_cache,
            varies,
            is_in_image: false,
            needs_tree: true,
            // Which layers the image gets is only known at the end.
            needs_archive: engine.settings.needs_images,
            later: None,
            place: (&place, &parts),
            reach: Reach::Here,
        };
        let (result, is_known) = engine.step(self.threads, &key, how, current.step, execute)?;
        if !is_known {
            current.is_cached.set(false);
        }
        let mut value = base.clone();
        value.digest = result.digest(key);
        value.made_by = Some(current.step);
        let created_by = current.op.name.clone();
        value.layers.extend(result.layer.map(|layer| Made {
            layer,
            created: Some(result.created.clone()),
            created_by,
        }));
        Ok(value)
    }

    /// The same tree in layers.
    pub fn layered(&self, current: &Current<'_>, value: &Value) -> Result<Value, ErrorKind> {
        let Some(directory) = &value.directory else { return Ok(value.clone()) };
        let mut key = Key::new("directory", &value.digest);
        key.field("as a layer");
        let options = self.options_of(value);
        let tree = open(directory)?;
        let start = entry(&tree, "")?;
        let change = Change { base: &Value::empty(), key: self.engine.timed(key), varies: false };
        self.change(current, change, &mut |scratch| {
            let stack = open_root(scratch, &[])?;
            copy::copy(&tree, &start, stack.root(), b"", Placement::Exact, &options)?;
            Ok(stack.finish()?)
        })
    }

    /// Files of the value for reading; `None` if it is empty.
    pub fn tree(&self, value: &Value) -> Result<Option<Tree>, ErrorKind> {
        if let Some(directory) = &value.directory {
            return open(directory).map(Some);
        }
        if value.layers.is_empty() {
            return Ok(None);
        }
        let view = self.engine.view(&value.lower(self.engine.env.store)?)?;
        let root = view.root().try_clone().map_err(|e| ErrorKind::io("use a root again", e))?;
        Ok(Some(Tree::new(root)))
    }

    /// How files of a value are copied unless somebody wants it otherwise.
    pub fn options_of(&self, value: &Value) -> CopyOptions {
        CopyOptions {
            owner: value.directory.as_ref().map(|directory| directory.owner),
            xattrs: value.directory.is_none(),
            mtime_max: self.engine.settings.source_date_epoch,
            ..CopyOptions::default()
        }
    }

    /// Reports what a step depends on.
    pub fn keyed(&self, current: &Current<'_>, digest: &Digest, inputs: &[&Value]) {
        let mut steps: Vec<StepId> = inputs.iter().filter_map(|value| value.made_by).collect();
        steps.sort_unstable();
        steps.dedup();
        let event = Event::Keyed { step: current.step, digest: digest.clone(), inputs: steps };
        self.engine.env.events.event(event);
    }
}

fn open(directory: &Directory) -> Result<Tree, ErrorKind> {
    Tree::open(&directory.path, Ignore::default())
        .map_err(|e| ErrorKind::io(format!("open {}", directory.path.display()), e))
}

/// The entry at a path, links followed inside the tree.
pub(super) fn entry(tree: &Tree, path: &str) -> Result<crate::files::tree::Entry, ErrorKind> {
    tree.entry(path).map_err(|e| ErrorKind::io(format!("open \"/{path}\""), e))
}
