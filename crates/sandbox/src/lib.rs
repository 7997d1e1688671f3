//! Runs one command in a root made of layers: user, mount, pid, ipc, uts and network namespaces, overlayfs,
//! private binfmt_misc, Docker's default capabilities, seccomp profile and masked paths; as root and as an
//! ordinary user.
//!
//! It returns an exit status and the changed tree, and knows neither images nor Dockerfiles. How it works,
//! process by process, is in `docs/dev/sandbox.md`.
//!
//! A program calls [`init_main_if_requested`] first of all, then [`userns::enter`] while it has one thread,
//! and from then on [`run`], [`spawn`] and [`overlay_fd`] from any thread.

pub mod architecture;
pub mod binfmt;
pub mod capabilities;
mod container;
mod control_group;
mod dir;
pub mod doctor;
pub mod emulator;
mod error;
mod host;
pub mod idmap;
mod images;
mod interrupt;
mod memory;
mod monitor;
mod mountpoints;
mod mounts;
mod network;
mod overlay;
mod places;
mod programs;
pub mod registration;
mod relay;
mod run;
mod seccomp;
mod spec;
mod stack;
mod sys;
pub mod sysctl;
mod terminal;
pub mod user;
pub mod userns;
mod watcher;
mod wire;

pub use capabilities::Capabilities;
pub use control_group::{ControlGroup, ControlGroupError, ControlLimits};
pub use emulator::Emulator;
pub use error::{Failure, SandboxError};
pub use images::compile_images;
pub use interrupt::before_end_by_signal;
pub use memory::give_back_memory;
pub use overlay::{LOWER_MAX, Upper};
pub use run::{ExitStatus, Io, Killer, Running, Stream, run, spawn};
pub use spec::{
    Content, Descriptor, Images, Limit, Mount, MountAttributes, MountKind, Network, PATH_DEFAULT, Programs,
    Root, Security, Source, Spec, Uplink,
};
pub use stack::{Stack, can_stack, link_layers, overlay_fd, overlay_fd_legacy};
pub use terminal::{Attach, run_attached};
pub use wire::Window;

/// Becomes the sandbox's monitor, its watcher, or the child of [`doctor::probe`], if this process was started
/// as one; then it does not return.
///
/// The sandbox starts the running executable again, so every program that uses it calls this first in `main`,
/// before it reads arguments or starts threads.
pub fn init_main_if_requested() {
    match std::env::args_os().nth(1) {
        Some(argument) if argument == monitor::ARGUMENT => monitor::main(),
        Some(argument) if argument == watcher::ARGUMENT => watcher::main(),
        Some(argument) if argument == doctor::ARGUMENT => doctor::main(),
        _ => {}
    }
}
