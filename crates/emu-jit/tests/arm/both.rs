//! A page of code that is run both ways: translated after its second round, and interpreted.

use crate::cases::Mapping;
use crate::host::{LOG, engine_of};
use crossdock_emu_guest::a32::{A32, Interpreter};
use crossdock_emu_guest::a64::{Exit, Host, State};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_jit::Runner;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicU32;

const SIZE: usize = 0x1000;

pub struct Both {
    code: Mapping,
    host: Host,
    engine: Runner<A32>,
    interpreter: Interpreter<'static>,
    _turn: MutexGuard<'static, ()>,
}

impl Both {
    /// A page at an address.
    pub fn new(at: u64) -> Both {
        let turn = crate::differ::turn();
        let code = Mapping::new(at, &[], SIZE);
        // SAFETY: the window holds only the mapping.
        let memory = unsafe { Memory::new(at, at + SIZE as u64) };
        let host = Host { memory, counter: || 0, executable: Host::anywhere };
        let mut engine = engine_of::<A32>();
        engine.translate_after(2);
        Both { code, host, engine, interpreter: Interpreter::new(&LOG), _turn: turn }
    }

    /// Replaces the code: words of A32, or halfwords of T32.
    pub fn put<T: Copy>(&mut self, words: &[T]) {
        assert!(size_of_val(words) <= SIZE);
        // SAFETY: the mapping is long enough, and nobody runs it now.
        unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), self.code.0 as *mut T, words.len()) };
        LOG.invalidate(self.code.0..self.code.0 + SIZE as u64);
    }

    /// What both make of a state, and why they leave: translated, interpreted.
    pub fn run(&mut self, state: &State) -> ([State; 2], [Exit; 2]) {
        let mut states = [state.clone(), state.clone()];
        let flag = AtomicU32::new(0);
        let exits = [
            self.engine.run(&mut states[0], &self.host, &flag),
            self.interpreter.run(&mut states[1], &self.host, &flag, u64::MAX),
        ];
        (states, exits)
    }
}
