//! Images of A32 and T32 code: the same bytes wherever the code lies.

use crate::cases::{Mapping, Random};
use crate::host::LOG;
use crossdock_emu_guest::a32::{A32, Set};
use crossdock_emu_guest::a64::Host;
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_jit::Features;
use crossdock_emu_jit::image::compile::{Request, compile};
use crossdock_emu_jit::image::format::{Identity, Image, Profile};

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
            // SAFETY: the window holds only the mapping.
            let memory = unsafe { Memory::new(mapping.0, mapping.0 + bytes.len() as u64) };
            let host = Host { memory, counter: || 0, executable: Host::anywhere };
            let image = compile::<A32>(&Request {
                host: &host,
                lines: LOG.lines(),
                base: at,
                text: 0..bytes.len() as u32,
                profile: &profile,
                features: Features::of_host(),
                identity: Identity::default(),
            });
            image.expect("there is code")
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
