//! The statements of the embedded broker and of the recorder on SQLite, run raw.
//!
//! One flush takes a batch of jobs in, the batch before out, and its pack of reports in; another
//! connection inserts the rows of the record and gives the pack back for removal. Two threads, as
//! in the product, and nothing between them but the statements.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use spinor_consumers::message;
use spinor_executors::Job;
use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    bytes::{self, Template},
    measure::Stopwatch,
    rows::{Link, Rows, Stage},
};

/// The tables of the embedded broker that carry messages.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS queues (id INTEGER PRIMARY KEY, mark INTEGER NOT NULL DEFAULT 0);
    INSERT OR IGNORE INTO queues (id) VALUES (1), (5);
    CREATE TABLE IF NOT EXISTS messages (key INTEGER PRIMARY KEY, data BLOB NOT NULL)";
/// Its one transaction: rows in, rows out, marks.
const FLUSH: &str = "
    BEGIN IMMEDIATE;
    INSERT INTO messages (key, data)
        SELECT CAST(key AS INTEGER), substr(?1, value >> 28, value & 268435455) FROM json_each(?2);
    DELETE FROM messages WHERE key IN (SELECT value FROM json_each(?3));
    UPDATE queues SET mark = listed.value
        FROM json_each(?4) AS listed WHERE queues.id = CAST(listed.key AS INTEGER);
    COMMIT";
const RESULTS: u64 = 1;
const WORK: u64 = 5;

#[derive(clap::Args)]
pub struct Args {
    /// A directory of its own; made, and left to the caller to remove.
    #[arg(long)]
    dir: PathBuf,
    /// How many jobs.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// Bytes of each job.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// Jobs to a flush.
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// Leave the record out.
    #[arg(long)]
    unrecorded: bool,
    /// Each job is also announced and recorded when it is queued.
    #[arg(long)]
    journal: bool,
}

/// A pack in the results queue: its place there, and the rows it stands for.
type Pack = (u64, Vec<Uuid>, Stage);

/// Runs the floor.
pub fn run(args: &Args) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measured(args))
}

async fn measured(args: &Args) -> Result<Value> {
    tokio::fs::create_dir_all(&args.dir).await?;
    let mut broker = open(args).await?;
    let record = args.dir.join("record.db");
    let mut record = match args.unrecorded {
        true => None,
        false => Some(Link::open(&format!("sqlite:{}", record.display())).await?),
    };
    let rows = Rows::new(args.payload)?;
    let (packs, mut to_record) = mpsc::channel::<Pack>(4);
    // As large as there can be packs, so that neither side ever waits for the other here.
    let (recorded, done) = mpsc::channel(2 * (args.jobs / args.batch.max(1) + 2));
    let watch = Stopwatch::start()?;
    let recording = async {
        while let Some((pack, ids, stage)) = to_record.recv().await {
            if let Some(link) = &mut record {
                link.write(&rows, &ids, stage).await?;
            }
            recorded.send(pack).await?;
        }
        drop(recorded);
        anyhow::Ok(())
    };
    let (flushes, ()) = tokio::try_join!(carry(args, &mut broker, packs, done), recording)?;
    let line = watch.stop("statements", args.jobs as u64, &json!({ "flushes": flushes }))?;
    broker.close().await?;
    if let Some(link) = record {
        link.close().await?;
    }
    Ok(line)
}

async fn open(args: &Args) -> Result<SqliteConnection> {
    let mut broker = SqliteConnectOptions::new()
        .filename(args.dir.join("broker.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "4000")
        .pragma("cache_size", "-32768")
        .disable_statement_logging()
        .connect()
        .await?;
    sqlx::raw_sql(SCHEMA).execute(&mut broker).await?;
    Ok(broker)
}

/// Flushes until every job went in and out and every pack came and went.
async fn carry(
    args: &Args,
    broker: &mut SqliteConnection,
    packs: mpsc::Sender<Pack>,
    mut done: mpsc::Receiver<u64>,
) -> Result<u64> {
    let job = Job::new("noop", "bench", bytes::payload(args.payload)?);
    let row = row(&job)?;
    let report = Template::report(&job, !args.journal);
    let queued = Template::queued(&job);
    let ended = if args.journal { Stage::Ended } else { Stage::Whole };
    let (mut left, mut sequence, mut pack, mut flushes, mut open) = (args.jobs, 0, 0, 0, 0);
    let mut before: Vec<Uuid> = Vec::new();
    let mut packs = Some(packs);
    loop {
        let mut flush = Flush::default();
        let mut made: Vec<Pack> = Vec::new();
        let ids: Vec<Uuid> = (0..args.batch.min(left)).map(|_| Uuid::now_v7()).collect();
        left -= ids.len();
        let first = sequence + 1;
        for id in &ids {
            sequence += 1;
            flush.put(WORK, sequence, |to| row.write(to, id.to_string().as_bytes()));
        }
        let answered = std::mem::replace(&mut before, ids.clone());
        if !answered.is_empty() {
            flush.settle(first - answered.len() as u64, answered.len());
            pack += 1;
            flush.pack(pack, &answered, &report);
            made.push((pack, answered, ended));
        }
        if args.journal && !ids.is_empty() {
            pack += 1;
            flush.pack(pack, &ids, &queued);
            made.push((pack, ids, Stage::Queued));
        }
        while let Ok(pack) = done.try_recv() {
            open -= 1;
            flush.remove(RESULTS, pack);
        }
        if flush.is_empty() {
            if open == 0 {
                return Ok(flushes);
            }
            // All is in and answered: only the record is still to come.
            packs = None;
            let pack = done.recv().await.context("the record ended")?;
            open -= 1;
            flush.remove(RESULTS, pack);
        }
        flush.write(broker).await?;
        flushes += 1;
        if let Some(packs) = &packs {
            for pack in made {
                open += 1;
                packs.send(pack).await?;
            }
        }
    }
}

/// A job's row: eight bytes of head, the properties as JSON, the body.
fn row(job: &Job) -> Result<Template> {
    let message = message::encode(job, false);
    let mut row = vec![0; 8];
    serde_json::to_writer(&mut row, &message.properties)?;
    row.extend_from_slice(&message.body);
    Ok(Template::of(row, job.id))
}

/// What one flush writes.
#[derive(Default)]
struct Flush {
    blob: Vec<u8>,
    puts: String,
    removes: String,
    marks: String,
}

impl Flush {
    fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.removes.is_empty()
    }

    fn put(&mut self, queue: u64, sequence: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let offset = self.blob.len();
        write(&mut self.blob);
        let place = (offset + 1) << 28 | (self.blob.len() - offset);
        let _ = write!(self.puts, "{}\"{}\":{place}", comma(&self.puts), key(queue, sequence));
    }

    fn remove(&mut self, queue: u64, sequence: u64) {
        let _ = write!(self.removes, "{}{}", comma(&self.removes), key(queue, sequence));
    }

    /// A batch is answered: its rows out.
    fn settle(&mut self, first: u64, count: usize) {
        for sequence in (first..).take(count) {
            self.remove(WORK, sequence);
        }
        self.marks = format!("\"{WORK}\":{}", first + count as u64);
    }

    /// A pack of lines in.
    fn pack(&mut self, number: u64, ids: &[Uuid], line: &Template) {
        self.put(RESULTS, number, |to| {
            for id in ids {
                line.write(to, id.to_string().as_bytes());
                to.push(b'\n');
            }
        });
    }

    async fn write(self, broker: &mut SqliteConnection) -> Result<()> {
        sqlx::query(FLUSH)
            .bind(self.blob)
            .bind(format!("{{{}}}", self.puts))
            .bind(format!("[{}]", self.removes))
            .bind(format!("{{{}}}", self.marks))
            .execute(broker)
            .await?;
        Ok(())
    }
}

fn comma(list: &str) -> &'static str {
    if list.is_empty() { "" } else { "," }
}

fn key(queue: u64, sequence: u64) -> u64 {
    queue << 44 | sequence
}
