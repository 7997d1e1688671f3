//! /proc/cpuinfo, as the kernel writes it (Linux, arch/arm64/kernel/cpuinfo.c).

use alloc::format;
use alloc::vec::Vec;
use crossdock_emu_guest::a64::features;

/// The text for this many CPUs.
pub(super) fn text(cpus: u32) -> Vec<u8> {
    let midr = features::MIDR_EL1;
    let cpu = |number: u32| {
        format!(
            "processor\t: {number}\nBogoMIPS\t: 100.00\nFeatures\t: {}\nCPU implementer\t: {:#04x}\n\
             CPU architecture: 8\nCPU variant\t: {:#x}\nCPU part\t: {:#05x}\nCPU revision\t: {}\n\n",
            features::CPUINFO_FEATURES,
            midr >> 24 & 0xff,
            midr >> 20 & 0xf,
            midr >> 4 & 0xfff,
            midr & 0xf
        )
    };
    (0..cpus).flat_map(|number| cpu(number).into_bytes()).collect()
}
