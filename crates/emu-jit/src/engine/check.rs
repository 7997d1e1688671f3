//! Interprets a block, undoes it, runs its translation, and compares the results: what `crossdock-emu
//! --check` does.
//!
//! The addresses of the interpreter's loads and stores show what it may write: the 64 bytes from each, or the
//! elements of an access of vectors, are kept and restored. So the translated block starts from the same
//! registers and memory, and must end with the same.

use super::{ExitKind, Run, Runner, Slot, mode_of};
use crate::translate::{self, Isa};
use crate::unit::FLUSH;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crossdock_emu_guest::guest::Words;
use crossdock_emu_guest::{Exit, Host, State};

/// Most bytes that one instruction accesses: ST4 of whole registers, DC ZVA.
const ACCESS_MAX: u64 = 64;

const UFC: u32 = 1 << 3;
const IXC: u32 = 1 << 4;
const IDC: u32 = 1 << 7;

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
    for n in 0..32 {
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

impl<I: Isa> Runner<I> {
    /// Runs one block both ways. The error says how the results differ.
    ///
    /// If the process has several threads, whose stores may come between, or if nothing can be translated,
    /// the block runs as with [`Engine::run`].
    pub fn check(&mut self, state: &mut State, host: &Host, interrupt: &AtomicU32) -> Result<Exit, String> {
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
            match self.interpreter.step(&mut interpreted, host) {
                Exit::Budget if !translate::ends_block::<I>(&item, pc, items.len()) => {}
                exit => break exit,
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
        let exit = self.finish_block(state, host, start, &items, exit);
        if matches!(exit, Exit::Fault(_)) {
            // Flags that are overwritten before anything reads them may be stale.
            interpreted.nzcv = state.nzcv;
        }
        let mut text = differences::<I>(state, &interpreted);
        // Translated code checks itself whether IC IVAU has anything to do.
        let nothing_to_do = exit == Exit::Budget && matches!(expected, Exit::CodeModified { .. });
        // For an access across pages, the interpreter reports the start, translated code the page.
        let both_fault = matches!((exit, expected), (Exit::Fault(a), Exit::Fault(b))
            if a.access == b.access && a.host_signal == b.host_signal);
        if exit != expected && !nothing_to_do && !both_fault {
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

    /// If the block was left because an instruction in it signalled an invalid operation, or accessed an
    /// address with a tag, the interpreter has run that instruction. This runs the rest of the block, also in
    /// the interpreter.
    fn finish_block(
        &mut self,
        state: &mut State,
        host: &Host,
        start: u64,
        items: &[I::Item],
        exit: Exit,
    ) -> Exit {
        let left = state.generated[Slot::Exit as usize] & 7 == ExitKind::Fault as u64;
        if exit != Exit::Budget || !left {
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
