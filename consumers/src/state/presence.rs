//! Presence: this consumer is alive and runs that.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a consumer says of itself every few seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Beat {
    /// The consumer.
    pub consumer: String,
    /// Its group.
    pub group: String,
    /// The machine it runs on.
    pub host: String,
    /// The process it runs in.
    pub pid: u32,
    /// What its configuration says of it.
    pub labels: Vec<(String, String)>,
    /// The queues it takes jobs from.
    pub queues: Vec<String>,
    /// The kinds it runs: names and patterns.
    pub kinds: Vec<String>,
    /// Kinds that it has and cannot run now, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<(String, String)>,
    /// Which schema its program told of which kind: what its mark is known by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forms: Vec<(String, Uuid)>,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// How many jobs it runs.
    pub busy: u32,
    /// What it runs; some of it when that is much.
    pub running: Vec<RunningJob>,
    /// What it sent back to its queue for a while; some of the last ones when that is much.
    pub waiting: Vec<WaitingJob>,
    /// Does it take no more jobs because it is about to end?
    pub draining: bool,
    /// When it started.
    pub started: Timestamp,
    /// The program's version.
    pub version: String,
    /// Does it take jobs, and why not: for people.
    pub intake: String,
}

/// A job that a consumer runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunningJob {
    /// The job.
    pub job: Uuid,
    /// Its kind.
    pub kind: String,
    /// Since when, by the consumer's clock.
    pub since: Timestamp,
}

/// A job that a consumer met and could not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingJob {
    /// The job.
    pub job: Uuid,
    /// One word for programs: what is in its way.
    pub reason: String,
    /// What is in its way, for people.
    pub why: String,
    /// When it looks again, by the consumer's clock.
    pub until: Timestamp,
}

/// A consumer that is alive.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// What it said last.
    pub beat: Beat,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// How long ago, by the store's clock.
    pub ago: std::time::Duration,
}

impl Present {
    /// What a store kept; `None` when a newer program wrote it in a way that is unknown here.
    pub(super) fn read(text: &str, at: Timestamp, micros_ago: i64) -> Option<Self> {
        let beat = serde_json::from_str(text).ok()?;
        let ago = std::time::Duration::from_micros(u64::try_from(micros_ago).unwrap_or(0));
        Some(Self { beat, at, ago })
    }
}
