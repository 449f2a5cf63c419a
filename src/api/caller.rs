//! Who calls, once `guard` knows it.
//!
//! Owns what a caller may do, what it may see of a list, under which name it acts, and the words of a refusal. Refuses
//! to find out who it is.

use std::sync::{Arc, OnceLock};

use axum::{extract::FromRequestParts, http::request::Parts};
use spinor_consumers::{
    access::{Grant, Grants, Role},
    results::Page,
};

use super::{Problem, clip, session::Oneself};

/// A list that leaves out a lot is read on for so many pages until there is a row to show.
const PAGES: u32 = 20;

/// How somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// By the file of the socket, which nobody else can open.
    Socket,
    /// By `api.token`, now or when a browser logged in.
    Configured,
    /// By a token with a name.
    Token,
    /// By a name and a password, when a browser logged in.
    Session,
    /// By the word of a proxy that is believed.
    Proxy,
}

impl How {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Configured | Self::Token => "token",
            Self::Session => "session",
            Self::Proxy => "proxy",
        }
    }
}

/// Somebody who is known; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    name: Arc<str>,
    how: How,
    grants: Arc<Grants>,
    /// Under which name it says that it acts, where nobody can know that better.
    said: Arc<OnceLock<String>>,
}

impl Caller {
    /// Somebody of this name.
    pub(super) fn new(name: impl Into<Arc<str>>, how: How, grants: Arc<Grants>) -> Self {
        Self { name: name.into(), how, grants, said: Arc::default() }
    }

    /// Somebody who may do everything: who has the socket, or the token of the configuration.
    pub(super) fn admin(how: How) -> Self {
        let name = if how == How::Socket { "socket" } else { "api.token" };
        Self::new(name, how, Arc::new(Grants::all(Role::Admin)))
    }

    /// Is this a person or a program of its own, and not just anybody with the key of the house?
    pub(super) const fn has_name(&self) -> bool {
        matches!(self.how, How::Token | How::Session | How::Proxy)
    }

    pub(super) const fn how(&self) -> How {
        self.how
    }

    /// Under which name it acts: its own, else the one that it says.
    pub(super) fn acts_as(&self, said: Option<String>) -> Option<String> {
        if self.has_name() {
            return Some(self.name.to_string());
        }
        if let Some(said) = &said {
            // The first one stands: a request acts once.
            let _ = self.said.set(said.clone());
        }
        said
    }

    /// The name by which an action is written down.
    pub(super) fn name(&self) -> &str {
        self.said.get().map_or(&self.name, String::as_str)
    }

    pub(super) fn shown(&self) -> Oneself {
        Oneself { name: self.name.to_string(), how: self.how.word().to_owned(), roles: (*self.grants).clone() }
    }

    fn refused(&self, role: Role, what: &str) -> Problem {
        let (role, given) = (role.word(), &self.grants);
        Problem::new(403, "Not allowed", format!("this needs the role {role}{what}; yours is {given}"))
    }

    /// Refuses who has this role for nothing at all.
    pub(super) fn has(&self, role: Role) -> Result<(), Problem> {
        if self.grants.highest() >= Some(role) { Ok(()) } else { Err(self.refused(role, "")) }
    }

    /// Does no pattern bound this role of the caller?
    pub(super) fn has_everywhere(&self, role: Role) -> bool {
        self.grants.may_all(role)
    }

    /// Refuses who has this role only for some queues or kinds.
    pub(super) fn everywhere(&self, role: Role) -> Result<(), Problem> {
        if self.has_everywhere(role) { Ok(()) } else { Err(self.refused(role, " for all queues and kinds")) }
    }

    /// Refuses who has not this role for this queue and kind.
    pub(super) fn may(&self, role: Role, queue: &str, kind: &str) -> Result<(), Problem> {
        if self.grants.may(role, queue, kind) {
            return Ok(());
        }
        Err(self.refused(role, &format!(" for the queue `{}` and the kind `{}`", clip(queue), clip(kind))))
    }

    /// Refuses who has not this role for this queue and all kinds.
    pub(super) fn may_queue(&self, role: Role, queue: &str) -> Result<(), Problem> {
        if self.grants.may_queue(role, queue) {
            return Ok(());
        }
        Err(self.refused(role, &format!(" for the queue `{}` and all kinds", clip(queue))))
    }

    /// May it read what is on this queue, of this kind?
    pub(super) fn sees(&self, queue: &str, kind: &str) -> bool {
        self.grants.may(Role::Viewer, queue, kind)
    }

    /// What bounds this role of the caller; empty: nothing does.
    pub(super) fn bounds(&self, role: Role) -> Vec<Grant> {
        self.grants.bounds(role)
    }

    /// A page without what the caller may not read. `of`: the queue and the kind of a row.
    pub(super) async fn page<T, F>(
        &self,
        cursor: Option<String>,
        read: impl Fn(Option<String>) -> F,
        of: impl Fn(&T) -> (&str, &str),
    ) -> Result<Page<T>, Problem>
    where
        F: Future<Output = Result<Page<T>, Problem>>,
    {
        let mut page = read(cursor).await?;
        if self.has_everywhere(Role::Viewer) {
            return Ok(page);
        }
        for _ in 0..PAGES {
            page.rows.retain(|row| {
                let (queue, kind) = of(row);
                self.sees(queue, kind)
            });
            match &page.next {
                // A walk whose time was over is not followed by another one.
                Some(next) if page.rows.is_empty() && page.looked.is_none() => page = read(Some(next.clone())).await?,
                _ => return Ok(page),
            }
        }
        // Who asks goes on from here.
        Ok(Page { rows: Vec::new(), next: page.next, looked: page.looked })
    }
}

/// What is said to somebody who is not known.
pub(super) fn unknown() -> Problem {
    Problem::new(401, "No token", "send `Authorization: Bearer TOKEN`, or log in on the page")
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Result<Self, Problem>>().cloned().unwrap_or_else(|| Err(unknown()))
    }
}
