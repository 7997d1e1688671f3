//! Random instructions with random state, and how they are run. The differs of the interpreter and of the
//! translator share this file (the translator's tests include it).

use crossdock_emu_guest::a64::{Class, Exit, Host, Row, State, Support, name};
use crossdock_emu_guest::memory::Memory;
use std::collections::BTreeMap;

/// The driver, assembled from the text in `driver.s`.
#[rustfmt::skip]
const DRIVER: &[u32] = &[
    0xd2800080, 0x100019a1, 0xd2800002, 0xd2800103, 0xd28010c8, 0xd4000001, 0xd28000a0, 0x100018e1,
    0xd2800002, 0xd2800103, 0xd28010c8, 0xd4000001, 0xd28000e0, 0x10001821, 0xd2800002, 0xd2800103,
    0xd28010c8, 0xd4000001, 0xd2800160, 0x10001761, 0xd2800002, 0xd2800103, 0xd28010c8, 0xd4000001,
    0x100017c0, 0xd2800001, 0xd2801088, 0xd4000001, 0x58001800, 0xd61f0000, 0x58001803, 0xf9400463,
    0x91003063, 0xf900dc43, 0xd65f03c0, 0x580017b3, 0x580017d4, 0x94000007, 0x580017d3, 0x580017f4,
    0x94000004, 0xd2800000, 0xd2800bc8, 0xd4000001, 0xd2800020, 0xaa1303e1, 0xaa1403e2, 0xd2800808,
    0xd4000001, 0xf100001f, 0x540000ad, 0x8b000273, 0xeb000294, 0x54fffee1, 0xd65f03c0, 0xd2800120,
    0xd2800bc8, 0xd4000001, 0xd5033f5f, 0x58001461, 0xa9007820, 0xad490400, 0xad4a0c02, 0xad4b1404,
    0xad4c1c06, 0xad4d2408, 0xad4e2c0a, 0xad4f340c, 0xad503c0e, 0xad514410, 0xad524c12, 0xad535414,
    0xad545c16, 0xad556418, 0xad566c1a, 0xad57741c, 0xad587c1e, 0xf9407c01, 0x9100003f, 0xb9410001,
    0xb9410402, 0xb9410803, 0xd51b4201, 0xd51b4402, 0xd51b4423, 0xa9410c02, 0xa9421404, 0xa9431c06,
    0xa9442408, 0xa9452c0a, 0xa946340c, 0xa9473c0e, 0xa9484410, 0xa9494c12, 0xa94a5414, 0xa94b5c16,
    0xa94c6418, 0xa94d6c1a, 0xa94e741c, 0xa9400400, 0xd65f03c0, 0xd51bd040, 0x58000f00, 0xf9400000,
    0xf9000401, 0xa9010c02, 0xa9021404, 0xa9031c06, 0xa9042408, 0xa9052c0a, 0xa906340c, 0xa9073c0e,
    0xa9084410, 0xa9094c12, 0xa90a5414, 0xa90b5c16, 0xa90c6418, 0xa90d6c1a, 0xa90e741c, 0xf900781e,
    0xd53bd041, 0xf9000001, 0x910003e1, 0xf9007c01, 0xd53b4201, 0xd53b4402, 0xd53b4423, 0xb9010001,
    0xb9010402, 0x52800004, 0xb9010803, 0xb9010c04, 0xd51b441f, 0xad090400, 0xad0a0c02, 0xad0b1404,
    0xad0c1c06, 0xad0d2408, 0xad0e2c0a, 0xad0f340c, 0xad103c0e, 0xad114410, 0xad124c12, 0xad135414,
    0xad145c16, 0xad156418, 0xad166c1a, 0xad17741c, 0xad187c1e, 0x58000921, 0xf9400421, 0x91004021,
    0xd61f0020, 0xd51bd040, 0x58000880, 0xf9400000, 0xf9000401, 0xa9010c02, 0xa9021404, 0xa9031c06,
    0xa9042408, 0xa9052c0a, 0xa906340c, 0xa9073c0e, 0xa9084410, 0xa9094c12, 0xa90a5414, 0xa90b5c16,
    0xa90c6418, 0xa90d6c1a, 0xa90e741c, 0xf900781e, 0xd53bd041, 0xf9000001, 0x910003e1, 0xf9007c01,
    0xd53b4201, 0xd53b4402, 0xd53b4423, 0xb9010001, 0xb9010402, 0x52800024, 0xb9010803, 0xb9010c04,
    0xd51b441f, 0xad090400, 0xad0a0c02, 0xad0b1404, 0xad0c1c06, 0xad0d2408, 0xad0e2c0a, 0xad0f340c,
    0xad103c0e, 0xad114410, 0xad124c12, 0xad135414, 0xad145c16, 0xad156418, 0xad166c1a, 0xad17741c,
    0xad187c1e, 0x580002a1, 0xf9400421, 0x91004021, 0xd61f0020, 0xd503201f, 0x00000000, 0x00000000,
    0x48000004, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000,
    0x00000000, 0x00000000, 0x00010000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000,
    0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000,
];

pub(crate) const HANDLER: u64 = 0x78;
const FINISH: u64 = 0x8c;
const LOAD: u64 = 0xe8;
const SAVE: [u64; 2] = [0x194, 0x264];
const ACT: u64 = 0x338;
const ALTSTACK: u64 = 0x358;
const FIRST: u64 = 0x370;

/// Bytes of a record: X0 to X30, SP, NZCV, FPCR, FPSR, mark, 16 unused bytes, V0 to V31.
pub(crate) const RECORD: usize = 1024;
/// Words of a case: four to load the record, two instructions, two exits.
const CASE_WORDS: u64 = 8;
/// Guest data that instructions access.
pub(crate) const DATA_SIZE: u64 = 0x4_0000;
/// After the data: the driver's signal stack and its variables.
pub(crate) const PRIVATE_SIZE: u64 = 0x2_0000;
pub(crate) const NOP: u32 = 0xd503_201f;
pub(crate) const BATCH: usize = 2000;

/// SplitMix64.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A general register's value, often at an edge.
    pub(crate) fn register(&mut self) -> u64 {
        let value = self.next();
        match self.below(8) {
            0 => value & 0xff,
            1 => {
                self.pick(&[0, 1, u64::MAX, 1 << 63, i64::MAX as u64, 0x8000_0000, 0x7fff_ffff, 0xffff_ffff])
            }
            2 => value >> self.below(64),
            3 => ((value as i64) >> self.below(64)) as u64,
            _ => value,
        }
    }

    fn double(&mut self) -> u64 {
        let special = [
            0x0000_0000_0000_0000,
            0x3ff0_0000_0000_0000,
            0x7ff0_0000_0000_0000,
            0x7ff8_0000_0000_0000,
            0x7ff0_0000_0000_0001,
            0x7ff8_0000_1234_5678,
            0x0000_0000_0000_0001,
            0x000f_ffff_ffff_ffff,
            0x0010_0000_0000_0000,
            0x7fef_ffff_ffff_ffff,
            0x3fe0_0000_0000_0000,
            0x43e0_0000_0000_0000,
            0x41e0_0000_0000_0000,
            0x47ef_ffff_e000_0000,
            0x3810_0000_0000_0000,
            0x4004_0000_0000_0000,
        ];
        let sign = self.next() & 1 << 63;
        match self.below(5) {
            0 => self.pick(&special) | sign,
            // Near integers, halves among them.
            1 => ((self.below(4001) as f64 - 2000.0) / 4.0).to_bits(),
            // Exponents near each other.
            2 => {
                sign | (0x3f0 + self.below(32)) << 52
                    | self.next() >> 12 >> self.below(52) << self.below(20) & (1 << 52) - 1
            }
            3 => (self.single_bits() as u64) << 32 | self.next() & 0xffff_ffff,
            _ => self.next(),
        }
    }

    fn single_bits(&mut self) -> u32 {
        let special = [
            0x0000_0000,
            0x3f80_0000,
            0x7f80_0000,
            0x7fc0_0000,
            0x7f80_0001,
            0x7fc1_2345,
            0x0000_0001,
            0x007f_ffff,
            0x0080_0000,
            0x7f7f_ffff,
            0x3f00_0000,
            0x4f00_0000,
            0x5f00_0000,
            0x4020_0000,
            0x477f_e000,
            0x3880_0000u32,
        ];
        let sign = (self.next() as u32) & 1 << 31;
        match self.below(5) {
            0 => self.pick(&special) | sign,
            1 => ((self.below(4001) as f32 - 2000.0) / 4.0).to_bits(),
            2 => sign | (0x70 + self.below(32) as u32) << 23 | self.next() as u32 >> 9,
            3 => (self.half_bits() as u32) << 16 | self.next() as u32 & 0xffff,
            _ => self.next() as u32,
        }
    }

    pub(crate) fn half_bits(&mut self) -> u16 {
        let special =
            [0x0000, 0x3c00, 0x7c00, 0x7e00, 0x7c01, 0x0001, 0x03ff, 0x0400, 0x7bff, 0x3800, 0x4100u16];
        if self.one_in(3) { self.pick(&special) | (self.next() as u16 & 0x8000) } else { self.next() as u16 }
    }

    pub(crate) fn vector(&mut self) -> u128 {
        let pair = |low: u64, high: u64| u128::from(low) | u128::from(high) << 64;
        match self.below(8) {
            0 | 1 => {
                let (low, high) = (self.double(), self.double());
                pair(low, high)
            }
            2 | 3 => (0..4).fold(0, |v, _| v << 32 | u128::from(self.single_bits())),
            4 => (0..8).fold(0, |v, _| v << 16 | u128::from(self.half_bits())),
            5 => (0..16).fold(0, |v, _| {
                let byte = self.pick(&[0x00, 0x7f, 0x80, 0xff, 0x01]);
                v << 8 | byte
            }),
            6 => pair(self.register(), self.register()),
            _ => pair(self.next(), self.next()),
        }
    }
}

/// The registers before or after a case.
#[derive(Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) x: [u64; 31],
    pub(crate) sp: u64,
    pub(crate) nzcv: u32,
    pub(crate) fpcr: u32,
    pub(crate) fpsr: u32,
    /// 0: went on to the next instruction; 1: branched or raised a signal.
    pub(crate) mark: u32,
    pub(crate) v: [u128; 32],
}

impl Record {
    fn to_bytes(&self, bytes: &mut [u8]) {
        for (i, x) in self.x.iter().chain([&self.sp]).enumerate() {
            bytes[i * 8..i * 8 + 8].copy_from_slice(&x.to_le_bytes());
        }
        for (i, word) in [self.nzcv, self.fpcr, self.fpsr, self.mark].iter().enumerate() {
            bytes[256 + i * 4..260 + i * 4].copy_from_slice(&word.to_le_bytes());
        }
        for (i, v) in self.v.iter().enumerate() {
            bytes[288 + i * 16..304 + i * 16].copy_from_slice(&v.to_le_bytes());
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Record {
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        Record {
            x: std::array::from_fn(|i| long(i * 8)),
            sp: long(248),
            nzcv: word(256),
            fpcr: word(260),
            fpsr: word(264),
            mark: word(268),
            v: std::array::from_fn(|i| u128::from(long(288 + i * 16)) | u128::from(long(296 + i * 16)) << 64),
        }
    }

    /// What differs, for a message.
    pub(crate) fn differences(&self, other: &Record, whose: &str) -> String {
        let mut text = String::new();
        for i in 0..31 {
            if self.x[i] != other.x[i] {
                text += &format!("  x{i}: ours {:016x} {whose} {:016x}\n", self.x[i], other.x[i]);
            }
        }
        if self.sp != other.sp {
            text += &format!("  sp: ours {:016x} {whose} {:016x}\n", self.sp, other.sp);
        }
        for (name, ours, theirs) in [
            ("nzcv", self.nzcv, other.nzcv),
            ("fpcr", self.fpcr, other.fpcr),
            ("fpsr", self.fpsr, other.fpsr),
            ("mark", self.mark, other.mark),
        ] {
            if ours != theirs {
                text += &format!("  {name}: ours {ours:08x} {whose} {theirs:08x}\n");
            }
        }
        for i in 0..32 {
            if self.v[i] != other.v[i] {
                text += &format!("  v{i}: ours {:032x} {whose} {:032x}\n", self.v[i], other.v[i]);
            }
        }
        text
    }
}

/// One or two instructions and the registers before them.
pub(crate) struct Case {
    pub(crate) words: [u32; 2],
    pub(crate) before: Record,
}

impl Case {
    /// The mnemonics.
    pub(crate) fn name(&self) -> String {
        match self.words {
            [word, NOP] => name(word).to_string(),
            [first, second] => format!("{} {}", name(first), name(second)),
        }
    }
}

/// Where the program of a batch lies.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) base: u64,
    pub(crate) cases: usize,
}

impl Layout {
    pub(crate) fn records(&self) -> u64 {
        self.base + 0x1000_0000
    }
    pub(crate) fn data(&self) -> u64 {
        self.base + 0x2000_0000
    }
    pub(crate) fn current(&self) -> u64 {
        self.data() + DATA_SIZE
    }
    pub(crate) fn case(&self, i: usize) -> u64 {
        self.base + DRIVER.len() as u64 * 4 + i as u64 * CASE_WORDS * 4
    }
    /// Address of the first instruction under test.
    pub(crate) fn snippet(&self, i: usize) -> u64 {
        self.case(i) + 16
    }
}

fn set(word: &mut u32, high: u32, low: u32, value: u32) {
    let mask = u32::MAX >> (31 - (high - low)) << low;
    *word = *word & !mask | value << low & mask;
}

pub(crate) fn field(word: u32, high: u32, low: u32) -> u32 {
    word >> low & (u32::MAX >> (31 - (high - low)))
}

/// Creates case `i`; `None` if the random instruction is unpredictable.
fn case(random: &mut Random, row: &Row, layout: &Layout, i: usize) -> Option<Case> {
    let mut word = row.value | random.next() as u32 & !row.mask;
    let snippet = layout.snippet(i);
    let mut before = Record {
        x: std::array::from_fn(|_| random.register()),
        sp: random.register() & !15,
        nzcv: (random.next() as u32) & 0xf000_0000,
        // FZ alone is what -ffast-math sets.
        fpcr: match random.below(8) {
            0..4 => 0,
            4 => 1 << 24,
            _ => random.next() as u32 & 0x07c0_0000,
        },
        fpsr: if random.one_in(2) { random.next() as u32 & 0x0800_009f } else { 0 },
        mark: 0,
        v: std::array::from_fn(|_| random.vector()),
    };
    before.x[30] = snippet;
    if row.name() == "FJCVTZS" {
        // QEMU before 9.0.2 (its issue 2375) treats flushing a subnormal number by FZ as exact.
        before.fpcr &= !(1 << 24);
    }
    // Sometimes the operands are equal.
    if random.one_in(8) {
        let (n, m) = (field(word, 9, 5) as usize, field(word, 20, 16) as usize);
        before.v[m] = before.v[n];
    }
    let mut second = NOP;
    let (rt, rn, rm, rt2) = (field(word, 4, 0), field(word, 9, 5), field(word, 20, 16), field(word, 14, 10));
    match row.class {
        Class::Branch => match row.name() {
            "B" | "BL" if row.mask == 0xfc00_0000 => set(&mut word, 25, 0, 3),
            "B" | "CBZ" | "CBNZ" => set(&mut word, 23, 5, 3),
            "TBZ" | "TBNZ" => set(&mut word, 18, 5, 3),
            _ if rn >= 30 => return None,
            _ => before.x[rn as usize] = snippet + 12,
        },
        Class::System => match row.name() {
            "SVC" | "BRK" => return None,
            "MRS" | "MSR" => {
                // NZCV, FPCR, FPSR.
                let register = random.pick(&[0xda10, 0xda20, 0xda21]);
                set(&mut word, 20, 5, register);
                if row.name() == "MSR" && rt == 30 {
                    return None;
                }
                if row.name() == "MSR" && rt < 31 {
                    before.x[rt as usize] &= match register {
                        0xda20 => 0x07c0_0000,
                        0xda21 => 0x0800_009f,
                        _ => u64::MAX,
                    };
                }
            }
            "SYS" => {
                // DC ZVA.
                word = 0xd50b_7420 | rt;
                if rt >= 30 {
                    return None;
                }
                before.x[rt as usize] = layout.data() + random.below(DATA_SIZE);
            }
            _ => {}
        },
        Class::LoadStore => {
            let literal = row.mask >> 24 & 0x3b == 0x3b && row.value >> 24 & 0x3b == 0x18;
            if literal {
                // Loads from the words before, which are the same in both programs.
                set(&mut word, 23, 5, (-4i32) as u32);
                return Some(Case { words: [word, NOP], before });
            }
            if rn == 30 {
                return None;
            }
            let address = layout.data() + 0x2_0000 + (random.below(0x1000) & !15);
            let vector = word >> 26 & 1 == 1;
            let structures = row.mask >> 24 & 0x3e == 0x3e && row.value >> 24 & 0x3e == 0x0c;
            let exclusive = field(word, 29, 24) == 0x08;
            let atomic = field(word, 29, 24) == 0x38 && word >> 21 & 1 == 1 && field(word, 11, 10) == 0;
            let pair = field(word, 29, 27) == 5;
            let single = field(word, 29, 27) == 7;
            let unaligned = if exclusive || atomic { 0 } else { random.below(16) };
            if rn == 31 {
                before.sp = address;
            } else {
                before.x[rn as usize] = address + unaligned;
            }
            if single && !atomic && word >> 21 & 1 == 1 && field(word, 11, 10) == 2 && word >> 24 & 1 == 0 {
                // Register offset.
                if rm == rn || rm >= 30 {
                    return None;
                }
                let index = random.below(0x800);
                before.x[rm as usize] = match field(word, 15, 13) {
                    2 => index | random.next() << 32,
                    6 if random.one_in(2) => u64::from((index as u32).wrapping_neg()) | random.next() << 32,
                    6 => index | random.next() << 32,
                    7 if random.one_in(2) => index.wrapping_neg(),
                    _ => index,
                };
            }
            let write_back = pair && word >> 23 & 1 == 1
                || single && word >> 24 & 1 == 0 && field(word, 11, 10) & 1 == 1 && word >> 21 & 1 == 0;
            if write_back && !vector && rn != 31 && (rt == rn || pair && rt2 == rn) {
                return None;
            }
            if pair && word >> 22 & 1 == 1 && rt == rt2 {
                return None;
            }
            if structures && rm == rn && word >> 23 & 1 == 1 {
                return None;
            }
            if exclusive && row.name().contains('X') {
                let pair = row.name().contains('P');
                if row.name().starts_with("LD") {
                    if pair && rt == rt2 {
                        return None;
                    }
                } else {
                    // A load before it, whose reservation the store then holds or not.
                    if rm == rt || rm == rn || pair && rm == rt2 {
                        return None;
                    }
                    let mut load = word;
                    set(&mut load, 22, 22, 1);
                    set(&mut load, 20, 16, 31);
                    let (a, b) = (random.below(30) as u32, random.below(30) as u32);
                    if a == rn
                        || b == rn
                        || a == b
                        || [rt, rt2].contains(&a)
                        || pair && [rt, rt2].contains(&b)
                    {
                        return None;
                    }
                    set(&mut load, 4, 0, a);
                    set(&mut load, 14, 10, if pair { b } else { 31 });
                    second = word;
                    word = load;
                }
            }
            if exclusive && row.name().starts_with("CASP") {
                // Make success likely enough.
                set(&mut word, 0, 0, 0);
                set(&mut word, 16, 16, 0);
                if rt & 30 == 30 || rm & 30 == 30 {
                    return None;
                }
            }
        }
        // Half-precision conversions and constants, which QEMU's CPU has and ours lacks.
        Class::Simd if row.name().contains("CVT") && word >> 10 & 1 == 1 && field(word, 22, 20) <= 1 => {
            return None;
        }
        Class::Integer | Class::Float | Class::Simd | Class::Crypto => {}
    }
    if Support::of(word) != Support::Implemented && !random.one_in(16) {
        return None;
    }
    Some(Case { words: [word, second], before })
}

/// The words of the program: for QEMU with exits to the driver, for the interpreter with breakpoints.
pub(crate) fn code(layout: &Layout, cases: &[Case], breakpoints: bool) -> Vec<u32> {
    let mut words = DRIVER.to_vec();
    let mut long = |at: u64, value: u64| {
        words[at as usize / 4] = value as u32;
        words[at as usize / 4 + 1] = (value >> 32) as u32;
    };
    long(ACT, layout.base + HANDLER);
    long(ALTSTACK, layout.current() + 0x1000);
    long(FIRST, layout.case(0));
    long(FIRST + 8, layout.current());
    long(FIRST + 16, layout.records());
    long(FIRST + 24, (cases.len() * RECORD) as u64);
    long(FIRST + 32, layout.data());
    long(FIRST + 40, DATA_SIZE);
    let jump = |opcode: u32, from: u64, to: u64| opcode | (to.wrapping_sub(from) >> 2) as u32 & 0x03ff_ffff;
    for (i, case) in cases.iter().enumerate() {
        let (start, record) = (layout.case(i), layout.records() + (i * RECORD) as u64);
        words.push(0xd280_0000 | (record as u32 & 0xffff) << 5);
        words.push(0xf2a0_0000 | (record >> 16) as u32 % 0x1_0000 << 5);
        words.push(0xf2c0_0000 | (record >> 32) as u32 % 0x1_0000 << 5);
        words.push(jump(0x9400_0000, start + 12, layout.base + LOAD));
        words.extend(case.words);
        for (slot, save) in SAVE.iter().enumerate() {
            words.push(if breakpoints {
                0xd420_0000 | (slot as u32) << 5
            } else {
                jump(0x1400_0000, start + 24 + slot as u64 * 4, layout.base + save)
            });
        }
    }
    words.push(jump(0x1400_0000, layout.case(cases.len()), layout.base + FINISH));
    words
}

pub(crate) fn records(cases: &[Case]) -> Vec<u8> {
    let mut bytes = vec![0; cases.len() * RECORD];
    for (case, bytes) in cases.iter().zip(bytes.chunks_mut(RECORD)) {
        case.before.to_bytes(bytes);
    }
    bytes
}

pub(crate) fn data(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..DATA_SIZE / 8).flat_map(|_| random.register().to_le_bytes()).collect()
}

/// A mapping at a fixed address.
pub(crate) struct Mapping(pub(crate) u64, usize);

impl Mapping {
    pub(crate) fn new(address: u64, bytes: &[u8], size: usize) -> Self {
        // SAFETY: MAP_FIXED_NOREPLACE touches no other mapping; the copy stays within the new one.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let mapped = libc::mmap(address as *mut libc::c_void, size, protection, flags, -1, 0);
            assert_eq!(mapped as u64, address, "the address is free");
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), mapped.cast(), bytes.len());
        }
        Mapping(address, size)
    }

    pub(crate) fn bytes(&self, length: usize) -> Vec<u8> {
        assert!(length <= self.1);
        // SAFETY: the mapping is ours and at least as long.
        unsafe { std::slice::from_raw_parts(self.0 as *const u8, length).to_vec() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more.
        unsafe { libc::munmap(self.0 as *mut libc::c_void, self.1) };
    }
}

/// Runs the cases with `run`, which stops at breakpoints. Returns the records, then the data.
pub(crate) fn ours(
    layout: &Layout,
    cases: &[Case],
    seed: u64,
    mut run: impl FnMut(&mut State, &Host) -> Exit,
) -> Vec<u8> {
    let words: Vec<u8> = code(layout, cases, true).iter().flat_map(|word| word.to_le_bytes()).collect();
    let _code = Mapping::new(layout.base, &words, words.len().next_multiple_of(4096));
    let data = Mapping::new(layout.data(), &data(seed), (DATA_SIZE + PRIVATE_SIZE) as usize);
    // SAFETY: the window holds the two mappings and nothing else.
    let memory = unsafe { Memory::new(layout.base, layout.base + 0x3000_0000) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let mut output = vec![0; cases.len() * RECORD];
    for (i, case) in cases.iter().enumerate() {
        let mut state = State::default();
        for (n, &x) in case.before.x.iter().enumerate() {
            state.set_x(n, x);
        }
        state.set_sp(case.before.sp);
        (state.nzcv, state.fpcr, state.fpsr) = (case.before.nzcv, case.before.fpcr, case.before.fpsr);
        state.v = case.before.v;
        state.pc = layout.snippet(i);
        let mark = match run(&mut state, &host) {
            Exit::Breakpoint(mark) => u32::from(mark),
            Exit::Undefined(_) | Exit::Fault(_) | Exit::Unaligned { .. } => 1,
            exit => panic!("{:08x} {} left with {exit:?}", case.words[0], name(case.words[0])),
        };
        let after = Record {
            x: std::array::from_fn(|n| state.x(n)),
            sp: state.sp(),
            nzcv: state.nzcv,
            fpcr: state.fpcr,
            fpsr: state.fpsr,
            mark,
            v: state.v,
        };
        after.to_bytes(&mut output[i * RECORD..(i + 1) * RECORD]);
    }
    output.extend(data.bytes(DATA_SIZE as usize));
    output
}

/// A second instruction, to test what a translator knows about registers and does with pairs.
fn follower(random: &mut Random, case: &Case, row: &Row, rows: &[&Row]) -> u32 {
    let vd = field(case.words[0], 4, 0);
    // The mixing of columns that goes with the round, on the same register.
    let mix = match row.name() {
        "AESE" => 0x4e28_6800,
        "AESD" => 0x4e28_7800,
        _ => 0,
    };
    if mix != 0 && random.one_in(2) {
        return mix | vd << 5 | vd;
    }
    let next = random.pick(rows);
    let registers_only = |row: &Row| {
        matches!(row.class, Class::Integer | Class::Float | Class::Simd | Class::Crypto)
            && row.name() != "FJCVTZS"
    };
    let mut word = next.value | random.next() as u32 & !next.mask;
    if random.one_in(2) {
        // The result of the first instruction is an operand.
        set(&mut word, 9, 5, vd);
    }
    let half = next.name().contains("CVT") && word >> 10 & 1 == 1 && field(word, 22, 20) <= 1;
    let possible = registers_only(row) && registers_only(next) && !half;
    if possible && Support::of(word) == Support::Implemented { word } else { NOP }
}

/// A batch of cases of `rows`. A row without a predictable case takes no turn and is counted in `idle`.
pub(crate) fn batch<'r>(
    layout: &Layout,
    rows: &[&'r Row],
    in_turn: bool,
    seed: u64,
    idle: &mut BTreeMap<&'r str, usize>,
) -> Vec<Case> {
    let mut random = Random(seed);
    let mut cases = Vec::new();
    while cases.len() < layout.cases {
        // Rows take turns, so that a short run covers as many as possible.
        let row = if in_turn { rows[cases.len() % rows.len()] } else { random.pick(rows) };
        let mut tries = 0;
        while tries < 50 {
            if let Some(mut case) = case(&mut random, row, layout, cases.len()) {
                if case.words[1] == NOP && random.one_in(2) {
                    case.words[1] = follower(&mut random, &case, row, rows);
                }
                cases.push(case);
                break;
            }
            tries += 1;
        }
        if tries == 50 {
            // A row without a predictable case takes no turn.
            *idle.entry(row.name()).or_default() += 1;
            cases.push(Case { words: [NOP, NOP], before: Record::from_bytes(&[0; RECORD]) });
            let snippet = layout.snippet(cases.len() - 1);
            cases.last_mut().expect("just pushed").before.x[30] = snippet;
        }
    }
    cases
}
