//! Package URLs: `pkg:TYPE/NAMESPACE/NAME@VERSION?QUALIFIERS` (the package-url specification, ECMA-427).

use crossdock_oci::Reference;
use crossdock_platform::Platform;

/// A package URL. `name` may have a namespace before it, separated by slashes; qualifiers without a value are
/// left out.
pub fn purl(kind: &str, name: &str, version: &str, qualifiers: &[(&str, &str)]) -> String {
    let mut text = format!("pkg:{kind}/");
    let segments: Vec<String> = name.split('/').filter(|segment| !segment.is_empty()).map(encoded).collect();
    text.push_str(&segments.join("/"));
    if !version.is_empty() {
        text.push('@');
        text.push_str(&encoded(version));
    }
    let mut given: Vec<&(&str, &str)> = qualifiers.iter().filter(|(_, value)| !value.is_empty()).collect();
    given.sort();
    for (index, (name, value)) in given.into_iter().enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        text.push_str(&format!("{name}={}", encoded(value)));
    }
    text
}

/// The package URL of an image's name, as BuildKit writes it: the name without `docker.io` and `library`, the
/// tag as version, and a digest as qualifier.
pub fn image(kind: &str, reference: &Reference, platform: Option<&Platform>) -> String {
    let short = match (reference.registry(), reference.repository()) {
        ("docker.io", repository) => repository.strip_prefix("library/").unwrap_or(repository).to_string(),
        (registry, repository) => format!("{registry}/{repository}"),
    };
    let digest = reference.digest().map(ToString::to_string).unwrap_or_default();
    let tag = reference.tag().unwrap_or(if digest.is_empty() { "latest" } else { "" });
    let platform = platform.map(|platform| platform.normalised().to_string()).unwrap_or_default();
    purl(kind, &short, tag, &[("digest", &digest), ("platform", &platform)])
}

/// Percent-encodes everything but letters, digits and `-._~:`.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let c = char::from(byte);
        if byte.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | ':') {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, expected) in [
            ("alpine", "pkg:docker/alpine@latest?platform=linux%2Farm%2Fv7".to_string()),
            ("user/test:v2", "pkg:docker/user/test@v2?platform=linux%2Farm%2Fv7".into()),
            ("localhost:5000/a/b", "pkg:docker/localhost:5000/a/b@latest?platform=linux%2Farm%2Fv7".into()),
            (
                &format!("ghcr.io/a/b@{digest}"),
                format!("pkg:docker/ghcr.io/a/b?digest={digest}&platform=linux%2Farm%2Fv7"),
            ),
        ] {
            let platform: Platform = "linux/arm/v7".parse().expect("a platform");
            assert_eq!(image("docker", &name.parse().expect("a name"), Some(&platform)), expected);
        }
        assert_eq!(image("docker", &"a:1".parse().expect("a name"), None), "pkg:docker/a@1");
    }

    #[test]
    fn special_characters_are_encoded() {
        let text = purl("deb", "debian/libstdc++6", "2:1.0+b1~1", &[("arch", ""), ("distro", "debian 12")]);
        assert_eq!(text, "pkg:deb/debian/libstdc%2B%2B6@2:1.0%2Bb1~1?distro=debian%2012");
        assert_eq!(purl("npm", "@a/b", "1.0", &[]), "pkg:npm/%40a/b@1.0");
    }
}
