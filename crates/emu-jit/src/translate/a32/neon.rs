//! Advanced SIMD (manual F4.1.10, and of F4.1.9 and F4.1.8 dot products and moves): which class a word
//! belongs to, and its [`Form`]. Words are those that the interpreter implements: reserved ones come as 0.

use super::Translator;
use crate::layout::{PARTS, X0, X1};
use crate::mxcsr;
use crate::translate::operands::{first_lane, half};
use crate::translate::vectors::form::Form;
use crate::translate::{Lowered, ONE};
use crossdock_emu_guest::a32::registers::place;
use crossdock_emu_x64::{Reg, Rm, Size};

/// An instruction of Advanced SIMD that is no load or store.
#[derive(Clone, Copy, Debug)]
pub(super) enum Vector {
    /// Three operands of one shape.
    Same(Form),
    /// Operands of two widths.
    Different(Form),
    /// With a scalar.
    Element(Form),
    Shift(Form),
    Immediate(Form),
    Two(Form),
    /// Floating point in which 32-bit Arm rounds a product that A64 does not.
    MultiplyThenAdd {
        form: Form,
        subtracts: bool,
    },
    Step {
        form: Form,
        root: bool,
    },
    Extract(Form),
    Table(Form),
    /// VTRN, VUZP, VZIP.
    Permute(Form),
    Swap(Form),
    /// `d` = lane of `m` in all lanes.
    Duplicate(Form),
    Dot(Form),
    /// AESE, AESD and the like.
    Aes(Form),
    ShaTwo(Form),
    ShaThree(Form),
    /// A general register (as an index in the state) in all lanes.
    DuplicateGeneral {
        form: Form,
        general: u8,
    },
    /// A lane of `d` becomes a general register, or the other way round.
    ToLane {
        form: Form,
        general: u8,
    },
    FromLane {
        form: Form,
        general: u8,
    },
}

fn bits(word: u32, high: u32, low: u32) -> u32 {
    word >> low & (u32::MAX >> (31 - (high - low)))
}

fn bit(word: u32, n: u32) -> bool {
    word >> n & 1 == 1
}

/// D registers of the fields.
fn d(word: u32) -> u8 {
    (bits(word, 15, 12) | bits(word, 22, 22) << 4) as u8
}

fn n(word: u32) -> u8 {
    (bits(word, 19, 16) | bits(word, 7, 7) << 4) as u8
}

fn m(word: u32) -> u8 {
    (bits(word, 3, 0) | bits(word, 5, 5) << 4) as u8
}

/// A quadword or doubleword operand.
fn operand(quad: bool, register: u8) -> u8 {
    if quad { register / 2 } else { half(register) }
}

/// The fields that all classes have, where all operands have one shape.
fn form(word: u32, quad: bool, size: u32, opcode: u32) -> Form {
    Form {
        d: operand(quad, d(word)),
        n: operand(quad, n(word)),
        m: operand(quad, m(word)),
        lane: None,
        opcode,
        unsigned: bit(word, 24),
        size: size as usize,
        q: quad,
        // A doubleword of one lane.
        scalar: size == 3 && !quad,
        imm: 0,
    }
}

impl Vector {
    /// The instruction of a word in A32's encoding, if it may have a lowering.
    pub(super) fn of(word: u32) -> Option<Vector> {
        let opcode = bits(word, 11, 8);
        match word >> 24 {
            0xf2 | 0xf3 if !bit(word, 23) => Self::same(word),
            0xf2 | 0xf3 if bit(word, 4) => Self::by_immediate(word),
            0xf2 | 0xf3 if bits(word, 21, 20) == 3 => Self::other(word),
            0xf2 | 0xf3 if bit(word, 6) => Self::element(word, opcode),
            0xf2 | 0xf3 => Self::different(word, opcode),
            0xfc if bits(word, 21, 20) == 2 && !bit(word, 23) && opcode == 0b1101 => {
                let form = form(word, bit(word, 6), 2, 0);
                Some(Vector::Dot(Form { unsigned: bit(word, 4), ..form }))
            }
            high if high & 15 == 14 && high >> 4 != 15 => Self::general(word),
            _ => None,
        }
    }

    /// Whether the host's modes of floating point matter.
    pub(super) fn computes(&self) -> bool {
        match *self {
            Vector::Same(f) => f.opcode >= 0b1_1000,
            Vector::Element(f) => matches!(f.opcode, 0b0001 | 0b0101 | 0b1001),
            Vector::Shift(f) => f.opcode >= 0b1_1000,
            // Not VABS and VNEG.
            Vector::Two(f) => matches!(f.opcode, 0b0_1100..=0b0_1111 | 0b1_0110..) && f.opcode != 0b0_1111,
            Vector::MultiplyThenAdd { .. } | Vector::Step { .. } => true,
            _ => false,
        }
    }

    /// Calls `each` with its operands, and with the vector registers of which it uses lanes.
    pub(super) fn each_operand(&self, mut each: impl FnMut(u8)) {
        match *self {
            Vector::Immediate(f) | Vector::DuplicateGeneral { form: f, .. } => each(f.d),
            Vector::ToLane { form: f, .. } | Vector::FromLane { form: f, .. } => each(f.d),
            Vector::Shift(f) | Vector::Two(f) | Vector::Aes(f) | Vector::ShaTwo(f) => {
                [f.d, f.n].into_iter().for_each(each)
            }
            Vector::Duplicate(f) | Vector::Swap(f) | Vector::Permute(f) => {
                [f.d, f.m].into_iter().for_each(each);
            }
            Vector::Table(f) => {
                [f.d, f.m].into_iter().for_each(&mut each);
                // Two halves of the table may be read at once.
                let (first, last) =
                    (first_lane(f.n, 3).0, first_lane(half((f.n + (f.imm as u8 / 8) - 1) & 31), 3).0);
                (first..=last.max(first)).for_each(each);
            }
            Vector::Same(f)
            | Vector::Different(f)
            | Vector::Element(f)
            | Vector::MultiplyThenAdd { form: f, .. }
            | Vector::Step { form: f, .. }
            | Vector::Extract(f)
            | Vector::Dot(f)
            | Vector::ShaThree(f) => [f.d, f.n, f.m].into_iter().for_each(each),
        }
    }

    /// The general register that it reads, or with `true` writes.
    pub(super) fn general_register(&self) -> Option<(bool, u8)> {
        match *self {
            Vector::DuplicateGeneral { general, .. } | Vector::ToLane { general, .. } => {
                Some((false, general))
            }
            Vector::FromLane { general, .. } => Some((true, general)),
            _ => None,
        }
    }

    /// Three registers of the same length.
    fn same(word: u32) -> Option<Vector> {
        let (opcode, size) = (bits(word, 11, 8) << 1 | bits(word, 4, 4), bits(word, 21, 20));
        let quad = bit(word, 6);
        if opcode < 0b1_1000 {
            let mut form = form(word, quad, size, opcode);
            match opcode {
                0b0_0011 => form.scalar = false,
                // The second operand is shifted by the first.
                0b0_1000..=0b0_1011 => (form.n, form.m) = (form.m, form.n),
                _ => {}
            }
            return Some(Vector::Same(form));
        }
        let unsigned = bit(word, 24);
        if opcode == 0b1_1000 {
            let number = if unsigned { 4 + size } else { size };
            return Some(Vector::ShaThree(form(word, true, 0, number)));
        }
        // Half precision; VQRDMLSH.
        if bit(word, 20) || opcode == 0b1_1001 && unsigned {
            return None;
        }
        // The size is single precision, and bit 1 the second of two operations.
        let float = |opcode: u32| {
            Some(Vector::Same(Form { size: size as usize & 2, ..form(word, quad, 2, 0b1_1000 | opcode) }))
        };
        let (second, single) = (size & 2 != 0, form(word, quad, 2, 0));
        match (opcode & 7, unsigned) {
            (1, _) => float(1),
            (2, _) => float(2),
            (3, false) => Some(Vector::MultiplyThenAdd { form: single, subtracts: second }),
            (3, true) => float(3),
            (4, _) => float(4),
            (5, true) => float(5),
            (6, _) => float(6),
            (7, false) => Some(Vector::Step { form: single, root: second }),
            // VMAXNM, VMINNM.
            (7, true) => match float(0) {
                Some(Vector::Same(form)) => Some(Vector::Same(Form { unsigned: false, ..form })),
                other => other,
            },
            _ => None,
        }
    }

    /// One register and an immediate, or two and a shift.
    fn by_immediate(word: u32) -> Option<Vector> {
        let (quad, imm) = (bit(word, 6), bits(word, 7, 7) << 6 | bits(word, 21, 16));
        if imm >> 3 == 0 {
            let value = bits(word, 24, 24) << 7 | bits(word, 18, 16) << 4 | bits(word, 3, 0);
            let form = form(word, quad, 0, bits(word, 11, 8));
            return Some(Vector::Immediate(Form { imm: value, unsigned: bit(word, 5), ..form }));
        }
        let size = imm.ilog2() - 3;
        let opcode = bits(word, 11, 8);
        let same = Form { n: operand(quad, m(word)), imm, ..form(word, quad, size, opcode << 1) };
        Some(match opcode {
            0..8 => Vector::Shift(same),
            // The result is narrower; Q says that it is rounded.
            8 | 9 => Vector::Shift(Form {
                d: half(d(word)),
                n: operand(true, m(word)),
                opcode: opcode << 1 | u32::from(quad),
                q: false,
                scalar: false,
                ..same
            }),
            10 => Vector::Shift(Form {
                d: operand(true, d(word)),
                n: half(m(word)),
                q: false,
                scalar: false,
                ..same
            }),
            // VCVT of single precision.
            14 | 15 => Vector::Shift(Form {
                opcode: if opcode & 1 == 0 { 0b1_1100 } else { 0b1_1111 },
                size: 2,
                scalar: false,
                ..same
            }),
            _ => return None,
        })
    }

    /// Operands of two widths.
    fn different(word: u32, opcode: u32) -> Option<Vector> {
        let size = bits(word, 21, 20);
        let wide = |register: u8| operand(true, register);
        let same = form(word, false, size, opcode);
        let form = match opcode {
            // VADDW, VSUBW.
            1 | 3 => Form { d: wide(d(word)), n: wide(n(word)), ..same },
            // The result is narrower.
            4 | 6 => Form { n: wide(n(word)), m: wide(m(word)), ..same },
            // VMULL of polynomials of 64 bits.
            14 => Form { d: wide(d(word)), size: if size == 2 { 3 } else { 0 }, ..same },
            _ => Form { d: wide(d(word)), ..same },
        };
        Some(Vector::Different(form))
    }

    /// Two registers and a scalar.
    fn element(word: u32, opcode: u32) -> Option<Vector> {
        let size = bits(word, 21, 20);
        let (low, high) = (bits(word, 3, 0) as u8, bits(word, 5, 5) as u8);
        let (register, lane) = if size == 1 { (low & 7, high << 1 | low >> 3) } else { (low, high) };
        let long = matches!(opcode, 2 | 3 | 6 | 7 | 10 | 11);
        let quad = bit(word, 24) && !long;
        let (whole, first) = first_lane(half(register), size as u8);
        let same = Form { m: whole, lane: Some(first + lane), ..form(word, quad, size, opcode) };
        Some(match opcode {
            1 | 5 if size == 2 => Vector::MultiplyThenAdd { form: same, subtracts: opcode == 5 },
            9 if size == 2 => Vector::Element(Form { unsigned: false, ..same }),
            // VMLA, VMLS of integers have U in A64.
            0 | 4 => Vector::Element(Form { unsigned: true, ..same }),
            8 | 12 | 13 => Vector::Element(Form { unsigned: false, ..same }),
            _ if long => Vector::Element(Form { d: operand(true, d(word)), q: false, ..same }),
            _ => return None,
        })
    }

    /// Extraction, look-up, duplication, and two registers.
    fn other(word: u32) -> Option<Vector> {
        let (quad, opcode) = (bit(word, 6), bits(word, 11, 8));
        if !bit(word, 24) {
            return Some(Vector::Extract(Form { imm: opcode, ..form(word, quad, 0, 0) }));
        }
        match opcode >> 2 {
            0b10 => {
                let imm = 8 * (bits(word, 9, 8) + 1);
                Some(Vector::Table(Form { imm, ..form(word, false, 0, bits(word, 6, 6)) }))
            }
            0b11 => {
                let imm = bits(word, 19, 16);
                let size = imm.trailing_zeros() as u8;
                let (whole, first) = first_lane(half(m(word)), size);
                let lane = first + (imm >> (size + 1)) as u8;
                Some(Vector::Duplicate(Form {
                    m: whole,
                    lane: Some(lane),
                    ..form(word, quad, size.into(), 0)
                }))
            }
            _ => Self::two(word, quad),
        }
    }

    /// Two registers, miscellaneous. The letters of A64's operations are those of [`Form`].
    fn two(word: u32, quad: bool) -> Option<Vector> {
        let (size, opcode) = (bits(word, 19, 18), bits(word, 10, 7));
        let same = |opcode: u32, unsigned: bool| {
            let form = form(word, quad, size, opcode);
            Form { n: form.m, unsigned, ..form }
        };
        let two = |opcode: u32, unsigned: bool| Some(Vector::Two(same(opcode, unsigned)));
        let odd = opcode & 1 == 1;
        // AES and SHA have quadwords.
        let quads = |opcode: u32| {
            let form = form(word, true, 0, opcode);
            Form { n: form.m, ..form }
        };
        match (bits(word, 17, 16), opcode) {
            (0, 0) => two(0, false),
            (0, 1) => two(0, true),
            (0, 2) => two(1, false),
            (0, 4 | 5) => two(2, odd),
            (0, 6) => Some(Vector::Aes(quads(4 + u32::from(quad)))),
            (0, 7) => Some(Vector::Aes(quads(6 + u32::from(quad)))),
            (0, 8 | 9) => two(4, odd),
            (0, 10) => two(5, false),
            (0, 11) => two(5, true),
            (0, 12 | 13) => two(6, odd),
            (0, 14 | 15) => two(7, odd),
            (1, 0..4) => two(8 + (opcode >> 1), odd),
            (1, 4) => two(10, false),
            (1, 5) => Some(Vector::ShaTwo(quads(0))),
            (1, 6 | 7) => two(11, odd),
            // Floating point, of single precision: bit 1 of the size is A64's `second`.
            (1, 8..12) if size == 2 => two(12 + (opcode >> 1 & 1), odd),
            (1, 12) if size == 2 => two(14, false),
            (1, 14 | 15) if size == 2 => two(15, odd),
            (2, 0) => Some(Vector::Swap(form(word, quad, 0, 0))),
            (2, 1..4) => Some(Vector::Permute(form(word, quad, size, [0, 2, 1, 3][opcode as usize]))),
            (2, 4..=6) => Self::narrow(word, quad, size, opcode),
            (2, 7) => Some(Vector::ShaTwo(quads(1 + u32::from(quad)))),
            (2 | 3, 8..) if size == 2 => Self::two_float(word, quad),
            (3, 0..8) if size == 2 => Self::two_float(word, quad),
            _ => None,
        }
    }

    /// VMOVN, VQMOVUN, VQMOVN, VSHLL: Q is part of the operation.
    fn narrow(word: u32, quad: bool, size: u32, opcode: u32) -> Option<Vector> {
        let form = form(word, false, size, 0);
        let narrow = |opcode: u32, unsigned: bool| {
            Some(Vector::Two(Form { n: operand(true, m(word)), opcode, unsigned, scalar: false, ..form }))
        };
        match (opcode, quad) {
            (4, false) => narrow(18, false),
            (4, true) => narrow(18, true),
            (5, unsigned) => narrow(20, unsigned),
            (6, false) => Some(Vector::Two(Form {
                d: operand(true, d(word)),
                n: half(m(word)),
                opcode: 19,
                unsigned: true,
                scalar: false,
                ..form
            })),
            _ => None,
        }
    }

    /// Rounding and conversions of single precision.
    fn two_float(word: u32, quad: bool) -> Option<Vector> {
        let opcode = bits(word, 10, 7);
        let odd = opcode & 1 == 1;
        // A64's operation, U, and its `second`.
        let (number, unsigned, second) = match (bits(word, 17, 16), opcode) {
            (2, 8) => (24, false, false),
            (2, 9) => (25, true, false),
            (2, 10) => (24, true, false),
            (2, 11) => (25, false, true),
            (2, 13) => (25, false, false),
            (2, 15) => (24, false, true),
            (3, 0 | 1) => (28, odd, false),
            (3, 2 | 3) => (26, odd, false),
            (3, 4 | 5) => (26, odd, true),
            (3, 6 | 7) => (27, odd, false),
            (3, 10 | 11) => (29, odd, true),
            (3, 12 | 13) => (29, odd, false),
            (3, 14 | 15) => (27, odd, true),
            _ => return None,
        };
        let form = form(word, quad, 2, number);
        Some(Vector::Two(Form { n: form.m, unsigned, size: if second { 2 } else { 0 }, ..form }))
    }

    /// Moves between general registers and lanes.
    fn general(word: u32) -> Option<Vector> {
        let general = bits(word, 15, 12);
        if word & 0x0f00_0f10 != 0x0e00_0b10 || general == 15 {
            return None;
        }
        let general = place(general);
        // The register that is D:d elsewhere is N:n here.
        let register = n(word);
        if bit(word, 23) && !bit(word, 20) {
            let size = 2u32.checked_sub(bits(word, 22, 22) << 1 | bits(word, 5, 5))?;
            let quad = bit(word, 21);
            let form = Form { d: operand(quad, register), ..form(word, quad, size, 0) };
            return Some(Vector::DuplicateGeneral { form, general });
        }
        let opc = bits(word, 22, 21) << 2 | bits(word, 6, 5);
        let (size, index) = match opc {
            0b1000..=0b1111 => (0, opc & 7),
            0b0001 | 0b0011 | 0b0101 | 0b0111 => (1, opc >> 1 & 3),
            0b0000 | 0b0100 => (2, opc >> 2),
            _ => return None,
        };
        let (whole, first) = first_lane(half(register), size as u8);
        let lane = Some(first + index as u8);
        let form = Form { d: whole, lane, unsigned: bit(word, 23), ..form(word, true, size, 0) };
        Some(if bit(word, 20) {
            Vector::FromLane { form, general }
        } else {
            Vector::ToLane { form, general }
        })
    }
}

impl Translator<'_> {
    /// Makes the host compute as Advanced SIMD does.
    pub(super) fn need_standard_modes(&mut self) {
        if self.mode & crate::unit::FLUSH == 0 {
            self.need_modes(mxcsr::FLUSHES);
        }
    }

    /// Joins the halves of the vector registers that the instruction uses as wholes. Lanes are found in
    /// halves, too.
    pub(super) fn join_operands(&mut self, vector: &Vector) {
        if matches!(vector, Vector::ToLane { .. } | Vector::FromLane { .. }) {
            return;
        }
        vector.each_operand(|operand| {
            if operand < PARTS && self.is_split(operand) {
                self.join_halves(operand);
            }
        });
    }

    /// Lowers the instruction. Returns how many are done.
    pub(super) fn vector(&mut self, vector: &Vector) -> usize {
        let computes = vector.computes();
        if computes {
            self.need_standard_modes();
        }
        self.standard = computes;
        let wary = computes && self.wary_at.contains(self.pc);
        if wary {
            self.begin_wary();
        }
        let lowered = self.lower_vector(vector);
        if let Lowered::No = lowered {
            self.fallback();
        }
        self.standard = false;
        if wary {
            self.end_wary();
        }
        match lowered {
            Lowered::Words(count) => count,
            Lowered::No => 1,
        }
    }

    fn lower_vector(&mut self, vector: &Vector) -> Lowered {
        match *vector {
            Vector::Same(form) => self.three_same(form),
            Vector::Different(form) => self.three_different(form),
            Vector::Element(form) => self.by_element(form),
            Vector::Shift(form) => self.shift_immediate(form),
            Vector::Immediate(form) => self.modified_immediate(form),
            Vector::Two(form) => self.two_registers(form),
            Vector::MultiplyThenAdd { form, subtracts } => self.lanes_multiply_then_add(form, subtracts),
            Vector::Step { form, root } => self.lanes_step(form, root),
            Vector::Extract(form) => self.vector_extract(form),
            Vector::Table(form) => self.table(form),
            Vector::Permute(form) => self.permute_both(form),
            Vector::Swap(form) => self.swap(form),
            Vector::Duplicate(form) => {
                self.duplicate(form.size as u8, X0, form.m, form.lane.unwrap_or(0));
                self.finish(form.q, form.d, X0);
                ONE
            }
            Vector::Dot(form) => self.dot_product(form),
            Vector::Aes(form) => {
                let (decrypts, d) = (form.opcode & 1, u32::from(form.d));
                let register = d << 1;
                // AESMC or AESIMC of the same register.
                let mixed = 0xf3b0_0380
                    | decrypts << 6
                    | (register & 15) << 12
                    | (register >> 4) << 22
                    | register & 15
                    | (register >> 4) << 5;
                let pair = self.items.get(1).is_some_and(|next| next.word == mixed);
                self.aes(form, pair)
            }
            Vector::ShaTwo(form) => self.sha_two(form),
            Vector::ShaThree(form) => self.sha_three(form),
            Vector::DuplicateGeneral { form, general } => {
                self.a.vmov_from(Size::D, X0, self.rm(general));
                self.a.vbroadcast(form.size as u8, X0, X0);
                self.finish(form.q, form.d, X0);
                ONE
            }
            Vector::ToLane { form, general } => {
                let value = self.held(general, Reg::RAX);
                self.insert(form.size as u8, form.d, form.lane.unwrap_or(0), value.into());
                ONE
            }
            Vector::FromLane { form, general } => {
                self.lane_to_general(form, general);
                ONE
            }
        }
    }

    /// VSWP.
    fn swap(&mut self, form: Form) -> Lowered {
        let a = self.vget(form.d, X0);
        if a != X0 {
            self.a.vload(X0, a);
        }
        let b = self.vget(form.m, X1);
        self.finish(form.q, form.d, b);
        self.finish(form.q, form.m, X0);
        ONE
    }

    /// VMOV of a lane to a general register, signed or unsigned.
    fn lane_to_general(&mut self, form: Form, general: u8) {
        let t = self.result(general, Reg::RAX);
        let (size, lane) = (form.size as u8, form.lane.unwrap_or(0));
        self.element_to(t, size, form.d, lane);
        let from: Rm = t.into();
        match size {
            0 if !form.unsigned => self.a.movsx8(Size::D, t, from),
            1 if !form.unsigned => self.a.movsx16(Size::D, t, from),
            _ => {}
        }
        self.put(general, t);
    }
}
