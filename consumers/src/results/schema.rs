//! Migrations: plain SQL, one file a version and dialect, and a table that says which were applied.
//!
//! Several processes may start at once: SQLite migrates within one transaction, a server under a
//! named lock. A schema newer than this program is refused with both versions named.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    ResultsError,
    database::{self, Database, Flavour, Value, Writing},
};

const SQLITE: [&str; 1] = [include_str!("schema/sqlite_0001.sql")];
const MYSQL: [&str; 1] = [include_str!("schema/mysql_0001.sql")];

/// The schema version this program writes.
pub const VERSION: i64 = SQLITE.len() as i64;

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS spinor_schema (version BIGINT NOT NULL PRIMARY KEY, at BIGINT NOT NULL)";

const NEWEST: &str = "SELECT COALESCE(MAX(version), 0) FROM spinor_schema";

/// Logs in to a server, reads its version and the schema's, 0 when there is none, and changes
/// nothing.
pub async fn look(url: &str) -> Result<(String, i64), ResultsError> {
    let (server, found) = database::look(url, NEWEST).await?;
    let found = found.unwrap_or(0);
    known(found)?;
    Ok((server, found))
}

fn known(found: i64) -> Result<(), ResultsError> {
    if found > VERSION {
        return Err(ResultsError::Misconfigured(format!(
            "the results database has schema version {found}, and this program knows versions up to {VERSION}: \
             use the newer program"
        )));
    }
    Ok(())
}

/// Brings the schema to [`VERSION`].
pub async fn migrate(database: &Database) -> Result<(), ResultsError> {
    let mut writing = database.begin().await?;
    let server = database.flavour() != Flavour::Sqlite;
    if server {
        lock(&mut writing).await?;
    }
    let done = apply(&mut writing, if server { &MYSQL } else { &SQLITE }).await;
    if server {
        // The lock belongs to the connection, which goes back to the pool.
        writing.ask("SELECT RELEASE_LOCK(CONCAT('spinor.', DATABASE()))").await?;
    }
    done?;
    writing.commit().await
}

async fn lock(writing: &mut Writing) -> Result<(), ResultsError> {
    let rows = writing.ask("SELECT CAST(GET_LOCK(CONCAT('spinor.', DATABASE()), 20) AS SIGNED)").await?;
    match rows.first().map(|row| row.maybe_int(0)).transpose()?.flatten() {
        Some(1) => Ok(()),
        _ => Err(ResultsError::Unavailable("another process has been migrating the schema for 20 s".to_owned())),
    }
}

async fn apply(writing: &mut Writing, files: &[&'static str]) -> Result<(), ResultsError> {
    writing.script(TABLE).await?;
    let rows = writing.ask(NEWEST).await?;
    let found = rows.first().map_or(Ok(0), |row| row.int(0))?;
    known(found)?;
    for (version, file) in (1..).zip(files).filter(|(version, _)| *version > found) {
        writing.script(file).await?;
        let values = vec![Value::Int(version), Value::Int(Timestamp::now().as_microsecond())];
        writing.run(&Arc::from("INSERT INTO spinor_schema (version, at) VALUES (?, ?)"), values).await?;
    }
    Ok(())
}
