//! Lanes that change places, and immediates in all lanes (manual C7.2).

use super::lane;

/// Lanes of `8 << size` bits in reverse order within containers of `8 << container` bits.
#[inline(always)]
pub(crate) fn reverse(size: u32, container: u32, n: u128) -> u128 {
    let (width, container) = (8u32 << size, 8u32 << container);
    let mut result = 0u128;
    for i in 0..128 / width {
        let (place, within) = (i * width / container, i % (container / width));
        let to = place * container + container - width - within * width;
        result |= u128::from(lane(n, i, width)) << to;
    }
    result
}

/// Neighbours in n, then neighbours in m, `8 << size` bits wide, give `count` lanes.
#[inline(always)]
pub(crate) fn pairs(size: u32, count: u32, n: u128, m: u128, mut f: impl FnMut(u64, u64) -> u64) -> u128 {
    let w = 8u32 << size;
    let mut result = 0u128;
    for i in 0..count {
        let (source, j) = if i < count / 2 { (n, 2 * i) } else { (m, 2 * i - count) };
        result |= u128::from(f(lane(source, j, w), lane(source, j + 1, w))) << (i * w);
    }
    result
}

/// How two registers are mixed.
pub(crate) const ZIP: u32 = 0;
pub(crate) const UNZIP: u32 = 1;
pub(crate) const TRANSPOSE: u32 = 2;

/// `count` lanes of n and m, `8 << size` bits wide: with [`UNZIP`] the even or the odd ones of m:n; with
/// [`TRANSPOSE`] those of n and m in turn; with [`ZIP`] the lower or the upper halves of n and m in turn.
/// `second` is 0 for the former and 1 for the latter.
#[inline(always)]
pub(crate) fn mix(kind: u32, size: u32, count: u32, second: u32, n: u128, m: u128) -> u128 {
    let w = 8u32 << size;
    let mut result = 0u128;
    for i in 0..count {
        let value = match kind {
            UNZIP => {
                let j = 2 * i + second;
                if j < count { lane(n, j, w) } else { lane(m, j - count, w) }
            }
            TRANSPOSE => lane(if i & 1 == 0 { n } else { m }, i & !1 | second, w),
            _ => lane(if i & 1 == 0 { n } else { m }, i / 2 + second * count / 2, w),
        };
        result |= u128::from(value) << (i * w);
    }
    result
}

/// AdvSIMDExpandImm, one half; the immediates of double precision are left to the caller.
pub(crate) fn immediate(cmode: u32, inverted: bool, imm8: u32) -> u64 {
    let imm8 = u64::from(imm8);
    match cmode {
        0..8 => (imm8 << (8 * (cmode >> 1))) * 0x0000_0001_0000_0001,
        8..12 => (imm8 << (8 * (cmode >> 1 & 1))) * 0x0001_0001_0001_0001,
        12 => (imm8 << 8 | 0xff) * 0x0000_0001_0000_0001,
        13 => (imm8 << 16 | 0xffff) * 0x0000_0001_0000_0001,
        14 if !inverted => imm8 * 0x0101_0101_0101_0101,
        14 => (0..8).filter(|i| imm8 >> i & 1 == 1).fold(0, |value, i| value | 0xff << (8 * i)),
        // VFPExpandImm: sign, inverted bit 6, five copies of it, six bits.
        _ => {
            let exponent = if imm8 >> 6 & 1 == 1 { 0x1f << 25 } else { 1 << 30 };
            (imm8 >> 7 << 31 | exponent | (imm8 & 0x3f) << 19) * 0x0000_0001_0000_0001
        }
    }
}

/// MOVI, MVNI, ORR, BIC (immediate): the result, of the value that `cmode` made and of the destination.
#[inline(always)]
pub(crate) fn with_immediate(cmode: u32, inverted: bool, value: u128, d: u128) -> u128 {
    match (cmode, inverted) {
        (14 | 15, _) => value,
        (cmode, false) if cmode < 12 && cmode & 1 == 1 => d | value,
        (cmode, true) if cmode < 12 && cmode & 1 == 1 => d & !value,
        (_, false) => value,
        (_, true) => !value,
    }
}

/// Each byte of `indexes` chooses a byte of the table; outside of it the byte of `outside` is taken.
#[inline(always)]
pub(crate) fn look_up(table: &[u8], indexes: u128, outside: u128) -> u128 {
    let (indexes, outside) = (indexes.to_le_bytes(), outside.to_le_bytes());
    let mut result = [0u8; 16];
    for (i, &index) in indexes.iter().enumerate() {
        result[i] = table.get(usize::from(index)).copied().unwrap_or(outside[i]);
    }
    u128::from_le_bytes(result)
}
