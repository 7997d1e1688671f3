//! Sockets: options, and messages with control data.

use super::files::{refused, vector};
use super::words::{Timeout, Width, read, write};
use crate::arch::call::Row;
use crate::calls::host::host;
use crate::guest;
use crate::sys::call::nr;
use crate::sys::file::Fd;
use crate::sys::{Errno, errno};
use crate::thread::Thread;
use alloc::vec::Vec;
use core::ops::Range;

const SOL_SOCKET: u64 = 1;
// Options with times of `long`s (asm-generic/socket.h), which are types of control data, too.
const SO_RCVTIMEO: u64 = 20;
const SO_SNDTIMEO: u64 = 21;
const SO_ATTACH_FILTER: u64 = 26;
const SO_ATTACH_REUSEPORT_CBPF: u64 = 51;
/// More bytes than the kernel takes for an option of groups (net.core.optmem_max).
const OPTION_MAX: usize = 1 << 20;
const SCM_RIGHTS: u32 = 1;
const SCM_TIMESTAMP: u32 = 29;
const SCM_TIMESTAMPNS: u32 = 35;
const SCM_TIMESTAMPING: u32 = 37;

/// Levels of IPv4 and IPv6, and their options with a group_req, group_source_req or group_filter
/// (linux/in.h).
const IPPROTO_IP: u64 = 0;
const IPPROTO_IPV6: u64 = 41;
const MCAST: Range<u64> = 42..49;

/// setsockopt(2): times, filters, groups of receivers.
pub(super) fn setsockopt(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let mut words = [0; 2];
    match (a[1], a[2]) {
        (IPPROTO_IP | IPPROTO_IPV6, option) if MCAST.contains(&option) => {
            return set_group(thread, row, a);
        }
        _ if a[4] < 8 => return host(thread, u64::from(row.host), a),
        (SOL_SOCKET, SO_RCVTIMEO | SO_SNDTIMEO) => read(a[3], &mut words)?,
        (SOL_SOCKET, SO_ATTACH_FILTER | SO_ATTACH_REUSEPORT_CBPF) => {
            words = guest::read_pointers(a[3], 4)?;
        }
        _ => return host(thread, u64::from(row.host), a),
    }
    host(thread, u64::from(row.host), &[a[0], a[1], a[2], words.as_ptr() as u64, 16, 0])
}

/// A group, whose address follows the number of an interface after a gap on the host.
fn set_group(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    const NUMBER: usize = 4;
    let length = a[4] as u32 as usize;
    if !(NUMBER..=OPTION_MAX).contains(&length) {
        return host(thread, u64::from(row.host), a);
    }
    let mut bytes = alloc::vec![0u8; NUMBER + length];
    guest::read(a[3], &mut bytes[NUMBER..])?;
    bytes.copy_within(NUMBER..2 * NUMBER, 0);
    let with = [a[0], a[1], a[2], bytes.as_ptr() as u64, bytes.len() as u64, 0];
    host(thread, u64::from(row.host), &with)
}

/// getsockopt(2): times.
pub(super) fn getsockopt(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    if a[1] != SOL_SOCKET || ![SO_RCVTIMEO, SO_SNDTIMEO].contains(&a[2]) || guest::read32(a[4])? < 8 {
        return host(thread, u64::from(row.host), a);
    }
    let (mut words, mut length) = ([0u64; 2], 16u32);
    let with = [a[0], a[1], a[2], words.as_mut_ptr() as u64, &raw mut length as u64, 0];
    host(thread, u64::from(row.host), &with)?;
    write(a[3], &words)?;
    guest::write32(a[4], 8).map(|()| 0)
}

/// A struct msghdr in the host's form, and what it points to.
struct Message {
    /// Name, its length, iovec, its count, control data, its length, flags.
    words: [u64; 7],
    vector: Vec<u64>,
    control: Vec<u64>,
}

/// Bytes of the guest's msghdr, and of a struct mmsghdr.
const MESSAGE: u64 = 28;
const MANY_STEP: u64 = 32;
/// More control data than the kernel takes (net.core.optmem_max).
const CONTROL_MAX: u64 = 1 << 20;

impl Message {
    fn read(at: u64) -> Result<Message, Errno> {
        let words = guest::read_pointers::<7>(at, 4)?;
        let vector = vector(words[2], words[3]).map_err(|error| match error {
            errno::EINVAL if words[3] > 1024 => errno::EMSGSIZE,
            other => other,
        })?;
        Ok(Message { words, vector, control: Vec::new() })
    }

    /// The pointer for the host.
    fn pointer(&mut self) -> u64 {
        self.words[2] = self.vector.as_ptr() as u64;
        if self.words[4] != 0 {
            self.words[4] = self.control.as_mut_ptr() as u64;
            self.words[5] = 8 * self.control.len() as u64;
        }
        self.words.as_mut_ptr() as u64
    }
}

/// The control data of the guest in the host's form. A struct cmsghdr has a length, a level and a type; the
/// length has 4 bytes instead of 8, and data begin at multiples of 4 instead of 8.
fn widen(at: u64, length: u64) -> Result<Vec<u64>, Errno> {
    let mut words = Vec::new();
    let mut offset = 0;
    if length > CONTROL_MAX {
        return Err(errno::EINVAL);
    }
    while offset + 12 <= length {
        let [size, level, kind] = guest::read_pointers::<3>(at + offset, 4)?;
        if size < 12 || size > length - offset {
            return Err(errno::EINVAL);
        }
        let mut data = alloc::vec![0u8; (size - 12) as usize];
        guest::read(at + offset + 12, &mut data)?;
        words.extend([size + 4, level | kind << 32]);
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
        words.extend(data.chunks(8).map(word));
        offset += size.next_multiple_of(4);
    }
    Ok(words)
}

/// The host's control data, of `length` bytes, as the guest has it.
fn narrow(words: &[u64], length: u64, room: u64) -> (Vec<u8>, bool) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).take(length as usize).collect();
    let (mut all, mut offset, mut is_cut) = (Vec::new(), 0, false);
    while offset + 16 <= bytes.len() {
        let head = words[offset / 8] as usize;
        let (level, kind) = (words[offset / 8 + 1] as u32, (words[offset / 8 + 1] >> 32) as u32);
        let Some(data) = bytes.get(offset + 16..(offset + head).min(bytes.len())) else { break };
        let is_time = [SCM_TIMESTAMP, SCM_TIMESTAMPNS, SCM_TIMESTAMPING].contains(&kind);
        let mut data = if u64::from(level) == SOL_SOCKET && is_time {
            data.chunks_exact(8).flat_map(|word| word[..4].to_vec()).collect()
        } else {
            data.to_vec()
        };
        let left = (room as usize).saturating_sub(all.len());
        if left < 12 + data.len() {
            is_cut = true;
            let fits = left.saturating_sub(12) / 4 * 4;
            if u64::from(level) == SOL_SOCKET && kind == SCM_RIGHTS {
                for descriptor in data[fits.min(data.len())..].as_chunks::<4>().0 {
                    drop(Fd::from_number(i32::from_le_bytes(*descriptor)));
                }
            }
            data.truncate(fits);
            if left < 12 || data.is_empty() {
                break;
            }
        }
        for word in [12 + data.len() as u32, level, kind] {
            all.extend(word.to_le_bytes());
        }
        all.extend(&data);
        all.resize(all.len().next_multiple_of(4).min(room as usize), 0);
        offset += head.next_multiple_of(8);
    }
    (all, is_cut)
}

/// sendmsg(2).
pub(super) fn sendmsg(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    send(thread, a[0], a[1], a[2])
}

fn send(thread: &Thread, socket: u64, at: u64, flags: u64) -> Result<i64, Errno> {
    let mut message = match Message::read(at) {
        Err(errno::EFAULT) => return host(thread, nr::SENDMSG, &[socket, refused(), flags, 0, 0, 0]),
        other => other?,
    };
    if message.words[4] != 0 {
        message.control = widen(message.words[4], message.words[5])?;
    }
    host(thread, nr::SENDMSG, &[socket, message.pointer(), flags, 0, 0, 0])
}

/// recvmsg(2).
pub(super) fn recvmsg(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    receive(thread, a[0], a[1], a[2])
}

fn receive(thread: &Thread, socket: u64, at: u64, flags: u64) -> Result<i64, Errno> {
    const MSG_CTRUNC: u64 = 8;
    const MSG_CMSG_COMPAT: u64 = 0x8000_0000;
    let mut message = match Message::read(at) {
        Err(errno::EFAULT) => return host(thread, nr::RECVMSG, &[socket, refused(), flags, 0, 0, 0]),
        other => other?,
    };
    let [.., control, room, _] = message.words;
    if control != 0 {
        // Room for as much in the longer form; what the guest has no room for is closed again.
        message.control = alloc::vec![0; (room.min(CONTROL_MAX) / 4 + 4) as usize];
        if room < 12 {
            message.control.clear();
        }
    }
    let flags = flags & !MSG_CMSG_COMPAT;
    let result = host(thread, nr::RECVMSG, &[socket, message.pointer(), flags, 0, 0, 0])?;
    let (mut length, mut flags) = (0, message.words[6]);
    if control != 0 {
        let (bytes, is_cut) = narrow(&message.control, message.words[5], room);
        flags |= if is_cut { MSG_CTRUNC } else { 0 };
        guest::write(control, &bytes)?;
        length = bytes.len() as u64;
    }
    write(at + 4, &message.words[1..2])?;
    write(at + 20, &[length, flags])?;
    Ok(result)
}

/// Sends or receives one message after another, and notes the length of each; the result is how many.
fn many(
    at: u64,
    count: u64,
    mut one: impl FnMut(u64, u64) -> Result<i64, Errno>,
    mut goes_on: impl FnMut() -> bool,
) -> Result<i64, Errno> {
    let mut done = 0;
    while done < count.min(1024) {
        let place = at + MANY_STEP * done;
        match one(place, done) {
            Ok(length) => guest::write32(place + MESSAGE, length as u32)?,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        done += 1;
        if !goes_on() {
            break;
        }
    }
    Ok(done as i64)
}

/// sendmmsg(2).
pub(super) fn sendmmsg(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    many(a[1], a[2], |at, _| send(thread, a[0], at, a[3]), || true)
}

/// recvmmsg(2): the time counts between messages only.
pub(super) fn recvmmsg(thread: &Thread, a: &[u64; 6], width: Width) -> Result<i64, Errno> {
    const MSG_DONTWAIT: u64 = 0x40;
    const MSG_WAITFORONE: u64 = 0x1_0000;
    const CLOCK_MONOTONIC: u64 = 1;
    let limit = Timeout::read(a[4], width)?;
    let now = || {
        let [seconds, nanoseconds] = crate::sys::process::time(CLOCK_MONOTONIC);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
    };
    let end = limit.nanoseconds().map(|length| now().saturating_add(length));
    many(
        a[1],
        a[2],
        |at, done| {
            let later = if done > 0 && a[3] & MSG_WAITFORONE != 0 { MSG_DONTWAIT } else { 0 };
            receive(thread, a[0], at, a[3] & !MSG_WAITFORONE | later)
        },
        || end.is_none_or(|end| now() < end),
    )
}
