//! Damaged input: Dockerfiles for the checks, addresses, modes, users and caches of files.

use std::path::Path;

use crossdock_builder::dockerfile::check::{outline, rules};
use crossdock_builder::files::chmod::ModeChange;
use crossdock_builder::files::stat_cache::StatCache;
use crossdock_builder::git::{GitSource, is_git};
use crossdock_builder::{BuildRequest, without_password};
use crossdock_platform::Platform;
use crossdock_sandbox::user::resolve_in;
use crossdock_testkit::hostile::{texts, try_inputs};

#[test]
fn checks_and_outlines() {
    let seeds = texts(&[
        "# check=skip=JSONArgsRecommended;experimental=all\nARG A=1\nFROM --platform=linux/amd64 b:${A} AS Base\nARG PASSWORD=x\nENV a b\nRUN --mount=type=secret,id=s,required=true --mount=type=ssh echo $UNSET ${A:-x}\nfrom base as reserved\nCOPY --from=base . ./x\nWORKDIR rel\nMAINTAINER m\nCMD a\nCMD [\"b\"]\n",
        "FROM scratch AS scratch\n# A is an argument\nARG A\nARG B=$A\nLABEL k v\nEXPOSE 80/TCP 90-80\nENTRYPOINT x\nRUN <<E\nE\nCOPY --chown=$A <<F /x\n${B}\nF\n",
        "FROM --platform=$TARGETPLATFORM a@sha256:0000000000000000000000000000000000000000000000000000000000000000\nHEALTHCHECK CMD x\nHEALTHCHECK NONE\nONBUILD FROM x\nRUN \\\n\n a\n",
    ]);
    try_inputs("checks", &seeds, |input| {
        // Expansion that multiplies text has its own limits.
        if input.iter().filter(|byte| **byte == b'$').count() > 40 {
            return;
        }
        let mut request = BuildRequest::for_platform(Platform::host());
        request.dockerfile = input.to_vec();
        let _ = rules::check(&request, rules::Experimental::Ours, &|_, _| None);
        let _ = (outline::outline(&request).is_ok(), outline::targets(&request).is_ok());
    });
}

#[test]
fn addresses_and_modes() {
    let seeds = texts(&[
        "https://u:p@h.example:80/a/b.git?ref=x&subdir=d#main:e",
        "git@h:a/b.git#0123456789abcdef:c/../d",
        "ssh://git@[::1]:22/x",
        "u=rwX,go=rX,+t,a-s",
        "04755",
    ]);
    try_inputs("addresses", &seeds, |input| {
        let input = String::from_utf8_lossy(input);
        let _ = (is_git(&input), without_password(&input));
        if let Ok(git) = GitSource::parse(&input) {
            assert!(!git.directory.split('/').any(|part| part == ".."), "{git:?}");
        }
        if let Ok(change) = ModeChange::parse(&input) {
            assert!(change.apply(0o640, false) <= 0o7777);
        }
    });
}

#[test]
fn users_and_groups() {
    let passwd =
        "# users\nroot:x:0:0:root:/root:/bin/sh\na:x:1000:1000::/home/a:\nb:x:-1:4294967296\n\n+::::::\n";
    let group = "root:x:0:\ng:x:50:a,b,,a\nh:x:99999999999:a\n:::\n";
    let seeds = texts(&[&format!("a:g\n\n{passwd}\n\n{group}"), &format!("1000:50\n\n{passwd}\n\n{group}")]);
    try_inputs("users", &seeds, |input| {
        let input = String::from_utf8_lossy(input);
        let mut parts = input.splitn(3, "\n\n");
        let mut next = || parts.next().unwrap_or_default();
        let (user, passwd, group) = (next(), next(), next());
        let _ = resolve_in(user, passwd, group);
        let _ = resolve_in("a", passwd, group);
    });
}

#[test]
fn caches_of_files() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let context = Path::new("/context");
    let cache = StatCache::open(directory.path(), context);
    let stat = rustix::fs::stat("/etc/passwd").expect("there");
    cache.put(b"a/b", &stat, [1; 32]);
    cache.put(b"c", &stat, [2; 32]);
    cache.save().expect("saved");
    let file = std::fs::read_dir(directory.path()).expect("readable").flatten().next().expect("saved").path();
    let seeds = vec![std::fs::read(&file).expect("readable")];
    try_inputs("caches of files", &seeds, |input| {
        std::fs::write(&file, input).expect("written");
        let cache = StatCache::open(directory.path(), context);
        let _ = cache.get(b"a/b", &stat);
        cache.save().expect("saved");
    });
}
