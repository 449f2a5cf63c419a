//! How a program publishes jobs and reads results: over the Unix socket of a running Spinor, or
//! over HTTP with a token.
//!
//! Owns requests, answers and the three ways it can go wrong. Refuses to retry: an id makes a
//! repeated publish harmless, and the caller knows when to give up.
//!
//! ```no_run
//! # async fn example() -> Result<(), spinor::client::ClientError> {
//! use spinor::{api::new_job::NewJob, client::Client};
//! let client = Client::unix("/var/lib/spinor/spinor.sock")?;
//! let job = client.publish(&NewJob::new("noop")).await?;
//! let waited = client.wait(job.id, std::time::Duration::from_secs(10), true).await?;
//! # let _ = waited; Ok(())
//! # }
//! ```

mod access;
mod event_stream;
mod failures;
mod steer;
mod triggers;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response};
use serde::{Serialize, de::DeserializeOwned};
use spinor_consumers::{
    backup::Manifest,
    results::{DelayedFilter, JobFilter, JobRecord, JobRow, Page, RunRecord, RunRow, Waiting},
};
use spinor_executors::StepReport;
use uuid::Uuid;

use crate::{
    api::{
        Accepted, BackUp, BatchAnswer, EditJob, EventFilter, Figures, FiguresQuery, NewRun, Problem, Prune,
        PrunedSlice, QueueRow, Status, SubmittedRun, WaitMany, Waited, WaitedMany, Why, new_job::NewJob,
        new_run::NewJobRun,
    },
    config::duration_text,
};

pub use event_stream::EventStream;

/// A running Spinor, as seen from outside; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    place: String,
}

/// Why a call gave no answer. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Start it, or name the right place.
    #[error("no Spinor answers at {place} ({why}); start one with `spinor up`")]
    Unreachable {
        /// The socket or the address.
        place: String,
        /// What the system says.
        why: String,
    },
    /// Change the request: it was understood and refused.
    #[error("{}", refusal(.0))]
    Refused(Box<Problem>),
    /// Look closer: the answer made no sense, or broke off.
    #[error("{place} did not answer as expected: {why}")]
    Failed {
        /// The socket or the address.
        place: String,
        /// What was wrong.
        why: String,
    },
}

fn refusal(problem: &Problem) -> String {
    let field = problem.field.as_ref().map(|field| format!("`{field}`: ")).unwrap_or_default();
    let known = match problem.known.as_slice() {
        [] => String::new(),
        known if problem.detail.contains(&known.join(", ")) => String::new(),
        known => format!("; there are {}", known.join(", ")),
    };
    format!("{field}{}{known}", problem.detail)
}

/// A question is answered within this, and a wait so long after its own time.
const ANSWER: Duration = Duration::from_secs(10);
/// What is handed over is taken or refused within this: longer than the server waits for its broker.
const TAKEN: Duration = Duration::from_secs(60);

/// Which steps of a run to read.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StepQuery {
    /// On this node only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// With what they wrote.
    pub outputs: bool,
    /// Only those that did not succeed.
    pub problems: bool,
    /// At most so many; 0 means all.
    pub limit: u32,
}

impl Client {
    /// Talks to the Spinor that owns a data directory, over its socket.
    pub fn unix(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket = socket.into();
        let place = format!("unix:{}", socket.display());
        let http = without_tls(builder()).unix_socket(socket).build().map_err(|error| failed(&place, &error))?;
        Ok(Self { http, base: "http://localhost".to_owned(), token: None, place })
    }

    /// Talks to an address, `http://host:port`, and shows a token.
    pub fn http(address: &str, token: Option<String>) -> Result<Self, ClientError> {
        let place = address.trim_end_matches('/').to_owned();
        let http = if place.starts_with("https://") { builder() } else { without_tls(builder()) };
        let http = http.build().map_err(|error| failed(&place, &error))?;
        Ok(Self { http, base: place.clone(), token, place })
    }

    /// Where it talks to, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Publishes one job; `Ok` once the broker has it on disk.
    pub async fn publish(&self, job: &NewJob) -> Result<Accepted, ClientError> {
        self.post("/jobs", job).await
    }

    /// Publishes many; each has its own result, in order. A wrong field refuses the whole batch.
    pub async fn publish_batch(&self, jobs: &[NewJob]) -> Result<BatchAnswer, ClientError> {
        self.post("/jobs", jobs).await
    }

    /// One job with its executions.
    pub async fn job(&self, id: Uuid) -> Result<JobRecord, ClientError> {
        self.get(&format!("/jobs/{id}"), &()).await
    }

    /// Jobs, newest first.
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Page<JobRow>, ClientError> {
        self.get("/jobs", filter).await
    }

    /// Waits for a job's end, up to an hour. `published`: it was just published, so that it counts as known.
    pub async fn wait(&self, id: Uuid, timeout: Duration, published: bool) -> Result<Waited, ClientError> {
        let query = [("timeout", duration_text(timeout)), ("published", published.to_string())];
        let request = self.request(Method::GET, &format!("/jobs/{id}/wait")).query(&query);
        let response = self.send(request.timeout(timeout.saturating_add(ANSWER))).await?;
        self.read(response).await
    }

    /// Waits until all of these jobs have ended, at most 1000 that were just published; tells those that have
    /// when the time is over.
    pub async fn wait_many(&self, jobs: &[Uuid], timeout: Duration) -> Result<WaitedMany, ClientError> {
        let many = WaitMany { jobs: jobs.to_vec(), timeout: Some(duration_text(timeout)), reports: false };
        let request = self.request(Method::POST, "/jobs/wait").json(&many);
        let response = self.send(request.timeout(timeout.saturating_add(ANSWER))).await?;
        self.read(response).await
    }

    /// How jobs ended, how long they waited and ran, over time and by kind.
    pub async fn figures(&self, query: &FiguresQuery) -> Result<Figures, ClientError> {
        self.get("/figures", query).await
    }

    /// The one reason why a job is not running.
    pub async fn why(&self, id: Uuid) -> Result<Why, ClientError> {
        self.get(&format!("/jobs/{id}/why"), &()).await
    }

    /// Delayed jobs, the next one first.
    pub async fn delayed(&self, filter: &DelayedFilter) -> Result<Page<Waiting>, ClientError> {
        self.get("/delayed", filter).await
    }

    /// Changes a delayed job while it waits.
    pub async fn edit_job(&self, id: Uuid, edit: &EditJob) -> Result<Waiting, ClientError> {
        self.ask(Method::PATCH, &format!("/jobs/{id}"), edit).await
    }

    /// The queues.
    pub async fn queues(&self) -> Result<Vec<QueueRow>, ClientError> {
        self.get("/queues", &()).await
    }

    /// Runs, newest first.
    pub async fn runs(&self, limit: u32, cursor: Option<&str>) -> Result<Page<RunRow>, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
        self.get("/runs", &query).await
    }

    /// One run with its members.
    pub async fn run(&self, id: Uuid) -> Result<RunRecord, ClientError> {
        self.get(&format!("/runs/{id}"), &()).await
    }

    /// Steps of a run.
    pub async fn steps(&self, run: Uuid, query: &StepQuery) -> Result<Vec<StepReport>, ClientError> {
        self.get(&format!("/runs/{run}/steps"), query).await
    }

    /// Publishes the plans of a run; the answering process drives it to its end.
    pub async fn submit_run(&self, run: &NewRun) -> Result<SubmittedRun, ClientError> {
        self.post("/runs", run).await
    }

    /// Publishes a run of jobs; `Ok` once the broker has it on disk.
    pub async fn publish_run(&self, run: &NewJobRun) -> Result<SubmittedRun, ClientError> {
        self.post("/runs", run).await
    }

    /// The nodes that answer a ping.
    pub async fn nodes(&self) -> Result<Vec<String>, ClientError> {
        self.get("/nodes", &()).await
    }

    /// What runs there, and how it is.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/status", &()).await
    }

    /// Removes what is past its time, or counts it: one slice of the work. Ask again with `next` for the rest.
    pub async fn prune(&self, ask: &Prune) -> Result<PrunedSlice, ClientError> {
        self.post("/data/prune", ask).await
    }

    /// Makes a backup in a directory of the machine it runs on; however long that takes.
    pub async fn back_up(&self, to: &Path) -> Result<Manifest, ClientError> {
        let request = self.request(Method::POST, "/data/backup").json(&BackUp { to: to.to_owned() });
        let response = self.send(request).await?;
        self.read(response).await
    }

    /// Live events from now on; lossy.
    pub async fn events(&self, filter: EventFilter) -> Result<EventStream, ClientError> {
        let response = self.send(self.request(Method::GET, "/events").query(&filter)).await?;
        Ok(EventStream::new(self.place.clone(), response))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/api/v1{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// An answer as it came, for who measures: the path after `/api/v1`, with its query.
    pub(crate) async fn read_raw(&self, path: &str) -> Result<bytes::Bytes, ClientError> {
        let response = self.send(self.request(Method::GET, path).timeout(ANSWER)).await?;
        response.bytes().await.map_err(|error| failed(&self.place, &error))
    }

    /// A stream as it comes, for who measures.
    pub(crate) async fn stream_raw(&self, path: &str) -> Result<Response, ClientError> {
        self.send(self.request(Method::GET, path)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T, ClientError> {
        let response = self.send(self.request(Method::GET, path).query(query).timeout(ANSWER)).await?;
        self.read(response).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &(impl Serialize + ?Sized)) -> Result<T, ClientError> {
        self.ask(Method::POST, path, body).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, ClientError> {
        let response = self.send(self.request(method, path).json(body).timeout(TAKEN)).await?;
        self.read(response).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| {
            if error.is_timeout() && !error.is_connect() {
                let why =
                    "it does not answer; while it waits for its broker or its database its log says so".to_owned();
                return ClientError::Unreachable { place: self.place.clone(), why };
            }
            if error.is_connect() {
                return ClientError::Unreachable { place: self.place.clone(), why: root_of(&error) };
            }
            failed(&self.place, &error)
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|error| failed(&self.place, &error))?;
        let problem = serde_json::from_slice(&body)
            .map_err(|_| ClientError::Failed { place: self.place.clone(), why: format!("HTTP status {status}") })?;
        Err(ClientError::Refused(Box::new(problem)))
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let body = response.bytes().await.map_err(|error| failed(&self.place, &error))?;
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::Failed { place: self.place.clone(), why: error.to_string() })
    }
}

/// No proxy: the place is named, and a token must not pass through somebody else's hands.
fn builder() -> reqwest::ClientBuilder {
    // The first caller in the process decides; all of ours decide the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).no_proxy()
}

/// The machine's authorities are neither read, which takes a moment, nor missed where there are none.
fn without_tls(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder.tls_certs_only([])
}

/// All but what is one part of a path; `.` and `..` would be none.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// A name as one part of a path, whatever is in it.
fn segment(name: &str) -> String {
    utf8_percent_encode(name, RESERVED).to_string()
}

fn failed(place: &str, error: &reqwest::Error) -> ClientError {
    ClientError::Failed { place: place.to_owned(), why: root_of(error) }
}

/// The innermost reason: "connection refused" says more than "error sending request".
fn root_of(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
