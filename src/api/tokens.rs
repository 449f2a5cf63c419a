//! `/tokens`: what programs show in the place of a password.
//!
//! Owns that a token is told once, to who made it; what is kept is its hash.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection, rejection::PathRejection},
    http::StatusCode,
};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::results::{Token, TokenRow};

use super::{
    Answer, ApiState, Asked, Problem, RemovedName, access,
    caller::Caller,
    clip,
    steer::{self, Who},
    users,
};
use crate::config;

/// A token to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewToken {
    /// The name: letters, digits, `.`, `_`, `-` and `@`.
    pub name: String,
    /// What may be done with it: `ROLE[:QUEUES[:KINDS]]` each.
    pub roles: Vec<String>,
    /// It holds for this duration; for ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A token that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MadeToken {
    /// What is kept of it.
    #[serde(flatten)]
    pub row: TokenRow,
    /// It; nobody can tell it again.
    pub token: String,
}

/// `GET /tokens`.
pub(super) async fn list(State(state): State<ApiState>) -> Answer<Vec<TokenRow>> {
    Ok(Json(state.results.everybody().await?.tokens.into_iter().map(|token| token.row).collect()))
}

/// `POST /tokens`.
pub(super) async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    let NewToken { name, roles, lasts, by } = steer::read(body, &state)?;
    let (name, roles) = (users::checked(&name)?, users::grants(&roles)?);
    let created_by = Asked { by, why: None }.check(&caller)?.by;
    let created = Timestamp::now();
    let end = |text: String| {
        let time = config::duration(&text).and_then(|time| SignedDuration::try_from(time).ok());
        let end = time.filter(SignedDuration::is_positive).and_then(|time| created.checked_add(time).ok());
        end.ok_or_else(|| Problem::field("lasts", format!("`{}`: expected a duration such as \"90d\"", clip(&text))))
    };
    let expires = lasts.map(end).transpose()?;
    let (text, id, hash) = access::fresh_token();
    let token = Token { row: TokenRow { name, roles, created, created_by, expires }, id, hash };
    if !state.results.add_token(&token).await? {
        return Err(users::taken(format!("there is a token `{}`; remove it first", token.row.name)));
    }
    state.access.read().await?;
    Ok((StatusCode::CREATED, Json(MadeToken { row: token.row, token: text })))
}

/// `DELETE /tokens/{name}`.
pub(super) async fn remove(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    _: Who,
) -> Answer<RemovedName> {
    let name = steer::text_of(path)?;
    if !state.results.remove_token(&name).await? {
        let known = state.results.everybody().await?.tokens.into_iter().map(|token| token.row.name).take(20).collect();
        return Err(steer::no_such(format!("there is no token `{}`", clip(&name)), known));
    }
    state.access.read().await?;
    Ok(Json(RemovedName { name }))
}
