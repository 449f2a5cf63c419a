//! The first connection to a server: who it is, and whether it will do.
//!
//! Owns which versions are supported, and the word for a place that cannot be opened. Changes
//! nothing there, and refuses to know tables.

use std::str::FromStr as _;

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, MySqlConnection, Row as _,
    mysql::MySqlConnectOptions,
};

use super::{
    ACQUIRE_LIMIT, Flavour,
    errors::{is_without_table, meaning, refusal},
};
use crate::results::ResultsError;

/// A first connection, and what the server says of itself on it.
pub struct Login {
    /// How it is reached.
    pub options: MySqlConnectOptions,
    /// The connection.
    pub connection: MySqlConnection,
    /// Host and port, for errors.
    pub place: String,
    /// As it says itself.
    pub version: String,
    /// The largest statement it takes, in bytes.
    pub packet: i64,
}

/// The keys of the configuration that lead to a server, for errors.
pub struct Keys {
    /// Its address.
    pub address: &'static str,
    /// Its password, in the secrets file.
    pub password: &'static str,
    /// Where it is told whom to trust, in words.
    pub authority: &'static str,
}

impl Keys {
    /// Those of the results database.
    pub const RESULTS: Self = Self { address: "results", password: "results_password", authority: "`results_ca`" };
}

/// Logs in.
pub async fn log_in(url: &str, keys: &Keys) -> Result<Login, ResultsError> {
    let options = MySqlConnectOptions::from_str(url)
        .map_err(|error| ResultsError::Misconfigured(format!("`{}` is no MySQL URL: {error}", keys.address)))?
        .disable_statement_logging();
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let mut connection = tokio::time::timeout(ACQUIRE_LIMIT, options.connect())
        .await
        .map_err(|_| ResultsError::Unavailable(format!("{place}: no answer within 5 s")))?
        .map_err(|error| {
            refusal(&error, keys)
                .map_or_else(|| opening(&place, error), |why| ResultsError::Misconfigured(format!("{place}: {why}")))
        })?;
    let row = connection
        .fetch_one("SELECT CAST(VERSION() AS CHAR), CAST(@@max_allowed_packet AS SIGNED)")
        .await
        .map_err(|error| opening(&place, error))?;
    let version: String = row.try_get_unchecked(0).map_err(|error| opening(&place, error))?;
    let packet: i64 = row.try_get_unchecked(1).map_err(|error| opening(&place, error))?;
    Ok(Login { options, connection, place, version, packet })
}

/// Logs in to a server and asks for its version and for the newest one in the table of schema
/// versions, none when that table is not there. Changes nothing.
pub async fn look(url: &str, newest: String) -> Result<(String, Option<i64>), ResultsError> {
    let Login { mut connection, place, version, .. } = log_in(url, &Keys::RESULTS).await?;
    flavour(&version)?;
    let found = match connection.fetch_one(AssertSqlSafe(newest)).await {
        Ok(row) => Some(row.try_get_unchecked(0).map_err(|error| opening(&place, error))?),
        Err(error) if is_without_table(&error) => None,
        Err(error) => return Err(opening(&place, error)),
    };
    connection.close().await.map_err(|error| opening(&place, error))?;
    Ok((version, found))
}

/// Which upsert a version understands; one that is too old is refused.
pub fn flavour(version: &str) -> Result<Flavour, ResultsError> {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (flavour, oldest) =
        if version.contains("MariaDB") { (Flavour::MariaDb, (10, 6, 0)) } else { (Flavour::MySql, (8, 0, 20)) };
    if found < oldest {
        let (a, b, c) = oldest;
        let why = format!("the database is version {version}; {flavour:?} {a}.{b}.{c} or newer is needed");
        return Err(ResultsError::Misconfigured(why));
    }
    Ok(flavour)
}

/// What an error means that met us while opening a place.
pub fn opening(place: &str, error: sqlx::Error) -> ResultsError {
    match meaning(error) {
        ResultsError::Unavailable(why) => ResultsError::Unavailable(format!("{place}: {why}")),
        ResultsError::Misconfigured(why) | ResultsError::Refused(why) => {
            ResultsError::Misconfigured(format!("{place}: {why}"))
        }
    }
}
