//! Actions: a command, its files, and the properties of its worker (REAPI, messages `Action`, `Command`,
//! `Directory`, `Platform`).

use std::collections::BTreeMap;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;

use crate::blobs::{Blob, Content};
use crate::digest::Digest;

/// The files of an action: paths without `.` and `..`, and what is there.
#[derive(Debug, Default)]
pub struct InputRoot {
    files: BTreeMap<String, (Digest, bool)>,
    blobs: Vec<Blob>,
}

impl InputRoot {
    /// Adds a file.
    pub fn file(&mut self, path: impl Into<String>, blob: Blob, is_executable: bool) {
        self.files.insert(path.into(), (blob.digest.clone(), is_executable));
        self.blobs.push(blob);
    }

    /// The digest of the root directory, after which the directories are among the blobs.
    fn finish(&mut self) -> Digest {
        let files: Vec<Below<'_>> = self.files.iter().map(|(path, file)| (path.as_str(), file)).collect();
        let mut directories = Vec::new();
        let root = directory(&files, &mut directories);
        self.blobs.extend(directories);
        root
    }
}

/// A file below a directory: its path from there, its content, and whether it is executable.
type Below<'a> = (&'a str, &'a (Digest, bool));

/// Makes a directory of the files below it, whose paths are in order, and puts its message and those of its
/// directories into `blobs`. Entries must be in the order of their names (REAPI, message `Directory`).
fn directory(files: &[Below<'_>], blobs: &mut Vec<Blob>) -> Digest {
    let mut message = reapi::Directory::default();
    let mut below: BTreeMap<&str, Vec<Below<'_>>> = BTreeMap::new();
    for (path, file) in files {
        match path.split_once('/') {
            Some((name, rest)) => below.entry(name).or_default().push((rest, file)),
            None => message.files.push(reapi::FileNode {
                name: (*path).to_string(),
                digest: Some(file.0.to_message()),
                is_executable: file.1,
                node_properties: None,
            }),
        }
    }
    for (name, files) in below {
        let digest = Some(directory(&files, blobs).to_message());
        message.directories.push(reapi::DirectoryNode { name: name.to_string(), digest });
    }
    let (digest, bytes) = Digest::of_message(&message);
    blobs.push(Blob { digest: digest.clone(), content: Content::Bytes(bytes) });
    digest
}

/// What is executed.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// Program and arguments; the program is relative to the input root.
    pub arguments: Vec<String>,
    /// Files that it may write, relative to the input root.
    pub outputs: Vec<String>,
    /// Properties of the worker, `NAME` and `VALUE`.
    pub properties: Vec<(String, String)>,
}

/// An action, ready to be sent.
#[derive(Debug)]
pub struct Action {
    /// Its name.
    pub digest: Digest,
    /// Everything that the server must have.
    pub blobs: Vec<Blob>,
}

impl Action {
    /// An action of a command and its files.
    pub fn new(command: &Command, mut root: InputRoot) -> Action {
        let input_root_digest = root.finish();
        // The properties are in order, so that one action has one digest.
        let mut properties: Vec<reapi::platform::Property> = command
            .properties
            .iter()
            .map(|(name, value)| reapi::platform::Property { name: name.clone(), value: value.clone() })
            .collect();
        properties.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
        let platform = (!properties.is_empty()).then_some(reapi::Platform { properties });
        let mut outputs = command.outputs.clone();
        outputs.sort();
        #[expect(deprecated, reason = "servers of API 2.0 know only these fields")]
        let message = reapi::Command {
            arguments: command.arguments.clone(),
            output_files: outputs.clone(),
            output_paths: outputs,
            platform: platform.clone(),
            ..reapi::Command::default()
        };
        let (command_digest, command) = Digest::of_message(&message);
        let action = reapi::Action {
            command_digest: Some(command_digest.to_message()),
            input_root_digest: Some(input_root_digest.to_message()),
            platform,
            ..reapi::Action::default()
        };
        let (digest, action) = Digest::of_message(&action);
        let mut blobs = root.blobs;
        blobs.push(Blob { digest: command_digest, content: Content::Bytes(command) });
        blobs.push(Blob { digest: digest.clone(), content: Content::Bytes(action) });
        Action { digest, blobs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn directories_are_in_order() {
        let mut root = InputRoot::default();
        for path in ["b", "a/y", "a/x", "c/d/e"] {
            root.file(path, Blob::of(path.as_bytes().to_vec()), path == "b");
        }
        let digest = root.finish();
        let read = |digest: &Digest| {
            let blob = root.blobs.iter().find(|blob| blob.digest == *digest).expect("it is among the blobs");
            let Content::Bytes(bytes) = &blob.content else { panic!("messages are in memory") };
            reapi::Directory::decode(bytes.as_slice()).expect("a directory")
        };
        let top = read(&digest);
        assert!(top.files.len() == 1 && top.files[0].name == "b" && top.files[0].is_executable);
        let names: Vec<&str> = top.directories.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        let a = top.directories[0].digest.as_ref().and_then(Digest::from_message).expect("a digest");
        let names: Vec<String> = read(&a).files.into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["x", "y"]);
    }

    #[test]
    fn properties_have_one_order() {
        let action = |properties: &[(&str, &str)]| {
            let properties = properties.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            let command =
                Command { arguments: vec!["true".into()], outputs: vec!["layer".into()], properties };
            Action::new(&command, InputRoot::default()).digest
        };
        let one = action(&[("ISA", "aarch64"), ("OSFamily", "linux")]);
        assert_eq!(one, action(&[("OSFamily", "linux"), ("ISA", "aarch64")]));
        assert_ne!(one, action(&[("ISA", "x86-64"), ("OSFamily", "linux")]));
        assert_ne!(one, action(&[]));
    }
}
