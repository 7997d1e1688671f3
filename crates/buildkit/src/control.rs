//! The service `moby.buildkit.v1.Control`.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use bollard_buildkit_proto::moby::buildkit::v1::control_server::Control;
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, BytesMessage,
    CacheOptions, DiskUsageRequest, DiskUsageResponse, Exporter, InfoRequest, InfoResponse,
    ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest, SolveResponse, StatusRequest,
    StatusResponse, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse, UsageRecord,
};
use crossdock_builder::Stop;
use crossdock_builder::dockerfile::unknown_frontend;
use crossdock_oci::Store;
use crossdock_oci::store::LayerOptions;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::debug;
use crate::export::{self, Export};
use crate::failure::Failure;
use crate::frontend::{self, Call};
use crate::imports::CacheEntry;
use crate::job::{Answer, Asked, Job};
use crate::policy::Policies;
use crate::server::{Inner, Server};
use crate::status::{StatusLog, now};
use crate::threads::blocking;
use crate::{caps, usage};

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Ends a build whose client has gone: gRPC drops the call then.
struct Watch {
    server: Arc<Inner>,
    reference: String,
    stop: Arc<Stop>,
    is_over: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_over {
            self.stop.stop();
            if let Some(job) = self.server.running(&self.reference) {
                job.give_back(Err(Failure::new(Code::Cancelled, "the client has gone")));
                job.log.close();
            }
        }
        self.server.end(&self.reference);
    }
}

/// Statuses as messages: those that only tell of vertexes go together, since each message costs both sides
/// several system calls. What is told of one vertex stays in order.
fn together(all: Vec<StatusResponse>) -> Vec<StatusResponse> {
    /// Vertexes in one message, so that it stays small.
    const MOST: usize = 64;
    let tells_vertexes = |one: &StatusResponse| {
        one.statuses.is_empty()
            && one.logs.is_empty()
            && one.warnings.is_empty()
            && one.vertexes.len() <= MOST
    };
    let mut messages: Vec<StatusResponse> = Vec::new();
    for status in all {
        match messages.last_mut() {
            Some(last)
                if tells_vertexes(last)
                    && tells_vertexes(&status)
                    && last.vertexes.len() + status.vertexes.len() <= MOST =>
            {
                last.vertexes.extend(status.vertexes);
            }
            _ => messages.push(status),
        }
    }
    messages
}

/// Everything that a log has, and what is added to it.
fn follow(log: Arc<StatusLog>) -> Answers<StatusResponse> {
    let (send, receive) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut next = 0;
        while let Some(all) = log.next(next).await {
            next += all.len();
            for status in together(all) {
                if send.send(Ok(status)).await.is_err() {
                    return;
                }
            }
        }
    });
    Box::pin(ReceiverStream::new(receive))
}

/// What older clients say in other fields.
fn translate(request: &mut SolveRequest) {
    if request.exporters.is_empty() && !request.exporter_deprecated.is_empty() {
        request.exporters.push(Exporter {
            r#type: std::mem::take(&mut request.exporter_deprecated),
            attrs: std::mem::take(&mut request.exporter_attrs_deprecated),
        });
    }
}

/// The caches of a request: to read, and to write.
fn caches(options: CacheOptions) -> (Vec<CacheEntry>, Vec<CacheEntry>) {
    let entry = |kind: String, attributes: HashMap<String, String>| CacheEntry { kind, attributes };
    let mut imports: Vec<CacheEntry> =
        options.imports.into_iter().map(|one| entry(one.r#type, one.attrs)).collect();
    for name in options.import_refs_deprecated {
        imports.push(entry("registry".to_string(), HashMap::from([("ref".to_string(), name)])));
    }
    let mut exports: Vec<CacheEntry> =
        options.exports.into_iter().map(|one| entry(one.r#type, one.attrs)).collect();
    if !options.export_ref_deprecated.is_empty() {
        let mut attributes = options.export_attrs_deprecated;
        attributes.insert("ref".to_string(), options.export_ref_deprecated);
        exports.push(entry("registry".to_string(), attributes));
    }
    (imports, exports)
}

impl Server {
    /// The record of a build, as far as it is known.
    fn record(job: &Job, request: &SolveRequest) -> BuildHistoryRecord {
        let frontend = match request.frontend.as_str() {
            "" => "dockerfile.v0",
            other => other,
        };
        BuildHistoryRecord {
            r#ref: job.reference.clone(),
            frontend: frontend.to_string(),
            frontend_attrs: told(&request.frontend_attrs),
            exporters: request.exporters.clone(),
            created_at: Some(now()),
            ..BuildHistoryRecord::default()
        }
    }

    async fn build(
        &self,
        job: &Arc<Job>,
        request: &SolveRequest,
        layers: LayerOptions,
        imports: &[CacheEntry],
    ) -> Result<Answer, Failure> {
        if let Some(definition) = request.definition.clone().filter(|definition| !definition.def.is_empty()) {
            let job = job.clone();
            return blocking(move || crate::solve::answer(&job, &definition, &[])).await;
        }
        match request.frontend.as_str() {
            // The client steers the build itself.
            "" => job.wait_for_return().await,
            "dockerfile.v0" => {
                let call = Call {
                    attributes: request.frontend_attrs.clone(),
                    inputs: request.frontend_inputs.clone(),
                    imports: imports.to_vec(),
                    layers,
                };
                let job = job.clone();
                blocking(move || frontend::run(&job, &call)).await
            }
            other => Err(Failure::new(Code::Unimplemented, unknown_frontend(other))),
        }
    }
}

#[tonic::async_trait]
impl Control for Server {
    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        let (desk, request) = (self.0.house.desk.clone(), request.into_inner());
        let record = blocking(move || {
            desk.store()
                .and_then(|store| usage::listed(&store, &request))
                .map_err(|error| Failure::of(&error))
        });
        let record = record.await.map_err(|failure| failure.status())?;
        Ok(Response::new(DiskUsageResponse { record }))
    }

    type PruneStream = Answers<UsageRecord>;

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        let (desk, request) = (self.0.house.desk.clone(), request.into_inner());
        let gone = blocking(move || {
            desk.store().and_then(|store| usage::prune(&store, &request)).map_err(|error| Failure::of(&error))
        });
        let gone = gone.await.map_err(|failure| failure.status())?;
        Ok(Response::new(Box::pin(tokio_stream::iter(gone.into_iter().map(Ok)))))
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let mut request = request.into_inner();
        translate(&mut request);
        if let Some(denied) = request.entitlements.iter().find(|name| {
            let right = name.split('=').next().unwrap_or(name);
            self.0.house.desk.denies(right)
        }) {
            let message =
                format!("granting entitlement {denied} is not allowed by build daemon configuration");
            return Err(Status::unknown(message));
        }
        if !request.source_policy_session.is_empty() {
            // A policy that is not asked must not look as if it had agreed.
            let message = "a source policy that the client decides itself (source_policy_session) is not asked: give its rules with the request";
            return Err(Status::unimplemented(message));
        }
        let mut policies = Policies::default();
        policies.extend(request.source_policy.clone());
        let asked = Asked {
            reference: request.r#ref.clone(),
            session: request.session.clone(),
            attributes: request.frontend_attrs.clone(),
            inputs: request.frontend_inputs.clone(),
            entitlements: request.entitlements.clone(),
            policies,
        };
        let job = Job::new(self.0.house.clone(), asked).map_err(|error| Failure::of(&error).status())?;
        let job = Arc::new(job);
        if !self.0.begin(&job) {
            return Err(Status::already_exists(format!("a build {} is under way", job.reference)));
        }
        let mut watch = Watch {
            server: self.0.clone(),
            reference: job.reference.clone(),
            stop: job.stop.clone(),
            is_over: false,
        };
        let mut record = Server::record(&job, &request);
        if !request.internal {
            self.0.house.history.begun(record.clone());
        }
        let (imports, cache_exports) = caches(request.cache.clone().unwrap_or_default());
        let (mut attested, mut exported, mut failed) = (Vec::new(), None, None);
        let outcome = async {
            let (exports, layers): (Vec<Export>, LayerOptions) = {
                let exports = export::exports(&job, &request.exporters);
                let exports = exports.map_err(|error| bad_request(&error))?;
                let layers = export::layer_options(&exports).map_err(|error| bad_request(&error))?;
                (exports, layers)
            };
            job.set_layers(layers, imports.clone());
            job.set_needs(export::needs(&exports, &cache_exports));
            let answer = self.build(&job, &request, layers, &imports).await?;
            attested = answer.recorded();
            let working = job.clone();
            blocking(move || export::export(&working, &answer, &exports, &cache_exports, layers)).await
        }
        .await;
        self.0.house.sessions.settle(&job.session).await;
        record.completed_at = Some(now());
        match &outcome {
            Ok(response) => {
                record.exporter_response = response.clone();
                exported = exported_of(&job.store, response);
            }
            Err(failure) => {
                job.reporter.failed(&failure.message);
                let mut told = failure.clone();
                told.message = job.reporter.shown(&told.message);
                // Files of a step that failed are there as long as the build.
                told.details.retain(|detail| !debug::is_of_build(detail));
                failed = Some(told.to_proto());
            }
        }
        let counts = job.counts();
        record.num_total_steps = counts.total;
        record.num_cached_steps = counts.cached;
        record.num_completed_steps = counts.completed;
        record.num_warnings = counts.warnings;
        watch.is_over = true;
        job.log.close();
        if !request.internal {
            let (server, log) = (self.0.clone(), job.log.clone());
            let written = blocking(move || {
                server
                    .house
                    .history
                    .ended(record, &log.all(), &attested, exported, failed)
                    .map_err(|error| Failure::of(&error))
            });
            // The build is as good without its record.
            if let Err(failure) = written.await {
                eprintln!("warning: the build is not recorded: {failure}");
            }
            let server = self.0.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = server.house.history.prune() {
                    eprintln!("warning: old records of builds stay: {error:#}");
                }
            });
        }
        // A client that asks for the status late finds the record.
        drop(watch);
        match outcome {
            Ok(exporter_response) => Ok(Response::new(SolveResponse { exporter_response })),
            Err(mut failure) => {
                failure.message = job.reporter.shown(&failure.message);
                Err(failure.status())
            }
        }
    }

    type StatusStream = Answers<StatusResponse>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        let reference = request.into_inner().r#ref;
        let running = self.0.running(&reference).map(|job| job.log.clone());
        if let Some(log) = running.or_else(|| self.0.ended(&reference)) {
            return Ok(Response::new(follow(log)));
        }
        let (server, name) = (self.0.clone(), reference.clone());
        let recorded = blocking(move || server.house.history.log(&name).map_err(|error| Failure::of(&error)));
        if let Some(log) = recorded.await.map_err(|failure| failure.status())? {
            return Ok(Response::new(Box::pin(tokio_stream::iter(log.into_iter().map(Ok)))));
        }
        match self.0.log(&reference).await {
            Some(log) => Ok(Response::new(follow(log))),
            None => Err(Status::not_found(format!("no such job {reference}"))),
        }
    }

    type SessionStream = Answers<BytesMessage>;

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let metadata = request.metadata().clone();
        let stream = self.0.house.sessions.open(&metadata, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Ok(Response::new(ListWorkersResponse { record: vec![caps::worker(&self.0.house)] }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse { buildkit_version: Some(caps::version()) }))
    }

    type ListenBuildHistoryStream = Answers<BuildHistoryEvent>;

    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        let request = request.into_inner();
        let mut live = self.0.house.history.events();
        let (server, wanted) = (self.0.clone(), request.clone());
        let past = blocking(move || past(&server, &wanted).map_err(|error| Failure::of(&error)));
        let past = past.await.map_err(|failure| failure.status())?;
        if request.early_exit {
            return Ok(Response::new(Box::pin(tokio_stream::iter(past.into_iter().map(Ok)))));
        }
        let (send, receive) = mpsc::channel(16);
        tokio::spawn(async move {
            for event in past {
                if send.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            loop {
                tokio::select! {
                    () = send.closed() => return,
                    event = live.recv() => match event {
                        Ok(event) if is_wanted(&event, &request) => {
                            if send.send(Ok(event)).await.is_err() {
                                return;
                            }
                        }
                        Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn update_build_history(
        &self,
        request: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        let (server, request) = (self.0.clone(), request.into_inner());
        let done = blocking(move || {
            let done = match (request.delete, request.finalize) {
                (true, _) => server.house.history.delete(&request.r#ref),
                // Records are whole from the beginning.
                (false, true) => Ok(()),
                (false, false) => server.house.history.pin(&request.r#ref, request.pinned),
            };
            done.map_err(|error| Failure::new(Code::NotFound, Failure::of(&error).message))
        });
        done.await.map_err(|failure| failure.status())?;
        Ok(Response::new(UpdateBuildHistoryResponse {}))
    }
}

/// The manifest or index that a build exported, and its bytes.
fn exported_of(
    store: &Store,
    response: &HashMap<String, String>,
) -> Option<(crossdock_oci::Descriptor, Vec<u8>)> {
    let encoded = response.get("containerimage.descriptor")?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let descriptor: crossdock_oci::Descriptor = serde_json::from_slice(&bytes).ok()?;
    let bytes = store.read_descriptor(&descriptor).ok()?;
    Some((descriptor, bytes))
}

fn bad_request(error: &anyhow::Error) -> Failure {
    Failure::new(Code::Unknown, Failure::of(error).message)
}

/// Attributes of a build that its record may have: a cache is named with the token that it needs.
fn told(attributes: &HashMap<String, String>) -> HashMap<String, String> {
    let mut told = attributes.clone();
    told.remove("cache-imports");
    told
}

fn is_wanted(event: &BuildHistoryEvent, request: &BuildHistoryRequest) -> bool {
    let name = event.record.as_ref().map(|record| record.r#ref.as_str()).unwrap_or_default();
    (request.r#ref.is_empty() || request.r#ref == name)
        && (!request.active_only || event.r#type == i32::from(BuildHistoryEventType::Started))
}

/// What has happened before a client listens: running builds, and records.
fn past(server: &Inner, request: &BuildHistoryRequest) -> anyhow::Result<Vec<BuildHistoryEvent>> {
    let mut all = Vec::new();
    for job in server.all_running() {
        let record = BuildHistoryRecord {
            r#ref: job.reference.clone(),
            frontend: "dockerfile.v0".to_string(),
            frontend_attrs: told(&job.attributes),
            created_at: Some(job.begun),
            ..BuildHistoryRecord::default()
        };
        all.push(BuildHistoryEvent { r#type: BuildHistoryEventType::Started.into(), record: Some(record) });
    }
    for record in server.house.history.records()? {
        all.push(BuildHistoryEvent { r#type: BuildHistoryEventType::Complete.into(), record: Some(record) });
    }
    all.retain(|event| is_wanted(event, request));
    if let Ok(limit @ 1..) = usize::try_from(request.limit) {
        all.truncate(limit);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::moby::buildkit::v1::{Vertex, VertexLog};

    #[test]
    fn vertexes_go_together_and_nothing_passes_another() {
        let vertex = |name: &str| StatusResponse {
            vertexes: vec![Vertex { name: name.to_string(), ..Vertex::default() }],
            ..StatusResponse::default()
        };
        let log = StatusResponse { logs: vec![VertexLog::default()], ..StatusResponse::default() };
        let names = |one: &StatusResponse| {
            one.vertexes.iter().map(|vertex| vertex.name.clone()).collect::<Vec<_>>().join(" ")
        };
        let all = vec![vertex("a"), vertex("b"), log.clone(), vertex("c"), vertex("d")];
        let messages = together(all);
        assert_eq!(messages.iter().map(names).collect::<Vec<_>>(), ["a b", "", "c d"]);
        assert_eq!(messages[1], log);
        let many: Vec<StatusResponse> = (0..150).map(|n| vertex(&n.to_string())).collect();
        let messages = together(many);
        assert_eq!(messages.iter().map(|one| one.vertexes.len()).collect::<Vec<_>>(), [64, 64, 22]);
        assert!(together(Vec::new()).is_empty());
    }
}
