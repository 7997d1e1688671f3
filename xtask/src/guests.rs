//! The guests that long runs can be made for: how they are compiled for, where they run, and which tools of
//! others they need.

use anyhow::{Context, Result};

use crate::tools::require;

/// Debian's suite for most guests, and for the host's CPU beside them.
pub const SUITE: &str = "bookworm";

/// A guest of the emulator, as Debian, gcc and QEMU know it.
#[derive(Debug)]
pub struct Guest {
    /// The word after `--guest`.
    pub name: &'static str,
    /// Debian's architecture.
    pub debian: &'static str,
    /// Debian's suite in which long runs take place, unless another is asked for.
    pub suite: &'static str,
    /// The platform of images.
    pub platform: &'static str,
    /// QEMU's executable.
    pub qemu: &'static str,
    /// The compiler for it, and the Debian packages that bring the compiler and a C library.
    pub compiler: &'static str,
    packages: [&'static str; 2],
    /// A library of the second package.
    c_library: &'static str,
    /// How test programs are compiled: an ending of the case's name, and options of gcc.
    pub forms: &'static [(&'static str, &'static [&'static str])],
    /// Options of gcc for the programs of `bench emulator`: a CPU that people have, with its vectors.
    pub bench: &'static [&'static str],
    /// More of them, for programs that gcc is to vectorize: 32-bit Arm's vectors flush subnormal numbers, so
    /// gcc uses them for floats only if it is told that this does not matter. The program's start then makes
    /// all of its arithmetic flush, which no distribution's program does, so others go without.
    pub vectors: &'static [&'static str],
    /// For guests whose vectors are an extension, which clang 16 uses and gcc 12 does not: its options, and
    /// the CPU that QEMU is to be. `bench emulator` has rows of `loops.c` for them.
    pub loops: Option<Loops>,
    /// Debian packages of the package job that this architecture has not.
    pub without: &'static [&'static str],
    /// Where tests lie that are for it alone, below the checkout.
    pub tests: &'static [&'static str],
    /// What file(1) says of its programs.
    pub file: &'static str,
    /// EI_CLASS and e_machine (System V ABI, gABI, chapter 4).
    elf: [u8; 2],
}

/// How the loops of `bench emulator` are compiled for a guest's vectors, and which CPU of QEMU has them.
#[derive(Debug)]
pub struct Loops {
    /// Options of clang.
    pub options: &'static [&'static str],
    /// What QEMU_CPU is when they run.
    pub cpu: &'static str,
}

static GUESTS: [Guest; 4] = [
    Guest {
        name: "arm64",
        debian: "arm64",
        suite: SUITE,
        platform: "linux/arm64",
        qemu: "qemu-aarch64-static",
        compiler: "aarch64-linux-gnu-gcc",
        packages: ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        c_library: "/usr/aarch64-linux-gnu/lib/libc.a",
        forms: &[("", &[])],
        bench: &[],
        vectors: &[],
        loops: None,
        without: &[],
        tests: &[],
        file: "ARM aarch64",
        elf: [2, 183],
    },
    Guest {
        name: "arm",
        debian: "armhf",
        suite: SUITE,
        platform: "linux/arm/v7",
        qemu: "qemu-arm-static",
        compiler: "arm-linux-gnueabihf-gcc",
        packages: ["gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross"],
        c_library: "/usr/arm-linux-gnueabihf/lib/libc.a",
        forms: &[("-marm", &["-marm"]), ("-mthumb", &["-mthumb"])],
        bench: &["-mcpu=cortex-a7", "-mfpu=neon-vfpv4"],
        vectors: &["-funsafe-math-optimizations"],
        loops: None,
        without: &[],
        tests: &["guest-tests/arm"],
        file: "ARM, EABI5",
        elf: [1, 40],
    },
    Guest {
        name: "armel",
        debian: "armel",
        suite: SUITE,
        // Debian's java for armel needs Armv6K (armv6k-support); all else runs on Armv5.
        platform: "linux/arm/v6",
        qemu: "qemu-arm-static",
        compiler: "arm-linux-gnueabi-gcc",
        packages: ["gcc-arm-linux-gnueabi", "libc6-dev-armel-cross"],
        c_library: "/usr/arm-linux-gnueabi/lib/libc.a",
        forms: &[
            ("-armv6", &["-march=armv6", "-marm"]),
            ("-armv5", &["-march=armv5te", "-marm"]),
            // T32 of 16 bits, with BX between the two sets.
            ("-thumb1", &["-march=armv5te", "-mthumb"]),
        ],
        bench: &["-march=armv5te", "-marm"],
        vectors: &[],
        loops: None,
        without: &[],
        tests: &["guest-tests/arm"],
        file: "ARM, EABI5",
        elf: [1, 40],
    },
    Guest {
        name: "riscv64",
        debian: "riscv64",
        // The first release with this architecture.
        suite: "trixie",
        platform: "linux/riscv64",
        qemu: "qemu-riscv64-static",
        compiler: "riscv64-linux-gnu-gcc",
        packages: ["gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross"],
        c_library: "/usr/riscv64-linux-gnu/lib/libc.a",
        forms: &[("", &[])],
        bench: &[],
        vectors: &[],
        loops: Some(Loops {
            options: &["--target=riscv64-linux-gnu", "-march=rv64gcv"],
            cpu: "rv64,v=true,vlen=128,vext_spec=v1.0",
        }),
        without: &[],
        tests: &["guest-tests/riscv"],
        file: "UCB RISC-V",
        elf: [2, 243],
    },
];

/// The guest that this word names.
///
/// # Errors
///
/// The word names none; the message lists them.
pub fn find(name: &str) -> Result<&'static Guest> {
    let names = || GUESTS.each_ref().map(|guest| guest.name).join(", ");
    let found = GUESTS.iter().find(|guest| guest.name == name);
    found.with_context(|| format!("no guest {name}; there are {}", names()))
}

impl Guest {
    /// Ensures that its compiler, its C library and QEMU are installed.
    pub fn require_tools(&self) -> Result<()> {
        require(&[
            (self.qemu, "qemu-user-static"),
            (self.compiler, self.packages[0]),
            (self.c_library, self.packages[1]),
            ("gcc", "gcc"),
        ])
    }

    /// The line that registers a handler for its programs with binfmt_misc (Linux,
    /// admin-guide/binfmt-misc.rst), with the flags F and P: little-endian, an executable or a shared object.
    pub fn registration(&self, handler: &str) -> String {
        let [class, machine] = self.elf;
        let start = format!(r"\x7fELF\x{class:02x}\x01\x01\x00");
        let zeroes = r"\x00".repeat(8);
        let kind = format!(r"\x02\x00\x{machine:02x}\x00");
        let mask = format!(r"{}\x00{}\xfe\xff\xff\xff", r"\xff".repeat(7), r"\xff".repeat(8));
        format!(":{}:M::{start}{zeroes}{kind}:{mask}:{handler}:FP", self.name)
    }
}
