//! Owners of unpacked files.

/// Whether unpacked files get the owners that their archive names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// As the archive says; needs a user namespace with ranges of ids, or root.
    #[default]
    Keep,
    /// This user and group, whatever the archive says.
    Given(u32, u32),
    /// All files belong to the process: a namespace with a single id cannot do better.
    Ignore,
}
