//! `/triggers`: what fires when, and what people may do about it.
//!
//! Owns how orders are read and answered. Refuses to fire: the part `trigger` does, within a second of the
//! order; and to change what the configuration file says.

mod secrets;

use std::collections::BTreeSet;

use axum::{
    Json,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::Role,
    results::{Backfill, Backfilled, By, Change, Given, Leader, NotDone, TickRow, TriggerRow},
    trigger,
};
use uuid::Uuid;

use secrets::{hide_in, shown};

use super::{
    Answer, ApiState, Problem, bad_query,
    caller::Caller,
    delayed, jobs, new_job,
    new_source::NewItems,
    new_trigger::{self, NewTrigger},
    query_of,
    steer::{self, Asked, Name, Who},
};

/// So many coming and past instants are shown.
const SHOWN: u32 = 10;
const MOST: u32 = 1000;

/// Every trigger, and who fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Triggers {
    /// By name.
    pub triggers: Vec<TriggerRow>,
    /// Absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
}

/// One trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerShown {
    /// It.
    pub trigger: TriggerRow,
    /// Its coming instants, while it is active.
    pub coming: Vec<Timestamp>,
    /// Its last ones, the newest first.
    pub ticks: Vec<TickRow>,
    /// Its last changes, the newest first.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Who fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
}

/// A job that was fired by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FiredTick {
    /// The trigger.
    pub trigger: String,
    /// When.
    pub instant: Timestamp,
    /// The job; the part `trigger` publishes it.
    pub job: Uuid,
}

/// How much of a trigger is shown.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Shown {
    /// So many of its coming and of its last instants; 10 when absent.
    #[schemars(range(max = 1000))]
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
pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Answer<Triggers> {
    let (mut triggers, leader) = (state.results.triggers().await?, state.results.leader().await?);
    triggers.retain(|row| may(&caller, Role::Viewer, row).is_ok());
    triggers.iter_mut().for_each(|row| hide_in(&state, &mut row.asked));
    Ok(Json(Triggers { triggers, leader }))
}

/// `GET /triggers/{name}`: with its coming and its last instants, `limit` of each.
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    Name(name): Name,
    query: Result<Query<Shown>, QueryRejection>,
) -> Answer<TriggerShown> {
    let limit = query_of(query)?.limit.unwrap_or(SHOWN);
    if limit > MOST {
        return Err(bad_query("limit", &format!("is {limit}, expected at most {MOST}")));
    }
    let Some(row) = state.results.trigger(&name).await? else { return Err(unknown(&state, name).await?) };
    may(&caller, Role::Viewer, &row)?;
    let coming = coming(&row, limit as usize)?;
    let (ticks, leader) = (state.results.ticks(row.id, limit).await?, state.results.leader().await?);
    let mut changes = state.results.trigger_changes(&row.name, limit).await?;
    for was in changes.iter_mut().flat_map(|change| [&mut change.old, &mut change.new]).flatten() {
        hide_in(&state, &mut was.asked);
    }
    Ok(Json(TriggerShown { trigger: shown(&state, row), coming, ticks, changes, leader }))
}

/// Refuses a trigger for whose job the caller has not this role.
fn may(caller: &Caller, role: Role, row: &TriggerRow) -> Result<(), Problem> {
    if caller.has_everywhere(role) {
        return Ok(());
    }
    let asked: NewTrigger = row.asked.read().map_err(|error| Problem::new(500, "No trigger", error.to_string()))?;
    let job = asked.check()?.job;
    caller.may(role, &job.queue, &job.kind)
}

/// The same for one by name; who names one that is not there is told so by what follows.
async fn may_named(state: &ApiState, caller: &Caller, name: &str) -> Result<(), Problem> {
    if caller.has_everywhere(Role::Operator) {
        return Ok(());
    }
    match state.results.trigger(name).await? {
        Some(row) => may(caller, Role::Operator, &row),
        None => Ok(()),
    }
}

/// There is none: those there are are named.
async fn unknown(state: &ApiState, name: String) -> Result<Problem, Problem> {
    let known = state.results.triggers().await?.into_iter().map(|row| row.name).take(20).collect();
    let mut detail = NotDone::Unknown(name.clone()).to_string();
    if let Some(last) = state.results.trigger_changes(&name, 1).await?.first().filter(|last| last.what == "removed") {
        detail += &format!(": {} removed it at {}", last.by, last.at.round(jiff::Unit::Second).unwrap_or(last.at));
    }
    Ok(steer::no_such(detail, known))
}

fn coming(row: &TriggerRow, limit: usize) -> Result<Vec<Timestamp>, Problem> {
    let Some(first) = row.next else { return Ok(Vec::new()) };
    let asked: NewTrigger = row.asked.read().map_err(|error| Problem::new(500, "No trigger", error.to_string()))?;
    let spec = asked.check()?;
    let left = spec.max_runs.map_or(u64::MAX, |most| most.saturating_sub(row.fired));
    let schedule = spec.schedule().map_err(|error| Problem::field(error.field, error.what))?;
    let most = if schedule.counts_from_end() { 1 } else { limit };
    let most = most.min(usize::try_from(left).unwrap_or(usize::MAX));
    Ok(std::iter::successors(Some(first), |at| schedule.coming(*at)).take(most).collect())
}

async fn given(state: &ApiState, caller: &Caller, name: String, new: &NewTrigger) -> Result<(Given, Who), Problem> {
    new_job::name("name", &name)?;
    let who = Asked { by: new.by.clone(), why: new.why.clone() }.check(caller)?;
    if matches!(new.items()?, NewItems::Asked(_)) {
        let why = "is a list here: only the configuration file may say `sql` or `command`, which its consumers run";
        return Err(Problem::field("each", why));
    }
    let spec = new.check()?;
    caller.may(Role::Operator, &spec.job.queue, &spec.job.kind)?;
    jobs::own::may_kind(caller, Role::Operator, &spec.job.kind)?;
    spec.job.reply_to.as_deref().map_or(Ok(()), |queue| caller.may_queue(Role::Operator, queue))?;
    state.schemas.check_secrets(&spec.job.kind, &spec.job.args).map_err(|problem| problem.within("job"))?;
    if !trigger::has_words(&spec.job.args) {
        state.schemas.checking().check(&spec.job).await.map_err(|problem| problem.within("job"))?;
    }
    let queue = BTreeSet::from([spec.job.queue.as_str()]);
    if let Some((_, problem)) = delayed::missing(state, queue).await.pop_first() {
        return Err(problem.within("job"));
    }
    if let (Some(at), Ok(schedule)) = (&new.at, spec.schedule())
        && schedule.next(Timestamp::now()).is_none()
    {
        return Err(Problem::field(
            "at",
            format!("`{}` is past; `spinor publish` publishes a job now", super::clip(at)),
        ));
    }
    Ok((Given { name, spec }, who))
}

fn by(who: &Who) -> By<'_> {
    By { who: &who.by, why: who.why.as_deref() }
}

/// `POST /triggers`.
pub(super) async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<TriggerRow> {
    let new: NewTrigger = steer::read(body, &state)?;
    let name = new.name.clone().ok_or_else(|| Problem::field("name", "is missing"))?;
    let (given, who) = given(&state, &caller, name, &new).await?;
    let row = state.results.put_trigger(&given, false, by(&who)).await?;
    tracing::info!(trigger = given.name, by = who.by, why = who.why, "A trigger was added by a command.");
    Ok(Json(shown(&state, row)))
}

/// `PUT /triggers/{name}`: this in the place of what it was.
pub(super) async fn edit(
    State(state): State<ApiState>,
    caller: Caller,
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
    let (given, who) = given(&state, &caller, name, &new).await?;
    may_named(&state, &caller, &given.name).await?;
    let row = state.results.put_trigger(&given, true, by(&who)).await?;
    tracing::info!(trigger = given.name, by = who.by, why = who.why, "A trigger was edited by a command.");
    Ok(Json(shown(&state, row)))
}

/// `POST /triggers/{name}/pause`.
pub(super) async fn pause(
    State(state): State<ApiState>,
    caller: Caller,
    Name(name): Name,
    who: Who,
) -> Answer<TriggerRow> {
    may_named(&state, &caller, &name).await?;
    let row = state.results.pause_trigger(&name, by(&who)).await?;
    tracing::info!(trigger = name, by = who.by, why = who.why, "A trigger is paused by a command.");
    Ok(Json(shown(&state, row)))
}

/// What `resume` forgets.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Resume {
    /// The job that the next one may not overlap.
    free: bool,
}

/// `POST /triggers/{name}/resume`: from now on.
pub(super) async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    Name(name): Name,
    query: Result<Query<Resume>, QueryRejection>,
    who: Who,
) -> Answer<TriggerRow> {
    let Resume { free } = query_of(query)?;
    may_named(&state, &caller, &name).await?;
    let row = state.results.resume_trigger(&name, free, by(&who)).await?;
    tracing::info!(trigger = name, by = who.by, why = who.why, "A trigger is resumed by a command.");
    Ok(Json(shown(&state, row)))
}

/// `POST /triggers/{name}/fire`: now, beside its schedule.
pub(super) async fn fire(
    State(state): State<ApiState>,
    caller: Caller,
    Name(name): Name,
    who: Who,
) -> Answer<FiredTick> {
    may_named(&state, &caller, &name).await?;
    let tick = state.results.fire_trigger(&name, by(&who)).await?;
    tracing::info!(trigger = name, job = %tick.job, by = who.by, why = who.why, "A trigger is fired by a command.");
    Ok(Json(FiredTick { trigger: tick.name, instant: tick.instant, job: tick.job }))
}

/// What is to be fired of a span that is past.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewBackfill {
    /// From this instant on (RFC 3339).
    pub from: Option<String>,
    /// Up to this one (RFC 3339).
    pub to: Option<String>,
    /// So many instants are looked at, at most 1000; at most 100 of those that fire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Nothing fires; the instants are told.
    pub dry_run: bool,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// And why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// `POST /triggers/{name}/backfill`: a step of it; whoever asks goes on from `next`.
pub(super) async fn backfill(
    State(state): State<ApiState>,
    caller: Caller,
    Name(name): Name,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Backfilled> {
    let new: NewBackfill = steer::read(body, &state)?;
    let moment = |field: &str, text: &Option<String>| {
        new_trigger::moment(field, text.as_deref())?.ok_or_else(|| Problem::field(field, "is missing"))
    };
    let (from, to) = (moment("from", &new.from)?, moment("to", &new.to)?);
    if to < from {
        return Err(Problem::field("to", format!("{to} is before `from` {from}")));
    }
    let limit = new.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::field("limit", format!("is {limit}, expected 1 to 1000")));
    }
    let who = Asked { by: new.by.clone(), why: new.why.clone() }.check(&caller)?;
    let asked = Backfill { from, to, limit, dry_run: new.dry_run };
    may_named(&state, &caller, &name).await?;
    let done = match state.results.backfill_trigger(&name, asked, by(&who)).await {
        Err(NotDone::Unknown(name)) => return Err(unknown(&state, name).await?),
        done => done?,
    };
    if !new.dry_run && !done.instants.is_empty() {
        tracing::info!(trigger = name, %from, %to, by = who.by, why = who.why, "A trigger is backfilled by a command.");
    }
    Ok(Json(done))
}

/// `DELETE /triggers/{name}`: with its history; jobs that it fired go on.
pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Name(name): Name,
    who: Who,
) -> Answer<TriggerRow> {
    may_named(&state, &caller, &name).await?;
    let row = state.results.remove_trigger(&name, by(&who)).await?;
    tracing::info!(trigger = name, by = who.by, why = who.why, "A trigger is removed by a command.");
    Ok(Json(shown(&state, row)))
}

/// A metric: its name, kind, help, and samples with their labels.
type Metric = (&'static str, &'static str, &'static str, Vec<(String, u64)>);

/// What `/metrics` tells of triggers; nothing while the results database does not answer.
pub(super) async fn metrics(state: &ApiState) -> Vec<Metric> {
    let ask = async {
        let states = state.results.trigger_states().await.ok()?;
        Some((state.results.tick_counts().await.ok()?, states, state.results.leader().await.ok()?))
    };
    let asked = tokio::time::timeout(std::time::Duration::from_secs(2), ask).await.ok().flatten();
    let Some((counts, states, leader)) = asked else { return Vec::new() };
    let one = |value: u64| vec![(String::new(), value)];
    let why = |why: &str, value: u64| (format!("{{why=\"{why}\"}}"), value);
    let skipped = vec![why("missed", counts.missed), why("overlap", counts.overlap), why("blackout", counts.blackout)];
    let states = states.into_iter().map(|(state, count)| (format!("{{state=\"{state}\"}}"), count)).collect();
    let alive = leader.as_ref().is_some_and(|leader| leader.alive);
    let since = leader.filter(|leader| leader.alive).and_then(|leader| u64::try_from(leader.since.as_second()).ok());
    vec![
        (
            "spinor_trigger_fired_total",
            "counter",
            "Instants whose jobs were published, of all processes.",
            one(counts.fired),
        ),
        ("spinor_trigger_late_total", "counter", "Of these, more than a second after their time.", one(counts.late)),
        ("spinor_trigger_skipped_total", "counter", "Instants that did not fire, by why.", skipped),
        ("spinor_triggers", "gauge", "Triggers, by their state.", states),
        ("spinor_trigger_leader_up", "gauge", "1 while a process fires triggers.", one(u64::from(alive))),
        (
            "spinor_trigger_leader_since_seconds",
            "gauge",
            "Since when it does, in seconds since 1970.",
            since.map_or_else(Vec::new, one),
        ),
    ]
}
