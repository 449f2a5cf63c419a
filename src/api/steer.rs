//! A wish of a person becomes a mark: who, why, in State, then told to whoever obeys.
//!
//! Owns how such a request is read and what it must say. Refuses to obey: consumers do. A store of
//! state that is away refuses the wish, with 503: one that was not stored would be forgotten.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    RequestExt as _,
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Path, Request,
        rejection::{BytesRejection, PathRejection},
    },
    http::request::Parts,
};
use schemars::JsonSchema;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, value::RawValue};
use spinor_consumers::{
    broker::{Broker, Event},
    state::{State, StateError, Subject, Wish},
};

use super::{ApiState, Problem, caller::Caller, clip, jobs};
use crate::config::keys;

/// Who wants it when nobody says so.
const NOBODY: &str = "api";
const LONGEST_NAME: usize = 100;
const LONGEST_REASON: usize = 1000;

/// Who asks, and why. Both may be absent; the API then notes `api`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Asked {
    /// A name, at most 100 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// In that person's words, at most 1000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The same, checked.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub by: String,
    pub why: Option<String>,
}

impl Asked {
    pub(super) fn check(self, caller: &Caller) -> Result<Who, Problem> {
        let by = caller.acts_as(one_line("by", self.by, LONGEST_NAME)?).unwrap_or_else(|| NOBODY.to_owned());
        Ok(Who { by, why: one_line("why", self.why, LONGEST_REASON)? })
    }
}

fn one_line(field: &str, text: Option<String>, most: usize) -> Result<Option<String>, Problem> {
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    match text {
        Some(text) if text.chars().count() > most => {
            Err(Problem::field(field, format!("is longer than {most} characters")))
        }
        Some(text) if text.chars().any(char::is_control) => Err(Problem::field(field, "holds control characters")),
        text => Ok(text),
    }
}

/// What a body says; no body says nothing. A wrong field is named.
pub(super) fn read<T: DeserializeOwned + Default>(
    body: Result<Bytes, BytesRejection>,
    state: &ApiState,
) -> Result<T, Problem> {
    read_text(&jobs::body_of(body, state)?)
}

/// The same of a body that has to say something of this field, be it `null`.
pub(super) fn read_with<T: DeserializeOwned + Default>(
    field: &str,
    body: Result<Bytes, BytesRejection>,
    state: &ApiState,
) -> Result<T, Problem> {
    let body = jobs::body_of(body, state)?;
    let new = read_text(&body)?;
    let named: BTreeMap<String, IgnoredAny> = serde_json::from_slice(&body).unwrap_or_default();
    if named.contains_key(field) {
        return Ok(new);
    }
    let why = format!("`{field}` is missing: give a number, or null to take back what was said before");
    Err(Problem { field: Some(field.to_owned()), ..Problem::new(400, "A field is missing", why) })
}

/// The same of a body that is at hand.
pub(super) fn read_text<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice::<&RawValue>(body)
        .map_err(|error| Problem::new(400, "The body is no JSON", error.to_string()))?;
    let mut reader = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let why = error.into_inner().to_string();
        let why = why.split(" at line ").next().unwrap_or_default().to_owned();
        // What is unknown has no path yet, and is named by the error.
        let named = why.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        match named.map(clip).or((path != ".").then_some(path)) {
            Some(field) => Problem::field(field, why),
            None => Problem::new(422, "The body is wrong", why),
        }
    })
}

impl FromRequest<ApiState> for Who {
    type Rejection = Problem;

    async fn from_request(mut request: Request, state: &ApiState) -> Result<Self, Problem> {
        let caller = request.extract_parts::<Caller>().await?;
        read::<Asked>(Bytes::from_request(request, state).await, state)?.check(&caller)
    }
}

/// The name in a path: of a queue, a group or a limit.
pub(super) struct Name(pub String);

impl FromRequestParts<ApiState> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        name_of(Path::from_request_parts(parts, state).await).map(Self)
    }
}

/// Nothing of this name is there; those that are.
pub(super) fn no_such(detail: String, known: Vec<String>) -> Problem {
    Problem { known, field: Some("name".to_owned()), ..Problem::not_found(detail) }
}

fn name_of(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let text = text_of(path)?;
    if keys::is_name(&text) {
        return Ok(text);
    }
    Err(Problem::field("name", format!("`{}`: expected {}", clip(&text), keys::Form::Name.expected())))
}

/// Any text in a path.
pub(super) fn text_of(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(text)| text).map_err(|error| Problem::field("name", error.body_text()))
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Unavailable(_) => Self::new(503, "State is not available", format!("{error}; try again")),
            StateError::Misconfigured(_) => Self::new(500, "State cannot be used", error.to_string()),
        }
    }
}

/// The store of state, once it has answered.
pub(super) fn state_of(state: &ApiState) -> Result<&State, Problem> {
    let away = || StateError::Unavailable("it has not answered since the start".to_owned());
    Ok(state.state.get().ok_or_else(away)?)
}

/// Stores a mark and tells those who obey; what this process answers shows it from now on.
pub(super) async fn set(state: &ApiState, subject: &Subject, value: Value, who: &Who) -> Result<Wish, Problem> {
    let version = state_of(state)?.set_mark(subject, value, &who.by, who.why.as_deref()).await?;
    told(state, version).await;
    let stored = state.marks.get(subject).filter(|mark| mark.version >= version).map(Wish::from);
    // The store took it and did not answer the question after it.
    Ok(stored.unwrap_or_else(|| Wish { by: who.by.clone(), at: jiff::Timestamp::now(), why: who.why.clone() }))
}

/// Takes a mark back; tells whether there was one.
pub(super) async fn clear(state: &ApiState, subject: &Subject, who: &Who) -> Result<bool, Problem> {
    let version = state_of(state)?.clear_mark(subject, &who.by, who.why.as_deref()).await?;
    if let Some(version) = version {
        told(state, version).await;
    }
    Ok(version.is_some())
}

async fn told(state: &ApiState, version: u64) {
    state.broker.cast(Event::Marked { version });
    Arc::clone(&state.marks).load(&state.state).await;
}
