//! The encodings, as data. Those that programs use most come first.

use super::action::{Action, Atomic, Comparison, Compute, Csr, Float, Precision, Unary};
use super::row::{Extension, Row, row};
use super::vector;
use Action::{
    AddPc, Branch, Breakpoint, CompareSwap, ComputeImmediate, ComputeWord, ComputeWordImmediate, Convert,
    ConvertModular, CsrImmediate, EnvironmentCall, Fence, FenceInstructions, FromInteger, Jump, JumpRegister,
    Load, LoadFloat, LoadReserved, LoadUpper, Nothing, Store, StoreConditional, StoreFloat, ToInteger,
    TouchBlock, ZeroBlock,
};
use Compute::*;
use Extension::{
    A, D, F, I, M, Zabha, Zacas, Zawrs, Zba, Zbb, Zbc, Zbs, Zfa, Zfh, Zicbom, Zicboz, Zicond, Zicsr,
    Zifencei, Zimop,
};
use Precision::{Double, Half, Single};

/// RV64I, Zifencei, Zicsr.
#[rustfmt::skip]
const INTEGER: &[Row] = &[
    row("iiiiiiiiiiii nnnnn 000 ddddd 0010011", "ADDI", I, ComputeImmediate(Add)),
    row("iiiiiiiiiiii nnnnn 000 ddddd 0011011", "ADDIW", I, ComputeWordImmediate(Add)),
    row("iiiiiiiiiiii nnnnn 011 ddddd 0000011", "LD", I, Load { size: 3, signed: true }),
    row("iiiiiiiiiiii nnnnn 010 ddddd 0000011", "LW", I, Load { size: 2, signed: true }),
    row("iiiiiiiiiiii nnnnn 110 ddddd 0000011", "LWU", I, Load { size: 2, signed: false }),
    row("iiiiiiiiiiii nnnnn 000 ddddd 0000011", "LB", I, Load { size: 0, signed: true }),
    row("iiiiiiiiiiii nnnnn 100 ddddd 0000011", "LBU", I, Load { size: 0, signed: false }),
    row("iiiiiiiiiiii nnnnn 001 ddddd 0000011", "LH", I, Load { size: 1, signed: true }),
    row("iiiiiiiiiiii nnnnn 101 ddddd 0000011", "LHU", I, Load { size: 1, signed: false }),
    row("jjjjjjj mmmmm nnnnn 011 kkkkk 0100011", "SD", I, Store { size: 3 }),
    row("jjjjjjj mmmmm nnnnn 010 kkkkk 0100011", "SW", I, Store { size: 2 }),
    row("jjjjjjj mmmmm nnnnn 000 kkkkk 0100011", "SB", I, Store { size: 0 }),
    row("jjjjjjj mmmmm nnnnn 001 kkkkk 0100011", "SH", I, Store { size: 1 }),
    row("ppppppp mmmmm nnnnn 000 qqqqq 1100011", "BEQ", I, Branch(Comparison::Equal)),
    row("ppppppp mmmmm nnnnn 001 qqqqq 1100011", "BNE", I, Branch(Comparison::NotEqual)),
    row("ppppppp mmmmm nnnnn 100 qqqqq 1100011", "BLT", I, Branch(Comparison::Less)),
    row("ppppppp mmmmm nnnnn 101 qqqqq 1100011", "BGE", I, Branch(Comparison::GreaterEqual)),
    row("ppppppp mmmmm nnnnn 110 qqqqq 1100011", "BLTU", I, Branch(Comparison::LessUnsigned)),
    row("ppppppp mmmmm nnnnn 111 qqqqq 1100011", "BGEU", I, Branch(Comparison::GreaterEqualUnsigned)),
    row("oooooooooooooooooooo ddddd 1101111", "JAL", I, Jump),
    row("iiiiiiiiiiii nnnnn 000 ddddd 1100111", "JALR", I, JumpRegister),
    row("iiiiiiiiiiiiiiiiiiii ddddd 0110111", "LUI", I, LoadUpper),
    row("iiiiiiiiiiiiiiiiiiii ddddd 0010111", "AUIPC", I, AddPc),
    row("iiiiiiiiiiii nnnnn 111 ddddd 0010011", "ANDI", I, ComputeImmediate(And)),
    row("iiiiiiiiiiii nnnnn 110 ddddd 0010011", "ORI", I, ComputeImmediate(Or)),
    row("iiiiiiiiiiii nnnnn 100 ddddd 0010011", "XORI", I, ComputeImmediate(Xor)),
    row("iiiiiiiiiiii nnnnn 010 ddddd 0010011", "SLTI", I, ComputeImmediate(Slt)),
    row("iiiiiiiiiiii nnnnn 011 ddddd 0010011", "SLTIU", I, ComputeImmediate(Sltu)),
    row("000000 hhhhhh nnnnn 001 ddddd 0010011", "SLLI", I, ComputeImmediate(Sll)),
    row("000000 hhhhhh nnnnn 101 ddddd 0010011", "SRLI", I, ComputeImmediate(Srl)),
    row("010000 hhhhhh nnnnn 101 ddddd 0010011", "SRAI", I, ComputeImmediate(Sra)),
    row("0000000 hhhhh nnnnn 001 ddddd 0011011", "SLLIW", I, ComputeWordImmediate(Sll)),
    row("0000000 hhhhh nnnnn 101 ddddd 0011011", "SRLIW", I, ComputeWordImmediate(Srl)),
    row("0100000 hhhhh nnnnn 101 ddddd 0011011", "SRAIW", I, ComputeWordImmediate(Sra)),
    row("0000000 mmmmm nnnnn 000 ddddd 0110011", "ADD", I, Action::Compute(Add)),
    row("0100000 mmmmm nnnnn 000 ddddd 0110011", "SUB", I, Action::Compute(Sub)),
    row("0000000 mmmmm nnnnn 001 ddddd 0110011", "SLL", I, Action::Compute(Sll)),
    row("0000000 mmmmm nnnnn 010 ddddd 0110011", "SLT", I, Action::Compute(Slt)),
    row("0000000 mmmmm nnnnn 011 ddddd 0110011", "SLTU", I, Action::Compute(Sltu)),
    row("0000000 mmmmm nnnnn 100 ddddd 0110011", "XOR", I, Action::Compute(Xor)),
    row("0000000 mmmmm nnnnn 101 ddddd 0110011", "SRL", I, Action::Compute(Srl)),
    row("0100000 mmmmm nnnnn 101 ddddd 0110011", "SRA", I, Action::Compute(Sra)),
    row("0000000 mmmmm nnnnn 110 ddddd 0110011", "OR", I, Action::Compute(Or)),
    row("0000000 mmmmm nnnnn 111 ddddd 0110011", "AND", I, Action::Compute(And)),
    row("0000000 mmmmm nnnnn 000 ddddd 0111011", "ADDW", I, ComputeWord(Add)),
    row("0100000 mmmmm nnnnn 000 ddddd 0111011", "SUBW", I, ComputeWord(Sub)),
    row("0000000 mmmmm nnnnn 001 ddddd 0111011", "SLLW", I, ComputeWord(Sll)),
    row("0000000 mmmmm nnnnn 101 ddddd 0111011", "SRLW", I, ComputeWord(Srl)),
    row("0100000 mmmmm nnnnn 101 ddddd 0111011", "SRAW", I, ComputeWord(Sra)),
    row("1000001 10011 00000 000 00000 0001111", "FENCE.TSO", I, Nothing),
    row("0000000 10000 00000 000 00000 0001111", "PAUSE", I, Nothing),
    row("ffffffffffff ggggg 000 xxxxx 0001111", "FENCE", I, Fence),
    row("xxxxxxxxxxxx ggggg 001 xxxxx 0001111", "FENCE.I", Zifencei, FenceInstructions),
    row("0000000 00000 00000 000 00000 1110011", "ECALL", I, EnvironmentCall),
    row("0000000 00001 00000 000 00000 1110011", "EBREAK", I, Breakpoint),
    row("cccccccccccc nnnnn 001 ddddd 1110011", "CSRRW", Zicsr, Action::Csr(Csr::Write)),
    row("cccccccccccc nnnnn 010 ddddd 1110011", "CSRRS", Zicsr, Action::Csr(Csr::Set)),
    row("cccccccccccc nnnnn 011 ddddd 1110011", "CSRRC", Zicsr, Action::Csr(Csr::Clear)),
    row("cccccccccccc uuuuu 101 ddddd 1110011", "CSRRWI", Zicsr, CsrImmediate(Csr::Write)),
    row("cccccccccccc uuuuu 110 ddddd 1110011", "CSRRSI", Zicsr, CsrImmediate(Csr::Set)),
    row("cccccccccccc uuuuu 111 ddddd 1110011", "CSRRCI", Zicsr, CsrImmediate(Csr::Clear)),
];

/// M.
#[rustfmt::skip]
const MULTIPLY: &[Row] = &[
    row("0000001 mmmmm nnnnn 000 ddddd 0110011", "MUL", M, Action::Compute(Mul)),
    row("0000001 mmmmm nnnnn 001 ddddd 0110011", "MULH", M, Action::Compute(Mulh)),
    row("0000001 mmmmm nnnnn 010 ddddd 0110011", "MULHSU", M, Action::Compute(Mulhsu)),
    row("0000001 mmmmm nnnnn 011 ddddd 0110011", "MULHU", M, Action::Compute(Mulhu)),
    row("0000001 mmmmm nnnnn 100 ddddd 0110011", "DIV", M, Action::Compute(Div)),
    row("0000001 mmmmm nnnnn 101 ddddd 0110011", "DIVU", M, Action::Compute(Divu)),
    row("0000001 mmmmm nnnnn 110 ddddd 0110011", "REM", M, Action::Compute(Rem)),
    row("0000001 mmmmm nnnnn 111 ddddd 0110011", "REMU", M, Action::Compute(Remu)),
    row("0000001 mmmmm nnnnn 000 ddddd 0111011", "MULW", M, ComputeWord(Mul)),
    row("0000001 mmmmm nnnnn 100 ddddd 0111011", "DIVW", M, ComputeWord(Div)),
    row("0000001 mmmmm nnnnn 101 ddddd 0111011", "DIVUW", M, ComputeWord(Divu)),
    row("0000001 mmmmm nnnnn 110 ddddd 0111011", "REMW", M, ComputeWord(Rem)),
    row("0000001 mmmmm nnnnn 111 ddddd 0111011", "REMUW", M, ComputeWord(Remu)),
];

/// A, Zacas, Zabha, Zawrs.
#[rustfmt::skip]
const ATOMIC: &[Row] = &[
    row("00010 y z 00000 nnnnn 010 ddddd 0101111", "LR.W", A, LoadReserved { size: 2 }),
    row("00011 y z mmmmm nnnnn 010 ddddd 0101111", "SC.W", A, StoreConditional { size: 2 }),
    row("00010 y z 00000 nnnnn 011 ddddd 0101111", "LR.D", A, LoadReserved { size: 3 }),
    row("00011 y z mmmmm nnnnn 011 ddddd 0101111", "SC.D", A, StoreConditional { size: 3 }),
    row("00001 y z mmmmm nnnnn 010 ddddd 0101111", "AMOSWAP.W", A, Action::Atomic { operation: Atomic::Swap, size: 2 }),
    row("00000 y z mmmmm nnnnn 010 ddddd 0101111", "AMOADD.W", A, Action::Atomic { operation: Atomic::Add, size: 2 }),
    row("00100 y z mmmmm nnnnn 010 ddddd 0101111", "AMOXOR.W", A, Action::Atomic { operation: Atomic::Xor, size: 2 }),
    row("01100 y z mmmmm nnnnn 010 ddddd 0101111", "AMOAND.W", A, Action::Atomic { operation: Atomic::And, size: 2 }),
    row("01000 y z mmmmm nnnnn 010 ddddd 0101111", "AMOOR.W", A, Action::Atomic { operation: Atomic::Or, size: 2 }),
    row("10000 y z mmmmm nnnnn 010 ddddd 0101111", "AMOMIN.W", A, Action::Atomic { operation: Atomic::Min, size: 2 }),
    row("10100 y z mmmmm nnnnn 010 ddddd 0101111", "AMOMAX.W", A, Action::Atomic { operation: Atomic::Max, size: 2 }),
    row("11000 y z mmmmm nnnnn 010 ddddd 0101111", "AMOMINU.W", A, Action::Atomic { operation: Atomic::Minu, size: 2 }),
    row("11100 y z mmmmm nnnnn 010 ddddd 0101111", "AMOMAXU.W", A, Action::Atomic { operation: Atomic::Maxu, size: 2 }),
    row("00001 y z mmmmm nnnnn 011 ddddd 0101111", "AMOSWAP.D", A, Action::Atomic { operation: Atomic::Swap, size: 3 }),
    row("00000 y z mmmmm nnnnn 011 ddddd 0101111", "AMOADD.D", A, Action::Atomic { operation: Atomic::Add, size: 3 }),
    row("00100 y z mmmmm nnnnn 011 ddddd 0101111", "AMOXOR.D", A, Action::Atomic { operation: Atomic::Xor, size: 3 }),
    row("01100 y z mmmmm nnnnn 011 ddddd 0101111", "AMOAND.D", A, Action::Atomic { operation: Atomic::And, size: 3 }),
    row("01000 y z mmmmm nnnnn 011 ddddd 0101111", "AMOOR.D", A, Action::Atomic { operation: Atomic::Or, size: 3 }),
    row("10000 y z mmmmm nnnnn 011 ddddd 0101111", "AMOMIN.D", A, Action::Atomic { operation: Atomic::Min, size: 3 }),
    row("10100 y z mmmmm nnnnn 011 ddddd 0101111", "AMOMAX.D", A, Action::Atomic { operation: Atomic::Max, size: 3 }),
    row("11000 y z mmmmm nnnnn 011 ddddd 0101111", "AMOMINU.D", A, Action::Atomic { operation: Atomic::Minu, size: 3 }),
    row("11100 y z mmmmm nnnnn 011 ddddd 0101111", "AMOMAXU.D", A, Action::Atomic { operation: Atomic::Maxu, size: 3 }),
    row("00001 y z mmmmm nnnnn 000 ddddd 0101111", "AMOSWAP.B", Zabha, Action::Atomic { operation: Atomic::Swap, size: 0 }),
    row("00000 y z mmmmm nnnnn 000 ddddd 0101111", "AMOADD.B", Zabha, Action::Atomic { operation: Atomic::Add, size: 0 }),
    row("00100 y z mmmmm nnnnn 000 ddddd 0101111", "AMOXOR.B", Zabha, Action::Atomic { operation: Atomic::Xor, size: 0 }),
    row("01100 y z mmmmm nnnnn 000 ddddd 0101111", "AMOAND.B", Zabha, Action::Atomic { operation: Atomic::And, size: 0 }),
    row("01000 y z mmmmm nnnnn 000 ddddd 0101111", "AMOOR.B", Zabha, Action::Atomic { operation: Atomic::Or, size: 0 }),
    row("10000 y z mmmmm nnnnn 000 ddddd 0101111", "AMOMIN.B", Zabha, Action::Atomic { operation: Atomic::Min, size: 0 }),
    row("10100 y z mmmmm nnnnn 000 ddddd 0101111", "AMOMAX.B", Zabha, Action::Atomic { operation: Atomic::Max, size: 0 }),
    row("11000 y z mmmmm nnnnn 000 ddddd 0101111", "AMOMINU.B", Zabha, Action::Atomic { operation: Atomic::Minu, size: 0 }),
    row("11100 y z mmmmm nnnnn 000 ddddd 0101111", "AMOMAXU.B", Zabha, Action::Atomic { operation: Atomic::Maxu, size: 0 }),
    row("00001 y z mmmmm nnnnn 001 ddddd 0101111", "AMOSWAP.H", Zabha, Action::Atomic { operation: Atomic::Swap, size: 1 }),
    row("00000 y z mmmmm nnnnn 001 ddddd 0101111", "AMOADD.H", Zabha, Action::Atomic { operation: Atomic::Add, size: 1 }),
    row("00100 y z mmmmm nnnnn 001 ddddd 0101111", "AMOXOR.H", Zabha, Action::Atomic { operation: Atomic::Xor, size: 1 }),
    row("01100 y z mmmmm nnnnn 001 ddddd 0101111", "AMOAND.H", Zabha, Action::Atomic { operation: Atomic::And, size: 1 }),
    row("01000 y z mmmmm nnnnn 001 ddddd 0101111", "AMOOR.H", Zabha, Action::Atomic { operation: Atomic::Or, size: 1 }),
    row("10000 y z mmmmm nnnnn 001 ddddd 0101111", "AMOMIN.H", Zabha, Action::Atomic { operation: Atomic::Min, size: 1 }),
    row("10100 y z mmmmm nnnnn 001 ddddd 0101111", "AMOMAX.H", Zabha, Action::Atomic { operation: Atomic::Max, size: 1 }),
    row("11000 y z mmmmm nnnnn 001 ddddd 0101111", "AMOMINU.H", Zabha, Action::Atomic { operation: Atomic::Minu, size: 1 }),
    row("11100 y z mmmmm nnnnn 001 ddddd 0101111", "AMOMAXU.H", Zabha, Action::Atomic { operation: Atomic::Maxu, size: 1 }),
    row("00101 y z mmmmm nnnnn 010 eeeee 0101111", "AMOCAS.W", Zacas, CompareSwap { size: 2 }),
    row("00101 y z mmmmm nnnnn 011 eeeee 0101111", "AMOCAS.D", Zacas, CompareSwap { size: 3 }),
    row("00101 y z mmmmm nnnnn 100 eeeee 0101111", "AMOCAS.Q", Zacas, CompareSwap { size: 4 }),
    row("00101 y z mmmmm nnnnn 000 eeeee 0101111", "AMOCAS.B", Zabha, CompareSwap { size: 0 }),
    row("00101 y z mmmmm nnnnn 001 eeeee 0101111", "AMOCAS.H", Zabha, CompareSwap { size: 1 }),
    row("0000000 01101 00000 000 00000 1110011", "WRS.NTO", Zawrs, Nothing),
    row("0000000 11101 00000 000 00000 1110011", "WRS.STO", Zawrs, Nothing),
];

/// Zba, Zbb, Zbc, Zbs, Zicond.
#[rustfmt::skip]
const BITS: &[Row] = &[
    row("0000100 mmmmm nnnnn 000 ddddd 0111011", "ADD.UW", Zba, Action::Compute(AddUw)),
    row("0010000 mmmmm nnnnn 010 ddddd 0110011", "SH1ADD", Zba, Action::Compute(Sh1add)),
    row("0010000 mmmmm nnnnn 100 ddddd 0110011", "SH2ADD", Zba, Action::Compute(Sh2add)),
    row("0010000 mmmmm nnnnn 110 ddddd 0110011", "SH3ADD", Zba, Action::Compute(Sh3add)),
    row("0010000 mmmmm nnnnn 010 ddddd 0111011", "SH1ADD.UW", Zba, Action::Compute(Sh1addUw)),
    row("0010000 mmmmm nnnnn 100 ddddd 0111011", "SH2ADD.UW", Zba, Action::Compute(Sh2addUw)),
    row("0010000 mmmmm nnnnn 110 ddddd 0111011", "SH3ADD.UW", Zba, Action::Compute(Sh3addUw)),
    row("000010 hhhhhh nnnnn 001 ddddd 0011011", "SLLI.UW", Zba, ComputeImmediate(SllUw)),
    row("0100000 mmmmm nnnnn 111 ddddd 0110011", "ANDN", Zbb, Action::Compute(Andn)),
    row("0100000 mmmmm nnnnn 110 ddddd 0110011", "ORN", Zbb, Action::Compute(Orn)),
    row("0100000 mmmmm nnnnn 100 ddddd 0110011", "XNOR", Zbb, Action::Compute(Xnor)),
    row("0000101 mmmmm nnnnn 110 ddddd 0110011", "MAX", Zbb, Action::Compute(Max)),
    row("0000101 mmmmm nnnnn 111 ddddd 0110011", "MAXU", Zbb, Action::Compute(Maxu)),
    row("0000101 mmmmm nnnnn 100 ddddd 0110011", "MIN", Zbb, Action::Compute(Min)),
    row("0000101 mmmmm nnnnn 101 ddddd 0110011", "MINU", Zbb, Action::Compute(Minu)),
    row("0110000 mmmmm nnnnn 001 ddddd 0110011", "ROL", Zbb, Action::Compute(Rol)),
    row("0110000 mmmmm nnnnn 101 ddddd 0110011", "ROR", Zbb, Action::Compute(Ror)),
    row("0110000 mmmmm nnnnn 001 ddddd 0111011", "ROLW", Zbb, ComputeWord(Rol)),
    row("0110000 mmmmm nnnnn 101 ddddd 0111011", "RORW", Zbb, ComputeWord(Ror)),
    row("011000 hhhhhh nnnnn 101 ddddd 0010011", "RORI", Zbb, ComputeImmediate(Ror)),
    row("0110000 hhhhh nnnnn 101 ddddd 0011011", "RORIW", Zbb, ComputeWordImmediate(Ror)),
    row("0110000 00000 nnnnn 001 ddddd 0010011", "CLZ", Zbb, Action::Unary(Unary::Clz)),
    row("0110000 00001 nnnnn 001 ddddd 0010011", "CTZ", Zbb, Action::Unary(Unary::Ctz)),
    row("0110000 00010 nnnnn 001 ddddd 0010011", "CPOP", Zbb, Action::Unary(Unary::Cpop)),
    row("0110000 00100 nnnnn 001 ddddd 0010011", "SEXT.B", Zbb, Action::Unary(Unary::SextB)),
    row("0110000 00101 nnnnn 001 ddddd 0010011", "SEXT.H", Zbb, Action::Unary(Unary::SextH)),
    row("0110000 00000 nnnnn 001 ddddd 0011011", "CLZW", Zbb, Action::Unary(Unary::Clzw)),
    row("0110000 00001 nnnnn 001 ddddd 0011011", "CTZW", Zbb, Action::Unary(Unary::Ctzw)),
    row("0110000 00010 nnnnn 001 ddddd 0011011", "CPOPW", Zbb, Action::Unary(Unary::Cpopw)),
    row("0000100 00000 nnnnn 100 ddddd 0111011", "ZEXT.H", Zbb, Action::Unary(Unary::ZextH)),
    row("0010100 00111 nnnnn 101 ddddd 0010011", "ORC.B", Zbb, Action::Unary(Unary::OrcB)),
    row("0110101 11000 nnnnn 101 ddddd 0010011", "REV8", Zbb, Action::Unary(Unary::Rev8)),
    row("0000101 mmmmm nnnnn 001 ddddd 0110011", "CLMUL", Zbc, Action::Compute(Clmul)),
    row("0000101 mmmmm nnnnn 011 ddddd 0110011", "CLMULH", Zbc, Action::Compute(Clmulh)),
    row("0000101 mmmmm nnnnn 010 ddddd 0110011", "CLMULR", Zbc, Action::Compute(Clmulr)),
    row("0100100 mmmmm nnnnn 001 ddddd 0110011", "BCLR", Zbs, Action::Compute(Bclr)),
    row("010010 hhhhhh nnnnn 001 ddddd 0010011", "BCLRI", Zbs, ComputeImmediate(Bclr)),
    row("0100100 mmmmm nnnnn 101 ddddd 0110011", "BEXT", Zbs, Action::Compute(Bext)),
    row("010010 hhhhhh nnnnn 101 ddddd 0010011", "BEXTI", Zbs, ComputeImmediate(Bext)),
    row("0110100 mmmmm nnnnn 001 ddddd 0110011", "BINV", Zbs, Action::Compute(Binv)),
    row("011010 hhhhhh nnnnn 001 ddddd 0010011", "BINVI", Zbs, ComputeImmediate(Binv)),
    row("0010100 mmmmm nnnnn 001 ddddd 0110011", "BSET", Zbs, Action::Compute(Bset)),
    row("001010 hhhhhh nnnnn 001 ddddd 0010011", "BSETI", Zbs, ComputeImmediate(Bset)),
    row("0000111 mmmmm nnnnn 101 ddddd 0110011", "CZERO.EQZ", Zicond, Action::Compute(CzeroEqz)),
    row("0000111 mmmmm nnnnn 111 ddddd 0110011", "CZERO.NEZ", Zicond, Action::Compute(CzeroNez)),
];

/// Zicboz, Zicbom, Zimop.
#[rustfmt::skip]
const OTHERS: &[Row] = &[
    row("0000000 00100 nnnnn 010 00000 0001111", "CBO.ZERO", Zicboz, ZeroBlock),
    row("0000000 00001 nnnnn 010 00000 0001111", "CBO.CLEAN", Zicbom, TouchBlock),
    row("0000000 00010 nnnnn 010 00000 0001111", "CBO.FLUSH", Zicbom, TouchBlock),
    row("1 x 00 xx 0111 xx nnnnn 100 ddddd 1110011", "MOP.R", Zimop, Action::Compute(Zero)),
    row("1 x 00 xx 1 mmmmm nnnnn 100 ddddd 1110011", "MOP.RR", Zimop, Action::Compute(Zero)),
];

/// The instructions that each precision has: the bits of its field, its letter, and that of its moves.
macro_rules! precision {
    ($name:ident, $precision:ident, $extension:ident, $bits:literal, $letter:literal, $moved:literal) => {
        #[rustfmt::skip]
        const $name: &[Row] = &[
            row(concat!("00000 ", $bits, " MMMMM NNNNN rrr DDDDD 1010011"), concat!("FADD.", $letter), $extension, Action::Float { operation: Float::Add, precision: $precision }),
            row(concat!("00001 ", $bits, " MMMMM NNNNN rrr DDDDD 1010011"), concat!("FSUB.", $letter), $extension, Action::Float { operation: Float::Sub, precision: $precision }),
            row(concat!("00010 ", $bits, " MMMMM NNNNN rrr DDDDD 1010011"), concat!("FMUL.", $letter), $extension, Action::Float { operation: Float::Mul, precision: $precision }),
            row(concat!("00011 ", $bits, " MMMMM NNNNN rrr DDDDD 1010011"), concat!("FDIV.", $letter), $extension, Action::Float { operation: Float::Div, precision: $precision }),
            row(concat!("01011 ", $bits, " 00000 NNNNN rrr DDDDD 1010011"), concat!("FSQRT.", $letter), $extension, Action::Float { operation: Float::Sqrt, precision: $precision }),
            row(concat!("AAAAA ", $bits, " MMMMM NNNNN rrr DDDDD 1000011"), concat!("FMADD.", $letter), $extension, Action::Float { operation: Float::Madd, precision: $precision }),
            row(concat!("AAAAA ", $bits, " MMMMM NNNNN rrr DDDDD 1000111"), concat!("FMSUB.", $letter), $extension, Action::Float { operation: Float::Msub, precision: $precision }),
            row(concat!("AAAAA ", $bits, " MMMMM NNNNN rrr DDDDD 1001011"), concat!("FNMSUB.", $letter), $extension, Action::Float { operation: Float::Nmsub, precision: $precision }),
            row(concat!("AAAAA ", $bits, " MMMMM NNNNN rrr DDDDD 1001111"), concat!("FNMADD.", $letter), $extension, Action::Float { operation: Float::Nmadd, precision: $precision }),
            row(concat!("00100 ", $bits, " MMMMM NNNNN 000 DDDDD 1010011"), concat!("FSGNJ.", $letter), $extension, Action::Float { operation: Float::Sgnj, precision: $precision }),
            row(concat!("00100 ", $bits, " MMMMM NNNNN 001 DDDDD 1010011"), concat!("FSGNJN.", $letter), $extension, Action::Float { operation: Float::Sgnjn, precision: $precision }),
            row(concat!("00100 ", $bits, " MMMMM NNNNN 010 DDDDD 1010011"), concat!("FSGNJX.", $letter), $extension, Action::Float { operation: Float::Sgnjx, precision: $precision }),
            row(concat!("00101 ", $bits, " MMMMM NNNNN 000 DDDDD 1010011"), concat!("FMIN.", $letter), $extension, Action::Float { operation: Float::Min, precision: $precision }),
            row(concat!("00101 ", $bits, " MMMMM NNNNN 001 DDDDD 1010011"), concat!("FMAX.", $letter), $extension, Action::Float { operation: Float::Max, precision: $precision }),
            row(concat!("10100 ", $bits, " MMMMM NNNNN 010 ddddd 1010011"), concat!("FEQ.", $letter), $extension, Action::Float { operation: Float::Eq, precision: $precision }),
            row(concat!("10100 ", $bits, " MMMMM NNNNN 001 ddddd 1010011"), concat!("FLT.", $letter), $extension, Action::Float { operation: Float::Lt, precision: $precision }),
            row(concat!("10100 ", $bits, " MMMMM NNNNN 000 ddddd 1010011"), concat!("FLE.", $letter), $extension, Action::Float { operation: Float::Le, precision: $precision }),
            row(concat!("11100 ", $bits, " 00000 NNNNN 001 ddddd 1010011"), concat!("FCLASS.", $letter), $extension, Action::Float { operation: Float::Class, precision: $precision }),
            row(concat!("11100 ", $bits, " 00000 NNNNN 000 ddddd 1010011"), concat!("FMV.X.", $moved), $extension, Action::Float { operation: Float::MoveToInteger, precision: $precision }),
            row(concat!("11110 ", $bits, " 00000 nnnnn 000 DDDDD 1010011"), concat!("FMV.", $moved, ".X"), $extension, Action::Float { operation: Float::MoveFromInteger, precision: $precision }),
            row(concat!("11000 ", $bits, " 00000 NNNNN rrr ddddd 1010011"), concat!("FCVT.W.", $letter), $extension, ToInteger { precision: $precision, wide: false, unsigned: false }),
            row(concat!("11010 ", $bits, " 00000 nnnnn rrr DDDDD 1010011"), concat!("FCVT.", $letter, ".W"), $extension, FromInteger { precision: $precision, wide: false, unsigned: false }),
            row(concat!("11000 ", $bits, " 00001 NNNNN rrr ddddd 1010011"), concat!("FCVT.WU.", $letter), $extension, ToInteger { precision: $precision, wide: false, unsigned: true }),
            row(concat!("11010 ", $bits, " 00001 nnnnn rrr DDDDD 1010011"), concat!("FCVT.", $letter, ".WU"), $extension, FromInteger { precision: $precision, wide: false, unsigned: true }),
            row(concat!("11000 ", $bits, " 00010 NNNNN rrr ddddd 1010011"), concat!("FCVT.L.", $letter), $extension, ToInteger { precision: $precision, wide: true, unsigned: false }),
            row(concat!("11010 ", $bits, " 00010 nnnnn rrr DDDDD 1010011"), concat!("FCVT.", $letter, ".L"), $extension, FromInteger { precision: $precision, wide: true, unsigned: false }),
            row(concat!("11000 ", $bits, " 00011 NNNNN rrr ddddd 1010011"), concat!("FCVT.LU.", $letter), $extension, ToInteger { precision: $precision, wide: true, unsigned: true }),
            row(concat!("11010 ", $bits, " 00011 nnnnn rrr DDDDD 1010011"), concat!("FCVT.", $letter, ".LU"), $extension, FromInteger { precision: $precision, wide: true, unsigned: true }),
            row(concat!("00101 ", $bits, " MMMMM NNNNN 010 DDDDD 1010011"), concat!("FMINM.", $letter), Zfa, Action::Float { operation: Float::Minm, precision: $precision }),
            row(concat!("00101 ", $bits, " MMMMM NNNNN 011 DDDDD 1010011"), concat!("FMAXM.", $letter), Zfa, Action::Float { operation: Float::Maxm, precision: $precision }),
            row(concat!("10100 ", $bits, " MMMMM NNNNN 101 ddddd 1010011"), concat!("FLTQ.", $letter), Zfa, Action::Float { operation: Float::Ltq, precision: $precision }),
            row(concat!("10100 ", $bits, " MMMMM NNNNN 100 ddddd 1010011"), concat!("FLEQ.", $letter), Zfa, Action::Float { operation: Float::Leq, precision: $precision }),
            row(concat!("01000 ", $bits, " 00100 NNNNN rrr DDDDD 1010011"), concat!("FROUND.", $letter), Zfa, Action::Float { operation: Float::Round, precision: $precision }),
            row(concat!("01000 ", $bits, " 00101 NNNNN rrr DDDDD 1010011"), concat!("FROUNDNX.", $letter), Zfa, Action::Float { operation: Float::RoundInexact, precision: $precision }),
            row(concat!("11110 ", $bits, " 00001 uuuuu 000 DDDDD 1010011"), concat!("FLI.", $letter), Zfa, Action::Float { operation: Float::LoadImmediate, precision: $precision }),
        ];
    };
}

precision!(SINGLE, Single, F, "00", "S", "W");
precision!(DOUBLE, Double, D, "01", "D", "D");
precision!(HALF, Half, Zfh, "10", "H", "H");

/// Loads, stores and conversions of floating point.
#[rustfmt::skip]
const FLOAT: &[Row] = &[
    row("iiiiiiiiiiii nnnnn 011 DDDDD 0000111", "FLD", D, LoadFloat { size: 3 }),
    row("iiiiiiiiiiii nnnnn 010 DDDDD 0000111", "FLW", F, LoadFloat { size: 2 }),
    row("iiiiiiiiiiii nnnnn 001 DDDDD 0000111", "FLH", Zfh, LoadFloat { size: 1 }),
    row("jjjjjjj MMMMM nnnnn 011 kkkkk 0100111", "FSD", D, StoreFloat { size: 3 }),
    row("jjjjjjj MMMMM nnnnn 010 kkkkk 0100111", "FSW", F, StoreFloat { size: 2 }),
    row("jjjjjjj MMMMM nnnnn 001 kkkkk 0100111", "FSH", Zfh, StoreFloat { size: 1 }),
    row("01000 00 00001 NNNNN rrr DDDDD 1010011", "FCVT.S.D", D, Convert { from: Double, to: Single }),
    row("01000 01 00000 NNNNN rrr DDDDD 1010011", "FCVT.D.S", D, Convert { from: Single, to: Double }),
    row("01000 00 00010 NNNNN rrr DDDDD 1010011", "FCVT.S.H", Zfh, Convert { from: Half, to: Single }),
    row("01000 10 00000 NNNNN rrr DDDDD 1010011", "FCVT.H.S", Zfh, Convert { from: Single, to: Half }),
    row("01000 01 00010 NNNNN rrr DDDDD 1010011", "FCVT.D.H", Zfh, Convert { from: Half, to: Double }),
    row("01000 10 00001 NNNNN rrr DDDDD 1010011", "FCVT.H.D", Zfh, Convert { from: Double, to: Half }),
    row("11000 01 01000 NNNNN 001 ddddd 1010011", "FCVTMOD.W.D", Zfa, ConvertModular),
];

const PARTS: [&[Row]; 10] =
    [INTEGER, MULTIPLY, ATOMIC, BITS, DOUBLE, SINGLE, FLOAT, HALF, OTHERS, vector::rows::ROWS];

const LENGTH: usize = {
    let (mut length, mut part) = (0, 0);
    while part < PARTS.len() {
        length += PARTS[part].len();
        part += 1;
    }
    length
};

/// All encodings of 32 bits, the more specific ones first.
pub static TABLE: &[Row] = &ROWS;

pub(super) static ROWS: [Row; LENGTH] = {
    let (mut rows, mut at, mut part) = ([INTEGER[0]; LENGTH], 0, 0);
    while part < PARTS.len() {
        let mut i = 0;
        while i < PARTS[part].len() {
            rows[at] = PARTS[part][i];
            (at, i) = (at + 1, i + 1);
        }
        part += 1;
    }
    rows
};
