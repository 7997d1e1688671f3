//! Signals: the host's handler queues them; the thread delivers them between blocks and around system calls.
//!
//! A thread's mask on the host is the guest's, without SIGSEGV, SIGBUS and SIGFPE, which the emulator needs:
//! the kernel does blocking, pending signals, sigwait and signalfd. A signal that the guest ignores or leaves
//! to its default is ignored or left to its default on the host too. For a signal with a handler, our handler
//! puts the siginfo into the thread's [`crate::shared::Shared`] and blocks everything: one asynchronous
//! signal is on its way at a time, and the kernel keeps the order of the others.
//!
//! The layout of frames is the ABI's, in [`crate::arch`].

pub mod action;
pub mod alternate;
pub mod deliver;
mod handler;
pub mod mask;
pub mod number;

pub use action::{Action, Actions, DEFAULT, IGNORE, SA_RESTORER, SA_SIGINFO};
pub use alternate::Alternate;
pub(crate) use handler::tells_end;
pub(crate) use mask::{block_all, block_even_ours, host_mask, use_mask};
pub use number::{bit, fault_info};
