//! Integer arithmetic on elements, comparisons and reductions.

use super::chunk::{AND, AND_NOT, Code, OR, ROOM_BEHIND, XOR, p, p3a, p38, part, repeated};
use super::operand::{By, Parts, Second};
use super::shape::{Body, Chunk, chunks};
use super::wide;
use crate::layout::{ROOM, VCSR, X0, X1, X2, group};
use crate::translate::rv64::Translator;
use crossdock_emu_guest::rv64::action::Arithmetic;
use crossdock_emu_x64::{Alu, Cc, Map, Mem, Prefix, Reg, Rm, Shift, Size, Xmm};

/// The instruction of the host that is an operation by itself.
fn simple(operation: Arithmetic, sew: u8) -> Option<Code> {
    use Arithmetic::*;
    let of = |codes: [Option<Code>; 4]| codes[usize::from(sew & 3)];
    let all = |codes: [u8; 4]| Some(p(codes[usize::from(sew & 3)]));
    match operation {
        Add | Macc | Madd | RedSum | Waddu | Wadd | WadduWide | WaddWide | Wredsum | Wredsumu => {
            all([0xfc, 0xfd, 0xfe, 0xd4])
        }
        Sub | Wsubu | Wsub | WsubuWide | WsubWide => all([0xf8, 0xf9, 0xfa, 0xfb]),
        And | RedAnd => Some(AND),
        Or | RedOr => Some(OR),
        Xor | RedXor => Some(XOR),
        Minu | RedMinu => of([Some(p(0xda)), Some(p38(0x3a)), Some(p38(0x3b)), None]),
        Min | RedMin => of([Some(p38(0x38)), Some(p(0xea)), Some(p38(0x39)), None]),
        Maxu | RedMaxu => of([Some(p(0xde)), Some(p38(0x3e)), Some(p38(0x3f)), None]),
        Max | RedMax => of([Some(p38(0x3c)), Some(p(0xee)), Some(p38(0x3d)), None]),
        Mul => of([None, Some(p(0xd5)), Some(p38(0x40)), None]),
        Mulh => of([None, Some(p(0xe5)), None, None]),
        Mulhu => of([None, Some(p(0xe4)), None, None]),
        Aaddu => of([Some(p(0xe0)), Some(p(0xe3)), None, None]),
        Saddu => of([Some(p(0xdc)), Some(p(0xdd)), None, None]),
        Sadd => of([Some(p(0xec)), Some(p(0xed)), None, None]),
        Ssubu => of([Some(p(0xd8)), Some(p(0xd9)), None, None]),
        Ssub => of([Some(p(0xe8)), Some(p(0xe9)), None, None]),
        _ => None,
    }
}

/// VPCMPEQ.
fn equal(sew: u8) -> Code {
    [p(0x74), p(0x75), p(0x76), p38(0x29)][usize::from(sew & 3)]
}

/// VPCMPGT.
fn greater(sew: u8) -> Code {
    [p(0x64), p(0x65), p(0x66), p38(0x37)][usize::from(sew & 3)]
}

/// Whether there is code for an operation.
pub(super) fn has_lowering(parts: &Parts, operation: Arithmetic) -> bool {
    use Arithmetic::*;
    let (sew, is_vector) = (parts.shape.sew, parts.second() == Second::Vector);
    match operation {
        Add | Sub | Rsub | And | Or | Xor | Andn | Minu | Min | Maxu | Max | Merge | Move => true,
        Sll | Srl | Sra => !is_vector || sew >= 2,
        Ror => parts.second() == Second::Immediate && sew >= 1,
        Mul | Macc | Nmsac | Madd | Nmsub => true,
        Mulh | Mulhu => matches!(sew, 1 | 2),
        Seq | Sne | Sltu | Slt | Sleu | Sle | Sgtu | Sgt => true,
        Saddu | Sadd | Ssubu | Ssub | Aaddu | Aadd => sew <= 1,
        RedSum | RedAnd | RedOr | RedXor | RedMinu | RedMin | RedMaxu | RedMax => true,
        // The masks go as far as eight registers.
        Wredsum | Wredsumu => parts.shape.lmul < 3,
        Rev8 | Brev8 => true,
        _ => wide::has_lowering(parts, operation),
    }
}

/// Whether the result is rounded as vxrm says; there is code for rounding up at halves.
pub(super) fn rounds(operation: Arithmetic) -> bool {
    use Arithmetic::{Aadd, Aaddu, Nclip, Nclipu};
    matches!(operation, Aaddu | Aadd | Nclipu | Nclip)
}

/// The element of a reduction that changes nothing.
fn neutral(operation: Arithmetic, sew: u8) -> u64 {
    use Arithmetic::*;
    let bits = 8u32 << sew;
    match operation {
        RedAnd | RedMinu => u64::MAX,
        RedMin => (1 << (bits - 1)) - 1,
        RedMax => 1 << (bits - 1),
        _ => 0,
    }
}

impl Translator<'_> {
    pub(super) fn vector_arithmetic(&mut self, parts: &Parts, operation: Arithmetic, body: Body) {
        use Arithmetic::*;
        match operation {
            Seq | Sne | Sltu | Slt | Sleu | Sle | Sgtu | Sgt => self.compare_parts(parts, operation, body),
            RedSum | RedAnd | RedOr | RedXor | RedMinu | RedMin | RedMaxu | RedMax | Wredsum | Wredsumu => {
                self.reduce(parts, operation, body);
            }
            _ if wide::has_lowering(parts, operation) => self.arithmetic_of_two_sizes(parts, operation, body),
            _ => self.arithmetic_of_one_size(parts, operation, body),
        }
    }

    /// The operand in the place of vs1. One of less than 16 bytes is loaded as it was stored, as the host
    /// forwards a store only to a load of no more bytes.
    pub(super) fn second_operand(&mut self, parts: &Parts, chunk: Chunk) -> Rm {
        match parts.second() {
            Second::Vector if chunk.bytes < 16 => {
                self.lanes_load(X2, part(parts.v1, chunk), chunk.bytes);
                X2.into()
            }
            Second::Vector => part(parts.v1, chunk).into(),
            _ => X2.into(),
        }
    }

    fn arithmetic_of_one_size(&mut self, parts: &Parts, operation: Arithmetic, body: Body) {
        use Arithmetic::*;
        let sew = parts.shape.sew;
        if !body.is_whole() {
            self.find_tail(body, sew);
        }
        for chunk in chunks(parts.shape.bytes()) {
            let long = chunk.long();
            let b = self.second_operand(parts, chunk);
            let first = if matches!(operation, Madd | Nmsub) { parts.d } else { parts.v2 };
            if operation != Move {
                self.lanes_load(X0, part(first, chunk), chunk.bytes);
            }
            match operation {
                Macc | Madd => {
                    let addend = if operation == Macc { parts.d } else { parts.v2 };
                    self.compute_lanes(long, Mul, sew, b);
                    self.compute_lanes(long, Add, sew, part(addend, chunk).into());
                }
                Nmsac | Nmsub => {
                    let from = if operation == Nmsac { parts.d } else { parts.v2 };
                    self.compute_lanes(long, Mul, sew, b);
                    self.lanes_load(X1, part(from, chunk), chunk.bytes);
                    self.lanes(long, simple(Sub, sew).unwrap_or(XOR), X0, X1, X0);
                }
                Sll | Srl | Sra if parts.second() != Second::Vector => {
                    let by = match parts.second() {
                        Second::Immediate => By::Immediate(parts.amount() & ((8 << sew) - 1)),
                        _ => By::Low,
                    };
                    self.shift_lanes(long, operation, sew, by);
                }
                Ror => {
                    let width = 8 << sew;
                    let by = parts.amount() & (width - 1);
                    if by != 0 {
                        // VPSRL and VPSLL.
                        let opcode = [0x71, 0x71, 0x72, 0x73][usize::from(sew & 3)];
                        self.lanes_shift(long, (opcode, 6), X1, X0, width - by);
                        self.lanes_shift(long, (opcode, 2), X0, X0, by);
                        self.lanes(long, OR, X0, X0, X1);
                    }
                }
                Move => match b {
                    Rm::M(mem) => self.lanes_load(X0, mem, chunk.bytes.max(16)),
                    _ => self.lanes_of_one(long, (Prefix::F3, Map::M0F, false, 0x6f), X0, X2),
                },
                Merge => {
                    // Elements that v0 has are the second operand's, the others stay the first one's.
                    let all = Body { vl: Some(body.elements), masked: true, ..body };
                    let inverse = self.inverse(all, sew, chunk);
                    self.lanes_load(X1, inverse, chunk.bytes.max(16));
                    let second = match b {
                        Rm::M(mem) => {
                            self.lanes_load(X2, mem, chunk.bytes.max(16));
                            X2
                        }
                        _ => X2,
                    };
                    self.lanes_blend(long, X0, second, X0, X1);
                }
                Rev8 | Brev8 => self.reverse_lanes(long, operation, sew),
                _ => self.compute_lanes(long, operation, sew, b),
            }
            if matches!(operation, Saddu | Sadd | Ssubu | Ssub) {
                self.note_saturated(parts, operation, body, chunk, b);
            }
            self.finish_part(parts.d, chunk, body, sew);
        }
    }

    /// Sets vxsat if xmm0, the result of a part, differs from the result that wraps.
    fn note_saturated(&mut self, parts: &Parts, operation: Arithmetic, body: Body, chunk: Chunk, b: Rm) {
        use Arithmetic::{Add, Sadd, Saddu, Sub};
        let (sew, long) = (parts.shape.sew, chunk.long());
        let wraps = if matches!(operation, Saddu | Sadd) { Add } else { Sub };
        self.lanes_load(X1, part(parts.v2, chunk), chunk.bytes);
        self.lanes(long, simple(wraps, sew).unwrap_or(XOR), X1, X1, b);
        self.lanes(long, XOR, X1, X1, X0);
        if !body.is_whole() || chunk.bytes < 16 {
            // Only elements of the body count.
            self.lanes_store(ROOM, X1, chunk.bytes.max(16));
            let inverse = self.inverse(body, sew, chunk);
            self.lanes_load(X1, inverse, chunk.bytes.max(16));
            self.lanes(long, AND_NOT, X1, X1, ROOM);
        }
        self.set_saturated(long);
    }

    /// Sets vxsat unless xmm1 is zero.
    pub(super) fn set_saturated(&mut self, long: bool) {
        // VPTEST.
        self.lanes_of_one(long, p38(0x17), X1, X1);
        let none = self.a.skip_if(Cc::E);
        self.a.alu_imm(Alu::Or, Size::D, VCSR, 1);
        self.a.land(none);
    }

    /// A register that holds an operand.
    fn in_register(&mut self, long: bool, b: Rm) -> Xmm {
        match b {
            Rm::R(n) => Xmm(n),
            Rm::M(mem) => {
                self.lanes_load(X2, mem, if long { 32 } else { 16 });
                X2
            }
            Rm::L(_) => unreachable!("operands are registers or in the state"),
        }
    }

    /// `xmm0 = xmm0 op b`. Changes xmm1, and xmm15 if `b` is in memory.
    pub(super) fn compute_lanes(&mut self, long: bool, operation: Arithmetic, sew: u8, b: Rm) {
        use Arithmetic::*;
        if let Some(code) = simple(operation, sew) {
            return self.lanes(long, code, X0, X0, b);
        }
        let bytes = if long { 32 } else { 16 };
        match operation {
            Rsub => {
                let b = self.in_register(long, b);
                self.lanes(long, simple(Sub, sew).unwrap_or(XOR), X0, b, X0);
            }
            Aadd => {
                // The host averages unsigned numbers.
                let sign = repeated(1 << ((8 << sew) - 1), sew);
                self.splat_constant(long, X1, sign);
                self.lanes(long, XOR, X0, X0, X1);
                self.lanes(long, XOR, X1, X1, b);
                self.lanes(long, p(if sew == 0 { 0xe0 } else { 0xe3 }), X0, X0, X1);
                self.splat_constant(long, X1, sign);
                self.lanes(long, XOR, X0, X0, X1);
            }
            Andn => {
                let b = self.in_register(long, b);
                self.lanes(long, AND_NOT, X0, b, X0);
            }
            Sll | Srl | Sra => {
                // The amounts are in a vector; elements have 32 or 64 bits.
                let wide = sew == 3;
                self.splat_constant(long, X1, repeated((8 << sew) - 1, sew));
                self.lanes(long, AND, X1, X1, b);
                let variable = |opcode: u8| (Prefix::P66, Map::M0F38, wide, opcode);
                match operation {
                    Sll => self.lanes(long, variable(0x47), X0, X0, X1),
                    Sra if !wide => self.lanes(long, variable(0x46), X0, X0, X1),
                    Srl => self.lanes(long, variable(0x45), X0, X0, X1),
                    _ => {
                        self.lanes(long, variable(0x45), X0, X0, X1);
                        self.splat_constant(long, X2, repeated(1 << 63, 3));
                        self.lanes(long, variable(0x45), X2, X2, X1);
                        self.lanes(long, XOR, X0, X0, X2);
                        self.lanes(long, p(0xfb), X0, X0, X2);
                    }
                }
            }
            Minu | Maxu | Min | Max | RedMinu | RedMaxu | RedMin | RedMax => {
                // Of 64 bits.
                let b = self.in_register(long, b);
                let unsigned = matches!(operation, Minu | Maxu | RedMinu | RedMaxu);
                if unsigned {
                    let sign = repeated(1 << 63, 3);
                    self.splat_constant(long, X1, sign);
                    self.lanes(long, XOR, X1, X1, b);
                    self.lanes_store(ROOM_BEHIND, X1, bytes);
                    self.splat_constant(long, X1, sign);
                    self.lanes(long, XOR, X1, X1, X0);
                    self.lanes(long, greater(3), X1, X1, ROOM_BEHIND);
                } else {
                    self.lanes(long, greater(3), X1, X0, b);
                }
                // xmm1 says where the first is greater.
                if matches!(operation, Minu | Min | RedMinu | RedMin) {
                    self.lanes_blend(long, X0, X0, b, X1);
                } else {
                    self.lanes_blend(long, X0, b, X0, X1);
                }
            }
            Mulh | Mulhu => {
                // Products of the even elements and of the odd ones, and the high halves of all.
                let code = if operation == Mulh { p38(0x28) } else { p(0xf4) };
                let b = self.in_register(long, b);
                self.lanes_shift(long, (0x73, 2), X1, b, 32);
                self.lanes_store(ROOM_BEHIND, X1, bytes);
                self.lanes_shift(long, (0x73, 2), X1, X0, 32);
                self.lanes(long, code, X1, X1, ROOM_BEHIND);
                self.lanes(long, code, X0, X0, b);
                self.lanes_shift(long, (0x73, 2), X0, X0, 32);
                // VPBLENDD.
                self.lanes_imm(long, p3a(0x02), X0, X0, X1, 0xaa);
            }
            Mul if sew == 0 => {
                let b = self.in_register(long, b);
                self.lanes_shift(long, (0x71, 2), X1, b, 8);
                self.lanes_store(ROOM_BEHIND, X1, bytes);
                self.lanes_shift(long, (0x71, 2), X1, X0, 8);
                self.lanes(long, p(0xd5), X1, X1, ROOM_BEHIND);
                self.lanes_shift(long, (0x71, 6), X1, X1, 8);
                self.lanes(long, p(0xd5), X0, X0, b);
                self.lanes_store(ROOM_BEHIND, X1, bytes);
                self.splat_constant(long, X1, repeated(0x00ff, 1));
                self.lanes(long, AND, X0, X0, X1);
                self.lanes(long, OR, X0, X0, ROOM_BEHIND);
            }
            Mul => {
                // Of 64 bits: the low product, and the two mixed ones 32 bits above.
                let b = self.in_register(long, b);
                self.lanes_shift(long, (0x73, 2), X1, b, 32);
                self.lanes(long, p(0xf4), X1, X1, X0);
                self.lanes_store(ROOM_BEHIND, X1, bytes);
                self.lanes_shift(long, (0x73, 2), X1, X0, 32);
                self.lanes(long, p(0xf4), X1, X1, b);
                self.lanes(long, p(0xd4), X1, X1, ROOM_BEHIND);
                self.lanes_shift(long, (0x73, 6), X1, X1, 32);
                self.lanes(long, p(0xf4), X0, X0, b);
                self.lanes(long, p(0xd4), X0, X0, X1);
            }
            _ => unreachable!("{operation:?} of elements of 2^{sew} bytes has no lowering"),
        }
    }

    /// Shifts all elements of xmm0 by the same amount, less than their bits. Changes xmm1.
    pub(super) fn shift_lanes(&mut self, long: bool, operation: Arithmetic, sew: u8, by: By) {
        use Arithmetic::{Sll, Sra};
        if let By::Immediate(0) = by {
            return;
        }
        let shift = |this: &mut Self, d: Xmm, a: Xmm, left: bool, arithmetic: bool, sew: u8| {
            let place = usize::from(sew.max(1) - 1);
            match by {
                By::Immediate(by) => {
                    let extension = if left { 6 } else { 2 + 2 * u8::from(arithmetic) };
                    this.lanes_shift(long, ([0x71, 0x72, 0x73][place], extension), d, a, by);
                }
                By::Low => {
                    let opcode = if left { 0xf1 } else { 0xd1 + 0x10 * u8::from(arithmetic) };
                    this.lanes(long, p(opcode + place as u8), d, a, X2);
                }
            }
        };
        match (operation, sew) {
            (_, 0) => {
                // As 16 bits, without those that come from the other byte.
                shift(self, X0, X0, operation == Sll, false, 1);
                self.splat_constant(long, X1, u128::MAX);
                shift(self, X1, X1, operation == Sll, false, 1);
                if operation != Sll {
                    self.lanes_shift(long, (0x71, 2), X1, X1, 8);
                }
                self.lanes_splat(long, 0, X1, X1);
                self.lanes(long, AND, X0, X0, X1);
                if operation == Sra {
                    // xmm1 = the place of the sign after the shift.
                    self.splat_constant(long, X1, repeated(0x80, 1));
                    shift(self, X1, X1, false, false, 1);
                    self.lanes_splat(long, 0, X1, X1);
                    self.lanes(long, XOR, X0, X0, X1);
                    self.lanes(long, p(0xf8), X0, X0, X1);
                }
            }
            (Sra, 3) => {
                shift(self, X0, X0, false, false, 3);
                self.splat_constant(long, X1, repeated(1 << 63, 3));
                shift(self, X1, X1, false, false, 3);
                self.lanes(long, XOR, X0, X0, X1);
                self.lanes(long, p(0xfb), X0, X0, X1);
            }
            _ => shift(self, X0, X0, operation == Sll, operation == Sra, sew),
        }
    }

    /// VREV8 and VBREV8.
    fn reverse_lanes(&mut self, long: bool, operation: Arithmetic, sew: u8) {
        if operation == Arithmetic::Rev8 {
            if sew > 0 {
                let mut order = 0;
                for i in 0..16u128 {
                    order |= (i ^ ((1 << sew) - 1)) << (8 * i);
                }
                self.splat_constant(long, X1, order);
                self.lanes(long, p38(0x00), X0, X0, X1);
            }
            return;
        }
        // The bits of each nibble in reverse order, by a table, and the nibbles the other way round.
        let table = |shift: u32| {
            (0..16u8).fold(0, |all, i| all | u128::from(i.reverse_bits() >> 4 << shift) << (8 * u32::from(i)))
        };
        let nibbles = repeated(0x0f, 0);
        self.splat_constant(long, X1, nibbles);
        self.lanes(long, AND, X1, X1, X0);
        self.lanes_store(ROOM_BEHIND, X1, 32);
        self.splat_constant(long, X1, table(4));
        self.lanes(long, p38(0x00), X1, X1, ROOM_BEHIND);
        self.lanes_store(ROOM, X1, 32);
        self.lanes_shift(long, (0x71, 2), X0, X0, 4);
        self.splat_constant(long, X1, nibbles);
        self.lanes(long, AND, X0, X0, X1);
        self.splat_constant(long, X1, table(0));
        self.lanes(long, p38(0x00), X0, X1, X0);
        self.lanes(long, OR, X0, X0, ROOM);
    }

    /// VMSEQ and its kin.
    fn compare_parts(&mut self, parts: &Parts, operation: Arithmetic, body: Body) {
        use Arithmetic::*;
        let sew = parts.shape.sew;
        let mut bits = MaskBits::new(parts.d, body);
        for chunk in chunks(parts.shape.bytes()) {
            let long = chunk.long();
            let b = self.second_operand(parts, chunk);
            self.lanes_load(X0, part(parts.v2, chunk), chunk.bytes);
            let (mut operation, mut b) = (operation, b);
            let unsigned = matches!(operation, Sltu | Sleu | Sgtu);
            if unsigned && sew == 3 {
                let sign = repeated(1 << 63, 3);
                self.splat_constant(long, X1, sign);
                self.lanes(long, XOR, X0, X0, X1);
                self.lanes(long, XOR, X1, X1, b);
                b = X1.into();
                operation = match operation {
                    Sltu => Slt,
                    Sleu => Sle,
                    _ => Sgt,
                };
            }
            let inverts = match operation {
                Seq | Sne => {
                    self.lanes(long, equal(sew), X0, X0, b);
                    operation == Sne
                }
                Slt => {
                    let b = self.in_register(long, b);
                    self.lanes(long, greater(sew), X0, b, X0);
                    false
                }
                Sle | Sgt => {
                    self.lanes(long, greater(sew), X0, X0, b);
                    operation == Sle
                }
                // The first is less unless it is the greater one of both, or equal.
                Sltu => {
                    self.lanes(long, simple(Maxu, sew).unwrap_or(XOR), X1, X0, b);
                    self.lanes(long, equal(sew), X0, X0, X1);
                    true
                }
                _ => {
                    self.lanes(long, simple(Minu, sew).unwrap_or(XOR), X1, X0, b);
                    self.lanes(long, equal(sew), X0, X0, X1);
                    operation == Sgtu
                }
            };
            self.put_mask_bits(&mut bits, chunk, sew, inverts);
        }
        self.end_mask_bits(&bits);
    }

    /// The bits of a mask of a part, from xmm0, whose elements are all ones or zeros. Changes rax and xmm1.
    pub(super) fn put_mask_bits(&mut self, bits: &mut MaskBits, chunk: Chunk, sew: u8, inverts: bool) {
        let long = chunk.long();
        match sew {
            0 => self.a.vex_of_length(long, p(0xd7), Reg::RAX.0, 0, X0.into()),
            1 => {
                if long {
                    // VEXTRACTI128, VPACKSSWB.
                    self.a.vex_of_length(true, p3a(0x39), X0.0, 0, X1.into());
                    self.a.byte(1);
                    self.lanes(false, p(0x63), X0, X0, X1);
                } else {
                    self.lanes(false, p(0x63), X0, X0, X0);
                }
                self.a.vex_of_length(false, p(0xd7), Reg::RAX.0, 0, X0.into());
            }
            2 => self.a.vex_of_length(long, (Prefix::None, Map::M0F, false, 0x50), Reg::RAX.0, 0, X0.into()),
            _ => self.a.vex_of_length(long, p(0x50), Reg::RAX.0, 0, X0.into()),
        }
        let count = chunk.bytes >> sew;
        let all = if count == 32 { -1 } else { (1 << count) - 1 };
        if inverts {
            self.a.alu_imm(Alu::Xor, Size::D, Reg::RAX, all);
        }
        if count < 32 && (chunk.bytes < 16 || sew == 1) {
            self.a.alu_imm(Alu::And, Size::D, Reg::RAX, all);
        }
        let at = bits.count;
        bits.count += count;
        if count >= 8 {
            let to = bits.place().plus((at / 8) as i32);
            return match count {
                8 => self.a.store8(to, Reg::RAX),
                16 => self.a.store16(to, Reg::RAX),
                _ => self.a.mov_to(Size::D, to, Reg::RAX),
            };
        }
        if at == 0 {
            self.a.mov(Size::D, Reg::RDX, Reg::RAX);
        } else {
            self.a.shift_imm(Shift::Shl, Size::D, Reg::RAX, at as u8);
            self.a.alu(Alu::Or, Size::D, Reg::RDX, Reg::RAX);
        }
        bits.in_rdx = true;
    }

    /// Finishes a mask. Changes rax, rcx, rdx.
    pub(super) fn end_mask_bits(&mut self, bits: &MaskBits) {
        if !bits.by_room && (bits.count >= 8 || !bits.in_rdx) {
            return match (bits.in_rdx, bits.count) {
                (false, _) => {}
                (_, 8) => self.a.store8(bits.place(), Reg::RDX),
                _ => self.a.store16(bits.place(), Reg::RDX),
            };
        }
        if bits.body.is_whole() && bits.in_rdx {
            // Less than a byte.
            let others = !((1i32 << bits.count) - 1);
            self.a.mov(Size::Q, Reg::RAX, group(bits.d));
            self.a.alu_imm(Alu::And, Size::Q, Reg::RAX, others);
            self.a.alu(Alu::Or, Size::Q, Reg::RAX, Reg::RDX);
            return self.a.mov_to(Size::Q, group(bits.d), Reg::RAX);
        }
        if bits.in_rdx {
            self.a.mov_to(Size::Q, ROOM, Reg::RDX);
        }
        self.merge_mask(bits.d, bits.body);
    }

    /// The bits of the body in the mask register = those in the room. Changes rax, rcx, rdx.
    pub(super) fn merge_mask(&mut self, d: u32, body: Body) {
        for half in 0..body.elements.div_ceil(64) {
            self.body_bits(half, body);
            let at = 8 * half as i32;
            let to = group(d).plus(at);
            self.a.mov(Size::Q, Reg::RDX, ROOM.plus(at));
            self.a.alu(Alu::Xor, Size::Q, Reg::RDX, to);
            self.a.alu(Alu::And, Size::Q, Reg::RDX, Reg::RAX);
            self.a.alu_to(Alu::Xor, Size::Q, to, Reg::RDX);
        }
    }

    /// rax = the bits of the body, of elements from `64 * half` on. Changes rcx and rdx.
    pub(super) fn body_bits(&mut self, half: u32, body: Body) {
        match body.vl {
            Some(vl) => {
                let count = vl.saturating_sub(64 * half).min(64);
                let bits = if count == 0 { 0 } else { u64::MAX >> (64 - count) };
                self.a.mov_imm(Reg::RAX, bits);
            }
            None => {
                self.a.mov(Size::Q, Reg::RCX, crate::layout::VL);
                if half > 0 {
                    self.a.mov_imm(Reg::RDX, 0);
                    self.a.alu_imm(Alu::Sub, Size::Q, Reg::RCX, 64);
                    self.a.cmov(Cc::B, Size::Q, Reg::RCX, Reg::RDX);
                }
                self.a.mov_imm(Reg::RAX, u64::MAX);
                // BZHI.
                self.a.vex(Prefix::None, Map::M0F38, true, 0xf5, Reg::RAX.0, Reg::RCX.0, Reg::RAX);
            }
        }
        if body.masked {
            self.a.alu(Alu::And, Size::Q, Reg::RAX, group(0).plus(8 * half as i32));
        }
    }

    /// VREDSUM and its kin.
    fn reduce(&mut self, parts: &Parts, operation: Arithmetic, body: Body) {
        use Arithmetic::{Wredsum, Wredsumu};
        let from = parts.shape.sew;
        let widens = matches!(operation, Wredsum | Wredsumu);
        let sew = from + u8::from(widens);
        let nothing = match body.vl {
            None => {
                self.a.alu_imm(Alu::Cmp, Size::D, crate::layout::VL, 0);
                Some(self.a.label())
            }
            Some(0) => return,
            _ => None,
        };
        if let Some(end) = nothing {
            self.a.jump_if(Cc::E, end);
        }
        if !body.is_whole() {
            self.find_tail(body, sew);
        }
        let idle = neutral(operation, sew);
        // The sum is kept in the room, as each part may need all scratch registers.
        let bytes = parts.shape.bytes() << u8::from(widens);
        for (i, chunk) in chunks(bytes).enumerate() {
            let (long, room) = (chunk.long(), chunk.bytes.max(16));
            if widens {
                self.extend_part(parts.v2, chunk, (from, sew), operation == Wredsum, X0);
            } else {
                self.lanes_load(X0, part(parts.v2, chunk), chunk.bytes);
            }
            if !body.is_whole() {
                let inverse = self.inverse(body, sew, chunk);
                self.lanes_load(X1, inverse, room);
                self.splat_constant(long, X2, repeated(idle, sew));
                self.lanes_blend(long, X0, X0, X2, X1);
            }
            if i > 0 {
                self.compute_lanes(long, operation, sew, SUM.into());
            }
            if bytes > 32 {
                self.lanes_store(SUM, X0, room);
            }
        }
        let mut left = bytes.min(32);
        if left == 32 {
            // VEXTRACTI128.
            self.a.vex_of_length(true, p3a(0x39), X0.0, 0, X2.into());
            self.a.byte(1);
            self.compute_lanes(false, operation, sew, X2.into());
            left = 16;
        }
        while left > 1 << sew {
            left /= 2;
            // VPSRLDQ.
            self.a.vshift_imm(0x73, 3, X2, X0, left as u8);
            self.compute_lanes(false, operation, sew, X2.into());
        }
        self.lanes_load(X2, group(parts.v1), 1 << sew);
        self.compute_lanes(false, operation, sew, X2.into());
        self.lanes_store(group(parts.d), X0, 1 << sew);
        if let Some(end) = nothing {
            self.a.bind(end);
        }
    }
}

/// Where the sum of the parts so far is.
const SUM: Mem = ROOM.plus(64);

/// The bits of a mask that is being made.
pub(super) struct MaskBits {
    d: u32,
    body: Body,
    count: u32,
    /// Whether they are gathered in rdx.
    in_rdx: bool,
    /// Whether they go to the room first.
    by_room: bool,
}

impl MaskBits {
    pub(super) fn new(d: u32, body: Body) -> MaskBits {
        MaskBits { d, body, count: 0, in_rdx: false, by_room: !body.is_whole() }
    }

    /// The same, for a mask register that must stay until the mask is finished.
    pub(super) fn through_room(d: u32, body: Body) -> MaskBits {
        MaskBits { by_room: true, ..MaskBits::new(d, body) }
    }

    /// Where the bits are stored.
    fn place(&self) -> Mem {
        if self.by_room { ROOM } else { group(self.d) }
    }
}
