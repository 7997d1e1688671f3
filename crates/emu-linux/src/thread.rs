//! What the Linux side keeps of a guest thread, whatever its ABI.

use crate::region;
use crate::shared::Shared;
use crate::signal::{Actions, Alternate};

/// The last fault of a thread, as its ABI describes it to signal handlers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trap {
    /// The address that could not be accessed.
    pub address: u64,
    /// What the CPU says about the exception (arm64: ESR_EL1); 0 for nothing.
    pub syndrome: u64,
}

/// A guest thread without its registers.
pub struct Thread {
    /// The part that the signal handler writes.
    pub shared: &'static Shared,
    /// Signal actions, shared between threads as CLONE_SIGHAND says.
    pub actions: &'static Actions,
    /// Blocked signals, as the guest knows them.
    pub mask: u64,
    /// Signals blocked during a call that replaces the mask (rt_sigsuspend, ppoll, ...), until its signal is
    /// delivered.
    pub mask_of_call: Option<u64>,
    /// Whether a call was interrupted that SA_RESTART makes again.
    pub restart: bool,
    /// The guest's sigaltstack.
    pub alternate: Alternate,
    /// The last fault, for signal frames.
    pub trap: Trap,
    /// Whether system calls accept pointers with a tag (PR_SET_TAGGED_ADDR_CTRL).
    pub tagged: bool,
    /// Whether a new thread first resets its signal handlers (CLONE_CLEAR_SIGHAND).
    pub clears_handlers: bool,
}

impl Thread {
    /// Whether the thread may pass addresses to system calls that the host knows as others
    /// ([`region::host_address`]).
    pub(crate) fn has_other_addresses(&self) -> bool {
        self.tagged || region::is_stack_high()
    }

    /// A thread with its block.
    pub fn new(shared: &'static Shared, actions: &'static Actions) -> Self {
        Thread {
            shared,
            actions,
            mask: 0,
            mask_of_call: None,
            restart: false,
            alternate: Alternate::default(),
            trap: Trap::default(),
            tagged: false,
            clears_handlers: false,
        }
    }
}
