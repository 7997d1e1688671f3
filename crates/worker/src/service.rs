//! The rest of the API over gRPC: capabilities, the action cache, executions.

use std::io;
use std::sync::Arc;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream as bytes;
use bazel_remote_apis::google::longrunning as operations;
use bazel_remote_apis::google::protobuf;
use reapi::compressor::Value as Compressor;
use reapi::digest_function::Value as DigestFunction;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::execution::{Engine, Operation};
use crate::hooks::Streamed;
use crate::pipe::Pipe;

/// Longest message of a client, in bytes.
const MESSAGE_MAX: usize = 16 << 20;

/// The engine as services.
#[derive(Clone)]
pub struct Service(pub Arc<Engine>);

/// All services of an engine.
pub fn routes(engine: Arc<Engine>) -> Routes {
    let service = Service(engine);
    let storage =
        reapi::content_addressable_storage_server::ContentAddressableStorageServer::new(service.clone());
    Routes::new(reapi::capabilities_server::CapabilitiesServer::new(service.clone()))
        .add_service(storage.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX))
        .add_service(bytes::byte_stream_server::ByteStreamServer::new(service.clone()))
        .add_service(reapi::action_cache_server::ActionCacheServer::new(service.clone()))
        .add_service(reapi::execution_server::ExecutionServer::new(service.clone()))
        .add_service(operations::operations_server::OperationsServer::new(service))
}

/// Serves one connection until it ends.
pub async fn serve(engine: Arc<Engine>, pipe: Pipe) -> io::Result<()> {
    // No other connection comes, and the end of this one is told by the pipe.
    let incoming = tokio_stream::once(Ok::<_, io::Error>(pipe)).chain(tokio_stream::pending());
    Server::builder().add_routes(routes(engine)).serve_with_incoming(incoming).await.map_err(io::Error::other)
}

impl Service {
    /// What the engine can do.
    pub fn capabilities(&self) -> reapi::ServerCapabilities {
        let sha256 = DigestFunction::Sha256 as i32;
        let update_enabled = true;
        self.0.hooks.capabilities(reapi::ServerCapabilities {
            cache_capabilities: Some(reapi::CacheCapabilities {
                digest_functions: vec![sha256],
                action_cache_update_capabilities: Some(reapi::ActionCacheUpdateCapabilities {
                    update_enabled,
                }),
                supported_compressors: vec![Compressor::Zstd as i32],
                ..reapi::CacheCapabilities::default()
            }),
            execution_capabilities: Some(reapi::ExecutionCapabilities {
                digest_function: sha256,
                exec_enabled: true,
                ..reapi::ExecutionCapabilities::default()
            }),
            ..reapi::ServerCapabilities::default()
        })
    }

    /// Whether clients may note results.
    fn may_update(&self) -> bool {
        let cache = self.capabilities().cache_capabilities.unwrap_or_default();
        cache.action_cache_update_capabilities.is_some_and(|update| update.update_enabled)
    }

    /// The states of an operation, as a client is to see them.
    fn watch(&self, operation: Operation) -> Streamed<operations::Operation> {
        let engine = self.0.clone();
        self.0.hooks.states(Box::new(move |name| engine.forget(name)), watch(operation))
    }
}

#[tonic::async_trait]
impl reapi::capabilities_server::Capabilities for Service {
    async fn get_capabilities(
        &self,
        _: Request<reapi::GetCapabilitiesRequest>,
    ) -> Result<Response<reapi::ServerCapabilities>, Status> {
        Ok(Response::new(self.capabilities()))
    }
}

#[tonic::async_trait]
impl reapi::action_cache_server::ActionCache for Service {
    async fn get_action_result(
        &self,
        request: Request<reapi::GetActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        let action = request.into_inner().action_digest.unwrap_or_default();
        let found = self.0.result(&action);
        found.map(Response::new).ok_or_else(|| Status::not_found("no result"))
    }

    async fn update_action_result(
        &self,
        request: Request<reapi::UpdateActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        if !self.may_update() {
            return Err(Status::permission_denied("only workers note results"));
        }
        let request = request.into_inner();
        let (action, result) =
            (request.action_digest.unwrap_or_default(), request.action_result.unwrap_or_default());
        let noted = self.0.storage.note_result(&action, &result);
        noted.map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(result))
    }
}

#[tonic::async_trait]
impl reapi::execution_server::Execution for Service {
    type ExecuteStream = Streamed<operations::Operation>;
    type WaitExecutionStream = Streamed<operations::Operation>;

    async fn execute(
        &self,
        request: Request<reapi::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let request = request.into_inner();
        let action = request.action_digest.unwrap_or_default();
        Ok(Response::new(self.watch(self.0.execute(action, request.skip_cache_lookup))))
    }

    async fn wait_execution(
        &self,
        request: Request<reapi::WaitExecutionRequest>,
    ) -> Result<Response<Self::WaitExecutionStream>, Status> {
        let operation = self.0.operation(&request.into_inner().name);
        let operation = operation.ok_or_else(|| Status::not_found("no such operation"))?;
        Ok(Response::new(self.watch(operation)))
    }
}

/// The states of an operation until it is done.
fn watch(mut operation: Operation) -> Streamed<operations::Operation> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let state = operation.state.borrow_and_update().clone();
            let done = state.done;
            if sender.send(Ok(state)).await.is_err() || done || operation.state.changed().await.is_err() {
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

#[tonic::async_trait]
impl operations::operations_server::Operations for Service {
    async fn list_operations(
        &self,
        _: Request<operations::ListOperationsRequest>,
    ) -> Result<Response<operations::ListOperationsResponse>, Status> {
        Err(Status::unimplemented("ListOperations"))
    }

    async fn get_operation(
        &self,
        _: Request<operations::GetOperationRequest>,
    ) -> Result<Response<operations::Operation>, Status> {
        Err(Status::unimplemented("GetOperation"))
    }

    async fn delete_operation(
        &self,
        _: Request<operations::DeleteOperationRequest>,
    ) -> Result<Response<protobuf::Empty>, Status> {
        Err(Status::unimplemented("DeleteOperation"))
    }

    async fn cancel_operation(
        &self,
        request: Request<operations::CancelOperationRequest>,
    ) -> Result<Response<protobuf::Empty>, Status> {
        self.0.cancel(&request.into_inner().name);
        Ok(Response::new(protobuf::Empty {}))
    }

    async fn wait_operation(
        &self,
        _: Request<operations::WaitOperationRequest>,
    ) -> Result<Response<operations::Operation>, Status> {
        Err(Status::unimplemented("WaitOperation"))
    }
}
