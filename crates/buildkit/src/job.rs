//! One build of a client: from `Control.Solve` to its answer. Everything that waits for steps runs on threads
//! of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::Policy;
use bollard_buildkit_proto::pb;
use crossdock_builder::devices::Devices;
use crossdock_builder::solver::cache::StepCache;
use crossdock_builder::{Built, Stop};
use crossdock_delivery::attest::Attestations;
use crossdock_delivery::attest::statement::Attestation;
use crossdock_oci::Store;
use crossdock_oci::store::LayerOptions;
use crossdock_platform::Platform;
use tokio::sync::oneshot;
use tonic::Code;

use crate::containers::Containers;
use crate::failure::Failure;
use crate::history::Attested;
use crate::house::House;
use crate::image::Image;
use crate::imports::CacheEntry;
use crate::policy::Policies;
use crate::results::{self, Files, Solved};
use crate::session::Session;
use crate::status::{Counts, Reporter, StatusLog, now};

/// Directories and stores that stay until the build is over.
type Kept = Box<dyn std::any::Any + Send>;

/// A build.
pub struct Job {
    /// The name that the client gave it.
    pub reference: String,
    /// The id of the client's session; empty if it has none.
    pub session: String,
    /// `FrontendAttrs`: what the client asked for, also if it steers the build itself.
    pub attributes: HashMap<String, String>,
    /// `FrontendInputs`.
    pub inputs: HashMap<String, pb::Definition>,
    /// `Entitlements`.
    entitlements: Vec<String>,
    /// What the client allows as sources.
    policies: Mutex<Policies>,
    /// What is told of the build.
    pub log: Arc<StatusLog>,
    /// Tells the events.
    pub reporter: Arc<Reporter>,
    /// Ends the build.
    pub stop: Arc<Stop>,
    /// Holds what the build makes.
    pub store: Store,
    /// Texts that must not be shown.
    pub hidden: Arc<Mutex<Vec<String>>>,
    /// Results that could not be made, by their ids.
    failures: Mutex<HashMap<String, Failure>>,
    /// What the client has uploaded, by address: it sends each upload once.
    pub uploads: Mutex<HashMap<String, std::path::PathBuf>>,
    results: Mutex<HashMap<String, Arc<Solved>>>,
    kept: Mutex<Vec<Kept>>,
    /// How layers are packed, and the caches that the client named.
    how: Mutex<(LayerOptions, Vec<CacheEntry>)>,
    needs: Mutex<Needs>,
    /// When the build began.
    pub begun: Timestamp,
    /// Containers in which the client looks into results.
    pub containers: Containers,
    /// Steps of the solves that are over.
    counts: Mutex<Counts>,
    /// What the client's own frontend returns: it may be done before anybody waits for it.
    returning: Mutex<Option<oneshot::Sender<Returned>>>,
    returned: Mutex<Option<oneshot::Receiver<Returned>>>,
    /// Solves so far, to tell their vertexes apart.
    solves: AtomicUsize,
    pub(crate) house: Arc<House>,
}

/// What a client's own frontend ends with.
type Returned = Result<Answer, Failure>;

/// What a frontend answers: images, or only text.
#[derive(Clone, Default)]
pub struct Answer {
    /// The images with what the client calls their platforms.
    pub images: Vec<(String, Arc<Solved>)>,
    /// Whether the client asked for an index, even of one image.
    pub is_index: bool,
    /// Texts by name.
    pub metadata: HashMap<String, Vec<u8>>,
    /// Why there is nothing, for whoever reads it.
    pub failure: Option<Failure>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a client's outputs and caches read of a result; everything if that is not known.
#[derive(Clone, Copy)]
pub struct Needs {
    /// Its files.
    pub trees: bool,
    /// The images.
    pub images: bool,
    /// The layers of all steps.
    pub steps: bool,
}

/// What a client asks for with `Control.Solve`.
pub struct Asked {
    pub reference: String,
    pub session: String,
    pub attributes: HashMap<String, String>,
    pub inputs: HashMap<String, pb::Definition>,
    pub entitlements: Vec<String>,
    pub policies: Policies,
}

impl Job {
    /// A build that has not begun.
    ///
    /// # Errors
    ///
    /// The store cannot be opened.
    pub fn new(house: Arc<House>, asked: Asked) -> Result<Job> {
        let Asked { reference, session, attributes, inputs, entitlements, policies } = asked;
        let (log, hidden): (Arc<StatusLog>, Arc<Mutex<Vec<String>>>) = Default::default();
        let reporter = Arc::new(Reporter::new(log.clone(), &reference, hidden.clone()));
        let store = house.desk.store()?;
        let (send, receive) = oneshot::channel();
        let (returning, returned) = (Mutex::new(Some(send)), Mutex::new(Some(receive)));
        let (results, failures, uploads, kept, how, counts) = Default::default();
        let (solves, stop, containers) = Default::default();
        Ok(Job {
            containers,
            reference,
            session,
            attributes,
            inputs,
            entitlements,
            policies: Mutex::new(policies),
            log,
            reporter,
            stop,
            store,
            hidden,
            results,
            failures,
            uploads,
            kept,
            how,
            needs: Mutex::new(Needs { trees: true, images: true, steps: true }),
            begun: now(),
            counts,
            returning,
            returned,
            solves,
            house,
        })
    }

    /// The client's session, or another one of that id. Call it on a thread that may wait.
    ///
    /// # Errors
    ///
    /// There is no such session.
    pub fn session(&self, other: Option<&str>) -> Result<Arc<Session>> {
        let id = other.unwrap_or(&self.session);
        anyhow::ensure!(!id.is_empty(), "the client has no session, so it has no files, secrets or agents");
        tokio::runtime::Handle::current().block_on(self.house.sessions.wait(id))
    }

    /// Whether the client granted its build a right.
    pub fn may(&self, entitlement: &str) -> bool {
        self.entitlements.iter().any(|given| given == entitlement)
    }

    /// The devices of this machine, with those that the client lets its build have: the entitlement `device`,
    /// or `device=NAME`.
    pub fn devices(&self) -> Arc<Devices> {
        let allowed = |given: &String| match given.strip_prefix("device") {
            Some("") => Some("*".to_string()),
            // After a comma follow other names for it.
            Some(rest) => {
                rest.strip_prefix('=').map(|name| name.split(',').next().unwrap_or(name).to_string())
            }
            None => None,
        };
        let allowed = self.entitlements.iter().filter_map(allowed).collect();
        Arc::new(Devices { allowed, ..self.house.desk.devices() })
    }

    /// What the client allows as sources.
    pub fn policies(&self) -> Policies {
        lock(&self.policies).clone()
    }

    /// Adds policies, which then hold for the rest of the build.
    pub fn add_policies(&self, more: Vec<Policy>) {
        lock(&self.policies).extend(more);
    }

    /// Says what the client's outputs and caches read of the result.
    pub fn set_needs(&self, needs: Needs) {
        *lock(&self.needs) = needs;
    }

    /// What the client's outputs and caches read of the result.
    pub fn needs(&self) -> Needs {
        *lock(&self.needs)
    }

    /// Sets how layers are packed and which caches the client named.
    pub fn set_layers(&self, layers: LayerOptions, imports: Vec<CacheEntry>) {
        *lock(&self.how) = (layers, imports);
    }

    /// How layers are packed, and the caches that the client named.
    pub fn layers(&self) -> (LayerOptions, Vec<CacheEntry>) {
        lock(&self.how).clone()
    }

    /// Adds the steps of a solve.
    pub fn count(&self, counts: Counts) {
        let mut all = lock(&self.counts);
        all.total += counts.total;
        all.cached += counts.cached;
        all.completed += counts.completed;
        all.warnings += counts.warnings;
    }

    /// The steps so far.
    pub fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// The client's session; `None` if it has none. Call it on a thread that may wait.
    ///
    /// # Errors
    ///
    /// The client names a session that is not opened.
    pub fn own_session(&self) -> Result<Option<Arc<Session>>> {
        if self.session.is_empty() { Ok(None) } else { self.session(None).map(Some) }
    }

    /// A prefix for the vertexes of the next solve.
    pub fn next_solve(&self) -> String {
        let number = self.solves.fetch_add(1, Ordering::Relaxed);
        format!("{}/{number}", self.reference)
    }

    /// Keeps something until the build is over.
    pub fn keep(&self, kept: impl std::any::Any + Send) {
        lock(&self.kept).push(Box::new(kept));
    }

    /// Gives a result that could not be made an id: whoever reads it hears why.
    fn hold_failure(&self, failure: Failure) -> String {
        let mut failures = lock(&self.failures);
        let id = format!("{}-failed-{}", self.reference, failures.len());
        failures.insert(id.clone(), failure);
        id
    }

    /// Gives a result an id.
    pub fn hold(&self, solved: Arc<Solved>) -> String {
        self.house.unwritten.add(&solved.image);
        let mut results = lock(&self.results);
        // Ids are for this build only, so a number in the build's name will do.
        let id = format!("{}-{}", self.reference, results.len());
        results.insert(id.clone(), solved);
        id
    }

    /// The result of an id.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn result(&self, id: &str) -> Result<Arc<Solved>> {
        if let Some(failure) = lock(&self.failures).get(id) {
            return Err(failure.clone().into());
        }
        lock(&self.results).get(id).cloned().with_context(|| format!("this build has no result {id}"))
    }

    /// Waits for the end of the client's own frontend, once.
    ///
    /// # Errors
    ///
    /// The frontend failed, or the client has gone.
    pub async fn wait_for_return(&self) -> Result<Answer, Failure> {
        let gone = || Failure::new(Code::Cancelled, "the client has gone");
        let receive = lock(&self.returned).take().ok_or_else(gone)?;
        receive.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The client's own frontend has ended.
    pub fn give_back(&self, answer: Result<Answer, Failure>) {
        if let Some(send) = lock(&self.returning).take() {
            // Nobody waits any more if the client has cancelled the build.
            let _ = send.send(answer);
        }
    }

    /// What a client returns: ids instead of images.
    ///
    /// # Errors
    ///
    /// An id that is none of this build.
    pub fn answer_of(&self, result: frontend::Result) -> Result<Answer> {
        let frontend::Result { result, metadata, attestations } = result;
        let mut answer = Answer { metadata, ..Answer::default() };
        let mut ids: Vec<(String, String)> = Vec::new();
        match result {
            Some(frontend::result::Result::Ref(one)) => ids.push((String::new(), one.id)),
            Some(frontend::result::Result::RefDeprecated(id)) => ids.push((String::new(), id)),
            Some(frontend::result::Result::Refs(all)) => {
                answer.is_index = true;
                ids.extend(all.refs.into_iter().map(|(name, one)| (name, one.id)));
            }
            Some(frontend::result::Result::RefsDeprecated(all)) => {
                answer.is_index = true;
                ids.extend(all.refs);
            }
            None => {}
        }
        let platforms = platforms_of(&answer.metadata);
        let is_only = ids.len() == 1;
        let epoch = answer.metadata.get("source.date.epoch").and_then(|text| std::str::from_utf8(text).ok());
        let epoch = epoch.or_else(|| self.attributes.get("build-arg:SOURCE_DATE_EPOCH").map(String::as_str));
        let epoch = epoch.filter(|text| !text.is_empty()).map(str::parse::<i64>);
        let epoch = epoch.transpose().context("SOURCE_DATE_EPOCH: not a number of seconds")?;
        for (name, id) in ids.into_iter().filter(|(_, id)| !id.is_empty()) {
            let keys = [format!("containerimage.config/{name}"), "containerimage.config".to_string()];
            let mut solved = self.result(&id)?;
            let listed = platforms.iter().find(|(listed, _)| *listed == name || platforms.len() == 1);
            if let Some((_, platform)) = listed {
                let image = solved.image.with_platform(platform);
                solved = Arc::new(Solved { image, ..(*solved).clone() });
            }
            if let Some(config) = keys.iter().find_map(|key| answer.metadata.get(key)) {
                solved = Arc::new(results::configured(&self.store, (*solved).clone(), config, epoch)?);
            }
            let made = attestations.iter().filter(|(key, _)| **key == name || is_only);
            let made = made.map(|(_, made)| self.attested(made)).collect::<Result<Vec<_>>>()?.concat();
            if !made.is_empty() {
                let mut own = (*solved).clone();
                own.attestations.splice(0..0, made);
                solved = Arc::new(own);
            }
            answer.images.push((name, solved));
        }
        answer.images.sort_by_key(|(name, _)| platforms.iter().position(|(other, _)| other == name));
        Ok(answer)
    }

    /// What a client's own frontend attests of an image: files of results.
    fn attested(&self, made: &frontend::Attestations) -> Result<Vec<Attestation>> {
        let mut all = Vec::new();
        for one in &made.attestation {
            let id = one.r#ref.as_ref().map(|one| one.id.as_str()).unwrap_or_default();
            let files = Files::of(&self.store, &self.result(id)?.image)?;
            let is_inline = one.metadata.get("inline-only").is_some_and(|value| value == b"true");
            all.extend(match frontend::AttestationKind::try_from(one.kind) {
                Ok(frontend::AttestationKind::InToto) => {
                    vec![files.attestation(&one.path, Some(&one.in_toto_predicate_type), is_inline)?]
                }
                Ok(frontend::AttestationKind::Bundle) => files.bundle(&one.path, is_inline)?,
                Err(_) => bail!("unknown kind {} of an attestation", one.kind),
            });
        }
        Ok(all)
    }

    /// An answer as a client gets it: images get ids.
    pub fn reply(&self, answer: &Answer) -> frontend::Result {
        let made = |solved: &Arc<Solved>| frontend::Ref {
            id: self.hold(solved.clone()),
            def: Some(solved.definition()),
        };
        if let Some(failure) = &answer.failure {
            let one = frontend::Ref { id: self.hold_failure(failure.clone()), def: None };
            let result = Some(frontend::result::Result::Ref(one));
            return frontend::Result { result, ..frontend::Result::default() };
        }
        let result = match (&answer.images[..], answer.is_index) {
            ([], _) => Some(frontend::result::Result::Ref(frontend::Ref::default())),
            ([(_, only)], false) => Some(frontend::result::Result::Ref(made(only))),
            (all, _) => {
                let refs = all.iter().map(|(name, solved)| (name.clone(), made(solved))).collect();
                Some(frontend::result::Result::Refs(frontend::RefMap { refs }))
            }
        };
        frontend::Result { result, metadata: answer.metadata.clone(), ..frontend::Result::default() }
    }
}

/// The names of the answer's images with their platforms, in the order of its list (BuildKit,
/// exporter/containerimage/exptypes).
fn platforms_of(metadata: &HashMap<String, Vec<u8>>) -> Vec<(String, Platform)> {
    let list = metadata.get("refs.platforms").and_then(|bytes| serde_json::from_slice(bytes).ok());
    let list: serde_json::Value = list.unwrap_or_default();
    let platform = |one: &serde_json::Value| {
        let platform: Platform = serde_json::from_value(one["Platform"].clone()).ok()?;
        Some((one["ID"].as_str()?.to_string(), platform.normalised()))
    };
    list["Platforms"].as_array().into_iter().flatten().filter_map(platform).collect()
}

impl Answer {
    /// An answer that could not be made.
    pub fn failed(failure: Failure) -> Answer {
        Answer { failure: Some(failure), ..Answer::default() }
    }

    /// The images of a build, in its order; with their attestations, and those for the record of the build.
    ///
    /// # Errors
    ///
    /// The configuration of an image cannot be read.
    pub fn of_build(
        store: &Store,
        (images, steps): (Vec<Image>, &StepCache),
        (attestations, recorded): (&Attestations, &Attestations),
        epoch: Option<i64>,
        is_index: bool,
    ) -> Result<Answer> {
        let mut answer = Answer { is_index: is_index || images.len() > 1, ..Answer::default() };
        let mut platforms = Vec::new();
        let (mut attested, mut recorded) = (attestations.of_images(), recorded.of_images());
        for image in images {
            let (config, platform) = (image.config(store)?, image.platform().clone());
            let name = platform.normalised().to_string();
            let key = match answer.is_index {
                true => format!("containerimage.config/{name}"),
                false => "containerimage.config".to_string(),
            };
            answer.metadata.insert(key, config);
            let mut shown = serde_json::json!({
                "architecture": platform.architecture, "os": platform.os,
            });
            if let Some(variant) = &platform.variant {
                shown["variant"] = variant.as_str().into();
            }
            platforms.push(serde_json::json!({ "ID": name, "Platform": shown }));
            let attestations = attested.next().unwrap_or_default().to_vec();
            let recorded = recorded.next().and_then(|all| all.first().cloned());
            let solved = Solved { image, steps: steps.clone(), attestations, recorded, epoch };
            answer.images.push((name, Arc::new(solved)));
        }
        let list = serde_json::json!({ "Platforms": platforms });
        answer.metadata.insert("refs.platforms".to_string(), list.to_string().into_bytes());
        Ok(answer)
    }

    /// What the record of the build says of the images.
    pub fn recorded(&self) -> Vec<Attested> {
        let one = |(name, solved): &(String, Arc<Solved>)| {
            let attestation = solved.recorded.as_ref()?;
            Some(Attested {
                platform: self.is_index.then(|| name.clone()),
                predicate_type: attestation.predicate_type.clone(),
                predicate: serde_json::to_vec_pretty(&attestation.predicate).ok()?,
            })
        };
        self.images.iter().filter_map(one).collect()
    }

    /// What is attested of the images.
    pub fn attestations(&self) -> Attestations {
        let all = self.images.iter().map(|(_, solved)| solved.attestations.clone()).collect();
        Attestations::made(all, self.images.first().and_then(|(_, solved)| solved.epoch))
    }

    /// The images as the result of one build.
    ///
    /// # Errors
    ///
    /// There are none; the index cannot be written.
    pub fn built(&self, store: &Store) -> Result<Built, Failure> {
        if self.images.is_empty() {
            let message = "the build has no image to export: choose no output, or another call";
            return Err(Failure::new(Code::Unknown, message));
        }
        let mut steps = StepCache::default();
        for (_, solved) in &self.images {
            for step in &solved.steps.steps {
                if !steps.steps.iter().any(|other| other.key == step.key) {
                    steps.steps.push(step.clone());
                }
            }
            for pair in &solved.steps.quick {
                if !steps.quick.contains(pair) {
                    steps.quick.push(pair.clone());
                }
            }
        }
        steps.steps.sort_by(|a, b| a.key.cmp(&b.key));
        let images = self.images.iter().map(|(_, solved)| solved.image.written(store));
        let images = images.collect::<Result<_>>().map_err(|error| Failure::of(&error))?;
        let mut built = Built { images, index: None, steps, scans: Vec::new() };
        if self.is_index {
            built.make_index(store).map_err(|error| Failure::of(&error.into()))?;
        }
        Ok(built)
    }
}
