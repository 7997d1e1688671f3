//! Random programs of loops, translated and interpreted, compared after each fault and at the end. Interrupts
//! come at different places in the two; an interrupted program goes on.
//!
//! `CROSSDOCK_DIFFER_CASES` and `CROSSDOCK_DIFFER_SEED` as for the single instructions; a case is a program.

use crate::cases::{Mapping, Random};
use crate::differences::Differences;
use crate::host::{LOG, engine, jit};
use crossdock_emu_guest::a64::{Exit, Host, Interpreter, State};
use crossdock_emu_guest::memory::Memory;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const BRK: u32 = 0xd420_0000;
const B: u32 = 0x1400_0000;
const BL: u32 = 0x9400_0000;
const RET: u32 = 0xd65f_03c0;
/// Runs of a program, each from random registers and, except for the first, from anywhere in the program.
const RUNS: u64 = 6;

const CODE: u64 = 0x30_0000_0000;
const CODE_SIZE: usize = 0x8000;
/// Memory that the program uses, with nothing around it.
const DATA: u64 = CODE + 0x10_0000;
const DATA_SIZE: usize = 0x2000;
/// The interrupt flag, which the program sets.
const FLAG: u64 = CODE + 0x20_0000;
/// Time for a few programs; each program adds three milliseconds, more than twice what it needs.
const LIMIT: Duration = Duration::from_secs(180);
const END: u64 = CODE + 0x30_0000;

/// Instructions with random registers: the word, and the fields that take one: 5 bits each at these places.
const GENERAL: [(u32, &[u32]); 44] = [
    (0x8b00_0000, &[0, 5, 16]),     // add
    (0x0b00_0c00, &[0, 5, 16]),     // add w, w, w, lsl #3
    (0xab00_0000, &[0, 5, 16]),     // adds
    (0xcb00_0000, &[0, 5, 16]),     // sub
    (0xeb00_0000, &[0, 5, 16]),     // subs
    (0x6b00_0000, &[0, 5, 16]),     // subs w
    (0x8b20_c000, &[0, 5, 16]),     // add, sxtw
    (0x8a00_0000, &[0, 5, 16]),     // and
    (0xaa00_0000, &[0, 5, 16]),     // orr
    (0x2a00_03e0, &[0, 16]),        // mov w
    (0xaa00_03e0, &[0, 16]),        // mov
    (0x4ac0_1400, &[0, 5, 16]),     // eor w, ror #5
    (0xca00_0000, &[0, 5, 16]),     // eor
    (0xea00_0000, &[0, 5, 16]),     // ands
    (0xea20_0000, &[0, 5, 16]),     // bics
    (0x9ac0_2000, &[0, 5, 16]),     // lslv
    (0x1ac0_2c00, &[0, 5, 16]),     // rorv w
    (0x93c0_2800, &[0, 5, 16]),     // extr #10
    (0x9b00_0000, &[0, 5, 16, 10]), // madd
    (0x1b00_8000, &[0, 5, 16, 10]), // msub w
    (0x9b20_0000, &[0, 5, 16, 10]), // smaddl
    (0x9bc0_7c00, &[0, 5, 16]),     // umulh
    (0x9ac0_0800, &[0, 5, 16]),     // udiv
    (0x9ac0_0c00, &[0, 5, 16]),     // sdiv
    (0x9a80_0000, &[0, 5, 16]),     // csel eq
    (0x9a80_a400, &[0, 5, 16]),     // csinc ge
    (0xda80_8400, &[0, 5, 16]),     // csneg hi
    (0x1a9f_27e0, &[0]),            // cset w, lo
    (0xfa40_1004, &[5, 16]),        // ccmp ne, #4
    (0x7a42_b808, &[5]),            // ccmp w, #2, lt, #8
    (0x9a00_0000, &[0, 5, 16]),     // adc
    (0xfa00_0000, &[0, 5, 16]),     // sbcs
    (0xdac0_1000, &[0, 5]),         // clz
    (0xdac0_0000, &[0, 5]),         // rbit
    (0x5ac0_0800, &[0, 5]),         // rev w
    (0x9100_1400, &[0, 5]),         // add #5
    (0xf100_0400, &[0, 5]),         // subs #1
    (0xf240_0000, &[0, 5]),         // ands #1
    (0xd282_4680, &[0]),            // movz
    (0xf2a2_4680, &[0]),            // movk, lsl #16
    (0xd345_2800, &[0, 5]),         // ubfx
    (0xb378_1c00, &[0, 5]),         // bfi
    (0xd53b_4200, &[0]),            // mrs nzcv
    (0xd51b_4200, &[0]),            // msr nzcv
];

/// The same for vector registers.
const VECTOR: [(u32, &[u32]); 34] = [
    (0x1e60_2800, &[0, 5, 16]),     // fadd d
    (0x1e20_2800, &[0, 5, 16]),     // fadd s
    (0x1e60_0800, &[0, 5, 16]),     // fmul d
    (0x1e60_1800, &[0, 5, 16]),     // fdiv d
    (0x1e60_3800, &[0, 5, 16]),     // fsub d
    (0x1e60_c000, &[0, 5]),         // fabs d
    (0x1e61_c000, &[0, 5]),         // fsqrt d
    (0x1e60_4800, &[0, 5, 16]),     // fmax d
    (0x1f40_0000, &[0, 5, 16, 10]), // fmadd d
    (0x1f60_8000, &[0, 5, 16, 10]), // fnmsub d
    (0x1e60_2000, &[5, 16]),        // fcmp d
    (0x1e60_0c00, &[0, 5, 16]),     // fcsel d, eq
    (0x1e60_4000, &[0, 5]),         // fmov d
    (0x1e6e_1000, &[0]),            // fmov d, #1.0
    (0x1e62_4000, &[0, 5]),         // fcvt s, d
    (0x1e22_c000, &[0, 5]),         // fcvt d, s
    (0x1e65_4000, &[0, 5]),         // frintm d
    (0x4e60_d400, &[0, 5, 16]),     // fadd .2d
    (0x4e20_cc00, &[0, 5, 16]),     // fmla .4s
    (0x6e60_dc00, &[0, 5, 16]),     // fmul .2d
    (0x4ea0_8400, &[0, 5, 16]),     // add .4s
    (0x4e20_9c00, &[0, 5, 16]),     // mul .16b
    (0x4e20_1c00, &[0, 5, 16]),     // and
    (0x6e20_1c00, &[0, 5, 16]),     // eor
    (0x6e60_1c00, &[0, 5, 16]),     // bsl
    (0x4ea0_0c00, &[0, 5, 16]),     // sqadd .4s
    (0x6ea0_4400, &[0, 5, 16]),     // ushl .4s
    (0x4e00_2000, &[0, 5, 16]),     // tbl of two
    (0x4e00_7000, &[0, 5, 16]),     // tbx of four
    (0x6e14_0400, &[0, 5]),         // mov .s[2], .s[0]
    (0x0e0c_0400, &[0, 5]),         // dup .2s, .s[1]
    (0x0ea1_2800, &[0, 5]),         // xtn .2s
    (0x4e61_2800, &[0, 5]),         // xtn2 .8h
    (0x4ea1_b800, &[0, 5]),         // fcvtzs .4s
];

/// Instructions from general to vector registers and back: word, fields of general registers, fields of
/// vector registers.
const BOTH: [(u32, u32, u32); 8] = [
    (0x9e78_0000, 0, 5), // fcvtzs x, d
    (0x9e62_0000, 5, 0), // scvtf d, x
    (0x9e63_0000, 5, 0), // ucvtf d, x
    (0x9e66_0000, 0, 5), // fmov x, d
    (0x9e67_0000, 5, 0), // fmov d, x
    (0x4e18_3c00, 0, 5), // mov x, v.d[1]
    (0x4e18_1c00, 5, 0), // mov v.d[1], x
    (0x4e04_0c00, 5, 0), // dup .4s, w
];

/// Accesses to memory of a register in bits 4 to 0 (vector: `true`) at the register in bits 9 to 5.
const ACCESS: [(u32, bool); 18] = [
    (0xf940_0400, false), // ldr x, [, #8]
    (0xf900_0800, false), // str x, [, #16]
    (0x3940_0c00, false), // ldrb, [, #3]
    (0x7900_0c00, false), // strh, [, #6]
    (0xb980_0400, false), // ldrsw, [, #4]
    (0xf842_0400, false), // ldr x, [], #32
    (0xf81e_0c00, false), // str x, [, #-32]!
    (0xf85e_0400, false), // ldr x, [], #-32
    (0x3dc0_0400, true),  // ldr q, [, #16]
    (0x3d80_0000, true),  // str q
    (0xfd40_0400, true),  // ldr d, [, #8]
    (0xfc02_0400, true),  // str d, [], #32
    (0xbd40_0800, true),  // ldr s, [, #8]
    (0x4c40_7000, true),  // ld1 {.16b}
    (0x4d40_8400, true),  // ld1 {.d}[1]
    (0x0d00_9000, true),  // st1 {.s}[1]
    (0xc8df_fc00, false), // ldar
    (0xf820_0000, false), // ldadd x0
];

/// Pairs of accesses, the second register in bits 14 to 10.
const PAIRS: [(u32, bool); 6] = [
    (0xa940_0000, false), // ldp x
    (0xa902_0000, false), // stp x, [, #32]
    (0xa8c2_0000, false), // ldp x, [], #32
    (0xa9be_0000, false), // stp x, [, #-32]!
    (0xad41_0000, true),  // ldp q, [, #32]
    (0xac81_0000, true),  // stp q, [], #32
];

/// A program being written.
struct Program {
    random: Random,
    words: Vec<u32>,
    /// Registers that instructions take at random, some more often than others.
    general: Vec<u32>,
    vector: Vec<u32>,
    /// Registers that no other instruction writes: counters of loops, addresses of data (31 is SP), the
    /// address of the flag.
    counters: Vec<u32>,
    bases: Vec<u32>,
    flag: u32,
    /// Blocks after the end that rarely run and come back, as (branch, where the block returns to).
    detours: Vec<(usize, usize)>,
    calls: Vec<usize>,
    exits: Vec<usize>,
}

impl Program {
    fn new(seed: u64) -> Program {
        let mut random = Random(seed);
        let mut all: Vec<u32> = (0..29).collect();
        for i in (1..all.len()).rev() {
            all.swap(i, random.next() as usize % (i + 1));
        }
        let counters = all.split_off(25);
        let flag = all.pop().expect("there are more");
        let mut bases = all.split_off(22);
        if random.next() & 1 == 0 {
            bases[0] = 31;
        }
        all.truncate(4 + random.next() as usize % 18);
        let few = 2 + random.next() as usize % 20;
        let vector = (0..few).map(|_| random.next() as u32 % 32).collect();
        let (words, detours, calls, exits) = Default::default();
        Program { random, words, general: all, vector, counters, bases, flag, detours, calls, exits }
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.next() as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn x(&mut self) -> u32 {
        let all = self.general.len();
        let i = if self.one_in(2) { self.below(all) } else { self.below(all.min(6)) };
        self.general[i]
    }

    fn v(&mut self) -> u32 {
        let i = self.below(self.vector.len());
        self.vector[i]
    }

    fn instruction(&mut self) {
        let word = match self.below(20) {
            0..=8 => {
                let (word, fields) = self.random.pick(&GENERAL);
                fields.iter().fold(word, |word, at| word | self.x() << at)
            }
            9..=13 => {
                let (word, fields) = self.random.pick(&VECTOR);
                fields.iter().fold(word, |word, at| word | self.v() << at)
            }
            14 => {
                let (word, x, v) = self.random.pick(&BOTH);
                word | self.x() << x | self.v() << v
            }
            15..=17 => {
                let (word, vector) = self.random.pick(&ACCESS);
                let base = self.random.pick(&self.bases.clone());
                word | base << 5 | if vector { self.v() } else { self.x() }
            }
            18 => {
                let (word, vector) = self.random.pick(&PAIRS);
                let base = self.random.pick(&self.bases.clone());
                let (first, mut second) = if vector { (self.v(), self.v()) } else { (self.x(), self.x()) };
                if first == second {
                    second = if vector { (first + 1) % 32 } else { 29 };
                }
                word | base << 5 | first | second << 10
            }
            // STR to the interrupt flag: of its own address, which is not 0.
            _ if self.one_in(8) => 0xb900_0000 | self.flag << 5 | self.flag,
            _ => 0xd503_201f,
        };
        self.words.push(word);
    }

    fn instructions(&mut self, most: usize) {
        for _ in 0..1 + self.below(most) {
            self.instruction();
        }
    }

    /// Many instructions without a branch.
    fn straight(&mut self) {
        for _ in 0..20 + self.below(160) {
            self.instruction();
        }
    }

    /// A conditional branch whose target is set later.
    fn branch(&mut self) -> usize {
        let x = self.x();
        let word = match self.below(4) {
            0 => 0x5400_0000 | self.below(14) as u32,
            1 => 0xb400_0000 | (self.below(2) as u32) << 24 | x,
            2 => 0x3400_0000 | (self.below(2) as u32) << 24 | x,
            _ => 0x3600_0000 | (self.below(2) as u32) << 24 | (self.below(32) as u32) << 19 | x,
        };
        self.words.push(word);
        self.words.len() - 1
    }

    /// Sets the target of the branch at `from` to `to`.
    fn lead(&mut self, from: usize, to: usize) {
        let offset = (to as i32 - from as i32) as u32;
        let word = &mut self.words[from];
        *word |= match *word >> 24 {
            0x14 | 0x94 => offset & 0x3ff_ffff,
            0x36 | 0x37 => (offset & 0x3fff) << 5,
            _ => (offset & 0x7_ffff) << 5,
        };
    }

    fn here(&self) -> usize {
        self.words.len()
    }

    fn statements(&mut self, depth: usize) {
        for _ in 0..1 + self.below(4) {
            match self.below(if self.here() > 500 { 8 } else { 16 }) {
                0 if self.one_in(2) => self.straight(),
                0..=5 => self.instructions(6),
                6 => {
                    let from = self.branch();
                    self.instructions(3);
                    let to = self.here();
                    self.lead(from, to);
                }
                7 => {
                    let from = self.branch();
                    let back = self.here();
                    self.detours.push((from, back));
                }
                8 if self.one_in(4) => {
                    let from = self.branch();
                    self.exits.push(from);
                }
                9 if self.one_in(4) => {
                    self.words.push(BL);
                    self.calls.push(self.here() - 1);
                }
                _ if depth < 3 => self.a_loop(depth),
                _ => self.instructions(4),
            }
        }
    }

    fn a_loop(&mut self, depth: usize) {
        let counter = self.counters[depth];
        // movz counter, #n
        let rounds = 1 + self.below(9) as u32;
        self.words.push(0xd280_0000 | rounds << 5 | counter);
        let head = self.here();
        self.statements(depth + 1);
        self.close(counter, head);
    }

    /// Branches back to `head` as long as there is something to count down.
    fn close(&mut self, counter: u32, head: usize) {
        // subs counter, counter, #1; b.gt: the loop ends even if it is entered elsewhere. Or sub and tbz of
        // the sign.
        if self.one_in(2) {
            self.words.extend([0xf100_0400 | counter << 5 | counter, 0x5400_000c]);
        } else {
            self.words.extend([0xd100_0400 | counter << 5 | counter, 0xb6f8_0000 | counter]);
        }
        let from = self.here() - 1;
        let offset = (head as i32 - from as i32) as u32;
        let mask = if self.words[from] >> 24 == 0x54 { 0x7_ffff } else { 0x3fff };
        self.words[from] |= (offset & mask) << 5;
    }

    fn finish(mut self) -> Program {
        while self.here() < 30 {
            self.a_loop(0);
        }
        // adr x30, .+8; b to a function, so that it is in the unit that calls it.
        let mut jump = (!self.calls.is_empty()).then(|| {
            self.words.extend([0x1000_005e, B]);
            self.here() - 1
        });
        let end = self.here();
        self.words.push(BRK);
        for from in std::mem::take(&mut self.exits) {
            self.lead(from, end);
        }
        for (from, back) in std::mem::take(&mut self.detours) {
            let to = self.here();
            self.lead(from, to);
            self.instructions(3);
            self.words.push(B);
            let from = self.here() - 1;
            self.lead(from, back);
        }
        for from in std::mem::take(&mut self.calls) {
            let to = self.here();
            self.lead(from, to);
            if let Some(jump) = jump.take() {
                self.lead(jump, to);
            }
            self.instructions(4);
            if self.one_in(2) {
                // The call leads to the head of a loop.
                let counter = self.counters[3];
                self.close(counter, to);
                self.words.push(0xd280_0080 | counter); // movz counter, #4
            }
            self.words.push(RET);
        }
        self
    }

    fn state(&mut self, run: u64) -> State {
        let mut state = State::default();
        for x in &mut state.gpr[..32] {
            *x = self.random.register();
        }
        for v in &mut state.v {
            *v = self.random.vector();
        }
        for i in 0..self.counters.len() {
            state.gpr[self.counters[i] as usize] = self.below(9) as u64;
        }
        for i in 0..self.bases.len() {
            state.gpr[self.bases[i] as usize] = DATA + 32 * self.below(DATA_SIZE / 32) as u64;
        }
        state.gpr[self.flag as usize] = FLAG;
        state.gpr[30] = CODE;
        state.nzcv = (self.below(16) as u32) << 28;
        // Zero, or FZ, or another rounding, for which the interpreter computes.
        state.fpcr = [0, 0, 0, 1 << 24, 1 << 22][self.below(5)];
        let start = if run == 0 { 0 } else { self.below(self.here()) };
        state.pc = CODE + 4 * start as u64;
        state
    }
}

/// What differs, except for flags of FPSR that the translator does not determine (see `differ`).
fn differences(translated: &State, interpreted: &State) -> String {
    let mut found = Differences::default();
    for n in 0..32 {
        found.compare(&format!("X{n}"), translated.gpr[n], interpreted.gpr[n]);
        found.compare(&format!("V{n}"), translated.v[n], interpreted.v[n]);
    }
    let ignored = if translated.fpcr == 1 << 24 { 8 | 16 | 128 } else { 8 };
    found.compare("PC", translated.pc, interpreted.pc);
    found.compare("NZCV", translated.nzcv, interpreted.nzcv);
    found.compare("FPSR", translated.fpsr & !ignored, interpreted.fpsr & !ignored);
    found.text()
}

/// Runs both until the program ends; returns how often it faulted.
fn run_both(
    mut states: [&mut State; 2],
    memory: &mut [Vec<u8>; 2],
    run: [&mut dyn FnMut(&mut State) -> Exit; 2],
) -> Result<u32, String> {
    let mut faults = 0;
    for _ in 0..400 {
        let mut exits = [Exit::Budget; 2];
        for i in 0..2 {
            put_data(&memory[i]);
            exits[i] = run[i](states[i]);
            memory[i] = data();
        }
        if exits[0] != exits[1] {
            return Err(format!("  translated {:x?}, interpreted {:x?}\n", exits[0], exits[1]));
        }
        if let Exit::Fault(_) = exits[0] {
            // Flags that are overwritten before anything reads them may be stale.
            states[0].nzcv = states[1].nzcv;
        }
        let mut text = differences(states[0], states[1]);
        if let Some(at) = (0..DATA_SIZE).find(|&i| memory[0][i] != memory[1][i]) {
            text += &format!("  data differ from {at:#x} on\n");
        }
        if !text.is_empty() {
            return Err(text);
        }
        match exits[0] {
            Exit::Fault(_) => {
                faults += 1;
                // SAFETY: the program is mapped.
                let word = unsafe { *(states[0].pc as *const u32) };
                let base = (word >> 5 & 31) as usize;
                for state in &mut states {
                    state.gpr[base] = DATA + DATA_SIZE as u64 / 2;
                }
            }
            _ => return Ok(faults),
        }
    }
    Err("  does not end\n".into())
}

fn data() -> Vec<u8> {
    // SAFETY: the data are mapped.
    unsafe { std::slice::from_raw_parts(DATA as *const u8, DATA_SIZE) }.to_vec()
}

fn put_data(bytes: &[u8]) {
    // SAFETY: the data are mapped.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), DATA as *mut u8, DATA_SIZE) };
}

/// Reports that the test has ended, even if it has failed.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn loops_have_the_registers_that_they_use() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |n| n.parse().expect("a number of cases or a seed"))
    };
    let (cases, first) = (number("CROSSDOCK_DIFFER_CASES", 10_000) / 10, number("CROSSDOCK_DIFFER_SEED", 1));
    let _flag = Mapping::new(FLAG, &[], 4096);
    // SAFETY: the flag is mapped.
    let flag = unsafe { AtomicU32::from_ptr(FLAG as *mut u32) };
    // A bug of the translator may make a program that ends run forever.
    let (late, done) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let watch = move || {
        let start = Instant::now();
        while !done.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
            if start.elapsed() > LIMIT + Duration::from_millis(3 * cases) {
                late.store(true, Ordering::SeqCst);
                flag.store(1, Ordering::SeqCst);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(watch);
        let _ends = Ends(done);
        compare_programs(first..first + cases, flag, late);
    });
}

fn compare_programs(seeds: Range<u64>, flag: &AtomicU32, late: &AtomicBool) {
    let cases = seeds.end - seeds.start;
    let code = Mapping::new(CODE, &[], CODE_SIZE);
    let _data = Mapping::new(DATA, &[], DATA_SIZE);
    // SAFETY: the window holds only the mappings.
    let host = Host { memory: unsafe { Memory::new(CODE, END) }, counter: || 0, executable: Host::anywhere };
    let (mut engine, mut interpreter) = (engine(), Interpreter::new(&LOG));
    let (mut faults, mut interrupts, mut assigned, mut planned) = (0, 0u64, 0, 0);
    for seed in seeds {
        let mut program = Program::new(seed).finish();
        assert!(program.words.len() * 4 <= CODE_SIZE);
        // SAFETY: the mapping for the code is long enough, and nobody runs it now.
        unsafe {
            std::ptr::copy_nonoverlapping(program.words.as_ptr(), code.0 as *mut u32, program.words.len())
        };
        LOG.invalidate(CODE..CODE + CODE_SIZE as u64);
        engine.translate_after(1 + (seed % 4) as u32);
        for run in 0..RUNS {
            let mut translated = program.state(run);
            let mut interpreted = translated.clone();
            let bytes: Vec<u8> =
                (0..DATA_SIZE / 8).flat_map(|_| program.random.register().to_le_bytes()).collect();
            let mut interpret = |state: &mut State| loop {
                flag.store(0, Ordering::SeqCst);
                match interpreter.run(state, &host, flag, u64::MAX) {
                    Exit::Interrupted => {}
                    exit => break exit,
                }
            };
            let mut translate = |state: &mut State| loop {
                flag.store(0, Ordering::SeqCst);
                match engine.run(state, &host, flag) {
                    Exit::Interrupted if !late.load(Ordering::SeqCst) => interrupts += 1,
                    exit => break exit,
                }
            };
            let result = run_both(
                [&mut translated, &mut interpreted],
                &mut [bytes.clone(), bytes],
                [&mut translate, &mut interpret],
            );
            match result {
                Ok(more) => faults += more,
                Err(text) => panic!("seed {seed} run {run}:\n{text}\n{:08x?}", program.words),
            }
        }
        assigned += jit().hold().assigned_loops();
        planned += jit().hold().planned_blocks();
    }
    println!(
        "{cases} programs, {assigned} loops with registers of their own, {planned} blocks that change them, \
         {faults} faults, {interrupts} interrupts"
    );
    assert!(planned > cases as usize / 4);
    assert!(assigned > cases as usize / 4 && u64::from(faults) > cases && interrupts > cases);
}
