//! `/data`: what is past its time goes now, and a backup of what lies on this machine.
//!
//! Owns the slices in which a prune answers, so that who asked sees how far it is and may stop. Refuses to
//! prune what has not ended, and to restore: that needs a process that does not run.

use std::{path::PathBuf, time::Duration};

use axum::{Json, body::Bytes, extract::State, extract::rejection::BytesRejection};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    backup::{self, BackupError, Kept, Manifest},
    results::{Cuts, Place, Pruned},
    retention,
};
use spinor_executors::State as JobState;
use tokio::time::{Instant, sleep};

use super::{Answer, ApiState, Problem, jobs};
use crate::config::{self, BlobsChoice, BrokerChoice, Config, ResultsChoice, StateChoice};

/// One request works no longer.
const SLICE: Duration = Duration::from_secs(1);
/// The shortest pause after a chunk that found something: the recorder comes first.
const PAUSE: Duration = Duration::from_millis(10);

/// What to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Prune {
    /// What ended longer ago than this duration, instead of by `keep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Only jobs that ended so; all when empty. `dead` means dead letters, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<JobState>,
    /// Count, and change nothing.
    pub dry_run: bool,
    /// Go on where an answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PruneFrom>,
}

/// Where a prune goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PruneFrom {
    /// When it began: what is past its time is judged by it.
    pub began: Timestamp,
    /// How far it is.
    pub place: Place,
}

/// One slice of a prune.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrunedSlice {
    /// What went in this slice.
    pub pruned: Pruned,
    /// Where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PruneFrom>,
}

/// Where to put a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackUp {
    /// A directory on the machine of the process, which is not there yet.
    #[schemars(with = "String")]
    pub to: PathBuf,
}

/// `POST /data/prune`: a slice of the work; who wants all asks again with `next`.
pub(super) async fn prune(State(state): State<ApiState>, body: Result<Bytes, BytesRejection>) -> Answer<PrunedSlice> {
    let body = jobs::body_of(body, &state)?;
    let ask: Prune =
        serde_json::from_slice(&body).map_err(|error| Problem::new(422, "Not a prune", error.to_string()))?;
    let began = ask.from.map_or_else(Timestamp::now, |from| from.began).min(Timestamp::now());
    let cuts = cuts(&state.config, &ask, began)?;
    let mut slice = PrunedSlice::default();
    let mut place = ask.from.map(|from| from.place).unwrap_or_default();
    let end = Instant::now() + SLICE;
    loop {
        let since = Instant::now();
        let (pruned, next) = retention::step(&state.results, &state.blobs, &cuts, place, ask.dry_run).await?;
        slice.pruned += pruned;
        let Some(next) = next else { break };
        place = next;
        if Instant::now() >= end || state.shutdown.is_cancelled() {
            slice.next = Some(PruneFrom { began, place });
            break;
        }
        if !ask.dry_run && pruned != Pruned::default() {
            sleep(since.elapsed().max(PAUSE)).await;
        }
    }
    Ok(Json(slice))
}

fn cuts(config: &Config, ask: &Prune, now: Timestamp) -> Result<Cuts, Problem> {
    if let Some(state) = ask.states.iter().find(|state| !state.is_final()) {
        return Err(Problem::field("states", format!("`{}`: only what has ended can be removed", state.word())));
    }
    let older = |text: &String| {
        config::duration(text)
            .ok_or_else(|| Problem::field("older_than", "expected a duration such as \"12h\" or \"30d\""))
    };
    let older = ask.older_than.as_ref().map(older).transpose()?;
    let asked = |state: &JobState| ask.states.is_empty() || ask.states.contains(state);
    let keep = config.keep.all().into_iter().filter(|(state, _)| asked(state));
    let keep = keep.map(|(state, time)| (state, older.or(time))).collect();
    Ok(retention::cuts(&keep, now))
}

/// `POST /data/backup`: answers when it is whole and on disk.
pub(super) async fn back_up(State(state): State<ApiState>, body: Result<Bytes, BytesRejection>) -> Answer<Manifest> {
    let body = jobs::body_of(body, &state)?;
    let BackUp { to } =
        serde_json::from_slice(&body).map_err(|error| Problem::new(422, "Not a backup", error.to_string()))?;
    let kept = kept(&state.config);
    // Who asked may be gone: a backup that was begun is made.
    let made = state.tasks.spawn(async move { backup::back_up(&kept, &to, env!("CARGO_PKG_VERSION")).await });
    let made = made.await.map_err(|error| Problem::new(500, "The backup was not made", error.to_string()))?;
    Ok(Json(made?))
}

/// What an installation keeps on this machine, and what is said of the rest.
pub fn kept(config: &Config) -> Kept {
    let mut elsewhere = Vec::new();
    if let BrokerChoice::RabbitMq(endpoint) = &config.broker {
        elsewhere.push(format!(
            "queues are on {endpoint}: keep their definitions with `rabbitmqctl export_definitions FILE`; the jobs in them \
             are on the disks of its nodes"
        ));
    }
    if let ResultsChoice::MySql(endpoint) = &config.results {
        elsewhere.push(format!(
            "results are on {endpoint}: `mysqldump --single-transaction --hex-blob DATABASE`, begun after a backup of the queues"
        ));
    }
    if let StateChoice::Redis(endpoint) = &config.state {
        elsewhere.push(format!("state is on {endpoint}: keep its append-only files"));
    }
    if let BlobsChoice::S3 { address, .. } = &config.blobs {
        elsewhere.push(format!(
            "large args and values are in {address}: copy what is below its prefix, after this backup began"
        ));
    }
    let file = |name: &&str| match *name {
        "results.db" => config.results == ResultsChoice::Sqlite,
        "state.db" => config.state == StateChoice::Results && config.results == ResultsChoice::Sqlite,
        _ => config.broker == BrokerChoice::Embedded,
    };
    Kept {
        data: std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone()),
        databases: Kept::DATABASES.into_iter().filter(file).collect(),
        blobs: match &config.blobs {
            BlobsChoice::Directory(path) => Some(path.clone()),
            BlobsChoice::Results | BlobsChoice::S3 { .. } => None,
        },
        elsewhere,
    }
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        let status = if matches!(error, BackupError::Refused(_)) { 422 } else { 500 };
        Self::new(status, "The backup was not made", error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn the_shortest_time_rules_runs_and_none_goes_within_a_day() {
        let now = Timestamp::now();
        let keep = vec![(JobState::Failed, Some(Duration::from_secs(60))), (JobState::Dead, None)];
        let cuts = retention::cuts(&keep, now);
        assert_eq!(cuts.jobs.len(), 1);
        assert_eq!(cuts.letters, None);
        assert_eq!(cuts.runs, now.checked_sub(SignedDuration::from_hours(24)).ok());
    }
}
