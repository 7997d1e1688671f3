//! `--pull` of build: docker's switch, and the policies of podman (podman-build(1)).

/// When a registry is asked for a base image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// If the store does not have the image.
    #[default]
    Missing,
    Always,
    /// An image that the store does not have is an error.
    Never,
}

impl std::str::FromStr for PullPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<PullPolicy, String> {
        match crate::values::switch(text) {
            Ok(true) => return Ok(PullPolicy::Always),
            Ok(false) => return Ok(PullPolicy::Missing),
            Err(_) => {}
        }
        // Podman's "newer" fetches only what changed, as every pull here does.
        Ok(match text {
            "always" | "newer" | "ifnewer" => PullPolicy::Always,
            "missing" | "ifmissing" | "ifnotpresent" => PullPolicy::Missing,
            "never" => PullPolicy::Never,
            _ => return Err("it is always, newer, missing or never, or true or false".to_string()),
        })
    }
}
