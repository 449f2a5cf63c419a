//! A question of somebody else's wording, read only: its rows as JSON objects, whatever their columns are.
//!
//! Owns how a column becomes JSON: numbers keep their text. Refuses to write: the connection may not.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Executor as _, MySqlConnection, Row as _,
    SqliteConnection, TypeInfo as _, ValueRef as _,
    mysql::MySqlRow,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use tokio::time::Instant;

use super::{
    Flavour,
    login::{Keys, flavour, log_in},
};
use crate::results::{ResultsError, ResultsTarget};

/// The rows of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The first of them, each a JSON object of its columns.
    pub rows: Vec<String>,
    /// There were more than was asked for, or more bytes.
    pub cut: bool,
}

/// Asks, and takes at most `most` rows and `bytes` bytes of the answer. The database ends what takes longer than
/// `limit`, also when nobody waits for it any more.
pub async fn rows_of(
    target: &ResultsTarget,
    keys: &Keys,
    sql: &str,
    (most, bytes): (usize, usize),
    limit: Duration,
) -> Result<Rows, String> {
    match target {
        ResultsTarget::Sqlite(path) => {
            if !path.exists() {
                return Err(format!("{} is not there", path.display()));
            }
            let options = SqliteConnectOptions::new().filename(path).read_only(true).foreign_keys(false);
            let opened = options.busy_timeout(limit).disable_statement_logging().connect().await;
            let mut connection = opened.map_err(|error| format!("{}: {error}", path.display()))?;
            let end = of_sqlite(&mut connection, sql, most, bytes, limit).await;
            let _ = connection.close().await;
            end
        }
        ResultsTarget::MySql(url) => {
            let login = log_in(url, keys).await.map_err(told)?;
            let (mut connection, place) = (login.connection, login.place);
            let flavour = flavour(&login.version).map_err(told)?;
            let end = of_mysql(&mut connection, flavour, sql, most, bytes, limit).await;
            let _ = connection.close().await;
            end.map_err(|why| format!("{place}: {why}"))
        }
    }
}

/// It is not the results database that is spoken of.
fn told(error: ResultsError) -> String {
    match error {
        ResultsError::Unavailable(why) | ResultsError::Misconfigured(why) | ResultsError::Refused(why) => why,
    }
}

async fn of_sqlite(
    connection: &mut SqliteConnection,
    sql: &str,
    most: usize,
    bytes: usize,
    limit: Duration,
) -> Result<Rows, String> {
    let end = Instant::now() + limit;
    let handle = connection.lock_handle().await;
    handle.map_err(|error| error.to_string())?.set_progress_handler(1000, move || Instant::now() < end);
    let mut rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch(connection);
    let mut found = Found::new(most, bytes);
    while let Some(row) = rows.try_next().await.map_err(|error| error.to_string())? {
        if !found.take(row.columns().iter().map(sqlx::Column::name), |at| sqlite_value(&row, at))? {
            break;
        }
    }
    Ok(found.rows)
}

async fn of_mysql(
    connection: &mut MySqlConnection,
    flavour: Flavour,
    sql: &str,
    most: usize,
    bytes: usize,
    limit: Duration,
) -> Result<Rows, String> {
    let bound = match flavour {
        Flavour::MariaDb => format!("SET SESSION max_statement_time = {}", limit.as_secs_f64()),
        _ => format!("SET SESSION max_execution_time = {}", limit.as_millis()),
    };
    for words in [bound.as_str(), "SET SESSION TRANSACTION READ ONLY", "START TRANSACTION READ ONLY"] {
        connection.execute(AssertSqlSafe(words.to_owned())).await.map_err(|error| error.to_string())?;
    }
    // Each value as its text, of whatever type it is.
    let mut rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch(connection);
    let mut found = Found::new(most, bytes);
    while let Some(row) = rows.try_next().await.map_err(|error| error.to_string())? {
        if !found.take(row.columns().iter().map(sqlx::Column::name), |at| mysql_value(&row, at))? {
            break;
        }
    }
    Ok(found.rows)
}

/// What was read so far.
struct Found {
    rows: Rows,
    most: usize,
    left: usize,
}

impl Found {
    const fn new(most: usize, bytes: usize) -> Self {
        Self { rows: Rows { rows: Vec::new(), cut: false }, most, left: bytes }
    }

    /// Takes a row; `false` when there is no room for it.
    fn take<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        value: impl Fn(usize) -> Result<String, String>,
    ) -> Result<bool, String> {
        let mut text = String::from("{");
        let mut seen: Vec<&str> = Vec::new();
        for (at, name) in names.enumerate() {
            if seen.contains(&name) {
                return Err(format!("two columns are named `{name}`; give one another name with AS"));
            }
            seen.push(name);
            let value =
                value(at).map_err(|why| format!("column `{name}` of row {}: {why}", self.rows.rows.len() + 1))?;
            let comma = if at > 0 { "," } else { "" };
            text.push_str(&format!("{comma}{}:{value}", quoted(name)));
        }
        text.push('}');
        if self.rows.rows.len() == self.most || text.len() > self.left {
            self.rows.cut = true;
            return Ok(false);
        }
        self.left -= text.len();
        self.rows.rows.push(text);
        Ok(true)
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn sqlite_value(row: &SqliteRow, at: usize) -> Result<String, String> {
    let wrong = |error: sqlx::Error| error.to_string();
    let kind = row.try_get_raw(at).map_err(wrong)?.type_info().name().to_owned();
    Ok(match kind.as_str() {
        "NULL" => "null".to_owned(),
        "INTEGER" => row.try_get_unchecked::<i64, _>(at).map_err(wrong)?.to_string(),
        "REAL" => serde_json::Value::from(row.try_get_unchecked::<f64, _>(at).map_err(wrong)?).to_string(),
        "BLOB" => readable(&row.try_get_unchecked::<Vec<u8>, _>(at).map_err(wrong)?)?,
        _ => quoted(&row.try_get_unchecked::<String, _>(at).map_err(wrong)?),
    })
}

fn mysql_value(row: &MySqlRow, at: usize) -> Result<String, String> {
    let bytes: Option<Vec<u8>> = row.try_get_unchecked(at).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok("null".to_owned()) };
    let kind = row.columns()[at].type_info().name();
    let number = ["INT", "DECIMAL", "FLOAT", "DOUBLE", "YEAR", "BOOLEAN"].iter().any(|word| kind.contains(word));
    // `0042` and `-0` are what people meant, and no JSON.
    let json = (number || kind == "JSON").then(|| std::str::from_utf8(&bytes).ok()).flatten();
    let json = json.filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    json.map_or_else(|| readable(&bytes), |json| Ok(json.to_owned()))
}

fn readable(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(quoted).map_err(|_| "has bytes that are no text; write HEX(..) around it".to_owned())
}
