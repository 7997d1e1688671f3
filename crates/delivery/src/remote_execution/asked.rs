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

/// Questions by the keys of steps.
#[derive(Clone, Default)]
pub struct Asked(Arc<Mutex<HashMap<Digest, Arc<Question>>>>);

/// The question for the result of one step.
pub struct Question {
    since: Instant,
    /// The key of the step.
    pub key: Digest,
    /// The answer and whether it is an entry's of a chain, taken by the first who waits for it; nothing if
    /// nobody has asked.
    answer: OnceLock<Mutex<Option<(Answer, bool)>>>,
}

impl Question {
    fn new(key: &Digest) -> Question {
        Question { since: Instant::now(), key: key.clone(), answer: OnceLock::new() }
    }

    /// Answers it; only the first answer counts.
    pub fn answer(&self, answer: Answer, is_of_chain: bool) {
        let _ = self.answer.set(Mutex::new(Some((answer, is_of_chain))));
    }

    /// Whether there is an answer.
    pub fn is_answered(&self) -> bool {
        self.answer.get().is_some()
    }
}

impl Asked {
    fn questions(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Question>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Questions for all of these that were not asked for. Each has to be answered or taken back.
    pub fn begin(&self, keys: &[Digest]) -> Vec<Arc<Question>> {
        let mut questions = self.questions();
        questions.retain(|_, question| question.since.elapsed() < KNOWN_TIME);
        let mut begun = Vec::new();
        for key in keys {
            if !questions.contains_key(key) {
                let question = Arc::new(Question::new(key));
                questions.insert(key.clone(), question.clone());
                begun.push(question);
            }
        }
        begun
    }

    /// Takes those of the questions back that nobody answers: each is then asked for when it is needed.
    pub fn take_back(&self, begun: &[Arc<Question>]) {
        for question in begun.iter().filter(|question| !question.is_answered()) {
            self.questions().remove(&question.key);
            // Somebody may wait for it.
            let _ = question.answer.set(Mutex::new(None));
        }
    }

    /// Notes the result of a step, as if it had been asked for.
    pub fn note(&self, key: &Digest, result: ActionResult) {
        let question = Question::new(key);
        question.answer(Ok(Some(result)), false);
        self.questions().insert(key.clone(), Arc::new(question));
    }

    /// Whether the answer for a key is there or on its way.
    pub fn has(&self, key: &Digest) -> bool {
        self.questions().contains_key(key)
    }

    /// What is known of the step with this key; asks now if that was not asked, or if it is from a chain and
    /// chains are doubted.
    pub fn answer(&self, client: &Client, key: &Digest, are_chains_doubted: bool) -> Answer {
        let question = self.questions().remove(key);
        let early = question.and_then(|question| {
            let answer = question.answer.wait().lock().unwrap_or_else(PoisonError::into_inner).take();
            let (answer, is_of_chain) = answer?;
            let time = if matches!(answer, Ok(Some(_))) { KNOWN_TIME } else { UNKNOWN_TIME };
            let is_doubted = is_of_chain && are_chains_doubted;
            (question.since.elapsed() < time && !is_doubted).then_some(answer)
        });
        early.unwrap_or_else(|| client.action_result(&action::of_key(key).digest, &[]))
    }
}
