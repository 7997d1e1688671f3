//! Results that were asked for before somebody needs them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossdock_oci::Digest;
use crossdock_reapi::{ActionResult, Client, FarmError};

use super::action;

/// How long "not known" is believed: others may execute the step meanwhile.
const UNKNOWN_TIME: Duration = Duration::from_secs(10);
/// How long a result is believed to be there still.
const KNOWN_TIME: Duration = Duration::from_secs(60);

pub type Answer = Result<Option<ActionResult>, FarmError>;

/// Questions that are asked together.
#[derive(Default)]
pub struct Batch {
    /// What is asked for.
    pub actions: Vec<crossdock_reapi::Digest>,
    questions: Vec<Arc<Question>>,
}

impl Batch {
    /// Takes an answer.
    pub fn take(&self, number: usize, answer: Answer) {
        let _ = self.questions[number].answer.set(Mutex::new(Some(answer)));
    }
}

/// Questions by the keys of steps.
#[derive(Default)]
pub struct Asked(Mutex<HashMap<Digest, Arc<Question>>>);

struct Question {
    since: Instant,
    /// Taken by the first who waits for it.
    answer: OnceLock<Mutex<Option<Answer>>>,
}

impl Asked {
    fn questions(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Question>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Questions for all of these that were not asked for.
    pub fn begin(&self, keys: &[Digest]) -> Batch {
        let mut batch = Batch::default();
        self.questions().retain(|_, question| question.since.elapsed() < KNOWN_TIME);
        for key in keys {
            let question = Question { since: Instant::now(), answer: OnceLock::new() };
            let question = Arc::new(question);
            let mut questions = self.questions();
            if !questions.contains_key(key) {
                questions.insert(key.clone(), question.clone());
                batch.actions.push(action::of_key(key).digest);
                batch.questions.push(question);
            }
        }
        batch
    }

    /// Takes questions back that nobody answers: each is then asked for when it is needed.
    pub fn forget(&self, keys: &[Digest]) {
        self.questions().retain(|key, question| question.answer.get().is_some() || !keys.contains(key));
    }

    /// Notes the result of a step, as if it had been asked for.
    pub fn note(&self, key: &Digest, result: ActionResult) {
        let answer = OnceLock::from(Mutex::new(Some(Ok(Some(result)))));
        self.questions().insert(key.clone(), Arc::new(Question { since: Instant::now(), answer }));
    }

    /// Whether the answer for a key is there or on its way.
    pub fn has(&self, key: &Digest) -> bool {
        self.questions().contains_key(key)
    }

    /// What is known of the step with this key; asks now if that was not asked.
    pub fn answer(&self, client: &Client, key: &Digest) -> Answer {
        let question = self.questions().remove(key);
        let early = question.and_then(|question| {
            let answer = question.answer.wait().lock().unwrap_or_else(PoisonError::into_inner).take()?;
            let time = if matches!(answer, Ok(Some(_))) { KNOWN_TIME } else { UNKNOWN_TIME };
            (question.since.elapsed() < time).then_some(answer)
        });
        early.unwrap_or_else(|| client.action_result(&action::of_key(key).digest, &[]))
    }
}
