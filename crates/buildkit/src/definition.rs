//! Definitions in LLB as graphs of the builder (moby/buildkit, solver/pb/ops.proto and
//! solver/llbsolver/vertex.go). Operations name their inputs by the digests of messages.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use bollard_buildkit_proto::pb;
use crossdock_builder::devices::DeviceRequest;
use crossdock_builder::llb::{
    Action, Copy, Edge, Exec, File, Graph, Id, Kind, Mount, MountKind, Op, Owner, SecretVariable, Source,
};
use crossdock_dockerfile::Lines;
use crossdock_oci::Digest;
use crossdock_platform::Platform;
use crossdock_sandbox::Network;
use prost::Message;

use crate::results;

/// Brings the files of a source to this machine, or says where the builder finds them.
pub trait Sources {
    /// The source of an identifier (`docker-image://...`) with its attributes.
    ///
    /// # Errors
    ///
    /// The source cannot be had, or is of a kind that nobody knows.
    fn source(&self, source: &pb::SourceOp, platform: &Platform) -> Result<Source>;

    /// The result of the definition that is in a file of another definition's result.
    ///
    /// # Errors
    ///
    /// The file is not there or is no definition; one of the two cannot be solved.
    fn build(&self, outer: &pb::Definition, file: &str) -> Result<Source>;
}

/// The input of a `BuildOp` that has the definition.
const INNER: &str = "buildkit.llb.definition";

/// The attribute that names the file of the definition; without it, the file has the name of the input.
const INNER_FILE: &str = "llbfilename";

/// Makes a graph of a definition. Operations without a platform are for `platform`.
///
/// # Errors
///
/// The definition is not whole, or wants something that this builder does not do; the message names it.
pub fn graph(definition: &pb::Definition, platform: &Platform, sources: &dyn Sources) -> Result<Graph> {
    let Some(last) = definition.def.last() else { return Ok(Graph::default()) };
    let mut ops = HashMap::new();
    for bytes in &definition.def {
        let op = pb::Op::decode(&bytes[..]).context("an operation of the definition cannot be read")?;
        ops.insert(Digest::of(bytes).to_string(), op);
    }
    let last = &ops[&Digest::of(last).to_string()];
    ensure!(last.op.is_none(), "the last operation of a definition must only name the result");
    let mut making =
        Making { ops: &ops, definition, platform, sources, graph: Graph::default(), edges: HashMap::new() };
    for digest in in_order(&ops, last)? {
        making.add(digest).with_context(|| format!("operation {}", making.name(digest)))?;
    }
    making.graph.result = match last.inputs.first().filter(|input| !input.digest.is_empty()) {
        Some(input) => Some(making.edge(input)?),
        None => None,
    };
    Ok(making.graph)
}

/// The operations that lead to the last one, each after those that it uses.
fn in_order<'a>(ops: &'a HashMap<String, pb::Op>, last: &'a pb::Op) -> Result<Vec<&'a str>> {
    let mut order = Vec::new();
    // Whether an operation is complete; one that is met again before that uses itself.
    let mut met: HashMap<&str, bool> = HashMap::new();
    let inputs = |op: &'a pb::Op| op.inputs.iter().rev().map(|input| (input.digest.as_str(), false));
    let mut open: Vec<(&str, bool)> = inputs(last).filter(|(digest, _)| !digest.is_empty()).collect();
    while let Some((digest, is_left)) = open.pop() {
        if is_left {
            met.insert(digest, true);
            order.push(digest);
            continue;
        }
        match met.get(digest) {
            Some(true) => continue,
            Some(false) => bail!("the operation {digest} of the definition uses itself"),
            None => {}
        }
        let op = ops.get(digest).with_context(|| format!("the definition lacks the operation {digest}"))?;
        met.insert(digest, false);
        open.push((digest, true));
        // An input that waits in the list, too, is met there when it is complete.
        open.extend(inputs(op).filter(|(input, _)| met.get(input) != Some(&true)));
    }
    Ok(order)
}

/// A graph that is being made.
struct Making<'a> {
    ops: &'a HashMap<String, pb::Op>,
    definition: &'a pb::Definition,
    platform: &'a Platform,
    sources: &'a dyn Sources,
    graph: Graph,
    /// The outputs of each operation. If there are none, they are those of the graph's operation.
    edges: HashMap<String, (usize, Option<BTreeMap<i64, Edge>>)>,
}

impl Making<'_> {
    fn edge(&self, input: &pb::Input) -> Result<Edge> {
        let missing = || format!("the definition lacks the operation {}", input.digest);
        let (op, outputs) = self.edges.get(&input.digest).with_context(missing)?;
        let what = || format!("{} has no output {}", self.name(&input.digest), input.index);
        match outputs {
            Some(outputs) => outputs.get(&input.index).copied().with_context(what),
            None => Ok(Edge { op: *op, output: usize::try_from(input.index).ok().with_context(what)? }),
        }
    }

    /// The input of a number; -1 is an empty tree.
    fn input(&self, op: &pb::Op, number: i64) -> Result<Option<Edge>> {
        if number == -1 {
            return Ok(None);
        }
        let input = usize::try_from(number).ok().and_then(|number| op.inputs.get(number));
        self.edge(input.with_context(|| format!("there is no input {number}"))?).map(Some)
    }

    /// Where the client's text says an operation.
    fn lines(&self, digest: &str) -> Option<Lines> {
        let locations = &self.definition.source.as_ref()?.locations.get(digest)?.locations;
        let ranges = || locations.iter().flat_map(|location| &location.ranges);
        let line = |place: &Option<pb::Position>| usize::try_from(place.as_ref()?.line).ok();
        let start = ranges().filter_map(|range| line(&range.start)).min()?;
        let end = ranges().filter_map(|range| line(&range.end)).max()?;
        Some(Lines { start, end: end.max(start) })
    }

    /// What people see: the client's words, or ours.
    fn name(&self, digest: &str) -> String {
        let metadata = self.definition.metadata.get(digest);
        let custom = metadata.and_then(|metadata| metadata.description.get("llb.customname"));
        match (custom, self.ops.get(digest)) {
            (Some(name), _) => name.clone(),
            (None, Some(op)) => shown(op),
            (None, None) => digest.to_string(),
        }
    }

    fn add(&mut self, digest: &str) -> Result<()> {
        let op = &self.ops[digest];
        let platform = match &op.platform {
            Some(platform) => results::platform_of(platform).context("its platform is none")?,
            None => self.platform.clone(),
        };
        let kind = match op.op.as_ref().context("it does nothing")? {
            pb::op::Op::Source(source) => Kind::Source(self.sources.source(source, &platform)?),
            pb::op::Op::Exec(exec) => Kind::Exec(Box::new(self.exec(op, exec)?)),
            pb::op::Op::File(file) => return self.file(digest, op, file, &platform),
            pb::op::Op::Merge(merge) => {
                let inputs = merge.inputs.iter().map(|input| self.input(op, input.input));
                Kind::Merge(inputs.collect::<Result<_>>()?)
            }
            pb::op::Op::Diff(diff) => Kind::Diff {
                lower: self.input(op, diff.lower.as_ref().map_or(-1, |lower| lower.input))?,
                upper: self.input(op, diff.upper.as_ref().map_or(-1, |upper| upper.input))?,
            },
            pb::op::Op::Build(build) => Kind::Source(self.build(op, build)?),
        };
        let index = self.push(digest, platform, kind);
        self.edges.insert(digest.to_string(), (index, None));
        Ok(())
    }

    /// Solves the definition in a file of an input. That comes before the operations of this definition.
    fn build(&self, op: &pb::Op, build: &pb::BuildOp) -> Result<Source> {
        // -1 is LLB itself; others would be images of frontends.
        ensure!(build.builder == -1, "a build inside of a definition (BuildOp) must be of LLB (builder -1)");
        let number = build.inputs.get(INNER).with_context(|| format!("it has no input {INNER}"))?.input;
        let input = usize::try_from(number).ok().and_then(|number| op.inputs.get(number));
        let input = input.with_context(|| format!("there is no input {number}"))?;
        let result = pb::Op { inputs: vec![input.clone()], ..pb::Op::default() };
        let needed: HashSet<&str> = in_order(self.ops, &result)?.into_iter().collect();
        let digests = self.definition.def.iter().map(|bytes| (Digest::of(bytes).to_string(), bytes));
        let mut def: Vec<Vec<u8>> = digests
            .filter(|(digest, _)| needed.contains(digest.as_str()))
            .map(|(_, bytes)| bytes.clone())
            .collect();
        def.push(result.encode_to_vec());
        let (metadata, source) = (self.definition.metadata.clone(), self.definition.source.clone());
        let outer = pb::Definition { def, metadata, source };
        self.sources.build(&outer, build.attrs.get(INNER_FILE).map_or(INNER, String::as_str))
    }

    fn push(&mut self, digest: &str, platform: Platform, kind: Kind) -> usize {
        let ignore_cache = self.definition.metadata.get(digest).is_some_and(|m| m.ignore_cache);
        let lines = self.lines(digest);
        self.graph.ops.push(Op { name: self.name(digest), platform, ignore_cache, lines, kind });
        self.graph.ops.len() - 1
    }

    fn exec(&self, op: &pb::Op, exec: &pb::ExecOp) -> Result<Exec> {
        let meta = exec.meta.clone().unwrap_or_default();
        let network = match pb::NetMode::try_from(exec.network) {
            Ok(pb::NetMode::Unset | pb::NetMode::Host) => Network::Host,
            Ok(pb::NetMode::None) => Network::None,
            Err(_) => bail!("unknown network mode {}", exec.network),
        };
        let insecure = match pb::SecurityMode::try_from(exec.security) {
            Ok(mode) => mode == pb::SecurityMode::Insecure,
            Err(_) => bail!("unknown security mode {}", exec.security),
        };
        let host = |host: &pb::HostIp| {
            let address = host.ip.parse().with_context(|| format!("{}: not an address", host.ip))?;
            Ok((host.host.clone(), address))
        };
        let limit = |limit: &pb::Ulimit| {
            let text = format!("{}={}:{}", limit.name, limit.soft, limit.hard);
            crossdock_delivery::limits::limit(&text)
        };
        let secret = |secret: &pb::SecretEnv| SecretVariable {
            id: secret.id.clone(),
            name: secret.name.clone(),
            is_optional: secret.optional,
        };
        let device = |device: &pb::CdiDevice| DeviceRequest {
            name: device.name.clone(),
            is_optional: device.optional,
        };
        let good = &meta.valid_exit_codes;
        Ok(Exec {
            proxies: meta.proxy_env.as_ref().map(proxies).unwrap_or_default(),
            secrets: exec.secretenv.iter().map(secret).collect(),
            network,
            insecure,
            hosts: meta.extra_hosts.iter().map(host).collect::<Result<_>>()?,
            limits: meta.ulimit.iter().map(limit).collect::<Result<_>>()?,
            exit_codes: if good.is_empty() { vec![0] } else { good.clone() },
            devices: exec.cdi_devices.iter().map(device).collect(),
            mounts: exec.mounts.iter().map(|mount| self.mount(op, mount)).collect::<Result<_>>()?,
            args: meta.args,
            env: meta.env,
            cwd: meta.cwd,
            user: meta.user,
            hostname: meta.hostname,
        })
    }

    fn mount(&self, op: &pb::Op, mount: &pb::Mount) -> Result<Mount> {
        let made = crate::mounts::mount(mount, |mount| self.input(op, mount.input))?;
        let is_cache = matches!(made.kind, MountKind::Cache { .. });
        ensure!(!is_cache || mount.output < 0, "a cache mount is no output: {}", mount.dest);
        Ok(made)
    }

    /// An operation on files. Its actions use each other's results; those that follow each other without a
    /// branch become one operation of the graph.
    fn file(&mut self, digest: &str, op: &pb::Op, file: &pb::FileOp, platform: &Platform) -> Result<()> {
        let mut uses = vec![0; file.actions.len()];
        for action in &file.actions {
            for used in references(action).into_iter().filter_map(|number| earlier(op, number)) {
                *uses.get_mut(used).context("an action uses one that is not there")? += 1;
            }
        }
        let mut places: Vec<Edge> = Vec::new();
        let mut outputs = BTreeMap::new();
        for (number, action) in file.actions.iter().enumerate() {
            let made = self.action(op, action, &places)?;
            let place = match earlier(op, action.input) {
                Some(before) if before >= number => bail!("an action uses one that does not come before it"),
                Some(before)
                    if uses[before] == 1
                        && file.actions[before].output < 0
                        && places[before].op + 1 == self.graph.ops.len()
                        && !made.inputs().contains(&places[before]) =>
                {
                    let place = places[before];
                    let Kind::File(File { actions, .. }) = &mut self.graph.ops[place.op].kind else {
                        unreachable!("actions are in operations on files")
                    };
                    actions.push(made);
                    place
                }
                _ => {
                    let base = self.tree(op, action.input, &places)?;
                    let kind = Kind::File(File { base, actions: vec![made] });
                    Edge { op: self.push(digest, platform.clone(), kind), output: 0 }
                }
            };
            places.push(place);
            if action.output >= 0 {
                outputs.insert(action.output, place);
            }
        }
        self.edges.insert(digest.to_string(), (self.graph.ops.len().saturating_sub(1), Some(outputs)));
        Ok(())
    }

    /// A tree that an action uses: an input of the operation, or what an earlier action made.
    fn tree(&self, op: &pb::Op, number: i64, places: &[Edge]) -> Result<Option<Edge>> {
        match earlier(op, number) {
            Some(action) => places
                .get(action)
                .copied()
                .map(Some)
                .context("an action uses one that does not come before it"),
            None => self.input(op, number),
        }
    }

    fn action(&self, op: &pb::Op, action: &pb::FileAction, places: &[Edge]) -> Result<Action> {
        let id = |opt: &Option<pb::UserOpt>| match opt.as_ref().and_then(|opt| opt.user.as_ref()) {
            None => Ok(None),
            Some(pb::user_opt::User::ById(number)) => Ok(Some(Id::Number(*number))),
            Some(pb::user_opt::User::ByName(named)) => Ok::<_, anyhow::Error>(Some(Id::Name(
                named.name.clone(),
                self.tree(op, named.input, places)?,
            ))),
        };
        let owner = |owner: &Option<pb::ChownOpt>| match owner {
            None => Ok(Owner::default()),
            Some(owner) => Ok::<_, anyhow::Error>(Owner { user: id(&owner.user)?, group: id(&owner.group)? }),
        };
        let time = |nanoseconds: i64| (nanoseconds != -1).then_some(nanoseconds);
        let mode = |mode: i32| mode as u32 & 0o7777;
        Ok(match action.action.as_ref().context("an action does nothing")? {
            pb::file_action::Action::Copy(copy) => {
                ensure!(copy.required_paths.is_empty(), "copies with required paths are not made");
                Action::Copy(Box::new(Copy {
                    from: self.tree(op, action.secondary_input, places)?,
                    source: copy.src.clone(),
                    destination: copy.dest.clone(),
                    owner: owner(&copy.owner)?,
                    mode: match (copy.mode_str.as_str(), copy.mode) {
                        ("", -1) => String::new(),
                        ("", number) => format!("{:o}", mode(number)),
                        (text, _) => text.to_string(),
                    },
                    follow: copy.follow_symlink,
                    is_content_only: copy.dir_copy_contents,
                    unpack: copy.attempt_unpack_docker_compatibility,
                    make_destination: copy.create_dest_path,
                    is_pattern: copy.allow_wildcard,
                    may_match_nothing: copy.allow_empty_wildcard,
                    include: copy.include_patterns.clone(),
                    exclude: copy.exclude_patterns.clone(),
                    replace: copy.always_replace_existing_dest_paths,
                    mtime: time(copy.timestamp),
                }))
            }
            pb::file_action::Action::Mkfile(file) => Action::MakeFile {
                path: file.path.clone(),
                mode: mode(file.mode),
                content: file.data.clone(),
                owner: owner(&file.owner)?,
                mtime: time(file.timestamp),
            },
            pb::file_action::Action::Mkdir(directory) => Action::MakeDirectory {
                path: directory.path.clone(),
                mode: mode(directory.mode),
                parents: directory.make_parents,
                owner: owner(&directory.owner)?,
                mtime: time(directory.timestamp),
            },
            pb::file_action::Action::Rm(rm) => Action::Remove {
                path: rm.path.clone(),
                may_be_missing: rm.allow_not_found,
                is_pattern: rm.allow_wildcard,
            },
            pb::file_action::Action::Symlink(link) => Action::Symlink {
                to: link.oldpath.clone(),
                path: link.newpath.clone(),
                owner: owner(&link.owner)?,
                mtime: time(link.timestamp),
            },
        })
    }
}

/// The earlier action of the same operation that a number means: they are counted after the inputs.
fn earlier(op: &pb::Op, number: i64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(op.inputs.len())
}

/// All numbers of inputs in an action.
fn references(action: &pb::FileAction) -> Vec<i64> {
    let owner = match &action.action {
        Some(pb::file_action::Action::Copy(copy)) => &copy.owner,
        Some(pb::file_action::Action::Mkfile(file)) => &file.owner,
        Some(pb::file_action::Action::Mkdir(directory)) => &directory.owner,
        Some(pb::file_action::Action::Symlink(link)) => &link.owner,
        Some(pb::file_action::Action::Rm(_)) | None => &None,
    };
    let ids = owner.iter().flat_map(|owner| [&owner.user, &owner.group]).flatten();
    let names = ids.filter_map(|id| match &id.user {
        Some(pb::user_opt::User::ByName(named)) => Some(named.input),
        _ => None,
    });
    let mut all = vec![action.input];
    if matches!(action.action, Some(pb::file_action::Action::Copy(_))) {
        all.push(action.secondary_input);
    }
    all.extend(names);
    all
}

/// `NAME=VALUE` in both spellings that programs read.
fn proxies(proxy: &pb::ProxyEnv) -> Vec<String> {
    let all = [
        ("HTTP_PROXY", &proxy.http_proxy),
        ("HTTPS_PROXY", &proxy.https_proxy),
        ("FTP_PROXY", &proxy.ftp_proxy),
        ("NO_PROXY", &proxy.no_proxy),
        ("ALL_PROXY", &proxy.all_proxy),
    ];
    let given = all.into_iter().filter(|(_, value)| !value.is_empty());
    given
        .flat_map(|(name, value)| {
            [format!("{name}={value}"), format!("{}={value}", name.to_ascii_lowercase())]
        })
        .collect()
}

/// An operation in a few words.
fn shown(op: &pb::Op) -> String {
    match &op.op {
        Some(pb::op::Op::Source(source)) => crossdock_builder::without_passwords(&source.identifier),
        Some(pb::op::Op::Exec(exec)) => {
            exec.meta.as_ref().map(|meta| meta.args.join(" ")).unwrap_or_default()
        }
        Some(pb::op::Op::File(file)) => {
            let words: Vec<String> = file.actions.iter().map(shown_action).collect();
            words.join(", ")
        }
        Some(pb::op::Op::Merge(_)) => "merge".to_string(),
        Some(pb::op::Op::Diff(_)) => "diff".to_string(),
        Some(pb::op::Op::Build(_)) => "build".to_string(),
        None => "result".to_string(),
    }
}

fn shown_action(action: &pb::FileAction) -> String {
    match &action.action {
        Some(pb::file_action::Action::Copy(copy)) => format!("copy {} {}", copy.src, copy.dest),
        Some(pb::file_action::Action::Mkfile(file)) => format!("mkfile {}", file.path),
        Some(pb::file_action::Action::Mkdir(directory)) => format!("mkdir {}", directory.path),
        Some(pb::file_action::Action::Rm(rm)) => format!("rm {}", rm.path),
        Some(pb::file_action::Action::Symlink(link)) => format!("symlink {} {}", link.newpath, link.oldpath),
        None => "nothing".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::file_action::Action as FileOpAction;

    /// Every source is an empty image under its own name.
    struct Named;

    impl Sources for Named {
        fn source(&self, source: &pb::SourceOp, _: &Platform) -> Result<Source> {
            let name = source.identifier.strip_prefix("docker-image://").context("no image")?;
            Ok(Source::Image { reference: name.parse()?, pull: false })
        }

        fn build(&self, outer: &pb::Definition, file: &str) -> Result<Source> {
            Ok(Source::Image { reference: format!("{file}:{}", outer.def.len()).parse()?, pull: false })
        }
    }

    /// A definition under way.
    #[derive(Default)]
    struct Draft(pb::Definition);

    impl Draft {
        fn add(&mut self, inputs: &[(&str, i64)], op: pb::op::Op) -> String {
            let input =
                |(digest, index): &(&str, i64)| pb::Input { digest: digest.to_string(), index: *index };
            let inputs = inputs.iter().map(input).collect();
            let bytes = pb::Op { inputs, op: Some(op), ..pb::Op::default() }.encode_to_vec();
            let digest = Digest::of(&bytes).to_string();
            self.0.def.push(bytes);
            digest
        }

        fn image(&mut self, name: &str) -> String {
            let identifier = format!("docker-image://{name}");
            let source = pb::SourceOp { identifier, ..pb::SourceOp::default() };
            self.add(&[], pb::op::Op::Source(source))
        }

        fn file(&mut self, inputs: &[(&str, i64)], actions: Vec<pb::FileAction>) -> String {
            self.add(inputs, pb::op::Op::File(pb::FileOp { actions }))
        }

        fn result(mut self, digest: &str, index: i64) -> pb::Definition {
            let input = pb::Input { digest: digest.to_string(), index };
            self.0.def.push(pb::Op { inputs: vec![input], ..pb::Op::default() }.encode_to_vec());
            self.0
        }
    }

    fn action(input: i64, secondary_input: i64, output: i64, action: FileOpAction) -> pb::FileAction {
        pb::FileAction { input, secondary_input, output, action: Some(action) }
    }

    fn mkfile(path: &str) -> FileOpAction {
        FileOpAction::Mkfile(pb::FileActionMkFile {
            path: path.to_string(),
            mode: 0o644,
            timestamp: -1,
            ..pb::FileActionMkFile::default()
        })
    }

    fn copied(from: &str) -> FileOpAction {
        FileOpAction::Copy(pb::FileActionCopy {
            src: from.to_string(),
            dest: "/x".to_string(),
            mode: -1,
            timestamp: -1,
            ..pb::FileActionCopy::default()
        })
    }

    fn made(definition: &pb::Definition) -> Result<Graph> {
        graph(definition, &"linux/arm64".parse().expect("a platform"), &Named)
    }

    fn refused(definition: &pb::Definition) -> String {
        format!("{:#}", made(definition).expect_err("the definition is wrong"))
    }

    #[test]
    fn operations_follow_their_inputs() {
        let mut draft = Draft::default();
        let base = draft.image("base");
        let mount = |input, dest: &str, output| pb::Mount {
            input,
            dest: dest.to_string(),
            output,
            ..pb::Mount::default()
        };
        let exec = pb::ExecOp {
            meta: Some(pb::Meta {
                args: vec!["make".to_string()],
                cwd: "/src".to_string(),
                ..pb::Meta::default()
            }),
            mounts: vec![mount(0, "/", 0), mount(-1, "/out", 1), mount(0, "/ro", -1)],
            ..pb::ExecOp::default()
        };
        let exec = draft.add(&[(&base, 0)], pb::op::Op::Exec(exec));
        let mut definition = draft.result(&exec, 1);
        // The order of the messages does not matter, but the last one is the result.
        definition.def.swap(0, 1);
        let words = [("llb.customname".to_string(), "make it".to_string())].into();
        let metadata = pb::OpMetadata { ignore_cache: true, description: words, ..pb::OpMetadata::default() };
        definition.metadata.insert(exec, metadata);
        let graph = made(&definition).expect("valid");
        let names: Vec<(&str, bool)> =
            graph.ops.iter().map(|op| (op.name.as_str(), op.ignore_cache)).collect();
        assert_eq!(names, [("docker-image://base", false), ("make it", true)]);
        assert_eq!(graph.result, Some(Edge { op: 1, output: 1 }));
        assert_eq!(graph.ops[1].platform.to_string(), "linux/arm64");
        let Kind::Exec(exec) = &graph.ops[1].kind else { panic!("no command") };
        assert_eq!((exec.exit_codes.as_slice(), exec.network), (&[0][..], Network::Host));
        let binds: Vec<(Option<usize>, Option<usize>)> = exec
            .mounts
            .iter()
            .map(|mount| match &mount.kind {
                MountKind::Bind { input, output, .. } => (input.map(|edge| edge.op), *output),
                _ => panic!("no bind"),
            })
            .collect();
        assert_eq!(binds, [(Some(0), Some(0)), (None, Some(1)), (Some(0), None)]);
    }

    #[test]
    fn actions_without_branches_are_one_operation() {
        let mut draft = Draft::default();
        let base = draft.image("base");
        let actions = vec![
            action(0, -1, -1, mkfile("/a")),
            action(1, -1, -1, mkfile("/b")),
            // A tree of its own, which the next action copies from.
            action(-1, -1, -1, mkfile("/c")),
            action(2, 3, 0, copied("/c")),
        ];
        let file = draft.file(&[(&base, 0)], actions);
        let graph = made(&draft.result(&file, 0)).expect("valid");
        let shapes: Vec<(Option<usize>, usize)> = graph.ops[1..]
            .iter()
            .map(|op| match &op.kind {
                Kind::File(File { base, actions }) => (base.map(|edge| edge.op), actions.len()),
                _ => panic!("no operation on files"),
            })
            .collect();
        assert_eq!(shapes, [(Some(0), 2), (None, 1), (Some(1), 1)]);
        assert_eq!(graph.result, Some(Edge { op: 3, output: 0 }));
        let Kind::File(File { actions, .. }) = &graph.ops[3].kind else { panic!("no copy") };
        let Action::Copy(copy) = &actions[0] else { panic!("no copy") };
        assert_eq!((copy.from, copy.mode.as_str(), copy.mtime), (Some(Edge { op: 2, output: 0 }), "", None));
    }

    #[test]
    fn a_build_inside_gets_only_what_leads_to_its_definition() {
        let mut draft = Draft::default();
        let (base, other) = (draft.image("base"), draft.image("other"));
        let file = draft.file(&[(&base, 0)], vec![action(0, -1, 0, mkfile("/inner"))]);
        let build = pb::BuildOp {
            builder: -1,
            inputs: BTreeMap::from([(INNER.to_string(), pb::BuildInput { input: 0 })]),
            attrs: BTreeMap::from([(INNER_FILE.to_string(), "inner".to_string())]),
            ..pb::BuildOp::default()
        };
        let build = draft.add(&[(&file, 0)], pb::op::Op::Build(build));
        let all = draft.file(&[(&other, 0), (&build, 0)], vec![action(0, 1, 0, copied("/x"))]);
        let graph = made(&draft.result(&all, 0)).expect("a graph");
        let names: Vec<String> = graph.ops.iter().map(|op| op.name.clone()).collect();
        let at = names.iter().position(|name| name == "build").expect("there");
        let Kind::Source(Source::Image { reference, .. }) = &graph.ops[at].kind else { panic!("{names:?}") };
        // The image, the file, and the operation that names the result.
        assert_eq!(reference.familiar(), "inner:3");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut draft = Draft::default();
        let build = draft.add(&[], pb::op::Op::Build(pb::BuildOp::default()));
        assert!(refused(&draft.result(&build, 0)).contains("BuildOp"));
        for (inputs, text) in [(None, "no input buildkit.llb.definition"), (Some(1), "there is no input 1")] {
            let mut draft = Draft::default();
            let inputs = inputs.map(|input| (INNER.to_string(), pb::BuildInput { input }));
            let inputs = inputs.into_iter().collect();
            let build = pb::BuildOp { builder: -1, inputs, ..pb::BuildOp::default() };
            let build = draft.add(&[], pb::op::Op::Build(build));
            assert!(refused(&draft.result(&build, 0)).contains(text));
        }
        assert!(refused(&Draft::default().result("sha256:x", 0)).contains("lacks the operation sha256:x"));
        let mut draft = Draft::default();
        let file = draft.file(&[], vec![action(-1, -1, 0, mkfile("/a"))]);
        assert!(refused(&draft.result(&file, 1)).contains("mkfile /a has no output 1"));
        for number in [0, 1, i64::MAX, i64::MIN] {
            let mut draft = Draft::default();
            let file = draft.file(&[], vec![action(number, -1, 0, mkfile("/a"))]);
            let error = refused(&draft.result(&file, 0));
            assert!(error.contains("there is no input") || error.contains("an action uses one"), "{error}");
        }
        let definition = pb::Definition { def: vec![vec![0xff; 9]], ..pb::Definition::default() };
        assert!(refused(&definition).contains("cannot be read"));
        let mut draft = Draft::default();
        draft.image("base");
        assert!(refused(&draft.0).contains("must only name the result"));
        assert!(made(&pb::Definition::default()).expect("nothing").ops.is_empty());
    }
}
