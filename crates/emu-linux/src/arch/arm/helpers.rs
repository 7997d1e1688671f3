//! The page of user helpers at 0xffff0000, at addresses that programs for all Arm CPUs know (Linux,
//! Documentation/arch/arm/kernel_user_helpers.rst): the best that this CPU has for what older ones lack.

use crate::executable;
use crate::guest;
use crate::region;
use crate::sys::memory::{MAP_FIXED_NOREPLACE, PAGE, PROT_READ_EXECUTE, PROT_READ_WRITE, map_new};
use crate::sys::{Errno, errno};

const AT: u64 = 0xffff_0000;

/// `kuser_cmpxchg64(old: r0, new: r1, pointer: r2)`: r0 is 0 and C is set if the value was swapped.
const CMPXCHG64: [u32; 15] = [
    0xe92d_00f0, // push {r4-r7}
    0xe1c0_40d0, // ldrd r4, r5, [r0]
    0xe1c1_60d0, // ldrd r6, r7, [r1]
    0xf57f_f05b, // dmb ish
    0xe1b2_0f9f, // again: ldrexd r0, r1, [r2]
    0xe050_3004, // subs r3, r0, r4
    0x0151_0005, // cmpeq r1, r5
    0x13a0_3002, // movne r3, #2
    0x01a2_3f96, // strexdeq r3, r6, r7, [r2]
    0xe353_0001, // cmp r3, #1
    0x0aff_fff8, // beq again
    0xf57f_f05b, // dmb ish
    0xe273_0000, // rsbs r0, r3, #0
    0xe8bd_00f0, // pop {r4-r7}
    0xe12f_ff1e, // bx lr
];

/// `kuser_memory_barrier()`.
const MEMORY_BARRIER: [u32; 2] = [
    0xf57f_f05b, // dmb ish
    0xe12f_ff1e, // bx lr
];

/// `kuser_cmpxchg(old: r0, new: r1, pointer: r2)`, with the same results; it ends in [`MEMORY_BARRIER`].
const CMPXCHG: [u32; 8] = [
    0xf57f_f05b, // dmb ish
    0xe192_3f9f, // again: ldrex r3, [r2]
    0xe053_3000, // subs r3, r3, r0
    0x0182_3f91, // strexeq r3, r1, [r2]
    0x0333_0001, // teqeq r3, #1
    0x0aff_fffa, // beq again
    0xe273_0000, // rsbs r0, r3, #0
    0xeaff_ffef, // b MEMORY_BARRIER
];

/// `kuser_get_tls()`.
const GET_TLS: [u32; 2] = [
    0xee1d_0f70, // mrc p15, 0, r0, c13, c0, 3
    0xe12f_ff1e, // bx lr
];

/// The number of helpers.
const VERSION: [u32; 1] = [5];

/// Ends the guest's addresses and maps the page above them.
pub(super) fn map() -> Result<(), Errno> {
    if !region::make_narrow(&(AT..AT + PAGE)) {
        return Err(errno::ENOMEM);
    }
    if map_new(AT, PAGE, PROT_READ_WRITE, MAP_FIXED_NOREPLACE)? != AT {
        return Err(errno::ENOMEM);
    }
    let parts: [(u64, &[u32]); 5] = [
        (0xf60, &CMPXCHG64),
        (0xfa0, &MEMORY_BARRIER),
        (0xfc0, &CMPXCHG),
        (0xfe0, &GET_TLS),
        (0xffc, &VERSION),
    ];
    for (offset, words) in parts {
        for (n, word) in (0..).zip(words) {
            guest::write32(AT + offset + 4 * n, *word)?;
        }
    }
    guest::protect(AT, PAGE, PROT_READ_EXECUTE)?;
    executable::set(AT..AT + PAGE, true);
    Ok(())
}
