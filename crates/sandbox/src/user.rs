//! `user[:group]` as Docker reads it: names and numbers of `/etc/passwd` and `/etc/group` of the image.
//!
//! Sources: the Dockerfile reference, `USER` and `COPY --chown`; passwd(5), group(5).

use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// The ids of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups: `gid`, and those of `/etc/group` that list the user unless a group was given. With `gid`, since a
    /// setgid program could otherwise be used to leave the group, and files may be closed to it on purpose.
    pub groups: Vec<u32>,
    /// Home directory of `/etc/passwd`, else `/`.
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
    #[error("user or group id {0} is out of range (0 to 2147483647)")]
    Range(String),
}

/// Resolves `user[:group]` in the root that the descriptor is open on. Missing files count as empty.
pub fn resolve(root: BorrowedFd<'_>, specification: &str) -> Result<User, UserError> {
    let read = |path: &str| {
        openat2(
            root,
            path,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
        .ok()
        .and_then(|file| std::io::read_to_string(std::fs::File::from(file)).ok())
        .unwrap_or_default()
    };
    resolve_in(specification, &read("etc/passwd"), &read("etc/group"))
}

/// Resolves `user[:group]` in the texts of the two files.
pub fn resolve_in(specification: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (user, group_name) = match specification.split_once(':') {
        Some((user, group)) => (user, group),
        None => (specification, ""),
    };
    let user = if user.is_empty() { "0" } else { user };
    let mut found = User { uid: 0, gid: 0, groups: Vec::new(), home: "/".into() };
    let entry = entries(passwd).find(|fields| fields[0] == user).or_else(|| {
        let number: u32 = user.parse().ok()?;
        entries(passwd).find(|fields| fields.get(2).and_then(|f| f.parse().ok()) == Some(number))
    });
    let name = match &entry {
        Some(fields) => {
            let number = |n: usize| fields.get(n).and_then(|f| f.parse().ok()).unwrap_or(0);
            (found.uid, found.gid) = (number(2), number(3));
            if let Some(home) = fields.get(5).filter(|home| !home.is_empty()) {
                found.home = (*home).to_string();
            }
            Some(fields[0])
        }
        None => {
            found.uid = id(user)?.ok_or_else(|| UserError::NoUser(user.into()))?;
            None
        }
    };
    if group_name.is_empty() {
        let member = |fields: &Vec<&str>| {
            name.is_some_and(|name| fields.get(3).is_some_and(|list| list.split(',').any(|m| m == name)))
        };
        found.groups = entries(group).filter(member).filter_map(|f| f.get(2)?.parse().ok()).collect();
    } else {
        let named = entries(group).find(|fields| fields[0] == group_name);
        found.gid = match named.and_then(|fields| fields.get(2)?.parse().ok()) {
            Some(gid) => gid,
            None => id(group_name)?.ok_or_else(|| UserError::NoGroup(group_name.into()))?,
        };
    }
    found.groups.retain(|gid| *gid != found.gid);
    found.groups.insert(0, found.gid);
    Ok(found)
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

/// The number, `None` for a name.
fn id(text: &str) -> Result<Option<u32>, UserError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i32>() {
        Ok(number) => Ok(Some(number as u32)),
        Err(_) => Err(UserError::Range(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n7:x:77:78::/seven:\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:ann,bob\naudio:x:29:ann\nusers:x:1001:\n";

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
            ("7", 77, 78, vec![78], "/seven"),
        ] {
            let user = resolve_in(input, PASSWD, GROUP).expect(input);
            assert_eq!(user, User { uid, gid, groups, home: home.into() }, "{input}");
        }
    }

    #[test]
    fn unknown_names_and_large_numbers_are_refused() {
        assert_eq!(resolve_in("bob", PASSWD, GROUP), Err(UserError::NoUser("bob".into())));
        assert_eq!(resolve_in("ann:nope", PASSWD, GROUP), Err(UserError::NoGroup("nope".into())));
        assert_eq!(resolve_in("4294967296", "", ""), Err(UserError::Range("4294967296".into())));
    }
}
