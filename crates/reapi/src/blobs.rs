//! Blobs: which the server lacks, and small ones in batches (REAPI, service `ContentAddressableStorage`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::build::bazel::remote::execution::v2::content_addressable_storage_client::ContentAddressableStorageClient;
use tonic::{Code, Status};

use crate::Result;
use crate::channel::Connection;
use crate::client::{Client, MESSAGE_MAX, is_passing, lock};
use crate::digest::Digest;
use crate::error::{FarmError, clean};

/// Digests in one request: each takes some 80 bytes of a message, which may have 4 MiB.
const DIGESTS_MAX: usize = 10_000;
/// Longer blobs go alone, as a stream.
const SMALL_MAX: u64 = 512 << 10;
/// What a blob takes in a batch beside its content.
const ENTRY_SIZE: u64 = 128;
/// How often a batch is sent again for blobs that the server could not take just then.
const BATCH_ATTEMPTS: u32 = 5;

/// Something to send.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Where it is.
    pub content: Content,
}

/// Where the content of a blob is.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// In a file that does not change. The second says whether compression makes it smaller.
    File(PathBuf, bool),
    /// On the server only: it cannot be sent.
    Elsewhere,
}

impl Blob {
    /// A blob in memory.
    pub fn of(bytes: Vec<u8>) -> Blob {
        Blob { digest: Digest::of(&bytes), content: Content::Bytes(bytes) }
    }

    /// The content, in memory.
    fn bytes(&self) -> Result<Vec<u8>> {
        match &self.content {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::File(path, _) => {
                std::fs::read(path).map_err(|source| FarmError::File { path: path.clone(), source })
            }
            Content::Elsewhere => Err(FarmError::Missing(vec![self.digest.clone()])),
        }
    }
}

impl Client {
    fn storage(&self) -> ContentAddressableStorageClient<Connection> {
        ContentAddressableStorageClient::new(self.connection.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Those of `digests` that the server does not have, each once.
    ///
    /// # Errors
    ///
    /// The server does not answer, or refuses this client.
    pub fn missing(&self, digests: &[Digest]) -> Result<BTreeSet<Digest>> {
        self.wait(self.find_missing(digests))
    }

    async fn find_missing(&self, digests: &[Digest]) -> Result<BTreeSet<Digest>> {
        let asked: BTreeSet<&Digest> = digests.iter().collect();
        let asked: Vec<&Digest> = asked.into_iter().collect();
        let mut missing = BTreeSet::new();
        for some in asked.chunks(DIGESTS_MAX) {
            let message = reapi::FindMissingBlobsRequest {
                instance_name: self.instance(),
                blob_digests: some.iter().map(|digest| digest.to_message()).collect(),
                digest_function: reapi::digest_function::Value::Sha256 as i32,
            };
            let answer = self
                .repeat("FindMissingBlobs", || async {
                    self.storage().find_missing_blobs(self.request(message.clone())).await
                })
                .await?;
            let named = answer.missing_blob_digests.iter().filter_map(Digest::from_message);
            missing.extend(named.filter(|digest| some.contains(&digest)));
        }
        Ok(missing)
    }

    /// Sends those blobs that the server does not have. Those in memory are most likely new, as messages are:
    /// small ones are sent without a question, while the server is asked for the others.
    ///
    /// # Errors
    ///
    /// The server does not answer, refuses this client or a blob; a file cannot be read.
    pub fn send(&self, blobs: &[Blob]) -> Result<()> {
        let known: BTreeMap<&Digest, &Blob> = blobs.iter().map(|blob| (&blob.digest, blob)).collect();
        if let Some(max) = self.capabilities.blob_size_max
            && let Some(digest) = known.keys().find(|digest| digest.size() > max)
        {
            let reason = format!("it takes blobs of at most {max} bytes, and the step needs {digest}");
            return Err(FarmError::Unfit { farm: self.name(), reason });
        }
        let small_max = SMALL_MAX.min(self.capabilities.batch_size_max.saturating_sub(ENTRY_SIZE));
        let is_new =
            |blob: &&Blob| matches!(blob.content, Content::Bytes(_)) && blob.digest.size() <= small_max;
        let (new, asked): (Vec<&Blob>, Vec<&Blob>) = known.values().copied().partition(is_new);
        self.drive();
        self.wait(async {
            let send_others = async {
                let digests: Vec<Digest> = asked.iter().map(|blob| blob.digest.clone()).collect();
                let missing = self.find_missing(&digests).await?;
                let missing = missing.iter().filter_map(|digest| known.get(digest).copied());
                let (small, large): (Vec<&Blob>, Vec<&Blob>) =
                    missing.partition(|blob| blob.digest.size() <= small_max);
                self.send_small(&small).await?;
                for blob in large {
                    self.send_large(blob).await?;
                }
                Ok(())
            };
            tokio::try_join!(self.send_small(&new), send_others).map(|_| ())
        })
    }

    async fn send_small(&self, blobs: &[&Blob]) -> Result<()> {
        let mut batch = Vec::new();
        let mut size = 0;
        for blob in blobs {
            let more = blob.digest.size() + ENTRY_SIZE;
            if size + more > self.capabilities.batch_size_max && !batch.is_empty() {
                self.send_batch(std::mem::take(&mut batch)).await?;
                size = 0;
            }
            batch.push((blob.digest.clone(), blob.bytes()?));
            size += more;
        }
        if batch.is_empty() { Ok(()) } else { self.send_batch(batch).await }
    }

    /// Sends blobs in one request, and those again that the server could not take just then.
    async fn send_batch(&self, mut batch: Vec<(Digest, Vec<u8>)>) -> Result<()> {
        let mut attempt = 0;
        loop {
            let request = |(digest, data): &(Digest, Vec<u8>)| reapi::batch_update_blobs_request::Request {
                digest: Some(digest.to_message()),
                data: data.clone(),
                compressor: reapi::compressor::Value::Identity as i32,
            };
            let message = reapi::BatchUpdateBlobsRequest {
                instance_name: self.instance(),
                requests: batch.iter().map(request).collect(),
                digest_function: reapi::digest_function::Value::Sha256 as i32,
            };
            let answer = self
                .repeat("BatchUpdateBlobs", || async {
                    self.storage().batch_update_blobs(self.request(message.clone())).await
                })
                .await?;
            let mut refused = BTreeMap::new();
            for response in answer.responses {
                let (digest, status) =
                    (response.digest.unwrap_or_default(), response.status.unwrap_or_default());
                if status.code != 0
                    && let Some(digest) = Digest::from_message(&digest)
                {
                    refused.insert(digest, status);
                }
            }
            batch.retain(|(digest, _)| refused.contains_key(digest));
            let Some((digest, status)) = refused.into_iter().next() else { return Ok(()) };
            let status =
                Status::new(Code::from(status.code), format!("{}: {}", digest, clean(&status.message)));
            attempt += 1;
            if !is_passing(&status) || attempt == BATCH_ATTEMPTS {
                return Err(FarmError::of_status(&self.name(), &status));
            }
            self.pause("BatchUpdateBlobs", &status, &mut attempt.clone()).await?;
        }
    }

    /// Sends a blob as a stream. If another thread is sending it, waits for that one.
    async fn send_large(&self, blob: &Blob) -> Result<()> {
        let turn = lock(&self.sending).entry(blob.digest.clone()).or_default().clone();
        let is_alone = turn.try_lock();
        let result = match is_alone {
            Ok(_guard) => self.write_stream(blob).await,
            Err(_) => {
                let _guard = turn.lock().await;
                match self.find_missing(std::slice::from_ref(&blob.digest)).await {
                    Ok(missing) if missing.is_empty() => Ok(()),
                    Ok(_) => self.write_stream(blob).await,
                    Err(error) => Err(error),
                }
            }
        };
        lock(&self.sending).remove(&blob.digest);
        result
    }

    /// A blob of a few kilobytes, verified.
    ///
    /// # Errors
    ///
    /// The server does not have it, or sent something else; it is longer than a batch.
    pub fn read_small(&self, digest: &Digest) -> Result<Vec<u8>> {
        if digest.size() == 0 {
            return Ok(Vec::new());
        }
        if digest.size() > SMALL_MAX {
            let problem = format!("at most {SMALL_MAX} bytes were expected");
            return Err(FarmError::Corrupt { digest: digest.clone(), problem });
        }
        let response = self.batch_read(std::slice::from_ref(digest))?.into_iter().next();
        let response = response.ok_or_else(|| FarmError::Missing(vec![digest.clone()]))?;
        match response.status.filter(|status| status.code != 0) {
            Some(status) if Code::from(status.code) == Code::NotFound => {
                Err(FarmError::Missing(vec![digest.clone()]))
            }
            Some(status) => Err(FarmError::of_message(&self.name(), &status)),
            None if Digest::of(&response.data) == *digest => Ok(response.data),
            None => {
                let problem = format!("it is {}", Digest::of(&response.data));
                Err(FarmError::Corrupt { digest: digest.clone(), problem })
            }
        }
    }

    /// How many of the first of these fit into one request of [`Client::read_some`].
    pub fn fits_batch(&self, digests: &[Digest]) -> usize {
        let mut size = 0;
        let fits = |digest: &&Digest| {
            size += digest.size() + ENTRY_SIZE;
            size <= self.capabilities.batch_size_max
        };
        digests.iter().take_while(fits).count()
    }

    /// Those of some small blobs that the server has, verified, in one request. What it lacks or sends wrong
    /// is left out: reading it alone tells why.
    ///
    /// # Errors
    ///
    /// The server does not answer, or refuses this client.
    pub fn read_some(&self, digests: &[Digest]) -> Result<Vec<(Digest, Vec<u8>)>> {
        let responses = self.batch_read(digests)?.into_iter();
        let good = |response: reapi::batch_read_blobs_response::Response| {
            let digest = Digest::of(&response.data);
            let is_good = response.status.as_ref().is_none_or(|status| status.code == 0);
            (is_good && digests.contains(&digest)).then_some((digest, response.data))
        };
        Ok(responses.filter_map(good).collect())
    }

    fn batch_read(&self, digests: &[Digest]) -> Result<Vec<reapi::batch_read_blobs_response::Response>> {
        let message = reapi::BatchReadBlobsRequest {
            instance_name: self.instance(),
            digests: digests.iter().map(Digest::to_message).collect(),
            acceptable_compressors: Vec::new(),
            digest_function: reapi::digest_function::Value::Sha256 as i32,
        };
        let answer = self.wait(self.repeat("BatchReadBlobs", || async {
            self.storage().batch_read_blobs(self.request(message.clone())).await
        }))?;
        Ok(answer.responses)
    }
}
