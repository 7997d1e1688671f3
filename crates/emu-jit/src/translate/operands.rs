//! Guest registers as operands of host instructions.
//!
//! Register numbers are indexes in `State::gpr`: [`ZERO`] reads as zero, [`SINK`] takes what is never read.
//! An operand of vector instructions is a vector register by its number, or a part of one: [`half`] and
//! [`quarter`], the D and S registers of 32-bit Arm.

use super::pressure::{ALL, Change};
use super::{Ground, Isa, Translator};
use crate::layout::{Assignment, GENERAL, NOTHING, PARTS, QUARTERS, VECTOR, X0, general, vector};
use crate::unit::STANDARD;
use crate::vector_moves;
use crossdock_emu_x64::{Map, Mem, Prefix, Reg, Rm, Size, Xmm};

/// Bits per host register, by its index in [`VECTOR`].
#[derive(Clone, Copy, Default)]
struct Joins {
    /// What the register held need not be stored.
    kept: u16,
    /// What the register is to hold is there.
    there: u16,
}

/// An assignment that [`Translator::number`] must number first.
const UNNUMBERED: u16 = u16::MAX;

/// Half `n` of all vector registers, counted from the low half of register 0.
pub(super) const fn half(n: u8) -> u8 {
    PARTS + (n & 31)
}

/// Quarter `n` of the vector registers 0 to 7.
pub(super) const fn quarter(n: u8) -> u8 {
    QUARTERS + (n & 31)
}

/// Whether an operand is a part of a vector register.
pub(super) const fn is_part(operand: u8) -> bool {
    operand >= PARTS
}

/// A part of a vector register.
#[derive(Clone, Copy)]
struct Part {
    /// Whether it is a half.
    double: bool,
    register: u8,
    lane: u8,
}

/// Where a part of a vector register is.
#[derive(Clone, Copy)]
pub(super) enum PartPlace {
    /// In a host register of its own; what lies above it does not matter.
    Own(Xmm),
    /// In a lane of a host register, whose other lanes hold other parts.
    Lane(Xmm, u8),
    /// In the state.
    Memory(Mem),
}

impl Part {
    fn of(operand: u8) -> Part {
        let n = operand & 31;
        if operand < QUARTERS {
            Part { double: true, register: n / 2, lane: n % 2 }
        } else {
            Part { double: false, register: n / 4, lane: n % 4 }
        }
    }

    /// The logarithm of its bytes.
    fn size(self) -> u8 {
        if self.double { 3 } else { 2 }
    }

    /// The half that it is or lies in, as an operand.
    fn half(self) -> u8 {
        PARTS + 2 * self.register + if self.double { self.lane } else { self.lane / 2 }
    }

    /// Its place in the state.
    fn memory(self) -> Mem {
        vector(self.register).plus(i32::from(self.lane) << self.size())
    }
}

/// The vector register that an operand is or is a part of, and the first of its lanes of `1 << size` bytes.
pub(super) fn first_lane(operand: u8, size: u8) -> (u8, u8) {
    if operand < PARTS {
        return (operand, 0);
    }
    let part = Part::of(operand);
    (part.register, part.lane << if part.double { 3 - size } else { 2 - size })
}

/// A register that reads as zero: its slot in the state is zero.
pub(super) const ZERO: u8 = crossdock_emu_guest::ZERO as u8;
/// A register that takes what nobody reads.
pub(super) const SINK: u8 = crossdock_emu_guest::SINK as u8;

impl<I: Isa> Translator<'_, I> {
    /// The host register of a general register, if it has one here.
    pub(super) fn general_host(&self, guest: u8) -> Option<Reg> {
        self.assignment.general_host(guest)
    }

    /// The host register of a vector register, if it has one here; or of a part, if it has one of its own.
    pub(super) fn vector_host(&self, guest: u8) -> Option<Xmm> {
        self.assignment.vector_host(guest)
    }

    /// The host register that a part lies in, and the lane of its size there.
    fn part_host(&self, part: Part, operand: u8) -> Option<(Xmm, u8)> {
        if let Some(host) = self.vector_host(operand) {
            return Some((host, 0));
        }
        match self.vector_host(part.half()) {
            Some(host) if !part.double => Some((host, part.lane % 2)),
            _ => self.vector_host(part.register).map(|host| (host, part.lane)),
        }
    }

    /// Where a part is.
    pub(super) fn part_place(&self, operand: u8) -> PartPlace {
        let part = Part::of(operand);
        match (self.vector_host(operand), self.part_host(part, operand)) {
            (Some(host), _) => PartPlace::Own(host),
            (None, Some((host, lane))) => PartPlace::Lane(host, lane),
            (None, None) => PartPlace::Memory(part.memory()),
        }
    }

    /// Whether parts of a vector register have host registers of their own.
    pub(super) fn is_split(&self, register: u8) -> bool {
        let has = |operand: u8| self.vector_host(operand).is_some();
        register < 16 && (0..2).any(|i| has(PARTS + 2 * register + i))
            || register < 8 && (0..4).any(|i| has(QUARTERS + 4 * register + i))
    }

    /// Moves the guest's registers to where the unit's assignment `number` has them. Keeps EFLAGS and the
    /// scratch registers.
    pub(super) fn reassign(&mut self, number: u16) {
        if number == self.assigned {
            return;
        }
        let (before, dirty) = (self.assignment.clone(), self.dirty);
        self.assume(number);
        self.dirty = dirty;
        for (place, host, old, _) in before.general_changes(&self.assignment) {
            if dirty >> place & 1 == 1 {
                self.a.mov_to(Size::Q, general(old), host);
            }
        }
        let joins = if I::HALVES { self.join_in_place(&before) } else { Joins::default() };
        for (place, host, old, _) in before.vector_changes(&self.assignment) {
            if joins.kept >> place & 1 == 0 {
                vector_moves::to_memory(self.a, old, host);
            }
        }
        for (place, host, _, new) in before.general_changes(&self.assignment) {
            self.a.mov(Size::Q, host, general(new));
            self.dirty &= !(1 << place);
        }
        for (place, host, _, new) in before.vector_changes(&self.assignment) {
            if joins.there >> place & 1 == 1 {
                continue;
            }
            match self.split_in_place(&before, new) {
                Some(whole) => self.a.vpshufd(host, whole, 0xee),
                None => vector_moves::from_memory(self.a, host, new),
            }
        }
        if !self.plans {
            self.dirty = ALL;
        }
    }

    /// Joins the halves of vector registers, in the host register of the lower ones, that the new assignment
    /// has as wholes there; `before` is the old one.
    fn join_in_place(&mut self, before: &Assignment) -> Joins {
        let mut joins = Joins::default();
        for (place, host, old, new) in before.vector_changes(&self.assignment) {
            let bit = 1 << place;
            if old < PARTS && new == half(2 * old) {
                joins.there |= bit;
                if self.vector_host(new + 1).is_some() {
                    joins.kept |= bit;
                }
            }
            if new < PARTS
                && old == half(2 * new)
                && let Some(high) = before.vector_host(old + 1)
            {
                // VPUNPCKLQDQ.
                self.a.vp(0x6c, host, host, high);
                joins.there |= bit;
                joins.kept |= bit | 1 << VECTOR.iter().position(|&one| one == high).unwrap_or(0);
            }
        }
        joins
    }

    /// The host register of the vector register whose upper half `operand` is, if the lower half stays there.
    fn split_in_place(&self, before: &Assignment, operand: u8) -> Option<Xmm> {
        let is_upper = I::HALVES && (PARTS..QUARTERS).contains(&operand) && operand & 1 == 1;
        let whole = if is_upper { before.vector_host((operand - PARTS) / 2) } else { None };
        whole.filter(|&host| self.vector_host(operand - 1) == Some(host))
    }

    /// Makes a vector register, whose halves have host registers of their own, one in a host register from
    /// here on, or one in memory.
    pub(super) fn join_halves(&mut self, register: u8) {
        let (low, high) = (half(2 * register), half(2 * register + 1));
        let hosts = (self.vector_host(low), self.vector_host(high));
        for (place, own) in VECTOR.into_iter().enumerate() {
            let operand = self.assignment.vector()[place];
            if operand < PARTS || operand == NOTHING || Part::of(operand).register != register {
                continue;
            }
            let new = match hosts {
                (Some(host), Some(other)) if operand == low => {
                    self.a.vp(0x6c, host, host, other);
                    register
                }
                (Some(_), Some(_)) => NOTHING,
                _ => {
                    vector_moves::to_memory(self.a, operand, own);
                    NOTHING
                }
            };
            self.assignment.set_vector(place, new);
        }
        self.assigned = UNNUMBERED;
        self.vchanged(register);
    }

    /// Assumes that the guest's registers are where the unit's assignment `number` has them; all may differ
    /// from memory.
    pub(super) fn assume(&mut self, number: u16) {
        self.dirty = ALL;
        if number == self.assigned {
            return;
        }
        self.assigned = number;
        self.assignment = match number {
            STANDARD => I::STANDARD.clone(),
            _ => self.unit.assignments[usize::from(number) - 1].clone(),
        };
    }

    /// Whether the guest's registers are where the unit's assignment `number` has them.
    pub(super) fn holds(&self, number: u16) -> bool {
        number == self.assigned
            || self.assignment
                == match number {
                    STANDARD => I::STANDARD.clone(),
                    _ => self.unit.assignments[usize::from(number) - 1].clone(),
                }
    }

    /// The number of the current assignment, which gets one if it has none.
    pub(super) fn number(&mut self) -> u16 {
        if self.assigned == UNNUMBERED {
            self.unit.assignments.push(self.assignment.clone());
            self.assigned = self.unit.assignments.len() as u16;
        }
        self.assigned
    }

    /// Moves registers before an instruction that reads them.
    pub(super) fn load_place(&mut self, change: &Change) {
        self.store_place(change);
        self.take_place(change);
        self.a.mov(Size::Q, GENERAL[change.place], general(change.guest));
    }

    /// Stores the register that gives up its place, if necessary.
    pub(super) fn store_place(&mut self, change: &Change) {
        if change.store {
            let old = self.assignment.general()[change.place];
            self.a.mov_to(Size::Q, general(old), GENERAL[change.place]);
        }
    }

    /// Gives the place to the other register from here on.
    pub(super) fn take_place(&mut self, change: &Change) {
        let old = self.assignment.general()[change.place];
        self.assignment.replace_general(old, change.guest);
        self.assigned = UNNUMBERED;
    }

    /// A register as a register or memory operand.
    pub(super) fn rm(&self, guest: u8) -> Rm {
        match self.general_host(guest) {
            Some(host) => host.into(),
            None => general(guest).into(),
        }
    }

    /// A host register that holds the guest register: its own, or `scratch`, which is loaded. Keeps EFLAGS.
    pub(super) fn get(&mut self, guest: u8, scratch: Reg) -> Reg {
        match self.general_host(guest) {
            Some(host) => host,
            None => {
                self.copy(Size::Q, scratch, guest);
                scratch
            }
        }
    }

    /// `reg = guest`. Keeps EFLAGS.
    pub(super) fn copy(&mut self, size: Size, reg: Reg, guest: u8) {
        if guest == ZERO {
            self.a.mov_imm(reg, 0);
        } else if self.general_host(guest) != Some(reg) || size == Size::D {
            self.a.mov(size, reg, self.rm(guest));
        }
    }

    /// Where to compute a result: the guest register's host register, or `scratch`. [`Translator::put`]
    /// finishes it.
    pub(super) fn result(&self, guest: u8, scratch: Reg) -> Reg {
        self.general_host(guest).unwrap_or(scratch)
    }

    /// Like [`Translator::result`], for code that writes the result before it has read `reads`.
    pub(super) fn result_early(&self, guest: u8, scratch: Reg, reads: u8) -> Reg {
        if guest == reads { scratch } else { self.result(guest, scratch) }
    }

    /// Nothing is known of a register from here on, since it has another value.
    pub(super) fn changed(&mut self, guest: u8) {
        self.aligned &= !(1 << (guest & 31));
    }

    /// `guest = reg`, all 64 bits. Keeps EFLAGS.
    pub(super) fn put(&mut self, guest: u8, reg: Reg) {
        if guest == SINK {
            return;
        }
        self.changed(guest);
        match self.general_host(guest) {
            Some(host) if host == reg => {}
            Some(host) => self.a.mov(Size::Q, host, reg),
            None => self.a.mov_to(Size::Q, general(guest), reg),
        }
    }

    /// As [`Translator::put`], for a register that moves by `by` bytes: it stays aligned if that is a
    /// multiple of 4.
    pub(super) fn put_moved(&mut self, guest: u8, reg: Reg, by: u32) {
        let aligned = self.aligned & 1 << (guest & 31);
        self.put(guest, reg);
        if by.is_multiple_of(4) {
            self.aligned |= aligned;
        }
    }

    /// `guest = value`. Changes rax.
    pub(super) fn put_constant(&mut self, guest: u8, value: u64) {
        self.changed(guest);
        match self.general_host(guest) {
            Some(host) => self.a.mov_imm(host, value),
            None => match i32::try_from(value as i64) {
                Ok(value) => self.a.mov_imm32(Size::Q, general(guest), value),
                Err(_) => {
                    self.a.mov_imm(Reg::RAX, value);
                    self.put(guest, Reg::RAX);
                }
            },
        }
    }

    /// `guest = address`, an address of the guest. Changes rax.
    pub(super) fn put_address(&mut self, guest: u8, address: u64) {
        if self.ground == Ground::Arena {
            return self.put_constant(guest, address);
        }
        self.changed(guest);
        let t = self.result(guest, Reg::RAX);
        self.guest_address(t, address);
        self.put(guest, t);
    }

    /// A vector register as a register or memory operand.
    pub(super) fn vrm(&self, guest: u8) -> Rm {
        debug_assert!(guest < PARTS && !self.is_split(guest));
        match self.vector_host(guest) {
            Some(host) => host.into(),
            None => vector(guest).into(),
        }
    }

    /// An operand as a register or, if it is a whole register, in memory; `scratch` may be loaded.
    pub(super) fn vsource(&mut self, guest: u8, scratch: Xmm) -> Rm {
        if guest < PARTS { self.vrm(guest) } else { self.vget(guest, scratch).into() }
    }

    /// An operand of which only its lowest lane of its own width counts, as a register or in memory.
    pub(super) fn vscalar_source(&mut self, guest: u8, scratch: Xmm) -> Rm {
        if guest < PARTS {
            return self.vrm(guest);
        }
        let part = Part::of(guest);
        match self.part_host(part, guest) {
            Some(_) => self.vget(guest, scratch).into(),
            None => part.memory().into(),
        }
    }

    /// A host register that holds the operand: its own, or `scratch`, which is loaded. Above a part, the
    /// register holds anything.
    pub(super) fn vget(&mut self, guest: u8, scratch: Xmm) -> Xmm {
        if guest >= PARTS {
            return self.part_get(guest, scratch);
        }
        debug_assert!(!self.is_split(guest));
        match self.vector_host(guest) {
            Some(host) => host,
            None => {
                self.a.vload(scratch, vector(guest));
                scratch
            }
        }
    }

    fn part_get(&mut self, operand: u8, scratch: Xmm) -> Xmm {
        let part = Part::of(operand);
        let double = part.double;
        match self.part_host(part, operand) {
            Some((host, 0)) => return host,
            // The upper half in both halves.
            Some((host, _)) if double => self.a.vpshufd(scratch, host, 0xee),
            Some((host, lane)) => self.a.vpshufd(scratch, host, lane),
            None if double => self.a.vmovq(scratch, part.memory()),
            None => self.a.vmov_from(Size::D, scratch, part.memory()),
        }
        scratch
    }

    /// The host register of an operand that is a half, or of which the low half counts, and that half's place
    /// there.
    fn half_host(&self, operand: u8) -> Option<(Xmm, u8)> {
        match operand {
            0..PARTS => {
                debug_assert!(!self.is_split(operand));
                self.vector_host(operand).map(|host| (host, 0))
            }
            _ => self.part_host(Part::of(operand), operand),
        }
    }

    /// `d` = the low half of the operand, twice.
    pub(super) fn vget_twice(&mut self, d: Xmm, guest: u8) {
        let (register, lane) = first_lane(guest, 3);
        match self.half_host(guest) {
            Some((host, 1)) => self.a.vpshufd(d, host, 0xee),
            Some((host, _)) => self.a.vmovddup(d, host),
            None => self.a.vmovddup(d, vector(register).plus(8 * i32::from(lane))),
        }
    }

    /// `d` = the low half of the operand, zero-extended.
    pub(super) fn vget_clear(&mut self, d: Xmm, guest: u8) {
        let (register, lane) = first_lane(guest, 3);
        match self.half_host(guest) {
            // VPSRLDQ.
            Some((host, 1)) => self.a.vshift_imm(0x73, 3, d, host, 8),
            Some((host, _)) => self.a.vmovq(d, host),
            None => self.a.vmovq(d, vector(register).plus(8 * i32::from(lane))),
        }
    }

    /// The low or the high half of the operand as a register, which may be `t`, or in memory.
    pub(super) fn vhalf_source(&mut self, guest: u8, high: bool, t: Xmm) -> Rm {
        let (register, lane) = first_lane(guest, 3);
        let host = self.half_host(guest);
        let high = high || host.map_or(lane == 1, |(_, lane)| lane == 1);
        match host {
            Some((host, _)) if high => {
                self.a.vpshufd(t, host, 0xee);
                t.into()
            }
            Some((host, _)) => host.into(),
            None => vector(register).plus(if high { 8 } else { 0 }).into(),
        }
    }

    /// Prepares for a new value of a part. A quarter that is written alone ([`Translator::alone`]) takes the
    /// host register of its half, until the half is written.
    pub(super) fn part_renewed(&mut self, operand: u8) {
        let part = Part::of(operand);
        self.vchanged(part.register);
        if !I::HALVES || self.vector_host(operand).is_some() {
            return;
        }
        let n = operand & 31;
        let old = match part.double {
            true if n < 16 => [quarter(2 * n), quarter(2 * n + 1)].into_iter().find(|&q| self.has_host(q)),
            false if self.alone => Some(part.half()).filter(|&half| self.has_host(half)),
            _ => None,
        };
        let place = old.and_then(|old| self.assignment.vector().iter().position(|&held| held == old));
        if let Some(place) = place {
            self.assignment.set_vector(place, operand);
            self.assigned = UNNUMBERED;
        }
    }

    fn has_host(&self, operand: u8) -> bool {
        self.vector_host(operand).is_some()
    }

    /// A part = the lowest lane of `from`; the other lanes of its vector register stay.
    fn part_put(&mut self, operand: u8, from: Xmm) {
        let part = Part::of(operand);
        let double = part.double;
        self.part_renewed(operand);
        if let Some(host) = self.vector_host(operand) {
            if host != from {
                self.a.vload(host, from);
            }
            return;
        }
        match self.part_host(part, operand) {
            Some((host, 0)) if host == from => {}
            // VBLENDPS
            Some((host, 0)) => self.a.vp3a(0x0c, host, host, from, if double { 3 } else { 1 }),
            // VPUNPCKLQDQ
            Some((host, _)) if double => self.a.vp(0x6c, host, host, from),
            // VINSERTPS
            Some((host, lane)) => self.a.vp3a(0x21, host, host, from, lane << 4),
            None if double => self.a.vstore_q(part.memory(), from),
            None => self.a.vmov_to(Size::D, part.memory(), from),
        }
    }

    /// Forgets what is known about a vector register.
    pub(super) fn vchanged(&mut self, register: u8) {
        self.zeros.from_32 &= !(1 << register);
        self.zeros.from_64 &= !(1 << register);
    }

    /// `reg` = the bits of a part. Keeps EFLAGS.
    pub(super) fn part_bits(&mut self, reg: Reg, operand: u8) {
        let part = Part::of(operand);
        match self.part_host(part, operand) {
            Some((host, lane)) => self.extract_lane(part.size(), reg, host, lane),
            None => self.a.mov(if part.double { Size::Q } else { Size::D }, reg, part.memory()),
        }
    }

    /// A part = a general register of the host.
    pub(super) fn part_from_bits(&mut self, operand: u8, reg: Reg) {
        let part = Part::of(operand);
        let size = if part.double { Size::Q } else { Size::D };
        self.part_renewed(operand);
        if let Some(host) = self.vector_host(operand) {
            return self.a.vmov_from(size, host, reg);
        }
        match self.part_host(part, operand) {
            // VPINSRD, VPINSRQ.
            Some((host, lane)) => {
                self.a.vex(Prefix::P66, Map::M0F3A, part.double, 0x22, host.0, host.0, reg);
                self.a.byte(lane);
            }
            None => self.a.mov_to(size, part.memory(), reg),
        }
    }

    /// Where to compute a vector result: the guest register's host register, or xmm0.
    pub(super) fn vresult(&self, guest: u8) -> Xmm {
        self.vector_host(guest).unwrap_or(X0)
    }

    /// Where a scalar operation can leave its result, if all of its operands but the first may be overwritten
    /// with it: operations leave the bits above the lowest lane as they are in the first operand. Else xmm0.
    pub(super) fn vresult_like(&self, guest: u8, first: u8) -> Xmm {
        if guest < PARTS || self.vector_host(guest).is_some() {
            return self.vresult(guest);
        }
        // The rest of the host register stays.
        let host = self.part_host(Part::of(guest), guest).filter(|&(_, lane)| guest == first && lane == 0);
        host.map_or(X0, |(host, _)| host)
    }

    /// Whether the bits above a scalar of 32 or 64 bits are known to be zero.
    pub(super) fn vclean(&self, double: bool, guest: u8) -> bool {
        guest < PARTS && (if double { self.zeros.from_64 } else { self.zeros.from_32 }) >> guest & 1 == 1
    }

    /// Records that the bits above a scalar of 32 or 64 bits are zero from here on.
    pub(super) fn set_vclean(&mut self, double: bool, guest: u8) {
        if guest >= PARTS {
            return;
        }
        self.zeros.from_64 |= 1 << guest;
        if !double {
            self.zeros.from_32 |= 1 << guest;
        }
    }

    /// `guest` = the low 32 or 64 bits of `from`, zero-extended unless it is a part; `clean` means that the
    /// bits above are already zero. Changes xmm0.
    pub(super) fn vput_scalar(&mut self, double: bool, guest: u8, from: Xmm, clean: bool) {
        if clean || guest >= PARTS {
            self.vput(guest, from);
        } else {
            let t = self.vresult(guest);
            self.vclear(double, t, from);
            self.vput(guest, t);
        }
        self.set_vclean(double, guest);
    }

    /// `d` = the low 32 or 64 bits of `from`, zero-extended.
    pub(super) fn vclear(&mut self, double: bool, d: Xmm, from: Xmm) {
        if double {
            self.a.vmovq(d, from);
        } else {
            // VINSERTPS: element 0 to element 0, zeros elsewhere.
            self.a.vp3a(0x21, d, from, from, 0x0e);
        }
    }

    /// `guest = from`, all 128 bits, or all of a part.
    pub(super) fn vput(&mut self, guest: u8, from: Xmm) {
        if guest >= PARTS {
            return self.part_put(guest, from);
        }
        debug_assert!(!self.is_split(guest));
        self.vchanged(guest);
        match self.vector_host(guest) {
            Some(host) if host == from => {}
            Some(host) => self.a.vload(host, from),
            None => self.a.vstore(vector(guest), from),
        }
    }
}
