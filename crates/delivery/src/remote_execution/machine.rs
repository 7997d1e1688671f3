//! A machine instead of a farm: ssh starts crossdock there, which is an engine for its only client.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossdock_platform::Platform;
use crossdock_reapi::{Blob, Content, Digest, FarmError};
use crossdock_worker::Greeting;

use super::action::blob_of_file;
use super::places::Place;

/// What a shell there says if there is no crossdock; the machine's CPU follows, as uname(1) has it.
const NONE: &str = "crossdock-worker none ";
/// Bytes that a login shell may write before the greeting.
const PREFACE_MAX: usize = 64 << 10;
/// Lines of ssh's messages that an error shows.
const LINES_SHOWN: usize = 5;
/// How long the end of these messages is waited for.
const LAST_WORDS_TIME: Duration = Duration::from_secs(1);
/// Where an executable that was sent is kept.
const PLACE: &str = "${XDG_CACHE_HOME:-$HOME/.cache}/crossdock-farm-bin";

/// A machine, and what it said of itself.
pub struct Machine {
    /// For messages: `ssh://HOST`.
    pub name: String,
    /// ssh with its options and the host; the command there is the last word.
    command: Vec<OsString>,
    /// crossdock for machines of other CPUs.
    executables: Vec<(Platform, PathBuf)>,
    greeting: Mutex<Option<Greeting>>,
    /// Processes of ssh, which end with this.
    running: Mutex<Vec<Child>>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What makes a machine better than another for a step: the first difference decides, and the least is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// Its CPU does not run the step's programs.
    pub is_emulated: bool,
    /// Layers that would have to come here and go there first.
    pub fetches: usize,
    /// What it has to do already, see [`Machine::load`].
    pub load: usize,
    /// Layers that would have to go there first.
    pub sends: usize,
}

/// What began at the other end.
enum Begun {
    /// An engine.
    Engine(Greeting),
    /// Nothing, since there is no crossdock; the CPU.
    Nothing(String),
}

impl Machine {
    /// A machine that nobody has called yet.
    pub fn new(name: String, command: Vec<OsString>, executables: Vec<(Platform, PathBuf)>) -> Machine {
        let (greeting, running) = Default::default();
        Machine { name, command, executables, greeting, running }
    }

    /// Starts an engine there, and gives the pipes from it and to it. Sends crossdock if there is none.
    ///
    /// # Errors
    ///
    /// ssh cannot log in; there is no crossdock for the machine's CPU.
    pub fn open(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let installed = format!(
            "if command -v crossdock >/dev/null 2>&1; then exec crossdock perform --serve; fi; echo \"{NONE}$(uname -m)\""
        );
        let (begun, pipes) = self.begin(&installed)?;
        let cpu = match begun {
            Begun::Engine(greeting) if greeting.version == env!("CARGO_PKG_VERSION") => {
                return Ok(self.greeted(greeting, pipes));
            }
            Begun::Engine(other) => other.platform,
            Begun::Nothing(cpu) => format!("linux/{cpu}"),
        };
        drop(pipes);
        let executable = self.executable_for(&cpu)?;
        let blob = blob_of_file(&executable).map_err(io::Error::other)?;
        let file = format!("{PLACE}/crossdock-{}", blob.digest.hex());
        let sent = format!("if [ -x \"{file}\" ]; then exec \"{file}\" perform --serve; fi; echo \"{NONE}\"");
        let (mut begun, mut pipes) = self.begin(&sent)?;
        if matches!(begun, Begun::Nothing(_)) {
            self.send(&executable, &file)?;
            (begun, pipes) = self.begin(&sent)?;
        }
        match begun {
            Begun::Engine(greeting) => Ok(self.greeted(greeting, pipes)),
            Begun::Nothing(_) => Err(io::Error::other("the crossdock that was sent cannot be started there")),
        }
    }

    fn greeted(&self, greeting: Greeting, pipes: (OwnedFd, OwnedFd)) -> (OwnedFd, OwnedFd) {
        *lock(&self.greeting) = Some(greeting);
        pipes
    }

    /// Whether the machine's CPU runs programs of a platform. `false` before it has greeted.
    pub fn runs(&self, platform: &Platform) -> bool {
        let own =
            lock(&self.greeting).as_ref().and_then(|greeting| greeting.platform.parse::<Platform>().ok());
        own.is_some_and(|own| own.rank(platform).is_some())
    }

    /// The place for steps of a platform, and whether the machine's CPU runs them; `None` if it has none.
    pub fn place(&self, platform: &Platform, has_emulator: bool) -> Option<(Place, bool)> {
        // The emulator here is of use there if both have the same CPU.
        let is_emulated = has_emulator && self.runs(&Platform::host());
        let is_native = self.runs(platform);
        let how = match (is_native, is_emulated) {
            (true, _) => "on",
            (false, true) => "emulated on",
            (false, false) => return None,
        };
        let name = format!("{how} {}", self.name);
        let place = Place { name, executable: PathBuf::new(), properties: Vec::new(), is_emulated };
        Some((place, is_native))
    }

    /// How much it has to do with so many steps, in thousandths of a step for each CPU.
    pub fn load(&self, steps: usize) -> usize {
        // A machine that does not say it has one.
        let cpus = lock(&self.greeting).as_ref().map_or(1, |greeting| greeting.cpus.max(1));
        steps * 1000 / cpus
    }

    /// The machine's own crossdock, which is among its blobs.
    pub fn executable(&self) -> Result<Blob, FarmError> {
        let wrong = || FarmError::Answer("its greeting names no program".to_string());
        let greeting = lock(&self.greeting).clone().ok_or_else(wrong)?;
        let sha256 = format!("sha256:{}", greeting.executable).parse().map_err(|_| wrong())?;
        let digest = Digest::new(sha256, greeting.size).ok_or_else(wrong)?;
        Ok(Blob { digest, content: Content::Elsewhere })
    }

    /// crossdock for a machine's CPU.
    fn executable_for(&self, cpu: &str) -> io::Result<PathBuf> {
        let cpu = cpu.replace("x86_64", "amd64").replace("aarch64", "arm64").replace("armv7l", "arm/v7");
        let name = &self.name;
        let platform: Platform =
            cpu.parse().map_err(|_| io::Error::other(format!("{name} has an unknown CPU: {cpu}")))?;
        if platform.normalised() == Platform::host().normalised() {
            return Ok(PathBuf::from("/proc/self/exe"));
        }
        let given = self.executables.iter().find(|(of, _)| of.normalised() == platform.normalised());
        let message = || {
            format!(
                "{name} has no crossdock, and there is none for {platform} to send: install it there, or give --farm-executable {platform}=FILE"
            )
        };
        given.map(|(_, path)| path.clone()).ok_or_else(|| io::Error::other(message()))
    }

    /// A process of ssh that runs a script there.
    fn start(&self, script: &str, stdin: Stdio) -> io::Result<(Child, Said)> {
        let (program, options) = self.command.split_first().expect("a program is given");
        let mut command = Command::new(program);
        // The script has no single quotes.
        command.args(options).arg(format!("exec sh -c '{script}'"));
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other(
                "ssh is not installed: install it, for example with apt-get install openssh-client",
            ),
            _ => error,
        })?;
        let lines: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let (stderr, kept) = (child.stderr.take().expect("piped"), lines.clone());
        let reader = std::thread::Builder::new().name("ssh".to_string()).spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = lock(&kept);
                if kept.len() == LINES_SHOWN {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        })?;
        Ok((child, Said { lines, reader }))
    }

    /// Runs a script that becomes an engine, or says that there is none.
    fn begin(&self, script: &str) -> io::Result<(Begun, (OwnedFd, OwnedFd))> {
        let (mut child, said) = self.start(script, Stdio::piped())?;
        let stdin = child.stdin.take().expect("piped");
        let mut stdout = child.stdout.take().expect("piped");
        let begun = greeting_of(&mut stdout)?;
        let Some(begun) = begun else {
            let status = child.wait()?;
            return Err(failure(&status.to_string(), &said));
        };
        lock(&self.running).push(child);
        Ok((begun, (stdout.into(), stdin.into())))
    }

    /// Sends an executable.
    fn send(&self, executable: &Path, file: &str) -> io::Result<()> {
        let script = format!(
            "umask 077; mkdir -p \"{PLACE}\" && cat > \"{file}.$$\" && chmod 700 \"{file}.$$\" && mv \"{file}.$$\" \"{file}\""
        );
        let (mut child, said) = self.start(&script, File::open(executable)?.into())?;
        let status = child.wait()?;
        if status.success() { Ok(()) } else { Err(failure(&status.to_string(), &said)) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for mut child in lock(&self.running).drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What ssh and the programs there say on standard error.
struct Said {
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

/// Why a process of ssh ended.
fn failure(status: &str, said: &Said) -> io::Error {
    // Something that ssh has left in the background may keep the stream open.
    let deadline = Instant::now() + LAST_WORDS_TIME;
    while !said.reader.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let said: Vec<String> = lock(&said.lines).iter().map(|line| line.trim().to_string()).collect();
    match said.is_empty() {
        true => io::Error::other(format!("ssh ended ({status})")),
        false => io::Error::other(format!("ssh ended ({status}): {}", said.join("; "))),
    }
}

/// Reads lines up to a greeting, and not a byte more: what follows belongs to the connection. `None` if there
/// is none.
fn greeting_of(stream: &mut impl Read) -> io::Result<Option<Begun>> {
    let mut line = Vec::new();
    let mut byte = [0];
    for _ in 0..PREFACE_MAX {
        if stream.read(&mut byte)? == 0 {
            break;
        }
        line.extend_from_slice(&byte);
        if byte == *b"\n" {
            let text = String::from_utf8_lossy(&line);
            if let Some(greeting) = Greeting::of_line(&text) {
                return Ok(Some(Begun::Engine(greeting)));
            }
            if let Some(cpu) = text.strip_prefix(NONE) {
                return Ok(Some(Begun::Nothing(cpu.trim().to_string())));
            }
            line.clear();
        }
    }
    Ok(None)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(platform: &str, cpus: usize) -> Greeting {
        Greeting { version: "1".into(), platform: platform.into(), executable: "a".into(), size: 5, cpus }
    }

    #[test]
    fn a_machine_says_what_it_runs_and_how_much_it_has_to_do() {
        let host = Platform::host();
        let other: Platform =
            if host.architecture == "arm64" { "linux/amd64" } else { "linux/arm64" }.parse().expect("one");
        let machine = |platform: &Platform, cpus| {
            let machine = Machine::new("ssh://m".to_string(), Vec::new(), Vec::new());
            *lock(&machine.greeting) = Some(greeting(&platform.to_string(), cpus));
            machine
        };
        let told = |machine: &Machine, platform: &Platform, has_emulator| {
            machine.place(platform, has_emulator).map(|(place, is_native)| {
                (place.name.strip_suffix(" ssh://m").map(str::to_string), is_native, place.is_emulated)
            })
        };
        let (own, foreign) = (machine(&host, 4), machine(&other, 0));
        assert_eq!(told(&own, &host, false), Some((Some("on".into()), true, false)));
        // A command may run programs of the other platforms of the build.
        assert_eq!(told(&own, &host, true), Some((Some("on".into()), true, true)));
        assert_eq!(told(&own, &other, true), Some((Some("emulated on".into()), false, true)));
        assert_eq!(told(&own, &other, false), None);
        assert_eq!(told(&foreign, &other, true), Some((Some("on".into()), true, false)));
        assert_eq!(told(&foreign, &host, true), None, "the emulator here does not run there");
        let silent = Machine::new("ssh://m".to_string(), Vec::new(), Vec::new());
        assert_eq!(told(&silent, &host, true), None);
        assert_eq!([own.load(0), own.load(2), own.load(4), foreign.load(1)], [0, 500, 1000, 1000]);
        let order = |is_emulated, fetches, load, sends| Order { is_emulated, fetches, load, sends };
        let best = [
            order(false, 0, 0, 0),
            order(false, 0, 0, 1),
            order(false, 0, 1000, 0),
            order(false, 1, 0, 0),
            order(true, 0, 0, 0),
        ];
        assert!(best.is_sorted(), "the CPU, then what is nowhere else, then who has less to do");
    }

    #[test]
    fn a_greeting_is_found_behind_what_a_shell_says() {
        let greeting = greeting("linux/arm64", 1);
        let text = format!("Welcome!\n\n{}PRI * HTTP/2.0", greeting.line());
        let mut stream = text.as_bytes();
        let found = greeting_of(&mut stream).expect("it can be read");
        assert!(matches!(found, Some(Begun::Engine(found)) if found == greeting));
        assert_eq!(stream, b"PRI * HTTP/2.0", "what follows is left");
        let none = greeting_of(&mut "crossdock-worker none aarch64\n".as_bytes()).expect("it can be read");
        assert!(matches!(none, Some(Begun::Nothing(cpu)) if cpu == "aarch64"));
        assert!(greeting_of(&mut "sh: not found\n".as_bytes()).expect("it can be read").is_none());
        let endless = vec![b'x'; 1 << 20];
        assert!(greeting_of(&mut endless.as_slice()).expect("it can be read").is_none());
    }
}
