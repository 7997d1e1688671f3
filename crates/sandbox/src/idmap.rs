//! Which user and group ids a user namespace has: `/proc/PID/uid_map`, `/etc/subuid`, `/etc/subgid`.
//!
//! Sources: user_namespaces(7), subuid(5).

#![expect(clippy::disallowed_methods, reason = "files of the host")]

use std::fs;
use std::io;
use std::path::Path;

/// A range of ids: the `count` ids from `inside` on are those from `outside` on in the parent namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id in the parent namespace.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// The user and group ids that exist in a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMapping {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

impl IdMapping {
    /// The mapping of the calling process.
    pub fn current() -> io::Result<IdMapping> {
        Ok(IdMapping {
            uids: parse_map(&fs::read_to_string("/proc/self/uid_map")?),
            gids: parse_map(&fs::read_to_string("/proc/self/gid_map")?),
        })
    }

    /// Whether only one user id exists, so that `chown` to another is impossible.
    pub fn is_single(&self) -> bool {
        let total = |ranges: &[IdRange]| ranges.iter().map(|r| u64::from(r.count)).sum::<u64>();
        total(&self.uids) <= 1 || total(&self.gids) <= 1
    }

    /// Whether the group id exists inside.
    pub fn has_gid(&self, gid: u32) -> bool {
        self.gids.iter().any(|r| gid >= r.inside && gid - r.inside < r.count)
    }

    /// The map of a child namespace that has every id of this one under the same number.
    pub(crate) fn identity(&self) -> IdMapping {
        let same = |ranges: &[IdRange]| ranges.iter().map(|r| IdRange { outside: r.inside, ..*r }).collect();
        IdMapping { uids: same(&self.uids), gids: same(&self.gids) }
    }
}

/// Reads the lines `inside outside count` of a map file.
pub(crate) fn parse_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            match (numbers.next(), numbers.next(), numbers.next()) {
                (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(count))) => {
                    Some(IdRange { inside, outside, count })
                }
                _ => None,
            }
        })
        .collect()
}

/// The lines to write to a map file.
pub(crate) fn format_map(ranges: &[IdRange]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
}

/// The ranges `(first, count)` that `/etc/subuid` or `/etc/subgid` gives to a user, by name or number.
pub(crate) fn parse_subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            if Some(owner) != name && owner != number {
                return None;
            }
            let first = fields.next()?.parse::<u32>().ok()?;
            let count = fields.next()?.parse::<u32>().ok()?;
            (count > 0).then_some((first, count))
        })
        .collect()
}

/// The first and last of 65536 ids that no line of `/etc/subuid` and `/etc/subgid`, both in `text`, gives to
/// anybody; from 100000 on, as useradd(8) has it. `None` if there are none.
pub(crate) fn free_range(text: &str) -> Option<(u32, u32)> {
    const FIRST: u64 = 100_000;
    const COUNT: u64 = 65_536;
    let mut given: Vec<(u64, u64)> = text
        .lines()
        .filter_map(|line| {
            let mut numbers =
                line.trim().split(':').skip(1).map(|n| u64::from(n.parse::<u32>().unwrap_or(0)));
            let (first, count) = (numbers.next()?, numbers.next()?);
            (count > 0).then_some((first, first + count))
        })
        .collect();
    given.sort_unstable();
    let free = given.into_iter().fold(
        FIRST,
        |free, (first, end)| {
            if first < free + COUNT { free.max(end) } else { free }
        },
    );
    Some((u32::try_from(free).ok()?, u32::try_from(free + COUNT - 1).ok()?))
}

/// Maps the own id to 0, then the ranges one after the other from 1 on.
pub(crate) fn stack(own: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut map = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut next = 1u32;
    for &(outside, count) in ranges {
        let count = count.min(u32::MAX - next);
        if count > 0 && !(outside..outside.saturating_add(count)).contains(&own) {
            map.push(IdRange { inside: next, outside, count });
            next += count;
        }
    }
    map
}

/// The login name of a user id in `/etc/passwd`. Not through libc: a static executable has no name services.
pub(crate) fn login_name(uid: u32) -> Option<String> {
    let text = fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_string())
    });
    // Users of LDAP and the like are not in the file; the session's environment usually has the name.
    found.or_else(|| std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_and_written() {
        let text = "         0       1000          1\n         1     100000      65536\n";
        let map = parse_map(text);
        assert_eq!(
            map,
            [
                IdRange { inside: 0, outside: 1000, count: 1 },
                IdRange { inside: 1, outside: 100000, count: 65536 }
            ]
        );
        assert_eq!(format_map(&map), "0 1000 1\n1 100000 65536\n");
        assert_eq!(parse_map("rubbish\n1 2\n"), []);
    }

    #[test]
    fn subordinate_ranges_are_found_by_name_and_number() {
        let text = "ann:100000:65536\nbob:200000:10\n1000:300000:5\nann:broken\nann:400000:0\n";
        assert_eq!(parse_subordinate(text, Some("ann"), 1000), [(100000, 65536), (300000, 5)]);
        assert_eq!(parse_subordinate(text, None, 7), []);
        assert_eq!(
            stack(1000, &[(100000, 65536), (300000, 5)])
                .iter()
                .map(|r| (r.inside, r.outside, r.count))
                .collect::<Vec<_>>(),
            [(0, 1000, 1), (1, 100000, 65536), (65537, 300000, 5)]
        );
    }

    #[test]
    fn advice_names_a_range_that_nobody_has() {
        assert_eq!(free_range(""), Some((100_000, 165_535)));
        assert_eq!(free_range("ann:100000:65536"), Some((165_536, 231_071)));
        // A gap that is large enough is used, a smaller one is skipped.
        assert_eq!(free_range("ann:200000:65536\nbob:100000:10\nrubbish\n"), Some((100_010, 165_545)));
        assert_eq!(free_range("ann:140000:10\nbob:100000:10\ncarl:140010:5"), Some((140_015, 205_550)));
        assert_eq!(free_range("ann:1000:99500"), Some((100_500, 166_035)));
        assert_eq!(free_range("ann:100000:4294867295"), None);
    }

    #[test]
    fn a_single_id_is_recognised() {
        let one = IdMapping { uids: stack(1000, &[]), gids: stack(1000, &[]) };
        assert!(one.is_single());
        let full = IdMapping { uids: stack(1000, &[(1, 2)]), gids: stack(1000, &[(1, 2)]) };
        assert!(!full.is_single());
        assert!(full.has_gid(2) && !full.has_gid(3));
        assert_eq!(full.identity().uids[1], IdRange { inside: 1, outside: 1, count: 2 });
    }
}
