//! The condition flags of Arm and the conditions over them, in all its instruction sets.

/// Negative.
pub(crate) const N: u32 = 1 << 31;
/// Zero.
pub(crate) const Z: u32 = 1 << 30;
/// Carry, or no borrow.
pub(crate) const C: u32 = 1 << 29;
/// Overflow.
pub(crate) const V: u32 = 1 << 28;

/// For each condition the set of NZCV values under which it holds (ConditionHolds).
const CONDITIONS: [u16; 16] = {
    let mut table = [0u16; 16];
    let mut flags = 0;
    while flags < 16 {
        let (n, z, c, v) = (flags & 8 != 0, flags & 4 != 0, flags & 2 != 0, flags & 1 != 0);
        let holds = [z, c, n, v, c && !z, n == v, n == v && !z, true];
        let mut i = 0;
        while i < 8 {
            if holds[i] {
                table[2 * i] |= 1 << flags;
            } else {
                table[2 * i + 1] |= 1 << flags;
            }
            i += 1;
        }
        flags += 1;
    }
    // NV is "always", too.
    table[15] = 0xffff;
    table
};

/// Whether `condition` holds.
#[inline(always)]
pub(crate) fn holds(condition: u32, nzcv: u32) -> bool {
    CONDITIONS[condition as usize & 15] >> (nzcv >> 28) & 1 == 1
}
