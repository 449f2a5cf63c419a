//! `/audit`: each action, by whom, from where, on what, with what came of it.
//!
//! Owns the way of a row: a line of a file in the data directory before the action, another one after it, and from there into
//! the results database, beside what is asked. So an action is never kept waiting for a database, and none is forgotten
//! when that is down or this process is killed. What was begun is done and written down, though its caller hangs up.
//! Refuses to write down what only reads, publishes by who has no name (the record has those jobs), and more than one
//! refusal of nobody a minute from each address: their number is told with the next one.

mod nobody;
mod spool;

use axum::{
    Json,
    extract::{ConnectInfo, Query, Request, State, rejection::QueryRejection},
    http::uri::PathAndQuery,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use spinor_consumers::{
    access::Role,
    results::{AuditFilter, AuditRow, Page},
};
use uuid::Uuid;

use super::{
    Answer, ApiState, Operation, Problem, caller::Caller, check_cursor, listen::Peer, query_of, session::Entered,
};

pub use spool::Spool;

/// `GET /audit`.
pub(super) async fn list(
    State(state): State<ApiState>,
    query: Result<Query<AuditFilter>, QueryRejection>,
) -> Answer<Page<AuditRow>> {
    let filter = query_of(query)?;
    if filter.limit > 1000 {
        return Err(Problem::field("limit", format!("is {}, expected at most 1000", filter.limit)));
    }
    check_cursor(filter.cursor.as_deref())?;
    // What has just been done is in it.
    state.audit.flushed().await;
    Ok(Json(state.results.actions(&filter).await?))
}

/// A layer of each route: does the operation, and writes down what comes of it.
pub(super) async fn follow(
    State((state, operation)): State<(ApiState, &'static Operation)>,
    caller: Result<Caller, Problem>,
    request: Request,
    next: Next,
) -> Response {
    let caller = caller.ok();
    if !is_written_down(operation, caller.as_ref()) {
        return next.run(request).await;
    }
    // A caller that hangs up ends what waits for it, and must not end this half way.
    let tasks = state.tasks.clone();
    match tasks.spawn(written_down(state, operation, caller, request, next)).await {
        Ok(response) => response,
        Err(error) => Problem::new(500, "It failed", error.to_string()).into_response(),
    }
}

async fn written_down(
    state: ApiState,
    operation: &'static Operation,
    caller: Option<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let caller = caller.as_ref();
    let place = request.extensions().get::<ConnectInfo<Peer>>().map(|peer| peer.0.to_string());
    let target = request.uri().path_and_query().map(PathAndQuery::as_str).unwrap_or_default();
    let mut row = AuditRow {
        id: Uuid::now_v7(),
        at: Timestamp::now(),
        who: caller.map_or("nobody", Caller::name).to_owned(),
        how: caller.map_or("nobody", |caller| caller.how().word()).to_owned(),
        place: place.unwrap_or_default(),
        action: operation.name.to_owned(),
        target: target.strip_prefix("/api/v1").unwrap_or(target).chars().take(1000).collect(),
        outcome: String::new(),
    };
    // Of nobody there is nothing to say before it is known what comes of it.
    if caller.is_some() {
        state.audit.note(&row.clone().begun());
    }
    let response = next.run(request).await;
    // Under which name it acts may be said in the body.
    let entered = response.extensions().get::<Entered>().map(|entered| entered.0.as_str());
    let who = entered.or(caller.map(Caller::name));
    row.who = who.unwrap_or("nobody").to_owned();
    let is_known = who.is_some();
    row.outcome = match response.extensions().get::<Problem>() {
        None => format!("done: {}", response.status().as_u16()),
        Some(problem) => format!("{}: {}", problem.status, problem.told(&problem.title)),
    };
    if !is_known {
        match state.audit.of_nobody(&row.place) {
            None => return response,
            Some(0) => {}
            Some(more) => row.outcome += &format!(" (and {more} more from there before)"),
        }
    }
    state.audit.note(&row);
    response
}

fn is_written_down(operation: &Operation, caller: Option<&Caller>) -> bool {
    match operation.name {
        "logIn" => true,
        // Who has no session ends none.
        "logOut" => caller.is_some(),
        // Whoever has the key of the house names nobody; their jobs are in the record.
        "publishJobs" => caller.is_some_and(Caller::has_name),
        _ => operation.role >= Some(Role::Publisher) && !operation.method.is_safe(),
    }
}
