//! Threads that run code while another one changes or drops it.

use crate::cases::Mapping;
use crate::host::{ARENA, LOG, engine, jit};
use crossdock_emu_guest::a64::{Exit, Host, State};
use crossdock_emu_guest::memory::Memory;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const BRK: u32 = 0xd420_0000;
const LIMIT: Duration = Duration::from_secs(60);

fn mapping(address: u64, words: &[u32], size: usize) -> Mapping {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Mapping::new(address, &bytes, size)
}

fn host(mapping: &Mapping, size: u64) -> Host {
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(mapping.0, mapping.0 + size) };
    Host { memory, counter: || 0, executable: Host::anywhere }
}

fn run_at(pc: u64, x0: u64, host: &Host) -> (Exit, u64) {
    let mut engine = engine();
    engine.translate_after(0);
    let mut state = State::default();
    (state.pc, state.gpr[0]) = (pc, x0);
    let exit = engine.run(&mut state, host, &AtomicU32::new(0));
    (exit, state.gpr[1])
}

/// Starts a loop that counts in memory at X0, in another thread, and returns once it runs.
fn spinning(base: u64, counter: &'static AtomicU64, host: Host) -> std::thread::JoinHandle<(Exit, u64)> {
    let thread = std::thread::spawn(move || run_at(base, counter.as_ptr() as u64, &host));
    wait("the loop runs", || counter.load(Ordering::SeqCst) > 1000);
    thread
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "{what}: not after {LIMIT:?}");
        std::thread::yield_now();
    }
}

/// `loop: ldr x1, [x0]; add x1, x1, #1; str x1, [x0]; b loop; brk`.
const LOOP: [u32; 5] = [0xf940_0001, 0x9100_0421, 0xf900_0001, 0x17ff_fffd, BRK];

#[test]
fn a_thread_that_spins_in_code_that_another_changes_sees_the_change() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    // Creates another engine first: none may be created while a single engine runs.
    let _second = engine();
    let base = 0x20_0000_0000;
    let code = mapping(base, &LOOP, 0x2000);
    // The whole address space, for the counter.
    // SAFETY: the guest's program stays within the mapping and the counter.
    let memory = unsafe { Memory::new(0, 1 << 47) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let thread = spinning(base, &COUNTER, host);
    // NOP instead of the branch: the loop ends.
    // SAFETY: the word is in the mapping.
    unsafe { AtomicU32::from_ptr((base as *mut u32).add(3)).store(0xd503_201f, Ordering::SeqCst) };
    LOG.invalidate(base..base + 20);
    // The next thread that checks drops the code, and tells the others.
    // SAFETY: the word is in the mapping.
    unsafe { AtomicU32::from_ptr((base as *mut u32).add(0x400)).store(BRK, Ordering::SeqCst) };
    assert_eq!(run_at(base + 0x1000, 0, &host).0, Exit::Breakpoint(0));
    wait("the thread sees the change", || thread.is_finished());
    let (exit, count) = thread.join().expect("the thread ends by itself");
    assert_eq!(exit, Exit::Breakpoint(0));
    assert_eq!(count, COUNTER.load(Ordering::SeqCst));
    drop(code);
}

#[test]
fn a_full_arena_is_emptied_while_another_thread_spins() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let _second = engine();
    let base = 0x21_0000_0000;
    let code = mapping(base, &LOOP, 0x1000);
    // SAFETY: the guest's program stays within the mapping and the counter.
    let memory = unsafe { Memory::new(0, 1 << 47) };
    let spinning = spinning(base, &COUNTER, Host { memory, counter: || 0, executable: Host::anywhere });

    // Pages of functions: add x1, x1, #1, 1,000 times; brk.
    const FUNCTIONS: usize = 3000;
    let mut words = [0x9100_0421; 1024];
    words[1000] = BRK;
    let functions = mapping(0x22_0000_0000, &words.repeat(FUNCTIONS), FUNCTIONS * 4096);
    let host = host(&functions, FUNCTIONS as u64 * 4096);
    let mut engine = engine();
    engine.translate_after(0);
    let (mut emptied, mut used, mut written) = (0, 0, 0u64);
    for number in 0..FUNCTIONS as u64 {
        let mut state = State::default();
        state.pc = functions.0 + number * 4096;
        let before = COUNTER.load(Ordering::SeqCst);
        assert_eq!(engine.run(&mut state, &host, &AtomicU32::new(0)), Exit::Breakpoint(0));
        assert_eq!(state.gpr[1], 1000);
        let now = jit().hold().size().0;
        written += u64::from(now.saturating_sub(used));
        if now < used {
            emptied += 1;
            wait("the other thread goes on", || COUNTER.load(Ordering::SeqCst) > before);
        }
        used = now;
    }
    assert!(
        emptied >= 2,
        "{written} bytes of code were written to {ARENA}, and it was emptied {emptied} times"
    );
    // SAFETY: the word is in the mapping.
    unsafe { AtomicU32::from_ptr((base as *mut u32).add(3)).store(0xd503_201f, Ordering::SeqCst) };
    LOG.invalidate(base..base + 20);
    let mut state = State::default();
    state.pc = functions.0;
    assert_eq!(engine.run(&mut state, &host, &AtomicU32::new(0)), Exit::Breakpoint(0));
    wait("the other thread sees the change", || spinning.is_finished());
    assert_eq!(spinning.join().expect("the thread ends by itself").0, Exit::Breakpoint(0));
    drop(code);
}
