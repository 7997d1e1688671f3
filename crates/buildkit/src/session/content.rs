//! Stores of blobs that a client offers: OCI layouts and directories of caches (containerd,
//! api/services/content/v1).

use std::io::{Read, Write};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use crossdock_oci::{Descriptor, Digest, Document, Store, media_type};
use crossdock_platform::Platform;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{MESSAGE_SIZE_MAX, Session, said};
use crate::blobs::{ReadAnswer, ReadRequest};

/// Bytes of a blob that go into one message.
const PIECE: usize = 1024 * 1024;

/// The largest manifest or index that is read, in bytes.
const DOCUMENT_SIZE_MAX: usize = 4 * 1024 * 1024;

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    /// 0: tell the state; 1: write; 2: commit.
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(string, tag = "2")]
    r#ref: String,
    #[prost(int64, tag = "3")]
    total: i64,
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WriteAnswer {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
}

/// A store of the client.
pub struct ClientStore {
    session: Arc<Session>,
    id: String,
}

impl ClientStore {
    /// The store of an id: `local:DIRECTORY`, `oci:NAME`, `export`.
    pub fn new(session: Arc<Session>, id: &str) -> ClientStore {
        ClientStore { session, id: id.to_string() }
    }

    fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("buildkit-attachable-store-id", self.id.parse()?);
        Ok(request)
    }

    /// Fetches a blob into a store, and verifies it.
    ///
    /// # Errors
    ///
    /// The client does not have it, or it is not what its digest says.
    pub fn fetch(&self, store: &Store, blob: &Descriptor) -> Result<()> {
        if store.contains(&blob.digest)? {
            return Ok(());
        }
        let mut writer = store.blob_writer_with(blob.digest.hasher())?;
        self.read(&blob.digest, &mut |bytes| Ok(writer.write_all(bytes)?))?;
        writer.commit(Some(&blob.digest))?;
        Ok(())
    }

    /// Reads a small blob whose size is not known.
    ///
    /// # Errors
    ///
    /// As [`ClientStore::fetch`]; the blob has more than `limit` bytes.
    pub fn small(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.read(digest, &mut |bytes| {
            if all.len() + bytes.len() > limit {
                bail!("{digest} has more than {limit} bytes");
            }
            all.extend_from_slice(bytes);
            Ok(())
        })?;
        let mut hasher = digest.hasher();
        hasher.update(&all);
        if hasher.finish() != *digest {
            bail!("{digest} of the client is damaged");
        }
        Ok(all)
    }

    fn read(&self, digest: &Digest, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let request = self.request(ReadRequest { digest: digest.to_string(), offset: 0, size: 0 })?;
        let mut grpc = Grpc::new(self.session.channel.clone()).max_decoding_message_size(MESSAGE_SIZE_MAX);
        let doing = || format!("read {digest} of the client's store \"{}\"", self.id);
        let answer: Result<Response<Streaming<ReadAnswer>>, Status> = self.session.block(async {
            grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
            let codec: ProstCodec<ReadRequest, ReadAnswer> = ProstCodec::default();
            grpc.server_streaming(request, path, codec).await
        });
        let mut pieces = answer.map_err(|status| said(&status)).with_context(doing)?.into_inner();
        while let Some(piece) =
            self.session.block(pieces.message()).map_err(|s| said(&s)).with_context(doing)?
        {
            take(&piece.data)?;
        }
        Ok(())
    }

    /// Writes a blob of a store to the client's, unless the client has it.
    ///
    /// # Errors
    ///
    /// The client's words.
    pub fn write(&self, store: &Store, blob: &Descriptor) -> Result<()> {
        let mut reader = store.open_blob(&blob.digest)?;
        let (send, receive) = mpsc::channel::<WriteRequest>(4);
        let request = self.request(ReceiverStream::new(receive))?;
        let session = self.session.clone();
        let writing = self.session.runtime.spawn(write(session, request));
        let total = i64::try_from(blob.size).context("the blob is too large")?;
        let name = format!("crossdock-{}", blob.digest);
        let message = |action: i32, offset: i64, data: Vec<u8>| WriteRequest {
            action,
            r#ref: name.clone(),
            total,
            expected: blob.digest.to_string(),
            offset,
            data,
        };
        let mut offset = 0;
        loop {
            let mut data = vec![0; PIECE];
            let length = read_full(&mut reader, &mut data)?;
            data.truncate(length);
            let is_last = length < PIECE;
            let action = if is_last { 2 } else { 1 };
            // If the client has ended, its answer says why.
            if send.blocking_send(message(action, offset, data)).is_err() || is_last {
                break;
            }
            offset += length as i64;
        }
        drop(send);
        match self.session.block(writing) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) if status.code() == Code::AlreadyExists => Ok(()),
            Ok(Err(status)) => Err(said(&status))
                .with_context(|| format!("write {} to the client's store \"{}\"", blob.digest, self.id)),
            Err(_) => bail!("writing {} to the client failed", blob.digest),
        }
    }
}

async fn write(
    session: Arc<Session>,
    request: Request<impl Stream<Item = WriteRequest> + Send + 'static>,
) -> Result<(), Status> {
    let mut grpc = Grpc::new(session.channel.clone());
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Write");
    let codec: ProstCodec<WriteRequest, WriteAnswer> = ProstCodec::default();
    let mut answers = grpc.streaming(request, path, codec).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

/// Reads until the buffer is full or the end is reached.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

impl ClientStore {
    /// The images of a manifest or index of the client, fetched into a store.
    ///
    /// # Errors
    ///
    /// As [`ClientStore::fetch`]; something is no image.
    pub fn images(&self, store: &Store, digest: &Digest) -> Result<Vec<(Platform, Descriptor)>> {
        let bytes = self.small(digest, DOCUMENT_SIZE_MAX)?;
        store.write_blob(&bytes)?;
        match Document::parse(&bytes, None)? {
            Document::Index(index) => {
                let mut all = Vec::new();
                for entry in index.manifests.iter().filter(|entry| !is_attestation(entry)) {
                    all.extend(self.images(store, &entry.digest)?);
                }
                Ok(all)
            }
            Document::Manifest(manifest) => {
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    self.fetch(store, blob)?;
                }
                let kind = manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST);
                let descriptor = Descriptor::of(kind, &bytes);
                let platform = store.load_image(&descriptor)?.config.platform();
                Ok(vec![(platform.clone(), descriptor.with_platform(platform))])
            }
        }
    }
}

/// Whether an entry of an index is no image but says something of one.
fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key("vnd.docker.reference.type")
}
