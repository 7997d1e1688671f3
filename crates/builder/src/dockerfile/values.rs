//! Values of instructions that are checked as they are read.

/// `80`, `80/udp`, `8000-8010/tcp`: the ports as the configuration lists them.
pub fn expose(word: &str) -> Result<Vec<String>, String> {
    let invalid = || {
        format!("invalid port {word:?}: it must be a number or a range, with /tcp, /udp or /sctp behind it")
    };
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    // Docker takes `host:container` and exposes the container's port.
    let range = range.rsplit(':').next().unwrap_or(range);
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(invalid());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) =
        (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    if first == 0 || first > last {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Names of the signals 1 to 31, as `kill -l` of Linux has them.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of a signal: a name with or without `SIG`, or a number from 1 to 64.
pub fn signal_number(signal: &str) -> Option<i32> {
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = signal.parse::<i32>().ok().filter(|number| (1..=64).contains(number));
    number.or_else(|| SIGNALS.iter().position(|known| *known == name).map(|index| index as i32 + 1))
}

/// Whether STOPSIGNAL may have this value: a signal as [`signal_number`] reads it, or one of the real-time
/// signals by name.
pub fn check_signal(signal: &str) -> Result<(), String> {
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    match signal_number(signal).is_some() || name.starts_with("RTMIN") || name.starts_with("RTMAX") {
        true => Ok(()),
        false => Err(format!("invalid signal: {signal}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        assert_eq!(expose("80").expect("valid"), ["80/tcp"]);
        assert_eq!(expose("53/UDP").expect("valid"), ["53/udp"]);
        assert_eq!(expose("8000-8002").expect("valid"), ["8000/tcp", "8001/tcp", "8002/tcp"]);
        for bad in ["", "x", "0", "70000", "5-3", "80/http"] {
            assert!(expose(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals() {
        for good in ["9", "SIGTERM", "term", "SIGRTMIN+3"] {
            assert!(check_signal(good).is_ok(), "{good}");
        }
        for bad in ["", "0", "65", "SIGFOO"] {
            assert!(check_signal(bad).is_err(), "{bad}");
        }
        assert_eq!(
            ["HUP", "SIGKILL", "sys", "40"].map(signal_number),
            [Some(1), Some(9), Some(31), Some(40)]
        );
    }
}
