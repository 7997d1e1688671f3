//! Platform specifiers such as `linux/arm/v7`: parsing, normalisation, matching and ranking.
//!
//! The rules are those of containerd's `platforms` package and of the `platform` object of the OCI image
//! index specification. This room is pure: it reads no file and knows no network.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The operating system, CPU architecture and CPU variant that an image or a program is made for.
///
/// Serialises as the `platform` object of an OCI index descriptor. A value read from an index is kept as it
/// is written there; call [`Platform::normalised`] before comparing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture in Go's `GOARCH` words: `amd64`, `arm64`, `arm`, ...
    pub architecture: String,
    /// Operating system in Go's `GOOS` words: `linux`, `windows`, ...
    pub os: String,
    /// Minimum version of the operating system; used by Windows images.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Mandatory features of the operating system; used by Windows images.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// CPU variant: `v7` of `arm`, `v2` of `amd64`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a platform specifier could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The specifier, or the part of it between two slashes, has no characters.
    #[error("\"{0}\" is not a platform: a part is empty (write os/architecture, for example linux/arm64)")]
    EmptyPart(String),
    /// A part has a character other than letters, digits, `_`, `-` and `.`.
    #[error(
        "\"{part}\" is an invalid part of platform \"{specifier}\": only letters, digits, '_', '-' and '.' are allowed{hint}"
    )]
    InvalidPart {
        /// The offending part.
        part: String,
        /// The whole specifier.
        specifier: String,
        /// Advice, or nothing.
        hint: &'static str,
    },
    /// More than `os/architecture/variant`.
    #[error("\"{0}\" is not a platform: at most os/architecture/variant")]
    TooManyParts(String),
    /// A part that no platform has.
    #[error(
        "unknown platform \"{specifier}\": {reason} (try {hint}linux/amd64, linux/arm64, linux/arm/v7, ...)"
    )]
    Unknown {
        /// The whole specifier.
        specifier: String,
        /// Which part is unknown.
        reason: String,
        /// The platform probably meant, followed by a comma and a space; or nothing.
        hint: String,
    },
}

/// `GOOS` names of the operating systems that a specifier can have.
const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasi",
    "wasip1",
    "windows",
    "zos",
];

/// `GOARCH` names of the architectures that a specifier can have.
const KNOWN_ARCHITECTURES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
    "wasm32",
];

impl Platform {
    /// A platform from its parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        Platform {
            architecture: architecture.to_string(),
            os: os.to_string(),
            os_version: None,
            os_features: Vec::new(),
            variant: variant.map(str::to_string),
        }
        .normalised()
    }

    /// The platform of this machine: `linux` with the architecture this program was compiled for.
    pub fn host() -> Platform {
        Platform::new("linux", std::env::consts::ARCH, None)
    }

    /// The platform of this machine with the level of its CPU: `linux/amd64/v3`. Chooses among the images of
    /// an index if no platform was asked for; images are built for [`Platform::host`].
    pub fn machine() -> Platform {
        match cpu_level() {
            1 => Platform::host(),
            level => Platform { variant: Some(format!("v{level}")), ..Platform::host() },
        }
    }

    /// This platform in containerd's normal form: `aarch64` becomes `arm64`, `armhf` becomes `arm/v7`, `arm`
    /// without a variant becomes `arm/v7`, `arm64/v8` loses its variant, `amd64/v1` too.
    pub fn normalised(&self) -> Platform {
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_string(),
            "" => "linux".to_string(),
            other => other.to_string(),
        };
        let (architecture, variant) = normalise_architecture(
            &self.architecture.to_ascii_lowercase(),
            &self.variant.clone().unwrap_or_default().to_ascii_lowercase(),
        );
        Platform {
            architecture,
            os,
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: if variant.is_empty() { None } else { Some(variant) },
        }
    }

    /// The platforms whose programs this platform's CPU runs, the best first; the first is this platform
    /// itself.
    ///
    /// `amd64/vN` takes lower levels down to plain `amd64`; `arm/v7` takes `v7`, `v6`, `v5`; `arm64/vN` takes
    /// `arm64`. Unlike in containerd's `platforms.Only`, a 32-bit image never stands in for a 64-bit one that
    /// was asked for; for a machine see [`Platform::runs`].
    pub fn only(&self) -> Vec<Platform> {
        let own = self.normalised();
        let with = |architecture: &str, variant: Option<String>| Platform {
            architecture: architecture.to_string(),
            variant,
            ..own.clone()
        };
        let level = |default: u32| {
            own.variant
                .as_deref()
                .and_then(|v| v.strip_prefix('v'))
                .and_then(|v| v.parse::<u32>().ok())
                .unwrap_or(default)
        };
        let mut all = vec![own.clone()];
        match own.architecture.as_str() {
            "amd64" => {
                let top = level(1).min(16);
                all.extend((2..top).rev().map(|n| with("amd64", Some(format!("v{n}")))));
                if top > 1 {
                    all.push(with("amd64", None));
                }
            }
            "arm" => all.extend((5..level(7).min(16)).rev().map(|n| with("arm", Some(format!("v{n}"))))),
            "arm64" if own.variant.is_some() => all.push(with("arm64", None)),
            _ => {}
        }
        all
    }

    /// The platforms that a machine of this platform runs, the best first: [`Platform::only`], then those of
    /// the 32-bit mode that its CPUs can have. For use if no platform was asked for.
    pub fn runs(&self) -> Vec<Platform> {
        let mut all = self.only();
        match all[0].architecture.as_str() {
            "amd64" => all.push(Platform { architecture: "386".into(), variant: None, ..all[0].clone() }),
            "arm64" => {
                let arm =
                    Platform { architecture: "arm".into(), variant: Some("v8".into()), ..all[0].clone() };
                all.extend(arm.only());
            }
            _ => {}
        }
        all
    }

    /// Position of the best of `offered` for a machine of this platform, see [`Platform::runs`]; of equals
    /// the first wins.
    pub fn best_to_run<'a>(&self, offered: impl IntoIterator<Item = &'a Platform>) -> Option<usize> {
        let runs = self.runs();
        let rank = |offered: &Platform| runs.iter().position(|platform| platform.matches(offered));
        let ranked = offered.into_iter().enumerate().filter_map(|(i, p)| Some((rank(p)?, i)));
        ranked.min().map(|(_, i)| i)
    }

    /// How well `offered` serves this platform: 0 is exact, larger is worse, `None` is not at all.
    pub fn rank(&self, offered: &Platform) -> Option<usize> {
        let offered = offered.normalised();
        self.only().iter().position(|p| p.matches(&offered))
    }

    /// Whether both name the same operating system, architecture and variant after normalisation.
    pub fn matches(&self, other: &Platform) -> bool {
        let (a, b) = (self.normalised(), other.normalised());
        a.os == b.os && a.architecture == b.architecture && a.variant == b.variant
    }

    /// Position of the best of `offered` for this platform; of equals the first wins.
    pub fn best<'a>(&self, offered: impl IntoIterator<Item = &'a Platform>) -> Option<usize> {
        offered
            .into_iter()
            .enumerate()
            .filter_map(|(i, p)| self.rank(p).map(|rank| (rank, i)))
            .min()
            .map(|(_, i)| i)
    }

    /// Whether this machine's kernel and CPU run the platform's programs without an emulator.
    ///
    /// True for the platforms in [`Platform::runs`] of the host; higher `amd64` levels count as native, since
    /// a CPU's level is not part of the host's platform.
    pub fn is_native(&self) -> bool {
        let host = Platform::host();
        let own = self.normalised();
        host.runs().iter().any(|platform| platform.matches(&own))
            || (own.os == host.os && own.architecture == host.architecture)
    }
}

/// The level of this machine's CPU, x86-64 psABI section 3.1.1: 1 to 4. 1 for other architectures.
fn cpu_level() -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        let v2 = is_x86_feature_detected!("cmpxchg16b")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("sse3")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("sse4.2")
            && is_x86_feature_detected!("ssse3");
        // AVX is only reported where the kernel saves its registers.
        let v3 = v2
            && is_x86_feature_detected!("avx")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("movbe");
        let v4 = v3
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        1 + u32::from(v2) + u32::from(v3) + u32::from(v4)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        1
    }
}

/// Whether an architecture has a variant, in normal form. All variants are known only for common
/// architectures.
fn is_variant(architecture: &str, variant: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| n.to_string() == text);
    let Some(level) = variant.strip_prefix('v') else {
        return !matches!(architecture, "amd64" | "arm" | "arm64");
    };
    match architecture {
        "amd64" => number(level).is_some_and(|n| (1..=4).contains(&n)),
        "arm" => number(level).is_some_and(|n| (5..=8).contains(&n)),
        "arm64" => {
            let (major, minor) = level.split_once('.').unwrap_or((level, "0"));
            number(major).is_some_and(|n| n == 8 || n == 9) && number(minor).is_some()
        }
        _ => true,
    }
}

/// Refuses a platform, in normal form, with an unknown part: it was probably mistyped.
fn check(platform: Platform, specifier: &str) -> Result<Platform, ParseError> {
    let unknown = |reason: String, hint: &str| {
        let hint = if hint.is_empty() { String::new() } else { format!("{hint}, ") };
        Err(ParseError::Unknown { specifier: specifier.to_string(), reason, hint })
    };
    let Platform { os, architecture, variant, .. } = &platform;
    if !KNOWN_OS.contains(&os.as_str()) {
        return unknown(format!("\"{os}\" is no operating system"), "");
    }
    if !KNOWN_ARCHITECTURES.contains(&architecture.as_str()) {
        // Names of architectures in Docker Hub's organisations and in other tools.
        let hint = match architecture.as_str() {
            "arm32v5" => "linux/arm/v5",
            "arm32v6" => "linux/arm/v6",
            "arm32v7" | "armv7" | "armv7l" | "arm32" => "linux/arm/v7",
            "arm64v8" | "armv8" => "linux/arm64",
            "i386" | "x86" => "linux/386",
            "ppc64el" => "linux/ppc64le",
            _ => "",
        };
        return unknown(format!("\"{architecture}\" is no architecture"), hint);
    }
    match variant {
        Some(variant) if !is_variant(architecture, variant) => {
            unknown(format!("{architecture} has no variant \"{variant}\""), "")
        }
        _ => Ok(platform),
    }
}

/// Architecture and variant in normal form; both arguments in lower case.
fn normalise_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "i486" | "i586" | "i686", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1" | "1") => ("amd64", ""),
        ("x86_64" | "x86-64", v) => ("amd64", v),
        ("aarch64" | "arm64", "8" | "v8" | "8.0" | "v8.0") => ("arm64", ""),
        ("aarch64", v) => ("arm64", v),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (a, v) => (a, v),
    };
    (architecture.to_string(), variant.to_string())
}

impl FromStr for Platform {
    type Err = ParseError;

    /// Reads `os`, `architecture` or `os/architecture[/variant]` and normalises it. A single operating system
    /// takes the host's architecture, a single architecture takes `linux`. Only Go's operating systems and
    /// architectures and existing variants are accepted: anything else is a typing error, and no registry
    /// needs to be asked.
    fn from_str(specifier: &str) -> Result<Platform, ParseError> {
        let parts: Vec<&str> = specifier.split('/').collect();
        for part in &parts {
            if part.is_empty() {
                return Err(ParseError::EmptyPart(specifier.to_string()));
            }
            if !part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')) {
                return Err(ParseError::InvalidPart {
                    part: part.to_string(),
                    specifier: specifier.to_string(),
                    hint: if part.contains(',') { "; give one platform here" } else { "" },
                });
            }
        }
        match parts[..] {
            [word] => {
                let lower = word.to_ascii_lowercase();
                let os = if lower == "macos" { "darwin" } else { lower.as_str() };
                if KNOWN_OS.contains(&os) {
                    return Ok(Platform::new(os, &Platform::host().architecture, None));
                }
                let own = Platform::new("linux", &lower, None);
                if KNOWN_ARCHITECTURES.contains(&own.architecture.as_str()) {
                    return Ok(own);
                }
                if own.architecture.contains("arm") {
                    return check(own, specifier);
                }
                let reason = "it is neither an operating system nor an architecture".to_string();
                Err(ParseError::Unknown { specifier: specifier.to_string(), reason, hint: String::new() })
            }
            [os, architecture] => check(Platform::new(os, architecture, None), specifier),
            [os, architecture, variant] => check(Platform::new(os, architecture, Some(variant)), specifier),
            _ => Err(ParseError::TooManyParts(specifier.to_string())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Reads a comma-separated list such as `linux/amd64,linux/arm64`, dropping repetitions and keeping the
/// order.
pub fn parse_list(list: &str) -> Result<Vec<Platform>, ParseError> {
    let mut platforms = Vec::new();
    for specifier in list.split(',') {
        let platform: Platform = specifier.trim().parse()?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(specifier: &str) -> Platform {
        specifier.parse().expect("a valid specifier")
    }

    #[test]
    fn specifiers_are_normalised() {
        for (input, expect) in [
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/x86-64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/i386", "linux/386"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("Linux/ARM/V5", "linux/arm/v5"),
            ("macos/arm64", "darwin/arm64"),
            ("arm64", "linux/arm64"),
            ("armhf", "linux/arm/v7"),
            ("riscv64", "linux/riscv64"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(p(input).to_string(), expect, "{input}");
        }
        assert_eq!(p("linux"), Platform::host());
    }

    #[test]
    fn bad_specifiers_are_refused() {
        for input in
            ["", "/", "linux/", "linux//v7", "linux/arm/v7/x", "nonsense", "linux/arm v7", "linux/a,linux/b"]
        {
            assert!(input.parse::<Platform>().is_err(), "{input:?}");
        }
        for (input, hint) in [
            ("lniux/amd64", "no operating system"),
            ("linux/foo", "\"foo\" is no architecture"),
            ("linux/arm32v7", "try linux/arm/v7,"),
            ("arm64v8", "try linux/arm64,"),
            ("linux/arm64/v7", "no variant"),
            ("linux/arm/v9", "no variant"),
            ("linux/amd64/v5", "no variant"),
            ("linux/amd64/3", "no variant"),
        ] {
            let message = input.parse::<Platform>().expect_err(input).to_string();
            assert!(message.starts_with(&format!("unknown platform \"{input}\"")), "{message}");
            assert!(message.contains(hint), "{message}");
        }
        for input in ["linux/riscv64/rva22u64", "linux/mips64le/softfloat", "wasi/wasm", "linux/arm64/v8.2"] {
            assert!(input.parse::<Platform>().is_ok(), "{input}");
        }
        let message = "linux/amd64,linux/arm64".parse::<Platform>().expect_err("two platforms").to_string();
        assert!(message.contains("give one platform here"), "{message}");
    }

    #[test]
    fn only_ranks_what_a_cpu_runs() {
        let names = |s: &str| p(s).only().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("linux/amd64"), ["linux/amd64"]);
        assert_eq!(names("linux/amd64/v3"), ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"]);
        assert_eq!(names("linux/arm/v7"), ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]);
        assert_eq!(names("linux/arm/v6"), ["linux/arm/v6", "linux/arm/v5"]);
        assert_eq!(names("linux/arm64"), ["linux/arm64"]);
        assert_eq!(names("linux/arm64/v9"), ["linux/arm64/v9", "linux/arm64"]);
        assert_eq!(names("linux/riscv64"), ["linux/riscv64"]);
    }

    #[test]
    fn the_best_offer_wins() {
        let offered: Vec<Platform> = ["linux/arm/v6", "linux/arm/v7", "linux/amd64"].map(p).to_vec();
        assert_eq!(p("linux/arm/v7").best(&offered), Some(1));
        assert_eq!(p("linux/arm/v6").best(&offered), Some(0));
        // A request for 64 bits never gets 32; a machine without a better image takes 32.
        assert_eq!(p("linux/arm64").best(&offered), None);
        assert_eq!(p("linux/arm64").best_to_run(&offered), Some(1));
        assert_eq!(p("linux/amd64/v3").best_to_run(&offered), Some(2));
        assert_eq!(p("linux/amd64").best_to_run(&[p("linux/386"), p("linux/arm64")]), Some(0));
        let levels = ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"].map(p);
        assert_eq!(p("linux/amd64/v3").best_to_run(&levels), Some(1));
        assert_eq!(p("linux/riscv64").best(&offered), None);
        assert_eq!(p("linux/arm/v5").best(&offered), None);
    }

    #[test]
    fn lists_keep_order_and_drop_repetitions() {
        let list = parse_list("linux/arm64, linux/amd64,linux/aarch64").expect("a valid list");
        assert_eq!(list, [p("linux/arm64"), p("linux/amd64")]);
        assert!(parse_list("linux/arm64,").is_err());
    }
}
