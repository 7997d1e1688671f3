//! siginfo_t of 32-bit programs (Linux, include/uapi/asm-generic/siginfo.h): the same fields as the host's,
//! from offset 12 on instead of 16, with pointers and `long`s of 4 bytes.

use crate::shared::SigInfo;
use crate::signal::number::{BUS, CHLD, FPE, ILL, SEGV, SYS, TRAP};

/// Bytes of a siginfo_t.
const SIZE: usize = 128;
const SI_TIMER: i32 = -2;
const BUS_MCEERR_AR: i32 = 4;
const BUS_MCEERR_AO: i32 = 5;
/// SIGPOLL.
const POLL: u32 = 29;

/// The fields after si_code, as the host's words of 4 bytes that are kept, in their order.
fn fields(signal: u32, code: i32) -> &'static [usize] {
    // Words 4 and on are those of the union; a pointer or a long is two of them.
    match code {
        // Id, overrun, value.
        SI_TIMER => &[4, 5, 6],
        // SIGPOLL's band and descriptor.
        1..0x80 if signal == POLL => &[4, 6],
        // The child's number, user, status, times.
        1..0x80 if signal == CHLD => &[4, 5, 6, 8, 10],
        // The address of the call, its number, the architecture.
        1..0x80 if signal == SYS => &[4, 6, 7],
        // The address, and how many of its bits count.
        BUS_MCEERR_AR | BUS_MCEERR_AO if signal == BUS => &[4, 6],
        // The address, whose high half is 0; or, if this signal tells of a child's end, as for SIGCHLD.
        1..0x80 if [SEGV, BUS, ILL, FPE, TRAP].contains(&signal) => &[4, 5, 6, 8, 10],
        // Sender, user, and a value of sigqueue(3).
        _ => &[4, 5, 6],
    }
}

/// From the host's form.
pub(super) fn narrow(info: &SigInfo) -> [u8; SIZE] {
    let word = |n: usize| (info[n / 2] >> (32 * (n % 2))) as u32;
    let (signal, code) = (word(0), word(2) as i32);
    let mut bytes = [0; SIZE];
    let kept = [0, 1, 2].iter().chain(fields(signal, code));
    for (to, &from) in bytes.chunks_exact_mut(4).zip(kept) {
        to.copy_from_slice(&word(from).to_le_bytes());
    }
    bytes
}

/// To the host's form.
pub(super) fn widen(bytes: &[u8; SIZE]) -> SigInfo {
    let word =
        |n: usize| u32::from_le_bytes([bytes[4 * n], bytes[4 * n + 1], bytes[4 * n + 2], bytes[4 * n + 3]]);
    let (signal, code) = (word(0), word(2) as i32);
    let mut info = SigInfo::default();
    for (from, &to) in (0..).zip([0, 1, 2].iter().chain(fields(signal, code))) {
        info[to / 2] |= u64::from(word(from)) << (32 * (to % 2));
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_agree() {
        let mut info = SigInfo::default();
        (info[0], info[1], info[2]) = (u64::from(SEGV), 2, 0x1234_5678);
        let bytes = narrow(&info);
        assert_eq!(bytes[12..16], 0x1234_5678u32.to_le_bytes());
        assert_eq!(widen(&bytes), info);
    }
}
