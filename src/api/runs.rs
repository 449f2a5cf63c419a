//! `/runs`: submit plans that belong together, list, show, read steps.
//!
//! A run that was submitted here is driven here: it is announced with its plans, and its end is
//! reported once every member has ended. Refuses to compile orchestrations: plans come ready.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection, rejection::PathRejection, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    broker::{Broker, Event, Events, Topic},
    entry::{Entry, RunReport},
    results::{Page, RunRecord, RunRow, StepFilter},
};
use spinor_executors::{
    Json as RawJson, State as JobState, StepReport,
    plan::{PLAN_KIND, Plan},
};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{
    Answer, ApiState, Problem, id_of, jobs,
    new_job::{Checked, NewJob},
    query_of,
};

/// Plans that belong together, one for each node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// Its id; a fresh UUIDv7 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// For people: the file, or the batch's name.
    pub name: String,
    /// One for each node.
    pub plans: Vec<Plan>,
    /// Plans that have not started by then (an instant or a duration) do not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// A run whose plans are on their way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedRun {
    /// The run.
    pub run: Uuid,
    /// Each node's job.
    pub jobs: BTreeMap<String, Uuid>,
    /// Nodes whose plan was not accepted, with the reason.
    pub problems: Vec<String>,
}

/// Cursor of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListQuery {
    limit: u32,
    cursor: Option<String>,
}

/// Which steps.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StepQuery {
    node: Option<String>,
    outputs: bool,
    problems: bool,
    limit: u32,
}

/// `GET /runs`.
pub(super) async fn list(
    State(state): State<ApiState>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Page<RunRow>> {
    let query = query_of(query)?;
    let limit = if query.limit == 0 { 50 } else { query.limit.min(1000) };
    Ok(Json(state.results.runs(limit, query.cursor.as_deref()).await?))
}

/// `GET /runs/{id}`.
pub(super) async fn show(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<RunRecord> {
    let id = id_of(path)?;
    let end = Instant::now() + Duration::from_secs(2);
    let mut pause = Duration::from_millis(20);
    loop {
        if let Some(record) = state.results.run(id).await? {
            return Ok(Json(record));
        }
        let next = Instant::now() + pause;
        if next > end || state.shutdown.is_cancelled() {
            return Err(Problem::not_found(format!(
                "no run {id} is recorded here; `spinor runs ls` lists those that are"
            )));
        }
        sleep_until(next).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// `GET /runs/{id}/steps`.
pub(super) async fn steps(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<StepQuery>, QueryRejection>,
) -> Answer<Vec<StepReport>> {
    let StepQuery { node, outputs, problems, limit } = query_of(query)?;
    let filter = StepFilter { run: id_of(path)?, node, outputs, problems, limit };
    Ok(Json(state.results.steps(&filter).await?))
}

/// `POST /runs`.
pub(super) async fn submit(
    State(state): State<ApiState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = jobs::body_of(body, &state)?;
    let new: NewRun =
        serde_json::from_slice(&body).map_err(|error| Problem::new(422, "Not a run", error.to_string()))?;
    let run = new.id.unwrap_or_else(Uuid::now_v7);
    let now = Timestamp::now();
    let jobs = members(&new, run, now)?;
    let mut report = RunReport {
        run,
        name: new.name,
        members: u32::try_from(jobs.len()).unwrap_or(u32::MAX),
        steps: new
            .plans
            .iter()
            .map(|plan| plan.sequences.iter().map(|s| s.steps.len()).sum::<usize>())
            .sum::<usize>()
            .try_into()
            .unwrap_or(u32::MAX),
        started: now,
        ended: None,
        succeeded: None,
        problems: Vec::new(),
    };
    // Before the first job can end.
    let events = state.broker.listen(Topic::Run(run)).await.ok();
    let items = jobs::publish_checked(&state, jobs).await;
    let mut ids = BTreeMap::new();
    for item in items {
        let node = item.queue.trim_start_matches(NODE_QUEUE).to_owned();
        match item.problem {
            None => _ = ids.insert(node, item.id),
            Some(problem) => report.problems.push(format!("{node}: {}", problem.detail)),
        }
    }
    jobs::report(&state, vec![Entry::Run(Box::new(report.clone())).line()]);
    let submitted = SubmittedRun { run, jobs: ids, problems: report.problems.clone() };
    let watch = Watch { state: state.clone(), report, open: submitted.jobs.values().copied().collect(), failed: false };
    state.tasks.spawn(watch.drive(events));
    Ok((StatusCode::CREATED, Json(submitted)).into_response())
}

/// What a node's own queue starts with.
const NODE_QUEUE: &str = "node.";

fn members(new: &NewRun, run: Uuid, now: Timestamp) -> Result<Vec<Checked>, Problem> {
    if new.plans.is_empty() {
        return Err(Problem::field("plans", "is empty; a run has at least one plan"));
    }
    let member = |(place, plan): (usize, &Plan)| {
        let args = RawJson::of(plan).map_err(|error| Problem::field(format!("plans[{place}]"), error.to_string()))?;
        let job = NewJob {
            queue: Some(format!("{NODE_QUEUE}{}", plan.node)),
            args: Some(args),
            expires: new.expires.clone(),
            run: Some(run),
            member: Some(plan.node.clone()),
            ..NewJob::new(PLAN_KIND)
        };
        job.check(now).map_err(|problem| problem.within(&format!("plans[{place}]")))
    };
    new.plans.iter().enumerate().map(member).collect()
}

/// Follows a run until each member has ended, then reports the run's end.
struct Watch {
    state: ApiState,
    report: RunReport,
    open: std::collections::BTreeSet<Uuid>,
    failed: bool,
}

impl Watch {
    async fn drive(mut self, mut events: Option<Events>) {
        let mut pause = Duration::from_millis(250);
        while !self.open.is_empty() {
            let next = Instant::now() + pause;
            tokio::select! {
                end = next_end(&mut events) => self.ended(end.0, end.1),
                () = sleep_until(next) => {
                    // Events are lossy: the record has the last word.
                    self.look().await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
                () = self.state.shutdown.cancelled() => return,
            }
        }
        self.report.ended = Some(Timestamp::now());
        self.report.succeeded = Some(!self.failed && self.report.problems.is_empty());
        jobs::report(&self.state, vec![Entry::Run(Box::new(self.report)).line()]);
    }

    fn ended(&mut self, job: Uuid, state: JobState) {
        if state.is_final() && self.open.remove(&job) {
            self.failed |= state != JobState::Succeeded;
        }
    }

    async fn look(&mut self) {
        if let Ok(Some(record)) = self.state.results.run(self.report.run).await {
            for (_, row) in record.jobs {
                self.ended(row.id, row.state);
            }
        }
    }
}

async fn next_end(events: &mut Option<Events>) -> (Uuid, JobState) {
    while let Some(listening) = events {
        match listening.next().await {
            Some(Event::Ended { report }) => return (report.job, report.state),
            Some(_) => {}
            None => *events = None,
        }
    }
    std::future::pending().await
}
