//! For tests only: temporary stores and tiny images made from entries in memory.
//!
//! Functions panic with what went wrong: in a test there is nobody to hand an error to.

#![forbid(unsafe_code)]

pub mod actions;
mod block_blob;
pub mod bucket;
pub mod container;
#[cfg(feature = "farm")]
pub mod farm;
pub mod foreign;
pub mod hostile;
mod http;
pub mod image;
pub mod peer;
pub mod store;
mod user;

pub use actions::ActionsService;
pub use bucket::TestBucket;
pub use container::TestContainers;
pub use image::{LayerTar, TinyImage};
pub use peer::DockerRegistry;
pub use store::TempStore;
pub use user::test_user;

/// An owner that this process may give to files: `wanted`, or a smaller one if the user namespace has fewer.
pub fn usable_id(wanted: u32) -> u32 {
    let map = std::fs::read_to_string("/proc/self/uid_map").expect("Linux has it");
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    let total = u32::try_from(counts.sum::<u64>()).unwrap_or(u32::MAX);
    if wanted < total { wanted } else { wanted % total }
}
