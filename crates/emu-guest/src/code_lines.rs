//! Records the lines of memory from which code was ever read, so that IC IVAU of any other line costs
//! nothing.

use crate::memory::Memory;
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a line, as a power of two: what IC IVAU invalidates (CTR_EL0.IminLine).
pub(crate) const LINE_BITS: u32 = 6;
/// Bits of the table, one for each line of 128 MiB; lines that far apart share a bit. Neighbouring lines have
/// neighbouring bits, so that a program touches few pages of the table.
const LINES: usize = 1 << 21;

/// A set of lines, with a bit for each. Lines that share a bit are in the set together.
///
/// A thread that reads code marks its line first. A thread that changes code executes DSB after the change
/// and then asks (manual B2.4.4). So either the second thread sees the mark, or the first reads the new code.
#[derive(Debug)]
pub struct CodeLines {
    words: [AtomicU32; LINES / 32],
}

impl CodeLines {
    pub(crate) const fn new() -> Self {
        CodeLines { words: [const { AtomicU32::new(0) }; LINES / 32] }
    }

    /// For generated code: the bit of `address` is bit `address >> 6 & 31` of the word `address >> 11 & MASK`
    /// of this table.
    pub fn address(&self) -> u64 {
        self.words.as_ptr() as u64
    }

    /// See [`CodeLines::address`].
    pub const MASK: u32 = LINES as u32 / 32 - 1;

    fn place(&self, address: u64) -> (&AtomicU32, u32) {
        let line = address >> LINE_BITS;
        (&self.words[(line >> 5) as usize & Self::MASK as usize], 1 << (line & 31))
    }

    /// Records that code is about to be read from the line of `address`.
    #[inline(always)]
    pub fn mark(&self, address: u64) {
        let (word, bit) = self.place(address);
        if word.load(Ordering::Acquire) & bit == 0 {
            // All threads see the mark before the reads.
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Whether code may have been read from the line of `address`.
    pub fn has(&self, address: u64) -> bool {
        let (word, bit) = self.place(address);
        word.load(Ordering::SeqCst) & bit != 0
    }

    /// 16 bytes of code at a multiple of 16; `None` if they cannot be read.
    #[inline(always)]
    pub fn read(&self, memory: &Memory, address: u64) -> Option<[u32; 4]> {
        self.mark(address);
        let read = memory.load128(address).ok()?;
        Some(core::array::from_fn(|i| (read >> (32 * i)) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_code_once_it_is_marked_whatever_its_tag() {
        static LINES: CodeLines = CodeLines::new();
        LINES.mark(0x12_3456_7fff);
        assert!(LINES.has(0x12_3456_7fc0));
        assert!(LINES.has(0xff00_0012_3456_7fc4));
        assert!(!LINES.has(0x12_3456_7fbf));
        assert!(!LINES.has(0x12_3456_8000));
        // Nor does the end of the table.
        assert!(!LINES.has(u64::MAX));
        LINES.mark(u64::MAX);
        assert!(LINES.has(u64::MAX));
        let set: u32 = LINES.words.iter().map(|word| word.load(Ordering::SeqCst).count_ones()).sum();
        assert_eq!(set, 2);
    }
}
