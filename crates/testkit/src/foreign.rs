//! Tiny static programs for several CPUs, assembled by hand: a header, one segment, a few instructions.

/// A CPU that this module has programs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// x86-64, `linux/amd64`.
    Amd64,
    /// A64, `linux/arm64`.
    Arm64,
    /// A32 of Armv7 with the EABI5, `linux/arm/v7`.
    Arm,
}

/// Where the segment is mapped.
const BASE: u64 = 0x40_0000;

/// `EF_ARM_EABI_VER5` of the Arm ELF specification (IHI 0044).
const ARM_EABI5: u32 = 0x0500_0000;

/// Writes its `argv[0]` without a newline and exits with 42. Not for amd64.
pub fn hello(cpu: Cpu) -> Vec<u8> {
    hello_and_exit(cpu, 42)
}

/// [`hello`] with another exit code.
pub fn hello_and_exit(cpu: Cpu, code: u8) -> Vec<u8> {
    let code = u32::from(code);
    match cpu {
        Cpu::Amd64 => panic!("a shell does that there"),
        Cpu::Arm64 => elf_of_words(
            cpu,
            &[
                0xf940_07e1,             //       ldr  x1, [sp, #8]     argv[0]
                0xd280_0002,             //       mov  x2, #0
                0x3862_6823,             // loop: ldrb w3, [x1, x2]
                0x3400_0063,             //       cbz  w3, done
                0x9100_0442,             //       add  x2, x2, #1
                0x17ff_fffd,             //       b    loop
                0xd280_0020,             // done: mov  x0, #1
                0xd280_0808,             //       mov  x8, #64           write
                0xd400_0001,             //       svc  #0
                0xd280_0000 | code << 5, // mov x0, #code
                0xd280_0ba8,             //       mov  x8, #93           exit
                0xd400_0001,             //       svc  #0
            ],
        ),
        Cpu::Arm => elf_of_words(
            cpu,
            &[
                0xe59d_1004,        //       ldr  r1, [sp, #4]
                0xe3a0_2000,        //       mov  r2, #0
                0xe7d1_3002,        // loop: ldrb r3, [r1, r2]
                0xe353_0000,        //       cmp  r3, #0
                0x0a00_0001,        //       beq  done
                0xe282_2001,        //       add  r2, r2, #1
                0xeaff_fffa,        //       b    loop
                0xe3a0_0001,        // done: mov  r0, #1
                0xe3a0_7004,        //       mov  r7, #4       write
                0xef00_0000,        //       svc  #0
                0xe3a0_0000 | code, // mov r0, #code
                0xe3a0_7001,        //       mov  r7, #1       exit
                0xef00_0000,        //       svc  #0
            ],
        ),
    }
}

/// Writes the machine that uname(2) tells, 8 bytes of it, and exits with 0: A32.
pub fn machine_arm() -> Vec<u8> {
    elf_of_words(
        Cpu::Arm,
        &[
            0xe24d_df64, // sub sp, sp, #400
            0xe1a0_000d, // mov r0, sp
            0xe3a0_707a, // mov r7, #122        uname
            0xef00_0000, // svc #0
            0xe28d_1f41, // add r1, sp, #260    machine
            0xe3a0_0001, // mov r0, #1
            0xe3a0_2008, // mov r2, #8
            0xe3a0_7004, // mov r7, #4          write
            0xef00_0000, // svc #0
            0xe3a0_0000, // mov r0, #0
            0xe3a0_7001, // mov r7, #1          exit
            0xef00_0000, // svc #0
        ],
    )
}

/// Exits with its effective user id: A64.
pub fn effective_user_arm64() -> Vec<u8> {
    elf_of_words(
        Cpu::Arm64,
        &[
            0xd280_15e8, // mov x8, #175     geteuid
            0xd400_0001, // svc #0
            0xd280_0ba8, // mov x8, #93      exit
            0xd400_0001, // svc #0
        ],
    )
}

/// Dies of an instruction that no CPU has (UDF): A64.
pub fn undefined_arm64() -> Vec<u8> {
    elf_of_words(Cpu::Arm64, &[0x0000_0007])
}

/// Writes "running" and a newline, then runs forever without a system call: A64.
pub fn spin_arm64() -> Vec<u8> {
    elf_of_words(
        Cpu::Arm64,
        &[
            0xd280_0020, // mov  x0, #1
            0x1000_00a1, // adr  x1, text
            0xd280_0102, // mov  x2, #8
            0xd280_0808, // mov  x8, #64     write
            0xd400_0001, // svc  #0
            0x1400_0000, // b    .
            u32::from_le_bytes(*b"runn"),
            u32::from_le_bytes(*b"ing\n"),
        ],
    )
}

/// Makes the directory `argv[1]` with mode 0755; exits with 0 or the low byte of the negative error number.
pub fn mkdir(cpu: Cpu) -> Vec<u8> {
    match cpu {
        Cpu::Amd64 => elf(
            cpu,
            &[
                0x48, 0x8b, 0x7c, 0x24, 0x10, // mov rdi, [rsp + 16]   argv[1]
                0xbe, 0xed, 0x01, 0x00, 0x00, // mov esi, 0755
                0xb8, 0x53, 0x00, 0x00, 0x00, // mov eax, 83           mkdir
                0x0f, 0x05, //                   syscall
                0x89, 0xc7, //                   mov edi, eax
                0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60           exit
                0x0f, 0x05, //                   syscall
            ],
        ),
        Cpu::Arm64 => elf_of_words(
            cpu,
            &[
                0xf940_0be1, // ldr x1, [sp, #16]    argv[1]
                0x9280_0c60, // mov x0, #-100        AT_FDCWD
                0xd280_3da2, // mov x2, #0755
                0xd280_0448, // mov x8, #34          mkdirat
                0xd400_0001, // svc #0
                0xd280_0ba8, // mov x8, #93          exit
                0xd400_0001, // svc #0
            ],
        ),
        Cpu::Arm => elf_of_words(
            cpu,
            &[
                0xe59d_0008, // ldr  r0, [sp, #8]
                0xe300_11ed, // movw r1, #0755
                0xe3a0_7027, // mov  r7, #39         mkdir
                0xef00_0000, // svc  #0
                0xe3a0_7001, // mov  r7, #1          exit
                0xef00_0000, // svc  #0
            ],
        ),
    }
}

fn elf_of_words(cpu: Cpu, code: &[u32]) -> Vec<u8> {
    let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    elf(cpu, &bytes)
}

/// A static executable with one segment: header, program header, code.
fn elf(cpu: Cpu, code: &[u8]) -> Vec<u8> {
    // e_machine of the ELF specification, and e_flags.
    let (machine, flags, wide) = match cpu {
        Cpu::Amd64 => (62, 0, true),
        Cpu::Arm64 => (183, 0, true),
        Cpu::Arm => (40, ARM_EABI5, false),
    };
    let (header, program) = if wide { (64u64, 56u64) } else { (52, 32) };
    let start = header + program;
    let size = start + code.len() as u64;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1];
    bytes.resize(16, 0);
    let half = |bytes: &mut Vec<u8>, value: u16| bytes.extend_from_slice(&value.to_le_bytes());
    let word = |bytes: &mut Vec<u8>, value: u32| bytes.extend_from_slice(&value.to_le_bytes());
    let address = |bytes: &mut Vec<u8>, value: u64| {
        bytes.extend_from_slice(&value.to_le_bytes()[..if wide { 8 } else { 4 }]);
    };
    half(&mut bytes, 2);
    half(&mut bytes, machine);
    word(&mut bytes, 1);
    for value in [BASE + start, header, 0] {
        address(&mut bytes, value);
    }
    word(&mut bytes, flags);
    for value in [header as u16, program as u16, 1, 0, 0, 0] {
        half(&mut bytes, value);
    }
    word(&mut bytes, 1);
    if wide {
        word(&mut bytes, 5);
    }
    for value in [0, BASE, BASE, size, size] {
        address(&mut bytes, value);
    }
    if !wide {
        word(&mut bytes, 5);
    }
    address(&mut bytes, 0x1000);
    bytes.extend_from_slice(code);
    bytes
}
