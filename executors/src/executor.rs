//! The seam between a job and the code that does it.

use std::{future::Future, pin::Pin};

use crate::{Context, Job, Outcome};

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
}
