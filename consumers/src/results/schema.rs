//! The tables of the record, by version.

use super::{
    ResultsError,
    database::{self, Database, migrations::Schema},
};

const SCHEMA: Schema = Schema {
    what: "results database",
    table: "spinor_schema",
    sqlite: &[
        include_str!("schema/sqlite_0001.sql"),
        include_str!("schema/sqlite_0002.sql"),
        include_str!("schema/sqlite_0003.sql"),
        include_str!("schema/sqlite_0004.sql"),
        include_str!("schema/sqlite_0005.sql"),
        include_str!("schema/sqlite_0006.sql"),
        include_str!("schema/sqlite_0007.sql"),
        include_str!("schema/sqlite_0008.sql"),
        include_str!("schema/sqlite_0009.sql"),
        include_str!("schema/sqlite_0010.sql"),
    ],
    mysql: &[
        include_str!("schema/mysql_0001.sql"),
        include_str!("schema/mysql_0002.sql"),
        include_str!("schema/mysql_0003.sql"),
        include_str!("schema/mysql_0004.sql"),
        include_str!("schema/mysql_0005.sql"),
        include_str!("schema/mysql_0006.sql"),
        include_str!("schema/mysql_0007.sql"),
        include_str!("schema/mysql_0008.sql"),
        include_str!("schema/mysql_0009.sql"),
        include_str!("schema/mysql_0010.sql"),
    ],
};

/// The schema version this program writes.
pub const VERSION: i64 = SCHEMA.version();

/// Logs in to a server, reads its version and the schema's, 0 when there is none, and changes
/// nothing.
pub async fn look(url: &str) -> Result<(String, i64), ResultsError> {
    let (server, found) = database::look(url, SCHEMA.newest()).await?;
    let found = found.unwrap_or(0);
    SCHEMA.known(found)?;
    Ok((server, found))
}

/// Brings the schema to [`VERSION`].
pub async fn migrate(database: &Database) -> Result<(), ResultsError> {
    SCHEMA.migrate(database).await
}
