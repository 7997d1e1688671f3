//! What keeps images on a device: docker, podman, containerd or crossdock.

use anyhow::{Result, anyhow, bail};
use crossdock_oci::Reference;
use crossdock_platform::Platform;

use super::docker_api::{self, Version};
use super::ssh::{LINES_SHOWN, Remote};

/// An engine that answers.
pub struct Engine {
    kind: Kind,
    /// What stands before its commands: nothing, or `sudo -n`.
    prefix: String,
    version: String,
    /// A docker that is connected by its API.
    dialled: Option<Version>,
    /// What the device runs.
    pub platform: Platform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Docker,
    Podman,
    Containerd,
    Crossdock,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
            Kind::Containerd => "containerd",
            Kind::Crossdock => "crossdock",
        }
    }

    fn of(name: &str) -> Option<Kind> {
        [Kind::Docker, Kind::Podman, Kind::Containerd, Kind::Crossdock].into_iter().find(|k| k.name() == name)
    }
}

/// Looks for the first engine that answers, as the user, then by sudo without a password; `$wanted` is the
/// name of the only one to look for, or empty. The answer is a line: engine, prefix, version, platform.
///
/// ctr waits ten seconds for a containerd that is not there, so its socket is looked at before.
const PROBE: &str = r#"
printf 'machine|%s|%s\n' "$(uname -s)" "$(uname -m)"
asked() { [ -z "$wanted" ] || [ "$wanted" = "$1" ]; }
say() { [ -n "$3" ] && printf 'engine|%s|%s|%s\n' "$1" "$2" "$3" && exit 0; }
for sudo in "" "sudo -n"; do
  [ -z "$sudo" ] || command -v sudo >/dev/null 2>&1 || continue
  asked docker && say docker "$sudo" "$($sudo docker version --format '{{.Server.Version}}|{{.Server.Os}}/{{.Server.Arch}}' 2>/dev/null | head -n 1)"
  asked podman && say podman "$sudo" "$($sudo podman info --format '{{.Version.Version}}|{{.Host.OS}}/{{.Host.Arch}}' 2>/dev/null | head -n 1)"
  asked crossdock && say crossdock "" "$(crossdock version 2>/dev/null | head -n 1 | cut -d ' ' -f 2)"
  asked containerd && [ -S "${CONTAINERD_ADDRESS:-/run/containerd/containerd.sock}" ] &&
    say containerd "$sudo" "$($sudo ctr version 2>/dev/null | sed -n '/^Server/,$s/.*Version: *//p' | head -n 1)"
done
"#;

/// Connects this shell's streams to docker's API. The lines before and after it begin with the marker; the
/// last one waits for a line of the marker, so that the shell takes no request for a command.
fn dial(marker: &str) -> String {
    format!(
        "{{ echo \"{marker} $(uname -m)\"; docker system dial-stdio 2>/dev/null; echo; echo \"{marker} hung up\"\n\
         while read -r line && [ \"$line\" != {marker} ]; do :; done; }}\n"
    )
}

impl Engine {
    /// The docker of this user, connected by its API; `None` if it is not there, or older than that command
    /// (18.09).
    fn dial(remote: &mut Remote) -> Result<Option<Engine>> {
        let marker = remote.marker().to_string();
        remote.write(dial(&marker).as_bytes())?;
        // A login may greet.
        let machine = loop {
            if let Some(machine) = remote.line()?.strip_prefix(&marker) {
                break machine.trim().to_string();
            }
        };
        let version = docker_api::version(remote)?;
        let platform = version.as_ref().and_then(|version| platform(&version.platform, &machine));
        if let (Some(version), Some(platform)) = (version, platform) {
            let name = version.version.clone();
            let (kind, prefix) = (Kind::Docker, String::new());
            return Ok(Some(Engine { kind, prefix, version: name, dialled: Some(version), platform }));
        }
        remote.write(format!("\n{marker}\n").as_bytes())?;
        while !remote.line()?.starts_with(&marker) {}
        Ok(None)
    }

    /// The engine of this name, or the first that answers.
    ///
    /// # Errors
    ///
    /// None does.
    pub fn find(remote: &mut Remote, wanted: Option<&str>) -> Result<Engine> {
        let wanted = wanted.map(|engine| engine.split('/').next().unwrap_or(engine));
        if wanted.is_none_or(|wanted| wanted == Kind::Docker.name())
            && let Some(docker) = Engine::dial(remote)?
        {
            return Ok(docker);
        }
        let (lines, _) = remote.run(&format!("wanted={}\n{PROBE}", wanted.unwrap_or_default()))?;
        match first(&lines, wanted) {
            Some(engine) => Ok(engine),
            None => bail!(
                "{} answers there, neither for this user nor by sudo without a password: install it, or add the user to its group",
                wanted.map_or(
                    "neither docker nor podman, crossdock or containerd".to_string(),
                    |name| format!("no {name}")
                ),
            ),
        }
    }

    /// Its name and version.
    pub fn title(&self) -> String {
        format!("{} {}", self.kind.name(), self.version)
    }

    /// Lets the engine pull `source`, the name of an image of `platform`, and name it `name`. Returns the hex
    /// digits of the image's id, if the engine has ids.
    ///
    /// # Errors
    ///
    /// The engine's own, in its words.
    pub fn pull(
        &self,
        remote: &mut Remote,
        source: &Reference,
        name: &Reference,
        platform: &Platform,
        namespace: &str,
    ) -> Result<Option<String>> {
        if let Some(version) = &self.dialled {
            let id = docker_api::pull(remote, version, source, name);
            return id.map(|id| hex_id(&id)).map_err(|error| self.refused(&error.to_string()));
        }
        // Both streams, so that what the engine says comes before the end of the answer.
        let script = format!("{{ {}; }} 2>&1", self.script(source, name, platform, namespace));
        let (lines, code) = remote.run(&script)?;
        if code != 0 {
            let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            let said: String = last.join("; ").chars().filter(|c| !c.is_control()).collect();
            return Err(self.refused(&said));
        }
        Ok(lines.last().and_then(|line| hex_id(line)))
    }

    fn refused(&self, said: &str) -> anyhow::Error {
        anyhow!("{} could not take the image: {said}", self.title())
    }

    /// The commands. Names of images hold no character that means something to a shell.
    fn script(&self, source: &Reference, name: &Reference, platform: &Platform, namespace: &str) -> String {
        let run = if self.prefix.is_empty() { String::new() } else { format!("{} ", self.prefix) };
        match self.kind {
            Kind::Docker => format!(
                "{run}docker pull -q {source} >/dev/null && {run}docker tag {source} {name} && {run}docker rmi {source} >/dev/null && {run}docker image inspect --format '{{{{.Id}}}}' {name}"
            ),
            Kind::Podman => format!(
                "id=$({run}podman pull -q --tls-verify=false {source}) && {run}podman tag \"$id\" {name} && {run}podman rmi {source} >/dev/null && echo \"$id\""
            ),
            Kind::Crossdock => format!(
                "crossdock pull -q --all-platforms {source} >/dev/null && crossdock tag {source} {name} && crossdock rmi {source} >/dev/null"
            ),
            Kind::Containerd => {
                let ctr = format!("{run}ctr --namespace {namespace} image");
                format!(
                    "{ctr} pull --plain-http --platform {platform} {source} >/dev/null && {ctr} tag --force {source} {name} >/dev/null && {ctr} rm {source} >/dev/null"
                )
            }
        }
    }
}

/// The digits of an image's id.
fn hex_id(text: &str) -> Option<String> {
    let id = text.strip_prefix("sha256:").unwrap_or(text);
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_string())
}

/// The first engine in the answer to [`PROBE`].
fn first(lines: &[String], wanted: Option<&str>) -> Option<Engine> {
    let fields = |line: &String| line.split('|').map(str::to_string).collect::<Vec<_>>();
    let machine = lines.iter().map(fields).find(|fields| fields[0] == "machine")?;
    let machine = machine.get(2).cloned().unwrap_or_default();
    lines.iter().map(fields).filter(|fields| fields[0] == "engine").find_map(|fields| {
        let kind =
            Kind::of(fields.get(1)?).filter(|kind| wanted.is_none_or(|wanted| wanted == kind.name()))?;
        let own = fields.get(4).map(String::as_str).unwrap_or_default();
        Some(Engine {
            kind,
            prefix: fields.get(2)?.clone(),
            version: fields.get(3)?.clone(),
            dialled: None,
            platform: platform(own, &machine)?,
        })
    })
}

/// What a device runs: as its engine says, which may be a 32-bit program on a 64-bit kernel, with the variant
/// that the kernel's name of the machine tells; or by that name alone (uname(2)).
fn platform(engine: &str, machine: &str) -> Option<Platform> {
    let machine = match machine {
        "x86_64" => "linux/amd64",
        "aarch64" | "arm64" => "linux/arm64",
        "armv6l" => "linux/arm/v6",
        "armv5l" | "armv5tel" | "armv5tejl" => "linux/arm/v5",
        other if other.starts_with("armv") => "linux/arm/v7",
        "i386" | "i486" | "i586" | "i686" => "linux/386",
        "loongarch64" => "linux/loong64",
        other => &format!("linux/{other}"),
    };
    let machine: Option<Platform> = machine.parse().ok();
    match (engine.parse::<Platform>().ok(), machine) {
        (Some(engine), Some(machine)) if engine.architecture == machine.architecture => Some(machine),
        (Some(engine), _) => Some(engine),
        (None, machine) => machine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, wanted: Option<&str>) -> Option<(String, String, String)> {
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        first(&lines, wanted)
            .map(|engine| (engine.title(), engine.prefix.clone(), engine.platform.to_string()))
    }

    #[test]
    fn the_first_engine_is_taken_with_its_platform() {
        let pi = "engine|docker||28.2.2|linux/arm\nengine|podman||4.3.1|linux/arm\nmachine|Linux|armv6l\n";
        let title =
            |answer: Option<(String, String, String)>| answer.map(|(title, _, platform)| (title, platform));
        assert_eq!(title(of(pi, None)), Some(("docker 28.2.2".into(), "linux/arm/v6".into())));
        assert_eq!(title(of(pi, Some("podman"))), Some(("podman 4.3.1".into(), "linux/arm/v6".into())));
        assert_eq!(of(pi, Some("containerd")), None);
        // A 32-bit system on a 64-bit kernel.
        let mixed = "engine|docker|sudo -n|20.10|linux/arm\nmachine|Linux|aarch64\n";
        assert_eq!(of(mixed, None), Some(("docker 20.10".into(), "sudo -n".into(), "linux/arm/v7".into())));
        let plain = "engine|crossdock||0.1.0\nmachine|Linux|riscv64\n";
        assert_eq!(title(of(plain, None)), Some(("crossdock 0.1.0".into(), "linux/riscv64".into())));
        let odd =
            "noise\nengine|rkt||1\nengine|docker\nengine\nmachine|Linux|x86_64\nengine|podman||5|linux/amd64";
        assert_eq!(title(of(odd, None)), Some(("podman 5".into(), "linux/amd64".into())));
        for nothing in ["", "machine|Linux|x86_64", "engine|docker||28|linux/arm64"] {
            assert_eq!(of(nothing, None), None, "{nothing}");
        }
    }
}
