//! The border between async code and the threads that builds run on.

use tonic::Code;

use crate::failure::Failure;

/// Runs work that waits, on a thread that may wait.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::new(Code::Internal, format!("the work ended unexpectedly: {error}"))),
    }
}
