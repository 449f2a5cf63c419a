//! The tables `schedules`, `ticks`, `leaders`, `changes` and `counts`: triggers, their instants, who fires them, who
//! changed them, and what is counted.
//!
//! Owns what is written of a trigger. An instant is decided once: its row is inserted, and the schedule moved
//! past it, in one transaction of the process that leads (`lead`); `fire` and `decide` are the rule, `orders` what files
//! and people want, `changes` their history, `backfill` a span that is past, `ended` how jobs free what they held,
//! `counts` how many there were, `read` what is shown. All on the database's clock.
//! Refuses to publish, and to read what the recorder writes.

mod backfill;
mod changes;
mod counts;
mod decide;
mod ended;
mod fire;
mod lead;
mod orders;
mod read;
mod row;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::Json;
use uuid::Uuid;

use super::database::{Flavour, Sql};
use crate::schedule::Spec;

pub use backfill::{Backfill, Backfilled, Filled, Instant};
pub use changes::{By, Change, Was};
pub use counts::{Counted, TickCounts};
pub(super) use ended::{ended, noted};
pub use lead::{Lead, Looked, Turn};
pub use orders::{Given, NotDone};

/// The words of a trigger's state.
mod state {
    pub const ACTIVE: &str = "active";
    pub const PAUSED: &str = "paused";
    pub const ENDED: &str = "ended";
    pub const RETIRED: &str = "retired";
}

/// The words of an instant whose job has not ended.
mod word {
    pub const DUE: &str = "due";
    pub const WAITING: &str = "waiting";
    pub const PUBLISHED: &str = "published";
    pub const SKIPPED: &str = "skipped";
}

/// An instant whose job is to be published.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tick {
    /// The trigger.
    pub schedule: Uuid,
    /// Its name.
    pub name: String,
    /// The planned instant.
    pub instant: Timestamp,
    /// When it was to be published; none when somebody wanted it now, or it waited for an end.
    #[serde(default)]
    pub time: Option<Timestamp>,
    /// The job's id.
    pub job: Uuid,
    /// The trigger as it was then.
    pub spec: Spec,
    /// How the latest instant that ended did.
    pub previous: Option<Previous>,
}

/// How an instant ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Previous {
    /// Which.
    pub instant: Timestamp,
    /// The state in which its job ended.
    pub outcome: String,
    /// Its value, when it is no longer than 32 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
}

/// A trigger as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerRow {
    /// Its name.
    pub name: String,
    /// Its id: with an instant it makes the id of that instant's job.
    pub id: Uuid,
    /// `file` or `command`.
    pub origin: String,
    /// `active`, `paused`, `ended`, or `retired`: a newer file does not name it.
    pub state: String,
    /// Counts its changes.
    pub revision: u32,
    /// When it was changed, and by whom.
    pub changed: Timestamp,
    /// By whom.
    pub changed_by: String,
    /// When, what, and the policies, as it was asked for.
    pub asked: Json,
    /// The coming instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// How many jobs it fired.
    pub fired: u64,
    /// The job that the next one may not overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Uuid>,
    /// The instant that waits for the end of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Timestamp>,
    /// How the latest instant that ended did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
}

/// An instant as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TickRow {
    /// The planned instant.
    pub instant: Timestamp,
    /// Its job.
    pub job: Uuid,
    /// `due`, `waiting`, `published`, `skipped`, or the state in which its job ended.
    pub state: String,
    /// How long after its time the broker had it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<i64>,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Why it was skipped, or did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The process that fires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leader {
    /// Host and process.
    pub who: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when, unless it renews that.
    pub until: Timestamp,
    /// Is that to come?
    #[serde(default)]
    pub alive: bool,
    /// Counts the changes.
    pub epoch: u64,
}

fn words(flavour: Flavour, sql: &str) -> Sql {
    flavour.words(sql).into()
}

fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}
