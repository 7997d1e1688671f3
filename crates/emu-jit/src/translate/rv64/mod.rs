//! RV64: what its instructions do, and their lowerings.
//!
//! There are no flags, so nothing lives in EFLAGS between instructions.

mod access;
mod atomic;
mod branch;
mod csr;
mod float;
mod integer;
mod isa;
mod vector;

use super::{Lowered, ONE};
use crossdock_emu_guest::rv64::action::Action;
use crossdock_emu_guest::rv64::{Instruction, Rv64};

type Translator<'t> = super::Translator<'t, Rv64>;

impl Translator<'_> {
    /// Lowers the current instruction, which is no branch. Returns how many the code covers; one without a
    /// lowering is handed to the interpreter.
    fn instruction(&mut self) -> usize {
        let item = self.items[0];
        let lowered = match item.action {
            Some(action) => self.lower_action(&item, action),
            None => Lowered::No,
        };
        match lowered {
            Lowered::Words(count) => count,
            Lowered::No => {
                self.fallback();
                if item.floats[0] {
                    self.set_boxed(item.rd, false);
                }
                self.forget_configuration();
                1
            }
        }
    }

    fn lower_action(&mut self, item: &Instruction, action: Action) -> Lowered {
        match action {
            Action::LoadUpper
            | Action::AddPc
            | Action::Compute(_)
            | Action::ComputeImmediate(_)
            | Action::ComputeWord(_)
            | Action::ComputeWordImmediate(_)
            | Action::Unary(_) => self.integer(item, action),
            Action::Load { .. }
            | Action::Store { .. }
            | Action::LoadFloat { .. }
            | Action::StoreFloat { .. } => {
                self.access(item, action);
                ONE
            }
            Action::Nothing => ONE,
            Action::Fence => {
                if item.orders_stores_before_loads() {
                    self.full_barrier();
                }
                ONE
            }
            Action::LoadReserved { .. }
            | Action::StoreConditional { .. }
            | Action::Atomic { .. }
            | Action::CompareSwap { .. } => self.atomic(item, action),
            Action::Float { .. }
            | Action::ToInteger { .. }
            | Action::FromInteger { .. }
            | Action::Convert { .. } => self.float(item, action),
            Action::Csr(_) | Action::CsrImmediate(_) => self.csr(item, action),
            Action::SetVectors
            | Action::Vector(_)
            | Action::VectorFloat(_)
            | Action::VectorMask(_)
            | Action::VectorPermute(_)
            | Action::VectorCrypto(_)
            | Action::VectorLoad
            | Action::VectorStore => self.vector(item, action),
            _ => Lowered::No,
        }
    }
}
