//! Packages that are linked into executables: modules of Go (`debug/buildinfo`), and crates of Rust in files
//! made with cargo-auditable (its section `.dep-v0`).

use std::io::Read;

use flate2::read::ZlibDecoder;
use serde_json::Value;

use crossdock_elf::section;

use super::package::{PACKAGES_MAX, Package};
use super::root::Met;

/// Go's section.
const GO: &str = ".go.buildinfo";
/// The section of cargo-auditable.
const CARGO: &str = ".dep-v0";
/// The largest section that is read, in bytes.
const SECTION_SIZE_MAX: u64 = 8 << 20;
/// What the headers of a file count for, in bytes.
const HEADERS_SIZE: u64 = 4096;
/// The largest list of crates when it is decompressed, in bytes.
const LIST_SIZE_MAX: u64 = 16 << 20;

/// The packages that are linked into a file.
pub fn packages(file: &Met<'_>) -> Vec<Package> {
    if !file.is_executable {
        return Vec::new();
    }
    let Some(open) = file.open() else { return Vec::new() };
    let sections = section::named(&open, &[GO, CARGO], SECTION_SIZE_MAX);
    let size: usize = sections.values().map(Vec::len).sum();
    if !file.spend(size as u64 + HEADERS_SIZE) {
        return Vec::new();
    }
    let go = sections.get(GO).and_then(|bytes| modules(bytes, &file.path));
    let cargo = sections.get(CARGO).and_then(|bytes| crates(bytes, &file.path));
    go.into_iter().chain(cargo).flatten().collect()
}

/// The crates of a `.dep-v0` section: JSON, compressed with zlib. Those that only the build needed are left
/// out. `source` is the file's path.
pub fn crates(section: &[u8], source: &str) -> Option<Vec<Package>> {
    let mut text = Vec::new();
    ZlibDecoder::new(section).take(LIST_SIZE_MAX).read_to_end(&mut text).ok()?;
    let value: Value = serde_json::from_slice(&text).ok()?;
    let one = |one: &Value| {
        let is_linked = one["kind"].as_str().is_none_or(|kind| kind == "runtime");
        let package = Package::new("cargo", one["name"].as_str()?, one["version"].as_str()?, source);
        is_linked.then_some(package)
    };
    Some(value["packages"].as_array()?.iter().take(PACKAGES_MAX).filter_map(one).collect())
}

/// The modules of a `.go.buildinfo` section, and Go's own library. Since Go 1.18 the section itself has the
/// texts; of older files nothing is read. `source` is the file's path.
pub fn modules(section: &[u8], source: &str) -> Option<Vec<Package>> {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    const HAS_TEXTS: u8 = 2;
    // The magic number, the size of pointers, flags; texts begin after 32 bytes.
    let flags = section.strip_prefix(MAGIC)?.get(1)?;
    let mut rest = section.get(32..).filter(|_| flags & HAS_TEXTS != 0)?;
    let version = text(&mut rest)?;
    let list = text(&mut rest).unwrap_or_default();
    // The list stands between two marks of 16 bytes.
    let list = list.get(16..list.len().saturating_sub(16)).unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    let mut all: Vec<[&str; 2]> = Vec::new();
    for line in list.lines() {
        let mut parts = line.split('\t');
        let kind = parts.next().unwrap_or_default();
        let module = [parts.next().unwrap_or_default(), parts.next().unwrap_or_default()];
        match kind {
            "mod" | "dep" => all.push(module),
            // It stands in place of the last one.
            "=>" => drop(all.last_mut().map(|last| *last = module)),
            _ => {}
        }
    }
    let package = |[name, version]: [&str; 2]| Package::new("golang", name, version, source);
    let known = all.into_iter().filter(|[name, version]| !name.is_empty() && *version != "(devel)");
    let mut packages: Vec<Package> = known.take(PACKAGES_MAX).map(package).collect();
    // Such as `go1.22.3 X:nocoverageredesign`.
    let version = String::from_utf8_lossy(version);
    let version = version.split_whitespace().next().and_then(|word| word.strip_prefix("go"));
    packages.extend(version.map(|version| package(["stdlib", version])));
    Some(packages)
}

/// A text with its length before it: a varint as in protocol buffers, the lowest seven bits first.
fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length: u64 = 0;
    for shift in (0..63).step_by(7) {
        let (first, more) = rest.split_first()?;
        *rest = more;
        length |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            let length = usize::try_from(length).ok()?;
            let found = rest.get(..length)?;
            *rest = &rest[length..];
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A section as Go's linker writes it.
    fn section(version: &str, list: &str) -> Vec<u8> {
        let list = [&[1; 16][..], list.as_bytes(), &[2; 16]].concat();
        let mut bytes = [b"\xff Go buildinf:\x08\x02", &[0; 16][..]].concat();
        for text in [version.as_bytes(), &list] {
            let length = text.len();
            bytes.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
            bytes.extend(text);
        }
        bytes
    }

    fn purls(packages: Option<Vec<Package>>) -> Vec<String> {
        packages.expect("a list").into_iter().map(|package| package.purl).collect()
    }

    #[test]
    fn modules_of_go() {
        let list = "path\tx.y/cmd\nmod\tx.y/cmd\t(devel)\t\ndep\tgithub.com/A/b\tv1.2.3\th1:x=\n\
            dep\told.org/c\tv1.0.0\n=>\tnew.org/c\tv1.0.1\th1:y=\nbuild\t-compiler=gc\n";
        assert_eq!(
            purls(modules(&section("go1.22.3 X:a", list), "bin/x")),
            ["pkg:golang/github.com/A/b@v1.2.3", "pkg:golang/new.org/c@v1.0.1", "pkg:golang/stdlib@1.22.3"]
        );
        assert_eq!(purls(modules(&section("go1.18", ""), "")), ["pkg:golang/stdlib@1.18"]);
        let whole = section("go1.18", "dep\ta\tv1");
        for end in 0..whole.len() {
            assert!(modules(&whole[..end], "").is_none_or(|found| found.len() <= 2), "{end}");
        }
    }

    #[test]
    fn crates_of_rust() {
        let list = r#"{"packages":[{"name":"app","version":"0.1.0","source":"local","root":true},
            {"name":"cc","version":"1.0.0","kind":"build"},{"name":"libc","version":"0.2.1","kind":"runtime"},7]}"#;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(list.as_bytes()).expect("room");
        let section = encoder.finish().expect("room");
        assert_eq!(purls(crates(&section, "")), ["pkg:cargo/app@0.1.0", "pkg:cargo/libc@0.2.1"]);
        assert_eq!(crates(&section[..20], ""), None);
    }
}
