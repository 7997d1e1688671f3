//! The order of instructions that set the flags.
//!
//! Compilers often place an instruction that sets the flags some instructions before the one that reads them.
//! Most of the host's arithmetic changes EFLAGS, so the flags would be saved in between and loaded again.
//! Where nothing depends on the order, the instruction is moved to the one that reads its flags.

use super::accesses::{Accesses, mask};
use super::{FAULTS, Isa, READS, READS_CV, WRITES, WRITES_CV};

/// Moves instructions of a block that set the flags to those that read them. What is moved, and what it is
/// moved behind, computes with general registers alone ([`Isa::computes_alone`]): it cannot fault or leave,
/// so nobody can see the order. Returns whether any was moved.
pub(super) fn gather<I: Isa>(items: &mut [I::Item]) -> bool {
    let (mut i, mut is_moved) = (0, false);
    while i + 2 < items.len() {
        // As a rule nothing lies between the two: that is seen without a look at the registers.
        let is_apart = I::class(&items[i]).has(WRITES | WRITES_CV)
            && !I::class(&items[i + 1]).has(READS | READS_CV | WRITES | WRITES_CV | FAULTS);
        let Some(setter) = Some(&items[i]).filter(|_| is_apart).and_then(I::computes_alone) else {
            i += 1;
            continue;
        };
        let is_passed = |item: &&I::Item| {
            !I::class(item).has(WRITES | WRITES_CV | READS | READS_CV)
                && I::computes_alone(item).is_some_and(|accesses| is_free(&setter, &accesses))
        };
        let reader = i + 1 + items[i + 1..].iter().take_while(is_passed).count();
        let reads = |item: &I::Item| I::class(item).has(READS | READS_CV) || I::binds(item);
        if items.get(reader).is_some_and(reads) {
            items[i..reader].rotate_left(1);
            is_moved |= reader > i + 1;
        }
        i = reader;
    }
    is_moved
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
    use alloc::vec::Vec;
    use crossdock_emu_guest::a32::{A32, Instruction, It};
    use crossdock_emu_guest::a64::A64;
    use crossdock_emu_guest::guest::Words;
    use crossdock_emu_guest::memory::Memory;

    const SUBS_W10: u32 = 0x7100_054a; // subs w10, w10, #1
    const SUB_W1: u32 = 0x4b16_0021; // sub w1, w1, w22
    const AND_W9: u32 = 0x0a09_02c9; // and w9, w22, w9
    const B_NE: u32 = 0x54ff_ffe1; // b.ne
    const LDR: u32 = 0xf940_018b; // ldr x11, [x12]
    const CSET: u32 = 0x1a9f_17e0; // cset w0, eq

    fn gathered<const N: usize>(mut items: [u32; N]) -> [u32; N] {
        gather::<A64>(&mut items);
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

    /// The places of the instructions of T32 code, as they are moved: offsets from its start.
    fn gathered_a32(code: &'static [u16]) -> Vec<u64> {
        const SIZE: usize = 4096;
        let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping. Places of 32-bit Arm have 32 bits.
        let page = unsafe { libc::mmap(core::ptr::null_mut(), SIZE, rights, kind | libc::MAP_32BIT, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        // SAFETY: the page is as long as the code at least.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), page.cast(), code.len()) };
        let start = page as u64;
        // SAFETY: the window is the page.
        let memory = unsafe { Memory::new(start, start + SIZE as u64) };
        let (mut words, mut it) = (Words::new(&memory, None), It::default());
        let (mut items, mut place) = (Vec::new(), start | 1);
        while place < start + size_of_val(code) as u64 {
            let item = Instruction::read(&mut words, place, &mut it).expect("the code can be read");
            place += A32::item_length(&item);
            items.push(item);
        }
        // SAFETY: nobody uses the page any more.
        unsafe { libc::munmap(page, SIZE) };
        gather::<A32>(&mut items);
        items.iter().map(|item| item.place - (start | 1)).collect()
    }

    #[test]
    fn instructions_of_32_bit_arm_move_to_branches_and_it_blocks() {
        #[rustfmt::skip]
        static BRANCH: [u16; 6] = [
            0x4282,         // cmp r2, r0
            0xfab3, 0xf383, // clz r3, r3
            0x4419,         // add r1, r3
            0x460c,         // mov r4, r1
            0xd1f9,         // bne
        ];
        assert_eq!(gathered_a32(&BRANCH), [2, 6, 8, 0, 10]);
        #[rustfmt::skip]
        static BLOCK: [u16; 4] = [
            0x4282, // cmp r2, r0
            0x4419, // add r1, r3
            0xbf18, // it ne
            0x2001, // movne r0, #1
        ];
        assert_eq!(gathered_a32(&BLOCK), [2, 0, 4, 6]);
        // The load may fault; the addition writes an operand.
        #[rustfmt::skip]
        static LOAD: [u16; 3] = [
            0x4282, // cmp r2, r0
            0x6821, // ldr r1, [r4]
            0xd1f9, // bne
        ];
        assert_eq!(gathered_a32(&LOAD), [0, 2, 4]);
        #[rustfmt::skip]
        static OPERAND: [u16; 3] = [
            0x4282, // cmp r2, r0
            0x441a, // add r2, r3
            0xd1f9, // bne
        ];
        assert_eq!(gathered_a32(&OPERAND), [0, 2, 4]);
    }
}
