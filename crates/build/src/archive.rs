//! Archives that ADD unpacks: told by their first bytes, as moby does, whatever their name.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crossdock_oci::layer::UnpackLimit;

/// How a tar archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    /// Not at all.
    Tar,
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// The .xz format.
    Xz,
    /// RFC 8878.
    Zstd,
}

/// Offset of `ustar` in a header (POSIX pax, "ustar Header Block").
const USTAR_AT: usize = 257;

fn by_magic(head: &[u8]) -> Option<Archive> {
    match head {
        [0x1f, 0x8b, ..] => Some(Archive::Gzip),
        [b'B', b'Z', b'h', ..] => Some(Archive::Bzip2),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Archive::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Archive::Zstd),
        _ if head.get(USTAR_AT..USTAR_AT + 5) == Some(b"ustar") => Some(Archive::Tar),
        _ => None,
    }
}

fn head(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    source.take(512).read_to_end(&mut head)?;
    Ok(head)
}

/// Whether the file is a tar archive, compressed or not. A compressed file counts only if there is an archive inside.
pub fn detect(file: &mut File) -> io::Result<Option<Archive>> {
    let first = head(file)?;
    let kind = by_magic(&first);
    file.seek(SeekFrom::Start(0))?;
    match kind {
        None | Some(Archive::Tar) => Ok(kind),
        Some(compressed) => {
            // A file that only begins like a compressed one is no archive.
            let inner = decoder(compressed, file.try_clone()?, &UnpackLimit::default())
                .and_then(|mut stream| head(&mut stream));
            file.seek(SeekFrom::Start(0))?;
            Ok(kind.filter(|_| inner.is_ok_and(|inner| by_magic(&inner) == Some(Archive::Tar))))
        }
    }
}

/// Memory that an .xz file may ask for, in KiB; that of `xz -9` needs 65 MiB.
const XZ_MEMORY_MAX: u32 = 256 * 1024;

/// The uncompressed archive, which ends with an error at the limit.
pub fn open(mut file: File, limit: &UnpackLimit) -> io::Result<Box<dyn Read + Send>> {
    let kind = by_magic(&head(&mut file)?).unwrap_or(Archive::Tar);
    file.seek(SeekFrom::Start(0))?;
    decoder(kind, file, limit)
}

fn decoder(kind: Archive, file: File, limit: &UnpackLimit) -> io::Result<Box<dyn Read + Send>> {
    let file = BufReader::with_capacity(64 * 1024, limit.input_of(file));
    Ok(match kind {
        Archive::Tar => Box::new(limit.output(file)),
        Archive::Gzip => Box::new(limit.output(flate2::bufread::MultiGzDecoder::new(file))),
        Archive::Bzip2 => Box::new(limit.output(bzip2::bufread::MultiBzDecoder::new(file))),
        Archive::Xz => Box::new(limit.output(lzma_rust2::XzReader::new_mem_limit(file, true, XZ_MEMORY_MAX))),
        Archive::Zstd => Box::new(limit.output(zstd::stream::read::Decoder::with_buffer(file)?)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
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

    /// What hostile streams expand to, at most.
    const READ_MAX: u64 = 64 * 1024 * 1024;

    #[test]
    fn hostile() {
        let archives = archives();
        for (bytes, kind) in
            archives.iter().zip([Archive::Tar, Archive::Zstd, Archive::Xz, Archive::Gzip, Archive::Bzip2])
        {
            let mut file = tempfile::tempfile().expect("a temporary file");
            file.write_all(bytes).expect("written");
            file.seek(SeekFrom::Start(0)).expect("a file");
            assert_eq!(detect(&mut file).expect("readable"), Some(kind));
        }
        let file = tempfile::tempfile().expect("a temporary file");
        try_inputs("compressed streams", &archives, |input| {
            file.set_len(0).expect("a file");
            (&file).seek(SeekFrom::Start(0)).expect("a file");
            (&file).write_all(input).expect("written");
            (&file).seek(SeekFrom::Start(0)).expect("a file");
            let _ = detect(&mut file.try_clone().expect("another descriptor"));
            if let Ok(stream) = open(file.try_clone().expect("another descriptor"), &UnpackLimit::default()) {
                let _ = io::copy(&mut stream.take(READ_MAX), &mut io::sink());
            }
        });
    }
}
