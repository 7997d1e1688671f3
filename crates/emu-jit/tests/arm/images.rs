//! Images of A32 and T32 code: the same bytes wherever the code lies.

use crate::cases::{Mapping, Random};
use crate::host::{LOG, attach, engine_of, jit_of};
use crossdock_emu_guest::a32::{A32, Set};
use crossdock_emu_guest::a64::{Exit, Host, State};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_jit::image::compile::{Request, compile};
use crossdock_emu_jit::image::format::{Identity, Image, Profile};
use std::sync::atomic::AtomicU32;

const SIZE: usize = 1 << 13;

/// Random instructions: the first half is A32, the second T32.
fn random_code(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pick = |random: &mut Random, set: Set| {
        let rows: Vec<_> = set.rows().iter().collect();
        let row = rows[random.below(rows.len() as u64) as usize];
        row.value | !row.mask & random.next() as u32
    };
    while bytes.len() < SIZE / 2 {
        let word = pick(random, Set::Arm);
        // Mostly without a condition.
        let word = if random.one_in(3) || word >> 28 == 15 { word } else { word & 0x0fff_ffff | 0xe000_0000 };
        bytes.extend(word.to_le_bytes());
    }
    while bytes.len() < SIZE - 4 {
        if random.one_in(2) {
            bytes.extend((pick(random, Set::Thumb16) as u16).to_le_bytes());
        } else {
            let word = pick(random, Set::Thumb32);
            bytes.extend(((word >> 16) as u16).to_le_bytes());
            bytes.extend((word as u16).to_le_bytes());
        }
    }
    bytes
}

/// A window of the first `length` bytes of a mapping.
fn host_of(mapping: &Mapping, length: usize) -> Host {
    // SAFETY: the window holds only the mapping.
    let memory = unsafe { Memory::new(mapping.0, mapping.0 + length as u64) };
    Host { memory, counter: || 0, executable: Host::anywhere }
}

/// The image of `length` bytes of code at `base`.
fn image_of(host: &Host, base: u64, length: usize, profile: &Profile) -> Vec<u8> {
    let image = compile::<A32>(&Request {
        host,
        lines: LOG.lines(),
        base,
        text: 0..length as u32,
        profile,
        features: jit_of::<A32>().hold().features,
        identity: Identity::default(),
    });
    image.expect("there is code")
}

#[test]
fn random_code_gives_the_same_bytes_at_two_addresses() {
    for seed in 1..=4 {
        let mut random = Random(seed);
        let bytes = random_code(&mut random);
        let mut profile = Profile::default();
        let half = SIZE as u32 / 2;
        profile.hot.extend((0..half).step_by(4).filter(|_| random.one_in(40)));
        profile.cold.extend((0..half).step_by(4).filter(|_| random.one_in(3)));
        profile.cold.extend((half..2 * half).step_by(2).filter(|_| random.one_in(3)).map(|at| at | 1));
        let images = [0x4100_0000_u64, 0xa123_4000].map(|at| {
            let mapping = Mapping::new(at, &bytes, SIZE);
            image_of(&host_of(&mapping, bytes.len()), at, bytes.len(), &profile)
        });
        assert!(images[0] == images[1], "seed {seed}: {:?}", first_difference(&images));
        let image = Image::open(&images[0], &[0; 32]).expect("an image");
        assert!(image.entries() > 500, "{} entries", image.entries());
    }
}

/// Where the images differ: offsets in the image and in the code.
fn first_difference([one, other]: &[Vec<u8>; 2]) -> Option<(usize, usize)> {
    let at = (0..one.len().min(other.len())).find(|&at| one[at] != other[at])?;
    let (start, _) = Image::open(one, &[0; 32]).ok()?.code();
    Some((at, at.saturating_sub(start as usize)))
}

#[test]
fn constants_beside_the_code_are_as_they_are_now() {
    const AT: u64 = 0x4300_0000;
    const WORDS: [u32; 9] = [
        0xe59f_0010, // 00 ldr r0, 18
        0xed9f_0b04, // 04 vldr d0, 1c
        0xed9f_2a02, // 08 vldr s4, 18
        0xe5df_1005, // 0c ldrb r1, 19
        0xe7f0_00f0, // 10 udf
        0,           // 14
        0x89ab_cdef, // 18
        0x0123_4567, // 1c
        0x4008_0000, // 20
    ];
    let _turn = crate::differ::turn();
    jit_of::<A32>();
    let bytes: Vec<u8> = WORDS.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mapping = Mapping::new(AT, &bytes, SIZE);
    LOG.invalidate(AT..AT + SIZE as u64);
    let host = host_of(&mapping, SIZE);
    let image = image_of(&host, AT, bytes.len(), &Profile { hot: vec![0], cold: vec![] });
    attach(&image, &[0; 32], AT);
    let mut engine = engine_of::<A32>();
    let mut run = || {
        let mut state = State::default();
        state.pc = AT;
        let exit = engine.run(&mut state, &host, &AtomicU32::new(0));
        assert!(matches!(exit, Exit::Undefined(_)), "{exit:?}");
        let got = (state.r(0), state.r(1), state.v[0] as u64, state.v[1] as u32);
        (got, engine.decoded() > 0)
    };
    assert_eq!(run(), ((0x89ab_cdef, 0xcd, 0x4008_0000_0123_4567, 0x89ab_cdef), false));
    // SAFETY: the word is in the mapping.
    unsafe { *((AT + 0x18) as *mut u32) = 0x1122_3344 };
    LOG.invalidate(AT + 0x18..AT + 0x1c);
    assert_eq!(run(), ((0x1122_3344, 0x33, 0x4008_0000_0123_4567, 0x1122_3344), true));
    LOG.invalidate(AT..AT + SIZE as u64);
}
