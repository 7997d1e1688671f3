//! Branches and jumps (manual, RV32I, "Control Transfer Instructions").

use super::action::Comparison;
use crate::exit::{Flow, Step};
use crate::op::{Handler, Host, Op};
use crate::state::State;

impl Comparison {
    /// Whether the condition holds.
    #[inline(always)]
    pub const fn holds(self, a: u64, b: u64) -> bool {
        match self {
            Comparison::Equal => a == b,
            Comparison::NotEqual => a != b,
            Comparison::Less => (a as i64) < b as i64,
            Comparison::GreaterEqual => a as i64 >= b as i64,
            Comparison::LessUnsigned => a < b,
            Comparison::GreaterEqualUnsigned => a >= b,
        }
    }
}

macro_rules! branches {
    ($comparison:expr, $($name:ident)*) => {
        match $comparison {
            $(Comparison::$name => {
                fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                    if Comparison::$name.holds(s.gpr[usize::from(op.rn)], s.gpr[usize::from(op.rm)]) {
                        s.pc = op.imm;
                        Ok(Flow::Jump)
                    } else {
                        Ok(Flow::Next)
                    }
                }
                run as Handler
            })*
        }
    };
}

/// BEQ and its kin.
pub(super) fn conditional(comparison: Comparison) -> Handler {
    branches!(comparison, Equal NotEqual Less GreaterEqual LessUnsigned GreaterEqualUnsigned)
}

/// JAL.
pub(super) fn jump(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[usize::from(op.rd)] = s.pc.wrapping_add(op.rv64_length());
    s.pc = op.imm;
    Ok(Flow::Jump)
}

/// JALR.
pub(super) fn jump_register(s: &mut State, _: &Host, op: &Op) -> Step {
    let target = s.gpr[usize::from(op.rn)].wrapping_add(op.imm) & !1;
    s.gpr[usize::from(op.rd)] = s.pc.wrapping_add(op.rv64_length());
    s.pc = target;
    Ok(Flow::Jump)
}
