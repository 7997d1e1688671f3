//! What a build needs from outside: the store, sources of images and files, and who is told.

use std::sync::Arc;

use crossdock_oci::store::{LayerOptions, Store};
use crossdock_oci::{Descriptor, Digest, Reference};
use crossdock_platform::Platform;
use crossdock_sandbox::Emulator;

use crate::away::order::Task;
use crate::error::ErrorKind;
use crate::event::{Events, StepId};
use crate::failed::FirstFailed;
use crate::git::GitSource;
use crate::secrets::Secrets;
use crate::solver::cache::{CachedStep, Imported};
use crate::solver::flights::Shared;
use crate::solver::layer::Record;
use crate::solver::stop::{LayerSink, Stop};

/// Where base images come from.
pub trait Images: Sync {
    /// The manifest of `reference` for `platform`; its blobs are then in the store. With `pull` the registry
    /// is asked even if the store knows the name. The error is a sentence for the user.
    fn resolve(&self, reference: &Reference, platform: &Platform, pull: bool) -> Result<Descriptor, String>;

    /// Downloads `url` for ADD to a file of the store's temporary directory, and returns its path and the
    /// time of `Last-Modified` in seconds since 1970.
    fn download(&self, url: &str, to: &std::path::Path) -> Result<Option<i64>, String>;

    /// Brings the files of a directory of the request to their place, if they are not there yet: called
    /// before these paths in it are read; none are the whole directory. The error is a sentence for the user.
    fn ready(&self, directory: &std::path::Path, paths: &[String]) -> Result<(), String> {
        let _ = (directory, paths);
        Ok(())
    }

    /// Brings a layer of [`Environment::imported`] into the store.
    fn layer(&self, layer: &Descriptor) -> Result<(), String>;

    /// Checks a repository out for ADD into an empty directory, with or without `.git`, and returns the
    /// commit. `secrets` may open it.
    fn checkout(
        &self,
        source: &GitSource,
        keep_git: bool,
        to: &std::path::Path,
        secrets: &dyn Secrets,
    ) -> Result<String, String>;
}

/// What the engine needs from outside.
pub struct Environment<'a> {
    /// The store.
    pub store: &'a Store,
    /// Base images.
    pub images: &'a dyn Images,
    /// Takes progress.
    pub events: &'a dyn Events,
    /// Results of other builds.
    pub imported: &'a Imported,
    /// How layers are written.
    pub layers: LayerOptions,
    /// Receives layers while they are written.
    pub sink: Option<&'a dyn LayerSink>,
    /// Secrets and SSH agents.
    pub secrets: &'a dyn Secrets,
    /// Ends the build from outside.
    pub stop: Arc<Stop>,
    /// What this build has in common with other builds of the same process.
    pub shared: &'a Shared,
    /// The emulator for a platform that this machine does not run itself. The error is a sentence for the
    /// user.
    pub emulator: &'a (dyn Fn(&Platform) -> Result<Emulator, String> + Sync),
    /// Other machines that execute commands.
    pub farm: Option<&'a dyn Farm>,
    /// Keeps the first command that fails, with its files.
    pub failed: Option<&'a FirstFailed>,
}

/// The result of a step on another machine. Nothing of it is verified yet.
pub struct Elsewhere {
    /// What that machine says of it.
    pub record: Record,
    /// Brings the layer into the store, and verifies it: what the store then has under the record's names is
    /// that. The error ends a sentence.
    pub fetch: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Whether that has been done already, so that it takes no time.
    pub is_here: bool,
}

/// The result of a step that was executed here, for other machines.
pub struct MadeHere<'a> {
    /// The digest under which they ask for it.
    pub under: &'a Digest,
    /// The step's key, if they cannot tell it before they have the result.
    pub key: Option<&'a Digest>,
    /// The result.
    pub record: Record,
    /// Whether its layer is sent. If not, the result is noted if the layer gets there in another way.
    pub is_sent: bool,
}

/// Consecutive steps whose keys can be told before their results: a chain.
pub struct Chain<'a> {
    /// The keys of those that are not known here, in their order.
    pub keys: &'a [Digest],
    /// The key of the last step, known here or not. It depends on all keys before it, so it names the chain
    /// on every machine, wherever in it that machine begins to ask.
    pub last: &'a Digest,
    /// Whether layers will be fetched.
    pub are_wanted: bool,
}

/// Other machines that execute commands.
pub trait Farm: Send + Sync {
    /// Asks for the results of steps that will most likely be looked up next, all at once and without
    /// waiting.
    fn ask(&self, env: &Environment<'_>, chain: Chain<'_>);

    /// Whether the result of the step with this key was asked for a moment ago.
    fn is_asked(&self, key: &Digest) -> bool;

    /// The result of the step with this key, if it is known there: at most one request. What goes wrong is
    /// told as a warning.
    fn known(&self, env: &Environment<'_>, key: &Digest, step: StepId) -> Option<Elsewhere>;

    /// Executes a step there: gives its result, and whether it was known there; or `None` if the step has to
    /// be executed here.
    ///
    /// # Errors
    ///
    /// The command failed, or the build ended. Whatever else goes wrong is told as a warning.
    fn carry_out(
        &self,
        env: &Environment<'_>,
        task: &Task<'_>,
    ) -> Result<Option<(Elsewhere, bool)>, ErrorKind>;

    /// The key of a step whose result was shared with [`MadeHere::key`]. [`Farm::known`] then gives the
    /// result without a request.
    fn key_of(&self, env: &Environment<'_>, under: &Digest, step: StepId) -> Option<Digest>;

    /// Shares a result. What goes wrong is told at the end.
    fn share(&self, env: &Environment<'_>, made: MadeHere<'_>);

    /// Shares the results of a chain that was asked for, as far as they are known here now, under the key of
    /// its last step. Layers are not sent for it. What goes wrong is told at the end.
    fn share_chain(&self, env: &Environment<'_>, last: &Digest, steps: Vec<CachedStep>);

    /// Ends what was begun in the background, and tells what went wrong. Called when nothing is fetched any
    /// more.
    fn settle(&self, env: &Environment<'_>);

    /// Cancels what is under way there; nothing more begins.
    fn cancel_all(&self);
}
