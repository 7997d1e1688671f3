//! Packages of Debian and its relatives: dpkg's database, and the parts of it that distroless images have
//! (deb-control(5), dpkg-query(1); distroless keeps a file per package in `status.d`).

use std::collections::BTreeMap;

use super::os::Os;
use super::package::{PACKAGES_MAX, Package};
use super::root::Root;

/// dpkg's directory.
const DIRECTORY: &str = "var/lib/dpkg";
/// The largest database that is read, in bytes; that of a large desktop has 10 MB.
const SIZE_MAX: u64 = 128 << 20;

/// All packages of the root.
pub fn packages(root: &Root, os: &Os) -> Vec<Package> {
    let status = format!("{DIRECTORY}/status");
    let mut all = root.text(&status, SIZE_MAX).map(|text| parse(&text, os, &status)).unwrap_or_default();
    let parts = format!("{DIRECTORY}/status.d");
    for name in root.list(&parts).into_iter().filter(|name| !name.ends_with(".md5sums")) {
        if all.len() >= PACKAGES_MAX {
            break;
        }
        let path = format!("{parts}/{name}");
        if let Some(text) = root.text(&path, SIZE_MAX) {
            all.extend(parse(&text, os, &path));
        }
    }
    all
}

/// The packages of a text in the form of `status` that are installed. `source` is the text's path.
pub fn parse(text: &str, os: &Os, source: &str) -> Vec<Package> {
    let mut all = Vec::new();
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            all.extend(package(&std::mem::take(&mut fields), os, source));
            if all.len() >= PACKAGES_MAX {
                break;
            }
        } else if !line.starts_with([' ', '\t'])
            && let Some((name, value)) = line.split_once(':')
        {
            // Of a field of several lines the first suffices.
            fields.insert(name, value.trim());
        }
    }
    all
}

fn package(fields: &BTreeMap<&str, &str>, os: &Os, source: &str) -> Option<Package> {
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    // What is wanted, a flag, and the state; distroless has no such line.
    let state = field("Status").split_whitespace().nth(2).unwrap_or("installed");
    let is_there = !matches!(state, "not-installed" | "config-files");
    let (name, version) = (field("Package"), field("Version"));
    if name.is_empty() || version.is_empty() || !is_there {
        return None;
    }
    // `Source: NAME (VERSION)`, the version only if it differs.
    let (upstream, other_version) = match field("Source").split_once(" (") {
        Some((upstream, version)) => (upstream, version.trim_end_matches(')')),
        None => (field("Source"), ""),
    };
    let upstream = match (upstream, other_version) {
        ("", _) => String::new(),
        (upstream, "") => upstream.to_string(),
        (upstream, version) => format!("{upstream}@{version}"),
    };
    let qualifiers = [("arch", field("Architecture")), ("upstream", upstream.as_str())];
    let package = Package::of_system("deb", os, (name, version), &qualifiers, source);
    Some(package.with_supplier(Some(field("Maintainer"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: libc6\nStatus: install ok installed\nMaintainer: GNU Libc <g@d>\n\
        Architecture: amd64\nSource: glibc (2.36-9)\nVersion: 2.36-9+b1\nDescription: C library\n more: text\n\n\
        Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\n\
        Package: half\nStatus: install ok half-configured\nVersion: 1:2\nArchitecture: all\n";

    #[test]
    fn installed_packages_are_listed() {
        let os = Os { id: "debian".into(), version: "12".into(), ..Os::default() };
        let found = parse(STATUS, &os, "var/lib/dpkg/status");
        let purls: Vec<&str> = found.iter().map(|package| &package.purl[..]).collect();
        assert_eq!(
            purls,
            [
                "pkg:deb/debian/libc6@2.36-9%2Bb1?arch=amd64&distro=debian-12&upstream=glibc%402.36-9",
                "pkg:deb/debian/half@1:2?arch=all&distro=debian-12"
            ]
        );
        assert_eq!(found[0].supplier.as_deref(), Some("GNU Libc <g@d>"));
        assert!(parse("Package\n:\n\n: x\nVersion: 1\n", &os, "").is_empty());
    }
}
