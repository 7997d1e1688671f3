//! Random A32 programs of loops with floating point, Advanced SIMD and integers, translated and interpreted,
//! compared at each fault and at the end. In a loop, parts of vector registers may have host registers of
//! their own. The integer instructions write some of the flags, all or none, and read them.
//!
//! `CROSSDOCK_DIFFER_CASES` and `CROSSDOCK_DIFFER_SEED` as for single instructions; a case is a program.

use crate::cases::{Mapping, Random};
use crate::differences::Differences;
use crate::host::{LOG, engine_of, jit_of};
use crossdock_emu_guest::a32::{A32, Interpreter};
use crossdock_emu_guest::a64::{Exit, Host, State};
use crossdock_emu_guest::memory::Memory;
use std::sync::atomic::AtomicU32;

const CODE: u64 = 0x7000_0000;
const CODE_SIZE: usize = 0x4000;
const DATA: u64 = CODE + 0x10_0000;
const DATA_SIZE: usize = 0x1000;
const END: u64 = CODE + 0x20_0000;
const UDF: u32 = 0xe7f0_00f0;
/// R8 and R12 point into the data; R9 to R11 count.
const BASES: [u32; 2] = [8, 12];
const COUNTERS: [u32; 3] = [9, 10, 11];

/// Where an operand is encoded: four bits, and one.
#[derive(Clone, Copy)]
enum Field {
    /// Bits 15 to 12 and 22.
    D,
    /// Bits 19 to 16 and 7.
    N,
    /// Bits 3 to 0 and 5.
    M,
}

use Field::{D, M, N};

/// What an operand is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Single,
    Double,
    Quad,
    /// A general register, of four bits.
    General,
}

use Kind::{Double, General, Quad, Single};

/// An instruction without its operands.
type Template = (u32, &'static [(Field, Kind)]);

/// Scalars of double precision. The first are followed by VMRS of the flags.
const DOUBLES: [Template; 22] = [
    (0xeeb4_0b40, &[(D, Double), (M, Double)]),              // vcmp
    (0xeeb5_0bc0, &[(D, Double)]),                           // vcmpe, #0
    (0xee30_0b00, &[(D, Double), (N, Double), (M, Double)]), // vadd
    (0xee30_0b40, &[(D, Double), (N, Double), (M, Double)]), // vsub
    (0xee20_0b00, &[(D, Double), (N, Double), (M, Double)]), // vmul
    (0xee20_0b40, &[(D, Double), (N, Double), (M, Double)]), // vnmul
    (0xee00_0b00, &[(D, Double), (N, Double), (M, Double)]), // vmla
    (0xee10_0b40, &[(D, Double), (N, Double), (M, Double)]), // vnmla
    (0xee80_0b00, &[(D, Double), (N, Double), (M, Double)]), // vdiv
    (0xeea0_0b00, &[(D, Double), (N, Double), (M, Double)]), // vfma
    (0xee90_0b40, &[(D, Double), (N, Double), (M, Double)]), // vfnma
    (0xeeb0_0b40, &[(D, Double), (M, Double)]),              // vmov
    (0xeeb0_0bc0, &[(D, Double), (M, Double)]),              // vabs
    (0xeeb1_0b40, &[(D, Double), (M, Double)]),              // vneg
    (0xeeb1_0bc0, &[(D, Double), (M, Double)]),              // vsqrt
    (0xeeb7_0b00, &[(D, Double)]),                           // vmov, #1.0
    (0xfe20_0b00, &[(D, Double), (N, Double), (M, Double)]), // vselge
    (0xfe80_0b00, &[(D, Double), (N, Double), (M, Double)]), // vmaxnm
    (0xeeb6_0b40, &[(D, Double), (M, Double)]),              // vrintr
    (0xeeba_0be0, &[(D, Double)]),                           // vcvt.f64.s32, #31
    (0xec41_0b10, &[(M, Double)]),                           // vmov d, r0, r1
    (0xec53_2b10, &[(M, Double)]),                           // vmov r2, r3, d
];

/// Scalars of single precision, likewise.
const SINGLES: [Template; 18] = [
    (0xeeb4_0a40, &[(D, Single), (M, Single)]),              // vcmp
    (0xeeb5_0ac0, &[(D, Single)]),                           // vcmpe, #0
    (0xee30_0a00, &[(D, Single), (N, Single), (M, Single)]), // vadd
    (0xee30_0a40, &[(D, Single), (N, Single), (M, Single)]), // vsub
    (0xee20_0a00, &[(D, Single), (N, Single), (M, Single)]), // vmul
    (0xee00_0a40, &[(D, Single), (N, Single), (M, Single)]), // vmls
    (0xee10_0a00, &[(D, Single), (N, Single), (M, Single)]), // vnmls
    (0xee80_0a00, &[(D, Single), (N, Single), (M, Single)]), // vdiv
    (0xeea0_0a40, &[(D, Single), (N, Single), (M, Single)]), // vfms
    (0xeeb0_0a40, &[(D, Single), (M, Single)]),              // vmov
    (0xeeb0_0ac0, &[(D, Single), (M, Single)]),              // vabs
    (0xeeb1_0a40, &[(D, Single), (M, Single)]),              // vneg
    (0xeeb1_0ac0, &[(D, Single), (M, Single)]),              // vsqrt
    (0xeeb8_0ac0, &[(D, Single), (M, Single)]),              // vcvt.f32.s32
    (0xeebd_0ac0, &[(D, Single), (M, Single)]),              // vcvt.s32.f32
    (0xfe00_0a00, &[(D, Single), (N, Single), (M, Single)]), // vseleq
    (0xee10_0a10, &[(D, General), (N, Single)]),             // vmov r, s
    (0xee00_0a10, &[(D, General), (N, Single)]),             // vmov s, r
];

/// Operands of both precisions.
const BOTH: [Template; 6] = [
    (0xeeb8_0bc0, &[(D, Double), (M, Single)]), // vcvt.f64.s32
    (0xeeb8_0b40, &[(D, Double), (M, Single)]), // vcvt.f64.u32
    (0xeebd_0bc0, &[(D, Single), (M, Double)]), // vcvt.s32.f64
    (0xeebc_0bc0, &[(D, Single), (M, Double)]), // vcvt.u32.f64
    (0xeeb7_0bc0, &[(D, Single), (M, Double)]), // vcvt.f32.f64
    (0xeeb7_0ac0, &[(D, Double), (M, Single)]), // vcvt.f64.f32
];

/// Advanced SIMD of doublewords.
const HALVES: [Template; 16] = [
    (0xf200_0d00, &[(D, Double), (N, Double), (M, Double)]), // vadd.f32
    (0xf300_0d10, &[(D, Double), (N, Double), (M, Double)]), // vmul.f32
    (0xf200_0d10, &[(D, Double), (N, Double), (M, Double)]), // vmla.f32
    (0xf200_0c10, &[(D, Double), (N, Double), (M, Double)]), // vfma.f32
    (0xf220_0800, &[(D, Double), (N, Double), (M, Double)]), // vadd.i32
    (0xf210_0910, &[(D, Double), (N, Double), (M, Double)]), // vmul.i16
    (0xf300_0110, &[(D, Double), (N, Double), (M, Double)]), // veor
    (0xf310_0110, &[(D, Double), (N, Double), (M, Double)]), // vbsl
    (0xf2b0_0400, &[(D, Double), (N, Double), (M, Double)]), // vext, #4
    (0xf200_0010, &[(D, Double), (N, Double), (M, Double)]), // vqadd.s8
    (0xf220_0a00, &[(D, Double), (N, Double), (M, Double)]), // vpmax.s32
    (0xf3b9_0700, &[(D, Double), (M, Double)]),              // vabs.f32
    (0xf3bb_0600, &[(D, Double), (M, Double)]),              // vcvt.f32.s32
    (0xf3b2_0000, &[(D, Double), (M, Double)]),              // vswp
    (0xf3ba_0080, &[(D, Double), (M, Double)]),              // vtrn.32
    (0xf3b2_0180, &[(D, Double), (M, Double)]),              // vzip.8
];

/// Advanced SIMD with quadwords, and with lanes.
const QUADS: [Template; 14] = [
    (0xf200_0d40, &[(D, Quad), (N, Quad), (M, Quad)]), // vadd.f32
    (0xf200_0d50, &[(D, Quad), (N, Quad), (M, Quad)]), // vmla.f32
    (0xf220_0840, &[(D, Quad), (N, Quad), (M, Quad)]), // vadd.i32
    (0xf300_0150, &[(D, Quad), (N, Quad), (M, Quad)]), // veor
    (0xf2a0_0c00, &[(D, Quad), (N, Double), (M, Double)]), // vmull.s32
    (0xf290_0100, &[(D, Quad), (N, Quad), (M, Double)]), // vaddw.s16
    (0xf3b6_0200, &[(D, Double), (M, Quad)]),          // vmovn.i32
    (0xf3b4_0c40, &[(D, Quad), (M, Double)]),          // vdup.32, [0]
    (0xf3b4_0c00, &[(D, Double), (M, Double)]),        // vdup.32, [0]
    (0xf3b0_0800, &[(D, Double), (N, Double), (M, Double)]), // vtbl of one
    (0xf2a0_0140, &[(D, Double), (N, Double), (M, Double)]), // vmla.f32 by a scalar
    (0xee30_0b10, &[(D, General), (N, Double)]),       // vmov r, d[1]
    (0xee20_0b10, &[(D, General), (N, Double)]),       // vmov d[1], r
    (0xeea0_0b10, &[(D, General), (N, Quad)]),         // vdup.32 q, r
];

/// Integers and flags.
const INTEGERS: [Template; 37] = [
    (0xe010_0000, &[(D, General), (N, General), (M, General)]), // ands
    (0xe030_0000, &[(D, General), (N, General), (M, General)]), // eors
    (0xe030_0120, &[(D, General), (N, General), (M, General)]), // eors, lsr #2
    (0xe1d0_0fa0, &[(D, General), (N, General), (M, General)]), // bics, lsr #31
    (0xe190_0060, &[(D, General), (N, General), (M, General)]), // orrs, rrx
    (0xe110_0000, &[(N, General), (M, General)]),               // tst
    (0xe130_0080, &[(N, General), (M, General)]),               // teq, lsl #1
    (0xe310_0007, &[(N, General)]),                             // tst, #7
    (0xe310_0102, &[(N, General)]),                             // tst, #0x80000000
    (0xe1b0_0080, &[(D, General), (M, General)]),               // lsls, #1
    (0xe1b0_0f80, &[(D, General), (M, General)]),               // lsls, #31
    (0xe1b0_00a0, &[(D, General), (M, General)]),               // lsrs, #1
    (0xe1b0_0060, &[(D, General), (M, General)]),               // rrxs
    (0xe1b0_0310, &[(D, General), (M, General)]),               // lsls, r3
    (0xe1f0_0000, &[(D, General), (M, General)]),               // mvns
    (0xe010_0090, &[(N, General), (M, General)]),               // muls r0
    (0xe050_0000, &[(D, General), (N, General), (M, General)]), // subs
    (0xe090_0000, &[(D, General), (N, General), (M, General)]), // adds
    (0xe0a0_0000, &[(D, General), (N, General), (M, General)]), // adc
    (0xe0b0_0000, &[(D, General), (N, General), (M, General)]), // adcs
    (0xe0d0_0080, &[(D, General), (N, General), (M, General)]), // sbcs, lsl #1
    (0xe070_0000, &[(D, General), (N, General), (M, General)]), // rsbs
    (0xe150_0000, &[(N, General), (M, General)]),               // cmp
    (0xe370_0001, &[(N, General)]),                             // cmn, #1
    (0xe1a0_0000, &[(D, General), (M, General)]),               // mov
    (0xe080_0000, &[(D, General), (N, General), (M, General)]), // add
    (0xe30a_0bcd, &[(D, General)]),                             // movw, #0xabcd
    (0xe349_0765, &[(D, General)]),                             // movt, #0x9765
    (0xe080_0100, &[(D, General), (N, General), (M, General)]), // add, lsl #2
    (0xe1a0_0210, &[(D, General), (M, General)]),               // lsl, r2
    (0xe1a0_0130, &[(D, General), (M, General)]),               // lsr, r1
    (0xe1a0_01d0, &[(D, General), (M, General)]),               // asr, #3
    (0xe7e7_0450, &[(D, General), (M, General)]),               // ubfx, #8, #8
    (0xe650_0f90, &[(D, General), (N, General), (M, General)]), // uadd8
    (0xe610_0ff0, &[(D, General), (N, General), (M, General)]), // ssub8
    (0xe650_0f30, &[(D, General), (N, General), (M, General)]), // uasx
    (0xe680_0fb0, &[(D, General), (N, General), (M, General)]), // sel
];

/// Loads and stores; the base is added in bits 19 to 16.
const ACCESSES: [Template; 20] = [
    (0xe590_0008, &[(D, General)]), // ldr, #8
    (0xe5c0_0003, &[(D, General)]), // strb, #3
    (0xe490_0008, &[(D, General)]), // ldr, !#8
    (0xe4d0_0001, &[(D, General)]), // ldrb, !#1
    (0xe8a0_0055, &[]),             // stm !, {r0, r2, r4, r6}
    (0xe890_0062, &[]),             // ldm {r1, r5, r6}
    (0xed90_0b02, &[(D, Double)]),  // vldr d, #8
    (0xed80_0b04, &[(D, Double)]),  // vstr d, #16
    (0xed90_0a01, &[(D, Single)]),  // vldr s, #4
    (0xed80_0a02, &[(D, Single)]),  // vstr s, #8
    (0xec90_0b04, &[(D, Double)]),  // vldm {d, d}
    (0xeca0_0b02, &[(D, Double)]),  // vstm !, {d}
    (0xec90_0a03, &[(D, Single)]),  // vldm {s, s, s}
    (0xf420_078f, &[(D, Double)]),  // vld1.32 {d}
    (0xf420_078d, &[(D, Double)]),  // vld1.32 {d}, !
    (0xf400_0a8f, &[(D, Double)]),  // vst1.32 {d, d}
    (0xf420_088f, &[(D, Double)]),  // vld2.32 {d, d}
    (0xf420_038f, &[(D, Double)]),  // vld2.32 of four
    (0xf4a0_088f, &[(D, Double)]),  // vld1.32 {d[1]}
    (0xf4a0_0caf, &[(D, Double)]),  // vld1.32 {d[], d[]}
];

struct Program {
    random: Random,
    words: Vec<u32>,
    /// The groups that instructions are taken from.
    groups: Vec<&'static [Template]>,
    /// Doublewords that instructions take at random.
    registers: Vec<u32>,
}

impl Program {
    fn new(seed: u64) -> Program {
        let mut random = Random(seed);
        let groups: Vec<&'static [Template]> = match seed % 8 {
            0 => vec![&DOUBLES],
            1 => vec![&SINGLES],
            2 => vec![&DOUBLES, &SINGLES, &BOTH],
            3 => vec![&DOUBLES, &HALVES],
            4 => vec![&SINGLES, &HALVES],
            5 => vec![&INTEGERS],
            6 => vec![&INTEGERS, &INTEGERS, &INTEGERS, &DOUBLES],
            _ => vec![&DOUBLES, &SINGLES, &BOTH, &HALVES, &QUADS],
        };
        let few = 2 + random.below(12);
        let registers = (0..few).map(|_| random.below(32) as u32).collect();
        let mut program = Program { random, words: Vec::new(), groups, registers };
        while program.words.len() < 30 {
            program.a_loop(0);
        }
        program.words.push(UDF);
        program
    }

    /// The word with random operands.
    fn with_operands(&mut self, (word, operands): Template) -> u32 {
        operands.iter().fold(word, |word, &(field, kind)| {
            let double = self.random.pick(&self.registers.clone());
            // The low bit of S registers is the one that stands apart, and the high bit of D registers.
            let (four, one) = match kind {
                Single => (double & 15, self.random.below(2) as u32),
                Double => (double & 15, double >> 4),
                Quad => (double & 14, double >> 4),
                General => (self.random.below(8) as u32, 0),
            };
            word | match field {
                D => four << 12 | one << 22,
                N => four << 16 | one << 7,
                M => four | one << 5,
            }
        })
    }

    /// An S register gets a number, which becomes one of double precision in the D register in which it lies,
    /// at once or behind other instructions.
    fn conversion_in_place(&mut self) {
        let (d, upper) = (self.random.pick(&self.registers.clone()) & 15, self.random.below(2) as u32);
        let at = |field: Field| match field {
            D => d << 12 | upper << 22,
            N => d << 16 | upper << 7,
            M => d | upper << 5,
        };
        let word = match self.random.below(4) {
            // vmov s, r
            0 => 0xee00_0a10 | (self.random.below(8) as u32) << 12 | at(N),
            // vldr s, [r8, #4]
            1 => 0xed98_0a01 | at(D),
            // vcvt.s32.f64 s, d; vadd.f32 s, s, s
            2 => self.with_operands((0xeebd_0bc0 | at(D), &[(M, Double)])),
            _ => self.with_operands((0xee30_0a00 | at(D), &[(N, Single), (M, Single)])),
        };
        self.words.push(word);
        for _ in 0..self.random.below(3) {
            self.instruction();
        }
        // vcvt.f64.s32 d, s; vcvt.f64.f32 d, s
        let conversion = if self.random.one_in(2) { 0xeeb8_0bc0 } else { 0xeeb7_0ac0 };
        self.words.push(conversion | d << 12 | at(M));
    }

    fn instruction(&mut self) {
        if self.groups.len() >= 3 && self.groups.len() != 4 && self.random.one_in(8) {
            return self.conversion_in_place();
        }
        if self.random.one_in(4) {
            let template = self.random.pick(&ACCESSES);
            // Of several registers, some may have been loaded at a fault, so R8 stays within the data. LDRB
            // leaves it unaligned.
            let base = match template.0 {
                0xeca0_0b02 | 0xf420_078d | 0xe490_0008 | 0xe8a0_0055 => BASES[1],
                word if matches!(word >> 20, 0xed9 | 0xed8 | 0xe59 | 0xe5c) => self.random.pick(&BASES),
                _ => BASES[0],
            };
            let whole = self.groups.len() == 5 || template.0 >> 28 == 14;
            if whole {
                let mut word = self.with_operands(template) | base << 16;
                if word >> 28 == 14 && self.random.one_in(3) {
                    word = word & 0x0fff_ffff | (self.random.below(14) as u32) << 28;
                }
                self.words.push(word);
            }
            return;
        }
        let group = self.random.pick(&self.groups.clone());
        let template = self.random.pick(group);
        let mut word = self.with_operands(template);
        if word >> 20 == 0xf3f || word >> 20 == 0xf3b {
            // VTRN and VZIP of a register with itself give anything.
            let same = word >> 12 & 15 == word & 15 && word >> 22 & 1 == word >> 5 & 1;
            if same && word & 0x3_0e00 == 0x2_0000 {
                return;
            }
        }
        let rare = if word >> 25 == 0x71 || word >> 26 == 0x38 { 2 } else { 6 };
        if word >> 28 == 14 && self.random.one_in(rare) {
            word = word & 0x0fff_ffff | (self.random.below(14) as u32) << 28;
        }
        self.words.push(word);
        if word & 0x0ff0_0000 == 0x0300_0000 && self.random.one_in(2) {
            // movt of the same register
            self.words.push(word & 0xf000_f000 | 0x0348_0123);
        }
        if template.0 & 0x0fbe_0e50 == 0x0eb4_0a40 {
            self.flags_of_comparison();
        }
    }

    /// VMRS of the flags behind VCMP, at once, or behind instructions that may write FPSCR or the flags, or
    /// that the interpreter runs.
    fn flags_of_comparison(&mut self) {
        const CRC32B: u32 = 0xe100_0040;
        match self.random.below(4) {
            0 => return,
            1 => {}
            _ => {
                for _ in 0..1 + self.random.below(3) {
                    let [d, n, m] = [0; 3].map(|_| self.random.below(8) as u32);
                    match self.random.below(16) {
                        // vmrs d, fpscr; and d, d, #0xf0000000
                        0 => self.words.extend([0xeef1_0a10 | d << 12, 0xe200_020f | d << 16 | d << 12]),
                        1..=3 => self.words.push(CRC32B | n << 16 | d << 12 | m),
                        _ => self.instruction(),
                    }
                }
            }
        }
        // vmrs APSR_nzcv, fpscr
        let condition = if self.random.one_in(8) { self.random.below(14) as u32 } else { 14 };
        self.words.push(condition << 28 | 0x0ef1_fa10);
    }

    fn statements(&mut self, depth: usize) {
        for _ in 0..1 + self.random.below(4) {
            match self.random.below(8) {
                0 if depth < 3 => self.a_loop(depth),
                1 => {
                    // A branch over a few instructions.
                    let from = self.words.len();
                    self.words.push(0x0a00_0000 | (self.random.below(14) as u32) << 28);
                    self.instruction();
                    self.instruction();
                    let offset = self.words.len() as i32 - from as i32 - 2;
                    self.words[from] |= offset as u32 & 0xff_ffff;
                }
                _ => (0..1 + self.random.below(4)).for_each(|_| self.instruction()),
            }
        }
    }

    fn a_loop(&mut self, depth: usize) {
        let counter = COUNTERS[depth];
        // mov counter, #n
        let rounds = 1 + self.random.below(6) as u32;
        self.words.push(0xe3a0_0000 | counter << 12 | rounds);
        let head = self.words.len();
        self.statements(depth + 1);
        // subs counter, counter, #1; bgt
        self.words.push(0xe250_0001 | counter << 16 | counter << 12);
        let offset = head as i32 - self.words.len() as i32 - 2;
        self.words.push(0xca00_0000 | offset as u32 & 0xff_ffff);
    }

    fn state(&mut self) -> State {
        let mut state = State::default();
        state.pc = CODE;
        for n in 0..15 {
            state.set_r(n, self.random.next() as u32);
        }
        for n in COUNTERS {
            state.set_r(n, self.random.below(5) as u32);
        }
        // The second may leave the data, and is not always aligned.
        state.set_r(8, DATA as u32 + 512);
        let back = self.random.pick(&[0, 8, 16, 24, 30, 512]);
        state.set_r(12, DATA as u32 + DATA_SIZE as u32 - back);
        for v in &mut state.v[..16] {
            *v = self.random.vector();
        }
        state.nzcv = (self.random.below(16) as u32) << 28;
        state.set_ge(self.random.next() as u32);
        state.fpcr = self.random.pick(&[0, 0, 0, 1 << 24, 1 << 22, 1 << 25]);
        state
    }
}

/// What differs, except for flags of FPSCR that the translator does not determine (see `differ`).
fn differences(translated: &State, interpreted: &State) -> String {
    let mut found = Differences::default();
    for n in 0..15 {
        found.compare(&format!("R{n}"), translated.r(n), interpreted.r(n));
    }
    for n in 0..16 {
        found.compare(&format!("Q{n}"), translated.v[n], interpreted.v[n]);
    }
    let ignored = 8 | 16 | 128;
    found.compare("PC", translated.pc, interpreted.pc);
    found.compare("NZCV", translated.nzcv, interpreted.nzcv);
    found.compare("APSR", translated.apsr, interpreted.apsr);
    found.compare("GE", translated.ge(), interpreted.ge());
    found.compare("FPSCR", translated.fpscr() & !ignored, interpreted.fpscr() & !ignored);
    found.text()
}

/// Whether two exits are the same. Of an access across pages, the interpreter reports the start and
/// translated code the page.
fn is_same(translated: Exit, interpreted: Exit) -> bool {
    match (translated, interpreted) {
        (Exit::Fault(one), Exit::Fault(other)) => {
            one.access == other.access && one.address.abs_diff(other.address) < 16
        }
        _ => translated == interpreted,
    }
}

fn data() -> Vec<u8> {
    // SAFETY: the data are mapped.
    unsafe { std::slice::from_raw_parts(DATA as *const u8, DATA_SIZE) }.to_vec()
}

fn put_data(bytes: &[u8]) {
    // SAFETY: the data are mapped.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), DATA as *mut u8, DATA_SIZE) };
}

/// Runs both until the program ends; returns how often it faulted.
fn run_both(
    states: &mut [State; 2],
    bytes: &[u8],
    run: [&mut dyn FnMut(&mut State) -> Exit; 2],
) -> Result<u32, String> {
    let mut memory = [bytes.to_vec(), bytes.to_vec()];
    for faults in 0..4000 {
        let mut exits = [Exit::Budget; 2];
        for i in 0..2 {
            put_data(&memory[i]);
            exits[i] = loop {
                match run[i](&mut states[i]) {
                    Exit::Budget => {}
                    exit => break exit,
                }
            };
            memory[i] = data();
        }
        if !matches!(exits[0], Exit::Undefined(_)) {
            // Flags that are overwritten before anything reads them may be stale.
            states[0].nzcv = states[1].nzcv;
        }
        let mut text = differences(&states[0], &states[1]);
        if !is_same(exits[0], exits[1]) {
            text += &format!("  translated {:x?}, interpreted {:x?}\n", exits[0], exits[1]);
        }
        if let Some(at) = (0..DATA_SIZE).find(|&i| memory[0][i] != memory[1][i]) {
            text += &format!("  data differ from {at:#x} on\n");
        }
        if !text.is_empty() {
            return Err(text);
        }
        // SAFETY: the program is mapped.
        if unsafe { *(states[0].pc as *const u32) } == UDF {
            return Ok(faults);
        }
        for state in &mut *states {
            match exits[0] {
                Exit::Undefined(_) => state.pc += 4,
                _ => BASES.iter().for_each(|&base| state.set_r(base, DATA as u32 + 512)),
            }
        }
    }
    Err("  does not end\n".into())
}

#[test]
fn loops_do_what_the_interpreter_does() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |n| n.parse().expect("a number of cases or a seed"))
    };
    let (cases, first) = (number("CROSSDOCK_DIFFER_CASES", 10_000) / 10, number("CROSSDOCK_DIFFER_SEED", 1));
    let _turn = crate::differ::turn();
    let code = Mapping::new(CODE, &[], CODE_SIZE);
    let _data = Mapping::new(DATA, &[], DATA_SIZE);
    // SAFETY: the window holds only the mappings.
    let host = Host { memory: unsafe { Memory::new(CODE, END) }, counter: || 0, executable: Host::anywhere };
    let (mut engine, mut interpreter) = (engine_of::<A32>(), Interpreter::new(&LOG));
    let (mut faults, mut assigned) = (0, 0);
    for seed in first..first + cases {
        let mut program = Program::new(seed);
        assert!(program.words.len() * 4 <= CODE_SIZE);
        // SAFETY: the mapping for the code is long enough, and nobody runs it now.
        unsafe {
            std::ptr::copy_nonoverlapping(program.words.as_ptr(), code.0 as *mut u32, program.words.len());
        }
        LOG.invalidate(CODE..CODE + CODE_SIZE as u64);
        engine.translate_after(1 + (seed % 3) as u32);
        engine.be_wary(seed % 5 == 0);
        for run in 0..4 {
            let state = program.state();
            let bytes: Vec<u8> =
                (0..DATA_SIZE / 16).flat_map(|_| program.random.vector().to_le_bytes()).collect();
            let mut interpret =
                |state: &mut State| interpreter.run(state, &host, &AtomicU32::new(0), u64::MAX);
            let mut translate = |state: &mut State| engine.run(state, &host, &AtomicU32::new(0));
            let mut states = [state.clone(), state];
            match run_both(&mut states, &bytes, [&mut translate, &mut interpret]) {
                Ok(more) => faults += more,
                Err(text) => panic!("seed {seed} run {run}:\n{text}\n{:08x?}", program.words),
            }
        }
        assigned += jit_of::<A32>().hold().assigned_loops();
    }
    println!("{cases} programs, {assigned} loops with registers of their own, {faults} faults");
    assert!(assigned > cases as usize / 4 && u64::from(faults) > cases / 4);
}
