//! The executable has its own start (`src/entry.rs`) and packed relocations, which the start unpacks.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for argument in ["-nostartfiles", "-Wl,--build-id=sha1", "-Wl,-z,pack-relative-relocs", "-Wl,-z,norelro"]
    {
        println!("cargo:rustc-link-arg-bin=crossdock-emu={argument}");
    }
}
