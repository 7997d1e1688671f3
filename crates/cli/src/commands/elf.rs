//! file and ldd.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_builder::files::tree::Tree;
use crossdock_elf::ldd::{Root, resolve};
use crossdock_elf::{Elf, ElfError, ReadAt, describe::describe};
use rustix::fs::OFlags;

use super::root::ImageRoot;
use crate::output::print;
use crate::session::Session;
use crate::values;

#[derive(clap::Args)]
pub struct FileArgs {
    /// Files; paths in the image with --image
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Look in this image
    #[arg(long)]
    pub image: Option<String>,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Do not print the names
    #[arg(short, long)]
    pub brief: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct LddArgs {
    /// The program; a path in the image with --image
    pub path: String,
    /// Look in this image
    #[arg(long)]
    pub image: Option<String>,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Look in this directory as the root
    #[arg(long, value_name = "DIR", conflicts_with = "image")]
    pub sysroot: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// The root in which paths are looked up: this machine's, a directory, or an image.
struct Place(Where);

enum Where {
    Directory(Tree),
    Image(Box<ImageRoot>),
}

impl Place {
    fn new(
        session: &Session,
        image: Option<&String>,
        platform: Option<&String>,
        sysroot: Option<&Path>,
    ) -> Result<Place> {
        let Some(image) = image else {
            if platform.is_some() {
                bail!("--platform belongs to --image");
            }
            let root = sysroot.unwrap_or(Path::new("/"));
            let tree =
                Tree::open(root, Default::default()).with_context(|| format!("open {}", root.display()))?;
            return Ok(Place(Where::Directory(tree)));
        };
        let store = session.store()?;
        let image = ImageRoot::open(session, &store, image, values::platform(platform)?)?;
        Ok(Place(Where::Image(Box::new(image))))
    }

    fn tree(&self) -> &Tree {
        match &self.0 {
            Where::Directory(tree) => tree,
            Where::Image(image) => &image.tree,
        }
    }

    fn file(&self, path: &str) -> std::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.tree().open_at(path, flags)?);
        Ok(file)
    }
}

impl Root for Place {
    fn open(&self, path: &str) -> Option<Box<dyn ReadAt>> {
        let file = self.file(path).ok()?;
        file.metadata().ok()?.is_file().then(|| Box::new(file) as Box<dyn ReadAt>)
    }

    fn text(&self, path: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(path).ok()?.take(16 << 20).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn names(&self, directory: &str) -> Vec<String> {
        // Names of libraries are text, since other files contain them.
        let names = self.tree().names(directory.as_bytes()).unwrap_or_default();
        names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect()
    }
}

/// Makes a relative path absolute, unless it is a path in an image.
fn absolute(path: &str, in_image: bool) -> Result<String> {
    if in_image || path.starts_with('/') {
        return Ok(path.to_string());
    }
    let absolute = std::path::absolute(path).with_context(|| path.to_string())?;
    Ok(absolute.to_string_lossy().into_owned())
}

pub fn file(session: &Session, args: FileArgs) -> Result<u8> {
    let place = Place::new(session, args.image.as_ref(), args.platform.as_ref(), None)?;
    let mut failed = false;
    let mut json = Vec::new();
    for path in &args.paths {
        let described = describe_path(&place, &absolute(path, args.image.is_some())?);
        let (text, elf) = match described {
            Ok((text, elf)) => (text, elf),
            Err(error) => {
                failed = true;
                (format!("cannot open: {error}"), None)
            }
        };
        if args.json {
            json.push(json_of(path, &text, elf.as_ref()));
        } else if args.brief {
            print(&text);
        } else {
            print(&format!("{path}: {text}"));
        }
    }
    if args.json {
        print(&serde_json::to_string_pretty(&json)?);
    }
    Ok(u8::from(failed))
}

fn describe_path(place: &Place, path: &str) -> std::io::Result<(String, Option<Elf>)> {
    let file = place.file(path)?;
    let kind = file.metadata()?;
    if kind.is_dir() {
        return Ok(("directory".to_string(), None));
    }
    if !kind.is_file() {
        return Ok(("special file".to_string(), None));
    }
    match Elf::read(&file) {
        Ok(elf) => {
            let mut text = describe(&elf);
            // The calling convention of 32-bit Arm matters for images, but file(1) does not show it.
            if let Some(float) = elf.float_abi {
                let float = if float == crossdock_elf::FloatAbi::Hard { "hard-float" } else { "soft-float" };
                text = format!("{text} [{float} ABI]");
            }
            if let Some(platform) = elf.platform() {
                text = format!("{text} [{platform}]");
            }
            Ok((text, Some(elf)))
        }
        Err(ElfError::NotElf) => Ok((other_kind(&file), None)),
        Err(ElfError::Io(error)) => Err(error),
        Err(error) => Ok((error.to_string(), None)),
    }
}

/// Describes a file that is not ELF: a script with its interpreter, empty, or data.
fn other_kind(file: &File) -> String {
    let mut head = [0; 256];
    let n = std::os::unix::fs::FileExt::read_at(file, &mut head, 0).unwrap_or(0);
    match head[..n].strip_prefix(b"#!") {
        Some(rest) => {
            let line = rest.split(|b| *b == b'\n').next().unwrap_or_default();
            format!("script, interpreter {}", String::from_utf8_lossy(line).trim())
        }
        None if n == 0 => "empty".to_string(),
        None => "data (not an ELF file)".to_string(),
    }
}

fn json_of(path: &str, text: &str, elf: Option<&Elf>) -> serde_json::Value {
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    serde_json::json!({
        "path": path,
        "description": text,
        "elf": elf.map(|elf| serde_json::json!({
            "bits": if elf.class == crossdock_elf::Class::Elf64 { 64 } else { 32 },
            "littleEndian": elf.little_endian,
            "machine": elf.machine,
            "platform": elf.platform().map(|p| p.to_string()),
            "type": format!("{:?}", elf.kind),
            "pie": elf.is_pie,
            "floatAbi": elf.float_abi.map(|f| format!("{f:?}").to_lowercase()),
            "armVersion": elf.arm_version,
            "interpreter": elf.interpreter,
            "needed": elf.needed,
            "soname": elf.soname,
            "rpath": elf.rpath,
            "runpath": elf.runpath,
            "buildId": elf.build_id.as_ref().map(hex),
            "stripped": !elf.has_symbols,
        })),
    })
}

pub fn ldd(session: &Session, args: LddArgs) -> Result<u8> {
    let place = Place::new(session, args.image.as_ref(), args.platform.as_ref(), args.sysroot.as_deref())?;
    let inside = args.image.is_some() || args.sysroot.is_some();
    let path = absolute(&args.path, inside)?;
    let file = place.file(&path).with_context(|| format!("open {path}"))?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        bail!("{path}: not a regular file");
    }
    let elf = Elf::read(&file).with_context(|| path.clone())?;
    if !elf.is_dynamic {
        if args.json {
            print(&serde_json::json!({"interpreter": null, "libraries": []}).to_string());
        } else {
            print("\tstatically linked");
        }
        return Ok(0);
    }
    let library_path = match inside {
        true => Vec::new(),
        false => std::env::var("LD_LIBRARY_PATH")
            .map(|v| v.split(':').filter(|d| !d.is_empty()).map(str::to_string).collect())
            .unwrap_or_default(),
    };
    let resolution = resolve(&place, &path, &elf, &library_path);
    let missing = resolution.libraries.iter().any(|l| l.path.is_none())
        || resolution.interpreter.as_ref().is_some_and(|(_, there)| !there);
    if args.json {
        let libraries: Vec<_> = resolution
            .libraries
            .iter()
            .map(|l| serde_json::json!({"name": l.name, "path": l.path, "neededBy": l.needed_by}))
            .collect();
        let interpreter =
            resolution.interpreter.map(|(path, there)| serde_json::json!({"path": path, "found": there}));
        print(&serde_json::to_string_pretty(
            &serde_json::json!({"interpreter": interpreter, "libraries": libraries}),
        )?);
        return Ok(u8::from(missing));
    }
    for library in &resolution.libraries {
        match &library.path {
            Some(path) => print(&format!("\t{} => {path}", library.name)),
            None => print(&format!("\t{} => not found (needed by {})", library.name, library.needed_by)),
        }
    }
    if let Some((interpreter, there)) = &resolution.interpreter {
        print(&format!(
            "\t{interpreter}{}",
            if *there { "" } else { " => not found (the program's loader)" }
        ));
    }
    Ok(u8::from(missing))
}
