//! Packages of Python: the metadata that installers leave (Python Packaging User Guide, "Core metadata").

use super::package::Package;
use super::root::Met;

/// How much of a file is read, in bytes: what matters stands at its begin, before the description.
const HEAD_SIZE: u64 = 64 << 10;
/// Longer licences are texts, not names.
const LICENSE_SIZE_MAX: usize = 200;

/// The package that a file describes, if it does.
pub fn package(file: &Met<'_>) -> Option<Package> {
    let path = &file.path;
    let is_metadata = path.ends_with(".dist-info/METADATA")
        || path.ends_with(".egg-info/PKG-INFO")
        || path.ends_with(".egg-info");
    if !is_metadata {
        return None;
    }
    parse(&String::from_utf8_lossy(&file.head(HEAD_SIZE)?), path)
}

/// The package that a text describes. `source` is its path.
pub fn parse(text: &str, source: &str) -> Option<Package> {
    let head = text.lines().take_while(|line| !line.is_empty());
    let fields: Vec<(String, &str)> = head
        .filter(|line| !line.starts_with([' ', '\t']))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let field = |wanted: &str| {
        let found = fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
        found.filter(|value| !value.is_empty() && *value != "UNKNOWN")
    };
    let license = field("license-expression").or_else(|| field("license"));
    let name = normalised(field("name")?);
    let mut package = Package::new("pypi", &name, field("version")?, source);
    package.name = field("name")?.to_string();
    Some(package.with_license(license.filter(|text| text.len() <= LICENSE_SIZE_MAX)))
}

/// Small letters, and a hyphen for each run of `-`, `_` and `.` ("Names and normalization").
fn normalised(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().map(|c| if matches!(c, '_' | '.') { '-' } else { c.to_ascii_lowercase() }) {
        if !(c == '-' && out.ends_with('-')) {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_ends_at_the_description() {
        let text = "Metadata-Version: 2.1\nName: Zope._Interface\nVersion: 5.0\nLicense: ZPL-2.1\n\n\
            Version: 6\n";
        let found = parse(text, "p/METADATA").expect("a package");
        assert_eq!((&found.purl[..], &found.name[..]), ("pkg:pypi/zope-interface@5.0", "Zope._Interface"));
        assert_eq!(found.license.as_deref(), Some("ZPL-2.1"));
        let both = "Name: a\nVersion: 1\nLicense: UNKNOWN\nLicense-Expression: MIT\n";
        assert_eq!(parse(both, "").expect("a package").license.as_deref(), Some("MIT"));
        assert_eq!(parse("Name: a\n", ""), None);
    }
}
