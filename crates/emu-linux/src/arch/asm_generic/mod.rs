//! What Linux gives all newer 64-bit architectures (include/uapi/asm-generic): call numbers and layouts. The
//! host, x86-64, is older and has its own.

mod rows;

pub use rows::{ROWS, SINCE_5_1, SINCE_5_1_WIDE};

use super::HostStat;
use crate::guest;
use crate::sys::Errno;

/// Writes the host's struct stat as the generic one, of 16 words (include/uapi/asm-generic/stat.h).
pub fn put_stat(s: &HostStat, at: u64) -> Result<(), Errno> {
    let words = [
        s[0],
        s[1],
        s[3] & 0xffff_ffff | s[2] << 32,
        s[3] >> 32 | s[4] << 32,
        s[5],
        0,
        s[6],
        s[7] & 0xffff_ffff,
        s[8],
        s[9],
        s[10],
        s[11],
        s[12],
        s[13],
        s[14],
        0,
    ];
    guest::write_words(at, &words)
}
