//! The checksums of the CRC32 and CRC32C instructions (manual J1.1, BitReverse and Poly32Mod2).

/// Tables of one byte's CRC for the reflected polynomials of CRC32 and CRC32C.
const CRC: [[u32; 256]; 2] = {
    let polynomials = [0xedb8_8320u32, 0x82f6_3b78];
    let mut tables = [[0u32; 256]; 2];
    let mut t = 0;
    while t < 2 {
        let mut byte = 0;
        while byte < 256 {
            let (mut crc, mut i) = (byte as u32, 0);
            while i < 8 {
                crc = crc >> 1 ^ (crc & 1) * polynomials[t];
                i += 1;
            }
            tables[t][byte] = crc;
            byte += 1;
        }
        t += 1;
    }
    tables
};

/// The checksum `crc` with the low `bytes` of `value` added, by Castagnoli's polynomial or that of IEEE
/// 802.3.
#[inline(always)]
pub(crate) fn crc32(castagnoli: bool, bytes: u32, mut crc: u32, mut value: u64) -> u32 {
    let table = &CRC[usize::from(castagnoli)];
    for _ in 0..bytes {
        crc = crc >> 8 ^ table[((crc ^ value as u32) & 0xff) as usize];
        value >>= 8;
    }
    crc
}
