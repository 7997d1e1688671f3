//! The dispatcher: runs decoded blocks.

use super::code::{Code, Invalidations};
use super::{Exit, Flow, Host, Leave, State, decode};
use core::sync::atomic::{AtomicU32, Ordering};

/// Runs the instructions of one guest thread.
pub struct Interpreter<'log> {
    code: Code,
    log: &'log Invalidations,
}

impl<'log> Interpreter<'log> {
    /// An interpreter without decoded code, for a thread of the process that `log` belongs to.
    pub fn new(log: &'log Invalidations) -> Self {
        Interpreter { code: Code::new(log), log }
    }

    /// Runs until something is for the caller to do, and returns what.
    ///
    /// `interrupt` is read before every block (at most 128 instructions); while it is not zero, `run` returns
    /// [`Exit::Interrupted`] at once. A signal handler may set it. `budget` is the number of instructions after
    /// which `run` returns, give or take a block.
    pub fn run(&mut self, state: &mut State, host: &Host, interrupt: &AtomicU32, budget: u64) -> Exit {
        let mut left = budget;
        let mut current = u32::MAX;
        loop {
            if interrupt.load(Ordering::Relaxed) != 0 {
                return Exit::Interrupted;
            }
            if left == 0 {
                return Exit::Budget;
            }
            if self.code.catch_up(self.log) {
                current = u32::MAX;
            }
            if state.pc & 3 != 0 {
                return Exit::UnalignedPc;
            }
            current = match self.code.follow(current, state.pc, host) {
                Ok(block) => block,
                Err(fault) => return Exit::Fault(fault),
            };
            let Some(block) = self.code.block(current) else { continue };
            let ops = self.code.ops(block);
            left = left.saturating_sub(ops.len() as u64);
            if let Some(exit) = run_block(state, host, block.pc, ops) {
                return exit;
            }
        }
    }

    /// Runs blocks until one has been run `threshold` times, for a caller that then has something faster for it:
    /// returns `None` before such a block, and before each block that is new if `announce` is set. Otherwise as
    /// [`Interpreter::run`].
    pub fn run_cold(
        &mut self,
        state: &mut State,
        host: &Host,
        interrupt: &AtomicU32,
        threshold: u32,
        announce: bool,
    ) -> Option<Exit> {
        let mut current = u32::MAX;
        loop {
            if interrupt.load(Ordering::Relaxed) != 0 {
                return Some(Exit::Interrupted);
            }
            if self.code.catch_up(self.log) {
                current = u32::MAX;
            }
            if state.pc & 3 != 0 {
                return Some(Exit::UnalignedPc);
            }
            current = match self.code.follow(current, state.pc, host) {
                Ok(block) => block,
                Err(fault) => return Some(Exit::Fault(fault)),
            };
            let Some(block) = self.code.block(current) else { continue };
            let heat = block.heat.get();
            if heat >= threshold {
                return None;
            }
            block.heat.set(heat + 1);
            if heat == 0 && announce {
                return None;
            }
            if let Some(exit) = run_block(state, host, block.pc, self.code.ops(block)) {
                return Some(exit);
            }
        }
    }

    /// How often [`Interpreter::run_cold`] has met the block at `pc`; 0 where it never did.
    pub fn heat(&self, pc: u64) -> u32 {
        self.code.heat(pc).map_or(0, core::cell::Cell::get)
    }

    /// Makes the block at `pc`, if it is known, as hot as `heat`.
    pub fn set_heat(&self, pc: u64, heat: u32) {
        if let Some(known) = self.code.heat(pc) {
            known.set(heat);
        }
    }

    /// Runs one instruction. Returns [`Exit::Budget`] where nothing is for the caller to do.
    ///
    /// Decodes afresh, so it needs no invalidation.
    pub fn step(&mut self, state: &mut State, host: &Host) -> Exit {
        if state.pc & 3 != 0 {
            return Exit::UnalignedPc;
        }
        let word = match host.memory.fetch(state.pc) {
            Ok(word) => word,
            Err(fault) => return Exit::Fault(fault),
        };
        let (op, _) = decode::decode(word, state.pc);
        run_block(state, host, state.pc, &[op]).unwrap_or(Exit::Budget)
    }
}

#[inline(always)]
fn run_block(state: &mut State, host: &Host, start: u64, ops: &[super::Op]) -> Option<Exit> {
    let mut pc = start;
    for op in ops {
        // Stored before each instruction, so that a fault finds it.
        state.pc = pc;
        match (op.run)(state, host, op) {
            Ok(Flow::Next) => pc = pc.wrapping_add(4),
            Ok(Flow::Jump) => return None,
            Err(Leave) => return Some(state.exit),
        }
    }
    state.pc = pc;
    None
}
