//! Data processing and bit fields (manual F4.1.2, F4.1.5).

use super::{ALWAYS, NO_BASE, PC, Translator, at, pc_value};
use crate::layout::{Slot, TPIDR, slot};
use crate::translate::Ground;
use crate::translate::alu::Operand;
use crate::translate::condition::Flags;
use crate::translate::operands::SINK;
use crossdock_emu_guest::a32::action::{Action, Form};
use crossdock_emu_guest::a32::{Instruction, Jump};
use crossdock_emu_x64::{Alu, Cc, Mem, Reg, Shift, Size};

/// Kinds of shifts.
const LSL: u32 = 0;
const ROR: u32 = 3;
const RRX: u32 = 4;

/// What an operation is for the host.
enum Operation {
    /// `n + m`, or `n - m`, perhaps only for its flags.
    Sum { subtracts: bool, compares: bool },
    /// `m - n`.
    Reverse,
    /// With the carry.
    WithCarry { subtracts: bool, reverses: bool },
    /// AND, ORR, EOR; the second operand may be inverted, and the result may be tested only.
    Logical { op: Alu, inverts: bool, tests: bool },
    /// MOV, or MVN.
    Move { inverts: bool },
}

fn operation(number: u8) -> Option<Operation> {
    let logical = |op, inverts, tests| Operation::Logical { op, inverts, tests };
    Some(match number {
        0 => logical(Alu::And, false, false),
        1 => logical(Alu::Xor, false, false),
        2 => Operation::Sum { subtracts: true, compares: false },
        3 => Operation::Reverse,
        4 => Operation::Sum { subtracts: false, compares: false },
        5 => Operation::WithCarry { subtracts: false, reverses: false },
        6 => Operation::WithCarry { subtracts: true, reverses: false },
        7 => Operation::WithCarry { subtracts: true, reverses: true },
        8 => logical(Alu::And, false, true),
        9 => logical(Alu::Xor, false, true),
        10 => Operation::Sum { subtracts: true, compares: true },
        11 => Operation::Sum { subtracts: false, compares: true },
        12 => logical(Alu::Or, false, false),
        13 => Operation::Move { inverts: false },
        14 => logical(Alu::And, true, false),
        15 => Operation::Move { inverts: true },
        16 => logical(Alu::Or, true, false),
        _ => return None,
    })
}

impl Translator<'_> {
    /// Whether there is a lowering for the instruction.
    pub(super) fn can_lower(&self, item: &Instruction) -> bool {
        match item.action {
            Action::Data { .. } => item.jump == Jump::No,
            Action::Access { register, .. } => !(register && item.extra & 7 == RRX),
            _ => true,
        }
    }

    pub(super) fn data(&mut self, item: &Instruction) {
        match item.action {
            Action::Data { operation: number, sets, form } => {
                let aligned = self.aligned_result(item, number, form);
                self.operate(item, number, sets && self.reads_result(item, number, form), form);
                if aligned {
                    self.aligned |= 1 << item.rd;
                }
            }
            Action::MoveTop => {
                self.clobber();
                let t = self.result(item.rd, Reg::RAX);
                self.a.movzx16(t, self.rm(item.rd));
                self.a.alu_imm(Alu::Or, Size::D, t, (item.imm << 16) as i32);
                self.put(item.rd, t);
            }
            Action::Insert { clears } => {
                self.clobber();
                let field = u32::MAX >> (32 - item.extra);
                self.fetch(item.rd, Reg::RAX);
                self.a.alu_imm(Alu::And, Size::D, Reg::RAX, !(field << item.imm) as i32);
                if !clears {
                    self.fetch(item.rn, Reg::RCX);
                    self.a.alu_imm(Alu::And, Size::D, Reg::RCX, field as i32);
                    self.a.shift_imm(Shift::Shl, Size::D, Reg::RCX, item.imm as u8);
                    self.a.alu(Alu::Or, Size::D, Reg::RAX, Reg::RCX);
                }
                self.put(item.rd, Reg::RAX);
            }
            Action::Extract { signed } => self.extract(item, signed),
            Action::ThreadPointer => {
                self.a.mov(Size::D, Reg::RAX, TPIDR);
                self.put(item.rd, Reg::RAX);
            }
            _ => {
                let _ = self.media(item) || self.multiplication(item);
            }
        }
    }

    /// A constant of 32 bits by MOVW and MOVT, the current instruction and the next. False if they are other
    /// instructions.
    pub(super) fn wide_constant(&mut self) -> bool {
        let [low, high, ..] = self.items else { return false };
        let moves = Action::Data { operation: 13, sets: false, form: Form::Immediate } == low.action
            && low.jump == Jump::No;
        let joins = moves && high.action == Action::MoveTop && high.rd == low.rd;
        let always = [low, high].iter().all(|item| item.condition >= ALWAYS && item.it == 0);
        if joins && always {
            self.put_constant(low.rd, (high.imm << 16 | low.imm & 0xffff).into());
        }
        joins && always
    }

    /// Whether the result is known to be a multiple of 4: a sum or a difference of such numbers.
    fn aligned_result(&self, item: &Instruction, number: u8, form: Form) -> bool {
        let known = |register: u8| register < 32 && register != PC && self.aligned >> register & 1 == 1;
        let second = match form {
            Form::Immediate => item.imm.is_multiple_of(4),
            Form::Plain => known(item.rm),
            Form::Shifted => item.extra == LSL && item.imm >= 2,
            Form::ShiftedByRegister => false,
        };
        match operation(number) {
            Some(Operation::Sum { compares: false, .. }) => known(item.rn) && second,
            Some(Operation::Move { inverts: false }) => form == Form::Plain && second,
            _ => false,
        }
    }

    /// Whether flags that data processing writes are read.
    fn reads_result(&self, item: &Instruction, number: u8, form: Form) -> bool {
        let [sign, carry] = self.live_groups;
        let arithmetic = matches!(number, 2..=7 | 10 | 11);
        let writes_carry = arithmetic || !matches!(form, Form::Immediate | Form::Plain) || item.extra == 1;
        sign || carry && writes_carry
    }

    /// Adds, without flags, what LEA can add: it keeps EFLAGS. False if it cannot.
    fn add_by_lea(&mut self, item: &Instruction, subtracts: bool, form: Form) -> bool {
        let scale = match form {
            Form::Immediate => None,
            Form::Plain if !subtracts => Some(0),
            Form::Shifted if !subtracts && item.extra == LSL && item.imm <= 3 => Some(item.imm as u8),
            _ => return false,
        };
        let imm = if subtracts { item.imm.wrapping_neg() } else { item.imm };
        if item.rn == PC && scale.is_none() {
            self.put_address(item.rd, pc_value(self.pc).wrapping_add(u64::from(imm)) & 0xffff_ffff);
            return true;
        }
        let (rn, rm) = if item.rn == PC && scale == Some(0) { (item.rm, PC) } else { (item.rn, item.rm) };
        let base = self.held(rn, Reg::RAX);
        let mem = match scale {
            None => at(base, imm),
            // PC is a constant.
            Some(0) if rm == PC && self.ground == Ground::Arena => at(base, pc_value(self.pc) as u32),
            Some(scale) => {
                let index = self.held(rm, Reg::RDX);
                Mem { base, index: Some((index, scale)), disp: 0 }
            }
        };
        let t = self.result(item.rd, Reg::RAX);
        self.a.lea(Size::D, t, mem);
        self.put(item.rd, t);
        true
    }

    /// Data processing with flags that are read if `sets`.
    pub(super) fn operate(&mut self, item: &Instruction, number: u8, sets: bool, form: Form) {
        let Some(kind) = operation(number) else { return };
        if let (Operation::Sum { subtracts, compares: false }, false) = (&kind, sets)
            && self.add_by_lea(item, *subtracts, form)
        {
            return;
        }
        if let Operation::Move { inverts: false } = kind {
            return self.move_operand(item, sets, form);
        }
        if let (Operation::Move { .. }, false, Form::Immediate) = (&kind, sets, form) {
            return self.put_constant(item.rd, u64::from(!item.imm));
        }
        let carries = matches!(kind, Operation::WithCarry { .. });
        if carries {
            if !sets && self.live {
                self.save_flags();
            }
            // Some shifts change the carry, so the operand comes first, with the flags saved.
            let keeps = match form {
                Form::Immediate | Form::Plain => true,
                Form::Shifted => item.extra != RRX && (1..=31).contains(&item.imm),
                Form::ShiftedByRegister => false,
            };
            if !keeps {
                self.save_flags();
                self.flags = Flags::Memory;
            }
        } else if !sets || matches!(kind, Operation::Logical { .. } | Operation::Move { .. }) {
            self.clobber();
        } else if form != Form::Immediate && form != Form::Plain {
            // The flags from before are not read any more.
            self.clobber();
        }
        let logical = matches!(kind, Operation::Logical { .. } | Operation::Move { .. });
        let operand = if sets && logical && self.live_groups[1] {
            self.operand_and_carry(item, form)
        } else {
            self.second_operand(item, form)
        };
        match kind {
            Operation::Sum { subtracts, compares } => {
                let rd = if compares { SINK } else { item.rd };
                if !sets && compares {
                    return;
                }
                let n = self.place_of(item.rn);
                self.arithmetic(subtracts, sets, Size::D, rd, n, operand);
            }
            Operation::Reverse => {
                self.take(operand, Reg::RAX);
                let n = self.held(item.rn, Reg::RDX);
                self.a.alu(Alu::Sub, Size::D, Reg::RAX, n);
                self.put(item.rd, Reg::RAX);
                if sets {
                    self.set_flags(true);
                }
            }
            Operation::WithCarry { subtracts, reverses } => {
                self.load_carry(subtracts);
                // Loading the carry may have changed rax and rcx.
                let operand = match form {
                    Form::Immediate | Form::Plain => self.second_operand(item, form),
                    _ => Operand::Rm(Reg::RDX.into()),
                };
                let operand = if reverses {
                    self.take(operand, Reg::RAX);
                    Operand::Rm(self.held(item.rn, Reg::RCX).into())
                } else {
                    self.fetch(item.rn, Reg::RAX);
                    operand
                };
                self.apply(if subtracts { Alu::Sbb } else { Alu::Adc }, Size::D, Reg::RAX, operand);
                self.put(item.rd, Reg::RAX);
                if sets {
                    self.set_flags(subtracts);
                } else {
                    self.flags = Flags::Memory;
                }
            }
            Operation::Logical { op, inverts, tests } => {
                let operand = match operand {
                    Operand::Imm(imm) if inverts => Operand::Imm(!imm),
                    Operand::Rm(_) if inverts => {
                        self.take(operand, Reg::RCX);
                        self.a.not(Size::D, Reg::RCX);
                        Operand::Rm(Reg::RCX.into())
                    }
                    operand => operand,
                };
                let t = if tests { Reg::RAX } else { self.result(item.rd, Reg::RAX) };
                if tests && op == Alu::And {
                    let n = self.held(item.rn, Reg::RAX);
                    match operand {
                        Operand::Imm(imm) => self.a.test_imm(Size::D, n, imm),
                        Operand::Rm(rm) => self.a.test(Size::D, rm, n),
                    }
                } else if matches!(operand, Operand::Rm(rm) if rm == t.into()) {
                    // The operand is the destination. Both have the same part in the operation.
                    let n = self.held(item.rn, Reg::RAX);
                    self.a.alu(op, Size::D, t, n);
                } else {
                    self.fetch(item.rn, t);
                    self.apply(op, Size::D, t, operand);
                }
                if !tests {
                    self.put(item.rd, t);
                }
                if sets {
                    self.set_logical(item, form);
                }
            }
            Operation::Move { .. } => {
                self.take(operand, Reg::RAX);
                self.a.not(Size::D, Reg::RAX);
                self.put(item.rd, Reg::RAX);
                if sets {
                    self.a.test(Size::D, Reg::RAX, Reg::RAX);
                    self.set_logical(item, form);
                }
            }
        }
    }

    /// Records that a logical operation has left N and Z in EFLAGS, with CF clear.
    fn set_logical(&mut self, item: &Instruction, form: Form) {
        // Some immediates are also the carry.
        let immediate = form == Form::Immediate && item.extra == 1;
        if immediate && item.imm >> 31 == 1 && self.live_groups[1] {
            self.a.stc();
        }
        self.set_some_flags(immediate);
    }

    /// As [`Translator::second_operand`], for a logical operation whose flags are read: the carry out of the
    /// shifter goes to the slot of the flags, unless it is a constant.
    fn operand_and_carry(&mut self, item: &Instruction, form: Form) -> Operand {
        match form {
            Form::Immediate | Form::Plain => self.second_operand(item, form),
            Form::Shifted => {
                match (item.extra, item.imm as u8) {
                    (RRX, _) => self.rotate_with_carry(item),
                    (kind, amount @ 1..=31) => {
                        self.fetch(item.rm, Reg::RDX);
                        let shift = [Shift::Shl, Shift::Shr, Shift::Sar, Shift::Ror][(kind & 3) as usize];
                        self.a.shift_imm(shift, Size::D, Reg::RDX, amount);
                    }
                    // LSR and ASR by 32: the carry is the sign.
                    (kind, _) => {
                        self.fetch(item.rm, Reg::RDX);
                        if kind == 1 {
                            self.a.alu(Alu::Add, Size::D, Reg::RDX, Reg::RDX);
                            self.a.mov_imm(Reg::RDX, 0);
                        } else {
                            self.a.shift_imm(Shift::Sar, Size::D, Reg::RDX, 31);
                            // Bit 0 is the sign, too.
                            self.a.bit_test(Size::D, Reg::RDX, 0);
                        }
                    }
                }
                self.a.set(Cc::Ae, Reg::RCX);
                self.store_carry(Reg::RCX);
                Operand::Rm(Reg::RDX.into())
            }
            Form::ShiftedByRegister => self.shifted_by_register(item),
        }
    }

    /// `rdx` = a register shifted by a register, with the carry in the slot of the flags. An amount of 0
    /// keeps the carry.
    ///
    /// ```text
    /// rdx = value, or value << 32 to the right
    /// rdx = rdx shifted by min(amount, 33), 64 bits
    /// carry = bit 32 of rdx, or bit 31 to the right; rdx = the low half, or the high half to the right
    /// ```
    fn shifted_by_register(&mut self, item: &Instruction) -> Operand {
        let left = item.extra == LSL;
        self.fetch(item.ra, Reg::RCX);
        self.fetch(item.rm, Reg::RDX);
        self.a.movzx8(Reg::RCX, Reg::RCX);
        self.a.test(Size::D, Reg::RCX, Reg::RCX);
        let none = self.a.skip_if(Cc::E);
        if item.extra == ROR {
            // The carry is the highest bit of the result.
            self.a.shift_cl(Shift::Ror, Size::D, Reg::RDX);
            self.a.mov(Size::D, Reg::RAX, Reg::RDX);
            self.a.not(Size::D, Reg::RAX);
            self.a.shift_imm(Shift::Shr, Size::D, Reg::RAX, 31);
            self.store_carry(Reg::RAX);
            self.a.land(none);
            return Operand::Rm(Reg::RDX.into());
        }
        // To the right by 33 of a negative number, the sign is the carry, too.
        self.a.mov_imm(Reg::RAX, 33);
        self.a.alu(Alu::Cmp, Size::D, Reg::RCX, Reg::RAX);
        self.a.cmov(Cc::A, Size::D, Reg::RCX, Reg::RAX);
        if left {
            self.a.shift_cl(Shift::Shl, Size::Q, Reg::RDX);
            self.a.mov(Size::Q, Reg::RAX, Reg::RDX);
            self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 32);
            self.a.mov(Size::D, Reg::RDX, Reg::RDX);
        } else {
            let shift = if item.extra == 1 { Shift::Shr } else { Shift::Sar };
            self.a.shift_imm(Shift::Shl, Size::Q, Reg::RDX, 32);
            self.a.shift_cl(shift, Size::Q, Reg::RDX);
            self.a.mov(Size::Q, Reg::RAX, Reg::RDX);
            self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 31);
            self.a.shift_imm(Shift::Shr, Size::Q, Reg::RDX, 32);
        }
        // The slot has the complement of the carry.
        self.a.alu_imm(Alu::And, Size::D, Reg::RAX, 1);
        self.a.alu_imm(Alu::Xor, Size::D, Reg::RAX, 1);
        self.store_carry(Reg::RAX);
        self.a.land(none);
        Operand::Rm(Reg::RDX.into())
    }

    /// `rdx` = a register and the carry, shifted right by one bit (RRX), with what is shifted out in CF. The
    /// carry is in the slot of the flags.
    fn rotate_with_carry(&mut self, item: &Instruction) {
        self.a.movzx8(Reg::RCX, slot(Slot::Flags).plus(1));
        // The slot has the complement of the carry.
        self.a.not(Size::D, Reg::RCX);
        self.fetch(item.rm, Reg::RDX);
        self.a.shrd(Size::D, Reg::RDX, Reg::RCX, 1);
    }

    /// MOV and the shifts.
    fn move_operand(&mut self, item: &Instruction, sets: bool, form: Form) {
        if !sets && form == Form::Immediate && item.rn == NO_BASE {
            return self.put_address(item.rd, item.imm.into());
        }
        if !sets && form == Form::Immediate {
            return self.put_constant(item.rd, item.imm.into());
        }
        if !sets && form == Form::Plain {
            let t = match self.general_host(item.rm) {
                Some(host) if item.rm != PC => host,
                _ => self.result(item.rd, Reg::RAX),
            };
            self.fetch(item.rm, t);
            return self.put(item.rd, t);
        }
        if !sets && form == Form::Shifted && item.extra <= ROR {
            return self.shift(item);
        }
        if !sets && form == Form::ShiftedByRegister && item.extra < ROR {
            return self.shift_by_low_byte(item);
        }
        self.clobber();
        let by_host = form == Form::Shifted && item.extra < ROR && item.imm < 32;
        let operand = if sets && !by_host && self.live_groups[1] {
            self.operand_and_carry(item, form)
        } else {
            self.second_operand(item, form)
        };
        let t = match operand {
            // Shifts leave their result there.
            Operand::Rm(rm) if rm == Reg::RDX.into() => Reg::RDX,
            operand => {
                self.take(operand, Reg::RAX);
                Reg::RAX
            }
        };
        self.put(item.rd, t);
        if !sets {
            return;
        }
        if by_host {
            // The host's shift left SF, ZF and CF as Arm's does; moves keep them.
            self.set_some_flags(true);
        } else {
            self.a.test(Size::D, t, t);
            self.set_logical(item, form);
        }
    }

    /// UBFX, SBFX.
    fn extract(&mut self, item: &Instruction, signed: bool) {
        let t = self.result(item.rd, Reg::RAX);
        let (width, above) = (item.extra, 32 - item.imm - item.extra);
        let right = if signed { Shift::Sar } else { Shift::Shr };
        if self.live_before && !self.flags.saved() {
            // SHLX and its kin keep EFLAGS.
            let mut from = self.held(item.rn, Reg::RAX);
            for (shift, amount) in [(Shift::Shl, above), (right, 32 - width)] {
                if amount != 0 {
                    self.a.mov_imm(Reg::RCX, amount.into());
                    self.a.shiftx(shift, Size::D, t, from, Reg::RCX);
                    from = t;
                }
            }
            if from != t {
                self.a.mov(Size::D, t, from);
            }
        } else {
            self.clobber();
            self.fetch(item.rn, t);
            if !signed && item.imm == 0 {
                self.a.alu_imm(Alu::And, Size::D, t, (u32::MAX >> (32 - width)) as i32);
            } else {
                if above != 0 {
                    self.a.shift_imm(Shift::Shl, Size::D, t, above as u8);
                }
                self.a.shift_imm(right, Size::D, t, (32 - width) as u8);
            }
        }
        self.put(item.rd, t);
    }

    /// A shift by an immediate, without flags.
    fn shift(&mut self, item: &Instruction) {
        let t = self.result(item.rd, Reg::RAX);
        let (kind, amount) = (item.extra, item.imm as u8);
        let shift = [Shift::Shl, Shift::Shr, Shift::Sar, Shift::Ror][(kind & 3) as usize];
        if kind == ROR {
            let m = self.held(item.rm, Reg::RAX);
            self.a.rorx(Size::D, t, m, amount);
        } else if amount > 31 && shift == Shift::Shr {
            self.a.mov_imm(t, 0);
        } else if self.live_before && !self.flags.saved() {
            // SHLX and its kin keep EFLAGS.
            let m = self.held(item.rm, Reg::RAX);
            self.a.mov_imm(Reg::RCX, amount.min(31).into());
            self.a.shiftx(shift, Size::D, t, m, Reg::RCX);
        } else {
            self.clobber();
            self.fetch(item.rm, t);
            self.a.shift_imm(shift, Size::D, t, amount.min(31));
        }
        self.put(item.rd, t);
    }

    /// A shift by a register, without flags. Amounts from 32 on leave zero, or the sign, as shifts of 64 bits
    /// do, if the amount is at most 63.
    fn shift_by_low_byte(&mut self, item: &Instruction) {
        self.clobber();
        self.a.movzx8(Reg::RCX, self.rm(item.ra));
        self.a.alu_imm(Alu::Cmp, Size::D, Reg::RCX, 63);
        let usual = self.a.skip_if(Cc::Be);
        self.a.mov_imm(Reg::RCX, 63);
        self.a.land(usual);
        let t = self.result(item.rd, Reg::RAX);
        let m = self.held(item.rm, Reg::RAX);
        match item.extra {
            LSL => {
                self.a.shiftx(Shift::Shl, Size::Q, t, m, Reg::RCX);
                self.a.mov(Size::D, t, t);
            }
            1 => self.a.shiftx(Shift::Shr, Size::Q, t, m, Reg::RCX),
            _ => {
                self.a.movsxd(Reg::RAX, m);
                self.a.shiftx(Shift::Sar, Size::Q, Reg::RAX, Reg::RAX, Reg::RCX);
                self.a.mov(Size::D, t, Reg::RAX);
            }
        }
        self.put(item.rd, t);
    }

    /// The register for [`Translator::arithmetic`]: PC's value goes to rdx and its slot.
    fn place_of(&mut self, guest: u8) -> u8 {
        if guest == PC {
            self.fetch(PC, Reg::RAX);
            self.put(PC, Reg::RAX);
        }
        guest
    }

    /// `reg = operand`. Keeps EFLAGS.
    fn take(&mut self, operand: Operand, reg: Reg) {
        match operand {
            Operand::Imm(imm) => self.a.mov_imm(reg, u64::from(imm as u32)),
            Operand::Rm(rm) => {
                if rm != reg.into() {
                    self.a.mov(Size::D, reg, rm);
                }
            }
        }
    }

    /// The second operand: an immediate, a register, or a shifted register in rdx. Shifts change EFLAGS, but
    /// a rotation does not.
    fn second_operand(&mut self, item: &Instruction, form: Form) -> Operand {
        let kind = item.extra;
        match form {
            Form::Immediate => Operand::Imm(item.imm as i32),
            Form::Plain if item.rm == PC => {
                self.fetch(PC, Reg::RDX);
                Operand::Rm(Reg::RDX.into())
            }
            Form::Plain => Operand::Rm(self.rm(item.rm)),
            Form::Shifted if kind == RRX => {
                self.rotate_with_carry(item);
                Operand::Rm(Reg::RDX.into())
            }
            Form::Shifted => {
                self.fetch(item.rm, Reg::RDX);
                let amount = item.imm as u8;
                let shift = [Shift::Shl, Shift::Shr, Shift::Sar, Shift::Ror][(kind & 3) as usize];
                match amount {
                    1..=31 if kind == ROR => self.a.rorx(Size::D, Reg::RDX, Reg::RDX, amount),
                    // Flags in EFLAGS are read behind the shift: SHLX and its kin keep them.
                    1..=31 if self.flags != Flags::Memory => {
                        self.a.mov_imm(Reg::RCX, amount.into());
                        self.a.shiftx(shift, Size::D, Reg::RDX, Reg::RDX, Reg::RCX);
                    }
                    1..=31 => self.a.shift_imm(shift, Size::D, Reg::RDX, amount),
                    _ if kind == 1 => self.a.mov_imm(Reg::RDX, 0),
                    _ => self.a.shift_imm(shift, Size::D, Reg::RDX, 31),
                }
                Operand::Rm(Reg::RDX.into())
            }
            Form::ShiftedByRegister => {
                self.fetch(item.ra, Reg::RCX);
                self.fetch(item.rm, Reg::RDX);
                match kind {
                    ROR => self.a.shift_cl(Shift::Ror, Size::D, Reg::RDX),
                    // Amounts of 32 to 255 leave zero, or the sign.
                    LSL | 1 => {
                        // 63 at most: see `shift_by_low_byte`.
                        self.a.movzx8(Reg::RCX, Reg::RCX);
                        self.a.alu_imm(Alu::Cmp, Size::D, Reg::RCX, 63);
                        let usual = self.a.skip_if(Cc::Be);
                        self.a.mov_imm(Reg::RCX, 63);
                        self.a.land(usual);
                        let shift = if kind == LSL { Shift::Shl } else { Shift::Shr };
                        self.a.shiftx(shift, Size::Q, Reg::RDX, Reg::RDX, Reg::RCX);
                        self.a.mov(Size::D, Reg::RDX, Reg::RDX);
                    }
                    _ => {
                        self.a.movzx8(Reg::RCX, Reg::RCX);
                        self.a.movsxd(Reg::RDX, Reg::RDX);
                        // 63 at most.
                        self.a.alu_imm(Alu::Cmp, Size::D, Reg::RCX, 31);
                        let small = self.a.skip_if(Cc::Be);
                        self.a.mov_imm(Reg::RCX, 31);
                        self.a.land(small);
                        self.a.shift_cl(Shift::Sar, Size::D, Reg::RDX);
                    }
                }
                Operand::Rm(Reg::RDX.into())
            }
        }
    }
}
