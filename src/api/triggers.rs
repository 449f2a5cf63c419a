//! `/triggers`: what fires when, and what people may do about it.
//!
//! Owns how orders are read and answered. Refuses to fire: the part `trigger` does, within a second of the
//! order; and to change what the configuration file says.

use axum::{
    Json,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spinor_consumers::results::{Given, Leader, NotDone, TickRow, TriggerRow};
use uuid::Uuid;

use super::{
    Answer, ApiState, Problem, bad_query, new_job,
    new_trigger::NewTrigger,
    query_of,
    steer::{self, Asked, Name, Who},
};

/// So many coming and past instants are shown.
const SHOWN: u32 = 10;
const MOST: u32 = 1000;

/// Every trigger, and who fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Triggers {
    /// By name.
    pub triggers: Vec<TriggerRow>,
    /// Absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
}

/// One trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerShown {
    /// It.
    pub trigger: TriggerRow,
    /// Its coming instants, while it is active.
    pub coming: Vec<Timestamp>,
    /// Its last ones, the newest first.
    pub ticks: Vec<TickRow>,
    /// Who fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
}

/// A job that was fired by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiredTick {
    /// The trigger.
    pub trigger: String,
    /// When.
    pub instant: Timestamp,
    /// The job; the part `trigger` publishes it.
    pub job: Uuid,
}

/// How much of a trigger is shown.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Shown {
    limit: Option<u32>,
}

impl From<NotDone> for Problem {
    fn from(error: NotDone) -> Self {
        let detail = error.to_string();
        match error {
            NotDone::Taken(_) => Self { field: Some("name".to_owned()), ..Self::new(409, "It is there", detail) },
            NotDone::Unknown(_) => steer::no_such(detail, Vec::new()),
            NotDone::FromFile(_) => Self::new(409, "It comes from the configuration", detail),
            NotDone::Busy(job) => Self { job: Some(job), ..Self::new(409, "An earlier job runs", detail) },
            NotDone::Wrong(_) => Self::new(409, "It cannot be done", detail),
            NotDone::Results(error) => error.into(),
        }
    }
}

/// `GET /triggers`.
pub(super) async fn list(State(state): State<ApiState>) -> Answer<Triggers> {
    let (triggers, leader) = (state.results.triggers().await?, state.results.leader().await?);
    Ok(Json(Triggers { triggers, leader }))
}

/// `GET /triggers/{name}`: with its coming and its last instants, `limit` of each.
pub(super) async fn show(
    State(state): State<ApiState>,
    Name(name): Name,
    query: Result<Query<Shown>, QueryRejection>,
) -> Answer<TriggerShown> {
    let limit = query_of(query)?.limit.unwrap_or(SHOWN);
    if limit > MOST {
        return Err(bad_query("limit", &format!("is {limit}, expected at most {MOST}")));
    }
    let Some(row) = state.results.trigger(&name).await? else { return Err(unknown(&state, name).await?) };
    let coming = coming(&row, limit as usize)?;
    let (ticks, leader) = (state.results.ticks(row.id, limit).await?, state.results.leader().await?);
    Ok(Json(TriggerShown { trigger: row, coming, ticks, leader }))
}

/// There is none: those there are are named.
async fn unknown(state: &ApiState, name: String) -> Result<Problem, Problem> {
    let known = state.results.triggers().await?.into_iter().map(|row| row.name).take(20).collect();
    Ok(steer::no_such(NotDone::Unknown(name).to_string(), known))
}

fn coming(row: &TriggerRow, limit: usize) -> Result<Vec<Timestamp>, Problem> {
    let Some(first) = row.next else { return Ok(Vec::new()) };
    let asked: NewTrigger = row.asked.read().map_err(|error| Problem::new(500, "No trigger", error.to_string()))?;
    let spec = asked.check()?;
    let left = spec.max_runs.map_or(u64::MAX, |most| most.saturating_sub(row.fired));
    let schedule = spec.schedule().map_err(|error| Problem::field(error.field, error.what))?;
    let most = limit.min(usize::try_from(left).unwrap_or(usize::MAX));
    Ok(std::iter::successors(Some(first), |at| schedule.next(*at)).take(most).collect())
}

fn given(name: String, new: &NewTrigger) -> Result<(Given, String), Problem> {
    new_job::name("name", &name)?;
    let by = Asked { by: new.by.clone(), why: None }.check()?.by;
    let spec = new.check()?;
    if let (Some(at), Ok(schedule)) = (&new.at, spec.schedule())
        && schedule.next(Timestamp::now()).is_none()
    {
        return Err(Problem::field(
            "at",
            format!("`{}` is past; `spinor publish` publishes a job now", super::clip(at)),
        ));
    }
    Ok((Given { name, spec }, by))
}

/// `POST /triggers`.
pub(super) async fn add(State(state): State<ApiState>, body: Result<Bytes, BytesRejection>) -> Answer<TriggerRow> {
    let new: NewTrigger = steer::read(body, &state)?;
    let name = new.name.clone().ok_or_else(|| Problem::field("name", "is missing"))?;
    let (given, by) = given(name, &new)?;
    let row = state.results.put_trigger(&given, false, &by).await?;
    tracing::info!(trigger = given.name, by, "A trigger was added by a command.");
    Ok(Json(row))
}

/// `PUT /triggers/{name}`: this in the place of what it was.
pub(super) async fn edit(
    State(state): State<ApiState>,
    Name(name): Name,
    body: Result<Bytes, BytesRejection>,
) -> Answer<TriggerRow> {
    let new: NewTrigger = steer::read(body, &state)?;
    if let Some(other) = new.name.as_ref().filter(|other| **other != name) {
        return Err(Problem::field(
            "name",
            format!("`{}` is another one; a trigger keeps its name", super::clip(other)),
        ));
    }
    let (given, by) = given(name, &new)?;
    let row = state.results.put_trigger(&given, true, &by).await?;
    tracing::info!(trigger = given.name, by, "A trigger was edited by a command.");
    Ok(Json(row))
}

/// `POST /triggers/{name}/pause`.
pub(super) async fn pause(State(state): State<ApiState>, Name(name): Name, who: Who) -> Answer<TriggerRow> {
    let row = state.results.pause_trigger(&name, &who.by).await?;
    tracing::info!(trigger = name, by = who.by, why = who.why, "A trigger is paused by a command.");
    Ok(Json(row))
}

/// What `resume` forgets.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Resume {
    /// The job that the next one may not overlap.
    free: bool,
}

/// `POST /triggers/{name}/resume`: from now on.
pub(super) async fn resume(
    State(state): State<ApiState>,
    Name(name): Name,
    query: Result<Query<Resume>, QueryRejection>,
    who: Who,
) -> Answer<TriggerRow> {
    let Resume { free } = query_of(query)?;
    let row = state.results.resume_trigger(&name, free, &who.by).await?;
    tracing::info!(trigger = name, by = who.by, why = who.why, "A trigger is resumed by a command.");
    Ok(Json(row))
}

/// `POST /triggers/{name}/fire`: now, beside its schedule.
pub(super) async fn fire(State(state): State<ApiState>, Name(name): Name, who: Who) -> Answer<FiredTick> {
    let tick = state.results.fire_trigger(&name).await?;
    tracing::info!(trigger = name, job = %tick.job, by = who.by, why = who.why, "A trigger is fired by a command.");
    Ok(Json(FiredTick { trigger: tick.name, instant: tick.instant, job: tick.job }))
}

/// `DELETE /triggers/{name}`: with its history; jobs that it fired go on.
pub(super) async fn remove(State(state): State<ApiState>, Name(name): Name, who: Who) -> Answer<TriggerRow> {
    let row = state.results.remove_trigger(&name).await?;
    tracing::info!(trigger = name, by = who.by, why = who.why, "A trigger is removed by a command.");
    Ok(Json(row))
}
