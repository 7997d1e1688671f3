//! The capabilities that a command may have: Docker's default set. Source: capabilities(7), Docker's run
//! reference.

use std::io;

/// Numbers of `linux/capability.h`, with names.
pub const DEFAULT: &[(&str, u32)] = &[
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_MKNOD", 27),
    ("CAP_AUDIT_WRITE", 29),
    ("CAP_SETFCAP", 31),
];

/// The set as a bit mask, as `/proc/PID/status` shows it.
pub fn default_bits() -> u64 {
    DEFAULT.iter().map(|(_, number)| 1 << number).fold(0, |all, bit| all | bit)
}

/// Drops all capabilities but these from the bounding set, so that no program can regain them.
pub(crate) fn limit_bounding() -> io::Result<()> {
    for number in (0..64).filter(|number| default_bits() & (1 << number) == 0) {
        match crate::sys::drop_bounding(number) {
            // Above the last capability that this kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Takes all capabilities but these from the calling thread.
pub(crate) fn limit() -> io::Result<()> {
    let have = rustix::thread::capabilities(None)?.permitted.bits();
    crate::sys::set_capabilities(have & default_bits())
}
