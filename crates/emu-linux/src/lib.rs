//! The Linux side of the emulator: maps a program, answers its system calls, delivers its signals in the
//! guest's ABI.
//!
//! It knows no instruction encodings; registers and code are in `emu-guest`. Guest addresses are host
//! addresses, so most calls go to the host's kernel unchanged. No C library: raw system calls, its own heap,
//! nothing allocated in signal handlers.
#![no_std]

extern crate alloc;

pub mod arch;
pub mod calls;
mod changes;
mod code;
mod copies;
pub mod elf;
mod engine;
pub mod exec;
mod executable;
mod go;
pub mod guest;
mod heap;
pub mod images;
pub mod lock;
mod maps;
mod memory;
pub mod options;
mod own_executable;
pub mod personality;
pub mod proc;
mod process;
pub mod program;
pub mod region;
mod robust;
mod run;
mod seccomp;
pub mod shared;
pub mod signal;
pub mod start;
pub mod sys;
pub mod sysroot;
pub mod task;
pub mod text;
pub mod thread;
mod vdso;

pub use heap::Heap;
pub use options::{Log, Options};
pub use start::{Invocation, start, take_region};
