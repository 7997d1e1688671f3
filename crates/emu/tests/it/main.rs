//! Programs of the guest, run in the emulator and compared with QEMU, the host or a file.

mod binfmt;
mod code;
mod command_line;
mod fuzz;
mod guest;
mod images;
mod memory;
mod programs;
mod sanitizers;
