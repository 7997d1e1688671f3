//! The comparison of an image's code with the interpreter. A program of its own, since that needs a process
//! in which nobody else has an engine.
// Bit fields read better without parentheses around every shift.
#![allow(clippy::precedence)]

#[allow(dead_code)]
#[path = "../../../emu-guest/tests/it/cases.rs"]
mod cases;
#[allow(dead_code)]
#[path = "../it/host.rs"]
mod host;

use cases::Mapping;
use crossdock_emu_guest::a64::{A64, Exit, Host, State};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_jit::image::compile::{Request, compile};
use crossdock_emu_jit::image::format::{Identity, Profile};
use crossdock_emu_jit::{Copies, Features, Outcome};
use host::{LOG, attach, engine};
use std::sync::atomic::{AtomicU32, Ordering};

const SIZE: usize = 1 << 14;

/// Makes an image of the code and attaches it.
fn attach_image_of(code: &Mapping, profile: &Profile) {
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(code.0, code.0 + SIZE as u64) };
    let bytes = compile::<A64>(&Request {
        host: &Host { memory, counter: || 0, executable: Host::anywhere },
        lines: LOG.lines(),
        base: code.0,
        text: 0..SIZE as u32,
        profile,
        features: Features::of_host(),
        identity: Identity::default(),
    });
    attach(&bytes.expect("there is code"), &Identity::default().version, code.0);
}

/// A program that stores in a loop: X0 words of X1 from X2 on, with flags that decide.
const STORES: [u32; 8] = [
    0xf100_0400, // 00 subs x0, x0, #1
    0x8b01_0021, // 04 add x1, x1, x1
    0xf800_8441, // 08 str x1, [x2], #8
    0x54ff_ffa1, // 0c b.ne 00
    0xd280_0063, // 10 mov x3, #3
    0x9b03_7c21, // 14 mul x1, x1, x3
    0xf900_0041, // 18 str x1, [x2]
    0xd420_0000, // 1c brk
];

/// Changes what code has left: the outcome, and the memory.
type Spoils = fn(&mut Outcome, &mut [u8]);

/// Stands in for a copy of the process: it puts the memory back, and keeps what the code has made of it.
struct PutBack<'m> {
    data: &'m Mapping,
    interrupt: &'m AtomicU32,
    after: Vec<u8>,
    spoils: Spoils,
    runs: u32,
}

impl Copies for PutBack<'_> {
    fn run(&mut self, code: &mut dyn FnMut() -> Outcome) -> Option<Outcome> {
        let before = self.data.bytes(SIZE);
        let mut outcome = code();
        self.after = self.data.bytes(SIZE);
        // SAFETY: the mapping has as many bytes.
        unsafe { std::ptr::copy_nonoverlapping(before.as_ptr(), self.data.0 as *mut u8, SIZE) };
        self.interrupt.store(0, Ordering::Relaxed);
        (self.spoils)(&mut outcome, &mut self.after);
        self.runs += 1;
        Some(outcome)
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        let start = (address - self.data.0) as usize;
        bytes.copy_from_slice(&self.after[start..start + bytes.len()]);
        true
    }

    fn end(&mut self) {}
}

#[test]
fn code_of_an_image_is_compared_with_the_interpreter() {
    const AT: u64 = 0x41_0000_0000;
    let bytes: Vec<u8> = STORES.iter().flat_map(|word| word.to_le_bytes()).collect();
    let code = Mapping::new(AT, &bytes, SIZE);
    let data = Mapping::new(AT + SIZE as u64, &[], SIZE);
    let profile = Profile { hot: vec![0], cold: vec![0x10] };
    attach_image_of(&code, &profile);
    let spoils: [(Spoils, &str); 4] = [
        (|_, _| {}, ""),
        (|outcome, _| outcome.state.gpr[1] ^= 1, "X1: translated"),
        (|outcome, _| outcome.state.pc += 8, "differs, at 0x4100000008"),
        (|_, bytes| bytes[9] ^= 0x80, "byte at 0x4100004009: translated"),
    ];
    // SAFETY: the window holds the two mappings.
    let memory = unsafe { Memory::new(AT, AT + 2 * SIZE as u64) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    for (spoils, expected) in spoils {
        let mut engine = engine();
        let interrupt = AtomicU32::new(0);
        let mut copies = PutBack { data: &data, interrupt: &interrupt, after: Vec::new(), spoils, runs: 0 };
        let mut state = State::default();
        (state.pc, state.gpr[0], state.gpr[1], state.gpr[2]) = (AT, 5, 1, data.0);
        let result = loop {
            match engine.check(&mut state, &host, &interrupt, &mut copies) {
                Ok(Exit::Budget) => {}
                result => break result,
            }
        };
        assert!(copies.runs > 0, "no code of the image has run");
        if expected.is_empty() {
            assert_eq!(result, Ok(Exit::Breakpoint(0)));
            assert_eq!((state.gpr[0], state.gpr[1], state.gpr[2]), (0, 96, data.0 + 40));
            let words: Vec<u64> =
                data.bytes(48).chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
            assert_eq!(words, [2, 4, 8, 16, 32, 96]);
        } else {
            let text = result.expect_err("a difference");
            assert!(text.contains(expected), "{text}");
        }
    }
}
