//! Parallel addition, saturation, packing, extension, reversal, CRC32C (manual F2.4.3, F2.4.5 to F2.4.8).

use super::Translator;
use crate::layout::{APSR, X0, X1, X2, general};
use crossdock_emu_guest::a32::Instruction;
use crossdock_emu_guest::a32::action::Action;
use crossdock_emu_guest::a32::registers::{GE_CLEAR, Q};
use crossdock_emu_x64::{Alu, Cc, Mem, Reg, Shift, Size, Xmm};

/// Kinds of lanes of a parallel addition (`Action::Parallel`).
const ADD16: u8 = 0;
const ASX: u8 = 1;
const SAX: u8 = 2;
const ADD8: u8 = 4;
const SUB8: u8 = 5;

/// What a parallel addition makes of the exact results; 0 is the signed lanes themselves.
const SATURATING: u8 = 1;
const HALVING: u8 = 2;
const UNSIGNED: u8 = 3;
const UNSIGNED_SATURATING: u8 = 4;
const UNSIGNED_HALVING: u8 = 5;

/// The flags GE: bytes that are all zeros where a flag is set.
fn ge_clear() -> Mem {
    general(GE_CLEAR)
}

impl Translator<'_> {
    /// Lowers an instruction of these groups; false for others.
    pub(super) fn media(&mut self, item: &Instruction) -> bool {
        match item.action {
            Action::Extend { adds } => self.extend_register(item, adds),
            Action::Parallel { lanes, result } => self.parallel(item, lanes, result),
            Action::Select => self.select(item),
            Action::Differences { adds } => {
                self.clobber();
                self.a.vmov_from(Size::D, X0, self.rm(item.rn));
                self.a.vmov_from(Size::D, X1, self.rm(item.rm));
                // VPSADBW.
                self.a.vp(0xf6, X0, X0, X1);
                self.a.vmov_to(Size::D, Reg::RAX, X0);
                if adds {
                    self.a.alu(Alu::Add, Size::D, Reg::RAX, self.rm(item.ra));
                }
                self.put(item.rd, Reg::RAX);
            }
            Action::SaturatingSum { doubles, subtracts } => self.sum_saturated(item, doubles, subtracts),
            Action::Saturate { signed } => self.saturate(item, signed),
            Action::SaturateHalves { signed } => self.saturate_halves(item, signed),
            Action::Pack => self.pack(item),
            Action::LeadingZeros => {
                self.clobber();
                self.a.lzcnt(Size::D, Reg::RAX, self.rm(item.rm));
                self.put(item.rd, Reg::RAX);
            }
            Action::Reverse => {
                self.fetch(item.rm, Reg::RAX);
                self.a.bswap(Size::D, Reg::RAX);
                self.put(item.rd, Reg::RAX);
            }
            Action::ReverseHalves => {
                self.fetch(item.rm, Reg::RAX);
                self.a.bswap(Size::D, Reg::RAX);
                self.a.rorx(Size::D, Reg::RAX, Reg::RAX, 16);
                self.put(item.rd, Reg::RAX);
            }
            Action::ReverseSigned => {
                self.clobber();
                self.fetch(item.rm, Reg::RAX);
                self.a.bswap(Size::D, Reg::RAX);
                self.a.shift_imm(Shift::Sar, Size::D, Reg::RAX, 16);
                self.put(item.rd, Reg::RAX);
            }
            Action::ReverseBits => self.reverse_bits(Size::D, item.rd, item.rm),
            Action::Castagnoli { size } => {
                self.fetch(item.rn, Reg::RAX);
                let m = self.held(item.rm, Reg::RCX);
                self.a.crc32(Reg::RAX, m, size);
                self.put(item.rd, Reg::RAX);
            }
            _ => return false,
        }
        true
    }

    /// SADD16 and its relatives, by the host's vectors.
    fn parallel(&mut self, item: &Instruction, lanes: u8, result: u8) {
        self.clobber();
        self.a.vmov_from(Size::D, X0, self.rm(item.rn));
        if matches!(lanes, ASX | SAX) {
            self.a.rorx(Size::D, Reg::RAX, self.rm(item.rm), 16);
            self.a.vmov_from(Size::D, X1, Reg::RAX);
        } else {
            self.a.vmov_from(Size::D, X1, self.rm(item.rm));
        }
        let bytes = matches!(lanes, ADD8 | SUB8);
        match (saturating_opcode(lanes, result), bytes) {
            _ if bytes && result == UNSIGNED => self.unsigned_bytes(lanes == SUB8),
            (Some(opcode), _) => self.a.vp(opcode, X0, X0, X1),
            (None, true) => self.wide_bytes(lanes == SUB8, result),
            (None, false) => self.wide_halves(lanes, result),
        }
        self.a.vmov_to(Size::D, Reg::RAX, X0);
        self.put(item.rd, Reg::RAX);
    }

    /// `xmm0` = the sum or difference of the bytes of `xmm0` and `xmm1` (UADD8, USUB8).
    fn unsigned_bytes(&mut self, subtracts: bool) {
        // VPMAXUB and VPCMPEQB find the bytes that are at least those of another operand: of a sum without a
        // carry, which is at least its operands, or of a difference without a borrow.
        if subtracts {
            self.a.vp(0xde, X2, X0, X1);
            self.a.vp(0x74, X2, X2, X0);
            self.a.vp(0xf8, X0, X0, X1);
            let all = self.constant(u128::MAX);
            self.a.vp(0xef, X1, X2, all);
        } else {
            self.a.vp(0xfc, X0, X0, X1);
            self.a.vp(0xde, X1, X1, X0);
            self.a.vp(0x74, X1, X1, X0);
        }
        self.a.vmov_to(Size::D, ge_clear(), X1);
    }

    /// `xmm0` = the combined bytes of `xmm0` and `xmm1`, by exact results of 16 bits.
    fn wide_bytes(&mut self, subtracts: bool, result: u8) {
        // VPMOVZXBW, VPMOVSXBW.
        let extends = if result >= UNSIGNED { 0x30 } else { 0x20 };
        self.a.vp38(extends, X0, Xmm(0), X0);
        self.a.vp38(extends, X1, Xmm(0), X1);
        self.a.vp(if subtracts { 0xf9 } else { 0xfd }, X0, X0, X1);
        match result {
            HALVING | UNSIGNED_HALVING => self.a.vshift_imm(0x71, 4, X0, X0, 1),
            _ => {
                // Flags are set where results are not negative: VPSRAW, VPACKSSWB.
                self.a.vshift_imm(0x71, 4, X1, X0, 15);
                self.a.vp(0x63, X1, X1, X1);
                self.a.vmov_to(Size::D, ge_clear(), X1);
            }
        }
        let low = self.constant(u128::MAX / 0xffff * 0xff);
        self.a.vp(0xdb, X0, X0, low);
        self.a.vp(0x67, X0, X0, X0);
    }

    /// The same for halves, by exact results of 32 bits.
    fn wide_halves(&mut self, lanes: u8, result: u8) {
        // VPMOVZXWD, VPMOVSXWD.
        let extends = if result >= UNSIGNED { 0x33 } else { 0x23 };
        self.a.vp38(extends, X0, Xmm(0), X0);
        self.a.vp38(extends, X1, Xmm(0), X1);
        // Words of 16 bits, as VPBLENDW selects them, that are sums.
        let sums = match lanes {
            ADD16 => 0b1111,
            ASX => 0b1100,
            SAX => 0b0011,
            _ => 0,
        };
        self.a.vp(0xfe, X2, X0, X1);
        self.a.vp(0xfa, X0, X0, X1);
        self.a.vp3a(0x0e, X0, X0, X2, sums);
        match result {
            // VPACKSSDW, VPACKUSDW.
            SATURATING => return self.a.vp(0x6b, X0, X0, X0),
            UNSIGNED_SATURATING => return self.a.vp38(0x2b, X0, X0, X0),
            HALVING | UNSIGNED_HALVING => self.a.vshift_imm(0x72, 4, X0, X0, 1),
            _ => {
                // As for bytes; of unsigned sums, flags are carries.
                let carries = if result == UNSIGNED { sums } else { 0 };
                self.a.vshift_imm(0x72, 6, X1, X0, 15);
                self.a.vp3a(0x0e, X1, X0, X1, carries);
                self.a.vshift_imm(0x72, 4, X1, X1, 31);
                self.a.vp(0x6b, X1, X1, X1);
                if carries != 0 {
                    let mask =
                        [0, 0xffff, 0xffff_0000, u32::MAX][usize::from(carries & 1 | carries >> 2 & 2)];
                    let mask = self.constant(mask.into());
                    self.a.vp(0xef, X1, X1, mask);
                }
                self.a.vmov_to(Size::D, ge_clear(), X1);
            }
        }
        let low = self.constant(u128::MAX / 0xffff_ffff * 0xffff);
        self.a.vp(0xdb, X0, X0, low);
        self.a.vp38(0x2b, X0, X0, X0);
    }

    /// SEL: bytes of `rn` where GE is set, of `rm` elsewhere.
    fn select(&mut self, item: &Instruction) {
        self.clobber();
        self.a.mov(Size::D, Reg::RAX, ge_clear());
        self.a.andn(Size::D, Reg::RCX, Reg::RAX, self.rm(item.rn));
        self.a.alu(Alu::And, Size::D, Reg::RAX, self.rm(item.rm));
        self.a.alu(Alu::Or, Size::D, Reg::RAX, Reg::RCX);
        self.put(item.rd, Reg::RAX);
    }

    /// SXTB and its kin.
    fn extend_register(&mut self, item: &Instruction, adds: bool) {
        let form = item.imm;
        let rotation = 8 * (form & 3) as u8;
        let (signed, half, two) = (form & 8 != 0, form & 16 != 0, form & 32 != 0);
        if two {
            return self.extend_two(item, adds, signed, rotation);
        }
        let mut from = self.held(item.rm, Reg::RAX);
        if rotation != 0 {
            self.a.rorx(Size::D, Reg::RAX, from, rotation);
            from = Reg::RAX;
        }
        let t = if adds { Reg::RAX } else { self.result(item.rd, Reg::RAX) };
        match (half, signed) {
            (true, true) => self.a.movsx16(Size::D, t, from),
            (true, false) => self.a.movzx16(t, from),
            (false, true) => self.a.movsx8(Size::D, t, from),
            (false, false) => self.a.movzx8(t, from),
        }
        if adds {
            let n = self.held(item.rn, Reg::RCX);
            self.a.lea(Size::D, Reg::RAX, Mem { base: n, index: Some((Reg::RAX, 0)), disp: 0 });
        }
        self.put(item.rd, t);
    }

    /// SXTB16, UXTB16 and their forms with an addition.
    fn extend_two(&mut self, item: &Instruction, adds: bool, signed: bool, rotation: u8) {
        self.a.rorx(Size::D, Reg::RAX, self.rm(item.rm), rotation);
        self.a.vmov_from(Size::D, X0, Reg::RAX);
        self.a.vshift_imm(0x71, 6, X0, X0, 8);
        self.a.vshift_imm(0x71, if signed { 4 } else { 2 }, X0, X0, 8);
        if adds {
            self.a.vmov_from(Size::D, X1, self.rm(item.rn));
            self.a.vp(0xfd, X0, X0, X1);
        }
        self.a.vmov_to(Size::D, Reg::RAX, X0);
        self.put(item.rd, Reg::RAX);
    }

    /// QADD, QSUB, QDADD, QDSUB.
    fn sum_saturated(&mut self, item: &Instruction, doubles: bool, subtracts: bool) {
        self.clobber();
        self.fetch(item.rn, Reg::RCX);
        if doubles {
            self.a.mov(Size::D, Reg::RDX, Reg::RCX);
            self.a.alu(Alu::Add, Size::D, Reg::RCX, Reg::RCX);
            self.saturate_like(Reg::RCX, Reg::RDX);
        }
        self.fetch(item.rm, Reg::RAX);
        self.a.mov(Size::D, Reg::RDX, Reg::RAX);
        self.a.alu(if subtracts { Alu::Sub } else { Alu::Add }, Size::D, Reg::RAX, Reg::RCX);
        self.saturate_like(Reg::RAX, Reg::RDX);
        self.put(item.rd, Reg::RAX);
    }

    /// If OF is set, `reg` becomes the greatest number with the sign of `like`, and Q is set. Changes `like`.
    fn saturate_like(&mut self, reg: Reg, like: Reg) {
        let fits = self.a.skip_if(Cc::No);
        self.a.shift_imm(Shift::Sar, Size::D, like, 31);
        self.a.alu_imm(Alu::Xor, Size::D, like, i32::MAX);
        self.a.mov(Size::D, reg, like);
        self.a.alu_imm(Alu::Or, Size::D, APSR, Q as i32);
        self.a.land(fits);
    }

    /// SSAT, USAT.
    fn saturate(&mut self, item: &Instruction, signed: bool) {
        self.clobber();
        let (bits, amount) = (item.imm & 255, (item.imm >> 8 & 255) as u8);
        let (low, high) =
            if signed { (-1i64 << (bits - 1), (1i64 << (bits - 1)) - 1) } else { (0, (1i64 << bits) - 1) };
        self.fetch(item.rn, Reg::RAX);
        match (item.extra, amount) {
            (_, 0) => {}
            (0, _) => self.a.shift_imm(Shift::Shl, Size::D, Reg::RAX, amount),
            _ => self.a.shift_imm(Shift::Sar, Size::D, Reg::RAX, amount.min(31)),
        }
        self.a.mov(Size::D, Reg::RDX, Reg::RAX);
        for (limit, cc) in [(high, Cc::G), (low, Cc::L)] {
            self.a.mov_imm(Reg::RCX, u64::from(limit as u32));
            self.a.alu(Alu::Cmp, Size::D, Reg::RAX, Reg::RCX);
            self.a.cmov(cc, Size::D, Reg::RAX, Reg::RCX);
        }
        self.a.alu(Alu::Cmp, Size::D, Reg::RAX, Reg::RDX);
        self.set_sticky_unless(Cc::E);
        self.put(item.rd, Reg::RAX);
    }

    /// SSAT16, USAT16.
    fn saturate_halves(&mut self, item: &Instruction, signed: bool) {
        self.clobber();
        let bits = item.imm;
        let (low, high) =
            if signed { (-1 << (bits - 1), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
        let both = |limit: i32| u128::from(limit as u16) | u128::from(limit as u16) << 16;
        self.a.vmov_from(Size::D, X0, self.rm(item.rn));
        let (low, high) = (self.constant(both(low)), self.constant(both(high)));
        // VPMINSW, VPMAXSW.
        self.a.vp(0xea, X0, X0, high);
        self.a.vp(0xee, X0, X0, low);
        self.a.vmov_to(Size::D, Reg::RAX, X0);
        self.a.alu(Alu::Cmp, Size::D, Reg::RAX, self.rm(item.rn));
        self.set_sticky_unless(Cc::E);
        self.put(item.rd, Reg::RAX);
    }

    /// PKHBT, PKHTB.
    fn pack(&mut self, item: &Instruction) {
        self.clobber();
        let top = item.extra == 2;
        self.fetch(item.rm, Reg::RCX);
        match (top, item.imm as u8) {
            (_, 0) => {}
            (true, amount) => self.a.shift_imm(Shift::Sar, Size::D, Reg::RCX, amount.min(31)),
            (false, amount) => self.a.shift_imm(Shift::Shl, Size::D, Reg::RCX, amount),
        }
        self.fetch(item.rn, Reg::RAX);
        let (low, high) = if top { (Reg::RCX, Reg::RAX) } else { (Reg::RAX, Reg::RCX) };
        self.a.alu_imm(Alu::And, Size::D, high, 0xffff_0000_u32 as i32);
        self.a.movzx16(low, low);
        self.a.alu(Alu::Or, Size::D, Reg::RAX, Reg::RCX);
        self.put(item.rd, Reg::RAX);
    }
}

/// The host's instruction for a parallel addition with saturation of which all lanes are alike.
fn saturating_opcode(lanes: u8, result: u8) -> Option<u8> {
    let bytes = matches!(lanes, ADD8 | SUB8);
    let low = match result {
        SATURATING => 0xec,
        UNSIGNED_SATURATING => 0xdc,
        _ => return None,
    };
    let subtracts = match lanes {
        ADD16 | ADD8 => false,
        ASX | SAX => return None,
        _ => true,
    };
    Some(low - if subtracts { 4 } else { 0 } + u8::from(!bytes))
}
