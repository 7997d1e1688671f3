//! Files of Compose as definitions: each service with a `build` is a target, and `x-bake` in it has what
//! Compose has no words for.
//!
//! Sources: the Compose file reference, chapters "services", "build", "include", "extends" and "secrets"; and
//! "Building with Bake from a Compose file" of buildx.

mod dotenv;
mod interpolate;
mod merge;
mod service;
mod yaml;

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use self::interpolate::Variables;
use self::merge::{bring_to_form, merge, settle};
use crate::definitions::Defined;
use crate::error::{BakeError, Result, SourceFile};

/// Most files that include or extend each other, and most services that extend each other.
const DEPTH_MAX: usize = 20;

/// What files of Compose take from where they are.
pub struct Surroundings<'a> {
    /// The file `.env`.
    pub dotenv: Option<&'a SourceFile>,
    /// Variables of the environment, which count more than those of `.env`.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Reads another file, by its path.
    pub read: &'a dyn Fn(&str) -> std::result::Result<String, String>,
}

/// What files of Compose define.
pub struct Composed {
    /// Targets by name, all of which belong to the group `default`.
    pub targets: BTreeMap<String, Defined>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Whether a file is one of Compose: by its name, else by what it holds.
pub fn is_compose(file: &SourceFile) -> bool {
    let name = file.name.to_lowercase();
    if name.ends_with(".yml") || name.ends_with(".yaml") {
        return true;
    }
    let is_other = name.ends_with(".json") || name.ends_with(".hcl");
    !is_other && yaml::read(&file.text).is_ok_and(|value| value.get("services").is_some())
}

/// The targets of files of Compose, the later files laid over the earlier ones.
///
/// # Errors
///
/// A file that is no YAML, with the line; services that make no targets, with their names.
pub fn compose(files: &[&SourceFile], around: &Surroundings<'_>) -> Result<Composed> {
    let loader = Loader::new(around)?;
    let mut all = Value::Object(Map::new());
    for file in files {
        let loaded = loader.load(file, "", &mut Vec::new())?;
        merge(&mut all, loaded, "").map_err(|error| whole(file, error))?;
    }
    settle(&mut all);
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let names = SourceFile { name: names.join(", "), text: String::new() };
    let mut targets = BTreeMap::new();
    for (name, service) in all.get("services").and_then(Value::as_object).into_iter().flatten() {
        let wrong = |error: String| whole(&names, format!("services.{name}: {error}"));
        let target = service::target(service, &all["secrets"], &|name| loader.value(name)).map_err(wrong)?;
        if let Some(target) = target {
            targets.insert(service::target_name(name), Defined { target, inherits: Vec::new() });
        }
    }
    Ok(Composed { targets, warnings: loader.missing.take().into_iter().map(missing).collect() })
}

fn missing(name: String) -> String {
    format!("the variable {name} of a Compose file is not set, and stands for an empty text")
}

fn whole(file: &SourceFile, message: String) -> BakeError {
    BakeError::File { file: file.name.clone(), message }
}

fn at_line(file: &SourceFile, (line, message): (usize, String)) -> BakeError {
    BakeError::At { file: file.name.clone(), line: line.max(1), column: 1, message }
}

struct Loader<'a> {
    around: &'a Surroundings<'a>,
    /// Variables of `.env`.
    variables: BTreeMap<String, String>,
    missing: RefCell<Vec<String>>,
}

impl Variables for Loader<'_> {
    fn value(&self, name: &str) -> Option<String> {
        (self.around.environment)(name).or_else(|| self.variables.get(name).cloned())
    }

    fn is_missing(&self, name: &str) {
        let mut missing = self.missing.borrow_mut();
        if !missing.iter().any(|known| known == name) {
            missing.push(name.to_string());
        }
    }
}

impl<'a> Loader<'a> {
    fn new(around: &'a Surroundings<'a>) -> Result<Loader<'a>> {
        let variables = match around.dotenv {
            Some(file) => {
                dotenv::read(&file.text, around.environment).map_err(|error| at_line(file, error))?
            }
            None => BTreeMap::new(),
        };
        Ok(Loader { around, variables, missing: RefCell::default() })
    }

    /// Reads a file, with what it includes and what its services extend. Paths in it become relative to
    /// where `directory` is. `path` are the files that led here.
    fn load(&self, file: &SourceFile, directory: &str, path: &mut Vec<String>) -> Result<Value> {
        if path.len() == DEPTH_MAX || path.contains(&file.name) {
            return Err(whole(file, format!("files include or extend each other: {}", path.join(", "))));
        }
        path.push(file.name.clone());
        let mut value = yaml::read(&file.text).map_err(|error| at_line(file, error))?;
        interpolate::interpolate(&mut value, "", self).map_err(|error| whole(file, error))?;
        let Value::Object(map) = &mut value else {
            return Err(whole(file, "it is no map with services".to_string()));
        };
        if !map.contains_key("services") && !map.contains_key("include") {
            return Err(whole(file, "it has no services".to_string()));
        }
        let included = map.remove("include");
        self.services(file, map, directory, path)?;
        if let Some(included) = included {
            let mut base = Value::Object(Map::new());
            for name in included_files(&included).map_err(|error| whole(file, error))? {
                let (other, directory) = self.other(file, &name, directory)?;
                let loaded = self.load(&other, &directory, path)?;
                merge(&mut base, loaded, "").map_err(|error| whole(&other, error))?;
            }
            merge(&mut base, value, "").map_err(|error| whole(file, error))?;
            value = base;
        }
        path.pop();
        Ok(value)
    }

    /// Brings the services of a file to one form, with what they extend.
    fn services(
        &self,
        file: &SourceFile,
        map: &mut Map<String, Value>,
        directory: &str,
        path: &mut Vec<String>,
    ) -> Result<()> {
        if let Some(Value::Object(secrets)) = map.get_mut("secrets") {
            secrets.values_mut().for_each(|secret| join_path(secret, "file", directory));
        }
        let Some(Value::Object(services)) = map.get_mut("services") else { return Ok(()) };
        for (name, service) in services.iter_mut() {
            let wrong = |error: &str| whole(file, format!("services.{name}: {error}"));
            let is_part = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            if name.is_empty() || !name.bytes().all(is_part) {
                return Err(wrong("names of services have letters, digits, \"_\", \"-\" and \".\""));
            }
            if service.is_null() {
                *service = Value::Object(Map::new());
            }
            let Value::Object(service) = service else { return Err(wrong("it is no map")) };
            bring_to_form(service).map_err(|error| wrong(&error))?;
            paths(service, directory);
        }
        let names: Vec<String> = services.keys().cloned().collect();
        for name in names {
            let extended = self.extended(file, services, &name, directory, &mut Vec::new(), path)?;
            services.insert(name, extended);
        }
        Ok(())
    }

    /// A service laid over the one that it extends. `chain` are the services that led here.
    fn extended(
        &self,
        file: &SourceFile,
        services: &Map<String, Value>,
        name: &str,
        directory: &str,
        chain: &mut Vec<String>,
        path: &mut Vec<String>,
    ) -> Result<Value> {
        let wrong = |error: String| whole(file, format!("services.{name}: {error}"));
        if chain.len() == DEPTH_MAX || chain.iter().any(|above| above == name) {
            return Err(wrong(format!("services extend each other: {}", chain.join(", "))));
        }
        let mut own =
            services.get(name).cloned().ok_or_else(|| wrong("there is no such service".to_string()))?;
        let Some(extends) = own.as_object_mut().and_then(|own| own.remove("extends")) else { return Ok(own) };
        let (other, base) = match &extends {
            Value::String(base) => (None, base.as_str()),
            Value::Object(map) => (
                map.get("file").and_then(Value::as_str),
                map.get("service").and_then(Value::as_str).unwrap_or(name),
            ),
            _ => {
                return Err(wrong(
                    "extends: it is the name of a service, or a map of file and service".to_string(),
                ));
            }
        };
        let mut base = match other {
            None => {
                chain.push(name.to_string());
                let base = self.extended(file, services, base, directory, chain, path)?;
                chain.pop();
                base
            }
            Some(other) => {
                let (other, directory) = self.other(file, other, directory)?;
                let loaded = self.load(&other, &directory, path)?;
                let found = loaded["services"].get(base).cloned();
                found.ok_or_else(|| wrong(format!("extends: {} has no service {base}", other.name)))?
            }
        };
        merge(&mut base, own, &format!("services.{name}")).map_err(|error| whole(file, error))?;
        Ok(base)
    }

    /// Another file that a file names, and the directory that its paths are relative to.
    fn other(&self, file: &SourceFile, name: &str, directory: &str) -> Result<(SourceFile, String)> {
        let name = joined(directory, name);
        let text = (self.around.read)(&name).map_err(|error| whole(file, error))?;
        let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory).to_string();
        let directory =
            if directory.is_empty() && name.starts_with('/') { "/".to_string() } else { directory };
        Ok((SourceFile { name, text }, directory))
    }
}

/// The files that `include` names.
fn included_files(value: &Value) -> std::result::Result<Vec<String>, String> {
    let wrong = || "include: it is a list of paths, or of maps with a path".to_string();
    let text = |value: &Value| value.as_str().map(str::to_string).ok_or_else(wrong);
    let mut names = Vec::new();
    for entry in value.as_array().ok_or_else(wrong)? {
        match entry.get("path").unwrap_or(entry) {
            Value::Array(paths) => {
                for path in paths {
                    names.push(text(path)?);
                }
            }
            path => names.push(text(path)?),
        }
    }
    Ok(names)
}

/// A path that is relative to a directory; an address or an absolute path stays as it is.
fn joined(directory: &str, path: &str) -> String {
    let is_whole = path.starts_with(['/', '~']) || path.contains("://") || path.starts_with("git@");
    match directory {
        "" => path.to_string(),
        _ if is_whole => path.to_string(),
        directory => crossdock_dockerfile::ignore::clean(&format!("{directory}/{path}")),
    }
}

fn join_path(value: &mut Value, key: &str, directory: &str) {
    if let Some(Value::String(path)) = value.get_mut(key) {
        *path = joined(directory, path);
    }
}

/// Makes the paths of a service relative to where `directory` is.
fn paths(service: &mut Map<String, Value>, directory: &str) {
    let Some(Value::Object(build)) = service.get_mut("build") else { return };
    if directory.is_empty() {
        return;
    }
    build.entry("context").or_insert_with(|| Value::from("."));
    if let Some(Value::String(context)) = build.get_mut("context") {
        *context = joined(directory, context);
    }
    if let Some(Value::Object(contexts)) = build.get_mut("additional_contexts") {
        for context in contexts.values_mut() {
            let Value::String(path) = context else { continue };
            if !path.starts_with("service:") && !path.starts_with("target:") {
                *path = joined(directory, path);
            }
        }
    }
}
