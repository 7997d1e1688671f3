//! Needed libraries and where they are found in a root, as the dynamic loader would look: ld.so(8) of glibc,
//! and the simpler rules of musl. Nothing is executed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{Class, Elf, ReadAt};

/// The file system of the program: a root directory that no look-up leaves.
pub trait Root {
    /// The content of a regular file, with links followed inside the root; `None` if there is no such file.
    fn open(&self, path: &str) -> Option<Box<dyn ReadAt>>;
    /// A whole text file of at most 1 MiB.
    fn text(&self, path: &str) -> Option<Vec<u8>>;
    /// Names in a directory; empty if there is none.
    fn names(&self, directory: &str) -> Vec<String>;
}

/// One needed library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The name as in `DT_NEEDED`.
    pub name: String,
    /// Where it was found.
    pub path: Option<String>,
    /// Path of the first file that needs it.
    pub needed_by: String,
}

/// The result for one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The dynamic loader and whether it exists; `None` for a file without one.
    pub interpreter: Option<(String, bool)>,
    /// All libraries, in the order in which the loader would load them: breadth first.
    pub libraries: Vec<Library>,
}

/// Libraries beyond this number are not followed.
const LIBRARIES_MAX: usize = 4096;
/// Files that are tried for all libraries together. Hostile search paths multiply: thousands of libraries,
/// each in thousands of directories.
const TRIES_MAX: usize = 200_000;
/// `include` lines of `ld.so.conf` that are followed.
const INCLUDES_MAX: usize = 1000;
/// Directories of `ld.so.conf`, or of all DT_RPATHs on the way to an object, beyond this number are not
/// searched.
const DIRECTORIES_MAX: usize = 4096;

/// Resolves what the program at `path` needs, directly and through its libraries.
///
/// `library_path` is `LD_LIBRARY_PATH`.
pub fn resolve(root: &dyn Root, path: &str, elf: &Elf, library_path: &[String]) -> Resolution {
    let search = Search::new(root, elf, library_path);
    let interpreter = elf.interpreter.clone().map(|path| {
        let there = root.open(&path).is_some();
        (path, there)
    });
    let mut libraries: Vec<Library> = Vec::new();
    let mut seen = BTreeSet::new();
    // Objects whose libraries are still to be resolved, with the DT_RPATHs of the objects that needed them.
    let mut open = VecDeque::from([(path.to_string(), elf.clone(), Vec::<String>::new())]);
    while let Some((object_path, object, inherited)) = open.pop_front() {
        let mut rpaths = Vec::new();
        if object.runpath.is_none() {
            rpaths.extend(directories(object.rpath.as_deref(), &object_path, elf));
            rpaths.extend(inherited);
            // Each level adds its paths to those of the levels above.
            rpaths.truncate(DIRECTORIES_MAX);
        }
        let runpaths = directories(object.runpath.as_deref(), &object_path, elf);
        for name in &object.needed {
            if libraries.len() >= LIBRARIES_MAX || !seen.insert(name.clone()) {
                continue;
            }
            // musl's libc is its own loader, whatever the name says.
            let own_loader = interpreter.as_ref().filter(|(path, _)| path.rsplit('/').next() == Some(name));
            let found = match own_loader {
                Some((path, _)) => search.usable(path).map(|elf| (path.clone(), elf)),
                None => search.find(name, &rpaths, &runpaths),
            };
            libraries.push(Library {
                name: name.clone(),
                path: found.as_ref().map(|(path, _)| path.clone()),
                needed_by: object_path.clone(),
            });
            if let Some((path, library)) = found {
                open.push_back((path, library, rpaths.clone()));
            }
        }
    }
    Resolution { interpreter, libraries }
}

/// A search path with `$ORIGIN`, `$LIB` and `$PLATFORM` filled in.
fn directories(path: Option<&str>, object: &str, program: &Elf) -> Vec<String> {
    let origin = object.rsplit_once('/').map_or("", |(directory, _)| directory);
    let lib = if program.class == Class::Elf64 { "lib64" } else { "lib" };
    let fill = |directory: &str| {
        let mut text = directory.to_string();
        for (name, value) in [("ORIGIN", origin), ("LIB", lib), ("PLATFORM", platform_name(program))] {
            text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
        }
        text
    };
    path.unwrap_or_default().split(':').filter(|d| !d.is_empty()).map(fill).collect()
}

/// `AT_PLATFORM` of the architecture.
fn platform_name(elf: &Elf) -> &'static str {
    match elf.machine {
        crate::machine::X86_64 => "x86_64",
        crate::machine::AARCH64 => "aarch64",
        crate::machine::ARM => "v7l",
        crate::machine::I386 => "i686",
        _ => "",
    }
}

struct Search<'a> {
    root: &'a dyn Root,
    program: &'a Elf,
    library_path: Vec<String>,
    cache: BTreeMap<String, Vec<String>>,
    defaults: Vec<String>,
    /// Files that may still be tried.
    tries: Cell<usize>,
}

impl<'a> Search<'a> {
    fn new(root: &'a dyn Root, program: &'a Elf, library_path: &[String]) -> Search<'a> {
        let interpreter = program.interpreter.as_deref().unwrap_or_default();
        let (cache, defaults) = if interpreter.contains("ld-musl-") {
            (BTreeMap::new(), musl_directories(root, interpreter))
        } else {
            let cache = root.text("/etc/ld.so.cache").map(|bytes| parse_cache(&bytes)).unwrap_or_default();
            // The cache already holds the directories of ld.so.conf; without it they are searched one by one.
            let mut directories =
                if cache.is_empty() { Configuration::read(root, "/etc/ld.so.conf") } else { Vec::new() };
            let trusted: &[&str] = match program.class {
                Class::Elf64 => &["/lib64", "/usr/lib64", "/lib", "/usr/lib"],
                Class::Elf32 => &["/lib", "/usr/lib"],
            };
            directories.extend(trusted.iter().map(|d| d.to_string()));
            (cache, directories)
        };
        let tries = Cell::new(TRIES_MAX);
        Search { root, program, library_path: library_path.to_vec(), cache, defaults, tries }
    }

    fn find(&self, name: &str, rpaths: &[String], runpaths: &[String]) -> Option<(String, Elf)> {
        if self.tries.get() == 0 {
            return None;
        }
        if name.contains('/') {
            return self.usable(name).map(|elf| (name.to_string(), elf));
        }
        let in_directories = |directories: &[String]| {
            directories.iter().find_map(|directory| {
                let path = format!("{}/{name}", directory.trim_end_matches('/'));
                self.usable(&path).map(|elf| (path, elf))
            })
        };
        let cached = || {
            let paths = self.cache.get(name)?;
            paths.iter().find_map(|path| self.usable(path).map(|elf| (path.clone(), elf)))
        };
        in_directories(rpaths)
            .or_else(|| in_directories(&self.library_path))
            .or_else(|| in_directories(runpaths))
            .or_else(cached)
            .or_else(|| in_directories(&self.defaults))
    }

    /// The file at `path` if the program can load it: same class, machine and byte order.
    fn usable(&self, path: &str) -> Option<Elf> {
        self.tries.set(self.tries.get().checked_sub(1)?);
        let file = self.root.open(path)?;
        let elf = Elf::read(&*file).ok()?;
        let same = elf.class == self.program.class
            && elf.machine == self.program.machine
            && elf.little_endian == self.program.little_endian;
        same.then_some(elf)
    }
}

/// `/etc/ld-musl-ARCH.path`, else musl's built-in list.
fn musl_directories(root: &dyn Root, interpreter: &str) -> Vec<String> {
    let file = interpreter.rsplit('/').next().unwrap_or_default();
    let name = file.strip_suffix(".so.1").unwrap_or(file);
    let text =
        root.text(&format!("/etc/{name}.path")).unwrap_or_else(|| b"/lib:/usr/local/lib:/usr/lib".to_vec());
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split([':', '\n']).filter(|d| !d.is_empty()).map(str::to_string).collect()
}

/// Directories of `ld.so.conf` and the files it includes. Each file is read once, since files may include
/// each other.
struct Configuration<'a> {
    root: &'a dyn Root,
    read: BTreeSet<String>,
    includes: usize,
    directories: Vec<String>,
}

impl Configuration<'_> {
    fn read(root: &dyn Root, path: &str) -> Vec<String> {
        let mut configuration =
            Configuration { root, read: BTreeSet::new(), includes: 0, directories: Vec::new() };
        configuration.file(path, 0);
        configuration.directories
    }

    fn file(&mut self, path: &str, depth: usize) {
        if depth >= 8 || !self.read.insert(path.to_string()) {
            return;
        }
        let Some(text) = self.root.text(path) else { return };
        for line in String::from_utf8_lossy(&text).lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.strip_prefix("include") {
                Some(pattern) => self.include(pattern.trim(), depth),
                None if line.starts_with('/') && self.directories.len() < DIRECTORIES_MAX => {
                    self.directories.push(line.to_string());
                }
                None => {}
            }
        }
    }

    fn include(&mut self, pattern: &str, depth: usize) {
        if self.includes == INCLUDES_MAX {
            return;
        }
        self.includes += 1;
        let pattern = if pattern.starts_with('/') { pattern.to_string() } else { format!("/etc/{pattern}") };
        let (directory, name) = pattern.rsplit_once('/').unwrap_or(("", &pattern));
        let matches = |candidate: &String| match name.split_once('*') {
            None => candidate == name,
            Some((prefix, suffix)) => candidate.starts_with(prefix) && candidate.ends_with(suffix),
        };
        let mut names = self.root.names(directory);
        names.retain(matches);
        names.sort_unstable();
        for name in names {
            self.file(&format!("{directory}/{name}"), depth + 1);
        }
    }
}

/// Libraries and paths of `/etc/ld.so.cache`, format `glibc-ld.so.cache1.1`, in the order of the file; empty
/// if it is in another format. Entries for other architectures are sorted out later, by reading the files
/// themselves.
fn parse_cache(bytes: &[u8]) -> BTreeMap<String, Vec<String>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let Some(start) = bytes.windows(MAGIC.len()).position(|w| w == MAGIC) else { return all };
    let cache = &bytes[start..];
    // Flags at 28 state the byte order: 2 little, 3 big; old files have 0 and the byte order of their
    // machine.
    let big = cache.get(28).is_some_and(|flags| flags & 3 == 3);
    let number = |at: usize| -> Option<usize> {
        let four: [u8; 4] = cache.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) } as usize)
    };
    let string = |at: usize| -> Option<String> {
        let rest = cache.get(at..)?;
        let end = rest.iter().take(4096).position(|b| *b == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    let count = number(20).unwrap_or(0).min(cache.len() / 24);
    // A library's name is the end of its path, so each string is used twice at most. Hostile entries share
    // long strings.
    let mut room = cache.len() * 2;
    for i in 0..count {
        // flags, key, value, os version, hwcap (8 bytes): 24 bytes; the header has 48.
        let at = 48 + i * 24;
        let (Some(key), Some(value)) = (number(at + 4).and_then(string), number(at + 8).and_then(string))
        else {
            break;
        };
        let Some(rest) = room.checked_sub(key.len() + value.len()) else { break };
        room = rest;
        // Entries for better CPUs (glibc-hwcaps) are left out: not every CPU can use them.
        let hwcap_is_plain = cache.get(at + 16..at + 24).is_some_and(|h| h.iter().all(|b| *b == 0));
        if hwcap_is_plain {
            all.entry(key).or_default().push(value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine, sample};
    use std::collections::HashMap;

    struct Fake(HashMap<String, Vec<u8>>);

    impl Root for Fake {
        fn open(&self, path: &str) -> Option<Box<dyn ReadAt>> {
            struct Bytes(Vec<u8>);
            impl ReadAt for Bytes {
                fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
                    self.0[..].read_exact_at(buffer, offset)
                }
            }
            Some(Box::new(Bytes(self.0.get(path)?.clone())))
        }
        fn text(&self, path: &str) -> Option<Vec<u8>> {
            self.0.get(path).cloned()
        }
        fn names(&self, directory: &str) -> Vec<String> {
            let prefix = format!("{directory}/");
            self.0.keys().filter_map(|k| k.strip_prefix(&prefix)).map(str::to_string).collect()
        }
    }

    fn program(needed: &[&str]) -> Elf {
        let bytes = sample::with_interpreter(machine::AARCH64, "/lib/ld-linux-aarch64.so.1");
        let elf = Elf::read(&bytes[..]).expect("valid");
        Elf { needed: needed.iter().map(|n| n.to_string()).collect(), ..elf }
    }

    #[test]
    fn libraries_of_the_wrong_architecture_are_passed_over() {
        let right = sample::with_interpreter(machine::AARCH64, "x");
        let wrong = sample::with_interpreter(machine::X86_64, "x");
        let root = Fake(HashMap::from([
            ("/etc/ld.so.conf".to_string(), b"include /etc/ld.so.conf.d/*.conf\n".to_vec()),
            ("/etc/ld.so.conf.d/a.conf".to_string(), b"# x\n/opt/a\n/opt/b\n".to_vec()),
            ("/opt/a/liba.so".to_string(), wrong),
            ("/opt/b/liba.so".to_string(), right.clone()),
            ("/app/lib/libo.so".to_string(), right),
        ]));
        let mut elf = program(&["liba.so", "libo.so", "libmissing.so"]);
        elf.runpath = Some("$ORIGIN/lib".into());
        let result = resolve(&root, "/app/p", &elf, &[]);
        let paths: Vec<Option<&str>> = result.libraries.iter().map(|l| l.path.as_deref()).collect();
        assert_eq!(paths, [Some("/opt/b/liba.so"), Some("/app/lib/libo.so"), None]);
        assert_eq!(result.interpreter, Some(("/lib/ld-linux-aarch64.so.1".into(), false)));
    }

    #[test]
    fn configurations_that_include_themselves_are_read_once() {
        let root = Fake(HashMap::from([
            ("/etc/ld.so.conf".to_string(), b"/opt/a\ninclude ld.so.conf\ninclude *.conf\n".repeat(50)),
            ("/etc/b.conf".to_string(), b"include /etc/*.conf\n/opt/b\n".repeat(50)),
        ]));
        let mut directories = Configuration::read(&root, "/etc/ld.so.conf");
        directories.dedup();
        assert_eq!(directories, ["/opt/a", "/opt/b", "/opt/a"]);
    }

    #[test]
    fn hostile_search_paths_end() {
        let names: Vec<String> = (0..LIBRARIES_MAX).map(|n| format!("lib{n}.so")).collect();
        let mut elf = program(&names.iter().map(String::as_str).collect::<Vec<_>>());
        elf.runpath = Some("/a:".repeat(10_000));
        let result = resolve(&Fake(HashMap::new()), "/p", &elf, &[]);
        assert_eq!(result.libraries.len(), LIBRARIES_MAX);
        assert!(result.libraries.iter().all(|library| library.path.is_none()));
    }

    #[test]
    fn entries_of_a_cache_that_share_long_strings_are_bounded() {
        let mut cache = b"glibc-ld.so.cache1.1".to_vec();
        cache.extend(1000u32.to_le_bytes());
        cache.resize(48, 0);
        let strings = 48 + 1000 * 24_u32;
        for _ in 0..1000 {
            cache.extend([0u32, strings, strings, 0, 0, 0].iter().flat_map(|field| field.to_le_bytes()));
        }
        cache.extend(b"x".repeat(4000));
        cache.push(0);
        let kept: usize = parse_cache(&cache).values().flatten().map(String::len).sum();
        assert!(0 < kept && kept <= cache.len(), "{kept} bytes of {}", cache.len());
    }

    #[test]
    fn damaged_caches_are_survived() {
        let mut cache = b"glibc-ld.so.cache1.1".to_vec();
        cache.extend(2u32.to_le_bytes());
        cache.extend([0xff; 80]);
        parse_cache(&cache);
        assert!(parse_cache(b"glibc-ld.so.cache1.1").is_empty());
    }
}
