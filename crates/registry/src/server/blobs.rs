//! Blobs: sends them whole, in ranges or conditionally, and deletes them.

use std::sync::Arc;

use crossdock_oci::Digest;
use hyper::Method;
use hyper::header::RANGE;

use super::faults::Fault;
use super::handler::Handler;
use super::metrics::add;
use super::range::{Condition, Wanted, check_conditions, parse_ranges, range_counts};
use super::reply::{Builder, Problem, reply};
use super::reply_body::ReplyBody;
use super::request::{Failure, Handled, Head, blocking, not_modified, text_header};
use super::storage::random_hex;

/// Blobs have no type of their own.
const BLOB_TYPE: &str = "application/octet-stream";

impl Handler {
    pub(super) async fn blob(self: &Arc<Handler>, head: &Head<'_>, name: String, digest: Digest) -> Handled {
        let (storage, repository) = (self.storage.clone(), name.clone());
        let wanted = digest.clone();
        let found = blocking(move || Ok(storage.open_blob(&repository, &wanted)?)).await?;
        let (file, size, filled) = match (found, &self.cache) {
            (Some((file, size)), cache) => {
                add(&self.metrics.cache_hits, u64::from(cache.is_some()));
                (Arc::new(file), size, None)
            }
            (None, Some(cache)) if head.method == Method::HEAD => {
                let size = self.remote_size(cache, &name, &digest).await?.ok_or_else(blob_unknown)?;
                return Ok(described(200, &digest).with("content-length", &size.to_string()).empty());
            }
            (None, _) => {
                let fetch = self.fetch_blob(&name, &digest).await?.ok_or_else(blob_unknown)?;
                (fetch.file, fetch.size, Some(fetch.filled))
            }
        };
        match check_conditions(head.headers, digest.as_str()) {
            Condition::Holds => {}
            Condition::NotModified => return Ok(not_modified(&digest)),
            Condition::Failed => return Err(another_content().into()),
        }
        let answer = |status| described(status, &digest);
        if head.method == Method::HEAD {
            return Ok(answer(200).with("content-length", &size.to_string()).empty());
        }
        let ranges = match head.fault {
            Some(Fault::IgnoreRange) => Wanted::Whole,
            _ if !range_counts(head.headers, digest.as_str()) => Wanted::Whole,
            _ => text_header(head.headers, RANGE.as_str())
                .map_or(Wanted::Whole, |text| parse_ranges(text, size)),
        };
        let mut body = ReplyBody::empty();
        let add_part = |body: &mut ReplyBody, start, length| match &filled {
            None => body.add_file(&file, start, length),
            Some(filled) => body.add_growing(&file, start, length, filled.clone()),
        };
        match ranges {
            Wanted::Whole => {
                add_part(&mut body, 0, size);
                Ok(answer(200).stream(body))
            }
            Wanted::Nothing => Err(Problem::new(416, "RANGE_INVALID", "no such bytes")
                .header("content-range", format!("bytes */{size}"))
                .into()),
            Wanted::Parts(parts) => match parts[..] {
                [(start, length)] => {
                    add_part(&mut body, start, length);
                    Ok(answer(206).with("content-range", &content_range(start, length, size)).stream(body))
                }
                // One part for each range, in the order of the ranges: clients count the parts.
                _ => {
                    let boundary = random_hex()?;
                    for (start, length) in parts {
                        let range = content_range(start, length, size);
                        let head = format!(
                            "\r\n--{boundary}\r\nContent-Type: {BLOB_TYPE}\r\nContent-Range: {range}\r\n\r\n"
                        );
                        body.add_bytes(head.into_bytes());
                        add_part(&mut body, start, length);
                    }
                    body.add_bytes(format!("\r\n--{boundary}--\r\n").into_bytes());
                    let content_type = format!("multipart/byteranges; boundary={boundary}");
                    Ok(answer(206).with("content-type", &content_type).stream(body))
                }
            },
        }
    }

    pub(super) async fn delete_blob(&self, name: String, digest: Digest) -> Handled {
        let storage = self.storage.clone();
        let unlink = move || {
            storage.may_be_deleted(&name, &digest)?;
            Ok(storage.unlink_blob(&name, &digest)?)
        };
        match blocking(unlink).await? {
            true => Ok(reply(202).empty()),
            false => Err(Failure::from(blob_unknown())),
        }
    }
}

/// The headers that all answers about a blob have.
fn described(status: u16, digest: &Digest) -> Builder {
    reply(status)
        .with("content-type", BLOB_TYPE)
        .with("docker-content-digest", digest.as_str())
        .with("etag", &format!("\"{digest}\""))
        .with("accept-ranges", "bytes")
}

fn content_range(start: u64, length: u64, size: u64) -> String {
    format!("bytes {start}-{}/{size}", start + length - 1)
}

fn blob_unknown() -> Problem {
    Problem::new(404, "BLOB_UNKNOWN", "no such blob in this repository")
}

/// The answer to an `If-Match` that does not match.
pub(super) fn another_content() -> Problem {
    Problem::new(412, "UNSUPPORTED", "the content is not the one that If-Match names")
}
