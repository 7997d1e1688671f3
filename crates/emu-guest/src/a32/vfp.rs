//! The encodings of floating point (VFP) as data, in A32's form (manual F4.1.8, F4.1.9, F4.1.12).
//!
//! The letters of the patterns beside those in [`super::fields`]: `d`, `n` and `m` are registers of VFP, each
//! with a fifth bit `D`, `N` or `M`. The fifth bit is the highest of a doubleword's number (`D`:`d`) and the
//! lowest of a singleword's (`d`:`D`). `z` is the size of the elements: 1 half, 2 single, 3 double; of one
//! bit only, 0 single, 1 double. `i` and `j` are immediates. In moves between register files `t` and `u` are
//! general registers; in loads and stores `n` is one.
//!
//! Short vectors do not exist in Armv8: FPSCR.LEN and FPSCR.STRIDE read as zero, and writes of them are
//! ignored.

use super::table::Class::Float;
use super::table::{Build, Row, row};
use super::{system, vfp_arithmetic, vfp_convert, vfp_memory, vfp_move};

/// All encodings, the more specific ones first; those without a condition come before those with one.
#[rustfmt::skip]
pub(super) const ROWS: &[(Row, Build)] = &[
    // Without a condition: selection, minimum, maximum, directed conversions, halves
    row("1111 1110 0Dqq nnnn dddd 10zz N0M0 mmmm", "VSEL", Float, vfp_arithmetic::select),
    row("1111 1110 1D00 nnnn dddd 10zz N0M0 mmmm", "VMAXNM", Float, vfp_arithmetic::maxnm),
    row("1111 1110 1D00 nnnn dddd 10zz N1M0 mmmm", "VMINNM", Float, vfp_arithmetic::minnm),
    row("1111 1110 1D11 0000 dddd 1010 11M0 mmmm", "VINS", Float, vfp_move::insert),
    row("1111 1110 1D11 0000 dddd 1010 01M0 mmmm", "VMOVX", Float, vfp_move::extract),
    row("1111 1110 1D11 1000 dddd 10zz 01M0 mmmm", "VRINTA", Float, vfp_arithmetic::round_directed),
    row("1111 1110 1D11 1001 dddd 10zz 01M0 mmmm", "VRINTN", Float, vfp_arithmetic::round_directed),
    row("1111 1110 1D11 1010 dddd 10zz 01M0 mmmm", "VRINTP", Float, vfp_arithmetic::round_directed),
    row("1111 1110 1D11 1011 dddd 10zz 01M0 mmmm", "VRINTM", Float, vfp_arithmetic::round_directed),
    row("1111 1110 1D11 1100 dddd 10zz s1M0 mmmm", "VCVTA", Float, vfp_convert::to_integer_directed),
    row("1111 1110 1D11 1101 dddd 10zz s1M0 mmmm", "VCVTN", Float, vfp_convert::to_integer_directed),
    row("1111 1110 1D11 1110 dddd 10zz s1M0 mmmm", "VCVTP", Float, vfp_convert::to_integer_directed),
    row("1111 1110 1D11 1111 dddd 10zz s1M0 mmmm", "VCVTM", Float, vfp_convert::to_integer_directed),
    row("1111 11xx xxxx xxxx xxxx 10xx xxxx xxxx", "?", Float, system::undefined),
    // Three registers
    row("cccc 1110 0D00 nnnn dddd 10zz N0M0 mmmm", "VMLA", Float, vfp_arithmetic::mla),
    row("cccc 1110 0D00 nnnn dddd 10zz N1M0 mmmm", "VMLS", Float, vfp_arithmetic::mls),
    row("cccc 1110 0D01 nnnn dddd 10zz N0M0 mmmm", "VNMLS", Float, vfp_arithmetic::nmls),
    row("cccc 1110 0D01 nnnn dddd 10zz N1M0 mmmm", "VNMLA", Float, vfp_arithmetic::nmla),
    row("cccc 1110 0D10 nnnn dddd 10zz N0M0 mmmm", "VMUL", Float, vfp_arithmetic::mul),
    row("cccc 1110 0D10 nnnn dddd 10zz N1M0 mmmm", "VNMUL", Float, vfp_arithmetic::nmul),
    row("cccc 1110 0D11 nnnn dddd 10zz N0M0 mmmm", "VADD", Float, vfp_arithmetic::add),
    row("cccc 1110 0D11 nnnn dddd 10zz N1M0 mmmm", "VSUB", Float, vfp_arithmetic::sub),
    row("cccc 1110 1D00 nnnn dddd 10zz N0M0 mmmm", "VDIV", Float, vfp_arithmetic::div),
    row("cccc 1110 1D01 nnnn dddd 10zz N0M0 mmmm", "VFNMS", Float, vfp_arithmetic::fnms),
    row("cccc 1110 1D01 nnnn dddd 10zz N1M0 mmmm", "VFNMA", Float, vfp_arithmetic::fnma),
    row("cccc 1110 1D10 nnnn dddd 10zz N0M0 mmmm", "VFMA", Float, vfp_arithmetic::fma),
    row("cccc 1110 1D10 nnnn dddd 10zz N1M0 mmmm", "VFMS", Float, vfp_arithmetic::fms),
    // An immediate, two registers
    row("cccc 1110 1D11 iiii dddd 10zz 0000 jjjj", "VMOV", Float, vfp_move::immediate),
    row("cccc 1110 1D11 0000 dddd 101z 01M0 mmmm", "VMOV", Float, vfp_move::register),
    row("cccc 1110 1D11 0000 dddd 10zz 11M0 mmmm", "VABS", Float, vfp_arithmetic::abs),
    row("cccc 1110 1D11 0001 dddd 10zz 01M0 mmmm", "VNEG", Float, vfp_arithmetic::neg),
    row("cccc 1110 1D11 0001 dddd 10zz 11M0 mmmm", "VSQRT", Float, vfp_arithmetic::sqrt),
    row("cccc 1110 1D11 0010 dddd 101z 01M0 mmmm", "VCVTB", Float, vfp_convert::from_half),
    row("cccc 1110 1D11 0010 dddd 101z 11M0 mmmm", "VCVTT", Float, vfp_convert::from_half),
    row("cccc 1110 1D11 0011 dddd 1001 01M0 mmmm", "VCVTB", Float, vfp_convert::to_brain),
    row("cccc 1110 1D11 0011 dddd 1001 11M0 mmmm", "VCVTT", Float, vfp_convert::to_brain),
    row("cccc 1110 1D11 0011 dddd 101z 01M0 mmmm", "VCVTB", Float, vfp_convert::to_half),
    row("cccc 1110 1D11 0011 dddd 101z 11M0 mmmm", "VCVTT", Float, vfp_convert::to_half),
    row("cccc 1110 1D11 0100 dddd 10zz 01M0 mmmm", "VCMP", Float, vfp_arithmetic::compare),
    row("cccc 1110 1D11 0100 dddd 10zz 11M0 mmmm", "VCMPE", Float, vfp_arithmetic::compare),
    row("cccc 1110 1D11 0101 dddd 10zz 0100 0000", "VCMP", Float, vfp_arithmetic::compare_zero),
    row("cccc 1110 1D11 0101 dddd 10zz 1100 0000", "VCMPE", Float, vfp_arithmetic::compare_zero),
    row("cccc 1110 1D11 0110 dddd 10zz 01M0 mmmm", "VRINTR", Float, vfp_arithmetic::rintr),
    row("cccc 1110 1D11 0110 dddd 10zz 11M0 mmmm", "VRINTZ", Float, vfp_arithmetic::rintz),
    row("cccc 1110 1D11 0111 dddd 10zz 01M0 mmmm", "VRINTX", Float, vfp_arithmetic::rintx),
    row("cccc 1110 1D11 0111 dddd 101z 11M0 mmmm", "VCVT", Float, vfp_convert::single_double),
    row("cccc 1110 1D11 1000 dddd 10zz s1M0 mmmm", "VCVT", Float, vfp_convert::from_integer),
    row("cccc 1110 1D11 1001 dddd 1011 11M0 mmmm", "VJCVT", Float, vfp_convert::javascript),
    row("cccc 1110 1D11 1100 dddd 10zz 01M0 mmmm", "VCVTR", Float, vfp_convert::to_integer),
    row("cccc 1110 1D11 1101 dddd 10zz 01M0 mmmm", "VCVTR", Float, vfp_convert::to_integer),
    row("cccc 1110 1D11 1100 dddd 10zz 11M0 mmmm", "VCVT", Float, vfp_convert::to_integer),
    row("cccc 1110 1D11 1101 dddd 10zz 11M0 mmmm", "VCVT", Float, vfp_convert::to_integer),
    row("cccc 1110 1D11 101U dddd 10zz w1j0 iiii", "VCVT", Float, vfp_convert::from_fixed),
    row("cccc 1110 1D11 111U dddd 10zz w1j0 iiii", "VCVT", Float, vfp_convert::to_fixed),
    // Moves of 16 and 32 bits, FPSCR
    row("cccc 1110 0000 nnnn tttt 1001 N001 0000", "VMOV", Float, vfp_move::from_general_half),
    row("cccc 1110 0001 nnnn tttt 1001 N001 0000", "VMOV", Float, vfp_move::to_general_half),
    row("cccc 1110 0000 nnnn tttt 1010 N001 0000", "VMOV", Float, vfp_move::from_general),
    row("cccc 1110 0001 nnnn tttt 1010 N001 0000", "VMOV", Float, vfp_move::to_general),
    row("cccc 1110 1111 0001 tttt 1010 0001 0000", "VMRS", Float, vfp_move::read_fpscr),
    row("cccc 1110 1110 0001 tttt 1010 0001 0000", "VMSR", Float, vfp_move::write_fpscr),
    // Moves of 64 bits, loads, stores
    row("cccc 1100 0100 uuuu tttt 1010 00M1 mmmm", "VMOV", Float, vfp_move::pair_from_general),
    row("cccc 1100 0101 uuuu tttt 1010 00M1 mmmm", "VMOV", Float, vfp_move::pair_to_general),
    row("cccc 1100 0100 uuuu tttt 1011 00M1 mmmm", "VMOV", Float, vfp_move::double_from_general),
    row("cccc 1100 0101 uuuu tttt 1011 00M1 mmmm", "VMOV", Float, vfp_move::double_to_general),
    row("cccc 1100 1DW0 nnnn dddd 101z iiii iiii", "VSTM", Float, vfp_memory::multiple),
    row("cccc 1100 1DW1 nnnn dddd 101z iiii iiii", "VLDM", Float, vfp_memory::multiple),
    row("cccc 1101 0D10 nnnn dddd 101z iiii iiii", "VSTMDB", Float, vfp_memory::multiple),
    row("cccc 1101 0D11 nnnn dddd 101z iiii iiii", "VLDMDB", Float, vfp_memory::multiple),
    row("cccc 1101 UD00 nnnn dddd 10zz iiii iiii", "VSTR", Float, vfp_memory::one),
    row("cccc 1101 UD01 nnnn dddd 10zz iiii iiii", "VLDR", Float, vfp_memory::one),
];
