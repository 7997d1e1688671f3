//! `ssh://[USER@]HOST[:PORT][/ENGINE[/NAMESPACE]]`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

/// A device, and the engine that gets the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub user: Option<String>,
    /// A name, also one of ssh's configuration, or an IP address.
    pub host: String,
    pub port: Option<u16>,
    /// docker, podman, containerd or crossdock; for containerd, a namespace may follow.
    pub engine: Option<String>,
}

/// What such an address begins with.
pub const SCHEME: &str = "ssh://";

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Address> {
        let form = "the form is ssh://[USER@]HOST[:PORT][/docker|podman|containerd|crossdock]";
        let Some(rest) = text.strip_prefix(SCHEME) else { bail!("{text}: {form}") };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            // The password is not shown.
            bail!("an address of ssh holds no password: give ssh://USER@HOST, and let ssh ask or use a key");
        }
        let (host, port) = match place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("?"))),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        // ssh would take a word that begins with a hyphen for an option.
        let is_word = |word: &str| {
            !word.is_empty()
                && !word.starts_with('-')
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:%\\+".contains(&b))
        };
        if !is_word(host) || user.is_some_and(|user| !is_word(user)) {
            bail!("{text}: {form}");
        }
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => bail!("{text}: the port must be a number from 1 to 65535; {form}"),
        };
        let engine = match path.trim_end_matches('/') {
            "" => None,
            engine => {
                let (name, namespace) = engine.split_once('/').unwrap_or((engine, ""));
                let is_known = matches!(name, "docker" | "podman" | "containerd" | "crossdock");
                let has_namespace = !namespace.is_empty();
                if !is_known || (has_namespace && (name != "containerd" || !is_word(namespace))) {
                    bail!(
                        "{text}: no engine \"{engine}\": docker, podman, containerd[/NAMESPACE] or crossdock"
                    );
                }
                Some(engine.to_string())
            }
        };
        Ok(Address { user: user.map(str::to_string), host: host.to_string(), port, engine })
    }
}

impl Address {
    /// What ssh calls the place to connect to.
    pub fn target(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target())?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let of = |text: &str| text.parse::<Address>().expect(text);
        let pi = of("ssh://pi@raspberry.local:2222/docker");
        assert_eq!((pi.target().as_str(), pi.port), ("pi@raspberry.local", Some(2222)));
        assert_eq!(pi.engine.as_deref(), Some("docker"));
        assert_eq!(pi.to_string(), "pi@raspberry.local:2222");
        assert_eq!(of("ssh://box"), Address { user: None, host: "box".into(), port: None, engine: None });
        assert_eq!(of("ssh://box/"), of("ssh://box"));
        assert_eq!(
            (of("ssh://[fe80::1%eth0]:22").host.as_str(), of("ssh://[::1]").port),
            ("fe80::1%eth0", None)
        );
        assert_eq!(of("ssh://box/containerd/k8s.io").engine.as_deref(), Some("containerd/k8s.io"));
        for wrong in [
            "box",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://-l@box",
            "ssh://a b",
            "ssh://box:0",
            "ssh://box:x",
            "ssh://box:70000",
            "ssh://[::1]22",
            "ssh://box/rkt",
            "ssh://box/docker/x",
            "ssh://box/containerd/-n",
            "ssh://box;reboot",
            "ssh://$(x)@box",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
        let error = "ssh://pi:secret@box".parse::<Address>().expect_err("a password").to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
