//! What a server can do (REAPI, message `ServerCapabilities`).

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::build::bazel::remote::execution::v2::compressor::Value as Compressor;
use bazel_remote_apis::build::bazel::remote::execution::v2::digest_function::Value as DigestFunction;

/// Longest message of a gRPC server that is not set up otherwise, less room for what surrounds blobs.
const BATCH_SIZE_MAX: u64 = (4 << 20) - (64 << 10);

/// What a server can do, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Bytes of all blobs in one batch.
    pub batch_size_max: u64,
    /// Length of one blob; `None` without a limit.
    pub blob_size_max: Option<u64>,
    /// Whether streams of bytes may be compressed with zstd.
    pub has_zstd: bool,
    /// Whether clients may write the action cache.
    pub may_update: bool,
}

impl Capabilities {
    /// Reads a server's answer.
    ///
    /// # Errors
    ///
    /// What the server lacks, as the end of a sentence.
    pub(crate) fn read(answer: &reapi::ServerCapabilities) -> Result<Capabilities, String> {
        let cache = answer.cache_capabilities.clone().unwrap_or_default();
        let execution = answer.execution_capabilities.clone();
        let is_on = |execution: &reapi::ExecutionCapabilities| execution.exec_enabled;
        let Some(execution) = execution.filter(is_on) else {
            return Err("it is a cache only and executes nothing".to_string());
        };
        if let Some(low) = answer.low_api_version.as_ref().filter(|low| low.major > 2) {
            return Err(format!("it speaks version {} of the API, and crossdock version 2", low.major));
        }
        let sha256 = DigestFunction::Sha256 as i32;
        // Old servers name only one function, or none.
        let of_execution = [&execution.digest_functions[..], &[execution.digest_function]].concat();
        let fits = |functions: &[i32]| functions.iter().all(|f| *f == 0) || functions.contains(&sha256);
        if !fits(&cache.digest_functions) || !fits(&of_execution) {
            let name = |f: &i32| DigestFunction::try_from(*f).map_or("an unknown one", |f| f.as_str_name());
            let functions: Vec<&str> = cache.digest_functions.iter().map(name).collect();
            return Err(format!(
                "it names blobs by {} and not by SHA256, as images do",
                functions.join(", ")
            ));
        }
        let limit = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
        Ok(Capabilities {
            batch_size_max: limit(cache.max_batch_total_size_bytes)
                .map_or(BATCH_SIZE_MAX, |max| max.min(BATCH_SIZE_MAX)),
            blob_size_max: limit(cache.max_cas_blob_size_bytes),
            has_zstd: cache.supported_compressors.contains(&(Compressor::Zstd as i32)),
            may_update: cache.action_cache_update_capabilities.is_some_and(|update| update.update_enabled),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> reapi::ServerCapabilities {
        reapi::ServerCapabilities {
            cache_capabilities: Some(reapi::CacheCapabilities {
                digest_functions: vec![DigestFunction::Sha256 as i32],
                ..reapi::CacheCapabilities::default()
            }),
            execution_capabilities: Some(reapi::ExecutionCapabilities {
                digest_function: DigestFunction::Sha256 as i32,
                exec_enabled: true,
                ..reapi::ExecutionCapabilities::default()
            }),
            ..reapi::ServerCapabilities::default()
        }
    }

    #[test]
    fn a_plain_server_will_do() {
        let read = Capabilities::read(&answer()).expect("it will do");
        assert_eq!((read.batch_size_max, read.blob_size_max), (BATCH_SIZE_MAX, None));
        assert!(!read.has_zstd && !read.may_update);
        let mut limited = answer();
        let cache = limited.cache_capabilities.as_mut().expect("set above");
        cache.max_batch_total_size_bytes = 1000;
        cache.max_cas_blob_size_bytes = 2000;
        cache.supported_compressors = vec![Compressor::Zstd as i32];
        cache.action_cache_update_capabilities =
            Some(reapi::ActionCacheUpdateCapabilities { update_enabled: true });
        let wanted = Capabilities {
            batch_size_max: 1000,
            blob_size_max: Some(2000),
            has_zstd: true,
            may_update: true,
        };
        assert_eq!(Capabilities::read(&limited), Ok(wanted));
    }

    #[test]
    fn what_is_lacking_is_named() {
        let mut cache_only = answer();
        cache_only.execution_capabilities = None;
        assert!(Capabilities::read(&cache_only).is_err_and(|e| e.contains("executes nothing")));
        let mut other = answer();
        other.cache_capabilities.as_mut().expect("set above").digest_functions =
            vec![DigestFunction::Blake3 as i32];
        assert!(Capabilities::read(&other).is_err_and(|e| e.contains("BLAKE3")));
    }
}
