//! Connects a private network namespace with pasta or slirp4netns. These programs take its packets from a tap
//! device and send them on through ordinary sockets in our namespaces.
//!
//! ```text
//! monitor ─ clone(NEWPID) ─► holder: pid 1 of a pid namespace, so that its end ends all below it
//!                              ├─ fork ─► pasta or slirp4netns, in the monitor's other namespaces
//!                              └─ enters the container's network namespace and gives up every capability
//! ```
//!
//! The program gets the namespace as `/proc/HOLDER/ns/net`, not as that of the container: pasta drops
//! capabilities before it opens the path, and the kernel refuses access to a process with more capabilities
//! (ptrace(2), PTRACE_MODE_READ). The holder has none, so access is always allowed.
//!
//! The options are those of the oldest versions in use, pasta of March 2023 and slirp4netns 0.4. A version
//! that lacks an option fails with a message, and the next program is tried.

#![expect(
    clippy::disallowed_methods,
    reason = "devices and /proc of the host, and links to our own descriptors"
)]

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::container::die_with_monitor;
use crate::error::{Doing, Failure};
use crate::programs::find_program;
use crate::spec::Uplink;
use crate::sys::{self, Cloned};

/// Address of the name server inside: slirp4netns has its forwarder there, and pasta is told to do the same.
pub const NAME_SERVER: &str = "10.0.2.3";

/// Name of the interface inside, as Docker has it.
const INTERFACE: &str = "eth0";

/// How long a program may take to be ready. Usually it takes milliseconds, but pasta of 2023 waits forever
/// for a device that it cannot open.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// The device from which the programs take packets.
const TUN: &str = "/dev/net/tun";

/// Most name servers that the C library asks (`MAXNS` of resolv.h).
const NAME_SERVERS_MAX: usize = 3;

/// A program that connects a network namespace.
struct Program {
    name: &'static str,
    package: &'static str,
    /// All options except the namespace. No port leads from the host to the inside, and none from the inside
    /// to the host's loopback, neither through its own addresses nor through the gateway's.
    options: &'static [&'static str],
    ready: Ready,
}

/// How a program reports that the namespace is connected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    /// The process that was started exits with 0; the program goes on in the background.
    Exit,
    /// It writes a byte to the descriptor that `--ready-fd` names.
    Byte,
}

const PASTA: Program = Program {
    name: "pasta",
    package: "passt",
    options: &[
        "--quiet",
        "--config-net",
        "--ns-ifname",
        INTERFACE,
        "--no-map-gw",
        "--tcp-ports",
        "none",
        "--udp-ports",
        "none",
        "--tcp-ns",
        "none",
        "--udp-ns",
        "none",
        "--dns-forward",
        NAME_SERVER,
        "--no-netns-quit",
        // In a user namespace with all ids, pasta believes that it is the machine's root and would become
        // "nobody", who may not open the network namespace.
        "--runas",
        "0:0",
    ],
    ready: Ready::Exit,
};

const SLIRP4NETNS: Program = Program {
    name: "slirp4netns",
    package: "slirp4netns",
    options: &[
        "--configure",
        "--mtu=65520",
        "--disable-host-loopback",
        "--enable-sandbox",
        "--enable-seccomp",
        "--netns-type=path",
    ],
    ready: Ready::Byte,
};

/// The programs that may be used, the preferred first: pasta gives the addresses of the host, and IPv6.
fn programs(choice: Uplink) -> &'static [&'static Program] {
    match choice {
        Uplink::Any => &[&PASTA, &SLIRP4NETNS],
        Uplink::Pasta => &[&PASTA],
        Uplink::Slirp4netns => &[&SLIRP4NETNS],
    }
}

/// The installed programs with their paths, or how to install one.
fn installed(choice: Uplink) -> Result<Vec<(&'static Program, PathBuf)>, Lack> {
    let programs = programs(choice);
    let found: Vec<_> =
        programs.iter().filter_map(|program| Some((*program, find_program(program.name)?))).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let names: Vec<&str> = programs.iter().map(|program| program.name).collect();
    let what = match names[..] {
        [name] => format!("{name} is not in PATH or the usual directories"),
        _ => format!("neither {} is in PATH or the usual directories", names.join(" nor ")),
    };
    let fix = format!("sudo apt-get install --no-install-recommends {}", programs[0].package);
    Err(Lack { what, fix })
}

/// What a private network needs and this machine lacks.
pub struct Lack {
    /// What is missing.
    pub what: String,
    /// The command that fixes it.
    pub fix: String,
}

/// Whether a private network is possible here: the paths of the programs, or what is missing.
pub fn available() -> Result<Vec<PathBuf>, Lack> {
    let found = installed(Uplink::Any)?.into_iter().map(|(_, path)| path).collect();
    open_tun().map(|()| found)
}

/// Opens the device as the programs will: not all of them say why they cannot.
fn open_tun() -> Result<(), Lack> {
    let error = match rustix::fs::open(TUN, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let fix = match error {
        Errno::ACCESS | Errno::PERM => format!("sudo chmod 666 {TUN}"),
        Errno::NOENT if !PathBuf::from("/dev/net").is_dir() => "sudo modprobe tun".to_string(),
        Errno::NOENT => {
            format!("sudo modprobe tun, or where it is loaded: sudo mknod -m 666 {TUN} c 10 200")
        }
        _ => "sudo modprobe tun".to_string(),
    };
    Err(Lack { what: format!("{TUN} cannot be opened: {error}"), fix })
}

/// Text of `/etc/resolv.conf`, made from the host's. The forwarder comes first, since the host's name servers
/// may be on its loopback or have an address that also exists inside. Servers that can be reached directly
/// follow: the forwarder knows only one, and in old versions of pasta it has no TCP.
pub fn resolv_conf(host: &str) -> String {
    let mut servers = vec![NAME_SERVER.to_string()];
    let mut rest = String::new();
    for line in host.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("nameserver"), Some(address)) => {
                // An address with a zone, "fe80::1%eth0", belongs to no interface inside, and does not parse.
                let reachable = address.parse::<std::net::IpAddr>().is_ok_and(|address| match address {
                    std::net::IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_unspecified(),
                    std::net::IpAddr::V6(v6) => {
                        !v6.is_loopback() && !v6.is_unspecified() && !v6.is_unicast_link_local()
                    }
                });
                if reachable && !servers.iter().any(|server| server == address) {
                    servers.push(address.to_string());
                }
            }
            (Some("search" | "domain" | "options" | "sortlist"), _) => {
                rest.push_str(line);
                rest.push('\n');
            }
            _ => {}
        }
    }
    servers.truncate(NAME_SERVERS_MAX);
    let servers: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    servers + &rest
}

/// A program that connects a network namespace, or the attempts to start one. Dropping it ends the program.
pub struct Connection {
    namespace: OwnedFd,
    alive: OwnedFd,
    /// The programs that are still to be tried.
    programs: std::vec::IntoIter<(&'static Program, PathBuf)>,
    /// Why each program that was tried failed.
    failures: Vec<String>,
    attempt: Option<Attempt>,
}

impl Connection {
    /// Starts to connect the network namespace of a process, given by its id in our namespace. The pipe
    /// `alive` hangs up when the caller is gone.
    ///
    /// Errors: no program is installed, or the device that the programs need cannot be opened.
    pub fn start(choice: Uplink, pid: i32, alive: OwnedFd) -> Result<Connection, Failure> {
        let lacking = |Lack { what, fix }: Lack| Failure::Network { reason: what, fix };
        let programs = installed(choice).map_err(lacking)?;
        open_tun().map_err(lacking)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::open(format!("/proc/{pid}/ns/net"), flags, Mode::empty())
            .failing(|| "open the network namespace of the sandbox".into())?;
        let programs = programs.into_iter();
        let mut connection = Connection { namespace, alive, programs, failures: Vec::new(), attempt: None };
        connection.next()?;
        Ok(connection)
    }

    /// Readable when [`Connection::advance`] has work; `None` when all work is done.
    pub fn watched(&self) -> Option<BorrowedFd<'_>> {
        Some(self.attempt.as_ref()?.ready.as_ref()?.as_fd())
    }

    /// When [`Connection::advance`] must be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.attempt.as_ref().filter(|attempt| attempt.ready.is_some()).map(|attempt| attempt.deadline)
    }

    /// Checks what the program reported. `true` when the namespace is connected; if the program failed, the
    /// next one starts.
    ///
    /// Errors: no program is left; the message has the last line of each.
    pub fn advance(&mut self) -> Result<bool, Failure> {
        let Some(attempt) = &mut self.attempt else { return Ok(false) };
        match attempt.outcome() {
            Outcome::Waiting => Ok(false),
            Outcome::Connected => {
                attempt.ready = None;
                Ok(true)
            }
            Outcome::Failed(why) => {
                self.failures.push(why);
                self.attempt = None;
                self.next().map(|()| false)
            }
        }
    }

    fn next(&mut self) -> Result<(), Failure> {
        let Some((program, path)) = self.programs.next() else {
            let reason = self.failures.join("; ");
            let fix = "see \"crossdock doctor\", or choose --network none or host".to_string();
            return Err(Failure::Network { reason, fix });
        };
        self.attempt = Some(Attempt::start(program, path, &self.namespace, &self.alive)?);
        Ok(())
    }
}

/// A started program.
struct Attempt {
    program: &'static Program,
    holder: i32,
    /// Gets a byte when the namespace is connected, or hangs up when the program has ended; `None`
    /// afterwards.
    ready: Option<OwnedFd>,
    /// Output of the program. Kept open, so that a write never kills the program.
    output: File,
    deadline: Instant,
}

enum Outcome {
    Waiting,
    Connected,
    Failed(String),
}

impl Attempt {
    fn start(
        program: &'static Program,
        path: PathBuf,
        namespace: &OwnedFd,
        alive: &OwnedFd,
    ) -> Result<Attempt, Failure> {
        let doing = || format!("start {}", program.name);
        let (ready, told) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).failing(doing)?;
        // Output that does not fit is lost: nobody reads it while the program runs, and the program must not
        // wait.
        let (output, written) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).failing(doing)?;
        let holder = match sys::clone_process(libc::CLONE_NEWPID).failing(doing)? {
            Cloned::Parent(pid) => pid,
            Cloned::Child => {
                let failure = match hold(program, path, namespace, alive, told, &written) {
                    Ok(never) => match never {},
                    Err(failure) => failure,
                };
                let _ = rustix::io::write(&written, format!("{failure}\n").as_bytes());
                sys::exit_now(125)
            }
        };
        let deadline = Instant::now() + READY_TIMEOUT;
        Ok(Attempt { program, holder, ready: Some(ready), output: output.into(), deadline })
    }

    fn outcome(&mut self) -> Outcome {
        let name = self.program.name;
        let Some(ready) = &self.ready else { return Outcome::Waiting };
        let mut byte = [0; 1];
        match rustix::io::read(ready, &mut byte) {
            Ok(1..) => Outcome::Connected,
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < self.deadline => Outcome::Waiting,
            Err(Errno::AGAIN | Errno::INTR) => {
                let seconds = READY_TIMEOUT.as_secs();
                Outcome::Failed(match self.last_line() {
                    Some(line) => format!("{name} was not ready after {seconds} s, its last words: {line}"),
                    None => format!("{name} was not ready after {seconds} s"),
                })
            }
            Ok(_) | Err(_) => Outcome::Failed(match self.last_line() {
                Some(line) => format!("{name}: {line}"),
                None => format!("{name} ended without a message"),
            }),
        }
    }

    /// The last meaningful line of the program's output.
    fn last_line(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        // The pipe holds little; the reading ends with an error, since the program may write more.
        let _ = self.output.read_to_end(&mut bytes);
        last_line(&String::from_utf8_lossy(&bytes))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let _ = sys::kill(self.holder, libc::SIGKILL);
        let _ = sys::wait(self.holder);
    }
}

/// The last meaningful line of an output: pasta complains about each line that finds no system log.
fn last_line(output: &str) -> Option<String> {
    let says_nothing =
        |line: &str| line.is_empty() || line.starts_with("Failed to send") && line.ends_with("to syslog");
    output.lines().map(str::trim).rfind(|line| !says_nothing(line)).map(str::to_string)
}

enum Never {}

/// The holder, from its first instruction to its end.
fn hold(
    program: &Program,
    path: PathBuf,
    namespace: &OwnedFd,
    alive: &OwnedFd,
    ready: OwnedFd,
    output: &OwnedFd,
) -> Result<Never, Failure> {
    let doing = || format!("prepare {}", program.name);
    die_with_monitor(alive)?;
    rustix::process::setsid().failing(doing)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).failing(doing)?;
    rustix::stdio::dup2_stdin(&null).failing(doing)?;
    rustix::stdio::dup2_stdout(output).failing(doing)?;
    rustix::stdio::dup2_stderr(output).failing(doing)?;
    let kept = [namespace.as_raw_fd(), alive.as_raw_fd(), ready.as_raw_fd(), output.as_raw_fd()];
    sys::close_all_but(&kept).failing(|| "close descriptors".into())?;
    sys::reset_signals();

    // Our process id as the program sees it in /proc, which is not of this pid namespace.
    let own = std::fs::read_link("/proc/self").failing(|| "read /proc/self".into())?;
    let target = PathBuf::from("/proc").join(own).join("ns/net");
    let (entered, enter) = pipe_with(PipeFlags::CLOEXEC).failing(doing)?;
    let child = match sys::fork_from_pid_1().failing(doing)? {
        Cloned::Parent(pid) => pid,
        Cloned::Child => {
            drop(enter);
            return Err(execute(program, path, target, entered, &ready)?);
        }
    };
    drop(entered);
    let ready = (program.ready == Ready::Exit).then(|| File::from(ready));
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .failing(|| "enter the network namespace of the sandbox".into())?;
    sys::set_capabilities(0).failing(|| "give up the capabilities".into())?;
    File::from(enter).write_all(b"1").failing(doing)?;

    let mut ready = ready;
    loop {
        // -1 is any child: the program's orphans become ours. Without children there is nothing left to hold.
        let (ended, status) = sys::wait(-1).failing(|| format!("run {}", program.name))?;
        if ended != child {
            continue;
        }
        match ready.take().filter(|_| status == 0) {
            Some(mut ready) => ready.write_all(b"1").failing(doing)?,
            None => sys::exit_now(1),
        }
    }
}

/// Becomes the program once its namespace is in place. Returns only if that fails.
fn execute(
    program: &Program,
    path: PathBuf,
    target: PathBuf,
    entered: OwnedFd,
    ready: &OwnedFd,
) -> Result<Failure, Failure> {
    let doing = || format!("execute {}", path.display());
    let mut byte = [0];
    File::from(entered).read_exact(&mut byte).failing(doing)?;
    sys::close_on_exec_from(3).failing(doing)?;
    let mut args: Vec<OsString> = vec![program.name.into()];
    args.extend(program.options.iter().map(OsString::from));
    match program.ready {
        Ready::Exit => args.extend(["--netns".into(), target.into_os_string()]),
        Ready::Byte => {
            fcntl_setfd(ready, FdFlags::empty()).failing(doing)?;
            args.push(format!("--ready-fd={}", ready.as_raw_fd()).into());
            args.extend([target.into_os_string(), INTERFACE.into()]);
        }
    }
    let c_string = |text: OsString| CString::new(text.into_vec()).map_err(|_| Errno::INVAL).failing(doing);
    let args = args.into_iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
    let file = c_string(path.clone().into_os_string())?;
    Err(sys::execute(&file, &args, &[])).failing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_asked_through_the_forwarder_first() {
        assert_eq!(resolv_conf(""), "nameserver 10.0.2.3\n");
        let host = "# made by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\noptions edns0\nsearch lan\n";
        assert_eq!(resolv_conf(host), "nameserver 10.0.2.3\noptions edns0\nsearch lan\n");
        let host = "nameserver 10.0.2.3\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\nnameserver 1.1.1.1\n";
        assert_eq!(resolv_conf(host), "nameserver 10.0.2.3\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\n");
    }

    #[test]
    fn the_last_line_is_one_that_says_something() {
        let output = "Couldn't open it\nFailed to send 51 bytes to syslog\n\n";
        assert_eq!(last_line(output).as_deref(), Some("Couldn't open it"));
        assert_eq!(last_line(""), None);
    }

    #[test]
    fn a_chosen_program_is_the_only_one() {
        let names = |choice| programs(choice).iter().map(|program| program.name).collect::<Vec<_>>();
        assert_eq!(names(Uplink::Any), ["pasta", "slirp4netns"]);
        assert_eq!(names(Uplink::Pasta), ["pasta"]);
        assert_eq!(names(Uplink::Slirp4netns), ["slirp4netns"]);
    }
}
