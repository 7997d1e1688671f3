//! The emulator's allocator: powers of two from the emulator's own region, free lists, one lock that fork
//! holds.

use crate::lock::{self, Held, Lock};
use crate::region;
use crate::sys::memory::{self, PAGE};
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;

/// Smallest size, as a power of two.
const SMALLEST: u32 = 4;
/// Sizes up to 2^36.
const CLASSES: usize = 33;
/// From this size on, the pages of freed memory go back to the kernel.
const GIVE_BACK: u64 = 1 << 18;

/// Bytes of a chunk that pieces smaller than a page are cut from: pieces allocated together lie together, so
/// that few pages are touched, and copied after a fork.
const CHUNK: u64 = 4 * PAGE;

/// Free memory.
pub(crate) struct Free {
    /// Heads of the lists of free memory; the first word of each free piece points to the next.
    lists: [u64; CLASSES],
    /// The rest of a chunk.
    chunk: Range<u64>,
}

static FREE: Lock<Free> = lock::new(Free { lists: [0; CLASSES], chunk: 0..0 });

/// Keeps the heap consistent, for a fork.
pub(crate) fn hold() -> Held<'static, Free> {
    FREE.lock()
}

/// The allocator, for `#[global_allocator]` of the executable. Works after [`crate::start`] has taken its
/// region.
pub struct Heap;

fn class(layout: &Layout) -> (usize, u64) {
    let size = layout.size().max(layout.align()).max(1 << SMALLEST).next_power_of_two() as u64;
    ((size.trailing_zeros() - SMALLEST) as usize, size)
}

impl Free {
    /// Takes new memory of a size, which holds zeroes; 0 if none is left.
    fn take(&mut self, size: u64) -> u64 {
        if size >= PAGE {
            return region::heap_take(size, PAGE);
        }
        let mut at = self.chunk.start.next_multiple_of(size);
        if at + size > self.chunk.end {
            at = region::heap_take(CHUNK, PAGE);
            if at == 0 {
                return 0;
            }
            self.chunk = at..at + CHUNK;
        }
        self.chunk.start = at + size;
        at
    }
}

/// A piece for a layout, null if there is none; and whether it is new, and so holds zeroes.
fn take(layout: &Layout) -> (*mut u8, bool) {
    let (class, size) = class(layout);
    if class >= CLASSES || layout.align() as u64 > PAGE {
        return (core::ptr::null_mut(), false);
    }
    let mut free = FREE.lock();
    let head = free.lists[class];
    if head != 0 {
        // SAFETY: a free piece's first word is the link.
        free.lists[class] = unsafe { *(head as *const u64) };
        return (head as *mut u8, false);
    }
    (free.take(size) as *mut u8, true)
}

// SAFETY: pieces are disjoint, of at least the size asked for, which is a power of two, and aligned to it or
// to a page.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(&layout).0
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (piece, is_new) = take(&layout);
        if !is_new && !piece.is_null() {
            // SAFETY: the piece has been used before, and is the caller's now.
            unsafe { piece.write_bytes(0, layout.size()) };
        }
        piece
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let (class, size) = class(&layout);
        let piece = pointer as u64;
        const MADV_DONTNEED: u64 = 4;
        if size >= GIVE_BACK {
            let start = (piece + 8).next_multiple_of(PAGE);
            let end = (piece + size) & !(PAGE - 1);
            // SAFETY: the caller gives the memory back; nothing reads it again before it is written.
            let _ = unsafe { memory::advise(start, end - start, MADV_DONTNEED) };
        }
        let mut free = FREE.lock();
        // SAFETY: as above.
        unsafe { *(piece as *mut u64) = free.lists[class] };
        free.lists[class] = piece;
    }
}
