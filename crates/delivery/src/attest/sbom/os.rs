//! The operating system of a root file system: os-release(5).

/// What `/etc/os-release` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Os {
    /// `ID`, such as `debian`; `linux` if nothing is said.
    pub id: String,
    /// `VERSION_ID`; may be empty.
    pub version: String,
    /// `PRETTY_NAME`; may be empty.
    pub pretty_name: String,
}

impl Os {
    /// Reads the text of the file.
    pub fn parse(text: &str) -> Os {
        let value = |wanted: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let value =
                lines.filter(|(name, _)| name.trim() == wanted).map(|(_, value)| value.trim()).next_back();
            let value = value.unwrap_or_default();
            let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            bare.unwrap_or(value).to_string()
        };
        let id = value("ID").to_ascii_lowercase();
        let id = if id.is_empty() { "linux".to_string() } else { id };
        Os { id, version: value("VERSION_ID"), pretty_name: value("PRETTY_NAME") }
    }

    /// `ID-VERSION_ID`, the qualifier `distro` of package URLs; empty without a version.
    pub fn distro(&self) -> String {
        match self.version.as_str() {
            "" => String::new(),
            version => format!("{}-{version}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_no_part_of_values() {
        let os = Os::parse("# x\nPRETTY_NAME=\"Debian 12\"\nID=debian\nVERSION_ID='12'\nID_LIKE=x\n");
        assert_eq!((&os.id[..], &os.version[..], &os.pretty_name[..]), ("debian", "12", "Debian 12"));
        assert_eq!(os.distro(), "debian-12");
        assert_eq!(Os::parse("").distro(), "");
        assert_eq!(Os::parse("\"=").id, "linux");
    }
}
