//! Messages, semaphores and shared memory of System V: structures with `long`s.

use super::words;
use crate::arch::call::Row;
use crate::calls::host::host;
use crate::guest;
use crate::sys::{Errno, errno};
use crate::thread::Thread;

/// A message of System V: a `long` and data.
fn message_size(length: u64) -> Result<usize, Errno> {
    const LONGEST: u64 = 1 << 26;
    if length > LONGEST { Err(errno::EINVAL) } else { Ok(8 + length as usize) }
}

/// msgsnd(2).
pub(super) fn msgsnd(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let mut message = alloc::vec![0u8; message_size(a[2])?];
    let mut kind = [0];
    words::read(a[1], &mut kind)?;
    message[..8].copy_from_slice(&kind[0].to_le_bytes());
    guest::read(a[1].wrapping_add(4), &mut message[8..])?;
    host(thread, u64::from(row.host), &[a[0], message.as_ptr() as u64, a[2], a[3], 0, 0])
}

/// msgrcv(2).
pub(super) fn msgrcv(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let mut message = alloc::vec![0u8; message_size(a[2])?];
    let length =
        host(thread, u64::from(row.host), &[a[0], message.as_mut_ptr() as u64, a[2], a[3], a[4], 0])?;
    guest::write(a[1], &message[..4])?;
    guest::write(a[1].wrapping_add(4), &message[8..8 + length as usize])?;
    Ok(length)
}

/// What a command of a call exchanges with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    /// The object's structure, from the program.
    Set,
    /// The object's structure, to the program.
    Stat,
    /// So many `long`s to the program, at most these values.
    Longs(usize, u64),
}

/// A call that controls objects of System V.
#[derive(Debug)]
pub(super) struct Control {
    /// Which argument is the command; the structure's address follows.
    command: usize,
    /// The structure of an object after its ipc64_perm: for each word of 4 bytes that the program has, which
    /// of the host's.
    words: &'static [u8],
    /// Commands with structures that differ from the host's.
    commands: &'static [(u64, Exchange)],
}

/// struct ipc64_perm (Linux, asm-generic/ipcbuf.h): key, user, group, creator's user and group, mode,
/// sequence number, two unused `long`s.
const PERMISSIONS: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 8, 10];

const IPC_SET: u64 = 1;
const IPC_STAT: u64 = 2;
const IPC_INFO: u64 = 3;

/// struct semid64_ds (asm-generic/sembuf.h; the host's is asm/sembuf.h): two times, number, two unused.
pub(super) const SEMCTL: Control = Control {
    command: 2,
    words: &[12, 13, 16, 17, 20, 22, 24],
    commands: &[
        (IPC_SET, Exchange::Set),
        (IPC_STAT, Exchange::Stat),
        // SEM_STAT, SEM_STAT_ANY.
        (18, Exchange::Stat),
        (20, Exchange::Stat),
    ],
};

/// struct shmid64_ds (asm-generic/shmbuf.h): size, three times, creator, last user, number, two unused.
pub(super) const SHMCTL: Control = Control {
    command: 1,
    words: &[12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 26],
    commands: &[
        (IPC_SET, Exchange::Set),
        (IPC_STAT, Exchange::Stat),
        // SHM_STAT, SHM_STAT_ANY.
        (13, Exchange::Stat),
        (15, Exchange::Stat),
        // struct shminfo64, whose limits fit an int for 32-bit programs.
        (IPC_INFO, Exchange::Longs(9, i32::MAX as u64)),
        // SHM_INFO: struct shm_info.
        (14, Exchange::Longs(6, u32::MAX as u64)),
    ],
};

/// struct msqid64_ds (asm-generic/msgbuf.h): three times, bytes, number, limit, last sender and receiver, two
/// unused.
pub(super) const MSGCTL: Control = Control {
    command: 1,
    words: &[12, 13, 14, 15, 16, 17, 18, 20, 22, 24, 25, 26, 28],
    commands: &[
        (IPC_SET, Exchange::Set),
        (IPC_STAT, Exchange::Stat),
        // MSG_STAT, MSG_STAT_ANY.
        (11, Exchange::Stat),
        (13, Exchange::Stat),
    ],
};

/// Words of the longest structure of the host, msqid64_ds.
const LONGEST: usize = 15;

/// semctl(2), shmctl(2), msgctl(2).
pub(super) fn control(thread: &Thread, row: &Row, a: &[u64; 6], which: &Control) -> Result<i64, Errno> {
    /// Marks the structures that are the only ones by now.
    const IPC_64: u64 = 0x100;
    let mut with = *a;
    let command = a[which.command] & 0xffff_ffff & !IPC_64;
    with[which.command] = command;
    let Some(&(_, exchange)) = which.commands.iter().find(|(number, _)| *number == command) else {
        return host(thread, u64::from(row.host), &with);
    };
    let at = a[which.command + 1];
    let mut structure = [0u64; LONGEST];
    let places = PERMISSIONS.iter().chain(which.words).map(|&place| (usize::from(place) / 2, place % 2 * 32));
    if exchange == Exchange::Set {
        for (n, (word, shift)) in (0..).zip(places.clone()) {
            structure[word] |= u64::from(guest::read32(at.wrapping_add(4 * n))?) << shift;
        }
    }
    with[which.command + 1] = structure.as_mut_ptr() as u64;
    let result = host(thread, u64::from(row.host), &with)?;
    match exchange {
        Exchange::Set => {}
        Exchange::Stat => {
            for (n, (word, shift)) in (0..).zip(places) {
                guest::write32(at.wrapping_add(4 * n), (structure[word] >> shift) as u32)?;
            }
        }
        Exchange::Longs(count, most) => {
            words::write(at, &structure.map(|word| word.min(most))[..count])?;
        }
    }
    Ok(result)
}
