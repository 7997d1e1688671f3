//! Cryptography in vectors (manual: Zvkned, Zvknha, Zvknhb, Zvkg, Zvksed, Zvksh): operations on groups of
//! elements, which vl and vstart must count.

use super::element::{Shape, VLENB, is_aligned, overlap, vd, vs1, vs2};
use crate::crypto::{aes_mix, aes_round};
use crate::exit::{Flow, Leave, Step};
use crate::op::{Host, Op};
use crate::rv64::action::{Action, Crypto};
use crate::rv64::decode::row_of;
use crate::state::State;

/// Bytes of a group of elements.
fn group_bytes(operation: Crypto, sew: u32) -> u64 {
    match operation {
        Crypto::Sm3Rounds | Crypto::Sm3Schedule => 32,
        Crypto::Sha2Schedule | Crypto::Sha2High | Crypto::Sha2Low => 4 << sew,
        _ => 16,
    }
}

/// Whether one group of vs2 serves all groups.
fn is_scalar(op: &Op, operation: Crypto) -> bool {
    let has_forms = matches!(
        operation,
        Crypto::AesDecrypt
            | Crypto::AesDecryptLast
            | Crypto::AesEncrypt
            | Crypto::AesEncryptLast
            | Crypto::AesAdd
            | Crypto::Sm4Rounds
    );
    has_forms && op.bits(31, 26) == 0b10_1001
}

/// What makes an instruction reserved.
fn check(s: &mut State, op: &Op, operation: Crypto, shape: Shape) -> Result<(), Leave> {
    use Crypto::{Ghash, Sha2High, Sha2Low, Sha2Schedule, Sm3Rounds, Sm3Schedule};
    let (d, v1, v2, lmul) = (vd(op), vs1(op), vs2(op), shape.lmul);
    let is_sha = matches!(operation, Sha2Schedule | Sha2High | Sha2Low);
    let bytes = group_bytes(operation, shape.sew);
    let elements = bytes >> shape.sew;
    let mut holds = shape.sew == 2 || is_sha && shape.sew == 3;
    holds &= shape.vlmax() << shape.sew >= bytes;
    holds &= s.vectors.vl.is_multiple_of(elements) && s.vectors.vstart.is_multiple_of(elements);
    holds &= is_aligned(d, lmul);
    if is_scalar(op, operation) {
        holds &= !overlap(d, lmul, v2, 0);
    } else {
        holds &= is_aligned(v2, lmul);
    }
    if is_sha || matches!(operation, Ghash | Sm3Schedule) {
        holds &= is_aligned(v1, lmul);
    }
    if is_sha || matches!(operation, Sm3Schedule | Sm3Rounds) {
        holds &= !overlap(d, lmul, v2, lmul);
    }
    if is_sha {
        holds &= !overlap(d, lmul, v1, lmul);
    }
    s.require(op, holds)
}

/// The bytes of a group.
fn read(s: &State, v: u32, at: u64) -> u128 {
    let byte = u64::from(v) * VLENB + at;
    s.vectors.registers[(byte / VLENB) as usize & 31]
}

fn write(s: &mut State, v: u32, at: u64, value: u128) {
    let byte = u64::from(v) * VLENB + at;
    s.vectors.registers[(byte / VLENB) as usize & 31] = value;
}

fn words(value: u128) -> [u32; 4] {
    core::array::from_fn(|i| (value >> (32 * i)) as u32)
}

fn join(words: [u32; 4]) -> u128 {
    words.iter().rev().fold(0, |all, &word| all << 32 | u128::from(word))
}

/// Runs an operation.
pub(crate) fn run(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(Action::VectorCrypto(operation)) = row_of(op).map(|row| row.action) else {
        return s.undefined(op);
    };
    let shape = s.shape(op)?;
    check(s, op, operation, shape)?;
    let bytes = group_bytes(operation, shape.sew);
    let (d, v1, v2, immediate) = (vd(op), vs1(op), vs2(op), vs1(op));
    let scalar = is_scalar(op, operation);
    let first = s.vectors.vstart << shape.sew;
    let end = s.vectors.vl << shape.sew;
    for at in (first..end).step_by(bytes as usize) {
        let key = read(s, v2, if scalar { 0 } else { at });
        let state = read(s, d, at);
        match operation {
            Crypto::Sha2Schedule | Crypto::Sha2High | Crypto::Sha2Low if shape.sew == 3 => {
                let wide = |s: &State, v: u32| {
                    let halves = [read(s, v, at), read(s, v, at + 16)];
                    core::array::from_fn(|i| (halves[i / 2] >> (64 * (i % 2))) as u64)
                };
                let result = sha2::<Sha512>(operation, wide(s, d), wide(s, v2), wide(s, v1));
                for half in 0..2 {
                    let [low, high] = [result[2 * half], result[2 * half + 1]].map(u128::from);
                    write(s, d, at + 16 * half as u64, high << 64 | low);
                }
                continue;
            }
            Crypto::Sm3Rounds | Crypto::Sm3Schedule => {
                let wide = |s: &State, v: u32| {
                    let halves = [read(s, v, at), read(s, v, at + 16)].map(words);
                    core::array::from_fn(|i| halves[i / 4][i % 4].swap_bytes())
                };
                let result = match operation {
                    Crypto::Sm3Rounds => sm3_rounds(wide(s, d), wide(s, v2), immediate),
                    _ => sm3_schedule(wide(s, v1), wide(s, v2)),
                }
                .map(u32::swap_bytes);
                write(s, d, at, join([result[0], result[1], result[2], result[3]]));
                write(s, d, at + 16, join([result[4], result[5], result[6], result[7]]));
                continue;
            }
            _ => {}
        }
        let result = match operation {
            Crypto::AesEncrypt => aes_mix::<false>(aes_round::<false>(state, 0)) ^ key,
            Crypto::AesEncryptLast => aes_round::<false>(state, 0) ^ key,
            Crypto::AesDecrypt => aes_mix::<true>(aes_round::<true>(state, 0) ^ key),
            Crypto::AesDecryptLast => aes_round::<true>(state, 0) ^ key,
            Crypto::AesAdd => state ^ key,
            Crypto::AesKey128 => aes_key_128(key, immediate),
            Crypto::AesKey256 => aes_key_256(state, key, immediate),
            Crypto::Ghash => ghash(state ^ read(s, v1, at), key),
            Crypto::GhashMultiply => ghash(state, key),
            Crypto::Sm4Key => sm4_key(key, immediate),
            Crypto::Sm4Rounds => sm4_rounds(state, key),
            _ => {
                let sources = [state, key, read(s, v1, at)].map(|value| words(value).map(u64::from));
                join(sha2::<Sha256>(operation, sources[0], sources[1], sources[2]).map(|word| word as u32))
            }
        };
        write(s, d, at, result);
    }
    s.end_vector();
    Ok(Flow::Next)
}

/// The S-box of AES on each byte. A state whose columns are equal stays as it is when rows are shifted.
fn aes_bytes(word: u32) -> u32 {
    aes_round::<false>(join([word; 4]), 0) as u32
}

/// Constants of rounds from 1 on.
const ROUND_CONSTANTS: [u32; 10] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36];

/// A round key from words of the one before and the word that the S-box has given.
fn aes_key(before: [u32; 4], mut word: u32) -> u128 {
    join(before.map(|one| {
        word ^= one;
        word
    }))
}

/// VAESKF1.VI.
fn aes_key_128(key: u128, immediate: u32) -> u128 {
    let mut round = immediate & 15;
    if !(1..=10).contains(&round) {
        round ^= 8;
    }
    let key = words(key);
    let constant = ROUND_CONSTANTS[round as usize - 1];
    aes_key(key, aes_bytes(key[3].rotate_right(8)) ^ constant)
}

/// VAESKF2.VI: every second round key has no constant.
fn aes_key_256(before: u128, key: u128, immediate: u32) -> u128 {
    let mut round = immediate & 15;
    if !(2..=14).contains(&round) {
        round ^= 8;
    }
    let last = words(key)[3];
    let word = if round & 1 == 1 {
        aes_bytes(last)
    } else {
        aes_bytes(last.rotate_right(8)) ^ ROUND_CONSTANTS[round as usize / 2 - 1]
    };
    aes_key(words(before), word)
}

/// The bits of each byte in reverse order.
fn reverse_bytes(value: u128) -> u128 {
    value.reverse_bits().swap_bytes()
}

/// A product of GCM's field.
fn ghash(a: u128, b: u128) -> u128 {
    let (a, mut b, mut product) = (reverse_bytes(a), reverse_bytes(b), 0);
    for bit in 0..128 {
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        let carry = b >> 127;
        b = b << 1 ^ carry * 0x87;
    }
    reverse_bytes(product)
}

/// A product in the field of SM4's S-box.
const fn sm4_product(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a <<= 1;
        if a & 0x100 != 0 {
            a ^= 0x1f5;
        }
        b >>= 1;
    }
    product
}

/// SM4's S-box: an affine map before and after the inverse.
const SM4_BOX: [u8; 256] = {
    const fn affine(x: u32) -> u32 {
        // Each bit is the parity of the bits that a row of a cyclic matrix has.
        let (mut y, mut i) = (0, 0);
        while i < 8 {
            let row = (0xa7a7u32 << i >> 8) & 0xff;
            y |= ((x & row).count_ones() & 1) << i;
            i += 1;
        }
        y ^ 0xd3
    }
    let (mut table, mut x) = ([0; 256], 0);
    while x < 256 {
        let a = affine(x);
        // The inverse is the 254th power.
        let (mut inverse, mut square, mut n) = (1, a, 0);
        while n < 7 {
            square = sm4_product(square, square);
            inverse = sm4_product(inverse, square);
            n += 1;
        }
        table[x as usize] = affine(inverse) as u8;
        x += 1;
    }
    table
};

fn sm4_bytes(word: u32) -> u32 {
    u32::from_le_bytes(word.to_le_bytes().map(|byte| SM4_BOX[usize::from(byte)]))
}

/// VSM4K.VI: four round keys from the four before.
fn sm4_key(key: u128, immediate: u32) -> u128 {
    let mut k = words(key);
    for i in 0..4 {
        // The constant's bytes are multiples of 7, the first one the highest.
        let number = 4 * (immediate & 7) + i;
        let constant = (0..4).fold(0, |all, j| all << 8 | (4 * number + j) * 7 & 0xff);
        let s = sm4_bytes(k[1] ^ k[2] ^ k[3] ^ constant);
        k = [k[1], k[2], k[3], k[0] ^ s ^ s.rotate_left(13) ^ s.rotate_left(23)];
    }
    join(k)
}

/// VSM4R.VV: four rounds.
fn sm4_rounds(state: u128, key: u128) -> u128 {
    let mut x = words(state);
    for key in words(key) {
        let s = sm4_bytes(x[1] ^ x[2] ^ x[3] ^ key);
        let mixed = [2, 10, 18, 24].iter().fold(s, |all, &by| all ^ s.rotate_left(by));
        x = [x[1], x[2], x[3], x[0] ^ mixed];
    }
    join(x)
}

/// VSM3ME.VV: eight words of the schedule from the sixteen before.
fn sm3_schedule(first: [u32; 8], second: [u32; 8]) -> [u32; 8] {
    let mut w = [0u32; 24];
    w[..8].copy_from_slice(&first);
    w[8..16].copy_from_slice(&second);
    for i in 16..24 {
        let x = w[i - 16] ^ w[i - 9] ^ w[i - 3].rotate_left(15);
        let x = x ^ x.rotate_left(15) ^ x.rotate_left(23);
        w[i] = x ^ w[i - 13].rotate_left(7) ^ w[i - 6];
    }
    core::array::from_fn(|i| w[16 + i])
}

/// VSM3C.VI: two rounds.
fn sm3_rounds(state: [u32; 8], w: [u32; 8], immediate: u32) -> [u32; 8] {
    // Each register of the state, with what it was one and two rounds before.
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
    let mut old = [[0; 2]; 4];
    for i in 0..2 {
        let round = 2 * immediate + i as u32;
        let (constant, late) = if round < 16 { (0x79cc_4519u32, false) } else { (0x7a87_9d8a, true) };
        let ss1 =
            a.rotate_left(12).wrapping_add(e).wrapping_add(constant.rotate_left(round % 32)).rotate_left(7);
        let ss2 = ss1 ^ a.rotate_left(12);
        let ff = if late { a & b | a & c | b & c } else { a ^ b ^ c };
        let gg = if late { e & f | !e & g } else { e ^ f ^ g };
        let tt1 = ff.wrapping_add(d).wrapping_add(ss2).wrapping_add(w[i] ^ w[i + 4]);
        let tt2 = gg.wrapping_add(h).wrapping_add(ss1).wrapping_add(w[i]);
        (d, c, b, a) = (c, b.rotate_left(9), a, tt1);
        (h, g, f, e) = (g, f.rotate_left(19), e, tt2 ^ tt2.rotate_left(9) ^ tt2.rotate_left(17));
        for (register, value) in old.iter_mut().zip([a, c, e, g]) {
            register[i] = value;
        }
    }
    let [a, c, e, g] = old;
    [a[1], a[0], c[1], c[0], e[1], e[0], g[1], g[0]]
}

/// The sums of SHA-2 for words of one size.
trait Sha2 {
    /// The amounts of the rotations, and whether the last one is a shift.
    const SUMS: [[u32; 3]; 4];
    const BITS: u32;
}

enum Sha256 {}
enum Sha512 {}

impl Sha2 for Sha256 {
    const SUMS: [[u32; 3]; 4] = [[2, 13, 22], [6, 11, 25], [7, 18, 3], [17, 19, 10]];
    const BITS: u32 = 32;
}

impl Sha2 for Sha512 {
    const SUMS: [[u32; 3]; 4] = [[28, 34, 39], [14, 18, 41], [1, 8, 7], [19, 61, 6]];
    const BITS: u32 = 64;
}

/// VSHA2MS.VV, VSHA2CH.VV, VSHA2CL.VV on words of `T::BITS` bits.
fn sha2<T: Sha2>(operation: Crypto, d: [u64; 4], v2: [u64; 4], v1: [u64; 4]) -> [u64; 4] {
    let mask = u64::MAX >> (64 - T::BITS);
    let rotate = |x: u64, by: u32| (x >> by | x << (T::BITS - by)) & mask;
    let sum = |kind: usize, x: u64| {
        let [one, two, three] = T::SUMS[kind];
        let last = if kind < 2 { rotate(x, three) } else { x >> three };
        rotate(x, one) ^ rotate(x, two) ^ last
    };
    let add = |all: &[u64]| all.iter().fold(0, |sum: u64, &one| sum.wrapping_add(one)) & mask;
    if operation == Crypto::Sha2Schedule {
        let [w0, w1, w2, w3] = d;
        let [w4, w9, w10, w11] = v2;
        let [w12, _, w14, w15] = v1;
        let w16 = add(&[sum(3, w14), w9, sum(2, w1), w0]);
        let w17 = add(&[sum(3, w15), w10, sum(2, w2), w1]);
        let w18 = add(&[sum(3, w16), w11, sum(2, w3), w2]);
        let w19 = add(&[sum(3, w17), w12, sum(2, w4), w3]);
        return [w16, w17, w18, w19];
    }
    let ([mut f, mut e, mut b, mut a], [mut h, mut g, mut third, mut c]) = (v2, d);
    let two = if operation == Crypto::Sha2Low { &v1[..2] } else { &v1[2..] };
    for &w in two {
        let t1 = add(&[h, sum(1, e), e & f ^ !e & g, w]);
        let t2 = add(&[sum(0, a), a & b ^ a & c ^ b & c]);
        (h, g, f, e) = (g, f, e, add(&[third, t1]));
        (third, c, b, a) = (c, b, a, add(&[t1, t2]));
    }
    [f, e, b, a]
}
