//! One package of a root file system.

use super::os::Os;
use crate::attest::purl::purl;

/// Packages that are listed, of one database and in all.
pub const PACKAGES_MAX: usize = 100_000;

/// A package as the databases of its system describe it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its package URL, which also orders packages.
    pub purl: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The licence, in the database's words.
    pub license: Option<String>,
    /// Who supplies it.
    pub supplier: Option<String>,
    /// The file that describes it, a path in the root without a leading slash.
    pub source: String,
}

impl Package {
    /// A package of a language's own packages: `kind` is the type of its package URL.
    pub fn new(kind: &str, name: &str, version: &str, source: &str) -> Package {
        Package {
            purl: purl(kind, name, version, &[]),
            name: name.to_string(),
            version: version.to_string(),
            license: None,
            supplier: None,
            source: source.to_string(),
        }
    }

    /// A package of an operating system, with the qualifiers of its package URL.
    pub fn of_system(
        kind: &str,
        os: &Os,
        (name, version): (&str, &str),
        qualifiers: &[(&str, &str)],
        source: &str,
    ) -> Package {
        let distro = os.distro();
        let qualifiers = [qualifiers, &[("distro", distro.as_str())]].concat();
        let spaced = format!("{}/{name}", os.id);
        Package {
            purl: purl(kind, &spaced, version, &qualifiers),
            ..Package::new(kind, name, version, source)
        }
    }

    /// The same package with a licence, unless there is no text.
    pub fn with_license(mut self, license: Option<&str>) -> Package {
        let license = license.map(str::trim).filter(|text| !text.is_empty());
        self.license = license.map(str::to_string);
        self
    }

    /// The same package with a supplier, unless there is no text.
    pub fn with_supplier(mut self, supplier: Option<&str>) -> Package {
        let supplier = supplier.map(str::trim).filter(|text| !text.is_empty());
        self.supplier = supplier.map(str::to_string);
        self
    }
}
