//! The emulator beside QEMU and the host: CPU time of small programs and of a Debian userland.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::guests::{self, Guest};
use crate::roots::{self, Handler};
use crate::tools::{checkout, release, require, run};

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

/// Loops of `bench/emulator/loops.c`, for guests that have [`Guest::loops`]: what each does, name, rounds.
const LOOPS: [(&str, &str, u32); 14] = [
    ("vectors: saxpy, float", "saxpy", 40_001),
    ("vectors: dot product, float", "dot", 40_001),
    ("vectors: daxpy with a scale", "daxpy", 12_001),
    ("vectors: matrices of float", "matrices", 1_501),
    ("vectors: maximum of floats", "maximum", 40_001),
    ("vectors: integers and rotations", "mix", 20_001),
    ("vectors: exclusive or of bytes", "xor", 100_001),
    ("vectors: clamped sums of bytes", "clamp", 15_001),
    ("vectors: sum of differences of bytes", "differences", 15_001),
    ("vectors: sums under a condition", "condition", 30_001),
    ("vectors: count of bytes", "count", 40_001),
    ("vectors: strlen of 28 bytes", "strlen", 10_001),
    ("vectors: memcpy of 0 to 31 bytes", "memcpy", 30_001),
    ("vectors: memcpy of 64 KiB", "copy", 6_001),
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
    native: Place,
    guest: Place,
}

/// Where a row runs.
struct Place {
    root: PathBuf,
    command: Vec<String>,
    /// A folder for translations, as the command sees it.
    translations: String,
    /// The CPU that QEMU is, unless its own choice does.
    cpu: Option<&'static str>,
}

/// A column: who runs the programs, and how.
struct Column {
    name: String,
    handler: Handler,
    /// Whether translations of earlier runs are used.
    is_warm: bool,
}

pub fn emulator(args: &[&str]) -> Result<()> {
    let mut rounds = 3;
    let mut has_warm = false;
    let mut guest = guests::find("arm64")?;
    let mut peers = Vec::new();
    let mut wanted = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match *arg {
            "--quick" => rounds = 1,
            "--warm" => has_warm = true,
            "--guest" => guest = guests::find(rest.next().context("--guest needs a name")?)?,
            "--with" => peers.push(PathBuf::from(rest.next().context("--with needs an emulator's path")?)),
            option if option.starts_with('-') => bail!("bench emulator: unknown option {option}"),
            name => wanted.push(name.to_string()),
        }
    }
    guest.require_tools()?;
    let column =
        |name, path, is_warm| Column { name, handler: Handler { runs: Some((path, guest)) }, is_warm };
    let own = release("crossdock-emu")?;
    let mut columns = vec![column("crossdock-emu".into(), own.clone(), false)];
    if has_warm {
        columns.push(column("warm".into(), own, true));
    }
    for peer in peers {
        let path = peer.canonicalize().with_context(|| format!("find {}", peer.display()))?;
        columns.push(column(version(&path)?, path, false));
    }
    let qemu = Path::new("/usr/bin").join(guest.qemu);
    columns.push(column(version(&qemu)?, qemu, false));
    let mut works = programs(guest, &wanted)?;
    works.extend(loops(guest, &wanted)?);
    works.extend(userland(guest, &wanted)?);
    table(&works, &columns, rounds)
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

/// Compiles a program of `bench/emulator` into the folder `place` of those for one CPU.
fn compile(compiler: &str, options: &[&str], file: &str, place: &str) -> Result<PathBuf> {
    let directory = checkout().join("target/bench/emulator").join(place);
    std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let program = directory.join(file);
    run(Command::new(compiler)
        .args(["-O3", "-w", "-static", "-pthread"])
        .args(options)
        .arg("-o")
        .args([&program, &checkout().join("bench/emulator").join(format!("{file}.c"))])
        .arg("-lm"))?;
    Ok(program)
}

/// A compiled program with arguments, divided by spaces.
fn call(program: &Path, arguments: &str, cpu: Option<&'static str>) -> Place {
    let mut command = vec![program.display().to_string()];
    command.extend(arguments.split(' ').map(str::to_string));
    let translations = program.with_file_name("translations").display().to_string();
    Place { root: PathBuf::from("/"), command, translations, cpu }
}

/// Compiles the programs of `bench/emulator`.
fn programs(guest: &Guest, wanted: &[String]) -> Result<Vec<Work>> {
    let mut works = Vec::new();
    for (name, file, arguments) in PROGRAMS.into_iter().filter(|(name, ..)| is_wanted(wanted, name)) {
        let more = if file == "vector" { guest.vectors } else { &[] };
        let native = compile("gcc", &[], file, "host")?;
        let foreign = compile(guest.compiler, &[guest.bench, more].concat(), file, guest.name)?;
        let (native, guest) = (call(&native, arguments, None), call(&foreign, arguments, None));
        works.push(Work { name, times: 1, native, guest });
    }
    Ok(works)
}

/// Compiles the loops, for the guest's vectors and for the host's AVX2, both with clang.
fn loops(guest: &Guest, wanted: &[String]) -> Result<Vec<Work>> {
    let Some(vectors) = &guest.loops else {
        return Ok(Vec::new());
    };
    let chosen: Vec<_> = LOOPS.into_iter().filter(|(name, ..)| is_wanted(wanted, name)).collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    require(&[("clang-16", "clang-16")])?;
    let build = |options: &[&str], place: &str| {
        compile("clang-16", &[options, &["-ffast-math"]].concat(), "loops", place)
    };
    let (native, foreign) = (build(&["-march=x86-64-v3"], "host")?, build(vectors.options, guest.name)?);
    let work = |(name, chosen, rounds): (&'static str, &str, u32)| {
        let arguments = format!("{chosen} {rounds}");
        let (native, guest) =
            (call(&native, &arguments, None), call(&foreign, &arguments, Some(vectors.cpu)));
        Work { name, times: 1, native, guest }
    };
    Ok(chosen.into_iter().map(work).collect())
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
    let place = |root: &Path, command: &str| Place {
        root: root.to_path_buf(),
        command: split(command),
        translations: "/bench/translations".to_string(),
        cpu: None,
    };
    let work = |(name, times, command): (&'static str, u32, &str)| Work {
        name,
        times,
        native: place(&native, command),
        guest: place(&guest, command),
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

/// Runs every row in every column's way in turn, and prints a line per row: the least CPU time of all rounds.
fn table(works: &[Work], columns: &[Column], rounds: usize) -> Result<()> {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    println!("| CPU time | native, ms | {} |", names.join(" | "));
    println!("| --- | --- |{}", " --- |".repeat(columns.len()));
    let native = Column { name: "native".into(), handler: Handler { runs: None }, is_warm: false };
    let mut wrong = Vec::new();
    // Per column: the sum of the logarithms of its ratios.
    let mut logarithms = vec![0.0; columns.len()];
    for work in works {
        let mut best = vec![f64::INFINITY; columns.len() + 1];
        let mut failed: Vec<Option<String>> = vec![None; columns.len() + 1];
        for column in columns.iter().filter(|column| column.is_warm) {
            warm_up(work, &column.handler)?;
        }
        let mut expected = None;
        for _ in 0..rounds {
            for (n, column) in [&native].into_iter().chain(columns).enumerate() {
                if failed[n].is_some() {
                    continue;
                }
                let place = if n == 0 { &work.native } else { &work.guest };
                match measure(place, work.times, column) {
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
        let cells: Vec<String> = (1..=columns.len()).map(cell).collect();
        for (sum, seconds) in logarithms.iter_mut().zip(&best[1..]) {
            *sum += (seconds / best[0]).ln();
        }
        println!("| {} | {:.2} | {} |", work.name, best[0] * 1e3, cells.join(" | "));
        for (n, reason) in failed.into_iter().enumerate() {
            let by = if n == 0 { "native" } else { &columns[n - 1].name };
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

/// Makes an empty folder for translations, runs the row, and translates what has run; twice, since code that
/// runs only beside translations is not known before.
fn warm_up(work: &Work, handler: &Handler) -> Result<()> {
    let Place { root, translations, .. } = &work.guest;
    let outside = root.join(translations.trim_start_matches('/'));
    if outside.exists() {
        std::fs::remove_dir_all(&outside).with_context(|| format!("remove {}", outside.display()))?;
    }
    std::fs::create_dir_all(&outside).with_context(|| format!("create {}", outside.display()))?;
    let (emulator, _) = handler.runs.as_ref().context("the host needs no translations")?;
    // The process that translates must see the same names, so it is started in the root.
    let copy = outside.with_file_name("emulator");
    std::fs::copy(emulator, &copy).with_context(|| format!("copy the emulator to {}", copy.display()))?;
    let inside = Path::new(translations).with_file_name("emulator").display().to_string();
    let compile = Place {
        root: root.clone(),
        command: vec![inside, "--compile-images".to_string(), translations.clone()],
        translations: translations.clone(),
        cpu: None,
    };
    for _ in 0..2 {
        let column = |is_warm| Column { name: String::new(), handler: handler.clone(), is_warm };
        measure(&work.guest, 1, &column(true))?;
        // A file that has changed in the last two seconds is not translated.
        std::thread::sleep(std::time::Duration::from_millis(2_100));
        measure(&compile, 1, &column(false))?;
    }
    Ok(())
}

/// Runs a command; returns its seconds of CPU time and what it printed.
fn measure(place: &Place, times: u32, column: &Column) -> Result<(f64, String)> {
    let own = std::env::current_exe().context("find this program")?;
    let Place { root, command, translations, cpu } = place;
    let mut entered = roots::enter(root, &column.handler, LIMIT, own);
    if column.is_warm {
        entered.env(roots::TRANSLATIONS, translations);
    }
    if let Some(cpu) = cpu {
        entered.env(roots::CPU, cpu);
    }
    let output = entered
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
