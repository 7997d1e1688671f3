//! The service `moby.buildkit.v1.frontend.LLBBridge`: builds that the client steers, as buildx does.

use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::VertexWarning;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridge;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    EvaluateRequest, EvaluateResponse, ExecMessage, InputsRequest, InputsResponse, NewContainerRequest,
    NewContainerResponse, PingRequest, PongResponse, ReadDirRequest, ReadDirResponse, ReadFileRequest,
    ReadFileResponse, Ref, ReleaseContainerRequest, ReleaseContainerResponse, ResolveImageConfigRequest,
    ResolveImageConfigResponse, ResolveSourceImageResponse, ResolveSourceMetaRequest,
    ResolveSourceMetaResponse, Result as Returned, ReturnRequest, ReturnResponse, SolveRequest,
    SolveResponse, StatFileRequest, StatFileResponse, WarnRequest, WarnResponse,
};
use bollard_buildkit_proto::pb;
use crossdock_builder::Images;
use crossdock_builder::dockerfile::unknown_frontend;
use crossdock_oci::Reference;
use crossdock_platform::Platform;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::caps;
use crate::container::{self, Processes};
use crate::debug;
use crate::failure::Failure;
use crate::frontend::{self, Call};
use crate::imports::CacheEntry;
use crate::job::{Answer, Job};
use crate::results::{self, Files};
use crate::server::Server;
use crate::solve;
use crate::sources;
use crate::surroundings;
use crate::threads::blocking;

/// The metadata in which a client names its build.
const BUILD: &str = "buildkit-controlapi-buildid";

impl Server {
    /// The build that a call belongs to.
    async fn job_of<T>(&self, request: &Request<T>) -> Result<Arc<Job>, Status> {
        let id = request.metadata().get(BUILD).and_then(|value| value.to_str().ok());
        let id = id.ok_or_else(|| Status::invalid_argument("the call names no build"))?;
        self.0.job(id).await.ok_or_else(|| Status::not_found(format!("no such job {id}")))
    }
}

fn platform_of(platform: Option<&pb::Platform>) -> Platform {
    platform.and_then(results::platform_of).unwrap_or_else(Platform::host)
}

/// Finds an image: its name (another one if a policy says so), its digest, and its configuration.
fn resolve(
    job: &Job,
    name: &str,
    platform: &Platform,
    mode: &str,
) -> anyhow::Result<(String, String, Vec<u8>)> {
    let source = surroundings::source(job, job.own_session()?, &job.reporter);
    let asked: Reference = name.parse()?;
    let (reference, pull) = sources::allowed_image(&job.policies(), &asked, mode == "pull")?;
    let found = Images::resolve(&source, &reference, platform, pull);
    let manifest = found.map_err(anyhow::Error::msg)?;
    let image = job.store.load_image(&manifest)?;
    Ok((reference.to_string(), manifest.digest.to_string(), image.config_bytes))
}

#[tonic::async_trait]
impl LlbBridge for Server {
    async fn resolve_image_config(
        &self,
        request: Request<ResolveImageConfigRequest>,
    ) -> Result<Response<ResolveImageConfigResponse>, Status> {
        let job = self.job_of(&request).await?;
        let request = request.into_inner();
        job.add_policies(request.source_policies);
        let found = blocking(move || {
            let platform = platform_of(request.platform.as_ref());
            resolve(&job, &request.r#ref, &platform, &request.resolve_mode)
                .map_err(|error| Failure::of(&error))
        });
        let (r#ref, digest, config) = found.await.map_err(|failure| failure.status())?;
        Ok(Response::new(ResolveImageConfigResponse { digest, config, r#ref }))
    }

    async fn resolve_source_meta(
        &self,
        request: Request<ResolveSourceMetaRequest>,
    ) -> Result<Response<ResolveSourceMetaResponse>, Status> {
        let job = self.job_of(&request).await?;
        let request = request.into_inner();
        let source = request.source.ok_or_else(|| Status::invalid_argument("the call names no source"))?;
        job.add_policies(request.source_policies);
        let allowed = job.policies().apply(source.clone());
        let allowed = allowed.map_err(|error| Failure::of(&error).status())?;
        let Some(name) = allowed.identifier.strip_prefix("docker-image://").map(str::to_string) else {
            if allowed != source {
                // What is used instead has no more to tell.
                return Ok(Response::new(ResolveSourceMetaResponse {
                    source: Some(allowed),
                    ..ResolveSourceMetaResponse::default()
                }));
            }
            let message = format!("the source {} cannot be asked for", source.identifier);
            return Err(Status::unimplemented(message));
        };
        let platform = platform_of(request.platform.as_ref());
        let mode = request.resolve_mode;
        let found =
            blocking(move || resolve(&job, &name, &platform, &mode).map_err(|error| Failure::of(&error)));
        let (name, digest, config) = found.await.map_err(|failure| failure.status())?;
        let identifier = format!("docker-image://{name}");
        Ok(Response::new(ResolveSourceMetaResponse {
            source: Some(pb::SourceOp { identifier, attrs: allowed.attrs }),
            image: Some(ResolveSourceImageResponse {
                digest,
                config,
                ..ResolveSourceImageResponse::default()
            }),
            ..ResolveSourceMetaResponse::default()
        }))
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let job = self.job_of(&request).await?;
        let request = request.into_inner();
        let solving = job.clone();
        let answer = blocking(move || {
            let entry = |one: bollard_buildkit_proto::moby::buildkit::v1::frontend::CacheOptionsEntry| {
                CacheEntry { kind: one.r#type, attributes: one.attrs }
            };
            let asked: Vec<CacheEntry> = request.cache_imports.into_iter().map(entry).collect();
            solving.add_policies(request.source_policies);
            if let Some(definition) = request.definition.filter(|definition| !definition.def.is_empty()) {
                return match solve::answer(&solving, &definition, &asked) {
                    // BuildKit solves when the result is read. Frontends read files that need not be there.
                    Err(failure) if !request.evaluate && failure.code != Code::Cancelled => {
                        Ok(Answer::failed(failure))
                    }
                    answer => answer,
                };
            }
            match request.frontend.as_str() {
                "dockerfile.v0" => {}
                // Nothing to solve: an empty result.
                "" => return Ok(Answer::default()),
                other => return Err(Failure::new(Code::Unimplemented, unknown_frontend(other))),
            }
            let (layers, mut imports) = solving.layers();
            imports.extend(asked);
            let call =
                Call { attributes: request.frontend_opt, inputs: request.frontend_inputs, imports, layers };
            match frontend::run(&solving, &call) {
                // Clients look into a command that failed when they read the result.
                Err(failure) if !request.evaluate && failure.details.iter().any(debug::is_of_build) => {
                    Ok(Answer::failed(failure))
                }
                answer => answer,
            }
        });
        let answer = answer.await.map_err(|mut failure| {
            failure.message = job.reporter.shown(&failure.message);
            failure.status()
        })?;
        Ok(Response::new(SolveResponse { result: Some(job.reply(&answer)), ..SolveResponse::default() }))
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        let job = self.job_of(&request).await?;
        let request = request.into_inner();
        let data = files(job, request.r#ref, move |files| {
            let range = request.range.unwrap_or_default();
            files.read(&request.file_path, range.offset, range.length)
        });
        Ok(Response::new(ReadFileResponse { data: data.await? }))
    }

    async fn read_dir(&self, request: Request<ReadDirRequest>) -> Result<Response<ReadDirResponse>, Status> {
        let job = self.job_of(&request).await?;
        let request = request.into_inner();
        let entries =
            files(job, request.r#ref, move |files| files.list(&request.dir_path, &request.include_pattern));
        Ok(Response::new(ReadDirResponse { entries: entries.await? }))
    }

    async fn stat_file(
        &self,
        request: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        let job = self.job_of(&request).await?;
        let request = request.into_inner();
        let stat = files(job, request.r#ref, move |files| {
            let name = request.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string();
            files.stat(&request.path, &name)
        });
        Ok(Response::new(StatFileResponse { stat: Some(stat.await?) }))
    }

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        // A result is there as soon as it has an id.
        let job = self.job_of(&request).await?;
        job.result(&request.into_inner().r#ref).map_err(|error| Failure::of(&error).status())?;
        Ok(Response::new(EvaluateResponse {}))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PongResponse>, Status> {
        self.job_of(&request).await?;
        Ok(Response::new(PongResponse {
            frontend_api_caps: caps::frontend(),
            llb_caps: caps::definitions(),
            workers: vec![caps::worker(&self.0.house)],
        }))
    }

    async fn r#return(&self, request: Request<ReturnRequest>) -> Result<Response<ReturnResponse>, Status> {
        let job = self.job_of(&request).await?;
        let ReturnRequest { result, error } = request.into_inner();
        let answer = match (error, result) {
            (Some(error), _) => {
                let code = Code::from_i32(error.code);
                Err(Failure { details: error.details, ..Failure::new(code, error.message) })
            }
            (None, Some(result)) => {
                let returned = job.clone();
                blocking(move || {
                    let result = with_empty_images(&returned, result)?;
                    returned.answer_of(result).map_err(|error| Failure::of(&error))
                })
                .await
            }
            (None, None) => Ok(Answer::default()),
        };
        job.give_back(answer);
        Ok(Response::new(ReturnResponse {}))
    }

    async fn inputs(&self, request: Request<InputsRequest>) -> Result<Response<InputsResponse>, Status> {
        let job = self.job_of(&request).await?;
        Ok(Response::new(InputsResponse { definitions: job.inputs.clone() }))
    }

    async fn new_container(
        &self,
        request: Request<NewContainerRequest>,
    ) -> Result<Response<NewContainerResponse>, Status> {
        let job = self.job_of(&request).await?;
        let opened = container::open(&job, request.into_inner()).await;
        opened.map_err(|failure| failure.status())?;
        Ok(Response::new(NewContainerResponse {}))
    }

    async fn release_container(
        &self,
        request: Request<ReleaseContainerRequest>,
    ) -> Result<Response<ReleaseContainerResponse>, Status> {
        let job = self.job_of(&request).await?;
        job.containers.release(&request.into_inner().container_id);
        Ok(Response::new(ReleaseContainerResponse {}))
    }

    type ExecProcessStream = Pin<Box<dyn Stream<Item = Result<ExecMessage, Status>> + Send>>;

    async fn exec_process(
        &self,
        request: Request<Streaming<ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        let job = self.job_of(&request).await?;
        let mut incoming = request.into_inner();
        let (send, receive) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut processes = Processes::new(job, send.clone());
            loop {
                let message = tokio::select! {
                    () = send.closed() => return,
                    message = incoming.next() => message,
                };
                let taken = match message {
                    Some(Ok(message)) => processes.take(message),
                    // The client says no more, but may still listen to its processes.
                    None => return send.closed().await,
                    Some(Err(_)) => return,
                };
                if let Err(status) = taken {
                    // A client that has gone hears nothing.
                    let _ = send.send(Err(status)).await;
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn read_file_container(
        &self,
        _: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        Err(Status::unimplemented(NO_CONTAINERS))
    }

    async fn read_dir_container(
        &self,
        _: Request<ReadDirRequest>,
    ) -> Result<Response<ReadDirResponse>, Status> {
        Err(Status::unimplemented(NO_CONTAINERS))
    }

    async fn stat_file_container(
        &self,
        _: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        Err(Status::unimplemented(NO_CONTAINERS))
    }

    async fn warn(&self, request: Request<WarnRequest>) -> Result<Response<WarnResponse>, Status> {
        let job = self.job_of(&request).await?;
        let request = request.into_inner();
        let WarnRequest { level, short, detail, url, info, ranges, .. } = request;
        let vertex = String::new();
        job.reporter.pass_on(VertexWarning { vertex, level, short, detail, url, info, ranges });
        Ok(Response::new(WarnResponse {}))
    }
}

/// Gives an id to each image of a result that has no files: a client's frontend leaves it out.
fn with_empty_images(job: &Job, mut result: Returned) -> Result<Returned, Failure> {
    use bollard_buildkit_proto::moby::buildkit::v1::frontend::result::Result as Refs;
    let empty = || Ok::<_, Failure>(job.hold(Arc::new(solve::solve(job, &pb::Definition::default(), &[])?)));
    let has_config = result.metadata.contains_key("containerimage.config");
    match &mut result.result {
        Some(Refs::Ref(one)) if one.id.is_empty() && has_config => one.id = empty()?,
        None if has_config => result.result = Some(Refs::Ref(Ref { id: empty()?, def: None })),
        Some(Refs::Refs(all)) => {
            for one in all.refs.values_mut().filter(|one| one.id.is_empty()) {
                one.id = empty()?;
            }
        }
        _ => {}
    }
    Ok(result)
}

const NO_CONTAINERS: &str = "files of a container are not read: run a command in it";

/// Does something with the files of a result.
async fn files<T: Send + 'static>(
    job: Arc<Job>,
    id: String,
    work: impl FnOnce(&Files) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let done = blocking(move || {
        let work = || -> anyhow::Result<T> {
            let solved = job.result(&id)?;
            work(&Files::of(&job.store, &solved.image)?)
        };
        work().map_err(|error| Failure::of(&error))
    });
    done.await.map_err(|failure| failure.status())
}
