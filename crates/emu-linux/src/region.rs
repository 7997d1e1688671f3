//! The emulator's own part of the address space, above all of the guest's memory.
//!
//! ```text
//! 0 ........ guest ........ | free | gap | heap | blocks of threads | start of the heap, translated code |
//! our executable, the host's stack, vDSO | end
//!                           ^ limit()
//!                                  ^ start(), end of the window of guest memory
//! ```
//!
//! The guest sees 39 bits of addresses, as with Linux on many arm64 boards: programs that divide their
//! address space by a table (such as ThreadSanitizer) know 39, 42 and 48 bits, and the host has 47. The
//! addresses above are kept free until a program needs more ([`raise_limit`]).
//!
//! The heap and translated code start with small pages, a megabyte each, and go on with huge ones. A process
//! that runs translations of earlier ones needs some fifty pages, and the kernel takes longer to clear a huge
//! page than to give these; one that translates needs many, and huge ones cost it least.
//!
//! All gaps above the limit are filled, so that the kernel places the guest's mappings only below it.

use crate::lock::{self, Held, Lock};
use crate::sys::memory::{
    self, MAP_FIXED_NOREPLACE, MAP_NORESERVE, PAGE, PROT_NONE, PROT_READ_WRITE, PROT_READ_WRITE_EXECUTE,
    map_new,
};
use crate::sys::{Errno, errno, process};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes for the heap, and again as many for blocks of threads.
const HALF: u64 = 16 << 30;
/// Bytes of a thread's block. Blocks are aligned to their size: any address in one gives its start.
pub(crate) const BLOCK: u64 = 1 << 20;

/// Most bytes for translated code.
const CODE_SIZE_MAX: u64 = 1 << 30;

/// Least bytes of the inaccessible gap between the guest and our heap: it stops accesses that run past the
/// end of the guest's memory, and writes of the kernel to a buffer that is too short. Translated code does
/// not compare its addresses with the window, so the size is random: no distance from an address that the
/// guest knows leads to our memory.
const GUARD: u64 = 1 << 36;
/// Random bits of the guard's size, in pages.
const GUARD_BITS: u32 = 26;

/// Address bits that the guest sees: one less than the number of the highest bit of `TASK_SIZE` (arm64,
/// CONFIG_ARM64_VA_BITS_39).
const BITS: u32 = 39;
/// Random bits of the highest address, in pages (arm64, CONFIG_ARCH_MMAP_RND_BITS with 39 bits).
pub(crate) const RANDOM_BITS: u32 = 18;
/// The end of a 32-bit guest's addresses, as the kernels of boards with 32-bit CPUs have it
/// (CONFIG_VMSPLIT_3G).
const NARROW_END: u64 = 0xc000_0000;
/// Random bits of a 32-bit guest's highest address, in pages (arm, CONFIG_ARCH_MMAP_RND_BITS).
pub(crate) const NARROW_RANDOM_BITS: u32 = 8;

static START: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(0);
static HEAP: Lock<Bump> = lock::new(Bump { next: 0, accessible: 0, end: 0, ready: Ready::NONE, then: 0..0 });
static CODE_READY: Lock<Ready> = lock::new(Ready::NONE);
static BLOCKS: AtomicU64 = AtomicU64::new(0);
static BLOCKS_END: AtomicU64 = AtomicU64::new(0);
static CODE: AtomicU64 = AtomicU64::new(0);
/// 0 where memory that is writable and executable is refused.
static CODE_SIZE: AtomicU64 = AtomicU64::new(0);

struct Bump {
    next: u64,
    /// Memory below this address is readable and writable.
    accessible: u64,
    end: u64,
    ready: Ready,
    /// The memory to use after this.
    then: Range<u64>,
}

/// Memory used upwards from `from`; up to `to`, it has pages.
struct Ready {
    from: u64,
    to: u64,
    /// Least bytes that get pages at once; as a rule a quarter of what has pages, at most [`STEP`].
    least: u64,
    /// Huge pages are tried from here on; `u64::MAX` where the host has none.
    huge: u64,
}

/// [`Ready::least`] of the heap, and of translated code: a process that only runs translations of earlier
/// ones has but the thunks there.
const HEAP_LEAST: u64 = 64 << 10;
const CODE_LEAST: u64 = 16 << 10;
/// Bytes of the heap's start; as many of small pages follow for translated code.
const HEAP_FIRST: u64 = 1 << 20;
/// A huge page, which costs as much as a few small ones.
const HUGE: u64 = 2 << 20;

impl Ready {
    const NONE: Ready = Ready::new(0, 0, 0);

    const fn new(from: u64, least: u64, huge: u64) -> Ready {
        Ready { from, to: from, least, huge }
    }

    /// Asks the kernel for pages up to `end` and some more, up to `limit`.
    fn extend(&mut self, end: u64, limit: u64) {
        while end > self.to {
            if self.to >= self.huge && self.to.is_multiple_of(HUGE) && limit - self.to >= HUGE {
                if get_huge_page(self.to) {
                    self.to += HUGE;
                    continue;
                }
                self.huge = u64::MAX;
            }
            let border =
                if self.huge == u64::MAX { limit } else { limit.min((self.to + 1).next_multiple_of(HUGE)) };
            let more = ((self.to - self.from) / 4).clamp(self.least, STEP) & !(PAGE - 1);
            let to = end.next_multiple_of(PAGE).max(self.to + more).min(border);
            populate(self.to, to - self.to);
            self.to = to;
        }
    }
}

/// Asks for a huge page at an address of ours, not yet written to; false where the host gives none.
fn get_huge_page(address: u64) -> bool {
    const MADV_HUGEPAGE: u64 = 14;
    // SAFETY: the zero written to the first byte is the value it had.
    unsafe {
        let _ = memory::advise(address, HUGE, MADV_HUGEPAGE);
        (address as *mut u8).write_volatile(0);
    }
    memory::is_resident(address + PAGE)
}

/// First address that is not the guest's.
pub fn start() -> u64 {
    START.load(Ordering::Relaxed)
}

/// End of the guest's mappings; at most [`start`].
pub fn limit() -> u64 {
    LIMIT.load(Ordering::Relaxed)
}

/// Whether all of `[address, address + length)` may be the guest's now.
pub fn is_guest(address: u64, length: u64) -> bool {
    address.checked_add(length).is_some_and(|end| end <= limit())
}

/// Whether all of `[address, address + length)` could be the guest's, perhaps with a higher limit.
pub fn could_be_guest(address: u64, length: u64) -> bool {
    address.checked_add(length).is_some_and(|end| end <= start())
}

/// A pointer for the kernel. One into the region is replaced by an address that can never be read or written:
/// the kernel refuses it then, in its usual order of checks.
pub(crate) fn harmless(address: u64) -> u64 {
    if address >= start() && address >> 47 == 0 { start() } else { address }
}

/// Reserves the addresses between the guest's highest and the region, so that nothing is placed there. Where
/// the kernel refuses (`ulimit -v`), the guest sees all addresses.
fn take_limit(start: u64, random: u64) {
    let random = random & ((1 << RANDOM_BITS) - 1);
    let limit = (1 << BITS) - (1 + random) * PAGE;
    let is_taken = limit < start && take(limit, start - limit);
    LIMIT.store(if is_taken { limit } else { start }, Ordering::Relaxed);
}

/// Whether the guest's mappings end below [`BITS`] bits.
pub(crate) fn is_small() -> bool {
    limit() < 1 << BITS
}

/// Whether the guest's addresses have 32 bits.
static IS_NARROW: AtomicBool = AtomicBool::new(false);

/// Whether the guest's addresses have 32 bits.
pub(crate) fn is_narrow() -> bool {
    IS_NARROW.load(Ordering::Relaxed)
}

/// Ends the guest's mappings below [`NARROW_END`], for a guest with 32-bit addresses: everything above but
/// `free`, which the kernel maps on such machines, is kept from now on. False if the host refuses. Nothing of
/// the guest's may be mapped yet.
pub(crate) fn make_narrow(free: &Range<u64>) -> bool {
    let random = if randomize() { memory::random::<1>()[0] & ((1 << NARROW_RANDOM_BITS) - 1) } else { 0 };
    let (end, limit) = (NARROW_END - random * PAGE, limit());
    let is_taken = take(end, free.start - end) && take(free.end, limit - free.end);
    if is_taken {
        IS_NARROW.store(true, Ordering::Relaxed);
        LIMIT.store(end, Ordering::Relaxed);
    }
    is_taken
}

/// Bit 47, which the host's addresses do not have: guests that want 48 bits see their stack with it.
pub(crate) const ALIAS: u64 = 1 << 47;

static IS_STACK_HIGH: AtomicBool = AtomicBool::new(false);

/// Whether the addresses of the first thread's stack have 48 bits: the guest may name all its memory by
/// addresses with the bit [`ALIAS`], too.
pub(crate) fn is_stack_high() -> bool {
    IS_STACK_HIGH.load(Ordering::Relaxed)
}

/// Makes [`is_stack_high`] true; before the guest runs.
pub(crate) fn make_stack_high() {
    IS_STACK_HIGH.store(true, Ordering::Relaxed);
}

/// A guest's address as the host has it: one of the user's half without its tag and without [`ALIAS`].
pub(crate) fn host_address(address: u64) -> u64 {
    const USER_HALF: u64 = 1 << 55;
    if address & USER_HALF != 0 {
        return address;
    }
    let address = address & ((1 << 56) - 1);
    if is_stack_high() && address >> 47 == 1 { address & !ALIAS } else { address }
}

/// Gives the guest all addresses below the region; false if it already has them, or cannot use them. One
/// thread at a time.
pub(crate) fn raise_limit() -> bool {
    if is_narrow() {
        return false;
    }
    let (limit, start) = (limit(), start());
    if limit < start {
        release(limit, start - limit);
        LIMIT.store(start, Ordering::Relaxed);
    }
    limit < start
}

/// Whether there is no room for `length` bytes below the region: the kernel has none, or only above, where it
/// looks last.
pub(crate) fn is_full(length: u64) -> bool {
    let got = reserve(length);
    if let Ok(at) = got {
        release(at, length);
    }
    !got.is_ok_and(|at| at < start())
}

unsafe extern "C" {
    static __executable_start: u8;
    static _end: u8;
}

/// The start of the executable: its first bytes, which are never written.
pub(crate) fn executable_start() -> &'static [u8; 2048] {
    // SAFETY: the first page of the executable is mapped, from its ELF header on.
    unsafe { &*(&raw const __executable_start).cast() }
}

/// Start address of the executable.
pub(crate) fn executable() -> u64 {
    &raw const __executable_start as u64
}

/// Reserves addresses at a place of the kernel's choice.
fn reserve(length: u64) -> Result<u64, Errno> {
    map_new(0, length, PROT_NONE, MAP_NORESERVE)
}

/// Reserves these addresses, if nothing is there.
fn take(address: u64, length: u64) -> bool {
    map_new(address, length, PROT_NONE, MAP_NORESERVE | MAP_FIXED_NOREPLACE) == Ok(address)
}

fn release(address: u64, length: u64) {
    // SAFETY: only for what `reserve` returned.
    let _ = unsafe { memory::unmap(address, length) };
}

/// Fills the gaps above `start`, which the kernel would choose for the guest before any address below.
///
/// As a rule there is one, from the executable's end up to where the kernel begins its search: less than 2
/// MiB, since the kernel aligns large files to that.
fn fill_gaps(start: u64) {
    let fill = |size| {
        let filler = reserve(size).ok()?;
        let is_above = filler > start;
        if !is_above {
            release(filler, size);
        }
        is_above.then_some(filler)
    };
    let Some(highest) = fill(PAGE) else { return };
    let end = (&raw const _end as u64).next_multiple_of(PAGE);
    if end < highest {
        take(end, highest - end);
    }
    if fill(PAGE).is_none() {
        return;
    }
    let mut size = 2 << 20;
    while fill(size).is_some() {
        size *= 2;
    }
    while size > PAGE {
        size /= 2;
        while fill(size).is_some() {}
    }
}

/// Whether addresses are random (`setarch -R` turns that off).
pub(crate) fn randomize() -> bool {
    const ADDR_NO_RANDOMIZE: u64 = 0x4_0000;
    process::personality() & ADDR_NO_RANDOMIZE == 0
}

/// Reserves the region; once, at the start. False if the executable lies below it or memory is refused.
pub(crate) fn init() -> bool {
    let [random] = if randomize() { memory::random() } else { [0] };
    let mut half = HALF;
    let mut guard = GUARD + (random >> (64 - GUARD_BITS)) * PAGE;
    let start = loop {
        if let Ok(start) = reserve(guard + 2 * half) {
            break start;
        }
        half /= 2;
        guard = (guard / 4) & !(PAGE - 1);
        if half < 1 << 27 {
            return false;
        }
    };
    if start > executable() {
        release(start, guard + 2 * half);
        return false;
    }
    fill_gaps(start);
    let heap = (start + guard) & !(HUGE - 1);
    let blocks = (heap + half).next_multiple_of(BLOCK);
    let size = CODE_SIZE_MAX.min(half / 2) & !(BLOCK - 1);
    let shared = (heap + 2 * half - size) & !(HUGE - 1);
    let first = shared..shared + HEAP_FIRST;
    let executable = give_rights(shared, size, PROT_READ_WRITE_EXECUTE);
    if !executable && !give_rights(shared, HEAP_FIRST, PROT_READ_WRITE) {
        return false;
    }
    *HEAP.lock() = Bump {
        next: first.start,
        accessible: first.end,
        end: first.end,
        ready: Ready::new(first.start, HEAP_LEAST, u64::MAX),
        then: heap..heap + half,
    };
    BLOCKS.store(blocks, Ordering::Relaxed);
    BLOCKS_END.store(shared, Ordering::Relaxed);
    *CODE_READY.lock() = Ready::new(first.end, CODE_LEAST, shared + HUGE);
    CODE.store(first.end, Ordering::Relaxed);
    CODE_SIZE.store(if executable { size - HEAP_FIRST } else { 0 }, Ordering::Relaxed);
    START.store(start, Ordering::Relaxed);
    take_limit(start, random);
    true
}

/// Bytes of the heap made accessible at a time: whole huge pages.
const STEP: u64 = HUGE;

/// Asks the kernel for all pages of a part of the region (Linux 5.14; before, they come one by one).
fn populate(address: u64, length: u64) {
    const MADV_POPULATE_WRITE: u64 = 23;
    // SAFETY: gives pages to memory of our own that nothing has been written to yet.
    let _ = unsafe { memory::advise(address, length, MADV_POPULATE_WRITE) };
}

/// Gives rights to pages of the region that nothing uses yet; false if the kernel refuses.
fn give_rights(address: u64, length: u64, protection: u64) -> bool {
    // SAFETY: nothing relies on the pages yet.
    unsafe { memory::protect(address, length, protection).is_ok() }
}

/// Takes `length` bytes for the heap, at a multiple of `align`; never given back. 0 if none are left.
pub(crate) fn heap_take(length: u64, align: u64) -> u64 {
    let mut heap = HEAP.lock();
    let fits = |heap: &Bump| heap.next.next_multiple_of(align).saturating_add(length) <= heap.end;
    if !fits(&heap) {
        let Range { start, end } = core::mem::take(&mut heap.then);
        if start == end {
            return 0;
        }
        let ready = Ready::new(start, HEAP_LEAST, start);
        *heap = Bump { next: start, accessible: start, end, ready, then: 0..0 };
        if !fits(&heap) {
            return 0;
        }
    }
    let at = heap.next.next_multiple_of(align);
    let next = at + length;
    if next > heap.accessible {
        let to = next.next_multiple_of(STEP).min(heap.end);
        if !give_rights(heap.accessible, to - heap.accessible, PROT_READ_WRITE) {
            return 0;
        }
        heap.accessible = to;
    }
    let limit = heap.accessible;
    heap.ready.extend(next, limit);
    heap.next = next;
    at
}

/// Start and size of the executable memory for translated code; `None` where the host refuses such memory.
pub(crate) fn code_arena() -> Option<(u64, u64)> {
    let (code, size) = (CODE.load(Ordering::Relaxed), CODE_SIZE.load(Ordering::Relaxed));
    (size != 0).then_some((code, size))
}

/// Gives the memory for translated code pages up to `end` and some more; returns where they end.
pub(crate) fn code_ready(end: u64) -> u64 {
    let limit = CODE.load(Ordering::Relaxed) + CODE_SIZE.load(Ordering::Relaxed);
    let mut ready = CODE_READY.lock();
    ready.extend(end, limit);
    ready.to
}

/// Number of blocks ever handed out. Those whose first word is 0 are free.
static BLOCKS_KNOWN: Lock<u64> = lock::new(0);

/// Keeps blocks from being taken, for a fork.
pub(crate) fn hold_blocks() -> Held<'static, u64> {
    BLOCKS_KNOWN.lock()
}

/// Takes a block for a thread. Only the parts that `usable` lists, as offset and length, are readable and
/// writable. The first 4 bytes of a free block are 0; they are set to 1 here.
pub(crate) fn take_block(usable: &[(u64, u64)]) -> Result<u64, Errno> {
    let mut known = BLOCKS_KNOWN.lock();
    let first = BLOCKS.load(Ordering::Relaxed);
    let used = |at: u64| {
        // SAFETY: a block below `known` is mapped, and its first word is only used as an atomic.
        unsafe { &*(at as *const core::sync::atomic::AtomicU32) }
    };
    for number in 0..*known {
        let at = first + number * BLOCK;
        if used(at).compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return Ok(at);
        }
    }
    let at = first + *known * BLOCK;
    if at + BLOCK > BLOCKS_END.load(Ordering::Relaxed) {
        return Err(errno::ENOMEM);
    }
    usable.iter().try_for_each(|&part| make_usable(at, part))?;
    used(at).store(1, Ordering::Release);
    *known += 1;
    Ok(at)
}

/// Makes a part of a block, by offset and length, readable and writable.
pub(crate) fn make_usable(block: u64, (offset, length): (u64, u64)) -> Result<(), Errno> {
    if give_rights(block + offset, length, PROT_READ_WRITE) { Ok(()) } else { Err(errno::ENOMEM) }
}

/// The blocks that have ever been handed out, free ones too.
pub(crate) fn blocks() -> impl Iterator<Item = u64> {
    let known = *BLOCKS_KNOWN.lock();
    let first = BLOCKS.load(Ordering::Relaxed);
    (0..known).map(move |number| first + number * BLOCK)
}
