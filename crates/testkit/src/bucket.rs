//! A bucket of S3, in memory: objects by presigned addresses in path style.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::http::{Answer, serve};

/// The id of the access key that opens the bucket.
pub const ACCESS_KEY: &str = "TESTKEY";

/// The bucket; it runs as long as the test.
pub struct TestBucket {
    address: String,
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl TestBucket {
    /// Starts the service on a free port of this machine.
    pub fn start() -> TestBucket {
        let objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
        let kept = objects.clone();
        let address = serve(move |request| {
            let credential = request.parameter("X-Amz-Credential").unwrap_or_default();
            let is_signed = request.parameter("X-Amz-Signature").is_some_and(|text| text.len() == 64);
            let mut objects = kept.lock().expect("no thread panics");
            let (status, body) = match (request.method.as_str(), request.path.strip_prefix("/cache/")) {
                _ if !is_signed || !credential.starts_with(&format!("{ACCESS_KEY}/")) => {
                    (403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>".to_vec())
                }
                ("PUT", Some(key)) => {
                    objects.insert(key.to_string(), request.body.clone());
                    (200, Vec::new())
                }
                ("GET" | "HEAD", Some(key)) => match objects.get(key) {
                    Some(content) => (200, content.clone()),
                    None => (404, b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
                },
                _ => (400, Vec::new()),
            };
            Answer { status, body, cut: None }
        });
        TestBucket { address, objects }
    }

    /// The endpoint; the bucket is called `cache`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().expect("no thread panics").keys().cloned().collect()
    }

    /// Cuts all objects off whose keys begin so.
    pub fn cut(&self, prefix: &str) {
        let mut objects = self.objects.lock().expect("no thread panics");
        objects
            .iter_mut()
            .filter(|(key, _)| key.starts_with(prefix))
            .for_each(|(_, content)| content.truncate(9));
    }
}
