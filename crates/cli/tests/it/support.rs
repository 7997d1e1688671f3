//! Worlds to run crossdock in, and users to run it as.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crossdock_oci::validate::Missing;
use crossdock_registry::server::faults::{Fault, Seen};
use crossdock_registry::server::{RegistryServer, ServerOptions};
use crossdock_testkit::test_user;
use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for anything before it gives up.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The user who runs crossdock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The user who runs the tests.
    Tester,
    /// An ordinary user with ranges in `/etc/subuid`.
    User,
    /// An ordinary user without such ranges.
    SingleId,
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The path of a program that the tests need; panics with the package to install.
pub fn require(program: &str, package: &str) -> PathBuf {
    let directories = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
    let found = directories.iter().map(|d| Path::new(d).join(program)).find(|p| p.exists());
    found.unwrap_or_else(|| panic!("{program} is missing: apt-get install --no-install-recommends {package}"))
}

/// Our own emulator, beside crossdock in cargo's target directory. `cargo test --workspace` has built it; if
/// only this package is tested, this builds it.
pub fn our_emulator() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = Path::new(env!("CARGO_BIN_EXE_crossdock")).with_file_name("crossdock-emu");
        if !path.exists() {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let built = Command::new(cargo).args(["build", "--quiet", "--package", "crossdock-emu"]).status();
            assert!(built.expect("cargo runs").success());
        }
        path
    })
}

/// A store, a home and a build context in a temporary directory.
pub struct World {
    pub directory: TempDir,
    who: Who,
    /// Whether the store keeps translations, which are made in the background; few tests want that.
    pub translates: bool,
}

impl World {
    /// An empty world.
    pub fn new() -> World {
        World::of(Who::Tester)
    }

    /// An empty world of the given user.
    pub fn of(who: Who) -> World {
        let directory = tempfile::Builder::new().prefix("crossdock-it-").tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        for part in ["home", "context", "run"] {
            fs::create_dir(directory.path().join(part)).expect("a directory");
        }
        let world = World { directory, who, translates: false };
        // No test reaches for the real network.
        let configuration = world.path("home/.config/containers/registries.conf.d");
        fs::create_dir_all(&configuration).expect("a directory");
        let blocked = "[[registry]]\nlocation = \"docker.io\"\nblocked = true\n";
        fs::write(configuration.join("tests.conf"), blocked).expect("a file");
        if world.user().is_some() {
            // The user may have no access to the directory that crossdock was built in. Another process
            // copies it: a file that a child of another test holds open for writing could not be executed.
            let mut copy = Command::new("cp");
            copy.arg(env!("CARGO_BIN_EXE_crossdock")).arg(our_emulator()).arg(world.directory.path());
            assert!(copy.status().expect("cp runs").success());
            world.give();
        }
        world
    }

    /// A world with the image `base`: busybox, its applets in /bin, and the user ann (1000:1001).
    pub fn with_base() -> World {
        World::of(Who::Tester).load_base()
    }

    pub fn load_base(self) -> World {
        let loaded = self.crossdock(&["load", "--quiet"]).input(base_archive());
        assert_eq!(loaded.ok().trim(), "base:latest");
        self
    }

    fn user(&self) -> Option<u32> {
        (self.who != Who::Tester && is_root()).then(test_user)
    }

    /// Makes the user of this world the owner of everything but the store.
    pub fn give(&self) {
        if let Some(id) = self.user() {
            // Files in the store already have the right owners.
            let parts = fs::read_dir(self.directory.path()).expect("a directory");
            lchown(self.directory.path(), Some(id), Some(id)).expect("chown");
            for part in parts.map(|part| part.expect("an entry").path()) {
                if !part.ends_with("store") {
                    give(&part, id);
                }
            }
        }
    }

    pub fn path(&self, part: &str) -> PathBuf {
        self.directory.path().join(part)
    }

    pub fn text(&self, part: &str) -> String {
        self.path(part).to_str().expect("UTF-8").to_string()
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Writes a file of the build context.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &World {
        self.file_mode(path, content, 0o644)
    }

    pub fn file_mode(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> &World {
        let path = self.path("context").join(path);
        fs::create_dir_all(path.parent().expect("below the context")).expect("a directory");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        self
    }

    /// Puts a static busybox into the context.
    pub fn busybox(&self) -> &World {
        self.file_mode("busybox", fs::read(require("busybox", "busybox-static")).expect("readable"), 0o755)
    }

    /// crossdock with the world's store and home, and without this process's environment.
    pub fn crossdock(&self, args: &[&str]) -> Crossdock {
        self.crossdock_at(&self.store(), args)
    }

    pub fn crossdock_at(&self, store: &Path, args: &[&str]) -> Crossdock {
        let executable = match self.user() {
            Some(_) => self.path("crossdock"),
            None => PathBuf::from(env!("CARGO_BIN_EXE_crossdock")),
        };
        self.command_of(executable, store, args)
    }

    /// The copy of crossdock in the world's own directory.
    pub fn copied(&self, args: &[&str]) -> Crossdock {
        self.command_of(self.path("crossdock"), &self.store(), args)
    }

    fn command_of(&self, executable: PathBuf, store: &Path, args: &[&str]) -> Crossdock {
        let mut command = Command::new(executable);
        if let Some(id) = self.user() {
            command.uid(id).gid(id);
        }
        command
            .arg("--root")
            .arg(store)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .current_dir(self.directory.path());
        if self.who == Who::SingleId {
            command.env("CROSSDOCK_SINGLE_ID", "1");
        }
        if !self.translates {
            command.env("CROSSDOCK_TRANSLATIONS", "0");
        }
        Crossdock { command }
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.crossdock(args).run()
    }

    /// Builds the context with this Dockerfile, with plain progress.
    pub fn build(&self, dockerfile: &str, args: &[&str]) -> Ran {
        self.building(dockerfile, args).run()
    }

    pub fn building(&self, dockerfile: &str, args: &[&str]) -> Crossdock {
        // Another build may be reading the file.
        if fs::read(self.path("context/Dockerfile")).ok().as_deref() != Some(dockerfile.as_bytes()) {
            self.file("Dockerfile", dockerfile);
        }
        self.give();
        let args = [&["build", "--progress", "plain"], args, &["context"]].concat();
        self.crossdock(&args)
    }

    /// Runs a script in an image; returns its output.
    #[track_caller]
    pub fn sh(&self, image: &str, script: &str) -> String {
        self.run(&["run", "--rm", image, "sh", "-c", &format!("{script}\ntrue")]).ok()
    }

    /// Builds an image `t` and runs a script in it; returns its output.
    #[track_caller]
    pub fn build_and_sh(&self, dockerfile: &str, script: &str) -> String {
        self.build(dockerfile, &["-t", "t"]).ok();
        self.sh("t", script)
    }

    /// `crossdock inspect` of one image.
    #[track_caller]
    pub fn inspect(&self, image: &str) -> Value {
        let mut all: Value = serde_json::from_str(&self.run(&["inspect", image]).ok()).expect("JSON");
        all[0].take()
    }

    /// Checks all parts of all images in the store; returns the number of names.
    pub fn validate(&self) -> usize {
        let store = crossdock_oci::Store::open(&self.store()).expect("a store");
        let records = store.images().expect("readable");
        for record in &records {
            for image in &record.images {
                store.validate(&image.manifest, Missing::Refuse).expect("a valid image");
            }
            if let Some(index) = &record.index {
                store.validate(index, Missing::Allow).expect("a valid index");
            }
        }
        records.len()
    }

    /// The paths in the archive of an image's layer.
    #[track_caller]
    pub fn layer(&self, image: &str, number: usize) -> Vec<String> {
        let manifest = &self.inspect(image)["Manifest"];
        let digest = manifest["layers"][number]["digest"].as_str().expect("a digest").to_string();
        let blob = fs::File::open(self.store().join("blobs").join(digest.replace(':', "/"))).expect("a blob");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(blob));
        let entries = archive.entries().expect("an archive");
        let name = |entry: tar::Entry<'_, _>| entry.path().expect("a path").display().to_string();
        entries.map(|entry| name(entry.expect("an entry"))).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !is_root() && (self.store().exists() || self.path("work").exists()) {
            // Files of other ids, and overlay's work directories, can only be removed inside the user
            // namespace.
            let directory = self.text("");
            let _ = self
                .crossdock(&["unshare", "find", &directory, "-mindepth", "1", "-delete"])
                .command
                .output();
        }
    }
}

/// Makes a user the owner of a tree.
fn give(path: &Path, id: u32) {
    lchown(path, Some(id), Some(id)).expect("chown");
    if fs::symlink_metadata(path).expect("metadata").is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            give(&entry.expect("an entry").path(), id);
        }
    }
}

/// The archive of the image `base`, built once.
pub fn base_archive() -> &'static [u8] {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let world = World::new();
        world.busybox();
        let dockerfile = r#"FROM scratch
COPY busybox /bin/busybox
SHELL ["/bin/busybox", "sh", "-c"]
RUN /bin/busybox --install -s /bin && mkdir -p /tmp /root && chmod 1777 /tmp
COPY <<passwd <<group /etc/
root:x:0:0:root:/root:/bin/sh
ann:x:1000:1001::/home/ann:/bin/sh
passwd
root:x:0:
staff:x:50:ann
ann:x:1001:
group
SHELL ["/bin/sh", "-c"]
ENV PATH=/bin
CMD ["sh"]
"#;
        let built = world.building(dockerfile, &["-t", "base", "-o", "type=oci,dest=-"]).command.output();
        let built = built.expect("crossdock runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        built.stdout
    })
}

/// A command about to run.
pub struct Crossdock {
    pub command: Command,
}

impl Crossdock {
    pub fn env(mut self, name: &str, value: &str) -> Crossdock {
        self.command.env(name, value);
        self
    }

    /// Starts with SIGHUP's default action, which nohup(1) may have taken from the tests. Not as another
    /// user.
    pub fn with_default_hup(self) -> Crossdock {
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(self.command.get_program()).args(self.command.get_args());
        command.env_clear().envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.command.get_current_dir().expect("set for every command"));
        Crossdock { command }
    }

    pub fn run(mut self) -> Ran {
        Ran::from(self.command.stdin(Stdio::null()).output().expect("crossdock runs"))
    }

    /// Runs with standard input from memory.
    pub fn input(mut self, bytes: &[u8]) -> Ran {
        let pipes = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
        let [input, out, err] = pipes;
        let mut child = self.command.stdin(input).stdout(out).stderr(err).spawn().expect("crossdock starts");
        let mut stdin = child.stdin.take().expect("piped");
        std::thread::scope(|threads| {
            threads.spawn(move || {
                // The command may not read all of the input.
                let _ = stdin.write_all(bytes);
            });
            Ran::from(child.wait_with_output().expect("crossdock ends"))
        })
    }

    /// Starts the command, with pipes for its output.
    pub fn start(mut self) -> Running {
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("crossdock starts");
        Running(child)
    }
}

/// A running command; killed when dropped.
pub struct Running(pub Child);

impl Running {
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).expect("sent");
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }

    /// Reads standard error until a line has the text.
    pub fn until_err(&mut self, text: &str) {
        until(self.0.stderr.as_mut().expect("piped"), text);
    }

    /// Reads standard output until a line has the text.
    pub fn until_out(&mut self, text: &str) {
        until(self.0.stdout.as_mut().expect("piped"), text);
    }

    pub fn wait(mut self) -> ExitStatus {
        self.0.wait().expect("it ends")
    }

    pub fn finish(mut self) -> Ran {
        let mut ran = Ran { code: None, out: String::new(), err: String::new() };
        let (mut out, mut err) = (self.0.stdout.take().expect("piped"), self.0.stderr.take().expect("piped"));
        std::thread::scope(|threads| {
            threads.spawn(|| out.read_to_string(&mut ran.out));
            let _ = err.read_to_string(&mut ran.err);
        });
        ran.code = self.0.wait().expect("it ends").code();
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(stream: &mut impl Read, text: &str) {
    // Byte by byte: nothing after the text may be lost.
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&seen).contains(text) {
        match stream.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => panic!("it ended without {text:?}: {}", String::from_utf8_lossy(&seen)),
        }
    }
}

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How a command ended, and its output.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    /// The output of a command that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self.out
    }

    /// Standard error of a command that must fail, but not by a panic.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }

    /// Checks that the command failed with 1 and that its message has all these texts.
    #[track_caller]
    pub fn fails_with(self, texts: &[&str]) {
        let err = self.fails(1);
        for text in texts {
            assert!(err.contains(text), "no {text:?} in:\n{err}");
        }
    }

    /// Steps that were executed or cached: (title, cached), in the order in which they ended.
    pub fn steps(&self) -> Vec<(String, bool)> {
        let mut names = std::collections::HashMap::new();
        let mut steps = Vec::new();
        for line in self.err.lines().filter_map(|line| line.strip_prefix('#')) {
            let Some((number, rest)) = line.split_once(' ') else { continue };
            match rest {
                "CACHED" => steps.push((names[number], true)),
                _ if rest.starts_with("DONE ") => steps.push((names[number], false)),
                _ if rest.starts_with('[') => drop(names.insert(number, rest)),
                _ => {}
            }
        }
        steps.into_iter().map(|(name, cached): (&str, bool)| (name.to_string(), cached)).collect()
    }

    /// Titles of the executed steps, without FROM.
    pub fn executed(&self) -> Vec<String> {
        let steps = self.steps().into_iter();
        steps.filter(|(name, cached)| !cached && !name.contains("] FROM")).map(|(name, _)| name).collect()
    }
}

/// crossdock's own registry as a process.
pub struct Registry {
    _running: Running,
    pub host: String,
}

impl Registry {
    pub fn start(world: &World) -> Registry {
        Registry::with(world, &[])
    }

    pub fn with(world: &World, extra: &[&str]) -> Registry {
        let directory = world.text("registry");
        let args = ["registry", "serve", "--addr", "127.0.0.1:0", "--dir", &directory];
        let mut running = world.crossdock(&[&args[..], extra].concat()).start();
        let mut line = String::new();
        BufReader::new(running.0.stdout.as_mut().expect("piped")).read_line(&mut line).expect("an address");
        Registry { _running: running, host: line.trim().to_string() }
    }

    pub fn image(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }
}

/// A registry in this process that spoils requests.
pub struct FaultyRegistry {
    _server: RegistryServer,
    /// `HOST:PORT/app:1`.
    pub name: String,
}

impl FaultyRegistry {
    /// `fault` also gets the number of requests that it has spoiled so far.
    pub fn start(
        world: &World,
        fault: impl Fn(&Seen, usize) -> Option<Fault> + Send + Sync + 'static,
    ) -> FaultyRegistry {
        let spoilt = Mutex::new(0);
        let hook = move |seen: &Seen| {
            let mut spoilt = spoilt.lock().expect("not poisoned");
            let fault = fault(seen, *spoilt);
            *spoilt += usize::from(fault.is_some());
            fault
        };
        let options = ServerOptions { faults: Some(Arc::new(hook)), sync: false, ..ServerOptions::default() };
        let server =
            RegistryServer::bind("127.0.0.1:0", &world.path("registry"), options).expect("a free port");
        let name = format!("{}/app:1", server.addr());
        FaultyRegistry { _server: server, name }
    }
}

/// The handlers in the machine's binfmt_misc.
pub fn host_handlers() -> Vec<String> {
    let list = fs::read_dir("/proc/sys/fs/binfmt_misc");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> =
        list.map(|list| list.map(|e| name(e).into_string().expect("UTF-8")).collect()).unwrap_or_default();
    names.sort();
    names
}

/// Files below a directory that have `needle` in their name or content, also inside gzip.
pub fn grep(directory: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a type");
            if entry.file_name().as_encoded_bytes().windows(needle.len()).any(|w| w == needle) {
                found.push(entry.path());
            }
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let mut bytes = fs::read(entry.path()).expect("readable");
                if bytes.starts_with(&[0x1f, 0x8b]) {
                    let mut plain = Vec::new();
                    let _ = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain);
                    bytes.extend(plain);
                }
                if bytes.windows(needle.len()).any(|w| w == needle) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}
