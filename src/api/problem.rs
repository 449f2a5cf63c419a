//! Errors as documents (RFC 9457): what happened, which field, what to do.
//!
//! Owns the mapping from the engine's errors to a status. Refuses to show secrets: addresses come
//! here masked.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    broker::{BrokerError, PublishError},
    results::ResultsError,
};
use uuid::Uuid;

use super::caller::Caller;

/// An error as the API answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, JsonSchema)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// What kind of problem, in a few words; the same each time.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, and what to do.
    pub detail: String,
    /// The field it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What exists, when something that does not was named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
    /// The job that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Uuid>,
}

impl Problem {
    /// A problem that is about no field.
    pub fn new(status: u16, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { title: title.into(), status, detail: detail.into(), field: None, known: Vec::new(), job: None }
    }

    /// A field with a wrong value.
    pub fn field(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(name.into()), ..Self::new(422, "A field is wrong", detail) }
    }

    /// Nothing of that name or id.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "Not found", detail)
    }

    /// In a line: its field, or this word for the whole, and what is wrong.
    pub fn told(&self, whole: &str) -> String {
        format!("{}: {}", self.field.as_deref().unwrap_or(whole), self.detail)
    }

    /// The same, one level down in a list.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        self.field = Some(self.field.map_or_else(|| place.to_owned(), |field| format!("{place}.{field}")));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.extensions_mut().insert(self.clone());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::Unroutable { known, .. } => {
                Self { known, field: Some("queue".to_owned()), ..Self::new(422, "No such queue", detail) }
            }
            PublishError::TooLarge { .. } => Self::new(413, "The job is too large", detail),
            PublishError::Unconfirmed(_) => {
                Self::new(503, "Not confirmed", format!("{detail}; send it again with the same id"))
            }
            PublishError::Refused(_) => {
                Self::new(503, "Not accepted now", format!("{detail}; nothing was stored, try again"))
            }
        }
    }
}

impl From<ResultsError> for Problem {
    fn from(error: ResultsError) -> Self {
        match error {
            ResultsError::Unavailable(_) => Self::new(503, "The record is not available", error.to_string()),
            ResultsError::Misconfigured(_) | ResultsError::Refused(_) => {
                Self::new(500, "The record cannot be read", error.to_string())
            }
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        Self::new(503, "The broker is not available", error.to_string())
    }
}

/// For paths that are none of ours; who is not known is not told so.
pub(super) async fn no_such_path(_: Caller, uri: axum::http::Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}; the API is under /api/v1", super::clip(uri.path())))
}

/// For methods a path does not take.
pub(super) async fn no_such_method(_: Caller, method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    Problem::new(405, "No such method", format!("{} does not take {method}", super::clip(uri.path())))
}
