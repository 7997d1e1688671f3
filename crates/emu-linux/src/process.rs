//! Threads and processes: clone in all its forms, and the end of a thread.
//!
//! A task that shares memory is a task of the host with its own block. CLONE_VFORK is a real vfork: the
//! parent waits in the kernel, and the child uses its parent's decoded code and memory.

use crate::arch::Abi;
use crate::code;
use crate::executable;
use crate::guest;
use crate::heap;
use crate::images::mapped;
use crate::images::report::Ran;
use crate::memory;
use crate::program;
use crate::region;
use crate::robust;
use crate::seccomp;
use crate::shared;
use crate::signal::{self, Actions, Alternate};
use crate::sys::{self, Errno, errno};
use crate::task::Task;
use crate::thread::Thread;
use alloc::boxed::Box;
use core::sync::atomic::Ordering;

const CLONE_VM: u64 = 0x100;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_DETACHED: u64 = 0x40_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// For clone3 only: in clone(2), this bit belongs to the exit signal.
const CLONE_NEWTIME: u64 = 0x80;
/// The exit signal in the flags of clone(2).
const CSIGNAL: u64 = 0xff;

/// The child to create: the arguments of clone and clone3 in the guest's form.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    /// Flags without the exit signal.
    flags: u64,
    exit_signal: u64,
    /// The highest address of the child's stack, or 0.
    stack: u64,
    pidfd: u64,
    parent: u64,
    child: u64,
    tls: u64,
    /// Address and number of the ids for the child.
    set_tid: (u64, u64),
    cgroup: u64,
}

impl Request {
    /// Whether clone(2) cannot create the child.
    fn needs_clone3(&self) -> bool {
        const PIDFD_AND_PARENT: u64 = CLONE_PIDFD | CLONE_PARENT_SETTID;
        self.flags & (CLONE_INTO_CGROUP | CLONE_NEWTIME) != 0
            || self.flags & PIDFD_AND_PARENT == PIDFD_AND_PARENT
            || self.set_tid != (0, 0)
    }

    /// The flags for the host, without registers and signal actions, which we set.
    fn host_flags(&self) -> u64 {
        self.flags & !(CLONE_SETTLS | CLONE_CLEAR_SIGHAND)
    }

    /// The pointer that the flags ask for, else 0: C libraries and raw calls leave anything in unused
    /// pointers.
    fn parent(&self) -> u64 {
        if self.flags & CLONE_PIDFD != 0 {
            self.pidfd
        } else if self.flags & CLONE_PARENT_SETTID != 0 {
            self.parent
        } else {
            0
        }
    }

    fn child(&self) -> u64 {
        if self.flags & (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID) != 0 { self.child } else { 0 }
    }

    /// A `struct clone_args` for the host, with the child's stack from `stack.0` on, of `stack.1` bytes.
    fn arguments(&self, stack: (u64, u64)) -> [u64; 11] {
        [
            self.host_flags(),
            self.pidfd,
            self.child(),
            self.parent,
            self.exit_signal,
            stack.0,
            stack.1,
            0,
            self.set_tid.0,
            self.set_tid.1,
            self.cgroup,
        ]
    }
}

/// clone(2).
pub fn clone<A: Abi>(task: &mut Task<A>, [flags, stack, parent, child, tls]: [u64; 5]) -> Result<i64, Errno> {
    if flags & (CLONE_PIDFD | CLONE_PARENT_SETTID) == CLONE_PIDFD | CLONE_PARENT_SETTID {
        return Err(errno::EINVAL);
    }
    // The kernel takes 32 bits of the flags; `pidfd` has the same argument as `parent`.
    let (flags, exit_signal) = (flags & 0xffff_ffff & !CSIGNAL, flags & CSIGNAL);
    let [parent, child] = [parent, child].map(region::harmless);
    make(task, Request { flags, exit_signal, stack, pidfd: parent, parent, child, tls, ..Request::default() })
}

/// clone3(2).
pub fn clone3<A: Abi>(task: &mut Task<A>, arguments: u64, size: u64) -> Result<i64, Errno> {
    const KNOWN: u64 = 88;
    const LEGACY: u64 = 0xffff_ffff & !CSIGNAL | CLONE_NEWTIME;
    if size < 64 {
        return Err(errno::EINVAL);
    }
    if size > 4096 {
        return Err(errno::E2BIG);
    }
    let mut words = [0u64; 11];
    for (word, offset) in words.iter_mut().zip((0..size / 8 * 8).step_by(8)) {
        *word = guest::read64(arguments.wrapping_add(offset))?;
    }
    for offset in (KNOWN..size / 8 * 8).step_by(8) {
        if guest::read64(arguments.wrapping_add(offset))? != 0 {
            return Err(errno::E2BIG);
        }
    }
    let [flags, pidfd, child, parent, exit_signal, stack, stack_size, tls, tids, tid_count, cgroup] = words;
    // In the kernel's order (kernel/fork.c, copy_clone_args_from_user and clone3_args_valid).
    let clears_and_shares = flags & CLONE_CLEAR_SIGHAND != 0 && flags & CLONE_SIGHAND != 0;
    if tid_count > 32
        || (tids == 0) != (tid_count == 0)
        || exit_signal > 64
        || flags & CLONE_INTO_CGROUP != 0 && cgroup > i32::MAX as u64
        || flags & !(LEGACY | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP) != 0
        || flags & CLONE_DETACHED != 0
        || clears_and_shares
        || flags & (CLONE_THREAD | CLONE_PARENT) != 0 && exit_signal != 0
        || (stack == 0) != (stack_size == 0)
    {
        return Err(errno::EINVAL);
    }
    // The kernel uses these pointers: they may lead only to the guest's memory.
    let [pidfd, parent, child, tids] = [pidfd, parent, child, tids].map(region::harmless);
    let stack = stack.wrapping_add(stack_size);
    let cgroup = if flags & CLONE_INTO_CGROUP != 0 { cgroup } else { 0 };
    let set_tid = (tids, tid_count);
    make(task, Request { flags, exit_signal, stack, pidfd, parent, child, tls, set_tid, cgroup })
}

fn make<A: Abi>(task: &mut Task<A>, request: Request) -> Result<i64, Errno> {
    signal::block_all();
    if task.thread.shared.interrupted() {
        return Err(errno::NOT_STARTED);
    }
    signal::tells_end(request.exit_signal as u32);
    let result = if request.flags & CLONE_VM == 0 { fork(task, request) } else { spawn(task, request) };
    signal::use_mask(task.thread.mask);
    result
}

/// Creates a child with a copy of memory, which continues on a copy of this stack.
fn fork<A: Abi>(task: &mut Task<A>, request: Request) -> Result<i64, Errno> {
    let held = (
        task.thread.actions.hold(),
        memory::hold(),
        program::hold(),
        executable::hold(),
        seccomp::hold(),
        region::hold_blocks(),
        mapped::hold(),
        code::hold(),
        heap::hold(),
    );
    // SAFETY: the guest's pointers; no other thread is inside what the locks guard, so the copy is usable.
    let id = unsafe { sys::process::fork(&request.arguments((0, 0)), request.needs_clone3()) };
    drop(held);
    if id == Ok(0) {
        shared::free_others(task.thread.shared);
        // A child begins without a list (set_robust_list(2)).
        task.thread.shared.robust.store(0, Ordering::Relaxed);
        task.thread.shared.note_ids();
        let engine = task.parts().0;
        engine.is_alone();
        mapped::forked(engine.decoded());
        enter_child(task, &request);
        if request.flags & CLONE_CLEAR_SIGHAND != 0 {
            task.thread.actions.reset_handlers();
        }
    }
    id
}

fn enter_child<A: Abi>(task: &mut Task<A>, request: &Request) {
    let sp = (request.stack != 0).then_some(request.stack);
    A::enter_child(&mut task.state, sp, (request.flags & CLONE_SETTLS != 0).then_some(request.tls));
}

/// Creates a child that shares memory.
fn spawn<A: Abi>(task: &mut Task<A>, request: Request) -> Result<i64, Errno> {
    let shared = shared::with_stack()?;
    let parent = &task.thread;
    let vfork = request.flags & CLONE_VFORK != 0;
    let shares_actions = request.flags & CLONE_SIGHAND != 0;
    let actions: &'static Actions =
        if shares_actions { parent.actions } else { Box::leak(Box::new(parent.actions.copy())) };
    let mut thread = Thread::new(shared, actions);
    thread.mask = parent.mask;
    thread.tagged = parent.tagged;
    thread.clears_handlers = request.flags & CLONE_CLEAR_SIGHAND != 0;
    thread.alternate = if vfork { parent.alternate } else { Alternate::default() };
    let mut child = Box::new(Task::new(thread, task.state.clone(), task.run));
    if vfork {
        child.engine = task.engine;
    } else {
        child.own_engine();
    }
    enter_child(&mut child, &request);
    let child = Box::into_raw(child);
    let (stack, argument) = (shared.stack_end(), child as u64);
    let held = seccomp::hold();
    shared.filters.store(parent.shared.filters.load(Ordering::Relaxed), Ordering::Relaxed);
    shared.process.store(parent.shared.process.load(Ordering::Relaxed), Ordering::Relaxed);
    drop(held);
    // SAFETY: only the child uses the block's stack; the child frees `child`, or we do after a vfork.
    let id = unsafe {
        if request.needs_clone3() {
            let arguments = request.arguments(shared.stack());
            sys::thread_start3(arguments, child_main::<A>, argument)
        } else {
            let flags = request.host_flags() | request.exit_signal;
            sys::thread_start(flags, stack, request.parent(), request.child(), child_main::<A>, argument)
        }
    };
    if id.is_err() || vfork {
        // SAFETY: there is no child, or it has left this memory by execve or exit.
        unsafe {
            let mut child = Box::from_raw(child);
            child.free();
            if !shares_actions {
                drop(Box::from_raw(core::ptr::from_ref(actions).cast_mut()));
            }
        }
        shared.used.store(0, Ordering::Release);
    }
    id
}

unsafe extern "C" fn child_main<A: Abi>(task: u64) -> ! {
    // SAFETY: the box that `spawn` made for this child.
    let task = unsafe { &mut *(task as *mut Task<A>) };
    task.thread.shared.use_signal_stack();
    task.thread.shared.note_ids();
    if task.thread.clears_handlers {
        task.thread.actions.reset_handlers();
    }
    signal::use_mask(task.thread.mask);
    (task.run)(task)
}

/// exit(2): ends the thread.
pub fn exit<A: Abi>(task: &mut Task<A>, status: u64) -> ! {
    robust::release(task.thread.shared);
    if !task.owns_engine {
        // A vfork child; its parent frees everything.
        sys::process::exit_thread(status);
    }
    signal::block_even_ours();
    task.free();
    // SAFETY: everything is blocked and the block's stack is not used after this.
    unsafe { sys::thread_exit(&task.thread.shared.used, status) }
}
