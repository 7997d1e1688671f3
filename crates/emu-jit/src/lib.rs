//! The fast form of guest code: translation to x86-64 while the program runs.
//!
//! [`Engine`] takes the interpreter's place (`crossdock_emu_guest::a64::Interpreter::run`) and returns for
//! the same reasons with the same state: it interprets code that runs a few times, and translates code that
//! runs more often. It knows nothing of the operating system: memory for code is handed in, and the signal
//! handler calls [`resume_after_fault`]. The design is in `docs/dev/emulator.md`.
#![no_std]
// Bit fields read better without parentheses around every shift.
#![allow(clippy::precedence)]
// Generated code holds the addresses of boxed records.
#![allow(clippy::vec_box)]

extern crate alloc;

mod breakpoints;
mod cache;
mod engine;
mod flag_form;
mod host;
pub mod image;
mod jump_cache;
mod layout;
pub mod lock;
mod mxcsr;
mod presence;
pub mod routines;
mod thunks;
mod translate;
mod unit;
mod vector_moves;
mod wary;

pub use cache::Cache;
pub use engine::{
    Copies, Engine, Jit, Outcome, ReturnStack, Runner, System, interrupt_soon, resume_after_fault,
};
pub use host::host_is_able;
pub use lock::Held;
pub use presence::POKE;
pub use translate::{Features, Isa};
