//! What RUN steps of `build` get beyond the usual: the options that podman build has for them
//! (podman-build(1)), done by the sandbox as for `run`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use crossdock_builder::StepOptions;
use crossdock_sandbox::Mount;

use super::described_devices;
use super::run::dns::DnsArgs;
use super::run::mounts::{bind, device, tell_what_is_left_out};
use super::run::rights::OwnRightsArgs;

#[derive(clap::Args)]
pub struct StepArgs {
    #[command(flatten)]
    pub dns: DnsArgs,
    #[command(flatten)]
    pub rights: OwnRightsArgs,
    /// Device of this machine for RUN, or a directory of devices, or a device by its name (CDI)
    #[arg(long = "device", value_name = "PATH[:TARGET]|VENDOR/CLASS=NAME")]
    pub devices: Vec<String>,
    /// Directory or file of this machine for RUN; its content is no part of a step's digest
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:ro]")]
    pub volumes: Vec<String>,
}

impl StepArgs {
    /// The options for the builder.
    ///
    /// # Errors
    ///
    /// A value that is none, a device or directory that is not there.
    pub fn options(&self, single_id: bool) -> Result<StepOptions> {
        let mut options = StepOptions::default();
        if let Some(text) = self.dns.resolv_conf()? {
            // What the user gave, and not what this machine's own file adds to it.
            for (name, given) in
                [("dns", &self.dns.dns), ("search", &self.dns.dns_search), ("options", &self.dns.dns_options)]
            {
                options.key.extend(given.iter().map(|value| format!("{name} {value}")));
            }
            options.resolv_conf = Some(text);
        }
        if !self.rights.is_empty() {
            options.security = self.rights.security(false)?;
            let rights = &options.security;
            options.key.push(format!(
                "rights {:x} {} {} {}",
                rights.capabilities.bits(),
                rights.seccomp,
                rights.masks,
                rights.no_new_privileges
            ));
            options.groups = self.rights.groups(single_id);
            options.key.extend(options.groups.iter().map(|group| format!("group {group}")));
        }
        for text in &self.devices {
            if described_devices::is_name(text) {
                for device in described_devices::named(text)? {
                    options.key.push(format!("device {}", device.full_name()));
                    tell_what_is_left_out(&device);
                    options.devices.push(device);
                }
                continue;
            }
            let mount = device(text)?;
            options.key.push(format!("device {}", mount.target.display()));
            options.mounts.push(mount);
        }
        for text in &self.volumes {
            let mount = volume(text)?;
            let access = if mount.read_only { "ro" } else { "rw" };
            options.key.push(format!("volume {text} {access}"));
            options.mounts.push(mount);
        }
        Ok(options)
    }
}

/// `--volume SOURCE:TARGET[:OPTIONS]`, podman-build(1).
fn volume(text: &str) -> Result<Mount> {
    let form = || format!("--volume {text}: the form is SOURCE:TARGET[:ro]");
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match fields[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => bail!(form()),
    };
    if !source.starts_with(['/', '.', '~']) || !Path::new(target).is_absolute() {
        bail!("{}, with a path on this machine and an absolute path in the step", form());
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "readonly" => read_only = true,
            "rw" | "z" | "Z" | "rprivate" | "private" | "rbind" | "nosuid" | "nodev" => {}
            other => bail!("--volume {text}: unknown option {other}: ro or rw"),
        }
    }
    bind(source, target, read_only, true, &format!("--volume {text}")).with_context(form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        steps: StepArgs,
    }

    fn options(words: &[&str]) -> Result<StepOptions> {
        let words = std::iter::once("build").chain(words.iter().copied());
        Line::try_parse_from(words).expect("options").steps.options(false)
    }

    #[test]
    fn what_is_given_is_in_the_key() {
        assert_eq!(options(&[]).expect("none").key, Vec::<String>::new());
        let key = |words: &[&str]| options(words).expect("options").key;
        assert_eq!(key(&["--dns", "10.0.0.1", "--dns-search", "a"]), ["dns 10.0.0.1", "search a"]);
        assert_eq!(key(&["--device", "/dev/null:/dev/x"]), ["device /dev/x"]);
        assert_eq!(key(&["-v", "/tmp:/t:ro,z"]), ["volume /tmp:/t:ro,z ro"]);
        let caps = |words: &[&str]| options(words).expect("options").security.capabilities.bits();
        assert_eq!(caps(&["--cap-drop", "ALL", "--cap-add", "CHOWN"]), 1);
        assert_ne!(key(&["--cap-drop", "CHOWN"]), key(&["--cap-drop", "KILL"]));
        assert_eq!(key(&["--group-add", "audio"]).last().map(String::as_str), Some("group audio"));
        for wrong in ["a:/b", "/tmp", "/tmp:b", "/tmp:/t:O", "/nope:/t", "/:/:/:/"] {
            assert!(options(&["-v", wrong]).is_err(), "{wrong}");
        }
    }
}
