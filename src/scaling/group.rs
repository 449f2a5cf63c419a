//! What a supervisor knows of its group, for people and programs.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A group and the replicas of it that this process has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupState {
    /// Its name.
    pub group: String,
    /// How many consumers it shall have, on all machines; absent when nobody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// Who said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why, in that person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Does this process decide when some are missing?
    pub leads: bool,
    /// Replicas here that take jobs.
    pub running: u32,
    /// Those about to.
    pub starting: u32,
    /// Those that end when what they run has ended.
    pub draining: u32,
    /// Those that ended unasked, and are started again in a moment.
    pub restarting: u32,
    /// Consumers of the group that others have, and that take jobs; absent when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<u32>,
    /// The replicas here, the oldest first.
    pub replicas: Vec<ReplicaState>,
    /// What a configured scaler was asked for and said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaler: Option<ScalerState>,
    /// Why the number cannot be made true now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One replica of this process's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaState {
    /// The process it is.
    pub pid: u32,
    /// The consumer's name, where it is a task of the process that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// What it does.
    pub phase: ReplicaPhase,
    /// When it was started.
    pub started: Timestamp,
    /// How the one before it ended, when that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// When it is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Timestamp>,
}

/// What a replica does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaPhase {
    /// Its process was started and is not up yet.
    Starting,
    /// It takes jobs.
    Running,
    /// It takes no more, and ends.
    Draining,
    /// It ended unasked, and is started again.
    Restarting,
}

/// What came of the scaler's last run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScalerState {
    /// The number that it was last asked for with success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u32>,
    /// Why its last run failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl GroupState {
    /// The same with these replicas, counted.
    #[must_use]
    pub fn with_replicas(mut self, replicas: Vec<ReplicaState>) -> Self {
        let count = |phase| {
            let of = replicas.iter().filter(|replica| replica.phase == phase).count();
            u32::try_from(of).unwrap_or(u32::MAX)
        };
        self.running = count(ReplicaPhase::Running);
        self.starting = count(ReplicaPhase::Starting);
        self.draining = count(ReplicaPhase::Draining);
        self.restarting = count(ReplicaPhase::Restarting);
        self.replicas = replicas;
        self
    }
}
