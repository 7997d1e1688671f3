//! What lists of packages are about besides an image: stages and the build context, as the Dockerfile asks
//! for it (BuildKit, docs/attestations/sbom-protocol.md, "extras").

use anyhow::{Context, Result};
use crossdock_builder::{BuildRequest, Environment, Events, Images, MadeImage, Scans, Silent, make};
use crossdock_platform::Platform;

/// The name of the build context among the extras.
const CONTEXT: &str = "context";

/// One of the things that are listed besides an image.
pub struct Extra {
    /// The stage's name, or `context`.
    pub name: String,
    /// Its files.
    pub files: MadeImage,
}

impl Extra {
    /// The name under which programs find its files, and which its document has.
    pub fn shown(&self) -> String {
        format!("sbom-{}", self.name)
    }
}

/// The build context of a request, copied once for all platforms when a list is about it.
pub struct ContextFiles<'a> {
    request: &'a BuildRequest,
    copied: Option<MadeImage>,
}

impl<'a> ContextFiles<'a> {
    /// The context of a request; nothing is copied yet.
    pub fn new(request: &'a BuildRequest) -> ContextFiles<'a> {
        ContextFiles { request, copied: None }
    }

    /// The files that a build copies with `COPY . /`, so that `.dockerignore` holds; `None` if there is no
    /// context, as with a Dockerfile on standard input.
    fn files(&mut self, environment: &Environment<'_>) -> Result<Option<MadeImage>> {
        if self.request.context.is_none() {
            return Ok(None);
        }
        if self.copied.is_none() {
            let mut request = BuildRequest::for_platform(Platform::host());
            request.dockerfile = b"FROM scratch\nCOPY . /\n".to_vec();
            request.context.clone_from(&self.request.context);
            request.ignore = self.request.ignore.clone();
            (request.settings.needs_images, request.settings.needs_steps) = (false, false);
            let environment = beside(environment, environment.images, &Silent);
            let made = make(&environment, &request).context("list packages of the build context")?;
            self.copied = made.images.into_iter().next();
        }
        Ok(self.copied.clone())
    }
}

/// What is listed besides an image: stages in the order of the Dockerfile, then the context, unless a stage
/// has its name.
///
/// # Errors
///
/// The context cannot be copied.
pub fn extras(
    environment: &Environment<'_>,
    context: &mut ContextFiles<'_>,
    scans: &Scans,
) -> Result<Vec<Extra>> {
    let stages = scans.stages.iter();
    let mut all: Vec<Extra> =
        stages.map(|(name, files)| Extra { name: name.clone(), files: files.clone() }).collect();
    if scans.has_context && all.iter().all(|extra| extra.name != CONTEXT) {
        let files = context.files(environment)?;
        all.extend(files.map(|files| Extra { name: CONTEXT.to_string(), files }));
    }
    Ok(all)
}

/// An environment for a small build beside one that is done: nobody is told of its steps in the same way, no
/// push waits for its layers, and it stays on this machine.
pub fn beside<'a>(
    environment: &Environment<'a>,
    images: &'a dyn Images,
    events: &'a dyn Events,
) -> Environment<'a> {
    Environment {
        images,
        events,
        sink: None,
        stop: environment.stop.clone(),
        farm: None,
        failed: None,
        ..*environment
    }
}
