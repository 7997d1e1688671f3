//! Data processing, multiplication, extension and bit fields (manual F4.1.2, F4.1.5).

use super::{PC, Translator};
use crate::translate::alu::Operand;
use crate::translate::condition::Flags;
use crate::translate::operands::SINK;
use crossdock_emu_guest::a32::Instruction;
use crossdock_emu_guest::a32::action::{Action, Form};
use crossdock_emu_x64::{Alu, Reg, Shift, Size};

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
    WithCarry { subtracts: bool },
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
        5 => Operation::WithCarry { subtracts: false },
        6 => Operation::WithCarry { subtracts: true },
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
    /// Whether there is a lowering for the instruction as it stands here: some have none if their flags are
    /// read.
    pub(super) fn can_lower(&self, item: &Instruction) -> bool {
        match item.action {
            Action::Data { operation: number, sets, form } => {
                let sets = sets && self.live;
                let by_carry = form == Form::Shifted && item.extra == RRX;
                let shifts = form == Form::Shifted || form == Form::ShiftedByRegister;
                let Some(kind) = operation(number) else { return false };
                let logical = matches!(kind, Operation::Logical { .. } | Operation::Move { .. });
                // The carry of the shifter: only of a shifted MOV it is in the host's flags.
                let by_immediate = form == Form::Shifted && (1..=31).contains(&item.imm) && item.extra != ROR;
                let moves = matches!(kind, Operation::Move { inverts: false }) && by_immediate;
                let carries = shifts || form == Form::Immediate && item.extra == 1;
                !by_carry
                    && item.jump == crossdock_emu_guest::a32::Jump::No
                    && !(sets && logical && carries && !moves)
            }
            Action::Multiply { sets, .. } => !(sets && self.live),
            Action::Access { register, .. } => !(register && item.extra & 7 == RRX),
            _ => true,
        }
    }

    pub(super) fn data(&mut self, item: &Instruction) {
        match item.action {
            Action::Data { operation: number, sets, form } => {
                self.operate(item, number, sets && self.live, form);
            }
            Action::MoveTop => {
                self.clobber();
                self.fetch(item.rd, Reg::RAX);
                self.a.alu_imm(Alu::And, Size::D, Reg::RAX, 0xffff);
                self.a.alu_imm(Alu::Or, Size::D, Reg::RAX, (item.imm << 16) as i32);
                self.put(item.rd, Reg::RAX);
            }
            Action::Multiply { kind, .. } => {
                self.clobber();
                self.fetch(item.rn, Reg::RAX);
                self.a.imul(Size::D, Reg::RAX, self.rm(item.rm));
                match kind {
                    1 => self.a.alu(Alu::Add, Size::D, Reg::RAX, self.rm(item.ra)),
                    2 => {
                        self.a.neg(Size::D, Reg::RAX);
                        self.a.alu(Alu::Add, Size::D, Reg::RAX, self.rm(item.ra));
                    }
                    _ => {}
                }
                self.put(item.rd, Reg::RAX);
            }
            Action::MultiplyLong { signed, adds } => {
                self.clobber();
                let source = |t: &mut Self, guest, reg| {
                    if signed { t.a.movsxd(reg, t.rm(guest)) } else { t.a.mov(Size::D, reg, t.rm(guest)) }
                };
                source(self, item.rn, Reg::RAX);
                source(self, item.rm, Reg::RCX);
                self.a.imul(Size::Q, Reg::RAX, Reg::RCX);
                if adds {
                    self.a.mov(Size::D, Reg::RCX, self.rm(item.ra));
                    self.a.shift_imm(Shift::Shl, Size::Q, Reg::RCX, 32);
                    self.a.mov(Size::D, Reg::RDX, self.rm(item.rd));
                    self.a.alu(Alu::Or, Size::Q, Reg::RCX, Reg::RDX);
                    self.a.alu(Alu::Add, Size::Q, Reg::RAX, Reg::RCX);
                }
                self.a.mov(Size::D, Reg::RCX, Reg::RAX);
                self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 32);
                self.put(item.rd, Reg::RCX);
                self.put(item.ra, Reg::RAX);
            }
            Action::Extend { adds } => self.extend(item, adds),
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
            Action::Extract { signed } => {
                self.clobber();
                self.fetch(item.rn, Reg::RAX);
                let above = 32 - item.imm - item.extra;
                self.a.shift_imm(Shift::Shl, Size::D, Reg::RAX, above as u8);
                let shift = if signed { Shift::Sar } else { Shift::Shr };
                self.a.shift_imm(shift, Size::D, Reg::RAX, (32 - item.extra) as u8);
                self.put(item.rd, Reg::RAX);
            }
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
            _ => {}
        }
    }

    /// SXTB and its kin, except for the forms of two bytes.
    fn extend(&mut self, item: &Instruction, adds: bool) {
        let form = item.imm;
        let rotation = 8 * (form & 3) as u8;
        let (signed, half, two) = (form & 8 != 0, form & 16 != 0, form & 32 != 0);
        if two {
            return self.fallback();
        }
        self.fetch(item.rm, Reg::RAX);
        if rotation != 0 {
            self.a.rorx(Size::D, Reg::RAX, Reg::RAX, rotation);
        }
        match (half, signed) {
            (true, true) => self.a.movsx16(Size::D, Reg::RAX, Reg::RAX),
            (true, false) => self.a.movzx16(Reg::RAX, Reg::RAX),
            (false, true) => self.a.movsx8(Size::D, Reg::RAX, Reg::RAX),
            (false, false) => self.a.movzx8(Reg::RAX, Reg::RAX),
        }
        if adds {
            let n = self.held(item.rn, Reg::RCX);
            self.a.lea(
                Size::D,
                Reg::RAX,
                crossdock_emu_x64::Mem { base: n, index: Some((Reg::RAX, 0)), disp: 0 },
            );
        }
        self.put(item.rd, Reg::RAX);
    }

    /// Data processing with flags that are read if `sets`.
    fn operate(&mut self, item: &Instruction, number: u8, sets: bool, form: Form) {
        let Some(kind) = operation(number) else { return };
        if let Operation::Move { inverts: false } = kind {
            return self.move_operand(item, sets, form);
        }
        let carries = matches!(kind, Operation::WithCarry { .. });
        if carries {
            if !sets && self.live {
                self.save_flags();
            }
            // Shifts change the carry, so the operand comes first, with the flags saved.
            if form != Form::Immediate && form != Form::Plain {
                self.save_flags();
                self.flags = Flags::Memory;
            }
        } else if !sets || matches!(kind, Operation::Logical { .. } | Operation::Move { .. }) {
            self.clobber();
        } else if form != Form::Immediate && form != Form::Plain {
            // The flags from before are not read any more.
            self.clobber();
        }
        let operand = self.second_operand(item, form);
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
            Operation::WithCarry { subtracts } => {
                self.load_carry(subtracts);
                // Loading the carry may have changed rax and rcx.
                let operand = match form {
                    Form::Immediate | Form::Plain => self.second_operand(item, form),
                    _ => Operand::Rm(Reg::RDX.into()),
                };
                self.fetch(item.rn, Reg::RAX);
                self.apply(if subtracts { Alu::Sbb } else { Alu::Adc }, Size::D, Reg::RAX, operand);
                self.put(item.rd, Reg::RAX);
                if sets {
                    self.set_flags(subtracts);
                } else {
                    self.flags = Flags::Memory;
                }
            }
            Operation::Logical { op, inverts, tests } => {
                self.take(operand, Reg::RCX);
                if inverts {
                    self.a.not(Size::D, Reg::RCX);
                }
                self.fetch(item.rn, Reg::RAX);
                self.a.alu(op, Size::D, Reg::RAX, Reg::RCX);
                if !tests {
                    self.put(item.rd, Reg::RAX);
                }
                if sets {
                    self.flags = Flags::Logical { carry: false };
                }
            }
            Operation::Move { .. } => {
                self.take(operand, Reg::RAX);
                self.a.not(Size::D, Reg::RAX);
                self.put(item.rd, Reg::RAX);
                if sets {
                    self.a.test(Size::D, Reg::RAX, Reg::RAX);
                    self.flags = Flags::Logical { carry: false };
                }
            }
        }
    }

    /// MOV and the shifts.
    fn move_operand(&mut self, item: &Instruction, sets: bool, form: Form) {
        if !sets && form == Form::Immediate {
            return self.put_constant(item.rd, item.imm.into());
        }
        if !sets && form == Form::Plain {
            self.fetch(item.rm, Reg::RAX);
            return self.put(item.rd, Reg::RAX);
        }
        self.clobber();
        let operand = self.second_operand(item, form);
        self.take(operand, Reg::RAX);
        self.put(item.rd, Reg::RAX);
        if !sets {
            return;
        }
        if form == Form::Shifted {
            // The host's shift left SF, ZF and CF as Arm's does; moves keep them.
            self.flags = Flags::Logical { carry: true };
        } else {
            self.a.test(Size::D, Reg::RAX, Reg::RAX);
            self.flags = Flags::Logical { carry: false };
        }
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
            Form::Shifted => {
                self.fetch(item.rm, Reg::RDX);
                let amount = item.imm as u8;
                let shift = [Shift::Shl, Shift::Shr, Shift::Sar, Shift::Ror][(kind & 3) as usize];
                match amount {
                    1..=31 if kind == ROR => self.a.rorx(Size::D, Reg::RDX, Reg::RDX, amount),
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
                        let shift = if kind == LSL { Shift::Shl } else { Shift::Shr };
                        self.a.shift_cl(shift, Size::D, Reg::RDX);
                        self.a.movzx8(Reg::RCX, Reg::RCX);
                        self.a.alu_imm(Alu::Cmp, Size::D, Reg::RCX, 32);
                        // All ones if the amount is below 32.
                        self.a.alu(Alu::Sbb, Size::D, Reg::RCX, Reg::RCX);
                        self.a.alu(Alu::And, Size::D, Reg::RDX, Reg::RCX);
                    }
                    _ => {
                        self.a.movzx8(Reg::RCX, Reg::RCX);
                        self.a.movsxd(Reg::RDX, Reg::RDX);
                        // 63 at most.
                        self.a.alu_imm(Alu::Cmp, Size::D, Reg::RCX, 31);
                        let small = self.a.skip_if(crossdock_emu_x64::Cc::Be);
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
