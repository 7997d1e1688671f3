//! The value of `RUN --mount`: comma-separated options in CSV form; those of BuildKit (Dockerfile
//! reference), and those of buildah (buildah-run(1), "--mount").

use crate::error::did_you_mean;
use crate::values::{boolean, bytes, csv};

/// A mount of one RUN instruction; paths and ids are as written, variables not yet expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where it is mounted, possibly relative to the working directory; for a bind without one, that
    /// directory.
    pub target: Option<String>,
    /// Whether writes fail.
    pub read_only: bool,
    /// buildah's `U`: what is mounted belongs to the user of the command.
    pub for_user: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A directory or file of the context, a stage, an image or a named context.
    Bind {
        /// Stage, image or context; the build context if absent.
        from: Option<String>,
        /// Path in `from`.
        source: Option<String>,
    },
    /// A directory that stays between builds.
    Cache {
        /// Identity; the target by default.
        id: Option<String>,
        /// Initial content.
        from: Option<String>,
        /// Path in `from`.
        source: Option<String>,
        /// Use by several steps at once.
        sharing: Sharing,
        /// Permission bits of a new directory.
        mode: u32,
        /// Owner of a new directory.
        uid: u32,
        /// Group of a new directory.
        gid: u32,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
    /// A file that never reaches a layer.
    Secret {
        /// Identity; the last part of the target by default.
        id: Option<String>,
        /// Environment variable to set, instead of or beside the file.
        env: Option<String>,
        /// Fail if the secret was not given.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A socket of an SSH agent.
    Ssh {
        /// Identity; `default` if absent.
        id: Option<String>,
        /// Fail if the agent was not given.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Use of a cache mount by several steps at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    Shared,
    /// Each step has its own directory if the first is in use.
    Private,
    /// One step waits for the other.
    Locked,
}

/// Words for how mounts spread between mount namespaces (mount_namespaces(7)). What is mounted here has no
/// mounts of others below it and is seen by one command only, so that they all mean the same.
const PROPAGATIONS: [&str; 6] = ["shared", "rshared", "private", "rprivate", "slave", "rslave"];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "ro",
    "readonly",
    "rw",
    "readwrite",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "env",
    "tmpfs-size",
    "tmpfs-mode",
];

/// Parses the value of `--mount`. The error is a sentence that names no line.
pub fn parse(value: &str) -> Result<Mount, String> {
    let mut kind = "bind".to_string();
    let (mut from, mut source, mut target, mut name, mut env, mut sharing) =
        (None, None, None, None, None, None);
    let (mut read_only, mut required, mut size, mut mode, mut uid, mut gid) =
        (None, None, None, None, None, None);
    let (mut tmpfs_mode, mut for_user) = (None, false);
    for field in csv(value)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value.to_string())),
            None => (field.to_ascii_lowercase(), None),
        };
        let flag = || match value.as_deref() {
            None => Ok(true),
            Some(v) => boolean(v).ok_or_else(|| format!("invalid value for {key}: {v}")),
        };
        let text = || value.clone().ok_or_else(|| format!("invalid field '{key}' must be a key=value pair"));
        let number = |radix| {
            let v = text()?;
            u32::from_str_radix(&v, radix).map_err(|_| format!("invalid value {v} for {key}"))
        };
        // As for USER: larger ids are negative or "no id" to the kernel or its tools.
        let id = |n: u32| match n {
            0..=0x7fff_ffff => Ok(n),
            _ => Err(format!("{key} {n} is out of range (0 to 2147483647)")),
        };
        match key.as_str() {
            "type" => kind = text()?.to_ascii_lowercase(),
            "from" => from = Some(text()?),
            "source" | "src" => source = Some(text()?),
            "target" | "dst" | "destination" => target = Some(text()?),
            "readonly" | "read-only" | "ro" => read_only = Some(flag()?),
            "readwrite" | "rw" => read_only = Some(!flag()?),
            "required" => required = Some(flag()?),
            "id" => name = Some(text()?),
            "env" => env = Some(text()?),
            "size" | "tmpfs-size" => {
                size = Some(bytes(&text()?).ok_or_else(|| format!("invalid value for {key}"))?)
            }
            "mode" => mode = Some(number(8)?),
            "tmpfs-mode" => tmpfs_mode = Some(number(8)? & 0o7777),
            // Labels of SELinux: the store's files have none of one container alone.
            "z" | "bind-nonrecursive" | "notmpcopyup" if value.is_none() => {}
            "relabel" if matches!(value.as_deref(), Some("shared" | "private")) => {}
            "bind-propagation" if PROPAGATIONS.contains(&text()?.as_str()) => {}
            word if value.is_none() && PROPAGATIONS.contains(&word) => {}
            "u" if value.is_none() => for_user = true,
            "consistency" => {}
            "uid" => uid = Some(id(number(10)?)?),
            "gid" => gid = Some(id(number(10)?)?),
            "sharing" => {
                sharing = Some(match text()?.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    other => {
                        let hint = did_you_mean(other, &["shared", "private", "locked"]);
                        return Err(format!("unsupported sharing value \"{other}\"{hint}"));
                    }
                });
            }
            other => {
                return Err(format!("unexpected key '{other}' in '{field}'{}", did_you_mean(other, &KEYS)));
            }
        }
    }
    let only = |given: bool, what: &str, kinds: &[&str]| match given && !kinds.contains(&kind.as_str()) {
        true => Err(format!("{what} is not allowed for mount type {kind}")),
        false => Ok(()),
    };
    only(from.is_some(), "from", &["bind", "cache"])?;
    only(source.is_some() && kind != "secret" && kind != "ssh", "source", &["bind", "cache"])?;
    only(sharing.is_some(), "sharing", &["cache"])?;
    only(size.is_some(), "size", &["tmpfs"])?;
    only(tmpfs_mode.is_some(), "tmpfs-mode", &["tmpfs"])?;
    only(for_user, "U", &["bind", "cache", "tmpfs"])?;
    only(env.is_some(), "env", &["secret"])?;
    only(required.is_some(), "required", &["secret", "ssh"])?;
    only(mode.is_some(), "mode", &["cache", "secret", "ssh"])?;
    only(uid.is_some() || gid.is_some(), "uid and gid", &["cache", "secret", "ssh"])?;
    let id = name;
    only(id.is_some(), "id", &["cache", "secret", "ssh"])?;
    let (uid, gid) = (uid.unwrap_or(0), gid.unwrap_or(0));
    // A bind mount without a target is at the working directory.
    let needs_target = matches!(kind.as_str(), "cache" | "tmpfs");
    if needs_target && target.as_deref().unwrap_or_default().is_empty() {
        return Err(format!("a {kind} mount needs a target"));
    }
    let mount_kind = match kind.as_str() {
        "bind" => MountKind::Bind { from, source },
        "cache" => MountKind::Cache {
            id,
            from,
            source,
            sharing: sharing.unwrap_or(Sharing::Shared),
            mode: mode.unwrap_or(0o755),
            uid,
            gid,
        },
        "tmpfs" => MountKind::Tmpfs { size, mode: tmpfs_mode.unwrap_or(0o1777) },
        "secret" => {
            if id.is_none() && source.is_none() && target.is_none() && env.is_none() {
                return Err("invalid secret mount: one of id, source or target is required".to_string());
            }
            MountKind::Secret {
                id: id.or(source),
                env,
                required: required.unwrap_or(false),
                mode: mode.unwrap_or(0o400),
                uid,
                gid,
            }
        }
        "ssh" => MountKind::Ssh {
            id: id.or(source),
            required: required.unwrap_or(false),
            mode: mode.unwrap_or(0o600),
            uid,
            gid,
        },
        other => {
            let hint = did_you_mean(other, &["bind", "cache", "tmpfs", "secret", "ssh"]);
            return Err(format!("unsupported mount type \"{other}\"{hint}"));
        }
    };
    // A bind mount is read-only unless `rw` is given.
    let read_only = read_only.unwrap_or(matches!(mount_kind, MountKind::Bind { .. }));
    Ok(Mount { kind: mount_kind, target, read_only, for_user })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_have_defaults() {
        let mount = parse("target=/src").expect("bind");
        assert_eq!(mount.kind, MountKind::Bind { from: None, source: None });
        assert!(mount.read_only);
        let mount = parse("type=cache,dst=/c,sharing=locked,mode=0700,uid=5").expect("cache");
        let MountKind::Cache { sharing, mode, uid, .. } = mount.kind else { panic!("a cache was written") };
        assert_eq!((sharing, mode, uid, mount.read_only), (Sharing::Locked, 0o700, 5, false));
        for bad in ["uid=4294967295", "gid=2147483648", "uid=-1", "uid=99999999999"] {
            let error = parse(&format!("type=cache,dst=/c,{bad}")).expect_err(bad);
            assert!(error.contains("out of range") || error.contains("invalid value"), "{error}");
        }
        assert_eq!(
            parse("type=tmpfs,target=/t,size=2m").expect("tmpfs").kind,
            MountKind::Tmpfs { size: Some(2 << 20), mode: 0o1777 }
        );
        let secret = parse("type=secret,id=token,env=TOKEN,required").expect("secret");
        assert!(matches!(secret.kind, MountKind::Secret { required: true, mode: 0o400, .. }));
    }

    #[test]
    fn options_of_buildah_are_taken() {
        let tmpfs = parse("type=tmpfs,target=/t,tmpfs-size=64k,tmpfs-mode=700,notmpcopyup").expect("tmpfs");
        assert_eq!(tmpfs.kind, MountKind::Tmpfs { size: Some(64 << 10), mode: 0o700 });
        let plain = parse("type=cache,target=/c").expect("cache");
        for options in
            ["z", "Z", "relabel=private", "bind-propagation=rslave", "rshared", "consistency=cached"]
        {
            assert_eq!(parse(&format!("type=cache,target=/c,{options}")).as_ref(), Ok(&plain), "{options}");
        }
        assert!(parse("type=cache,target=/c,U").expect("cache").for_user && !plain.for_user);
        assert!(parse("type=bind,target=/c,Z,read-only=false,bind-nonrecursive").is_ok_and(|m| !m.read_only));
        for (value, expect) in [
            ("type=secret,id=x,U", "U is not allowed"),
            ("type=cache,target=/c,tmpfs-mode=700", "tmpfs-mode is not allowed"),
            ("target=/c,bind-propagation=x", "unexpected key 'bind-propagation'"),
            ("target=/c,z=1", "unexpected key 'z'"),
        ] {
            let error = parse(value).expect_err(value);
            assert!(error.contains(expect), "{value}: {error}");
        }
    }

    #[test]
    fn mistakes_get_a_hint() {
        for (value, expect) in [
            ("type=cache,targt=/x", "did you mean target?"),
            ("type=cahce,target=/x", "did you mean cache?"),
            ("type=cache,target=/x,sharing=lock", "unsupported sharing"),
            ("type=cache", "needs a target"),
            ("type=tmpfs,target=/x,from=y", "not allowed"),
            ("type=secret", "one of id"),
            ("type=cache,target=/x,mode=9", "invalid value 9"),
        ] {
            let error = parse(value).expect_err(value);
            assert!(error.contains(expect), "{value}: {error}");
        }
    }
}
