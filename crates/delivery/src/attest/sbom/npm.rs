//! Packages of Node: `package.json` below `node_modules` (npm, "package.json").

use serde_json::Value;

use super::package::Package;
use super::root::Met;

/// The largest file that is read, in bytes.
const SIZE_MAX: u64 = 1 << 20;

/// The package that a file describes, if it does.
pub fn package(file: &Met<'_>) -> Option<Package> {
    if !is_of_package(&file.path) {
        return None;
    }
    let bytes = file.head(SIZE_MAX + 1)?;
    if bytes.len() as u64 > SIZE_MAX {
        return None;
    }
    parse(&bytes, &file.path)
}

/// Whether a path is `node_modules/NAME/package.json` or `node_modules/@SCOPE/NAME/package.json`. Other files
/// of this name belong to a package.
fn is_of_package(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let is_named = parts.next() == Some("package.json");
    parts.next();
    let above = match parts.next() {
        Some(scope) if scope.starts_with('@') => parts.next(),
        above => above,
    };
    is_named && above == Some("node_modules")
}

/// The package that a `package.json` describes. `source` is its path.
pub fn parse(bytes: &[u8], source: &str) -> Option<Package> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_string);
    let (name, version) = (text(&value["name"])?, text(&value["version"])?);
    // Of old an object, or a list of them.
    let first = value["licenses"].get(0).unwrap_or(&Value::Null);
    let license =
        text(&value["license"]).or_else(|| text(&value["license"]["type"])).or_else(|| text(&first["type"]));
    Some(Package::new("npm", &name, &version, source).with_license(license.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_count() {
        for (path, is_it) in [
            ("app/node_modules/a/package.json", true),
            ("app/node_modules/@s/a/package.json", true),
            ("node_modules/a/package.json", true),
            ("app/package.json", false),
            ("node_modules/a/lib/package.json", false),
            ("node_modules/package.json", false),
        ] {
            assert_eq!(is_of_package(path), is_it, "{path}");
        }
    }

    #[test]
    fn licences_have_three_forms() {
        for (license, expected) in [
            (r#""license":"MIT""#, Some("MIT")),
            (r#""license":{"type":"ISC","url":"x"}"#, Some("ISC")),
            (r#""licenses":[{"type":"BSD"}]"#, Some("BSD")),
            (r#""license":7"#, None),
        ] {
            let text = format!(r#"{{"name":"@s/a","version":"1.0.0",{license}}}"#);
            let found = parse(text.as_bytes(), "x").expect(license);
            assert_eq!((&found.purl[..], found.license.as_deref()), ("pkg:npm/%40s/a@1.0.0", expected));
        }
        assert_eq!(parse(br#"{"name":"a"}"#, ""), None);
        assert_eq!(parse(b"[1]", ""), None);
    }
}
