//! The file `broker.db`: its tables, and the one transaction that a flush is.
//!
//! Every flush is one command to the database's thread, with a few arguments whatever its size:
//! rows travel as one blob and a list of places in it. Refuses to know what a message means.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{
    changes::{Changes, List},
    record::Left,
    row,
};
use crate::{anchor::Anchor, broker::BrokerError};

/// Bits of a key that are the sequence; the queue's number is above them, so that the rows of a
/// queue lie side by side in its order.
const SEQUENCE_BITS: u32 = 44;
/// Queue numbers on disk are below this.
const MAX_QUEUES: u64 = 1 << (63 - SEQUENCE_BITS);
/// At most about so many bytes of delayed messages are moved at once.
const DUE_BYTES: usize = 8 << 20;
/// The log is folded into the file when it has about so many bytes.
const FOLD_BYTES: usize = 16 << 20;
/// SQLite's own cache, in KiB: what a crowd of delayed jobs may cost in memory. The system's is behind it.
const CACHE: &str = "-8192";
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS queues (
        id INTEGER PRIMARY KEY, internal INTEGER NOT NULL, name TEXT NOT NULL, mark INTEGER NOT NULL DEFAULT 0,
        UNIQUE (internal, name)
    );
    INSERT OR IGNORE INTO queues (id, internal, name)
        VALUES (1, 1, 'results'), (2, 1, 'search'), (3, 1, 'dead'), (4, 1, 'next');
    CREATE TABLE IF NOT EXISTS messages (key INTEGER PRIMARY KEY, data BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS delayed (
        id INTEGER PRIMARY KEY, due INTEGER NOT NULL, queue INTEGER NOT NULL, data BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS delayed_due ON delayed (due);
    PRAGMA user_version = 1;
    COMMIT";

/// Rows come as one blob, one after the other; a list names the place of each in it:
/// `offset << 28 | length`. Parameters are bound by position: the client library miscounts
/// numbered ones when several statements share an argument.
const FLUSH: &str = "
    BEGIN IMMEDIATE;
    INSERT INTO messages (key, data)
        SELECT CAST(key AS INTEGER), substr(?, value >> 28, value & 268435455) FROM json_each(?);
    DELETE FROM messages WHERE key IN (SELECT value FROM json_each(?));
    UPDATE queues SET mark = listed.value
        FROM json_each(?) AS listed WHERE queues.id = CAST(listed.key AS INTEGER);
    INSERT INTO delayed (id, due, queue, data)
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
            substr(?, json_extract(value, '$[3]'), json_extract(value, '$[4]'))
        FROM json_each(?);
    DELETE FROM delayed WHERE id IN (SELECT value FROM json_each(?));
    COMMIT";

/// For a file that was copied from a broker which went on: all it holds may have run since, so it counts as
/// delivered before.
pub(crate) const ALL_DELIVERED: &str = "
    UPDATE queues SET mark = max(mark, coalesce(
        (SELECT max(key) & 17592186044415 FROM messages WHERE key >= queues.id << 44 AND key < (queues.id + 1) << 44), 0))";

/// Why the file could not be read or written. Named by what the writer does next.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum StoreError {
    /// Wait and try again; nothing was stored. Full, locked, or gone.
    #[error("{0}")]
    Full(String),
    /// Wait and try again; it may have been stored.
    #[error("{0}")]
    Failing(String),
    /// Try the items one by one: it refuses some of them.
    #[error("{0}")]
    Refused(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let code: Option<u32> = code.and_then(|code| code.parse().ok());
        // The primary result code is the lowest byte of SQLite's extended one.
        match code.map(|code| code & 0xff) {
            Some(5 | 6 | 7 | 8 | 13) => Self::Full(error.to_string()),
            Some(1 | 18 | 19 | 20 | 25) => Self::Refused(error.to_string()),
            _ => Self::Failing(error.to_string()),
        }
    }
}

/// A queue as it lies on disk.
#[derive(Debug)]
pub(super) struct StoredQueue {
    pub(super) id: u64,
    pub(super) internal: bool,
    pub(super) name: String,
    /// Up to here its messages may have been delivered.
    pub(super) mark: u64,
    /// How many messages it has.
    pub(super) count: u64,
    /// The newest of them.
    pub(super) last: u64,
}

/// A delayed message that is due.
#[derive(Debug)]
pub(super) struct DueRow {
    pub(super) id: i64,
    pub(super) queue: u64,
    pub(super) row: Vec<u8>,
}

/// The writer's own connection.
pub(super) struct Store {
    connection: SqliteConnection,
    /// The file, its log and the directory's lock, which may be removed under us.
    anchor: Anchor,
    /// About so many bytes are in the log and not in the file.
    unfolded: usize,
    fold_failed: bool,
}

impl Store {
    /// Opens the file, making it when absent.
    pub(super) async fn open(dir: &Path) -> Result<Self, BrokerError> {
        let path = dir.join("broker.db");
        let failed = |error: sqlx::Error| BrokerError::Misconfigured(format!("{}: {error}", path.display()));
        let mut connection = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(2))
            // By itself SQLite would fold inside a commit, and report a commit that is on disk as
            // failed when the folding fails. So it is done apart.
            .pragma("wal_autocheckpoint", "0")
            .pragma("cache_size", CACHE)
            .disable_statement_logging()
            .thread_name(|_| "spinor-broker".to_owned())
            .connect()
            .await
            .map_err(failed)?;
        let version: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await.map_err(failed)?;
        if version > SCHEMA_VERSION {
            let path = path.display();
            return Err(BrokerError::Misconfigured(format!(
                "{path} was written by a newer version (layout {version})"
            )));
        }
        if version < SCHEMA_VERSION {
            sqlx::raw_sql(SCHEMA).execute(&mut connection).await.map_err(failed)?;
        }
        let files = ["broker.db", "broker.db-wal", "broker.lock"].map(|name| dir.join(name));
        Ok(Self { connection, anchor: Anchor::of(&files), unfolded: 0, fold_failed: false })
    }

    /// Is what we write still what the next process will open?
    pub(super) fn is_there(&self) -> Result<(), StoreError> {
        self.anchor.holds().map_err(StoreError::Full)
    }

    /// Every queue with what it holds.
    pub(super) async fn queues(&mut self) -> Result<Vec<StoredQueue>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, internal, name, mark,
                (SELECT count(*) FROM messages WHERE key >= id << 44 AND key < (id + 1) << 44),
                (SELECT max(key) & 17592186044415 FROM messages WHERE key >= id << 44 AND key < (id + 1) << 44)
             FROM queues ORDER BY id",
        )
        .fetch_all(&mut self.connection)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(StoredQueue {
                    id: unsigned(row.try_get(0)?),
                    internal: row.try_get(1)?,
                    name: row.try_get(2)?,
                    mark: unsigned(row.try_get(3)?),
                    count: unsigned(row.try_get(4)?),
                    last: unsigned(row.try_get::<Option<i64>, _>(5)?.unwrap_or(0)),
                })
            })
            .collect()
    }

    /// Makes the messages that had started tell so, in one transaction.
    pub(super) async fn tell(&mut self, left: &Left) -> Result<(), StoreError> {
        let mut transaction = self.connection.begin().await?;
        for one in &left.started {
            let key = key(one.queue, one.sequence);
            let row: Option<Vec<u8>> = sqlx::query_scalar("SELECT data FROM messages WHERE key = ?")
                .bind(key)
                .fetch_optional(&mut *transaction)
                .await?;
            // One that is gone has ended; a damaged one is found when it is fetched.
            if let Some(Ok(mut message)) = row.map(row::decode)
                && left.tell(one, &mut message)
            {
                let update = sqlx::query("UPDATE messages SET data = ? WHERE key = ?");
                update.bind(row::encode(&message)).bind(key).execute(&mut *transaction).await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Adds a work queue; its number.
    pub(super) async fn declare(&mut self, name: &str) -> Result<u64, StoreError> {
        let sql = "INSERT INTO queues (internal, name) VALUES (0, ?1) RETURNING id";
        let id = unsigned(sqlx::query_scalar(sql).bind(name).fetch_one(&mut self.connection).await?);
        if id >= MAX_QUEUES {
            return Err(StoreError::Refused(format!("more than {MAX_QUEUES} queues")));
        }
        Ok(id)
    }

    /// Everything in one transaction, on disk when it returns; all of it or nothing.
    pub(super) async fn write(&mut self, changes: Changes) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.is_there()?;
        let size = changes.log_bytes();
        let written = sqlx::query(FLUSH)
            .bind(changes.rows)
            .bind(changes.puts.finish())
            .bind(changes.removes.finish())
            .bind(changes.marks.finish())
            .bind(changes.delayed_rows)
            .bind(changes.delays.finish())
            .bind(changes.undelays.finish())
            .execute(&mut self.connection)
            .await;
        if let Err(error) = written {
            // Fails when SQLite has rolled back by itself already; then there is nothing to do.
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await;
            return Err(error.into());
        }
        self.unfolded += size;
        // It may have gone meanwhile: then nobody is told that it is safe.
        self.anchor.holds().map_err(StoreError::Failing)
    }

    /// Folds the log into the file when it has grown.
    pub(super) async fn fold(&mut self) {
        if self.unfolded < FOLD_BYTES {
            return;
        }
        // A failure costs nothing but room: the next one folds more.
        self.unfolded = 0;
        let folded = sqlx::raw_sql("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut self.connection).await;
        if let Err(error) = &folded
            && !self.fold_failed
        {
            tracing::warn!(%error, "The broker's log cannot be folded into its file and grows.");
        }
        self.fold_failed = folded.is_err();
    }

    /// The rows of a queue after a sequence, in order: at most so many, and about so many bytes.
    pub(super) async fn load(
        &mut self,
        queue: u64,
        after: u64,
        limit: u32,
        bytes: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let (from, end) = (key(queue, after), key(queue + 1, 0));
        // Lengths first: they are known without reading long bodies.
        let sql = "SELECT key, length(data) FROM messages WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3";
        let sizes: Vec<(i64, i64)> =
            sqlx::query_as(sql).bind(from).bind(end).bind(limit).fetch_all(&mut self.connection).await?;
        let Some((last, _)) = within(&sizes, bytes).last() else { return Ok(vec![]) };
        let sql = "SELECT key, data FROM messages WHERE key > ?1 AND key <= ?2 ORDER BY key";
        let rows: Vec<(i64, Vec<u8>)> =
            sqlx::query_as(sql).bind(from).bind(last).fetch_all(&mut self.connection).await?;
        Ok(rows.into_iter().map(|(key, row)| (sequence(key), row)).collect())
    }

    /// When the next delayed message is due, in microseconds since 1970, and the newest one's
    /// number.
    pub(super) async fn next_due(&mut self) -> Result<(Option<i64>, i64), StoreError> {
        let sql = "SELECT (SELECT min(due) FROM delayed), (SELECT coalesce(max(id), 0) FROM delayed)";
        Ok(sqlx::query_as(sql).fetch_one(&mut self.connection).await?)
    }

    /// Some of the delayed messages that are due, the earliest first.
    pub(super) async fn due(&mut self, now: i64) -> Result<Vec<DueRow>, StoreError> {
        let sql = "SELECT id, length(data) FROM delayed WHERE due <= ?1 ORDER BY due, id LIMIT 200";
        let sizes: Vec<(i64, i64)> = sqlx::query_as(sql).bind(now).fetch_all(&mut self.connection).await?;
        let mut ids = List::ids();
        within(&sizes, DUE_BYTES).iter().for_each(|(id, _)| ids.push(format_args!("{id}")));
        let sql = "SELECT id, queue, data FROM delayed WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY due, id";
        let rows: Vec<(i64, i64, Vec<u8>)> =
            sqlx::query_as(sql).bind(ids.finish()).fetch_all(&mut self.connection).await?;
        Ok(rows.into_iter().map(|(id, queue, row)| DueRow { id, queue: unsigned(queue), row }).collect())
    }

    /// Writes a little, to learn whether the disk takes it again.
    pub(super) async fn probe(&mut self) -> Result<(), StoreError> {
        self.is_there()?;
        let sql = "BEGIN IMMEDIATE;
            INSERT INTO messages (key, data) VALUES (-1, zeroblob(65536));
            DELETE FROM messages WHERE key = -1;
            COMMIT";
        if let Err(error) = sqlx::raw_sql(sql).execute(&mut self.connection).await {
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await;
            return Err(error.into());
        }
        Ok(())
    }

    /// Folds the log into the file and closes it.
    pub(super) async fn close(mut self) {
        let folded = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.connection).await;
        if let Err(error) = folded {
            tracing::warn!(%error, "The broker's log was not folded into its file; the next open does it.");
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "The broker's file was not closed in good order; nothing is lost.");
        }
    }
}

/// A row's key.
pub(super) fn key(queue: u64, sequence: u64) -> i64 {
    i64::try_from(number(queue, sequence)).unwrap_or(i64::MAX)
}

/// A queue on disk and a sequence in it, as one number.
pub(super) const fn number(queue: u64, sequence: u64) -> u64 {
    queue << SEQUENCE_BITS | sequence
}

/// The queue and the sequence of a [`number`].
pub(super) const fn place(number: u64) -> (u64, u64) {
    (number >> SEQUENCE_BITS, number & ((1 << SEQUENCE_BITS) - 1))
}

/// The first of these (id, size) that have about so many bytes; at least one, if there is one.
fn within(sizes: &[(i64, i64)], bytes: usize) -> &[(i64, i64)] {
    let mut sum = 0;
    let fits = sizes.iter().take_while(|(_, size)| {
        let fits = sum < bytes;
        sum += usize::try_from(*size).unwrap_or(usize::MAX);
        fits
    });
    &sizes[..fits.count()]
}

fn sequence(key: i64) -> u64 {
    place(unsigned(key)).1
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
