//! Programs of other suites of Debian and of PyPI, for tests: unpacked below `target`, never installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::demo::mirror;
use crate::tools::{checkout, output, run};

/// The suite with the newest packages.
const SUITE: &str = "sid";

/// Packages with the source of buildctl and of what it is made of: BuildKit's is part of Docker's.
const BUILDCTL_SOURCES: [&str; 64] = [
    "golang-github-cenkalti-backoff-v5-dev",
    "golang-github-cespare-xxhash-v2-dev",
    "golang-github-containerd-console-dev",
    "golang-github-containerd-containerd-api-dev",
    "golang-github-containerd-containerd-dev",
    "golang-github-containerd-continuity-dev",
    "golang-github-containerd-errdefs-dev",
    "golang-github-containerd-log-dev",
    "golang-github-containerd-platforms-dev",
    "golang-github-containerd-stargz-snapshotter-dev",
    "golang-github-containerd-ttrpc-dev",
    "golang-github-containerd-typeurl-dev",
    "golang-github-coreos-bbolt-dev",
    "golang-github-cpuguy83-go-md2man-v2-dev",
    "golang-github-distribution-reference-dev",
    "golang-github-docker-docker-credential-helpers-dev",
    "golang-github-docker-docker-dev",
    "golang-github-felixge-fgprof-dev",
    "golang-github-felixge-httpsnoop-dev",
    "golang-github-go-logr-logr-dev",
    "golang-github-go-logr-stdr-dev",
    "golang-github-gofrs-flock-dev",
    "golang-github-gogo-protobuf-dev",
    "golang-github-golang-protobuf-1-5-dev",
    "golang-github-google-go-cmp-dev",
    "golang-github-google-pprof-dev",
    "golang-github-google-shlex-dev",
    "golang-github-google-uuid-dev",
    "golang-github-grpc-ecosystem-grpc-gateway-dev",
    "golang-github-hashicorp-go-cleanhttp-dev",
    "golang-github-in-toto-attestation-dev",
    "golang-github-in-toto-in-toto-golang-dev",
    "golang-github-klauspost-compress-dev",
    "golang-github-moby-locker-dev",
    "golang-github-moby-patternmatcher-dev",
    "golang-github-moby-sys-dev",
    "golang-github-morikuni-aec-dev",
    "golang-github-opencontainers-go-digest-dev",
    "golang-github-opencontainers-image-spec-dev",
    "golang-github-pkg-errors-dev",
    "golang-github-pkg-profile-dev",
    "golang-github-planetscale-vtprotobuf-dev",
    "golang-github-russross-blackfriday-v2-dev",
    "golang-github-secure-systems-lab-go-securesystemslib-dev",
    "golang-github-shibumi-go-pathspec-dev",
    "golang-github-sirupsen-logrus-dev",
    "golang-github-tonistiigi-fsutil-dev",
    "golang-github-tonistiigi-units-dev",
    "golang-github-tonistiigi-vt100-dev",
    "golang-github-urfave-cli-dev",
    "golang-github-urfave-cli-v2-dev",
    "golang-github-vbatts-tar-split-dev",
    "golang-golang-x-crypto-dev",
    "golang-golang-x-net-dev",
    "golang-golang-x-sync-dev",
    "golang-golang-x-sys-dev",
    "golang-golang-x-text-dev",
    "golang-golang-x-time-dev",
    "golang-google-genproto-dev",
    "golang-google-grpc-dev",
    "golang-google-protobuf-dev",
    "golang-opentelemetry-contrib-dev",
    "golang-opentelemetry-otel-dev",
    "golang-opentelemetry-proto-dev",
];

/// The program `file` of a package, as it was downloaded once.
///
/// # Errors
///
/// The package cannot be had.
pub fn fetch(package: &str, file: &str) -> Result<PathBuf> {
    unpacked(package, file, &[&["download", package]])
}

/// The same with every package that it depends on, for a program with libraries.
///
/// # Errors
///
/// A package cannot be had.
pub fn fetch_with_libraries(package: &str, file: &str) -> Result<PathBuf> {
    unpacked(package, file, &[&[&INSTALL[..], &[package]].concat()])
}

/// buildctl, which Debian has as source only: built once, with Debian's newest Go, in two minutes.
///
/// # Errors
///
/// A package cannot be had; the compiler's words.
pub fn build_buildctl() -> Result<PathBuf> {
    let name = "buildctl";
    let path = checkout().join("target/clients").join(name).join(name);
    if path.exists() {
        return Ok(path);
    }
    let sources = [&["download"], &BUILDCTL_SOURCES[..]].concat();
    let go = [&INSTALL[..], &["golang-go"]].concat();
    let compiler = unpacked(name, "usr/lib/go/bin/go", &[&sources, &go])?;
    println!("building {name}");
    let top = checkout().join("target/clients").join(name);
    let mut build = Command::new(compiler);
    build.args(["build", "-buildvcs=false", "-o"]).arg(&path).arg("github.com/moby/buildkit/cmd/buildctl");
    for (variable, place) in [("GOROOT", "usr/lib/go"), ("GOPATH", "usr/share/gocode"), ("GOCACHE", "cache")]
    {
        build.env(variable, top.join(place));
    }
    build.env("GO111MODULE", "off").env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local");
    run(&mut build)?;
    // Only the program is needed from now on.
    for part in ["usr", "cache"] {
        std::fs::remove_dir_all(top.join(part))
            .with_context(|| format!("remove {}", top.join(part).display()))?;
    }
    Ok(path)
}

/// The program `file` of a package of PyPI, in an environment of its own. `package` is what pip is given.
///
/// # Errors
///
/// The package, or one that it depends on, cannot be had.
pub fn fetch_python(name: &str, package: &[&str], file: &str) -> Result<PathBuf> {
    let directory = checkout().join("target/clients").join(name);
    let path = directory.join("bin").join(file);
    if path.exists() {
        return Ok(path);
    }
    println!("fetching {name}");
    // Scripts name the directory, so it cannot be made elsewhere and moved; pip writes them last.
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    let pip = directory.join("bin/pip");
    run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(package))?;
    Ok(path)
}

/// What apt-get is told to download a package with all that it depends on.
const INSTALL: [&str; 4] = ["install", "--download-only", "--no-install-recommends", "--yes"];

/// A file of the packages that these calls of apt-get download into the directory `package`.
fn unpacked(package: &str, file: &str, calls: &[&[&str]]) -> Result<PathBuf> {
    let directory = checkout().join("target/clients");
    let path = directory.join(package).join(file);
    if path.exists() {
        return Ok(path);
    }
    println!("fetching {package} of {SUITE}");
    let work = directory.join("apt");
    for part in ["lists/partial", "cache/archives/partial", "none"] {
        let part = work.join(part);
        std::fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
    }
    let (sources, status) = (work.join("sources.list"), work.join("status"));
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    std::fs::write(&sources, format!("deb [signed-by={key}] {} {SUITE} main\n", mirror()?))?;
    // No package counts as installed.
    std::fs::write(&status, "")?;
    let apt = || {
        let mut command = Command::new("apt-get");
        let show = |path: &Path| path.display().to_string();
        for (name, value) in [
            ("Dir::State::Lists", show(&work.join("lists"))),
            ("Dir::State::Status", show(&status)),
            ("Dir::Cache", show(&work.join("cache"))),
            ("Dir::Etc::SourceList", show(&sources)),
            ("Dir::Etc::SourceParts", show(&work.join("none"))),
            ("Dir::Etc::PreferencesParts", show(&work.join("none"))),
            ("APT::Sandbox::User", "root".to_string()),
        ] {
            command.arg("-o").arg(format!("{name}={value}"));
        }
        command.arg("-q").current_dir(&work).stdout(Stdio::null());
        command
    };
    run(apt().arg("update"))?;
    for words in calls {
        run(apt().args(*words))?;
    }
    let partial = directory.join(format!("{package}.partial"));
    let mut found = 0;
    for place in [work.clone(), work.join("cache/archives")] {
        for entry in std::fs::read_dir(&place)? {
            let deb = entry?.path();
            if deb.extension().is_some_and(|kind| kind == "deb") {
                output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&partial))?;
                found += 1;
            }
        }
    }
    if found == 0 {
        bail!("apt-get has downloaded no {package}");
    }
    std::fs::rename(&partial, directory.join(package))?;
    std::fs::remove_dir_all(&work)?;
    Ok(path)
}
