//! `/jobs/{id}/wait` and `/jobs/wait`: answer when a job, or each of many, has ended.
//!
//! Owns the order of a wait: it tells recorders what it waits for, looks at the record, and looks
//! again when they say that there is something to read. That is lossy, so the record is looked at
//! without a word, too, ever less often. An answer is in the record: who is told that a job ended
//! finds it there. Only while the record does not answer, the live event tells the end.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection, rejection::PathRejection, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::Role,
    broker::{Broker, Event, Events, Topic},
    results::ResultsError,
};
use spinor_executors::{Report, State as JobState};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::{Answer, ApiState, Problem, caller::Caller, id_of, jobs, large, query_of};
use crate::config;

/// The first look at the record that nobody asked for; each next one is twice as late.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Looks are no further apart.
const LAST_LOOK: Duration = Duration::from_secs(5);
/// At most so many jobs in one wait.
const MOST: usize = 1000;
/// At most so many with their reports: an answer is no larger than what one job may weigh.
const MOST_REPORTS: usize = 200;

/// How long to wait, and for what.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WaitQuery {
    /// A duration; 30 s when absent, at most an hour.
    timeout: Option<String>,
    /// The caller has just published it: an id that is not recorded yet is waited for, too.
    published: bool,
}

/// The answer to a wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waited {
    /// Has it ended?
    pub ended: bool,
    /// Its last report, when it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<Report>>,
    /// Why its value is not in the report, when it lies elsewhere and could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// A wait for many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitMany {
    /// The jobs, at most 1000; ids that are not recorded yet are waited for, too.
    pub jobs: Vec<Uuid>,
    /// A duration; 30 s when absent, at most an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// With their last reports; at most 200 jobs then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reports: bool,
}

/// The answer to a wait for many: those that have ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaitedMany {
    /// In no order.
    pub ended: Vec<JobEnd>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobEnd {
    /// The job.
    pub id: Uuid,
    /// How.
    pub state: JobState,
    /// Its last report, if asked for. A value that lies elsewhere (`value_ref`) is not in it: a wait for that
    /// job alone brings it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<Report>>,
}

fn end_of(timeout: Option<&str>) -> Result<Instant, Problem> {
    let timeout = match timeout {
        None => Duration::from_secs(30),
        Some(text) => config::duration(text)
            .filter(|time| time.as_secs() <= 3600)
            .ok_or_else(|| Problem::field("timeout", "expected a duration such as \"30s\", at most 1h"))?,
    };
    Ok(Instant::now() + timeout)
}

/// `GET /jobs/{id}/wait`: 200 with the report, or 202 when the time is over.
pub(super) async fn wait(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    let query = query_of(query)?;
    let end = end_of(query.timeout.as_deref())?;
    jobs::check(&state, &caller, Role::Viewer, id).await?;
    let watching = state.watches.watch(&[id]);
    let mut events = None;
    let unknown_from = Instant::now() + Duration::from_secs(2);
    let (mut pause, mut seen) = (FIRST_LOOK, query.published);
    loop {
        let look = tokio::select! {
            look = look(&state, id, seen, end) => look,
            report = final_report(&mut events, &mut seen) => return Ok(ended(&state, report).await),
        };
        let unanswered = match look {
            Ok(Look::Ended(report)) => return Ok(ended(&state, *report).await),
            Ok(Look::Going { known }) => {
                seen = seen || known;
                None
            }
            Err(error @ ResultsError::Unavailable(_)) => Some(error),
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        if now >= end || state.shutdown.is_cancelled() {
            return unanswered.map_or_else(|| still_going(seen, id), |error| Err(error.into()));
        }
        if !seen && unanswered.is_none() && now >= unknown_from {
            return Err(jobs::unknown(id));
        }
        if unanswered.is_some() && events.is_none() {
            // Nobody to listen to is no reason to fail: the record may be back.
            events = timeout_at(end, state.broker.listen(Topic::Job(id))).await.ok().and_then(Result::ok);
        }
        let mut next = (now + pause).min(end);
        if !seen {
            next = next.min(unknown_from.max(now));
        }
        pause = (pause * 2).min(LAST_LOOK);
        tokio::select! {
            report = final_report(&mut events, &mut seen) => return Ok(ended(&state, report).await),
            _ = watching.told() => {}
            () = sleep_until(next) => {}
            () = state.shutdown.cancelled() => {}
        }
    }
}

/// `POST /jobs/wait`: those that have ended, once all have or the time is over.
pub(super) async fn wait_many(
    State(state): State<ApiState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<WaitedMany> {
    let body = jobs::body_of(body, &state)?;
    let WaitMany { jobs, timeout, reports } =
        serde_json::from_slice(&body).map_err(|error| Problem::new(422, "Not a wait", error.to_string()))?;
    let most = if reports { MOST_REPORTS } else { MOST };
    if jobs.len() > most {
        return Err(Problem::field("jobs", format!("are {}, expected at most {most}", jobs.len())));
    }
    let end = end_of(timeout.as_deref())?;
    let watching = state.watches.watch(&jobs);
    let mut going: BTreeSet<Uuid> = jobs.iter().copied().collect();
    let mut waited = WaitedMany::default();
    let (mut pause, mut asked) = (FIRST_LOOK, jobs);
    loop {
        let last = end.max(Instant::now() + Duration::from_secs(2));
        let look = timeout_at(last, state.results.ended(&asked)).await;
        let unanswered = match look {
            Ok(Ok(found)) => {
                for (id, state) in found {
                    if going.remove(&id) {
                        waited.ended.push(JobEnd { id, state, report: None });
                    }
                }
                None
            }
            Ok(Err(error @ ResultsError::Unavailable(_))) => Some(error),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => Some(no_answer()),
        };
        if going.is_empty() || Instant::now() >= end || state.shutdown.is_cancelled() {
            if let Some(error) = unanswered {
                return Err(error.into());
            }
            if reports || !caller.has_everywhere(Role::Viewer) {
                report(&state, &caller, &mut waited, reports).await?;
            }
            return Ok(Json(waited));
        }
        let next = (Instant::now() + pause).min(end);
        tokio::select! {
            told = watching.told() => asked = told,
            () = sleep_until(next) => {
                pause = (pause * 2).min(LAST_LOOK);
                asked = going.iter().copied().collect();
            }
            () = state.shutdown.cancelled() => {}
        }
    }
}

/// Puts the reports to those that have ended, and leaves out what the caller may not read.
async fn report(state: &ApiState, caller: &Caller, waited: &mut WaitedMany, reports: bool) -> Result<(), ResultsError> {
    let jobs: Vec<Uuid> = waited.ended.iter().map(|end| end.id).collect();
    let asking = tokio::time::timeout(Duration::from_secs(10), state.results.endings(&jobs)).await;
    let mut found: HashMap<Uuid, Report> = asking.unwrap_or_else(|_| Err(no_answer()))?.into_iter().collect();
    for end in &mut waited.ended {
        end.report = found.remove(&end.id).map(Box::new);
        end.report.iter_mut().for_each(|report| jobs::hide_in(state, report));
    }
    if !caller.has_everywhere(Role::Viewer) {
        let seen = |report: &Report| caller.sees(&report.queue, &report.kind);
        waited.ended.retain(|end| end.report.as_deref().is_some_and(seen));
    }
    if !reports {
        waited.ended.iter_mut().for_each(|end| end.report = None);
    }
    Ok(())
}

/// What one look at the record shows.
enum Look {
    Ended(Box<Report>),
    Going { known: bool },
}

/// Looks once; gives up soon after the end of the wait.
async fn look(state: &ApiState, id: Uuid, seen: bool, end: Instant) -> Result<Look, ResultsError> {
    let asking = async {
        if let Some(report) = state.results.ending(id).await? {
            return Ok(Look::Ended(Box::new(report)));
        }
        Ok(Look::Going { known: seen || state.results.job(id).await?.is_some() })
    };
    let last = end.max(Instant::now() + Duration::from_secs(2));
    timeout_at(last, asking).await.unwrap_or_else(|_| Err(no_answer()))
}

fn no_answer() -> ResultsError {
    ResultsError::Unavailable("no answer in the time of the wait".to_owned())
}

/// The next final report among the events; pends for ever once there are none.
async fn final_report(events: &mut Option<Events>, seen: &mut bool) -> Report {
    while let Some(listening) = events {
        match listening.next().await {
            Some(Event::Ended { report }) if report.state.is_final() => return *report,
            Some(_) => *seen = true,
            None => *events = None,
        }
    }
    std::future::pending().await
}

async fn ended(state: &ApiState, mut report: Report) -> Response {
    jobs::hide_in(state, &mut report);
    let unread = large::fill(&state.blobs, &mut report).await;
    Json(Waited { ended: true, report: Some(Box::new(report)), unread }).into_response()
}

fn still_going(seen: bool, id: Uuid) -> Result<Response, Problem> {
    if !seen {
        return Err(jobs::unknown(id));
    }
    Ok((StatusCode::ACCEPTED, Json(Waited { ended: false, report: None, unread: None })).into_response())
}
