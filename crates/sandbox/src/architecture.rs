//! The first bytes of an architecture's ELF files, as binfmt_misc matches them.

/// The first bytes of an ELF file of an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// `GOARCH` name, as in platforms.
    pub name: &'static str,
    /// Name in `qemu-NAME-static`.
    pub qemu: &'static str,
    /// `EI_CLASS`: 1 is 32 bits, 2 is 64.
    class: u8,
    /// `EI_DATA`: 1 is little-endian, 2 big-endian.
    data: u8,
    /// `e_machine`.
    machine: u16,
}

/// The known guest architectures, with their `e_machine` of elf.h.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "386", qemu: "i386", class: 1, data: 1, machine: 3 },
    Architecture { name: "amd64", qemu: "x86_64", class: 2, data: 1, machine: 62 },
    Architecture { name: "arm", qemu: "arm", class: 1, data: 1, machine: 40 },
    Architecture { name: "arm64", qemu: "aarch64", class: 2, data: 1, machine: 183 },
    Architecture { name: "loong64", qemu: "loongarch64", class: 2, data: 1, machine: 258 },
    Architecture { name: "mips", qemu: "mips", class: 1, data: 2, machine: 8 },
    Architecture { name: "mips64", qemu: "mips64", class: 2, data: 2, machine: 8 },
    Architecture { name: "mips64le", qemu: "mips64el", class: 2, data: 1, machine: 8 },
    Architecture { name: "mipsle", qemu: "mipsel", class: 1, data: 1, machine: 8 },
    Architecture { name: "ppc64", qemu: "ppc64", class: 2, data: 2, machine: 21 },
    Architecture { name: "ppc64le", qemu: "ppc64le", class: 2, data: 1, machine: 21 },
    Architecture { name: "riscv64", qemu: "riscv64", class: 2, data: 1, machine: 243 },
    Architecture { name: "s390x", qemu: "s390x", class: 2, data: 2, machine: 22 },
];

/// Length of magic and mask: up to and including `e_machine`.
pub(crate) const MAGIC_LENGTH: usize = 20;

impl Architecture {
    /// The architecture of a `GOARCH` name.
    pub fn named(name: &str) -> Option<&'static Architecture> {
        ARCHITECTURES.iter().find(|a| a.name == name)
    }

    /// The first 20 bytes of an executable of this architecture (`e_type` is `ET_EXEC`).
    pub fn magic(&self) -> [u8; MAGIC_LENGTH] {
        let half = |value: u16| if self.data == 1 { value.to_le_bytes() } else { value.to_be_bytes() };
        let mut magic = [0; MAGIC_LENGTH];
        magic[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', self.class, self.data, 1]);
        magic[16..18].copy_from_slice(&half(2));
        magic[18..20].copy_from_slice(&half(self.machine));
        magic
    }

    /// Which bits of [`Architecture::magic`] count. `EI_OSABI` and the bytes after it do not: compilers for
    /// GNU/Linux write 3 there when a program uses GNU extensions. The lowest bit of `e_type` does not
    /// either: it distinguishes `ET_EXEC` (2) from `ET_DYN` (3).
    pub fn mask(&self) -> [u8; MAGIC_LENGTH] {
        let mut mask = [0xff; MAGIC_LENGTH];
        mask[7..16].fill(0);
        mask[if self.data == 1 { 16 } else { 17 }] = 0xfe;
        mask
    }

    /// Whether an executable that begins with `header` is of this architecture.
    pub fn matches(&self, header: &[u8]) -> bool {
        header.len() >= MAGIC_LENGTH
            && header
                .iter()
                .zip(self.mask())
                .zip(self.magic())
                .all(|((byte, mask), magic)| byte & mask == magic & mask)
    }
}

/// The architecture of an executable, from its first 20 bytes.
pub fn architecture_of(header: &[u8]) -> Option<&'static str> {
    ARCHITECTURES.iter().find(|a| a.matches(header)).map(|a| a.name)
}

/// The names of the known architectures, for messages.
pub(crate) fn known_architectures() -> String {
    ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_and_mask_are_those_of_elf() {
        let arm64 = Architecture::named("arm64").expect("known");
        assert_eq!(arm64.magic(), *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0");
        assert_eq!(arm64.mask()[16..], [0xfe, 0xff, 0xff, 0xff]);
        let s390x = Architecture::named("s390x").expect("known");
        assert_eq!(s390x.magic()[16..], [0, 2, 0, 22]);
        assert_eq!(s390x.mask()[16..], [0xff, 0xfe, 0xff, 0xff]);
    }

    #[test]
    fn every_architecture_matches_itself_only() {
        for a in ARCHITECTURES {
            let mut header = a.magic();
            header[7] = 3;
            let e_type = if a.data == 1 { 16 } else { 17 };
            header[e_type] = 3;
            assert_eq!(architecture_of(&header), Some(a.name), "dynamic, with GNU's ABI");
            header[e_type] = 1;
            assert_eq!(architecture_of(&header), None, "object files are not executables");
        }
        assert_eq!(architecture_of(b"#!/bin/sh"), None);
    }
}
