//! Random RV64 instructions with random state, and how they are run. The differs of the interpreter and of
//! the translator share this file.

use crate::cases::{Mapping, Random};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_guest::rv64::action::{Action, Compute, Float};
use crossdock_emu_guest::rv64::{Extension, Row, Support, classify, expand, name};
use crossdock_emu_guest::{Exit, Host, State, Vectors};

/// Bytes of a record: x0 to x31 (the first is not used), f0 to f31, FCSR, mark, where a trap goes on; from
/// [`VECTORS`] on v0 to v31, vl, vtype, vcsr, vstart.
pub(crate) const RECORD: usize = 1152;
const FLOATS: i32 = 256;
const FCSR: i32 = 512;
const MARK: i32 = 520;
pub(crate) const TRAP: i32 = 528;
const VECTORS: i32 = 576;
const VL: i32 = VECTORS + 512;
/// Guest data that instructions access.
pub(crate) const DATA_SIZE: u64 = 0x2_0000;
pub(crate) const STACK_SIZE: u64 = 0x2_0000;
pub(crate) const BATCH: usize = 1000;

/// The register that holds the address of the case's record throughout: tp. No instruction writes it.
pub(crate) const TP: u32 = 4;
const NOP: u32 = 0x13;
const EBREAK: u32 = 0x0010_0073;

pub(crate) fn i_type(opcode: u32, funct3: u32, rd: u32, rs1: u32, imm: i32) -> u32 {
    (imm as u32) << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode
}

fn s_type(opcode: u32, funct3: u32, rs1: u32, rs2: u32, imm: i32) -> u32 {
    let imm = imm as u32 & 0xfff;
    (imm >> 5) << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | (imm & 31) << 7 | opcode
}

pub(crate) fn addi(rd: u32, rs1: u32, imm: i32) -> u32 {
    i_type(0x13, 0, rd, rs1, imm)
}

pub(crate) fn ld(rd: u32, rs1: u32, imm: i32) -> u32 {
    i_type(0x03, 3, rd, rs1, imm)
}

pub(crate) fn sd(rs2: u32, rs1: u32, imm: i32) -> u32 {
    s_type(0x23, 3, rs1, rs2, imm)
}

pub(crate) fn jal(rd: u32, offset: i64) -> u32 {
    let offset = offset as u32;
    (offset >> 20 & 1) << 31
        | (offset >> 1 & 0x3ff) << 21
        | (offset >> 11 & 1) << 20
        | (offset >> 12 & 0xff) << 12
        | rd << 7
        | 0x6f
}

pub(crate) fn branch(funct3: u32, rs1: u32, rs2: u32, offset: i64) -> u32 {
    let offset = offset as u32;
    (offset >> 12 & 1) << 31
        | (offset >> 5 & 0x3f) << 25
        | rs2 << 20
        | rs1 << 15
        | funct3 << 12
        | (offset >> 1 & 15) << 8
        | (offset >> 11 & 1) << 7
        | 0x63
}

/// AUIPC and ADDI: `rd = to`, from code at `from`.
pub(crate) fn address(rd: u32, from: u64, to: u64) -> [u32; 2] {
    let offset = to.wrapping_sub(from) as u32;
    let high = offset.wrapping_add(0x800) & 0xffff_f000;
    [high | rd << 7 | 0x17, addi(rd, rd, offset.wrapping_sub(high) as i32)]
}

/// VL8RE8.V and VS8R.V: eight whole registers.
fn whole_registers(opcode: u32, v: u32, rs1: u32) -> u32 {
    7 << 29 | 1 << 25 | 8 << 20 | rs1 << 15 | v << 7 | opcode
}

/// The registers before or after a case.
#[derive(Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) x: [u64; 32],
    pub(crate) f: [u64; 32],
    pub(crate) fcsr: u32,
    /// 0: went on to the next instruction; 1: branched or raised a signal.
    pub(crate) mark: u32,
    pub(crate) v: [u128; 32],
    /// vl, vtype, vcsr, vstart.
    pub(crate) vector: [u64; 4],
}

impl Record {
    fn to_bytes(&self, trap: u64) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        let words = self.x.iter().chain(&self.f).copied();
        let all = words.chain([u64::from(self.fcsr), u64::from(self.mark), trap]);
        for (i, word) in all.enumerate() {
            bytes[i * 8..i * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        let vectors = self.v.iter().flat_map(|v| [*v as u64, (*v >> 64) as u64]).chain(self.vector);
        for (i, word) in vectors.enumerate() {
            let at = VECTORS as usize + i * 8;
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Record {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        Record {
            x: std::array::from_fn(|n| if n == 0 { 0 } else { word(n * 8) }),
            f: std::array::from_fn(|n| word(FLOATS as usize + n * 8)),
            fcsr: word(FCSR as usize) as u32,
            mark: word(MARK as usize) as u32,
            v: std::array::from_fn(|n| {
                let at = VECTORS as usize + 16 * n;
                u128::from(word(at)) | u128::from(word(at + 8)) << 64
            }),
            vector: std::array::from_fn(|n| word(VL as usize + 8 * n)),
        }
    }

    /// What differs, for a message.
    pub(crate) fn differences(&self, other: &Record, whose: &str) -> String {
        let mut text = String::new();
        for n in 0..32 {
            if self.x[n] != other.x[n] {
                text += &format!("  x{n}: ours {:016x} {whose} {:016x}\n", self.x[n], other.x[n]);
            }
            if self.f[n] != other.f[n] {
                text += &format!("  f{n}: ours {:016x} {whose} {:016x}\n", self.f[n], other.f[n]);
            }
        }
        for n in 0..32 {
            if self.v[n] != other.v[n] {
                text += &format!("  v{n}: ours {:032x} {whose} {:032x}\n", self.v[n], other.v[n]);
            }
        }
        if self.vector != other.vector {
            text +=
                &format!("  vl, vtype, vcsr, vstart: ours {:x?} {whose} {:x?}\n", self.vector, other.vector);
        }
        if (self.fcsr, self.mark) != (other.fcsr, other.mark) {
            text += &format!(
                "  fcsr: ours {:02x} {whose} {:02x}; mark: ours {} {whose} {}\n",
                self.fcsr, other.fcsr, self.mark, other.mark
            );
        }
        text
    }
}

/// An instruction, perhaps a second one, and the registers before them.
pub(crate) struct Case {
    /// The instructions; those of 16 bits have no bits above.
    pub(crate) codes: Vec<u32>,
    pub(crate) before: Record,
}

impl Case {
    /// The mnemonics.
    pub(crate) fn name(&self) -> String {
        self.codes.iter().map(|&code| name(code)).collect::<Vec<_>>().join(" ")
    }

    /// The 12 bytes of the snippet.
    fn words(&self) -> [u32; 3] {
        let mut bytes = Vec::new();
        for code in &self.codes {
            let length = if code & 3 == 3 { 4 } else { 2 };
            bytes.extend(&code.to_le_bytes()[..length]);
        }
        if bytes.len() % 4 != 0 {
            bytes.extend(1u16.to_le_bytes());
        }
        while bytes.len() < 12 {
            bytes.extend(NOP.to_le_bytes());
        }
        std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|j| bytes[4 * i + j])))
    }
}

/// Where the program of a batch lies.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) base: u64,
    pub(crate) cases: usize,
    /// Whether the cases have vectors.
    pub(crate) vectors: bool,
}

/// Words before the first case.
const DRIVER: u64 = 256;
/// Words of a case before the snippet without vectors, and those that vectors need.
const LOAD: u64 = 2 + 2 + 32 + 30;
const LOAD_VECTORS: u64 = 13;

impl Layout {
    pub(crate) fn records(&self) -> u64 {
        self.base + 0x1000_0000
    }
    pub(crate) fn record(&self, i: usize) -> u64 {
        self.records() + (i * RECORD) as u64
    }
    pub(crate) fn data(&self) -> u64 {
        self.base + 0x2000_0000
    }
    /// What a machine without an operating system starts with.
    pub(crate) fn boot(&self) -> u64 {
        self.base + 0x3000_0000
    }
    /// Words of a case before the snippet.
    fn load(&self) -> u64 {
        LOAD + if self.vectors { LOAD_VECTORS } else { 0 }
    }
    fn case(&self, i: usize) -> u64 {
        self.base + 4 * (DRIVER + i as u64 * (self.load() + 3 + 8))
    }
    /// Address of the instructions under test.
    pub(crate) fn snippet(&self, i: usize) -> u64 {
        self.case(i) + 4 * self.load()
    }
    /// Where a case goes on.
    fn next(&self, i: usize) -> u64 {
        self.snippet(i) + 12
    }
    /// Where a branch of a case leads, or a trap.
    pub(crate) fn taken(&self, i: usize) -> u64 {
        self.next(i) + 16
    }
}

/// The program: for QEMU with a driver, for us with breakpoints at the ends of the cases.
pub(crate) fn code(layout: &Layout, cases: &[Case], breakpoints: bool) -> Vec<u8> {
    let mut words: Vec<u32> = Vec::new();
    let at = |words: &Vec<u32>| layout.base + 4 * words.len() as u64;
    const A0: u32 = 10;
    const S0: u32 = 8;
    const T0: u32 = 5;
    const T1: u32 = 6;
    // The action and the signal stack lie behind the data.
    let private = layout.data() + DATA_SIZE;
    words.extend(address(S0, at(&words), private));
    // The handler's address goes into the action; the code is below.
    let handler_at = layout.base + 4 * 120;
    words.extend(address(T0, at(&words), handler_at));
    words.push(sd(T0, S0, 0));
    // SA_SIGINFO | SA_ONSTACK | SA_NODEFER
    words.push(0x4800_0000 | T0 << 7 | 0x37);
    words.push(addi(T0, T0, 4));
    words.push(sd(T0, S0, 8));
    for signal in [4, 5, 7, 11] {
        words.extend([addi(A0, 0, signal), addi(A0 + 1, S0, 0), addi(A0 + 2, 0, 0), addi(A0 + 3, 0, 8)]);
        words.extend([addi(A0 + 7, 0, 134), 0x73]);
    }
    // stack_t: address, flags, size.
    words.extend([addi(T0, S0, 1024), sd(T0, S0, 64), sd(0, S0, 72)]);
    words.extend([0x1_0000 | T0 << 7 | 0x37, sd(T0, S0, 80)]);
    words.extend([addi(A0, S0, 64), addi(A0 + 1, 0, 0), addi(A0 + 7, 0, 132), 0x73]);
    let first = address(T0, at(&words), layout.case(0));
    words.extend(first);
    words.push(i_type(0x67, 0, 0, T0, 0));
    // The handler: the interrupted code goes on where its record says.
    assert!(words.len() <= 120);
    words.resize(120, NOP);
    words.extend([ld(T0, A0 + 2, 176 + 8 * TP as i32), ld(T1, T0, TRAP), sd(T1, A0 + 2, 176)]);
    words.push(i_type(0x67, 0, 0, 1, 0));
    // Saves what `save` below has not, and goes on with the next case, whose address is in t0.
    let save = at(&words);
    for n in (1..32).filter(|&n| n != TP && n != T0 && n != 1) {
        words.push(sd(n, TP, 8 * n as i32));
    }
    for n in 0..32 {
        words.push(s_type(0x27, 3, TP, n, FLOATS + 8 * n as i32));
    }
    // SC.W of zero to the record's first word, which is not used, ends a reservation.
    words.push(0x1800_202f | TP << 15 | T1 << 7);
    words.push(i_type(0x73, 2, T1, 0, 3));
    words.push(sd(T1, TP, FCSR));
    if layout.vectors {
        for (n, csr) in [0xc20, 0xc21, 0x00f, 0x008].into_iter().enumerate() {
            words.push(i_type(0x73, 2, T1, 0, csr));
            words.push(sd(T1, TP, VL + 8 * n as i32));
        }
        words.push(i_type(0x73, 1, 0, 0, 0x008));
        for v in [0, 8, 16, 24] {
            words.push(addi(T1, TP, VECTORS + 16 * v as i32));
            words.push(whole_registers(0x27, v, T1));
        }
    }
    words.push(i_type(0x67, 0, 0, 1, 0));
    assert!(words.len() <= DRIVER as usize);
    words.resize(DRIVER as usize, NOP);
    for (i, case) in cases.iter().enumerate() {
        words.extend(address(TP, at(&words), layout.record(i)));
        words.push(ld(T0, TP, FCSR));
        words.push(i_type(0x73, 1, 0, T0, 3));
        for n in 0..32 {
            words.push(i_type(0x07, 3, n, TP, FLOATS + 8 * n as i32));
        }
        if layout.vectors {
            for v in [0, 8, 16, 24] {
                words.push(addi(T0, TP, VECTORS + 16 * v as i32));
                words.push(whole_registers(0x07, v, T0));
            }
            words.extend([ld(T0, TP, VL), ld(T1, TP, VL + 8)]);
            // VSETVL.
            words.push(0x8000_7057 | T1 << 20 | T0 << 15);
            words.extend([ld(T0, TP, VL + 16), i_type(0x73, 1, 0, T0, 0x00f)]);
        }
        for n in (1..32).filter(|&n| n != TP) {
            words.push(ld(n, TP, 8 * n as i32));
        }
        assert_eq!(at(&words), layout.snippet(i));
        words.extend(case.words());
        // Not taken: 4 words; taken: 4 words. Both keep x1 and t0, then call `save`, which returns.
        for mark in 0..2 {
            if breakpoints {
                words.extend([EBREAK; 4]);
                continue;
            }
            if mark == 0 {
                words.extend([sd(T0, TP, 8 * T0 as i32), addi(T0, 0, 0)]);
                words.push(jal(0, 16));
                words.push(NOP);
            } else {
                words.extend([sd(T0, TP, 8 * T0 as i32), addi(T0, 0, 1)]);
                words.push(sd(1, TP, 8));
                let from = at(&words);
                words.push(jal(0, (layout.end_of(i) as i64) - from as i64));
            }
        }
    }
    // The ends of the cases: they store the mark, and go on.
    for i in 0..cases.len() {
        assert_eq!(at(&words), layout.end_of(i));
        words.push(sd(T0, TP, MARK));
        let from = at(&words);
        words.push(jal(1, save as i64 - from as i64));
        let from = at(&words);
        let next = if i + 1 < cases.len() { layout.case(i + 1) } else { layout.end_of(cases.len()) };
        words.push(jal(0, next as i64 - from as i64));
    }
    // Writes the records and the data.
    let size = (cases.len() * RECORD) as u64;
    for (start, length) in [(layout.records(), size), (layout.data(), DATA_SIZE)] {
        words.extend(address(S0, at(&words), start));
        words.push((length as u32).wrapping_add(0x800) & 0xffff_f000 | (S0 + 1) << 7 | 0x37);
        words.push(addi(S0 + 1, S0 + 1, (length as i32) << 20 >> 20));
        words.extend([addi(A0, 0, 1), addi(A0 + 1, S0, 0), addi(A0 + 2, S0 + 1, 0)]);
        words.extend([addi(A0 + 7, 0, 64), 0x73]);
        // If it fails, again: nothing is written then, which the caller sees.
        words.push(branch(5, 0, A0, 16));
        words.push(A0 << 20 | S0 << 15 | S0 << 7 | 0x33);
        words.push(0x4000_0000 | A0 << 20 | (S0 + 1) << 15 | (S0 + 1) << 7 | 0x33);
        words.push(branch(1, S0 + 1, 0, -32));
    }
    words.extend([addi(A0, 0, 0), addi(A0 + 7, 0, 94), 0x73]);
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Layout {
    /// The code that ends a case, behind all cases.
    fn end_of(&self, i: usize) -> u64 {
        self.case(self.cases) + 12 * i as u64
    }
}

/// All records before their cases.
pub(crate) fn records(layout: &Layout, cases: &[Case]) -> Vec<u8> {
    cases.iter().enumerate().flat_map(|(i, case)| case.before.to_bytes(layout.taken(i))).collect()
}

pub(crate) fn data(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..DATA_SIZE / 8).flat_map(|_| random.register().to_le_bytes()).collect()
}

/// A floating-point register's value: a double, or a narrower number, mostly boxed.
pub(crate) fn float(random: &mut Random) -> u64 {
    let bits = random.vector() as u64;
    match random.below(8) {
        0..3 => bits,
        3..6 => bits | u64::MAX << 32,
        6 => u64::from(random.half_bits()) | u64::MAX << 16,
        _ => bits & 0xffff_ffff,
    }
}

fn set(word: &mut u32, low: u32, width: u32, value: u32) {
    let mask = ((1u64 << width) - 1) as u32;
    *word = *word & !(mask << low) | (value & mask) << low;
}

/// What is tested.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'r> {
    Row(&'r Row),
    /// An instruction of 16 bits; its opcode and its highest bits.
    Compressed(u32),
}

/// Creates case `i`; `None` if the random instruction is nothing to compare. Instructions of `followers` may
/// come behind it, which compute with registers alone.
pub(crate) fn case(
    random: &mut Random,
    kind: Kind<'_>,
    followers: &[&Row],
    layout: &Layout,
    i: usize,
) -> Option<Case> {
    let mut before = Record {
        x: std::array::from_fn(|n| if n == 0 { 0 } else { random.register() }),
        f: std::array::from_fn(|_| float(random)),
        fcsr: if random.one_in(2) { random.next() as u32 & 31 } else { 0 },
        mark: 0,
        v: [0; 32],
        vector: [0; 4],
    };
    if random.one_in(4) {
        before.fcsr |= (random.below(8) as u32) << 5;
    }
    before.x[TP as usize] = layout.record(i);
    let (mut code, row) = match kind {
        Kind::Row(row) => (row.value | random.next() as u32 & !row.mask, row),
        Kind::Compressed(fixed) => {
            let code = fixed | random.next() as u32 & 0x1ffc;
            let row = expand(code).and_then(classify);
            match row {
                Some(row) => (code, row),
                // Reserved: undefined in both.
                None => return Some(Case { codes: vec![code], before }),
            }
        }
    };
    let compressed = code & 3 != 3;
    if !compressed && row.rounds() && random.one_in(2) {
        set(&mut code, 12, 3, 7);
    }
    if row.extension == Extension::V {
        let code = vectors(random, row, code, &mut before, layout)?;
        let mut codes = vec![code];
        if !followers.is_empty() {
            surround(random, &mut codes, &mut before);
        }
        return Some(Case { codes, before });
    }
    if matches!(row.action, Action::ComputeImmediate(Compute::Sll)) && !compressed && random.one_in(2) {
        set(&mut code, 20, 6, random.pick(&[32, 48, 56]));
    }
    if !compressed && random.one_in(8) {
        // Sometimes the operands are equal.
        let (n, m) = (code >> 15 & 31, code >> 20 & 31);
        if m != 0 && m != TP {
            (before.x[m as usize], before.f[m as usize]) = (before.x[n as usize], before.f[n as usize]);
        }
    }
    let (snippet, taken) = (layout.snippet(i), layout.taken(i));
    let word = if compressed { expand(code)? } else { code };
    let (rs1, rd) = ((word >> 15 & 31) as usize, word >> 7 & 31);
    let base = layout.data() + 0x1_0000 + random.below(0x800) * 8;
    let offset = if random.one_in(3) { random.below(16) } else { 0 };
    match row.action {
        Action::Jump => {
            if compressed {
                return None;
            }
            code = jal(rd, taken as i64 - snippet as i64);
        }
        Action::JumpRegister => {
            if rs1 == 0 || rs1 == TP as usize {
                return None;
            }
            // Bit 0 of the sum is cleared.
            before.x[rs1] = (taken + random.below(2)).wrapping_sub((word as i32 >> 20) as u64);
        }
        Action::Branch(_) => {
            if compressed {
                return None;
            }
            code = branch(code >> 12 & 7, rs1 as u32, code >> 20 & 31, taken as i64 - snippet as i64);
        }
        Action::Load { .. } | Action::Store { .. } | Action::LoadFloat { .. } | Action::StoreFloat { .. } => {
            if rs1 == 0 || rs1 == TP as usize {
                return None;
            }
            let is_store = matches!(row.action, Action::Store { .. } | Action::StoreFloat { .. });
            let imm = if is_store {
                ((word as i32 >> 25) << 5) as u64 | u64::from(word >> 7 & 31)
            } else {
                (word as i32 >> 20) as u64
            };
            before.x[rs1] = (base + offset).wrapping_sub(imm);
        }
        Action::LoadReserved { .. }
        | Action::StoreConditional { .. }
        | Action::Atomic { .. }
        | Action::CompareSwap { .. } => {
            if rs1 == 0 || rs1 == TP as usize {
                return None;
            }
            // QEMU looks at the reservation before the alignment.
            let aligned = matches!(row.action, Action::StoreConditional { .. });
            before.x[rs1] = base + if aligned { 0 } else { offset };
            if let Action::CompareSwap { size } = row.action {
                // QEMU 10.0 writes to x0.
                if rd == 0 || rd == 4 || size == 4 && (rd | word >> 20) & 4 == 4 {
                    return None;
                }
                if size == 4 {
                    before.x[rs1] &= !8;
                }
            }
        }
        Action::ZeroBlock | Action::TouchBlock => {
            if rs1 == 0 || rs1 == TP as usize {
                return None;
            }
            before.x[rs1] = base + offset;
        }
        Action::EnvironmentCall | Action::Breakpoint | Action::FenceInstructions => return None,
        Action::Csr(_) | Action::CsrImmediate(_) => {
            set(&mut code, 20, 12, random.pick(&[1, 2, 3, 3, 3, 0x123]));
        }
        _ => {}
    }
    let word = if compressed { expand(code)? } else { code };
    // A record's address stays in tp.
    let (general_rd, rd) = (writes_general(row), word >> 7 & 31);
    if general_rd && rd == TP {
        return None;
    }
    // The word may belong to a row before this one.
    if !classify(word).is_some_and(|found| std::ptr::eq(found, row)) {
        return None;
    }
    if Support::of(code) != Support::Implemented {
        return None;
    }
    let mut codes = vec![code];
    if let Action::StoreConditional { size } = row.action
        && random.one_in(2)
    {
        // LR of the same address in front of it, into a register that SC does not read.
        let free = |n: &u32| ![0, TP, rs1 as u32, word >> 20 & 31].contains(n);
        let to = (0..).map(|_| random.below(32) as u32).find(free)?;
        codes.insert(0, 0x1000_002f | u32::from(size) << 12 | (rs1 as u32) << 15 | to << 7);
    }
    while !followers.is_empty() && codes.len() < 3 && random.one_in(2) {
        codes.extend(follower(random, followers, rd));
    }
    Some(Case { codes, before })
}

/// Puts an instruction in front of one of vectors that sets the same configuration, so that a translator
/// knows it, and perhaps vl; or one of vectors behind it; or lets it begin at an element.
fn surround(random: &mut Random, codes: &mut Vec<u32>, before: &mut Record) {
    let [vl, vtype, ..] = before.vector;
    let vtype = vtype as u32;
    match random.below(6) {
        // VSETVLI x0, x0.
        0 => codes.insert(0, vtype << 20 | 0x7057),
        // VSETIVLI x0.
        1 if vl < 32 => codes.insert(0, 3 << 30 | vtype << 20 | (vl as u32) << 15 | 0x7057),
        // VSETVLI ra, x0: all elements.
        2 if codes[0] >> 15 & 31 != 1 && codes[0] >> 20 & 31 != 1 => {
            codes.insert(0, vtype << 20 | 0x7057 | 1 << 7);
        }
        // VADD.VV with the destination of the first, which all configurations have if its groups begin there.
        3 => codes.push(0x0000_0057 | 1 << 25 | (codes[0] >> 7 & 24) << 15 | 8 << 20 | 16 << 7),
        4 if random.one_in(4) => before.vector[3] = random.below(8),
        _ => {}
    }
}

/// Prepares an instruction of vectors, and the registers before it.
fn vectors(
    random: &mut Random,
    row: &Row,
    mut code: u32,
    before: &mut Record,
    layout: &Layout,
) -> Option<u32> {
    before.v = std::array::from_fn(|_| random.vector());
    before.fcsr &= 31;
    if random.one_in(4) {
        before.fcsr |= (random.below(5) as u32) << 5;
    }
    let lmul = random.below(7) as i64 - 3;
    let is_crypto = matches!(row.action, Action::VectorCrypto(_));
    let sew = if is_crypto && !random.one_in(8) {
        2 + i64::from(random.one_in(4))
    } else if row.name().starts_with("VCLMUL") && !random.one_in(8) {
        3
    } else {
        random.below(4) as i64
    };
    let vtype = (lmul & 7) as u64 | (sew as u64) << 3 | random.below(4) << 6;
    let elements = if lmul < 0 { (16 >> sew) >> -lmul } else { (16 >> sew) << lmul };
    if elements == 0 || sew > 3 + lmul.min(0) {
        return None;
    }
    let vl = if random.one_in(3) { elements as u64 } else { random.below(elements as u64 + 1) };
    // Cryptography mostly has whole groups of elements.
    let vl = if is_crypto && !random.one_in(8) { vl & !7 } else { vl };
    before.vector = [vl, vtype, random.below(8), 0];
    // Groups mostly begin where they may.
    if !random.one_in(8) {
        let group = !((1u32 << lmul.max(0)) - 1);
        for low in [7, 15, 20] {
            let is_fixed = row.mask >> low & 31 != 0;
            let is_general = low == 15 && row.has_general_rs1();
            if !is_fixed && !is_general && row.action != Action::SetVectors {
                let n = code >> low & group;
                set(&mut code, low, 5, n);
            }
        }
    }
    // Sources with elements of two sizes are reserved, and QEMUs differ in what they do: the mask, which has
    // elements of one bit, and operands of an instruction with two sizes.
    let (first, second) = (code >> 15 & 31, code >> 20 & 31);
    let masked = code >> 25 & 1 == 0;
    let of_two_sizes = ["VW", "VN", "VFW", "VFN", "VRGATHEREI"].iter().any(|two| row.name().starts_with(two));
    let is_access = matches!(row.action, Action::VectorLoad | Action::VectorStore);
    let d = code >> 7 & 31;
    let stores = row.action == Action::VectorStore;
    let is_indexed = is_access && code >> 26 & 1 == 1;
    // The destination of these is a source, too.
    let accumulates = row.name().starts_with("VW") && row.name().contains("MACC")
        || row.name().starts_with("VFW") && row.name().contains('M') && !row.name().contains("MUL");
    if masked && !is_access && row.action != Action::SetVectors && (first == 0 || second == 0)
        || of_two_sizes && first.abs_diff(second) < 16
        || accumulates && (d.abs_diff(first) < 16 || d.abs_diff(second) < 16)
        || masked && is_indexed && (second == 0 || stores && d == 0)
        || stores && is_indexed && d.abs_diff(second) < 16
    {
        return None;
    }
    let (rs1, rd) = ((code >> 15 & 31) as usize, code >> 7 & 31);
    match row.action {
        Action::SetVectors => {
            if rd == TP {
                return None;
            }
            if row.name() == "VSETVL" && !random.one_in(4) {
                let n = (code >> 20 & 31) as usize;
                if n != 0 && n != TP as usize && n != rs1 {
                    before.x[n] = vtype;
                }
            } else if !random.one_in(4) {
                set(&mut code, 25, if row.name() == "VSETVLI" { 6 } else { 5 }, random.below(8) as u32);
            }
            // Both x0 keep vl, which must fit.
            if row.name() != "VSETIVLI" && rs1 == 0 && rd == 0 {
                return None;
            }
        }
        Action::VectorLoad | Action::VectorStore => {
            if rs1 == 0 || rs1 == TP as usize {
                return None;
            }
            before.x[rs1] =
                layout.data() + 0x1_0000 + random.below(0x800) * 8 + random.below(2) * random.below(8);
            let field = (code >> 20 & 31) as usize;
            match code >> 26 & 3 {
                2 => {
                    if field == 0 || field == TP as usize || field == rs1 {
                        return None;
                    }
                    before.x[field] = random.below(64).wrapping_sub(32);
                }
                1 | 3 => {
                    // Small indexes.
                    for v in &mut before.v {
                        *v &= match code >> 12 & 7 {
                            0 => u128::MAX,
                            5 => 0x0fff_0fff_0fff_0fff_0fff_0fff_0fff_0fff,
                            6 => 0x0000_0fff_0000_0fff_0000_0fff_0000_0fff,
                            _ => 0x0000_0000_0000_0fff_0000_0000_0000_0fff,
                        };
                    }
                }
                _ => {}
            }
        }
        _ if row.has_general_rd() && rd == TP => return None,
        _ => {}
    }
    classify(code).is_some_and(|found| std::ptr::eq(found, row)).then_some(code)
}

/// An instruction that may depend on the one before, whose destination is `rd`.
fn follower(random: &mut Random, rows: &[&Row], rd: u32) -> Option<u32> {
    let row = random.pick(rows);
    let mut word = row.value | random.next() as u32 & !row.mask;
    if random.one_in(2) {
        set(&mut word, 15, 5, rd);
        if random.one_in(2) {
            set(&mut word, 7, 5, rd);
        }
    }
    if row.rounds() && random.one_in(2) {
        set(&mut word, 12, 3, 7);
    }
    // Shifts that go with another one.
    if matches!(row.action, Action::ComputeImmediate(Compute::Sll | Compute::Srl | Compute::Sra)) {
        set(&mut word, 20, 6, random.pick(&[32, 48, 56, random.clone().below(64) as u32]));
    }
    let is_known = classify(word).is_some_and(|found| std::ptr::eq(found, row));
    let keeps_tp = !writes_general(row) || word >> 7 & 31 != TP;
    (is_known && keeps_tp && Support::of(word) == Support::Implemented).then_some(word)
}

/// Whether rd is a general register.
fn writes_general(row: &Row) -> bool {
    !matches!(
        row.action,
        Action::Store { .. }
            | Action::StoreFloat { .. }
            | Action::Branch(_)
            | Action::LoadFloat { .. }
            | Action::FromInteger { .. }
            | Action::Convert { .. }
    ) && !matches!(
        row.action,
        Action::Float { operation, .. } if !matches!(
            operation,
            Float::Eq | Float::Lt | Float::Le | Float::Ltq | Float::Leq | Float::Class | Float::MoveToInteger
        )
    )
}

/// The state that a record describes.
pub(crate) fn state_of(record: &Record, pc: u64) -> State {
    let mut state = State::default();
    for n in 0..32 {
        state.set_rv64_x(n, record.x[n as usize]);
        state.set_rv64_f(n, record.f[n as usize]);
    }
    state.set_fcsr(record.fcsr);
    let [vl, vtype, vcsr, vstart] = record.vector;
    state.vectors = Vectors { registers: record.v, vl, vtype, vstart, vcsr: vcsr as u32, used: true };
    state.pc = pc;
    state
}

pub(crate) fn record_of(state: &State, mark: u32) -> Record {
    Record {
        x: std::array::from_fn(|n| state.rv64_x(n as u32)),
        f: std::array::from_fn(|n| state.rv64_f(n as u32)),
        fcsr: state.fcsr(),
        mark,
        v: state.vectors.registers,
        vector: [state.vectors.vl, state.vectors.vtype, state.vectors.vcsr.into(), state.vectors.vstart],
    }
}

/// Runs the cases with `run`, which stops at breakpoints. Returns the records, then the data.
pub(crate) fn ours(
    layout: &Layout,
    cases: &[Case],
    seed: u64,
    mut run: impl FnMut(&mut State, &Host) -> Exit,
) -> (Vec<Record>, Vec<u8>) {
    let program = code(layout, cases, true);
    let _code = Mapping::new(layout.base, &program, program.len().next_multiple_of(4096));
    let bytes = Mapping::new(layout.data(), &data(seed), (DATA_SIZE + STACK_SIZE) as usize);
    // SAFETY: the window holds the mappings and nothing else.
    let memory = unsafe { Memory::new(layout.base, layout.base + 0x3000_0000) };
    let host = Host { memory, counter: || 0, executable: Host::anywhere };
    let after = cases
        .iter()
        .enumerate()
        .map(|(i, case)| {
            let mut state = state_of(&case.before, layout.snippet(i));
            let mark = match run(&mut state, &host) {
                Exit::Breakpoint(_) => u32::from(state.pc == layout.taken(i)),
                Exit::Undefined(_) | Exit::Fault(_) | Exit::Unaligned { .. } => 1,
                exit => panic!("{:08x?} {} left with {exit:?}", case.codes, case.name()),
            };
            let after = record_of(&state, mark);
            // The registers of vectors are compared where both have them.
            if layout.vectors { after } else { Record { v: [0; 32], vector: [0; 4], ..after } }
        })
        .collect();
    (after, bytes.bytes(DATA_SIZE as usize))
}
