//! Blobs over gRPC: services `ContentAddressableStorage` and `ByteStream`.

use std::io::{self, Read, Seek, SeekFrom, Write};

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::{bytestream as bytes, rpc};
use reapi::content_addressable_storage_server::ContentAddressableStorage;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::hooks::Streamed;
use crate::service::Service;
use crate::storage::Writing;

/// Bytes in one message of a stream.
const CHUNK_SIZE: usize = 256 << 10;
/// Level of zstd: the network is the limit.
const LEVEL: i32 = 1;

fn failed(error: &io::Error) -> Status {
    Status::internal(format!("the worker's storage: {error}"))
}

#[tonic::async_trait]
impl ContentAddressableStorage for Service {
    type GetTreeStream = Streamed<reapi::GetTreeResponse>;
    type GetChunkMappingStream = Streamed<reapi::GetChunkMappingResponse>;

    async fn find_missing_blobs(
        &self,
        request: Request<reapi::FindMissingBlobsRequest>,
    ) -> Result<Response<reapi::FindMissingBlobsResponse>, Status> {
        let mut missing_blob_digests = request.into_inner().blob_digests;
        missing_blob_digests.retain(|digest| digest.size_bytes != 0 && !self.0.storage.has(digest));
        Ok(Response::new(reapi::FindMissingBlobsResponse { missing_blob_digests }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<reapi::BatchUpdateBlobsRequest>,
    ) -> Result<Response<reapi::BatchUpdateBlobsResponse>, Status> {
        let mut responses = Vec::new();
        let requests = request.into_inner().requests;
        let (size, size_max) = (requests.iter().map(|r| r.data.len()).sum::<usize>(), self.batch_size_max());
        if size_max.is_some_and(|max| size > max) {
            return Err(Status::invalid_argument(format!("a batch of {size} bytes is too long")));
        }
        for request in requests {
            let kept = self.0.storage.keep(&request.data).map_err(|e| failed(&e))?;
            let code = match request.digest.as_ref() == Some(&kept) {
                true => 0,
                false => Code::InvalidArgument as i32,
            };
            let status = Some(rpc::Status { code, ..rpc::Status::default() });
            responses.push(reapi::batch_update_blobs_response::Response { digest: request.digest, status });
        }
        Ok(Response::new(reapi::BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<reapi::BatchReadBlobsRequest>,
    ) -> Result<Response<reapi::BatchReadBlobsResponse>, Status> {
        let responses = request.into_inner().digests.into_iter().map(|digest| {
            let data = self.read_small(&digest);
            let code = if data.is_some() { 0 } else { Code::NotFound as i32 };
            let status = Some(rpc::Status { code, ..rpc::Status::default() });
            let data = data.unwrap_or_default();
            reapi::batch_read_blobs_response::Response { digest: Some(digest), data, compressor: 0, status }
        });
        Ok(Response::new(reapi::BatchReadBlobsResponse { responses: responses.collect() }))
    }

    async fn get_tree(
        &self,
        _: Request<reapi::GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        Err(Status::unimplemented("GetTree"))
    }

    async fn split_blob(
        &self,
        _: Request<reapi::SplitBlobRequest>,
    ) -> Result<Response<reapi::SplitBlobResponse>, Status> {
        Err(Status::unimplemented("SplitBlob"))
    }

    async fn get_chunk_mapping(
        &self,
        _: Request<reapi::GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        Err(Status::unimplemented("GetChunkMapping"))
    }

    async fn splice_blob(
        &self,
        _: Request<reapi::SpliceBlobRequest>,
    ) -> Result<Response<reapi::SpliceBlobResponse>, Status> {
        Err(Status::unimplemented("SpliceBlob"))
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<reapi::RegisterChunkMappingRequest>>,
    ) -> Result<Response<reapi::RegisterChunkMappingResponse>, Status> {
        Err(Status::unimplemented("RegisterChunkMapping"))
    }
}

impl Service {
    /// Longest batch of blobs in bytes. `None` for no limit.
    fn batch_size_max(&self) -> Option<usize> {
        let max = self.capabilities().cache_capabilities.unwrap_or_default().max_batch_total_size_bytes;
        usize::try_from(max).ok().filter(|max| *max > 0)
    }

    /// The bytes of a small blob, as a client is to have them.
    fn read_small(&self, digest: &reapi::Digest) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        if digest.size_bytes != 0 {
            let mut reader = self.0.hooks.reader(self.0.storage.open_blob(digest)?);
            reader.read_to_end(&mut bytes).ok()?;
        }
        Some(bytes)
    }
}

/// A resource name: whether it is compressed, and the digest.
fn resource(name: &str) -> Result<(bool, reapi::Digest), Status> {
    let wrong = || Status::invalid_argument(format!("{name} is no resource"));
    let parts: Vec<&str> = name.split('/').collect();
    let [.., kind, hash, size] = parts[..] else { return Err(wrong()) };
    let size_bytes = size.parse().map_err(|_| wrong())?;
    let is_compressed = kind == "zstd" && name.contains("compressed-blobs/");
    match is_compressed || kind == "blobs" {
        true => Ok((is_compressed, reapi::Digest { hash: hash.to_string(), size_bytes })),
        false => Err(wrong()),
    }
}

/// Where an upload goes.
enum Upload {
    Plain(Box<Writing>),
    Compressed(Box<zstd::stream::write::Decoder<'static, Writing>>),
}

impl Upload {
    fn new(writing: Writing, is_compressed: bool) -> io::Result<Upload> {
        Ok(match is_compressed {
            true => Upload::Compressed(Box::new(zstd::stream::write::Decoder::new(writing)?)),
            false => Upload::Plain(Box::new(writing)),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Upload::Plain(writing) => writing.write_all(bytes),
            Upload::Compressed(decoder) => decoder.write_all(bytes),
        }
    }

    fn keep(self) -> io::Result<reapi::Digest> {
        match self {
            Upload::Plain(writing) => writing.keep(),
            Upload::Compressed(mut decoder) => {
                decoder.flush()?;
                decoder.into_inner().keep()
            }
        }
    }
}

#[tonic::async_trait]
impl bytes::byte_stream_server::ByteStream for Service {
    type ReadStream = Streamed<bytes::ReadResponse>;

    async fn read(&self, request: Request<bytes::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        if let Some(output) = self.0.stream(&request.resource_name) {
            return Ok(Response::new(listen(output)));
        }
        let (is_compressed, digest) = resource(&request.resource_name)?;
        let mut file = self.0.storage.open_blob(&digest).ok_or_else(|| Status::not_found("no such blob"))?;
        let offset = u64::try_from(request.read_offset).unwrap_or_default();
        file.seek(SeekFrom::Start(offset)).map_err(|e| failed(&e))?;
        let reader = self.0.hooks.reader(file);
        let (sender, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = produce(reader, is_compressed, &sender) {
                let _ = sender.blocking_send(Err(failed(&error)));
            }
        });
        Ok(Response::new(self.0.hooks.download(Box::pin(ReceiverStream::new(receiver)))))
    }

    async fn write(
        &self,
        request: Request<Streaming<bytes::WriteRequest>>,
    ) -> Result<Response<bytes::WriteResponse>, Status> {
        let mut stream = self.0.hooks.upload(Box::pin(request.into_inner()));
        let mut upload = None;
        let mut expected = 0;
        while let Some(message) = stream.next().await {
            let message = message?;
            if upload.is_none() {
                let (is_compressed, digest) = resource(&message.resource_name)?;
                let writing = self.0.storage.writing().and_then(|w| Upload::new(w, is_compressed));
                upload = Some((writing.map_err(|e| failed(&e))?, digest));
            }
            if message.write_offset != expected {
                return Err(Status::invalid_argument(format!("{} is not {expected}", message.write_offset)));
            }
            expected += message.data.len() as i64;
            let (upload, _) = upload.as_mut().expect("set above");
            upload.write(&message.data).map_err(|e| failed(&e))?;
            if message.finish_write {
                break;
            }
        }
        let (upload, digest) = upload.ok_or_else(|| Status::invalid_argument("an upload of nothing"))?;
        match upload.keep().map_err(|e| failed(&e))? {
            kept if kept == digest => {
                Ok(Response::new(bytes::WriteResponse { committed_size: digest.size_bytes }))
            }
            _ => Err(Status::invalid_argument("the blob has another digest")),
        }
    }

    async fn query_write_status(
        &self,
        request: Request<bytes::QueryWriteStatusRequest>,
    ) -> Result<Response<bytes::QueryWriteStatusResponse>, Status> {
        let uploaded = self.0.hooks.uploaded(&request.get_ref().resource_name);
        let committed_size = uploaded.ok_or_else(|| Status::not_found("uploads that broke are not kept"))?;
        Ok(Response::new(bytes::QueryWriteStatusResponse { committed_size, complete: false }))
    }
}

/// Sends what is read.
fn produce(
    mut reader: Box<dyn Read + Send>,
    is_compressed: bool,
    sender: &mpsc::Sender<Result<bytes::ReadResponse, Status>>,
) -> io::Result<()> {
    if is_compressed {
        reader = Box::new(zstd::stream::read::Encoder::new(reader, LEVEL)?);
    }
    loop {
        let mut data = Vec::with_capacity(CHUNK_SIZE);
        let length = reader.by_ref().take(CHUNK_SIZE as u64).read_to_end(&mut data)?;
        // Nobody listens any more.
        if length == 0 || sender.blocking_send(Ok(bytes::ReadResponse { data })).is_err() {
            return Ok(());
        }
    }
}

/// What a running command writes.
fn listen(
    mut output: tokio::sync::watch::Receiver<crate::execution::Output>,
) -> Streamed<bytes::ReadResponse> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut sent = 0;
        loop {
            let (all, is_whole) = output.borrow_and_update().clone();
            for piece in all[sent..].chunks(CHUNK_SIZE) {
                if sender.send(Ok(bytes::ReadResponse { data: piece.to_vec() })).await.is_err() {
                    return;
                }
            }
            sent = all.len();
            drop(all);
            if is_whole || output.changed().await.is_err() {
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}
