//! Integer arithmetic (manual: RV64I, M, Zba, Zbb, Zbc, Zbs, Zicond, Zimop).

use super::action::{Compute, Unary};
use crate::exit::{Flow, Step};
use crate::lanes::arithmetic::polynomial_wide;
use crate::op::{Handler, Host, Op};
use crate::state::State;

impl Compute {
    /// The result of an operation with 64 bits.
    #[inline(always)]
    pub const fn of(self, a: u64, b: u64) -> u64 {
        let (sa, sb) = (a as i64, b as i64);
        let amount = b as u32 & 63;
        match self {
            Compute::Add => a.wrapping_add(b),
            Compute::Sub => a.wrapping_sub(b),
            Compute::Sll => a << amount,
            Compute::Slt => (sa < sb) as u64,
            Compute::Sltu => (a < b) as u64,
            Compute::Xor => a ^ b,
            Compute::Srl => a >> amount,
            Compute::Sra => (sa >> amount) as u64,
            Compute::Or => a | b,
            Compute::And => a & b,
            Compute::Mul => a.wrapping_mul(b),
            Compute::Mulh => ((sa as i128 * sb as i128) >> 64) as u64,
            Compute::Mulhsu => ((sa as i128).wrapping_mul(b as i128) >> 64) as u64,
            Compute::Mulhu => ((a as u128 * b as u128) >> 64) as u64,
            // A division by zero gives all ones, the only overflow the dividend.
            Compute::Div => {
                if b == 0 {
                    u64::MAX
                } else {
                    sa.wrapping_div(sb) as u64
                }
            }
            Compute::Divu => match a.checked_div(b) {
                Some(quotient) => quotient,
                None => u64::MAX,
            },
            Compute::Rem => {
                if b == 0 {
                    a
                } else {
                    sa.wrapping_rem(sb) as u64
                }
            }
            Compute::Remu => {
                if b == 0 {
                    a
                } else {
                    a % b
                }
            }
            Compute::AddUw => (a as u32 as u64).wrapping_add(b),
            Compute::Sh1add => (a << 1).wrapping_add(b),
            Compute::Sh2add => (a << 2).wrapping_add(b),
            Compute::Sh3add => (a << 3).wrapping_add(b),
            Compute::Sh1addUw => ((a as u32 as u64) << 1).wrapping_add(b),
            Compute::Sh2addUw => ((a as u32 as u64) << 2).wrapping_add(b),
            Compute::Sh3addUw => ((a as u32 as u64) << 3).wrapping_add(b),
            Compute::SllUw => (a as u32 as u64) << amount,
            Compute::Andn => a & !b,
            Compute::Orn => a | !b,
            Compute::Xnor => !(a ^ b),
            Compute::Max => {
                if sa > sb {
                    a
                } else {
                    b
                }
            }
            Compute::Maxu => {
                if a > b {
                    a
                } else {
                    b
                }
            }
            Compute::Min => {
                if sa < sb {
                    a
                } else {
                    b
                }
            }
            Compute::Minu => {
                if a < b {
                    a
                } else {
                    b
                }
            }
            Compute::Rol => a.rotate_left(amount),
            Compute::Ror => a.rotate_right(amount),
            // Not constant: these are computed by `product`.
            Compute::Clmul | Compute::Clmulh | Compute::Clmulr => 0,
            Compute::Bclr => a & !(1 << amount),
            Compute::Bext => a >> amount & 1,
            Compute::Binv => a ^ 1 << amount,
            Compute::Bset => a | 1 << amount,
            Compute::CzeroEqz => {
                if b == 0 {
                    0
                } else {
                    a
                }
            }
            Compute::CzeroNez => {
                if b == 0 {
                    a
                } else {
                    0
                }
            }
            Compute::Zero => 0,
        }
    }

    /// The result of an operation with 32 bits, sign-extended; of those that have such a form.
    #[inline(always)]
    pub const fn of_words(self, a: u64, b: u64) -> u64 {
        let (a, b) = (a as u32, b as u32);
        let amount = b & 31;
        let result = match self {
            Compute::Sub => a.wrapping_sub(b),
            Compute::Sll => a << amount,
            Compute::Srl => a >> amount,
            Compute::Sra => (a as i32 >> amount) as u32,
            Compute::Mul => a.wrapping_mul(b),
            Compute::Div => {
                if b == 0 {
                    u32::MAX
                } else {
                    (a as i32).wrapping_div(b as i32) as u32
                }
            }
            Compute::Divu => match a.checked_div(b) {
                Some(quotient) => quotient,
                None => u32::MAX,
            },
            Compute::Rem => {
                if b == 0 {
                    a
                } else {
                    (a as i32).wrapping_rem(b as i32) as u32
                }
            }
            Compute::Remu => {
                if b == 0 {
                    a
                } else {
                    a % b
                }
            }
            Compute::Rol => a.rotate_left(amount),
            Compute::Ror => a.rotate_right(amount),
            _ => a.wrapping_add(b),
        };
        result as i32 as i64 as u64
    }
}

/// The carry-less product (Zbc).
fn product(kind: Compute, a: u64, b: u64) -> u64 {
    let product = polynomial_wide(a, b);
    match kind {
        Compute::Clmul => product as u64,
        Compute::Clmulh => (product >> 64) as u64,
        _ => (product >> 63) as u64,
    }
}

impl Unary {
    /// The result.
    #[inline(always)]
    pub const fn of(self, a: u64) -> u64 {
        match self {
            Unary::Clz => a.leading_zeros() as u64,
            Unary::Ctz => a.trailing_zeros() as u64,
            Unary::Cpop => a.count_ones() as u64,
            Unary::Clzw => (a as u32).leading_zeros() as u64,
            Unary::Ctzw => (a as u32).trailing_zeros() as u64,
            Unary::Cpopw => (a as u32).count_ones() as u64,
            Unary::SextB => a as i8 as u64,
            Unary::SextH => a as i16 as u64,
            Unary::ZextH => a as u16 as u64,
            Unary::OrcB => {
                // The lowest bit of each byte that has one, times 255.
                let mut bits = a | a >> 4;
                bits |= bits >> 2;
                bits |= bits >> 1;
                (bits & 0x0101_0101_0101_0101) * 0xff
            }
            Unary::Rev8 => a.swap_bytes(),
        }
    }
}

/// A `match` with an arm per kind, so that each handler is compiled for its own.
macro_rules! handlers {
    ($value:expr, $type:ident, |$s:ident, $op:ident, $kind:ident| $result:expr, $($name:ident)*) => {
        match $value {
            $($type::$name => {
                fn run($s: &mut State, _: &Host, $op: &Op) -> Step {
                    const $kind: $type = $type::$name;
                    let result = $result;
                    $s.gpr[usize::from($op.rd)] = result;
                    Ok(Flow::Next)
                }
                run as Handler
            })*
        }
    };
}

macro_rules! of_all_computes {
    ($value:expr, |$s:ident, $op:ident, $kind:ident| $result:expr) => {
        handlers!($value, Compute, |$s, $op, $kind| $result,
            Add Sub Sll Slt Sltu Xor Srl Sra Or And Mul Mulh Mulhsu Mulhu Div Divu Rem Remu AddUw Sh1add Sh2add
            Sh3add Sh1addUw Sh2addUw Sh3addUw SllUw Andn Orn Xnor Max Maxu Min Minu Rol Ror Clmul Clmulh Clmulr
            Bclr Bext Binv Bset CzeroEqz CzeroNez Zero)
    };
}

fn carry_less<const KIND: u8>(s: &mut State, _: &Host, op: &Op) -> Step {
    let kind = [Compute::Clmul, Compute::Clmulh, Compute::Clmulr][usize::from(KIND)];
    s.gpr[usize::from(op.rd)] = product(kind, s.gpr[usize::from(op.rn)], s.gpr[usize::from(op.rm)]);
    Ok(Flow::Next)
}

/// With two registers.
pub(super) fn with_register(kind: Compute) -> Handler {
    match kind {
        Compute::Clmul => carry_less::<0>,
        Compute::Clmulh => carry_less::<1>,
        Compute::Clmulr => carry_less::<2>,
        kind => of_all_computes!(kind, |s, op, KIND| KIND
            .of(s.gpr[usize::from(op.rn)], s.gpr[usize::from(op.rm)])),
    }
}

/// With a register and an immediate.
pub(super) fn with_immediate(kind: Compute) -> Handler {
    of_all_computes!(kind, |s, op, KIND| KIND.of(s.gpr[usize::from(op.rn)], op.imm))
}

/// On words, with two registers.
pub(super) fn words_with_register(kind: Compute) -> Handler {
    of_all_computes!(kind, |s, op, KIND| KIND.of_words(s.gpr[usize::from(op.rn)], s.gpr[usize::from(op.rm)]))
}

/// On words, with a register and an immediate.
pub(super) fn words_with_immediate(kind: Compute) -> Handler {
    of_all_computes!(kind, |s, op, KIND| KIND.of_words(s.gpr[usize::from(op.rn)], op.imm))
}

/// With one register.
pub(super) fn with_one(kind: Unary) -> Handler {
    handlers!(kind, Unary, |s, op, KIND| KIND.of(s.gpr[usize::from(op.rn)]),
        Clz Ctz Cpop Clzw Ctzw Cpopw SextB SextH ZextH OrcB Rev8)
}

/// LUI, AUIPC.
pub(super) fn constant(s: &mut State, _: &Host, op: &Op) -> Step {
    s.gpr[usize::from(op.rd)] = op.imm;
    Ok(Flow::Next)
}
