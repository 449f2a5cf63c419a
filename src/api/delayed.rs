//! Delayed jobs: kept in the database until they are due, listed, edited, cancelled there.
//!
//! Owns what a publisher is told when one cannot be kept, and that the record is shown as the job stands now:
//! what it was at first is what is recorded until it is published. Refuses to publish: the part `trigger` does.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::Role,
    broker::{Broker, BrokerError, PublishError},
    results::{Delayed, DelayedChange, DelayedFilter, JobRecord, JobRow, Page, ResultsError, Waiting},
    state::Wish,
    trigger,
};
use spinor_executors::{Job, Json as Args, State as JobState};
use uuid::Uuid;

use super::{
    Answer, ApiState, Asked, Problem,
    caller::Caller,
    check_cursor, id_of,
    new_job::{self, Checked},
    query_of, steer,
};

/// The largest job that is kept in the database; its large args lie elsewhere.
const LARGEST: usize = 1 << 20;
/// Who publishes when nobody says so.
const NOBODY: &str = "api";

/// What is to be different of a delayed job. What is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EditJob {
    /// Due at this instant (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Due so long from now.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Other arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Args>,
    /// 0 to 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Must have started before this instant (RFC 3339), or within this duration from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Whether a job is kept; if not, whether it may be all the same, and what to do.
pub(super) type Kept = Result<(), (bool, Box<Problem>)>;

/// Keeps those that shall wait here; what came of each, by its place.
pub(super) async fn keep(
    state: &ApiState,
    jobs: &[Checked],
    unstored: &BTreeMap<usize, Problem>,
) -> BTreeMap<usize, Kept> {
    let asked = jobs.iter().enumerate().filter(|(place, job)| job.kept && !unstored.contains_key(place));
    let asked: Vec<(usize, &Job)> = asked.map(|(place, checked)| (place, &checked.job)).collect();
    if asked.is_empty() {
        return BTreeMap::new();
    }
    let mut kept = BTreeMap::new();
    let missing = missing(state, asked.iter().map(|(_, job)| job.queue.as_str()).collect()).await;
    let mut good = Vec::with_capacity(asked.len());
    for (place, job) in asked {
        let size = serde_json::to_vec(job).map_or(0, |text| text.len());
        match missing.get(job.queue.as_str()) {
            Some(problem) => drop(kept.insert(place, Err((false, Box::new(problem.clone()))))),
            None if size > LARGEST => {
                let why = format!("without its args it has {size} bytes, and one that is delayed at most {LARGEST}");
                kept.insert(place, Err((false, Box::new(Problem::new(413, "The job is too large", why)))));
            }
            None => good.push((place, job)),
        }
    }
    let rows: Vec<&Job> = good.iter().map(|(_, job)| *job).collect();
    let result = state.results.keep_delayed(&rows, NOBODY).await.map_err(|error| (true, Box::new(away(&error))));
    kept.extend(good.into_iter().map(|(place, _)| (place, result.clone())));
    kept
}

/// Queues that are not there, each with what its publisher is told. While the broker is away nothing is known,
/// and nothing refused.
pub(super) async fn missing<'a>(state: &ApiState, queues: BTreeSet<&'a str>) -> BTreeMap<&'a str, Problem> {
    let mut missing = BTreeMap::new();
    for queue in queues {
        match state.broker.stats(&[queue.to_owned()]).await {
            Ok(found) if found.iter().any(|stats| stats.name == queue) => continue,
            Ok(_) | Err(BrokerError::Misconfigured(_)) => {}
            Err(_) => continue,
        }
        let known = state.broker.stats(&[]).await.unwrap_or_default().into_iter().map(|stats| stats.name).collect();
        missing.insert(queue, PublishError::Unroutable { queue: queue.to_owned(), known }.into());
    }
    missing
}

fn away(error: &ResultsError) -> Problem {
    let what = "a job with `at`, `in` or a delay above 15m is kept there until it is due";
    match error {
        ResultsError::Unavailable(_) => Problem::new(
            503,
            "Not confirmed",
            format!("{error}; {what}: send it again with the same id, or with a shorter `delay`"),
        ),
        _ => Problem::new(500, "The record cannot be written", format!("{error}; {what}")),
    }
}

/// `GET /delayed`: the next one first.
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Result<Query<DelayedFilter>, QueryRejection>,
) -> Answer<Page<Waiting>> {
    let filter = query_of(query)?;
    if filter.limit > 1000 {
        return Err(Problem::field("limit", format!("is {}, expected at most 1000", filter.limit)));
    }
    check_cursor(filter.cursor.as_deref())?;
    let read = |cursor| {
        let (results, filter) = (state.results.clone(), DelayedFilter { cursor, ..filter.clone() });
        async move { Ok(results.delayed(&filter).await?) }
    };
    let page = caller.page(filter.cursor.clone(), read, |row: &Waiting| (&row.queue, &row.kind)).await?;
    Ok(Json(page))
}

/// `PATCH /jobs/{id}`: while it waits.
pub(super) async fn edit(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Waiting> {
    let id = id_of(path)?;
    let edit: EditJob = steer::read(body, &state)?;
    let by = Asked { by: edit.by.clone(), why: None }.check(&caller)?.by;
    let Some(found) = state.results.delayed_job(id).await?.filter(|found| !found.gone) else {
        return Err(not_here(id));
    };
    caller.may(Role::Operator, &found.job.queue, &found.job.kind)?;
    let job = edited(&state, found.job, &edit).await?;
    if job.unique.is_some() && job.due > Some(found.row.due) {
        let why = "is later than before, and its unique key is not its own for so long; cancel it and publish it anew";
        return Err(Problem::field("at", why));
    }
    match state.results.edit_delayed(&job, found.row.revision, &by).await? {
        DelayedChange::Done => {}
        DelayedChange::Other => {
            let why = format!("job {id} was edited by somebody else just now; look at it, and edit it again");
            return Err(Problem::new(409, "It was edited", why));
        }
        DelayedChange::Gone => return Err(not_here(id)),
    }
    tracing::info!(job = %id, by, "A delayed job was edited.");
    match state.results.delayed_job(id).await? {
        Some(found) => Ok(Json(found.row)),
        None => Err(not_here(id)),
    }
}

async fn edited(state: &ApiState, mut job: Job, edit: &EditJob) -> Result<Job, Problem> {
    let now = Timestamp::now();
    if let Some(due) = new_job::moment(edit.at.as_deref(), edit.within.as_deref(), now)? {
        job.due = Some(due);
    }
    if let Some(args) = &edit.args {
        (job.args, job.args_ref) = (args.clone(), None);
    }
    job.priority = new_job::priority(edit.priority)?.or(job.priority);
    if let Some(text) = &edit.expires {
        job.expires_at = Some(new_job::instant(text, now)?);
    }
    new_job::check_expiry(&job)?;
    if edit.args.is_some() {
        state.schemas.checking().check(&job).await?;
        state.blobs.put_args(&mut job).await?;
    }
    Ok(job)
}

fn not_here(id: Uuid) -> Problem {
    let why = format!("job {id} is none that waits for its time; `spinor jobs ls --state delayed` lists those that do");
    Problem::new(409, "It waits no more", why)
}

/// Removes a job that waits, and tells everybody that it was cancelled; nothing when it does not wait here.
pub(super) async fn cancel(state: &ApiState, id: Uuid, who: &steer::Who) -> Option<Wish> {
    let gone = match state.results.cancel_delayed(id, &who.by, who.why.as_deref()).await {
        Ok(gone) => gone?,
        Err(error) => {
            // A mark stops it, too, once it is due.
            tracing::warn!(%error, job = %id, "It is not known whether this job waits for its time; it is marked.");
            return None;
        }
    };
    let wish = gone.cancelled.clone()?;
    match trigger::tell_cancelled(&state.broker, &state.state, &state.info.host, &gone, &wish).await {
        Ok(()) => {
            if let Err(error) = state.results.forget_delayed(&[id]).await {
                tracing::debug!(%error, job = %id, "Its end is told once more, which is harmless.");
            }
        }
        Err(why) => tracing::debug!(why, job = %id, "The part `trigger` tells of the end of this job in some seconds."),
    }
    Some(wish)
}

/// A job that waits and of which nothing is recorded: its publisher died after it was kept.
pub(super) async fn unrecorded(state: &ApiState, id: Uuid) -> Result<Option<JobRecord>, Problem> {
    let Some(Delayed { row, job, cancelled: None, .. }) = state.results.delayed_job(id).await? else { return Ok(None) };
    let shown = JobRow {
        id,
        kind: row.kind,
        queue: row.queue,
        state: JobState::Queued,
        attempt: job.attempt,
        replay: job.replay,
        created: job.created,
        started: None,
        ended: None,
        retry_at: Some(row.due),
        error: None,
        run: job.run,
        consumer: None,
        version: None,
        fingerprint: None,
        cancel_requested: None,
    };
    Ok(Some(JobRecord { row: shown, job: Some(job), attempts: Vec::new(), unread: Vec::new() }))
}

/// The record of a job that waits, as it stands now.
pub(super) async fn show(state: &ApiState, record: &mut JobRecord) -> Result<(), Problem> {
    if let Some(found) = waiting(state, record).await? {
        record.row.retry_at = Some(found.row.due);
        record.job = Some(found.job);
    }
    Ok(())
}

async fn waiting(state: &ApiState, record: &JobRecord) -> Result<Option<Delayed>, Problem> {
    if record.row.state != JobState::Queued || record.row.retry_at.is_none() {
        return Ok(None);
    }
    Ok(state.results.delayed_job(record.row.id).await?.filter(|found| found.cancelled.is_none()))
}

/// The same for the lines of a list: only when they are due may be different.
pub(super) async fn show_rows(state: &ApiState, rows: &mut [JobRow]) -> Result<(), Problem> {
    let queued = rows.iter().filter(|row| row.state == JobState::Queued && row.retry_at.is_some());
    let ids: Vec<Uuid> = queued.map(|row| row.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let due = state.results.delayed_until(&ids).await?;
    for row in rows.iter_mut() {
        row.retry_at = due.get(&row.id).copied().or(row.retry_at);
    }
    Ok(())
}

/// Until when it waits, and whether somebody is there to publish it then.
pub(super) async fn why(state: &ApiState, record: &JobRecord) -> Result<Option<String>, Problem> {
    let Some(found) = waiting(state, record).await? else { return Ok(None) };
    let row = found.row;
    let edited = match row.revision {
        0 => String::new(),
        _ => format!("; edited by {} at {}", row.changed_by, row.changed),
    };
    let now = Timestamp::now();
    let leads = state.results.leader().await?.is_some_and(|leader| leader.alive);
    let nobody = if leads { "" } else { "; no process with the part `trigger` is there to publish it" };
    let until = if row.due > now { "it waits in the database until" } else { "it is to be published, due at" };
    Ok(Some(format!("{until} {}{edited}{nobody}", row.due)))
}
