//! Lanes of vector registers, and what SIMD instructions of any guest do with them.
//!
//! Functions get and return whole registers as 128 bits. Lane 0 is the lowest; shorter registers have zeros
//! above.

pub(crate) mod arithmetic;
pub(crate) mod long;
pub(crate) mod permute;
pub(crate) mod shift;

/// The low `width` bits.
#[inline(always)]
pub(crate) const fn low(width: u32) -> u64 {
    u64::MAX >> (64 - width)
}

/// A lane as a signed number.
#[inline(always)]
pub(crate) fn sx(width: u32, value: u64) -> i64 {
    ((value << (64 - width)) as i64) >> (64 - width)
}

/// Lane `i` of `width` bits.
#[inline(always)]
pub(crate) fn lane(value: u128, i: u32, width: u32) -> u64 {
    (value >> (i * width)) as u64 & low(width)
}

/// `value` in all lanes of `width` bits.
pub(crate) fn broadcast(value: u64, width: u32) -> u128 {
    u128::from(value & low(width)) * (u128::MAX / u128::from(low(width)))
}

/// Applies `f` to all lanes of three registers. `f` gets the width, then lanes of n, m and d.
#[inline(always)]
fn map<const SIZE: u32>(n: u128, m: u128, d: u128, mut f: impl FnMut(u32, u64, u64, u64) -> u64) -> u128 {
    let width = 8 << SIZE;
    let mut result = [0u64; 2];
    for (half, result) in result.iter_mut().enumerate() {
        let (n, m, d) = ((n >> (half * 64)) as u64, (m >> (half * 64)) as u64, (d >> (half * 64)) as u64);
        let mut i = 0;
        while i < 64 {
            let value = f(width, n >> i & low(width), m >> i & low(width), d >> i & low(width));
            *result |= (value & low(width)) << i;
            i += width;
        }
    }
    u128::from(result[0]) | u128::from(result[1]) << 64
}

/// [`map`] for a size known only at run time.
#[inline(always)]
pub(crate) fn map_size(
    size: u32,
    n: u128,
    m: u128,
    d: u128,
    f: impl FnMut(u32, u64, u64, u64) -> u64,
) -> u128 {
    match size {
        0 => map::<0>(n, m, d, f),
        1 => map::<1>(n, m, d, f),
        2 => map::<2>(n, m, d, f),
        _ => map::<3>(n, m, d, f),
    }
}

/// A lane as a signed number that is wide enough for what is made of it.
#[inline(always)]
pub(crate) fn signed(w: u32, value: u64) -> i128 {
    i128::from(sx(w, value))
}

/// SatQ to a signed number of `w` bits.
#[inline(always)]
pub(crate) fn saturate_signed(qc: &mut bool, w: u32, value: i128) -> u64 {
    let max = i128::from(low(w) >> 1);
    let clamped = value.clamp(-max - 1, max);
    *qc |= clamped != value;
    clamped as u64
}

/// SatQ to an unsigned number of `w` bits.
#[inline(always)]
pub(crate) fn saturate_unsigned(qc: &mut bool, w: u32, value: i128) -> u64 {
    let clamped = value.clamp(0, i128::from(low(w)));
    *qc |= clamped != value;
    clamped as u64
}
