//! The ABI of arm64 (Linux, arch/arm64; "AAPCS64" for registers).

mod cpuinfo;
mod faults;
mod frame;

use super::call::{Row, Table};
use super::machine::{ARM64, Machine};
use super::{Abi, Delivery, Exception, Frame, HostStat, asm_generic};
use crate::sys::{Errno, errno};
use crate::thread::Thread;
use alloc::string::String;
use alloc::vec::Vec;
use crossdock_emu_guest::a64::{A64, features};
use crossdock_emu_guest::memory::Access;
use crossdock_emu_guest::{Exit, State};

/// arm64, little-endian.
pub struct Arm64;

/// Calls of arm64 that newer architectures have no more.
const ROWS: [Row; 1] = [Row::new(38, "renameat", 264, "fsds")];

static CALLS: Table<
    {
        ROWS.len()
            + asm_generic::ROWS.len()
            + asm_generic::SINCE_5_1_WIDE.len()
            + asm_generic::SINCE_5_1.len()
    },
> = Table::new(&[&ROWS, asm_generic::ROWS, asm_generic::SINCE_5_1_WIDE, asm_generic::SINCE_5_1]);

/// Bytes of the SVC instruction.
const SVC_LENGTH: u64 = 4;

impl Abi for Arm64 {
    const NAME: &'static str = "arm64";
    const MACHINE: Machine = ARM64;
    /// AUDIT_ARCH_AARCH64: the machine, 64 bits, little-endian.
    const AUDIT_ARCHITECTURE: u32 = 0xc000_0000 | Self::MACHINE.machine as u32;

    #[inline]
    fn pc(state: &State) -> u64 {
        state.pc
    }

    #[inline]
    fn sp(state: &State) -> u64 {
        state.sp()
    }

    fn start(state: &mut State, entry: u64, sp: u64) {
        state.pc = entry;
        state.set_sp(sp);
    }

    fn enter_child(state: &mut State, sp: Option<u64>, thread_pointer: Option<u64>) {
        if let Some(sp) = sp {
            state.set_sp(sp);
        }
        if let Some(pointer) = thread_pointer {
            state.tpidr_el0 = pointer;
        }
        state.exclusive_size = 0;
        state.set_x(0, 0);
    }

    fn exception_return(state: &mut State) {
        state.exclusive_size = 0;
    }

    type Isa = A64;

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
        CALLS.find(number)
    }

    #[inline]
    fn call(state: &State) -> (u64, [u64; 6]) {
        (state.x(8), core::array::from_fn(|n| state.x(n)))
    }

    #[inline]
    fn set_result(state: &mut State, result: Result<i64, Errno>) {
        state.set_x(0, result.unwrap_or_else(Errno::as_result) as u64);
    }

    fn call_again(state: &mut State) {
        state.pc -= SVC_LENGTH;
    }

    fn prctl(thread: &mut Thread, arguments: &[u64; 6]) -> Option<Result<i64, Errno>> {
        prctl(thread, arguments)
    }

    /// As with CONFIG_CLONE_BACKWARDS: tls before child_tid.
    fn clone_arguments([flags, stack, parent, tls, child, _]: [u64; 6]) -> [u64; 5] {
        [flags, stack, parent, child, tls]
    }

    /// Linux, arch/arm64/include/uapi/asm/fcntl.h; 32-bit Arm has the same.
    const OPEN_FLAGS: &'static [(u64, u64)] = &[
        (0o40_000, 0o200_000),  // O_DIRECTORY
        (0o100_000, 0o400_000), // O_NOFOLLOW
        (0o200_000, 0o40_000),  // O_DIRECT
        (0o400_000, 0o100_000), // O_LARGEFILE
    ];

    fn put_stat(stat: &HostStat, at: u64) -> Result<(), Errno> {
        asm_generic::put_stat(stat, at)
    }

    const SIGNAL_STACK_MIN: u64 = 5120;
    /// `mov x8, #139; svc #0`, as in the kernel's vDSO. Unwinders look for these bytes.
    const TRAMPOLINE: &'static [u32] = &[0xd280_1168, 0xd400_0001];

    fn frame_start(top: u64) -> u64 {
        frame::start(top)
    }

    fn push_frame(state: &mut State, delivery: &Delivery) -> Result<(), Errno> {
        frame::push(state, delivery)
    }

    fn read_frame(state: &State) -> Result<Frame, Errno> {
        frame::read(state)
    }

    /// Linux, arch/arm64/include/asm/elf.h.
    const STACK_IS_EXECUTABLE: bool = false;

    fn uname() -> &'static str {
        "aarch64"
    }

    fn platform() -> Option<&'static str> {
        Some("aarch64")
    }

    fn auxiliary() -> impl Iterator<Item = (u64, u64)> {
        [(16, features::HWCAP), (26, features::HWCAP2), (51, frame::SIZE_OF_THIS_CPU)].into_iter()
    }

    fn cpuinfo(cpus: u32) -> Vec<u8> {
        cpuinfo::text(cpus)
    }
}

/// prctl(2): features that this CPU does not have, and tagged addresses (Linux,
/// Documentation/arch/arm64/tagged-address-abi.rst).
fn prctl(thread: &mut Thread, a: &[u64; 6]) -> Option<Result<i64, Errno>> {
    const PR_SVE_SET_VL: u64 = 50;
    const PR_SVE_GET_VL: u64 = 51;
    const PR_PAC_RESET_KEYS: u64 = 54;
    const PR_SET_TAGGED_ADDR_CTRL: u64 = 55;
    const PR_TAGGED_ADDR_ENABLE: u64 = 1;
    const PR_GET_TAGGED_ADDR_CTRL: u64 = 56;
    const PR_PAC_SET_ENABLED_KEYS: u64 = 60;
    const PR_PAC_GET_ENABLED_KEYS: u64 = 61;
    Some(match a[0] as u32 as u64 {
        // Without the Memory Tagging Extension there is nothing else to set.
        PR_SET_TAGGED_ADDR_CTRL if a[1] & !PR_TAGGED_ADDR_ENABLE == 0 && a[2..5] == [0; 3] => {
            thread.tagged = a[1] == PR_TAGGED_ADDR_ENABLE;
            Ok(0)
        }
        PR_GET_TAGGED_ADDR_CTRL if a[1..5] == [0; 4] => Ok(i64::from(thread.tagged)),
        PR_SET_TAGGED_ADDR_CTRL
        | PR_GET_TAGGED_ADDR_CTRL
        | PR_SVE_SET_VL
        | PR_SVE_GET_VL
        | PR_PAC_RESET_KEYS
        | PR_PAC_SET_ENABLED_KEYS
        | PR_PAC_GET_ENABLED_KEYS => Err(errno::EINVAL),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_known_arguments() {
        assert!(CALLS.rows().iter().all(|row| row.arguments().chars().all(|kind| "fdxops".contains(kind))));
    }

    #[test]
    fn calls_are_found_by_number() {
        for (number, name) in
            [(38, Some("renameat")), (56, Some("openat")), (221, Some("execve")), (1000, None)]
        {
            assert_eq!(Arm64::row(number).map(Row::name), name);
        }
    }
}
