//! What is asked of the record and what comes back.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::{Job, Report, State};
use uuid::Uuid;

use super::MemberRow;
use crate::state::Wish;

/// Some rows and where the next ones start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Pass it as `cursor` to go on; `None` at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The time for this question was over before enough rows were found: what was created after this instant was
    /// looked at, and `next` goes on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<Timestamp>,
}

/// Which jobs. Empty means all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<State>,
    /// On this queue.
    pub queue: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this run.
    pub run: Option<Uuid>,
    /// That ended badly in this way.
    pub fingerprint: Option<String>,
    /// In which each of these words is found, whatever their case: in kind, queue, error, name within a run, consumer or
    /// args.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Created at this instant or later.
    pub since: Option<Timestamp>,
    /// Created at this instant or earlier.
    pub until: Option<Timestamp>,
    /// At most so many; 0 means 50, at most 1000.
    pub limit: u32,
    /// Where a page before this one ended.
    pub cursor: Option<String>,
}

/// How many jobs came to which state, of those that changed after some instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The newest change that was counted, by the recorder's clock: ask for those after it.
    pub newest: i64,
    /// The states, and how many jobs are in each now.
    pub states: Vec<(State, u64)>,
}

/// A job that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedJob {
    /// The job.
    pub id: Uuid,
    /// Its kind.
    pub kind: String,
    /// Its queue.
    pub queue: String,
}

/// A job as a line of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobRow {
    /// The job.
    pub id: Uuid,
    /// Its kind; unknown when only a late report was seen.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Where it stands.
    pub state: State,
    /// The attempt it is at.
    pub attempt: u32,
    /// The replay it is at.
    pub replay: u32,
    /// When it was created.
    pub created: Timestamp,
    /// When its last execution started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended, or its last attempt did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// When it runs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// The last error, first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// Who ran it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// With which version of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What groups it with others that ended badly like it; `None` unless it ended badly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Who wants it to end, while it has not. The record does not hold it: who answers a question adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<Wish>,
}

/// One job, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobRecord {
    /// The line of the list.
    #[serde(flatten)]
    pub row: JobRow,
    /// As it was published; `None` while only a report without it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    /// Every execution, in order.
    pub attempts: Vec<AttemptRecord>,
    /// Which large args or values could not be read for this answer, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

/// One execution's row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AttemptRecord {
    /// The whole report.
    pub report: Report,
}

/// Which steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepFilter {
    /// Of this run.
    pub run: Uuid,
    /// On this node only.
    pub node: Option<String>,
    /// With standard output and error.
    pub outputs: bool,
    /// Only those that did not succeed.
    pub problems: bool,
    /// At most so many; 0 means all.
    pub limit: u32,
}

/// A run as a line of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRow {
    /// The run.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// How many members it has.
    pub members: u32,
    /// How many steps its members have in all.
    pub steps: u32,
    /// 0, and one more each time the run is retried.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replay: u32,
    /// When it was announced.
    pub started: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// `None` until it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<bool>,
    /// What went wrong outside its members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Who wants it to end, while it has not. The record does not hold it: who answers a question adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<Wish>,
}

/// One run with its members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// The line of the list.
    #[serde(flatten)]
    pub row: RunRow,
    /// Its jobs: name within the run, and where each stands.
    pub jobs: Vec<(String, JobRow)>,
    /// Its members, for a run of jobs: those that wait or were skipped, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub member_list: Vec<MemberRow>,
}

const fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// A job's row as the search index takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracked {
    /// The recorder's clock at its last change, in microseconds.
    pub updated: i64,
    /// The line of the list.
    pub row: JobRow,
    /// As it was published.
    pub job: Option<Job>,
    /// The report that made the row what it is.
    pub report: Option<Report>,
}

/// What the record has of a range of job ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Jobs.
    pub jobs: u64,
    /// Of them, succeeded.
    pub succeeded: u64,
    /// Executions of all attempts.
    pub executions: u64,
    /// Transactions that changed these jobs last.
    pub commits: u64,
    /// The earliest start, in microseconds since 1970.
    pub first_start: i64,
    /// The recorder's clock at the last of those transactions, in microseconds since 1970.
    pub last_commit: i64,
}
