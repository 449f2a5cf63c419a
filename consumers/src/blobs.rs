//! Large args and values, kept apart from the messages and rows that name them.
//!
//! A blob belongs to one job and is found by the job's id and its SHA-256, so it goes when its job
//! goes, and nobody counts references. What is read is checked: bytes with another hash are never run.
//! Owns the stores: a table of the results database, a directory, a bucket of S3. Refuses to know who asks.

mod directory;
mod s3;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use ring::digest;
use spinor_executors::{BlobRef, Job, Json, Report, Sha256};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    next::inputs::{self, Envelope, Input},
    results::{Results, ResultsError},
};
use directory::Directory;
use s3::S3;

pub use s3::{S3Address, S3Keys, S3Settings};

/// Larger args and values go by reference.
pub const LARGE: usize = 256 << 10;
/// The default bound of args and values that go by reference.
pub const LARGEST: usize = 64 << 20;
/// No read or write takes longer.
const BOUND: Duration = Duration::from_secs(30);

/// Where blobs are kept; cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    store: Store,
    largest: usize,
}

#[derive(Clone)]
enum Store {
    /// A table of the results database, once that is open.
    Results(Arc<OnceLock<Results>>),
    /// Files below a directory.
    Directory(Arc<Directory>),
    /// Objects in a bucket.
    S3(Arc<S3>),
}

/// Why a blob was not stored or read. Named by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Wait and try again.
    #[error("the blob store does not answer: {0}")]
    Unavailable(String),
    /// Wait, and ask a person to mend it.
    #[error("the blob store cannot be used: {0}")]
    Misconfigured(String),
    /// Ask for less: it is larger than what is taken.
    #[error("{size} bytes, more than the limit of {limit}, `max_args`")]
    TooLarge {
        /// How large it is.
        size: usize,
        /// What is taken.
        limit: usize,
    },
    /// Never use it: it is not there, or it is not what it was.
    #[error("{0}")]
    Wrong(String),
}

/// One look for what nobody needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// The last job that was looked at; none at the end.
    pub last: Option<Uuid>,
    /// Those of which neither a job nor a letter is recorded.
    pub orphans: Vec<Uuid>,
}

impl Blobs {
    /// In the results database.
    pub const fn in_results(results: Arc<OnceLock<Results>>) -> Self {
        Self { store: Store::Results(results), largest: LARGEST }
    }

    /// In files below a directory, which is made as needed.
    pub async fn in_directory(path: PathBuf) -> Result<Self, BlobError> {
        let store = Store::Directory(Arc::new(Directory::open(path).await?));
        Ok(Self { store, largest: LARGEST })
    }

    /// In objects of a bucket, which is there; connects at its first request.
    pub fn in_s3(settings: S3Settings) -> Result<Self, BlobError> {
        Ok(Self { store: Store::S3(Arc::new(S3::new(settings)?)), largest: LARGEST })
    }

    /// Looks whether it can be used, and sees to it that others will find it as it should be.
    pub async fn prepare(&self) -> Result<(), BlobError> {
        match &self.store {
            Store::Results(_) | Store::Directory(_) => Ok(()),
            Store::S3(s3) => s3.prepare().await,
        }
    }

    /// The same look, which changes nothing there.
    pub async fn check(&self) -> Result<(), BlobError> {
        match &self.store {
            Store::Results(_) | Store::Directory(_) => Ok(()),
            Store::S3(s3) => s3.check().await,
        }
    }

    /// The same with another bound.
    #[must_use]
    pub fn with_largest(self, largest: usize) -> Self {
        Self { largest, ..self }
    }

    /// The most bytes of one blob that are taken.
    pub const fn largest(&self) -> usize {
        self.largest
    }

    /// Stores bytes that belong to a job; durable when it returns.
    pub async fn put(&self, job: Uuid, bytes: &Bytes) -> Result<BlobRef, BlobError> {
        if bytes.len() > self.largest {
            return Err(BlobError::TooLarge { size: bytes.len(), limit: self.largest });
        }
        let hashed = bytes.clone();
        // Tens of milliseconds for what is largest.
        let sha256 = apart(move || hash(&hashed)).await?;
        let blob = BlobRef { sha256, size: bytes.len() as u64 };
        // Boxed: who never puts anything large shall not carry room for it.
        bounded(Box::pin(async {
            match &self.store {
                Store::Results(results) => open(results)?.put_blob(job, &blob, bytes).await.map_err(meaning),
                Store::Directory(directory) => directory.put(job, &blob, bytes.clone()).await,
                Store::S3(s3) => s3.put(job, &blob, bytes).await,
            }
        }))
        .await?;
        Ok(blob)
    }

    /// Puts a job's args away when they are large; otherwise it costs nothing.
    pub async fn put_args(&self, job: &mut Job) -> Result<(), BlobError> {
        let size = job.args.bytes().len();
        if size <= LARGE {
            return Ok(());
        }
        job.args_ref = Some(self.put(job.id, job.args.bytes()).await?);
        job.args = Json::null();
        Ok(())
    }

    /// Reads bytes that belong to a job, and checks that they are what was stored.
    pub async fn get(&self, job: Uuid, blob: &BlobRef) -> Result<Bytes, BlobError> {
        let wrong = |what: &str| BlobError::Wrong(format!("blob {} of job {job} {what}", blob.sha256));
        let found = bounded(Box::pin(async {
            match &self.store {
                Store::Results(results) => open(results)?.blob(job, blob).await.map_err(meaning),
                Store::Directory(directory) => directory.get(job, blob).await,
                Store::S3(s3) => s3.get(job, blob).await,
            }
        }));
        let found = found.await?.ok_or_else(|| wrong(&format!("is not in {}", self.place())))?;
        let hashed = found.clone();
        let is = apart(move || hash(&hashed)).await?;
        if is != blob.sha256 || found.len() as u64 != blob.size {
            return Err(wrong(&format!("was damaged in {}: its hash is {is}", self.place())));
        }
        Ok(found)
    }

    /// The job with its args, wherever they lie. One whose args it carries costs nothing.
    pub async fn fetch(&self, mut job: Job) -> Result<Job, BlobError> {
        if let Some(blob) = job.args_ref {
            job.args = self.json(job.id, &blob, "args").await?;
        }
        Ok(job)
    }

    /// The same, with the values of other jobs in its args that were left where they lie.
    pub async fn fetch_whole(&self, job: Job) -> Result<Job, BlobError> {
        let mut job = self.fetch(job).await?;
        if job.inputs {
            // Boxed: few jobs have any.
            job.args = Box::pin(self.open(&job)).await?;
        }
        Ok(job)
    }

    async fn open(&self, job: &Job) -> Result<Json, BlobError> {
        let wrong = |why: String| BlobError::Wrong(format!("the inputs of job {}: {why}", job.id));
        let envelope: Envelope = job.args.read().map_err(|error| wrong(error.to_string()))?;
        let size = envelope.inputs.iter().map(|input| input.blob.size).sum::<u64>() + job.args.bytes().len() as u64;
        if size > self.largest as u64 {
            return Err(wrong(format!("{size} bytes, more than the limit of {}, `max_args`", self.largest)));
        }
        let mut values = BTreeMap::new();
        for Input { at, job, blob } in &envelope.inputs {
            values.insert(at.clone(), self.json(*job, blob, "value").await?.bytes().clone());
        }
        inputs::open(&envelope, &values).map_err(wrong)
    }

    /// Puts its value into a report, wherever that lies.
    pub async fn fetch_value(&self, report: &mut Report) -> Result<(), BlobError> {
        if let Some(blob) = report.value_ref {
            report.value = Some(self.json(report.job, &blob, "value").await?);
        }
        Ok(())
    }

    async fn json(&self, job: Uuid, blob: &BlobRef, what: &str) -> Result<Json, BlobError> {
        let bytes = self.get(job, blob).await.map_err(|error| match error {
            BlobError::Wrong(why) => BlobError::Wrong(format!("the {what}: {why}")),
            later => later,
        })?;
        Json::new(bytes).map_err(|error| BlobError::Wrong(format!("the {what} of job {job} are no JSON: {error}")))
    }

    /// How many blobs these jobs have, and their bytes.
    pub async fn count(&self, jobs: &[Uuid]) -> Result<(u64, u64), BlobError> {
        match &self.store {
            Store::Results(results) => open(results)?.count_blobs(jobs).await.map_err(meaning),
            Store::Directory(directory) => directory.count(jobs.to_vec()).await,
            Store::S3(s3) => s3.count(jobs).await,
        }
    }

    /// Removes all blobs of these jobs.
    pub async fn forget(&self, jobs: &[Uuid]) -> Result<(), BlobError> {
        match &self.store {
            Store::Results(results) => open(results)?.forget_blobs(jobs).await.map_err(meaning),
            Store::Directory(directory) => directory.forget(jobs.to_vec()).await,
            Store::S3(s3) => s3.forget(jobs).await,
        }
    }

    /// Looks at some jobs after `after`, in the order of their ids, that have blobs older than an instant.
    pub async fn orphans(&self, results: &Results, before: Timestamp, after: Uuid) -> Result<Looked, BlobError> {
        let all = |old: Vec<Uuid>| (old.last().copied(), old);
        let (last, old) = match &self.store {
            Store::Results(results) => all(open(results)?.old_blobs(before, after).await.map_err(meaning)?),
            Store::Directory(directory) => all(directory.older(before, after).await?),
            Store::S3(s3) => s3.older(before, after).await?,
        };
        Ok(Looked { last, orphans: results.unrecorded(&old).await.map_err(meaning)? })
    }

    fn place(&self) -> String {
        match &self.store {
            Store::Results(_) => "the results database".to_owned(),
            Store::Directory(directory) => directory.root().display().to_string(),
            Store::S3(s3) => s3.address().to_string(),
        }
    }
}

fn open(results: &OnceLock<Results>) -> Result<&Results, BlobError> {
    results.get().ok_or_else(|| BlobError::Unavailable("the results database is not open yet".to_owned()))
}

/// A database that cannot be used now may be mended; no blob is wrong for it.
#[allow(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
fn meaning(error: ResultsError) -> BlobError {
    BlobError::Unavailable(error.to_string())
}

async fn bounded<T>(work: impl Future<Output = Result<T, BlobError>>) -> Result<T, BlobError> {
    let late = || BlobError::Unavailable(format!("no answer within {} s", BOUND.as_secs()));
    timeout(BOUND, work).await.unwrap_or_else(|_| Err(late()))
}

/// Runs what takes a while beside the async work.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BlobError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BlobError::Unavailable(error.to_string()))
}

fn hash(bytes: &[u8]) -> Sha256 {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    Sha256(hash)
}
