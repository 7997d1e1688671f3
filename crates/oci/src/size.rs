//! Sizes as people read them.

/// A size for people: `12.3MB`, decimal units as docker prints them.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes}B"),
        _ if value < 10.0 => format!("{value:.2}{unit}"),
        _ if value < 100.0 => format!("{value:.1}{unit}"),
        _ => format!("{value:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in
            [(0, "0B"), (999, "999B"), (1000, "1.00kB"), (12_345_678, "12.3MB"), (123_456_789_012, "123GB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
