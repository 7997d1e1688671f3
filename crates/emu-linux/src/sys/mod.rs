//! System calls of the host, without a C library: nothing is cached, nothing is allocated but what a wrapper
//! returns.

pub mod call;
pub mod errno;
pub mod file;
pub mod memory;
pub mod process;
pub mod signal;

pub use call::{interruptible, nr};
pub(crate) use call::{leave_call, leave_call32};
pub use errno::Errno;
pub use file::complain;
pub use process::{exit_group, process_id, thread_id};
pub(crate) use process::{thread_exit, thread_start, thread_start3};
