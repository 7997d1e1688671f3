//! Links the executable at fixed addresses. Each RUN step starts it twice, and a position-independent one
//! begins by relocating its 30,000 pointers to constants. Stacks, heap and mappings keep their random
//! addresses.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, wanted: &str| {
        env::var(name).is_ok_and(|value| value.split(',').any(|one| one == wanted))
    };
    if is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_CFG_TARGET_FEATURE", "crt-static") {
        // The linker's driver has been given -static-pie; the last of these options counts.
        for argument in ["-static", "-no-pie"] {
            println!("cargo:rustc-link-arg-bin=crossdock={argument}");
        }
    }
}
