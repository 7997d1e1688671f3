//! The ABI of 32-bit Arm with EABI calls (Linux, arch/arm; "AAPCS32" for registers).
//!
//! ```text
//! cpu        what a CPU announces: HWCAP, /proc/cpuinfo
//! faults     what signals the faults of instructions become
//! frame      signal frames
//! helpers    the kernel's page of user helpers at 0xffff0000
//! rows       call numbers
//! own        the calls that the ABI answers itself, by name
//! ```
//!
//! The rest converts structures for the host: `words` those whose fields only become longer, the others by
//! subject (`files`, `interfaces`, `ipc`, `messages`, `signals`, `system`).

pub mod cpu;
mod faults;
mod files;
mod frame;
mod helpers;
mod interfaces;
mod ipc;
mod messages;
mod own;
mod rows;
mod siginfo;
mod signals;
mod system;
mod words;

use super::call::{Row, Table};
use super::machine::{ARM, Machine};
use super::{Abi, Delivery, Exception, Frame, HostStat, asm_generic};
use crate::sys::Errno;
use crate::sys::file::AT_FDCWD;
use crate::thread::Thread;
use alloc::string::String;
use alloc::vec::Vec;
use cpu::Model;
use crossdock_emu_guest::a32::{A32, it_before};
use crossdock_emu_guest::memory::Access;
use crossdock_emu_guest::{Exit, State};

/// 32-bit Arm, little-endian, in its EABI.
///
/// The kinds of arguments in [`rows`] say how registers become arguments. `f` and `d` are signed, all others
/// unsigned; further kinds are `g`, an id of 16 bits; `q`, 64 bits in an even and an odd register; `u`, 64
/// bits in any two registers. Arguments that newer calls have and this one has not are constants: `c` the
/// current directory, `n` AT_SYMLINK_NOFOLLOW, `k` the flags of creat(2), `F` and `V` those of fork(2) and
/// vfork(2).
pub struct Arm;

static CALLS: Table<{ rows::ROWS.len() + asm_generic::SINCE_5_1.len() }> =
    Table::new(&[rows::ROWS, asm_generic::SINCE_5_1]);

/// Numbers of the calls that only arm has begin here (Linux, __ARM_NR_BASE).
const PRIVATE_BASE: u64 = 0xf_0000;

const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
/// O_CREAT, O_WRONLY, O_TRUNC.
const CREAT_FLAGS: u64 = 0o1101;
const SIGCHLD: u64 = 17;
/// CLONE_VM, CLONE_VFORK.
const VFORK_FLAGS: u64 = 0x4100;

impl Abi for Arm {
    const NAME: &'static str = "arm";
    const MACHINE: Machine = ARM;
    /// AUDIT_ARCH_ARM: the machine, little-endian.
    const AUDIT_ARCHITECTURE: u32 = 0x4000_0000 | Self::MACHINE.machine as u32;

    #[inline]
    fn pc(state: &State) -> u64 {
        state.pc & !1
    }

    #[inline]
    fn sp(state: &State) -> u64 {
        state.r(13).into()
    }

    fn start(state: &mut State, entry: u64, sp: u64) {
        state.pc = entry;
        state.set_r(13, sp as u32);
        state.set_ge(0);
    }

    fn enter_child(state: &mut State, sp: Option<u64>, thread_pointer: Option<u64>) {
        if let Some(sp) = sp {
            state.set_r(13, sp as u32);
        }
        if let Some(pointer) = thread_pointer {
            state.tpidr_el0 = pointer;
        }
        state.exclusive_size = 0;
        state.set_r(0, 0);
    }

    fn exception_return(state: &mut State) {
        state.exclusive_size = 0;
    }

    type Isa = A32;

    fn exception(state: &State, why: Exit) -> Exception {
        faults::exception(state, why)
    }

    fn fault_syndrome(access: Access, is_mapped: bool) -> u64 {
        faults::fault_syndrome(access, is_mapped)
    }

    fn undefined_instruction(pc: u64) -> String {
        faults::undefined_instruction(pc)
    }

    #[inline]
    fn row(number: u64) -> Option<&'static Row> {
        match number.checked_sub(PRIVATE_BASE) {
            None => CALLS.find(number),
            Some(number) => rows::PRIVATE.get(usize::try_from(number.checked_sub(1)?).ok()?),
        }
    }

    #[inline]
    fn call(state: &State) -> (u64, [u64; 6]) {
        (state.r(7).into(), core::array::from_fn(|n| state.r(n as u32).into()))
    }

    #[inline]
    fn decode(row: &Row, registers: [u64; 6]) -> [u64; 6] {
        let mut arguments = [0; 6];
        let mut next = 0;
        for (argument, kind) in arguments.iter_mut().zip(row.arguments().bytes()) {
            let register = |n: usize| registers.get(n).copied().unwrap_or(0);
            let (value, taken) = match kind {
                b'c' => (AT_FDCWD as u64, 0),
                b'n' => (AT_SYMLINK_NOFOLLOW, 0),
                b'k' => (CREAT_FLAGS, 0),
                b'F' => (SIGCHLD, 0),
                b'V' => (VFORK_FLAGS | SIGCHLD, 0),
                b'f' | b'd' => (words::signed(register(next)), 1),
                b'g' if register(next) as u16 == u16::MAX => (u64::MAX, 1),
                b'g' => (register(next) & 0xffff, 1),
                b'q' => {
                    next = next.next_multiple_of(2);
                    (register(next) | register(next + 1) << 32, 2)
                }
                b'u' => (register(next) | register(next + 1) << 32, 2),
                _ => (register(next), 1),
            };
            *argument = value;
            next += taken;
        }
        arguments
    }

    #[inline]
    fn set_result(state: &mut State, result: Result<i64, Errno>) {
        state.set_r(0, result.unwrap_or_else(Errno::as_result) as u32);
    }

    fn call_again(state: &mut State) {
        state.pc -= if state.pc & 1 == 1 { 2 } else { 4 };
        state.set_it(it_before(state.it(), state.nzcv));
    }

    fn own_call(
        thread: &mut Thread,
        state: &mut State,
        row: &Row,
        which: u8,
        arguments: &[u64; 6],
    ) -> Result<i64, Errno> {
        own::answer::<Self>(thread, state, row, which, arguments)
    }

    fn prctl(thread: &mut Thread, arguments: &[u64; 6]) -> Option<Result<i64, Errno>> {
        system::prctl(thread, arguments)
    }

    /// As with CONFIG_CLONE_BACKWARDS: tls before child_tid.
    fn clone_arguments([flags, stack, parent, tls, child, _]: [u64; 6]) -> [u64; 5] {
        [flags, stack, parent, child, tls]
    }

    /// Linux, arch/arm/include/uapi/asm/fcntl.h.
    const OPEN_FLAGS: &'static [(u64, u64)] = &[
        (0o40_000, 0o200_000),  // O_DIRECTORY
        (0o100_000, 0o400_000), // O_NOFOLLOW
        (0o200_000, 0o40_000),  // O_DIRECT
        (0o400_000, 0o100_000), // O_LARGEFILE
    ];

    fn put_stat(stat: &HostStat, at: u64) -> Result<(), Errno> {
        files::put_stat64(stat, at)
    }

    const SIGNAL_STACK_MIN: u64 = 2048;
    /// For each kind of frame and instruction set: `mov r7, #NUMBER; svc #NUMBER` of sigreturn (A32, then
    /// T32) and of rt_sigreturn. The A32 calls have the number of the old ABI in them, as in the kernel's.
    const TRAMPOLINE: &'static [u32] =
        &[0xe3a0_7077, 0xef90_0077, 0xdf00_2777, 0xe3a0_70ad, 0xef90_00ad, 0xdf00_27ad];

    fn frame_start(top: u64) -> u64 {
        frame::start(top, true)
    }

    fn push_frame(state: &mut State, delivery: &Delivery) -> Result<(), Errno> {
        frame::push(state, delivery)
    }

    fn read_frame(state: &State) -> Result<Frame, Errno> {
        frame::read(state)
    }

    fn map_helpers() -> Result<(), Errno> {
        helpers::map()
    }

    /// Linux, arch/arm/kernel/elf.c (arm_elf_read_implies_exec).
    const STACK_IS_EXECUTABLE: bool = true;

    fn uname() -> &'static str {
        Model::current().uname
    }

    fn platform() -> Option<&'static str> {
        Some(Model::current().platform)
    }

    fn auxiliary() -> impl Iterator<Item = (u64, u64)> {
        [(16, Model::current().hwcap), (26, 0)].into_iter()
    }

    fn cpuinfo(cpus: u32) -> Vec<u8> {
        Model::current().info(cpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_known_arguments() {
        let known = |row: &Row| row.arguments().chars().all(|kind| "fdxopsgqucnkFV".contains(kind));
        assert!(CALLS.rows().iter().chain(&rows::PRIVATE).all(known));
    }

    #[test]
    fn calls_are_found_by_number() {
        let calls = [(5, Some("open")), (403, Some("clock_gettime64")), (435, Some("clone3"))];
        let others = [(0xf_0002, Some("cacheflush")), (0xf_0000, None), (0xf_0007, None), (1000, None)];
        for (number, name) in calls.into_iter().chain(others) {
            assert_eq!(Arm::row(number).map(Row::name), name);
        }
    }

    #[test]
    fn long_arguments_take_register_pairs() {
        let decoded = |number, registers| Arm::row(number).map(|row| Arm::decode(row, registers));
        // pread64: a register is skipped. preadv: none is. truncate64. open.
        assert_eq!(decoded(180, [3, 4, 5, 99, 6, 7]), Some([3, 4, 5, 7 << 32 | 6, 0, 0]));
        assert_eq!(decoded(361, [3, 4, 5, 6, 7, 99]), Some([3, 4, 5, 7 << 32 | 6, 0, 0]));
        assert_eq!(decoded(193, [3, 99, 6, 7, 0, 0]), Some([3, 7 << 32 | 6, 0, 0, 0, 0]));
        assert_eq!(decoded(5, [3, 4, 5, 0, 0, 0]), Some([AT_FDCWD as u64, 3, 4, 5, 0, 0]));
        assert_eq!(decoded(37, [0xffff_ffff, 9, 0, 0, 0, 0]), Some([u64::MAX, 9, 0, 0, 0, 0]));
        assert_eq!(decoded(23, [0xffff, 0, 0, 0, 0, 0]), Some([u64::MAX, 0, 0, 0, 0, 0]));
    }
}
