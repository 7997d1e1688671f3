//! The dispatcher: runs decoded blocks.

use crate::blocks::{Code, TRANSLATED};
use crate::changes::Invalidations;
use crate::exit::Exit;
use crate::guest::{Guest, Words};
use crate::op::{Host, Op};
use crate::state::State;
use core::sync::atomic::{AtomicU32, Ordering};

/// Runs the instructions of one guest thread.
pub struct Interpreter<'log, G> {
    code: Code<G>,
    log: &'log Invalidations,
    /// The block that [`Interpreter::run_cold`] ran last, from which it finds the next. A wrong number does
    /// no harm.
    last: u32,
    /// The block before which [`Interpreter::run_cold`] returned.
    next: u32,
}

/// No block.
const NO_BLOCK: u32 = u32::MAX;

impl<'log, G: Guest> Interpreter<'log, G> {
    /// What [`Interpreter::heat`] returns for a block that has been translated.
    pub const TRANSLATED: u32 = TRANSLATED;

    /// An interpreter without decoded code, for a thread of the process that `log` belongs to.
    pub fn new(log: &'log Invalidations) -> Self {
        Interpreter { code: Code::new(log), log, last: NO_BLOCK, next: NO_BLOCK }
    }

    /// Runs until the caller has something to do, and returns what that is.
    ///
    /// `interrupt` is read before every block (at most 128 instructions); while it is not zero, `run` returns
    /// [`Exit::Interrupted`] at once. A signal handler may set it. `budget` is the number of instructions
    /// after which `run` returns, give or take a block.
    pub fn run(&mut self, state: &mut State, host: &Host, interrupt: &AtomicU32, budget: u64) -> Exit {
        let mut left = budget;
        let mut current = NO_BLOCK;
        loop {
            if interrupt.load(Ordering::Relaxed) != 0 {
                return Exit::Interrupted;
            }
            if left == 0 {
                return Exit::Budget;
            }
            self.code.catch_up(self.log);
            if let Err(exit) = G::check_place(state) {
                return exit;
            }
            if G::is_between(state) {
                left -= 1;
                match self.step(state, host) {
                    Exit::Budget => continue,
                    exit => return exit,
                }
            }
            current = match self.code.follow(current, state.pc, host, self.log.lines()) {
                Ok(block) => block,
                Err(fault) => return Exit::Fault(fault),
            };
            let Some((head, ops)) = self.code.block(current) else { continue };
            left = left.saturating_sub(head.count() as u64);
            if let Some(exit) = G::run_block(state, host, head.pc, ops) {
                return exit;
            }
        }
    }

    /// Runs blocks that the caller has nothing faster for. Returns `None` before a block that has been run
    /// `threshold` times (at most 254) or has been translated, and, if `announce` is set, before each new
    /// block; and before a block that has not been decoded, if `elsewhere` says that the caller has something
    /// faster for its place. Otherwise as [`Interpreter::run`].
    pub fn run_cold(
        &mut self,
        state: &mut State,
        host: &Host,
        interrupt: &AtomicU32,
        threshold: u32,
        announce: bool,
        elsewhere: impl Fn(u64) -> bool,
    ) -> Option<Exit> {
        let threshold = threshold.min(TRANSLATED - 1);
        loop {
            if interrupt.load(Ordering::Relaxed) != 0 {
                return Some(Exit::Interrupted);
            }
            self.code.catch_up(self.log);
            if let Err(exit) = G::check_place(state) {
                return Some(exit);
            }
            if G::is_between(state) {
                match self.step(state, host) {
                    Exit::Budget => continue,
                    exit => return Some(exit),
                }
            }
            let block = match self.code.follow_unless(&elsewhere, self.last, state.pc, host, self.log.lines())
            {
                Ok(Some(block)) => block,
                Ok(None) => {
                    self.next = NO_BLOCK;
                    return None;
                }
                Err(fault) => return Some(Exit::Fault(fault)),
            };
            let Some((head, ops)) = self.code.block(block) else { continue };
            let heat = head.warm(threshold);
            if heat >= threshold || heat == 0 && announce {
                self.next = block;
                return None;
            }
            self.last = block;
            if let Some(exit) = G::run_block(state, host, head.pc, ops) {
                return Some(exit);
            }
        }
    }

    /// Forgets which block [`Interpreter::run_cold`] ran last: its next block is not reached from there.
    pub fn forget_place(&mut self) {
        self.last = NO_BLOCK;
    }

    /// The place of the translation of the block before which [`Interpreter::run_cold`] returned, if known.
    pub fn code(&self) -> Option<u32> {
        self.code.code(self.next)
    }

    /// How many blocks have been decoded.
    pub fn decoded_blocks(&self) -> usize {
        self.code.decoded
    }

    /// The places of all blocks that have been decoded.
    pub fn places(&self) -> impl Iterator<Item = u64> {
        self.code.places()
    }

    /// How often [`Interpreter::run_cold`] has met the block at `pc`; 0 if never.
    pub fn heat(&self, pc: u64) -> u32 {
        self.code.heat(pc).unwrap_or(0)
    }

    /// Drops the decoded code that the log says has changed.
    pub fn catch_up(&mut self) {
        self.code.catch_up(self.log);
    }

    /// The instructions that have been decoded as the block at `pc`, as of the last call of
    /// [`Interpreter::catch_up`]; none if there is no such block.
    pub fn decoded(&self, pc: u64) -> impl Iterator<Item = &Op> {
        self.code.ops(pc)
    }

    /// Records that the block at `pc` has been translated, and where, if the caller knows. Only the caller
    /// interprets the place.
    pub fn set_code(&mut self, pc: u64, code: Option<u32>) {
        self.code.set_code(pc, code);
    }

    /// Records that the block at `pc` has no translation: its heat becomes one run.
    pub fn cool(&mut self, pc: u64) {
        self.code.cool(pc);
    }

    /// Forgets where the translation of the block at `pc` is.
    pub fn forget_code(&mut self, pc: u64) {
        self.code.forget_code(pc);
    }

    /// Forgets where the translations of all blocks are.
    pub fn forget_codes(&mut self) {
        self.code.forget_codes();
    }

    /// Runs one instruction. Returns [`Exit::Budget`] if the caller has nothing to do.
    ///
    /// Decodes the instruction afresh, so no invalidation is needed.
    pub fn step(&mut self, state: &mut State, host: &Host) -> Exit {
        if let Err(exit) = G::check_place(state) {
            return exit;
        }
        let mut words = Words::new(&host.memory, None);
        match G::decode(&mut words, state.pc, &mut G::context_of(state)) {
            Ok(decoded) => G::run_block(state, host, state.pc, [decoded.op].iter()).unwrap_or(Exit::Budget),
            Err(fault) => Exit::Fault(fault),
        }
    }
}
