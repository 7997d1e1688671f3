//! The emulator's own memcpy, memmove, memset, memcmp and strlen, compared with Rust's results.

use std::arch::global_asm;

global_asm!(include_str!("../../src/memory.s"));

unsafe extern "C" {
    fn crossdock_emu_memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn crossdock_emu_memset(to: *mut u8, byte: i32, length: usize) -> *mut u8;
    fn crossdock_emu_memcmp(a: *const u8, b: *const u8, length: usize) -> i32;
    fn crossdock_emu_strlen(text: *const u8) -> usize;
}

/// All short lengths, and lengths around the limits where the method changes.
fn lengths() -> impl Iterator<Item = usize> {
    (0..300).chain([2040, 2047, 2048, 2049, 2100, 5000])
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 256) as u8).collect()
}

#[test]
fn copies_whatever_overlaps() {
    for length in lengths() {
        for (from, to) in [
            (0, 6000),
            (6001, 3),
            (100, 100),
            (100, 101),
            (101, 100),
            (100, 117),
            (117, 100),
            (64, 0),
            (0, 64),
            (5, 133),
        ] {
            let mut bytes = pattern(12000);
            let mut wanted = bytes.clone();
            wanted.copy_within(from..from + length, to);
            // SAFETY: both pieces lie in the vector.
            let got = unsafe {
                let start = bytes.as_mut_ptr();
                crossdock_emu_memcpy(start.add(to), start.add(from), length) == start.add(to)
            };
            assert!(got && bytes == wanted, "{length} bytes from {from} to {to}");
        }
    }
}

#[test]
fn sets_no_more_than_it_is_told() {
    for length in lengths() {
        for at in [0, 1, 15, 16] {
            let mut bytes = pattern(6000);
            let mut wanted = bytes.clone();
            wanted[at..at + length].fill(0xa5);
            // SAFETY: the piece lies in the vector.
            let got = unsafe { crossdock_emu_memset(bytes.as_mut_ptr().add(at), 0x7fff_ffa5, length) };
            assert!(got == bytes[at..].as_mut_ptr() && bytes == wanted, "{length} bytes at {at}");
        }
    }
}

#[test]
fn compares_up_to_the_first_difference() {
    for length in lengths() {
        let a = pattern(length);
        // SAFETY: both have `length` bytes.
        let compare = |b: &[u8]| unsafe { crossdock_emu_memcmp(a.as_ptr(), b.as_ptr(), length) };
        assert_eq!(compare(&a.clone()), 0);
        for at in (0..length).step_by(if length > 300 { 97 } else { 1 }) {
            let mut b = a.clone();
            b[at] = b[at].wrapping_add(0x80);
            if at + 1 < length {
                b[length - 1] ^= 1;
            }
            assert_eq!(compare(&b).signum(), a[at].cmp(&b[at]) as i32, "{length} bytes, {at}");
        }
    }
}

#[test]
fn finds_the_end_of_texts() {
    let text = [[b'x'; 100], [0; 100]].concat();
    for at in 0..=100 {
        // SAFETY: a NUL follows.
        assert_eq!(unsafe { crossdock_emu_strlen(text[at..].as_ptr()) }, 100 - at);
    }
}
