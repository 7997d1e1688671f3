//! ioctl(2) of sockets with structures of 32-bit programs, on hosts that run none (netdevice(7)).

use super::words;
use crate::calls::host::host;
use crate::guest;
use crate::sys::call::nr;
use crate::sys::{Errno, errno};
use crate::thread::Thread;
use alloc::vec::Vec;

// linux/sockios.h.
const SIOCGSTAMP: u64 = 0x8906;
const SIOCGSTAMPNS: u64 = 0x8907;
const SIOCGIFNAME: u64 = 0x8910;
const SIOCGIFCONF: u64 = 0x8912;
const SIOCETHTOOL: u64 = 0x8946;
const SIOCDARP: u64 = 0x8953;
const SIOCSRARP: u64 = 0x8962;
const SIOCGIFMAP: u64 = 0x8970;
const SIOCSIFMAP: u64 = 0x8971;
const SIOCDEVPRIVATE_LAST: u64 = 0x89ff;

/// A struct ifreq: a name of 16 bytes and a union of 16, of 24 on the host.
const REQUEST: u64 = 32;
const HOST_REQUEST: u64 = 40;
/// More interfaces than programs ask for.
const INTERFACES_MAX: u64 = 1 << 16;

/// Answers a call whose structure the host has in another form; `None` for others.
pub(super) fn ioctl(thread: &Thread, a: &[u64; 6]) -> Option<Result<i64, Errno>> {
    match a[1] {
        SIOCGSTAMP | SIOCGSTAMPNS => Some(time(thread, a)),
        SIOCGIFCONF => Some(list(thread, a)),
        SIOCDARP..=SIOCSRARP => None,
        SIOCGIFNAME..=SIOCDEVPRIVATE_LAST => Some(request(thread, a)),
        _ => None,
    }
}

fn time(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let mut time = [0u64; 2];
    let result = host(thread, nr::IOCTL, &[a[0], a[1], time.as_mut_ptr() as u64, 0, 0, 0])?;
    words::write(a[2], &time).map(|()| result)
}

/// A struct ifconf: bytes, and the address of requests; without an address, the kernel says how many.
fn list(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let [length, at] = guest::read_pointers::<2>(a[2], 4)?;
    let count = length / REQUEST;
    if count > INTERFACES_MAX {
        return Err(errno::EINVAL);
    }
    let mut requests: Vec<u64> = alloc::vec![0; (count * HOST_REQUEST / 8) as usize];
    let mut all = match at {
        0 => [0, 0],
        _ => [count * HOST_REQUEST, requests.as_mut_ptr() as u64],
    };
    let result = host(thread, nr::IOCTL, &[a[0], a[1], all.as_mut_ptr() as u64, 0, 0, 0])?;
    let found = (all[0] & 0xffff_ffff) / HOST_REQUEST;
    if at != 0 {
        for (n, one) in (0..found).zip(requests.chunks_exact((HOST_REQUEST / 8) as usize)) {
            guest::write_words(at + REQUEST * n, &one[..(REQUEST / 8) as usize])?;
        }
    }
    guest::write32(a[2], (REQUEST * found) as u32).map(|()| result)
}

fn request(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let [first, second, third, fourth] = guest::read_words::<4>(a[2])?;
    // The union is an address, numbers, or a pointer to more; or a struct ifmap of two `long`s and 5 bytes.
    let is_pointer = a[1] == SIOCETHTOOL || a[1] > SIOCSIFMAP;
    let is_map = a[1] == SIOCGIFMAP || a[1] == SIOCSIFMAP;
    let mut words = match third {
        _ if is_map => [first, second, third & 0xffff_ffff, third >> 32, fourth],
        _ if is_pointer => [first, second, third & 0xffff_ffff, 0, 0],
        _ => [first, second, third, fourth, 0],
    };
    let result = host(thread, nr::IOCTL, &[a[0], a[1], words.as_mut_ptr() as u64, 0, 0, 0])?;
    if is_map {
        words[2] = words[2] & 0xffff_ffff | words[3] << 32;
        words[3] = words[4];
    }
    if !is_pointer {
        guest::write_words(a[2], &words[..4])?;
    }
    Ok(result)
}
