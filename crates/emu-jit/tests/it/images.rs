//! Images: the same bytes wherever the code lies, and the same results as the interpreter's.

use crate::cases::{Mapping, Random};
use crate::host::{LOG, attach, engine};
use crossdock_emu_guest::a64::{A64, Exit, Host, Interpreter, State, TABLE};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_jit::Features;
use crossdock_emu_jit::image::compile::{Request, compile};
use crossdock_emu_jit::image::format::{self, Identity, Image, Profile};
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

/// Programs share the log of changes, and the arena.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const VERSION: [u8; 32] = [7; 32];
const SIZE: usize = 1 << 14;

fn window(mapping: &Mapping) -> Host {
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(mapping.0, mapping.0 + SIZE as u64) };
    Host { memory, counter: || 0, executable: Host::anywhere }
}

/// The image of code that lies `within` bytes from the start of a file, which is at `mapping`.
fn image_of(mapping: &Mapping, text: std::ops::Range<u32>, profile: &Profile) -> Option<Vec<u8>> {
    let identity = Identity { version: VERSION, ..Identity::default() };
    let host = window(mapping);
    compile::<A64>(&Request {
        host: &host,
        lines: LOG.lines(),
        base: mapping.0,
        text,
        profile,
        features: Features::of_host(),
        identity,
    })
}

#[test]
fn random_code_gives_the_same_bytes_at_two_addresses() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for seed in 1..=3 {
        let mut random = Random(seed);
        let words: Vec<u32> = (0..SIZE / 4)
            .map(|_| {
                let row = &TABLE[random.next() as usize % TABLE.len()];
                row.value | !row.mask & random.next() as u32
            })
            .collect();
        let mut profile = Profile::default();
        profile.hot.extend((0..40).map(|_| (random.next() as u32 % SIZE as u32) & !3));
        profile.hot.sort_unstable();
        profile.hot.dedup();
        profile.cold.extend((0..SIZE as u32).step_by(4).filter(|_| random.next().is_multiple_of(3)));
        let images = [0x31_0000_0000, 0x7123_4567_8000].map(|at| {
            let mapping = Mapping::new(at, &bytes_of(&words), SIZE);
            image_of(&mapping, 0..SIZE as u32, &profile).expect("there is code")
        });
        assert!(images[0] == images[1], "seed {seed}");
        let image = Image::open(&images[0], &VERSION).expect("an image");
        assert!(format::is_whole(&images[0]) && image.entries() > 500, "{} entries", image.entries());
    }
}

/// A program with what an image must do differently: calls, returns, addresses, literals, an instruction for
/// the interpreter, a loop, an indirect branch. It is called with X0, a number of rounds, and X1, its own
/// start.
const PROGRAM: [u32; 24] = [
    0xd280_0002, // 00 mov x2, #0
    0xd280_0003, // 04 mov x3, #0
    0x9400_000b, // 08 bl 34
    0x1000_00c4, // 0c adr x4, 24
    0x5800_0285, // 10 ldr x5, 60 (literal)
    0xca05_0042, // 14 eor x2, x2, x5
    0xd53b_e046, // 18 mrs x6, cntvct_el0: for the interpreter
    0x8b06_0042, // 1c add x2, x2, x6
    0xd61f_0080, // 20 br x4
    0xf100_0400, // 24 subs x0, x0, #1
    0x54ff_ff01, // 28 b.ne 08
    0x9000_0007, // 2c adrp x7, 0
    0xd420_0000, // 30 brk
    0x9100_0463, // 34 add x3, x3, #1
    0xd280_0148, // 38 mov x8, #10
    0x8b08_0842, // 3c add x2, x2, x8, lsl #2
    0xf100_0508, // 40 subs x8, x8, #1
    0x54ff_ffc1, // 44 b.ne 3c
    0xd65f_03c0, // 48 ret
    0xd503_201f, // 4c nop
    0xd503_201f, // 50 nop
    0xd503_201f, // 54 nop
    0xd503_201f, // 58 nop
    0x1234_5678, // 5c
];

fn blocks() -> Profile {
    Profile { hot: vec![0x3c, 0x8], cold: vec![0, 0xc, 0x24, 0x2c, 0x34, 0x48] }
}

/// The program in memory of its own.
fn program(at: u64) -> Mapping {
    let mut words = PROGRAM.to_vec();
    words.extend([0x89ab_cdef, 0x0123_4567]);
    Mapping::new(at, &bytes_of(&words), SIZE)
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn registers(state: &State) -> (Vec<u64>, u32, u64) {
    (state.gpr[..31].to_vec(), state.nzcv, state.pc)
}

fn start(mapping: &Mapping, rounds: u64) -> State {
    let mut state = State::default();
    (state.pc, state.gpr[0]) = (mapping.0, rounds);
    state
}

/// What the interpreter makes of the program.
fn interpreted(mapping: &Mapping, rounds: u64) -> (Vec<u64>, u32, u64) {
    let mut state = start(mapping, rounds);
    let exit = Interpreter::new(&LOG).run(&mut state, &window(mapping), &AtomicU32::new(0), u64::MAX);
    assert_eq!(exit, Exit::Breakpoint(0));
    registers(&state)
}

#[test]
fn code_of_an_image_does_what_the_interpreter_does_and_changed_code_is_not_served() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let made_at = program(0x32_0000_0000);
    let bytes = image_of(&made_at, 0..0x4c, &blocks()).expect("there is code");
    drop(made_at);
    for at in [0x33_0000_0000, 0x6765_4321_0000] {
        let mapping = program(at);
        LOG.invalidate(at..at + SIZE as u64);
        attach(&bytes, &VERSION, at);
        let mut engine = engine();
        for rounds in [1, 2, 1000] {
            let mut state = start(&mapping, rounds);
            let exit = engine.run(&mut state, &window(&mapping), &AtomicU32::new(0));
            assert_eq!(exit, Exit::Breakpoint(0));
            assert_eq!(registers(&state), interpreted(&mapping, rounds), "{rounds} rounds at {at:#x}");
        }
        assert_eq!(engine.decoded(), 0, "all blocks were in the image");
        // The program changes: `add x3, x3, #1` becomes `add x3, x3, #2`.
        // SAFETY: the mapping is ours, and nobody runs the program.
        unsafe { ((at + 0x34) as *mut u32).write(0x9100_0863) };
        LOG.invalidate(at + 0x34..at + 0x38);
        let mut state = start(&mapping, 50);
        let exit = engine.run(&mut state, &window(&mapping), &AtomicU32::new(0));
        assert_eq!((exit, state.gpr[3]), (Exit::Breakpoint(0), 100));
        assert_eq!(registers(&state), interpreted(&mapping, 50));
        assert!(engine.decoded() > 0);
        LOG.invalidate(at..at + SIZE as u64);
    }
}

#[test]
fn damaged_images_are_refused_or_stay_inside_themselves() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mapping = program(0x34_0000_0000);
    let bytes = image_of(&mapping, 0..0x4c, &blocks()).expect("there is code");
    assert!(Image::open(&bytes, &[8; 32]).is_err(), "another version");
    for length in 0..bytes.len() {
        assert!(Image::open(&bytes[..length], &VERSION).is_err() && !format::is_whole(&bytes[..length]));
    }
    let mut damaged = bytes.clone();
    for bit in 0..8 * bytes.len() {
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(!format::is_whole(&damaged), "bit {bit}");
        // Whoever does not ask gets wrong answers at most.
        if (bit / 8 < 256 || bit % 31 == 0)
            && let Ok(image) = Image::open(&damaged, &VERSION)
        {
            let _ = (image.profile(), image.entries(), image.entry(0x3c), image.record(8));
            let _ = (image.mark(20), image.mark_behind(20));
        }
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
}
