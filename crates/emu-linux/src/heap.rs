//! The emulator's allocator: powers of two from the emulator's own region, free lists, one lock that fork holds.

use crate::lock::{Held, Lock};
use crate::region;
use crate::sys::nr;
use crate::syscall;
use core::alloc::{GlobalAlloc, Layout};

/// Smallest size, as a power of two.
const SMALLEST: u32 = 4;
const PAGE: u64 = 4096;
/// Sizes up to 2^36.
const CLASSES: usize = 33;
/// From this size on, the pages of freed memory go back to the kernel.
const GIVE_BACK: u64 = 1 << 18;

/// Heads of the lists of free memory; the first word of each free piece points to the next.
pub(crate) struct Free([u64; CLASSES]);

static FREE: Lock<Free> = Lock::new(Free([0; CLASSES]));

/// Keeps the heap consistent, for a fork.
pub(crate) fn hold() -> Held<'static, Free> {
    FREE.lock()
}

/// The allocator, for `#[global_allocator]` of the executable. Works after [`crate::start`] has taken its region.
pub struct Heap;

fn class(layout: &Layout) -> (usize, u64) {
    let size = layout.size().max(layout.align()).max(1 << SMALLEST).next_power_of_two() as u64;
    ((size.trailing_zeros() - SMALLEST) as usize, size)
}

// SAFETY: pieces are disjoint, of at least the size asked for; sizes are powers of two and batches begin at pages, so
// that each piece is aligned to its size or a page.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (class, size) = class(&layout);
        if class >= CLASSES || layout.align() as u64 > PAGE {
            return core::ptr::null_mut();
        }
        let mut free = FREE.lock();
        let head = free.0[class];
        if head != 0 {
            // SAFETY: a free piece's first word is the link.
            free.0[class] = unsafe { *(head as *const u64) };
            return head as *mut u8;
        }
        // Small pieces come by the page, so that the bump pointer's lock is rarely taken.
        let batch = if size < PAGE { PAGE / size } else { 1 };
        let first = region::heap_take(size * batch, PAGE);
        if first == 0 {
            return core::ptr::null_mut();
        }
        for number in (1..batch).rev() {
            let piece = first + number * size;
            // SAFETY: new memory of ours.
            unsafe { *(piece as *mut u64) = free.0[class] };
            free.0[class] = piece;
        }
        first as *mut u8
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let (class, size) = class(&layout);
        let piece = pointer as u64;
        if size >= GIVE_BACK {
            let start = (piece + 8).next_multiple_of(PAGE);
            let end = (piece + size) & !(PAGE - 1);
            // SAFETY: the caller gives the memory back; nobody reads it again before it is written.
            unsafe { syscall!(nr::MADVISE, start, end - start, 4) };
        }
        let mut free = FREE.lock();
        // SAFETY: as above.
        unsafe { *(piece as *mut u64) = free.0[class] };
        free.0[class] = piece;
    }
}
