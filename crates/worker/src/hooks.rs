//! Where the owner of an engine may step in: tests let it fail in every way that a client has to survive.

use std::fs::File;
use std::io::Read;
use std::pin::Pin;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream as bytes;
use bazel_remote_apis::google::longrunning as operations;
use bazel_remote_apis::google::rpc;
use tokio_stream::Stream;
use tonic::Status;

use crate::storage::Storage;

/// Messages of a stream.
pub type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Makes an engine forget an execution by its name; it goes on.
pub type Forget = Box<dyn Fn(&str) + Send + Sync>;

/// What an engine asks on its way. Each answer that is not overridden changes nothing.
#[tonic::async_trait]
pub trait Hooks: Send + Sync {
    /// What the engine says that it can do; it heeds that itself.
    fn capabilities(&self, own: reapi::ServerCapabilities) -> reapi::ServerCapabilities {
        own
    }

    /// Whether a result of the action cache is given out: by default if its files are there.
    fn is_usable(&self, storage: &Storage, result: &reapi::ActionResult) -> bool {
        storage.is_complete(result)
    }

    /// Waits until an action may take a place; an error ends its execution.
    async fn admit(&self, action: &reapi::Action) -> Result<(), rpc::Status> {
        let _ = action;
        Ok(())
    }

    /// Called when an action has a place, before its inputs are laid out.
    fn begin(&self, storage: &Storage, action: &reapi::Action) {
        let _ = (storage, action);
    }

    /// Called when the inputs lie there; an error ends the execution.
    fn starting(&self, process: &mut tokio::process::Command) -> Result<(), rpc::Status> {
        let _ = process;
        Ok(())
    }

    /// Called when the process of an action runs.
    fn started(&self, process: &mut tokio::process::Child) {
        let _ = process;
    }

    /// Called before a result is noted.
    fn ended(&self, storage: &Storage, result: &mut reapi::ActionResult) {
        let _ = (storage, result);
    }

    /// Called when a client cancels an execution.
    fn cancelled(&self, name: &str) {
        let _ = name;
    }

    /// Reads a blob for a client, from where the file stands.
    fn reader(&self, blob: File) -> Box<dyn Read + Send> {
        Box::new(blob)
    }

    /// What a client gets of a stream of bytes.
    fn download(&self, messages: Streamed<bytes::ReadResponse>) -> Streamed<bytes::ReadResponse> {
        messages
    }

    /// What the storage gets of an upload.
    fn upload(&self, messages: Streamed<bytes::WriteRequest>) -> Streamed<bytes::WriteRequest> {
        messages
    }

    /// How many bytes of an upload that broke are kept, by its name. `None` if nothing is.
    fn uploaded(&self, name: &str) -> Option<i64> {
        let _ = name;
        None
    }

    /// What a client sees of an execution, and how the engine forgets it.
    fn states(
        &self,
        forget: Forget,
        states: Streamed<operations::Operation>,
    ) -> Streamed<operations::Operation> {
        drop(forget);
        states
    }
}

/// Steps in nowhere.
pub struct NoHooks;

impl Hooks for NoHooks {}
