//! The rows that recording a job writes, and their raw insert: one of `jobs`, one of `attempts`.
//!
//! Plain multi-row inserts, prepared once, a transaction a batch, on one connection. The schema is
//! the product's own, so that the same indexes are paid for; the product also pays for its guards.

use std::str::FromStr;

use anyhow::{Result, bail};
use jiff::Timestamp;
use spinor_consumers::results::{Results, ResultsTarget};
use spinor_executors::Job;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, MySqlConnection, SqliteConnection,
    mysql::MySqlConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use uuid::Uuid;

use crate::bytes::{self, Template};

/// Rows to a statement.
const ROWS: usize = 128;
const JOBS: &str = "INSERT INTO jobs (id, updated, job, job_replay, kind, queue, state, replay, attempt, created, \
                    started, ended, consumer, host, execution, place) VALUES ";
const JOB: &str = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
const ATTEMPTS: &str = "INSERT INTO attempts (job, replay, attempt, execution, state, started, ended, report) VALUES ";
const ATTEMPT: &str = "(?,?,?,?,?,?,?,?)";
/// Replay 0, attempt 1, final.
const PLACE: i64 = (1 << 2) | 3;
/// The columns that move when a queued job ends.
const MOVING: [&str; 8] = ["updated", "state", "started", "ended", "consumer", "host", "execution", "place"];

/// What a batch of rows says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Jobs that were not recorded before have ended.
    Whole,
    /// Jobs are on their queue.
    Queued,
    /// Jobs that are recorded as queued have ended.
    Ended,
}

/// One connection to a results database that has the product's schema.
pub enum Link {
    /// A file.
    Sqlite(SqliteConnection),
    /// A server.
    MySql(MySqlConnection),
}

impl Link {
    /// Opens `sqlite:PATH` or `mysql://...`, made ready by the product itself.
    pub async fn open(target: &str) -> Result<Self> {
        if let Some(path) = target.strip_prefix("sqlite:") {
            drop(Results::open(&ResultsTarget::Sqlite(path.into())).await?);
            let options = SqliteConnectOptions::new()
                .filename(path)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .pragma("cache_size", "-65536")
                .pragma("wal_autocheckpoint", "8000")
                .disable_statement_logging();
            return Ok(Self::Sqlite(options.connect().await?));
        }
        if target.starts_with("mysql://") {
            drop(Results::open(&ResultsTarget::MySql(target.to_owned())).await?);
            let options = MySqlConnectOptions::from_str(target)?.disable_statement_logging();
            return Ok(Self::MySql(options.connect().await?));
        }
        bail!("`{target}` is neither sqlite:PATH nor mysql://...")
    }

    /// Writes a batch in one transaction.
    pub async fn write(&mut self, rows: &Rows, ids: &[Uuid], stage: Stage) -> Result<()> {
        self.run("BEGIN").await?;
        for chunk in ids.chunks(ROWS) {
            let executions: Vec<Uuid> = chunk.iter().map(|_| Uuid::now_v7()).collect();
            let texts: Vec<(String, String)> = chunk.iter().map(|id| rows.texts(*id)).collect::<Result<_>>()?;
            self.insert(rows, chunk, &executions, &texts, stage).await?;
        }
        self.run("COMMIT").await
    }

    async fn run(&mut self, sql: &'static str) -> Result<()> {
        match self {
            Self::Sqlite(link) => link.execute(sqlx::raw_sql(sql)).await.map(|_| ())?,
            Self::MySql(link) => link.execute(sqlx::raw_sql(sql)).await.map(|_| ())?,
        }
        Ok(())
    }

    async fn insert(
        &mut self,
        rows: &Rows,
        ids: &[Uuid],
        executions: &[Uuid],
        texts: &[(String, String)],
        stage: Stage,
    ) -> Result<()> {
        let upsert = match (stage, &self) {
            (Stage::Whole | Stage::Queued, _) => String::new(),
            (Stage::Ended, Self::Sqlite(_)) => {
                format!(
                    " ON CONFLICT (id) DO UPDATE SET {}",
                    MOVING.map(|name| format!("{name}=excluded.{name}")).join(",")
                )
            }
            (Stage::Ended, Self::MySql(_)) => {
                format!(" ON DUPLICATE KEY UPDATE {}", MOVING.map(|name| format!("{name}=VALUES({name})")).join(","))
            }
        };
        let jobs = format!("{JOBS}{}{upsert}", vec![JOB; ids.len()].join(","));
        let attempts = format!("{ATTEMPTS}{}", vec![ATTEMPT; ids.len()].join(","));
        let ended = stage != Stage::Queued;
        let state = if ended { "succeeded" } else { "queued" };
        let place = if ended { PLACE } else { 1 << 2 };
        macro_rules! bound {
            ($link:expr) => {{
                let mut query = sqlx::query(AssertSqlSafe(jobs));
                for ((id, execution), (whole, _)) in ids.iter().zip(executions).zip(texts) {
                    query = query
                        .bind(&id.as_bytes()[..])
                        .bind(rows.at)
                        .bind(whole.as_str())
                        .bind(0i64)
                        .bind("noop")
                        .bind("bench")
                        .bind(state)
                        .bind(0i64)
                        .bind(1i64)
                        .bind(rows.at)
                        .bind(ended.then_some(rows.at))
                        .bind(ended.then_some(rows.at))
                        .bind(rows.consumer.as_str())
                        .bind(ended.then_some("floor"))
                        .bind(ended.then_some(&execution.as_bytes()[..]))
                        .bind(place);
                }
                $link.execute(query).await?;
                if !ended {
                    return Ok(());
                }
                let mut query = sqlx::query(AssertSqlSafe(attempts));
                for ((id, execution), (_, report)) in ids.iter().zip(executions).zip(texts) {
                    query = query
                        .bind(&id.as_bytes()[..])
                        .bind(0i64)
                        .bind(1i64)
                        .bind(&execution.as_bytes()[..])
                        .bind("succeeded")
                        .bind(rows.at)
                        .bind(rows.at)
                        .bind(report.as_str());
                }
                $link.execute(query).await?;
            }};
        }
        match self {
            Self::Sqlite(link) => bound!(link),
            Self::MySql(link) => bound!(link),
        }
        Ok(())
    }

    /// Deletes the rows that carry this run's mark, and no others.
    pub async fn clear(&mut self, rows: &Rows) -> Result<()> {
        let attempts = "DELETE FROM attempts WHERE job IN (SELECT id FROM jobs WHERE consumer = ?)";
        let jobs = "DELETE FROM jobs WHERE consumer = ?";
        for sql in [attempts, jobs] {
            match self {
                Self::Sqlite(link) => link.execute(sqlx::query(sql).bind(rows.consumer.as_str())).await.map(|_| ())?,
                Self::MySql(link) => link.execute(sqlx::query(sql).bind(rows.consumer.as_str())).await.map(|_| ())?,
            }
        }
        Ok(())
    }

    /// Closes the connection.
    pub async fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(link) => link.close().await?,
            Self::MySql(link) => link.close().await?,
        }
        Ok(())
    }
}

/// What the rows of one run have in common.
pub struct Rows {
    at: i64,
    consumer: String,
    whole: Template,
    report: Template,
}

impl Rows {
    /// For jobs of this size.
    pub fn new(payload: usize) -> Result<Self> {
        let job = Job::new("noop", "bench", bytes::payload(payload)?);
        Ok(Self {
            at: Timestamp::now().as_microsecond(),
            consumer: Uuid::now_v7().to_string(),
            whole: Template::queued(&job),
            report: Template::report(&job, false),
        })
    }

    fn texts(&self, id: Uuid) -> Result<(String, String)> {
        let mut buffer = [0; 36];
        let id = id.hyphenated().encode_lower(&mut buffer).as_bytes();
        let text = |template: &Template| {
            let mut line = Vec::with_capacity(template.len());
            template.write(&mut line, id);
            String::from_utf8(line)
        };
        Ok((text(&self.whole)?, text(&self.report)?))
    }
}
