//! Counts the words that are left to the interpreter, so that the loss of a lowering is noticed.

use super::{Lowered, Translator};
use crate::cache::Cache;
use crate::layout::Assignment;
use crate::translate::{Buffers, Features};
use crate::unit::Keying;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use crossdock_emu_guest::a64::{Class, Host, Invalidations, State, TABLE, decode};
use crossdock_emu_guest::memory::Memory;

extern crate std;

/// Words tried for each row of the table of encodings.
const TRIES: u32 = 500;

/// SplitMix64, the low half.
fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) as u32
}

/// The instructions of a chapter that lack lowerings, and how many of a thousand valid words of each have
/// none.
fn left(class: Class) -> BTreeMap<&'static str, u32> {
    let arena = std::vec![0u8; 1 << 20].leak();
    let log: &'static Invalidations = std::boxed::Box::leak(std::boxed::Box::new(Invalidations::new()));
    // SAFETY: only this cache uses the memory, and its code is not run.
    let cache = unsafe {
        Cache::new(
            arena.as_mut_ptr(),
            1 << 20,
            [0; 2],
            log,
            |_| u64::MAX,
            Keying { shift: 0 },
            &Assignment::STANDARD,
        )
    };
    // SAFETY: an empty window.
    let host = Host { memory: unsafe { Memory::new(0, 0) }, counter: || 0, executable: Host::anywhere };
    let mut counts: BTreeMap<&str, [u32; 2]> = BTreeMap::new();
    let mut seed = 1;
    for row in TABLE.iter().filter(|row| row.class == class) {
        let valid: Vec<u32> = (0..TRIES)
            .map(|_| row.value | random(&mut seed) & !row.mask)
            .filter(|&word| decode(word, 0x1000).0.execute(&mut State::default(), &host).is_ok())
            .collect();
        for word in valid {
            let mut buffers = Buffers::default();
            let mut translator = Translator::new(&cache.origin(), &mut buffers, 0x1000, 0);
            let words = [word];
            translator.items = &words;
            translator.features = Features { pclmul: true, aes: true, sha: true, flag_in_gs: false };
            let lowered = translator.data_vector(word) != Lowered::No;
            let [all, no] = counts.entry(row.name()).or_default();
            (*all, *no) = (*all + 1, *no + u32::from(!lowered));
        }
    }
    counts
        .into_iter()
        .filter(|(_, [_, no])| *no != 0)
        .map(|(name, [all, no])| (name, no * 1000 / all))
        .collect()
}

/// `expected` names instructions without a lowering in some or all forms, and the most such words of a
/// thousand.
fn check(class: Class, expected: &[(&str, u32)]) {
    let left = left(class);
    std::println!("{class:?}, words of a thousand that the interpreter runs: {left:?}");
    let most = |name: &str| expected.iter().find(|(known, _)| *known == name).map_or(0, |(_, most)| *most);
    let more: Vec<_> = left.iter().filter(|(name, count)| **count > most(name)).collect();
    assert!(more.is_empty(), "the interpreter runs more than before of {more:?}: is a lowering lost?");
    let less: Vec<_> =
        expected.iter().filter(|(name, most)| left.get(name).is_none_or(|now| now < most)).collect();
    assert!(less.is_empty(), "there are more lowerings of {less:?} now: correct the list");
}

#[test]
fn scalar_floating_point() {
    check(Class::Float, &[("FCMP", 477), ("FCMPE", 483), ("FCVT", 250)]);
}

#[test]
fn vectors() {
    check(
        Class::Simd,
        &[
            ("FCVTXN", 1000),
            ("FRECPE", 411),
            ("FRECPX", 1000),
            ("FRSQRTE", 416),
            ("PMUL", 1000),
            ("PMULL", 457),
            ("SQRDMLAH", 1000),
            ("SQRDMLSH", 1000),
            ("SQRSHL", 1000),
            ("SQSHL", 525),
            ("SRSHL", 1000),
            ("SSHL", 263),
            ("SUQADD", 1000),
            ("UQRSHL", 1000),
            ("UQSHL", 528),
            ("URECPE", 1000),
            ("URSHL", 1000),
            ("URSQRTE", 1000),
            ("USHL", 279),
            ("USQADD", 1000),
        ],
    );
}
