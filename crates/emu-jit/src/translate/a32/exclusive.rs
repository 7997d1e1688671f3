//! Exclusive loads and stores (manual B2.9), where a store compares memory with the value that was loaded;
//! and the barriers around them.
//!
//! A store-exclusive is a barrier itself, whether it stores or not: here by a locked instruction, in the
//! interpreter by that or a fence. So two barriers have nothing to do:
//!
//! - one behind a store-exclusive, if no other access lies between;
//! - one in front of a *round* ([`Translator::round_follows`]), which loads, computes, stores, and goes back
//!   to the load until it has stored. It must only keep the load behind the accesses before it. In the round
//!   that stores, the load might as well come with the store, since memory held the same value; what other
//!   rounds load is not used, and they end with a barrier.

use super::{ALWAYS, Translator, at};
use crate::layout::{EXCLUSIVE_ADDRESS, EXCLUSIVE_SIZE, EXCLUSIVE_VALUE};
use crate::translate::Isa;
use crossdock_emu_guest::a32::action::{Action, Form};
use crossdock_emu_guest::a32::{A32, Instruction};
use crossdock_emu_x64::{Alu, Cc, Reg, Shift, Size};

/// The operation of CMP.
const COMPARE: u8 = 10;
/// The condition NE.
const NOT_EQUAL: u8 = 1;

impl Translator<'_> {
    /// DMB, DSB.
    pub(super) fn barrier(&mut self) {
        if !self.fenced && !self.round_follows() {
            self.full_barrier();
            self.fenced = true;
        }
    }

    /// Whether the instructions behind the current one, up to the next access to memory, are
    ///
    /// ```text
    /// round:  LDREX t, [n]
    ///         ...                 computes
    ///         STREX s, u, [n]
    ///         CMP   s, #0
    ///         BNE   round
    /// ```
    fn round_follows(&self) -> bool {
        // A plan may show only a part of the block.
        if self.behind + 1 != self.items.len() + usize::from(self.end_item.is_some()) {
            return false;
        }
        let behind = self.items[1..].iter().chain(&self.end_item).chain(self.following);
        let mut items = behind.skip_while(|item| A32::computes(item));
        let Some(load) = items.next() else { return false };
        let Action::LoadExclusive { size } = load.action else { return false };
        let mut items = items.skip_while(|item| A32::computes(item));
        let (Some(store), Some(compare), Some(branch)) = (items.next(), items.next(), items.next()) else {
            return false;
        };
        let tests = Action::Data { operation: COMPARE, sets: true, form: Form::Immediate };
        [load, store, compare].iter().all(|item| item.condition >= ALWAYS)
            && store.action == Action::StoreExclusive { size }
            && (store.rn, store.imm) == (load.rn, load.imm)
            && compare.action == tests
            && (compare.rn, compare.imm) == (store.rm, 0)
            && branch.action == Action::Branch
            && (branch.condition, u64::from(branch.imm)) == (NOT_EQUAL, load.place)
    }

    /// `rdx` = the address. Goes to the interpreter if it is not aligned.
    fn exclusive_address(&mut self, item: &Instruction, size: u8, slow: crossdock_emu_x64::Label) {
        let base = self.held(item.rn, Reg::RDX);
        self.a.lea(Size::D, Reg::RDX, at(base, item.imm));
        if size > 0 {
            self.a.test_imm8(Reg::RDX, (1 << size) - 1);
            self.a.jump_if(Cc::Ne, slow);
        }
    }

    /// LDREX and its kin.
    pub(super) fn load_exclusive(&mut self, item: &Instruction, size: u8) {
        self.clobber();
        let back = self.a.label();
        let slow = self.slow_path(back);
        self.exclusive_address(item, size, slow);
        self.mark();
        if size == 3 {
            self.a.mov(Size::Q, Reg::RAX, at(Reg::RDX, 0));
        } else {
            self.load(size, Reg::RAX, at(Reg::RDX, 0));
        }
        self.a.mov_to(Size::Q, EXCLUSIVE_ADDRESS, Reg::RDX);
        self.a.mov_imm32(Size::Q, EXCLUSIVE_SIZE, 1 << size);
        self.a.mov_to(Size::Q, EXCLUSIVE_VALUE, Reg::RAX);
        self.a.mov_imm32(Size::Q, EXCLUSIVE_VALUE.plus(8), 0);
        if size == 3 {
            self.a.mov(Size::D, Reg::RCX, Reg::RAX);
            self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 32);
            self.put(item.rd, Reg::RCX);
            self.put(item.ra, Reg::RAX);
        } else {
            self.put(item.rd, Reg::RAX);
        }
        self.a.bind(back);
    }

    /// STREX and its kin; the result goes to `rm`: 0 if the value was stored.
    pub(super) fn store_exclusive(&mut self, item: &Instruction, size: u8) {
        self.clobber();
        let back = self.a.label();
        let slow = self.slow_path(back);
        self.exclusive_address(item, size, slow);
        self.mark();
        self.a.alu(Alu::Cmp, Size::Q, Reg::RDX, EXCLUSIVE_ADDRESS);
        self.a.jump_if(Cc::Ne, slow);
        self.a.alu_imm(Alu::Cmp, Size::Q, EXCLUSIVE_SIZE, 1 << size);
        self.a.jump_if(Cc::Ne, slow);
        if size == 3 {
            self.fetch(item.ra, Reg::RCX);
            self.a.shift_imm(Shift::Shl, Size::Q, Reg::RCX, 32);
            self.fetch(item.rd, Reg::RAX);
            self.a.alu(Alu::Or, Size::Q, Reg::RCX, Reg::RAX);
        } else {
            self.fetch(item.rd, Reg::RCX);
        }
        self.a.mov(Size::Q, Reg::RAX, EXCLUSIVE_VALUE);
        self.a.lock_cmpxchg(size, at(Reg::RDX, 0), Reg::RCX);
        self.a.set(Cc::Ne, Reg::RAX);
        self.a.movzx8(Reg::RAX, Reg::RAX);
        self.a.mov_imm32(Size::Q, EXCLUSIVE_SIZE, 0);
        self.put(item.rm, Reg::RAX);
        self.a.bind(back);
    }
}
