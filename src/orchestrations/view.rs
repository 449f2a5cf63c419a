//! The two seams of a run: what is asked of the record, and who runs it.
//!
//! Owns the words between `spinor run` and whoever drives the run: [`RunRequest`], [`Update`],
//! [`RunEnd`]. Refuses to know whether that is this process's own broker ([`super::drive`]) or a
//! running Spinor behind its API.

use std::{future::Future, time::Duration};

use spinor_consumers::{
    entry::RunReport,
    results::{Results, ResultsError, RunRecord, StepFilter},
};
use spinor_executors::{State, StepReport, Stream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::compile::Ready;

/// What is asked of the record of a run.
pub trait RunView: Send + Sync {
    /// The run with its members, as far as recorded.
    fn run(&self, id: Uuid) -> impl Future<Output = Result<Option<RunRecord>, ResultsError>> + Send;

    /// Steps of a run, as far as recorded.
    fn steps(&self, filter: &StepFilter) -> impl Future<Output = Result<Vec<StepReport>, ResultsError>> + Send;
}

impl RunView for Results {
    async fn run(&self, id: Uuid) -> Result<Option<RunRecord>, ResultsError> {
        Self::run(self, id).await
    }

    async fn steps(&self, filter: &StepFilter) -> Result<Vec<StepReport>, ResultsError> {
        Self::steps(self, filter).await
    }
}

/// A run to be started.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Its id, UUIDv7.
    pub id: Uuid,
    /// For people: the file.
    pub name: String,
    /// What each node does.
    pub plans: Vec<Ready>,
    /// A plan that has not started after this long never will.
    pub expires: Duration,
    /// The run is given up after this long; never when `None`.
    pub timeout: Option<Duration>,
}

/// What is seen of a run while it goes on. Any of it may be missed but problems.
#[derive(Clone, Debug)]
pub enum Update {
    /// The plans are with the broker.
    Published,
    /// A step ended.
    Step(Box<StepReport>),
    /// A node's plan ended.
    Member {
        /// The node.
        node: String,
        /// How.
        state: State,
    },
    /// Live output.
    Output {
        /// The node.
        node: String,
        /// Which stream.
        stream: Stream,
        /// The text.
        text: String,
    },
    /// Worth knowing, nothing lost.
    Note(String),
    /// The run cannot succeed any more.
    Problem(String),
}

/// Who is told; called between two awaits, so it must not block.
pub type Watch<'a> = &'a mut (dyn FnMut(Update) + Send);

/// One node's part of a run.
#[derive(Clone, Debug)]
pub struct Member {
    /// The node.
    pub node: String,
    /// Where its plan stands, as far as known.
    pub state: Option<State>,
    /// Why it did not succeed, in a line.
    pub error: Option<String>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// As it is recorded.
    pub report: RunReport,
    /// Each node.
    pub members: Vec<Member>,
    /// Every step recorded, without its output.
    pub steps: Vec<StepReport>,
    /// The watcher left, the run goes on: nothing here is final.
    pub left: bool,
}

/// Why a run could not be driven to its end. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Try again later: nothing was started.
    #[error("nothing was started: {0}")]
    NotStarted(String),
    /// Look at the record later: the run may go on.
    #[error("the run was started, and nobody is there to follow it: {0}")]
    LostSight(String),
}

/// Drives runs: this process, or a running Spinor.
pub trait Runner: Send + Sync {
    /// The nodes that answer, in the order of their names.
    fn answering(&self) -> impl Future<Output = Result<Vec<String>, RunError>> + Send;

    /// Starts a run and follows it to its end, or until `leave`.
    fn run(
        &self,
        request: RunRequest,
        watch: Watch<'_>,
        leave: &CancellationToken,
    ) -> impl Future<Output = Result<RunEnd, RunError>> + Send;

    /// The run's steps that did not succeed, with their output, at most so many.
    fn failures(&self, run: Uuid, limit: u32) -> impl Future<Output = Result<Vec<StepReport>, RunError>> + Send;
}
