//! Packages of Alpine and its relatives: the database of apk (apk-package(5), "Installed database").

use std::collections::BTreeMap;

use super::os::Os;
use super::package::{PACKAGES_MAX, Package};
use super::root::Root;

/// Where the database is: the second since apk 3.
const PATHS: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
/// The largest database that is read, in bytes.
const SIZE_MAX: u64 = 128 << 20;

/// All packages of the root.
pub fn packages(root: &Root, os: &Os) -> Vec<Package> {
    let texts = PATHS.iter().filter_map(|path| Some((*path, root.text(path, SIZE_MAX)?)));
    texts.flat_map(|(path, text)| parse(&text, os, path)).collect()
}

/// The packages of a database: paragraphs of lines `LETTER:VALUE`. `source` is the text's path.
pub fn parse(text: &str, os: &Os, source: &str) -> Vec<Package> {
    let mut all = Vec::new();
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            all.extend(package(&std::mem::take(&mut fields), os, source));
            if all.len() >= PACKAGES_MAX {
                break;
            }
        } else if let Some((letter, value)) = line.split_once(':') {
            // Lines about files come later and repeat letters.
            fields.entry(letter).or_insert(value.trim());
        }
    }
    all
}

fn package(fields: &BTreeMap<&str, &str>, os: &Os, source: &str) -> Option<Package> {
    let field = |letter: &str| fields.get(letter).copied().unwrap_or_default();
    let (name, version) = (field("P"), field("V"));
    if name.is_empty() || version.is_empty() {
        return None;
    }
    let qualifiers = [("arch", field("A")), ("upstream", field("o"))];
    let package = Package::of_system("apk", os, (name, version), &qualifiers, source);
    Some(package.with_license(Some(field("L"))).with_supplier(Some(field("m"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_licences() {
        let text = "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\nm:T <t@a>\nF:lib\nR:ld.so\na:0:0:755\n\n\
            P:busybox-binsh\nV:1.36.1-r5\nA:x86_64\nL:GPL-2.0-only\no:busybox\nF:bin\n\nP:nothing\n";
        let os = Os { id: "alpine".into(), version: "3.18.4".into(), ..Os::default() };
        let found = parse(text, &os, PATHS[0]);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[1].purl,
            "pkg:apk/alpine/busybox-binsh@1.36.1-r5?arch=x86_64&distro=alpine-3.18.4&upstream=busybox"
        );
        assert_eq!(
            (found[0].license.as_deref(), found[0].supplier.as_deref()),
            (Some("MIT"), Some("T <t@a>"))
        );
    }
}
