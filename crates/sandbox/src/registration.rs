//! Lines and files of binfmt_misc: what is registered, and what the kernel shows about it.
//!
//! Source: Documentation/admin-guide/binfmt-misc.rst.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::architecture::{Architecture, MAGIC_LENGTH};

/// Flags of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// `F`, fix binary: the kernel opens the emulator at registration, so it need not exist in the root of
    /// the program.
    pub fix_binary: bool,
    /// `P`, preserve argv[0]: the emulator gets the path of the program *and* the `argv[0]` it was started
    /// with. Emulators must recognise this by `AT_FLAGS` (Linux 5.12, QEMU 6.0).
    pub preserve_argv0: bool,
    /// `C`, credentials: setuid bits count as those of the program, not of the emulator. Implies `O`.
    pub credentials: bool,
    /// `O`, open binary: the kernel passes the program as an open file, so that it may be unreadable.
    pub open_binary: bool,
}

impl Flags {
    /// `F`, `P` and `C`: foreign programs behave as native ones do.
    pub const ALL: Flags =
        Flags { fix_binary: true, preserve_argv0: true, credentials: true, open_binary: true };

    /// One sentence per flag that is set.
    pub fn explain(&self) -> Vec<&'static str> {
        [
            (self.fix_binary, "F: the emulator is opened when it is registered and need not exist in images"),
            (self.preserve_argv0, "P: programs see the argv[0] they were started with"),
            (self.credentials, "C: setuid programs get the rights of their owner"),
            (self.open_binary, "O: programs that may be executed but not read run too"),
        ]
        .into_iter()
        .filter_map(|(set, text)| set.then_some(text))
        .collect()
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (set, letter) in [
            (self.preserve_argv0, 'P'),
            (self.open_binary, 'O'),
            (self.credentials, 'C'),
            (self.fix_binary, 'F'),
        ] {
            if set {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Flags {
    type Err = String;

    fn from_str(text: &str) -> Result<Flags, String> {
        let mut flags = Flags::default();
        for letter in text.chars() {
            match letter {
                'F' => flags.fix_binary = true,
                'P' => flags.preserve_argv0 = true,
                'C' => (flags.credentials, flags.open_binary) = (true, true),
                'O' => flags.open_binary = true,
                other => return Err(format!("'{other}' is no flag of binfmt_misc (F, P, C, O)")),
            }
        }
        Ok(flags)
    }
}

/// What is written to `register`: `:name:M::magic:mask:interpreter:flags`.
pub fn registration(name: &str, magic: &[u8], mask: &[u8], interpreter: &Path, flags: Flags) -> Vec<u8> {
    // Every byte is escaped, since ':' separates fields and a zero byte ends the line.
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("\\x{b:02x}")).collect::<String>();
    let mut line = format!(":{name}:M::{}:{}:", hex(magic), hex(mask)).into_bytes();
    line.extend_from_slice(interpreter.as_os_str().as_bytes());
    line.extend_from_slice(format!(":{flags}").as_bytes());
    line
}

/// The registration of an architecture under our name for it.
pub fn registration_of(architecture: &Architecture, interpreter: &Path, flags: Flags) -> Vec<u8> {
    registration(
        &entry_name(architecture.name),
        &architecture.magic(),
        &architecture.mask(),
        interpreter,
        flags,
    )
}

/// Name of our entry for an architecture.
pub(crate) fn entry_name(architecture: &str) -> String {
    format!("crossdock-{architecture}")
}

/// A registered format, as its file shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the file.
    pub name: String,
    /// Whether it is in use.
    pub enabled: bool,
    /// Path of the emulator at the time of registration.
    pub interpreter: PathBuf,
    /// Flags.
    pub flags: Flags,
    /// Where in the file the magic begins.
    pub offset: usize,
    /// Bytes to match; empty for an entry that matches by file name extension.
    pub magic: Vec<u8>,
    /// Which bits of the magic count.
    pub mask: Vec<u8>,
}

impl Entry {
    /// Reads the text of an entry's file.
    pub fn parse(name: &str, text: &str) -> Entry {
        let mut entry = Entry {
            name: name.into(),
            enabled: text.lines().next() == Some("enabled"),
            interpreter: PathBuf::new(),
            flags: Flags::default(),
            offset: 0,
            magic: Vec::new(),
            mask: Vec::new(),
        };
        for line in text.lines().skip(1) {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "interpreter" => entry.interpreter = value.into(),
                "flags:" => entry.flags = value.trim().parse().unwrap_or_default(),
                "offset" => entry.offset = value.parse().unwrap_or(0),
                "magic" => entry.magic = unhex(value),
                "mask" => entry.mask = unhex(value),
                _ => {}
            }
        }
        if entry.mask.is_empty() {
            entry.mask = vec![0xff; entry.magic.len()];
        }
        entry
    }

    /// Whether this entry runs executables of the architecture.
    pub fn serves(&self, architecture: &Architecture) -> bool {
        let header = architecture.magic();
        self.enabled
            && self.offset == 0
            && (5..=MAGIC_LENGTH).contains(&self.magic.len())
            && self.magic.iter().zip(&self.mask).zip(header).all(|((magic, mask), byte)| magic & mask == byte & mask)
            // An entry for every ELF file is no emulator.
            && self.magic.len() > 18
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|n| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::ARCHITECTURES;

    #[test]
    fn a_registration_line_is_escaped() {
        let line = registration("n", b":\0", &[0xff, 0xff], Path::new("/q"), Flags::ALL);
        assert_eq!(line, b":n:M::\\x3a\\x00:\\xff\\xff:/q:POCF");
    }

    #[test]
    fn flags_are_read_and_shown() {
        let flags: Flags = "FC".parse().expect("valid");
        assert_eq!(flags.to_string(), "OCF");
        assert_eq!(flags.explain().len(), 3);
        assert!("X".parse::<Flags>().is_err());
    }

    #[test]
    fn entries_of_the_kernel_are_read() {
        let text = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: PF\noffset 0\n\
            magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";
        let entry = Entry::parse("qemu-aarch64", text);
        assert!(entry.enabled && entry.flags.fix_binary && entry.flags.preserve_argv0);
        assert_eq!(entry.interpreter, Path::new("/usr/libexec/qemu-binfmt/aarch64-binfmt-P"));
        let serving: Vec<_> = ARCHITECTURES.iter().filter(|a| entry.serves(a)).map(|a| a.name).collect();
        assert_eq!(serving, ["arm64"]);
        let java =
            Entry::parse("jar", "enabled\ninterpreter /usr/bin/jexec\nflags: \noffset 0\nmagic 504b0304\n");
        assert!(ARCHITECTURES.iter().all(|a| !java.serves(a)));
        let by_name = Entry::parse("x", "disabled\ninterpreter /x\nflags: \nextension .x\n");
        assert!(!by_name.enabled && by_name.magic.is_empty());
    }
}
