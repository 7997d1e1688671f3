//! The service `containerd.services.content.v1.Content`, as far as clients use it to read what records of
//! builds name: logs, provenance, manifests (containerd, api/services/content/v1/content.proto).

use std::convert::Infallible;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use crossdock_oci::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::blobs::{ReadAnswer, ReadRequest};
use crate::house::House;

/// Bytes of a blob in one message.
const PIECE: usize = 1024 * 1024;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InfoRequest {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InfoAnswer {
    #[prost(message, optional, tag = "1")]
    info: Option<Info>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Info {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    size: i64,
    #[prost(message, optional, tag = "3")]
    created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "4")]
    updated_at: Option<Timestamp>,
}

/// The service over blobs of records and of the store. It only reads.
#[derive(Clone)]
pub(crate) struct Content(pub Arc<House>);

/// A blob from an offset on, and its whole size.
struct Opened {
    reader: Box<dyn Read + Send>,
    size: u64,
}

impl Content {
    fn open(&self, digest: &str, offset: i64) -> Result<Opened, Status> {
        let digest: Digest =
            digest.parse().map_err(|_| Status::invalid_argument(format!("{digest:?} is not a digest")))?;
        let offset = u64::try_from(offset).map_err(|_| Status::out_of_range("a negative offset"))?;
        let failed = |error: &dyn std::fmt::Display| Status::internal(format!("read {digest}: {error}"));
        if let Some(bytes) = self.0.history.blob(&digest).map_err(|error| failed(&error))? {
            let size = bytes.len() as u64;
            let mut reader = std::io::Cursor::new(bytes);
            reader.set_position(offset.min(size));
            return Ok(Opened { reader: Box::new(reader), size });
        }
        let store = self.0.desk.store().map_err(|error| failed(&error))?;
        let Some(size) = store.blob_size(&digest).map_err(|error| failed(&error))? else {
            return Err(Status::not_found(format!("content {digest}: not found")));
        };
        let (reader, _) = store.open_blob_at(&digest, offset.min(size)).map_err(|error| failed(&error))?;
        Ok(Opened { reader: Box::new(reader), size })
    }

    fn info(&self, request: &InfoRequest) -> Result<InfoAnswer, Status> {
        let size = i64::try_from(self.open(&request.digest, 0)?.size).unwrap_or(i64::MAX);
        let unknown = Some(Timestamp { seconds: 0, nanos: 0 });
        let info = Info { digest: request.digest.clone(), size, created_at: unknown, updated_at: unknown };
        Ok(InfoAnswer { info: Some(info) })
    }

    /// Sends the wanted part in pieces.
    fn read(
        &self,
        request: &ReadRequest,
        send: &mpsc::Sender<Result<ReadAnswer, Status>>,
    ) -> Result<(), Status> {
        let mut opened = self.open(&request.digest, request.offset)?;
        let wanted = match u64::try_from(request.size) {
            Ok(0) => u64::MAX,
            Ok(size) => size,
            Err(_) => return Err(Status::out_of_range("a negative size")),
        };
        let mut reader = (&mut opened.reader).take(wanted);
        let mut offset = request.offset;
        loop {
            let mut data = Vec::new();
            let piece = reader.by_ref().take(PIECE as u64).read_to_end(&mut data);
            let length =
                piece.map_err(|error| Status::internal(format!("read {}: {error}", request.digest)))?;
            if length == 0 {
                return Ok(());
            }
            // A client that has gone needs no more.
            if send.blocking_send(Ok(ReadAnswer { offset, data })).is_err() {
                return Ok(());
            }
            offset += length as i64;
        }
    }
}

type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

impl UnaryService<InfoRequest> for Content {
    type Response = InfoAnswer;
    type Future = Future<Result<Response<InfoAnswer>, Status>>;

    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        let (content, request) = (self.clone(), request.into_inner());
        Box::pin(async move {
            let answer = tokio::task::spawn_blocking(move || content.info(&request)).await;
            answer.map_err(|_| Status::internal("a thread ended"))?.map(Response::new)
        })
    }
}

impl ServerStreamingService<ReadRequest> for Content {
    type Response = ReadAnswer;
    type ResponseStream = ReceiverStream<Result<ReadAnswer, Status>>;
    type Future = Future<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<ReadRequest>) -> Self::Future {
        let (content, request) = (self.clone(), request.into_inner());
        Box::pin(async move {
            let (send, receive) = mpsc::channel(4);
            tokio::task::spawn_blocking(move || {
                if let Err(status) = content.read(&request, &send) {
                    // A client that has gone hears nothing.
                    let _ = send.blocking_send(Err(status));
                }
            });
            Ok(Response::new(ReceiverStream::new(receive)))
        })
    }
}

impl NamedService for Content {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

impl tower::Service<http::Request<Body>> for Content {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Future<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let content = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_string();
            Ok(match method.as_str() {
                "Info" => Grpc::new(ProstCodec::default()).unary(content, request).await,
                "Read" => Grpc::new(ProstCodec::default()).server_streaming(content, request).await,
                other => Status::unimplemented(format!("contents are only read: {other}")).into_http(),
            })
        })
    }
}
