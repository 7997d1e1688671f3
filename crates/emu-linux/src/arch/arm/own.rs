//! The calls that the ABI answers itself, mostly since they have structures of their own: a table from names
//! to conversions.

use super::words::{self, Field, Width};
use super::{files, ipc, messages, signals, system};
use crate::arch::Abi;
use crate::arch::call::{Call, Row};
use crate::calls::host::host;
use crate::changes::CHANGES;
use crate::memory;
use crate::robust;
use crate::signal::number::TRAP;
use crate::sys::Errno;
use crate::sys::signal::raise;
use crate::thread::Thread;
use Field::{Both, In, Out, Times};
use crossdock_emu_guest::State;

macro_rules! own_calls {
    ($($name:ident)*) => {
        /// A call of the table, or several with the same conversion.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Own {
            $($name,)*
        }

        /// All of them, by number.
        const ALL: &[Own] = &[$(Own::$name),*];
    };
}

own_calls! {
    // Times, and other structures of words.
    Adjtimex ClockAdjtime ClockGettime ClockNanosleep ClockNanosleep64 Futimesat Getitimer Getrusage
    Gettimeofday MqGetsetattr MqOpen MqTimed MqTimed64 Nanosleep Semtimedop Semtimedop64 Setitimer
    Settimeofday TimerGettime TimerSettime TimerSettime64 Times Timespec64In TimespecIn TimespecOut
    Utimensat Utimensat64 Utimes Wait4
    // Files and memory.
    Dup2 EpollPwait2 Fadvise Fcntl Getdents Getdents64 IoGetevents IoPgetevents IoPgetevents64 IoSetup
    IoSubmit Ioctl Llseek Lseek Mmap2 OldFstat OldStat Ppoll PpollTime64 ProcessVm Pselect6
    Pselect6Time64 Select Sendfile Statfs Statfs64 SyncFileRange Vector Vector2
    // Sockets and messages.
    Getsockopt Msgctl Msgrcv Msgsnd Recvmmsg Recvmmsg64 Recvmsg Semctl Sendmmsg Sendmsg Setsockopt Shmctl
    // Signals.
    MqNotify PidfdSendSignal RtSigqueueinfo RtSigtimedwait RtSigtimedwait64 RtTgsigqueueinfo Sigaction
    Sigpending Sigprocmask Sigsuspend TimerCreate Waitid
    // The process and the system.
    ExitGroup Futex Futex64 FutexWaitv GetRobustList Getgroups16 Getres16 Getrlimit Id16 Nice
    SetRobustList Setgroups16 Setrlimit Sysinfo
    // Calls of arm alone.
    Breakpoint Cacheflush GetTls SetTls
}

/// For [`Row::is`].
pub(super) const fn own(which: Own) -> Call {
    Call::Own(which as u8)
}

/// Words of a struct rusage, timex, mq_attr.
const RUSAGE: usize = 18;
const TIMEX: usize = 26;
const MQ_ATTR: usize = 8;

/// The structures of words among a call's arguments.
const fn fields(which: Own) -> Option<&'static [Field]> {
    Some(match which {
        Own::Adjtimex => &[Both(0, TIMEX)],
        Own::ClockAdjtime => &[Both(1, TIMEX)],
        Own::ClockNanosleep => &[In(2, 2), Out(3, 2)],
        Own::ClockNanosleep64 => &[Times(2, 1)],
        Own::Futimesat => &[In(2, 4)],
        Own::FutexWaitv => &[Times(3, 1)],
        Own::Getitimer => &[Out(1, 4)],
        Own::Getrusage => &[Out(1, RUSAGE)],
        Own::MqGetsetattr => &[In(1, MQ_ATTR), Out(2, MQ_ATTR)],
        Own::MqOpen => &[In(3, MQ_ATTR)],
        Own::MqTimed => &[In(4, 2)],
        Own::MqTimed64 => &[Times(4, 1)],
        Own::Nanosleep => &[In(0, 2), Out(1, 2)],
        Own::Semtimedop => &[In(3, 2)],
        Own::Semtimedop64 => &[Times(3, 1)],
        Own::Setitimer => &[In(1, 4), Out(2, 4)],
        Own::Settimeofday => &[In(0, 2)],
        Own::TimerGettime => &[Out(1, 4)],
        Own::TimerSettime => &[In(2, 4), Out(3, 4)],
        Own::TimerSettime64 => &[Times(2, 2)],
        Own::Times => &[Out(0, 4)],
        Own::Timespec64In => &[Times(1, 1)],
        Own::TimespecIn => &[In(1, 2)],
        Own::TimespecOut => &[Out(1, 2)],
        Own::Utimensat => &[In(2, 4)],
        Own::Utimensat64 => &[Times(2, 2)],
        Own::Utimes => &[In(1, 4)],
        Own::Wait4 => &[Out(3, RUSAGE)],
        _ => return None,
    })
}

/// Answers the call with this number in [`ALL`].
pub(super) fn answer<A: Abi>(
    thread: &mut Thread,
    state: &mut State,
    row: &Row,
    which: u8,
    a: &[u64; 6],
) -> Result<i64, Errno> {
    let which = ALL[usize::from(which)];
    if let Some(fields) = fields(which) {
        return words::call(thread, row, a, fields);
    }
    match which {
        Own::ClockGettime => system::clock_gettime(thread, row, a),
        Own::Gettimeofday => system::gettimeofday(thread, row, a),

        Own::Dup2 => files::dup2(thread, a),
        Own::Fadvise | Own::SyncFileRange => {
            host(thread, u64::from(row.host), &[a[0], a[2], a[3], a[1], 0, 0])
        }
        Own::Fcntl => files::fcntl::<A>(thread, a),
        Own::EpollPwait2 => files::epoll_pwait2(thread, row, a),
        Own::Getdents => files::getdents(thread, a),
        Own::Getdents64 => files::getdents64(thread, a),
        Own::IoGetevents => files::io_getevents(thread, row, a),
        Own::IoPgetevents => files::io_pgetevents(thread, row, a, Width::Narrow),
        Own::IoPgetevents64 => files::io_pgetevents(thread, row, a, Width::Wide),
        Own::IoSetup => files::io_setup(thread, row, a),
        Own::IoSubmit => files::io_submit(thread, row, a),
        Own::Ioctl => files::ioctl(thread, a),
        Own::Llseek => files::llseek(thread, row, a),
        Own::Lseek => files::lseek(thread, row, a),
        Own::Mmap2 => memory::mmap([a[0], a[1], a[2], a[3], a[4], a[5] << 12]),
        Own::OldFstat => files::old_fstat(thread, a),
        Own::OldStat => files::old_stat(thread, a),
        Own::Ppoll => files::ppoll(thread, a, Width::Narrow),
        Own::PpollTime64 => files::ppoll(thread, a, Width::Wide),
        Own::ProcessVm => files::process_vm(thread, row, a),
        Own::Pselect6 => files::pselect6(thread, a, Width::Narrow),
        Own::Pselect6Time64 => files::pselect6(thread, a, Width::Wide),
        Own::Select => files::select(thread, row, a),
        Own::Sendfile => files::sendfile(thread, row, a),
        Own::Statfs => files::statfs(thread, row, a),
        Own::Statfs64 => files::statfs64(thread, row, a),
        Own::Vector => files::vector_call(thread, row, a),
        Own::Vector2 => files::vector_call(thread, row, &[a[0], a[1], a[2], a[3], 0, a[4]]),

        Own::Getsockopt => messages::getsockopt(thread, row, a),
        Own::Setsockopt => messages::setsockopt(thread, row, a),
        Own::Recvmmsg => messages::recvmmsg(thread, a, Width::Narrow),
        Own::Recvmmsg64 => messages::recvmmsg(thread, a, Width::Wide),
        Own::Recvmsg => messages::recvmsg(thread, a),
        Own::Sendmmsg => messages::sendmmsg(thread, a),
        Own::Sendmsg => messages::sendmsg(thread, a),
        Own::Msgrcv => ipc::msgrcv(thread, row, a),
        Own::Msgsnd => ipc::msgsnd(thread, row, a),
        Own::Msgctl => ipc::control(thread, row, a, &ipc::MSGCTL),
        Own::Semctl => ipc::control(thread, row, a, &ipc::SEMCTL),
        Own::Shmctl => ipc::control(thread, row, a, &ipc::SHMCTL),

        Own::MqNotify | Own::TimerCreate => signals::with_event(thread, row, a),
        Own::PidfdSendSignal if a[2] == 0 => host(thread, u64::from(row.host), a),
        Own::PidfdSendSignal | Own::RtSigqueueinfo => signals::queue(thread, row, a, 2),
        Own::RtTgsigqueueinfo => signals::queue(thread, row, a, 3),
        Own::RtSigtimedwait => signals::timed_wait(thread, row, a, Width::Narrow),
        Own::RtSigtimedwait64 => signals::timed_wait(thread, row, a, Width::Wide),
        Own::Sigaction => signals::sigaction(thread, a),
        Own::Sigpending => signals::sigpending(thread, a),
        Own::Sigprocmask => signals::sigprocmask(thread, a),
        Own::Sigsuspend => signals::sigsuspend(thread, row, a),
        Own::Waitid => signals::waitid(thread, row, a),

        Own::Futex => system::futex(thread, row, a, Width::Narrow),
        Own::Futex64 => system::futex(thread, row, a, Width::Wide),
        Own::SetRobustList => system::set_robust_list(thread, a),
        Own::GetRobustList => system::get_robust_list(thread, a),
        Own::ExitGroup => {
            robust::release_all(thread.shared);
            host(thread, u64::from(row.host), a)
        }
        Own::Getgroups16 => system::getgroups16(thread, row, a),
        Own::Setgroups16 => system::setgroups16(thread, row, a),
        Own::Getres16 => system::getres16(thread, row, a),
        Own::Getrlimit => system::getrlimit(thread, a),
        Own::Setrlimit => system::setrlimit(thread, a),
        Own::Id16 => system::id16(thread, row),
        Own::Nice => system::nice(thread, row, a),
        Own::Sysinfo => system::sysinfo(thread, row, a),

        Own::Breakpoint => {
            raise(TRAP);
            Ok(i64::from(state.r(0)))
        }
        Own::Cacheflush => {
            CHANGES.invalidate(a[0]..a[1]);
            Ok(0)
        }
        Own::GetTls => Ok(state.tpidr_el0 as i64),
        Own::SetTls => {
            state.tpidr_el0 = a[0];
            Ok(0)
        }
        _ => unreachable!("{which:?} has fields"),
    }
}
