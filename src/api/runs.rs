//! `/runs` and `/nodes`: publish jobs or submit plans that belong together, list, show, read steps, retry.
//!
//! A run of jobs goes to the part `trigger`. A run of plans that was submitted here is driven by this
//! process, through [`DriveRuns`]: who drives is the wiring's choice. Refuses to compile orchestrations: plans come ready.

use std::{collections::BTreeSet, time::Duration};

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
    broker::{Broker as _, BrokerError, Outgoing, PublishError, is_reserved},
    message::MAX_BODY,
    next::{self, Again, Member, Next},
    replays::CANCEL_FORGOTTEN,
    results::{Page, RunRecord, RunRow, StepFilter},
    state::Subject,
};
use spinor_executors::{BoxFuture, State as JobState, StepReport, plan::Plan};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Answer, ApiState, Problem, caller::Caller, cancel, check_cursor, id_of, jobs, new_run, query_of, steer};
use crate::config::{self, keys};

/// Plans that belong together, one for each node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// Its id; a fresh UUIDv7 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// For people: the file, or the batch's name.
    pub name: String,
    /// One for each node.
    pub plans: Vec<Plan>,
    /// A plan that has not started after this duration never will; 10 minutes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The run is given up after this duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// A run whose plans are on their way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedRun {
    /// The run.
    pub run: Uuid,
}

/// Cursor of a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListQuery {
    /// At most so many; 50 when absent.
    #[schemars(range(max = 1000))]
    limit: u32,
    /// The `next` of a page before this one.
    cursor: Option<String>,
}

/// Which steps.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StepQuery {
    /// On this node only.
    node: Option<String>,
    /// With what they printed.
    outputs: bool,
    /// Only those that did not succeed.
    problems: bool,
    /// At most so many; all when absent.
    limit: u32,
}

/// `GET /runs`.
pub(super) async fn list(
    State(state): State<ApiState>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Page<RunRow>> {
    let query = query_of(query)?;
    check_cursor(query.cursor.as_deref())?;
    let limit = if query.limit == 0 { 50 } else { query.limit.min(1000) };
    let mut page = state.results.runs(limit, query.cursor.as_deref()).await?;
    page.rows.iter_mut().for_each(|row| cancel::show_run(&state, row));
    Ok(Json(page))
}

/// `GET /runs/{id}`.
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Answer<RunRecord> {
    let id = id_of(path)?;
    check(&state, &caller, Role::Viewer, id).await?;
    let mut record = known(&state, id).await?.ok_or_else(|| unknown(id))?;
    cancel::show_run(&state, &mut record.row);
    record.jobs.iter_mut().for_each(|(_, job)| cancel::show(&state, job));
    Ok(Json(record))
}

/// Refuses a run unless the caller has this role for each of its jobs. Who has it everywhere is asked nothing.
pub(super) async fn check(state: &ApiState, caller: &Caller, role: Role, id: Uuid) -> Result<(), Problem> {
    if caller.has_everywhere(role) {
        return Ok(());
    }
    let record = known(state, id).await?.ok_or_else(|| unknown(id))?;
    // Members that nobody has published yet have no queue here. Jobs that only say that they are of this run are none.
    let published: BTreeSet<Uuid> = record.jobs.iter().map(|(_, job)| job.id).collect();
    if published.is_empty() || record.member_list.iter().any(|member| !published.contains(&member.job)) {
        caller.everywhere(role)?;
    }
    record.jobs.iter().try_for_each(|(_, job)| caller.may(role, &job.queue, &job.kind))
}

/// The record of a run; waits up to two seconds for one that is on its way to the record.
pub(super) async fn known(state: &ApiState, id: Uuid) -> Result<Option<RunRecord>, Problem> {
    let end = Instant::now() + Duration::from_secs(2);
    let mut pause = Duration::from_millis(20);
    loop {
        if let Some(record) = state.results.run(id).await? {
            return Ok(Some(record));
        }
        let next = Instant::now() + pause;
        if next > end || state.shutdown.is_cancelled() {
            return Ok(None);
        }
        sleep_until(next).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// What is said of an id that is not in the record.
pub(super) fn unknown(id: Uuid) -> Problem {
    Problem::not_found(format!("no run {id} is recorded here; `spinor runs ls` lists those that are"))
}

/// `GET /runs/{id}/steps`.
pub(super) async fn steps(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<StepQuery>, QueryRejection>,
) -> Answer<Vec<StepReport>> {
    let StepQuery { node, outputs, problems, limit } = query_of(query)?;
    let run = id_of(path)?;
    check(&state, &caller, Role::Viewer, run).await?;
    let filter = StepFilter { run, node, outputs, problems, limit };
    Ok(Json(state.results.steps(&filter).await?))
}

/// `GET /nodes`: those that answer a ping.
pub(super) async fn nodes(State(state): State<ApiState>) -> Answer<Vec<String>> {
    let nodes = state.runs.answering().await;
    nodes.map(Json).map_err(|why| Problem::new(503, "The nodes cannot be asked", why))
}

/// `POST /runs`: of jobs, or of plans; for these it answers once the run is announced and they are with the broker.
pub(super) async fn submit(
    State(state): State<ApiState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = jobs::body_of(body, &state)?;
    if new_run::is_one(&body) {
        return publish(&state, &caller, new_run::read(&body)?.check(Timestamp::now())?).await;
    }
    let new: NewRun =
        serde_json::from_slice(&body).map_err(|error| Problem::new(422, "Not a run", error.to_string()))?;
    // Plans run whatever they say on nodes that are nobody's alone.
    caller.everywhere(Role::Publisher)?;
    let order = checked(new)?;
    let run = order.id;
    let driving = state.runs.start(order, state.shutdown.clone());
    driving.await.map_err(|why| Problem::new(503, "The run was not started", why))?;
    Ok((StatusCode::CREATED, Json(SubmittedRun { run })).into_response())
}

/// Answers once the broker has the run: then it is driven, whoever dies.
async fn publish(state: &ApiState, caller: &Caller, new: next::NewRun) -> Result<Response, Problem> {
    let run = new.run;
    may_publish(caller, &new)?;
    known_queues(state, &new).await?;
    state.schemas.check_run(&new).await?;
    let outgoing = Next::Run(Box::new(new)).outgoing();
    let size = outgoing.message.body.len();
    if size > MAX_BODY {
        let detail = format!("{size} bytes, at most {MAX_BODY}; pass large args as the value of a member");
        return Err(Problem { field: Some("members".to_owned()), ..Problem::new(413, "The run is too large", detail) });
    }
    send(state, outgoing).await?;
    Ok((StatusCode::CREATED, Json(SubmittedRun { run })).into_response())
}

/// Refuses a run for whose members the caller may not publish; what undoes one is a member, too.
fn may_publish(caller: &Caller, new: &next::NewRun) -> Result<(), Problem> {
    let members = new.members.iter().enumerate().map(|(place, member)| (format!("members[{place}]"), member));
    let closing = [("then", &new.then), ("finally", &new.finally)];
    let closing = closing.into_iter().filter_map(|(name, member)| Some((name.to_owned(), member.as_deref()?)));
    for (place, member) in members.chain(closing) {
        for member in [Some(member), member.compensate.as_deref()].into_iter().flatten() {
            jobs::may_publish(caller, &member.job).map_err(|problem| problem.within(&place))?;
        }
    }
    Ok(())
}

async fn send(state: &ApiState, outgoing: Outgoing) -> Result<(), Problem> {
    let sent = state.broker.publish(vec![outgoing]).await.pop();
    Ok(sent.unwrap_or_else(|| Err(PublishError::Unconfirmed("the broker gave no answer".to_owned())))?)
}

/// A queue that does not exist is told now, and not by the member that meets it.
async fn known_queues(state: &ApiState, new: &next::NewRun) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    let undo = |member: &Member| member.compensate.as_deref().cloned();
    let members = new.members.iter().enumerate().flat_map(|(place, member)| {
        let field = format!("members[{place}]");
        let undo = undo(member).map(|undo| (format!("{field}.compensate"), undo.job.queue));
        [(field, member.job.queue.clone())].into_iter().chain(undo)
    });
    let closing = [("then", &new.then), ("finally", &new.finally)];
    let closing =
        closing.into_iter().filter_map(|(name, member)| Some((name.to_owned(), member.as_ref()?.job.queue.clone())));
    for (field, queue) in members.chain(closing) {
        if !seen.insert(queue.clone()) {
            continue;
        }
        // One that cannot be asked now may well take them.
        if let Err(BrokerError::Misconfigured(why)) = state.broker.stats(std::slice::from_ref(&queue)).await {
            return Err(Problem::field(format!("{field}.queue"), why));
        }
    }
    Ok(())
}

/// A retry that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetriedRun {
    /// The run.
    pub run: Uuid,
    /// Its replay number now.
    pub replay: u32,
}

/// `POST /runs/{id}/retry`: 202 once the broker has the order.
pub(super) async fn retry(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    let who = steer::read::<steer::Asked>(body, &state)?.check(&caller)?;
    check(&state, &caller, Role::Operator, id).await?;
    let record = known(&state, id).await?.ok_or_else(|| unknown(id))?;
    let refused = |why: &str| Problem::new(409, "It cannot be retried", format!("run {id} {why}"));
    if record.member_list.is_empty() {
        return Err(refused("is one of plans; run its file again"));
    }
    match (record.row.ended, record.row.succeeded) {
        (None, _) => return Err(refused("has not ended; cancel it first, or wait")),
        (_, Some(true)) => return Err(refused("has succeeded; there is nothing to do again")),
        _ => {}
    }
    // A cancel is a mark that holds until it is taken back: it would end the retry, too.
    let mut wishes = vec![Subject::CancelRun(id)];
    let cancelled = record.member_list.iter().filter(|member| member.state == JobState::Cancelled.word());
    wishes.extend(cancelled.map(|member| Subject::Cancel(member.job)));
    let mut forgotten = false;
    let any = wishes.len() > 1;
    for wish in wishes.iter().filter(|wish| any || state.marks.get(wish).is_some()) {
        forgotten |= steer::clear(&state, wish, &who).await?;
    }
    let replay = record.row.replay.saturating_add(1);
    let after_ms = forgotten.then(|| u64::try_from(CANCEL_FORGOTTEN.as_millis()).unwrap_or(u64::MAX));
    send(&state, Next::Again(Again { run: id, replay, after_ms }).outgoing()).await?;
    Ok((StatusCode::ACCEPTED, Json(RetriedRun { run: id, replay })).into_response())
}

fn checked(new: NewRun) -> Result<RunOrder, Problem> {
    if new.plans.is_empty() {
        return Err(Problem::field("plans", "is empty; a run has at least one plan"));
    }
    for (place, plan) in new.plans.iter().enumerate() {
        if !keys::is_name(&plan.node) || is_reserved(&plan.node) {
            return Err(Problem::field(
                format!("plans[{place}].node"),
                format!("expected {}", keys::Form::Name.expected()),
            ));
        }
    }
    let time = |field: &str, text: Option<String>| {
        let wrong = || Problem::field(field, "expected a duration such as \"10m\"");
        text.map(|text| config::duration(&text).ok_or_else(wrong)).transpose()
    };
    Ok(RunOrder {
        id: new.id.unwrap_or_else(Uuid::now_v7),
        name: new.name,
        plans: new.plans,
        expires: time("expires", new.expires)?.unwrap_or(Duration::from_secs(600)),
        timeout: time("timeout", new.timeout)?,
    })
}

/// A run to be driven.
#[derive(Clone, Debug)]
pub struct RunOrder {
    /// Its id.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// One for each node.
    pub plans: Vec<Plan>,
    /// A plan that has not started after this long never will.
    pub expires: Duration,
    /// The run is given up after this long.
    pub timeout: Option<Duration>,
}

/// Drives runs to their end. The caller of the trait is the API; who implements it is the wiring's choice.
pub trait DriveRuns: Send + Sync + 'static {
    /// The nodes that answer a ping, by name; or why they cannot be asked.
    fn answering(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;

    /// Starts a run; resolves when its plans are with the broker, and drives it on in the background
    /// until `leave`.
    fn start(&self, order: RunOrder, leave: CancellationToken) -> BoxFuture<'_, Result<(), String>>;
}
