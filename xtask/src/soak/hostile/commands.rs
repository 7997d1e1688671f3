//! The commands that are killed and that crowd a store.

use anyhow::Result;

use super::random::Random;
use super::world::World;

/// A command line, the commands before it, and the errors it may have when others were faster or it was
/// killed before.
pub struct Line {
    pub args: Vec<String>,
    /// Commands that create what the command needs.
    pub before: Vec<Vec<String>>,
    /// Parts of the messages of allowed errors.
    pub may_fail: &'static [&'static str],
}

pub const KINDS: &[&str] = &[
    "pull",
    "build",
    "build-push",
    "build-tar",
    "build-local",
    "push",
    "prune",
    "prune-all",
    "load-docker",
    "load-oci",
    "save",
    "rmi",
    "tag",
    "create",
    "annotate",
    "manifest-push",
    "manifest-rm",
    "run",
    "copy",
];

/// Names that the commands share.
const NAMES: &[&str] = &["x", "y", "z"];

pub fn line(world: &World, kind: &'static str, random: &mut Random) -> Result<Line> {
    let name = random.of(NAMES).to_string();
    let number = random.below(1000);
    let context = world.file("context");
    let argument = format!("N={number}");
    let remote = world.name(&format!("{name}:{}", number % 3));
    let before = |words: &[&str]| vec![owned(words)];
    let tagged = || before(&["tag", "keep", &name]);
    let index = format!("index-{name}");
    let made = || before(&["manifest", "create", &index, "keep"]);
    let (args, before, may_fail): (Vec<String>, Vec<Vec<String>>, &'static [&'static str]) = match kind {
        "pull" => {
            // A pull of an existing image does nothing, so the image is removed first.
            let source = world.name(["keep:1", "base:1"][usize::from(random.below(2) == 0)]);
            let all = if random.below(2) == 0 { "--quiet" } else { "--no-unpack" };
            let gone = before(&["rmi", "--force", &source]);
            (owned(&["pull", all, &source]), gone, &[])
        }
        "build" => (owned(&["build", "-q", "-t", &name, "--build-arg", &argument, &context]), vec![], &[]),
        "build-push" => {
            let words = ["build", "-q", "--push", "-t", &remote, "--build-arg", &argument, &context];
            (owned(&words), vec![], &[])
        }
        "build-tar" => {
            let output = format!("type=oci,dest={}", world.file(&format!("{name}.out.tar")));
            (owned(&["build", "-q", "-o", &output, "--build-arg", &argument, &context]), vec![], &[])
        }
        "build-local" => {
            // No other command may write to the directory meanwhile.
            let output = format!("type=local,dest={}", world.file(&format!("{number}.out")));
            (owned(&["build", "-q", "-o", &output, "--build-arg", &argument, &context]), vec![], &[])
        }
        "push" => (owned(&["push", "-q", "keep", &remote]), vec![], &[]),
        "prune" => (owned(&["system", "prune", "--force"]), vec![], &[]),
        "prune-all" => (owned(&["system", "prune", "--all", "--force"]), vec![], &[]),
        "load-docker" => (owned(&["load", "-q", "-i", &world.file("app.docker.tar")]), vec![], &[]),
        "load-oci" => (owned(&["load", "-q", "-i", &world.file("app.oci.tar")]), vec![], &[]),
        "save" => {
            let format = ["oci", "docker"][usize::from(random.below(2) == 0)];
            let archive = world.file(&format!("{name}.{format}.tar"));
            (owned(&["save", "--format", format, "-o", &archive, "keep"]), vec![], &[])
        }
        "rmi" => (owned(&["rmi", &name]), tagged(), &["no image", "no index"]),
        "tag" => (owned(&["tag", "keep", &name]), vec![], &[]),
        "create" => (owned(&["manifest", "create", &index, "keep"]), vec![], &[]),
        "annotate" => {
            let note = format!("note={number}");
            let words = ["manifest", "annotate", "--annotation", &note, &index, "keep"];
            (owned(&words), made(), &["no image", "no index"])
        }
        "manifest-push" => {
            let target = world.name(&format!("index:{}", number % 3));
            (owned(&["manifest", "push", &index, &target]), made(), &["no image", "no index"])
        }
        "manifest-rm" => (owned(&["manifest", "rm", &index]), made(), &["no image", "no index"]),
        "run" => {
            let script = "cat /two; sleep 0.05; head -c 500000 /dev/urandom > /written; sleep 0.05";
            (owned(&["run", "--rm", "--network", "none", "keep", "sh", "-c", script]), vec![], &[])
        }
        _ => (owned(&["copy", "-q", &world.name("keep:1"), &remote]), vec![], &[]),
    };
    Ok(Line { args, before, may_fail })
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
