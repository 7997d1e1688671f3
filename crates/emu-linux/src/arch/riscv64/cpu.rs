//! What the CPU is: /proc/cpuinfo, and the answers of riscv_hwprobe(2) (Linux,
//! Documentation/arch/riscv/hwprobe.rst, include/uapi/asm/hwprobe.h).

use crate::guest;
use crate::sys::{Errno, errno, process};
use alloc::format;
use alloc::vec::Vec;
use crossdock_emu_guest::rv64::features::{BLOCK, ISA};

/// /proc/cpuinfo, as the kernel writes it (Linux, arch/riscv/kernel/cpu.c). Addresses have 47 bits, as with
/// Sv48.
pub(super) fn info(cpus: u32) -> Vec<u8> {
    let cpu = |n: u32| {
        format!(
            "processor\t: {n}\nhart\t\t: {n}\nisa\t\t: {ISA}\nmmu\t\t: sv48\nmvendorid\t: 0x0\nmarchid\t\t: 0x0\n\
             mimpid\t\t: 0x0\nhart isa\t: {ISA}\n\n"
        )
    };
    (0..cpus).flat_map(|n| cpu(n).into_bytes()).collect()
}

/// Bits of the key IMA_EXT_0 for the extensions of this CPU.
const EXTENSIONS: u64 = {
    const FD: u32 = 0;
    const C: u32 = 1;
    const V: u32 = 2;
    const ZBA: u32 = 3;
    const ZBB: u32 = 4;
    const ZBS: u32 = 5;
    const ZICBOZ: u32 = 6;
    const ZBC: u32 = 7;
    const ZVBB: u32 = 17;
    const ZVBC: u32 = 18;
    const ZVKB: u32 = 19;
    const ZVKNED: u32 = 21;
    const ZVKNHA: u32 = 22;
    const ZFH: u32 = 27;
    const ZFHMIN: u32 = 28;
    const ZIHINTNTL: u32 = 29;
    const ZFA: u32 = 32;
    const ZACAS: u32 = 34;
    const ZICOND: u32 = 35;
    const ZIHINTPAUSE: u32 = 36;
    const ZVE32X: u32 = 37;
    const ZVE32F: u32 = 38;
    const ZVE64X: u32 = 39;
    const ZVE64F: u32 = 40;
    const ZVE64D: u32 = 41;
    const ZIMOP: u32 = 42;
    const ZCA: u32 = 43;
    const ZCB: u32 = 44;
    const ZCD: u32 = 45;
    const ZCMOP: u32 = 47;
    const ZAWRS: u32 = 48;
    const ZICNTR: u32 = 50;
    const ZICBOM: u32 = 55;
    const ZAAMO: u32 = 56;
    const ZALRSC: u32 = 57;
    const ZABHA: u32 = 58;
    const ALL: [u32; 36] = [
        FD,
        C,
        V,
        ZVBB,
        ZVBC,
        ZVKB,
        ZVKNED,
        ZVKNHA,
        ZVE32X,
        ZVE32F,
        ZVE64X,
        ZVE64F,
        ZVE64D,
        ZBA,
        ZBB,
        ZBS,
        ZICBOZ,
        ZBC,
        ZFH,
        ZFHMIN,
        ZIHINTNTL,
        ZFA,
        ZACAS,
        ZICOND,
        ZIHINTPAUSE,
        ZIMOP,
        ZCA,
        ZCB,
        ZCD,
        ZCMOP,
        ZAWRS,
        ZICNTR,
        ZICBOM,
        ZAAMO,
        ZALRSC,
        ZABHA,
    ];
    let (mut bits, mut i) = (0, 0);
    while i < ALL.len() {
        bits |= 1 << ALL[i];
        i += 1;
    }
    bits
};

/// How a key's values compare where programs ask which CPUs have one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A CPU has it if it has all bits.
    Bits,
    /// A CPU has it if its value is the same.
    Value,
}

/// The value of a key; `None` for keys that are not known.
fn value(key: u64) -> Option<(u64, Kind)> {
    /// Misaligned accesses are as fast as aligned ones, those of vectors, too.
    const FAST: u64 = 3;
    Some(match key {
        // MVENDORID, MARCHID, MIMPID.
        0..=2 => (0, Kind::Value),
        // BASE_BEHAVIOR: I, M and A.
        3 => (1, Kind::Bits),
        4 => (EXTENSIONS, Kind::Bits),
        // CPUPERF_0.
        5 => (FAST, Kind::Value),
        // ZICBOZ_BLOCK_SIZE.
        6 => (BLOCK, Kind::Value),
        // HIGHEST_VIRT_ADDRESS.
        7 => ((1 << 47) - 1, Kind::Value),
        // TIME_CSR_FREQ: nanoseconds.
        8 => (1_000_000_000, Kind::Value),
        // MISALIGNED_SCALAR_PERF, MISALIGNED_VECTOR_PERF.
        9 | 10 => (FAST, Kind::Value),
        // ZICBOM_BLOCK_SIZE.
        12 => (BLOCK, Kind::Value),
        _ => return None,
    })
}

/// riscv_hwprobe(2): pairs of a key and a value, their count, and a set of CPUs with its size. All CPUs are
/// the same.
pub(super) fn probe([pairs, count, size, cpus, flags, _]: [u64; 6]) -> Result<i64, Errno> {
    const WHICH_CPUS: u64 = 1;
    const UNKNOWN: u64 = u64::MAX;
    if flags & !WHICH_CPUS != 0 {
        return Err(errno::EINVAL);
    }
    let which = flags & WHICH_CPUS != 0;
    // The set must be there if CPUs are asked for, and must not be empty if values are.
    if size == 0 && (cpus != 0 || which) || size != 0 && cpus == 0 {
        return Err(errno::EINVAL);
    }
    let mut set = alloc::vec![0; usize::try_from(size.min(1 << 12)).unwrap_or(0)];
    guest::read(cpus, &mut set)?;
    if !which && size != 0 && set.iter().all(|&byte| byte == 0) {
        return Err(errno::EINVAL);
    }
    let mut all_have = true;
    for n in 0..count {
        let at = pairs.wrapping_add(16 * n);
        let (key, asked) = (guest::read64(at)?, guest::read64(at.wrapping_add(8))?);
        let known = value(key);
        if known.is_none() {
            guest::write64(at, UNKNOWN)?;
        }
        match (known, which) {
            (Some((has, Kind::Bits)), true) => all_have &= has & asked == asked,
            (Some((has, Kind::Value)), true) => all_have &= has == asked,
            (None, true) => {
                all_have = false;
                guest::write64(at.wrapping_add(8), 0)?;
            }
            (known, false) => guest::write64(at.wrapping_add(8), known.map_or(0, |(has, _)| has))?,
        }
    }
    if which {
        // An empty set stands for all CPUs.
        let online = process::cpus();
        let is_empty = set.iter().all(|&byte| byte == 0);
        for (n, byte) in set.iter_mut().enumerate() {
            let here = (0..8).filter(|bit| 8 * n as u32 + bit < online).fold(0, |byte, bit| byte | 1 << bit);
            *byte = match (all_have, is_empty) {
                (false, _) => 0,
                (true, true) => here,
                (true, false) => *byte & here,
            };
        }
        guest::write(cpus, &set)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn cpuinfo_names_the_extensions() {
        let text = String::from_utf8(info(2)).expect("text");
        assert!(text.starts_with("processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdcv_"), "{text}");
        assert_eq!(text.matches("hart isa\t: rv64imafdcv_").count(), 2);
    }

    #[test]
    fn what_is_probed_is_what_cpuinfo_says() {
        for (bit, name) in [
            (3, "zba"),
            (4, "zbb"),
            (5, "zbs"),
            (27, "zfh"),
            (32, "zfa"),
            (34, "zacas"),
            (17, "zvbb"),
            (19, "zvkb"),
            (30, "zvfh"),
        ] {
            assert_eq!(EXTENSIONS >> bit & 1 == 1, ISA.split('_').any(|one| one == name), "{name}");
        }
        assert_eq!(EXTENSIONS >> 2 & 1 == 1, ISA.starts_with("rv64imafdcv"));
        assert!(value(1000).is_none());
    }
}
