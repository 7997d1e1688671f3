//! Steps by key: known ones come from the cache, others are executed; layers are packed in the background.
//! Nothing here knows where steps come from.

pub mod cache;
pub(crate) mod engine;

pub mod environment;
pub(crate) mod fetching;
pub(crate) mod flights;
pub mod key;
pub(crate) mod layer;
pub(crate) mod packing;
pub(crate) mod recorded;
pub mod settings;
pub(crate) mod stop;
pub mod view;

pub use settings::{Settings, StepOptions};
