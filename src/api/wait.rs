//! `/jobs/{id}/wait`: answers when the job has ended.
//!
//! Owns the race between the live event and the record: it listens first and looks at the record
//! then, so that an end between the two is not missed. Events are lossy, so the record is looked
//! at again, ever less often. A record that does not answer ends no wait: the event may still tell
//! the end, and the database may come back in time.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    broker::{Broker, Event, Events, Topic},
    results::ResultsError,
};
use spinor_executors::Report;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::{ApiState, Problem, id_of, jobs, query_of};
use crate::config;

/// How long to wait, and for what.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WaitQuery {
    /// A duration; 30 s when absent, at most an hour.
    timeout: Option<String>,
    /// The caller has just published it: an id that is not recorded yet is waited for, too.
    published: bool,
}

/// The answer to a wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waited {
    /// Has it ended?
    pub ended: bool,
    /// Its last report, when it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<Report>>,
}

/// `GET /jobs/{id}/wait`: 200 with the report, or 202 when the time is over.
pub(super) async fn wait(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    let query = query_of(query)?;
    let timeout = match query.timeout.as_deref() {
        None => Duration::from_secs(30),
        Some(text) => config::duration(text)
            .filter(|time| time.as_secs() <= 3600)
            .ok_or_else(|| Problem::field("timeout", "expected a duration such as \"30s\", at most 1h"))?,
    };
    let end = Instant::now() + timeout;
    // Nobody to listen to is no reason to fail: the record answers, a little later.
    let mut events = state.broker.listen(Topic::Job(id)).await.ok();
    let unknown_from = Instant::now() + Duration::from_secs(2);
    let (mut pause, mut seen) = (Duration::from_millis(25), query.published);
    loop {
        let look = tokio::select! {
            look = look(&state, id, seen, end) => look,
            report = final_report(&mut events, &mut seen) => return Ok(ended(report)),
        };
        let unanswered = match look {
            Ok(Look::Ended(report)) => return Ok(ended(*report)),
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
        let next = (now + pause).min(end);
        pause = (pause * 2).min(Duration::from_secs(5));
        tokio::select! {
            report = final_report(&mut events, &mut seen) => return Ok(ended(report)),
            () = sleep_until(next) => {}
            () = state.shutdown.cancelled() => {}
        }
    }
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
    timeout_at(last, asking)
        .await
        .unwrap_or_else(|_| Err(ResultsError::Unavailable("no answer in the time of the wait".to_owned())))
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

fn ended(report: Report) -> Response {
    Json(Waited { ended: true, report: Some(Box::new(report)) }).into_response()
}

fn still_going(seen: bool, id: Uuid) -> Result<Response, Problem> {
    if !seen {
        return Err(jobs::unknown(id));
    }
    Ok((StatusCode::ACCEPTED, Json(Waited { ended: false, report: None })).into_response())
}
