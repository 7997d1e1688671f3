//! Archives whose bytes depend only on their content: names in order, one time, root as the owner.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use md5::{Digest, Md5};

/// A file of a package.
#[derive(Clone)]
pub struct Entry {
    pub path: String,
    pub mode: u32,
    pub content: Vec<u8>,
}

impl Entry {
    pub fn new(path: impl Into<String>, mode: u32, content: impl Into<Vec<u8>>) -> Entry {
        Entry { path: path.into(), mode, content: content.into() }
    }
}

/// A tar archive of files and the directories above them. `time` is in seconds since 1970.
pub fn tar(files: &[Entry], time: u64) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut known = BTreeSet::new();
    for file in files {
        for (at, _) in file.path.match_indices('/') {
            if known.insert(&file.path[..=at]) {
                let mut header = header(time, 0o755, 0);
                header.set_entry_type(tar::EntryType::Directory);
                archive.append_data(&mut header, &file.path[..=at], std::io::empty())?;
            }
        }
        let mut header = header(time, file.mode, file.content.len() as u64);
        archive.append_data(&mut header, &file.path, &file.content[..])?;
    }
    Ok(archive.into_inner()?)
}

fn header(time: u64, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root").expect("it is short");
    header.set_groupname("root").expect("it is short");
    header
}

/// Compresses without a name or a time in the header (RFC 1952, section 2.3.1).
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// A Debian package (deb(5)): an ar archive of the format's version, the control archive and the data
/// archive. `control` is the control file without `Installed-Size`.
pub fn deb(files: &[Entry], control: &str, time: u64) -> Result<Vec<u8>> {
    let kibibytes: u64 = files.iter().map(|file| (file.content.len() as u64).div_ceil(1024)).sum();
    let (head, description) = control.split_once("Description:").expect("each package has a description");
    let control = format!("{head}Installed-Size: {kibibytes}\nDescription:{description}");
    let sum = |file: &Entry| {
        let digest: String = Md5::digest(&file.content).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digest}  {}\n", file.path)
    };
    let sums: String = files.iter().map(sum).collect();
    let control = [Entry::new("control", 0o644, control), Entry::new("md5sums", 0o644, sums)];
    let mut package = b"!<arch>\n".to_vec();
    for (name, content) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", gzip(&tar(&control, time)?)?),
        ("data.tar.gz", gzip(&tar(files, time)?)?),
    ] {
        // ar(5): name, time, owner, group, mode, length; each padded by spaces.
        let head = format!("{name:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, "100644", content.len());
        package.extend_from_slice(head.as_bytes());
        package.extend_from_slice(&content);
        if content.len() % 2 == 1 {
            package.push(b'\n');
        }
    }
    Ok(package)
}
