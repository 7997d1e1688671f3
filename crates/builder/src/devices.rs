//! Devices of this machine that commands get by name, as the Container Device Interface describes them (CDI,
//! SPEC.md 1.1). Whoever reads the descriptions is elsewhere.

use std::path::PathBuf;

use crossdock_dockerfile::values::{boolean, csv};
use crossdock_sandbox as sandbox;

/// The devices that this machine describes, and which of them commands may have.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// In the order of their names.
    pub all: Vec<Device>,
    /// What the user allows: `*` for all, `VENDOR/CLASS`, or `VENDOR/CLASS=NAME`.
    pub allowed: Vec<String>,
    /// Descriptions that could not be read, and why.
    pub unread: Vec<String>,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Device {
    /// `VENDOR/CLASS`.
    pub kind: String,
    /// Its name among those of its kind.
    pub name: String,
    /// Another name that it shares with devices of its kind (BuildKit's annotation
    /// `org.mobyproject.buildkit.device.class`).
    pub class: Option<String>,
    /// Whether every command may have it (`org.mobyproject.buildkit.device.autoallow`).
    pub is_free: bool,
    /// Variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Device nodes, directories and files of this machine.
    pub mounts: Vec<DeviceMount>,
    /// What the description asks for and a container here does not get.
    pub left_out: Vec<String>,
}

/// A file or directory of this machine that comes with a device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceMount {
    /// Where it is on this machine.
    pub source: PathBuf,
    /// Where it is in the container.
    pub target: PathBuf,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether it is a device node.
    pub is_node: bool,
}

/// What a command wants: `RUN --device`, or a device of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRequest {
    /// `VENDOR/CLASS=NAME`; `VENDOR/CLASS` for the first of them; `VENDOR/CLASS=*` for all.
    pub name: String,
    /// Whether the command runs without it, too.
    pub is_optional: bool,
}

impl DeviceRequest {
    /// Reads the value of `RUN --device`: `[name=]NAME[,required[=BOOL]]` (Dockerfile reference, "RUN
    /// --device").
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<DeviceRequest, String> {
        let (mut name, mut is_required) = (String::new(), false);
        for field in csv(text)? {
            match field.split_once('=').map(|(key, value)| (key.to_ascii_lowercase(), value)) {
                Some((key, value)) if key == "required" => {
                    is_required =
                        boolean(value).ok_or(format!("required={value} is neither true nor false"))?;
                }
                None if field.eq_ignore_ascii_case("required") => is_required = true,
                Some((key, value)) if key == "name" && name.is_empty() => name = value.to_string(),
                _ if name.is_empty() => name = field,
                _ => return Err(format!("unexpected \"{field}\": a device has a name, and may be required")),
            }
        }
        match name.is_empty() {
            true => Err("it names no device".to_string()),
            false => Ok(DeviceRequest { name, is_optional: !is_required }),
        }
    }
}

impl Device {
    /// `VENDOR/CLASS=NAME`.
    pub fn full_name(&self) -> String {
        format!("{}={}", self.kind, self.name)
    }

    /// What the sandbox mounts for it.
    ///
    /// # Errors
    ///
    /// Something of it is not on this machine, or may not be opened.
    pub fn mounts(&self) -> Result<Vec<sandbox::Mount>, String> {
        let one = |mount: &DeviceMount| {
            let kind = if mount.is_node { "the device node" } else { "the file or directory" };
            std::fs::metadata(&mount.source).map_err(|error| {
                format!("the device {}: {kind} {}: {error}", self.full_name(), mount.source.display())
            })?;
            let source = sandbox::Source::Path(mount.source.clone());
            let kind = sandbox::MountKind::Bind { source, recursive: true };
            Ok(sandbox::Mount { kind, target: mount.target.clone(), read_only: mount.read_only })
        };
        self.mounts.iter().map(one).collect()
    }
}

impl Devices {
    /// The devices that a command wants; none if it runs without them, too, and they are not there. A
    /// command needs a permission to ask, even for what is not there: a Dockerfile that names devices does
    /// not pass unnoticed on a machine that has none.
    ///
    /// # Errors
    ///
    /// A name that is none; a device that is not there; one that the user does not allow.
    pub fn find(&self, request: &DeviceRequest) -> Result<Vec<&Device>, String> {
        let asked = &request.name;
        let (kind, name) = asked.split_once('=').unwrap_or((asked, ""));
        let is_kind = kind.split_once('/').is_some_and(|(vendor, class)| {
            let is_word = |text: &str| {
                text.starts_with(|c: char| c.is_ascii_alphabetic())
                    && text.ends_with(|c: char| c.is_ascii_alphanumeric())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
            };
            is_word(vendor) && is_word(class)
        });
        if !is_kind {
            return Err(format!("the device {asked}: a name has the form VENDOR/CLASS=NAME"));
        }
        let of_kind = || self.all.iter().filter(|device| device.kind == kind);
        let mut found: Vec<&Device> = match name {
            "" => of_kind().take(1).collect(),
            "*" => of_kind().collect(),
            name => of_kind().filter(|device| device.name == name).take(1).collect(),
        };
        if found.is_empty() {
            found = of_kind().filter(|device| device.class.as_deref() == Some(name)).collect();
        }
        if found.is_empty() && !request.is_optional {
            let unread: String = self.unread.iter().map(|reason| format!("; {reason}")).collect();
            return Err(format!(
                "no description of the Container Device Interface (/etc/cdi, /var/run/cdi) has the device {asked}{unread}"
            ));
        }
        if found.is_empty() && !self.is_allowed(kind, asked) {
            return Err(format!(
                "the device {asked} is not there, and nothing allows the command to ask for it: leave out \
                 --device, or add --allow device to run the command without it"
            ));
        }
        let is_refused =
            |device: &&&Device| !device.is_free && !self.is_allowed(&device.kind, &device.full_name());
        if let Some(device) = found.iter().find(is_refused) {
            let name = device.full_name();
            return Err(format!(
                "the device {name} needs a permission: --allow device, or --allow device={name}"
            ));
        }
        Ok(found)
    }

    /// Whether the user allows the device with this kind and whole name.
    fn is_allowed(&self, kind: &str, name: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == "*" || allowed == kind || allowed == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(allowed: &[&str]) -> Devices {
        let device = |name: &str, class: Option<&str>| Device {
            kind: "vendor.com/gpu".to_string(),
            name: name.to_string(),
            class: class.map(str::to_string),
            ..Device::default()
        };
        let free = Device { is_free: true, kind: "vendor.com/free".to_string(), ..device("0", None) };
        Devices {
            all: vec![free, device("0", Some("fast")), device("1", Some("fast")), device("2", None)],
            allowed: allowed.iter().map(ToString::to_string).collect(),
            unread: vec!["/etc/cdi/x.yaml: it is empty".to_string()],
        }
    }

    fn names(devices: &Devices, text: &str) -> Result<Vec<String>, String> {
        let found = devices.find(&DeviceRequest::parse(text)?)?;
        Ok(found.into_iter().map(|device| device.name.clone()).collect())
    }

    #[test]
    fn requests() {
        let parsed = |text: &str| DeviceRequest::parse(text).map(|r| (r.name, r.is_optional));
        for (text, name, is_optional) in [
            ("vendor.com/gpu=0", "vendor.com/gpu=0", true),
            ("name=vendor.com/gpu,required", "vendor.com/gpu", false),
            ("required=true,vendor.com/gpu=*", "vendor.com/gpu=*", false),
            ("vendor.com/gpu,required=false", "vendor.com/gpu", true),
        ] {
            assert_eq!(parsed(text), Ok((name.to_string(), is_optional)), "{text}");
        }
        for wrong in ["", "required", "a/b,c/d", "a/b,required=perhaps", "a/b,count=1"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_kinds_and_classes() {
        let all = devices(&["*"]);
        let found = |text| names(&all, text).expect(text);
        assert_eq!(found("vendor.com/gpu=1"), ["1"]);
        assert_eq!(found("vendor.com/gpu"), ["0"]);
        assert_eq!(found("vendor.com/gpu=*"), ["0", "1", "2"]);
        assert_eq!(found("vendor.com/gpu=fast"), ["0", "1"]);
        assert_eq!(found("vendor.com/gpu=9"), [""; 0]);
        let missing = names(&all, "vendor.com/gpu=9,required").expect_err("it is not there");
        assert!(missing.contains("vendor.com/gpu=9; /etc/cdi/x.yaml: it is empty"), "{missing}");
        for wrong in ["gpu", "vendor/", "/gpu=1", "a b/c", "vendor.com/gpu/x"] {
            assert!(names(&all, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_allowed() {
        for (allowed, is_allowed) in [
            (&[][..], false),
            (&["vendor.com/gpu=1"], false),
            (&["vendor.com/gpu=0"], true),
            (&["vendor.com/gpu"], true),
            (&["*"], true),
        ] {
            let devices = devices(allowed);
            assert_eq!(names(&devices, "vendor.com/gpu=0").is_ok(), is_allowed, "{allowed:?}");
            assert!(names(&devices, "vendor.com/free=0").is_ok());
            let missing = ["vendor.com/gpu=9", "vendor.com/none"].map(|name| names(&devices, name).is_ok());
            let is_everything = allowed.contains(&"*");
            assert_eq!(missing, [is_everything || allowed.contains(&"vendor.com/gpu"), is_everything]);
        }
    }
}
