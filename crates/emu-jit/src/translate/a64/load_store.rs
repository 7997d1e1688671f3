//! Loads and stores (manual C4.1.94).
//!
//! A guest address is a host address. No register changes before the last access of an instruction, except
//! the first of a pair of loads, so an instruction that faults can be run again by the interpreter, which
//! then reports the fault or, for addresses with a tag, succeeds. The lower address comes first, since a
//! fault reports its address.

use super::registers::{SINK, ZERO, destination, source, sp};
use super::{Lowered, ONE, Translator, bit, bits};
use crate::layout::{EXCLUSIVE_ADDRESS, EXCLUSIVE_SIZE, EXCLUSIVE_VALUE, X0, vector};
use crossdock_emu_x64::{Alu, Cc, Mem, Reg, Size};

/// What an access moves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Store,
    /// Zero-extended.
    Load,
    /// Sign-extended to this size.
    LoadSigned(Size),
    Prefetch,
}

/// Bits `size`, `V` and `opc` of a load or store of one register: log2 of its bytes, what it moves, and
/// whether the register is a vector.
fn kind(word: u32) -> Option<(u8, Kind, bool)> {
    let (size, opc) = (bits(word, 31, 30) as u8, bits(word, 23, 22));
    if bit(word, 26) {
        return match (size, opc) {
            (_, 0) => Some((size, Kind::Store, true)),
            (_, 1) => Some((size, Kind::Load, true)),
            (0, 2) => Some((4, Kind::Store, true)),
            (0, 3) => Some((4, Kind::Load, true)),
            _ => None,
        };
    }
    Some(match (size, opc) {
        (_, 0) => (size, Kind::Store, false),
        (_, 1) => (size, Kind::Load, false),
        (3, 2) => (size, Kind::Prefetch, false),
        (0..=2, 2) => (size, Kind::LoadSigned(Size::Q), false),
        (0 | 1, 3) => (size, Kind::LoadSigned(Size::D), false),
        _ => return None,
    })
}

impl Translator<'_> {
    pub(super) fn load_store(&mut self, word: u32) -> Lowered {
        match bits(word, 29, 28) {
            0 if bit(word, 26) => self.structures(word),
            0 => self.exclusive(word),
            1 if !bit(word, 24) => self.literal(word),
            2 => self.pair(word),
            3 if bit(word, 24) => self.unsigned_offset(word),
            3 if !bit(word, 21) => self.signed_offset(word),
            3 if bits(word, 11, 10) == 2 => self.register_offset(word),
            3 if bits(word, 11, 10) == 0 && !bit(word, 26) => self.atomic(word),
            _ => Lowered::No,
        }
    }

    /// One access at `mem`. EFLAGS are left alone. `mem` may use rdx and rcx.
    fn access(&mut self, log2: u8, kind: Kind, is_vector: bool, rt: u32, mem: Mem) {
        if is_vector {
            return if kind == Kind::Store {
                self.store_vector(log2, rt as u8, mem);
            } else {
                self.load_vector(log2, rt as u8, mem);
            };
        }
        match kind {
            Kind::Prefetch => {}
            Kind::Store => {
                let rt = if rt == 31 { ZERO } else { rt as u8 };
                if rt == ZERO && log2 >= 2 {
                    let size = if log2 == 3 { Size::Q } else { Size::D };
                    return self.a.mov_imm32(size, mem, 0);
                }
                let t = self.get(rt, Reg::RAX);
                self.store(log2, mem, t);
            }
            Kind::Load => {
                let rt = if rt == 31 { SINK } else { rt as u8 };
                let t = self.result(rt, Reg::RAX);
                self.load(log2, t, mem);
                self.put(rt, t);
            }
            Kind::LoadSigned(size) => {
                let rt = if rt == 31 { SINK } else { rt as u8 };
                let t = self.result(rt, Reg::RAX);
                match log2 {
                    0 => self.a.movsx8(size, t, mem),
                    1 => self.a.movsx16(size, t, mem),
                    _ => self.a.movsxd(t, mem),
                }
                self.put(rt, t);
            }
        }
    }

    pub(super) fn store(&mut self, log2: u8, mem: Mem, reg: Reg) {
        match log2 {
            0 => self.a.store8(mem, reg),
            1 => self.a.store16(mem, reg),
            2 => self.a.mov_to(Size::D, mem, reg),
            _ => self.a.mov_to(Size::Q, mem, reg),
        }
    }

    fn load(&mut self, log2: u8, reg: Reg, mem: Mem) {
        match log2 {
            0 => self.a.movzx8(reg, mem),
            1 => self.a.movzx16(reg, mem),
            2 => self.a.mov(Size::D, reg, mem),
            _ => self.a.mov(Size::Q, reg, mem),
        }
    }

    fn store_vector(&mut self, log2: u8, vt: u8, mem: Mem) {
        match log2 {
            0 | 1 => {
                if self.vector_host(vt).is_some() {
                    let v = self.vget(vt, X0);
                    self.a.vmov_to(Size::D, Reg::RAX, v);
                } else {
                    self.a.mov(Size::D, Reg::RAX, vector(vt));
                }
                self.store(log2, mem, Reg::RAX);
            }
            2 | 3 => {
                let size = if log2 == 3 { Size::Q } else { Size::D };
                match self.vector_host(vt) {
                    Some(host) if log2 == 3 => self.a.vstore_q(mem, host),
                    Some(host) => self.a.vmov_to(size, mem, host),
                    None => {
                        self.a.mov(size, Reg::RAX, vector(vt));
                        self.a.mov_to(size, mem, Reg::RAX);
                    }
                }
            }
            _ => {
                let v = self.vget(vt, X0);
                self.a.vstore(mem, v);
            }
        }
    }

    fn load_vector(&mut self, log2: u8, vt: u8, mem: Mem) {
        let t = self.vresult(vt);
        match log2 {
            0 | 1 => {
                self.load(log2, Reg::RAX, mem);
                self.a.vmov_from(Size::D, t, Reg::RAX);
            }
            2 => self.a.vmov_from(Size::D, t, mem),
            3 => self.a.vmovq(t, mem),
            _ => self.a.vload(t, mem),
        }
        self.vput(vt, t);
        if log2 < 4 {
            self.set_vclean(log2 == 3, vt);
        }
    }

    /// The base register, in rdx if it has no host register.
    pub(super) fn base(&mut self, rn: u8) -> Reg {
        self.get(rn, Reg::RDX)
    }

    /// `rn += offset`. Leaves EFLAGS alone.
    fn advance(&mut self, rn: u8, base: Reg, offset: i32) {
        self.a.lea(Size::Q, base, Mem::at(base, offset));
        self.put(rn, base);
    }

    fn unsigned_offset(&mut self, word: u32) -> Lowered {
        let Some((log2, kind, is_vector)) = kind(word) else { return Lowered::No };
        if kind == Kind::Prefetch {
            return ONE;
        }
        let base = self.base(sp(word, 5));
        let mem = Mem::at(base, (bits(word, 21, 10) << log2) as i32);
        self.access(log2, kind, is_vector, bits(word, 4, 0), mem);
        ONE
    }

    /// Unscaled, pre-indexed, post-indexed and unprivileged.
    fn signed_offset(&mut self, word: u32) -> Lowered {
        let Some((log2, kind, is_vector)) = kind(word) else { return Lowered::No };
        let imm = (bits(word, 20, 12) << 23) as i32 >> 23;
        let (mode, rn, rt) = (bits(word, 11, 10), sp(word, 5), bits(word, 4, 0));
        let indexed = mode & 1 == 1;
        if mode == 2 && is_vector || mode != 0 && kind == Kind::Prefetch {
            return Lowered::No;
        }
        if indexed && !is_vector && rt == u32::from(rn) && rt != 31 {
            return Lowered::No;
        }
        if kind == Kind::Prefetch {
            return ONE;
        }
        let base = self.base(rn);
        let mem = Mem::at(base, if mode == 1 { 0 } else { imm });
        self.access(log2, kind, is_vector, rt, mem);
        if indexed {
            self.advance(rn, base, imm);
        }
        ONE
    }

    /// Base plus a register, extended and scaled.
    fn register_offset(&mut self, word: u32) -> Lowered {
        let Some((log2, kind, is_vector)) = kind(word) else { return Lowered::No };
        let option = bits(word, 15, 13);
        if option & 2 == 0 {
            return Lowered::No;
        }
        if kind == Kind::Prefetch {
            return ONE;
        }
        let rm = source(word, 16);
        let shift = if bit(word, 12) { log2 } else { 0 };
        let index = if option & 3 == 3 {
            self.get(rm, Reg::RCX)
        } else {
            self.extended(Reg::RCX, rm, option);
            Reg::RCX
        };
        let base = self.base(sp(word, 5));
        let mem = if shift < 4 {
            Mem { base, index: Some((index, shift)), disp: 0 }
        } else {
            // LSL #4: twice LSL #3.
            self.a.lea(Size::Q, Reg::RCX, Mem { base: index, index: Some((index, 0)), disp: 0 });
            Mem { base, index: Some((Reg::RCX, 3)), disp: 0 }
        };
        self.access(log2, kind, is_vector, bits(word, 4, 0), mem);
        ONE
    }

    /// LDR (literal), LDRSW (literal), PRFM.
    fn literal(&mut self, word: u32) -> Lowered {
        let offset = i64::from((bits(word, 23, 5) << 13) as i32 >> 13) << 2;
        let address = self.pc.wrapping_add_signed(offset);
        let (opc, is_vector) = (bits(word, 31, 30), bit(word, 26));
        let (log2, kind) = match (opc, is_vector) {
            (0, false) => (2, Kind::Load),
            (1, false) => (3, Kind::Load),
            (2, false) => (2, Kind::LoadSigned(Size::Q)),
            (3, false) => return ONE,
            (0..=2, true) => (2 + opc as u8, Kind::Load),
            _ => return Lowered::No,
        };
        let mem = self.at_guest_address(Reg::RDX, address);
        self.access(log2, kind, is_vector, bits(word, 4, 0), mem);
        ONE
    }

    /// LDP, STP, LDNP, STNP, LDPSW.
    fn pair(&mut self, word: u32) -> Lowered {
        let (opc, is_vector, mode) = (bits(word, 31, 30), bit(word, 26), bits(word, 24, 23));
        let load = bit(word, 22);
        let (log2, kind) = match (opc, is_vector) {
            (0, false) => (2, Kind::Load),
            (1, false) if load && mode != 0 => (2, Kind::LoadSigned(Size::Q)),
            (2, false) => (3, Kind::Load),
            (0..=2, true) => (2 + opc as u8, Kind::Load),
            _ => return Lowered::No,
        };
        let kind = if load { kind } else { Kind::Store };
        let imm = ((bits(word, 21, 15) << 25) as i32 >> 25) << log2;
        let (rt, rt2, rn) = (bits(word, 4, 0), bits(word, 14, 10), sp(word, 5));
        let indexed = mode & 1 == 1;
        let overlaps = |r: u32| !is_vector && r == u32::from(rn) && r != 31;
        if load && rt == rt2 || indexed && (overlaps(rt) || overlaps(rt2)) {
            return Lowered::No;
        }
        let base = self.base(rn);
        if load && overlaps(rt) {
            return self.pair_over_base(log2, kind, rt, rt2, base, imm);
        }
        let first = Mem::at(base, if mode == 1 { 0 } else { imm });
        self.access(log2, kind, is_vector, rt, first);
        self.access(log2, kind, is_vector, rt2, first.plus(1 << log2));
        if indexed {
            self.advance(rn, base, imm);
        }
        ONE
    }

    /// A pair of loads whose first destination is the base: the first value waits in rcx, so that a fault
    /// finds the base unchanged. The lower address is accessed first, since a fault at both reports that one.
    fn pair_over_base(&mut self, log2: u8, kind: Kind, rt: u32, rt2: u32, base: Reg, imm: i32) -> Lowered {
        let first = Mem::at(base, imm);
        match kind {
            Kind::LoadSigned(_) => self.a.movsxd(Reg::RCX, first),
            _ => self.load(log2, Reg::RCX, first),
        }
        self.access(log2, kind, false, rt2, first.plus(1 << log2));
        self.put(rt as u8, Reg::RCX);
        ONE
    }

    /// `rdx` = the address, which must be a multiple of the access's size; other addresses go to the
    /// interpreter. EFLAGS are saved if needed, and then free.
    fn aligned(&mut self, rn: u8, log2: u8) -> crossdock_emu_x64::Label {
        self.clobber();
        let back = self.a.label();
        self.copy(Size::Q, Reg::RDX, rn);
        self.mark();
        if log2 != 0 {
            let slow = self.slow_path(back);
            self.a.test_imm8(Reg::RDX, (1 << log2) - 1);
            self.a.jump_if(Cc::Ne, slow);
        }
        back
    }

    /// Exclusives, ordered accesses, compare and swap (C4.1.94, "load/store exclusive" and its neighbours).
    fn exclusive(&mut self, word: u32) -> Lowered {
        let (log2, o2, load, o1) = (bits(word, 31, 30) as u8, bit(word, 23), bit(word, 22), bit(word, 21));
        let rn = sp(word, 5);
        let mem = Mem::at(Reg::RDX, 0);
        match (o2, o1) {
            // LDAR, LDLAR, STLR, STLLR.
            (true, false) => {
                let back = self.aligned(rn, log2);
                if load {
                    self.access(log2, Kind::Load, false, bits(word, 4, 0), mem);
                } else {
                    self.copy(Size::Q, Reg::RAX, source(word, 0));
                    self.a.xchg(log2, mem, Reg::RAX);
                }
                self.a.bind(back);
                ONE
            }
            // CAS.
            (true, true) if bits(word, 14, 10) == 31 => {
                let back = self.aligned(rn, log2);
                self.copy(Size::Q, Reg::RAX, source(word, 16));
                let new = self.get(source(word, 0), Reg::RCX);
                self.a.lock_cmpxchg(log2, mem, new);
                self.zero_extend(log2, Reg::RAX);
                self.put(destination(word, 16), Reg::RAX);
                self.a.bind(back);
                ONE
            }
            // LDXR, LDAXR.
            (false, false) if load => {
                let back = self.aligned(rn, log2);
                self.load(log2, Reg::RAX, mem);
                self.a.mov_to(Size::Q, EXCLUSIVE_ADDRESS, Reg::RDX);
                self.a.mov_imm32(Size::Q, EXCLUSIVE_SIZE, 1 << log2);
                self.a.mov_to(Size::Q, EXCLUSIVE_VALUE, Reg::RAX);
                self.put(destination(word, 0), Reg::RAX);
                self.a.bind(back);
                ONE
            }
            // STXR, STLXR: unless the reservation matches, the interpreter runs the store.
            (false, false) => {
                let back = self.aligned(rn, log2);
                let slow = self.slow_path(back);
                self.a.alu(Alu::Cmp, Size::Q, Reg::RDX, EXCLUSIVE_ADDRESS);
                self.a.jump_if(Cc::Ne, slow);
                self.a.alu_imm(Alu::Cmp, Size::Q, EXCLUSIVE_SIZE, 1 << log2);
                self.a.jump_if(Cc::Ne, slow);
                self.a.mov(Size::Q, Reg::RAX, EXCLUSIVE_VALUE);
                let new = self.get(source(word, 0), Reg::RCX);
                self.a.lock_cmpxchg(log2, mem, new);
                self.a.set(Cc::Ne, Reg::RAX);
                self.a.movzx8(Reg::RAX, Reg::RAX);
                self.a.mov_imm32(Size::Q, EXCLUSIVE_SIZE, 0);
                self.put(destination(word, 16), Reg::RAX);
                self.a.bind(back);
                ONE
            }
            _ => Lowered::No,
        }
    }

    fn zero_extend(&mut self, log2: u8, reg: Reg) {
        match log2 {
            0 => self.a.movzx8(reg, reg),
            1 => self.a.movzx16(reg, reg),
            2 => self.a.mov(Size::D, reg, reg),
            _ => {}
        }
    }

    /// LDAPR, LDADD, LDCLR, LDEOR, LDSET, SWP; the minima and maxima go to the interpreter.
    fn atomic(&mut self, word: u32) -> Lowered {
        let log2 = bits(word, 31, 30) as u8;
        let (rn, rs) = (sp(word, 5), source(word, 16));
        let mem = Mem::at(Reg::RDX, 0);
        let operation = bits(word, 15, 12);
        if operation == 0b1100 && bits(word, 23, 22) == 2 && rs == ZERO {
            // LDAPR.
            let back = self.aligned(rn, log2);
            self.access(log2, Kind::Load, false, bits(word, 4, 0), mem);
            self.a.bind(back);
            return ONE;
        }
        if !matches!(operation, 0..=3 | 8) {
            return Lowered::No;
        }
        let back = self.aligned(rn, log2);
        match operation {
            0 => {
                self.copy(Size::Q, Reg::RAX, rs);
                self.a.lock_xadd(log2, mem, Reg::RAX);
                self.zero_extend(log2, Reg::RAX);
            }
            8 => {
                self.copy(Size::Q, Reg::RAX, rs);
                self.a.xchg(log2, mem, Reg::RAX);
                self.zero_extend(log2, Reg::RAX);
            }
            _ => {
                self.load(log2, Reg::RAX, mem);
                let again = self.a.label();
                self.a.bind(again);
                self.copy(Size::Q, Reg::RCX, rs);
                let op = match operation {
                    1 => {
                        self.a.not(Size::Q, Reg::RCX);
                        Alu::And
                    }
                    2 => Alu::Xor,
                    _ => Alu::Or,
                };
                self.a.alu(op, Size::Q, Reg::RCX, Reg::RAX);
                self.a.lock_cmpxchg(log2, mem, Reg::RCX);
                self.a.jump_if(Cc::Ne, again);
                self.zero_extend(log2, Reg::RAX);
            }
        }
        self.put(destination(word, 0), Reg::RAX);
        self.a.bind(back);
        ONE
    }

    /// The write-back of the base of a structure: adds `bytes`, its size, or Xm.
    pub(super) fn advance_structure(&mut self, word: u32, rn: u8, base: Reg, bytes: i32) {
        let rm = bits(word, 20, 16) as u8;
        if rm == 31 {
            return self.advance(rn, base, bytes);
        }
        let m = self.get(rm, Reg::RCX);
        self.a.lea(Size::Q, base, Mem { base, index: Some((m, 0)), disp: 0 });
        self.put(rn, base);
    }
}
