//! `/failures`: jobs that ended badly, grouped by what they have in common.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::Role,
    results::{FailureFilter, FailureGroup, Failures, JobFilter, JobRow},
};
use spinor_executors::State as JobState;

use super::{Answer, ApiState, Problem, bad_query, caller::Caller, clip, query_of};
use crate::config;

/// Which failures, as it is asked in a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FailureQuery {
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// On this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Ended in one of these states, with commas between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Ended at this instant or later, or so long ago at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Ended at this instant or earlier, or so long ago at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// At most so many groups; 0 means 50, at most 1000.
    pub limit: u32,
}

/// One group, with the newest of its jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailureRecord {
    /// The group.
    #[serde(flatten)]
    pub group: FailureGroup,
    /// The newest of its jobs, at most 20.
    pub jobs: Vec<JobRow>,
}

/// `GET /failures`.
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Result<Query<FailureQuery>, QueryRejection>,
) -> Answer<Failures> {
    let FailureQuery { kind, queue, state: states, since, until, limit } = query_of(query)?;
    if limit > 1000 {
        return Err(bad_query("limit", &format!("is {limit}, expected at most 1000")));
    }
    let now = Timestamp::now();
    let filter = FailureFilter {
        kind,
        queue,
        fingerprint: None,
        states: ends_of(states.iter().flat_map(|states| states.split(',')))?,
        since: since.map(|text| past("since", &text, now)).transpose()?,
        until: until.map(|text| past("until", &text, now)).transpose()?,
        within: caller.bounds(Role::Viewer),
    };
    let limit = if limit == 0 { 50 } else { limit };
    Ok(Json(state.results.failures(&filter, limit).await?))
}

/// `GET /failures/{fingerprint}`.
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Answer<FailureRecord> {
    let Path(text) = path.map_err(|error| Problem::field("fingerprint", error.body_text()))?;
    let fingerprint = fingerprint_of(&text)?;
    let states = JobState::ALL.into_iter().filter(|end| end.is_final() && *end != JobState::Succeeded).collect();
    let within = caller.bounds(Role::Viewer);
    let filter = FailureFilter { fingerprint: Some(fingerprint.clone()), states, within, ..FailureFilter::default() };
    let unknown = || {
        Problem::not_found(format!(
            "no job ended badly with the fingerprint {fingerprint}; `spinor failures ls` lists those that are there"
        ))
    };
    let group = state.results.failures(&filter, 1).await?.groups.pop().ok_or_else(unknown)?;
    let newest = JobFilter { fingerprint: Some(fingerprint.clone()), limit: 20, ..JobFilter::default() };
    let mut jobs = state.results.jobs(&newest).await?.rows;
    jobs.retain(|job| caller.sees(&job.queue, &job.kind));
    Ok(Json(FailureRecord { group, jobs }))
}

/// A fingerprint as somebody typed it.
pub(super) fn fingerprint_of(text: &str) -> Result<String, Problem> {
    if text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(text.to_owned());
    }
    let why = format!("`{}` is no fingerprint; they have 16 digits, 0 to 9 and a to f", clip(text));
    Err(Problem::field("fingerprint", why))
}

/// States in which a job has ended and may be started anew.
pub(super) fn ends_of<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<JobState>, Problem> {
    let state = |word: &str| {
        let ends = JobState::ALL.into_iter().filter(|state| state.is_final());
        JobState::of(word).filter(|state| state.is_final()).ok_or_else(|| {
            let known: Vec<String> = ends.map(|state| state.word().to_owned()).collect();
            let why = format!("`{}`: expected one of {}", clip(word), known.join(", "));
            Problem { known, ..Problem::field("state", why) }
        })
    };
    words.map(|word| state(word.trim())).collect()
}

/// An instant, or a duration before now.
pub(super) fn past(field: &str, text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let ago = config::duration(text).and_then(|time| SignedDuration::try_from(time).ok());
    ago.and_then(|time| now.checked_sub(time).ok()).ok_or_else(|| {
        let expected = "expected an instant such as 2030-01-31T12:00:00Z, or how long ago, such as \"2h\"";
        Problem::field(field, format!("`{}`: {expected}", clip(text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_instant_or_how_long_ago() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let seconds = |text| past("since", text, now).map(Timestamp::as_second).map_err(|problem| problem.field);
        assert_eq!(seconds("1m"), Ok(999_940));
        assert_eq!(seconds("1970-01-01T00:00:07Z"), Ok(7));
        assert_eq!(seconds("yesterday"), Err(Some("since".to_owned())));
    }

    #[test]
    fn only_ends_are_states_of_a_failure() {
        assert_eq!(ends_of(["failed", " dead"].into_iter()), Ok(vec![JobState::Failed, JobState::Dead]));
        assert!(ends_of(["queued"].into_iter()).is_err_and(|problem| problem.known.len() == 7));
    }
}
