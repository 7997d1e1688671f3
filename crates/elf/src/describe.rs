//! An ELF file in the words of file(1).

use std::fmt::Write as _;

use crate::{Class, Elf, Kind, machine};

/// The line that `file` prints after the name, such as `ELF 64-bit LSB pie executable, ARM aarch64, version 1
/// (SYSV), dynamically linked, interpreter /lib/ld-linux-aarch64.so.1, ...`.
pub fn describe(elf: &Elf) -> String {
    let bits = if elf.class == Class::Elf64 { "64-bit" } else { "32-bit" };
    let order = if elf.little_endian { "LSB" } else { "MSB" };
    let mut text = format!("ELF {bits} {order} {}, {}", kind(elf), machine_name(elf));
    // file(1) puts no comma between EABI5 and the version.
    text.push_str(if elf.machine == machine::ARM && elf.flags >> 24 != 0 { " " } else { ", " });
    write!(text, "version 1 ({})", os_abi(elf.os_abi)).expect("a String takes all");
    if matches!(elf.kind, Kind::Executable | Kind::Dynamic) {
        text.push_str(match (&elf.interpreter, elf.is_dynamic) {
            (None, false) => ", statically linked",
            (None, true) if elf.is_pie => ", static-pie linked",
            _ => ", dynamically linked",
        });
        if let Some(interpreter) = &elf.interpreter {
            write!(text, ", interpreter {interpreter}").expect("a String takes all");
        }
        if let Some(id) = &elf.build_id {
            let kind = match id.len() {
                8 => "xxHash",
                16 => "md5/uuid",
                20 => "sha1",
                _ => "other",
            };
            write!(text, ", BuildID[{kind}]={}", hex(id)).expect("a String takes all");
        }
        if let Some([os, major, minor, patch]) = elf.abi_tag {
            let os = match os {
                0 => "GNU/Linux",
                1 => "GNU/Hurd",
                2 => "Solaris",
                3 => "kFreeBSD",
                _ => "an unknown system",
            };
            write!(text, ", for {os} {major}.{minor}.{patch}").expect("a String takes all");
        }
    }
    if elf.kind != Kind::Core {
        if !elf.has_sections {
            text.push_str(", no section header");
            return text;
        }
        if elf.has_debug_info {
            text.push_str(", with debug_info");
        }
        text.push_str(if elf.has_symbols { ", not stripped" } else { ", stripped" });
    }
    text
}

fn kind(elf: &Elf) -> String {
    match elf.kind {
        Kind::Relocatable => "relocatable".to_string(),
        Kind::Executable => "executable".to_string(),
        Kind::Dynamic if elf.is_pie => "pie executable".to_string(),
        Kind::Dynamic => "shared object".to_string(),
        Kind::Core => "core file".to_string(),
        Kind::Other(n) => format!("unknown type {n}"),
    }
}

fn machine_name(elf: &Elf) -> String {
    let flags = elf.flags;
    match elf.machine {
        machine::I386 => "Intel 80386".to_string(),
        machine::X86_64 => "x86-64".to_string(),
        machine::AARCH64 => "ARM aarch64".to_string(),
        machine::ARM => match flags >> 24 {
            0 => "ARM".to_string(),
            version => format!("ARM, EABI{version}"),
        },
        machine::RISCV => {
            let compressed = if flags & 1 != 0 { ", RVC" } else { "" };
            let float = match flags >> 1 & 3 {
                0 => ", soft-float ABI",
                1 => ", single-float ABI",
                2 => ", double-float ABI",
                _ => ", quad-float ABI",
            };
            format!("UCB RISC-V{compressed}{float}")
        }
        machine::PPC64 => {
            let abi = match flags & 3 {
                1 => "Power ELF V1 ABI",
                2 => "OpenPOWER ELF V2 ABI",
                _ => "Unspecified or Power ELF V1 ABI",
            };
            format!("64-bit PowerPC or cisco 7500, {abi}")
        }
        machine::S390 => "IBM S/390".to_string(),
        machine::MIPS => {
            let level = match flags >> 28 {
                0 => "MIPS-I",
                1 => "MIPS-II",
                2 => "MIPS-III",
                3 => "MIPS-IV",
                4 => "MIPS-V",
                5 => "MIPS32",
                6 => "MIPS64",
                7 => "MIPS32 rel2",
                8 => "MIPS64 rel2",
                9 => "MIPS32 rel6",
                10 => "MIPS64 rel6",
                _ => "unknown level",
            };
            let n32 = if flags & 0x20 != 0 { "N32 " } else { "" };
            format!("MIPS, {n32}{level}")
        }
        machine::LOONGARCH => "LoongArch".to_string(),
        other => format!("*unknown arch {other:#x}*"),
    }
}

fn os_abi(value: u8) -> String {
    match value {
        0 => "SYSV".to_string(),
        1 => "HP-UX".to_string(),
        2 => "NetBSD".to_string(),
        3 => "GNU/Linux".to_string(),
        6 => "Solaris".to_string(),
        9 => "FreeBSD".to_string(),
        12 => "OpenBSD".to_string(),
        97 => "ARM".to_string(),
        other => format!("OS ABI {other}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_words_of_file() {
        let bytes = sample::with_interpreter(machine::RISCV, "/lib/ld-linux-riscv64-lp64d.so.1");
        let mut elf = Elf::read(&bytes[..]).expect("valid");
        elf.flags = 5;
        elf.is_pie = true;
        assert_eq!(
            describe(&elf),
            "ELF 64-bit LSB pie executable, UCB RISC-V, RVC, double-float ABI, version 1 (SYSV), dynamically linked, interpreter /lib/ld-linux-riscv64-lp64d.so.1, no section header"
        );
        elf.machine = machine::ARM;
        elf.flags = 0x0500_0400;
        elf.has_sections = true;
        elf.build_id = Some(vec![0xab; 20]);
        assert!(describe(&elf).contains("ARM, EABI5 version 1 (SYSV)"));
        assert!(describe(&elf).ends_with(&format!("BuildID[sha1]={}, stripped", "ab".repeat(20))));
    }
}
