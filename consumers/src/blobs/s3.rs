//! Blobs as objects in a bucket of S3, or of a server that speaks like it: `PREFIX/JOB/SHA256`.
//!
//! The ids of jobs are in the names, in their order, so one list tells of many jobs which of them have blobs.
//! An object appears whole or not at all. Owns the requests and when they are made again. Refuses to make or
//! to configure a bucket.

mod address;
mod answer;
mod signature;

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use reqwest::{Certificate, Method, Response, header::CONTENT_LENGTH, redirect};
use spinor_executors::{BlobRef, Sha256};
use tokio::time::sleep;
use uuid::Uuid;

use super::{BOUND, BlobError, hash};
use crate::{install_tls_provider, read_ca_file, results::jitter, tls};
use answer::{Listed, Refusal};
use signature::Ask;

pub use address::S3Address;
pub use signature::S3Keys;

/// Lies in the root of each store: whoever may write may put it there.
const MARKER: &str = "spinor-blobs";
/// Objects removed at the same time.
const AT_ONCE: usize = 8;
/// A list or a removal takes no longer.
const SHORT: Duration = Duration::from_secs(10);
/// No page of a list is longer.
const PAGE: u64 = 8 << 20;
/// Before a request that met a busy server or a cut connection is made again, about.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];

/// How a bucket is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// Where it is.
    pub address: S3Address,
    /// Who asks.
    pub keys: S3Keys,
    /// An authority to trust beside the machine's own.
    pub ca_file: Option<PathBuf>,
}

/// A store in a bucket.
pub(super) struct S3 {
    http: reqwest::Client,
    address: S3Address,
    keys: S3Keys,
}

/// What is asked for: an object below the prefix, or a list.
struct Request<'a> {
    method: Method,
    /// Without the prefix; none for a list.
    key: Option<&'a str>,
    query: &'a [(&'a str, &'a str)],
    body: Bytes,
    hash: Sha256,
    within: Duration,
}

impl<'a> Request<'a> {
    fn new(method: Method, key: Option<&'a str>, within: Duration) -> Self {
        Self { method, key, query: &[], body: Bytes::new(), hash: hash(&[]), within }
    }
}

/// Where a page of a list begins.
struct Place {
    /// All names in it come after this one.
    after: String,
    /// What the last page said.
    token: Option<String>,
}

impl S3 {
    /// A client; connects at its first request.
    pub(super) fn new(settings: S3Settings) -> Result<Self, BlobError> {
        let wrong = BlobError::Misconfigured;
        install_tls_provider();
        let S3Settings { address, keys, ca_file } = settings;
        // A redirect means another region: signed for this one, it would be refused there.
        let mut builder =
            reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).redirect(redirect::Policy::none());
        if let Some(file) = ca_file {
            let pem = read_ca_file(&file).map_err(wrong)?;
            let certificates = Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|error| wrong(format!("{}: {error}", file.display())))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if address.is_plain() {
            // The machine's authorities are not missed where there are none.
            builder = builder.tls_certs_only([]);
        }
        let http = builder
            .build()
            .map_err(|error| wrong(tls::explain(&error, "blobs").unwrap_or_else(|| error.to_string())))?;
        Ok(Self { http, address, keys })
    }

    pub(super) const fn address(&self) -> &S3Address {
        &self.address
    }

    /// Can it be used as it is? Changes nothing there.
    /// Can it be used as it is? Changes nothing there.
    pub(super) async fn check(&self) -> Result<(), BlobError> {
        self.has_marker().await?;
        Ok(())
    }

    /// The same, and the first who comes sees that it may be written.
    pub(super) async fn prepare(&self) -> Result<(), BlobError> {
        if !self.has_marker().await? {
            self.ask(&Request::new(Method::PUT, Some(MARKER), SHORT)).await?;
        }
        Ok(())
    }

    /// By a list: when it is refused, its answer tells why, which that to a `HEAD` does not.
    async fn has_marker(&self) -> Result<bool, Refusal> {
        let marker = format!("{}{MARKER}", self.address.prefix);
        let query = [("list-type", "2"), ("max-keys", "1"), ("prefix", &marker)];
        let answer = self.ask(&Request { query: &query, ..Request::new(Method::GET, None, SHORT) }).await?;
        let (listed, _) = self.page(answer).await?;
        Ok(listed.iter().any(|object| object.key == marker))
    }

    pub(super) async fn put(&self, job: Uuid, blob: &BlobRef, bytes: &Bytes) -> Result<(), BlobError> {
        let key = format!("{}/{}", job.simple(), blob.sha256);
        let request =
            Request { body: bytes.clone(), hash: blob.sha256, ..Request::new(Method::PUT, Some(&key), BOUND) };
        again(|| self.ask(&request)).await?;
        Ok(())
    }

    pub(super) async fn get(&self, job: Uuid, blob: &BlobRef) -> Result<Option<Bytes>, BlobError> {
        let key = format!("{}/{}", job.simple(), blob.sha256);
        let request = &Request::new(Method::GET, Some(&key), BOUND);
        // Somebody else said the size: more is not read.
        let read = || async move { answer::read(&self.address, self.ask(request).await?, blob.size).await };
        match again(read).await {
            Ok(found) => Ok(found.map(Bytes::from)),
            Err(Refusal::Absent) => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    }

    pub(super) async fn count(&self, jobs: &[Uuid]) -> Result<(u64, u64), BlobError> {
        let found = self.of(jobs).await?;
        Ok((found.len() as u64, found.iter().map(|object| object.size).sum()))
    }

    pub(super) async fn forget(&self, jobs: &[Uuid]) -> Result<(), BlobError> {
        let removals = stream::iter(self.of(jobs).await?).map(async |object: Listed| {
            let request = Request::new(Method::DELETE, object.key.strip_prefix(&self.address.prefix), SHORT);
            match again(|| self.ask(&request)).await {
                // What is gone already is what was wanted.
                Ok(_) | Err(Refusal::Absent) => Ok(()),
                Err(refusal) => Err(refusal),
            }
        });
        Ok(removals.buffer_unordered(AT_ONCE).try_collect::<()>().await?)
    }

    /// Some jobs after `after`, by id, with blobs stored before an instant; and how far that looked.
    pub(super) async fn older(&self, before: Timestamp, after: Uuid) -> Result<(Option<Uuid>, Vec<Uuid>), BlobError> {
        let (mut old, mut last) = (Vec::new(), None);
        let mut place = Some(Place { after: self.behind(after), token: None });
        // A page without a job is one of somebody else's objects.
        while let Some(from) = place.take_if(|_| last.is_none()) {
            let (listed, next) = self.list(&from).await?;
            for object in listed {
                last = self.job(&object.key).or(last);
                old.extend(self.job(&object.key).filter(|_| object.modified < before));
            }
            place = next;
        }
        old.dedup();
        last = if place.is_some() { last } else { old.last().copied() };
        Ok((last, old))
    }

    /// The objects of these jobs. Of neighbours one list tells; over others' objects between them it leaps.
    async fn of(&self, jobs: &[Uuid]) -> Result<Vec<Listed>, Refusal> {
        let mut jobs = jobs.to_vec();
        jobs.sort_unstable();
        let mut rest = jobs.as_slice();
        let mut found = Vec::new();
        let mut place = rest.first().map(|job| Place { after: self.home(*job), token: None });
        while let Some(from) = place {
            let (listed, next) = self.list(&from).await?;
            let ours = |object: &Listed| self.job(&object.key).is_some_and(|job| jobs.binary_search(&job).is_ok());
            found.extend(listed.into_iter().filter(ours));
            place = next.and_then(|next| {
                rest = &rest[rest.partition_point(|job| self.behind(*job) <= next.after)..];
                let home = self.home(*rest.first()?);
                // The job where the page ended may have more.
                Some(if home > next.after { Place { after: home, token: None } } else { next })
            });
        }
        Ok(found)
    }

    /// A page of the objects below the prefix, in the order of their names, and where the next one begins.
    async fn list(&self, from: &Place) -> Result<(Vec<Listed>, Option<Place>), Refusal> {
        // Some servers refuse both at once.
        let start = from.token.as_ref().map_or(("start-after", &from.after), |token| ("continuation-token", token));
        let query = [("list-type", "2"), ("prefix", self.address.prefix.as_str()), (start.0, start.1)];
        let request = &Request { query: &query, ..Request::new(Method::GET, None, SHORT) };
        let (listed, token) = again(|| async move { self.page(self.ask(request).await?).await }).await?;
        // Out of order nothing is found by a leap, and a list may have no end.
        let mut after = &from.after;
        for object in &listed {
            if object.key <= *after {
                let why = format!("{} does not list its objects in the order of their names", self.address);
                return Err(Refusal::Person(why));
            }
            after = &object.key;
        }
        if token.is_some() && token == from.token {
            return Err(Refusal::Away(format!("{}: the list of its objects does not go on", self.address)));
        }
        let next = token.map(|token| Place { after: after.clone(), token: Some(token) });
        Ok((listed, next))
    }

    async fn page(&self, answer: Response) -> Result<(Vec<Listed>, Option<String>), Refusal> {
        let body = answer::read(&self.address, answer, PAGE).await?.unwrap_or_default();
        answer::page(&String::from_utf8_lossy(&body))
    }

    async fn ask(&self, request: &Request<'_>) -> Result<Response, Refusal> {
        let S3Address { origin, host, root, prefix, region, .. } = &self.address;
        let path = match request.key {
            Some(key) => format!("{root}/{prefix}{key}"),
            None if root.is_empty() => "/".to_owned(),
            None => root.clone(),
        };
        let (query, hash) = (signature::query(request.query), request.hash.to_string());
        let ask = Ask { method: request.method.as_str(), host, path: &path, query: &query, hash: &hash };
        let mark = if query.is_empty() { "" } else { "?" };
        let mut asked = self.http.request(request.method.clone(), format!("{origin}{path}{mark}{query}"));
        for (name, value) in signature::sign(&self.keys, region, &ask, Timestamp::now()) {
            asked = asked.header(name, value);
        }
        if request.method == Method::PUT {
            // Said also of nothing, which a client would leave out.
            asked = asked.header(CONTENT_LENGTH, request.body.len()).body(request.body.clone());
        }
        let answer = asked.timeout(request.within).send().await;
        answer::judge(&self.address, answer.map_err(|error| answer::unreachable(&self.address, error))?).await
    }

    /// What the names of a job's objects begin with.
    fn home(&self, job: Uuid) -> String {
        format!("{}{}/", self.address.prefix, job.simple())
    }

    /// Comes after all names of a job's objects, and before those of the next: `0` follows `/`.
    fn behind(&self, job: Uuid) -> String {
        format!("{}{}0", self.address.prefix, job.simple())
    }

    /// Whose object it is, if it is one of ours.
    fn job(&self, key: &str) -> Option<Uuid> {
        let (job, hash) = key.strip_prefix(&self.address.prefix)?.split_once('/')?;
        Sha256::parse(hash)?;
        Uuid::parse_str(job).ok().filter(|id| id.simple().to_string() == job)
    }
}

/// Asks, and once more when the server was busy or the connection broke: each request may be made twice.
async fn again<T, F>(ask: impl Fn() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    for pause in PAUSES {
        match ask().await {
            Err(Refusal::Busy(_)) => sleep(pause.mul_f64(0.75 + f64::from(jitter(1000)) / 2000.0)).await,
            done => return done,
        }
    }
    ask().await
}
