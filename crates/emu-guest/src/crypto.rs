//! Steps of AES, SHA-1 and SHA-256 on vector registers, as Arm's instructions take them (manual C7.2; FIPS
//! 197 and FIPS 180-4).

use crate::lanes::lane;

/// Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut product) = (a, b, 0);
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = a << 1 ^ if a >> 7 == 1 { 0x1b } else { 0 };
        b >>= 1;
    }
    product
}

/// The S-box and its inverse.
const BOXES: ([u8; 256], [u8; 256]) = {
    let (mut forward, mut inverse) = ([0u8; 256], [0u8; 256]);
    // 3 generates the multiplicative group, 0xf6 is its inverse.
    let (mut p, mut q) = (1u8, 1u8);
    loop {
        p = multiply(p, 3);
        q = multiply(q, 0xf6);
        let s = q ^ q.rotate_left(1) ^ q.rotate_left(2) ^ q.rotate_left(3) ^ q.rotate_left(4) ^ 0x63;
        forward[p as usize] = s;
        inverse[s as usize] = p;
        if p == 1 {
            break;
        }
    }
    forward[0] = 0x63;
    inverse[0x63] = 0;
    (forward, inverse)
};

/// A table of [`aes_mix`]: for each value of a column's first byte, what it contributes to the column's
/// bytes.
const fn mix_table(coefficients: [u8; 4]) -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        table[i] = u32::from_le_bytes([
            multiply(byte, coefficients[0]),
            multiply(byte, coefficients[1]),
            multiply(byte, coefficients[2]),
            multiply(byte, coefficients[3]),
        ]);
        i += 1;
    }
    table
}

static MIX: [u32; 256] = mix_table([2, 1, 1, 3]);
static INVERSE_MIX: [u32; 256] = mix_table([14, 9, 13, 11]);

/// AESE, AESD: adds the round key, substitutes bytes and shifts rows.
#[inline(always)]
pub(crate) fn aes_round<const DECRYPT: bool>(state: u128, key: u128) -> u128 {
    let state = (state ^ key).to_le_bytes();
    let mut result = [0u8; 16];
    for (i, byte) in result.iter_mut().enumerate() {
        // Row r of column c comes from column c + r, or c - r.
        let (column, row) = (i / 4, i % 4);
        let from = (column + if DECRYPT { 4 - row } else { row }) % 4;
        let source = state[from * 4 + row];
        *byte = if DECRYPT { BOXES.1[usize::from(source)] } else { BOXES.0[usize::from(source)] };
    }
    u128::from_le_bytes(result)
}

/// AESMC, AESIMC: mixes columns.
#[inline(always)]
pub(crate) fn aes_mix<const INVERSE: bool>(state: u128) -> u128 {
    let table = if INVERSE { &INVERSE_MIX } else { &MIX };
    let mut result = 0u128;
    for column in 0..4 {
        let bytes = (lane(state, column, 32) as u32).to_le_bytes();
        let mixed =
            (0..4).fold(0, |mixed, row| mixed ^ table[usize::from(bytes[row])].rotate_left(8 * row as u32));
        result |= u128::from(mixed) << (column * 32);
    }
    result
}

fn words(value: u128) -> [u32; 4] {
    core::array::from_fn(|i| lane(value, i as u32, 32) as u32)
}

fn vector(words: [u32; 4]) -> u128 {
    words.iter().rev().fold(0, |value, &word| value << 32 | u128::from(word))
}

/// SHA1C, SHA1P, SHA1M: `KIND` 0 to 2, four rounds with "choose", "parity", "majority". `y` is the fifth word
/// of the state, `w` holds words of the schedule.
#[inline(always)]
pub(crate) fn sha1_hash<const KIND: u32>(state: u128, mut y: u32, w: u128) -> u128 {
    let mut x = words(state);
    for w in words(w) {
        let [a, b, c, d] = x;
        let f = match KIND {
            0 => (c ^ d) & b ^ d,
            1 => b ^ c ^ d,
            _ => b & c | (b | c) & d,
        };
        let sum = y.wrapping_add(a.rotate_left(5)).wrapping_add(f).wrapping_add(w);
        x = [sum, a, b.rotate_left(30), c];
        y = d;
    }
    vector(x)
}

/// SHA1H.
#[inline(always)]
pub(crate) fn sha1_rotate(n: u128) -> u128 {
    u128::from((n as u32).rotate_left(30))
}

/// SHA1SU0.
#[inline(always)]
pub(crate) fn sha1_schedule_0(d: u128, n: u128, m: u128) -> u128 {
    (d >> 64 | n << 64) ^ d ^ m
}

/// SHA1SU1.
#[inline(always)]
pub(crate) fn sha1_schedule_1(d: u128, n: u128) -> u128 {
    let t = words(d ^ n >> 32);
    let [a, b, c, d] = t.map(|word| word.rotate_left(1));
    vector([a, b, c, d ^ t[0].rotate_left(2)])
}

/// SHA256H, SHA256H2: four rounds; `SECOND` gives the half with e, otherwise the half with a.
#[inline(always)]
pub(crate) fn sha256_hash<const SECOND: bool>(d: u128, n: u128, w: u128) -> u128 {
    let (d, n) = (words(d), words(n));
    let (mut x, mut y) = if SECOND { (n, d) } else { (d, n) };
    for w in words(w) {
        let choose = (y[1] ^ y[2]) & y[0] ^ y[2];
        let majority = x[0] & x[1] | (x[0] | x[1]) & x[2];
        let e = y[0].rotate_right(6) ^ y[0].rotate_right(11) ^ y[0].rotate_right(25);
        let a = x[0].rotate_right(2) ^ x[0].rotate_right(13) ^ x[0].rotate_right(22);
        let t = y[3].wrapping_add(e).wrapping_add(choose).wrapping_add(w);
        let (new_y, new_x) = (x[3].wrapping_add(t), t.wrapping_add(a).wrapping_add(majority));
        x = [new_x, x[0], x[1], x[2]];
        y = [new_y, y[0], y[1], y[2]];
    }
    vector(if SECOND { y } else { x })
}

/// SHA256SU0.
#[inline(always)]
pub(crate) fn sha256_schedule_0(d: u128, n: u128) -> u128 {
    let (d, n) = (words(d), n as u32);
    let next = [d[1], d[2], d[3], n];
    vector(core::array::from_fn(|i| {
        let t = next[i];
        d[i].wrapping_add(t.rotate_right(7) ^ t.rotate_right(18) ^ t >> 3)
    }))
}

/// SHA256SU1.
#[inline(always)]
pub(crate) fn sha256_schedule_1(d: u128, n: u128, m: u128) -> u128 {
    let (d, n, m) = (words(d), words(n), words(m));
    let sigma = |t: u32| t.rotate_right(17) ^ t.rotate_right(19) ^ t >> 10;
    let (t0, t1) = ([n[1], n[2], n[3], m[0]], [m[2], m[3]]);
    let mut result = [0u32; 4];
    for i in 0..4 {
        let source = if i < 2 { t1[i] } else { result[i - 2] };
        result[i] = sigma(source).wrapping_add(d[i]).wrapping_add(t0[i]);
    }
    vector(result)
}
