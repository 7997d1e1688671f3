//! The first line that an engine writes.

use serde::{Deserialize, Serialize};

/// What a line must begin with; whatever a login shell says comes before.
const MARK: &str = "crossdock-worker 1 ";

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Version of the program.
    pub version: String,
    /// The machine's platform.
    pub platform: String,
    /// SHA-256 of the program, which is among the engine's blobs.
    pub executable: String,
    /// Length of the program in bytes.
    pub size: u64,
    /// CPUs that it may use; 0 if it does not say.
    #[serde(default)]
    pub cpus: usize,
}

impl Greeting {
    /// The greeting as a line.
    pub fn line(&self) -> String {
        format!("{MARK}{}\n", serde_json::to_string(self).expect("strings always serialise"))
    }

    /// Reads a line; `None` for anything else.
    pub fn of_line(line: &str) -> Option<Greeting> {
        serde_json::from_str(line.trim_end().strip_prefix(MARK)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_greeting_is_one() {
        let greeting = Greeting {
            version: "1".into(),
            platform: "linux/arm64".into(),
            executable: "a".repeat(64),
            size: 5,
            cpus: 3,
        };
        assert_eq!(Greeting::of_line(&greeting.line()), Some(greeting));
        for line in ["", "Welcome!\n", "crossdock-worker 1 {}\n", "crossdock-worker 2 {}"] {
            assert_eq!(Greeting::of_line(line), None);
        }
    }
}
