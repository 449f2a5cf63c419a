//! A consistent copy of a SQLite file, also of one that another connection writes.

use std::path::Path;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, sqlite::SqliteConnectOptions};

use super::{errors::meaning, private};
use crate::results::ResultsError;

/// Copies a file as it is at this moment into another that is not there yet. Who writes the first is not
/// kept waiting; its log grows meanwhile, since a reader pins it.
pub async fn copy(from: &Path, to: &Path) -> Result<(), ResultsError> {
    let wrong = |error: std::io::Error| ResultsError::Misconfigured(format!("{}: {error}", to.display()));
    // For its owner only: SQLite fills an empty file.
    private(to).map_err(wrong)?;
    let options = SqliteConnectOptions::new().filename(from).create_if_missing(false).disable_statement_logging();
    let mut connection = options.connect().await.map_err(meaning)?;
    let text = to.to_string_lossy().replace('\'', "''");
    let done = connection.execute(AssertSqlSafe(format!("VACUUM INTO '{text}'"))).await.map_err(meaning);
    let _ = connection.close().await;
    done?;
    // The file and its content are on disk before anybody says so.
    std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(wrong)
}

/// Runs statements on a file that nobody else has open.
pub async fn mend(path: &Path, sql: &'static str) -> Result<(), ResultsError> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).disable_statement_logging();
    let mut connection = options.connect().await.map_err(meaning)?;
    connection.execute(sqlx::raw_sql(sql)).await.map_err(meaning)?;
    connection.close().await.map_err(meaning)
}
