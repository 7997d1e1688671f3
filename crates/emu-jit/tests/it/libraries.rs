//! Functions of C libraries: they are known by their code, and do as code of the host what their own code
//! does in the interpreter, to the memory between pages that cannot be accessed.

use crate::cases::{Mapping, Random};
use crate::host::{LOG, engine_of};
use crate::tool::{self, Found};
use crossdock_emu_guest::guest::Words;
use crossdock_emu_guest::memory::{Access, Memory};
use crossdock_emu_guest::{Exit, Host, Interpreter, State};
use crossdock_emu_jit::routines::{HOLES_MAX, Routine, Row, find};
use crossdock_emu_jit::{Isa, Runner};
use std::path::Path;
use std::sync::atomic::AtomicU32;

/// Where the tests of a guest take place.
pub struct Place {
    /// An address with 16 MiB behind it that nobody else uses.
    pub at: u64,
    /// An instruction that ends the run.
    pub stop: [u8; 4],
}

const PAGE: u64 = 4096;
/// More instructions than a call has.
const INSTRUCTIONS_MAX: u64 = 10_000_000;
/// Pages of an area of memory, with nothing before it and behind it.
const PAGES: u64 = 3;
const SIZE: u64 = PAGES * PAGE;
/// Where the areas, the code and what it returns to lie.
const AREAS: [u64; 2] = [0x10_0000, 0x20_0000];
const STOP: u64 = 0x8_0000;
/// Where the stack begins, which lies in the pages of what the functions return to.
const STACK: u64 = STOP + 2 * PAGE - 64;
const END: u64 = 0x40_0000;

/// Where the cross compilers have their own libraries, in folders by machine and version.
const COMPILERS: &str = "/usr/lib/gcc-cross";

/// What the tool finds in the libraries of the compiler for a guest; nothing if they are not installed.
fn functions(folder: &str) -> Vec<(Row, Found)> {
    let mut paths = ["libc.a", "libc.so.6"].map(|name| format!("{folder}/{name}")).to_vec();
    let machine = folder.split('/').nth(2).unwrap_or("");
    for version in std::fs::read_dir(format!("{COMPILERS}/{machine}")).into_iter().flatten().flatten() {
        paths.push(format!("{}/libgcc.a", version.path().display()));
    }
    paths.retain(|path| Path::new(path).exists());
    let rows = tool::read(paths.into_iter()).expect("libraries can be read");
    rows.into_iter().collect()
}

fn window(place: &Place) -> Host {
    // SAFETY: nothing but mappings of the test is there.
    let memory = unsafe { Memory::new(place.at, place.at + END) };
    Host { memory, counter: || 0, executable: Host::anywhere }
}

pub fn check_known<I: Isa>(place: &Place, folder: &str) {
    let functions = functions(folder);
    // The objects of RISC-V's archive are not what its linker makes of them.
    let is_linked = |found: &Found| found.name.ends_with(".so.6");
    let place = &Place { at: place.at + 2 * END, ..*place };
    let host = window(place);
    let mut known = 0;
    for (found_row, found) in &functions {
        if folder.contains("riscv") && !is_linked(found) {
            continue;
        }
        assert!(I::ROUTINES.rows.contains(found_row), "{} is not in the table", found.name);
        known += 1;
        // At an address that leaves room for both sets of instructions.
        let at = place.at + 6 * 4 + 4;
        let mut bytes = vec![0; (at - place.at) as usize];
        bytes.extend(&found.code);
        let mapping = Mapping::new(place.at, &bytes, (4 * PAGE) as usize);
        let set = u64::from(found.thumb);
        let look = || find(&I::ROUTINES, &mut Words::new(&host.memory, None), at, set);
        // The same function may have a row with more holes, of another file.
        let is_known = |row: &Row| row.routine == found_row.routine && row.length == found_row.length;
        assert!(look().is_some_and(is_known), "{}", found.name);
        for at_byte in 0..u64::from(found_row.length) {
            let is_hole = |row: &Row| {
                let covers = |hole: u64| hole != 0 && (2 * hole..2 * hole + 4).contains(&at_byte);
                row.holes.iter().any(|&hole| covers(hole.into()))
            };
            // SAFETY: the byte is in the mapping, and nobody runs it.
            let byte = unsafe { &mut *((at + at_byte) as *mut u8) };
            *byte ^= 1;
            assert!(look().is_none_or(is_hole), "{}: byte {at_byte} differs", found.name);
            *byte ^= 1;
        }
        assert_eq!(find(&I::ROUTINES, &mut Words::new(&host.memory, None), at, set ^ 1), None);
        drop(mapping);
    }
    let is_there = Path::new(folder).join("libc.so.6").exists();
    assert!(known > 5 || !is_there, "{known} functions of {folder}");
}

/// A call of a function.
#[derive(Clone, Copy, Debug)]
struct Call {
    arguments: [u64; 4],
    /// The page of the first area that cannot be accessed, or not written.
    missing: Option<(u64, i32)>,
}

/// Where something of `length` bytes lies in an area: mostly at the end of a page, of the area, or at its
/// start.
fn position(random: &mut Random, length: u64) -> u64 {
    match random.below(6) {
        0 => 0,
        1 | 2 => SIZE - length,
        3 => ((1 + random.below(PAGES - 1)) * PAGE + random.below(70))
            .saturating_sub(length)
            .min(SIZE - length),
        _ => random.below(SIZE - length + 1),
    }
}

fn some_length(random: &mut Random) -> u64 {
    match random.below(8) {
        0..=4 => random.below(70),
        5 | 6 => random.below(600),
        _ => random.below(2 * PAGE),
    }
}

/// A number of 32 bits that is not 0, often near the ends of the ranges.
fn some_number(random: &mut Random) -> u64 {
    let low = random.below(5);
    let number = match random.below(6) {
        0 => 1 + low,
        1 => 0x7fff_fffe + low,
        2 => 0xffff_fffd + low.min(2),
        3 => 1 << random.below(32),
        4 => random.below(100_000),
        _ => random.next() & 0xffff_ffff,
    };
    number.max(1)
}

/// A call of a division. The place for a rest is in the first area.
fn some_division(random: &mut Random, place: &Place, routine: Routine) -> [u64; 4] {
    let mut half = || if random.one_in(3) { 0 } else { some_number(random) };
    let numbers = [half(), half(), half(), half()];
    let rest = place.at + AREAS[0] + 4 * random.below(SIZE / 4 - 1);
    let rest = if random.one_in(4) { 0 } else { rest as u32 };
    // SAFETY: the stack is the test's own.
    unsafe { ((place.at + STACK) as *mut u32).write(rest) };
    match routine {
        Routine::DivideLong => [numbers[0], numbers[1], numbers[2].max(1), numbers[3]],
        _ => [numbers[0], some_number(random), numbers[2], numbers[3]],
    }
}

/// A call, whose strings it writes into the areas.
fn some_call(random: &mut Random, place: &Place, routine: Routine, overlaps: bool) -> Call {
    let length = some_length(random);
    let areas = AREAS.map(|area| place.at + area);
    let put = |at: u64, bytes: &[u8]| {
        // SAFETY: callers name places in the areas.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
    };
    let kinds = if random.one_in(2) { 255 } else { 2 };
    let mut text: Vec<u8> = (0..length).map(|_| 1 + random.below(kinds) as u8).collect();
    text.push(0);
    let [one, other] = areas.map(|area| area + position(random, length + 1));
    put(one, &text);
    if length > 0 && !random.one_in(3) {
        text[random.below(length) as usize] = random.next() as u8;
    }
    put(other, &text);
    let byte = if random.one_in(3) { 0 } else { 1 + random.below(kinds) } | random.below(2) << 8;
    let bound = if random.one_in(3) { random.below(2 * length + 2) } else { length + 1 };
    let arguments = match routine {
        Routine::Copy => {
            let from = one - areas[0];
            let near = (from + random.below(200)).saturating_sub(100).min(SIZE - length);
            match random.below(3) {
                _ if !overlaps => [one, other, length],
                0 => [areas[0] + near, one, length],
                1 => [one, areas[0] + near.min(SIZE - length), length],
                _ => [one, other, length],
            }
        }
        Routine::Set => [one, byte, length],
        Routine::Compare => [one, other, bound.min(length + 1)],
        Routine::Find => [one, byte, bound.min(length + 1)],
        Routine::Length => [one, byte, bound],
        Routine::LengthWithin => [one, bound, 0],
        Routine::FindInString | Routine::FindInStringOrEnd => [one, byte, 0],
        Routine::CompareStrings => [one, other, bound],
        Routine::CompareStringsWithin => [one, other, bound],
        Routine::Divide | Routine::DivideSigned | Routine::DivideLong => [0; 3],
    };
    let arguments = match routine {
        Routine::Divide | Routine::DivideSigned | Routine::DivideLong => {
            some_division(random, place, routine)
        }
        _ => [arguments[0], arguments[1], arguments[2], 0x1111_0003],
    };
    let rights = if random.one_in(2) { libc::PROT_NONE } else { libc::PROT_READ };
    let missing = random.one_in(8).then(|| (random.below(PAGES), rights));
    Call { arguments, missing }
}

/// What a run leaves: the exit, the registers, and the areas.
type Outcome = (Exit, State, [Vec<u8>; 2]);

struct Bench<'b, I: Isa> {
    place: &'b Place,
    areas: [Mapping; 2],
    engine: Runner<I>,
    interpreter: Interpreter<'static, I>,
}

impl<I: Isa> Bench<'_, I> {
    fn protect(&self, call: &Call, back: bool) {
        let Some((page, rights)) = call.missing else { return };
        let rights = if back { libc::PROT_READ | libc::PROT_WRITE } else { rights };
        let at = self.areas[0].0 + page * PAGE;
        // SAFETY: a page of the test's own.
        assert_eq!(unsafe { libc::mprotect(at as *mut libc::c_void, PAGE as usize, rights) }, 0);
    }

    fn memory(&self) -> [Vec<u8>; 2] {
        [0, 1].map(|n| self.areas[n].bytes(SIZE as usize))
    }

    fn restore(&self, memory: &[Vec<u8>; 2]) {
        for (area, bytes) in self.areas.iter().zip(memory) {
            // SAFETY: the area is as long as it was.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), area.0 as *mut u8, bytes.len()) };
        }
    }

    fn start(&self, code: u64, call: &Call) -> State {
        let mut state = State::default();
        // Places that are registers of every guest.
        for n in (4..6).chain(19..23) {
            state.gpr[n] = 0x1111_0000 + n as u64;
        }
        state.gpr[..4].copy_from_slice(&call.arguments);
        state.gpr[30] = self.place.at + STOP;
        state.gpr[31] = self.place.at + STACK;
        // The rest of the signed division begins behind a comparison of the divisor with 0.
        state.nzcv = (call.arguments[1] as u32 & 1 << 31) | 1 << 29;
        state.pc = code;
        state
    }

    /// Calls the function, and then restores the areas.
    fn run(&mut self, code: u64, call: &Call, interpreted: bool) -> Outcome {
        let before = self.memory();
        let (host, mut state, flag) = (window(self.place), self.start(code, call), AtomicU32::new(0));
        self.protect(call, false);
        let exit = if interpreted {
            self.interpreter.run(&mut state, &host, &flag, INSTRUCTIONS_MAX)
        } else {
            self.engine.run(&mut state, &host, &flag)
        };
        self.protect(call, true);
        let after = self.memory();
        self.restore(&before);
        (exit, state, after)
    }
}

/// Whether two results of a comparison say the same.
fn agree(routine: Routine, one: u64, other: u64) -> bool {
    use Routine::{Compare, CompareStrings, CompareStringsWithin};
    let sign = |value: u64| (value as i32).signum();
    match routine {
        Compare | CompareStrings | CompareStringsWithin => sign(one) == sign(other),
        _ => one == other,
    }
}

pub fn check_runs<I: Isa>(place: &Place, folder: &str) {
    let functions = functions(folder);
    let _stop = Mapping::new(place.at + STOP, &place.stop, (2 * PAGE) as usize);
    let areas = AREAS.map(|area| Mapping::new(place.at + area, &[], SIZE as usize));
    let interpreter = Interpreter::new(&LOG);
    let mut bench = Bench::<I> { place, areas, engine: engine_of(), interpreter };
    bench.engine.translate_after(0);
    let mut random = Random(1);
    let (mut all, mut faults) = (0, 0);
    for (n, (row, found)) in functions.iter().enumerate() {
        // Those that call others, or read data, are not complete. Divisions only do so for a divisor of zero.
        let is_division = matches!(row.routine, Routine::Divide | Routine::DivideSigned);
        if row.holes != [0; HOLES_MAX] && !is_division {
            continue;
        }
        all += 1;
        // At the end of a page, so that most lie in several.
        let aligned = place.at + PAGE - 8 - 4 * (n as u64 % 16);
        let at = if is_division { (aligned & !15) + found.address % 16 - 16 } else { aligned };
        let mut bytes = vec![0; (at - place.at) as usize - found.before.len()];
        bytes.extend(found.before.iter().chain(&found.code));
        let _code = Mapping::new(place.at, &bytes, (4 * PAGE) as usize);
        LOG.invalidate(place.at..place.at + 4 * PAGE);
        let code = at | u64::from(found.thumb);
        let mut as_host = 0;
        for _ in 0..400 {
            let overlaps = !found.name.contains("memcpy");
            let call = some_call(&mut random, place, row.routine, overlaps);
            let (exit, state, memory) = bench.run(code, &call, false);
            let (expected, own, own_memory) = bench.run(code, &call, true);
            let what = format!("{}: {call:x?}", found.name);
            assert_eq!(state.pc, own.pc, "{what}");
            if let (Exit::Fault(fault), Exit::Fault(own_fault)) = (exit, expected) {
                // The guest's own code has run, from its start. The host tells the first byte that is
                // missing, the interpreter the first one of the access.
                assert!(fault.access == own_fault.access && fault.access != Access::Execute, "{what}");
                assert!(
                    fault.address.wrapping_sub(own_fault.address) < 64,
                    "{what}: {fault:x?} {own_fault:x?}"
                );
                // Without the place of 32-bit Arm's PC.
                assert_eq!(state.gpr[..29], own.gpr[..29], "{what}");
                // Where the source is overwritten, nothing has been stored before.
                let [to, from, length, _] = call.arguments;
                if row.routine == Routine::Copy && to.abs_diff(from) < length {
                    assert!(memory == own_memory, "{what}: memory differs at a fault");
                }
                faults += 1;
                continue;
            }
            assert_eq!(exit, expected, "{what}");
            assert!(memory == own_memory, "{what}: memory differs");
            if row.routine == Routine::DivideLong {
                assert_eq!(state.gpr[1], own.gpr[1], "{what}");
            }
            assert!(
                agree(row.routine, state.gpr[0], own.gpr[0]),
                "{what}: {:x} {:x}",
                state.gpr[0],
                own.gpr[0]
            );
            // Registers that all guests' functions keep.
            assert_eq!(state.gpr[19..23], own.gpr[19..23], "{what}");
            assert_eq!(state.gpr[31], own.gpr[31], "{what}");
            // Code of the host changes no other register, but for a result of two.
            let start = bench.start(code, &call);
            let kept = if row.routine == Routine::DivideLong { 2..29 } else { 1..29 };
            as_host += u32::from(state.gpr[kept.clone()] == start.gpr[kept] && state.v == start.v);
        }
        // The others came to a page that was missing, perhaps behind what they were to read.
        assert!(as_host >= 250, "{}: {as_host} of 400 calls by code of the host", found.name);
        LOG.invalidate(place.at..place.at + 4 * PAGE);
    }
    assert!(functions.is_empty() || all >= 2 && faults > 10, "{all} functions, {faults} faults");
}
