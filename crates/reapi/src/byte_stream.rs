//! Large blobs as streams that go on where they ended (googleapis, `google/bytestream/bytestream.proto`;
//! REAPI, service `ContentAddressableStorage`, on names of resources).

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use bazel_remote_apis::google::bytestream::byte_stream_client::ByteStreamClient;
use bazel_remote_apis::google::bytestream::{QueryWriteStatusRequest, ReadRequest, WriteRequest};
use crossdock_oci::digest::Hasher;
use crossdock_oci::name::random_name;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};

use crate::Result;
use crate::blobs::{Blob, Content};
use crate::channel::Connection;
use crate::client::{Client, MESSAGE_MAX};
use crate::digest::Digest;
use crate::error::FarmError;

/// Bytes in one message of a stream.
const CHUNK_SIZE: usize = 256 << 10;
/// Messages that wait to be sent.
const CHUNKS_WAITING: usize = 4;
/// Level of zstd: the network is the limit, and the other end has to unpack.
const LEVEL: i32 = 3;
/// Shorter blobs are not worth a compressor.
const COMPRESSED_FROM: u64 = 64 << 10;

impl Client {
    fn streams(&self) -> ByteStreamClient<Connection> {
        ByteStreamClient::new(self.connection.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// `INSTANCE/`, or nothing.
    fn prefix(&self) -> String {
        match self.settings.address.instance.as_str() {
            "" => String::new(),
            instance => format!("{instance}/"),
        }
    }

    /// Sends a blob. What the server has of it after a failure is not sent again, unless it is compressed:
    /// servers do not agree on what they have then.
    pub(crate) async fn write_stream(&self, blob: &Blob) -> Result<()> {
        if matches!(blob.content, Content::Elsewhere) {
            return Err(FarmError::Missing(vec![blob.digest.clone()]));
        }
        let is_compressible = matches!(blob.content, Content::File(_, true));
        let is_compressed =
            is_compressible && self.capabilities.has_zstd && blob.digest.size() >= COMPRESSED_FROM;
        let kind = if is_compressed { "compressed-blobs/zstd" } else { "blobs" };
        let name = || format!("{}uploads/{}/{kind}/{}", self.prefix(), uuid(), blob.digest);
        let (mut resource, mut offset, mut attempt) = (name(), 0, 0);
        loop {
            let status = match self.write_from(blob, &resource, offset, is_compressed).await? {
                Ok(()) => return Ok(()),
                Err(status) => status,
            };
            let before = offset;
            self.pause("ByteStream.Write", &status, &mut attempt).await?;
            offset = if is_compressed { 0 } else { self.committed(&resource).await };
            if offset == blob.digest.size() {
                return Ok(());
            }
            if offset > before {
                attempt = 0;
            }
            if offset == 0 {
                resource = name();
            }
        }
    }

    /// How much the server has of an upload; 0 if it does not know.
    async fn committed(&self, resource: &str) -> u64 {
        let message = QueryWriteStatusRequest { resource_name: resource.to_string() };
        let answer = self.streams().query_write_status(self.request(message)).await;
        answer.map_or(0, |answer| u64::try_from(answer.into_inner().committed_size).unwrap_or(0))
    }

    /// Sends a blob from an offset on. The inner error is that of the request.
    async fn write_from(
        &self,
        blob: &Blob,
        resource: &str,
        offset: u64,
        is_compressed: bool,
    ) -> Result<std::result::Result<(), Status>> {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let (content, name) = (blob.content.clone(), resource.to_string());
        let produce = move || produce(&content, offset, is_compressed, &name, &sender);
        let produced = tokio::task::spawn_blocking(produce);
        let mut streams = self.streams();
        let answer = streams.write(Request::new(ReceiverStream::new(receiver))).await;
        let read = produced.await.map_err(|e| FarmError::io("read a blob", io::Error::other(e)))?;
        // What the server says explains more than a stream that could not be written to its end.
        Ok(match answer {
            Ok(answer) => {
                read.map_err(|e| FarmError::io(format!("send the blob {}", blob.digest), e))?;
                let committed = answer.into_inner().committed_size;
                match is_compressed || committed == blob.digest.to_message().size_bytes {
                    true => Ok(()),
                    false => {
                        Err(Status::aborted(format!("the server took {committed} bytes of {}", blob.digest)))
                    }
                }
            }
            Err(status) => Err(status),
        })
    }

    /// Reads a blob into `sink`, and verifies it: on an error, what `sink` has is worth nothing. A stream
    /// that breaks goes on where it ended.
    ///
    /// # Errors
    ///
    /// The server does not have the blob or sent something else; `sink` cannot be written.
    pub fn read(&self, digest: &Digest, is_compressible: bool, sink: &mut (dyn Write + Send)) -> Result<()> {
        if digest.size() == 0 {
            return Ok(());
        }
        let is_compressed = is_compressible && self.capabilities.has_zstd && digest.size() >= COMPRESSED_FROM;
        let kind = if is_compressed { "compressed-blobs/zstd" } else { "blobs" };
        let resource = format!("{}{kind}/{digest}", self.prefix());
        let mut received = Received { sink, hasher: Hasher::sha256(), size: 0, size_max: digest.size() };
        let corrupt = |problem: String| FarmError::Corrupt { digest: digest.clone(), problem };
        self.drive();
        self.wait(async {
            let mut attempt = 0;
            loop {
                let before = received.size;
                let status = match self.read_from(&resource, is_compressed, &mut received).await {
                    Ok(()) if received.size == digest.size() => break,
                    Ok(()) => Status::unavailable(format!(
                        "the stream of {digest} ended after {} bytes",
                        received.size
                    )),
                    Err(ReadError::Status(status)) if status.code() == Code::NotFound => {
                        return Err(FarmError::Missing(vec![digest.clone()]));
                    }
                    Err(ReadError::Status(status)) => status,
                    Err(ReadError::TooLong) => return Err(corrupt("it is longer".to_string())),
                    Err(ReadError::Io(error)) => {
                        return Err(FarmError::io(format!("write the blob {digest}"), error));
                    }
                    Err(ReadError::Compression(error)) => {
                        return Err(corrupt(format!("it is no zstd: {error}")));
                    }
                };
                if received.size > before {
                    attempt = 0;
                }
                self.pause("ByteStream.Read", &status, &mut attempt).await?;
            }
            Ok(())
        })?;
        match received.hasher.finish() {
            found if found == *digest.sha256() => Ok(()),
            found => Err(corrupt(format!("it is {}", found.hex()))),
        }
    }

    async fn read_from(
        &self,
        resource: &str,
        is_compressed: bool,
        received: &mut Received<'_>,
    ) -> std::result::Result<(), ReadError> {
        // No file is longer than i64::MAX.
        let read_offset = i64::try_from(received.size).unwrap_or(i64::MAX);
        let message = ReadRequest { resource_name: resource.to_string(), read_offset, read_limit: 0 };
        let late = |_| ReadError::Status(Status::deadline_exceeded("the stream of a blob stands still"));
        let patience = self.settings.patience;
        let mut streams = self.streams();
        let answer = tokio::time::timeout(patience, streams.read(Request::new(message))).await;
        let mut stream = answer.map_err(late)?.map_err(ReadError::Status)?.into_inner();
        if !is_compressed {
            while let Some(message) = tokio::time::timeout(patience, stream.message())
                .await
                .map_err(late)?
                .map_err(ReadError::Status)?
            {
                received.take(&message.data)?;
            }
            return Ok(());
        }
        let decoder = zstd::stream::write::Decoder::new(Plain { received, error: None });
        let mut decoder = decoder.map_err(ReadError::Compression)?;
        while let Some(message) = tokio::time::timeout(patience, stream.message())
            .await
            .map_err(late)?
            .map_err(ReadError::Status)?
        {
            let written = decoder.write_all(&message.data).and_then(|()| decoder.flush());
            if let Err(error) = written {
                return Err(decoder.get_mut().error.take().unwrap_or(ReadError::Compression(error)));
            }
        }
        Ok(())
    }
}

/// What came of a blob so far.
struct Received<'a> {
    sink: &'a mut (dyn Write + Send),
    hasher: Hasher,
    size: u64,
    size_max: u64,
}

enum ReadError {
    Status(Status),
    TooLong,
    Io(io::Error),
    Compression(io::Error),
}

impl Received<'_> {
    fn take(&mut self, bytes: &[u8]) -> std::result::Result<(), ReadError> {
        let size = self.size + bytes.len() as u64;
        if size > self.size_max {
            return Err(ReadError::TooLong);
        }
        self.sink.write_all(bytes).map_err(ReadError::Io)?;
        self.hasher.update(bytes);
        self.size = size;
        Ok(())
    }
}

/// The end of a decoder: keeps the error that the decoder would wrap.
struct Plain<'r, 'a> {
    received: &'r mut Received<'a>,
    error: Option<ReadError>,
}

impl Write for Plain<'_, '_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.received.take(buffer) {
            Ok(()) => Ok(buffer.len()),
            Err(error) => {
                self.error = Some(error);
                Err(io::Error::other("the blob cannot be taken"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts a blob into messages, from an offset on.
fn produce(
    content: &Content,
    offset: u64,
    is_compressed: bool,
    resource: &str,
    sender: &mpsc::Sender<WriteRequest>,
) -> io::Result<()> {
    let mut reader: Box<dyn Read> = match content {
        Content::Bytes(bytes) => {
            let mut reader = Cursor::new(bytes.clone());
            reader.set_position(offset);
            Box::new(reader)
        }
        Content::File(path, _) => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            Box::new(file)
        }
        Content::Elsewhere => return Err(io::Error::other("the blob was never here")),
    };
    if is_compressed {
        reader = Box::new(zstd::stream::read::Encoder::new(reader, LEVEL)?);
    }
    let mut write_offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let mut resource_name = resource.to_string();
    loop {
        let mut data = Vec::with_capacity(CHUNK_SIZE);
        reader.by_ref().take(CHUNK_SIZE as u64).read_to_end(&mut data)?;
        let length = data.len();
        let finish_write = length < CHUNK_SIZE;
        let message = WriteRequest {
            resource_name: std::mem::take(&mut resource_name),
            write_offset,
            finish_write,
            data,
        };
        // Nobody listens once the server has answered, as it does if it has the blob already.
        if sender.blocking_send(message).is_err() || finish_write {
            return Ok(());
        }
        write_offset += length as i64;
    }
}

/// A random UUID (RFC 9562, version 4), which names an upload.
fn uuid() -> String {
    let digest = Digest::of(random_name().as_bytes());
    let hex = digest.hex();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_have_names_of_their_own() {
        let one = uuid();
        assert_eq!(one.len(), 36);
        assert_eq!((&one[14..15], &one[19..20], &one[8..9]), ("4", "8", "-"));
        assert_ne!(one, uuid());
    }

    #[test]
    fn a_blob_is_cut_into_messages() {
        let bytes: Vec<u8> = (0..CHUNK_SIZE + 10).map(|i| i as u8).collect();
        let (sender, mut receiver) = mpsc::channel(CHUNKS_WAITING);
        produce(&Content::Bytes(bytes.clone()), 5, false, "name", &sender).expect("produced");
        let first = receiver.try_recv().expect("a message");
        assert_eq!(
            (first.resource_name.as_str(), first.write_offset, first.finish_write),
            ("name", 5, false)
        );
        let last = receiver.try_recv().expect("another message");
        assert_eq!((last.write_offset, last.finish_write), ((CHUNK_SIZE + 5) as i64, true));
        assert_eq!([first.data, last.data].concat(), bytes[5..]);
        assert!(receiver.try_recv().is_err());
    }
}
