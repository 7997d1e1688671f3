//! Random A32 and T32 instructions with random state, and how they are run.

use crate::cases::Random;
use crossdock_emu_guest::a32::registers::{E, IT};
use crossdock_emu_guest::a32::{Class, Row, Set, Support, classify, name};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_guest::{Exit, Host, State};

/// The driver from [`VARIABLES`] on, assembled from the text in `driver_arm.s`.
#[rustfmt::skip]
const DRIVER: &[u32] = &[
    0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000,
    0x00000000, 0x48000004, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00010000,
    0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000,
    0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000,
    0xe3a00004, 0xeb00000b, 0xe3a00005, 0xeb000009, 0xe3a00007, 0xeb000007, 0xe3a0000b, 0xeb000005,
    0xe24f0074, 0xe3a01000, 0xe3a070ba, 0xef000000, 0xe51f00ac, 0xe12fff10, 0xe24f10a0, 0xe3a02000,
    0xe3a03008, 0xe3a070ae, 0xef000000, 0xe12fff1e, 0xe28f30c8, 0xe582305c, 0xe5923060, 0xe3c33406,
    0xe3c33cfe, 0xe3c33020, 0xe5823060, 0xe12fff1e, 0xe51f80e8, 0xe51f90e8, 0xeb000005, 0xe51f80ec,
    0xe51f90ec, 0xeb000002, 0xe3a00000, 0xe3a070f8, 0xef000000, 0xe3a00001, 0xe1a01008, 0xe1a02009,
    0xe3a07004, 0xef000000, 0xe3500000, 0xda000003, 0xe0888000, 0xe0599000, 0x1afffff5, 0xe12fff1e,
    0xe3a00009, 0xe3a070f8, 0xef000000, 0xf57ff01f, 0xe50f0158, 0xe2802080, 0xecb20b20, 0xecd20b20,
    0xe5901040, 0xeee11a10, 0xe590104c, 0xe50f1170, 0xe590103c, 0xe12cf001, 0xe9907ffe, 0xe5900000,
    0xe51ff184, 0xe50f0184, 0xe51f0190, 0xe9807ffe, 0xe10f1000, 0xe580103c, 0xe3a01000, 0xea000005,
    0xe50f01a0, 0xe51f01ac, 0xe9807ffe, 0xe10f1000, 0xe580103c, 0xe3a01001, 0xe5801044, 0xe51f11bc,
    0xe5801000, 0xeef11a10, 0xe5801040, 0xe3a01000, 0xeee11a10, 0xe2802080, 0xeca20b20, 0xecc20b20,
    0xe5901048, 0xe12fff11, 0xbf004778, 0xeaffffe4, 0xbf004778, 0xeaffffe9,
];

/// Offsets in the program: the driver's variables, which are written, and its code.
const VARIABLES: u64 = 0xf80;
pub(crate) const START: u64 = 0x1000;
const FIRST: usize = 3;
const ACT: usize = 8;
const ALTSTACK: usize = 13;
const HANDLER: u64 = 0x1050;
const FINISH: u64 = 0x1070;
const LOAD: u64 = 0x10cc;
/// Where a case ends, by mark, in A32 and in T32.
const SAVE: [[u64; 2]; 2] = [[0x1104, 0x1120], [0x1168, 0x1170]];
/// Where the first case lies.
const CASES: u64 = 0x1180;

/// Bytes of a record: see `driver_arm.s`.
pub(crate) const RECORD: usize = 512;
/// Bytes of a case: 16 to load the record, 16 of instructions, the ends of mark 0 and 1, and a third of mark
/// 1 in the other instruction set.
const CASE: u64 = 48;
/// Guest data that instructions access, and after it the driver's signal stack.
pub(crate) const DATA_SIZE: u64 = 0x2_0000;
const STACK_SIZE: u64 = 0x2_0000;
pub(crate) const BATCH: usize = 2000;

/// Bits of APSR and FPSCR that cases set: NZCV, Q, GE; flags, AHP, DN, FZ, rounding, FZ16, cumulative flags.
const APSR: u32 = 0xf80f_0000;
const FPSCR: u32 = 0xffc8_009f;

/// The registers before or after a case.
#[derive(Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) r: [u32; 15],
    pub(crate) apsr: u32,
    pub(crate) fpscr: u32,
    /// 0: went on to the next instruction; 1: branched or raised a signal.
    pub(crate) mark: u32,
    pub(crate) d: [u64; 32],
}

impl Record {
    fn to_bytes(&self, bytes: &mut [u8]) {
        let words = self.r.iter().chain([&self.apsr, &self.fpscr, &self.mark]);
        for (i, word) in words.enumerate() {
            bytes[i * 4..i * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        for (i, d) in self.d.iter().enumerate() {
            bytes[128 + i * 8..136 + i * 8].copy_from_slice(&d.to_le_bytes());
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Record {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        Record {
            r: std::array::from_fn(|i| word(i * 4)),
            apsr: word(60) & APSR,
            fpscr: word(64) & FPSCR,
            mark: word(68),
            d: std::array::from_fn(|i| long(128 + i * 8)),
        }
    }

    /// What differs, for a message.
    pub(crate) fn differences(&self, other: &Record) -> String {
        let mut text = String::new();
        let ours = self.r.iter().chain([&self.apsr, &self.fpscr, &self.mark]);
        let theirs = other.r.iter().chain([&other.apsr, &other.fpscr, &other.mark]);
        for (i, (ours, theirs)) in ours.zip(theirs).enumerate() {
            if ours != theirs {
                let name = match i {
                    15 => "apsr".into(),
                    16 => "fpscr".into(),
                    17 => "mark".into(),
                    n => format!("r{n}"),
                };
                text += &format!("  {name}: ours {ours:08x} qemu {theirs:08x}\n");
            }
        }
        for (i, (ours, theirs)) in self.d.iter().zip(&other.d).enumerate() {
            if ours != theirs {
                text += &format!("  d{i}: ours {ours:016x} qemu {theirs:016x}\n");
            }
        }
        text
    }
}

/// An instruction, and the registers before it.
pub(crate) struct Case {
    pub(crate) set: Set,
    pub(crate) word: u32,
    /// Whether the instruction runs as T32; always so for the sets of T32.
    pub(crate) thumb: bool,
    /// For T32: the condition of an IT block of this one instruction.
    pub(crate) it: Option<u32>,
    /// An instruction after it, to test what a translator does with flags that are not read.
    pub(crate) second: Option<(Set, u32)>,
    pub(crate) before: Record,
}

impl Case {
    pub(crate) fn name(&self) -> String {
        let set = if self.thumb { "T32" } else { "A32" };
        let it = if self.it.is_some() { " in IT" } else { "" };
        format!("{set} {}{it}", name(self.set, self.word))
    }

    /// The 16 bytes of the snippet.
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = Vec::new();
        if let Some(condition) = self.it {
            bytes.extend((0xbf08 | condition << 4).to_le_bytes()[..2].iter());
        }
        for (set, word) in [Some((self.set, self.word)), self.second].into_iter().flatten() {
            match set {
                Set::Thumb16 => bytes.extend(&word.to_le_bytes()[..2]),
                _ if !self.thumb => bytes.extend(word.to_le_bytes()),
                set => {
                    let word = if set == Set::Float { thumb_of_float(word) } else { word };
                    bytes.extend(&(word >> 16).to_le_bytes()[..2]);
                    bytes.extend(&word.to_le_bytes()[..2]);
                }
            }
        }
        while bytes.len() < 16 {
            if self.thumb {
                bytes.extend(0xbf00u16.to_le_bytes());
            } else {
                bytes.extend(0xe320_f000u32.to_le_bytes());
            }
        }
        bytes.try_into().expect("16 bytes")
    }
}

/// A word of [`Set::Float`] in T32's encoding; the condition is AL.
fn thumb_of_float(word: u32) -> u32 {
    match word >> 24 {
        0xf2 | 0xf3 => 0xef00_0000 | (word >> 24 & 1) << 28 | word & 0xff_ffff,
        0xf4 => 0xf900_0000 | word & 0xff_ffff,
        _ => word,
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
        self.base + 0x0100_0000
    }
    pub(crate) fn record(&self, i: usize) -> u64 {
        self.records() + (i * RECORD) as u64
    }
    pub(crate) fn data(&self) -> u64 {
        self.base + 0x0200_0000
    }
    /// The first case, and the code after the last one.
    fn case(&self, i: usize) -> u64 {
        self.base + CASES + i as u64 * CASE
    }
    /// Address of the instructions under test.
    pub(crate) fn snippet(&self, i: usize) -> u64 {
        self.case(i) + 16
    }
    /// The end of a case with mark 1.
    pub(crate) fn taken(&self, i: usize) -> u64 {
        self.case(i) + 36
    }
}

/// A branch of A32 without a condition.
fn arm_branch(from: u64, to: u64, link: bool) -> [u8; 4] {
    let offset = (to.wrapping_sub(from + 8) >> 2) as u32 & 0xff_ffff;
    (if link { 0xeb00_0000 } else { 0xea00_0000 } | offset).to_le_bytes()
}

/// A branch of T32 of 32 bits.
fn thumb_branch(from: u64, to: u64) -> [u8; 4] {
    let offset = to.wrapping_sub(from + 4) as u32;
    let sign = offset >> 24 & 1;
    let (j1, j2) = (!(offset >> 23 ^ sign) & 1, !(offset >> 22 ^ sign) & 1);
    let first = 0xf000 | sign << 10 | offset >> 12 & 0x3ff;
    let second = 0x9000 | j1 << 13 | j2 << 11 | offset >> 1 & 0x7ff;
    let [a, b, ..] = first.to_le_bytes();
    let [c, d, ..] = second.to_le_bytes();
    [a, b, c, d]
}

/// The program from [`VARIABLES`] on: for QEMU with ends that go to the driver, for us with breakpoints.
pub(crate) fn code(layout: &Layout, cases: &[Case], breakpoints: bool) -> Vec<u8> {
    let mut words = DRIVER.to_vec();
    words[ACT] = (layout.base + HANDLER) as u32;
    words[ALTSTACK] = (layout.data() + DATA_SIZE) as u32;
    let size = (cases.len() * RECORD) as u32;
    let variables =
        [layout.case(0) as u32, layout.records() as u32, size, layout.data() as u32, DATA_SIZE as u32];
    words[FIRST..FIRST + 5].copy_from_slice(&variables);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize((CASES - VARIABLES) as usize, 0);
    for (i, case) in cases.iter().enumerate() {
        let (start, record) = (layout.case(i), layout.record(i) as u32);
        for (opcode, half) in [(0xe300_0000u32, record & 0xffff), (0xe340_0000, record >> 16)] {
            bytes.extend((opcode | (half >> 12) << 16 | half & 0xfff).to_le_bytes());
        }
        bytes.extend(arm_branch(start + 8, layout.base + LOAD, true));
        bytes.extend([0; 4]);
        bytes.extend(case.bytes());
        let arm = |at: u64, mark: usize| {
            if breakpoints {
                (0xe120_0070 | mark as u32).to_le_bytes()
            } else {
                arm_branch(at, layout.base + SAVE[0][mark], false)
            }
        };
        let thumb = |at: u64, mark: usize| {
            if breakpoints {
                (0xbf00_be00u32 | mark as u32).to_le_bytes()
            } else {
                thumb_branch(at, layout.base + SAVE[1][mark])
            }
        };
        for (offset, mark, is_thumb) in [(32, 0, case.thumb), (36, 1, case.thumb), (40, 1, !case.thumb)] {
            bytes.extend(if is_thumb { thumb(start + offset, mark) } else { arm(start + offset, mark) });
        }
        bytes.extend([0; 4]);
    }
    let end = layout.case(cases.len());
    bytes.extend(arm_branch(end, layout.base + FINISH, false));
    bytes
}

pub(crate) fn records(layout: &Layout, cases: &[Case]) -> Vec<u8> {
    let mut bytes = vec![0; cases.len() * RECORD];
    for (i, (case, bytes)) in cases.iter().zip(bytes.chunks_mut(RECORD)).enumerate() {
        case.before.to_bytes(bytes);
        bytes[72..76].copy_from_slice(&(layout.case(i + 1) as u32).to_le_bytes());
        bytes[76..80].copy_from_slice(&(layout.snippet(i) as u32 | u32::from(case.thumb)).to_le_bytes());
    }
    bytes
}

pub(crate) fn data(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..DATA_SIZE / 8).flat_map(|_| random.register().to_le_bytes()).collect()
}

fn set_field(word: &mut u32, (low, width): (u32, u32), value: u32) {
    let mask = (((1u64 << width) - 1) as u32) << low;
    *word = *word & !mask | value << low & mask;
}

/// Creates case `i` of a row; `None` if the random instruction has no predictable result.
pub(crate) fn case(random: &mut Random, set: Set, row: &Row, layout: &Layout, i: usize) -> Option<Case> {
    let thumb = match set {
        Set::Arm => false,
        Set::Thumb16 | Set::Thumb32 => true,
        Set::Float => random.one_in(2),
    };
    let mut word = row.value | random.next() as u32 & !row.mask;
    if set == Set::Thumb16 {
        word &= 0xffff;
    }
    let field = |word: u32, letter: char| {
        row.field(letter).map(|(low, width)| word >> low & ((1u64 << width) - 1) as u32)
    };
    if let Some(place) = row.field('c') {
        let condition = if thumb || random.one_in(2) { 14 } else { random.below(15) as u32 };
        set_field(&mut word, place, condition);
    }
    let mut before = Record {
        r: std::array::from_fn(|_| random.register() as u32),
        apsr: random.next() as u32 & APSR,
        fpscr: 0,
        mark: 0,
        d: std::array::from_fn(|_| random.vector() as u64),
    };
    before.fpscr = match random.below(8) {
        0..4 => 0,
        4 => 1 << 24,
        _ => random.next() as u32 & 0x07c8_0000,
    } | if random.one_in(2) { random.next() as u32 & 0xf800_009f } else { 0 };
    if random.one_in(8) {
        // Sometimes the operands are equal.
        let (n, m) = (field(word, 'n').unwrap_or(0), field(word, 'm').unwrap_or(0));
        before.d[m as usize] = before.d[n as usize];
        if n < 15 && m < 15 {
            before.r[m as usize] = before.r[n as usize];
        }
    }
    let in_it = thumb && !matches!(row.class, Class::Branch | Class::System) && random.one_in(4);
    let it = in_it.then(|| random.below(14) as u32);
    let (snippet, taken) = (layout.snippet(i) as u32, layout.taken(i) as u32);
    match row.class {
        Class::Branch => branch(row, &mut word, &mut before, snippet, taken, thumb)?,
        Class::System => match row.name() {
            "SVC" | "BKPT" | "UDF" | "?" | "IT" | "SETEND" | "MRC" | "MCR" | "MRRC" => return None,
            "MRS" if field(word, 'd') == Some(13) => return None,
            "MSR" => {
                if let Some((low, width)) = row.field('k') {
                    set_field(&mut word, (low, width), [8, 4, 12][random.below(3) as usize]);
                }
                if let Some(n) = field(word, 'n').filter(|n| *n < 15) {
                    before.r[n as usize] &= !(E | IT);
                }
            }
            _ => {}
        },
        Class::LoadStore | Class::Exclusive => access(random, row, &mut word, &mut before, layout)?,
        Class::Float | Class::Simd | Class::Crypto => {
            if row.class == Class::Float {
                float(random, row, &mut word, &mut before, thumb)?;
            }
            // Loads and stores have a base register.
            let literal = row.name() == "VLDR" && field(word, 'n') == Some(15);
            if let Some(n) = field(word, 'n').filter(|_| is_access(word) && !literal) {
                if n >= 15 || field(word, 'm').is_some_and(|m| m == n || m > 15) {
                    return None;
                }
                let unaligned = if random.one_in(4) { random.below(16) as u32 } else { 0 };
                before.r[n as usize] =
                    layout.data() as u32 + 0x1_0000 + random.below(0x800) as u32 * 8 + unaligned;
                if let Some(m) = field(word, 'm').filter(|m| *m < 15) {
                    before.r[m as usize] = random.below(0x100) as u32;
                }
                // QEMU takes an alignment of 32 bytes for one of 16.
                if row.field('z').is_some() && field(word, 'a') == Some(3) {
                    before.r[n as usize] &= !16;
                }
            }
            // A register that is exchanged with itself becomes unknown.
            let operand = |letter: char| (field(word, letter.to_ascii_uppercase()), field(word, letter));
            if matches!(row.name(), "VTRN" | "VUZP" | "VZIP") && operand('d') == operand('m') {
                return None;
            }
        }
        _ => {
            // A write of PC has no place to go to.
            if names_pc(row, word) {
                return None;
            }
        }
    }
    // The word may belong to a row before this one.
    if !classify(set, word).is_some_and(|found| std::ptr::eq(found, row)) {
        return None;
    }
    // The reserved words of vectors are undefined in QEMU too, but for those that need not be: with R15, with
    // registers after D31, with a condition.
    let undefined = matches!(row.class, Class::Simd | Class::Crypto)
        && (word >> 24 != 0xf4 || field(word, 'D') == Some(0))
        && field(word, 't') != Some(15)
        && field(word, 'c').is_none_or(|condition| condition == 14);
    if Support::of(set, word, it.is_some()) != Support::Implemented && !undefined {
        return None;
    }
    let computes = |class| matches!(class, Class::Data | Class::Multiply | Class::Media);
    let second = (computes(row.class) && random.one_in(2)).then(|| follower(random, set, computes)).flatten();
    Some(Case { set, word, thumb, it, second, before })
}

/// Prepares the registers of an instruction of VFP; `None` if QEMU does something else.
fn float(random: &mut Random, row: &Row, word: &mut u32, before: &mut Record, thumb: bool) -> Option<()> {
    match row.name() {
        // Loads from the words at the start of the case, which are the same in both programs.
        "VLDR" if *word >> 16 & 15 == 15 => {
            let offset = if thumb { 20 } else { 24 } - 4 * random.below(2) as u32;
            set_field(word, row.field('U').expect("a direction"), 0);
            let scale = if *word >> 8 & 3 == 1 { 1 } else { 2 };
            set_field(word, row.field('i').expect("an offset"), offset >> scale);
        }
        "VLDM" | "VSTM" | "VLDMDB" | "VSTMDB" => {
            set_field(word, row.field('i').expect("a length"), random.below(34) as u32);
        }
        _ => {}
    }
    if *word >> 8 & 3 == 1 && random.one_in(2) {
        // Half precision has the low half of singlewords.
        for d in before.d[..16].iter_mut() {
            *d = (0..4).fold(0, |d, _| d << 16 | random.half_bits() as u64);
        }
    }
    if row.name() == "VJCVT" {
        // QEMU before 9.0.2 (its issue 2375) treats flushing a subnormal number by FZ as exact.
        before.fpscr &= !(1 << 24);
    }
    if row.name() == "VMSR" {
        // LEN and STRIDE exist in QEMU, and make other instructions undefined.
        *before.r.get_mut(*word as usize >> 12 & 15)? &= FPSCR;
    }
    Some(())
}

/// Whether the destination is PC; in T32 of 16 bits its high bit is `h`.
fn names_pc(row: &Row, word: u32) -> bool {
    row.field('d').is_some_and(|(low, width)| {
        width == 4 && word >> low & 15 == 15 || row.field('h').is_some() && word & 0x87 == 0x87
    })
}

/// An instruction of registers only, which may depend on the one before.
fn follower(random: &mut Random, set: Set, computes: impl Fn(Class) -> bool) -> Option<(Set, u32)> {
    let set = match set {
        Set::Thumb16 | Set::Thumb32 => random.pick(&[Set::Thumb16, Set::Thumb32]),
        set => set,
    };
    let rows: Vec<&Row> = set.rows().iter().filter(|row| computes(row.class)).collect();
    let row = random.pick(&rows);
    let mut word = row.value | random.next() as u32 & !row.mask;
    if set == Set::Thumb16 {
        word &= 0xffff;
    }
    if let Some(place) = row.field('c') {
        set_field(&mut word, place, if random.one_in(3) { random.below(15) as u32 } else { 14 });
    }
    let is_known = classify(set, word).is_some_and(|found| std::ptr::eq(found, row));
    (is_known && !names_pc(row, word) && Support::of(set, word, false) == Support::Implemented)
        .then_some((set, word))
}

/// Whether a word of [`Set::Float`] accesses memory.
fn is_access(word: u32) -> bool {
    word >> 24 == 0xf4
        || matches!(word >> 24 & 15, 0xc | 0xd) && word >> 28 != 15 && word >> 21 & 0x7d != 0x60
}

/// Makes a branch lead to where a taken one ends.
fn branch(
    row: &Row,
    word: &mut u32,
    before: &mut Record,
    snippet: u32,
    taken: u32,
    thumb: bool,
) -> Option<()> {
    let pc = snippet + if thumb { 4 } else { 8 };
    let offset = taken.wrapping_sub(pc);
    match row.name() {
        "B" | "BL" if !thumb => set_field(word, (0, 24), offset >> 2),
        "B" if row.width == 16 => {
            let place = row.field('i').expect("an offset");
            set_field(word, place, offset >> 1);
            if row.field('q').is_some_and(|place| *word >> place.0 & 15 >= 14) {
                return None;
            }
        }
        "B" | "BL" => {
            set_field(word, row.field('s').expect("a sign"), 0);
            let conditional = row.field('q').is_some();
            let high = if conditional { 0 } else { 1 };
            set_field(word, row.field('j').expect("a bit"), high);
            set_field(word, row.field('k').expect("a bit"), high);
            set_field(word, row.field('h').expect("high bits"), offset >> 12);
            set_field(word, row.field('l').expect("low bits"), offset >> 1);
        }
        // To the other instruction set: the third end.
        "BLX" if row.field('m').is_none() => {
            let offset = offset.wrapping_add(4);
            if thumb {
                set_field(word, (26, 1), 0);
                set_field(word, row.field('j').expect("a bit"), 1);
                set_field(word, row.field('k').expect("a bit"), 1);
                set_field(word, row.field('h').expect("high bits"), offset >> 12);
                set_field(word, row.field('l').expect("low bits"), offset >> 1 & !1);
            } else {
                set_field(word, (0, 24), offset >> 2);
                set_field(word, row.field('h').expect("a halfword"), 0);
            }
        }
        "BX" | "BXJ" | "BLX" => {
            let (low, width) = row.field('m').expect("a register");
            let m = *word >> low & ((1 << width) - 1);
            // One of four goes to the other instruction set.
            let target =
                if before.r[0] & 3 == 0 { (taken + 4) | u32::from(!thumb) } else { taken | u32::from(thumb) };
            *before.r.get_mut(m as usize)? = target;
        }
        "CBZ" => {
            set_field(word, row.field('h').expect("a bit"), 0);
            set_field(word, row.field('i').expect("an offset"), offset >> 1);
            if before.r[1] & 1 == 0 {
                let (low, _) = row.field('n').expect("a register");
                before.r[(*word >> low & 7) as usize] = 0;
            }
        }
        // Tables are data; see the programs of the guest tests.
        _ => return None,
    }
    Some(())
}

/// Points the base of a load or store into the data.
fn access(
    random: &mut Random,
    row: &Row,
    word: &mut u32,
    before: &mut Record,
    layout: &Layout,
) -> Option<()> {
    let get =
        |word: u32, letter: char| row.field(letter).map(|(low, width)| word >> low & ((1 << width) - 1));
    // Of loads from PC the words differ between the programs; loads of PC have no place to go to.
    let loads_pc = get(*word, 't') == Some(15) || get(*word, 'l').is_some_and(|list| list >> 15 & 1 == 1);
    if loads_pc || get(*word, 'n') == Some(15) || row.name() == "POP" && get(*word, 'p') == Some(1) {
        return None;
    }
    if row.field('n').is_none()
        && !matches!(row.name(), "PUSH" | "POP")
        && !(row.width == 16 && *word >> 12 == 9)
    {
        return None;
    }
    let n = get(*word, 'n').unwrap_or(13) as usize;
    // A store-exclusive that has no reservation checks no alignment in QEMU.
    let loads = row.name().starts_with('L');
    let aligned = row.class == Class::Exclusive && !(loads && random.one_in(8));
    let base = layout.data() as u32 + 0x1_0000 + random.below(0x200) as u32 * 8;
    // Linux makes unaligned transfers of several registers work by default, QEMU does not.
    let several = ["LDM", "STM", "LDMDB", "STMDB", "LDRD", "STRD", "PUSH", "POP"].contains(&row.name());
    let offset = random.below(16) as u32;
    before.r[n] = base + if aligned { 0 } else { offset & if several { !3 } else { !0 } };
    if several && let Some((low, _)) = row.field('j') {
        *word &= !(3 << low);
    }
    if row.class == Class::Exclusive {
        return Some(());
    }
    if let Some(m) = get(*word, 'm').filter(|_| row.class == Class::LoadStore) {
        if m == 15 || m as usize == n {
            return None;
        }
        // A shifted index stays small.
        before.r[m as usize] = (random.below(0x100) as u32) & if several { !3 } else { !0 };
        if row.field('y').is_some() {
            set_field(word, row.field('i').expect("an amount"), random.below(8) as u32);
            if get(*word, 'y') != Some(0) && get(*word, 'i') == Some(0) {
                set_field(word, row.field('i').expect("an amount"), 1);
            }
            if get(*word, 'y') == Some(3) {
                return None;
            }
        }
    }
    Some(())
}

/// The state that a record describes.
fn state_of(record: &Record, place: u64) -> State {
    let mut state = State::default();
    for (n, &value) in record.r.iter().enumerate() {
        state.set_r(n as u32, value);
    }
    state.nzcv = record.apsr & 0xf000_0000;
    state.apsr = record.apsr & 0x0800_0000;
    state.set_ge(record.apsr);
    state.set_fpscr(record.fpscr);
    for (n, &d) in record.d.iter().enumerate() {
        let shift = 64 * (n & 1);
        state.v[n / 2] = state.v[n / 2] & !(u128::from(u64::MAX) << shift) | u128::from(d) << shift;
    }
    state.pc = place;
    state
}

fn record_of(state: &State, mark: u32) -> Record {
    Record {
        r: std::array::from_fn(|n| state.r(n as u32)),
        apsr: (state.nzcv | state.apsr | state.ge()) & APSR,
        fpscr: state.fpscr() & FPSCR,
        mark,
        d: std::array::from_fn(|n| (state.v[n / 2] >> (64 * (n & 1))) as u64),
    }
}

/// Runs the cases with `run`, which stops at breakpoints. Returns the records, then the data.
pub(crate) fn ours(
    layout: &Layout,
    cases: &[Case],
    seed: u64,
    mut run: impl FnMut(&mut State, &Host) -> Exit,
) -> (Vec<Record>, Vec<u8>) {
    use crate::cases::Mapping;
    let program = code(layout, cases, true);
    let mut pages = vec![0; VARIABLES as usize];
    pages.extend(&program);
    let _code = Mapping::new(layout.base, &pages, pages.len().next_multiple_of(4096));
    let _records = Mapping::new(layout.records(), &[0], (cases.len() * RECORD).next_multiple_of(4096));
    let bytes = Mapping::new(layout.data(), &data(seed), (DATA_SIZE + STACK_SIZE) as usize);
    // SAFETY: the window holds the mappings and nothing else.
    let memory = unsafe { Memory::new(layout.base, layout.base + 0x0300_0000) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let after = cases
        .iter()
        .enumerate()
        .map(|(i, case)| {
            let mut state = state_of(&case.before, layout.snippet(i) | u64::from(case.thumb));
            let mark = match run(&mut state, &host) {
                Exit::Breakpoint(mark) => u32::from(mark),
                Exit::Undefined(_) | Exit::Fault(_) | Exit::Unaligned { .. } => 1,
                exit => panic!("{:08x} {} left with {exit:?}", case.word, case.name()),
            };
            record_of(&state, mark)
        })
        .collect();
    (after, bytes.bytes(DATA_SIZE as usize))
}
