//! OCI images, indexes and layers, and the content store that keeps them.
//!
//! - [`digest`], [`mod@reference`], [`manifest`], [`config`]: the values of the OCI image and distribution
//!   specifications, with everything that is not understood kept as it was read;
//! - [`mod@image`]: an image that one may hold and change, to be written under its new digests;
//! - [`store`]: files named by their digest, images by reference *and platform*, unpacked layers, the build
//!   cache, garbage collection;
//! - [`layer`]: layers as archives and as directories in overlay form;
//! - [`archive`], [`validate`]: images in files, and whether an image holds together.
//!
//! This room knows neither HTTP nor processes.

#![forbid(unsafe_code)]

pub mod archive;
pub mod config;
mod cpus;
pub mod digest;
pub mod error;
pub mod image;
pub mod layer;
pub mod manifest;
pub mod media_type;
pub mod name;
pub mod reference;
pub mod size;
pub mod store;
pub mod validate;

pub use config::ImageConfig;
pub use cpus::cpus;
pub use digest::Digest;
pub use error::StoreError;
pub use image::Image;
pub use manifest::{Descriptor, Document, Index, Manifest};
pub use reference::Reference;
pub use store::Store;
