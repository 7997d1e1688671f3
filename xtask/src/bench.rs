//! The builder beside its peers: times, ratios and peak memory, alternating in one run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};

use crate::demo::{self, Registry};
use crate::dockerd::Dockerd;
use crate::tools::{build_release, checkout, has, is_root, require, run};

/// What one command cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    seconds: f64,
    cpu_seconds: f64,
    memory_bytes: u64,
}

impl Cost {
    /// The cost of both commands, one after the other.
    fn then(self, next: Cost) -> Cost {
        Cost {
            seconds: self.seconds + next.seconds,
            cpu_seconds: self.cpu_seconds + next.cpu_seconds,
            memory_bytes: self.memory_bytes.max(next.memory_bytes),
        }
    }
}

struct Bench {
    crossdock: PathBuf,
    /// Another crossdock, measured in turn with ours, and the address of a registry that it serves.
    beside: Option<(PathBuf, String)>,
    directory: PathBuf,
    registry: String,
    rounds: usize,
    buildah: bool,
    dockerd: bool,
    /// Only rows whose name contains this.
    only: Option<String>,
}

/// What runs a case once.
type Runner<'a> = Option<&'a mut dyn FnMut() -> Result<Cost>>;

pub fn build(args: &[&str]) -> Result<()> {
    let quick = args.contains(&"--quick");
    let value = |option: &str| args.iter().position(|arg| *arg == option).and_then(|i| args.get(i + 1));
    let only = value("--only");
    let beside = value("--beside").map(|path| std::fs::canonicalize(path).context(path.to_string()));
    let beside = beside.transpose()?;
    let rounds = value("--rounds").map(|text| text.parse().context("--rounds: not a number")).transpose()?;
    require(&[("time", "time"), ("busybox", "busybox-static")])?;
    let crossdock = build_release()?;
    let directory = checkout().join("target/bench");
    remove_stores(&directory)?;
    contexts(&directory)?;
    let crossdock = installed(&crossdock, &directory.join("programs"))?;
    let beside = beside.map(|path| installed(&path, &directory.join("other/programs"))).transpose()?;
    let registry = Registry::start_with(&crossdock, &directory)?;
    // What is pushed goes to a registry of the same crossdock.
    let other = directory.join("other");
    std::fs::create_dir_all(&other).with_context(|| format!("create {}", other.display()))?;
    let other = beside.as_deref().map(|beside| Registry::start_with(beside, &other)).transpose()?;
    // As root: buildah's numbers are better without its own user namespace.
    let buildah = beside.is_none() && is_root() && has("buildah");
    if beside.is_some() {
        println!("beside another crossdock, without other builders");
    } else if !buildah {
        println!("no comparison with buildah: install it and run this as root");
    }
    let address = registry.address.clone();
    let dockerd = beside.is_none() && Dockerd::is_there();
    if beside.is_none() && !dockerd {
        println!("no comparison with dockerd: install docker.io and run this as root");
    }
    let bench = Bench {
        crossdock,
        beside: beside.zip(other.as_ref().map(|registry| registry.address.clone())),
        directory,
        registry: address,
        rounds: rounds.unwrap_or(if quick { 1 } else { 3 }).max(1),
        buildah,
        dockerd,
        only: only.map(ToString::to_string),
    };
    bench.base()?;
    println!("{}", bench.head());
    bench.no_op()?;
    bench.run_step()?;
    bench.context("10,000 files, 200 MB: build and push", "small10k")?;
    bench.context("1 GB: build and push", "big1g")?;
    bench.pull()?;
    bench.three_platforms()?;
    remove_stores(&bench.directory)
}

/// Copies crossdock and its emulator into a directory, as an installation does, and gives the copy's path. A
/// linker writes a file in small pieces, which Linux keeps in small pages: until the cache drops them, each
/// start takes 0.7 ms longer than that of a copy.
fn installed(crossdock: &Path, directory: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let copy = |name: &str| {
        let (from, to) = (crossdock.with_file_name(name), directory.join(name));
        std::fs::copy(&from, &to)
            .with_context(|| format!("copy {} to {}", from.display(), to.display()))
            .map(|_| to)
    };
    copy("crossdock-emu")?;
    copy("crossdock")
}

/// Removes the stores of this or an earlier run. buildah's contain files of other users, so rm(1) runs as the
/// same user.
fn remove_stores(directory: &Path) -> Result<()> {
    let stores = directory.join("stores");
    run(Command::new("rm").arg("-rf").arg(&stores))?;
    std::fs::create_dir_all(&stores).with_context(|| format!("create {}", stores.display()))
}

impl Bench {
    fn store(&self, name: &str) -> PathBuf {
        self.directory.join("stores").join(name)
    }

    /// Where a crossdock pushes to.
    fn registry_of(&self, crossdock: &Path) -> &str {
        match &self.beside {
            Some((beside, registry)) if beside == crossdock => registry,
            _ => &self.registry,
        }
    }

    /// The heads of the columns.
    fn head(&self) -> String {
        let (columns, line) = match &self.beside {
            Some(_) => ("the other: s, CPU s, peak MB | time | CPU", "| --- | --- | --- | --- | --- |"),
            None => (
                "buildah: s, CPU s | ratio | dockerd: s, CPU s | ratio",
                "| --- | --- | --- | --- | --- | --- |",
            ),
        };
        format!("| case | crossdock: s, CPU s, peak MB | {columns} |\n{line}")
    }

    fn ours(&self, crossdock: &Path, store: &str, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/time");
        command.args(["-f", "%e %U %S %M", "-o"]).arg(self.directory.join("cost"));
        command.arg(crossdock).args(args).env("CROSSDOCK_ROOT", self.store(store));
        command
    }

    fn buildah(&self, store: &str, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/time");
        command.args(["-f", "%e %U %S %M", "-o"]).arg(self.directory.join("cost")).arg("buildah");
        command
            .arg("--root")
            .arg(self.store(store))
            .arg("--runroot")
            .arg(self.store(&format!("{store}-run")));
        command.args(["--storage-driver", "overlay"]).args(args);
        command.env("CONTAINERS_CONF", self.directory.join("containers.conf"));
        command
    }

    /// Runs a command under time(1).
    fn measure(&self, mut command: Command) -> Result<Cost> {
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
        if !output.status.success() {
            bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let text = std::fs::read_to_string(self.directory.join("cost"))?;
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [seconds, user, system, kilobytes] = numbers[..] else { bail!("time(1) wrote {text:?}") };
        Ok(Cost { seconds, cpu_seconds: user + system, memory_bytes: (kilobytes * 1024.0) as u64 })
    }

    /// The name of a store that does not exist yet. Old ones stay until the end: a file system that has just
    /// removed ten thousand files is slow to create new ones (ext4 avoids their inodes for seconds), for us
    /// and for the peer.
    fn fresh(&self, prefix: &str) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Prints one row: the medians of all builders, measured in turn.
    fn row(
        &self,
        name: &str,
        mut ours: impl FnMut(&Path) -> Result<Cost>,
        mut buildah: Runner<'_>,
        mut dockerd: Runner<'_>,
    ) -> Result<()> {
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return Ok(());
        }
        if let Some((beside, _)) = &self.beside {
            return self.row_beside(name, ours, beside);
        }
        let (mut own, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
        for _ in 0..self.rounds {
            own.push(ours(&self.crossdock)?);
            if let Some(buildah) = &mut buildah {
                theirs[0].push(buildah()?);
            }
            if let Some(dockerd) = &mut dockerd {
                theirs[1].push(dockerd()?);
            }
        }
        let own = median(own);
        let mut line = format!(
            "| {name} | {:.3}, {:.2}, {:.0} |",
            own.seconds,
            own.cpu_seconds,
            own.memory_bytes as f64 / 1e6
        );
        for costs in theirs {
            if costs.is_empty() {
                line += " - | - |";
                continue;
            }
            let costs = median(costs);
            let ratio = costs.seconds / own.seconds.max(0.001);
            line += &format!(" {:.2}, {:.2} | {ratio:.1}x |", costs.seconds, costs.cpu_seconds);
        }
        println!("{line}");
        Ok(())
    }

    /// One row for two executables, which take turns in going first. Each ratio is the median over the
    /// rounds.
    fn row_beside(
        &self,
        name: &str,
        mut ours: impl FnMut(&Path) -> Result<Cost>,
        beside: &Path,
    ) -> Result<()> {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            if round % 2 == 0 {
                own.push(ours(&self.crossdock)?);
                others.push(ours(beside)?);
            } else {
                others.push(ours(beside)?);
                own.push(ours(&self.crossdock)?);
            }
        }
        let ratio = |of: fn(&Cost) -> f64| {
            let pairs = own.iter().zip(&others);
            let mut ratios: Vec<f64> = pairs.map(|(own, other)| of(own) / of(other).max(0.0001)).collect();
            ratios.sort_by(f64::total_cmp);
            ratios[ratios.len() / 2]
        };
        let (time, cpu) = (ratio(|cost| cost.seconds), ratio(|cost| cost.cpu_seconds));
        let shown = |cost: Cost| {
            format!("{:.4}, {:.3}, {:.0}", cost.seconds, cost.cpu_seconds, cost.memory_bytes as f64 / 1e6)
        };
        let (own, others) = (median(own), median(others));
        println!("| {name} | {} | {} | {time:.2} | {cpu:.2} |", shown(own), shown(others));
        Ok(())
    }

    /// A new, empty daemon.
    fn fresh_dockerd(&self) -> Result<Dockerd> {
        Dockerd::start(&self.store(&self.fresh("dockerd")))
    }

    /// The cost of docker commands, including the daemon's work.
    fn docker(&self, daemon: &Dockerd, commands: &[&[&str]]) -> Result<Cost> {
        let before = daemon.cpu_seconds();
        let mut cost = Cost::default();
        for args in commands {
            let client = daemon.docker(args);
            let mut timed = Command::new("/usr/bin/time");
            timed.args(["-f", "%e %U %S %M", "-o"]).arg(self.directory.join("cost"));
            timed.arg(client.get_program()).args(client.get_args());
            for (name, value) in client.get_envs() {
                timed.env(name, value.unwrap_or_default());
            }
            cost = cost.then(self.measure(timed)?);
        }
        cost.cpu_seconds += daemon.cpu_seconds() - before;
        Ok(cost)
    }

    /// Puts a busybox image into the registry.
    fn base(&self) -> Result<()> {
        let context = self.directory.join("base");
        std::fs::create_dir_all(&context)?;
        std::fs::copy("/bin/busybox", context.join("busybox")).context("copy /bin/busybox")?;
        let text = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\nCMD [\"sh\"]\n";
        std::fs::write(context.join("Dockerfile"), text)?;
        let tag = format!("{}/base:1", self.registry);
        let path = context.display().to_string();
        self.measure(self.ours(&self.crossdock, "base", &["build", "-q", "-t", &tag, "--push", &path]))?;
        let config = "[containers]\ndefault_ulimits = [\"nofile=20000:20000\",\"nproc=30000:30000\"]\n[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        std::fs::write(self.directory.join("containers.conf"), config)?;
        Ok(())
    }

    fn no_op(&self) -> Result<()> {
        let context = self.steps("noop", 3)?;
        let args = ["build", "-q", "-t", "noop", context.as_str()];
        self.measure(self.ours(&self.crossdock, "base", &args))?;
        let peer_args = ["bud", "-q", "--layers", "--tls-verify=false", "-t", "noop", context.as_str()];
        let mut peer = || self.measure(self.buildah("buildah", &peer_args));
        if self.buildah {
            peer()?;
        }
        let docker_args = ["build", "-q", "--network=none", "-t", "noop", context.as_str()];
        let daemon = self.dockerd.then(|| self.fresh_dockerd()).transpose()?;
        let mut docker = || self.docker(daemon.as_ref().expect("asked only where it is"), &[&docker_args]);
        if self.dockerd {
            docker()?;
        }
        // time(1) counts in hundredths of a second, so ten builds in a row.
        let ours = |crossdock: &Path| {
            // This crossdock may not know the steps that the other one has cached.
            self.measure(self.ours(crossdock, "base", &args))?;
            let started = std::time::Instant::now();
            let mut cost = Cost::default();
            for _ in 0..10 {
                cost = cost.then(self.measure(self.ours(crossdock, "base", &args))?);
            }
            cost.seconds = started.elapsed().as_secs_f64() / 10.0;
            cost.cpu_seconds /= 10.0;
            Ok(cost)
        };
        let docker = self.dockerd.then_some(&mut docker as _);
        self.row("no-op rebuild of 3 RUN steps", ours, self.buildah.then_some(&mut peer as _), docker)
    }

    /// A context with `count` trivial steps.
    fn steps(&self, name: &str, count: usize) -> Result<String> {
        let context = self.directory.join(name);
        std::fs::create_dir_all(&context)?;
        let steps: String = (0..count).map(|n| format!("RUN true {n}\n")).collect();
        std::fs::write(context.join("Dockerfile"), format!("FROM {}/base:1\n{steps}", self.registry))?;
        Ok(context.display().to_string())
    }

    fn run_step(&self) -> Result<()> {
        const STEPS: usize = 20;
        let (many, one) = (self.steps("steps", STEPS + 1)?, self.steps("step", 1)?);
        let per_step = |one: Cost, many: Cost| Cost {
            seconds: (many.seconds - one.seconds) / STEPS as f64,
            cpu_seconds: (many.cpu_seconds - one.cpu_seconds) / STEPS as f64,
            memory_bytes: many.memory_bytes,
        };
        let ours = |crossdock: &Path| {
            let build = |context: &str| {
                self.measure(self.ours(crossdock, "base", &["build", "-q", "--no-cache", "-t", "s", context]))
            };
            Ok(per_step(build(&one)?, build(&many)?))
        };
        let mut peer = || {
            let build = |context: &str| {
                self.measure(self.buildah(
                    "buildah",
                    &["bud", "-q", "--layers", "--no-cache", "--tls-verify=false", "-t", "s", context],
                ))
            };
            Ok(per_step(build(&one)?, build(&many)?))
        };
        let daemon = self.dockerd.then(|| self.fresh_dockerd()).transpose()?;
        let mut docker = || {
            let daemon = daemon.as_ref().expect("asked only where it is");
            let build = |context: &str| {
                let args = ["build", "-q", "--no-cache", "--network=none", "-t", "s", context];
                self.docker(daemon, &[&args])
            };
            Ok(per_step(build(&one)?, build(&many)?))
        };
        let docker = self.dockerd.then_some(&mut docker as _);
        self.row("one trivial RUN step", ours, self.buildah.then_some(&mut peer as _), docker)
    }

    /// Measures a cold build of a context with much data, and its push.
    fn context(&self, name: &str, context: &str) -> Result<()> {
        let path = self.directory.join("contexts").join(context).display().to_string();
        let mut round = 0;
        let ours = |crossdock: &Path| {
            let store = self.fresh("ours");
            round += 1;
            let registry = self.registry_of(crossdock);
            let tag = format!("{registry}/ours-{context}-{}-{round}:1", std::process::id());
            self.measure(self.ours(crossdock, &store, &["build", "-q", "-t", &tag, "--push", &path]))
        };
        let mut peer_round = 0;
        let mut peer = || {
            let store = self.fresh("buildah");
            peer_round += 1;
            let tag = format!("{}/peer-{context}-{}-{peer_round}:1", self.registry, std::process::id());
            let build = self.measure(self.buildah(&store, &["bud", "-q", "--layers", "-t", &tag, &path]))?;
            Ok(build.then(self.measure(self.buildah(&store, &["push", "-q", "--tls-verify=false", &tag]))?))
        };
        let mut docker_round = 0;
        let mut docker = || {
            let daemon = self.fresh_dockerd()?;
            docker_round += 1;
            let tag = format!("{}/docker-{context}-{}-{docker_round}:1", self.registry, std::process::id());
            self.docker(&daemon, &[&["build", "-q", "-t", &tag, &path], &["push", "-q", &tag]])
        };
        let docker = self.dockerd.then_some(&mut docker as _);
        self.row(name, ours, self.buildah.then_some(&mut peer as _), docker)
    }

    fn pull(&self) -> Result<()> {
        let path = self.directory.join("contexts/layers").display().to_string();
        let tag = format!("{}/layers:1", self.registry);
        self.measure(self.ours(&self.crossdock, "base", &["build", "-q", "-t", &tag, "--push", &path]))?;
        let ours = |crossdock: &Path| {
            let store = self.fresh("ours");
            self.measure(self.ours(crossdock, &store, &["pull", "-q", &tag]))
        };
        let mut peer = || {
            let store = self.fresh("buildah");
            self.measure(self.buildah(&store, &["pull", "-q", "--tls-verify=false", &tag]))
        };
        let mut docker = || self.docker(&self.fresh_dockerd()?, &[&["pull", "-q", &tag]]);
        let docker = self.dockerd.then_some(&mut docker as _);
        self.row(
            "pull and unpack of 640 MB in 9 layers",
            ours,
            self.buildah.then_some(&mut peer as _),
            docker,
        )
    }

    /// Measures the example for three platforms, cold except for the bases, built and pushed.
    fn three_platforms(&self) -> Result<()> {
        if !demo::bases_are_made() {
            println!("| the example for three platforms | run \"cargo xtask demo\" first | - | - | - | - |");
            return Ok(());
        }
        let bases = checkout().join("target/demo/bases").display().to_string();
        let base = format!("{}/debian:bookworm", self.registry);
        let platforms = "linux/amd64,linux/arm64,linux/arm/v7";
        self.measure(self.ours(
            &self.crossdock,
            "base",
            &["build", "-q", "--platform", platforms, "-t", &base, "--push", &bases],
        ))?;
        let example = checkout().join("examples/zerotier-like").display().to_string();
        let argument = format!("BUILD_FROM={base}");
        let mut round = 0;
        let ours = |crossdock: &Path| {
            let store = self.fresh("ours");
            for platform in platforms.split(',') {
                self.measure(self.ours(crossdock, &store, &["pull", "-q", "--platform", platform, &base]))?;
            }
            round += 1;
            let tag = format!("{}/example-{}-{round}:1", self.registry_of(crossdock), std::process::id());
            let args = [
                "build",
                "-q",
                "--platform",
                platforms,
                "--build-arg",
                &argument,
                "-t",
                &tag,
                "--push",
                &example,
            ];
            self.measure(self.ours(crossdock, &store, &args))
        };
        // For foreign steps buildah needs handlers of the whole machine, which nothing here may register.
        self.row("the example for three platforms: build and push", ours, None, None)
    }
}

/// The median by time.
fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    costs[costs.len() / 2]
}

/// A linear congruential generator: the same contexts every time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 32
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(4)).flat_map(|_| (self.next() as u32).to_le_bytes()).take(length).collect()
    }
}

/// Contexts of 10,000 files (200 MB), of 1 GB in 4 files, and of 9 layers (640 MB); half text, half noise.
fn contexts(directory: &Path) -> Result<()> {
    let done = directory.join("contexts/done");
    if done.exists() {
        return Ok(());
    }
    println!("making contexts in {}", directory.display());
    let mut noise = Noise(1);
    let words: Vec<String> = (0..3000)
        .map(|_| (0..2 + noise.next() % 8).map(|_| char::from(b'a' + (noise.next() % 20) as u8)).collect())
        .collect();
    let mut text = Vec::new();
    while text.len() < 8 << 20 {
        text.extend(words[noise.next() as usize % words.len()].as_bytes());
        text.push(if noise.next().is_multiple_of(10) { b'\n' } else { b' ' });
    }
    let mut file = |path: PathBuf, length: usize| -> Result<()> {
        std::fs::create_dir_all(path.parent().expect("below the directory"))?;
        let half = length / 2;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < half {
            let start = noise.next() as usize % (text.len() / 2);
            let take = (half - bytes.len()).min(text.len() - start);
            bytes.extend(&text[start..start + take]);
        }
        bytes.extend(noise.bytes(length - half));
        std::fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    };
    let base = directory.join("contexts");
    for n in 0..10_000 {
        file(base.join(format!("small10k/data/d{}/f{n}.dat", n / 100)), 200 + (n * 7919) % 40_000)?;
    }
    for n in 0..4 {
        file(base.join(format!("big1g/data/big{n}.bin")), 256 << 20)?;
    }
    for layer in 0..9 {
        for n in 0..71 {
            file(base.join(format!("layers/l{layer}/f{n}")), 1_000_000)?;
        }
    }
    for context in ["small10k", "big1g"] {
        std::fs::write(base.join(context).join("Dockerfile"), "FROM scratch\nCOPY data /data\n")?;
    }
    let copies: String = (0..9).map(|n| format!("COPY l{n} /l{n}\n")).collect();
    std::fs::write(base.join("layers/Dockerfile"), format!("FROM scratch\n{copies}"))?;
    run(Command::new("sync").arg("-f").arg(&base))?;
    std::fs::write(done, "")?;
    Ok(())
}
