//! The one builder, as buildx would list it.

use crossdock_platform::Platform;
use crossdock_sandbox::emulator::{self, Choice};

/// The name of docker's own builder.
pub const NAME: &str = "default";

/// Platforms whose programs run here, this machine's first.
pub fn platforms() -> Vec<String> {
    let mut all = vec![Platform::host()];
    for specifier in ["amd64", "arm64", "arm/v7", "386", "riscv64", "ppc64le", "s390x"] {
        let platform: Platform = format!("linux/{specifier}").parse().expect("a platform");
        let runs =
            emulator::is_native(&platform) || emulator::find(&platform.architecture, &Choice::Auto).is_ok();
        if runs && !all.contains(&platform) {
            all.push(platform);
        }
    }
    all.iter().map(Platform::to_string).collect()
}
