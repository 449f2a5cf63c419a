//! `/replays`: all that match are started anew, at a rate; ordered here, done beside the recorder.

use axum::{
    Json,
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
    broker::{Broker, Event},
    results::{FailureFilter, Page, Rate, ReplayRow, ReplayState},
};
use spinor_executors::State as JobState;
use uuid::Uuid;

use super::{
    Answer, ApiState, Problem,
    caller::Caller,
    check_cursor, clip,
    dead::{self, none_left},
    failures::{fingerprint_of, past},
    id_of, query_of, steer,
};
use crate::config;

/// Which jobs are started anew, and how fast.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewReplays {
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// On this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// With this fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Ended in one of these states; failed, discarded, expired, dead and lost when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    /// Ended at this instant or later, or so long ago at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Ended at this instant or earlier, or so long ago at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// All that ended badly, when nothing else is named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// So many in each such time: `10/1s`; as fast as it goes when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Who wants it; `api` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Only count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// How many jobs match now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Matched {
    /// So many; not known when they are too many to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// So many more match that the caller may not start anew.
    #[serde(default, skip_serializing_if = "none_left")]
    pub left: u64,
}

/// An order that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderedReplay {
    /// It.
    #[serde(flatten)]
    pub row: ReplayRow,
    /// So many more match that the caller may not start anew.
    #[serde(default, skip_serializing_if = "none_left")]
    pub left: u64,
}

/// Which page of the list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListQuery {
    /// At most so many; 50 when absent.
    #[schemars(range(max = 1000))]
    limit: u32,
    /// The `next` of a page before this one.
    cursor: Option<String>,
}

impl NewReplays {
    fn filter(&self, now: Timestamp) -> Result<FailureFilter, Problem> {
        let time = |field, text: &Option<String>| text.as_ref().map(|text| past(field, text, now)).transpose();
        let state = |word: &String| {
            let expected = "failed, discarded, cancelled, expired, dead, lost, succeeded";
            let state = JobState::of(word).filter(|state| state.is_final());
            state.ok_or_else(|| Problem::field("states", format!("`{}`: expected some of {expected}", clip(word))))
        };
        let filter = FailureFilter {
            kind: self.kind.clone(),
            queue: self.queue.clone(),
            fingerprint: self.fingerprint.as_deref().map(fingerprint_of).transpose()?,
            states: self.states.iter().map(state).collect::<Result<_, _>>()?,
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            within: Vec::new(),
        };
        if filter.is_all() && !self.all {
            return Err(Problem::field("all", "nothing says which jobs; name some, or set `all` to true"));
        }
        Ok(filter)
    }
}

/// `10/1s`.
fn rate(text: &str) -> Result<Rate, Problem> {
    let read = || {
        let (jobs, each) = text.split_once('/')?;
        let (jobs, each) = (jobs.trim().parse().ok()?, config::duration(each.trim())?);
        let each_ms = u64::try_from(each.as_millis()).ok()?;
        (jobs > 0 && each_ms > 0 && each_ms <= 86_400_000).then_some(Rate { jobs, each_ms })
    };
    let why = || format!("`{}`: expected so many in each such time, at most a day, such as 10/1s", clip(text));
    read().ok_or_else(|| Problem::field("rate", why()))
}

/// `POST /replays`.
pub(super) async fn order(
    State(state): State<ApiState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let new: NewReplays = steer::read(body, &state)?;
    let at = Timestamp::now();
    let mut filter = new.filter(at)?;
    let rate = new.rate.as_deref().map(rate).transpose()?;
    let by = dead::who(&caller, new.by)?;
    let all = state.results.matching(&filter, at).await?;
    filter.within = caller.bounds(Role::Operator);
    let total = if filter.within.is_empty() { all } else { state.results.matching(&filter, at).await? };
    let left = all.zip(total).map_or(0, |(all, total)| all.saturating_sub(total));
    if new.dry_run {
        return Ok(Json(Matched { total, left }).into_response());
    }
    let id = Uuid::now_v7();
    let running = ReplayState::Running;
    let row =
        ReplayRow { id, filter, rate, by, at, ended: None, state: running, total, done: 0, failed: 0, error: None };
    state.results.order_replay(&row).await?;
    state.broker.cast(Event::Ordered { replay: id });
    Ok((StatusCode::CREATED, Json(OrderedReplay { row, left })).into_response())
}

/// `GET /replays`.
pub(super) async fn list(
    State(state): State<ApiState>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Page<ReplayRow>> {
    let ListQuery { limit, cursor } = query_of(query)?;
    if limit > 1000 {
        return Err(Problem::field("limit", format!("is {limit}, expected at most 1000")));
    }
    check_cursor(cursor.as_deref())?;
    Ok(Json(state.results.replays(limit, cursor.as_deref()).await?))
}

/// `GET /replays/{id}`.
pub(super) async fn show(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<ReplayRow> {
    known(&state, id_of(path)?).await.map(Json)
}

/// `POST /replays/{id}/stop`: what is published already stays; one that has ended stays as it is.
pub(super) async fn stop(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Answer<ReplayRow> {
    let id = id_of(path)?;
    if !caller.has_everywhere(Role::Operator) && known(&state, id).await?.by != caller.name() {
        caller.everywhere(Role::Operator)?;
    }
    if state.results.stop_replay(id).await? {
        state.broker.cast(Event::Ordered { replay: id });
    }
    known(&state, id).await.map(Json)
}

async fn known(state: &ApiState, id: Uuid) -> Result<ReplayRow, Problem> {
    state.results.replay(id).await?.ok_or_else(|| {
        Problem::not_found(format!("no replay {id} is recorded here; `spinor failures replays` lists those that are"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_so_many_in_each_such_time() {
        assert_eq!(rate("10/1s"), Ok(Rate { jobs: 10, each_ms: 1000 }));
        for wrong in ["10", "0/1s", "10/0s", "10/2d", "x/1s", "10/x", "/"] {
            assert!(rate(wrong).is_err_and(|problem| problem.field.as_deref() == Some("rate")), "{wrong}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused_unless_all_is_asked_for() {
        let field = |new: NewReplays| new.filter(Timestamp::now()).map_err(|problem| problem.field);
        assert_eq!(field(NewReplays::default()), Err(Some("all".to_owned())));
        assert!(field(NewReplays { all: true, ..NewReplays::default() }).is_ok());
        let states = vec!["running".to_owned()];
        assert_eq!(field(NewReplays { states, ..NewReplays::default() }), Err(Some("states".to_owned())));
    }
}
