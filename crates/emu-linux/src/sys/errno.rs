//! Error numbers (errno(3)), negative as system calls return them; the same on all guests.
#![allow(missing_docs)]

/// An error number, as a system call returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i64);

impl Errno {
    /// The number, positive, as errno(3) has it.
    pub const fn number(self) -> i64 {
        -self.0
    }

    /// The result of a call that fails with this error: the number, negative.
    pub const fn as_result(self) -> i64 {
        self.0
    }

    /// What a call has returned: a value, or an error number.
    #[inline]
    pub(crate) const fn check(result: i64) -> Result<i64, Errno> {
        if result < 0 && result >= -LARGEST { Err(Errno(result)) } else { Ok(result) }
    }
}

/// Largest number (Linux, MAX_ERRNO).
const LARGEST: i64 = 4095;

pub const EPERM: Errno = Errno(-1);
pub const ENOENT: Errno = Errno(-2);
pub const ESRCH: Errno = Errno(-3);
pub const EINTR: Errno = Errno(-4);
pub const EIO: Errno = Errno(-5);
pub const E2BIG: Errno = Errno(-7);
pub const ENOEXEC: Errno = Errno(-8);
pub const EBADF: Errno = Errno(-9);
pub const ENOMEM: Errno = Errno(-12);
pub const EACCES: Errno = Errno(-13);
pub const EFAULT: Errno = Errno(-14);
pub const EEXIST: Errno = Errno(-17);
pub const EINVAL: Errno = Errno(-22);
pub const ELOOP: Errno = Errno(-40);
pub const ENAMETOOLONG: Errno = Errno(-36);
pub const EOVERFLOW: Errno = Errno(-75);
pub const ENOSYS: Errno = Errno(-38);
pub const ENOTTY: Errno = Errno(-25);
pub const ELIBBAD: Errno = Errno(-80);
pub const EMSGSIZE: Errno = Errno(-90);
pub const EOPNOTSUPP: Errno = Errno(-95);
/// The kernel would restart the call if the signal's action has SA_RESTART. Never reaches the guest.
pub const RESTART: Errno = Errno(-512);
/// A signal came before the call was made: deliver it and make the call afterwards. Never reaches the
/// guest.
pub const NOT_STARTED: Errno = Errno(-513);
