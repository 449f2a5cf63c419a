//! Requests that are sent again: under the header `Idempotency-Key` the first answer is given again.
//!
//! Owns which operations remember what they answered, whose a key is, and what is said of one that is in work, was lost, or
//! stood for another request. A request without the header goes straight through. What is begun under a key goes on
//! when its client hangs up, so that there is an answer when it comes back. Refuses to do the work itself.

use std::{pin::pin, sync::atomic::Ordering};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest as _, FromRequestParts as _, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts, uri::PathAndQuery},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use ring::digest;
use spinor_consumers::results::{ANSWER_CLAIMED, Claimed, Keyed, ResultsError};
use tokio::time::{Instant, interval_at};
use uuid::Uuid;

use super::{ApiState, Operation, Problem, caller::Caller, jobs};

/// The header, as people write it.
pub(super) const HEADER: &str = "Idempotency-Key";
/// What an answer that is given again carries.
const GIVEN_AGAIN: &str = "idempotent-replayed";
/// No key is longer.
pub(super) const LONGEST: usize = 255;
/// What is past its time is looked for so often, in seconds.
const PRUNED_EACH: i64 = 60;

/// The operations that do something more when they are asked again.
const REMEMBERED: [&str; 8] = [
    "publishJobs",
    "replayJob",
    "replayDead",
    "orderReplay",
    "submitRun",
    "retryRun",
    "fireTrigger",
    "backfillTrigger",
];
/// Those of them that do the same again when what was begun is done once more.
const ALIKE: [&str; 1] = ["publishJobs"];

/// Is the answer of this operation remembered under a key?
pub(super) fn is_remembered(operation: &Operation) -> bool {
    REMEMBERED.contains(&operation.name)
}

/// From which the ids of what is made under a key follow: the same ones each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed {
    id: Uuid,
    /// Was it begun before?
    pub(super) again: bool,
}

impl Seed {
    /// The id of the job at this place: a UUIDv7, as others are.
    pub(super) fn id(&self, place: usize) -> Uuid {
        if place == 0 {
            return self.id;
        }
        let mut bytes = Uuid::new_v5(&self.id, &place.to_le_bytes()).into_bytes();
        bytes[..8].copy_from_slice(&self.id.as_bytes()[..8]);
        Uuid::from_bytes(bytes)
    }
}

/// A layer of the routes of such operations.
pub(super) async fn remember(
    State((state, operation)): State<(ApiState, &'static Operation)>,
    request: Request,
    next: Next,
) -> Response {
    if !request.headers().contains_key(HEADER) {
        return next.run(request).await;
    }
    answered(&state, operation, request, next).await.unwrap_or_else(Problem::into_response)
}

async fn answered(
    state: &ApiState,
    operation: &'static Operation,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, state).await?;
    let key = key_of(&parts.headers)?;
    let body = Bytes::from_request(Request::from_parts(parts.clone(), body), state).await;
    let body = jobs::body_of(body, state)?;
    let keyed = Keyed { name: hash(&[whose(&caller).as_bytes(), &key]), request: asked(&parts, &body) };
    prune(state);
    let holder = Uuid::now_v7();
    let claimed = state.results.claim_answer(&keyed, holder, ALIKE.contains(&operation.name)).await;
    let seed = match claimed.map_err(away)? {
        Claimed::Mine { seed, again } => Seed { id: seed, again },
        Claimed::Answered { status, body } => return given_again(status, body),
        Claimed::InWork => return Err(in_work()),
        Claimed::Other => {
            return Err(Problem::field(HEADER, "stood for another request before; give each its own key"));
        }
        Claimed::Lost(since) => return Err(lost(since)),
    };
    parts.extensions.insert(seed);
    let work = Work { state: state.clone(), keyed, holder };
    let task = state.tasks.spawn(work.run(Request::from_parts(parts, Body::from(body)), next));
    task.await.map_err(|error| Problem::new(500, "A fault of Spinor's", error.to_string()))
}

fn key_of(headers: &HeaderMap) -> Result<Vec<u8>, Problem> {
    let wrong = || Problem::field(HEADER, format!("expected one key, of 1 to {LONGEST} visible characters of ASCII"));
    let mut keys = headers.get_all(HEADER).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(wrong()) };
    let is_one = |key: &[u8]| (1..=LONGEST).contains(&key.len()) && key.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if is_one(key.as_bytes()) { Ok(key.as_bytes().to_vec()) } else { Err(wrong()) }
}

/// Somebody with a name has keys of its own; the others have the key of the house, and share theirs.
fn whose(caller: &Caller) -> String {
    if caller.has_name() { format!("{} {}", caller.how().word(), caller.name()) } else { String::new() }
}

fn asked(parts: &Parts, body: &[u8]) -> [u8; 32] {
    // Not how the server is called: that is the same one by another name.
    let asked = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    hash(&[parts.method.as_str().as_bytes(), asked.as_bytes(), body])
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn given_again(status: u16, body: Option<Vec<u8>>) -> Result<Response, Problem> {
    let Some(body) = body else {
        let why = format!("this was done and answered {status}; the answer was too large to be kept");
        return Err(Problem::new(409, "It was done", why));
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(GIVEN_AGAIN, HeaderValue::from_static("true"));
    Ok(response)
}

fn in_work() -> Problem {
    let why = "a request with this key is in work; send it again in a moment, and it is answered as that one is";
    Problem { field: Some(HEADER.to_owned()), ..Problem::new(409, "It is in work", why) }
}

fn lost(since: Timestamp) -> Problem {
    let why = format!(
        "a request with this key was begun at {since} by a process that ended in the middle of it: look whether it was \
         done, and if not, send it under another key"
    );
    Problem { field: Some(HEADER.to_owned()), ..Problem::new(409, "It is not known whether it was done", why) }
}

fn away(error: ResultsError) -> Problem {
    let problem = Problem::from(error);
    let detail = format!("{}; answers to `{HEADER}` are kept there: nothing was done, try again", problem.detail);
    Problem { detail, ..problem }
}

/// Beside what is asked.
fn prune(state: &ApiState) {
    let now = Timestamp::now().as_second();
    let last = &state.counters.answers_pruned;
    let before = last.load(Ordering::Relaxed);
    if now - before < PRUNED_EACH || last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return;
    }
    let results = state.results.clone();
    state.tasks.spawn(async move {
        if let Err(error) = results.prune_answers().await {
            tracing::debug!(%error, "Old answers to `{HEADER}` are removed later.");
        }
    });
}

/// A request that was claimed.
struct Work {
    state: ApiState,
    keyed: Keyed,
    holder: Uuid,
}

impl Work {
    async fn run(self, request: Request, next: Next) -> Response {
        let response = self.renewing(next.run(request)).await;
        let (parts, body) = response.into_parts();
        let Ok(body) = to_bytes(body, usize::MAX).await else {
            return Problem::new(500, "A fault of Spinor's", "an answer broke off").into_response();
        };
        if let Err(error) = self.note(parts.status, &body).await {
            tracing::warn!(%error, "An answer to `{HEADER}` could not be kept; when it is asked for again, it is in work for a minute.");
        }
        Response::from_parts(parts, Body::from(body))
    }

    /// The claim is renewed for as long as it is worked on.
    async fn renewing(&self, work: impl Future<Output = Response>) -> Response {
        let each = ANSWER_CLAIMED / 4;
        let (mut work, mut beat) = (pin!(work), interval_at(Instant::now() + each, each));
        loop {
            tokio::select! {
                response = &mut work => return response,
                _ = beat.tick() => {
                    if let Err(error) = self.state.results.renew_answer(&self.keyed, self.holder).await {
                        tracing::debug!(%error, "A claim of an answer could not be renewed.");
                    }
                }
            }
        }
    }

    async fn note(&self, status: StatusCode, body: &[u8]) -> Result<(), ResultsError> {
        let (results, Self { keyed, holder, .. }) = (&self.state.results, self);
        if status.is_success() {
            results.keep_answer(keyed, *holder, status.as_u16(), body).await
        } else if status.is_server_error() {
            results.give_answer_back(keyed, *holder).await
        } else {
            // Refused: nothing was done, and it may be asked better.
            results.forget_answer(keyed, *holder).await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::{ALIKE, REMEMBERED, Seed};
    use crate::api::OPERATIONS;

    #[test]
    fn what_is_remembered_is_an_operation() {
        let all: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
        assert!(REMEMBERED.iter().chain(&ALIKE).all(|name| all.contains(name)));
    }

    #[test]
    fn the_ids_under_a_key_are_the_same_each_time_and_differ_by_place() {
        let seed = Seed { id: Uuid::now_v7(), again: false };
        let ids: BTreeSet<Uuid> = (0..1000).map(|place| seed.id(place)).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.get_version_num() == 7) && ids.contains(&seed.id));
        assert_eq!(ids, (0..1000).map(|place| Seed { again: true, ..seed }.id(place)).collect());
    }
}
