//! `/queues`: what the broker knows of each queue, and whether its jobs are held back; pause and resume.

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::Role,
    broker::{Broker, QueueStats},
    state::{Kind, Subject, Wish},
};

use super::{
    Answer, ApiState, Problem,
    caller::Caller,
    consumers::{self, ConsumerRow},
    steer::{self, Name, Who},
};

/// State is asked no longer than this who is alive.
const PATIENCE: Duration = Duration::from_secs(1);

/// A queue as a line of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueRow {
    /// What the broker knows.
    #[serde(flatten)]
    pub stats: QueueStats,
    /// How many consumers of it were heard lately; absent when State does not say. Those that died count as the
    /// broker's `consumers` until it notices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<u64>,
    /// Does this configuration name it?
    pub configured: bool,
    /// Who paused it; nobody takes jobs from it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Wish>,
}

/// Whether a queue is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueuePause {
    /// The queue.
    pub queue: String,
    /// Did this request change anything?
    pub changed: bool,
    /// Who paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Wish>,
}

/// `GET /queues`.
pub(super) async fn list(State(state): State<ApiState>) -> Answer<Vec<QueueRow>> {
    Ok(Json(rows(&state).await?))
}

/// The queues the broker lists, those configured here, and those that are paused.
pub(super) async fn rows(state: &ApiState) -> Result<Vec<QueueRow>, Problem> {
    let config = &state.config;
    let mut rows: BTreeMap<String, QueueRow> = BTreeMap::new();
    let row = |name: &str, configured| {
        let stats = QueueStats { name: name.to_owned(), ..QueueStats::default() };
        QueueRow { stats, configured, ..QueueRow::default() }
    };
    for name in config.consumer.queues.iter().chain(config.queues.keys()) {
        rows.insert(name.clone(), row(name, true));
    }
    let mut paused = BTreeMap::new();
    for mark in state.marks.all(Kind::Pause) {
        if let Subject::Pause(name) = &mark.subject {
            rows.entry(name.clone()).or_insert_with(|| row(name, false));
            paused.insert(name.clone(), Wish::from(mark));
        }
    }
    // A process without consumers knows no queue by itself: it asks for those that are named somewhere.
    let named: Vec<String> = rows.keys().cloned().collect();
    let mut found = state.broker.stats(&named).await?;
    found.extend(state.broker.stats(&[]).await?);
    for stats in found {
        let row = rows.entry(stats.name.clone()).or_default();
        row.stats = stats;
    }
    let alive = tokio::time::timeout(PATIENCE, consumers::rows(state)).await.ok().and_then(Result::ok);
    for (name, row) in &mut rows {
        row.paused = paused.remove(name);
        let takes = |consumer: &&ConsumerRow| consumer.queues.contains(name) && !consumer.is_silent();
        row.heard = alive.as_ref().map(|alive| alive.iter().filter(takes).count() as u64);
    }
    Ok(rows.into_values().collect())
}

/// `POST /queues/{name}/pause`.
pub(super) async fn pause(
    State(state): State<ApiState>,
    caller: Caller,
    Name(queue): Name,
    who: Who,
) -> Answer<QueuePause> {
    caller.may_queue(Role::Operator, &queue)?;
    exists(&state, &queue).await?;
    let subject = Subject::Pause(queue.clone());
    let changed = state.marks.get(&subject).is_none();
    let wish = steer::set(&state, &subject, true.into(), &who).await?;
    Ok(Json(QueuePause { queue, changed, paused: Some(wish) }))
}

/// `POST /queues/{name}/resume`; what is not paused stays so.
pub(super) async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    Name(queue): Name,
    who: Who,
) -> Answer<QueuePause> {
    caller.may_queue(Role::Operator, &queue)?;
    let changed = steer::clear(&state, &Subject::Pause(queue.clone()), &who).await?;
    if !changed {
        exists(&state, &queue).await?;
    }
    Ok(Json(QueuePause { queue, changed, paused: None }))
}

/// A wish for a queue that is misspelt would hold back nothing. While the broker is away any name is taken.
async fn exists(state: &ApiState, queue: &str) -> Result<(), Problem> {
    let Ok(rows) = rows(state).await else { return Ok(()) };
    if rows.iter().any(|row| row.stats.name == queue) {
        return Ok(());
    }
    if state.broker.stats(&[queue.to_owned()]).await.is_ok_and(|found| !found.is_empty()) {
        return Ok(());
    }
    let known = rows.into_iter().map(|row| row.stats.name).collect();
    Err(steer::no_such(format!("there is no queue `{queue}`"), known))
}
