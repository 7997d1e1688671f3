//! Guest memory: a guest address is a host address.
//!
//! Every access goes through a handful of assembly leaf functions that keep nothing on the stack. When one of
//! them faults, the host's signal handler asks [`resume_after_fault`] where to continue; the access then
//! returns a [`Fault`], the instruction gives up before it has written any register, and the interpreter
//! returns [`crate::a64::Exit::Fault`] with the guest's state as it was before the instruction.
//!
//! Left to others: what is mapped, with which rights, and which guest signal a fault becomes.
#![allow(unsafe_code)]

use core::arch::global_asm;

/// The kind of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store, or an atomic read-modify-write.
    Write,
    /// An instruction fetch.
    Execute,
}

/// An access that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Lowest address of the access that failed, without the tag in its top byte. The host's `si_addr` may be
    /// higher if the access crosses into an unmapped page.
    pub address: u64,
    /// What was attempted.
    pub access: Access,
    /// Whether the host raised a signal. If not, the address was outside the window of guest memory, and the
    /// host memory there was not touched.
    pub host_signal: bool,
}

/// A window of host memory that the guest may touch.
///
/// The top byte of an address is ignored, as Linux does on arm64 (top byte ignore). An access outside the
/// window is a [`Fault`] and never reaches the host's memory: this keeps a guest away from the emulator's own
/// region.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    start: u64,
    /// End of the window minus start.
    length: u64,
    /// A bit that an address outside the window may have set, to mean the address without it; or 0.
    alias: u64,
}

/// What an assembly function returns in registers rax and rdx.
#[repr(C)]
struct Loaded {
    value: u64,
    fault: u64,
}

// The functions between `start` and `end` access guest memory with the return address on top of the stack and
// no callee-saved register changed, so that the handler of a fault anywhere in them can jump to `failed`. The
// 16-byte compare-and-swap keeps rbx in r8 and has its own range.
#[rustfmt::skip]
global_asm!(
    ".pushsection .text.crossdock_emu_access,\"ax\",@progbits",
    ".p2align 4",
    ".irp name,access_end,access_failed,access_start,add16,add32,add64,add8,cas128,cas128_end,cas128_failed,cas128_start,cas16,cas32,cas64,cas8,load128,load16,load32,load64,load8,store128,store16,store32,store64,store8,swap16,swap32,swap64,swap8",
    ".globl crossdock_emu_\\name",
    ".hidden crossdock_emu_\\name",
    ".endr",
    "crossdock_emu_access_start:",
    "crossdock_emu_load8: movzx eax, byte ptr [rdi]",
    "xor edx, edx",
    "ret",
    "crossdock_emu_load16: movzx eax, word ptr [rdi]",
    "xor edx, edx",
    "ret",
    "crossdock_emu_load32: mov eax, dword ptr [rdi]",
    "xor edx, edx",
    "ret",
    "crossdock_emu_load64: mov rax, qword ptr [rdi]",
    "xor edx, edx",
    "ret",
    "crossdock_emu_load128: movdqu xmm0, xmmword ptr [rdi]",
    "movdqu xmmword ptr [rsi], xmm0",
    "xor eax, eax",
    "ret",
    "crossdock_emu_store8: mov byte ptr [rdi], sil",
    "xor eax, eax",
    "ret",
    "crossdock_emu_store16: mov word ptr [rdi], si",
    "xor eax, eax",
    "ret",
    "crossdock_emu_store32: mov dword ptr [rdi], esi",
    "xor eax, eax",
    "ret",
    "crossdock_emu_store64: mov qword ptr [rdi], rsi",
    "xor eax, eax",
    "ret",
    "crossdock_emu_store128: movdqu xmm0, xmmword ptr [rsi]",
    "movdqu xmmword ptr [rdi], xmm0",
    "xor eax, eax",
    "ret",
    "crossdock_emu_swap8: movzx eax, sil",
    "xchg byte ptr [rdi], al",
    "xor edx, edx",
    "ret",
    "crossdock_emu_swap16: movzx eax, si",
    "xchg word ptr [rdi], ax",
    "xor edx, edx",
    "ret",
    "crossdock_emu_swap32: mov eax, esi",
    "xchg dword ptr [rdi], eax",
    "xor edx, edx",
    "ret",
    "crossdock_emu_swap64: mov rax, rsi",
    "xchg qword ptr [rdi], rax",
    "xor edx, edx",
    "ret",
    "crossdock_emu_add8: movzx eax, sil",
    "lock xadd byte ptr [rdi], al",
    "xor edx, edx",
    "ret",
    "crossdock_emu_add16: movzx eax, si",
    "lock xadd word ptr [rdi], ax",
    "xor edx, edx",
    "ret",
    "crossdock_emu_add32: mov eax, esi",
    "lock xadd dword ptr [rdi], eax",
    "xor edx, edx",
    "ret",
    "crossdock_emu_add64: mov rax, rsi",
    "lock xadd qword ptr [rdi], rax",
    "xor edx, edx",
    "ret",
    "crossdock_emu_cas8: movzx eax, sil",
    "lock cmpxchg byte ptr [rdi], dl",
    "xor edx, edx",
    "ret",
    "crossdock_emu_cas16: movzx eax, si",
    "lock cmpxchg word ptr [rdi], dx",
    "xor edx, edx",
    "ret",
    "crossdock_emu_cas32: mov eax, esi",
    "lock cmpxchg dword ptr [rdi], edx",
    "xor edx, edx",
    "ret",
    "crossdock_emu_cas64: mov rax, rsi",
    "lock cmpxchg qword ptr [rdi], rdx",
    "xor edx, edx",
    "ret",
    "crossdock_emu_access_end:",
    "crossdock_emu_access_failed: mov eax, 1",
    "mov edx, eax",
    "ret",
    "crossdock_emu_cas128:",
    "mov r8, rbx",
    "mov r9, rdx",
    "mov rax, [rsi]",
    "mov rdx, [rsi + 8]",
    "mov rbx, [r9]",
    "mov rcx, [r9 + 8]",
    "crossdock_emu_cas128_start:",
    "lock cmpxchg16b xmmword ptr [rdi]",
    "crossdock_emu_cas128_end:",
    "mov [rsi], rax",
    "mov [rsi + 8], rdx",
    "mov rbx, r8",
    "xor eax, eax",
    "ret",
    "crossdock_emu_cas128_failed: mov rbx, r8",
    "mov eax, 1",
    "ret",
    ".popsection",
);

unsafe extern "C" {
    fn crossdock_emu_access_start();
    fn crossdock_emu_access_end();
    fn crossdock_emu_access_failed();
    fn crossdock_emu_cas128_start();
    fn crossdock_emu_cas128_end();
    fn crossdock_emu_cas128_failed();
    fn crossdock_emu_load8(address: u64) -> Loaded;
    fn crossdock_emu_load16(address: u64) -> Loaded;
    fn crossdock_emu_load32(address: u64) -> Loaded;
    fn crossdock_emu_load64(address: u64) -> Loaded;
    fn crossdock_emu_load128(address: u64, value: *mut [u64; 2]) -> u64;
    fn crossdock_emu_store8(address: u64, value: u64) -> u64;
    fn crossdock_emu_store16(address: u64, value: u64) -> u64;
    fn crossdock_emu_store32(address: u64, value: u64) -> u64;
    fn crossdock_emu_store64(address: u64, value: u64) -> u64;
    fn crossdock_emu_store128(address: u64, value: *const [u64; 2]) -> u64;
    fn crossdock_emu_swap8(address: u64, value: u64) -> Loaded;
    fn crossdock_emu_swap16(address: u64, value: u64) -> Loaded;
    fn crossdock_emu_swap32(address: u64, value: u64) -> Loaded;
    fn crossdock_emu_swap64(address: u64, value: u64) -> Loaded;
    fn crossdock_emu_add8(address: u64, value: u64) -> Loaded;
    fn crossdock_emu_add16(address: u64, value: u64) -> Loaded;
    fn crossdock_emu_add32(address: u64, value: u64) -> Loaded;
    fn crossdock_emu_add64(address: u64, value: u64) -> Loaded;
    fn crossdock_emu_cas8(address: u64, expected: u64, new: u64) -> Loaded;
    fn crossdock_emu_cas16(address: u64, expected: u64, new: u64) -> Loaded;
    fn crossdock_emu_cas32(address: u64, expected: u64, new: u64) -> Loaded;
    fn crossdock_emu_cas64(address: u64, expected: u64, new: u64) -> Loaded;
    fn crossdock_emu_cas128(address: u64, expected: *mut [u64; 2], new: *const [u64; 2]) -> u64;
}

/// Where a SIGSEGV or SIGBUS handler of the host continues a guest access that faulted at `host_pc`: it
/// stores the result as the new instruction pointer of its context and returns. `None` says the fault is not
/// the guest's.
///
/// Safe to call in a signal handler: it compares addresses and nothing else.
pub fn resume_after_fault(host_pc: usize) -> Option<usize> {
    let address = |function: unsafe extern "C" fn()| function as usize;
    if (address(crossdock_emu_access_start)..address(crossdock_emu_access_end)).contains(&host_pc) {
        Some(address(crossdock_emu_access_failed))
    } else if (address(crossdock_emu_cas128_start)..address(crossdock_emu_cas128_end)).contains(&host_pc) {
        Some(address(crossdock_emu_cas128_failed))
    } else {
        None
    }
}

/// The address without its tag: bits 63 to 56 take the value of bit 55 (manual D8.8, address tagging).
#[inline(always)]
pub fn untagged(address: u64) -> u64 {
    (((address << 8) as i64) >> 8) as u64
}

impl Memory {
    /// A window of guest memory `[start, end)`.
    ///
    /// # Safety
    ///
    /// Nothing in the window may be memory that Rust code relies on, other than through raw pointers: the
    /// guest reads and writes all of it at will, from any thread. If pages in it may be unmapped or
    /// protected, the process must have handlers for SIGSEGV and SIGBUS that use [`resume_after_fault`].
    pub const unsafe fn new(start: u64, end: u64) -> Self {
        assert!(start <= end, "a window of memory ends before it starts");
        Memory { start, length: end - start, alias: 0 }
    }

    /// A window that holds nothing.
    pub const NOTHING: Memory = Memory { start: 0, length: 0, alias: 0 };

    /// The same window, which can also be reached by addresses with the bit `alias`: a guest with more
    /// address bits than the host then finds its memory at two places.
    ///
    /// # Panics
    ///
    /// If addresses of the window have the bit.
    #[must_use]
    pub const fn with_alias(self, alias: u64) -> Self {
        assert!(self.start + self.length <= alias, "the window's addresses have the bit of the alias");
        Memory { alias, ..self }
    }

    /// Whether the byte at an address without tag lies in the window.
    #[inline(always)]
    pub fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.start) < self.length
    }

    /// Checks that `[address, address + size)` lies in the window, and returns the address without its tag.
    #[inline(always)]
    fn check(&self, address: u64, size: u64, access: Access) -> Result<u64, Fault> {
        let address = untagged(address);
        let offset = address.wrapping_sub(self.start);
        if offset < self.length && self.length - offset >= size {
            Ok(address)
        } else {
            self.check_alias(address, size, access)
        }
    }

    /// [`Memory::check`] of an address outside the window.
    #[cold]
    fn check_alias(&self, address: u64, size: u64, access: Access) -> Result<u64, Fault> {
        let offset = (address & !self.alias).wrapping_sub(self.start);
        if address & self.alias != 0 && offset < self.length && self.length - offset >= size {
            Ok(address & !self.alias)
        } else {
            Err(Fault { address, access, host_signal: false })
        }
    }

    /// Loads `1 << size` bytes (`size` 0 to 3), little endian, zero-extended.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the bytes are outside the window or not readable.
    #[inline(always)]
    pub fn load(&self, address: u64, size: u8) -> Result<u64, Fault> {
        let address = self.check(address, 1 << size, Access::Read)?;
        // SAFETY: the address is in the window, which its creator gave to the guest.
        let loaded = unsafe {
            match size {
                0 => crossdock_emu_load8(address),
                1 => crossdock_emu_load16(address),
                2 => crossdock_emu_load32(address),
                _ => crossdock_emu_load64(address),
            }
        };
        if loaded.fault == 0 { Ok(loaded.value) } else { Err(host_fault(address, Access::Read)) }
    }

    /// Loads an instruction word.
    ///
    /// # Errors
    ///
    /// [`Fault`] with [`Access::Execute`].
    pub fn fetch(&self, address: u64) -> Result<u32, Fault> {
        self.load(address, 2)
            .map(|word| word as u32)
            .map_err(|fault| Fault { access: Access::Execute, ..fault })
    }

    /// Loads 16 bytes; to other threads these are two accesses of 8 bytes.
    ///
    /// # Errors
    ///
    /// As [`Memory::load`].
    #[inline(always)]
    pub fn load128(&self, address: u64) -> Result<u128, Fault> {
        let address = self.check(address, 16, Access::Read)?;
        let mut value = [0; 2];
        // SAFETY: as in `load`; the result goes to a local of 16 bytes.
        if unsafe { crossdock_emu_load128(address, &mut value) } == 0 {
            Ok(u128::from(value[0]) | u128::from(value[1]) << 64)
        } else {
            Err(host_fault(address, Access::Read))
        }
    }

    /// Stores the low `1 << size` bytes of `value` (`size` 0 to 3).
    ///
    /// # Errors
    ///
    /// [`Fault`] if the bytes are outside the window or not writable.
    #[inline(always)]
    pub fn store(&self, address: u64, size: u8, value: u64) -> Result<(), Fault> {
        let address = self.check(address, 1 << size, Access::Write)?;
        // SAFETY: as in `load`.
        let fault = unsafe {
            match size {
                0 => crossdock_emu_store8(address, value),
                1 => crossdock_emu_store16(address, value),
                2 => crossdock_emu_store32(address, value),
                _ => crossdock_emu_store64(address, value),
            }
        };
        if fault == 0 { Ok(()) } else { Err(host_fault(address, Access::Write)) }
    }

    /// Stores 16 bytes.
    ///
    /// # Errors
    ///
    /// As [`Memory::store`].
    #[inline(always)]
    pub fn store128(&self, address: u64, value: u128) -> Result<(), Fault> {
        let address = self.check(address, 16, Access::Write)?;
        // SAFETY: as in `load`; the value comes from a local of 16 bytes.
        if unsafe { crossdock_emu_store128(address, &[value as u64, (value >> 64) as u64]) } == 0 {
            Ok(())
        } else {
            Err(host_fault(address, Access::Write))
        }
    }

    /// Atomically replaces `1 << size` bytes (sequentially consistent); returns the old value.
    ///
    /// # Errors
    ///
    /// As [`Memory::store`].
    pub fn swap(&self, address: u64, size: u8, value: u64) -> Result<u64, Fault> {
        let address = self.check(address, 1 << size, Access::Write)?;
        // SAFETY: as in `load`.
        let loaded = unsafe {
            match size {
                0 => crossdock_emu_swap8(address, value),
                1 => crossdock_emu_swap16(address, value),
                2 => crossdock_emu_swap32(address, value),
                _ => crossdock_emu_swap64(address, value),
            }
        };
        if loaded.fault == 0 { Ok(loaded.value) } else { Err(host_fault(address, Access::Write)) }
    }

    /// Atomically adds to `1 << size` bytes (sequentially consistent); returns the old value.
    ///
    /// # Errors
    ///
    /// As [`Memory::store`].
    pub fn fetch_add(&self, address: u64, size: u8, value: u64) -> Result<u64, Fault> {
        let address = self.check(address, 1 << size, Access::Write)?;
        // SAFETY: as in `load`.
        let loaded = unsafe {
            match size {
                0 => crossdock_emu_add8(address, value),
                1 => crossdock_emu_add16(address, value),
                2 => crossdock_emu_add32(address, value),
                _ => crossdock_emu_add64(address, value),
            }
        };
        if loaded.fault == 0 { Ok(loaded.value) } else { Err(host_fault(address, Access::Write)) }
    }

    /// Atomically stores `new` if the `1 << size` bytes equal the low bytes of `expected` (sequentially
    /// consistent); returns the value seen.
    ///
    /// # Errors
    ///
    /// As [`Memory::store`].
    pub fn compare_swap(&self, address: u64, size: u8, expected: u64, new: u64) -> Result<u64, Fault> {
        let address = self.check(address, 1 << size, Access::Write)?;
        // SAFETY: as in `load`.
        let loaded = unsafe {
            match size {
                0 => crossdock_emu_cas8(address, expected, new),
                1 => crossdock_emu_cas16(address, expected, new),
                2 => crossdock_emu_cas32(address, expected, new),
                _ => crossdock_emu_cas64(address, expected, new),
            }
        };
        if loaded.fault == 0 { Ok(loaded.value) } else { Err(host_fault(address, Access::Write)) }
    }

    /// [`Memory::compare_swap`] of 16 bytes; the address must be a multiple of 16.
    ///
    /// # Errors
    ///
    /// As [`Memory::store`].
    pub fn compare_swap128(&self, address: u64, expected: u128, new: u128) -> Result<u128, Fault> {
        let address = self.check(address, 16, Access::Write)?;
        let mut seen = [expected as u64, (expected >> 64) as u64];
        let new = [new as u64, (new >> 64) as u64];
        // SAFETY: as in `load`; both values are locals of 16 bytes.
        if unsafe { crossdock_emu_cas128(address, &mut seen, &new) } == 0 {
            Ok(u128::from(seen[0]) | u128::from(seen[1]) << 64)
        } else {
            Err(host_fault(address, Access::Write))
        }
    }
}

#[cold]
fn host_fault(address: u64, access: Access) -> Fault {
    Fault { address, access, host_signal: true }
}
