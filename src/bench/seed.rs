//! `spinor bench seed`: fills a results database with jobs as a busy site leaves them.
//!
//! Owns the mixture: kinds, queues, ends, attempts, errors, runs, dead letters and delayed jobs, the same ones for the
//! same number. Writes by the recorder's own way, so that the rows are what a recorder writes. Refuses a database that
//! holds jobs already, unless it is told to add to them.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use spinor_consumers::{
    entry::{Entry, RunReport},
    message::{self, Message},
    results::{DeadLetter, JobFilter, Results, fingerprint},
};
use spinor_executors::{Cause, Failure, Job, Json, Origin, Output, Report, State, VERSION};
use tokio::{task::JoinSet, time::Instant};
use uuid::{Builder, Uuid};

use super::mixture::{self, End, Line};
use crate::{app, config::Config};

/// Jobs written in one transaction.
const BATCH: u64 = 2000;
/// Transactions at once: the record has so many connections that write.
const AT_ONCE: usize = 2;

/// How much to write.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// So many jobs.
    pub rows: u64,
    /// Created over the last so many days.
    pub days: u32,
    /// Also beside jobs that are there.
    pub more: bool,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Seeded {
    /// Jobs.
    pub jobs: u64,
    /// Executions.
    pub attempts: u64,
    /// Dead letters.
    pub letters: u64,
    /// Runs.
    pub runs: u64,
    /// Jobs that wait for their time.
    pub delayed: u64,
    /// How long it took.
    pub seconds: f64,
}

impl fmt::Display for Seeded {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, attempts, letters, runs, delayed, seconds } = self;
        write!(
            to,
            "{jobs} jobs with {attempts} executions, {letters} dead letters, {runs} runs and {delayed} delayed jobs in \
             {seconds:.0} s"
        )
    }
}

/// Fills the results database of a configuration.
pub async fn run(seed: Seed, config: &Config) -> Result<Seeded> {
    if seed.rows == 0 || seed.days == 0 {
        bail!("--rows and --days must be 1 at least");
    }
    let results = app::results_of(config).await?;
    let there = results.jobs(&JobFilter { limit: 1, ..JobFilter::default() }).await?;
    if !there.rows.is_empty() && !seed.more {
        bail!(
            "this results database holds jobs already: give a new one, or --more to add to it what cannot be told from real jobs"
        );
    }
    let written = write(seed, &results).await;
    results.close().await;
    written
}

async fn write(seed: Seed, results: &Results) -> Result<Seeded> {
    let (begun, now) = (Instant::now(), Timestamp::now());
    let span = SignedDuration::from_hours(24 * i64::from(seed.days));
    let from = now.checked_sub(span)?.as_microsecond();
    let step = i64::try_from(span.as_micros() / i128::from(seed.rows))?.max(1);
    let (mut sum, mut writing, mut told) = (Seeded::default(), JoinSet::new(), 0);
    for batch in 0..seed.rows.div_ceil(BATCH) {
        if writing.len() >= AT_ONCE {
            sum.add(&writing.join_next().await.context("a transaction")???);
        }
        let numbers = batch * BATCH..((batch + 1) * BATCH).min(seed.rows);
        let made = Made::of(numbers, seed.rows, from, step, now)?;
        let results = results.clone();
        writing.spawn(async move { made.write(&results).await });
        let tenths = (batch + 1) * BATCH * 10 / seed.rows;
        if tenths > told && tenths <= 10 {
            told = tenths;
            tracing::info!(jobs = (batch + 1) * BATCH, seconds = begun.elapsed().as_secs(), "Written so far.");
        }
    }
    while let Some(written) = writing.join_next().await {
        sum.add(&written??);
    }
    sum.seconds = begun.elapsed().as_secs_f64();
    Ok(sum)
}

impl Seeded {
    const fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.attempts += other.attempts;
        self.letters += other.letters;
        self.runs += other.runs;
        self.delayed += other.delayed;
    }
}

/// What goes into one transaction, and beside it.
#[derive(Default)]
struct Made {
    entries: Vec<Entry>,
    letters: Vec<(Message, DeadLetter)>,
    delayed: Vec<Job>,
    sum: Seeded,
}

impl Made {
    fn of(numbers: std::ops::Range<u64>, rows: u64, from: i64, step: i64, now: Timestamp) -> Result<Self> {
        let mut made = Self::default();
        for number in numbers {
            let created = Timestamp::from_microsecond(from + step * i64::try_from(number)?)?;
            made.job(&Line::of(number, rows), created, now)?;
        }
        Ok(made)
    }

    fn job(&mut self, line: &Line, created: Timestamp, now: Timestamp) -> Result<()> {
        let mut job = Job::new(line.kind, line.queue, Json::new(line.args())?);
        (job.id, job.created) = (id(created, line.dice)?, created);
        if let Some(run) = line.run {
            let (id, name) = (mixture::run_id(run.number), format!("nightly {}", run.number));
            (job.run, job.member) = (Some(id), Some(format!("member-{}", run.member)));
            if run.member == 0 {
                let ended = created.checked_add(SignedDuration::from_secs(60))?;
                self.entries.push(Entry::Run(Box::new(RunReport {
                    run: id,
                    name,
                    members: run.members,
                    steps: 0,
                    replay: 0,
                    started: created,
                    ended: Some(ended),
                    succeeded: Some(run.number % 5 > 0),
                    problems: Vec::new(),
                })));
                self.sum.runs += 1;
            }
        }
        self.sum.jobs += 1;
        if line.end == End::Delayed {
            job.due = Some(now.checked_add(SignedDuration::from_mins(30 + i64::try_from(line.dice % 10_000)?))?);
            self.delayed.push(job.clone());
        }
        self.entries.push(Entry::Queued(Box::new(job.clone())));
        let origin = Origin { consumer: line.consumer(), group: "default".to_owned(), host: line.host() };
        let mut started = created.checked_add(SignedDuration::from_micros(line.waited))?;
        for attempt in 1..=line.attempts {
            let mut report = Report::of(
                &Job { attempt, ..job.clone() },
                &origin,
                id(started, line.dice ^ u64::from(attempt))?,
                started,
            );
            report.ended = started.checked_add(SignedDuration::from_micros(line.took))?;
            report.version = Some(format!("{VERSION}+{}", line.dice % 3));
            report.state = if attempt < line.attempts { State::Retrying } else { line.end.state() };
            if report.state == State::Succeeded {
                report.value = Some(Json::new(format!("{{\"rows\":{}}}", line.dice % 5000))?);
            } else {
                report.failure = Some(Failure { cause: Cause::Exit, message: line.error() });
                report.stderr = Output { head: format!("{}\n", line.error()), bytes: 60, ..Output::default() };
            }
            if report.state == State::Retrying {
                report.retry_at = report.ended.checked_add(SignedDuration::from_secs(10)).ok();
                started = report.ended.checked_add(SignedDuration::from_secs(10))?;
            }
            self.sum.attempts += 1;
            self.entries.push(Entry::Report(Box::new(report)));
        }
        if line.end == End::Dead {
            let reason = line.error();
            self.letters.push((
                message::encode(&job, true),
                DeadLetter {
                    job: job.id,
                    replay: 0,
                    attempt: 1,
                    kind: job.kind.clone(),
                    queue: job.queue.clone(),
                    fingerprint: fingerprint(&job.kind, &reason),
                    reason,
                    at: created.checked_add(SignedDuration::from_secs(5))?,
                    consumer: origin.consumer,
                    version: VERSION.to_owned(),
                },
            ));
            self.sum.letters += 1;
        }
        Ok(())
    }

    async fn write(self, results: &Results) -> Result<Seeded> {
        let mut sum = self.sum;
        results.store(&self.entries).await?;
        results.bury(&self.letters).await?;
        if !self.delayed.is_empty() {
            let jobs: Vec<&Job> = self.delayed.iter().collect();
            results.keep_delayed(&jobs, "seed").await?;
        }
        sum.delayed = self.delayed.len() as u64;
        Ok(sum)
    }
}

/// An id as it would have been made at that time.
fn id(at: Timestamp, dice: u64) -> Result<Uuid> {
    let mut random = [0; 10];
    random[..2].copy_from_slice(&u16::try_from(at.as_microsecond().rem_euclid(1000))?.to_be_bytes());
    random[2..].copy_from_slice(&dice.to_be_bytes());
    Ok(Builder::from_unix_timestamp_millis(u64::try_from(at.as_millisecond())?, &random).into_uuid())
}
