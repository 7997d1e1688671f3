//! Structures whose fields are `long`s, or padded like them, on both sides: words of 4 bytes for the guest,
//! of 8 for the host. So are times of 32 bits, rusage, itimerval, tms, timex, mq_attr.

use crate::arch::call::Row;
use crate::calls::host::host;
use crate::guest;
use crate::sys::{Errno, errno};
use crate::thread::Thread;

/// An argument that points to a structure.
#[derive(Clone, Copy)]
pub(super) enum Field {
    /// The host reads so many words, given after the argument's number.
    In(usize, usize),
    /// The host writes so many words.
    Out(usize, usize),
    /// The host reads and writes so many words.
    Both(usize, usize),
    /// The host reads times of 64 bits, whose nanoseconds have 4 bytes of padding: so many pairs.
    Times(usize, usize),
}
use Field::{Both, In, Out, Times};

/// Words of the longest structure, struct timex.
const LONGEST: usize = 26;
/// What the host has not written.
const UNWRITTEN: u64 = u64::MAX;

/// Widens a register that holds a signed number.
pub(super) const fn signed(register: u64) -> u64 {
    register as u32 as i32 as i64 as u64
}

/// Reads `long`s.
pub(super) fn read(at: u64, words: &mut [u64]) -> Result<(), Errno> {
    for (n, word) in (0..).zip(words) {
        *word = signed(guest::read32(at.wrapping_add(4 * n))?.into());
    }
    Ok(())
}

/// Writes `long`s.
pub(super) fn write(at: u64, words: &[u64]) -> Result<(), Errno> {
    (0..).zip(words).try_for_each(|(n, &word)| guest::write32(at.wrapping_add(4 * n), word as u32))
}

/// Makes a call whose arguments `fields` point to such structures. Null pointers stay.
pub(super) fn call(thread: &Thread, row: &Row, a: &[u64; 6], fields: &[Field]) -> Result<i64, Errno> {
    let mut with = *a;
    let mut copies = [[UNWRITTEN; LONGEST]; 3];
    for (&field, copy) in fields.iter().zip(&mut copies) {
        let (In(argument, count) | Out(argument, count) | Both(argument, count) | Times(argument, count)) =
            field;
        if a[argument] == 0 {
            continue;
        }
        match field {
            In(..) | Both(..) => read(a[argument], &mut copy[..count])?,
            Times(..) => {
                for (n, pair) in (0..).zip(copy.as_chunks_mut::<2>().0.iter_mut().take(count)) {
                    *pair = read_time64(a[argument].wrapping_add(16 * n))?;
                }
            }
            Out(..) => {}
        }
        with[argument] = copy.as_mut_ptr() as u64;
    }
    let result = host(thread, u64::from(row.host), &with);
    for (&field, copy) in fields.iter().zip(&copies) {
        let (Out(argument, count) | Both(argument, count)) = field else { continue };
        // An interrupted sleep says what remains.
        let is_written = result.is_ok() || result == Err(errno::EINTR) && copy[0] != UNWRITTEN;
        if a[argument] != 0 && is_written {
            write(a[argument], &copy[..count])?;
        }
    }
    result
}

/// Reads a `struct __kernel_timespec`: the kernel takes 4 bytes of the nanoseconds.
pub(super) fn read_time64(at: u64) -> Result<[u64; 2], Errno> {
    let [seconds, nanoseconds] = guest::read_words(at)?;
    Ok([seconds, nanoseconds & 0xffff_ffff])
}

/// How long the seconds of a time are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// struct old_timespec32, old_timeval32.
    Narrow,
    /// struct __kernel_timespec.
    Wide,
}

/// A time that a call waits for at most, in guest memory.
pub(super) struct Timeout {
    at: u64,
    width: Width,
    /// In the host's form.
    words: [u64; 2],
}

impl Timeout {
    /// Reads it; `at` may be 0.
    pub(super) fn read(at: u64, width: Width) -> Result<Timeout, Errno> {
        let mut words = [0; 2];
        match width {
            _ if at == 0 => {}
            Width::Narrow => read(at, &mut words)?,
            Width::Wide => words = read_time64(at)?,
        }
        Ok(Timeout { at, width, words })
    }

    /// The pointer for the host.
    pub(super) fn pointer(&mut self) -> u64 {
        if self.at == 0 { 0 } else { self.words.as_mut_ptr() as u64 }
    }

    /// The time in nanoseconds, if there is one.
    pub(super) fn nanoseconds(&self) -> Option<u64> {
        let [seconds, nanoseconds] = self.words;
        (self.at != 0).then(|| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    }

    /// Writes what remains back to the guest; like the kernel, ignores memory that cannot be written.
    pub(super) fn give_back(&self) {
        let _ = match self.width {
            _ if self.at == 0 => Ok(()),
            Width::Narrow => write(self.at, &self.words),
            Width::Wide => guest::write_words(self.at, &self.words),
        };
    }
}
