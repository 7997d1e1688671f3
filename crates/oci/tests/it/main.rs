//! Integration tests of the store, layers and archives, a file per capability.

use crossdock_sandbox::userns::{self, EnterOptions};

mod archive;
mod gc;
mod hostile;
mod image;
mod layer;
mod processes;
mod round_trip;
mod store;

/// Layers have files of several owners. An ordinary user can give files away only in a user namespace, which
/// a process must enter before it has threads: before the tests' own main function.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = {
    extern "C" fn enter() {
        if !rustix::process::geteuid().is_root() {
            userns::enter(&EnterOptions::default())
                .expect("user namespaces are allowed, and uidmap is installed");
        }
    }
    enter
};
