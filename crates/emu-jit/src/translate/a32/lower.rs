//! How the instructions of A32 and T32 that are no branches are lowered, and what their conditions do.

use super::float::changes_float_flags;
use super::isa::{call_end, leaves_on_condition, read_flags, written_flags};
use super::kind::Kind;
use super::select::is_selected;
use super::{ALWAYS, Translator, is_write_fpscr};
use crate::translate::condition::{Condition, Flags};
use crate::translate::{FAULTS, Isa};
use crossdock_emu_guest::a32::action::{Action, Form, Transfer};
use crossdock_emu_guest::a32::{A32, Instruction};

/// Most instructions behind one condition: as many as an IT block has, and as plans look ahead.
const CONDITIONAL_MAX: usize = 4;

/// Most instructions behind one condition that are computed in any case.
const SELECTED_MAX: usize = 2;

/// Whether the code of an instruction may leave it to the interpreter with flags that were not saved. Plain
/// loads and stores keep EFLAGS, and their marks say how these hold the flags.
fn may_be_interpreted(instruction: &Instruction, kind: &Kind) -> bool {
    match kind {
        Kind::Float(arithmetic) => arithmetic.computes(),
        Kind::Vector(_) | Kind::Transfer(_) => true,
        Kind::General => {
            let plain = matches!(
                instruction.action,
                Action::Access { register: false, .. } | Action::Multiple { .. }
            );
            A32::class(instruction).has(FAULTS) && !plain
        }
    }
}

/// Whether the code of an instruction that writes no flags surely leaves EFLAGS as they are.
fn keeps_host_flags(instruction: &Instruction, kind: &Kind) -> bool {
    match kind {
        Kind::Float(arithmetic) => arithmetic.keeps_host_flags(),
        Kind::Vector(_) | Kind::Transfer(_) => false,
        Kind::General => match instruction.action {
            Action::Nop => true,
            // SUB, ADD and MOV, by LEA and MOV.
            Action::Data { operation: 2 | 4 | 13, sets: false, form: Form::Immediate } => true,
            Action::Data { operation: 4 | 13, sets: false, form: Form::Plain } => true,
            Action::Access { transfer, register: false, .. } => {
                matches!(transfer, Transfer::Load(_) | Transfer::LoadSigned(_) | Transfer::Store(_))
            }
            _ => false,
        },
    }
}

impl Translator<'_> {
    /// Lowers the current instruction, which is no branch.
    pub(super) fn instruction(&mut self) -> usize {
        let instruction = self.items[0];
        let float = Kind::of(instruction.word);
        // Instructions that are not looked at may access memory.
        let fenced = self.fenced;
        self.fenced &= A32::is_barrier(&instruction);
        if changes_float_flags(instruction.word) {
            self.compared = None;
        }
        if leaves_on_condition(&instruction) {
            match call_end(&instruction) {
                Some(call) => self.call_on_condition(&instruction, call),
                None => self.leave_on_condition(&instruction),
            }
            return 1;
        }
        if let Kind::Vector(vector) = &float {
            self.join_operands(vector);
        }
        if !self.has_lowering(&instruction, &float) {
            // The interpreter looks at the condition itself.
            self.fallback();
            if is_write_fpscr(instruction.word) {
                self.leave_inside_it(&instruction);
            }
            return 1;
        }
        if instruction.condition >= ALWAYS {
            let done = self.lower_kind(&instruction, &float);
            if !A32::is_barrier(&instruction) {
                self.fenced = A32::fences(&instruction) || fenced && A32::computes(&instruction);
            }
            return done;
        }
        let count = self.count_conditional(&instruction, &float);
        if count <= SELECTED_MAX && self.items[..count].iter().all(is_selected) {
            match self.condition(instruction.condition.into()) {
                Condition::Always => self.lower_action(&instruction),
                condition => self.choose(&instruction, condition),
            }
            return 1;
        }
        // What holds behind the instruction must hold whether it runs or not.
        match &float {
            Kind::Float(arithmetic) if arithmetic.computes() => self.need_fpscr_modes(),
            Kind::Vector(vector) if vector.computes() => self.need_standard_modes(),
            _ => {}
        }
        let (modes, aligned) = (self.modes, self.aligned);
        let after = self.live_behind.map(|live| live >> (self.behind + 1 - count) & 1 == 1);
        // The interpreter looks at the condition again, if it runs an instruction, as after a fault.
        let looks = self.items[..count].iter().enumerate().any(|(i, item)| {
            let kind = Kind::of(item.word);
            let faults = i > 0 && A32::class(item).has(FAULTS);
            faults || read_flags(item, &kind) != 0 || may_be_interpreted(item, &kind)
        });
        let keeps = self.items[..count].iter().all(|item| keeps_host_flags(item, &Kind::of(item.word)));
        if looks || after.contains(&true) && !keeps {
            self.save_flags();
        }
        let skip = self.a.label();
        match self.condition(instruction.condition.into()) {
            Condition::Always => {}
            condition => self.jump_on(condition.not(), skip),
        }
        // From here on the flags are in memory, if they are read behind the instruction, or stay where they
        // are.
        (self.live, self.live_groups) = (after.contains(&true), after);
        (self.live_before, self.live_groups_before) = (self.live, self.live_groups);
        let before = self.flags;
        let mut done = self.lower_kind(&instruction, &float);
        for _ in 1..count {
            self.items = &self.items[1..];
            let next = self.items[0];
            (self.pc, self.next) = (next.place, next.place.wrapping_add(A32::item_length(&next)));
            self.lower_action(&next);
            done += 1;
        }
        if written_flags(&instruction, &float) != 0 && self.live {
            self.save_flags();
        }
        // On both ways EFLAGS may hold the flags in the same form.
        debug_assert!(self.flags == before || !keeps, "{:#x} keeps EFLAGS", instruction.word);
        if self.flags != before {
            self.flags = Flags::Memory;
        }
        self.a.bind(skip);
        self.modes = modes;
        self.aligned &= aligned;
        done
    }

    /// How many instructions from the current one on have its condition, which none of them changes: one jump
    /// leads over them all.
    fn count_conditional(&self, first: &Instruction, kind: &Kind) -> usize {
        if !matches!(kind, Kind::General) || written_flags(first, kind) != 0 {
            return 1;
        }
        let is_alike = |item: &&Instruction| {
            let kind = Kind::of(item.word);
            let keeps = matches!(kind, Kind::General) && written_flags(item, &kind) == 0;
            keeps && item.condition == first.condition && !item.ends && self.has_lowering(item, &kind)
        };
        self.items.iter().take(CONDITIONAL_MAX).take_while(is_alike).count().max(1)
    }

    /// Whether there is a lowering for the instruction as it stands here.
    fn has_lowering(&self, instruction: &Instruction, float: &Kind) -> bool {
        match float {
            Kind::Float(arithmetic) => self.can_compute(arithmetic),
            Kind::Vector(_) | Kind::Transfer(_) => true,
            Kind::General => instruction.action != Action::Other && self.can_lower(instruction),
        }
    }

    fn lower_kind(&mut self, instruction: &Instruction, float: &Kind) -> usize {
        match float {
            Kind::Float(arithmetic) => {
                self.alone = self.computes_single_alone(instruction, arithmetic);
                let done = self.arithmetic_float(instruction, arithmetic);
                self.alone = false;
                return done;
            }
            Kind::Vector(vector) => return self.vector(vector),
            Kind::Transfer(transfer) => {
                let (transfer, count) = self.joined(transfer);
                let single = transfer.loaded_single();
                self.alone = single.is_some_and(|n| self.writes_alone(instruction, n, [None; 3]));
                self.transfer_vectors(&transfer);
                self.alone = false;
                return count;
            }
            Kind::General if self.wide_constant() => return 2,
            Kind::General => self.lower_action(instruction),
        }
        1
    }

    fn lower_action(&mut self, instruction: &Instruction) {
        match instruction.action {
            Action::Access { .. } => self.access(instruction),
            Action::Multiple { .. } => self.multiple(instruction),
            Action::Nop => {}
            Action::Barrier => self.barrier(),
            Action::LoadExclusive { size } => self.load_exclusive(instruction, size),
            Action::StoreExclusive { size } => self.store_exclusive(instruction, size),
            _ => self.data(instruction),
        }
    }
}
