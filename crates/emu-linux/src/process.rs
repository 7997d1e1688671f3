//! Threads and processes: clone in all its forms, and the end of a thread.
//!
//! A task that shares memory is a task of the host with a block of its own. With CLONE_VFORK it is real: the parent
//! waits in the kernel, the child uses its parent's decoded code, and what it does to memory is seen by the parent.

use crate::code;
use crate::guest;
use crate::heap;
use crate::memory;
use crate::region;
use crate::run;
use crate::signal::{self, Actions, Alternate};
use crate::sys::{self, errno, nr};
use crate::syscall;
use crate::task::{self, Task};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;

const CLONE_VM: u64 = 0x100;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_SETTLS: u64 = 0x8_0000;
/// What clone(2) does not take.
const CLONE3_ONLY: u64 = !0xffff_ffff;

/// The arguments of clone and clone3 that differ between guest and host.
#[derive(Clone, Copy, Debug)]
struct Request {
    /// Flags and exit signal.
    flags: u64,
    stack: u64,
    /// CLONE_PARENT_SETTID, or CLONE_PIDFD.
    parent: u64,
    /// CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID.
    child: u64,
    tls: u64,
}

/// clone(2), with arm64's order of arguments.
pub fn clone(task: &mut Task, [flags, stack, parent, tls, child, _]: [u64; 6]) -> Result<i64, i64> {
    make(task, Request { flags, stack, parent, child, tls })
}

/// clone3(2), as far as clone can do it; ENOSYS otherwise, after which C libraries use clone.
pub fn clone3(task: &mut Task, arguments: u64, size: u64) -> Result<i64, i64> {
    if size < 64 {
        return Err(errno::EINVAL);
    }
    let [flags, pidfd, child, parent, exit_signal, stack, stack_size, tls] =
        guest::read_words::<8>(arguments)?;
    for offset in (64..size.min(4096)).step_by(8) {
        if guest::read64(arguments.wrapping_add(offset))? != 0 {
            return Err(errno::ENOSYS);
        }
    }
    const CLONE_PARENT_SETTID: u64 = 0x10_0000;
    let both = flags & CLONE_PIDFD != 0 && flags & CLONE_PARENT_SETTID != 0;
    if flags & CLONE3_ONLY != 0 || both {
        return Err(errno::ENOSYS);
    }
    if flags & 0xff != 0 || exit_signal > 64 || (stack == 0) != (stack_size == 0) {
        return Err(errno::EINVAL);
    }
    let parent = if flags & CLONE_PIDFD != 0 { pidfd } else { parent };
    // The kernel writes there: only to the guest's memory.
    if parent >= region::start() || child >= region::start() {
        return Err(errno::EFAULT);
    }
    let stack = stack.wrapping_add(stack_size);
    make(task, Request { flags: flags | exit_signal, stack, parent, child, tls })
}

fn make(task: &mut Task, request: Request) -> Result<i64, i64> {
    signal::block_all();
    if run::interrupted(task) {
        return Err(errno::NOT_STARTED);
    }
    signal::tells_end((request.flags & 0xff) as u32);
    let result = if request.flags & CLONE_VM == 0 { fork(task, request) } else { spawn(task, request) };
    signal::use_mask(task.mask);
    match result {
        error if error < 0 => Err(error),
        id => Ok(id),
    }
}

/// A child with a copy of memory continues on a copy of this very stack.
fn fork(task: &mut Task, request: Request) -> i64 {
    let held = (task.actions.hold(), memory::hold(), region::hold_blocks(), code::hold(), heap::hold());
    let flags = request.flags & !CLONE_SETTLS;
    // SAFETY: no other thread is inside what the locks guard, so the copy is usable.
    let id = unsafe { syscall!(nr::CLONE, flags, 0, request.parent, request.child, 0) };
    drop(held);
    if id == 0 {
        region::free_other_blocks(task.shared);
        // SAFETY: the thread's engine, which nobody else uses.
        unsafe { &*task.engine }.is_alone();
        enter_child(task, &request);
    }
    id
}

fn enter_child(task: &mut Task, request: &Request) {
    if request.stack != 0 {
        task.state.set_sp(request.stack);
    }
    if request.flags & CLONE_SETTLS != 0 {
        task.state.tpidr_el0 = request.tls;
    }
    task.state.exclusive_size = 0;
    task.state.set_x(0, 0);
}

/// A child that shares memory.
fn spawn(task: &mut Task, request: Request) -> i64 {
    let shared = match task::new_shared() {
        Ok(shared) => shared,
        Err(error) => return error,
    };
    let vfork = request.flags & CLONE_VFORK != 0;
    let shares_actions = request.flags & CLONE_SIGHAND != 0;
    let actions: &'static Actions =
        if shares_actions { task.actions } else { Box::leak(Box::new(task.actions.copy())) };
    let mut child = Box::new(Task::new(shared, task.state.clone(), actions));
    child.mask = task.mask;
    child.alternate = if vfork { task.alternate } else { Alternate::default() };
    if vfork {
        child.engine = task.engine;
    } else {
        child.own_engine();
    }
    enter_child(&mut child, &request);
    let child = Box::into_raw(child);
    let flags = request.flags & !CLONE_SETTLS;
    // SAFETY: the block's stack is the child's alone; `child` is its to free, or ours after a vfork.
    let id = unsafe {
        sys::thread_start(flags, shared.stack_end(), request.parent, request.child, child_main, child as u64)
    };
    if id < 0 || vfork {
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

unsafe extern "C" fn child_main(task: u64) -> ! {
    // SAFETY: the box that `spawn` made for this child.
    let task = unsafe { &mut *(task as *mut Task) };
    task.shared.use_signal_stack();
    signal::use_mask(task.mask);
    run::run(task)
}

/// exit(2): ends the thread.
pub fn exit(task: &mut Task, status: u64) -> ! {
    if !task.owns_engine {
        // A vfork child; its parent frees everything.
        loop {
            // SAFETY: does not return.
            unsafe { syscall!(nr::EXIT, status) };
        }
    }
    signal::block_even_ours();
    task.free();
    // SAFETY: everything is blocked and the block's stack is not used after this.
    unsafe { sys::thread_exit(&task.shared.used, status) }
}
