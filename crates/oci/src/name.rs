//! Names that nobody else chooses.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Sixteen hexadecimal digits that no other process chooses: the standard library seeds each `RandomState`
/// from the system's random numbers, and callers create files of this name exclusively.
pub fn random_name() -> String {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u128(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_nanos()),
    );
    format!("{:016x}", hasher.finish())
}
