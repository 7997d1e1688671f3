//! Floating point of single and double precision: by the host, which signals invalid operations to the
//! interpreter, as it does NaNs ([`crate::translate::vectors::scalar`]), since those become canonical here.
//!
//! A single has ones above it in its register. The host's operations on the lowest lane keep what is above
//! their first operand, so they keep the ones. Before an operand is used that is not known to have them, its
//! register is looked at; without them, the interpreter takes over, and the code is left.

use super::Translator;
use crate::layout::{X0, X1};
use crate::translate::operands::{PartPlace, SINK, ZERO, half};
use crate::translate::vectors::scalar::scalar_size;
use crate::translate::{Cold, Lowered, ONE};
use crate::unit::EXACT;
use crossdock_emu_guest::rv64::action::{Action, Float, Precision};
use crossdock_emu_guest::rv64::{Instruction, immediate};
use crossdock_emu_x64::{Alu, Cc, Label, Map, Prefix, Reg, Shift, Size, Xmm};

// Opcodes of the host.
const AND: u8 = 0xdb;
const AND_NOT: u8 = 0xdf;
const OR: u8 = 0xeb;
const XOR: u8 = 0xef;
const TO_OTHER_PRECISION: u8 = 0x5a;

/// The rounding mode of an instruction, as [`Translator::convert_to_rax`] numbers them. The mode in FCSR is
/// to nearest wherever the host computes.
fn host_mode(item: &Instruction) -> Option<u8> {
    match item.rounding() {
        1 => Some(3),
        2 => Some(2),
        3 => Some(1),
        4 => None,
        _ => Some(0),
    }
}

/// Whether an instruction rounds to nearest, ties to even.
fn rounds_to_nearest(item: &Instruction) -> bool {
    host_mode(item) == Some(0)
}

impl Translator<'_> {
    /// Records whether a register is known to hold a number of single precision with ones above it.
    pub(super) fn set_boxed(&mut self, register: u8, boxed: bool) {
        self.boxed = self.boxed & !(1 << register) | u32::from(boxed) << register;
    }

    /// A register = the single in the lowest lane of `from`, with ones above. Changes `from`.
    pub(super) fn put_boxed(&mut self, register: u8, from: Xmm) {
        let above = self.constant(u128::from(u64::MAX << 32));
        self.a.vp(OR, from, from, above);
        self.vput(half(register), from);
        self.set_boxed(register, true);
    }

    /// Leaves if a register does not hold a single with ones above it. Changes rax and EFLAGS.
    pub(super) fn unbox(&mut self, register: u8) {
        if self.boxed >> register & 1 == 1 {
            return;
        }
        self.clobber();
        let stub = self.stub(Cold::Look { record: self.record() });
        match self.part_place(half(register)) {
            PartPlace::Memory(mem) => self.a.alu_imm(Alu::Cmp, Size::D, mem.plus(4), -1),
            PartPlace::Own(host) => {
                // VPEXTRD.
                self.a.vex(Prefix::P66, Map::M0F3A, false, 0x16, host.0, 0, Reg::RAX);
                self.a.byte(1);
                self.a.alu_imm(Alu::Cmp, Size::D, Reg::RAX, -1);
            }
            PartPlace::Lane(..) => {
                self.part_bits(Reg::RAX, half(register));
                self.a.shift_imm(Shift::Sar, Size::Q, Reg::RAX, 32);
                self.a.alu_imm(Alu::Cmp, Size::Q, Reg::RAX, -1);
            }
        }
        self.a.jump_if(Cc::Ne, stub);
        self.set_boxed(register, true);
    }

    pub(super) fn float(&mut self, item: &Instruction, action: Action) -> Lowered {
        let wary = self.mode & EXACT == 0 && self.wary_at.contains(self.pc);
        if wary {
            self.begin_wary();
        }
        let lowered = self.float_action(item, action);
        if lowered == Lowered::No {
            self.fallback();
            if item.floats[0] {
                self.set_boxed(item.rd, false);
            }
        }
        if wary {
            self.end_wary();
        }
        ONE
    }

    fn float_action(&mut self, item: &Instruction, action: Action) -> Lowered {
        match action {
            Action::Float { precision: Precision::Half, .. } => return Lowered::No,
            Action::Float { operation, precision } => {
                return self.operation(item, operation, precision == Precision::Double);
            }
            _ if !self.host_float() => return Lowered::No,
            Action::ToInteger { precision: Precision::Half, .. }
            | Action::FromInteger { precision: Precision::Half, .. } => return Lowered::No,
            Action::ToInteger { precision, wide, unsigned } => {
                self.convert_to_integer(item, precision == Precision::Double, wide, unsigned);
            }
            Action::FromInteger { precision, wide, unsigned } => {
                let double = precision == Precision::Double;
                let is_exact = double && !wide;
                if is_exact || rounds_to_nearest(item) {
                    self.convert_from_integer(item, double, wide, unsigned);
                } else {
                    let back = self.unless_it_rounds(item, double, wide, unsigned);
                    self.convert_from_integer(item, double, wide, unsigned);
                    self.a.bind(back);
                }
            }
            Action::Convert { from: Precision::Single, to: Precision::Double } => self.single_to_double(item),
            Action::Convert { from: Precision::Double, to: Precision::Single } if rounds_to_nearest(item) => {
                self.double_to_single(item);
            }
            _ => return Lowered::No,
        }
        ONE
    }

    pub(super) fn operation(&mut self, item: &Instruction, operation: Float, double: bool) -> Lowered {
        let [d, n, m, a] = [item.rd, item.rn, item.rm, item.ra].map(half);
        match operation {
            Float::MoveToInteger => {
                let t = self.result(item.rd, Reg::RAX);
                self.part_bits(t, n);
                if !double {
                    self.a.movsxd(t, t);
                }
                self.put(item.rd, t);
                return ONE;
            }
            Float::MoveFromInteger => {
                if double {
                    let t = self.get(item.rn, Reg::RAX);
                    self.part_from_bits(d, t);
                } else {
                    self.clobber();
                    self.copy(Size::D, Reg::RAX, item.rn);
                    self.a.mov_imm(Reg::RCX, u64::MAX << 32);
                    self.a.alu(Alu::Or, Size::Q, Reg::RAX, Reg::RCX);
                    self.part_from_bits(d, Reg::RAX);
                }
                self.set_boxed(item.rd, !double);
                return ONE;
            }
            Float::LoadImmediate => {
                let bits = immediate(item.rs1(), double);
                if bits == 0 || double {
                    self.a.mov_imm(Reg::RAX, bits);
                } else {
                    self.a.mov_imm(Reg::RAX, bits | u64::MAX << 32);
                }
                self.part_from_bits(d, Reg::RAX);
                self.set_boxed(item.rd, !double);
                return ONE;
            }
            Float::Class => {
                self.classify(item, double);
                return ONE;
            }
            Float::Minm | Float::Maxm => return Lowered::No,
            _ => {}
        }
        let rounds = matches!(
            operation,
            Float::Add
                | Float::Sub
                | Float::Mul
                | Float::Div
                | Float::Sqrt
                | Float::Madd
                | Float::Msub
                | Float::Nmsub
                | Float::Nmadd
        );
        let mode = host_mode(item);
        if matches!(operation, Float::Round | Float::RoundInexact) && mode.is_none() {
            return Lowered::No;
        }
        let is_sign = matches!(operation, Float::Sgnj | Float::Sgnjn | Float::Sgnjx);
        if rounds && !rounds_to_nearest(item) || !is_sign && !self.host_float() {
            return Lowered::No;
        }
        if !double {
            for (i, register) in [item.rn, item.rm, item.ra].into_iter().enumerate() {
                if item.floats[i + 1] {
                    self.unbox(register);
                }
            }
        }
        match operation {
            Float::Add => self.scalar_arithmetic(double, 0x58, d, n, m),
            Float::Sub => self.scalar_arithmetic(double, 0x5c, d, n, m),
            Float::Mul => self.scalar_arithmetic(double, 0x59, d, n, m),
            Float::Div => self.scalar_arithmetic(double, 0x5e, d, n, m),
            Float::Sqrt => self.scalar_root(double, d, n),
            Float::Madd => self.scalar_fused(double, [false, false], [d, n, m, a]),
            Float::Msub => self.scalar_fused(double, [true, false], [d, n, m, a]),
            Float::Nmsub => self.scalar_fused(double, [false, true], [d, n, m, a]),
            Float::Nmadd => self.scalar_fused(double, [true, true], [d, n, m, a]),
            Float::Sgnj | Float::Sgnjn | Float::Sgnjx => self.sign(operation, double, d, n, m),
            Float::Round | Float::RoundInexact => {
                let way = self.nan_way();
                let a = self.vget(n, X0);
                // VROUNDSS, VROUNDSD; bit 3 keeps inexactness from being raised.
                let quiet = if operation == Float::Round { 8 } else { 0 };
                let mode = [0, 2, 1, 3][usize::from(mode.unwrap_or(0))];
                self.a.vp3a(0x0a + u8::from(double), X0, a, a, mode | quiet);
                self.unless_nan(double, X0, way);
                self.vput(d, X0);
                self.way_ends(way);
            }
            Float::Min => self.scalar_extreme(double, false, d, n, m),
            Float::Max => self.scalar_extreme(double, true, d, n, m),
            _ => {
                self.compare_floats(item, operation, double);
                return ONE;
            }
        }
        self.set_boxed(item.rd, !double);
        ONE
    }

    /// FCLASS: of normal numbers and zeros; the others are the interpreter's.
    fn classify(&mut self, item: &Instruction, double: bool) {
        if !double {
            self.unbox(item.rn);
        }
        let (back, slow) = self.slow_way();
        let size = scalar_size(double);
        self.part_bits(Reg::RAX, half(item.rn));
        // Twice the number has no sign; rdx = the class of a normal number, by the sign, which is the carry.
        self.a.mov_imm(Reg::RDX, 1 << 6);
        self.a.mov_imm(Reg::RCX, 1 << 1);
        self.a.alu(Alu::Add, size, Reg::RAX, Reg::RAX);
        self.a.cmov(Cc::B, Size::D, Reg::RDX, Reg::RCX);
        self.a.test(size, Reg::RAX, Reg::RAX);
        let zero = self.a.label();
        self.a.jump_if(Cc::E, zero);
        self.a.shift_imm(Shift::Shr, size, Reg::RAX, if double { 53 } else { 24 });
        self.a.alu_imm(Alu::Sub, Size::D, Reg::RAX, 1);
        self.a.alu_imm(Alu::Cmp, Size::D, Reg::RAX, if double { 0x7fe } else { 0xfe });
        self.a.jump_if(Cc::Ae, slow);
        let end = self.a.label();
        self.a.jump(end);
        self.a.bind(zero);
        // The class of zero: 1 << 4, or 1 << 3 with a sign.
        self.a.alu_imm(Alu::Cmp, Size::D, Reg::RDX, 2);
        self.a.mov_imm(Reg::RDX, 1 << 4);
        self.a.mov_imm(Reg::RCX, 1 << 3);
        self.a.cmov(Cc::E, Size::D, Reg::RDX, Reg::RCX);
        self.a.bind(end);
        self.put(item.rd, Reg::RDX);
        self.a.bind(back);
    }

    /// FSGNJ, FSGNJN, FSGNJX; with two equal operands FMV, FNEG, FABS.
    fn sign(&mut self, operation: Float, double: bool, d: u8, n: u8, m: u8) {
        let sign = self.sign_mask(double);
        let a = self.vget(n, X0);
        if n == m {
            let t = self.vresult(d);
            match operation {
                Float::Sgnj => return self.vput(d, a),
                Float::Sgnjn => self.a.vp(XOR, t, a, sign),
                _ => {
                    let rest = self.constant(!(if double { 1 << 63 } else { 1 << 31 }));
                    self.a.vp(AND, t, a, rest);
                }
            }
            return self.vput(d, t);
        }
        // xmm1 = the sign that is taken, or that is flipped.
        let b = self.vget(m, X1);
        match operation {
            Float::Sgnjn => {
                self.a.vload(X1, b);
                self.a.vp(AND_NOT, X1, X1, sign);
            }
            _ => self.a.vp(AND, X1, b, sign),
        }
        if operation == Float::Sgnjx {
            self.a.vp(XOR, X0, a, X1);
        } else {
            let rest = self.constant(!(if double { 1 << 63 } else { 1 << 31 }));
            self.a.vp(AND, X0, a, rest);
            self.a.vp(OR, X0, X0, X1);
        }
        self.vput(d, X0);
    }

    /// FEQ, FLT, FLE, FLTQ, FLEQ.
    fn compare_floats(&mut self, item: &Instruction, operation: Float, double: bool) {
        self.clobber();
        let (n, m) = (half(item.rn), half(item.rm));
        // Less is greater with the operands in reverse order: then unordered operands set CF, and are
        // neither.
        let reversed = operation != Float::Eq;
        let (first, second) = if reversed { (m, n) } else { (n, m) };
        let a = self.vget(first, X0);
        let b = self.vscalar_source(second, X1);
        if matches!(operation, Float::Lt | Float::Le) {
            self.a.vcomis(double, a, b);
        } else {
            self.a.vucomis(double, a, b);
        }
        if item.rd == SINK {
            return;
        }
        match operation {
            Float::Eq => {
                self.a.set(Cc::Np, Reg::RCX);
                self.a.set(Cc::E, Reg::RAX);
                self.a.alu(Alu::And, Size::D, Reg::RAX, Reg::RCX);
            }
            Float::Lt | Float::Ltq => self.a.set(Cc::A, Reg::RAX),
            _ => self.a.set(Cc::Ae, Reg::RAX),
        }
        let t = self.result(item.rd, Reg::RAX);
        self.a.movzx8(t, Reg::RAX);
        self.put(item.rd, t);
    }

    /// FCVT to an integer; one of 32 bits is sign-extended.
    fn convert_to_integer(&mut self, item: &Instruction, double: bool, wide: bool, unsigned: bool) {
        if !double {
            self.unbox(item.rn);
        }
        let mut mode = host_mode(item);
        let n = half(item.rn);
        if !self.wary && !unsigned && matches!(mode, Some(0 | 3)) && !self.loses_flags() {
            let a = self.vget(n, X0);
            self.convert_in_one(double, wide, mode == Some(3), Reg::RAX, a);
            self.put_integer(item.rd, wide);
            return;
        }
        let (back, slow) = self.slow_way();
        let mut a = self.vget(n, X0);
        if let (Some(rounds), true) = (mode, self.loses_flags()) {
            // Inexactness is not raised. The host takes 20 ns for a flag that is raised, read and cleared.
            let quiet = 8 | [0, 2, 1, 3][usize::from(rounds & 3)];
            self.a.vp3a(0x0a + u8::from(double), X0, a, a, quiet);
            (a, mode) = (X0, Some(3));
        }
        self.convert_to_rax(double, wide, unsigned, mode, a, slow);
        self.put_integer(item.rd, wide);
        self.a.bind(back);
    }

    /// `rd` = rax, or its low 32 bits.
    fn put_integer(&mut self, rd: u8, wide: bool) {
        if !wide {
            self.a.movsxd(Reg::RAX, Reg::RAX);
        }
        self.put(rd, Reg::RAX);
    }

    /// FCVT from an integer.
    fn convert_from_integer(&mut self, item: &Instruction, double: bool, wide: bool, unsigned: bool) {
        let size = scalar_size(wide);
        if unsigned || item.rn == ZERO {
            self.clobber();
            self.copy(size, Reg::RAX, item.rn);
            self.unsigned_to_xmm0(double, wide);
        } else {
            self.a.vp(XOR, X0, X0, X0);
            self.a.vconvert(double, size, 0x2a, X0.0, X0.0, self.rm(item.rn));
        }
        if double {
            self.vput(half(item.rd), X0);
            self.set_boxed(item.rd, false);
        } else {
            self.put_boxed(item.rd, X0);
        }
    }

    /// Goes to the interpreter, which comes back to the returned label, if the conversion of an integer may
    /// have to round. C libraries round numbers to integers by two conversions with the same mode.
    fn unless_it_rounds(&mut self, item: &Instruction, double: bool, wide: bool, unsigned: bool) -> Label {
        let (back, slow) = self.slow_way();
        let digits = if double { 53 } else { 24 };
        match (wide, unsigned) {
            (false, false) if item.rn != ZERO => self.a.movsxd(Reg::RAX, self.rm(item.rn)),
            _ => self.copy(scalar_size(wide), Reg::RAX, item.rn),
        }
        if !unsigned {
            // Of a negative number, its complement.
            self.a.mov(Size::Q, Reg::RCX, Reg::RAX);
            self.a.shift_imm(Shift::Sar, Size::Q, Reg::RCX, 63);
            self.a.alu(Alu::Xor, Size::Q, Reg::RAX, Reg::RCX);
        }
        self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, digits);
        self.a.jump_if(Cc::Ne, slow);
        back
    }

    /// FCVT.D.S.
    fn single_to_double(&mut self, item: &Instruction) {
        self.unbox(item.rn);
        let way = self.nan_way();
        let a = self.vget(half(item.rn), X0);
        self.a.vscalar(false, TO_OTHER_PRECISION, X0, a, a);
        self.unless_nan(true, X0, way);
        self.vput(half(item.rd), X0);
        self.set_boxed(item.rd, false);
        self.way_ends(way);
    }

    /// FCVT.S.D.
    fn double_to_single(&mut self, item: &Instruction) {
        let way = self.nan_way();
        let a = self.vget(half(item.rn), X0);
        self.a.vscalar(true, TO_OTHER_PRECISION, X0, a, a);
        self.unless_nan(false, X0, way);
        self.put_boxed(item.rd, X0);
        self.way_ends(way);
    }
}
