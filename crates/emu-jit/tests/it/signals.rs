//! Signals that interrupt generated code.

use crate::cases::Mapping;
use crate::host::engine;
use crossdock_emu_guest::a64::{Exit, Host, State};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_jit::interrupt_soon;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SIZE: usize = 0x2000;
/// Where the function begins in the program.
const FUNCTION: u64 = 7 * 4;
/// A loop that calls a function X2 times. Both use memory at X1; flags and carries live from one to the next.
#[rustfmt::skip]
const PROGRAM: [u32; 24] = [
    0x9400_0007, // bl 1c <work>
    0xf940_0425, // ldr x5, [x1, #8]
    0x8b00_00a5, // add x5, x5, x0
    0xf900_0425, // str x5, [x1, #8]
    0xf100_0442, // subs x2, x2, #0x1
    0x54ff_ff61, // b.ne 0 <loop>
    0xd420_0000, // brk #0x0
    0x9100_0400, // add x0, x0, #0x1
    0xca00_0c00, // eor x0, x0, x0, lsl #3
    0xab00_0063, // adds x3, x3, x0
    0x9a1f_0084, // adc x4, x4, xzr
    0xf900_0023, // str x3, [x1]
    0x9b03_7c06, // mul x6, x0, x3
    0xa940_2027, // ldp x7, x8, [x1]
    0xab08_00e7, // adds x7, x7, x8
    0x9a87_34e7, // cinc x7, x7, cs
    0x9e62_00e0, // scvtf d0, x7
    0x1e60_2821, // fadd d1, d1, d0
    0xeb06_00ea, // subs x10, x7, x6
    0x9a87_314b, // csel x11, x10, x7, cc
    0x9acb_08cc, // udiv x12, x6, x11
    0xca0c_0000, // eor x0, x0, x12
    0xa901_302b, // stp x11, x12, [x1, #16]
    0xd65f_03c0, // ret
];

/// The interrupt flags of the threads of the tests, by number.
static FLAGS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

thread_local! {
    static NUMBER: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

extern "C" fn on_signal(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    FLAGS[NUMBER.get()].store(1, Ordering::SeqCst);
    // SAFETY: the kernel passes a ucontext_t to a handler with SA_SIGINFO.
    unsafe {
        let registers = &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        interrupt_soon(registers[libc::REG_RIP as usize] as u64, registers[libc::REG_RBP as usize] as u64);
    }
}

/// The program's registers and memory at its end, and how often it was interrupted at which address.
type Outcome = (State, Vec<u8>, BTreeMap<u64, u64>);

/// Runs the program in the calling thread. `taken` counts signals.
fn run(base: u64, memory: &Mapping, number: usize, rounds: u64, taken: &AtomicU64) -> Outcome {
    NUMBER.set(number);
    // SAFETY: the window holds the mapping of the program, and this thread's.
    let window = unsafe { Memory::new(base, memory.0 + SIZE as u64) };
    let host = Host { memory: window, counter: || 0, executable: Host::anywhere };
    let mut engine = engine();
    engine.translate_after(0);
    let mut state = State::default();
    (state.pc, state.gpr[1], state.gpr[2]) = (base, memory.0, rounds);
    let mut places = BTreeMap::new();
    loop {
        match engine.run(&mut state, &host, &FLAGS[number]) {
            Exit::Interrupted => {
                FLAGS[number].store(0, Ordering::SeqCst);
                *places.entry(state.pc - base).or_default() += 1;
                taken.fetch_add(1, Ordering::SeqCst);
            }
            exit => {
                assert_eq!(exit, Exit::Breakpoint(0));
                break;
            }
        }
    }
    // SAFETY: the mapping is long enough.
    let bytes = unsafe { std::slice::from_raw_parts(memory.0 as *const u8, 32) }.to_vec();
    (state, bytes, places)
}

/// Sends `count` signals to a thread, each once the one before has been taken.
fn interrupt(thread: libc::pthread_t, count: u64, taken: &AtomicU64, ended: &AtomicBool) {
    let start = Instant::now();
    for number in 0..count {
        // SAFETY: the thread is joined later.
        assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
        while taken.load(Ordering::SeqCst) <= number && !ended.load(Ordering::SeqCst) {
            assert!(start.elapsed() < Duration::from_secs(60), "{number} signals were taken");
            std::hint::spin_loop();
        }
        // The signals do not always come at the same place.
        (0..number % 251 * 20).for_each(|_| std::hint::spin_loop());
    }
}

fn install() {
    // SAFETY: an all-zero sigaction is valid; the handler keeps to what a handler may do.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigfillset(&mut action.sa_mask);
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
}

#[test]
fn signals_are_taken_where_they_hit_and_change_nothing() {
    const ROUNDS: u64 = 30_000_000;
    const COUNT: u64 = 3000;
    static TAKEN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    static ENDED: AtomicBool = AtomicBool::new(false);
    // Creates other engines first: none may be created while a single engine runs.
    let _more = [engine(), engine()];
    install();
    let base = 0x4b_0000_0000;
    let bytes: Vec<u8> = PROGRAM.iter().flat_map(|word| word.to_le_bytes()).collect();
    let program = Mapping::new(base, &bytes, SIZE);
    let data = [0x4b_0001_0000, 0x4b_0002_0000, 0x4b_0003_0000].map(|at| Mapping::new(at, &[], SIZE));
    let expected = run(program.0, &data[0], 0, ROUNDS, &TAKEN[0]);
    // The other thread runs the same code, and meets the breakpoints meant for the first.
    let [_, first, second] = data;
    let other = std::thread::spawn(move || run(base, &second, 1, ROUNDS, &TAKEN[1]));
    let (send, receive) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        // SAFETY: names the calling thread.
        send.send(unsafe { libc::pthread_self() }).expect("the test waits");
        NUMBER.set(0);
        let outcome = run(base, &first, 0, ROUNDS, &TAKEN[0]);
        ENDED.store(true, Ordering::SeqCst);
        // No signal finds the thread gone.
        (outcome, first)
    });
    interrupt(receive.recv().expect("the thread says who it is"), COUNT, &TAKEN[0], &ENDED);
    let ((state, bytes, places), _first) = thread.join().expect("the program ends");
    let other = other.join().expect("the program ends");
    for (state, bytes) in [(&state, &bytes), (&other.0, &other.1)] {
        assert_eq!(state.gpr[2], 0);
        assert_eq!(bytes, &expected.1);
        let both = [state, &expected.0].map(|state| {
            let mut registers = state.gpr;
            registers[1] = 0;
            (registers, state.v, state.nzcv, state.pc)
        });
        assert_eq!(both[0], both[1]);
    }
    assert_eq!(other.2.len(), 0);
    let inside: u64 = places.range(FUNCTION..).map(|(_, count)| count).sum();
    let all: u64 = places.values().sum();
    assert!(
        all >= 30 && inside > all / 4,
        "{inside} of {all} signals were taken in the function: {places:?}"
    );
    assert!(places.len() >= 5, "{places:?}");
}
