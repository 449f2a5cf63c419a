//! `/consumers`: who is alive, what it runs, and what people want of it: drain, slots.
//!
//! Read from what consumers say of themselves (`State`) and from the marks. Refuses to start or end
//! a process; its groups, and how many consumers each shall have, are `groups`'.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection, rejection::PathRejection},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    marks::Marks,
    state::{Present, RunningJob, Subject, WaitingJob, Wish},
};

use super::{
    Answer, ApiState, Problem,
    caller::Caller,
    clip, groups,
    steer::{self, Who},
};

/// A consumer beats every 5 s; one that missed three and more is not counted as running.
const SILENT_MS: u64 = 20_000;

/// A consumer that is alive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumerRow {
    /// Its name, another one after each start.
    pub consumer: String,
    /// Its group.
    pub group: String,
    /// The machine it runs on.
    pub host: String,
    /// The process it runs in.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// What its configuration says of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// The queues it takes jobs from.
    pub queues: Vec<String>,
    /// The kinds it runs: names and patterns.
    pub kinds: Vec<String>,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// How many it was told to run at once, by a mark for it or its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots_wanted: Option<u32>,
    /// How many jobs it runs.
    pub busy: u32,
    /// What it runs: a hundred of them at most.
    pub running: Vec<RunningJob>,
    /// What it sent back to its queue for a while: a hundred of the last ones at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingJob>,
    /// Does it take no more jobs, or shall it?
    pub draining: bool,
    /// Who told it to drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_requested: Option<Wish>,
    /// Does it take jobs, and why not.
    pub intake: String,
    /// When it started, by its own clock.
    pub started: Timestamp,
    /// Milliseconds since it was heard last.
    pub silent_ms: u64,
}

impl ConsumerRow {
    /// Has it missed several beats? Then it is dead, or State or its machine is slow.
    pub fn is_silent(&self) -> bool {
        self.silent_ms > SILENT_MS
    }
}

/// How many jobs to run at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewSlots {
    /// So many; `null`: what the configuration says.
    pub slots: Option<u32>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What was noted of a consumer or of the consumers of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumersMarked {
    /// The consumers it concerns now.
    pub consumers: Vec<String>,
    /// Who asked; absent when a wish was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<Wish>,
    /// What comes of it that whoever asked should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `GET /consumers`.
pub(super) async fn list(State(state): State<ApiState>) -> Answer<Vec<ConsumerRow>> {
    Ok(Json(rows(&state).await?))
}

/// `GET /consumers/{name}`.
pub(super) async fn show(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<ConsumerRow> {
    one(&state, &steer::text_of(path)?).await.map(Json)
}

/// `POST /consumers/{name}/drain`.
pub(super) async fn drain(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    who: Who,
) -> Answer<ConsumersMarked> {
    let row = one(&state, &steer::text_of(path)?).await?;
    let wish = steer::set(&state, &Subject::Drain(row.consumer.clone()), true.into(), &who).await?;
    let note = groups::after_drain(&state, &row.group).await?;
    Ok(Json(ConsumersMarked { consumers: vec![row.consumer], wish: Some(wish), note }))
}

/// `POST /consumers/{name}/slots`.
pub(super) async fn slots(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<ConsumersMarked> {
    let row = one(&state, &steer::text_of(path)?).await?;
    let wish =
        mark_slots(&state, &caller, Subject::Slots(row.consumer.clone()), steer::read_with("slots", body, &state)?)
            .await?;
    Ok(Json(ConsumersMarked { consumers: vec![row.consumer], wish, note: None }))
}

/// Sets or clears the number of slots of a consumer or a group.
pub(super) async fn mark_slots(
    state: &ApiState,
    caller: &Caller,
    subject: Subject,
    new: NewSlots,
) -> Result<Option<Wish>, Problem> {
    let NewSlots { slots, by, why } = new;
    let who = steer::Asked { by, why }.check(caller)?;
    match slots {
        Some(slots @ 1..=4096) => steer::set(state, &subject, slots.into(), &who).await.map(Some),
        Some(slots) => Err(Problem::field("slots", format!("is {slots}, expected 1 to 4096"))),
        None => steer::clear(state, &subject, &who).await.map(|_| None),
    }
}

/// Those alive, by name.
pub(super) async fn rows(state: &ApiState) -> Result<Vec<ConsumerRow>, Problem> {
    let present = steer::state_of(state)?.consumers().await?;
    Ok(present.into_iter().map(|present| row(present, &state.marks)).collect())
}

async fn one(state: &ApiState, name: &str) -> Result<ConsumerRow, Problem> {
    let mut rows = rows(state).await?;
    match rows.iter().position(|row| row.consumer == name) {
        Some(at) => Ok(rows.swap_remove(at)),
        None => {
            let known = rows.into_iter().map(|row| row.consumer).take(50).collect();
            let detail = format!("no consumer `{}` is alive; those that ended are gone after a minute", clip(name));
            Err(steer::no_such(detail, known))
        }
    }
}

fn row(Present { beat, ago, .. }: Present, marks: &Marks) -> ConsumerRow {
    let drain_requested = marks.get(&Subject::Drain(beat.consumer.clone())).map(Wish::from);
    let slots_wanted = marks.number(&[Subject::Slots(beat.consumer.clone()), Subject::Slots(beat.group.clone())]);
    ConsumerRow {
        draining: beat.draining || drain_requested.is_some(),
        drain_requested,
        slots_wanted,
        consumer: beat.consumer,
        group: beat.group,
        host: beat.host,
        pid: beat.pid,
        version: beat.version,
        labels: beat.labels,
        queues: beat.queues,
        kinds: beat.kinds,
        slots: beat.slots,
        busy: beat.busy,
        running: beat.running,
        waiting: beat.waiting,
        intake: beat.intake,
        started: beat.started,
        silent_ms: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX),
    }
}
