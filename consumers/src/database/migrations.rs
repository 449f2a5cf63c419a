//! Migrations: plain SQL, one file a version and dialect, and a table that says which were applied.
//!
//! Several processes may start at once: SQLite migrates within one transaction, a server under a
//! named lock. A schema newer than this program is refused with both versions named. Refuses to
//! know whose schema it is: each owner of tables has a [`Schema`] of its own.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Database, Flavour, Value, Writing};
use crate::results::ResultsError;

/// The versions of one owner's tables.
pub struct Schema {
    /// What people call it, in an error.
    pub what: &'static str,
    /// The table that says which versions were applied.
    pub table: &'static str,
    /// The files for SQLite, oldest first.
    pub sqlite: &'static [&'static str],
    /// The files for servers, as many.
    pub mysql: &'static [&'static str],
}

impl Schema {
    /// The version this program writes.
    pub const fn version(&self) -> i64 {
        self.sqlite.len() as i64
    }

    /// Asks for the newest version that was applied.
    pub fn newest(&self) -> String {
        format!("SELECT COALESCE(MAX(version), 0) FROM {}", self.table)
    }

    /// Does this program know the version?
    pub fn known(&self, found: i64) -> Result<(), ResultsError> {
        let (what, version) = (self.what, self.version());
        if found > version {
            return Err(ResultsError::Misconfigured(format!(
                "the {what} has schema version {found}, and this program knows versions up to {version}: \
                 use the newer program"
            )));
        }
        Ok(())
    }

    /// Brings the schema to [`version`](Self::version).
    pub async fn migrate(&self, database: &Database) -> Result<(), ResultsError> {
        let mut writing = database.begin().await?;
        let server = database.flavour() != Flavour::Sqlite;
        if server {
            lock(&mut writing).await?;
        }
        let done = self.apply(&mut writing, if server { self.mysql } else { self.sqlite }).await;
        if server {
            // The lock belongs to the connection, which goes back to the pool.
            writing.ask("SELECT RELEASE_LOCK(CONCAT('spinor.', DATABASE()))").await?;
        }
        done?;
        writing.commit().await
    }

    async fn apply(&self, writing: &mut Writing, files: &[&'static str]) -> Result<(), ResultsError> {
        let table = self.table;
        let make =
            format!("CREATE TABLE IF NOT EXISTS {table} (version BIGINT NOT NULL PRIMARY KEY, at BIGINT NOT NULL)");
        writing.run(&Arc::from(make), Vec::new()).await?;
        let rows = writing.fetch(&Arc::from(self.newest()), Vec::new()).await?;
        let found = rows.first().map_or(Ok(0), |row| row.int(0))?;
        self.known(found)?;
        let applied = Arc::from(format!("INSERT INTO {table} (version, at) VALUES (?, ?)"));
        for (version, file) in (1..).zip(files).filter(|(version, _)| *version > found) {
            writing.script(file).await?;
            let values = vec![Value::Int(version), Value::Int(Timestamp::now().as_microsecond())];
            writing.run(&applied, values).await?;
        }
        Ok(())
    }
}

async fn lock(writing: &mut Writing) -> Result<(), ResultsError> {
    let rows = writing.ask("SELECT CAST(GET_LOCK(CONCAT('spinor.', DATABASE()), 20) AS SIGNED)").await?;
    match rows.first().map(|row| row.maybe_int(0)).transpose()?.flatten() {
        Some(1) => Ok(()),
        _ => Err(ResultsError::Unavailable("another process has been migrating the schema for 20 s".to_owned())),
    }
}
