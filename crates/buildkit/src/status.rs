//! What a client sees of a build: the builder's events as BuildKit's vertexes, logs, statuses and warnings
//! (api/services/control, `StatusResponse`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning,
};
use bollard_buildkit_proto::pb;
use crossdock_builder::{Event, Events, StepId};
use crossdock_dockerfile::Lines;
use crossdock_oci::Digest;
use crossdock_registry::{Outcome, Progress};
use tokio::sync::Notify;

/// Output of one build that is kept for clients that come late, in bytes.
const LOGS_SIZE_MAX: usize = 64 * 1024 * 1024;

/// What BuildKit says of a vertex that was ended; clients know the words.
const CANCELLED: &str = "context canceled";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time now.
pub fn now() -> Timestamp {
    let now = jiff::Timestamp::now();
    Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond() }
}

/// Everything that was told of a build. Any number of clients read it, each from its beginning.
#[derive(Default)]
pub struct StatusLog {
    inner: Mutex<Told>,
    grown: Notify,
    /// Nothing more will be added.
    over: Notify,
}

/// How long a reader lets events gather. Steps of a cached build take a tenth of it, and clients draw less
/// often than every 50 ms.
const GATHER: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Told {
    all: Vec<StatusResponse>,
    /// Bytes of output in `all`.
    size: usize,
    is_over: bool,
}

impl StatusLog {
    /// Adds what happened.
    pub fn add(&self, mut status: StatusResponse) {
        let mut told = lock(&self.inner);
        let size: usize = status.logs.iter().map(|log| log.msg.len()).sum();
        if told.size + size > LOGS_SIZE_MAX && !status.logs.is_empty() {
            if told.size == usize::MAX {
                return;
            }
            told.size = usize::MAX - LOGS_SIZE_MAX;
            for log in &mut status.logs {
                log.msg = b"[output clipped, the limit of a build is 64 MiB]\n".to_vec();
            }
        }
        told.size = told.size.saturating_add(size);
        told.all.push(status);
        drop(told);
        self.grown.notify_waiters();
    }

    /// Nothing more will be added.
    pub fn close(&self) {
        lock(&self.inner).is_over = true;
        self.grown.notify_waiters();
        self.over.notify_waiters();
    }

    /// What was told from number `from` on, at least one, and what follows within a moment; `None` at the
    /// end.
    pub async fn next(&self, from: usize) -> Option<Vec<StatusResponse>> {
        self.wait(from).await?;
        let over = self.over.notified();
        tokio::pin!(over);
        over.as_mut().enable();
        if !lock(&self.inner).is_over {
            // Either way there is something to tell.
            let _ = tokio::time::timeout(GATHER, over).await;
        }
        self.wait(from).await
    }

    /// The same without what follows.
    async fn wait(&self, from: usize) -> Option<Vec<StatusResponse>> {
        loop {
            let grown = self.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            {
                let told = lock(&self.inner);
                if told.all.len() > from {
                    return Some(told.all[from..].to_vec());
                }
                if told.is_over {
                    return None;
                }
            }
            grown.await;
        }
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<StatusResponse> {
        lock(&self.inner).all.clone()
    }
}

/// A step that has not ended.
struct Open {
    vertex: Vertex,
}

/// Tells the builder's events in BuildKit's words.
pub struct Reporter {
    log: Arc<StatusLog>,
    /// Makes vertexes of different solves of one build differ.
    prefix: String,
    state: Mutex<State>,
    /// Texts that must not be shown: lines of secrets.
    hidden: Arc<Mutex<Vec<String>>>,
    /// The Dockerfile, for warnings.
    source: Mutex<Option<pb::SourceInfo>>,
}

#[derive(Default)]
struct State {
    open: HashMap<StepId, Open>,
    digests: HashMap<StepId, String>,
    /// Steps that failed, until the build's error is known.
    failed: Vec<StepId>,
    /// The vertex of the first step that failed.
    failed_vertex: Option<String>,
    transfers: BTreeMap<String, VertexStatus>,
    counts: Counts,
}

/// Steps of a build, for its record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// All.
    pub total: i32,
    /// Those whose result was known.
    pub cached: i32,
    /// Those that ended well.
    pub completed: i32,
    /// Warnings.
    pub warnings: i32,
}

impl Reporter {
    /// A reporter that adds to a log. `hidden` is shared with whoever learns of secrets.
    pub fn new(log: Arc<StatusLog>, prefix: &str, hidden: Arc<Mutex<Vec<String>>>) -> Reporter {
        let (state, source) = Default::default();
        Reporter { log, prefix: prefix.to_string(), state, hidden, source }
    }

    /// Sets the Dockerfile that warnings are about.
    pub fn set_source(&self, source: pb::SourceInfo) {
        *lock(&self.source) = Some(source);
    }

    /// Numbers of steps so far.
    pub fn counts(&self) -> Counts {
        lock(&self.state).counts
    }

    fn digest(&self, name: &str) -> String {
        Digest::of(format!("{}\0{name}", self.prefix).as_bytes()).to_string()
    }

    fn tell(&self, vertex: &Vertex) {
        self.log.add(StatusResponse { vertexes: vec![vertex.clone()], ..StatusResponse::default() });
    }

    /// Does work that is a vertex of its own, such as a transfer.
    pub fn vertex<T, E: std::fmt::Display>(
        &self,
        name: &str,
        work: impl FnOnce(&Work<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let digest = self.digest(name);
        let mut vertex = Vertex { digest, name: name.to_string(), started: Some(now()), ..Vertex::default() };
        self.tell(&vertex);
        let result = work(&Work { reporter: self, vertex: vertex.digest.clone() });
        vertex.completed = Some(now());
        if let Err(error) = &result {
            vertex.error = self.shown(&format!("{error:#}"));
        }
        self.tell(&vertex);
        result
    }

    /// Says why the build failed, at the step where it did.
    pub fn failed(&self, why: &str) {
        let ended: Vec<Vertex> = {
            let mut state = lock(&self.state);
            let failed = std::mem::take(&mut state.failed);
            failed.into_iter().filter_map(|step| state.open.remove(&step)).map(|open| open.vertex).collect()
        };
        for mut vertex in ended {
            vertex.error = self.shown(why);
            vertex.completed = Some(now());
            self.tell(&vertex);
        }
    }

    /// The vertex of the first step that failed.
    pub fn failed_vertex(&self) -> Option<String> {
        lock(&self.state).failed_vertex.clone()
    }

    /// Warns of something in the Dockerfile, in BuildKit's form.
    pub fn warn(&self, short: &str, detail: &str, url: &str, lines: Option<Lines>) {
        lock(&self.state).counts.warnings += 1;
        let ranges = lines.map(range).into_iter().collect();
        let warning = VertexWarning {
            vertex: self.digest("warnings"),
            level: 1,
            short: self.shown(short).into_bytes(),
            detail: (!detail.is_empty()).then(|| detail.as_bytes().to_vec()).into_iter().collect(),
            url: url.to_string(),
            info: lines.and_then(|_| lock(&self.source).clone()),
            ranges,
        };
        self.log.add(StatusResponse { warnings: vec![warning], ..StatusResponse::default() });
    }

    /// Warns in the words of a client's own frontend.
    pub fn pass_on(&self, warning: VertexWarning) {
        lock(&self.state).counts.warnings += 1;
        let shown = |bytes: &[u8]| self.shown(&String::from_utf8_lossy(bytes)).into_bytes();
        let warning = VertexWarning {
            vertex: self.digest("warnings"),
            short: shown(&warning.short),
            detail: warning.detail.iter().map(|line| shown(line)).collect(),
            ..warning
        };
        self.log.add(StatusResponse { warnings: vec![warning], ..StatusResponse::default() });
    }

    /// A text without secrets.
    pub fn shown(&self, text: &str) -> String {
        let mut shown = text.to_string();
        for secret in lock(&self.hidden).iter().filter(|secret| !secret.is_empty()) {
            if shown.contains(secret.as_str()) {
                shown = shown.replace(secret.as_str(), "***");
            }
        }
        shown
    }

    fn line(&self, vertex: String, stream: i64, mut text: String, end: &str) {
        text = self.shown(&text);
        text.push_str(end);
        let log = VertexLog { vertex, timestamp: Some(now()), stream, msg: text.into_bytes() };
        self.log.add(StatusResponse { logs: vec![log], ..StatusResponse::default() });
    }

    fn end(&self, step: StepId, end: impl FnOnce(&mut Vertex, &mut Counts)) {
        let vertex = {
            let mut state = lock(&self.state);
            let Some(mut open) = state.open.remove(&step) else { return };
            open.vertex.completed = Some(now());
            end(&mut open.vertex, &mut state.counts);
            open.vertex
        };
        self.tell(&vertex);
    }
}

/// Lines as BuildKit counts them.
fn range(lines: Lines) -> pb::Range {
    let place = |line: usize| Some(pb::Position { line: line as i32, character: 0 });
    pb::Range { start: place(lines.start), end: place(lines.end) }
}

impl Events for Reporter {
    fn event(&self, event: Event) {
        match event {
            Event::Started { step, info } => {
                let digest = self.digest(&format!("{step}"));
                let vertex = Vertex {
                    digest: digest.clone(),
                    name: self.shown(&info.name),
                    started: Some(now()),
                    ..Vertex::default()
                };
                self.tell(&vertex);
                let mut state = lock(&self.state);
                state.counts.total += 1;
                state.digests.insert(step, digest);
                state.open.insert(step, Open { vertex });
            }
            Event::Keyed { step, inputs, .. } => {
                let vertex = {
                    let mut state = lock(&self.state);
                    let digests = inputs.iter().filter_map(|input| state.digests.get(input));
                    let inputs: Vec<String> = digests.cloned().collect();
                    let Some(open) = state.open.get_mut(&step).filter(|_| !inputs.is_empty()) else { return };
                    open.vertex.inputs = inputs;
                    open.vertex.clone()
                };
                self.tell(&vertex);
            }
            Event::Output { step, stderr, is_transient, line } => {
                let Some(vertex) = lock(&self.state).digests.get(&step).cloned() else { return };
                self.line(vertex, if stderr { 2 } else { 1 }, line, if is_transient { "\r" } else { "\n" });
            }
            Event::Done { step, cached, .. } => self.end(step, |vertex, counts| {
                vertex.cached = cached;
                counts.completed += 1;
                counts.cached += i32::from(cached);
            }),
            Event::Cancelled { step } => self.end(step, |vertex, _| vertex.error = CANCELLED.to_string()),
            Event::Failed { step } => {
                let mut state = lock(&self.state);
                state.failed.push(step);
                if state.failed_vertex.is_none() {
                    state.failed_vertex = state.digests.get(&step).cloned();
                }
            }
            // What is wrong at a place in a Dockerfile the checks tell, in BuildKit's words.
            Event::Warning { lines: Some(_), .. } => {}
            Event::Warning { message, lines } => self.warn(&message, "", "", lines),
            Event::Planned { .. }
            | Event::Waiting { .. }
            | Event::Missed { .. }
            | Event::Executing { .. }
            | Event::Placed { .. }
            | Event::Unpacking { .. }
            | Event::Packing { .. }
            | Event::Packed { .. } => {}
        }
    }
}

/// Work that is a vertex.
pub struct Work<'a> {
    reporter: &'a Reporter,
    vertex: String,
}

impl Work<'_> {
    /// Tells a line.
    pub fn say(&self, text: &str) {
        self.reporter.line(self.vertex.clone(), 1, text.to_string(), "\n");
    }

    /// Does a part of the work, and tells its beginning and its end; `size` is what it has moved, in bytes.
    pub fn part<T, E>(
        &self,
        name: &str,
        size: impl Fn(&T) -> u64,
        part: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let begun = now();
        self.status(begun, name, 0, false);
        let done = part()?;
        self.status(begun, name, size(&done), true);
        Ok(done)
    }

    /// Tells how far a part of the work is that has begun then, in bytes.
    pub fn status(&self, begun: Timestamp, name: &str, current: u64, is_over: bool) {
        let current = i64::try_from(current).unwrap_or(i64::MAX);
        let status = VertexStatus {
            id: name.to_string(),
            vertex: self.vertex.clone(),
            name: name.to_string(),
            current,
            total: 0,
            timestamp: Some(now()),
            started: Some(begun),
            completed: is_over.then(now),
        };
        self.reporter.log.add(StatusResponse { statuses: vec![status], ..StatusResponse::default() });
    }
}

/// Transfers of a build with registries: statuses of one vertex, which is told with the first of them.
pub struct Transfers {
    reporter: Arc<Reporter>,
}

const TRANSFERS: &str = "[internal] move images and layers";

impl Transfers {
    /// Transfers that a reporter tells of.
    pub fn new(reporter: Arc<Reporter>) -> Transfers {
        Transfers { reporter }
    }

    fn tell(&self, status: VertexStatus) {
        self.reporter.log.add(StatusResponse { statuses: vec![status], ..StatusResponse::default() });
    }

    fn vertex(&self, is_over: bool) -> Vertex {
        Vertex {
            digest: self.reporter.digest(TRANSFERS),
            name: TRANSFERS.to_string(),
            started: Some(now()),
            completed: is_over.then(now),
            ..Vertex::default()
        }
    }
}

impl Progress for Transfers {
    fn start(&self, id: &str, label: &str, total: u64) {
        let status = VertexStatus {
            id: format!("{label} {id}"),
            vertex: self.reporter.digest(TRANSFERS),
            name: label.to_string(),
            current: 0,
            total: i64::try_from(total).unwrap_or(i64::MAX),
            timestamp: Some(now()),
            started: Some(now()),
            completed: None,
        };
        let is_first = {
            let mut state = lock(&self.reporter.state);
            state.transfers.insert(id.to_string(), status.clone());
            state.transfers.len() == 1
        };
        if is_first {
            self.reporter.tell(&self.vertex(false));
        }
        self.tell(status);
    }

    fn advance(&self, id: &str, position: u64) {
        let status = {
            let mut state = lock(&self.reporter.state);
            let Some(status) = state.transfers.get_mut(id) else { return };
            status.current = i64::try_from(position).unwrap_or(i64::MAX);
            status.timestamp = Some(now());
            status.clone()
        };
        self.tell(status);
    }

    fn done(&self, id: &str, _: Outcome) {
        let (status, is_last) = {
            let mut state = lock(&self.reporter.state);
            let Some(mut status) = state.transfers.remove(id) else { return };
            status.current = status.total;
            status.completed = Some(now());
            (status, state.transfers.is_empty())
        };
        self.tell(status);
        if is_last {
            self.reporter.tell(&self.vertex(true));
        }
    }

    fn waiting(&self, reason: &str, delay: Duration, tried: u32) {
        let text = format!("{reason}: try {} in {:.1} s", tried + 1, delay.as_secs_f64());
        self.reporter.line(self.reporter.digest(TRANSFERS), 2, text, "\n");
    }
}
