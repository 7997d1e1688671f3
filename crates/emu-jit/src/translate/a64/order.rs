//! The order of instructions that set the flags.
//!
//! Compilers often place an instruction that sets the flags some instructions before the one that reads them.
//! Most of the host's arithmetic changes EFLAGS, so the flags would be saved in between and loaded again.
//! Where nothing depends on the order, the instruction is moved to the one that reads its flags.

use super::bits;
use super::facts::{accesses, class};
use crate::translate::accesses::{Accesses, mask};
use crate::translate::{ENDS, FAULTS, READS, WRITES};
use crossdock_emu_guest::a64::stack_pointer::may_unalign;

/// Moves instructions of a block that set the flags to those that read them. What is moved, and what it is
/// moved behind, computes with general registers alone: it cannot fault or leave, so nobody can see the
/// order. Returns whether any was moved.
pub(super) fn gather(items: &mut [u32]) -> bool {
    let (mut i, mut is_moved) = (0, false);
    while i + 2 < items.len() {
        // As a rule nothing lies between the two: that is seen without a look at the registers.
        let is_apart = class(items[i]).has(WRITES) && !class(items[i + 1]).has(READS | WRITES | FAULTS);
        let Some(setter) = Some(items[i]).filter(|_| is_apart).and_then(computes) else {
            i += 1;
            continue;
        };
        let is_passed = |word: &&u32| {
            !class(**word).has(WRITES | READS) && computes(**word).is_some_and(|word| is_free(&setter, &word))
        };
        let reader = i + 1 + items[i + 1..].iter().take_while(is_passed).count();
        if items.get(reader).is_some_and(|&word| class(word).has(READS)) {
            items[i..reader].rotate_left(1);
            is_moved |= reader > i + 1;
        }
        i = reader;
    }
    is_moved
}

/// The registers of an instruction that only computes with general registers, and that has a lowering of its
/// own; `None` for others, for those that depend on their address, and for those that may change SP.
fn computes(word: u32) -> Option<Accesses> {
    let is_immediate = bits(word, 28, 26) == 0b100 && bits(word, 25, 24) != 0;
    // Logical and arithmetic with shifted or extended registers; products.
    let is_register = bits(word, 27, 25) == 0b101 && (bits(word, 28, 28) == 0 || bits(word, 24, 24) == 1);
    let is_plain = !class(word).has(FAULTS | ENDS | READS);
    let found = (is_immediate || is_register) && is_plain && !may_unalign(word);
    found.then(|| accesses(word)).filter(|accesses| !accesses.unknown)
}

/// Whether two instructions do the same in either order, but for the flags.
fn is_free(a: &Accesses, b: &Accesses) -> bool {
    let names = |of: &Accesses| of.all() | of.also;
    let writes = |of: &Accesses| mask(of.write) | of.also;
    writes(a) & names(b) == 0 && writes(b) & names(a) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBS_W10: u32 = 0x7100_054a; // subs w10, w10, #1
    const SUB_W1: u32 = 0x4b16_0021; // sub w1, w1, w22
    const AND_W9: u32 = 0x0a09_02c9; // and w9, w22, w9
    const B_NE: u32 = 0x54ff_ffe1; // b.ne
    const LDR: u32 = 0xf940_018b; // ldr x11, [x12]
    const CSET: u32 = 0x1a9f_17e0; // cset w0, eq

    fn gathered<const N: usize>(mut items: [u32; N]) -> [u32; N] {
        gather(&mut items);
        items
    }

    #[test]
    fn what_sets_the_flags_moves_to_what_reads_them() {
        assert_eq!(gathered([SUBS_W10, SUB_W1, AND_W9, B_NE]), [SUB_W1, AND_W9, SUBS_W10, B_NE]);
        assert_eq!(gathered([LDR, SUBS_W10, SUB_W1, CSET, LDR]), [LDR, SUB_W1, SUBS_W10, CSET, LDR]);
        // A second one replaces the flags of the first, and moves by itself.
        let twice = [SUBS_W10, SUBS_W10, SUB_W1, B_NE];
        assert_eq!(gathered(twice), [SUBS_W10, SUB_W1, SUBS_W10, B_NE]);
    }

    #[test]
    fn what_depends_on_the_order_stays() {
        let add_w10 = 0x1100_054a; // add w10, w10, #1
        let add_w3 = 0x0b0a_0063; // add w3, w3, w10
        let adr = 0x1000_0003; // adr x3, .
        let add_sp = 0x8b2a_63ff; // add sp, sp, x10
        let cmp_sp = 0xeb2a_63ff; // cmp sp, x10
        for between in [add_w10, add_w3, adr, add_sp, LDR, 0xd503_201f] {
            let items = [SUBS_W10, between, B_NE];
            assert_eq!(gathered(items), items, "{between:#x}");
        }
        assert_eq!(gathered([cmp_sp, SUB_W1, B_NE]), [SUB_W1, cmp_sp, B_NE]);
        assert_eq!(gathered([cmp_sp, add_sp, B_NE]), [cmp_sp, add_sp, B_NE]);
        // Nobody reads the flags.
        assert_eq!(gathered([SUBS_W10, SUB_W1, LDR]), [SUBS_W10, SUB_W1, LDR]);
        assert_eq!(gathered([SUBS_W10, SUB_W1]), [SUBS_W10, SUB_W1]);
    }
}
