//! All that an execution may know besides its job, and its way to speak while it runs.
//!
//! Owns cancellation and the two ways out: lossy events (live output, progress) and durable step
//! reports. Refuses to know who listens.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Bounds, Cause, Exit, Failure, Output, Ready, StepReport, Timeout, Usage,
    programs::{Draft, Drafts},
};

/// Which of a process's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How far an execution says it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Done so far.
    pub done: f64,
    /// Out of; unknown when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<f64>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What an execution says while it runs.
#[derive(Clone, Debug)]
pub enum Emission {
    /// Live output; may be dropped.
    Output(Stream, Bytes),
    /// Progress; may be dropped.
    Progress(Progress),
    /// Steps ended; never dropped.
    Steps(Vec<StepReport>),
}

/// Why an execution is asked to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// Its soft limit passed.
    Timeout,
    /// A person's wish, with who and why.
    Person(String),
    /// The consumer stops and the grace period is over: the job goes back to its queue.
    Drain,
}

impl Cancelled {
    /// The failure of what was ended for this reason.
    pub fn failure(&self) -> Failure {
        let (cause, message) = match self {
            Self::Timeout => (Cause::Timeout, "ran past its time limit and was ended".to_owned()),
            Self::Person(wish) => (Cause::Cancelled, format!("cancelled: {wish}")),
            Self::Drain => (Cause::Cancelled, "ended because its consumer stops".to_owned()),
        };
        Failure { cause, message }
    }
}

/// One execution's view of the world.
pub struct Context {
    /// The execution's own id; also the run marker of its processes.
    pub execution: Uuid,
    /// Kept of each stream's head and tail, in bytes.
    pub keep_output: usize,
    /// How long after being asked its processes are ended the hard way.
    pub soft_to_hard: Duration,
    /// The same when its time limit is why; that of others when `None`.
    pub limit_to_hard: Option<Duration>,
    /// The time limits it runs under, for who wants to know them.
    pub limits: Option<Timeout>,
    /// Will a failure be final?
    pub last_attempt: bool,
    /// What its processes may use.
    pub bounds: Bounds,
    /// May an execution before this one have happened and left no report?
    pub maybe_rerun: bool,
    token: CancellationToken,
    why: Arc<Mutex<Option<Cancelled>>>,
    emissions: Option<mpsc::Sender<Emission>>,
    drafts: Option<Arc<dyn Drafts>>,
    ready: Mutex<Ready>,
    kept: Mutex<Kept>,
}

/// What the report takes over from the context when the execution has ended.
#[derive(Debug, Default)]
pub struct Kept {
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// The process's end.
    pub exit: Option<Exit>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Jobs that leave with its success.
    pub publish: Vec<Draft>,
    /// What its success begins, for the consumer that knows what it is.
    pub begins: Ready,
}

impl Context {
    /// A context whose emissions go to `emissions`; `None` throws them away.
    pub fn new(execution: Uuid, emissions: Option<mpsc::Sender<Emission>>) -> Self {
        Self {
            execution,
            keep_output: 32 * 1024,
            soft_to_hard: Duration::from_secs(10),
            limit_to_hard: None,
            limits: None,
            last_attempt: false,
            bounds: Bounds::default(),
            maybe_rerun: false,
            token: CancellationToken::new(),
            why: Arc::default(),
            emissions,
            drafts: None,
            ready: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// The same execution for another thread; what that keeps, it keeps for itself.
    pub(crate) fn share(&self) -> Self {
        Self {
            execution: self.execution,
            keep_output: self.keep_output,
            soft_to_hard: self.soft_to_hard,
            limit_to_hard: self.limit_to_hard,
            limits: self.limits,
            last_attempt: self.last_attempt,
            bounds: self.bounds,
            maybe_rerun: self.maybe_rerun,
            token: self.token.clone(),
            why: Arc::clone(&self.why),
            emissions: self.emissions.clone(),
            drafts: self.drafts.clone(),
            ready: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// The same with who reads the jobs it publishes.
    #[must_use]
    pub fn with_drafts(mut self, drafts: Option<Arc<dyn Drafts>>) -> Self {
        self.drafts = drafts;
        self
    }

    /// Who reads the jobs it publishes; `None` where it cannot publish.
    pub(crate) fn drafts(&self) -> Option<&Arc<dyn Drafts>> {
        self.drafts.as_ref()
    }

    /// Brings along what its executor made ready.
    pub fn bring(&self, ready: Ready) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
    }

    /// Takes what was brought.
    pub(crate) fn take_ready(&self) -> Ready {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Resolves when the execution should end.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Why it should end; `None` while it should not.
    pub fn why_cancelled(&self) -> Option<Cancelled> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long its processes have from being asked to end to being ended, for the reason there is.
    pub fn patience(&self) -> Duration {
        match self.why_cancelled() {
            Some(Cancelled::Timeout) => self.limit_to_hard.unwrap_or(self.soft_to_hard),
            _ => self.soft_to_hard,
        }
    }

    /// A handle that asks this execution to end.
    pub fn canceller(&self) -> Canceller {
        Canceller { token: self.token.clone(), why: Arc::clone(&self.why) }
    }

    /// Passes live output on; drops it when nobody keeps up.
    pub fn output(&self, stream: Stream, bytes: Bytes) {
        if let Some(emissions) = &self.emissions {
            // A full channel means the listener is slow: live output is lossy by contract.
            let _ = emissions.try_send(Emission::Output(stream, bytes));
        }
    }

    /// Passes progress on; drops it when nobody keeps up.
    pub fn progress(&self, progress: Progress) {
        if let Some(emissions) = &self.emissions {
            let _ = emissions.try_send(Emission::Progress(progress));
        }
    }

    /// Hands step reports over; waits while the consumer is behind.
    pub async fn steps(&self, reports: Vec<StepReport>) {
        if let Some(emissions) = self.emissions.as_ref().filter(|_| !reports.is_empty()) {
            // A closed channel means the consumer is gone; the journal still has the reports.
            let _ = emissions.send(Emission::Steps(reports)).await;
        }
    }

    /// Sets what the report takes over.
    pub fn keep(&self, with: impl FnOnce(&mut Kept)) {
        with(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes what was kept, for the report.
    pub fn take_kept(&self) -> Kept {
        std::mem::take(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Asks one execution to end; the first reason stands.
#[derive(Clone)]
pub struct Canceller {
    token: CancellationToken,
    why: Arc<Mutex<Option<Cancelled>>>,
}

impl Canceller {
    /// Asks.
    pub fn cancel(&self, why: Cancelled) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.token.cancel();
    }
}
