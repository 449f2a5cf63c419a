//! The seam between a job and the code that does it.

use std::{any::Any, future::Future, pin::Pin};

use crate::{Context, Job, Json, Outcome};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs jobs of the kinds it is registered for.
///
/// The future may be dropped at any await (hard limit, second signal): what it
/// started must then end by itself, which [`crate::process`] does for processes.
/// It should end soon after [`Context::cancelled`] resolves.
pub trait Executor: Send + Sync + 'static {
    /// Runs one job once and answers for it.
    fn run<'a>(&'a self, job: &'a Job, context: &'a Context) -> BoxFuture<'a, Outcome>;

    /// Makes ready for one job of a kind before anything is agreed on for it, waiting for as long as
    /// that is only a matter of time; the end goes into [`Context::bring`]. `None`: it always is.
    fn ready<'a>(&'a self, _kind: &'a str) -> Option<BoxFuture<'a, Result<Ready, Unready>>> {
        None
    }

    /// Starts what has to be known before the first job comes.
    fn open(&self) {}

    /// The kinds it serves by its own word; those it was registered for by name need none.
    fn offers(&self) -> Vec<Offer> {
        Vec::new()
    }

    /// Ends what it keeps running between jobs.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// What an executor made ready for one execution; dropped unused, it is free again.
pub type Ready = Option<Box<dyn Any + Send>>;

/// It can run no job of this kind now: the job goes back, and nothing is held against it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unready(pub String);

/// A kind by the word of the program that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub kind: String,
    /// The JSON Schema of its args.
    pub schema: Option<Json>,
    /// For people.
    pub description: Option<String>,
    /// Who serves it: a program's name and version.
    pub program: String,
    /// Why it is not served now.
    pub trouble: Option<String>,
}
