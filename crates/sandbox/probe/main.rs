//! Two programs in one, for the tests: with `drive` it plays crossdock (enters the namespaces, runs a
//! specification from a file), with other words it runs inside and prints what it sees.

#![allow(clippy::disallowed_methods)]

mod calls;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use crossdock_sandbox::emulator::{self, Choice};
use crossdock_sandbox::{
    Attach, ExitStatus, Io, SandboxError, Spec, Upper, doctor, overlay_fd, overlay_fd_legacy, run,
    run_attached, spawn, userns,
};

fn main() {
    crossdock_sandbox::init_main_if_requested();
    let args: Vec<String> = std::env::args().collect();
    let code = match args.get(1).map(String::as_str) {
        Some("drive") => drive(&args[2..]),
        Some("overlay") => overlay(&args[2..]),
        Some("doctor") => {
            println!(
                "{}",
                serde_json::to_string(&doctor::probe(&std::env::temp_dir()))
                    .expect("checks are serialisable")
            );
            0
        }
        Some("euid") => {
            println!("{}", rustix::process::geteuid().as_raw());
            0
        }
        Some("abstract") => {
            use std::os::linux::net::SocketAddrExt;
            use std::os::unix::net::{SocketAddr, UnixStream};
            let address = SocketAddr::from_abstract_name(&args[2]).expect("an address");
            let error = UnixStream::connect_addr(&address).err();
            println!("{}", error.map_or(0, |error| error.raw_os_error().unwrap_or(-1)));
            0
        }
        Some("calls") => calls::report(),
        Some("answer") => answer(&args[2]),
        Some("ask") => ask(&args[2], &args[3]),
        Some("get") => get(&args[2], &args[3]),
        other => panic!("unknown probe {other:?}"),
    };
    std::process::exit(code);
}

/// Plays a name server: answers each datagram at port 53 of an address with that address.
fn answer(address: &str) -> i32 {
    let socket = std::net::UdpSocket::bind((address, 53)).expect("the port is free");
    loop {
        let (_, from) = socket.recv_from(&mut [0; 512]).expect("a datagram");
        socket.send_to(address.as_bytes(), from).expect("the way back");
    }
}

/// Prints the answer from port 53 of an address; waits for it at most `timeout` milliseconds.
fn ask(address: &str, timeout: &str) -> i32 {
    let mut buffer = [0; 512];
    let answer = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.set_read_timeout(Some(milliseconds(timeout)))?;
        socket.send_to(b"twelve bytes and more", (address, 53))?;
        socket.recv(&mut buffer)
    });
    match answer {
        Ok(length) => println!("{}", String::from_utf8_lossy(&buffer[..length])),
        Err(_) => println!("no answer"),
    }
    0
}

fn milliseconds(text: &str) -> std::time::Duration {
    std::time::Duration::from_millis(text.parse().expect("a number"))
}

/// Prints the last line of the file "word" of a web server, `ADDRESS:PORT`; waits at most `timeout`
/// milliseconds.
fn get(server: &str, timeout: &str) -> i32 {
    let timeout = milliseconds(timeout);
    let mut text = String::new();
    let got = std::net::TcpStream::connect_timeout(&server.parse().expect("an address and a port"), timeout)
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(timeout))?;
            stream.write_all(b"GET /word HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut text)
        });
    match got {
        Ok(_) => println!("{}", text.lines().last().unwrap_or_default()),
        Err(_) => println!("refused"),
    }
    0
}

/// `drive SPEC.json [--single-id] [--attach] [--terminal] [--lines] [--directory PATH=TARGET] [--emulator
/// ARCH]...` `[--times N]`
fn drive(args: &[String]) -> i32 {
    let has = |name: &str| args.iter().any(|a| a == name);
    let values = |name: &'static str| args.windows(2).filter(move |w| w[0] == name).map(|w| w[1].as_str());
    let json = std::fs::read_to_string(&args[0]).expect("a specification");
    let mut spec: Spec = serde_json::from_str(&json).expect("a valid specification");
    let start = std::time::Instant::now();
    if let Err(error) = userns::enter(&userns::EnterOptions { single_id: has("--single-id") }) {
        eprintln!("{error}");
        return 125;
    }
    let entered = start.elapsed();
    for architecture in values("--emulator") {
        spec.emulators.push(emulator::find(architecture, &Choice::Auto).expect("an emulator"));
    }
    for pair in values("--directory") {
        let (path, target) = pair.split_once('=').expect("PATH=TARGET");
        let directory = rustix::fs::open(
            path,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .expect("the directory opens");
        spec.mounts.push(crossdock_sandbox::Mount {
            kind: crossdock_sandbox::MountKind::Bind { source: directory.into(), recursive: false },
            target: target.into(),
            read_only: false,
        });
    }
    if let Some(times) = values("--times").next() {
        println!("entered in {entered:?}");
        return repeat(&spec, times.parse().expect("a number"));
    }
    let result = if has("--terminal") {
        run_attached(&spec, Attach { stdin: true, terminal: true })
    } else if has("--attach") {
        run_attached(&spec, Attach { stdin: true, terminal: false })
    } else if has("--lines") {
        lines(&spec)
    } else {
        run_attached(&spec, Attach { stdin: false, terminal: false })
    };
    match result {
        Ok(status) => status.code(),
        Err(error) => {
            eprintln!("{error}");
            error.exit_code()
        }
    }
}

/// Reads the command's output line by line, as a build step does.
fn lines(spec: &Spec) -> Result<ExitStatus, SandboxError> {
    let mut running = spawn(spec, Io::pipes())?;
    let stderr = running.stderr.take().expect("a pipe");
    let errors = std::thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).count());
    for line in BufReader::new(running.stdout.take().expect("a pipe")).lines() {
        println!("line: {}", line.expect("text"));
    }
    println!("errors: {}", errors.join().expect("the reader ends"));
    running.wait()
}

/// Prints the time of one run, from several runs, the first not counted.
fn repeat(spec: &Spec, times: u32) -> i32 {
    let once = || run(spec, Io::default()).expect("a run").code();
    let code = once();
    let mut durations: Vec<_> = (0..times)
        .map(|_| {
            let start = std::time::Instant::now();
            once();
            start.elapsed()
        })
        .collect();
    durations.sort();
    println!("median {:?}, least {:?}", durations[durations.len() / 2], durations[0]);
    code
}

/// `overlay new|legacy UPPER WORK LOWER...`: writes and reads through a detached overlay, from a thread.
fn overlay(args: &[String]) -> i32 {
    userns::enter(&userns::EnterOptions::default()).expect("namespaces");
    let paths: Vec<PathBuf> = args[1..].iter().map(PathBuf::from).collect();
    let upper = Upper { upper: paths[0].clone(), work: paths[1].clone(), volatile: false };
    let mount = if args[0] == "legacy" { overlay_fd_legacy } else { overlay_fd };
    let root = std::thread::scope(|scope| {
        scope.spawn(|| mount(&paths[2..], Some(&upper))).join().expect("no panic")
    });
    let root = match root {
        Ok(root) => root,
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    let open = |path: &str, flags: rustix::fs::OFlags| {
        rustix::fs::openat2(
            root.as_fd(),
            path,
            flags | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::from_raw_mode(if flags.contains(rustix::fs::OFlags::CREATE) {
                0o644
            } else {
                0
            }),
            rustix::fs::ResolveFlags::IN_ROOT,
        )
    };
    let mut text = String::new();
    let file = open("etc/passwd", rustix::fs::OFlags::RDONLY).expect("a file of a layer");
    std::fs::File::from(file).read_to_string(&mut text).expect("text");
    print!("{text}");
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CREATE;
    let file = open("/../etc/new", flags).expect("a new file, not outside");
    std::fs::File::from(file).write_all(b"new").expect("written");
    0
}
