//! What differs between guests: one folder per ABI, each with a type that implements [`Abi`].
//!
//! ```text
//! call         rows of a call table, and the names of the implementations that they choose
//! asm_generic  what Linux gives all newer 64-bit architectures: call numbers, struct stat
//! arm64        AArch64
//! arm          32-bit Arm, in its EABI
//! riscv64      RISC-V, 64 bits
//! machine      the machines whose programs this executable runs
//! known        the ABI of each
//! ```
//!
//! The rest of the crate is generic over [`Abi`] where an ABI matters, and compiled once for each: a system
//! call costs no indirect call, and no table of addresses has to be relocated at the start. `start` chooses
//! the ABI once, by the program's ELF header.
//!
//! A new ABI is a folder and a line in `machine` and `known`. A 64-bit one with the generic numbers
//! takes its calls and its `struct stat` from `asm_generic`. A 32-bit one (arm) has its own
//! numbers, joins register pairs in [`Abi::decode`], and answers the calls whose structures differ (stat64,
//! 32-bit and 64-bit times, iovec, msghdr, sigaction) itself: its rows name them `Call::Own`, and
//! [`Abi::own_call`] converts and calls the shared implementation.

pub mod arm;
pub mod arm64;
pub mod asm_generic;
pub mod call;
pub mod known;
pub mod machine;
pub mod riscv64;

use crate::shared::SigInfo;
use crate::signal::Action;
use crate::sys::Errno;
use crate::thread::{Thread, Trap};
use alloc::string::String;
use alloc::vec::Vec;
use call::Row;
use core::ops::Range;
use crossdock_emu_guest::State;
use crossdock_emu_guest::memory::{Access, Fault};
use crossdock_emu_jit::Isa;
use machine::Machine;

/// The ABI of a guest on Linux.
pub trait Abi: Sized + 'static {
    /// The architecture's name in Linux's sources (`arch/NAME`).
    const NAME: &'static str;
    /// The programs.
    const MACHINE: Machine;
    /// The architecture for system call filters (AUDIT_ARCH_, include/uapi/linux/audit.h).
    const AUDIT_ARCHITECTURE: u32;

    /// The program counter.
    fn pc(state: &State) -> u64;
    /// The stack pointer.
    fn sp(state: &State) -> u64;
    /// Sets the registers of a new program.
    fn start(state: &mut State, entry: u64, sp: u64);
    /// Sets the registers of a child of clone(2): its result is 0; it has a new stack pointer and a thread
    /// pointer if they are given.
    fn enter_child(state: &mut State, sp: Option<u64>, thread_pointer: Option<u64>);
    /// Does what the kernel's return to the program does, after the registers have changed: exclusive
    /// accesses that have begun fail.
    fn exception_return(state: &mut State);

    /// The instruction set.
    type Isa: Isa;
    /// The signal of an instruction that does not access memory, or may not at its address.
    fn exception(state: &State, why: crossdock_emu_guest::Exit) -> Exception;
    /// What the CPU says about a fault ([`Trap::syndrome`]).
    fn fault_syndrome(access: Access, is_mapped: bool) -> u64;
    /// Names the undefined instruction at `pc`, for a message.
    fn undefined_instruction(pc: u64) -> String;

    /// The row of a call in the ABI's table.
    fn row(number: u64) -> Option<&'static Row>;
    /// The number of the call that a thread makes, and the registers of its arguments.
    fn call(state: &State) -> (u64, [u64; 6]);
    /// The arguments of a call, from their registers.
    #[inline(always)]
    fn decode(_row: &Row, registers: [u64; 6]) -> [u64; 6] {
        registers
    }
    /// Sets the result of a call.
    fn set_result(state: &mut State, result: Result<i64, Errno>);
    /// Goes back to the instruction that makes the call, so that it is made again.
    fn call_again(state: &mut State);
    /// Answers a call whose row is [`call::Call::Own`].
    fn own_call(
        _thread: &mut Thread,
        _state: &mut State,
        _row: &Row,
        which: u8,
        _arguments: &[u64; 6],
    ) -> Result<i64, Errno> {
        unreachable!("the ABI has no call {which} of its own")
    }
    /// Answers options of prctl(2) that belong to the architecture; `None` for others.
    fn prctl(thread: &mut Thread, arguments: &[u64; 6]) -> Option<Result<i64, Errno>>;
    /// The arguments of clone(2) in the order flags, stack, parent_tid, child_tid, tls, which differs between
    /// architectures (clone(2), "C library/kernel differences").
    fn clone_arguments(arguments: [u64; 6]) -> [u64; 5];
    /// The O_ flags that the architecture numbers differently from the host: guest, host.
    const OPEN_FLAGS: &'static [(u64, u64)];
    /// Writes the host's `struct stat` to guest memory.
    fn put_stat(stat: &HostStat, at: u64) -> Result<(), Errno>;

    /// Whether `struct sigaction` has `sa_restorer` (rt_sigaction(2)).
    const HAS_RESTORER: bool = true;
    /// The smallest alternate signal stack (MINSIGSTKSZ).
    const SIGNAL_STACK_MIN: u64;
    /// The code that signal handlers return to.
    const TRAMPOLINE: &'static [u32];
    /// Where a signal frame below `top` begins.
    fn frame_start(top: u64) -> u64;
    /// Pushes a signal frame, and sets the registers for the handler.
    fn push_frame(state: &mut State, delivery: &Delivery) -> Result<(), Errno>;
    /// Reads the frame that a handler returns by.
    fn read_frame(state: &State) -> Result<Frame, Errno>;

    /// Maps what the kernel maps for programs besides their files and the stack.
    fn map_helpers() -> Result<(), Errno> {
        Ok(())
    }
    /// Whether the stack of a program without PT_GNU_STACK is executable.
    const STACK_IS_EXECUTABLE: bool;
    /// `machine` of uname(2).
    fn uname() -> &'static str;
    /// AT_PLATFORM of the auxiliary vector (getauxval(3)), if there is one.
    fn platform() -> Option<&'static str>;
    /// The CPU's numbers in the auxiliary vector: AT_HWCAP, AT_HWCAP2, AT_MINSIGSTKSZ (getauxval(3)).
    fn auxiliary() -> impl Iterator<Item = (u64, u64)>;
    /// The content of /proc/cpuinfo.
    fn cpuinfo(cpus: u32) -> Vec<u8>;
}

/// The host's `struct stat` in words: dev, ino, nlink, mode and uid, gid, rdev, size, blksize, blocks, three
/// times of two words, three unused (x86-64, asm/stat.h).
pub type HostStat = [u64; 18];

/// Why an engine has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The thread makes a system call; its program counter is after the instruction.
    Call,
    /// The interrupt flag is set.
    Interrupted,
    /// An access to memory failed.
    Fault(Fault),
    /// The guest has changed this code, and says so.
    CodeModified(Range<u64>),
    /// An instruction raises a signal.
    Exception(Exception),
    /// Nothing: run on.
    Nothing,
}

/// A signal that an instruction raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The signal.
    pub signal: u32,
    /// si_code.
    pub code: i32,
    /// si_addr.
    pub address: u64,
    /// The fault, if the exception is one.
    pub trap: Option<Trap>,
}

/// What a handler is entered with, besides the registers of the interrupted code.
pub struct Delivery<'info> {
    /// The signal.
    pub signal: u32,
    /// Its siginfo.
    pub info: &'info SigInfo,
    /// The guest's action.
    pub action: Action,
    /// The blocked signals of the interrupted code.
    pub mask: u64,
    /// The thread's last fault.
    pub trap: Trap,
    /// The stack_t of the alternate stack: address, flags, size.
    pub stack: [u64; 3],
    /// Where the frame ends, or a little above.
    pub top: u64,
    /// Where [`Abi::TRAMPOLINE`] is in guest memory.
    pub trampoline: u64,
}

/// What a signal frame gives back.
pub struct Frame {
    /// The registers.
    pub state: State,
    /// The signals that are blocked.
    pub mask: u64,
    /// The stack_t of the alternate stack.
    pub stack: [u64; 3],
}
