//! A list of packages as an SPDX document in JSON (SPDX 2.3, clauses 6 to 11, and its JSON schema).

use std::collections::HashSet;

use crossdock_oci::Digest;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::license::{Extracted, NO_ASSERTION};
use super::os::Os;
use super::package::Package;

/// What the document is about, and what is in it.
pub struct Content<'a> {
    /// The image's name.
    pub name: &'a str,
    /// The image's id, which is its version here.
    pub id: &'a str,
    /// When it is made.
    pub created: Timestamp,
    /// The operating system of the image, if it says so.
    pub os: Option<&'a Os>,
    /// The packages, sorted, each once.
    pub packages: &'a [Package],
    /// What the list lacks.
    pub notes: &'a [String],
}

/// The element that stands for the image.
const IMAGE: &str = "SPDXRef-Image";

/// The document.
pub fn document(content: &Content<'_>) -> Value {
    let mut extracted = Extracted::default();
    let mut ids = HashSet::new();
    let mut elements = vec![image(content)];
    elements.extend(content.os.map(operating_system));
    for package in content.packages {
        elements.push(element(package, &mut ids, &mut extracted));
    }
    let contained = elements[1..].iter().map(|element| relationship(IMAGE, "CONTAINS", &element["SPDXID"]));
    let image = relationship("SPDXRef-DOCUMENT", "DESCRIBES", &IMAGE.into());
    let relationships: Vec<Value> = std::iter::once(image).chain(contained).collect();
    // The standard wants whole seconds.
    let created = content.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": content.name,
        "documentNamespace": namespace(content, &created),
        "creationInfo": {
            "created": created,
            "creators": [concat!("Tool: crossdock-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": elements,
        "relationships": relationships,
    });
    if !content.notes.is_empty() {
        document["comment"] = content.notes.join("\n").into();
    }
    if !extracted.0.is_empty() {
        let one = |(id, text): (&String, &String)| json!({"licenseId": id, "extractedText": text});
        document["hasExtractedLicensingInfos"] = extracted.0.iter().map(one).collect();
    }
    document
}

/// An address that no other document has, as SPDX recommends to those without a site: it need not lead
/// anywhere.
fn namespace(content: &Content<'_>, created: &str) -> String {
    let mut text = format!("{created}\n{}\n{}\n", content.name, content.id);
    for package in content.packages {
        text.push_str(&format!("{}\n", package.purl));
    }
    let digest = Digest::of(text.as_bytes());
    let hex = digest.hex();
    // The form of a UUID of version 8 (RFC 9562), whose bits are the maker's.
    let uuid = format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30]);
    format!("https://spdx.org/spdxdocs/crossdock-{uuid}")
}

fn relationship(from: &str, kind: &str, to: &Value) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

/// A package without anything that is not known of each.
fn bare(id: &str, name: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": false,
        "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": NO_ASSERTION,
        "copyrightText": NO_ASSERTION,
    })
}

fn image(content: &Content<'_>) -> Value {
    let mut image = bare(IMAGE, content.name);
    image["versionInfo"] = content.id.into();
    image["primaryPackagePurpose"] = "CONTAINER".into();
    image
}

fn operating_system(os: &Os) -> Value {
    let mut element = bare("SPDXRef-OperatingSystem", &os.id);
    // Templates such as `{{.name}}@{{.versionInfo}}` need it of each package.
    element["versionInfo"] = os.version.clone().into();
    if !os.pretty_name.is_empty() {
        element["summary"] = os.pretty_name.clone().into();
    }
    element["primaryPackagePurpose"] = "OPERATING-SYSTEM".into();
    element
}

fn element(package: &Package, ids: &mut HashSet<String>, extracted: &mut Extracted) -> Value {
    let mut element = bare(&id(package, ids), &package.name);
    element["versionInfo"] = package.version.clone().into();
    if let Some(license) = &package.license {
        element["licenseDeclared"] = extracted.expression(license).into();
    }
    if let Some(supplier) = &package.supplier {
        element["supplier"] = supplied_by(supplier).into();
    }
    element["sourceInfo"] = format!("found in /{}", package.source).into();
    element["externalRefs"] = json!([{
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": package.purl,
    }]);
    element
}

/// `Organization: NAME`, or `Person: NAME (ADDRESS)` for `NAME <ADDRESS>`.
fn supplied_by(text: &str) -> String {
    match text.split_once('<').and_then(|(name, rest)| Some((name.trim(), rest.strip_suffix('>')?.trim()))) {
        Some((name, address)) if !name.is_empty() && address.contains('@') => {
            let name = name.replace(['(', ')'], "");
            format!("Person: {} ({})", name.trim(), address.replace(['(', ')'], ""))
        }
        _ => format!("Organization: {}", text.replace(['(', ')'], "").trim()),
    }
}

/// An identifier of letters, digits, `.` and `-` that no other package of the document has.
fn id(package: &Package, ids: &mut HashSet<String>) -> String {
    let kind = package.purl.trim_start_matches("pkg:").split('/').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let name: String = package.name.chars().map(|c| if is_plain(c) { c } else { '-' }).take(80).collect();
    let digest = Digest::of(package.purl.as_bytes());
    let hex = digest.hex();
    let lengths = [12, hex.len()];
    let all = lengths.map(|length| format!("SPDXRef-Package-{kind}-{name}-{}", &hex[..length]));
    let free = all.into_iter().find(|id| !ids.contains(id)).unwrap_or_default();
    ids.insert(free.clone());
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_what_the_standard_requires() {
        let package = Package::new("npm", "@s/a_b", "1", "app/node_modules/@s/a_b/package.json");
        let packages = [package.with_license(Some("odd one")).with_supplier(Some("Ann (x) <a@b>"))];
        let os = Os::parse("ID=debian\nVERSION_ID=12\n");
        let notes = ["/x was not read".to_string()];
        let content = Content {
            name: "app:1",
            id: "sha256:1",
            created: Timestamp::UNIX_EPOCH,
            os: Some(&os),
            packages: &packages,
            notes: &notes,
        };
        let document = document(&content);
        assert_eq!(document["creationInfo"]["created"], "1970-01-01T00:00:00Z");
        assert_eq!(document["comment"], "/x was not read");
        let found = &document["packages"][2];
        assert!(found["SPDXID"].as_str().is_some_and(|id| id.starts_with("SPDXRef-Package-npm--s-a-b-")));
        assert_eq!(found["supplier"], "Person: Ann x (a@b)");
        assert_eq!(found["licenseDeclared"], document["hasExtractedLicensingInfos"][0]["licenseId"]);
        assert_eq!(found["externalRefs"][0]["referenceLocator"], "pkg:npm/%40s/a_b@1");
        let kinds =
            document["relationships"].as_array().expect("a list").iter().map(|r| &r["relationshipType"]);
        assert_eq!(kinds.collect::<Vec<_>>(), ["DESCRIBES", "CONTAINS", "CONTAINS"]);
        let other = super::document(&Content { id: "sha256:2", ..content });
        assert_ne!(document["documentNamespace"], other["documentNamespace"]);
    }
}
