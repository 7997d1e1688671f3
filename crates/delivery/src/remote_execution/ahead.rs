//! Asks for the results of a chain: first for the entry of the chain, then for what that does not say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossdock_builder::solver::cache::CachedStep;
use crossdock_oci::{Digest, Store};
use crossdock_reapi::{ActionResult, Client};

use super::asked::{Answer, Asked, Question};
use super::small::Small;
use super::{action, chain, result};

/// Steps that are asked for one by one at once.
const STEPS_MAX: usize = 100;
/// How long entries of chains are not asked for after one named a layer that could not be had.
const DOUBT_TIME: Duration = Duration::from_secs(300);
/// Entries of chains that are remembered: a server of builds asks for many.
const CHAINS_MAX: usize = 1000;

/// What is known of entries of chains.
#[derive(Clone, Default)]
pub struct Chains(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// What the entries say that were asked for, by the keys of the last steps.
    said: Mutex<HashMap<Digest, Vec<CachedStep>>>,
    doubted_since: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Chains {
    /// Notes that a layer of a known step cannot be had: entries of single steps may name others.
    pub fn doubt(&self) {
        *lock(&self.0.doubted_since) = Some(Instant::now());
    }

    /// Whether a layer could not be had a while ago.
    pub fn are_doubted(&self) -> bool {
        lock(&self.0.doubted_since).is_some_and(|since| since.elapsed() < DOUBT_TIME)
    }

    /// Whether the entry of a chain is worth being written: it says less than this, or something else.
    pub fn lacks(&self, last: &Digest, steps: &[CachedStep]) -> bool {
        let said = lock(&self.0.said);
        let said = said.get(last).map(Vec::as_slice).unwrap_or_default();
        steps.len() >= chain::STEPS_MIN && steps.iter().any(|step| !said.contains(step))
    }

    fn note(&self, last: &Digest, steps: Vec<CachedStep>) {
        let mut said = lock(&self.0.said);
        if said.len() >= CHAINS_MAX {
            said.clear();
        }
        said.insert(last.clone(), steps);
    }
}

/// Questions for the steps of one chain.
pub struct Asking {
    asked: Asked,
    chains: Chains,
    /// Takes layers that will be fetched.
    small: Option<Small>,
    steps: Vec<Arc<Question>>,
    /// The chain's entry, if that is asked for.
    entry: Option<Entry>,
}

/// The entry of a chain.
struct Entry {
    /// The key of the last step.
    last: Digest,
    /// What is known under it.
    answer: Mutex<Option<ActionResult>>,
    /// What is known of the first step, if the chain may know more.
    of_first: Mutex<Option<Answer>>,
}

impl Asking {
    /// Begins to ask for those of the steps with these keys that were not asked for. `None` if all were.
    pub fn begin(
        (asked, chains): (&Asked, &Chains),
        keys: &[Digest],
        last: &Digest,
        small: Option<Small>,
    ) -> Option<Asking> {
        let steps = asked.begin(keys);
        if steps.is_empty() {
            return None;
        }
        let has_entry = steps.len() >= chain::STEPS_MIN && !chains.are_doubted();
        let entry = has_entry.then(|| Entry {
            last: last.clone(),
            answer: Mutex::default(),
            of_first: Mutex::default(),
        });
        Some(Asking { asked: asked.clone(), chains: chains.clone(), small, steps, entry })
    }

    /// What is asked first: the entry of the chain, and the first step, which waits for its answer; or all
    /// steps if there are few.
    pub fn first(&self) -> Vec<crossdock_reapi::Digest> {
        let of_step = |question: &Arc<Question>| action::of_key(&question.key).digest;
        match &self.entry {
            Some(entry) => vec![action::of_chain(&entry.last).digest, of_step(&self.steps[0])],
            None => self.steps.iter().take(STEPS_MAX).map(of_step).collect(),
        }
    }

    /// Takes an answer to one of [`Asking::first`].
    pub fn take(&self, number: usize, answer: Answer) {
        match (&self.entry, number) {
            // What goes wrong is told by the entries of the steps.
            (Some(entry), 0) => *lock(&entry.answer) = answer.ok().flatten(),
            (Some(_), _) if matches!(answer, Ok(Some(_))) => self.take_step(&self.steps[0], answer),
            (Some(entry), _) => *lock(&entry.of_first) = Some(answer),
            (None, _) => self.take_step(&self.steps[number], answer),
        }
    }

    fn take_step(&self, question: &Question, answer: Answer) {
        if let (Ok(Some(result)), Some(small)) = (&answer, &self.small) {
            result::note_of_key(small, result);
        }
        question.answer(answer, false);
    }

    /// Answers what the entry of the chain says. Gives whether there is more to ask.
    pub fn take_entry(&self, store: &Store, client: &Client) -> bool {
        let Some(entry) = &self.entry else { return self.has_more() };
        let said = lock(&entry.answer).take().and_then(|entry| result::text_of(client, &entry).ok());
        let chain = said.map(|text| chain::read(&text)).unwrap_or_default();
        let of_key: HashMap<&Digest, &CachedStep> =
            chain.steps.iter().map(|step| (&step.key, step)).collect();
        let known = |question: &Arc<Question>| Some(result::for_key(&of_key.get(&question.key)?.record));
        let known: Vec<Option<ActionResult>> = self.steps.iter().map(known).collect();
        if let Some(small) = &self.small {
            small.bring_along(chain.layers);
            known.iter().flatten().for_each(|known| result::note_of_key(small, known));
            small.keep_along(store);
        }
        for (question, known) in self.steps.iter().zip(known) {
            if known.is_some() {
                question.answer(Ok(known), true);
            }
        }
        if let Some(answer) = lock(&entry.of_first).take() {
            self.take_step(&self.steps[0], answer);
        }
        self.chains.note(&entry.last, chain.steps);
        self.has_more()
    }

    fn has_more(&self) -> bool {
        self.steps.iter().any(|question| !question.is_answered())
    }

    /// Asks for the steps that have no answer yet, as many as are asked for at once.
    pub fn ask_rest(&self, client: &Client) {
        let rest = self.steps.iter().filter(|question| !question.is_answered());
        let rest: Vec<&Arc<Question>> = rest.take(STEPS_MAX).collect();
        let actions: Vec<_> = rest.iter().map(|question| action::of_key(&question.key).digest).collect();
        client
            .action_results(&actions, &|number: usize, answer: Answer| self.take_step(rest[number], answer));
        self.take_back();
    }

    /// Takes back what was not answered.
    pub fn take_back(&self) {
        self.asked.take_back(&self.steps);
    }
}
