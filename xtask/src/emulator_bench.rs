//! The emulator beside QEMU and the host: CPU time of small programs and of a Debian userland.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::guests::{self, Guest};
use crate::roots::{self, Handler};
use crate::tools::{checkout, release, run};

/// Seconds after which a run is stopped.
const LIMIT: u64 = 300;

/// Programs of `bench/emulator`: what each does, file, arguments.
const PROGRAMS: [(&str, &str, &str); 16] = [
    ("integer mix", "integer", "800"),
    ("sha256 in C", "sha256", "600"),
    ("LZ77", "compress", "10"),
    ("bytecode interpreter", "bytecode", "3000000"),
    ("calls", "calls", "1800"),
    ("nbody, double", "nbody", "800000"),
    ("linpack, double", "linpack", "120"),
    ("matrices, vectors of float", "vector", "2000"),
    ("libm", "functions", "400000"),
    ("memcpy, strlen, ...", "strings", "8000"),
    ("system calls", "syscalls", "20000"),
    ("signals", "signals", "20000"),
    ("threads and locks", "threads", "100000"),
    ("generated code", "generated", "20000"),
    ("fork, 500 times", "fork", "500"),
    ("fork and exec, 300 times", "fork", "300 exec"),
];

/// Commands that run in a Debian root: name, times in a row, command.
const USERLAND: [(&str, u32, &str); 13] = [
    ("/bin/true", 50, "/bin/true"),
    ("sh, 200 times /bin/true", 1, "sh -c 'n=0; while [ $n -lt 200 ]; do /bin/true; n=$((n+1)); done'"),
    ("script like configure", 1, "sh /bench/session.sh 40"),
    ("python3 -c pass", 5, "python3 -c pass"),
    ("python program", 1, "python3 /bench/work.py 8"),
    ("perl program", 1, "perl /bench/work.pl 30"),
    ("sha256sum", 1, "sha256sum /bench/text"),
    ("gzip", 1, "sh -c 'head -c 4000000 /bench/text | gzip -6 | cksum'"),
    ("xz", 1, "sh -c 'head -c 700000 /bench/text | xz -6 | cksum'"),
    ("unxz", 1, "sh -c 'xz -dc /bench/text.xz | cksum'"),
    ("sort", 1, "sh -c 'head -c 4000000 /bench/text | sort | cksum'"),
    ("gcc -O2 -c, sixty functions", 1, "sh -c 'cd /tmp && gcc -O2 -c /bench/sixty.c && ls sixty.o'"),
    (
        "gcc -O2 -c, three small files",
        1,
        "sh -c 'cd /tmp && gcc -O2 -c /bench/integer.c /bench/compress.c /bench/linpack.c && ls *.o'",
    ),
];

/// A row to measure.
struct Work {
    name: &'static str,
    times: u32,
    /// Root and command, native and for the guest.
    native: (PathBuf, Vec<String>),
    guest: (PathBuf, Vec<String>),
}

pub fn emulator(args: &[&str]) -> Result<()> {
    let mut rounds = 3;
    let mut guest = guests::find("arm64")?;
    let mut peers = Vec::new();
    let mut wanted = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match *arg {
            "--quick" => rounds = 1,
            "--guest" => guest = guests::find(rest.next().context("--guest needs a name")?)?,
            "--with" => peers.push(PathBuf::from(rest.next().context("--with needs an emulator's path")?)),
            option if option.starts_with('-') => bail!("bench emulator: unknown option {option}"),
            name => wanted.push(name.to_string()),
        }
    }
    guest.require_tools()?;
    let handler = |name: String, path| Handler { name, runs: Some((path, guest)) };
    let mut handlers = vec![handler("crossdock-emu".into(), release("crossdock-emu")?)];
    for peer in peers {
        let path = peer.canonicalize().with_context(|| format!("find {}", peer.display()))?;
        handlers.push(handler(version(&path)?, path));
    }
    let qemu = Path::new("/usr/bin").join(guest.qemu);
    handlers.push(handler(version(&qemu)?, qemu));
    let mut works = programs(guest, &wanted)?;
    works.extend(userland(guest, &wanted)?);
    table(&works, &handlers, rounds)
}

/// Short name of an emulator: QEMU and its version, or the path.
fn version(path: &Path) -> Result<String> {
    let text = crate::tools::output(Command::new(path).arg("--version"))?;
    Ok(match text.split_whitespace().collect::<Vec<_>>()[..] {
        [name, "version", number, ..] if name.starts_with("qemu-") => format!("QEMU {number}"),
        _ => path.display().to_string(),
    })
}

/// Whether the command line asks for a row.
fn is_wanted(wanted: &[String], name: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|part| name.contains(part))
}

/// Compiles the programs of `bench/emulator`.
fn programs(guest: &Guest, wanted: &[String]) -> Result<Vec<Work>> {
    let source = checkout().join("bench/emulator");
    let directory = checkout().join("target/bench/emulator");
    let mut works = Vec::new();
    for (name, file, arguments) in PROGRAMS.into_iter().filter(|(name, ..)| is_wanted(wanted, name)) {
        let build = |compiler: &str, options: &[&str], place: &str| -> Result<(PathBuf, Vec<String>)> {
            std::fs::create_dir_all(directory.join(place))?;
            let program = directory.join(place).join(file);
            run(Command::new(compiler)
                .args(["-O3", "-w", "-static", "-pthread"])
                .args(options)
                .arg("-o")
                .args([&program, &source.join(format!("{file}.c"))])
                .arg("-lm"))?;
            let mut command = vec![program.display().to_string()];
            command.extend(arguments.split(' ').map(str::to_string));
            Ok((PathBuf::from("/"), command))
        };
        let (native, guest) = (build("gcc", &[], "host")?, build(guest.compiler, guest.bench, guest.name)?);
        works.push(Work { name, times: 1, native, guest });
    }
    Ok(works)
}

/// Creates the two Debian roots, with the same files in their `/bench`.
fn userland(guest: &Guest, wanted: &[String]) -> Result<Vec<Work>> {
    let chosen: Vec<_> = USERLAND.into_iter().filter(|(name, ..)| is_wanted(wanted, name)).collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let packages = ["python3", "perl", "gcc", "libc6-dev", "xz-utils"];
    let suite = guest.suite;
    let make = |guest: Option<&Guest>| -> Result<PathBuf> {
        let root = roots::debian("bench", suite, guest, &packages)?;
        let place = root.join("bench");
        std::fs::create_dir_all(&place)?;
        for entry in std::fs::read_dir(checkout().join("bench/emulator"))? {
            let path = entry?.path();
            std::fs::copy(&path, place.join(path.file_name().expect("an entry has a name")))?;
        }
        std::fs::write(place.join("text"), text(16 << 20))?;
        std::fs::write(place.join("sixty.c"), functions(60))?;
        run(Command::new("xz").args(["-k", "-f", "-1"]).arg(place.join("text")))?;
        Ok(root)
    };
    let (native, guest) = (make(None)?, make(Some(guest))?);
    let split = |command: &str| -> Vec<String> {
        match command.split_once(" -c '") {
            Some((shell, script)) => {
                vec![shell.into(), "-c".into(), script.trim_end_matches('\'').into()]
            }
            None => command.split(' ').map(str::to_string).collect(),
        }
    };
    let work = |(name, times, command): (&'static str, u32, &str)| Work {
        name,
        times,
        native: (native.clone(), split(command)),
        guest: (guest.clone(), split(command)),
    };
    Ok(chosen.into_iter().map(work).collect())
}

/// C source of `count` functions, each a little different.
fn functions(count: usize) -> String {
    let mut source = String::from("#include <stdint.h>\n#include <string.h>\n");
    for n in 0..count {
        let (cases, name, shift, divisor) = (5 + n % 4, 8 + n % 5 * 8, n % 13, n + 3);
        let (first, factor, limit) = (n * 37 % 1000, 3 + n * 11 % 97, 10_000 + n * 1_237);
        let before = match n {
            0 => String::new(),
            _ => format!(" + f{}((struct s{} *)p, text, n / 2)", n - 1, n - 1),
        };
        source += &format!(
            "
struct s{n} {{ int64_t a, b; double d; struct s{n} *next; unsigned char name[{name}]; }};
int64_t f{n}(struct s{n} *p, const char *text, int n) {{
    int64_t sum = {first};
    for (int i = 0; i < n; i++) {{
        switch (text[i] % {cases}) {{
        case 0: sum += p->a * {factor}; break;
        case 1: sum ^= p->b << {shift}; break;
        case 2: p->d = p->d * 0.{factor} + sum; break;
        case 3: if (p->next) p = p->next; else sum--; break;
        case 4: memcpy(p->name, text + i, n - i < 8 ? n - i : 8); break;
        default: sum = (sum >> {cases}) + text[i] / {divisor};
        }}
        if (sum > {limit}) sum %= {divisor};
    }}
    for (struct s{n} *q = p; q; q = q->next) {{ sum += (int64_t)q->d; q->a = sum & 255; q->b += q->a * n; }}
    return sum{before};
}}
"
        );
    }
    source
}

/// Lines of words, the same every time.
fn text(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let words: Vec<Vec<u8>> =
        (0..4000).map(|_| (0..2 + random() % 9).map(|_| b'a' + (random() % 26) as u8).collect()).collect();
    let mut text = Vec::with_capacity(length + 16);
    while text.len() < length {
        text.extend(&words[random() % 4000 * (random() % 4000) / 4000]);
        text.push(if random() % 9 == 0 { b'\n' } else { b' ' });
    }
    text
}

/// Runs every row with every handler in turn, and prints a line per row: the least CPU time of all rounds.
fn table(works: &[Work], handlers: &[Handler], rounds: usize) -> Result<()> {
    let names: Vec<&str> = handlers.iter().map(|handler| handler.name.as_str()).collect();
    println!("| CPU time | native, ms | {} |", names.join(" | "));
    println!("| --- | --- |{}", " --- |".repeat(handlers.len()));
    let native = Handler { name: "native".into(), runs: None };
    let mut wrong = Vec::new();
    // Per handler: the sum of the logarithms of its ratios.
    let mut logarithms = vec![0.0; handlers.len()];
    for work in works {
        let mut best = vec![f64::INFINITY; handlers.len() + 1];
        let mut failed: Vec<Option<String>> = vec![None; handlers.len() + 1];
        let mut expected = None;
        for _ in 0..rounds {
            for (n, handler) in [&native].into_iter().chain(handlers).enumerate() {
                if failed[n].is_some() {
                    continue;
                }
                let place = if n == 0 { &work.native } else { &work.guest };
                match measure(place, work.times, handler) {
                    Ok((seconds, output)) => {
                        best[n] = best[n].min(seconds);
                        if *expected.get_or_insert_with(|| output.clone()) != output {
                            failed[n] = Some("its result differs from native".into());
                        }
                    }
                    Err(error) => failed[n] = Some(format!("{error:#}")),
                }
            }
        }
        let cell = |n: usize| match &failed[n] {
            Some(_) => "failed".to_string(),
            None => format!("{:.1}x", best[n] / best[0]),
        };
        let cells: Vec<String> = (1..=handlers.len()).map(cell).collect();
        for (sum, seconds) in logarithms.iter_mut().zip(&best[1..]) {
            *sum += (seconds / best[0]).ln();
        }
        println!("| {} | {:.2} | {} |", work.name, best[0] * 1e3, cells.join(" | "));
        for (n, reason) in failed.into_iter().enumerate() {
            let by = if n == 0 { "native" } else { &handlers[n - 1].name };
            wrong.extend(reason.map(|reason| format!("{} by {by}: {reason}", work.name)));
        }
    }
    if wrong.is_empty() {
        let means = logarithms.iter().map(|sum| format!("{:.2}x", (sum / works.len() as f64).exp()));
        println!("| geometric mean | | {} |", means.collect::<Vec<_>>().join(" | "));
    } else {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// Runs a command; returns its seconds of CPU time and what it printed.
fn measure((root, command): &(PathBuf, Vec<String>), times: u32, handler: &Handler) -> Result<(f64, String)> {
    let own = std::env::current_exe().context("find this program")?;
    let output = roots::enter(root, handler, LIMIT, own)
        .arg("measure")
        .arg(root)
        .arg(times.to_string())
        .args(command)
        .output()
        .context("run timeout and unshare")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", output.status, errors.lines().last().unwrap_or("no message"));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (seconds, rest) = text.split_once('\n').context("no measurement")?;
    Ok((seconds.parse().with_context(|| format!("not a number: {seconds}"))?, rest.to_string()))
}
