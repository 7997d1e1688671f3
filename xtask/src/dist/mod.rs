//! `dist`: packages of crossdock. The same sources, compiler and SOURCE_DATE_EPOCH give the same bytes.

mod archive;
mod licences;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use self::archive::{Entry, deb, gzip, tar};
use crate::tools::{cargo_command, checkout, output, run};

const TARGET: &str = "x86_64-unknown-linux-gnu";

pub fn dist(args: &[&str]) -> Result<()> {
    let directory = match args {
        [] => target().join("dist"),
        ["--output", directory] => std::path::absolute(directory)?,
        _ => bail!("dist: the only option is --output DIR"),
    };
    let time = time()?;
    let built = build()?;
    let version = version(&built)?;
    let files = files(&built, &version)?;
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let name = format!("crossdock-{version}-x86_64-linux.tar.gz");
    let portable = for_prefix(&files, &format!("crossdock-{version}-x86_64-linux"));
    let mut sums = String::new();
    let packages = [
        (name, gzip(&tar(&portable, time)?)?),
        (format!("crossdock_{version}_amd64.deb"), deb(&for_debian(&files)?, &control(&version), time)?),
    ];
    for (name, bytes) in packages {
        let path = directory.join(&name);
        fs::write(&path, &bytes).with_context(|| path.display().to_string())?;
        let sum = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        sums.push_str(&format!("{sum}  {name}\n"));
        println!("{} ({} bytes, sha256 {sum})", path.display(), bytes.len());
    }
    fs::write(directory.join("SHA256SUMS"), sums)?;
    Ok(())
}

/// The time of all files in seconds since 1970: SOURCE_DATE_EPOCH, else that of the last commit.
fn time() -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().with_context(|| format!("SOURCE_DATE_EPOCH={text}: not a number of seconds"));
    }
    let mut log = Command::new("git");
    log.args(["log", "-1", "--format=%ct"]).current_dir(checkout());
    let text = output(&mut log).context("the time of the last commit (or set SOURCE_DATE_EPOCH)")?;
    text.parse().with_context(|| format!("git log printed {text:?}"))
}

/// Cargo's target directory.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from)
}

/// Builds the executables without paths of this machine in them; returns their directory.
fn build() -> Result<PathBuf> {
    let directory = target().join("dist-build");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut remapped = vec![format!("{}=/crossdock", checkout().display())];
    remapped.extend(home.map(|home| format!("{}=/cargo", home.display())));
    let flags = remapped.iter().map(|from_to| format!("\"--remap-path-prefix={from_to}\""));
    // Added to the flags of .cargo/config.toml, which make the executables static.
    let flags = format!("target.{TARGET}.rustflags=[{}]", flags.collect::<Vec<_>>().join(","));
    println!("cargo build --release --package crossdock --package crossdock-emu");
    run(cargo_command()
        .args(["build", "--release", "--locked", "--package", "crossdock", "--package", "crossdock-emu"])
        .args(["--config", &flags])
        .arg("--target-dir")
        .arg(&directory))?;
    Ok(directory.join(TARGET).join("release"))
}

fn version(built: &Path) -> Result<String> {
    let text = output(Command::new(built.join("crossdock")).arg("version"))?;
    text.strip_prefix("crossdock ").map(str::to_string).with_context(|| format!("version printed {text:?}"))
}

/// The files of every package, below a prefix such as /usr.
fn files(built: &Path, version: &str) -> Result<Vec<Entry>> {
    let mut files = Vec::new();
    for name in ["crossdock", "crossdock-emu"] {
        files.push(Entry::new(format!("bin/{name}"), 0o755, fs::read(built.join(name))?));
    }
    let crossdock = built.join("crossdock");
    for (shell, path) in [
        ("bash", "share/bash-completion/completions/crossdock"),
        ("zsh", "share/zsh/site-functions/_crossdock"),
        ("fish", "share/fish/vendor_completions.d/crossdock.fish"),
    ] {
        let text = output(Command::new(&crossdock).args(["completion", shell]))?;
        files.push(Entry::new(path, 0o644, format!("{text}\n")));
    }
    let pages = target().join("dist-build/man");
    let _ = fs::remove_dir_all(&pages);
    run(Command::new(&crossdock).arg("man-pages").arg(&pages))?;
    for page in fs::read_dir(&pages)? {
        let page = page?;
        let name = page.file_name().into_string().ok().context("names of man pages are UTF-8")?;
        files.push(Entry::new(format!("share/man/man1/{name}.gz"), 0o644, gzip(&fs::read(page.path())?)?));
    }
    let doc = |name: &str| format!("share/doc/crossdock/{name}");
    for name in ["README.md", "LICENSE"] {
        files.push(Entry::new(doc(name), 0o644, fs::read(checkout().join(name))?));
    }
    files.push(Entry::new(doc("changelog.gz"), 0o644, gzip(&fs::read(checkout().join("CHANGELOG.md"))?)?));
    files.push(Entry::new(doc("licences-of-dependencies.txt"), 0o644, licences::text(&checkout(), version)?));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn for_prefix(files: &[Entry], prefix: &str) -> Vec<Entry> {
    let moved = |file: &Entry| Entry { path: format!("{prefix}/{}", file.path), ..file.clone() };
    files.iter().map(moved).collect()
}

/// The files as Debian wants them (Policy Manual, sections 9 and 12).
fn for_debian(files: &[Entry]) -> Result<Vec<Entry>> {
    let mut all = for_prefix(files, "usr");
    for file in &mut all {
        file.path = match file.path.as_str() {
            "usr/share/zsh/site-functions/_crossdock" => {
                "usr/share/zsh/vendor-completions/_crossdock".to_string()
            }
            other => other.to_string(),
        };
    }
    // The licence itself is on every Debian system.
    all.retain(|file| file.path != "usr/share/doc/crossdock/LICENSE");
    let copyright = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
        Upstream-Name: crossdock\n\
        Comment: The licences of the libraries in the executables are in licences-of-dependencies.txt.\n\n\
        Files: *\nCopyright: the crossdock developers\nLicense: Apache-2.0\n\n\
        License: Apache-2.0\n On Debian systems, the licence is in /usr/share/common-licenses/Apache-2.0.\n";
    all.push(Entry::new("usr/share/doc/crossdock/copyright", 0o644, copyright));
    let overrides = "# They run in empty roots and on any distribution.\n\
        crossdock: statically-linked-binary [usr/bin/crossdock]\n\
        crossdock: statically-linked-binary [usr/bin/crossdock-emu]\n";
    all.push(Entry::new("usr/share/lintian/overrides/crossdock", 0o644, overrides));
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// The control file without the size (deb-control(5)).
fn control(version: &str) -> String {
    format!(
        "Package: crossdock\nVersion: {version}\nArchitecture: amd64\n\
         Maintainer: The crossdock developers <crossdock@crossdock.invalid>\n\
         Section: admin\nPriority: optional\nRecommends: uidmap\nSuggests: passt, qemu-user-static\n\
         Description: build, run and publish container images for every CPU\n \
         One program and its emulator build images from Dockerfiles for several\n \
         platforms, run them, and move them to and from registries. It needs neither\n \
         a daemon nor root, and changes nothing on the machine.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<Entry> {
        vec![
            Entry::new("bin/crossdock", 0o755, "#!/bin/sh\necho ran\n"),
            Entry::new("share/zsh/site-functions/_crossdock", 0o644, "#compdef crossdock\n"),
            Entry::new("share/doc/crossdock/LICENSE", 0o644, "licence"),
        ]
    }

    fn package(time: u64) -> Vec<u8> {
        deb(&for_debian(&example()).expect("files"), &control("0.1.0"), time).expect("a package")
    }

    fn dpkg_deb(args: &[&str], package: &Path) -> String {
        let ran = Command::new("dpkg-deb").args(args).arg(package).output();
        let ran = ran.expect("dpkg-deb is missing: apt-get install dpkg");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("UTF-8")
    }

    #[test]
    fn packages_have_the_same_bytes_each_time() {
        assert_eq!(package(1_700_000_000), package(1_700_000_000));
        assert_ne!(package(1_700_000_000), package(1_700_000_001));
        let files = for_prefix(&example(), "crossdock-0.1.0");
        assert_eq!(tar(&files, 7).expect("an archive"), tar(&files, 7).expect("an archive"));
    }

    #[test]
    fn dpkg_reads_the_package() {
        let directory = std::env::temp_dir().join(format!("crossdock-dist-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("crossdock.deb");
        fs::write(&path, package(1_700_000_000)).expect("written");
        let info = dpkg_deb(&["-f"], &path);
        assert!(info.contains("Package: crossdock\n") && info.contains("Installed-Size: "), "{info}");
        let list = dpkg_deb(&["-c"], &path);
        for line in [
            "drwxr-xr-x root/root         0 2023-11-14 22:13 usr/bin/",
            "-rwxr-xr-x root/root        19 2023-11-14 22:13 usr/bin/crossdock",
            "usr/share/zsh/vendor-completions/_crossdock",
            "usr/share/doc/crossdock/copyright",
        ] {
            assert!(list.contains(line), "no {line} in\n{list}");
        }
        assert!(!list.contains("doc/crossdock/LICENSE"), "{list}");
        let root = directory.join("root");
        let extracted =
            Command::new("dpkg-deb").arg("-x").arg(&path).arg(&root).status().expect("dpkg-deb runs");
        assert!(extracted.success());
        assert_eq!(output(&mut Command::new(root.join("usr/bin/crossdock"))).expect("it runs"), "ran");
        let sums =
            Command::new("dpkg-deb").args(["--ctrl-tarfile"]).arg(&path).output().expect("dpkg-deb runs");
        assert!(sums.stdout.windows(7).any(|window| window == b"md5sums"));
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn licences_of_all_dependencies_are_found() {
        let text = licences::text(&checkout(), "0.1.0").expect("the sources of the dependencies");
        for name in
            ["clap ", "serde ", "rustls ", "zstd-sys ", "The Rust standard library", "The GNU C library"]
        {
            assert!(text.contains(name), "no {name}");
        }
        assert!(
            !text.contains("\ncrossdock-oci ") && !text.contains("\nproptest "),
            "neither our own nor tests'"
        );
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "no path of this machine");
    }
}
