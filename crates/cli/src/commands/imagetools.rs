//! buildx imagetools: shows what a registry has under a name.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use crossdock_oci::{Descriptor, Document, Reference, Store};
use crossdock_platform::Platform;
use crossdock_registry::{Client, NoProgress};
use serde_json::{Map, Value, json};

use super::attested::{Places, provenance_and_sbom};
use super::listing;
use super::manifest::{document, read_config};
use crate::output::{print, print_bytes};
use crate::session::Session;
use crate::values;
use crossdock_delivery::source;

#[derive(Subcommand)]
pub enum ImagetoolsCommand {
    /// Show an image or index of a registry, else of the store
    Inspect {
        /// The name
        image: String,
        /// Show the manifest or index byte for byte
        #[arg(long)]
        raw: bool,
        /// A template such as '{{json .Manifest}}', '{{json .Provenance}}', '{{json .SBOM}}' or '{{.Name}}';
        /// .Image is the configuration; of an index for several platforms these are by platform
        #[arg(long, value_name = "FORMAT", conflicts_with = "raw")]
        format: Option<String>,
    },
}

pub fn imagetools(session: &Session, command: ImagetoolsCommand) -> Result<u8> {
    let ImagetoolsCommand::Inspect { image, raw, format } = command;
    inspect(session, &image, raw, format.as_deref())
}

/// A manifest or index, and the store and registry that have its other parts.
struct Inspected<'a> {
    store: &'a Store,
    client: Client,
    reference: Reference,
    bytes: Vec<u8>,
    descriptor: Descriptor,
}

fn inspect(session: &Session, image: &str, raw: bool, format: Option<&str>) -> Result<u8> {
    let store = session.store()?;
    let client = session.client(Arc::new(NoProgress))?;
    let reference = values::reference(image)?;
    // As in docker, the registry comes first, since what was pushed matters. Names that only the store has
    // are shown, too.
    let fetched = if source::is_id(image) { None } else { Some(client.manifest(&reference)) };
    let (bytes, media_type) = match fetched {
        Some(Ok(fetched)) => (fetched.bytes, fetched.media_type),
        Some(Err(error)) => match source::find(&store, image, None) {
            Ok(_) => document(session, &store, image)?,
            Err(_) => return Err(error.into()),
        },
        None => document(session, &store, image)?,
    };
    if raw {
        return print_bytes(&bytes).map(|()| 0);
    }
    let descriptor = Descriptor::of(&media_type, &bytes);
    let inspected = Inspected { store: &store, client, reference, bytes, descriptor };
    match format {
        None => inspected.text()?,
        Some(template) => print(&listing::filled_json(template, &inspected.value(template)?)?),
    }
    Ok(0)
}

impl Inspected<'_> {
    fn document(&self) -> Result<Document> {
        Ok(Document::parse(&self.bytes, Some(&self.descriptor.media_type))?)
    }

    fn text(&self) -> Result<()> {
        let name = |digest| self.reference.with_digest(digest).to_string();
        print(&format!("Name:      {}", self.reference));
        print(&format!("MediaType: {}", self.descriptor.media_type));
        print(&format!("Digest:    {}", self.descriptor.digest));
        let Document::Index(index) = self.document()? else { return Ok(()) };
        print("\nManifests:");
        for entry in &index.manifests {
            let platform = entry.platform.as_ref().map_or("unknown".to_string(), Platform::to_string);
            print(&format!("  Name:      {}", name(entry.digest.clone())));
            print(&format!("  MediaType: {}", entry.media_type));
            print(&format!("  Platform:  {platform}"));
            for (name, value) in &entry.annotations {
                print(&format!("  Annotation: {name}={value}"));
            }
            print("");
        }
        Ok(())
    }

    /// The value that a template is filled with. Configurations are fetched only if the template asks for
    /// them.
    fn value(&self, template: &str) -> Result<Value> {
        let document = self.document()?;
        let mut manifest: Value = serde_json::from_slice(&self.bytes).context("read the manifest")?;
        if let Document::Manifest(_) = document {
            // For a single image docker shows its descriptor.
            manifest = json!({"mediaType": self.descriptor.media_type});
        }
        manifest["digest"] = json!(self.descriptor.digest);
        manifest["size"] = json!(self.descriptor.size);
        // Members have both spellings: that of JSON, and that of Go's fields.
        for (member, field) in
            [("mediaType", "MediaType"), ("digest", "Digest"), ("size", "Size"), ("manifests", "Manifests")]
        {
            let wants = template.contains(&format!(".{field}")) && !manifest[member].is_null();
            if wants {
                manifest[field] = manifest[member].clone();
            }
        }
        let image = match template.contains(".Image") || template.contains("json .}") {
            true => self.configurations(&document)?,
            false => Value::Null,
        };
        let (provenance, sbom) = match &document {
            Document::Index(index) if template.contains(".Provenance") || template.contains(".SBOM") => {
                let places = Places { store: self.store, client: &self.client, reference: &self.reference };
                provenance_and_sbom(&places, index)?
            }
            _ => (json!({}), json!({})),
        };
        Ok(json!({
            "Name": self.reference.to_string(), "Manifest": manifest, "Image": image,
            "Provenance": provenance, "SBOM": sbom,
        }))
    }

    /// The configuration of an image, also of the only one in an index; else the configurations of all images
    /// of an index, by platform.
    fn configurations(&self, document: &Document) -> Result<Value> {
        match document {
            Document::Manifest(manifest) => self.configuration(&self.reference, &manifest.config),
            Document::Index(index) => {
                let mut all = Map::new();
                for entry in index.images() {
                    let child = self.reference.with_digest(entry.digest.clone());
                    let bytes = match self.store.contains(&entry.digest)? {
                        true => self.store.read_descriptor(entry)?,
                        false => self.client.manifest(&child)?.bytes,
                    };
                    let Document::Manifest(manifest) = Document::parse(&bytes, Some(&entry.media_type))?
                    else {
                        bail!("{child} is an index in an index");
                    };
                    let platform = entry.platform.as_ref().map_or("unknown".to_string(), Platform::to_string);
                    all.insert(platform, self.configuration(&child, &manifest.config)?);
                }
                let only = (all.len() == 1).then(|| all.values_mut().next().map(Value::take));
                Ok(only.flatten().unwrap_or(Value::Object(all)))
            }
        }
    }

    fn configuration(&self, reference: &Reference, config: &Descriptor) -> Result<Value> {
        let bytes = match self.store.contains(&config.digest)? {
            true => self.store.read_descriptor(config)?,
            false => read_config(&self.client, reference, config)?,
        };
        serde_json::from_slice(&bytes).with_context(|| format!("read the configuration {}", config.digest))
    }
}
