//! Whole images between a registry and a store.

mod parallel;
mod pull;
mod push;

pub use pull::{LayerReady, Platforms, PullOptions, Pulled, pull};
pub use push::{PushOptions, Pushed, push, push_blob};
