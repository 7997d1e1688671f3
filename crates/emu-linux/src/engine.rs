//! Runs a guest's code: the translator of its instruction set, with what surrounds it on Linux.

use crate::arch::{Abi, Exit};
use crate::changes::CHANGES;
use crate::code;
use crate::copies::Copy;
use crate::executable;
use crate::guest;
use crate::images::mapped;
use crate::images::report::Ran;
use crate::shared::Shared;
use crate::vdso;
use alloc::string::String;
use core::ops::Range;
use core::sync::atomic::AtomicU32;
use crossdock_emu_guest::{self as machine, Host, State};
use crossdock_emu_jit as jit;
use crossdock_emu_jit::image::format::Profile;

/// Runs the code of one guest thread.
pub struct Engine<A: Abi> {
    runner: jit::Runner<A::Isa>,
    host: Host,
}

impl<A: Abi> Engine<A> {
    /// An engine for the thread with this block.
    pub(crate) fn new(shared: &'static Shared) -> Self {
        let jit = code::jit::<A::Isa>(A::NAME);
        // SAFETY: the return stack is a part of the thread's block, with inaccessible pages below it.
        let runner = unsafe { jit::Runner::new(&CHANGES, jit, shared.return_stack()) };
        if let Some(jit) = jit {
            mapped::begin(jit, A::MACHINE.machine);
        }
        let host = Host {
            memory: guest::memory(),
            counter: vdso::monotonic_nanoseconds,
            executable: executable::find,
        };
        Engine { runner, host }
    }

    /// Runs code until something happens, or until `interrupt` is set.
    #[inline]
    pub(crate) fn run(&mut self, state: &mut State, interrupt: &AtomicU32) -> Exit {
        let why = self.runner.run(state, &self.host, interrupt);
        exit::<A>(state, why)
    }

    /// Interprets one block of code.
    pub(crate) fn run_block(&mut self, state: &mut State, interrupt: &AtomicU32) -> Exit {
        let why = self.runner.interpret_block(state, &self.host, interrupt);
        exit::<A>(state, why)
    }

    /// Runs one block twice, interpreted and translated; the error says how the results differ.
    pub(crate) fn check(&mut self, state: &mut State, interrupt: &AtomicU32) -> Result<Exit, String> {
        let why = self.runner.check(state, &self.host, interrupt, &mut Copy::default())?;
        Ok(exit::<A>(state, why))
    }

    /// In the child of a fork: forgets the engines of threads that do not exist there.
    pub(crate) fn is_alone(&self) {
        self.runner.is_alone();
    }
}

impl<A: Abi> Ran for Engine<A> {
    fn decoded(&self) -> usize {
        self.runner.decoded()
    }

    fn profile(&self, range: &Range<u64>, base: u64) -> Profile {
        self.runner.profile(range, base)
    }
}

#[inline]
fn exit<A: Abi>(state: &State, why: machine::Exit) -> Exit {
    match why {
        machine::Exit::Syscall(_) => Exit::Call,
        machine::Exit::Interrupted => Exit::Interrupted,
        machine::Exit::Fault(fault) => Exit::Fault(fault),
        // The last line of the address space ends at its last byte but one: nobody has code there.
        machine::Exit::CodeModified { address } => Exit::CodeModified(address..address.saturating_add(64)),
        machine::Exit::AllCodeModified => Exit::CodeModified(0..u64::MAX),
        machine::Exit::Budget => Exit::Nothing,
        other => Exit::Exception(A::exception(state, other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::arm64::Arm64;

    #[test]
    fn the_last_line_of_the_address_space_may_change() {
        let address = u64::MAX - 63;
        let why = machine::Exit::CodeModified { address };
        let Exit::CodeModified(range) = exit::<Arm64>(&State::default(), why) else {
            panic!("code has changed")
        };
        assert_eq!(range, address..u64::MAX);
    }
}
