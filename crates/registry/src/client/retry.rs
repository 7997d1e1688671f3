//! Decides when to try again, and waits until then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::progress::Progress;

/// Time as the client sees it; tests replace it so that nothing sleeps.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Instant;
    /// Waits.
    fn sleep(&self, duration: Duration);
}

/// The system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

const DELAY_FIRST: Duration = Duration::from_millis(250);
const DELAY_MAX: Duration = Duration::from_secs(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Counts the tries of one piece of work.
pub(crate) struct Retries {
    clock: Arc<dyn Clock>,
    progress: Arc<dyn Progress>,
    left: u32,
    limit: u32,
}

impl Retries {
    pub(crate) fn new(clock: Arc<dyn Clock>, progress: Arc<dyn Progress>, limit: u32) -> Retries {
        Retries { clock, progress, left: limit, limit }
    }

    /// Waits before the next try, or returns the error if there must be no further try.
    pub(crate) fn wait(&mut self, error: Error) -> Result<()> {
        if error.is_retryable() { self.wait_anyway(error) } else { Err(error) }
    }

    /// Like [`Retries::wait`], for an error that the caller can work around.
    pub(crate) fn wait_anyway(&mut self, error: Error) -> Result<()> {
        if self.left == 0 {
            return Err(error);
        }
        let tried = self.limit - self.left;
        self.left -= 1;
        let delay = match error.answer().and_then(|answer| answer.retry_after) {
            Some(wanted) => wanted.min(RETRY_AFTER_MAX),
            None => jittered(DELAY_FIRST.saturating_mul(1 << tried.min(16)).min(DELAY_MAX)),
        };
        self.progress.waiting(&error.to_string(), delay, tried);
        self.clock.sleep(delay);
        Ok(())
    }

    /// Restarts the count after progress.
    pub(crate) fn reset(&mut self) {
        self.left = self.limit;
    }
}

/// `delay` and up to half of it more, so that many clients do not return at the same time.
fn jittered(delay: Duration) -> Duration {
    let mut byte = [0u8; 1];
    // Without randomness there is merely no jitter.
    let _ = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK);
    delay + delay * u32::from(byte[0]) / 510
}

/// `Retry-After`: seconds or a date, RFC 9110 section 10.2.3.
pub(crate) fn parse_retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let when = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let seconds = when.as_second() - jiff::Timestamp::now().as_second();
    Some(Duration::from_secs(seconds.max(0).unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Answer;
    use crate::progress::NoProgress;
    use std::sync::Mutex;

    struct Recorder(Mutex<Vec<Duration>>);

    impl Clock for Recorder {
        fn now(&self) -> Instant {
            Instant::now()
        }
        fn sleep(&self, duration: Duration) {
            self.0.lock().expect("not poisoned").push(duration);
        }
    }

    fn busy(retry_after: Option<Duration>) -> Error {
        Error::Unexpected(Box::new(Answer {
            target: String::new(),
            registry: String::new(),
            request: String::new(),
            status: 503,
            detail: String::new(),
            code: String::new(),
            retry_after,
        }))
    }

    #[test]
    fn delays_double_and_end() {
        let clock = Arc::new(Recorder(Mutex::new(Vec::new())));
        let mut retries = Retries::new(clock.clone(), Arc::new(NoProgress), 3);
        for _ in 0..3 {
            retries.wait(busy(None)).expect("a try is left");
        }
        assert!(retries.wait(busy(None)).is_err());
        for (delay, base) in clock.0.lock().expect("not poisoned").iter().zip([250, 500, 1000]) {
            assert!((base..=base * 3 / 2).contains(&(delay.as_millis() as u64)), "{delay:?}");
        }
    }

    #[test]
    fn retry_after_is_honoured_within_limits() {
        let clock = Arc::new(Recorder(Mutex::new(Vec::new())));
        let mut retries = Retries::new(clock.clone(), Arc::new(NoProgress), 5);
        for seconds in [7, 100_000] {
            retries.wait(busy(Some(Duration::from_secs(seconds)))).expect("a try is left");
        }
        assert_eq!(*clock.0.lock().expect("not poisoned"), [Duration::from_secs(7), Duration::from_secs(60)]);
        assert_eq!(parse_retry_after(" 12 "), Some(Duration::from_secs(12)));
        assert_eq!(parse_retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert!(parse_retry_after("Fri, 31 Dec 2100 23:59:59 GMT").expect("a date").as_secs() > 1_000_000);
        assert_eq!(parse_retry_after("soon"), None);
    }

    #[test]
    fn what_is_final_is_not_tried_again() {
        let clock = Arc::new(Recorder(Mutex::new(Vec::new())));
        assert!(Retries::new(clock.clone(), Arc::new(NoProgress), 5).wait(Error::NoCredentialsFile).is_err());
        assert!(clock.0.lock().expect("not poisoned").is_empty());
    }
}
