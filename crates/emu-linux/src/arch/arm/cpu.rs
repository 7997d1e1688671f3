//! The CPU that programs see: a Cortex-A7, whatever further instructions the interpreter knows. C libraries
//! and programs then choose what they would on such a board.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a CPU says of itself.
pub(super) struct Model {
    /// `machine` of uname(2).
    pub(super) uname: &'static str,
    /// AT_PLATFORM.
    pub(super) platform: &'static str,
    /// AT_HWCAP (Linux, arch/arm/include/uapi/asm/hwcap.h).
    pub(super) hwcap: u64,
    /// AT_HWCAP2.
    pub(super) hwcap2: u64,
    /// "model name" in /proc/cpuinfo.
    name: &'static str,
    /// "CPU part".
    part: u32,
    /// "CPU revision".
    revision: u32,
    /// "Hardware".
    hardware: &'static str,
}

/// The names of HWCAP's bits in /proc/cpuinfo, lowest first (Linux, arch/arm/kernel/setup.c).
const NAMES: [&str; 22] = [
    "swp", "half", "thumb", "26bit", "fastmult", "fpa", "vfp", "edsp", "java", "iwmmxt", "crunch", "thumbee",
    "neon", "vfpv3", "vfpv3d16", "tls", "vfpv4", "idiva", "idivt", "vfpd32", "lpae", "evtstrm",
];

/// An Armv7-A CPU. half, thumb, fastmult, vfp, edsp; neon, vfpv3; tls, vfpv4, idiva, idivt, vfpd32, lpae,
/// evtstrm.
pub(super) const MODEL: Model = Model {
    uname: "armv7l",
    platform: "v7l",
    hwcap: 0xd6 | 3 << 12 | 0x7f << 15,
    hwcap2: 0,
    name: "ARMv7 Processor rev 5 (v7l)",
    part: 0xc07,
    revision: 5,
    hardware: "Generic DT based system",
};

/// The content of /proc/cpuinfo (Linux, arch/arm/kernel/setup.c, c_show).
pub(super) fn info(cpus: u32) -> Vec<u8> {
    let Model { name, part, revision, hardware, hwcap, .. } = MODEL;
    let features: String =
        (0..).zip(NAMES).filter(|(bit, _)| hwcap >> bit & 1 == 1).flat_map(|(_, name)| [name, " "]).collect();
    let mut text = String::new();
    for number in 0..cpus {
        text += &format!(
            "processor\t: {number}\nmodel name\t: {name}\nBogoMIPS\t: 100.00\nFeatures\t: {features}\n\
             CPU implementer\t: 0x41\nCPU architecture: 7\nCPU variant\t: 0x0\nCPU part\t: {part:#05x}\n\
             CPU revision\t: {revision}\n\n"
        );
    }
    text += &format!("Hardware\t: {hardware}\nRevision\t: 0000\nSerial\t\t: 0000000000000000\n");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_those_of_a_cortex_a7() {
        let text = String::from_utf8(info(1)).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("Features")).unwrap_or_default();
        assert_eq!(
            line.trim_end(),
            "Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"
        );
    }
}
