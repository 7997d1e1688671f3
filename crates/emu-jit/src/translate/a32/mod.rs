//! A32 and T32: what their instructions do, and their lowerings.
//!
//! Registers are 32 bits wide, in the low halves of the state's; operations of 32 bits keep the high halves
//! zero. Guest addresses wrap at 4 GiB: accesses have the address-size prefix.

mod access;
mod alone;
mod branch;
mod data;
mod exclusive;
mod float;
mod isa;
mod kind;
mod lower;
mod media;
mod multiply;
mod neon;
mod select;
mod vectors;

use crossdock_emu_guest::a32::{A32, registers};
use crossdock_emu_x64::{Mem, Reg};

type Translator<'t> = super::Translator<'t, A32>;

/// The slot of PC, which generated code does not keep.
const PC: u8 = registers::PC;

/// The condition from which on an instruction runs always.
const ALWAYS: u8 = 14;

/// The base of accesses from PC, and the first operand of ADR: the immediate is the address.
const NO_BASE: u8 = registers::ZERO;

/// Whether a word is VMSR FPSCR.
fn is_write_fpscr(word: u32) -> bool {
    word & 0x0fff_0fff == 0x0ee1_0a10
}

/// What the instruction at a place reads as PC.
fn pc_value(place: u64) -> u64 {
    (place & !1).wrapping_add(if place & 1 == 1 { 4 } else { 8 }) & 0xffff_ffff
}

impl Translator<'_> {
    /// Loads a register into `reg`; PC is a constant.
    fn fetch(&mut self, guest: u8, reg: Reg) {
        if guest == PC {
            self.guest_address(reg, pc_value(self.pc));
        } else if self.general_host(guest) != Some(reg) {
            self.copy(crossdock_emu_x64::Size::D, reg, guest);
        }
    }

    /// A host register that holds the guest register: its own, or `scratch`.
    fn held(&mut self, guest: u8, scratch: Reg) -> Reg {
        match self.general_host(guest) {
            Some(host) if guest != PC => host,
            _ => {
                self.fetch(guest, scratch);
                scratch
            }
        }
    }
}

/// `base + disp`, which the address-size prefix wraps.
fn at(base: Reg, disp: u32) -> Mem {
    Mem::at(base, disp as i32)
}
