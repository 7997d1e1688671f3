//! Error numbers (errno(3)), negative as system calls return them; the same on all guests.
#![allow(missing_docs)]

/// An error number, negative.
pub type Errno = i64;

pub const EPERM: i64 = -1;
pub const ENOENT: i64 = -2;
pub const ESRCH: i64 = -3;
pub const EINTR: i64 = -4;
pub const E2BIG: i64 = -7;
pub const ENOEXEC: i64 = -8;
pub const EBADF: i64 = -9;
pub const ENOMEM: i64 = -12;
pub const EACCES: i64 = -13;
pub const EFAULT: i64 = -14;
pub const EEXIST: i64 = -17;
pub const EINVAL: i64 = -22;
pub const ELOOP: i64 = -40;
pub const ENAMETOOLONG: i64 = -36;
pub const ENOSYS: i64 = -38;
pub const ENOTTY: i64 = -25;
pub const ELIBBAD: i64 = -80;
pub const EOPNOTSUPP: i64 = -95;
/// The kernel would restart the call if the signal's action has SA_RESTART. Never reaches the guest.
pub const RESTART: i64 = -512;
/// A signal came before the call was made: deliver it and make the call afterwards. Never reaches the
/// guest.
pub const NOT_STARTED: i64 = -513;
