//! What an instruction does, for a translator: the operation without its registers, which are in the decoded
//! instruction.

/// Where the second operand of data processing comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The immediate; with `extra` 1 the carry flag becomes its highest bit.
    Immediate,
    /// Register `rm`.
    Plain,
    /// Register `rm`, shifted by the immediate; `extra` is the kind of shift.
    Shifted,
    /// Register `rm`, shifted by the low byte of register `ra`; `extra` is the kind of shift.
    ShiftedByRegister,
}

/// What a load or store transfers, with the logarithm of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Zero-extended to register `rd`.
    Load(u8),
    /// Sign-extended to register `rd`.
    LoadSigned(u8),
    /// From register `rd`.
    Store(u8),
    /// Two words to registers `rd` and `ra`.
    LoadDual,
    /// Two words from registers `rd` and `ra`.
    StoreDual,
}

/// How a load or store computes its address from its base `rn` and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The sum.
    Offset,
    /// The sum, which is written back.
    Before,
    /// The base; the sum is written back.
    After,
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Something that only the interpreter does.
    Other,
    /// Data processing: `operation` is numbered as in bits 24 to 21 of A32's encodings, and 16 is ORN.
    Data {
        /// The operation.
        operation: u8,
        /// Whether it sets the flags.
        sets: bool,
        /// The second operand.
        form: Form,
    },
    /// The high half of `rd` becomes the immediate.
    MoveTop,
    /// A load or store.
    Access {
        /// What it transfers.
        transfer: Transfer,
        /// Its address.
        mode: Mode,
        /// Whether the offset is register `rm`, shifted left, or right by the kind in `extra`, by the
        /// immediate, and subtracted if bit 3 of `extra` is set. If not, the offset is the immediate.
        register: bool,
    },
    /// LDM, STM: the immediate is the list; bits 0 to 2 of `extra` are up, before, write-back.
    Multiple {
        /// LDM.
        loads: bool,
    },
    /// A branch to the place in the immediate.
    Branch,
    /// The same, with the next place in LR.
    BranchLink,
    /// A branch to the place in register `rm`.
    BranchRegister,
    /// The same, with the next place in LR.
    BranchLinkRegister,
    /// A branch to the place in the immediate if register `rn` is zero, or not zero if `not`.
    CompareBranch {
        /// CBNZ.
        not: bool,
    },
    /// TBB, or TBH if `halves`: a branch by an entry of the table at `rn`, the one that `rm` counts.
    TableBranch {
        /// TBH.
        halves: bool,
    },
    /// MUL, MLA, MLS by `kind` 0 to 2: `rn` times `rm`, with accumulator `ra`.
    Multiply {
        /// The kind.
        kind: u8,
        /// Whether it sets N and Z.
        sets: bool,
    },
    /// UMULL and its kin: low half `rd`, high half `ra`.
    MultiplyLong {
        /// SMULL, SMLAL.
        signed: bool,
        /// UMLAL, SMLAL.
        adds: bool,
    },
    /// UXTB and its kin: bits 0 to 1 of the immediate are a rotation in bytes; 8 signed, 16 halfword, 32 two
    /// bytes.
    Extend {
        /// Whether `rn` is added.
        adds: bool,
    },
    /// BFI, or BFC if `clears`: the lowest bit is the immediate, the width `extra`.
    Insert {
        /// BFC.
        clears: bool,
    },
    /// UBFX, or SBFX if `signed`: the lowest bit is the immediate, the width `extra`.
    Extract {
        /// SBFX.
        signed: bool,
    },
    /// SDIV, or UDIV: `rn` by `rm`.
    Divide {
        /// SDIV.
        signed: bool,
    },
    /// SMULBB and its forms: bits 0 and 1 of `extra` choose the upper half of `rn` and of `rm`.
    MultiplyHalves {
        /// SMLABB: `ra` is added.
        adds: bool,
    },
    /// SMLALBB and its forms, likewise.
    MultiplyHalvesLong,
    /// SMULWB and SMULWT, likewise.
    MultiplyWordHalf {
        /// SMLAWB: `ra` is added.
        adds: bool,
    },
    /// SMUAD and its forms: if `extra` is 1, the halves of `rm` are exchanged.
    Dual {
        /// SMUSD.
        subtracts: bool,
        /// SMLAD: `ra` is added.
        adds: bool,
    },
    /// SMLALD, likewise.
    DualLong {
        /// SMLSLD.
        subtracts: bool,
    },
    /// SMMUL, SMMLA, SMMLS by `kind` 0 to 2: the high half of a product, rounded if `extra` is 1.
    MostSignificant {
        /// The kind.
        kind: u8,
    },
    /// UMAAL.
    MultiplyAddTwice,
    /// USAD8.
    Differences {
        /// USADA8: `ra` is added.
        adds: bool,
    },
    /// CLZ.
    LeadingZeros,
    /// REV.
    Reverse,
    /// REV16.
    ReverseHalves,
    /// REVSH.
    ReverseSigned,
    /// RBIT.
    ReverseBits,
    /// SADD16 and its 35 relatives.
    Parallel {
        /// ADD16, ASX, SAX, SUB16, ADD8, SUB8.
        lanes: u8,
        /// Signed, saturating, halving, and the same unsigned.
        result: u8,
    },
    /// QADD.
    SaturatingSum {
        /// QDADD, QDSUB: `rn` is doubled.
        doubles: bool,
        /// QSUB, QDSUB.
        subtracts: bool,
    },
    /// SSAT, or USAT: the low byte of the immediate is the number of bits, the next one the amount of the
    /// shift, whose kind is `extra`.
    Saturate {
        /// SSAT.
        signed: bool,
    },
    /// SSAT16, or USAT16: the immediate is the number of bits.
    SaturateHalves {
        /// SSAT16.
        signed: bool,
    },
    /// PKHBT, or PKHTB if `extra` is 2, the kind of a shift of `rm` by the immediate.
    Pack,
    /// CRC32CB, CRC32CH, CRC32CW.
    Castagnoli {
        /// The logarithm of the bytes.
        size: u8,
    },
    /// SEL.
    Select,
    /// The thread pointer (TPIDRURO) to `rd`.
    ThreadPointer,
    /// LDREX and its kin, of the logarithm of bytes `size`; `ra` is the second register of a doubleword.
    LoadExclusive {
        /// The logarithm of the bytes.
        size: u8,
    },
    /// STREX and its kin; `rm` is the register of the result.
    StoreExclusive {
        /// The logarithm of the bytes.
        size: u8,
    },
    /// SVC; the immediate is that of the instruction.
    Call,
    /// Nothing.
    Nop,
    /// A barrier of memory.
    Barrier,
}

impl Action {
    /// The action as a number.
    pub(super) const fn pack(self) -> u32 {
        let (kind, a, b, c) = match self {
            Action::Other => (0, 0, 0, 0),
            Action::Data { operation, sets, form } => (1, operation as u32, sets as u32, form as u32),
            Action::MoveTop => (2, 0, 0, 0),
            Action::Access { transfer, mode, register } => {
                let transfer = match transfer {
                    Transfer::Load(size) => size as u32,
                    Transfer::LoadSigned(size) => 4 + size as u32,
                    Transfer::Store(size) => 8 + size as u32,
                    Transfer::LoadDual => 12,
                    Transfer::StoreDual => 13,
                };
                (3, transfer, mode as u32, register as u32)
            }
            Action::Multiple { loads } => (4, loads as u32, 0, 0),
            Action::Branch => (5, 0, 0, 0),
            Action::BranchLink => (6, 0, 0, 0),
            Action::BranchRegister => (7, 0, 0, 0),
            Action::BranchLinkRegister => (8, 0, 0, 0),
            Action::CompareBranch { not } => (9, not as u32, 0, 0),
            Action::Multiply { kind, sets } => (10, kind as u32, sets as u32, 0),
            Action::MultiplyLong { signed, adds } => (11, signed as u32, adds as u32, 0),
            Action::Extend { adds } => (12, adds as u32, 0, 0),
            Action::Insert { clears } => (13, clears as u32, 0, 0),
            Action::Extract { signed } => (14, signed as u32, 0, 0),
            Action::LeadingZeros => (15, 0, 0, 0),
            Action::Reverse => (16, 0, 0, 0),
            Action::Call => (17, 0, 0, 0),
            Action::Nop => (18, 0, 0, 0),
            Action::Barrier => (19, 0, 0, 0),
            Action::TableBranch { halves } => (20, halves as u32, 0, 0),
            Action::Parallel { lanes, result } => (21, lanes as u32, result as u32, 0),
            Action::Select => (22, 0, 0, 0),
            Action::ThreadPointer => (23, 0, 0, 0),
            Action::LoadExclusive { size } => (24, size as u32, 0, 0),
            Action::StoreExclusive { size } => (25, size as u32, 0, 0),
            Action::Divide { signed } => (26, signed as u32, 0, 0),
            Action::MultiplyHalves { adds } => (27, adds as u32, 0, 0),
            Action::MultiplyHalvesLong => (28, 0, 0, 0),
            Action::MultiplyWordHalf { adds } => (29, adds as u32, 0, 0),
            Action::Dual { subtracts, adds } => (30, subtracts as u32, adds as u32, 0),
            Action::DualLong { subtracts } => (31, subtracts as u32, 0, 0),
            Action::MostSignificant { kind } => (32, kind as u32, 0, 0),
            Action::MultiplyAddTwice => (33, 0, 0, 0),
            Action::Differences { adds } => (34, adds as u32, 0, 0),
            Action::ReverseHalves => (35, 0, 0, 0),
            Action::ReverseSigned => (36, 0, 0, 0),
            Action::ReverseBits => (37, 0, 0, 0),
            Action::SaturatingSum { doubles, subtracts } => (38, doubles as u32, subtracts as u32, 0),
            Action::Saturate { signed } => (39, signed as u32, 0, 0),
            Action::SaturateHalves { signed } => (40, signed as u32, 0, 0),
            Action::Pack => (41, 0, 0, 0),
            Action::Castagnoli { size } => (42, size as u32, 0, 0),
        };
        kind | a << 8 | b << 16 | c << 24
    }

    /// The action of a number that [`Action::pack`] has made.
    pub(super) fn unpack(packed: u32) -> Action {
        let [kind, a, b, c] = packed.to_le_bytes();
        match kind {
            1 => {
                let form = [Form::Immediate, Form::Plain, Form::Shifted, Form::ShiftedByRegister];
                Action::Data { operation: a, sets: b != 0, form: form[usize::from(c & 3)] }
            }
            2 => Action::MoveTop,
            3 => {
                let transfer = match a {
                    0..4 => Transfer::Load(a),
                    4..8 => Transfer::LoadSigned(a - 4),
                    8..12 => Transfer::Store(a - 8),
                    12 => Transfer::LoadDual,
                    _ => Transfer::StoreDual,
                };
                let mode = [Mode::Offset, Mode::Before, Mode::After][usize::from(b.min(2))];
                Action::Access { transfer, mode, register: c != 0 }
            }
            4 => Action::Multiple { loads: a != 0 },
            5 => Action::Branch,
            6 => Action::BranchLink,
            7 => Action::BranchRegister,
            8 => Action::BranchLinkRegister,
            9 => Action::CompareBranch { not: a != 0 },
            10 => Action::Multiply { kind: a, sets: b != 0 },
            11 => Action::MultiplyLong { signed: a != 0, adds: b != 0 },
            12 => Action::Extend { adds: a != 0 },
            13 => Action::Insert { clears: a != 0 },
            14 => Action::Extract { signed: a != 0 },
            15 => Action::LeadingZeros,
            16 => Action::Reverse,
            17 => Action::Call,
            18 => Action::Nop,
            19 => Action::Barrier,
            20 => Action::TableBranch { halves: a != 0 },
            21 => Action::Parallel { lanes: a, result: b },
            22 => Action::Select,
            23 => Action::ThreadPointer,
            24 => Action::LoadExclusive { size: a },
            25 => Action::StoreExclusive { size: a },
            26 => Action::Divide { signed: a != 0 },
            27 => Action::MultiplyHalves { adds: a != 0 },
            28 => Action::MultiplyHalvesLong,
            29 => Action::MultiplyWordHalf { adds: a != 0 },
            30 => Action::Dual { subtracts: a != 0, adds: b != 0 },
            31 => Action::DualLong { subtracts: a != 0 },
            32 => Action::MostSignificant { kind: a },
            33 => Action::MultiplyAddTwice,
            34 => Action::Differences { adds: a != 0 },
            35 => Action::ReverseHalves,
            36 => Action::ReverseSigned,
            37 => Action::ReverseBits,
            38 => Action::SaturatingSum { doubles: a != 0, subtracts: b != 0 },
            39 => Action::Saturate { signed: a != 0 },
            40 => Action::SaturateHalves { signed: a != 0 },
            41 => Action::Pack,
            42 => Action::Castagnoli { size: a },
            _ => Action::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_come_back() {
        for action in [
            Action::Data { operation: 16, sets: true, form: Form::ShiftedByRegister },
            Action::Access { transfer: Transfer::LoadSigned(1), mode: Mode::After, register: true },
            Action::Access { transfer: Transfer::StoreDual, mode: Mode::Before, register: false },
            Action::Multiple { loads: true },
            Action::CompareBranch { not: true },
            Action::MultiplyLong { signed: true, adds: false },
            Action::Barrier,
            Action::TableBranch { halves: true },
            Action::StoreExclusive { size: 3 },
            Action::Dual { subtracts: false, adds: true },
            Action::Parallel { lanes: 5, result: 4 },
            Action::SaturatingSum { doubles: true, subtracts: false },
            Action::Castagnoli { size: 2 },
            Action::Other,
        ] {
            assert_eq!(Action::unpack(action.pack()), action);
        }
    }
}
