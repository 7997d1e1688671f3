//! Damaged ELF files and caches of the loader: an error or a description, in time and without a panic.

use crossdock_elf::describe::describe;
use crossdock_elf::ldd::{Root, resolve};
use crossdock_elf::section;
use crossdock_elf::{Elf, ReadAt};
use crossdock_testkit::hostile::try_inputs;

/// A root in which every file is the damaged one.
struct Damaged(Vec<u8>);

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0[..].read_exact_at(buffer, offset)
    }
}

impl Root for Damaged {
    fn open(&self, _: &str) -> Option<Box<dyn ReadAt>> {
        Some(Box::new(Bytes(self.0.clone())))
    }

    fn text(&self, _: &str) -> Option<Vec<u8>> {
        Some(b"include /etc/ld.so.conf\ninclude /etc/*.conf\n/lib/x\nhwcap 0 x\n".repeat(20))
    }

    fn names(&self, _: &str) -> Vec<String> {
        vec!["a.conf".to_string(), "b.conf".to_string()]
    }
}

#[test]
fn elf_files() {
    // The heads of the real programs that exist here, and one whole program for its sections.
    let mut seeds: Vec<Vec<u8>> =
        ["/bin/sh", "/usr/bin/env", "/usr/bin/busybox", "/lib64/ld-linux-x86-64.so.2"]
            .iter()
            .filter_map(|path| std::fs::read(path).ok())
            .map(|bytes| bytes[..bytes.len().min(64 * 1024)].to_vec())
            .collect();
    seeds.extend(std::fs::read("/usr/bin/env"));
    seeds.push(crossdock_testkit::foreign::hello(crossdock_testkit::foreign::Cpu::Arm64));
    try_inputs("ELF files", &seeds, |input| {
        let found = section::named(input, &[".comment", ".text", ".interp"], 1 << 16);
        assert!(found.len() <= 3 && found.values().all(|bytes| bytes.len() <= 1 << 16));
        let Ok(elf) = Elf::read(input) else { return };
        assert!(!describe(&elf).is_empty());
        let _ = elf.platform();
        if input.len() < 256 * 1024 {
            let resolution = resolve(&Damaged(input.to_vec()), "/bin/x", &elf, &["/lib".to_string()]);
            assert!(resolution.libraries.len() <= 4096);
        }
    });
}

/// Damage in the head, where nearly every byte counts.
#[test]
fn elf_heads() {
    let env = std::fs::read("/usr/bin/env").expect("coreutils has it");
    let head = env[..1024.min(env.len())].to_vec();
    try_inputs("ELF heads", &[head], |input| {
        let whole = [input, &env[1024.min(env.len())..]].concat();
        if let Ok(elf) = Elf::read(&whole[..]) {
            assert!(!describe(&elf).is_empty());
        }
    });
}
