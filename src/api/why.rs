//! `/jobs/{id}/why`: the one reason why a job is not running.
//!
//! Owns the order in which reasons are looked for: the record first, then the broker's state, then
//! its queue. Refuses to guess: what is not known is said to be not known.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    broker::{Broker, Link, QueueStats},
    recorder::RecorderHealth,
    results::{JobRecord, JobRow},
};
use spinor_executors::{BUILTIN_KINDS, State as JobState};
use uuid::Uuid;

use super::{Answer, ApiState, id_of, jobs};

/// Why a job is not running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The job.
    pub id: Uuid,
    /// Its state, when it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// One word for programs: `unknown`, `recorder`, `ended`, `running`, `retry`, `broker`, `no_consumer`, `backlog`,
    /// `results`, `kind`, `expired`, `starting`.
    pub reason: String,
    /// For people, with what to do.
    pub detail: String,
}

/// `GET /jobs/{id}/why`.
pub(super) async fn why(State(state): State<ApiState>, path: Result<Path<String>, PathRejection>) -> Answer<Why> {
    let id = id_of(path)?;
    let link = state.broker.link().borrow().clone();
    let record = jobs::known(&state, id).await?;
    let stats = match &record {
        Some(record) => state.broker.stats(std::slice::from_ref(&record.row.queue)).await.ok(),
        None => None,
    };
    let stats = stats.and_then(|stats| stats.into_iter().next());
    let behind = state.recorder.as_ref().and_then(|recorder| match &*recorder.health().borrow() {
        RecorderHealth::Waiting { why } => Some(why.clone()),
        RecorderHealth::Recording => None,
    });
    let (reason, detail) = match (&record, behind) {
        (None, Some(why)) => ("recorder", format!("it is not recorded, and the recorder waits: {why}")),
        _ => reason(record.as_ref(), &link, stats.as_ref()),
    };
    let (reason, detail) = match (reason, unrecorded(&state).await) {
        ("backlog" | "no_consumer", Some(why)) => ("results", why),
        _ => (reason, detail),
    };
    Ok(Json(Why { id, state: record.map(|record| record.row.state), reason: reason.to_owned(), detail }))
}

/// Do consumers take nothing, because too many reports wait to be recorded?
async fn unrecorded(state: &ApiState) -> Option<String> {
    let (backlog, bound) = (state.broker.backlog().await.ok()?, state.config.results_bound());
    (backlog.bytes > bound - bound / 5).then(|| {
        format!(
            "about {} MiB of reports wait to be recorded; beyond {} MiB (`consumer.results_bound`) consumers take no \
             jobs until the recorder has caught up: start one, or see in its log why it waits",
            backlog.bytes >> 20,
            bound >> 20
        )
    })
}

fn reason(record: Option<&JobRecord>, link: &Link, stats: Option<&QueueStats>) -> (&'static str, String) {
    let Some(record) = record else {
        return (
            "unknown",
            "no job with this id is recorded; it was never published here, or the recorder is behind".to_owned(),
        );
    };
    let row = &record.row;
    let error = row.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    if row.state.is_final() {
        let at = row.ended.map(|at| format!(" at {at}")).unwrap_or_default();
        return ("ended", format!("it has ended: {}{at}{error}", row.state.word()));
    }
    if let (JobState::Retrying, Some(at)) = (row.state, row.retry_at)
        && at > jiff::Timestamp::now()
    {
        return ("retry", format!("attempt {} failed{error}; the next one starts at {at} or later", row.attempt));
    }
    if row.state == JobState::Running {
        let consumer = row.consumer.as_ref().map(|consumer| format!(" on {consumer}")).unwrap_or_default();
        return ("running", format!("it is running{consumer}"));
    }
    waiting(record, row, link, stats)
}

/// It should be on its queue.
fn waiting(record: &JobRecord, row: &JobRow, link: &Link, stats: Option<&QueueStats>) -> (&'static str, String) {
    match link {
        Link::Blocked { why } => return ("broker", format!("the broker takes and hands out nothing: {why}")),
        Link::Down { why } => return ("broker", format!("the broker cannot be reached: {why}")),
        Link::Closed => return ("broker", "the connection to the broker is closed".to_owned()),
        Link::Up => {}
    }
    let queue = &row.queue;
    if record.job.as_ref().and_then(|job| job.expires_at).is_some_and(|at| at < jiff::Timestamp::now()) {
        return ("expired", "its time to start is over; the next consumer that meets it will say so".to_owned());
    }
    match stats {
        None => ("no_consumer", format!("the queue `{queue}` is not known to the broker; start a consumer for it")),
        Some(stats) if stats.consumers == 0 => (
            "no_consumer",
            format!(
                "no consumer is on the queue `{queue}`, where {} jobs wait; start one, or name the queue in `consumer.queues`",
                stats.ready
            ),
        ),
        Some(stats) if stats.ready > 0 => (
            "backlog",
            format!(
                "{} jobs wait on `{queue}` for {} consumers, all slots are taken; this one is among them",
                stats.ready, stats.consumers
            ),
        ),
        Some(_) if !BUILTIN_KINDS.contains(&row.kind.as_str()) => (
            "kind",
            format!(
                "this version of Spinor has no kind `{}`, only {}: if no consumer of `{queue}` serves it, the job looks again every 5 s and becomes a dead letter after 10 min",
                row.kind,
                BUILTIN_KINDS.join(", ")
            ),
        ),
        Some(_) => (
            "starting",
            format!(
                "nothing waits on `{queue}`: a consumer has it in hand, or its report is not recorded yet (the recorder may be behind)"
            ),
        ),
    }
}
