//! Actions as processes.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::longrunning as operations;
use bazel_remote_apis::google::{protobuf, rpc};
use prost::Message;
use reapi::execution_stage::Value as Stage;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Semaphore, watch};
use tonic::Code;

use crate::hooks::Hooks;
use crate::options::Options;
use crate::storage::Storage;

/// Output that is kept of each stream of a command, in bytes.
const OUTPUT_MAX: usize = 16 << 20;
/// Output that comes with the result; longer output is a blob.
const INLINE_MAX: usize = 256 << 10;
/// Operations that are remembered after their end.
const ENDED_MAX: usize = 1000;

/// What a command has written so far, and whether that is all.
pub type Output = (Arc<Vec<u8>>, bool);

/// An execution under way, or one that has ended.
#[derive(Clone)]
pub struct Operation {
    pub(crate) state: watch::Receiver<operations::Operation>,
    /// Standard output and standard error.
    output: [watch::Receiver<Output>; 2],
    cancel: watch::Sender<bool>,
    number: u64,
    /// The action, and whether results of the cache are left aside.
    of: (reapi::Digest, bool),
}

/// Executes actions.
pub struct Engine {
    pub(crate) storage: Storage,
    pub(crate) hooks: Box<dyn Hooks>,
    name: String,
    places: Semaphore,
    operations: Mutex<HashMap<String, Operation>>,
    next: AtomicU64,
}

impl Engine {
    /// An engine that has executed nothing yet.
    pub fn new(storage: Storage, options: &Options, hooks: Box<dyn Hooks>) -> Engine {
        let places = Semaphore::new(options.jobs.max(1));
        let (operations, next) = Default::default();
        Engine { storage, hooks, name: options.name.clone(), places, operations, next }
    }

    /// The result of an action, if it may be used.
    pub(crate) fn result(&self, action: &reapi::Digest) -> Option<reapi::ActionResult> {
        self.storage.result(action).filter(|result| self.hooks.is_usable(&self.storage, result))
    }

    fn operations(&self) -> MutexGuard<'_, HashMap<String, Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An execution by its name.
    pub fn operation(&self, name: &str) -> Option<Operation> {
        self.operations().get(name).cloned()
    }

    /// A stream of a running command by its name: `streams/OPERATION/0` or `1`.
    pub fn stream(&self, name: &str) -> Option<watch::Receiver<Output>> {
        let (operation, number) = name.strip_prefix("streams/")?.rsplit_once('/')?;
        let operation = self.operation(operation)?;
        operation.output.get(number.parse::<usize>().ok()?).cloned()
    }

    /// Ends an execution.
    pub fn cancel(&self, name: &str) {
        self.hooks.cancelled(name);
        if let Some(operation) = self.operation(name) {
            let _ = operation.cancel.send(true);
        }
    }

    /// Forgets an execution, which goes on.
    pub(crate) fn forget(&self, name: &str) {
        self.operations().remove(name);
    }

    /// Ends all executions.
    pub fn stop(&self) {
        for operation in self.operations().values() {
            let _ = operation.cancel.send(true);
        }
    }

    /// Begins to execute an action, unless that is under way.
    pub fn execute(self: &Arc<Self>, action: reapi::Digest, skip_cache: bool) -> Operation {
        let of = (action.clone(), skip_cache);
        let ended = |operation: &Operation| operation.state.borrow().done || *operation.cancel.borrow();
        if let Some(same) = self.operations().values().find(|other| other.of == of && !ended(other)) {
            return same.clone();
        }
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let name = format!("{number}-{}", action.hash);
        let (state, seen) = watch::channel(under_way(&name, Stage::Queued, ""));
        let (cancel, cancelled) = watch::channel(false);
        let (stdout, heard_stdout) = watch::channel(Output::default());
        let (stderr, heard_stderr) = watch::channel(Output::default());
        let operation = Operation { state: seen, output: [heard_stdout, heard_stderr], cancel, number, of };
        {
            let mut all = self.operations();
            if all.len() >= ENDED_MAX {
                let oldest = all.iter().filter(|(_, o)| ended(o)).min_by_key(|(_, o)| o.number);
                if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                    all.remove(&oldest);
                }
            }
            all.insert(name.clone(), operation.clone());
        }
        let engine = self.clone();
        let running = Running { engine, name, state, cancelled, output: [stdout, stderr] };
        tokio::spawn(running.run(action, skip_cache));
        operation
    }
}

/// An execution, seen from the inside.
struct Running {
    engine: Arc<Engine>,
    name: String,
    state: watch::Sender<operations::Operation>,
    cancelled: watch::Receiver<bool>,
    output: [watch::Sender<Output>; 2],
}

impl Running {
    async fn run(mut self, action: reapi::Digest, skip_cache: bool) {
        let response = match self.attempt(&action, skip_cache).await {
            Ok(response) => response,
            Err(status) => reapi::ExecuteResponse { status: Some(status), ..Default::default() },
        };
        let type_url = "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse".to_string();
        let any = protobuf::Any { type_url, value: response.encode_to_vec() };
        let done = operations::Operation {
            done: true,
            result: Some(operations::operation::Result::Response(any)),
            ..under_way(&self.name, Stage::Completed, &self.engine.name)
        };
        let _ = self.state.send(done);
    }

    async fn attempt(
        &mut self,
        digest: &reapi::Digest,
        skip_cache: bool,
    ) -> Result<reapi::ExecuteResponse, rpc::Status> {
        let engine = self.engine.clone();
        let storage = &engine.storage;
        if let Some(result) = engine.result(digest).filter(|_| !skip_cache) {
            let result = Some(result);
            return Ok(reapi::ExecuteResponse { result, cached_result: true, ..Default::default() });
        }
        let action: reapi::Action = storage.message(digest).ok_or_else(|| missing(digest))?;
        let command = action.command_digest.clone().unwrap_or_default();
        let command: reapi::Command = storage.message(&command).ok_or_else(|| missing(&command))?;
        let mut cancelled = self.cancelled.clone();
        let placed = async {
            engine.hooks.admit(&action).await?;
            Ok(engine.places.acquire().await.expect("nobody closes it"))
        };
        let _place = tokio::select! {
            place = placed => place?,
            _ = cancelled.wait_for(|is_cancelled| *is_cancelled) => return Err(ended()),
        };
        let _ = self.state.send(executing(&self.name, &engine.name));
        engine.hooks.begin(storage, &action);
        let directory = Directory::new(storage).map_err(|e| failed("make a directory", &e))?;
        fill(storage, &action.input_root_digest.clone().unwrap_or_default(), &directory.0, 0)?;
        let mut result = self.process(&command, &directory.0).await?;
        engine.hooks.ended(storage, &mut result);
        if result.exit_code == 0 && !action.do_not_cache {
            storage.note_result(digest, &result).map_err(|e| failed("note the result", &e))?;
        }
        Ok(reapi::ExecuteResponse { result: Some(result), ..Default::default() })
    }

    async fn process(
        &mut self,
        command: &reapi::Command,
        directory: &Path,
    ) -> Result<reapi::ActionResult, rpc::Status> {
        let Some((program, arguments)) = command.arguments.split_first() else {
            return Err(status(Code::InvalidArgument, "a command without a program"));
        };
        let mut process = tokio::process::Command::new(directory.join(program));
        process.args(arguments).current_dir(directory).stdin(Stdio::null()).kill_on_drop(true);
        process.stdout(Stdio::piped()).stderr(Stdio::piped());
        let named = command.environment_variables.iter();
        process.envs(named.map(|variable| (&variable.name, &variable.value)));
        self.engine.hooks.starting(&mut process)?;
        // Another thread may start a process just while a program is written (ETXTBSY, execve(2)).
        let mut process = loop {
            match process.spawn() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    tokio::task::yield_now().await;
                }
                other => break other.map_err(|e| failed(&format!("start {program}"), &e))?,
            }
        };
        self.engine.hooks.started(&mut process);
        let stdout = process.stdout.take().expect("piped");
        let stderr = process.stderr.take().expect("piped");
        let [told_stdout, told_stderr] = &self.output;
        let ended_by_itself = async {
            let streams = tokio::join!(collect(stdout, told_stdout), collect(stderr, told_stderr));
            process.wait().await.map(|exit| (exit, streams.0, streams.1))
        };
        // Dropping it kills the process.
        let (exit, stdout, stderr) = tokio::select! {
            ended = ended_by_itself => ended.map_err(|e| failed("wait for a command", &e))?,
            _ = self.cancelled.wait_for(|is_cancelled| *is_cancelled) => return Err(ended()),
        };
        let storage = &self.engine.storage;
        let kept = |bytes: Arc<Vec<u8>>| -> io::Result<(Vec<u8>, Option<reapi::Digest>)> {
            match bytes.len() > INLINE_MAX {
                true => Ok((Vec::new(), Some(storage.keep(&bytes)?))),
                false => Ok((Arc::unwrap_or_clone(bytes), None)),
            }
        };
        let keep = |e: io::Error| failed("keep the output", &e);
        let ((stdout_raw, stdout_digest), (stderr_raw, stderr_digest)) =
            (kept(stdout).map_err(keep)?, kept(stderr).map_err(keep)?);
        let mut result = reapi::ActionResult {
            exit_code: exit.code().unwrap_or(137),
            stdout_raw,
            stdout_digest,
            stderr_raw,
            stderr_digest,
            execution_metadata: Some(reapi::ExecutedActionMetadata {
                worker: self.engine.name.clone(),
                ..Default::default()
            }),
            ..reapi::ActionResult::default()
        };
        for path in &command.output_paths {
            let file = directory.join(path);
            if file.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                let digest = Some(storage.keep_file(&file).map_err(|e| failed("keep an output", &e))?);
                let path = path.clone();
                result.output_files.push(reapi::OutputFile { path, digest, ..Default::default() });
            }
        }
        Ok(result)
    }
}

/// The directory of an action, removed at its end.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(storage: &Storage) -> io::Result<Directory> {
        let path = storage.temporary();
        std::fs::create_dir(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Deeper trees of inputs are refused.
const DEPTH_MAX: usize = 100;

/// Writes a tree of inputs.
fn fill(storage: &Storage, root: &reapi::Digest, to: &Path, depth: usize) -> Result<(), rpc::Status> {
    let directory: reapi::Directory = storage.message(root).ok_or_else(|| missing(root))?;
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('/');
    let names = directory.files.iter().map(|file| &file.name);
    let names = names.chain(directory.directories.iter().map(|directory| &directory.name));
    if depth > DEPTH_MAX || !names.into_iter().all(|name| is_name(name)) {
        return Err(status(Code::InvalidArgument, "a tree of inputs with a wrong name, or too deep"));
    }
    for file in &directory.files {
        let digest = file.digest.clone().unwrap_or_default();
        if digest.size_bytes != 0 && !storage.has(&digest) {
            return Err(missing(&digest));
        }
        let placed = storage.place(&digest, file.is_executable, &to.join(&file.name));
        placed.map_err(|e| failed("place an input", &e))?;
    }
    for child in &directory.directories {
        let path = to.join(&child.name);
        std::fs::create_dir(&path).map_err(|e| failed("make a directory", &e))?;
        fill(storage, &child.digest.clone().unwrap_or_default(), &path, depth + 1)?;
    }
    Ok(())
}

/// Reads a stream of a command to its end and tells what it has.
async fn collect(mut stream: impl AsyncRead + Unpin, told: &watch::Sender<Output>) -> Arc<Vec<u8>> {
    let mut piece = Vec::with_capacity(64 << 10);
    loop {
        piece.clear();
        let length = stream.read_buf(&mut piece).await.unwrap_or_default();
        told.send_modify(|(all, is_whole)| {
            if all.len() + length <= OUTPUT_MAX {
                Arc::make_mut(all).extend_from_slice(&piece);
            }
            *is_whole = length == 0;
        });
        if length == 0 {
            return told.borrow().0.clone();
        }
    }
}

/// An operation that is not done.
fn under_way(name: &str, stage: Stage, worker: &str) -> operations::Operation {
    operation(name, stage, worker, Default::default())
}

/// An operation whose command runs.
fn executing(name: &str, worker: &str) -> operations::Operation {
    operation(name, Stage::Executing, worker, [0, 1].map(|number| format!("streams/{name}/{number}")))
}

fn operation(
    name: &str,
    stage: Stage,
    worker: &str,
    [stdout_stream_name, stderr_stream_name]: [String; 2],
) -> operations::Operation {
    let partial = reapi::ExecutedActionMetadata { worker: worker.to_string(), ..Default::default() };
    let metadata = reapi::ExecuteOperationMetadata {
        stage: stage as i32,
        stdout_stream_name,
        stderr_stream_name,
        partial_execution_metadata: Some(partial),
        ..reapi::ExecuteOperationMetadata::default()
    };
    let type_url = "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteOperationMetadata".to_string();
    let metadata = Some(protobuf::Any { type_url, value: metadata.encode_to_vec() });
    operations::Operation { name: name.to_string(), metadata, done: false, result: None }
}

fn status(code: Code, message: &str) -> rpc::Status {
    rpc::Status { code: code as i32, message: message.to_string(), details: Vec::new() }
}

fn failed(doing: &str, error: &io::Error) -> rpc::Status {
    status(Code::FailedPrecondition, &format!("the worker cannot {doing}: {error}"))
}

fn ended() -> rpc::Status {
    status(Code::Cancelled, "cancelled")
}

/// `google.rpc.PreconditionFailure` (googleapis, `google/rpc/error_details.proto`).
#[derive(Clone, PartialEq, Message)]
struct PreconditionFailure {
    #[prost(message, repeated, tag = "1")]
    violations: Vec<Violation>,
}

/// `google.rpc.PreconditionFailure.Violation`.
#[derive(Clone, PartialEq, Message)]
struct Violation {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    subject: String,
}

/// Says that a blob is missing (REAPI, "Execute", on FAILED_PRECONDITION).
fn missing(digest: &reapi::Digest) -> rpc::Status {
    let subject = format!("blobs/{}/{}", digest.hash, digest.size_bytes);
    let violations = vec![Violation { kind: "MISSING".to_string(), subject }];
    let value = PreconditionFailure { violations }.encode_to_vec();
    let type_url = "type.googleapis.com/google.rpc.PreconditionFailure".to_string();
    let details = vec![protobuf::Any { type_url, value }];
    rpc::Status { details, ..status(Code::FailedPrecondition, "a blob is missing") }
}
