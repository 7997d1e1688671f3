//! What the guest does about each signal (sigaction(2)), and the host's action for it.

use super::handler::on_host_signal;
use super::number::{OUR_SIGNALS, OURS, bit};
use crate::lock::{self, Held, Lock};
use crate::sys::signal::{HostAction, set_action};

/// SIG_DFL and SIG_IGN.
pub const DEFAULT: u64 = 0;
/// See [`DEFAULT`].
pub const IGNORE: u64 = 1;

const SA_NOCLDSTOP: u64 = 1;
const SA_NOCLDWAIT: u64 = 2;
/// sa_flags: the handler takes three arguments.
pub const SA_SIGINFO: u64 = 4;
/// sa_flags: `restorer` is set.
pub const SA_RESTORER: u64 = 0x0400_0000;
/// sa_flags: the handler runs on the alternate stack.
pub(crate) const SA_ONSTACK: u64 = 0x0800_0000;
/// sa_flags: interrupted calls are made again.
pub(crate) const SA_RESTART: u64 = 0x1000_0000;
/// sa_flags: the signal is not blocked in its handler.
pub(crate) const SA_NODEFER: u64 = 0x4000_0000;
/// sa_flags: the action becomes the default when the handler starts.
pub(crate) const SA_RESETHAND: u64 = 0x8000_0000;

/// What a guest's `struct sigaction` says, however the ABI lays it out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// Address, [`DEFAULT`] or [`IGNORE`].
    pub handler: u64,
    /// SA_ flags.
    pub flags: u64,
    /// Where the handler returns to, with [`SA_RESTORER`].
    pub restorer: u64,
    /// Signals blocked in the handler, besides its own.
    pub mask: u64,
}

/// The actions of a process.
pub struct Actions {
    table: Lock<Table>,
}

/// Actions by signal number.
#[derive(Clone)]
pub(crate) struct Table {
    actions: [Action; 65],
    /// Signals whose action we have asked the host for or set.
    known: u64,
}

impl Actions {
    /// The actions that the process was started with, looked up when needed.
    pub const fn inherited() -> Self {
        let action = Action { handler: DEFAULT, flags: 0, restorer: 0, mask: 0 };
        Actions { table: lock::new(Table { actions: [action; 65], known: 0 }) }
    }

    /// A copy, for a task that shares memory but not actions.
    pub fn copy(&self) -> Self {
        Actions { table: lock::new(self.table.lock().clone()) }
    }

    /// Resets all handlers; ignored signals stay ignored (CLONE_CLEAR_SIGHAND, clone(2)).
    pub(crate) fn reset_handlers(&self) {
        let mut table = self.table.lock();
        for signal in 1..=64 {
            if table.known & bit(signal) != 0 && table.actions[signal as usize].handler > IGNORE {
                table.set(signal, Action::default());
            }
        }
    }

    /// Keeps the actions consistent, for a fork.
    pub(crate) fn hold(&self) -> Held<'_, Table> {
        self.table.lock()
    }

    /// The action of a signal.
    pub fn get(&self, signal: u32) -> Action {
        self.table.lock().get(signal)
    }
}

impl Table {
    pub(crate) fn get(&mut self, signal: u32) -> Action {
        if self.known & bit(signal) == 0 {
            self.known |= bit(signal);
            self.actions[signal as usize].handler = host_action(signal, None);
        }
        self.actions[signal as usize]
    }

    pub(crate) fn set(&mut self, signal: u32, action: Action) {
        self.known |= bit(signal);
        self.actions[signal as usize] = action;
        if OURS & bit(signal) == 0 {
            host_action(signal, Some(action));
        }
    }
}

/// The host's action for a guest's action.
fn host_form(action: Action) -> HostAction {
    let kept = action.flags & (SA_NOCLDSTOP | SA_NOCLDWAIT);
    if action.handler == DEFAULT || action.handler == IGNORE {
        return HostAction::new(action.handler, kept, 0);
    }
    let handler = on_host_signal as *const () as u64;
    HostAction::new(handler, kept | SA_SIGINFO | SA_ONSTACK | SA_RESTART, !0)
}

/// Sets the host's action of a signal, if one is given; returns the handler of the old one.
fn host_action(signal: u32, new: Option<Action>) -> u64 {
    // SAFETY: the handler, if there is one, is ours, which is async-signal-safe.
    unsafe { set_action(signal, new.map(host_form).as_ref()) }.handler
}

/// Takes the signals that the emulator needs. What the process inherited for them becomes the guest's action.
pub(super) fn take_ours(actions: &Actions) {
    let mut table = actions.hold();
    for signal in OUR_SIGNALS {
        let old = host_action(signal, Some(OURS_HANDLED));
        table.known |= bit(signal);
        table.actions[signal as usize].handler = if old == IGNORE { IGNORE } else { DEFAULT };
    }
}

/// Makes the host ignore the emulator's signals where the guest does, for execve; `back` undoes it.
pub(super) fn ignore_ours(actions: &Actions, back: bool) {
    for signal in OUR_SIGNALS {
        if actions.get(signal).handler == IGNORE {
            let ignored = Action { handler: IGNORE, ..OURS_HANDLED };
            host_action(signal, Some(if back { OURS_HANDLED } else { ignored }));
        }
    }
}

/// Any handler: the host's form of it is ours.
const OURS_HANDLED: Action = Action { handler: IGNORE + 1, flags: 0, restorer: 0, mask: 0 };
