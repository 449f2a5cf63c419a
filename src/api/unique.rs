//! Unique publishing: a job that has a key is published only while no other job has it.
//!
//! Owns what happens to one that finds its key taken, and that a key whose job ended without giving it
//! back is taken over: the record is asked about its holder. A publish that certainly failed gives
//! its key back; one that may have been stored keeps it. Without State no such job is published.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::state::{KeyFilter, KeyTaken, OnTaken, State, Subject};
use spinor_executors::Unique;
use uuid::Uuid;

use super::{ApiState, BatchItem, Problem, caller::Caller, cancel, jobs::own, new_job::Checked, steer};

/// So many keys of a batch are asked for at a time.
const AT_ONCE: usize = 32;
/// A key that changes hands each time we look is left alone.
const TRIES: usize = 5;

/// A unique key as people ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUnique {
    /// The key, across all queues and kinds: 1 to 200 bytes.
    pub key: String,
    /// For how long at most; 24 h when absent, at most 30 days.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasting: Option<String>,
    /// Until when the key is kept.
    #[serde(default)]
    pub until: Until,
    /// What to do when another job has it.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// Until when a key is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// To the job's end, whatever that is.
    #[default]
    End,
    /// For its whole time, whether or not the job has ended.
    Window,
}

/// What to do when another job has the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Refuse the new job.
    #[default]
    Reject,
    /// Cancel the other job and publish the new one.
    Replace,
    /// Answer with the other job's id.
    Return,
}

/// How a key is taken for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// For how long at most.
    pub lasting: Duration,
    /// What to do when another job has it.
    pub on_conflict: OnConflict,
    /// Did the publisher name the id? Then the key may be the job's since an earlier try.
    pub named: bool,
}

/// Whether a job may be published now.
pub(super) enum Admitted {
    /// Yes. The key was taken just now, or was the job's before.
    Yes { fresh: bool },
    /// It was answered already.
    Answered(BatchItem),
}

/// Takes the keys of those jobs that have one, the first of a batch before the others.
pub(super) async fn admit(state: &ApiState, caller: &Caller, jobs: &[Checked]) -> Vec<Admitted> {
    let mut admitted: Vec<Admitted> = jobs.iter().map(|_| Admitted::Yes { fresh: false }).collect();
    let mut by_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, Checked { job, .. }) in jobs.iter().enumerate() {
        if let Some(unique) = &job.unique {
            by_key.entry(&unique.key).or_default().push(at);
        }
    }
    let work = stream::iter(by_key.into_values()).map(|places| async move {
        let mut answers = Vec::with_capacity(places.len());
        for at in places {
            let answer = match one(state, caller, &jobs[at]).await {
                Ok(answer) => answer,
                Err(problem) => Admitted::Answered(BatchItem {
                    id: jobs[at].job.id,
                    queue: jobs[at].job.queue.clone(),
                    existing: false,
                    problem: Some(problem),
                }),
            };
            answers.push((at, answer));
        }
        answers
    });
    let answers: Vec<Vec<(usize, Admitted)>> = work.buffer_unordered(AT_ONCE).collect().await;
    for (at, answer) in answers.into_iter().flatten() {
        admitted[at] = answer;
    }
    admitted
}

async fn one(state: &ApiState, caller: &Caller, Checked { job, wanted, .. }: &Checked) -> Result<Admitted, Problem> {
    let (Some(Unique { key, .. }), Some(wanted)) = (&job.unique, wanted) else {
        return Ok(Admitted::Yes { fresh: false });
    };
    let store = steer::state_of(state).map_err(away)?;
    if wanted.named && has(store, key, job.id).await? {
        return Ok(Admitted::Yes { fresh: false });
    }
    for _ in 0..TRIES {
        let taken = store.take_key(key, job.id, wanted.lasting, OnTaken::Keep).await.map_err(Problem::from);
        let (holder, until) = match taken.map_err(away)? {
            KeyTaken::By { job: holder, until } => (holder, until),
            KeyTaken::Mine | KeyTaken::Replaced { .. } => return Ok(Admitted::Yes { fresh: true }),
        };
        let held = holding(state, key, holder).await?;
        if let Held::Over = held {
            // Whoever frees it first; then all may want it again.
            store.free_key(key, holder).await?;
            continue;
        }
        let queue = match held {
            Held::On { queue } => queue,
            _ => None,
        };
        match wanted.on_conflict {
            OnConflict::Reject => {
                let detail = format!("the unique key `{key}` belongs to job {holder} until it ends or until {until}");
                return Err(Problem { job: Some(holder), ..Problem::new(409, "The key is taken", detail) });
            }
            OnConflict::Return => {
                let queue = queue.unwrap_or_else(|| job.queue.clone());
                return Ok(Admitted::Answered(BatchItem { id: holder, queue, existing: true, problem: None }));
            }
            OnConflict::Replace => {
                own::may_replace(state, caller, holder).await?;
                return replace((state, caller), store, job.id, (key, wanted), holder).await;
            }
        }
    }
    let detail = format!("the unique key `{key}` goes from job to job; try again");
    Err(Problem::new(503, "The key is taken", detail))
}

/// The job that has the key shall end; then the key is the new one's. In this order: were the new
/// one published first, both could run.
async fn replace(
    (state, caller): (&ApiState, &Caller),
    store: &State,
    id: Uuid,
    (key, wanted): (&str, &Wanted),
    holder: Uuid,
) -> Result<Admitted, Problem> {
    let why = format!("job {id} replaces it under the unique key `{key}`");
    let who = steer::Who { by: caller.acts_as(None).unwrap_or_else(|| "api".to_owned()), why: Some(why) };
    cancel::request(state, &Subject::Cancel(holder), &who).await?;
    let taken = store.take_key(key, id, wanted.lasting, OnTaken::Replace).await.map_err(Problem::from);
    if let KeyTaken::Replaced { job } = taken.map_err(away)?
        && job != holder
    {
        // It changed hands meanwhile.
        if let Err(problem) = own::may_replace(state, caller, job).await {
            give_back(state, key, id).await;
            return Err(problem);
        }
        cancel::request(state, &Subject::Cancel(job), &who).await?;
    }
    Ok(Admitted::Yes { fresh: true })
}

/// What the record says of the job that has a key.
enum Held {
    /// It has ended, and its key was to be given back then.
    Over,
    /// It has not, or the key is kept for its time, or the record does not know it yet.
    On { queue: Option<String> },
}

async fn holding(state: &ApiState, key: &str, holder: Uuid) -> Result<Held, Problem> {
    let Some(record) = state.results.job(holder).await? else { return Ok(Held::On { queue: None }) };
    let gives_back = |unique: &Unique| unique.until_end && unique.key == key;
    let gives_back = record.job.as_ref().and_then(|job| job.unique.as_ref()).is_some_and(gives_back);
    if record.row.state.is_final() && gives_back {
        return Ok(Held::Over);
    }
    Ok(Held::On { queue: Some(record.row.queue) })
}

/// Has the job this key already?
async fn has(store: &State, key: &str, job: Uuid) -> Result<bool, Problem> {
    let filter = KeyFilter { prefix: key.to_owned(), after: None, limit: 1 };
    let keys = store.keys(&filter).await.map_err(Problem::from).map_err(away)?;
    Ok(keys.iter().any(|held| held.name == key && held.job == job))
}

/// The publish failed for certain: the key is nobody's.
pub(super) async fn give_back(state: &ApiState, key: &str, job: Uuid) {
    let freed = match steer::state_of(state) {
        Ok(store) => store.free_key(key, job).await.map(drop).map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    if let Err(problem) = freed {
        tracing::warn!(key, %job, why = problem.detail, "A job was not published, and its unique key could not be given back; it ends at its time, or by `spinor locks free`.");
    }
}

/// With what a publisher can do about it.
fn away(problem: Problem) -> Problem {
    if problem.status != 503 {
        return problem;
    }
    let detail = format!("{}; a job with a unique key is not published without it, others are", problem.detail);
    Problem { detail, ..problem }
}

/// The key's own form.
pub(super) fn check_key(key: &str) -> Result<(), Problem> {
    match key {
        "" => Err(Problem::field("unique.key", "is empty")),
        key if key.len() > 200 => Err(Problem::field("unique.key", "is longer than 200 bytes")),
        key if key.chars().any(char::is_control) => Err(Problem::field("unique.key", "holds control characters")),
        _ => Ok(()),
    }
}

impl NewUnique {
    /// A key with everything else by default.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }
}
