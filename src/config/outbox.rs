//! The outboxes that are relayed: addresses of other programs' databases.
//!
//! Owns their form and their passwords. Refuses to open one.

use std::{fmt, path::PathBuf};

use serde::Deserialize;

use super::{Endpoint, endpoint, raw::Rules, secrets::Secrets};

/// Outboxes to relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxConfig {
    /// Where they are.
    pub databases: Vec<OtherDatabase>,
    /// The name of the table in each.
    pub table: String,
}

/// A database of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherDatabase {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// MySQL or MariaDB.
    MySql(Endpoint),
}

impl fmt::Display for OtherDatabase {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(to, "sqlite://{}", path.display()),
            Self::MySql(endpoint) => endpoint.fmt(to),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOutbox {
    #[serde(default)]
    databases: Vec<String>,
    table: String,
}

/// Is it the address of a database? A file is named by its whole path.
pub fn has_form(text: &str) -> bool {
    let file = text.strip_prefix("sqlite://").is_some_and(|path| path.starts_with('/') && !path.ends_with('/'));
    (file && !text.contains('\0')) || (endpoint::is(text, &["mysql"]) && names_database(text))
}

/// The database at an address, with this password where it names a user and none.
pub(super) fn database(text: &str, password: Option<&str>) -> OtherDatabase {
    if let Some(path) = text.strip_prefix("sqlite://") {
        return OtherDatabase::Sqlite(PathBuf::from(path));
    }
    let endpoint = Endpoint::new(text);
    let bare = endpoint.has_user() && !endpoint.has_password();
    let password = password.filter(|_| bare);
    OtherDatabase::MySql(password.map_or(endpoint.clone(), |password| endpoint.with_password(password)))
}

fn names_database(text: &str) -> bool {
    Endpoint::new(text).place().split_once('/').is_some_and(|(_, name)| !name.is_empty())
}

impl Rules<'_> {
    pub(super) fn outbox(&mut self, raw: RawOutbox, secrets: &Secrets) -> OutboxConfig {
        let mut databases = Vec::new();
        for text in &raw.databases {
            let database = database(text, secrets.outbox_password.as_deref());
            if databases.contains(&database) {
                self.add("outbox.databases", format_args!("names {database} twice"));
            }
            databases.push(database);
        }
        OutboxConfig { databases, table: raw.table }
    }
}
