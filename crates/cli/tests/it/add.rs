//! ADD: archives and downloads.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

use crossdock_testkit::LayerTar;

use crate::support::{World, require};

fn archive() -> Vec<u8> {
    LayerTar::new().dir("in/").file("in/f", "content\n").symlink("in/link", "f").finish()
}

fn compress(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let failed = "in memory";
    match kind {
        "tar" => bytes.to_vec(),
        "gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).expect(failed);
            encoder.finish().expect(failed)
        }
        "bz2" => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(bytes).expect(failed);
            encoder.finish().expect(failed)
        }
        "xz" => {
            let options = lzma_rust2::XzOptions::with_preset(0);
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).expect(failed);
            encoder.write_all(bytes).expect(failed);
            encoder.finish().expect(failed)
        }
        _ => zstd::stream::encode_all(bytes, 1).expect(failed),
    }
}

#[test]
fn archives_are_told_by_content_and_unpacked() {
    let world = World::with_base();
    let kinds = ["tar", "gz", "bz2", "xz", "zst"];
    let mut dockerfile = "FROM base\n".to_string();
    for kind in kinds {
        world.file(&format!("{kind}.data"), compress(kind, &archive()));
        dockerfile.push_str(&format!("ADD {kind}.data /{kind}/\n"));
    }
    // A compressed file that holds no archive, and an archive in name only, are copied; COPY never unpacks.
    world.file("not.tar.gz", compress("gz", b"no archive")).file("text.tar", "text");
    dockerfile.push_str(
        "ADD not.tar.gz text.tar /as-is/\nCOPY gz.data /copied\nADD --unpack=false gz.data /kept\n",
    );
    let script = "cat /tar/in/f /gz/in/link /bz2/in/f /xz/in/f /zst/in/f; ls /as-is; test -f /copied && test -f /kept && echo files";
    assert_eq!(
        world.build_and_sh(&dockerfile, script),
        format!("{}not.tar.gz\ntext.tar\nfiles\n", "content\n".repeat(5))
    );
}

#[test]
fn archives_cannot_leave_their_destination() {
    let world = World::with_base();
    let evil = LayerTar::new()
        .file("../../up", "x")
        .symlink("out", "/etc")
        .file("out/passwd", "x")
        .file("/absolute", "x")
        .finish();
    world.file("evil.tar", evil);
    let before = std::fs::read("/etc/passwd").expect("readable");
    // The archive may be refused or kept inside, but nothing outside may change.
    let built = world.build("FROM base\nADD evil.tar /d/\n", &["-t", "t"]);
    assert!(!built.err.contains("panicked"), "{}", built.err);
    if built.code == Some(0) {
        assert_eq!(world.sh("t", "ls /up /absolute 2>/dev/null; head -c 5 /etc/passwd"), "root:");
    }
    assert_eq!(std::fs::read("/etc/passwd").expect("readable"), before);
    assert!(!std::path::Path::new("/absolute").exists());
    let mut truncated = compress("gz", &archive());
    truncated.truncate(truncated.len() - 20);
    world.file("torn.tar.gz", truncated);
    world.build("FROM base\nADD torn.tar.gz /d/\n", &[]).fails_with(&["torn.tar.gz", "Dockerfile:2"]);
}

/// Serves `content` at every path but `/missing`; returns `HOST:PORT`.
fn serve(content: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
            let request = lines.next().and_then(Result::ok).unwrap_or_default();
            while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let (status, body) = match request {
                _ if request.contains("/missing") => ("404 Not Found", &b"no"[..]),
                _ => ("200 OK", content),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    address
}

#[test]
fn downloads_have_their_time_mode_and_checksum() {
    let world = World::with_base();
    let address = serve(b"downloaded");
    let good = crossdock_oci::Digest::of(b"downloaded");
    let bad = crossdock_oci::Digest::of(b"other");
    let dockerfile = format!(
        "FROM base\nARG SUM={good}\nADD http://{address}/a/file.txt?x=/y /dir/\nADD --checksum=$SUM --chmod=755 --chown=ann http://{address}/f /exact\n"
    );
    let script = "cat /dir/file.txt /exact; stat -c ' %a %u %Y' /dir/file.txt /exact";
    assert_eq!(
        world.build_and_sh(&dockerfile, script),
        "downloadeddownloaded 600 0 1000000000\n 755 1000 1000000000\n"
    );
    world.build(&format!("FROM base\nADD --checksum={bad} http://{address}/f /x\n"), &[]).fails_with(&[
        "digest mismatch",
        &bad.to_string(),
        "Dockerfile:2",
    ]);
    world
        .build(&format!("FROM base\nADD http://u:secret-pw@{address}/missing /x\n"), &[])
        .fails_with(&["404", "Dockerfile:2"]);
    // An address without a file name is accepted; the destination may have one.
    let dockerfile = format!("FROM base\nADD http://{address}/ /name\nADD http://{address}/ /in/\n");
    assert_eq!(world.build_and_sh(&dockerfile, "cat /name; ls /in"), "downloaded__unnamed__\n");
    for (sources, text) in [("file", "is no address"), ("http://h/a http://h/b", "single download")] {
        world.file("file", "x");
        let dockerfile = format!("FROM base\nADD --checksum={good} {sources} /x/\n");
        world.build(&dockerfile, &[]).fails_with(&[text, "Dockerfile:2"]);
    }
}

#[test]
fn archives_of_all_kinds_are_unpacked_and_given_away() {
    let world = World::with_base();
    let tar = require("tar", "tar");
    world.file("d/f", "x");
    for (name, options) in
        [("v7", &["--format=v7"][..]), ("volume", &["--format=gnu", "-V", "v"]), ("pax", &["--format=pax"])]
    {
        let archive = world.path(&format!("context/{name}.tar"));
        let mut made = Command::new(&tar);
        made.args(options).arg("-C").arg(world.path("context")).arg("-cf").arg(archive).arg("d");
        assert!({ made }.status().expect("tar runs").success());
    }
    let dockerfile = "FROM base\nADD v7.tar /v7/\nADD --chown=7:8 volume.tar /volume/\nADD pax.tar /pax/\n";
    let script = "cat /v7/d/f /pax/d/f; stat -c ' %u:%g' /volume/d /volume/d/f";
    assert_eq!(world.build_and_sh(dockerfile, script), "xx 7:8\n 7:8\n");
    // The same archives as a context.
    world.file("d/Dockerfile", "FROM scratch\nCOPY f /\n");
    for compress in ["--gzip", "--bzip2", "--xz"] {
        let made =
            Command::new(&tar).arg("-C").arg(world.path("context/d")).args([compress, "-c", "."]).output();
        let archive = made.expect("tar runs").stdout;
        world.crossdock(&["build", "-t", "t", "-"]).input(&archive).ok();
    }
}

#[test]
fn a_file_of_an_archive_replaces_a_directory_of_a_lower_layer() {
    let world = World::with_base();
    world.file("one", "file");
    let archive = world.path("context/a.tar");
    let made = Command::new(require("tar", "tar"))
        .arg("-C")
        .arg(world.path("context"))
        .arg("-cf")
        .arg(archive)
        .arg("one")
        .status();
    assert!(made.expect("tar runs").success());
    let dockerfile = "FROM base\nRUN mkdir -p /one/two && echo x > /one/two/three\nADD a.tar /\n";
    assert_eq!(world.build_and_sh(dockerfile, "cat /one"), "file");
}

#[test]
fn passwords_of_addresses_are_not_shown() {
    let world = World::with_base();
    let address = serve(b"downloaded");
    let dockerfile = format!("FROM base\nARG PW\nADD http://u:$PW@{address}/f /x\n");
    let built = world.build(&dockerfile, &["-t", "t", "--build-arg", "PW=hunter22"]);
    assert!(!built.err.contains("hunter22"), "{}", built.err);
    built.ok();
    let history = world.run(&["history", "--no-trunc", "t"]).ok();
    assert!(!history.lines().nth(1).expect("a line").contains("hunter22"), "{history}");
}
