//! Seccomp filters.

/// Placeholder.
pub(crate) fn filter(_sandbox: bool, _single: bool) -> Option<Vec<libc::sock_filter>> {
    None
}
