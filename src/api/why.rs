//! `/jobs/{id}/why`: the one reason why a job is not running.
//!
//! Owns the order in which reasons are looked for: the record first, then what people want, the
//! broker's state, its queue, its limits, its consumers. Refuses to guess: what is not known is said
//! to be not known.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::Role,
    broker::{Broker, Link, QueueStats},
    recorder::RecorderHealth,
    results::{JobRecord, JobRow},
    state::{Subject, WaitingJob, Wish},
};
use spinor_executors::{KindPattern, State as JobState};
use uuid::Uuid;

use super::{
    Answer, ApiState,
    caller::Caller,
    consumers::{self, ConsumerRow},
    delayed, id_of, jobs,
    locks::{self, Counted},
};

/// Of what is many, so many are named.
const MOST_NAMED: usize = 12;

/// Why a job is not running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// The job.
    pub id: Uuid,
    /// Its state, when it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// One word for programs: `unknown`, `recorder`, `ended`, `cancel`, `running`, `delayed`, `retry`, `broker`,
    /// `expired`, `paused`, `state`, `limit`, `blobs`, `doubt`, `holder`, `no_consumer`, `draining`, `backlog`,
    /// `results`, `kind`, `starting`.
    pub reason: String,
    /// For people, with what to do.
    pub detail: String,
}

/// What is known beside the record.
struct Seen {
    link: Link,
    stats: Option<QueueStats>,
    cancel: Option<Wish>,
    paused: Option<Wish>,
    /// What its limits say; or why State does not, for a job that needs it.
    limit: Result<Option<Counted>, String>,
    /// The consumer that says that it runs it.
    runs_on: Option<String>,
    /// The consumer that sent it back to its queue for a while, and its word for that.
    sent_away: Option<(String, WaitingJob)>,
    /// The consumers of its queue that are alive; empty when State does not say.
    of_queue: Vec<ConsumerRow>,
}

/// `GET /jobs/{id}/why`.
pub(super) async fn why(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Why> {
    let id = id_of(path)?;
    jobs::check(&state, &caller, Role::Viewer, id).await?;
    let record = jobs::known(&state, id).await?;
    let behind = state.recorder.as_ref().and_then(|recorder| match &*recorder.health().borrow() {
        RecorderHealth::Waiting { why } => Some(why.clone()),
        RecorderHealth::Recording => None,
    });
    let (reason, detail) = match (&record, behind) {
        (None, Some(why)) => ("recorder", format!("it is not recorded, and the recorder waits: {why}")),
        (None, None) => (
            "unknown",
            "no job with this id is recorded; it was never published here, or the recorder is behind".to_owned(),
        ),
        (Some(record), _) => match delayed::why(&state, record).await? {
            Some(why) => ("delayed", why),
            None => reason(record, &look(&state, record).await),
        },
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

async fn look(state: &ApiState, record: &JobRecord) -> Seen {
    let row = &record.row;
    let queue = std::slice::from_ref(&row.queue);
    let alive = tokio::time::timeout(Duration::from_secs(2), consumers::rows(state));
    let (stats, limit, alive) = tokio::join!(state.broker.stats(queue), of_limits(state, record), alive);
    let alive = alive.ok().and_then(Result::ok).unwrap_or_default();
    let runs = |consumer: &&ConsumerRow| consumer.running.iter().any(|running| running.job == row.id);
    let away = alive.iter().flat_map(|consumer| consumer.waiting.iter().map(|one| (&consumer.consumer, one)));
    let away = away.filter(|(_, one)| one.job == row.id).max_by_key(|(_, one)| one.until);
    Seen {
        link: state.broker.link().borrow().clone(),
        stats: stats.ok().and_then(|stats| stats.into_iter().next()),
        cancel: state.marks.cancelled(row.id, row.run).map(Wish::from),
        paused: state.marks.get(&Subject::Pause(row.queue.clone())).map(Wish::from),
        limit,
        runs_on: alive.iter().find(runs).map(|consumer| consumer.consumer.clone()),
        sent_away: away.map(|(consumer, one)| (consumer.clone(), one.clone())),
        of_queue: alive.into_iter().filter(|consumer| consumer.queues.contains(&row.queue)).collect(),
    }
}

async fn of_limits(state: &ApiState, record: &JobRecord) -> Result<Option<Counted>, String> {
    let mut names = record.job.as_ref().map(|job| job.limits.clone()).unwrap_or_default();
    let kind = state.config.limits_of(&record.row.kind);
    names.extend(kind.limits.into_iter().flatten());
    if names.is_empty() && kind.at_most_once != Some(true) {
        return Ok(None);
    }
    locks::counted(state, record.row.id, &names).await.map_err(|problem| problem.detail)
}

fn reason(record: &JobRecord, seen: &Seen) -> (&'static str, String) {
    let row = &record.row;
    let error = row.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    if row.state.is_final() {
        let at = row.ended.map(|at| format!(" at {at}")).unwrap_or_default();
        return ("ended", format!("it has ended: {}{at}{error}", row.state.word()));
    }
    if let Some(wish) = &seen.cancel {
        let then = match (&seen.runs_on, &seen.stats) {
            (Some(consumer), _) => format!("it runs on {consumer}, which ends it"),
            (None, Some(stats)) if stats.consumers > 0 => "the consumer that meets it ends it".to_owned(),
            _ => "no consumer is on its queue to meet it now".to_owned(),
        };
        return ("cancel", format!("cancel was requested {wish}; {then}"));
    }
    match (row.state, row.retry_at.filter(|at| *at > Timestamp::now())) {
        (JobState::Retrying, Some(at)) => {
            return ("retry", format!("attempt {} failed{error}; the next one starts at {at} or later", row.attempt));
        }
        (JobState::Queued, Some(at)) if seen.runs_on.is_none() => {
            return ("delayed", format!("it was published with a delay: it starts at {at} or later"));
        }
        _ => {}
    }
    if row.state == JobState::Running || seen.runs_on.is_some() {
        let consumer = seen.runs_on.as_ref().or(row.consumer.as_ref());
        let consumer = consumer.map(|consumer| format!(" on {consumer}")).unwrap_or_default();
        return ("running", format!("it is running{consumer}"));
    }
    if let Ok(Some(Counted::Itself(limit))) = &seen.limit {
        let detail = format!("it has its place under the limit `{limit}`: a consumer runs it, and names it within 5 s");
        return ("running", detail);
    }
    waiting(record, row, seen)
}

/// It should be on its queue.
fn waiting(record: &JobRecord, row: &JobRow, seen: &Seen) -> (&'static str, String) {
    match &seen.link {
        Link::Blocked { why } => return ("broker", format!("the broker takes and hands out nothing: {why}")),
        Link::Down { why } => return ("broker", format!("the broker cannot be reached: {why}")),
        Link::Closed => return ("broker", "the connection to the broker is closed".to_owned()),
        Link::Up => {}
    }
    let queue = &row.queue;
    if record.job.as_ref().and_then(|job| job.expires_at).is_some_and(|at| at < Timestamp::now()) {
        return ("expired", "its time to start is over; the next consumer that meets it will say so".to_owned());
    }
    if let Some(wish) = &seen.paused {
        return ("paused", format!("the queue `{queue}` was paused {wish}; `spinor queues resume {queue}` goes on"));
    }
    match (&seen.limit, &seen.sent_away) {
        (Err(why), _) => {
            let detail = format!("it has limits or runs at most once, and waits for the store of state: {why}");
            return ("state", detail);
        }
        (Ok(Some(Counted::Full(full))), away) => return ("limit", format!("{full}; {}", again(away.as_ref()))),
        (Ok(_), Some((consumer, away))) => return sent_away(consumer, away, unserved(row, &seen.of_queue)),
        (Ok(_), None) => {}
    }
    on_its_queue(row, seen)
}

/// When a job over a limit looks again.
fn again(away: Option<&(String, WaitingJob)>) -> String {
    match away.filter(|(_, away)| away.until > Timestamp::now()) {
        Some((consumer, away)) => format!("`{consumer}` sent it back, it looks again at {}", away.until),
        None => "it looks again within 15 s of each time in vain".to_owned(),
    }
}

/// The word of a consumer that met it.
fn sent_away(consumer: &str, away: &WaitingJob, unserved: Option<String>) -> (&'static str, String) {
    let WaitingJob { reason, why, until, .. } = away;
    let limit = format!("the limit `{why}` was used up");
    let (reason, why) = match reason.as_str() {
        "limit" => ("limit", &limit),
        "state" => ("state", why),
        "blobs" => ("blobs", why),
        "kind" => {
            return (
                "kind",
                format!(
                    "{}{why}, it looks again at {until}",
                    unserved.map_or_else(String::new, |none| format!("{none}; "))
                ),
            );
        }
        "doubt" => ("doubt", why),
        _ => ("holder", why),
    };
    (reason, format!("{why}; `{consumer}` sent it back, it looks again at {until}"))
}

/// No consumer that is alive serves its kind: who they are, and what they serve.
fn unserved(row: &JobRow, of_queue: &[ConsumerRow]) -> Option<String> {
    let serves = |pattern: &String| KindPattern::new(pattern.clone()).is_ok_and(|pattern| pattern.matches(&row.kind));
    let none = !of_queue.is_empty() && !of_queue.iter().any(|consumer| consumer.kinds.iter().any(serves));
    none.then(|| {
        let say = |consumer: &ConsumerRow| {
            let more = consumer.kinds.len().saturating_sub(MOST_NAMED);
            let kinds = consumer.kinds.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("`{}` ({kinds}{more})", consumer.consumer)
        };
        let named: Vec<String> = of_queue.iter().take(MOST_NAMED).map(say).collect();
        let more = of_queue.len() - named.len();
        let more = if more > 0 { format!(" and {more} more consumers") } else { String::new() };
        format!(
            "no consumer of `{}` serves the kind `{}`; those alive are {}{more}",
            row.queue,
            row.kind,
            named.join(", ")
        )
    })
}

fn on_its_queue(row: &JobRow, seen: &Seen) -> (&'static str, String) {
    let queue = &row.queue;
    if let Some(none) = unserved(row, &seen.of_queue) {
        let then = "it looks again every 5 s, and becomes a dead letter 10 min after the first time in vain";
        return ("kind", format!("{none}; {then}"));
    }
    match &seen.stats {
        None => ("no_consumer", format!("the queue `{queue}` is not known to the broker; start a consumer for it")),
        Some(stats) if stats.consumers == 0 => (
            "no_consumer",
            format!(
                "no consumer is on the queue `{queue}`, where {} jobs wait; start one, or name the queue in `consumer.queues`",
                stats.ready
            ),
        ),
        Some(_) if !seen.of_queue.is_empty() && seen.of_queue.iter().all(|consumer| consumer.draining) => {
            ("draining", format!("every consumer of `{queue}` is about to end and takes no more; start one"))
        }
        Some(stats) if stats.ready > 0 => (
            "backlog",
            format!(
                "{} jobs wait on `{queue}` for {} consumers, all slots are taken; this one is among them",
                stats.ready, stats.consumers
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
