//! The HTTP interface under `/api/v1`: what the command line, other programs and the page use.
//!
//! Owns routes, validation of what comes in and the form of answers; errors are problem documents
//! that name the field. Publishes through the broker and reads the record. Refuses to run jobs, to
//! write the record and to listen beyond this machine.

pub mod listen;
pub mod new_job;
pub mod new_run;
pub mod new_source;
pub mod new_trigger;
pub mod problem;

mod access;
mod audit;
mod broker;
mod caller;
mod cancel;
mod consumers;
mod data;
mod dead;
mod delayed;
mod ended;
mod events;
mod failures;
mod figures;
mod groups;
mod guard;
mod jobs;
mod kinds;
mod large;
mod locks;
mod notices;
mod openapi;
mod operations;
mod page;
mod parts;
mod pulse;
mod queues;
mod repeat;
mod replays;
mod runs;
mod schemas;
mod session;
mod status;
mod steer;
mod tls;
mod tokens;
mod triggers;
mod unique;
mod users;
mod wait;
mod watch;
mod why;

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Query},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    blobs::Blobs,
    broker::AnyBroker,
    marks::{Marks, StateCell},
    recorder::RecorderView,
    results::{Results, is_cursor},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{config::Config, scaling::GroupState};

pub use access::Access;
pub use audit::Spool;
pub use broker::{BrokerShown, EmbeddedFiles};
pub use cancel::CancelRequested;
pub use consumers::{ConsumerRow, ConsumersMarked, NewSlots};
pub use data::{BackUp, Prune, PruneFrom, PrunedSlice, kept};
pub use dead::{DeadRecord, Letters, NewReplay, Removed, ReplayedJob};
pub use delayed::EditJob;
pub use events::EventFilter;
pub use failures::{FailureQuery, FailureRecord};
pub use figures::{FigureCounts, FigureKind, FigurePoint, Figures, FiguresQuery, Quantiles};
pub use groups::{GroupQueue, GroupRow, NewScale};
pub use jobs::{Accepted, BatchAnswer, BatchItem};
pub use kinds::{KindLimits, KindRow, KindSchema, KindTrouble};
pub use locks::{KeyRow, LimitRow, LockFilter, Locks, NewLimit};
pub use new_trigger::NewTrigger;
pub use openapi::text as openapi;
pub use operations::{OPERATIONS, Operation};
pub use parts::PartRow;
pub use problem::Problem;
pub use pulse::Pulse;
pub use queues::{QueuePause, QueueRow};
pub use replays::{Matched, NewReplays, OrderedReplay};
pub use runs::{DriveRuns, NewRun, RetriedRun, RunOrder, SubmittedRun};
pub use schemas::Schemas;
pub use session::{LoggedIn, Login, Oneself};
pub use status::{LinkState, Status};
pub use steer::Asked;
pub use tokens::{MadeToken, NewToken};
pub use triggers::{FiredTick, NewBackfill, TriggerShown, Triggers};
pub use unique::{NewUnique, OnConflict, Until, Wanted};
pub use users::{NewPassword, NewRoles, NewUser, RemovedName};
pub use wait::{JobEnd, WaitMany, Waited, WaitedMany};
pub use watch::Watches;
pub use why::Why;

/// What every handler sees; cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// Where jobs go.
    pub broker: AnyBroker,
    /// What was recorded.
    pub results: Results,
    /// Where large args and values lie.
    pub blobs: Blobs,
    /// State, once it has answered.
    pub state: StateCell,
    /// The marks that hold.
    pub marks: Arc<Marks>,
    /// What the supervisor of this process knows, if there is one.
    pub groups: Option<tokio::sync::watch::Receiver<GroupState>>,
    /// The recorder of this process, if it has that part.
    pub recorder: Option<RecorderView>,
    /// What args of which kind must look like.
    pub schemas: Arc<Schemas>,
    /// Drives the runs that are submitted here.
    pub runs: Arc<dyn DriveRuns>,
    /// The configuration of this process.
    pub config: Arc<Config>,
    /// Who may log in.
    pub access: Arc<Access>,
    /// Writes down what is done.
    pub audit: Arc<Spool>,
    /// Tells waits when there is something to read.
    pub watches: Watches,
    /// What happens in each second, for who looks on.
    pub pulse: Pulse,
    /// Who we are.
    pub info: Arc<Info>,
    /// Counted since the start.
    pub counters: Arc<Counters>,
    /// Work that outlives its request.
    pub tasks: TaskTracker,
    /// Ends waits and event streams.
    pub shutdown: CancellationToken,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Info {
    /// The version of the program.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// The machine's name.
    pub host: String,
    /// The parts this process runs.
    pub parts: Vec<String>,
    /// When it started.
    pub started: Timestamp,
}

impl Info {
    /// This process, running these parts.
    pub fn here(parts: Vec<String>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            parts,
            started: Timestamp::now(),
        }
    }
}

/// What is counted here; shown by `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    published: AtomicU64,
    refused: AtomicU64,
    unreported: AtomicU64,
    /// When answers that are past their time were looked for, in seconds since 1970.
    answers_pruned: AtomicI64,
    /// When the record did not tell which jobs had ended.
    ends_unanswered: AtomicI64,
}

impl Counters {
    fn add(counter: &AtomicU64, number: usize) {
        counter.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The routes, without what says who calls.
fn router(state: ApiState) -> Router {
    let limit = DefaultBodyLimit::max(state.config.api.max_body);
    operations::router(&state)
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(limit)
        .with_state(state)
}

/// What a handler answers.
type Answer<T> = Result<axum::Json<T>, Problem>;

/// The id in a path.
fn id_of(path: Result<Path<String>, axum::extract::rejection::PathRejection>) -> Result<Uuid, Problem> {
    let Path(text) = path.map_err(|error| Problem::field("id", error.body_text()))?;
    Uuid::parse_str(&text).map_err(|_| Problem::field("id", format!("`{}` is no id; ids are UUIDs", clip(&text))))
}

/// The query of a request.
fn query_of<T>(query: Result<Query<T>, axum::extract::rejection::QueryRejection>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|error| {
        let text = error.body_text();
        let why = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
        // The field comes first, where one is to blame.
        match why.split_once(": ").filter(|(field, _)| field.chars().all(|c| c.is_ascii_lowercase() || c == '_')) {
            Some((field, why)) if why.starts_with("invalid digit") || why.starts_with("number too") => {
                bad_query(field, "expected a whole number, not negative and not too large")
            }
            Some((field, why)) => bad_query(field, why),
            None => Problem::new(400, "The query cannot be read", why),
        }
    })
}

fn bad_query(field: &str, why: &str) -> Problem {
    Problem { field: Some(field.to_owned()), ..Problem::new(400, "The query cannot be read", why) }
}

/// Refuses what no list gave as its `next`.
fn check_cursor(cursor: Option<&str>) -> Result<(), Problem> {
    match cursor.filter(|cursor| !is_cursor(cursor)) {
        None => Ok(()),
        Some(wrong) => {
            Err(bad_query("cursor", &format!("`{}` is no cursor; give the `next` of a list before", clip(wrong))))
        }
    }
}

/// Foreign text as it may stand in a message.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
