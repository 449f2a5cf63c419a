//! What a job is and how one runs.
//!
//! This crate knows no broker, no database and no configuration file. From the
//! bottom up: the words ([`Job`], [`Outcome`], [`Report`], [`StepReport`]), the
//! seam ([`Executor`], [`Context`], [`Registry`]), and what runs things
//! ([`pool`], the built-in executors, [`plan`]).
//!
//! ```text
//! Job -> Pool (slot, deadline, panic guard) -> Executor (Context) -> Outcome -> Report
//! ```

mod blob_ref;
mod builtin;
mod command;
mod context;
mod executor;
pub mod guardian;
mod http;
mod job;
mod lines;
mod noop;
mod outcome;
pub mod plan;
pub mod pool;
pub mod process;
pub mod programs;
mod registry;
mod report;
mod retry;
mod typed;
mod wait;

pub use blob_ref::{BlobRef, Sha256};
pub use builtin::{BUILTIN_KINDS, BuiltinError, Node, builtin, builtin_schema};
pub use context::{Cancelled, Canceller, Context, Emission, Kept, Progress, Stream};
pub use executor::{BoxFuture, Executor, Offer, Ready, Unready};
pub use job::{HeaderValue, Headers, Job, Json, Timeout, Unique};
pub use lines::{Lines, lines_of};
pub use outcome::{Cause, Failure, Outcome};
pub use process::Bounds;
pub use registry::{DuplicateKind, KindPattern, Registry};
pub use report::{Exit, Origin, Output, Report, State, StepReport, StepState, Usage, VERSION};
pub use retry::RetryPolicy;
pub use typed::{Typed, TypedExecutor};
