//! `/jobs`: publish, list, show.
//!
//! Owns the order of a publish: the job first, confirmed; then its `queued` report, so that a job
//! the broker refused leaves no ghost in the record.

pub(super) mod own;

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection, rejection::PathRejection, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::Role,
    broker::{Address, Broker, Outgoing, PublishError},
    entry::Entry,
    message,
    results::{EndedJob, JobFilter, JobRecord, JobRow, Page},
};
use spinor_executors::{Job, Report, State as JobState};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{
    Answer, ApiState, Counters, Problem,
    caller::Caller,
    cancel, check_cursor, delayed, ended,
    failures::past,
    id_of, large,
    new_job::{self, Checked},
    query_of,
    repeat::Seed,
    unique,
};
use crate::config::Journal;

/// A job the broker has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// Its id.
    pub id: Uuid,
    /// Its queue.
    pub queue: String,
    /// It was there before: it has the unique key of the job that was to be published, or its id and has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing: bool,
}

/// One job of a batch: accepted, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchItem {
    /// Its id.
    pub id: Uuid,
    /// Its queue.
    pub queue: String,
    /// It was there before: it has the unique key of the job that was to be published, or its id and has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing: bool,
    /// Why it was not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// The answer to a batch, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchAnswer {
    /// One for each job.
    pub jobs: Vec<BatchItem>,
}

/// At most so many jobs in one request.
const LARGEST_BATCH: usize = 10_000;
/// No words that are looked for are longer.
const LONGEST_TEXT: usize = 200;

/// `POST /jobs`.
pub(super) async fn publish(
    State(state): State<ApiState>,
    caller: Caller,
    seed: Option<Extension<Seed>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (jobs, is_batch) = new_job::read(&body_of(body, &state)?)?;
    if jobs.len() > LARGEST_BATCH {
        return Err(Problem::new(413, "Too many jobs", format!("{} jobs in one request, at most 10000", jobs.len())));
    }
    let now = Timestamp::now();
    let (mut checking, mut checked) = (state.schemas.checking(), Vec::with_capacity(jobs.len()));
    // These may have been published before.
    let mut named = Vec::new();
    for (place, mut job) in jobs.into_iter().enumerate() {
        let named_by_caller = job.id.is_some();
        let is_named = job.id.is_some() || seed.is_some_and(|seed| seed.again);
        job.id = job.id.or_else(|| seed.map(|seed| seed.id(place)));
        named.extend(job.id.filter(|_| is_named));
        let named = |problem: Problem| if is_batch { problem.within(&format!("[{place}]")) } else { problem };
        let job = job.check(now).and_then(|job| job.at_the_api(now)).map_err(named)?;
        may_publish(&caller, &job.job).map_err(named)?;
        own::may_name(&state, &caller, &job.job, named_by_caller).await.map_err(named)?;
        checking.check(&job.job).await.map_err(named)?;
        checked.push(job);
    }
    let ended = ended::look(&state, &named).await;
    let jobs = publish_others(&state, &caller, checked, &ended).await;
    if is_batch {
        let status =
            if jobs.iter().all(|job| job.problem.is_none()) { StatusCode::CREATED } else { StatusCode::MULTI_STATUS };
        return Ok((status, Json(BatchAnswer { jobs })).into_response());
    }
    let Some(BatchItem { id, queue, existing, problem }) = jobs.into_iter().next() else {
        return Err(Problem::new(422, "Not a job", "the request holds no job"));
    };
    match problem {
        Some(problem) => Err(problem),
        None => {
            let status = if existing { StatusCode::OK } else { StatusCode::CREATED };
            Ok((status, Json(Accepted { id, queue, existing })).into_response())
        }
    }
}

/// Publishes all but those that have ended; one item for each job, in order.
async fn publish_others(
    state: &ApiState,
    caller: &Caller,
    jobs: Vec<Checked>,
    ended: &HashMap<Uuid, EndedJob>,
) -> Vec<BatchItem> {
    if ended.is_empty() {
        return publish_checked(state, caller, jobs).await;
    }
    let answers: Vec<Option<BatchItem>> =
        jobs.iter().map(|job| ended.get(&job.job.id).map(|ended| ended::answer(caller, job, ended))).collect();
    let others = jobs.into_iter().zip(&answers).filter_map(|(job, answer)| answer.is_none().then_some(job));
    let mut published = publish_checked(state, caller, others.collect()).await.into_iter();
    answers.into_iter().filter_map(|answer| answer.or_else(|| published.next())).collect()
}

/// Refuses a job for whose queue and kind the caller may not publish; its report goes to a queue, too.
pub(super) fn may_publish(caller: &Caller, job: &Job) -> Result<(), Problem> {
    caller.may(Role::Publisher, &job.queue, &job.kind)?;
    own::may_kind(caller, Role::Publisher, &job.kind)?;
    job.reply_to.as_deref().map_or(Ok(()), |queue| caller.may_queue(Role::Publisher, queue))
}

/// The body, or why it was not taken.
pub(super) fn body_of(body: Result<Bytes, BytesRejection>, state: &ApiState) -> Result<Bytes, Problem> {
    body.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let limit = state.config.api.max_body;
            return Problem::new(
                413,
                "The body is too large",
                format!("the body has more than the limit of {limit} bytes, `api.max_body`"),
            );
        }
        Problem::new(error.status().as_u16(), "The body cannot be read", error.body_text())
    })
}

/// Publishes those whose unique key, if they have one, can be had; one item for each job, in order.
pub(super) async fn publish_checked(state: &ApiState, caller: &Caller, jobs: Vec<Checked>) -> Vec<BatchItem> {
    let items = if jobs.iter().all(|checked| checked.wanted.is_none()) {
        let fresh = vec![false; jobs.len()];
        send(state, jobs, &fresh).await
    } else {
        let admitted = unique::admit(state, caller, &jobs).await;
        let (mut sent, mut fresh, mut items) = (Vec::new(), Vec::new(), Vec::with_capacity(jobs.len()));
        for (checked, admitted) in jobs.into_iter().zip(admitted) {
            items.push(match admitted {
                unique::Admitted::Answered(item) => Some(item),
                unique::Admitted::Yes { fresh: taken } => {
                    sent.push(checked);
                    fresh.push(taken);
                    None
                }
            });
        }
        let mut sent = send(state, sent, &fresh).await.into_iter();
        items.into_iter().filter_map(|item| item.or_else(|| sent.next())).collect()
    };
    let refused = items.iter().filter(|item| item.problem.is_some()).count();
    let existing = items.iter().filter(|item| item.existing).count();
    Counters::add(&state.counters.published, items.len() - refused - existing);
    Counters::add(&state.counters.refused, refused);
    items
}

/// Publishes, then reports what was confirmed; one item for each job, in order. `fresh`: whose unique key was
/// taken for this publish alone.
async fn send(state: &ApiState, mut jobs: Vec<Checked>, fresh: &[bool]) -> Vec<BatchItem> {
    let mut unstored = large::put_away(state, &mut jobs).await;
    // What has args in the blob store is always journaled: a blob is kept because its job is on record.
    let journaled: Vec<bool> = jobs
        .iter()
        .map(|Checked { job, kept, .. }| {
            *kept || job.args_ref.is_some() || state.config.queue(&job.queue).journal == Journal::Full
        })
        .collect();
    let mut kept = delayed::keep(state, &jobs, &unstored).await;
    let stored = jobs.iter().zip(&journaled).enumerate();
    let stored = stored.filter(|(place, (job, _))| !unstored.contains_key(place) && !job.kept);
    let batch = stored.map(|(_, pair)| pair).map(|(Checked { job, delay, .. }, journaled)| Outgoing {
        to: Address::after(job.queue.clone(), *delay),
        message: message::encode(job, *journaled),
        must: true,
    });
    let results = state.broker.publish(batch.collect()).await;
    let mut lines = Vec::new();
    let mut items = Vec::with_capacity(jobs.len());
    let mut results = results.into_iter();
    for (place, ((Checked { job, .. }, journaled), fresh)) in jobs.into_iter().zip(journaled).zip(fresh).enumerate() {
        if let Some(problem) = unstored.remove(&place) {
            if let (Some(unique), true) = (&job.unique, *fresh) {
                unique::give_back(state, &unique.key, job.id).await;
            }
            items.push(BatchItem { id: job.id, queue: job.queue, existing: false, problem: Some(problem) });
            continue;
        }
        let next = || {
            let result = results.next();
            let result =
                result.unwrap_or_else(|| Err(PublishError::Unconfirmed("the broker gave no answer".to_owned())));
            result.map_err(|error| (matches!(error, PublishError::Unconfirmed(_)), Box::new(Problem::from(error))))
        };
        // Of an error: may the job be stored all the same?
        let result = kept.remove(&place).unwrap_or_else(next);
        if let (Err((false, _)), Some(unique), true) = (&result, &job.unique, *fresh) {
            unique::give_back(state, &unique.key, job.id).await;
        }
        let (id, queue) = (job.id, job.queue.clone());
        if result.is_ok() && journaled {
            lines.push(Entry::Queued(Box::new(job)).line());
        }
        items.push(BatchItem { id, queue, existing: false, problem: result.err().map(|(_, problem)| *problem) });
    }
    report(state, lines);
    items
}

/// Reports beside the answer: the job is safe already, and its own report would show it, too.
pub(super) fn report(state: &ApiState, lines: Vec<Bytes>) {
    if lines.is_empty() {
        return;
    }
    let receipt = state.broker.report(lines);
    let counters = std::sync::Arc::clone(&state.counters);
    state.tasks.spawn(async move {
        if let Err(error) = receipt.await {
            let before = counters.unreported.fetch_add(1, Ordering::Relaxed);
            if before == 0 {
                tracing::warn!(%error, "Queued reports were not confirmed; these jobs are listed once they run");
            }
        }
    });
}

/// Which jobs, as it is asked in a query.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct JobQuery {
    /// In this state.
    state: Option<JobState>,
    /// On this queue.
    queue: Option<String>,
    /// Of this kind.
    kind: Option<String>,
    /// Of this run.
    run: Option<Uuid>,
    /// That ended badly in this way.
    fingerprint: Option<String>,
    /// With each of these words in kind, queue, error, name within a run, consumer or args, whatever their case.
    #[schemars(length(max = 200))]
    text: Option<String>,
    /// Created at this instant (RFC 3339) or later, or so long ago at most.
    since: Option<String>,
    /// Created at this instant or earlier, or so long ago at least.
    until: Option<String>,
    /// At most so many; 50 when absent.
    #[schemars(range(max = 1000))]
    limit: u32,
    /// The `next` of a page before this one.
    cursor: Option<String>,
}

/// `GET /jobs`.
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Result<Query<JobQuery>, QueryRejection>,
) -> Answer<Page<JobRow>> {
    let JobQuery { state: of, queue, kind, run, fingerprint, text, since, until, limit, cursor } = query_of(query)?;
    let now = Timestamp::now();
    let time = |field, text: Option<String>| text.map(|text| past(field, &text, now)).transpose();
    let (since, until) = (time("since", since)?, time("until", until)?);
    let filter = JobFilter { state: of, queue, kind, run, fingerprint, text, since, until, limit, cursor };
    if filter.text.as_ref().is_some_and(|text| text.len() > LONGEST_TEXT) {
        return Err(Problem::field("text", format!("is longer than {LONGEST_TEXT} bytes")));
    }
    if filter.limit > 1000 {
        return Err(Problem::field("limit", format!("is {}, expected at most 1000", filter.limit)));
    }
    check_cursor(filter.cursor.as_deref())?;
    let read = |cursor| {
        let (results, filter) = (state.results.clone(), JobFilter { cursor, ..filter.clone() });
        let hidden = std::sync::Arc::clone(state.schemas.hidden());
        async move { Ok(results.jobs_with(&filter, &hidden).await?) }
    };
    let mut page = caller.page(filter.cursor.clone(), read, |row: &JobRow| (&row.queue, &row.kind)).await?;
    page.rows.iter_mut().for_each(|row| cancel::show(&state, row));
    delayed::show_rows(&state, &mut page.rows).await?;
    Ok(Json(page))
}

/// `GET /jobs/{id}`.
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Answer<JobRecord> {
    let id = id_of(path)?;
    let mut record = known(&state, id).await?.ok_or_else(|| unknown(id))?;
    own::may(&caller, Role::Viewer, &record)?;
    cancel::show(&state, &mut record.row);
    delayed::show(&state, &mut record).await?;
    let mut record = large::whole(&state.blobs, record).await;
    record.job.iter_mut().for_each(|job| state.schemas.hidden().hide_in(job));
    record.attempts.iter_mut().for_each(|attempt| hide_in(&state, &mut attempt.report));
    Ok(Json(record))
}

/// Hides the secrets of the job that a report may hold.
pub(super) fn hide_in(state: &ApiState, report: &mut Report) {
    report.whole.iter_mut().for_each(|job| state.schemas.hidden().hide_in(job));
}

/// Refuses a job for whose queue and kind the caller has not this role. Who has it everywhere is asked nothing.
pub(super) async fn check(state: &ApiState, caller: &Caller, role: Role, id: Uuid) -> Result<(), Problem> {
    if caller.has_everywhere(role) {
        return Ok(());
    }
    own::may(caller, role, &known(state, id).await?.ok_or_else(|| unknown(id))?)
}

/// The record of a job; waits up to two seconds for one that is on its way to the record.
pub(super) async fn known(state: &ApiState, id: Uuid) -> Result<Option<JobRecord>, Problem> {
    let end = Instant::now() + Duration::from_secs(2);
    let mut pause = Duration::from_millis(20);
    loop {
        if let Some(record) = state.results.job(id).await? {
            return Ok(Some(record));
        }
        let next = Instant::now() + pause;
        if next > end || state.shutdown.is_cancelled() {
            return delayed::unrecorded(state, id).await;
        }
        sleep_until(next).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// What is said of an id that is not in the record.
pub(super) fn unknown(id: Uuid) -> Problem {
    Problem::not_found(format!("no job {id} is recorded here; `spinor jobs ls` lists those that are"))
}
