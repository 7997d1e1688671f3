//! What the builder needs around a piece of a client's build, put together once for Dockerfiles, definitions
//! and containers.

use std::collections::HashMap;
use std::sync::Arc;

use crossdock_builder::failed::FirstFailed;
use crossdock_builder::solver::cache::Imported;
use crossdock_builder::{Environment, Events, Settings, Stop};
use crossdock_delivery::source::Source;
use crossdock_oci::Digest;
use crossdock_oci::store::LayerOptions;
use crossdock_platform::Platform;

use crate::job::Job;
use crate::session::{ClientStore, Session};
use crate::sources::{BuildHost, ClientImages, ClientSecrets, Later};
use crate::status::Reporter;

/// Where a build of a client finds images and files: in the store, or where the client's credentials lead.
pub fn source<'a>(job: &'a Job, session: Option<Arc<Session>>, reporter: &Arc<Reporter>) -> Source<'a> {
    let host = BuildHost { desk: job.house.desk.clone(), session, reporter: reporter.clone() };
    Source::new(Box::new(host), &job.store)
}

/// Settings for one platform, with the rights that the client granted its build.
pub fn settings(job: &Job, platform: Platform) -> Settings {
    Settings {
        jobs: job.house.desk.jobs(),
        allow_insecure: job.may("security.insecure"),
        allow_network_host: true,
        devices: job.devices(),
        needs_images: job.needs().images,
        needs_steps: job.needs().steps,
        ..Settings::for_platform(platform)
    }
}

/// What differs from one piece of a build to the next.
pub struct Surroundings<'a, 'w> {
    pub job: &'a Job,
    pub session: Option<Arc<Session>>,
    pub source: &'a Source<'a>,
    /// Directories that are fetched when they are read.
    pub later: &'a Later<'w>,
    /// Who is told.
    pub events: &'a dyn Events,
    /// Results of other builds.
    pub imported: &'a Imported,
    /// Which of the client's stores has a layer of these results.
    pub client_layers: HashMap<Digest, Arc<ClientStore>>,
    pub layers: LayerOptions,
    pub stop: Arc<Stop>,
    /// Keeps the first command that fails.
    pub failed: Option<&'a FirstFailed>,
}

impl Surroundings<'_, '_> {
    /// Does work in these surroundings.
    pub fn with<T>(self, work: impl FnOnce(&Environment<'_>) -> T) -> T {
        let Surroundings { job, session, source, .. } = self;
        let images = ClientImages {
            source,
            store: &job.store,
            layers: self.client_layers,
            later: self.later,
            policies: job.policies(),
        };
        let secrets = ClientSecrets::new(session, job.store.clone(), job.hidden.clone());
        let desk = job.house.desk.clone();
        let emulator = move |platform: &Platform| desk.emulator(platform);
        work(&Environment {
            store: &job.store,
            images: &images,
            events: self.events,
            imported: self.imported,
            layers: self.layers,
            sink: None,
            secrets: &secrets,
            stop: self.stop,
            shared: &job.house.shared,
            emulator: &emulator,
            farm: job.house.desk.farm(),
            failed: self.failed,
        })
    }
}
