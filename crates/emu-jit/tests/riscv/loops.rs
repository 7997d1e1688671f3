//! Random loops and long blocks, translated and interpreted: registers that change places, singles that keep
//! their boxes, instructions that are lowered together, faults in the middle.
//!
//! `CROSSDOCK_LOOPS` sets the number of programs, `CROSSDOCK_LOOPS_SEED` the seed.

use crate::cases::{Mapping, Random};
use crate::cases_riscv::float;
use crate::differ::{computes, turn};
use crate::host::{LOG, engine_of};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_guest::rv64::action::{Action, Precision};
use crossdock_emu_guest::rv64::{Extension, Interpreter, Row, Rv64, Support, TABLE, classify};
use crossdock_emu_guest::{Exit, Host, State};
use std::sync::atomic::AtomicU32;

const CODE: u64 = 0x31_0000_0000;
const DATA: u64 = 0x32_0000_0000;
const DATA_SIZE: usize = 1 << 14;
const EBREAK: u32 = 0x0010_0073;
/// Registers that no random instruction writes: a pointer into the data (s0), and a counter (s1).
const POINTER: u32 = 8;
const COUNTER: u32 = 9;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Rows of loads and stores, and of what computes in precisions that the host has.
fn rows() -> Vec<&'static Row> {
    let is_half = |row: &&Row| {
        !matches!(
            row.action,
            Action::Float { precision: Precision::Half, .. }
                | Action::ToInteger { precision: Precision::Half, .. }
                | Action::FromInteger { precision: Precision::Half, .. }
        )
    };
    let scalar = |row: &&Row| row.extension != Extension::V;
    TABLE.iter().filter(|row| computes(row) || accesses(row)).filter(is_half).filter(scalar).collect()
}

/// Rows of vectors, and some scalar ones. VSETVL would mostly set a reserved configuration.
fn vector_rows() -> Vec<&'static Row> {
    let is_vector = |row: &&Row| row.extension == Extension::V && row.name() != "VSETVL";
    let sets = TABLE.iter().filter(|row| row.action == Action::SetVectors && row.name() != "VSETVL");
    let vectors: Vec<&Row> = TABLE.iter().filter(is_vector).collect();
    let mut all = vectors.clone();
    all.extend(sets.cycle().take(vectors.len() / 6));
    all.extend(rows().iter().step_by(4));
    all
}

fn accesses(row: &Row) -> bool {
    matches!(
        row.action,
        Action::Load { .. }
            | Action::Store { .. }
            | Action::LoadFloat { .. }
            | Action::StoreFloat { .. }
            | Action::VectorLoad
            | Action::VectorStore
    )
}

/// Whether an instruction may write a general register.
fn writes(row: &Row) -> bool {
    match row.extension {
        Extension::V => row.has_general_rd(),
        _ => !matches!(row.action, Action::Store { .. } | Action::StoreFloat { .. }),
    }
}

/// A random instruction of few registers, so that one depends on another.
fn instruction(random: &mut Random, rows: &[&Row], registers: &[u32]) -> u32 {
    loop {
        let row = random.pick(rows);
        let mut word = row.value | random.next() as u32 & !row.mask;
        for low in [7, 15, 20, 27] {
            if row.mask >> low & 31 == 0 && !random.one_in(4) {
                word = word & !(31 << low) | random.pick(registers) << low;
            }
        }
        if row.rounds() {
            word |= 7 << 12;
        }
        let is_vector = row.extension == Extension::V;
        if is_vector && row.action == Action::SetVectors {
            // e8 to e64, mf2 to m2; vl is kept, all, from a register, or an immediate.
            let vtype = (random.below(4) as u32) << 3 | random.pick(&[0, 0, 0, 1, 7]);
            word = word & !(0xff << 20) | vtype << 20;
            word &= !(0x700 << 20);
            if row.name() == "VSETIVLI" {
                word |= 3 << 30;
            }
        } else if is_vector {
            // Groups begin at few registers, mostly where they may, and not at the mask.
            for low in [7, 15, 20] {
                let is_general = low == 15 && row.has_general_rs1();
                if row.mask >> low & 31 == 0 && !is_general && !random.one_in(8) {
                    word = word & !(31 << low) | (2 + 2 * random.below(6) as u32) << low;
                }
            }
        }
        if accesses(row) {
            word = word & !(31 << 15) | POINTER << 15;
            // Once in a while, beyond the data.
            if random.one_in(60) {
                word &= !(31 << 15);
            }
        }
        let writes_kept = [POINTER, COUNTER].contains(&(word >> 7 & 31)) && writes(row);
        let is_known = classify(word).is_some_and(|found| std::ptr::eq(found, row));
        if is_known && !writes_kept && Support::of(word) == Support::Implemented {
            return word;
        }
    }
}

/// `bne s1, zero` by this many bytes.
fn loop_back(offset: i32) -> u32 {
    let offset = offset as u32;
    (offset >> 12 & 1) << 31
        | (offset >> 5 & 0x3f) << 25
        | COUNTER << 15
        | 1 << 12
        | (offset >> 1 & 15) << 8
        | (offset >> 11 & 1) << 7
        | 0x63
}

/// FRFLAGS, a comparison, and FSFLAGS, as compilers compare quietly; now and then with other registers.
fn quiet_comparison(random: &mut Random, registers: &[u32]) -> [u32; 3] {
    let kept = |n: u32| if [POINTER, COUNTER].contains(&n) { n + 2 } else { n };
    let [saved, result, other] = [0; 3].map(|_| kept(random.pick(registers)));
    let restored = if random.one_in(6) { other } else { saved };
    // FLE.S, FLE.D, FLT.S, FLT.D, FEQ.D
    let compare = random.pick(&[0xa000_0053, 0xa200_0053, 0xa000_1053, 0xa200_1053, 0xa200_2053]);
    let [n, m] = [0; 2].map(|_| random.pick(registers));
    [0x0010_2073 | saved << 7, compare | m << 20 | n << 15 | result << 7, 0x0010_1073 | restored << 15]
}

/// FRFLAGS, a conversion to an integer and back, and FSFLAGS, as C libraries round.
fn quiet_rounding(random: &mut Random, registers: &[u32]) -> [u32; 4] {
    let [saved, integer] = [0; 2].map(|_| random.pick(registers) | 16);
    let [from, to] = [0; 2].map(|_| random.pick(registers));
    let mode = (random.below(5) as u32) << 12;
    // FCVT.L.D, FCVT.W.D, FCVT.LU.D, FCVT.L.S, FCVT.W.S; FCVT.D.L, FCVT.S.L, FCVT.S.W, FCVT.D.W, FCVT.S.LU.
    let converts =
        random.pick(&[0xc220_0053, 0xc200_0053, 0xc230_0053, 0xc020_0053, 0xc000_0053]) | from << 15;
    let back =
        random.pick(&[0xd220_0053, 0xd020_0053, 0xd000_0053, 0xd200_0053, 0xd030_0053]) | integer << 15;
    [
        0x0010_2073 | saved << 7,
        converts | mode | integer << 7,
        back | mode | to << 7,
        0x0010_1073 | saved << 15,
    ]
}

fn program(random: &mut Random, rows: &[&Row]) -> Vec<u32> {
    let registers: Vec<u32> = (0..3 + random.below(12)).map(|_| random.below(32) as u32).collect();
    let mut words: Vec<u32> = (0..random.below(4)).map(|_| instruction(random, rows, &registers)).collect();
    let start = words.len();
    for _ in 0..1 + random.below(50) {
        if random.one_in(20) {
            words.extend(quiet_comparison(random, &registers));
        } else if random.one_in(20) {
            words.extend(quiet_rounding(random, &registers));
        } else {
            words.push(instruction(random, rows, &registers));
        }
    }
    // addi s1, s1, -1
    words.push(0xfff0_0013 | COUNTER << 15 | COUNTER << 7);
    let back = (start as i32 - words.len() as i32) * 4;
    words.push(loop_back(back));
    words.extend((0..random.below(4)).map(|_| instruction(random, rows, &registers)));
    words.push(EBREAK);
    words
}

fn state(random: &mut Random) -> State {
    let mut state = State::default();
    for n in 1..32 {
        state.set_rv64_x(n, random.register());
    }
    for n in 0..32 {
        state.set_rv64_f(n, float(random));
    }
    state.set_rv64_x(POINTER, DATA + DATA_SIZE as u64 / 2);
    state.set_rv64_x(COUNTER, 1 + random.below(6));
    state.set_fcsr(random.next() as u32 & 31);
    state.vectors.registers = std::array::from_fn(|_| random.vector());
    // Indexes of segments at v2 are small, so that they mostly lie in the data.
    for v in &mut state.vectors.registers[2..8] {
        *v &= 0x0000_00ff_0000_00ff_0000_00ff_0000_00ff;
    }
    state.vectors.vtype = random.below(4) << 3;
    (state.vectors.vl, state.vectors.used) = (random.below(3), true);
    state.pc = CODE;
    state
}

#[test]
fn loops_do_what_the_interpreter_does() {
    compare(&rows());
}

#[test]
fn loops_of_vectors_do_what_the_interpreter_does() {
    compare(&vector_rows());
}

fn compare(rows: &[&Row]) {
    let _turn = turn();
    let mut engine = engine_of::<Rv64>();
    let mut random = Random(setting("CROSSDOCK_LOOPS_SEED", 1));
    let mut ends = [0; 2];
    for number in 0..setting("CROSSDOCK_LOOPS", 3000) {
        engine.translate_after(random.below(3) as u32);
        let words = program(&mut random, rows);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let before = state(&mut random);
        let contents: Vec<u8> = (0..DATA_SIZE).map(|_| random.next() as u8).collect();
        let _code = Mapping::new(CODE, &bytes, 4096);
        // SAFETY: the window holds the mappings and nothing else.
        let memory = unsafe { Memory::new(CODE, DATA + 2 * DATA_SIZE as u64) };
        let host = Host { memory, counter: || 0, executable: Host::anywhere };
        let run = |run: &mut dyn FnMut(&mut State) -> Exit| {
            let data = Mapping::new(DATA, &contents, DATA_SIZE);
            let mut state = before.clone();
            let exit = run(&mut state);
            (exit, state, data.bytes(DATA_SIZE))
        };
        let mut interpreter = Interpreter::new(&LOG);
        let flag = AtomicU32::new(0);
        let (exit, interpreted, expected) = run(&mut |state| interpreter.run(state, &host, &flag, 100_000));
        let (found, translated, data) = run(&mut |state| engine.run(state, &host, &flag));
        LOG.invalidate(CODE..CODE + 4096);
        let same = matches!((exit, found), (Exit::Fault(_), Exit::Fault(_))) || exit == found;
        ends[usize::from(matches!(exit, Exit::Fault(_)))] += 1;
        let what = |n: u32| {
            let pairs = [
                (interpreted.rv64_x(n), translated.rv64_x(n), "x"),
                (interpreted.rv64_f(n), translated.rv64_f(n), "f"),
            ];
            let differs = pairs.into_iter().filter(|(a, b, _)| a != b);
            differs.map(|(a, b, file)| format!("{file}{n}: {b:x}, interpreted {a:x}\n")).collect::<String>()
        };
        let mut text: String = (0..32).map(what).collect();
        for (n, (a, b)) in interpreted.vectors.registers.iter().zip(translated.vectors.registers).enumerate()
        {
            if *a != b {
                text += &format!("v{n}: {b:032x}, interpreted {a:032x}\n");
            }
        }
        let of = |state: &State| {
            let v = &state.vectors;
            [v.vl, v.vtype, v.vstart, v.vcsr.into(), v.used.into()]
        };
        if of(&interpreted) != of(&translated) {
            text += &format!("vl ...: {:x?}, interpreted {:x?}\n", of(&translated), of(&interpreted));
        }
        assert!(
            same && text.is_empty()
                && (interpreted.pc, interpreted.fcsr()) == (translated.pc, translated.fcsr())
                && data == expected,
            "program {number}: {exit:?} {found:?} pc {:x} {:x} fcsr {:x} {:x}\n{text}{words:08x?}",
            interpreted.pc,
            translated.pc,
            interpreted.fcsr(),
            translated.fcsr()
        );
    }
    assert!(ends.iter().all(|&count| count > 50), "{ends:?}");
}
