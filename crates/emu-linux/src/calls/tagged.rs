//! Pointers with a tag in their top byte, which a thread may pass to system calls after it has enabled them
//! (PR_SET_TAGGED_ADDR_CTRL; Linux, Documentation/arch/arm64/tagged-address-abi.rst). The host knows no tags:
//! they are removed, from pointers in memory too. So is bit 47 of programs that want addresses of 48 bits
//! ([`region::is_stack_high`]).

use crate::arch::call::Call;
use crate::guest;
use crate::region;
use crate::sys::{Errno, errno};
use alloc::vec::Vec;

/// Largest number of pieces of an iovec (Linux, UIO_MAXIOV).
const PIECES_MAX: u64 = 1024;

/// A pointer of the user's half without its tag, as the host knows it.
pub(super) fn without_tag(address: u64) -> u64 {
    const USER_HALF: u64 = 1 << 55;
    if address & USER_HALF == 0 { region::without_alias(address & ((1 << 56) - 1)) } else { address }
}

/// A pointer in memory, for the kernel: without its tag, and not to the emulator's memory. It is not checked
/// again.
fn pointer(address: u64) -> u64 {
    region::harmless(without_tag(address))
}

/// Structures in the emulator's memory that replace the guest's in one call.
#[derive(Default)]
pub(super) struct Copies {
    vectors: [Vec<u64>; 2],
    message: Option<(u64, [u64; 7])>,
}

/// Removes the tags of pointers that a call finds in memory: the arguments, already without tags, then lead
/// to copies, in which no pointer leads to the emulator's memory. False for calls without such pointers.
pub(super) fn untag(call: Call, a: &mut [u64; 6], copies: &mut Copies) -> bool {
    match call {
        // The kernel removes the tags of these calls' addresses, enabled or not.
        Call::Range | Call::Mprotect | Call::Munmap => {
            a[0] = without_tag(a[0]);
        }
        Call::Readv | Call::Writev | Call::Pwritev => {
            vector(&mut a[1..3], &mut copies.vectors[0]);
        }
        Call::ProcessVm => {
            let [local, remote] = &mut copies.vectors;
            vector(&mut a[1..3], local);
            vector(&mut a[3..5], remote);
        }
        Call::Sendmsg | Call::Recvmsg => {
            // struct msghdr: name, its length, iovec, its count, control data, its length, flags.
            let Ok(mut words) = guest::read_words::<7>(a[1]) else { return true };
            words[0] = pointer(words[0]);
            words[4] = pointer(words[4]);
            vector(&mut words[2..4], &mut copies.vectors[0]);
            let (_, message) = copies.message.insert((a[1], words));
            a[1] = message.as_ptr() as u64;
        }
        _ => return false,
    }
    true
}

/// Copies the fields that the kernel has written to a copy of a msghdr back to the guest: lengths and flags.
pub(super) fn give_back(call: Call, copies: &Copies) -> Result<(), Errno> {
    match &copies.message {
        Some((at, words)) if call == Call::Recvmsg => {
            for n in [1, 5, 6] {
                guest::write64(at.wrapping_add(8 * n), words[n as usize]).map_err(|_| errno::EFAULT)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Replaces an iovec, `pair[0]` with `pair[1]` pieces, by a copy if the address of a piece changes. One that
/// the kernel refuses is left alone.
fn vector(pair: &mut [u64], copy: &mut Vec<u64>) {
    pair[0] = pointer(pair[0]);
    if pair[1] > PIECES_MAX {
        return;
    }
    let mut changes = false;
    for n in 0..pair[1] {
        let Ok([base, length]) = guest::read_words::<2>(pair[0].wrapping_add(16 * n)) else { return };
        changes |= pointer(base) != base;
        copy.extend([pointer(base), length]);
    }
    if changes {
        pair[0] = copy.as_ptr() as u64;
    }
}
