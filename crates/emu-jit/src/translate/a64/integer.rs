//! Data processing with immediates and registers (manual C4.1.92 and C4.1.95).

use super::registers::{SINK, ZERO, destination, size, source, sp};
use super::{Lowered, ONE, Translator, bit, bits};
use crate::translate::alu::Operand;
use crate::translate::condition::{Condition, Flags};
use crossdock_emu_x64::{Alu, Mem, Reg, Rm, Shift, Size};

fn width(size: Size) -> u32 {
    if size == Size::Q { 64 } else { 32 }
}

/// The low `count` bits set, of 1 to 64.
fn ones(count: u32) -> u64 {
    u64::MAX >> (64 - count)
}

/// DecodeBitMasks of the manual (shared pseudo-code), the immediate mask; `None` where reserved.
pub(super) fn logical_immediate(word: u32) -> Option<u64> {
    let (n, immr, imms) = (bits(word, 22, 22), bits(word, 21, 16), bits(word, 15, 10));
    if n == 1 && word >> 31 == 0 {
        return None;
    }
    let length = 31u32.checked_sub((n << 6 | !imms & 0x3f).leading_zeros()).filter(|&length| length > 0)?;
    let (element, levels) = (1u32 << length, (1u32 << length) - 1);
    let (s, r) = (imms & levels, immr & levels);
    if s == levels {
        return None;
    }
    let run = ones(s + 1);
    let rotated = if r == 0 { run } else { (run >> r | run << (element - r)) & ones(element) };
    let mut mask = rotated;
    let mut filled = element;
    while filled < 64 {
        mask |= mask << filled;
        filled *= 2;
    }
    Some(if word >> 31 == 1 { mask } else { mask & 0xffff_ffff })
}

impl Translator<'_> {
    pub(super) fn data_immediate(&mut self, word: u32) -> Lowered {
        match bits(word, 25, 23) {
            0 | 1 => self.pc_relative(word),
            2 => self.add_sub_immediate(word),
            4 => self.logical_immediate(word),
            5 => self.move_wide(word),
            6 => self.bitfield(word),
            7 => self.extract(word),
            _ => Lowered::No,
        }
    }

    pub(super) fn data_register(&mut self, word: u32) -> Lowered {
        if !bit(word, 28) {
            return match (bit(word, 24), bit(word, 21)) {
                (false, _) => self.logical_shifted(word),
                (true, false) => self.add_sub_shifted(word),
                (true, true) => self.add_sub_extended(word),
            };
        }
        match bits(word, 24, 21) {
            0b0000 if bits(word, 15, 10) == 0 => self.add_sub_carry(word),
            0b0010 => self.conditional_compare(word),
            0b0100 => self.conditional_select(word),
            0b0110 if bit(word, 30) => self.one_source(word),
            0b0110 => self.two_source(word),
            0b1000..=0b1111 => self.three_source(word),
            _ => Lowered::No,
        }
    }

    /// ADR, ADRP, and the ADD of the low bits that follows an ADRP.
    fn pc_relative(&mut self, word: u32) -> Lowered {
        let rd = destination(word, 0);
        let imm = i64::from((bits(word, 23, 5) << 2 | bits(word, 30, 29)) << 11) << 32 >> 43;
        if !bit(word, 31) {
            let value = self.pc.wrapping_add_signed(imm);
            self.put_address(rd, value);
            return ONE;
        }
        let mut value = (self.pc & !0xfff).wrapping_add_signed(imm << 12);
        let mut count = 1;
        // ADD Xd, Xd, #imm12.
        if let Some(&next) = self.items.get(1)
            && next & 0xffc0_0000 == 0x9100_0000
            && rd != SINK
            && bits(next, 4, 0) == u32::from(rd)
            && bits(next, 9, 5) == u32::from(rd)
        {
            value = value.wrapping_add(u64::from(bits(next, 21, 10)));
            count = 2;
        }
        if self.plt_entry(rd, value) {
            return Lowered::Words(3);
        }
        self.put_address(rd, value);
        Lowered::Words(count)
    }

    /// The entry of a procedure linkage table (System V ABI for the Arm 64-bit architecture, PLT sequences),
    /// up to its BR; its ADRP gives `page`. False if the code is something else. A load that faults does so
    /// at the ADRP's address, before anything has changed.
    ///
    /// ```text
    /// ADRP X16, page; LDR X17, [X16, #imm]; ADD X16, X16, #imm; BR X17
    /// ```
    fn plt_entry(&mut self, rd: u8, page: u64) -> bool {
        const BRANCH: u32 = 0xd61f_0220;
        let &[_, load, add] = self.items else { return false };
        let offset = bits(load, 21, 10) * 8;
        let is_entry = rd == 16
            && load & 0xffc0_03ff == 0xf940_0211
            && add & 0xffc0_03ff == 0x9100_0210
            && bits(add, 21, 10) == offset
            && self.end_item == Some(BRANCH);
        if !is_entry {
            return false;
        }
        self.mark();
        self.guest_address(Reg::RDX, page.wrapping_add(offset.into()));
        self.a.mov(Size::Q, Reg::RAX, Mem::at(Reg::RDX, 0));
        self.put(17, Reg::RAX);
        self.put(16, Reg::RDX);
        true
    }

    /// ADD, ADDS, SUB, SUBS (immediate).
    fn add_sub_immediate(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let imm = (bits(word, 21, 10) << if bit(word, 22) { 12 } else { 0 }) as i32;
        let (sub, rn) = (bit(word, 30), sp(word, 5));
        if bit(word, 29) {
            self.arithmetic(sub, true, size, destination(word, 0), rn, Operand::Imm(imm));
            return ONE;
        }
        let rd = sp(word, 0);
        let t = self.result(rd, Reg::RAX);
        if imm == 0 && size == Size::Q {
            // A host register is stored directly.
            let n = self.get(rn, t);
            self.put(rd, n);
            return ONE;
        }
        if rd == rn && size == Size::Q && self.general_host(rd).is_none() && !self.live_before {
            self.clobber();
            self.a.alu_imm(if sub { Alu::Sub } else { Alu::Add }, size, self.rm(rd), imm);
            self.changed(rd);
            return ONE;
        }
        let n = self.get(rn, Reg::RAX);
        if imm == 0 {
            self.a.mov(size, t, n);
        } else {
            self.a.lea(size, t, Mem::at(n, if sub { -imm } else { imm }));
        }
        self.put(rd, t);
        ONE
    }

    /// ADD, ADDS, SUB, SUBS (shifted register).
    fn add_sub_shifted(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let (kind, amount) = (bits(word, 23, 22), bits(word, 15, 10) as u8);
        let (sub, set) = (bit(word, 30), bit(word, 29));
        let (rd, rn, rm) = (destination(word, 0), source(word, 5), source(word, 16));
        if kind == 3 || u32::from(amount) >= width(size) {
            return Lowered::No;
        }
        if !set && !sub && kind == 0 && amount < 4 && rn != ZERO && rm != ZERO {
            let in_place = rd == rn && amount == 0 && !self.live_before;
            if !in_place {
                let n = self.get(rn, Reg::RAX);
                let m = self.get(rm, Reg::RCX);
                let t = self.result(rd, Reg::RAX);
                self.a.lea(size, t, Mem { base: n, index: Some((m, amount)), disp: 0 });
                self.put(rd, t);
                return ONE;
            }
        }
        if amount == 0 {
            self.arithmetic(sub, set, size, rd, rn, Operand::Rm(self.rm(rm)));
        } else {
            self.clobber_unless(set);
            self.shifted(size, rm, kind, amount);
            self.arithmetic(sub, set, size, rd, rn, Operand::Rm(Reg::RCX.into()));
        }
        ONE
    }

    /// `reg = rm` extended (ExtendReg of the manual).
    pub(super) fn extended(&mut self, reg: Reg, rm: u8, option: u32) {
        if rm == ZERO {
            return self.a.mov_imm(reg, 0);
        }
        let rm = self.rm(rm);
        match option {
            0 => self.a.movzx8(reg, rm),
            1 => self.a.movzx16(reg, rm),
            2 => self.a.mov(Size::D, reg, rm),
            4 => self.a.movsx8(Size::Q, reg, rm),
            5 => self.a.movsx16(Size::Q, reg, rm),
            6 => self.a.movsxd(reg, rm),
            _ => self.a.mov(Size::Q, reg, rm),
        }
    }

    /// ADD, ADDS, SUB, SUBS (extended register).
    fn add_sub_extended(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let (option, amount) = (bits(word, 15, 13), bits(word, 12, 10) as u8);
        let (sub, set) = (bit(word, 30), bit(word, 29));
        let rd = if set { destination(word, 0) } else { sp(word, 0) };
        let rn = sp(word, 5);
        if amount > 4 || bits(word, 23, 22) != 0 {
            return Lowered::No;
        }
        if !set && !sub && amount < 4 {
            self.extended(Reg::RCX, source(word, 16), option);
            let n = self.get(rn, Reg::RAX);
            let t = self.result(rd, Reg::RAX);
            self.a.lea(size, t, Mem { base: n, index: Some((Reg::RCX, amount)), disp: 0 });
            self.put(rd, t);
            return ONE;
        }
        self.clobber_unless(set);
        self.extended(Reg::RCX, source(word, 16), option);
        if amount != 0 {
            self.a.shift_imm(Shift::Shl, Size::Q, Reg::RCX, amount);
        }
        self.arithmetic(sub, set, size, rd, rn, Operand::Rm(Reg::RCX.into()));
        ONE
    }

    /// ADC, ADCS, SBC, SBCS.
    fn add_sub_carry(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let (sub, set) = (bit(word, 30), bit(word, 29));
        let (rd, rn, rm) = (destination(word, 0), source(word, 5), source(word, 16));
        if !set && self.live {
            self.save_flags();
        }
        self.load_carry(sub);
        self.copy(size, Reg::RAX, rn);
        self.a.alu(if sub { Alu::Sbb } else { Alu::Adc }, size, Reg::RAX, self.rm(rm));
        self.put(rd, Reg::RAX);
        if set {
            self.set_flags(sub);
        } else {
            self.flags = Flags::Memory;
        }
        ONE
    }

    /// AND, ORR, EOR, ANDS (immediate).
    fn logical_immediate(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let Some(imm) = logical_immediate(word) else { return Lowered::No };
        let (opc, rn) = (bits(word, 30, 29), source(word, 5));
        let rd = if opc == 3 { destination(word, 0) } else { sp(word, 0) };
        if opc == 1 && rn == ZERO {
            self.put_constant(rd, imm);
            return ONE;
        }
        // Compilers mask bytes between a comparison and its use; MOVZX keeps EFLAGS.
        if opc == 0 && rn != ZERO && matches!(imm, 0xff | 0xffff | 0xffff_ffff) {
            self.unsigned_bitfield(size, rd, rn, 0, imm.count_ones() - 1);
            return ONE;
        }
        self.clobber_unless(opc == 3);
        let small = if size == Size::D { Some(imm as u32 as i32) } else { i32::try_from(imm as i64).ok() };
        let operand = match small {
            Some(imm) => Operand::Imm(imm),
            // If the upper half is clear, a 32-bit operation would do, except for the sign.
            None => {
                self.a.mov_imm(Reg::RCX, imm);
                Operand::Rm(Reg::RCX.into())
            }
        };
        self.logical(opc, size, rd, rn, operand);
        ONE
    }

    /// AND, ORR, EOR, ANDS by `opc`. EFLAGS are free; the operand is not in rax.
    fn logical(&mut self, opc: u32, size: Size, rd: u8, rn: u8, operand: Operand) {
        if opc == 3 && rd == SINK && rn != ZERO {
            match operand {
                Operand::Imm(imm) => self.a.test_imm(size, self.rm(rn), imm),
                Operand::Rm(Rm::R(reg)) => self.a.test(size, self.rm(rn), Reg(reg)),
                Operand::Rm(memory) => {
                    let n = self.get(rn, Reg::RAX);
                    self.a.test(size, memory, n);
                }
            }
        } else {
            let op = match opc {
                1 => Alu::Or,
                2 => Alu::Xor,
                _ => Alu::And,
            };
            self.combine(op, size, rd, rn, operand);
        }
        if opc == 3 {
            self.set_flags(false);
        }
    }

    /// AND, BIC, ORR, ORN, EOR, EON, ANDS, BICS (shifted register).
    fn logical_shifted(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let (opc, kind, invert) = (bits(word, 30, 29), bits(word, 23, 22), bit(word, 21));
        let amount = bits(word, 15, 10) as u8;
        let (rd, rn, rm) = (destination(word, 0), source(word, 5), source(word, 16));
        if u32::from(amount) >= width(size) {
            return Lowered::No;
        }
        if opc == 1 && rn == ZERO {
            return self.move_shifted(size, rd, rm, kind, amount, invert);
        }
        self.clobber_unless(opc == 3);
        if amount == 0 && !invert {
            self.logical(opc, size, rd, rn, Operand::Rm(self.rm(rm)));
            return ONE;
        }
        if amount == 0 {
            self.copy(size, Reg::RCX, rm);
        } else {
            self.shifted(size, rm, kind, amount);
        }
        if invert {
            self.a.not(size, Reg::RCX);
        }
        self.logical(opc, size, rd, rn, Operand::Rm(Reg::RCX.into()));
        ONE
    }

    /// ORR and ORN with XZR: MOV, MVN.
    fn move_shifted(&mut self, size: Size, rd: u8, rm: u8, kind: u32, amount: u8, invert: bool) -> Lowered {
        if rm == ZERO {
            let value = if !invert {
                0
            } else if size == Size::Q {
                u64::MAX
            } else {
                0xffff_ffff
            };
            self.put_constant(rd, value);
            return ONE;
        }
        if amount != 0 {
            self.clobber();
            self.shifted(size, rm, kind, amount);
            if invert {
                self.a.not(size, Reg::RCX);
            }
            self.put(rd, Reg::RCX);
            return ONE;
        }
        let t = self.result(rd, Reg::RAX);
        if !invert && size == Size::Q {
            // A host register is stored directly.
            let m = self.get(rm, t);
            self.put(rd, m);
            return ONE;
        }
        self.copy(size, t, rm);
        if invert {
            self.a.not(size, t);
        }
        self.put(rd, t);
        ONE
    }

    /// MOVN, MOVZ, MOVK; with the MOVKs that follow.
    fn move_wide(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let rd = destination(word, 0);
        let shift = bits(word, 22, 21) * 16;
        let imm = u64::from(bits(word, 20, 5)) << shift;
        if shift >= width(size) {
            return Lowered::No;
        }
        let mask = ones(width(size));
        let mut value = match bits(word, 30, 29) {
            0 => !imm & mask,
            2 => imm,
            3 => return self.move_keep(size, rd, shift, imm),
            _ => return Lowered::No,
        };
        let mut count = 1;
        while let Some(&next) = self.items.get(count) {
            let lane = bits(next, 22, 21) * 16;
            let same = next >> 31 == word >> 31 && bits(next, 4, 0) == bits(word, 4, 0);
            if next & 0x7f80_0000 != 0x7280_0000 || !same || lane >= width(size) {
                break;
            }
            value = value & !(0xffff << lane) | u64::from(bits(next, 20, 5)) << lane;
            count += 1;
        }
        self.put_constant(rd, value);
        Lowered::Words(count)
    }

    fn move_keep(&mut self, size: Size, rd: u8, shift: u32, imm: u64) -> Lowered {
        if rd == SINK {
            return ONE;
        }
        self.clobber();
        let keep = !(0xffff << shift) & ones(width(size));
        // What follows clears the upper half of 32 bits.
        let t = self.get(rd, Reg::RAX);
        self.and_mask(size, t, keep);
        if let Ok(imm) = i32::try_from(imm) {
            self.a.alu_imm(Alu::Or, size, t, imm);
        } else if size == Size::D {
            self.a.alu_imm(Alu::Or, size, t, imm as u32 as i32);
        } else {
            self.a.mov_imm(Reg::RCX, imm);
            self.a.alu(Alu::Or, size, t, Reg::RCX);
        }
        self.put(rd, t);
        ONE
    }

    /// `reg &= mask`. Changes rdx and EFLAGS.
    fn and_mask(&mut self, size: Size, reg: Reg, mask: u64) {
        if mask == 0xffff_ffff {
            self.a.mov(Size::D, reg, reg);
        } else if mask == 0xff {
            self.a.movzx8(reg, reg);
        } else if mask == 0xffff {
            self.a.movzx16(reg, reg);
        } else if let Ok(mask) = u32::try_from(mask) {
            self.a.alu_imm(Alu::And, Size::D, reg, mask as i32);
        } else if let Ok(mask) = i32::try_from(mask as i64) {
            self.a.alu_imm(Alu::And, size, reg, mask);
        } else {
            self.a.mov_imm(Reg::RDX, mask);
            self.a.alu(Alu::And, size, reg, Reg::RDX);
        }
    }

    /// SBFM, BFM, UBFM.
    fn bitfield(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let width = width(size);
        let (r, s) = (bits(word, 21, 16), bits(word, 15, 10));
        let (rd, rn) = (destination(word, 0), source(word, 5));
        if bits(word, 22, 22) != word >> 31 || r >= width || s >= width {
            return Lowered::No;
        }
        if rn == ZERO {
            return Lowered::No;
        }
        match bits(word, 30, 29) {
            0 => self.signed_bitfield(size, rd, rn, r, s),
            1 => self.bitfield_move(size, rd, rn, r, s),
            2 => self.unsigned_bitfield(size, rd, rn, r, s),
            _ => return Lowered::No,
        }
        ONE
    }

    fn unsigned_bitfield(&mut self, size: Size, rd: u8, rn: u8, r: u32, s: u32) {
        let width = width(size);
        let t = self.result(rd, Reg::RAX);
        if r == 0 && (s == 7 || s == 15 || s == 31) {
            let rm = self.rm(rn);
            match s {
                7 => self.a.movzx8(t, rm),
                15 => self.a.movzx16(t, rm),
                _ => self.a.mov(Size::D, t, rm),
            }
            return self.put(rd, t);
        }
        self.clobber();
        self.copy(size, t, rn);
        if s + 1 == r {
            self.a.shift_imm(Shift::Shl, size, t, (width - r) as u8);
        } else if s == width - 1 {
            if r != 0 {
                self.a.shift_imm(Shift::Shr, size, t, r as u8);
            }
        } else if s >= r {
            if r != 0 {
                self.a.shift_imm(Shift::Shr, size, t, r as u8);
            }
            self.and_mask(size, t, ones(s - r + 1));
        } else {
            self.and_mask(size, t, ones(s + 1));
            self.a.shift_imm(Shift::Shl, size, t, (width - r) as u8);
        }
        self.put(rd, t);
    }

    fn signed_bitfield(&mut self, size: Size, rd: u8, rn: u8, r: u32, s: u32) {
        let width = width(size);
        let t = self.result(rd, Reg::RAX);
        if r == 0 && (s == 7 || s == 15 || s == 31 && size == Size::Q) {
            let rm = self.rm(rn);
            match s {
                7 => self.a.movsx8(size, t, rm),
                15 => self.a.movsx16(size, t, rm),
                _ => self.a.movsxd(t, rm),
            }
            return self.put(rd, t);
        }
        self.clobber();
        self.copy(size, t, rn);
        let up = width - 1 - s;
        let down = if s >= r { up + r } else { up - (width - r) };
        if up != 0 {
            self.a.shift_imm(Shift::Shl, size, t, up as u8);
        }
        if down != 0 {
            self.a.shift_imm(Shift::Sar, size, t, down as u8);
        }
        self.put(rd, t);
    }

    /// BFM: BFI, BFXIL.
    fn bitfield_move(&mut self, size: Size, rd: u8, rn: u8, r: u32, s: u32) {
        if rd == SINK {
            return;
        }
        let (from, to, count) = if s >= r { (r, 0, s - r + 1) } else { (0, width(size) - r, s + 1) };
        self.clobber();
        self.copy(size, Reg::RCX, rn);
        if from != 0 {
            self.a.shift_imm(Shift::Shr, size, Reg::RCX, from as u8);
        }
        self.and_mask(size, Reg::RCX, ones(count));
        if to != 0 {
            self.a.shift_imm(Shift::Shl, size, Reg::RCX, to as u8);
        }
        let keep = !(ones(count) << to) & ones(width(size));
        if keep == 0 {
            return self.put(rd, Reg::RCX);
        }
        let t = self.get(rd, Reg::RAX);
        self.and_mask(size, t, keep);
        self.a.alu(Alu::Or, size, t, Reg::RCX);
        self.put(rd, t);
    }

    /// EXTR.
    fn extract(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let (rd, rn, rm) = (destination(word, 0), source(word, 5), source(word, 16));
        let lsb = bits(word, 15, 10);
        if bits(word, 30, 29) != 0 || bit(word, 21) || bits(word, 22, 22) != word >> 31 || lsb >= width(size)
        {
            return Lowered::No;
        }
        if rn == ZERO || rm == ZERO {
            return Lowered::No;
        }
        if rn == rm {
            let t = self.result(rd, Reg::RAX);
            self.a.rorx(size, t, self.rm(rn), lsb as u8);
            self.put(rd, t);
            return ONE;
        }
        self.clobber();
        self.copy(size, Reg::RAX, rm);
        if lsb != 0 {
            let n = self.get(rn, Reg::RCX);
            self.a.shrd(size, Reg::RAX, n, lsb as u8);
        }
        self.put(rd, Reg::RAX);
        ONE
    }

    /// SDIV, UDIV, variable shifts, CRC32C.
    fn two_source(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let (rd, rn, rm) = (destination(word, 0), source(word, 5), source(word, 16));
        if bit(word, 29) {
            return Lowered::No;
        }
        let op = match bits(word, 15, 10) {
            0b00_0010 | 0b00_0011 => {
                self.divide(size, rd, rn, rm, bit(word, 10));
                return ONE;
            }
            0b00_1000 => Shift::Shl,
            0b00_1001 => Shift::Shr,
            0b00_1010 => Shift::Sar,
            0b00_1011 => {
                self.clobber();
                self.copy(Size::D, Reg::RCX, rm);
                self.copy(size, Reg::RAX, rn);
                self.a.shift_cl(Shift::Ror, size, Reg::RAX);
                self.put(rd, Reg::RAX);
                return ONE;
            }
            0b01_0100..=0b01_0111 => {
                let log2 = bits(word, 11, 10) as u8;
                if (log2 == 3) != (size == Size::Q) {
                    return Lowered::No;
                }
                self.copy(Size::D, Reg::RAX, rn);
                let m = self.get(rm, Reg::RCX);
                self.a.crc32(Reg::RAX, m, log2);
                self.put(rd, Reg::RAX);
                return ONE;
            }
            _ => return Lowered::No,
        };
        let count = self.get(rm, Reg::RCX);
        let t = self.result(rd, Reg::RAX);
        let from = if rn == ZERO { self.get(rn, Reg::RAX).into() } else { self.rm(rn) };
        self.a.shiftx(op, size, t, from, count);
        self.put(rd, t);
        ONE
    }

    /// RBIT, REV16, REV32, REV, CLZ, CLS.
    fn one_source(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let (rd, rn) = (destination(word, 0), source(word, 5));
        if bit(word, 29) || bits(word, 20, 16) != 0 || rn == ZERO {
            return Lowered::No;
        }
        match bits(word, 15, 10) {
            0 => self.reverse_bits(size, rd, rn),
            1 => {
                self.clobber();
                self.copy(size, Reg::RAX, rn);
                self.swap_groups(size, 8, 0x00ff_00ff_00ff_00ff);
                self.put(rd, Reg::RAX);
            }
            2 => {
                self.copy(size, Reg::RAX, rn);
                self.a.bswap(size, Reg::RAX);
                if size == Size::Q {
                    // REV32: swaps the halves back.
                    self.a.rorx(size, Reg::RAX, Reg::RAX, 32);
                }
                self.put(rd, Reg::RAX);
            }
            3 if size == Size::Q => {
                let t = self.result(rd, Reg::RAX);
                self.copy(size, t, rn);
                self.a.bswap(size, t);
                self.put(rd, t);
            }
            4 => {
                self.clobber();
                let t = self.result(rd, Reg::RAX);
                self.a.lzcnt(size, t, self.rm(rn));
                self.put(rd, t);
            }
            5 => {
                // Leading bits that equal their neighbour: CLZ(x ^ x >> 1) - 1, with an arithmetic shift.
                self.clobber();
                self.copy(size, Reg::RAX, rn);
                self.a.mov(size, Reg::RCX, Reg::RAX);
                self.a.shift_imm(Shift::Sar, size, Reg::RCX, 1);
                self.a.alu(Alu::Xor, size, Reg::RAX, Reg::RCX);
                self.a.lzcnt(size, Reg::RAX, Reg::RAX);
                self.a.alu_imm(Alu::Sub, size, Reg::RAX, 1);
                self.put(rd, Reg::RAX);
            }
            _ => return Lowered::No,
        }
        ONE
    }

    /// MADD, MSUB, SMADDL, SMSUBL, UMADDL, UMSUBL, SMULH, UMULH.
    fn three_source(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let (rd, rn, rm, ra) = (destination(word, 0), source(word, 5), source(word, 16), source(word, 10));
        let subtract = bit(word, 15);
        match (bits(word, 30, 29), bits(word, 23, 21)) {
            (0, 0) => {
                self.clobber();
                if ra == ZERO && !subtract {
                    let t = self.result_early(rd, Reg::RAX, rm);
                    self.copy(size, t, rn);
                    self.a.imul(size, t, self.rm(rm));
                    self.put(rd, t);
                    return ONE;
                }
                self.copy(size, Reg::RAX, rn);
                self.a.imul(size, Reg::RAX, self.rm(rm));
                self.accumulate(size, rd, ra, subtract);
            }
            (0, 1 | 5) if size == Size::Q => {
                self.clobber();
                let option = if bit(word, 23) { 2 } else { 6 };
                self.extended(Reg::RAX, rn, option);
                self.extended(Reg::RCX, rm, option);
                self.a.imul(Size::Q, Reg::RAX, Reg::RCX);
                self.accumulate(size, rd, ra, subtract);
            }
            (0, 2) if size == Size::Q && !subtract => {
                self.clobber();
                self.copy(size, Reg::RAX, rn);
                self.a.imul_wide(size, self.rm(rm));
                self.put(rd, Reg::RDX);
            }
            (0, 6) if size == Size::Q && !subtract => {
                self.copy(size, Reg::RDX, rn);
                self.a.mulx(size, Reg::RDX, Reg::RAX, self.rm(rm));
                self.put(rd, Reg::RDX);
            }
            _ => return Lowered::No,
        }
        ONE
    }

    /// `rd = ra + rax` or `ra - rax`.
    fn accumulate(&mut self, size: Size, rd: u8, ra: u8, subtract: bool) {
        if !subtract {
            if ra != ZERO {
                self.a.alu(Alu::Add, size, Reg::RAX, self.rm(ra));
            }
            self.put(rd, Reg::RAX);
        } else if ra == ZERO {
            self.a.neg(size, Reg::RAX);
            self.put(rd, Reg::RAX);
        } else {
            let t = self.result(rd, Reg::RCX);
            if t == Reg::RCX || rd != ra {
                self.copy(size, t, ra);
            }
            self.a.alu(Alu::Sub, size, t, Reg::RAX);
            self.put(rd, t);
        }
    }

    /// CCMN, CCMP: the flags of the comparison if the condition holds, else the immediate ones.
    fn conditional_compare(&mut self, word: u32) -> Lowered {
        let size = size(word);
        if !bit(word, 29) || bit(word, 10) || bit(word, 4) {
            return Lowered::No;
        }
        let (sub, rn, nzcv) = (bit(word, 30), source(word, 5), bits(word, 3, 0));
        let operand = if bit(word, 11) {
            Operand::Imm(bits(word, 20, 16) as i32)
        } else {
            Operand::Rm(self.rm(source(word, 16)))
        };
        let condition = self.condition(bits(word, 15, 12));
        let (otherwise, done) = (self.a.label(), self.a.label());
        self.jump_on(condition.not(), otherwise);
        self.copy(size, Reg::RAX, rn);
        self.apply(if sub { Alu::Sub } else { Alu::Add }, size, Reg::RAX, operand);
        if condition != Condition::Always {
            self.a.jump(done);
            self.a.bind(otherwise);
            // CF in the form that the comparison leaves.
            let carry = (nzcv >> 1 & 1) ^ u32::from(sub);
            let ah = (nzcv >> 3 & 1) << 7 | (nzcv >> 2 & 1) << 6 | carry;
            self.a.mov_imm(Reg::RAX, u64::from(ah << 8 | nzcv & 1));
            self.a.add_al(0x7f);
            self.a.sahf();
            self.a.bind(done);
        }
        self.set_flags(sub);
        ONE
    }

    /// CSEL, CSINC, CSINV, CSNEG.
    fn conditional_select(&mut self, word: u32) -> Lowered {
        let size = size(word);
        let (rd, rn, rm) = (destination(word, 0), source(word, 5), source(word, 16));
        if bit(word, 29) || bit(word, 11) {
            return Lowered::No;
        }
        let (invert, increment) = (bit(word, 30), bit(word, 10));
        let condition = self.condition(bits(word, 15, 12));
        if rn == ZERO && rm == ZERO && increment != invert {
            return self.conditional_set(size, rd, condition, invert);
        }
        let plain = !invert && !increment;
        if plain && rm != ZERO {
            let t = self.result_early(rd, Reg::RAX, rm);
            if t == Reg::RAX || rd != rn {
                self.copy(size, t, rn);
            } else if size == Size::D {
                self.a.mov(size, t, t);
            }
            self.unless(condition, size, t, self.rm(rm));
            self.put(rd, t);
            return ONE;
        }
        // rcx = the other value, without a change of EFLAGS: -x is !x + 1.
        self.copy(size, Reg::RCX, rm);
        if invert {
            self.a.not(size, Reg::RCX);
        }
        if increment {
            self.a.lea(size, Reg::RCX, Mem::at(Reg::RCX, 1));
        }
        self.copy(size, Reg::RAX, rn);
        self.unless(condition, size, Reg::RAX, Reg::RCX.into());
        self.put(rd, Reg::RAX);
        ONE
    }

    /// CSET, CSETM: 0 if the condition holds, else 1 or all ones.
    fn conditional_set(&mut self, size: Size, rd: u8, condition: Condition, mask: bool) -> Lowered {
        let Condition::One(cc) = condition else {
            self.a.mov_imm(Reg::RCX, 1);
            if mask {
                self.a.mov_imm32(size, Reg::RCX, -1);
            }
            self.a.mov_imm(Reg::RAX, 0);
            self.unless(condition, size, Reg::RAX, Reg::RCX.into());
            self.put(rd, Reg::RAX);
            return ONE;
        };
        self.a.set(cc.not(), Reg::RAX);
        let t = self.result(rd, Reg::RAX);
        self.a.movzx8(t, Reg::RAX);
        if mask {
            // 0 or -1: NOT of the value minus one.
            self.a.lea(size, t, Mem::at(t, -1));
            self.a.not(size, t);
        }
        self.put(rd, t);
        ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn immediates_of_logical_instructions() {
        // and w0, w1, #0x7; and x0, x1, #0x5555555555555555; and x0, x1, #0xfffffffffffffffe; and w0, w1,
        // #0xff00
        assert_eq!(logical_immediate(0x1200_0820), Some(7));
        assert_eq!(logical_immediate(0x9200_f020), Some(0x5555_5555_5555_5555));
        assert_eq!(logical_immediate(0x927f_f820), Some(!1));
        assert_eq!(logical_immediate(0x1218_1c20), Some(0xff00));
        // All ones is reserved.
        assert_eq!(logical_immediate(0x9240_fc20), None);
    }
}
