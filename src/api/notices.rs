//! `/notices`: what was told to whom, what waits to be told, and what was given up and why.
//!
//! Refuses to send: the recorder's process does.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use spinor_consumers::results::{NoticeFilter, NoticeRow};

use super::{Answer, ApiState, Problem, query_of};

/// `GET /notices`.
pub(super) async fn list(
    State(state): State<ApiState>,
    query: Result<Query<NoticeFilter>, QueryRejection>,
) -> Answer<Vec<NoticeRow>> {
    let filter = query_of(query)?;
    if filter.limit > 1000 {
        return Err(Problem::field("limit", format!("is {}, expected at most 1000", filter.limit)));
    }
    Ok(Json(state.results.notices(&filter).await?))
}
