//! The record: whatever order, repetition or fault brings the entries, one job has one row that
//! moved only forward and one row an execution. On real SQLite and a real server.

/// Each of these tests, in both dialects.
macro_rules! both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(&crate::recorder::Record::sqlite().await).await; })+
        }
        mod server {
            $(#[tokio::test] async fn $name() {
                let record = crate::recorder::Record::server().await;
                super::$name(&record).await;
                record.end().await;
            })+
        }
    };
}

mod answers;
pub mod entries;
mod failures;
mod faults;
mod figures;
pub mod loops;
mod order;
mod questions;

use std::str::FromStr;

use spinor_consumers::results::{JobFilter, JobRow, Page, Results, ResultsTarget};
use spinor_executors::Job;
use sqlx::{ConnectOptions, Connection, Executor, mysql::MySqlConnectOptions};

use crate::support::{scratch::Scratch, servers};

/// All of its tables.
const TABLES: [&str; 21] = [
    "jobs",
    "attempts",
    "steps",
    "runs",
    "dead",
    "marks",
    "replays",
    "blobs",
    "driven",
    "members",
    "needs",
    "schedules",
    "ticks",
    "leaders",
    "figures",
    "figure_hours",
    "timers",
    "changes",
    "counts",
    "notices",
    "spinor_schema",
];

/// A results database of one test, in both dialects.
pub struct Record {
    pub results: Results,
    target: ResultsTarget,
    _scratch: Option<Scratch>,
    database: Option<String>,
}

impl Record {
    pub async fn sqlite() -> Self {
        let scratch = Scratch::new("record");
        let target = ResultsTarget::Sqlite(scratch.join("results.db"));
        let results = Results::open(&target).await.expect("SQLite opens");
        Self { results, target, _scratch: Some(scratch), database: None }
    }

    pub async fn server() -> Self {
        Self::server_at(&servers::mysql_url()).await
    }

    /// On a server that may be the test's own.
    pub async fn server_at(url: &str) -> Self {
        let name = format!("spinor_{}", uuid::Uuid::now_v7().simple());
        admin(url, &format!("CREATE DATABASE {name}")).await;
        let target = ResultsTarget::MySql(with_database(url, &name));
        let results = Results::open(&target).await.expect("the server's database opens");
        Self { results, target, _scratch: None, database: Some(name) }
    }

    /// Another handle, as another process has it.
    pub async fn again(&self) -> Results {
        Results::open(&self.target).await.expect("it opens again")
    }

    pub fn target(&self) -> &ResultsTarget {
        &self.target
    }

    /// As if nothing had ever been recorded: no table is left.
    pub async fn drop_all(&self) {
        for table in TABLES {
            self.execute(&format!("DROP TABLE {table}")).await;
        }
    }

    /// Runs SQL on it beside the product.
    pub async fn execute(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.target {
            ResultsTarget::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                options.connect().await.unwrap().execute(sqlx::raw_sql(sql)).await.unwrap();
            }
            ResultsTarget::MySql(url) => {
                let mut connection = MySqlConnectOptions::from_str(url).unwrap().connect().await.unwrap();
                connection.execute(sqlx::raw_sql(sql)).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    }

    /// Removes a server's database; a scratch file goes by itself.
    pub async fn end(self) {
        self.results.close().await;
        if let (Some(name), ResultsTarget::MySql(url)) = (&self.database, &self.target) {
            admin(url, &format!("DROP DATABASE {name}")).await;
        }
    }
}

/// The rows of all pages, one page after the other.
pub async fn all_pages(mut filter: JobFilter, ask: impl AsyncFn(&JobFilter) -> Page<JobRow>) -> Vec<JobRow> {
    let mut rows = Vec::new();
    loop {
        let page = ask(&filter).await;
        rows.extend(page.rows);
        filter.cursor = page.next;
        if filter.cursor.is_none() {
            return rows;
        }
    }
}

/// Asserts that the rows are these jobs, each once, the newest first.
pub fn newest_first(rows: &[JobRow], jobs: &[Job]) {
    let mut expected: Vec<_> = jobs.iter().map(|job| (job.created, job.id)).collect();
    expected.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(rows.iter().map(|row| (row.created, row.id)).collect::<Vec<_>>(), expected);
}

/// The same URL with another database.
pub fn with_database(url: &str, name: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    format!("{}/{name}", &url[..end])
}

/// Runs one statement as the user who may create databases.
pub async fn admin(url: &str, sql: &str) {
    let options = MySqlConnectOptions::from_str(url).expect("SPINOR_TEST_MYSQL_URL is a MySQL URL");
    let mut connection = options.connect().await.expect("the server of SPINOR_TEST_MYSQL_URL answers");
    connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.expect("the test's user may create databases");
    connection.close().await.expect("it closes");
}
