//! `/dead` and the replay of one job: dead letters are listed, read, started anew and removed.
//!
//! Owns what a person may change of a job that is started anew. Refuses to remove what no filter
//! names, unless all is asked for.

mod some;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection, rejection::PathRejection, rejection::QueryRejection},
    http::StatusCode,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use spinor_consumers::{
    access::Role,
    message::{self, Properties},
    replays::{Edit, ReplayError, Replayed, Replays},
    results::{DeadFilter, DeadLetter, Page},
};
use spinor_executors::{Job, Json as Args};
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

use super::{
    Answer, ApiState, Problem, bad_query,
    caller::Caller,
    check_cursor,
    failures::{fingerprint_of, past},
    id_of, jobs,
    new_job::{name, queue_name},
    query_of,
    steer::{self, Asked},
};

/// A count goes no further.
const COUNTED: u32 = 1_000_000;
/// A request removes no more; the next one goes on.
const REMOVED: u64 = 100_000;

/// Which dead letters, as it is asked in a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Letters {
    /// From this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// With this fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Whose reason starts with this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Dead at this instant or later, or so long ago at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Dead at this instant or earlier, or so long ago at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// For a list: at most so many; 0 means 50, at most 1000.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u32,
    /// For a list: where a page before this one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// For a removal: all of them, when nothing else is named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// For a removal: only count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
pub(super) const fn none_left(number: &u64) -> bool {
    *number == 0
}

impl Letters {
    fn filter(&self, now: Timestamp) -> Result<DeadFilter, Problem> {
        if self.limit > 1000 {
            return Err(bad_query("limit", &format!("is {}, expected at most 1000", self.limit)));
        }
        check_cursor(self.cursor.as_deref())?;
        let time = |field, text: &Option<String>| text.as_ref().map(|text| past(field, text, now)).transpose();
        Ok(DeadFilter {
            queue: self.queue.clone(),
            kind: self.kind.clone(),
            fingerprint: self.fingerprint.as_deref().map(fingerprint_of).transpose()?,
            reason: self.reason.clone(),
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            limit: self.limit,
            cursor: self.cursor.clone(),
        })
    }
}

/// A dead letter with its message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadRecord {
    /// The line of the list.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The message's properties and headers.
    pub properties: Properties,
    /// The message's body; for a job, its args. Bytes that are no text are written as `\xNN`.
    pub body: String,
    /// The body's length in bytes.
    pub bytes: usize,
    /// Is it a job, or rubbish?
    pub is_job: bool,
}

/// How many dead letters were removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// So many.
    pub letters: u64,
    /// So many match that the caller may not remove.
    #[serde(default, skip_serializing_if = "none_left")]
    pub left: u64,
    /// There are more: ask again.
    pub more: bool,
    /// Nothing was removed.
    pub dry_run: bool,
    /// Those that died after this were not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What is changed of a job that is started anew, and who wants it. All may be absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewReplay {
    /// Another kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Another queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Other arguments; `null` is one.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub args: Option<Args>,
    /// A name, for the record; `api` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Args>, D::Error> {
    Args::deserialize(from).map(Some)
}

/// A job that was started anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayedJob {
    /// The job.
    pub id: Uuid,
    /// Its queue.
    pub queue: String,
    /// Its replay number now.
    pub replay: u32,
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        let detail = error.to_string();
        match error {
            ReplayError::Unknown(_) => Self::not_found(detail),
            ReplayError::NotEnded(_) => Self::new(409, "Not ended", detail),
            ReplayError::KeyTaken { .. } => Self::new(409, "The unique key is taken", detail),
            ReplayError::NoJob(no) => match no.field {
                Some(field) => Self::field(field, detail),
                None => Self::new(422, "Not a job", detail),
            },
            ReplayError::NotYours { .. } => Self::new(403, "Not allowed", detail),
            ReplayError::Publish(error) => error.into(),
            ReplayError::Results(error) => error.into(),
            ReplayError::State(_) => Self::new(503, "State is not available", detail),
        }
    }
}

/// `GET /dead`.
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Result<Query<Letters>, QueryRejection>,
) -> Answer<Page<DeadLetter>> {
    let asked = query_of(query)?;
    for (field, is_set) in [("all", asked.all), ("dry_run", asked.dry_run)] {
        if is_set {
            return Err(bad_query(field, "is for a removal"));
        }
    }
    let filter = asked.filter(Timestamp::now())?;
    let read = |cursor| {
        let (results, filter) = (state.results.clone(), DeadFilter { cursor, ..filter.clone() });
        async move { Ok(results.dead(&filter).await?) }
    };
    let page = caller.page(filter.cursor.clone(), read, |letter: &DeadLetter| (&letter.queue, &letter.kind)).await?;
    Ok(Json(page))
}

/// `GET /dead/{id}`.
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Answer<DeadRecord> {
    let id = id_of(path)?;
    let (message, letter) = state.results.letter(id).await?.ok_or_else(|| unknown(id))?;
    caller.may(Role::Viewer, &letter.queue, &letter.kind)?;
    let job = message::decode(&message, &letter.queue, None, letter.at).ok().filter(|_| letter.attempt > 0);
    let is_job = job.is_some();
    let apart = job.map(|decoded| Job { id: letter.job, ..decoded.job }).filter(|job| job.args_ref.is_some());
    // Args that lie apart and cannot be read are shown as the message has them.
    let apart = match apart {
        Some(job) => state.blobs.fetch(job).await.ok().map(|job| job.args.bytes().clone()),
        None => None,
    };
    let mut shown = apart.unwrap_or_else(|| message.body.clone());
    // A body that is no JSON is no args, whatever its kind.
    let args = std::str::from_utf8(&shown).ok().and_then(|text| Args::new(text.to_owned()).ok());
    if let Some(hidden) = args.and_then(|args| state.schemas.hidden().hide(&letter.kind, &args)) {
        shown = hidden.bytes().clone();
    }
    let body = match std::str::from_utf8(&shown) {
        Ok(text) => text.to_owned(),
        Err(_) => shown.escape_ascii().to_string(),
    };
    Ok(Json(DeadRecord { letter, properties: message.properties, bytes: shown.len(), body, is_job }))
}

/// `DELETE /dead`: all that match.
pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    query: Result<Query<Letters>, QueryRejection>,
) -> Answer<Removed> {
    let asked = query_of(query)?;
    if asked.limit > 0 || asked.cursor.is_some() {
        return Err(bad_query(if asked.limit > 0 { "limit" } else { "cursor" }, "is for a list"));
    }
    let now = Timestamp::now();
    let mut filter = asked.filter(now)?;
    if filter == DeadFilter::default() && !asked.all {
        return Err(bad_query("all", "nothing says which dead letters; name some, or set `all=true`"));
    }
    if !caller.has_everywhere(Role::Operator) {
        return some::remove(&state, &caller, filter, asked.dry_run, now).await.map(Json);
    }
    if asked.dry_run {
        let letters = state.results.dead_count(&filter, COUNTED).await?;
        return Ok(Json(Removed {
            letters,
            left: 0,
            more: letters >= u64::from(COUNTED),
            dry_run: true,
            until: filter.until,
        }));
    }
    // What dies meanwhile stays.
    filter.until = Some(filter.until.unwrap_or(now));
    let mut letters = 0;
    loop {
        let gone = state.results.remove_dead(&filter).await?;
        letters += gone;
        if gone == 0 || letters >= REMOVED {
            tracing::info!(letters, "Dead letters were removed.");
            return Ok(Json(Removed { letters, left: 0, more: gone > 0, dry_run: false, until: filter.until }));
        }
    }
}

/// `DELETE /dead/{id}`.
pub(super) async fn remove_one(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Removed> {
    let id = id_of(path)?;
    let (_, letter) = state.results.letter(id).await?.ok_or_else(|| unknown(id))?;
    caller.may(Role::Operator, &letter.queue, &letter.kind)?;
    let letters = state.results.unbury(&[(id, u32::MAX)]).await?;
    if letters == 0 {
        return Err(unknown(id));
    }
    Ok(Json(Removed { letters, left: 0, more: false, dry_run: false, until: None }))
}

/// `POST /dead/{id}/replay`.
pub(super) async fn replay(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ReplayedJob>), Problem> {
    let (id, body) = (id_of(path)?, jobs::body_of(body, &state)?);
    let (_, letter) = state.results.letter(id).await?.ok_or_else(|| unknown(id))?;
    let published = state.results.source(id).await?.and_then(|source| source.job).map(|job| (job.queue, job.kind));
    let of = std::iter::once((letter.queue, letter.kind)).chain(published).collect();
    anew(&state, &caller, id, of, &body).await
}

/// `POST /jobs/{id}/replay`.
pub(super) async fn replay_job(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ReplayedJob>), Problem> {
    let (id, body) = (id_of(path)?, jobs::body_of(body, &state)?);
    // One that was just published is on its way to the record: then it has not ended.
    let known = jobs::known(&state, id).await?;
    let own = |(queue, kind): (&str, &str)| (queue.to_owned(), kind.to_owned());
    let of = known.map(|record| jobs::own::of(&record).into_iter().map(own).collect());
    let of = of.unwrap_or_else(|| vec![Default::default()]);
    anew(&state, &caller, id, of, &body).await
}

/// `of`: the queue and the kind of the job as it was, by all who tell them.
async fn anew(
    state: &ApiState,
    caller: &Caller,
    id: Uuid,
    of: Vec<(String, String)>,
    body: &[u8],
) -> Result<(StatusCode, Json<ReplayedJob>), Problem> {
    let NewReplay { kind, queue, args, by } = steer::read_text(body)?;
    for (was_on, was) in &of {
        caller.may(Role::Operator, was_on, was)?;
        let kind = kind.as_ref().unwrap_or(was);
        caller.may(Role::Operator, queue.as_ref().unwrap_or(was_on), kind)?;
        jobs::own::may_kind(caller, Role::Operator, kind)?;
        // What hides its secrets is its kind.
        if args.is_none() && kind != was && !was.is_empty() && state.schemas.hidden().has_some(was) {
            let why = format!("are missing: those of the kind `{was}` hold secrets, which another kind would show");
            return Err(Problem::field("args", why));
        }
    }
    kind.as_deref().map(|kind| name("kind", kind)).transpose()?;
    queue.as_deref().map(queue_name).transpose()?;
    if let Some(args) = &args {
        holds(state, id, kind.as_deref(), args).await?;
    }
    let (edit, by, within) = (Edit { kind, queue, args }, who(caller, by)?, caller.bounds(Role::Operator));
    let replayed = replays(state).one(id, &edit, &by, &within).await?;
    is_told(state, &replayed).await;
    let answer = ReplayedJob { id: replayed.id, queue: replayed.queue, replay: replayed.replay };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Other args are held against the schemas of the kind that they are for.
async fn holds(state: &ApiState, id: Uuid, kind: Option<&str>, args: &spinor_executors::Json) -> Result<(), Problem> {
    let kind = match kind {
        Some(kind) => kind.to_owned(),
        None => match state.results.letter(id).await? {
            Some((_, letter)) => letter.kind,
            None => state.results.job(id).await?.map(|record| record.row.kind).unwrap_or_default(),
        },
    };
    state.schemas.checking().check(&Job::new(&kind, "", args.clone())).await
}

/// Waits up to two seconds for the record to know it, so that who waits for the end now, or lists,
/// does not meet the end before.
async fn is_told(state: &ApiState, replayed: &Replayed) {
    let end = Instant::now() + Duration::from_secs(2);
    let mut pause = Duration::from_millis(10);
    while Instant::now() + pause < end && !state.shutdown.is_cancelled() {
        let source = state.results.source(replayed.id).await;
        if source.is_ok_and(|source| source.is_some_and(|source| source.replay >= replayed.replay)) {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// What starts jobs anew.
pub(super) fn replays(state: &ApiState) -> Replays {
    Replays::new(state.broker.clone(), state.results.clone(), state.state.clone())
}

/// Who wants it.
pub(super) fn who(caller: &Caller, by: Option<String>) -> Result<String, Problem> {
    Ok(Asked { by, why: None }.check(caller)?.by)
}

fn unknown(id: Uuid) -> Problem {
    Problem::not_found(format!("no dead letter {id} is here; `spinor dead ls` lists those that are"))
}
