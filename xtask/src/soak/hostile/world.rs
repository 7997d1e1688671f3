//! What the cases work on: a store with images, a context, archives, and a registry on the loopback
//! interface.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::random::Random;
use crate::tools::address_of;

/// A finished command takes no longer than this, however busy the machine is.
pub const HANG: Duration = Duration::from_secs(60);

const BASE: &str = "FROM scratch
COPY busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
ENV PATH=/bin
";

/// Several stages, cache mounts, copies, and steps that take a moment.
const APP: &str = "FROM base AS one
ARG N=0
COPY small /data/
RUN --mount=type=cache,target=/cache echo \"$N\" >> /cache/log; head -c 300000 /dev/urandom > /random; sleep 0.05
FROM base AS two
ARG N=0
COPY big /big
RUN echo \"two $N\" > /two; ls -R /bin > /list; sleep 0.02
FROM base
COPY --from=one /random /data /one/
COPY --from=two /two /list /
RUN --mount=type=cache,target=/cache,sharing=locked --mount=type=bind,from=two,target=/mnt touch /cache/log; cat /mnt/two /cache/log > /both
CMD [\"cat\", \"/two\"]
";

pub struct World {
    pub crossdock: PathBuf,
    pub directory: PathBuf,
    pub registry: Server,
    /// The id of the image `keep`, which nothing removes.
    kept_id: String,
}

impl World {
    pub fn new(crossdock: &str, directory: &Path) -> Result<World> {
        let context = directory.join("context");
        for made in ["context/small", "base", "tmp", "home"] {
            std::fs::create_dir_all(directory.join(made)).context("make the directory of the case")?;
        }
        std::fs::copy("/usr/bin/busybox", directory.join("base/busybox")).context("copy busybox")?;
        std::fs::write(directory.join("base/Dockerfile"), BASE)?;
        std::fs::write(context.join("Dockerfile"), APP)?;
        std::fs::write(context.join("big"), Random::new(1, 1).noise(3_000_000))?;
        for number in 0..20 {
            std::fs::write(context.join(format!("small/{number}")), Random::new(1, number).noise(20_000))?;
        }
        let crossdock = PathBuf::from(crossdock);
        let registry = Server::start(&crossdock, directory, "registry")?;
        let mut world =
            World { crossdock, directory: directory.to_path_buf(), registry, kept_id: String::new() };
        let file = |name: &str| world.file(name);
        world.ok(&["build", "-q", "-t", "base", &file("base")])?;
        world.ok(&["build", "-q", "-t", "keep", "-t", "app", &file("context")])?;
        world.ok(&["push", "-q", "keep", &world.name("keep:1")])?;
        world.ok(&["push", "-q", "base", &world.name("base:1")])?;
        world.ok(&["save", "--format", "docker", "-o", &file("app.docker.tar"), "app"])?;
        world.ok(&["save", "--format", "oci", "-o", &file("app.oci.tar"), "app"])?;
        world.kept_id = world.ok(&["inspect", "--format", "{{.Id}}", "keep"])?;
        Ok(world)
    }

    /// A path in the case's directory, as text.
    pub fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// A name in the registry.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.address)
    }

    pub fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    pub fn command(&self, args: &[impl AsRef<std::ffi::OsStr>]) -> Command {
        let mut command = clean(&self.crossdock, &self.directory, &self.store());
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end. A command that does not end is killed, and that is an error.
    pub fn run(&self, args: &[impl AsRef<std::ffi::OsStr>]) -> Result<Output> {
        finished(&mut self.command(args), HANG)
    }

    /// The output of a command that must succeed.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        let error = String::from_utf8_lossy(&output.stderr).trim().to_string();
        if !output.status.success() {
            bail!("crossdock {}: {}: {error}", args.join(" "), output.status);
        }
        if error.contains("panicked") {
            bail!("crossdock {}: {error}", args.join(" "));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
    }

    /// Checks what must hold at any moment: the list of images has no damage, every image in it can be read
    /// to the last byte, and the kept image is unchanged and runs.
    pub fn check(&self) -> Result<()> {
        let list = self.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
        let error = String::from_utf8_lossy(&list.stderr).into_owned();
        if !list.status.success() || !error.is_empty() {
            bail!("crossdock images: {}: {error}", list.status);
        }
        let id = self.ok(&["inspect", "--format", "{{.Id}}", "keep"])?;
        if id != self.kept_id {
            bail!("the image keep was {}, is {id}", self.kept_id);
        }
        let text = self.ok(&["run", "--rm", "--pull", "never", "--network", "none", "keep"])?;
        if text != "two 0" {
            bail!("the image keep says {text:?}");
        }
        let names = String::from_utf8_lossy(&list.stdout).into_owned();
        let archive = self.file("tmp/check.tar");
        let mut save = vec!["save", "--format", "oci", "-o", &archive];
        save.extend(names.lines());
        self.ok(&save)?;
        std::fs::remove_file(&archive)?;
        Ok(())
    }

    /// Checks what must hold after a prune when nobody works in the store: killed commands have left nothing.
    pub fn check_pruned(&self) -> Result<()> {
        self.ok(&["system", "prune", "--all", "--force"])?;
        self.check()?;
        let store = self.store();
        for empty in ["tmp", "leases", "ingest", "corrupt", "cache", "cachemounts"] {
            let left = names(&store.join(empty))?;
            if !left.is_empty() {
                bail!("after system prune, {empty} has {left:?}");
            }
        }
        let links = names(&store.join("snapshots"))?;
        let trees = names(&store.join("trees"))?;
        if links.len() != trees.len() {
            bail!("after system prune there are the snapshots {links:?} and the trees {trees:?}");
        }
        for directory in ["", "images", "statcache"] {
            let left = names(&store.join(directory))?;
            if let Some(temporary) = left.iter().find(|name| name.starts_with(".tmp")) {
                bail!("after system prune, {directory}/{temporary} is there");
            }
        }
        let left = names(&self.directory.join("tmp"))?;
        if !left.is_empty() {
            bail!("the directory for temporary files has {left:?}");
        }
        Ok(())
    }
}

/// A command without this user's environment.
fn clean(crossdock: &Path, directory: &Path, store: &Path) -> Command {
    let mut command = Command::new(crossdock);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", directory.join("home"));
    command.env("TMPDIR", directory.join("tmp")).env("CROSSDOCK_ROOT", store);
    command
}

/// Runs a command for at most `limit`.
pub fn finished(command: &mut Command, limit: Duration) -> Result<Output> {
    let text = format!("{command:?}");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context(text.clone())?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let out = scope.spawn(move || drained(out));
        let err = scope.spawn(move || drained(err));
        let status = match wait(&mut child, limit)? {
            Some(status) => status,
            None => {
                child.kill()?;
                child.wait()?;
                bail!("{text} does not end in {} s", limit.as_secs());
            }
        };
        let read = |thread: std::thread::ScopedJoinHandle<'_, Vec<u8>>| thread.join().unwrap_or_default();
        Ok(Output { status, stdout: read(out), stderr: read(err) })
    })
}

fn drained(stream: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // A broken stream counts as ended.
        let _ = stream.read_to_end(&mut bytes);
    }
    bytes
}

/// Waits for the end of a process for at most `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("read {}", directory.display()))?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// An embedded registry on a free port; ended when dropped.
pub struct Server {
    pub child: Child,
    pub address: String,
}

impl Server {
    /// Serves `name` in the directory of the case.
    pub fn start(crossdock: &Path, directory: &Path, name: &str) -> Result<Server> {
        let file = directory.join(format!("{name}.address"));
        let _ = std::fs::remove_file(&file);
        // The registry gets its own store: in the case's store its lease would keep what the commands should
        // prune.
        let mut command = clean(crossdock, directory, &directory.join(format!("{name}.store")));
        command.args(["registry", "serve", "--addr", "127.0.0.1:0", "--dir"]).arg(directory.join(name));
        command.arg("--addr-file").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::null()).spawn().context("start the registry")?;
        let address = address_of(&mut child, &file)?;
        Ok(Server { child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
