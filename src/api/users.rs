//! `/users`: who may log in with a password, and what each may do.
//!
//! Owns how such a request is read. A password comes once, and is kept as its hash. Refuses to know who asks:
//! the table of operations lets admins alone come here.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection, rejection::PathRejection},
    http::StatusCode,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::{Grant, Grants},
    results::{User, UserRow},
};
use uuid::Uuid;

use super::{
    Answer, ApiState, Asked, Problem, access,
    caller::Caller,
    clip,
    steer::{self, Who},
};

const LONGEST_NAME: usize = 64;
/// Under these the house itself is written down.
const HOUSE: [&str; 4] = ["socket", "api.token", "nobody", "api"];

/// A user to be added.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewUser {
    /// The name: letters, digits, `.`, `_`, `-` and `@`.
    pub name: String,
    /// At least 8 characters.
    pub password: String,
    /// What it may do: `ROLE[:QUEUES[:KINDS]]` each.
    pub roles: Vec<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Another password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewPassword {
    /// At least 8 characters.
    pub password: String,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Other roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewRoles {
    /// What it may do: `ROLE[:QUEUES[:KINDS]]` each.
    pub roles: Vec<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A user or a token that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedName {
    /// Its name.
    pub name: String,
}

/// `GET /users`.
pub(super) async fn list(State(state): State<ApiState>) -> Answer<Vec<UserRow>> {
    Ok(Json(state.results.everybody().await?.users.into_iter().map(|user| user.row).collect()))
}

/// `POST /users`.
pub(super) async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<UserRow>), Problem> {
    let NewUser { name, password, roles, by } = steer::read(body, &state)?;
    let name = checked(&name)?;
    let roles = grants(&roles)?;
    let created_by = Asked { by, why: None }.check(&caller)?.by;
    let password = access::hash_password(password).await?;
    let row = UserRow { name, roles, created: Timestamp::now(), created_by };
    let user = User { row, password, stamp: Uuid::now_v7() };
    if !state.results.add_user(&user).await? {
        let detail = format!("there is a user `{}`; `spinor users passwd` and `role` change it", user.row.name);
        return Err(taken(detail));
    }
    state.access.read().await?;
    Ok((StatusCode::CREATED, Json(user.row)))
}

/// `PUT /users/{name}/password`.
pub(super) async fn password(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<UserRow> {
    let name = steer::text_of(path)?;
    let NewPassword { password, by } = steer::read(body, &state)?;
    Asked { by, why: None }.check(&caller)?;
    let password = access::hash_password(password).await?;
    let changed = state.results.set_password(&name, &password, Uuid::now_v7()).await?;
    one(&state, &name, changed).await
}

/// `PUT /users/{name}/roles`.
pub(super) async fn roles(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<UserRow> {
    let name = steer::text_of(path)?;
    let NewRoles { roles, by } = steer::read(body, &state)?;
    Asked { by, why: None }.check(&caller)?;
    let changed = state.results.set_roles(&name, &grants(&roles)?).await?;
    one(&state, &name, changed).await
}

/// `DELETE /users/{name}`.
pub(super) async fn remove(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    _: Who,
) -> Answer<RemovedName> {
    let name = steer::text_of(path)?;
    if !state.results.remove_user(&name).await? {
        return Err(unknown(&state, &name).await?);
    }
    state.access.read().await?;
    Ok(Json(RemovedName { name }))
}

async fn one(state: &ApiState, name: &str, changed: bool) -> Answer<UserRow> {
    if changed {
        state.access.read().await?;
        let found = state.results.everybody().await?.users.into_iter().find(|user| user.row.name == name);
        if let Some(user) = found {
            return Ok(Json(user.row));
        }
    }
    Err(unknown(state, name).await?)
}

async fn unknown(state: &ApiState, name: &str) -> Result<Problem, Problem> {
    let known = state.results.everybody().await?.users.into_iter().map(|user| user.row.name).take(20).collect();
    Ok(steer::no_such(format!("there is no user `{}`", clip(name)), known))
}

/// A name that is taken.
pub(super) fn taken(detail: String) -> Problem {
    Problem { field: Some("name".to_owned()), ..Problem::new(409, "The name is taken", detail) }
}

/// A name of a user or a token.
pub(super) fn checked(name: &str) -> Result<String, Problem> {
    if HOUSE.iter().any(|house| name.eq_ignore_ascii_case(house)) {
        let why = format!("`{name}` is how Spinor names what has no name of its own; choose another one");
        return Err(Problem::field("name", why));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(fits) {
        return Ok(name.to_owned());
    }
    let expected = "expected 1 to 64 letters, digits, `.`, `_`, `-` or `@`";
    Err(Problem::field("name", format!("`{}`: {expected}", clip(name))))
}

/// Roles as somebody wrote them.
pub(super) fn grants(roles: &[String]) -> Result<Grants, Problem> {
    let read = |(place, text): (usize, &String)| {
        let wrong = |why| Problem::field(format!("roles[{place}]"), format!("`{}`: {why}", clip(text)));
        text.parse::<Grant>().map_err(wrong)
    };
    let read: Vec<Grant> = roles.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    Grants::of(read).map_err(|why| Problem::field("roles", why))
}
