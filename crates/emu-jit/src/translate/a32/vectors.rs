//! Loads and stores of S, D and vector registers (manual F4.1.8, F4.1.11): VLDR, VSTR, VLDM, VSTM, and VLD1
//! to VLD4 and VST1 to VST4 of all forms.

use super::{ALWAYS, PC, Translator, at, pc_value};
use crate::layout::X0;
use crate::translate::operands::{PartPlace, first_lane, half, quarter};
use crossdock_emu_guest::a32::registers::place;
use crossdock_emu_guest::a32::structure::{self, Structure};
use crossdock_emu_x64::{Cc, Map, Mem, Prefix, Reg, Size};

/// A load or store of vector registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    loads: bool,
    /// The first register, a D register but for [`Elements::Singles`].
    first: u8,
    elements: Elements,
    /// The base register, as an index in the state.
    pub(super) base: u8,
    /// Bytes from the base to the lowest address.
    offset: u32,
    /// What the base becomes.
    back: Back,
    /// What the address must be a multiple of.
    alignment: u8,
}

/// Which registers and lanes are transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Elements {
    /// S registers side by side, and D registers.
    Singles(u8),
    Doubles(u8),
    /// Structures of `count` elements of `1 << size` bytes, in registers that are `spacing` apart, or if
    /// `twice` in two such lists after each other.
    Structures {
        count: u8,
        size: u8,
        spacing: u8,
        twice: bool,
    },
    /// One structure, in a lane.
    Lane {
        count: u8,
        size: u8,
        spacing: u8,
        lane: u8,
    },
    /// One structure, in all lanes; if there is one register, of one or two D registers.
    AllLanes {
        count: u8,
        size: u8,
        spacing: u8,
        twice: bool,
    },
}

/// What the base becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    Stays,
    Moves(u32),
    /// Moves by a register.
    By(u8),
}

impl Transfer {
    /// The transfer of a word in A32's encoding, if it is one.
    pub(super) fn of(word: u32) -> Option<Transfer> {
        let is = |bit: u32| word >> bit & 1 == 1;
        if word >> 24 == 0xf4 {
            return Transfer::of_structure(word);
        }
        if word >> 28 == 15 || word >> 25 & 7 != 6 || word >> 9 & 7 != 5 {
            return None;
        }
        let (p, u, w, loads, double) = (is(24), is(23), is(21), is(20), is(8));
        let (base, imm) = (word >> 16 & 15, word & 255);
        let low = (word >> 12 & 15) as u8;
        let first = if double { low | u8::from(is(22)) << 4 } else { low << 1 | u8::from(is(22)) };
        let offset = if u { 4 * imm } else { (4 * imm).wrapping_neg() };
        let transfer = |count: u32, offset, back| Transfer {
            loads,
            first,
            elements: if double { Elements::Doubles(count as u8) } else { Elements::Singles(count as u8) },
            base: place(base),
            offset,
            back,
            alignment: 4,
        };
        match (p, u, w) {
            // VLDR, VSTR.
            (true, _, false) => Some(transfer(1, offset, Back::Stays)),
            // VLDM, VSTM; not the old forms of odd length.
            (false, true, _) | (true, false, true) if base != 15 && imm != 0 && !(double && imm & 1 == 1) => {
                let back = if w { Back::Moves(offset) } else { Back::Stays };
                let count = if double { imm / 2 } else { imm };
                let is_known = count <= 16 && u32::from(first) + count <= 32;
                is_known.then(|| transfer(count, if p { offset } else { 0 }, back))
            }
            _ => None,
        }
    }

    /// VLD1 to VLD4, VST1 to VST4.
    fn of_structure(word: u32) -> Option<Transfer> {
        let structure = Structure::of(word)?;
        let elements = Self::elements(&structure);
        let (base, m) = (word >> 16 & 15, word & 15);
        let first = (word >> 12 & 15 | word >> 22 << 4 & 16) as u8;
        let (registers, bytes) = match elements {
            Elements::Structures { count, spacing, twice, .. } => {
                ((count - 1) * spacing + u8::from(twice), u32::from(count) * if twice { 16 } else { 8 })
            }
            Elements::Lane { count, size, spacing, .. } => ((count - 1) * spacing, u32::from(count) << size),
            Elements::AllLanes { count, size, spacing, twice } => {
                ((count - 1) * spacing + u8::from(twice), u32::from(count) << size)
            }
            Elements::Doubles(count) => (count - 1, 8 * u32::from(count)),
            Elements::Singles(_) => return None,
        };
        let is_known = base != 15 && first + registers <= 31;
        is_known.then(|| Transfer {
            loads: word >> 21 & 1 == 1,
            first,
            elements,
            base: place(base),
            offset: 0,
            back: match m {
                15 => Back::Stays,
                13 => Back::Moves(bytes),
                m => Back::By(place(m)),
            },
            alignment: 1 << structure.alignment,
        })
    }

    /// The registers of structures.
    fn elements(structure: &Structure) -> Elements {
        let [count, size, spacing] =
            [structure.count, structure.size, structure.spacing].map(|value| value as u8);
        let twice = structure.registers == 2;
        match structure.elements {
            structure::Elements::Multiple if count == 1 => Elements::Doubles(structure.registers as u8),
            // If there are two pairs, the first registers of both are side by side.
            structure::Elements::Multiple => Elements::Structures { count, size, spacing, twice },
            structure::Elements::Lane(lane) => Elements::Lane { count, size, spacing, lane: lane as u8 },
            structure::Elements::AllLanes => Elements::AllLanes { count, size, spacing, twice },
        }
    }

    /// The lowest address.
    pub(super) fn address(&self, base: u32) -> u32 {
        base.wrapping_add(self.offset)
    }

    /// The S register that it loads, if it does nothing else with registers of vectors.
    pub(super) fn loaded_single(&self) -> Option<u8> {
        (self.loads && self.elements == Elements::Singles(1)).then_some(self.first)
    }

    /// The register that the base moves by.
    pub(super) fn index(&self) -> Option<u8> {
        if let Back::By(register) = self.back { Some(register) } else { None }
    }

    /// Whether the base changes.
    pub(super) fn writes_back(&self) -> bool {
        self.back != Back::Stays
    }

    /// Calls `each` with the parts of vector registers that it transfers, and with the vector registers of
    /// which it uses lanes.
    pub(super) fn each_operand(&self, mut each: impl FnMut(u8)) {
        let first = self.first;
        match self.elements {
            Elements::Singles(count) => (0..count).for_each(|i| each(quarter(first + i))),
            Elements::Doubles(count) => (0..count).for_each(|i| each(half(first + i))),
            Elements::Structures { count, spacing, twice, .. }
            | Elements::AllLanes { count, spacing, twice, .. } => {
                for i in 0..count {
                    for r in 0..=u8::from(twice) {
                        each(half(first + i * spacing + r));
                    }
                }
            }
            Elements::Lane { count, spacing, .. } => {
                (0..count).for_each(|i| each((first + i * spacing) / 2));
            }
        }
    }
}

impl Translator<'_> {
    /// Loads or stores the registers. An address that is not aligned is left to the interpreter.
    pub(super) fn transfer_vectors(&mut self, transfer: &Transfer) {
        let back = self.a.label();
        let start = if transfer.base == PC {
            let address = (pc_value(self.pc) & !3).wrapping_add(transfer.offset.into()) & 0xffff_ffff;
            if self.load_literal(transfer, address as u32) {
                return;
            }
            self.at_guest_address(Reg::RDX, address)
        } else {
            let base = self.held(transfer.base, Reg::RDX);
            self.check_alignment(transfer, base, back);
            at(base, transfer.offset)
        };
        // The flags may have moved.
        self.mark();
        self.transfer_elements(transfer, start);
        match transfer.back {
            Back::Stays => {}
            Back::Moves(bytes) => {
                let base = self.held(transfer.base, Reg::RDX);
                self.move_base(transfer.base, at(base, bytes));
                if bytes & 3 == 0 && transfer.alignment >= 4 {
                    self.aligned |= 1 << transfer.base;
                }
            }
            Back::By(register) => {
                let base = self.held(transfer.base, Reg::RDX);
                let by = self.held(register, Reg::RCX);
                self.move_base(transfer.base, Mem { base, index: Some((by, 0)), disp: 0 });
            }
        }
        self.a.bind(back);
    }

    /// Loads a constant beside the code, if that is what the transfer does. Keeps EFLAGS.
    fn load_literal(&mut self, transfer: &Transfer, address: u32) -> bool {
        let (double, size) = match transfer.elements {
            Elements::Doubles(1) => (true, 3),
            Elements::Singles(1) => (false, 2),
            _ => return false,
        };
        let Some(value) = self.literal(address, size).filter(|_| transfer.loads) else { return false };
        let d = if double { half(transfer.first) } else { quarter(transfer.first) };
        let t = self.vresult(d);
        self.load_constant(t, value.into());
        self.vput(d, t);
        true
    }

    /// A base register becomes an address. Keeps EFLAGS.
    fn move_base(&mut self, guest: u8, address: Mem) {
        let t = self.result(guest, Reg::RDX);
        self.a.lea(Size::D, t, address);
        self.put(guest, t);
    }

    /// The transfer, with the next one if it is of the other half of a vector register and the next place in
    /// memory: compilers load and store quadwords of unknown alignment by two VLDR or VSTR. Returns the
    /// number of instructions.
    pub(super) fn joined(&self, transfer: &Transfer) -> (Transfer, usize) {
        let single = (*transfer, 1);
        let [this, next, ..] = self.items else { return single };
        let Some(other) = Transfer::of(next.word) else { return single };
        let wanted =
            Transfer { first: transfer.first + 1, offset: transfer.offset.wrapping_add(8), ..*transfer };
        let joins = transfer.elements == Elements::Doubles(1)
            && transfer.back == Back::Stays
            && transfer.alignment == 4
            && transfer.base != PC
            && transfer.first.is_multiple_of(2)
            && other == wanted
            && [this, next].iter().all(|item| item.condition >= ALWAYS && item.it == 0);
        if joins { (Transfer { elements: Elements::Doubles(2), ..*transfer }, 2) } else { single }
    }

    /// Goes to the interpreter if the address is not aligned. The offset is a multiple of 4.
    fn check_alignment(&mut self, transfer: &Transfer, base: Reg, back: crossdock_emu_x64::Label) {
        let known = self.aligned >> transfer.base & 1 == 1 && transfer.alignment == 4;
        if transfer.alignment == 1 || known {
            return;
        }
        self.clobber();
        let slow = self.slow_path(back);
        self.a.test_imm8(base, transfer.alignment - 1);
        self.a.jump_if(Cc::Ne, slow);
        // The interpreter does not come back.
        if transfer.alignment == 4 {
            self.aligned |= 1 << transfer.base;
        }
    }

    fn transfer_elements(&mut self, transfer: &Transfer, start: Mem) {
        let (loads, first) = (transfer.loads, transfer.first);
        match transfer.elements {
            Elements::Singles(count) => {
                for i in 0..count {
                    self.transfer_part(loads, false, first + i, start.plus(4 * i32::from(i)));
                }
            }
            Elements::Doubles(count) => self.transfer_doubles(loads, first, count, start),
            Elements::Structures { count, size, spacing, twice } => {
                self.transfer_structures(loads, [first, count, size, spacing], twice, start);
            }
            Elements::Lane { count, size, spacing, lane } => {
                for i in 0..count {
                    let (whole, from) = first_lane(half(first + i * spacing), size);
                    let mem = start.plus(i32::from(i) << size);
                    if loads {
                        self.load(size, Reg::RAX, mem);
                        self.insert(size, whole, from + lane, Reg::RAX.into());
                    } else {
                        self.element_to(Reg::RAX, size, whole, from + lane);
                        self.store(size, mem, Reg::RAX);
                    }
                }
            }
            Elements::AllLanes { count, size, spacing, twice } => {
                for i in 0..count {
                    let register = first + i * spacing;
                    self.guest_access();
                    self.a.vbroadcast(size, X0, start.plus(i32::from(i) << size));
                    if twice && register.is_multiple_of(2) && !self.is_split(register / 2) {
                        self.vput(register / 2, X0);
                        continue;
                    }
                    for r in 0..=u8::from(twice) {
                        self.vput(half(register + r), X0);
                    }
                }
            }
        }
    }

    /// D registers side by side; two that are a vector register, at once.
    fn transfer_doubles(&mut self, loads: bool, first: u8, count: u8, start: Mem) {
        let mut i = 0;
        while i < count {
            let (register, mem) = (first + i, start.plus(8 * i32::from(i)));
            let whole = register / 2;
            if register % 2 == 1 || i + 1 == count || self.is_split(whole) {
                self.transfer_part(loads, true, register, mem);
                i += 1;
                continue;
            }
            if loads {
                let t = self.vresult(whole);
                self.guest_access();
                self.a.vload(t, mem);
                self.vput(whole, t);
            } else {
                let from = self.vget(whole, X0);
                self.guest_access();
                self.a.vstore(mem, from);
            }
            i += 2;
        }
    }

    /// A D or S register.
    fn transfer_part(&mut self, loads: bool, double: bool, n: u8, mem: Mem) {
        let operand = if double { half(n) } else { quarter(n) };
        let size = if double { Size::Q } else { Size::D };
        match self.part_place(operand) {
            // If the load faults, the host register is as it was.
            PartPlace::Lane(host, _) if loads && !double && self.alone => {
                self.guest_access();
                self.a.vmov_from(Size::D, host, mem);
                self.part_renewed(operand);
            }
            PartPlace::Own(host) => {
                self.guest_access();
                match (loads, double) {
                    (true, true) => self.a.vmovq(host, mem),
                    (true, false) => self.a.vmov_from(Size::D, host, mem),
                    (false, true) => self.a.vstore_q(mem, host),
                    (false, false) => self.a.vmov_to(Size::D, mem, host),
                }
            }
            // VMOVLPS, VMOVHPS.
            PartPlace::Lane(host, lane) if double => {
                let opcode = if lane == 0 { 0x12 } else { 0x16 };
                self.guest_access();
                if loads {
                    self.a.vex(Prefix::None, Map::M0F, false, opcode, host.0, host.0, mem);
                } else if lane == 0 {
                    self.a.vstore_q(mem, host);
                } else {
                    self.a.vex(Prefix::None, Map::M0F, false, opcode + 1, host.0, 0, mem);
                }
            }
            // VINSERTPS; VMOVD; VEXTRACTPS.
            PartPlace::Lane(host, lane) => {
                self.guest_access();
                if loads {
                    self.a.vex(Prefix::P66, Map::M0F3A, false, 0x21, host.0, host.0, mem);
                    self.a.byte(lane << 4);
                } else if lane == 0 {
                    self.a.vmov_to(Size::D, mem, host);
                } else {
                    self.a.vex(Prefix::P66, Map::M0F3A, false, 0x17, host.0, 0, mem);
                    self.a.byte(lane);
                }
            }
            PartPlace::Memory(place) => {
                if loads {
                    self.guest_access();
                    self.a.mov(size, Reg::RAX, mem);
                    self.a.mov_to(size, place, Reg::RAX);
                } else {
                    self.a.mov(size, Reg::RAX, place);
                    self.guest_access();
                    self.a.mov_to(size, mem, Reg::RAX);
                }
            }
        }
        if loads {
            self.vchanged(first_lane(operand, 2).0);
        }
    }

    /// VLD2 to VLD4, VST2 to VST4.
    fn transfer_structures(
        &mut self,
        loads: bool,
        [first, count, size, spacing]: [u8; 4],
        twice: bool,
        start: Mem,
    ) {
        // Two pairs whose registers make vector registers.
        let splits = self.is_split(first / 2) || self.is_split(first / 2 + 1);
        if twice && first.is_multiple_of(2) && !splits {
            let v = [first / 2, first / 2 + 1, 0, 0];
            let size = size.into();
            return if loads {
                self.load_2(size, true, v, start)
            } else {
                self.store_2(size, true, v, start)
            };
        }
        for r in 0..=u8::from(twice) {
            let v = [0, 1, 2, 3].map(|i| half(first + r + i * spacing));
            let (size, mem) = (size.into(), start.plus(i32::from(r) * 8 * i32::from(count)));
            match (count, loads) {
                (2, true) => self.load_2(size, false, v, mem),
                (3, true) => self.load_3(size, false, v, mem),
                (_, true) => self.load_4(size, false, v, mem),
                (2, false) => self.store_2(size, false, v, mem),
                (3, false) => self.store_3(size, false, v, mem),
                (_, false) => self.store_4(size, false, v, mem),
            }
        }
    }
}
