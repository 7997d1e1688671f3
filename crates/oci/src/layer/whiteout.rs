//! Deletions, as overlay marks them in directories (with `userxattr`) and as archives name them.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Stat};

/// Overlay's mark of a directory that hides the one below it, with `userxattr`.
pub(crate) const OPAQUE: &str = "user.overlay.opaque";

/// Names with this prefix in an archive delete what is below (OCI image specification, `layer.md`).
pub(crate) const WHITEOUT: &[u8] = b".wh.";

/// Marks the directory that contains it as opaque.
pub(crate) const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// Whether overlay takes this file as a deletion of what is below.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether overlay hides what is below this directory.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let mut value = [0u8; 1];
    // ENODATA is the usual case; a longer value is not overlay's.
    matches!(rustix::fs::fgetxattr(dir, OPAQUE, &mut value[..]), Ok(1)) && value[0] == b'y'
}

/// Whether layers carry the attribute: user attributes except overlay's own, and file capabilities.
pub(crate) fn is_image_xattr(name: &str) -> bool {
    name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."))
}
