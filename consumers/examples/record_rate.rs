//! How many jobs a second the record takes, beside the same rows inserted raw.
//!
//! `record_rate [--jobs N] [mysql://user:password@host:port]`: SQLite in a scratch file, then the
//! server when one is named. A job is its `queued` report and its end, 2000 entries to a
//! transaction. The floor binds ready values to plain multi-row inserts into tables with the same
//! indices, one connection, the same rows to a transaction and the same durability. Both alternate,
//! and the median counts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measure that cannot be taken ends")]

use std::{str::FromStr as _, time::Duration};

use spinor_consumers::{
    entry::Entry,
    results::{Results, ResultsTarget},
};
use spinor_executors::{Job, Json, Origin, Output, Report, State};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _,
    mysql::MySqlConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::time::Instant;
use uuid::Uuid;

const JOBS_A_BATCH: usize = 1000;
const ROWS_A_STATEMENT: usize = 128;
const ROUNDS: usize = 5;

const JOBS: (&str, usize) = (
    "jobs (id, updated, job, job_replay, kind, queue, state, replay, attempt, created, started, ended, consumer, host, \
     execution, place)",
    16,
);
const ATTEMPTS: (&str, usize) = ("attempts (job, replay, attempt, execution, state, started, ended, report)", 8);

fn entries(jobs: usize) -> Vec<Entry> {
    let origin = Origin { consumer: "c-1".into(), group: "images".into(), host: "host-1".into() };
    let args = Json::of(&serde_json::json!({"path": "/images/0123456789.png", "width": 640, "height": 480})).unwrap();
    let mut entries = Vec::with_capacity(2 * jobs);
    for _ in 0..jobs {
        let job = Job::new("image.resize", "images", args.clone());
        let mut report = Report::of(&job, &origin, Uuid::now_v7(), job.created);
        report.state = State::Succeeded;
        report.stdout = Output { head: "resized\n".into(), bytes: 8, ..Output::default() };
        entries.push(Entry::Queued(Box::new(job)));
        entries.push(Entry::Report(Box::new(report)));
    }
    entries
}

/// The product: parsed entries into `store`.
async fn product(results: &Results, entries: &[Entry]) -> Duration {
    let began = Instant::now();
    for batch in entries.chunks(2 * JOBS_A_BATCH) {
        results.store(batch).await.unwrap();
    }
    began.elapsed()
}

/// What a raw row binds.
#[derive(Clone)]
enum Raw {
    Id(Uuid),
    Text(String),
    Int(i64),
}

fn job_row(job: &Job, report: &Report) -> Vec<Raw> {
    let micros = report.started.as_microsecond();
    let text = |text: &str| Raw::Text(text.to_owned());
    vec![
        Raw::Id(job.id),
        Raw::Int(micros),
        Raw::Text(serde_json::to_string(job).unwrap()),
        Raw::Int(0),
        text(&job.kind),
        text(&job.queue),
        text("succeeded"),
        Raw::Int(0),
        Raw::Int(1),
        Raw::Int(job.created.as_microsecond()),
        Raw::Int(micros),
        Raw::Int(micros),
        text("c-1"),
        text("host-1"),
        Raw::Id(report.execution),
        Raw::Int(7),
    ]
}

fn attempt_row(report: &Report) -> Vec<Raw> {
    let micros = report.started.as_microsecond();
    vec![
        Raw::Id(report.job),
        Raw::Int(0),
        Raw::Int(1),
        Raw::Id(report.execution),
        Raw::Text("succeeded".to_owned()),
        Raw::Int(micros),
        Raw::Int(micros),
        Raw::Text(serde_json::to_string(report).unwrap()),
    ]
}

/// Ready rows of a batch: those of `jobs`, those of `attempts`.
fn rows(entries: &[Entry]) -> Vec<[Vec<Vec<Raw>>; 2]> {
    let batch = |batch: &[Entry]| {
        let (mut jobs, mut attempts) = (Vec::new(), Vec::new());
        for pair in batch.chunks(2) {
            if let [Entry::Queued(job), Entry::Report(report)] = pair {
                jobs.push(job_row(job, report));
                attempts.push(attempt_row(report));
            }
        }
        [jobs, attempts]
    };
    entries.chunks(2 * JOBS_A_BATCH).map(batch).collect()
}

fn insert(table: (&str, usize), rows: usize) -> String {
    let row = format!("({})", vec!["?"; table.1].join(", "));
    format!("INSERT INTO {} VALUES {}", table.0, vec![row; rows].join(", "))
}

macro_rules! floor {
    ($name:ident, $connection:ty, $begin:literal) => {
        async fn $name(connection: &mut $connection, batches: Vec<[Vec<Vec<Raw>>; 2]>) -> Duration {
            let began = Instant::now();
            for batch in batches {
                connection.execute($begin).await.unwrap();
                for (table, rows) in [JOBS, ATTEMPTS].into_iter().zip(batch) {
                    for some in rows.chunks(ROWS_A_STATEMENT) {
                        let mut query = sqlx::query(AssertSqlSafe(insert(table, some.len())));
                        for value in some.iter().flatten() {
                            query = match value {
                                Raw::Id(id) => query.bind(&id.as_bytes()[..]),
                                Raw::Text(text) => query.bind(text.as_str()),
                                Raw::Int(number) => query.bind(*number),
                            };
                        }
                        query.execute(&mut *connection).await.unwrap();
                    }
                }
                connection.execute("COMMIT").await.unwrap();
            }
            began.elapsed()
        }
    };
}

floor!(floor_on_sqlite, sqlx::SqliteConnection, "BEGIN IMMEDIATE");
floor!(floor_on_server, sqlx::MySqlConnection, "START TRANSACTION");

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[allow(clippy::print_stdout, reason = "a measure is printed")]
fn tell(name: &str, jobs: usize, times: &[(Duration, Duration)]) {
    let rate = |time: &Duration| jobs as f64 / time.as_secs_f64();
    let floors = median(times.iter().map(|(floor, _)| rate(floor)).collect());
    let products = median(times.iter().map(|(_, product)| rate(product)).collect());
    let ratios: Vec<f64> = times.iter().map(|(floor, product)| floor.as_secs_f64() / product.as_secs_f64()).collect();
    let (low, high) = (ratios.iter().copied().fold(f64::MAX, f64::min), ratios.iter().copied().fold(0.0, f64::max));
    println!(
        "{name}: record {products:.0} jobs/s, raw {floors:.0} jobs/s, ratio {:.2} ({low:.2} to {high:.2}), {jobs} jobs a round",
        median(ratios)
    );
}

async fn on_sqlite(jobs: usize) {
    let directory = std::env::temp_dir().join(format!("record-rate-{}", Uuid::now_v7().simple()));
    let open = async |name: &str| {
        let path = directory.join(name);
        (Results::open(&ResultsTarget::Sqlite(path.clone())).await.unwrap(), path)
    };
    let (results, _) = open("product.db").await;
    let (made, path) = open("floor.db").await;
    made.close().await;
    let mut raw = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-65536")
        .pragma("wal_autocheckpoint", "8000")
        .disable_statement_logging()
        .connect()
        .await
        .unwrap();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let entries = entries(jobs);
        let floor = floor_on_sqlite(&mut raw, rows(&entries)).await;
        times.push((floor, product(&results, &entries).await));
    }
    raw.close().await.unwrap();
    results.close().await;
    tell("sqlite", jobs, &times);
    std::fs::remove_dir_all(directory).unwrap();
}

async fn on_server(url: &str, jobs: usize) {
    let base = url.trim_end_matches('/');
    let name = format!("record_rate_{}", Uuid::now_v7().simple());
    let mut admin = MySqlConnectOptions::from_str(base).unwrap().connect().await.unwrap();
    let mut targets = Vec::new();
    for part in ["product", "floor"] {
        admin.execute(sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}_{part}")))).await.unwrap();
        targets.push(format!("{base}/{name}_{part}"));
    }
    let results = Results::open(&ResultsTarget::MySql(targets[0].clone())).await.unwrap();
    Results::open(&ResultsTarget::MySql(targets[1].clone())).await.unwrap().close().await;
    let options = MySqlConnectOptions::from_str(&targets[1]).unwrap().disable_statement_logging();
    let mut raw = options.connect().await.unwrap();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let entries = entries(jobs);
        let floor = floor_on_server(&mut raw, rows(&entries)).await;
        times.push((floor, product(&results, &entries).await));
    }
    raw.close().await.unwrap();
    results.close().await;
    tell("server", jobs, &times);
    for part in ["product", "floor"] {
        admin.execute(sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name}_{part}")))).await.unwrap();
    }
}

#[tokio::main]
async fn main() {
    let mut jobs = 50_000;
    let mut server = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--jobs" {
            jobs = arguments.next().and_then(|count| count.parse().ok()).expect("--jobs takes a number");
        } else {
            server = Some(argument);
        }
    }
    on_sqlite(jobs).await;
    if let Some(url) = server {
        on_server(&url, jobs).await;
    }
}
