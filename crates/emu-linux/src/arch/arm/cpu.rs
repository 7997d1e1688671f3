//! The CPU that programs see, whatever further instructions run: of each version of the architecture one
//! whose boards are common. C libraries and programs then choose what they would on such a board.

use crate::personality::Cpu;
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
    /// "model name" in /proc/cpuinfo.
    name: &'static str,
    /// "CPU implementer".
    implementer: u32,
    /// "CPU architecture".
    architecture: &'static str,
    /// "CPU variant".
    variant: u32,
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

/// A Cortex-A7. half, thumb, fastmult, vfp, edsp; neon, vfpv3; tls, vfpv4, idiva, idivt, vfpd32, lpae,
/// evtstrm.
const V7: Model = Model {
    uname: "armv7l",
    platform: "v7l",
    hwcap: 0xd6 | 3 << 12 | 0x7f << 15,
    name: "ARMv7 Processor rev 5 (v7l)",
    implementer: 0x41,
    architecture: "7",
    variant: 0,
    part: 0xc07,
    revision: 5,
    hardware: "Generic DT based system",
};

/// The ARM1176 of the first Raspberry Pi and the Zero. half, thumb, fastmult, vfp, edsp, java, tls.
const V6: Model = Model {
    uname: "armv6l",
    platform: "v6l",
    hwcap: 0x1d6 | 1 << 15,
    name: "ARMv6-compatible processor rev 7 (v6l)",
    // Linux calls an ARM1176 7, by its memory management.
    part: 0xb76,
    revision: 7,
    hardware: "BCM2835",
    ..V7
};

/// The Feroceon of Kirkwood, on which armel systems run: no floating point. swp, half, thumb, fastmult, edsp.
const V5: Model = Model {
    uname: "armv5tel",
    platform: "v5l",
    hwcap: 0x97,
    name: "Feroceon 88FR131 rev 1 (v5l)",
    implementer: 0x56,
    architecture: "5TE",
    variant: 2,
    part: 0x131,
    revision: 1,
    hardware: "Marvell Kirkwood (Flattened Device Tree)",
};

/// The line "Features" in /proc/cpuinfo of a CPU: names with a space behind each.
pub fn features(cpu: Cpu) -> String {
    Model::of(cpu).features()
}

impl Model {
    /// The model of a CPU.
    const fn of(cpu: Cpu) -> &'static Model {
        match cpu {
            Cpu::V7 => &V7,
            Cpu::V6 => &V6,
            Cpu::V5 => &V5,
        }
    }

    /// The names of what the CPU has, each with a space behind it.
    fn features(&self) -> String {
        let set = (0..).zip(NAMES).filter(|(bit, _)| self.hwcap >> bit & 1 == 1);
        set.flat_map(|(_, name)| [name, " "]).collect()
    }

    /// The model of this process's CPU.
    pub(super) fn current() -> &'static Model {
        Model::of(Cpu::current())
    }

    /// The content of /proc/cpuinfo (Linux, arch/arm/kernel/setup.c, c_show).
    pub(super) fn info(&self, cpus: u32) -> Vec<u8> {
        let Model { name, implementer, architecture, variant, part, revision, hardware, .. } = self;
        let features = self.features();
        let mut text = String::new();
        for number in 0..cpus {
            text += &format!(
                "processor\t: {number}\nmodel name\t: {name}\nBogoMIPS\t: 100.00\nFeatures\t: {features}\n\
                 CPU implementer\t: {implementer:#04x}\nCPU architecture: {architecture}\n\
                 CPU variant\t: {variant:#x}\nCPU part\t: {part:#05x}\nCPU revision\t: {revision}\n\n"
            );
        }
        text += &format!("Hardware\t: {hardware}\nRevision\t: 0000\nSerial\t\t: 0000000000000000\n");
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_those_of_the_boards() {
        for (cpu, expect) in [
            (Cpu::V7, "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"),
            (Cpu::V6, "half thumb fastmult vfp edsp java tls"),
            (Cpu::V5, "swp half thumb fastmult edsp"),
        ] {
            let text = String::from_utf8(Model::of(cpu).info(1)).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with("Features")).unwrap_or_default();
            assert_eq!(line.trim_end(), format!("Features\t: {expect}"));
        }
    }
}
