//! Interprets a block, undoes it, runs its translation, and compares the results: what `crossdock-emu
//! --check` does.
//!
//! The addresses of the interpreter's loads and stores show what it may write: the 64 bytes from each, or the
//! elements of an access of vectors, are kept and restored. So the translated block starts from the same
//! registers and memory, and must end with the same.
//!
//! Code of images goes through many blocks, and says nothing of where it leaves. So it runs in a copy of the
//! process ([`Copies`]); the interpreter goes on here until it has the registers of the copy, and then all
//! memory that it has accessed is compared.

use super::{ExitKind, Run, Runner, Slot, mode_of};
use crate::routines;
use crate::translate::{self, Ahead, Isa, Sight};
use crate::unit::FLUSH;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crossdock_emu_guest::guest::Words;
use crossdock_emu_guest::{Exit, Host, State};

/// Most bytes that one instruction accesses: ST4 of whole registers, DC ZVA.
const ACCESS_MAX: u64 = 64;

const UFC: u32 = 1 << 3;
const IXC: u32 = 1 << 4;
const IDC: u32 = 1 << 7;

/// How often each entry of an image's code is compared; then the code runs alone.
const COMPARED_MAX: u32 = 4;
/// A flag of interrupts that is no poke of other threads.
const INTERRUPTED: u32 = 1 << 8;
/// Instructions that the interpreter runs, at most, to get to where code of an image has left. A loop may
/// need more; then nothing is known.
const STEPS_MAX: u32 = 2_000_000;
/// Instructions behind the last one at the place where the code has left. Then the registers will not be
/// those of the code any more.
const STEPS_BEHIND: u32 = 50_000;
const PAGE: u64 = 4096;

/// What generated code has left: the registers, and the exit that the caller is to handle.
#[derive(Debug)]
pub struct Outcome {
    /// The registers.
    pub state: State,
    /// The exit.
    pub exit: Option<Exit>,
}

/// A copy of the process, in which code has run.
pub trait Copies {
    /// Makes a copy, calls `code` there, and waits until it has returned; `None` if that is not possible.
    /// The copy stays as it is until [`Copies::end`].
    fn run(&mut self, code: &mut dyn FnMut() -> Outcome) -> Option<Outcome>;

    /// Reads memory of the copy; false if it cannot be read.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool;

    /// Ends the copy.
    fn end(&mut self);
}

/// CNTVCT_EL0 while both forms run.
static COUNTER: AtomicU64 = AtomicU64::new(0);

fn counter() -> u64 {
    COUNTER.load(Ordering::Relaxed)
}

/// The differences as text; empty if there are none.
fn differences<I: Isa>(translated: &State, interpreted: &State) -> String {
    let mut text = String::new();
    let mut compare = |name: String, ours: u128, theirs: u128| {
        if ours != theirs {
            text += &format!("\n  {name}: translated {ours:#x}, interpreted {theirs:#x}");
        }
    };
    // One may hold what the last instruction has read as PC.
    for n in (0..32).filter(|&n| I::PC_SLOT != Some(n)) {
        let name = if n == 31 { "SP".into() } else { format!("X{n}") };
        compare(name, translated.gpr[n].into(), interpreted.gpr[n].into());
    }
    for n in 0..32 {
        compare(format!("V{n}"), translated.v[n], interpreted.v[n]);
    }
    let (ours, theirs) = (&translated.vectors, &interpreted.vectors);
    for (n, (&ours, &theirs)) in ours.registers.iter().zip(&theirs.registers).enumerate() {
        compare(format!("vector {n}"), ours, theirs);
    }
    for (name, ours, theirs) in [
        ("vl", ours.vl, theirs.vl),
        ("vtype", ours.vtype, theirs.vtype),
        ("vstart", ours.vstart, theirs.vstart),
        ("vcsr", ours.vcsr.into(), theirs.vcsr.into()),
    ] {
        compare(name.into(), ours.into(), theirs.into());
    }
    // docs/dev/emulator.md lists these.
    let flushes = I::NARROW || mode_of(translated.fpcr) == FLUSH;
    let ignored = UFC | if flushes { IXC | IDC } else { 0 };
    let words = |state: &State| {
        [
            ("PC", state.pc.into()),
            ("NZCV", state.nzcv.into()),
            ("FPCR", state.fpcr.into()),
            ("FPSR", (state.fpsr & !ignored).into()),
            ("TPIDR_EL0", state.tpidr_el0.into()),
            ("address of the reservation", state.exclusive_address.into()),
            ("size of the reservation", state.exclusive_size.into()),
            ("value of the reservation", state.exclusive_value),
        ]
    };
    for ((name, ours), (_, theirs)) in words(translated).into_iter().zip(words(interpreted)) {
        compare(name.into(), ours, theirs);
    }
    text
}

/// Whether translated code and the interpreter leave for the same reason.
fn is_same_exit(translated: Exit, interpreted: Exit) -> bool {
    // Translated code checks itself whether IC IVAU has anything to do.
    let nothing_to_do = translated == Exit::Budget && matches!(interpreted, Exit::CodeModified { .. });
    // For an access across pages, the interpreter reports the start, translated code the page.
    let both_fault = matches!((translated, interpreted), (Exit::Fault(a), Exit::Fault(b))
        if a.access == b.access && a.host_signal == b.host_signal);
    translated == interpreted || nothing_to_do || both_fault
}

impl<I: Isa> Runner<I> {
    /// Runs code of an image both ways, if there is any for the state's place: it may go through many blocks.
    fn check_image(
        &mut self,
        jit: &super::Jit,
        state: &mut State,
        host: &Host,
        interrupt: &AtomicU32,
        copies: &mut dyn Copies,
    ) -> Option<Result<Exit, String>> {
        let mode = mode_of(state.fpcr);
        if mode != 0 || !jit.images.load(Ordering::Acquire) {
            return None;
        }
        self.use_slots(state, interrupt);
        self.catch_up(jit, state, mode);
        let start = state.pc;
        let code = {
            let cache = jit.cache.lock();
            cache.address(cache.entry_of_image(start)?)
        };
        self.reset_stack(jit, state);
        let mut run = Run { host: *host, left: Exit::Budget };
        let times = self.compared.entry(start).or_default();
        if *times == COMPARED_MAX {
            let exit = self.enter(jit, state, &mut run, code);
            return Some(Ok(exit.unwrap_or(Exit::Budget)));
        }
        *times += 1;
        let before = state.clone();
        let mut run_in = |copies: &mut dyn Copies, flag: u32| {
            copies.run(&mut || {
                // In the copy alone. Code that is interrupted leaves at the head of the next loop.
                interrupt.store(flag, Ordering::Relaxed);
                let mut state = before.clone();
                let exit = self.enter(jit, &mut state, &mut run, code);
                Outcome { state, exit }
            })
        };
        let mut outcome = run_in(copies, INTERRUPTED)?;
        let stays = outcome.exit.is_none() && outcome.state.pc == start;
        if stays && differences::<I>(&outcome.state, state).is_empty() {
            copies.end();
            outcome = run_in(copies, 0)?;
        }
        let result = self.compare_image(state, host, &outcome, copies);
        copies.end();
        Some(result)
    }

    /// Whether a function of a C library begins at the state's place that images have as code of the host.
    fn is_routine(&self, state: &State, host: &Host) -> bool {
        let address = I::address(state.pc);
        let mut words = Words::new(&host.memory, None);
        routines::find(&I::ROUTINES, &mut words, address, state.pc ^ address).is_some()
    }

    /// Interprets until the registers are those that the code of an image has left in a copy, and compares
    /// the memory that was accessed.
    fn compare_image(
        &mut self,
        state: &mut State,
        host: &Host,
        outcome: &Outcome,
        copies: &mut dyn Copies,
    ) -> Result<Exit, String> {
        let start = state.pc;
        let left = outcome.exit.unwrap_or(Exit::Budget);
        let mut translated = outcome.state.clone();
        // Flags that are overwritten before anything reads them may be stale at a fault, at a loop's head,
        // and where the code that the unit leads to is known to overwrite them.
        let kind = translated.generated[Slot::Exit as usize] & 7;
        let may_be_stale = matches!(left, Exit::Fault(_)) || kind == ExitKind::Interrupted as u64;
        let mut words = Words::new(&host.memory, None);
        let ahead = Ahead::look::<I>(&mut words, translated.pc, Sight::FAR).live;
        let is_stale = may_be_stale || ahead[..I::FLAG_GROUPS].contains(&false);
        let mut context = I::Context::default();
        let mut pages = BTreeSet::new();
        // What differed when the interpreter was last where the code has left, and how many steps ago.
        let mut last = String::new();
        let mut behind = 0;
        let mut exit = Exit::Budget;
        let mut done = false;
        for _ in 0..STEPS_MAX {
            // The code may have left at once, or have gone round.
            if is_stale {
                translated.nzcv = state.nzcv;
            }
            if outcome.exit.is_none() && state.pc == translated.pc {
                last = differences::<I>(&translated, state);
                done = last.is_empty();
                behind = 0;
            }
            if done {
                break;
            }
            behind += 1;
            if self.is_routine(state, host) {
                // The registers that a call may change are others behind it.
                return Ok(Exit::Budget);
            }
            let mut words = Words::new(&host.memory, None);
            if let Some(item) = I::read(&mut words, state.pc, &mut context) {
                let mut accessed = I::accessed_by_elements(&item, state);
                accessed.extend(I::accessed(&item, state).map(|address| (address, ACCESS_MAX)));
                for (address, bytes) in accessed {
                    pages.extend([address, address.wrapping_add(bytes - 1)].map(|at| at & !(PAGE - 1)));
                }
            }
            exit = self.interpreter.step(state, host);
            if exit != Exit::Budget {
                if is_stale {
                    translated.nzcv = state.nzcv;
                }
                let text = differences::<I>(&translated, state);
                done = text.is_empty() && is_same_exit(left, exit);
                // Of the last time at the place where the code has left, if there was one.
                if !done && last.is_empty() {
                    last = text + &format!("\n  leaves for: translated {left:?}, interpreted {exit:?}");
                }
                behind = STEPS_BEHIND;
                break;
            }
            if !last.is_empty() && behind == STEPS_BEHIND {
                break;
            }
        }
        if !done {
            // A long loop, of which nothing is known.
            if behind < STEPS_BEHIND || last.is_empty() {
                return Ok(exit);
            }
            return Err(format!("the image's code at {start:#x} differs, at {:#x}{last}", outcome.state.pc));
        }
        let mut text = String::new();
        let (mut theirs, mut ours) = (vec![0; PAGE as usize], vec![0; PAGE as usize]);
        for page in pages {
            if !copies.read(page, &mut theirs) {
                continue;
            }
            for (at, byte) in (page..).zip(&mut ours) {
                *byte = host.memory.load(at, 0).unwrap_or(0) as u8;
            }
            let differs = ours.iter().zip(&theirs).enumerate().filter(|(_, (ours, theirs))| ours != theirs);
            for (i, (ours, theirs)) in differs.take(16) {
                let at = page + i as u64;
                text += &format!("\n  byte at {at:#x}: translated {theirs:#x}, interpreted {ours:#x}");
            }
        }
        if text.is_empty() {
            return Ok(exit);
        }
        Err(format!("the image's code at {start:#x} has written something else{text}"))
    }

    /// Runs one block both ways. The error says how the results differ.
    ///
    /// If the process has several threads, whose stores may come between, or if nothing can be translated,
    /// the block runs as with [`Engine::run`].
    pub fn check(
        &mut self,
        state: &mut State,
        host: &Host,
        interrupt: &AtomicU32,
        copies: &mut dyn Copies,
    ) -> Result<Exit, String> {
        let Some(jit) = self.jit.filter(|jit| jit.threads.load(Ordering::Relaxed) == 1) else {
            return Ok(self.run(state, host, interrupt));
        };
        if interrupt.load(Ordering::Relaxed) != 0 || I::check_place(state).is_err() {
            return Ok(self.run(state, host, interrupt));
        }
        if !I::can_run(state) {
            // The block is not translated then.
            return Ok(self.interpret_block(state, host, interrupt));
        }
        COUNTER.store((host.counter)(), Ordering::Relaxed);
        let host = &Host { memory: host.memory, counter, executable: host.executable };
        if let Some(result) = self.check_image(jit, state, host, interrupt, copies) {
            return result;
        }
        let start = state.pc;
        let mut interpreted = state.clone();
        let mut kept = Vec::new();
        let mut items = Vec::new();
        let mut context = I::Context::default();
        let expected = loop {
            let pc = interpreted.pc;
            let mut words = Words::new(&host.memory, None);
            let Some(item) = I::read(&mut words, pc, &mut context) else { break Exit::Budget };
            items.push(item);
            let mut accessed = I::accessed_by_elements(&item, &interpreted);
            accessed.extend(I::accessed(&item, &interpreted).map(|address| (address, ACCESS_MAX)));
            for (address, bytes) in accessed {
                for address in (0..bytes).map(|n| address.wrapping_add(n)) {
                    kept.extend(host.memory.load(address, 0).ok().map(|old| (address, old)));
                }
            }
            let exit = self.interpreter.step(&mut interpreted, host);
            // Some instructions branch only if a condition holds, and do not end the block.
            let goes_on = interpreted.pc == pc.wrapping_add(I::item_length(&item));
            if exit != Exit::Budget || !goes_on || translate::ends_block::<I>(&item, pc, items.len()) {
                break exit;
            }
        };
        if items.is_empty() {
            return Ok(self.interpreter.step(state, host));
        }
        let byte = |address: u64| host.memory.load(address, 0).unwrap_or(0);
        let after: Vec<u64> = kept.iter().map(|&(address, _)| byte(address)).collect();
        for &(address, old) in kept.iter().rev() {
            // Memory that cannot be written has not changed.
            if byte(address) != old {
                let _ = host.memory.store(address, 0, old);
            }
        }
        let exit = self.run_alone(jit, state, host, interrupt);
        let exit = self.finish_block(state, host, start, &items, exit, interpreted.pc);
        if matches!(exit, Exit::Fault(_)) {
            // Flags that are overwritten before anything reads them may be stale.
            interpreted.nzcv = state.nzcv;
        }
        let mut text = differences::<I>(state, &interpreted);
        if !is_same_exit(exit, expected) {
            text += &format!("\n  leaves for: translated {exit:?}, interpreted {expected:?}");
        }
        for (&(address, _), &value) in kept.iter().zip(&after) {
            if byte(address) != value {
                text += &format!(
                    "\n  byte at {address:#x}: translated {:#x}, interpreted {value:#x}",
                    byte(address)
                );
            }
        }
        if text.is_empty() {
            return Ok(exit);
        }
        Err(format!("the block at {start:#x} differs (instructions {items:08x?}){text}"))
    }

    /// If the block was left because an instruction in it signalled an invalid operation, accessed an address
    /// with a tag, or found registers that its code is not for (a single without ones above it, another
    /// configuration of vectors), the interpreter has run that instruction. This runs the rest of the block,
    /// also in the interpreter. `end` is where the interpreter's block has led to.
    fn finish_block(
        &mut self,
        state: &mut State,
        host: &Host,
        start: u64,
        items: &[I::Item],
        exit: Exit,
        end: u64,
    ) -> Exit {
        let kind = state.generated[Slot::Exit as usize] & 7;
        // A branch, too, may lead to a place inside its block, as the interpreter's does then.
        let handed_over = kind == ExitKind::Indirect as u64 && state.pc != end;
        if exit != Exit::Budget || kind != ExitKind::Fault as u64 && !handed_over {
            return exit;
        }
        for n in 1..items.len() {
            if state.pc == I::place(items, start, n) {
                match self.interpreter.step(state, host) {
                    Exit::Budget => {}
                    exit => return exit,
                }
            }
        }
        Exit::Budget
    }

    /// Translates the block at `pc` alone, runs it and drops it.
    fn run_alone(&mut self, jit: &super::Jit, state: &mut State, host: &Host, interrupt: &AtomicU32) -> Exit {
        let mode = mode_of(state.fpcr);
        let pc = state.pc;
        {
            let mut cache = jit.cache.lock();
            let room = !cache.is_full() || jit.make_room(&mut cache);
            assert!(room, "no other thread is in the code");
        }
        self.use_slots(state, interrupt);
        self.catch_up(jit, state, mode);
        self.reset_stack(jit, state);
        let code = {
            let mut cache = jit.cache.lock();
            let mut buffers = core::mem::take(&mut cache.buffers);
            self.blocks.configuration = I::configuration_of(state);
            let done =
                translate::translate_alone(&cache.origin(), &mut buffers, &mut self.blocks, host, pc, mode);
            assert!(done, "the first word was just read");
            cache.add(buffers);
            let entry = cache.entry(cache.keying.key(pc, mode)).expect("the unit begins there");
            cache.address(entry)
        };
        let mut run = Run { host: *host, left: Exit::Budget };
        let exit = self.enter(jit, state, &mut run, code);
        jit.cache.lock().drop_last();
        exit.unwrap_or(Exit::Budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_emu_guest::a64::A64;

    #[test]
    fn differences_are_named() {
        let mut translated = State::default();
        let mut interpreted = translated.clone();
        (translated.gpr[3], translated.v[4], translated.fpsr) = (1, 2, UFC);
        assert_eq!(
            differences::<A64>(&translated, &interpreted),
            "\n  X3: translated 0x1, interpreted 0x0\n  V4: translated 0x2, interpreted 0x0"
        );
        (interpreted.gpr[3], interpreted.v[4]) = (1, 2);
        assert_eq!(differences::<A64>(&translated, &interpreted), "");
    }
}
