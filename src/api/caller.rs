//! Who calls, once `guard` knows it.
//!
//! Owns what a caller may do here and the words of a refusal. Refuses to find out who it is.

use axum::{extract::FromRequestParts, http::request::Parts};
use spinor_consumers::access::{Grants, Role};

use super::Problem;

/// Somebody who is known; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    grants: std::sync::Arc<Grants>,
}

impl Caller {
    /// Somebody who may do everything: who has the socket, or the token of the configuration.
    pub(super) fn admin() -> Self {
        Self { grants: Grants::all(Role::Admin).into() }
    }

    /// Refuses who has this role for nothing at all.
    pub(super) fn has(&self, role: Role) -> Result<(), Problem> {
        if self.grants.highest() >= Some(role) {
            return Ok(());
        }
        let (role, given) = (role.word(), &self.grants);
        Err(Problem::new(403, "Not allowed", format!("this needs the role {role}; yours is {given}")))
    }
}

/// What is said to somebody who is not known.
pub(super) fn unknown() -> Problem {
    Problem::new(401, "No token", "send `Authorization: Bearer TOKEN`")
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Result<Self, Problem>>().cloned().unwrap_or_else(|| Err(unknown()))
    }
}
