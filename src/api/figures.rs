//! `/figures`: how jobs ended, how long they waited and ran, over time and by kind.
//!
//! Owns the spans of an answer. They come from what recorders count, not from the jobs: an answer costs the
//! same after a billion of them. `/metrics` tells what this process's recorder counted.

use std::{collections::BTreeMap, fmt::Write as _};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::results::{FIGURES_BY_HOURS, FIGURES_KEPT, Figure, FigureFilter, Spread, Timed, Totals};
use spinor_executors::State as JobState;

use super::{Answer, ApiState, Problem, query_of};
use crate::config;

/// An answer has about so many points, unless it is told how far apart they shall be.
const POINTS: i64 = 120;
/// At most so many.
const MOST_POINTS: i64 = KEPT;
const KEPT: i64 = FIGURES_KEPT;
/// The upper bounds of the buckets on `/metrics`, in seconds.
const BOUNDS: [f64; 9] = [0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0];

/// Which figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FiguresQuery {
    /// How far back, a duration; an hour when absent, at most 72 h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// How far the points lie apart, a duration of whole minutes; of whole hours when `since` is 3 h or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Of this kind; of all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Figures over time and by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// The first minute.
    pub from: Timestamp,
    /// The last one, which is not over.
    pub to: Timestamp,
    /// Seconds between two points.
    pub step: i64,
    /// Oldest first, none left out.
    pub points: Vec<FigurePoint>,
    /// The same time by kind, the busiest first.
    pub kinds: Vec<FigureKind>,
}

/// What ended in the time from one instant to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FigurePoint {
    /// Its beginning.
    pub at: Timestamp,
    /// What ended.
    #[serde(flatten)]
    pub counts: FigureCounts,
}

/// What ended of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FigureKind {
    /// The kind; `*others` are those beyond the first 200 that a recorder met.
    pub kind: String,
    /// What ended.
    #[serde(flatten)]
    pub counts: FigureCounts,
}

/// Executions that ended, and dead letters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FigureCounts {
    /// By the state that the job then had; `retrying` ones have a next attempt.
    pub ended: BTreeMap<JobState, u64>,
    /// How long executions took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<Quantiles>,
    /// How long jobs waited for their first execution since they were created, a delay they had included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited: Option<Quantiles>,
}

/// Seconds that half, 95 and 99 of a hundred did not exceed, to about a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantiles {
    /// The half.
    pub p50: f64,
    /// 95 of a hundred.
    pub p95: f64,
    /// 99 of a hundred.
    pub p99: f64,
}

impl Quantiles {
    fn of(spread: &Spread) -> Option<Self> {
        // Three digits: more would look exact.
        let digits = |seconds: f64| format!("{seconds:.2e}").parse().unwrap_or(seconds);
        let at = |share| spread.quantile(share).map(digits);
        Some(Self { p50: at(0.5)?, p95: at(0.95)?, p99: at(0.99)? })
    }
}

impl From<Figure> for FigureCounts {
    fn from(figure: Figure) -> Self {
        Self { ran: Quantiles::of(&figure.ran), waited: Quantiles::of(&figure.waited), ended: figure.ended }
    }
}

/// `GET /figures`.
pub(super) async fn figures(
    State(state): State<ApiState>,
    query: Result<Query<FiguresQuery>, QueryRejection>,
) -> Answer<Figures> {
    let query = query_of(query)?;
    let minutes = |name: &str, text: &Option<String>, most: i64| match text {
        None => Ok(None),
        Some(text) => config::duration(text)
            .map(|time| i64::try_from(time.as_secs().div_ceil(60)).unwrap_or(i64::MAX))
            .filter(|minutes| (1..=most).contains(minutes))
            .map(Some)
            .ok_or_else(|| Problem::field(name, format!("expected a duration such as \"1h\", up to {}h", most / 60))),
    };
    let since = minutes("since", &query.since, KEPT)?.unwrap_or(60);
    let step = minutes("step", &query.step, KEPT)?.unwrap_or((since + POINTS - 1) / POINTS).max(1);
    // Days are kept by the hour, too, which is read as fast.
    let step = if since >= FIGURES_BY_HOURS { (step + 59) / 60 * 60 } else { step };
    let to = Timestamp::now();
    let last = to.as_second().div_euclid(60);
    // Points begin where those of the next question begin, too.
    let first = (last - since + 1).div_euclid(step) * step;
    let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap_or(to);
    let filter = FigureFilter { from: at(first), to, kind: query.kind };
    let (spans, kinds) =
        tokio::try_join!(state.results.figures_by_time(&filter, step), state.results.figures_by_kind(&filter))?;
    let mut spans = spans;
    let count = ((last - first) / step + 1).min(MOST_POINTS);
    let points = (0..count).map(|span| {
        let counts = spans.remove(&span).unwrap_or_default().into();
        FigurePoint { at: at(first + span * step), counts }
    });
    let points = points.collect();
    let mut kinds: Vec<FigureKind> =
        kinds.into_iter().map(|(kind, figure)| FigureKind { kind, counts: figure.into() }).collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.counts.ended.values().sum::<u64>()));
    Ok(Json(Figures { from: at(first), to, step: step * 60, points, kinds }))
}

/// What this process's recorder counted, for `/metrics`.
pub(super) fn exposed(totals: &BTreeMap<String, Totals>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "# HELP spinor_jobs_ended_total Executions that this process recorded, by the state that the job then had.\n\
         # TYPE spinor_jobs_ended_total counter"
    );
    for (kind, totals) in totals {
        for (state, times) in &totals.ended {
            let state = state.word();
            let _ = writeln!(text, "spinor_jobs_ended_total{{kind=\"{}\",state=\"{state}\"}} {times}", word(kind));
        }
    }
    histogram(&mut text, "spinor_job_run_seconds", "How long executions took.", totals, |of| &of.ran);
    let help = "From a job's creation to its first execution.";
    histogram(&mut text, "spinor_job_wait_seconds", help, totals, |of| &of.waited);
    text
}

fn histogram(
    text: &mut String,
    name: &str,
    help: &str,
    totals: &BTreeMap<String, Totals>,
    of: impl Fn(&Totals) -> &Timed,
) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
    for (kind, totals) in totals {
        let (Timed { spread, seconds }, kind) = (of(totals), word(kind));
        for bound in BOUNDS {
            let within = spread.within(bound);
            let _ = writeln!(text, "{name}_bucket{{kind=\"{kind}\",le=\"{bound}\"}} {within}");
        }
        let times = spread.times();
        let _ = writeln!(
            text,
            "{name}_bucket{{kind=\"{kind}\",le=\"+Inf\"}} {times}\n{name}_sum{{kind=\"{kind}\"}} {seconds}\n\
             {name}_count{{kind=\"{kind}\"}} {times}"
        );
    }
}

/// A kind as the value of a label.
fn word(kind: &str) -> String {
    kind.replace(['"', '\\', '\n'], "_")
}
