//! Parses the values of options that several commands take.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use crossdock_delivery::limits::limit;
use crossdock_dockerfile::values::boolean;
use crossdock_oci::Reference;
use crossdock_platform::Platform;
use crossdock_sandbox::emulator::{self, Choice};
use crossdock_sandbox::{Limit, Network, Uplink};

/// Reads an image name.
pub fn reference(text: &str) -> Result<Reference> {
    Ok(text.parse::<Reference>()?)
}

/// Reads a name that an image gets.
///
/// # Errors
///
/// It is none, or it has a digest: that follows from the image.
pub fn new_name(text: &str) -> Result<Reference> {
    let name = reference(text)?;
    if name.digest().is_some() {
        bail!("{text}: a name that is given has no digest: leave \"@...\" out");
    }
    Ok(name)
}

/// Reads `--platform`, which may be given several times and with commas; without it, this machine's platform.
pub fn platforms(given: &[String]) -> Result<Vec<Platform>> {
    if given.is_empty() {
        return Ok(vec![Platform::host()]);
    }
    Ok(crossdock_platform::parse_list(&given.join(","))?)
}

/// Reads one `--platform`.
pub fn platform(given: Option<&String>) -> Result<Option<Platform>> {
    given.map(|text| text.parse::<Platform>().map_err(Into::into)).transpose()
}

/// The platform that `--os`, `--arch` and `--variant` of podman and skopeo name; what is not given is this
/// machine's. `None` if none of them is given.
pub fn composed(os: Option<&str>, arch: Option<&str>, variant: Option<&str>) -> Result<Option<Platform>> {
    if (os, arch, variant) == (None, None, None) {
        return Ok(None);
    }
    let machine = Platform::host();
    let os = os.unwrap_or(&machine.os);
    let mut text = format!("{os}/{}", arch.unwrap_or(&machine.architecture));
    match (variant, arch, &machine.variant) {
        (Some(variant), ..) => text.push_str(&format!("/{variant}")),
        (None, None, Some(variant)) => text.push_str(&format!("/{variant}")),
        _ => {}
    }
    Ok(Some(text.parse::<Platform>()?))
}

/// Reads `--emulator`.
pub fn emulator_choice(text: &str) -> Result<Choice> {
    text.parse::<Choice>().map_err(anyhow::Error::msg)
}

/// The emulator for a platform; `None` if this machine runs the platform's programs itself.
pub fn emulator_for(platform: &Platform, choice: &Choice) -> Result<Option<crossdock_sandbox::Emulator>> {
    if emulator::is_native(platform) {
        return Ok(None);
    }
    Ok(Some(emulator::find(&platform.architecture, choice)?))
}

/// Reads `--network`. Docker's `bridge` is our `private`, a network of its own with a way out; podman's names
/// choose the program.
pub fn network(text: &str) -> Result<Network> {
    Ok(match text {
        "host" | "default" => Network::Host,
        "none" => Network::None,
        "private" | "bridge" => Network::Private(Uplink::Any),
        "pasta" => Network::Private(Uplink::Pasta),
        "slirp4netns" => Network::Private(Uplink::Slirp4netns),
        other => bail!(
            "--network {other}: it must be host (the default), private or none; pasta or slirp4netns is a private one by that program"
        ),
    })
}

/// Reads `--add-host NAME:IP`, also `NAME=IP`. `host-gateway` is this machine, which a private network cannot
/// reach.
pub fn hosts(given: &[String], network: Network) -> Result<Vec<(String, IpAddr)>> {
    let host = |text: &String| {
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
        let address = match address {
            "host-gateway" if matches!(network, Network::Private(_)) => bail!(
                "--add-host {text}: the loopback of this machine cannot be reached from a private network: give an address, or choose --network host"
            ),
            "host-gateway" => "127.0.0.1",
            other => other.trim_start_matches('[').trim_end_matches(']'),
        };
        match address.parse::<IpAddr>() {
            Ok(address) if !name.is_empty() => Ok((name.to_string(), address)),
            _ => bail!("--add-host {text}: the form is NAME:IP"),
        }
    };
    given.iter().map(host).collect()
}

/// Reads `--ulimit NAME=SOFT[:HARD]`, see getrlimit(2).
pub fn limits(given: &[String]) -> Result<Vec<Limit>> {
    given.iter().map(|text| limit(text).with_context(|| format!("--ulimit {text}"))).collect()
}

/// Reads an age such as `30m`, `24h` or `7d`, in seconds.
pub fn age_seconds(text: &str) -> Result<u64> {
    if text == "0" {
        return Ok(0);
    }
    if let Some(days) = text.strip_suffix('d').and_then(|n| n.parse::<u64>().ok()) {
        return Ok(days * 86_400);
    }
    match crossdock_dockerfile::instruction::duration_ns(text) {
        Some(ns) if ns >= 0 => Ok(ns as u64 / 1_000_000_000),
        _ => bail!("{text} is no age such as 30m, 24h or 7d"),
    }
}

/// 64 hexadecimal digits that nobody else has, as docker's ids.
pub fn random_id() -> Result<String> {
    let mut bytes = [0; 32];
    let mut source = std::fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut bytes).context("read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A truth value as docker reads it, `strconv.ParseBool` of Go.
pub fn switch(text: &str) -> Result<bool, String> {
    boolean(text).ok_or_else(|| "it is true or false".to_string())
}
