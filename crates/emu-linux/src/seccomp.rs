//! System call filters that the guest installs for itself (seccomp(2)): classic BPF programs over the guest's
//! own call numbers and arguments. The host's kernel cannot run them, so they are interpreted at each call.
//!
//! A filter is never changed and never freed: threads share chains of filters, as in the kernel. A chain
//! outlives execve: it is passed to the next emulator in a file in memory. Listeners
//! (SECCOMP_FILTER_FLAG_NEW_LISTENER) are refused.

use crate::arch::call::{Call, Row};
use crate::guest;
use crate::lock::{self, Held, Lock};
use crate::options;
use crate::shared::{self, SigInfo};
use crate::signal::number::{KILL, SYS};
use crate::sys::file::{Fd, in_memory, read_at};
use crate::sys::signal::die;
use crate::sys::{self, Errno, errno};
use crate::thread::Thread;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// Most instructions of a filter (Linux, BPF_MAXINSNS).
const INSTRUCTIONS_MAX: usize = 4096;
/// Most instructions of a chain, with [`PENALTY`] for each filter (Linux, MAX_INSNS_PER_PATH).
const CHAIN_MAX: usize = 32768;
const PENALTY: usize = 4;
/// Bytes of a `struct seccomp_data`.
const DATA_SIZE: u32 = 64;

/// A `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

impl Instruction {
    fn from_word(word: u64) -> Instruction {
        let [code_low, code_high, jump_true, jump_false, k @ ..] = word.to_le_bytes();
        Instruction {
            code: u16::from_le_bytes([code_low, code_high]),
            jump_true,
            jump_false,
            k: u32::from_le_bytes(k),
        }
    }

    fn to_word(self) -> u64 {
        u64::from(self.code)
            | u64::from(self.jump_true) << 16
            | u64::from(self.jump_false) << 24
            | u64::from(self.k) << 32
    }
}

/// A filter, and the filters installed before it.
pub struct Filter {
    program: Vec<Instruction>,
    /// Whether calls that are not allowed are logged (SECCOMP_FILTER_FLAG_LOG).
    log: bool,
    previous: Option<&'static Filter>,
}

/// Held while filters are set, and while a thread's filters are copied.
static CHANGE: Lock<()> = lock::new(());

/// Keeps the threads' filters as they are, for a new thread and for a fork.
pub(crate) fn hold() -> Held<'static, ()> {
    CHANGE.lock()
}

/// A thread's `filters` word in strict mode.
pub(crate) const STRICT: u64 = 1;

/// The filters of a thread, from its `filters` word.
fn chain(word: u64) -> Option<&'static Filter> {
    // SAFETY: all other values are addresses of leaked boxes.
    if word <= STRICT { None } else { unsafe { (word as *const Filter).as_ref() } }
}

fn all(newest: Option<&'static Filter>) -> impl Iterator<Item = &'static Filter> {
    core::iter::successors(newest, |filter| filter.previous)
}

// Classic BPF (Linux, include/uapi/linux/bpf_common.h and filter.h).
const LOAD_ABSOLUTE: u16 = 0x20;
const LOAD_LENGTH: u16 = 0x80;
const LOAD_X_LENGTH: u16 = 0x81;
const LOAD: u16 = 0x00;
const LOAD_X: u16 = 0x01;
const LOAD_MEMORY: u16 = 0x60;
const LOAD_X_MEMORY: u16 = 0x61;
const STORE: u16 = 0x02;
const STORE_X: u16 = 0x03;
const RETURN: u16 = 0x06;
const RETURN_A: u16 = 0x16;
const NEGATE: u16 = 0x84;
const TO_X: u16 = 0x07;
const FROM_X: u16 = 0x87;
const JUMP: u16 = 0x05;
const ALU: u16 = 0x04;
const JUMP_IF: u16 = 0x05;
const CLASS: u16 = 0x07;
const OPERATION: u16 = 0xf0;
const BY_X: u16 = 0x08;
const ADD: u16 = 0x00;
const SUBTRACT: u16 = 0x10;
const MULTIPLY: u16 = 0x20;
const DIVIDE: u16 = 0x30;
const OR: u16 = 0x40;
const AND: u16 = 0x50;
const SHIFT_LEFT: u16 = 0x60;
const SHIFT_RIGHT: u16 = 0x70;
const XOR: u16 = 0xa0;
const EQUAL: u16 = 0x10;
const GREATER: u16 = 0x20;
const GREATER_OR_EQUAL: u16 = 0x30;
const SET: u16 = 0x40;

/// Whether the kernel's two verifiers (bpf_check_classic and seccomp_check_filter) accept a program: known
/// instructions, no jump out of the program, a return at the end, no load from memory that was not written.
fn is_valid(program: &[Instruction]) -> bool {
    // For each instruction, the memory that is written on every path to it.
    let mut ways = alloc::vec![u16::MAX; program.len()];
    let mut written = 0u16;
    for (at, instruction) in program.iter().enumerate() {
        let Instruction { code, jump_true, jump_false, k } = *instruction;
        written &= ways[at];
        let mut jumps = |distances: &[u64]| {
            distances.iter().all(|distance| match usize::try_from(at as u64 + 1 + distance) {
                Ok(target) if target < program.len() => {
                    ways[target] &= written;
                    true
                }
                _ => false,
            })
        };
        let valid = match code {
            LOAD_ABSOLUTE => k < DATA_SIZE && k % 4 == 0,
            LOAD_LENGTH | LOAD_X_LENGTH | LOAD | LOAD_X | RETURN | RETURN_A | NEGATE | TO_X | FROM_X => true,
            LOAD_MEMORY | LOAD_X_MEMORY => k < 16 && written & 1 << k != 0,
            STORE | STORE_X if k < 16 => {
                written |= 1 << k;
                true
            }
            JUMP => {
                let valid = jumps(&[u64::from(k)]);
                written = u16::MAX;
                valid
            }
            _ if code & CLASS == JUMP_IF && code >> 8 == 0 => {
                let known = matches!(code & OPERATION, EQUAL | GREATER | GREATER_OR_EQUAL | SET);
                let valid = known && jumps(&[u64::from(jump_true), u64::from(jump_false)]);
                written = u16::MAX;
                valid
            }
            _ if code & CLASS == ALU && code >> 8 == 0 => match code & OPERATION {
                ADD | SUBTRACT | MULTIPLY | OR | AND | XOR => true,
                DIVIDE => code & BY_X != 0 || k != 0,
                SHIFT_LEFT | SHIFT_RIGHT => code & BY_X != 0 || k < 32,
                _ => false,
            },
            _ => false,
        };
        if !valid {
            return false;
        }
    }
    matches!(program.last(), Some(Instruction { code: RETURN | RETURN_A, .. }))
}

/// Runs a valid program on the words of a `struct seccomp_data`.
fn run(program: &[Instruction], data: &[u32; 16]) -> u32 {
    let (mut a, mut x, mut memory, mut at) = (0u32, 0u32, [0u32; 16], 0);
    loop {
        let Instruction { code, jump_true, jump_false, k } = program[at];
        at += 1;
        match code {
            LOAD_ABSOLUTE => a = data[k as usize / 4],
            LOAD_LENGTH => a = DATA_SIZE,
            LOAD_X_LENGTH => x = DATA_SIZE,
            LOAD => a = k,
            LOAD_X => x = k,
            LOAD_MEMORY => a = memory[k as usize],
            LOAD_X_MEMORY => x = memory[k as usize],
            STORE => memory[k as usize] = a,
            STORE_X => memory[k as usize] = x,
            RETURN => return k,
            RETURN_A => return a,
            NEGATE => a = a.wrapping_neg(),
            TO_X => x = a,
            FROM_X => a = x,
            JUMP => at += k as usize,
            _ => {
                let operand = if code & BY_X != 0 { x } else { k };
                if code & CLASS == JUMP_IF {
                    let holds = match code & OPERATION {
                        EQUAL => a == operand,
                        GREATER => a > operand,
                        GREATER_OR_EQUAL => a >= operand,
                        _ => a & operand != 0,
                    };
                    at += usize::from(if holds { jump_true } else { jump_false });
                    continue;
                }
                a = match code & OPERATION {
                    ADD => a.wrapping_add(operand),
                    SUBTRACT => a.wrapping_sub(operand),
                    MULTIPLY => a.wrapping_mul(operand),
                    OR => a | operand,
                    AND => a & operand,
                    XOR => a ^ operand,
                    SHIFT_LEFT => a.wrapping_shl(operand),
                    SHIFT_RIGHT => a.wrapping_shr(operand),
                    // A division by zero ends the filter with 0.
                    _ => match a.checked_div(operand) {
                        Some(quotient) => quotient,
                        None => return 0,
                    },
                };
            }
        }
    }
}

// Actions of filters (Linux, include/uapi/linux/seccomp.h).
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
const ACTION: u32 = 0xffff_0000;

/// The filters' decision on a call.
pub(crate) enum Verdict {
    /// The call is made.
    Allowed,
    /// The call is not made and has this result.
    Result(Result<i64, Errno>),
    /// The call is not made and raises SIGSYS.
    Trapped(SigInfo),
    /// The process dies of SIGKILL.
    Killed,
    /// The thread ends, or the process if it has no other thread.
    ThreadEnds,
    /// The process dies of SIGSYS.
    ProcessEnds,
}

/// A call that filters are asked about.
pub(crate) struct Asked<'call> {
    /// Its number.
    pub(crate) number: u64,
    /// Its row; none if the number is unknown.
    pub(crate) row: Option<&'static Row>,
    /// The registers of its arguments.
    pub(crate) registers: &'call [u64; 6],
    /// The program counter.
    pub(crate) pc: u64,
}

/// Whether a thread has filters.
#[inline(always)]
pub(crate) fn has_filters(thread: &Thread) -> bool {
    thread.shared.filters.load(Ordering::Relaxed) != 0
}

/// Asks the thread's filters about a call. `architecture` is the guest's AUDIT_ARCH_ number.
pub(crate) fn ask(thread: &Thread, asked: &Asked, architecture: u32) -> Verdict {
    let word = thread.shared.filters.load(Ordering::Relaxed);
    let Asked { number, row, registers, pc } = *asked;
    if word == STRICT {
        return match row.map(|row| row.call) {
            Some(Call::Read | Call::Write | Call::Exit | Call::RtSigreturn) => Verdict::Allowed,
            _ => Verdict::Killed,
        };
    }
    let mut data = [0u32; 16];
    data[0] = number as u32;
    data[1] = architecture;
    for (pair, word) in data[2..].chunks_exact_mut(2).zip([pc].iter().chain(registers)) {
        pair.copy_from_slice(&[*word as u32, (*word >> 32) as u32]);
    }
    let (mut verdict, mut log) = (ALLOW, false);
    for filter in all(chain(word)) {
        let this = run(&filter.program, &data);
        if ((this & ACTION) as i32) < (verdict & ACTION) as i32 {
            (verdict, log) = (this, filter.log);
        }
    }
    let low = verdict & !ACTION;
    if log && verdict & ACTION != ALLOW && options::get().log == options::Log::Refused {
        sys::complain(&alloc::format!("crossdock-emu: seccomp: call {number} met action {verdict:#x}\n"));
    }
    match verdict & ACTION {
        ALLOW | LOG => Verdict::Allowed,
        ERRNO => Verdict::Result(Errno::check(-i64::from(low.min(4095)))),
        // There is no tracer and no listener.
        TRACE | USER_NOTIF => Verdict::Result(Err(errno::ENOSYS)),
        TRAP => {
            const SYS_SECCOMP: u64 = 1;
            // si_signo, si_errno; si_code; si_call_addr; si_syscall, si_arch.
            let mut info = SigInfo::default();
            info[0] = u64::from(SYS) | u64::from(low) << 32;
            info[1] = SYS_SECCOMP;
            info[2] = pc;
            info[3] = number & 0xffff_ffff | u64::from(architecture) << 32;
            Verdict::Trapped(info)
        }
        KILL_THREAD => Verdict::ThreadEnds,
        // KILL_PROCESS, and actions that the kernel does not know.
        _ => Verdict::ProcessEnds,
    }
}

/// prctl(PR_GET_SECCOMP): the mode of the thread.
pub(crate) fn mode(thread: &Thread) -> i64 {
    thread.shared.filters.load(Ordering::Relaxed).min(2) as i64
}

/// prctl(PR_SET_SECCOMP), for a guest whose pointers have `word` bytes.
pub(crate) fn prctl(thread: &Thread, word: u64, mode: u64, program: u64) -> Result<i64, Errno> {
    const SECCOMP_MODE_STRICT: u64 = 1;
    const SECCOMP_MODE_FILTER: u64 = 2;
    match mode {
        SECCOMP_MODE_STRICT => set_strict(thread),
        SECCOMP_MODE_FILTER => set_filter(thread, word, 0, program),
        _ => Err(errno::EINVAL),
    }
}

/// seccomp(2), for a guest whose pointers have `word` bytes.
pub(crate) fn seccomp(
    thread: &Thread,
    word: u64,
    operation: u64,
    flags: u64,
    argument: u64,
) -> Result<i64, Errno> {
    const SET_MODE_STRICT: u64 = 0;
    const SET_MODE_FILTER: u64 = 1;
    const GET_ACTION_AVAIL: u64 = 2;
    match operation as u32 as u64 {
        SET_MODE_STRICT if flags == 0 && argument == 0 => set_strict(thread),
        SET_MODE_FILTER => set_filter(thread, word, flags, argument),
        GET_ACTION_AVAIL if flags == 0 => match guest::read32(argument)? {
            KILL_PROCESS | KILL_THREAD | TRAP | ERRNO | TRACE | LOG | ALLOW => Ok(0),
            _ => Err(errno::EOPNOTSUPP),
        },
        _ => Err(errno::EINVAL),
    }
}

fn set_strict(thread: &Thread) -> Result<i64, Errno> {
    let _held = hold();
    if thread.shared.filters.load(Ordering::Relaxed) > STRICT {
        return Err(errno::EINVAL);
    }
    thread.shared.filters.store(STRICT, Ordering::Relaxed);
    Ok(0)
}

fn set_filter(thread: &Thread, word: u64, flags: u64, argument: u64) -> Result<i64, Errno> {
    const TSYNC: u64 = 1;
    const LOG_FLAG: u64 = 2;
    const SPEC_ALLOW: u64 = 4;
    const TSYNC_ESRCH: u64 = 16;
    if flags & !(TSYNC | LOG_FLAG | SPEC_ALLOW | TSYNC_ESRCH) != 0 {
        return Err(errno::EINVAL);
    }
    // struct sock_fprog: a length of 2 bytes, the address.
    let [length, address] = guest::read_pointers::<2>(argument, word)?;
    let length = (length & 0xffff) as usize;
    if length == 0 || length > INSTRUCTIONS_MAX {
        return Err(errno::EINVAL);
    }
    if !may_filter() {
        return Err(errno::EACCES);
    }
    let program = (0..length as u64)
        .map(|n| guest::read64(address.wrapping_add(8 * n)).map(Instruction::from_word))
        .collect::<Result<Vec<_>, Errno>>()?;
    if !is_valid(&program) {
        return Err(errno::EINVAL);
    }
    let _held = hold();
    let own = thread.shared.filters.load(Ordering::Relaxed);
    if own == STRICT {
        return Err(errno::EINVAL);
    }
    let previous = chain(own);
    let total: usize = all(previous).map(|filter| filter.program.len() + PENALTY).sum();
    if total + length > CHAIN_MAX {
        return Err(errno::ENOMEM);
    }
    if flags & TSYNC != 0 {
        // Each other thread's chain must be part of this thread's.
        let is_ancestor = |word: u64| {
            word == 0
                || word != STRICT && all(previous).any(|filter| core::ptr::from_ref(filter) as u64 == word)
        };
        let mut others = shared::other_threads(thread.shared);
        if let Some(other) = others.find(|other| !is_ancestor(other.filters.load(Ordering::Relaxed))) {
            let thread = i64::from(other.thread.load(Ordering::Relaxed));
            return if flags & TSYNC_ESRCH != 0 { Err(errno::ESRCH) } else { Ok(thread) };
        }
    }
    let filter = Box::leak(Box::new(Filter { program, log: flags & LOG_FLAG != 0, previous }));
    let word = core::ptr::from_ref(filter) as u64;
    thread.shared.filters.store(word, Ordering::Relaxed);
    if flags & TSYNC != 0 {
        for other in shared::other_threads(thread.shared) {
            other.filters.store(word, Ordering::Relaxed);
        }
    }
    Ok(0)
}

/// Whether the thread can gain no rights by execve, or is an administrator: the kernel requires one of them.
fn may_filter() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    sys::process::has_no_new_privileges() || sys::process::has_capability(CAP_SYS_ADMIN)
}

/// A file in memory with the thread's filters, for the program that it executes; `None` if it has no filters.
///
/// Returns the errors of memfd_create(2) and write(2).
pub(crate) fn save(thread: &Thread) -> Result<Option<Fd>, Errno> {
    let newest = chain(thread.shared.filters.load(Ordering::Relaxed));
    if newest.is_none() {
        return Ok(None);
    }
    // For each filter, newest first: the number of instructions and the log flag, then the instructions.
    let words: Vec<u64> = all(newest)
        .flat_map(|filter| {
            let head = filter.program.len() as u64 | u64::from(filter.log) << 32;
            core::iter::once(head).chain(filter.program.iter().map(|instruction| instruction.to_word()))
        })
        .collect();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    in_memory(c"seccomp", 0, &bytes).map(Some)
}

/// Reads the filters that [`save`] wrote and closes the file. If they cannot be read, the process ends: it
/// must not go on without them.
pub(crate) fn load(file: Fd) -> u64 {
    let mut words = Vec::new();
    let mut word = [0u8; 8];
    while read_at(file.number(), &mut word, 8 * words.len() as u64) == Ok(8) {
        words.push(u64::from_le_bytes(word));
    }
    drop(file);
    let mut filters = Vec::new();
    let mut rest = &words[..];
    while let Some((head, more)) = rest.split_first() {
        let Some((program, more)) = more.split_at_checked(*head as u32 as usize) else { break };
        let program: Vec<Instruction> = program.iter().copied().map(Instruction::from_word).collect();
        if !is_valid(&program) {
            break;
        }
        filters.push((program, head >> 32 != 0));
        rest = more;
    }
    if filters.is_empty() || !rest.is_empty() {
        sys::complain("crossdock-emu: the seccomp filters of this process were damaged on their way\n");
        die(KILL);
    }
    let oldest_first = filters.into_iter().rev();
    let newest = oldest_first.fold(None, |previous, (program, log)| {
        Some(&*Box::leak(Box::new(Filter { program, log, previous })))
    });
    newest.map_or(0, |filter| core::ptr::from_ref(filter) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(list: &[(u16, u8, u8, u32)]) -> Vec<Instruction> {
        list.iter()
            .map(|&(code, jump_true, jump_false, k)| Instruction { code, jump_true, jump_false, k })
            .collect()
    }

    #[test]
    fn programs_that_leave_their_bounds_are_refused() {
        let good = program(&[
            (LOAD_ABSOLUTE, 0, 0, 4),
            (JUMP | EQUAL, 1, 0, 7),
            (RETURN, 0, 0, 1),
            (RETURN_A, 0, 0, 0),
        ]);
        assert!(is_valid(&good));
        for bad in [
            &[][..],
            &[(LOAD, 0, 0, 1)],
            &[(LOAD_ABSOLUTE, 0, 0, 64), (RETURN, 0, 0, 0)],
            &[(LOAD_ABSOLUTE, 0, 0, 2), (RETURN, 0, 0, 0)],
            &[(JUMP, 0, 0, 1), (RETURN, 0, 0, 0)],
            &[(JUMP, 0, 0, u32::MAX), (RETURN, 0, 0, 0)],
            &[(JUMP | EQUAL, 0, 1, 0), (RETURN, 0, 0, 0)],
            &[(ALU | DIVIDE, 0, 0, 0), (RETURN, 0, 0, 0)],
            &[(ALU | SHIFT_LEFT, 0, 0, 32), (RETURN, 0, 0, 0)],
            &[(ALU | 0x90, 0, 0, 1), (RETURN, 0, 0, 0)],
            &[(STORE, 0, 0, 16), (RETURN, 0, 0, 0)],
            &[(LOAD_MEMORY, 0, 0, 0), (RETURN, 0, 0, 0)],
            // Written on only one of two paths.
            &[(JUMP | EQUAL, 0, 1, 0), (STORE, 0, 0, 3), (LOAD_MEMORY, 0, 0, 3), (RETURN, 0, 0, 0)],
            &[(0x30, 0, 0, 0), (RETURN, 0, 0, 0)],
            &[(0x120, 0, 0, 0), (RETURN, 0, 0, 0)],
        ] {
            assert!(!is_valid(&program(bad)), "{bad:x?}");
        }
        let both = [
            (JUMP | EQUAL, 0, 2, 0),
            (STORE, 0, 0, 3),
            (JUMP, 0, 0, 1),
            (STORE, 0, 0, 3),
            (LOAD_MEMORY, 0, 0, 3),
            (RETURN, 0, 0, 0),
        ];
        assert!(is_valid(&program(&both)));
    }

    #[test]
    fn programs_compute() {
        let mut data = [0; 16];
        data[3] = 40;
        let of = |list: &[(u16, u8, u8, u32)]| {
            let program = program(list);
            assert!(is_valid(&program), "{list:x?}");
            run(&program, &data)
        };
        assert_eq!(of(&[(LOAD_ABSOLUTE, 0, 0, 12), (ALU | ADD, 0, 0, 2), (RETURN_A, 0, 0, 0)]), 42);
        assert_eq!(of(&[(LOAD_LENGTH, 0, 0, 0), (RETURN_A, 0, 0, 0)]), 64);
        assert_eq!(
            of(&[
                (LOAD, 0, 0, 6),
                (TO_X, 0, 0, 0),
                (LOAD, 0, 0, 7),
                (ALU | MULTIPLY | BY_X, 0, 0, 0),
                (RETURN_A, 0, 0, 0)
            ]),
            42
        );
        assert_eq!(of(&[(LOAD, 0, 0, 7), (ALU | DIVIDE | BY_X, 0, 0, 0), (RETURN, 0, 0, 9)]), 0);
        assert_eq!(
            of(&[(LOAD, 0, 0, 5), (JUMP | GREATER_OR_EQUAL, 0, 1, 5), (RETURN, 0, 0, 1), (RETURN, 0, 0, 2)]),
            1
        );
        assert_eq!(of(&[(LOAD, 0, 0, 1), (NEGATE, 0, 0, 0), (RETURN_A, 0, 0, 0)]), u32::MAX);
    }

    #[test]
    fn instructions_keep_their_words() {
        let word = 0x1234_5678_0a0b_0015;
        assert_eq!(Instruction::from_word(word).to_word(), word);
    }
}
