//! Packages of Ruby: installed specifications, whose first lines say what they are (RubyGems,
//! `Gem::StubSpecification`).

use super::package::Package;
use super::root::Met;

/// How much of a file is read, in bytes.
const HEAD_SIZE: u64 = 64 << 10;

/// The package that a file describes, if it does.
pub fn package(file: &Met<'_>) -> Option<Package> {
    let (directory, name) = file.path.rsplit_once('/')?;
    let is_installed = directory.ends_with("specifications") || directory.ends_with("specifications/default");
    if !is_installed || !name.ends_with(".gemspec") {
        return None;
    }
    parse(&String::from_utf8_lossy(&file.head(HEAD_SIZE)?), &file.path)
}

/// The package that a specification describes. `source` is its path.
pub fn parse(text: &str, source: &str) -> Option<Package> {
    let stub = text.lines().take(5).find_map(|line| line.strip_prefix("# stub: "))?;
    let mut words = stub.split_whitespace();
    let (name, version) = (words.next()?, words.next()?);
    let line = text.lines().map(str::trim).find(|line| line.starts_with("s.license"));
    let license = line.and_then(|line| quoted(line.split_once('=')?.1)).map(|all| all.join(" OR "));
    Some(Package::new("gem", name, version, source).with_license(license.as_deref()))
}

/// The texts in double quotes; nothing if a quote is not closed.
fn quoted(text: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = text.split('"').collect();
    (parts.len() % 2 == 1).then(|| parts.into_iter().skip(1).step_by(2).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stub_says_what_it_is() {
        let text = "# -*- encoding: utf-8 -*-\n# stub: rake 13.0.6 ruby lib\n\nGem::Specification.new do |s|\n\
            \x20 s.name = \"rake\".freeze\n  s.licenses = [\"MIT\".freeze, \"Ruby\".freeze]\nend\n";
        let found = parse(text, "s").expect("a package");
        assert_eq!((&found.purl[..], found.license.as_deref()), ("pkg:gem/rake@13.0.6", Some("MIT OR Ruby")));
        assert_eq!(parse("# stub: rake\n", ""), None);
        let open = parse("# stub: a 1 ruby lib\ns.license = \"MIT\n", "").expect("a package");
        assert_eq!(open.license, None);
    }
}
