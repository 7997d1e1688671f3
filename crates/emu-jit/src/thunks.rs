//! The code at the start of the arena through which generated code is entered and left.

use crate::jump_cache::FIRST;
use crate::layout::{
    Assignment, BIAS, ExitKind, GENERAL, PC, STATE, Slot, VECTOR, general, saved_general, saved_vector, slot,
};
use crate::vector_moves;
use crossdock_emu_x64::{Alu, Assembler, Cc, Mem, Reg, Size};

/// Offsets of the thunks in the arena.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thunks {
    /// `extern "C" fn(state + BIAS, code)`: runs generated code until it exits.
    pub enter: u32,
    /// Leaves generated code; the exit slot is set.
    pub exit: u32,
    /// Branches to rax, which is not in the first level of the jump cache: by the second level, or else
    /// leaves.
    pub indirect: u32,
    /// Called with the address of a `Record` in rax: runs the record and returns, or leaves.
    pub fallback: u32,
    /// As `fallback`, with the address of an image's word for a record in rax ([`crate::image::words`]).
    pub fallback_of_image: u32,
    /// Branches to rax, by the jump cache, or else leaves. The guest's flags are in memory.
    pub by_cache: u32,
    /// Where the signal handler sends a fault of generated code.
    pub fault: u32,
    /// What the bottom of the return stack returns to.
    pub underflow: u32,
}

const CALLEE_SAVED: [Reg; 6] = [Reg::RBX, Reg::RBP, Reg::R12, Reg::R13, Reg::R14, Reg::R15];

fn spill(a: &mut Assembler, standard: &Assignment) {
    for (&guest, host) in standard.general().iter().zip(GENERAL) {
        a.mov_to(Size::Q, general(guest), host);
    }
    for (&guest, host) in standard.vector().iter().zip(VECTOR) {
        vector_moves::to_memory(a, guest, host);
    }
}

fn fill(a: &mut Assembler, standard: &Assignment) {
    for (&guest, host) in standard.general().iter().zip(GENERAL) {
        a.mov(Size::Q, host, general(guest));
    }
    for (&guest, host) in standard.vector().iter().zip(VECTOR) {
        vector_moves::from_memory(a, host, guest);
    }
}

/// Branches to the guest address in rax by the first level of the jump cache; falls through if the address is
/// not there. Changes rcx, rdx and the flags.
///
/// ```text
/// rcx = rax & (4 * FIRST - 4)        place * 4; a pair has 16 bytes
/// if first[rcx * 4].guest == rax { goto first[rcx * 4].host }
/// ```
pub fn jump_by_cache(a: &mut Assembler) {
    a.mov(Size::Q, Reg::RDX, slot(Slot::JumpCache));
    a.mov(Size::D, Reg::RCX, Reg::RAX);
    a.alu_imm(Alu::And, Size::D, Reg::RCX, FIRST as i32 * 4 - 4);
    jump_by_pair(a, Mem { base: Reg::RDX, index: Some((Reg::RCX, 2)), disp: 0 });
}

/// Like [`jump_by_cache`], by the second level.
///
/// ```text
/// rcx = sets + (crc32(rax) & mask)
/// if rcx[0].guest == rax { goto rcx[0].host }
/// if rcx[1].guest == rax { goto rcx[1].host }
/// ```
fn jump_by_set(a: &mut Assembler) {
    a.alu(Alu::Xor, Size::D, Reg::RCX, Reg::RCX);
    a.crc32(Reg::RCX, Reg::RAX, 3);
    a.alu(Alu::And, Size::Q, Reg::RCX, slot(Slot::JumpSetsMask));
    a.alu(Alu::Add, Size::Q, Reg::RCX, slot(Slot::JumpSets));
    jump_by_pair(a, Mem::at(Reg::RCX, 0));
    jump_by_pair(a, Mem::at(Reg::RCX, 16));
}

/// Branches to the guest address in rax if `pair` has it; else falls through.
fn jump_by_pair(a: &mut Assembler, pair: Mem) {
    a.alu(Alu::Cmp, Size::Q, Reg::RAX, pair);
    let miss = a.skip_if(Cc::Ne);
    a.jump_indirect(pair.plus(8));
    a.land(miss);
}

impl Thunks {
    /// Writes the thunks; `fallbacks` are the addresses of the functions that run a record and a record of an
    /// image, `standard` says which guest registers the host's hold.
    pub fn write(a: &mut Assembler, fallbacks: [u64; 2], standard: &Assignment) -> Thunks {
        let mut thunks = Thunks::default();
        let next = |a: &mut Assembler| {
            a.align(16, 0);
            a.position()
        };

        thunks.enter = next(a);
        for reg in CALLEE_SAVED {
            a.push(reg);
        }
        // Six registers and the return address are one word more than a multiple of 16.
        a.alu_imm(Alu::Sub, Size::Q, Reg::RSP, 8);
        a.mov(Size::Q, STATE, Reg::RDI);
        a.mov(Size::Q, Reg::RAX, Reg::RSI);
        a.mov_to(Size::Q, slot(Slot::HostStack), Reg::RSP);
        a.mov(Size::Q, Reg::RSP, slot(Slot::ReturnStack));
        fill(a, standard);
        a.jump_indirect(Reg::RAX);

        // The mark tells the dispatcher which guest registers these hold.
        thunks.fault = next(a);
        a.mov_imm32(Size::D, slot(Slot::Exit), ExitKind::Fault as i32);
        for (i, host) in GENERAL.into_iter().enumerate() {
            a.mov_to(Size::Q, saved_general(i), host);
        }
        for (i, host) in VECTOR.into_iter().enumerate() {
            a.vstore(saved_vector(i), host);
        }
        let saved = a.label();
        a.jump(saved);

        thunks.exit = next(a);
        spill(a, standard);
        a.bind(saved);
        a.mov_to(Size::Q, slot(Slot::ReturnStack), Reg::RSP);
        a.mov(Size::Q, Reg::RSP, slot(Slot::HostStack));
        a.stmxcsr(slot(Slot::Mxcsr));
        a.alu_imm(Alu::Add, Size::Q, Reg::RSP, 8);
        for reg in CALLEE_SAVED.into_iter().rev() {
            a.pop(reg);
        }
        a.ret();

        // For a RET with an empty return stack, if the guest address at its bottom happens to equal the RET's
        // register, which is in rax. The word with that address is still on the stack.
        thunks.underflow = next(a);
        a.lea(Size::Q, Reg::RSP, Mem::at(Reg::RSP, -8));
        thunks.by_cache = a.position();
        jump_by_cache(a);
        thunks.indirect = a.position();
        jump_by_set(a);
        a.mov_to(Size::Q, PC, Reg::RAX);
        a.mov_imm32(Size::D, slot(Slot::Exit), ExitKind::Indirect as i32);
        let to_exit = a.position();
        a.jump_rel(thunks.exit.wrapping_sub(to_exit + 5) as i32);

        [thunks.fallback, thunks.fallback_of_image] = fallbacks.map(|fallback| {
            let start = next(a);
            thunks.write_fallback(a, fallback, standard);
            start
        });
        thunks
    }

    /// Code that is called with an argument in rax, calls `fallback` with it, and returns or leaves.
    fn write_fallback(&self, a: &mut Assembler, fallback: u64, standard: &Assignment) {
        spill(a, standard);
        a.mov_to(Size::Q, slot(Slot::ReturnStack), Reg::RSP);
        a.mov(Size::Q, Reg::RSP, slot(Slot::HostStack));
        a.lea(Size::Q, Reg::RDI, Mem::at(STATE, -BIAS));
        a.mov(Size::Q, Reg::RSI, Reg::RAX);
        a.mov_imm(Reg::RAX, fallback);
        a.call_indirect(Reg::RAX);
        a.mov(Size::Q, Reg::RSP, slot(Slot::ReturnStack));
        fill(a, standard);
        a.test(Size::D, Reg::RAX, Reg::RAX);
        let leave = a.skip_if(Cc::Ne);
        a.ret();
        a.land(leave);
        // The return address of the call is not a pair of the return stack.
        a.alu_imm(Alu::Add, Size::Q, Reg::RSP, 8);
        a.mov_imm32(Size::D, slot(Slot::Exit), ExitKind::Leave as i32);
        let to_exit = a.position();
        a.jump_rel(self.exit.wrapping_sub(to_exit + 5) as i32);
    }
}
