//! Packages of Fedora, Red Hat, SUSE and their relatives: rpm's database, of which the one in SQLite is read
//! (rpm, docs/manual: "Header format", "tags").

use std::fs::File;

use super::os::Os;
use super::package::{PACKAGES_MAX, Package};
use super::root::Root;
use super::sqlite::{Damaged, Database, Value};

/// Where the database is: of old, of Fedora and SUSE today, and of images made by rpm-ostree.
const DIRECTORIES: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];
/// Forms of the database that are not read: Berkeley DB, and rpm's own.
const OTHERS: [(&str, &str); 2] = [("Packages", "Berkeley DB"), ("Packages.db", "ndb")];
/// The largest database that is read, in bytes; one of 5000 packages has 200 MB.
const SIZE_MAX: u64 = 1 << 30;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const SOURCE_RPM: u32 = 1044;

/// All packages of the root; notes databases that cannot be read.
pub fn packages(root: &Root, os: &Os) -> Vec<Package> {
    let mut all = Vec::new();
    for directory in DIRECTORIES {
        let path = format!("{directory}/rpmdb.sqlite");
        if let Some(file) = root.open(&path) {
            if root.open(&format!("{path}-wal")).is_some_and(|log| log.metadata().is_ok_and(|m| m.len() > 0))
            {
                root.note(format!("/{path} has a log beside it: its latest packages are missing here"));
            }
            match read(&file, os, &path) {
                Ok(found) => all.extend(found),
                Err(Damaged(reason)) => root.note(format!("/{path} cannot be read: {reason}")),
            }
            continue;
        }
        for (name, form) in OTHERS {
            if root.open(&format!("{directory}/{name}")).is_some() {
                root.note(format!(
                    "/{directory}/{name} was not read, so its packages are missing here: rpm's databases in {form} are not known"
                ));
            }
        }
    }
    all
}

/// The packages of a database in SQLite. `source` is its path.
pub fn read(file: &File, os: &Os, source: &str) -> Result<Vec<Package>, Damaged> {
    let mut all = Vec::new();
    if file.metadata().is_ok_and(|metadata| metadata.len() > SIZE_MAX) {
        return Err(Damaged("it is larger than 1 GiB"));
    }
    Database::open(file)?.rows("Packages", &mut |row| {
        // The number of the package, which is the row's, and its header.
        if let [_, Value::Bytes(header), ..] = row
            && all.len() < PACKAGES_MAX
        {
            all.extend(Header::read(header).and_then(|header| package(&header, os, source)));
        }
    })?;
    Ok(all)
}

/// A package's header: an index of tags, and their values.
struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Option<Header<'a>> {
        let count = usize::try_from(number(bytes, 0)?).ok()?;
        let size = usize::try_from(number(bytes, 4)?).ok()?;
        let end = count.checked_mul(16)?.checked_add(8)?;
        Some(Header { entries: bytes.get(8..end)?, data: bytes.get(end..)?.get(..size)? })
    }

    /// The type and the value of a tag: a number, or the bytes from its begin.
    fn value(&self, tag: u32) -> Option<(u32, &'a [u8])> {
        let entry = self.entries.chunks_exact(16).find(|entry| number(entry, 0) == Some(tag))?;
        let offset = usize::try_from(number(entry, 8)?).ok()?;
        Some((number(entry, 4)?, self.data.get(offset..)?))
    }

    /// A text, or the first one of several.
    fn text(&self, tag: u32) -> Option<String> {
        const TEXTS: [u32; 3] = [6, 8, 9];
        let (kind, bytes) = self.value(tag)?;
        let text = bytes.split(|byte| *byte == 0).next().filter(|_| TEXTS.contains(&kind))?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn number(&self, tag: u32) -> Option<u32> {
        let (kind, bytes) = self.value(tag)?;
        number(bytes, 0).filter(|_| kind == 4)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn package(header: &Header<'_>, os: &Os, source: &str) -> Option<Package> {
    let name = header.text(NAME)?;
    // Keys are kept as packages, too.
    if name == "gpg-pubkey" {
        return None;
    }
    let version = format!("{}-{}", header.text(VERSION)?, header.text(RELEASE).unwrap_or_default());
    let version = version.trim_end_matches('-');
    let epoch = header.number(EPOCH).map(|epoch| epoch.to_string()).unwrap_or_default();
    let [arch, upstream] = [ARCH, SOURCE_RPM].map(|tag| header.text(tag).unwrap_or_default());
    let qualifiers = [("arch", arch.as_str()), ("epoch", epoch.as_str()), ("upstream", upstream.as_str())];
    let mut package = Package::of_system("rpm", os, (&name, version), &qualifiers, source);
    if !epoch.is_empty() {
        package.version = format!("{epoch}:{version}");
    }
    let vendor = header.text(VENDOR);
    Some(package.with_license(header.text(LICENSE).as_deref()).with_supplier(vendor.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::super::sqlite::sample;
    use super::*;
    use crossdock_testkit::hostile::try_inputs;
    use std::io::Write;

    /// A header as rpm keeps it: texts and numbers by tag.
    fn header(texts: &[(u32, &str)], numbers: &[(u32, u32)]) -> Vec<u8> {
        let (mut entries, mut data): (Vec<u8>, Vec<u8>) = Default::default();
        let mut entry = |tag: u32, kind: u32, offset: usize| {
            entries.extend([tag, kind, offset as u32, 1].iter().flat_map(|number| number.to_be_bytes()));
        };
        for (tag, number) in numbers {
            entry(*tag, 4, data.len());
            data.extend(number.to_be_bytes());
        }
        for (tag, text) in texts {
            entry(*tag, 6, data.len());
            data.extend(text.bytes().chain([0]));
        }
        let count = (entries.len() / 16) as u32;
        [&count.to_be_bytes()[..], &(data.len() as u32).to_be_bytes(), &entries, &data].concat()
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("room");
        file
    }

    #[test]
    fn packages_of_a_database() {
        let bash = [
            (NAME, "bash"),
            (VERSION, "5.2.26"),
            (RELEASE, "3.fc40"),
            (ARCH, "x86_64"),
            (LICENSE, "GPL-3.0-or-later"),
            (VENDOR, "Fedora Project"),
            (SOURCE_RPM, "bash-5.2.26-3.fc40.src.rpm"),
        ];
        let key = [(NAME, "gpg-pubkey"), (VERSION, "1"), (RELEASE, "1")];
        let old = [(NAME, "shadow"), (VERSION, "4"), (RELEASE, "1")];
        let headers = [header(&bash, &[]), header(&key, &[]), header(&old, &[(EPOCH, 2)]), b"short".to_vec()];
        let os = Os { id: "fedora".into(), version: "40".into(), ..Os::default() };
        let found = read(&file(&sample::database(&headers)), &os, "db").expect("a database");
        let purls: Vec<&str> = found.iter().map(|package| &package.purl[..]).collect();
        assert_eq!(
            purls,
            [
                "pkg:rpm/fedora/bash@5.2.26-3.fc40?arch=x86_64&distro=fedora-40&upstream=bash-5.2.26-3.fc40.src.rpm",
                "pkg:rpm/fedora/shadow@4-1?distro=fedora-40&epoch=2"
            ]
        );
        assert_eq!(found[0].license.as_deref(), Some("GPL-3.0-or-later"));
        assert_eq!(found[1].version, "2:4-1");
    }

    #[test]
    fn hostile_databases_of_rpm() {
        let long = "x".repeat(900);
        let valid =
            sample::database(&[header(&[(NAME, "a"), (VERSION, "1"), (LICENSE, &long)], &[(EPOCH, 1)])]);
        try_inputs("rpm's database", &[valid], |bytes| {
            let _ = read(&file(bytes), &Os::default(), "db");
        });
    }
}
