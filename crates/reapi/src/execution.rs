//! Executions (REAPI, service `Execution`; googleapis, `google/longrunning/operations.proto`).

use std::time::{Duration, Instant};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::build::bazel::remote::execution::v2::execution_client::ExecutionClient;
use bazel_remote_apis::build::bazel::remote::execution::v2::execution_stage::Value as StageValue;
use bazel_remote_apis::google::longrunning::operation::Result as OperationResult;
use bazel_remote_apis::google::longrunning::operations_client::OperationsClient;
use bazel_remote_apis::google::longrunning::{CancelOperationRequest, Operation};
use prost::Message;
use tonic::{Code, Request, Status, Streaming};

use crate::Result;
use crate::cache::ActionResult;
use crate::channel::Connection;
use crate::client::{Client, MESSAGE_MAX, lock};
use crate::digest::Digest;
use crate::error::{FarmError, clean};
use crate::live::Live;

/// How often an execution looks whether it should end.
const LOOK_TIME: Duration = Duration::from_millis(50);
/// Type of an operation's metadata, the end of its address.
const METADATA: &str = "build.bazel.remote.execution.v2.ExecuteOperationMetadata";
/// How long cancellations may take: nothing depends on them.
const CANCEL_TIME: Duration = Duration::from_secs(5);

/// What an execution does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a worker.
    Queued,
    /// A worker has it; the name is for people, and often not known.
    Executing(String),
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Execution {
    /// The command has run.
    Done {
        /// What it gave.
        result: Box<ActionResult>,
        /// Whether the result was in the action cache.
        is_cached: bool,
        /// What the server says to a person.
        message: String,
        /// How many bytes of standard output and standard error [`Policy::output`] has heard.
        told: [u64; 2],
    },
    /// No worker took it in time; it was cancelled.
    NotTaken,
}

/// How an action is executed.
pub struct Policy<'a> {
    /// Execute it even if the result is known.
    pub skip_cache: bool,
    /// How long it may wait for a worker.
    pub wait: Duration,
    /// Files of the result that may come along.
    pub inline: &'a [&'a str],
    /// Whether it should end.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
    /// Hears what it does.
    pub told: &'a mut (dyn FnMut(Stage) + Send),
    /// Hears what the command writes while it runs, if the server offers that: whether it is standard error,
    /// and the bytes. The result has all of it again.
    pub output: &'a mut (dyn FnMut(bool, &[u8]) + Send),
}

/// What one stream of an execution came to.
enum Streamed {
    Done(Box<reapi::ExecuteResponse>),
    NotTaken,
    /// The stream broke, or ended too early.
    Broken(Status),
}

impl Client {
    /// Executes an action whose blobs are on the server. If the stream breaks, goes on with the same
    /// execution; if the server no longer knows it, begins again.
    ///
    /// # Errors
    ///
    /// [`FarmError::Missing`] if blobs are not there, [`FarmError::NoWorker`] if no worker has the
    /// properties, [`FarmError::Stopped`], and what the server reports.
    pub fn execute(&self, action: &Digest, policy: &mut Policy<'_>) -> Result<Execution> {
        let mut name = None;
        self.drive();
        let result = self.wait(self.run(action, policy, &mut name));
        // Unless somebody has cancelled everything meanwhile.
        if let Some(name) = name.filter(|name| lock(&self.operations).remove(name)) {
            self.cancel([name]);
        }
        result
    }

    /// Cancels all executions under way.
    pub fn cancel_all(&self) {
        self.cancel(std::mem::take(&mut *lock(&self.operations)));
    }

    /// Cancels executions. Many servers do not know cancellations, so an error says nothing.
    fn cancel(&self, names: impl IntoIterator<Item = String>) {
        self.wait(async {
            let mut requests = tokio::task::JoinSet::new();
            for name in names {
                let mut service = OperationsClient::new(self.connection.clone());
                requests
                    .spawn(async move { service.cancel_operation(CancelOperationRequest { name }).await });
            }
            let _ = tokio::time::timeout(CANCEL_TIME, requests.join_all()).await;
        });
    }

    fn executions(&self) -> ExecutionClient<Connection> {
        ExecutionClient::new(self.connection.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    async fn run(
        &self,
        action: &Digest,
        policy: &mut Policy<'_>,
        name: &mut Option<String>,
    ) -> Result<Execution> {
        let mut attempt = 0;
        let mut queue = Queue::new(policy.wait);
        let mut live = Live::new(&self.connection);
        loop {
            let opened = match &name {
                Some(name) => {
                    let message = reapi::WaitExecutionRequest { name: name.clone() };
                    self.executions().wait_execution(Request::new(message)).await
                }
                None => {
                    let message = reapi::ExecuteRequest {
                        instance_name: self.instance(),
                        skip_cache_lookup: policy.skip_cache,
                        action_digest: Some(action.to_message()),
                        inline_stdout: true,
                        inline_stderr: true,
                        inline_output_files: policy.inline.iter().map(ToString::to_string).collect(),
                        digest_function: reapi::digest_function::Value::Sha256 as i32,
                        ..reapi::ExecuteRequest::default()
                    };
                    self.executions().execute(Request::new(message)).await
                }
            };
            let streamed = match opened {
                Ok(response) => {
                    self.follow(response.into_inner(), policy, (&mut queue, &mut live), name).await?
                }
                Err(status) => Streamed::Broken(status),
            };
            let (status, is_lost) = match streamed {
                Streamed::Done(response) => match lost(&response) {
                    Some(status) => (status, true),
                    None => {
                        let told = live.finish(policy.output);
                        return self.outcome(*response, told);
                    }
                },
                Streamed::NotTaken => return Ok(Execution::NotTaken),
                Streamed::Broken(status) => (status, false),
            };
            if (policy.is_stopped)() {
                return Err(FarmError::Stopped);
            }
            // A server that was started again has forgotten its executions.
            let is_forgotten = matches!(status.code(), Code::NotFound | Code::Unimplemented);
            let status = match name.take_if(|_| is_forgotten || is_lost) {
                Some(name) => {
                    lock(&self.operations).remove(&name);
                    Status::unavailable(status.message())
                }
                None => status,
            };
            self.pause("Execute", &status, &mut attempt).await?;
        }
    }

    /// Listens to an execution until it ends, the stream breaks, or nobody wants it any more.
    async fn follow(
        &self,
        mut stream: Streaming<Operation>,
        policy: &mut Policy<'_>,
        (queue, live): (&mut Queue, &mut Live),
        name: &mut Option<String>,
    ) -> Result<Streamed> {
        let mut look = tokio::time::interval(LOOK_TIME);
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                (stderr, bytes) = live.next() => {
                    (policy.output)(stderr, &bytes);
                    continue;
                }
                _ = look.tick() => {
                    if (policy.is_stopped)() {
                        return Err(FarmError::Stopped);
                    }
                    if queue.is_over() {
                        return Ok(Streamed::NotTaken);
                    }
                    continue;
                }
            };
            let operation = match message {
                Ok(Some(operation)) => operation,
                Ok(None) => {
                    return Ok(Streamed::Broken(Status::unavailable(
                        "the stream of an execution ended too early",
                    )));
                }
                Err(status) => return Ok(Streamed::Broken(status)),
            };
            if !operation.name.is_empty() && name.as_ref() != Some(&operation.name) {
                let mut operations = lock(&self.operations);
                if let Some(old) = name.replace(operation.name.clone()) {
                    operations.remove(&old);
                }
                operations.insert(operation.name.clone());
            }
            if operation.done {
                // There is nothing left to cancel.
                if let Some(name) = name.take() {
                    lock(&self.operations).remove(&name);
                }
                return self.ended(operation).map(|response| Streamed::Done(Box::new(response)));
            }
            // Some servers send none, or something else.
            let metadata = operation.metadata.filter(|any| any.type_url.ends_with(METADATA));
            let metadata = metadata.map(|any| any.value).unwrap_or_default();
            if let Ok(metadata) = reapi::ExecuteOperationMetadata::decode(metadata.as_slice()) {
                if let Some(stage) = queue.note(&metadata) {
                    (policy.told)(stage);
                }
                live.note(&metadata);
            }
        }
    }

    /// The answer of an operation that is done.
    fn ended(&self, operation: Operation) -> Result<reapi::ExecuteResponse> {
        match operation.result {
            Some(OperationResult::Response(any)) => reapi::ExecuteResponse::decode(any.value.as_slice())
                .map_err(|e| FarmError::Answer(format!("the result of an execution cannot be read: {e}"))),
            Some(OperationResult::Error(status)) => Err(FarmError::of_message(&self.name(), &status)),
            None => Err(FarmError::Answer("an execution is done and has no result".to_string())),
        }
    }

    fn outcome(&self, response: reapi::ExecuteResponse, told: [u64; 2]) -> Result<Execution> {
        if let Some(status) = response.status.filter(|status| status.code != 0) {
            return Err(FarmError::of_message(&self.name(), &status));
        }
        let Some(result) = response.result else {
            return Err(FarmError::Answer("an execution succeeded without a result".to_string()));
        };
        let result = Box::new(ActionResult::read(result));
        let message = clean(&response.message);
        Ok(Execution::Done { result, is_cached: response.cached_result, message, told })
    }
}

/// Why an execution ended without a result, if another one may succeed: its worker was lost.
fn lost(response: &reapi::ExecuteResponse) -> Option<Status> {
    let status = response.status.as_ref()?;
    let code = Code::from(status.code);
    let is_lost =
        matches!(code, Code::Unavailable | Code::Aborted | Code::Internal | Code::ResourceExhausted);
    is_lost.then(|| Status::new(code, clean(&status.message)))
}

/// The wait for a worker.
struct Queue {
    since: Instant,
    wait: Duration,
    /// The last stage that was told.
    stage: Option<Stage>,
    /// The server has it and does not say what it does with it.
    is_accepted: bool,
}

impl Queue {
    fn new(wait: Duration) -> Queue {
        Queue { since: Instant::now(), wait, stage: None, is_accepted: false }
    }

    /// Notes what a server says of an execution; gives the stage if it is another one.
    fn note(&mut self, metadata: &reapi::ExecuteOperationMetadata) -> Option<Stage> {
        let stage = match StageValue::try_from(metadata.stage) {
            Ok(StageValue::Executing | StageValue::Completed) => {
                let partial = metadata.partial_execution_metadata.as_ref();
                Stage::Executing(partial.map(|partial| clean(&partial.worker)).unwrap_or_default())
            }
            Ok(StageValue::Queued) => Stage::Queued,
            Ok(StageValue::Unknown) => {
                self.is_accepted = true;
                return None;
            }
            _ => return None,
        };
        // A worker was lost: the wait begins again.
        if stage == Stage::Queued && matches!(self.stage, Some(Stage::Executing(_))) {
            self.since = Instant::now();
        }
        let is_new = self.stage.as_ref() != Some(&stage);
        self.stage = Some(stage.clone());
        is_new.then_some(stage)
    }

    /// Whether nobody takes it. Engines that tell no stages may be executing it.
    fn is_over(&self) -> bool {
        let may_execute = match &self.stage {
            Some(Stage::Executing(_)) => true,
            Some(Stage::Queued) => false,
            None => self.is_accepted,
        };
        !may_execute && self.since.elapsed() >= self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(stage: StageValue) -> reapi::ExecuteOperationMetadata {
        reapi::ExecuteOperationMetadata { stage: stage as i32, ..Default::default() }
    }

    #[test]
    fn only_a_queued_execution_is_given_up() {
        let mut queue = Queue::new(Duration::ZERO);
        assert!(queue.is_over(), "a server that says nothing");
        assert_eq!(queue.note(&metadata(StageValue::Unknown)), None);
        assert!(!queue.is_over(), "a server that tells no stages");
        assert_eq!(queue.note(&metadata(StageValue::Queued)), Some(Stage::Queued));
        assert_eq!(queue.note(&metadata(StageValue::Queued)), None, "told once");
        assert_eq!(queue.note(&metadata(StageValue::Executing)), Some(Stage::Executing(String::new())));
        assert!(!queue.is_over());
        queue.wait = Duration::from_secs(3600);
        assert_eq!(queue.note(&metadata(StageValue::Queued)), Some(Stage::Queued), "its worker was lost");
        assert!(!queue.is_over());
    }
}
