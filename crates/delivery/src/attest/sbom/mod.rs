//! Which packages are in an image: a list made from the databases of its root file system, as an SPDX
//! document.
//!
//! Read are the databases of dpkg, apk and rpm (in SQLite), what installers of Python, Node and Ruby leave,
//! and what Go and cargo-auditable write into executables. Files are not listed, and nothing is looked up
//! elsewhere.

mod apk;
mod binaries;
mod dpkg;
mod gem;
mod license;
mod npm;
pub mod os;
pub mod package;
mod python;
pub mod root;
mod rpm;
pub mod spdx;
mod sqlite;

use os::Os;
use package::{PACKAGES_MAX, Package};
use root::Root;

/// The largest os-release that is read, in bytes.
const OS_SIZE_MAX: u64 = 64 << 10;

/// What a root file system has.
pub struct Found {
    /// Its operating system, if it says so.
    pub os: Option<Os>,
    /// Its packages in the order of their package URLs, each once.
    pub packages: Vec<Package>,
    /// What the list lacks, in sentences.
    pub notes: Vec<String>,
}

/// Finds the packages of a root file system.
pub fn find(root: &Root) -> Found {
    let text = ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| root.text(path, OS_SIZE_MAX));
    let os = text.as_deref().map(Os::parse);
    let of_system = os.clone().unwrap_or_else(|| Os::parse(""));
    let mut packages = dpkg::packages(root, &or_id(&of_system, "debian"));
    packages.extend(apk::packages(root, &or_id(&of_system, "alpine")));
    packages.extend(rpm::packages(root, &or_id(&of_system, "fedora")));
    root.walk(&mut |file| {
        if packages.len() >= PACKAGES_MAX {
            return root
                .note(format!("there are more than {PACKAGES_MAX} packages: the rest is missing here"));
        }
        let described = python::package(file).or_else(|| npm::package(file)).or_else(|| gem::package(file));
        packages.extend(described);
        packages.extend(binaries::packages(file));
    });
    packages.sort();
    packages.truncate(PACKAGES_MAX);
    // The same package in several places is listed once, with the first of them.
    packages.dedup_by(|a, b| a.purl == b.purl);
    Found { os, packages, notes: root.notes() }
}

/// The operating system; `id` if it does not say what it is.
fn or_id(os: &Os, id: &str) -> Os {
    match os.id.as_str() {
        "linux" => Os { id: id.to_string(), ..os.clone() },
        _ => os.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_testkit::hostile::{texts, try_inputs};
    use std::fs;
    use std::os::fd::OwnedFd;

    /// Finds the packages of a root with these files.
    fn found(files: &[(&str, &str)]) -> Found {
        let directory = tempfile::tempdir().expect("a directory");
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
            fs::write(&path, content).expect("a file");
        }
        find(&Root::new(OwnedFd::from(fs::File::open(directory.path()).expect("a directory"))))
    }

    #[test]
    fn all_kinds_are_found_once() {
        let python = "Name: requests\nVersion: 2.0\n";
        let found = found(&[
            ("usr/lib/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
            ("var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n"),
            ("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\n"),
            ("var/lib/dpkg/status.d/base.md5sums", "Package: no\nVersion: 12\n"),
            ("lib/apk/db/installed", "P:musl\nV:1.2\n"),
            ("usr/lib/python3/requests-2.0.dist-info/METADATA", python),
            ("opt/venv/requests-2.0.dist-info/METADATA", python),
            ("app/node_modules/left/package.json", r#"{"name":"left","version":"3.0"}"#),
            ("gems/specifications/rake-13.gemspec", "# stub: rake 13 ruby lib\n"),
            ("var/lib/rpm/Packages", "Berkeley"),
        ]);
        let purls: Vec<&str> = found.packages.iter().map(|package| &package.purl[..]).collect();
        assert_eq!(
            purls,
            [
                "pkg:apk/debian/musl@1.2?distro=debian-12",
                "pkg:deb/debian/a@1?distro=debian-12",
                "pkg:deb/debian/base-files@12?distro=debian-12",
                "pkg:gem/rake@13",
                "pkg:npm/left@3.0",
                "pkg:pypi/requests@2.0"
            ]
        );
        assert_eq!(found.packages[5].source, "opt/venv/requests-2.0.dist-info/METADATA");
        assert_eq!(found.os.map(|os| os.distro()).as_deref(), Some("debian-12"));
        let [note] = &found.notes[..] else { panic!("{:?}", found.notes) };
        assert!(note.contains("/var/lib/rpm/Packages") && note.contains("Berkeley DB"), "{note}");
    }

    #[test]
    fn an_empty_root_has_no_packages() {
        let found = found(&[]);
        assert!(found.packages.is_empty() && found.os.is_none() && found.notes.is_empty());
    }

    #[test]
    fn hostile_lists_of_packages() {
        let seeds = texts(&[
            "Package: a\nStatus: install ok installed\nVersion: 1\nSource: b (2)\nMaintainer: x <y@z>\n\n",
            "P:musl\nV:1.2\nL:MIT AND (BSD OR custom)\no:musl\n\n",
            "Name: a\nVersion: 1\nLicense: GPLv2+ and (MIT\n\n",
            "# stub: rake 13 ruby lib\n s.licenses = [\"MIT\".freeze]\n",
            r#"{"name":"@s/left","version":"3.0","license":{"type":"MIT"}}"#,
            "ID=debian\nVERSION_ID=\"12\"\n",
        ]);
        try_inputs("lists of packages", &seeds, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let os = Os::parse(&text);
            let mut packages = dpkg::parse(&text, &os, "s");
            packages.extend(apk::parse(&text, &os, "s"));
            packages.extend(python::parse(&text, "s"));
            packages.extend(gem::parse(&text, "s"));
            packages.extend(npm::parse(bytes, "s"));
            packages.extend(binaries::modules(bytes, "s").into_iter().flatten());
            packages.extend(binaries::crates(bytes, "s").into_iter().flatten());
            let content = spdx::Content {
                name: &text,
                id: "",
                created: jiff::Timestamp::UNIX_EPOCH,
                os: Some(&os),
                packages: &packages,
                notes: &[],
            };
            assert_eq!(spdx::document(&content)["spdxVersion"], "SPDX-2.3");
        });
    }
}
