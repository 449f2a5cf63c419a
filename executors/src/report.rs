//! The records of what ran: one [`Report`] for each execution, one [`StepReport`] for each step of
//! a plan. Owns their fields and the state words; refuses to know who stores them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BlobRef, Failure, Job, Json, Outcome};

/// The version of this program: the label of everything it reports.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where a job stands. The last seven are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// On a queue.
    Queued,
    /// An executor has it.
    Running,
    /// An attempt ended and another follows.
    Retrying,
    /// Done.
    Succeeded,
    /// Its last attempt failed.
    Failed,
    /// Its executor said: never again.
    Discarded,
    /// A person ended it.
    Cancelled,
    /// It did not start in time.
    Expired,
    /// It cannot be handled; the reason is with it.
    Dead,
    /// At-most-once, and it may have run.
    Lost,
}

impl State {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Succeeded,
        Self::Failed,
        Self::Discarded,
        Self::Cancelled,
        Self::Expired,
        Self::Dead,
        Self::Lost,
    ];

    /// Queued 0, running 1, retrying 2, final 3: the record moves only forward by it.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::Running => 1,
            Self::Retrying => 2,
            _ => 3,
        }
    }

    /// Does nothing follow but a replay?
    pub const fn is_final(self) -> bool {
        self.rank() == 3
    }

    /// The word used everywhere: JSON, SQL, screen.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Dead => "dead",
            Self::Lost => "lost",
        }
    }

    /// The state a word names.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// Who ran it: the same for all reports of one consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// The consumer's id, new at each start.
    pub consumer: String,
    /// The group it belongs to.
    pub group: String,
    /// The machine's name.
    pub host: String,
}

/// The record of one execution of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The job.
    pub job: Uuid,
    /// The job's kind.
    pub kind: String,
    /// The job's queue.
    pub queue: String,
    /// The job's replay count.
    pub replay: u32,
    /// The attempt that was executed.
    pub attempt: u32,
    /// UUIDv7 made at the start, so that a second execution is seen and not overwritten. Nil for
    /// an attempt that was answered without running.
    pub execution: Uuid,
    /// What the job is now: `Retrying` or a final state.
    pub state: State,
    /// The value of a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// Where it lies when it is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_ref: Option<BlobRef>,
    /// Why it failed, retries, was discarded or is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How its process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// What it wrote to standard output.
    #[serde(default, skip_serializing_if = "Output::is_empty")]
    pub stdout: Output,
    /// What it wrote to standard error.
    #[serde(default, skip_serializing_if = "Output::is_empty")]
    pub stderr: Output,
    /// When the job was created: search index and retention follow it.
    pub created: Timestamp,
    /// When this execution started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Not earlier than this does the next attempt start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Who ran it.
    #[serde(flatten)]
    pub origin: Origin,
    /// The version of the program that made this report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// An execution before this one may have happened and left no report.
    #[serde(default, skip_serializing_if = "is_false")]
    pub maybe_rerun: bool,
    /// What its processes used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The run it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// Its name within the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The whole job, when no `queued` report announced it or a search index wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Box<Job>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exit {
    /// The first process's id.
    pub pid: u32,
    /// Exit code, when it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Signal number, when one ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// What a stream said: its head and its tail, the middle counted. Bytes that are no UTF-8 are
/// written as `\xNN`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The first part.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub head: String,
    /// The last part, when some between was dropped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tail: String,
    /// Bytes written in all.
    pub bytes: u64,
    /// Bytes between head and tail that were not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

impl Output {
    /// Was nothing written?
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// What an execution used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// CPU seconds in user mode.
    pub user_seconds: f64,
    /// CPU seconds in the kernel.
    pub system_seconds: f64,
    /// The largest resident size seen, in bytes.
    pub peak_memory: u64,
}

/// How a step of a plan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Done.
    Succeeded,
    /// It failed; the steps after it do not run.
    Failed,
    /// Not run, because a step before it failed.
    Skipped,
    /// Cut in the middle and not repeated.
    Interrupted,
}

/// The record of one step of a plan on one node. Keyed by (job, step).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepReport {
    /// The plan's job.
    pub job: Uuid,
    /// The run the plan belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// The node that ran it.
    pub node: String,
    /// Its place in the plan, from 0.
    pub step: u32,
    /// The orchestration within the file, from 0.
    pub part: u32,
    /// The place of the job in the orchestration, from 0, the same on every node.
    pub item: u32,
    /// Its name, or the first line of what it runs.
    pub name: String,
    /// `RUN` and its like.
    pub verb: String,
    /// How it ended.
    pub state: StepState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How its process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Standard output.
    #[serde(default, skip_serializing_if = "Output::is_empty")]
    pub stdout: Output,
    /// Standard error.
    #[serde(default, skip_serializing_if = "Output::is_empty")]
    pub stderr: Output,
    /// When it started.
    pub started: Timestamp,
    /// Its length in microseconds, by the node's monotonic clock.
    pub micros: u64,
}

impl Report {
    /// The empty record of an execution: what every report has before its outcome is known.
    pub fn of(job: &Job, origin: &Origin, execution: Uuid, started: Timestamp) -> Self {
        Self {
            job: job.id,
            kind: job.kind.clone(),
            queue: job.queue.clone(),
            replay: job.replay,
            attempt: job.attempt,
            execution,
            state: State::Running,
            value: None,
            value_ref: None,
            failure: None,
            exit: None,
            stdout: Output::default(),
            stderr: Output::default(),
            created: job.created,
            started,
            ended: started,
            retry_at: None,
            origin: origin.clone(),
            version: Some(VERSION.to_owned()),
            maybe_rerun: false,
            usage: None,
            run: job.run,
            member: job.member.clone(),
            whole: None,
        }
    }

    /// Takes over what an outcome says when no retry follows it.
    pub fn end(&mut self, outcome: Outcome) {
        use crate::Cause;
        match outcome {
            Outcome::Succeeded(value) => {
                self.state = State::Succeeded;
                self.value = (value != Json::null()).then_some(value);
            }
            Outcome::Failed(failure) => {
                self.state = if failure.cause == Cause::Cancelled { State::Cancelled } else { State::Failed };
                self.failure = Some(failure);
            }
            Outcome::Retry { reason, .. } => {
                self.state = State::Failed;
                self.failure = Some(Failure { cause: Cause::Error, message: format!("{reason} (no retries left)") });
            }
            Outcome::Discard { reason } => {
                self.state = State::Discarded;
                self.failure = Some(Failure { cause: Cause::Error, message: reason });
            }
        }
    }
}

const fn is_false(value: &bool) -> bool {
    !*value
}

const fn is_zero(value: &u64) -> bool {
    *value == 0
}
