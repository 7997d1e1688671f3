//! Options of buildah and docker that change a finished image: its layers, its history, and what its
//! configuration says (buildah-build(1), docker-build(1)).

use std::path::PathBuf;

use anyhow::{Result, bail};
use crossdock_builder::{Base, Built};
use crossdock_oci::config::History;
use crossdock_oci::layer::write_squashed;
use crossdock_oci::store::LayerOptions;
use crossdock_oci::{Image, ImageConfig, Store};

#[derive(clap::Args)]
pub struct AmendArgs {
    /// Make one layer of all layers above the base image
    #[arg(long)]
    pub squash: bool,
    /// Make one layer of all layers
    #[arg(long)]
    pub squash_all: bool,
    /// Leave the history of the image empty
    #[arg(long)]
    pub omit_history: bool,
    /// Variable of the finished image; NAME alone takes it from here
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Variable that the finished image must not have
    #[arg(long = "unsetenv", value_name = "NAME", value_delimiter = ',')]
    pub unset_env: Vec<String>,
    /// Label that the finished image must not have
    #[arg(long = "unsetlabel", value_name = "NAME", value_delimiter = ',')]
    pub unset_labels: Vec<String>,
}

impl AmendArgs {
    /// Whether layers of the build are not layers of the image.
    pub fn squashes(&self) -> bool {
        self.squash || self.squash_all
    }

    fn changes_something(&self) -> bool {
        self.squashes()
            || self.omit_history
            || !(self.env.is_empty() && self.unset_env.is_empty() && self.unset_labels.is_empty())
    }
}

/// Changes the images of a build, and its index.
///
/// # Errors
///
/// A variable without a name; errors of the store.
pub fn amend(store: &Store, built: &mut Built, args: &AmendArgs, layers: &LayerOptions) -> Result<()> {
    if !args.changes_something() {
        return Ok(());
    }
    built.change_images(store, |of, image| {
        if args.squashes() {
            let base = if args.squash_all { Base::default() } else { of.base };
            squash(store, &of.trees(store)?, image, base, layers)?;
        }
        if args.omit_history {
            image.config_mut().history.clear();
        }
        configure(image.config_mut(), args)
    })?;
    Ok(built.renew_index(store, |_| {})?)
}

/// Makes one layer of those above `base`; `trees` has the files of each layer.
fn squash(
    store: &Store,
    trees: &[PathBuf],
    image: &mut Image,
    base: Base,
    layers: &LayerOptions,
) -> Result<()> {
    let all = image.manifest().layers.len();
    let count = all.saturating_sub(base.layers);
    if count < 2 || trees.len() != all {
        return Ok(());
    }
    let (below, trees) = trees.split_at(base.layers);
    let (diff_id, layer, _) =
        store.write_layer_blob(layers, |writer| write_squashed(trees, below, layers.timestamps, writer))?;
    image.squash(base.layers, layer, diff_id);
    let config = image.config_mut();
    // The instructions stay, without layers; the last entry is that of the layer.
    config.history.iter_mut().skip(base.history).for_each(|entry| entry.empty_layer = Some(true));
    config.history.push(History {
        created: config.created.clone(),
        comment: Some(format!("{count} layers squashed into one")),
        ..History::default()
    });
    Ok(())
}

fn configure(config: &mut ImageConfig, args: &AmendArgs) -> Result<()> {
    let process = &mut config.config;
    let is_of = |entry: &str, name: &str| entry.split('=').next() == Some(name);
    for text in &args.env {
        let name = text.split('=').next().unwrap_or_default();
        if name.is_empty() {
            bail!("--env {text}: no name stands before \"=\"");
        }
        let entry = match text.contains('=') {
            true => Some(text.clone()),
            false => std::env::var(text).ok().map(|value| format!("{text}={value}")),
        };
        let Some(entry) = entry else { continue };
        match process.env.iter_mut().find(|old| is_of(old, name)) {
            Some(old) => *old = entry,
            None => process.env.push(entry),
        }
    }
    process.env.retain(|entry| !args.unset_env.iter().any(|name| is_of(entry, name)));
    if let Some(labels) = &mut process.labels {
        labels.retain(|name, _| !args.unset_labels.contains(name));
    }
    process.labels = process.labels.take().filter(|labels| !labels.is_empty());
    Ok(())
}
