//! The tables `access_users`, `access_tokens`, `access_ended` and `audit`: who may log in, and what was done.
//!
//! Owns their rows, with a schema of their own. A password or a token comes here as its hash; a user whose password
//! changes gets another `stamp`, which ends its sessions. Refuses to judge a password, and what somebody may do.

mod audit;

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Results, ResultsError,
    database::{Column, Database, Value, migrations::Schema},
    read::{json, time},
};
use crate::access::Grants;

pub use audit::{AuditFilter, AuditRow};

const SCHEMA: Schema = Schema {
    what: "tables of users in the results database",
    table: "spinor_access_schema",
    sqlite: &[include_str!("accounts/sqlite_0001.sql")],
    mysql: &[include_str!("accounts/mysql_0001.sql")],
};

/// No more users and tokens are read at once.
const MOST: u32 = 10_000;

pub(super) async fn migrate(database: &Database) -> Result<(), ResultsError> {
    SCHEMA.migrate(database).await
}

/// Somebody with a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserRow {
    /// The name, different from all others.
    pub name: String,
    /// What it may do.
    pub roles: Grants,
    /// Since when.
    pub created: Timestamp,
    /// By whom it was added.
    pub created_by: String,
}

/// What is shown in the place of a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenRow {
    /// Its name, different from all others.
    pub name: String,
    /// What may be done with it.
    pub roles: Grants,
    /// Since when.
    pub created: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Until when; absent: until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A user with what is kept of its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The row.
    pub row: UserRow,
    /// The hash of its password.
    pub password: String,
    /// Another one with each password.
    pub stamp: Uuid,
}

/// A token with what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The row.
    pub row: TokenRow,
    /// Its id, which it begins with.
    pub id: Uuid,
    /// The hash of all of it.
    pub hash: Vec<u8>,
}

/// Everybody who may log in, and the sessions that were ended before their time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Everybody {
    /// By name.
    pub users: Vec<User>,
    /// By name.
    pub tokens: Vec<Token>,
    /// The ids of sessions.
    pub ended: Vec<Uuid>,
}

impl Results {
    /// Everybody, at most 10 000 users and tokens, and each session that was ended and would still last.
    pub async fn everybody(&self) -> Result<Everybody, ResultsError> {
        let ask = async |sql: String| self.0.database.ask(sql, Vec::new()).await;
        let users = ask(format!(
            "SELECT name, password, roles, stamp, created, created_by FROM access_users ORDER BY name LIMIT {MOST}"
        ));
        let tokens = ask(format!(
            "SELECT name, id, hash, roles, created, created_by, expires FROM access_tokens ORDER BY name LIMIT {MOST}"
        ));
        let now = vec![Value::Int(Timestamp::now().as_microsecond())];
        let ended = self.0.database.ask("SELECT session FROM access_ended WHERE until > ?".to_owned(), now);
        Ok(Everybody {
            users: users.await?.iter().map(user).collect::<Result<_, _>>()?,
            tokens: tokens.await?.iter().map(token).collect::<Result<_, _>>()?,
            ended: ended.await?.iter().map(|row| row.id(0)).collect::<Result<_, _>>()?,
        })
    }

    /// Adds a user; `false` when the name is taken.
    pub async fn add_user(&self, user: &User) -> Result<bool, ResultsError> {
        let User { row, password, stamp } = user;
        let sql =
            "{insert} INTO access_users (name, password, roles, stamp, created, created_by) VALUES (?, ?, ?, ?, ?, ?)";
        let values = vec![
            Value::Text(row.name.clone()),
            Value::Text(password.clone()),
            text(&row.roles),
            Value::Id(*stamp),
            Value::Int(row.created.as_microsecond()),
            Value::Text(row.created_by.clone()),
        ];
        self.changes(sql, values).await
    }

    /// Another password, which ends the sessions of the user; `false` when there is none of this name.
    pub async fn set_password(&self, name: &str, password: &str, stamp: Uuid) -> Result<bool, ResultsError> {
        let values = vec![Value::Text(password.to_owned()), Value::Id(stamp), Value::Text(name.to_owned())];
        self.changes("UPDATE access_users SET password = ?, stamp = ? WHERE name = ?", values).await
    }

    /// Other roles; `false` when there is no user of this name.
    pub async fn set_roles(&self, name: &str, roles: &Grants) -> Result<bool, ResultsError> {
        // What is as it was counts as changed nowhere: is it there?
        let there = "SELECT 1 FROM access_users WHERE name = ?".to_owned();
        if self.0.database.ask(there, vec![Value::Text(name.to_owned())]).await?.is_empty() {
            return Ok(false);
        }
        let values = vec![text(roles), Value::Text(name.to_owned())];
        self.changes("UPDATE access_users SET roles = ? WHERE name = ?", values).await?;
        Ok(true)
    }

    /// Removes a user; `false` when there is none of this name.
    pub async fn remove_user(&self, name: &str) -> Result<bool, ResultsError> {
        self.changes("DELETE FROM access_users WHERE name = ?", vec![Value::Text(name.to_owned())]).await
    }

    /// Adds a token; `false` when the name is taken.
    pub async fn add_token(&self, token: &Token) -> Result<bool, ResultsError> {
        let Token { row, id, hash } = token;
        let sql = "{insert} INTO access_tokens (id, name, hash, roles, created, created_by, expires) VALUES (?, ?, ?, ?, ?, ?, ?)";
        let values = vec![
            Value::Id(*id),
            Value::Text(row.name.clone()),
            Value::Blob(hash.clone()),
            text(&row.roles),
            Value::Int(row.created.as_microsecond()),
            Value::Text(row.created_by.clone()),
            Value::MaybeInt(row.expires.map(Timestamp::as_microsecond)),
        ];
        self.changes(sql, values).await
    }

    /// Removes a token; `false` when there is none of this name.
    pub async fn remove_token(&self, name: &str) -> Result<bool, ResultsError> {
        self.changes("DELETE FROM access_tokens WHERE name = ?", vec![Value::Text(name.to_owned())]).await
    }

    /// Ends a session before its time, and forgets those whose time is over.
    pub async fn end_session(&self, session: Uuid, until: Timestamp) -> Result<(), ResultsError> {
        let over = vec![Value::Int(Timestamp::now().as_microsecond())];
        self.changes("DELETE FROM access_ended WHERE until < ?", over).await?;
        let values = vec![Value::Id(session), Value::Int(until.as_microsecond())];
        self.changes("{insert} INTO access_ended (session, until) VALUES (?, ?)", values).await.map(drop)
    }

    /// Runs a statement in a transaction of its own; did it change a row?
    pub(super) async fn changes(&self, sql: &str, values: Vec<Value>) -> Result<bool, ResultsError> {
        let database = &self.0.database;
        let mut writing = database.begin().await?;
        let rows = writing.run(&Arc::from(database.flavour().words(sql)), values).await?;
        writing.commit().await?;
        Ok(rows > 0)
    }
}

fn text(roles: &Grants) -> Value {
    Value::Text(serde_json::to_string(roles).unwrap_or_default())
}

fn user(row: &Column) -> Result<User, ResultsError> {
    Ok(User {
        row: UserRow {
            name: row.text(0)?,
            roles: json(&row.text(2)?)?,
            created: time(row.int(4)?)?,
            created_by: row.text(5)?,
        },
        password: row.text(1)?,
        stamp: row.id(3)?,
    })
}

fn token(row: &Column) -> Result<Token, ResultsError> {
    Ok(Token {
        row: TokenRow {
            name: row.text(0)?,
            roles: json(&row.text(3)?)?,
            created: time(row.int(4)?)?,
            created_by: row.text(5)?,
            expires: row.maybe_int(6)?.map(time).transpose()?,
        },
        id: row.id(1)?,
        hash: row.blob(2)?,
    })
}
