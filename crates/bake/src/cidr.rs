//! Functions of IP networks: `cidrhost`, `cidrnetmask`, `cidrsubnet` and `cidrsubnets` (buildx's "Standard
//! library functions"; RFC 4632 for the notation).

use std::net::IpAddr;

use serde_json::Value;

use crate::value::{number, text};

/// A network: the bits of its address, and how many of them are the prefix.
#[derive(Clone, Copy)]
struct Network {
    /// The address, in the lower 32 bits if it is one of IPv4.
    bits: u128,
    prefix: u32,
    width: u32,
}

impl Network {
    /// Reads `10.0.0.0/8`.
    fn of(value: &Value) -> Result<Network, String> {
        let given = text(value)?;
        let wrong = || format!("\"{given}\" is no network such as 10.0.0.0/8");
        let (address, prefix) = given.split_once('/').ok_or_else(wrong)?;
        let (bits, width) = match address.parse::<IpAddr>().map_err(|_| wrong())? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let is_digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix: u32 =
            prefix.parse().ok().filter(|prefix| is_digits && *prefix <= width).ok_or_else(wrong)?;
        let network = Network { bits, prefix, width };
        Ok(Network { bits: bits & !network.host_mask(), ..network })
    }

    /// The bits that tell hosts apart.
    fn host_mask(self) -> u128 {
        ones(self.width - self.prefix)
    }

    fn address(self) -> String {
        match self.width {
            32 => std::net::Ipv4Addr::from(self.bits as u32).to_string(),
            _ => std::net::Ipv6Addr::from(self.bits).to_string(),
        }
    }

    /// The network of this number among those of a longer prefix.
    fn subnet(self, more: u32, index: u128) -> Result<Network, String> {
        let prefix = self.prefix + more;
        if prefix > self.width {
            return Err(format!("a prefix of {} bits cannot have {more} more", self.prefix));
        }
        if index > ones(more) {
            return Err(format!("{more} bits have no network of the number {index}"));
        }
        // A shift by the whole width is none.
        let shifted = index.checked_shl(self.width - prefix).unwrap_or(0);
        Ok(Network { bits: self.bits | shifted, prefix, ..self })
    }

    fn shown(self) -> Value {
        Value::from(format!("{}/{}", self.address(), self.prefix))
    }
}

/// As many ones.
fn ones(count: u32) -> u128 {
    match count {
        0 => 0,
        count => u128::MAX >> (128 - count),
    }
}

fn whole(value: &Value) -> Result<i64, String> {
    let number = number(value)?;
    match number.fract() == 0.0 && number.abs() < 9e15 {
        true => Ok(number as i64),
        false => Err(format!("{number} is no whole number")),
    }
}

/// How many bits a prefix gets longer.
fn more(value: &Value) -> Result<u32, String> {
    let bits = whole(value)?;
    u32::try_from(bits).ok().filter(|bits| *bits <= 128).ok_or_else(|| format!("{bits} is no number of bits"))
}

/// The address of a host; a negative number counts from the end.
pub fn host(arguments: &[Value]) -> Result<Value, String> {
    let [network, index] = arguments else { return Err("it needs a network and a number".to_string()) };
    let (network, index) = (Network::of(network)?, whole(index)?);
    let last = network.host_mask();
    let distance = u128::from(index.unsigned_abs());
    let host = match index < 0 {
        false if distance <= last => distance,
        true if distance - 1 <= last => last - (distance - 1),
        _ => return Err(format!("the network has no host of the number {index}")),
    };
    Ok(Value::from(Network { bits: network.bits | host, ..network }.address()))
}

/// The mask of a network of IPv4.
pub fn netmask(arguments: &[Value]) -> Result<Value, String> {
    let [network] = arguments else { return Err("it needs a network".to_string()) };
    let network = Network::of(network)?;
    if network.width != 32 {
        return Err("networks of IPv6 have no mask".to_string());
    }
    Ok(Value::from(Network { bits: !network.host_mask() & ones(32), ..network }.address()))
}

/// A network in a network.
pub fn subnet(arguments: &[Value]) -> Result<Value, String> {
    let [network, bits, index] = arguments else {
        return Err("it needs a network, a number of bits and a number".to_string());
    };
    let index = whole(index)?;
    let index = u128::try_from(index).map_err(|_| format!("there is no network of the number {index}"))?;
    Ok(Network::of(network)?.subnet(more(bits)?, index)?.shown())
}

/// Networks in a network, one behind the other.
pub fn subnets(arguments: &[Value]) -> Result<Value, String> {
    let (network, lengths) = arguments.split_first().ok_or("it needs a network")?;
    let network = Network::of(network)?;
    let mut found = Vec::new();
    // The first host that is free, counted from the network's own address.
    let mut free = 0u128;
    for bits in lengths {
        let bits = more(bits)?;
        let inner = network.subnet(bits, 0)?;
        let size = inner.host_mask();
        // The next multiple of the size.
        let begin =
            free.checked_add(size).map(|end| end & !size).filter(|begin| *begin <= network.host_mask());
        let begin = begin.filter(|begin| found.is_empty() || *begin > 0);
        let begin = begin.ok_or_else(|| format!("the network has no room for {bits} more bits"))?;
        found.push(Network { bits: network.bits | begin, ..inner }.shown());
        // At the end of all addresses this is 0, for which there is no room.
        free = begin.wrapping_add(size).wrapping_add(1);
    }
    Ok(Value::Array(found))
}
