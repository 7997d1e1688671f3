//! How much build cache may stay.

use crate::error::{Result, free_space};
use crate::store::Store;

/// What limits the build cache, in bytes, as BuildKit's options of garbage collection have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Build cache that always stays.
    pub reserved_space: Option<u64>,
    /// Build cache that may stay at most.
    pub max_used_space: Option<u64>,
    /// Room that there shall be on the store's disk, as far as removing build cache makes it.
    pub min_free_space: Option<u64>,
}

impl Keep {
    /// Build cache that may stay in a store, in bytes. `None` if there is no limit.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn bytes(&self, store: &Store) -> Result<Option<u64>> {
        let Some(wanted) = self.min_free_space else { return Ok(self.of(0, 0)) };
        let missing = wanted.saturating_sub(free_space(store.root()));
        let used = if missing > 0 { store.disk_usage()?.build_cache.bytes } else { 0 };
        Ok(self.of(used, missing))
    }

    /// The same, where `used` bytes are build cache, and `missing` bytes more shall be free.
    fn of(&self, used: u64, missing: u64) -> Option<u64> {
        let room = match (self.min_free_space, missing) {
            (None, _) => None,
            (Some(_), 0) => Some(u64::MAX),
            (Some(_), missing) => Some(used.saturating_sub(missing)),
        };
        let most = match (self.max_used_space, room) {
            (Some(max), Some(room)) => Some(max.min(room)),
            (max, room) => max.or(room),
        };
        most.max(self.reserved_space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_down_to_what_is_reserved() {
        let keep = |reserved, max, free, missing| {
            let limits = Keep { reserved_space: reserved, max_used_space: max, min_free_space: free };
            limits.of(100, missing)
        };
        assert_eq!(keep(None, None, None, 0), None);
        assert_eq!(keep(Some(5), None, None, 0), Some(5));
        assert_eq!(keep(Some(5), Some(30), None, 0), Some(30));
        assert_eq!(keep(Some(50), Some(30), None, 0), Some(50));
        // There is room enough: nothing needs to go.
        assert_eq!(keep(None, None, Some(7), 0), Some(u64::MAX));
        assert_eq!(keep(None, Some(30), Some(7), 0), Some(30));
        assert_eq!(keep(None, None, Some(7), 20), Some(80));
        assert_eq!(keep(None, None, Some(7), 200), Some(0));
        assert_eq!(keep(Some(40), None, Some(7), 200), Some(40));
        assert_eq!(keep(Some(40), Some(60), Some(7), 20), Some(60));
    }
}
