//! Decoded instructions as a translator sees them.

use super::action::Action;
use super::decode::{ends, fetch, row_of};
use super::row::Use;
use super::system::orders_stores_before_loads;
use crate::guest::Words;
use crate::memory::Fault;
use crate::op::Op;

/// What the instruction before has put into a register, if it was AUIPC: with JALR, it makes a jump to an
/// address that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upper(Option<(u8, u64)>);

/// A decoded instruction, for a translator. General registers are indexes in [`crate::State::gpr`],
/// floating-point registers halves of vector registers ([`super::registers`]).
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// For the interpreter.
    pub op: Op,
    /// The place.
    pub place: u64,
    /// What it does; `None` if it is undefined.
    pub action: Option<Action>,
    /// The instruction in 32 bits.
    pub code: u32,
    /// Bytes.
    pub length: u8,
    /// The destination.
    pub rd: u8,
    /// The first operand, or the base.
    pub rn: u8,
    /// The second operand, or what is stored.
    pub rm: u8,
    /// The third operand, or the destination where it is read, too.
    pub ra: u8,
    /// The immediate, or the address that it stands for.
    pub imm: u64,
    /// The target of JALR, if the AUIPC in front of it says what it is.
    pub target: Option<u64>,
    /// Whether rd, rn, rm, ra are floating-point registers.
    pub floats: [bool; 4],
    /// Whether rd, rn, rm, ra are general registers, x0 included.
    pub generals: [bool; 4],
}

impl Instruction {
    /// Decodes the instruction at a place.
    ///
    /// # Errors
    ///
    /// The instruction cannot be read.
    pub fn read(words: &mut Words<'_>, place: u64, upper: &mut Upper) -> Result<Instruction, Fault> {
        let (op, _) = super::decode::decode(fetch(words, place)?, place);
        Ok(Instruction::of(&op, place, upper))
    }

    /// An instruction that has been decoded for the interpreter, which lies at `place`.
    pub fn of(op: &Op, place: u64, upper: &mut Upper) -> Instruction {
        let row = row_of(op);
        let action = row.map(|row| row.action);
        let before = core::mem::take(upper).0;
        let target = match (action, before) {
            (Some(Action::JumpRegister), Some((register, value))) if register == op.rn => {
                Some(value.wrapping_add(op.imm) & !1)
            }
            _ => None,
        };
        if action == Some(Action::AddPc) {
            upper.0 = Some((op.rd, op.imm));
        }
        let uses = row.map_or([Use::None; 4], |row| row.uses);
        let mut generals = uses.map(|one| one == Use::General);
        generals[3] |= row.is_some_and(|row| row.reads_rd);
        Instruction {
            op: *op,
            place,
            action,
            target,
            code: op.code | 3,
            length: op.rv64_length() as u8,
            rd: op.rd,
            rn: op.rn,
            rm: op.rm,
            ra: op.ra,
            imm: op.imm,
            floats: uses.map(|one| one == Use::Float),
            generals,
        }
    }

    /// Whether a block ends after it.
    pub fn ends(&self) -> bool {
        self.action.is_none_or(ends)
    }

    /// The rounding mode; 7 is that of FCSR.
    pub fn rounding(&self) -> u32 {
        self.code >> 12 & 7
    }

    /// Whether a FENCE orders earlier stores before later loads.
    pub fn orders_stores_before_loads(&self) -> bool {
        orders_stores_before_loads(self.code)
    }

    /// The number of the CSR.
    pub fn csr(&self) -> u32 {
        self.code >> 20
    }

    /// The field of rs1, as a number.
    pub fn rs1(&self) -> u32 {
        self.code >> 15 & 31
    }
}
