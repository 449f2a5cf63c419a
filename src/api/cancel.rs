//! `/jobs/{id}/cancel` and `/runs/{id}/cancel`: a job, or all of a run, shall not run, or shall end.
//!
//! Owns who may still be cancelled, and that a wish is shown at once, while its job has not ended.
//! The first wish stands: who asks again is told whose it was. Refuses to end anything: whoever
//! meets the job does, a consumer that starts later included.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::Role,
    broker::{Broker, Event},
    results::{JobFilter, JobRow, RunRow},
    state::{Subject, Wish},
};
use spinor_executors::State as JobState;
use uuid::Uuid;

use super::{ApiState, Problem, caller::Caller, delayed, id_of, jobs, runs, steer};
use crate::config::Journal;

/// A cancel that was noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelRequested {
    /// The job, or the run.
    pub id: Uuid,
    /// Where the job stands; absent for a run, and for a job that is not recorded yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Who asked first.
    pub cancel_requested: Wish,
}

/// `POST /jobs/{id}/cancel`: 202 once the wish is stored.
pub(super) async fn job(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    who: steer::Who,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    steer::state_of(&state)?;
    jobs::check(&state, &caller, Role::Operator, id).await?;
    let row = match jobs::known(&state, id).await {
        Ok(record) => record.map(|record| record.row),
        // The record is away: what it does not know may well run.
        Err(problem) if problem.status == 503 => None,
        Err(problem) => return Err(problem),
    };
    match &row {
        Some(row) if row.state.is_final() => return Err(ended(row)),
        None if !may_be_unrecorded(&state) => return Err(jobs::unknown(id)),
        _ => {}
    }
    let wish = request(&state, &Subject::Cancel(id), &who).await?;
    accepted(CancelRequested { id, state: row.map(|row| row.state), cancel_requested: wish })
}

/// `POST /runs/{id}/cancel`: 202 once the wish is stored.
pub(super) async fn run(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    who: steer::Who,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    steer::state_of(&state)?;
    runs::check(&state, &caller, Role::Operator, id).await?;
    match runs::known(&state, id).await? {
        Some(record) if record.row.ended.is_some() && record.jobs.iter().all(|(_, job)| job.state.is_final()) => {
            let at = record.row.ended.map(|at| format!(" at {at}")).unwrap_or_default();
            return Err(Problem::new(409, "It has ended", format!("run {id} has ended{at}; nothing of it is left")));
        }
        Some(_) => {}
        // Jobs may belong to a run that nobody announced.
        None => {
            let filter = JobFilter { run: Some(id), limit: 1, ..JobFilter::default() };
            if state.results.jobs(&filter).await?.rows.is_empty() {
                return Err(runs::unknown(id));
            }
        }
    }
    let wish = request(&state, &Subject::CancelRun(id), &who).await?;
    // Those that wait in the database need not be due to end.
    state.results.cancel_delayed_of(id, &who.by, who.why.as_deref()).await?;
    accepted(CancelRequested { id, state: None, cancel_requested: wish })
}

fn accepted(answer: CancelRequested) -> Result<Response, Problem> {
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// Stores the wish, unless somebody had it before; those who obey are told in any case.
pub(super) async fn request(state: &ApiState, subject: &Subject, who: &steer::Who) -> Result<Wish, Problem> {
    if let Subject::Cancel(id) = subject
        && let Some(wish) = delayed::cancel(state, *id, who).await
    {
        return Ok(wish);
    }
    state.marks.load(&state.state).await;
    if let Some(mark) = state.marks.get(subject) {
        state.broker.cast(Event::Marked { version: mark.version });
        return Ok(mark.into());
    }
    steer::set(state, subject, true.into(), who).await
}

fn ended(row: &JobRow) -> Problem {
    let at = row.ended.map(|at| format!(" at {at}")).unwrap_or_default();
    let detail = format!("job {} has ended already: {}{at}", row.id, row.state.word());
    Problem { job: Some(row.id), ..Problem::new(409, "It has ended", detail) }
}

/// Are there jobs here that the record learns of only by their first report?
fn may_be_unrecorded(state: &ApiState) -> bool {
    let behind = state
        .recorder
        .as_ref()
        .is_some_and(|recorder| *recorder.health().borrow() != spinor_consumers::recorder::RecorderHealth::Recording);
    behind || state.config.queues.values().any(|queue| queue.foreign || queue.journal == Journal::Ends)
}

/// Adds who wants this job, or its run, to end.
pub(super) fn show(state: &ApiState, row: &mut JobRow) {
    if !row.state.is_final() {
        row.cancel_requested = state.marks.cancelled(row.id, row.run).map(Wish::from);
    }
}

/// The same for a run.
pub(super) fn show_run(state: &ApiState, row: &mut RunRow) {
    if row.ended.is_none() {
        row.cancel_requested = state.marks.get(&Subject::CancelRun(row.id)).map(Wish::from);
    }
}
