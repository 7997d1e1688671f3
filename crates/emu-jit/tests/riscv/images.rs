//! Images of RV64 code: the same bytes wherever the code lies.

use crate::cases::{Mapping, Random};
use crate::host::LOG;
use crossdock_emu_guest::Host;
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_guest::rv64::{Rv64, TABLE};
use crossdock_emu_jit::Features;
use crossdock_emu_jit::image::compile::{Request, compile};
use crossdock_emu_jit::image::format::{Identity, Image, Profile};

const SIZE: usize = 1 << 13;

/// Random instructions, of 32 and of 16 bits.
fn random_code(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < SIZE - 4 {
        if random.one_in(3) {
            let half = random.next() as u16;
            bytes.extend((if half & 3 == 3 { half & !1 } else { half }).to_le_bytes());
        } else {
            let row = &TABLE[random.below(TABLE.len() as u64) as usize];
            bytes.extend((row.value | !row.mask & random.next() as u32).to_le_bytes());
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
        profile.hot.extend((0..SIZE as u32).step_by(2).filter(|_| random.one_in(40)));
        profile.cold.extend((0..SIZE as u32).step_by(2).filter(|_| random.one_in(3)));
        let images = [0x3100_0000_u64, 0x7a_1234_5000].map(|at| {
            let mapping = Mapping::new(at, &bytes, SIZE);
            // SAFETY: the window holds only the mapping.
            let memory = unsafe { Memory::new(mapping.0, mapping.0 + bytes.len() as u64) };
            let host = Host { memory, counter: || 0, executable: Host::anywhere };
            let image = compile::<Rv64>(&Request {
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
        assert!(images[0] == images[1], "seed {seed}");
        let image = Image::open(&images[0], &[0; 32]).expect("an image");
        assert!(image.entries() > 500, "{} entries", image.entries());
    }
}
