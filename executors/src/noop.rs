//! The kind `noop`: does nothing, well. For measuring and for trying things out.

use crate::{BoxFuture, Context, Executor, Job, Json, Outcome};

/// Succeeds with `null`, whatever the arguments.
pub struct Noop;

impl Executor for Noop {
    fn run<'a>(&'a self, _job: &'a Job, _context: &'a Context) -> BoxFuture<'a, Outcome> {
        Box::pin(async { Outcome::Succeeded(Json::null()) })
    }
}
