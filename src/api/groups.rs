//! `/consumers/groups` and `/groups`: the consumers that share work, how many are wanted, and the
//! figures by which somebody else may decide that.
//!
//! Owns the marks of a whole group: replicas, slots, drain. Refuses to start or end a process: who
//! makes the number true is told by the mark.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    broker::Broker,
    state::{Kind, Subject, Wish},
};
use tokio::time::timeout;

use super::{
    Answer, ApiState, Problem,
    caller::Caller,
    consumers::{self, ConsumerRow, ConsumersMarked},
    steer::{self, Name, Who},
};

/// No group has more.
const MOST_REPLICAS: u32 = 1000;
/// The broker and the record are asked for figures no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Consumers that share work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupRow {
    /// Its name.
    pub group: String,
    /// How many consumers it shall have; absent when nobody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// Who said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_by: Option<Wish>,
    /// How many take jobs.
    pub running: u32,
    /// How many take none any more, and end.
    pub draining: u32,
    /// How many were not heard for 20 s: they have died, most likely, and are forgotten after a minute.
    #[serde(default)]
    pub silent: u32,
    /// How many jobs those that take some run at once, all together.
    pub slots: u32,
    /// How many each was told to run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots_wanted: Option<u32>,
    /// How many jobs they run.
    pub busy: u32,
    /// `busy` by `slots`; 0 without slots.
    pub busy_ratio: f64,
    /// The queues they take jobs from.
    pub queues: Vec<GroupQueue>,
    /// What whoever asked for a number should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What waits for a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupQueue {
    /// The queue.
    pub queue: String,
    /// Jobs that wait there; absent when the broker does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<u64>,
    /// Jobs that consumers have in hand, started or not; absent when the broker does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unacked: Option<u64>,
    /// Seconds since the oldest job was created that has not started, one on a delay left out; absent when
    /// none waits, or when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_seconds: Option<u64>,
    /// Who paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Wish>,
}

/// How many consumers a group shall have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewScale {
    /// So many; `null`: nobody cares any more.
    pub replicas: Option<u32>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// `GET /consumers/groups`.
pub(super) async fn list(State(state): State<ApiState>) -> Answer<Vec<GroupRow>> {
    rows(&state).await.map(Json)
}

/// `POST /groups/{name}/scale`: the number is noted; who makes it true is told.
pub(super) async fn scale(
    State(state): State<ApiState>,
    caller: Caller,
    Name(group): Name,
    body: Result<Bytes, BytesRejection>,
) -> Answer<GroupRow> {
    let NewScale { replicas, by, why } = steer::read_with("replicas", body, &state)?;
    let who = steer::Asked { by, why }.check(&caller)?;
    let subject = Subject::Replicas(group.clone());
    match replicas {
        Some(replicas) if replicas > MOST_REPLICAS => {
            return Err(Problem::field("replicas", format!("is {replicas}, expected 0 to {MOST_REPLICAS}")));
        }
        Some(replicas) => _ = steer::set(&state, &subject, replicas.into(), &who).await?,
        None => _ = steer::clear(&state, &subject, &who).await?,
    }
    let mut row = one(&state, &group).await?;
    let nobody = row.running + row.draining + row.silent == 0 && group != state.config.consumer.group;
    row.note = (replicas.is_some() && nobody)
        .then(|| "no consumer of this group is known; the number is kept for when one starts".to_owned());
    Ok(Json(row))
}

/// `POST /groups/{name}/slots`: of each of its consumers.
pub(super) async fn slots(
    State(state): State<ApiState>,
    caller: Caller,
    Name(group): Name,
    body: Result<Bytes, BytesRejection>,
) -> Answer<ConsumersMarked> {
    let new = steer::read_with("slots", body, &state)?;
    let consumers = members(&state, &group).await?;
    if consumers.is_empty() && group != state.config.consumer.group {
        let known: Vec<String> = rows(&state).await?.into_iter().map(|row| row.group).collect();
        if !known.contains(&group) {
            let detail = format!("no such consumer: no group `{group}` is known");
            return Err(Problem { known, ..Problem::not_found(detail) });
        }
    }
    let wish = consumers::mark_slots(&state, &caller, Subject::Slots(group), new).await?;
    Ok(Json(ConsumersMarked { consumers, wish, note: None }))
}

/// `POST /groups/{name}/drain`: all that are alive now; those that start later are not meant.
pub(super) async fn drain(State(state): State<ApiState>, Name(group): Name, who: Who) -> Answer<ConsumersMarked> {
    let consumers = members(&state, &group).await?;
    let mut wish = None;
    for consumer in &consumers {
        wish = Some(steer::set(&state, &Subject::Drain(consumer.clone()), true.into(), &who).await?);
    }
    if consumers.is_empty() {
        let known = rows(&state).await?.into_iter().map(|row| row.group).collect();
        return Err(steer::no_such(format!("no consumer of the group `{group}` is alive"), known));
    }
    let note = after_drain(&state, &group).await?;
    Ok(Json(ConsumersMarked { consumers, wish, note }))
}

/// What a drain leaves of a group, where that is not what it was: who asked for a number gets others,
/// and else nobody is started.
pub(super) async fn after_drain(state: &ApiState, group: &str) -> Result<Option<String>, Problem> {
    if let Some(wanted @ 1..) = state.marks.number(&[Subject::Replicas(group.to_owned())]) {
        return Ok(Some(format!("{wanted} are wanted in the group `{group}`: another one is started in its place")));
    }
    let left = consumers::rows(state).await?;
    let left = left.iter().filter(|row| row.group == group && !row.draining && !row.is_silent()).count();
    Ok((left == 0).then(|| {
        format!(
            "no consumer of the group `{group}` is left then, and its jobs wait: `spinor consumers scale {group} \
             --replicas 1` has one started, now and whenever one ends; so does a restart of `spinor up`"
        )
    }))
}

async fn members(state: &ApiState, group: &str) -> Result<Vec<String>, Problem> {
    let rows = consumers::rows(state).await?;
    Ok(rows.into_iter().filter(|row| row.group == group).map(|row| row.consumer).collect())
}

async fn one(state: &ApiState, group: &str) -> Result<GroupRow, Problem> {
    let none = || GroupRow { group: group.to_owned(), ..GroupRow::default() };
    Ok(rows(state).await?.into_iter().find(|row| row.group == group).unwrap_or_else(none))
}

/// Groups that have a consumer, or of which somebody wants something, by name.
pub(super) async fn rows(state: &ApiState) -> Result<Vec<GroupRow>, Problem> {
    let mut groups: BTreeMap<String, Vec<ConsumerRow>> = BTreeMap::new();
    for row in consumers::rows(state).await? {
        groups.entry(row.group.clone()).or_default().push(row);
    }
    for mark in [Kind::Replicas, Kind::Slots].into_iter().flat_map(|kind| state.marks.all(kind)) {
        match mark.subject {
            // The slots of one consumer are no matter of a group's.
            Subject::Replicas(name) | Subject::Slots(name) if !name.contains('@') => {
                groups.entry(name).or_default();
            }
            _ => {}
        }
    }
    let mut rows: Vec<GroupRow> = groups.into_iter().map(|(group, consumers)| row(state, group, &consumers)).collect();
    waiting(state, &mut rows).await;
    Ok(rows)
}

fn row(state: &ApiState, group: String, consumers: &[ConsumerRow]) -> GroupRow {
    let wanted = state.marks.get(&Subject::Replicas(group.clone()));
    let (silent, heard): (Vec<_>, Vec<_>) = consumers.iter().partition(|row| row.is_silent());
    let (draining, running): (Vec<&ConsumerRow>, Vec<_>) = heard.into_iter().partition(|row| row.draining);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let slots = running.iter().map(|row| row.slots).sum();
    let busy = running.iter().map(|row| row.busy).sum();
    let mut queues: BTreeSet<&String> = consumers.iter().flat_map(|row| &row.queues).collect();
    if group == state.config.consumer.group {
        // So that it can be told from nothing at all whether one is needed.
        queues.extend(&state.config.consumer.queues);
    }
    GroupRow {
        wanted: state.marks.number(&[Subject::Replicas(group.clone())]),
        wanted_by: wanted.map(Wish::from),
        running: count(running.len()),
        draining: count(draining.len()),
        silent: count(silent.len()),
        slots,
        slots_wanted: state.marks.number(&[Subject::Slots(group.clone())]),
        busy,
        busy_ratio: if slots == 0 { 0.0 } else { f64::from(busy) / f64::from(slots) },
        queues: queues.into_iter().map(|queue| GroupQueue { queue: queue.clone(), ..GroupQueue::default() }).collect(),
        group,
        note: None,
    }
}

/// What waits for them; broker and record may be away.
async fn waiting(state: &ApiState, rows: &mut [GroupRow]) {
    let names: BTreeSet<String> =
        rows.iter().flat_map(|row| row.queues.iter().map(|queue| queue.queue.clone())).collect();
    let names: Vec<String> = names.into_iter().collect();
    let (stats, oldest) =
        tokio::join!(timeout(PATIENCE, state.broker.stats(&names)), timeout(PATIENCE, state.results.oldest_queued()));
    let stats = stats.ok().and_then(Result::ok).unwrap_or_default();
    let stats: BTreeMap<&str, _> = stats.iter().map(|stats| (stats.name.as_str(), stats)).collect();
    let oldest: BTreeMap<String, Timestamp> =
        oldest.ok().and_then(Result::ok).unwrap_or_default().into_iter().collect();
    let now = Timestamp::now();
    for queue in rows.iter_mut().flat_map(|row| &mut row.queues) {
        queue.paused = state.marks.get(&Subject::Pause(queue.queue.clone())).map(Wish::from);
        if let Some(stats) = stats.get(queue.queue.as_str()) {
            (queue.ready, queue.unacked) = (Some(stats.ready), stats.unacked);
        }
        let age = oldest.get(&queue.queue).map(|created| now.duration_since(*created).as_secs());
        queue.oldest_seconds = age.map(|age| u64::try_from(age).unwrap_or(0));
    }
}

/// A gauge: its name, what it is, its samples by labels.
pub(super) type Gauge = (&'static str, &'static str, Vec<(String, u64)>);

/// The same figures for `/metrics`, of so many groups at most that no scraper is harmed.
pub(super) async fn gauges(state: &ApiState) -> Vec<Gauge> {
    const MOST_GROUPS: usize = 200;
    let mut rows = timeout(PATIENCE, rows(state)).await.ok().and_then(Result::ok).unwrap_or_default();
    rows.truncate(MOST_GROUPS);
    let safe = |text: &str| text.replace(['"', '\\', '\n'], "_");
    let group = |row: &GroupRow, rest: &str| format!("{{group=\"{}\"{rest}}}", safe(&row.group));
    let each = |value: &dyn Fn(&GroupRow) -> Option<u32>| -> Vec<(String, u64)> {
        rows.iter().filter_map(|row| Some((group(row, ""), value(row)?.into()))).collect()
    };
    let mut consumers = Vec::new();
    let mut oldest = BTreeMap::new();
    for row in &rows {
        for (state, number) in [("running", row.running), ("draining", row.draining), ("silent", row.silent)] {
            consumers.push((group(row, &format!(",state=\"{state}\"")), number.into()));
        }
        for queue in &row.queues {
            oldest.extend(queue.oldest_seconds.map(|age| (format!("{{queue=\"{}\"}}", safe(&queue.queue)), age)));
        }
    }
    vec![
        ("spinor_group_consumers", "Consumers of a group that are alive, by what they do.", consumers),
        ("spinor_group_wanted", "Consumers a group shall have, where somebody said so.", each(&|row| row.wanted)),
        (
            "spinor_group_slots",
            "Jobs that the running consumers of a group take at once.",
            each(&|row| Some(row.slots)),
        ),
        ("spinor_group_busy", "Jobs that the running consumers of a group run.", each(&|row| Some(row.busy))),
        (
            "spinor_queue_oldest_seconds",
            "Age of the oldest job of a queue that has not started, those on a delay not included.",
            oldest.into_iter().collect(),
        ),
    ]
}
