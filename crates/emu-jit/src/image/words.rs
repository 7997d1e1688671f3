//! The words in front of an image's code, which each process fills in for itself.

/// The first words, counted downwards from the code: word 0 ends where the code begins.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Word {
    /// The address of the guest that the image's offset 0 has in this process.
    Base,
    /// Address of the thunk that leaves generated code.
    Exit,
    /// Address of the thunk for branches that the first level of the jump cache does not know.
    Indirect,
    /// Address of the thunk that runs an instruction in the interpreter, given a word from [`RECORDS`] on.
    Fallback,
    /// Address of the thunk for branches to the address in rax.
    ByCache,
}

/// The number of the first word that holds the address of a record, or 0 while nobody has needed the record.
pub const RECORDS: u32 = 8;

/// Bytes of a word.
pub const SIZE: u32 = 8;

/// Where a word lies, in bytes from the start of the code.
pub const fn offset(word: u32) -> i32 {
    -((SIZE * (word + 1)) as i32)
}

/// The word that lies `before` bytes in front of the code.
pub fn number(before: u64) -> Option<u32> {
    if before == 0 || !before.is_multiple_of(SIZE.into()) || before > i32::MAX as u64 {
        return None;
    }
    Some((before / u64::from(SIZE)) as u32 - 1)
}
