//! The action cache (REAPI, service `ActionCache`), and results of actions.

use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::build::bazel::remote::execution::v2::action_cache_client::ActionCacheClient;
use tonic::Code;

use crate::Result;
use crate::client::{Client, lock};
use crate::digest::Digest;
use crate::error::FarmError;
use crate::settings::Settings;

/// What an action gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActionResult {
    /// Exit code of the command.
    pub exit_code: i32,
    /// Files that it wrote.
    pub files: Vec<OutputFile>,
    /// What it wrote to standard output, if that came along.
    pub stdout: Vec<u8>,
    /// Where standard output is, if it did not come along.
    pub stdout_digest: Option<Digest>,
    /// What it wrote to standard error, if that came along.
    pub stderr: Vec<u8>,
    /// Where standard error is, if it did not come along.
    pub stderr_digest: Option<Digest>,
    /// The worker's name, for people; often empty.
    pub worker: String,
}

/// A file that an action wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputFile {
    /// Relative to the working directory.
    pub path: String,
    /// Its content.
    pub digest: Digest,
    /// The content itself, if it came along.
    pub content: Vec<u8>,
}

impl ActionResult {
    /// The file at a path.
    pub fn file(&self, path: &str) -> Option<&OutputFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Reads a server's message. Files without a valid digest are left out: nothing can be done with them.
    pub(crate) fn read(message: reapi::ActionResult) -> ActionResult {
        let digest = |digest: Option<reapi::Digest>| digest.as_ref().and_then(Digest::from_message);
        let file = |file: reapi::OutputFile| {
            let digest = Digest::from_message(file.digest.as_ref()?)?;
            // What does not match its digest is fetched by it.
            let is_whole = Digest::of(&file.contents) == digest;
            let content = if is_whole { file.contents } else { Vec::new() };
            Some(OutputFile { path: file.path, digest, content })
        };
        ActionResult {
            exit_code: message.exit_code,
            files: message.output_files.into_iter().filter_map(file).collect(),
            stdout: message.stdout_raw,
            stdout_digest: digest(message.stdout_digest),
            stderr: message.stderr_raw,
            stderr_digest: digest(message.stderr_digest),
            worker: crate::error::clean(&message.execution_metadata.unwrap_or_default().worker),
        }
    }

    fn to_message(&self) -> reapi::ActionResult {
        let file = |file: &OutputFile| reapi::OutputFile {
            path: file.path.clone(),
            digest: Some(file.digest.to_message()),
            ..reapi::OutputFile::default()
        };
        let metadata = reapi::ExecutedActionMetadata { worker: self.worker.clone(), ..Default::default() };
        reapi::ActionResult {
            exit_code: self.exit_code,
            output_files: self.files.iter().map(file).collect(),
            stdout_raw: self.stdout.clone(),
            execution_metadata: Some(metadata),
            ..reapi::ActionResult::default()
        }
    }
}

/// Takes answers: the place of the action in a list, and what is known of it.
pub type Told<'a> = &'a (dyn Fn(usize, Result<Option<ActionResult>>) + Sync);

/// Waits for all of these.
async fn all<F: Future<Output = ()>>(work: impl Iterator<Item = F>) {
    let mut under_way: Vec<_> = work.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        under_way.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if under_way.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Client {
    /// What is known of an action: one request. The files in `inline` may come along.
    ///
    /// # Errors
    ///
    /// The server does not answer, or refuses this client.
    pub fn action_result(&self, action: &Digest, inline: &[&str]) -> Result<Option<ActionResult>> {
        self.wait(self.get_action_result(action, inline))
    }

    /// Connects as [`Client::connect`] does, and asks for results meanwhile as [`Client::action_results`]
    /// does.
    ///
    /// # Errors
    ///
    /// Those of [`Client::connect`].
    pub fn connect_asking(settings: Settings, actions: &[Digest], told: Told<'_>) -> Result<Client> {
        Client::connect_and(settings, async |client: &Client| client.get_action_results(actions, told).await)
    }

    /// What is known of several actions: one request for each, all at once. `told` gets each answer with the
    /// action's place in the list.
    pub fn action_results(&self, actions: &[Digest], told: Told<'_>) {
        self.wait(self.get_action_results(actions, told));
    }

    pub(crate) async fn get_action_results(&self, actions: &[Digest], told: Told<'_>) {
        let ask = |(i, action)| async move { told(i, self.get_action_result(action, &[]).await) };
        all(actions.iter().enumerate().map(ask)).await;
    }

    async fn get_action_result(&self, action: &Digest, inline: &[&str]) -> Result<Option<ActionResult>> {
        let message = reapi::GetActionResultRequest {
            instance_name: self.instance(),
            action_digest: Some(action.to_message()),
            inline_stdout: true,
            inline_stderr: true,
            inline_output_files: inline.iter().map(ToString::to_string).collect(),
            digest_function: reapi::digest_function::Value::Sha256 as i32,
        };
        let found = self.repeat("GetActionResult", || async {
            let service = ActionCacheClient::new(self.connection.clone());
            let mut service = service.max_decoding_message_size(crate::client::MESSAGE_MAX);
            match service.get_action_result(self.request(message.clone())).await {
                Ok(response) => Ok(response.map(Some)),
                Err(status) if status.code() == Code::NotFound => Ok(tonic::Response::new(None)),
                Err(status) => Err(status),
            }
        });
        Ok(found.await?.map(ActionResult::read))
    }

    /// Writes what is known of an action. Does nothing if the server lets no client write.
    ///
    /// # Errors
    ///
    /// The server does not answer, refuses this client, or lacks a file of the result.
    pub fn update_action_result(&self, action: &Digest, result: &ActionResult) -> Result<()> {
        self.wait(self.put_action_result(action, result))
    }

    /// Writes what is known of several actions, all at once.
    ///
    /// # Errors
    ///
    /// As [`Client::update_action_result`]; the first one.
    pub fn update_action_results(&self, results: &[(Digest, ActionResult)]) -> Result<()> {
        let first = Mutex::new(Ok(()));
        let write = |(action, result)| {
            let first = &first;
            async move {
                if let Err(error) = self.put_action_result(action, result).await {
                    let mut first = lock(first);
                    *first = std::mem::replace(&mut *first, Ok(())).and(Err(error));
                }
            }
        };
        self.wait(all(results.iter().map(|(action, result)| write((action, result)))));
        first.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put_action_result(&self, action: &Digest, result: &ActionResult) -> Result<()> {
        if !self.capabilities.may_update {
            return Ok(());
        }
        let message = reapi::UpdateActionResultRequest {
            instance_name: self.instance(),
            action_digest: Some(action.to_message()),
            action_result: Some(result.to_message()),
            results_cache_policy: None,
            digest_function: reapi::digest_function::Value::Sha256 as i32,
        };
        let written = self.repeat("UpdateActionResult", || async {
            let mut service = ActionCacheClient::new(self.connection.clone());
            service.update_action_result(self.request(message.clone())).await
        });
        match written.await {
            // Reading alone may be granted.
            Err(FarmError::Unauthorised { .. }) => Ok(()),
            other => other.map(drop),
        }
    }
}
