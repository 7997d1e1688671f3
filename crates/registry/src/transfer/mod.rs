//! Whole images between a registry and a store.

mod copy;
mod parallel;
mod pull;
mod push;
mod referrers;
mod stream;

pub use copy::{Assembly, copy};
pub use pull::{LayerReady, Platforms, PullOptions, Pulled, pull};
pub use push::{PushOptions, Pushed, push, push_blob};
pub use referrers::WithReferrers;
pub use stream::Streams;
