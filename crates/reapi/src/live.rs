//! What a command writes while it runs, if the server offers that (REAPI, message
//! `ExecuteOperationMetadata`, `stdout_stream_name` and `stderr_stream_name`).

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream::ReadRequest;
use bazel_remote_apis::google::bytestream::byte_stream_client::ByteStreamClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Request;

use crate::channel::Connection;
use crate::client::MESSAGE_MAX;

/// Pieces of output that wait to be passed on.
const PIECES_WAITING: usize = 16;

/// A piece of output: whether it is of standard error, and its bytes.
type Piece = (bool, Vec<u8>);

/// The streams of one execution.
pub(crate) struct Live {
    connection: Connection,
    /// Names of the streams that are read: standard output and standard error.
    names: [String; 2],
    tasks: JoinSet<()>,
    sender: mpsc::Sender<Piece>,
    receiver: mpsc::Receiver<Piece>,
    /// Bytes of both streams that were passed on.
    told: [u64; 2],
}

impl Live {
    /// Nothing is read yet.
    pub fn new(connection: &Connection) -> Live {
        let (sender, receiver) = mpsc::channel(PIECES_WAITING);
        let (names, tasks, told) = Default::default();
        Live { connection: connection.clone(), names, tasks, sender, receiver, told }
    }

    /// Begins to read the streams that a server names. Streams of another name are those of another attempt,
    /// which begins with nothing.
    pub fn note(&mut self, metadata: &reapi::ExecuteOperationMetadata) {
        for (i, name) in [&metadata.stdout_stream_name, &metadata.stderr_stream_name].into_iter().enumerate()
        {
            if name.is_empty() || self.names[i] == *name {
                continue;
            }
            self.names[i].clone_from(name);
            self.told[i] = 0;
            let (connection, name, sender) = (self.connection.clone(), name.clone(), self.sender.clone());
            self.tasks.spawn(async move {
                // What cannot be read comes with the result.
                let _ = read(connection, name, i == 1, &sender).await;
            });
        }
    }

    /// The next piece of output; never, if there is none.
    pub async fn next(&mut self) -> Piece {
        let piece = self.receiver.recv().await.expect("a sender is kept here");
        self.told[usize::from(piece.0)] += piece.1.len() as u64;
        piece
    }

    /// Passes on what has come meanwhile. Gives the number of bytes of both streams that were passed on: the
    /// rest comes with the result, so nothing is waited for.
    pub fn finish(mut self, output: &mut (dyn FnMut(bool, &[u8]) + Send)) -> [u64; 2] {
        while let Ok((stderr, bytes)) = self.receiver.try_recv() {
            self.told[usize::from(stderr)] += bytes.len() as u64;
            output(stderr, &bytes);
        }
        self.told
    }
}

async fn read(
    connection: Connection,
    resource_name: String,
    stderr: bool,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), tonic::Status> {
    let mut service = ByteStreamClient::new(connection).max_decoding_message_size(MESSAGE_MAX);
    let request = Request::new(ReadRequest { resource_name, read_offset: 0, read_limit: 0 });
    let mut stream = service.read(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        if sender.send((stderr, message.data)).await.is_err() {
            break;
        }
    }
    Ok(())
}
