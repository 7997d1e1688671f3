//! `user[:group]` as Docker reads it: names and numbers of `/etc/passwd` and `/etc/group` of the image.
//!
//! Sources: the Dockerfile reference, `USER` and `COPY --chown`; passwd(5), group(5).

use std::os::fd::BorrowedFd;

use crate::dir::{Dir, ReadError};

/// Largest user or group id, as with Docker: the kernel or its tools take larger numbers for "no id" (-1) or
/// as negative.
pub const ID_MAX: u32 = 0x7fff_ffff;

/// Largest `/etc/passwd` or `/etc/group` of an image that is read, in bytes: some 200,000 users.
const FILE_SIZE_MAX: u64 = 16 << 20;

/// Most fields that a line is split into: those of passwd(5). A hostile line can have millions.
const FIELDS_MAX: usize = 7;

/// Most supplementary groups of a process (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// The ids of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups: `gid`, and, unless a group was given, the groups of `/etc/group` that list the
    /// user. `gid` is among them because a setgid program could otherwise be used to leave the group, and
    /// files may be closed to the group on purpose.
    pub groups: Vec<u32>,
    /// Home directory of `/etc/passwd`, otherwise `/`.
    pub home: String,
}

/// A user or group that the image does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such name in `/etc/passwd`.
    #[error("unable to find user {0}: no matching entry in /etc/passwd of the image")]
    NoUser(String),
    /// No such name in `/etc/group`.
    #[error("unable to find group {0}: no matching entry in /etc/group of the image")]
    NoGroup(String),
    /// A number beyond what an id can be.
    #[error("user or group id {0} is out of range (0 to {ID_MAX})")]
    Range(String),
    /// A line of `/etc/passwd` or `/etc/group` that the user needs has no usable id.
    #[error(
        "line {line} of {file} of the image gives \"{name}\" the {what} \"{value}\", which is not a number from 0 to {ID_MAX}"
    )]
    Line {
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
        /// Number of the line, from 1 on.
        line: usize,
        /// Name of the user or group.
        name: String,
        /// "user id" or "group id".
        what: &'static str,
        /// The text in place of the id.
        value: String,
    },
    /// More groups than a process can have.
    #[error("user {0} is in more than {GROUPS_MAX} groups of /etc/group of the image")]
    Groups(String),
    /// A file that cannot be read.
    #[error("cannot read {file} of the image: {reason}")]
    File {
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
        /// Why.
        reason: ReadError,
    },
}

/// Reads a user or group id: decimal digits only. `None` for a name.
///
/// Errors: [`UserError::Range`] for a number above [`ID_MAX`].
pub fn id(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= ID_MAX => Ok(Some(number)),
        _ => Err(UserError::Range(text.into())),
    }
}

/// Resolves `user[:group]` in the root that the descriptor is open on. Missing files count as empty.
///
/// Errors: see [`UserError`]. The image may be hostile: see [`Dir::read_text`].
pub fn resolve(root: BorrowedFd<'_>, specification: &str) -> Result<User, UserError> {
    let read = |file: &'static str| {
        let text = match root.try_clone_to_owned() {
            Ok(root) => Dir::from(root).read_text(file, FILE_SIZE_MAX),
            Err(error) => {
                Err(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO).into())
            }
        };
        text.map(Option::unwrap_or_default).map_err(|reason| UserError::File { file, reason })
    };
    resolve_in(specification, &read(PASSWD)?, &read(GROUP)?)
}

/// [`resolve`] with more supplementary groups, by name or number.
pub fn resolve_with(root: BorrowedFd<'_>, specification: &str, groups: &[String]) -> Result<User, UserError> {
    let mut user = resolve(root, specification)?;
    for name in groups {
        // The group of "user:group" is looked up in the same way.
        let gid = resolve(root, &format!("0:{name}"))?.gid;
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Resolves `user[:group]` in the texts of the two files.
pub fn resolve_in(specification: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (user, group_name) = match specification.split_once(':') {
        Some((user, group)) => (user, group),
        None => (specification, ""),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = id(user);
    let mut found = User { uid: 0, gid: 0, groups: Vec::new(), home: "/".into() };
    let has_number =
        |entry: &Entry<'_>| matches!((&number, entry.id(2, "user id")), (Ok(Some(n)), Ok(id)) if *n == id);
    // A number is never a name, even if a line of the image has it as one: it would mean another user.
    let entry = match &number {
        Ok(Some(_)) => entries(PASSWD, passwd).find(has_number),
        Ok(None) => entries(PASSWD, passwd).find(|entry| entry.name() == user),
        Err(_) => None,
    };
    let mut primary = Ok(0);
    match &entry {
        Some(entry) => {
            found.uid = entry.id(2, "user id")?;
            primary = entry.id(3, "group id");
            if let Some(home) = entry.fields.get(5).filter(|home| !home.is_empty()) {
                found.home = (*home).to_string();
            }
        }
        None => found.uid = number?.ok_or_else(|| UserError::NoUser(user.into()))?,
    }
    if group_name.is_empty() {
        // The group of the line counts only if no other was asked for.
        found.gid = primary?;
        if let Some(entry) = &entry {
            let lists = |group: &Entry<'_>| {
                group.fields.get(3).is_some_and(|list| list.split(',').any(|m| m == entry.name()))
            };
            let groups = entries(GROUP, group).filter(lists).map(|entry| entry.id(2, "group id"));
            found.groups = groups.collect::<Result<_, _>>()?;
        }
    } else {
        found.gid = match id(group_name)? {
            Some(number) => number,
            None => entries(GROUP, group)
                .find(|entry| entry.name() == group_name)
                .ok_or_else(|| UserError::NoGroup(group_name.into()))?
                .id(2, "group id")?,
        };
    }
    found.groups.retain(|gid| *gid != found.gid);
    found.groups.insert(0, found.gid);
    if found.groups.len() > GROUPS_MAX {
        return Err(UserError::Groups(user.into()));
    }
    Ok(found)
}

/// A line of one of the files.
struct Entry<'a> {
    file: &'static str,
    line: usize,
    fields: Vec<&'a str>,
}

impl Entry<'_> {
    fn name(&self) -> &str {
        self.fields[0]
    }

    /// The id in a field.
    fn id(&self, field: usize, what: &'static str) -> Result<u32, UserError> {
        let text = self.fields.get(field).copied().unwrap_or_default();
        id(text).ok().flatten().ok_or_else(|| UserError::Line {
            file: self.file,
            line: self.line,
            name: excerpt(self.name()),
            what,
            value: excerpt(text),
        })
    }
}

fn entries<'a>(file: &'static str, text: &'a str) -> impl Iterator<Item = Entry<'a>> {
    text.lines()
        .enumerate()
        .map(|(n, line)| (n + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(move |(line, text)| Entry { file, line, fields: text.splitn(FIELDS_MAX, ':').collect() })
}

/// As much of an image's text as a message should repeat.
fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of the test")]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n7:x:77:78::/seven:\n";
    const GROUP: &str = "root:x:0:\n50:x:0:\nstaff:x:50:ann,bob\naudio:x:29:ann\nusers:x:1001:\n";

    #[test]
    fn a_line_of_millions_of_fields_is_not_taken_apart() {
        let line = ":".repeat(1000);
        assert_eq!(entries("/etc/passwd", &line).next().map(|entry| entry.fields.len()), Some(FIELDS_MAX));
        let user =
            resolve_in("ann", &format!("ann:x:5:6::/home/ann:/bin/sh{line}"), "").expect("it is a line");
        assert_eq!((user.uid, user.gid, user.home.as_str()), (5, 6, "/home/ann"));
    }

    #[test]
    fn users_and_groups_resolve_as_docker_does() {
        for (input, uid, gid, groups, home) in [
            ("", 0, 0, vec![0], "/root"),
            ("root", 0, 0, vec![0], "/root"),
            ("ann", 1000, 1001, vec![1001, 50, 29], "/home/ann"),
            ("1000", 1000, 1001, vec![1001, 50, 29], "/home/ann"),
            ("ann:staff", 1000, 50, vec![50], "/home/ann"),
            ("1234", 1234, 0, vec![0], "/"),
            ("1234:5678", 1234, 5678, vec![5678], "/"),
            (":staff", 0, 50, vec![50], "/root"),
            ("7", 7, 0, vec![0], "/"),
            ("77", 77, 78, vec![78], "/seven"),
            ("1:50", 1, 50, vec![50], "/"),
        ] {
            let user = resolve_in(input, PASSWD, GROUP).expect(input);
            assert_eq!(user, User { uid, gid, groups, home: home.into() }, "{input}");
        }
    }

    #[test]
    fn unknown_names_and_large_numbers_are_refused() {
        assert_eq!(resolve_in("bob", PASSWD, GROUP), Err(UserError::NoUser("bob".into())));
        assert_eq!(resolve_in("ann:nope", PASSWD, GROUP), Err(UserError::NoGroup("nope".into())));
        for number in ["4294967296", "4294967295", "2147483648", "99999999999999999999"] {
            assert_eq!(resolve_in(number, "", ""), Err(UserError::Range(number.into())));
            let with_group = format!("5:{number}");
            assert_eq!(resolve_in(&with_group, "", ""), Err(UserError::Range(number.into())));
        }
        for name in ["-1", "+5", "0x10", "1e3", " 5"] {
            assert_eq!(resolve_in(name, PASSWD, GROUP), Err(UserError::NoUser(name.into())));
        }
        assert_eq!(resolve_in("2147483647", "", "").map(|user| user.uid), Ok(ID_MAX));
    }

    #[test]
    fn a_malformed_line_makes_nobody_root() {
        let passwd = "big:x:4294967295:5::/:\nhuge:x:99999999999:5::/:\nnegative:x:-1:5::/:\nplus:x:+7:5::/:\n\
            blank:x: 8:5::/:\nempty:x::5::/:\nshort\nnogroup:x:9::::\nbadgroup:x:10:x::/b:\ngood:x:11:12::/g:\n";
        let group = "wheel:x:-1:good2\nodd:x:4294967295:\nfine:x:77:good\n";
        for name in ["big", "huge", "negative", "plus", "blank", "empty", "short", "nogroup", "badgroup"] {
            let error = resolve_in(name, passwd, group).expect_err(name).to_string();
            assert!(error.contains("of /etc/passwd of the image") && error.contains(name), "{error}");
        }
        // A given group replaces a bad one, and other users' lines do not matter.
        assert_eq!(resolve_in("badgroup:fine", passwd, group).map(|user| (user.uid, user.gid)), Ok((10, 77)));
        let good = resolve_in("good", passwd, group).expect("a good line");
        assert_eq!((good.uid, good.groups), (11, vec![12, 77]));
        assert_eq!(resolve_in("7", passwd, group).map(|user| (user.uid, user.home)), Ok((7, "/".into())));
        let error = resolve_in("good:odd", passwd, group).expect_err("out of range").to_string();
        assert!(error.contains("line 2 of /etc/group"), "{error}");
        let passwd = format!("{passwd}good2:x:1:1::/:\n");
        assert!(resolve_in("good2", &passwd, group).is_err(), "a supplementary group");
    }

    #[test]
    fn files_that_are_none_are_refused() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        use std::os::fd::AsFd;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).expect("a directory");
        let root = std::fs::File::open(dir.path()).expect("it opens");
        let refused = |what: &str| {
            let error = resolve(root.as_fd(), "5:5").expect_err(what).to_string();
            assert!(error.contains("/etc/passwd of the image") && error.contains(what), "{error}");
            std::fs::remove_dir(etc.join("passwd"))
                .or_else(|_| std::fs::remove_file(etc.join("passwd")))
                .expect("gone");
        };
        assert_eq!(resolve(root.as_fd(), "5:5").map(|user| user.uid), Ok(5), "no file at all");
        std::fs::create_dir(etc.join("passwd")).expect("a directory");
        refused("a directory");
        mknodat(CWD, etc.join("passwd"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).expect("a FIFO");
        refused("a FIFO");
        drop(std::os::unix::net::UnixListener::bind(etc.join("passwd")).expect("a socket"));
        refused("a socket");
        std::os::unix::fs::symlink("passwd", etc.join("passwd")).expect("a link");
        refused("symbolic links");
        let file = std::fs::File::create(etc.join("passwd")).expect("a file");
        file.set_len(2 << 30).expect("2 GiB without content");
        refused("larger than");
        // The link leads nowhere inside the image, whatever is outside.
        std::os::unix::fs::symlink("/dev/zero", etc.join("passwd")).expect("a link");
        assert_eq!(resolve(root.as_fd(), "5:5").map(|user| user.uid), Ok(5));
    }
}
