//! Where a step may be executed: workers of its own CPU first, then any with our emulator.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crossdock_platform::Platform;

/// A property that workers for a platform must have: `--farm-property PLATFORM:NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The platform of the steps.
    pub platform: Platform,
    /// Name of the property, as the engine has it: `ISA`, `OSFamily`, `Arch`, `container-image`.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Rule, String> {
        let wrong = |what: &str| {
            format!("\"{text}\": {what}; it is PLATFORM:NAME=VALUE, for example linux/arm64:ISA=aarch64")
        };
        let (platform, property) = text.split_once(':').ok_or_else(|| wrong("it has no colon"))?;
        let platform = platform.parse().map_err(|e| wrong(&format!("{e}")))?;
        let (name, value) = property.split_once('=').ok_or_else(|| wrong("the property has no value"))?;
        if name.is_empty() {
            return Err(wrong("the property has no name"));
        }
        Ok(Rule { platform, name: name.to_string(), value: value.to_string() })
    }
}

/// A kind of worker.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// For messages: `natively`, `emulated`, or `on ssh://HOST`.
    pub name: String,
    /// crossdock for its CPU; of no use for a machine that has its own.
    pub executable: PathBuf,
    /// What it must have.
    pub properties: Vec<(String, String)>,
    /// Whether the emulator is sent along.
    pub is_emulated: bool,
}

/// What is known of workers.
pub struct Places<'a> {
    /// Properties by platform.
    pub rules: &'a [Rule],
    /// crossdock for other CPUs.
    pub executables: &'a [(Platform, PathBuf)],
}

impl Places<'_> {
    /// The places for steps of a platform, the best first, and why some are left out.
    pub fn of(&self, platform: &Platform, has_emulator: bool) -> (Vec<Place>, Vec<String>) {
        let own = Path::new("/proc/self/exe");
        let host = Platform::host();
        if platform.is_native() {
            let properties = self.properties(platform).or_else(|| self.properties(&host)).unwrap_or_default();
            let place = Place {
                name: "natively".into(),
                executable: own.into(),
                properties,
                is_emulated: has_emulator,
            };
            return (vec![place], Vec::new());
        }
        let (mut places, mut reasons) = (Vec::new(), Vec::new());
        if let Some(properties) = self.properties(platform) {
            let given = self.executables.iter().find(|(of, _)| of.normalised() == platform.normalised());
            match given {
                Some((_, path)) => places.push(Place {
                    name: "natively".into(),
                    executable: path.clone(),
                    properties,
                    is_emulated: false,
                }),
                None => reasons.push(format!(
                    "natively: there is no crossdock for {platform} to send (--farm-executable {platform}=FILE)"
                )),
            }
        }
        if has_emulator {
            places.push(Place {
                name: "emulated".into(),
                executable: own.into(),
                properties: self.properties(&host).unwrap_or_default(),
                is_emulated: true,
            });
        }
        (places, reasons)
    }

    /// The properties for a platform; `None` if no rule names it.
    fn properties(&self, platform: &Platform) -> Option<Vec<(String, String)>> {
        let is_meant = |rule: &&Rule| rule.platform.normalised() == platform.normalised();
        let of_platform =
            self.rules.iter().filter(is_meant).map(|rule| (rule.name.clone(), rule.value.clone()));
        let properties: Vec<(String, String)> = of_platform.collect();
        (!properties.is_empty()).then_some(properties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rule: Rule = "linux/arm64:container-image=docker://x@sha256:1".parse().expect("a rule");
        assert_eq!((rule.name.as_str(), rule.value.as_str()), ("container-image", "docker://x@sha256:1"));
        for text in ["", "linux/arm64", "linux/arm64:ISA", "linux/arm64:=x", "a b:ISA=x"] {
            let error = text.parse::<Rule>().expect_err(text);
            assert!(error.contains("linux/arm64:ISA=aarch64"), "{error}");
        }
    }

    #[test]
    fn workers_of_the_own_cpu_come_first() {
        let platform = |text: &str| text.parse::<Platform>().expect("a platform");
        let host = Platform::host();
        let foreign = platform(if host.architecture == "arm64" { "linux/amd64" } else { "linux/arm64" });
        let rules: Vec<Rule> = [format!("{foreign}:ISA=other"), format!("{host}:ISA=own")]
            .iter()
            .map(|text| text.parse().expect("a rule"))
            .collect();
        let names = |executables: &[(Platform, PathBuf)], platform: &Platform, has_emulator| {
            let (places, reasons) = Places { rules: &rules, executables }.of(platform, has_emulator);
            let told = |place: &Place| format!("{} {}", place.name, place.properties[0].1);
            (places.iter().map(told).collect::<Vec<_>>(), reasons.len())
        };
        let executables = [(foreign.clone(), PathBuf::from("/crossdock-other"))];
        assert_eq!(
            names(&executables, &foreign, true),
            (vec!["natively other".into(), "emulated own".into()], 0)
        );
        assert_eq!(names(&[], &foreign, true), (vec!["emulated own".into()], 1));
        assert_eq!(names(&[], &foreign, false), (vec![], 1));
        assert_eq!(names(&[], &host, false), (vec!["natively own".into()], 0));
    }
}
