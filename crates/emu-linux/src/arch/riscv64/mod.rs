//! The ABI of riscv64 (Linux, arch/riscv; the psABI for registers).

mod cpu;
mod faults;
mod frame;

use super::call::{Call, Row, Table};
use super::machine::{Machine, RISCV64};
use super::{Abi, Delivery, Exception, Frame, HostStat, asm_generic};
use crate::changes::CHANGES;
use crate::sys::{Errno, errno};
use crate::thread::Thread;
use alloc::string::String;
use alloc::vec::Vec;
use crossdock_emu_guest::memory::Access;
use crossdock_emu_guest::rv64::{Rv64, features};
use crossdock_emu_guest::{Exit, State};

/// riscv64, little-endian, with doubles in registers (lp64d).
pub struct Riscv64;

/// [`Call::Own`] of riscv_hwprobe and riscv_flush_icache.
const HWPROBE: u8 = 0;
const FLUSH_ICACHE: u8 = 1;

/// Calls of riscv64 alone. The host's number 0 stands for none.
const ROWS: [Row; 2] = [
    Row::new(258, "riscv_hwprobe", 0, "pdxpx").is(Call::Own(HWPROBE)),
    Row::new(259, "riscv_flush_icache", 0, "xxx").is(Call::Own(FLUSH_ICACHE)),
];

static CALLS: Table<
    {
        ROWS.len()
            + asm_generic::ROWS.len()
            + asm_generic::SINCE_5_1_WIDE.len()
            + asm_generic::SINCE_5_1.len()
    },
> = Table::new(&[&ROWS, asm_generic::ROWS, asm_generic::SINCE_5_1_WIDE, asm_generic::SINCE_5_1]);

/// Bytes of ECALL.
const ECALL_LENGTH: u64 = 4;

// General registers.
const SP: u32 = 2;
const TP: u32 = 4;
const A0: u32 = 10;
const A7: u32 = 17;

impl Abi for Riscv64 {
    const NAME: &'static str = "riscv64";
    const MACHINE: Machine = RISCV64;
    /// AUDIT_ARCH_RISCV64: the machine, 64 bits, little-endian.
    const AUDIT_ARCHITECTURE: u32 = 0xc000_0000 | Self::MACHINE.machine as u32;

    #[inline]
    fn pc(state: &State) -> u64 {
        state.pc
    }

    #[inline]
    fn sp(state: &State) -> u64 {
        state.rv64_x(SP)
    }

    fn start(state: &mut State, entry: u64, sp: u64) {
        state.pc = entry & !1;
        state.set_rv64_x(SP, sp);
    }

    fn enter_child(state: &mut State, sp: Option<u64>, thread_pointer: Option<u64>) {
        if let Some(sp) = sp {
            state.set_rv64_x(SP, sp);
        }
        if let Some(pointer) = thread_pointer {
            state.set_rv64_x(TP, pointer);
        }
        state.exclusive_size = 0;
        state.set_rv64_x(A0, 0);
    }

    fn exception_return(state: &mut State) {
        state.exclusive_size = 0;
    }

    type Isa = Rv64;

    fn exception(state: &State, why: Exit) -> Exception {
        faults::exception(state, why)
    }

    /// Programs do not see the cause of a fault.
    fn fault_syndrome(_: Access, _: bool) -> u64 {
        0
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
        (state.rv64_x(A7), core::array::from_fn(|n| state.rv64_x(A0 + n as u32)))
    }

    #[inline]
    fn set_result(state: &mut State, result: Result<i64, Errno>) {
        state.set_rv64_x(A0, result.unwrap_or_else(Errno::as_result) as u64);
    }

    fn call_again(state: &mut State) {
        state.pc -= ECALL_LENGTH;
    }

    fn own_call(
        _: &mut Thread,
        _: &mut State,
        _: &Row,
        which: u8,
        arguments: &[u64; 6],
    ) -> Result<i64, Errno> {
        if which == HWPROBE { cpu::probe(*arguments) } else { flush_icache(*arguments) }
    }

    fn prctl(_: &mut Thread, arguments: &[u64; 6]) -> Option<Result<i64, Errno>> {
        prctl(arguments)
    }

    /// As with CONFIG_CLONE_BACKWARDS: tls before child_tid.
    fn clone_arguments([flags, stack, parent, tls, child, _]: [u64; 6]) -> [u64; 5] {
        [flags, stack, parent, child, tls]
    }

    /// All are the generic ones, as the host's.
    const OPEN_FLAGS: &'static [(u64, u64)] = &[];

    fn put_stat(stat: &HostStat, at: u64) -> Result<(), Errno> {
        asm_generic::put_stat(stat, at)
    }

    const HAS_RESTORER: bool = false;
    const SIGNAL_STACK_MIN: u64 = 2048;
    /// `li a7, 139; ecall`, as in the kernel's vDSO. Unwinders look for these bytes.
    const TRAMPOLINE: &'static [u32] = &[0x08b0_0893, 0x0000_0073];

    fn frame_start(top: u64) -> u64 {
        frame::start(top)
    }

    fn push_frame(state: &mut State, delivery: &Delivery) -> Result<(), Errno> {
        frame::push(state, delivery)
    }

    fn read_frame(state: &State) -> Result<Frame, Errno> {
        frame::read(state)
    }

    /// Linux, arch/riscv/include/asm/elf.h and fs/binfmt_elf.c.
    const STACK_IS_EXECUTABLE: bool = false;

    fn uname() -> &'static str {
        "riscv64"
    }

    fn platform() -> Option<&'static str> {
        None
    }

    fn auxiliary() -> impl Iterator<Item = (u64, u64)> {
        [(16, features::HWCAP), (51, frame::SIZE)].into_iter()
    }

    fn cpuinfo(cpus: u32) -> Vec<u8> {
        cpu::info(cpus)
    }
}

/// riscv_flush_icache(2): the kernel ignores the range, and flushes all; programs give it nevertheless.
fn flush_icache([start, end, flags, ..]: [u64; 6]) -> Result<i64, Errno> {
    const LOCAL: u64 = 1;
    if flags & !LOCAL != 0 {
        return Err(errno::EINVAL);
    }
    CHANGES.invalidate(if start < end { start..end } else { 0..u64::MAX });
    Ok(0)
}

/// prctl(2): features that this CPU does not have, vectors, which are always on, and who flushes instruction
/// caches.
fn prctl(a: &[u64; 6]) -> Option<Result<i64, Errno>> {
    const PR_SET_TAGGED_ADDR_CTRL: u64 = 55;
    const PR_GET_TAGGED_ADDR_CTRL: u64 = 56;
    const PR_RISCV_V_SET_CONTROL: u64 = 69;
    const PR_RISCV_V_GET_CONTROL: u64 = 70;
    /// PR_RISCV_V_VSTATE_CTRL_ON, and where the setting for the next program lies.
    const ON: u64 = 2;
    const OFF: u64 = 1;
    const NEXT: u32 = 2;
    /// FENCE.I is heeded by all threads in any case.
    const PR_RISCV_SET_ICACHE_FLUSH_CTX: u64 = 71;
    Some(match a[0] as u32 as u64 {
        PR_SET_TAGGED_ADDR_CTRL | PR_GET_TAGGED_ADDR_CTRL => Err(errno::EINVAL),
        PR_RISCV_V_GET_CONTROL => Ok(ON.cast_signed()),
        // Vectors cannot be turned off, neither here nor for the next program.
        PR_RISCV_V_SET_CONTROL => match (a[1] & 3, a[1] >> NEXT & 3, a[1] >> 5) {
            (0 | ON, 0 | ON, 0) => Ok(0),
            (OFF, _, 0) => Err(errno::EPERM),
            _ => Err(errno::EINVAL),
        },
        PR_RISCV_SET_ICACHE_FLUSH_CTX if a[1] <= 1 && a[2] <= 1 => Ok(0),
        PR_RISCV_SET_ICACHE_FLUSH_CTX => Err(errno::EINVAL),
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
        let calls = [(38, None), (56, Some("openat")), (258, Some("riscv_hwprobe")), (1000, None)];
        for (number, name) in calls {
            assert_eq!(Riscv64::row(number).map(Row::name), name);
        }
    }
}
