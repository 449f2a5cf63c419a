//! The connections: one small language over SQLite and MySQL/MariaDB.
//!
//! Owns pools and transactions; `login` is the first connection to a server, `values` what goes in
//! and comes out. Refuses to know any table. SQLite has one writer and a few readers; a reader, on either, is
//! ended after [`READ_LIMIT`]. A file of somebody else's is used as it is.

pub mod copy;
pub mod errors;
mod login;
pub mod migrations;
pub mod rows;
mod values;

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, MySql, MySqlPool, Sqlite, SqlitePool,
    Transaction,
    mysql::MySqlPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::Instant;

use self::{
    errors::meaning,
    login::{Login, flavour, log_in, opening},
    values::{mysql_arguments, sqlite_arguments},
};
use crate::{anchor::Anchor, results::ResultsError};

pub use self::{
    login::{Keys, look},
    values::{Column, Value, holes},
};

/// No question may take longer, so that none pins SQLite's log or a connection.
const READ_LIMIT: Duration = Duration::from_secs(1);
/// A write that takes longer is given up: the server is frozen.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
/// SQLite's own cache, in KiB: what a crowd of keys or rows may cost in memory. The system's is behind it.
const CACHE: &str = "-16384";

/// A statement's text; built once, since prepared statements are found again by it.
pub type Sql = Arc<str>;

/// Which upsert a server understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `ON CONFLICT .. excluded.c`.
    Sqlite,
    /// `AS new ON DUPLICATE KEY UPDATE .. new.c`.
    MySql,
    /// `ON DUPLICATE KEY UPDATE .. VALUES(c)`.
    MariaDb,
}

impl Flavour {
    /// Holds the rows that a question reads, where a transaction does not have the database for itself.
    pub const fn lock(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::MySql | Self::MariaDb => " FOR UPDATE",
        }
    }

    /// The database's clock, in microseconds since 1970.
    pub const fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            Self::MySql | Self::MariaDb => "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)",
        }
    }

    /// A statement in its words: `{now}` is [`Self::now`], `{lock}` is [`Self::lock`], and `{insert}` leaves
    /// alone what is there; only for rows of a fixed form, whose content is never refused.
    pub fn words(self, sql: &str) -> String {
        let insert = match self {
            Self::Sqlite => "INSERT OR IGNORE",
            Self::MySql | Self::MariaDb => "INSERT IGNORE",
        };
        sql.replace("{now}", self.now()).replace("{lock}", self.lock()).replace("{insert}", insert)
    }
}

/// The pools of one database.
#[derive(Clone)]
pub enum Database {
    /// A file.
    Sqlite {
        /// One connection.
        write: SqlitePool,
        /// A few, read only.
        read: SqlitePool,
        /// The file, which may be removed under them.
        anchor: Anchor,
    },
    /// A server.
    MySql {
        /// For transactions.
        write: MySqlPool,
        /// For questions; the server ends long ones.
        read: MySqlPool,
        /// Which of the two.
        flavour: Flavour,
        /// The largest statement it takes, in bytes.
        packet: usize,
    },
}

impl Database {
    /// Opens a SQLite file, making it and its directory as needed.
    pub async fn sqlite(path: &Path) -> Result<Self, ResultsError> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            tokio::fs::create_dir_all(directory)
                .await
                .map_err(|error| ResultsError::Misconfigured(format!("{}: {error}", directory.display())))?;
        }
        private(path).map_err(|error| ResultsError::Misconfigured(format!("{}: {error}", path.display())))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A report is acknowledged after its commit, so the commit must survive a power loss.
            .synchronous(SqliteSynchronous::Full)
            .pragma("cache_size", CACHE)
            .pragma("wal_autocheckpoint", "8000")
            .pragma("journal_size_limit", "67108864");
        Self::file(path, options).await
    }

    /// Opens a SQLite file of somebody else's, which must be there; its settings are its owner's.
    pub async fn sqlite_of_others(path: &Path) -> Result<Self, ResultsError> {
        if !path.exists() {
            return Err(ResultsError::Unavailable(format!("{} is not there", path.display())));
        }
        Self::file(path, SqliteConnectOptions::new().filename(path).foreign_keys(false)).await
    }

    async fn file(path: &Path, options: SqliteConnectOptions) -> Result<Self, ResultsError> {
        let options = options.busy_timeout(Duration::from_secs(10)).disable_statement_logging();
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(WRITE_LIMIT)
            // After a full disk SQLite ends the transaction by itself, and the client, whose own
            // rollback then fails, believes for ever that one is open: such a connection is closed.
            .after_release(|connection, _| {
                Box::pin(async move { Ok(connection.ping().await.is_ok() && !connection.is_in_transaction()) })
            })
            .connect_with(options.clone())
            .await
            .map_err(|error| opening(&path.display().to_string(), error))?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_LIMIT)
            .connect_lazy_with(options.read_only(true).pragma("cache_size", "-8192"));
        Ok(Self::Sqlite { write, read, anchor: Anchor::of(&[path.to_owned()]) })
    }

    /// Connects to a server and finds out which it is; `keys` are those that named it.
    pub async fn mysql(url: &str, keys: &Keys) -> Result<Self, ResultsError> {
        let Login { options, version, packet, .. } = log_in(url, keys).await?;
        let flavour = flavour(&version)?;
        let write = pool(2).after_connect(move |connection, _| {
            Box::pin(async move {
                if flavour == Flavour::MariaDb {
                    // A process that is frozen in the middle of one must not keep what it locked.
                    connection.execute("SET SESSION idle_transaction_timeout = 10").await?;
                }
                connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
                connection.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')").await?;
                Ok(())
            })
        });
        let limit = match flavour {
            Flavour::MariaDb => "SET SESSION max_statement_time = 1",
            _ => "SET SESSION max_execution_time = 1000",
        };
        let read = pool(READERS)
            .after_connect(move |connection, _| Box::pin(async move { connection.execute(limit).await.map(drop) }));
        Ok(Self::MySql {
            write: write.connect_lazy_with(options.clone()),
            read: read.connect_lazy_with(options),
            flavour,
            packet: usize::try_from(packet).unwrap_or(usize::MAX),
        })
    }

    /// Which upsert it understands.
    pub const fn flavour(&self) -> Flavour {
        match self {
            Self::Sqlite { .. } => Flavour::Sqlite,
            Self::MySql { flavour, .. } => *flavour,
        }
    }

    /// The largest statement it takes, in bytes.
    pub const fn packet(&self) -> usize {
        match self {
            Self::Sqlite { .. } => 256 << 20,
            Self::MySql { packet, .. } => *packet,
        }
    }

    /// Begins a transaction that writes. One that is dropped is undone.
    pub async fn begin(&self) -> Result<Writing, ResultsError> {
        self.is_there()?;
        let begun = async {
            match self {
                Self::Sqlite { write, .. } => write.begin_with("BEGIN IMMEDIATE").await.map(Writing::Sqlite),
                Self::MySql { write, .. } => write.begin().await.map(Writing::MySql),
            }
        };
        bounded(begun).await
    }

    /// Asks, within the time limit.
    pub async fn ask(&self, sql: String, values: Vec<Value>) -> Result<Vec<Column>, ResultsError> {
        self.is_there()?;
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite { read, .. } => {
                let mut connection = read.acquire().await.map_err(meaning)?;
                let limit = Instant::now() + READ_LIMIT;
                connection
                    .lock_handle()
                    .await
                    .map_err(meaning)?
                    .set_progress_handler(1000, move || Instant::now() < limit);
                let query = sqlx::query_with(sql, sqlite_arguments(values)?);
                let rows = connection.fetch_all(query).await.map_err(meaning)?;
                Ok(rows.into_iter().map(Column::Sqlite).collect())
            }
            Self::MySql { read, .. } => {
                let query = sqlx::query_with(sql, mysql_arguments(values)?);
                // The server ends the statement itself; this is for a server that is frozen.
                let rows = tokio::time::timeout(READ_LIMIT * 10, read.fetch_all(query))
                    .await
                    .map_err(|_| ResultsError::Unavailable("no answer within 10 s".to_owned()))?
                    .map_err(meaning)?;
                Ok(rows.into_iter().map(Column::MySql).collect())
            }
        }
    }

    fn is_there(&self) -> Result<(), ResultsError> {
        match self {
            Self::Sqlite { anchor, .. } => anchor.holds().map_err(ResultsError::Unavailable),
            Self::MySql { .. } => Ok(()),
        }
    }

    /// Closes the pools; waits for what is under way.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { write, read, .. } => {
                read.close().await;
                write.close().await;
            }
            Self::MySql { write, read, .. } => {
                read.close().await;
                write.close().await;
            }
        }
    }
}

/// Makes the file, if it is not there, for its owner only: args and outputs are in it. SQLite gives
/// its companions the same mode.
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

/// A transaction.
pub enum Writing {
    /// On the one writer.
    Sqlite(Transaction<'static, Sqlite>),
    /// On a server.
    MySql(Transaction<'static, MySql>),
}

impl Writing {
    /// Runs a statement; tells how many rows it touched.
    pub async fn run(&mut self, sql: &Sql, values: Vec<Value>) -> Result<u64, ResultsError> {
        let sql = AssertSqlSafe(Arc::clone(sql));
        match self {
            Self::Sqlite(transaction) => {
                let query = sqlx::query_with(sql, sqlite_arguments(values)?);
                bounded(transaction.execute(query)).await.map(|done| done.rows_affected())
            }
            Self::MySql(transaction) => {
                let query = sqlx::query_with(sql, mysql_arguments(values)?);
                bounded(transaction.execute(query)).await.map(|done| done.rows_affected())
            }
        }
    }

    /// Runs statements without values.
    pub async fn script(&mut self, sql: &'static str) -> Result<(), ResultsError> {
        match self {
            Self::Sqlite(transaction) => bounded(transaction.execute(sqlx::raw_sql(sql))).await.map(drop),
            Self::MySql(transaction) => bounded(transaction.execute(sqlx::raw_sql(sql))).await.map(drop),
        }
    }

    /// Asks within the transaction.
    pub async fn ask(&mut self, sql: &'static str) -> Result<Vec<Column>, ResultsError> {
        match self {
            Self::Sqlite(transaction) => {
                let rows = bounded(transaction.fetch_all(sql)).await?;
                Ok(rows.into_iter().map(Column::Sqlite).collect())
            }
            Self::MySql(transaction) => {
                let rows = bounded(transaction.fetch_all(sql)).await?;
                Ok(rows.into_iter().map(Column::MySql).collect())
            }
        }
    }

    /// Asks within the transaction, with values.
    pub async fn fetch(&mut self, sql: &Sql, values: Vec<Value>) -> Result<Vec<Column>, ResultsError> {
        let sql = AssertSqlSafe(Arc::clone(sql));
        match self {
            Self::Sqlite(transaction) => {
                let query = sqlx::query_with(sql, sqlite_arguments(values)?);
                Ok(bounded(transaction.fetch_all(query)).await?.into_iter().map(Column::Sqlite).collect())
            }
            Self::MySql(transaction) => {
                let query = sqlx::query_with(sql, mysql_arguments(values)?);
                Ok(bounded(transaction.fetch_all(query)).await?.into_iter().map(Column::MySql).collect())
            }
        }
    }

    /// Makes it durable.
    pub async fn commit(self) -> Result<(), ResultsError> {
        match self {
            Self::Sqlite(transaction) => bounded(transaction.commit()).await,
            Self::MySql(transaction) => bounded(transaction.commit()).await,
        }
    }
}

fn pool(connections: u32) -> MySqlPoolOptions {
    MySqlPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_LIMIT)
}

async fn bounded<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, ResultsError> {
    tokio::time::timeout(WRITE_LIMIT, work)
        .await
        .map_err(|_| ResultsError::Unavailable("no answer within 30 s".to_owned()))?
        .map_err(meaning)
}
