//! Measures writing and unpacking layers: `measure DIRECTORY [none|gzip|zstd] [LEVEL]`.
//!
//! Copies the directory into a scratch of a store, commits that, and unpacks the layer into a second store.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crossdock_oci::layer::{self, Timestamps};
use crossdock_oci::media_type::Compression;
use crossdock_oci::store::{LayerOptions, Owners};
use crossdock_oci::{Store, StoreError};

fn main() -> Result<(), StoreError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let source = PathBuf::from(arguments.first().map_or(".", String::as_str));
    let compression = match arguments.get(1).map(String::as_str) {
        Some("none") => Compression::None,
        Some("zstd") => Compression::Zstd,
        _ => Compression::Gzip,
    };
    let level = arguments.get(2).and_then(|l| l.parse().ok());
    let base = std::env::var("MEASURE_DIR").unwrap_or_else(|_| "/tmp".to_string());
    let base = Path::new(&base).join(format!("measure-{}", std::process::id()));
    let store = Store::open(&base.join("a"))?;

    let scratch = store.new_scratch()?;
    let started = Instant::now();
    layer::copy_tree(&[source], Timestamps::Keep, &scratch.upper(), Owners::Keep)?;
    println!("copy    {:7.3} s", started.elapsed().as_secs_f64());

    let started = Instant::now();
    let committed =
        store.commit_layer(scratch, &LayerOptions { compression, level, ..LayerOptions::default() })?;
    let seconds = started.elapsed().as_secs_f64();
    let (size, packed) = (committed.size as f64 / 1e6, committed.descriptor.size as f64 / 1e6);
    println!("commit  {seconds:7.3} s  {size:.0} MB -> {packed:.0} MB, {:.0} MB/s", size / seconds);

    let other = Store::open(&base.join("b"))?;
    let mut reader = store.open_blob(&committed.descriptor.digest)?;
    let mut writer = other.blob_writer()?;
    std::io::copy(&mut reader, &mut writer).expect("a readable blob and room for a copy");
    writer.commit(Some(&committed.descriptor.digest))?;
    let started = Instant::now();
    other.unpack(&committed.descriptor, &committed.diff_id, &[])?;
    let seconds = started.elapsed().as_secs_f64();
    println!("unpack  {seconds:7.3} s  {:.0} MB/s", size / seconds);

    let started = Instant::now();
    drop((store, other));
    for name in ["a", "b"] {
        let store = Store::open(&base.join(name))?;
        let report = store.gc(&crossdock_oci::store::GcOptions::default())?;
        assert!(report.failed.is_empty(), "{:?}", report.failed);
    }
    println!("remove  {:7.3} s", started.elapsed().as_secs_f64());
    std::fs::remove_dir_all(&base).expect("a removable directory");
    Ok(())
}
