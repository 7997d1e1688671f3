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

/// Signals as `kill -l` of Linux names them, with or without `SIG`, or numbers 1 to 64.
pub fn check_signal(signal: &str) -> Result<(), String> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = name.starts_with("RTMIN") || name.starts_with("RTMAX");
    if signal.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n)) || NAMES.contains(&name) || real_time {
        return Ok(());
    }
    Err(format!("invalid signal: {signal}"))
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
    }
}
