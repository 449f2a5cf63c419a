//! Who may log in, as a client asks for it: for admins.

use reqwest::Method;
use spinor_consumers::results::{AuditFilter, AuditRow, NoticeFilter, NoticeRow, Page, TokenRow, UserRow};

use super::{Client, ClientError, segment};
use crate::api::{Asked, MadeToken, NewPassword, NewRoles, NewToken, NewUser, Oneself, RemovedName};

impl Client {
    /// Who asks, and what it may do.
    pub async fn oneself(&self) -> Result<Oneself, ClientError> {
        self.get("/session", &()).await
    }

    /// Users, by name.
    pub async fn users(&self) -> Result<Vec<UserRow>, ClientError> {
        self.get("/users", &()).await
    }

    /// Adds a user.
    pub async fn add_user(&self, new: &NewUser) -> Result<UserRow, ClientError> {
        self.post("/users", new).await
    }

    /// Another password, which ends the sessions of a user.
    pub async fn set_password(&self, name: &str, new: &NewPassword) -> Result<UserRow, ClientError> {
        self.ask(Method::PUT, &format!("/users/{}/password", segment(name)), new).await
    }

    /// Other roles of a user.
    pub async fn set_roles(&self, name: &str, new: &NewRoles) -> Result<UserRow, ClientError> {
        self.ask(Method::PUT, &format!("/users/{}/roles", segment(name)), new).await
    }

    /// Removes a user, and ends its sessions.
    pub async fn remove_user(&self, name: &str, asked: &Asked) -> Result<RemovedName, ClientError> {
        self.ask(Method::DELETE, &format!("/users/{}", segment(name)), asked).await
    }

    /// Tokens, by name.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, ClientError> {
        self.get("/tokens", &()).await
    }

    /// Makes a token; it is told this once.
    pub async fn add_token(&self, new: &NewToken) -> Result<MadeToken, ClientError> {
        self.post("/tokens", new).await
    }

    /// What was done, the newest first.
    pub async fn actions(&self, filter: &AuditFilter) -> Result<Page<AuditRow>, ClientError> {
        self.get("/audit", filter).await
    }

    /// What was told to whom, and what came of it; the newest first.
    pub async fn notices(&self, filter: &NoticeFilter) -> Result<Vec<NoticeRow>, ClientError> {
        self.get("/notices", filter).await
    }

    /// Removes a token.
    pub async fn remove_token(&self, name: &str, asked: &Asked) -> Result<RemovedName, ClientError> {
        self.ask(Method::DELETE, &format!("/tokens/{}", segment(name)), asked).await
    }
}
