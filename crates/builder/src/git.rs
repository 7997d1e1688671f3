//! Addresses of Git repositories, as docker accepts them for contexts and ADD.
//!
//! `REMOTE#REF:DIRECTORY`, or the same as a query: `REMOTE?branch=B&subdir=D` (also `ref`, `tag`, `commit`,
//! `keep-git-dir`, `submodules`).

use crossdock_dockerfile::ignore::clean;
use crossdock_dockerfile::values::boolean;

/// A repository, the revision to check out, and a directory in the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitSource {
    /// Address for git; may hold a password.
    pub remote: String,
    /// Branch, tag or commit; `None` for the remote's HEAD.
    pub reference: Option<String>,
    /// The commit that must be checked out, or its first digits.
    pub commit: Option<String>,
    /// Directory in the repository; empty for all of it.
    pub directory: String,
    /// Whether the address says that `.git` is kept or not.
    pub keep_git: Option<bool>,
    /// Whether the address says that submodules are checked out or not; they are if it says nothing.
    pub submodules: Option<bool>,
    /// The secrets that open the repository.
    pub login: GitLogin,
}

/// Names of the secrets that open a repository, as BuildKit's attributes of a Git source have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitLogin {
    /// The secret with a token, which is the password of the user `x-access-token`.
    pub token: String,
    /// The secret with the value of the header `Authorization`.
    pub header: String,
    /// The SSH agent.
    pub agent: String,
    /// Keys of hosts, in the form of `known_hosts` (sshd(8)), instead of the user's.
    pub known_hosts: Option<String>,
}

impl Default for GitLogin {
    fn default() -> GitLogin {
        let (token, header) = ("GIT_AUTH_TOKEN".to_string(), "GIT_AUTH_HEADER".to_string());
        GitLogin { token, header, agent: "default".to_string(), known_hosts: None }
    }
}

/// Whether an address names a repository rather than a file: `git@`, `git://`, `ssh://`, or a path that ends
/// in `.git`.
pub fn is_git(source: &str) -> bool {
    let (path, _) = split_path(source);
    source.starts_with("git@")
        || source.starts_with("git://")
        || source.starts_with("ssh://")
        || (["http://", "https://", "file://"].iter().any(|scheme| source.starts_with(scheme))
            && path.ends_with(".git"))
}

/// The address up to `?` or `#`, and the rest.
fn split_path(source: &str) -> (&str, &str) {
    source.split_at(source.find(['#', '?']).unwrap_or(source.len()))
}

impl GitSource {
    /// Reads an address. The error is a sentence for the user.
    pub fn parse(source: &str) -> Result<GitSource, String> {
        let (remote, rest) = split_path(source);
        let mut git = GitSource { remote: remote.to_string(), ..GitSource::default() };
        let (query, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        git.reference = Some(reference.to_string()).filter(|reference| !reference.is_empty());
        git.directory = directory.to_string();
        for field in query.trim_start_matches('?').split('&').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let truth = || match value {
                "" => Ok(Some(true)),
                value => boolean(value).map(Some).ok_or_else(|| format!("invalid {name} value: \"{value}\"")),
            };
            match name {
                "ref" => git.refer(value, value)?,
                "branch" => git.refer(value, &format!("refs/heads/{value}"))?,
                "tag" => git.refer(value, &format!("refs/tags/{value}"))?,
                "commit" | "checksum" => git.commit = Some(value.to_string()),
                "subdir" if !matches!(git.directory.as_str(), "" | "/") && git.directory != value => {
                    return Err(format!("subdir conflicts: \"{}\" vs \"{value}\"", git.directory));
                }
                "subdir" => git.directory = value.to_string(),
                "keep-git-dir" => git.keep_git = truth()?,
                "submodules" => git.submodules = truth()?,
                _ => {
                    return Err(format!("unknown \"{name}\": it must be ref, branch, tag, commit or subdir"));
                }
            }
        }
        git.directory = clean(&format!("/{}", git.directory))[1..].to_string();
        // Git would take a leading "-" for an option.
        let all = [Some(&git.remote), git.reference.as_ref(), git.commit.as_ref()];
        if let Some(bad) = all.into_iter().flatten().find(|text| text.starts_with('-')) {
            return Err(format!("{bad}: it must not begin with \"-\""));
        }
        if let Some(commit) = &git.commit
            && (commit.len() < 7 || !commit.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(format!("{commit}: not a commit, which has 7 to 40 hexadecimal digits"));
        }
        Ok(git)
    }

    /// Takes a reference of the query, which the rest of the address may say as well.
    fn refer(&mut self, short: &str, full: &str) -> Result<(), String> {
        match &self.reference {
            Some(other) if other != short && other != full => {
                Err(format!("ref conflicts: \"{other}\" vs \"{short}\""))
            }
            Some(_) => Ok(()),
            None => {
                self.reference = Some(full.to_string());
                Ok(())
            }
        }
    }
}

/// The URL without user and password, for messages.
pub fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_string(),
    }
}

/// Text of another program, without users and passwords in its URLs.
pub fn without_passwords(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end =
            after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '\'' | '"')).unwrap_or(after.len());
        let authority = &after[..end];
        out.push_str(authority.rsplit('@').next().unwrap_or(authority));
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_repository() {
        for yes in [
            "git@h:a/b",
            "git://h/a",
            "ssh://git@h/a",
            "https://h/a.git",
            "http://h/a.git#x:y",
            "https://h/a.git?ref=x",
        ] {
            assert!(is_git(yes), "{yes}");
        }
        for no in ["https://h/a.tar.gz", "https://h/a#b.git", "https://h/?x=.git", "a.git", "/a/b.git"] {
            assert!(!is_git(no), "{no}");
        }
    }

    #[test]
    fn parts() {
        let git = |remote: &str, reference: Option<&str>, directory: &str| GitSource {
            remote: remote.to_string(),
            reference: reference.map(str::to_string),
            directory: directory.to_string(),
            ..GitSource::default()
        };
        for (text, expected) in [
            ("https://h/a.git", git("https://h/a.git", None, "")),
            ("https://h/a.git#v1", git("https://h/a.git", Some("v1"), "")),
            ("git@h:a.git#feature/x:sub/dir/", git("git@h:a.git", Some("feature/x"), "sub/dir")),
            ("git://h/a#:../..//sub", git("git://h/a", None, "sub")),
            ("https://h/a.git?branch=b&subdir=c", git("https://h/a.git", Some("refs/heads/b"), "c")),
        ] {
            assert_eq!(GitSource::parse(text), Ok(expected), "{text}");
        }
        for bad in [
            "git://h/a#--upload-pack=x",
            "https://h/a.git?x=1",
            "https://h/a.git?commit=zz",
            "https://h/a.git?commit=12",
            "https://h/a.git?tag=v1#refs/heads/v1",
            "https://h/a.git?subdir=x#v1:y",
            "https://h/a.git?keep-git-dir=maybe",
        ] {
            assert!(GitSource::parse(bad).is_err(), "{bad}");
        }
        let with = GitSource::parse("https://h/a.git?ref=v1&commit=0123abcd").expect("valid");
        assert_eq!(with.commit.as_deref(), Some("0123abcd"));
        let with = GitSource::parse("https://h/a.git?tag=v1&keep-git-dir&submodules=0#v1").expect("valid");
        assert_eq!(with.reference.as_deref(), Some("v1"));
        assert_eq!((with.keep_git, with.submodules), (Some(true), Some(false)));
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("https://u:p@h:1/a@b"), "https://h:1/a@b");
        let said = "fatal: 'https://u:p@h/a.git/': refused; see ssh://t0ken@g and git@h:a, https://h/x@y";
        let shown = "fatal: 'https://h/a.git/': refused; see ssh://g and git@h:a, https://h/x@y";
        assert_eq!(without_passwords(said), shown);
    }
}
