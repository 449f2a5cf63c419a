//! `/locks`, `/limits` and `/keys`: what holds jobs back across all consumers, and what may be done about it.
//!
//! Owns where the bounds of a limit come from: a mark, else the configuration of this process.
//! Refuses to count: State does.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    marks::Bound,
    state::{InUse, Key, KeyFilter, Kind, Limit, Subject, Wish},
};
use uuid::Uuid;

use super::{
    Answer, ApiState, Problem, bad_query,
    caller::Caller,
    clip, new_job, query_of,
    steer::{self, Who},
};
use crate::config;

/// At most so many limits are listed.
const MOST_LIMITS: u32 = 1000;
/// Where the bounds of a limit come from that nobody bounded.
const NOWHERE: &str = "nowhere";
/// Of so many jobs it is known that they count against a limit.
const MOST_HOLDERS: u32 = 1000;
/// And so many are named.
const NAMED_HOLDERS: usize = 3;

/// What holds jobs back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Locks {
    /// Limits by name, at most 1000 of those in use.
    pub limits: Vec<LimitRow>,
    /// Unique keys by name.
    pub keys: Vec<KeyRow>,
    /// Pass it as `after` to go on with the keys; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitRow {
    /// Its name; `name:key` counts apart under the bounds of `name`.
    pub name: String,
    /// So many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// So many in each such time: `100/1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Where its bounds come from: `command`, `configuration` of the process that answers, or `nowhere`.
    pub from: String,
    /// Who set them, when it was a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Wish>,
    /// So many jobs count against it now.
    pub in_use: u64,
    /// Would one more job have to wait?
    pub full: bool,
    /// What the configuration of the process that answers says, while a command counts in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<String>,
}

/// A unique key that a job has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRow {
    /// The key.
    pub key: String,
    /// The job it belongs to.
    pub job: Uuid,
    /// For how long at most.
    pub until: Timestamp,
}

/// New bounds of a limit: at least one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewLimit {
    /// So many at once; 0 = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// So many in each such time: `100/1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Which keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LockFilter {
    /// Those that start so.
    pub prefix: String,
    /// Those after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many; 0 means 100, at most 1000.
    pub limit: u32,
}

/// `GET /locks`.
pub(super) async fn list(
    State(state): State<ApiState>,
    query: Result<Query<LockFilter>, QueryRejection>,
) -> Answer<Locks> {
    let LockFilter { prefix, after, limit } = query_of(query)?;
    if limit > 1000 {
        return Err(bad_query("limit", &format!("is {limit}, expected at most 1000")));
    }
    let limit = if limit == 0 { 100 } else { limit };
    // One more than asked for means that there is a next page.
    let filter = KeyFilter { prefix, after, limit: limit + 1 };
    let mut keys = steer::state_of(&state)?.keys(&filter).await?;
    let more = keys.len() > limit as usize;
    keys.truncate(limit as usize);
    let next = keys.last().filter(|_| more).map(|key| key.name.clone());
    let row = |Key { name, job, until }| KeyRow { key: name, job, until };
    Ok(Json(Locks { limits: limits(&state).await?, keys: keys.into_iter().map(row).collect(), next }))
}

/// Every limit that is bounded somewhere or in use.
async fn limits(state: &ApiState) -> Result<Vec<LimitRow>, Problem> {
    let none = |name: &str| InUse { key: name.to_owned(), held: 0, due_in: std::time::Duration::ZERO };
    let mut all: BTreeMap<String, InUse> = BTreeMap::new();
    for in_use in steer::state_of(state)?.in_use(MOST_LIMITS).await? {
        all.insert(in_use.key.clone(), in_use);
    }
    let marked = state.marks.all(Kind::Limit).into_iter().filter_map(|mark| match mark.subject {
        Subject::Limit(name) => Some(name),
        _ => None,
    });
    for name in marked.chain(configured(state).keys().cloned()) {
        all.entry(name.clone()).or_insert_with(|| none(&name));
    }
    let rows = all.values().map(|in_use| row(state, in_use));
    // What nobody bounds and nobody has is only remembered.
    Ok(rows.filter(|row| row.from != NOWHERE || row.in_use > 0).collect())
}

fn row(state: &ApiState, in_use: &InUse) -> LimitRow {
    let name = in_use.key.clone();
    let (bound, from, set) = match bound(state, &name) {
        Some((bound, Some(set))) => (bound, "command", Some(set)),
        Some((bound, None)) => (bound, "configuration", None),
        None => (Bound::default(), NOWHERE, None),
    };
    let hidden = configured(state).get(&name).filter(|_| set.is_some());
    LimitRow {
        configured: hidden.map(bounds_text),
        full: limit(&name, &bound).is_full(in_use),
        at_once: bound.at_once,
        rate: bound.rate_ms.map(config::rate_text),
        from: from.to_owned(),
        set,
        in_use: in_use.held,
        name,
    }
}

fn configured(state: &ApiState) -> &BTreeMap<String, Bound> {
    &state.config.limits
}

/// The bounds of a limit as consumers see them: its own, else those of the name before the colon; in each
/// case a mark before the configuration.
fn bound(state: &ApiState, name: &str) -> Option<(Bound, Option<Wish>)> {
    let base = name.split_once(':').map_or(name, |(base, _)| base);
    [name, base].into_iter().find_map(|name| {
        let set = state.marks.get(&Subject::Limit(name.to_owned())).map(Wish::from);
        match state.marks.bound(name) {
            Some(bound) => Some((bound, set)),
            None => Some((configured(state).get(name)?.clone(), None)),
        }
    })
}

fn limit(name: &str, bound: &Bound) -> Limit {
    let rate = bound.rate_ms.map(|(count, millis)| (count, std::time::Duration::from_millis(millis)));
    Limit { key: name.to_owned(), at_once: bound.at_once, rate }
}

/// What of these limits concerns a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// It counts against this one already.
    Itself(String),
    /// This one is full: the words for it.
    Full(String),
}

/// Whether a job has its place under these limits, or which is the first that is full; `Err` when State
/// does not say.
pub(super) async fn counted(state: &ApiState, job: Uuid, names: &[String]) -> Result<Option<Counted>, Problem> {
    let store = steer::state_of(state)?;
    let in_use = store.in_use(MOST_LIMITS).await?;
    let mut full = None;
    for name in names {
        let Some((bound, set)) = bound(state, name) else { continue };
        let none = InUse { key: name.clone(), held: 0, due_in: std::time::Duration::ZERO };
        let used = in_use.iter().find(|in_use| in_use.key == *name).unwrap_or(&none);
        let holders = store.holders(name, MOST_HOLDERS).await?;
        if holders.contains(&job) {
            return Ok(Some(Counted::Itself(name.clone())));
        }
        if full.is_none() && limit(name, &bound).is_full(used) {
            full = Some(Counted::Full(full_text(name, &bound, set.as_ref(), used, &holders)));
        }
    }
    Ok(full)
}

fn bounds_text(bound: &Bound) -> String {
    let at_once = bound.at_once.map(|most| format!("{most} at once"));
    let bounds: Vec<String> = at_once.into_iter().chain(bound.rate_ms.map(config::rate_text)).collect();
    bounds.join(", ")
}

/// Which limit is full, for which key, by whose word, and who has its places.
fn full_text(name: &str, bound: &Bound, set: Option<&Wish>, used: &InUse, holders: &[Uuid]) -> String {
    let mut text = match name.split_once(':') {
        Some((base, key)) => format!("the limit `{base}` is used up for the key `{key}`"),
        None => format!("the limit `{name}` is used up"),
    };
    text += &format!(" (`{name}`: {}", bounds_text(bound));
    text += &set.map_or_else(|| ", by the configuration)".to_owned(), |set| format!(", set {set})"));
    let named: Vec<String> = holders.iter().take(NAMED_HOLDERS).map(Uuid::to_string).collect();
    let more = used.held.saturating_sub(named.len() as u64);
    match (named.is_empty(), more) {
        (true, _) if bound.at_once == Some(0) => text += ", which lets none start",
        (true, _) => text += ", by jobs that have ended: its rate lets the next one start soon",
        (false, 0) => text += &format!(", by {}", named.join(", ")),
        (false, more) => text += &format!(", by {} and {more} more", named.join(", ")),
    }
    text
}

/// `PUT /limits/{name}`.
pub(super) async fn set(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<LimitRow> {
    let name = limit_of(path)?;
    let NewLimit { at_once, rate, by, why } = steer::read(body, &state)?;
    let who = steer::Asked { by, why }.check(&caller)?;
    let rate_ms = rate.as_deref().map(|text| {
        let wrong = || Problem::field("rate", format!("`{}`: expected a rate such as \"100/1m\"", clip(text)));
        config::rate(text).ok_or_else(wrong)
    });
    let bound = Bound { at_once, rate_ms: rate_ms.transpose()? };
    if bound == Bound::default() {
        return Err(Problem::field("at_once", "and `rate` are missing; a limit has one of them, or both"));
    }
    let value = serde_json::to_value(&bound).map_err(|error| Problem::new(500, "No JSON", error.to_string()))?;
    steer::set(&state, &Subject::Limit(name.clone()), value, &who).await?;
    one(&state, name).await
}

/// `DELETE /limits/{name}`: what the configuration says holds again, else nothing.
pub(super) async fn unset(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    who: Who,
) -> Answer<LimitRow> {
    let name = limit_of(path)?;
    if !steer::clear(&state, &Subject::Limit(name.clone()), &who).await? {
        let detail = match configured(&state).contains_key(&name) {
            true => format!("the limit `{name}` is set by the configuration alone, `limits.{name}`; change it there"),
            false => format!("there is no limit `{name}`; `spinor locks ls` lists those there are"),
        };
        return Err(steer::no_such(detail, Vec::new()));
    }
    one(&state, name).await
}

async fn one(state: &ApiState, name: String) -> Answer<LimitRow> {
    let in_use = steer::state_of(state)?.in_use(MOST_LIMITS).await?.into_iter().find(|in_use| in_use.key == name);
    let none = InUse { key: name, held: 0, due_in: std::time::Duration::ZERO };
    Ok(Json(row(state, &in_use.unwrap_or(none))))
}

fn limit_of(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let name = steer::text_of(path)?;
    new_job::check_limit("name", &name)?;
    Ok(name)
}

/// `DELETE /keys/{key}`: another job may have it at once; the one it belonged to goes on.
pub(super) async fn free(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    who: Who,
) -> Answer<KeyRow> {
    let key = steer::text_of(path)?;
    let unknown = || steer::no_such(format!("nobody has the key `{}`", clip(&key)), Vec::new());
    let store = steer::state_of(&state)?;
    let filter = KeyFilter { prefix: key.clone(), after: None, limit: 1 };
    let held = store.keys(&filter).await?.into_iter().find(|held| held.name == key).ok_or_else(unknown)?;
    if !store.free_key(&key, held.job).await? {
        return Err(unknown());
    }
    tracing::info!(key, job = %held.job, by = who.by, why = who.why, "A unique key was freed by a command.");
    Ok(Json(KeyRow { key, job: held.job, until: held.until }))
}
