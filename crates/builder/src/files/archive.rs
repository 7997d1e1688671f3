//! Archives that ADD unpacks: recognised by their first bytes, not by name, as moby does.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crossdock_oci::layer::is_archive;

/// Whether the file is a tar archive, compressed or not. A compressed file counts only if there is an archive
/// inside.
pub fn detect(file: &mut File) -> io::Result<bool> {
    let mut head = Vec::new();
    file.take(512).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    let found = is_archive(&head, file.try_clone()?)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crossdock_oci::layer::{UnpackLimit, extract_tar};
    use crossdock_oci::store::Owners;
    use crossdock_testkit::LayerTar;
    use crossdock_testkit::hostile::try_inputs;

    /// One archive, compressed in each way.
    fn archives() -> Vec<Vec<u8>> {
        let tar = LayerTar::new().dir("d/").file("d/f", "text".repeat(500)).finish();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).expect("memory");
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&tar).expect("memory");
        let mut xz =
            lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).expect("options");
        xz.write_all(&tar).expect("memory");
        let compressed = [gzip.finish().expect("memory"), bzip2.finish().expect("memory")];
        let mut all =
            vec![tar.clone(), zstd::encode_all(&tar[..], 1).expect("memory"), xz.finish().expect("memory")];
        all.extend(compressed);
        all
    }

    /// The most bytes read of a hostile stream.
    const READ_MAX: u64 = 64 * 1024 * 1024;

    #[test]
    fn hostile() {
        let archives = archives();
        for bytes in &archives {
            let mut file = tempfile::tempfile().expect("a temporary file");
            file.write_all(bytes).expect("written");
            file.seek(SeekFrom::Start(0)).expect("a file");
            assert!(detect(&mut file).expect("readable"), "{:?}", &bytes[..4]);
        }
        let file = tempfile::tempfile().expect("a temporary file");
        try_inputs("compressed streams", &archives, |input| {
            file.set_len(0).expect("a file");
            (&file).seek(SeekFrom::Start(0)).expect("a file");
            (&file).write_all(input).expect("written");
            (&file).seek(SeekFrom::Start(0)).expect("a file");
            let _ = detect(&mut file.try_clone().expect("another descriptor"));
            let directory = tempfile::tempdir().expect("a directory");
            let stream = file.try_clone().expect("another descriptor").take(READ_MAX);
            let limit = UnpackLimit::default();
            let _ = extract_tar(stream, directory.path(), Owners::Ignore, "x", &limit);
        });
    }
}
