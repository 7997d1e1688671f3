//! Pointers with a tag in their top byte, which a thread may pass to system calls after it has enabled them
//! (PR_SET_TAGGED_ADDR_CTRL; Linux, Documentation/arch/arm64/tagged-address-abi.rst). The host knows no tags:
//! they are removed, from pointers in memory too. So is bit 47 of programs that want addresses of 48 bits
//! ([`region::is_stack_high`]).

use crate::arch::call::Call;
use crate::guest;
use crate::region;
use crate::sys::Errno;
use alloc::vec::Vec;

/// Largest number of pieces of an iovec, and of messages of a call (Linux, UIO_MAXIOV).
const PIECES_MAX: u64 = 1024;

/// A pointer in memory, for the kernel: without its tag, and not to the emulator's memory. It is not checked
/// again.
fn pointer(address: u64) -> u64 {
    region::harmless(region::host_address(address))
}

/// Structures in the emulator's memory that replace the guest's in one call.
#[derive(Default)]
pub(super) struct Copies {
    vectors: [Vec<u64>; 2],
    /// Where the guest has the messages, and what replaces them.
    messages: (u64, Vec<[u64; MESSAGE_WORDS]>),
    /// The vectors of the messages.
    pieces: Vec<Vec<u64>>,
}

/// Words of a struct mmsghdr: name, its length, iovec, its count, control data, its length, flags; they are a
/// struct msghdr. The last one is the number of bytes of the message.
const MESSAGE_WORDS: usize = 8;

/// Removes the tags of pointers that a call finds in memory: the arguments, already without tags, then lead
/// to copies, in which no pointer leads to the emulator's memory. False for calls without such pointers.
pub(super) fn untag(call: Call, a: &mut [u64; 6], copies: &mut Copies) -> bool {
    match call {
        // The kernel removes the tags of these calls' addresses, enabled or not.
        Call::Range | Call::Mprotect | Call::Munmap => {
            a[0] = region::host_address(a[0]);
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
            let Ok(words) = guest::read_words::<7>(a[1]) else { return true };
            let mut message = [0; MESSAGE_WORDS];
            message[..7].copy_from_slice(&words);
            add_message(message, copies);
            a[1] = replace_messages(a[1], copies);
        }
        Call::Sendmmsg | Call::Recvmmsg => {
            // The kernel sends the messages before one that it cannot read.
            for n in 0..(a[2] & 0xffff_ffff).min(PIECES_MAX) {
                let Ok(message) = guest::read_words(a[1].wrapping_add(8 * MESSAGE_WORDS as u64 * n)) else {
                    break;
                };
                add_message(message, copies);
            }
            let count = copies.messages.1.len() as u64;
            if count > 0 {
                *a = [a[0], replace_messages(a[1], copies), count, a[3], a[4], a[5]];
            }
        }
        _ => return false,
    }
    true
}

/// Copies the fields that the kernel has written to copies of messages back to the guest: lengths and flags.
/// `result` is the call's, which for several messages is their number.
pub(super) fn give_back(call: Call, copies: &Copies, result: i64) -> Result<(), Errno> {
    let (fields, count): (&[usize], _) = match call {
        Call::Recvmsg => (&[1, 5, 6], 1),
        Call::Recvmmsg => (&[1, 5, 6, 7], result),
        Call::Sendmmsg => (&[7], result),
        _ => return Ok(()),
    };
    let (start, messages) = &copies.messages;
    for (n, message) in messages.iter().take(count as usize).enumerate() {
        for &field in fields {
            guest::write64(start.wrapping_add((8 * (MESSAGE_WORDS * n + field)) as u64), message[field])?;
        }
    }
    Ok(())
}

/// Adds a copy of a message, without tags.
fn add_message(mut message: [u64; MESSAGE_WORDS], copies: &mut Copies) {
    message[0] = pointer(message[0]);
    message[4] = pointer(message[4]);
    let mut pieces = Vec::new();
    vector(&mut message[2..4], &mut pieces);
    copies.pieces.push(pieces);
    copies.messages.1.push(message);
}

/// The address of the copies, for the kernel, of messages that the guest has at `start`.
fn replace_messages(start: u64, copies: &mut Copies) -> u64 {
    copies.messages.0 = start;
    copies.messages.1.as_mut_ptr() as u64
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
