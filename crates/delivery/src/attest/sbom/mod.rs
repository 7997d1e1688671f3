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
use package::Package;
use root::Root;

/// Packages of one image that are listed.
const PACKAGES_MAX: usize = 500_000;
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
            return root.note(format!("there are more than {PACKAGES_MAX} packages: the rest is missing here"));
        }
        let described = python::package(file).or_else(|| npm::package(file)).or_else(|| gem::package(file));
        packages.extend(described);
        packages.extend(binaries::packages(file));
    });
    packages.sort();
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
