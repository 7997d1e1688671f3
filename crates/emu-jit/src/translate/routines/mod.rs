//! Functions of the guest's C library as code of the host, in front of the guest's own code.
//!
//! A unit that begins with a known function ([`crate::routines`]) begins with code that does the function's
//! work and returns to the caller. It reads the arguments where the standard assignment has them, and changes
//! no register of the guest but the one with the result, after its last access to memory. So at every place
//! of it the guest's registers are those of the function's first instruction, for which there is one mark.
//!
//! **Declining.** For what takes too long without an interrupt, or wraps around the end of the address space,
//! the code goes on at the guest's own code, which follows.
//!
//! **Faults.** Every access has a prefix ([`GUEST_ACCESS`]) by which the handler of faults knows it: then the
//! interpreter goes on with the guest's own code, from its first instruction, which finds out whether there
//! is a fault, and where. So these functions may read too far. What they may not do is to store something
//! that changes what the guest's code reads afterwards: where source and destination overlap, [`copy`] asks
//! for all pages before it stores anything.

mod compare;
mod copy;
mod divide;
mod scan;

use super::condition::Flags;
use super::{Isa, Translator};
use crate::layout::{GENERAL, LINK, STATE};
use crate::routines::Routine;
use crate::unit::STANDARD;
use crossdock_emu_guest::addresses::PAGE;
use crossdock_emu_x64::{Alu, Cc, Label, Map, Mem, Prefix, Reg, Size, Xmm};

/// DS: a segment prefix that does nothing in 64-bit mode (Intel SDM volume 1, 3.3.7.1). No other code of the
/// translator begins with it.
pub const GUEST_ACCESS: u8 = 0x3e;

/// The registers of the first three arguments. The first one is also the result's.
const ARGUMENTS: [Reg; 3] = [GENERAL[0], GENERAL[1], GENERAL[2]];

/// Most bytes that are handled between two reads of the interrupt flag: about 10 microseconds.
const BYTES_MAX: i32 = 256 << 10;

/// Bytes of a vector.
const WIDE: i32 = 32;

fn indexed(base: Reg, index: Reg, disp: i32) -> Mem {
    Mem { base, index: Some((index, 0)), disp }
}

impl<I: Isa> Translator<'_, I> {
    /// Writes the code of the function with which the unit begins, and which ends at the address `end`.
    /// `own` leads to the guest's code.
    pub(super) fn routine(&mut self, routine: Routine, end: u64, own: Label) {
        let start = self.unit.start;
        self.flags = Flags::Memory;
        let code = self.base + self.a.position();
        let key = self.keying.key(start, self.mode);
        // A change of any part of the function drops the unit.
        let mut to = (I::address(start) / PAGE + 1).wrapping_mul(PAGE).min(end);
        self.unit.blocks.push((key, to, code));
        while to < end {
            let from = to;
            to = (from + PAGE).min(end);
            self.unit.inner.push((from, to));
        }
        self.mark();
        match routine {
            Routine::Copy => self.routine_copy(own),
            Routine::Set => self.routine_set(own),
            Routine::Compare => self.routine_compare(false, true, own),
            Routine::CompareStrings => self.routine_compare(true, false, own),
            Routine::CompareStringsWithin => self.routine_compare(true, true, own),
            Routine::Divide => self.routine_divide(false, own),
            Routine::DivideSigned => self.routine_divide(true, own),
            Routine::DivideLong => self.routine_divide_long(own),
            Routine::Find
            | Routine::Length
            | Routine::LengthWithin
            | Routine::FindInString
            | Routine::FindInStringOrEnd => self.scan(routine, own),
        }
        debug_assert_eq!(self.assigned, STANDARD);
    }

    /// Returns to the caller.
    fn return_from_routine(&mut self) {
        self.return_by(LINK);
    }

    /// As [`Translator::return_from_routine`], after code with vectors of 32 bytes.
    fn return_from_wide(&mut self) {
        self.a.vzeroupper();
        self.return_from_routine();
    }

    /// Goes on at `own` if a pointer plus a length wraps around the end of the address space, where that is
    /// the guest's and not the host's matter. Changes ecx.
    fn decline_if_it_wraps(&mut self, pointer: Reg, length: Reg, own: Label) {
        if I::NARROW {
            self.a.mov(Size::D, Reg::RCX, pointer);
            self.a.alu(Alu::Add, Size::D, Reg::RCX, length);
            self.a.jump_if(Cc::B, own);
        }
    }

    /// Size of the guest's pointers.
    fn pointer_size() -> Size {
        if I::NARROW { Size::D } else { Size::Q }
    }

    /// The next instruction accesses the guest's memory.
    fn accesses_guest(&mut self, mem: Mem) {
        debug_assert!(mem.base != STATE && mem.base != Reg::RSP);
        self.a.byte(GUEST_ACCESS);
    }

    fn guest_load(&mut self, size: Size, reg: Reg, mem: Mem) {
        self.accesses_guest(mem);
        self.a.mov(size, reg, mem);
    }

    fn guest_store(&mut self, size: Size, mem: Mem, reg: Reg) {
        self.accesses_guest(mem);
        self.a.mov_to(size, mem, reg);
    }

    fn guest_load8(&mut self, reg: Reg, mem: Mem) {
        self.accesses_guest(mem);
        self.a.movzx8(reg, mem);
    }

    fn guest_store8(&mut self, mem: Mem, reg: Reg) {
        self.accesses_guest(mem);
        self.a.store8(mem, reg);
    }

    fn guest_load_vector(&mut self, d: Xmm, mem: Mem) {
        self.accesses_guest(mem);
        self.a.vload(d, mem);
    }

    fn guest_store_vector(&mut self, mem: Mem, from: Xmm) {
        self.accesses_guest(mem);
        self.a.vstore(mem, from);
    }

    fn guest_load_wide(&mut self, d: Xmm, mem: Mem) {
        self.accesses_guest(mem);
        self.a.vex_of_length(true, (Prefix::F3, Map::M0F, false, 0x6f), d.0, 0, mem.into());
    }

    fn guest_store_wide(&mut self, mem: Mem, from: Xmm) {
        self.accesses_guest(mem);
        self.a.vex_of_length(true, (Prefix::F3, Map::M0F, false, 0x7f), from.0, 0, mem.into());
    }

    /// `d = from`, all 32 bytes.
    fn copy_wide(&mut self, d: Xmm, from: Xmm) {
        self.a.vex_of_length(true, (Prefix::None, Map::M0F, false, 0x28), d.0, 0, from.into());
    }

    /// A packed integer instruction of map 0F of 32 bytes: `d = a op b`.
    fn wide(&mut self, opcode: u8, d: Xmm, a: Xmm, b: Xmm) {
        self.a.vex_of_length(true, (Prefix::P66, Map::M0F, false, opcode), d.0, a.0, b.into());
    }

    /// The same with memory of the guest.
    fn wide_of_guest(&mut self, opcode: u8, d: Xmm, a: Xmm, mem: Mem) {
        self.accesses_guest(mem);
        self.a.vex_of_length(true, (Prefix::P66, Map::M0F, false, opcode), d.0, a.0, mem.into());
    }

    /// VPMOVMSKB: the highest bit of each of the 32 bytes.
    fn wide_mask(&mut self, reg: Reg, from: Xmm) {
        self.a.vex_of_length(true, (Prefix::P66, Map::M0F, false, MASK), reg.0, 0, from.into());
    }

    /// VPBROADCASTB of the low byte of a register.
    fn broadcast(&mut self, d: Xmm, from: Reg) {
        self.a.vmov_from(Size::D, d, from);
        self.a.vex_of_length(true, (Prefix::P66, Map::M0F38, false, 0x78), d.0, 0, d.into());
    }
}

/// Opcodes of map 0F: VPCMPEQB, VPMINUB, VPXOR, VPAND, VPMOVMSKB.
const EQUAL: u8 = 0x74;
const MINIMUM: u8 = 0xda;
const XOR: u8 = 0xef;
const AND: u8 = 0xdb;
const MASK: u8 = 0xd7;
